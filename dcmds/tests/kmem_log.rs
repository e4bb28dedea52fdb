//! The log's commands on real dumps: each filter picks what it should, chained or not, and the records tell what the
//! guest says it did.
//!
//! Runs where the environment variable `KMDB_LAB` names a directory with `dumps/NAME/vmcore.elf`; `KMDB_ONLY` picks dumps
//! by a part of their name. Is skipped elsewhere.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use engine::{
    Cell, Cx, Env, Face, Item, Registry, Result, Row, Session, Sink,
    open::{self, Sources},
    pipeline,
    targets::{OpenOptions, Target},
};
use std::{cell::RefCell, collections::HashMap, path::Path, sync::Arc};

static REGISTRY: Registry = Registry {
    dcmds: dcmds::DCMDS,
    walkers: walkers::WALKERS,
    dynamic: walkers::DYNAMIC,
    modules: walkers::module::load,
    sections: walkers::module::sections,
    crash_cpu: walkers::cpu::crashed,
    anchors: |_| Vec::new(),
    thread: walkers::cpu::thread,
    is_ram: walkers::resource::is_ram,
    examples: "",
    disassemble: |_, _| None,
};

/// Keeps what the last stages emit.
#[derive(Default)]
struct Kept(RefCell<Vec<Item>>);

impl Sink for &Kept {
    fn item(&mut self, item: Item) -> Result<()> {
        self.0.borrow_mut().push(item);
        Ok(())
    }
}

impl Face for Kept {
    fn open<'a>(&'a self, _: &Cx<'a>, _: Option<&str>) -> Result<Box<dyn Sink + 'a>> {
        Ok(Box::new(self))
    }
    fn filter(&self, _: &Cx<'_>, _: &str, _: Vec<Item>) -> Result<String> {
        Ok(String::new())
    }
    fn shell(&self, _: &str) -> Result<()> {
        Ok(())
    }
    fn complain(&self, error: &engine::Error, file: &str, number: usize, _: &str) {
        panic!("{file}:{number}: {error}");
    }
}

/// A row by its columns' names.
type Cells = HashMap<&'static str, Cell>;

fn cells(row: Row) -> Cells {
    row.schema.columns.iter().map(|c| c.name).zip(row.cells).collect()
}

/// The rows that a line emits.
fn rows(session: &Session, line: &str) -> Vec<Cells> {
    let (kept, env) = (Kept::default(), Env::default());
    pipeline::run(&Cx { session, env: &env, face: &kept }, line).unwrap_or_else(|e| panic!("{line}: {e}"));
    let items = kept.0.into_inner();
    items
        .into_iter()
        .map(|item| if let Item::Row(row) = item { cells(row) } else { panic!("{line}: no row") })
        .collect()
}

fn number(cells: &Cells, name: &str) -> u64 {
    match cells.get(name) {
        Some(Cell::Addr(n) | Cell::Hex(n) | Cell::Uint(n)) => *n,
        other => panic!("{name}: {other:?}"),
    }
}

fn text<'a>(cells: &'a Cells, name: &str) -> &'a str {
    match cells.get(name) {
        Some(Cell::Str(text)) => text,
        other => panic!("{name}: {other:?}"),
    }
}

fn addresses(rows: &[Cells]) -> Vec<u64> {
    rows.iter().map(|r| number(r, "addr")).collect()
}

fn each_dump(check: impl Fn(&str, &Path, &Session)) {
    let Ok(lab) = std::env::var("KMDB_LAB") else {
        eprintln!("skipped: KMDB_LAB names no lab directory");
        return;
    };
    let only = std::env::var("KMDB_ONLY").unwrap_or_default();
    let mut dirs: Vec<_> =
        std::fs::read_dir(Path::new(&lab).join("dumps")).unwrap().map(|d| d.unwrap().path()).collect();
    dirs.sort();
    for dir in dirs {
        let name = dir.file_name().unwrap().to_string_lossy().into_owned();
        if !name.contains(&only) || !dir.join("vmcore.elf").exists() || !dir.join("truth").exists() {
            continue;
        }
        let target = Arc::new(Target::open(dir.join("vmcore.elf"), &OpenOptions::default()).unwrap());
        let (session, _) = open::open(target, &Sources::default(), &REGISTRY);
        check(&name, &dir.join("truth"), &session);
    }
}

#[test]
fn filters_pick_what_they_say_and_chain() {
    each_dump(|dump, _, session| {
        let all = rows(session, "::walk kmem_log | ::bufctl");
        let pick = |keep: &dyn Fn(&Cells) -> bool| -> Vec<u64> {
            all.iter().filter(|r| keep(r)).map(|r| number(r, "addr")).collect()
        };
        // a record in the middle of the log, so that both sides of each limit are there
        let some = &all[all.len() / 2];
        let (buffer, time) = (number(some, "bufaddr"), number(some, "timestamp"));
        let pid = number(some, "pid");
        for (line, keep) in [
            ("::bufctl".to_owned(), &(|_: &Cells| true) as &dyn Fn(&Cells) -> bool),
            (format!("::walk kmem_log | ::bufctl -a {buffer:x}"), &|r| number(r, "bufaddr") == buffer),
            (format!("::bufctl -e {time:x}"), &|r| number(r, "timestamp") >= time),
            (format!("::bufctl -l {time:x}"), &|r| number(r, "timestamp") <= time),
            (format!("::bufctl -e {time:x} -l {time:x}"), &|r| number(r, "timestamp") == time),
            (format!("::bufctl -t 0t{pid}"), &|r| number(r, "pid") == pid),
            (format!("{buffer:x}::bufctl"), &|r| number(r, "bufaddr") == buffer),
            (format!("{buffer:x}::walk bufctl | ::kmem_log"), &|r| number(r, "bufaddr") == buffer),
            (format!("{buffer:x}::kmem_log -b"), &|r| number(r, "bufaddr") == buffer),
            (format!("::walk kmem_log | ::bufctl -a {buffer:x} | ::bufctl -t 0t{pid} | ::bufctl -e {time:x}"), &|r| {
                number(r, "bufaddr") == buffer && number(r, "pid") == pid && number(r, "timestamp") >= time
            }),
        ] {
            assert_eq!(addresses(&rows(session, &line)), pick(keep), "{dump}: {line}");
        }
        // history: from each record of the buffer on back
        let of_buffer = pick(&|r| number(r, "bufaddr") == buffer);
        for (i, record) in of_buffer.iter().enumerate().take(8) {
            assert_eq!(addresses(&rows(session, &format!("{record:x}::bufctl -h"))), of_buffer[i..], "{dump}");
            assert_eq!(addresses(&rows(session, &format!("{record:x}::kmem_log"))), [*record], "{dump}");
        }
        // a function on the stack
        let audit = rows(session, "::walk kmem_log | ::bufctl_audit");
        assert_eq!(addresses(&audit), addresses(&all));
        let on_stack = |row: &Cells| match &row["stack"] {
            Cell::List(frames) => frames.iter().any(|f| matches!(f, Cell::Str(s) if s.starts_with("__d_alloc+"))),
            _ => false,
        };
        let want: Vec<u64> = audit.iter().filter(|r| on_stack(r)).map(|r| number(r, "addr")).collect();
        assert!(!want.is_empty());
        assert_eq!(addresses(&rows(session, "::bufctl -c __d_alloc")), want, "{dump}");
        eprintln!("{dump}: {} records, {} by __d_alloc, {} of {buffer:x}", all.len(), want.len(), of_buffer.len());
    });
}

#[test]
fn the_records_tell_what_the_module_did() {
    each_dump(|dump, truth, session| {
        let Ok(said) = std::fs::read_to_string(truth.join("labmod.txt")) else { return };
        let tracked = rows(session, "::kmem_log").iter().any(|r| text(r, "witness").starts_with("track"));
        let mut checked = 0;
        for line in said.lines() {
            let word = |key: &str| line.split(' ').find_map(|w| w.strip_prefix(key)).map(str::to_owned);
            let (op, by) = match line.split(' ').next() {
                Some("open" | "leak") => ("alloc", "lab_alloc_node+"),
                Some("close") => ("free", "lab_free_node+"),
                _ => continue,
            };
            let (Some(node), Some(pid)) = (word("node="), word("pid=")) else { continue };
            let records = rows(session, &format!("{node}::walk bufctl | ::bufctl"));
            let found = records
                .iter()
                .find(|r| number(r, "pid").to_string() == pid && text(r, "op") == op && text(r, "caller").contains(by));
            // without tracks the ring has it, if it reaches back so far, or nobody
            let Some(found) = found else {
                assert!(!tracked, "{dump}: {line}: {records:x?}");
                continue;
            };
            // the thread's own view of it, where nobody touched the buffer since
            let newest = number(&records[0], "addr");
            let command = if op == "alloc" { "allocdby" } else { "freedby" };
            let by_thread = rows(session, &format!("0t{pid}::{command}"));
            let listed = by_thread.iter().any(|r| number(r, "bufctl") == newest);
            assert_eq!(listed, number(found, "addr") == newest, "{dump}: {line}");
            checked += 1;
        }
        eprintln!("{dump}: {checked} deeds of the module found");
        assert!(checked > 0 || !tracked, "{dump}");
    });
}

#[test]
fn ps_and_msgbuf_have_a_row_for_each() {
    each_dump(|dump, truth, session| {
        let said = std::fs::read_to_string(truth.join("dmesg")).unwrap();
        let log = rows(session, "::msgbuf");
        let mine = log.iter().map(|r| format!("[{}] {}", text(r, "time"), text(r, "message")));
        let equal = mine.zip(said.lines()).take_while(|(a, b)| a == b).count();
        assert_eq!(equal, said.lines().count(), "{dump}");
        assert_eq!(rows(session, "::msgbuf -v").len(), log.len());
        let (processes, threads) = (rows(session, "::ps"), rows(session, "::ps -t"));
        assert_eq!(rows(session, "::walk task | ::ps").len(), processes.len());
        let leaders = threads.iter().filter(|r| r["pid"] == r["tid"]).count();
        assert_eq!(leaders, processes.len(), "{dump}");
        eprintln!("{dump}: {} processes, {} threads, {equal} lines", processes.len(), threads.len());
    });
}

//! Tasks, the kernel's log, modules.

use super::each_dump;
use std::collections::BTreeMap;
use walkers::{dmesg, module, task};

#[test]
fn tasks_are_those_of_proc() {
    each_dump(|dump| {
        let session = &dump.session;
        let mut mine = BTreeMap::new();
        task::leaders(session, &mut |addr| {
            let task: task::Task = session.view(addr)?;
            mine.insert(task.pid, task);
            Ok(())
        })
        .unwrap();
        let (mut equal, mut gone, mut threads) = (0, 0, 0);
        for entry in std::fs::read_dir(dump.truth.join("pid")).unwrap() {
            let path = entry.unwrap().path();
            let pid: i32 = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
            let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
            let nth = |key: &str, n| {
                let line = text.lines().find(|l| l.starts_with(key))?;
                line.split_once('\t').map(|(_, v)| v.split_whitespace().nth(n).unwrap_or_default().to_owned())
            };
            let field = |key: &str| nth(key, 0);
            // what ran while the truth was taken is gone
            let Some(task) = mine.get(&pid) else {
                gone += 1;
                continue;
            };
            let Some(state) = field("State:") else { continue };
            let got = (
                task.name(session),
                task.tgid.to_string(),
                task.parent(session).unwrap().to_string(),
                task.uid(session).unwrap().to_string(),
            );
            let want =
                (field("Name:").unwrap(), field("Tgid:").unwrap(), field("PPid:").unwrap(), nth("Uid:", 1).unwrap());
            // a worker's work changes
            let name = |n: &str| n.split(['+', '-']).next().unwrap().to_owned();
            if task.is_kernel_thread() {
                assert_eq!((name(&got.0), &got.1, &got.2, &got.3), (name(&want.0), &want.1, &want.2, &want.3));
            } else {
                assert_eq!(got, want, "{} {pid}", dump.name);
            }
            if got == want && task.state().to_string() == state {
                equal += 1;
            } else {
                eprintln!("{}: {pid} {got:?} {} was {want:?} {state}", dump.name, task.state());
            }
            task::threads_of(session, task.addr, &mut |_| {
                threads += 1;
                Ok(())
            })
            .unwrap();
        }
        eprintln!(
            "{}: {equal} processes equal, {gone} gone since, {} in the dump, {threads} threads; idle {:x?}; {:?}",
            dump.name,
            mine.len(),
            task::idle(session).unwrap(),
            session.notes.take()
        );
        assert!(equal > 20);
    });
}

#[test]
fn the_log_is_dmesg_line_by_line() {
    each_dump(|dump| {
        let Some(text) = dump.truth("dmesg") else { return };
        let mut mine = Vec::new();
        dmesg::records(&dump.session, &mut |record| {
            let (s, us) = (record.info.time / 1_000_000_000, record.info.time % 1_000_000_000 / 1000);
            mine.extend(record.text.unwrap().split('\n').map(|line| format!("[{s:5}.{us:06}] {line}")));
            Ok(())
        })
        .unwrap();
        let theirs: Vec<&str> = text.lines().collect();
        for (i, line) in theirs.iter().enumerate() {
            assert_eq!(mine.get(i).map(String::as_str), Some(*line), "{} line {i}", dump.name);
        }
        eprintln!(
            "{}: {} lines equal, {} since; {:?}",
            dump.name,
            theirs.len(),
            mine.len() - theirs.len(),
            dump.session.notes.take()
        );
    });
}

#[test]
fn modules_are_those_of_proc() {
    each_dump(|dump| {
        let session = &dump.session;
        let start = std::time::Instant::now();
        let loaded = session.symbols.modules(session);
        let took = start.elapsed();
        let text = dump.truth("modules").unwrap();
        let mut theirs: BTreeMap<&str, &str> = text.lines().map(|l| l.split_once(' ').unwrap()).collect();
        let mut symbols = 0;
        let kallsyms = dump.truth("kallsyms.gz").unwrap();
        let mut named: BTreeMap<&str, Vec<(u64, &str)>> = BTreeMap::new();
        for line in kallsyms.lines().filter(|l| l.ends_with(']')) {
            let f: Vec<&str> = line.split_whitespace().collect();
            let module = f[3].trim_matches(['[', ']']);
            named.entry(module).or_default().push((u64::from_str_radix(f[0], 16).unwrap(), f[2]));
        }
        for module in loaded {
            let view: module::Module = session.view(module.addr).unwrap();
            let Some(line) = theirs.remove(&*module.name) else {
                eprintln!("{}: {} was loaded since", dump.name, module.name);
                continue;
            };
            let f: Vec<&str> = line.split(' ').collect();
            let size: u64 = module.ranges.iter().map(|r| r.end - r.start).sum();
            let mut users = view.used_by(session).unwrap().join(",");
            users.push_str(if users.is_empty() { "-" } else { "," });
            let first = module.ranges.first().unwrap().start;
            let mine = format!("{size} {} {users} {:?} {first:#018x}", view.users().unwrap(), view.state(session));
            // one with init and no exit function has this instead of a dash
            assert_eq!(mine, f[..5].join(" ").replace("[permanent],", "-"), "{} {}", dump.name, module.name);
            let table = module.symbols.as_ref().unwrap();
            let mut mine = Vec::new();
            table.each(&mut |s| {
                mine.push((s.addr, s.name));
                true
            });
            let mut want = named.remove(&*module.name).unwrap_or_default();
            mine.sort();
            want.sort();
            let mine: Vec<(u64, &str)> = mine.iter().map(|(a, n)| (*a, n.as_str())).collect();
            assert_eq!(mine, want, "{} {}", dump.name, module.name);
            symbols += mine.len();
        }
        assert_eq!(theirs.len(), 0, "{}: {theirs:?}", dump.name);
        eprintln!(
            "{}: {} modules, {symbols} symbols equal, loaded in {took:?}; {:?}",
            dump.name,
            loaded.len(),
            session.notes.take()
        );
        if loaded.iter().any(|m| &*m.name == "labmod") {
            assert!(session.ctype("struct lab_session").is_ok(), "{}: a module's type", dump.name);
        }
    });
}

/// Section addresses against `/sys/module/*/sections/*`.
#[test]
fn sections_are_those_of_sysfs() {
    each_dump(|dump| {
        let Some(text) = dump.truth("module-sections") else { return };
        let mut lines = text.lines();
        let mut found = BTreeMap::<&str, _>::new();
        let mut checked = 0;
        while let (Some(path), Some(address)) = (lines.next(), lines.next()) {
            let path = path.trim_start_matches("==> /sys/module/").trim_end_matches(" <==");
            let (module, section) = path.split_once("/sections/").unwrap();
            let sections = found.entry(module).or_insert_with(|| {
                let module = dump.session.symbols.modules(&dump.session).iter().find(|m| &*m.name == module).unwrap();
                let sections = walkers::module::sections(&dump.session, module).unwrap();
                assert_eq!(sections.build_id.as_ref().map(String::len), Some(40), "{}: {}", dump.name, module.name);
                sections
            });
            let address = u64::from_str_radix(address.trim_start_matches("0x"), 16).unwrap();
            assert_eq!(sections.addresses.get(section), Some(&address), "{}: {path}", dump.name);
            checked += 1;
        }
        eprintln!("{}: {checked} sections of {} modules", dump.name, found.len());
    });
}

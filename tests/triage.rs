//! Kernels that were brought down, and what kmdb says of them: dumps of the lab (`corpus/lab/crashes.py`), which need
//! `KMDB_LAB`. What was done to a guest is in the dump's name; kmdb is told nothing but the dump.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// What was done, what it is to be called, and a function that must be on the guilty stack (none: there is no stack).
const EXPECTED: &[(&str, &str, &str)] = &[
    ("null", "null-deref", "crash_null"),
    ("null-write", "null-deref", "crash_null_write"),
    ("null-timer", "null-deref", "crash_null"),
    ("jump", "null-call", "crash_jump"),
    ("wild", "bad-pointer", "crash_wild"),
    // the address is that of an error number
    ("paging", "error-pointer", "crash_paging"),
    ("rodata", "read-only", "crash_rodata"),
    ("nx", "no-exec", "crash_nx"),
    ("divide", "divide-error", "crash_divide"),
    ("bug", "bug", "crash_bug"),
    ("opcode", "invalid-opcode", "crash_opcode"),
    ("deep", "stack-overflow", "crash_deep"),
    ("canary", "stack-smashed", "crash_canary"),
    ("panic", "panic", "do_panic"),
    ("list-del", "list-corruption", "crash_list_del"),
    ("list-add", "list-corruption", "crash_list_add"),
    ("uaf", "use-after-free", "crash_uaf"),
    ("double-free", "double-free", "crash_double_free"),
    ("warn", "warn", "crash_warn"),
    ("refcount", "refcount", "crash_refcount"),
    ("soft", "soft-lockup", "crash_soft"),
    ("hard", "hard-lockup", "crash_hard"),
    ("atomic", "atomic", "msleep"),
    ("spin", "soft-lockup", "crash_spin"),
    ("rcu", "rcu-stall", "crash_rcu"),
    ("hung", "deadlock", "two_mutexes"),
    ("oops", "null-deref", "crash_null"),
    ("bad-page", "bad-page", ""),
    ("abba", "deadlock", "two_mutexes"),
    ("ring", "deadlock", "two_mutexes"),
    ("rwsem", "deadlock", "two_sems"),
    ("rt", "deadlock", "two_rt"),
    ("self", "deadlock", "itself"),
    ("sysrq", "sysrq", "sysrq_handle_crash"),
    ("tty", "sysrq", "sysrq_handle_crash"),
    ("init", "init-died", "do_exit"),
    ("oom", "oom", ""),
    ("oomkill", "oom-kill", ""),
    ("frozen", "hung-task", ""),
    ("nmi", "nmi", ""),
    ("hold", "none", ""),
    ("completion", "none", ""),
    ("sema", "none", ""),
    ("gone", "no-exec", "crash_gone"),
    ("poison", "list-corruption", "crash_poison"),
    ("uaf-call", "use-after-free", "crash_uaf_call"),
    ("vmalloc-end", "bad-access", "crash_vmalloc_end"),
    ("freelist", "slab-corruption", "crash_freelist"),
    ("user-read", "user-access", "crash_user_read"),
    ("user-jump", "user-exec", "crash_user_jump"),
    ("int3", "exception", "crash_int3"),
    ("double-fault", "double-fault", "crash_double_fault"),
    ("stack-segment", "bad-pointer", "crash_stack_segment"),
    ("skb", "skb", "crash_skb"),
    ("usercopy", "usercopy", "crash_usercopy"),
    ("fortify", "overflow", "crash_fortify"),
    ("in-irq", "bug", "crash_in_irq"),
    ("work", "null-call", "crash_work"),
    ("both", "panic", "crash_both"),
    ("irq-spin", "hard-lockup", "crash_irq_spin"),
    ("lost", "hung-task", "waits"),
    ("never", "hung-task", "completes"),
    ("holding", "null-deref", "crash_holding"),
    ("dead-holder", "hung-task", "wants_mutex"),
    ("dead-reader", "hung-task", "wants_write"),
    ("flush", "deadlock", ""),
    ("stop", "deadlock", ""),
    ("mixed", "deadlock", "mixed"),
    ("srcu", "hung-task", "waits_for_readers"),
    ("percpu", "hung-task", "percpu_writer"),
    ("busy", "none", ""),
    ("asked", "hung-task", ""),
    ("noroot", "no-root", ""),
    ("mce", "hardware", ""),
    // one CPU takes no interrupts, another waits for it
    ("ipi", "soft-lockup", "crash_irqs_off"),
    ("timer-uaf", "use-after-free", "run_timer_softirq"),
    ("timer-spin", "soft-lockup", "crash_ring_spin"),
    ("work-spin", "soft-lockup", "crash_work_spins"),
    ("unloaded", "no-exec", "call_timer_fn"),
    ("sched-irq", "atomic", "crash_sleeps_in_irq"),
    ("rcu-data", "no-exec", "rcu_do_batch"),
    ("kfree", "bad-pointer", "crash_kfree"),
    ("strlen", "null-deref", "crash_strlen"),
    ("vfree", "bad-access", "crash_vfree"),
    ("hoard", "oom", "crash_hoard"),
    ("page-table", "page-table", "crash_page_table"),
    ("nmi-fault", "null-deref", "crash_in_nmi"),
    ("hard-nmi", "hard-lockup", "crash_hard"),
    // an oops or a warning long before is not what it died of
    ("stale-sysrq", "sysrq", "sysrq_handle_crash"),
    ("stale-soft", "soft-lockup", "crash_soft"),
    ("stale-warn", "list-corruption", "crash_list_del"),
    ("cgoom", "oom", ""),
    ("disk", "hung-task", ""),
    ("fs-error", "fs-error", ""),
    // of crasher/misled.c: it happens in an interrupt, or on the way down, or in a function that is soon gone
    ("tasklet", "null-deref", "crash_tasklet"),
    ("in-ipi", "null-deref", "crash_in_ipi"),
    ("rcu-cb", "null-deref", "crash_rcu_cb"),
    ("kprobe", "null-deref", "crash_kprobe"),
    ("exit", "null-deref", "crash_on_exit"),
    ("dies", "null-deref", "crasher_init"),
    ("panic-timer", "panic", "crash_panic_timer"),
    ("notifier", "panic", "crash_notifier"),
    ("trap", "invalid-opcode", "crash_trap"),
    // the log says something else, or a name does
    ("lies", "panic", "crash_lies"),
    ("forged", "divide-error", "crash_divide"),
    ("forged-fine", "none", ""),
    ("namesake", "panic", "do_panic"),
    ("init-oops", "null-deref", "crash_null"),
    // stacks
    ("big-local", "stack-overflow", "crash_big_local"),
    ("deep-irq", "stack-overflow", "crash_deep_irq"),
    ("stack-end", "stack-overflow", ""),
    ("smash-far", "stack-smashed", ""),
    ("smash-near", "stack-smashed", ""),
    // functions of the kernel that were given nonsense
    ("memcpy", "null-deref", "crash_memcpy"),
    ("mutex", "null-deref", "crash_mutex"),
    // who waits, and for whom
    ("spin-asleep", "soft-lockup", "crash_spin_asleep"),
    ("irq-wants", "hard-lockup", "crash_irq_wants"),
    ("three", "deadlock", "two_mutexes"),
    ("itself", "deadlock", "itself"),
    ("late-root", "hung-task", "late_root"),
    ("rcu-irqs", "rcu-stall", "crash_no_irqs"),
    ("rcu-busy", "rcu-stall", "crash_no_irqs"),
    ("rcu-preempt", "rcu-stall", "crash_no_preemption"),
    ("rcu-exp", "rcu-stall", "crash_no_preemption"),
    // memory
    ("pages", "oom", "crash_pages"),
    ("vmallocs", "oom", "crash_vmallocs"),
    ("thread-hoards", "oom", "crash_thread_hoards"),
    ("tmpfs", "oom", ""),
];

/// The dumps of crashes: name and file.
fn dumps() -> Vec<(String, PathBuf)> {
    let Some(lab) = std::env::var_os("KMDB_LAB") else { return Vec::new() };
    let Ok(folders) = std::fs::read_dir(Path::new(&lab).join("dumps")) else { return Vec::new() };
    let mut found = Vec::new();
    for folder in folders.map(|e| e.unwrap()) {
        let name = folder.file_name().into_string().unwrap();
        let files = ["vmcore.z-d31", "vmcore.elf"].map(|file| folder.path().join(file));
        let made = folder.path().join("stamp").exists() && name.starts_with("crash-");
        if let Some(file) = files.into_iter().find(|file| made && file.exists()) {
            found.push((name, file));
        }
    }
    found.sort();
    found
}

/// `crash-k612-null-timer-kdump` was brought down by `null-timer`.
fn done(name: &str) -> &str {
    let name = name.strip_suffix("-kdump").unwrap_or(name);
    name.splitn(3, '-').nth(2).unwrap_or_default()
}

fn answers(dump: &Path, command: &str) -> Vec<Value> {
    let out = Command::new(env!("CARGO_BIN_EXE_kmdb"))
        .args(["-S", "--no-debuginfo", "-o", "json", "-e", command])
        .arg(dump)
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn each_crash_is_called_by_its_name() {
    let dumps = dumps();
    if dumps.is_empty() {
        return eprintln!("left out: no dumps of crashes (KMDB_LAB, corpus/lab/make.sh 'crash-*')");
    }
    let mut wrong = Vec::new();
    let mut signatures = std::collections::BTreeMap::new();
    for (name, file) in &dumps {
        let Some((_, class, function)) = EXPECTED.iter().find(|(word, ..)| *word == done(name)) else { continue };
        let rows = answers(file, "::triage -1 -q");
        let Some(row) = rows.first() else {
            wrong.push(format!("{name}: no answer"));
            continue;
        };
        let functions: Vec<_> = row["functions"].as_array().unwrap().iter().map(|f| f.as_str().unwrap()).collect();
        if row["class"] != *class || !(function.is_empty() || functions.contains(function)) {
            wrong.push(format!("{name}: {} ({}), on {functions:?}", row["class"], row["title"]));
        }
        // where the module's own function is innermost, kernels of an architecture agree
        if functions.first().is_some_and(|first| first.starts_with("crash_")) {
            let signature = row["signature"].as_str().unwrap().to_owned();
            let arch = name.starts_with("crash-a");
            let other = signatures.entry((arch, done(name))).or_insert_with(|| signature.clone());
            if *other != signature {
                wrong.push(format!("{name}: signature {signature}, elsewhere {other}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), dumps.len(), wrong.join("\n"));
}

/// Who waits for whom, by the names of the crasher's threads.
#[test]
fn locks_name_their_holders() {
    let holders: &[(&str, &str, &str, &str)] = &[
        ("hold", "crash_waiter", "mutex", "crash_holder"),
        ("abba", "crash_ab", "mutex", "crash_ba"),
        ("abba", "crash_ba", "mutex", "crash_ab"),
        ("ring", "crash_ca", "mutex", "crash_ab"),
        ("rwsem", "sem_ab", "rwsem", "sem_ba"),
        ("rwsem", "sem_ba", "rwsem", "sem_ab"),
        ("rt", "rt_ab", "rtmutex", "rt_ba"),
        ("tty", "cat", "mutex", "cat"),
        ("self", "crash_self", "mutex", "crash_self"),
        ("completion", "crash_compl", "completion", ""),
        ("sema", "crash_sema", "sema", ""),
        ("mixed", "mixed_ab", "rwsem", "mixed_ba"),
        ("mixed", "mixed_ba", "mutex", "mixed_ab"),
        // a completion has no owner, but what it is in leads to one
        ("stop", "crash_stops", "completion", "crash_stopped"),
        ("stop", "crash_stopped", "mutex", "crash_stops"),
    ];
    let mut wrong = Vec::new();
    for (name, file) in dumps() {
        for (_, waiter, kind, holder) in holders.iter().filter(|(word, ..)| *word == done(&name)) {
            let rows = answers(&file, "::blocked");
            let row = rows.iter().find(|row| row["name"] == *waiter);
            let right = row.is_some_and(|row| {
                row["sobj"] == *kind && row["holder_name"].as_str().unwrap_or("") == *holder && !row["object"].is_null()
            });
            if !right {
                wrong.push(format!("{name}: {waiter}: {row:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The dump of the corpus in which a thread waits for another's mutex.
fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/k612-uaf/vmcore.zst")
}

#[test]
fn a_thread_that_waits_and_the_one_that_holds_are_named() {
    let rows = answers(&corpus(), "::blocked");
    let row = rows.iter().find(|row| row["name"] == "lab_waiter").unwrap();
    assert_eq!((&row["sobj"], &row["holder_name"]), (&"mutex".into(), &"lab_holder".into()));
    let rows = answers(&corpus(), "labmod`lab_held::locks");
    assert_eq!((&rows[0]["held"], &rows[0]["waiters"]), (&"exclusive".into(), &1.into()));
}

/// A kernel that died of a NULL pointer while two threads waited for each other: of the corpus, so seen by everybody.
#[test]
fn a_crash_and_a_deadlock_are_told_from_one_dump() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/k612-crash");
    let dump = folder.join("vmcore.zst");
    // what the kernel itself said on the console
    let console = String::from_utf8_lossy(&std::fs::read(folder.join("truth/console")).unwrap()).into_owned();
    assert!(console.contains("BUG: kernel NULL pointer dereference, address: 0000000000000020"));
    assert!(console.contains("RIP: 0010:crash_null+0x5/"));

    let rows = answers(&dump, "::triage -1");
    assert_eq!((&rows[0]["class"], rows[0]["functions"][0].as_str()), (&"null-deref".into(), Some("crash_null")));
    assert!(rows[0]["who"].as_str().unwrap().ends_with(" victim"), "{}", rows[0]);
    let rows = answers(&dump, "::panicinfo");
    let value = |what: &str| rows.iter().find(|row| row["what"] == what).unwrap()["value"].as_str().unwrap().to_owned();
    assert_eq!(value("message"), "Fatal exception");
    assert_eq!(value("why"), "NULL pointer dereference: read of 0x20 in crasher`crash_null+5");
    let said = console.lines().find_map(|line| line.split("RDX: ").nth(1)?.split_once(' ')).unwrap();
    assert!(value("rdx").starts_with(said.0), "{} and {}", value("rdx"), said.0);
    let rings = answers(&dump, "::deadlocks");
    assert_eq!((rings.len(), &rings[0]["count"]), (1, &2.into()));
    let ring = rings[0]["ring"].as_str().unwrap();
    assert!(ring.contains(" crash_ab") && ring.contains(" crash_ba"), "{ring}");
}

/// Many at once, with a status for scripts: 2 says that one could not be opened.
#[test]
fn several_dumps_are_told_in_one_table() {
    let out = Command::new(env!("CARGO_BIN_EXE_kmdb"))
        .args(["--no-debuginfo", "-o", "json", "--triage", "--quick"])
        .args([corpus(), corpus(), PathBuf::from("/nonexistent")])
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(2));
    let rows: Vec<Value> =
        String::from_utf8(out.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| row["class"].is_string() && row["dump"].as_str().unwrap().ends_with("vmcore.zst")));
}

/// The page needs nothing from elsewhere, and a browser, where there is one, shows its graph.
#[test]
fn the_page_stands_alone() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page with 'quotes'.html");
    let status = Command::new(env!("CARGO_BIN_EXE_kmdb"))
        .args(["-S", "--no-debuginfo", "--triage-html"])
        .args([&page, &corpus()])
        .output()
        .unwrap()
        .status;
    assert!(matches!(status.code(), Some(0 | 1)), "{status}");
    let text = std::fs::read_to_string(&page).unwrap();
    assert!(text.contains("default-src 'none'"));
    for loads in ["src=", "href=", "url(", "@import", "<link", "<img", "<iframe"] {
        assert!(!text.contains(loads), "{loads}");
    }
    let Some(dom) = dom(folder.path(), &page) else { return };
    assert!(dom.matches("class=\"n\"").count() > 50, "{dom}");
}

/// What a browser makes of a page. It must not complain of it; `None` if there is no browser.
fn dom(folder: &Path, page: &Path) -> Option<String> {
    let browser = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"])
        .arg(format!("--user-data-dir={}", folder.join("profile").display()))
        .arg(page)
        .output();
    let Ok(browser) = browser else {
        eprintln!("left out: no chromium");
        return None;
    };
    let said = String::from_utf8_lossy(&browser.stderr);
    let complaints: Vec<&str> = said.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert!(complaints.is_empty(), "{complaints:?}");
    Some(String::from_utf8_lossy(&browser.stdout).into_owned())
}

/// Markup in the dump's own text: names of tasks and of the host, and lines of the log, in place of those there.
fn with_markup(folder: &Path) -> PathBuf {
    let packed = std::fs::read(corpus()).unwrap();
    let mut bytes = zstd::decode_all(packed.as_slice()).unwrap();
    // each is as long as what it replaces, with the bytes behind that are free there
    const CHANGES: &[(&[u8], &[u8])] = &[
        (b"lab_waiter", b"<img id=z>"),
        (b"lab_holder", b"</li><i>zz"),
        (b"labguest\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", b"<script>id=zzz</script>\0"),
        (b"module verification failed", b"</pre><u id=zzzz>'\"& xxxxx"),
    ];
    for (old, new) in CHANGES {
        assert_eq!(old.len(), new.len());
        let mut places = Vec::new();
        let mut from = 0;
        while let Some(at) = bytes[from..].windows(old.len()).position(|window| window == *old) {
            places.push(from + at);
            from += at + old.len();
        }
        assert!(!places.is_empty(), "{old:?}");
        places.into_iter().for_each(|at| bytes[at..at + new.len()].copy_from_slice(new));
    }
    let path = folder.join("vmcore");
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn what_a_dump_says_is_no_markup() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.html");
    let status = Command::new(env!("CARGO_BIN_EXE_kmdb"))
        .args(["-S", "--no-debuginfo", "--triage-html"])
        .args([&page, &with_markup(folder.path())])
        .output()
        .unwrap()
        .status;
    assert!(matches!(status.code(), Some(0 | 1)), "{status}");
    let text = std::fs::read_to_string(&page).unwrap();
    assert!(text.contains("&lt;img id=z&gt;") && text.contains("&lt;script&gt;id=zzz&lt;/script&gt;"));
    let Some(dom) = dom(folder.path(), &page) else { return };
    for made in ["<img", "<script>id", "<i>zz", "<u id"] {
        assert!(!dom.contains(made), "{made}");
    }
    assert!(dom.contains("&lt;img id=z&gt;"));
}

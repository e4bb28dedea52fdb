//! Functions that are named otherwise in another kernel, or whose work another one does there.
//!
//! What is asked is what this kernel has, never its version. A name that it has not becomes one that it has, and that is
//! said; a name that it has, but that the usual way no longer leads through, is probed as asked, with a hint.

use super::spec;
use engine::{debuginfo::SymbolKind, names, prelude::*};
use std::ops::Range;

/// What takes the place of a function that is not there: the first that is, as it is given to ::probe.
const INSTEAD: &[(&str, &[&str])] = &[
    // inlined into their callers since Linux 5.16 to 6.1; the tracepoints are there since 6.5 (5a80bd075f3b)
    ("blk_account_io_start", &["t:block:block_io_start", "t:block:block_rq_issue"]),
    ("blk_account_io_done", &["t:block:block_io_done", "t:block:block_rq_complete"]),
    ("kmalloc", &["t:kmem:kmalloc"]),
    // kmalloc of a size known when compiled: 5.10 to 6.0, 6.1 (26a40990ba05), 6.10 (a0a44d9175b3)
    ("kmem_cache_alloc_trace", &["k:kmalloc_trace", "k:__kmalloc_cache_noprof"]),
    ("kmalloc_trace", &["k:__kmalloc_cache_noprof", "k:kmem_cache_alloc_trace"]),
    ("__kmalloc_cache", &["k:__kmalloc_cache_noprof", "k:kmalloc_trace", "k:kmem_cache_alloc_trace"]),
    ("__vfs_read", &["k:vfs_read"]),
    ("__vfs_write", &["k:vfs_write"]),
    ("do_sys_open", &["k:do_sys_openat2"]),
    ("do_filp_open", &["k:do_file_open"]),
    ("do_file_open", &["k:do_filp_open"]),
    ("do_mount", &["k:path_mount"]),
    ("submit_bio_noacct", &["k:generic_make_request"]),
    ("generic_make_request", &["k:submit_bio_noacct"]),
    ("uprobe_register", &["k:__uprobe_register"]),
    ("__uprobe_register", &["k:uprobe_register"]),
    ("do_user_addr_fault", &["t:exceptions:page_fault_user", "k:handle_mm_fault"]),
    ("add_to_page_cache_lru", &["k:filemap_add_folio"]),
    ("filemap_add_folio", &["k:add_to_page_cache_lru"]),
    ("mark_page_accessed", &["k:folio_mark_accessed"]),
    ("folio_mark_accessed", &["k:mark_page_accessed"]),
    ("account_page_dirtied", &["t:writeback:writeback_dirty_folio", "t:writeback:writeback_dirty_page"]),
    ("folio_account_dirtied", &["t:writeback:writeback_dirty_folio", "t:writeback:writeback_dirty_page"]),
];

/// Functions beside which others do the same work in kernels that have those.
const ALSO: &[(&str, &[&str], &str)] = &[
    ("d_alloc", &["d_alloc_parallel"], "names that are looked up may come from there"),
    ("kmem_cache_alloc", &["kmem_cache_alloc_lru"], "dentries and inodes come from there"),
    ("kmem_cache_alloc_noprof", &["kmem_cache_alloc_lru_noprof"], "dentries and inodes come from there"),
    ("add_to_page_cache_lru", &["filemap_add_folio"], "what reads and writes files calls that"),
    ("mark_page_accessed", &["folio_mark_accessed"], "what reads and writes files calls that"),
];

/// A function as asked for, or what is probed in its place.
pub enum Found {
    /// that function
    Itself,
    /// these probes, for this reason
    Instead(Vec<String>, String),
    /// nothing
    Nothing(Error),
}

/// Looks for a function.
pub fn find(cx: &Cx<'_>, name: &str, on_return: bool) -> Found {
    if is_function(cx, name) {
        return Found::Itself;
    }
    let kind = if on_return { "kr" } else { "k" };
    // memory profiling put a macro in front of every allocating function (Linux 6.10, 7bd230a26648)
    let profiled = format!("{name}_noprof");
    if is_function(cx, &profiled) {
        return Found::Instead(vec![format!("{kind}:{profiled}")], "so it is named in this kernel".into());
    }
    let kernel = cx.symbols.kernel();
    let mut clones = kernel.map(|kernel| kernel.by_prefix(&format!("{name}."), 64)).unwrap_or_default();
    clones.retain(|clone| !clone.contains(".cold") && is_function(cx, clone));
    clones.sort();
    clones.dedup();
    if !clones.is_empty() {
        let whole = clones.iter().all(|clone| !clone.contains(".part"));
        let why = if whole { "the compiler made that of it; parameters may be missing" } else { "the rest is inlined" };
        return Found::Instead(clones.into_iter().map(|clone| format!("{kind}:{clone}")).collect(), why.into());
    }
    let instead = INSTEAD.iter().filter(|(old, _)| *old == name).flat_map(|(_, new)| *new);
    if let Some(there) = instead.copied().find(|probe| is_there(cx, probe)) {
        // a tracepoint has no return
        let probe = if on_return { there.replacen("k:", "kr:", 1) } else { there.to_owned() };
        return Found::Instead(vec![probe], "this kernel has no such function, and that does its work".into());
    }
    Found::Nothing(missing(cx, name))
}

/// A hint for a function that is there and may not be what is meant.
pub fn also(cx: &Cx<'_>, name: &str) -> Option<String> {
    let (_, others, why) = ALSO.iter().find(|(n, ..)| *n == name)?;
    let there: Vec<_> = others.iter().filter(|other| is_function(cx, other)).map(|o| format!("k:{o}")).collect();
    (!there.is_empty()).then(|| format!("k:{name}: see {} as well: {why}", there.join(", ")))
}

fn is_there(cx: &Cx<'_>, probe: &str) -> bool {
    match probe.split_once(':') {
        Some(("k", function)) => is_function(cx, function),
        Some(("t", point)) => {
            point.split_once(':').is_some_and(|(group, name)| probes::tracefs::Tracepoint::find(group, name).is_ok())
        }
        _ => false,
    }
}

fn is_function(cx: &Cx<'_>, name: &str) -> bool {
    cx.symbols.by_name(cx, name).iter().any(|symbol| symbol.kind == SymbolKind::Text)
}

/// Why there is no such function, as far as that can be told.
fn missing(cx: &Cx<'_>, name: &str) -> Error {
    if cx.symbols.kernel().is_none() {
        return Error::Unavailable(format!("`{name}`: which functions the kernel has cannot be seen"))
            .hint("root sees them, or everybody where kernel.kptr_restrict is 0");
    }
    if cx.symbols.address(cx, name).is_some() {
        return Error::Usage(format!("`{name}` is a variable of the kernel, and no function"));
    }
    if cx.types.function(name).is_some() {
        return Error::Usage(format!(
            "`{name}` is in this kernel's debug information, but has no code of its own: it is inlined where it is called"
        ))
        .hint(format!("`::probes 'k:*{}*'` lists what is named alike", name.trim_matches('_')));
    }
    let head: String = name.chars().take((name.chars().count() / 2).max(2)).collect();
    let near = cx.symbols.kernel().map(|kernel| kernel.by_prefix(&head, 20_000)).unwrap_or_default();
    let near = names::did_you_mean(name, near.iter().map(String::as_str));
    let list = format!("`::probes 'k:*{}*'` lists those that are named alike", name.trim_matches('_'));
    let inlined = "; the compiler may have inlined it";
    Error::Usage(format!("the kernel has no function `{name}`"))
        .hint(near.map_or_else(|| format!("{list}{inlined}"), |near| format!("{near} {list}{inlined}")))
}

/// Where the kernel forbids probes: in what probes themselves need. Nothing if that cannot be read.
pub fn forbidden() -> Vec<Range<u64>> {
    let list = std::fs::read_to_string("/sys/kernel/debug/kprobes/blacklist").unwrap_or_default();
    let number = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    let range = |line: &str| {
        let (start, end) = line.split_ascii_whitespace().next()?.split_once('-')?;
        Some(number(start)?..number(end)?)
    };
    list.lines().filter_map(range).collect()
}

/// Functions so often called that a probe is felt by everybody.
pub fn is_hot(name: &str) -> bool {
    const HOT: &[&str] = &[
        "_raw_spin_lock",
        "_raw_spin_unlock",
        "_raw_spin_lock_irqsave",
        "_raw_spin_unlock_irqrestore",
        "__rcu_read_lock",
        "__rcu_read_unlock",
        "rcu_read_unlock_strict",
        "preempt_count_add",
        "preempt_count_sub",
        "update_curr",
        "ktime_get",
        "__schedule",
        "mutex_lock",
        "mutex_unlock",
        "kfree",
        "memcpy",
    ];
    HOT.contains(&name)
}

/// The sources that take the place of a function.
pub fn instead(cx: &Cx<'_>, word: &str, probes: &[String], why: &str) -> Result<Vec<probes::source::Source>> {
    cx.notes.once(0, format!("{word}: {} is probed: {why}", probes.join(", ")));
    let mut sources = Vec::new();
    for probe in probes {
        sources.append(&mut spec::find(cx, probe, None)?);
    }
    Ok(sources)
}

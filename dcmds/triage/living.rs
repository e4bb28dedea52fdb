//! What is wrong with a kernel that did not panic, or whose panic is about tasks that wait: locks, watchdogs' clocks, RCU,
//! and what the log tells of oopses that it survived.

use super::{
    class::{Case, Verdict},
    fault, telling,
};
use crate::blocked;
use engine::prelude::*;
use walkers::{
    blocked::{Wait, Waits},
    crash::{self, Crash, Oops},
    meminfo::Meminfo,
    memuse, oom, rq,
    slab::{Aliases, Cache, Caches},
    super_block,
    task::Task,
    total::Total,
    unwind::{self, Trace},
};

/// Tasks in uninterruptible sleep for at least `seconds`, as a verdict: of a ring of them if there is one, else of that
/// which sleeps the longest.
pub(super) fn hung(cx: &Cx<'_>, seconds: u64) -> Result<Option<Verdict>> {
    let waits = Waits::of(cx)?;
    let rings = blocked::rings(cx, &waits);
    if let Some(ring) = rings.first() {
        let title = format!("deadlock: {} tasks wait for each other", ring.len());
        let title = if ring.len() == 1 { "deadlock: a task waits for what it holds itself".to_owned() } else { title };
        let task = ring.first().map(|wait| wait.task);
        let guilty = task.map(|task| unwind::of_task(cx, task)).transpose()?;
        let mut found = Verdict::new(
            "deadlock",
            title,
            task,
            guilty.unwrap_or(Trace { frames: Vec::new(), end: unwind::End::Gone }),
        );
        found.evidence.extend(ring.iter().map(|wait| blocked::sentence(cx, wait)));
        return Ok(Some(found));
    }
    let sleeps = |task: u64| cx.view::<Task>(task).is_ok_and(|task| task.cannot_be_woken());
    let long = |since: Option<u64>| since.is_some_and(|ns| ns / 1_000_000_000 >= seconds);
    let longest = waits.iter().filter(|wait| long(wait.since) && sleeps(wait.task)).max_by_key(|wait| wait.since);
    let Some(wait) = longest else { return Ok(None) };
    let secs = wait.since.unwrap_or(0) / 1_000_000_000;
    let title = format!("hung task, for {secs} s: {}", blocked::sentence(cx, wait));
    let chain = waits.chain(wait.task);
    let root = root(cx, &chain).unwrap_or(wait.task);
    let mut found = Verdict::new("hung-task", title, Some(root), unwind::of_task(cx, root)?);
    let lives = |wait: &&&Wait| blocked::holder_lives(cx, wait);
    for next in chain.iter().skip(1).take(chain.iter().take_while(lives).count()) {
        found.evidence.push(blocked::sentence(cx, next));
    }
    if root != wait.task {
        found.evidence.push(format!("at the end of the chain is {}", blocked::who(cx, root)));
    }
    found.evidence.extend(wait.on.and_then(|on| frozen(cx, on.addr)));
    Ok(Some(found))
}

/// Whom the last of those waits for who wait for each other, as far as it is sure who holds what.
fn root(cx: &Cx<'_>, chain: &[&Wait]) -> Option<u64> {
    let sure = |wait: &&&Wait| wait.on.is_some_and(|on| on.holder.is_some()) && blocked::holder_is_sure(cx, wait);
    chain.iter().take_while(sure).filter_map(|wait| wait.on?.holder).last()
}

/// That what is waited for belongs to a filesystem that is frozen.
fn frozen(cx: &Cx<'_>, addr: u64) -> Option<String> {
    let sb = super_block::around(cx, addr).ok()??;
    let kind = sb.kind(cx).unwrap_or_else(|_| "?".into());
    sb.is_frozen()
        .then(|| format!("the filesystem on {} ({kind}) is frozen: who writes to it waits until it is thawed", sb.id))
}

/// Seconds of uninterruptible sleep that are too long: what khungtaskd would complain of, if it looks at all.
fn too_long(cx: &Cx<'_>) -> u64 {
    /// the kernel's own default
    const DEFAULT: u64 = 120;
    let told = cx.kernel_symbol("sysctl_hung_task_timeout_secs").and_then(|at| cx.u64(at).ok());
    told.filter(|seconds| (1..DEFAULT).contains(seconds)).unwrap_or(DEFAULT)
}

/// What the log tells of and is over if neither clocks nor sleeping tasks say so any more.
fn passes(line: &str) -> bool {
    matches!(telling::by_message(line), Some("soft-lockup" | "hard-lockup" | "rcu-stall" | "hung-task"))
}

/// No CPU panicked: what is wrong with the system as it was.
pub(super) fn state(cx: &Cx<'_>, crash: &Crash) -> Result<Verdict> {
    let none = || Trace { frames: Vec::new(), end: unwind::End::Gone };
    let stuck = crash::stuck(cx).unwrap_or_default();
    if let Some(worst) = stuck.iter().max_by_key(|stuck| (stuck.no_interrupts, stuck.seconds)) {
        let (class, what) = match worst.no_interrupts {
            true => ("hard-lockup", "serves no interrupts"),
            false => ("soft-lockup", "runs kernel code and lets no task run"),
        };
        let guilty = unwind::of_task(cx, worst.task)?;
        let place = guilty.frames.first().map_or_else(String::new, |frame| format!(", in {}", cx.sym(frame.pc)));
        let title = format!("CPU {} {what} for {} s{place}", worst.cpu, worst.seconds);
        let found = Verdict::new(class, title, Some(worst.task), guilty)
            .because("told by the watchdog's clock; nobody panicked");
        return Ok(Case::new(cx, crash).spins(found));
    }
    if let Some(seconds) = crash::rcu_stall(cx).unwrap_or(None) {
        let busy = rq::all(cx)?.into_iter().find(|(_, rq)| rq.current != rq.idle);
        let task = busy.map(|(_, rq)| rq.current);
        let guilty = task.map(|task| unwind::of_task(cx, task)).transpose()?.unwrap_or_else(none);
        let stall = Verdict::new("rcu-stall", format!("RCU waits for its readers for {seconds} s"), task, guilty);
        return Case::new(cx, crash).reader(stall);
    }
    if let Some(found) = hung(cx, too_long(cx))? {
        return Ok(found.because("nobody panicked"));
    }
    if let Some(oops) = crash.words.oopses.first().filter(|_| has_oopsed(cx)) {
        return Ok(oopsed(oops, "the kernel lived on"));
    }
    let told = ["rcu_state", "watchdog_touch_ts"].iter().all(|clock| cx.kernel_symbol(clock).is_some());
    let said = |words: &[&str]| {
        let mut reports = crash.words.reports.iter().rev().filter(|line| !told || !passes(line));
        reports.find(|line| words.iter().any(|word| line.contains(word))).cloned()
    };
    if let Some(line) = said(&["BUG: ", "Oops", "kernel BUG", "Internal error", "general protection"]) {
        // a report has several first lines, one of which says what it was
        let told = crash.words.reports.iter().rev().take(4).find(|line| telling::by_message(line).is_some());
        let line = told.cloned().unwrap_or(line);
        let class = telling::by_message(&line).unwrap_or("oops");
        let found = Verdict::new(class, format!("{line}; the kernel lived on"), None, none());
        return Ok(found.by_log(&crash.words.trace, "told by the log alone"));
    }
    if let Some(kills) = crash::oom_kills(cx).filter(|kills| *kills > 0) {
        let title = format!("out of memory: {kills} processes were killed, the kernel lived on");
        let mut found = Verdict::new("oom-kill", title, None, none());
        found.evidence.extend(crash.words.killed.last().map(|line| format!("the log: {line}")));
        found.evidence.extend(memory(cx));
        return Ok(found);
    }
    if let Some(line) = said(&["WARNING", "list_", "rcu: INFO", "INFO: task"]) {
        let class = telling::by_message(&line).unwrap_or("warn");
        let found = Verdict::new(class, format!("{line}; the kernel lived on"), None, none());
        return Ok(found.by_log(&crash.words.trace, "told by the log alone"));
    }
    let title = "nothing is wrong that was looked for: no panic, no hung task, no deadlock, no stuck CPU";
    let mut found = Verdict::new("none", title, None, none());
    let past = crash.words.reports.iter().rev().find(|line| passes(line));
    found.evidence.extend(past.map(|line| format!("the log tells of what is over: {line}")));
    Ok(found)
}

/// Whether the kernel itself knows of an oops; where that cannot be read, the log is believed.
fn has_oopsed(cx: &Cx<'_>) -> bool {
    crash::has_oopsed(cx).unwrap_or(true)
}

/// An oops of which the log alone is left.
pub(super) fn oopsed(oops: &Oops, then: &str) -> Verdict {
    let by_address = oops.address.and_then(|addr| match addr {
        0..0x1_0000 => Some("null-deref"),
        _ if addr.wrapping_neg() < 4096 => Some("error-pointer"),
        _ => fault::poison(addr).map(|(class, _)| class),
    });
    let class = by_address.or_else(|| telling::by_message(&oops.what)).unwrap_or("oops");
    let none = Trace { frames: Vec::new(), end: unwind::End::Gone };
    Verdict::new(class, format!("{}; {then}", told(oops)), None, none).by_log(&oops.trace, "told by the log alone")
}

/// An oops before the end, where there are more than those `known`: the root of the evil, in all likelihood.
pub(super) fn earlier(cx: &Cx<'_>, crash: &Crash, known: usize) -> Option<String> {
    let oopses = &crash.words.oopses;
    let first = oopses.first().filter(|_| oopses.len() > known)?;
    if !has_oopsed(cx) {
        return Some(format!("the log has lines of an oops, of which the kernel knows nothing: {}", first.what));
    }
    Some(format!("the kernel had oopsed before, and what came later may follow from that: {}", told(first)))
}

/// What the log says of an oops: what it was, and where.
fn told(oops: &Oops) -> String {
    let place = oops.trace.first().map_or_else(String::new, |function| format!(", in {function}"));
    format!("{}{place}", oops.what)
}

/// Who has the memory: the largest process, and how much all of them have together, lest it is the kernel itself.
pub(super) fn memory(cx: &Cx<'_>) -> Vec<String> {
    let (Ok(all), Ok(total)) = (oom::candidates(cx), Meminfo::of(cx).and_then(|info| info.total())) else {
        return Vec::new();
    };
    let page = cx.target.page_size();
    // pages of files can be dropped, and are not what is missing
    let kept = |of: &oom::Candidate| of.memory.anonymous.saturating_add(of.memory.shared);
    let size = |bytes: u64| engine::lang::printf::human_size(bytes);
    let sum = all.iter().map(kept).total();
    let largest = all.iter().max_by_key(|candidate| kept(candidate)).map(|largest| {
        format!("the process with the most memory is {}: {}", blocked::who(cx, largest.task.addr), size(kept(largest)))
    });
    let ram = total.saturating_mul(page);
    let together = format!("all processes together have {} of {}", size(sum), size(ram));
    let cache = largest_cache(cx).filter(|(_, bytes)| *bytes > ram / MUCH);
    let cache = cache.map(|(name, bytes)| format!("the slab cache {name} has {}", size(bytes)));
    let usage = memuse::counted(cx).unwrap_or_default();
    let much = usage.pages.into_iter().map(|(kind, pages)| (kind, pages.saturating_mul(page)));
    let other = much.filter(|(_, bytes)| *bytes > ram / MUCH).filter_map(|(kind, bytes)| {
        let what = match kind {
            memuse::Kind::Shared => "files in memory (tmpfs) and shared memory have",
            memuse::Kind::Vmalloc => "vmalloc has",
            memuse::Kind::Percpu => "the per-CPU allocator has",
            memuse::Kind::Tables => "page tables have",
            memuse::Kind::Stacks => "kernel stacks have",
            memuse::Kind::Hugetlb => "pools of huge pages have",
            memuse::Kind::Balloon => "the balloon has given back to the host",
            memuse::Kind::Kernel => "the kernel has, in pages that it allocated for nothing that it counts,",
            _ => return None,
        };
        Some(format!("{what} {}", size(bytes)))
    });
    largest.into_iter().chain([together]).chain(cache).chain(other).collect()
}

/// The slab cache that takes the most, and how many bytes: by the allocator's own counters, which are quickly read.
fn largest_cache(cx: &Cx<'_>) -> Option<(String, u64)> {
    let caches = Caches::of(cx).ok()?;
    let bytes = |cache: &Cache| {
        let nodes = cache.nodes(cx).unwrap_or_default();
        let objects = nodes.iter().filter_map(|node| node.total_objects).total();
        objects.saturating_mul(cache.size.into())
    };
    let all = caches.iter().enumerate().map(|(number, cache)| (number, cache.name(), bytes(cache)));
    let (number, name, bytes) = all.max_by_key(|(.., bytes)| *bytes)?;
    let aliases = Aliases::of(cx).ok();
    let others: Vec<&str> =
        aliases.iter().flat_map(|all| all.names(number)).filter(|other| *other != name).take(4).collect();
    match others.is_empty() {
        true => Some((name.to_owned(), bytes)),
        false => Some((format!("{name}, which is also that of {},", others.join(", ")), bytes)),
    }
}

/// What is no more than this part of memory is not why it is gone.
const MUCH: u64 = 4;

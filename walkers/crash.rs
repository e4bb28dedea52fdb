//! How the kernel came down, from what is left in memory: who panicked, on which stack, what was interrupted, what the
//! watchdogs and counters say. The log is one witness among these, and may be missing.
//!
//! ```console
//! > ::panicinfo | ::where what == "function"
//! WHAT     VALUE
//! function crasher`crash_null+0x4
//! ```

use crate::{
    clock::Clocks,
    cpu, dmesg,
    percpu::{self, Percpu},
    system,
    task::Task,
    unwind::{self, How, Trace},
};
use engine::{
    ViewEntry,
    prelude::*,
    targets::{Arch, RegSource},
};

/// A crash, as far as one is found.
#[derive(Clone, Debug)]
pub struct Crash {
    /// the CPU that panicked
    pub cpu: Option<u32>,
    /// the task that ran there
    pub task: Option<u64>,
    /// its stack: from panic() on, if that was interrupted
    pub trace: Trace,
    /// what came on top of panic(), on its way: the innermost first
    pub later: Vec<unwind::Frame>,
    /// of its frames, that which an exception, interrupt or NMI interrupted first, counted from the innermost
    pub interrupted: Option<usize>,
    /// Whether the stack begins there: a crash kernel is given the registers of the fault, not those of panic().
    pub direct: bool,
    /// the symbol by which the exception of such a fault came in, if that can be told
    pub entry: Option<String>,
    /// the registers of what was interrupted, by the names that the processor's manual gives them
    pub registers: Vec<(String, u64)>,
    /// what the log says
    pub words: Words,
}

/// An oops, as the log tells it.
#[derive(Clone, Debug, Default)]
pub struct Oops {
    /// its first line, which says what was wrong
    pub what: String,
    /// the address that the line names
    pub address: Option<u64>,
    /// the functions of its call trace, the innermost first
    pub trace: Vec<String>,
}

impl Oops {
    fn new(what: String) -> Oops {
        let digits = what.split("address").nth(1).map(|rest| rest.trim_start_matches([':', ' ']));
        let hex = digits.map(|text| text.trim_start_matches("0x"));
        let end = hex.map(|text| text.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(text.len()));
        let address = hex.zip(end).and_then(|(text, end)| u64::from_str_radix(text.get(..end)?, 16).ok());
        Oops { what, address, trace: Vec::new() }
    }
}

/// What the log says of the end, and of what came before.
#[derive(Clone, Debug, Default)]
pub struct Words {
    /// what panic() was called with
    pub panic: Option<String>,
    /// the first line of each oops, BUG, stall or lockup, in order
    pub reports: Vec<String>,
    /// oopses, in order: the last may be that of which the kernel died
    pub oopses: Vec<Oops>,
    /// the functions of the last call trace, the innermost first, from where it happened on
    pub trace: Vec<String>,
    /// processes that were killed for want of memory
    pub killed: Vec<String>,
    /// the last lines
    pub last: Vec<String>,
    /// reports came, and no registers yet
    begun: bool,
    /// the call trace that comes, or is under way, is that of the last oops
    in_oops: bool,
}

/// A panic is among the last records of the log; a stack of each CPU may come behind it.
const LAST_RECORDS: u64 = 8192;
const LAST_LINES: usize = 40;
/// More reports than anybody reads.
const MAX_REPORTS: usize = 64;
/// How panic() (kernel/panic.c) begins.
const PANIC: &str = "Kernel panic - not syncing: ";
/// How the first lines of reports begin.
const REPORTS: &[&str] = &[
    "BUG: ",
    "Oops: ",
    "Oops - ",
    "Internal error: ",
    "kernel BUG at ",
    "general protection fault",
    "Unable to handle kernel ",
    "divide error: ",
    "invalid opcode: ",
    "stack segment: ",
    "traps: PANIC: double fault",
    "watchdog: BUG: ",
    "watchdog: Watchdog detected hard LOCKUP",
    "NMI watchdog: Watchdog detected hard LOCKUP",
    "WARNING: CPU: ",
    "WARNING: ",
    "rcu: INFO: ",
    "INFO: task ",
    "list_add ",
    "list_del ",
    "slab ",
    "refcount_t: ",
    "mce: ",
    "kernel tried to execute NX-protected page",
    "stack-protector: ",
    "Insufficient stack space to handle exception",
    "Asynchronous SError Interrupt",
    "UBSAN: ",
    "CFI failure at ",
    "usercopy: ",
];

/// Whether a line counts oopses: `Oops: 0002 [#1] SMP`, whatever the exception was.
fn counts(line: &str) -> bool {
    line.split(" [#").skip(1).any(|rest| {
        let digits = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        digits.len() < rest.len() && digits.starts_with(']')
    })
}

/// Of those, what an oops begins with before the line that has its number.
const SAY_MORE: &[&str] =
    &["BUG: ", "kernel BUG at ", "Unable to handle kernel ", "kernel tried to execute ", "list_", "stack-protector: "];

/// The function of `do_null+0x10/0x30 [crasher]`, a line of a call trace. What the kernel guesses has a `?` in front.
fn function(text: &str) -> Option<&str> {
    let (name, rest) = text.split_once("+0x")?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
    (rest.contains("/0x") && !name.is_empty() && name.chars().all(is_name)).then_some(name)
}

impl Words {
    fn of(session: &Session) -> Result<Words> {
        let mut words = Words::default();
        dmesg::tail(session, LAST_RECORDS, &mut |record| {
            // what user space writes to /dev/kmsg is no witness
            if record.info.facility == 0 {
                record.text.unwrap_or_default().lines().for_each(|line| words.line(line));
            }
            Ok(())
        })?;
        let first = words.last.len().saturating_sub(LAST_LINES);
        words.last.drain(..first);
        Ok(words)
    }

    fn line(&mut self, line: &str) {
        if let Some(message) = line.strip_prefix(PANIC) {
            self.panic = Some(message.to_owned());
        } else if self.reports.len() < MAX_REPORTS
            && (counts(line) || REPORTS.iter().any(|start| line.starts_with(start)))
        {
            // the line that counts oopses comes last, mostly behind one that says more
            if counts(line) && self.oopses.len() < MAX_REPORTS {
                let before =
                    self.reports.last().filter(|before| self.begun && SAY_MORE.iter().any(|s| before.starts_with(s)));
                self.oopses.push(Oops::new(before.map_or(line, String::as_str).to_owned()));
                self.in_oops = true;
            }
            self.begun = true;
            self.reports.push(line.to_owned());
        } else if let Some(place) = line.strip_prefix("RIP: 0010:").or_else(|| line.strip_prefix("pc : ")) {
            // the registers of an oops are told once more when it is over
            let oops = self.oopses.last_mut().filter(|_| self.in_oops);
            self.in_oops = oops.as_ref().is_some_and(|oops| oops.trace.is_empty());
            self.begun = false;
            self.trace.clear();
            let place = function(place).map(str::to_owned);
            if let (Some(oops), true) = (oops, self.in_oops) {
                oops.trace.extend(place.clone());
            }
            self.trace.extend(place);
        } else if line.starts_with(' ') && self.trace.len() < MAX_REPORTS {
            let called = function(line.trim_start()).map(str::to_owned);
            if let Some(oops) = self.oopses.last_mut().filter(|_| self.in_oops) {
                oops.trace.extend(called.clone());
            }
            self.trace.extend(called);
        } else if self.killed.len() < MAX_REPORTS && line.contains("Killed process ") {
            self.killed.push(line.to_owned());
        }
        self.last.push(line.to_owned());
        if self.last.len() > 4 * LAST_LINES {
            self.last.drain(..3 * LAST_LINES);
        }
    }
}

impl Crash {
    /// Reads it.
    pub fn of(session: &Session) -> Result<Crash> {
        let cpu = cpu::panicked(session);
        let task = cpu.and_then(|cpu| cpu::current(session, cpu).ok());
        let trace = match task.map(|task| unwind::of_task(session, task)) {
            Some(Ok(trace)) => trace,
            Some(Err(e)) if e.is_control() => return Err(e),
            Some(Err(e)) => Trace { frames: Vec::new(), end: unwind::End::Broken(e.kind()) },
            None => Trace { frames: Vec::new(), end: unwind::End::Gone },
        };
        let words = match Words::of(session) {
            Err(e) if e.is_control() => return Err(e),
            words => words.unwrap_or_default(),
        };
        let (trace, later) = first_panic(session, trace);
        let (interrupted, registers) = (None, Vec::new());
        let mut crash = Crash { cpu, task, trace, later, interrupted, direct: false, entry: None, registers, words };
        crash.find_fault(session);
        Ok(crash)
    }

    fn find_fault(&mut self, session: &Session) {
        self.interrupted = self.trace.frames.iter().position(|frame| frame.regs.is_some());
        let Some(first) = self.trace.frames.first().copied() else { return };
        // below the stack of a CPU that is in panic() there may be what an interrupt left
        let ends = self.trace.frames.iter().any(|frame| dies(session, frame.pc));
        let saved = if first.how == How::Registers && !ends { saved_below(session, first.pc, first.sp) } else { None };
        let given = || {
            let task = session.view::<Task>(self.task?).ok()?;
            let regs = unwind::registers(session, &task, self.cpu?)?;
            (regs.source == RegSource::Prstatus && !ends).then_some(regs)
        };
        let at = match (saved, given()) {
            (Some((regs, entry)), _) => {
                (self.direct, self.entry, self.interrupted) = (true, entry, Some(0));
                Some(regs)
            }
            (None, Some(regs)) => {
                self.registers = regs.iter().map(|(name, value)| (name.to_owned(), value)).collect();
                (self.direct, self.interrupted) = (true, Some(0));
                return;
            }
            (None, None) => self.interrupted.and_then(|i| self.trace.frames.get(i)).and_then(|frame| frame.regs),
        };
        self.registers = at.and_then(|at| saved_registers(session, at).ok()).unwrap_or_default();
    }
}

/// Cuts off what came on top of a panic(), by an exception in one of its notifiers or by an interrupt while it waited: that
/// is not what happened first.
fn first_panic(session: &Session, mut trace: Trace) -> (Trace, Vec<unwind::Frame>) {
    let panics = |frame: &unwind::Frame| {
        let symbol = session.symbols.by_addr(session, frame.pc.wrapping_sub(1));
        symbol.is_some_and(|symbol| symbol.module.is_none() && matches!(symbol.name.as_str(), "panic" | "vpanic"))
    };
    let inner = trace.frames.iter().position(|frame| frame.regs.is_some());
    let outer = trace.frames.iter().rposition(panics);
    let Some(from) = outer.filter(|outer| inner.is_some_and(|inner| inner <= *outer)) else {
        return (trace, Vec::new());
    };
    let later = trace.frames.drain(..from).collect();
    if let Some(panic) = trace.frames.first_mut() {
        (panic.regs, panic.exact) = (None, false);
    }
    (trace, later)
}

/// Whether the kernel has noted that it oopsed (TAINT_DIE, which is set when an oops is over): the log may claim it.
pub fn has_oopsed(session: &Session) -> Result<bool> {
    const TAINT_DIE: u64 = 1 << 7;
    Ok(system::taint(session)? & TAINT_DIE != 0)
}

/// Whether code belongs to what ends the kernel, and takes registers for a crash kernel.
fn dies(session: &Session, pc: u64) -> bool {
    const ENDS: [&str; 6] = ["__crash_kexec", "crash_kexec", "machine_kexec", "panic", "vpanic", "nmi_panic"];
    let symbol = session.symbols.by_addr(session, pc.wrapping_sub(1));
    symbol.is_some_and(|symbol| ENDS.contains(&symbol.name.split('.').next().unwrap_or_default()))
}

/// The registers that an exception at `pc` saved right below the stack pointer that it met, and the symbol that it came in
/// by, whose call of the handler is on the stack below them. An exception with a stack of its own saved them there.
fn saved_below(session: &Session, pc: u64, sp: u64) -> Option<(u64, Option<String>)> {
    let at = (sp & !0xf).wrapping_sub(session.size_of("pt_regs").ok()?);
    let word = |path: &str| session.u64(at.wrapping_add(session.offset("pt_regs", path).ok()?)).ok();
    let x86 = session.target.arch() == Arch::X86_64;
    let (ip, stack) = if x86 { (word("ip"), word("sp")) } else { (word("pc"), word("sp")) };
    if ip != Some(pc) || stack != Some(sp) {
        return None;
    }
    let back = session.u64(at.wrapping_sub(8)).ok().filter(|_| x86);
    let symbol = back.and_then(|back| session.symbols.by_addr(session, back.wrapping_sub(1)));
    let entry = symbol.map(|symbol| symbol.name.to_string());
    Some((at, entry.filter(|name| name.starts_with("asm_"))))
}

/// Names of registers in `struct pt_regs` and what they are called elsewhere.
const X86_REGS: [(&str, &str); 18] = [
    ("ax", "rax"),
    ("bx", "rbx"),
    ("cx", "rcx"),
    ("dx", "rdx"),
    ("si", "rsi"),
    ("di", "rdi"),
    ("bp", "rbp"),
    ("sp", "rsp"),
    ("r8", "r8"),
    ("r9", "r9"),
    ("r10", "r10"),
    ("r11", "r11"),
    ("r12", "r12"),
    ("r13", "r13"),
    ("r14", "r14"),
    ("r15", "r15"),
    ("ip", "rip"),
    ("flags", "rflags"),
];

/// The registers that are saved in a `struct pt_regs`, by the names that the processor's manual gives them.
pub fn saved_registers(session: &Session, regs: u64) -> Result<Vec<(String, u64)>> {
    let get = |path: &str| session.u64(regs.wrapping_add(session.offset("pt_regs", path)?));
    match session.target.arch() {
        Arch::X86_64 => X86_REGS.iter().map(|(path, name)| Ok(((*name).to_owned(), get(path)?))).collect(),
        _ => {
            let mut found =
                (0..31).map(|n| Ok((format!("x{n}"), get(&format!("regs[{n}]"))?))).collect::<Result<Vec<_>>>()?;
            for name in ["sp", "pc", "pstate"] {
                found.push((name.into(), get(name)?));
            }
            Ok(found)
        }
    }
}

/// What an exception left in the task: `struct thread_struct`.
#[derive(View, Clone, Copy, Debug)]
#[ctype("task_struct")]
pub struct Trap {
    /// number of the exception, x86-64
    #[field("thread.trap_nr")]
    pub number: Option<u64>,
    /// its error code, x86-64; the syndrome register, arm64
    #[field("thread.error_code", "thread.fault_code")]
    pub code: Option<u64>,
    /// the address, of faults that were reported
    #[field("thread.cr2", "thread.fault_address")]
    pub address: Option<u64>,
}

/// A CPU that has stopped doing what it should, by the clocks of the watchdogs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// its number
    pub cpu: u32,
    /// the task it runs
    pub task: u64,
    /// seconds since it last let another task run
    pub seconds: u64,
    /// it does not even serve its timer's interrupts
    pub no_interrupts: bool,
}

/// `softlockup_panic` and its like aside: CPUs that have not rescheduled for twice the threshold (kernel/watchdog.c).
pub fn stuck(session: &Session) -> Result<Vec<Stuck>> {
    let (Some(touched), Some(thresh)) =
        (session.kernel_symbol("watchdog_touch_ts"), session.kernel_symbol("watchdog_thresh"))
    else {
        return Ok(Vec::new());
    };
    let clocks = Clocks::of(session)?;
    let thresh = u64::from(session.u32(thresh)?);
    let now = now(session, &clocks);
    let cpus = Percpu::of(session)?;
    let mut found = Vec::new();
    for cpu in cpus.online() {
        // seconds of 2^30 nanoseconds (get_timestamp()); 0 and the largest number stand for: just touched
        let touched = session.u64(cpus.address(touched, *cpu)?)?;
        let seconds = (now >> 30).saturating_sub(touched);
        if thresh == 0 || touched == 0 || touched == u64::MAX || seconds <= 2 * thresh {
            continue;
        }
        let no_interrupts = timer_is_late(session, *cpu, now, &clocks, 2 * thresh).unwrap_or(false);
        found.push(Stuck { cpu: *cpu, task: cpu::current(session, *cpu)?, seconds, no_interrupts });
    }
    // a machine that was stopped as a whole is not stuck
    if found.len() == cpus.online().len() && found.iter().all(|stuck| stuck.no_interrupts) && found.len() > 1 {
        found.clear();
    }
    Ok(found)
}

/// The scheduler's clock at the end: of all CPUs, that which is furthest.
fn now(session: &Session, clocks: &Clocks) -> u64 {
    let ticked = clocks.updated.saturating_add_signed(clocks.local_offset().unwrap_or(0));
    let queues = crate::rq::all(session).unwrap_or_default();
    queues.iter().map(|(_, rq)| rq.clock).chain([ticked]).max().unwrap_or(0)
}

/// Whether the watchdog's timer on a CPU should have gone off `seconds` ago.
fn timer_is_late(session: &Session, cpu: u32, now: u64, clocks: &Clocks, seconds: u64) -> Option<bool> {
    let timer = percpu::variable(session, "watchdog_hrtimer", cpu).ok()?;
    let expires = ["node.expires", "node.node.expires", "node.expires.tv64"];
    let offset = expires.iter().find_map(|path| session.offset("hrtimer", path).ok())?;
    let due = session.u64(timer.wrapping_add(offset)).ok()?;
    let monotonic = now.saturating_add_signed(-clocks.local_offset().unwrap_or(0));
    Some(due != 0 && monotonic.saturating_sub(due) > seconds * 1_000_000_000)
}

/// `struct rcu_state` (kernel/rcu/tree.h).
#[derive(View)]
#[ctype("rcu_state")]
struct RcuState {
    gp_seq: u64,
    gp_start: u64,
}

/// Seconds for which RCU has waited for its readers, if it waits for longer than it warns of.
pub fn rcu_stall(session: &Session) -> Result<Option<u64>> {
    let Some(at) = session.kernel_symbol("rcu_state") else { return Ok(None) };
    let state: RcuState = session.view(at)?;
    let clocks = Clocks::of(session)?;
    let limit = match session.kernel_symbol("rcu_cpu_stall_timeout") {
        Some(at) => u64::from(session.u32(at)?),
        None => return Ok(None),
    };
    /// of the sequence number, the bits that say that a grace period is under way (kernel/rcu/rcu.h)
    const UNDER_WAY: u64 = 3;
    let waited = clocks.jiffies.wrapping_sub(state.gp_start).checked_div(clocks.hz()).unwrap_or(0);
    Ok(Some(waited)
        .filter(|seconds| state.gp_seq & UNDER_WAY != 0 && limit > 0 && *seconds > limit && *seconds < 1 << 32))
}

/// How many processes were killed for want of memory: the event OOM_KILL, summed over the CPUs.
pub fn oom_kills(session: &Session) -> Option<u64> {
    let events = session.kernel_symbol("vm_event_states")?;
    let which = u64::try_from(session.enumerator("OOM_KILL")?).ok()?;
    let cpus = Percpu::of(session).ok()?;
    let counts = cpus.copies(events).filter_map(|(_, at)| session.u64(at.wrapping_add(which * 8)).ok());
    Some(counts.fold(0, u64::wrapping_add))
}

/// Oopses that the kernel has counted: `oops_count`, since Linux 6.2 (9db89b411170).
pub fn oopses(session: &Session) -> Option<u64> {
    session.u32(session.kernel_symbol("oops_count")?).ok().map(u64::from)
}

/// Whether a task is the first of user space, whose death is the kernel's.
pub fn is_init(session: &Session, task: u64) -> bool {
    session.view::<Task>(task).is_ok_and(|task| task.tgid == 1)
}

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Trap>(), ViewEntry::of::<RcuState>()];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_log() {
        let mut words = Words::default();
        for line in [
            "BUG: kernel NULL pointer dereference, address: 0000000000000020",
            "RIP: 0010:crash_null+0x5/0x10 [crasher]",
            "Code: 90 90",
            "Call Trace:",
            " <TASK>",
            " ? __die+0x1a/0x60",
            " do_null.isra.0+0x10/0x30 [crasher]",
            "Kernel panic - not syncing: Fatal exception",
        ] {
            words.line(line);
        }
        assert_eq!(words.panic.as_deref(), Some("Fatal exception"));
        assert_eq!(words.trace, ["crash_null", "do_null.isra.0"]);
        assert_eq!(words.reports.len(), 1);
        assert!(words.oopses.is_empty());
    }

    #[test]
    fn an_oops_that_is_survived_is_remembered() {
        let mut words = Words::default();
        for line in [
            "BUG: unable to handle page fault for address: dead000000000108",
            "#PF: supervisor read access in kernel mode",
            "Oops: 0000 [#1] PREEMPT SMP NOPTI",
            "CPU: 1 PID: 91 Comm: crash_holding",
            "RIP: 0010:crash_holding+0x12/0x30 [crasher]",
            " kthread+0xd2/0x100",
            "RIP: 0010:crash_holding+0x12/0x30 [crasher]",
            "INFO: task crash_wants:92 blocked for more than 5 seconds.",
            "RIP: 0010:other+0x12/0x30",
            "general protection fault, probably for non-canonical address 0x6b6b6b6b6b6b6b6b: 0000 [#2] SMP",
            "RIP: 0010:third+0x12/0x30",
        ] {
            words.line(line);
        }
        let told: Vec<_> = words.oopses.iter().map(|oops| (oops.address, oops.trace.join(" "))).collect();
        assert_eq!(told[0], (Some(0xdead_0000_0000_0108), "crash_holding kthread".into()));
        assert_eq!(told[1], (Some(0x6b6b_6b6b_6b6b_6b6b), "third".into()));
        assert!(words.oopses[0].what.starts_with("BUG: unable"));
        assert!(counts("Bad pagetable: 000f [#12] PREEMPT SMP") && !counts("device [#a] and [#1"));
    }
}

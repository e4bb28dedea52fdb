//! What kind of end it was, told from the stack of what died, the registers that were saved there, the code at fault,
//! and the state of locks and watchdogs; the log confirms, and stands in where no stack is left.

use super::{
    fault::{self, Access, Registers},
    living::{self, hung},
    names,
    telling::{self, ALLOCATES, ASKS_CPUS, BAD_TABLE, BY_INTERRUPT, CHECKS, EXCEPTIONS, FREES, MACHINERY, TELLING},
    trap::{self, Trap},
};
use crate::dis;
use engine::{prelude::*, targets::Arch};
use walkers::{
    bug, cgroup, cpu,
    crash::{self, Crash},
    module,
    task::Task,
    unwind::{End, Frame, Trace},
};

/// What happened.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// in a word, which does not change: `null-deref`, `hung-task`
    pub class: &'static str,
    /// in a sentence
    pub title: String,
    /// why that is so, a sentence each
    pub evidence: Vec<String>,
    /// the task whose doing it was
    pub task: Option<u64>,
    /// its stack, without what the kernel did once it knew
    pub guilty: Trace,
    /// Only the log tells of it, for no stack in memory is that of the deed: the functions that it names.
    pub by_log: Option<Vec<String>>,
}

impl Verdict {
    pub(super) fn new(class: &'static str, title: impl Into<String>, task: Option<u64>, guilty: Trace) -> Verdict {
        Verdict { class, title: title.into(), evidence: Vec::new(), task, guilty, by_log: None }
    }

    pub(super) fn because(mut self, why: impl Into<String>) -> Verdict {
        self.evidence.push(why.into());
        self
    }

    pub(super) fn by_log(mut self, functions: &[String], why: &str) -> Verdict {
        self.by_log = Some(functions.to_vec());
        self.because(why)
    }

    pub(super) fn because_of(mut self, why: Option<String>) -> Verdict {
        self.evidence.extend(why);
        self
    }

    /// Whether nothing is wrong.
    pub fn is_fine(&self) -> bool {
        self.class == "none"
    }
}

/// The crash with what is derived from it.
pub(super) struct Case<'a> {
    pub(super) cx: &'a Cx<'a>,
    pub(super) crash: &'a Crash,
    /// names of the functions on the stack of what died
    names: Vec<String>,
    /// which of them are functions of modules
    foreign: Vec<bool>,
    /// of those, how many were called by an exception or interrupt
    handlers: usize,
}

impl<'a> Case<'a> {
    pub(super) fn new(cx: &'a Cx<'a>, crash: &'a Crash) -> Case<'a> {
        let names = names::of(cx, &crash.trace);
        let handlers = crash.interrupted.unwrap_or(names.len()).min(names.len());
        let in_module = |frame: &Frame| cx.symbols.module_at(cx, frame.pc).is_some();
        let foreign = crash.trace.frames.iter().map(in_module).collect();
        Case { cx, crash, names, foreign, handlers }
    }

    /// Functions that were called after the exception.
    fn after(&self) -> &[String] {
        self.names.get(..self.handlers).unwrap_or(&self.names)
    }

    /// Whether one of these was called after the exception: of the kernel proper, for a module may call its functions what
    /// it likes.
    pub(super) fn has(&self, functions: &[&str]) -> Option<usize> {
        let own = |at: usize| self.foreign.get(at) == Some(&false);
        self.after()
            .iter()
            .enumerate()
            .find(|(at, name)| own(*at) && functions.contains(&name.as_str()))
            .map(|(at, _)| at)
    }

    /// The same, of a kind of crash: file systems are modules themselves.
    fn tells(&self, functions: &[&str], class: &str) -> Option<usize> {
        match class {
            "fs-error" => self.after().iter().position(|name| functions.contains(&name.as_str())),
            _ => self.has(functions),
        }
    }

    fn starts(&self, beginnings: &[&str]) -> bool {
        self.after().iter().any(|name| beginnings.iter().any(|start| name.starts_with(start)))
    }

    /// The stack from a frame on.
    pub(super) fn from(&self, frame: usize) -> Trace {
        let mut trace = self.crash.trace.clone();
        trace.frames.drain(..frame.min(trace.frames.len()));
        trace
    }

    /// The stack behind all that only serves the end.
    fn culprit(&self) -> Trace {
        match self.crash.interrupted.filter(|_| self.is_exception()) {
            Some(frame) => self.from(frame),
            None => {
                let is_panic = |name: &String| ["panic", "vpanic", "nmi_panic"].contains(&name.as_str());
                let from = self.names.iter().rposition(is_panic).map_or(0, |at| at + 1);
                let rest = self.names.get(from..).unwrap_or_default();
                self.from(from + rest.iter().position(|name| !MACHINERY.contains(&name.as_str())).unwrap_or(0))
            }
        }
    }

    fn registers(&self) -> &'a Registers {
        &self.crash.registers
    }

    /// The function at the top of a stack and how far in it.
    pub(super) fn place(&self, trace: &Trace) -> String {
        let Some(frame) = trace.frames.first() else { return "unknown code".into() };
        // behind the call of a function that does not return there is the next function
        let start = |pc: u64| self.cx.symbols.by_addr(self.cx, pc).map(|symbol| symbol.addr);
        let call = frame.pc.wrapping_sub(1);
        self.cx.sym(if frame.exact || start(frame.pc) == start(call) { frame.pc } else { call })
    }

    pub(super) fn said(&self, words: &[&str]) -> Option<String> {
        let reports = &self.crash.words.reports;
        reports
            .iter()
            .rev()
            .find(|line| words.iter().any(|word| line.contains(word)))
            .map(|line| format!("the log: {line}"))
    }

    fn verdict(&self) -> Result<Verdict> {
        let task = self.crash.task;
        // watchdogs and others that give their names, before the exceptions that some of them are
        if let Some(found) = self.hung_panic()? {
            return Ok(found);
        }
        let tells = |(functions, class, _): &&(&[&str], &str, &str)| self.tells(functions, class).is_some();
        if let Some((functions, class, title)) = TELLING.iter().find(tells) {
            // one of them may have called another
            let first = self.tells(functions, class).unwrap_or(0);
            let more = self.names.iter().skip(first + 1).take_while(|name| functions.contains(&name.as_str())).count();
            let at = first + more;
            let function = self.names.get(at).cloned().unwrap_or_default();
            let why = format!("{function} is on the stack of what panicked");
            let guilty = match self.crash.interrupted {
                Some(frame) if BY_INTERRUPT.contains(class) => self.from(frame),
                _ => self.from(at + 1),
            };
            let found = Verdict::new(class, *title, task, guilty).because(why);
            return self.refine(found);
        }
        if self.crash.interrupted.is_some() && self.is_exception() {
            return self.exception();
        }
        if self.has(&["make_task_dead", "do_exit"]).is_some() && task.is_some_and(|task| crash::is_init(self.cx, task))
        {
            let found =
                Verdict::new("init-died", "the first process ended, and with it the system", task, self.culprit());
            return Ok(self.killed_init(found.because("do_exit of process 1 panicked")));
        }
        if self.names.is_empty() {
            return self.by_words();
        }
        let culprit = self.culprit();
        if let Some(found) = self.stack_end(&culprit) {
            return Ok(found);
        }
        let by = self.place(&culprit);
        let title = format!("panic() was called by {by}");
        Ok(Verdict::new("panic", title, task, culprit).because("no exception is on the stack of what panicked"))
    }

    /// The first process may have ended by an oops, whose stack is gone: then that is what happened.
    fn killed_init(&self, found: Verdict) -> Verdict {
        let oopsed = self.has(&["make_task_dead", "rewind_stack_and_make_dead", "rewind_stack_do_exit"]).is_some();
        match self.crash.words.oopses.last().filter(|_| oopsed) {
            Some(oops) => {
                let mut by_oops = living::oopsed(oops, "it ended the first process, and with it the system");
                by_oops.task = found.task;
                by_oops.evidence.extend(found.evidence);
                by_oops
            }
            None if oopsed => found.because("it ended by an oops, of which the log says nothing any more"),
            None => found,
        }
    }

    /// Makes the verdicts of watchdogs more exact: they find out about others.
    fn refine(&self, mut found: Verdict) -> Result<Verdict> {
        match found.class {
            "rcu-stall" | "hard-lockup" | "soft-lockup" => {
                if names::of(self.cx, &found.guilty).iter().take(4).any(|name| ASKS_CPUS.contains(&name.as_str())) {
                    return self.waits_for_cpu(found);
                }
                found = match found.class {
                    "rcu-stall" => self.reader(found)?,
                    _ => self.unless_idle(found)?,
                };
                found = self.spins(found);
            }
            "nmi" => return self.asked_by_nmi(found),
            "oom" => {
                if self.has(&["mem_cgroup_out_of_memory"]).is_some() {
                    let group = task_group(self.cx, self.crash.task);
                    found.title =
                        format!("the control group {group} is out of memory, and the kernel was told to panic then");
                }
                let told = self.cx.kernel_symbol("sysctl_panic_on_oom").and_then(|at| self.cx.u32(at).ok());
                if told == Some(0) {
                    found.title = "out of memory, and nobody is left whose end would give any back".into();
                }
                let frames = names::of(self.cx, &found.guilty);
                let in_module = |frame: &Frame| self.cx.symbols.module_at(self.cx, frame.pc).is_some();
                let mut calls = frames.iter().zip(&found.guilty.frames);
                let allocates = |name: &str| ["alloc", "charge", "slab"].iter().any(|part| name.contains(part));
                let asked = calls.find(|(name, frame)| in_module(frame) || !allocates(name)).map(|(name, _)| name);
                found.evidence.extend(asked.map(|name| format!("memory was asked for by {name}")));
                found.evidence.extend(living::memory(self.cx));
            }
            "atomic" => {
                // who called the function that sleeps is to blame
                let calls = names::of(self.cx, &found.guilty);
                let from = calls.iter().position(|name| !names::is_common(name)).unwrap_or(0);
                found.guilty.frames.drain(..from);
            }
            "sysrq" => found.guilty = self.from(self.has(&["sysrq_handle_crash"]).unwrap_or(0)),
            _ => {}
        }
        let words: &[&str] = match found.class {
            "soft-lockup" => &["soft lockup"],
            "hard-lockup" => &["hard LOCKUP"],
            "rcu-stall" => &["rcu: INFO"],
            "stack-overflow" => &["stack guard page", "Insufficient stack"],
            _ => &[],
        };
        found.evidence.extend(self.said(words));
        if !found.guilty.frames.is_empty() && !matches!(found.class, "oom" | "sysrq" | "no-root") {
            found.title = format!("{}, in {}", found.title, self.place(&found.guilty));
        }
        Ok(found)
    }

    /// khungtaskd panicked: its loop is the function `watchdog`, into which compilers put the check.
    fn hung_panic(&self) -> Result<Option<Verdict>> {
        const LOOKS: &[&str] = &["watchdog", "check_hung_uninterruptible_tasks", "check_hung_task"];
        let by = self.crash.task.and_then(|task| self.cx.view::<Task>(task).ok());
        let looks = by.is_some_and(|task| task.is_kernel_thread()) && self.has(LOOKS).is_some();
        if self.crash.interrupted.is_some() || !looks {
            return Ok(None);
        }
        let found = hung(self.cx, 0)?.map(|found| found.because("khungtaskd, which looks for hung tasks, panicked"));
        Ok(found.map(|found| found.because_of(self.said(&["INFO: task "]))))
    }

    /// Whether what interrupted was an exception, and no interrupt.
    fn is_exception(&self) -> bool {
        self.crash.direct || self.starts(EXCEPTIONS) && !self.starts(&["asm_exc_nmi"])
    }

    fn exception(&self) -> Result<Verdict> {
        let (task, culprit) = (self.crash.task, self.culprit());
        let (regs, place) = (self.registers(), self.place(&culprit));
        let pc = culprit.frames.first().map_or(0, |frame| frame.pc);
        let entered = self.after().iter().rev().find(|name| name.starts_with("asm_exc_")).cloned();
        let trap = entered.or_else(|| self.crash.entry.clone()).unwrap_or_default();
        let is_trap = || trap::of(self.cx, pc).is_some();
        let text = dis::disassemble(self.cx, pc).map_or_else(String::new, |(text, _)| text);
        let found = match trap.as_str() {
            "" if self.ran_over() => self.double_fault(task, culprit),
            "asm_exc_double_fault" => self.double_fault(task, culprit),
            "asm_exc_divide_error" => {
                Verdict::new("divide-error", format!("division by zero in {place}"), task, culprit)
            }
            "asm_exc_invalid_op" if is_trap() => self.check(task, culprit, pc)?,
            "asm_exc_invalid_op" => {
                Verdict::new("invalid-opcode", format!("invalid instruction at {place}"), task, culprit)
            }
            "asm_exc_general_protection" | "asm_exc_stack_segment" => self.bad_pointer(task, culprit, pc, regs, true),
            "asm_exc_page_fault" if self.bad_table() => {
                Verdict::new("page-table", format!("{BAD_TABLE}, met in {place}"), task, culprit)
            }
            "asm_exc_page_fault" => self.bad_pointer(task, culprit, pc, regs, false),
            "asm_exc_control_protection" => {
                let title = format!("an indirect call or jump to {place}, which is no place for one (CET)");
                Verdict::new("cfi", title, task, culprit)
            }
            "" if is_trap()
                || self.starts(&["brk_handler", "bug_handler", "bug_brk_handler", "do_el1_brk64", "el1_brk64"]) =>
            {
                self.check(task, culprit, pc)?
            }
            "" if self.starts(&["do_undefinstr", "do_el1_undef", "el1_undef"]) => {
                Verdict::new("invalid-opcode", format!("invalid instruction at {place}"), task, culprit)
            }
            "" if text.starts_with("div") || text.starts_with("idiv") => {
                Verdict::new("divide-error", format!("division by zero in {place}"), task, culprit)
            }
            "" => self.bad_pointer(task, culprit, pc, regs, false),
            other => {
                let name = other.trim_start_matches("asm_exc_").replace('_', " ");
                Verdict::new("exception", format!("{name} in {place}"), task, culprit)
            }
        };
        let found = if trap.is_empty() { found } else { found.because(format!("the exception came in by {trap}")) };
        let found = self.name_caller(found);
        let oops = self.crash.words.oopses.last().map(|oops| format!("the log: {}", oops.what));
        Ok(found.because_of(oops.or_else(|| self.said(&["BUG: ", "general protection", "list_", "WARNING"]))))
    }

    /// Where a function of the kernel proper fell over what a module gave it, the module's function.
    fn name_caller(&self, found: Verdict) -> Verdict {
        /// further out, a module's function is most likely about something else
        const NEAR: usize = 4;
        let in_module = |pc: u64| self.cx.symbols.module_at(self.cx, pc).is_some();
        let mut frames = found.guilty.frames.iter().map(|frame| frame.pc).take(NEAR);
        let caller = frames.next().filter(|pc| !in_module(*pc)).and_then(|_| frames.find(|pc| in_module(*pc)));
        let why = caller.map(|pc| format!("it was called by a module: {}", self.cx.sym(pc)));
        found.because_of(why)
    }

    /// Whether the processor refused an entry of a page table (x86: PF_RSVD of the page fault's error code, which the
    /// kernel notes for faults of user addresses only, and else says).
    fn bad_table(&self) -> bool {
        const PAGE_FAULT: u64 = 14;
        let trap = self.crash.task.and_then(|task| self.cx.view::<crash::Trap>(task).ok());
        let told = self.crash.words.oopses.last().is_some_and(|oops| oops.what.contains("Bad pagetable"));
        let refused =
            |trap: crash::Trap| trap.number == Some(PAGE_FAULT) && trap.code.is_some_and(|code| code & 8 != 0);
        self.cx.target.arch() == Arch::X86_64 && (trap.is_some_and(refused) || told)
    }

    /// A BUG() or WARN().
    fn check(&self, task: Option<u64>, culprit: Trace, pc: u64) -> Result<Verdict> {
        let warned = self.has(&["__warn", "check_panic_on_warn", "__warn_printk", "__report_bug"]).is_some()
            && self.has(&["die", "oops_end"]).is_none();
        let top: Vec<String> = names::of(self.cx, &culprit).into_iter().take(2).collect();
        let place = self.place(&culprit);
        let entry = match bug::find(self.cx, pc) {
            Err(e) if e.is_control() => return Err(e),
            found => found,
        };
        match trap::of(self.cx, pc) {
            Some(Trap::Bug) if matches!(entry, Ok(None)) => {
                let title =
                    format!("a trap in {place} that is no BUG(): code that is never to be reached, say compilers");
                return Ok(Verdict::new("invalid-opcode", title, task, culprit));
            }
            Some(Trap::Bug) => {}
            None if self.cx.target.arch() == Arch::X86_64 => {}
            other => {
                let (class, title) = trap::class(other);
                return Ok(Verdict::new(class, format!("{title}, in {place}"), task, culprit));
            }
        }
        let what = if warned { "WARN()" } else { "BUG()" };
        let known = CHECKS.iter().find(|(functions, ..)| top.iter().any(|name| functions.contains(&name.as_str())));
        let found = match known {
            Some((_, class, title)) => Verdict::new(class, format!("{title}, found by {place}"), task, culprit),
            None if warned => Verdict::new("warn", format!("WARN() in {place}, and told to panic then"), task, culprit),
            None => Verdict::new("bug", format!("BUG() in {place}"), task, culprit),
        };
        let source = entry.ok().flatten().and_then(|bug| bug.source);
        Ok(found.because_of(source.map(|(file, line)| format!("{what} at {file}:{line}"))))
    }

    /// A pointer that led nowhere: which, by its value.
    fn bad_pointer(&self, task: Option<u64>, culprit: Trace, pc: u64, regs: &Registers, protection: bool) -> Verdict {
        if let Some(found) = self.bad_jump(task, &culprit, pc) {
            return found;
        }
        let place = self.place(&culprit);
        let named = task.and_then(|task| self.cx.view::<crash::Trap>(task).ok()).and_then(|trap| trap.address);
        if let Some(found) = self.bad_return(task, &culprit, pc, protection) {
            return found;
        }
        let Some(access) = fault::access(self.cx, pc, regs).or_else(|| {
            // of instructions without an operand that could be read, what the exception left behind
            named.filter(|addr| *addr != 0 && !protection).map(|addr| Access { addr, base: addr, write: false })
        }) else {
            let class = if protection { "bad-pointer" } else { "bad-access" };
            return Verdict::new(class, format!("an access to memory that is not there, in {place}"), task, culprit);
        };
        let (addr, verb) = (access.addr, if access.write { "write to" } else { "read of" });
        let why = format!("the instruction at {place} is a {verb} {addr:#x}");
        let (class, what) = match self.address(&access, protection) {
            (class, _) if !matches!(class, "null-deref" | "read-only") && self.top_is(&culprit, ALLOCATES) => (
                "slab-corruption",
                "a slab's list of free objects leads nowhere: something wrote to a free object".into(),
            ),
            ("bad-access" | "user-access", _) if self.top_is(&culprit, FREES) => {
                ("bad-pointer", "something was to be freed that was never allocated".into())
            }
            found => found,
        };
        Verdict::new(class, format!("{what}: {verb} {addr:#x} in {place}"), task, culprit).because(why)
    }

    /// Whether the fault is in one of these functions, by how their names begin.
    fn top_is(&self, culprit: &Trace, functions: &[&str]) -> bool {
        names::of(self.cx, culprit).first().is_some_and(|name| functions.iter().any(|start| name.starts_with(start)))
    }

    fn address(&self, access: &Access, protection: bool) -> (&'static str, String) {
        /// a page, and what structs are larger: members of a struct at NULL
        const NULL: u64 = 0x1_0000;
        /// error numbers end there (MAX_ERRNO)
        const ERRORS: u64 = 4095;
        let addr = access.addr;
        if let Some((class, what)) = fault::poison(access.base).or_else(|| fault::poison(addr)) {
            return (class, what.to_owned());
        }
        match addr {
            _ if addr < NULL => ("null-deref", "NULL pointer dereference".into()),
            _ if access.base.wrapping_neg() <= ERRORS => {
                ("error-pointer", format!("the error number {} was used as a pointer", access.base.wrapping_neg()))
            }
            _ if addr.wrapping_neg() <= 4 * ERRORS && access.base < NULL => {
                ("null-deref", "NULL pointer dereference".into())
            }
            _ if protection || !canonical(addr) => {
                ("bad-pointer", "a pointer that is no address (not canonical)".into())
            }
            _ if addr >> 63 == 0 => ("user-access", "kernel code used a user address".into()),
            _ => match self.cx.target.translate(Space::Kernel, addr) {
                Ok(to) if access.write && to.flags.is_some_and(|flags| !flags.writable) => {
                    ("read-only", "write to memory that must not be written".into())
                }
                Ok(_) => ("bad-access", "access to kernel memory that was refused".into()),
                Err(_) => ("bad-access", "access to a kernel address that is not mapped".into()),
            },
        }
    }

    /// A jump to where no code is.
    fn bad_jump(&self, task: Option<u64>, culprit: &Trace, pc: u64) -> Option<Verdict> {
        let executable =
            self.cx.target.translate(Space::Kernel, pc).is_ok_and(|to| to.flags.is_none_or(|flags| flags.exec));
        if executable {
            return None;
        }
        let mut rest = culprit.clone();
        rest.frames.drain(..1.min(rest.frames.len()));
        let caller = self.place(&rest);
        let (class, what) = match pc {
            0..4096 => ("null-call", "call through a NULL pointer".to_owned()),
            _ => match fault::poison(pc) {
                Some((class, what)) => (class, format!("call through a bad pointer: {what}")),
                None if pc >> 63 == 0 => ("user-exec", format!("jump to the user address {pc:#x}")),
                None if self.cx.target.translate(Space::Kernel, pc).is_err() => {
                    ("no-exec", format!("jump to {}, where nothing is mapped: code that is gone", self.cx.sym(pc)))
                }
                None => ("no-exec", format!("jump to {}, which is no code", self.cx.sym(pc))),
            },
        };
        let guilty = if rest.frames.is_empty() { culprit.clone() } else { rest };
        if self.returned_to(pc) && !matches!(class, "null-call") {
            return Some(self.smashed(task, guilty, pc));
        }
        let found = Verdict::new(class, format!("{what}, by {caller}"), task, guilty)
            .because(format!("the instruction pointer was {pc:#x}"));
        let unmapped = class == "no-exec" && self.cx.target.translate(Space::Kernel, pc).is_err();
        let gone = || module::last_unloaded(self.cx).map(|name| format!("the last module that was unloaded is {name}"));
        Some(found.because_of(unmapped.then(gone).flatten()))
    }

    /// That something went wrong once more, on the way down.
    fn fell_later(&self) -> Option<String> {
        let later = Trace { frames: self.crash.later.clone(), end: End::Gone };
        let names = names::of(self.cx, &later);
        let from = later.frames.iter().position(|frame| frame.regs.is_some())?;
        let faulted = names.iter().take(from).any(|name| EXCEPTIONS.iter().any(|start| name.starts_with(start)));
        let place = later.frames.get(from).map(|frame| self.cx.sym(frame.pc))?;
        faulted.then(|| format!("on its way down it fell over {place}, which is not why it panicked"))
    }

    /// Nothing but the log is left of what panicked.
    fn by_words(&self) -> Result<Verdict> {
        let words = &self.crash.words;
        let Some(said) = words.panic.as_ref().or(words.reports.last()) else {
            return living::state(self.cx, self.crash);
        };
        let reports = || words.reports.iter().rev().find_map(|line| telling::by_message(line));
        let class = telling::by_message(said).or_else(reports);
        let found = Verdict::new(class.unwrap_or("panic"), said.clone(), self.crash.task, self.crash.trace.clone());
        Ok(found.by_log(&words.trace, "told by the log alone: the stack of what panicked is not known"))
    }
}

/// The control group of a task, of the hierarchy that has all controllers.
fn task_group(cx: &Cx<'_>, task: Option<u64>) -> String {
    let groups = task.and_then(|task| cgroup::of_task(cx, task).ok()).unwrap_or_default();
    let group = groups.last().and_then(|at| cx.view::<cgroup::Cgroup>(*at).ok()?.path(cx).ok());
    group.unwrap_or_else(|| "of a task".to_owned())
}

/// Whether the upper bits of an address are all the same, with 57 bits or less of it used.
fn canonical(addr: u64) -> bool {
    matches!((addr as i64) >> 56, 0 | -1)
}

/// What happened.
pub fn of(cx: &Cx<'_>, crash: &Crash) -> Result<Verdict> {
    if cpu::panicked(cx).is_none() {
        return match crash.words.panic {
            Some(_) => Case::new(cx, crash).by_words(),
            None => living::state(cx, crash).map(|found| match found.is_fine() || found.by_log.is_some() {
                true => found,
                false => found.because_of(living::earlier(cx, crash, 0)),
            }),
        };
    }
    let case = Case::new(cx, crash);
    // the last oops may be that of which it panicked
    let by_itself = crash.interrupted.is_some() && case.is_exception();
    let found = case.verdict()?;
    let earlier =
        living::earlier(cx, crash, usize::from(by_itself || found.by_log.is_some() || !crash.later.is_empty()));
    Ok(found.because_of(earlier).because_of(case.fell_later()))
}

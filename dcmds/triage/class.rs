//! What kind of end it was, told from the stack of what died, the registers that were saved there, the code at fault,
//! and the state of locks and watchdogs; the log confirms, and stands in where no stack is left.

use super::{
    fault::{self, Access, Registers},
    names,
};
use crate::{blocked, dis};
use engine::{prelude::*, targets::Arch};
use walkers::{
    blocked::Waits,
    bug, cpu,
    crash::{self, Crash},
    rq,
    task::Task,
    unwind::{self, Trace},
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
    /// Only the log tells of it: no stack in memory is that of the deed.
    pub by_log: bool,
}

impl Verdict {
    fn new(class: &'static str, title: impl Into<String>, task: Option<u64>, guilty: Trace) -> Verdict {
        Verdict { class, title: title.into(), evidence: Vec::new(), task, guilty, by_log: false }
    }

    fn because(mut self, why: impl Into<String>) -> Verdict {
        self.evidence.push(why.into());
        self
    }

    fn by_log(mut self, why: &str) -> Verdict {
        self.by_log = true;
        self.because(why)
    }

    fn because_of(mut self, why: Option<String>) -> Verdict {
        self.evidence.extend(why);
        self
    }

    /// Whether nothing is wrong.
    pub fn is_fine(&self) -> bool {
        self.class == "none"
    }
}

/// The crash with what is derived from it.
struct Case<'a> {
    cx: &'a Cx<'a>,
    crash: &'a Crash,
    /// names of the functions on the stack of what died
    names: Vec<String>,
    /// of those, how many were called by an exception or interrupt
    handlers: usize,
}

/// Functions that say by themselves what they are called for: which, and what it means. Looked for among those that were
/// called after the exception, if there was one, then all.
const TELLING: &[(&[&str], &str, &str)] = &[
    (&["sysrq_handle_crash"], "sysrq", "somebody asked for a crash (sysrq-c)"),
    (
        &["out_of_memory", "mem_cgroup_out_of_memory", "pagefault_out_of_memory"],
        "oom",
        "out of memory, and told to panic then",
    ),
    (
        &["watchdog_timer_fn", "watchdog_check_softlockup"],
        "soft-lockup",
        "soft lockup: a CPU ran kernel code and let no task run",
    ),
    (
        &["watchdog_overflow_callback", "watchdog_hardlockup_check", "watchdog_buddy_check_hardlockup"],
        "hard-lockup",
        "hard lockup: a CPU served no interrupts",
    ),
    (
        &[
            "rcu_sched_clock_irq",
            "print_cpu_stall",
            "print_other_cpu_stall",
            "panic_on_rcu_stall",
            "check_cpu_stall",
            "synchronize_rcu_expedited_wait",
            "rcu_exp_wait_wake",
        ],
        "rcu-stall",
        "RCU stall: a reader did not end",
    ),
    (&["check_hung_uninterruptible_tasks", "check_hung_task"], "hung-task", "hung task: a sleep that did not end"),
    (
        &["handle_stack_overflow", "handle_bad_stack", "panic_bad_stack", "__bad_stack"],
        "stack-overflow",
        "stack overflow: the kernel stack ran into its guard page",
    ),
    (&["__stack_chk_fail"], "stack-smashed", "a function's stack frame was written over (stack protector)"),
    (
        &[
            "do_machine_check",
            "mce_panic",
            "exc_machine_check",
            "mce_timed_out",
            "ghes_panic",
            "__ghes_panic",
            "ghes_do_proc",
            "arm64_serror_panic",
            "do_serror",
        ],
        "hardware",
        "the hardware reported an error that cannot be survived",
    ),
    (&["__schedule_bug", "__might_resched", "__might_sleep"], "atomic", "code that must not sleep slept"),
    (&["kasan_report", "kasan_report_invalid_free", "end_report"], "kasan", "KASAN found a bad access"),
    (&["kfence_report_error", "kfence_handle_page_fault"], "kfence", "KFENCE found a bad access"),
    (
        &["ubsan_epilogue", "__ubsan_handle_out_of_bounds", "__ubsan_handle_shift_out_of_bounds"],
        "ubsan",
        "UBSAN found undefined behaviour",
    ),
    (&["usercopy_abort", "__check_object_size"], "usercopy", "a copy to or from user space went beyond an object"),
    (&["fortify_panic", "__fortify_panic"], "overflow", "a string or memory function was about to overflow its buffer"),
    (&["skb_panic", "skb_under_panic", "skb_over_panic"], "skb", "a network buffer ran out of room"),
    (
        &["mount_root_generic", "mount_block_root", "mount_root", "prepare_namespace"],
        "no-root",
        "no root file system could be mounted",
    ),
    (
        &["unknown_nmi_error", "io_check_error", "pci_serr_error", "nmi_panic_self_stop"],
        "nmi",
        "a non-maskable interrupt that nobody knows: a button, a management controller or bad hardware",
    ),
];
/// Of those, what comes by an interrupt or exception: it is about what was interrupted.
const BY_INTERRUPT: &[&str] = &["soft-lockup", "hard-lockup", "rcu-stall", "stack-overflow", "hardware", "nmi"];
/// What a BUG() or WARN() in these functions means.
const CHECKS: &[(&[&str], &str, &str)] = &[
    (
        &[
            "__list_add_valid",
            "__list_del_entry_valid",
            "__list_add_valid_or_report",
            "__list_del_entry_valid_or_report",
        ],
        "list-corruption",
        "list corruption",
    ),
    (&["refcount_warn_saturate"], "refcount", "a reference count ran over or under"),
    (&["usercopy_abort"], "usercopy", "a copy to or from user space went beyond an object"),
    (
        &["fortify_panic", "__fortify_panic", "__fortify_report"],
        "overflow",
        "a string or memory function was about to overflow its buffer",
    ),
    (
        &[
            "__slab_free",
            "kfree",
            "kmem_cache_free",
            "do_slab_free",
            "slab_free",
            "set_freepointer",
            "___slab_free",
            "free_to_partial_list",
            "__kmem_cache_free",
            "cache_from_obj",
            "free_to_pcs",
        ],
        "double-free",
        "an object was freed twice, or is none",
    ),
    (&["skb_panic", "skb_under_panic", "skb_over_panic"], "skb", "a network buffer ran out of room"),
    (&["__schedule_bug", "__might_sleep", "__might_resched"], "atomic", "code that must not sleep slept"),
];
/// What only says that something is wrong: between what happened and the stack's top.
const MACHINERY: &[&str] = &[
    "__crash_kexec",
    "crash_kexec",
    "machine_kexec",
    "panic",
    "vpanic",
    "nmi_panic",
    "oops_end",
    "oops_enter",
    "die",
    "__die",
    "die_addr",
    "__die_body",
    "crash_setup_regs",
    "check_panic_on_warn",
    "panic_on_warn",
    "rewind_stack_and_make_dead",
    "vprintk",
    "_printk",
    "printk",
];

impl<'a> Case<'a> {
    fn new(cx: &'a Cx<'a>, crash: &'a Crash) -> Case<'a> {
        let names = names::of(cx, &crash.trace);
        let handlers = crash.interrupted.unwrap_or(names.len()).min(names.len());
        Case { cx, crash, names, handlers }
    }

    /// Functions that were called after the exception.
    fn after(&self) -> &[String] {
        self.names.get(..self.handlers).unwrap_or(&self.names)
    }

    /// Whether one of these was called after the exception.
    fn has(&self, functions: &[&str]) -> Option<usize> {
        self.after().iter().position(|name| functions.contains(&name.as_str()))
    }

    fn starts(&self, beginnings: &[&str]) -> bool {
        self.after().iter().any(|name| beginnings.iter().any(|start| name.starts_with(start)))
    }

    /// The stack from a frame on.
    fn from(&self, frame: usize) -> Trace {
        let mut trace = self.crash.trace.clone();
        trace.frames.drain(..frame.min(trace.frames.len()));
        trace
    }

    /// The stack behind all that only serves the end.
    fn culprit(&self) -> Trace {
        match self.crash.interrupted {
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
    fn place(&self, trace: &Trace) -> String {
        trace.frames.first().map_or_else(|| "unknown code".into(), |frame| self.cx.sym(frame.pc))
    }

    fn said(&self, words: &[&str]) -> Option<String> {
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
        if let Some((functions, class, title)) = TELLING.iter().find(|(functions, ..)| self.has(functions).is_some()) {
            let at = self.has(functions).unwrap_or(0);
            let function = self.names.get(at).cloned().unwrap_or_default();
            let why = format!("{function} is on the stack of what panicked");
            let guilty = match self.crash.interrupted {
                Some(frame) if BY_INTERRUPT.contains(class) => self.from(frame),
                _ => self.from(at + 1),
            };
            let found = Verdict::new(class, *title, task, guilty).because(why);
            return self.refine(found);
        }
        if let Some(found) = self.hung_panic()? {
            return Ok(found);
        }
        if self.crash.interrupted.is_some() && self.is_exception() {
            return self.exception();
        }
        if self.has(&["make_task_dead", "do_exit"]).is_some() && task.is_some_and(|task| crash::is_init(self.cx, task))
        {
            let found =
                Verdict::new("init-died", "the first process ended, and with it the system", task, self.culprit());
            let found = found.because("do_exit of process 1 panicked");
            return Ok(found.because_of(self.said(&["BUG: ", "Oops", "Internal error"])));
        }
        if self.names.is_empty() {
            return self.by_words();
        }
        let culprit = self.culprit();
        let by = self.place(&culprit);
        let title = format!("panic() was called by {by}");
        Ok(Verdict::new("panic", title, task, culprit).because("no exception is on the stack of what panicked"))
    }

    /// Makes the verdicts of watchdogs more exact: they find out about others.
    fn refine(&self, mut found: Verdict) -> Result<Verdict> {
        match found.class {
            "rcu-stall" | "hard-lockup" | "soft-lockup" => {
                if names::of(self.cx, &found.guilty).iter().any(|n| n == "cpu_startup_entry" || n == "do_idle")
                    && let Some((task, trace)) = self.other_cpu()?
                {
                    found.evidence.push("the CPU that noticed was idle: another one runs".into());
                    (found.task, found.guilty) = (Some(task), trace);
                }
                found = self.spins(found);
            }
            "oom" => {
                let frames = names::of(self.cx, &found.guilty);
                let asked = frames.iter().find(|name| !name.starts_with("__alloc") && !name.contains("alloc_pages"));
                found.evidence.extend(asked.map(|name| format!("memory was asked for by {name}")));
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

    /// Says whether the guilty CPU spins on a lock, and whether others do.
    fn spins(&self, mut found: Verdict) -> Verdict {
        let spins = |name: &String| name.contains("spin_lock_slowpath") || name.starts_with("queued_write_lock");
        if names::of(self.cx, &found.guilty).iter().take(3).any(spins) {
            let all = rq::all(self.cx).unwrap_or_default();
            let stacks = all.iter().filter_map(|(_, rq)| unwind::of_task(self.cx, rq.current).ok());
            let spinning = stacks.filter(|trace| names::of(self.cx, trace).iter().any(spins)).count();
            found.evidence.push(match spinning {
                0 | 1 => "it spins on a spinlock that does not come free".into(),
                n => format!("{n} CPUs spin on spinlocks: most likely they wait for each other (AB-BA)"),
            });
        }
        found
    }

    /// What another CPU runs that is not idle.
    fn other_cpu(&self) -> Result<Option<(u64, Trace)>> {
        for (cpu, rq) in rq::all(self.cx)? {
            if self.crash.cpu != Some(cpu) && rq.current != rq.idle {
                return Ok(Some((rq.current, without_stop(self.cx, unwind::of_task(self.cx, rq.current)?))));
            }
        }
        Ok(None)
    }

    /// khungtaskd panicked: its loop is the function `watchdog`, into which the check was inlined.
    fn hung_panic(&self) -> Result<Option<Verdict>> {
        let by = self.crash.task.and_then(|task| self.cx.view::<Task>(task).ok());
        if self.crash.interrupted.is_some() || by.is_none_or(|task| task.comm != "khungtaskd") {
            return Ok(None);
        }
        let found = hung(self.cx, 0)?.map(|found| found.because("khungtaskd, which looks for hung tasks, panicked"));
        Ok(found.map(|found| found.because_of(self.said(&["INFO: task "]))))
    }

    /// Whether what interrupted was an exception, and no interrupt.
    fn is_exception(&self) -> bool {
        self.crash.direct
            || self.starts(&[
                "asm_exc_",
                "exc_",
                "do_mem_abort",
                "do_el1_",
                "el1_abort",
                "el1_undef",
                "el1_dbg",
                "el1_brk",
                "brk_handler",
                "bug_handler",
                "die",
                "__die",
                "oops_end",
                "page_fault_oops",
                "__do_kernel_fault",
                "die_kernel_fault",
                "do_undefinstr",
                "el1h_64_sync",
            ]) && !self.starts(&["asm_exc_nmi"])
    }

    fn exception(&self) -> Result<Verdict> {
        let (task, culprit) = (self.crash.task, self.culprit());
        let (regs, place) = (self.registers(), self.place(&culprit));
        let pc = culprit.frames.first().map_or(0, |frame| frame.pc);
        let entered = self.after().iter().rev().find(|name| name.starts_with("asm_exc_")).cloned();
        let trap = entered.or_else(|| self.crash.entry.clone()).unwrap_or_default();
        let is_trap = || self.code_is_trap(pc);
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
            "asm_exc_page_fault" => self.bad_pointer(task, culprit, pc, regs, false),
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
        Ok(found.because_of(self.said(&[
            "BUG: ",
            "Oops",
            "general protection",
            "kernel BUG",
            "Unable to handle",
            "divide error",
            "list_",
            "WARNING",
        ])))
    }

    /// Whether the code there is what BUG() and WARN() leave: UD2, or BRK 0x800.
    fn code_is_trap(&self, pc: u64) -> bool {
        match self.cx.target.arch() {
            Arch::X86_64 => self.cx.u16(pc).is_ok_and(|code| code == 0x0b0f),
            _ => self.cx.u32(pc).is_ok_and(|code| code == 0xd421_0000),
        }
    }

    /// A BUG() or WARN().
    fn check(&self, task: Option<u64>, culprit: Trace, pc: u64) -> Result<Verdict> {
        let warned = self.has(&["__warn", "check_panic_on_warn", "__warn_printk", "__report_bug"]).is_some()
            && self.has(&["die", "oops_end"]).is_none();
        let top: Vec<String> = names::of(self.cx, &culprit).into_iter().take(2).collect();
        let place = self.place(&culprit);
        let source = match bug::source(self.cx, pc) {
            Err(e) if e.is_control() => return Err(e),
            found => found.unwrap_or(None),
        };
        let what = if warned { "WARN()" } else { "BUG()" };
        let known = CHECKS.iter().find(|(functions, ..)| top.iter().any(|name| functions.contains(&name.as_str())));
        let found = match known {
            Some((_, class, title)) => Verdict::new(class, format!("{title}, found by {place}"), task, culprit),
            None if warned => Verdict::new("warn", format!("WARN() in {place}, and told to panic then"), task, culprit),
            None => Verdict::new("bug", format!("BUG() in {place}"), task, culprit),
        };
        Ok(found.because_of(source.map(|(file, line)| format!("{what} at {file}:{line}"))))
    }

    /// The stack pointer and where the stack of the task begins.
    fn stack_pointer(&self) -> Option<(u64, u64)> {
        let sp = self.registers().iter().find(|(name, _)| matches!(name.as_str(), "rsp" | "sp")).map(|(_, sp)| *sp)?;
        let at = self.crash.task?.wrapping_add(self.cx.offset("task_struct", "stack").ok()?);
        Some((sp, self.cx.u64(at).ok()?))
    }

    /// Whether the stack pointer is below the stack, or so near to its end that the next push goes over it.
    fn ran_over(&self) -> bool {
        self.stack_pointer()
            .is_some_and(|(sp, bottom)| sp < bottom.saturating_add(256) && sp >= bottom.saturating_sub(1 << 14))
    }

    /// A fault while one was being served: with a guard page below each stack, mostly for want of stack.
    fn double_fault(&self, task: Option<u64>, culprit: Trace) -> Verdict {
        let place = self.place(&culprit);
        match self.stack_pointer().filter(|_| self.ran_over()) {
            Some((sp, bottom)) => {
                let title = format!("stack overflow: the kernel stack ran into its guard page, in {place}");
                Verdict::new("stack-overflow", title, task, culprit)
                    .because(format!("the stack pointer was {sp:x}, the stack begins at {bottom:x}"))
            }
            None => Verdict::new("double-fault", format!("double fault in {place}"), task, culprit),
        }
    }

    /// A pointer that led nowhere: which, by its value.
    fn bad_pointer(&self, task: Option<u64>, culprit: Trace, pc: u64, regs: &Registers, protection: bool) -> Verdict {
        if let Some(found) = self.bad_jump(task, &culprit, pc) {
            return found;
        }
        let place = self.place(&culprit);
        let named = task.and_then(|task| self.cx.view::<crash::Trap>(task).ok()).and_then(|trap| trap.address);
        let Some(access) = fault::access(self.cx, pc, regs).or_else(|| {
            // of instructions without an operand that could be read, what the exception left behind
            named.filter(|addr| *addr != 0 && !protection).map(|addr| Access { addr, base: addr, write: false })
        }) else {
            let class = if protection { "bad-pointer" } else { "bad-access" };
            return Verdict::new(class, format!("an access to memory that is not there, in {place}"), task, culprit);
        };
        let (addr, verb) = (access.addr, if access.write { "write to" } else { "read of" });
        let why = format!("the instruction at {place} is a {verb} {addr:#x}");
        let (class, what) = self.address(&access, protection);
        Verdict::new(class, format!("{what}: {verb} {addr:#x} in {place}"), task, culprit).because(why)
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
                None => ("no-exec", format!("jump to {}, which is no code", self.cx.sym(pc))),
            },
        };
        let guilty = if rest.frames.is_empty() { culprit.clone() } else { rest };
        Some(
            Verdict::new(class, format!("{what}, by {caller}"), task, guilty)
                .because(format!("the instruction pointer was {pc:#x}")),
        )
    }

    /// Nothing but the log is left of what panicked.
    fn by_words(&self) -> Result<Verdict> {
        let words = &self.crash.words;
        let Some(said) = words.panic.as_ref().or(words.reports.last()) else { return state(self.cx, self.crash) };
        let class = by_message(said).or_else(|| words.reports.iter().rev().find_map(|line| by_message(line)));
        let found = Verdict::new(class.unwrap_or("panic"), said.clone(), self.crash.task, self.crash.trace.clone());
        Ok(found.by_log("told by the log alone: the stack of what panicked is not known"))
    }
}

/// Whether the upper bits of an address are all the same, with 57 bits or less of it used.
fn canonical(addr: u64) -> bool {
    matches!((addr as i64) >> 56, 0 | -1)
}

/// The stack of a CPU that was stopped for the dump, without what stopped it.
fn without_stop(cx: &Cx<'_>, mut trace: Trace) -> Trace {
    let stopped = |name: &String| {
        name.starts_with("asm_exc_nmi")
            || name.contains("reboot")
            || name.contains("cpu_stop")
            || name.contains("crash_nmi")
    };
    let handlers = trace.frames.iter().position(|frame| frame.regs.is_some()).unwrap_or(0);
    if names::of(cx, &trace).get(..handlers).unwrap_or_default().iter().any(stopped) {
        trace.frames.drain(..handlers);
    }
    trace
}

/// The class that a line of the log names.
fn by_message(line: &str) -> Option<&'static str> {
    const WORDS: &[(&str, &str)] = &[
        ("NULL pointer dereference", "null-deref"),
        ("hung_task", "hung-task"),
        ("blocked for more than", "hung-task"),
        ("soft lockup", "soft-lockup"),
        ("softlockup", "soft-lockup"),
        ("hard LOCKUP", "hard-lockup"),
        ("rcu: INFO", "rcu-stall"),
        ("RCU Stall", "rcu-stall"),
        ("Out of memory", "oom"),
        ("stack guard page", "stack-overflow"),
        ("kernel stack overflow", "stack-overflow"),
        ("stack-protector", "stack-smashed"),
        ("sysrq triggered crash", "sysrq"),
        ("Attempted to kill init", "init-died"),
        ("Unable to mount root", "no-root"),
        ("list_add", "list-corruption"),
        ("list_del", "list-corruption"),
        ("scheduling while atomic", "atomic"),
        ("Bad page state", "bad-page"),
        ("divide error", "divide-error"),
        ("invalid opcode", "invalid-opcode"),
        ("kernel BUG at", "bug"),
        ("Machine check", "hardware"),
        ("NMI", "nmi"),
        ("KASAN", "kasan"),
        ("KFENCE", "kfence"),
        ("general protection fault", "bad-pointer"),
        ("unable to handle page fault", "bad-access"),
        ("paging request", "bad-access"),
        ("panic_on_warn", "warn"),
        ("WARNING: ", "warn"),
    ];
    WORDS.iter().find(|(word, _)| line.contains(word)).map(|(_, class)| *class)
}

/// Tasks in uninterruptible sleep for at least `seconds`, as a verdict: of a ring of them if there is one, else of that
/// which sleeps the longest.
fn hung(cx: &Cx<'_>, seconds: u64) -> Result<Option<Verdict>> {
    let waits = Waits::of(cx)?;
    let rings = waits.cycles();
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
    let sleeps = |task: u64| cx.view::<Task>(task).is_ok_and(|task| task.state() == 'D');
    let long = |since: Option<u64>| since.is_some_and(|ns| ns / 1_000_000_000 >= seconds);
    let longest = waits.iter().filter(|wait| long(wait.since) && sleeps(wait.task)).max_by_key(|wait| wait.since);
    let Some(wait) = longest else { return Ok(None) };
    let secs = wait.since.unwrap_or(0) / 1_000_000_000;
    let title = format!("hung task: {} for {secs} s", blocked::sentence(cx, wait));
    let mut found = Verdict::new("hung-task", title, Some(wait.task), unwind::of_task(cx, wait.task)?);
    for next in waits.chain(wait.task).iter().skip(1) {
        found.evidence.push(blocked::sentence(cx, next));
    }
    Ok(Some(found))
}

/// No CPU panicked: what is wrong with the system as it was.
fn state(cx: &Cx<'_>, crash: &Crash) -> Result<Verdict> {
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
        return Ok(Verdict::new("rcu-stall", format!("RCU waits for its readers for {seconds} s"), task, guilty));
    }
    if let Some(found) = hung(cx, HUNG)? {
        return Ok(found.because("nobody panicked"));
    }
    let said = |words: &[&str]| {
        crash.words.reports.iter().rev().find(|line| words.iter().any(|word| line.contains(word))).cloned()
    };
    if let Some(line) = said(&["BUG: ", "Oops", "kernel BUG", "Internal error", "general protection"]) {
        // an oops has several first lines, one of which says what it was
        let line =
            crash.words.reports.iter().rev().take(4).find(|line| by_message(line).is_some()).cloned().unwrap_or(line);
        let class = by_message(&line).unwrap_or("oops");
        return Ok(
            Verdict::new(class, format!("{line}; the kernel lived on"), None, none()).by_log("told by the log alone")
        );
    }
    if let Some(kills) = crash::oom_kills(cx).filter(|kills| *kills > 0) {
        let title = format!("out of memory: {kills} processes were killed, the kernel lived on");
        let mut found = Verdict::new("oom-kill", title, None, none());
        found.evidence.extend(crash.words.killed.last().map(|line| format!("the log: {line}")));
        return Ok(found);
    }
    if let Some(line) = said(&["WARNING", "list_", "rcu: INFO", "INFO: task"]) {
        let class = by_message(&line).unwrap_or("warn");
        return Ok(
            Verdict::new(class, format!("{line}; the kernel lived on"), None, none()).by_log("told by the log alone")
        );
    }
    Ok(Verdict::new(
        "none",
        "nothing is wrong that was looked for: no panic, no hung task, no deadlock, no stuck CPU",
        None,
        none(),
    ))
}

/// Seconds of uninterruptible sleep that are too long, where nobody says otherwise: the kernel's own default.
const HUNG: u64 = 120;

/// What happened.
pub fn of(cx: &Cx<'_>, crash: &Crash) -> Result<Verdict> {
    if cpu::panicked(cx).is_none() {
        return match crash.words.panic {
            Some(_) => Case::new(cx, crash).by_words(),
            None => state(cx, crash),
        };
    }
    Case::new(cx, crash).verdict()
}

//! Stacks that ran over, or were written over: the stack pointer and the return addresses say so, whatever exception came of
//! it.
//!
//! ```console
//! > ::triage -1
//! … CLASS          TITLE
//! … stack-overflow stack overflow: the kernel stack ran into its guard page, in crasher`crash_deep+0x2c
//! ```

use super::class::{Case, Verdict};
use crate::dis;
use engine::targets::Arch;
use walkers::{cpu_stack::CpuStacks, task_stack::Stacks, unwind::Trace};

/// Instructions of a function's beginning that are looked through for the room that it takes on the stack.
const PROLOGUE: usize = 64;

/// How many bytes an instruction takes off the stack pointer by itself: `sub $0x40, %rsp`, `sub sp, sp, #0x40`.
fn takes(text: &str) -> u64 {
    let Some(rest) = text.strip_prefix("sub") else { return 0 };
    let on_stack = rest.ends_with("%rsp") || rest.trim_start().starts_with("sp, sp,");
    let number = rest.split(['$', '#']).nth(1).unwrap_or_default();
    let hex = number.strip_prefix("0x").map(|hex| hex.split(|c: char| !c.is_ascii_hexdigit()).next().unwrap_or(""));
    let shifted = if text.contains("lsl #12") || text.contains("lsl #0xc") { 12 } else { 0 };
    hex.and_then(|hex| u64::from_str_radix(hex, 16).ok()).filter(|_| on_stack).map_or(0, |n| n << shifted)
}

impl Case<'_> {
    fn register(&self, names: &[&str]) -> Option<u64> {
        self.crash.registers.iter().find(|(name, _)| names.contains(&name.as_str())).map(|(_, value)| *value)
    }

    /// Where the stack begins that the stack pointer has left, or is so near the end of that the next push will.
    fn left(&self, sp: u64) -> Option<u64> {
        /// what a guard page is, and what a function takes without touching all of it
        const BELOW: u64 = 1 << 14;
        const NEAR: u64 = 256;
        let at = self.crash.task?.wrapping_add(self.cx.offset("task_struct", "stack").ok()?);
        let task = self.cx.u64(at).ok();
        let stacks = CpuStacks::of(self.cx).ok();
        let others = stacks.iter().filter(|all| all.at(sp).is_none()).flat_map(|all| all.all());
        let mut bottoms = task.into_iter().chain(others.map(|stack| stack.range.start));
        bottoms.find(|bottom| (bottom.saturating_sub(BELOW)..bottom.saturating_add(NEAR)).contains(&sp))
    }

    /// Whether the stack pointer is below the stack, or nearly.
    pub(super) fn ran_over(&self) -> bool {
        self.register(&["rsp", "sp"]).is_some_and(|sp| self.left(sp).is_some())
    }

    /// The room that a function has taken on the stack before `pc`, if it is more than is behind a guard page.
    fn room(&self, pc: u64) -> u64 {
        let Some(start) = self.cx.symbols.by_addr(self.cx, pc).map(|symbol| symbol.addr) else { return 0 };
        let (mut at, mut room) = (start, 0u64);
        for _ in 0..PROLOGUE {
            let Some((text, len)) = dis::disassemble(self.cx, at).filter(|_| at < pc) else { break };
            room = room.saturating_add(takes(&text));
            at = at.wrapping_add(len as u64);
        }
        room
    }

    /// Whether a function took so much at once that it is far below the stack: how much, and where that stack begins.
    fn leapt(&self, sp: u64, pc: u64) -> Option<(u64, u64)> {
        let room = self.room(pc);
        let before = sp.saturating_add(room);
        let tasks = Stacks::of(self.cx).ok()?;
        let cpus = CpuStacks::of(self.cx).ok()?;
        if room == 0 || tasks.at(sp).is_some() || cpus.at(sp).is_some() {
            return None;
        }
        let start = tasks.at(before).map(|stack| stack.range.start);
        start.or_else(|| cpus.at(before).map(|stack| stack.range.start)).map(|start| (room, start))
    }

    /// A fault while one was being served: with a guard page below each stack, mostly for want of stack.
    pub(super) fn double_fault(&self, task: Option<u64>, culprit: Trace) -> Verdict {
        let (place, sp) = (self.place(&culprit), self.register(&["rsp", "sp"]).unwrap_or(0));
        if let Some(bottom) = self.left(sp) {
            let title = format!("stack overflow: the kernel stack ran into its guard page, in {place}");
            return Verdict::new("stack-overflow", title, task, culprit)
                .because(format!("the stack pointer was {sp:x}, the stack begins at {bottom:x}"));
        }
        match culprit.frames.first().and_then(|frame| self.leapt(sp, frame.pc)) {
            Some((room, start)) => {
                let title =
                    format!("stack overflow: a function took {room} bytes of the kernel stack at once, in {place}");
                Verdict::new("stack-overflow", title, task, culprit)
                    .because(format!("the stack pointer was {sp:x}, the stack begins at {start:x}"))
            }
            None => Verdict::new("double-fault", format!("double fault in {place}"), task, culprit),
        }
    }

    /// The scheduler found that the last word of a stack is not what it was set to (CONFIG_SCHED_STACK_END_CHECK).
    pub(super) fn stack_end(&self, culprit: &Trace) -> Option<Verdict> {
        /// `STACK_END_MAGIC` (include/uapi/linux/magic.h)
        const MAGIC: u64 = 0x57ac_6e9d;
        let by_scheduler = self.has(&["__schedule", "schedule_debug"]).is_some();
        let at = self.crash.task?.wrapping_add(self.cx.offset("task_struct", "stack").ok()?);
        let word = self.cx.u64(at).and_then(|stack| self.cx.u64(stack)).ok()?;
        let title = "stack overflow: the end of the kernel stack was written over, as the scheduler found";
        let found = Verdict::new("stack-overflow", title, self.crash.task, culprit.clone());
        (by_scheduler && word != MAGIC)
            .then(|| found.because(format!("its last word is {word:#x}, and was {MAGIC:#x}")))
    }

    /// A processor that refuses to return to what is no address faults at the instruction that returns.
    pub(super) fn bad_return(&self, task: Option<u64>, culprit: &Trace, pc: u64, protection: bool) -> Option<Verdict> {
        let (text, _) = dis::disassemble(self.cx, pc).filter(|(text, _)| protection && text.starts_with("ret"))?;
        let to = self.cx.u64(self.register(&["rsp"])?).ok()?;
        Some(self.smashed(task, culprit.clone(), to).because(format!("the instruction at fault is {text}")))
    }

    /// Whether `pc` was returned to, and not called: then it is right below the stack pointer on x86-64, and in the link
    /// register on arm64. A call by a pointer may be made by a return (retpoline): then the thunk that does it was called
    /// just before, or jumped to with the pointer in a register that functions need not preserve.
    pub(super) fn returned_to(&self, pc: u64) -> bool {
        if self.cx.target.arch() != Arch::X86_64 {
            return self.register(&["x30"]) == Some(pc);
        }
        let Some(sp) = self.register(&["rsp"]) else { return false };
        let scratch = |name: &str| matches!(name, "rax" | "rcx" | "rdx" | "rsi" | "rdi" | "r8" | "r9" | "r10" | "r11");
        let mut pointers = self.crash.registers.iter().filter(|(name, value)| *value == pc && name != "rip");
        let by_thunk = self.behind_thunk(sp);
        let by_pointer = pointers.any(|(name, _)| by_thunk || scratch(name));
        self.cx.u64(sp.wrapping_sub(8)).ok() == Some(pc) && !by_pointer
    }

    /// Whether the word at an address is behind the call of a retpoline.
    fn behind_thunk(&self, at: u64) -> bool {
        const CALL: u64 = 5;
        let Ok(back) = self.cx.u64(at) else { return false };
        dis::disassemble(self.cx, back.wrapping_sub(CALL)).is_some_and(|(text, _)| text.contains("__x86_indirect"))
    }

    /// A return address was written over.
    pub(super) fn smashed(&self, task: Option<u64>, guilty: Trace, to: u64) -> Verdict {
        let place = self.place(&guilty);
        let title =
            format!("return to {to:#x}, which is no code: a return address was written over, in or below {place}");
        Verdict::new("stack-smashed", title, task, guilty)
            .because(format!("{to:#x} was on the stack, and was not called"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_on_the_stack() {
        assert_eq!(takes("subq $0x10008, %rsp"), 0x10008);
        assert_eq!(takes("subq $0x10, %rax"), 0);
        assert_eq!(takes("sub sp, sp, #0x40"), 0x40);
        assert_eq!(takes("sub sp, sp, #0x10, lsl #12"), 0x10000);
        assert_eq!(takes("addq $0x10, %rsp"), 0);
    }
}

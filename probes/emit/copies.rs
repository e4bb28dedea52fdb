//! A copy of a process's stack, as far as that reaches.
//!
//! perf's copies have one length, and 16 KB for each hit are more than a busy probe's ring takes. But most stacks are shallow,
//! and where they end is known: what a process began with lies above its first thread's frames, and that of which the
//! thread's register points to above those of each other.

use super::Emit;
use crate::{
    recording::{Reach, STACK_COPY},
    source::register,
};
use bpf::{
    Helper, Reg, Size,
    insn::{Cond, Op},
};

/// Bytes that are read at once: of what cannot be read so much is missing at most.
const PIECE: i32 = 2048;

impl Emit {
    /// Copies the stack behind what is laid out; how many bytes is in the slot for the length of a stack.
    pub(super) fn copy(&mut self, reach: Reach, to: usize) {
        let (task, word) = (self.slot(8), self.slot(8));
        let Some(sp) = register("rsp").or_else(|| register("sp")) else { return };
        if reach.registers {
            self.asm.call(Helper::GetCurrentTaskBtf).mov(Reg::R1, Reg::R0).call(Helper::TaskPtRegs);
            self.asm.store(Size::Double, Reg::Fp, task, Reg::R0);
            self.word(task, sp.into(), word);
            self.asm.load(Size::Double, Reg::R9, Reg::Fp, word);
        } else {
            self.asm.load(Size::Double, Reg::R9, Reg::R6, sp as i16);
        }
        self.asm.store_imm(Size::Double, Reg::Fp, self.depth, STACK_COPY as i32);
        self.asm.call(Helper::GetCurrentTask).store(Size::Double, Reg::Fp, task, Reg::R0);
        self.word(task, reach.mm, word);
        self.word(word, reach.start_stack, word);
        self.shorten(word);
        if let Some(thread) = reach.thread {
            self.word(task, thread, word);
            self.shorten(word);
        }
        // whole words
        self.asm.load(Size::Double, Reg::R1, Reg::Fp, self.depth).alu(Op::Add, Reg::R1, 7).alu(Op::And, Reg::R1, -8);
        self.asm.store(Size::Double, Reg::Fp, self.depth, Reg::R1);
        let done = self.asm.label();
        for from in (0..STACK_COPY as i32).step_by(PIECE as usize) {
            let (last, next) = (self.asm.label(), self.asm.label());
            self.asm.load(Size::Double, Reg::R2, Reg::Fp, self.depth).alu(Op::Add, Reg::R2, -from);
            self.asm.jump_if(Cond::SignedLe, Reg::R2, 0, done).jump_if(Cond::Le, Reg::R2, PIECE, last);
            self.asm.mov(Reg::R2, PIECE).place(last);
            self.asm.mov(Reg::R1, Reg::R7).alu(Op::Add, Reg::R1, to as i32 + from);
            self.asm.mov(Reg::R3, Reg::R9).alu(Op::Add, Reg::R3, from);
            self.asm.call(Helper::ProbeReadUser).jump_if(Cond::Eq, Reg::R0, 0, next);
            self.asm.store_imm(Size::Double, Reg::Fp, self.depth, from).jump(done).place(next);
        }
        self.asm.place(done);
        self.used -= 16;
    }

    /// The copy reaches no further than the address in the slot, if that is above the stack pointer.
    fn shorten(&mut self, end: i16) {
        let beyond = self.asm.label();
        self.asm.load(Size::Double, Reg::R1, Reg::Fp, end).alu(Op::Sub, Reg::R1, Reg::R9);
        self.asm.load(Size::Double, Reg::R2, Reg::Fp, self.depth).jump_if(Cond::Ge, Reg::R1, Reg::R2, beyond);
        self.asm.store(Size::Double, Reg::Fp, self.depth, Reg::R1).place(beyond);
    }
}

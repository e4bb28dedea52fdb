//! Frames of a program by its frame pointers, followed here.
//!
//! The kernel's helper does the same, but tries to read on where the chain has ended, and such a fault costs more than the
//! rest of the probe. That it ended is told by the pointer here: the first pages of a process hold no frame. And what lies
//! next to the stack pointer is had by one read, for each costs as much as hundreds of bytes: most frames are small.

use super::Emit;
use crate::source::register;
use bpf::{
    Helper, Reg, Size,
    insn::{Cond, Op},
};

/// What the code segment is in 64-bit mode (`__USER_CS`); programs of 32 bits have other frames.
const USER_CS: i32 = 0x33;
/// Where the first frame can be: below that nothing is mapped (`vm.mmap_min_addr`).
const LEAST: i32 = 1 << 16;
/// Bytes next to the stack pointer that are read at once.
const NEAR: usize = 512;
/// Frames that are looked for in them.
const NEAR_FRAMES: usize = 12;

impl Emit {
    /// Lays out the addresses of the frames, with a zero behind the last. At a function's entry its return address is on
    /// top of the stack yet, and no frame leads to it.
    pub(super) fn frames(&mut self, at: usize, room: usize, entry: bool, bit: u32) {
        let (Some(ip), Some(sp), Some(bp), Some(cs)) =
            (register("rip"), register("rsp"), register("rbp"), register("cs"))
        else {
            return self.by_helper(at, room, entry, bit);
        };
        let (other, done) = (self.asm.label(), self.asm.label());
        // a frame as it lies in memory: where the next one is, and the return address
        let frame = self.slot(16);
        self.asm.load(Size::Double, Reg::R1, Reg::R6, cs as i16).jump_if(Cond::Ne, Reg::R1, USER_CS, other);
        self.asm.load(Size::Double, Reg::R1, Reg::R6, ip as i16).store(Size::Double, Reg::R7, at as i16, Reg::R1);
        self.asm.load(Size::Double, Reg::R1, Reg::R6, bp as i16).store(Size::Double, Reg::Fp, frame, Reg::R1);
        self.asm.load(Size::Double, Reg::R9, Reg::R6, sp as i16);
        // the end of the room, which so few frames do not reach
        let near = (room >= NEAR + (NEAR_FRAMES + 2) * 8).then_some(at + room - NEAR);
        if let Some(near) = near {
            let fine = self.asm.label();
            self.asm.mov(Reg::R1, Reg::R7).alu(Op::Add, Reg::R1, near as i32).mov(Reg::R2, NEAR as i32);
            self.asm.mov(Reg::R3, Reg::R9).call(Helper::ProbeReadUser).jump_if(Cond::Eq, Reg::R0, 0, fine);
            // no frame is as near to that
            self.asm.mov(Reg::R9, 0).place(fine);
        }
        for (i, to) in (at + 8..at + room).step_by(8).enumerate() {
            self.asm.store_imm(Size::Double, Reg::R7, to as i16, 0);
            let (read, there) = (self.asm.label(), self.asm.label());
            let near = near.filter(|_| i < NEAR_FRAMES);
            let (into, len) = match entry && i == 0 {
                true => {
                    self.asm.load(Size::Double, Reg::R3, Reg::R6, sp as i16);
                    (frame + 8, 8usize)
                }
                false => {
                    self.asm.load(Size::Double, Reg::R3, Reg::Fp, frame).jump_if(Cond::Lt, Reg::R3, LEAST, done);
                    (frame, 16)
                }
            };
            if let Some(near) = near {
                self.asm.mov(Reg::R1, Reg::R3).alu(Op::Sub, Reg::R1, Reg::R9);
                self.asm.jump_if(Cond::Gt, Reg::R1, (NEAR - len) as i32, read).alu(Op::Add, Reg::R1, Reg::R7);
                for word in (0..len).step_by(8) {
                    self.asm.load(Size::Double, Reg::R2, Reg::R1, (near + word) as i16);
                    self.asm.store(Size::Double, Reg::Fp, into + word as i16, Reg::R2);
                }
                self.asm.jump(there).place(read);
            }
            self.asm.mov(Reg::R1, Reg::Fp).alu(Op::Add, Reg::R1, i32::from(into)).mov(Reg::R2, len as i32);
            self.asm.call(Helper::ProbeReadUser).jump_if(Cond::Ne, Reg::R0, 0, done).place(there);
            self.asm.load(Size::Double, Reg::R1, Reg::Fp, frame + 8).jump_if(Cond::Eq, Reg::R1, 0, done);
            self.asm.store(Size::Double, Reg::R7, to as i16, Reg::R1);
        }
        self.asm.jump(done).place(other);
        self.stack(at, room, super::USER_STACK, bit);
        self.asm.place(done);
        self.used -= 16;
    }

    /// The same by the kernel's helper. arm64 signs return addresses, and it knows what to take off; but at a function's
    /// entry its caller is in the link register yet, and in no frame.
    fn by_helper(&mut self, at: usize, room: usize, entry: bool, bit: u32) {
        let registers = (register("pc"), register("lr"));
        let (true, (Some(pc), Some(lr)), true) = (entry, registers, room > 16) else {
            return self.stack(at, room, super::USER_STACK, bit);
        };
        // behind the first, which the caller takes the place of
        self.stack(at + 8, room - 8, super::USER_STACK, bit);
        for (to, from) in [(at, pc), (at + 8, lr)] {
            self.asm.load(Size::Double, Reg::R1, Reg::R6, from as i16);
            self.asm.store(Size::Double, Reg::R7, to as i16, Reg::R1);
        }
    }
}

//! Texts: copied to where they are kept, and compared with what is known beforehand.

use super::Emit;
use crate::{
    Error, Result,
    expr::{Space, Text},
    program::MOST_COMPARED,
};
use bpf::{
    Helper, Reg, Size,
    insn::{Cond, Op},
};

impl Emit {
    /// Copies a text to R7's memory; R0 is its length with the NUL, where that is known.
    pub(super) fn text(&mut self, text: &Text, to: usize, max: usize) -> Result<()> {
        let space = match text {
            Text::Comm => {
                self.asm.mov(Reg::R1, Reg::R7).alu(Op::Add, Reg::R1, to as i32).mov(Reg::R2, max as i32);
                self.asm.call(Helper::GetCurrentComm);
                self.check();
                return Ok(());
            }
            Text::Context { offset, len: _ } => {
                self.asm.mov(Reg::R3, Reg::R6).alu(Op::Add, Reg::R3, i32::from(*offset));
                Space::Kernel
            }
            Text::Saved { offset, len: _ } => {
                self.asm.mov(Reg::R3, Reg::R7).alu(Op::Add, Reg::R3, self.saved as i32 + i32::from(*offset));
                Space::Kernel
            }
            Text::Located { word, behind } => {
                self.asm.load(Size::Word, Reg::R3, Reg::R6, *word as i16).alu(Op::And, Reg::R3, 0xffff);
                if *behind {
                    self.asm.alu(Op::Add, Reg::R3, i32::from(*word) + 4);
                }
                self.asm.alu(Op::Add, Reg::R3, Reg::R6);
                Space::Kernel
            }
            Text::Memory { space, at } => {
                self.int(at)?;
                self.asm.mov(Reg::R3, Reg::R0);
                *space
            }
        };
        let max = match text {
            Text::Context { len, .. } | Text::Saved { len, .. } => max.min(usize::from(*len)),
            _ => max,
        };
        self.asm.mov(Reg::R1, Reg::R7).alu(Op::Add, Reg::R1, to as i32).mov(Reg::R2, max as i32);
        match (space, text) {
            (Space::User, _) => {
                self.asm.call(Helper::ProbeReadUserStr);
            }
            // what a function of the kernel is given may be an address of the process's, and types do not say so
            (Space::Kernel, Text::Memory { .. }) => {
                let (user, done) = (self.asm.label(), self.asm.label());
                self.asm.jump_if(Cond::SignedGe, Reg::R3, 0, user).call(Helper::ProbeReadKernelStr).jump(done);
                self.asm.place(user).call(Helper::ProbeReadUserStr).place(done);
            }
            (Space::Kernel, _) => {
                self.asm.call(Helper::ProbeReadKernelStr);
            }
        }
        self.check();
        Ok(())
    }

    /// R0 = whether a text is that one, or begins with it.
    pub(super) fn compare_text(&mut self, text: &Text, with: &[u8], prefix: bool) -> Result<()> {
        // one character more tells whether the text goes on
        let room = (with.len() + 2).next_multiple_of(8);
        if room > MOST_COMPARED {
            return Err(Error::Wrong(format!("texts are compared up to {} bytes", MOST_COMPARED - 2)));
        }
        self.zero(self.compared, room);
        let max = if *text == Text::Comm { 16 } else { with.len() + if prefix { 1 } else { 2 } };
        let room = room.max(max.next_multiple_of(8));
        self.zero(self.compared, room);
        self.text(text, self.compared, max)?;
        let mut wanted = with.to_vec();
        wanted.resize(room, 0);
        let mut mask = vec![0xffu8; with.len()];
        mask.resize(room, if prefix { 0 } else { 0xff });
        let (differs, done) = (self.asm.label(), self.asm.label());
        for (i, (word, mask)) in wanted.as_chunks::<8>().0.iter().zip(mask.as_chunks::<8>().0).enumerate() {
            let (word, mask) = (u64::from_ne_bytes(*word), u64::from_ne_bytes(*mask));
            if mask == 0 {
                break;
            }
            self.asm.load(Size::Double, Reg::R1, Reg::R7, (self.compared + i * 8) as i16);
            if mask != u64::MAX {
                self.asm.wide(Reg::R2, mask).alu(Op::And, Reg::R1, Reg::R2);
            }
            self.asm.wide(Reg::R2, word).jump_if(Cond::Ne, Reg::R1, Reg::R2, differs);
        }
        self.asm.mov(Reg::R0, 1).jump(done).place(differs).mov(Reg::R0, 0).place(done);
        Ok(())
    }
}

//! Counting at a hit: the values are a key, and its entry in a table is changed.
//!
//! An entry's words are: hits, sum, least, most. Each CPU has its own, so plain additions do. Of a key that is too long for
//! the kernel's tables a digest is computed, which is the key then; the key itself goes into a table beside. A key that has come
//! before is found in the CPU's own memory ([`Seats`]), mostly.

use super::Emit;
use crate::{
    Result,
    counted::{Counted, DIGEST, Seats},
    expr::{Int, Value},
    program::{COUNTERS, ENTRY, HEADER, counter},
};
use bpf::{
    Asm, Helper, Reg, Size,
    insn::{Cond, Label, Op, Operand},
};

/// Odd numbers that scatter what is multiplied by them: the golden ratio's, and that of the Mersenne twister's 64-bit kind.
const FACTORS: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 6_364_136_223_846_793_005];

/// Where a key is: an offset in a register's memory.
pub(super) type Place = (Reg, i32);

impl Emit {
    /// Counts a hit.
    pub(super) fn aggregate(&mut self, id: &Int, key: &[Value], of: Option<&Int>, counted: &Counted) -> Result<()> {
        let ((table, keys), at) = (counted.fds(), COUNTERS + HEADER);
        let len = self.values(key, at)?;
        if len == 0 {
            self.asm.store_imm(Size::Double, Reg::R7, at as i16, 0);
        }
        // what could not be read is no key that others have
        let marked = key.iter().any(Value::may_fail);
        if marked {
            self.asm.store(Size::Double, Reg::R7, (at + len) as i16, Reg::R8);
        }
        let kept = self.slot(8);
        if let Some(of) = of {
            self.fallible(|emit| emit.int(of), u32::MAX)?;
            self.asm.store(Size::Double, Reg::Fp, kept, Reg::R0);
        }
        let place = match keys {
            None => (Reg::R7, at as i32),
            Some(_) => self.digest(key, at, marked),
        };
        let (new, full, done) = (self.asm.label(), self.asm.label(), self.asm.label());
        let (absent, known) = (self.asm.label(), self.asm.label());
        let entry = self.seat(counted.seats, place, absent);
        self.asm.mov(Reg::R0, Reg::R9).alu(Op::Add, Reg::R0, i32::from(entry)).jump(known).place(absent);
        self.found(table, place).call(Helper::MapLookup).jump_if(Cond::Eq, Reg::R0, 0, new);
        self.asm.load(Size::Double, Reg::R1, Reg::R9, entry).jump_if(Cond::Ne, Reg::R1, 0, known);
        self.sit(place, entry);
        self.one(of.map(|_| kept), Reg::R9, entry);
        self.asm.jump(done).place(known);
        self.add(0, 1.into());
        if of.is_some() {
            self.asm.load(Size::Double, Reg::R2, Reg::Fp, kept);
            self.add(8, Reg::R2.into());
            // an entry that another CPU made has zeros here, which are no values
            let old = self.asm.label();
            self.asm.load(Size::Double, Reg::R1, Reg::R0, 0).jump_if(Cond::Ne, Reg::R1, 1, old);
            for word in [16, 24] {
                self.asm.store(Size::Double, Reg::R0, word, Reg::R2);
            }
            self.asm.jump(done).place(old);
            self.extreme(16, Cond::SignedGe);
            self.extreme(24, Cond::SignedLe);
        }
        self.asm.jump(done).place(new);
        if let Some(keys) = keys {
            // first, so that nobody finds an entry without its key
            self.found(keys, place).mov(Reg::R3, Reg::R7).alu(Op::Add, Reg::R3, at as i32);
            self.asm.mov(Reg::R4, 0).call(Helper::MapUpdate).jump_if(Cond::Ne, Reg::R0, 0, full);
        }
        self.first(of.map(|_| kept), table, place, full);
        self.asm.jump(done).place(full);
        self.lost(id)?;
        self.asm.place(done);
        Ok(())
    }

    /// Counts a hit that found no room, for the program and for the probe.
    pub(super) fn lost(&mut self, id: &Int) -> Result<()> {
        self.count(counter::LOST);
        if self.tables.lost < 0 {
            return Ok(());
        }
        let (slot, unknown) = (self.slot(8), self.asm.label());
        self.int(id)?;
        self.asm.store(Size::Word, Reg::Fp, slot, Reg::R0);
        self.found(self.tables.lost, (Reg::Fp, slot.into())).call(Helper::MapLookup);
        self.asm.jump_if(Cond::Eq, Reg::R0, 0, unknown);
        self.add(0, 1.into());
        self.asm.place(unknown);
        self.used -= 8;
        Ok(())
    }

    /// Makes the entry of a key's first hit, whose number is in that slot.
    fn first(&mut self, kept: Option<i16>, table: i32, place: Place, full: Label) {
        let entry = self.slot(ENTRY as i16);
        self.one(kept, Reg::Fp, entry);
        self.found(table, place).mov(Reg::R3, Reg::Fp).alu(Op::Add, Reg::R3, i32::from(entry));
        self.asm.mov(Reg::R4, 0).call(Helper::MapUpdate).jump_if(Cond::Ne, Reg::R0, 0, full);
    }

    /// Writes an entry of one hit, whose number is in that slot.
    fn one(&mut self, kept: Option<i16>, base: Reg, entry: i16) {
        for at in (1..4).map(|word| entry + word * 8) {
            match kept {
                Some(kept) => {
                    self.asm.load(Size::Double, Reg::R1, Reg::Fp, kept).store(Size::Double, base, at, Reg::R1)
                }
                None => self.asm.store_imm(Size::Double, base, at, 0),
            };
        }
        self.asm.store_imm(Size::Double, base, entry, 1);
    }

    /// R9 = the seat of a key, where its entry begins so many bytes on; `absent` if somebody else sits there, or nobody.
    fn seat(&mut self, seats: Seats, (base, offset): Place, absent: Label) -> i16 {
        let words = (0..seats.key as i16).step_by(8);
        self.asm.load(Size::Double, Reg::R1, base, offset as i16).wide(Reg::R3, FACTORS[0]);
        for word in words.clone().skip(1) {
            self.asm.alu(Op::Mul, Reg::R1, Reg::R3).load(Size::Double, Reg::R2, base, offset as i16 + word);
            self.asm.alu(Op::Xor, Reg::R1, Reg::R2);
        }
        match seats.bits {
            0 => self.asm.mov(Reg::R1, 0),
            bits => self.asm.alu(Op::Mul, Reg::R1, Reg::R3).alu(Op::Shr, Reg::R1, 64 - bits as i32),
        };
        self.asm.alu(Op::Mul, Reg::R1, seats.size() as i32).alu(Op::Add, Reg::R1, seats.at as i32);
        self.asm.mov(Reg::R9, Reg::R7).alu(Op::Add, Reg::R9, Reg::R1);
        for word in words {
            self.asm.load(Size::Double, Reg::R1, base, offset as i16 + word).load(Size::Double, Reg::R2, Reg::R9, word);
            self.asm.jump_if(Cond::Ne, Reg::R1, Reg::R2, absent);
        }
        let entry = seats.key as i16;
        self.asm.load(Size::Double, Reg::R1, Reg::R9, entry).jump_if(Cond::Eq, Reg::R1, 0, absent);
        entry
    }

    /// Puts a key into the seat at R9.
    fn sit(&mut self, (base, offset): Place, bytes: i16) {
        for word in (0..bytes).step_by(8) {
            self.asm.load(Size::Double, Reg::R1, base, offset as i16 + word).store(
                Size::Double,
                Reg::R9,
                word,
                Reg::R1,
            );
        }
    }

    /// R1 the table, R2 the key.
    pub(super) fn found(&mut self, table: i32, (base, offset): Place) -> &mut Asm {
        self.asm.map(Reg::R1, table).mov(Reg::R2, base).alu(Op::Add, Reg::R2, offset)
    }

    /// Digests a key: each word goes into two numbers, which are multiplied by the factors and folded. Of a stack's or text's room only what is filled is, and the zero behind it.
    fn digest(&mut self, key: &[Value], mut at: usize, marked: bool) -> Place {
        let slot = self.slot(DIGEST as i16);
        self.asm.mov(Reg::R0, 0).mov(Reg::R1, 1).wide(Reg::R3, FACTORS[0]).wide(Reg::R4, FACTORS[1]);
        let parts = key.iter().map(|value| (value.room(), value.ends_in_zero())).chain(marked.then_some((8, false)));
        for (room, ends) in parts {
            let end = self.asm.label();
            for word in (at..at + room).step_by(8) {
                self.asm.load(Size::Double, Reg::R2, Reg::R7, word as i16);
                for (sum, with, factor, shift) in [(Reg::R0, Op::Xor, Reg::R3, 32), (Reg::R1, Op::Add, Reg::R4, 29)] {
                    self.asm.alu(with, sum, Reg::R2).alu(Op::Mul, sum, factor);
                    self.asm.mov(Reg::R5, sum).alu(Op::Shr, Reg::R5, shift).alu(Op::Xor, sum, Reg::R5);
                }
                if ends {
                    self.asm.jump_if(Cond::Eq, Reg::R2, 0, end);
                }
            }
            self.asm.place(end);
            at += room;
        }
        self.asm.store(Size::Double, Reg::Fp, slot, Reg::R0).store(Size::Double, Reg::Fp, slot + 8, Reg::R1);
        (Reg::Fp, slot.into())
    }

    /// Adds to a word of the entry at R0.
    fn add(&mut self, at: i16, what: Operand) {
        self.asm.load(Size::Double, Reg::R1, Reg::R0, at).alu(Op::Add, Reg::R1, what).store(
            Size::Double,
            Reg::R0,
            at,
            Reg::R1,
        );
    }

    /// Puts R2 into a word of the entry at R0, unless it stands in that relation to what is there.
    fn extreme(&mut self, at: i16, unless: Cond) {
        let keep = self.asm.label();
        self.asm.load(Size::Double, Reg::R1, Reg::R0, at).jump_if(unless, Reg::R2, Reg::R1, keep);
        self.asm.store(Size::Double, Reg::R0, at, Reg::R2).place(keep);
    }
}

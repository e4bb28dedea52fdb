//! From what is wanted to instructions: straight code with jumps forward only, so that every verifier since Linux 5.10
//! takes it.
//!
//! At a hit the program counts it, tests the condition, lays the values out one behind the other in memory of its own
//! (one piece for each CPU) and then either emits them, or takes them as the key of a table and adds to its entry.
//!
//! Registers: R6 the context, R7 the CPU's memory, R8 which values could not be read. R0 is where a number is computed,
//! R1 to R5 are lost at every call.

mod aggregate;
mod copies;
mod frames;
mod texts;

use crate::{
    Error, Result,
    counted::Counted,
    expr::{Binary, Current, Int, Space, Test, Unary, Value, Way},
    program::{Action, COUNTERS, HEADER, How, Join, MOST_COMPARED, PLAIN, Spec, counter, room},
    recording::{Reach, STACK_COPY},
};
use bpf::{
    Asm, Helper, Reg, Size, Table,
    insn::{Cond, Insn, Label, Op},
};

/// Descriptors of tables that programs share; -1 where there is none.
#[derive(Clone, Copy)]
pub(crate) struct Tables {
    /// where events go
    pub(crate) rings: i32,
    /// what is between hits
    pub(crate) left: i32,
    /// the processes of a command
    pub(crate) family: i32,
    /// how far a process's stack reaches, if events bring as much of it along
    pub(crate) reach: Option<Reach>,
    /// how often there was no room, by probe
    pub(crate) lost: i32,
}

/// That the stack is the process's (BPF_F_USER_STACK).
const USER_STACK: i32 = 1 << 8;

/// A program in the making.
pub(crate) struct Emit {
    asm: Asm,
    scratch: i32,
    tables: Tables,
    /// where texts that are compared are put, behind the record
    compared: usize,
    /// where a copy is of what an earlier hit left
    saved: usize,
    /// bytes of the stack that are taken
    used: i16,
    /// where on it the bytes of the last stack of frames are told
    depth: i16,
    /// where to go when something cannot be read; whether anybody does
    fault: Option<(Label, bool)>,
    /// whether the verifier knows of what type the context's words are, and refuses to compute with addresses
    typed: bool,
}

impl Emit {
    pub(crate) fn new(scratch: &Table, compared: usize, tables: Tables) -> Emit {
        let (asm, scratch) = (Asm::default(), scratch.fd());
        Emit { asm, scratch, tables, compared, saved: 0, used: 16, depth: -16, fault: None, typed: false }
    }

    pub(crate) fn finish(self) -> Result<Vec<Insn>> {
        self.asm
            .finish()
            .ok_or_else(|| Error::Wrong("the program has jumps that are too long: ask for less at once".into()))
    }

    /// The program of a spec, for one probe or for several. `counted` is where hits are counted.
    pub(crate) fn program(&mut self, spec: &Spec, how: How, counted: Option<&Counted>) -> Result<()> {
        self.typed = how.kind == bpf::Kind::Tracing;
        let out = self.asm.label();
        self.asm.mov(Reg::R6, Reg::R1).store_imm(Size::Word, Reg::Fp, -4, 0);
        self.asm.map(Reg::R1, self.scratch).mov(Reg::R2, Reg::Fp).alu(Op::Add, Reg::R2, -4);
        self.asm.call(Helper::MapLookup).jump_if(Cond::Eq, Reg::R0, 0, out);
        self.asm.mov(Reg::R7, Reg::R0).mov(Reg::R8, 0);
        self.count(counter::HITS);
        if let Some(join) = &spec.join {
            self.join(join, out)?;
        }
        if let Some(test) = &spec.test {
            self.tested(test, out)?;
        }
        self.count(counter::PASSED);
        let id = if how.shared { Int::Current(Current::Probe) } else { Int::Const(spec.id as i64) };
        match &spec.action {
            Action::Emit(values) => {
                let who = spec.join.as_ref().and_then(|join| join.who);
                self.emit(&id, values, who)?;
            }
            Action::Leave { key, what } => self.leave(key, what)?,
            Action::Aggregate { key, of } => {
                let counted = counted.ok_or_else(|| Error::Wrong("nothing to count in".into()))?;
                self.aggregate(&id, key, of.as_ref(), counted)?;
            }
        }
        self.asm.place(out).mov(Reg::R0, spec.result).exit();
        Ok(())
    }

    /// Adds one to a counter.
    fn count(&mut self, word: usize) {
        let at = (word * 8) as i16;
        self.asm.load(Size::Double, Reg::R1, Reg::R7, at).alu(Op::Add, Reg::R1, 1).store(
            Size::Double,
            Reg::R7,
            at,
            Reg::R1,
        );
    }

    /// Leaves by `out` unless the test holds.
    fn tested(&mut self, test: &Test, out: Label) -> Result<()> {
        let fault = self.asm.label();
        self.fault = Some((fault, false));
        self.test(test)?;
        self.asm.jump_if(Cond::Eq, Reg::R0, 0, out);
        if self.fault.take().is_some_and(|(_, used)| used) {
            let on = self.asm.label();
            self.asm.jump(on).place(fault);
            self.count(counter::UNKNOWN);
            self.asm.jump(out).place(on);
        }
        Ok(())
    }

    /// Looks up what was left under a key, copies it behind what is compared, and takes it away.
    fn join(&mut self, join: &Join, out: Label) -> Result<()> {
        let left = self.tables.left;
        let at = self.compared + MOST_COMPARED;
        self.saved = at + self.values(&join.key, at)?;
        let (found, saved) = (self.asm.label(), self.saved);
        self.key(left, at).call(Helper::MapLookup).jump_if(Cond::Ne, Reg::R0, 0, found);
        self.count(counter::ALONE);
        self.asm.jump(out).place(found);
        for word in (0..join.room).step_by(8) {
            self.asm.load(Size::Double, Reg::R1, Reg::R0, word as i16);
            self.asm.store(Size::Double, Reg::R7, (saved + word) as i16, Reg::R1);
        }
        self.key(left, at).call(Helper::MapDelete);
        // what could not be read of the key is no value of the event's
        self.asm.mov(Reg::R8, 0);
        Ok(())
    }

    /// Leaves values under a key.
    fn leave(&mut self, key: &[Value], what: &[Value]) -> Result<()> {
        let left = self.tables.left;
        let at = COUNTERS + HEADER;
        self.values(key, at)?;
        self.values(what, at + room(key))?;
        self.key(left, at).mov(Reg::R3, Reg::R7).alu(Op::Add, Reg::R3, (at + room(key)) as i32);
        self.asm.mov(Reg::R4, 0).call(Helper::MapUpdate);
        let fine = self.asm.label();
        self.asm.jump_if(Cond::Eq, Reg::R0, 0, fine);
        self.count(counter::LOST);
        self.asm.place(fine);
        Ok(())
    }

    fn emit(&mut self, id: &Int, values: &[Value], who: Option<u16>) -> Result<()> {
        let base = COUNTERS as i16;
        let len = self.values(values, COUNTERS + HEADER)?;
        let reach = self.tables.reach.filter(|_| values.contains(&Value::UserStack(0)));
        if let Some(reach) = reach {
            self.copy(reach, COUNTERS + HEADER + len);
        }
        self.int(id)?;
        if reach.is_some() {
            // how long the copy is comes in the upper half
            self.asm.load(Size::Double, Reg::R1, Reg::Fp, self.depth).alu(Op::Shl, Reg::R1, 32);
            self.asm.alu(Op::Or, Reg::R0, Reg::R1);
        }
        self.asm.store(Size::Double, Reg::R7, base, Reg::R0);
        self.asm.call(Helper::KtimeGetNs).store(Size::Double, Reg::R7, base + 8, Reg::R0);
        match who {
            Some(at) => self.asm.load(Size::Double, Reg::R0, Reg::R7, self.saved as i16 + at as i16),
            None => self.asm.call(Helper::GetCurrentPidTgid),
        };
        self.asm.store(Size::Double, Reg::R7, base + 16, Reg::R0);
        self.asm.store(Size::Double, Reg::R7, base + 24, Reg::R8);
        self.asm.mov(Reg::R1, Reg::R6).map(Reg::R2, self.tables.rings);
        self.asm.wide(Reg::R3, u64::from(u32::MAX)); // BPF_F_CURRENT_CPU
        self.asm.mov(Reg::R4, Reg::R7).alu(Op::Add, Reg::R4, i32::from(base));
        let (fine, lost) = (self.asm.label(), self.asm.label());
        // what the last does not fill of its room stays behind
        let (fixed, most) = match values.last() {
            _ if reach.is_some() => (len, STACK_COPY as usize),
            Some(stack @ (Value::KernelStack(_) | Value::UserStack(1..))) => (len - stack.room(), stack.room()),
            _ => (len, 0),
        };
        match most {
            0 => self.asm.mov(Reg::R5, (HEADER + fixed) as i32),
            _ => {
                self.asm.load(Size::Double, Reg::R5, Reg::Fp, self.depth);
                self.asm.jump_if(Cond::Gt, Reg::R5, most as i32, lost);
                self.asm.alu(Op::Add, Reg::R5, (HEADER + fixed) as i32)
            }
        };
        self.asm.call(Helper::PerfEventOutput).jump_if(Cond::Eq, Reg::R0, 0, fine).place(lost);
        self.lost(id)?;
        self.asm.place(fine);
        Ok(())
    }

    /// R1 the table, R2 the key that lies in R7's memory.
    fn key(&mut self, table: i32, at: usize) -> &mut Asm {
        self.found(table, (Reg::R7, at as i32))
    }

    /// Lays values out from `at` on; says how many bytes they take.
    fn values(&mut self, values: &[Value], at: usize) -> Result<usize> {
        let mut to = at;
        for (i, value) in values.iter().enumerate() {
            let bit = i as u32;
            match value {
                Value::Int(int) => {
                    self.fallible(|emit| emit.int(int), bit)?;
                    self.asm.store(Size::Double, Reg::R7, to as i16, Reg::R0);
                }
                Value::Text(text, max) => {
                    self.zero(to, value.room());
                    self.fallible(|emit| emit.text(text, to, usize::from(*max)), bit)?;
                }
                // a copy of the stack comes with the event, behind all else
                Value::UserStack(0) => {}
                Value::Path(way) => {
                    self.zero(to, value.room());
                    self.fallible(|emit| emit.way(way, to), bit)?;
                }
                Value::KernelStack(_) => self.stack(to, value.room(), 0, bit),
                Value::UserStack(_) => self.stack(to, value.room(), USER_STACK, bit),
                Value::UserFrames { entry, .. } => self.frames(to, value.room(), *entry, bit),
                Value::SavedStack { offset, .. } => {
                    for word in (0..value.room()).step_by(8) {
                        let from = self.saved + usize::from(*offset) + word;
                        self.asm.load(Size::Double, Reg::R1, Reg::R7, from as i16);
                        self.asm.store(Size::Double, Reg::R7, (to + word) as i16, Reg::R1);
                    }
                }
            }
            to += value.room();
        }
        Ok(to - at)
    }

    /// Lays the names of a way up out, the last one first. R9 is how many bytes they take.
    fn way(&mut self, way: &Way, to: usize) -> Result<()> {
        let (node, mount, read, up) = (self.slot(8), self.slot(8), self.slot(8), self.slot(8));
        let layout = way.layout;
        self.int(&way.dentry)?;
        self.asm.store(Size::Double, Reg::Fp, node, Reg::R0);
        if let Some(of) = &way.mount {
            self.int(of)?;
            self.asm.store(Size::Double, Reg::Fp, mount, Reg::R0);
        }
        let (cut, done) = (self.asm.label(), self.asm.label());
        self.asm.mov(Reg::R9, 0);
        for _ in 0..Way::STEPS {
            let (plain, next) = (self.asm.label(), self.asm.label());
            if way.mount.is_some() {
                self.word(mount, layout.root, read);
                self.asm.load(Size::Double, Reg::R1, Reg::Fp, read).load(Size::Double, Reg::R2, Reg::Fp, node);
                self.asm.jump_if(Cond::Ne, Reg::R1, Reg::R2, plain);
                self.word(mount, layout.outer, up);
                self.word(mount, layout.place, node);
                self.asm.load(Size::Double, Reg::R1, Reg::Fp, up).alu(Op::Add, Reg::R1, layout.inner);
                self.asm.load(Size::Double, Reg::R2, Reg::Fp, mount).jump_if(Cond::Eq, Reg::R1, Reg::R2, done);
                self.asm.store(Size::Double, Reg::Fp, mount, Reg::R1).jump(next);
            }
            self.asm.place(plain);
            self.word(node, layout.parent, up);
            self.asm.load(Size::Double, Reg::R1, Reg::Fp, up).load(Size::Double, Reg::R2, Reg::Fp, node);
            self.asm.jump_if(Cond::Eq, Reg::R1, Reg::R2, done);
            self.word(node, layout.name, read);
            self.asm.mov(Reg::R1, Reg::R7).alu(Op::Add, Reg::R1, to as i32).alu(Op::Add, Reg::R1, Reg::R9);
            self.asm.mov(Reg::R2, Way::NAME as i32).load(Size::Double, Reg::R3, Reg::Fp, read);
            self.asm.call(Helper::ProbeReadKernelStr);
            self.check();
            self.asm.alu(Op::Add, Reg::R9, Reg::R0);
            self.asm.jump_if(Cond::Gt, Reg::R9, (Way::NAMES - Way::NAME) as i32, cut);
            self.asm.load(Size::Double, Reg::R1, Reg::Fp, up).store(Size::Double, Reg::Fp, node, Reg::R1);
            self.asm.place(next);
        }
        self.asm.place(cut).store_imm(Size::Double, Reg::R7, (to + Way::NAMES) as i16, 1).place(done);
        Ok(())
    }

    /// Reads the word at the address in one slot plus an offset into another slot.
    fn word(&mut self, base: i16, offset: i32, into: i16) {
        self.asm.load(Size::Double, Reg::R3, Reg::Fp, base).alu(Op::Add, Reg::R3, offset);
        self.asm.mov(Reg::R1, Reg::Fp).alu(Op::Add, Reg::R1, i32::from(into)).mov(Reg::R2, 8);
        self.asm.call(Helper::ProbeReadKernel);
        self.check();
    }

    fn zero(&mut self, at: usize, len: usize) {
        for word in (at..at + len).step_by(8) {
            self.asm.store_imm(Size::Double, Reg::R7, word as i16, 0);
        }
    }

    fn stack(&mut self, at: usize, len: usize, flags: i32, bit: u32) {
        let fine = self.asm.label();
        self.asm.mov(Reg::R1, Reg::R6).mov(Reg::R2, Reg::R7).alu(Op::Add, Reg::R2, at as i32);
        self.asm.mov(Reg::R3, len as i32).mov(Reg::R4, flags).call(Helper::GetStack);
        self.asm.jump_if(Cond::SignedGe, Reg::R0, 0, fine);
        self.zero(at, len);
        self.mark(bit);
        self.asm.mov(Reg::R0, 0).place(fine).store(Size::Double, Reg::Fp, self.depth, Reg::R0);
    }

    /// Remembers that a value could not be read.
    fn mark(&mut self, bit: u32) {
        if bit < 64 {
            self.asm.wide(Reg::R1, 1 << bit).alu(Op::Or, Reg::R8, Reg::R1);
        }
    }

    /// Does what may meet memory that cannot be read; R0 is zero then, and the value's bit is set.
    fn fallible(&mut self, work: impl FnOnce(&mut Emit) -> Result<()>, bit: u32) -> Result<()> {
        let fault = self.asm.label();
        let before = self.fault.replace((fault, false));
        let used = self.used;
        work(self)?;
        self.used = used;
        if std::mem::replace(&mut self.fault, before).is_some_and(|(_, used)| used) {
            let on = self.asm.label();
            self.asm.jump(on).place(fault);
            self.mark(bit);
            self.asm.mov(Reg::R0, 0).place(on);
        }
        Ok(())
    }

    /// Goes to where faults go if R0 is negative.
    fn check(&mut self) {
        if let Some((fault, used)) = &mut self.fault {
            *used = true;
            self.asm.jump_if(Cond::SignedLt, Reg::R0, 0, *fault);
        }
    }

    /// Takes bytes of the stack: where they begin, counted from the frame.
    fn slot(&mut self, bytes: i16) -> i16 {
        self.used += bytes;
        -self.used
    }

    /// Computes a number in R0.
    fn int(&mut self, int: &Int) -> Result<()> {
        match int {
            Int::Const(value) => self.constant(*value),
            Int::Current(what) => self.current(*what),
            Int::Context { offset, size, signed } => {
                self.asm.load(width(*size)?, Reg::R0, Reg::R6, *offset as i16);
                if self.typed && *size == 8 {
                    self.plain(Reg::R0);
                }
                self.extend(*size, *signed);
            }
            Int::Saved { offset, size, signed } => {
                self.asm.load(width(*size)?, Reg::R0, Reg::R7, self.saved as i16 + *offset as i16);
                self.extend(*size, *signed);
            }
            Int::Load { space, at, offset, size, signed } => {
                self.int(at)?;
                let slot = self.slot(8);
                self.asm.mov(Reg::R3, Reg::R0).alu(Op::Add, Reg::R3, *offset);
                self.asm.mov(Reg::R1, Reg::Fp).alu(Op::Add, Reg::R1, i32::from(slot)).mov(Reg::R2, i32::from(*size));
                self.asm.call(match space {
                    Space::Kernel => Helper::ProbeReadKernel,
                    Space::User => Helper::ProbeReadUser,
                });
                self.check();
                self.asm.load(width(*size)?, Reg::R0, Reg::Fp, slot);
                self.used -= 8;
                self.extend(*size, *signed);
            }
            Int::Unary(op, of) => {
                self.int(of)?;
                match op {
                    Unary::Neg => {
                        self.asm.alu(Op::Neg, Reg::R0, 0);
                    }
                    Unary::BitNot => {
                        self.asm.alu(Op::Xor, Reg::R0, -1);
                    }
                    Unary::Not => self.compare(Cond::Eq, Reg::R0, 0.into()),
                }
            }
            Int::Binary(op, left, right) => self.binary(*op, left, right)?,
            Int::Bucket(of) => {
                self.int(of)?;
                self.bucket();
            }
        }
        Ok(())
    }

    fn constant(&mut self, value: i64) {
        match i32::try_from(value) {
            Ok(value) => self.asm.mov(Reg::R0, value),
            Err(_) => self.asm.wide(Reg::R0, value as u64),
        };
    }

    fn current(&mut self, what: Current) {
        match what {
            Current::Pid => self.asm.call(Helper::GetCurrentPidTgid).alu(Op::Shr, Reg::R0, 32),
            Current::Tid => {
                self.asm.call(Helper::GetCurrentPidTgid).alu(Op::Shl, Reg::R0, 32).alu(Op::Shr, Reg::R0, 32)
            }
            Current::Thread => self.asm.call(Helper::GetCurrentPidTgid),
            Current::Uid => self.asm.call(Helper::GetCurrentUidGid).alu(Op::Shl, Reg::R0, 32).alu(Op::Shr, Reg::R0, 32),
            Current::Cpu => self.asm.call(Helper::GetSmpProcessorId),
            Current::Time => self.asm.call(Helper::KtimeGetNs),
            Current::Task => self.asm.call(Helper::GetCurrentTask),
            Current::Probe => self.asm.mov(Reg::R1, Reg::R6).call(Helper::GetAttachCookie),
            Current::Call => self.plain(Reg::R6),
        };
    }

    /// R0 = the register, as a number of which the verifier knows nothing more.
    fn plain(&mut self, reg: Reg) -> &mut Asm {
        self.asm.store(Size::Double, Reg::R7, PLAIN as i16, reg).load(Size::Double, Reg::R0, Reg::R7, PLAIN as i16)
    }

    fn extend(&mut self, size: u8, signed: bool) {
        if signed && size < 8 {
            let shift = 64 - 8 * i32::from(size);
            self.asm.alu(Op::Shl, Reg::R0, shift).alu(Op::Arsh, Reg::R0, shift);
        }
    }

    /// R0 = whether `left cond right`.
    fn compare(&mut self, cond: Cond, left: Reg, right: bpf::insn::Operand) {
        let holds = self.asm.label();
        self.asm.mov(Reg::R2, 1).jump_if(cond, left, right, holds).mov(Reg::R2, 0).place(holds).mov(Reg::R0, Reg::R2);
    }

    fn binary(&mut self, op: Binary, left: &Int, right: &Int) -> Result<()> {
        if let Binary::LogicalAnd | Binary::LogicalOr = op {
            let decided = self.asm.label();
            self.int(left)?;
            self.compare(Cond::Ne, Reg::R0, 0.into());
            let by = if op == Binary::LogicalAnd { 0 } else { 1 };
            self.asm.jump_if(Cond::Eq, Reg::R0, by, decided);
            self.int(right)?;
            self.compare(Cond::Ne, Reg::R0, 0.into());
            self.asm.place(decided);
            return Ok(());
        }
        self.int(left)?;
        let slot = self.slot(8);
        self.asm.store(Size::Double, Reg::Fp, slot, Reg::R0);
        self.int(right)?;
        self.asm.mov(Reg::R1, Reg::R0).load(Size::Double, Reg::R0, Reg::Fp, slot);
        self.used -= 8;
        let alu = |op| Ok::<Op, Cond>(op);
        let signed = |is: bool, with, without| Err(if is { with } else { without });
        match match op {
            Binary::Add => alu(Op::Add),
            Binary::Sub => alu(Op::Sub),
            Binary::Mul => alu(Op::Mul),
            Binary::Div => alu(Op::Div),
            Binary::Rem => alu(Op::Mod),
            Binary::And => alu(Op::And),
            Binary::Or => alu(Op::Or),
            Binary::Xor => alu(Op::Xor),
            Binary::Shl => alu(Op::Shl),
            Binary::Shr => alu(Op::Shr),
            Binary::Sar => alu(Op::Arsh),
            Binary::Eq => Err(Cond::Eq),
            Binary::Ne => Err(Cond::Ne),
            Binary::Lt { signed: is } => signed(is, Cond::SignedLt, Cond::Lt),
            Binary::Le { signed: is } => signed(is, Cond::SignedLe, Cond::Le),
            Binary::Gt { signed: is } => signed(is, Cond::SignedGt, Cond::Gt),
            Binary::Ge { signed: is } => signed(is, Cond::SignedGe, Cond::Ge),
            Binary::LogicalAnd | Binary::LogicalOr => return Ok(()),
        } {
            Ok(op) => {
                self.asm.alu(op, Reg::R0, Reg::R1);
            }
            Err(cond) => self.compare(cond, Reg::R0, Reg::R1.into()),
        }
        Ok(())
    }

    /// R0 = its bucket by powers of two. R3 keeps the sign.
    fn bucket(&mut self) {
        let (zero, positive, done) = (self.asm.label(), self.asm.label(), self.asm.label());
        self.asm.jump_if(Cond::Eq, Reg::R0, 0, zero).mov(Reg::R3, 0);
        self.asm.jump_if(Cond::SignedGt, Reg::R0, 0, positive).mov(Reg::R3, 1).alu(Op::Neg, Reg::R0, 0).place(positive);
        self.asm.mov(Reg::R1, 1);
        for bits in [32, 16, 8, 4, 2, 1] {
            let small = self.asm.label();
            self.asm.mov(Reg::R2, Reg::R0).alu(Op::Shr, Reg::R2, bits).jump_if(Cond::Eq, Reg::R2, 0, small);
            self.asm.mov(Reg::R0, Reg::R2).alu(Op::Add, Reg::R1, bits).place(small);
        }
        self.asm.mov(Reg::R0, Reg::R1).jump_if(Cond::Eq, Reg::R3, 0, done).alu(Op::Neg, Reg::R0, 0).jump(done);
        self.asm.place(zero).place(done);
    }

    /// R0 = whether it holds.
    fn test(&mut self, test: &Test) -> Result<()> {
        match test {
            Test::Int(int) => self.int(int)?,
            Test::Text { text, with, prefix } => self.compare_text(text, with, *prefix)?,
            Test::Family => {
                self.current(Current::Pid);
                let slot = self.slot(8);
                self.asm.store(Size::Double, Reg::Fp, slot, Reg::R0);
                self.found(self.tables.family, (Reg::Fp, slot.into())).call(Helper::MapLookup);
                self.used -= 8;
                self.compare(Cond::Ne, Reg::R0, 0.into());
            }
            Test::Not(test) => {
                self.test(test)?;
                self.compare(Cond::Eq, Reg::R0, 0.into());
            }
            Test::All(tests) => self.several(tests, 0)?,
            Test::Any(tests) => self.several(tests, 1)?,
        }
        Ok(())
    }

    /// Tests one after the other, until one gives what decides.
    fn several(&mut self, tests: &[Test], decides: i32) -> Result<()> {
        let decided = self.asm.label();
        self.asm.mov(Reg::R0, 1 - decides);
        for test in tests {
            self.test(test)?;
            self.compare(Cond::Ne, Reg::R0, 0.into());
            self.asm.jump_if(Cond::Eq, Reg::R0, decides, decided);
        }
        self.asm.place(decided);
        Ok(())
    }
}

fn width(size: u8) -> Result<Size> {
    match size {
        1 => Ok(Size::Byte),
        2 => Ok(Size::Half),
        4 => Ok(Size::Word),
        8 => Ok(Size::Double),
        _ => Err(Error::Wrong(format!("a number of {size} bytes"))),
    }
}

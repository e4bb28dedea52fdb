//! The instructions (Documentation/bpf/standardization/instruction-set.rst): registers, operations, jumps by label.
//!
//! ```
//! use bpf::{Asm, Helper, Reg};
//! let mut asm = Asm::default();
//! asm.call(Helper::GetCurrentTask).exit();
//! assert_eq!(asm.finish().unwrap().len(), 2);
//! # let _ = Reg::R0;
//! ```

/// A register. R0 is a call's result and the program's; R1 to R5 are arguments, lost by a call; R6 to R9 survive it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Reg {
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    /// the frame: 512 bytes below it are the program's
    Fp,
}

/// Width of a load or a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Size {
    /// 4 bytes
    Word = 0x00,
    /// 2 bytes
    Half = 0x08,
    /// 1 byte
    Byte = 0x10,
    /// 8 bytes
    Double = 0x18,
}

/// What an ALU operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Op {
    Add = 0x00,
    Sub = 0x10,
    Mul = 0x20,
    /// without signs; by zero it gives zero
    Div = 0x30,
    Or = 0x40,
    And = 0x50,
    Shl = 0x60,
    Shr = 0x70,
    Neg = 0x80,
    /// the remainder, without signs; by zero it leaves the dividend
    Mod = 0x90,
    Xor = 0xa0,
    Mov = 0xb0,
    /// to the right, keeping the sign
    Arsh = 0xc0,
}

/// What a jump compares; without a sign but where it says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Cond {
    /// `==`
    Eq = 0x10,
    /// `>`
    Gt = 0x20,
    /// `>=`
    Ge = 0x30,
    /// `!=`
    Ne = 0x50,
    /// `<`
    Lt = 0xa0,
    /// `<=`
    Le = 0xb0,
    /// `>` with signs
    SignedGt = 0x60,
    /// `>=` with signs
    SignedGe = 0x70,
    /// `<` with signs
    SignedLt = 0xc0,
    /// `<=` with signs
    SignedLe = 0xd0,
}

/// Functions of the kernel that a program may call (`enum bpf_func_id`, include/uapi/linux/bpf.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Helper {
    /// `(map, *key) -> *value`
    MapLookup = 1,
    /// `(map, *key, *value, flags) -> 0` or a negative error
    MapUpdate = 2,
    /// `(map, *key) -> 0` or a negative error
    MapDelete = 3,
    /// `() -> u64`: CLOCK_MONOTONIC in nanoseconds
    KtimeGetNs = 5,
    /// `() -> u32`
    GetSmpProcessorId = 8,
    /// `() -> u64`: process id in the upper half, thread id in the lower
    GetCurrentPidTgid = 14,
    /// `() -> u64`: group id in the upper half, user id in the lower
    GetCurrentUidGid = 15,
    /// `(*to, bytes) -> 0`; kernels up to 6.1 at least leave what is behind the NUL as it was
    GetCurrentComm = 16,
    /// `(ctx, map, flags, *data, bytes) -> 0` or a negative error
    PerfEventOutput = 25,
    /// `() -> struct task_struct *`, as a number
    GetCurrentTask = 35,
    /// `(ctx, *to, bytes, flags) -> bytes` or a negative error; zeros behind the last frame
    GetStack = 67,
    /// `(*to, bytes, from) -> 0` or a negative error; since Linux 5.5
    ProbeReadUser = 112,
    /// `(*to, bytes, from) -> 0` or a negative error; since Linux 5.5
    ProbeReadKernel = 113,
    /// `(*to, bytes, from) -> length with the NUL` or a negative error; since Linux 5.5
    ProbeReadUserStr = 114,
    /// the same of kernel memory
    ProbeReadKernelStr = 115,
    /// `() -> struct task_struct *`, of which the verifier knows what it is; since Linux 5.11
    GetCurrentTaskBtf = 158,
    /// `(ctx) -> u64`: the number that was given where the program was attached; since Linux 5.15
    GetAttachCookie = 174,
    /// `(task) -> struct pt_regs *`: of [`GetCurrentTaskBtf`](Helper::GetCurrentTaskBtf), the registers with which it entered
    /// the kernel; since Linux 5.15
    TaskPtRegs = 175,
}

/// Register, or number as the second operand.
#[derive(Clone, Copy, Debug)]
pub enum Operand {
    /// a register
    Reg(Reg),
    /// a number, extended by its sign
    Imm(i32),
}

impl From<Reg> for Operand {
    fn from(reg: Reg) -> Operand {
        Operand::Reg(reg)
    }
}
impl From<i32> for Operand {
    fn from(imm: i32) -> Operand {
        Operand::Imm(imm)
    }
}

/// One instruction as the kernel takes it (`struct bpf_insn`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insn {
    code: u8,
    /// destination register in the low four bits, source in the high ones
    regs: u8,
    off: i16,
    imm: i32,
}

impl Insn {
    /// Bytes of an instruction.
    pub const SIZE: usize = 8;

    /// In the machine's byte order, as in memory.
    pub fn bytes(self) -> [u8; Insn::SIZE] {
        let [o0, o1] = self.off.to_ne_bytes();
        let [i0, i1, i2, i3] = self.imm.to_ne_bytes();
        // the two register fields are bit fields, which big-endian compilers lay out the other way round
        let regs = if cfg!(target_endian = "big") { self.regs.rotate_left(4) } else { self.regs };
        [self.code, regs, o0, o1, i0, i1, i2, i3]
    }
}

const LDX_MEM: u8 = 0x61;
const STX_MEM: u8 = 0x63;
const ST_MEM: u8 = 0x62;
const STX_XADD: u8 = 0xc3;
const LD_IMM64: u8 = 0x18;
const ALU64: u8 = 0x07;
const JMP: u8 = 0x05;
const FROM_REG: u8 = 0x08;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
/// `BPF_PSEUDO_MAP_FD`: the number of a 64-bit load is a descriptor, which the kernel replaces by the map.
const PSEUDO_MAP_FD: u8 = 1;

/// A place in the program that jumps lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label(usize);

/// A program in the making.
#[derive(Default)]
pub struct Asm {
    insns: Vec<Insn>,
    /// where each label is, once it was placed
    labels: Vec<Option<usize>>,
    /// jumps that wait for their label: the instruction and the label
    jumps: Vec<(usize, Label)>,
}

impl Asm {
    fn push(&mut self, code: u8, dst: Reg, src: Option<Reg>, off: i16, imm: i32) -> &mut Asm {
        let regs = dst as u8 | src.map_or(0, |r| (r as u8) << 4);
        self.insns.push(Insn { code, regs, off, imm });
        self
    }

    fn operand(&mut self, code: u8, dst: Reg, with: Operand, off: i16) -> &mut Asm {
        match with {
            Operand::Reg(src) => self.push(code | FROM_REG, dst, Some(src), off, 0),
            Operand::Imm(imm) => self.push(code, dst, None, off, imm),
        }
    }

    /// `dst = *(size *)(base + off)`
    pub fn load(&mut self, size: Size, dst: Reg, base: Reg, off: i16) -> &mut Asm {
        self.push(LDX_MEM | size as u8, dst, Some(base), off, 0)
    }

    /// `*(size *)(base + off) = src`
    pub fn store(&mut self, size: Size, base: Reg, off: i16, src: Reg) -> &mut Asm {
        self.push(STX_MEM | size as u8, base, Some(src), off, 0)
    }

    /// `*(size *)(base + off) = imm`
    pub fn store_imm(&mut self, size: Size, base: Reg, off: i16, imm: i32) -> &mut Asm {
        self.push(ST_MEM | size as u8, base, None, off, imm)
    }

    /// `*(size *)(base + off) += src`, as one step; [`Size::Word`] and [`Size::Double`] only
    pub fn atomic_add(&mut self, size: Size, base: Reg, off: i16, src: Reg) -> &mut Asm {
        self.push(STX_XADD | size as u8, base, Some(src), off, 0)
    }

    /// `dst = value`, of 64 bits. Takes two instructions' room.
    pub fn wide(&mut self, dst: Reg, value: u64) -> &mut Asm {
        self.insns.push(Insn { code: LD_IMM64, regs: dst as u8, off: 0, imm: value as u32 as i32 });
        self.insns.push(Insn { code: 0, regs: 0, off: 0, imm: (value >> 32) as u32 as i32 });
        self
    }

    /// `dst = dst op with`, in 64 bits
    pub fn alu(&mut self, op: Op, dst: Reg, with: impl Into<Operand>) -> &mut Asm {
        self.operand(ALU64 | op as u8, dst, with.into(), 0)
    }

    /// `dst = with`
    pub fn mov(&mut self, dst: Reg, with: impl Into<Operand>) -> &mut Asm {
        self.alu(Op::Mov, dst, with)
    }

    /// `dst = map`, by the map's descriptor. Takes two instructions' room.
    pub fn map(&mut self, dst: Reg, fd: i32) -> &mut Asm {
        self.insns.push(Insn { code: LD_IMM64, regs: dst as u8 | PSEUDO_MAP_FD << 4, off: 0, imm: fd });
        self.insns.push(Insn { code: 0, regs: 0, off: 0, imm: 0 });
        self
    }

    /// Calls a function of the kernel.
    pub fn call(&mut self, helper: Helper) -> &mut Asm {
        self.push(CALL, Reg::R0, None, 0, helper as i32)
    }

    /// Ends the program with R0 as its result.
    pub fn exit(&mut self) -> &mut Asm {
        self.push(EXIT, Reg::R0, None, 0, 0)
    }

    /// A new label, to be [placed](Asm::place) anywhere.
    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Puts a label before the next instruction.
    pub fn place(&mut self, label: Label) -> &mut Asm {
        let here = self.insns.len();
        if let Some(slot) = self.labels.get_mut(label.0) {
            *slot = Some(here);
        }
        self
    }

    /// `if (left cond right) goto label`
    pub fn jump_if(&mut self, cond: Cond, left: Reg, right: impl Into<Operand>, label: Label) -> &mut Asm {
        self.jumps.push((self.insns.len(), label));
        self.operand(JMP | cond as u8, left, right.into(), 0)
    }

    /// `goto label`
    pub fn jump(&mut self, label: Label) -> &mut Asm {
        self.jumps.push((self.insns.len(), label));
        self.push(JMP, Reg::R0, None, 0, 0)
    }

    /// The program with its jumps filled in; `None` if a label was never placed or is too far away.
    pub fn finish(mut self) -> Option<Vec<Insn>> {
        for (at, label) in self.jumps {
            let to = self.labels.get(label.0).copied().flatten()?;
            let distance = i64::try_from(to).ok()? - i64::try_from(at).ok()? - 1;
            self.insns.get_mut(at)?.off = i16::try_from(distance).ok()?;
        }
        Some(self.insns)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// By the tables of the standard.
    #[test]
    #[cfg(target_endian = "little")]
    fn encodes_as_the_standard_says() {
        let mut asm = Asm::default();
        let end = asm.label();
        asm.mov(Reg::R6, Reg::R1) // r6 = r1
            .load(Size::Double, Reg::R2, Reg::R6, 8) // r2 = *(u64 *)(r6 + 8)
            .store(Size::Word, Reg::Fp, -4, Reg::R2) // *(u32 *)(r10 - 4) = r2
            .jump_if(Cond::Gt, Reg::R2, 65536, end) // if r2 > 65536 goto +1
            .alu(Op::Add, Reg::R2, -4) // r2 += -4
            .place(end)
            .call(Helper::ProbeReadKernel) // call 113
            .exit();
        let bytes: Vec<[u8; 8]> = asm.finish().unwrap().into_iter().map(Insn::bytes).collect();
        assert_eq!(
            bytes,
            [
                [0xbf, 0x16, 0, 0, 0, 0, 0, 0],
                [0x79, 0x62, 8, 0, 0, 0, 0, 0],
                [0x63, 0x2a, 0xfc, 0xff, 0, 0, 0, 0],
                [0x25, 0x02, 1, 0, 0, 0, 1, 0],
                [0x07, 0x02, 0, 0, 0xfc, 0xff, 0xff, 0xff],
                [0x85, 0, 0, 0, 113, 0, 0, 0],
                [0x95, 0, 0, 0, 0, 0, 0, 0],
            ]
        );
    }

    #[test]
    fn a_label_that_was_never_placed_is_an_error() {
        let mut asm = Asm::default();
        let nowhere = asm.label();
        asm.jump(nowhere).exit();
        assert_eq!(asm.finish(), None);
    }

    #[test]
    fn jumps_lead_back_as_well() {
        let mut asm = Asm::default();
        let top = asm.label();
        asm.place(top).mov(Reg::R0, 0).jump_if(Cond::Ne, Reg::R0, 0, top).exit();
        assert_eq!(asm.finish().unwrap()[1].off, -2);
    }
}

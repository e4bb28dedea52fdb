//! What a program would compute, computed here: for kernels that refuse BPF, from what a sample of perf holds.
//!
//! A sample has registers or a tracepoint's record, call chains, and who was there. Memory at the time of the hit it has
//! only where an event was told what to read ([`Fetched`]); what else lies there is left out and said to be unreadable, never
//! read later.

use crate::{
    expr::{Binary, Current, Int, Space, Test, Text, Unary, Value},
    fetch::Fetched,
    recording::UserState,
};
use std::sync::Arc;

/// A hit, as far as perf tells of it.
#[derive(Clone, Debug, Default)]
pub struct Moment {
    /// registers as in `struct pt_regs`, a tracepoint's record, or the arguments of a raw one
    pub context: Vec<u8>,
    /// the registers that a system call came in with, where they are known: what the first argument of its tracepoints
    /// points to
    pub registers: Vec<u8>,
    /// the record of an event that read memory
    pub record: Vec<u8>,
    /// that record, and what is in it
    pub fetched: Option<(Arc<Fetched>, Vec<u8>)>,
    /// what an earlier hit left
    pub saved: Vec<u8>,
    /// process id
    pub pid: u32,
    /// thread id
    pub tid: u32,
    /// CPU
    pub cpu: u32,
    /// CLOCK_MONOTONIC in ns
    pub time: u64,
    /// the thread's name
    pub comm: Vec<u8>,
    /// return addresses of the kernel
    pub kernel: Vec<u64>,
    /// return addresses of the process
    pub user: Vec<u64>,
    /// whether the process is the command that was started, or descends from it
    pub in_family: bool,
    /// its registers and a copy of its stack
    pub stack: Option<UserState>,
}

/// What can be read from memory at a source.
pub struct Reach<'a> {
    /// numbers
    pub int: &'a dyn Fn(&Int) -> bool,
    /// texts
    pub text: &'a dyn Fn(&Text) -> bool,
}

/// Why something cannot be computed without BPF; none if it can.
pub fn obstacle(int: &Int, reach: &Reach<'_>) -> Option<&'static str> {
    match int {
        Int::Current(Current::Uid) => Some("the user"),
        Int::Current(Current::Task) => Some("the task's structure"),
        // system calls' arguments are in the record of their tracepoint
        Int::Load { at, .. } if is_registers(at) => None,
        Int::Load { .. } => (!(reach.int)(int)).then_some("memory at the hit"),
        Int::Unary(_, of) | Int::Bucket(of) => obstacle(of, reach),
        Int::Binary(_, left, right) => obstacle(left, reach).or_else(|| obstacle(right, reach)),
        _ => None,
    }
}

/// The same for a text.
pub fn obstacle_of_text(text: &Text, reach: &Reach<'_>) -> Option<&'static str> {
    (matches!(text, Text::Memory { .. }) && !(reach.text)(text)).then_some("memory at the hit")
}

/// The same for a condition.
pub fn obstacle_of(test: &Test, reach: &Reach<'_>) -> Option<&'static str> {
    match test {
        Test::Int(int) => obstacle(int, reach),
        Test::Text { text, .. } => obstacle_of_text(text, reach),
        Test::Family => None,
        Test::Not(of) => obstacle_of(of, reach),
        Test::All(of) | Test::Any(of) => of.iter().find_map(|test| obstacle_of(test, reach)),
    }
}

fn is_registers(at: &Int) -> bool {
    matches!(at, Int::Context { offset: 0, size: 8, .. })
}

impl Moment {
    /// A number; none where it lies in memory that nobody has copied.
    pub fn int(&self, int: &Int) -> Option<i64> {
        Some(match int {
            Int::Const(value) => *value,
            Int::Current(what) => self.current(*what)?,
            Int::Context { offset, size, signed } => word(&self.context, (*offset).into(), *size, *signed)?,
            Int::Saved { offset, size, signed } => word(&self.saved, (*offset).into(), *size, *signed)?,
            Int::Load { space: Space::Kernel, at, offset, size, signed } if is_registers(at) => {
                word(&self.registers, usize::try_from(*offset).ok()?, *size, *signed)?
            }
            Int::Load { .. } => self.fetched.as_ref().and_then(|(fetched, record)| fetched.int(record, int))?,
            Int::Unary(op, of) => {
                let of = self.int(of)?;
                match op {
                    Unary::Neg => of.wrapping_neg(),
                    Unary::BitNot => !of,
                    Unary::Not => i64::from(of == 0),
                }
            }
            Int::Binary(Binary::LogicalAnd, left, right) => i64::from(self.int(left)? != 0 && self.int(right)? != 0),
            Int::Binary(Binary::LogicalOr, left, right) => i64::from(self.int(left)? != 0 || self.int(right)? != 0),
            Int::Binary(op, left, right) => binary(*op, self.int(left)?, self.int(right)?),
            Int::Bucket(of) => bucket(self.int(of)?),
        })
    }

    fn current(&self, what: Current) -> Option<i64> {
        Some(match what {
            Current::Pid => self.pid.into(),
            Current::Tid => self.tid.into(),
            Current::Thread => (u64::from(self.pid) << 32 | u64::from(self.tid)) as i64,
            Current::Cpu => self.cpu.into(),
            Current::Time => self.time as i64,
            Current::Uid | Current::Task | Current::Probe | Current::Call => return None,
        })
    }

    /// A text, up to its NUL.
    fn text(&self, text: &Text) -> Option<&[u8]> {
        let bytes = match text {
            Text::Comm => &self.comm,
            Text::Context { offset, len } => {
                self.context.get(usize::from(*offset)..)?.get(..usize::from(*len)).unwrap_or_default()
            }
            Text::Saved { offset, len } => self.saved.get(usize::from(*offset)..)?.get(..usize::from(*len))?,
            Text::Located { word: at, behind } => {
                let at = usize::from(*at);
                let start = (word(&self.context, at, 4, false)? & 0xffff) as usize;
                self.context.get(if *behind { start + at + 4 } else { start }..)?
            }
            Text::Memory { .. } => self.fetched.as_ref().and_then(|(fetched, record)| fetched.text(record, text))?,
        };
        bytes.split(|byte| *byte == 0).next()
    }

    /// Whether a condition holds; none where that cannot be told.
    pub fn test(&self, test: &Test) -> Option<bool> {
        match test {
            Test::Int(int) => Some(self.int(int)? != 0),
            Test::Text { text, with, prefix } => {
                let text = self.text(text)?;
                Some(if *prefix { text.starts_with(with) } else { text == with })
            }
            Test::Family => Some(self.in_family),
            Test::Not(of) => Some(!self.test(of)?),
            Test::All(of) => of.iter().try_fold(true, |all, test| Some(all && self.test(test)?)),
            Test::Any(of) => of.iter().try_fold(false, |any, test| Some(any || self.test(test)?)),
        }
    }

    /// The values, laid out as a program would; and a bit for each that cannot be had.
    pub fn values(&self, values: &[Value]) -> (Vec<u8>, u64) {
        let (mut bytes, mut missing) = (Vec::new(), 0);
        for (i, value) in values.iter().enumerate() {
            let (start, room) = (bytes.len(), value.room());
            let there = match value {
                Value::Int(int) => self.int(int).map(|int| bytes.extend(int.to_ne_bytes())),
                Value::Text(text, max) => self.text(text).map(|text| {
                    // the last byte is a NUL, as the kernel's helpers leave it
                    bytes.extend(text.iter().take(usize::from(*max).saturating_sub(1)));
                }),
                // it is walked at the hit, through memory
                Value::Path(_) => None,
                Value::KernelStack(_) => {
                    bytes.extend(self.kernel.iter().flat_map(|pc| pc.to_ne_bytes()));
                    Some(())
                }
                Value::UserStack(_) | Value::UserFrames { .. } => {
                    bytes.extend(self.user.iter().flat_map(|pc| pc.to_ne_bytes()));
                    Some(())
                }
                Value::SavedStack { offset, .. } => {
                    let at = usize::from(*offset);
                    self.saved.get(at..at + room).map(|frames| bytes.extend(frames))
                }
            };
            if there.is_none() && i < 64 {
                missing |= 1 << i;
            }
            bytes.resize(start + room, 0);
        }
        (bytes, missing)
    }
}

/// A number of so many bytes.
pub fn word(bytes: &[u8], at: usize, size: u8, signed: bool) -> Option<i64> {
    let bytes = bytes.get(at..)?.get(..usize::from(size))?;
    let mut all = [0; 8];
    all.get_mut(..bytes.len())?.copy_from_slice(bytes);
    let shift = 64 - 8 * u32::from(size);
    let raised = i64::from_le_bytes(all).checked_shl(shift)?;
    Some(if signed { raised >> shift } else { ((raised as u64) >> shift) as i64 })
}

/// As the kernel's BPF computes: divisions are without signs, one by zero gives zero, and what is left of it the number.
fn binary(op: Binary, a: i64, b: i64) -> i64 {
    let less = |signed, a: i64, b: i64| if signed { a < b } else { (a as u64) < b as u64 };
    match op {
        Binary::Add => a.wrapping_add(b),
        Binary::Sub => a.wrapping_sub(b),
        Binary::Mul => a.wrapping_mul(b),
        Binary::Div => (a as u64).checked_div(b as u64).unwrap_or(0) as i64,
        Binary::Rem => (a as u64).checked_rem(b as u64).unwrap_or(a as u64) as i64,
        Binary::And => a & b,
        Binary::Or => a | b,
        Binary::Xor => a ^ b,
        Binary::Shl => a.wrapping_shl(b as u32),
        Binary::Shr => (a as u64).wrapping_shr(b as u32) as i64,
        Binary::Sar => a.wrapping_shr(b as u32),
        Binary::Eq => i64::from(a == b),
        Binary::Ne => i64::from(a != b),
        Binary::Lt { signed } => i64::from(less(signed, a, b)),
        Binary::Le { signed } => i64::from(!less(signed, b, a)),
        Binary::Gt { signed } => i64::from(less(signed, b, a)),
        Binary::Ge { signed } => i64::from(!less(signed, a, b)),
        Binary::LogicalAnd => i64::from(a != 0 && b != 0),
        Binary::LogicalOr => i64::from(a != 0 || b != 0),
    }
}

fn bucket(value: i64) -> i64 {
    let n = i64::from(64 - value.unsigned_abs().leading_zeros());
    if value < 0 { -n } else { n }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn numbers_are_what_the_kernel_would_compute() {
        let moment = Moment { context: vec![0xfe, 0xff, 0xff, 0xff, 1, 0, 0, 0], pid: 7, ..Moment::default() };
        let at = |offset, size, signed| moment.int(&Int::context(offset, size, signed));
        assert_eq!((at(0, 4, true), at(0, 4, false), at(4, 2, true)), (Some(-2), Some(0xffff_fffe), Some(1)));
        assert_eq!(at(6, 4, false), None);
        let op = |op, a, b| moment.int(&Int::binary(op, Int::Const(a), Int::Const(b))).unwrap();
        assert_eq!((op(Binary::Div, 7, 0), op(Binary::Rem, 7, 0), op(Binary::Sar, -8, 1)), (0, 7, -4));
        assert_eq!((op(Binary::Lt { signed: true }, -1, 1), op(Binary::Lt { signed: false }, -1, 1)), (1, 0));
        let bucket = |value| moment.int(&Int::Bucket(Box::new(Int::Const(value)))).unwrap();
        assert_eq!([bucket(0), bucket(1), bucket(1023), bucket(1024), bucket(-1)], [0, 1, 10, 11, -1]);
        assert_eq!(moment.test(&Test::Int(Int::Current(Current::Pid).equals(7))), Some(true));
    }

    #[test]
    fn memory_is_said_to_be_missing() {
        let moment = Moment { comm: b"cat\0\0".to_vec(), ..Moment::default() };
        let there = Value::Text(Text::Comm, 16);
        let load = Int::load(Space::User, Int::Const(4096), 0, 8, false);
        let nothing = Reach { int: &|_| false, text: &|_| false };
        assert_eq!(obstacle(&load, &nothing), Some("memory at the hit"));
        let (bytes, missing) = moment.values(&[there, Value::Int(load), Value::Int(Int::Const(5))]);
        assert_eq!((bytes.len(), missing), (32, 0b10));
        assert_eq!(&bytes[..4], b"cat\0");
        assert_eq!(bytes[24], 5);
        let is =
            |with: &[u8], prefix| moment.test(&Test::Text { text: Text::Comm, with: with.to_vec(), prefix }).unwrap();
        assert!(is(b"cat", false) && is(b"ca", true) && !is(b"ca", false));
    }
}

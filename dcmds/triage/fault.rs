//! What a faulting instruction touched, from its text and the registers that were saved.

use crate::dis;
use engine::{prelude::*, targets::Arch};

/// What an instruction did that faulted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// the address
    pub addr: u64,
    /// the part of it that was in a register
    pub base: u64,
    /// it wrote
    pub write: bool,
}

/// The registers of a moment, by name.
pub type Registers = [(String, u64)];

fn register(regs: &Registers, name: &str) -> Option<u64> {
    let name = name.trim().trim_start_matches('%');
    if matches!(name, "xzr" | "wzr") {
        return Some(0);
    }
    let wide = match name.strip_prefix('w') {
        Some(number) if number.parse::<u8>().is_ok() => format!("x{number}"),
        _ => match name {
            "fp" => "x29".into(),
            "lr" => "x30".into(),
            name => name.to_owned(),
        },
    };
    regs.iter().find(|(known, _)| *known == wide).map(|(_, value)| *value)
}

fn number(text: &str) -> Option<u64> {
    let text = text.trim().trim_start_matches('#');
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let value = match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok()?,
        None if digits.is_empty() => 0,
        None => digits.parse().ok()?,
    };
    Some(if negative { value.wrapping_neg() } else { value })
}

/// Whether an instruction writes to memory, if that is its last operand or its only one.
fn writes(mnemonic: &str, last: bool, several: bool) -> bool {
    const ONLY_READ: [&str; 12] =
        ["cmp", "test", "bt", "push", "call", "jmp", "prefetch", "div", "mul", "idiv", "imul", "not"];
    const ONE: [&str; 5] = ["inc", "dec", "neg", "not", "set"];
    let to_memory = last && several && !ONLY_READ.iter().any(|start| mnemonic.starts_with(start));
    to_memory || ONE.iter().any(|start| mnemonic.starts_with(start))
}

/// An operand that is an address by itself: `0x10`, where `$0x10` would be a number.
fn absolute(mnemonic: &str, operands: &str) -> Option<Access> {
    if ["call", "j", "lea", "ret", "int", "loop"].iter().any(|start| mnemonic.starts_with(start)) {
        return None;
    }
    let all: Vec<&str> = operands.split(',').map(str::trim).collect();
    let at = all.iter().position(|text| text.starts_with(|c: char| c.is_ascii_digit() || c == '-'))?;
    let addr = all.get(at).copied().and_then(number)?;
    Some(Access { addr, base: addr, write: writes(mnemonic, at + 1 == all.len(), all.len() > 1) })
}

/// AT&T's `disp(base,index,scale)`.
fn att(text: &str, regs: &Registers) -> Option<Access> {
    let (mnemonic, operands) = text.split_once([' ', '\t'])?;
    let (mnemonic, operands) = match mnemonic {
        "rep" | "repe" | "repne" | "repz" | "repnz" | "lock" => operands.trim_start().split_once([' ', '\t'])?,
        _ => (mnemonic, operands),
    };
    let Some(open) = operands.find('(') else { return absolute(mnemonic, operands) };
    let close = operands.find(')')?;
    let displacement = operands.get(..open)?.rsplit([' ', ',', '*', ':', '\t']).next()?;
    let mut parts = operands.get(open + 1..close)?.split(',');
    let base = parts.next().filter(|name| !name.is_empty());
    if base.is_some_and(|name| name.ends_with("rip")) || operands.contains("%gs:") || operands.contains("%fs:") {
        return None;
    }
    let base = base.map_or(Some(0), |name| register(regs, name))?;
    let index = parts.next().map_or(Some(0), |name| register(regs, name))?;
    let scale = parts.next().map_or(Some(1), number)?;
    let addr = base.wrapping_add(index.wrapping_mul(scale)).wrapping_add(number(displacement)?);
    // the last operand is the destination, but of what only compares
    let last = !operands.get(close + 1..)?.contains(',');
    Some(Access { addr, base, write: writes(mnemonic, last, operands.contains(',')) })
}

/// Of what copies from `(%rsi)` to `(%rdi)`, the place written to.
fn copied_to(text: &str, regs: &Registers) -> Option<Access> {
    let addr = register(regs, "rdi").filter(|_| text.contains("movs") && text.ends_with("(%rdi)"))?;
    text.contains("(%rsi)").then_some(Access { addr, base: addr, write: true })
}

/// arm64's `[base, offset]`.
fn arm(text: &str, regs: &Registers) -> Option<Access> {
    let (mnemonic, operands) = text.split_once([' ', '\t'])?;
    let (open, close) = (operands.find('[')?, operands.find(']')?);
    let mut parts = operands.get(open + 1..close)?.split(',');
    let base = register(regs, parts.next()?)?;
    let offset = parts.next().map_or(Some(0), |text| number(text).or_else(|| register(regs, text)))?;
    let shift = parts.next().map_or(Some(0), |text| number(text.trim().split_once(' ').map_or("0", |(_, n)| n)))?;
    let addr = base.wrapping_add(offset.wrapping_shl(shift as u32));
    Some(Access { addr, base, write: mnemonic.starts_with("st") })
}

/// What the instruction at `pc` touches in memory, if it does.
pub fn access(cx: &Cx<'_>, pc: u64, regs: &Registers) -> Option<Access> {
    let (text, _) = dis::disassemble(cx, pc)?;
    match cx.target.arch() {
        Arch::X86_64 => {
            let first = att(&text, regs)?;
            // a copy reads and writes: what it reads is to be had, so it was the other
            let readable = || cx.target.translate(Space::Kernel, first.addr).is_ok();
            Some(copied_to(&text, regs).filter(|_| readable()).unwrap_or(first))
        }
        _ => arm(&text, regs),
    }
}

/// Values that the kernel writes where nobody should look: in memory that was freed or never filled, in links of lists
/// that were taken off (include/linux/poison.h). The class of crash that such a pointer makes, and what it is.
pub fn poison(value: u64) -> Option<(&'static str, &'static str)> {
    const LIST: u64 = 0xdead_0000_0000_0000;
    let bytes = value.to_le_bytes();
    let top = bytes[7];
    // an index or an offset may have been added, so the upper bytes decide
    let same = bytes.iter().skip(2).all(|byte| *byte == top);
    match (top, same) {
        (0x6b, true) => {
            Some(("use-after-free", "use after free (the pointer is what freed slab objects are filled with, 0x6b)"))
        }
        (0xaa, true) => {
            Some(("use-after-free", "use after free (the pointer is what freed pages are filled with, 0xaa)"))
        }
        (0xbb, true) => {
            Some(("use-after-free", "use after free (the pointer is the red zone of a free slab object, 0xbb)"))
        }
        (0x5a, true) => Some((
            "uninitialised",
            "use of uninitialised memory (the pointer is what slab objects are filled with before their first use, 0x5a)",
        )),
        (0xcc, true) => {
            Some(("bad-pointer", "read beyond an object's end (the pointer is the red zone of a slab object, 0xcc)"))
        }
        _ if value & !0xffff == LIST => Some(match value & 0xfff {
            0x100..=0x121 => {
                ("list-corruption", "use of a list entry that was taken off its list (the pointer is LIST_POISON1)")
            }
            0x122..=0x140 => {
                ("list-corruption", "use of a list entry that was taken off its list (the pointer is LIST_POISON2)")
            }
            _ => ("bad-pointer", "a pointer that the kernel marks as not to be used"),
        }),
        _ if bytes.iter().all(u8::is_ascii_graphic) => Some(("bad-pointer", "a pointer that text was written over")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn regs() -> Vec<(String, u64)> {
        [("rax", 0x10), ("rdi", 0), ("rsi", 4), ("x1", 0x1000), ("x2", 3)].map(|(n, v)| (n.to_owned(), v)).to_vec()
    }

    #[test]
    fn operands_of_both_dialects() {
        let x86 = |text| att(text, &regs()).map(|a| (a.addr, a.write));
        assert_eq!(x86("movq 0x20(%rdi), %rax"), Some((0x20, false)));
        assert_eq!(x86("movb $1, 0x30(%rdi)"), Some((0x30, true)));
        assert_eq!(x86("movq -0x8(%rax,%rsi,4), %rdx"), Some((0x18, false)));
        assert_eq!(x86("cmpq $0, (%rax)"), Some((0x10, false)));
        assert_eq!(x86("callq *0x18(%rdi)"), Some((0x18, false)));
        assert_eq!(x86("incl (%rax)"), Some((0x10, true)));
        assert_eq!(x86("movq %gs:0x10(%rax), %rdx"), None);
        assert_eq!(x86("movabsq 0x1234, %rax"), Some((0x1234, false)));
        assert_eq!(x86("movabsq %rax, 0x1234"), Some((0x1234, true)));
        assert_eq!(x86("movq $0x10, %rax"), None);
        assert_eq!(x86("movq 8, %rdi"), Some((8, false)));
        assert_eq!(x86("cmpb $0, 0x18"), Some((0x18, false)));
        assert_eq!(x86("movl $1, 0x18"), Some((0x18, true)));
        assert_eq!(x86("incl 0x18"), Some((0x18, true)));
        assert_eq!(x86("callq 0x1234"), None);
        assert_eq!(x86("rep stosb %al, %es:(%rdi)"), Some((0, true)));
        assert_eq!(x86("rep movsb (%rsi), %es:(%rdi)"), Some((4, false)));
        assert_eq!(copied_to("rep movsb (%rsi), %es:(%rdi)", &regs()).map(|a| a.addr), Some(0));
        assert_eq!(x86("ud2"), None);
        let arm64 = |text| arm(text, &regs()).map(|a| (a.addr, a.write));
        assert_eq!(arm64("ldr x0, [x1, #0x18]"), Some((0x1018, false)));
        assert_eq!(arm64("str w0, [x1, x2, lsl #3]"), Some((0x1018, true)));
        assert_eq!(arm64("strb wzr, [x1]"), Some((0x1000, true)));
    }

    #[test]
    fn poison_is_told_with_what_was_added_to_it() {
        assert!(poison(0x6b6b_6b6b_6b6b_6b83).unwrap().1.contains("freed slab"));
        assert!(poison(0xdead_0000_0000_0108).unwrap().1.contains("LIST_POISON1"));
        assert!(poison(u64::from_le_bytes(*b"deadbeef")).unwrap().1.contains("text"));
        assert_eq!(poison(0xffff_8880_1234_5678), None);
        assert_eq!(poison(0), None);
    }
}

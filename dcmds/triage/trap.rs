//! Instructions that a compiler put where the kernel shall not get: BUG() and WARN(), and what sanitizers and control flow
//! integrity leave. Which it was is in the instruction.
//!
//! ```console
//! > ::triage -1
//! … CLASS TITLE
//! … bug   BUG() in crasher`crash_bug+0x5
//! ```

use engine::{prelude::*, targets::Arch};

/// What left a trap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trap {
    /// BUG() or WARN()
    Bug,
    /// CONFIG_UBSAN_TRAP
    Ubsan,
    /// CONFIG_KASAN_SW_TAGS
    Kasan,
    /// CONFIG_CFI_CLANG
    Cfi,
}

/// The trap that an instruction is.
pub(super) fn of(session: &Session, pc: u64) -> Option<Trap> {
    match session.target.arch() {
        Arch::X86_64 => {
            let mut code = [0; 5];
            session.read(pc, &mut code).ok()?;
            x86(code)
        }
        _ => arm64(session.u32(pc).ok()?),
    }
}

/// UD2 (0f 0b) is BUG() and WARN(). UD1 (0f b9) of EAX through EAX, with a number, is UBSAN; of anything else a WARN()
/// whose arguments are in registers: arch/x86/kernel/traps.c, decode_bug().
fn x86(code: [u8; 5]) -> Option<Trap> {
    let rest = code.strip_prefix(&[0x67]).unwrap_or(&code);
    let (rex, rest) = match rest {
        [0x40..=0x4f, rest @ ..] => (true, rest),
        _ => (false, rest),
    };
    match rest {
        [0x0f, 0x0b, ..] => Some(Trap::Bug),
        [0x0f, 0xb9, 0x00 | 0x40 | 0x80, ..] if !rex => Some(Trap::Ubsan),
        [0x0f, 0xb9, ..] => Some(Trap::Bug),
        _ => None,
    }
}

/// BRK has a number: arch/arm64/include/asm/brk-imm.h.
fn arm64(code: u32) -> Option<Trap> {
    if code & 0xffe0_001f != 0xd420_0000 {
        return None;
    }
    match code >> 5 & 0xffff {
        0x800 => Some(Trap::Bug),
        0x900..=0x93f => Some(Trap::Kasan),
        0x5500..=0x55ff => Some(Trap::Ubsan),
        0x8000..=0x83ff => Some(Trap::Cfi),
        _ => None,
    }
}

/// The class of a crash by a trap that is no BUG(), and what it means; none: a breakpoint that nobody set.
pub(super) fn class(trap: Option<Trap>) -> (&'static str, &'static str) {
    match trap {
        Some(Trap::Ubsan) => ("ubsan", "undefined behaviour (UBSAN's trap)"),
        Some(Trap::Kasan) => ("kasan", "a bad access (KASAN's trap)"),
        Some(Trap::Cfi) => ("cfi", "an indirect call to what is no function of that type (CFI's trap)"),
        Some(Trap::Bug) => ("bug", "BUG()"),
        None => ("exception", "a breakpoint instruction that nobody handles"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traps_of_both_architectures() {
        assert_eq!(x86([0x0f, 0x0b, 0x90, 0x90, 0x90]), Some(Trap::Bug));
        assert_eq!(x86([0x67, 0x0f, 0xb9, 0x40, 0x12]), Some(Trap::Ubsan));
        assert_eq!(x86([0x67, 0x48, 0x0f, 0xb9, 0x3a]), Some(Trap::Bug));
        assert_eq!(x86([0x0f, 0xff, 0xc0, 0x90, 0x90]), None);
        assert_eq!(arm64(0xd421_0000), Some(Trap::Bug));
        assert_eq!(arm64(0xd420_0000 | 0x5512 << 5), Some(Trap::Ubsan));
        assert_eq!(arm64(0xd420_0000 | 0x8021 << 5), Some(Trap::Cfi));
        assert_eq!(arm64(0xd420_0000 | 0x77 << 5), None);
        assert_eq!(arm64(0), None);
    }
}

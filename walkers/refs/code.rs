//! Addresses that are part of the kernel's instructions.
//!
//! A pointer that is set once at boot and then read all the time may be written into the code that uses it
//! (`runtime_const_ptr()`, include/asm-generic/runtime-const.h; Linux 7.3 has that of the futex table nowhere else): on
//! x86-64 into a `movabs`, on arm64 into a `movz` and three `movk`.
//!
//! ```console
//! > ff2aa618c18c87e8::refs
//! ADDR             KIND REFERENCE         TO
//! ffffffff98a9803a code __futex_hash+0xea ff2aa618c18c87e8 kmalloc-8
//! ```

use super::nodes::Nodes;
use engine::{prelude::*, targets::Arch};
use rayon::prelude::*;

/// Bytes that are looked at in one go.
const PIECE: u64 = 1 << 20;
/// Bytes of the longest sequence.
const LONGEST: u64 = 16;
/// More code than any kernel has: the bounds may be anything.
const MOST: u64 = 1 << 30;

/// Is shown where a sequence begins, where the address is, and the address.
type Show<'a> = &'a mut dyn FnMut(usize, usize, u64);

/// The addresses of objects in the kernel's text: where each is, and the number of its object. In order.
pub(super) fn constants(session: &Session, nodes: &Nodes) -> Result<Vec<(u64, u32)>> {
    let Some((start, end)) = session.kernel_symbol("_stext").zip(session.kernel_symbol("_etext")) else {
        return Ok(Vec::new());
    };
    let end = end.min(start.saturating_add(MOST));
    let pieces: Vec<u64> = (start..end).step_by(PIECE as usize).collect();
    let found: Result<Vec<Vec<(u64, u32)>>> = pieces.par_iter().map(|at| piece(session, nodes, *at, end)).collect();
    Ok(found?.concat())
}

/// What begins in the piece at `start`.
fn piece(session: &Session, nodes: &Nodes, start: u64, end: u64) -> Result<Vec<(u64, u32)>> {
    session.interrupt.check()?;
    let len = (PIECE + LONGEST).min(end - start) as usize;
    let mut bytes = vec![0; len];
    let holes = session.target.read_lossy(Space::Kernel, start, &mut bytes);
    if let Some(hole) = holes.first() {
        session.notes.quietly(hole.range.start, "part of the kernel's text is not in the dump");
    }
    let decode = if session.target.arch() == Arch::Aarch64 { arm64 } else { x86_64 };
    let mut found = Vec::new();
    decode(&bytes, &mut |begin, at, value| {
        // what begins in the next piece is found there
        if let Some(node) = nodes.at(value).filter(|_| (begin as u64) < PIECE) {
            found.push((start + at as u64, node));
        }
    });
    Ok(found)
}

/// `movabs $value, %reg`: where it begins, where the value is, and what.
fn x86_64(text: &[u8], visit: Show<'_>) {
    for (begin, window) in text.windows(10).enumerate() {
        let [0x48 | 0x49, 0xb8..=0xbf, value @ ..] = window else { continue };
        let Ok(value) = value.try_into().map(u64::from_le_bytes) else { continue };
        visit(begin, begin + 2, value);
    }
}

/// `movz reg, …; movk reg, …, lsl #16; movk reg, …, lsl #32; movk reg, …, lsl #48`: where that begins, twice, and the value.
fn arm64(text: &[u8], visit: Show<'_>) {
    let (instructions, _) = text.as_chunks::<4>();
    for (i, four) in instructions.windows(4).enumerate() {
        let mut value = 0;
        let register = u32::from_le_bytes(four.first().copied().unwrap_or_default()) & 31;
        let all = four.iter().zip(0u32..).all(|(bytes, part)| {
            let instruction = u32::from_le_bytes(*bytes);
            value |= u64::from(instruction >> 5 & 0xffff) << (16 * part);
            let wanted = if part == 0 { 0xd280_0000 } else { 0xf280_0000 | part << 21 };
            instruction & 0xffe0_001f == wanted | register
        });
        if all {
            visit(i * 4, i * 4, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(decode: fn(&[u8], Show<'_>), text: &[u8]) -> Vec<(usize, u64)> {
        let mut found = Vec::new();
        decode(text, &mut |_, at, value| found.push((at, value)));
        found
    }

    #[test]
    fn a_movabs_has_an_address() {
        // nop; movabs $0xff2aa618c18c87e8, %rcx; ret
        let text = [0x90, 0x48, 0xb9, 0xe8, 0x87, 0x8c, 0xc1, 0x18, 0xa6, 0x2a, 0xff, 0xc3];
        assert_eq!(found(x86_64, &text), [(3, 0xff2a_a618_c18c_87e8)]);
        assert!(found(x86_64, text.get(..10).unwrap_or_default()).is_empty());
    }

    #[test]
    fn four_moves_have_an_address() {
        let moves =
            |last: u32| [0xd503_201f_u32, 0xd299_bde4, 0xf2b1_3564, 0xf2c8_ace4, last].map(u32::to_le_bytes).concat();
        // nop; movz x4, #0xcdef; movk x4, #0x89ab, lsl #16; movk x4, #0x4567, lsl #32; movk x4, #0xff23, lsl #48
        assert_eq!(found(arm64, &moves(0xf2ff_e464)), [(4, 0xff23_4567_89ab_cdef)]);
        // the last is to another register
        assert!(found(arm64, &moves(0xf2ff_e465)).is_empty());
    }
}

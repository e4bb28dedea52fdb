//! Over a hole in the ORC tables.
//!
//! Some functions are left out of them, and one of those is on the stack of every CPU that panicked with a crash kernel
//! loaded: `__crash_kexec`. What its beginning pushes tells how large its frame is; that the word behind it is a return
//! address of a call *to this function* proves it. Where the beginning cannot be read, the first word on the stack of
//! which that is true is taken.

use engine::prelude::*;

/// Bytes of a function's beginning that are looked at.
const PROLOGUE: usize = 96;
/// Bytes of stack that are searched: more than such functions have in their frames.
const REACH: u64 = 2048;

/// The frame above.
pub(super) struct Caller {
    pub ip: u64,
    pub sp: u64,
    /// the frame pointer it had, if the function saved it
    pub bp: Option<u64>,
}

/// What a function's beginning did to the stack.
#[derive(Debug, Default, PartialEq, Eq)]
struct Pushed {
    /// bytes
    depth: u64,
    /// how deep the frame pointer is
    bp: Option<u64>,
}

/// The caller of the function at `ip`.
pub(super) fn caller(session: &Session, ip: u64, sp: u64) -> Option<Caller> {
    let function = session.symbols.by_addr(session, ip.wrapping_sub(1))?.addr;
    let mut code = [0; PROLOGUE];
    let pushed = match session.read(function, &mut code) {
        Ok(()) => prologue(&code, ip.wrapping_sub(function)),
        Err(_) => Pushed::default(),
    };
    let direct = |slot: u64| session.u64(slot).ok().filter(|back| calls(session, *back, function));
    let indirect = |slot: u64| session.u64(slot).ok().filter(|back| calls_what_a_register_holds(session, *back));
    let slot = sp.wrapping_add(pushed.depth);
    if let Some(ip) = direct(slot).or_else(|| indirect(slot)) {
        let bp = pushed.bp.and_then(|depth| session.u64(slot.wrapping_sub(depth)).ok());
        return Some(Caller { ip, sp: slot.wrapping_add(8), bp });
    }
    let slots = || (0..REACH / 8).map(|i| sp.wrapping_add(8 * i));
    let found = slots().find_map(|slot| Some((direct(slot)?, slot)));
    let (ip, slot) = found.or_else(|| slots().find_map(|slot| Some((indirect(slot)?, slot))))?;
    Some(Caller { ip, sp: slot.wrapping_add(8), bp: None })
}

/// Whether a call through a pointer is in front of a return address: `call *%reg`, or of a thunk that jumps there.
fn calls_what_a_register_holds(session: &Session, back: u64) -> bool {
    let mut call = [0; 5];
    if back >> 63 == 0 || session.symbolize(back).is_none() || session.read(back.wrapping_sub(5), &mut call).is_err() {
        return false;
    }
    let [first, distance @ ..] = call;
    let target = back.wrapping_add_signed(i32::from_le_bytes(distance).into());
    let thunk = || session.symbols.by_addr(session, target).is_some_and(|s| s.name.starts_with("__x86_indirect_thunk"));
    (first == 0xe8 && thunk()) || matches!(call, [.., 0xff, 0xd0..=0xd7])
}

/// Whether a call of the function is in front of a return address.
fn calls(session: &Session, back: u64, function: u64) -> bool {
    let mut call = [0; 5];
    if back >> 63 == 0 || session.read(back.wrapping_sub(5), &mut call).is_err() {
        return false;
    }
    let [0xe8, distance @ ..] = call else { return false };
    back.wrapping_add_signed(i32::from_le_bytes(distance).into()) == function
}

/// Reads the pushes at a function's beginning, no further than `executed` bytes.
fn prologue(code: &[u8], executed: u64) -> Pushed {
    let mut pushed = Pushed::default();
    let mut at = 0usize;
    while (at as u64) < executed {
        let rest = code.get(at..).unwrap_or_default();
        let bp = &mut pushed.bp;
        at += match *rest {
            // endbr64, and what the kernel puts in its place where it is not needed; the place for ftrace's call
            [0xf3, 0x0f, 0x1e, 0xfa, ..] | [0x66, 0x0f, 0x1f, 0x00, ..] => 4,
            [0x0f, 0x1f, 0x44, 0x00, 0x00, ..] => 5,
            [0xe8, _, _, _, _, ..] if at <= 4 => 5,
            [push @ 0x50..=0x57, ..] => {
                pushed.depth += 8;
                if push == 0x55 {
                    *bp = Some(pushed.depth);
                }
                1
            }
            [0x41, 0x50..=0x57, ..] => {
                pushed.depth += 8;
                2
            }
            // sub $n,%rsp is the last that moves it
            [0x48, 0x83, 0xec, n, ..] => {
                pushed.depth += u64::from(n);
                break;
            }
            [0x48, 0x81, 0xec, a, b, c, d, ..] => {
                pushed.depth += u64::from(u32::from_le_bytes([a, b, c, d]));
                break;
            }
            // loads and moves between registers that are mixed in: mov $n,%reg; mov and xor %reg,%reg
            [0xb8..=0xbf, ..] => 5,
            [0x31 | 0x33 | 0x89 | 0x8b, 0xc0..=0xff, ..] => 2,
            [0x48..=0x4f, 0x31 | 0x89 | 0x8b, 0xc0..=0xff, ..] => 3,
            _ => break,
        };
    }
    pushed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pushes_are_counted() {
        // the beginning of 6.12's __crash_kexec: endbr64, nop, push %r12, push %rbp, push %rbx, mov %rdi,%rbp, sub $0xb8,%rsp
        let code = [
            0xf3, 0x0f, 0x1e, 0xfa, 0x0f, 0x1f, 0x44, 0, 0, 0x41, 0x54, 0x55, 0x53, 0x48, 0x89, 0xfd, 0x48, 0x81, 0xec,
            0xb8, 0, 0, 0, 0xc3,
        ];
        assert_eq!(prologue(&code, 99), Pushed { depth: 24 + 0xb8, bp: Some(16) });
        // what was not executed yet has pushed nothing
        assert_eq!(prologue(&code, 9), Pushed::default());
        assert_eq!(prologue(&code[..10], 99), Pushed::default());
    }
}

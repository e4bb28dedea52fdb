//! Where a function's parameters are when it is called, and its value when it returns, by the calling convention (System V
//! ABI for x86-64, 3.2.3; procedure call standard for the Arm 64-bit architecture, 6.8): not the n-th one in the n-th
//! register where something is handed over that has parts.

use super::typed::{FRACTION, Held};
use engine::{Type, debuginfo::TypeId, prelude::*};
use probes::{
    expr::{Binary, Int},
    source,
};

/// Where parameters of these types are where a function begins. `own_rules` are those of Rust, which has its own for what has
/// parts.
pub fn parameters(cx: &Cx<'_>, returned: Option<TypeId>, types: &[TypeId], own_rules: bool) -> Vec<Held> {
    let arm = cfg!(target_arch = "aarch64");
    let large = returned.is_some_and(|ret| classes(cx, ret).is_none());
    // a large value that is returned takes the first register for its place
    let (mut next, mut fractions, mut stack) = (usize::from(!arm && large), 0, 0i64);
    let most = if arm { 8 } else { 6 };
    let mut unknown = false;
    let mut place = |ty: TypeId| {
        let word = |index| Some(Int::context(source::argument(index)?, 8, false));
        unknown |= own_rules && matches!(cx.shape(ty).as_deref(), Some(Type::Struct { .. }));
        if unknown {
            return Held::Nowhere("is where Rust's own rules put it, which this does not know".into());
        }
        let (bytes, classes) = (cx.types.size_of(ty).unwrap_or(8), classes(cx, ty));
        let count = |class| classes.as_ref().map(|all| all.iter().filter(|one| **one == class).count());
        let wholes = count(Class::Whole).unwrap_or(usize::from(arm));
        let others = count(Class::Fraction).unwrap_or(0);
        let in_memory = classes.is_none() && !arm;
        if in_memory || next + wholes > most || fractions + others > 8 {
            let here = frame(stack);
            stack += bytes.next_multiple_of(8) as i64;
            return here.map_or_else(|| Held::Nowhere("lies on the stack".into()), Held::Memory);
        }
        let first = next;
        (next, fractions) = (next + wholes, fractions + others);
        let fraction = || Held::Nowhere(FRACTION.into());
        match classes {
            Some(classes) if classes == [Class::Fraction] => fraction(),
            Some(classes) => {
                let mut words = first..next;
                let word = |class: &Class| (*class == Class::Whole).then(|| words.next()).flatten().and_then(word);
                Held::Words(classes.iter().map(word).collect())
            }
            // larger ones are copied, and the address of the copy is handed over
            None => word(first).map_or_else(fraction, Held::Memory),
        }
    };
    types.iter().map(|ty| place(*ty)).collect()
}

/// Where a value of that type is when a function returns it.
pub fn returned(cx: &Cx<'_>, ret: TypeId) -> Held {
    let register = |index| Some(Int::context(source::result(index)?, 8, false));
    let address = || register(0).map_or_else(|| Held::Nowhere(FRACTION.into()), Held::Memory);
    match classes(cx, ret) {
        Some(classes) if classes.is_empty() => Held::Nowhere("is not there: this function returns nothing".into()),
        None if cfg!(target_arch = "aarch64") => Held::Nowhere("was put where the caller wanted it".into()),
        None => address(),
        Some(classes) if classes == [Class::Fraction] => Held::Nowhere(FRACTION.into()),
        Some(classes) => {
            let mut wholes = 0..;
            let word = |class: &Class| match class {
                Class::Whole => register(wholes.next()?),
                Class::Fraction => None,
            };
            Held::Words(classes.iter().map(word).collect())
        }
    }
}

/// So many bytes behind where the stack stood in front of the call, where a function begins.
pub fn frame(offset: i64) -> Option<Int> {
    let at = source::frame(false)?;
    Some(if offset == 0 { at } else { Int::binary(Binary::Add, at, Int::Const(offset)) })
}

/// What kind of register eight bytes of a value take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Whole,
    Fraction,
}

/// The registers that a value takes; `None` if it lies in memory.
fn classes(cx: &Cx<'_>, ctype: TypeId) -> Option<Vec<Class>> {
    match cx.shape(ctype).as_deref() {
        Some(Type::Void) => Some(Vec::new()),
        Some(Type::Float { .. }) => Some(vec![Class::Fraction]),
        Some(Type::Struct { size, .. }) if *size > 16 => None,
        Some(Type::Struct { size, .. }) => {
            let mut words = vec![Class::Fraction; size.div_ceil(8) as usize];
            fill(cx, ctype, 0, &mut words, 0);
            // there only what is all fractions of one kind goes into their registers
            if cfg!(target_arch = "aarch64") && words.contains(&Class::Whole) {
                words.fill(Class::Whole);
            }
            Some(words)
        }
        _ => Some(vec![Class::Whole]),
    }
}

/// Marks the words in which something lies that is no fraction.
fn fill(cx: &Cx<'_>, ctype: TypeId, bits: u64, words: &mut [Class], depth: u8) {
    match cx.shape(ctype).as_deref() {
        Some(Type::Float { .. }) => {}
        Some(Type::Struct { members, .. }) if depth < 8 => {
            members.iter().take(64).for_each(|member| fill(cx, member.ty, bits + member.bit_offset, words, depth + 1));
        }
        Some(Type::Array { elem, count: Some(count) }) if depth < 8 => {
            let size = cx.types.size_of(*elem).unwrap_or(8) * 8;
            (0..(*count).min(16)).for_each(|i| fill(cx, *elem, bits + i * size, words, depth + 1));
        }
        _ => {
            if let Some(word) = words.get_mut((bits / 64) as usize) {
                *word = Class::Whole;
            }
        }
    }
}

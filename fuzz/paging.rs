//! Page tables: the bytes are physical memory, but for a head that says how they are meant.

use std::ops::ControlFlow;

use bytes::Bytes;
use targets::BareTables;

use crate::{counted, number, seen};

/// Bytes before the memory: the architecture, the page size, the width of addresses, five of nothing; then root, lower
/// root, and a mask of memory encryption.
const HEAD: usize = 32;

/// x86-64's and arm64's tables in every shape.
pub fn paging(data: &[u8]) {
    let memory = Bytes::copy_from_slice(data.get(HEAD..).unwrap_or_default());
    let (kind, root, lower) = (number(data, 0, 1), number(data, 8, 8), number(data, 16, 8));
    let tables = match kind % 3 {
        0 | 1 => BareTables::x86_64(memory, root, kind % 3 == 1, number(data, 24, 8)),
        _ => {
            let shift = [12, 14, 16][number(data, 1, 1) as usize % 3];
            match BareTables::aarch64(memory, root, lower, shift, number(data, 2, 1) as u32) {
                Some(tables) => tables,
                None => return seen(&"no such tables"),
            }
        }
    };
    let mut all = Vec::new();
    let outcome = tables.each_mapping(0..=u64::MAX, &|| true, &mut |mapping| {
        all.push(mapping);
        if all.len() < 100_000 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    counted("mappings", all.len());
    counted("unreadable", outcome.unreadable as usize);
    counted("repeated", outcome.repeated as usize);
    for mapping in all.iter().take(500) {
        assert!(mapping.len > 0, "a mapping of nothing at {:x}", mapping.va);
        for inside in [0, mapping.len - 1] {
            let found = tables.translate(mapping.va.wrapping_add(inside)).map(|t| t.pa);
            assert_eq!(found, Ok(mapping.pa.wrapping_add(inside)), "{:x} + {inside:x}", mapping.va);
        }
    }
    for at in (0..data.len().min(512)).step_by(8) {
        let va = number(data, at, 8);
        for va in [va, va >> 16, va | 0xffff << 48, va.wrapping_mul(0x9e37_79b9_7f4a_7c15)] {
            match tables.translate(va) {
                Ok(found) => assert!(found.left > 0, "no bytes at {va:x}"),
                Err(why) => seen(&why),
            }
        }
    }
    // one piece of it shows no other mappings than all of it
    if let Some(middle) = all.get(all.len() / 2) {
        let range = middle.va..=middle.va.wrapping_add(middle.len - 1);
        let mut part = Vec::new();
        tables.each_mapping(range, &|| true, &mut |mapping| {
            part.push(mapping);
            ControlFlow::Continue(())
        });
        assert_eq!(part.iter().map(|m| m.len).sum::<u64>(), middle.len, "{middle:x?} is {part:x?}");
    }
}

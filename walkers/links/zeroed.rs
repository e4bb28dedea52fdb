//! Free pages that were written to. What a free page should hold only some kernels know: with `init_on_free=1` zeros, with
//! `page_poison=1` a pattern.

use super::{Finding, Kind, World};
use crate::{
    buddy::{self, Blocks, FreeList},
    page::PageMap,
    slab::verify::{is_zeroed, verdict},
    zone::Memory,
};
use engine::prelude::*;
use rayon::prelude::*;

/// Bytes that are compared at once.
const PIECE: u64 = 1 << 20;
/// Bytes of damage that are told of as one.
const NEAR: usize = 64;
/// No block has more pages: `MAX_ORDER` is 10.
const MAX_ORDER: u32 = 15;

/// `PAGE_POISON` (include/linux/poison.h); zeros with CONFIG_PAGE_POISONING_ZERO, which 5.11 removed (f289041ed4cf).
const PAGE_POISON: u8 = 0xaa;
/// The keys that say whether free pages are poisoned; the second until 5.11 (8db26a3d4735).
const KEYS: [&str; 2] = ["_page_poisoning_enabled", "want_page_poisoning"];

/// The damage in free pages, if there is anything to hold them against.
pub fn look(world: &World<'_>) -> Result<Vec<Finding>> {
    let session = world.session;
    // a struct static_key begins with its count
    let is_on =
        |key: &&str| session.kernel_symbol(key).and_then(|at| session.u32(at).ok()).is_some_and(|n| n as i32 > 0);
    let is_poisoned = KEYS.iter().any(is_on);
    if !is_poisoned && !is_zeroed(session) || session.is_live() {
        return Ok(Vec::new());
    }
    let blocks = match free(session) {
        Ok(blocks) => blocks,
        Err(e) if e.is_control() => return Err(e),
        // lists that cannot be read are noted where they are asked for
        Err(_) => return Ok(Vec::new()),
    };
    let Some(fill) = fill(world, &blocks, is_poisoned)? else { return Ok(Vec::new()) };
    let parts: Vec<Vec<Finding>> =
        blocks.into_par_iter().map(|(at, len)| block(world, at, len, fill)).collect::<Result<_>>()?;
    Ok(parts.concat())
}

/// What three of four free blocks begin with: the kernel does as it says. Else nothing is known of the others.
fn fill(world: &World<'_>, blocks: &[(u64, u64)], is_poisoned: bool) -> Result<Option<u8>> {
    let (mut seen, mut poisoned, mut zeroed) = (0, 0, 0);
    for (at, _) in blocks {
        let Some(words) = world.read::<4>(*at)? else { continue };
        seen += 1;
        poisoned += usize::from(words.iter().all(|word| *word == u64::from_le_bytes([PAGE_POISON; 8])));
        zeroed += usize::from(words == [0; 4]);
    }
    let is_most = |count: usize| count > 0 && count * 4 >= seen * 3;
    Ok((is_poisoned && is_most(poisoned)).then_some(PAGE_POISON).or(is_most(zeroed).then_some(0)))
}

/// Every free block: its address, and its bytes.
fn free(session: &Session) -> Result<Vec<(u64, u64)>> {
    let (memory, map, blocks) = (Memory::of(session)?, PageMap::of(session)?, Blocks::of(session)?);
    let page = session.target.page_size();
    let mut out = Vec::new();
    for zone in buddy::chosen(&memory, None)? {
        let lists: Vec<FreeList> =
            buddy::lists(session, zone)?.0.into_iter().chain(buddy::cpu_lists(session, zone)?).collect();
        for list in lists.iter().filter(|list| list.order <= MAX_ORDER) {
            blocks.each(session, list, &mut |first| {
                let addr = map.frame(first).and_then(|frame| map.address(frame));
                out.extend(addr.map(|addr| (addr, page << list.order)));
                Ok(())
            })?;
        }
    }
    Ok(out)
}

fn block(world: &World<'_>, start: u64, len: u64, fill: u8) -> Result<Vec<Finding>> {
    let mut out = Vec::new();
    for at in (start..start.saturating_add(len)).step_by(PIECE as usize) {
        world.session.interrupt.check()?;
        let Some(bytes) = world.memory(at, PIECE.min(start + len - at))? else { continue };
        let Some(first) = bytes.iter().position(|byte| *byte != fill) else { continue };
        let near = bytes.get(first..(first + NEAR).min(bytes.len())).unwrap_or_default();
        let last = near.iter().rposition(|byte| *byte != fill).unwrap_or(0);
        let found = near.get(..=last).unwrap_or_default();
        let at = at + first as u64;
        let verdict = format!(
            "use after free: a free page, {:#x} bytes into a block of {} KiB, was written to{}",
            at - start,
            len >> 10,
            verdict::looks(world.session, found)
        );
        out.push(Finding { kind: Kind::FreePage, at, verdict, freed: None });
    }
    Ok(out)
}

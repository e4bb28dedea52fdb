//! Free pages that were written to. What a free page should hold only some kernels know: with `init_on_free=1` zeros.

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

/// The damage in free pages, if there is anything to hold them against.
pub fn look(world: &World<'_>) -> Result<Vec<Finding>> {
    let session = world.session;
    if !is_zeroed(session) || session.is_live() {
        return Ok(Vec::new());
    }
    let blocks = match free(session) {
        Ok(blocks) => blocks,
        Err(e) if e.is_control() => return Err(e),
        // lists that cannot be read are noted where they are asked for
        Err(_) => return Ok(Vec::new()),
    };
    let parts: Vec<Vec<Finding>> =
        blocks.into_par_iter().map(|(at, len)| block(world, at, len)).collect::<Result<_>>()?;
    Ok(parts.concat())
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

fn block(world: &World<'_>, start: u64, len: u64) -> Result<Vec<Finding>> {
    let mut out = Vec::new();
    for at in (start..start.saturating_add(len)).step_by(PIECE as usize) {
        world.session.interrupt.check()?;
        let Some(bytes) = world.memory(at, PIECE.min(start + len - at))? else { continue };
        let Some(first) = bytes.iter().position(|byte| *byte != 0) else { continue };
        let near = bytes.get(first..(first + NEAR).min(bytes.len())).unwrap_or_default();
        let last = near.iter().rposition(|byte| *byte != 0).unwrap_or(0);
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

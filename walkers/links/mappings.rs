//! What processes map: a mapping is in its address space's tree under the addresses that it says itself.

use super::{Finding, Kind, World};
use crate::{maple, task};
use engine::prelude::*;
use std::collections::HashSet;

/// The mappings that contradict their tree. Before Linux 6.1 (524e00b36e8c) there was another kind of tree.
pub fn look(world: &World<'_>) -> Result<Vec<Finding>> {
    let session = world.session;
    let (Some(tree), Ok(mm)) = (session.place("mm_struct", "mm_mt"), session.offset("task_struct", "mm")) else {
        return Ok(Vec::new());
    };
    let (Ok(start), Ok(end)) =
        (session.offset("vm_area_struct", "vm_start"), session.offset("vm_area_struct", "vm_end"))
    else {
        return Ok(Vec::new());
    };
    let (mut seen, mut out) = (HashSet::new(), Vec::new());
    let walked = task::threads(session, &mut |task| {
        let Some([space]) = world.read::<1>(task.wrapping_add(mm))?.filter(|[mm]| mm >> 63 == 1 && seen.insert(*mm))
        else {
            return Ok(());
        };
        let mut check = |first: u64, last: u64, vma: u64| {
            let (Some([from]), Some([to])) =
                (world.read::<1>(vma.wrapping_add(start))?, world.read::<1>(vma.wrapping_add(end))?)
            else {
                return Ok(());
            };
            let behind = last.wrapping_add(1);
            if (from, to) != (first, behind) && super::is_pointer(vma) {
                let verdict = format!(
                    "the address space {space:x} of task {task:x} has this mapping at {first:x}-{behind:x}, it says \
                     {from:x}-{to:x}: written over"
                );
                let at = vma.wrapping_add(if from == first { end } else { start });
                out.push(Finding { kind: Kind::Tree, at, verdict, freed: None });
            }
            Ok(())
        };
        // what is wrong with the tree's own nodes is told of by `maples`
        match maple::each_or_fault(session, space.wrapping_add(tree.bit_offset / 8), &mut check, &mut |_, _| ()) {
            Err(e) if !e.is_control() => Ok(()),
            other => other,
        }
    });
    walked.or_else(|e| if e.is_control() { Err(e) } else { Ok(()) })?;
    Ok(out)
}

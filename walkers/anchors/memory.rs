//! Where the memory manager's own structures hang: the nodes of memory, and the kernel's own mappings.

use super::{Search, Users};

const NODES: Users = &["first_online_pgdat", "next_online_pgdat", "next_zone", "show_free_areas", "__show_free_areas"];
const MAPPINGS: Users =
    &["find_vmap_area", "vmalloc_info_show", "find_unlink_vmap_area", "vmap_node_shrink_scan", "purge_vmap_node"];

impl Search<'_> {
    /// `node_data[]`: its first entry is a node whose first zone points back at it, and whose number is 0. The nodes of
    /// a kernel without NUMA, which has one, are in VMCOREINFO.
    pub(super) fn nodes(&mut self) {
        let session = self.session;
        let (Ok(zones), Ok(id), Ok(back)) = (
            session.offset("pglist_data", "node_zones"),
            session.offset("pglist_data", "node_id"),
            session.offset("zone", "zone_pgdat"),
        ) else {
            return;
        };
        let is_node = |node: u64| {
            node >> 63 == 1
                && session.u64(node.wrapping_add(zones).wrapping_add(back)).is_ok_and(|pointer| pointer == node)
                && session.u32(node.wrapping_add(id)).is_ok_and(|number| number == 0)
        };
        let is_it = |at: &u64| at.is_multiple_of(8) && session.u64(*at).is_ok_and(is_node);
        if let Some(at) = self.users(NODES).into_iter().find(is_it) {
            self.add_data("node_data", at, 0);
        }
    }

    /// `vmap_nodes`, since Linux 6.9: it points at nodes that are lists of ranges, which point back.
    pub(super) fn mappings(&mut self) {
        let session = self.session;
        let (Ok(busy), Ok(link), Ok(start), Ok(end)) = (
            session.offset("vmap_node", "busy.head"),
            session.offset("vmap_area", "list"),
            session.offset("vmap_area", "va_start"),
            session.offset("vmap_area", "va_end"),
        ) else {
            return;
        };
        let is_node = |node: u64| -> Option<bool> {
            let head = node.wrapping_add(busy);
            let first = session.u64(head).ok().filter(|first| *first != head)?;
            let area = first.wrapping_sub(link);
            let range = session.u64(area.wrapping_add(start)).ok()?..session.u64(area.wrapping_add(end)).ok()?;
            let back = session.u64(first.wrapping_add(8)).ok()?;
            Some(back == head && range.start >> 63 == 1 && range.start < range.end)
        };
        let is_it = |at: &u64| {
            at.is_multiple_of(8) && session.u64(*at).is_ok_and(|node| node >> 63 == 1 && is_node(node) == Some(true))
        };
        if let Some(at) = self.users(MAPPINGS).into_iter().find(is_it) {
            self.add_data("vmap_nodes", at, 8);
        }
    }
}

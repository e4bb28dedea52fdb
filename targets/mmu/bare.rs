//! Page tables that lie in a piece of memory with no kernel around them: what fuzzing feeds.

use std::ops::{ControlFlow, RangeInclusive};

use bytes::Bytes;

use super::{Mapping, Outcome, Paging, Translation};
use crate::error::Reason;
use crate::image::{Kind, Piece, Pieces};
use crate::source::Source;

/// Page tables, and the physical memory from address 0 on that they are in.
#[doc(hidden)]
pub struct BareTables {
    paging: Paging,
    image: Pieces,
}

impl BareTables {
    /// x86-64's, of four or five levels, from the top table at `root`.
    pub fn x86_64(memory: Bytes, root: u64, five: bool, encryption: u64) -> BareTables {
        BareTables { paging: Paging::x86_64(root, if five { 5 } else { 4 }, encryption), image: image(memory) }
    }

    /// arm64's, with a top table for each half. `None` if there are none of that shape.
    pub fn aarch64(memory: Bytes, root: u64, lower: u64, page_shift: u32, va_bits: u32) -> Option<BareTables> {
        Some(BareTables { paging: Paging::aarch64(root, page_shift, va_bits)?.of_process(lower), image: image(memory) })
    }

    /// Where a virtual address leads.
    pub fn translate(&self, va: u64) -> Result<Translation, Reason> {
        self.paging.walk(&self.image, va)
    }

    /// Every mapping of a range.
    pub fn each_mapping(
        &self,
        range: RangeInclusive<u64>,
        keep_going: &dyn Fn() -> bool,
        visit: &mut dyn FnMut(Mapping) -> ControlFlow<()>,
    ) -> Outcome {
        self.paging.each(&self.image, range, keep_going, visit)
    }
}

fn image(memory: Bytes) -> Pieces {
    let all = Piece { start: 0, end: memory.len() as u64, kind: Kind::File(0) };
    Pieces::new(Source::Whole(memory), vec![all])
}

//! What an address space maps: `::mappings`, `$m`.
//!
//! ```console
//! > init_task::mappings
//! BASE             LIMIT              SIZE PERM WHO PHYSICAL         NAME
//! ffffffff8cea8000 ffffffff8d817000 96f000 rw-  k   0000000002aa8000 __end_rodata
//! ```
//!
//! Neighbouring pages with the same rights are one row. After `TASK::context` it is the process's memory that is shown, page tables as they are: `::vmas` has the kernel's own
//! description of it.

use engine::prelude::*;
use std::ops::ControlFlow;

/// Show what is mapped where, and what may be done with it; with an address, only the mapping around it.
#[derive(Args)]
pub struct Mappings {
    /// the kernel's, also in the context of a process
    #[arg(short = 'k')]
    kernel: bool,
}

/// A mapping.
#[derive(Row)]
struct MappingRow {
    /// its first address
    base: Object,
    /// the address behind it
    limit: Addr,
    /// bytes
    size: Hex,
    /// what may be done: read, write, execute
    perm: String,
    /// whose it is: `k`ernel's or `u`ser's
    who: &'static str,
    /// the physical address of its start, where it is one piece
    physical: Option<Addr>,
    /// the symbol at its start
    name: Option<String>,
}

/// Neighbours with equal rights, together.
struct Span {
    base: u64,
    len: u64,
    pa: u64,
    /// in one piece in physical memory, too
    whole: bool,
    flags: engine::targets::Flags,
}

impl Span {
    fn row(&self, cx: &Cx<'_>) -> MappingRow {
        let letter = |yes: bool, letter| if yes { letter } else { '-' };
        let name = if self.base >> 63 == 1 { cx.symbolize(self.base) } else { None };
        MappingRow {
            base: Object::untyped(self.base),
            limit: Addr(self.base.wrapping_add(self.len)),
            size: Hex(self.len),
            perm: ['r', letter(self.flags.writable, 'w'), letter(self.flags.exec, 'x')].iter().collect(),
            who: if self.flags.user { "u" } else { "k" },
            physical: self.whole.then_some(Addr(self.pa)),
            name,
        }
    }
}

impl Dcmd for Mappings {
    const NAME: &'static str = "mappings";
    const ALIASES: &'static [&'static str] = &["$m"];
    const ROWS: &'static [&'static engine::Schema] = &[MappingRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let space = if self.kernel { Space::Kernel } else { cx.env.space.get() };
        let half = if space == Space::Kernel { 1 << 63..=u64::MAX } else { 0..=(1 << 63) - 1 };
        let (mut pending, mut failed): (Option<Span>, Result<()>) = (None, Ok(()));
        let mut show = |span: Span| match at {
            Some(at) if at.addr.wrapping_sub(span.base) >= span.len => Ok(()),
            _ => out.row(span.row(cx)),
        };
        let outcome = cx.target.each_mapping(space, half, &|| !cx.interrupt.is_set(), &mut |mapping| {
            if let Some(span) = &mut pending
                && span.base.wrapping_add(span.len) == mapping.va
                && span.flags == mapping.flags
            {
                span.whole &= span.pa.wrapping_add(span.len) == mapping.pa;
                span.len = span.len.saturating_add(mapping.len);
                return ControlFlow::Continue(());
            }
            let next = Span { base: mapping.va, len: mapping.len, pa: mapping.pa, whole: true, flags: mapping.flags };
            if let Some(Err(e)) = pending.replace(next).map(&mut show) {
                failed = Err(e);
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        let outcome = outcome.map_err(|reason| Error::Unavailable(format!("the page tables: {reason}")))?;
        cx.interrupt.check()?;
        failed?;
        if let Some(last) = pending {
            show(last)?;
        }
        if outcome.unreadable > 0 {
            cx.notes
                .add(0, format!("{} page tables are not in the dump: what they map is not shown", outcome.unreadable));
        }
        if outcome.repeated > 0 {
            cx.notes.add(0, format!("{} page tables are used again, and were shown once", outcome.repeated));
        }
        Ok(())
    }
}

/// This file's dcmds.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Mappings>()];

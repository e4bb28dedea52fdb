//! Code that the kernel made while it ran: eBPF programs and trampolines, ftrace's trampolines.
//!
//! eBPF's images are on the list `bpf_kallsyms` (kernel/bpf/core.c, since Linux 5.7 as `struct bpf_ksym`, bfea9a8574f3);
//! ftrace's, of operations that were allocated, on `ftrace_ops_trampoline_list` (kernel/trace/ftrace.c, since Linux 5.8,
//! 5d8ae82a2a4d).

use crate::list;
use engine::{ViewEntry, prelude::*};
use std::{ops::Range, sync::Arc};

/// An eBPF image: `struct bpf_ksym` (include/linux/bpf.h).
#[derive(View)]
#[ctype("bpf_ksym")]
struct BpfSymbol {
    start: u64,
    end: u64,
    name: String,
    prog: bool,
}

/// What has a trampoline of its own: `struct ftrace_ops` (include/linux/ftrace.h).
#[derive(View)]
#[ctype("ftrace_ops")]
struct Ops {
    func: u64,
    trampoline: u64,
    trampoline_size: u64,
}

/// What an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// a compiled eBPF program
    Program,
    /// what leads to one
    BpfTrampoline,
    /// what calls a tracer
    FtraceTrampoline,
}

/// Code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeImage {
    /// its addresses
    pub range: Range<u64>,
    /// its name in /proc/kallsyms; of ftrace's none
    pub name: String,
    /// what it is
    pub kind: Kind,
    /// the `struct bpf_prog` or `struct ftrace_ops` whose it is; 0 if it is nobody's
    pub owner: u64,
    /// of ftrace's: the tracer
    pub func: u64,
}

/// Larger than any image.
const MAX_SIZE: u64 = 1 << 26;

/// All of it.
#[derive(Debug, Default)]
pub struct CodeImages(Vec<CodeImage>);

impl CodeImages {
    /// The session's.
    pub fn of(session: &Session) -> Result<Arc<CodeImages>> {
        session.once(|| session.settle(|| CodeImages::read(session)))
    }

    fn read(session: &Session) -> Result<CodeImages> {
        let mut found = Vec::new();
        let lost = |at: u64, error: Error| match error {
            e if e.is_unreadable() => {
                session.notes.add(at, format!("code made at run time: {}", e.kind()));
                Ok(())
            }
            e => Err(e),
        };
        if let (Some(head), Some(link)) = (session.kernel_symbol("bpf_kallsyms"), session.place("bpf_ksym", "lnode")) {
            list::list(session, head, link.bit_offset / 8, &mut |at| {
                bpf(session, at).map(|image| found.extend(image)).or_else(|e| lost(at, e))
            })?;
        }
        let ops = session.kernel_symbol("ftrace_ops_trampoline_list");
        if let (Some(head), Some(link)) = (ops, session.place("ftrace_ops", "list")) {
            list::list(session, head, link.bit_offset / 8, &mut |at| {
                ftrace(session, at).map(|image| found.extend(image)).or_else(|e| lost(at, e))
            })?;
        }
        found.sort_by_key(|image: &CodeImage| image.range.start);
        Ok(CodeImages(found))
    }

    /// All of them, by address.
    pub fn all(&self) -> &[CodeImage] {
        &self.0
    }

    /// The one that an address lies in.
    pub fn at(&self, addr: u64) -> Option<&CodeImage> {
        let next = self.0.partition_point(|image| image.range.start <= addr);
        self.0.get(next.checked_sub(1)?).filter(|image| image.range.contains(&addr))
    }
}

fn bpf(session: &Session, at: u64) -> Result<Option<CodeImage>> {
    let symbol: BpfSymbol = session.view(at)?;
    if symbol.start >= symbol.end || symbol.end - symbol.start > MAX_SIZE {
        return Ok(None);
    }
    let kind = if symbol.prog { Kind::Program } else { Kind::BpfTrampoline };
    let aux = session.place("bpf_prog_aux", "ksym").filter(|_| symbol.prog);
    let owner = match (aux, session.place("bpf_prog_aux", "prog")) {
        (Some(ksym), Some(prog)) => {
            session.u64(at.wrapping_sub(ksym.bit_offset / 8).wrapping_add(prog.bit_offset / 8))?
        }
        _ => 0,
    };
    Ok(Some(CodeImage { range: symbol.start..symbol.end, name: symbol.name, kind, owner, func: 0 }))
}

fn ftrace(session: &Session, at: u64) -> Result<Option<CodeImage>> {
    let Ops { func, trampoline, trampoline_size } = session.view(at)?;
    let sound = trampoline >> 63 == 1 && (1..=MAX_SIZE).contains(&trampoline_size);
    let range = trampoline..trampoline.saturating_add(trampoline_size);
    Ok(sound.then_some(CodeImage { range, name: String::new(), kind: Kind::FtraceTrampoline, owner: at, func }))
}

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<BpfSymbol>(), ViewEntry::of::<Ops>()];

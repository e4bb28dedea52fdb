//! What an address is: `::whatis`.
//!
//! ```console
//! > ff386d1d83ff64b8+4::whatis
//! ff386d1d83ff64bc is ff386d1d83ff64b8+4, freed from lab_node
//!                  freed by thread 169 on CPU 0, 5.388000000 s after boot
//!                      labmod`lab_free_node+0x21
//!                      labmod`lab_release+0xab
//!                      labmod`lab_write+0x13e
//!                      proc_reg_write+0x5a
//!                      vfs_write+0xf8
//!                      ksys_write+0x6f
//!                      do_syscall_64+0x87
//!                      entry_SYSCALL_64_after_hwframe+0x76
//!                  allocated by thread 162 on CPU 0, 5.284000000 s after boot
//!                      labmod`lab_alloc_node+0x1f
//!                      labmod`lab_open+0x14
//!                      labmod`lab_write+0x180
//!                      proc_reg_write+0x5a
//!                      vfs_write+0xf8
//!                      ksys_write+0x6f
//!                      do_syscall_64+0x87
//!                      entry_SYSCALL_64_after_hwframe+0x76
//! > ff386d1d83ff64b8-8::whatis -b
//! ff386d1d83ff64b0 is ff386d1d83ff64b8-8, bufctl ff386d1d83ff6550 freed from lab_node, in front of the object
//! > panic+10::whatis
//! ffffffff8b4c4dd0 is panic+0x10, in vmlinux's text segment
//! > runqueues::walk percpu | ::whatis -a
//! ff386d1d85835e80 is runqueues of CPU 0, a per-CPU variable
//! ff386d1d85835e80 is physical 5835e80 in the direct map: page fff787ed40160d40, in use
//! ff386d1d85835e80 is mapped to physical 5835e80: page fff787ed40160d40, in use
//! > init_task::print stack | ::whatis
//! ffffffff8d000000 is in task ffffffff8d010940's stack
//! > 1::whatis -i
//! 1 is the pid of task ff386d1d843521c0 (init)
//! > ::walk lab_node | ::head -1 | ::whatis | ::print struct lab_node id
//! id = 0x2329
//! ```
//!
//! Every source of an answer is one entry in a table, most specific first; `::whatis` asks them in turn.

mod memory;
mod slab;
mod symbol;
mod task;

use engine::{IntoRow, Schema, prelude::*};

/// What a source knows of an address.
pub struct Answer {
    /// what the address belongs to, with its type
    pub object: Object,
    /// how far behind the start of that the address is
    pub offset: Option<i64>,
    /// name of the cache, symbol, module, … that it belongs to
    pub name: Option<String>,
    /// `allocated`, `freed`, …
    pub state: Option<&'static str>,
    /// the sentence behind `ADDRESS is `
    pub text: String,
    /// more, a line each
    pub report: Vec<String>,
}

impl Answer {
    /// The sentence `ADDRESS is BASE+OFFSET, WHAT`.
    fn inside(object: Object, addr: u64, what: &str) -> Answer {
        let offset = addr.wrapping_sub(object.addr) as i64;
        let text = format!("{:x}{}, {what}", object.addr, plus(offset));
        Answer { object, offset: Some(offset), name: None, state: None, text, report: Vec::new() }
    }

    /// The sentence `ADDRESS is WHAT`.
    fn is(object: Object, what: String) -> Answer {
        Answer { object, offset: None, name: None, state: None, text: what, report: Vec::new() }
    }

    fn named(self, name: impl Into<String>) -> Answer {
        Answer { name: Some(name.into()), ..self }
    }
}

/// `+0`, `+1c`, `-8`: hex without a prefix, as mdb has it here.
fn plus(offset: i64) -> String {
    let sign = if offset < 0 { '-' } else { '+' };
    format!("{sign}{:x}", offset.unsigned_abs())
}

/// How much is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Want {
    /// the address of the record of the last transaction in the sentence
    pub bufctl: bool,
    /// more than a sentence
    pub report: bool,
}

/// A source of answers.
pub struct Source {
    /// what it knows, for `-v` and for JSON
    pub name: &'static str,
    /// whether it is asked about identifiers (`-i`) instead of addresses
    pub identifiers: bool,
    /// asks it
    pub find: fn(&Cx<'_>, u64, Want) -> Result<Option<Answer>>,
}

/// All sources, most specific first.
const SOURCES: &[Source] = &[
    slab::KFENCE,
    slab::OBJECTS,
    slab::SLABS,
    task::STACKS,
    symbol::PERCPU,
    symbol::KERNEL,
    symbol::MODULES,
    memory::PAGE_STRUCTS,
    memory::DIRECT_MAP,
    memory::MAPPINGS,
    task::PIDS,
];

/// Say what an address is.
///
/// Sources are asked in this order: objects of KFENCE, objects of slab caches, slabs, stacks of tasks, per-CPU memory,
/// the kernel's image, modules, struct pages, the direct map, other mappings. In a pipe it passes on what the address
/// belongs to, with its type where that is known.
#[derive(Args)]
pub struct Whatis {
    /// all answers, not only the first
    #[arg(short = 'a')]
    all: bool,
    /// name the record of the object's last transaction instead of showing it
    #[arg(short = 'b')]
    bufctl: bool,
    /// it is an identifier, such as a pid, and no address
    #[arg(short = 'i')]
    identifier: bool,
    /// keep the order of the addresses: they always keep it
    #[arg(short = 'k', hide = true)]
    keep: bool,
    /// one line for each answer, without stacks
    #[arg(short = 'q')]
    quiet: bool,
    /// say which sources are asked
    #[arg(short = 'v')]
    verbose: bool,
}

/// An answer.
#[derive(Row)]
pub struct WhatisRow {
    /// what the address belongs to
    #[hidden]
    object: Object,
    /// the address
    #[hidden]
    addr: Addr,
    /// how far behind the start of the object the address is
    #[hidden]
    offset: Option<i64>,
    /// which source answered
    #[hidden]
    source: &'static str,
    /// name of the cache, symbol, module, … that it belongs to
    #[hidden]
    name: Option<String>,
    /// state of a slab object: `allocated`, `freed`, `rcu` (freed, waits for the end of a grace period), `unknown`
    #[hidden]
    state: Option<&'static str>,
    /// the answer in words
    #[heading("")]
    text: String,
    /// who allocated it, who freed it, and from where
    #[detail]
    report: Vec<String>,
}

impl Dcmd for Whatis {
    const NAME: &'static str = "whatis";
    const ADDRESS: Address = Address::Required;
    const ROWS: &'static [&'static Schema] = &[WhatisRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let addr = at.map_or(0, |o| o.addr);
        let want = Want { bufctl: self.bufctl, report: !self.quiet && !self.bufctl };
        let mut known = false;
        for source in SOURCES.iter().filter(|s| s.identifiers == self.identifier) {
            if self.verbose && !out.piped {
                out.line(format!("Searching {}...", source.name))?;
            }
            let answer = match (source.find)(cx, addr, want) {
                Ok(Some(answer)) => answer,
                Ok(None) => continue,
                Err(e) if e.is_control() => return Err(e),
                // what one source cannot answer another may
                Err(e) => {
                    cx.notes.once(0, format!("{}: {e}", source.name));
                    continue;
                }
            };
            known = true;
            out.row(WhatisRow {
                object: answer.object,
                addr: Addr(addr),
                offset: answer.offset,
                source: source.name,
                name: answer.name,
                state: answer.state,
                text: format!("{addr:x} is {}", answer.text),
                report: answer.report,
            })?;
            if !self.all {
                return Ok(());
            }
        }
        if known || out.piped { Ok(()) } else { out.line(format!("{addr:x} is unknown")) }
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Whatis>()];

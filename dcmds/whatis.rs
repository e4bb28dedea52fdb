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

mod area;
mod code;
mod memory;
mod number;
mod slab;
mod symbol;
mod task;
mod user;

use crate::member::{self, plus};
use engine::{IntoRow, Schema, prelude::*};
use std::sync::Arc;
use walkers::page::PageMap;

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
    /// the C type of the object, with the member that the address is in
    pub member: Option<Arc<str>>,
    /// the sentence behind `ADDRESS is `
    pub text: String,
    /// more, a line each
    pub report: Vec<String>,
}

impl Answer {
    /// The sentence `ADDRESS is BASE+OFFSET (MEMBER), WHAT`.
    fn inside(cx: &Cx<'_>, object: Object, addr: u64, what: &str) -> Answer {
        let offset = addr.wrapping_sub(object.addr) as i64;
        let member = u64::try_from(offset).ok().and_then(|offset| member::name(cx, object.ctype, offset));
        let typed = member.as_ref().map_or_else(String::new, |member| format!(" ({member})"));
        let text = format!("{:x}{}{typed}, {what}", object.addr, plus(offset));
        Answer { offset: Some(offset), member, ..Answer::is(object, text) }
    }

    /// The sentence `ADDRESS is WHAT`.
    fn is(object: Object, what: String) -> Answer {
        Answer { object, offset: None, name: None, state: None, member: None, text: what, report: Vec::new() }
    }

    fn named(self, name: impl Into<String>) -> Answer {
        Answer { name: Some(name.into()), ..self }
    }
}

/// How much is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Want {
    /// the address of the record of the last transaction in the sentence
    pub bufctl: bool,
    /// more than a sentence
    pub report: bool,
    /// the type of objects that no cache tells, by what refers to them
    pub types: bool,
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
    number::NUMBERS,
    slab::KFENCE,
    slab::OBJECTS,
    slab::SLABS,
    task::STACKS,
    task::CPU_STACKS,
    symbol::PERCPU,
    symbol::KERNEL,
    symbol::MODULES,
    code::CODE,
    area::VMALLOC,
    area::FIXMAP,
    area::DEPOT,
    memory::PAGE_STRUCTS,
    memory::DIRECT_MAP,
    memory::MAPPINGS,
    area::REGIONS,
    user::USERS,
    task::PIDS,
];

/// Say what an address is.
///
/// Sources are asked in this order: numbers that are no addresses, such as error codes and poison; objects of KFENCE,
/// objects of slab caches, slabs, stacks of tasks, stacks of CPUs, per-CPU memory, the kernel's image, modules, code made
/// at run time, vmalloc areas, the fixmap, the stack depot, struct pages, the direct map, other mappings, what addresses
/// are for, memory of processes. In a pipe it passes on what the address belongs to, with its type where that is known.
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
    /// it is a physical address
    #[arg(short = 'p', conflicts_with = "identifier")]
    physical: bool,
    /// one line for each answer, without stacks
    #[arg(short = 'q')]
    quiet: bool,
    /// say of what type objects of kmalloc() may be; unasked once `::typegraph` has made that out
    #[arg(short = 't')]
    types: bool,
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
    /// C type of the object, with the member that the address is in
    #[hidden]
    member: Option<String>,
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
        let asked = at.map_or(0, |o| o.addr);
        // memory is known by its address in the kernel's half; nothing else is known of what has none
        let addr = if self.physical { virt(cx, asked)? } else { Some(asked) };
        let want = Want { bufctl: self.bufctl, report: !self.quiet && !self.bufctl, types: self.types };
        let mut known = false;
        let sources = SOURCES.iter().filter(|s| s.identifiers == self.identifier);
        let physical = Some(&memory::PHYSICAL).filter(|_| self.physical);
        // of a physical address nothing is left to say by these
        let virtual_only = [memory::DIRECT_MAP.name, memory::MAPPINGS.name, user::USERS.name, number::NUMBERS.name];
        for source in sources.filter(|s| !self.physical || !virtual_only.contains(&s.name)).chain(physical) {
            let addr = if source.name == memory::PHYSICAL.name { Some(asked) } else { addr };
            let Some(addr) = addr else { continue };
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
            out.row(WhatisRow::of(asked, source.name, answer))?;
            if !self.all {
                return Ok(());
            }
        }
        if known || out.piped { Ok(()) } else { out.line(format!("{asked:x} is unknown")) }
    }
}

impl WhatisRow {
    fn of(addr: u64, source: &'static str, answer: Answer) -> WhatisRow {
        WhatisRow {
            object: answer.object,
            addr: Addr(addr),
            offset: answer.offset,
            source,
            name: answer.name,
            state: answer.state,
            member: answer.member.map(|member| member.to_string()),
            text: format!("{addr:x} is {}", answer.text),
            report: answer.report,
        }
    }
}

/// Where the kernel has a physical address: in its image, else in the direct map; `None` of what is no RAM.
fn virt(cx: &Cx<'_>, pa: u64) -> Result<Option<u64>> {
    if let Ok(layout) = cx.target.kernel_layout() {
        let image = pa.wrapping_add(layout.image_offset);
        if layout.image.contains(&image) {
            return Ok(Some(image));
        }
    }
    let map = PageMap::of(cx)?;
    let page = map.address(pa >> map.shift).filter(|_| map.page(pa >> map.shift).is_some());
    Ok(page.map(|page| page + (pa & ((1 << map.shift) - 1))))
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Whatis>()];

//! eBPF: `::bpf`, `::bpfmaps`, `::bpflinks`.
//!
//! ```console
//! > ::bpf
//! ADDR             ID TYPE          NAME     TAG              INSNS JITED MAPS UID LOADED TARGET
//! ff8912e8400cd000  1 socket_filter lab_prog 6077d57450dba801     2    28        0 61.087 -
//! ```

use engine::{IntoRow, prelude::*};
use walkers::bpf::{self, Link, Map, Prog};

/// Show eBPF programs.
#[derive(Args)]
pub struct Bpf {
    /// disassemble the machine code of each
    #[arg(short = 'j')]
    jited: bool,
    /// only the program of this number
    id: Option<ExprArg>,
}

/// A program.
#[derive(Row)]
struct ProgRow {
    /// address of its struct bpf_prog
    addr: Object,
    /// its number
    id: Result<u32>,
    /// what it is for
    #[heading("TYPE")]
    kind: Cell,
    /// its name
    name: Result<String>,
    /// the first bytes of the hash of its code
    tag: Result<String>,
    /// instructions
    insns: u32,
    /// bytes of machine code; none if it is interpreted
    jited: Option<u32>,
    /// its machine code
    #[hidden]
    code: Addr,
    /// numbers of the maps that it uses
    maps: Result<String>,
    /// the user who loaded it
    uid: Option<u32>,
    /// seconds after boot at which it was loaded
    loaded: Result<String>,
    /// the function that it was loaded for
    target: Option<String>,
}

fn kind(cx: &Cx<'_>, name: &str, value: u32) -> Cell {
    bpf::enum_name(cx, name, value).map_or(Cell::Uint(value.into()), Cell::Str)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

impl Bpf {
    fn show(&self, cx: &Cx<'_>, at: u64, out: &mut Out<'_>) -> Result<()> {
        let Some(prog) = readable::<Prog>(cx, at)? else { return Ok(()) };
        let only = self.id.as_ref().map(|id| id.eval(cx)).transpose()?;
        let aux = prog.aux(cx);
        if only.is_some() && only != aux.as_ref().ok().map(|aux| aux.id.into()) {
            return Ok(());
        }
        if self.jited {
            return disassemble(cx, &prog, out);
        }
        let why = |e: &Error| Error::Unavailable(e.kind());
        let aux = aux.as_ref();
        let maps = aux.map_err(why).and_then(|aux| {
            let ids: Result<Vec<u32>> = aux.maps(cx)?.into_iter().map(|at| Ok(cx.view::<Map>(at)?.id)).collect();
            Ok(ids?.iter().map(u32::to_string).collect::<Vec<_>>().join(","))
        });
        out.row(ProgRow {
            addr: cx.object("bpf_prog", at),
            id: aux.map(|aux| aux.id).map_err(why),
            kind: kind(cx, "bpf_prog_type", prog.kind),
            name: aux.map(|aux| aux.name.clone()).map_err(why),
            tag: prog.tag(cx).map(|tag| hex(&tag)),
            insns: prog.len,
            jited: prog.jited.then_some(prog.jited_len),
            code: Addr(prog.bpf_func),
            maps,
            uid: aux.ok().and_then(|aux| aux.uid(cx)),
            loaded: aux.map_err(why).map(|aux| {
                format!("{}.{:03}", aux.load_time / 1_000_000_000, aux.load_time % 1_000_000_000 / 1_000_000)
            }),
            target: aux.ok().and_then(|aux| aux.target(cx)),
        })
    }
}

/// The machine code of a program, an instruction a line.
fn disassemble(cx: &Cx<'_>, prog: &Prog, out: &mut Out<'_>) -> Result<()> {
    /// an architecture's longest instruction, and what padding may follow
    const MAX: u32 = 16 << 20;
    if !prog.jited {
        return out.line(format!("{:#x} is interpreted", prog.addr));
    }
    let end = prog.bpf_func.saturating_add(prog.jited_len.min(MAX).into());
    let mut at = prog.bpf_func;
    while at < end {
        let Some((text, len)) = (cx.registry.disassemble)(cx, at) else {
            return out.line(format!("{at:016x}: what is there is no instruction"));
        };
        out.line(format!("{at:016x}: +{:<#6x} {text}", at - prog.bpf_func))?;
        at = at.saturating_add(len.max(1) as u64);
    }
    Ok(())
}

fn readable<V: View>(cx: &Cx<'_>, at: u64) -> Result<Option<V>> {
    match cx.view(at) {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.is_control() => Err(e),
        Err(e) => {
            cx.notes.add(at, format!("eBPF: {}", e.kind()));
            Ok(None)
        }
    }
}

impl Dcmd for Bpf {
    const NAME: &'static str = "bpf";
    const ALIASES: &'static [&'static str] = &["bpfprogs"];
    const ROWS: &'static [&'static engine::Schema] = &[ProgRow::SCHEMA];
    const PASSES: &'static str = "struct bpf_prog";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        match at {
            Some(one) => self.show(cx, one.addr, out),
            None => bpf::progs(cx, &mut |at| self.show(cx, at, out)),
        }
    }
}

/// Show eBPF maps.
#[derive(Args)]
pub struct BpfMaps {}

/// A map.
#[derive(Row)]
struct MapRow {
    /// address of its struct bpf_map
    addr: Object,
    /// its number
    id: u32,
    /// what it is
    #[heading("TYPE")]
    kind: Cell,
    /// its name
    name: String,
    /// bytes of a key
    key: u32,
    /// bytes of a value
    value: u32,
    /// how many there may be
    max: u32,
    /// BPF_F_… bits
    flags: Hex,
    /// how many hold it
    refs: i64,
}

impl Dcmd for BpfMaps {
    const NAME: &'static str = "bpfmaps";
    const ROWS: &'static [&'static engine::Schema] = &[MapRow::SCHEMA];
    const PASSES: &'static str = "struct bpf_map";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let mut show = |at: u64| {
            let Some(map) = readable::<Map>(cx, at)? else { return Ok(()) };
            out.row(MapRow {
                addr: cx.object("bpf_map", at),
                id: map.id,
                kind: kind(cx, "bpf_map_type", map.kind),
                name: map.name,
                key: map.key_size,
                value: map.value_size,
                max: map.max_entries,
                flags: Hex(map.map_flags.into()),
                refs: map.references,
            })
        };
        match at {
            Some(one) => show(one.addr),
            None => bpf::maps(cx, &mut show),
        }
    }
}

/// Show the links that hold eBPF programs where they are attached.
#[derive(Args)]
pub struct BpfLinks {}

/// A link.
#[derive(Row)]
struct LinkRow {
    /// address of its struct bpf_link
    addr: Object,
    /// its number
    id: u32,
    /// what it is attached to
    #[heading("TYPE")]
    kind: Cell,
    /// the operations of its kind
    ops: String,
    /// number of its program
    prog: Option<u32>,
    /// name of its program
    name: Option<String>,
}

impl Dcmd for BpfLinks {
    const NAME: &'static str = "bpflinks";
    const ROWS: &'static [&'static engine::Schema] = &[LinkRow::SCHEMA];
    const PASSES: &'static str = "struct bpf_link";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let mut show = |at: u64| {
            let Some(link) = readable::<Link>(cx, at)? else { return Ok(()) };
            let aux = cx.view::<Prog>(link.prog).and_then(|prog| prog.aux(cx)).ok();
            out.row(LinkRow {
                addr: cx.object("bpf_link", at),
                id: link.id,
                kind: kind(cx, "bpf_link_type", link.kind),
                ops: cx.sym(link.ops),
                prog: aux.as_ref().map(|aux| aux.id),
                name: aux.map(|aux| aux.name),
            })
        };
        match at {
            Some(one) => show(one.addr),
            None => bpf::links(cx, &mut show),
        }
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Bpf>(), DcmdEntry::of::<BpfMaps>(), DcmdEntry::of::<BpfLinks>()];

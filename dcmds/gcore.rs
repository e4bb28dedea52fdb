//! A core file of a process out of the dump: `::gcore`.
//!
//! ```console
//! > 0t1::pid2task | ::gcore -o init.core
//! FILE      PID THREADS MAPPINGS  BYTES MISSING
//! init.core   1       1       10 1937408  430080
//! $ gdb busybox init.core
//! ```

mod notes;

use engine::{prelude::*, targets::Arch};
use notes::{Bytes, Kind};
use std::{
    fs::File as Output,
    io::{BufWriter, Seek, SeekFrom, Write},
};
use walkers::{
    corefile::{self, Piece, Pieces, Source},
    task::Task,
    vma::{self, Vma},
};

/// Write a core file of a process, as the kernel would have, for gdb: the threads with their registers, what is mapped
/// where, and all of its memory that is in the dump.
///
/// Pages that were swapped out, that are in a file on the disk only, or that were left out of the dump, are not in the
/// core file either: gdb says that it cannot read them, or reads them from the program's own file. MISSING says how much
/// that is.
#[derive(Args)]
pub struct Gcore {
    /// the file to make; it must not exist [default: core.PID]
    #[arg(short = 'o', value_name = "FILE")]
    output: Option<String>,
}

/// A core file.
#[derive(Row)]
struct CoreRow {
    /// the file
    file: String,
    /// process id
    pid: i32,
    /// threads in it
    threads: usize,
    /// mappings in it
    mappings: usize,
    /// of its memory in the file
    bytes: u64,
    /// of its memory not in the dump
    missing: u64,
}

/// A stretch of memory that is in the file, or not, as a whole: what a PT_LOAD tells of.
struct Segment {
    start: u64,
    len: u64,
    /// PF_R, PF_W, PF_X
    flags: u32,
    pieces: Vec<Piece>,
}

impl Segment {
    fn is_missing(&self) -> bool {
        self.pieces.first().is_none_or(|piece| piece.source == Source::Missing)
    }

    fn file_len(&self) -> u64 {
        if self.is_missing() { 0 } else { self.len }
    }
}

/// Pieces that are alike together. A core file with more would have no room for their headers.
const MAX_SEGMENTS: usize = 1 << 24;

fn segments(cx: &Cx<'_>, mm: u64, mappings: &[Vma]) -> Result<Vec<Segment>> {
    let mut segments: Vec<Segment> = Vec::new();
    let pieces = Pieces::of(cx, mm)?;
    for vma in mappings {
        let (read, write, exec) = vma.access();
        let flags = u32::from(read) << 2 | u32::from(write) << 1 | u32::from(exec);
        let first = segments.len();
        let made = pieces.each(vma, &mut |piece| {
            let missing = piece.source == Source::Missing;
            let (own, full) = (segments.len() > first, segments.len() >= MAX_SEGMENTS);
            match segments.last_mut().filter(|last| own && last.is_missing() == missing) {
                Some(last) => {
                    last.len += piece.len;
                    last.pieces.push(piece);
                }
                None if full => return Err(Error::Unavailable("too many mappings".into())),
                None => segments.push(Segment { start: piece.start, len: piece.len, flags, pieces: vec![piece] }),
            }
            Ok(())
        });
        match made {
            Err(e) if e.is_unreadable() => cx.notes.add(vma.addr, format!("mapping: {}", e.kind())),
            result => result?,
        }
    }
    Ok(segments)
}

// ---- the file ---------------------------------------------------------------------------------------------------

/// `PN_XNUM`: there are more program headers, and the first section header says how many.
const PN_XNUM: u64 = 0xffff;

impl Kind {
    /// Sizes of the ELF header, of a program header, of a section header.
    fn sizes(self) -> (u64, u64, u64) {
        if self.narrow { (52, 32, 40) } else { (64, 56, 64) }
    }

    /// `EM_386`, `EM_X86_64`, `EM_AARCH64`.
    fn machine(self) -> u16 {
        match self {
            Kind { narrow: true, .. } => 3,
            Kind { arch: Arch::Aarch64, .. } => 183,
            _ => 62,
        }
    }
}

/// Where everything is in the file.
struct Layout {
    kind: Kind,
    sections: u64,
    notes: u64,
    data: u64,
    page: u64,
}

/// A program header.
struct Program {
    /// `PT_LOAD`, `PT_NOTE`
    what: u32,
    flags: u32,
    offset: u64,
    address: u64,
    in_file: u64,
    in_memory: u64,
    align: u64,
}

impl Program {
    fn write(&self, kind: Kind, bytes: Bytes) -> Bytes {
        let bytes = bytes.u32(self.what);
        // the flags stand where they fit
        let bytes = if kind.narrow { bytes } else { bytes.u32(self.flags) };
        let places = [self.offset, self.address, 0, self.in_file, self.in_memory];
        let bytes = places.into_iter().fold(bytes, |bytes, value| bytes.word(kind, value));
        let bytes = if kind.narrow { bytes.u32(self.flags) } else { bytes };
        bytes.word(kind, self.align)
    }
}

impl Layout {
    fn of(cx: &Cx<'_>, kind: Kind, segments: u64, notes: u64) -> Layout {
        let (header, program, section) = kind.sizes();
        let sections = header + program * (segments + 1);
        let at = sections + if segments + 1 >= PN_XNUM { section } else { 0 };
        let page = cx.target.page_size();
        Layout { kind, sections, notes: at, data: (at + notes).next_multiple_of(page), page }
    }

    fn headers(&self, segments: &[Segment], notes: u64) -> Vec<u8> {
        let (kind, (header, program, section)) = (self.kind, self.kind.sizes());
        let count = segments.len() as u64 + 1;
        let many = count >= PN_XNUM;
        // little-endian, version 1, ET_CORE
        let class = if kind.narrow { 1 } else { 2 };
        let ident = Bytes(vec![0x7f, b'E', b'L', b'F', class, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let bytes = ident.u16(4).u16(kind.machine()).u32(1).word(kind, 0).word(kind, header);
        let bytes = bytes.word(kind, if many { self.sections } else { 0 });
        let bytes = bytes.u32(0).u16(header as u16).u16(program as u16).u16(count.min(PN_XNUM) as u16);
        let bytes = bytes.u16(if many { section as u16 } else { 0 }).u16(many.into()).u16(0);
        let note =
            Program { what: 4, flags: 0, offset: self.notes, address: 0, in_file: notes, in_memory: 0, align: 4 };
        let mut bytes = note.write(kind, bytes);
        let mut at = self.data;
        for segment in segments {
            let load = Program {
                what: 1,
                flags: segment.flags,
                offset: at,
                address: segment.start,
                in_file: segment.file_len(),
                in_memory: segment.len,
                align: self.page,
            };
            bytes = load.write(kind, bytes);
            at += segment.file_len();
        }
        if many {
            // the first section: its size is 1, and what it tells of is how many program headers there are
            bytes = [0, 0, 0, 1].into_iter().fold(bytes.u32(0).u32(0), |bytes, value| bytes.word(kind, value));
            bytes = bytes.u32(0).u32(count as u32).word(kind, 0).word(kind, 0);
        }
        bytes.0
    }
}

/// Bytes copied at once.
const STEP: u64 = 1 << 20;

/// Writes what is in memory, and leaves holes for zeros.
fn copy(cx: &Cx<'_>, segments: &[Segment], start: u64, file: &mut (impl Write + Seek)) -> Result<u64> {
    let mut at = start;
    let mut buf = Vec::new();
    for piece in segments.iter().filter(|segment| !segment.is_missing()).flat_map(|segment| &segment.pieces) {
        if let Source::At(pa) = piece.source {
            file.seek(SeekFrom::Start(at))?;
            let mut done = 0;
            while done < piece.len {
                let len = STEP.min(piece.len - done);
                buf.resize(len as usize, 0);
                cx.read_in(Space::Phys, pa.wrapping_add(done), &mut buf)?;
                file.write_all(&buf)?;
                done += len;
            }
        }
        at += piece.len;
    }
    Ok(at)
}

impl Gcore {
    fn write(&self, cx: &Cx<'_>, name: &str, mm: u64, leader: u64) -> Result<CoreRow> {
        let threads = corefile::threads(cx, leader)?;
        let pid = threads.first().map_or(0, |thread| thread.task.tgid);
        let kind = Kind { narrow: threads.iter().any(|thread| thread.is_narrow(cx)), arch: cx.target.arch() };
        if kind == (Kind { narrow: true, arch: Arch::Aarch64 }) {
            let what = format!("process {pid} is of 32 bits: no core file of that kind is written on arm64");
            return Err(Error::Unavailable(what));
        }
        let mut mappings = corefile::mappings(cx, mm)?;
        mappings.retain(|vma| !kind.narrow || vma.end <= 1 << 32);
        let segments = segments(cx, mm, &mappings)?;
        let notes = notes::notes(cx, kind, &threads, &mappings)?;
        let layout = Layout::of(cx, kind, segments.len() as u64, notes.len() as u64);
        let mut file = BufWriter::new(Output::create_new(name).doing(|| format!("making {name}"))?);
        file.write_all(&layout.headers(&segments, notes.len() as u64))?;
        file.seek(SeekFrom::Start(layout.notes))?;
        file.write_all(&notes)?;
        let end = copy(cx, &segments, layout.data, &mut file)?;
        file.flush()?;
        file.get_ref().set_len(end)?;
        let sum = |missing| segments.iter().filter(|s| s.is_missing() == missing).map(|s| s.len).sum();
        let (bytes, missing) = (sum(false), sum(true));
        Ok(CoreRow { file: name.to_owned(), pid, threads: threads.len(), mappings: mappings.len(), bytes, missing })
    }
}

impl Dcmd for Gcore {
    const NAME: &'static str = "gcore";
    const ADDRESS: Address = Address::Required;
    const ROWS: &'static [&'static engine::Schema] = &[CoreRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let at = at.ok_or_else(|| Error::Usage("::gcore needs a task".into()))?;
        let task: Task = cx.view(at.addr)?;
        let Some(mm) = vma::chosen(cx, cx.object("task_struct", at.addr))? else {
            return Err(Error::Unavailable(format!(
                "task {} has no memory: a thread of the kernel, or dead",
                task.pid
            )));
        };
        let leader = cx.u64(at.addr.wrapping_add(cx.offset("task_struct", "group_leader")?))?;
        let name = self.output.clone().unwrap_or_else(|| format!("core.{}", task.tgid));
        let row = self.write(cx, &name, mm, leader)?;
        out.row(row)
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Gcore>()];

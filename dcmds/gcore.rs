//! A core file of a process out of the dump: `::gcore`.
//!
//! ```console
//! > 0t1::pid2task | ::gcore -o init.core
//! FILE      PID THREADS MAPPINGS  BYTES MISSING
//! init.core   1       1       10 1937408  430080
//! $ gdb busybox init.core
//! ```

use engine::{prelude::*, targets::Arch};
use std::{
    fs::File as Output,
    io::{BufWriter, Seek, SeekFrom, Write},
};
use walkers::{
    corefile::{self, Piece, Pieces, Source, Thread},
    cred::Cred,
    file::File,
    process::Usage,
    signal::Signals,
    task::Task,
    user,
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

// ---- notes ------------------------------------------------------------------------------------------------------

/// Types of notes (include/uapi/linux/elf.h).
const NT_PRSTATUS: u32 = 1;
const NT_PRFPREG: u32 = 2;
const NT_PRPSINFO: u32 = 3;
const NT_AUXV: u32 = 6;
const NT_ARM_TLS: u32 = 0x401;
const NT_FILE: u32 = 0x4649_4c45;

/// Notes, one behind the other.
#[derive(Default)]
struct Notes(Vec<u8>);

/// Grows by numbers, little-endian as both architectures are.
struct Bytes(Vec<u8>);

impl Bytes {
    fn u16(mut self, value: u16) -> Bytes {
        self.0.extend(value.to_le_bytes());
        self
    }
    fn u32(mut self, value: u32) -> Bytes {
        self.0.extend(value.to_le_bytes());
        self
    }
    fn u64(mut self, value: u64) -> Bytes {
        self.0.extend(value.to_le_bytes());
        self
    }
    /// Text in a field of `len` bytes, the last of which is NUL.
    fn text(mut self, text: &str, len: usize) -> Bytes {
        let bytes = engine::text::encode(text);
        let end = self.0.len() + len;
        self.0.extend(bytes.iter().take(len.saturating_sub(1)));
        self.0.resize(end, 0);
        self
    }
}

impl Notes {
    fn add(&mut self, kind: u32, name: &str, content: &[u8]) {
        let name_len = name.len() + 1;
        for number in [name_len as u32, content.len() as u32, kind] {
            self.0.extend(number.to_le_bytes());
        }
        for part in [name.as_bytes(), &[0]] {
            self.0.extend(part);
        }
        self.align();
        self.0.extend(content);
        self.align();
    }

    fn align(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}

/// `struct elf_prstatus` (include/linux/elfcore.h).
fn prstatus(cx: &Cx<'_>, thread: &Thread) -> Result<Vec<u8>> {
    let signals = Signals::of(cx, thread.task.addr)?;
    let usage = Usage::of_thread(cx, thread.task.addr)?;
    let or_zero = |value: Result<i32>| value.unwrap_or(0) as u32;
    let time = |bytes: Bytes, ns: u64| bytes.u64(ns / 1_000_000_000).u64(ns / 1000 % 1_000_000);
    // no signal ended it: it was only looked at
    let bytes = Bytes(vec![0; 12]).u16(0).u16(0).u64(signals.pending).u64(signals.blocked);
    let task = &thread.task;
    let bytes = bytes.u32(task.pid as u32).u32(or_zero(task.parent(cx)));
    let bytes = bytes.u32(or_zero(task.group(cx))).u32(or_zero(task.login(cx)));
    let mut bytes = [usage.user, usage.system, 0, 0].into_iter().fold(bytes, time);
    let room = if cx.target.arch() == Arch::Aarch64 { 34 } else { 27 };
    let general = thread.general.as_deref().unwrap_or_default();
    for i in 0..room {
        bytes = bytes.u64(general.get(i).copied().unwrap_or(0));
    }
    Ok(bytes.u32(thread.float.is_some().into()).u32(0).0)
}

/// `struct elf_prpsinfo`.
fn prpsinfo(cx: &Cx<'_>, task: &Task) -> Vec<u8> {
    let or_zero = |value: Result<i32>| value.unwrap_or(0) as u32;
    let state = task.state();
    let number = "RSDTtXZP".find(state).unwrap_or(0) as u8;
    let head = vec![number, state as u8, u8::from(state == 'Z'), task.nice() as i8 as u8, 0, 0, 0, 0];
    let (uid, gid) = Cred::of_task(cx, task.addr).map_or((0, 0), |cred| (cred.uid, cred.gid));
    let arguments = user::arguments(cx, task.addr).map(|(arguments, _)| arguments.join(" ")).unwrap_or_default();
    let bytes = Bytes(head).u64(task.flags.into()).u32(uid).u32(gid).u32(task.tgid as u32);
    let bytes = bytes.u32(or_zero(task.parent(cx))).u32(or_zero(task.group(cx))).u32(or_zero(task.login(cx)));
    bytes.text(&task.comm, 16).text(&arguments, 80).0
}

/// NT_FILE: which file is mapped where (`fill_files_note()` in fs/binfmt_elf.c).
fn files(cx: &Cx<'_>, mappings: &[Vma]) -> Vec<u8> {
    let size = cx.target.page_size();
    let named: Vec<(&Vma, String)> = mappings
        .iter()
        .filter(|vma| vma.file != 0)
        .map(|vma| (vma, cx.view::<File>(vma.file).and_then(|file| file.path(cx)).unwrap_or_else(|_| "?".into())))
        .collect();
    let mut bytes = Bytes(Vec::new()).u64(named.len() as u64).u64(size);
    for (vma, _) in &named {
        bytes = bytes.u64(vma.start).u64(vma.end).u64(vma.page_of(vma.start, size));
    }
    for (_, path) in &named {
        bytes = bytes.text(path, engine::text::encode(path).len() + 1);
    }
    bytes.0
}

fn notes(cx: &Cx<'_>, threads: &[Thread], mappings: &[Vma]) -> Result<Vec<u8>> {
    let mut notes = Notes::default();
    for (i, thread) in threads.iter().enumerate() {
        if thread.general.is_none() {
            cx.notes.add(thread.task.addr, "thread whose registers in user mode are not known: zeros stand for them");
        }
        notes.add(NT_PRSTATUS, "CORE", &prstatus(cx, thread)?);
        if i == 0 {
            notes.add(NT_PRPSINFO, "CORE", &prpsinfo(cx, &thread.task));
            let auxv = user::auxv(cx, thread.task.addr)?.into_iter().chain([(0, 0)]);
            notes.add(NT_AUXV, "CORE", &auxv.fold(Bytes(Vec::new()), |bytes, (k, v)| bytes.u64(k).u64(v)).0);
            notes.add(NT_FILE, "CORE", &files(cx, mappings));
        }
        if let Some(float) = &thread.float {
            notes.add(NT_PRFPREG, "CORE", float);
        }
        if let Some(tls) = thread.tls {
            notes.add(NT_ARM_TLS, "LINUX", &tls.to_le_bytes());
        }
    }
    Ok(notes.0)
}

// ---- the file ---------------------------------------------------------------------------------------------------

/// Sizes of the ELF header, of a program header, of a section header.
const EHDR: u64 = 64;
const PHDR: u64 = 56;
const SHDR: u64 = 64;
/// `PN_XNUM`: there are more program headers, and the first section header says how many.
const PN_XNUM: u64 = 0xffff;
/// `EM_X86_64`, `EM_AARCH64`.
const EM_X86_64: u16 = 62;
const EM_AARCH64: u16 = 183;

/// Where everything is in the file.
struct Layout {
    sections: u64,
    notes: u64,
    data: u64,
    page: u64,
}

impl Layout {
    fn of(cx: &Cx<'_>, segments: u64, notes: u64) -> Layout {
        let sections = EHDR + PHDR * (segments + 1);
        let at = sections + if segments + 1 >= PN_XNUM { SHDR } else { 0 };
        let page = cx.target.page_size();
        Layout { sections, notes: at, data: (at + notes).next_multiple_of(page), page }
    }

    fn headers(&self, cx: &Cx<'_>, segments: &[Segment], notes: u64) -> Vec<u8> {
        let machine = if cx.target.arch() == Arch::Aarch64 { EM_AARCH64 } else { EM_X86_64 };
        let count = segments.len() as u64 + 1;
        let many = count >= PN_XNUM;
        // 64 bits, little-endian, version 1, ET_CORE
        let ident = Bytes(vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let bytes = ident.u16(4).u16(machine).u32(1).u64(0).u64(EHDR).u64(if many { self.sections } else { 0 });
        let bytes = bytes.u32(0).u16(EHDR as u16).u16(PHDR as u16).u16(count.min(PN_XNUM) as u16);
        let mut bytes = bytes.u16(if many { SHDR as u16 } else { 0 }).u16(many.into()).u16(0);
        // PT_NOTE
        bytes = bytes.u32(4).u32(0).u64(self.notes).u64(0).u64(0).u64(notes).u64(0).u64(4);
        let mut at = self.data;
        for segment in segments {
            // PT_LOAD
            bytes = bytes.u32(1).u32(segment.flags).u64(at).u64(segment.start).u64(0);
            bytes = bytes.u64(segment.file_len()).u64(segment.len).u64(self.page);
            at += segment.file_len();
        }
        if many {
            bytes = bytes.u32(0).u32(0).u64(0).u64(0).u64(0).u64(1).u32(0).u32(count as u32).u64(0).u64(0);
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
        let mappings = corefile::mappings(cx, mm)?;
        let threads = corefile::threads(cx, leader)?;
        let pid = threads.first().map_or(0, |thread| thread.task.tgid);
        if threads.iter().any(|thread| thread.is_narrow(cx)) {
            return Err(Error::Unavailable(format!(
                "process {pid} is of 32 bits: no core file of that kind is written"
            )));
        }
        let segments = segments(cx, mm, &mappings)?;
        let notes = notes(cx, &threads, &mappings)?;
        let layout = Layout::of(cx, segments.len() as u64, notes.len() as u64);
        let mut file = BufWriter::new(Output::create_new(name).doing(|| format!("making {name}"))?);
        file.write_all(&layout.headers(cx, &segments, notes.len() as u64))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_aligned() {
        let mut notes = Notes::default();
        notes.add(NT_ARM_TLS, "LINUX", &[1; 8]);
        notes.add(NT_PRFPREG, "CORE", &[2; 3]);
        assert_eq!(notes.0.len(), (12 + 8 + 8) + (12 + 8 + 4));
        assert_eq!(Bytes(Vec::new()).text("abcdef", 4).0, b"abc\0");
    }
}

//! Call stacks of user code, out of the dump: from the registers that a thread had when it entered the kernel, from frame
//! to frame by the program's own `.eh_frame`, and where there is none, by frame pointers.
//!
//! Program and libraries are read from the process's memory, and from the page cache, which has what was mapped but not
//! touched, and what is in the file only: symbols, unless they were stripped.

use crate::{
    corefile::{Piece, Pieces, Source, Thread, mappings},
    file::File,
    inode::Inode,
    page::PageMap,
    pagecache,
    vma::Vma,
};
use engine::{
    debuginfo::{
        cfi::{self, Caller, REGISTERS, Registers, Tables},
        program::Program,
    },
    prelude::*,
    targets::Arch,
};
use std::collections::HashMap;

/// How a frame was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// where the thread was when it entered the kernel
    Registers,
    /// by call frame information
    Cfi,
    /// by a frame pointer, where nothing says that there is one: a guess
    Guess,
}

impl How {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            How::Registers => "regs",
            How::Cfi => "cfi",
            How::Guess => "fp?",
        }
    }
}

/// A frame.
#[derive(Clone, Debug)]
pub struct Frame {
    /// where it goes on
    pub pc: u64,
    /// its stack pointer
    pub sp: u64,
    /// how it was found
    pub how: How,
    /// the function, and how far in it
    pub function: Option<(String, u64)>,
    /// the file that it is in, and where that was loaded; 0 if that cannot be told
    pub object: Option<(String, u64)>,
}

/// A call stack.
pub struct Trace {
    /// its frames, innermost first
    pub frames: Vec<Frame>,
    /// why it ends, if not where it began
    pub broken: Option<String>,
}

/// A process's memory, wherever it is.
struct Image<'a> {
    session: &'a Session,
    mappings: Vec<Vma>,
    /// by address, without those that are missing
    pieces: Vec<Piece>,
}

impl<'a> Image<'a> {
    fn of(session: &'a Session, mm: u64) -> Result<Image<'a>> {
        let (mappings, sources) = (mappings(session, mm)?, Pieces::of(session, mm)?);
        let mut pieces = Vec::new();
        for vma in &mappings {
            let made = sources.each(vma, &mut |piece| {
                if piece.source != Source::Missing {
                    pieces.push(piece);
                }
                Ok(())
            });
            match made {
                Err(e) if e.is_unreadable() => session.notes.add(vma.addr, format!("mapping: {}", e.kind())),
                result => result?,
            }
        }
        pieces.sort_by_key(|piece| piece.start);
        Ok(Image { session, mappings, pieces })
    }

    fn mapping(&self, addr: u64) -> Option<&Vma> {
        self.mappings.iter().find(|vma| (vma.start..vma.end).contains(&addr))
    }

    /// As many of `len` bytes as are there.
    fn prefix(&self, addr: u64, len: u64) -> Vec<u8> {
        let (mut out, mut at) = (Vec::new(), addr);
        let end = addr.saturating_add(len);
        while at < end {
            let next = self.pieces.partition_point(|piece| piece.start <= at);
            let piece = next.checked_sub(1).and_then(|i| self.pieces.get(i));
            let Some(piece) = piece.filter(|piece| at - piece.start < piece.len) else { break };
            let step = (piece.start + piece.len - at).min(end - at) as usize;
            let old = out.len();
            out.resize(old + step, 0);
            if let (Source::At(pa), Some(buf)) = (piece.source, out.get_mut(old..))
                && self.session.read_in(Space::Phys, pa + (at - piece.start), buf).is_err()
            {
                out.truncate(old);
                break;
            }
            at += step as u64;
        }
        out
    }

    fn word(&self, addr: u64) -> Option<u64> {
        Some(u64::from_le_bytes(self.prefix(addr, 8).try_into().ok()?))
    }
}

/// A program or library that is mapped.
struct Object {
    name: String,
    base: u64,
    bias: u64,
    program: Program,
    header: Option<(Vec<u8>, u64)>,
    frames: Option<(Vec<u8>, u64)>,
}

/// Larger tables of frames are cut off.
const MAX_FRAMES_TABLE: u64 = 64 << 20;
/// Larger pieces of a file are not asked for.
const MAX_PIECE: u64 = 256 << 20;

impl Object {
    /// What the code in a mapping is of.
    fn of(image: &Image<'_>, vma: &Vma) -> Result<Option<Object>> {
        let session = image.session;
        let page = session.target.page_size();
        if vma.file == 0 {
            // the vDSO, which the kernel maps from its own memory
            let read = |at: u64, len: u64| {
                let bytes = image.prefix(vma.start.checked_add(at)?, len.min(vma.end - vma.start));
                (bytes.len() as u64 == len).then_some(bytes)
            };
            return Ok(Program::read(&read).and_then(|program| Object::new(image, "[vdso]".into(), vma.start, program)));
        }
        let file: File = session.view(vma.file)?;
        let (inode, pages) = (session.view::<Inode>(file.inode)?, cached_pages(session, file.inode)?);
        let same =
            |other: &&Vma| other.file != 0 && session.view::<File>(other.file).is_ok_and(|f| f.inode == file.inode);
        let mine: Vec<&Vma> = image.mappings.iter().filter(same).collect();
        // the last that begins with the file's first byte before this one: a file may be loaded twice
        let base = mine.iter().rev().find(|other| other.start <= vma.start && other.page_of(other.start, page) == 0);
        let Some(base) = base.map(|base| base.start) else { return Ok(None) };
        let size = inode.size.max(0) as u64;
        let read = |at: u64, len: u64| {
            let end = at.checked_add(len).filter(|end| *end <= size && len <= MAX_PIECE)?;
            let mut out = Vec::with_capacity(len as usize);
            let mut at = at;
            while at < end {
                let step = (page - at % page).min(end - at);
                let bytes = match pages.get(&(at / page)) {
                    Some(frame) => {
                        session.target.bytes(Space::Phys, frame * page + at % page, step as usize).ok()?.to_vec()
                    }
                    None => {
                        let there = |m: &&&Vma| {
                            let first = m.page_of(m.start, page);
                            !m.access().1 && (first..first + (m.end - m.start) / page).contains(&(at / page))
                        };
                        let m = mine.iter().find(there)?;
                        image.prefix(m.start + (at / page - m.page_of(m.start, page)) * page + at % page, step)
                    }
                };
                if bytes.len() as u64 != step {
                    return None;
                }
                out.extend(bytes);
                at += step;
            }
            Some(out)
        };
        let name = file.path(session)?;
        Ok(Program::read(&read).and_then(|program| Object::new(image, name, base, program)))
    }

    fn new(image: &Image<'_>, name: String, base: u64, program: Program) -> Option<Object> {
        let bias = program.bias(base, image.session.target.page_size())?;
        let mut object = Object { name, base, bias, program, header: None, frames: None };
        object.header = object.program.eh_frame_hdr.map(|range| {
            let at = range.at.wrapping_add(bias);
            (image.prefix(at, range.len.min(MAX_FRAMES_TABLE)), at)
        });
        let at = object.header.as_ref().and_then(|(header, at)| cfi::frames_at(header, *at));
        let at = at.or_else(|| Some(object.program.eh_frame?.at.wrapping_add(bias)));
        object.frames = at.and_then(|at| {
            let load = object.program.load(at.wrapping_sub(bias))?;
            let len = load.at.wrapping_add(bias).wrapping_add(load.len).wrapping_sub(at);
            Some((image.prefix(at, len.min(MAX_FRAMES_TABLE)), at))
        });
        Some(object)
    }

    fn function(&self, pc: u64) -> Option<(String, u64)> {
        let at = pc.wrapping_sub(self.bias);
        let function = self.program.function(at)?;
        Some((function.name.clone(), at - function.at))
    }
}

/// The pages of a file that are in memory: by their place in it, the frame.
fn cached_pages(session: &Session, inode: u64) -> Result<HashMap<u64, u64>> {
    let (map, mut pages) = (PageMap::of(session)?, HashMap::new());
    let inode: Inode = session.view(inode)?;
    pagecache::each(session, inode.mapping, &mut |cached| {
        if let Some(frame) = map.frame(cached.page) {
            pages.extend((0..cached.pages).map(|i| (cached.index.wrapping_add(i), frame.wrapping_add(i))));
        }
        Ok(())
    })?;
    Ok(pages)
}

/// How deep a stack is followed.
const MAX_FRAMES: usize = 4096;

/// Follows the stacks of a process's threads.
pub struct Unwinder<'a> {
    image: Image<'a>,
    arm: bool,
    /// by the start of the mapping that code is in
    objects: HashMap<u64, Option<Object>>,
}

impl<'a> Unwinder<'a> {
    /// That of the address space whose `struct mm_struct` is at `mm`.
    pub fn of(session: &'a Session, mm: u64) -> Result<Unwinder<'a>> {
        let arm = session.target.arch() == Arch::Aarch64;
        Ok(Unwinder { image: Image::of(session, mm)?, arm, objects: HashMap::new() })
    }

    /// A thread's registers as DWARF numbers them, and where it goes on.
    fn start(&self, general: &[u64]) -> Option<(Registers, u64, u64)> {
        /// the places of DWARF's registers in `struct pt_regs`: rax, rdx, rcx, rbx, rsi, rdi, rbp, rsp, r8 to r15, rip
        const X86: [usize; 17] = [10, 12, 11, 5, 13, 14, 4, 19, 9, 8, 7, 6, 3, 2, 1, 0, 16];
        let mut registers = [None; REGISTERS];
        if self.arm {
            for (register, value) in registers.iter_mut().zip(general.iter().take(32)) {
                *register = Some(*value);
            }
            return Some((registers, *general.get(32)?, *general.get(31)?));
        }
        for (register, place) in registers.iter_mut().zip(X86) {
            *register = general.get(place).copied();
        }
        Some((registers, *general.get(16)?, *general.get(19)?))
    }

    /// A code address without the signature that arm64 may put into the bits that no address has.
    fn code(&self, pc: u64) -> u64 {
        let candidates = [55, 52, 48].map(|bits| pc & ((1 << bits) - 1));
        match self.arm && self.image.mapping(pc).is_none() {
            true => candidates.into_iter().find(|pc| self.image.mapping(*pc).is_some()).unwrap_or(pc),
            false => pc,
        }
    }

    /// The stack of a thread.
    pub fn trace(&mut self, thread: &Thread) -> Result<Trace> {
        let mut trace = Trace { frames: Vec::new(), broken: None };
        let Some((mut registers, mut pc, mut sp)) = thread.general.as_deref().and_then(|general| self.start(general))
        else {
            trace.broken = Some("its registers in user mode are not known".into());
            return Ok(trace);
        };
        let (mut how, mut exact) = (How::Registers, true);
        loop {
            self.image.session.interrupt.check()?;
            let Some(vma) = self.image.mapping(pc).cloned().filter(|vma| vma.access().2) else {
                trace.broken = Some(format!("{pc:x} is no code"));
                // a wild jump is worth a frame, a bad return address is not
                if trace.frames.is_empty() {
                    trace.frames.push(Frame { pc, sp, how, function: None, object: None });
                }
                return Ok(trace);
            };
            if !self.objects.contains_key(&vma.start) {
                let object = match Object::of(&self.image, &vma) {
                    Err(e) if e.is_control() => return Err(e),
                    object => object.ok().flatten(),
                };
                self.objects.insert(vma.start, object);
            }
            let object = self.objects.get(&vma.start).and_then(Option::as_ref);
            let place = if exact { pc } else { pc.wrapping_sub(1) };
            let function = object.and_then(|object| object.function(place)).map(|(n, o)| (n, o + (pc - place)));
            let named = match object {
                Some(object) => Some((object.name.clone(), object.base)),
                None if vma.file != 0 => {
                    Some((self.image.session.view::<File>(vma.file)?.path(self.image.session)?, 0))
                }
                None => None,
            };
            trace.frames.push(Frame { pc, sp, how, function, object: named });
            if trace.frames.len() >= MAX_FRAMES {
                trace.broken = Some(format!("more than {MAX_FRAMES} frames"));
                return Ok(trace);
            }
            let before = sp;
            match self.caller(object, place, &registers, sp) {
                Ok(Some(next)) => {
                    (registers, pc, sp, exact) = (next.registers, self.code(next.pc), next.sp, next.signal);
                    how = if next.guess { How::Guess } else { How::Cfi };
                }
                Ok(None) => return Ok(trace),
                Err(why) => {
                    trace.broken = Some(why);
                    return Ok(trace);
                }
            }
            // a handler may run on a stack of its own
            if sp <= before && !exact && !(self.arm && sp == before && trace.frames.len() == 1) {
                trace.broken = Some(format!("it leads in circles at stack pointer {sp:x}"));
                return Ok(trace);
            }
        }
    }

    fn caller(
        &self,
        object: Option<&Object>,
        place: u64,
        registers: &Registers,
        sp: u64,
    ) -> Result<Option<Caller>, String> {
        let tables = object.and_then(|object| {
            let (frames, frames_at) = object.frames.as_ref()?;
            let header = object.header.as_ref().map(|(bytes, at)| (bytes.as_slice(), *at));
            Some(Tables { header, frames, frames_at: *frames_at, arm: self.arm })
        });
        cfi::caller(tables.as_ref(), place, registers, sp, self.arm, &|at| self.image.word(at))
    }
}

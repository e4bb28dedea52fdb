//! Unwinding on x86-64, as the kernel does it itself (`unwind_next_frame` in arch/x86/kernel/unwind_orc.c).
//!
//! A kernel without ORC tables was built with frame pointers (CONFIG_UNWINDER_FRAME_POINTER): then the chain of those is
//! followed, in which an odd pointer marks the registers that an interrupt saved.

use super::{
    End, Frame, Guard, How, Trace, hole,
    orc::{Base, Entry, Kind, Orc},
    trampoline,
};
use crate::task::Task;
use engine::{ViewEntry, prelude::*, targets::CpuRegs};
use std::sync::Arc;

/// What a task that is switched out has on top of its stack: `struct inactive_task_frame`
/// (arch/x86/include/asm/switch_to.h).
#[derive(View)]
#[ctype("inactive_task_frame")]
struct Inactive {
    bp: u64,
    ret_addr: u64,
}

/// Where it is.
#[derive(View)]
#[ctype("task_struct")]
struct Switched {
    #[field("thread.sp")]
    sp: u64,
}

/// Where the registers lie in `struct pt_regs` (arch/x86/include/asm/ptrace.h).
struct PtRegs {
    ip: u64,
    sp: u64,
    cs: u64,
    session_offsets: Vec<(&'static str, u64)>,
}

/// Those that ORC reckons from.
const GENERAL: [&str; 7] = ["ax", "dx", "di", "r10", "r13", "bp", "sp"];

impl PtRegs {
    fn of(session: &Session) -> Result<Arc<PtRegs>> {
        session.once(|| {
            let offset = |name| session.offset("pt_regs", name);
            let general = GENERAL.iter().map(|name| Ok((*name, offset(name)?))).collect::<Result<Vec<_>>>()?;
            Ok(PtRegs { ip: offset("ip")?, sp: offset("sp")?, cs: offset("cs")?, session_offsets: general })
        })
    }

    fn offset(&self, name: &str) -> Option<u64> {
        self.session_offsets.iter().find(|(known, _)| *known == name).map(|(_, offset)| *offset)
    }
}

/// Where the registers of the frame at hand are.
#[derive(Clone, Copy)]
enum Registers<'a> {
    /// Only stack pointer, frame pointer and instruction pointer are known.
    None,
    /// The CPU's own.
    Cpu(&'a CpuRegs),
    /// A whole `struct pt_regs`.
    Saved(u64),
    /// The end of one; and a whole one of the frame before, if that had one.
    Partial(u64, Option<u64>),
}

struct Unwinder<'a> {
    session: &'a Session,
    orc: Option<Arc<Orc>>,
    regs: Arc<PtRegs>,
    trampolines: trampoline::Trampolines<'a>,
    ip: u64,
    sp: u64,
    bp: u64,
    /// `ip` is an instruction that was interrupted
    signal: bool,
    known: Registers<'a>,
    how: How,
}

/// What a step came to.
enum Step {
    /// another frame
    Up,
    /// no more
    Over(End),
}

/// The stack of a task that was switched out.
pub(super) fn sleeping(session: &Session, task: &Task) -> Result<Trace> {
    let at = session.view::<Switched>(task.addr)?.sp;
    let frame: Inactive = session.view(at)?;
    let sp = at.wrapping_add(session.size_of("inactive_task_frame")?);
    // a task that has never run yet will start there, and has not called anything
    let fresh =
        ["ret_from_fork_asm", "ret_from_fork"].iter().any(|name| session.kernel_symbol(name) == Some(frame.ret_addr));
    let mut unwinder = Unwinder::new(session, task.addr, How::Switch)?;
    (unwinder.ip, unwinder.sp, unwinder.bp, unwinder.signal) = (frame.ret_addr, sp, frame.bp, fresh);
    unwinder.run()
}

/// The stack of what a CPU was doing.
pub(super) fn running(session: &Session, task: &Task, regs: &CpuRegs) -> Result<Trace> {
    let (Some(ip), Some(sp)) = (regs.ip(), regs.sp()) else { return Ok(Trace::none("its registers are damaged")) };
    let mut unwinder = Unwinder::new(session, task.addr, How::Registers)?;
    (unwinder.ip, unwinder.sp, unwinder.bp) = (ip, sp, regs.get("rbp").unwrap_or(0));
    (unwinder.signal, unwinder.known) = (true, Registers::Cpu(regs));
    unwinder.run()
}

impl<'a> Unwinder<'a> {
    fn new(session: &'a Session, task: u64, how: How) -> Result<Unwinder<'a>> {
        let orc = match Orc::of(session) {
            Ok(orc) => Some(orc),
            Err(e) if e.is_control() => return Err(e),
            Err(e) if session.kernel_symbol("__start_orc_unwind_ip").is_some() => {
                session.notes.add(0, format!("stacks: {}; frame pointers stand in", e.kind()));
                None
            }
            Err(_) => None,
        };
        Ok(Unwinder {
            session,
            orc,
            regs: PtRegs::of(session)?,
            trampolines: trampoline::Trampolines::new(session, task),
            ip: 0,
            sp: 0,
            bp: 0,
            signal: false,
            known: Registers::None,
            how,
        })
    }

    fn run(mut self) -> Result<Trace> {
        let mut frames = Vec::new();
        let mut guard = Guard::default();
        loop {
            let regs = match self.known {
                Registers::Saved(at) => Some(at),
                _ => None,
            };
            frames.push(Frame { pc: self.ip, sp: self.sp, how: self.how, exact: self.signal, regs });
            let before = self.sp;
            let end = match self.step() {
                Ok(Step::Up) => match guard.check(&frames, before, self.sp) {
                    Ok(()) => self.user_code(),
                    Err(circle) => Some(End::Broken(circle)),
                },
                Ok(Step::Over(end)) => Some(end),
                Err(e) if e.is_control() => return Err(e),
                Err(e) => Some(End::Broken(e.kind())),
            };
            if let Some(end) = end {
                return Ok(Trace { frames, end });
            }
        }
    }

    /// The end, if the registers just found are those of user code: privilege level 3 in `cs`.
    fn user_code(&self) -> Option<End> {
        let (Registers::Saved(at) | Registers::Partial(at, _)) = self.known else { return None };
        match self.session.u64(at.wrapping_add(self.regs.cs)) {
            Ok(cs) if cs & 3 == 3 => Some(End::User(Some(at))),
            _ => None,
        }
    }

    fn step(&mut self) -> Result<Step> {
        let Some(orc) = self.orc.clone() else { return self.frame_pointer() };
        let entry = if self.ip == 0 || self.jumped_into_data() {
            Some(Entry::NULL)
        } else {
            let place = if self.signal { self.ip } else { self.ip.wrapping_sub(1) };
            match orc.find(place) {
                Ok(None) if self.is_made_code() => {
                    self.trampolines.copied_from(place).and_then(|from| orc.find(from).ok()?)
                }
                Ok(entry) => entry,
                Err(lost) => return Ok(Step::Over(End::Broken(lost.into()))),
            }
        };
        let (entry, how) = match entry {
            Some(Entry { kind: Kind::End, .. }) => return Ok(Step::Over(End::Bottom)),
            Some(Entry { kind: Kind::Undefined, .. }) => return self.hole(),
            Some(entry) => (entry, How::Orc),
            // code that was made at run time keeps frame pointers: eBPF programs, ftrace's trampolines
            None if self.is_made_code() => (Entry::FRAME_POINTER, How::FramePointer),
            None if self.session.symbolize(self.ip).is_none() => {
                return Ok(Step::Over(End::Broken(format!("{:x} is no known code", self.ip))));
            }
            None if hole::caller(self.session, self.ip, self.sp).is_some() => return self.hole(),
            None => (Entry::FRAME_POINTER, How::Guess),
        };
        self.follow(&orc, entry, how)
    }

    /// Whether a call led to where no code is: its return address is on the stack then.
    fn jumped_into_data(&self) -> bool {
        let mapped = || self.session.target.translate(Space::Kernel, self.ip);
        matches!(self.known, Registers::Saved(_))
            && mapped().map_or(true, |to| to.flags.is_some_and(|flags| !flags.exec))
    }

    /// Whether the instruction pointer lies in executable memory that belongs to no symbol.
    fn is_made_code(&self) -> bool {
        let kernel = self.session.target.translate(Space::Kernel, self.ip);
        self.session.symbolize(self.ip).is_none() && kernel.is_ok_and(|to| to.flags.is_some_and(|flags| flags.exec))
    }

    fn follow(&mut self, orc: &Orc, entry: Entry, how: How) -> Result<Step> {
        let memory = self.session;
        let found = match entry.sp {
            Base::Sp => self.sp.wrapping_add_signed(entry.sp_offset),
            Base::Bp => self.bp.wrapping_add_signed(entry.sp_offset),
            Base::BpIndirect => memory.u64(self.bp.wrapping_add_signed(entry.sp_offset))?,
            Base::SpIndirect if orc.offset_first => memory.u64(self.sp.wrapping_add_signed(entry.sp_offset))?,
            Base::SpIndirect => memory.u64(self.sp)?.wrapping_add_signed(entry.sp_offset),
            Base::Register(name) => match self.register(name)? {
                Some(value) => value,
                None => {
                    return Ok(Step::Over(End::Broken(format!(
                        "it goes on where register {name} points, which is not known"
                    ))));
                }
            },
            Base::Undefined | Base::PrevSp => return Ok(Step::Over(End::Broken("a damaged ORC entry".into()))),
        };
        // the frame pointer that was saved is looked for with the registers of the frame that saved it
        let bp = match entry.bp {
            Base::PrevSp => Some(memory.u64(found.wrapping_add_signed(entry.bp_offset))?),
            Base::Bp => Some(memory.u64(self.bp.wrapping_add_signed(entry.bp_offset))?),
            _ => None,
        };
        match entry.kind {
            Kind::Call => {
                let slot = found.wrapping_sub(8);
                self.ip = self.trampolines.undo(memory.u64(slot)?, slot);
                (self.sp, self.known) = (found, Registers::None);
            }
            Kind::Regs => self.load(Registers::Saved(found), found)?,
            Kind::PartialRegs => {
                let whole = match self.known {
                    Registers::Saved(at) => Some(at),
                    Registers::Partial(_, at) => at,
                    _ => None,
                };
                let at = found.wrapping_sub(self.regs.ip);
                self.load(Registers::Partial(at, whole), at)?;
            }
            Kind::End | Kind::Undefined => return Ok(Step::Over(End::Bottom)),
        }
        self.how = match entry.kind {
            Kind::Call => how,
            _ => How::Saved,
        };
        if let Some(bp) = bp.map_or_else(|| self.register("bp"), |bp| Ok(Some(bp)))? {
            self.bp = bp;
        }
        self.signal = entry.signal;
        Ok(Step::Up)
    }

    fn load(&mut self, known: Registers<'a>, at: u64) -> Result<()> {
        self.ip = self.session.u64(at.wrapping_add(self.regs.ip))?;
        self.sp = self.session.u64(at.wrapping_add(self.regs.sp))?;
        self.known = known;
        Ok(())
    }

    /// A general register of the frame at hand, named as in `struct pt_regs`.
    fn register(&self, name: &str) -> Result<Option<u64>> {
        let at = match self.known {
            Registers::Cpu(regs) => return Ok(regs.get(name).or_else(|| regs.get(&format!("r{name}")))),
            Registers::Saved(at) | Registers::Partial(_, Some(at)) => at,
            Registers::None | Registers::Partial(_, None) => return Ok(None),
        };
        let offset = self.regs.offset(name).ok_or_else(|| Error::Usage(format!("no register {name}")))?;
        self.session.u64(at.wrapping_add(offset)).map(Some)
    }

    /// Code that has no entry, though a table covers it.
    fn hole(&mut self) -> Result<Step> {
        let Some(found) = hole::caller(self.session, self.ip, self.sp) else {
            return Ok(Step::Over(End::Broken(format!("the ORC table leaves out {}", self.session.sym(self.ip)))));
        };
        (self.ip, self.sp, self.signal, self.known) = (found.ip, found.sp, false, Registers::None);
        self.bp = found.bp.unwrap_or(self.bp);
        self.how = How::Scan;
        Ok(Step::Up)
    }

    /// A step along the chain of frame pointers.
    fn frame_pointer(&mut self) -> Result<Step> {
        if self.bp == 0 {
            return Ok(Step::Over(End::Bottom));
        }
        if self.bp & 1 == 1 {
            let at = self.bp & !1;
            self.load(Registers::Saved(at), at)?;
            self.bp = self.register("bp")?.unwrap_or(0);
            (self.signal, self.how) = (true, How::Saved);
            return Ok(Step::Up);
        }
        let slot = self.bp.wrapping_add(8);
        let (next, back) = (self.session.u64(self.bp)?, self.session.u64(slot)?);
        (self.ip, self.sp, self.bp) = (self.trampolines.undo(back, slot), slot.wrapping_add(8), next);
        (self.signal, self.known, self.how) = (false, Registers::None, How::FramePointer);
        if self.session.symbolize(self.ip).is_none() && !self.is_made_code() {
            return Ok(Step::Over(End::Broken(format!("{:x} is no known code", self.ip))));
        }
        Ok(Step::Up)
    }
}

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Inactive>(), ViewEntry::of::<Switched>()];

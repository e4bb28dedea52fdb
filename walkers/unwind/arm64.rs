//! Unwinding on arm64: the chain of frame records (arch/arm64/kernel/stacktrace.c).
//!
//! Every function of the kernel that calls another begins with a record of two words, the caller's record and the return
//! address, and `x29` points at the innermost. At the entry from user code or from an exception the kernel makes one of
//! its own, which since Linux 6.13 (c2c6b27b5aa1) says where the saved registers are.

use super::{End, Frame, Guard, How, Trace, trampoline};
use crate::task::Task;
use engine::{prelude::*, targets::CpuRegs};

/// `FRAME_META_TYPE_FINAL`, `FRAME_META_TYPE_PT_REGS` (arch/arm64/include/asm/stacktrace/frame.h).
const META_FINAL: u64 = 1;
const META_REGS: u64 = 2;

/// The stack of a task that was switched out: `struct cpu_context` in its `thread_struct` has where.
pub(super) fn sleeping(session: &Session, task: &Task) -> Result<Trace> {
    let member = |name: &str| -> Result<u64> {
        let path = format!("thread.cpu_context.{name}");
        session.u64(task.addr.wrapping_add(session.offset("task_struct", &path)?))
    };
    let first = Frame {
        pc: session.target.untagged(member("pc")?),
        sp: member("sp")?,
        how: How::Switch,
        exact: false,
        regs: None,
    };
    chain(session, task.addr, vec![first], member("fp")?)
}

/// The stack of what a CPU was doing. Of a function that has made no record yet, the caller is in `x30`.
pub(super) fn running(session: &Session, task: &Task, regs: &CpuRegs) -> Result<Trace> {
    let (Some(pc), Some(sp), Some(fp)) = (regs.ip(), regs.sp(), regs.get("x29")) else {
        return Ok(Trace::none("its registers are damaged"));
    };
    let mut frames = vec![Frame { pc, sp, how: How::Registers, exact: true, regs: None }];
    frames.extend(regs.get("x30").and_then(|lr| leafs_caller(session, pc, lr, sp, fp, How::Registers)));
    chain(session, task.addr, frames, fp)
}

/// The caller of a function that was interrupted while it had no record: in `x30`, unless that points into the function
/// itself (it has called another), or is what the innermost record has too.
fn leafs_caller(session: &Session, pc: u64, lr: u64, sp: u64, fp: u64, how: How) -> Option<Frame> {
    let lr = session.target.untagged(lr);
    let function = |addr| session.symbols.by_addr(session, addr).map(|symbol| symbol.addr);
    let caller = function(lr.wrapping_sub(4))?;
    let recorded = record(session, fp).is_ok_and(|(_, back)| session.target.untagged(back) == lr);
    (Some(caller) != function(pc) && !recorded).then_some(Frame { pc: lr, sp, how, exact: false, regs: None })
}

fn chain(session: &Session, task: u64, mut frames: Vec<Frame>, mut fp: u64) -> Result<Trace> {
    let trampolines = trampoline::Trampolines::new(session, task);
    let mut guard = Guard::default();
    let mut before = frames.last().map_or(0, |frame| frame.sp);
    let end = loop {
        if fp == 0 {
            break End::Bottom;
        }
        let (next, back) = match record(session, fp) {
            Ok(record) => record,
            Err(e) if e.is_control() => return Err(e),
            Err(e) => break End::Broken(e.kind()),
        };
        if let Err(circle) = guard.check(&frames, before, fp) {
            break End::Broken(circle);
        }
        before = fp;
        // what was interrupted may be a call through a NULL pointer, so that 0 is where it was
        let regs = if next == 0 { None } else { interrupted(session, fp, next, back) };
        if let Some(regs) = regs {
            fp = match saved(session, regs, &mut frames) {
                Ok(fp) => fp,
                Err(e) if e.is_control() => return Err(e),
                Err(e) => break End::Broken(e.kind()),
            };
            continue;
        }
        match (next, back) {
            (0, 0) => match meta(session, fp, &mut frames) {
                Ok(Some(regs)) => fp = regs,
                Ok(None) => break user_or_bottom(session, fp),
                Err(e) if e.is_control() => return Err(e),
                Err(e) => break End::Broken(e.kind()),
            },
            (_, 0) => break End::Bottom,
            _ => {
                let back = session.target.untagged(back); // of the signature that pointer authentication puts into it
                let pc = session.target.untagged(trampolines.undo(back, fp.wrapping_add(16)));
                if session.symbolize(pc).is_none() {
                    break End::Broken(format!("{pc:x} is no known code"));
                }
                frames.push(Frame { pc, sp: fp.wrapping_add(16), how: How::FramePointer, exact: false, regs: None });
                fp = next;
            }
        }
    };
    Ok(Trace { frames, end })
}

fn record(session: &Session, fp: u64) -> Result<(u64, u64)> {
    if !fp.is_multiple_of(8) || fp >> 63 == 0 {
        return Err(Error::Corrupt { addr: fp, what: "no place for a frame record".into() });
    }
    Ok((session.u64(fp)?, session.u64(fp.wrapping_add(8))?))
}

/// Where a record of two zeros says that registers were saved around it: pushes the frame that was interrupted, and
/// returns its frame pointer.
fn meta(session: &Session, fp: u64, frames: &mut Vec<Frame>) -> Result<Option<u64>> {
    let Some(place) = session.place("pt_regs", "stackframe.type") else { return Ok(None) };
    let record = session.offset("pt_regs", "stackframe")?;
    let kind = session.u64(fp.wrapping_sub(record).wrapping_add(place.bit_offset / 8))?;
    if kind != META_REGS {
        return if kind == META_FINAL {
            Ok(None)
        } else {
            Err(Error::Corrupt { addr: fp, what: format!("a frame record of unknown kind {kind}") })
        };
    }
    saved(session, fp.wrapping_sub(record), frames).map(Some)
}

/// The `struct pt_regs` around a frame record that has what is in the registers: what the kernel makes where it is
/// interrupted, before Linux 6.13.
fn interrupted(session: &Session, fp: u64, next: u64, back: u64) -> Option<u64> {
    let regs = fp.wrapping_sub(session.offset("pt_regs", "stackframe").ok()?);
    let has = |path, value| {
        session.offset("pt_regs", path).and_then(|at| session.u64(regs.wrapping_add(at))).is_ok_and(|is| is == value)
    };
    (has("pc", back) && has("regs[29]", next)).then_some(regs)
}

/// Pushes the frame whose registers were saved there, and returns its frame pointer.
fn saved(session: &Session, regs: u64, frames: &mut Vec<Frame>) -> Result<u64> {
    let get = |path| session.u64(regs.wrapping_add(session.offset("pt_regs", path)?));
    let (pc, sp, fp) = (session.target.untagged(get("pc")?), get("sp")?, get("regs[29]")?);
    frames.push(Frame { pc, sp, how: How::Saved, exact: true, regs: Some(regs) });
    frames.extend(leafs_caller(session, pc, get("regs[30]")?, sp, fp, How::Saved));
    Ok(fp)
}

/// At the last record: it lies in the `struct pt_regs` of user code, if any of that was ever run.
fn user_or_bottom(session: &Session, fp: u64) -> End {
    /// EL0, with its two kinds of stack pointer bits zero
    const MODE: u64 = 0xf;
    let regs = || -> Result<(u64, u64)> {
        let at = fp.wrapping_sub(session.offset("pt_regs", "stackframe")?);
        Ok((at, session.u64(at.wrapping_add(session.offset("pt_regs", "pstate")?))?))
    };
    match regs() {
        Ok((at, pstate)) if pstate & MODE == 0 && session.u64(at.wrapping_add(256)).is_ok_and(|pc| pc != 0) => {
            End::User(Some(at))
        }
        _ => End::Bottom,
    }
}

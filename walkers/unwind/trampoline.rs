//! Return addresses that tracers have put in the place of the real ones, and code that ftrace made for them.
//!
//! A function that a kretprobe, or ftrace's function graph, watches returns to a trampoline; where it would have returned
//! to is kept with the task, together with the place on the stack that it was taken from.

use crate::{
    code_image::{CodeImages, Kind},
    list::{self, Hlist},
};
use engine::{ViewEntry, prelude::*};

/// `struct rethook_node` (include/linux/rethook.h), since Linux 5.18 (54ecbe6f1ed5).
#[derive(View)]
#[ctype("rethook_node")]
struct Rethook {
    ret_addr: u64,
    frame: u64,
}

/// `struct kretprobe_instance` (include/linux/kprobes.h): before that, and where an architecture has no rethooks.
#[derive(View)]
#[ctype("kretprobe_instance")]
struct Kretprobe {
    ret_addr: Option<u64>,
    fp: Option<u64>,
}

/// What a task has on its own stack of return addresses (`ftrace_ret_stack` in include/linux/ftrace.h).
#[derive(View)]
#[ctype("task_struct")]
struct Graph {
    ret_stack: Option<u64>,
}

/// Bytes of a task's stack of return addresses that are searched: `SHADOW_STACK_SIZE`, or 50 entries before Linux 6.11.
const SHADOW: usize = 4096;

/// Knows the trampolines of one task.
pub(super) struct Trampolines<'a> {
    session: &'a Session,
    task: u64,
    addresses: Vec<u64>,
}

impl<'a> Trampolines<'a> {
    pub fn new(session: &'a Session, task: u64) -> Trampolines<'a> {
        const NAMES: [&str; 4] =
            ["arch_rethook_trampoline", "__kretprobe_trampoline", "kretprobe_trampoline", "return_to_handler"];
        let addresses = NAMES.iter().filter_map(|name| session.kernel_symbol(name)).collect();
        Trampolines { session, task, addresses }
    }

    /// The real return address, of one that was found at `slot`; the same if it is no trampoline's or nothing is known.
    pub fn undo(&self, back: u64, slot: u64) -> u64 {
        if !self.addresses.contains(&back) {
            return back;
        }
        self.rethook(slot).or_else(|| self.kretprobe(slot)).or_else(|| self.graph(slot)).unwrap_or(back)
    }

    /// Of code that ftrace copied for a tracer (create_trampoline() in arch/x86/kernel/ftrace.c), where it copied it from:
    /// the ORC tables know only that.
    pub fn copied_from(&self, ip: u64) -> Option<u64> {
        /// `FTRACE_OPS_FL_SAVE_REGS` (include/linux/ftrace.h)
        const SAVE_REGS: u64 = 1 << 2;
        let session = self.session;
        let images = CodeImages::of(session).ok()?;
        let image = images.at(ip).filter(|image| image.kind == Kind::FtraceTrampoline)?;
        let flags = session.u64(image.owner.wrapping_add(session.offset("ftrace_ops", "flags").ok()?)).ok()?;
        let from = if flags & SAVE_REGS != 0 { "ftrace_regs_caller" } else { "ftrace_caller" };
        session.kernel_symbol(from)?.checked_add(ip.checked_sub(image.range.start)?)
    }

    fn rethook(&self, slot: u64) -> Option<u64> {
        let session = self.session;
        let link = session.offset("rethook_node", "llist").ok()?;
        self.search("rethooks", link, |at| {
            let node: Rethook = session.view(at).ok()?;
            (node.frame == slot).then_some(node.ret_addr)
        })
    }

    fn kretprobe(&self, slot: u64) -> Option<u64> {
        let session = self.session;
        let link = session.offset("kretprobe_instance", "llist").ok()?;
        self.search("kretprobe_instances", link, |at| {
            let instance: Kretprobe = session.view(at).ok()?;
            (instance.fp? == slot).then_some(instance.ret_addr?)
        })
    }

    fn search(&self, member: &str, link: u64, pick: impl Fn(u64) -> Option<u64>) -> Option<u64> {
        let session = self.session;
        let head = self.task.wrapping_add(session.offset("task_struct", member).ok()?);
        let mut found = None;
        let ended = list::hlist(session, Hlist::Plain, head, link, &mut |at| match pick(at) {
            Some(address) => {
                found = Some(address);
                Err(Error::Stop)
            }
            None => Ok(()),
        });
        // a damaged list has given all it can give
        ended.ok().or(Some(())).and(found)
    }

    /// An entry has, in this order, the real return address and the place it was taken from, some words apart.
    fn graph(&self, slot: u64) -> Option<u64> {
        let session = self.session;
        let stack = session.view::<Graph>(self.task).ok()?.ret_stack.filter(|at| *at != 0)?;
        let (address, place) =
            (session.offset("ftrace_ret_stack", "ret").ok()?, session.offset("ftrace_ret_stack", "retp").ok()?);
        let words = session.bytes(stack, SHADOW).ok()?;
        let at = words.chunks_exact(8).rposition(|word| word == slot.to_le_bytes())?;
        session.u64(stack.wrapping_add(8 * at as u64).wrapping_sub(place).wrapping_add(address)).ok()
    }
}

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Rethook>(), ViewEntry::of::<Kretprobe>(), ViewEntry::of::<Graph>()];

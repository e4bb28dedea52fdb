//! What is hooked into the kernel: `::tracepoints`, `::kprobes`, `::ftrace_ops`, `::notifiers`.
//!
//! ```console
//! > ::tracepoints | ::head -n 3
//! ADDR             NAME             ENABLED PROBES
//! ffffffffbdc33200 sched_wakeup           1 probe_sched_wakeup
//! ffffffffbdc331a0 sched_wakeup_new       1 probe_sched_wakeup
//! ffffffffbdc33140 sched_switch           1 probe_sched_switch, trace_event_raw_event_sched_switch
//! ```

use engine::{IntoRow, prelude::*};
use walkers::{
    notifier,
    probe::{self, Kprobe, Ops, Tracepoint},
};

/// Show the tracepoints that call somebody, and whom.
#[derive(Args)]
pub struct Tracepoints {
    /// those too that call nobody
    #[arg(short = 'a')]
    all: bool,
    /// only those whose name has this in it
    name: Option<String>,
}

/// A tracepoint.
#[derive(Row)]
struct TracepointRow {
    /// address of its struct tracepoint
    addr: Object,
    /// its name
    name: Result<String>,
    /// how often it is switched on
    enabled: i32,
    /// what it calls, in that order
    probes: Result<String>,
}

impl Dcmd for Tracepoints {
    const NAME: &'static str = "tracepoints";
    const ROWS: &'static [&'static engine::Schema] = &[TracepointRow::SCHEMA];
    const PASSES: &'static str = "struct tracepoint";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let mut show = |addr: u64| {
            let Some(point) = readable::<Tracepoint>(cx, addr, "tracepoint")? else { return Ok(()) };
            let (name, probes) = (point.name(cx), point.probes(cx));
            let silent = probes.as_ref().is_ok_and(Vec::is_empty) && !self.all && at.is_none();
            let other = self.name.as_ref().is_some_and(|asked| !name.as_ref().is_ok_and(|name| name.contains(asked)));
            if silent || other {
                return Ok(());
            }
            let names = probes.map(|all| all.iter().map(|p| cx.sym(p.function)).collect::<Vec<_>>().join(", "));
            out.row(TracepointRow { addr: cx.object("tracepoint", addr), name, enabled: point.enabled, probes: names })
        };
        match at {
            Some(one) => show(one.addr),
            None => probe::tracepoints(cx, &mut show),
        }
    }
}

fn readable<V: View>(cx: &Cx<'_>, at: u64, what: &str) -> Result<Option<V>> {
    match cx.view(at) {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.is_control() => Err(e),
        Err(e) => {
            cx.notes.add(at, format!("{what}: {}", e.kind()));
            Ok(None)
        }
    }
}

/// Show kprobes: where each is, and what it calls.
#[derive(Args)]
pub struct Kprobes {}

/// A kprobe.
#[derive(Row)]
struct KprobeRow {
    /// address of its struct kprobe
    addr: Object,
    /// address of the instruction
    at: Addr,
    /// where that is
    place: String,
    /// called in front of the instruction
    pre: Option<String>,
    /// called behind it
    post: Option<String>,
    /// gone, disabled, optimized, ftrace
    flags: String,
    /// how often it was passed without being called
    missed: u64,
}

impl Dcmd for Kprobes {
    const NAME: &'static str = "kprobes";
    const ROWS: &'static [&'static engine::Schema] = &[KprobeRow::SCHEMA];
    const PASSES: &'static str = "struct kprobe";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let mut show = |at: u64| {
            let Some(probe) = readable::<Kprobe>(cx, at, "kprobe")? else { return Ok(()) };
            let flags = [
                (probe.gone(), "gone"),
                (probe.disabled(), "disabled"),
                (probe.optimized(), "optimized"),
                (probe.ftrace(), "ftrace"),
            ];
            let function = |at: u64| (at != 0).then(|| cx.sym(at));
            out.row(KprobeRow {
                addr: cx.object("kprobe", at),
                at: Addr(probe.place),
                place: cx.sym(probe.place),
                pre: function(probe.pre_handler),
                post: function(probe.post_handler),
                flags: flags.iter().filter(|f| f.0).map(|f| f.1).collect::<Vec<_>>().join(","),
                missed: probe.nmissed,
            })
        };
        match at {
            Some(one) => show(one.addr),
            None => probe::kprobes(cx, &mut show),
        }
    }
}

/// Show those whom traced functions call (ftrace, kprobes by ftrace, live patches, eBPF trampolines), and for which
/// functions.
#[derive(Args)]
pub struct FtraceOps {
    /// name every function
    #[arg(short = 'v')]
    verbose: bool,
}

/// One who is called.
#[derive(Row)]
struct OpsRow {
    /// address of its struct ftrace_ops
    addr: Object,
    /// its symbol
    name: String,
    /// what is called
    function: String,
    /// FTRACE_OPS_FL_… bits
    flags: Hex,
    /// how many functions; none means all that can be traced
    functions: Result<Option<usize>>,
    /// how many of those are left out
    except: Result<usize>,
    /// their names
    #[detail]
    names: Vec<String>,
}

impl Dcmd for FtraceOps {
    const NAME: &'static str = "ftrace_ops";
    const ROWS: &'static [&'static engine::Schema] = &[OpsRow::SCHEMA];
    const PASSES: &'static str = "struct ftrace_ops";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let mut show = |at: u64| {
            let Some(ops) = readable::<Ops>(cx, at, "ftrace_ops")? else { return Ok(()) };
            let functions = ops.functions(cx, false);
            let names = functions.as_ref().map(|all| all.iter().map(|at| cx.sym(*at)).collect()).unwrap_or_default();
            out.row(OpsRow {
                addr: cx.object("ftrace_ops", at),
                name: cx.sym(at),
                function: cx.sym(ops.function),
                flags: Hex(ops.flags),
                functions: functions.map(|all| (!all.is_empty()).then_some(all.len())),
                except: ops.functions(cx, true).map(|all| all.len()),
                names: if self.verbose { names } else { Vec::new() },
            })
        };
        match at {
            Some(one) => show(one.addr),
            None => probe::ftrace_ops(cx, &mut show),
        }
    }
}

/// Show who is told when something happens: the chains of notifiers whose variables are named like one, or the chain whose
/// head is at the address.
#[derive(Args)]
pub struct Notifiers {
    /// only the chains whose name has this in it
    name: Option<String>,
}

/// A notifier.
#[derive(Row)]
struct NotifierRow {
    /// address of its struct notifier_block
    addr: Object,
    /// the chain
    chain: String,
    /// those with more come first
    priority: i32,
    /// what is called
    function: String,
}

impl Dcmd for Notifiers {
    const NAME: &'static str = "notifiers";
    const ROWS: &'static [&'static engine::Schema] = &[NotifierRow::SCHEMA];
    const PASSES: &'static str = "struct notifier_block";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let mut show = |chain: &str, object: Object| {
            notifier::each(cx, object, &mut |at| {
                let Some(block) = readable::<notifier::Block>(cx, at, "notifier")? else { return Ok(()) };
                out.row(NotifierRow {
                    addr: cx.object("notifier_block", at),
                    chain: chain.to_owned(),
                    priority: block.priority,
                    function: cx.sym(block.function),
                })
            })
        };
        if let Some(object) = at {
            return show(&cx.sym(object.addr), engine::cprint::typed(cx, object));
        }
        for (name, addr) in notifier::chains(cx) {
            if self.name.as_ref().is_none_or(|asked| name.contains(asked)) {
                show(&name, engine::cprint::typed(cx, Object::untyped(addr)))?;
            }
        }
        Ok(())
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[
    DcmdEntry::of::<Tracepoints>(),
    DcmdEntry::of::<Kprobes>(),
    DcmdEntry::of::<FtraceOps>(),
    DcmdEntry::of::<Notifiers>(),
];

//! Signals: `::sig`.
//!
//! ```console
//! > 0t239::pid2task | ::sig
//! SIGNAL     PENDING BLOCKED HANDLER          FLAGS            MASK FROM
//! SIGUSR1    -       no      401f30           RESTART,RESTORER    0
//! SIGUSR2    process yes     401f30           RESTORER            0 SI_USER from 239
//! SIGPIPE    -       no      ignored                              0
//! SIGRTMIN+4 process yes     default                              0 SI_QUEUE from 239
//! ```

use engine::prelude::*;
use walkers::{
    signal::{self, Queued, Signals},
    task::Task,
};

/// Show the signals of a task: those that wait, are blocked, or have a handler. PENDING says for whom they wait: the
/// thread, its process, both.
#[derive(Args)]
pub struct Sig {
    /// show every signal
    #[arg(short = 'a', conflicts_with = "sets")]
    all: bool,
    /// show the sets as /proc/PID/status does
    #[arg(short = 's')]
    sets: bool,
}

/// A signal.
#[derive(Row)]
struct SigRow {
    /// thread id
    #[hidden]
    pid: i32,
    /// its number
    #[hidden]
    number: u32,
    /// its name; real-time signals are counted as the kernel does, from 32 on
    signal: String,
    /// for whom it waits
    pending: Option<&'static str>,
    /// whether the thread lets it wait
    blocked: &'static str,
    /// the function that handles it, in the process's memory
    handler: Result<String>,
    /// `SA_…`
    flags: Result<String>,
    /// what else is blocked meanwhile, bit N-1 for signal N
    mask: Result<Hex>,
    /// where those that wait came from
    from: String,
}

/// A set of signals.
#[derive(Row)]
struct SetRow {
    /// thread id
    #[hidden]
    pid: i32,
    /// as in /proc/PID/status: SigPnd, ShdPnd, SigBlk, SigIgn, SigCgt
    set: &'static str,
    /// bit N-1 stands for signal N
    value: Result<Addr>,
    /// their names
    signals: String,
}

impl Dcmd for Sig {
    const NAME: &'static str = "sig";
    const ADDRESS: Address = Address::Required;
    const ROWS: &'static [&'static engine::Schema] = &[SigRow::SCHEMA, SetRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let task = at.map_or(0, |at| at.addr);
        let (signals, pid) = (Signals::of(cx, task)?, cx.view::<Task>(task)?.pid);
        if self.sets {
            return sets(cx, pid, &signals, out);
        }
        let mut from: Vec<(u32, String)> = Vec::new();
        signals.queued(cx, &mut |at, _| {
            match cx.view::<Queued>(at) {
                Ok(queued) => from.push((queued.signal, sender(&queued))),
                Err(e) if e.is_control() => return Err(e),
                Err(e) => cx.notes.add(at, format!("queued signal: {}", e.kind())),
            }
            Ok(())
        })?;
        for number in 1..=signal::COUNT {
            let bit = 1 << (number - 1);
            let pending = match (signals.pending & bit != 0, signals.shared & bit != 0) {
                (true, true) => Some("both"),
                (true, false) => Some("thread"),
                (false, true) => Some("process"),
                (false, false) => None,
            };
            let blocked = signals.blocked & bit != 0;
            let action = signals.action(cx, number);
            let handled = action.as_ref().is_ok_and(|action| action.handler != 0);
            if !(self.all || pending.is_some() || blocked || handled) {
                continue;
            }
            let from: Vec<&str> = from.iter().filter(|(s, _)| *s == number).map(|(_, text)| text.as_str()).collect();
            let known = |what: &dyn Fn(&signal::Action) -> String| match &action {
                Ok(action) => Ok(what(action)),
                Err(e) => Err(Error::Unavailable(e.kind())),
            };
            out.row(SigRow {
                pid,
                number,
                signal: signal::name(number),
                pending,
                blocked: if blocked { "yes" } else { "no" },
                handler: known(&|action| match action.handler {
                    0 => "default".into(),
                    1 => "ignored".into(),
                    handler => format!("{handler:x}"),
                }),
                flags: known(&|action| signal::action_flags(cx, action.flags).join(",")),
                mask: action.as_ref().map(|action| Hex(action.mask)).map_err(|e| Error::Unavailable(e.kind())),
                from: from.join(", "),
            })?;
        }
        Ok(())
    }
}

fn sender(queued: &Queued) -> String {
    match signal::code(queued.code) {
        Some(code @ ("SI_USER" | "SI_QUEUE" | "SI_TKILL" | "SI_MESGQ")) => format!("{code} from {}", queued.pid),
        Some(code) => code.to_owned(),
        // the kernel's own codes tell why, not who
        None => format!("code {}", queued.code),
    }
}

fn sets(cx: &Cx<'_>, pid: i32, signals: &Signals, out: &mut Out<'_>) -> Result<()> {
    let (ignored, caught) = match signals.dispositions(cx) {
        Ok((ignored, caught)) => (Ok(ignored), Ok(caught)),
        Err(e) if e.is_control() => return Err(e),
        Err(e) => (Err(Error::Unavailable(e.kind())), Err(e)),
    };
    let sets = [
        ("SigPnd", Ok(signals.pending)),
        ("ShdPnd", Ok(signals.shared)),
        ("SigBlk", Ok(signals.blocked)),
        ("SigIgn", ignored),
        ("SigCgt", caught),
    ];
    for (set, value) in sets {
        let bits = value.as_ref().copied().unwrap_or(0);
        let names: Vec<String> = (1..=signal::COUNT).filter(|n| bits >> (n - 1) & 1 == 1).map(signal::name).collect();
        out.row(SetRow { pid, set, value: value.map(Addr), signals: names.join(" ") })?;
    }
    Ok(())
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Sig>()];

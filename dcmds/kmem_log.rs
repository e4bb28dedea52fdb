//! Who allocated and freed what, and when: `::kmem_log`, `::bufctl`, `::allocdby`, `::freedby`.
//!
//! ```console
//! > ff2b352c10565bc0::bufctl
//! ADDR             BUFADDR          TIMESTAMP THREAD OP    WITNESS      CALLER
//! ff2b352c10565c58 ff2b352c10565bc0 1c95922d3    283 free  track+ftrace labmod`lab_free_node+0x21
//! ff2b352c10565c38 ff2b352c10565bc0 1c6f7a524    279 alloc track+ftrace labmod`lab_alloc_node+0x1f
//! > ff2b352c10565bc0::walk bufctl | ::head -1 | ::bufctl -v
//! ADDR             BUFADDR          TIMESTAMP THREAD OP    WITNESS      TIME        CPU CACHE    ASKED LASTLOG
//! ff2b352c10565c58 ff2b352c10565bc0 1c95922d3    283 free  track+ftrace 7.673029331   1 lab_node -     ff2b352c10565c38
//!                  labmod`lab_free_node+0x21
//!                  labmod`lab_release+0xab
//!                  labmod`lab_write+0x13e
//!                  proc_reg_write+0x5a
//!                  vfs_write+0xf8
//!                  ksys_write+0x6f
//!                  do_syscall_64+0x87
//!                  entry_SYSCALL_64_after_hwframe+0x76
//! > ::walk kmem_log | ::bufctl -t 0t281 | ::bufctl -c lab_open
//! ADDR             BUFADDR          TIMESTAMP THREAD OP    WITNESS      CALLER
//! ff2b352c10570550 ff2b352c10570520 1c82aa925    281 alloc track+ftrace labmod`lab_open+0x2d
//! ff2b352c10570f50 ff2b352c10570f20 1c82a6d36    281 alloc track+ftrace labmod`lab_alloc_node+0x5e
//! ff2b352c10565850 ff2b352c105657d8 1c82a4205    281 alloc track+ftrace labmod`lab_alloc_node+0x1f
//! ```
//!
//! The names are those of Solaris, where a *bufctl* is the record of a buffer's transaction. Here a record is whatever
//! saw it: WITNESS says `track` (the object's own record, with `slub_debug=U`), `ftrace` (the ring's `kmem` events),
//! `kfence`, or two of them. TIMESTAMP is in nanoseconds and, as all numbers, in hex; what only a track saw has the
//! start of its tick. THREAD is the task where it still lives, else its number.

use engine::prelude::*;
use std::{
    cell::{OnceCell, RefCell},
    collections::HashMap,
    ops::Range,
};
use walkers::kmem_log::{Kind, Log, Transaction};

/// `alloc` or `free`
fn op(t: &Transaction) -> &'static str {
    match t.kind {
        Kind::Alloc => "alloc",
        Kind::Free => "free",
    }
}

/// The task where it still lives, else the thread's number.
fn thread(cx: &Cx<'_>, log: &Log, t: &Transaction) -> Result<Cell> {
    Ok(match log.task(cx, t)? {
        Some(task) => Cell::Addr(task),
        None => Cell::Uint(t.pid.into()),
    })
}

/// `7.919791681`
fn seconds(ns: u64) -> String {
    format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000)
}

/// What return addresses are called, each looked up once: a log has hundreds of frames for each.
#[derive(Clone, Default)]
struct Names {
    symbols: RefCell<HashMap<u64, String>>,
    frames: RefCell<HashMap<u64, Vec<String>>>,
}

impl Names {
    fn symbol(&self, cx: &Cx<'_>, pc: u64) -> String {
        self.symbols.borrow_mut().entry(pc).or_insert_with(|| cx.sym(pc)).clone()
    }

    /// With the functions that are inlined there.
    fn frame(&self, cx: &Cx<'_>, pc: u64) -> Vec<String> {
        self.frames.borrow_mut().entry(pc).or_insert_with(|| engine::frame::frame(cx, pc, true)).clone()
    }
}

// ---- ::kmem_log ---------------------------------------------------------------------------------------------------

/// Show the allocation log, newest transaction first.
///
/// With an address: only the transaction whose record is there.
#[derive(Args)]
pub struct KmemLog {
    /// the address is in a buffer: show that buffer's transactions
    #[arg(short = 'b')]
    buffer: bool,
}

/// A transaction, in short.
#[derive(Row)]
struct KmemLogRow {
    /// CPU it happened on
    cpu: Option<u32>,
    /// address of the record
    addr: Object,
    /// address of the buffer
    bufaddr: Addr,
    /// when, in ns
    timestamp: Hex,
    /// task that did it, or its number if it is gone
    thread: Cell,
    /// `alloc` or `free`
    op: &'static str,
    /// who saw it
    witness: &'static str,
    /// when, in seconds
    #[hidden]
    time: String,
    /// number of the thread
    #[hidden]
    pid: u32,
}

impl KmemLogRow {
    fn of(cx: &Cx<'_>, log: &Log, t: &Transaction) -> Result<KmemLogRow> {
        Ok(KmemLogRow {
            cpu: t.cpu,
            addr: cx.object(t.ctype(), t.addr),
            bufaddr: Addr(t.buffer),
            timestamp: Hex(t.time),
            thread: thread(cx, log, t)?,
            op: op(t),
            witness: t.witness.name(),
            time: seconds(t.time),
            pid: t.pid,
        })
    }
}

impl Dcmd for KmemLog {
    const NAME: &'static str = "kmem_log";
    const ROWS: &'static [&'static engine::Schema] = &[KmemLogRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let log = Log::of(cx)?;
        let mut show = |t: &Transaction| out.row(KmemLogRow::of(cx, &log, t)?);
        match at {
            None if self.buffer => Err(Error::Usage("::kmem_log -b needs an address in a buffer".into())),
            None => {
                log.caveats(cx);
                log.iter().try_for_each(show)
            }
            Some(at) if self.buffer => match log.buffer_around(cx, at.addr)? {
                Some(buffer) => log.on(buffer).try_for_each(show),
                None => Ok(()),
            },
            Some(at) => show(log.expect(at.addr)?),
        }
    }
}

// ---- ::bufctl -----------------------------------------------------------------------------------------------------

/// Show allocation records, or pick those that match.
///
/// The address is that of a record, as `::walk kmem_log` has them, or lies in a buffer, which stands for all of its
/// records. Without an address, all of the log. Conditions add up; behind a pipe it is a filter.
#[derive(Args)]
pub struct Bufctl {
    /// show CPU, cache, sizes, the record before, and the call stack
    #[arg(short = 'v')]
    verbose: bool,
    /// go back through the earlier records of the same buffer
    #[arg(short = 'h')]
    history: bool,
    /// only if the buffer starts here
    #[arg(short = 'a', value_name = "ADDR")]
    buffer: Option<ExprArg>,
    /// only if this is on the call stack: a function, or one return address
    #[arg(short = 'c', value_name = "CALLER")]
    caller: Option<ExprArg>,
    /// only from this time on, in ns
    #[arg(short = 'e', value_name = "EARLIEST")]
    earliest: Option<ExprArg>,
    /// only up to this time, in ns
    #[arg(short = 'l', value_name = "LATEST")]
    latest: Option<ExprArg>,
    /// only by this thread: the address of its task, or its number
    #[arg(short = 't', value_name = "THREAD")]
    thread: Option<ExprArg>,
    #[arg(skip)]
    conditions: OnceCell<Conditions>,
    #[arg(skip)]
    names: Names,
}

/// What `::bufctl`'s options come to.
struct Conditions {
    buffer: Option<u64>,
    caller: Option<Range<u64>>,
    earliest: u64,
    latest: u64,
    thread: Option<u64>,
}

impl Conditions {
    fn of(cx: &Cx<'_>, args: &Bufctl) -> Result<Conditions> {
        let value = |arg: &Option<ExprArg>| arg.as_ref().map(|a| a.eval(cx)).transpose();
        Ok(Conditions {
            buffer: value(&args.buffer)?,
            caller: value(&args.caller)?.map(|pc| function(cx, pc)),
            earliest: value(&args.earliest)?.unwrap_or(0),
            latest: value(&args.latest)?.unwrap_or(u64::MAX),
            thread: value(&args.thread)?,
        })
    }

    fn met(&self, cx: &Cx<'_>, log: &Log, t: &Transaction) -> Result<bool> {
        if self.buffer.is_some_and(|buffer| buffer != t.buffer) || !(self.earliest..=self.latest).contains(&t.time) {
            return Ok(false);
        }
        if let Some(wanted) = self.thread {
            let same = if wanted >> 63 == 1 { log.task(cx, t)? == Some(wanted) } else { wanted == u64::from(t.pid) };
            if !same {
                return Ok(false);
            }
        }
        let Some(range) = &self.caller else { return Ok(true) };
        Ok(range.contains(&t.site) || t.stack(cx)?.iter().any(|pc| range.contains(pc)))
    }
}

/// The return addresses that a value stands for: of the whole function if it is one's start, else itself.
fn function(cx: &Cx<'_>, value: u64) -> Range<u64> {
    match cx.symbols.by_addr(cx, value) {
        // the return address of a last call is the next function's start
        Some(s) if s.addr == value && s.size > 0 => value.saturating_add(1)..value.saturating_add(s.size + 1),
        _ => value..value.saturating_add(1),
    }
}

/// A record.
#[derive(Row)]
struct BufctlRow {
    /// address of the record
    addr: Object,
    /// address of the buffer
    bufaddr: Addr,
    /// when, in ns
    timestamp: Hex,
    /// task that did it, or its number if it is gone
    thread: Cell,
    /// `alloc` or `free`
    op: &'static str,
    /// who saw it
    witness: &'static str,
    /// first frame outside of the allocator
    caller: String,
    /// when, in seconds
    #[hidden]
    time: String,
    /// number of the thread
    #[hidden]
    pid: u32,
}

/// A record with all that is known.
#[derive(Row)]
struct BufctlAuditRow {
    /// address of the record
    addr: Object,
    /// address of the buffer
    bufaddr: Addr,
    /// when, in ns
    timestamp: Hex,
    /// task that did it, or its number if it is gone
    thread: Cell,
    /// `alloc` or `free`
    op: &'static str,
    /// who saw it
    witness: &'static str,
    /// when, in seconds
    time: String,
    /// CPU it happened on
    cpu: Option<u32>,
    /// the slab cache
    cache: Option<String>,
    /// bytes that were asked for, where the ring saw it
    asked: Option<u64>,
    /// the buffer's record before this one
    lastlog: Option<Addr>,
    /// number of the thread
    #[hidden]
    pid: u32,
    /// the call stack
    #[detail]
    stack: Result<Vec<String>>,
}

impl Bufctl {
    fn show(&self, cx: &Cx<'_>, log: &Log, t: &Transaction, verbose: bool, out: &mut Out<'_>) -> Result<()> {
        let (addr, bufaddr, timestamp) = (cx.object(t.ctype(), t.addr), Addr(t.buffer), Hex(t.time));
        let (thread, op, witness) = (thread(cx, log, t)?, op(t), t.witness.name());
        let (time, pid) = (seconds(t.time), t.pid);
        if !verbose {
            let caller = self.names.symbol(cx, log.caller(cx, t)?);
            return out.row(BufctlRow { addr, bufaddr, timestamp, thread, op, witness, caller, time, pid });
        }
        let stack = t.stack(cx).map(|stack| {
            let frames = if stack.is_empty() { vec![t.site] } else { stack };
            frames.into_iter().flat_map(|pc| self.names.frame(cx, pc)).collect()
        });
        out.row(BufctlAuditRow {
            addr,
            bufaddr,
            timestamp,
            thread,
            op,
            witness,
            time,
            cpu: t.cpu,
            cache: t.cache(cx)?,
            asked: t.bytes.map(|(asked, _)| asked),
            lastlog: log.history(t).nth(1).map(|t| Addr(t.addr)),
            pid,
            stack,
        })
    }

    fn answer(&self, cx: &Cx<'_>, at: Option<Object>, verbose: bool, out: &mut Out<'_>) -> Result<()> {
        let log = Log::of(cx)?;
        let conditions = match self.conditions.get() {
            Some(conditions) => conditions,
            None => {
                let made = Conditions::of(cx, self)?;
                self.conditions.get_or_init(|| made)
            }
        };
        let mut pick = |t: &Transaction| match conditions.met(cx, &log, t)? {
            true => self.show(cx, &log, t, verbose, out),
            false => Ok(()),
        };
        let Some(at) = at else {
            log.caveats(cx);
            return log.iter().try_for_each(pick);
        };
        match log.at(at.addr) {
            Some(record) if self.history => log.history(record).try_for_each(pick),
            Some(record) => pick(record),
            None => match log.buffer_around(cx, at.addr)? {
                Some(buffer) => log.on(buffer).try_for_each(pick),
                None => log.expect(at.addr).map(drop),
            },
        }
    }
}

impl Dcmd for Bufctl {
    const NAME: &'static str = "bufctl";
    const ROWS: &'static [&'static engine::Schema] = &[BufctlRow::SCHEMA, BufctlAuditRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        self.answer(cx, at, self.verbose, out)
    }
}

/// Show allocation records with all that is known of them: `::bufctl -v`.
#[derive(Args)]
pub struct BufctlAudit {
    #[command(flatten)]
    bufctl: Bufctl,
}

impl Dcmd for BufctlAudit {
    const NAME: &'static str = "bufctl_audit";
    const ROWS: &'static [&'static engine::Schema] = &[BufctlAuditRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        self.bufctl.answer(cx, at, true, out)
    }
}

// ---- ::allocdby, ::freedby ----------------------------------------------------------------------------------------

/// Show the buffers that a thread allocated last and that are allocated still, newest first.
///
/// The thread is the address of its task, or its number; numbers are used again, an address is sure.
#[derive(Args)]
pub struct Allocdby {}

/// Show the buffers that a thread freed last and that are free still, newest first.
///
/// The thread is the address of its task, or its number; numbers are used again, an address is sure.
#[derive(Args)]
pub struct Freedby {}

/// A buffer's last transaction.
#[derive(Row)]
struct ByRow {
    /// address of the record
    bufctl: Object,
    /// when, in ns
    timestamp: Hex,
    /// address of the buffer
    bufaddr: Addr,
    /// who saw it
    witness: &'static str,
    /// first frame outside of the allocator
    caller: String,
    /// when, in seconds
    #[hidden]
    time: String,
}

fn by(cx: &Cx<'_>, at: Option<Object>, kind: Kind, out: &mut Out<'_>) -> Result<()> {
    let log = Log::of(cx)?;
    let Some(at) = at else { return Ok(()) };
    let names = Names::default();
    for t in log.last_by(cx, at.addr, kind)? {
        out.row(ByRow {
            bufctl: cx.object(t.ctype(), t.addr),
            timestamp: Hex(t.time),
            bufaddr: Addr(t.buffer),
            witness: t.witness.name(),
            caller: names.symbol(cx, log.caller(cx, t)?),
            time: seconds(t.time),
        })?;
    }
    Ok(())
}

impl Dcmd for Allocdby {
    const NAME: &'static str = "allocdby";
    const ADDRESS: Address = Address::Required;
    const ROWS: &'static [&'static engine::Schema] = &[ByRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        by(cx, at, Kind::Alloc, out)
    }
}

impl Dcmd for Freedby {
    const NAME: &'static str = "freedby";
    const ADDRESS: Address = Address::Required;
    const ROWS: &'static [&'static engine::Schema] = &[ByRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        by(cx, at, Kind::Free, out)
    }
}

/// This file's commands.
pub static DCMDS: &[DcmdEntry] = &[
    DcmdEntry::of::<KmemLog>(),
    DcmdEntry::of::<Bufctl>(),
    DcmdEntry::of::<BufctlAudit>(),
    DcmdEntry::of::<Allocdby>(),
    DcmdEntry::of::<Freedby>(),
];

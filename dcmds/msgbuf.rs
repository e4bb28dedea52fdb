//! The kernel's log: `::msgbuf`.
//!
//! ```console
//! > ::msgbuf | ::tail -3
//! TIME         MESSAGE
//!     6.059514 loop0: detected capacity change from 0 to 512
//!     7.192240 labmod: loading out-of-tree module taints kernel.
//!     7.192682 labmod: module verification failed: signature and/or required key missing - tainting kernel
//! ```
//!
//! TIME is in seconds of the scheduler's clock, as dmesg shows it. A record of several lines makes as many rows.

use engine::prelude::*;
use walkers::dmesg::{self, Record};

/// Show the kernel's log, oldest line first.
#[derive(Args)]
pub struct Msgbuf {
    /// show number, level, facility and writer of each record
    #[arg(short = 'v')]
    verbose: bool,
    /// only this level and more urgent ones: 0 emergency, 3 error, 4 warning, 6 info, 7 debug
    #[arg(short = 'l', value_name = "LEVEL")]
    level: Option<u8>,
}

/// A line of the log.
#[derive(Row)]
struct MsgbufRow {
    /// when, in seconds
    time: String,
    /// the text
    message: Cell,
    /// address of the record's `struct printk_info`
    #[hidden]
    addr: Object,
    /// number of the record
    #[hidden]
    seq: u64,
    /// syslog's level
    #[hidden]
    level: u8,
}

/// A line of the log with all that is known of it.
#[derive(Row)]
struct MsgbufVerboseRow {
    /// address of the record's `struct printk_info`
    addr: Object,
    /// number of the record, counted from boot
    seq: u64,
    /// when, in seconds
    time: String,
    /// syslog's level: `err`, `info`, …
    level: &'static str,
    /// syslog's facility: 0 for the kernel
    facility: u8,
    /// thread (T1) or, outside of any, CPU (C0) that wrote it, where the kernel noted that
    caller: String,
    /// the device that it is about
    device: Option<String>,
    /// the text
    message: Cell,
}

/// dmesg's stamp, without its brackets.
fn stamp(ns: u64) -> String {
    format!("{:5}.{:06}", ns / 1_000_000_000, ns % 1_000_000_000 / 1000)
}

/// The names that `dmesg -x` has.
fn level(level: u8) -> &'static str {
    ["emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"].get(usize::from(level)).unwrap_or(&"?")
}

impl Msgbuf {
    fn show(&self, cx: &Cx<'_>, Record { info, text }: Record, out: &mut Out<'_>) -> Result<()> {
        let lines = match text {
            Ok(text) => text.split('\n').map(|line| Cell::Str(line.to_owned())).collect(),
            Err(why) => vec![Cell::Unreadable(why)],
        };
        let (addr, seq, time) = (cx.object("printk_info", info.addr), info.seq, stamp(info.time));
        if !self.verbose {
            let row = |message| MsgbufRow { time: time.clone(), message, addr, seq, level: info.level };
            return lines.into_iter().try_for_each(|line| out.row(row(line)));
        }
        let device = match (&info.subsystem[..], &info.device[..]) {
            ("", "") => None,
            (subsystem, device) => Some(format!("{subsystem} {device}")),
        };
        lines.into_iter().try_for_each(|message| {
            out.row(MsgbufVerboseRow {
                addr,
                seq,
                time: time.clone(),
                level: level(info.level),
                facility: info.facility,
                caller: info.caller(),
                device: device.clone(),
                message,
            })
        })
    }
}

impl Dcmd for Msgbuf {
    const NAME: &'static str = "msgbuf";
    const ALIASES: &'static [&'static str] = &["dmesg"];
    const ADDRESS: Address = Address::None;
    const ROWS: &'static [&'static engine::Schema] = &[MsgbufRow::SCHEMA, MsgbufVerboseRow::SCHEMA];
    const PASSES: &'static str = "struct printk_info";

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let limit = self.level.unwrap_or(u8::MAX);
        dmesg::records(cx, &mut |record| if record.info.level <= limit { self.show(cx, record, out) } else { Ok(()) })
    }
}

/// This file's commands.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Msgbuf>()];

//! Disks, and the requests under way to them: `::blk`, `::requests`.
//!
//! ```console
//! > ::blk
//! DISK             NAME  DEV   SIZE     OPEN REQUESTS QUEUE            DRIVER
//! ff2ee9c2049a1800 vda   254,0 16777216    0        0 ff2ee9c204988000 virtio_blk`virtblk_fops
//! > ::requests
//! ```

use engine::prelude::*;
use std::collections::HashMap;
use walkers::{
    blk::{self, Device, Disk, Request},
    clock::Clocks,
};

/// Show disks.
#[derive(Args)]
pub struct Blk {}

/// A disk.
#[derive(Row)]
struct DiskRow {
    /// address of the struct gendisk
    disk: Object,
    /// its name
    name: String,
    /// major and minor number
    dev: String,
    /// bytes on it
    size: Result<u64>,
    /// times it and its partitions were opened and not closed again
    open: u64,
    /// requests under way
    requests: Result<u64>,
    /// its struct request_queue
    queue: Addr,
    /// its driver's functions
    driver: Option<String>,
}

impl Dcmd for Blk {
    const NAME: &'static str = "blk";
    const ROWS: &'static [&'static engine::Schema] = &[DiskRow::SCHEMA];
    const PASSES: &'static str = "struct gendisk";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let mut open: HashMap<u64, u64> = HashMap::new();
        blk::devices(cx, &mut |at| {
            let Ok(device) = cx.view::<Device>(at) else { return Ok(()) };
            *open.entry(device.disk).or_default() += u64::from(device.openers);
            Ok(())
        })?;
        let mut show = |addr: u64| {
            let disk: Disk = match cx.view(addr) {
                Ok(disk) => disk,
                Err(e) if e.is_control() => return Err(e),
                Err(e) => {
                    cx.notes.add(addr, format!("disk: {}", e.kind()));
                    return Ok(());
                }
            };
            let mut requests = 0;
            let counted = blk::requests(cx, addr, &mut |_| {
                requests += 1;
                Ok(())
            });
            out.row(DiskRow {
                disk: cx.object("gendisk", addr),
                dev: format!("{},{}", disk.major, disk.minor),
                size: disk.size(cx),
                open: open.get(&addr).copied().unwrap_or(0),
                requests: counted.map(|()| requests),
                queue: Addr(disk.queue),
                driver: cx.symbolize(disk.ops),
                name: disk.name,
            })
        };
        match at {
            Some(at) => show(at.addr),
            None => blk::disks(cx, &mut show),
        }
    }
}

/// Show requests under way to a disk: to all, or to the one whose struct gendisk is at the address.
#[derive(Args)]
pub struct Requests {}

/// A request.
#[derive(Row)]
struct RequestRow {
    /// address of the struct request
    request: Object,
    /// the disk
    disk: String,
    /// what is to be done
    op: String,
    /// where, in sectors of 512 bytes; none of what is about no place
    sector: Option<u64>,
    /// bytes
    bytes: u32,
    /// queued: not yet given to the driver; in flight: the device has it; complete
    state: &'static str,
    /// its number in the hardware queue, or in the scheduler
    tag: i32,
    /// seconds since it was made, if somebody counted
    age: Option<String>,
}

impl Dcmd for Requests {
    const NAME: &'static str = "requests";
    const ROWS: &'static [&'static engine::Schema] = &[RequestRow::SCHEMA];
    const PASSES: &'static str = "struct request";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let now = Clocks::of(cx).ok().map(|clocks| clocks.updated);
        let mut show = |name: &str, request: Request| {
            let age = now.filter(|_| request.start != 0).map(|now| now.saturating_sub(request.start) / 1_000_000);
            out.row(RequestRow {
                request: cx.object("request", request.addr),
                disk: name.to_owned(),
                op: request.operation(cx),
                sector: (request.bytes != 0).then_some(request.sector),
                bytes: request.bytes,
                state: request.state(),
                tag: if request.tag >= 0 { request.tag } else { request.internal_tag },
                age: age.map(|ms| format!("{}.{:03}", ms / 1000, ms % 1000)),
            })
        };
        let mut of = |disk: u64| {
            let name = cx.view::<Disk>(disk).map_or_else(|_| "?".to_owned(), |disk| disk.name);
            match blk::requests(cx, disk, &mut |request| show(&name, request)) {
                Err(e) if e.is_unreadable() => {
                    cx.notes.add(disk, format!("requests of a disk: {}", e.kind()));
                    Ok(())
                }
                result => result,
            }
        };
        match at {
            Some(at) => of(at.addr),
            None => blk::disks(cx, &mut of),
        }
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Blk>(), DcmdEntry::of::<Requests>()];

//! Disks: `struct gendisk` (include/linux/blkdev.h), and the requests that are under way to them.
//!
//! Every block device that was opened is an inode of the kernel's own filesystem `bdev`; since Linux 5.11 (22ae8ce8b892)
//! every one that there is.
//!
//! ```console
//! > ::walk gendisk | ::print disk_name
//! disk_name = [ "vda" ]
//! disk_name = [ "vdb" ]
//! ```

use crate::{
    device::{self, Subsystem},
    inode,
    super_block::{self, Kinds},
    xarray,
};
use engine::{ViewEntry, prelude::*};
use std::collections::HashSet;

/// A block device: a disk, or a partition of one.
#[derive(View, Clone, Debug)]
#[ctype("block_device")]
pub struct Device {
    /// its address
    #[addr]
    pub addr: u64,
    #[field("bd_dev")]
    dev: u32,
    /// the disk, `struct gendisk`; 0 if that has gone
    #[field("bd_disk")]
    pub disk: u64,
    /// times it was opened and not closed again
    #[field("bd_openers.counter", "bd_openers")]
    pub openers: u32,
}

/// A disk.
#[derive(View, Clone, Debug)]
#[ctype("gendisk")]
pub struct Disk {
    /// its address
    #[addr]
    pub addr: u64,
    /// `vda`
    #[field("disk_name")]
    pub name: String,
    /// number of its driver
    pub major: u32,
    /// its number there
    #[field("first_minor")]
    pub minor: u32,
    /// its `struct request_queue`
    pub queue: u64,
    /// its driver's functions, `struct block_device_operations`
    #[field("fops")]
    pub ops: u64,
    part0: At,
}

/// A request: `struct request` (include/linux/blk-mq.h).
#[derive(View, Clone, Debug)]
#[ctype("request")]
pub struct Request {
    /// its address
    #[addr]
    pub addr: u64,
    /// the queue it is in
    #[field("q")]
    pub queue: u64,
    #[field("cmd_flags")]
    flags: u32,
    /// its number in the hardware queue; -1 if it has none yet
    pub tag: i32,
    /// its number in the scheduler
    pub internal_tag: i32,
    /// bytes left to do
    #[field("__data_len")]
    pub bytes: u32,
    /// where, in sectors of 512 bytes
    #[field("__sector")]
    pub sector: u64,
    /// monotonic nanoseconds at which it was made; 0 if nobody counts
    #[field("start_time_ns")]
    pub start: u64,
    /// the first `struct bio` of those it is made of
    pub bio: u64,
    state: u32,
    /// 0 once it was given back; a `refcount_t` before Linux 5.16 (0a467d0fdbd0)
    #[field("ref.counter", "ref.refs.counter")]
    references: i32,
}

/// Sectors are of so many bytes everywhere in the kernel (`SECTOR_SIZE`).
pub const SECTOR: u64 = 512;
/// `REQ_OP_MASK`: the lowest bits of a request's flags say what it does.
const OP_MASK: u32 = 0xff;
/// More queues, and more requests in one, than any disk has.
const MAX_QUEUES: u64 = 4096;
const MAX_TAGS: u32 = 1 << 16;
/// As many requests are looked at for one disk.
const MAX_REQUESTS: usize = 1 << 20;

impl Device {
    /// Major and minor number.
    pub fn number(&self) -> (u32, u32) {
        super_block::split(self.dev)
    }
}

impl Disk {
    /// Bytes on it.
    pub fn size(&self, session: &Session) -> Result<u64> {
        // `part0` is the whole disk: a struct hd_struct in it before Linux 5.11 (cb8432d650fa), then a device of its own
        let sectors = match session.offset("hd_struct", "nr_sects") {
            Ok(sectors) => session.u64(self.part0.0.wrapping_add(sectors))?,
            Err(_) => session
                .u64(session.u64(self.part0.0)?.wrapping_add(session.offset("block_device", "bd_nr_sectors")?))?,
        };
        Ok(sectors.saturating_mul(SECTOR))
    }
}

impl Request {
    /// What it does, by name: `read`, `write`, `flush`, …; a number if that has none.
    pub fn operation(&self, session: &Session) -> String {
        const NAMES: [&str; 16] = [
            "READ",
            "WRITE",
            "FLUSH",
            "DISCARD",
            "SECURE_ERASE",
            "ZONE_APPEND",
            "WRITE_SAME",
            "WRITE_ZEROES",
            "ZONE_OPEN",
            "ZONE_CLOSE",
            "ZONE_FINISH",
            "ZONE_RESET",
            "ZONE_RESET_ALL",
            "DRV_IN",
            "DRV_OUT",
            "SCSI_IN",
        ];
        let op = i64::from(self.flags & OP_MASK);
        let name = NAMES.iter().find(|name| session.enumerator(&format!("REQ_OP_{name}")) == Some(op));
        name.map_or_else(|| op.to_string(), |name| name.to_lowercase())
    }

    /// Where it is: not yet given to the driver, with the device, or done and not yet told.
    pub fn state(&self) -> &'static str {
        match self.state {
            0 => "queued",
            1 => "in flight",
            2 => "complete",
            _ => "?",
        }
    }

    /// Whether somebody made it and has not given it back.
    fn is_live(&self, queue: u64) -> bool {
        self.queue == queue && (self.references != 0 || self.state != 0)
    }
}

/// Visits the block devices there are: disks and partitions.
pub fn devices(session: &Session, visit: Visit<'_>) -> Result<()> {
    let (at, size) = (session.offset("bdev_inode", "vfs_inode")?, session.offset("bdev_inode", "bdev")?);
    super_block::each(session, &mut |super_block| {
        if &*Kinds::of(session)?.get(session, super_block)? != "bdev" {
            return Ok(());
        }
        inode::of_super_block(session, super_block, &mut |inode| visit(inode.wrapping_sub(at).wrapping_add(size)))
    })
}

/// A partition, or a disk as a whole, before Linux 5.11 (0d02129e76ed): `struct hd_struct`.
#[derive(View)]
#[ctype("hd_struct")]
struct Part {
    #[field("partno")]
    number: i32,
}

/// Visits the disks. Before Linux 5.11 a block device was only there once somebody had opened it: there the devices of
/// the class lead to their disks.
pub fn disks(session: &Session, visit: Visit<'_>) -> Result<()> {
    let mut seen = HashSet::new();
    if let Some(inside) = session.place("hd_struct", "__dev") {
        let whole = session.offset("gendisk", "part0")?;
        return device::classes(session, &mut |class| {
            let class: Subsystem = session.view(class)?;
            if class.name(session)? != "block" {
                return Ok(());
            }
            class.devices(session, &mut |at| {
                let part = at.wrapping_sub(inside.bit_offset / 8);
                if session.view::<Part>(part)?.number == 0 { visit(part.wrapping_sub(whole)) } else { Ok(()) }
            })
        });
    }
    devices(session, &mut |at| match session.view::<Device>(at) {
        Ok(device) if device.disk != 0 && seen.insert(device.disk) => visit(device.disk),
        Ok(_) => Ok(()),
        Err(e) if e.is_control() => Err(e),
        Err(e) => {
            session.notes.add(at, format!("block device: {}", e.kind()));
            Ok(())
        }
    })
}

/// The hardware queues, `struct blk_mq_hw_ctx`, of a request queue: an array, from Linux 5.18 to 6.18 an xarray.
fn hardware_queues(session: &Session, queue: u64) -> Result<Vec<u64>> {
    let mut found = Vec::new();
    if let Some(table) = session.place("request_queue", "hctx_table") {
        xarray::each(session, queue.wrapping_add(table.bit_offset / 8), &mut |_, at| {
            found.push(at);
            Ok(())
        })?;
        return Ok(found);
    }
    let count = session.u32(queue.wrapping_add(session.offset("request_queue", "nr_hw_queues")?))?;
    let array = session.u64(queue.wrapping_add(session.offset("request_queue", "queue_hw_ctx")?))?;
    // one that has no queues of that kind: a device mapper's, a RAM disk's
    if array != 0 {
        for i in 0..u64::from(count).min(MAX_QUEUES) {
            found.push(session.u64(array.wrapping_add(8 * i))?);
        }
    }
    Ok(found)
}

/// Visits the requests of a disk that are under way: every one that was made and not given back, whether the driver has it,
/// or the scheduler keeps it.
pub fn requests(session: &Session, disk: u64, visit: &mut dyn FnMut(Request) -> Result<()>) -> Result<()> {
    let queue = session.view::<Disk>(disk)?.queue;
    let mut seen = HashSet::new();
    for hardware in hardware_queues(session, queue)? {
        for member in ["tags", "sched_tags"] {
            let tags = session.u64(hardware.wrapping_add(session.offset("blk_mq_hw_ctx", member)?))?;
            if tags == 0 {
                continue;
            }
            let count = session.u32(tags.wrapping_add(session.offset("blk_mq_tags", "nr_tags")?))?;
            let array = session.u64(tags.wrapping_add(session.offset("blk_mq_tags", "static_rqs")?))?;
            if count > MAX_TAGS {
                session.notes.add(tags, "request queue of impossible length");
            }
            for i in 0..u64::from(count.min(MAX_TAGS)) {
                let at = session.u64(array.wrapping_add(8 * i))?;
                if at == 0 || !seen.insert(at) {
                    continue;
                }
                if seen.len() > MAX_REQUESTS {
                    session.notes.add(disk, "disk with more requests than can be");
                    return Ok(());
                }
                match session.view::<Request>(at) {
                    Ok(request) if request.is_live(queue) => visit(request)?,
                    Ok(_) => {}
                    Err(e) if e.is_control() => return Err(e),
                    Err(e) => session.notes.add(at, format!("request: {}", e.kind())),
                }
            }
        }
    }
    Ok(())
}

/// Walks disks and requests.
pub static WALKERS: &[WalkerEntry] = &[
    WalkerEntry {
        name: "block_device",
        doc: "walk the block devices: disks and partitions",
        item: "struct block_device",
        address: Address::None,
        walk: |cx, _, visit| devices(cx, visit),
    },
    WalkerEntry {
        name: "gendisk",
        doc: "walk the disks",
        item: "struct gendisk",
        address: Address::None,
        walk: |cx, _, visit| disks(cx, visit),
    },
    WalkerEntry {
        name: "request",
        doc: "walk the requests under way to the disk whose struct gendisk is at the address, or to all",
        item: "struct request",
        address: Address::Optional,
        walk: |cx, at, visit| match at {
            Some(disk) => requests(cx, disk.addr, &mut |request| visit(request.addr)),
            None => disks(cx, &mut |disk| requests(cx, disk, &mut |request| visit(request.addr))),
        },
    },
];

/// The views of this file.
pub static VIEWS: &[ViewEntry] =
    &[ViewEntry::of::<Device>(), ViewEntry::of::<Disk>(), ViewEntry::of::<Request>(), ViewEntry::of::<Part>()];

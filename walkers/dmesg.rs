//! printk's ring buffer (`prb`), since Linux 5.10 (896fbe20b4e2): kernel/printk/printk_ringbuffer.c.
//!
//! A ring of descriptors, each with the state of a record and the place of its text, beside it a ring of
//! `struct printk_info` (time, level, length), and a ring of text. A descriptor counts if its state says that the
//! record is committed or final and its id is the one that belongs there.
//!
//! ```console
//! > ::walk printk | ::tail -1 | ::print text_len level
//! text_len = 0x5b
//! level = 0x5
//! ```

use engine::ViewEntry;
use engine::prelude::*;

/// `struct printk_ringbuffer`. The ids are `atomic_long_t`.
#[derive(View)]
#[ctype("printk_ringbuffer")]
struct Ring {
    #[field("desc_ring.count_bits")]
    count_bits: u32,
    #[field("desc_ring.descs")]
    descs: u64,
    #[field("desc_ring.infos")]
    infos: u64,
    #[field("desc_ring.head_id")]
    head: u64,
    #[field("desc_ring.tail_id")]
    tail: u64,
    #[field("text_data_ring.size_bits")]
    size_bits: u32,
    #[field("text_data_ring.data")]
    data: u64,
}

/// `struct prb_desc`.
#[derive(View)]
#[ctype("prb_desc")]
struct Desc {
    #[field("state_var")]
    state: u64,
    #[field("text_blk_lpos.begin")]
    begin: u64,
    #[field("text_blk_lpos.next")]
    next: u64,
}

/// What is known of a record: `struct printk_info`.
#[derive(View, Clone, Debug)]
#[ctype("printk_info")]
pub struct Info {
    /// its address
    #[addr]
    pub addr: u64,
    /// its number, counted from boot
    pub seq: u64,
    /// nanoseconds of `local_clock()`
    #[field("ts_nsec")]
    pub time: u64,
    text_len: u32,
    /// syslog's facility: 0 for the kernel
    pub facility: u8,
    /// syslog's level: 0 emergency to 7 debug
    pub level: u8,
    /// thread id, or CPU with the top bit
    caller_id: u32,
    /// the device it is about: its subsystem, and `+` or `c`… with its name; empty mostly
    #[field("dev_info.subsystem")]
    pub subsystem: String,
    /// see `subsystem`
    #[field("dev_info.device")]
    pub device: String,
}

impl Info {
    /// Who wrote it, as the kernel spells it with CONFIG_PRINTK_CALLER: `T1` a thread, `C0` a CPU outside of any.
    pub fn caller(&self) -> String {
        const CPU: u32 = 1 << 31;
        match self.caller_id & CPU {
            0 => format!("T{}", self.caller_id),
            _ => format!("C{}", self.caller_id & !CPU),
        }
    }
}

/// A record of the kernel's log.
#[derive(Clone, Debug)]
pub struct Record {
    /// what is known of it
    pub info: Info,
    /// its text, which may have several lines; an error if it cannot be read
    pub text: std::result::Result<String, String>,
}

/// Ring sizes the kernel cannot have: CONFIG_LOG_BUF_SHIFT ends at 25, `log_buf_len=` at 2 GiB.
const MAX_BITS: u32 = 31;
/// Descriptors in a row that may be missing: a ring of the usual size has fewer, a damaged one may claim billions.
const PATIENCE: u32 = 1 << 16;
/// The state is in the top two bits of an id (`DESC_FLAGS_SHIFT`).
const ID: u64 = (1 << 62) - 1;
const COMMITTED: u64 = 1;
const FINALIZED: u64 = 2;

/// Shows every record to `visit`, oldest first.
pub fn records(session: &Session, visit: &mut dyn FnMut(Record) -> Result<()>) -> Result<()> {
    tail(session, u64::MAX, visit)
}

/// Shows the last `most` records to `visit`, oldest first.
pub fn tail(session: &Session, most: u64, visit: &mut dyn FnMut(Record) -> Result<()>) -> Result<()> {
    let prb = session
        .kernel_symbol("prb")
        .ok_or_else(|| Error::Unavailable("no symbol `prb`: the log of kernels before 5.10 is not supported".into()))?;
    let at = session.u64(prb).doing(|| "reading where printk's buffer is".into())?;
    let ring: Ring = session.view(at)?;
    if ring.count_bits > MAX_BITS || ring.size_bits > MAX_BITS {
        return Err(Error::Corrupt { addr: at, what: "printk ring buffer of impossible size".into() });
    }
    let (desc_size, info_size) = (session.size_of("prb_desc")?, session.size_of("printk_info")?);
    let mask = (1u64 << ring.count_bits) - 1;
    // ids run on for ever; the ring holds the last 2^count_bits of them
    let count = ((ring.head.wrapping_sub(ring.tail) & ID).min(mask) + 1).min(most);
    let mut missing = 0;
    for id in (0..count).rev().map(|back| ring.head.wrapping_sub(back) & ID) {
        let desc_at = ring.descs.wrapping_add((id & mask) * desc_size);
        let desc = match session.view::<Desc>(desc_at) {
            Ok(desc) => desc,
            Err(e) if e.is_control() => return Err(e),
            Err(e) => {
                session.notes.add(desc_at, format!("printk descriptor: {}", e.kind()));
                missing += 1;
                if missing > PATIENCE {
                    session.notes.add(desc_at, "printk ring buffer of which nothing is left: given up");
                    return Ok(());
                }
                continue;
            }
        };
        missing = 0;
        let state = desc.state >> 62;
        if desc.state & ID != id || !matches!(state, COMMITTED | FINALIZED) {
            continue;
        }
        let info_at = ring.infos.wrapping_add((id & mask) * info_size);
        match session.view::<Info>(info_at) {
            Ok(info) => {
                let text = text(session, &ring, &desc, info.text_len)?;
                visit(Record { info, text })?;
            }
            Err(e) if e.is_control() => return Err(e),
            Err(e) => session.notes.add(info_at, format!("printk record: {}", e.kind())),
        }
    }
    Ok(())
}

/// The text of a record: a block that starts with its descriptor's id. Places are counted on for ever, and a block that
/// would run over the end of the ring lies at its start instead. An odd place means that there is no text.
fn text(session: &Session, ring: &Ring, desc: &Desc, len: u32) -> Result<std::result::Result<String, String>> {
    const ID_SIZE: u64 = 8;
    if desc.begin & 1 != 0 {
        return Ok(Ok(String::new()));
    }
    let size = 1u64 << ring.size_bits;
    let (begin, next) = (desc.begin & (size - 1), desc.next & (size - 1));
    let wrapped = desc.begin >> ring.size_bits != desc.next >> ring.size_bits && next != 0;
    let (begin, end) = if wrapped { (0, next) } else { (begin, if next == 0 { size } else { next }) };
    let room = end.checked_sub(begin).and_then(|block| block.checked_sub(ID_SIZE));
    let Some(room) = room else { return Ok(Err("its text block is damaged".to_owned())) };
    let mut bytes = vec![0; u64::from(len).min(room) as usize];
    match session.read(ring.data.wrapping_add(begin + ID_SIZE), &mut bytes) {
        Ok(()) => Ok(Ok(engine::text::decode(&bytes))),
        Err(e) if e.is_control() => Err(e),
        Err(e) => Ok(Err(e.kind())),
    }
}

/// Walks the log.
pub static WALKERS: &[WalkerEntry] = &[WalkerEntry {
    name: "printk",
    doc: "walk the records of the kernel's log, oldest first",
    item: "struct printk_info",
    address: Address::None,
    walk: |cx, _, visit| records(cx, &mut |record| visit(record.info.addr)),
}];

/// The views of this file, to be held against every kernel.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Ring>(), ViewEntry::of::<Desc>(), ViewEntry::of::<Info>()];

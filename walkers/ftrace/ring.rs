//! The pages of a ring, and the records in them: kernel/trace/ring_buffer.c.
//!
//! A CPU's ring is a circle of `struct buffer_page`, each with a sub-buffer of records, and one more page that was
//! taken out of the circle for the reader. The oldest records are on the reader's page, from where it stopped reading;
//! then they go on at the circle's head, up to the page that is being committed.
//!
//! `head_page` may lag behind. The true head is the page whose predecessor's `next` carries a flag in its low bits.

use super::Event;
use bytes::Bytes;
use engine::ViewEntry;
use engine::{Doing, Error, Result, Session, View};
use std::{collections::HashSet, ops::Range};

/// `RB_PAGE_HEAD` and `RB_PAGE_UPDATE`, in the low bits of a `next` pointer.
const FLAGS: u64 = 3;
/// `RB_MISSED_EVENTS`: records were lost in front of this page. `RB_MISSED_STORED`: their number follows the data.
const MISSED: u64 = 1 << 31;
const MISSED_FLAGS: u64 = 3 << 30;
/// Largest sub-buffer that tracefs lets one set up: 2^7 pages (`buffer_subbuf_size_write`).
const MAX_ORDER: u32 = 7;
/// A circle of more pages than this is not walked: 64 GiB of records on one CPU.
const MAX_PAGES: usize = 1 << 24;
/// A bound for `nr_cpu_ids`, as the kernel has (CONFIG_NR_CPUS).
const MAX_CPUS: u64 = 8192;

/// `struct ring_buffer_per_cpu`. The counters are `local_t`.
#[derive(View)]
#[ctype("ring_buffer_per_cpu")]
struct PerCpu {
    head_page: u64,
    commit_page: u64,
    reader_page: u64,
    overrun: u64,
    dropped_events: u64,
}

/// `struct buffer_page`.
#[derive(View)]
#[ctype("buffer_page")]
struct BufferPage {
    #[field("list.next")]
    next: u64,
    #[field("list.prev")]
    prev: u64,
    page: u64,
    read: u32,
}

/// Where things lie in a sub-buffer (`struct buffer_data_page`) and at the start of each record
/// (`struct trace_entry`).
pub struct Shape {
    /// bytes of a sub-buffer
    size: usize,
    commit: usize,
    data: usize,
    kind: usize,
    pid: usize,
    /// of `list` in `struct buffer_page`
    link: u64,
}

impl Shape {
    /// Asks the types.
    pub fn of(session: &Session, order: u32) -> Result<Shape> {
        if order > MAX_ORDER {
            return Err(Error::Unavailable(format!("ring buffer with sub-buffers of 2^{order} pages")));
        }
        let offset = |ctype, member| session.offset(ctype, member).map(|offset| offset as usize);
        Ok(Shape {
            size: (session.target.page_size() as usize) << order,
            commit: offset("buffer_data_page", "commit")?,
            data: offset("buffer_data_page", "data")?,
            kind: offset("trace_entry", "type")?,
            pid: offset("trace_entry", "pid")?,
            link: session.offset("buffer_page", "list")?,
        })
    }
}

/// Each CPU that has a ring, and its `struct ring_buffer_per_cpu`.
pub fn per_cpu(session: &Session, array: u64) -> Result<Vec<(u32, u64)>> {
    let count = match session.kernel_symbol("nr_cpu_ids") {
        Some(addr) => u64::from(session.u32(addr)?).clamp(1, MAX_CPUS),
        None => crate::percpu::Percpu::of(session)?.cpus().len() as u64,
    };
    let mut bytes = vec![0; count as usize * 8];
    session.read(array, &mut bytes).doing(|| "reading the rings of a trace buffer".into())?;
    let pointers = bytes.chunks_exact(8).map(|b| b.try_into().map_or(0, u64::from_le_bytes));
    Ok((0..).zip(pointers).filter(|(_, addr)| *addr != 0).collect())
}

/// What a CPU's ring covers.
#[derive(Clone, Debug)]
pub struct Window {
    /// the CPU
    pub cpu: u32,
    /// events that were found
    pub events: u64,
    /// time of the first and of the last of them
    pub span: Option<(u64, u64)>,
    /// older events that were overwritten
    pub overrun: u64,
    /// newer events that found the ring full
    pub dropped: u64,
}

/// A page of a ring: the address of its sub-buffer and where its unread records start.
struct Page {
    data: u64,
    start: usize,
}

/// A place in a CPU's ring.
pub struct Cursor {
    pages: std::vec::IntoIter<Page>,
    sub: Option<SubBuffer>,
    record: Option<Record>,
    window: Window,
}

impl Cursor {
    /// In front of the oldest record.
    pub fn open(session: &Session, shape: &Shape, cpu: u32, addr: u64) -> Result<Cursor> {
        let ring: PerCpu = session.view(addr)?;
        let window = Window { cpu, events: 0, span: None, overrun: ring.overrun, dropped: ring.dropped_events };
        let pages = pages(session, shape, &ring)?.into_iter();
        Ok(Cursor { pages, sub: None, record: None, window })
    }

    /// Goes to the next record and tells its time; `None` at the end.
    pub fn advance(&mut self, session: &Session, shape: &Shape) -> Result<Option<u64>> {
        loop {
            match self.sub.as_mut().and_then(Iterator::next) {
                Some(record) => {
                    let first = self.window.span.map_or(record.time, |(first, _)| first);
                    self.window.span = Some((first, record.time));
                    self.window.events += 1;
                    self.record = Some(record);
                    return Ok(self.record.as_ref().map(|r| r.time));
                }
                None => {
                    if let Some(damage) = self.sub.take().and_then(|sub| sub.damage.map(|what| (sub.addr, what))) {
                        session.notes.add(damage.0, damage.1);
                    }
                    let Some(page) = self.pages.next() else {
                        self.record = None;
                        return Ok(None);
                    };
                    self.sub = open_page(session, shape, &page)?;
                }
            }
        }
    }

    /// The record that the cursor is at.
    pub fn event(&self, shape: &Shape) -> Option<Event<'_>> {
        let (sub, record) = (self.sub.as_ref()?, self.record.as_ref()?);
        let data = sub.bytes.get(record.data.clone())?;
        let kind = data.get(shape.kind..)?.first_chunk().map(|b| u16::from_le_bytes(*b))?;
        let pid = data.get(shape.pid..)?.first_chunk().map(|b| i32::from_le_bytes(*b))?;
        Some(Event {
            addr: sub.addr.wrapping_add(record.at as u64),
            cpu: self.window.cpu,
            time: record.time,
            kind,
            pid,
            data,
        })
    }

    /// What was seen.
    pub fn window(self) -> Window {
        self.window
    }
}

fn open_page(session: &Session, shape: &Shape, page: &Page) -> Result<Option<SubBuffer>> {
    let bytes = match session.bytes(page.data, shape.size) {
        Ok(bytes) => bytes,
        Err(e) if e.is_control() => return Err(e),
        Err(e) => {
            session.notes.add(page.data, format!("ring buffer page: {}", e.kind()));
            return Ok(None);
        }
    };
    let sub = SubBuffer::new(page.data, bytes, shape.commit, shape.data, page.start);
    if sub.as_ref().is_some_and(|s| s.lost) {
        session.notes.add(page.data, "ring buffer page in front of which events were lost");
    }
    Ok(sub)
}

/// The pages that hold records, oldest first.
fn pages(session: &Session, shape: &Shape, ring: &PerCpu) -> Result<Vec<Page>> {
    let read = |addr: u64| session.view::<BufferPage>(addr);
    let mut out = Vec::new();
    match read(ring.reader_page) {
        Ok(reader) => out.push(Page { data: reader.page, start: reader.read as usize }),
        Err(e) if e.is_control() => return Err(e),
        Err(e) => session.notes.add(ring.reader_page, format!("ring buffer's reader page: {}", e.kind())),
    }
    if ring.reader_page == ring.commit_page {
        return Ok(out);
    }
    let mut seen = HashSet::new();
    let (mut at, mut whole) = (true_head(session, shape, ring)?, false);
    while seen.len() < MAX_PAGES && seen.insert(at) {
        match read(at) {
            Ok(page) => {
                out.push(Page { data: page.page, start: 0 });
                if at == ring.commit_page {
                    whole = true;
                    break;
                }
                at = (page.next & !FLAGS).wrapping_sub(shape.link);
            }
            Err(e) if e.is_control() => return Err(e),
            Err(_) => break,
        }
    }
    if !whole {
        session.notes.add(at, "ring buffer with a broken circle of pages");
        // what comes behind the gap is reached from the other end
        let (mut rest, mut at) = (Vec::new(), ring.commit_page);
        while seen.len() < MAX_PAGES && seen.insert(at) {
            match read(at) {
                Ok(page) => {
                    rest.push(Page { data: page.page, start: 0 });
                    at = (page.prev & !FLAGS).wrapping_sub(shape.link);
                }
                Err(e) if e.is_control() => return Err(e),
                Err(_) => break,
            }
        }
        out.extend(rest.into_iter().rev());
    }
    Ok(out)
}

/// The memory of a CPU's sub-buffers, whatever they hold.
pub fn memory(session: &Session, shape: &Shape, ring: u64) -> Result<Vec<Range<u64>>> {
    let ring: PerCpu = session.view(ring)?;
    let (mut out, mut seen) = (Vec::new(), HashSet::new());
    for first in [ring.reader_page, ring.head_page] {
        let mut at = first;
        while seen.len() < MAX_PAGES && seen.insert(at) {
            session.interrupt.check()?;
            let Ok(page) = session.view::<BufferPage>(at) else { break };
            out.push(page.page..page.page.saturating_add(shape.size as u64));
            at = (page.next & !FLAGS).wrapping_sub(shape.link);
        }
    }
    Ok(out)
}

/// The page whose predecessor's `next` says that it is the head, searched from `head_page` on.
fn true_head(session: &Session, shape: &Shape, ring: &PerCpu) -> Result<u64> {
    let (mut at, mut seen) = (ring.head_page, HashSet::new());
    while seen.len() < MAX_PAGES && seen.insert(at) {
        let link = at.wrapping_add(shape.link);
        let step = || -> Result<(bool, u64)> {
            let page: BufferPage = session.view(at)?;
            let flags = session.u64(page.prev & !FLAGS)? & FLAGS;
            Ok((flags != 0, page.next & !FLAGS))
        };
        match step() {
            Ok((true, _)) => return Ok(at),
            Ok((false, next)) if next != link => at = next.wrapping_sub(shape.link),
            Err(e) if e.is_control() => return Err(e),
            _ => break,
        }
    }
    session.notes.add(ring.head_page, "ring buffer with no marked head: taking head_page");
    Ok(ring.head_page)
}

/// A record of a sub-buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// offset of its `struct ring_buffer_event`
    pub at: usize,
    /// nanoseconds
    pub time: u64,
    /// its data
    pub data: std::ops::Range<usize>,
}

/// Steps through the records of one sub-buffer.
#[derive(Debug)]
pub struct SubBuffer {
    addr: u64,
    bytes: Bytes,
    at: usize,
    end: usize,
    /// records before this place have been read, and count no more
    unread: usize,
    time: u64,
    lost: bool,
    damage: Option<&'static str>,
}

impl SubBuffer {
    /// `bytes` is a whole `struct buffer_data_page`, which starts with a time; `commit` and `data` are offsets in it;
    /// records before `read` are passed over. `None` if it is too short.
    pub fn new(addr: u64, bytes: Bytes, commit: usize, data: usize, read: usize) -> Option<SubBuffer> {
        let word = |at: usize| bytes.get(at..)?.first_chunk().map(|b| u64::from_le_bytes(*b));
        let (time, commit) = (word(0)?, word(commit)?);
        let lost = commit & MISSED != 0;
        // 32 bits: what a `local_t` of a 32-bit kernel holds, and more than any page has
        let committed = (commit & 0xffff_ffff & !MISSED_FLAGS) as usize;
        let room = bytes.len().checked_sub(data)?;
        let damage = (committed > room).then_some("ring buffer page that claims more data than it can hold");
        let end = data + committed.min(room);
        Some(SubBuffer { addr, at: data, end, unread: data.saturating_add(read), time, lost, damage, bytes })
    }

    /// Why the records ended before the data did.
    pub fn damage(&self) -> Option<&'static str> {
        self.damage
    }

    fn word(&self, at: usize) -> Option<u64> {
        let bytes = self.bytes.get(at..at.checked_add(4)?)?;
        bytes.try_into().ok().map(|b| u64::from(u32::from_le_bytes(b)))
    }

    /// One event word: `type_len:5, time_delta:27` (`struct ring_buffer_event`). `None` at the end or at damage;
    /// `Some(None)` for what is no record.
    fn step(&mut self) -> Option<Option<Record>> {
        /// larger types stand for themselves
        const DATA_MAX: u64 = 28;
        const PADDING: u64 = 29;
        const EXTEND: u64 = 30;
        /// an absolute time keeps the top five bits of the last one
        const TOP: u64 = 0xf8 << 56;
        let at = self.at;
        let word = self.word(at)?;
        let (kind, delta) = (word & 31, word >> 5);
        match kind {
            PADDING if delta == 0 => None,
            PADDING => {
                // a discarded record
                self.time = self.time.wrapping_add(delta);
                self.at = at.checked_add(4)?.checked_add(self.word(at + 4)? as usize)?;
                Some(None)
            }
            EXTEND => {
                self.time = self.time.wrapping_add(self.word(at + 4)? << 27).wrapping_add(delta);
                self.at = at + 8;
                Some(None)
            }
            kind if kind > EXTEND => {
                let low = (self.word(at + 4)? << 27) | delta;
                let full = low | self.time & TOP;
                // `rb_fix_abs_ts`: 59 bits have run over since
                self.time = if self.time & TOP != 0 && full < self.time { full.wrapping_add(1 << 59) } else { full };
                self.at = at + 8;
                Some(None)
            }
            kind => {
                self.time = self.time.wrapping_add(delta);
                let (data, len) = match kind {
                    // a long record: its length, with the four bytes of the length itself, comes first
                    0 => (at + 8, (self.word(at + 4)? as usize).checked_sub(4)?),
                    words => (at + 4, 4 * words.min(DATA_MAX) as usize),
                };
                let end = data.checked_add(len).filter(|end| *end <= self.end)?;
                self.at = end;
                Some((at >= self.unread).then_some(Record { at, time: self.time, data: data..end }))
            }
        }
    }
}

impl Iterator for SubBuffer {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        while self.at < self.end {
            match self.step() {
                Some(Some(record)) => return Some(record),
                Some(None) => {}
                None => {
                    let padding = self.word(self.at).is_some_and(|w| w == 29);
                    if !padding {
                        self.damage = Some("ring buffer page with a record that runs past its end");
                    }
                    self.at = self.end;
                }
            }
        }
        None
    }
}

/// The views of this file, to be held against every kernel.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<PerCpu>(), ViewEntry::of::<BufferPage>()];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SIZE: usize = 4096;
    const DATA: usize = 16;

    /// A page as x86 has it: time, commit, data.
    fn page(time: u64, words: &[u32], flags: u64) -> SubBuffer {
        let mut bytes = time.to_le_bytes().to_vec();
        bytes.extend(((4 * words.len() as u64) | flags).to_le_bytes());
        bytes.extend(words.iter().flat_map(|w| w.to_le_bytes()));
        bytes.resize(SIZE, 0xee);
        SubBuffer::new(0x1000, bytes.into(), 8, DATA, 0).unwrap()
    }

    fn word(kind: u32, delta: u32) -> u32 {
        delta << 5 | kind
    }

    #[test]
    fn times_add_up_and_lengths_come_in_two_kinds() {
        let mut sub = page(
            1000,
            &[word(2, 5), 1, 2, word(0, 7), 8, 3, word(30, 1), 2, word(1, 0), 9, word(29, 4), 8, 0, word(1, 1), 9],
            0,
        );
        let seen: Vec<_> = sub.by_ref().map(|r| (r.at, r.time, r.data)).collect();
        let extended = 1012 + (2 << 27) + 1;
        assert_eq!(
            seen,
            [
                (16, 1005, 20..28),
                (28, 1012, 36..40),
                (48, extended, 52..56),
                // a discarded record between them takes its time along
                (68, extended + 4 + 1, 72..76),
            ]
        );
        assert_eq!(sub.damage(), None);
    }

    #[test]
    fn an_absolute_time_keeps_the_top_bits_and_may_have_run_over() {
        let time = 0x0900_0000_0000_0000u64;
        let times = |low: u64| -> Vec<u64> {
            let absolute = [word(31, (low & 0x7ff_ffff) as u32), (low >> 27) as u32, word(1, 0), 0];
            page(time, &absolute, 0).map(|r| r.time).collect()
        };
        assert_eq!(times(0x123_4567_89ab), [0x0800_0123_4567_89ab + (1 << 59)]);
        assert_eq!(times(time & !(0xf8 << 56) | 5), [time | 5]);
        let mut low = page(0, &[word(31, 9), 1, word(1, 0), 0], 0);
        assert_eq!(low.next().unwrap().time, (1 << 27) | 9);
    }

    #[test]
    fn the_end_of_a_page_is_its_commit_or_its_padding() {
        assert_eq!(page(0, &[word(1, 1), 0, word(29, 0), word(1, 1), 0], 0).count(), 1);
        let lost = page(0, &[word(1, 1), 0], MISSED);
        assert!(lost.lost);
        assert_eq!(lost.count(), 1);
    }

    #[test]
    fn what_was_read_before_counts_only_for_the_time() {
        let mut bytes = vec![0; SIZE];
        bytes[8] = 16;
        bytes[16..20].copy_from_slice(&word(1, 3).to_le_bytes());
        bytes[24..28].copy_from_slice(&word(1, 4).to_le_bytes());
        let sub = SubBuffer::new(0, bytes.into(), 8, DATA, 8).unwrap();
        assert_eq!(sub.map(|r| (r.at, r.time)).collect::<Vec<_>>(), [(24, 7)]);
    }

    #[test]
    fn damage_ends_a_page_and_is_told() {
        for words in [&[word(28, 1), 0][..], &[word(0, 1), 3], &[word(0, 1), 0xffff_ffff], &[word(0, 1)]] {
            let mut sub = page(0, words, 0);
            // words behind the commit are no records, whatever they say
            assert_eq!(sub.by_ref().count(), 0, "{words:x?}");
            assert!(sub.damage().is_some(), "{words:x?}");
        }
        let mut bytes = vec![0xff; SIZE];
        bytes[8..16].copy_from_slice(&0x3fff_ffffu64.to_le_bytes());
        let sub = SubBuffer::new(0, bytes.into(), 8, DATA, usize::MAX).unwrap();
        assert!(sub.damage().is_some());
        assert_eq!(sub.count(), 0);
        assert!(SubBuffer::new(0, vec![0; 12].into(), 8, DATA, 0).is_none());
    }

    #[test]
    fn noise_ends_without_a_panic() {
        let mut seed = 0x9e37_79b9_7f4a_7c15u64;
        let mut next = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        for round in 0..2000 {
            let mut bytes: Vec<u8> = (0..SIZE / 8).flat_map(|_| next().to_le_bytes()).collect();
            if round % 2 == 0 {
                // mostly small records, so that many are stepped through
                bytes.chunks_exact_mut(4).for_each(|w| w[0] &= if next() % 8 == 0 { 0x1f } else { 0x03 });
            }
            let mut sub = SubBuffer::new(0, bytes.into(), 8, DATA, (next() % 64) as usize).unwrap();
            let mut last = 0;
            for record in sub.by_ref() {
                assert!(record.at >= last && record.data.end <= SIZE);
                last = record.data.end;
            }
        }
    }
}

//! Reading ahead: who reads page after page gets the next ones decompressed on all cores before asking for them.
//!
//! The threads that do it are no part of the pool that scans use: while one of that pool's waits it may take up another
//! piece of the scan, which may want what the waiting one has locked. For the same reason a thread of any pool reads
//! by itself alone; its siblings keep the other cores busy.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use rayon::{ThreadPool, ThreadPoolBuilder};

/// Most pages that are read ahead.
const MOST: u64 = 64;
/// Readers that are told apart.
const READERS: usize = 16;

/// Where each of some threads is expected to read next, and how many pages it got the last time.
#[derive(Default)]
pub(super) struct Ahead([AtomicU64; READERS]);

impl Ahead {
    /// How many pages to decompress now that this thread asks for page `pfn`, which is not in the cache.
    pub fn pages(&self, pfn: u64) -> u64 {
        if rayon::current_thread_index().is_some() {
            return 1;
        }
        let Some(reader) = self.0.get(reader()) else { return 1 };
        let (next, last) = unpack(reader.load(Ordering::Relaxed));
        let pages = if next == pfn && last > 0 { (last * 2).min(MOST) } else { 1 };
        reader.store(pack(pfn.saturating_add(pages), pages), Ordering::Relaxed);
        pages
    }
}

/// Page frame and count in one word, so that no reader sees half of a change.
fn pack(next: u64, pages: u64) -> u64 {
    next << 8 | pages
}

fn unpack(word: u64) -> (u64, u64) {
    (word >> 8, word & 0xff)
}

/// The number of this thread, as far as it matters.
fn reader() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static READER: usize = NEXT.fetch_add(1, Ordering::Relaxed) % READERS;
    }
    READER.with(|&reader| reader)
}

/// The threads that decompress for one that waits; none if it should do it alone.
pub(super) fn crew() -> Option<&'static ThreadPool> {
    static CREW: OnceLock<Option<ThreadPool>> = OnceLock::new();
    if rayon::current_thread_index().is_some() {
        return None;
    }
    let hire = || ThreadPoolBuilder::new().thread_name(|i| format!("decompress-{i}")).build().ok();
    CREW.get_or_init(|| hire().filter(|pool| pool.current_num_threads() > 1)).as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_reads_on_is_read_ahead_for() {
        let ahead = Ahead::default();
        assert_eq!([7, 8, 10, 14].map(|pfn| ahead.pages(pfn)), [1, 2, 4, 8]);
        assert_eq!(
            [100, 50, 51, 53, 57, 65, 81, 113, 177].map(|pfn| ahead.pages(pfn)),
            [1, 1, 2, 4, 8, 16, 32, 64, 64]
        );
        assert_eq!(ahead.pages(u64::MAX), 1);
        assert_eq!(Ahead::default().pages(0), 1, "nobody has read anything yet");
    }
}

//! The log of a running kernel, as far as probes of it recorded one: what `::kmem_record` kept.
//!
//! There is one running kernel, and what was recorded of it last is the log until something else is recorded. Records have
//! no memory in the kernel: what stands for their address is their number, from 1 on.

use super::{Kind, Log, Transaction, Witness};
use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

/// Stacks that are told apart; one more, and they are told apart anew.
const MOST_STACKS: usize = 1 << 16;

static LAST: Mutex<Option<Arc<Recorded>>> = Mutex::new(None);

/// A call of the allocator that was seen.
#[derive(Clone, Debug)]
pub struct Seen {
    /// what happened
    pub kind: Kind,
    /// CLOCK_MONOTONIC, in ns
    pub time: u64,
    /// the thread's number
    pub thread: u32,
    /// CPU
    pub cpu: u32,
    /// the memory
    pub buffer: u64,
    /// who called the allocator
    pub site: u64,
    /// bytes asked for and bytes handed out
    pub bytes: Option<(u64, u64)>,
    /// return addresses, innermost first
    pub stack: Vec<u64>,
}

/// A recording under way: the last so many transactions.
pub struct Recorder {
    kept: VecDeque<(Seen, Arc<[u64]>)>,
    stacks: HashSet<Arc<[u64]>>,
    most: usize,
    dropped: u64,
}

impl Recorder {
    /// One that keeps so many.
    pub fn new(most: usize) -> Recorder {
        Recorder { kept: VecDeque::new(), stacks: HashSet::new(), most: most.max(1), dropped: 0 }
    }

    /// Adds a transaction; the oldest makes room.
    pub fn push(&mut self, mut seen: Seen) {
        let stack = std::mem::take(&mut seen.stack);
        let stack = match self.stacks.get(stack.as_slice()) {
            Some(known) => known.clone(),
            None => {
                if self.stacks.len() >= MOST_STACKS {
                    self.stacks.clear();
                }
                let stack: Arc<[u64]> = stack.into();
                self.stacks.insert(stack.clone());
                stack
            }
        };
        if self.kept.len() >= self.most {
            self.kept.pop_front();
            self.dropped += 1;
        }
        self.kept.push_back((seen, stack));
    }

    /// Makes it the running kernel's log; `lost` is what found no room in a ring. Says how many were kept.
    pub fn keep(self, lost: u64) -> Arc<Recorded> {
        let (mut transactions, mut stacks) = (Vec::new(), Vec::new());
        for (number, (seen, stack)) in (1..).zip(self.kept) {
            stacks.push(stack);
            transactions.push(Transaction {
                addr: number,
                event: None,
                buffer: seen.buffer,
                time: seen.time,
                site: seen.site,
                pid: seen.thread,
                cpu: Some(seen.cpu),
                bytes: seen.bytes,
                cache: None,
                kind: seen.kind,
                witness: Witness::Probe,
            });
        }
        let recorded = Arc::new(Recorded { transactions, stacks, dropped: self.dropped, lost });
        *LAST.lock().unwrap_or_else(PoisonError::into_inner) = Some(recorded.clone());
        recorded
    }
}

/// What was recorded.
pub struct Recorded {
    /// in the order in which they were seen
    pub transactions: Vec<Transaction>,
    stacks: Vec<Arc<[u64]>>,
    /// older ones that made room
    pub dropped: u64,
    /// those that found no room in a ring
    pub lost: u64,
}

impl Recorded {
    /// The last recording of the running kernel.
    pub fn last() -> Option<Arc<Recorded>> {
        LAST.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The stack of the record of that number.
    pub fn stack(number: u64) -> Vec<u64> {
        let last = Recorded::last();
        let place = usize::try_from(number.wrapping_sub(1)).unwrap_or(usize::MAX);
        last.and_then(|recorded| recorded.stacks.get(place).map(|stack| stack.to_vec())).unwrap_or_default()
    }

    /// As a log.
    pub(super) fn log(self: &Arc<Recorded>) -> Log {
        let records = self.transactions.iter().cloned().zip(0u32..).collect();
        Log { recorded: Some(self.clone()), ..Log::new(records, Vec::new(), 0, Some(0)) }
    }

    /// What it does not have.
    pub(super) fn caveat(&self) -> String {
        let mut text = format!("recorded by ::kmem_record: {} transactions", self.transactions.len());
        if let [first, .., last] = &self.transactions[..] {
            text += &format!(" of {:.3} s", last.time.saturating_sub(first.time) as f64 / 1e9);
        }
        for (count, what) in [(self.dropped, "older made room"), (self.lost, "were lost")] {
            if count > 0 {
                text += &format!(", {count} {what}");
            }
        }
        text + "; kfree_rcu() and bulk calls leave no event"
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_oldest_make_room_and_stacks_are_found_again() {
        let mut recorder = Recorder::new(2);
        for n in 0..3 {
            let (kind, bytes, stack) = (Kind::Alloc, Some((60, 64)), vec![n, 7]);
            recorder.push(Seen { kind, time: n, thread: 1, cpu: 0, buffer: 64 * n, site: 5, bytes, stack });
        }
        let recorded = recorder.keep(4);
        assert_eq!((recorded.transactions.len(), recorded.dropped), (2, 1));
        assert_eq!((Recorded::stack(1), Recorded::stack(2), Recorded::stack(3)), (vec![1, 7], vec![2, 7], vec![]));
        let log = recorded.log();
        assert_eq!(log.iter().map(|t| t.buffer).collect::<Vec<_>>(), [128, 64]);
        assert!(recorded.caveat().contains("1 older made room, 4 were lost"));
    }
}

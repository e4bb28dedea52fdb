//! One transaction, one record: what an object's own record and the ring both saw.
//!
//! They are the same if buffer, kind, thread and CPU agree and the event's time lies in the record's tick. A tick's
//! number may lag while interrupts are off, so a few ticks later is allowed too.

use super::{Kind, Transaction, Witness};

/// What an object says of itself.
pub struct Claim {
    /// in a record of its own
    pub at: Transaction,
    /// whether it is, by the object's state, the newer of the object's two
    pub last: bool,
    /// whether its time is only known to a tick
    pub ticks: bool,
}

/// How many ticks behind an event a record's may lie.
const LAG: u64 = 3;
/// Fewer pairs than this prove nothing about clocks.
const ENOUGH: usize = 8;
/// How far clocks that count the same nanoseconds may be apart when they are read one after the other.
const SKEW: u64 = 1_000_000;

type Key = (u64, Kind, u32);

fn key(t: &Transaction) -> Key {
    (t.buffer, t.kind, t.pid)
}

/// Numbers of the events, by key, oldest first.
fn index(events: &[Transaction]) -> Vec<(Key, u32)> {
    let mut index: Vec<(Key, u32)> = (0..).zip(events).map(|(i, t)| (key(t), i)).collect();
    index.sort_unstable();
    index
}

fn matching<'a>(
    index: &'a [(Key, u32)],
    events: &'a [Transaction],
    claim: &'a Transaction,
) -> impl DoubleEndedIterator<Item = (u32, &'a Transaction)> {
    let wanted = key(claim);
    let start = index.partition_point(|(k, _)| *k < wanted);
    let end = index.partition_point(|(k, _)| *k <= wanted);
    let same = index.get(start..end).unwrap_or_default().iter();
    same.filter_map(|(_, i)| Some((*i, events.get(*i as usize)?)))
        .filter(|(_, event)| claim.cpu.is_none() || claim.cpu == event.cpu)
}

/// What the events' clock is ahead of the monotonic times of `claims`. `noted` is what the kernel noted. It may be old:
/// clocks drift apart. So it is held against the differences between claims and the last events that fit them: most are
/// right, and those lie within a few ticks of each other, wherever that is.
pub fn calibrate(noted: Option<i64>, claims: &[Claim], events: &[Transaction], tick: u64) -> Option<i64> {
    let index = index(events);
    let mut ahead: Vec<i64> = claims
        .iter()
        .filter_map(|claim| {
            let (_, event) = matching(&index, events, &claim.at).rfind(|(_, e)| e.site == claim.at.site)?;
            Some(event.time.wrapping_sub(claim.at.time) as i64)
        })
        .collect();
    if ahead.len() < ENOUGH {
        return noted;
    }
    ahead.sort_unstable();
    let width = tick.saturating_mul(2) as i64;
    let (mut best, mut start) = ((0, 0), 0);
    for (end, last) in ahead.iter().enumerate() {
        while ahead.get(start).is_some_and(|first| last.saturating_sub(*first) > width) {
            start += 1;
        }
        best = best.max((end + 1 - start, start));
    }
    let dense = ahead.get(best.1).copied()?;
    let many = best.0 >= ENOUGH && best.0 * 3 >= ahead.len();
    let room = (tick * LAG) as i64;
    match noted {
        Some(noted) if !many || (-room..=room).contains(&dense.saturating_sub(noted)) => Some(noted),
        _ if many => Some(dense),
        _ => None,
    }
}

/// Joins claims and events; each record comes with its rank among those of the same time: the higher, the newer.
pub fn join(claims: Vec<Claim>, mut events: Vec<Transaction>, tick: u64) -> Vec<(Transaction, u32)> {
    let index = index(&events);
    let mut taken = vec![false; events.len()];
    let mut joined = Vec::with_capacity(claims.len() + events.len());
    for claim in claims {
        let (early, late) = if claim.ticks { (tick, tick * (LAG + 1)) } else { (SKEW, SKEW) };
        let from = claim.at.time.saturating_sub(early);
        let until = claim.at.time.saturating_add(late);
        let place = matching(&index, &events, &claim.at)
            .map(|(i, event)| (i as usize, event.time))
            .rfind(|(i, time)| (from..=until).contains(time) && taken.get(*i).is_some_and(|taken| !taken))
            .map(|(i, _)| i);
        let mut record = claim.at;
        if let Some((place, event)) = place.and_then(|i| Some((i, events.get(i)?))) {
            record.event = event.event;
            record.time = event.time;
            record.bytes = event.bytes;
            record.cpu = event.cpu;
            record.witness = match record.witness {
                Witness::Kfence => Witness::KfenceAndFtrace,
                _ => Witness::TrackAndFtrace,
            };
            if let Some(taken) = taken.get_mut(place) {
                *taken = true;
            }
        }
        joined.push((record, u32::from(claim.last)));
    }
    settle(&mut joined, tick);
    // the order in the ring breaks ties among events
    let rest = (2..).zip(events.drain(..)).zip(taken);
    joined.extend(rest.filter(|(_, taken)| !taken).map(|((rank, event), _)| (event, rank)));
    joined
}

/// An object's state says which of its two records is the newer. One whose time is the start of its tick must not seem
/// older than the other one, of which the ring knows the nanosecond. Both records of an object stand side by side.
fn settle(records: &mut [(Transaction, u32)], tick: u64) {
    for pair in records.chunk_by_mut(|a, b| a.0.buffer == b.0.buffer) {
        let [(a, rank), (b, _)] = pair else { continue };
        let (newer, older) = if *rank == 1 { (a, b) } else { (b, a) };
        if newer.witness == Witness::Track && newer.time < older.time && older.time - newer.time <= tick * (LAG + 1) {
            newer.time = older.time;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: u64 = 4_000_000;

    fn seen(kind: Kind, buffer: u64, time: u64, witness: Witness) -> Transaction {
        Transaction {
            addr: time ^ buffer << 8 ^ kind as u64,
            event: (witness == Witness::Ftrace).then_some(time),
            buffer,
            time,
            site: 7,
            pid: 1,
            cpu: Some(0),
            bytes: (witness == Witness::Ftrace).then_some((10, 16)),
            cache: None,
            kind,
            witness,
        }
    }

    fn claim(kind: Kind, buffer: u64, time: u64, last: bool) -> Claim {
        Claim { at: seen(kind, buffer, time, Witness::Track), last, ticks: true }
    }

    #[test]
    fn what_two_saw_is_one_record() {
        let events = vec![
            seen(Kind::Alloc, 64, 100 * TICK, Witness::Ftrace),
            seen(Kind::Free, 64, 200 * TICK, Witness::Ftrace),
            seen(Kind::Alloc, 64, 300 * TICK + 5, Witness::Ftrace),
        ];
        let claims = vec![claim(Kind::Alloc, 64, 300 * TICK, true), claim(Kind::Free, 64, 250 * TICK, false)];
        let joined = join(claims, events, TICK);
        let both: Vec<_> = joined.iter().filter(|(t, _)| t.witness == Witness::TrackAndFtrace).collect();
        assert_eq!(joined.len(), 4);
        assert_eq!(both.len(), 1);
        assert_eq!((both[0].0.time, both[0].0.bytes), (300 * TICK + 5, Some((10, 16))));
    }

    #[test]
    fn another_thread_cpu_or_kind_is_another_transaction() {
        let other = |change: fn(&mut Transaction)| {
            let mut event = seen(Kind::Alloc, 64, 300 * TICK, Witness::Ftrace);
            change(&mut event);
            join(vec![claim(Kind::Alloc, 64, 300 * TICK, true)], vec![event], TICK).len()
        };
        assert_eq!(other(|_| ()), 1);
        assert_eq!(other(|e| e.pid = 2), 2);
        assert_eq!(other(|e| e.cpu = Some(1)), 2);
        assert_eq!(other(|e| e.kind = Kind::Free), 2);
        assert_eq!(other(|e| e.buffer = 128), 2);
        assert_eq!(other(|e| e.time += 10 * TICK), 2);
        assert_eq!(other(|e| e.time -= 2 * TICK), 2);
    }

    #[test]
    fn the_state_orders_what_fell_into_one_tick() {
        let events = vec![seen(Kind::Alloc, 64, 300 * TICK + 9, Witness::Ftrace)];
        // freed in the same tick, by kfree_rcu(): no event
        let claims = vec![claim(Kind::Alloc, 64, 300 * TICK, false), claim(Kind::Free, 64, 300 * TICK, true)];
        let mut joined = join(claims, events, TICK);
        joined.sort_by_key(|(t, rank)| (t.time, *rank));
        let kinds: Vec<_> = joined.iter().map(|(t, _)| t.kind).collect();
        assert_eq!(kinds, [Kind::Alloc, Kind::Free]);
    }

    #[test]
    fn a_note_of_the_kernel_is_believed_until_pairs_disprove_it() {
        let pairs = |count: u64, ahead: u64| {
            let claims: Vec<_> = (0..count).map(|i| claim(Kind::Alloc, i * 64, i * 100 * TICK, true)).collect();
            let shifted = |i| seen(Kind::Alloc, i * 64, i * 100 * TICK + ahead + i % 4 * 1_000_000, Witness::Ftrace);
            (claims, (0..count).map(shifted).collect::<Vec<_>>())
        };
        let (claims, events) = pairs(40, 50 * TICK);
        assert_eq!(calibrate(Some(50 * TICK as i64 - 1), &claims, &events, TICK), Some(50 * TICK as i64 - 1));
        assert_eq!(calibrate(Some(0), &claims, &events, TICK), Some(50 * TICK as i64), "it drifted");
        assert_eq!(calibrate(None, &claims, &events, TICK), Some(50 * TICK as i64));
        let (claims, events) = pairs(4, 50 * TICK);
        assert_eq!(calibrate(Some(0), &claims, &events, TICK), Some(0), "too few to say");
    }
}

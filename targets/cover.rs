//! Overlapping claims to one line of addresses, made disjoint.
//!
//! Headers of dumps describe the same memory twice, and streams write the same place twice; somebody has to win.

use std::collections::BinaryHeap;
use std::ops::Range;

/// Covers the line with the claims; where several overlap the one with the highest rank wins, and of equals the later
/// one. Returns which claim covers which range, in order. One sweep with the active claims in a heap: `n log n`,
/// however they overlap, and at most two ranges for each claim.
pub(crate) fn disjoint<R: Ord + Copy>(claims: &[(Range<u64>, R)]) -> Vec<(Range<u64>, usize)> {
    let mut order: Vec<usize> = (0..claims.len()).filter(|&i| !claims[i].0.is_empty()).collect();
    order.sort_by_key(|&i| claims[i].0.start);
    let mut points: Vec<u64> = order.iter().flat_map(|&i| [claims[i].0.start, claims[i].0.end]).collect();
    points.sort_unstable();
    points.dedup();

    let mut out: Vec<(Range<u64>, usize)> = Vec::new();
    let mut active = BinaryHeap::new();
    let mut waiting = order.into_iter().peekable();
    for span in points.windows(2) {
        let &[start, end] = span else { continue };
        while let Some(i) = waiting.next_if(|&i| claims[i].0.start <= start) {
            active.push((claims[i].1, i));
        }
        while active.peek().is_some_and(|&(_, i)| claims[i].0.end <= start) {
            active.pop();
        }
        let Some(&(_, winner)) = active.peek() else { continue };
        match out.last_mut() {
            Some((range, last)) if *last == winner && range.end == start => range.end = end,
            _ => out.push((start..end, winner)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Paints the claims one by one, lowest rank first, and looks at every point.
    fn painted(claims: &[(Range<u64>, u64)], at: u64) -> Option<usize> {
        (0..claims.len()).filter(|&i| claims[i].0.contains(&at)).max_by_key(|&i| (claims[i].1, i))
    }

    #[test]
    fn agrees_with_painting() {
        let mut seed = 88172645463325252u64;
        let mut random = move |below: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % below
        };
        for _ in 0..500 {
            let claims: Vec<_> = (0..random(12))
                .map(|_| {
                    let start = random(40);
                    (start..start + random(20), random(4))
                })
                .collect();
            let cover = disjoint(&claims);
            assert!(cover.is_sorted_by(|a, b| a.0.end <= b.0.start));
            for at in 0..70 {
                let covered = cover.iter().find(|(range, _)| range.contains(&at)).map(|&(_, i)| i);
                assert_eq!(covered, painted(&claims, at), "{claims:?} at {at}");
            }
        }
    }
}

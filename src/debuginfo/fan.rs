//! Work spread over the machine's processors by threads of its own.
//!
//! Why not rayon, which the rest of kmdb scans with: the work here runs inside a [`OnceLock`](std::sync::OnceLock)
//! that is first touched from anywhere, also from a rayon job. A rayon thread that waits for its halves runs other
//! jobs meanwhile, may meet one that wants the same lock, and then waits for itself.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Runs `step` for every job number below `jobs`; each thread gathers into its own accumulator, made by `init`.
pub(crate) fn out<A: Send>(jobs: usize, init: impl Fn() -> A + Sync, step: impl Fn(&mut A, usize) + Sync) -> Vec<A> {
    let next = AtomicUsize::new(0);
    let run = || {
        let mut gathered = init();
        loop {
            let job = next.fetch_add(1, Ordering::Relaxed);
            if job >= jobs {
                return gathered;
            }
            step(&mut gathered, job);
        }
    };
    let helpers = thread::available_parallelism().map_or(1, usize::from).min(jobs).saturating_sub(1);
    thread::scope(|scope| {
        // where no thread can be had, this one does it all
        let spawned: Vec<_> =
            (0..helpers).filter_map(|_| thread::Builder::new().spawn_scoped(scope, run).ok()).collect();
        let mut all = vec![run()];
        all.extend(spawned.into_iter().filter_map(|thread| thread.join().ok()));
        all
    })
}

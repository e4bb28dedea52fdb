//! Ctrl-C: one flag, looked at where memory is read and where an item is passed on. A count of the items that passed
//! goes along, so that whoever waits can be told that something moves.

use crate::error::{Error, Result};
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

/// Says whether the running command shall stop. Cheap to clone; clones share one flag.
#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    flag: Arc<AtomicBool>,
    passed: Arc<AtomicU64>,
}

impl Interrupt {
    /// [`Error::Interrupted`] if the user asked to stop.
    #[inline]
    pub fn check(&self) -> Result<()> {
        if self.is_set() { Err(Error::Interrupted) } else { Ok(()) }
    }

    /// Whether the user asked to stop.
    #[inline]
    pub fn is_set(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }

    /// Asks to stop.
    pub fn set(&self) {
        self.flag.store(true, Ordering::Relaxed);
    }

    /// Forgets the request and the items, before the next command.
    pub fn clear(&self) {
        self.flag.store(false, Ordering::Relaxed);
        self.passed.store(0, Ordering::Relaxed);
    }

    /// Counts an item that a pipeline's first stage found.
    #[inline]
    pub(crate) fn pass(&self) {
        self.passed.fetch_add(1, Ordering::Relaxed);
    }

    /// Items that the command's first stage has found so far.
    pub fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }
}

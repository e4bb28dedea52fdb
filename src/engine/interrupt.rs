//! Ctrl-C: one flag, looked at where memory is read and where an item is passed on.

use crate::error::{Error, Result};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Says whether the running command shall stop. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(pub Arc<AtomicBool>);

impl Interrupt {
    /// [`Error::Interrupted`] if the user asked to stop.
    #[inline]
    pub fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
    }

    /// Whether the user asked to stop.
    #[inline]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Forgets the request, before the next command.
    pub fn clear(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

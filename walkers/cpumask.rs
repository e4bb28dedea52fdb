//! Sets of CPUs: `struct cpumask`, and `cpumask_var_t`, which is a pointer to one or one itself
//! (CONFIG_CPUMASK_OFFSTACK).
//!
//! ```console
//! > __cpu_online_mask::walk bitmap
//! 0x0
//! 0x1
//! ```

use crate::{container, percpu::Percpu};
use engine::{Field, Type, prelude::*};

/// The CPUs of the set that a member of the struct at `at` is, or points at. Only CPUs that may exist count.
pub fn member(session: &Session, at: u64, field: &Field) -> Result<Vec<u32>> {
    let place = at.wrapping_add(field.bit_offset / 8);
    match session.shape(field.ctype).as_deref() {
        Some(Type::Pointer { .. }) => cpus(session, session.u64(place)?),
        _ => cpus(session, place),
    }
}

/// The CPUs of the set at `at`; none if that is a null pointer.
pub fn cpus(session: &Session, at: u64) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    if at == 0 {
        return Ok(found);
    }
    let bits = Percpu::of(session)?.cpus().iter().max().map_or(0, |last| u64::from(*last) + 1);
    // an error, not a note: the caller has a cell for it
    session.bytes(at, bits.div_ceil(64) as usize * 8)?;
    container::bitmap(session, at, bits, &mut |cpu| {
        found.push(cpu as u32);
        Ok(())
    })?;
    Ok(found)
}

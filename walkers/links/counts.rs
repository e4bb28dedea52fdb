//! Reference counts, `refcount_t`: where one is put or taken too often it is set to a value far below zero, and stays
//! there (`refcount_warn_saturate` in lib/refcount.c).

use super::{Finding, Kind};

/// `REFCOUNT_SATURATED`
const SATURATED: i32 = i32::MIN / 2;

/// What is wrong with the count at an offset of an object.
pub fn count(start: u64, object: &[u8], offset: u64) -> Option<Finding> {
    let from = usize::try_from(offset).ok()?;
    let bytes = object.get(from..from.checked_add(4)?)?;
    let value = i32::from_le_bytes(bytes.try_into().ok()?);
    let verdict = match value {
        0.. => return None,
        SATURATED => "saturated: the count was put when it was zero already, or taken too often".into(),
        _ => format!("the count is {value}: put too often, or written over"),
    };
    Some(Finding { kind: Kind::Refcount, at: start.wrapping_add(offset), verdict, freed: None })
}

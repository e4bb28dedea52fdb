//! The C member at an offset, as sentences have it: `struct lab_node.link.prev`.

use engine::{TypeId, cprint::path, prelude::*};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// `+0`, `+1c`, `-8`: hex without a prefix, as mdb has it in its sentences.
pub fn plus(offset: i64) -> String {
    let sign = if offset < 0 { '-' } else { '+' };
    format!("{sign}{:x}", offset.unsigned_abs())
}

/// Members that were asked for: in a pipe of a million addresses they are few.
#[derive(Default)]
struct Known(Mutex<Members>);
type Members = HashMap<(TypeId, u64), Option<Arc<str>>>;

/// More of them than that are forgotten.
const MAX: usize = 1 << 16;

/// The member of a type that lies at an offset, with the type's name before it; only that at offset 0. `None` if nothing
/// of the type is there, or if the type has no members.
pub fn name(cx: &Cx<'_>, ctype: Option<TypeId>, offset: u64) -> Option<Arc<str>> {
    let ctype = ctype?;
    let known = cx.once(|| Ok(Known::default())).ok()?;
    let mut known = known.0.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = known.get(&(ctype, offset)) {
        return found.clone();
    }
    let found = find(cx, ctype, offset).map(Arc::from);
    if known.len() >= MAX {
        known.clear();
    }
    known.insert((ctype, offset), found.clone());
    found
}

fn find(cx: &Cx<'_>, ctype: TypeId, offset: u64) -> Option<String> {
    use engine::Type::{Array, Struct};
    if !matches!(&*cx.shape(ctype)?, Struct { .. } | Array { .. }) || offset >= cx.types.size_of(ctype)? {
        return None;
    }
    let spelled = cx.types.spell(ctype);
    let (path, _) = path::member_at(&cx.types, ctype, offset)?;
    Some(match offset {
        0 => spelled,
        _ if path.is_empty() => format!("{spelled}{}", plus(offset as i64)),
        _ if path.starts_with('[') => format!("{spelled}{path}"),
        _ => format!("{spelled}.{path}"),
    })
}

//! What is no address at all, as `::whatis` sees it: error codes, poison, text, offsets from NULL.

use super::{Answer, Source, Want};
use crate::member::plus;
use engine::prelude::*;
use walkers::special::{self, Special};

/// Numbers that stand for something else than an address.
pub const NUMBERS: Source = Source { name: "numbers that are no addresses", identifiers: false, find: number };

fn number(cx: &Cx<'_>, value: u64, _: Want) -> Result<Option<Answer>> {
    let Some(found) = special::special(cx, value) else { return Ok(None) };
    let (name, text) = match found {
        Special::Null { offset: 0 } => ("NULL".into(), "NULL".into()),
        Special::Null { offset } => {
            let text = format!("NULL{}: a member of a structure at NULL, or a small number", plus(offset as i64));
            ("NULL".into(), text)
        }
        Special::Error { name } => {
            let text = format!("ERR_PTR(-{name}): an error code where a pointer should be");
            (name, text)
        }
        Special::Mark { name, meaning, offset } => {
            let behind = if offset == 0 { String::new() } else { plus(offset as i64) };
            (name.into(), format!("{name}{behind}: {meaning}"))
        }
        Special::Pattern { byte, meaning, offset } => {
            let behind = if offset == 0 { String::new() } else { format!(" ({} from it)", plus(offset)) };
            (format!("{byte:02x}"), format!("the pattern 0x{byte:02x}{behind}: {meaning}, taken for a pointer"))
        }
        Special::Text { text } => {
            let what = format!("the text {text:?}, taken for a pointer");
            (text, what)
        }
        Special::NonCanonical => ("not canonical".into(), "not canonical: no page table can map it".into()),
    };
    Ok(Some(Answer::is(Object::untyped(value), text).named(name)))
}

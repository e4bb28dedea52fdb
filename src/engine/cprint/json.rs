//! A tree as JSON: what it is, where it lies, and its value.
//!
//! ```json
//! {"addr":"0xffff8881002a3c00","type":"struct qstr","value":{"hash":305419896,"len":4,"name":{"addr":"0xffff8881002a3c38","string":"init"}}}
//! ```
//!
//! | C | JSON |
//! |---|---|
//! | integer | number; beyond 2^53, where readers lose digits, a decimal string |
//! | `char`, `char` array | string |
//! | pointer | `"0x…"`; with a symbol or a string behind it, an object with `addr` and `symbol` or `string` |
//! | enum | object with `value` and `name` |
//! | struct, union | object; members of anonymous ones stand among the others, as in C |
//! | array | array; if it is longer than what is shown, its last element is `{"more": N}` |
//! | unreadable | `{"unreadable": reason}` |
//! | below the depth that was asked for | `{"...": true}` |

use crate::ctree::{HOLE, Node, Text, Tree, Value};
use serde_json::{Map, Value as Json, json};

/// Integers from here on lose digits in most JSON readers.
const EXACT: u64 = 1 << 53;

impl Tree {
    /// One JSON object.
    pub fn to_json(&self) -> Json {
        let mut map = Map::new();
        map.insert("addr".into(), address(self.object.addr));
        map.insert("type".into(), self.ctype.as_str().into());
        if let Some((path, _)) = &self.path {
            map.insert("member".into(), path.as_str().into());
        }
        map.insert("value".into(), value(&self.root.value));
        Json::Object(map)
    }
}

/// An unsigned integer, as a string where a number would lose digits.
pub fn integer(v: u64) -> Json {
    if v < EXACT { v.into() } else { v.to_string().into() }
}

/// A signed integer, as a string where a number would lose digits.
pub fn signed_integer(v: i64) -> Json {
    if v.unsigned_abs() < EXACT { v.into() } else { v.to_string().into() }
}

fn address(addr: u64) -> Json {
    format!("{addr:#x}").into()
}

fn value(v: &Value) -> Json {
    match v {
        Value::Absent => Json::Null,
        Value::Int { raw, bits, signed: true, .. } => signed_integer(super::scalar::sign_extend(*raw, *bits)),
        Value::Int { raw, .. } => integer(*raw),
        Value::Float(f) => json!(f),
        Value::Char(c) => char::from(*c).to_string().into(),
        Value::Enum { value, name, .. } => json!({ "value": signed_integer(*value), "name": name }),
        Value::Pointer { to, symbol: None, text: None } => address(*to),
        Value::Pointer { to, symbol, text } => {
            let mut map = Map::from_iter([("addr".to_owned(), address(*to))]);
            if let Some(symbol) = symbol {
                map.insert("symbol".into(), (**symbol).into());
            }
            if let Some(t) = text {
                map.insert("string".into(), string(t));
            }
            Json::Object(map)
        }
        Value::String(t) => string(t),
        Value::Known(text) => (**text).into(),
        Value::Struct { members, more } => {
            let mut map = Map::new();
            put_members(&mut map, members);
            if *more > 0 {
                map.insert("...".into(), (*more).into());
            }
            Json::Object(map)
        }
        Value::Array { items, more, .. } => array(items, *more),
        Value::StructBelow | Value::ArrayBelow => json!({ "...": true }),
        Value::Declared => Json::Null,
        Value::Unreadable(why) => json!({ "unreadable": why }),
    }
}

fn string(t: &Text) -> Json {
    format!("{}{}", t.text, if t.more { "..." } else { "" }).into()
}

fn put_members(map: &mut Map<String, Json>, members: &[Node]) {
    for node in members {
        match &node.value {
            Value::Struct { members, .. } if node.is_anonymous() => put_members(map, members),
            // several holes would need several names, and padding means nothing to a program
            _ if &*node.name == HOLE => {}
            v => {
                let name = if node.is_anonymous() { "<anon>" } else { &*node.name };
                map.insert(name.to_owned(), value(v));
            }
        }
    }
}

/// A `char` array that is no string is one in JSON nevertheless, so that a member has one type.
fn array(items: &[Node], more: u64) -> Json {
    let chars: Option<String> = items
        .iter()
        .map(|n| match n.value {
            Value::Char(c) => Some(char::from(c)),
            _ => None,
        })
        .collect();
    if let Some(text) = chars.filter(|t| !t.is_empty()) {
        let text = text.trim_end_matches('\0');
        return if more > 0 && !text.is_empty() { format!("{text}...").into() } else { text.into() };
    }
    let mut list: Vec<_> = items.iter().map(|n| value(&n.value)).collect();
    if more > 0 {
        list.push(json!({ "more": more }));
    }
    list.into()
}

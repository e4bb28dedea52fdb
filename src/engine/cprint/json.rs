//! A tree as JSON: what it is, where it lies, and its value.
//!
//! ```json
//! {"addr":"0xffff8881002a3c00","type":"struct qstr","value":{"hash":305419896,"len":4,"name":{"addr":"0xffff8881002a3c38","string":"init"}}}
//! ```
//!
//! | C | JSON |
//! |---|---|
//! | integer of up to 32 bits, enum's value | number |
//! | integer of more than 32 bits | hex string, `"0x2a"`, `"-0x1"`: readers of JSON numbers lose digits from 2^53 on |
//! | `char`, `char` array | string; with bytes that are no UTF-8 `{"text": …, "bytes": …}`, the latter in hex |
//! | pointer | `"0x…"`; with a symbol or a string behind it, an object with `addr` and `symbol` or `string` |
//! | enum | object with `value` and `name` |
//! | struct, union | object; members of anonymous ones stand among the others, as in C |
//! | array | array; if it is longer than what is shown, its last element is `{"more": N}` |
//! | unreadable | `{"unreadable": reason}` |
//! | below the depth that was asked for | `{"...": true}` |

use crate::ctree::{HOLE, Node, Text, Tree, Value};
use serde_json::{Map, Value as Json, json};
use std::borrow::Cow;

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

/// An unsigned integer, as a hex string where a number would lose digits.
pub fn integer(v: u64) -> Json {
    if v < EXACT { v.into() } else { address(v) }
}

/// A signed integer, as a hex string where a number would lose digits.
pub fn signed_integer(v: i64) -> Json {
    if v.unsigned_abs() < EXACT { v.into() } else { signed_hex(v) }
}

fn signed_hex(v: i64) -> Json {
    format!("{}{:#x}", if v < 0 { "-" } else { "" }, v.unsigned_abs()).into()
}

/// Text of a dump, with its bytes if it is not all UTF-8.
pub fn string(s: &str) -> Json {
    match crate::text::encode(s) {
        Cow::Borrowed(_) => s.into(),
        Cow::Owned(bytes) => {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            json!({ "text": String::from_utf8_lossy(&bytes), "bytes": hex })
        }
    }
}

fn address(addr: u64) -> Json {
    format!("{addr:#x}").into()
}

fn value(v: &Value) -> Json {
    match v {
        Value::Absent => Json::Null,
        Value::Int { raw, bits, signed: true, .. } => match (super::scalar::sign_extend(*raw, *bits), *bits > 32) {
            (value, true) => signed_hex(value),
            (value, false) => value.into(),
        },
        Value::Int { raw, bits, .. } => {
            if *bits > 32 {
                address(*raw)
            } else {
                (*raw).into()
            }
        }
        Value::Float(f) => json!(f),
        Value::Char(c) => string(&crate::text::decode(&[*c])),
        Value::Enum { value, name, .. } => json!({ "value": signed_integer(*value), "name": name }),
        Value::Pointer { to, symbol: None, text: None } => address(*to),
        Value::Pointer { to, symbol, text } => {
            let mut map = Map::from_iter([("addr".to_owned(), address(*to))]);
            if let Some(symbol) = symbol {
                map.insert("symbol".into(), (**symbol).into());
            }
            if let Some(t) = text {
                map.insert("string".into(), shown(t));
            }
            Json::Object(map)
        }
        Value::String(t) => shown(t),
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

fn shown(t: &Text) -> Json {
    string(&format!("{}{}", t.text, if t.more { "..." } else { "" }))
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
    let chars: Option<Vec<u8>> = items
        .iter()
        .map(|n| match n.value {
            Value::Char(c) => Some(c),
            _ => None,
        })
        .collect();
    if let Some(chars) = chars.filter(|chars| !chars.is_empty()) {
        let text = crate::text::decode(&chars);
        let text = text.trim_end_matches('\0');
        return if more > 0 && !text.is_empty() { string(&format!("{text}...")) } else { string(text) };
    }
    let mut list: Vec<_> = items.iter().map(|n| value(&n.value)).collect();
    if more > 0 {
        list.push(json!({ "more": more }));
    }
    list.into()
}

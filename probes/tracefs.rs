//! Tracepoints as tracefs tells of them: which there are, and where each field of a record lies.
//!
//! ```no_run
//! let point = probes::tracefs::Tracepoint::find("sched", "sched_switch")?;
//! let prev = point.field("prev_comm").unwrap();
//! assert!(prev.is_text());
//! # Ok::<(), probes::Error>(())
//! ```

use crate::{
    Error, Result, is_locked_down,
    printed::{self, Printed},
};
use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
};

/// Where tracefs is mounted, most often.
const MOUNTS: &[&str] = &["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// A field of a tracepoint's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// its name
    pub name: String,
    /// its C type, as the format spells it
    pub ctype: String,
    /// where it begins in the record, in bytes
    pub offset: u16,
    /// its length in bytes
    pub size: u16,
    /// whether numbers have a sign
    pub signed: bool,
    /// how its bytes are to be taken
    pub shape: Shape,
    /// how the kernel prints it
    pub printed: Printed,
}

/// How a field's bytes are to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// a number, or a pointer
    Number,
    /// characters up to a NUL, in the record itself
    Text,
    /// characters elsewhere in the record: the field is its offset (low half) and length (high half)
    Located,
    /// the same, counted from behind the field
    LocatedBehind,
    /// an array of anything else
    Bytes,
}

impl Field {
    /// Whether it is a text.
    pub fn is_text(&self) -> bool {
        matches!(self.shape, Shape::Text | Shape::Located | Shape::LocatedBehind)
    }

    /// Whether its type is a pointer to characters of a user: what system calls are given.
    pub fn is_char_pointer(&self) -> bool {
        self.shape == Shape::Number && self.ctype.contains("char") && self.ctype.contains('*')
    }

    /// From a line of a format file: `field:type name[N]; offset:8; size:4; signed:1;`
    fn parse(line: &str) -> Option<Field> {
        let mut parts = line.trim().strip_prefix("field:")?.split(';').map(str::trim);
        let declaration = parts.next()?;
        let (mut offset, mut size, mut signed) = (None, None, false);
        for (key, value) in parts.filter_map(|part| part.split_once(':')) {
            match key {
                "offset" => offset = value.parse().ok(),
                "size" => size = value.parse().ok(),
                "signed" => signed = value == "1",
                _ => {}
            }
        }
        let (declaration, located) = match declaration.split_once(' ') {
            Some(("__data_loc", rest)) => (rest, Some(Shape::Located)),
            Some(("__rel_loc", rest)) => (rest, Some(Shape::LocatedBehind)),
            _ => (declaration, None),
        };
        let (ctype, name) = declaration.rsplit_once(' ')?;
        let (name, array) = name.split_once('[').map_or((name, false), |(name, _)| (name, true));
        let array = array || ctype.ends_with(']');
        let is_char = ctype.split([' ', '[']).any(|word| word == "char") && !ctype.contains('*');
        let shape = match located {
            Some(shape) if is_char => shape,
            Some(_) => Shape::Bytes,
            None if array && is_char => Shape::Text,
            None if array => Shape::Bytes,
            None => Shape::Number,
        };
        Some(Field {
            name: name.to_owned(),
            ctype: ctype.to_owned(),
            offset: offset?,
            size: size?,
            signed,
            shape,
            printed: Printed::Plain,
        })
    }
}

/// A tracepoint.
#[derive(Clone, Debug)]
pub struct Tracepoint {
    /// `sched`
    pub group: String,
    /// `sched_switch`
    pub name: String,
    /// what perf_event_open calls it
    pub id: u64,
    /// its own fields, in order, without those that all have (`common_…`)
    pub fields: Vec<Field>,
}

impl Tracepoint {
    /// Reads the format of a tracepoint.
    pub fn find(group: &str, name: &str) -> Result<Tracepoint> {
        let path = root()?.join("events").join(group).join(name).join("format");
        let text = fs::read_to_string(&path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Error::Wrong(format!("this kernel has no tracepoint {group}:{name}")),
            _ => Error::refused(path.display().to_string())(e),
        })?;
        Tracepoint::parse(group, name, &text)
            .ok_or_else(|| Error::Wrong(format!("{}: not the format of a tracepoint", path.display())))
    }

    fn parse(group: &str, name: &str, format: &str) -> Option<Tracepoint> {
        let id = format.lines().find_map(|line| line.strip_prefix("ID: ")?.trim().parse().ok())?;
        let printed = printed::of(format);
        let how = |field: Field| Field { printed: printed.get(&*field.name).copied().unwrap_or_default(), ..field };
        let fields = format.lines().filter_map(Field::parse).filter(|f| !f.name.starts_with("common_"));
        let fields = fields.map(how).collect();
        Some(Tracepoint { group: group.to_owned(), name: name.to_owned(), id, fields })
    }

    /// A field by its name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|f| f.name == name)
    }
}

/// Every tracepoint, as `(group, name)`, sorted.
pub fn all() -> Result<Vec<(String, String)>> {
    let path = root()?.join("available_events");
    let text = fs::read_to_string(&path).map_err(Error::refused(path.display().to_string()))?;
    let mut found: Vec<_> =
        text.lines().filter_map(|l| l.split_once(':')).map(|(g, n)| (g.to_owned(), n.to_owned())).collect();
    found.sort();
    Ok(found)
}

/// Functions of the kernel that can be traced; `None` where the kernel has no such list, or it cannot be read.
pub fn functions() -> Option<HashSet<String>> {
    let text = fs::read_to_string(root().ok()?.join("available_filter_functions")).ok()?;
    // one in a module has that behind it
    let names = text.lines().filter_map(|line| line.split_ascii_whitespace().next());
    Some(names.map(str::to_owned).collect())
}

/// Where tracefs is.
pub fn root() -> Result<PathBuf> {
    let mut refused = None;
    for mount in MOUNTS.iter().map(Path::new) {
        match fs::metadata(mount.join("events")) {
            Ok(_) => return Ok(mount.to_owned()),
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => refused = Some(e),
            Err(_) => {}
        }
    }
    Err(match refused {
        _ if is_locked_down() => Error::Wrong(
            "the kernel is locked down (confidentiality): there is no tracefs; `rt:`, `u:`, `sw:` and `cpu:` need none"
                .into(),
        ),
        Some(error) => Error::Refused { what: "tracefs may be read by root only".into(), error },
        None => Error::Wrong("tracefs is not mounted: mount -t tracefs tracefs /sys/kernel/tracing".into()),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// As Linux 6.12 prints it.
    const FORMAT: &str = "\
name: sched_switch
ID: 324
format:
	field:unsigned short common_type;	offset:0;	size:2;	signed:0;
	field:int common_pid;	offset:4;	size:4;	signed:1;

	field:char prev_comm[16];	offset:8;	size:16;	signed:0;
	field:pid_t prev_pid;	offset:24;	size:4;	signed:1;
	field:__data_loc char[] name;	offset:28;	size:4;	signed:0;
	field:const char * filename;	offset:32;	size:8;	signed:0;
	field:u8 addr[6];	offset:40;	size:6;	signed:0;

print fmt: \"prev_comm=%s\", REC->prev_comm
";

    #[test]
    fn formats_are_read() {
        let point = Tracepoint::parse("sched", "sched_switch", FORMAT).unwrap();
        assert_eq!(point.id, 324);
        let shapes: Vec<_> = point.fields.iter().map(|f| (&*f.name, f.offset, f.size, f.signed, f.shape)).collect();
        assert_eq!(
            shapes,
            [
                ("prev_comm", 8, 16, false, Shape::Text),
                ("prev_pid", 24, 4, true, Shape::Number),
                ("name", 28, 4, false, Shape::Located),
                ("filename", 32, 8, false, Shape::Number),
                ("addr", 40, 6, false, Shape::Bytes),
            ]
        );
        assert!(point.field("filename").unwrap().is_char_pointer());
    }
}

//! Facts about types: `::sizeof`, `::offsetof`, `::enum`, `::typelist`, and `::container_of` that uses them.
//!
//! ```console
//! > ::sizeof struct list_head
//! sizeof (struct list_head) = 0x10
//! > ::offsetof struct task_struct se.avg.load_avg
//! offsetof (struct task_struct, se.avg.load_avg) = 0x160, sizeof (...->se.avg.load_avg) = 8
//! > ::enum pid_type
//! VALUE NAME
//!     0 PIDTYPE_PID
//!     1 PIDTYPE_TGID
//!     2 PIDTYPE_PGID
//!     3 PIDTYPE_SID
//!     4 PIDTYPE_MAX
//! > 81::enum fault_flag
//! VALUE NAME
//!    81 FAULT_FLAG_{WRITE|REMOTE}
//! ```

use crate::words;
use engine::{
    Tag, Type,
    cprint::{enums, path},
    debuginfo::{EnumValue, Place},
    lang::number::unambiguous,
    names,
    prelude::*,
};
use regex::Regex;
use std::collections::HashSet;

/// Print the size of a type in bytes.
#[derive(Args)]
pub struct Sizeof {
    /// the type
    #[arg(value_name = "TYPE", required = true)]
    words: Vec<String>,
}

impl Dcmd for Sizeof {
    const NAME: &'static str = "sizeof";
    const ADDRESS: Address = Address::None;

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let (ty, spelling, rest) = words::take_type(cx, &self.words)?;
        nothing_left(rest)?;
        let void = matches!(cx.shape(ty).as_deref(), Some(Type::Void));
        let size = cx.types.size_of(ty).or(void.then_some(0));
        let size = size.ok_or_else(|| Error::Usage(format!("`{spelling}` has no size")))?;
        match out.piped {
            true => out.object(Object::untyped(size)),
            false => out.line(format!("sizeof ({spelling}) = {}", unambiguous(size, cx.env.radix.get()))),
        }
    }
}

/// Print where a member lies in its struct, and how large it is.
///
/// The member may be a path: `se.avg.load_avg`, `mem[2].base`. The offset of a bit-field has its first bit behind a
/// dot.
#[derive(Args)]
pub struct Offsetof {
    /// the type and the member
    #[arg(value_name = "TYPE MEMBER", required = true)]
    words: Vec<String>,
}

impl Dcmd for Offsetof {
    const NAME: &'static str = "offsetof";
    const ADDRESS: Address = Address::None;

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let (spelling, member, place) = member_of(cx, &self.words)?;
        let (byte, bit) = (place.bit_offset / 8, place.bit_offset % 8);
        if out.piped {
            return match bit {
                0 => out.object(Object::untyped(byte)),
                _ => Err(Error::Usage(format!("`{member}` of `{spelling}` does not begin at a byte"))),
            };
        }
        let radix = cx.env.radix.get();
        let mut text = format!("offsetof ({spelling}, {member}) = {}", unambiguous(byte, radix));
        if bit != 0 {
            text.push_str(&format!(".{bit}"));
        }
        if let Some(size) = cx.types.size_of(place.ty) {
            text.push_str(&format!(", sizeof (...->{member}) = {}", unambiguous(size, radix)));
        }
        out.line(text)
    }
}

/// The address of the struct around a member, as the kernel's `container_of()`.
#[derive(Args)]
pub struct ContainerOf {
    /// the type of the struct, and its member that the address is of
    #[arg(value_name = "TYPE MEMBER", required = true)]
    words: Vec<String>,
}

impl Dcmd for ContainerOf {
    const NAME: &'static str = "container_of";
    const ADDRESS: Address = Address::Required;

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let (ty, _, _) = words::take_type(cx, &self.words)?;
        let (_, _, place) = member_of(cx, &self.words)?;
        let addr = at.map_or(0, |o| o.addr).wrapping_sub(place.offset());
        out.object(Object { addr, ctype: Some(ty) })
    }
}

/// A type and a member of it, as words.
fn member_of(cx: &Cx<'_>, words: &[String]) -> Result<(String, String, Place)> {
    let (ty, spelling, rest) = words::take_type(cx, words)?;
    let [member, rest @ ..] = rest else {
        return Err(Error::Usage(format!("which member of `{spelling}`?")));
    };
    nothing_left(rest)?;
    let member = member.trim_start_matches('.');
    let place = cx.types.member(ty, member).ok_or_else(|| missing(cx, ty, member))?;
    Ok((spelling, member.to_owned(), place))
}

/// Which step of a path fails.
fn missing(cx: &Cx<'_>, ty: engine::TypeId, member: &str) -> Error {
    let mut outer = ty;
    for step in member.split('.') {
        match cx.types.member(outer, step) {
            Some(place) => outer = place.ty,
            None => return path::no_member(&cx.types, outer, step.split('[').next().unwrap_or(step)),
        }
    }
    path::no_member(&cx.types, ty, member)
}

fn nothing_left(rest: &[String]) -> Result<()> {
    match rest {
        [] => Ok(()),
        [word, ..] => Err(Error::Usage(format!("`{word}` is one word too many"))
            .hint("quote a type of several words: `'struct foo *'`")),
    }
}

/// Print the names and values of an enumeration, look up one of them, or decode an address as a value.
///
/// With an address, that is the value to be decoded; of an enumeration of flags it may have several.
#[derive(Args)]
pub struct Enum {
    /// without the names' common prefix
    #[arg(short = 'e')]
    elide: bool,
    /// values in hexadecimal
    #[arg(short = 'x')]
    hex: bool,
    /// the enumeration, and a name or a value ($[n]) in it
    #[arg(value_name = "ENUM [NAME]", required = true)]
    words: Vec<String>,
}

/// An enumerator.
#[derive(Row)]
pub struct EnumRow {
    /// its value
    value: Cell,
    /// its name; of flags, all that are set
    name: String,
}

impl Dcmd for Enum {
    const NAME: &'static str = "enum";
    const ROWS: &'static [&'static engine::Schema] = &[<EnumRow as engine::IntoRow>::SCHEMA];

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let (spelling, rest) = words::split_type(&self.words)?;
        // a tag first, then a typedef: anonymous enumerations have only the latter
        let ty = match cx.types.parse(&format!("enum {spelling}")) {
            Ok(ty) => ty,
            Err(_) => words::find_type(cx, &spelling)?,
        };
        let Some(Type::Enum { values, .. }) = cx.shape(ty).as_deref().cloned() else {
            return Err(Error::Usage(format!("`{spelling}` is not an enumeration")));
        };
        let wanted = match (at, rest) {
            (Some(o), []) => Some(o.addr as i64),
            (Some(_), _) => return Err(Error::Usage("either an address or a name, not both".into())),
            (None, [value]) if value.starts_with(|c: char| c.is_ascii_digit()) => {
                Some(engine::pipeline::eval_text(cx, value)? as i64)
            }
            (None, [name]) => {
                let found = values.iter().find(|v| &*v.name == name);
                let found = found.ok_or_else(|| {
                    let error = Error::Usage(format!("`{name}` is no name in `{spelling}`"));
                    match names::did_you_mean(name, values.iter().map(|v| &*v.name)) {
                        Some(hint) => error.hint(hint),
                        None => error,
                    }
                })?;
                return self.row(out, &values, found.value, &found.name);
            }
            (None, []) => None,
            (None, [_, rest @ ..]) => return nothing_left(rest),
        };
        match wanted {
            Some(value) => {
                let name = enums::name(&values, value)
                    .ok_or_else(|| Error::Usage(format!("{value:#x} is no value of `{spelling}`")))?;
                self.row(out, &values, value, &name)
            }
            None => values.iter().try_for_each(|v| self.row(out, &values, v.value, &v.name)),
        }
    }
}

impl Enum {
    fn row(&self, out: &mut Out<'_>, values: &[EnumValue], value: i64, name: &str) -> Result<()> {
        let hex = self.hex || enums::is_flags(values);
        let prefix = if self.elide { enums::common_prefix(values) } else { 0 };
        let cell = if hex { Cell::Hex(value as u64) } else { Cell::Int(value) };
        let row = EnumRow { value: cell, name: enums::tail(name, prefix).to_owned() };
        words::row_about(out, row, Object::untyped(value as u64))
    }
}

/// List every known type, or those whose name matches a regular expression.
#[derive(Args)]
pub struct Typelist {
    /// regular expression
    pattern: Option<String>,
}

/// A type.
#[derive(Row)]
pub struct TypeRow {
    /// size in bytes; none of what is only declared
    size: Option<u64>,
    /// `struct`, `union`, `enum`, or nothing for a typedef or base type
    kind: &'static str,
    /// its name
    name: String,
}

impl Dcmd for Typelist {
    const NAME: &'static str = "typelist";
    const ADDRESS: Address = Address::None;
    const ROWS: &'static [&'static engine::Schema] = &[<TypeRow as engine::IntoRow>::SCHEMA];

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let pattern = self.pattern.as_deref().map(regex).transpose()?;
        let (mut seen, mut all) = (HashSet::new(), Vec::new());
        cx.types.each_name(&mut |tag, name| {
            if pattern.as_ref().is_none_or(|p| p.is_match(name)) && seen.insert((tag, name.to_owned())) {
                all.push((name.to_owned(), tag));
            }
            true
        });
        all.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, tag) in all {
            let kind = match tag {
                Tag::Struct => "struct",
                Tag::Union => "union",
                Tag::Enum => "enum",
                Tag::Name => "",
            };
            let size = cx.types.find(tag, &name).first().and_then(|t| cx.types.size_of(*t));
            out.row(TypeRow { size, kind, name })?;
        }
        Ok(())
    }
}

/// A user's regular expression.
pub fn regex(pattern: &str) -> Result<Regex> {
    Regex::new(pattern).map_err(|e| Error::Usage(e.to_string()))
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[
    DcmdEntry::of::<Sizeof>(),
    DcmdEntry::of::<Offsetof>(),
    DcmdEntry::of::<ContainerOf>(),
    DcmdEntry::of::<Enum>(),
    DcmdEntry::of::<Typelist>(),
];

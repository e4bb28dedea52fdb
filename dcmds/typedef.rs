//! Types of one's own: `::typedef`.
//!
//! ```console
//! > ::typedef 'struct pair { uint32_t id; struct pair *next; char name[]; }' pair_t
//! > ::print -at pair_t
//! 0 pair_t {
//!     0 uint32_t id
//!     8 struct pair *next
//!     10 char [0] name
//! }
//! > ::typedef -l
//! struct pair
//! pair_t
//! ```
//!
//! For memory whose structs no debug information tells of: messages, disk blocks, modules without types. Array lengths
//! are decimal, as in C. Beyond mdb, members may be bit-fields and function pointers.

use engine::{
    Tag, Type, TypeId,
    debuginfo::synthetic::{Declared, Model, Synthetic, lay_out},
    prelude::*,
};
use std::{collections::HashSet, fs};

/// Make a type: `::typedef TYPE NAME`, where TYPE is one that is known or a struct or union written in C.
///
/// `-c` makes C's base types for a data model, `LP64` or `LP32` (the same as `ILP32`); their names then go before those
/// of the target, until `-d`.
#[derive(Args)]
pub struct Typedef {
    /// make the base types of a data model: LP64, LP32, ILP32
    #[arg(short = 'c', value_name = "MODEL", conflicts_with_all = ["delete", "list", "read", "write", "words"])]
    model: Option<String>,
    /// forget all types that were made
    #[arg(short = 'd', conflicts_with_all = ["list", "read", "write", "words"])]
    delete: bool,
    /// list the types that were made
    #[arg(short = 'l', conflicts_with_all = ["read", "write", "words"])]
    list: bool,
    /// make the types that a file written with -w holds
    #[arg(short = 'r', value_name = "FILE", conflicts_with_all = ["write", "words"])]
    read: Option<String>,
    /// write the types that were made to a file
    #[arg(short = 'w', value_name = "FILE", conflicts_with = "words")]
    write: Option<String>,
    /// the type and its new name
    #[arg(value_name = "TYPE NAME", allow_hyphen_values = true)]
    words: Vec<String>,
}

impl Dcmd for Typedef {
    const NAME: &'static str = "typedef";
    const ADDRESS: Address = Address::None;

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        if at.is_some() {
            return Err(Error::Usage("::typedef takes no address".into()));
        }
        let own = cx.types.synthetic();
        if let Some(model) = &self.model {
            let model = Model::named(model)
                .ok_or_else(|| Error::Usage(format!("invalid data model: {model}")).hint("LP64, LP32 or ILP32"))?;
            if !own.list().is_empty() {
                return Err(Error::Usage("failed to create intrinsic types, maybe they already exist".into())
                    .hint("`::typedef -d` forgets those that were made"));
            }
            own.add_base(model).map_err(Error::Usage)?;
            cx.types.prefer_synthetic(true);
            return Ok(());
        }
        if self.delete {
            own.clear();
            cx.types.prefer_synthetic(false);
            return Ok(());
        }
        if self.list {
            return own.list().into_iter().try_for_each(|name| out.line(name));
        }
        if let Some(file) = &self.write {
            let text: String = own.texts().into_iter().map(|line| line + "\n").collect();
            return fs::write(file, text).doing(|| format!("writing {file}"));
        }
        if let Some(file) = &self.read {
            let text = fs::read_to_string(file).doing(|| format!("reading {file}"))?;
            for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
                let (ctype, name) = line.rsplit_once(' ').ok_or_else(|| no_type(line))?;
                define(cx, &own, ctype.trim(), name).doing(|| format!("reading {file}:{}", number + 1))?;
            }
            return Ok(());
        }
        match &self.words[..] {
            [ctype @ .., name] if !ctype.is_empty() => define(cx, &own, &ctype.join(" "), name),
            _ => Err(Error::Usage("a type and a name are needed".into()).hint("`::typedef 'struct { int a; }' foo_t`")),
        }
    }
}

fn no_type(text: &str) -> Error {
    Error::Usage(format!("`{text}` is no type with a name"))
}

fn identifier(name: &str) -> Result<()> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
    match name.chars().all(good) && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        true => Ok(()),
        false => Err(Error::Usage(format!("the name {name} is not a valid C identifier"))),
    }
}

fn define(cx: &Cx<'_>, own: &Synthetic, ctype: &str, name: &str) -> Result<()> {
    identifier(name)?;
    if cx.types.parse(name).is_ok() {
        return Err(Error::Usage(format!("typedef name {name} already exists")));
    }
    let body = ctype.contains(['{', '}', ';']);
    let to = if body { structure(cx, own, ctype)? } else { known(cx, own, ctype)? };
    own.add(Tag::Name, name, Type::Typedef { name: name.into(), to }).map_err(Error::Usage)?;
    own.keep(format!("{ctype} {name}"));
    Ok(())
}

/// A type that exists. mdb takes it along into its own, and lists it there.
fn known(cx: &Cx<'_>, own: &Synthetic, ctype: &str) -> Result<TypeId> {
    let to = crate::words::find_type(cx, ctype)?;
    if !own.list().iter().any(|name| name == ctype)
        && let Some(Type::Typedef { name, to }) = cx.types.get(to).as_deref()
    {
        let node = Type::Typedef { name: name.clone(), to: *to };
        own.add(Tag::Name, &name.clone(), node).map_err(Error::Usage)?;
    }
    Ok(to)
}

/// `struct name { … }`, `union { … }`
fn structure(cx: &Cx<'_>, own: &Synthetic, text: &str) -> Result<TypeId> {
    let text = text.trim();
    let (keyword, rest) = text.split_once([' ', '{']).map_or((text, ""), |(k, _)| (k, &text[k.len()..]));
    let tag = match keyword {
        "struct" => Tag::Struct,
        "union" => Tag::Union,
        _ => return Err(Error::Usage(format!("expected `struct` or `union`, found `{keyword}`"))),
    };
    let (head, body) =
        rest.split_once('{').ok_or_else(|| Error::Usage(format!("missing opening brace for {keyword} definition")))?;
    let body = body
        .trim_end()
        .strip_suffix('}')
        .ok_or_else(|| Error::Usage(format!("missing closing brace for {keyword} definition")))?;
    let name = Some(head.trim()).filter(|name| !name.is_empty());
    if let Some(name) = name {
        identifier(name)?;
        if !cx.types.find(tag, name).is_empty() {
            return Err(Error::Usage(format!("type name {keyword} {name} already in use")));
        }
    }
    let union = tag == Tag::Union;
    // there before its members are, so that they can point at it
    let empty = Type::Forward { tag, name: name.unwrap_or_default().into() };
    let id = match name {
        Some(name) => own.add(tag, name, empty),
        None => own.add_unnamed(empty),
    };
    let id = id.map_err(Error::Usage)?;
    let made =
        members(cx, body, union).and_then(|declared| lay_out(&cx.types, name, union, &declared).map_err(Error::Usage));
    match made {
        Ok(node) => {
            own.complete(id, node);
            Ok(id)
        }
        Err(e) => {
            if let Some(name) = name {
                own.forget(tag, name);
            }
            Err(e)
        }
    }
}

fn members(cx: &Cx<'_>, body: &str, union: bool) -> Result<Vec<Declared>> {
    let Some((body, rest)) = body.rsplit_once(';') else {
        return Err(Error::Usage("cannot find a semicolon to end a member".into()));
    };
    if !rest.trim().is_empty() {
        return Err(Error::Usage(format!("cannot find a semicolon to end `{}`", rest.trim())));
    }
    let (mut all, mut names) = (Vec::<Declared>::new(), HashSet::new());
    for text in body.split(';') {
        if text.contains(['{', '}']) {
            return Err(Error::Usage(format!(
                "`{}`: a struct within a struct needs a typedef of its own",
                text.trim()
            )));
        }
        let (text, bits) = match text.split_once(':') {
            Some((text, bits)) => (text, Some(bits.trim().parse::<u32>().map_err(|_| no_type(text))?)),
            None => (text, None),
        };
        let (ty, name) = cx.types.parse_declaration(text).map_err(Error::Usage)?;
        if !names.insert(name.clone()) {
            return Err(Error::Usage(format!("duplicate name detected: {name}")));
        }
        all.push((name, flexible(cx, ty), bits));
    }
    let is_flexible = |ty: TypeId| matches!(cx.types.get(ty).as_deref(), Some(Type::Array { count: Some(0), .. }));
    let wide = |ty: TypeId, bits: u32| cx.types.size_of(ty).is_none_or(|size| u64::from(bits) > size * 8);
    for (i, (name, ty, bits)) in all.iter().enumerate() {
        if bits.is_some_and(|bits| wide(*ty, bits)) {
            return Err(Error::Usage(format!("the bit-field {name} is wider than its type")));
        }
        if is_flexible(*ty) {
            let why = match (union, i + 1 == all.len(), i) {
                (true, ..) => "flexible array members are only valid in structs",
                (_, false, _) => "a flexible array can only be the last member of a struct",
                (_, _, 0) => "a struct must have members beside a flexible one",
                _ => continue,
            };
            return Err(Error::Usage(why.into()));
        }
    }
    Ok(all)
}

/// An array without a length has none of its elements in the struct.
fn flexible(cx: &Cx<'_>, ty: TypeId) -> TypeId {
    match cx.types.get(ty).as_deref() {
        Some(Type::Array { elem, count: None }) => cx.types.array_of(*elem, Some(0)),
        _ => ty,
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Typedef>()];

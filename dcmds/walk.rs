//! From one object to many: `::walk`, `::list`, `::array`.
//!
//! ```console
//! > ::walk task | ::head -3 | ::print comm
//! comm = [ "init" ]
//! comm = [ "kthreadd" ]
//! comm = [ "pool_workqueue_" ]
//! > modules::list struct module list | ::head -2 | ::print name
//! name = [ "labmod" ]
//! name = [ "veth" ]
//! > init_task::print -a tasks | ::list struct task_struct tasks | ::head -2 | ::print comm
//! comm = [ "init" ]
//! comm = [ "kthreadd" ]
//! > init_task::array 'struct list_head' 2
//! 0xffffffffb2610940
//! 0xffffffffb2610950
//! ```
//!
//! Each takes the name of a variable as its last word: while the rest of the pipe looks at an object, the variable has
//! its address, so that later stages can get back to it.
//!
//! ```console
//! > ::walk task t | ::print mm | ::grep '.!=0' | ::head -2 | ::eval '<t=K'
//!                 ff2b352c01348040
//!                 ff2b352c026d8040
//! ```

use crate::words;
use engine::{DynamicWalkers, Type, TypeId, cprint, names, prelude::*};
use std::{cell::OnceCell, collections::HashSet};
use walkers::{
    container::{self, Yields},
    list::{self, Hlist},
};

/// Walk a data structure: print the address of each of its elements.
///
/// Without an address a walker finds all there are of its kind, with one those that belong to the object there; some
/// need one. `::walkers` lists them; each slab cache is a walker too.
///
/// A generic container can be asked for its elements: one that links them, such as a list or a tree, by their type and the
/// member that is the link (`ADDR::walk rbtree struct foo member`); one that has pointers to them, such as an xarray, by
/// their type alone; a bitmap or a table of lists by how many bits or lists it has.
#[derive(Args)]
pub struct Walk {
    /// the walker
    name: String,
    /// for a container, what its elements are; at last, a variable that holds each element's address in the rest of the
    /// pipe
    #[arg(value_name = "[TYPE [MEMBER] | COUNT] [VARIABLE]")]
    words: Vec<String>,
    #[arg(skip)]
    found: OnceCell<Asked>,
}

/// What was asked for.
struct Asked {
    found: Found,
    elements: Elements,
    variable: Option<String>,
}

/// What the words behind the name of a container say of its elements.
#[derive(Default)]
struct Elements {
    /// their type
    ctype: Option<TypeId>,
    /// where the link is in one
    offset: u64,
    /// how many there may be
    count: Option<u64>,
}

/// What a name stands for.
enum Found {
    Static(&'static WalkerEntry, Option<TypeId>),
    Dynamic(&'static DynamicWalkers, u64, Option<TypeId>),
}

impl Dcmd for Walk {
    const NAME: &'static str = "walk";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        // what a probe counts lies in no memory that a walker could visit
        if self.name == "agg" {
            return crate::probe::running::rows(cx)?.into_iter().try_for_each(|row| out.item(row));
        }
        let Asked { found, elements, variable } = match self.found.get() {
            Some(asked) => asked,
            None => {
                let asked = self.asked(cx)?;
                self.found.get_or_init(|| asked)
            }
        };
        let ctype = match found {
            _ if elements.ctype.is_some() => elements.ctype,
            Found::Static(walker, None) if walker.item.is_empty() => at.and_then(|o| objects_of(cx, o.addr)),
            Found::Static(_, ctype) | Found::Dynamic(_, _, ctype) => *ctype,
        };
        // what fails further down the pipe is not this walk's failure
        let mut below = None;
        let mut visit = |addr: u64| {
            let object = Object { addr: addr.wrapping_sub(elements.offset), ctype };
            words::bind(cx, variable.as_deref(), object);
            out.object(object).map_err(|e| {
                below = Some(e);
                Error::Stop
            })
        };
        let result = match found {
            Found::Static(walker, _) => {
                check_address(walker, at)?;
                match (elements.count, at) {
                    (Some(count), Some(at)) if walker.name == "bitmap" => {
                        container::bitmap(cx, at.addr, count, &mut visit)
                    }
                    (Some(count), Some(at)) => container::hlist_table(cx, at.addr, count, 0, &mut visit),
                    _ => (walker.walk)(cx, at, &mut visit),
                }
            }
            Found::Dynamic(..) if at.is_some() => {
                return Err(Error::Usage(format!("the walker `{}` takes no address", self.name)));
            }
            Found::Dynamic(family, key, _) => (family.walk)(cx, *key, &mut visit),
        };
        match below {
            Some(e) => Err(e),
            None => result.doing(|| format!("walking {}", self.name)),
        }
    }
}

impl Walk {
    fn asked(&self, cx: &Cx<'_>) -> Result<Asked> {
        let found = find(cx, &self.name)?;
        let (elements, rest) = elements(cx, &self.name, &self.words)?;
        let variable = match rest {
            [] => None,
            [name] => Some(name.clone()),
            [_, word, ..] => {
                return Err(Error::Usage(format!("`{word}` is one word too many for ::walk {}", self.name)));
            }
        };
        variable.as_deref().map_or(Ok(()), words::check_variable)?;
        Ok(Asked { found, elements, variable })
    }
}

/// What the words behind the name of a walker say of the elements; and the words left over.
fn elements<'w>(cx: &Cx<'_>, name: &str, words: &'w [String]) -> Result<(Elements, &'w [String])> {
    let plain = |word: &String| words::check_variable(word).is_ok() && !word.starts_with(|c: char| c.is_ascii_digit());
    let counted = matches!(name, "bitmap" | "hlist_table") && words.first().is_some_and(|w| !is_tag(w) && !plain(w));
    if counted && let [count, rest @ ..] = words {
        let elements = Elements { count: Some(engine::pipeline::eval_text(cx, count)?), ..Elements::default() };
        return match (name, rest) {
            ("hlist_table", [_, _, ..]) => {
                let (linked, rest) = linked(cx, rest)?;
                Ok((Elements { count: elements.count, ..linked }, rest))
            }
            _ => Ok((elements, rest)),
        };
    }
    match (container::of(name), words) {
        (_, []) => Ok((Elements::default(), words)),
        (_, [one]) if plain(one) => Ok((Elements::default(), words)),
        (Some(Yields::Links), _) => linked(cx, words),
        (Some(Yields::Elements), _) => {
            let (ctype, _, rest) = words::take_type(cx, words)?;
            Ok((Elements { ctype: Some(ctype), ..Elements::default() }, rest))
        }
        (Some(Yields::Numbers) | None, _) => Ok((Elements::default(), words)),
    }
}

fn is_tag(word: &str) -> bool {
    matches!(word, "struct" | "union" | "enum")
}

/// A type and the member that links what is of it.
fn linked<'w>(cx: &Cx<'_>, words: &'w [String]) -> Result<(Elements, &'w [String])> {
    let (ctype, spelling, rest) = words::take_type(cx, words)?;
    let [member, rest @ ..] = rest else {
        return Err(Error::Usage(format!("which member of `{spelling}` is the link?"))
            .hint(format!("`ADDR::walk NAME {spelling} MEMBER`")));
    };
    let field = cx.field(ctype, member);
    let field = field.ok_or_else(|| Error::NoMember { ctype: cx.types.spell(ctype), members: vec![member.clone()] })?;
    Ok((Elements { ctype: Some(ctype), offset: field.bit_offset / 8, count: None }, rest))
}

/// The type of what belongs to an address: of the objects of a slab cache.
fn objects_of(cx: &Cx<'_>, addr: u64) -> Option<TypeId> {
    cx.registry.dynamic.iter().find_map(|family| (family.objects)(cx, addr))
}

fn check_address(walker: &WalkerEntry, at: Option<Object>) -> Result<()> {
    match (walker.address, at) {
        (Address::Required | Address::Pipe, None) => {
            let name = walker.name;
            Err(Error::Usage(format!("the walker `{name}` needs an address: {}", walker.doc))
                .hint(format!("`ADDR::walk {name}`")))
        }
        (Address::None, Some(_)) => Err(Error::Usage(format!("the walker `{}` takes no address", walker.name))),
        _ => Ok(()),
    }
}

fn find(cx: &Cx<'_>, name: &str) -> Result<Found> {
    if let Some(walker) = cx.registry.walker(name) {
        // newer and older kernels may call it differently
        let ctype = walker.item.split(", ").find_map(|item| cx.ctype(item).ok());
        return Ok(Found::Static(walker, ctype));
    }
    for family in cx.registry.dynamic {
        if let Some(walker) = (family.find)(cx, name)? {
            return Ok(Found::Dynamic(family, walker.key, walker.ctype));
        }
    }
    let error = Error::NoWalker(name.to_owned());
    if cx.registry.dcmd(name).is_some() {
        return Err(error.hint(format!("`{name}` is a dcmd: `::{name}`")));
    }
    let mut all: Vec<String> = cx.registry.all_walkers().map(|w| w.name.to_owned()).collect();
    for family in cx.registry.dynamic {
        // a target whose caches cannot be listed still has its other walkers
        all.extend((family.all)(cx).into_iter().flatten().map(|w| w.name));
    }
    let hint = names::did_you_mean(name, all.iter().map(String::as_str));
    Err(error.hint(hint.unwrap_or_else(|| "`::walkers` lists them all, `::walkers WORD` searches".into())))
}

/// Walk a list by the name of the member that links it.
///
/// If the member is a pointer, the address is that of the first element, and the walk ends at a null pointer or where
/// it began. If it is one of the kernel's list links (`struct list_head`, `hlist_node`, `hlist_bl_node`,
/// `hlist_nulls_node`, `llist_node`), the address is that of the list's head, and each element is the struct around a
/// link, as in `list_for_each_entry()`. Instead of a type and a member, `$[n]` is the offset of a pointer.
#[derive(Args)]
pub struct List {
    /// the elements' type, the member that links them, and a variable for each element's address
    #[arg(value_name = "TYPE MEMBER [VARIABLE]", required = true)]
    words: Vec<String>,
}

impl Dcmd for List {
    const NAME: &'static str = "list";
    const ADDRESS: Address = Address::Required;

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let Link { ctype, offset, kind, rest } = self.link(cx)?;
        let element = at.and_then(|o| o.ctype).map(|t| cx.types.strip(t));
        let at = at.map_or(0, |o| o.addr);
        if kind.is_some() && element.is_some() && element == ctype.map(|t| cx.types.strip(t)) {
            let member = self.words.last().map(String::as_str).unwrap_or_default();
            return Err(Error::Usage("the address is that of an element, not of the list's head".into())
                .hint(format!("`ADDR::print -a {member} | ::list …` begins at the element's own link")));
        }
        let variable = match rest {
            [] => None,
            [name] => Some(name.as_str()),
            _ => return Err(Error::Usage("::list TYPE MEMBER [VARIABLE]".into())),
        };
        variable.map_or(Ok(()), words::check_variable)?;
        let mut visit = |addr| {
            let object = Object { addr, ctype };
            words::bind(cx, variable, object);
            out.object(object)
        };
        match kind.as_deref() {
            Some("list_head") => list::list(cx, at, offset, &mut visit),
            Some("hlist_node") => list::hlist(cx, Hlist::Plain, at, offset, &mut visit),
            Some("hlist_bl_node") => list::hlist(cx, Hlist::Locked, at, offset, &mut visit),
            Some("hlist_nulls_node") => list::hlist(cx, Hlist::Nulls, at, offset, &mut visit),
            Some("llist_node") => {
                let first = cx.u64(at)?;
                list::chain(cx, first, 0, &mut |link| visit(link.wrapping_sub(offset)))
            }
            _ => ring(cx, at, offset, &mut visit),
        }
    }
}

/// How the elements of a list are linked.
struct Link<'w> {
    /// the elements' type
    ctype: Option<TypeId>,
    /// where the link is in an element
    offset: u64,
    /// the link's struct; none of a plain pointer
    kind: Option<String>,
    /// the words left over
    rest: &'w [String],
}

impl List {
    fn link(&self, cx: &Cx<'_>) -> Result<Link<'_>> {
        if let [offset, rest @ ..] = &self.words[..]
            && offset.starts_with(|c: char| c.is_ascii_digit())
        {
            let offset = engine::pipeline::eval_text(cx, offset)?;
            if !offset.is_multiple_of(8) {
                return Err(Error::Usage("a pointer's offset is a multiple of 8".into()));
            }
            return Ok(Link { ctype: None, offset, kind: None, rest });
        }
        let (ty, spelling, rest) = words::take_type(cx, &self.words)?;
        let [member, rest @ ..] = rest else {
            return Err(Error::Usage(format!("which member of `{spelling}` links the list?")));
        };
        let place = cx.types.member(ty, member).ok_or_else(|| cprint::path::no_member(&cx.types, ty, member))?;
        let kind = match cx.shape(place.ty).as_deref() {
            Some(Type::Pointer { .. }) => None,
            Some(Type::Struct { name: Some(name), .. }) if is_link(name) => Some(name.to_string()),
            _ => {
                let ctype = cx.types.spell(place.ty);
                return Err(Error::Usage(format!("`{member}` is neither a pointer nor a list link, but `{ctype}`")));
            }
        };
        Ok(Link { ctype: Some(ty), offset: place.offset(), kind, rest })
    }
}

fn is_link(name: &str) -> bool {
    matches!(name, "list_head" | "hlist_node" | "hlist_bl_node" | "hlist_nulls_node" | "llist_node")
}

/// A list of pointers that ends in a null pointer or closes to a ring.
fn ring(cx: &Cx<'_>, first: u64, offset: u64, visit: Visit<'_>) -> Result<()> {
    let (mut at, mut seen) = (first, HashSet::new());
    while at != 0 && seen.insert(at) {
        visit(at)?;
        let mut next = [0; 8];
        match cx.read_in(cx.env.space.get(), at.wrapping_add(offset), &mut next) {
            Ok(()) => at = u64::from_le_bytes(next),
            Err(e) if e.is_control() => return Err(e),
            Err(_) => {
                cx.notes.add(at, "list with an unreadable entry");
                return Ok(());
            }
        }
    }
    if at != 0 && at != first {
        cx.notes.add(at, "list that runs into itself");
    }
    Ok(())
}

/// Print the address of each element of an array.
///
/// Type and number of elements may be left out if the address is that of a global array. The number is an expression.
#[derive(Args)]
pub struct Array {
    /// the elements' type, their number, and a variable for each element's address
    #[arg(value_name = "TYPE COUNT [VARIABLE]")]
    words: Vec<String>,
}

impl Dcmd for Array {
    const NAME: &'static str = "array";
    const ADDRESS: Address = Address::Required;

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let object = cprint::typed(cx, at.unwrap_or(Object::untyped(0)));
        let (ctype, count, rest) = match &self.words[..] {
            [] | [_] => {
                let shape = object.ctype.and_then(|t| cx.shape(t));
                let Some(Type::Array { elem, count: Some(count) }) = shape.as_deref() else {
                    return Err(Error::Usage(format!("no array is known at {}", cx.sym(object.addr)))
                        .hint("`ADDR::array TYPE COUNT`"));
                };
                (*elem, *count, &self.words[..])
            }
            words => {
                let (ty, spelling, rest) = words::take_type(cx, words)?;
                let [count, rest @ ..] = rest else {
                    return Err(Error::Usage(format!("how many of `{spelling}`?")));
                };
                (ty, engine::pipeline::eval_text(cx, count)?, rest)
            }
        };
        let variable = rest.first().map(String::as_str);
        variable.map_or(Ok(()), words::check_variable)?;
        let size =
            cx.types.size_of(ctype).ok_or_else(|| Error::Usage(format!("`{}` has no size", cx.types.spell(ctype))))?;
        for i in 0..count {
            let element = Object { addr: object.addr.wrapping_add(i.wrapping_mul(size)), ctype: Some(ctype) };
            words::bind(cx, variable, element);
            out.object(element)?;
        }
        Ok(())
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Walk>(), DcmdEntry::of::<List>(), DcmdEntry::of::<Array>()];

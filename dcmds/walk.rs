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
use walkers::list::{self, Hlist};

/// Walk a data structure: print the address of each of its elements.
///
/// Without an address a walker finds all there are of its kind, with one those that belong to the object there; some
/// need one. `::walkers` lists them; each slab cache is a walker too.
#[derive(Args)]
pub struct Walk {
    /// the walker
    name: String,
    /// a variable that holds each element's address in the rest of the pipe
    variable: Option<String>,
    #[arg(skip)]
    found: OnceCell<Found>,
}

/// What a name stands for.
enum Found {
    Static(&'static WalkerEntry, Option<TypeId>),
    Dynamic(&'static DynamicWalkers, u64, Option<TypeId>),
}

impl Dcmd for Walk {
    const NAME: &'static str = "walk";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        self.variable.as_deref().map_or(Ok(()), words::check_variable)?;
        let found = match self.found.get() {
            Some(found) => found,
            None => {
                let found = find(cx, &self.name)?;
                self.found.get_or_init(|| found)
            }
        };
        let ctype = match found {
            Found::Static(walker, None) if walker.item.is_empty() => at.and_then(|o| objects_of(cx, o.addr)),
            Found::Static(_, ctype) | Found::Dynamic(_, _, ctype) => *ctype,
        };
        // what fails further down the pipe is not this walk's failure
        let mut below = None;
        let mut visit = |addr| {
            let object = Object { addr, ctype };
            words::bind(cx, self.variable.as_deref(), object);
            out.object(object).map_err(|e| {
                below = Some(e);
                Error::Stop
            })
        };
        let result = match found {
            Found::Static(walker, _) => {
                check_address(walker, at)?;
                (walker.walk)(cx, at, &mut visit)
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

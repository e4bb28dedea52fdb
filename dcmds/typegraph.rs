//! Types of objects that nobody labelled: `::typegraph`, `::whattype`, `::istype`, `::notype`. What follows of locks from
//! them: `findlocks.rs`.
//!
//! ```console
//! > ::typegraph
//! WHAT                           COUNT PERCENT
//! allocated objects              57751 -
//! of caches with one type        39313 68.1
//! others whose type was told      3470 6.0
//! others whose type is possible   1350 2.3
//! of these, with alternatives      316 0.5
//! of unknown type                13618 23.6
//! with references that disagree     68 0.1
//! global variables of known type 24206 -
//! structures in C                 7999 -
//! > ff386d1d83421020::whattype -v
//! ff386d1d83421020 is ff386d1d83421020+0, possibly struct lab_session
//!                  struct lab_session: of the structures for 0x20 bytes its contents agree with this; struct lab_session.node is struct lab_node ff386d1d83ff6ee0
//!                  struct lab_node ff386d1d83ff6ee0: lab_node holds nothing else
//! ```
//!
//! The graph is made once, by the first of these that is asked; `::whatis` then says what it knows of objects of
//! kmalloc(). How types are found: `walkers/typegraph`.

use crate::member;
use engine::{IntoRow, Schema, prelude::*};
use std::collections::{BTreeMap, HashSet};
use walkers::{
    slab::{Caches, Slabs},
    typegraph::{Claim, Graph, Kept, Node, Stats, What, Why},
};

/// Find out what types objects have, and say of how many that is known.
///
/// Types spread from global variables and from slab caches that are made for one structure, along the pointers, lists and
/// trees that the structures declare. What is not reached so is guessed by what it holds. With the address of a slab cache
/// only its objects are counted.
#[derive(Args)]
pub struct Typegraph {
    /// try it: hide what the names of caches tell, and say how often the same was found without them
    #[arg(short = 't')]
    trial: bool,
    /// one row for each cache
    #[arg(short = 'c')]
    caches: bool,
}

/// A count.
#[derive(Row)]
struct CountRow {
    /// what is counted
    what: &'static str,
    /// how many
    count: u64,
    /// of all allocated objects
    percent: Option<String>,
}

/// What is known of a cache's objects.
#[derive(Row)]
struct CacheRow {
    /// the cache
    addr: Object,
    /// its name
    name: String,
    /// objects in use
    objects: u64,
    /// whose type the cache says
    labelled: u64,
    /// whose type a chain of declarations says
    told: u64,
    /// whose type is possible
    possible: u64,
    /// the rest
    unknown: u64,
    /// of how many the type is known or possible
    percent: String,
}

/// How the trial went for one cache.
#[derive(Row)]
struct TrialRow {
    /// the cache
    addr: Object,
    /// its name
    name: String,
    /// objects in use
    objects: u64,
    /// of how many a type was told
    told: u64,
    /// of these: it was the right one
    right: u64,
    /// of how many a type was possible
    possible: u64,
    /// of these: the right one was the first, or one of them
    hit: u64,
}

fn percent(part: u64, whole: u64) -> String {
    if whole == 0 { "-".into() } else { format!("{:.1}", 100.0 * part as f64 / whole as f64) }
}

impl Typegraph {
    fn counts(stats: &Stats, out: &mut Out<'_>) -> Result<()> {
        let known = stats.labelled + stats.told + stats.possible;
        let rows = [
            ("allocated objects", stats.objects, false),
            ("of caches with one type", stats.labelled, true),
            ("others whose type was told", stats.told, true),
            ("others whose type is possible", stats.possible, true),
            ("of these, with alternatives", stats.ambiguous, true),
            ("of unknown type", stats.objects - known, true),
            ("with references that disagree", stats.conflicts, true),
            ("global variables of known type", stats.globals, false),
            ("structures in C", stats.structures, false),
        ];
        rows.into_iter().try_for_each(|(what, count, share)| {
            out.row(CountRow { what, count, percent: share.then(|| percent(count, stats.objects)) })
        })
    }

    fn trial(cx: &Cx<'_>, out: &mut Out<'_>) -> Result<()> {
        let graph = Graph::blind(cx)?;
        let caches = Caches::of(cx)?;
        let mut rows: BTreeMap<usize, TrialRow> = BTreeMap::new();
        let name = |cache: usize| caches.get(cache).map_or_else(String::new, |cache| cache.name().to_owned());
        for node in graph.objects() {
            let (Some(number), Some(truth)) = (graph.nodes.cache(node), graph.label(cx, node)) else { continue };
            let addr = caches.get(number).map_or(0, |cache| cache.addr);
            let row = rows.entry(number).or_insert_with(|| TrialRow {
                addr: cx.object("kmem_cache", addr),
                name: name(number),
                objects: 0,
                told: 0,
                right: 0,
                possible: 0,
                hit: 0,
            });
            row.objects += 1;
            let Some(found) = graph.what(node) else { continue };
            // the structure that it begins with is right, too
            let agrees = |what: What| what == truth || graph.shapes.fits_at(truth.shape(), 0, what.shape());
            if graph.is_told(node) {
                row.told += 1;
                row.right += u64::from(agrees(found));
            } else {
                row.possible += 1;
                row.hit += u64::from(graph.claims(node).iter().any(|claim| agrees(claim.what)));
            }
        }
        let mut total = TrialRow {
            addr: Object::untyped(0),
            name: "all".into(),
            objects: 0,
            told: 0,
            right: 0,
            possible: 0,
            hit: 0,
        };
        for row in rows.into_values() {
            total.objects += row.objects;
            total.told += row.told;
            total.right += row.right;
            total.possible += row.possible;
            total.hit += row.hit;
            out.row(row)?;
        }
        if out.piped { Ok(()) } else { out.row(total) }
    }
}

impl Dcmd for Typegraph {
    const NAME: &'static str = "typegraph";
    const ROWS: &'static [&'static Schema] = &[CountRow::SCHEMA, CacheRow::SCHEMA, TrialRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        if self.trial {
            return Typegraph::trial(cx, out);
        }
        let kept = Kept::of(cx)?;
        let caches = Slabs::of(cx)?.caches.clone();
        let cache = at.map(|at| caches.expect(at.addr)).transpose()?;
        if !self.caches {
            let stats = kept.read().stats(cx, cache)?;
            return Typegraph::counts(&stats, out);
        }
        for (number, view) in caches.iter().enumerate().filter(|(number, _)| cache.is_none_or(|c| c == *number)) {
            let stats = kept.read().stats(cx, Some(number))?;
            let known = stats.labelled + stats.told + stats.possible;
            if stats.objects == 0 {
                continue;
            }
            out.row(CacheRow {
                addr: cx.object("kmem_cache", view.addr),
                name: view.name().to_owned(),
                objects: stats.objects,
                labelled: stats.labelled,
                told: stats.told,
                possible: stats.possible,
                unknown: stats.objects - known,
                percent: percent(known, stats.objects),
            })?;
        }
        Ok(())
    }
}

/// Say what type an object is of, by what refers to it and by what it holds.
///
/// `possibly` stands before what no chain of declarations proves.
#[derive(Args)]
pub struct Whattype {
    /// show why: who refers to it, and why that one is of its type
    #[arg(short = 'v')]
    verbose: bool,
}

/// What an address is of.
#[derive(Row)]
struct TypeRow {
    /// the object
    #[hidden]
    object: Object,
    /// the address
    #[hidden]
    addr: Addr,
    /// how far behind the start of the object the address is
    #[hidden]
    offset: u64,
    /// whether the type was told, and is not only possible
    #[hidden]
    told: bool,
    /// the types, the most likely first
    #[hidden]
    types: Vec<String>,
    /// the answer in words
    #[heading("")]
    text: String,
    /// what speaks for it
    #[detail]
    reasons: Vec<String>,
}

/// A node by what it is and where: `struct file ff…`, `init_task`.
fn name(cx: &Cx<'_>, graph: &Graph, node: Node) -> String {
    let addr = graph.nodes.range(node).map_or(0, |(addr, _)| addr);
    if graph.nodes.global(node).is_some() {
        return cx.sym(addr);
    }
    match graph.what(node) {
        Some(what) => format!("{} {addr:x}", graph.spell(what)),
        None => format!("{addr:x}"),
    }
}

/// A byte of a node by the member that is there: `struct file.f_inode`.
pub(crate) fn place(cx: &Cx<'_>, graph: &Graph, node: Node, offset: u32) -> String {
    let ctype = match (graph.nodes.global(node), graph.what(node)) {
        (Some(global), _) => Some(global.ctype),
        (None, Some(What::One(shape) | What::Many(shape))) => graph.shapes.get(shape).map(|shape| shape.ctype),
        _ => None,
    };
    let size = ctype.and_then(|ctype| cx.types.size_of(ctype)).unwrap_or(0);
    let found = member::name(cx, ctype, u64::from(offset) % size.max(1));
    found.map_or_else(|| format!("byte {offset:#x}"), |found| found.to_string())
}

fn reason(cx: &Cx<'_>, graph: &Graph, node: Node, claim: &Claim) -> String {
    let what = graph.spell(claim.what);
    let Some(from) = claim.from else { return format!("{what}: ::istype said so") };
    let (who, shape) = (name(cx, graph, from), graph.shapes.get(claim.what.shape()));
    match claim.why {
        Why::Said => format!("{what}: ::istype said so"),
        Why::Pointer => format!("{what}: {} of {who} points at it", place(cx, graph, from, claim.offset)),
        Why::List => format!("{what}: on one list with {who}, by {}", place(cx, graph, from, claim.offset)),
        Why::Tree => format!("{what}: in one tree with {who}, by {}", place(cx, graph, from, claim.offset)),
        Why::Middle => {
            let member = place(cx, graph, from, claim.offset);
            format!("{what}: {member} of {who} points at what such a structure has inside")
        }
        Why::Contents => {
            let member = member::name(cx, shape.map(|shape| shape.ctype), claim.offset.into());
            let member = member.map_or_else(|| format!("byte {:#x}", claim.offset), |member| member.to_string());
            let size = graph.nodes.range(node).map_or(0, |(_, size)| size);
            format!("{what}: of the structures for {size:#x} bytes its contents agree with this; {member} is {who}")
        }
    }
}

/// The text that an object begins with, if it does with three characters or more.
fn text_in(cx: &Cx<'_>, addr: u64) -> Option<String> {
    let text = cx.cstr(addr, 256).ok()?;
    (text.len() >= 3 && text.chars().all(|c| (' '..='~').contains(&c))).then_some(text)
}

/// From whom to whom the type came, back to a declaration.
fn chain(cx: &Cx<'_>, graph: &Graph, node: Node) -> Vec<String> {
    /// nobody reads on
    const MAX: usize = 8;
    let mut lines: Vec<String> = Vec::new();
    for claim in graph.claims(node) {
        lines.push(reason(cx, graph, node, claim));
    }
    if let Some(other) = graph.conflict(node) {
        lines.push(format!("but {}", reason(cx, graph, node, other)));
    }
    let (mut at, mut seen) = (graph.claims(node).first().and_then(|claim| claim.from), HashSet::new());
    while let Some(next) = at.filter(|next| seen.insert(*next) && seen.len() <= MAX) {
        let Some(claim) = graph.claims(next).first() else {
            lines.push(declared(cx, graph, next));
            break;
        };
        lines.push(format!("{} is {}", name(cx, graph, next), reason(cx, graph, next, claim)));
        at = claim.from;
    }
    if lines.is_empty() {
        lines.push(declared(cx, graph, node));
    }
    lines
}

fn declared(cx: &Cx<'_>, graph: &Graph, node: Node) -> String {
    let who = name(cx, graph, node);
    match graph.nodes.cache(node).and_then(|cache| Some(Caches::of(cx).ok()?.get(cache)?.name().to_owned())) {
        Some(cache) => format!("{who}: {cache} holds nothing else"),
        None => format!("{who} is declared"),
    }
}

impl Dcmd for Whattype {
    const NAME: &'static str = "whattype";
    const ADDRESS: Address = Address::Required;
    const ROWS: &'static [&'static Schema] = &[TypeRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let addr = at.map_or(0, |at| at.addr);
        // the graph is not held while the next stage runs, which may change it
        match self.row(cx, addr)? {
            Some(row) => out.row(row),
            None if out.piped => Ok(()),
            None => out.line(format!("{addr:x} is in no allocated object, and in no global of known type")),
        }
    }
}

impl Whattype {
    fn row(&self, cx: &Cx<'_>, addr: u64) -> Result<Option<TypeRow>> {
        let kept = Kept::of(cx)?;
        let graph = kept.read();
        let Some((node, offset)) = graph.nodes.at(addr) else { return Ok(None) };
        let base = addr.wrapping_sub(offset);
        let claims = graph.claims(node);
        let types: Vec<String> = match (claims, graph.what(node)) {
            ([], Some(what)) => vec![graph.spell(what)],
            (claims, _) => claims.iter().map(|claim| graph.spell(claim.what)).collect(),
        };
        let told = graph.is_told(node) && !types.is_empty();
        let ctype = match graph.what(node) {
            Some(What::One(shape)) => graph.shapes.get(shape).map(|shape| shape.ctype),
            _ => None,
        };
        let inside = member::name(cx, ctype, offset).filter(|_| offset > 0);
        let inside = inside.map_or_else(String::new, |inside| format!(" ({inside})"));
        let head = format!("{addr:x} is {base:x}{}{inside}", member::plus(offset as i64));
        let words = if types.is_empty() { text_in(cx, base) } else { None };
        let text = match &types[..] {
            [] if words.is_some() => format!("{head}, possibly char []"),
            [] => format!("{head}, unknown type"),
            [one] if told => format!("{head}, {one}"),
            [one] => format!("{head}, possibly {one}"),
            several => format!("{head}, possibly one of the following: {}", several.join(", ")),
        };
        let reasons = match words {
            _ if !self.verbose => Vec::new(),
            Some(words) => vec![format!("char []: it holds the text {words:?}")],
            None if types.is_empty() => Vec::new(),
            None => chain(cx, &graph, node),
        };
        let object = Object { addr: base, ctype };
        Ok(Some(TypeRow { object, addr: Addr(addr), offset, told, types, text, reasons }))
    }
}

/// Say yourself of what type an object is; what that tells of others is found out.
#[derive(Args)]
pub struct Istype {
    /// the type: `struct foo`, `struct foo []`, `struct foo *[]`
    #[arg(value_name = "TYPE", num_args = 1.., required = true)]
    ctype: Vec<String>,
}

fn node_at(graph: &Graph, at: Option<Object>) -> Result<Node> {
    let addr = at.map_or(0, |at| at.addr);
    let node = graph.nodes.at(addr).map(|(node, _)| node);
    node.ok_or_else(|| Error::Usage(format!("{addr:#x} is in no allocated object, and in no global of known type")))
}

impl Dcmd for Istype {
    const NAME: &'static str = "istype";
    const ADDRESS: Address = Address::Required;

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, _: &mut Out<'_>) -> Result<()> {
        let kept = Kept::of(cx)?;
        let spelled = self.ctype.join(" ");
        let (node, what) = {
            let graph = kept.read();
            let what = graph.what_of(cx, cx.ctype(&spelled)?);
            let what = what.ok_or_else(|| Error::Usage(format!("`{spelled}` is no structure, and not made of any")))?;
            (node_at(&graph, at)?, what)
        };
        kept.say(cx, node, Some(what))
    }
}

/// Forget of what type an object was thought to be.
#[derive(Args)]
pub struct Notype {}

impl Dcmd for Notype {
    const NAME: &'static str = "notype";
    const ADDRESS: Address = Address::Required;

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, _: &mut Out<'_>) -> Result<()> {
        let kept = Kept::of(cx)?;
        let node = node_at(&kept.read(), at)?;
        kept.say(cx, node, None)
    }
}

/// This file's dcmds.
pub static DCMDS: &[DcmdEntry] =
    &[DcmdEntry::of::<Typegraph>(), DcmdEntry::of::<Whattype>(), DcmdEntry::of::<Istype>(), DcmdEntry::of::<Notype>()];

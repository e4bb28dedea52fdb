//! Damage in lists, trees and counts, and what leads to what is gone: `::verify`.
//!
//! ```console
//! > ::verify -n zoo_item
//! ADDR             FINDING   WHERE                               VERDICT
//! ff2118de82d40d98 list-torn zoo_item ff2118de82d40d88.link.prev prev should be ff2118de82d40490, it is a pointer to a zoo_item object, ff2118de82d40cd0
//! ```
//!
//! One row for each word that is wrong: the one that the damage is in, if its neighbours tell, else the one that leads
//! to it. WHERE is the object or variable, with the member where its type is known. Below it is who allocated the object, and
//! who freed the one that is still led to, where `slub_debug` kept that. Exit status 1 if there are findings.
//!
//! Slab memory itself is `::kmem_verify`'s.

use crate::history;
use engine::{cprint::path, prelude::*};
use walkers::{
    links::{self, Cause},
    slab::{self, Slabs, State},
};

/// Check what links objects: lists, hash chains, trees and their order, xarrays, reference counts; and what leads to
/// something that is gone: variables of modules, timers and works in freed objects. Of the cache at the address, or of
/// all caches, the kernel's and the modules' variables, the ends of stacks and the counts of pages.
///
/// Lists are found by their shape, wherever they are; trees, xarrays and counts in the objects of caches whose name
/// tells their type.
#[derive(Args)]
pub struct Verify {
    /// only the objects of the cache of this name
    #[arg(short = 'n', value_name = "NAME")]
    name: Option<String>,
    /// how much was checked, in one row
    #[arg(short = 's')]
    summary: bool,
    /// below each finding what follows from it: other words that lead to what is gone
    #[arg(short = 'v')]
    verbose: bool,
}

/// Damage.
#[derive(Row)]
struct FindingRow {
    /// the word that is wrong
    addr: Addr,
    /// what is wrong
    finding: &'static str,
    /// the object, if it lies in one
    #[hidden]
    object: Option<Object>,
    /// what it lies in: a member of an object of a cache, or a variable
    #[heading("WHERE")]
    place: String,
    /// what probably happened
    verdict: String,
    /// the freed object that is still led to
    #[hidden]
    freed: Option<Addr>,
    /// how many other places are wrong by the same cause: `-v` has them
    #[hidden]
    follows: u64,
    /// who allocated the object, and who freed the other
    #[detail]
    history: Vec<String>,
}

/// What was checked.
#[derive(Row)]
struct SummaryRow {
    /// bytes of objects and variables
    bytes: u64,
    /// links that fit
    links: u64,
    /// nodes of trees and counts
    members: u64,
    /// places that are damaged
    findings: u64,
}

/// `zoo_item ff2118de82d40d88 .link.prev`, or a symbol.
fn place(cx: &Cx<'_>, slabs: &Slabs, at: u64, found: Option<&slab::Found>) -> String {
    let Some((found, cache)) = found.and_then(|found| Some((found, slabs.caches.get(found.cache)?))) else {
        return cx.sym(at);
    };
    let member = slab::names::object_type(cx, cache).and_then(|ctype| {
        path::member_at(&cx.types, ctype, u64::try_from(found.offset).ok()?).map(|(name, _)| format!(".{name}"))
    });
    format!("{} {:x}{}", cache.name(), found.object, member.unwrap_or_else(|| format!("+{:x}", found.offset)))
}

fn show(cx: &Cx<'_>, slabs: &Slabs, cause: &Cause, verbose: bool, out: &mut Out<'_>) -> Result<()> {
    let finding = &cause.finding;
    let found = slab::find(cx, finding.at)?;
    let mut history = Vec::new();
    for other in cause.follows.iter().filter(|_| verbose) {
        let place = place(cx, slabs, other.at, slab::find(cx, other.at)?.as_ref());
        history.push(format!("from it follows, at {:x}, {place}, {}: {}", other.at, other.kind.name(), other.verdict));
    }
    if let Some(found) = &found {
        history::tracks(cx, found.cache, found.object, found.state, &mut history)?;
    }
    if let Some(freed) = finding.freed
        && let Some(gone) = slab::find(cx, freed)?
        && found.is_none_or(|found| found.object != freed)
    {
        let name = slabs.caches.get(gone.cache).map_or("?", |cache| cache.name());
        history.push(format!("the freed object, {name} {freed:x}:"));
        history::tracks(cx, gone.cache, freed, State::Free, &mut history)?;
    }
    cx.env.found();
    let object = found.and_then(|found| {
        let ctype = slab::names::object_type(cx, slabs.caches.get(found.cache)?);
        Some(Object { addr: found.object, ctype })
    });
    out.row(FindingRow {
        addr: Addr(finding.at),
        finding: finding.kind.name(),
        object,
        place: place(cx, slabs, finding.at, found.as_ref()),
        verdict: finding.verdict.clone() + &history::follows(cause.follows.len(), verbose),
        freed: finding.freed.map(Addr),
        follows: cause.follows.len() as u64,
        history,
    })
}

impl Dcmd for Verify {
    const NAME: &'static str = "verify";
    const ROWS: &'static [&'static engine::Schema] = &[FindingRow::SCHEMA, SummaryRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let slabs = Slabs::of(cx)?;
        let chosen: Option<Vec<usize>> = match (&self.name, at) {
            (Some(name), _) => Some(slabs.caches.named(name).collect()),
            (None, Some(at)) => Some(vec![slabs.caches.expect(at.addr)?]),
            (None, None) => None,
        };
        if let (Some(name), Some([])) = (&self.name, chosen.as_deref()) {
            return Err(Error::Usage(format!("no slab cache is named `{name}`")).hint("`::kmem_cache` lists them"));
        }
        let wanted = |number: usize| chosen.as_ref().is_none_or(|chosen| chosen.contains(&number));
        let (findings, seen) = links::verify(cx, chosen.is_some().then_some(&wanted as &dyn Fn(usize) -> bool))?;
        if !self.summary {
            return findings.iter().try_for_each(|cause| show(cx, &slabs, cause, self.verbose, out));
        }
        if !findings.is_empty() {
            cx.env.found();
        }
        out.row(SummaryRow {
            bytes: seen.bytes,
            links: seen.links,
            members: seen.members,
            findings: findings.len() as u64,
        })
    }
}

/// This file's commands.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Verify>()];

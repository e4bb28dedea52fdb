//! Where time goes, out of call chains: `::profile`, `::flame`, `::annotate`.
//!
//! ```console
//! > ::probe cpu:997hz -C './hot' | ::profile
//! OWN SHARE TOTAL  WITH FUNCTION  OBJECT
//!  612 61.4%   612 61.4% spin      hot
//!  385 38.6%   997  100% work      hot
//!    0    0%   997  100% main      hot
//!    0    0%   997  100% _start    hot
//! ```
//!
//! They take any rows with a stack: events, groups of them (`::group ustack`), and the threads of a dump (`::walk task`).

mod annotate;
mod chain;
mod flame;

pub use annotate::Annotate;
use chain::{Chain, Frame};
use engine::{IntoRow, prelude::*};
pub use flame::Flame;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Stages that need the stacks of events.
pub const TAKE_STACKS: &[&str] = &["profile", "flame", "annotate"];
/// Different chains that are kept.
const MOST_CHAINS: usize = 1 << 20;

/// Say which functions were met most often, in themselves and with what they call.
///
/// OWN counts the chains that ended in a function, TOTAL all that it is part of, once each however often it is in them.
/// `-g` shows the chains themselves, as a tree from the outermost function on.
#[derive(Args)]
pub struct Profile {
    /// the call chains as a tree
    #[arg(short = 'g')]
    graph: bool,
    /// leave out what has less than so many percent
    #[arg(short = 'm', value_name = "PERCENT", default_value = "0.5")]
    least: f64,
    #[arg(skip)]
    functions: HashMap<(String, String), (u64, u64)>,
    #[arg(skip)]
    tree: Node,
    #[arg(skip)]
    nodes: usize,
    #[arg(skip)]
    total: u64,
}

/// A function.
#[derive(Row)]
struct ProfileRow {
    /// chains that ended in it
    own: u64,
    /// how many of all that is
    share: String,
    /// chains that it is in
    total: u64,
    /// how many of all that is
    with: String,
    /// its name
    function: String,
    /// the program, library or module; the kernel
    object: String,
}

/// A place in the tree of chains.
#[derive(Default)]
struct Node {
    count: u64,
    own: u64,
    below: BTreeMap<Frame, Node>,
}

/// A node of the tree.
#[derive(Row)]
struct ChainRow {
    /// chains that go through here
    total: u64,
    /// how many of all that is
    with: String,
    /// chains that end here
    own: u64,
    /// the function, below the one that calls it
    chain: String,
}

/// A share in percent, to a tenth.
pub fn percent(part: u64, all: u64) -> String {
    let tenths = u128::from(part) * 1000 / u128::from(all.max(1));
    if tenths % 10 == 0 { format!("{}%", tenths / 10) } else { format!("{}.{}%", tenths / 10, tenths % 10) }
}

impl Filter for Profile {
    const NAME: &'static str = "profile";
    const ROWS: &'static [&'static engine::Schema] = &[ProfileRow::SCHEMA];

    fn item(&mut self, cx: &Cx<'_>, item: Item, _: &mut Out<'_>) -> Result<()> {
        cx.interrupt.check()?;
        let chain = Chain::of(cx, &item, Self::NAME)?;
        self.total = self.total.saturating_add(chain.count);
        if self.graph {
            return self.grow(&chain);
        }
        let name = |frame: &Frame| (frame.function.clone(), object(frame));
        let mut met = HashSet::new();
        for (i, frame) in chain.frames.iter().enumerate() {
            let name = name(frame);
            if self.functions.len() >= MOST_CHAINS && !self.functions.contains_key(&name) {
                return Err(Error::Usage("there are too many different functions".into()));
            }
            let first = met.insert(name.clone());
            let (own, total) = self.functions.entry(name).or_default();
            *total += if first { chain.count } else { 0 };
            *own += if i + 1 == chain.frames.len() { chain.count } else { 0 };
        }
        Ok(())
    }

    fn finish(&mut self, _: &Cx<'_>, out: &mut Out<'_>) -> Result<()> {
        let least = (self.total as f64 * self.least / 100.0).ceil() as u64;
        if self.graph {
            return std::mem::take(&mut self.tree).show(0, self.total, least, out);
        }
        let mut all: Vec<_> = self.functions.drain().filter(|(_, (_, total))| *total >= least).collect();
        all.sort_by(|a, b| (b.1, &a.0).cmp(&(a.1, &b.0)));
        for ((function, object), (own, total)) in all {
            let (share, with) = (percent(own, self.total), percent(total, self.total));
            out.row(ProfileRow { own, share, total, with, function, object })?;
        }
        Ok(())
    }
}

fn object(frame: &Frame) -> String {
    if frame.kernel && frame.object.is_empty() { "kernel".into() } else { frame.object.clone() }
}

impl Profile {
    fn grow(&mut self, chain: &Chain) -> Result<()> {
        let mut node = &mut self.tree;
        for frame in &chain.frames {
            // places in one function are one node
            let frame = Frame { offset: None, ..frame.clone() };
            self.nodes += usize::from(!node.below.contains_key(&frame));
            if self.nodes > MOST_CHAINS {
                return Err(Error::Usage("there are too many different call chains".into()));
            }
            node = node.below.entry(frame).or_default();
            node.count += chain.count;
        }
        node.own += chain.count;
        Ok(())
    }
}

impl Node {
    fn show(&self, depth: usize, all: u64, least: u64, out: &mut Out<'_>) -> Result<()> {
        let mut below: Vec<_> = self.below.iter().filter(|(_, node)| node.count >= least).collect();
        below.sort_by(|a, b| b.1.count.cmp(&a.1.count).then_with(|| a.0.cmp(b.0)));
        for (frame, node) in below {
            let object = object(frame);
            let of = if object.is_empty() { String::new() } else { format!(" ({object})") };
            out.row(ChainRow {
                total: node.count,
                with: percent(node.count, all),
                own: node.own,
                chain: format!("{:1$}{2}{of}", "", depth * 2, frame.function),
            })?;
            node.show(depth + 1, all, least, out)?;
        }
        Ok(())
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] =
    &[DcmdEntry::filter::<Profile>(), DcmdEntry::filter::<Flame>(), DcmdEntry::filter::<Annotate>()];

//! The tables: every dcmd and every walker, as data.

use crate::{
    cx::{Cx, Out},
    error::{Error, Result},
    item::{Item, Object, Schema},
    lang,
    modfiles::Sections,
    session::Session,
    symbols::Module,
};
use clap::Args;

/// Whether a dcmd or walker wants an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// has no use for one
    None,
    /// works with and without
    Optional,
    /// needs one
    Required,
    /// only works behind another stage
    Pipe,
}

/// A dcmd: its fields are its flags, its doc comment is its help.
pub trait Dcmd: Args {
    /// Name without `::`.
    const NAME: &'static str;
    /// Other names.
    const ALIASES: &'static [&'static str] = &[];
    /// Whether it wants an address.
    const ADDRESS: Address = Address::Optional;
    /// The rows it emits, for help and docs.
    const ROWS: &'static [&'static Schema] = &[];
    /// C type of what its rows are about, `struct task_struct`: what the next stage's dot is. Empty if it varies.
    const PASSES: &'static str = "";
    /// Whether `$[…]` comes as the digits that are printed for it, not as a number to be read again.
    const DIGITS: bool = false;
    /// Runs once for each address that comes in, or once without one.
    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()>;
}

/// A dcmd that sees every item as it is, and the end of them: `::count`, `::head`, `::sort`.
pub trait Filter: Args {
    /// Name without `::`.
    const NAME: &'static str;
    /// Other names.
    const ALIASES: &'static [&'static str] = &[];
    /// The rows it emits, for help and docs.
    const ROWS: &'static [&'static Schema] = &[];
    /// Whether it takes lines of text as they are, instead of as expressions.
    const LINES: bool = true;
    /// Whether its words, but for options in front, are one C expression: they come as one, as they were written.
    const EXPRESSION: bool = false;
    /// Called once, before the first item: for arguments that must be parsed or evaluated.
    fn start(&mut self, _cx: &Cx<'_>) -> Result<()> {
        Ok(())
    }
    /// One item.
    fn item(&mut self, cx: &Cx<'_>, item: Item, out: &mut Out<'_>) -> Result<()>;
    /// No more items.
    fn finish(&mut self, _cx: &Cx<'_>, _out: &mut Out<'_>) -> Result<()> {
        Ok(())
    }
}

/// A dcmd that answers once it has seen every address: `::stacks`. Alone, it is about all there is.
pub trait Gather: Args {
    /// Name without `::`.
    const NAME: &'static str;
    /// Other names.
    const ALIASES: &'static [&'static str] = &[];
    /// The rows it emits, for help and docs.
    const ROWS: &'static [&'static Schema] = &[];
    /// Takes an address. `piped`: a pipe brought it; else it was typed in front of the command.
    fn take(&mut self, cx: &Cx<'_>, at: Object, piped: bool) -> Result<()>;
    /// All addresses are known. `alone`: none was asked about.
    fn answer(&mut self, cx: &Cx<'_>, alone: bool, out: &mut Out<'_>) -> Result<()>;
}

/// A dcmd at the head of a pipeline that may do itself what the stages behind it would do: a probe counts in the kernel
/// what `| ::count` would count here.
pub trait Origin: Args {
    /// Name without `::`.
    const NAME: &'static str;
    /// Other names.
    const ALIASES: &'static [&'static str] = &[];
    /// The rows it emits, for help and docs.
    const ROWS: &'static [&'static Schema] = &[];
    /// Looks at the stages behind, and says how many of them, from the first, it does itself.
    fn plan(&mut self, cx: &Cx<'_>, behind: &[lang::ast::Stage]) -> Result<usize>;
    /// Emits what there is.
    fn run(&mut self, cx: &Cx<'_>, out: &mut Out<'_>) -> Result<()>;
}

/// A stage of a running pipeline.
pub trait Stage {
    /// Called for the first stage, before anything runs: how many of the stages behind it does it do itself?
    fn plan(&mut self, _cx: &Cx<'_>, _behind: &[lang::ast::Stage]) -> Result<usize> {
        Ok(0)
    }
    /// Whether it takes lines of text as they are. For all others a line is an expression, as everywhere in mdb.
    fn takes_lines(&self) -> bool {
        false
    }
    /// One item; `None` for the first stage of a pipeline, which runs once without one.
    fn item(&mut self, cx: &Cx<'_>, item: Option<Item>, out: &mut Out<'_>) -> Result<()>;
    /// No more items.
    fn finish(&mut self, _cx: &Cx<'_>, _out: &mut Out<'_>) -> Result<()> {
        Ok(())
    }
}

/// Makes a stage from a dcmd's words.
pub type MakeStage = fn(&Cx<'_>, &[String]) -> Result<Box<dyn Stage>>;

/// A row of the dcmd table.
pub struct DcmdEntry {
    /// name without `::`
    pub name: &'static str,
    /// other names
    pub aliases: &'static [&'static str],
    /// whether it wants an address
    pub address: Address,
    /// rows it emits
    pub rows: &'static [&'static Schema],
    /// C type of what its rows are about; empty if it varies
    pub passes: &'static str,
    /// whether its words are one C expression
    pub expression: bool,
    /// whether `$[…]` comes as the digits that are printed for it
    pub digits: bool,
    /// flags and help
    pub command: fn() -> clap::Command,
    /// makes the stage
    pub make: MakeStage,
}

fn command<A: Args>(name: &'static str) -> clap::Command {
    A::augment_args(clap::Command::new(name).no_binary_name(true).disable_help_flag(true))
}

fn parse<A: Args>(name: &'static str, words: &[String]) -> Result<A> {
    let matches = command::<A>(name).try_get_matches_from(words).map_err(|e| usage(name, &e))?;
    A::from_arg_matches(&matches).map_err(|e| usage(name, &e))
}

/// clap's own words without its colours and its `error: ` and `--help` lines, which mean nothing at our prompt.
fn usage(name: &str, e: &clap::Error) -> Error {
    let text = e.render().to_string();
    let text = text.trim_start_matches("error: ").replace(&format!("Usage: {name}"), &format!("Usage: ::{name}"));
    let kept: Vec<&str> =
        text.lines().map(str::trim_end).filter(|l| !l.is_empty() && !l.contains("'--help'")).collect();
    Error::Usage(format!("::{name}: {}", kept.join("\n"))).hint(format!("try `::help {name}`"))
}

impl DcmdEntry {
    /// The entry of a dcmd.
    pub const fn of<D: Dcmd + 'static>() -> DcmdEntry {
        struct PerItem<D>(D);
        impl<D: Dcmd> Stage for PerItem<D> {
            fn item(&mut self, cx: &Cx<'_>, item: Option<Item>, out: &mut Out<'_>) -> Result<()> {
                let at = match &item {
                    Some(item) => Some(item.object().ok_or_else(|| no_address(D::NAME))?),
                    None => None,
                };
                if at.is_none() && D::ADDRESS == Address::Required {
                    return Err(no_address(D::NAME));
                }
                self.0.run(cx, at, out)
            }
        }
        DcmdEntry {
            name: D::NAME,
            aliases: D::ALIASES,
            address: D::ADDRESS,
            rows: D::ROWS,
            passes: D::PASSES,
            expression: false,
            digits: D::DIGITS,
            command: || command::<D>(D::NAME),
            make: |_, words| Ok(Box::new(PerItem(parse::<D>(D::NAME, words)?))),
        }
    }

    /// The entry of a filter.
    pub const fn filter<F: Filter + 'static>() -> DcmdEntry {
        struct Whole<F>(F);
        impl<F: Filter> Stage for Whole<F> {
            fn takes_lines(&self) -> bool {
                F::LINES
            }
            fn item(&mut self, cx: &Cx<'_>, item: Option<Item>, out: &mut Out<'_>) -> Result<()> {
                let item = item.ok_or_else(|| {
                    Error::Usage(format!("::{} works on what a pipe brings", F::NAME))
                        .hint(format!("`::walk … | ::{}`", F::NAME))
                })?;
                self.0.item(cx, item, out)
            }
            fn finish(&mut self, cx: &Cx<'_>, out: &mut Out<'_>) -> Result<()> {
                self.0.finish(cx, out)
            }
        }
        DcmdEntry {
            name: F::NAME,
            aliases: F::ALIASES,
            address: Address::Pipe,
            rows: F::ROWS,
            passes: "",
            expression: F::EXPRESSION,
            digits: false,
            command: || command::<F>(F::NAME),
            make: |cx, words| {
                let mut filter = parse::<F>(F::NAME, words)?;
                filter.start(cx)?;
                Ok(Box::new(Whole(filter)))
            },
        }
    }
}

impl DcmdEntry {
    /// The entry of a dcmd that gathers addresses.
    pub const fn gather<G: Gather + 'static>() -> DcmdEntry {
        struct Gathering<G>(G, bool);
        impl<G: Gather> Stage for Gathering<G> {
            fn item(&mut self, cx: &Cx<'_>, item: Option<Item>, out: &mut Out<'_>) -> Result<()> {
                match item {
                    Some(item) => self.0.take(cx, item.object().ok_or_else(|| no_address(G::NAME))?, !out.first),
                    None => {
                        self.1 = true;
                        Ok(())
                    }
                }
            }
            fn finish(&mut self, cx: &Cx<'_>, out: &mut Out<'_>) -> Result<()> {
                self.0.answer(cx, self.1, out)
            }
        }
        DcmdEntry {
            name: G::NAME,
            aliases: G::ALIASES,
            address: Address::Optional,
            rows: G::ROWS,
            passes: "",
            expression: false,
            digits: false,
            command: || command::<G>(G::NAME),
            make: |_, words| Ok(Box::new(Gathering(parse::<G>(G::NAME, words)?, false))),
        }
    }
}

impl DcmdEntry {
    /// The entry of a dcmd at the head of a pipeline.
    pub const fn origin<O: Origin + 'static>() -> DcmdEntry {
        struct Head<O>(O);
        impl<O: Origin> Stage for Head<O> {
            fn plan(&mut self, cx: &Cx<'_>, behind: &[lang::ast::Stage]) -> Result<usize> {
                self.0.plan(cx, behind)
            }
            fn item(&mut self, cx: &Cx<'_>, item: Option<Item>, out: &mut Out<'_>) -> Result<()> {
                if item.is_some() || !out.first {
                    return Err(Error::Usage(format!("::{} begins a pipeline, and takes no address", O::NAME)));
                }
                self.0.run(cx, out)
            }
        }
        DcmdEntry {
            name: O::NAME,
            aliases: O::ALIASES,
            address: Address::None,
            rows: O::ROWS,
            passes: "",
            expression: false,
            digits: false,
            command: || command::<O>(O::NAME),
            make: |_, words| Ok(Box::new(Head(parse::<O>(O::NAME, words)?))),
        }
    }
}

fn no_address(name: &str) -> Error {
    Error::Usage(format!("::{name} needs an address")).hint(format!("`ADDR::{name}` or `… | ::{name}`"))
}

/// What a walker calls for each address it finds.
pub type Visit<'a> = &'a mut dyn FnMut(u64) -> Result<()>;

/// A walker: finds every object reachable from an address, or from a global.
pub struct WalkerEntry {
    /// name
    pub name: &'static str,
    /// one line
    pub doc: &'static str,
    /// C type of what it yields: `struct dentry`; several, the newest first, if kernels differ; empty if it varies
    pub item: &'static str,
    /// whether it wants an address
    pub address: Address,
    /// walks
    pub walk: fn(&Cx<'_>, Option<Object>, Visit<'_>) -> Result<()>,
}

/// A walker that exists because the target has something: one per slab cache.
pub struct DynamicWalker {
    /// name
    pub name: String,
    /// one line
    pub doc: String,
    /// type of what it yields
    pub ctype: Option<debuginfo::TypeId>,
    /// what [`DynamicWalkers::walk`] is given: the cache's address
    pub key: u64,
}

/// A family of such walkers.
pub struct DynamicWalkers {
    /// finds one by name
    pub find: fn(&Session, &str) -> Result<Option<DynamicWalker>>,
    /// lists all
    pub all: fn(&Session) -> Result<Vec<DynamicWalker>>,
    /// walks
    pub walk: fn(&Cx<'_>, u64, Visit<'_>) -> Result<()>,
    /// type of what belongs to a key, for other walkers that start from it: `CACHE::walk freemem`
    pub objects: fn(&Session, u64) -> Option<debuginfo::TypeId>,
}

/// Everything a session can do.
pub struct Registry {
    /// all dcmds, by family
    pub dcmds: &'static [&'static [DcmdEntry]],
    /// all walkers, by family
    pub walkers: &'static [&'static [WalkerEntry]],
    /// walkers that the target itself brings
    pub dynamic: &'static [DynamicWalkers],
    /// finds the loaded modules and their symbol tables, and adds their types to the session
    pub modules: fn(&Session) -> Vec<Module>,
    /// where the kernel put the sections of a module, and of which build it is
    pub sections: fn(&Session, &Module) -> Result<Sections>,
    /// which of the target's CPUs crashed, as an index into its registers; 0 if that cannot be told
    pub crash_cpu: fn(&Session) -> usize,
    /// finds variables of a kernel whose symbol table has only functions
    pub anchors: fn(&Session) -> Vec<debuginfo::Symbol>,
    /// the task that ran on that CPU, which the registers are of
    pub thread: fn(&Session) -> Option<u64>,
    /// whether there is RAM at a physical address, and no device, as far as the kernel says
    pub is_ram: fn(&Session, u64) -> bool,
    /// real sessions for the pages of help: Markdown, a section with a block of code for each dcmd
    pub examples: &'static str,
    /// disassembles one instruction: its text and its length in bytes
    pub disassemble: fn(&Session, u64) -> Option<(String, usize)>,
}

impl Registry {
    /// A dcmd by name or alias.
    pub fn dcmd(&self, name: &str) -> Option<&'static DcmdEntry> {
        self.all_dcmds().find(|d| d.name == name || d.aliases.contains(&name))
    }

    /// A walker by name.
    pub fn walker(&self, name: &str) -> Option<&'static WalkerEntry> {
        self.all_walkers().find(|w| w.name == name)
    }

    /// Every dcmd.
    pub fn all_dcmds(&self) -> impl Iterator<Item = &'static DcmdEntry> + use<> {
        self.dcmds.iter().flat_map(|family| family.iter())
    }

    /// Every walker that exists on any target.
    pub fn all_walkers(&self) -> impl Iterator<Item = &'static WalkerEntry> + use<> {
        self.walkers.iter().flat_map(|family| family.iter())
    }
}

//! Where to find what: `::help`, `::dcmds`, `::walkers`, `::formats`.
//!
//! ```console
//! > ::help sizeof
//! NAME
//!     sizeof - Print the size of a type in bytes
//! SYNOPSIS
//!     ::sizeof TYPE...
//! ARGUMENTS
//!     TYPE          the type
//! > ::help -k sizeof
//! > ::walkers -n '^k.*slab'
//! NAME              DESCRIPTION
//! kmem_slab         walk all slabs of a cache, or of all caches
//! kmem_slab_partial walk the slabs of a cache, or of all, that wait for more allocations
//! ```
//!
//! A dcmd's page is made from its flags and columns themselves, so it cannot say anything else than what is so.

use crate::types::regex;
use clap::Arg;
use engine::{Registry, lang::format::formats, macros::Macro, names, prelude::*};

/// Explain a dcmd, a macro or a walker; without a name, the language.
#[derive(Args)]
pub struct Help {
    /// list the pages that have this word in them, as `::apropos` does
    #[arg(short = 'k', value_name = "WORD", conflicts_with = "name")]
    search: Option<String>,
    /// name of a dcmd, macro or walker
    name: Option<String>,
}

/// The sessions of a dcmd: what stands under its heading.
pub fn example(registry: &Registry, name: &str) -> Option<&'static str> {
    let heading = format!("\n## {}\n", call(name));
    let (_, section) = registry.examples.split_once(&heading)?;
    let section = section.split("\n## ").next().unwrap_or(section);
    let (_, text) = section.split_once("```console\n").or_else(|| section.split_once("```text\n"))?;
    text.split("```").next()
}

/// A dcmd's page as it stands in the reference: 100 columns wide.
pub fn page(registry: &Registry, dcmd: &DcmdEntry) -> Vec<String> {
    let mut page = Page { width: 100, lines: Vec::new() };
    page.dcmd(registry, dcmd);
    page.lines
}

/// The text of `::help`.
pub fn introduction() -> &'static str {
    INTRODUCTION
}

const INTRODUCTION: &str = "\
A command is a pipeline: each stage passes addresses, rows or values on.

    [address][,count] command [arguments] | command [arguments] ... [! shell]

    address    an expression; it becomes dot (.), what the command looks at
    count      an expression; repeats the first command, each time further on
    command    ::name; or a verb with a format: /X *8K =D; or >name, which
               keeps dot in a variable
    arguments  words, quoted with '' or \"\" where needed; $[ ] computes one

Numbers are hexadecimal: 0t10 is ten, and 0t10$d makes ten the default radix.
An expression knows symbols (jiffies, ext4`init_once), variables (<name),
registers (<rip), dot, and from the loosest to the tightest
    |   ^   &   == !=   << >>   + -   * % # %%   and in front  * - ~ #
where % divides, %% is the remainder, # rounds up to a multiple, and * in front
is the word at an address.

    ::help NAME         one command, macro or walker
    ::help -k WORD      the pages that have a word in them
    ::dcmds [WORD]      the commands
    ::walkers [WORD]    the walkers: ::walk NAME finds every object of a kind
    ::formats           the letters of the verbs / = \\ ?
    ::macro             pipelines with names of your own

    ::walk task | ::print comm                      a member of every process
    ::walk dentry | ::where d_lockref.count == 0    objects chosen in C
    ::walk task | ::uniq -c __state                 counted by value
    init_task::print -t tasks                       a value with its types
    linux_banner/s                                  memory by format letters";

impl Dcmd for Help {
    const NAME: &'static str = "help";
    const ADDRESS: Address = Address::None;
    const ROWS: &'static [&'static engine::Schema] = &[<NameRow as engine::IntoRow>::SCHEMA];

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        if let Some(word) = &self.search {
            return search(cx, word, out);
        }
        let Some(name) = &self.name else {
            return INTRODUCTION.lines().try_for_each(|line| out.line(line));
        };
        let name = name.trim_start_matches("::");
        let dcmd = cx.registry.dcmd(name);
        let walker = cx.registry.walker(name);
        let mut page = Page { width: cx.env.width.get().clamp(40, 100), lines: Vec::new() };
        if let Some(dcmd) = dcmd {
            page.dcmd(cx.registry, dcmd);
        }
        let found = cx.env.macros.borrow().get(name).cloned();
        if let Some(found) = &found {
            page.macro_(found);
        }
        if let Some(w) = walker {
            page.walker(w.name, w.doc, w.address, w.item);
        }
        if dcmd.is_none() && walker.is_none() && found.is_none() {
            page.dynamic(cx, name)?;
        }
        page.lines.into_iter().try_for_each(|line| out.line(line))
    }
}

/// A page of help in the making.
struct Page {
    width: usize,
    lines: Vec<String>,
}

impl Page {
    fn head(&mut self, text: &str) {
        self.lines.push(text.to_owned());
    }

    /// Paragraphs, wrapped and indented.
    fn text(&mut self, text: &str) {
        for (i, paragraph) in text.split("\n\n").enumerate() {
            if i > 0 {
                self.lines.push(String::new());
            }
            self.term("", paragraph);
        }
    }

    /// A term and what it means, side by side.
    fn term(&mut self, term: &str, text: &str) {
        const INDENT: usize = 4;
        const COLUMN: usize = 18;
        let indent = if term.is_empty() { INDENT } else { COLUMN };
        let mut line = format!("{:INDENT$}{term}", "");
        if !term.is_empty() {
            if line.len() + 2 > COLUMN {
                self.lines.push(std::mem::take(&mut line));
            }
            line.push_str(&" ".repeat(COLUMN.saturating_sub(line.len())));
        }
        let mut begun = false;
        for word in text.split_whitespace() {
            if begun && line.chars().count() + 1 + word.chars().count() > self.width {
                self.lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
                begun = false;
            }
            line.push_str(if begun { " " } else { "" });
            line.push_str(word);
            begun = true;
        }
        self.lines.push(line);
    }

    fn dcmd(&mut self, registry: &Registry, dcmd: &DcmdEntry) {
        let command = (dcmd.command)();
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let long = command.get_long_about().map(ToString::to_string);
        self.head("NAME");
        self.term("", &format!("{} - {}", dcmd.name, about.trim_end_matches('.')));
        self.head("SYNOPSIS");
        self.term("", &synopsis(dcmd, &command));
        if !dcmd.aliases.is_empty() {
            self.head("ALSO");
            self.term("", &dcmd.aliases.iter().map(|a| call(a)).collect::<Vec<_>>().join(" "));
        }
        if let Some((_, more)) = long.as_deref().and_then(|l| l.split_once("\n\n")) {
            self.head("DESCRIPTION");
            self.text(more);
        }
        let arguments: Vec<_> = command.get_arguments().collect();
        if !arguments.is_empty() {
            self.head("ARGUMENTS");
            for argument in arguments {
                let help =
                    argument.get_long_help().or(argument.get_help()).map(ToString::to_string).unwrap_or_default();
                self.term(&term(argument), &help);
            }
        }
        for schema in dcmd.rows {
            self.head("COLUMNS");
            for column in schema.columns {
                let place = match (column.detail, column.hidden) {
                    (true, _) => " (below the row)",
                    (_, true) => " (in JSON and CSV)",
                    _ => "",
                };
                let heading = if column.heading.is_empty() { column.name } else { column.heading };
                self.term(heading, &format!("{}{place}", column.doc));
            }
        }
        if !dcmd.passes.is_empty() {
            self.head("PASSES ON");
            self.term("", dcmd.passes);
        }
        if let Some(text) = example(registry, dcmd.name) {
            self.head("EXAMPLE");
            self.lines.extend(text.lines().map(|line| format!("    {line}").trim_end().to_owned()));
        }
        let related = related(registry, dcmd, long.as_deref().unwrap_or_default());
        if !related.is_empty() {
            self.head("SEE ALSO");
            self.term("", &related.join(" "));
        }
    }

    fn macro_(&mut self, found: &Macro) {
        self.head("NAME");
        self.term("", &format!("{} - {}", found.name, found.about()));
        self.head("SYNOPSIS");
        let address = if found.built_in { "" } else { "[ addr ] " };
        self.term("", &format!("{address}::{} {}", found.name, found.usage()));
        if let Some((_, more)) = found.help.split_once('\n') {
            self.head("DESCRIPTION");
            more.lines().for_each(|line| self.lines.push(format!("    {line}").trim_end().to_owned()));
        }
        self.head("MACRO");
        found.text.lines().for_each(|line| self.lines.push(format!("    {line}")));
    }

    fn walker(&mut self, name: &str, doc: &str, address: Address, item: &str) {
        self.head("NAME");
        self.term("", &format!("{name} - {doc}"));
        self.head("SYNOPSIS");
        self.term("", &format!("{}::walk {name} [VARIABLE]", before(address)));
        if !item.is_empty() {
            self.head("ITEMS");
            self.term("", item);
        }
    }

    fn dynamic(&mut self, cx: &Cx<'_>, name: &str) -> Result<()> {
        for family in cx.registry.dynamic {
            if let Some(found) = (family.find)(cx, name)? {
                let item = found.ctype.map(|t| cx.types.spell(t)).unwrap_or_default();
                self.walker(&found.name, &found.doc, Address::None, &item);
                return Ok(());
            }
        }
        let dcmds = cx.registry.all_dcmds().flat_map(|d| std::iter::once(d.name).chain(d.aliases.iter().copied()));
        let macros = cx.env.macros.borrow();
        let known = dcmds.chain(cx.registry.all_walkers().map(|w| w.name)).chain(macros.keys().map(String::as_str));
        let hint = names::did_you_mean(name, known);
        let error = Error::Usage(format!("no dcmd, macro or walker is named `{name}`"));
        Err(error
            .hint(hint.unwrap_or_else(|| format!("`::dcmds` and `::walkers` list them, `::help -k {name}` searches"))))
    }
}

/// Its family, what its page names, and the walker of its name.
fn related(registry: &Registry, dcmd: &DcmdEntry, page: &str) -> Vec<String> {
    let family = registry.dcmds.iter().find(|family| family.iter().any(|d| d.name == dcmd.name));
    let family = family.into_iter().flat_map(|family| family.iter().map(|d| d.name));
    let named = page.split("::").skip(1).filter_map(|rest| {
        registry.dcmd(rest.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).next().unwrap_or_default())
    });
    let mut all: Vec<String> =
        family.chain(named.map(|d| d.name)).filter(|name| *name != dcmd.name).map(call).collect();
    all.sort();
    all.dedup();
    all.extend(registry.walker(dcmd.name).map(|w| format!("::walk {}", w.name)));
    all
}

/// Everything whose page has a word in it.
fn search(cx: &Cx<'_>, word: &str, out: &mut Out<'_>) -> Result<()> {
    let pattern = regex(&format!("(?i){word}"))?;
    let mut found: Vec<NameRow> = Vec::new();
    for dcmd in cx.registry.all_dcmds() {
        // an example is about other things, too
        let mut page = Page { width: usize::MAX, lines: Vec::new() };
        page.dcmd(cx.registry, dcmd);
        let own = page.lines.iter().take_while(|line| !matches!(line.as_str(), "EXAMPLE" | "SEE ALSO"));
        if own.into_iter().any(|line| pattern.is_match(line)) {
            let about = (dcmd.command)().get_about().map(ToString::to_string).unwrap_or_default();
            found.push(NameRow { name: call(dcmd.name), description: about.trim_end_matches('.').to_owned() });
        }
    }
    let named = |name: &str, about: &str| pattern.is_match(name) || pattern.is_match(about);
    for m in cx.env.macros.borrow().values().filter(|m| named(&m.name, &m.help) || pattern.is_match(&m.text)) {
        found.push(NameRow { name: call(&m.name), description: m.about().to_owned() });
    }
    for w in cx.registry.all_walkers().filter(|w| named(w.name, w.doc) || pattern.is_match(w.item)) {
        found.push(NameRow { name: format!("::walk {}", w.name), description: w.doc.to_owned() });
    }
    found.extend(
        formats()
            .filter(|(_, what)| pattern.is_match(what))
            .map(|(letter, what)| NameRow { name: format!("/{letter}"), description: what }),
    );
    if found.is_empty() {
        let error = Error::Usage(format!("no page has `{word}` in it"));
        return Err(error.hint("it is a regular expression, in which case does not matter"));
    }
    found.into_iter().try_for_each(|row| out.row(row))
}

/// Search the help: every dcmd, macro, walker and format letter whose page has a word in it.
#[derive(Args)]
pub struct Apropos {
    /// a word, or a regular expression
    word: String,
}

impl Dcmd for Apropos {
    const NAME: &'static str = "apropos";
    const ADDRESS: Address = Address::None;
    const ROWS: &'static [&'static engine::Schema] = &[<NameRow as engine::IntoRow>::SCHEMA];

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        search(cx, &self.word, out)
    }
}

/// How a dcmd is called: `$d` as it is, `::print` with its colons.
fn call(name: &str) -> String {
    if name.starts_with(['$', ':']) { name.to_owned() } else { format!("::{name}") }
}

fn before(address: Address) -> &'static str {
    match address {
        Address::None => "",
        Address::Optional => "[ addr ] ",
        Address::Required => "addr ",
        Address::Pipe => "... | ",
    }
}

/// `[ addr ] ::print [-adt] [-l LIMIT] [TYPE MEMBER]...`
pub fn synopsis(dcmd: &DcmdEntry, command: &clap::Command) -> String {
    let mut text = format!("{}{}", before(dcmd.address), call(dcmd.name));
    let flags: String =
        command.get_arguments().filter(|a| !a.get_action().takes_values()).filter_map(Arg::get_short).collect();
    if !flags.is_empty() {
        text.push_str(&format!(" [-{flags}]"));
    }
    for argument in command.get_arguments().filter(|a| a.get_action().takes_values()) {
        let many = matches!(argument.get_action(), clap::ArgAction::Append);
        let dots = if many && argument.is_positional() { "..." } else { "" };
        match argument.is_required_set() {
            true => text.push_str(&format!(" {}{dots}", term(argument))),
            false => text.push_str(&format!(" [{}]{dots}", term(argument))),
        }
    }
    text
}

/// `-l LIMIT`, `TYPE`
fn term(argument: &Arg) -> String {
    let values: Vec<_> = argument.get_value_names().unwrap_or_default().iter().map(ToString::to_string).collect();
    let value = values.join(" ");
    match (argument.get_short(), argument.get_long()) {
        (None, None) => value,
        (short, long) => {
            let flag = short.map(|s| format!("-{s}")).or(long.map(|l| format!("--{l}"))).unwrap_or_default();
            if argument.get_action().takes_values() { format!("{flag} {value}") } else { flag }
        }
    }
}

/// A command or walker.
#[derive(Row)]
pub struct NameRow {
    /// its name
    name: String,
    /// what it does
    description: String,
}

/// Emits what matches, in the order of names.
fn list(mut all: Vec<NameRow>, pattern: Option<&str>, name_only: bool, out: &mut Out<'_>) -> Result<()> {
    let pattern = pattern.map(regex).transpose()?;
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all.into_iter()
        .filter(|r| pattern.as_ref().is_none_or(|p| p.is_match(&r.name) || (!name_only && p.is_match(&r.description))))
        .try_for_each(|row| out.row(row))
}

/// List the commands, or those whose name or description matches a regular expression.
#[derive(Args)]
pub struct Dcmds {
    /// look at names only
    #[arg(short = 'n')]
    name_only: bool,
    /// regular expression
    pattern: Option<String>,
}

impl Dcmd for Dcmds {
    const NAME: &'static str = "dcmds";
    const ADDRESS: Address = Address::None;
    const ROWS: &'static [&'static engine::Schema] = &[<NameRow as engine::IntoRow>::SCHEMA];

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let all = cx.registry.all_dcmds().flat_map(|d| {
            let about = (d.command)().get_about().map(ToString::to_string).unwrap_or_default();
            let also = d
                .aliases
                .iter()
                .map(move |a| NameRow { name: (*a).to_owned(), description: format!("the same as {}", call(d.name)) });
            let description = about.trim_end_matches('.').to_owned();
            std::iter::once(NameRow { name: d.name.to_owned(), description }).chain(also)
        });
        let macros = cx.env.macros.borrow();
        let macros = macros.values().map(|m| NameRow { name: m.name.clone(), description: m.about().to_owned() });
        let all = all.chain(macros).collect();
        list(all, self.pattern.as_deref(), self.name_only, out)
    }
}

/// List the walkers, or those whose name or description matches a regular expression.
///
/// Among them are those that this dump brings along, such as one for each slab cache.
#[derive(Args)]
pub struct Walkers {
    /// look at names only
    #[arg(short = 'n')]
    name_only: bool,
    /// regular expression
    pattern: Option<String>,
}

impl Dcmd for Walkers {
    const NAME: &'static str = "walkers";
    const ADDRESS: Address = Address::None;
    const ROWS: &'static [&'static engine::Schema] = &[<NameRow as engine::IntoRow>::SCHEMA];

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let fixed = cx.registry.all_walkers();
        let mut all: Vec<_> =
            fixed.map(|w| NameRow { name: w.name.to_owned(), description: w.doc.to_owned() }).collect();
        for family in cx.registry.dynamic {
            match (family.all)(cx) {
                Ok(found) => all.extend(found.into_iter().map(|w| NameRow { name: w.name, description: w.doc })),
                Err(e) if e.is_control() => return Err(e),
                Err(e) => cx.notes.add(0, format!("some walkers cannot be listed: {e}")),
            }
        }
        list(all, self.pattern.as_deref(), self.name_only, out)
    }
}

/// List the letters of the verbs `/ \ @ ? =`.
#[derive(Args)]
pub struct Formats {}

impl Dcmd for Formats {
    const NAME: &'static str = "formats";
    const ADDRESS: Address = Address::None;

    fn run(&self, _: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        formats().try_for_each(|(letter, what)| out.line(format!("{letter} - {what}")))
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[
    DcmdEntry::of::<Help>(),
    DcmdEntry::of::<Apropos>(),
    DcmdEntry::of::<Dcmds>(),
    DcmdEntry::of::<Walkers>(),
    DcmdEntry::of::<Formats>(),
];

//! Saved pipelines: `::macro`, `::unmacro`, `::source`.
//!
//! ```console
//! > ::macro named 'tasks by name' '::walk task | ::where "comm == \"$1\"" | ::ps'
//! > ::named init
//! S PID PPID PGID SID UID CPU  FLAGS ADDR             NAME
//! S   1    0    1   1   0   0 400100 ff386d1d80240040 init
//! > ::macro named
//! NAME  ARGUMENTS HELP          PIPELINE
//! named ARG1      tasks by name ::walk task | ::where "comm == \"$1\"" | ::ps
//! > ::help named
//! ```
//!
//! What such a text may hold is told in `::help macro`. Macros that are to last stand in `~/.kmdbrc`, one command a
//! line, or in a file for `::source`.

use engine::{macros::Macro, names, prelude::*};
use std::path::PathBuf;

/// Give a pipeline a name: `::macro NAME 'HELP' 'PIPELINE'`. With a name alone, show that macro; without one, all of
/// your own.
///
/// The macro is then a command, `::NAME`, and may stand in the middle of a pipe. In its text, `$1` to `$9` are the words
/// it is called with, `${1:-x}` is the first one or else `x`, `$*` are all that have no number in the text, `$#` is how
/// many there are, and `$$` is a dollar sign. A word that replaces its parameter stays one word. `${-x?TEXT}` stands for
/// TEXT if the macro is called with -x, `${-x!TEXT}` if it is not, `${-x NAME?TEXT}` takes a word, which is `$-` in TEXT,
/// and `${-x NAME}` passes the option on.
///
/// A macro may use other macros. One that is several commands (`;`), or has an address or a shell command of its own,
/// runs for each address that reaches it. Put macros that are to last into ~/.kmdbrc or a file for `::source`.
#[derive(Args)]
pub struct DefineMacro {
    /// its name, what it does, and the pipeline; quote the latter two with ''
    #[arg(value_name = "NAME HELP PIPELINE", num_args = 0..=3)]
    words: Vec<String>,
}

/// A macro.
#[derive(Row)]
pub struct MacroRow {
    /// what it is called by
    name: String,
    /// the words that it takes, with their defaults
    arguments: String,
    /// what it does
    help: String,
    /// its text
    pipeline: String,
}

impl From<&Macro> for MacroRow {
    fn from(m: &Macro) -> MacroRow {
        MacroRow { name: m.name.clone(), arguments: m.usage(), help: m.help.clone(), pipeline: m.text.clone() }
    }
}

impl Dcmd for DefineMacro {
    const NAME: &'static str = "macro";
    const ALIASES: &'static [&'static str] = &["$M"];
    const ADDRESS: Address = Address::None;
    const ROWS: &'static [&'static engine::Schema] = &[MacroRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let (name, help, text) = match &self.words[..] {
            [] => {
                let macros = cx.env.macros.borrow();
                let all: Vec<MacroRow> = macros.values().filter(|m| !m.built_in).map(MacroRow::from).collect();
                return all.into_iter().try_for_each(|row| out.row(row));
            }
            [name] => {
                let found = cx.env.macros.borrow().get(name).map(MacroRow::from);
                return out.row(found.ok_or_else(|| unknown(cx, name))?);
            }
            [name, text] => (name, "", text),
            [name, help, text, ..] => (name, help.as_str(), text),
        };
        if cx.registry.dcmd(name).is_some() {
            return Err(Error::Usage(format!("`{name}` is a dcmd; a macro needs a name of its own")));
        }
        let made = Macro::new(name, help, text)?;
        cx.env.macros.borrow_mut().insert(name.clone(), made);
        Ok(())
    }
}

fn unknown(cx: &Cx<'_>, name: &str) -> Error {
    let macros = cx.env.macros.borrow();
    let hint = names::did_you_mean(name, macros.keys().map(String::as_str));
    Error::Usage(format!("no macro named `{name}`")).hint(hint.unwrap_or_else(|| "`::macro` lists them".into()))
}

/// Forget macros.
#[derive(Args)]
pub struct Unmacro {
    /// their names
    #[arg(value_name = "MACRO", required = true)]
    names: Vec<String>,
}

impl Dcmd for Unmacro {
    const NAME: &'static str = "unmacro";
    const ADDRESS: Address = Address::None;

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, _: &mut Out<'_>) -> Result<()> {
        self.names.iter().try_for_each(|name| {
            let found = cx.env.macros.borrow_mut().remove(name);
            found.map(drop).ok_or_else(|| unknown(cx, name))
        })
    }
}

/// Run the commands of a file, as `$<FILE` does.
///
/// A command that fails is told of with file and line, and those behind it run. `~/` is the home directory.
#[derive(Args)]
pub struct Source {
    /// the file
    #[arg(value_name = "FILE")]
    file: String,
}

impl Dcmd for Source {
    const NAME: &'static str = "source";
    const ADDRESS: Address = Address::None;

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, _: &mut Out<'_>) -> Result<()> {
        let path = match (self.file.strip_prefix("~/"), std::env::home_dir()) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => PathBuf::from(&self.file),
        };
        engine::pipeline::source(cx, &path)
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] =
    &[DcmdEntry::of::<DefineMacro>(), DcmdEntry::of::<Unmacro>(), DcmdEntry::of::<Source>()];

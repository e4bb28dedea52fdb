//! `--generate`: the documents that are made from the tables of the program itself.
//!
//! `docs/kmdb.1`, `docs/completions/` and `docs/reference/` are what this writes; `tests/docs.rs` holds them to it and
//! `UPDATE=1 cargo test --test docs` writes them anew.

use crate::{args::Cli, registry::REGISTRY};
use clap::CommandFactory;
use clap_complete::{Shell, generate};
use clap_mangen::{
    Man,
    roff::{Inline, Roff, bold, roman},
};
use dcmds::help;
use engine::{Address, DcmdEntry, Schema, lang::format::formats};
use serde_json::{Map, Value, json};
use std::{fmt::Write as _, io};

/// What can be written.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// the man page
    Man,
    /// completions of the command line for bash
    Bash,
    /// for zsh
    Zsh,
    /// for fish
    Fish,
    /// reference: dcmds
    Dcmds,
    /// reference: walkers
    Walkers,
    /// reference: verbs and format letters
    Formats,
    /// reference: the columns of each dcmd's rows, as JSON
    Schema,
}

/// The document.
pub fn document(what: What) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let shell = |shell: Shell, out: &mut Vec<u8>| generate(shell, &mut Cli::command(), "kmdb", out);
    match what {
        What::Man => man(&mut out)?,
        What::Bash => shell(Shell::Bash, &mut out),
        What::Zsh => shell(Shell::Zsh, &mut out),
        What::Fish => shell(Shell::Fish, &mut out),
        What::Dcmds => out = dcmd_pages().into_bytes(),
        What::Walkers => out = walkers().into_bytes(),
        What::Formats => out = verbs().into_bytes(),
        What::Schema => out = format!("{:#}\n", schema()).into_bytes(),
    }
    Ok(out)
}

/// All dcmds by name.
fn dcmds() -> Vec<&'static DcmdEntry> {
    let mut all: Vec<_> = REGISTRY.all_dcmds().collect();
    all.sort_by_key(|d| d.name);
    all
}

fn call(name: &str) -> String {
    if name.starts_with(['$', ':']) { name.to_owned() } else { format!("::{name}") }
}

fn about(dcmd: &DcmdEntry) -> String {
    let about = (dcmd.command)().get_about().map(ToString::to_string).unwrap_or_default();
    about.trim_end_matches('.').to_owned()
}

const MADE: &str = "<!-- made by `UPDATE=1 cargo test --test docs` from the program's own tables; edit those -->\n";

fn dcmd_pages() -> String {
    let mut out = format!(
        "{MADE}# Dcmds\n\nEach page is what `::help NAME` shows. The examples come from [examples.md](../examples.md), \
         where a test holds them.\n\n| dcmd | does |\n|---|---|\n"
    );
    for dcmd in dcmds() {
        let anchor: String =
            call(dcmd.name).chars().filter(|c| c.is_ascii_alphanumeric() || "_-".contains(*c)).collect();
        let _ = writeln!(out, "| [`{}`](#{anchor}) | {} |", call(dcmd.name), about(dcmd).replace('|', "\\|"));
    }
    for dcmd in dcmds() {
        let page = help::page(&REGISTRY, dcmd).join("\n");
        let _ = write!(out, "\n## {}\n\n```text\n{page}\n```\n", call(dcmd.name));
    }
    out
}

fn walkers() -> String {
    let mut all: Vec<_> = REGISTRY.all_walkers().collect();
    all.sort_by_key(|w| w.name);
    let mut out = format!(
        "{MADE}# Walkers\n\n`::walk NAME` yields each object of a kind, `ADDR::walk NAME` those that belong to the object \
         there. Besides these, each slab cache of the dump is a walker of its own name (`::walk dentry`).\n\n\
         | walker | address | yields | does |\n|---|---|---|---|\n"
    );
    for w in all {
        let address = match w.address {
            Address::None => "none",
            Address::Optional => "optional",
            Address::Required | Address::Pipe => "needed",
        };
        let item = if w.item.is_empty() { "what the address is about" } else { w.item };
        let _ = writeln!(out, "| `{}` | {address} | {item} | {} |", w.name, w.doc.replace('|', "\\|"));
    }
    out
}

/// The verbs: what each does with the letters behind it.
const VERBS: &[(&str, &str)] = &[
    ("`ADDR/FORMAT`", "memory at the address: `jiffies/X`, `init_task,3/20X`"),
    ("`ADDR\\FORMAT`, `ADDR@FORMAT`", "the same of physical memory"),
    ("`ADDR?FORMAT`", "the same of the object file, if there is one"),
    ("`VALUE=FORMAT`", "the value itself: `0t10=X`"),
    ("`ADDR/l VALUE MASK`, `/L`, `/M`", "searches on from the address for 2, 4 or 8 bytes"),
    ("`VALUE>NAME`, `VALUE>/i/NAME`", "keeps the value in a variable, cut to a size"),
];

fn verbs() -> String {
    let mut out = format!("{MADE}# Verbs and format letters\n\n| verb | shows |\n|---|---|\n");
    for (verb, what) in VERBS {
        let _ = writeln!(out, "| {verb} | {what} |");
    }
    out.push_str(
        "\nA number in front of a letter repeats it (`/4X`), `$[…]` computes that number, text stands in double \
                  quotes. Numbers here are decimal.\n\n| letter | shows |\n|---|---|\n",
    );
    for (letter, what) in formats() {
        let _ = writeln!(out, "| `{letter}` | {} |", what.replace('|', "\\|"));
    }
    out
}

/// The columns of each dcmd's rows by their names, with what their values are.
fn schema() -> Value {
    let columns = |schema: &&Schema| {
        let columns = schema.columns.iter().map(|c| (c.name.to_owned(), c.kind.to_string().into()));
        Value::Object(columns.collect::<Map<_, _>>())
    };
    let of = |dcmd: &&DcmdEntry| !dcmd.rows.is_empty();
    let rows = dcmds()
        .into_iter()
        .filter(of)
        .map(|dcmd| (dcmd.name.to_owned(), dcmd.rows.iter().map(columns).collect::<Vec<_>>().into()));
    json!({
        "kinds": {
            "address": "hex string, \"0xffff888100000000\"",
            "hex": "hex string",
            "integer": "number; a hex string from 2^53 on",
            "string": "string; {\"text\": …, \"bytes\": hex} if it is not all UTF-8",
            "bool": "true or false",
            "any": "one of these",
        },
        "everywhere": "a value may also be null (there is none) or {\"unreadable\": reason}",
        "rows": rows.collect::<Map<_, _>>(),
    })
}

// ---- the man page -----------------------------------------------------------------------------------------------

const EXIT: &[(&str, &str)] = &[
    ("0", "every command could do its work"),
    ("1", "a command found what it looked for: corruption, leaks, a failed assertion"),
    ("2", "a command failed, or the dump could not be opened, or the command line was wrong"),
    ("130", "Ctrl-C"),
];

const FILES: &[(&str, &str)] = &[
    (
        "$XDG_CONFIG_HOME/kmdb/kmdbrc, ~/.kmdbrc",
        "commands that run first, such as ::macro; not with --no-rc. \
      $XDG_CONFIG_HOME is ~/.config unless it is set.",
    ),
    (
        "$XDG_STATE_HOME/kmdb/history/",
        "lines typed at the prompt, a file for each dump. $XDG_STATE_HOME is ~/.local/state \
      unless it is set.",
    ),
];

const ENVIRONMENT: &[(&str, &str)] = &[
    (
        "PAGER",
        "the pager of answers longer than the screen; cat for none. Without it, one with mdb's keys: space, return, \
      q, n, c, a.",
    ),
    ("SHELL", "what runs the command behind !"),
    ("NO_COLOR", "if set, no colours"),
    ("TERM", "if dumb, no colours, no editing of lines and no status line"),
    ("TZ", "time zone of dates"),
];

const SESSIONS: &[(&str, &str)] = &[
    ("kmdb vmcore", "a prompt"),
    ("kmdb vmcore -e '::ps' -o json", "all processes, one JSON object a line"),
    ("echo '::status; ::msgbuf' | kmdb vmcore", "commands from standard input"),
    ("kmdb vmcore -e '::walk dentry | ::where d_lockref.count==0 | ::count'", "objects chosen in C, counted"),
];

fn man(out: &mut Vec<u8>) -> io::Result<()> {
    // the day of the text, not of the build
    let man = Man::new(Cli::command()).date("2026-11-25").manual("User Commands");
    man.render_title(out)?;
    man.render_name_section(out)?;
    man.render_synopsis_section(out)?;
    man.render_description_section(out)?;
    man.render_options_section(out)?;
    let mut roff = Roff::new();
    roff.control("SH", ["LANGUAGE"]).control("nf", []);
    roff.text(help::introduction().lines().flat_map(|line| [roman(line), Inline::LineBreak]).collect::<Vec<_>>());
    roff.control("fi", []);
    let dcmds: Vec<_> = dcmds().into_iter().map(|dcmd| (call(dcmd.name), about(dcmd))).collect();
    terms(&mut roff, "DCMDS", dcmds.iter().map(|(name, about)| (name.as_str(), about.as_str())));
    roff.text([roman("::help NAME shows the page of one.")]);
    terms(&mut roff, "EXIT STATUS", EXIT.iter().copied());
    terms(&mut roff, "ENVIRONMENT", ENVIRONMENT.iter().copied());
    terms(&mut roff, "FILES", FILES.iter().copied());
    terms(&mut roff, "EXAMPLES", SESSIONS.iter().copied());
    roff.control("SH", ["SEE ALSO"]).text([
        bold("crash"),
        roman("(8), "),
        bold("gdb"),
        roman("(1), "),
        bold("makedumpfile"),
        roman("(8)"),
    ]);
    roff.to_writer(out)
}

/// A section of terms with what they mean.
fn terms<'t>(roff: &mut Roff, title: &str, list: impl Iterator<Item = (&'t str, &'t str)>) {
    roff.control("SH", [title]);
    for (term, meaning) in list {
        roff.control("TP", []).text([bold(term)]).text([roman(meaning)]);
    }
    roff.control("PP", []);
}

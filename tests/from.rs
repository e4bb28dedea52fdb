//! What the documents for people who come from crash and drgn name is there: every dcmd, every walker. And no command of
//! crash is left out.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, fs, path::Path};

/// crash 9's commands, as its `help` lists them.
const CRASH: &[&str] = &[
    "*", "alias", "ascii", "bpf", "bt", "btop", "dev", "dis", "eval", "exit", "extend", "files", "foreach", "fuser",
    "gdb", "help", "ipcs", "irq", "kmem", "list", "log", "mach", "map", "mod", "mount", "net", "p", "ps", "pte",
    "ptob", "ptov", "q", "rd", "repeat", "runq", "rustfilt", "sbitmapq", "search", "set", "sig", "struct", "swap",
    "sym", "sys", "task", "test", "timer", "tree", "union", "vm", "vtop", "waitq", "whatis", "wr",
];

/// Options of crash's commands, as `help COMMAND` lists them (8.0 and 9.0).
const OPTIONS: &[(&str, &str)] = &[
    ("bpf", "p P t T j m M s x d"),
    ("bt", "a c g r t T l e E f F o O v p R s x d I S n"),
    ("dev", "i p d D V v"),
    ("dis", "r f l u d x s b"),
    ("eval", "b l"),
    ("extend", "u s"),
    ("files", "d p c R n"),
    ("ipcs", "s m M q n"),
    ("irq", "u d b a s c"),
    ("kmem", "f F c C i v V n z o h p m s S r I g P"),
    ("list", "o e s S l x d r B h O H"),
    ("log", "T t d m a s c R"),
    ("mach", "m c o x d"),
    ("map", "a f"),
    ("mod", "s d S D t r R o g"),
    ("mount", "f i n"),
    ("net", "s S x d R a n N"),
    ("p", "x d u"),
    ("ps", "k u G y s p c t l m C a g r S A"),
    ("rd", "a d D s S u p x m f N R 8 16 32 64 o e r"),
    ("runq", "t T m g c"),
    ("sbitmapq", "s a p v x d"),
    ("search", "s k K V u p t T e l m x c w h"),
    ("set", "a c p v"),
    ("sig", "l s g"),
    ("struct", "o l r f u x d p c"),
    ("sym", "l M m p n q"),
    ("sys", "c t i panic"),
    ("task", "R d x"),
    ("timer", "r C"),
    ("tree", "t r s S x d o l p N v"),
    ("union", "o l r f u x d p c"),
    ("vm", "p P M v m x d R f"),
    ("vtop", "c u k"),
    ("whatis", "o r m"),
    ("wr", "u k p 8 16 32 64"),
];

fn document(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)).unwrap()
}

fn dcmds() -> BTreeSet<&'static str> {
    let entries = dcmds::DCMDS.iter().flat_map(|family| family.iter());
    entries.flat_map(|d| std::iter::once(d.name).chain(d.aliases.iter().copied())).collect()
}

fn walkers() -> BTreeSet<&'static str> {
    walkers::WALKERS.iter().flat_map(|family| family.iter()).map(|w| w.name).collect()
}

/// The names that stand behind each `mark` in a text.
fn behind<'a>(text: &'a str, mark: &str) -> Vec<&'a str> {
    let name = |rest: &'a str| {
        let end = rest.find(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
        &rest[..end.unwrap_or(rest.len())]
    };
    text.split(mark).skip(1).map(name).filter(|name| !name.is_empty()).collect()
}

#[test]
fn what_the_documents_name_is_there() {
    let (dcmds, walkers) = (dcmds(), walkers());
    let mut missing = BTreeSet::new();
    for name in ["from-crash.md", "from-drgn.md"] {
        let text = document(name);
        missing.extend(behind(&text, "::").into_iter().filter(|n| !dcmds.contains(n)).map(str::to_owned));
        missing.extend(behind(&text, "::walk ").into_iter().filter(|n| !walkers.contains(n)).map(str::to_owned));
    }
    assert!(missing.is_empty(), "named in docs/from-*.md, but there is no such dcmd or walker: {missing:?}");
}

/// The options that the first column of a row names, with the command that each stands behind: `` `ps -k`, `-u` ``.
fn options(column: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut command = "";
    for code in column.split('`').skip(1).step_by(2) {
        if !code.starts_with('-') {
            command = code.split(' ').next().unwrap_or_default();
        }
        let words = code.split(' ').filter_map(|word| word.strip_prefix('-'));
        found.extend(words.map(|option| (command.to_owned(), option.to_owned())));
    }
    found
}

#[test]
fn every_option_of_crash_has_an_answer() {
    let text = document("from-crash.md");
    let columns = text.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let named: BTreeSet<(String, String)> = columns.flat_map(options).collect();
    let wanted = OPTIONS.iter().flat_map(|(command, all)| all.split(' ').map(move |option| (*command, option)));
    let missing: Vec<_> =
        wanted.filter(|(command, option)| !named.contains(&((*command).to_owned(), (*option).to_owned()))).collect();
    assert!(missing.is_empty(), "docs/from-crash.md says nothing of {missing:?}");
}

#[test]
fn every_command_of_crash_has_an_answer() {
    let text = document("from-crash.md");
    // the words that begin a piece of code in the first column of the tables
    let columns = text.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let named: BTreeSet<String> = columns
        .flat_map(|column| column.split('`').skip(1).step_by(2).filter_map(|code| code.split(' ').next()))
        .map(str::to_owned)
        .collect();
    let missing: Vec<_> = CRASH.iter().filter(|command| !named.contains(**command)).collect();
    assert!(missing.is_empty(), "docs/from-crash.md says nothing of {missing:?}");
}

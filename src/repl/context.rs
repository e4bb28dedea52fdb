//! What a word of the line is about: the name of a walker, a type, a member of something the stages before it yield.
//!
//! Completion, highlighting and hints ask the same questions; this answers them from the dcmd's own declaration (the
//! names of its values) and from what is known of the stages before.

use super::scan::{Command, Stage, Word, scan};
use clap::Arg;
use engine::{Cx, DcmdEntry, Type, TypeId};

/// What a word stands for.
#[derive(Clone, Debug, PartialEq)]
pub enum Role {
    /// a dcmd or a walker, to be looked up
    Topic,
    Walker,
    /// a type or, if one is known, a member of it
    Type {
        /// `struct`, `union` or `enum` stands before it
        tagged: bool,
        input: Option<TypeId>,
    },
    /// a member of this type, maybe a path
    Member(Option<TypeId>),
    /// a word of a C expression over columns or members
    Expression,
    Cache,
    Module,
    File,
    Macro,
    Variable,
    /// an option
    Flag,
    /// one of these
    OneOf(Vec<String>),
    /// a number, maybe a symbol
    Address,
    Text,
}

/// What is known of the items that a stage is given.
#[derive(Default)]
pub struct Input {
    pub ctype: Option<TypeId>,
    pub columns: Vec<&'static str>,
}

/// The dcmd of a name.
pub fn dcmd(cx: &Cx<'_>, name: &str) -> Option<&'static DcmdEntry> {
    cx.registry.dcmd(name.rsplit('`').next().unwrap_or(name))
}

/// Whether a word can be an option of a dcmd.
fn is_flag(word: &Word, line: &str) -> bool {
    let raw = line.get(word.span.clone()).unwrap_or_default();
    raw.starts_with('-') && raw.chars().nth(1).is_none_or(|c| c.is_ascii_alphabetic() || c == '-')
}

/// The option of a bundle (`-av`) that takes the next word as its value.
fn wants_value<'c>(command: &'c clap::Command, flag: &str) -> Option<&'c Arg> {
    let takes = |arg: &&Arg| arg.get_action().takes_values();
    if let Some(name) = flag.strip_prefix("--") {
        return command.get_arguments().filter(takes).find(|arg| arg.get_long() == Some(name));
    }
    let last = flag.strip_prefix('-')?.chars().last()?;
    command.get_arguments().filter(takes).find(|arg| arg.get_short() == Some(last))
}

/// What stands at `index` among a dcmd's words.
pub fn role(cx: &Cx<'_>, line: &str, stages: &[Stage], at: usize, index: usize) -> Role {
    let Some((entry, words)) = called(cx, line, stages, at) else { return Role::Text };
    let command = (entry.command)();
    let mut positional: Vec<&str> = Vec::new();
    let mut value_of = None;
    for (i, word) in words.iter().enumerate().take(index + 1) {
        if let Some(arg) = value_of.take() {
            if i == index {
                return value_role(arg);
            }
            continue;
        }
        // behind the options, an expression has minus signs of its own
        if (positional.is_empty() || !entry.expression) && is_flag(word, line) {
            if i == index {
                return Role::Flag;
            }
            value_of = wants_value(&command, &word.text);
            continue;
        }
        positional.push(&word.text);
    }
    let place = positional.len().saturating_sub(1);
    let before = positional.get(..place).unwrap_or_default();
    match (entry.name, place) {
        ("walk", 0) => return Role::Walker,
        ("walk", 1) => return Role::Variable,
        ("help" | "dcmds" | "walkers" | "whence" | "which", _) => return Role::Topic,
        ("typeset" | "unset", _) => return Role::Variable,
        _ if entry.expression => return Role::Expression,
        _ => {}
    }
    let arguments: Vec<&Arg> = command.get_positionals().collect();
    // the last one may take many words
    let Some(argument) = arguments.get(place).or(arguments.last()) else { return Role::Text };
    let names = value_name(argument);
    // `FORMAT TYPE MEMBER` and `TYPE MEMBER [VARIABLE]` are the words of one value
    let skipped = arguments.iter().take_while(|a| !value_name(a).contains("TYPE")).count();
    if names.contains("TYPE") || names.starts_with("ENUM") {
        let skipped = if names.contains("TYPE") { skipped } else { 0 };
        return typed(cx, line, stages, at, before.get(skipped..).unwrap_or_default());
    }
    value_role(argument)
}

/// A word among those of `TYPE MEMBER…`.
fn typed(cx: &Cx<'_>, line: &str, stages: &[Stage], at: usize, before: &[&str]) -> Role {
    let known = || input(cx, line, stages, at).ctype;
    let tagged = before.first().is_some_and(|w| matches!(*w, "struct" | "union" | "enum"));
    let spelled = before.get(..1 + usize::from(tagged)).unwrap_or_default();
    if spelled.is_empty() {
        return Role::Type { tagged, input: if tagged { None } else { known() } };
    }
    Role::Member(cx.types.parse(&spelled.join(" ")).ok().or_else(known))
}

fn value_name(arg: &Arg) -> String {
    let names = arg.get_value_names().map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
    names.unwrap_or_else(|| arg.get_id().as_str().to_uppercase())
}

/// What the name of a value says of it.
fn value_role(arg: &Arg) -> Role {
    let possible = arg.get_possible_values();
    if !possible.is_empty() {
        return Role::OneOf(possible.iter().map(|v| v.get_name().to_owned()).collect());
    }
    match value_name(arg).trim_matches(['[', ']', '.']) {
        "CACHE" | "CACHES" => Role::Cache,
        "MODULE" | "OBJECT" | "OBJECT PATTERN" => Role::Module,
        "FILE" | "PATH" | "DIR" => Role::File,
        "MACRO" => Role::Macro,
        "VARIABLE" | "VAR" => Role::Variable,
        "WALKER" => Role::Walker,
        "TYPE" => Role::Type { tagged: false, input: None },
        "ADDR" | "CALLER" | "FUNC" | "FUNCTION" | "TASK" | "THREAD" | "SYMBOL" | "VALUE" | "EXPR" | "PID" | "END" => {
            Role::Address
        }
        _ => Role::Text,
    }
}

/// The dcmd of a stage and its words.
fn called<'s>(cx: &Cx<'_>, line: &str, stages: &'s [Stage], at: usize) -> Option<(&'static DcmdEntry, &'s [Word])> {
    match &stages.get(at)?.command {
        Command::Dcmd { name, words } => Some((dcmd(cx, line.get(name.clone())?)?, words)),
        _ => None,
    }
}

/// What a stage is given: by its own address, or else by the stages before it.
pub fn input(cx: &Cx<'_>, line: &str, stages: &[Stage], at: usize) -> Input {
    input_of(cx, line, stages, at, 8)
}

fn input_of(cx: &Cx<'_>, line: &str, stages: &[Stage], at: usize, depth: u32) -> Input {
    let address = stages.get(at).and_then(|s| line.get(s.address.clone())).unwrap_or_default().trim();
    if !address.is_empty() {
        let name = address.split(',').next().unwrap_or(address).trim();
        return Input { ctype: cx.type_of_global(name), ..Input::default() };
    }
    at.checked_sub(1).map(|before| output(cx, line, stages, before, depth)).unwrap_or_default()
}

/// What a stage yields.
fn output(cx: &Cx<'_>, line: &str, stages: &[Stage], at: usize, depth: u32) -> Input {
    let Some(Stage { command: Command::Dcmd { name, words }, .. }) = stages.get(at) else { return Input::default() };
    let name = line.get(name.clone()).unwrap_or_default();
    let typed = |ctype| Input { ctype, ..Input::default() };
    let Some(entry) = dcmd(cx, name) else {
        // a macro yields what the last stage of its text does
        let text = cx.env.macros.borrow().get(name).map(|m| m.text.clone());
        return match (text, depth.checked_sub(1)) {
            (Some(text), Some(depth)) => match scan(&text).pop() {
                Some(inner) => output(cx, &text, &inner.stages, inner.stages.len().saturating_sub(1), depth),
                None => Input::default(),
            },
            _ => Input::default(),
        };
    };
    let texts: Vec<&str> = words.iter().filter(|w| !is_flag(w, line)).map(|w| w.text.as_str()).collect();
    match entry.name {
        "walk" => typed(texts.first().and_then(|walker| item(cx, walker))),
        "list" | "array" | "container_of" => typed(named_type(cx, &texts).map(|(ctype, _)| ctype)),
        "print" => {
            let given = input_of(cx, line, stages, at, depth).ctype;
            let (ctype, members) = match named_type(cx, &texts) {
                Some((ctype, rest)) => (Some(ctype), rest),
                None => (given, &texts[..]),
            };
            match (ctype, members.first()) {
                (Some(ctype), Some(path)) => typed(along(cx, ctype, path).map(|ctype| pointee(cx, ctype))),
                (ctype, _) => typed(ctype),
            }
        }
        _ if !entry.passes.is_empty() || !entry.rows.is_empty() => {
            let columns = entry.rows.iter().flat_map(|schema| schema.columns).map(|c| c.name).collect();
            Input { ctype: cx.types.parse(entry.passes).ok(), columns }
        }
        // these pass on what they are given
        _ if entry.address == engine::Address::Pipe => input_of(cx, line, stages, at, depth),
        _ => Input::default(),
    }
}

/// The type at the start of a dcmd's words, and the words behind it.
fn named_type<'w, 't>(cx: &Cx<'_>, words: &'w [&'t str]) -> Option<(TypeId, &'w [&'t str])> {
    let tagged = words.first().is_some_and(|w| matches!(*w, "struct" | "union" | "enum"));
    let (spelled, rest) = words.split_at_checked(1 + usize::from(tagged))?;
    Some((cx.types.parse(&spelled.join(" ")).ok()?, rest))
}

/// The type of what a walker yields.
fn item(cx: &Cx<'_>, walker: &str) -> Option<TypeId> {
    if let Some(walker) = cx.registry.walker(walker) {
        return walker.item.split(", ").find_map(|item| cx.types.parse(item).ok());
    }
    cx.registry.dynamic.iter().find_map(|family| (family.find)(cx.session, walker).ok()??.ctype)
}

/// The type at the end of a path of members: `d_parent->d_name`.
pub fn along(cx: &Cx<'_>, ctype: TypeId, path: &str) -> Option<TypeId> {
    let mut ctype = ctype;
    for hop in path.split(['.', '>']).map(|hop| hop.trim_end_matches('-')).filter(|hop| !hop.is_empty()) {
        let name = hop.split('[').next().unwrap_or(hop);
        ctype = cx.types.member(pointee(cx, ctype), name)?.ty;
        for _ in hop.matches('[') {
            ctype = pointee(cx, ctype);
        }
    }
    Some(ctype)
}

/// What a pointer or an array is of; any other type itself.
pub fn pointee(cx: &Cx<'_>, ctype: TypeId) -> TypeId {
    match cx.shape(ctype).as_deref() {
        Some(Type::Pointer { to } | Type::Array { elem: to, .. }) => *to,
        _ => ctype,
    }
}

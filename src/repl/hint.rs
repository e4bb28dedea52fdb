//! What stands dimly behind the cursor: the words that a dcmd still takes, what an option or a walker is for, what a
//! format letter means, and how a command of another debugger is spelled here.

use super::{
    context::{self, Role},
    scan::{Command, Stage, scan},
};
use crate::{foreign, render::escape::escape};
use clap::Arg;
use engine::{Cx, lang::format::formats};
use unicode_width::UnicodeWidthStr;

/// The hint for a line whose cursor is at its end; at most `room` columns.
pub fn hint(cx: &Cx<'_>, line: &str, room: usize) -> Option<String> {
    let text = find(cx, line)?;
    let text = escape(&text);
    let mut out = String::new();
    for c in text.chars() {
        if out.width() + 2 > room {
            out.push('…');
            break;
        }
        out.push(c);
    }
    // a hint that is cut to nothing says nothing
    (out.width() > 3 || out.width() == text.width()).then_some(out)
}

fn find(cx: &Cx<'_>, line: &str) -> Option<String> {
    let statement = scan(line).pop()?;
    let at = statement.stages.len() - 1;
    let stage = statement.stages.last()?;
    match &stage.command {
        Command::None if at == 0 => foreign::hint(cx.registry, line).map(|text| format!("   {text}")),
        Command::Verb { format } => {
            let letter = line.get(format.clone())?.chars().last()?;
            formats().find(|(known, _)| *known == letter).map(|(_, what)| format!("   {what}"))
        }
        Command::Dcmd { name, words } => dcmd(cx, line, &statement.stages, line.get(name.clone())?, words.len()),
        _ => None,
    }
}

fn dcmd(cx: &Cx<'_>, line: &str, stages: &[Stage], name: &str, count: usize) -> Option<String> {
    let blank = line.ends_with([' ', '\t']);
    let Some(entry) = context::dcmd(cx, name) else {
        let macros = cx.env.macros.borrow();
        let usage = macros.get(name)?.usage();
        return (count == 0 && !usage.is_empty()).then(|| format!("{}{usage}", if blank { "" } else { " " }));
    };
    let Some(Stage { command: Command::Dcmd { words, .. }, .. }) = stages.last() else { return None };
    if blank || count == 0 {
        let left = usage(&(entry.command)(), words.iter().map(|w| w.text.as_str()));
        return (!left.is_empty()).then(|| format!("{}{left}", if blank { "" } else { " " }));
    }
    // under the cursor: what it means
    let word = words.last()?;
    let meaning = match context::role(cx, line, stages, stages.len() - 1, count - 1) {
        Role::Flag => flag(&(entry.command)(), &word.text)?.get_help()?.to_string(),
        Role::Walker => cx.registry.walker(&word.text)?.doc.to_owned(),
        _ => return None,
    };
    Some(format!("   {meaning}"))
}

fn flag<'c>(command: &'c clap::Command, flag: &str) -> Option<&'c Arg> {
    let letter = flag.strip_prefix('-')?.chars().last()?;
    command.get_arguments().find(|a| a.get_short() == Some(letter))
}

/// The options and words that are not there yet: `[-av] [-l LIMIT] TYPE MEMBER`.
fn usage<'w>(command: &clap::Command, words: impl Iterator<Item = &'w str>) -> String {
    let (mut given, mut positional, mut value) = (String::new(), 0, None);
    for word in words {
        if value.take().is_some() {
            continue;
        }
        match word.strip_prefix('-') {
            Some(letters) => {
                given.push_str(letters);
                value = flag(command, word).filter(|a| a.get_action().takes_values());
            }
            None => positional += 1,
        }
    }
    if let Some(argument) = value {
        return value_name(argument);
    }
    let mut parts = Vec::new();
    let free = |a: &&Arg| a.get_short().is_some_and(|c| !given.contains(c));
    let (valued, plain): (Vec<_>, Vec<_>) =
        command.get_arguments().filter(free).partition(|a| a.get_action().takes_values());
    // behind the first word they are seldom meant
    if positional == 0 {
        let letters: String = plain.iter().filter_map(|a| a.get_short()).collect();
        parts.extend((!letters.is_empty()).then(|| format!("[-{letters}]")));
        let valued = valued.iter().filter_map(|a| Some(format!("[-{} {}]", a.get_short()?, value_name(a))));
        parts.extend(valued);
    }
    let mut skip = positional;
    for argument in command.get_positionals() {
        let names = value_name(argument);
        let many = matches!(argument.get_action(), clap::ArgAction::Append);
        let mut left: Vec<&str> = Vec::new();
        for name in names.split(' ') {
            match skip {
                0 => left.push(name),
                _ => skip -= 1,
            }
        }
        if left.is_empty() && many && names.contains("MEMBER") {
            left.push("MEMBER");
        }
        if !left.is_empty() {
            let text = left.join(" ");
            parts.push(if argument.is_required_set() { text } else { format!("[{text}]") });
        }
    }
    parts.join(" ")
}

fn value_name(arg: &Arg) -> String {
    let names = arg.get_value_names().unwrap_or_default();
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::usage;
    use clap::{Arg, ArgAction, Command};

    #[test]
    fn what_is_there_is_not_asked_for_again() {
        let command = Command::new("x")
            .arg(Arg::new("all").short('a').action(ArgAction::SetTrue))
            .arg(Arg::new("verbose").short('v').action(ArgAction::SetTrue))
            .arg(Arg::new("limit").short('l').value_name("LIMIT"))
            .arg(Arg::new("words").value_name("TYPE MEMBER").action(ArgAction::Append));
        let left = |words: &str| usage(&command, words.split_whitespace());
        assert_eq!(left(""), "[-av] [-l LIMIT] [TYPE MEMBER]");
        assert_eq!(left("-a"), "[-v] [-l LIMIT] [TYPE MEMBER]");
        assert_eq!(left("-av -l"), "LIMIT");
        assert_eq!(left("-l 3 foo"), "[MEMBER]");
        assert_eq!(left("foo bar baz"), "[MEMBER]");
    }
}

//! Completion: dcmds, macros and their flags, walkers, caches, symbols, types, columns, members along paths, variables,
//! files, by what stands before the cursor.
//!
//! ```text
//! > ::wal                                ::walk
//! > ::walk kmalloc-6                     kmalloc-64
//! > ::print struct dentry d_name.l       d_name.len
//! > ::walk dentry | ::print d_sb->s_     the members of struct super_block
//! > ::ps | ::print mm->m                 those of struct mm_struct
//! > ::ps | ::sort na                     name
//! > !<~/tri                              ~/triage.kmdb
//! ```

use super::{
    context::{self, Role, along, pointee},
    scan::{Command, Stage, is_name, scan},
};
use crate::render::escape::escape;
use engine::{Cx, Tag, TypeId};
use std::borrow::Cow;

/// More candidates than this help nobody.
const LIMIT: usize = 500;

/// Completes one session's names.
pub struct Completer<'a> {
    cx: &'a Cx<'a>,
}

/// What a word may become.
struct Found {
    names: Vec<String>,
    /// what follows the name, if there is but one: a blank where another word is next
    end: &'static str,
}

impl<'a> Completer<'a> {
    /// A completer over the session's names.
    pub fn new(cx: &'a Cx<'a>) -> Self {
        Completer { cx }
    }

    /// Where the word under the cursor starts in `line` (the text before the cursor), and what it may become.
    pub fn complete(&self, line: &str) -> (usize, Vec<String>) {
        let (start, found) = self.find(line);
        // nobody could type what has to be escaped
        let typeable = |name: &String| matches!(escape(name), Cow::Borrowed(_));
        let mut names: Vec<String> = found.names.into_iter().filter(typeable).collect();
        names.sort();
        names.dedup();
        names.truncate(LIMIT);
        if let [one] = &mut names[..]
            && !one.ends_with(' ')
        {
            one.push_str(found.end);
        }
        (start, names)
    }

    fn find(&self, line: &str) -> (usize, Found) {
        let nothing = (line.len(), found(Vec::new()));
        let Some(statement) = scan(line).pop() else { return nothing };
        let at = statement.stages.len() - 1;
        let stages = &statement.stages[..];
        let Some(stage) = stages.last() else { return nothing };
        match &stage.command {
            Command::None => self.expression(line, stage.address.start),
            Command::Dcmd { name, words } if words.is_empty() && name.end == line.len() => {
                let prefix = &line[name.clone()];
                let wanted = if prefix.starts_with(['$', ':']) { Vec::new() } else { self.dcmds(prefix) };
                (name.start, words_of(wanted))
            }
            Command::Dcmd { words, .. } => {
                let under = words.iter().position(|word| word.span.end == line.len());
                let index = under.unwrap_or(words.len());
                // the text before the cursor again, as if there were a word: roles count words
                let role = match under {
                    Some(index) => context::role(self.cx, line, stages, at, index),
                    None => self.role_of_next(line),
                };
                let start = under.and_then(|i| words.get(i)).map_or(line.len(), |word| word.span.start);
                self.word(line, stages, at, index, start, role)
            }
            Command::Assign { name } => (name.start, found(self.variables(&line[name.clone()]))),
            Command::File { name } => {
                let prefix = &line[name.clone()];
                let macros = self.macros(prefix);
                (name.start, found([files(prefix), macros, self.types(prefix)].concat()))
            }
            Command::Shell { text } => {
                let start = line.rfind([' ', '\t', '\'', '"', '=', '<', '>', '|']).map_or(0, |i| i + 1).max(text.start);
                (start, found(files(&line[start..])))
            }
            Command::Verb { .. } => nothing,
        }
    }

    /// The role of the word that would begin at the end of the line.
    fn role_of_next(&self, line: &str) -> Role {
        let text = format!("{line}x");
        let Some(statement) = scan(&text).pop() else { return Role::Text };
        let Some(Stage { command: Command::Dcmd { words, .. }, .. }) = statement.stages.last() else {
            return Role::Text;
        };
        context::role(self.cx, &text, &statement.stages, statement.stages.len() - 1, words.len().saturating_sub(1))
    }

    fn word(&self, line: &str, stages: &[Stage], at: usize, index: usize, start: usize, role: Role) -> (usize, Found) {
        // within quotes, the last word of several
        let inner = line[start..].rfind([' ', '\'', '"']).map_or(start, |i| start + i + 1);
        let word = &line[inner..];
        let names = match role {
            Role::Flag => return (start, words_of(self.flags(line, stages, at, word))),
            Role::Walker => return (inner, words_of(self.walkers(word))),
            Role::Topic => [self.dcmds(word), self.walkers(word)].concat(),
            Role::Cache => self.caches(word),
            Role::Module => self.modules(word),
            Role::File => files(word),
            Role::Macro => self.macros(word),
            Role::Variable => self.variables(word),
            Role::OneOf(values) => values.into_iter().filter(|v| v.starts_with(word)).collect(),
            Role::Member(ctype) => self.members(ctype, word),
            Role::Type { tagged, input } => {
                let quoted_tag = line[start..inner].contains("struct ") || line[start..inner].contains("union ");
                let mut names = self.members(input.filter(|_| !quoted_tag), word);
                if !word.is_empty() || input.is_none() || tagged {
                    names.extend(self.types(word));
                }
                names
            }
            Role::Expression => {
                let start = line[start..]
                    .rfind(|c: char| !(is_name(c) || "->[]".contains(c)))
                    .map_or(start, |i| start + i + line[start + i..].chars().next().map_or(1, char::len_utf8));
                let word = &line[start..];
                let input = context::input(self.cx, line, stages, at);
                let columns = input.columns.iter().filter(|c| c.starts_with(word)).map(|c| (*c).to_owned());
                return (start, found(columns.chain(self.members(input.ctype, word)).collect()));
            }
            Role::Address => return self.expression(line, start),
            Role::Text if index == 0 && word.is_empty() => Vec::new(),
            Role::Text => return self.expression(line, start),
        };
        (inner, found(names))
    }

    /// A symbol or variable at the end of an expression.
    fn expression(&self, line: &str, from: usize) -> (usize, Found) {
        let start = line[from..]
            .rfind(|c: char| !is_name(c))
            .map_or(from, |i| from + i + line[from + i..].chars().next().map_or(1, char::len_utf8));
        let word = &line[start..];
        if line[..start].ends_with('<') && !line[..start].ends_with("<<") {
            return (start, found(self.variables(word)));
        }
        (start, found(self.symbols(word)))
    }

    fn dcmds(&self, prefix: &str) -> Vec<String> {
        let names = self.cx.registry.all_dcmds().flat_map(|d| std::iter::once(d.name).chain(d.aliases.iter().copied()));
        let known = names.filter(|n| n.starts_with(prefix) && !n.starts_with(['$', ':'])).map(str::to_owned);
        known.chain(self.macros(prefix)).collect()
    }

    fn macros(&self, prefix: &str) -> Vec<String> {
        self.cx.env.macros.borrow().keys().filter(|n| n.starts_with(prefix)).cloned().collect()
    }

    fn variables(&self, prefix: &str) -> Vec<String> {
        let mut names: Vec<String> = self.cx.env.vars.borrow().keys().cloned().collect();
        names.extend(self.cx.registers().into_iter().flat_map(|regs| regs.iter().map(|(name, _)| name.to_owned())));
        names.retain(|n| n.starts_with(prefix));
        names
    }

    fn flags(&self, line: &str, stages: &[Stage], at: usize, prefix: &str) -> Vec<String> {
        let Some(Stage { command: Command::Dcmd { name, .. }, .. }) = stages.get(at) else { return Vec::new() };
        let Some(entry) = context::dcmd(self.cx, &line[name.clone()]) else { return Vec::new() };
        let command = (entry.command)();
        let flags = command.get_arguments().filter_map(|a| {
            let short = a.get_short().map(|c| format!("-{c}"));
            short.or_else(|| a.get_long().map(|name| format!("--{name}")))
        });
        flags.filter(|f| f.starts_with(prefix)).collect()
    }

    fn walkers(&self, prefix: &str) -> Vec<String> {
        let names = self.cx.registry.all_walkers().map(|w| w.name).filter(|n| n.starts_with(prefix)).map(str::to_owned);
        names.chain(self.caches(prefix)).collect()
    }

    /// Names that the dump brings along: of its slab caches.
    fn caches(&self, prefix: &str) -> Vec<String> {
        // a dump whose caches cannot be listed completes fewer names
        let all = self.cx.registry.dynamic.iter().flat_map(|family| (family.all)(self.cx.session).unwrap_or_default());
        all.map(|w| w.name).filter(|n| n.starts_with(prefix)).collect()
    }

    fn modules(&self, prefix: &str) -> Vec<String> {
        let loaded = self.cx.symbols.modules(self.cx.session).iter().map(|m| m.name.to_string());
        std::iter::once("vmlinux".to_owned()).chain(loaded).filter(|n| n.starts_with(prefix)).collect()
    }

    fn symbols(&self, prefix: &str) -> Vec<String> {
        if prefix.is_empty() {
            return Vec::new();
        }
        let modules = self.cx.symbols.modules(self.cx.session);
        if let Some((module, name)) = prefix.split_once('`') {
            let table = match module {
                "vmlinux" | "kernel" => self.cx.symbols.kernel().map(|k| k.by_prefix(name, LIMIT)),
                _ => modules
                    .iter()
                    .find(|m| &*m.name == module)
                    .and_then(|m| Some(m.symbols.as_ref()?.by_prefix(name, LIMIT))),
            };
            return table.into_iter().flatten().map(|name| format!("{module}`{name}")).collect();
        }
        let mut names: Vec<String> = self.cx.symbols.private().into_iter().map(|s| s.name).collect();
        names.retain(|n| n.starts_with(prefix));
        names.extend(self.cx.symbols.kernel().map(|k| k.by_prefix(prefix, LIMIT)).unwrap_or_default());
        for module in modules {
            if module.name.starts_with(prefix) {
                names.push(format!("{}`", module.name));
            }
            if names.len() < LIMIT
                && let Some(table) = &module.symbols
            {
                names.extend(table.by_prefix(prefix, LIMIT - names.len()));
            }
        }
        names
    }

    fn types(&self, prefix: &str) -> Vec<String> {
        let mut names: Vec<String> = ["struct ", "union ", "enum "].map(str::to_owned).to_vec();
        if prefix.is_empty() {
            return names;
        }
        names.retain(|n| n.starts_with(prefix));
        self.cx.types.each_name(&mut |_: Tag, name| {
            if name.starts_with(prefix) {
                names.push(name.to_owned());
            }
            names.len() < LIMIT
        });
        names
    }

    /// Members along a path: `d_parent->d_na` completes members of what `d_parent` points at.
    fn members(&self, ctype: Option<TypeId>, word: &str) -> Vec<String> {
        let Some(ctype) = ctype else { return Vec::new() };
        let cut = word.rfind(['.', '>']).map_or(0, |i| i + 1);
        let (path, last) = word.split_at(cut);
        let Some(ctype) = along(self.cx, ctype, path) else { return Vec::new() };
        let members = self.cx.types.members(pointee(self.cx, ctype));
        let names = members.iter().filter(|(name, _)| !name.is_empty() && name.starts_with(last));
        names.map(|(name, _)| format!("{path}{name}")).collect()
    }
}

fn found(names: Vec<String>) -> Found {
    Found { names, end: "" }
}

fn words_of(names: Vec<String>) -> Found {
    Found { names, end: " " }
}

/// Files and directories that begin so.
fn files(prefix: &str) -> Vec<String> {
    let (folder, last) = prefix.split_at(prefix.rfind('/').map_or(0, |i| i + 1));
    let place = match (folder.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ if folder.is_empty() => ".".into(),
        _ => folder.into(),
    };
    let entries = std::fs::read_dir(place).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let shown = name.starts_with(last) && (last.starts_with('.') || !name.starts_with('.'));
        let slash = if entry.path().is_dir() { "/" } else { "" };
        shown.then(|| format!("{folder}{name}{slash}"))
    });
    names.take(LIMIT).collect()
}

//! Completion: dcmds and their flags, walkers, symbols, types, columns, and members along paths, by what stands before
//! the cursor.
//!
//! ```text
//! > ::wal                                ::walk
//! > ::walk kmalloc-6                     kmalloc-64
//! > ::print struct dentry d_name.l       d_name.len
//! > ::walk dentry | ::print d_sb->s_     the members of struct super_block
//! > ::ps | ::sort na                     name
//! ```

use engine::{Cx, DcmdEntry, Tag, Type, TypeId, lang::is_incomplete};

/// More candidates than this help nobody.
const LIMIT: usize = 500;

/// Completes one session's names.
pub struct Completer<'a> {
    cx: &'a Cx<'a>,
}

/// What is known of the items that a stage is given.
#[derive(Default)]
struct Input {
    ctype: Option<TypeId>,
    columns: Vec<&'static str>,
}

impl<'a> Completer<'a> {
    /// A completer over the session's names.
    pub fn new(cx: &'a Cx<'a>) -> Self {
        Completer { cx }
    }

    /// Where the word under the cursor starts in `line` (the text before the cursor), and what it may become.
    pub fn complete(&self, line: &str) -> (usize, Vec<String>) {
        let stages = stages(line);
        let Some((&stage, before)) = stages.split_last() else { return (0, Vec::new()) };
        let word_at = |separators: &[char]| line.rfind(separators).map_or(0, |i| i + 1);
        let name_at = word_at(&[' ', '\t', '\n', '|', ';', '!', '(', '=', '+', '-', '*', '&', '\'', '"', ',']);
        let Some((address, command)) = stage.split_once("::") else {
            return (name_at, self.symbols(&line[name_at..]));
        };
        if !command.contains(char::is_whitespace) {
            return (line.len() - command.len(), self.dcmds(command));
        }
        let start = word_at(&[' ', '\t', '\n', '\'', '"']);
        let word = &line[start..];
        let mut words: Vec<&str> = command.split_whitespace().collect();
        if word.is_empty() {
            words.push("");
        }
        let Some((&dcmd, arguments)) = words.split_first() else { return (start, Vec::new()) };
        if word.starts_with('-') {
            return (start, self.flags(dcmd, word));
        }
        let arguments: Vec<&str> = arguments.iter().filter(|w| !w.starts_with('-')).copied().collect();
        let found = match dcmd {
            "walk" if arguments.len() == 1 => self.walkers(word),
            "help" | "dcmds" | "walkers" => [self.dcmds(word), self.walkers(word)].concat(),
            "print" | "printf" | "sizeof" | "offsetof" | "list" | "array" | "enum" => {
                let input = self.input(address, before);
                self.paths(&arguments, &input, word)
            }
            "where" | "sort" | "uniq" | "sum" | "quantize" => {
                let input = self.input(address, before);
                let columns = input.columns.iter().filter(|c| c.starts_with(word)).map(|c| (*c).to_owned());
                columns.chain(self.members(input.ctype, word)).collect()
            }
            _ => return (name_at, self.symbols(&line[name_at..])),
        };
        (start, sorted(found))
    }

    /// What a stage is given: by its own address, or else by the stages before it.
    fn input(&self, address: &str, before: &[&str]) -> Input {
        if !address.trim().is_empty() {
            return Input { ctype: self.cx.type_of_global(address.trim()), ..Input::default() };
        }
        for stage in before.iter().rev() {
            let mut words = stage.split_once("::").map_or("", |(_, command)| command).split_whitespace();
            match words.next() {
                Some("walk") => return Input { ctype: words.next().and_then(|w| self.item(w)), ..Input::default() },
                // these pass on what they are given
                Some("head" | "tail" | "where" | "grep" | "sort") => {}
                Some(dcmd) => {
                    let rows = self.cx.registry.dcmd(dcmd).map(|d| d.rows).unwrap_or_default();
                    let columns = rows.iter().flat_map(|schema| schema.columns).map(|c| c.name).collect();
                    return Input { columns, ..Input::default() };
                }
                None => break,
            }
        }
        Input::default()
    }

    /// The type of what a walker yields.
    fn item(&self, walker: &str) -> Option<TypeId> {
        if let Some(walker) = self.cx.registry.walker(walker) {
            return self.cx.types.parse(walker.item).ok();
        }
        let mut families = self.cx.registry.dynamic.iter();
        families.find_map(|family| (family.find)(self.cx.session, walker).ok()??.ctype)
    }

    /// The first word may be a type or, if the type is known, a member; later ones are members.
    fn paths(&self, arguments: &[&str], input: &Input, word: &str) -> Vec<String> {
        let tagged = arguments.first().is_some_and(|w| matches!(*w, "struct" | "union" | "enum"));
        let spelled = arguments.get(..1 + usize::from(tagged)).unwrap_or_default();
        if arguments.len() > spelled.len() && !spelled.is_empty() {
            let named = self.cx.types.parse(&spelled.join(" ")).ok();
            return self.members(named.or(input.ctype), word);
        }
        let mut found = self.members(input.ctype.filter(|_| !tagged), word);
        if !word.is_empty() || input.ctype.is_none() {
            found.extend(self.types(word));
        }
        found
    }

    fn dcmds(&self, prefix: &str) -> Vec<String> {
        let names = |d: &'static DcmdEntry| std::iter::once(d.name).chain(d.aliases.iter().copied());
        let all = self.cx.registry.all_dcmds().flat_map(names);
        sorted(all.filter(|n| n.starts_with(prefix) && !n.starts_with('$')).map(str::to_owned).collect())
    }

    fn flags(&self, dcmd: &str, prefix: &str) -> Vec<String> {
        let Some(entry) = self.cx.registry.dcmd(dcmd) else { return Vec::new() };
        let command = (entry.command)();
        let flags = command.get_arguments().filter_map(|a| {
            let short = a.get_short().map(|c| format!("-{c}"));
            short.or_else(|| a.get_long().map(|name| format!("--{name}")))
        });
        sorted(flags.filter(|f| f.starts_with(prefix)).collect())
    }

    fn walkers(&self, prefix: &str) -> Vec<String> {
        let mut names: Vec<String> = self.cx.registry.all_walkers().map(|w| w.name.to_owned()).collect();
        for family in self.cx.registry.dynamic {
            // a dump whose caches cannot be listed completes fewer names
            names.extend((family.all)(self.cx.session).unwrap_or_default().into_iter().map(|w| w.name));
        }
        names.retain(|n| n.starts_with(prefix));
        sorted(names)
    }

    fn symbols(&self, prefix: &str) -> Vec<String> {
        if prefix.is_empty() {
            return Vec::new();
        }
        let mut names = self.cx.symbols.kernel().map(|k| k.by_prefix(prefix, LIMIT)).unwrap_or_default();
        for module in self.cx.symbols.modules(self.cx.session) {
            if names.len() < LIMIT
                && let Some(table) = &module.symbols
            {
                names.extend(table.by_prefix(prefix, LIMIT - names.len()));
            }
        }
        sorted(names)
    }

    fn types(&self, prefix: &str) -> Vec<String> {
        if prefix.is_empty() {
            return vec!["struct ".into(), "union ".into(), "enum ".into()];
        }
        let mut names = Vec::new();
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
        let Some(mut ctype) = ctype else { return Vec::new() };
        let cut = word.rfind(['.', '>']).map_or(0, |i| i + 1);
        let (path, last) = word.split_at(cut);
        for hop in path.split(['.', '>']).map(|hop| hop.trim_end_matches('-')).filter(|hop| !hop.is_empty()) {
            let name = hop.split('[').next().unwrap_or(hop);
            let Some(place) = self.cx.types.member(self.pointee(ctype), name) else { return Vec::new() };
            ctype = place.ty;
        }
        let members = self.cx.types.members(self.pointee(ctype));
        let names = members.iter().filter(|(name, _)| !name.is_empty() && name.starts_with(last));
        names.map(|(name, _)| format!("{path}{name}")).collect()
    }

    fn pointee(&self, ctype: TypeId) -> TypeId {
        match self.cx.shape(ctype).as_deref() {
            Some(Type::Pointer { to } | Type::Array { elem: to, .. }) => *to,
            _ => ctype,
        }
    }
}

/// The stages of the last statement, the one under the cursor last. Quoted text is none.
fn stages(line: &str) -> Vec<&str> {
    let mut stages = Vec::new();
    let (mut start, mut quote) = (0, None);
    for (i, c) in line.char_indices() {
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            (None, '|') => stages.push(&line[std::mem::replace(&mut start, i + 1)..i]),
            (None, ';' | '\n') => {
                // a line that ends in a pipe goes on in the next
                let open = c == '\n' && is_incomplete(line.get(..i).unwrap_or_default());
                if !open {
                    stages.clear();
                }
                start = i + 1;
            }
            _ => {}
        }
    }
    stages.push(&line[start..]);
    stages
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names.dedup();
    names.truncate(LIMIT);
    names
}

#[cfg(test)]
mod tests {
    use super::stages;

    #[test]
    fn stages_are_those_of_the_statement_under_the_cursor() {
        assert_eq!(stages("::walk dentry | ::pr"), ["::walk dentry ", " ::pr"]);
        assert_eq!(stages("a/X; ::ps | ::sort na"), [" ::ps ", " ::sort na"]);
        assert_eq!(
            stages("::walk task |\n::where comm == \"a|b;c\" |"),
            ["::walk task ", "::where comm == \"a|b;c\" ", ""]
        );
    }
}

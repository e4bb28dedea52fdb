//! Completion: dcmds, walkers, symbols, type names and members, by what stands before the cursor.

use engine::{Cx, Tag, Type};

/// More candidates than this help nobody.
const LIMIT: usize = 500;

/// Completes one session's names.
pub struct Completer<'a> {
    cx: &'a Cx<'a>,
}

impl<'a> Completer<'a> {
    /// A completer over the session's names.
    pub fn new(cx: &'a Cx<'a>) -> Self {
        Completer { cx }
    }

    /// Where the word under the cursor starts in `line` (the text before the cursor), and what it may become.
    pub fn complete(&self, line: &str) -> (usize, Vec<String>) {
        let stage_start = line.rfind(['|', ';', '!']).map_or(0, |i| i + 1);
        let stage = &line[stage_start..];
        let start =
            line.rfind([' ', '\t', '|', ';', '!', '(', '=', '+', '-', '*', '&', '\'', '"']).map_or(0, |i| i + 1);
        let word = &line[start..];
        if let Some(colons) = stage.rfind("::") {
            let name_start = stage_start + colons + 2;
            let after = &line[name_start..];
            if !after.contains(char::is_whitespace) {
                return (name_start, self.dcmds(after));
            }
            let mut words = after.split_whitespace();
            let dcmd = words.next().unwrap_or_default();
            let argument: Vec<&str> = words.filter(|w| !w.starts_with('-')).collect();
            let nth = if word.is_empty() { argument.len() } else { argument.len().saturating_sub(1) };
            return (start, self.arguments(dcmd, &argument, nth, word));
        }
        (start, self.symbols(word))
    }

    fn arguments(&self, dcmd: &str, argument: &[&str], nth: usize, word: &str) -> Vec<String> {
        match (dcmd, nth) {
            ("walk", 0) => self.walkers(word),
            ("help", _) => [self.dcmds(word), self.walkers(word)].concat(),
            ("print" | "sizeof" | "offsetof" | "list" | "array" | "printf" | "enum", _) => {
                let tagged = argument.first().is_some_and(|w| matches!(*w, "struct" | "union" | "enum"));
                match nth {
                    0 => self.types(word),
                    1 if tagged => self.types(word),
                    _ => {
                        let spelled = argument.get(..1 + usize::from(tagged)).unwrap_or_default().join(" ");
                        self.members(&spelled, word)
                    }
                }
            }
            _ => self.symbols(word),
        }
    }

    fn dcmds(&self, prefix: &str) -> Vec<String> {
        let all = self.cx.registry.all_dcmds().flat_map(|d| std::iter::once(d.name).chain(d.aliases.iter().copied()));
        sorted(all.filter(|n| n.starts_with(prefix) && !n.starts_with('$')).map(str::to_owned).collect())
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
        sorted(names)
    }

    /// Members along a path: `d_parent->d_na` completes members of what `d_parent` points at.
    fn members(&self, spelled: &str, word: &str) -> Vec<String> {
        let cut = word.rfind(['.', '>']).map_or(0, |i| i + 1);
        let (path, last) = word.split_at(cut);
        let Ok(mut ty) = self.cx.types.parse(spelled) else { return Vec::new() };
        for hop in path.split(['.', '>']).map(|hop| hop.trim_end_matches('-')).filter(|hop| !hop.is_empty()) {
            let name = hop.split('[').next().unwrap_or(hop);
            let Some(place) = self.cx.types.member(self.pointee(ty), name) else { return Vec::new() };
            ty = place.ty;
        }
        let members = self.cx.types.members(self.pointee(ty));
        let names = members.iter().filter(|(name, _)| name.starts_with(last));
        sorted(names.map(|(name, _)| format!("{path}{name}")).collect())
    }

    fn pointee(&self, ty: engine::TypeId) -> engine::TypeId {
        match self.cx.shape(ty).as_deref() {
            Some(Type::Pointer { to } | Type::Array { elem: to, .. }) => *to,
            _ => ty,
        }
    }
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names.dedup();
    names.truncate(LIMIT);
    names
}

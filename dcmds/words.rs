//! Words that several commands read alike: types, which may be two words, and names of variables.

use engine::{Cx, Error, IntoRow, Item, Object, Out, Result, TypeId, debuginfo::Types, names};

/// The type at the start of `words` (`struct foo`, `foo_t`, `'struct foo *'`), its spelling, and the words behind it.
pub fn take_type<'w>(cx: &Cx<'_>, words: &'w [String]) -> Result<(TypeId, String, &'w [String])> {
    let (spelling, rest) = split_type(words)?;
    Ok((find_type(cx, &spelling)?, spelling, rest))
}

/// As [`take_type`], but only the words: `struct`, `union` and `enum` take the next one along.
pub fn split_type(words: &[String]) -> Result<(String, &[String])> {
    match words {
        [] => Err(Error::Usage("a type is missing".into()).hint("`struct foo`, `foo_t` or `'struct foo *'`")),
        [tag, name, rest @ ..] if matches!(tag.as_str(), "struct" | "union" | "enum") => {
            Ok((format!("{tag} {name}"), rest))
        }
        [one, rest @ ..] => Ok((one.clone(), rest)),
    }
}

/// A type by its spelling; if there is none, the error names its neighbours.
pub fn find_type(cx: &Cx<'_>, spelling: &str) -> Result<TypeId> {
    // a module's types count too
    if let Ok(ctype) = cx.ctype(spelling) {
        return Ok(ctype);
    }
    cx.types.parse(spelling).map_err(|why| {
        if cx.types.is_empty() {
            return Error::Unavailable("no C types are known: neither BTF nor DWARF was found".into())
                .hint("name a vmlinux with debug information on the command line");
        }
        let word = spelling.trim_start_matches("struct ").trim_start_matches("union ").trim_start_matches("enum ");
        match similar(&cx.types, word.trim()) {
            Some(hint) => Error::NoType(spelling.to_owned()).hint(hint),
            None if why.starts_with("no type") => Error::NoType(spelling.to_owned()),
            None => Error::Usage(why),
        }
    })
}

/// The nearest type names. There are ten thousands, so only those that begin alike are compared.
fn similar(types: &Types, word: &str) -> Option<String> {
    let first = word.chars().next()?;
    let mut near = Vec::new();
    types.each_name(&mut |_, name| {
        if name.starts_with(first) && name.len().abs_diff(word.len()) <= 3 {
            near.push(name.to_owned());
        }
        true
    });
    near.sort();
    near.dedup();
    names::did_you_mean(word, near.iter().map(String::as_str))
}

/// Binds a variable to an object's address, while what follows in the pipe looks at it.
pub fn bind(cx: &Cx<'_>, var: Option<&str>, object: Object) {
    if let Some(var) = var {
        cx.env.vars.borrow_mut().insert(var.to_owned(), object.addr);
    }
}

/// Emits a row whose dot is not one of its cells.
pub fn row_about(out: &mut Out<'_>, row: impl IntoRow, subject: Object) -> Result<()> {
    let mut row = row.into_row();
    row.subject = Some(subject);
    out.item(Item::Row(row))
}

/// Refuses a name that no expression could read back.
pub fn check_variable(name: &str) -> Result<()> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
    match name.chars().find(|c| !good(*c)) {
        None if !name.is_empty() => Ok(()),
        None => Err(Error::Usage("a variable needs a name".into())),
        Some(c) => Err(Error::Usage(format!("`{c}` may not be used in a variable name"))),
    }
}

/// CPUs as the kernel writes sets of them: `0-3,8`.
pub fn cpu_list(cpus: &[u32]) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for cpu in cpus {
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*cpu) => *last = *cpu,
            _ => runs.push((*cpu, *cpu)),
        }
    }
    let run = |(first, last): &(u32, u32)| if first == last { format!("{first}") } else { format!("{first}-{last}") };
    runs.iter().map(run).collect::<Vec<_>>().join(",")
}

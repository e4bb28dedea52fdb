//! "Did you mean": the nearest names to one that does not exist.

use crate::{
    cx::Cx,
    error::Error,
    lang::{ast::Span, eval::EvalError},
};

/// The names nearest to `name`, best first, at most three, none that is far off.
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let limit = match name.len() {
        0..=3 => 1,
        4..=7 => 2,
        _ => 3,
    };
    let mut scored: Vec<(usize, &str)> = candidates
        .filter_map(|c| {
            let far = distance(name, c);
            let inside = name.len() >= 4 && c.contains(name);
            (far <= limit || inside).then_some((far, c))
        })
        .collect();
    scored.sort();
    scored.dedup();
    scored.into_iter().take(3).map(|(_, c)| c).collect()
}

/// A hint made of the nearest names, if there are any.
pub fn did_you_mean<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<String> {
    let near = nearest(name, candidates);
    (!near.is_empty()).then(|| format!("did you mean `{}`?", near.join("`, `")))
}

/// Edits (insert, delete, replace, swap neighbours) between two words.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    if a.len().abs_diff(b.len()) > 3 {
        return usize::MAX;
    }
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut best = replace.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best = best.min(rows[i - 2][j - 2] + 1);
                }
                best
            };
        }
    }
    rows[a.len()][b.len()]
}

/// An expression's error, with the nearest symbols if one was unknown.
pub fn explain(cx: &Cx<'_>, error: EvalError) -> Error {
    let hint = match &error {
        EvalError::UnknownSymbol { name, .. } => near_symbols(cx, name),
        _ => None,
    };
    match (Error::from(error), hint) {
        (Error::Value { span, message, unreadable, .. }, Some(hint)) => {
            Error::Value { span, message, hint: Some(hint), unreadable }
        }
        (error, _) => error,
    }
}

/// Symbols are too many to compare with all: those that begin alike are.
fn near_symbols(cx: &Cx<'_>, name: &str) -> Option<String> {
    const ENOUGH: usize = 20_000;
    let head: String = name.chars().take((name.chars().count() / 2).clamp(2, 5)).collect();
    let alike = cx.symbols.kernel()?.by_prefix(&head, ENOUGH);
    did_you_mean(name, alike.iter().map(String::as_str))
}

/// The error for a dcmd that does not exist, with the nearest names or the walker of that name.
pub fn unknown_dcmd(cx: &Cx<'_>, name: &str, span: &Span) -> Error {
    if let Some(refusal) = crate::refused::refusal(name) {
        let sigil = if name.starts_with(['$', ':']) { "" } else { "::" };
        let message = format!("`{sigil}{name}` is refused: {}", refusal.why);
        return Error::Value { span: span.clone(), message, hint: Some(refusal.instead.into()), unreadable: None };
    }
    let all = cx.registry.all_dcmds().flat_map(|d| std::iter::once(d.name).chain(d.aliases.iter().copied()));
    let macros = cx.env.macros.borrow();
    let all = all.chain(macros.keys().map(String::as_str));
    let hint = if cx.registry.walker(name).is_some() {
        format!("`{name}` is a walker: `::walk {name}`")
    } else {
        did_you_mean(name, all).unwrap_or_else(|| "`::dcmds` lists them all, `::dcmds WORD` searches".into())
    };
    Error::Syntax { span: span.clone(), message: format!("no dcmd named `{name}`"), hint: Some(hint) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_found_and_strangers_are_not() {
        let names = ["kmem_cache", "kmem_log", "kmastat", "print", "ps"];
        assert_eq!(nearest("kmem_lgo", names.into_iter()), ["kmem_log"]);
        assert_eq!(nearest("pritn", names.into_iter()), ["print"]);
        assert!(nearest("zfs", names.into_iter()).is_empty());
    }
}

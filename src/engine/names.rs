//! "Did you mean": the nearest names to one that does not exist.

use crate::{cx::Cx, error::Error, lang::ast::Span};

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

/// The error for a dcmd that does not exist, with the nearest names or the walker of that name.
pub fn unknown_dcmd(cx: &Cx<'_>, name: &str, span: &Span) -> Error {
    let all = cx.registry.all_dcmds().flat_map(|d| std::iter::once(d.name).chain(d.aliases.iter().copied()));
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

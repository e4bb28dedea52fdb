//! A slab that two caches claim is one finding: the list that it hangs on and the owner that its struct page names
//! disagree, and so do what both caches count and what they have.

use super::{Finding, Kind};

/// Whether a finding is about which slabs a cache has, and so perhaps one of several by one cause.
pub fn is_of_slabs(finding: &Finding) -> bool {
    finding.kind == Kind::Node
}

/// Puts what several caches say of one slab under the finding that names it, or else under that of one of both caches.
pub fn gather(findings: Vec<Finding>) -> Vec<Finding> {
    let (mut out, rest): (Vec<Finding>, Vec<Finding>) = findings.into_iter().partition(names_slab);
    for finding in rest {
        match out.iter_mut().find(|cause| follows(cause, &finding)) {
            Some(cause) => cause.follows.push(finding),
            None => out.push(finding),
        }
    }
    for finding in out.iter_mut().filter(|finding| names_slab(finding)) {
        finding.verdict += match finding.follows.first() {
            // who owns it is counted when a slab is made
            Some(first) if first.other.is_some() => ": its owner was written over in its struct page",
            Some(_) => ": it was put on the wrong list",
            None => ": put on the wrong list, or its owner written over",
        };
    }
    out
}

/// A slab on a list that is not its owner's.
fn names_slab(finding: &Finding) -> bool {
    finding.slab != 0
}

fn follows(cause: &Finding, finding: &Finding) -> bool {
    let Some(other) = cause.other else { return false };
    match finding.other {
        // what one cache lacks the other has too many
        Some(another) => {
            (finding.cache, another) == (other, cause.cache)
                || names_slab(cause) && (finding.cache, another) == (cause.cache, other)
        }
        // what was taken off its owner's list is missing there
        None => names_slab(cause) && finding.cache == other,
    }
}

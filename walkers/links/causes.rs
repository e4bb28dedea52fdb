//! One cause, one row: all that leads to one thing that is gone follows from that it was given back too early.

use super::{Finding, Kind, World};
use engine::prelude::*;
use std::collections::HashMap;

/// Damage, and what else is wrong by the same cause.
#[derive(Clone, Debug)]
pub struct Cause {
    /// the damage
    pub finding: Finding,
    /// what follows from it
    pub follows: Vec<Finding>,
}

/// Puts findings, sorted by their kind, under the first that is about the same thing.
pub fn gather(world: &World<'_>, findings: Vec<Finding>) -> Result<Vec<Cause>> {
    let mut out: Vec<Cause> = Vec::new();
    let mut told: HashMap<u64, usize> = HashMap::new();
    for finding in findings {
        let gone = gone(world, &finding)?;
        match gone.and_then(|gone| out.get_mut(*told.get(&gone)?)) {
            Some(cause) => cause.follows.push(finding),
            None => {
                told.extend(gone.map(|gone| (gone, out.len())));
                out.push(Cause { finding, follows: Vec::new() });
            }
        }
    }
    Ok(out)
}

/// What a finding says is gone: a freed object, or else the place that the word leads to.
fn gone(world: &World<'_>, finding: &Finding) -> Result<Option<u64>> {
    Ok(match (finding.freed, finding.kind) {
        (Some(freed), _) => Some(freed),
        (None, Kind::Freed | Kind::Dangling) => world.read::<1>(finding.at)?.map(|[to]| to),
        _ => None,
    })
}

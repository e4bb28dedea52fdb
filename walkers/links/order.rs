//! Red-black trees whose nodes are out of order.
//!
//! Nothing says what a tree is sorted by. But all trees of one kind (the same member of objects of one cache) are sorted
//! by the same thing, and mostly that is a member of the object. So a tree is out of order if no member of its objects
//! is in order throughout, and one is in all but a few of them, and that one is in order in all other trees of the kind;
//! of a tree that has none beside it all but very few must be, and there must be many.
//!
//! Trees sorted by something else than a member, such as what a pointer leads to, are not judged.

use super::{
    Finding, Kind, World,
    places::Scalar,
    trees::{self, Suspicion},
};
use engine::prelude::*;
use std::collections::{BTreeMap, HashSet};

/// A tree, by its top node, and where in the objects of which cache its nodes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Top {
    /// number of the cache
    pub cache: usize,
    /// where the nodes are in its objects
    pub member: u64,
    /// the node
    pub at: u64,
}

/// Nodes of one kind that are looked at; more say nothing new.
const MAX_NODES: usize = 1 << 18;
/// Depth of a tree.
const MAX_DEPTH: usize = 128;
/// Smaller trees say nothing of their order.
const MIN_NODES: usize = 8;
/// One that is alone must have so many.
const MIN_ALONE: usize = 32;

/// The keys of a tree: for each member its values, in the order of the tree.
struct Keys {
    top: u64,
    objects: Vec<u64>,
    values: Vec<Vec<i128>>,
}

impl Keys {
    /// How many nodes would have to leave for a member to be in order. `None` if it says nothing: it hardly differs.
    fn misplaced(&self, member: usize) -> Option<Vec<usize>> {
        let values = self.values.get(member)?;
        let distinct: HashSet<i128> = values.iter().copied().collect();
        (distinct.len() * 2 > values.len()).then(|| outsiders(values))
    }
}

/// Places in a sequence that are not on one of its longest parts in order.
fn outsiders(values: &[i128]) -> Vec<usize> {
    // for each length the place at which a part of that length ends with the lowest value, and what comes before each
    let (mut ends, mut before) = (Vec::<usize>::new(), Vec::with_capacity(values.len()));
    for (place, value) in values.iter().enumerate() {
        let length = ends.partition_point(|end| values.get(*end).is_some_and(|last| last <= value));
        before.push(length.checked_sub(1).and_then(|length| ends.get(length)).copied());
        match ends.get_mut(length) {
            Some(end) => *end = place,
            None => ends.push(place),
        }
    }
    let mut inside = vec![false; values.len()];
    let mut at = ends.last().copied();
    while let Some(place) = at {
        inside.get_mut(place).into_iter().for_each(|inside| *inside = true);
        at = before.get(place).copied().flatten();
    }
    (0..values.len()).filter(|place| inside.get(*place) == Some(&false)).collect()
}

/// What is out of order in these trees.
pub fn judge(world: &World<'_>, mut tops: Vec<Top>, scalars: impl Fn(usize) -> Vec<Scalar>) -> Result<Vec<Suspicion>> {
    tops.sort_unstable();
    tops.dedup();
    let mut kinds: BTreeMap<(usize, u64), Vec<u64>> = BTreeMap::new();
    tops.iter().for_each(|top| kinds.entry((top.cache, top.member)).or_default().push(top.at));
    let mut out = Vec::new();
    for ((cache, member), tops) in kinds {
        let scalars = scalars(cache);
        let (mut trees, mut nodes) = (Vec::new(), 0);
        for top in tops {
            world.session.interrupt.check()?;
            if let Some(tree) = keys(world, cache, member, top, &scalars)?
                && nodes < MAX_NODES
            {
                nodes += tree.objects.len();
                trees.push(tree);
            }
        }
        out.extend(of_kind(&trees, &scalars));
    }
    Ok(out)
}

/// The trees of one kind held against each other.
fn of_kind(trees: &[Keys], scalars: &[Scalar]) -> Vec<Suspicion> {
    // for each tree and member: who is out of place
    let misplaced: Vec<Vec<Option<Vec<usize>>>> =
        trees.iter().map(|tree| (0..scalars.len()).map(|member| tree.misplaced(member)).collect()).collect();
    let is_sorted = |tree: usize, member: usize| {
        let wrong = misplaced.get(tree).and_then(|wrong| wrong.get(member)?.as_ref());
        wrong.is_some_and(Vec::is_empty)
    };
    let mut out = Vec::new();
    for (number, tree) in trees.iter().enumerate() {
        if (0..scalars.len()).any(|member| is_sorted(number, member)) {
            continue;
        }
        let others = || (0..trees.len()).filter(|other| *other != number);
        let count = tree.objects.len();
        let wrong = misplaced.get(number).into_iter().flatten().enumerate().filter_map(|(member, wrong)| {
            let wrong = wrong.as_ref()?;
            let witnesses = others().filter(|other| is_sorted(*other, member)).count();
            let allowed = match others().count() {
                0 if count < MIN_ALONE => 0,
                0 => (count / 64).max(1),
                // those that are damaged as well say nothing
                all if witnesses * 2 > all => (count / 5).max(1),
                _ => 0,
            };
            (wrong.len() <= allowed).then_some((member, wrong, witnesses))
        });
        let Some((member, wrong, witnesses)) =
            wrong.min_by_key(|(_, wrong, witnesses)| (wrong.len(), usize::MAX - witnesses))
        else {
            continue;
        };
        let Some(scalar) = scalars.get(member) else { continue };
        out.extend(wrong.iter().filter_map(|place| suspicion(tree, member, scalar, *place, wrong.len(), witnesses)));
    }
    out
}

fn suspicion(
    tree: &Keys,
    member: usize,
    scalar: &Scalar,
    place: usize,
    wrong: usize,
    witnesses: usize,
) -> Option<Suspicion> {
    let values = tree.values.get(member)?;
    let value = values.get(place)?;
    let number = |place: Option<usize>| place.and_then(|place| values.get(place)).map(|value| scalar.text(*value));
    let between = match (number(place.checked_sub(1)), number(place.checked_add(1))) {
        (Some(before), Some(after)) => format!("between {before} and {after}"),
        (Some(before), None) => format!("behind {before}"),
        (None, Some(after)) => format!("in front of {after}"),
        (None, None) => return None,
    };
    let others = match witnesses {
        0 => String::new(),
        1 => ", and so is another tree of these".into(),
        count => format!(", and so are {count} other trees of these"),
    };
    let verdict = format!(
        "out of order: {} is {} {between}; the tree's other {} nodes are sorted by it{others}",
        scalar.name,
        scalar.text(*value),
        values.len() - wrong,
    );
    let at = tree.objects.get(place)?.wrapping_add(scalar.offset);
    Some(Suspicion { top: tree.top, finding: Finding { kind: Kind::Tree, at, verdict, freed: None } })
}

/// The members of a tree's objects. `None` if it is too small, damaged otherwise, or its nodes are in objects of
/// different kinds.
fn keys(world: &World<'_>, cache: usize, member: u64, top: u64, scalars: &[Scalar]) -> Result<Option<Keys>> {
    let Some(objects) = objects(world, cache, member, top)? else { return Ok(None) };
    if objects.len() < MIN_NODES {
        return Ok(None);
    }
    let mut values = vec![Vec::with_capacity(objects.len()); scalars.len()];
    let len = scalars.iter().map(|scalar| scalar.offset + scalar.size).max().unwrap_or(0);
    for object in &objects {
        let Some(bytes) = world.memory(*object, len)? else { return Ok(None) };
        for (column, scalar) in values.iter_mut().zip(scalars) {
            column.push(scalar.of(&bytes));
        }
    }
    Ok(Some(Keys { top, objects, values }))
}

/// The objects of a tree in its order.
fn objects(world: &World<'_>, cache: usize, member: u64, top: u64) -> Result<Option<Vec<u64>>> {
    let (mut found, mut open, mut at, mut parent) = (Vec::new(), Vec::new(), top, 0);
    loop {
        while at != 0 {
            let object = at.wrapping_sub(member);
            let is_one =
                crate::slab::find(world.session, object)?.is_some_and(|f| f.cache == cache && f.object == object);
            let Some([up, right, left]) = world.read::<3>(at)?.filter(|_| is_one && open.len() < MAX_DEPTH) else {
                return Ok(None);
            };
            // trees::node tells of these
            if up & !3 != parent || (left == right && left != 0) {
                return Ok(None);
            }
            open.push((at, right));
            (at, parent) = (left, at);
        }
        let Some((node, right)) = open.pop() else { return Ok(Some(found)) };
        if found.len() >= MAX_NODES {
            return Ok(None);
        }
        found.push(node.wrapping_sub(member));
        (at, parent) = (right, node);
    }
}

/// Whether a node is the top of a tree.
pub fn is_top(world: &World<'_>, at: u64, [parent, right, left]: [u64; 3]) -> Result<bool> {
    Ok(parent & !3 == 0 && (right != 0 || left != 0) && trees::has_child(world, at)?)
}

#[cfg(test)]
mod tests {
    use super::outsiders;

    #[test]
    fn one_that_is_out_of_place_is_told_from_the_rest() {
        assert!(outsiders(&[1, 2, 3, 4]).is_empty());
        assert_eq!(outsiders(&[1, 1002, 3, 4, 5]), [1_usize]);
        assert_eq!(outsiders(&[1, 2, 3, 0, 5, 5]), [3_usize]);
    }
}

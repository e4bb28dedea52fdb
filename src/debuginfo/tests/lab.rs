//! DWARF held against the BTF of the same kernel, which pahole made from it, for every kernel of a lab.
//!
//! Runs where `KMDB_LAB` names a directory with `kern/NAME/vmlinux` in it.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::path::PathBuf;
use std::sync::Arc;

use debuginfo::dwarf::Dwarf;
use debuginfo::elf::{DebugFile, Error};
use debuginfo::{Btf, Patchy, Tag, Type, TypeId, TypeSource, Types};

fn kernels() -> Vec<PathBuf> {
    let Some(lab) = std::env::var_os("KMDB_LAB") else {
        eprintln!("skipped: KMDB_LAB names no lab");
        return Vec::new();
    };
    let dirs = std::fs::read_dir(PathBuf::from(lab).join("kern")).unwrap();
    let files = dirs.map(|dir| dir.unwrap().path().join("vmlinux"));
    files.filter(|file| file.is_file()).collect()
}

/// Members with place, width, size and spelling. pahole makes one dimension of several, and does not tell `[0]` from
/// `[]`.
fn layout(types: &Types, id: TypeId) -> Vec<String> {
    let members = types.members(id).into_iter();
    let describe = |(name, place): (Arc<str>, debuginfo::Place)| {
        let spelled = types.spell(place.ty).replace("[0]", "[]");
        let shape = spelled.split_once('[').map_or(spelled.as_str(), |(before, _)| before);
        format!("{name} {} {:?} {:?} {shape}", place.bit_offset, place.bit_size, types.size_of(place.ty))
    };
    members.map(describe).collect()
}

/// The types of that name that have a body.
fn complete(types: &Types, tag: Tag, name: &str) -> Vec<TypeId> {
    let has_body = |id: &TypeId| !matches!(types.get(*id).as_deref(), Some(Type::Forward { .. }) | None);
    types.find(tag, name).into_iter().filter(has_body).collect()
}

#[test]
fn every_struct_as_btf_has_it() {
    for path in kernels() {
        let file = Arc::new(DebugFile::open(&path).unwrap());
        let (ours, theirs) = (Types::new(), Types::new());
        ours.add(|id| Ok::<Arc<dyn TypeSource>, Error>(Arc::new(Dwarf::new(Arc::clone(&file), id)?))).unwrap();
        let blob = Patchy::from(file.section(".BTF").unwrap());
        theirs.add(|id| Ok::<Arc<dyn TypeSource>, String>(Arc::new(Btf::new(blob, id)?))).unwrap();
        let mut names = Vec::new();
        ours.each_name(&mut |tag, name| {
            if matches!(tag, Tag::Struct | Tag::Union) {
                names.push((tag, name.to_owned()));
            }
            true
        });
        let (mut compared, mut wrong) = (0, Vec::new());
        for (tag, name) in names {
            let all = (complete(&ours, tag, &name), complete(&theirs, tag, &name));
            // two structs of that name: either may come first
            let ([ours_id], [theirs_id]) = (all.0.as_slice(), all.1.as_slice()) else { continue };
            compared += 1;
            let same = ours.size_of(*ours_id) == theirs.size_of(*theirs_id)
                && layout(&ours, *ours_id) == layout(&theirs, *theirs_id);
            if !same {
                wrong.push(name);
            }
        }
        eprintln!("{}: {compared} structs and unions compared", path.display());
        assert!(compared > 1000, "{}", path.display());
        assert!(wrong.is_empty(), "{}: {wrong:?}", path.display());
    }
}

//! Every seed, and every input that once was a bug: none is one now.

#![allow(clippy::unwrap_used)]

use std::{fs, path::Path, process::Command};

use kmdb_fuzz::TARGETS;

/// In processes of limited memory, which end if an input takes too long.
#[test]
fn what_is_kept_does_no_harm() {
    let out = Command::new(env!("CARGO_BIN_EXE_kmdb-fuzz")).arg("replay").output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}");
    assert_eq!(said.lines().count(), TARGETS.len(), "{said}");
}

/// A folder of seeds that no target reads would be replayed by nobody.
#[test]
fn every_folder_has_a_target() {
    for kind in ["seeds", "found"] {
        for folder in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(kind)).unwrap() {
            let name = folder.unwrap().file_name();
            if name == ".gitkeep" {
                continue;
            }
            assert!(TARGETS.iter().any(|target| target.name == name), "{kind}/{}", name.display());
        }
    }
}

/// A change of what is kept can be repeated.
#[test]
fn chance_is_repeatable() {
    use kmdb_fuzz::mutate::{Chance, mutate};
    let made = |seed| {
        let mut chance = Chance::new(seed);
        (0..1000).map(|_| mutate(b"some bytes to change", b"others", &mut chance)).collect::<Vec<_>>()
    };
    assert!(made(7) == made(7) && made(7) != made(8));
}

//! Who may use whom. The manifests say what is, this table says what may be; `docs/architecture.md` says why.

#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

/// A room, and the rooms it may import.
const ROOMS: &[(&str, &[&str])] = &[
    ("src/bpf", &[]),
    ("targets", &["bpf"]),
    ("src/debuginfo", &[]),
    ("src/derive", &[]),
    ("src/engine", &["targets", "debuginfo", "derive"]),
    ("walkers", &["engine"]),
    ("probes", &["bpf"]),
    ("dcmds", &["engine", "walkers", "probes"]),
    ("fuzz", &["targets", "debuginfo", "engine", "walkers"]),
    (".", &["targets", "debuginfo", "engine", "walkers", "dcmds"]),
];

const OURS: &[&str] = &["bpf", "targets", "debuginfo", "derive", "engine", "walkers", "probes", "dcmds"];

fn dependencies(manifest: &str) -> Vec<String> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line == "[dependencies]" || line == "[dev-dependencies]";
        } else if inside && let Some(name) = line.split(['.', ' ', '=']).next().filter(|n| !n.is_empty()) {
            found.push(name.to_owned());
        }
    }
    found
}

#[test]
fn every_room_imports_only_what_it_may() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (room, allowed) in ROOMS {
        let manifest = fs::read_to_string(root.join(room).join("Cargo.toml")).unwrap();
        let ours: Vec<_> = dependencies(&manifest).into_iter().filter(|d| OURS.contains(&d.as_str())).collect();
        assert!(!dependencies(&manifest).is_empty(), "{room}: no dependencies found, the test reads nothing");
        for dependency in ours {
            assert!(allowed.contains(&dependency.as_str()), "{room} must not depend on {dependency}");
        }
    }
}

/// Only the renderers write to standard output.
#[test]
fn only_the_renderers_print() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut offenders = Vec::new();
    let mut seen = 0;
    for room in ["targets", "src", "walkers", "probes", "dcmds"] {
        visit(&root.join(room), &mut |path, text| {
            seen += 1;
            let inside = path.components().any(|c| c.as_os_str() == "render" || c.as_os_str() == "examples");
            let prints = text.contains("io::stdout()") && !path.ends_with("src/main.rs");
            if prints && !inside {
                offenders.push(path.to_owned());
            }
        });
    }
    assert!(seen > 40, "only {seen} files seen");
    assert!(offenders.is_empty(), "these write to standard output: {offenders:?}");
}

/// What is sold as finished has no unfinished places.
#[test]
fn no_stubs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for room in ["targets", "src", "walkers", "probes", "dcmds"] {
        visit(&root.join(room), &mut |path, text| {
            for word in ["TO".to_owned() + "DO", "FIX".to_owned() + "ME", "unimpl".to_owned() + "emented!"] {
                assert!(!text.contains(&word), "{}: {word}", path.display());
            }
        });
    }
}

fn visit(folder: &Path, see: &mut dyn FnMut(&Path, &str)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            visit(&path, see);
        } else if path.extension().is_some_and(|e| e == "rs") {
            see(&path, &fs::read_to_string(&path).unwrap());
        }
    }
}

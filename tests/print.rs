//! `::print` against drgn, member by member: `corpus/lab/print.py` on the dumps of the lab.
//!
//! Runs where the environment variable `KMDB_LAB` names a directory with `dumps/NAME/vmcore.elf` and
//! `kern/NAME/vmlinux`, and python3 has drgn; `KMDB_ONLY` picks dumps by a part of their name. Is skipped elsewhere.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::{path::Path, process::Command};

#[test]
fn structs_of_many_types_are_what_drgn_reads() {
    let Ok(lab) = std::env::var("KMDB_LAB") else {
        eprintln!("skipped: KMDB_LAB names no lab directory");
        return;
    };
    if !Command::new("python3").args(["-c", "import drgn"]).status().is_ok_and(|s| s.success()) {
        eprintln!("skipped: python3 has no drgn");
        return;
    }
    let lab = Path::new(&lab);
    let only = std::env::var("KMDB_ONLY").unwrap_or_default();
    let mut checked = 0;
    for name in ["k510-plain", "k61-dbg", "k612-plain", "k72-dbg"] {
        let kernel = name.split('-').next().unwrap_or_default();
        let (dump, vmlinux) =
            (lab.join("dumps").join(name).join("vmcore.elf"), lab.join("kern").join(kernel).join("vmlinux"));
        if !name.contains(&only) || !dump.exists() || !vmlinux.exists() {
            continue;
        }
        let output = Command::new("python3")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/lab/print.py"))
            .args([&dump, &vmlinux])
            .arg(env!("CARGO_BIN_EXE_kmdb"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{name}\n{text}{}", String::from_utf8_lossy(&output.stderr));
        checked += 1;
    }
    assert!(checked > 0 || !only.is_empty(), "the lab has none of the dumps");
}

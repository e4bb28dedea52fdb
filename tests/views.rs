//! Every view against the types of every kernel in the corpus, with no dump at hand: a member that a kernel renamed is
//! found here and not at three in the morning.

#![allow(clippy::unwrap_used)]

use engine::{
    Layout, ViewEntry,
    debuginfo::{Types, btf::Btf},
};
use std::{fs, path::Path, sync::Arc};

/// Views of structures that a kernel of the corpus does not have: the view, the kernel by how its release begins or ends,
/// and why.
const ABSENT: &[(&str, &str, &str)] = &[
    ("irq::CounterInfo", "5.10", "x86's counters have a table of names since 7.1"),
    ("irq::CounterInfo", "6.", "likewise"),
    ("kfence::Record", "5.10", "KFENCE came with 5.12"),
    ("kfence::Record", "6.1.", "built without KFENCE"),
    ("stackdepot::Record", "5.10", "its tracks hold their frames themselves"),
    ("module::Memory", "5.10", "struct module_memory came with 6.4 (ac3b43283923)"),
    ("module::Memory", "6.1.", "likewise"),
    ("module::OldMemory", "6.12", "struct module_layout went with 6.4 (ac3b43283923)"),
    ("module::OldMemory", "7.", "likewise"),
    ("module::BtfModule", "5.10", "modules have BTF since 5.11 (36e68442d1af)"),
    ("module::BtfBlob", "5.10", "likewise"),
    ("module::Section", "7.", "struct module_sect_attr went with 6.14"),
    ("free::CpuSheaves", "5.10", "sheaves came with 6.18"),
    ("free::CpuSheaves", "6.1", "likewise"),
    ("free::Sheaf", "5.10", "likewise"),
    ("free::Sheaf", "6.1", "likewise"),
    ("trampoline::Rethook", "5.10", "rethooks came with 5.18 (54ecbe6f1ed5)"),
    ("trampoline::Rethook", "arm64", "its return probes are kretprobes"),
    ("corefile::Segments", "arm64", "x86-64's"),
    ("corefile::VdsoImage", "arm64", "x86-64's"),
    ("corefile::ArmThread", "amd64", "arm64's"),
    ("clock::Noted", "arm64", "its CPUs' clocks agree"),
    ("x86::Inactive", "arm64", "x86-64's"),
    ("x86::Switched", "arm64", "x86-64's"),
    ("alloc_tag::Raw", "5.10", "allocation profiling came with 6.10"),
    ("alloc_tag::Raw", "6.1.", "likewise"),
    ("alloc_tag::Counters", "5.10", "likewise"),
    ("alloc_tag::Counters", "6.1.", "likewise"),
    ("alloc_tag::Section", "", "CONFIG_MEM_ALLOC_PROFILING is off in all of these"),
    ("page_owner::PageExt", "", "CONFIG_PAGE_OWNER is off in all of these"),
    ("page_owner::Owner", "", "likewise"),
    ("blk::Part", "6.", "struct hd_struct went with 5.11 (0d02129e76ed)"),
    ("blk::Part", "7.", "likewise"),
    ("netfilter::Chain", "", "of a module, nf_tables"),
    ("netfilter::Table", "", "likewise"),
    ("free::CpuSlab", "7.", "struct kmem_cache_cpu went with 7.0: sheaves took its place"),
];

fn kernels() -> Vec<(String, Types)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/btf");
    let mut kernels = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|e| e.unwrap()) {
        let release = entry.path().file_stem().unwrap().to_string_lossy().into_owned();
        let blob = zstd::decode_all(fs::File::open(entry.path()).unwrap()).unwrap();
        let types = Types::new();
        types.add(|id| Ok::<_, String>(Arc::new(Btf::new(bytes::Bytes::from(blob), id)?))).unwrap();
        kernels.push((release, types));
    }
    kernels.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(kernels.len() >= 4, "only {} kernels in corpus/btf", kernels.len());
    kernels
}

fn absent(view: &str, release: &str) -> bool {
    let of = |kernel: &str| release.starts_with(kernel) || release.ends_with(kernel);
    ABSENT.iter().any(|(name, kernel, _)| view.ends_with(&format!("::{name}")) && of(kernel))
}

#[test]
fn every_view_resolves_on_every_kernel() {
    let views: Vec<&ViewEntry> = walkers::VIEWS.iter().flat_map(|family| family.iter()).collect();
    assert!(views.len() > 10, "only {} views", views.len());
    let mut wrong = Vec::new();
    for (release, types) in kernels() {
        for view in &views {
            let name = (view.name)();
            let result = Layout::resolve(&types, view.ctypes, view.fields);
            match (result, absent(name, &release)) {
                (Err(e), false) => wrong.push(format!("{release}: {name}: {e}")),
                (Ok(_), true) => wrong.push(format!("{release}: {name} is listed as absent, but it is there")),
                _ => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every `#[derive(View)]` is in the list that the other test goes through.
#[test]
fn every_view_is_listed() {
    let listed: Vec<&str> = walkers::VIEWS.iter().flat_map(|f| f.iter()).map(|v| (v.name)()).collect();
    let mut missing = Vec::new();
    let mut stack = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("walkers")];
    while let Some(folder) = stack.pop() {
        for path in fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
            if path.is_dir() {
                stack.push(path);
                continue;
            }
            if path.extension().is_none_or(|e| e != "rs") {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            for after in text.split("#[derive(").skip(1) {
                let Some((traits, rest)) = after.split_once(")]") else { continue };
                let Some(name) = rest.split("struct ").nth(1).and_then(|s| s.split([' ', '{', '<']).next()) else {
                    continue;
                };
                let is_view = traits.split(',').any(|t| t.trim() == "View");
                if is_view && !listed.iter().any(|l| l.ends_with(&format!("::{name}"))) {
                    missing.push(format!("{}: {name}", path.display()));
                }
            }
        }
    }
    assert!(missing.is_empty(), "not in walkers::VIEWS: {missing:?}");
}

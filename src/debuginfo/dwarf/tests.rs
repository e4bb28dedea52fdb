#![allow(clippy::unwrap_used)]
use std::collections::HashMap;
use std::path::PathBuf;

use super::*;
use crate::catalog::Types;
use crate::elf::Placement;

fn path(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata")).join(name)
}

fn read(file: DebugFile) -> (Types, Arc<Dwarf>) {
    let file = Arc::new(file);
    let types = Types::new();
    let mut made = None;
    types
        .add(|id| {
            let dwarf = Arc::new(Dwarf::new(Arc::clone(&file), id)?);
            made = Some(Arc::clone(&dwarf));
            Ok::<Arc<dyn TypeSource>, Error>(dwarf)
        })
        .unwrap();
    (types, made.unwrap())
}

fn open(name: &str) -> (Types, Arc<Dwarf>) {
    read(DebugFile::open(path(name)).unwrap())
}

/// `name@bit:width type` of each member that a user may name.
fn layout(types: &Types, name: &str) -> Vec<String> {
    let id = types.parse(name).unwrap();
    let width = |bits: Option<u32>| bits.map_or(String::new(), |bits| format!(":{bits}"));
    let members = types.members(id).into_iter();
    members.map(|(n, p)| format!("{n}@{}{} {}", p.bit_offset, width(p.bit_size), types.spell(p.ty))).collect()
}

#[test]
fn what_dwz_moved_out_of_a_file_is_found() {
    let whole = |name| read(crate::find::open(path(name), &[]).unwrap().best());
    let ((types, dwarf), (dwz, shared)) = (whole("tiny-v5"), whole("tiny-dwz"));
    assert!(shared.file().shared().is_some());
    for name in ["struct outer", "struct bits", "struct node"] {
        assert_eq!(layout(&dwz, name), layout(&types, name), "{name}");
    }
    let variables =
        |dwarf: &Dwarf| dwarf.variables("current_outer").into_iter().map(|v| (v.addr, v.file)).collect::<Vec<_>>();
    assert_eq!(variables(&shared), variables(&dwarf));
    let compute = |dwarf: &Dwarf| {
        dwarf.frames(0x400153).unwrap().into_iter().map(|f| (f.function, f.file, f.line)).collect::<Vec<_>>()
    };
    assert_eq!(compute(&shared), compute(&dwarf));
    assert!(!compute(&dwarf).is_empty());
    // alone it is told what is missing, and what there is stays harmless
    let folder = tempfile::tempdir().unwrap();
    let alone = folder.path().join("tiny-dwz");
    std::fs::copy(path("tiny-dwz"), &alone).unwrap();
    let split = crate::find::open(&alone, &[]).unwrap();
    let why = split.rejected.first().unwrap().to_string();
    assert!(why.contains("part of its debug information is in tiny-dwz.sup (build-id "), "{why}");
    let (types, _) = read(split.best());
    types.each_name(&mut |tag, name| {
        types.find(tag, name).into_iter().all(|id| {
            types.size_of(id);
            true
        })
    });
}

const LINKED: [&str; 6] = ["tiny-v4", "tiny-v4-types", "tiny-v5", "tiny-v5-zlib", "tiny-v5-zstd", "tiny-v5.xz"];

#[test]
fn structs_of_every_dwarf() {
    for name in LINKED.into_iter().chain(["tiny.ko"]) {
        let (types, _) = open(name);
        let outer = [
            "list@0 struct node",
            "number@128 long",
            "point@128 struct {...}",
            "bits@192 struct bits",
            "colour@256 enum colour",
            "matrix@288 char [2][3]",
            "name@384 const char *const",
            "handler@448 int (*)(struct outer *, unsigned int, ...)",
            "other@512 struct elsewhere *",
            "unknown@576 struct unknown *",
            "tail@640 int []",
        ];
        assert_eq!(layout(&types, "struct outer"), outer, "{name}");
        let bits = [
            "low@0:3 unsigned int",
            "high@3:5 int",
            "wide@8:40 unsigned long",
            "whole@48 unsigned char",
            "flag@56:1 _Bool",
        ];
        assert_eq!(layout(&types, "struct bits"), bits, "{name}");
        assert_eq!(layout(&types, "struct elsewhere"), ["count@0 int", "weight@64 double"], "{name}");
        assert_eq!(types.size_of(types.parse("outer_t").unwrap()), Some(80), "{name}");
        let (_, unknown) = types.resolve(types.parse("struct unknown").unwrap()).unwrap();
        assert!(matches!(&*unknown, Type::Forward { tag: Tag::Struct, .. }), "{name}");
    }
}

#[test]
fn enumerations_and_functions() {
    for name in LINKED {
        let (types, dwarf) = open(name);
        assert_eq!(types.enumerator("GREEN"), Some(5), "{name}");
        assert_eq!(types.enumerator("DARK"), Some(-1), "{name}");
        assert_eq!(types.enumerator("LIGHT"), Some(200), "{name}");
        assert_eq!(types.enumerator("PINK"), None, "{name}");
        let node = types.get(types.parse("enum signed_colour").unwrap()).unwrap();
        assert!(matches!(&*node, Type::Enum { signed: true, size: 4, values, .. } if values.len() == 2), "{name}");
        let compute = types.function("compute").unwrap();
        assert_eq!(types.spell_decl(compute, "compute"), "int compute(outer_t *self, int value)", "{name}");
        assert_eq!(dwarf.function_at(0x400150), Some(compute), "{name}");
        let twice = types.function("twice").unwrap();
        assert_eq!(types.spell_decl(twice, "twice"), "int twice(int value)", "{name}");
        let mut names = Vec::new();
        dwarf.each_name(&mut |tag, name| {
            names.push((tag, name.to_owned()));
            true
        });
        let known = |tag, name: &str| names.iter().filter(|(t, n)| *t == tag && n == name).count();
        assert_eq!(known(Tag::Struct, "node"), 1, "{name}");
        assert_eq!(known(Tag::Name, "outer_t"), 1, "{name}");
    }
}

#[test]
fn variables_with_their_files() {
    for name in LINKED {
        let (types, dwarf) = open(name);
        let seen = |name: &str| -> Vec<_> {
            let all = dwarf.variables(name).into_iter();
            all.map(|v| (types.spell(v.ty), v.addr, v.file, v.external)).collect()
        };
        // declared `extern int counted[]` before
        assert_eq!(seen("counted"), [("int [4]".into(), Some(0x4011f0), "tiny.c".into(), true)], "{name}");
        let shared = seen("shared");
        assert_eq!(shared.len(), 2, "{name}");
        assert!(
            shared.iter().any(|s| s.0 == "volatile long" && s.1 == Some(0x4011e8) && s.2 == "tiny.c"),
            "{shared:?}"
        );
        assert!(shared.iter().any(|s| s.0 == "char [16]" && s.2 == "other.c" && !s.3), "{shared:?}");
        assert_eq!(seen("current_outer").first().unwrap().0, "struct outer *", "{name}");
        assert!(seen("nothing").is_empty());
    }
}

#[test]
fn inlined_functions_and_their_lines() {
    for name in LINKED {
        let (_, dwarf) = read(DebugFile::open(path(name)).unwrap().placed(Placement::Slide(0x1000_0000)));
        // the first instruction of `compute` belongs to `shared += value`
        let frames = dwarf.frames(0x1040_0150).unwrap();
        assert_eq!(frames.first().unwrap().ty, dwarf.function("twice"), "{name}");
        let brief: Vec<_> =
            frames.iter().map(|f| (f.function.as_deref().unwrap(), f.line.unwrap(), f.inlined)).collect();
        assert_eq!(brief, [("twice", 43, true), ("compute", 50, false)], "{name}");
        assert!(frames.iter().all(|f| f.file.as_deref() == Some("tiny.c")), "{name}: {frames:?}");
        assert!(dwarf.frames(0x400150).unwrap().is_empty(), "{name}: not moved");
    }
}

#[test]
fn copies_are_found_however_units_write_names() {
    let within =
        |dwarf: &Dwarf, name: &str| dwarf.inlined(name).into_iter().map(|copy| copy.within).collect::<Vec<_>>();
    let shared = read(crate::find::open(path("tiny-dwz"), &[]).unwrap().best());
    for (_, dwarf) in LINKED.iter().map(|name| open(name)).chain([shared]) {
        assert_eq!(within(&dwarf, "twice"), ["compute", "_start"], "{:?}", dwarf.file().path());
        assert_eq!(within(&dwarf, "compute"), ["_start"]);
        assert!(within(&dwarf, "thrice").is_empty());
    }
}

#[test]
fn a_module_where_it_was_loaded() {
    let text = 0xffff_ffff_c012_3000;
    let sections = HashMap::from([(".text.compute".to_owned(), text), (".data".to_owned(), text + 0x8000)]);
    let (_, dwarf) = read(DebugFile::open(path("tiny.ko")).unwrap().placed(Placement::Sections(sections)));
    let frames = dwarf.frames(text).unwrap();
    assert_eq!(frames.last().unwrap().function.as_deref(), Some("compute"));
    assert_eq!(frames.first().unwrap().line, Some(43));
    let counted = dwarf.variables("counted").first().unwrap().addr.unwrap();
    assert!((text + 0x8000..text + 0x8100).contains(&counted), "{counted:#x}");
    // a section that was freed lies somewhere, but not in the way
    let start = dwarf.variables("shared").iter().filter_map(|v| v.addr).max().unwrap();
    assert!(start > 0);
}

/// A small generator of the same numbers every time (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below.max(1) as u64) as usize
    }
}

/// Asks a file for everything.
fn ask_all(data: Vec<u8>) {
    let Ok(file) = DebugFile::from_bytes("damaged", data.into()) else { return };
    let _ = crate::elf::Symtab::new(&file, None);
    let Ok(dwarf) = Dwarf::new(Arc::new(file), 0) else { return };
    let _ = dwarf.prepare();
    let mut names = Vec::new();
    dwarf.each_name(&mut |tag, name| {
        names.push((tag, name.to_owned()));
        true
    });
    for (tag, name) in names {
        for id in dwarf.find(tag, &name) {
            walk(&dwarf, id, 4);
        }
    }
    let mut types = Vec::new();
    dwarf.each_variable(&mut |v| types.push(v.ty));
    types.iter().for_each(|&ty| walk(&dwarf, ty, 4));
    for name in ["compute", "twice", "_start", "elsewhere_count"] {
        dwarf.function(name).into_iter().for_each(|id| walk(&dwarf, id, 2));
    }
    dwarf.enumerator("GREEN");
    for addr in [0x400150, 0x400160, 0x4001b0] {
        let _ = dwarf.frames(addr);
    }
}

fn walk(dwarf: &Dwarf, id: TypeId, depth: u32) {
    let Some(depth) = depth.checked_sub(1) else { return };
    let node = if id.source == 0 { dwarf.get(id.local) } else { None };
    match node {
        Some(Type::Struct { members: all, .. }) | Some(Type::Func { params: all, .. }) => {
            all.iter().take(8).for_each(|m| walk(dwarf, m.ty, depth));
        }
        Some(Type::Pointer { to } | Type::Typedef { to, .. } | Type::Qualified { to, .. }) => walk(dwarf, to, depth),
        Some(Type::Array { elem, .. }) => walk(dwarf, elem, depth),
        _ => {}
    }
}

#[test]
fn damage_does_no_harm() {
    for name in ["tiny-v4", "tiny-v4-types", "tiny-v5", "tiny-v5-zlib", "tiny-v5-zstd", "tiny.ko"] {
        let whole = std::fs::read(path(name)).unwrap();
        let mut dice = Dice(0x1234_5678_9abc_def1);
        for _ in 0..150 {
            let mut data = whole.clone();
            for _ in 0..=dice.roll(6) {
                let (at, value) = (dice.roll(data.len()), dice.roll(256) as u8);
                // extremes do more harm than noise
                data[at] = *[value, 0, 0xff, 0x7f, 0x80].get(dice.roll(5)).unwrap();
            }
            if dice.roll(8) == 0 {
                data.truncate(dice.roll(whole.len()));
            }
            ask_all(data);
        }
    }
}

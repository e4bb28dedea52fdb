//! The BTF of four kernels, read whole. The digests below were taken when every named struct, member, offset, width and
//! size had been compared with the same kernels' DWARF, as drgn reads it, without a difference.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use debuginfo::{Btf, Holes, Patchy, Tag, Type, TypeId, TypeSource, Types};

const KERNELS: [(&str, usize, usize, u64); 4] = [
    // file, types, members of named structs and unions, digest
    ("5.10.0-32-cloud-amd64", 77_597, 42_635, 0xfe53_3602_bb4d_9e63),
    ("6.1.0-56-cloud-amd64", 95_246, 47_739, 0x4b68_6393_cf21_46e2),
    ("6.12.117+deb12-cloud-amd64", 107_331, 53_860, 0x6227_4236_fdd2_ad7e),
    ("7.2.13+deb14-cloud-amd64", 118_487, 59_445, 0xadc7_c386_c9a2_8256),
];

fn blob(kernel: &str) -> bytes::Bytes {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../corpus/btf/{kernel}.zst"));
    zstd::decode_all(std::fs::File::open(path).unwrap()).unwrap().into()
}

fn registry(btf: Btf) -> (Arc<Btf>, Types) {
    let (btf, types) = (Arc::new(btf), Types::new());
    types.add(|_| Ok::<_, ()>(btf.clone() as Arc<dyn TypeSource>)).unwrap();
    (btf, types)
}

fn names(btf: &Btf) -> BTreeSet<(Tag, String)> {
    let mut names = BTreeSet::new();
    btf.each_name(&mut |tag, name| {
        names.insert((tag, name.to_owned()));
        true
    });
    names
}

/// FNV-1a
fn digest(hash: u64, text: &str) -> u64 {
    text.bytes().fold(hash, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

#[test]
fn layouts_are_those_of_the_dwarf() {
    for (kernel, types_expected, members_expected, digest_expected) in KERNELS {
        let (btf, types) = registry(Btf::new(blob(kernel), 0).unwrap());
        assert_eq!((btf.len(), btf.damaged_after()), (types_expected, None), "{kernel}");
        let (mut members, mut hash) = (0, 0xcbf2_9ce4_8422_2325);
        for (tag, name) in names(&btf).iter().filter(|(tag, _)| matches!(tag, Tag::Struct | Tag::Union)) {
            for id in btf.find(*tag, name) {
                let Some(Type::Struct { size, .. }) = types.get(id).as_deref().cloned() else { continue };
                hash = digest(hash, &format!("{name} {size}\n"));
                for (member, place) in types.members(id) {
                    members += 1;
                    let width = place.bit_size.unwrap_or(0);
                    let size = types.size_of(place.ty);
                    hash = digest(hash, &format!("{member} {} {width} {size:?}\n", place.bit_offset));
                    assert_eq!(types.member(id, &member), Some(place), "{kernel}: {name}.{member}");
                }
            }
        }
        assert_eq!((members, hash), (members_expected, digest_expected), "{kernel}: {hash:#x}");
    }
}

#[test]
fn every_type_is_spelled_as_it_is_parsed() {
    for (kernel, ..) in KERNELS {
        let (btf, types) = registry(Btf::new(blob(kernel), 0).unwrap());
        for (tag, name) in names(&btf) {
            let id = btf.find(tag, &name)[0];
            assert_eq!(types.parse(&types.spell(id)), Ok(id), "{kernel}: {tag:?} {name}");
        }
        // nameless ones come back as types that are spelled the same
        for local in (1..btf.len() as u32).step_by(7) {
            let spelled = types.spell(TypeId { source: 0, local });
            if !spelled.contains(['{', '…']) && !spelled.contains("__") {
                let parsed = types.parse(&spelled).unwrap_or_else(|e| panic!("{kernel}: {spelled}: {e}"));
                assert_eq!(types.spell(parsed), spelled, "{kernel}");
            }
        }
    }
}

#[test]
fn variables_functions_and_enumerators() {
    for (kernel, per_cpu, prototype) in [
        ("5.10.0-32-cloud-amd64", false, "ssize_t vfs_read(struct file *file, char *buf, size_t count, loff_t *pos)"),
        (
            "6.12.117+deb12-cloud-amd64",
            true,
            "ssize_t vfs_read(struct file *file, char *buf, size_t count, loff_t *pos)",
        ),
        ("7.2.13+deb14-cloud-amd64", true, "ssize_t vfs_read(struct file *file, char *buf, size_t count, loff_t *pos)"),
    ] {
        let (_, types) = registry(Btf::new(blob(kernel), 0).unwrap());
        let runqueues = types.variable("runqueues").map(|ty| types.spell(ty));
        assert_eq!(runqueues.as_deref(), per_cpu.then_some("struct rq"), "{kernel}");
        assert_eq!(types.spell_decl(types.function("vfs_read").unwrap(), "vfs_read"), prototype, "{kernel}");
        assert_eq!(types.enumerator("PIDTYPE_SID"), Some(3), "{kernel}");
        assert_eq!(types.enumerator("HRTIMER_BASE_MONOTONIC_SOFT"), Some(4), "{kernel}");
    }
}

#[test]
fn a_missing_page_loses_what_lay_in_it() {
    for (kernel, ..) in KERNELS {
        let blob = blob(kernel);
        let whole = Btf::new(blob.clone(), 0).unwrap();
        for page in (1..blob.len() / 4096).step_by(173) {
            let hole = page * 4096..(page + 1) * 4096;
            let mut bytes = blob.to_vec();
            bytes[hole.clone()].fill(0);
            let holes = Holes::new(std::iter::once(hole).collect());
            let holed = Btf::new(Patchy { bytes: bytes.into(), holes }, 0).unwrap();
            assert_eq!((holed.len(), holed.damaged_after()), (whole.len(), None), "{kernel}: page {page}");
            assert!(holed.lost() < 4096 / 12 + 2, "{kernel}: page {page}: {}", holed.lost());
            for local in (1..whole.len() as u32).step_by(5) {
                let (before, after) = (whole.get(local), holed.get(local));
                let lost_name = || format!("{after:?}").contains('?');
                assert!(after.is_none() || after == before || lost_name(), "{kernel}: page {page}: type {local}");
            }
        }
    }
}

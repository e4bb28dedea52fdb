#![allow(clippy::unwrap_used)]
use super::*;
use crate::catalog::Types;
use crate::types::{EnumValue, Member};

/// Builds a blob record by record.
#[derive(Default)]
struct Blob {
    types: Vec<u8>,
    strings: Vec<u8>,
    next: u32,
    first_string: u32,
}

impl Blob {
    fn new() -> Blob {
        Blob { strings: vec![0], next: 1, ..Blob::default() }
    }

    fn on(base: &Btf) -> Blob {
        Blob { next: base.end().id, first_string: base.end().string, ..Blob::default() }
    }

    fn string(&mut self, s: &str) -> u32 {
        if s.is_empty() {
            return 0;
        }
        let at = self.first_string + self.strings.len() as u32;
        self.strings.extend(s.bytes().chain([0]));
        at
    }

    fn add(&mut self, name: &str, kind: u8, flag: bool, vlen: u32, arg: u32, body: &[u32]) -> u32 {
        let name = self.string(name);
        let info = u32::from(flag) << 31 | u32::from(kind) << 24 | vlen;
        self.types.extend([name, info, arg].iter().chain(body).flat_map(|w| w.to_le_bytes()));
        self.next += 1;
        self.next - 1
    }

    fn structure(&mut self, name: &str, size: u32, flag: bool, members: &[(&str, u32, u32)]) -> u32 {
        let body: Vec<u32> = members.iter().flat_map(|&(n, ty, off)| [self.string(n), ty, off]).collect();
        self.add(name, kind::STRUCT, flag, members.len() as u32, size, &body)
    }

    fn bytes(&self) -> Vec<u8> {
        let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
        let head = [0x0001_eb9f, 24, 0, types, types, strings];
        let head = head.iter().flat_map(|w| w.to_le_bytes());
        head.chain(self.types.iter().copied()).chain(self.strings.iter().copied()).collect()
    }

    fn btf(&self) -> Btf {
        Btf::new(Bytes::from(self.bytes()), 0).unwrap()
    }
}

/// One of everything. Returns the blob and the position in it where `struct foo` starts.
fn sample() -> (Blob, usize) {
    let mut b = Blob::new();
    let int = b.add("int", kind::INT, false, 0, 4, &[1 << 24 | 32]);
    let char = b.add("char", kind::INT, false, 0, 1, &[8]);
    let boolean = b.add("_Bool", kind::INT, false, 0, 1, &[4 << 24 | 8]);
    let array = b.add("", kind::ARRAY, false, 0, 0, &[char, int, 16]);
    let konst = b.add("", kind::CONST, false, 0, char, &[]);
    let ptr = b.add("", kind::PTR, false, 0, konst, &[]);
    let at = 24 + b.types.len();
    let foo = b.structure("foo", 32, true, &[("a", int, 0), ("f", int, 3 << 24 | 37), ("name", array, 64)]);
    b.structure("foo", 8, false, &[("small", int, 0)]);
    b.add("foo_t", kind::TYPEDEF, false, 0, foo, &[]);
    b.add("gone", kind::FWD, true, 0, 0, &[]);
    let (red, none) = (b.string("RED"), b.string("NONE"));
    b.add("colour", kind::ENUM, true, 2, 4, &[red, 1, none, u32::MAX]);
    let big = b.string("BIG");
    b.add("huge", kind::ENUM64, false, 1, 8, &[big, 2, 1]);
    let mask = b.string("MASK");
    b.add("", kind::ENUM, false, 1, 4, &[mask, 0x8000_0000]);
    let (x, y) = (b.string("x"), b.string("fmt"));
    let proto = b.add("", kind::FUNC_PROTO, false, 3, int, &[x, int, y, ptr, 0, 0]);
    b.add("printk", kind::FUNC, false, 1, proto, &[]);
    let var = b.add("runqueues", kind::VAR, false, 0, foo, &[1]);
    b.add(".data..percpu", kind::DATASEC, false, 1, 64, &[var, 0, 32]);
    b.add("double", kind::FLOAT, false, 0, 8, &[]);
    let tag = b.add("user", kind::TYPE_TAG, false, 0, int, &[]);
    b.add("", kind::PTR, false, 0, tag, &[]);
    b.add("note", kind::DECL_TAG, false, 0, foo, &[u32::MAX]);
    b.add("shade", kind::ENUM, false, 0, 4, &[]);
    let _ = boolean;
    (b, at)
}

fn id(local: u32) -> TypeId {
    TypeId { source: 0, local }
}

fn registry(btf: Btf) -> Types {
    let types = Types::new();
    types.add(|_| Ok::<_, ()>(Arc::new(btf) as Arc<dyn TypeSource>)).unwrap();
    types
}

#[test]
fn every_kind() {
    let (blob, _) = sample();
    let btf = blob.btf();
    assert_eq!((btf.len(), btf.damaged_after()), (22, None));
    assert_eq!(btf.get(0), Some(Type::Void));
    assert_eq!(btf.get(1), Some(Type::Int { name: "int".into(), size: 4, signed: true, char: false, boolean: false }));
    assert!(matches!(btf.get(2), Some(Type::Int { char: true, .. })));
    assert!(matches!(btf.get(3), Some(Type::Int { boolean: true, .. })));
    let member = |name: &str, ty, bit_offset, bit_size| Member { name: name.into(), ty: id(ty), bit_offset, bit_size };
    let foo = btf.find(Tag::Struct, "foo");
    assert_eq!(foo, [id(7), id(8)], "the largest first");
    assert_eq!(
        btf.get(7),
        Some(Type::Struct {
            name: Some("foo".into()),
            size: 32,
            union: false,
            members: [member("a", 1, 0, None), member("f", 1, 37, Some(3)), member("name", 4, 64, None)].into()
        })
    );
    assert_eq!(btf.find(Tag::Union, "gone"), [id(10)]);
    assert_eq!(btf.get(10), Some(Type::Forward { tag: Tag::Union, name: "gone".into() }));
    assert_eq!(btf.get(22), Some(Type::Forward { tag: Tag::Enum, name: "shade".into() }));
    assert!(btf.find(Tag::Struct, "gone").is_empty() && btf.find(Tag::Struct, "nothing").is_empty());
    assert_eq!(
        ["RED", "NONE", "BIG", "MASK", "red"].map(|n| btf.enumerator(n)),
        [Some(1), Some(-1), Some(0x1_0000_0002), Some(0x8000_0000), None]
    );
    assert_eq!(btf.variable("runqueues"), Some(id(7)));
    assert_eq!(btf.variable("printk"), None);
    assert_eq!((btf.get(16), btf.get(17), btf.get(21)), (None, None, None), "not types");
    let types = registry(btf);
    let printk = types.function("printk").unwrap();
    assert_eq!(types.spell_decl(printk, "printk"), "int printk(int x, const char *fmt, ...)");
    assert_eq!(types.get(id(15)), types.get(printk), "a FUNC is its prototype");
    assert_eq!(types.spell(id(20)), "__user int *");
    assert_eq!(types.size_of(types.parse("foo_t[2]").unwrap()), Some(64));
    let mut names = Vec::new();
    types.each_name(&mut |tag, name| {
        names.push((tag, name.to_owned()));
        names.len() < 5
    });
    assert_eq!(names[4], (Tag::Struct, "foo".to_owned()));
    assert_eq!(names.len(), 5);
}

#[test]
fn enums_before_pahole_marked_the_signed_ones() {
    let mut b = Blob::new();
    let (a, c) = (b.string("A"), b.string("C"));
    b.add("signed", kind::ENUM, false, 1, 4, &[a, u32::MAX]);
    b.add("mask", kind::ENUM, false, 1, 4, &[c, 0xf000_0000]);
    let btf = b.btf();
    assert_eq!((btf.enumerator("A"), btf.enumerator("C")), (Some(-1), Some(0xf000_0000)));
    let value = EnumValue { name: "A".into(), value: -1 };
    assert_eq!(
        btf.get(1),
        Some(Type::Enum { name: Some("signed".into()), size: 4, signed: true, values: [value].into() })
    );
}

#[test]
fn a_module_continues_the_kernel() {
    let kernel = Arc::new(sample().0.btf());
    let mut blob = Blob::on(&kernel);
    let ptr = blob.add("", kind::PTR, false, 0, 7, &[]);
    assert_eq!(ptr, 23);
    let bar = blob.structure("bar", 8, false, &[("foo", ptr, 0)]);
    let module = Btf::split(Bytes::from(blob.bytes()), 3, kernel.clone(), None).unwrap();
    assert_eq!(module.find(Tag::Struct, "bar"), [TypeId { source: 3, local: bar }]);
    assert_eq!(module.get(ptr), Some(Type::Pointer { to: id(7) }), "the kernel's types keep the kernel's number");
    assert_eq!(module.get(7), kernel.get(7));
    assert!(module.find(Tag::Struct, "foo").is_empty(), "the kernel answers for its own");
    // names of the base may be used
    let name = kernel.record(7).unwrap().1.name;
    let mut blob = Blob::on(&kernel);
    blob.types.extend([name, u32::from(kind::TYPEDEF) << 24, 1].iter().flat_map(|w| w.to_le_bytes()));
    let module = Btf::split(Bytes::from(blob.bytes()), 3, kernel.clone(), None).unwrap();
    assert_eq!(module.get(23), Some(Type::Typedef { name: "foo".into(), to: id(1) }));
    let start = Start { id: 100, string: 5000 };
    let module = Btf::split(Bytes::from(blob.bytes()), 3, kernel, Some(start)).unwrap();
    assert!(module.get(100).is_some() && module.get(23).is_none());
}

#[test]
fn longer_headers_and_unknown_kinds() {
    let mut blob = Blob::new();
    blob.add("int", kind::INT, false, 0, 4, &[32]);
    blob.add("new", 21, false, 2, 0, &[1, 2, 3]);
    blob.add("last", kind::TYPEDEF, false, 0, 1, &[]);
    let old = Btf::new(Bytes::from(blob.bytes()), 0).unwrap();
    assert_eq!((old.len(), old.damaged_after()), (1, Some(1)));
    // a layout table says how long kind 21 is: 4 bytes, and 4 for each of its elements
    let (types, strings) = (blob.types.len() as u32, blob.strings.len() as u32);
    let head = [0x0001_eb9f, 32, 0, types, types, strings, types + strings, 22 * 4];
    let mut bytes: Vec<u8> = head.iter().flat_map(|w| w.to_le_bytes()).collect();
    bytes.extend(blob.types.iter().chain(&blob.strings));
    bytes.extend([0; 21 * 4].iter().chain(&[4, 4, 0, 0]));
    let new = Btf::new(Bytes::from(bytes), 0).unwrap();
    assert_eq!((new.len(), new.damaged_after()), (3, None));
    assert_eq!(new.find(Tag::Name, "last"), [id(3)]);
}

#[test]
fn holes_lose_what_lies_in_them() {
    let (blob, foo) = sample();
    let bytes = Bytes::from(blob.bytes());
    let with = |range| Btf::new(Patchy { bytes: bytes.clone(), holes: Holes::new(vec![range]) }, 0).unwrap();
    let body = with(foo + 20..foo + 24);
    assert_eq!((body.len(), body.damaged_after()), (22, None));
    assert_eq!(body.get(7), None);
    assert!(body.get(8).is_some());
    let head = with(foo + 4..foo + 8);
    assert_eq!(head.damaged_after(), Some(6));
    assert!(head.get(6).is_some() && head.get(7).is_none() && head.get(22).is_none());
    let strings = 24 + blob.types.len();
    let name = strings + blob.btf().record(7).unwrap().1.name as usize;
    let lost = with(name + 1..name + 2);
    assert!(matches!(lost.get(7), Some(Type::Struct { name: Some(n), .. }) if &*n == "?"));
    assert_eq!(lost.find(Tag::Struct, "foo"), [id(8)], "the other one of that name");
    assert_eq!(lost.get(9), blob.btf().get(9));
    assert_eq!(lost.damage().as_deref(), Some("BTF: 1 bytes of names are not in the dump and read `?`"));
    assert_eq!(head.damage().as_deref(), Some("BTF: the types behind number 6 cannot be told"));
    assert_eq!(blob.btf().damage(), None);
}

#[test]
fn no_header_no_btf() {
    let whole = sample().0.bytes();
    for len in 0..24 {
        assert!(Btf::new(Bytes::copy_from_slice(&whole[..len]), 0).is_err());
    }
    let cut = Btf::new(Bytes::copy_from_slice(&whole[..40]), 0).unwrap();
    assert_eq!((cut.len(), cut.damaged_after()), (1, None));
    let mut bad = whole.clone();
    bad[0] = 0;
    assert!(Btf::new(Bytes::from(bad), 0).is_err());
    let mut bad = whole;
    bad[2] = 9;
    assert!(Btf::new(Bytes::from(bad), 0).is_err());
}

/// Asks everything of a blob.
fn exercise(btf: Btf) {
    let count = btf.len() as u32;
    let types = registry(btf);
    let source = types.source(0).unwrap();
    for local in 0..count + 2 {
        types.size_of(id(local));
        types.members(id(local));
        types.member(id(local), "a.b[1]");
        assert!(types.spell(id(local)).len() < 1 << 20);
    }
    for name in ["foo", "runqueues", "printk", "RED", "", "?"] {
        source.find(Tag::Struct, name);
        source.variable(name);
        source.function(name);
        source.enumerator(name);
    }
    source.each_name(&mut |_, _| true);
}

#[test]
fn damage_does_no_harm() {
    let whole = sample().0.bytes();
    let mut seed = 0x2545_f491_4f6c_dd1du64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed as usize
    };
    for _ in 0..20_000 {
        let mut bytes = whole.clone();
        for _ in 0..1 + random() % 4 {
            let at = random() % bytes.len();
            bytes[at] = random() as u8;
        }
        bytes.truncate(bytes.len() - random() % 8 / 7 * (random() % bytes.len()));
        if let Ok(btf) = Btf::new(Bytes::from(bytes), 0) {
            exercise(btf);
        }
    }
}

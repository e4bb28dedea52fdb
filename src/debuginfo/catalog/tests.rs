#![allow(clippy::unwrap_used)]
use super::*;
use crate::types::{EnumValue, Member};

/// A source that is a list of nodes; names are looked up by walking it.
struct Nodes(SourceId, Vec<Type>);

impl TypeSource for Nodes {
    fn get(&self, local: u32) -> Option<Type> {
        self.1.get(local as usize).cloned()
    }
    fn find(&self, tag: Tag, wanted: &str) -> Vec<TypeId> {
        let hit = |t: &Type| match t {
            Type::Struct { name: Some(name), union, .. } => {
                &**name == wanted && tag == if *union { Tag::Union } else { Tag::Struct }
            }
            Type::Enum { name: Some(name), .. } => tag == Tag::Enum && &**name == wanted,
            Type::Forward { tag: t, name } => *t == tag && &**name == wanted,
            Type::Typedef { name, .. } | Type::Int { name, .. } => tag == Tag::Name && &**name == wanted,
            _ => false,
        };
        (0u32..).zip(&self.1).filter(|(_, t)| hit(t)).map(|(i, _)| TypeId { source: self.0, local: i }).collect()
    }
    fn enumerator(&self, _: &str) -> Option<i64> {
        None
    }
    fn variable(&self, _: &str) -> Option<TypeId> {
        None
    }
    fn function(&self, _: &str) -> Option<TypeId> {
        None
    }
    fn each_name(&self, _: &mut dyn FnMut(Tag, &str) -> bool) {}
}

fn types(nodes: impl FnOnce(SourceId) -> Vec<Type>) -> Types {
    let types = Types::new();
    types.add(|id| Ok::<_, ()>(Arc::new(Nodes(id, nodes(id))) as Arc<dyn TypeSource>)).unwrap();
    types
}

fn id(local: u32) -> TypeId {
    TypeId { source: 0, local }
}

fn member(name: &str, ty: TypeId, bit_offset: u64, bit_size: Option<u32>) -> Member {
    Member { name: name.into(), ty, bit_offset, bit_size }
}

fn structure(name: &str, size: u64, members: Vec<Member>) -> Type {
    let name = (!name.is_empty()).then(|| name.into());
    Type::Struct { name, size, union: false, members: members.into() }
}

fn int() -> Type {
    Type::Int { name: "long unsigned int".into(), size: 8, signed: false, char: false, boolean: false }
}

/// `struct foo { unsigned long a; struct { unsigned long b; bar_t c[4]; }; unsigned long f:3; }`
fn sample() -> Types {
    types(|_| {
        vec![
            int(),
            structure("bar", 16, vec![member("x", id(0), 0, None), member("y", id(0), 64, None)]),
            Type::Typedef { name: "bar_t".into(), to: id(1) },
            Type::Array { elem: id(2), count: Some(4) },
            structure("", 72, vec![member("b", id(0), 0, None), member("c", id(3), 64, None)]),
            structure(
                "foo",
                88,
                vec![member("a", id(0), 0, None), member("", id(4), 64, None), member("f", id(0), 640, Some(3))],
            ),
            Type::Forward { tag: Tag::Struct, name: "foo".into() },
            Type::Enum {
                name: Some("colour".into()),
                size: 4,
                signed: false,
                values: [EnumValue { name: "RED".into(), value: 1 }].into(),
            },
        ]
    })
}

#[test]
fn members_through_anonymous_structs_and_arrays() {
    let t = sample();
    let foo = t.parse("struct foo").unwrap();
    assert_eq!(foo, id(5), "the definition, not the declaration");
    assert_eq!(t.member(foo, "b").unwrap(), Place { ty: id(0), bit_offset: 64, bit_size: None });
    assert_eq!(t.member(foo, "c[2].y").unwrap().offset(), 8 + 8 + 2 * 16 + 8);
    assert_eq!(t.member(foo, "f").unwrap().bit_size, Some(3));
    assert_eq!(t.member(id(6), "a").unwrap().offset(), 0, "a declaration finds its definition");
    assert_eq!(t.member(t.array_of(foo, Some(3)), "[2].a").unwrap().offset(), 176);
    for bad in ["", "nope", "a.b", "a[0]", "c[", "c[x]", ".a", "c..y", "c[99999999999999999999]"] {
        assert_eq!(t.member(foo, bad), None, "{bad}");
    }
    let names: Vec<_> = t.members(foo).into_iter().map(|(n, p)| (n.to_string(), p.offset())).collect();
    assert_eq!(names, [("a".into(), 0), ("b".into(), 8), ("c".into(), 16), ("f".into(), 80)]);
    assert_eq!(t.explain_member(foo, "c[0].z"), "`bar_t` has no member `z`; it has x, y");
}

#[test]
fn sizes() {
    let t = sample();
    let size = |text: &str| t.size_of(t.parse(text).unwrap());
    assert_eq!(size("foo"), Some(88));
    assert_eq!(size("bar_t [3][2]"), Some(96));
    assert_eq!(size("bar_t []"), Some(0));
    assert_eq!(size("bar_t *[5]"), Some(40));
    assert_eq!(size("enum colour"), Some(4));
    assert_eq!(size("void"), None);
    assert_eq!(size("int (void)"), None);
    assert_eq!(size("bar_t [0xffffffffffffffff][0xffffffffffffffff]"), None);
}

#[test]
fn what_is_spelled_parses_to_the_same_type() {
    let t = sample();
    for text in [
        "struct foo",
        "struct foo *",
        "struct foo **",
        "bar_t [16]",
        "struct foo *[4]",
        "unsigned long",
        "char [16]",
        "const char *",
        "char *const",
        "char *const volatile *",
        "int (*)(void)",
        "int (*)[4]",
        "int (*[3])(struct foo *, ...)",
        "void (*(*)(int, char))(unsigned long)",
        "int (*)(int (*cb)(char c), struct foo *(*)[2], unsigned long n)",
        "const char [4]",
        "u64",
        "uintptr_t",
        "unsigned long long",
        "enum colour",
    ] {
        let id = t.parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(t.spell(id), text);
        assert_eq!(t.parse(&t.spell(id)).unwrap(), id, "{text}");
    }
    let decl = |text: &str, name| t.spell_decl(t.parse(text).unwrap(), name);
    assert_eq!(decl("char[16]", "comm"), "char comm[16]");
    assert_eq!(decl("int(*)(void)", "fn"), "int (*fn)(void)");
    assert_eq!(decl("char * const", "s"), "char *const s");
}

#[test]
fn spellings_of_base_types() {
    let t = Types::new();
    for (text, spelled) in [
        ("long unsigned int", "unsigned long"),
        ("short int", "short"),
        ("unsigned", "unsigned int"),
        ("long long unsigned", "unsigned long long"),
        ("signed char", "signed char"),
        ("int const", "const int"),
    ] {
        assert_eq!(t.spell(t.parse(text).unwrap()), spelled);
    }
    for bad in [
        "",
        "*",
        "foo",
        "struct",
        "struct foo",
        "unsigned float",
        "long short",
        "int int",
        "int)",
        "int[",
        "a-b",
        "int x",
    ] {
        assert!(t.parse(bad).is_err(), "{bad}");
    }
    assert!(t.parse(&"(*".repeat(5000)).is_err());
    assert!(t.parse(&format!("int {}", "(*".repeat(5000))).is_err());
    assert_eq!(t.size_of(t.parse("s16").unwrap()), Some(2));
    assert_eq!(sample().parse("unsigned long").unwrap(), id(0), "the source's own type is preferred");
}

#[test]
fn loops_end() {
    let t = types(|_| {
        let anon = |at: u32| member("", id(at), 8, None);
        vec![
            Type::Typedef { name: "a".into(), to: id(1) },
            Type::Typedef { name: "b".into(), to: id(0) },
            Type::Qualified { qualifier: "const".into(), to: id(2) },
            structure("", 8, vec![anon(3), anon(4), anon(3)]),
            structure("s", 8, vec![anon(4), anon(3), anon(3), anon(4)]),
            Type::Array { elem: id(5), count: Some(2) },
            Type::Pointer { to: id(6) },
            Type::Func { ret: id(7), params: vec![member("p", id(7), 0, None); 50].into(), variadic: false },
            Type::Forward { tag: Tag::Struct, name: "gone".into() },
        ]
    });
    for local in 0..9 {
        t.size_of(id(local));
        t.member(id(local), "x.y[1]");
        t.members(id(local));
        t.explain_member(id(local), "x");
        assert!(t.spell(id(local)).len() < 100_000);
        t.resolve(id(local));
    }
}

#![allow(clippy::unwrap_used)]
//! Golden texts: mdb's own tests (bit-fields, layouts) and the rules of its `::print`, on types made by hand.

use super::*;
use crate::ctree::{Radix, Tree};
use debuginfo::{EnumValue, Member, Type};
use targets::{ReadError, Reason};

/// Bytes from address 0x1000 on; a symbol `table` of 0x40 bytes at 0xffffffff81000000.
struct Fake(Vec<u8>, std::ops::Range<u64>);

impl Memory for Fake {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<()> {
        let missing = |addr| Error::Read(ReadError { space: Space::Kernel, addr, reason: Reason::NotInDump });
        for (at, b) in (addr..).zip(buf) {
            let i = at.checked_sub(0x1000).ok_or_else(|| missing(at))?;
            *b = *self.0.get(i as usize).filter(|_| !self.1.contains(&at)).ok_or_else(|| missing(at))?;
        }
        Ok(())
    }
    fn string(&self, addr: u64, max: usize) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        while out.len() < max {
            let mut b = [0];
            self.read(addr + out.len() as u64, &mut b)?;
            if b == [0] {
                break;
            }
            out.push(b[0]);
        }
        Ok(out)
    }
    fn symbol(&self, addr: u64) -> Option<String> {
        let offset = addr.checked_sub(0xffff_ffff_8100_0000).filter(|o| *o < 0x40)?;
        Some(if offset == 0 { "table".into() } else { format!("table+{offset:#x}") })
    }
}

struct World(Types);

impl World {
    fn new() -> World {
        World(Types::new())
    }
    fn ty(&self, spelling: &str) -> TypeId {
        self.0.parse(spelling).unwrap()
    }
    fn aggregate(&self, name: &str, size: u64, union: bool, members: &[(&str, TypeId, u64, Option<u32>)]) -> TypeId {
        let members =
            members.iter().map(|&(n, ty, bit_offset, bit_size)| Member { name: n.into(), ty, bit_offset, bit_size });
        let name = (!name.is_empty()).then(|| name.into());
        self.0.make(Type::Struct { name, size, union, members: members.collect() })
    }
    fn structure(&self, name: &str, size: u64, members: &[(&str, TypeId, u64, Option<u32>)]) -> TypeId {
        self.aggregate(name, size, false, members)
    }
    fn typedef(&self, name: &str, to: TypeId) -> TypeId {
        self.0.make(Type::Typedef { name: name.into(), to })
    }
    fn enumeration(&self, name: &str, values: &[(&str, i64)]) -> TypeId {
        let values = values.iter().map(|&(n, value)| EnumValue { name: n.into(), value });
        self.0.make(Type::Enum { name: Some(name.into()), size: 4, signed: false, values: values.collect() })
    }
    fn tree(&self, ty: TypeId, bytes: &[u8], limits: Limits, style: Style) -> Tree {
        let place = Place { ty, bit_offset: 0, bit_size: None };
        tree(&self.0, &Fake(bytes.to_vec(), 0..0), 0x1000, place, limits, style).unwrap().0
    }
    fn text(&self, ty: TypeId, bytes: &[u8]) -> String {
        self.tree(ty, bytes, Limits::default(), Style::default()).to_text()
    }
    fn layout(&self, ty: TypeId) -> String {
        let style = Style { types: true, addresses: true, layout: true, ..Style::default() };
        let place = Place { ty, bit_offset: 0, bit_size: None };
        tree(&self.0, &Fake(vec![], 0..0), 0, place, Limits::default(), style).unwrap().0.to_text()
    }
}

const TYPES: Style = Style { types: true, bases: false, addresses: false, radix: Radix::Natural, layout: false };

#[test]
fn bit_fields_as_in_mdbs_own_test() {
    let w = World::new();
    let u = w.ty("unsigned int");
    let mut at = 0;
    let fields: Vec<_> =
        [("a", 3), ("b", 2), ("c", 1), ("d", 1), ("e", 1), ("f", 1), ("g", 3), ("h", 3), ("i", 5), ("j", 4), ("k", 6)]
            .into_iter()
            .chain([("l", 1), ("m", 1)])
            .map(|(name, bits)| {
                at += u64::from(bits);
                (format!("brk_{name}"), u, at - u64::from(bits), Some(bits))
            })
            .collect();
    let fields: Vec<_> = fields.iter().map(|(n, t, o, b)| (n.as_str(), *t, *o, *b)).collect();
    let broken = w.typedef("broken_t", w.structure("broken", 4, &fields));
    let values = [3u32, 3, 0, 1, 1, 1, 3, 5, 3, 9, 19, 0, 1];
    let word = fields.iter().zip(values).fold(0, |word, ((_, _, at, _), v)| word | v << at);
    let tree = w.tree(broken, &word.to_le_bytes(), Limits::default(), TYPES);
    let expected = "\
broken_t {
    unsigned int:3 brk_a :3 = 0x3
    unsigned int:2 brk_b :2 = 0x3
    unsigned int:1 brk_c :1 = 0
    unsigned int:1 brk_d :1 = 0x1
    unsigned int:1 brk_e :1 = 0x1
    unsigned int:1 brk_f :1 = 0x1
    unsigned int:3 brk_g :3 = 0x3
    unsigned int:3 brk_h :3 = 0x5
    unsigned int:5 brk_i :5 = 0x3
    unsigned int:4 brk_j :4 = 0x9
    unsigned int:6 brk_k :6 = 0x13
    unsigned int:1 brk_l :1 = 0
    unsigned int:1 brk_m :1 = 0x1
}";
    assert_eq!(tree.to_text(), expected);
    assert_eq!(tree.to_json()["value"]["brk_k"], 19);
}

#[test]
fn layouts_as_in_mdbs_own_tests() {
    let w = World::new();
    let stone = w.0.array_of(w.ty("uintptr_t"), Some(7));
    let gift = w.structure("gift", 0x40, &[("stone", stone, 0, None), ("white", w.ty("void **"), 0x38 * 8, None)]);
    let expected = "0 gift_t {\n    0 uintptr_t [7] stone \n    38 void **white \n}";
    assert_eq!(w.layout(w.typedef("gift_t", gift)), expected);
    assert_eq!(w.layout(gift), expected.replace("gift_t", "struct gift"));
    let bearer = w.aggregate(
        "ringbearer",
        8,
        true,
        &[("frodo", w.ty("int"), 0, None), ("sam", w.ty("char"), 0, None), ("gandalf", w.ty("long"), 0, None)],
    );
    let expected = "0 union ringbearer {\n    0 int frodo \n    0 char sam \n    0 long gandalf \n}";
    assert_eq!(w.layout(bearer), expected);
    assert_eq!(w.layout(w.typedef("rm_t", w.ty("uint8_t"))), "0 rm_t ");
}

/// `struct inner { int x; char c; }`, and a struct with one of everything.
fn everything(w: &World) -> (TypeId, Vec<u8>) {
    let inner = w.structure("inner", 8, &[("x", w.ty("int"), 0, None), ("c", w.ty("char"), 32, None)]);
    let anon = w.aggregate("", 8, true, &[("u", w.ty("long"), 0, None), ("v", w.ty("int"), 0, None)]);
    let array = |t: &str, n| w.0.array_of(w.ty(t), Some(n));
    let colour = w.enumeration("colour", &[("RED", 1), ("GREEN", 2), ("BLUE", 3), ("LAST", 12)]);
    let flags = w.enumeration("flags", &[("F_A", 1), ("F_B", 2), ("F_C", 4)]);
    let all = w.structure(
        "all",
        0x90,
        &[
            ("inner", inner, 0, None),
            ("", anon, 0x40, None),
            ("comm", array("char", 8), 0x80, None),
            ("two", w.0.array_of(inner, Some(2)), 0xc0, None),
            ("m", w.0.array_of(array("short", 2), Some(2)), 0x140, None),
            ("colour", colour, 0x180, None),
            ("flags", flags, 0x1a0, None),
            ("name", w.ty("const char *"), 0x1c0, None),
            ("table", w.ty("void (*)(int)"), 0x200, None),
            ("null", w.ty("void *"), 0x240, None),
            ("gone", w.ty("int *"), 0x280, None),
            ("bytes", array("u8", 3), 0x2c0, None),
            ("f", w.ty("double"), 0x300, None),
            ("flex", w.0.array_of(w.ty("int"), None), 0x340, None),
            ("last", w.ty("unsigned short"), 0x380, None),
            ("neg", w.ty("int"), 0x3a0, Some(5)),
        ],
    );
    let mut b = vec![0; 0x90];
    let mut put = |at: usize, bytes: &[u8]| b[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &[0xff, 0xff, 0xff, 0xff, b'q']);
    put(8, &[7]);
    put(0x10, b"init\0\xff");
    put(0x18, &[1, 0, 0, 0, b'a', 0, 0, 0, 2, 0, 0, 0, 0]);
    put(0x28, &[1, 0, 2, 0, 3, 0, 4, 0]);
    put(0x30, &[12, 0, 0, 0, 13, 0, 0, 0]);
    put(0x38, &0x1010u64.to_le_bytes());
    put(0x40, &0xffff_ffff_8100_0010u64.to_le_bytes());
    put(0x50, &0x22u64.to_le_bytes());
    put(0x58, b"abc");
    put(0x60, &1.5f64.to_le_bytes());
    put(0x70, &[0x34, 0x12]);
    put(0x74, &[0b11101]);
    (all, b)
}

#[test]
fn one_of_everything() {
    let w = World::new();
    let (all, bytes) = everything(&w);
    let expected = "\
{
    inner = {
        x = 0xffffffff
        c = 'q'
    }
    <anon> = {
        u = 0x7
        v = 0x7
    }
    comm = [ \"init\" ]
    two = [
        {
            x = 0x1
            c = 'a'
        },
        {
            x = 0x2
            c = '\\0'
        },
    ]
    m = [
        [ 0x1, 0x2 ]
        [ 0x3, 0x4 ]
    ]
    colour = 0t12 (LAST)
    flags = 0xd (F_{A|C}|0x8)
    name = 0x1010 \"init\"
    table = table+0x10
    null = 0
    gone = 0x22
    bytes = [ 0x61, 0x62, 0x63 ]
    f = +1.5000000e+00
    flex = [ ... ]
    last = 0x1234
    neg = -0t3
}";
    assert_eq!(w.text(all, &bytes), expected);
    let json = w.tree(all, &bytes, Limits::default(), Style::default()).to_json();
    assert_eq!(
        json.to_string(),
        concat!(
            r#"{"addr":"0x1000","type":"struct all","value":{"inner":{"x":-1,"c":"q"},"u":"0x7","v":7,"comm":"init","#,
            r#""two":[{"x":1,"c":"a"},{"x":2,"c":"\u0000"}],"m":[[1,2],[3,4]],"colour":{"value":12,"name":"LAST"},"#,
            r#""flags":{"value":13,"name":"F_{A|C}|0x8"},"name":{"addr":"0x1010","string":"init"},"#,
            r#""table":{"addr":"0xffffffff81000010","symbol":"table+0x10"},"null":"0x0","gone":"0x22","#,
            r#""bytes":[97,98,99],"f":1.5,"flex":[],"last":4660,"neg":-3}}"#
        )
    );
}

#[test]
fn types_and_addresses() {
    let w = World::new();
    let (all, bytes) = everything(&w);
    let style = Style { addresses: true, bases: true, ..TYPES };
    let text = w.tree(all, &bytes, Limits { depth: 1, ..Limits::default() }, style).to_text();
    for line in [
        "1000 struct all {",
        "    1000 struct inner inner = { ... }",
        "    1008 union {...} <anon> = { ... }",
        "    1010 char [8] comm = [ ... ]",
        "    1030 enum colour colour = 0t12 (LAST)",
        "    1038 const char *name = 0x1010 \"init\"",
        "    1040 void (*)(int) table = table+0x10",
        "    1074 int:5 neg :5 = -0t3",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    let text = w.tree(w.ty("u16"), &[1, 2], Limits::default(), style).to_text();
    assert_eq!(text, "1000 u16 <<unsigned short>> 0x201");
}

#[test]
fn radix_options() {
    let w = World::new();
    let (all, bytes) = everything(&w);
    let text = |radix| w.tree(all, &bytes, Limits::default(), Style { radix, ..Style::default() }).to_text();
    let decimal = text(Radix::Decimal);
    for line in [
        "        x = -0t1",
        "    last = 0t4660",
        "    neg = -0t3",
        "    bytes = [ 0t97, 0t98, 0t99 ]",
        "    flags = 0xd (F_{A|C}|0x8)",
    ] {
        assert!(decimal.lines().any(|l| l == line), "{line}\n{decimal}");
    }
    let hex = text(Radix::Hex);
    for line in ["    colour = 0xc (LAST)", "    neg = 0x1d", "        x = 0xffffffff"] {
        assert!(hex.lines().any(|l| l == line), "{line}\n{hex}");
    }
}

#[test]
fn holes_show_what_they_hold() {
    let w = World::new();
    let s = w.structure(
        "s",
        24,
        &[
            ("a", w.ty("char"), 0, None),
            ("b", w.ty("int"), 32, None),
            ("c", w.ty("int"), 64, Some(3)),
            ("d", w.ty("short"), 128, None),
        ],
    );
    let bytes: Vec<u8> = (0x61..0x61 + 24).collect();
    let limits = Limits { holes: true, ..Limits::default() };
    let expected = "\
struct s {
    char a = 'a'
    unsigned <<HOLE>> :24 = 0x646362
    int b = 0x68676665
    int:3 c :3 = 1
    unsigned <<HOLE>> :61 = 0xe0e0dcdad8d6d4d
    short d = 0x7271
    unsigned <<HOLE>> :48 = 0x787776757473
}";
    // 0x706f6e6d6c6b6a69 >> 3
    let expected = expected.replace("0xe0e0dcdad8d6d4d", &format!("{:#x}", 0x706f_6e6d_6c6b_6a69u64 >> 3));
    assert_eq!(w.tree(s, &bytes, limits, TYPES).to_text(), expected);
}

#[test]
fn long_arrays_and_long_strings_are_cut() {
    let w = World::new();
    let array = |t: &str, n| w.0.array_of(w.ty(t), Some(n));
    let limits = Limits { elements: 2, chars: 4, ..Limits::default() };
    let text = |ty, bytes: &[u8]| w.tree(ty, bytes, limits, Style::default()).to_text();
    assert_eq!(text(array("short", 4), &[1, 0, 2, 0, 3, 0, 4, 0]), "[ 0x1, 0x2, ... ]");
    assert_eq!(text(array("char", 8), b"abcdefgh"), "[ \"abcd\"... ]");
    assert_eq!(text(array("char", 8), b"abc\0efgh"), "[ \"abc\" ]");
    assert_eq!(text(array("char", 3), &[0, 1, 2]), "[ '\\0', '\\001', ... ]");
    let pair = w.structure("pair", 2, &[("a", w.ty("char"), 0, None)]);
    assert_eq!(
        text(w.0.array_of(pair, Some(3)), b"a_b_c_"),
        "[\n    {\n        a = 'a'\n    },\n    {\n        a = 'b'\n    },\n... ]"
    );
    // an array larger than memory costs no more than what is shown of it
    assert_eq!(text(array("long", 1 << 60), &[0; 16]), "[ 0, 0, ... ]");
    assert_eq!(
        text(w.ty("char *"), &0x1008u64.to_le_bytes().into_iter().chain(*b"hi\0").collect::<Vec<_>>()),
        "0x1008 \"hi\""
    );
}

#[test]
fn a_missing_page_hides_only_its_members() {
    let w = World::new();
    let inner = w.structure("inner", 16, &[("x", w.ty("long"), 0, None), ("y", w.ty("long"), 64, None)]);
    let s = w.structure("s", 32, &[("a", inner, 0, None), ("b", inner, 128, None)]);
    let place = Place { ty: s, bit_offset: 0, bit_size: None };
    let read = |missing| tree(&w.0, &Fake(vec![1; 32], missing), 0x1000, place, Limits::default(), Style::default());
    let (t, _) = read(0x1018..0x1020).unwrap();
    let expected = "\
{
    a = {
        x = 0x101010101010101
        y = 0x101010101010101
    }
    b = {
        x = 0x101010101010101
        y = <unreadable: not in the dump>
    }
}";
    assert_eq!(t.to_text(), expected);
    assert_eq!(t.to_json()["value"]["b"]["y"]["unreadable"], "not in the dump");
    assert!(read(0x1000..0x1020).unwrap_err().is_unreadable(), "nothing at all is an error");
}

#[test]
fn damaged_types_end() {
    let w = World::new();
    // a struct whose only member is an array of arrays … of 2^20 elements each
    let mut ty = w.ty("char");
    for _ in 0..8 {
        ty = w.0.array_of(ty, Some(1 << 4));
    }
    let limits = Limits { elements: u64::MAX, ..Limits::default() };
    let place = Place { ty, bit_offset: 0, bit_size: None };
    let memory = Fake(vec![0; 1 << 20], 0..0);
    let (t, cut) = tree(&w.0, &memory, 0x1000, place, limits, Style::default()).unwrap();
    assert!(cut);
    assert!(t.to_text().ends_with("... ]"));
    let odd = w.structure(
        "odd",
        8,
        &[("a", w.ty("int"), 0, None), ("wide", w.ty("int"), 0, Some(1000)), ("far", w.ty("int"), u64::MAX, None)],
    );
    assert!(w.text(odd, &[0; 8]).contains("<unreadable"));
    assert_eq!(w.text(w.ty("int [0]"), &[]), "[ ... ]");
    let empty = w.structure("lock_class_key", 0, &[]);
    assert_eq!(w.text(empty, &[]), "{\n}");
    let big = w.ty("__int128");
    assert_eq!(w.text(big, &[1; 16]), "0x1010101010101010101010101010101");
}

#[test]
fn well_known_values() {
    let w = World::new();
    let in_addr = w.structure("in_addr", 4, &[("s_addr", w.ty("u32"), 0, None)]);
    let s = w.structure("s", 16, &[("ip", in_addr, 0, None), ("t", w.typedef("time_t", w.ty("long")), 64, None)]);
    let mut bytes = vec![127, 0, 0, 1, 0, 0, 0, 0];
    bytes.extend(1_727_545_878u64.to_le_bytes());
    assert_eq!(w.text(s, &bytes), "{\n    ip = 127.0.0.1\n    t = 2024 Sep 28 17:51:18\n}");
    let dec = w.tree(s, &bytes, Limits::default(), Style { radix: Radix::Decimal, ..Style::default() });
    assert!(dec.to_text().contains("t = 0t1727545878"));
    let tm = w.typedef("time64_t", w.ty("long"));
    assert_eq!(w.text(tm, &60u64.to_le_bytes()), "0x3c", "an uptime is no date");
}

#[test]
fn paths_and_prefixes() {
    let w = World::new();
    let (all, bytes) = everything(&w);
    let mut tree = w.tree(w.0.member(all, "inner").unwrap().ty, &bytes, Limits::default(), Style::default());
    tree.path = Some(("inner".into(), "."));
    assert_eq!(tree.to_text(), "inner = {\n    inner.x = 0xffffffff\n    inner.c = 'q'\n}");
    let place = w.0.member(all, "neg").unwrap();
    let memory = Fake(bytes, 0..0);
    let (mut t, _) =
        super::tree(&w.0, &memory, 0x1074, place, Limits::default(), Style { addresses: true, ..Style::default() })
            .unwrap();
    t.path = Some(("neg".into(), "."));
    assert_eq!(t.to_text(), "1074 neg = -0t3");
    assert_eq!(t.to_json().to_string(), r#"{"addr":"0x1074","type":"int","member":"neg","value":-3}"#);
    for (offset, name) in [(4, "inner.c"), (8, "u"), (0x21, "two[1].x"), (0x2e, "m[1][1]"), (0x74, "neg")] {
        assert_eq!(path::member_at(&w.0, all, offset).unwrap().0, name);
    }
    assert_eq!(path::member_at(&w.0, all, 0x76).unwrap().0, "", "padding");
    assert_eq!(path::member_at(&w.0, all, 0x90), None);
}

#[test]
fn path_grammar() {
    for good in ["a", ".a", "->a", "a.b->c[3].d", "[1]", "a[1][2]", "a[4*2]"] {
        assert!(path::Path::parse(good, 16).is_ok(), "{good}");
    }
    for bad in ["", ".", "a.", "a..b", "a[", "a[1]b", "a[]", "a-b", "a b", "->"] {
        assert!(path::Path::parse(bad, 16).is_err(), "{bad}");
    }
}

//! Commands against a dump made by hand: three linked nodes at physical 0x1000, whose types are made by hand too.
//!
//! ```c
//! struct node { int id; unsigned flags:3; enum colour colour; char name[8]; struct node *next; char *text; };
//! ```
#![allow(clippy::unwrap_used)]

use engine::{
    Cx, Env, Face, Item, Registry, Result, Session, Sink, Space, Tag, Type, TypeId, WalkerEntry,
    debuginfo::{EnumValue, Member, SourceId, TypeSource, Types},
    pipeline,
    symbols::Symbols,
    targets::{OpenOptions, Target},
};
use std::{cell::RefCell, io::Write, sync::Arc};

const NODE: u32 = 5;

struct Nodes(SourceId);

impl Nodes {
    fn id(&self, local: u32) -> TypeId {
        TypeId { source: self.0, local }
    }
}

impl TypeSource for Nodes {
    fn get(&self, local: u32) -> Option<Type> {
        let int = |name: &str, size, signed| {
            let (char, name) = (size == 1, name.into());
            Type::Int { name, size, signed, char, boolean: false }
        };
        let member = |name: &str, local, byte: u64, bit_size| {
            let (name, ty) = (name.into(), self.id(local));
            Member { name, ty, bit_offset: byte * 8, bit_size }
        };
        let value = |name: &str, value| EnumValue { name: name.into(), value };
        Some(match local {
            0 => int("int", 4, true),
            1 => int("unsigned int", 4, false),
            2 => int("char", 1, true),
            3 => Type::Array { elem: self.id(2), count: Some(8) },
            4 => Type::Pointer { to: self.id(NODE) },
            NODE => Type::Struct {
                name: Some("node".into()),
                size: 48,
                union: false,
                members: [
                    member("id", 0, 0, None),
                    member("flags", 1, 4, Some(3)),
                    member("colour", 6, 8, None),
                    member("name", 3, 16, None),
                    member("next", 4, 24, None),
                    member("text", 7, 32, None),
                ]
                .into(),
            },
            6 => Type::Enum {
                name: Some("colour".into()),
                size: 4,
                signed: false,
                values: [value("C_RED", 1), value("C_GREEN", 2), value("C_BLUE", 3)].into(),
            },
            7 => Type::Pointer { to: self.id(2) },
            _ => return None,
        })
    }
    fn find(&self, tag: Tag, name: &str) -> Vec<TypeId> {
        let local = match (tag, name) {
            (Tag::Name, "int") => 0,
            (Tag::Name, "unsigned int") => 1,
            (Tag::Name, "char") => 2,
            (Tag::Struct, "node") => NODE,
            (Tag::Enum, "colour") => 6,
            _ => return Vec::new(),
        };
        vec![self.id(local)]
    }
    fn enumerator(&self, name: &str) -> Option<i64> {
        ["C_RED", "C_GREEN", "C_BLUE"].iter().position(|n| *n == name).map(|i| i as i64 + 1)
    }
    fn variable(&self, _: &str) -> Option<TypeId> {
        None
    }
    fn function(&self, _: &str) -> Option<TypeId> {
        None
    }
    fn each_name(&self, visit: &mut dyn FnMut(Tag, &str) -> bool) {
        let _ = visit(Tag::Struct, "node") && visit(Tag::Enum, "colour");
    }
}

/// Nodes at 0x1000, 0x1040, 0x1080; the last one's `next` leads out of the dump.
fn memory() -> Vec<u8> {
    let mut bytes = vec![0; 0x200];
    let nodes = [
        (7i32, 5u32, 1u32, "one", 0x1040u64, 0x1100u64),
        (-2, 2, 3, "two", 0x1080, 0),
        (300, 0, 9, "three", 0x9000, 0x8000),
    ];
    for (i, (id, flags, colour, name, next, text)) in nodes.into_iter().enumerate() {
        let node = &mut bytes[i * 0x40..][..48];
        node[..4].copy_from_slice(&id.to_le_bytes());
        node[4..8].copy_from_slice(&flags.to_le_bytes());
        node[8..12].copy_from_slice(&colour.to_le_bytes());
        node[16..16 + name.len()].copy_from_slice(name.as_bytes());
        node[24..32].copy_from_slice(&next.to_le_bytes());
        node[32..40].copy_from_slice(&text.to_le_bytes());
    }
    bytes[0x100..0x106].copy_from_slice(b"hello\0");
    bytes
}

/// An ELF core with one range of physical memory.
fn core(paddr: u64, memory: &[u8]) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    // type, machine, version; entry, phoff, shoff; flags, sizes and counts
    file.extend([4u16, 62].map(u16::to_le_bytes).concat());
    file.extend(1u32.to_le_bytes());
    file.extend([0u64, 64, 0].map(u64::to_le_bytes).concat());
    file.extend(0u32.to_le_bytes());
    file.extend([64u16, 56, 1, 0, 0, 0].map(u16::to_le_bytes).concat());
    file.extend([1u32, 6].map(u32::to_le_bytes).concat());
    let size = memory.len() as u64;
    file.extend([120, 0, paddr, size, size, 1].map(u64::to_le_bytes).concat());
    file.extend(memory);
    file
}

static WALKERS: &[WalkerEntry] = &[WalkerEntry {
    name: "node",
    doc: "walk the three nodes",
    item: "struct node",
    address: engine::Address::None,
    walk: |_, _, visit| [0x1000, 0x1040, 0x1080].into_iter().try_for_each(visit),
}];

static REGISTRY: Registry = Registry {
    dcmds: crate::DCMDS,
    walkers: &[WALKERS],
    dynamic: &[],
    modules: |_| Vec::new(),
    sections: |_, _| Ok(Default::default()),
    crash_cpu: |_| 0,
    anchors: |_| Vec::new(),
    thread: |_| None,
    is_ram: |_, _| true,
    examples: "",
    disassemble: crate::dis::disassemble,
};

/// Renders to a list of lines.
#[derive(Default)]
struct Lines(RefCell<Vec<String>>);

struct Writer<'a>(&'a Lines);

impl Sink for Writer<'_> {
    fn item(&mut self, item: Item) -> Result<()> {
        let text = match item {
            Item::Object(o) => format!("{:#x}", o.addr),
            Item::Line(line) => line,
            Item::Tree(tree) => tree.to_text(),
            Item::Row(row) => row.cells.iter().map(|c| format!("{c:?}")).collect::<Vec<_>>().join(" "),
        };
        self.0.0.borrow_mut().push(text);
        Ok(())
    }
}

impl Face for Lines {
    fn open<'a>(&'a self, _: &Cx<'a>, _: Option<&str>) -> Result<Box<dyn Sink + 'a>> {
        Ok(Box::new(Writer(self)))
    }
    fn filter(&self, _: &Cx<'_>, _: &str, _: Vec<Item>) -> Result<String> {
        Ok(String::new())
    }
    fn shell(&self, _: &str) -> Result<()> {
        Ok(())
    }
    fn complain(&self, error: &engine::Error, file: &str, number: usize, _: &str) {
        panic!("{file}:{number}: {error}");
    }
}

fn session() -> Session {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&core(0x1000, &memory())).unwrap();
    let target = Target::open(file.path(), &OpenOptions::default()).unwrap();
    let types = Types::new();
    types.add(|id| Ok::<_, ()>(Arc::new(Nodes(id)) as Arc<dyn TypeSource>)).unwrap();
    Session::new(Arc::new(target), types, Symbols::default(), &REGISTRY)
}

/// What a line prints, its error and its notes at the end.
fn run(session: &Session, line: &str) -> String {
    let env = Env::default();
    env.space.set(Space::Phys);
    let lines = Lines::default();
    let cx = Cx { session, env: &env, face: &lines };
    let result = pipeline::run(&cx, line);
    let mut out = lines.0.into_inner();
    if let Err(e) = result {
        session.notes.hush();
        out.push(format!("error: {e}"));
        out.extend(e.advice().map(|a| format!("hint: {a}")));
    }
    out.extend(session.notes.take().into_iter().map(|n| format!("note: {n}")));
    out.join("\n")
}

fn check(cases: &[(&str, &str)]) {
    let session = session();
    for (line, expected) in cases {
        assert_eq!(run(&session, line), *expected, "{line}");
    }
}

#[test]
fn print() {
    check(&[
        (
            "1000::print struct node",
            "{\n    id = 0x7\n    flags = 0x5\n    colour = 1 (C_RED)\n    name = [ \"one\" ]\n    next = 0x1040\n    text = 0x1100 \"hello\"\n}",
        ),
        ("1000::print -t struct node next->name id", "char [8] next->name = [ \"two\" ]\nint id = 0x7"),
        ("::walk node | ::print name", "name = [ \"one\" ]\nname = [ \"two\" ]\nname = [ \"three\" ]"),
        ("::walk node | ::head -1 | ::print next | ::print id", "id = 0xfffffffe"),
        ("::walk node | ::print id | ::map '.+1'", "0x8\n0xffffffff\n0x12d"),
        (
            "::walk node | ::print -a name",
            "1010 name = [ \"one\" ]\n1050 name = [ \"two\" ]\n1090 name = [ \"three\" ]",
        ),
        // stages that pass items through show what was printed, those that take addresses get the value
        ("::walk node | ::print -a name | ::head -1", "1010 name = [ \"one\" ]"),
        ("::walk node | ::print -a name | ::head -1 | ::map .", "0x1010"),
        ("::walk node | ::print flags | ::tail -1", "flags = 0"),
        ("::walk node | ::print flags | ::tail -1 | ::map .", "0x0"),
        ("1000::print struct node $[4] $[11]", "flags = 0x5\nname[1] = 'n'"),
        (
            "1000::print struct node next[0]",
            "next = {\n    next->id = 0xfffffffe\n    next->flags = 0x2\n    next->colour = 3 (C_BLUE)\n    next->name = [ \"two\" ]\n    next->next = 0x1080\n    next->text = 0\n}",
        ),
        ("41::print -i char", "'A'"),
        ("::print -at struct node next->id", "0 int next->id "),
        ("::walk node | ::print next->id", "next->id = 0xfffffffe\nnext->id = 0x12c\nnote: not in the dump, at 1080"),
        ("1000::print", "error: the type of what lies at 0x1000 is not known\nhint: name it: `ADDR::print struct foo`"),
        ("1000::print struct nod", "error: no type `struct nod`\nhint: did you mean `node`?"),
        ("1000::print struct node nam", "error: `struct node` has no member `nam`\nhint: did you mean `name`?"),
        ("9000::print struct node", "error: cannot read physical address 0x9000: not in the dump"),
    ]);
}

#[test]
fn printf() {
    check(&[
        (
            r"::walk node | ::printf '%-6s|%4d|%x|%s\n' name id flags colour",
            "one   |   7|5|C_RED\ntwo   |  -2|2|C_BLUE\nthree | 300|0|<9>",
        ),
        ("::walk node | ::printf '%d ' id", "7 -2 300 "),
        ("1000::printf '%?p %s' struct node . text", "            1000 hello"),
        ("1000::printf '%s' struct node id", "error: %s needs a string; `id` is `int`"),
        ("1000::printf '%d' struct node id id", "error: missing format specifiers (found 1, expected 2)"),
    ]);
}

#[test]
fn conditions() {
    check(&[
        ("::walk node | ::where id > 0", "0x1000\n0x1080"),
        ("::walk node | ::where id == -2 && name =~ \"^t\"", "0x1040"),
        ("::walk node | ::where 'colour == C_BLUE'", "0x1040"),
        ("::walk node | ::where colour == \"C_RED\"", "0x1000"),
        ("::walk node | ::where flags & 4", "0x1000"),
        ("::walk node | ::where next->id == 300", "0x1040\nnote: left out by ::where: not in the dump, at 1080"),
        (
            "::walk node | ::where next->next->id == 300",
            "0x1000\nnote: left out by ::where: not in the dump: 2 times, at 1040, 1080",
        ),
        ("::walk node | ::where text == NULL", "0x1040"),
        ("::walk node | ::where text == \"hello\"", "0x1000\nnote: left out by ::where: not in the dump, at 1080"),
        ("::walk node | ::where . == 0x1080", "0x1080"),
        ("::walk node | ::filter 'node->id != 300 && node->name == \"two\"'", "0x1040"),
        ("::walk node | ::where ((struct node *)0x1000)->id == id", "0x1000"),
        ("::walk node | ::where sizeof(struct node) == 48 | ::count", "Uint(3)"),
        ("::walk node | ::where name[0] == 'o'", "0x1000"),
        (
            "::walk node | ::where *next->name == 't'",
            "0x1000\n0x1040\nnote: left out by ::where: not in the dump, at 1080",
        ),
        (
            "::walk node | ::where nam == 1",
            "error: in `nam == 1`: 'nam' is no column, member, enumerator or symbol\nhint: did you mean `name`?\n\
             note: there are no kernel symbols to look in: `nam`",
        ),
        (
            "::walk node | ::where next->nam == 1",
            "error: in `next->nam == 1`: `struct node` has no member `nam`\nhint: did you mean `name`?\n\
             note: there are no kernel symbols to look in: `next->nam`",
        ),
        ("::enum colour | ::where value > 1", "Int(2) Str(\"C_GREEN\")\nInt(3) Str(\"C_BLUE\")"),
        ("::typelist | ::where kind == \"struct\"", "Uint(48) Str(\"struct\") Str(\"node\")"),
        ("::walk node | ::grep '*/4/(.)!=7'", "0x1040\n0x1080"),
        ("::walk node | ::print next | ::grep '*.!=0' | ::count", "Uint(2)\nnote: not in the dump, at 9000"),
        (
            "::walk node n | ::eval '<n=X'",
            "                1000            \n                1040            \n                1080            ",
        ),
    ]);
}

#[test]
fn orders_and_sums() {
    check(&[
        ("::walk node | ::sort id", "0x1040\n0x1000\n0x1080"),
        ("::walk node | ::sort -r name | ::print name", "name = [ \"two\" ]\nname = [ \"three\" ]\nname = [ \"one\" ]"),
        (
            "::walk node | ::sort next->id",
            "0x1000\n0x1040\n0x1080\nnote: memory that was asked for is not in the dump, at 9000",
        ),
        ("::walk node | ::uniq -c 'id > 0'", "Uint(2) Int(1)\nUint(1) Int(0)"),
        ("::walk node | ::uniq 'id > 0'", "0x1000\n0x1040"),
        ("::walk node | ::sum id", "Uint(305) Uint(3) Int(-2) Uint(300) Uint(101)"),
        (
            "::walk node | ::quantize flags",
            "Uint(0) Str(\"@@@@@@@@@@@@@@\") Uint(1)\nUint(1) Str(\"\") Uint(0)\nUint(2) Str(\"@@@@@@@@@@@@@@\") Uint(1)\nUint(4) Str(\"@@@@@@@@@@@@@@\") Uint(1)",
        ),
        ("::walk node | ::head -2 | ::count", "Uint(2)"),
        ("::walk node | ::head 0 | ::count", "Uint(0)"),
        ("::walk node | ::tail -n 1", "0x1080"),
        ("::walk node | ::count | =K", "                3               "),
        ("::walk node | ::head -x", "error: ::head takes a decimal number: `::head -5`"),
        ("::head", "error: ::head works on what a pipe brings\nhint: `::walk … | ::head`"),
    ]);
}

#[test]
fn walks() {
    check(&[
        ("::walk node n | ::print next | ::eval '<n=X' | ::count", "Uint(3)"),
        ("1000::walk node", "error: the walker `node` takes no address"),
        ("::walk nod", "error: no walker named `nod`\nhint: did you mean `node`?"),
        ("::walk print", "error: no walker named `print`\nhint: `print` is a dcmd: `::print`"),
        ("::walk node 'a b'", "error: ` ` may not be used in a variable name"),
        ("1000::list struct node next", "0x1000\n0x1040\n0x1080\n0x9000\nnote: list with an unreadable entry, at 9000"),
        ("1000::list $[18] | ::head -2", "0x1000\n0x1040"),
        ("1000::list struct node id", "error: `id` is neither a pointer nor a list link, but `int`"),
        ("1000::array struct node 2", "0x1000\n0x1030"),
        (
            "1000::array 'struct node *' 2 v | ::eval '<v=X'",
            "                1000            \n                1008            ",
        ),
        ("1018::container_of struct node next | ::print id", "id = 0x7"),
        ("::walkers", "Str(\"node\") Str(\"walk the three nodes\")"),
    ]);
}

#[test]
fn types() {
    check(&[
        ("::sizeof struct node", "sizeof (struct node) = 0x30"),
        ("::sizeof int", "sizeof (int) = 4"),
        ("::sizeof 'struct node [4]'", "sizeof (struct node [4]) = 0xc0"),
        ("::sizeof struct node | =K", "                30              "),
        ("::offsetof struct node name[2]", "offsetof (struct node, name[2]) = 0x12, sizeof (...->name[2]) = 1"),
        ("::offsetof struct node flags", "offsetof (struct node, flags) = 4, sizeof (...->flags) = 4"),
        ("::offsetof struct node nxt", "error: `struct node` has no member `nxt`\nhint: did you mean `next`?"),
        ("::enum -e colour", "Int(1) Str(\"RED\")\nInt(2) Str(\"GREEN\")\nInt(3) Str(\"BLUE\")"),
        ("::enum -x colour C_BLUE", "Hex(3) Str(\"C_BLUE\")"),
        ("2::enum colour", "Int(2) Str(\"C_GREEN\")"),
        ("9::enum colour", "error: 0x9 is no value of `colour`"),
        ("::enum colour C_BLU", "error: `C_BLU` is no name in `colour`\nhint: did you mean `C_BLUE`?"),
        ("::enum struct node", "error: `struct node` is not an enumeration"),
    ]);
}

#[test]
fn bytes_and_names() {
    check(&[
        (
            "1010::dump -l 11",
            "       \\/ 1 2 3  4 5 6 7  8 9 a b  c d e f  v123456789abcdef\n1010:  6f6e6500 00000000 40100000 00000000  one.....@.......\n1020:  00110000 00000000 00000000 00000000  ................",
        ),
        ("1011,2::dump -tq", "        0\\/ 2 3  4 5 6 7  8 9 a b  c d e f\n1010:    6e65"),
        (
            "1040::dump -usl 100",
            "        0 1 2 3  4 5 6 7  8 9 a b  c d e f  0123456789abcdef\n1040:  feffffff 02000000 03000000 00000000  ................\n1050:  74776f00 00000000 80100000 00000000  two.............\n1060:  00000000 00000000 00000000 00000000  ................\n*\n1080:  2c010000 00000000 09000000 00000000  ,...............\n1090:  74687265 65000000 00900000 00000000  three...........\n10a0:  00800000 00000000 00000000 00000000  ................\n10b0:  00000000 00000000 00000000 00000000  ................\n*\n1100:  68656c6c 6f000000 00000000 00000000  hello...........\n1110:  00000000 00000000 00000000 00000000  ................\n*\n1130:  00000000 00000000 00000000 00000000  ................",
        ),
        (
            "1ff8::dump -l 20",
            "        0 1 2 3  4 5 6 7 \\/ 9 a b  c d e f  01234567v9abcdef\n1ff0:  00000000 00000000 00000000 00000000  ................\nerror: cannot read physical address 0x2000: not in the dump",
        ),
        (
            "1000::nmadd -s 30 first; first+8=p; ::nm -p; ::nm -P",
            "added first, value=1000 size=30\n                first+8            \nAddr(4096) Addr(48) Str(\"NOTY\") Str(\"GLOB\") Str(\"vmlinux\") Str(\"first\")",
        ),
        ("::nmdel first", "deleted first, value=1000 size=30"),
        ("::nmdel first", "error: `first` is no name that ::nmadd gave\nhint: `::nm -P` lists them"),
    ]);
}

#[test]
fn variables() {
    check(&[
        ("0t10$d; 10=X; $d", "radix = 10 base ten\n                a               \nradix = 10 base ten"),
        ("1$d", "error: a radix is from 2 to 16\nhint: `0t10$d` sets ten, `0t16$d` sixteen"),
        (
            "20::typeset a b; ::typeset c; ::vars; ::vars -np; ::unset a x",
            ". = 20\na = 20\nb = 20\nc = 0\nm = 464c457f\n0x20>a\n0x20>b\nerror: no variable `x`\nnote: `b`, `d`, `e`, `t`, `thread` cannot be told: the dump lacks the symbols or the task that they come from",
        ),
        ("::echo -n 'a b' $[1+f]", "-n a b 10 \nnote: there are no kernel symbols to look in: `f`"),
        ("::quit", "error: quit"),
    ]);
}

/// Every command's page of help can be made, and says what its flags are for.
#[test]
fn help() {
    let session = session();
    let mut names: Vec<&str> = Vec::new();
    for dcmd in REGISTRY.all_dcmds() {
        let page = run(&session, &format!("::help '{}'", dcmd.name));
        assert!(page.starts_with("NAME\n"), "{page}");
        assert!(!page.contains("\nerror: "), "{page}");
        for argument in (dcmd.command)().get_arguments() {
            assert!(argument.get_help().is_some(), "::{} {} has no help", dcmd.name, argument.get_id());
        }
        assert!((dcmd.command)().get_about().is_some_and(|a| !a.to_string().is_empty()), "::{}", dcmd.name);
        names.extend(std::iter::once(dcmd.name).chain(dcmd.aliases.iter().copied()));
    }
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "two commands of one name");
    assert!(run(&session, "::help").contains("::walk"));
    assert!(run(&session, "::help node").contains("[ addr ]") || run(&session, "::help node").contains("::walk node"));
    assert_eq!(
        run(&session, "::help prnt"),
        "error: no dcmd, macro or walker is named `prnt`\nhint: did you mean `print`, `penv`, `printf`?"
    );
}

//! Why an object is still in use: `::refs`.
//!
//! ```console
//! > 0t1::pid2task | ::print task_struct files->fdt | ::refs
//! ADDR             KIND        REFERENCE                     TO
//! ff386d1d85820888 percpu      fpu_fpregs_owner_ctx of CPU 0 ff386d1d843521c0 task_struct.thread.fpu.last_cpu
//! ff386d1d843521c0 task_struct task_struct.files             ff386d1d84359540 struct files_struct
//! > ff386d1d83ff63f0::refs -a
//! ADDR             KIND       REFERENCE               TO
//! ff386d1d834212a0 kmalloc-32 +0x10                   ff386d1d83ff63f0 struct lab_node
//! ff386d1d83ff6ee0 lab_node   lab_node.link.prev      ff386d1d83ff63f0 lab_node.link.next
//! ff386d1d83ff6ee0 lab_node   lab_node.branch.rb_left ff386d1d83ff63f0 lab_node.branch.__rb_parent_color
//! ffffffffc05740d0 module     labmod`lab_nodes        ff386d1d83ff63f0 lab_node.link.next
//! ```
//!
//! Each row is a reference: where it is, by the name of the variable or the member if types tell, and what it leads to.
//! The last row leads to the object. It is a shortest way, and begins at a variable if any way does, else at a stack or a
//! register, else at other memory of the kernel.

use engine::{IntoRow, Schema, cprint::path::member_at, debuginfo::Type, prelude::*};
use walkers::{
    percpu::{Percpu, Variables},
    refs::{Graph, Kind, Place, Reference, RootKind},
    slab::{self, Caches},
    task::Task,
    task_stack::Stacks,
};

/// Show what keeps an object alive: a chain of references from a root to the object that the address lies in.
#[derive(Args)]
pub struct Refs {
    /// everything that refers to the object directly, with the root that it is reached from
    #[arg(short = 'a')]
    all: bool,
    /// so many references, counted from the object back
    #[arg(short = 'd', value_name = "DEPTH")]
    depth: Option<ExprArg>,
}

/// A reference.
#[derive(Row)]
struct RefRow {
    /// what it is in: the object, or the variable
    addr: Object,
    /// what that is: a root (`data`, `percpu`, `module`, `code`, `stack`, `register`, `page`, `mapped`, `reserved`), or the
    /// name of the object's cache
    kind: String,
    /// where the reference is, in words
    reference: String,
    /// address of the word that is the reference
    #[hidden]
    word: Option<Addr>,
    /// the object that it leads to, and where in it
    to: String,
    /// the address it leads to
    #[hidden]
    target: Option<Addr>,
    /// what the other end of a chain is, with `-a`
    #[hidden]
    root: Option<String>,
}

/// An object on the way, with the type that is known for it.
#[derive(Clone, Copy)]
struct Known {
    addr: u64,
    ctype: Option<engine::TypeId>,
}

/// What a word is in.
struct Holder {
    object: Object,
    kind: String,
    name: String,
    /// the type of what the word points to
    points_to: Option<engine::TypeId>,
}

/// Makes words of references.
struct Namer<'a, 'b> {
    cx: &'a Cx<'b>,
    graph: &'a Graph,
}

impl Namer<'_, '_> {
    /// The object of a number: its cache's name, and its type if the cache tells.
    fn object(&self, node: u32) -> Result<(Known, String)> {
        let block = self.graph.nodes.block(node);
        let addr = block.map_or(0, |block| block.object(node));
        let caches = Caches::of(self.cx)?;
        let cache = match block.map(|block| block.kind) {
            Some(Kind::Slab(cache)) => caches.get(cache as usize),
            Some(Kind::Kfence) => slab::find(self.cx, addr)?.and_then(|found| caches.get(found.cache)),
            Some(Kind::Area) => return Ok((Known { addr, ctype: None }, "vmalloc".into())),
            _ => return Ok((Known { addr, ctype: None }, "pages".into())),
        };
        let ctype = cache.and_then(|cache| slab::names::object_type(self.cx, cache));
        Ok((Known { addr, ctype }, cache.map_or("?", |cache| cache.name()).to_owned()))
    }

    /// What the word of a reference is in; `known` is what is known of the object, if it is in one.
    fn holder(&self, reference: &Reference, known: Option<Known>) -> Result<Holder> {
        let (cx, word) = (self.cx, reference.word);
        let plain = |kind: &str, name: String| Holder {
            object: Object::untyped(word),
            kind: kind.to_owned(),
            name,
            points_to: None,
        };
        Ok(match reference.place {
            Place::Object(node) => {
                let (own, kind) = self.object(node)?;
                let ctype = own.ctype.or(known.and_then(|known| known.ctype));
                let (name, points_to) = self.member(ctype, word.wrapping_sub(own.addr));
                Holder { object: Object { addr: own.addr, ctype }, kind, name, points_to }
            }
            Place::Root(RootKind::Percpu) => {
                self.percpu(word)?.unwrap_or_else(|| plain("percpu", "alloc_percpu()".into()))
            }
            Place::Root(RootKind::Stack) => {
                let stacks = Stacks::of(cx)?;
                let task = stacks.at(word).map_or(0, |stack| stack.task);
                let name = cx.view::<Task>(task).map_or_else(|_| "?".into(), |task| task.name(cx));
                Holder { object: cx.object("task_struct", task), ..plain("stack", format!("stack of {name}")) }
            }
            Place::Root(kind @ (RootKind::Data | RootKind::Module)) => {
                let kind = if kind == RootKind::Data { "data" } else { "module" };
                self.variable(word, kind).unwrap_or_else(|| plain(kind, cx.sym(word)))
            }
            Place::Root(RootKind::Code) => plain("code", cx.sym(word)),
            Place::Root(RootKind::Mapped) => plain("mapped", cx.sym(word)),
            Place::Root(RootKind::Reserved) => plain("reserved", "memory set aside at boot".into()),
            Place::PageStruct => self.page(word)?,
            Place::Register(cpu, number) => {
                let cpu = cx.target.cpus().get(cpu);
                let name = cpu.and_then(|cpu| Some(format!("{} of CPU {}", cpu.iter().nth(number)?.0, cpu.cpu)));
                plain("register", name.unwrap_or_else(|| "?".into()))
            }
            Place::Nowhere => plain("kernel", "a page that the kernel has allocated".into()),
        })
    }

    /// The member at an offset of a type, and the type that it points to.
    fn member(&self, ctype: Option<engine::TypeId>, offset: u64) -> (String, Option<engine::TypeId>) {
        let types = &self.cx.types;
        let found = ctype.and_then(|ctype| Some((types.spell(ctype), member_at(types, ctype, offset)?)));
        let Some((spelling, (path, place))) = found else { return (format!("+{offset:#x}"), None) };
        let short = spelling.trim_start_matches("struct ").trim_start_matches("union ");
        let dot = if path.starts_with('[') || path.is_empty() { "" } else { "." };
        let target = match types.resolve(place.ty).map(|(_, node)| node).as_deref() {
            Some(Type::Pointer { to }) => Some(*to),
            _ => None,
        };
        (format!("{short}{dot}{path}"), target)
    }

    fn percpu(&self, word: u64) -> Result<Option<Holder>> {
        let Some((cpu, symbol)) = Variables::of(self.cx)?.at(self.cx, word)?.map(|(c, s)| (c, s.clone())) else {
            return Ok(None);
        };
        let start = Percpu::of(self.cx)?.address(symbol.addr, cpu)?;
        let ctype = self.cx.type_of_global(&symbol.name);
        let (name, points_to) = self.inside(&symbol.name, ctype, word.wrapping_sub(start));
        let name = format!("{name} of CPU {cpu}");
        Ok(Some(Holder { object: Object { addr: start, ctype }, kind: "percpu".into(), name, points_to }))
    }

    fn variable(&self, word: u64, kind: &str) -> Option<Holder> {
        let symbol = self.cx.symbols.by_addr(self.cx, word)?;
        let ctype = self.cx.type_of_global(&symbol.name);
        let name = symbol.module.as_ref().map_or_else(|| symbol.name.to_string(), |m| format!("{m}`{}", symbol.name));
        let (name, points_to) = self.inside(&name, ctype, word.wrapping_sub(symbol.addr));
        Some(Holder { object: Object { addr: symbol.addr, ctype }, kind: kind.into(), name, points_to })
    }

    /// `init_task.tasks.next`, of a variable.
    fn inside(&self, name: &str, ctype: Option<engine::TypeId>, offset: u64) -> (String, Option<engine::TypeId>) {
        let (member, points_to) = self.member(ctype, offset);
        let spelling = ctype.map(|ctype| self.cx.types.spell(ctype)).unwrap_or_default();
        let short = spelling.trim_start_matches("struct ").trim_start_matches("union ");
        match (member.strip_prefix(short), offset) {
            (Some(path), _) if ctype.is_some() => (format!("{name}{path}"), points_to),
            (_, 0) => (name.to_owned(), points_to),
            _ => (format!("{name}+{offset:#x}"), points_to),
        }
    }

    fn page(&self, word: u64) -> Result<Holder> {
        let map = walkers::page::PageMap::of(self.cx)?;
        let page = map.frame(word).and_then(|frame| map.page(frame)).unwrap_or(word);
        let ctype = self.cx.struct_type("page");
        let (name, points_to) = self.member(ctype, word.wrapping_sub(page));
        Ok(Holder { object: Object { addr: page, ctype }, kind: "page".into(), name, points_to })
    }

    /// A row, and what is known of the object that the reference leads to.
    fn row(&self, reference: &Reference, known: Option<Known>) -> Result<(RefRow, Known)> {
        let holder = self.holder(reference, known)?;
        let (to, cache) = self.object(reference.to)?;
        let pointer = (reference.word != 0).then(|| self.cx.u64(reference.word)).transpose().ok().flatten();
        let offset = pointer.map(|pointer| pointer.wrapping_sub(to.addr)).unwrap_or(0);
        // what a pointer's type says holds only of what it points to the start of
        let ctype = to.ctype.or(holder.points_to.filter(|_| offset == 0)).filter(|ctype| self.is_struct(*ctype));
        let place = match self.member(ctype, offset) {
            (_, _) if ctype.is_some() && offset == 0 => {
                ctype.map_or_else(String::new, |ctype| self.cx.types.spell(ctype))
            }
            (name, _) if ctype.is_some() => name,
            _ if offset == 0 => cache,
            _ => format!("{cache}+{offset:#x}"),
        };
        let row = RefRow {
            addr: holder.object,
            kind: holder.kind,
            reference: holder.name,
            word: (reference.word != 0).then_some(Addr(reference.word)),
            to: format!("{:x} {place}", to.addr),
            target: pointer.map(Addr),
            root: None,
        };
        Ok((row, Known { ctype, ..to }))
    }

    fn is_struct(&self, ctype: engine::TypeId) -> bool {
        self.cx.types.resolve(ctype).is_some_and(|(_, node)| matches!(&*node, Type::Struct { .. }))
    }

    /// The rows of a way.
    fn way(&self, way: &[Reference]) -> Result<Vec<RefRow>> {
        let (mut rows, mut known) = (Vec::new(), None);
        for reference in way {
            let (row, next) = self.row(reference, known)?;
            rows.push(row);
            known = Some(next);
        }
        Ok(rows)
    }
}

impl Refs {
    /// Everything that refers to an object.
    fn every(&self, namer: &Namer<'_, '_>, node: u32, out: &mut Out<'_>) -> Result<()> {
        let references = namer.graph.references(namer.cx, node)?;
        if references.is_empty() {
            namer.cx.notes.add(0, "nothing in use refers to it");
        }
        for reference in references {
            let way = match reference.place {
                Place::Object(holder) => namer.graph.way(holder),
                _ => Vec::new(),
            };
            let mut rows = namer.way(&[way.as_slice(), &[reference]].concat())?;
            let root = rows.first().map(|row| row.reference.clone());
            let reached = !way.is_empty() || !matches!(reference.place, Place::Object(_));
            if let Some(mut row) = rows.pop() {
                row.root = root.filter(|_| reached);
                out.row(row)?;
            }
        }
        Ok(())
    }
}

impl Dcmd for Refs {
    const NAME: &'static str = "refs";
    const ADDRESS: Address = Address::Required;
    const ROWS: &'static [&'static Schema] = &[RefRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let addr = at.map_or(0, |at| at.addr);
        let graph = Graph::of(cx)?;
        let node = graph.object_at(addr).ok_or_else(|| {
            Error::Usage(format!("{addr:x} is in no object that was allocated")).hint("`::whatis` says what it is")
        })?;
        let namer = Namer { cx, graph: &graph };
        if self.all {
            return self.every(&namer, node, out);
        }
        let way = graph.way(node);
        if way.is_empty() {
            let what = match slab::find(cx, addr)?.map(|found| found.state) {
                Some(slab::State::Free | slab::State::RcuPending) => "it is free",
                _ => "nothing that is in use refers to it: it has leaked (see `::refs -a`)",
            };
            cx.notes.add(addr, what);
            return Ok(());
        }
        let rows = namer.way(&way)?;
        let depth = self.depth.as_ref().map(|depth| depth.eval(cx)).transpose()?.unwrap_or(u64::MAX);
        let skip = rows.len().saturating_sub(usize::try_from(depth).unwrap_or(usize::MAX));
        rows.into_iter().skip(skip).try_for_each(|row| out.row(row))
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Refs>()];

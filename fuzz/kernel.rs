//! What a kernel says about itself: symbols, types, ORC, and the files that kernels come in.

use std::sync::Arc;

use bytes::Bytes;
use debuginfo::{
    Btf, Kallsyms, ModuleSymbols, ModuleTables, Reader, SymbolSource, Tag, TypeId, TypeSource, Types,
    dwarf::Dwarf,
    elf::{DebugFile, Symtab},
    kallsyms::{Addresses, text::Listing},
};

use crate::{counted, number, seen};

/// Where the kernel's image is.
const BASE: u64 = 0xffff_ffff_8100_0000;

struct Image<'a>(&'a [u8]);

impl Reader for Image<'_> {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), String> {
        let from = addr.checked_sub(BASE).and_then(|from| usize::try_from(from).ok()).ok_or("below")?;
        let bytes = from.checked_add(buf.len()).and_then(|to| self.0.get(from..to)).ok_or("above")?;
        buf.copy_from_slice(bytes);
        Ok(())
    }

    fn bytes(&self, addr: u64, len: usize) -> Result<Bytes, String> {
        let from = addr.checked_sub(BASE).and_then(|from| usize::try_from(from).ok()).ok_or("below")?;
        let bytes = from.checked_add(len).and_then(|to| self.0.get(from..to)).ok_or("above")?;
        Ok(Bytes::copy_from_slice(bytes))
    }
}

/// The kernel's symbol table: seven words say where each of its parts is (0: unknown), the image follows. They are looked
/// for in it as well. The same bytes are read as `/proc/kallsyms` too.
pub fn kallsyms(data: &[u8]) {
    let place = |n: usize| Some(number(data, 4 * n, 4)).filter(|at| *at != 0).map(|at| BASE.wrapping_add(at));
    let image = Image(data.get(28..).unwrap_or_default());
    let given = Addresses {
        names: place(0),
        num_syms: place(1),
        token_table: place(2),
        token_index: place(3),
        offsets: place(4),
        relative_base: place(5),
        addresses: place(6),
    };
    let found = Addresses::scan(&image, BASE..BASE + image.0.len() as u64);
    if let Err(why) = &found {
        seen(why);
    }
    for at in std::iter::once(given).chain(found) {
        match Kallsyms::open(&at, &image) {
            Ok(table) => {
                symbols(&table);
                counted("lost", table.lost());
                table.per_cpu();
                table.damage();
                table.each_name(&mut |_| true);
            }
            Err(why) => seen(&why),
        }
    }
    match Listing::parse(&String::from_utf8_lossy(data)) {
        Ok(listing) => symbols(&listing),
        Err(why) => seen(&why),
    }
}

/// Everything that is asked of a symbol table.
fn symbols(table: &dyn SymbolSource) {
    let mut some = Vec::new();
    let mut all = 0;
    table.each(&mut |symbol| {
        if all % 37 == 0 && some.len() < 8 {
            some.push(symbol);
        }
        all += 1;
        all < 1_000_000
    });
    counted("symbols", all);
    for symbol in &some {
        assert!(table.by_name(&symbol.name).iter().all(|s| s.name == symbol.name), "{symbol:?}");
        for addr in [symbol.addr, symbol.addr.wrapping_add(1), symbol.addr.wrapping_sub(1)] {
            if let Some(found) = table.by_addr(addr) {
                assert!(found.addr <= addr, "{found:?} for {addr:x}");
            }
        }
    }
    table.by_addr(u64::MAX);
    table.by_prefix("t", 10);
    table.by_prefix("", 3);
}

/// Types: a word says how much of the rest is the kernel's BTF; a module's, which continues it, is what remains.
pub fn btf(data: &[u8]) {
    let len = number(data, 0, 4) as usize;
    let rest = data.get(4..).unwrap_or_default();
    let (kernel, module) = rest.split_at_checked(len).unwrap_or((rest, &[]));
    let types = Types::new();
    let bytes = Bytes::copy_from_slice;
    let made = types.add(|id| Btf::new(bytes(kernel), id).map(|btf| Arc::new(btf) as Arc<dyn TypeSource>));
    let base = match made.map(|id| types.source(id)) {
        Ok(Some(source)) => source.as_btf(),
        Ok(None) => None,
        Err(why) => return seen(&why),
    };
    let mut tables: Vec<Arc<Btf>> = base.iter().cloned().collect();
    if let Some(base) = base.filter(|_| !module.is_empty()) {
        let made =
            types.add(|id| Btf::split(bytes(module), id, base, None).map(|btf| Arc::new(btf) as Arc<dyn TypeSource>));
        match made.map(|id| types.source(id)) {
            Ok(source) => tables.extend(source.and_then(|source| source.as_btf())),
            Err(why) => seen(&why),
        }
    }
    for (source, btf) in (0..).zip(&tables) {
        counted("types", btf.len());
        if let Some(damage) = btf.damage() {
            seen(&damage);
        }
        counted("variables", btf.variables(".data..percpu").len());
        let mut names = Vec::new();
        btf.each_name(&mut |tag, name| {
            names.push((tag, name.to_owned()));
            names.len() < 50
        });
        for (tag, name) in &names {
            btf.find(*tag, name);
            btf.function(name);
            btf.variable(name);
            btf.enumerator(name);
        }
        for local in (0..200).chain([u32::MAX]) {
            node(&types, TypeId { source, local });
        }
    }
    if let Some(id) = types.find(Tag::Struct, "foo").first() {
        types.explain_member(*id, "name[3].x");
    }
}

/// Everything that is asked of a type.
fn node(types: &Types, id: TypeId) {
    let Some(node) = types.get(id) else { return };
    seen(&format_args!("{:.12}", format!("{node:?}")));
    types.resolve(id);
    types.size_of(id);
    types.align_of(id);
    let spelled = types.spell(id);
    assert!(spelled.len() < 1 << 20, "a type of {} bytes", spelled.len());
    types.spell_decl(id, "it");
    for (name, _) in types.members(id).iter().take(20) {
        types.member(id, name);
    }
    types.member(id, "a.b[1]");
}

/// The symbol table of a module: two short words say how long its symbols and its names are; letters follow.
pub fn modsyms(data: &[u8]) {
    let (symbols_len, names_len) = (number(data, 0, 2) as usize, number(data, 2, 2) as usize);
    let rest = data.get(4..).unwrap_or_default();
    let (symtab, rest) = rest.split_at_checked(symbols_len).unwrap_or((rest, &[]));
    let (strtab, typetab) = rest.split_at_checked(names_len).unwrap_or((rest, &[]));
    let bytes = |part: &[u8]| Bytes::copy_from_slice(part).into();
    let table = ModuleSymbols::new(ModuleTables {
        module: "module".into(),
        symtab: bytes(symtab),
        strtab: bytes(strtab),
        typetab: bytes(typetab),
        ranges: std::iter::once(0xffff_ffff_c000_0000..0xffff_ffff_d000_0000).collect(),
        per_cpu: 0x1000..0x2000,
    });
    counted("lost", table.lost());
    symbols(&table);
}

/// A kernel's file, however packed.
pub fn vmlinux(data: &[u8]) {
    debuginfo::elf::is_kernel(data);
    let file = match DebugFile::from_bytes("vmlinux", Bytes::copy_from_slice(data)) {
        Ok(file) => Arc::new(file),
        Err(e) => return seen(&e),
    };
    seen(&file.kind());
    file.debuglink();
    file.altlink();
    for name in [".text", ".symtab", ".debug_info", ".debug_str", ".BTF"] {
        if let Err(e) = file.section(name) {
            seen(&e);
        }
    }
    match file.memory() {
        Ok(memory) => {
            memory.release();
            counted("memory", (memory.range().end - memory.range().start) as usize);
        }
        Err(e) => seen(&e),
    }
    match Symtab::new(&file, None) {
        Ok(table) => symbols(&table),
        Err(e) => seen(&e),
    }
    let types = Types::new();
    let made = types.add(|id| {
        let dwarf = Dwarf::new(file.clone(), id)?;
        dwarf.prepare()?;
        if let Err(e) = dwarf.frames(BASE) {
            seen(&e);
        }
        dwarf.function_at(BASE);
        dwarf.variables("jiffies");
        Ok::<_, debuginfo::elf::Error>(Arc::new(dwarf) as Arc<dyn TypeSource>)
    });
    match made {
        Ok(source) => (0..200).for_each(|local| node(&types, TypeId { source, local })),
        Err(e) => seen(&e),
    }
}

/// ORC tables: two fifths are addresses, the rest is entries; the first byte says in which way they are written.
pub fn orc(data: &[u8]) {
    let (head, rest) = data.split_at(data.len().min(8));
    let (ips, entries) = rest.split_at(rest.len() / 10 * 4);
    let (ips, entries) = (Bytes::copy_from_slice(ips), Bytes::copy_from_slice(entries));
    let near = number(&ips, 0, 4) as i32;
    let addrs: Vec<u64> =
        (-64..4096).step_by(7).map(|d| BASE.wrapping_add_signed(i64::from(near) + d)).chain([0, u64::MAX]).collect();
    let found = walkers::unwind::look_up_orc(BASE, ips, entries, head.first().copied().unwrap_or(0), &addrs);
    counted("found", found);
}

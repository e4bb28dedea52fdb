//! Makes `globals.db.zst`, and measures such a table.
//!
//! ```console
//! $ cargo run -p kmdb-debuginfo --example globals -- make globals.db.zst vmlinux-7.2 vmlinux-6.12 vmlinux-6.1
//! $ cargo run -p kmdb-debuginfo --example globals -- measure globals.db.zst vmlinux-6.18
//! ```
//!
//! `make` takes kernels with DWARF, the newest first. For every variable with an address it writes the name and its C
//! type in each kernel. Left out are names that stand for different types in one kernel (statics of several files),
//! types without a name, and names with a counter in them, as the next build counts otherwise.
//!
//! `measure` holds a table against a kernel that it should not have been made from: how many data symbols it knows,
//! and how many of those it types as that kernel's DWARF does. Types are resolved by the kernel's BTF alone, as they
//! are for a dump without debug files.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use debuginfo::dwarf::Dwarf;
use debuginfo::elf::{DebugFile, Symtab};
use debuginfo::globals::Table;
use debuginfo::{Btf, SymbolKind, SymbolSource, TypeId, Types};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["make", out, kernels @ ..] if !kernels.is_empty() => make(out, kernels),
        ["measure", table, kernel] => measure(table, kernel),
        _ => bail!("usage: globals make OUT VMLINUX…, or globals measure TABLE VMLINUX"),
    }
}

/// One type per name, as far as the kernel has no two.
fn variables(path: &str) -> Result<BTreeMap<String, Option<String>>> {
    let (types, dwarf) = open(path)?;
    let mut out = BTreeMap::new();
    dwarf.each_variable(&mut |v| {
        if v.addr.is_none() || v.name.starts_with("__UNIQUE_ID_") {
            return;
        }
        let spelled = Some(types.spell(v.ty)).filter(|s| !s.contains(['{', '…']) && types.size_of(v.ty).is_some());
        // what cannot be spelled is a conflict too: it is not what another variable of that name is
        out.entry(v.name)
            .and_modify(|known| {
                if *known != spelled {
                    *known = None;
                }
            })
            .or_insert(spelled);
    });
    Ok(out)
}

fn open(path: &str) -> Result<(Types, Arc<Dwarf>)> {
    let file = Arc::new(DebugFile::open(path)?);
    let types = Types::new();
    let mut made = None;
    types.add(|id| {
        let dwarf = Arc::new(Dwarf::new(Arc::clone(&file), id)?);
        made = Some(Arc::clone(&dwarf));
        anyhow::Ok::<Arc<dyn debuginfo::TypeSource>>(dwarf)
    })?;
    let dwarf = made.context("no DWARF")?;
    dwarf.prepare()?;
    Ok((types, dwarf))
}

fn make(out: &str, kernels: &[&str]) -> Result<()> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut ambiguous = BTreeSet::new();
    for kernel in kernels {
        for (name, spelled) in variables(kernel)? {
            match spelled {
                Some(spelled) => all.entry(name).or_default().push(spelled),
                None => drop(ambiguous.insert(name)),
            }
        }
    }
    let mut text = String::new();
    for (name, spelled) in all.iter().filter(|(name, _)| !ambiguous.contains(*name)) {
        text.push_str(name);
        for one in without_lengths(spelled) {
            text.push('\t');
            text.push_str(&one);
        }
        text.push('\n');
    }
    let packed = zstd::bulk::compress(text.as_bytes(), 22)?;
    std::fs::write(out, &packed)?;
    let report = format!(
        "{} names, {} ambiguous or nameless left out; {} bytes, packed {}\n",
        text.lines().count(),
        ambiguous.len(),
        text.len(),
        packed.len()
    );
    Ok(std::io::stdout().write_all(report.as_bytes())?)
}

/// Each type once; the outermost length is left open where kernels differ in it.
fn without_lengths(spelled: &[String]) -> Vec<String> {
    let mut lengths: HashMap<String, BTreeSet<&str>> = HashMap::new();
    let open = |s: &str| outer(s).map(|(before, _, after)| format!("{before}[]{after}"));
    for one in spelled {
        if let Some((_, length, _)) = outer(one) {
            lengths.entry(open(one).unwrap_or_default()).or_default().insert(length);
        }
    }
    let mut out: Vec<String> = Vec::new();
    for one in spelled {
        let one = match open(one) {
            Some(open) if lengths.get(&open).is_some_and(|l| l.len() > 1) => open,
            _ => one.clone(),
        };
        if !out.contains(&one) {
            out.push(one);
        }
    }
    out
}

/// The outermost length of an array type, and what stands around it. It is the first bracket that belongs to the
/// variable itself: `int (*[4])(void)`, `struct foo *[3][14]`.
fn outer(spelled: &str) -> Option<(&str, &str, &str)> {
    let open = spelled.find('[')?;
    // brackets after parentheses belong to what a pointer points at, or to a parameter
    if spelled.get(..open)?.contains(')') || spelled.get(..open)?.matches('(').count() > 1 {
        return None;
    }
    let close = open + spelled.get(open..)?.find(']')?;
    Some((spelled.get(..open)?, spelled.get(open + 1..close)?, spelled.get(close + 1..)?))
}

fn measure(table: &str, kernel: &str) -> Result<()> {
    let packed = std::fs::read(table)?;
    let table = Table::new(String::from_utf8(zstd::stream::decode_all(&*packed)?)?);
    let (truth, dwarf) = open(kernel)?;
    let file = dwarf.file();
    let btf = Types::new();
    btf.add(|id| {
        let blob = debuginfo::Patchy::from(file.section(".BTF")?);
        anyhow::Ok::<Arc<dyn debuginfo::TypeSource>>(Arc::new(Btf::new(blob, id).map_err(anyhow::Error::msg)?))
    })?;
    let mut known: HashMap<u64, Vec<TypeId>> = HashMap::new();
    dwarf.each_variable(&mut |v| {
        if let Some(addr) = v.addr {
            known.entry(addr).or_default().push(v.ty);
        }
    });
    let symbols = Symtab::new(file, None)?;
    let mut data = Vec::new();
    symbols.each(&mut |s| {
        if matches!(s.kind, SymbolKind::Data | SymbolKind::PerCpu) {
            data.push(s);
        }
        true
    });
    data.sort_by_key(|s| s.addr);
    let (mut typed, mut found, mut right, mut alike, mut wrong) = (0, 0, 0, 0, Vec::new());
    for (i, symbol) in data.iter().enumerate() {
        let Some(&ty) = known.get(&symbol.addr).and_then(|t| t.first()) else { continue };
        typed += 1;
        let next = data.iter().skip(i).find(|s| s.addr > symbol.addr).map(|s| s.addr - symbol.addr);
        let Some(guess) = table.type_of(&btf, &symbol.name, next) else { continue };
        found += 1;
        let (guess, real) = (btf.spell(guess), truth.spell(ty));
        if guess == real {
            right += 1;
        } else if bare(&guess) == bare(&real) {
            alike += 1;
        } else {
            wrong.push(format!("{}: {guess} is {real}", symbol.name));
        }
    }
    let percent = |part: usize, of: usize| 100.0 * part as f64 / of.max(1) as f64;
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{kernel}: {typed} typed data symbols, {found} known ({:.1} %); of those {right} right, {alike} but for an array's \
         length or a qualifier ({:.2} % together), {} wrong",
        percent(found, typed),
        percent(right + alike, found),
        wrong.len()
    )?;
    wrong.iter().try_for_each(|line| Ok(writeln!(out, "  {line}")?))
}

/// A type without array lengths and qualifiers.
fn bare(spelled: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for word in spelled.split_inclusive(' ') {
        if matches!(word.trim(), "const" | "volatile") {
            continue;
        }
        for c in word.chars() {
            inside = (inside || c == '[') && c != ']';
            if !inside && !c.is_whitespace() {
                out.push(c);
            }
        }
    }
    out.replace("*const", "*").replace("*volatile", "*")
}

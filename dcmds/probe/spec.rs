//! How a probe is named: `t:sched:sched_switch`, `k:vfs_write`, `ur:libc:malloc`, `cpu:997hz`. Patterns name many.

use super::{
    programs,
    recipes::{self, Found},
    syscalls, typed,
};
use engine::{
    Type,
    debuginfo::{SymbolKind, TypeSource},
    names,
    prelude::*,
};
use glob::Pattern;
use probes::{
    elf::{self, Binary},
    perf::{self, software},
    source::{Prototype, Source},
    tracefs::{self, Tracepoint},
};

/// More would take long to set, and each hit of each costs.
const MOST: usize = 1000;

/// Kinds of probes, how each is written, and what it is: for help and for errors.
pub const KINDS: &[(&str, &str)] = &[
    ("t:GROUP:NAME", "a tracepoint of the kernel"),
    ("rt:NAME", "a tracepoint, with what the code there hands over instead of a record"),
    ("s:NAME", "a system call, when it returns: what it took, and `ret`"),
    ("k:FUNCTION[+OFFSET]", "a function of the kernel, or an instruction of it"),
    ("kr:FUNCTION", "its return"),
    ("u:FILE:FUNCTION[+OFFSET]", "a function of a program or library, or an instruction of it"),
    ("ur:FILE:FUNCTION", "its return"),
    ("usdt:FILE:PROVIDER:NAME", "a probe that a program's authors put there"),
    ("sw:EVENT[:PERIOD]", "page-faults, minor-faults, major-faults, context-switches, cpu-migrations"),
    ("cpu:RATEhz", "a timer on each CPU"),
];

/// The sources that a word names, to be probed.
pub fn find(cx: &Cx<'_>, word: &str, pid: Option<i32>) -> Result<Vec<Source>> {
    let found = all(cx, word, pid)?;
    if found.len() > MOST {
        let n = found.len();
        return Err(Error::Usage(format!("`{word}` matches {n} places; at most {MOST} are probed at once"))
            .hint(format!("`::probes '{word}'` lists them, so that a narrower pattern can be found")));
    }
    Ok(found)
}

/// The sources that a word names, however many they are.
pub fn all(cx: &Cx<'_>, word: &str, pid: Option<i32>) -> Result<Vec<Source>> {
    let (kind, rest) = word.split_once(':').filter(|_| !word.ends_with(':')).ok_or_else(|| unknown(word))?;
    let found = match kind {
        "t" => tracepoints(rest)?,
        "rt" => raw(cx, rest)?,
        "s" => syscalls::sources(cx, rest, &pattern(rest)?),
        "k" | "kr" => kernel(cx, rest, kind == "kr")?,
        "u" | "ur" => programs::find(cx, rest, pid, kind == "ur")?,
        "usdt" => usdt(rest, pid)?,
        "sw" => vec![software(rest)?],
        "cpu" => vec![clock(rest)?],
        _ => return Err(unknown(word)),
    };
    if found.is_empty() {
        let all = match kind {
            "usdt" => format!("usdt:{}:*", rest.split(':').next().unwrap_or_default()),
            kind => format!("{kind}:*"),
        };
        let names: Vec<String> = match kind {
            "s" => syscalls::all(cx).into_iter().map(|(_, name)| name).collect(),
            "rt" => raw_names(cx),
            _ => Vec::new(),
        };
        let near = names::did_you_mean(rest, names.iter().map(String::as_str)).map(|near| near + " ");
        let hint = format!("{}`::probes '{all}'` lists what there is", near.unwrap_or_default());
        if word == all && kind == "usdt" {
            return Err(Error::Usage(format!("`{}` has no USDT probes", rest.trim_end_matches(":*")))
                .hint("`u:FILE:FUNCTION` probes a function of it"));
        }
        return Err(Error::Usage(format!("`{word}` matches nothing")).hint(hint));
    }
    Ok(found)
}

/// Why there is no such tracepoint, with those that are named alike.
fn no_tracepoint(error: probes::Error, name: &str) -> Error {
    let all: Vec<_> =
        tracefs::all().unwrap_or_default().into_iter().map(|(group, name)| format!("{group}:{name}")).collect();
    let near = names::did_you_mean(name, all.iter().map(String::as_str));
    match near {
        Some(near) if matches!(error, probes::Error::Wrong(_)) => wrong(error).hint(near),
        _ => wrong(error),
    }
}

/// Tracepoints by the names of the functions that call those who listen.
fn raw_names(cx: &Cx<'_>) -> Vec<String> {
    const CALLS: &str = "__traceiter_";
    let Some(kernel) = cx.symbols.kernel() else { return Vec::new() };
    let mut found = kernel.by_prefix(CALLS, usize::MAX);
    found.dedup();
    found.iter().filter_map(|symbol| symbol.strip_prefix(CALLS)).map(str::to_owned).collect()
}

fn unknown(word: &str) -> Error {
    let kinds: Vec<_> = KINDS.iter().map(|(kind, _)| *kind).collect();
    Error::Usage(format!("`{word}` names no probe")).hint(format!("there are {}", kinds.join(", ")))
}

fn tracepoints(rest: &str) -> Result<Vec<Source>> {
    let (group, name) = match rest.split_once(':') {
        Some((group, name)) if !is_pattern(rest) => {
            let found = Tracepoint::find(group, name);
            return Ok(vec![Source::Tracepoint(found.map_err(|error| no_tracepoint(error, rest))?)]);
        }
        Some(both) => both,
        // in whichever group
        None => ("*", rest),
    };
    let (groups, names) = (pattern(group)?, pattern(name)?);
    let matching = tracefs::all().map_err(wrong)?.into_iter().filter(|(g, n)| groups.matches(g) && names.matches(n));
    let found: Vec<_> = matching
        .map(|(g, n)| Tracepoint::find(&g, &n).map(Source::Tracepoint).map_err(wrong))
        .collect::<Result<_>>()?;
    if found.is_empty() && !is_pattern(rest) {
        let none = Error::Usage(format!("there is no tracepoint `{name}`, in any group"));
        return Err(none.hint(format!("`::probes 't:*{name}*'` lists those that are named alike")));
    }
    Ok(found)
}

/// Every tracepoint has a function that calls those who listen.
fn raw(cx: &Cx<'_>, rest: &str) -> Result<Vec<Source>> {
    let pattern = pattern(rest)?;
    let names = raw_names(cx).into_iter().filter(|name| pattern.matches(name));
    Ok(names.map(|name| Source::Raw { name }).collect())
}

fn kernel(cx: &Cx<'_>, rest: &str, on_return: bool) -> Result<Vec<Source>> {
    let (name, offset) = split_offset(cx, rest)?;
    if is_pattern(name) {
        return matching(cx, &pattern(name)?, offset, on_return);
    }
    match recipes::find(cx, name, on_return) {
        Found::Itself => {
            if let Some(hint) = recipes::also(cx, name) {
                cx.notes.once(0, hint);
            }
            if recipes::is_hot(name) {
                cx.notes.once(0, format!("{name} is called all the time: a probe there slows the whole machine down"));
            }
            inside(cx, name, offset, on_return)?;
            Ok(places(cx, name, offset, on_return))
        }
        Found::Instead(probes, why) => recipes::instead(cx, rest, &probes, &why),
        Found::Nothing(error) => inlined(cx, name, on_return).unwrap_or(Err(error)),
    }
}

/// Refuses an offset that leads nowhere.
fn inside(cx: &Cx<'_>, name: &str, offset: u64, on_return: bool) -> Result<()> {
    if offset > 0 && on_return {
        return Err(Error::Usage(format!("`kr:{name}+{offset:#x}`: a function returns as a whole"))
            .hint(format!("`kr:{name}` is its return, `k:{name}+{offset:#x}` an instruction inside")));
    }
    let size = cx.symbols.by_name(cx, name).iter().map(|symbol| symbol.size).max().unwrap_or(0);
    if size > 0 && offset >= size {
        return Err(Error::Usage(format!("`k:{name}+{offset:#x}` is behind its end: {name} has {size:#x} bytes"))
            .hint(format!("`{name}::dis` shows where instructions begin")));
    }
    Ok(())
}

/// The copies of a function of the kernel that stand in others' code, if its debug information tells of them.
fn inlined(cx: &Cx<'_>, name: &str, on_return: bool) -> Option<Result<Vec<Source>>> {
    let dwarf = cx.dwarf_at(cx.kernel_symbol("_text").or_else(|| cx.kernel_symbol("_stext"))?)?;
    let copies = typed::copies(dwarf, name);
    let (all, within) = (copies.len(), programs::within(&copies));
    if copies.is_empty() {
        return None;
    }
    if on_return {
        let error = Error::Usage(format!("`{name}` is inlined at {all} places ({within}): it never returns there"));
        return Some(Err(error.hint(format!("`k:{name}` probes where it begins"))));
    }
    let source = |at| Source::Kernel {
        function: name.to_owned(),
        at: Some(at),
        several: true,
        inlined: true,
        offset: 0,
        on_return: false,
        prototype: None,
    };
    let sources: Vec<_> = copies.iter().filter_map(|copy| copy.at).map(source).collect();
    cx.notes.once(0, format!("{name}: {} of {all} places are probed where it is inlined: {within}", sources.len()));
    Some(Ok(sources))
}

/// A function, or all of that name: several files may each have one of their own.
fn places(cx: &Cx<'_>, name: &str, offset: u64, on_return: bool) -> Vec<Source> {
    let mut places: Vec<u64> = cx.symbols.by_name(cx, name).iter().map(|symbol| symbol.addr).collect();
    places.sort_unstable();
    places.dedup();
    let several = places.len() > 1;
    // a module's function of that name may be another one than the kernel's BTF has
    let is_kernels = places.first().is_some_and(|first| cx.symbols.kernel_address(name) == Some(*first));
    let prototype = if several || offset > 0 || !is_kernels { None } else { prototype(cx, name) };
    let function = name.to_owned();
    let source =
        |at| Source::Kernel { function: function.clone(), at, several, inlined: false, offset, on_return, prototype };
    match places.is_empty() {
        true => vec![source(None)],
        false => places.into_iter().map(|at| source(Some(at))).collect(),
    }
}

/// How a function of the kernel is called, by the kernel's own BTF, if all of it is numbers and addresses.
fn prototype(cx: &Cx<'_>, name: &str) -> Option<Prototype> {
    /// More are not in registers.
    const MOST: usize = 6;
    let btf = cx.types.btf()?;
    let ctype = cx.types.get(btf.function(name)?)?;
    let Type::Func { params, variadic: false, .. } = &*ctype else { return None };
    let is_word = |ty| match cx.shape(ty).as_deref() {
        Some(Type::Int { size, .. } | Type::Enum { size, .. }) => *size <= 8,
        shape => matches!(shape, Some(Type::Pointer { .. })),
    };
    let plain = params.len() <= MOST && params.iter().all(|param| is_word(param.ty));
    Some(Prototype { number: btf.function_id(name)?, arguments: params.len() as u8 }).filter(|_| plain)
}

/// The functions that a pattern matches, but for those where no probe can be: pieces that are seldom run and lie elsewhere,
/// room in front of functions, and what the kernel keeps probes from.
fn matching(cx: &Cx<'_>, pattern: &Pattern, offset: u64, on_return: bool) -> Result<Vec<Source>> {
    let Some(kernel) = cx.symbols.kernel() else { return Ok(Vec::new()) };
    let traceable = tracefs::functions();
    let mut found: Vec<String> = Vec::new();
    kernel.each(&mut |symbol| {
        let name = &symbol.name;
        if symbol.kind == SymbolKind::Text && pattern.matches(name) && !is_no_function(name) {
            found.push(name.to_string());
        }
        true
    });
    found.sort();
    found.dedup();
    let all = found.len();
    if let Some(traceable) = &traceable {
        found.retain(|name| traceable.contains(name.as_str()));
    }
    let forbidden = recipes::forbidden();
    found.retain(|name| {
        !cx.symbols.address(cx, name).is_some_and(|at| forbidden.iter().any(|range| range.contains(&at)))
    });
    if found.len() < all {
        let out = all - found.len();
        cx.notes.once(0, format!("{out} functions that match are left out: the kernel does not let them be traced"));
    }
    Ok(found.iter().flat_map(|name| places(cx, name, offset, on_return)).collect())
}

/// Whether a symbol's name says that it is no function: `vfs_read.cold`, `__pfx_vfs_read`.
fn is_no_function(name: &str) -> bool {
    name.contains(".cold") || ["__pfx_", "__cfi_", "__SCT__"].iter().any(|prefix| name.starts_with(prefix))
}

fn usdt(rest: &str, pid: Option<i32>) -> Result<Vec<Source>> {
    let (file, name) = rest.split_once(':').ok_or_else(|| {
        Error::Usage(format!("`usdt:{rest}`: the file, then the probe")).hint("`usdt:python3:python:gc__start`")
    })?;
    let path = elf::find(file, pid).map_err(wrong)?;
    let binary = Binary::open(&path).map_err(wrong)?;
    binary.must_run_here().map_err(wrong)?;
    let name = if name.contains(':') { name.to_owned() } else { format!("*:{name}") };
    let pattern = pattern(&name)?;
    let sites = binary.usdt(|n| pattern.matches(n)).map_err(wrong)?;
    Ok(sites.into_iter().map(|site| Source::User { file: path.clone(), site, on_return: false }).collect())
}

fn software(rest: &str) -> Result<Source> {
    let (name, period) = rest.split_once(':').map_or((rest, Ok(1)), |(name, period)| (name, number(period)));
    let known: Vec<_> = software::NAMES.iter().map(|(name, _)| *name).collect();
    let event = software::NAMES.iter().find(|(n, _)| *n == name).map(|(_, event)| *event);
    let event = event
        .ok_or_else(|| Error::Usage(format!("no event `sw:{name}`")).hint(format!("there are {}", known.join(", "))))?;
    Ok(Source::Software { event, period: period?.max(1) })
}

fn clock(rest: &str) -> Result<Source> {
    let digits = rest.strip_suffix("hz").or(rest.strip_suffix("Hz")).unwrap_or(rest);
    match digits.parse() {
        Ok(hertz @ 1..=100_000) => Ok(Source::Clock { hertz }),
        _ => Err(Error::Usage(format!("`cpu:{rest}`: so many times a second, up to 100000")).hint("`cpu:997hz`")),
    }
}

/// Whether the kernel lets any of its functions be probed.
pub fn lets_functions_be_probed() -> bool {
    perf::device_type("kprobe").is_ok() || tracefs::functions().is_some()
}

/// Whether both are one place, which is probed once however often it is named.
pub fn is_same(a: &Source, b: &Source) -> bool {
    let place = |source: &Source| match source {
        Source::User { file, site, .. } => (file.clone(), site.offset),
        Source::Kernel { at, offset, .. } => (std::path::PathBuf::new(), at.unwrap_or_default().wrapping_add(*offset)),
        _ => Default::default(),
    };
    a.name() == b.name() && place(a) == place(b)
}

/// `name+0x10`: the name and the number.
fn split_offset<'w>(cx: &Cx<'_>, text: &'w str) -> Result<(&'w str, u64)> {
    match text.split_once('+') {
        Some((name, offset)) => Ok((name, engine::pipeline::eval_text(cx, offset)?)),
        None => Ok((text, 0)),
    }
}

/// A number as it is written behind a function's name.
pub fn number(text: &str) -> Result<u64> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| Error::Usage(format!("`{text}` is no number")))
}

/// A pattern of the shell's kind.
pub fn pattern(text: &str) -> Result<Pattern> {
    Pattern::new(text).map_err(|e| Error::Usage(format!("`{text}`: {e}")))
}

/// Whether it names many.
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// An error of the room below.
pub fn wrong(error: probes::Error) -> Error {
    Error::Unavailable(error.to_string())
}

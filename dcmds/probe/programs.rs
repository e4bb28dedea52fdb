//! Functions of programs and libraries, by the names that their symbols have, or that their sources have.
//!
//! ```console
//! > ::probes 'u:./shop:shop::Cart::*'
//! PROBE                  HAS
//! u:shop:shop::Cart::add this n what
//! > ::probe u:./shop:Cart::add -C ./shop | ::group n
//! ```

use super::{
    spec::{is_pattern, number, pattern, wrong},
    typed::Typed,
};
use crate::dis;
use engine::{
    debuginfo::{
        demangle::{demangle, is_called},
        dwarf::Inlined,
    },
    names,
    prelude::*,
};
use glob::Pattern;
use probes::{
    elf::{self, Binary, Site},
    source::Source,
};

/// The sources that `FILE:FUNCTION[+OFFSET]` names.
pub fn find(cx: &Cx<'_>, rest: &str, pid: Option<i32>, on_return: bool) -> Result<Vec<Source>> {
    let (file, function) = rest.split_once(':').ok_or_else(|| {
        Error::Usage(format!("`u:{rest}`: a probe in a program needs the file and the function"))
            .hint("`u:libc:malloc`")
    })?;
    let path = elf::find(file, pid).map_err(wrong)?;
    let binary = Binary::open(&path).map_err(wrong)?;
    binary.must_run_here().map_err(wrong)?;
    // `operator+` is a name
    let (name, offset) = match function.rsplit_once('+').map(|(name, offset)| (name, number(offset))) {
        Some((name, Ok(offset))) => (name, offset),
        _ => (function, 0),
    };
    let sites = match name.strip_prefix("0x") {
        Some(address) => vec![at(cx, &binary, number(&format!("0x{address}"))?)?],
        None => named(cx, &binary, name, on_return)?,
    };
    if on_return {
        must_return(&binary, &sites)?;
    }
    let moved = |site: Site| {
        let site = if offset > 0 { inside(cx, &binary, &site, offset)? } else { site };
        Ok(Source::User { file: path.clone(), site, on_return })
    };
    sites.into_iter().map(moved).collect()
}

/// An instruction, by the address that the file has for it.
fn at(cx: &Cx<'_>, binary: &Binary, address: u64) -> Result<Site> {
    let site = binary.address(address).map_err(wrong)?;
    if let Some((function, distance)) = binary.around(address).map_err(wrong)? {
        inside(cx, binary, &function, distance)?;
    }
    Ok(site)
}

/// An instruction of a function. The kernel puts its breakpoint wherever it is told to: in the middle of an instruction
/// it would make another one of it.
fn inside(cx: &Cx<'_>, binary: &Binary, function: &Site, distance: u64) -> Result<Site> {
    /// A function is not longer.
    const MOST: u64 = 1 << 20;
    let (name, code) = (&function.name, binary.code_of(function));
    if let Some(len) = binary.len_of(function).map_err(wrong)?.filter(|len| distance >= *len) {
        return Err(Error::Usage(format!("`{name}+{distance:#x}` is behind its end: it is {len:#x} bytes long")));
    }
    if distance > MOST || distance >= code.len() as u64 {
        return Err(Error::Usage(format!("`{name}+{distance:#x}`: no function is so long")));
    }
    let mut at = 0;
    while at < distance {
        let rest = code.get(at as usize..).unwrap_or_default();
        // behind what is no instruction nothing is known
        let Some((_, len)) = dis::decode(cx.target.arch(), rest, at, |_| None) else { break };
        let next = at + len.max(1) as u64;
        if next > distance {
            return Err(Error::Usage(format!("`{name}+{distance:#x}` is in the middle of an instruction"))
                .hint(format!("the one there begins at `{name}+{at:#x}`, the next at `{name}+{next:#x}`")));
        }
        at = next;
    }
    Ok(binary.inside(function, distance))
}

/// A probe of a return puts an address of its own on the stack. Go's runtime, which reads stacks to move them, ends the
/// program when it finds one that it does not know.
fn must_return(binary: &Binary, sites: &[Site]) -> Result<()> {
    for site in sites {
        if binary.is_go(&site.name).map_err(wrong)? {
            let (file, name) = (binary.path().display(), &site.name);
            return Err(Error::Usage(format!(
                "`{name}` is a function of Go, whose runtime would end the program at a probe of its return"
            ))
            .hint(format!(
                "`u:{file}:{name}` probes where it begins, and with `+OFFSET` an instruction of it, such as its `ret`"
            )));
        }
    }
    Ok(())
}

/// The functions of that name: the symbol's, else the source's.
fn named(cx: &Cx<'_>, binary: &Binary, name: &str, on_return: bool) -> Result<Vec<Site>> {
    let pattern = is_pattern(name).then(|| pattern(name)).transpose()?;
    let mut sites = match &pattern {
        Some(pattern) => binary.functions(|n| matches(pattern, n)).map_err(wrong)?,
        None => binary.functions(|n| n == name).map_err(wrong)?,
    };
    if sites.is_empty() && pattern.is_none() {
        sites = binary.functions(|n| is_mangled(n) && is_called(&demangle(n), name)).map_err(wrong)?;
    }
    if pattern.is_none() && binary.is_unknown_choice(name).map_err(wrong)? {
        let what = format!("which code `{name}` is was chosen when the program started, by what its processor can do");
        let hint =
            format!("`::probes 'u:{}:*{name}*'` lists what it can be, if the file has names", binary.path().display());
        if sites.is_empty() {
            return Err(Error::Usage(what).hint(hint));
        }
        cx.notes.once(0, format!("{what}: only another version of it is probed"));
    }
    for site in &mut sites {
        site.name = demangle(&site.name).into_owned();
    }
    if pattern.is_none() {
        inlined(cx, binary, name, on_return, &mut sites)?;
    }
    if sites.is_empty() {
        return Err(missing(binary, name));
    }
    Ok(sites)
}

/// Adds the copies of a function that stand in others' code, if debug information tells of them.
fn inlined(cx: &Cx<'_>, binary: &Binary, name: &str, on_return: bool, sites: &mut Vec<Site>) -> Result<()> {
    let Some(typed) = Typed::of(cx, binary.path()).filter(|typed| sites.is_empty() || typed.is_small()) else {
        return Ok(());
    };
    let copies = typed.copies(name);
    if copies.is_empty() {
        return Ok(());
    }
    let (before, all) = (sites.len(), copies.len());
    if on_return {
        let within = within(&copies);
        if before == 0 {
            return Err(Error::Usage(format!(
                "`{name}` is inlined at {all} places ({within}): it never returns there"
            ))
            .hint(format!("`u:{}:{name}` probes where it begins", binary.path().display())));
        }
        cx.notes.once(0, format!("{name}: {all} inlined copies of it ({within}) have no return that could be probed"));
        return Ok(());
    }
    for copy in copies.iter() {
        let Some(at) = copy.at else { continue };
        sites.extend(binary.inlined(format!("{name} [inlined in {}]", copy.within), at));
    }
    let (found, within) = (sites.len() - before, within(&copies));
    cx.notes.once(0, format!("{name}: {found} of {all} places are probed where it is inlined: {within}"));
    Ok(())
}

/// The functions that copies stand in, the first few.
pub fn within(copies: &[Inlined]) -> String {
    const FEW: usize = 4;
    let mut names: Vec<&str> = copies.iter().map(|copy| copy.within.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let more = if names.len() > FEW { ", …" } else { "" };
    names.truncate(FEW);
    format!("in {}{more}", names.join(", "))
}

fn is_mangled(name: &str) -> bool {
    name.starts_with("_Z") || name.starts_with("_R")
}

fn matches(pattern: &Pattern, name: &str) -> bool {
    pattern.matches(name) || is_mangled(name) && pattern.matches(&demangle(name))
}

fn missing(binary: &Binary, name: &str) -> Error {
    let file = binary.path().display();
    let error = Error::Usage(format!("{file} has no function `{name}`"));
    if binary.imports(name).unwrap_or_default() {
        return error.hint(format!(
            "it calls that of a library, where it can be probed: `u:libc:{name}`, or `u:` and the library's path"
        ));
    }
    let all = binary.all_functions().unwrap_or_default();
    let spelt: Vec<_> = all.iter().map(|(_, symbol)| demangle(symbol)).collect();
    let near = names::did_you_mean(name, spelt.iter().map(|name| &**name));
    let near = near.map(|near| near + " ").unwrap_or_default();
    error.hint(
        near + &match binary.is_stripped() {
            Ok(true) => {
                "it is stripped: only what it exports, and addresses (`u:FILE:0xADDRESS`), can be probed".to_owned()
            }
            _ => format!(
                "`::probes 'u:{file}:*{}*'` lists those that are named alike; the compiler may have inlined it",
                name.trim_matches('*')
            ),
        },
    )
}

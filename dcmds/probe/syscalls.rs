//! System calls by name: the number of each, and what it takes.
//!
//! The kernel's own list ([`walkers::syscall`]) tells where it can be read; else numbers are those of the architecture's
//! interface, which never change, and parameters those of the tracepoints in tracefs.

use engine::prelude::*;
use glob::Pattern;
use probes::{source::Source, tracefs::Tracepoint};
use syscalls::Sysno;
use walkers::syscall::Calls;

/// Of a pattern that matches no more than these, each is probed by itself and has its own parameters.
const EACH: usize = 8;

/// Numbers and names, of all that this kernel may have.
pub fn all(cx: &Cx<'_>) -> Vec<(u64, String)> {
    let known = Calls::of(cx).map(|calls| calls.all()).unwrap_or_default();
    if !known.is_empty() {
        return known.into_iter().map(|(number, declared)| (number, declared.name.clone())).collect();
    }
    Sysno::iter().map(|call| (call.id() as u64, call.name().to_owned())).collect()
}

/// The name of one, or its number if nobody knows it.
pub fn name(cx: &Cx<'_>, number: u64) -> String {
    let known = Calls::of(cx).ok().and_then(|calls| calls.name(number));
    let named = known.or_else(|| Some(Sysno::new(usize::try_from(number).ok()?)?.name().to_owned()));
    named.unwrap_or_else(|| number.to_string())
}

/// The number of one.
pub fn number(cx: &Cx<'_>, name: &str) -> Option<u64> {
    all(cx).into_iter().find(|(_, n)| n == name).map(|(number, _)| number)
}

/// The sources that a name or a pattern stands for.
pub fn sources(cx: &Cx<'_>, word: &str, pattern: &Pattern) -> Vec<Source> {
    let matching: Vec<_> = all(cx).into_iter().filter(|(_, name)| pattern.matches(name)).collect();
    match matching.len() {
        0 => Vec::new(),
        1..=EACH => matching.into_iter().map(|(number, name)| one(cx, number, name)).collect(),
        _ => {
            let numbers =
                if word == "*" { Vec::new() } else { matching.into_iter().map(|(number, _)| number).collect() };
            vec![Source::Syscall { name: word.to_owned(), numbers, parameters: Vec::new() }]
        }
    }
}

fn one(cx: &Cx<'_>, number: u64, name: String) -> Source {
    let parameters = parameters(cx, number, &name);
    Source::Syscall { name, numbers: vec![number], parameters }
}

/// Whether somebody tells what one takes.
pub fn is_declared(cx: &Cx<'_>, number: u64, name: &str) -> bool {
    let declared = Calls::of(cx).is_ok_and(|calls| calls.declared(number).is_some());
    declared || Tracepoint::find("syscalls", &format!("sys_enter_{name}")).is_ok()
}

fn parameters(cx: &Cx<'_>, number: u64, name: &str) -> Vec<(String, String)> {
    if let Some(declared) = Calls::of(cx).ok().and_then(|calls| calls.declared(number)) {
        return declared.parameters.iter().map(|p| (p.name.clone(), p.ctype.clone())).collect();
    }
    let Ok(point) = Tracepoint::find("syscalls", &format!("sys_enter_{name}")) else { return Vec::new() };
    // the record begins with the number; since Linux 7.0 the texts behind pointers follow, as `__NAME_val`
    let own = point.fields.into_iter().filter(|field| !field.name.starts_with("__"));
    own.map(|field| (field.name, field.ctype)).collect()
}

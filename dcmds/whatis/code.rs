//! Code that the kernel made while it ran, as `::whatis` sees it.

use super::{Answer, Source, Want};
use engine::prelude::*;
use walkers::code_image::{CodeImages, Kind};

/// eBPF programs and trampolines.
pub const CODE: Source = Source { name: "code made at run time", identifiers: false, find: code };

fn code(cx: &Cx<'_>, addr: u64, _: Want) -> Result<Option<Answer>> {
    let images = CodeImages::of(cx)?;
    let Some(image) = images.at(addr) else { return Ok(None) };
    let offset = addr.wrapping_sub(image.range.start);
    let (what, object) = match image.kind {
        Kind::Program => (format!("the eBPF program {}", image.name), cx.object("bpf_prog", image.owner)),
        Kind::BpfTrampoline => (format!("the eBPF trampoline {}", image.name), Object::untyped(image.range.start)),
        Kind::FtraceTrampoline => {
            (format!("ftrace's trampoline to {}", cx.sym(image.func)), cx.object("ftrace_ops", image.owner))
        }
    };
    let of = if object.ctype.is_some() { format!(", of {:x}", object.addr) } else { String::new() };
    let text = format!("{:x}{}, {what}{of}", image.range.start, crate::member::plus(offset as i64));
    let name = if image.name.is_empty() { "ftrace_trampoline" } else { image.name.as_str() };
    Ok(Some(Answer { offset: Some(offset as i64), ..Answer::is(object, text).named(name) }))
}

//! What is to know of a module beside that it is there: `::modparam`, `::modsections`.
//!
//! ```console
//! > ::modparam virtio_blk
//! MODULE     NAME               VALUE MODE
//! virtio_blk queue_depth        0     444
//! virtio_blk poll_queues        0     644
//! virtio_blk num_request_queues 0     644
//! ```

use engine::{IntoRow, prelude::*};
use walkers::{
    module,
    param::{self, Param, Value},
};

/// Show the parameters of modules with their values, and with -k those of the kernel proper.
///
/// With an address, those of the module whose memory or `struct module` is there.
#[derive(Args)]
pub struct Modparam {
    /// only of the module of this name
    name: Option<String>,
    /// those of the kernel and what is built into it
    #[arg(short = 'k')]
    kernel: bool,
}

/// A parameter.
#[derive(Row)]
struct ParamRow {
    /// address of its struct kernel_param
    #[hidden]
    addr: Object,
    /// the module; vmlinux for the kernel
    module: String,
    /// its name
    name: Result<String>,
    /// its value; for a type of its own, the operations that read and write it
    value: Result<String>,
    /// mode of its file in /sys/module; 0 if it has none
    mode: String,
}

fn text(value: &Value) -> String {
    match value {
        Value::Int(n) => n.to_string(),
        Value::Uint(n) => n.to_string(),
        Value::Bool(yes) => if *yes { "Y" } else { "N" }.into(),
        Value::Text(text) => text.clone(),
        Value::List(all) => all.iter().map(text).collect::<Vec<_>>().join(","),
        Value::Other(ops) => format!("({ops})"),
    }
}

fn show(cx: &Cx<'_>, module: &str, param: &Param, out: &mut Out<'_>) -> Result<()> {
    out.row(ParamRow {
        addr: cx.object("kernel_param", param.addr),
        module: module.to_owned(),
        name: param.name(cx),
        value: param.value(cx).map(|value| text(&value)),
        mode: format!("{:o}", param.mode()),
    })
}

/// The modules that were asked for, by name or address.
fn asked<'a>(cx: &'a Cx<'_>, name: Option<&str>, at: Option<Object>) -> Result<Vec<&'a engine::Module>> {
    let here = |m: &&engine::Module| {
        at.is_none_or(|o| o.addr == m.addr || m.ranges.iter().any(|r| r.contains(&o.addr)))
            && name.is_none_or(|name| name == &*m.name)
    };
    let found: Vec<_> = module::all(cx)?.iter().filter(here).collect();
    match name {
        Some(name) if found.is_empty() => {
            Err(Error::Usage(format!("no module `{name}`")).hint("`::modules` lists them"))
        }
        _ => Ok(found),
    }
}

impl Dcmd for Modparam {
    const NAME: &'static str = "modparam";
    const ROWS: &'static [&'static engine::Schema] = &[ParamRow::SCHEMA];
    const PASSES: &'static str = "struct kernel_param";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        if self.kernel {
            return param::of_kernel(cx)?.iter().try_for_each(|param| show(cx, "vmlinux", param, out));
        }
        for module in asked(cx, self.name.as_deref(), at)? {
            match param::of_module(cx, module.addr) {
                Ok(all) => all.iter().try_for_each(|param| show(cx, &module.name, param, out))?,
                Err(e) if e.is_control() => return Err(e),
                Err(e) => cx.notes.add(module.addr, format!("parameters of a module: {}", e.kind())),
            }
        }
        Ok(())
    }
}

/// Show the sections of modules and where the kernel put each, as /sys/module/NAME/sections does.
///
/// Those that were freed when the module was ready still have their address here.
#[derive(Args)]
pub struct Modsections {
    /// only of the module of this name
    name: Option<String>,
}

/// A section.
#[derive(Row)]
struct SectionRow {
    /// where it is
    addr: Object,
    /// the module
    module: String,
    /// its name
    section: String,
    /// whether the module still has that memory
    kept: bool,
}

impl Dcmd for Modsections {
    const NAME: &'static str = "modsections";
    const ROWS: &'static [&'static engine::Schema] = &[SectionRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        for module in asked(cx, self.name.as_deref(), at)? {
            let sections = match module::sections(cx, module) {
                Ok(sections) => sections,
                Err(e) if e.is_control() => return Err(e),
                Err(e) => {
                    cx.notes.add(module.addr, format!("sections of a module: {}", e.kind()));
                    continue;
                }
            };
            let mut all: Vec<_> = sections.addresses.into_iter().collect();
            all.sort_by_key(|(name, at)| (*at, name.clone()));
            for (section, at) in all {
                let kept = module.ranges.iter().any(|r| r.contains(&at));
                out.row(SectionRow { addr: Object::untyped(at), module: module.name.to_string(), section, kept })?;
            }
        }
        Ok(())
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Modparam>(), DcmdEntry::of::<Modsections>()];

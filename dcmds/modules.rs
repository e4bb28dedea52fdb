//! Modules and load objects: `::modules`, `::objects`.
//!
//! ```console
//! > ::modules
//! ADDR             NAME        BASE               SIZE USES STATE TAINT USED_BY
//! ffffffffc02bf5c0 virtio_blk  ffffffffc02bb000  32768    0 Live  -
//! ffffffffc02c9340 qemu_fw_cfg ffffffffc02c7000  20480    0 Live  -
//! ffffffffc02eaac0 overlay     ffffffffc02d0000 208896    0 Live  -
//! ffffffffc0316180 dummy       ffffffffc0314000  12288    0 Live  -
//! ffffffffc0309100 labmod      ffffffffc0307000  20480    0 Live  OE
//! > ::objects | ::where 'name == "labmod"'
//! BASE             LIMIT            SIZE NAME   PART
//! ffffffffc0307000 ffffffffc0308000 1000 labmod text
//! ffffffffc0309000 ffffffffc030c000 3000 labmod data
//! ffffffffc030d000 ffffffffc030e000 1000 labmod rodata
//! ```

use engine::{IntoRow, prelude::*};
use walkers::{
    module::{self, State},
    system,
    total::Total,
};

/// Show the loaded modules, in the order in which they were loaded.
///
/// With an address, only the module whose memory or `struct module` is there.
#[derive(Args)]
pub struct Modules {
    /// only the module of this name
    name: Option<String>,
}

/// A module.
#[derive(Row)]
pub struct ModuleRow {
    /// address of its struct module
    addr: Object,
    /// its name
    name: String,
    /// where its text starts
    base: Option<Addr>,
    /// bytes of memory that it occupies, text and data
    size: u64,
    /// how many use it: other modules, open files, mounts; unknown if the kernel cannot unload modules
    uses: Option<i32>,
    /// Live, or Coming or Going while it is loaded or unloaded
    state: &'static str,
    /// why it taints the kernel: O built out of the kernel's tree, E not signed, P proprietary, …
    taint: Option<String>,
    /// its MODULE_VERSION, if it has one
    #[hidden]
    version: Option<String>,
    /// the sum of its source files, by which modpost tells builds apart
    #[hidden]
    srcversion: Option<String>,
    /// number of its symbols; unknown if they could not be read
    #[hidden]
    symbols: Option<usize>,
    /// the modules that use its symbols
    used_by: Result<String>,
}

impl Dcmd for Modules {
    const NAME: &'static str = "modules";
    const ALIASES: &'static [&'static str] = &["lsmod"];
    const ROWS: &'static [&'static engine::Schema] = &[ModuleRow::SCHEMA];
    const PASSES: &'static str = "struct module";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let mut shown = false;
        for loaded in module::all(cx)? {
            let here = at.is_none_or(|o| o.addr == loaded.addr || loaded.ranges.iter().any(|r| r.contains(&o.addr)));
            if here && self.name.as_deref().is_none_or(|name| name == &*loaded.name) {
                shown = true;
                out.row(row(cx, loaded)?)?;
            }
        }
        match (shown, at, &self.name) {
            (true, ..) | (_, None, None) => Ok(()),
            (_, Some(object), _) => Err(Error::Usage(format!("no module has {:#x}", object.addr))),
            (_, _, Some(name)) => {
                let names: Vec<&str> = cx.symbols.modules(cx).iter().map(|m| &*m.name).collect();
                let error = Error::Usage(format!("no module `{name}`"));
                Err(match engine::names::did_you_mean(name, names.into_iter()) {
                    Some(hint) => error.hint(hint),
                    None => error,
                })
            }
        }
    }
}

fn row(cx: &Cx<'_>, loaded: &engine::Module) -> Result<ModuleRow> {
    let module: module::Module = cx.view(loaded.addr)?;
    let state = match module.state(cx) {
        State::Live => "Live",
        State::Coming => "Coming",
        State::Going => "Going",
        State::Unformed => "Unformed",
        State::Damaged => "?",
    };
    Ok(ModuleRow {
        addr: cx.object("module", loaded.addr),
        name: loaded.name.to_string(),
        base: loaded.ranges.first().map(|r| Addr(r.start)),
        size: loaded.ranges.iter().map(|r| r.end - r.start).total(),
        uses: module.users(),
        state,
        taint: (module.taints != 0).then(|| system::taint_letters(cx, module.taints)),
        version: module.version(cx),
        srcversion: module.srcversion(cx),
        symbols: loaded.symbols.as_ref().map(|s| s.len()),
        used_by: module.used_by(cx).map(|names| names.join(",")),
    })
}

/// Show the load objects: the kernel and its modules, with the memory they occupy.
///
/// Since Linux 6.4 the parts of a module lie apart, each with rights of its own.
#[derive(Args)]
pub struct Objects {
    /// show versions instead
    #[arg(short = 'v')]
    versions: bool,
}

/// A piece of memory that a load object occupies.
#[derive(Row)]
pub struct ObjectRow {
    /// where it starts
    base: Object,
    /// where it ends
    limit: Addr,
    /// bytes
    size: Hex,
    /// vmlinux, or the module
    name: String,
    /// what is there
    part: String,
}

/// A load object's version.
#[derive(Row)]
pub struct VersionRow {
    /// vmlinux, or the module
    name: String,
    /// the kernel's release; a module's MODULE_VERSION or else the sum of its sources
    version: Option<String>,
}

impl Dcmd for Objects {
    const NAME: &'static str = "objects";
    const ADDRESS: Address = Address::None;
    const ROWS: &'static [&'static engine::Schema] = &[ObjectRow::SCHEMA, VersionRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, _at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        if self.versions {
            let version = system::Uts::of(cx).map(|uts| uts.release).ok();
            out.row(VersionRow { name: "vmlinux".into(), version })?;
            return module::all(cx)?.iter().try_for_each(|loaded| {
                let module: module::Module = cx.view(loaded.addr)?;
                let version = module.version(cx).or_else(|| module.srcversion(cx));
                out.row(VersionRow { name: loaded.name.to_string(), version })
            });
        }
        if let Some((start, end)) = cx.kernel_symbol("_text").zip(cx.kernel_symbol("_end")) {
            show(out, "vmlinux", "kernel", start..end)?;
        }
        module::all(cx)?.iter().try_for_each(|loaded| {
            let module: module::Module = cx.view(loaded.addr)?;
            match module.memory(cx) {
                Ok(memory) => memory.into_iter().try_for_each(|(part, range)| show(out, &loaded.name, part, range)),
                Err(e) if e.is_control() => Err(e),
                // noted when it was loaded
                Err(_) => Ok(()),
            }
        })
    }
}

fn show(out: &mut Out<'_>, name: &str, part: &str, range: std::ops::Range<u64>) -> Result<()> {
    out.row(ObjectRow {
        base: Object::untyped(range.start),
        limit: Addr(range.end),
        size: Hex(range.end.saturating_sub(range.start)),
        name: name.to_owned(),
        part: part.to_owned(),
    })
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Modules>(), DcmdEntry::of::<Objects>()];

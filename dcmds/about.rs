//! Around the target: `::version`, `::dmods`, `::which`, `::files`, `::cat`, `::log`, `::term`, `::dismode`.
//!
//! ```console
//! > ::which dentry print
//! dentry is a dcmd from module kmdb
//! dentry is a walk from module kmdb
//! print is a dcmd from module kmdb
//! > ::dismode
//! disassembly mode is amd64 (AMD64 64-bit, AT&T syntax)
//! ```
//!
//! mdb is put together of modules, kmdb is one: `::dmods` says so, and what the target and you brought along.

use engine::{names, prelude::*, targets::Arch};
use std::{collections::BTreeSet, fs::File, io::Read};

/// Show kmdb's version.
#[derive(Args)]
pub struct Version {}

impl Dcmd for Version {
    const NAME: &'static str = "version";
    const ALIASES: &'static [&'static str] = &["showrev"];
    const ADDRESS: Address = Address::None;

    fn run(&self, _: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        out.line(concat!("kmdb ", env!("CARGO_PKG_VERSION")))
    }
}

/// What kmdb's own commands come from, the walkers that the target brings, and the macros.
const MODULES: [&str; 3] = ["kmdb", "target", "macros"];

/// List where commands and walkers come from: kmdb itself, the target, your macros.
#[derive(Args)]
pub struct Dmods {
    /// with the commands and walkers of each
    #[arg(short = 'l')]
    long: bool,
    /// only this one
    module: Option<String>,
}

impl Dcmd for Dmods {
    const NAME: &'static str = "dmods";
    const ADDRESS: Address = Address::None;

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        if let Some(name) = self.module.as_deref().filter(|name| !MODULES.contains(name)) {
            return Err(Error::Usage(format!("no module `{name}`")).hint(format!("there are {}", MODULES.join(", "))));
        }
        for name in MODULES.iter().filter(|name| self.module.as_deref().is_none_or(|wanted| wanted == **name)) {
            let long = self.long || self.module.is_some();
            if !long {
                out.line(*name)?;
                continue;
            }
            out.line("")?;
            out.line(*name)?;
            out.line("-".repeat(65))?;
            for (kind, name, about) in contents(cx, name)? {
                out.line(format!("  {kind} {name:<20} - {about}").trim_end_matches([' ', '-']).to_owned())?;
            }
        }
        Ok(())
    }
}

fn contents(cx: &Cx<'_>, module: &str) -> Result<Vec<(&'static str, String, String)>> {
    let mut all = Vec::new();
    match module {
        "kmdb" => {
            all.extend(cx.registry.all_dcmds().map(|d| {
                let about = (d.command)().get_about().map(ToString::to_string).unwrap_or_default();
                ("dcmd", d.name.to_owned(), about.trim_end_matches('.').to_owned())
            }));
            all.extend(cx.registry.all_walkers().map(|w| ("walk", w.name.to_owned(), w.doc.to_owned())));
        }
        "target" => {
            for family in cx.registry.dynamic {
                all.extend((family.all)(cx)?.into_iter().map(|w| ("walk", w.name, w.doc)));
            }
        }
        _ => all.extend(cx.env.macros.borrow().values().map(|m| ("dcmd", m.name.clone(), m.help.clone()))),
    }
    all.sort();
    Ok(all)
}

/// Tell where a command or walker comes from.
#[derive(Args)]
pub struct Which {
    /// with what it does
    #[arg(short = 'v')]
    verbose: bool,
    /// their names
    #[arg(required = true)]
    names: Vec<String>,
}

impl Dcmd for Which {
    const NAME: &'static str = "which";
    const ALIASES: &'static [&'static str] = &["whence"];
    const ADDRESS: Address = Address::None;

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        for name in &self.names {
            let name = name.trim_start_matches("::");
            let found = found(cx, name)?;
            if found.is_empty() {
                let refused = engine::refused::refusal(name);
                let all = cx.registry.all_dcmds().map(|d| d.name).chain(cx.registry.all_walkers().map(|w| w.name));
                let hint = match refused {
                    Some(refusal) => Some(format!("it is refused: {}", refusal.why)),
                    None => names::did_you_mean(name, all),
                };
                let error = Error::Usage(format!("`{name}` is neither a dcmd nor a walker"));
                return Err(hint.map_or_else(
                    || Error::Usage(format!("`{name}` is neither a dcmd nor a walker")),
                    |h| error.hint(h),
                ));
            }
            for (kind, module, about) in found {
                out.line(format!("{name} is a {kind} from module {module}"))?;
                if self.verbose {
                    out.line(format!("    {about}"))?;
                }
            }
        }
        Ok(())
    }
}

fn found(cx: &Cx<'_>, name: &str) -> Result<Vec<(&'static str, &'static str, String)>> {
    let mut all = Vec::new();
    if let Some(dcmd) = cx.registry.dcmd(name) {
        all.push(("dcmd", "kmdb", (dcmd.command)().get_about().map(ToString::to_string).unwrap_or_default()));
    }
    if let Some(found) = cx.env.macros.borrow().get(name) {
        all.push(("macro", "macros", found.text.clone()));
    }
    if let Some(walker) = cx.registry.walker(name) {
        all.push(("walk", "kmdb", walker.doc.to_owned()));
    } else {
        for family in cx.registry.dynamic {
            all.extend((family.find)(cx, name)?.map(|w| ("walk", "target", w.doc)));
        }
    }
    Ok(all)
}

/// List the source files that the code is made of, of the kernel or of one module: those of its functions, as debug
/// information tells.
#[derive(Args)]
pub struct Files {
    /// the module, or vmlinux
    object: Option<String>,
}

impl Dcmd for Files {
    const NAME: &'static str = "files";
    const ALIASES: &'static [&'static str] = &["$f"];
    const ADDRESS: Address = Address::None;

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let mut files = BTreeSet::new();
        let mut take = |symbol: &engine::debuginfo::Symbol| {
            if symbol.kind == engine::debuginfo::SymbolKind::Text {
                files.extend(cx.source_file(symbol.addr));
            }
            !cx.interrupt.is_set()
        };
        let vmlinux = |name: &str| matches!(name, "vmlinux" | "kernel");
        if self.object.as_deref().is_none_or(vmlinux)
            && let Some(kernel) = cx.symbols.kernel()
        {
            kernel.each(&mut |symbol| take(&symbol));
        }
        let wanted = |m: &&engine::Module| self.object.as_deref().is_none_or(|o| o == &*m.name);
        for module in
            cx.symbols.modules(cx).iter().filter(wanted).filter(|_| !self.object.as_deref().is_some_and(vmlinux))
        {
            if let Some(table) = &module.symbols {
                table.each(&mut |symbol| take(&symbol));
            }
        }
        cx.interrupt.check()?;
        if files.is_empty() {
            return Err(Error::Unavailable("no debug information tells of source files".into())
                .hint("name a vmlinux with DWARF on the command line"));
        }
        files.into_iter().try_for_each(|file| out.line(file))
    }
}

/// Show files.
#[derive(Args)]
pub struct Cat {
    /// the files
    #[arg(required = true)]
    files: Vec<String>,
}

/// The most of a file that is shown.
const LARGEST: u64 = 64 << 20;

impl Dcmd for Cat {
    const NAME: &'static str = "cat";
    const ADDRESS: Address = Address::None;

    fn run(&self, _: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        for file in &self.files {
            let mut bytes = Vec::new();
            let read = File::open(file).and_then(|f| f.take(LARGEST).read_to_end(&mut bytes));
            read.doing(|| format!("reading {file}"))?;
            String::from_utf8_lossy(&bytes).lines().try_for_each(|line| out.line(line))?;
        }
        Ok(())
    }
}

/// Keep a copy of what is typed and shown in a file, or tell where one is kept.
#[derive(Args)]
pub struct Log {
    /// keep no copy any more
    #[arg(short = 'd', conflicts_with = "file")]
    disable: bool,
    /// go on with the file of before, or begin with FILE
    #[arg(short = 'e', conflicts_with = "disable")]
    enable: bool,
    /// the file; what is in it stays
    file: Option<String>,
}

impl Dcmd for Log {
    const NAME: &'static str = "log";
    const ADDRESS: Address = Address::None;

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let kept = cx.env.options.log.borrow().clone();
        let open = |name: &str| {
            let file = File::options().create(true).append(true).open(name).doing(|| format!("opening {name}"))?;
            cx.face.log(Some(file))?;
            cx.env.options.log.replace(Some((name.to_owned(), true)));
            Ok::<(), Error>(())
        };
        match (self.disable, self.file.as_deref(), kept) {
            (true, _, Some((name, true))) => {
                cx.face.log(None)?;
                cx.env.options.log.replace(Some((name, false)));
                Ok(())
            }
            (true, ..) => Err(Error::Usage("logging is already disabled".into())),
            (_, Some(name), _) => {
                open(name)?;
                out.line(format!("kmdb: logging to \"{name}\""))
            }
            (_, None, Some((name, _))) if self.enable => {
                open(&name)?;
                out.line(format!("kmdb: logging to \"{name}\""))
            }
            (_, None, None) if self.enable => Err(Error::Usage("no log file has been selected".into())),
            (_, None, Some((name, on))) => {
                let state = if on { "enabled" } else { "disabled" };
                out.line(format!("kmdb: logging to \"{name}\" is currently {state}"))
            }
            (_, None, None) => out.line("kmdb: no log is active"),
        }
    }
}

/// Show the type of the terminal.
#[derive(Args)]
pub struct Term {}

impl Dcmd for Term {
    const NAME: &'static str = "term";
    const ADDRESS: Address = Address::None;

    fn run(&self, _: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        out.line(std::env::var("TERM").unwrap_or_else(|_| "unknown".into()))
    }
}

/// The disassembler of an architecture, as mdb names it.
fn disassembler(arch: Arch) -> (&'static str, &'static str) {
    match arch {
        Arch::X86_64 => ("amd64", "AMD64 64-bit, AT&T syntax"),
        Arch::Aarch64 => ("aarch64", "ARM 64-bit"),
        _ => ("none", "no disassembler for this architecture"),
    }
}

/// Show the disassembler's mode. The target decides on it.
#[derive(Args)]
pub struct Dismode {
    /// the mode
    mode: Option<String>,
}

impl Dcmd for Dismode {
    const NAME: &'static str = "dismode";
    const ALIASES: &'static [&'static str] = &["$V"];
    const ADDRESS: Address = Address::None;

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let (name, about) = disassembler(cx.target.arch());
        match &self.mode {
            Some(mode) if mode != name => Err(Error::Usage(format!("unknown disassembly mode: {mode}"))
                .hint(format!("code of this target is {name}"))),
            _ => out.line(format!("disassembly mode is {name} ({about})")),
        }
    }
}

/// List the disassemblers: the one of the target.
#[derive(Args)]
pub struct Disasms {}

impl Dcmd for Disasms {
    const NAME: &'static str = "disasms";
    const ADDRESS: Address = Address::None;

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let (name, about) = disassembler(cx.target.arch());
        out.line(format!("{name:<24} - {about}"))
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[
    DcmdEntry::of::<Version>(),
    DcmdEntry::of::<Dmods>(),
    DcmdEntry::of::<Which>(),
    DcmdEntry::of::<Files>(),
    DcmdEntry::of::<Cat>(),
    DcmdEntry::of::<Log>(),
    DcmdEntry::of::<Term>(),
    DcmdEntry::of::<Dismode>(),
    DcmdEntry::of::<Disasms>(),
];

//! Opening: a dump, and what gives it meaning.

use crate::{
    args::{Cli, Way},
    face::Program,
    fetch,
    registry::REGISTRY,
};
use engine::{
    Session,
    debuginfo::find::module_name,
    open::{self, Sources},
    targets::{FoundKernel, LiveSource, Load, OpenOptions, Target},
};
use std::{
    fs::File,
    io::{self, Read},
    os::{fd::AsFd, unix::fs::FileTypeExt},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Opens the dump of the command line, and says on standard error what is missing.
pub fn session(cli: &Cli, program: &Program) -> anyhow::Result<Session> {
    let (raw, others) = raw_memory(cli)?;
    // `kmdb -k vmlinux`: the first file is no dump
    let no_dump = cli.live || cli.qmp.is_some();
    let (dump, parts, others) =
        if no_dump || !raw.is_empty() { (cli.dump.clone(), vec![], others) } else { dumps(cli)? };
    let named = cli.dump.iter().filter(|_| no_dump).chain(&others);
    // only modules' files are called `.ko…`
    let (modules, vmlinux): (Vec<_>, Vec<_>) = named.partition(|path| module_name(path).is_some());
    if let [_, other, ..] = vmlinux[..] {
        anyhow::bail!("{}: only one vmlinux can be given; debug files of modules are called NAME.ko…", other.display());
    }
    let sources = Sources {
        vmlinux: vmlinux.first().cloned().cloned(),
        modules: modules.into_iter().cloned().collect(),
        roots: cli.debug_dir.clone(),
        force: cli.force,
        search: !cli.no_debuginfo,
        progress: Some(fetch::progress),
    };
    let mut options = OpenOptions { ignore_vmcoreinfo: cli.ignore_vmcoreinfo, parts, ..OpenOptions::default() };
    let mut dump = dump;
    if let Some((first, rest)) = raw.split_first() {
        dump = Some(first.0.clone());
        options.parts = rest.iter().map(|(path, _)| path.clone()).collect();
        options.raw = raw.iter().map(|(_, loads)| loads.clone()).collect();
    }
    let opened = |target| open::open(Arc::new(target), &sources, &REGISTRY);
    let (session, warnings) = match &dump {
        Some(dump) if !no_dump && raw.is_empty() && is_kernel(dump) => {
            if let Some(other) = &sources.vmlinux {
                anyhow::bail!("{}: a kernel's file, and no dump: {} is one too many", dump.display(), other.display());
            }
            open::open_file(dump, &sources, &REGISTRY).map_err(anyhow::Error::msg)?
        }
        Some(dump) if !no_dump => opened(chosen(cli, &mut options, &|options| Ok(Target::open(dump, options)?))?),
        _ => match &cli.qmp {
            Some(socket) => {
                opened(chosen(cli, &mut options, &|options| Ok(Target::guest(socket, cli.stop, options)?))?)
            }
            None => opened(Target::live(way(cli.live_source), &options)?),
        },
    };
    let live = session.target.is_live();
    if let Some(why) = live.filter(|live| live.source == LiveSource::Blind).and_then(|live| live.instead.as_ref()) {
        program.say(&format!(
            "kmdb: the running kernel's memory cannot be read: {why}\n  What happens may be asked all the same (::probe), as \
             far as the kernel allows it\n"
        ));
    } else if live.is_some() {
        program.say("kmdb: the kernel runs on while it is read: an answer may mix two moments of it\n");
    }
    let strangers = session.target.strangers();
    if !strangers.is_empty() && cli.which_kernel.is_none() {
        let cpus: Vec<String> = strangers.iter().map(u32::to_string).collect();
        program.say(&format!(
            "kmdb: another kernel than this one runs on CPU {}: see ::kernels, and choose with --which-kernel\n",
            cpus.join(", ")
        ));
    }
    for warning in warnings {
        program.say(&format!("kmdb: {warning}\n"));
    }
    // without a named file the answers may be right, but they are not what was asked for
    if sources.vmlinux.is_some() && session.files.is_empty() {
        program.failed.set(true);
    }
    for why in sources.modules.iter().filter_map(|path| session.use_module_file(path).err()) {
        program.say(&format!("kmdb: {why}\n"));
        program.failed.set(true);
    }
    Ok(session)
}

/// Opens a target, and once more if the user wants another of its kernels than the one that it takes by itself.
fn chosen(
    cli: &Cli,
    options: &mut OpenOptions,
    open: &dyn Fn(&OpenOptions) -> anyhow::Result<Target>,
) -> anyhow::Result<Target> {
    let target = open(options)?;
    let Some(wanted) = &cli.which_kernel else { return Ok(target) };
    let kernels = target.kernels();
    let crashed = |kernel: &FoundKernel| kernel.vmcoreinfo.as_ref().is_some_and(|info| info.crash_time().is_some());
    let number = match wanted.as_str() {
        // where none says that it crashed, it is the one that had all memory
        "crash" => kernels.iter().position(crashed).or_else(|| (0..kernels.len()).max_by_key(|i| kernels[*i].reach)),
        number => number.parse::<usize>().ok().and_then(|n| n.checked_sub(1)).filter(|n| *n < kernels.len()),
    };
    let Some(kernel) = number.and_then(|n| kernels.get(n)) else {
        anyhow::bail!("--which-kernel {wanted}: there are {} in memory; ::kernels lists them", kernels.len());
    };
    if number == Some(0) {
        return Ok(target);
    }
    let Some(at) = kernel.at else {
        anyhow::bail!("--which-kernel {wanted}: it is known from the dump's headers only")
    };
    drop(target);
    options.kernel_at = Some(at);
    open(options)
}

/// Whether a file is a kernel, as it was linked or as it is booted, and no dump of one.
fn is_kernel(path: &Path) -> bool {
    /// Compressed blocks of the largest usual size begin within this much.
    const HEAD: u64 = 1 << 20;
    let mut head = Vec::new();
    // not a pipe, as opening one waits; what cannot be read is told when it is opened as a dump
    path.is_file()
        && File::open(path).and_then(|file| file.take(HEAD).read_to_end(&mut head)).is_ok()
        && engine::debuginfo::elf::is_kernel(&head)
}

fn way(way: Way) -> LiveSource {
    match way {
        Way::Auto => LiveSource::Auto,
        Way::Kcore => LiveSource::Kcore,
        Way::Bpf => LiveSource::Bpf,
    }
}

/// Whether the dump comes through standard input, so that nothing else can.
pub fn is_stdin(cli: &Cli) -> bool {
    match &cli.dump {
        Some(dump) => dump.as_os_str() == STDIN,
        None => !cli.live && cli.qmp.is_none() && has_stdin(),
    }
}

/// The name of standard input.
const STDIN: &str = "-";

/// Whether there is something to be read from standard input.
fn has_stdin() -> bool {
    let kind = |fd: std::os::fd::OwnedFd| File::from(fd).metadata().map(|meta| meta.file_type());
    let kind = io::stdin().as_fd().try_clone_to_owned().and_then(kind);
    kind.is_ok_and(|kind| kind.is_file() || kind.is_fifo() || kind.is_socket())
}

/// The dump, its other parts, and the files that are no dumps. They may be named in any order: `vmlinux vmcore` is how
/// crash is called.
fn dumps(cli: &Cli) -> anyhow::Result<(Option<PathBuf>, Vec<PathBuf>, Vec<PathBuf>)> {
    let Some(first) = &cli.dump else {
        if has_stdin() {
            return Ok((Some(STDIN.into()), Vec::new(), Vec::new()));
        }
        anyhow::bail!("no dump is named: kmdb DUMP [VMLINUX], or kmdb -k for the running kernel; see kmdb --help");
    };
    let named = std::iter::once(first).chain(&cli.debug_files).cloned();
    let (mut dumps, mut others): (Vec<_>, Vec<_>) = named.partition(|path| Target::is_dump(path));
    if dumps.is_empty() {
        // what it is instead is told when it is opened
        dumps.push(others.remove(0));
    }
    let parts = dumps.split_off(1);
    Ok((dumps.pop(), parts, others))
}

/// Files of raw memory with where their pieces were, if the command line has such; and the other files behind the first.
type RawMemory = (Vec<(PathBuf, Vec<Load>)>, Vec<PathBuf>);

fn raw_memory(cli: &Cli) -> anyhow::Result<RawMemory> {
    let load = |text: &str| Load::parse(text).map_err(anyhow::Error::msg);
    let (mut raw, mut others) = (Vec::new(), Vec::new());
    match (&cli.load_address, cli.dump.as_ref().filter(|_| !cli.live && cli.qmp.is_none())) {
        (Some(text), Some(dump)) => raw.push((dump.clone(), load(text)?)),
        (None, Some(dump)) => {
            if let Some((path, text)) = at_address(dump) {
                raw.push((path, load(&text)?));
            }
        }
        (_, None) => {}
    }
    for file in &cli.debug_files {
        match at_address(file) {
            Some((path, text)) if !raw.is_empty() => raw.push((path, load(&text)?)),
            _ => others.push(file.clone()),
        }
    }
    Ok((raw, others))
}

/// Splits `FILE@ADDR`, unless there is a file of just that name.
fn at_address(path: &Path) -> Option<(PathBuf, String)> {
    let (file, addr) = path.to_str()?.rsplit_once('@')?;
    let is_address = addr.starts_with(|c: char| c.is_ascii_digit());
    (is_address && !path.exists()).then(|| (file.into(), addr.into()))
}

//! A guest under QEMU, through its QMP socket: memory and registers with nothing installed in the guest.
//!
//! QMP (QEMU's docs/interop/qmp-spec.rst) is lines of JSON. The monitor says which physical addresses are RAM (`info mtree
//! -f`) and has the CPUs' registers. There are three ways to the bytes, and the fastest that works is taken:
//!
//! 1. QEMU's own memory, `/proc/PID/mem`: the socket tells who is at its other end (SO_PEERCRED), and the monitor where
//!    RAM is in there (`gpa2hva`). It takes the right to trace that process.
//! 2. `pmemsave` of the bytes to a temporary file, which QEMU must be able to write.
//! 3. The monitor's `xp`, which prints memory as text. It works from afar, and is slow.
//!
//! Reading does not disturb the guest. It runs on meanwhile, and what is read may be of two moments, as with the running
//! kernel; or it is stopped for as long as the target is open. A process waits for the end of this one, however that comes,
//! to let the guest go on.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use crate::error::{OpenError, Reason};
use crate::live::{Memory, Ram, whole_pages};
use crate::mmu::Arch;
use crate::open::Opened;
use crate::regs::{self, CpuRegs};

/// How long QEMU may take to greet; a monitor that has another client does not.
const GREETING: Duration = Duration::from_secs(5);
/// How long a command may take.
const ANSWER: Duration = Duration::from_secs(60);
/// Longest answer that is taken.
const MAX_LINE: u64 = 64 << 20;
/// Most ranges of RAM, and CPUs, that are believed.
const MAX: usize = 4096;

/// What was opened, beside the memory.
pub(crate) struct Guest {
    pub opened: Opened,
    pub cpus: Vec<CpuRegs>,
    /// it runs while it is read
    pub runs: bool,
}

/// Opens the guest behind a socket: a path, or HOST:PORT. `stop` stops it until the target is closed.
pub(crate) fn open(socket: &str, stop: bool) -> Result<Guest, OpenError> {
    attach(socket, stop).map_err(|why| OpenError::Guest { socket: socket.to_owned(), why })
}

fn attach(socket: &str, stop: bool) -> Result<Guest, String> {
    let (monitor, pid) = Monitor::connect(socket)?;
    let monitor = Arc::new(monitor);
    let target = monitor.command("query-target", json!({}))?;
    let name = target["arch"].as_str().unwrap_or_default();
    let arch = [Arch::X86_64, Arch::Aarch64].into_iter().find(|arch| arch.name() == name);
    let arch = arch.ok_or_else(|| format!("a guest of {}, which kmdb does not know", name.escape_default()))?;
    let running = monitor.command("query-status", json!({}))?["running"].as_bool().unwrap_or(true);
    let pause = if stop && running { Some(Pause::new(&monitor)?) } else { None };
    let ram = ram(&monitor.human("info mtree -f")?);
    if ram.is_empty() {
        return Err("its monitor speaks of no RAM".into());
    }
    let cpus = regs::from_monitor(arch, &monitor.human("info registers -a")?);
    let ranges = whole_pages(ram.clone());
    let (way, bytes) = way(&monitor, pid, &ram)?;
    let format = format!("QEMU guest, through {way}");
    let memory = Memory::new(Box::new(Held { bytes, _pause: pause }), ranges);
    let opened = Opened::new(format, arch, Box::new(memory), Vec::new());
    Ok(Guest { opened, cpus, runs: running && !stop })
}

/// The fastest way to memory that works.
fn way(monitor: &Arc<Monitor>, pid: Option<u32>, ram: &[Range<u64>]) -> Result<(String, Box<dyn Ram>), String> {
    let first = ram.first().map_or(0, |range| range.start);
    let mut page = vec![0; 4096];
    if let Some(pid) = pid
        && let Ok(process) = Process::new(monitor, pid, ram)
        && process.read(first, &mut page).is_ok()
    {
        return Ok((format!("the memory of process {pid}"), Box::new(process)));
    }
    if let Ok(saved) = Saved::new(monitor)
        && saved.read(first, &mut page).is_ok()
    {
        return Ok(("pmemsave".into(), Box::new(saved)));
    }
    let printed = Printed(Arc::clone(monitor));
    match printed.read(first, &mut page) {
        Ok(()) => Ok(("its monitor, which is slow".into(), Box::new(printed))),
        Err(reason) => Err(format!("its memory cannot be read: {reason}")),
    }
}

/// The ranges that the monitor calls RAM, of the address space that CPUs see; read-only views of the same memory too.
fn ram(tree: &str) -> Vec<Range<u64>> {
    let mut found: Vec<(Range<u64>, &str, &str)> = Vec::new();
    let views = tree.split("FlatView #");
    let Some(view) = views.into_iter().find(|view| view.contains("AS \"memory\",")) else { return Vec::new() };
    for line in view.lines().take(MAX) {
        let range = || {
            let (addresses, rest) = line.trim().split_once(" (prio ")?;
            let (first, last) = addresses.split_once('-')?;
            let number = |text| u64::from_str_radix(text, 16).ok();
            let (_, rest) = rest.split_once(", ")?;
            let (kind, name) = rest.split_once("): ")?;
            let end = number(last)?.checked_add(1)?;
            Some((number(first)?..end, kind, name.split([' ', '\r']).next()?))
        };
        found.extend(range().filter(|(range, ..)| range.start < range.end));
    }
    let is_ram = |name: &str| found.iter().any(|(_, kind, of)| *kind == "ram" && *of == name);
    // a display's memory is called RAM, too
    let shown = |name: &str| name.contains("vram") || name.contains("vga");
    let ram = found.iter().filter(|(_, kind, name)| matches!(*kind, "ram" | "rom") && is_ram(name) && !shown(name));
    ram.map(|(range, ..)| range.clone()).collect()
}

// ---- the monitor --------------------------------------------------------------------------------------------------

/// A connection to QMP. One command at a time.
struct Monitor(Mutex<Wire>);

struct Wire {
    reader: BufReader<Box<dyn Read + Send>>,
    writer: Box<dyn Write + Send>,
    /// for whoever lets the guest go on
    fd: OwnedFd,
}

impl Monitor {
    /// Connects, and says who is at the other end if that is a process of this machine.
    fn connect(socket: &str) -> Result<(Monitor, Option<u32>), String> {
        let path = Path::new(socket);
        let is_tcp = !socket.contains('/') && socket.contains(':') && !path.exists();
        let (wire, pid) = if is_tcp {
            let stream = TcpStream::connect(socket).map_err(|e| e.to_string())?;
            stream.set_read_timeout(Some(GREETING)).map_err(|e| e.to_string())?;
            let _ = stream.set_nodelay(true);
            let copy = || stream.try_clone().map_err(|e| e.to_string());
            let reader: Box<dyn Read + Send> = Box::new(copy()?);
            (Wire { reader: BufReader::new(reader), writer: Box::new(copy()?), fd: stream.into() }, None)
        } else {
            let stream = UnixStream::connect(path).map_err(|e| refused(path, &e))?;
            stream.set_read_timeout(Some(GREETING)).map_err(|e| e.to_string())?;
            let pid = rustix::net::sockopt::socket_peercred(&stream).ok();
            let pid = pid.and_then(|who| u32::try_from(who.pid.as_raw_nonzero().get()).ok());
            let copy = || stream.try_clone().map_err(|e| e.to_string());
            let reader: Box<dyn Read + Send> = Box::new(copy()?);
            (Wire { reader: BufReader::new(reader), writer: Box::new(copy()?), fd: stream.into() }, pid)
        };
        let mut wire = wire;
        let greeting = match wire.line() {
            Ok(line) => line,
            Err(why) if why == SILENT => {
                return Err(
                    "connected, but no greeting: another client may have this monitor (QMP serves one at a time; \
                            give QEMU a second `-qmp`), or it is no QMP socket"
                        .into(),
                );
            }
            Err(why) => return Err(format!("not a QMP socket: {why}")),
        };
        if greeting.get("QMP").is_none() {
            return Err("not a QMP socket: its first line is no greeting".into());
        }
        let _ = rustix::net::sockopt::set_socket_timeout(&wire.fd, rustix::net::sockopt::Timeout::Recv, Some(ANSWER));
        let monitor = Monitor(Mutex::new(wire));
        monitor.command("qmp_capabilities", json!({}))?;
        Ok((monitor, pid))
    }

    /// Runs a command and gives what it returns.
    fn command(&self, name: &str, arguments: Value) -> Result<Value, String> {
        let mut wire = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let line = format!("{}\n", json!({ "execute": name, "arguments": arguments }));
        wire.writer.write_all(line.as_bytes()).map_err(|e| format!("the guest is gone: {e}"))?;
        loop {
            // events come whenever they like
            let mut answer = wire.line()?;
            if let Some(error) = answer.get("error") {
                return Err(format!("{name}: {}", error["desc"].as_str().unwrap_or("an error")));
            }
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
        }
    }

    /// Runs a command of the monitor for people.
    fn human(&self, line: &str) -> Result<String, String> {
        let answer = self.command("human-monitor-command", json!({ "command-line": line }))?;
        Ok(answer.as_str().unwrap_or_default().to_owned())
    }
}

const SILENT: &str = "no answer in time";

impl Wire {
    fn line(&mut self) -> Result<Value, String> {
        let mut line = Vec::new();
        match (&mut self.reader).take(MAX_LINE).read_until(b'\n', &mut line) {
            Ok(0) => Err("the guest is gone: its monitor closed the connection".into()),
            Ok(_) => serde_json::from_slice(&line).map_err(|_| "what comes is not QMP".into()),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Err(SILENT.into()),
            Err(e) => Err(format!("the guest is gone: {e}")),
        }
    }
}

fn refused(path: &Path, error: &std::io::Error) -> String {
    let is_socket = path.metadata().map(|meta| meta.file_type().is_socket());
    match (error.kind(), is_socket) {
        (ErrorKind::NotFound, _) => {
            "no such socket: QEMU makes it if started with `-qmp unix:PATH,server=on,wait=off`".into()
        }
        (_, Ok(false)) => "not a socket".into(),
        (ErrorKind::ConnectionRefused, _) => "nobody listens there: the guest is gone".into(),
        _ => error.to_string(),
    }
}

// ---- a guest that is stopped --------------------------------------------------------------------------------------

/// The guest is stopped for as long as this lives.
struct Pause {
    monitor: Arc<Monitor>,
    /// waits for the end of this process, should it be a sudden one
    helper: Child,
}

impl Pause {
    fn new(monitor: &Arc<Monitor>) -> Result<Pause, String> {
        /// Stays until its input ends, then lets the guest go on. Its output is the connection, which has to be there for
        /// as long as QEMU takes to look at it.
        const HELPER: &str = r#"trap '' INT HUP TERM; cat >/dev/null; echo '{"execute":"cont"}'; sleep 1"#;
        let fd = {
            let wire = monitor.0.lock().unwrap_or_else(PoisonError::into_inner);
            wire.fd.try_clone().map_err(|e| e.to_string())?
        };
        let mut helper = Command::new("sh");
        helper.args(["-c", HELPER]).stdin(Stdio::piped()).stdout(Stdio::from(fd)).stderr(Stdio::null());
        // a signal to this process's group is none to it
        let helper = helper
            .process_group(0)
            .spawn()
            .map_err(|e| format!("no process to let the guest go on afterwards: {e}"))?;
        let pause = Pause { monitor: Arc::clone(monitor), helper };
        monitor.command("stop", json!({}))?;
        Ok(pause)
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        if self.monitor.command("cont", json!({})).is_ok() {
            let _ = self.helper.kill();
        }
        drop(self.helper.stdin.take());
        let _ = self.helper.wait();
    }
}

// ---- ways to memory -----------------------------------------------------------------------------------------------

/// Memory, and what keeps it still.
struct Held {
    bytes: Box<dyn Ram>,
    _pause: Option<Pause>,
}

impl Ram for Held {
    fn read(&self, pa: u64, buf: &mut [u8]) -> Result<(), Reason> {
        self.bytes.read(pa, buf)
    }
}

/// A stretch of RAM in QEMU's memory.
struct Piece {
    range: Range<u64>,
    host: u64,
}

/// QEMU's memory.
struct Process {
    memory: File,
    pieces: Vec<Piece>,
}

impl Process {
    fn new(monitor: &Monitor, pid: u32, ram: &[Range<u64>]) -> Result<Process, String> {
        let memory = File::open(format!("/proc/{pid}/mem")).map_err(|e| e.to_string())?;
        let mut pieces = Vec::new();
        for range in ram {
            // "Host virtual address for 0x1000 (pc.ram) is 0x7f6983e01000"
            let answer = monitor.human(&format!("gpa2hva {:#x}", range.start))?;
            let host = answer.trim().rsplit_once(" is 0x").and_then(|(_, hex)| u64::from_str_radix(hex, 16).ok());
            let host = host.ok_or_else(|| format!("gpa2hva: {answer}"))?;
            host.checked_add(range.end - range.start).ok_or("gpa2hva: an absurd address")?;
            pieces.push(Piece { range: range.clone(), host });
        }
        pieces.sort_by_key(|piece| piece.range.start);
        Ok(Process { memory, pieces })
    }
}

impl Ram for Process {
    fn read(&self, mut pa: u64, mut buf: &mut [u8]) -> Result<(), Reason> {
        while !buf.is_empty() {
            let next = self.pieces.partition_point(|piece| piece.range.start <= pa);
            let piece = next.checked_sub(1).and_then(|i| self.pieces.get(i)).filter(|piece| pa < piece.range.end);
            let piece = piece.ok_or(Reason::NotRam)?;
            let (now, rest) = buf.split_at_mut((buf.len() as u64).min(piece.range.end - pa) as usize);
            self.memory.read_exact_at(now, piece.host + (pa - piece.range.start)).map_err(gone)?;
            pa = pa.wrapping_add(now.len() as u64);
            buf = rest;
        }
        Ok(())
    }
}

fn gone(error: std::io::Error) -> Reason {
    match error.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::NotFound => Reason::Io("the guest is gone".into()),
        _ => Reason::Io(error.to_string()),
    }
}

/// Memory that QEMU writes to a file when asked.
struct Saved {
    monitor: Arc<Monitor>,
    /// which only one may use at a time
    file: Mutex<tempfile::TempDir>,
}

impl Saved {
    fn new(monitor: &Arc<Monitor>) -> Result<Saved, String> {
        let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
        Ok(Saved { monitor: Arc::clone(monitor), file: Mutex::new(dir) })
    }
}

impl Ram for Saved {
    fn read(&self, pa: u64, buf: &mut [u8]) -> Result<(), Reason> {
        let dir = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let path = dir.path().join("memory");
        let arguments = json!({ "val": pa, "size": buf.len(), "filename": path });
        self.monitor.command("pmemsave", arguments).map_err(Reason::Io)?;
        let file = File::open(&path).map_err(|e| Reason::Io(format!("pmemsave left no file: {e}")))?;
        file.read_exact_at(buf, 0).map_err(|e| Reason::Io(format!("pmemsave: {e}")))
    }
}

/// Memory as the monitor prints it.
struct Printed(Arc<Monitor>);

impl Ram for Printed {
    fn read(&self, pa: u64, buf: &mut [u8]) -> Result<(), Reason> {
        /// Bytes that are asked for at a time: their text is some 20 KiB.
        const STEP: usize = 8 << 10;
        let mut at = pa;
        for part in buf.chunks_mut(STEP) {
            let text = self.0.human(&format!("xp /{}xb {at:#x}", part.len())).map_err(Reason::Io)?;
            let bytes =
                text.lines().filter_map(|line| line.split_once(": ")).flat_map(|(_, bytes)| bytes.split_whitespace());
            let mut bytes = bytes.map(|byte| byte.strip_prefix("0x").and_then(|hex| u8::from_str_radix(hex, 16).ok()));
            for to in part.iter_mut() {
                *to = bytes
                    .next()
                    .flatten()
                    .ok_or_else(|| Reason::Io("the monitor prints less than was asked".into()))?;
            }
            at = at.wrapping_add(part.len() as u64);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ram_is_what_cpus_see_of_it() {
        let tree = "FlatView #0\r\n AS \"I/O\", root: io\r\n  0000000000000000-00000000000000ff (prio 0, ram): pc.ram\r\n\
            FlatView #1\r\n AS \"memory\", root: system\r\n Root memory region: system\r\n\
            \x20 0000000000000000-000000000009ffff (prio 0, ram): pc.ram KVM\r\n\
            \x20 00000000000a0000-00000000000bffff (prio 1, i/o): vga-lowmem\r\n\
            \x20 00000000000c0000-00000000000cffff (prio 0, rom): pc.ram @00000000000c0000 KVM\r\n\
            \x20 0000000000100000-00000000bfffffff (prio 0, ram): pc.ram @0000000000100000 KVM\r\n\
            \x20 00000000fd000000-00000000fdffffff (prio 1, ram): vga.vram KVM\r\n\
            \x20 00000000fffc0000-00000000ffffffff (prio 0, rom): pc.bios KVM\r\n\
            \x20 0000000100000000-000000013fffffff (prio 0, ram): pc.ram @00000000c0000000 KVM\r\n";
        let found = ram(tree);
        assert_eq!(found, [0..0xa0000, 0xc0000..0xd0000, 0x10_0000..0xc000_0000, 1 << 32..0x1_4000_0000]);
        assert_eq!(ram("").len(), 0);
        assert_eq!(ram("AS \"memory\", root\n ffffffffffffffff-ffffffffffffffff (prio 0, ram): x").len(), 0);
    }
}

//! The notes of a core file: registers, what the process is, what is mapped from where.
//!
//! ```console
//! $ readelf -n init.core | grep CORE
//!   CORE                 0x00000150  NT_PRSTATUS (prstatus structure)
//!   CORE                 0x00000088  NT_PRPSINFO (prpsinfo structure)
//!   CORE                 0x00000140  NT_AUXV (auxiliary vector)
//! ```

use engine::{prelude::*, targets::Arch};
use walkers::{corefile::Thread, cred::Cred, file::File, process::Usage, signal::Signals, task::Task, user, vma::Vma};

/// Types of notes (include/uapi/linux/elf.h).
const NT_PRSTATUS: u32 = 1;
const NT_PRFPREG: u32 = 2;
const NT_PRPSINFO: u32 = 3;
const NT_AUXV: u32 = 6;
const NT_PRXFPREG: u32 = 0x46e6_2b7f;
const NT_ARM_TLS: u32 = 0x401;
const NT_FILE: u32 = 0x4649_4c45;

/// Notes, one behind the other.
#[derive(Default)]
struct Notes(Vec<u8>);

/// Grows by numbers, little-endian as both architectures are.
pub(super) struct Bytes(pub(super) Vec<u8>);

/// What a core file is for: a process of 64 bits, or one of 32 on the same machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    /// 32 bits
    pub(super) narrow: bool,
    /// of the machine
    pub(super) arch: Arch,
}

impl Bytes {
    /// An `unsigned long` of the process.
    pub(super) fn word(self, kind: Kind, value: u64) -> Bytes {
        if kind.narrow { self.u32(value as u32) } else { self.u64(value) }
    }
    pub(super) fn u16(mut self, value: u16) -> Bytes {
        self.0.extend(value.to_le_bytes());
        self
    }
    pub(super) fn u32(mut self, value: u32) -> Bytes {
        self.0.extend(value.to_le_bytes());
        self
    }
    pub(super) fn u64(mut self, value: u64) -> Bytes {
        self.0.extend(value.to_le_bytes());
        self
    }
    /// Text in a field of `len` bytes, the last of which is NUL.
    fn text(mut self, text: &str, len: usize) -> Bytes {
        let bytes = engine::text::encode(text);
        let end = self.0.len() + len;
        self.0.extend(bytes.iter().take(len.saturating_sub(1)));
        self.0.resize(end, 0);
        self
    }
}

impl Notes {
    fn add(&mut self, kind: u32, name: &str, content: &[u8]) {
        let name_len = name.len() + 1;
        for number in [name_len as u32, content.len() as u32, kind] {
            self.0.extend(number.to_le_bytes());
        }
        for part in [name.as_bytes(), &[0]] {
            self.0.extend(part);
        }
        self.align();
        self.0.extend(content);
        self.align();
    }

    fn align(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}

/// The general registers as they stand in `struct elf_prstatus`. Of 32 bits they are in the order of `struct
/// user_regs_struct32` (arch/x86/include/asm/user32.h), picked from that of `struct user_regs_struct`.
fn general(kind: Kind, thread: &Thread) -> Vec<u64> {
    const NARROW: [usize; 17] = [5, 11, 12, 13, 14, 4, 10, 23, 24, 25, 26, 15, 16, 17, 18, 19, 20];
    let all = thread.general.as_deref().unwrap_or_default();
    let at = |i: usize| all.get(i).copied().unwrap_or(0);
    match kind {
        Kind { narrow: true, .. } => NARROW.into_iter().map(at).collect(),
        Kind { arch: Arch::Aarch64, .. } => (0..34).map(at).collect(),
        _ => (0..27).map(at).collect(),
    }
}

/// `struct elf_prstatus` (include/linux/elfcore.h), `struct compat_elf_prstatus` (elfcore-compat.h).
fn prstatus(cx: &Cx<'_>, kind: Kind, thread: &Thread) -> Result<Vec<u8>> {
    let signals = Signals::of(cx, thread.task.addr)?;
    let usage = Usage::of_thread(cx, thread.task.addr)?;
    let or_zero = |value: Result<i32>| value.unwrap_or(0) as u32;
    let time = |bytes: Bytes, ns: u64| bytes.word(kind, ns / 1_000_000_000).word(kind, ns / 1000 % 1_000_000);
    // no signal ended it: it was only looked at
    let bytes = Bytes(vec![0; 12]).u16(0).u16(0).word(kind, signals.pending).word(kind, signals.blocked);
    let task = &thread.task;
    let bytes = bytes.u32(task.pid as u32).u32(or_zero(task.parent(cx)));
    let bytes = bytes.u32(or_zero(task.group(cx))).u32(or_zero(task.login(cx)));
    let bytes = [usage.user, usage.system, 0, 0].into_iter().fold(bytes, time);
    let bytes = general(kind, thread).into_iter().fold(bytes, |bytes, value| bytes.word(kind, value));
    let bytes = bytes.u32(thread.float.is_some().into());
    Ok(if kind.narrow { bytes.0 } else { bytes.u32(0).0 })
}

/// `struct elf_prpsinfo`; users and groups of a process of 32 bits have 16 in it.
fn prpsinfo(cx: &Cx<'_>, kind: Kind, task: &Task) -> Vec<u8> {
    let or_zero = |value: Result<i32>| value.unwrap_or(0) as u32;
    let state = task.state();
    let number = "RSDTtXZP".find(state).unwrap_or(0) as u8;
    let head = vec![number, state as u8, u8::from(state == 'Z'), task.nice() as i8 as u8];
    let (uid, gid) = Cred::of_task(cx, task.addr).map_or((0, 0), |cred| (cred.uid, cred.gid));
    let arguments = user::arguments(cx, task.addr).map(|(arguments, _)| arguments.join(" ")).unwrap_or_default();
    let bytes = match kind.narrow {
        true => Bytes(head).u32(task.flags).u16(uid as u16).u16(gid as u16),
        false => Bytes(head).u32(0).u64(task.flags.into()).u32(uid).u32(gid),
    };
    let bytes = bytes.u32(task.tgid as u32);
    let bytes = bytes.u32(or_zero(task.parent(cx))).u32(or_zero(task.group(cx))).u32(or_zero(task.login(cx)));
    bytes.text(&task.comm, 16).text(&arguments, 80).0
}

/// NT_FILE: which file is mapped where (`fill_files_note()` in fs/binfmt_elf.c).
fn files(cx: &Cx<'_>, kind: Kind, mappings: &[Vma]) -> Vec<u8> {
    let size = cx.target.page_size();
    let named: Vec<(&Vma, String)> = mappings
        .iter()
        .filter(|vma| vma.file != 0)
        .map(|vma| (vma, cx.view::<File>(vma.file).and_then(|file| file.path(cx)).unwrap_or_else(|_| "?".into())))
        .collect();
    let mut bytes = Bytes(Vec::new()).word(kind, named.len() as u64).word(kind, size);
    for (vma, _) in &named {
        for value in [vma.start, vma.end, vma.page_of(vma.start, size)] {
            bytes = bytes.word(kind, value);
        }
    }
    for (_, path) in &named {
        bytes = bytes.text(path, engine::text::encode(path).len() + 1);
    }
    bytes.0
}

/// All notes of a process.
pub(super) fn notes(cx: &Cx<'_>, kind: Kind, threads: &[Thread], mappings: &[Vma]) -> Result<Vec<u8>> {
    let mut notes = Notes::default();
    for (i, thread) in threads.iter().enumerate() {
        if thread.general.is_none() {
            cx.notes.add(thread.task.addr, "thread whose registers in user mode are not known: zeros stand for them");
        }
        notes.add(NT_PRSTATUS, "CORE", &prstatus(cx, kind, thread)?);
        if i == 0 {
            notes.add(NT_PRPSINFO, "CORE", &prpsinfo(cx, kind, &thread.task));
            let auxv = user::auxv(cx, thread.task.addr)?.into_iter().chain([(0, 0)]);
            let pair = |bytes: Bytes, (key, value)| bytes.word(kind, key).word(kind, value);
            notes.add(NT_AUXV, "CORE", &auxv.fold(Bytes(Vec::new()), pair).0);
            notes.add(NT_FILE, "CORE", &files(cx, kind, mappings));
        }
        if let Some(float) = &thread.float {
            // what is saved has the form of fxsave, which of 32 bits is a note of its own
            match kind.narrow {
                true => notes.add(NT_PRXFPREG, "LINUX", float),
                false => notes.add(NT_PRFPREG, "CORE", float),
            }
        }
        if let Some(tls) = thread.tls {
            notes.add(NT_ARM_TLS, "LINUX", &tls.to_le_bytes());
        }
    }
    Ok(notes.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_aligned() {
        let mut notes = Notes::default();
        notes.add(NT_ARM_TLS, "LINUX", &[1; 8]);
        notes.add(NT_PRFPREG, "CORE", &[2; 3]);
        assert_eq!(notes.0.len(), (12 + 8 + 8) + (12 + 8 + 4));
        assert_eq!(Bytes(Vec::new()).text("abcdef", 4).0, b"abc\0");
    }
}

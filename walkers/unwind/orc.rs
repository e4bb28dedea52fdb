//! ORC: the tables that say, for each piece of the kernel's code, where the caller's stack pointer, frame pointer and
//! return address are (Documentation/arch/x86/orc-unwinder.rst).
//!
//! The kernel keeps them in its own memory, and those of each module, sorted by address: a dump needs nothing else to
//! be unwound. The layout of an entry is asked of the types. What its numbers mean has changed: how the types of frames
//! are counted (fb799447ae29, Linux 6.4; a member `end` tells), and how registers are (Linux 7.1; the kernel's own entry
//! for code with a frame pointer, `orc_fp_entry`, tells).

use crate::module::Bytes;
use engine::{debuginfo::holes::Patchy, prelude::*};
use std::{ops::Range, sync::Arc};

/// More entries than any kernel has: 6.12 has 350,000.
const MAX_ENTRIES: u64 = 1 << 24;

/// From what the caller's stack pointer, or frame pointer, is reckoned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Base {
    /// not recorded
    Undefined,
    /// the stack pointer of the caller
    PrevSp,
    /// a register, by its name in `struct pt_regs`
    Register(&'static str),
    /// the frame pointer
    Bp,
    /// the stack pointer
    Sp,
    /// memory where the frame pointer and the offset point
    BpIndirect,
    /// memory at the stack pointer
    SpIndirect,
}

/// What lies at the stack pointer of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// nobody knows: code that the tables leave out
    Undefined,
    /// nothing: here stacks end
    End,
    /// a return address, just below
    Call,
    /// a whole `struct pt_regs`
    Regs,
    /// the last five words of one: what the processor pushes
    PartialRegs,
}

/// An entry, decoded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub sp: Base,
    pub sp_offset: i64,
    pub bp: Base,
    pub bp_offset: i64,
    pub kind: Kind,
    /// The address that is found next is where that code will go on, not one behind a call.
    pub signal: bool,
}

impl Entry {
    /// For code with a frame pointer that has no entry: what gcc makes of `push %rbp; mov %rsp,%rbp`.
    pub const FRAME_POINTER: Entry =
        Entry { sp: Base::Bp, sp_offset: 16, bp: Base::PrevSp, bp_offset: -16, kind: Kind::Call, signal: false };
    /// For a call through a null pointer: the return address is on top.
    pub const NULL: Entry =
        Entry { sp: Base::Sp, sp_offset: 8, bp: Base::Undefined, bp_offset: 0, kind: Kind::Call, signal: false };
}

/// A member of `struct orc_entry`, all of which lie in its first 8 bytes.
#[derive(Clone, Copy, Debug)]
struct Part {
    shift: u32,
    bits: u32,
}

impl Part {
    fn find(session: &Session, name: &str) -> Option<Part> {
        let place = session.place("orc_entry", name)?;
        let (shift, bits) = (u32::try_from(place.bit_offset).ok()?, u32::try_from(place.bits).ok()?);
        (bits > 0 && shift.checked_add(bits)? <= 64).then_some(Part { shift, bits })
    }

    fn unsigned(self, word: u64) -> u64 {
        (word >> self.shift) & (u64::MAX >> (64 - self.bits))
    }

    fn signed(self, word: u64) -> i64 {
        let unused = 64 - self.bits;
        ((self.unsigned(word) << unused) as i64) >> unused
    }
}

/// How this kernel writes its entries.
#[derive(Clone, Copy, Debug)]
struct Format {
    size: usize,
    sp_offset: Part,
    bp_offset: Part,
    sp_reg: Part,
    bp_reg: Part,
    kind: Part,
    signal: Option<Part>,
    end: Option<Part>,
    bases: &'static [Base; 16],
}

use Base::{Bp, BpIndirect, PrevSp, Register, Sp, SpIndirect, Undefined as Un};

/// `ORC_REG_…` (arch/x86/include/asm/orc_types.h) since Linux 4.14.
const BASES: [Base; 16] = [
    Un,
    PrevSp,
    Register("dx"),
    Register("di"),
    Bp,
    Sp,
    Register("r10"),
    Register("r13"),
    BpIndirect,
    SpIndirect,
    Un,
    Un,
    Un,
    Un,
    Un,
    Un,
];
/// The same since Linux 7.1.
const NEW_BASES: [Base; 16] = [
    Un,
    Register("ax"),
    Register("dx"),
    Sp,
    Bp,
    Register("di"),
    Register("r10"),
    Register("r13"),
    PrevSp,
    SpIndirect,
    BpIndirect,
    Un,
    Un,
    Un,
    Un,
    Un,
];

impl Format {
    fn find(session: &Session) -> Result<Format> {
        let missing = || Error::Unavailable("the kernel's types do not say what `struct orc_entry` is".into());
        let part = |name| Part::find(session, name).ok_or_else(missing);
        let size = session.size_of("orc_entry").ok().filter(|size| (1..=8).contains(size)).ok_or_else(missing)?;
        Ok(Format {
            size: size as usize,
            sp_offset: part("sp_offset")?,
            bp_offset: part("bp_offset")?,
            sp_reg: part("sp_reg")?,
            bp_reg: part("bp_reg")?,
            kind: part("type")?,
            signal: Part::find(session, "signal"),
            end: Part::find(session, "end"),
            bases: &BASES,
        })
    }

    fn decode(&self, word: u64) -> Entry {
        let base = |part: Part| self.bases.get(part.unsigned(word) as usize).copied().unwrap_or(Un);
        let ends = self.end.is_some_and(|end| end.unsigned(word) != 0);
        let kind = match (self.end.is_some(), self.kind.unsigned(word)) {
            (true, _) if base(self.sp_reg) == Un => {
                if ends {
                    Kind::End
                } else {
                    Kind::Undefined
                }
            }
            (true, 0) | (false, 2) => Kind::Call,
            (true, 1) | (false, 3) => Kind::Regs,
            (true, 2) | (false, 4) => Kind::PartialRegs,
            (false, 1) => Kind::End,
            _ => Kind::Undefined,
        };
        // before the member `signal` (ffb1b4a41016, Linux 6.3) what interrupts leave behind was such, and nothing else
        let signal = match self.signal {
            Some(signal) => signal.unsigned(word) != 0,
            None => matches!(kind, Kind::Regs | Kind::PartialRegs),
        };
        let (sp_offset, bp_offset) = (self.sp_offset.signed(word), self.bp_offset.signed(word));
        Entry { sp: base(self.sp_reg), sp_offset, bp: base(self.bp_reg), bp_offset, kind, signal }
    }
}

/// The entries of one piece of code.
#[derive(Debug)]
struct Table {
    code: Vec<Range<u64>>,
    /// where the address of the first entry's code is kept, which counts from its own place
    at: u64,
    ips: Patchy,
    entries: Patchy,
    len: usize,
}

impl Table {
    fn read(
        session: &Session,
        code: Vec<Range<u64>>,
        at: u64,
        entries: u64,
        len: u64,
        format: &Format,
    ) -> Result<Table> {
        if len > MAX_ENTRIES {
            return Err(Error::Corrupt { addr: at, what: format!("an ORC table of {len} entries") });
        }
        let read = |addr, width| {
            Patchy::read(&Bytes(session), addr, len as usize * width)
                .map_err(|why| Error::Unavailable(format!("the ORC table: {why}")))
        };
        Ok(Table { code, at, ips: read(at, 4)?, entries: read(entries, format.size)?, len: len as usize })
    }

    /// Start of the code that an entry is about.
    fn ip(&self, i: usize) -> Option<u64> {
        let bytes = self.ips.bytes.get(4 * i..4 * i + 4)?;
        let distance = i32::from_le_bytes(bytes.try_into().ok()?);
        Some(self.at.wrapping_add(4 * i as u64).wrapping_add_signed(distance.into()))
    }

    /// The entry for an address: the last that starts at or below it. An error names what is not in the dump.
    fn find(&self, ip: u64, format: &Format) -> Result<Option<Entry>, &'static str> {
        let (mut low, mut high) = (0, self.len);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.ips.holes.hit(4 * middle..4 * middle + 4) {
                return Err("a page of the ORC table is not in the dump");
            }
            match self.ip(middle) {
                Some(start) if start <= ip => low = middle + 1,
                _ => high = middle,
            }
        }
        let Some(i) = low.checked_sub(1) else { return Ok(None) };
        let place = i * format.size..(i + 1) * format.size;
        if self.entries.holes.hit(place.clone()) {
            return Err("a page of the ORC table is not in the dump");
        }
        let mut word = [0; 8];
        for (to, from) in word.iter_mut().zip(self.entries.bytes.get(place).unwrap_or_default()) {
            *to = *from;
        }
        Ok(Some(format.decode(u64::from_le_bytes(word))))
    }
}

/// All tables: the kernel's and its modules'.
#[derive(Debug)]
pub(super) struct Orc {
    format: Format,
    tables: Vec<Table>,
    /// What `SpIndirect` means: memory at stack pointer plus offset, or memory at the stack pointer, and then the
    /// offset. The latter since aafeb14e9da2 (Linux 5.12), which came with `hardirq_stack_inuse` (e7f890017971).
    pub offset_first: bool,
}

impl Orc {
    /// The session's. An error if the kernel has none.
    pub fn of(session: &Session) -> Result<Arc<Orc>> {
        session.once(|| Orc::read(session))
    }

    fn read(session: &Session) -> Result<Orc> {
        let symbol = |name| session.kernel_symbol(name);
        let ([Some(first), Some(last), Some(entries)], Some(code)) = (
            ["__start_orc_unwind_ip", "__stop_orc_unwind_ip", "__start_orc_unwind"].map(symbol),
            symbol("_stext").zip(symbol("_end")),
        ) else {
            return Err(Error::Unavailable("the kernel has no ORC tables (CONFIG_UNWINDER_ORC)".into()));
        };
        let mut format = Format::find(session)?;
        let len = last.checked_sub(first).map_or(0, |bytes| bytes / 4);
        let kernel = Table::read(session, std::iter::once(code.0..code.1).collect(), first, entries, len, &format)?;
        format.bases = bases(session, &format, &kernel)?;
        let mut tables = vec![kernel];
        for module in session.symbols.modules(session) {
            match module_table(session, module.addr, module.ranges.clone(), &format) {
                Ok(table) => tables.extend(table),
                Err(e) if e.is_control() => return Err(e),
                Err(e) => session.notes.add(module.addr, format!("ORC table of a module: {}", e.kind())),
            }
        }
        // a variable of its own, but in Linux 6.2 to 6.14 a member of another
        let in_use = symbol("hardirq_stack_inuse").is_some() || session.has_member("pcpu_hot", "hardirq_stack_inuse");
        Ok(Orc { format, tables, offset_first: !in_use })
    }

    /// What is known of the code at an address; `None` if no table covers it.
    pub fn find(&self, ip: u64) -> Result<Option<Entry>, &'static str> {
        match self.tables.iter().find(|table| table.code.iter().any(|code| code.contains(&ip))) {
            Some(table) => table.find(ip, &self.format),
            None => Ok(None),
        }
    }
}

/// How registers are counted: told by the kernel's entry for code with a frame pointer, whose `bp_reg` is the caller's
/// stack pointer; where that has no symbol, by what most entries of the table have there.
fn bases(session: &Session, format: &Format, kernel: &Table) -> Result<&'static [Base; 16]> {
    let sample = session.kernel_symbol("orc_fp_entry").and_then(|at| session.uint(at, format.size).ok());
    let number = match sample {
        Some(word) => format.bp_reg.unsigned(word),
        None => {
            let mut votes = [0u32; 16];
            for entry in kernel.entries.bytes.chunks_exact(format.size) {
                let word = entry.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
                if let Some(votes) = votes.get_mut(format.bp_reg.unsigned(word) as usize) {
                    *votes += 1;
                }
            }
            (1..16).max_by_key(|number| votes.get(*number as usize)).unwrap_or(0)
        }
    };
    [&BASES, &NEW_BASES]
        .into_iter()
        .find(|bases| bases.get(number as usize) == Some(&PrevSp))
        .ok_or_else(|| Error::Unavailable(format!("the kernel's ORC entries count registers in a new way ({number})")))
}

/// A module's `struct mod_arch_specific` (arch/x86/include/asm/module.h).
fn module_table(session: &Session, module: u64, code: Vec<Range<u64>>, format: &Format) -> Result<Option<Table>> {
    let member = |path| Ok::<_, Error>(module.wrapping_add(session.offset("module", path)?));
    let len = session.u32(member("arch.num_orcs")?)?;
    if len == 0 {
        return Ok(None);
    }
    let (ips, entries) = (session.u64(member("arch.orc_unwind_ip")?)?, session.u64(member("arch.orc_unwind")?)?);
    Table::read(session, code, ips, entries, len.into(), format).map(Some)
}

const fn part(shift: u32, bits: u32) -> Part {
    Part { shift, bits }
}

/// As Linux 6.4 and later have it.
const FORMAT: Format = Format {
    size: 6,
    sp_offset: part(0, 16),
    bp_offset: part(16, 16),
    sp_reg: part(32, 4),
    bp_reg: part(36, 4),
    kind: part(40, 3),
    signal: Some(part(43, 1)),
    end: None,
    bases: &BASES,
};

/// As those before have it.
const OLD_FORMAT: Format = Format { kind: part(40, 2), signal: None, end: Some(part(42, 1)), ..FORMAT };

/// Of some addresses, how many a table at hand tells something about: what fuzzing feeds, without a session. The table of
/// addresses stands at `at`; `style` chooses among the ways in which kernels wrote entries.
pub fn look_up(at: u64, ips: bytes::Bytes, entries: bytes::Bytes, style: u8, addrs: &[u64]) -> usize {
    let format = match style % 3 {
        0 => OLD_FORMAT,
        1 => FORMAT,
        _ => Format { bases: &NEW_BASES, ..FORMAT },
    };
    let len = (ips.len() / 4).min(entries.len() / format.size);
    let code = std::iter::once(0..u64::MAX).collect();
    let table = Table { code, at, ips: ips.into(), entries: entries.into(), len };
    addrs.iter().filter(|ip| matches!(table.find(**ip, &format), Ok(Some(_)))).count()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn table(ips: &[i32], entries: &[[u8; 6]]) -> Table {
        let at = 0xffff_ffff_8200_0000;
        let ips: Vec<u8> = ips.iter().flat_map(|ip| ip.to_le_bytes()).collect();
        let len = entries.len();
        Table {
            code: std::iter::once(0..u64::MAX).collect(),
            at,
            ips: bytes::Bytes::from(ips).into(),
            entries: bytes::Bytes::from(entries.concat()).into(),
            len,
        }
    }

    #[test]
    fn entries_are_decoded_in_both_formats() {
        // sp+8, bp unchanged, call; then sp+0, pt_regs, signal
        let call = FORMAT.decode(0x0205_0000_0008);
        assert_eq!((call.sp, call.sp_offset, call.bp, call.kind, call.signal), (Sp, 8, Un, Kind::Call, false));
        let regs = FORMAT.decode(0x0b05_fff0_0000);
        assert_eq!((regs.kind, regs.signal, regs.bp_offset), (Kind::Regs, true, -16));
        let old = OLD_FORMAT;
        assert_eq!(old.decode(0x0005_0000_0008).kind, Kind::Call);
        assert_eq!(old.decode(0x0400_0000_0000).kind, Kind::End);
        assert_eq!(old.decode(0).kind, Kind::Undefined);
        assert!(old.decode(0x0105_0000_0000).signal);
    }

    #[test]
    fn the_last_entry_below_is_found() {
        // each counts from its own place, four bytes further on
        let table = table(&[-100, -54, -8], &[[8, 0, 0, 0, 5, 2], [16, 0, 0, 0, 5, 2], [24, 0, 0, 0, 5, 2]]);
        let offset = |ip: i64| table.find(table.at.wrapping_add_signed(ip), &FORMAT).unwrap().map(|e| e.sp_offset);
        assert_eq!(
            [-101, -100, -51, -50, -1, 0, 99].map(offset),
            [None, Some(8), Some(8), Some(16), Some(16), Some(24), Some(24)]
        );
    }
}

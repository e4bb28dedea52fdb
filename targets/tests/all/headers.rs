//! Headers of every version, byte order and word size, as the compilers of those machines lay them out.

use std::fmt::Debug;

use bytes::Bytes;
use targets::{OpenOptions, Reason, Space, Target};

use crate::synth::PAGE;

/// A machine: its name, its ELF number, its byte order, the width of its `long`, and how its compiler aligns eight
/// bytes.
#[derive(Clone, Copy, Debug)]
struct Machine {
    name: &'static str,
    elf: u16,
    big: bool,
    long: usize,
    align: usize,
}

const MACHINES: [Machine; 7] = [
    Machine { name: "x86_64", elf: 62, big: false, long: 8, align: 8 },
    Machine { name: "aarch64", elf: 183, big: false, long: 8, align: 8 },
    Machine { name: "s390x", elf: 22, big: true, long: 8, align: 8 },
    Machine { name: "ppc64", elf: 21, big: true, long: 8, align: 8 },
    Machine { name: "ppc", elf: 20, big: true, long: 4, align: 8 },
    Machine { name: "i686", elf: 3, big: false, long: 4, align: 4 },
    Machine { name: "armv7l", elf: 40, big: false, long: 4, align: 8 },
];

/// A C structure that is written field by field.
struct Struct {
    machine: Machine,
    bytes: Vec<u8>,
}

impl Struct {
    fn new(machine: Machine) -> Struct {
        Struct { machine, bytes: Vec::new() }
    }

    fn put(&mut self, width: usize, value: u64) {
        self.bytes.resize(self.bytes.len().next_multiple_of(width.min(self.machine.align)), 0);
        let bytes = value.to_be_bytes();
        if self.machine.big {
            self.bytes.extend(&bytes[8 - width..]);
        } else {
            self.bytes.extend(bytes[8 - width..].iter().rev());
        }
    }

    fn int(&mut self, value: u64) {
        self.put(4, value);
    }

    fn long(&mut self, value: u64) {
        self.put(self.machine.long, value);
    }

    fn all(mut self, width: usize, values: &[u64]) -> Vec<u8> {
        for &value in values {
            self.put(width, value);
        }
        self.bytes
    }
}

const TEXT: &[u8] = b"OSRELEASE=5.4.3-other\nPAGESIZE=4096\n";
const ERASED: &[u8] = b"erase keyring\nerase tls_secret 32\n";

fn note(machine: Machine) -> Vec<u8> {
    let head = Struct::new(machine).all(4, &[11, TEXT.len() as u64, 0]);
    let mut out = [&head, b"VMCOREINFO\0\0".as_slice(), TEXT].concat();
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

/// What to write into a kdump file.
#[derive(Clone, Copy)]
struct Plan {
    machine: Machine,
    version: u64,
    status: u64,
    /// bits of the first bitmap, and of the second one
    bitmaps: [u64; 2],
    /// whether the file has but the second
    single: bool,
}

fn page(pfn: u64) -> Vec<u8> {
    (0..PAGE).map(|i| (i as u64 * 7 + pfn) as u8).collect()
}

/// A kdump file of uncompressed pages: `struct disk_dump_header` and `struct kdump_sub_header` of makedumpfile.
fn kdump(plan: Plan) -> Vec<u8> {
    let Plan { machine, version, status, bitmaps, single } = plan;
    let mut head = Struct::new(machine);
    head.bytes.extend(b"KDUMP   ");
    head.int(version);
    for name in ["Linux", "host", "5.4.3-other", "#1", machine.name, ""] {
        let mut field = name.as_bytes().to_vec();
        field.resize(65, 0);
        head.bytes.extend(field);
    }
    // struct timeval is aligned like its longs
    head.bytes.resize(head.bytes.len().next_multiple_of(machine.long), 0);
    head.long(1_600_000_000);
    head.long(0);
    head.int(status);
    let blocks = if single { 1 } else { 2 };
    // With one bitmap, half of it is not enough for the frames.
    let frames = if single { 20_000 } else { 64 };
    for word in [PAGE as u64, 1, blocks, frames, 0, 0, 0, 0, 1] {
        head.int(word);
    }
    let mut out = head.bytes;
    out.resize(PAGE, 0);

    let (text_at, note_at, erased_at) = (PAGE as u64 + 512, PAGE as u64 + 1024, PAGE as u64 + 1536);
    let mut sub = Struct::new(machine);
    sub.long(0);
    sub.int(31);
    if version >= 2 {
        sub.int(0);
        sub.long(0);
        sub.long(0);
    }
    let places = [
        (3, text_at, TEXT.len() as u64),
        (4, note_at, note(machine).len() as u64),
        (5, erased_at, ERASED.len() as u64),
    ];
    for (since, at, len) in places {
        if version >= since {
            sub.put(8, at);
            sub.long(len);
        }
    }
    if version >= 6 {
        for word in [0, 0, frames] {
            sub.put(8, word);
        }
    }
    out.extend(sub.bytes);
    for (at, bytes) in [(text_at, TEXT.to_vec()), (note_at, note(machine)), (erased_at, ERASED.to_vec())] {
        out.resize(at as usize, 0);
        out.extend(bytes);
    }
    out.resize(2 * PAGE, 0);
    for bits in &bitmaps[usize::from(single)..] {
        out.extend(bits.to_le_bytes());
        out.resize(out.len().next_multiple_of(PAGE), 0);
    }
    let pages: Vec<u64> = (0..64).filter(|pfn| bitmaps[1] >> pfn & 1 == 1).collect();
    let data = out.len() + 24 * pages.len();
    for i in 0..pages.len() {
        let mut desc = Struct::new(machine);
        desc.put(8, (data + i * PAGE) as u64);
        desc.int(PAGE as u64);
        desc.int(0);
        desc.put(8, 0);
        out.extend(desc.bytes);
    }
    out.extend(pages.into_iter().flat_map(page));
    out
}

fn open(file: Vec<u8>, what: impl Debug) -> Target {
    Target::of_bytes(vec![Bytes::from(file)], &OpenOptions::default()).unwrap_or_else(|e| panic!("{what:?}: {e}"))
}

fn plan(machine: Machine, version: u64) -> Plan {
    Plan { machine, version, status: 0, bitmaps: [0b1111_0111, 0b0101_0111], single: false }
}

#[test]
fn kdump_headers_of_every_version_and_machine() {
    for machine in MACHINES {
        for version in 0..=6 {
            let what = (machine, version);
            let target = open(kdump(plan(machine, version)), what);
            let info = target.info();
            assert_eq!((info.order.big_endian, info.order.wide), (machine.big, machine.long == 8), "{what:?}");
            assert_eq!(info.uts.unwrap().release, "5.4.3-other");
            assert_eq!(info.dump_level, (version >= 1).then_some(31), "{what:?}");
            assert!(info.damage.is_empty() && !info.incomplete, "{what:?}: {:?}", info.damage);
            assert_eq!(info.dump_time.unwrap().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs(), 1_600_000_000);
            let release = target.vmcoreinfo().and_then(|text| text.get("OSRELEASE"));
            assert_eq!(release, (version >= 3).then_some("5.4.3-other"), "{what:?}");
            let erased = (version >= 5).then(|| "erase keyring\nerase tls_secret 32".to_owned());
            assert_eq!(info.erased, erased, "{what:?}");
            for pfn in [0, 1, 2, 4, 6] {
                assert_eq!(target.bytes(Space::Phys, pfn << 12, PAGE).unwrap(), page(pfn), "{what:?}, page {pfn}");
            }
            // The first bitmap tells what was there.
            let reason = |pfn: u64| target.u64(Space::Phys, pfn << 12).unwrap_err().reason;
            assert_eq!((reason(3), reason(5), reason(7)), (Reason::NotInDump, Reason::Excluded, Reason::Excluded));
            assert_eq!((info.present, info.excluded), (5 << 12, Some(2)), "{what:?}");
        }
    }
}

#[test]
fn newer_headers_are_read_as_far_as_they_are_known() {
    let target = open(kdump(plan(MACHINES[0], 7)), 7);
    assert!(target.info().damage[0].contains("version 7"), "{:?}", target.info().damage);
    assert_eq!(target.bytes(Space::Phys, 6 << 12, PAGE).unwrap(), page(6));
}

#[test]
fn one_bitmap_does_not_tell_excluded_from_missing() {
    for machine in MACHINES {
        let target = open(kdump(Plan { single: true, ..plan(machine, 6) }), machine);
        let reason = |pfn: u64| target.u64(Space::Phys, pfn << 12).unwrap_err().reason;
        assert_eq!((reason(3), reason(5)), (Reason::NotInDump, Reason::NotInDump), "{machine:?}");
        assert_eq!(target.info().excluded, None);
        assert_eq!(target.bytes(Space::Phys, 6 << 12, PAGE).unwrap(), page(6));
    }
}

/// makedumpfile ran out of space: its flag, and descriptors that were never filled in.
#[test]
fn an_incomplete_dump_says_so_and_has_the_pages_that_were_written() {
    for machine in MACHINES {
        let mut file = kdump(Plan { status: 8, ..plan(machine, 6) });
        let descs = 4 * PAGE;
        file[descs + 3 * 24..descs + 5 * 24].fill(0);
        file.truncate(descs + 5 * 24 + 3 * PAGE);
        let target = open(file, machine);
        let info = target.info();
        assert!(info.incomplete);
        assert_eq!((info.present + info.truncated, info.truncated), (5 << 12, 2 << 12), "{machine:?}");
        assert_eq!(target.bytes(Space::Phys, 2 << 12, PAGE).unwrap(), page(2));
        assert_eq!(target.u64(Space::Phys, 4 << 12).unwrap_err().reason, Reason::Truncated);
        assert_eq!(target.u64(Space::Phys, 5 << 12).unwrap_err().reason, Reason::Excluded);
    }
}

#[test]
fn places_of_the_second_header_outside_the_file_are_damage_and_no_end() {
    // VMCOREINFO, notes, and erase information of 64-bit machines
    for (at, what) in [(32, "VMCOREINFO"), (48, "notes"), (64, "erase information")] {
        for (off, len) in [(1u64 << 40, 8u64), (PAGE as u64, u64::MAX), (u64::MAX, 1), (0x1000, 1 << 50)] {
            let mut file = kdump(plan(MACHINES[0], 6));
            file[PAGE + at..PAGE + at + 8].copy_from_slice(&off.to_le_bytes());
            file[PAGE + at + 8..PAGE + at + 16].copy_from_slice(&len.to_le_bytes());
            let target = open(file, what);
            let damage = target.info().damage;
            assert_eq!(damage.len(), 1, "{damage:?}");
            assert!(damage[0].contains(&format!("{len} bytes of {what} at offset {off:#x}")), "{damage:?}");
            assert_eq!(target.bytes(Space::Phys, 6 << 12, PAGE).unwrap(), page(6));
        }
    }
}

/// An ELF core of two pages at 0x5000, with one more that was left out, and VMCOREINFO.
fn elf(machine: Machine) -> Vec<u8> {
    let wide = machine.long == 8;
    let (ehsize, phsize) = if wide { (64, 56) } else { (52, 32) };
    let mut head = Struct::new(machine);
    head.bytes.extend(b"\x7fELF");
    head.bytes.extend([if wide { 2 } else { 1 }, if machine.big { 2 } else { 1 }, 1]);
    head.bytes.resize(16, 0);
    head.put(2, 4);
    head.put(2, machine.elf.into());
    head.int(1);
    for word in [0, ehsize, 0] {
        head.long(word);
    }
    head.int(0);
    for half in [ehsize, phsize, 2, 0, 0, 0] {
        head.put(2, half);
    }
    assert_eq!(head.bytes.len() as u64, ehsize);
    let note = note(machine);
    let note_at = ehsize + 2 * phsize;
    let data = 512;
    for (kind, off, pa, filesz, memsz) in
        [(4, note_at, 0, note.len() as u64, 0), (1, data, 0x5000, 2 * PAGE as u64, 3 * PAGE as u64)]
    {
        head.int(kind);
        if wide {
            head.int(6);
        }
        for word in [off, 0, pa, filesz, memsz] {
            head.long(word);
        }
        if !wide {
            head.int(6);
        }
        head.long(0);
    }
    let mut out = head.bytes;
    out.extend(note);
    out.resize(data as usize, 0);
    out.extend([page(5), page(6)].concat());
    out
}

#[test]
fn elf_cores_of_every_class_and_byte_order() {
    for machine in MACHINES {
        let file = elf(machine);
        let target = open(file.clone(), machine);
        let info = target.info();
        assert_eq!((info.order.big_endian, info.order.wide), (machine.big, machine.long == 8), "{machine:?}");
        assert_eq!((info.present, info.excluded), (2 << 12, Some(1)), "{machine:?}");
        assert_eq!(target.bytes(Space::Phys, 0x5000, 2 * PAGE).unwrap(), [page(5), page(6)].concat(), "{machine:?}");
        assert_eq!(target.u64(Space::Phys, 0x7000).unwrap_err().reason, Reason::Excluded);
        assert_eq!(target.vmcoreinfo().unwrap().get("OSRELEASE"), Some("5.4.3-other"), "{machine:?}");
        // Cut anywhere, too.
        for len in 1..file.len().min(600) {
            if let Ok(target) = Target::of_bytes(vec![Bytes::from(file[..len].to_vec())], &OpenOptions::default()) {
                assert!(target.bytes(Space::Phys, 0x5000, 2 * PAGE).is_err(), "{machine:?} cut at {len}");
                assert!(target.info().truncated > 0);
            }
        }
    }
}

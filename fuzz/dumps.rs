//! Dump formats: a file that begins like one, and everything that a target answers.

use std::{cell::Cell, ops::ControlFlow};

use bytes::Bytes;
use targets::{OpenOptions, Space, Target, VmCoreInfo};

use crate::{counted, seen};

/// An ELF core.
pub fn elf(data: &[u8]) {
    let mut file = begin(b"\x7fELF", data);
    // ET_CORE, in the order that the header says
    if let Some(order) = file.get(5).copied()
        && let Some(kind) = file.get_mut(16..18)
    {
        kind.copy_from_slice(if order == 2 { &[0, 4] } else { &[4, 0] });
    }
    dump(vec![file.into()]);
}

/// A kdump-compressed file, and the two halves of the bytes as parts of a set.
pub fn kdump(data: &[u8]) {
    const MAGIC: &[u8] = b"KDUMP   ";
    let (one, other) = data.split_at(data.len() / 2);
    if data.first().is_some_and(|byte| byte & 1 == 1) {
        dump(vec![begin(MAGIC, one).into(), begin(MAGIC, other).into()]);
    }
    dump(vec![begin(MAGIC, data).into()]);
}

/// A flattened stream of whatever.
pub fn flattened(data: &[u8]) {
    dump(vec![begin(b"makedumpfile\0\0\0\0", data).into()]);
}

/// A LiME or AVML image, as the first byte has it.
pub fn lime(data: &[u8]) {
    let avml = data.first() == Some(&b'A');
    dump(vec![begin(if avml { b"AVML\x02\0\0\0" } else { b"EMiL\x01\0\0\0" }, data).into()]);
}

/// VMCOREINFO by itself, and in raw memory.
pub fn vmcoreinfo(data: &[u8]) {
    let info = VmCoreInfo::parse(&Bytes::copy_from_slice(data), None);
    for (key, _) in info.iter().take(1000) {
        let name = key.split(['(', ')']).nth(1).unwrap_or(key);
        let found = [info.symbol(name), info.offset(name), info.size(name), info.length(name)];
        counted("vmcoreinfo", found.iter().flatten().count() + usize::from(info.number(name).is_some()));
    }
    counted("told", usize::from(info.kaslr_offset().is_some()) + usize::from(info.crash_time().is_some()));
    let mut memory = vec![0; 0x1000];
    for word in [11u32, data.len() as u32, 0] {
        memory.extend(word.to_le_bytes());
    }
    memory.extend(b"VMCOREINFO\0\0");
    memory.extend(data);
    memory.resize(memory.len().next_multiple_of(0x1000), 0);
    let mut lime = b"EMiL\x01\0\0\0".to_vec();
    for word in [0, memory.len() as u64 - 1, 0] {
        lime.extend(word.to_le_bytes());
    }
    lime.extend(memory);
    dump(vec![lime.into()]);
}

/// `data` with these first bytes.
fn begin(magic: &[u8], data: &[u8]) -> Vec<u8> {
    magic.iter().chain(data.get(magic.len()..).unwrap_or_default()).copied().collect()
}

/// Opens the files, and asks everything.
fn dump(files: Vec<Bytes>) {
    let target = match Target::of_bytes(files, &OpenOptions::default()) {
        Ok(target) => target,
        Err(e) => return seen(&e),
    };
    let info = target.info();
    seen(&info.format);
    info.damage.iter().for_each(|damage| seen(damage));
    counted("cpus", target.cpus().len());
    counted("ranges", target.ranges().len());
    for range in target.ranges().windows(2) {
        assert!(range[0].end < range[1].start, "ranges touch or overlap: {range:x?}");
    }
    let mut buf = vec![0; 0x1010];
    for range in target.ranges().iter().take(32) {
        assert!(range.start < range.end && target.present(range.start), "an empty range: {range:x?}");
        for at in [range.start, range.start.wrapping_sub(8), range.end.wrapping_sub(0x1008), range.end - 1] {
            let holes = target.read_lossy(Space::Phys, at, &mut buf);
            counted("holes", holes.len());
            if let Some(hole) = holes.first() {
                seen(&hole.reason);
            }
        }
        let _ = target.bytes(Space::Phys, range.start, 1 << 40);
    }
    counted("chunks", target.chunks(1 << 20).take(1000).count());
    match target.kernel_layout() {
        Ok(_) => seen(&"a kernel"),
        Err(why) => seen(&why),
    }
    counted("kernels", target.kernels().len());
    target.strangers();
    for va in [0, 0xffff_ffff_8100_0000, 0xffff_8880_0000_1000, 0xffff_8000_1000_0000, u64::MAX - 7] {
        for space in [Space::Kernel, Space::User(0x1000)] {
            if let Err(why) = target.read(space, va, &mut buf[..8]) {
                seen(&why);
            }
        }
    }
    let tables = Cell::new(0u32);
    let keep_going = || tables.replace(tables.get() + 1) < 2000;
    let mut mappings = 0usize;
    let _ = target.each_mapping(Space::Kernel, 0..=u64::MAX, &keep_going, &mut |_| {
        mappings += 1;
        ControlFlow::Continue(())
    });
    counted("mappings", mappings);
}

//! The kernel's address space on the tiny machine: found in each way, read through each way.

use std::ops::ControlFlow;

use targets::{Evidence, Flags, OpenOptions, Reason, Space};

use crate::synth::{self, DIRECT_MAP, IMAGE_OFFSET, Memory, PAGE, TEXT, USER, USER_PGD, VMALLOC};

#[test]
fn is_found_by_note_by_memory_and_by_shape() {
    for levels in [4, 5] {
        let memory = Memory::new(levels);
        let ways = [
            (OpenOptions::default(), Evidence::Note),
            (OpenOptions { ignore_note: true, ..Default::default() }, Evidence::Memory(22 << 12)),
            (OpenOptions { kernel_at: Some(22 << 12), ..Default::default() }, Evidence::Memory(22 << 12)),
            (OpenOptions { ignore_vmcoreinfo: true, ..Default::default() }, Evidence::PageTables(4 << 12)),
        ];
        for file in [synth::elf(&memory, true, true), synth::kdump(&memory, 1, &[])] {
            for (options, evidence) in &ways {
                let target = synth::open(&file, options).unwrap();
                let layout = target.kernel_layout().unwrap();
                assert_eq!(layout.evidence, *evidence);
                assert_eq!((layout.pgd, layout.levels, layout.image_offset), (2 << 12, levels, IMAGE_OFFSET));
                assert_eq!((layout.page_size, layout.va_bits), (4096, 12 + 9 * u32::from(levels)));
                assert_eq!(layout.image, TEXT..TEXT + (4 << 20));
                assert_eq!(layout.kaslr_offset, Some(0x200_0000));
                assert_eq!(layout.direct_map, Some(memory.upper(DIRECT_MAP)));
                assert_eq!((layout.others, layout.doubts.len()), (0, 0));
                assert_eq!(target.vmcoreinfo().is_some(), !options.ignore_vmcoreinfo);
            }
        }
    }
}

#[test]
fn a_note_that_does_not_fit_is_doubted() {
    let mut memory = Memory::new(4);
    memory.note = memory.note.replace("NUMBER(phys_base)=-", "NUMBER(phys_base)=").replace("6.1.0", "6.2.0");
    let target = synth::open(&synth::elf(&memory, true, true), &OpenOptions::default()).unwrap();
    let layout = target.kernel_layout().unwrap();
    assert_eq!(layout.evidence, Evidence::Memory(22 << 12));
    assert_eq!(layout.doubts.len(), 1);
    assert_eq!(target.vmcoreinfo().unwrap().get("OSRELEASE"), Some("6.1.0-synthetic"));
    assert_eq!(target.info().release.as_deref(), Some("6.1.0-synthetic"));
}

#[test]
fn no_kernel_is_an_error_that_says_so() {
    let mut memory = Memory::new(4);
    memory.pages.retain(|&pfn, _| pfn < 2);
    let target = synth::open(&synth::elf(&memory, true, false), &OpenOptions::default()).unwrap();
    assert!(matches!(target.kernel_layout(), Err(Reason::NoKernel(_))));
    assert!(matches!(target.u64(Space::Kernel, TEXT).unwrap_err().reason, Reason::NoKernel(_)));
    assert!(target.u64(Space::Phys, 8).is_ok());
}

#[test]
fn every_space_leads_to_the_right_page() {
    for levels in [4, 5] {
        let memory = Memory::new(levels);
        for file in [synth::elf(&memory, true, true), synth::kdump(&memory, 1, &[])] {
            let target = synth::open(&file, &OpenOptions::default()).unwrap();
            let (direct, vmalloc) = (memory.upper(DIRECT_MAP), memory.upper(VMALLOC));
            let user = Space::User(USER_PGD);
            for (space, va, pa) in [
                (Space::Kernel, TEXT + 0x1ff8, 0x1ff8),
                (Space::Kernel, direct + 0x5008, 0x5008),
                (Space::Kernel, vmalloc + 16, 20 << 12 | 16),
                (Space::Kernel, vmalloc + 24, 20 << 12 | 24), // now from the TLB
                (user, USER + 8, 21 << 12 | 8),
                (user, vmalloc, 20 << 12),
                (Space::Phys, 0x3010, 0x3010),
            ] {
                assert_eq!(target.u64(space, va), Ok(memory.u64(pa)), "{space:?} {va:#x}");
                assert_eq!(target.translate(space, va).unwrap().pa, pa);
            }
            let flags = |space, va| target.translate(space, va).unwrap().flags.unwrap();
            assert_eq!(flags(Space::Kernel, TEXT), Flags { writable: true, exec: true, user: false });
            assert_eq!(flags(Space::Kernel, vmalloc), Flags { writable: true, exec: false, user: false });
            assert_eq!(flags(user, USER), Flags { writable: false, exec: false, user: true });
            assert_eq!(target.phys_to_direct(0x5008), Some(direct + 0x5008));
            assert_eq!(target.phys_to_direct(1 << 30), None);
        }
    }
}

#[test]
fn bad_addresses_fail_at_the_first_bad_byte() {
    let memory = Memory::new(4);
    let target = synth::open(&synth::elf(&memory, true, true), &OpenOptions::default()).unwrap();
    let mut buf = [0; 16];
    let mut fails = |va| target.read(Space::Kernel, va, &mut buf).map_err(|e| (e.addr, e.reason)).unwrap_err();
    assert_eq!(fails(VMALLOC + 4090), (VMALLOC + 4096, Reason::NotMapped));
    assert_eq!(fails(0xdead_0000_0000_0100), (0xdead_0000_0000_0100, Reason::NotCanonical));
    assert_eq!(fails(0), (0, Reason::NotMapped));
    assert_eq!(fails(u64::MAX - 3), (u64::MAX - 3, Reason::NotMapped));
    // Mapped, but the dump ends at page 24.
    assert_eq!(fails(TEXT + 24 * 4096 - 8), (TEXT + 24 * 4096, Reason::NotInDump));
    assert_eq!(fails(DIRECT_MAP + 24 * 4096 - 8), (DIRECT_MAP + 24 * 4096, Reason::NotInDump));
    assert_eq!(target.bytes(Space::Kernel, TEXT, usize::MAX / 2).unwrap_err().reason, Reason::TooLong);
    assert_eq!(target.bytes(Space::Kernel, TEXT, 0).unwrap().len(), 0);
}

#[test]
fn all_mappings_are_shown_merged_and_clipped() {
    let memory = Memory::new(4);
    let target = synth::open(&synth::elf(&memory, true, true), &OpenOptions::default()).unwrap();
    let list = |range| {
        let mut out = Vec::new();
        let outcome = target.each_mapping(Space::Kernel, range, &|| true, &mut |m| {
            out.push((m.va, m.pa, m.len));
            ControlFlow::Continue(())
        });
        (out, outcome.unwrap())
    };
    let (all, outcome) = list(0..=u64::MAX);
    assert_eq!(all, [(DIRECT_MAP, 0, 1 << 30), (VMALLOC, 20 << 12, 4096), (TEXT, 0, 4 << 20)]);
    assert_eq!((outcome.stopped, outcome.unreadable, outcome.repeated), (false, 0, 0));
    let (some, _) = list(DIRECT_MAP + 0x1000..=DIRECT_MAP + 0x2fff);
    assert_eq!(some, [(DIRECT_MAP + 0x1000, 0x1000, 0x2000)]);
    let first = std::cell::Cell::new(0);
    let stop = target.each_mapping(Space::Kernel, 0..=u64::MAX, &|| true, &mut |_| {
        first.set(first.get() + 1);
        ControlFlow::Break(())
    });
    assert_eq!((stop.unwrap().stopped, first.get()), (true, 1));
    let never = target.each_mapping(Space::Kernel, 0..=u64::MAX, &|| false, &mut |_| panic!());
    assert!(never.unwrap().stopped);
}

#[test]
fn page_tables_that_point_at_themselves_end() {
    let mut memory = Memory::new(4);
    for i in 0..512 {
        memory.entry(13, i, 13 << 12 | 0x63);
        memory.entry(14, i, if i % 2 == 0 { 15 << 12 | 0x63 } else { 14 << 12 | 0x63 });
        memory.pages.insert(15, memory.pages[&14].clone());
    }
    let target = synth::open(&synth::elf(&memory, true, true), &OpenOptions::default()).unwrap();
    for root in [13 << 12, 14 << 12] {
        let mut count = 0u64;
        let outcome = target
            .each_mapping(Space::User(root), 0..=u64::MAX, &|| true, &mut |_| {
                count += 1;
                ControlFlow::Continue(())
            })
            .unwrap();
        assert!(outcome.repeated > 0 && count < 5000, "{outcome:?} {count}");
    }
}

#[test]
fn the_direct_map_can_be_told() {
    let memory = Memory::new(4);
    let target = synth::open(&synth::elf(&memory, true, true), &OpenOptions::default()).unwrap();
    target.set_direct_map(0xffff_8880_0000_0000);
    assert_eq!(target.kernel_layout().unwrap().direct_map, Some(0xffff_8880_0000_0000));
    assert_eq!(target.u64(Space::Kernel, 0xffff_8880_0000_5008), Ok(memory.u64(0x5008)));
    assert_eq!(target.translate(Space::Kernel, 0xffff_8880_0000_5008).unwrap().flags, None);
}

#[test]
fn without_page_tables_the_image_is_still_linear() {
    let memory = Memory::new(4);
    let tables: Vec<u64> = (2..10).collect();
    let target = synth::open(&synth::kdump(&memory, 1, &tables), &OpenOptions::default()).unwrap();
    assert_eq!(target.u64(Space::Kernel, TEXT + (20 << 12)), Ok(memory.u64(20 << 12)));
    assert_eq!(target.u64(Space::Kernel, VMALLOC).unwrap_err().reason, Reason::PageTable(2 << 12));
    let mut buf = vec![1; 3 * PAGE];
    let holes = target.read_lossy(Space::Kernel, TEXT + PAGE as u64, &mut buf);
    assert_eq!(holes[0].range, TEXT + (2 << 12)..TEXT + (4 << 12));
    assert_eq!(holes[0].reason, Reason::Excluded);
    assert_eq!(buf[..PAGE], memory.pages[&1]);
}

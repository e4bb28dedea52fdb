//! Addresses in code, whose words and meaning are an assembler's and a disassembler's.
#![allow(clippy::unwrap_used)]

use super::{arm64, x86};

const AT: u64 = 0xffff_8000_1000_0000;

fn arm64_at(addr: u64, words: &[u32]) -> Vec<u64> {
    let code: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let mut out = Vec::new();
    arm64::references(&code, addr, &mut |at| out.push(at));
    out
}

/// Distances from where the code lies.
fn arm64_distances(words: &[u32]) -> Vec<u64> {
    arm64_at(AT, words).into_iter().map(|at| at.wrapping_sub(AT)).collect()
}

#[test]
fn slab_caches_by_way_of_what_the_compiler_counts_from() {
    // slab_start() of Linux 6.1: &slab_mutex is 0xffff8000098e2668, &slab_caches 0x30 behind it
    let code = [
        0x9000_afb3, // adrp x19, ffff8000098e2000
        0x9119_a273, // add x19, x19, #0x668
        0xaa13_03e0, // mov x0, x19
        0x9423_2815, // bl mutex_lock
        0xf940_0281, // ldr x1, [x20]
        0x9100_c260, // add x0, x19, #0x30
        0x9403_b20a, // bl seq_list_start
        0xa941_53f3, // ldp x19, x20, [sp, #16]
        0xf940_0660, // ldr x0, [x19, #8]
    ];
    assert_eq!(arm64_at(0xffff_8000_082e_e920, &code), [0xffff_8000_098e_2668, 0xffff_8000_098e_2698]);
}

#[test]
fn what_is_loaded_and_stored() {
    let code = [
        0xb000_0020, // adrp x0, +0x5000
        0x9132_0001, // add x1, x0, #0xc80
        0xf944_e002, // ldr x2, [x0, #2496]
        0xb900_1003, // str w3, [x0, #16]
        0x3940_1c03, // ldrb w3, [x0, #7]
        0x3dc0_0800, // ldr q0, [x0, #32]
        0x9100_c024, // add x4, x1, #0x30
        0xaa04_03e5, // mov x5, x4
        0xa941_1ca6, // ldp x6, x7, [x5, #16]
        0x293f_1ca6, // stp w6, w7, [x5, #-8]
        0xf840_8ca8, // ldr x8, [x5, #8]!
        0xf841_04a9, // ldr x9, [x5], #16
        0xf85f_c0a9, // ldur x9, [x5, #-4]
        0xd102_002a, // sub x10, x1, #0x80
        0x9140_042b, // add x11, x1, #0x1, lsl #12
        0x10ff_fe6c, // adr x12, 8
    ];
    let expected =
        [0x5c80, 0x59c0, 0x5010, 0x5007, 0x5020, 0x5cb0, 0x5cc0, 0x5ca8, 0x5cb8, 0x5cb8, 0x5cc4, 0x5c00, 0x6c80, 8];
    assert_eq!(arm64_distances(&code), expected);
}

#[test]
fn literals_hold_addresses() {
    let code = [
        0x5800_0080, // ldr x0, +16
        0xf940_0401, // ldr x1, [x0, #8]
        0x5800_4002, // ldr x2, +0x800: not in the function
        0xd65f_03c0, // ret
        0x0982_8c80,
        0xffff_8000,
    ];
    assert_eq!(arm64_at(AT, &code), [0xffff_8000_0982_8c80, 0xffff_8000_0982_8c88]);
}

#[test]
fn registers_are_forgotten_when_written() {
    // calls: x1 may be another behind it, x19 not
    assert_eq!(arm64_distances(&[0xb000_0021, 0x97ff_ffee, 0xf940_042f]), [0_u64; 0]);
    assert_eq!(arm64_distances(&[0xb000_0033, 0x97ff_ffee, 0xf940_066f]), [0x5008]);
    // mov x19, #3; mrs x0, sp_el0; ldr x20, [x20, #8], whose own access counts
    assert_eq!(arm64_distances(&[0xb000_0033, 0xd280_0073, 0xf940_066f]), [0_u64; 0]);
    assert_eq!(arm64_distances(&[0xb000_0020, 0xd538_4100, 0xf940_0401]), [0_u64; 0]);
    assert_eq!(arm64_distances(&[0xb000_0034, 0xf940_0694, 0xf940_0a81]), [0x5008]);
    // str and stp write no register: str x0, [x1]; ldr x2, [x0, #8]
    assert_eq!(arm64_distances(&[0xb000_0020, 0xf900_0020, 0xf940_0402]), [0x5008]);
}

#[test]
fn arrays_and_atomic_variables_start_at_the_base() {
    // ldr x0, [x20, w0, sxtw #3]; ldaxr x1, [x20]; stadd w0, [x20]
    assert_eq!(arm64_distances(&[0xb000_0034, 0xf860_da80, 0xc85f_fe81, 0xb820_029f]), [0x5000; 3]);
    // a page alone is nothing
    assert_eq!(arm64_distances(&[0xb000_0034, 0xd65f_03c0]), [0_u64; 0]);
}

#[test]
fn no_word_is_a_surprise() {
    let mut word = 1_u32;
    let words: Vec<u32> = std::iter::repeat_with(|| {
        word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        word
    })
    .take(100_000)
    .collect();
    assert!(!arm64_at(u64::MAX - 4096, &words).is_empty());
}

#[test]
fn x86_distances_and_halves() {
    let mut found = Vec::new();
    // mov rax, [rip+0x10] and cmp byte [rip+0x20], 1 and mov rdi, 0xffffffff82000000
    let code = [0x48, 0x8b, 5, 0x10, 0, 0, 0, 0x80, 0x3d, 0x20, 0, 0, 0, 1, 0x48, 0xc7, 0xc7, 0, 0, 0, 0x82];
    x86::references(&code, 0xffff_ffff_8100_0000, &mut |at| found.push(at));
    for at in [0xffff_ffff_8100_0017, 0xffff_ffff_8100_002e, 0xffff_ffff_8200_0000] {
        assert!(found.contains(&at), "{at:x}");
    }
}

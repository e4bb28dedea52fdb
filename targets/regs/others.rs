//! Names of the registers in NT_PRSTATUS on machines of which kmdb reads nothing else, in the order of their `pt_regs`
//! or `user_regs_struct` (arch/*/include/uapi/asm/ptrace.h). All are as wide as a `long`.

/// The names, or none where the order is not known.
pub(super) fn names(machine: &str) -> &'static [&'static str] {
    match machine {
        "i386" => &I386,
        "arm" => &ARM,
        "ppc64" | "ppc64le" | "ppc" => &PPC,
        "riscv64" | "riscv32" => &RISCV,
        "s390x" | "s390" => &S390,
        _ => &[],
    }
}

const I386: [&str; 17] = [
    "ebx", "ecx", "edx", "esi", "edi", "ebp", "eax", "ds", "es", "fs", "gs", "orig_eax", "eip", "cs", "eflags", "esp",
    "ss",
];
const ARM: [&str; 18] = [
    "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "fp", "ip", "sp", "lr", "pc", "cpsr", "orig_r0",
];
const PPC: [&str; 44] = [
    "r0",
    "r1",
    "r2",
    "r3",
    "r4",
    "r5",
    "r6",
    "r7",
    "r8",
    "r9",
    "r10",
    "r11",
    "r12",
    "r13",
    "r14",
    "r15",
    "r16",
    "r17",
    "r18",
    "r19",
    "r20",
    "r21",
    "r22",
    "r23",
    "r24",
    "r25",
    "r26",
    "r27",
    "r28",
    "r29",
    "r30",
    "r31",
    "nip",
    "msr",
    "orig_gpr3",
    "ctr",
    "lr",
    "xer",
    "ccr",
    "softe",
    "trap",
    "dar",
    "dsisr",
    "result",
];
const RISCV: [&str; 32] = [
    "pc", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1", "a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7", "s2",
    "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4", "t5", "t6",
];
/// Behind these stand access registers of another width.
const S390: [&str; 18] = [
    "psw_mask", "psw_addr", "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15",
];

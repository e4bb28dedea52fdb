//! Registers as perf orders them, and as the kernel's `struct pt_regs` does, for which programs and conditions are made.

#[cfg(target_arch = "x86_64")]
mod arch {
    /// Those of `enum perf_event_x86_regs` that every sample can hold: all but DS, ES, FS and GS.
    pub const MASK: u64 = 0xff_0fff;
    /// Which of them stands at each place of `struct pt_regs`; what the system call's number was is not among them.
    pub const ORDER: &[Option<usize>] = &[
        Some(19),
        Some(18),
        Some(17),
        Some(16),
        Some(6),
        Some(1),
        Some(15),
        Some(14),
        Some(13),
        Some(12),
        Some(0),
        Some(2),
        Some(3),
        Some(4),
        Some(5),
        None,
        Some(8),
        Some(10),
        Some(9),
        Some(7),
        Some(11),
    ];
    /// Places of a system call's arguments there: di, si, dx, r10, r8, r9.
    pub const ARGUMENTS: &[&[usize]] = &[&[14], &[13], &[12], &[7], &[9], &[8]];
}

#[cfg(not(target_arch = "x86_64"))]
mod arch {
    /// All of `enum perf_event_arm_regs`: x0 to x30, sp, pc.
    pub const MASK: u64 = (1 << 33) - 1;
    /// Which of them stands at each place of `struct pt_regs`: the order is the same.
    pub const ORDER: &[Option<usize>] = &{
        let mut all = [None; 33];
        let mut i = 0;
        while i < all.len() {
            all[i] = Some(i);
            i += 1;
        }
        all
    };
    /// Places of a system call's arguments there. The first is kept a second time (`orig_x0`), for the result replaces it.
    pub const ARGUMENTS: &[&[usize]] = &[&[0, 34], &[1], &[2], &[3], &[4], &[5]];
}

pub use arch::MASK;

/// What dynamic events of tracefs call the register at a place of `struct pt_regs` (`regs_query_register_offset`).
pub fn event_name(offset: u16) -> Option<String> {
    #[cfg(target_arch = "x86_64")]
    {
        const NAMES: [&str; 15] =
            ["r15", "r14", "r13", "r12", "bp", "bx", "r11", "r10", "r9", "r8", "ax", "cx", "dx", "si", "di"];
        match offset {
            152 => Some("sp".to_owned()),
            _ => NAMES.get(usize::from(offset / 8)).map(|name| (*name).to_owned()),
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    match offset / 8 {
        31 => Some("sp".to_owned()),
        number @ 0..31 => Some(format!("x{number}")),
        _ => None,
    }
}

/// From the words of a sample to the bytes of `struct pt_regs`.
pub fn as_pt_regs(words: &[u64]) -> Vec<u8> {
    let word = |place: &Option<usize>| place.and_then(|i| words.get(i)).copied().unwrap_or(0);
    arch::ORDER.iter().flat_map(|place| word(place).to_ne_bytes()).collect()
}

/// The bytes of the `struct pt_regs` that a system call with these arguments came in with; the rest is zero.
pub fn of_syscall(arguments: &[[u8; 8]]) -> Vec<u8> {
    let mut regs = [[0u8; 8]; 36];
    for (places, argument) in arch::ARGUMENTS.iter().zip(arguments) {
        for place in *places {
            if let Some(word) = regs.get_mut(*place) {
                *word = *argument;
            }
        }
    }
    regs.concat()
}

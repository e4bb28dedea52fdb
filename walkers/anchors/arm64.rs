//! Addresses in arm64 code: an instruction has room for a page (`adrp`), the next ones for the place in it.
//!
//! ```text
//! adrp x19, ffff8000098e2000
//! add  x19, x19, #0x668          one address: what the compiler counts from (-fsection-anchors)
//! add  x0, x19, #0x30            another: slab_caches
//! ```
//!
//! So the registers that hold an address made of constants are followed from the function's start to its end, as if no
//! branch were taken; every address that is made, or that is loaded from or stored to, is one the function refers to.
//! A register that another instruction writes is forgotten, and so is what a call may change (AAPCS64: x0 to x18). The
//! encodings are those of the Arm Architecture Reference Manual, C4.1.

/// Every address that the code, which lies at `addr`, makes or uses.
pub fn references(code: &[u8], addr: u64, visit: &mut dyn FnMut(u64)) {
    let mut registers = Registers([None; 31]);
    for (index, word) in code.as_chunks::<4>().0.iter().enumerate() {
        let here = addr.wrapping_add(index as u64 * 4);
        let word = u32::from_le_bytes(*word);
        match word >> 25 & 0xf {
            0b1000 | 0b1001 => immediate(word, here, &mut registers, visit),
            0b1010 | 0b1011 => branch(word, &mut registers),
            0b0101 | 0b1101 => register(word, &mut registers),
            kind if kind & 0b0101 == 0b0100 => memory(word, here, (code, addr), &mut registers, visit),
            _ => {}
        }
    }
}

/// What is known of x0 to x30.
struct Registers([Option<u64>; 31]);

impl Registers {
    fn get(&self, number: u32) -> Option<u64> {
        *self.0.get(number as usize)?
    }

    /// 31 is the stack pointer or nothing: neither is followed.
    fn set(&mut self, number: u32, value: Option<u64>) {
        if let Some(register) = self.0.get_mut(number as usize) {
            *register = value;
        }
    }
}

/// The five bits of a register's number that start at this bit.
fn field(word: u32, bit: u32) -> u32 {
    word >> bit & 0x1f
}

/// The signed number in these bits.
fn signed(word: u32, lowest: u32, bits: u32) -> i64 {
    i64::from((word << (32 - lowest - bits)) as i32 >> (32 - bits))
}

/// Data processing with an immediate: `adr`, `adrp`, `add` and `sub` of 64 bits.
fn immediate(word: u32, here: u64, registers: &mut Registers, visit: &mut dyn FnMut(u64)) {
    let distance = signed(word, 5, 19) << 2 | i64::from(word >> 29 & 3);
    let number = u64::from(word >> 10 & 0xfff) << if word & 1 << 22 != 0 { 12 } else { 0 };
    let base = registers.get(field(word, 5));
    let value = match (word & 0x9f00_0000, word & 0xff80_0000) {
        (0x1000_0000, _) => Some(here.wrapping_add_signed(distance)),
        (0x9000_0000, _) => {
            // a page alone is no address of anything
            registers.set(field(word, 0), Some((here & !0xfff).wrapping_add_signed(distance << 12)));
            return;
        }
        (_, 0x9100_0000) => base.map(|base| base.wrapping_add(number)),
        (_, 0xd100_0000) => base.map(|base| base.wrapping_sub(number)),
        _ => None,
    };
    registers.set(field(word, 0), value);
    value.into_iter().for_each(visit);
}

/// Branches and system instructions: a call leaves the caller only x19 and above, `mrs` writes a register.
fn branch(word: u32, registers: &mut Registers) {
    if word & 0xfc00_0000 == 0x9400_0000 || word & 0xfffe_0000 == 0xd63e_0000 {
        registers.0[..19].fill(None);
    } else if word & 0xfff0_0000 == 0xd530_0000 {
        registers.set(field(word, 0), None);
    }
}

/// Data processing with registers, of which `mov` (`orr` with nothing) keeps what is known.
fn register(word: u32, registers: &mut Registers) {
    let moved = (word & 0xffe0_ffe0 == 0xaa00_03e0).then(|| registers.get(field(word, 16))).flatten();
    registers.set(field(word, 0), moved);
}

/// Loads and stores, at what their base register holds and a number that they have.
fn memory(word: u32, here: u64, (code, start): (&[u8], u64), registers: &mut Registers, visit: &mut dyn FnMut(u64)) {
    let vector = word & 1 << 26 != 0;
    let (target, base) = (field(word, 0), field(word, 5));
    let load = |registers: &mut Registers, value| {
        if !vector {
            registers.set(target, value);
        }
    };
    if word & 0x3b00_0000 == 0x1800_0000 {
        // of the literal's place, for what it holds is the address
        let place = here.wrapping_add_signed(signed(word, 5, 19) << 2);
        let held = usize::try_from(place.wrapping_sub(start)).ok().and_then(|at| code.get(at..)?.first_chunk::<8>());
        let value = held.filter(|_| word >> 30 == 1 && !vector).map(|eight| u64::from_le_bytes(*eight));
        load(registers, value);
        value.into_iter().for_each(visit);
        return;
    }
    let pair = word & 0x3a00_0000 == 0x2800_0000;
    // how the address is made: the number, whether the access is there, whether the base register is left there
    let (number, at_number, writes_back) = if pair {
        let scale = if vector { 2 + (word >> 30) } else { 2 + (word >> 31) };
        (signed(word, 15, 7) << scale, word >> 23 & 3 != 1, word & 1 << 23 != 0 && word >> 23 & 3 != 2)
    } else if word & 0x3b00_0000 == 0x3900_0000 {
        let scale = if vector { word >> 21 & 4 | word >> 30 } else { word >> 30 };
        (i64::from(word >> 10 & 0xfff) << scale, true, false)
    } else if word & 0x3b20_0000 == 0x3800_0000 {
        let mode = word >> 10 & 3;
        (signed(word, 12, 9), mode != 1, mode & 1 == 1)
    } else {
        // exclusive, atomic, or with a register as the distance: the base is the variable, or where its array starts
        (0, true, false)
    };
    let known = registers.get(base);
    let moved = known.map(|base| base.wrapping_add_signed(number));
    if at_number { moved } else { known }.into_iter().for_each(visit);
    let plain = matches!(word & 0x3b00_0000, 0x3800_0000 | 0x3900_0000);
    let atomic = word & 0x3b20_0c00 == 0x3820_0000;
    let loads = match (pair, plain && !atomic) {
        (true, _) => word & 1 << 22 != 0,
        (_, true) => word >> 22 & 3 != 0,
        // what is not told apart is taken for a load
        _ => true,
    };
    if loads {
        load(registers, None);
        if pair && !vector {
            registers.set(field(word, 10), None);
        }
    }
    if writes_back {
        registers.set(base, moved);
    }
}

//! Where x86-64 code may hold an address: anywhere, for instructions have no alignment and are not decoded.

/// Every number that stands anywhere in the code, taken for an address: for the lower half of one, extended by its
/// sign, and for a distance from the end of the instruction, behind which up to four bytes of another operand may stand.
pub fn references(code: &[u8], addr: u64, visit: &mut dyn FnMut(u64)) {
    for (at, four) in code.windows(4).enumerate() {
        let number = i64::from(i32::from_le_bytes([four[0], four[1], four[2], four[3]]));
        let behind = addr.wrapping_add(at as u64 + 4);
        for operand in [0, 1, 4] {
            visit(behind.wrapping_add(operand).wrapping_add_signed(number));
        }
        visit(number as u64);
    }
}

//! What the kernel's half of the address space is divided into, where nothing better is known of an address
//! (Documentation/arch/x86/x86_64/mm.rst), and the pages at compile-time addresses, the fixmap.

use engine::{Tag, Type, prelude::*, targets::Arch};
use std::ops::RangeInclusive;

/// A stretch of addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// its addresses
    pub range: RangeInclusive<u64>,
    /// what it is for
    pub name: &'static str,
}

/// On x86-64, with four levels of page tables as with five.
const X86: &[(u64, u64, &str)] = &[
    (0xffff_fe00_0000_0000, 0xffff_fe7f_ffff_ffff, "the CPUs' entry areas"),
    (0xffff_ff00_0000_0000, 0xffff_ff7f_ffff_ffff, "the stacks of ESPFIX"),
    (0xffff_ffef_0000_0000, 0xffff_fffe_ffff_ffff, "EFI's runtime services"),
    (0xffff_ffff_ff60_0000, 0xffff_ffff_ff60_0fff, "the vsyscall page"),
];
/// `FIXADDR_TOP` (arch/x86/include/asm/fixmap.h).
const FIXADDR_TOP: u64 = 0xffff_ffff_ff7f_f000;

/// The stretch that an address lies in.
pub fn at(session: &Session, addr: u64) -> Option<Region> {
    if session.target.arch() != Arch::X86_64 {
        return None;
    }
    let (start, end, name) = X86.iter().find(|(start, end, _)| (*start..=*end).contains(&addr))?;
    Some(Region { range: *start..=*end, name })
}

/// The name of the fixmap's page at an address: `FIX_…`, an enumerator of `enum fixed_addresses`, which count pages down
/// from the top.
pub fn fixmap(session: &Session, addr: u64) -> Option<String> {
    let page = session.target.page_size();
    if session.target.arch() != Arch::X86_64 || !(1..=FIXADDR_TOP + page - 1).contains(&addr) {
        return None;
    }
    let index = i64::try_from((FIXADDR_TOP / page).checked_sub(addr / page)?).ok()?;
    let shape = session.types.find_own(Tag::Enum, "fixed_addresses").into_iter().find_map(|id| session.shape(id))?;
    let Type::Enum { values, .. } = &*shape else { return None };
    let last = values.iter().find(|value| &*value.name == "__end_of_fixed_addresses")?.value;
    // of a range of pages the first has a name
    let found = values.iter().filter(|value| value.value <= index && index < last && value.value >= 0);
    let found = found.filter(|value| !value.name.starts_with("__end")).max_by_key(|value| value.value)?;
    Some(found.name.to_string())
}

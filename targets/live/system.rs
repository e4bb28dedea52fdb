//! What the running kernel says about itself in `/proc` and `/sys`.

use std::fs;
use std::ops::Range;

/// `/proc/iomem`: which physical addresses are what. Without CAP_SYS_ADMIN all addresses in it read as zero.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Iomem {
    /// `System RAM`
    pub ram: Vec<Range<u64>>,
    /// `Kernel code`: starts where `_text` is
    pub code: Option<u64>,
}

impl Iomem {
    pub fn read() -> Iomem {
        fs::read_to_string("/proc/iomem").map(|text| Iomem::parse(&text)).unwrap_or_default()
    }

    fn parse(text: &str) -> Iomem {
        let mut out = Iomem::default();
        for line in text.lines() {
            let Some((range, what)) = line.split_once(" : ") else { continue };
            let Some((first, last)) = range.trim().split_once('-') else { continue };
            let (Ok(first), Ok(last)) = (u64::from_str_radix(first, 16), u64::from_str_radix(last, 16)) else {
                continue;
            };
            // hidden from us
            if first == last {
                continue;
            }
            match what {
                // `System RAM (boot alias)` and the like are the same memory again
                "System RAM" => out.ram.push(first..last.saturating_add(1)),
                "Kernel code" => out.code = Some(first),
                _ => {}
            }
        }
        out
    }
}

/// RAM as the firmware told of it (`/sys/firmware/memmap`), which anybody may see; not there on arm64.
pub fn firmware_ram() -> Vec<Range<u64>> {
    let entries = fs::read_dir("/sys/firmware/memmap").into_iter().flatten().flatten();
    let range = |entry: fs::DirEntry| {
        let text = |name| fs::read_to_string(entry.path().join(name)).ok();
        let number = |name| hex(text(name)?.trim());
        let is_ram = text("type")?.trim() == "System RAM";
        is_ram.then(|| Some(number("start")?..number("end")?.checked_add(1)?)).flatten()
    };
    entries.filter_map(range).collect()
}

/// Where the kernel's VMCOREINFO note is: physical address and bytes (`/sys/kernel/vmcoreinfo`).
pub fn vmcoreinfo() -> Option<(u64, usize)> {
    let text = fs::read_to_string("/sys/kernel/vmcoreinfo").ok()?;
    let (addr, len) = text.trim().split_once(' ')?;
    Some((hex(addr)?, usize::try_from(hex(len)?).ok()?))
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).ok()
}

/// The address of `_text` by `/proc/kallsyms`, if we may see it. It is among the first lines.
pub fn text_start() -> Option<u64> {
    use std::io::{BufRead, BufReader};
    let file = BufReader::new(fs::File::open("/proc/kallsyms").ok()?);
    let found = file.lines().map_while(Result::ok).find_map(|line| {
        let (addr, name) = line.split_once(' ')?;
        (name.get(2..) == Some("_text")).then(|| hex(addr)).flatten()
    });
    found.filter(|addr| *addr != 0)
}

/// A number for which modules are loaded, and where. (Not for how often they are used, which `/proc/modules` has too.)
pub(crate) fn modules() -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let text = fs::read_to_string("/proc/modules").unwrap_or_default();
    let mut hash = DefaultHasher::new();
    for line in text.lines() {
        // name, size, uses, users, state, address
        let fields: Vec<&str> = line.split(' ').collect();
        (fields.first(), fields.get(1), fields.get(5)).hash(&mut hash);
    }
    hash.finish()
}

/// The machine's number in ELF headers.
pub fn machine() -> u16 {
    match std::env::consts::ARCH {
        "x86_64" => 62,
        "aarch64" => 183,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iomem_as_the_kernel_prints_it() {
        let text = "00000000-00000fff : Reserved\n00001000-0009fbff : System RAM\n00100000-bfffffff : System RAM\n  \
                    01000000-022090c7 : Kernel code\n  02400000-02e08fff : Kernel rodata\n100000000-63fffffff : System RAM\n";
        let found = Iomem::parse(text);
        assert_eq!(found.ram, [0x1000..0x9fc00, 0x10_0000..0xc000_0000, 0x1_0000_0000..0x6_4000_0000]);
        assert_eq!(found.code, Some(0x100_0000));
        assert_eq!(Iomem::parse("00000000-00000000 : System RAM\n"), Iomem::default());
    }
}

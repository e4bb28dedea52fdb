#![allow(clippy::unwrap_used)]
use std::collections::BTreeMap;

use super::*;

const BASE: u64 = 0xffff_ffff_8100_0000;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Layout {
    /// addresses, base, count, names, markers, tokens
    Old,
    /// count, names, markers, tokens, addresses, base: since 6.4
    New,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Code {
    PerCpu,
    Relative,
    PcRelative,
    Absolute,
}

/// A kernel image with nothing in it but kallsyms.
struct Image {
    bytes: Vec<u8>,
    at: Addresses,
    missing: Range<u64>,
}

impl Reader for Image {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), String> {
        let end = addr.checked_add(buf.len() as u64).ok_or("wraps")?;
        if self.missing.start < end && addr < self.missing.end {
            return Err("not in the dump".to_owned());
        }
        let from = addr.checked_sub(BASE).ok_or("below")? as usize;
        buf.copy_from_slice(self.bytes.get(from..from + buf.len()).ok_or("above")?);
        Ok(())
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 as usize
    }
}

/// (address, letter, name) in address order, with aliases, equal names and a name of 300 characters.
fn symbols(code: Code) -> Vec<(u64, char, String)> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut out = Vec::new();
    if code == Code::PerCpu {
        out.push((0, 'A', "__per_cpu_start".to_owned()));
        out.extend((0..40).map(|i| (i * 64, 'A', format!("cpu_thing_{i}"))));
        out.push((0x3000, 'A', "__per_cpu_end".to_owned()));
    }
    let mut addr = BASE;
    out.push((addr, 'T', "_stext".to_owned()));
    for i in 0..3000 {
        if !random.next().is_multiple_of(8) {
            addr += (random.next() % 4096) as u64 + 1;
        }
        let name = match random.next() % 6 {
            0 => format!("task_{}", random.next() % 5000),
            1 => format!("__key.{}", i % 7),
            2 => format!("sys_call_{i}"),
            3 => format!("do_{:x}", random.next() % 0x10000),
            4 => format!("kmem_cache_{i}.constprop.0"),
            _ => format!("Rust_{}", random.next() % 100_000),
        };
        let name = if i == 1500 { "long_name_".repeat(30) } else { name };
        out.push((addr, ['t', 'T', 'd', 'D', 'r', 'b'][random.next() % 6], name));
    }
    if code == Code::PcRelative {
        out.push((addr + 64, 'T', "_sdata".to_owned()));
        out.push((addr + 128, 'T', "init_task".to_owned()));
        out.push((addr + 192, 'D', "_edata".to_owned()));
        out.push((addr + 4096, 'D', "__per_cpu_start".to_owned()));
        out.push((addr + 4096, 'D', "runqueues".to_owned()));
        out.push((addr + 8192, 'D', "__per_cpu_end".to_owned()));
    }
    out.push((addr + 10_000, 'B', "_end".to_owned()));
    out.push((addr + 20_000, 'N', "__init_scratch_end".to_owned()));
    out
}

fn image(layout: Layout, code: Code, ordered: bool) -> (Image, Vec<(u64, char, String)>) {
    let symbols = symbols(code);
    let parts = ["task_", "sys_call_", "kmem_cache_", "cpu_", "long_", "name_", ".constprop.", "Rust_", "Tdo_", "__"];
    let token = |n: usize| match n {
        0x21..=0x7e => char::from(n as u8).to_string(),
        0x80..=0xff => parts.get(n - 0x80).map_or_else(|| format!("q{n}"), |p| (*p).to_owned()),
        _ => format!("z{n}"),
    };
    let tokens: Vec<String> = (0..256).map(token).collect();
    let encode = |text: &str| {
        let mut rest = text;
        let mut out = Vec::new();
        while !rest.is_empty() {
            let best = (0..256).filter(|&n| rest.starts_with(&tokens[n])).max_by_key(|&n| tokens[n].len()).unwrap();
            out.push(best as u8);
            rest = &rest[tokens[best].len()..];
        }
        out
    };
    let (mut names, mut markers) = (Vec::new(), Vec::new());
    for (i, (_, letter, name)) in symbols.iter().enumerate() {
        if i % 256 == 0 {
            markers.push(names.len() as u32);
        }
        let code = encode(&format!("{letter}{name}"));
        match code.len() {
            len @ ..0x80 => names.push(len as u8),
            len => names.extend([len as u8 & 0x7f | 0x80, (len >> 7) as u8]),
        }
        names.extend(code);
    }
    let mut by_name: Vec<usize> = (0..symbols.len()).collect();
    by_name.sort_by_key(|&i| (symbols[i].2.as_bytes(), i));

    let mut bytes: Vec<u8> = (0..5000u32).map(|i| ((i * 7919) >> 3) as u8).collect();
    let mut at = Addresses::default();
    let put = |bytes: &mut Vec<u8>, data: &[u8]| {
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes.extend_from_slice(data);
        Some(BASE + (bytes.len() - data.len()) as u64)
    };
    let base = BASE;
    let put_values = |bytes: &mut Vec<u8>, at: &mut Addresses| {
        let table = BASE + bytes.len().next_multiple_of(8) as u64;
        let value = |(i, (addr, ..)): (usize, &(u64, char, String))| match code {
            Code::Absolute => addr.to_le_bytes().to_vec(),
            Code::PerCpu if *addr >> 63 == 0 => (*addr as u32).to_le_bytes().to_vec(),
            Code::PerCpu => ((base - 1).wrapping_sub(*addr) as u32).to_le_bytes().to_vec(),
            Code::Relative => ((addr - base) as u32).to_le_bytes().to_vec(),
            Code::PcRelative => (addr.wrapping_sub(table + 4 * i as u64) as u32).to_le_bytes().to_vec(),
        };
        let data: Vec<u8> = symbols.iter().enumerate().flat_map(value).collect();
        let place = put(bytes, &data);
        match code {
            Code::Absolute => at.addresses = place,
            _ => at.offsets = place,
        }
        if matches!(code, Code::PerCpu | Code::Relative) {
            at.relative_base = put(bytes, &base.to_le_bytes());
        }
    };
    let order: Vec<u8> = by_name.iter().flat_map(|&i| (i as u32).to_be_bytes()[1..].to_vec()).collect();
    if layout == Layout::Old {
        put_values(&mut bytes, &mut at);
    }
    at.num_syms = put(&mut bytes, &(symbols.len() as u32).to_le_bytes());
    at.names = put(&mut bytes, &names);
    put(&mut bytes, &markers.iter().flat_map(|m| m.to_le_bytes()).collect::<Vec<_>>());
    if layout == Layout::Old && ordered {
        put(&mut bytes, &order);
    }
    at.token_table = put(&mut bytes, &tokens.iter().flat_map(|t| [t.as_bytes(), &[0]].concat()).collect::<Vec<_>>());
    let starts = tokens.iter().scan(0u16, |at, t| Some(std::mem::replace(at, *at + t.len() as u16 + 1)));
    at.token_index = put(&mut bytes, &starts.flat_map(u16::to_le_bytes).collect::<Vec<_>>());
    if layout == Layout::New {
        put_values(&mut bytes, &mut at);
        if ordered {
            put(&mut bytes, &order);
        }
    }
    bytes.extend([0xcc; 9000]);
    (Image { bytes, at, missing: 0..0 }, symbols)
}

fn all(kallsyms: &Kallsyms) -> Vec<Symbol> {
    let mut out = Vec::new();
    kallsyms.each(&mut |s| {
        out.push(s);
        true
    });
    out
}

/// What the kernel says: by address, the first name; and by name, all addresses.
fn check(kallsyms: &Kallsyms, truth: &[(u64, char, String)]) {
    let found: Vec<_> = all(kallsyms).into_iter().map(|s| (s.addr, s.letter, s.name)).collect();
    assert_eq!(found.iter().zip(truth).find(|(a, b)| a != b), None);
    assert_eq!(found.len(), truth.len());
    assert_eq!((kallsyms.len(), kallsyms.lost()), (truth.len(), 0));
    let mut names: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for (addr, _, name) in truth {
        names.entry(name).or_default().push(*addr);
    }
    for (name, addrs) in &names {
        assert_eq!(kallsyms.by_name(name).iter().map(|s| s.addr).collect::<Vec<_>>(), *addrs, "{name}");
    }
    for missing in ["", "nope", "task_", "zzzz", "_"] {
        assert!(kallsyms.by_name(missing).is_empty());
    }
    let prefixed: Vec<_> = names.keys().filter(|n| n.starts_with("task_1")).collect();
    assert_eq!(kallsyms.by_prefix("task_1", usize::MAX).iter().collect::<Vec<_>>(), prefixed);
    assert_eq!(kallsyms.by_prefix("", 3).len(), 3);
    let mut first: BTreeMap<u64, &str> = BTreeMap::new();
    for (addr, _, name) in truth.iter().filter(|t| t.0 >= KERNEL_HALF) {
        first.entry(*addr).or_insert(name);
    }
    let end = *kallsyms.by_name("_end").first().map(|s| &s.addr).unwrap();
    for (addr, name) in &first {
        let symbol = kallsyms.by_addr(*addr).unwrap();
        assert_eq!((symbol.addr, &*symbol.name), (*addr, *name));
        let next = first.range(addr + 1..).next().map_or(0, |(next, _)| next - addr);
        assert_eq!(symbol.size, next);
        if next > 1 && addr + 1 < end {
            assert_eq!(kallsyms.by_addr(addr + next - 1).unwrap().addr, *addr);
        }
    }
    for outside in [0, 64, BASE - 1, end + 1, u64::MAX] {
        assert_eq!(kallsyms.by_addr(outside), None, "{outside:x}");
    }
}

#[test]
fn every_layout_and_encoding() {
    use Code::{Absolute, PcRelative, PerCpu, Relative};
    for layout in [Layout::Old, Layout::New] {
        for code in [PerCpu, Relative, PcRelative, Absolute] {
            for ordered in [false, true] {
                let (image, truth) = image(layout, code, ordered);
                let kallsyms = Kallsyms::open(&image.at, &image).unwrap();
                assert_eq!(matches!(kallsyms.order, Order::Table(_)), ordered, "{layout:?} {code:?}");
                check(&kallsyms, &truth);
                let range = BASE..BASE + image.bytes.len() as u64;
                // up to 6.3 the addresses came first, since then they come last: nobody writes them otherwise
                let exists = matches!(
                    (layout, code),
                    (Layout::Old, PerCpu | Relative | Absolute) | (Layout::New, PerCpu | Relative | PcRelative)
                );
                if exists {
                    let scanned = Addresses::scan(&image, range).unwrap();
                    assert_eq!(scanned, image.at, "{layout:?} {code:?} {ordered}");
                }
            }
        }
    }
}

#[test]
fn kinds() {
    let (image, _) = image(Layout::Old, Code::PerCpu, true);
    let kallsyms = Kallsyms::open(&image.at, &image).unwrap();
    let one = |name| kallsyms.by_name(name).remove(0);
    assert_eq!(
        (one("cpu_thing_3").kind, one("cpu_thing_3").addr, one("cpu_thing_3").size),
        (SymbolKind::PerCpu, 192, 64)
    );
    assert_eq!((one("__per_cpu_end").size, kallsyms.per_cpu()), (0, 0..0x3000));
    assert_eq!(one("_stext").kind, SymbolKind::Text);
    assert_eq!(one("_end").kind, SymbolKind::Data);
    let (image, _) = self::image(Layout::New, Code::PcRelative, true);
    let kallsyms = Kallsyms::open(&image.at, &image).unwrap();
    let one = |name| kallsyms.by_name(name).remove(0);
    assert_eq!(one("runqueues").kind, SymbolKind::PerCpu);
    assert_eq!((one("init_task").kind, one("init_task").letter), (SymbolKind::Data, 'T'));
    assert_eq!(one("_stext").kind, SymbolKind::Text);
    assert_eq!(one("__per_cpu_end").kind, SymbolKind::Data);
    assert!(kallsyms.by_addr(one("runqueues").addr + 8).is_some(), "a link address is an address");
}

/// Opens the image without one page and checks that what is found is true. Returns how much is lost.
fn without(image: &Image, truth: &[(u64, char, String)], at: u64) -> usize {
    let page = at & !4095;
    let image = Image { bytes: image.bytes.clone(), at: image.at, missing: page..page + 4096 };
    let kallsyms = Kallsyms::open(&image.at, &image).unwrap();
    let found = all(&kallsyms);
    assert_eq!(found.len() + kallsyms.lost(), truth.len());
    assert_eq!(kallsyms.len(), found.len());
    for symbol in &found {
        assert!(truth.contains(&(symbol.addr, symbol.letter, symbol.name.clone())));
        assert!(kallsyms.by_name(&symbol.name).contains(symbol), "{symbol:?}");
    }
    for (addr, _, _) in truth.iter().filter(|t| t.0 >= KERNEL_HALF) {
        for probe in [*addr, addr + 1] {
            if let Some(symbol) = kallsyms.by_addr(probe) {
                let right = truth.iter().rev().find(|t| t.0 <= probe).unwrap().0;
                assert_eq!(symbol.addr, right, "a wrong symbol is worse than none");
            }
        }
    }
    kallsyms.lost()
}

#[test]
fn holes_lose_what_lies_in_them() {
    for layout in [Layout::Old, Layout::New] {
        let (image, truth) = image(layout, Code::PerCpu, true);
        let names = without(&image, &truth, image.at.names.unwrap() + 12_000);
        assert!((100..700).contains(&names), "{names} of {}", truth.len());
        let first = without(&image, &truth, image.at.names.unwrap() + 4096);
        assert!((100..700).contains(&first), "{first}");
        let values = without(&image, &truth, image.at.offsets.unwrap() + 5_000);
        assert!((1..=1024).contains(&values), "{values}");
    }
    // the by-name order, and the markers with a bit of the names
    let (image, truth) = image(Layout::New, Code::PcRelative, true);
    assert_eq!(without(&image, &truth, image.at.offsets.unwrap() + 4 * truth.len() as u64 + 4096), 0);
    let lost = without(&image, &truth, image.at.token_table.unwrap() - 4096);
    assert!(lost < 700, "{lost}");
    let gone = |at: Option<u64>| {
        let page = at.unwrap() & !4095;
        let image = Image { bytes: image.bytes.clone(), at: image.at, missing: page..page + 8192 };
        Kallsyms::open(&image.at, &image).is_err()
    };
    assert!(gone(image.at.token_index) && gone(image.at.num_syms));
    assert!(Kallsyms::open(&Addresses::default(), &image).is_err());
}

#[test]
fn damage_does_no_harm() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    for (layout, code) in [(Layout::Old, Code::PerCpu), (Layout::New, Code::PcRelative), (Layout::Old, Code::Absolute)]
    {
        let (whole, _) = image(layout, code, true);
        let range = BASE..BASE + whole.bytes.len() as u64;
        let tables = [whole.at.num_syms, whole.at.token_table, whole.at.token_index, whole.at.names];
        for round in 0..60 {
            let mut image = Image { bytes: whole.bytes.clone(), at: whole.at, missing: 0..0 };
            for _ in 0..1 + random.next() % 40 {
                let at = match round % 3 {
                    0 => 5000 + random.next() % (image.bytes.len() - 5000),
                    _ => (tables[random.next() % 4].unwrap() - BASE) as usize + random.next() % 512,
                };
                image.bytes[at] = random.next() as u8;
            }
            let _ = Addresses::scan(&image, range.clone());
            let Ok(kallsyms) = Kallsyms::open(&image.at, &image) else { continue };
            let found = all(&kallsyms);
            assert!(found.len() <= kallsyms.len());
            for symbol in found.iter().step_by(17) {
                kallsyms.by_name(&symbol.name);
                kallsyms.by_addr(symbol.addr);
            }
            kallsyms.by_prefix("t", 10);
            kallsyms.each_name(&mut |_| true);
        }
    }
}

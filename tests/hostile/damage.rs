//! Damage to the memory in a dump, aimed at what kmdb walks: pages lost or overwritten as a disk or a wild write leaves
//! them, and structures whose words are exchanged for others that look as good.

use std::{collections::BTreeMap, ops::Range};

pub const PAGE: usize = 4096;

/// A source of numbers that a seed repeats (xorshift64).
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Chance {
        let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        (0..4).for_each(|_| _ = chance.word());
        chance
    }

    pub fn word(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.word() % n.max(1) as u64) as usize
    }

    fn of<T: Copy>(&mut self, among: &[T]) -> T {
        among[self.below(among.len())]
    }
}

/// An ELF core whose segments hold whole pages.
#[derive(Clone)]
pub struct Dump {
    pub bytes: Vec<u8>,
    /// physical address, offset in the file, bytes
    loads: Vec<(u64, usize, usize)>,
}

/// Where a structure lies.
#[derive(Clone, Copy)]
pub struct Place {
    /// the kernel's address of it
    pub addr: u64,
    /// in the file
    pub at: usize,
}

/// The structures of each kind, and how many bytes of each are worth spoiling.
pub type Places = BTreeMap<String, (Vec<Place>, usize)>;

/// A number; 0 behind the end of the file.
fn number(bytes: &[u8], at: usize, size: usize) -> u64 {
    bytes.get(at..at + size).unwrap_or_default().iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte))
}

impl Dump {
    pub fn new(bytes: Vec<u8>) -> Dump {
        let headers = number(&bytes, 32, 8) as usize;
        let loads = (0..number(&bytes, 56, 2) as usize)
            .map(|i| headers + i * 56)
            .filter(|at| number(&bytes, *at, 4) == 1)
            .map(|at| {
                (number(&bytes, at + 24, 8), number(&bytes, at + 8, 8) as usize, number(&bytes, at + 32, 8) as usize)
            })
            .filter(|load| load.2 >= PAGE)
            .collect();
        Dump { bytes, loads }
    }

    /// The offset in the file of a physical address.
    pub fn offset(&self, pa: u64) -> Option<usize> {
        let holds = |load: &&(u64, usize, usize)| pa >= load.0 && pa - load.0 < load.2 as u64;
        self.loads.iter().find(holds).map(|load| load.1 + (pa - load.0) as usize)
    }

    /// The offsets of all pages but those in `spared`.
    fn pages(&self, spared: &Range<usize>) -> Vec<usize> {
        let all = self.loads.iter().flat_map(|(_, at, len)| (*at..at + len - PAGE + 1).step_by(PAGE));
        all.filter(|at| !spared.contains(at)).collect()
    }

    fn put(&mut self, at: usize, word: u64) {
        if let Some(bytes) = self.bytes.get_mut(at..at + 8) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
    }

    /// The same core without the pages at some offsets: a header for each run that is left.
    pub fn without(&self, lost: &[usize]) -> Vec<u8> {
        let headers = number(&self.bytes, 32, 8) as usize;
        let mut table: Vec<u8> = Vec::new();
        for i in 0..number(&self.bytes, 56, 2) as usize {
            let header = &self.bytes[headers + i * 56..][..56];
            let (kind, at, pa, len) =
                (number(header, 0, 4), number(header, 8, 8), number(header, 24, 8), number(header, 32, 8));
            if kind != 1 {
                table.extend(header);
                continue;
            }
            let gone = lost.iter().map(|at| *at as u64).filter(|page| (at..at + len).contains(page));
            let mut from = at;
            for end in gone.chain([at + len]) {
                if end > from {
                    let mut part = header.to_vec();
                    for (field, value) in [(8, from), (24, pa + (from - at)), (32, end - from), (40, end - from)] {
                        part[field..field + 8].copy_from_slice(&value.to_le_bytes());
                    }
                    table.extend(part);
                }
                from = end + PAGE as u64;
            }
        }
        let mut bytes = self.bytes.clone();
        let at = bytes.len() as u64;
        bytes[32..40].copy_from_slice(&at.to_le_bytes());
        bytes[56..58].copy_from_slice(&((table.len() / 56) as u16).to_le_bytes());
        bytes.extend(table);
        bytes
    }
}

/// A damaged dump.
pub struct Variant {
    pub bytes: Vec<u8>,
    /// what was done, in words
    pub what: String,
    /// nothing is wrong with it but that pages are not there: whatever differs must be said
    pub only_missing: bool,
}

/// Words that counts, sizes and pointers should not be.
const ABSURD: [u64; 8] =
    [u64::MAX, 0, 1, 1 << 63, 0x8000_0000, 0xffff_ffff, 0x6b6b_6b6b_6b6b_6b6b, 0xdead_0000_0000_0100];

/// Damages a dump as `seed` says. The kernel's symbols and types, which `tables` has, are mostly let alone, for without
/// them there is little left to ask.
pub fn variant(whole: &Dump, places: &Places, tables: &Range<usize>, seed: u64) -> Variant {
    let mut chance = Chance::new(seed);
    let mut dump = whole.clone();
    // what is merely missing must be said of them, too
    let let_alone = if seed.is_multiple_of(8) { 2 } else { 8 };
    let spared = if chance.below(let_alone) == 0 { 0..0 } else { tables.clone() };
    let mut only_missing = false;
    let what = match seed % 8 {
        0 | 1 => {
            let mut pages = dump.pages(&spared);
            let parts = chance.of(&[2000, 500, 100, 20, 5]);
            let lost: Vec<usize> =
                (0..pages.len() / parts + 1).map(|_| pages.swap_remove(chance.below(pages.len()))).collect();
            lose(&mut dump, lost, &mut chance, seed.is_multiple_of(2), &mut only_missing)
        }
        2 => pointers(&mut dump, &spared, &mut chance),
        _ => structures(&mut dump, places, &mut chance),
    };
    Variant { bytes: dump.bytes, what, only_missing }
}

/// Takes pages out, or puts something else into them.
fn lose(dump: &mut Dump, mut lost: Vec<usize>, chance: &mut Chance, missing: bool, only_missing: &mut bool) -> String {
    let count = lost.len();
    if missing {
        lost.sort_unstable();
        dump.bytes = dump.without(&lost);
        *only_missing = true;
        return format!("{count} pages are missing");
    }
    let how = chance.below(3);
    for i in 0..count {
        let (at, other) = (lost[i], lost[chance.below(count)]);
        match how {
            0 => dump.bytes[at..at + PAGE].fill(0),
            1 => (at..at + PAGE).step_by(8).for_each(|at| dump.put(at, chance.word())),
            _ => dump.bytes.copy_within(other..other + PAGE, at),
        }
    }
    format!("{count} pages are {}", ["zeroed", "scrambled", "copies of others"][how])
}

/// Exchanges pointers for each other, wherever they are: lists turn into loops and trees into nets.
fn pointers(dump: &mut Dump, spared: &Range<usize>, chance: &mut Chance) -> String {
    let pages = dump.pages(spared);
    let mut found = Vec::new();
    for _ in 0..pages.len() / 4 {
        let page = chance.of(&pages);
        // of the kernel's half, and no error number
        let is_pointer = |at: &usize| (0xff00 << 48..u64::MAX - 0xffff).contains(&number(&dump.bytes, *at, 8));
        found.extend((page..page + PAGE).step_by(8).filter(is_pointer));
    }
    let count = chance.of(&[200, 2000, 20_000, 100_000]).min(found.len());
    for _ in 0..count {
        let (to, from) = (chance.of(&found), chance.of(&found));
        dump.put(to, number(&dump.bytes, from, 8));
    }
    format!("{count} pointers are others")
}

/// What a word becomes.
#[derive(Clone, Copy, Debug)]
enum Way {
    Random,
    Absurd,
    /// what another one of the kind has there: a pointer that is good, but not here
    OfAnother,
    /// a neighbour's word: often a pointer into itself, which makes a short loop
    OfANeighbour,
    OffByABit,
    /// its own address: a list of one, or a tree whose node is its own child
    Itself,
    /// two of the kind lead to each other at the same member
    Pair,
    /// the address of some structure: a node above, or a stranger
    Stranger,
    /// what is small and not zero, as counts, lengths and numbers of things are, is huge
    Counts,
    /// what a terminal would obey, where names are
    Text,
}

const WAYS: [Way; 10] = [
    Way::Random,
    Way::Absurd,
    Way::OfAnother,
    Way::OfANeighbour,
    Way::OffByABit,
    Way::Itself,
    Way::Pair,
    Way::Stranger,
    Way::Counts,
    Way::Text,
];

/// Spoils words of structures of one kind, or of a few.
fn structures(dump: &mut Dump, places: &Places, chance: &mut Chance) -> String {
    let names: Vec<&str> = places.keys().map(String::as_str).collect();
    let mut said = Vec::new();
    for _ in 0..chance.of(&[1, 2, 8]) {
        let name = chance.of(&names);
        let (kind, size) = &places[name];
        let victims = (kind.len() / chance.of(&[1, 3, 10, 100])).max(1);
        let way = chance.of(&WAYS);
        for _ in 0..victims {
            let base = chance.of(kind);
            for _ in 0..1 + chance.below(4) {
                spoil(dump, places, kind, base, chance.below(size / 8) * 8, (way, *size), chance);
            }
        }
        said.push(format!("words of {victims} of {} {name}: {way:?}", kind.len()));
    }
    said.join("; ")
}

/// Spoils the word `inside` a structure.
fn spoil(
    dump: &mut Dump,
    places: &Places,
    kind: &[Place],
    base: Place,
    inside: usize,
    (way, size): (Way, usize),
    chance: &mut Chance,
) {
    let at = base.at + inside;
    let other = chance.of(kind);
    let word = match way {
        Way::Random => chance.word(),
        Way::Absurd => chance.of(&ABSURD),
        Way::OfAnother => number(&dump.bytes, other.at + inside, 8),
        Way::OfANeighbour => number(&dump.bytes, base.at + chance.below(size / 8) * 8, 8),
        Way::OffByABit => number(&dump.bytes, at, 8) ^ 1 << chance.below(64),
        Way::Itself => base.addr + chance.of(&[0, inside as u64]),
        Way::Pair => {
            dump.put(other.at + inside, base.addr + inside as u64);
            other.addr + inside as u64
        }
        Way::Stranger => {
            let all: Vec<&Vec<Place>> = places.values().map(|(places, _)| places).collect();
            let among = chance.of(&all);
            chance.of(among).addr
        }
        Way::Counts => {
            let is_count = |at: &usize| (1..1 << 32).contains(&number(&dump.bytes, *at, 8));
            let counts: Vec<usize> = (base.at..base.at + size).step_by(8).filter(is_count).collect();
            let Some(at) = (!counts.is_empty()).then(|| chance.of(&counts)) else { return };
            return dump.put(at, chance.of(&ABSURD));
        }
        Way::Text => u64::from_le_bytes(*b"\x1b]0;x\x07\n\x9b"),
    };
    dump.put(at, word);
}

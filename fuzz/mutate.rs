//! New inputs from old ones: what changes between two is a few bits, a number, a piece.

/// Longest input that is made.
const LONGEST: usize = 64 << 10;

/// Marsaglia's xorshift64*.
pub struct Chance(u64);

impl Chance {
    /// The same seed, the same chances.
    pub fn new(seed: u64) -> Chance {
        Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `n`, 0 if there is none.
    pub fn below(&mut self, n: usize) -> usize {
        if n == 0 { 0 } else { (self.next() >> 11) as usize % n }
    }

    /// A place in bytes, most often an early one: headers are what leads elsewhere.
    fn place(&mut self, len: usize) -> usize {
        match self.below(4) {
            0 => self.below(len.min(64)),
            1 => self.below(len.min(512)),
            _ => self.below(len),
        }
    }
}

/// Numbers at which code goes wrong.
const NUMBERS: [u64; 22] = [
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    0x10,
    0x7f,
    0x80,
    0xff,
    0x100,
    0xfff,
    0x1000,
    0x7fff,
    0x8000,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
];

/// Pieces of texts.
const WORDS: [&[u8]; 24] = [
    b"::", b"|", b"!", b"$[", b"]", b"'", b"\"", b"\\", b"`", b"(", b")", b"\n", b";", b"0x", b"0t", b"=", b"SYMBOL(",
    b"NUMBER(", b"\0", b"\xff", b"//", b"/L ", b"%-8", b"*/4/",
];

/// A change of `old`, sometimes with something of `other`.
pub fn mutate(old: &[u8], other: &[u8], chance: &mut Chance) -> Vec<u8> {
    let mut new = old.to_vec();
    for _ in 0..1 << chance.below(5) {
        change(&mut new, other, chance);
    }
    new.truncate(LONGEST);
    new
}

fn change(new: &mut Vec<u8>, other: &[u8], chance: &mut Chance) {
    let len = new.len();
    let at = chance.place(len);
    match chance.below(13) {
        0 | 1 => new.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << chance.below(8)),
        2 => new.iter_mut().skip(at).take(1).for_each(|byte| *byte = chance.next() as u8),
        3..=5 => {
            let width = [1, 2, 4, 8][chance.below(4)];
            // numbers are most often aligned
            let at = if chance.below(4) > 0 { at / width * width } else { at };
            let number = match chance.below(5) {
                0 => len as u64,
                1 => chance.next(),
                _ => NUMBERS[chance.below(NUMBERS.len())],
            };
            let number = if chance.below(4) == 0 { number.wrapping_neg() } else { number };
            put(new, at, number, width, chance.below(8) == 0);
        }
        6 => {
            // a number of the input, somewhat larger or smaller
            let width = [1, 2, 4, 8][chance.below(4)];
            let at = at / width * width;
            let old = crate::number(new, at, width);
            let by = chance.below(35) as u64;
            put(new, at, if chance.below(2) == 0 { old.wrapping_add(by) } else { old.wrapping_sub(by) }, width, false);
        }
        7 => new.truncate(chance.below(len + 1)),
        8 => {
            let piece = piece(other, chance);
            let end = (at + piece.len()).min(len);
            new.splice(at..end, piece.iter().copied());
        }
        9 => {
            let piece = piece(other, chance);
            new.splice(at..at, piece.iter().copied());
        }
        10 => {
            let own = piece(&new.clone(), chance).to_vec();
            new.splice(at..at, own);
        }
        11 => {
            let end = (at + chance.below(64)).min(len);
            new.drain(at..end);
        }
        _ => {
            let word = WORDS[chance.below(WORDS.len())];
            let again = if chance.below(16) == 0 { 1 + chance.below(300) } else { 1 };
            new.splice(at..at, word.repeat(again));
        }
    }
}

fn put(new: &mut [u8], at: usize, number: u64, width: usize, big: bool) {
    let mut bytes = number.to_le_bytes();
    if big {
        bytes[..width].reverse();
    }
    new.iter_mut().skip(at).zip(&bytes[..width]).for_each(|(to, from)| *to = *from);
}

/// A piece of at most a few hundred bytes.
fn piece<'a>(of: &'a [u8], chance: &mut Chance) -> &'a [u8] {
    let from = chance.below(of.len());
    let most = [8, 64, 512, 4096][chance.below(4)];
    of.get(from..(from + 1 + chance.below(most)).min(of.len())).unwrap_or_default()
}

//! Page descriptors and page data of kdump files that lie: each lie is an error that names its place, costs no more
//! time or memory than a page, and spoils no other page.

use std::io::Write;
use std::time::{Duration, Instant};

use bytes::Bytes;
use targets::{OpenOptions, Reason, Space, Target};

use crate::synth::{self, CODECS, Memory, PAGE};

/// The page whose descriptor is changed; it is the 17th in the file, too.
const PFN: u64 = 17;
const DESC: usize = 4 * PAGE + 24 * PFN as usize;

fn open(file: Vec<u8>) -> Target {
    Target::of_bytes(vec![Bytes::from(file)], &OpenOptions::default()).unwrap()
}

fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Why the page cannot be read, by itself and in a scan of everything; all others can.
fn refused(file: Vec<u8>, memory: &Memory, what: &str) -> Reason {
    let start = Instant::now();
    let target = open(file);
    let error = target.u64(Space::Phys, PFN << 12).unwrap_err();
    assert_eq!(error.addr, PFN << 12, "{what}");
    let mut all = vec![0xff; 24 * PAGE];
    let holes = target.read_lossy(Space::Phys, 0, &mut all);
    let holes: Vec<_> = holes.iter().map(|hole| (hole.range.clone(), hole.reason.clone())).collect();
    assert_eq!(holes, [(PFN << 12..(PFN + 1) << 12, error.reason.clone())], "{what}");
    for (&pfn, page) in memory.pages.iter().filter(|&(&pfn, _)| pfn != PFN) {
        assert_eq!(&all[pfn as usize * PAGE..][..PAGE], page, "{what}: page {pfn}");
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{what} took {:?}", start.elapsed());
    error.reason
}

#[test]
fn a_descriptor_whose_size_is_a_lie() {
    let memory = Memory::new(4);
    for codec in CODECS {
        let file = synth::kdump(&memory, codec, &[]);
        let off = u64::from_le_bytes(file[DESC..DESC + 8].try_into().unwrap());
        let size = u32::from_le_bytes(file[DESC + 8..DESC + 12].try_into().unwrap());
        for lie in
            [0, 1, size / 2, size - 1, size + 1, size + 64, 4095, 4097, 1 << 20, 0x7fff_ffff, 0x8000_0000, u32::MAX]
        {
            let what = format!("codec {codec:#x}, {lie:#x} for {size:#x}");
            let mut file = file.clone();
            put(&mut file, DESC + 8, &lie.to_le_bytes());
            if codec == 1 && (size..=PAGE as u32).contains(&lie) {
                // zlib's data says where it ends, and its checksum says that the page is right.
                assert_eq!(open(file).u64(Space::Phys, PFN << 12), Ok(memory.u64(PFN << 12)), "{what}");
                continue;
            }
            let Reason::Decompress(why) = refused(file, &memory, &what) else { panic!("{what}") };
            let place = if codec == 0 || lie > PAGE as u32 {
                format!("its descriptor at offset {DESC:#x} says {lie} bytes")
            } else {
                format!("(data at offset {off:#x})")
            };
            assert!(why.contains(&place), "{what}: {why}");
        }
    }
}

#[test]
fn a_descriptor_that_points_outside_the_file() {
    let memory = Memory::new(4);
    for codec in CODECS {
        let file = synth::kdump(&memory, codec, &[]);
        let end = file.len() as u64;
        for off in [end - 1, end, end + 1, 1 << 40, i64::MAX as u64, 1 << 63, u64::MAX - 10, u64::MAX] {
            let mut file = file.clone();
            put(&mut file, DESC, &off.to_le_bytes());
            assert_eq!(refused(file, &memory, &format!("codec {codec:#x}, {off:#x}")), Reason::Truncated);
        }
    }
}

#[test]
fn a_bitmap_that_lies_outside_the_file() {
    let file = synth::kdump(&Memory::new(4), 1, &[]);
    // sub_hdr_size and bitmap_blocks of the header
    for (at, value) in [(432, 1u32 << 20), (432, u32::MAX), (436, 1 << 12), (436, u32::MAX)] {
        let mut file = file.clone();
        put(&mut file, at, &value.to_le_bytes());
        let opened = Target::of_bytes(vec![Bytes::from(file)], &OpenOptions::default());
        let why = opened.map(|_| ()).unwrap_err().to_string();
        assert!(why.contains("within its page bitmaps, which end at 0x"), "{at} {value:#x}: {why}");
    }
}

/// Bits for more page frames than the file has room for: those are cut off, the others are there.
#[test]
fn a_bitmap_that_promises_too_much() {
    let memory = Memory::new(4);
    let mut file = synth::kdump(&memory, 0, &[]);
    file.truncate(4 * PAGE + 24 * 24);
    put(&mut file, 2 * PAGE, &[0xff; 2 * PAGE]);
    let mut descs = file.split_off(4 * PAGE);
    let end = (file.len() + descs.len()) as u64;
    for (i, desc) in descs.chunks_mut(24).enumerate() {
        put(desc, 0, &(end + i as u64 * PAGE as u64).to_le_bytes());
    }
    file.extend(descs);
    file.extend(memory.pages.values().flatten());
    // What is behind the last descriptor is taken for the next ones: garbage, which no page may come of.
    let garbage = file.len() - 24 * PAGE;
    file[garbage..garbage + 40 * 24].fill(0xff);
    let target = open(file);
    assert_eq!(target.u64(Space::Phys, 19 << 12), Ok(memory.u64(19 << 12)));
    for pfn in 24..64 {
        assert!(target.u64(Space::Phys, pfn << 12).is_err(), "{pfn}");
    }
    assert_eq!(target.u64(Space::Phys, 64 << 12).unwrap_err().reason, Reason::NotInDump, "max_mapnr is the end");
}

#[test]
fn what_no_codec_can_read() {
    let memory = Memory::new(4);
    for codec in [1u32, 2, 4, 0x20] {
        for garbage in [[0u8; 64], [0xff; 64], [0x55; 64], std::array::from_fn(|i| (i as u8).wrapping_mul(157) ^ 0x6b)]
        {
            let mut file = synth::kdump(&memory, codec, &[]);
            let at = file.len() as u64;
            file.extend(garbage);
            put(&mut file, DESC, &at.to_le_bytes());
            put(&mut file, DESC + 8, &64u32.to_le_bytes());
            put(&mut file, DESC + 12, &codec.to_le_bytes());
            let Reason::Decompress(why) = refused(file, &memory, &format!("codec {codec:#x}")) else { panic!() };
            assert!(why.contains(&format!("(data at offset {at:#x})")), "{why}");
        }
    }
    // Two codecs at once is none.
    let mut file = synth::kdump(&memory, 1, &[]);
    put(&mut file, DESC + 12, &3u32.to_le_bytes());
    let Reason::Decompress(why) = refused(file, &memory, "two codecs") else { panic!() };
    assert!(why.contains("unknown compression 0x3"), "{why}");
}

/// A few bytes that are megabytes, or say that they are terabytes, as a page of 4096 bytes.
#[test]
fn pages_that_are_bombs() {
    let zeros = vec![0; 3 << 20];
    let zlib = |bytes: &[u8]| {
        let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    };
    let zstd_claim = |len: u64| {
        // One segment, its size in eight bytes; then a block of 128 KiB that repeats a byte.
        [b"\x28\xb5\x2f\xfd\xe0".as_slice(), &len.to_le_bytes(), &(1u32 << 20 | 3).to_le_bytes()[..3], &[0]].concat()
    };
    let bombs = [
        ("zlib", 1u32, zlib(&zeros)),
        ("lzo", 2, [b"\x12A\x20".as_slice(), &[0; 4000], b"\x01\0\0\x11\0\0"].concat()),
        ("snappy that says 4 GiB", 4, b"\xff\xff\xff\xff\x0f\0A\xfe\x01\0\xfe\x01\0".to_vec()),
        ("snappy of 3 MiB", 4, b"\x80\x80\xc0\x01\0A\xfe\x01\0\xfe\x01\0".to_vec()),
        ("zstd", 0x20, zstd::bulk::compress(&zeros, 19).unwrap()),
        ("zstd of many blocks", 0x20, zstd::bulk::compress(&vec![7; 64 << 20], 1).unwrap()),
        ("zstd that says 1 TiB", 0x20, zstd_claim(1 << 40)),
        ("zstd that says all there is", 0x20, zstd_claim(u64::MAX)),
    ];
    let memory = Memory::new(4);
    for (name, codec, bomb) in bombs {
        assert!(bomb.len() < PAGE, "{name}: {}", bomb.len());
        let mut file = synth::kdump(&memory, codec, &[]);
        let at = file.len() as u64;
        file.extend(&bomb);
        put(&mut file, DESC, &at.to_le_bytes());
        put(&mut file, DESC + 8, &(bomb.len() as u32).to_le_bytes());
        put(&mut file, DESC + 12, &codec.to_le_bytes());
        let Reason::Decompress(why) = refused(file, &memory, name) else { panic!("{name}") };
        assert!(why.contains(&format!("(data at offset {at:#x})")), "{name}: {why}");
    }
}

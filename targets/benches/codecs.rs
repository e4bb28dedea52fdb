//! How fast pages of kdump files are read, beside the bare codec:
//! `cargo bench -p kmdb-targets --bench codecs -- [DUMP] [--mb 256] [--dir DIR]`.
//!
//! The pages are those of a real dump that hold anything but zeros, repeated until there are enough, since pages of
//! zeros cost next to nothing. For each codec a kdump file of them is written and read, from the page cache:
//!
//! - *bare*: the codec alone, over the same compressed pages in memory, one thread;
//! - *scan*, *page*: [`Target::read`] on one thread, 1 MB and one page at a time. The thread is one of a pool, for which
//!   nobody reads ahead;
//! - *ahead*: page by page on a plain thread, for which the other cores read ahead. `cpus` says how many worked;
//! - *all*: the pieces of [`Target::chunks`] shared out over all cores, and the bare codec likewise.
//!
//! Rates are MB (10⁶ bytes) of memory per second, medians of three, the dump opened anew each time.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::cell::RefCell;
use std::hint::black_box;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rayon::prelude::*;
use rustix::time::{ClockId, clock_gettime};
use targets::{OpenOptions, Space, Target};

const PAGE: usize = 4096;
/// Bytes of one large read.
const PIECE: usize = 1 << 20;
/// Flags of page descriptors.
const CODECS: [(&str, u32); 5] = [("raw", 0), ("zlib", ZLIB), ("lzo", LZO), ("snappy", SNAPPY), ("zstd", ZSTD)];
const ZLIB: u32 = 1;
const LZO: u32 = 2;
const SNAPPY: u32 = 4;
const ZSTD: u32 = 0x20;

struct Args {
    dump: PathBuf,
    mb: usize,
    dir: PathBuf,
}

/// Without `--bench`, which `cargo bench` gives, this is a test of the benchmark, and a few pages are enough.
fn args() -> Args {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus/k612-plain/vmcore.zst");
    let mut args = Args { dump: corpus, mb: 8, dir: std::env::temp_dir() };
    let mut given = std::env::args().skip(1);
    let mut mb = None;
    while let Some(arg) = given.next() {
        match arg.as_str() {
            "--bench" => args.mb = 256,
            "--mb" => mb = given.next().map(|mb| mb.parse().expect("--mb takes a number")),
            "--dir" => args.dir = given.next().expect("--dir takes a directory").into(),
            _ => args.dump = arg.into(),
        }
    }
    args.mb = mb.unwrap_or(args.mb);
    args
}

fn main() {
    let args = args();
    let cores = rayon::current_num_threads();
    let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let (memory, distinct) = pages(&args.dump, args.mb << 20);
    let bytes = memory.len() as f64;
    println!(
        "{:.0} MB, {distinct} different pages of {}, {cores} cores; MB/s of memory, medians of 3",
        bytes / 1e6,
        args.dump.display()
    );
    println!(
        "{:7} {:>5} | {:>6} | {:>6} {:>5} {:>6} {:>5} | {:>6} {:>4} | {:>7} {:>6} {:>5} | {:>8} {:>5}",
        "codec",
        "size",
        "bare",
        "scan",
        "/bare",
        "page",
        "/bare",
        "ahead",
        "cpus",
        "all",
        "/scan",
        "cpus",
        "bare all",
        "/bare"
    );
    for (name, flag) in CODECS {
        let packed = Packed::new(&memory, flag);
        let mut file = tempfile::NamedTempFile::new_in(&args.dir).unwrap();
        packed.write(&mut file);
        let open = || Target::open(file.path(), &OpenOptions::default()).unwrap();
        check(&open(), &memory);

        let (bare, _) = measure(|| packed.unpack(0..packed.index.len(), &mut vec![0; PIECE]));
        let (scan, _) = alone.install(|| measure(|| in_order(&open(), PIECE)));
        let (page, _) = alone.install(|| measure(|| in_order(&open(), PAGE)));
        let (ahead, ahead_cpus) = measure(|| in_order(&open(), PAGE));
        let (all, all_cpus) = measure(|| shared_out(&open()));
        let (bare_all, _) = measure(|| {
            let all = packed.index.len();
            let pieces: Vec<_> = (0..all).step_by(PIECE / PAGE).map(|i| i..(i + PIECE / PAGE).min(all)).collect();
            let buffer = || vec![0; PIECE];
            pieces.into_par_iter().for_each_init(buffer, |buffer, pages| packed.unpack(pages, buffer));
        });
        let rate = |time: f64| bytes / 1e6 / time;
        println!(
            "{name:7} {:4.0}% | {:6.0} | {:6.0} {:5.2} {:6.0} {:5.2} | {:6.0} {ahead_cpus:4.1} | {:7.0} {:5.2}x {all_cpus:5.1} | {:8.0} {:4.2}x",
            packed.data.len() as f64 * 100.0 / bytes,
            rate(bare),
            rate(scan),
            bare / scan,
            rate(page),
            bare / page,
            rate(ahead),
            rate(all),
            scan / all,
            rate(bare_all),
            bare / bare_all,
        );
    }
}

/// Median seconds of three runs, and by how many CPUs' worth of time the process was at work in that run.
fn measure(run: impl Fn()) -> (f64, f64) {
    let cpu = || {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    let mut runs = [(); 3].map(|()| {
        let (wall, worked) = (Instant::now(), cpu());
        run();
        let wall = wall.elapsed().as_secs_f64();
        (wall, (cpu() - worked).as_secs_f64() / wall)
    });
    runs.sort_by(|a, b| a.0.total_cmp(&b.0));
    runs[1]
}

/// Pages of the dump, `len` bytes in all, and how many before they repeat.
fn pages(dump: &Path, len: usize) -> (Vec<u8>, usize) {
    let target = Target::open(dump, &OpenOptions::default()).unwrap_or_else(|e| panic!("{}: {e}", dump.display()));
    let mut memory = Vec::with_capacity(len);
    for chunk in target.chunks(PIECE as u64) {
        let Ok(bytes) = target.bytes(Space::Phys, chunk.start, (chunk.end - chunk.start) as usize) else { continue };
        let held = bytes.chunks_exact(PAGE).filter(|page| page.iter().any(|&byte| byte != 0));
        held.take((len - memory.len()) / PAGE).for_each(|page| memory.extend(page));
    }
    let first = memory.len();
    assert!(first > 0, "{}: no page that holds anything", dump.display());
    while memory.len() < len {
        memory.extend_from_within(..first.min(len - memory.len()));
    }
    (memory, first / PAGE)
}

/// Memory as a kdump file has it: the pages' data one after the other; offset, size and flag of each.
struct Packed {
    data: Vec<u8>,
    index: Vec<(usize, usize, u32)>,
}

impl Packed {
    fn new(memory: &[u8], flag: u32) -> Packed {
        let pages: Vec<Vec<u8>> = memory.par_chunks(PAGE).map(|page| compress(flag, page)).collect();
        let mut at = 0;
        let index = pages.iter().map(|page| {
            at += page.len();
            // a page that would grow is stored as it is
            (at - page.len(), page.len(), if page.len() == PAGE { 0 } else { flag })
        });
        Packed { index: index.collect(), data: pages.concat() }
    }

    /// Decompresses pages to where a large read would have them.
    fn unpack(&self, pages: std::ops::Range<usize>, piece: &mut [u8]) {
        CODEC.with_borrow_mut(|codec| {
            for (i, &(off, len, flag)) in self.index[pages].iter().enumerate() {
                let at = i % (PIECE / PAGE) * PAGE;
                codec.unpack(flag, &self.data[off..off + len], &mut piece[at..at + PAGE]);
            }
            black_box(piece);
        });
    }

    /// A file of version 6 in which these are the pages of physical memory from 0 on.
    fn write(&self, file: &mut tempfile::NamedTempFile) {
        let frames = self.index.len() as u64;
        let bitmap = (frames as usize).div_ceil(8).next_multiple_of(PAGE);
        let mut head = b"KDUMP   ".to_vec();
        head.extend(6i32.to_le_bytes());
        for name in ["Linux", "host", "6.1.0", "#1", "x86_64", ""] {
            head.extend(name.as_bytes());
            head.resize(head.len() + 65 - name.len(), 0);
        }
        head.resize(424, 0);
        for word in [0, PAGE as u32, 1, (2 * bitmap / PAGE) as u32, frames as u32, 0, 0, 0, 0, 1] {
            head.extend(word.to_le_bytes());
        }
        head.resize(PAGE + 16, 0);
        for word in [0, frames, 0, 0, 0, 0, 0, 0, 0, frames, frames] {
            head.extend(word.to_le_bytes());
        }
        head.resize(2 * PAGE, 0);
        for _ in 0..2 {
            let end = head.len() + bitmap;
            head.extend(
                (0..frames.div_ceil(8)).map(|i| if frames - i * 8 >= 8 { 0xff } else { (1 << (frames % 8)) - 1 }),
            );
            head.resize(end, 0);
        }
        let data = head.len() + self.index.len() * 24;
        for &(off, len, flag) in &self.index {
            head.extend(((data + off) as u64).to_le_bytes());
            head.extend((len as u32).to_le_bytes());
            head.extend(flag.to_le_bytes());
            head.extend([0; 8]);
        }
        file.write_all(&head).unwrap();
        file.write_all(&self.data).unwrap();
    }
}

/// As makedumpfile does: the fastest level of each.
fn compress(flag: u32, page: &[u8]) -> Vec<u8> {
    let packed = match flag {
        ZLIB => {
            let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
            out.write_all(page).unwrap();
            out.finish().unwrap()
        }
        LZO => lzokay::compress::compress(page).unwrap(),
        SNAPPY => snap::raw::Encoder::new().compress_vec(page).unwrap(),
        ZSTD => zstd::bulk::compress(page, 1).unwrap(),
        _ => page.to_vec(),
    };
    if packed.len() < page.len() { packed } else { page.to_vec() }
}

/// The codecs alone, called as their documentation says, without anything that must not be in a dump being looked for.
struct Codec {
    zlib: flate2::Decompress,
    snappy: snap::raw::Decoder,
    zstd: zstd::bulk::Decompressor<'static>,
}

thread_local! {
    static CODEC: RefCell<Codec> = RefCell::new(Codec {
        zlib: flate2::Decompress::new(true),
        snappy: snap::raw::Decoder::new(),
        zstd: zstd::bulk::Decompressor::new().unwrap(),
    });
}

impl Codec {
    fn unpack(&mut self, flag: u32, data: &[u8], page: &mut [u8]) {
        match flag {
            ZLIB => {
                self.zlib.reset(true);
                self.zlib.decompress(data, page, flate2::FlushDecompress::Finish).map(drop).unwrap();
            }
            LZO => lzokay::decompress::decompress(data, page).map(drop).unwrap(),
            SNAPPY => self.snappy.decompress(data, page).map(drop).unwrap(),
            ZSTD => self.zstd.decompress_to_buffer(data, page).map(drop).unwrap(),
            _ => page.copy_from_slice(data),
        }
    }
}

/// The file is what was written; and it is in the page cache from now on.
fn check(target: &Target, memory: &[u8]) {
    let mut piece = vec![0; PIECE];
    for chunk in target.chunks(PIECE as u64) {
        let part = &mut piece[..(chunk.end - chunk.start) as usize];
        target.read(Space::Phys, chunk.start, part).unwrap();
        assert!(part == &memory[chunk.start as usize..chunk.end as usize], "{chunk:x?} is not what was written");
    }
    assert_eq!(target.info().present, memory.len() as u64);
}

/// All of memory on this thread, by reads of `size` bytes.
fn in_order(target: &Target, size: usize) {
    let mut piece = vec![0; size];
    for chunk in target.chunks(size as u64) {
        let part = &mut piece[..(chunk.end - chunk.start) as usize];
        target.read(Space::Phys, chunk.start, part).unwrap();
        black_box(&part);
    }
}

/// All of memory on all cores, as scans do it.
fn shared_out(target: &Target) {
    let chunks: Vec<_> = target.chunks(PIECE as u64).collect();
    chunks.into_par_iter().for_each_init(
        || vec![0; PIECE],
        |piece, chunk| {
            let part = &mut piece[..(chunk.end - chunk.start) as usize];
            target.read(Space::Phys, chunk.start, part).unwrap();
            black_box(&part);
        },
    );
}

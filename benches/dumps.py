#!/usr/bin/env python3
"""Reading dumps: every codec beside the bare codec, large sparse dumps beside a small one, a scan beside the disk.

    benches/dumps.py DUMP.elf DIR [--kmdb target/release/kmdb] [--runs 5] [--only codecs,sparse,scan]
                     [--mb 256] [--sparse-gb 64] [--scan-gb 8] [--debug]

DUMP.elf is a real ELF core of x86-64, not compressed, of half a gigabyte or so. All files are made in a new directory
in DIR, which needs 9 GB of room, and are deleted at the end, whatever happens. Nothing else should run meanwhile, and
DIR's disk should be the one that dumps are on. `cargo build --release` makes the kmdb that is measured; the benchmark
of codecs is built when it is run. It takes a few minutes.
"""
import argparse
import multiprocessing
import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import zlib

from peers import measure

PAGE = 4096
MB = 1 << 20
GB = 1 << 30
LOAD, NOTE = 1, 4


class Elf:
    """A core file: its notes, and its memory as (physical address, virtual address, file offset, bytes)."""

    def __init__(self, path):
        self.file = open(path, "rb")
        head = self.file.read(64)
        if head[:6] != b"\x7fELF\2\1":
            sys.exit(f"{path}: no 64-bit little-endian ELF file")
        self.kind, self.machine = struct.unpack_from("<HH", head, 16)
        at, count = struct.unpack_from("<Q", head, 32)[0], struct.unpack_from("<H", head, 56)[0]
        if self.kind != 4 or not 0 < count < 0xFFFF:
            sys.exit(f"{path}: no core file with a plain table of segments")
        self.notes, self.loads = b"", []
        for i in range(count):
            kind, _, off, va, pa, size, _, _ = struct.unpack("<IIQQQQQQ", self.at(at + i * 56, 56))
            if kind == NOTE:
                self.notes += self.at(off, size)
            elif kind == LOAD and size:
                self.loads.append((pa, va, off, size))
        self.loads.sort()

    def at(self, off, size):
        self.file.seek(off)
        return self.file.read(size)

    def size(self):
        return sum(size for *_, size in self.loads)

    def pieces(self):
        """All of memory: physical address and up to 1 MB of bytes."""
        for pa, _, off, size in self.loads:
            for done in range(0, size, MB):
                yield pa + done, self.at(off + done, min(MB, size - done))

    def pages(self):
        """Page frames that are wholly in the dump and hold anything but zeros."""
        for pa, piece in self.pieces():
            for i in range(-pa % PAGE, len(piece) - PAGE + 1, PAGE):
                page = piece[i:i + PAGE]
                if page.count(0) != PAGE:
                    yield (pa + i) // PAGE, page

    def above(self):
        """The first gigabyte boundary above all memory, and above the hole below 4 GB."""
        return max(4 * GB, max(-(-(pa + size) // GB) * GB for pa, _, _, size in self.loads))


def write_elf(dump, path, more, filled):
    """The dump with `more` bytes of memory above its own: its own over and over if `filled`, else a hole in the file."""
    added, pa = [], dump.above()
    step = max(size for *_, size in dump.loads) if filled else GB
    while more > 0:
        added.append((pa, min(step, more)))
        pa, more = pa + step, more - step
    first = 64 + 56 * (1 + len(dump.loads) + len(added))
    at = -(-(first + len(dump.notes)) // PAGE) * PAGE
    table = struct.pack("<IIQQQQQQ", NOTE, 0, first, 0, 0, len(dump.notes), len(dump.notes), 0)
    todo = []
    for pa, va, size, off in [(pa, va, size, off) for pa, va, off, size in dump.loads] + [
            (pa, 0, size, None) for pa, size in added]:
        table += struct.pack("<IIQQQQQQ", LOAD, 7, at, va, pa, size, size, 0)
        todo.append((at, size, off))
        at += -(-size // PAGE) * PAGE
    largest = max(dump.loads, key=lambda load: load[3])[2]
    with open(path, "wb") as out:
        out.write(b"\x7fELF\2\1\1".ljust(16, b"\0"))
        out.write(struct.pack("<HHIQQQIHHHHHH", 4, dump.machine, 1, 0, 64, 0, 0, 64, 56, len(table) // 56, 0, 0, 0))
        out.write(table + dump.notes)
        for to, size, off in todo:
            off = largest if off is None and filled else off
            for done in range(0, size if off is not None else 0, MB):
                piece = dump.at(off + done, min(MB, size - done))
                if filled or piece.count(0) != len(piece):
                    out.seek(to + done)
                    out.write(piece)
        out.truncate(at)
        out.flush()
        os.fsync(out.fileno())


def write_kdump(dump, path, packed, top):
    """A kdump file, level 1 (no pages of zeros), of the pages `packed`: all frames below `top` exist."""
    frames = top // PAGE
    bitmap = -(-frames // 8 // PAGE) * PAGE
    head = b"KDUMP   " + struct.pack("<i", 6)
    head += b"".join(name.ljust(65, b"\0") for name in (b"Linux", b"host", b"", b"", b"x86_64", b""))
    head = head.ljust(408, b"\0") + struct.pack("<QQ", int(time.time()), 0)
    blocks = 1 + -(-(104 + len(dump.notes)) // PAGE)
    head += struct.pack("<10I", 1, PAGE, blocks - 1, 2 * bitmap // PAGE, min(frames, 0xFFFFFFFF), 0, 0, 0, 0, 1)
    head = head.ljust(PAGE, b"\0") + struct.pack("<QII", 0, 1, 0)
    text = dump.notes.find(b"VMCOREINFO\0\0")  # its size stands 8 bytes before its name
    text_size = struct.unpack_from("<I", dump.notes, text - 8)[0] if text >= 8 else 0
    notes_at = PAGE + 104
    text_at = notes_at + text + 12 if text_size else 0
    head += struct.pack("<11Q", 0, frames, text_at, text_size, notes_at, len(dump.notes), 0, 0, 0, frames, frames)
    head = (head + dump.notes).ljust(blocks * PAGE, b"\0")
    dumped = bytearray(bitmap)
    at, table = len(head) + 2 * bitmap + 24 * len(packed), []
    for frame, data in packed:
        dumped[frame // 8] |= 1 << frame % 8
        table.append(struct.pack("<QIIQ", at, len(data), int(len(data) < PAGE), 0))
        at += len(data)
    with open(path, "wb") as out:
        out.write(head + (b"\xff" * (frames // 8)).ljust(bitmap, b"\0") + dumped + b"".join(table))
        for _, data in packed:
            out.write(data)


def pack(page):
    data = zlib.compress(page, 1)
    return data if len(data) < PAGE else page


def peak(command):
    """Most memory that a command ever had, in MB. Asked of time(1): what Python is told has Python's own in it."""
    if not shutil.which("time"):
        return float("nan")
    done = subprocess.run([shutil.which("time"), "-f", "%M", *command], stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, text=True)
    return int(done.stderr.split()[-1]) / 1024


def disk(path):
    return os.stat(path).st_blocks * 512


def sparse(args, dump, room):
    """Start to the answer of ::status: small dumps, and the same memory in a machine of 64 GB."""
    small_kdump, elf, kdump = (os.path.join(room, name) for name in ("small.kdump", "sparse.elf", "sparse.kdump"))
    whole = args.sparse_gb * GB
    write_elf(dump, elf, whole - dump.size(), filled=False)
    packed = [(frame, pack(page)) for frame, page in dump.pages()]
    write_kdump(dump, small_kdump, packed, -(-max(pa + size for pa, _, _, size in dump.loads) // MB) * MB)
    write_kdump(dump, kdump, packed, max(whole, dump.above()))
    del packed
    print(f"\n::status of sparse dumps (median of {args.runs}, page cache warm)")
    print(f"  {'':28} {'memory':>9} {'on disk':>9} {'wall ms':>9} {'cpu ms':>9} {'peak MB':>9} {'wall ratio':>11}")
    memory, base = dump.size(), None
    for name, path, size in [("small ELF", args.dump, memory), (f"ELF of {args.sparse_gb} GB", elf, whole),
                             ("small kdump", small_kdump, memory), (f"kdump of {args.sparse_gb} GB", kdump, whole)]:
        command = [args.kmdb, "--no-debuginfo", "-S", path, "-e", "::status"]
        base = base if "small" not in name else None
        measure(command, 1)
        figures, last = measure(command, args.runs)
        if figures is None:
            print(f"  {name:28} failed: {last.strip().splitlines()[-1:]}")
            continue
        wall, cpu, _ = figures
        base = base or wall
        print(f"  {name:28} {size / GB:6.1f} GB {disk(path) / GB:6.2f} GB {wall * 1e3:9.1f} {cpu * 1e3:9.1f} "
              f"{peak(command):9.1f} {wall / base:10.2f}x")
    for path in (small_kdump, elf, kdump):
        os.unlink(path)


def look_through(size):
    """Bytes a second at which memchr, on one thread, looks through memory."""
    memory = b"\1" * size
    start = time.perf_counter()
    rounds = 4
    for _ in range(rounds):
        memory.find(b"\2")
    return rounds * size / (time.perf_counter() - start)


def forget(path):
    """Has the kernel drop the file's pages, which are on disk."""
    file = os.open(path, os.O_RDONLY)
    os.fsync(file)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(file)


def available():
    with open("/proc/meminfo") as info:
        return next(int(line.split()[1]) << 10 for line in info if line.startswith("MemAvailable"))


def scan(args, dump, room):
    """A search of all physical memory of a large ELF core for a value that is not there."""
    size = args.scan_gb * GB
    if shutil.disk_usage(room).free < size + GB:
        print(f"\nscan: {args.scan_gb} GB and one more are not free in {room}")
        return
    path = os.path.join(room, "large.elf")
    write_elf(dump, path, size - dump.size(), filled=True)
    size = os.path.getsize(path)
    tools = [("dd bs=1M", ["dd", f"if={path}", "of=/dev/null", "bs=1M", "status=none"]),
             ("kmdb ::kgrep -p", [args.kmdb, "--no-debuginfo", "-S", path, "-e", "5ca1ab1e0ddba11::kgrep -p"])]
    fits = "fits" if size < available() else "DOES NOT FIT"
    print(f"\nscan of all {size / GB:.1f} GB of an ELF core (median of 3; it {fits} into free memory)")
    print(f"  {'':28} {'wall s':>9} {'GB/s':>9} {'cpu s':>9} {'of dd':>9}")
    rates = {}
    for state in ("cold", "warm"):
        for name, command in tools:
            runs = []
            if state == "warm":
                measure(command, 1)
            for _ in range(3):
                if state == "cold":
                    forget(path)
                figures, last = measure(command, 1)
                if figures is None or last.strip():
                    print(f"  {name:28} failed or found it: {last.strip().splitlines()[-1:]}")
                    break
                runs.append(figures)
            if len(runs) == 3:
                wall, cpu, _ = sorted(runs)[1]
                rates[state, name] = size / wall
                beside = rates[state, name] / rates.get((state, tools[0][0]), size / wall)
                print(f"  {name + ', ' + state:28} {wall:9.2f} {size / wall / 1e9:9.2f} {cpu:9.2f} {beside:8.2f}x")
    os.unlink(path)
    cores = len(os.sched_getaffinity(0))
    for threads in sorted({1, cores}):
        with multiprocessing.Pool(threads) as pool:
            rate = sum(pool.map(look_through, [GB // 2] * threads, chunksize=1))
        ours = rates.get(("warm", tools[1][0]), float("nan"))
        print(f"  {f'memchr in memory, {threads} cores':28} {'':9} {rate / 1e9:9.2f} {'':9} kmdb warm is {ours / rate:.2f} of it")


def codecs(args, _, room):
    """The codecs, in Rust."""
    print(flush=True)
    cargo = ["cargo", "bench", "-q", "-p", "kmdb-targets", "--bench", "codecs"]
    cargo += ["--profile", "dev"] if args.debug else []
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    subprocess.run(cargo + ["--", os.path.abspath(args.dump), "--mb", str(args.mb), "--dir", room], cwd=here, check=True)


def main():
    parts = {"codecs": codecs, "sparse": sparse, "scan": scan}
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("dump")
    args.add_argument("dir")
    args.add_argument("--kmdb", default="target/release/kmdb")
    args.add_argument("--runs", type=int, default=5)
    args.add_argument("--only", default=",".join(parts))
    args.add_argument("--mb", type=int, default=256, help="memory for the codecs")
    args.add_argument("--sparse-gb", type=int, default=64)
    args.add_argument("--scan-gb", type=int, default=8)
    args.add_argument("--debug", action="store_true", help="build the codecs without optimisation, to try this out")
    args = args.parse_args()
    if not os.access(args.kmdb, os.X_OK):
        sys.exit(f"{args.kmdb} is not there: cargo build --release, or --kmdb PATH")
    args.kmdb = os.path.abspath(args.kmdb)
    dump = Elf(args.dump)
    with tempfile.TemporaryDirectory(prefix="kmdb-bench-", dir=args.dir) as room:
        for name in args.only.split(","):
            parts[name](args, dump, os.path.abspath(room))
            sys.stdout.flush()


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Hunting in a large dump: searches, verification, what addresses are. Beside drgn where it can, and memory's own speed.

    KMDB_LAB=DIR corpus/lab/make.sh big-plain big-dbg
    benches/slab.py DIR/dumps/big-plain/vmcore.elf [DIR/kern/k612/vmlinux] [--runs 3] [--only kgrep,verify,...]

Wall and CPU seconds of whole processes, medians, page cache warm; "anon MB" is the most memory that they had beside the
mapped file. drgn would take hours over some questions: these it is asked of a part only, and the seconds are those of
that part times the rest (marked ~).
"""
import argparse
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time

from dumps import GB, look_through

HEAD = "import sys, time\nfrom drgn.helpers.linux.slab import *\nfrom drgn.helpers.linux import *\n"
MILLION = 1_000_000
# somewhere in every dump: a value that is there a few times
VALUE = 'prog["init_task"].address_of_().value_()'

DRGN = {
    "kgrep value": (f"print(sum(1 for _ in prog.search_memory_u64({VALUE})))", 1),
    "kgrep 1000 values": (
        "values = [int(line, 16) for line in open({values!r})]\nprint(sum(1 for _ in prog.search_memory_u64(*values)))", 1),
    "kgrep mask": (f"print(sum(1 for _ in prog.search_memory_u64({VALUE}, ignore_mask=0xfff)))", 1),
    "kgrep text": ("print(sum(1 for _ in prog.search_memory(b'lab_crowd_nowhere')))", 1),
    "kgrep regex": ("print(sum(1 for _ in prog.search_memory_regex(rb'init_[a-f]+_t[a-z]*k')))", 1),
    "whatis, 1 million": (
        "values = [int(line, 16) for line in open({values!r})]\nfor v in values: identify_address(prog, v)", MILLION / 1000),
    "walk kmem": (
        "n, start = 0, time.perf_counter()\nfor cache in for_each_slab_cache(prog):\n"
        "  for _ in slab_cache_for_each_allocated_object(cache, 'void'):\n    n += 1\n"
        "    if time.perf_counter() - start > 60: print('of', n); sys.exit()\n", None),
}


def kmdb_questions():
    """Name, command."""
    return {
        "status": "::status",
        "kmem_cache": "::kmem_cache | ::count",
        "walk kmem": "::walk kmem | ::count",
        "kmem_verify": "::kmem_verify -s | ::sum objects",
        "kgrep value": "init_task::kgrep | ::count",
        "kgrep 1000 values": "::walk dentry | ::head -n 1000 | ::kgrep | ::count",
        "kgrep mask": "init_task::kgrep -M fff | ::count",
        "kgrep text": "::kgrep -t lab_crowd_nowhere | ::count",
        "kgrep regex": "::kgrep -r 'init_[a-f]+_t[a-z]*k' | ::count",
        "whatis, 1 million": f"::walk kmem | ::head -n {MILLION} | ::whatis -q | ::count",
        "findleaks": "::findleaks ! tail -n 1",
    }


def measured(command):
    """Wall and CPU seconds, peak megabytes of memory that no file has, and the last line of one run."""
    start = time.perf_counter()
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    peak, said = [0], []
    reader = threading.Thread(target=lambda: said.append(child.stdout.read().decode(errors="replace")))
    reader.start()
    while reader.is_alive():
        try:
            with open(f"/proc/{child.pid}/status") as f:
                now = next((int(line.split()[1]) for line in f if line.startswith("RssAnon")), 0)
            peak[0] = max(peak[0], now)
        except OSError:
            pass
        reader.join(0.02)
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    lines = said[0].strip().splitlines() or [""]
    return wall, usage.ru_utime + usage.ru_stime, peak[0] / 1024, lines[-1], child.returncode


def median(command, runs):
    figures = sorted(measured(command) for _ in range(runs))
    return figures[len(figures) // 2]


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("dump")
    args.add_argument("vmlinux", nargs="?")
    args.add_argument("--kmdb", default="target/release/kmdb")
    args.add_argument("--runs", type=int, default=3)
    args.add_argument("--only", default="")
    args = args.parse_args()
    cores = len(os.sched_getaffinity(0))
    with multiprocessing.Pool(cores) as pool:
        bandwidth = sum(pool.map(look_through, [GB // 4] * cores, chunksize=1))
    print(f"memory: {bandwidth / 1e9:.1f} GB/s by memchr on {cores} cores; the dump has {os.path.getsize(args.dump) / 1e9:.1f} GB")
    print(f"  {'':34} {'wall s':>9} {'cpu s':>9} {'anon MB':>9} {'ratio':>9}  answer")
    room = tempfile.mkdtemp(prefix="kmdb-bench-")
    values = os.path.join(room, "values")
    ours = [args.kmdb, "--no-debuginfo", "-S", args.dump, "-e"]
    listed = subprocess.run(ours + ["::walk dentry | ::head -n 1000"], capture_output=True, text=True, check=True).stdout
    with open(values, "w") as f:
        f.write(listed)
    with open(args.dump, "rb") as f:  # warm
        while f.read(1 << 24):
            pass
    wanted = [word for word in args.only.split(",") if word]
    drgn = ["drgn"] if shutil.which("drgn") else [sys.executable, "-m", "drgn.cli"]
    for name, command in kmdb_questions().items():
        if wanted and not any(word in name for word in wanted):
            continue
        wall, cpu, peak, last, status = median(ours + [command], args.runs)
        answer = int(last) if last.strip().isdigit() else 0
        rate = f", {os.path.getsize(args.dump) / wall / 1e9:.1f} GB/s" if "kgrep" in name else ""
        print(f"  {name + ', kmdb':34} {wall:9.2f} {cpu:9.2f} {peak:9.0f} {'1':>9}  {last.strip()} (exit status {status}){rate}", flush=True)
        if not args.vmlinux or name not in DRGN:
            continue
        text, times = DRGN[name]
        script = os.path.join(room, "question.py")
        with open(script, "w") as f:
            f.write(HEAD + text.replace("{values!r}", repr(values)))
        theirs, cpu, peak, last, status = median(drgn + ["-q", "-c", args.dump, "-s", args.vmlinux, script], 1)
        whole = theirs * (times or 1)
        if times is None and last.startswith("of "):
            whole = theirs * answer / int(last.split()[1])
        mark = "~" if whole != theirs else ""
        print(f"  {name + ', drgn':34} {mark + format(whole, '.2f'):>9} {cpu:9.2f} {peak:9.0f} {whole / wall:8.1f}x  {last.strip()}", flush=True)
    shutil.rmtree(room)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Side by side with drgn and crash: the same dump, the same question, medians of several runs, and ratios.

    benches/peers.py DUMP [VMLINUX] [--runs 5] [--kmdb target/release/kmdb]

Questions: start to the answer of "what is this dump"; every allocated object of every slab cache. Wall time, CPU time
and peak memory of the whole process are measured. Peers that are not installed, or cannot open the dump, are named.
drgn (from PyPI) and crash need the vmlinux; kmdb is measured without it and with it.
"""
import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

DRGN_WALK = """
from drgn.helpers.linux.slab import for_each_slab_cache, slab_cache_for_each_allocated_object
n = 0
for cache in for_each_slab_cache(prog):
    for _ in slab_cache_for_each_allocated_object(cache, "void"):
        n += 1
print(n)
"""
DRGN_STATUS = """
print(prog["init_uts_ns"].name.release.string_().decode(), prog["jiffies"].value_())
"""


def measure(command, runs, stdin=None):
    """Median wall, CPU seconds and peak MB of a command; None if it fails."""
    walls, cpus, peaks, last = [], [], [], ""
    for _ in range(runs):
        start = time.perf_counter()
        child = subprocess.Popen(command, stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if stdin:
            child.stdin.write(stdin.encode())
            child.stdin.close()
        last = child.stdout.read().decode(errors="replace")
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            return None, last
        walls.append(time.perf_counter() - start)
        cpus.append(usage.ru_utime + usage.ru_stime)
        peaks.append(usage.ru_maxrss / 1024)
    return tuple(map(statistics.median, (walls, cpus, peaks))), last


def main():
    args = argparse.ArgumentParser()
    args.add_argument("dump")
    args.add_argument("vmlinux", nargs="?")
    args.add_argument("--runs", type=int, default=5)
    args.add_argument("--kmdb", default="target/release/kmdb")
    args = args.parse_args()
    kmdb = [args.kmdb, "-S", args.dump]
    bare = ["--no-debuginfo"]
    drgn = [sys.executable, "-m", "drgn.cli"] if not shutil.which("drgn") else ["drgn"]

    scripts = tempfile.mkdtemp(prefix="kmdb-bench-")

    def drgn_script(name, text):
        path = os.path.join(scripts, name + ".py")
        with open(path, "w") as f:
            f.write(text)
        return drgn + ["-q", "-c", args.dump, "-s", args.vmlinux, path]

    questions = {
        "status": [("kmdb", kmdb + bare + ["-e", "::status"], None)],
        "every allocated object": [("kmdb", kmdb + bare + ["-e", "::walk kmem | ::count"], None)],
    }
    if args.vmlinux:
        crash = ["crash", "-s", args.vmlinux, args.dump]
        questions["status"] += [
            ("kmdb + vmlinux", [args.kmdb, "-S", args.dump, args.vmlinux, "-e", "::status"], None),
            ("drgn", drgn_script("status", DRGN_STATUS), None),
            ("crash", crash, "sys\nquit\n"),
        ]
        questions["every allocated object"] += [
            ("drgn", drgn_script("walk", DRGN_WALK), None),
            ("crash", crash, "kmem -s\nquit\n"),
        ]
    for question, tools in questions.items():
        print(f"\n{question} (median of {args.runs})")
        print(f"  {'':16} {'wall s':>9} {'cpu s':>9} {'peak MB':>9} {'wall ratio':>11}")
        base = None
        for name, command, stdin in tools:
            if not shutil.which(command[0]) and not os.path.exists(command[0]):
                print(f"  {name:16} not installed")
                continue
            figures, last = measure(command, args.runs, stdin)
            if figures is None:
                print(f"  {name:16} failed: {last.strip().splitlines()[-1:] or ''}")
                continue
            wall, cpu, peak = figures
            base = base or wall
            print(f"  {name:16} {wall:9.3f} {cpu:9.3f} {peak:9.0f} {wall / base:10.1f}x")
    shutil.rmtree(scripts)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Side by side with bpftrace and perf: the same probe on the same workload, what each hit costs it.

    benches/probes.py [--kmdb target/release/kmdb] [--runs 5] [--hits 2000000]

Needs root, cc, and tracefs for the tracepoint. The workload measures itself: CPU time of its loop, without and with a
probe, in ns for each turn. Tools are run in turn, one workload each, and the medians of all turns are shown, with what is
left when the loop's own cost is taken away, and the ratio to bpftrace. A tool that is not installed is left out. Beside
that, from the start of a tool to its first count: a command that does nothing, wall time and peak memory of the whole.
"""
import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

SOURCE = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/syscall.h>
#include <unistd.h>
__attribute__((noinline)) void step(long n) { __asm__ volatile("" : : "r"(n) : "memory"); }
int main(int count, char **words) {
    long hits = strtol(words[2], 0, 10);
    int call = !strcmp(words[1], "syscall");
    struct timespec a, b;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
    for (long i = 0; i < hits; i++) if (call) syscall(SYS_getppid); else step(i & 1023);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
    FILE *out = fopen(words[3], "w");
    fprintf(out, "%f\n", ((b.tv_sec - a.tv_sec) * 1e9 + (b.tv_nsec - a.tv_nsec)) / hits);
    fclose(out);
    return 0;
}
"""


def cases(program):
    """Name, what the workload does, and the question as each tool has it."""
    return [
        ("uprobe, count", "call",
         f"u:{program}:step -C 'RUN' | ::count",
         f"uprobe:{program}:step {{ @ = count(); }}"),
        ("uprobe, quantize", "call",
         f"u:{program}:step -C 'RUN' | ::quantize arg0",
         f"uprobe:{program}:step {{ @ = hist(arg0); }}"),
        ("uprobe, by comm", "call",
         f"u:{program}:step -C 'RUN' | ::group comm | ::count",
         f"uprobe:{program}:step {{ @[comm] = count(); }}"),
        ("tracepoint, by comm", "syscall",
         "t:syscalls:sys_enter_getppid | ::group comm | ::count",
         "tracepoint:syscalls:sys_enter_getppid { @[comm] = count(); }"),
    ]


def measured(path):
    return float(open(path).read())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kmdb", default="target/release/kmdb")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--hits", type=int, default=2_000_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as room:
        program, result = os.path.join(room, "steps"), os.path.join(room, "ns")
        with open(program + ".c", "w") as file:
            file.write(SOURCE)
        subprocess.run(["cc", "-O0", "-o", program, program + ".c"], check=True)
        kmdb = os.path.abspath(args.kmdb)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "timeout": 300}
        print(f"{'':22}{'loop':>8}{'kmdb':>10}{'bpftrace':>10}{'perf':>10}  ns a turn; added: kmdb, bpftrace, ratio")
        for name, does, ours, theirs in cases(program):
            run = f"{program} {does} {args.hits} {result}"
            tools = {"loop": lambda: subprocess.run(run.split(), check=True, **quiet)}

            def by_kmdb(ours=ours, run=run):
                line = "::probe " + ours.replace("RUN", run)
                if "-C" not in ours:
                    line = line.replace(" | ", f" -C '{run}' | ", 1)
                subprocess.run([kmdb, "-k", "-e", line], check=True, **quiet)
            tools["kmdb"] = by_kmdb
            if shutil.which("bpftrace"):
                tools["bpftrace"] = lambda: subprocess.run(["bpftrace", "-e", theirs, "-c", run], check=True, **quiet)
            if shutil.which("perf") and does == "syscall":
                stat = ["perf", "stat", "-e", "syscalls:sys_enter_getppid"]
                tools["perf"] = lambda: subprocess.run(stat + run.split(), check=True, **quiet)
            times = {tool: [] for tool in tools}
            for _ in range(args.runs):
                for tool, start in tools.items():
                    start()
                    times[tool].append(measured(result))
            median = {tool: statistics.median(all_) for tool, all_ in times.items()}
            cells = "".join(f"{median[t]:10.1f}" if t in median else f"{'–':>10}" for t in ("kmdb", "bpftrace", "perf"))
            added = {tool: median[tool] - median["loop"] for tool in median if tool != "loop"}
            ratio = f"{added['kmdb'] / added['bpftrace']:.2f}" if "bpftrace" in added else "–"
            print(f"{name:22}{median['loop']:8.1f}{cells}  {added['kmdb']:.0f} {added.get('bpftrace', 0):.0f} {ratio}")
            sys.stdout.flush()
        starts(args, kmdb, program, result)


def starts(args, kmdb, program, result):
    """Whole processes around a command that does nothing."""
    run = f"{program} call 1 {result}"
    tools = {"kmdb": [kmdb, "-k", "-e", f"::probe u:{program}:step -C '{run}' | ::count"]}
    if shutil.which("bpftrace"):
        tools["bpftrace"] = ["bpftrace", "-e", f"uprobe:{program}:step {{ @ = count(); }}", "-c", run]
    print("\nstart to end around one hit, median wall ms, peak MB")
    for tool, command in tools.items():
        walls, peaks = [], []
        for _ in range(args.runs):
            begun = time.perf_counter()
            pid = os.posix_spawn(shutil.which(command[0]), command, os.environ,
                                 file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                                               (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)])
            _, _, usage = os.wait4(pid, 0)
            walls.append((time.perf_counter() - begun) * 1000)
            peaks.append(usage.ru_maxrss / 1024)
        print(f"{tool:10}{statistics.median(walls):10.0f}{statistics.median(peaks):10.1f}")


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()

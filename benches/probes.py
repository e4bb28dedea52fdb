#!/usr/bin/env python3
"""Side by side with bpftrace and perf: the same probe on the same workload, what each hit costs it.

    benches/probes.py [--kmdb target/release/kmdb] [--runs 5] [--hits 2000000]

Needs root, cc, and tracefs for the tracepoint. The workload measures itself: CPU time of its loop, without and with a
probe, in ns for each turn. Tools are run in turn, one workload each, and the medians of all turns are shown, with what is
left when the loop's own cost is taken away, and the ratio to bpftrace. A tool that is not installed is left out. Beside
that: from the start of a tool until a program that runs already feels the probe; from start to end around a command that
does nothing, wall time and peak memory of the whole; and how many of the events of a program that calls 200,000 times a
second reach a file.
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
__attribute__((noinline)) void named(const char *name) { __asm__ volatile("" : : "r"(name) : "memory"); }
static const char *names[8] = {"alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"};
static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}
/* Until calls cost more than half a trap, four times in a row; the time at which they began to, in ms. */
static double felt(void) {
    double first = 0, end = now() + 5000;
    for (int slow = 0; slow < 4 && now() < end;) {
        double start = now();
        for (int i = 0; i < 64; i++) step(i);
        if (now() - start < 64 * 200e-6) { slow = 0; continue; }
        if (!slow++) first = start;
    }
    return first;
}
/* So many calls at 200,000 a second, in thousands of 5 ms. */
static void paced(long hits) {
    double next = now();
    for (long i = 0; i < hits; i++) {
        step(i & 1023);
        if (i % 1000 == 999) for (next += 5; now() < next;) ;
    }
}
int main(int count, char **words) {
    long hits = strtol(words[2], 0, 10);
    FILE *begun = !strcmp(words[1], "felt") ? fopen(words[3], "w") : 0;
    if (begun) { fprintf(begun, "%f\n", felt()); fclose(begun); return 0; }
    if (!strcmp(words[1], "paced")) { paced(hits); return 0; }
    int call = !strcmp(words[1], "syscall"), name = !strcmp(words[1], "named");
    struct timespec a, b;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
    for (long i = 0; i < hits; i++)
        if (call) syscall(SYS_getppid); else if (name) named(names[i & 7]); else step(i & 1023);
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
        ("tracepoint, by stack", "syscall",
         "t:syscalls:sys_enter_getppid | ::group stack | ::count",
         "tracepoint:syscalls:sys_enter_getppid { @[kstack] = count(); }"),
        ("uprobe, by text", "named",
         f"u:{program}:named -C 'RUN' | ::group name | ::count",
         f"uprobe:{program}:named {{ @[str(arg0)] = count(); }}"),
        ("uprobe, by ustack", "call",
         f"u:{program}:step -f -C 'RUN' | ::group ustack | ::count",
         f"uprobe:{program}:step {{ @[ustack] = count(); }}"),
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
        subprocess.run(["cc", "-O0", "-g", "-fno-omit-frame-pointer", "-o", program, program + ".c"], check=True)
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
        attached(args, kmdb, program, result)
        starts(args, kmdb, program, result)
        streamed(args, kmdb, program, result, room)


def attached(args, kmdb, program, result):
    """From the start of a tool until the program feels the probe."""
    tools = {"kmdb": [kmdb, "-k", "-e", f"::probe u:{program}:step -d 2s | ::count"]}
    if shutil.which("bpftrace"):
        tools["bpftrace"] = ["bpftrace", "-e", f"uprobe:{program}:step {{ @ = count(); }} interval:s:2 {{ exit(); }}"]
    waits = {tool: [] for tool in tools}
    for _ in range(args.runs):
        for tool, command in tools.items():
            workload = subprocess.Popen([program, "felt", "0", result])
            time.sleep(0.2)
            begun = time.monotonic() * 1000
            watcher = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            workload.wait(timeout=60)
            waits[tool].append(measured(result) - begun)
            watcher.wait(timeout=60)
    print("\nstart to attached, ms: median, all")
    for tool, all_ in waits.items():
        print(f"{tool:10}{statistics.median(all_):10.0f}  {' '.join(f'{ms:.0f}' for ms in sorted(all_))}")


def streamed(args, kmdb, program, result, room):
    """What of the events of a program that calls 200,000 times a second reaches a file."""
    hits, path = 1_000_000, os.path.join(room, "events")
    run = f"{program} paced {hits} {result}"
    tools = {"kmdb": [kmdb, "-k", "-e", f"::probe u:{program}:step -C '{run}' | ::print arg0"]}
    if shutil.which("bpftrace"):
        tools["bpftrace"] = ["bpftrace", "-e", f'uprobe:{program}:step {{ printf("%d\\n", arg0); }}', "-c", run]
    print(f"\n{hits} events in 5 s, as lines of a file: lines, what was said of losses, wall s")
    for tool, command in tools.items():
        begun = time.perf_counter()
        with open(path, "w") as out:
            said = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, text=True, timeout=300).stderr
        wall = time.perf_counter() - begun
        with open(path) as file:
            lines = sum(1 for line in file if line.strip())
        lost = [line for line in said.splitlines() if "lost" in line.lower()]
        print(f"{tool:10}{lines:10}  {lost[-1] if lost else 'none lost':50}{wall:6.1f}")


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

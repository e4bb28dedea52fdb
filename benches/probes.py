#!/usr/bin/env python3
"""Side by side with bpftrace, BCC and perf: the same probe on the same workload, what each hit costs it.

    benches/probes.py [--kmdb target/release/kmdb] [--runs 5] [--hits 2000000] [--only WORD]
                      [--bpftrace COMMAND]... [--bcc COMMAND]

Several bpftraces may be compared; `{}` in the command for BCC stands for the name of a tool (`{}-bpfcc`, which is Debian's).

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
import signal
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
    """Name, what the workload does, and the question as kmdb, bpftrace, BCC and perf have it."""
    return [
        ("uprobe, count", "call",
         f"u:{program}:step -C 'RUN' | ::count",
         f"uprobe:{program}:step {{ @ = count(); }}",
         ["funccount", f"{program}:step"], f"{EVENT}:step"),
        ("uprobe, quantize", "call",
         f"u:{program}:step -C 'RUN' | ::quantize arg0",
         f"uprobe:{program}:step {{ @ = hist(arg0); }}",
         ["argdist", "-i", "1", "-H", f"p:{program}:step(long n):long:n"], None),
        ("uprobe, by comm", "call",
         f"u:{program}:step -C 'RUN' | ::group comm | ::count",
         f"uprobe:{program}:step {{ @[comm] = count(); }}", None, None),
        ("tracepoint, by comm", "syscall",
         "t:syscalls:sys_enter_getppid | ::group comm | ::count",
         "tracepoint:syscalls:sys_enter_getppid { @[comm] = count(); }",
         ["funccount", "t:syscalls:sys_enter_getppid"], "syscalls:sys_enter_getppid"),
        ("tracepoint, by stack", "syscall",
         "t:syscalls:sys_enter_getppid | ::group stack | ::count",
         "tracepoint:syscalls:sys_enter_getppid { @[kstack] = count(); }",
         ["stackcount", "-K", "t:syscalls:sys_enter_getppid"], None),
        ("uprobe, by text", "named",
         f"u:{program}:named -C 'RUN' | ::group name | ::count",
         f"uprobe:{program}:named {{ @[str(arg0)] = count(); }}",
         ["argdist", "-i", "1", "-C", f"p:{program}:named(char *name):char*:name"], None),
        ("uprobe, by ustack", "call",
         f"u:{program}:step -f -C 'RUN' | ::group ustack | ::count",
         f"uprobe:{program}:step {{ @[ustack] = count(); }}",
         ["stackcount", "-U", f"{program}:step"], None),
    ]


EVENT = "probe_steps"
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "timeout": 300}


def by_kmdb(kmdb, line, run):
    line = "::probe " + line.replace("RUN", run)
    if "-C" not in line:
        line = line.replace(" | ", f" -C '{run}' | ", 1)
    subprocess.run([kmdb, "-k", "-e", line], check=True, **QUIET)


def by_bcc(command, words, run):
    """Its tools start no programs: the workload runs once they say that they trace, or print for the first time."""
    env = dict(os.environ, PYTHONUNBUFFERED="1")
    tool = subprocess.Popen(command.replace("{}", words[0]).split() + words[1:], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, env=env, text=True)
    for line in tool.stdout:
        if "Ctrl-C" in line or line.startswith("["):
            break
    else:
        sys.exit(f"{words[0]} of BCC ended early")
    subprocess.run(run.split(), check=True, **QUIET)
    tool.send_signal(signal.SIGINT)
    tool.communicate(timeout=120)


def peers(args, kmdb, case, result, program):
    """What starts the workload, by the tool that watches it."""
    _, does, ours, theirs, bcc, event = case
    run = f"{program} {does} {args.hits} {result}"
    tools = {"loop": lambda: subprocess.run(run.split(), check=True, **QUIET),
             "kmdb": lambda: by_kmdb(kmdb, ours, run)}
    for name, command in args.bpftrace.items():
        tools[name] = lambda command=command: subprocess.run([*command, "-e", theirs, "-c", run], check=True, **QUIET)
    if bcc and args.bcc:
        tools["bcc"] = lambda: by_bcc(args.bcc, bcc, run)
    if event and shutil.which("perf"):
        tools["perf"] = lambda: subprocess.run(["perf", "stat", "-e", event, *run.split()], check=True, **QUIET)
    return tools


def measured(path):
    return float(open(path).read())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kmdb", default="target/release/kmdb")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--hits", type=int, default=2_000_000)
    parser.add_argument("--only", default="", help="rows and tables whose names have this word")
    parser.add_argument("--bpftrace", action="append", default=[])
    parser.add_argument("--bcc", default="{}-bpfcc")
    args = parser.parse_args()
    found = [command.split() for command in args.bpftrace or ["bpftrace"] if shutil.which(command.split()[0])]
    said = [subprocess.run([*command, "--version"], capture_output=True, text=True).stdout for command in found]
    args.bpftrace = {"bpftrace" + text.split("v")[-1].strip().rpartition(".")[0]: command for text, command in zip(said, found)}
    if not shutil.which(args.bcc.replace("{}", "funccount").split()[0]):
        args.bcc = None
    with tempfile.TemporaryDirectory() as room:
        program, result = os.path.join(room, "steps"), os.path.join(room, "ns")
        with open(program + ".c", "w") as file:
            file.write(SOURCE)
        subprocess.run(["cc", "-O0", "-g", "-fno-omit-frame-pointer", "-o", program, program + ".c"], check=True)
        kmdb = os.path.abspath(args.kmdb)
        has_perf = shutil.which("perf") is not None
        if has_perf:
            subprocess.run(["perf", "probe", "-q", "-x", program, f"{EVENT}:step=step"], **QUIET)
        try:
            hits(args, kmdb, program, result)
        finally:
            if has_perf:
                subprocess.run(["perf", "probe", "-q", "-d", f"{EVENT}:*"], **QUIET)
        for table in (attached, starts, streamed):
            if args.only in table.__name__:
                table(args, kmdb, program, result, room)


def hits(args, kmdb, program, result):
    """What a hit costs the workload."""
    columns = ["kmdb", *args.bpftrace, *(["bcc"] if args.bcc else []), "perf"]
    print("added ns a turn: medians; least and most in brackets\n")
    print(f"{'':22}{'loop':>7}" + "".join(f"{tool:>14}" for tool in columns) + "   kmdb, of each bpftrace")
    for case in cases(program):
        if args.only not in case[0]:
            continue
        tools = peers(args, kmdb, case, result, program)
        times = {tool: [] for tool in tools}
        for _ in range(args.runs):
            for tool, start in tools.items():
                start()
                times[tool].append(measured(result))
        loop = statistics.median(times["loop"])
        added = {tool: [ns - loop for ns in all_] for tool, all_ in times.items()}
        median = {tool: statistics.median(all_) for tool, all_ in added.items()}
        cells = "".join(f"{median[tool]:14.0f}" if tool in median else f"{'–':>14}" for tool in columns)
        ratios = " ".join(f"{median['kmdb'] / median[name]:.2f}" for name in args.bpftrace)
        spread = " ".join(f"{tool} {min(added[tool]):.0f}–{max(added[tool]):.0f}" for tool in columns if tool in added)
        print(f"{case[0]:22}{loop:7.0f}{cells}   {ratios}   ({spread})", flush=True)


def attached(args, kmdb, program, result, _):
    """From the start of a tool until the program feels the probe."""
    tools = {"kmdb": [kmdb, "-k", "-e", f"::probe u:{program}:step -d 2s | ::count"]}
    for name, command in args.bpftrace.items():
        tools[name] = [*command, "-e", f"uprobe:{program}:step {{ @ = count(); }} interval:s:2 {{ exit(); }}"]
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
        print(f"{tool:14}{statistics.median(all_):10.0f}  {' '.join(f'{ms:.0f}' for ms in sorted(all_))}")


def streamed(args, kmdb, program, result, room):
    """What of the events of a program that calls 200,000 times a second reaches a file."""
    hits, path = 1_000_000, os.path.join(room, "events")
    run = f"{program} paced {hits} {result}"
    tools = {"kmdb": [kmdb, "-k", "-e", f"::probe u:{program}:step -C '{run}' | ::print arg0"]}
    for name, command in args.bpftrace.items():
        tools[name] = [*command, "-e", f'uprobe:{program}:step {{ printf("%d\\n", arg0); }}', "-c", run]
    print(f"\n{hits} events in 5 s, as lines of a file: lines, what was said of losses, wall s")
    for tool, command in tools.items():
        begun = time.perf_counter()
        with open(path, "w") as out:
            said = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, text=True, timeout=300).stderr
        wall = time.perf_counter() - begun
        with open(path) as file:
            lines = sum(1 for line in file if line.strip())
        lost = [line for line in said.splitlines() if "lost" in line.lower()]
        print(f"{tool:14}{lines:10}  {lost[-1] if lost else 'none lost':50}{wall:6.1f}")


def starts(args, kmdb, program, result, _):
    """Whole processes around a command that does nothing."""
    run = f"{program} call 1 {result}"
    tools = {"kmdb": [kmdb, "-k", "-e", f"::probe u:{program}:step -C '{run}' | ::count"]}
    for name, command in args.bpftrace.items():
        tools[name] = [*command, "-e", f"uprobe:{program}:step {{ @ = count(); }}", "-c", run]
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
        print(f"{tool:14}{statistics.median(walls):10.0f}{statistics.median(peaks):10.1f}")


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()

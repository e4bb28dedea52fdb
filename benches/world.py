#!/usr/bin/env python3
"""Stacks, processes, names and open files of a crowded machine: kmdb, drgn and crash over the same dump.

    KMDB_LAB=DIR corpus/lab/make.sh crowd-k61
    benches/world.py DIR/dumps/crowd-k61/vmcore.elf DIR/kern/k61/vmlinux [--runs 3] [--kmdb target/release/kmdb] [--only NAME]

2,000 processes, 20,000 open files, a million names. Of whole processes, runs taking turns: medians of CPU seconds (user
and system) and of wall seconds, and the ratio of CPU seconds to kmdb's. kmdb is given the dump alone, the peers the
vmlinux too. Every tool counts what it found, so that it can be seen that they found the same. What a peer takes longer
for than --patience seconds of wall time is shown as that.
"""
import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
import time

KMDB = {
    "start": "::status",
    "ps": "::ps",
    "stacks": "::walk thread | ::stack",
    "grouped": "::stacks",
    "files": "::lsof",
    "names": "::dentry",
    "triage": "::triage",
}
# every name is put together and written, as kmdb's table is
DRGN = {
    "start": "print(prog['init_uts_ns'].name.release.string_())",
    "ps": "for t in for_each_task(prog): print(t.pid.value_(), task_state_to_char(t), t.comm.string_())",
    "stacks": ("for t in for_each_task(prog):\n  try: print(prog.stack_trace(t))\n  except ValueError as e: print(e)"),
    "files": ("for t in for_each_task(prog):\n  if t.tgid.value_() == t.pid.value_():\n"
              "    for fd, f in for_each_file(t): print(t.pid.value_(), fd, d_path(f.f_path))"),
    "names": ("for sb in list_for_each_entry('struct super_block', prog['super_blocks'].address_of_(), 's_list'):\n"
              "  todo = [sb.s_root]\n"
              "  while todo:\n    d = todo.pop()\n    if d: print(dentry_path(d)); todo += CHILDREN(d)"),
}
HEAD = """from drgn.helpers.linux import *
def CHILDREN(d):
    if hasattr(d, 'd_children'):
        return list(hlist_for_each_entry('struct dentry', d.d_children.address_of_(), 'd_sib'))
    return list(list_for_each_entry('struct dentry', d.d_subdirs.address_of_(), 'd_child'))
"""
CRASH = {"start": "sys", "ps": "ps", "stacks": "foreach bt", "files": "foreach files"}


def run(command, patience, stdin=None):
    """Lines of output, wall seconds, CPU seconds; no seconds if it took longer."""
    start = time.perf_counter()
    with tempfile.TemporaryFile() as out:
        child = subprocess.Popen(["timeout", "-s", "KILL", str(patience), *command], stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                                 stdout=out, stderr=subprocess.DEVNULL)
        if stdin:
            child.stdin.write(stdin.encode())
            child.stdin.close()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        lines = sum(chunk.count(b"\n") for chunk in iter(lambda: out.read(1 << 20), b""))
    done = child.returncode in (0, 1)
    return lines, time.perf_counter() - start if done else None, usage.ru_utime + usage.ru_stime if done else None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("dump")
    parser.add_argument("vmlinux")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--kmdb", default="target/release/kmdb")
    parser.add_argument("--patience", type=int, default=600)
    parser.add_argument("--only", default=",".join(KMDB))
    args = parser.parse_args()
    scripts = tempfile.mkdtemp(prefix="kmdb-bench-")
    print(f"{'':10} {'':7} {'lines':>9} {'cpu s':>9} {'wall s':>9} {'cpu ratio':>10}")
    for name in args.only.split(","):
        tools = {"kmdb": ([args.kmdb, "-S", "--no-debuginfo", args.dump, "-e", KMDB[name]], None)}
        if name in DRGN and shutil.which("drgn"):
            path = os.path.join(scripts, name + ".py")
            with open(path, "w") as f:
                f.write(HEAD + DRGN[name])
            tools["drgn"] = (["drgn", "-q", "-c", args.dump, "-s", args.vmlinux, path], None)
        if name in CRASH and shutil.which("crash"):
            tools["crash"] = (["crash", "-s", args.vmlinux, args.dump], CRASH[name] + "\nquit\n")
        taken = {tool: [] for tool in tools}
        for i in range(args.runs):
            for tool, (command, stdin) in tools.items():
                # a peer that takes minutes is asked once
                if i == 0 or (taken[tool][0][1] or args.patience) < 60:
                    taken[tool].append(run(command, args.patience, stdin))
        base = None
        for tool, runs in taken.items():
            cpus, walls = ([r[i] for r in runs if r[i] is not None] for i in (2, 1))
            if not cpus:
                print(f"{name:10} {tool:7} {runs[0][0]:9} {'-':>9} {f'>{args.patience}':>9}")
                continue
            cpu = statistics.median(cpus)
            base = base or cpu
            print(f"{name:10} {tool:7} {runs[-1][0]:9} {cpu:9.3f} {statistics.median(walls):9.3f} {cpu / base:9.0f}x", flush=True)
    shutil.rmtree(scripts)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""compare-crash.py [--said FILE] KMDB DUMP VMLINUX [QUESTION...]   what crash says of a dump beside what kmdb says; exit
status 1 if they differ, 3 if there is no crash, or none that reads this kernel (crash 8: up to 6.1 or so).

Each answer becomes a set of facts, and what only one of them has is printed. crash is given the vmlinux, kmdb the dump
alone. Both are asked once; --said keeps crash's answers in a file, or takes them from there if it exists.
"""
import json
import os
import re
import shutil
import subprocess
import sys

ADDR = "([0-9a-f]{16})"


def number(value):
    """A number of JSON, or an address with its type."""
    value = value["addr"] if isinstance(value, dict) else value
    return int(value, 16) if isinstance(value, str) else value


def addresses(pattern):
    """Facts are the groups of a pattern, of which those that look like addresses are numbers."""
    def facts(said):
        for found in re.finditer(pattern, said, re.M):
            fact = tuple(int(g, 16) if re.fullmatch("[0-9a-f]{16}", g) else int(g) if g.isdigit() else g for g in found.groups())
            yield fact if len(fact) > 1 else fact[0]
    return facts


def columns(*names):
    """Facts are these columns of the rows."""
    def facts(rows):
        for row in rows:
            fact = tuple(number(row[n]) if str(row[n]).startswith("0x") or isinstance(row[n], dict) else row[n] for n in names)
            if None not in fact:
                yield fact if len(fact) > 1 else fact[0]
    return facts


def of_tasks(pattern):
    """As addresses(), of what is said below a line for each task; its pid comes first."""
    def facts(said):
        for block in re.split(r"^(?=PID: )", said, flags=re.M)[1:]:
            pid = int(re.match(r"PID: (\d+)", block)[1])
            for fact in addresses(pattern)(block):
                yield (pid, *fact) if isinstance(fact, tuple) else (pid, fact)
    return facts


def states(said):
    """crash's states are of two letters, kmdb's those of ps."""
    letters = {"RU": "R", "IN": "S", "UN": "D", "ID": "I", "ZO": "Z", "ST": "T", "TR": "t"}
    return ((a, p, letters.get(s, s)) for p, a, s in re.findall(rf"^[> ]\s+(\d+)\s+\d+\s+\d+\s+{ADDR}\s+(\S\S)", said, re.M) if p != "0")


def sizes(said):
    return ((int(p), int(v)) for p, v in re.findall(r"^[> ]\s+(\d+)\s+\d+\s+\d+\s+[0-9a-f]{16}\s+\S\S\s+[\d.]+\s+(\d+)", said, re.M) if v != "0")


def ranges(said):
    return (tuple(int(n, 16) for n in found) for found in re.findall(rf"^{ADDR}\s+([0-9a-f]+)\s+([0-9a-f]+)\s+[0-9a-f]+\s", said, re.M))


def their_stacks(said):
    """Of each task that sleeps, where its calls return to."""
    for block in re.split(r"^(?=PID: )", said, flags=re.M)[1:]:
        pid, task = re.match(rf"PID: (\d+)\s+TASK: {ADDR}", block).groups()
        calls = re.findall(rf"^ #\d+ \[{ADDR}\] (\S+) at {ADDR}", block, re.M)
        if pid != "0" and calls and calls[0][1] == "__schedule":
            yield int(task, 16), tuple(int(pc, 16) for _, _, pc in calls)


def our_stacks(rows):
    stacks = {}
    for row in rows:
        stacks.setdefault(number(row["thread"]), []).append((number(row["pc"]), row["function"]))
    for task, frames in stacks.items():
        if frames[0][1].startswith("__schedule"):
            yield task, tuple(pc for pc, _ in frames)


def crashs_own(missing, extra):
    """Stacks that crash gives up or strays from: its frames are the first of kmdb's, or kmdb's with others left over on the stack
    between them. drgn has kmdb's."""
    ours, excused = dict(extra), set()
    for task, calls in missing:
        mine, rest = ours.get(task, ()), iter(calls)
        if mine[:len(calls)] == calls or mine and all(pc in rest for pc in mine):
            excused.add(task)
    return excused


def memory(said):
    """Pages by what they are for. Its SLAB is less than its own `kmem -s` adds up to, and COMMITTED lacks what CPUs hold back."""
    names = {"TOTAL MEM": "MemTotal", "FREE": "MemFree", "BUFFERS": "Buffers", "TOTAL SWAP": "SwapTotal",
             "CACHED": "Cached", "COMMIT LIMIT": "CommitLimit"}
    return ((names[name], int(pages) * 4) for name, pages in re.findall(r"^\s*(\S+(?: \S+)*)\s+(\d+)\s", said, re.M) if name in names)


def counters(said):
    # what /proc/vmstat has in kB is in sectors
    unit = lambda name: 2 if name in ("PGPGIN", "PGPGOUT") else 1
    return ((n.lower().replace("_", ""), int(v) // unit(n)) for n, v in re.findall(r"^\s*([A-Za-z_0-9]+):\s+(\d+)$", said, re.M))


def handlers_of_signals(said):
    for block in re.split(r"^(?=PID: )", said, flags=re.M)[1:]:
        pid = int(re.match(r"PID: (\d+)", block)[1])
        for number_, handler in re.findall(rf"^\s*\[(\d+)\]\s+[0-9a-f]{{16}}\s+(\S+)", block, re.M):
            if handler != "SIG_DFL":
                yield pid, int(number_), "ignored" if handler == "SIG_IGN" else int(handler, 16)


def our_handlers(rows):
    for row in rows:
        if row["handler"] not in (None, "", "default"):
            yield row["pid"], row["number"], "ignored" if row["handler"] == "ignored" else int(row["handler"], 16)


def their_zones(said):
    for block in re.split(r"^(?=NODE: )", said, flags=re.M)[1:]:
        if found := re.match(rf"NODE: \d+\s+ZONE: \d+\s+ADDR: {ADDR}\s+NAME: \"(\S+)\"", block):
            values = dict(re.findall(r"(\w+):\s+(\d+)", block))
            yield int(found[1], 16), found[2], int(values.get("SIZE", 0)), int(values.get("NR_FREE_PAGES", 0))


def interrupts(said):
    return ((n, int(a, 16)) for n, a in re.findall(rf"^\s*(\d+)\s+{ADDR}\s", said, re.M))


def log(said):
    return (m.strip() for m in re.findall(r"^(?:\[\s*\d+\.\d+\]| {14}) (.*)$", said, re.M))


# name: what crash is asked, what kmdb is asked, and how facts are made of the answers
QUESTIONS = {
    "processes": ("ps", "::ps -t", lambda said: ((int(a, 16), int(p), s) for a, p, s in states(said)), columns("addr", "tid", "s")),
    "memory of processes": ("ps -G", "::ps -m", sizes, columns("pid", "vsz")),
    "stacks": ("foreach bt", "::walk thread | ::stack", their_stacks, our_stacks),
    "files": ("foreach gleader files", "::walk task | ::pfiles", of_tasks(rf"^\s*(\d+)\s+{ADDR}\s"), columns("pid", "fd", "file")),
    "mappings": ("foreach vm", "::walk task | ::vmas", ranges, columns("addr", "start", "end")),
    "handlers of signals": ("foreach sig", "::walk thread | ::sig", handlers_of_signals, our_handlers),
    "mounts": ("mount", "::mounts", addresses(rf"^{ADDR} {ADDR} (\S+)"), columns("addr", "sb", "fs")),
    "modules": ("mod", "::modules", addresses(rf"^{ADDR}\s+(\S+)\s+[0-9a-f]{{16}}\s+(\d+)"), columns("addr", "name", "size")),
    "pci devices": ("dev -p", "::pci", addresses(r"^\s*[0-9a-f]{16}\s+(\S+:[0-9a-f]{2}\.\d)"), columns("name")),
    "interrupts": ("irq", "::irqs -a", interrupts, columns("irq", "addr")),
    "their handlers": ("irq", "::irqs -d", addresses(rf"{ADDR}\s+\"([^\"]+)\"$"), columns("addr", "name")),
    "timers": ("timer", "::timers", addresses(rf"^\s*-?\d+\s+-?\d+\s+{ADDR}\s+[0-9a-f]{{16}}"), columns("addr")),
    "hrtimers": ("timer -r", "::hrtimers", addresses(rf"^\s*\d+\s+-?\d+\s+-?\d+\s+{ADDR}\s"), columns("addr")),
    "slab caches": ("kmem -s", "::kmem_cache", addresses(rf"^{ADDR}\s+(\d+)\s+\d+\s+\d+\s+\d+\s+\S+\s+(\S+)$"), columns("addr", "objsize", "name")),
    "memory": ("kmem -i", "::meminfo", memory, columns("name", "value")),
    "counters": ("kmem -V", "::vmstat", counters, lambda rows: ((r["name"].replace("_", ""), r["value"]) for r in rows)),
    "vmalloc": ("kmem -v", "::vmem", addresses(rf"^{ADDR}\s+{ADDR}\s+{ADDR} - {ADDR}\s+(\d+)"), columns("addr", "vm", "start", "end", "size")),
    "zones": ("kmem -z", "::zones", their_zones, columns("addr", "name", "spanned", "free")),
    "run queues": ("runq", "::runq", addresses(rf"CURRENT: PID: [1-9]\d*\s+TASK: {ADDR}"), columns("addr")),
    "log": ("log", "::msgbuf", log, lambda rows: (line.strip() for r in rows for line in r["message"].split("\n"))),
    "network devices": ("net", "::netdev", addresses(rf"^{ADDR}\s+(\S+)"), columns("addr", "name")),
    "sockets": ("foreach gleader net -s", "::netstat -ap | ::where 'fd >= 0'", of_tasks(rf"^\s*(\d+)\s+[0-9a-f]{{16}}\s+{ADDR}\s"), columns("pid", "fd", "addr")),
    "devices": ("dev", "::chrdevs", addresses(r"^\s*(\d+)\s{1,8}(\S+)\s+(?:[0-9a-f]{16}|\(none\))"), columns("major", "name")),
    "disks": ("dev -d", "::blk", addresses(rf"^\s*\d+\s+{ADDR}\s+(\S+)\s+{ADDR}"), columns("disk", "name", "queue")),
    "System V": ("ipcs", "::ipcs", addresses(rf"^{ADDR}\s+([0-9a-f]{{8}})\s+(\d+)"), lambda rows: ((a, f"{number(k):08x}", i) for a, k, i in columns("addr", "key", "id")(rows))),
}
# facts begin with a name, and only names that both know are compared: crash calls some counters as the kernel's source does,
# others as /proc does, says nothing of disks that were never used, and shows no second network namespace
BY_NAME = {"memory", "counters", "zones", "disks", "network devices"}


def crash(dump, vmlinux, names, said):
    if said and os.path.exists(said):
        with open(said, errors="replace") as f:
            answers = f.read()
    else:
        asked = dict.fromkeys(QUESTIONS[name][0] for name in names)
        script = "".join(f"!echo '@@ {question}'\n{question}\n" for question in asked) + "!echo @@ end\nq\n"
        command = ["timeout", "-s", "KILL", "1500", "crash", "-s", vmlinux, dump]
        answers = subprocess.run(command, input=script, capture_output=True, text=True, errors="replace").stdout
        if said:
            with open(said, "w") as f:
                f.write(answers)
    parts = re.split(r"^@@ (.+)\n", answers, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2]))


def kmdb(program, dump, names):
    command = [program, "-S", "--no-debuginfo", "-o", "json", dump]
    for name in names:
        command += ["-e", f"::echo @@ {name}", "-e", QUESTIONS[name][1]]
    said, current = {}, []
    for line in subprocess.run(command, capture_output=True, text=True, errors="replace").stdout.splitlines():
        row = json.loads(line)
        if str(row.get("text", "")).startswith("@@ "):
            current = said.setdefault(row["text"][3:].strip(), [])
        else:
            current.append(row)
    return said


def main():
    arguments, said = sys.argv[1:], None
    if arguments[:1] == ["--said"]:
        said, arguments = arguments[1], arguments[2:]
    program, dump, vmlinux = arguments[:3]
    names = arguments[3:] or list(QUESTIONS)
    if not shutil.which("crash"):
        print("crash is not installed")
        sys.exit(3)
    theirs = crash(dump, vmlinux, names, said)
    if not theirs:
        print("crash does not read this dump")
        sys.exit(3)
    ours, differ = kmdb(program, dump, names), False
    for name in names:
        question, _, told, known = QUESTIONS[name]
        told, known = set(told(theirs.get(question, ""))), set(known(ours.get(name, [])))
        missing, extra = told - known, known - told
        if name in BY_NAME:
            both = {fact[0] for fact in told} & {fact[0] for fact in known}
            missing, extra = ({fact for fact in facts if fact[0] in both} for facts in (missing, extra))
        note = ""
        if name == "stacks" and (excused := crashs_own(missing, extra)):
            missing, extra = ({fact for fact in facts if fact[0] not in excused} for facts in (missing, extra))
            note = f", {len(excused)} that crash ends early or has stray frames in"
        differ |= bool(missing or extra)
        show = lambda facts: " ".join(map(str, sorted(facts, key=str)[:3]))
        print(f"{name}: {len(told & known)} alike{note}" + (f", {len(missing)} only crash has: {show(missing)}" if missing else "")
              + (f", {len(extra)} only kmdb has: {show(extra)}" if extra else ""), flush=True)
    sys.exit(differ)


if __name__ == "__main__":
    main()

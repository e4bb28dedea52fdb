#!/usr/bin/env python3
"""whatis-crash.py KMDB DUMP.elf VMLINUX [COUNT] [SEED]: what ::whatis says of random pointers, against crash's `kmem ADDR`.

The pointers are words of random pages of the ELF core that look like kernel addresses. Where crash names a slab object,
its cache, the object's address and whether it is allocated are compared; where it names a symbol, a task or a vmalloc
area, the kind. Differences are counted by kind, with examples; exit status 1 if there are any that EXPLAINED does not.
"""
import collections
import json
import os
import random
import re
import subprocess
import sys

OURS = {
    "slab objects": "slab",
    "slabs": "slab",
    "stacks of tasks": "stack",
    "the kernel's image": "symbol",
    "modules": "symbol",
    "vmalloc areas": "vmap",
}
# what crash says, what kmdb says: why both are right, or crash is wrong
EXPLAINED = {
    ("vmap", "modules"): "more exact: the module, its section and symbol",
    ("vmap", "stacks of tasks"): "more exact: whose stack",
    ("vmap", "per-CPU memory"): "more exact: the CPU",
    ("vmap", "stacks of CPUs"): "more exact: which stack of which CPU",
    ("vmap", "code made at run time"): "more exact: the eBPF program or the trampoline",
    ("page", "struct pages"): "a struct page: crash shows it",
    ("slab", "slab objects rcu"): "freed, but a grace period has not ended: crash does not ask RCU",
}


def pointers(path, count, seed):
    """Words of the file that are kernel addresses."""
    rng, size = random.Random(seed), os.path.getsize(path)
    found, heads = set(), collections.Counter()
    with open(path, "rb") as f:
        while len(found) < count * 3:
            f.seek(rng.randrange(0, size - 4096, 4096))
            page = f.read(4096)
            words = [int.from_bytes(page[i : i + 8], "little") for i in range(0, len(page) - 7, 8)]
            words = [word for word in words if word >> 56 == 0xFF and word < (1 << 64) - (1 << 20)]
            heads.update(word >> 40 for word in words)
            found.update(rng.sample(words, min(4, len(words))))
    # of code and numbers each has another beginning
    common = {head for head, n in heads.items() if n > sum(heads.values()) / 1000}
    found = sorted(word for word in found if word >> 40 in common)
    return sorted(rng.sample(found, min(count, len(found))))


def theirs(vmlinux, dump, addrs):
    """crash's answers, by address: kind, cache, object, whether it is allocated."""
    script = "".join(f"eval {addr:#x}\nkmem {addr:x}\n" for addr in addrs) + "quit\n"
    done = subprocess.run(["crash", "-s", vmlinux, dump], input=script, capture_output=True, text=True, check=False)
    parts = re.split(r"^hexadecimal: ([0-9a-f]+).*\n", done.stdout, flags=re.M)
    return {int(addr, 16): kind(text) for addr, text in zip(parts[1::2], parts[2::2])}


def kind(text):
    lines = text.splitlines()
    for i, line in enumerate(lines):
        if line.startswith("CACHE ") and i + 1 < len(lines):
            name = lines[i + 1].split()[-1]
            found = re.search(r"^ +(\[?)([0-9a-f]{16})\]?(?: +\(cpu.*)? *$", text.partition("FREE / [ALLOCATED]")[2], flags=re.M)
            return ("slab", name, int(found[2], 16), bool(found[1])) if found else ("slab", name, None, None)
        if "VMAP_AREA" in line:
            return "vmap", None, None, None
        if re.match(r"[0-9a-f]{16} \([a-zA-Z?]\) ", line):
            return "symbol", None, None, None
        if line.lstrip().startswith("PID: "):
            return "stack", None, None, None
    return "page" if "PHYSICAL" in text else "none", None, None, None


def ours(kmdb, dump, addrs):
    script = "\n".join(f"{addr:x}::whatis -q" for addr in addrs)
    out = subprocess.run([kmdb, "-S", "-o", "json", dump], input=script, capture_output=True, text=True, check=False).stdout
    rows = (json.loads(line) for line in out.splitlines())
    return {int(row["addr"], 16): row for row in rows if "source" in row}


def main():
    kmdb, dump, vmlinux = sys.argv[1:4]
    count = int(sys.argv[4]) if len(sys.argv) > 4 else 2000
    seed = int(sys.argv[5]) if len(sys.argv) > 5 else 1
    addrs = pointers(dump, count, seed)
    said, rows = theirs(vmlinux, dump, addrs), ours(kmdb, dump, addrs)
    agree, differ, examples = collections.Counter(), collections.Counter(), collections.defaultdict(list)
    for addr in addrs:
        what, cache, base, allocated = said.get(addr, ("none", None, None, None))
        row = rows.get(addr, {"source": "nothing", "text": "unknown"})
        mine = OURS.get(row["source"], "none")
        same = mine == what or (what == "page" and mine == "none")
        if same and what == "slab":
            same = row["name"] == cache and (base is None) == (row["source"] == "slabs")
            if same and base is not None:
                same = int(row["object"], 16) == base and (row["state"] == "allocated") == allocated
        if same:
            agree[what] += 1
            continue
        key = what, " ".join(filter(None, (row["source"], row.get("state"))))
        differ[key] += 1
        if len(examples[key]) < 5:
            examples[key].append(f"{addr:x} {cache or ''} {base or 0:x} {allocated}: {row['text']}")
    print(f"{len(addrs)} addresses; the same:", ", ".join(f"{k} {n}" for k, n in agree.most_common()))
    for key, n in differ.most_common():
        print(f"{n:7} {key[0]} there, {key[1]} here: {EXPLAINED.get(key, 'WHY?')}")
        for example in examples[key]:
            print(f"          {example}")
    return 1 if any(key not in EXPLAINED for key in differ) else 0


if __name__ == "__main__":
    sys.exit(main())

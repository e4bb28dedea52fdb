#!/usr/bin/env python3
"""whatis.py KMDB DUMP [VMLINUX] [COUNT] [SEED]: what ::whatis says of random pointers, against drgn's identify_address.

The pointers are those that memory itself holds (words of random pages that look like kernel addresses), and as many
addresses at random: in the direct map, in the image, in vmalloc space. For each the kind that drgn gives (a slab object
and its cache, allocated or free; a symbol; a task's stack; vmalloc) is compared with the source that answered here.
Differences are counted by kind, with examples; exit status 1 if there are any.
"""
import collections
import json
import random
import re
import subprocess
import sys

import drgn
from drgn.helpers.common.memory import identify_address_all
from drgn.helpers.linux.mm import pfn_to_page, phys_to_virt


def pointers(prog, count, seed):
    """Words that are kernel addresses, from random pages of RAM, and addresses at random."""
    rng = random.Random(seed)
    base = phys_to_virt(prog, 0).value_() & (1 << 64) - 1
    top = prog["max_pfn"].value_() << 12
    stext, end = prog.symbol("_stext").address, prog.symbol("_end").address
    vmemmap = pfn_to_page(prog, 0).value_()
    vmemmap_end = vmemmap + (top >> 12) * prog.type("struct page").size
    found = set()
    while len(found) < count * 3 // 4:
        pa = rng.randrange(0, top, 4096)
        try:
            page = prog.read(pa, 4096, physical=True)
        except drgn.FaultError:
            continue
        words = [int.from_bytes(page[i : i + 8], "little") for i in range(0, 4096, 8)]
        # most are links from one struct page to another, which are all alike
        words = [w for w in words if w >> 56 == 0xFF and not vmemmap <= w < vmemmap_end]
        found.update(rng.sample(words, min(8, len(words))))
    while len(found) < count * 7 // 8:
        found.add(base + rng.randrange(top))
    while len(found) < count:
        found.add(rng.randrange(stext, end))
    return sorted(found)


def theirs(prog, addr):
    """drgn's kind of an address, with a name."""
    for identified in identify_address_all(prog, addr):
        text = str(identified)
        if m := re.match(r"(free )?slab object: (.*?)\+", text):
            return "slab", m[2], bool(m[1])
        if m := re.match(r"(?:function |object )?symbol: (.*?)\+", text):
            return "symbol", m[1], False
        if text.startswith("task stack"):
            return "stack", "", False
        if text.startswith("vmap"):
            return "vmap", "", False
        if text.startswith("page"):
            return "page", "", False
        return "other", text, False
    return "none", "", False


OURS = {
    "KFENCE objects": "slab",
    "slab objects": "slab",
    "slabs": "none",
    "stacks of tasks": "stack",
    "stacks of CPUs": "none",
    "per-CPU memory": "none",
    "the kernel's image": "symbol",
    "modules": "symbol",
    "vmalloc areas": "vmap",
    "struct pages": "page",
}


def ours(kmdb, dump, addrs):
    """Our rows, by address."""
    script = "\n".join(f"{a:x}::whatis -q" for a in addrs)
    out = subprocess.run([kmdb, "-o", "json", dump], input=script, capture_output=True, text=True, check=False)
    rows = {}
    for line in out.stdout.splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if "addr" in row and "source" in row:
            rows[int(row["addr"], 16)] = row
    return rows


def main():
    kmdb, dump = sys.argv[1:3]
    vmlinux = sys.argv[3] if len(sys.argv) > 3 else None
    count = int(sys.argv[4]) if len(sys.argv) > 4 else 100000
    seed = int(sys.argv[5]) if len(sys.argv) > 5 else 1
    prog = drgn.Program()
    prog.set_core_dump(dump)
    prog.load_debug_info([vmlinux] if vmlinux else [], default=not vmlinux)
    addrs = pointers(prog, count, seed)
    rows = ours(kmdb, dump, addrs)
    agree, differ, examples = collections.Counter(), collections.Counter(), collections.defaultdict(list)
    for addr in addrs:
        kind, name, free = theirs(prog, addr)
        row = rows.get(addr, {"source": "nothing", "text": "unknown"})
        mine = OURS.get(row["source"], "none")
        same = kind == mine
        if same and kind == "slab":
            same = row["name"] == name and (row["state"] in ("freed", "rcu")) == free
        if same and kind == "symbol":
            same = row["name"] and row["name"].split("`")[-1].split("+")[0] == name
        if same:
            agree[kind] += 1
        else:
            key = f"{kind}{' (free)' if free else ''} there, {row['source']}{' ' + str(row.get('state')) if row.get('state') else ''} here"
            differ[key] += 1
            if len(examples[key]) < 5:
                examples[key].append(f"{addr:x} {kind} {name}: {row['text']}")
    print(f"{len(addrs)} addresses; the same:", ", ".join(f"{k} {n}" for k, n in agree.most_common()))
    for key, n in differ.most_common():
        print(f"{n:7} {key}")
        for example in examples[key]:
            print(f"          {example}")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())

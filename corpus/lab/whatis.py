#!/usr/bin/env python3
"""whatis.py KMDB DUMP [VMLINUX] [COUNT] [SEED]: what ::whatis says of random pointers, against drgn's identify_address.

The pointers are those that memory itself holds (words of random pages that look like kernel addresses), and as many
addresses at random: in the direct map, in the image, in vmalloc space. For each the kind that drgn gives (a slab object
and its cache, allocated or free; a symbol; a task's stack; vmalloc) is compared with the source that answered here.
Differences are counted by kind, with examples. Some have a reason (EXPLAINED); exit status 1 if there are others, or too
many of one. drgn takes minutes over 100,000: if
$WHATIS_CACHE names a folder, what it said is kept there, and not asked again.
"""
import collections
import json
import os
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
    stext, end = prog.symbol("_stext").address, prog.symbol("_edata").address
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
        return "task" if text.startswith("task: ") else "other", text, False
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


# what drgn says, what kmdb says: why both are right, or drgn is wrong
EXPLAINED = {
    ("none", "the kernel's image"): "between two symbols: the one before it is named",
    ("symbol", "the kernel's image"): "several symbols have the address: the nearest is named",
    ("task", "slab objects allocated"): "the object of cache task_struct, which drgn calls a task",
    ("task", "the kernel's image"): "init_task, which drgn calls a task",
    ("task", "slabs"): "behind the last object of a slab: drgn makes one more task of it",
    ("slab", "slabs"): "behind the last object of a slab: drgn makes one more object of it",
    ("slab", "slab objects freed, in front"): "in the red zone in front of an object: drgn counts it to the object before",
    ("slab", "slab objects allocated, in front"): "likewise",
    ("task", "slab objects allocated, in front"): "likewise",
    ("slab (free)", "slab objects freed, in front"): "likewise",
    ("slab (free)", "slab objects allocated, in front"): "likewise",
    ("slab (free)", "slabs"): "behind the last object of a slab: drgn makes one more object of it",
    ("slab", "slab objects rcu"): "freed, but a grace period has not ended: drgn does not ask RCU",
    ("symbol", "nothing"): "behind the end of the image, in what the kernel gives back at boot",
    ("vmap", "the kernel's image"): "arm64 has the image in vmalloc space: between two symbols the one before it is named",
    ("vmap", "modules"): "more exact: the module, its section and symbol",
    ("vmap", "per-CPU memory"): "more exact: the CPU",
    ("vmap", "stacks of CPUs"): "more exact: which stack of which CPU",
    ("vmap", "code made at run time"): "more exact: the eBPF program or the trampoline",
}
# of a thousand addresses, at most so many may differ for one of these reasons, but for names of symbols
MOST = 10


def asked(dump, vmlinux, count, seed):
    """Addresses, each with drgn's kind; from the cache where they are there."""
    folder = os.environ.get("WHATIS_CACHE")
    kept = folder and os.path.join(folder, "-".join([*os.path.abspath(dump).split("/")[-2:], str(count), str(seed)]) + ".json")
    if kept and os.path.exists(kept):
        with open(kept) as f:
            return {int(addr): tuple(said) for addr, said in json.load(f).items()}
    prog = drgn.Program()
    prog.set_core_dump(dump)
    prog.load_debug_info([vmlinux] if vmlinux else [], default=not vmlinux)
    said = {addr: theirs(prog, addr) for addr in pointers(prog, count, seed)}
    if kept:
        with open(kept, "w") as f:
            json.dump(said, f)
    return said


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
    said = asked(dump, vmlinux, count, seed)
    addrs = sorted(said)
    rows = ours(kmdb, dump, addrs)
    agree, differ, examples = collections.Counter(), collections.Counter(), collections.defaultdict(list)
    for addr in addrs:
        kind, name, free = said[addr]
        row = rows.get(addr, {"source": "nothing", "text": "unknown"})
        mine = OURS.get(row["source"], "none")
        same = kind == mine
        if same and kind == "slab":
            same = row["name"] == name and (row["state"] in ("freed", "rcu")) == free
        if same and kind == "symbol":
            same = row["name"] and row["name"].split("`")[-1].split("+")[0] == name
        if same:
            agree[kind] += 1
            continue
        front = ", in front" if row["text"].endswith("in front of the object") else ""
        key = kind + " (free)" * free, " ".join(filter(None, (row["source"], row.get("state")))) + front
        differ[key] += 1
        if len(examples[key]) < 5:
            examples[key].append(f"{addr:x} {kind} {name}: {row['text']}")
    print(f"{len(addrs)} addresses; the same:", ", ".join(f"{k} {n}" for k, n in agree.most_common()))
    wrong = 0
    for (kind, source), n in differ.most_common():
        reason = EXPLAINED.get((kind, source))
        if reason and "symbol" not in reason and n > len(addrs) * MOST // 1000:
            reason = None
        wrong += not reason
        print(f"{n:7} {kind} there, {source} here: {reason or 'WHY?'}")
        for example in examples[kind, source]:
            print(f"          {example}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

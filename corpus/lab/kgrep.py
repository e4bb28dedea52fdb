#!/usr/bin/env python3
"""kgrep.py KMDB DUMP VMLINUX [SEED]: what ::kgrep finds, against drgn's memory search.

Values of 8, 4 and 2 bytes, masks, distances, texts, bytes with gaps and regular expressions, some of them made of what
lies in memory at random places, over the end of a page too. In physical memory, all of it and a range, both must find
the same places. In virtual memory kmdb answers each page once, at the address that says most about it, and drgn at
addresses of its own: there the same bytes of memory must be found, and in the kernel's image, which has one address, the
same places. Exit status 1 if something differs.
"""
import json
import random
import subprocess
import sys

import drgn
from drgn.helpers.linux.mm import follow_phys, phys_to_virt

FULL = (1 << 64) - 1


def picks(prog, rng):
    """Words and rows of bytes from random places of physical memory, rare enough to be worth a search."""
    top = prog["max_pfn"].value_() << 12
    words, rows = set(), set()
    while len(words) < 4 or len(rows) < 6:
        at = rng.randrange(1 << 20, top - 8192, 4096)
        try:
            pages = prog.read(at, 8192, physical=True)
        except drgn.FaultError:
            continue
        place = rng.randrange(0, 4096, 8)
        word, row = pages[place : place + 8], pages[4090:4102]
        if len(words) < 4 and len(set(word)) > 5:
            words.add(int.from_bytes(word, "little"))
        if len(rows) < 6 and len(set(row)) > 8:
            rows.add(row)
    return sorted(words), sorted(rows)


def queries(prog, rng):
    """kmdb's command and drgn's search, by what is asked."""
    task = prog["init_task"].address_
    words, rows = picks(prog, rng)
    small, wide, low = rng.randrange(1 << 12, 1 << 16), rng.randrange(1 << 28, 1 << 32), task & 0xFFFFFFFF
    mask = 0xFFFF_0000_0000_0FFF
    u16, u32, u64 = prog.search_memory_u16, prog.search_memory_u32, prog.search_memory_u64
    found = {
        "u64 within 4 KiB": (f"{task:x}::kgrep -d 1000", lambda: u64((task, task + 0x1000))),
        "u64 but for 16 bits": (f"{task:x}::kgrep -M ffff", lambda: u64(task, ignore_mask=0xFFFF)),
        "u64 by a mask": (f"{task & mask:x}::kgrep -m {mask:x}", lambda: u64(task & mask, ignore_mask=FULL ^ mask)),
        "u32": (f"{low:x}::kgrep -s 4", lambda: u32(low)),
        "u32 but for 12 bits": (f"{wide:x}::kgrep -s 4 -M fff", lambda: u32(wide, ignore_mask=0xFFF)),
        "u16": (f"{small:x}::kgrep -s 2", lambda: u16(small)),
        "u16 within 10": (f"{small & 0xFFE0:x}::kgrep -s 2 -d 10", lambda: u16((small & 0xFFE0, (small & 0xFFE0) + 16))),
        "a text": ("::kgrep -t 'Linux version '", lambda: prog.search_memory(b"Linux version ")),
        "a name": ("::kgrep -t init_task", lambda: prog.search_memory(b"init_task")),
    }
    for word in (task, *words):
        found[f"u64 {word:x}"] = (f"{word:x}::kgrep", lambda word=word: u64(word))
    for row in rows:
        found[f"bytes {row.hex()}"] = (f"::kgrep -b '{row.hex(' ')}'", lambda row=row: prog.search_memory(row))
        some = " ".join(".." if i in (2, 5) else f"{byte:02x}" for i, byte in enumerate(row))
        regex = b"".join(b"[\\x00-\\xff]" if i in (2, 5) else b"\\x%02x" % byte for i, byte in enumerate(row))
        found[f"bytes {some}"] = (f"::kgrep -b '{some}'", lambda regex=regex: prog.search_memory_regex(regex))
    for regex in (r"vm_[a-z]+_[0-9]", r"\x00[A-Z]{3}[0-9]{5}\x00", r"[0-9]\.[0-9]+\.[0-9]+\+deb1[0-9]"):
        found[f"/{regex}/"] = (f"::kgrep -r '{regex}'", lambda regex=regex: prog.search_memory_regex(regex.encode()))
    return found


def ours(kmdb, dump, commands):
    """Addresses that kmdb finds, by command. One session: what the kernel maps is found out once."""
    arguments = [part for command in commands for part in ("-e", command, "-e", "::echo next")]
    done = subprocess.run([kmdb, "-S", "-o", "json", dump, *arguments], capture_output=True, text=True, check=False)
    if "kmdb: " in done.stderr:
        raise SystemExit(done.stderr)
    answers, found = [], set()
    for line in done.stdout.splitlines():
        row = json.loads(line)
        if "addr" in row:
            found.add(int(row["addr"], 16))
        else:
            answers.append(found)
            found = set()
    return dict(zip(commands, answers, strict=True))


def theirs(search, *area, **how):
    """Addresses that drgn finds."""
    found = search().set_address_range(*area, **how)
    return {hit[0] if isinstance(hit, tuple) else hit for hit in found}


def main():
    kmdb, dump, vmlinux = sys.argv[1:4]
    seed = int(sys.argv[4]) if len(sys.argv) > 4 else 1
    prog = drgn.Program()
    prog.set_core_dump(dump)
    prog.load_debug_info([vmlinux])
    base, top = phys_to_virt(prog, 0).value_() & FULL, prog["max_pfn"].value_() << 12

    def physical(addr):
        if base <= addr < base + top:
            return addr - base
        try:
            return follow_phys(prog["init_mm"].address_of_(), addr).value_()
        except drgn.FaultError:
            return addr  # nothing is mapped there: not the same as anything

    some = (top // 4 * 3 + 8, top - 0x100003)
    image = (prog.symbol("_sdata").address, prog.symbol("_edata").address - 1)
    areas = {
        "physical": ("-p", {"physical": True}),
        "physical range": (f"-p -a {some[0]:x} -A {some[1]:x}", {"min_address": some[0], "max_address": some[1], "physical": True}),
        "image": (f"-a {image[0]:x} -A {image[1]:x}", {"min_address": image[0], "max_address": image[1]}),
        "virtual": ("", {}),
    }
    asked = queries(prog, random.Random(seed))
    commands = [f"{command} {options}".strip() for command, _ in asked.values() for options, _ in areas.values()]
    answers = ours(kmdb, dump, commands)
    differ = 0
    for name, (command, search) in asked.items():
        counts = []
        for area, (options, how) in areas.items():
            mine, other = answers[f"{command} {options}".strip()], theirs(search, **how)
            if area == "virtual":
                # a firmware's ROM, above RAM, is in QEMU's dumps, and the kernel does not map it
                other = {addr for addr in other if not base + top <= addr < base + (1 << 32)}
                mine, other = ({physical(addr) for addr in side} for side in (mine, other))
            counts.append(f"{area} {len(other)}")
            if mine != other:
                differ += 1
                more, less = sorted(mine - other), sorted(other - mine)
                print(f"{name}, {area}: {len(more)} only here {[hex(a) for a in more[:5]]}, "
                      f"{len(less)} only there {[hex(a) for a in less[:5]]}")
        print(f"{name}: {', '.join(counts)}")
    print(f"{len(asked)} searches in {len(areas)} areas, {differ} differ")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())

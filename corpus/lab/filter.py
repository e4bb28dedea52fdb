#!/usr/bin/env python3
"""filter.py VMLINUX VMCORE OUT [--text all|used|none]   the kernel's own pages of a dump, as a small ELF core.

Left out: free pages (buddy and per-CPU lists), user memory and the page cache.
Kept: page tables, the kernel image, slab, stacks, per-CPU data, vmalloc and modules, the ring buffer, struct pages.
Pages of zeros stay, as zeros: p_memsz > p_filesz could as well mean pages left out. `--text used` keeps only the
text pages that some stack, stored stack trace or trace event points into. What a page is, drgn and DWARF tell.
"""
import argparse
import collections
import struct

import drgn
from drgn.helpers.linux import (follow_phys, for_each_online_cpu, list_for_each_entry, per_cpu_ptr, page_to_pfn, virt_to_pfn)

import elfcore


def text_range(prog, first, last):
    return prog.symbol(first).address, prog.symbol(last).address


def image_pfns(prog, first, last):
    """Page frames wholly inside a range of the kernel image."""
    try:
        start, end = text_range(prog, first, last)
    except LookupError:
        return {}
    found, at = {}, (start + 4095) & ~4095
    while at + 4096 <= end:
        try:
            found[follow_phys(prog["init_mm"].address_of_(), at).value_() >> 12] = at
        except drgn.FaultError:
            pass
        at += 4096
    return found


def per_cpu_free(prog):
    """Free pages waiting on a CPU's own list: nothing in their struct page tells."""
    found = set()
    link = "pcp_list" if prog.type("struct page").has_member("pcp_list") else "lru"
    for zone in prog["node_data"][0].node_zones:
        if not zone.managed_pages.counter.value_():
            continue
        # since Linux 5.14 (28f836b6777b) the lists are not inside a struct per_cpu_pageset
        old = zone.type_.has_member("pageset")
        for cpu in for_each_online_cpu(prog):
            pcp = per_cpu_ptr(zone.pageset if old else zone.per_cpu_pageset, cpu)
            for i, head in enumerate((pcp.pcp if old else pcp).lists):
                # one list for each order and migrate type, then those for huge pages
                order = i // 3 if i < 12 else 9
                for page in list_for_each_entry("struct page", head.address_of_(), link):
                    pfn = page_to_pfn(page).value_()
                    found.update(range(pfn, pfn + (1 << order)))
    return found


def ftrace_pfns(prog):
    """The table of every traceable function: it points everywhere."""
    found, at = set(), prog["ftrace_pages_start"]
    while at:
        first = virt_to_pfn(at.records).value_()
        found.update(range(first, first + (1 << at.order.value_())))
        at = at.next
    return found


class Pages:
    """What struct page says of a frame, read in bulk."""

    def __init__(self, prog):
        self.prog = prog
        page = prog.type("struct page")
        self.size = page.size
        self.at = {m: drgn.offsetof(page, m) for m in ("flags", "mapping", "_mapcount", "_refcount", "lru")}
        self.head = next(drgn.offsetof(page, m) for m in ("compound_info", "compound_head") if page.has_member(m))
        self.flag = {f: 1 << prog[f"PG_{f}"].value_() for f in ("lru", "reserved", "swapbacked", "head") if f"PG_{f}" in prog}
        # since Linux 6.11 (6d21dde7adc0) a type fills the top byte of page_type; before, it clears one bit of it
        if "PGTY_slab" in prog:
            self.type_of = lambda t: t >> 24 if t >> 31 and t != 0xFFFFFFFF else 0
            self.buddy = prog["PGTY_buddy"].value_()
            self.slab_type, self.slab_flag = prog["PGTY_slab"].value_(), 0
        else:
            self.type_of = lambda t: ~t & 0xFFFFFF if t >> 28 == 0xF and t != 0xFFFFFFFF else 0
            self.buddy = 0x80
            self.slab_type, self.slab_flag = None, 1 << prog["PG_slab"].value_()
        self.base = prog["vmemmap"].value_()
        self.cache = {}

    def raw(self, pfn):
        address = self.base + pfn * self.size
        frame = address & ~4095
        if frame not in self.cache:
            try:
                self.cache[frame] = self.prog.read(frame, 8192)
            except drgn.FaultError:
                self.cache[frame] = None
        data = self.cache[frame]
        return data and data[address - frame:address - frame + self.size]

    def is_slab(self, pfn):
        raw = self.raw(pfn)
        head = struct.unpack_from("<Q", raw, self.head)[0] if raw else 0
        if head & 1:
            raw = self.raw(((head & ~1) - self.base) // self.size)
        if not raw:
            return False
        flags, kind = (struct.unpack_from(f, raw, self.at[m])[0] for f, m in (("<Q", "flags"), ("<I", "_mapcount")))
        return bool(flags & self.slab_flag) or (self.slab_type is not None and self.type_of(kind) == self.slab_type)

    def kind(self, pfn):
        """kernel, buddy, cache, or none (no struct page)"""
        raw = self.raw(pfn)
        if raw is None:
            return "none", 0
        word = lambda name, fmt: struct.unpack_from(fmt, raw, self.at[name])[0]
        head = struct.unpack_from("<Q", raw, self.head)[0]
        if head & 1:  # a tail is what its head is
            of = ((head & ~1) - self.base) // self.size
            if of != pfn and of >= 0 and not self.raw(of) is None and not struct.unpack_from("<Q", self.raw(of), self.head)[0] & 1:
                return self.kind(of)[0], 0
            return "kernel", 0
        flags, kind = word("flags", "<Q"), self.type_of(word("_mapcount", "<I"))
        if kind == self.buddy and not flags & self.slab_flag:
            order = struct.unpack_from("<Q", raw, drgn.offsetof(self.prog.type("struct page"), "private"))[0]
            return "buddy", order
        if flags & self.slab_flag or kind == self.slab_type or flags & self.flag["reserved"] or kind:
            return "kernel", 0
        if word("_refcount", "<i") > 0 and (flags & self.flag["lru"] or word("mapping", "<Q")):
            return "cache", 0
        return "kernel", 0


def used_text(core, kernel_pfns, ranges):
    """Text pages that any of these pages holds a pointer into: stacks, stored stack traces, the trace's call sites."""
    used = set()
    start, end = ranges
    for pfn in kernel_pfns:
        data = core.page(pfn)
        for (word,) in struct.iter_unpack("<Q", data):
            if start <= word < end:
                used.add(word & ~4095)
    return used


def main():
    a = argparse.ArgumentParser()
    a.add_argument("vmlinux")
    a.add_argument("vmcore")
    a.add_argument("out")
    a.add_argument("--text", default="all", choices=("all", "used", "none"))
    a = a.parse_args()
    prog = drgn.Program()
    prog.set_core_dump(a.vmcore)
    try:
        prog.load_debug_info([a.vmlinux])
    except drgn.MissingDebugInfoError:
        pass
    core = elfcore.Core(a.vmcore)
    pages, count, keep = Pages(prog), collections.Counter(), {}
    free = per_cpu_free(prog)
    text = image_pfns(prog, "_stext", "_etext")
    skip = 0
    for pfn in core.pfns():
        if skip:
            skip -= 1
            count["buddy"] += 1
            continue
        kind, order = pages.kind(pfn)
        if kind == "buddy":
            skip = (1 << order) - 1
        elif kind == "kernel" and pfn in free:
            kind = "per-CPU free"
        count[kind] += 1
        if kind == "kernel":
            keep[pfn] = core.page(pfn)
    if a.text != "all":
        wanted = set()
        if a.text == "used":
            image = image_pfns(prog, "_text", "_end").keys() | ftrace_pfns(prog)
            sources = [p for p in keep if p not in image and not pages.is_slab(p)]
            words = used_text(core, sources, text_range(prog, "_stext", "_etext"))
            wanted = {pfn for pfn, at in text.items() if at in words}
        for pfn in text.keys() - wanted:
            count["text left out"] += keep.pop(pfn, None) is not None
    elfcore.write(a.out, core.notes, keep, core.machine)
    print(", ".join(f"{k} {n}" for k, n in sorted(count.items())), f"-> {len(keep)} pages")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""oracle.py OUTDIR VMCORE VMLINUX [MODULE.ko ...]   what drgn, with DWARF, finds in a dump: the second witness beside the guest's truth.

  slab.tsv          cache, address, object size, slab size, allocated objects, all objects, of them allocated by KFENCE
  slab-objects.zst  "= CACHE" and below it the address of every allocated object, sorted
  kfence.tsv        what KFENCE holds: state, address, size, cache
  dentries.zst      address, superblock, path of every allocated dentry
  superblocks.tsv   address, type, id
  mounts.tsv        address, type, source, path
  tasks.tsv         address, pid, tgid, state, comm
  files.tsv         pid, fd, struct file, path
  modules.tsv       address, base, name
  stacks.txt        the kernel stack of every task
  dmesg

drgn takes KFENCE's pool for slabs of one object: those addresses are left out of slab-objects.zst and of "allocated",
and KFENCE's own bookkeeping is asked instead.
"""
import collections
import os
import subprocess
import sys

import drgn
import drgn.helpers.linux.slab
from drgn.helpers.linux import (PageSlab, d_path, dentry_path, find_slab_cache, for_each_file, for_each_module,
                                for_each_mount, for_each_page, for_each_slab_cache, for_each_task, get_dmesg,
                                list_for_each_entry, module_address_regions, mount_dst, mount_fstype, mount_src,
                                slab_cache_for_each_allocated_object, slab_cache_usage, task_state_to_char)


def text(x):
    return x.string_().decode(errors="backslashreplace")


def pack(path, content):
    subprocess.run(["zstd", "-q", "-f", "-19", "-o", path], input=content.encode(), check=True)


class Kfence:
    """KFENCE's pool and what its metadata says."""

    STATES = ("unused", "allocated", "rcu freeing", "freed")

    def __init__(self, prog):
        self.start = self.end = 0
        self.objects = []
        if "__kfence_pool" not in prog or not prog["__kfence_pool"]:
            return
        self.start = prog["__kfence_pool"].value_()
        meta = prog["kfence_metadata"]
        if meta.type_.kind == drgn.TypeKind.ARRAY:
            count = meta.type_.length
        else:
            count = 0
            while True:  # its length is a constant of the build: it ends where an object is not in its own page
                try:
                    m = meta[count]
                    if m.addr.value_() and (m.addr.value_() - self.start) // 8192 != count + 1:
                        break
                    if count > 4096 or m.state.value_() > 3:
                        break
                except drgn.FaultError:
                    break
                count += 1
        self.end = self.start + (count + 1) * 8192
        for i in range(count):
            m = meta[i]
            try:
                name = text(m.cache.name) if m.cache else "-"
            except drgn.FaultError:
                name = "-"
            if m.addr.value_():
                state = m.state.value_()
                if len(prog.type("enum kfence_object_state").enumerators) == 3 and state == 2:
                    state = 3
                self.objects.append((self.STATES[state], m.addr.value_(), m.size.value_(), name))

    def __contains__(self, address):
        return self.start <= address < self.end


class SlabPages:
    """drgn looks at every page of the machine for every cache; with this it looks once, and judges as before."""

    def __init__(self, prog):
        self.of = collections.defaultdict(list)
        kind = drgn.helpers.linux.slab._get_slab_type(prog)
        for page in for_each_page(prog):
            try:
                if PageSlab(page):
                    self.of[drgn.cast(kind, page).slab_cache.value_()].append(page)
            except drgn.FaultError:
                pass

    def objects(self, cache, kind):
        drgn.helpers.linux.slab.for_each_page = lambda prog: self.of[cache.value_()]
        return slab_cache_for_each_allocated_object(cache, kind)


def slab(prog, out):
    pages = SlabPages(prog)
    kfence, rows, objects = Kfence(prog), [], []
    for cache in for_each_slab_cache(prog):
        name, bad = text(cache.name), ""
        found = []
        try:
            found = sorted(o.value_() for o in pages.objects(cache, "void") if o.value_() not in kfence)
        except (drgn.FaultError, ValueError) as e:
            bad = f"\t# {e}"
        usage = slab_cache_usage(cache)
        ours = sum(1 for state, _, _, of in kfence.objects if state == "allocated" and of == name)
        rows.append(f"{name}\t{cache.value_():x}\t{cache.object_size.value_()}\t{cache.size.value_()}\t{len(found)}\t"
                    f"{usage.num_objs}\t{ours}{bad}\n")
        objects.append(f"= {name}\n" + "".join(f"{o:x}\n" for o in found))
    with open(f"{out}/slab.tsv", "w") as f:
        f.writelines(sorted(rows))
    pack(f"{out}/slab-objects.zst", "".join(sorted(objects)))
    with open(f"{out}/kfence.tsv", "w") as f:
        f.writelines(f"{state}\t{at:x}\t{size}\t{name}\n" for state, at, size, name in kfence.objects)


def dentries(prog, out):
    lines = []
    for d in SlabPages(prog).objects(find_slab_cache(prog, "dentry"), "struct dentry"):
        try:
            path = dentry_path(d).decode(errors="backslashreplace")
        except drgn.FaultError as e:
            path = f"? {e}"
        lines.append(f"{d.value_():x}\t{d.d_sb.value_():x}\t{path}\n")
    pack(f"{out}/dentries.zst", "".join(sorted(lines)))


def superblocks(prog, out):
    with open(f"{out}/superblocks.tsv", "w") as f:
        for sb in list_for_each_entry("struct super_block", prog["super_blocks"].address_of_(), "s_list"):
            f.write(f"{sb.value_():x}\t{text(sb.s_type.name)}\t{text(sb.s_id)}\n")


def mounts(prog, out):
    with open(f"{out}/mounts.tsv", "w") as f:
        for m in for_each_mount(prog["init_task"].nsproxy.mnt_ns):
            src, dst, kind = (x.decode(errors="backslashreplace") for x in (mount_src(m), mount_dst(m), mount_fstype(m)))
            f.write(f"{m.value_():x}\t{kind}\t{src}\t{dst}\n")


def tasks(prog, out):
    with open(f"{out}/tasks.tsv", "w") as f:
        for t in sorted(for_each_task(prog), key=lambda t: t.pid.value_()):
            f.write(f"{t.value_():x}\t{t.pid.value_()}\t{t.tgid.value_()}\t{task_state_to_char(t)}\t{text(t.comm)}\n")


def files(prog, out):
    with open(f"{out}/files.tsv", "w") as f:
        for t in sorted(for_each_task(prog), key=lambda t: t.pid.value_()):
            if not t.files or t.pid != t.tgid:
                continue
            for fd, file in for_each_file(t):
                if file:  # else a number taken by an open() under way
                    path = d_path(file.f_path).decode(errors="backslashreplace")
                    f.write(f"{t.pid.value_()}\t{fd}\t{file.value_():x}\t{path}\n")


def modules(prog, out):
    with open(f"{out}/modules.tsv", "w") as f:
        for m in for_each_module(prog):
            f.write(f"{m.value_():x}\t{module_address_regions(m)[0][0]:x}\t{text(m.name)}\n")


def stacks(prog, out):
    """drgn goes on into the user's stack, and where p_vaddr is 0 finds it in page frame 0: stop where the kernel's code ends."""
    code = [(prog.symbol("_stext").address, prog.symbol("_etext").address)]
    code += [(start, start + size) for m in for_each_module(prog) for start, size in module_address_regions(m)]
    with open(f"{out}/stacks.txt", "w") as f:
        for t in sorted(for_each_task(prog), key=lambda t: t.pid.value_()):
            f.write(f"= {t.pid.value_()} {text(t.comm)}\n")
            try:
                for frame in prog.stack_trace(t):
                    if frame.is_inline:
                        continue
                    if not any(start <= frame.pc < end for start, end in code):
                        break
                    try:
                        s = frame.symbol()
                        f.write(f"{frame.pc:x} {s.name}+{frame.pc - s.address:#x}\n")
                    except LookupError:
                        f.write(f"{frame.pc:x} ?\n")
            except (ValueError, LookupError, drgn.FaultError) as e:
                f.write(f"? {e}\n")


def dmesg(prog, out):
    with open(f"{out}/dmesg", "wb") as f:
        f.write(get_dmesg(prog))


def main():
    words = sys.argv[1:]
    parts = [slab, dentries, superblocks, mounts, tasks, files, modules, stacks, dmesg]
    if words[0] == "--stacks":
        words, parts = words[1:], [stacks]
    out, core, *debug = words
    os.makedirs(out, exist_ok=True)
    prog = drgn.Program()
    prog.set_core_dump(core)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # "did not match any loaded modules"
    try:
        prog.load_debug_info([d for d in debug if os.path.exists(d)])
    except drgn.MissingDebugInfoError:
        pass
    for part in parts:
        try:
            part(prog, out)
        except Exception as e:  # a kernel drgn does not know shall not cost us the other parts
            print(f"{out}: {part.__name__}: {type(e).__name__}: {e}")


if __name__ == "__main__":
    main()

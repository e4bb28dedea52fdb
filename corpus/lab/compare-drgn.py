#!/usr/bin/env python3
"""compare-drgn.py KMDB DUMP VMLINUX [QUESTION...]   what drgn's helpers find in a dump beside what kmdb finds; exit
status 1 if they differ, 3 if there is no drgn.

Each question is a set of addresses (or of numbers): tasks, open files, mounts, modules, mappings, interrupts, network
devices, connections of TCP, timers, mappings of a file, and the containers that have few users: plist, ida, interval tree.
What only one of them has is printed.
"""
import os
import subprocess
import sys
import tempfile

# drgn's half: prints a number a line. kmdb's half: a command whose items are those
QUESTIONS = {
    "tasks": ("for t in for_each_task(prog): show(t)", "::walk thread | ::where 'pid != 0'"),
    "files": ("for t in for_each_task(prog):\n  if t.tgid.value_() == t.pid.value_():\n    for fd, f in for_each_file(t): show(f)",
              "::lsof"),
    "mounts": ("for m in for_each_mount(prog['init_task'].nsproxy.mnt_ns): show(m)", "::mounts"),
    "modules": ("for m in for_each_module(prog): show(m)", "::walk module"),
    "mappings": ("for t in for_each_task(prog):\n  if t.mm and t.tgid.value_() == t.pid.value_():\n"
                 "    for v in for_each_vma(t.mm): show(v)", "::walk task | ::walk vma"),
    "interrupts": ("for n, d in for_each_irq_desc(prog): show(d)", "::walk irq_desc"),
    "netdevs": ("for n in for_each_net(prog):\n  for d in for_each_netdev(n): show(d)", "::walk netdev"),
    "disks": ("for d in for_each_disk(prog): show(d)", "::walk gendisk"),
    "superblocks": ("for s in list_for_each_entry('struct super_block', prog['super_blocks'].address_of_(), 's_list'): show(s)",
                    "::walk super_block"),
    "cgroups": ("for c in css_for_each_descendant_pre(prog['cgrp_dfl_root'].cgrp.self.address_of_()): show(c.cgroup)", "::walk cgroup"),
    "bpf": ("for p in bpf_prog_for_each(prog): show(p)", "::walk bpf_prog"),
    "caches": ("for c in for_each_slab_cache(prog): show(c)", "::walk kmem_cache"),
    "timers": ("for cpu in for_each_online_cpu(prog):\n  for base in per_cpu(prog['timer_bases'], cpu):\n    for vector in base.vectors:\n"
               "      for t in hlist_for_each_entry('struct timer_list', vector.address_of_(), 'entry'): show(t)", "::walk timer"),
    "sockets": ("info = prog['tcp_hashinfo']\nfor i in range(info.ehash_mask.value_() + 1):\n"
                "  for s in hlist_nulls_for_each_entry('struct sock', info.ehash[i].chain.address_of_(), '__sk_common.skc_nulls_node'):\n"
                "    if s.__sk_common.skc_state.value_() == 1: show(s)", "::walk tcp | ::where '__sk_common.skc_state == 1'"),
    # containers
    "plist": ("for s in plist_for_each_entry('struct swap_info_struct', prog['swap_active_head'].address_of_(), 'list'): show(s)",
              "swap_active_head::walk plist 'struct swap_info_struct' list"),
    "ida": ("def ids(ida):\n"
            "  for index, entry in xa_for_each(ida.xa.address_of_()):\n"
            "    if xa_is_value(entry): bits = xa_to_value(entry).value_()\n"
            "    else: bits = sum(int(w) << (64 * i) for i, w in enumerate(cast('struct ida_bitmap *', entry).bitmap))\n"
            "    yield from (index * 1024 + b for b in range(1024) if bits >> b & 1)\n"
            "for n in ids(prog['unnamed_dev_ida']): print(n)", "unnamed_dev_ida::walk ida"),
    "interval tree": ("def program():\n"
                      "  return find_task(prog, 1).mm.exe_file.f_inode\n"
                      "for v in rbtree_inorder_for_each_entry('struct vm_area_struct', program().i_mapping.i_mmap.rb_root.address_of_(), 'shared.rb'): show(v)",
                      "0t1::pid2task | ::print -a mm->exe_file->f_inode->i_mapping->i_mmap | ::walk interval_tree 'struct vm_area_struct' shared.rb"),
}
HEAD = """from drgn import cast
from drgn.helpers.linux import *
def show(o): print(hex(o.value_()) if o.type_.kind.name == 'POINTER' else hex(o.address_))
"""


def drgn(dump, vmlinux, names):
    with tempfile.NamedTemporaryFile("w", suffix=".py") as script:
        script.write(HEAD)
        for name in names:
            body = "\n".join("  " + line for line in QUESTIONS[name][0].split("\n"))
            script.write(f"print('@@ {name}')\ntry:\n{body}\nexcept Exception as e: print('!', repr(e))\n")
        script.flush()
        said = subprocess.run(["drgn", "-q", "-c", dump, "-s", vmlinux, script.name], capture_output=True, text=True,
                              env={**os.environ, "DEBUGINFOD_URLS": ""}).stdout
    return parts(said.splitlines())


def kmdb(program, dump, names):
    command = [program, "-S", "--no-debuginfo", dump]
    for name in names:
        command += ["-e", f"::echo @@ {name}", "-e", QUESTIONS[name][1] + " | =K"]
    return parts(subprocess.run(command, capture_output=True, text=True).stdout.splitlines())


def parts(lines):
    found, current = {}, None
    for line in map(str.strip, lines):
        if line.startswith("@@ "):
            current = found.setdefault(line[3:], [])
        elif line and current is not None:
            current += [line] if line.startswith("!") else line.split()
    return found


def main():
    program, dump, vmlinux = sys.argv[1:4]
    names = sys.argv[4:] or list(QUESTIONS)
    try:
        theirs = drgn(dump, vmlinux, names)
    except FileNotFoundError:
        print("drgn is not installed")
        sys.exit(3)
    ours, differ = kmdb(program, dump, names), False
    for name in names:
        told = theirs.get(name, ["! nothing"])
        if any(line.startswith("!") for line in told):
            print(f"{name}: drgn cannot: {told[-1][:100]}")
            continue
        told, known = {int(n, 0) for n in told}, {int(n, 16) for n in ours.get(name, [])}
        missing, extra = told - known, known - told
        differ |= bool(missing or extra)
        show = lambda facts: " ".join(hex(n) for n in sorted(facts)[:4])
        print(f"{name}: {len(told & known)} alike" + (f", {len(missing)} only drgn has: {show(missing)}" if missing else "")
              + (f", {len(extra)} only kmdb has: {show(extra)}" if extra else ""))
    sys.exit(differ)


if __name__ == "__main__":
    main()

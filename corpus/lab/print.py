#!/usr/bin/env python3
"""print.py VMCORE VMLINUX KMDB [COUNT]   ::print of structs of many types against drgn's reading, member by member.

From init_task on, pointers are followed to structs of types not met before, until COUNT (300) objects of as many types
are found in the dump. kmdb, which is given the dump alone, prints each of them with every option; what it says is held
against drgn with DWARF:

  -o json      every value, through all structs, unions, arrays, bit-fields, enums
  -at          every address, every declared type, every name, in order
  -d, -x       every integer in the radix asked for
  -h           no bit of the struct is left out or shown twice
  -s, -l, -c   nothing deeper or longer than asked for
  -i           the value of a number that stands in the address
  -p           the same from physical memory

The exit status says whether all agree. The differences come first, the figures last.
"""
import collections
import json
import re
import subprocess
import sys

import drgn
from drgn import TypeKind as K

LIMIT = 1 << 16


def strip(t):
    while t.kind == K.TYPEDEF:
        t = t.type
    return t


def complete(t):
    return t.kind in (K.STRUCT, K.UNION) and t.is_complete() and t.size


def objects(prog, count):
    """Objects of `count` types, each whole in the dump, found from init_task."""
    found, queue, seen = [], collections.deque([prog["init_task"]]), set()
    for name in ("init_net", "init_mm", "slab_caches", "contig_page_data", "root_task_group", "init_pid_ns", "cgrp_dfl_root"):
        try:
            queue.append(prog[name])
        except KeyError:
            pass
    while queue and len(found) < count:
        obj = queue.popleft()
        t = strip(obj.type_)
        # kmdb writes IP addresses as people do
        if not t.tag or t.tag in seen or t.size > LIMIT or t.tag in ("in_addr", "in6_addr"):
            continue
        try:
            prog.read(obj.address_, t.size)
        except drgn.FaultError:
            continue
        seen.add(t.tag)
        found.append((obj.address_, t))
        pointers(prog, obj, t, seen, queue, 0)
    return found


def pointers(prog, obj, t, seen, queue, depth):
    for m in t.members:
        mt = strip(m.type)
        try:
            sub = drgn.Object(prog, m.type, address=obj.address_ + m.bit_offset // 8) if m.bit_field_size is None else None
            if sub is None:
                continue
            if mt.kind == K.POINTER:
                to = strip(mt.type)
                value = sub.value_()
                if complete(to) and to.tag and to.tag not in seen and value >> 47 == 0x1FFFF or value >> 56 == 0xFF and complete(to):
                    queue.append(drgn.Object(prog, mt.type, address=value))
            elif complete(mt) and depth < 6:
                if mt.tag and mt.tag not in seen:
                    queue.append(sub)
                pointers(prog, sub, mt, seen, queue, depth + 1)
        except drgn.FaultError:
            pass


def spelled(t):
    text = t.type_name()
    text = re.sub(r"<anonymous>", "{...}", text)
    return re.sub(r"\s+", " ", text).strip()


def raw(prog, t, address, bit, bits):
    size = bits if bits is not None else size_of(t) * 8
    data = prog.read(address, (bit + size + 7) // 8)
    return (int.from_bytes(data, "little") >> bit) & ((1 << size) - 1)


def size_of(t):
    return (t.type if t.kind == K.ENUM else t).size


class Check:
    def __init__(self, prog):
        self.prog, self.bad, self.leaves, self.lines, self.where = prog, [], 0, 0, ""

    def fail(self, path, theirs, ours):
        self.bad.append(f"{self.where} {path}: drgn {theirs!r}, kmdb {ours!r}")

    # ---- values ----

    def value(self, t, address, bit, bits, ours, path):
        declared, t = t, strip(t)
        if isinstance(ours, dict) and list(ours) == ["unreadable"]:
            self.fail(path, "a value", ours)
        elif t.kind in (K.STRUCT, K.UNION):
            if not t.is_complete():
                return
            if t.tag in ("in_addr", "in6_addr"):
                return
            self.members(t, address, ours, path)
        elif t.kind == K.ARRAY:
            self.array(t, address, ours, path)
        elif t.kind in (K.INT, K.BOOL, K.ENUM, K.POINTER):
            self.leaves += 1
            value = raw(self.prog, t, address, bit, bits)
            width = bits if bits is not None else size_of(t) * 8
            signed = t.kind == K.INT and t.is_signed or t.kind == K.ENUM and t.type and t.type.is_signed
            if signed and value >> (width - 1):
                value -= 1 << width
            self.scalar(declared, t, value, ours, path, width)

    def scalar(self, declared, t, value, ours, path, width):
        if t.kind == K.POINTER:
            got = ours["addr"] if isinstance(ours, dict) else ours
            if got != f"{value:#x}":
                self.fail(path, hex(value), ours)
        elif t.kind == K.ENUM:
            names = [n for n, v in t.enumerators if v == value]
            if ours["value"] != value and ours["value"] != hex(value) or names and ours["name"] not in names:
                self.fail(path, (value, names), ours)
        elif t.kind == K.INT and t.name == "char" and width == 8 and isinstance(ours, str):
            if ours and ours.encode("latin-1", "replace")[:1] != bytes([value & 0xFF]) and ours.isascii():
                self.fail(path, value, ours)
        elif isinstance(ours, str) and not ours.startswith(("0x", "-0x")):
            if "time" not in spelled(declared):  # a date
                self.fail(path, value, ours)
        else:
            got = int(ours, 16) if isinstance(ours, str) else ours
            if got != value:
                self.fail(path, value, ours)

    def members(self, t, address, ours, path):
        if not isinstance(ours, dict):
            return self.fail(path, "a struct", ours)
        for m in t.members:
            at, bit = address + m.bit_offset // 8, m.bit_offset % 8
            if m.name is None:
                self.value(m.type, at, bit, None, ours, path)
            elif m.name not in ours:
                self.fail(f"{path}.{m.name}", "a member", "none")
            else:
                self.value(m.type, at, bit, m.bit_field_size, ours[m.name], f"{path}.{m.name}")

    def array(self, t, address, ours, path):
        if t.length is None or t.length == 0:
            return
        e = strip(t.type)
        if isinstance(ours, (str, dict)):
            data = self.prog.read(address, drgn.sizeof(t))
            text = bytes.fromhex(ours["bytes"]) if isinstance(ours, dict) else ours.encode()
            self.leaves += 1
            if text not in (data.split(b"\0")[0], data.rstrip(b"\0")):
                self.fail(path, data, ours)
            return
        if len(ours) != t.length and e.kind == K.ARRAY and len(ours) == t.length * (e.length or 0):
            # pahole up to 1.20 writes matrices into BTF as one array
            for i in range(t.length):
                self.array(e, address + i * drgn.sizeof(e), ours[i * e.length:(i + 1) * e.length], f"{path}[{i}]")
            return
        if len(ours) != t.length:
            return self.fail(path, f"{t.length} elements", len(ours))
        for i, one in enumerate(ours):
            self.value(t.type, address + i * drgn.sizeof(e), 0, None, one, f"{path}[{i}]")

    # ---- lines of -at ----

    def heads(self, t, address, out):
        """What stands before `=` of every line of a struct: address, type, name."""
        for m in t.members:
            at, bit = address + m.bit_offset // 8, m.bit_offset % 8
            width = m.bit_field_size
            # an aligned bit-field as wide as an integer is still declared as one
            spot = f"{at:x}" + (f".{bit:x}" if bit else "")
            name = m.name or "<anon>"
            kind = spelled(m.type) + (f":{width}" if width is not None else "")
            blank = "" if kind.endswith("*") else " "
            out.append(f"{spot} {kind}{blank}{name}" + (f" :{width}" if width is not None else ""))
            self.inside(strip(m.type), at, out)

    def inside(self, t, address, out):
        if t.kind in (K.STRUCT, K.UNION) and t.is_complete() and t.tag not in ("in_addr", "in6_addr"):
            self.heads(t, address, out)
        elif t.kind == K.ARRAY and t.length and strip(t.type).kind in (K.STRUCT, K.UNION, K.ARRAY):
            e = strip(t.type)
            for i in range(t.length):
                at = address + i * drgn.sizeof(e)
                if e.kind == K.ARRAY and strip(e.type).kind not in (K.STRUCT, K.UNION, K.ARRAY) and e.length:
                    out.append(f"{at:x} {spelled(t.type)}")
                    continue
                out.append(f"{at:x} {spelled(t.type)}")
                self.inside(e, at, out)

    def text(self, t, address, lines):
        expected = []
        self.heads(t, address, expected)
        got = []
        for line in lines[1:]:
            line = line.strip()
            if line.startswith(("}", "]", "...")):
                continue
            head = re.split(r" = | \{$| \[$|(?<=\]) \[ ", line)[0]
            got.append(re.sub(r"\s+", " ", head).rstrip(" {[").strip())
        self.lines += len(expected)
        for e, g in zip(expected, got):
            if self.same(e) != self.same(g):
                return self.fail("-at", e, g)
        if len(expected) != len(got):
            self.fail("-at", f"{len(expected)} lines", len(got))

    @staticmethod
    def same(head):
        # C has several spellings of one type, and BTF keeps neither a parameter's name nor an attribute
        # nor does it tell `[0]` from `[]`, nor, by an old pahole, a matrix from one array
        head = re.sub(r"\[(\d+)\]\[(\d+)\]", lambda m: f"[{int(m[1]) * int(m[2])}]", head)
        head = head.replace("[0]", "[]").replace("{...}", "").replace("_Bool", "bool").replace("struct <anon>", "<anon>")
        head = re.sub(r"\b(const|volatile|restrict)\b ?", "", head)
        return re.sub(r"[\s]+", "", head)


def run(kmdb, vmcore, script, *options):
    p = subprocess.run([kmdb, "-S", "--no-debuginfo", *options, vmcore], input=script, capture_output=True, text=True)
    return p.stdout, p.stderr


def blocks(text, count):
    """The answers between the marks that ::echo made."""
    parts = re.split(r"^@@ ?\n", text, flags=re.M)
    assert len(parts) == count + 1, (len(parts), count)
    return [p.splitlines() for p in parts[1:]]




def main():
    vmcore, vmlinux, kmdb = sys.argv[1:4]
    count = int(sys.argv[4]) if len(sys.argv) > 4 else 300
    prog = drgn.Program()
    prog.set_core_dump(vmcore)
    prog.load_debug_info([vmlinux])
    found = objects(prog, count)
    check = Check(prog)
    name = lambda t: ("struct " if t.kind == K.STRUCT else "union ") + t.tag
    ask = lambda options: "".join(f"0x{a:x}::print {options} {name(t)}\n" for a, t in found)
    marked = lambda options: "".join(f"::echo @@\n0x{a:x}::print {options} {name(t)}\n" for a, t in found)

    out, err = run(kmdb, vmcore, ask("-LC"), "-o", "json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert len(rows) == len(found), (len(rows), len(found), err[:2000])
    for (a, t), row in zip(found, rows):
        check.where = f"0x{a:x} {name(t)}"
        check.value(t, a, 0, None, row["value"], "")

    out, err = run(kmdb, vmcore, marked("-atnLC"))
    for (a, t), lines in zip(found, blocks(out, len(found))):
        check.where = f"0x{a:x} {name(t)}"
        check.text(t, a, lines)

    plain = blocks(run(kmdb, vmcore, marked("-n"))[0], len(found))
    for option, pattern in (("-dn", r"= -?0x"), ("-xn", r"= -?0t")):
        for (a, t), lines in zip(found, blocks(run(kmdb, vmcore, marked(option))[0], len(found))):
            for line in lines:
                pointer = option == "-dn" and re.search(r"= 0x[0-9a-f]{9,}|\(", line)
                if re.search(pattern, line) and not pointer and "0x" in line and option == "-xn":
                    check.fail(option, "the radix", line)
    for option, limit in (("-s 1", 1), ("-s 2", 2)):
        for (a, t), lines in zip(found, blocks(run(kmdb, vmcore, marked(option))[0], len(found))):
            deepest = max((len(l) - len(l.lstrip())) // 4 for l in lines)
            if deepest > limit:
                check.fail(option, limit, deepest)
    for (a, t), lines, all_lines in zip(found, blocks(run(kmdb, vmcore, marked("-l 2 -c 3 -n"))[0], len(found)), plain):
        for line in lines:
            inner = re.search(r"= \[ (.*?)(, \.\.\.)? \]$", line)
            if inner and not inner[1].startswith('"') and inner[1] != "..." and len(inner[1].split(", ")) > 2:
                check.fail("-l 2", 2, line)
            quoted = re.search(r'= \[ "(.*?)"', line)
            if quoted and len(quoted[1].encode()) > 3:
                check.fail("-c 3", 3, line)
    # holes: with them, what the members of the struct itself cover is all of it
    for (a, t), lines in zip(found, blocks(run(kmdb, vmcore, marked("-ahn"))[0], len(found))):
        if t.kind != K.STRUCT:
            continue
        check.where = f"0x{a:x} {name(t)}"
        holes(check, t, a, lines)
    immediate(check, kmdb, vmcore, found, name)
    physical(check, kmdb, vmcore, found, name)
    print("\n".join(check.bad[:60]))
    print(f"{len(found)} objects of as many types, {check.leaves} values, {check.lines} lines of -at, "
          f"{len(check.bad)} differences")
    sys.exit(1 if check.bad else 0)


def holes(check, t, address, lines):
    """The gaps that drgn's layout has, in bits, against the pseudo-members that -h shows."""
    end, expected = 0, 0
    for m in t.members:
        size = m.bit_field_size
        if size is None:
            mt = strip(m.type)
            if mt.kind == K.ARRAY and not mt.length:
                size = 0
            elif mt.kind in (K.STRUCT, K.UNION) and not mt.is_complete():
                return
            else:
                size = drgn.sizeof(m.type) * 8
        expected += max(0, m.bit_offset - end)
        end = max(end, m.bit_offset + size)
    expected += max(0, t.size * 8 - end)
    shown = 0
    own = [l for l in lines if re.match(r"    [0-9a-f]", l)]
    starts = [spot(l) for l in own]
    following = starts[1:] + [(address + t.size) * 8]
    for line, start, after in zip(own, starts, following):
        if "<<HOLE>>" in line:
            shown += after - start
    if shown != expected:
        check.fail("-h", f"{expected} bits of holes", shown)


def immediate(check, kmdb, vmcore, found, name):
    """-i: a struct of at most 8 bytes, from its value and from its place."""
    small = [(a, t) for a, t in found if t.size <= 8]
    value = lambda a, t: int.from_bytes(check.prog.read(a, t.size), "little")
    there = "".join(f"::echo @@\n0x{a:x}::print -n {name(t)}\n" for a, t in small)
    here = "".join(f"::echo @@\n0x{value(a, t):x}::print -in {name(t)}\n" for a, t in small)
    both = [blocks(run(kmdb, vmcore, text)[0], len(small)) for text in (there, here)]
    for (a, t), one, other in zip(small, *both):
        if one != other:
            check.fail(f"-i {name(t)}", one, other)


def physical(check, kmdb, vmcore, found, name):
    """-p: a struct within a page, from physical memory."""
    whole = [(a, t) for a, t in found if a % 4096 + t.size <= 4096]
    lines = run(kmdb, vmcore, "".join(f"0x{a:x}::vtop\n" for a, _ in whole))[0].splitlines()
    places = {int(m[1], 16): int(m[2], 16) for m in re.finditer(r"virtual (\w+) mapped to physical (\w+)", "\n".join(lines))}
    whole = [(a, t) for a, t in whole if a in places]
    there = "".join(f"::echo @@\n0x{a:x}::print -n {name(t)}\n" for a, t in whole)
    here = "".join(f"::echo @@\n0x{places[a]:x}::print -pn {name(t)}\n" for a, t in whole)
    both = [blocks(run(kmdb, vmcore, text)[0], len(whole)) for text in (there, here)]
    for (a, t), one, other in zip(whole, *both):
        if one != other:
            check.fail(f"-p {name(t)}", one, other)
    if len(whole) < len(found) // 3:
        check.fail("-p", "most of them", len(whole))


def spot(line):
    at, _, bit = line.split()[0].partition(".")
    return int(at, 16) * 8 + (int(bit, 16) if bit else 0)


main()

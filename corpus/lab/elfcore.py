"""ELF cores: the little of them the lab needs."""
import struct


class Core:
    """Notes and physical segments of an ELF core."""

    def __init__(self, path):
        self.file = open(path, "rb")
        head = self.file.read(64)
        self.machine = struct.unpack_from("<H", head, 18)[0]
        phoff, phnum = struct.unpack_from("<Q", head, 32)[0], struct.unpack_from("<H", head, 56)[0]
        self.file.seek(phoff)
        table = [struct.unpack("<IIQQQQQQ", self.file.read(56)) for _ in range(phnum)]
        self.notes = b""
        self.loads = []  # (physical address, bytes in the file, offset)
        for kind, _, offset, _, paddr, filesz, _, _ in table:
            if kind == 4:
                self.file.seek(offset)
                self.notes = self.file.read(filesz)
            elif kind == 1:
                self.loads.append((paddr, filesz, offset))

    def page(self, pfn):
        address = pfn << 12
        for paddr, size, offset in self.loads:
            if paddr <= address and address + 4096 <= paddr + size:
                self.file.seek(offset + address - paddr)
                return self.file.read(4096)
        return None

    def pfns(self):
        return sorted({pfn for paddr, size, _ in self.loads for pfn in range((paddr + 4095) >> 12, (paddr + size) >> 12)})


def write(path, notes, pages, machine=62):
    """Writes an ELF core of {pfn: bytes}, the way QEMU does: physical addresses, p_vaddr 0."""
    runs = []
    for pfn in sorted(pages):
        if runs and runs[-1][0] + runs[-1][1] == pfn:
            runs[-1][1] += 1
        else:
            runs.append([pfn, 1])
    count = 1 + len(runs)
    if count >= 0xFFFF:
        raise ValueError("too many segments")
    at = 64 + 56 * count
    offset = data = (at + len(notes) + 4095) & ~4095
    table = struct.pack("<IIQQQQQQ", 4, 0, at, 0, 0, len(notes), len(notes), 0)
    for pfn, n in runs:
        table += struct.pack("<IIQQQQQQ", 1, 7, offset, 0, pfn << 12, n << 12, n << 12, 0)
        offset += n << 12
    head = b"\x7fELF\2\1\1" + b"\0" * 9
    head += struct.pack("<HHIQQQIHHHHHH", 4, machine, 1, 0, 64, 0, 0, 64, 56, count, 0, 0, 0)
    with open(path, "wb") as f:
        f.write(head + table + notes)
        f.seek(data)
        for pfn in sorted(pages):
            f.write(pages[pfn])


def for_makedumpfile(path, to):
    """QEMU puts the program headers at 192 and says so in e_phoff, which makedumpfile does not read: move them to 64.
    Writes only a header: TO is PATH with its first page replaced (the data is shared where the file system can)."""
    import shutil
    import subprocess

    if subprocess.run(["cp", "--reflink=auto", path, to]).returncode:
        shutil.copy(path, to)
    with open(to, "r+b") as f:
        head = bytearray(f.read(4096))
        phoff, phnum = struct.unpack_from("<Q", head, 32)[0], struct.unpack_from("<H", head, 56)[0]
        head[64:64 + 56 * phnum] = head[phoff:phoff + 56 * phnum]
        struct.pack_into("<QQ", head, 32, 64, 0)
        struct.pack_into("<HHHHHH", head, 52, 64, 56, phnum, 0, 0, 0)
        f.seek(0)
        f.write(head)

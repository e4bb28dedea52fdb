"""The guest's initramfs: a static busybox, /init, our tools and a few kernel modules, written as a newc cpio."""
import gzip
import lzma
import os
import re
import subprocess
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
MODULES = "virtio_pci virtio_blk virtio_console virtio_rng qemu_fw_cfg loop overlay dummy veth ext4".split()


class Cpio:
    def __init__(self):
        self.out, self.inode, self.seen = bytearray(), 1, set()

    def entry(self, name, mode, data=b"", device=(0, 0)):
        self.inode += 1
        path = name.strip("/").encode() + b"\0"
        fields = (self.inode, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(path), 0)
        self.out += b"070701" + "".join("%08X" % f for f in fields).encode() + path
        self.out += b"\0" * (-len(self.out) % 4) + data
        self.out += b"\0" * (-len(self.out) % 4)

    def dir(self, name):
        name = name.strip("/")
        if name and name not in self.seen:
            self.dir(os.path.dirname(name))
            self.seen.add(name)
            self.entry(name, 0o40755)

    def file(self, name, data, mode=0o755):
        self.dir(os.path.dirname(name))
        self.entry(name, 0o100000 | mode, data)

    def link(self, name, to):
        self.dir(os.path.dirname(name))
        self.entry(name, 0o120777, to.encode())

    def node(self, name, major, minor):
        self.dir(os.path.dirname(name))
        self.entry(name, 0o20600, b"", (major, minor))

    def program(self, path, dest):
        """A program of the host with the shared libraries it needs, at their own paths."""
        self.file(dest, read(path))
        for lib in re.findall(r"(/\S+) \(0x", subprocess.run(["ldd", path], capture_output=True, text=True).stdout):
            if lib not in self.seen:
                self.seen.add(lib)
                self.file(lib, read(lib))

    def done(self):
        self.entry("TRAILER!!!", 0)
        return gzip.compress(bytes(self.out) + b"\0" * (-len(self.out) % 512), 1)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def module_bytes(path):
    data = read(path)
    if path.endswith(".xz"):
        return lzma.decompress(data)
    if path.endswith(".zst"):
        return subprocess.run(["zstd", "-dc", path], capture_output=True, check=True).stdout
    return data


def modules(kernel_dir, wanted):
    """The wanted modules and what they depend on, in loading order."""
    paths, loaded, order = {}, {}, []
    for where, _, names in os.walk(f"{kernel_dir}/modules"):
        for name in names:
            if m := re.match(r"(.+)\.ko(\.\w+)?$", name):
                paths[m.group(1).replace("-", "_")] = os.path.join(where, name)

    def add(name):
        name = name.replace("-", "_")
        if name in loaded or name not in paths:
            return  # built in
        data = loaded[name] = module_bytes(paths[name])
        depends = re.search(rb"\0?depends=([^\0]*)\0", data)
        for other in depends.group(1).decode().split(",") if depends and depends.group(1) else []:
            add(other)
        order.append(name)

    for name in wanted:
        add(name)
    return [(name, loaded[name]) for name in order]


def stripped(path):
    """A module as the kernel's own install step leaves it: BTF stays, DWARF goes."""
    with tempfile.NamedTemporaryFile() as t:
        subprocess.run(["strip", "--strip-debug", "-o", t.name, path], check=True)
        return read(t.name)


def arch(lab, kernel):
    """What dpkg calls the kernel's architecture."""
    return "arm64" if "arm64" in read(f"{lab}/kern/{kernel}/release").decode() else "amd64"


def base(lab, kernel, wanted=None, init="init"):
    kernel_dir, c = f"{lab}/kern/{kernel}", Cpio()
    other = "-arm64" if arch(lab, kernel) == "arm64" else ""
    for d in "proc sys dev tmp lab truth bin sbin etc root mnt lib/modules".split():
        c.dir(d)
    c.node("dev/console", 5, 1)
    c.node("dev/null", 1, 3)
    c.file("bin/busybox", read(f"{lab}/build/busybox{other}" if other else "/bin/busybox"))
    c.link("bin/sh", "busybox")
    c.file("init", read(f"{HERE}/guest/{init}"))
    c.file("lib.sh", read(f"{HERE}/guest/lib.sh"))
    loaded = modules(kernel_dir, MODULES if wanted is None else wanted)
    for name, data in loaded:
        c.file(f"lib/modules/{name}.ko", data, 0o644)
    c.file("lib/modules/order", "".join(name + "\n" for name, _ in loaded).encode(), 0o644)
    if init == "init":
        for tool in ("labtool", "actors"):
            c.file(f"bin/{tool}", read(f"{lab}/build/{tool}{other}"))
        if os.path.exists(f"{kernel_dir}/labmod.ko"):
            c.file("labmod.ko", stripped(f"{kernel_dir}/labmod.ko"), 0o644)
    return c

#!/usr/bin/env python3
"""corpus.py OUTDIR [NAME...]   makes the committed corpus out of the matrix's small-* dumps: OUTDIR/NAME/vmcore.zst and truth/.

A dump goes in only if drgn says the same about the filtered one as about the whole one.
"""
import filecmp
import glob
import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
LAB = os.environ["KMDB_LAB"]
# whether the kernel's text comes along, and the big table of symbols
CORPUS = {"k612-uaf": ("used", True), "k61-uaf": ("used", True), "k612-plain": ("none", False), "k612-arm64": ("none", True),
          "k612-zoo": ("none", False), "k612-crash": ("used", False)}
PLAIN_TEXT = 40_000  # truth files above this many bytes are compressed


def run(*command):
    subprocess.run(command, check=True)


def pack(source, to):
    # the window stays within what every decoder takes by default
    run("zstd", "-q", "-f", "--ultra", "-22", "--long=27", source, "-o", to)


def same(a, b):
    """Compares two oracle folders; the names of the files that differ."""
    names = sorted(set(os.listdir(a)) | set(os.listdir(b)))
    return filecmp.cmpfiles(a, b, names, shallow=False)[1:]


def make(name, out):
    text, symbols = CORPUS[name]
    small = f"{LAB}/dumps/small-{name}"
    with open(f"{small}/kernel") as f:
        kernel = f"{LAB}/kern/{f.read().strip()}"
    debug = [f"{kernel}/vmlinux", f"{kernel}/labmod.ko", f"{kernel}/crasher.ko"] + glob.glob(f"{kernel}/moddbg/*")
    core = f"{small}/filtered.elf"
    run(f"{HERE}/filter.py", debug[0], f"{small}/vmcore.elf", core, "--text", text)
    for dump, to in ((f"{small}/vmcore.elf", "oracle"), (core, "oracle.filtered")):
        shutil.rmtree(f"{small}/{to}", ignore_errors=True)
        run(f"{HERE}/oracle.py", f"{small}/{to}", dump, *debug)
    if any(differ := same(f"{small}/oracle", f"{small}/oracle.filtered")):
        sys.exit(f"{name}: the filter lost something: {differ}")
    shutil.rmtree(f"{out}/{name}", ignore_errors=True)
    truth = f"{out}/{name}/truth"
    os.makedirs(truth)
    pack(core, f"{out}/{name}/vmcore.zst")
    os.unlink(core)
    guest = f"{small}/truth"
    if os.path.exists(f"{kernel}/labmod.ko") and os.path.exists(f"{guest}/labmod.txt"):
        pack(f"{kernel}/labmod.ko", f"{out}/{name}/labmod.ko.zst")
    for packed, to in (("trace/trace.gz", "trace.txt"), ("kallsyms.gz", "kallsyms")):
        if os.path.exists(f"{guest}/{packed}"):
            with open(f"{guest}/{to}", "wb") as f:
                subprocess.run(["gzip", "-dc", f"{guest}/{packed}"], stdout=f, check=True)
    with open(f"{guest}/pid.txt", "w") as f:
        for path in sorted(glob.glob(f"{guest}/pid/*.txt"), key=lambda p: int(os.path.basename(p)[:-4])):
            f.write(f"=== {os.path.basename(path)[:-4]}\n")
            with open(path, errors="backslashreplace") as one:
                f.write(one.read())
    wanted = "version cmdline modules mountinfo module-sections ps.final dmesg labmod.txt actors.txt pid.txt trace.txt".split()
    wanted += ["slab/slabinfo", "slab/alloc_traces", "slab/free_traces", "trace/stats"] + ["kallsyms"] * symbols
    told = [f"{small}/oracle/{o}" for o in os.listdir(f"{small}/oracle")]
    if os.path.exists(f"{guest}/zoo.txt"):
        wanted, told = "version cmdline dmesg zoo.txt".split(), []  # the only oracle of damage is who did it
    if not os.path.exists(f"{guest}/version"):
        # it died before it could tell anything but on its console
        shutil.copy(f"{small}/console.log", f"{guest}/console")
        wanted, told = ["console"], [f"{small}/oracle/stacks.txt"]
    for file in [f"{guest}/{w}" for w in wanted] + told:
        if not os.path.exists(file):
            continue
        to = f"{truth}/{'drgn-' if '/oracle/' in file else ''}{os.path.basename(file)}"
        if os.path.getsize(file) > PLAIN_TEXT and not file.endswith(".zst"):
            pack(file, to + ".zst")
        else:
            shutil.copy(file, to)
            os.chmod(to, 0o644)
    size = sum(os.path.getsize(os.path.join(w, f)) for w, _, fs in os.walk(f"{out}/{name}") for f in fs)
    print(f"{name}: {os.path.getsize(f'{out}/{name}/vmcore.zst') / 1e6:.1f} MB, with its truth {size / 1e6:.1f} MB")


if __name__ == "__main__":
    for each in sys.argv[2:] or CORPUS:
        make(each, sys.argv[1])

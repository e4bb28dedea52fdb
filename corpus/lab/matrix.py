#!/usr/bin/env python3
"""matrix.py [--kernels | --names] [NAME...]   makes the dumps of the matrix below (all, or those named; * matches) in $KMDB_LAB/dumps.

Each becomes dumps/NAME/ with vmcore* files, truth/ (what the guest said about itself), oracle/ (what drgn says about the
dump), console.log, stamp. A dump whose stamp still fits (kernel, recipe, tools) is left alone. As many guests run at once
as there are CPUs, while the next kernels are fetched. --kernels and --names only say what it would take.

The exit status is 1 if something failed, not if something could not be had: no network, no tool, no room on the disk, or
no time left ($LAB_SECONDS, if set, is when no new dump is begun).
"""
import concurrent.futures
import fnmatch
import glob
import hashlib
import os
import shutil
import struct
import subprocess
import sys
import threading
import time

import crashes
import elfcore
import initramfs
import modules
import vm as machine
import zoo
from vm import VM

HERE = os.path.dirname(os.path.abspath(__file__))
LAB = os.environ["KMDB_LAB"]

RICH = "step mods\nmods\nnet\ncgroups\nstep tree\ntree {files}\nstep actors\nactors\nstep trace\ntraceon {ring}\nnoise {noise}\n"
CLOSED = "traceoff\nstep truth\ntruth\nstep final\nfinal\n"
DEBUG = "slub_debug=FZPU"
# the trace's text shall show addresses (slub_debug does that by itself)
PLAIN = "no_hash_pointers"

rich = (RICH + CLOSED).format(files=600, ring=1024, noise=3)
plain = (RICH + CLOSED).format(files=2000, ring=2048, noise=6)
story = RICH.format(files=200, ring=2048, noise=1) + "story spill\n" + CLOSED
# small enough for the corpus: no ext4 disk, few files, one CPU. The ring holds the whole story, or only its end
small = ("mods\nmkdir -p /lab/data\nfor i in 1 2 3 4 5 6 7 8; do echo $i > /lab/data/file_$i; done\nnet 2>/dev/null\n{first}\n"
         "traceon {ring} kmem\nls -lR /lab/data /proc/1 > /dev/null 2>&1\n{story}\ntraceoff\nminitruth\nfinal\n")
SMALL = dict(cpus=1, mem=96, ext4=False, truth_mb=32, wanted=["virtio_pci", "virtio_blk", "qemu_fw_cfg"])
# the same, with all of the truth and a disk
state = small.replace("minitruth", "truth")
STATE = dict(mem=160, truth_mb=64)
QUIET = "quiet loglevel=4"
# 8 GB with millions of objects: the guest runs crowd.c beside the usual things
big = ("mods\nnet\ncgroups\ntree 2000\nactors\nstep crowd\ncrowd {crowd} > /tmp/crowd &\n"
       "while [ -e /proc/$! ] && ! grep -q complete /tmp/crowd; do sleep 1; done\ncat /tmp/crowd\n"
       "step truth\nproc cmdline version modules meminfo\nstep final\nfinal\n")
# a machine with many processes, open files and names: 2,000 sleepers with ten files each, a million files
throng = "mount -o remount,nr_inodes=0,size=90% /lab\n" + big.format(crowd="1000000 1 0 500 10 16 2000 10")
THRONG = dict(mem=3584, patience=1500, crowd=True, oracle=False)
BIG = dict(mem=8192, patience=1500, crowd=True, oracle=False)
# memory that is swapped out, huge pages, and what the memory manager's files say straight before the machine is stopped
memory = (RICH + "dd if=/dev/zero of=/lab/ext4/swap bs=1M count=16\nchmod 600 /lab/ext4/swap\nmkswap /lab/ext4/swap > /dev/null\n"
          "swapon /lab/ext4/swap\necho 2 > /proc/sys/vm/nr_hugepages\n"
          "dd if=/dev/urandom of=/lab/fill bs=1M count={fill} 2>/dev/null\n" + CLOSED +
          "mkdir -p /truth/last\nsync\nsleep 1\nfor f in swaps vmallocinfo buddyinfo zoneinfo vmstat meminfo; do cat /proc/$f > /truth/last/$f; done\n"
          ).format(files=200, ring=160, noise=1, fill=120)
LA48 = "max,la57=off"  # no five-level page tables
NUMA = ["-object", "memory-backend-ram,id=m0,size=512M", "-object", "memory-backend-ram,id=m1,size=512M",
        "-numa", "node,memdev=m0,cpus=0-1", "-numa", "node,memdev=m1,cpus=2-3"]
A72 = "cortex-a72"
A76 = "cortex-a76"  # with 16 KiB pages, without 52-bit addresses
ARM_MAX = "max,pauth-impdef=on"  # the architected hash of PAC takes TCG most of its time

# hooks into the kernel, System V's objects by hand, and the rest of what /proc says of the machine
HOOKED = """step hooks
echo 'p:lab_open do_sys_openat2' > /sys/kernel/tracing/kprobe_events
echo 1 > /sys/kernel/tracing/events/kprobes/lab_open/enable
echo vfs_read > /sys/kernel/tracing/set_ftrace_filter
ip route add 203.0.113.0/24 via 192.0.2.9 2>/dev/null
ip route add blackhole 203.0.113.128/25 2>/dev/null
ip -6 route add 2001:db8:1::/48 dev lo 2>/dev/null
ip neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev lab_dummy0 2>/dev/null
ls /tmp > /dev/null
"""
MACHINE = """step machine
mkdir -p /truth/net /truth/sysvipc
proc cmdline version modules iomem ioports devices net/tcp net/tcp6 net/udp net/udp6 net/raw net/unix net/netlink \\
    net/packet net/route net/ipv6_route net/fib_trie net/arp net/if_inet6 net/dev sysvipc/shm sysvipc/sem sysvipc/msg
sysctl -a > /truth/sysctl 2>/dev/null
cat /sys/kernel/debug/kprobes/list > /truth/kprobes
cat /sys/kernel/tracing/enabled_functions > /truth/enabled_functions
ip addr > /truth/ip.addr
ip route show table all > /truth/ip.route
ls -d /sys/bus/*/devices/* /sys/class/*/* > /truth/sysfs.devices
ls -d /sys/bus/*/drivers/* > /truth/sysfs.drivers
grep -s . /sys/module/*/parameters/* > /truth/parameters
proc softirqs interrupts timer_list
"""
# rules of nftables with all that hangs on them: hooks of every family, connections being tracked, addresses translated
FILTERED = """step netfilter
nft -f - <<'EOF'
table inet lab {
  set ports { type inet_service; elements = { 22, 80, 443, 7777 }; }
  chain in_all { type filter hook input priority 0; policy accept; ct state established counter; tcp dport @ports counter; }
  chain early { type filter hook prerouting priority -300; }
  chain other { counter; }
  chain through { type filter hook forward priority 10; policy drop; jump other; }
}
table ip lab4 {
  chain post { type nat hook postrouting priority 100; masquerade; }
}
table arp lab_arp {
  chain in_arp { type filter hook input priority 0; }
}
table netdev lab_dev {
  chain ingress_dummy { type filter hook ingress device "lab_dummy0" priority 5; }
}
EOF
ping -c 1 192.0.2.7 > /dev/null
unshare -n sh -c 'ip link set lo up; nft add table ip other; nft "add chain ip other out { type filter hook output priority 7; }"; exec sleep 77771' &
sleep 2
nft list ruleset > /truth/nft.ruleset
nft list hooks > /truth/nft.hooks 2>/dev/null
cp /proc/net/nf_conntrack /truth/ 2>/dev/null
"""
FILTERS = ("nf_tables nft_ct nft_chain_nat nft_masq nft_counter nf_conntrack nf_nat nfnetlink nfnetlink_hook nf_tables_set nft_set_hash "
           "nft_set_rbtree").split()
hooked = "step mods\nmods\nnet\nactors\n" + HOOKED + MACHINE


def old_program():
    """A program of 32 bits that waits in poll(NULL, 0, -1) for ever, as printf has it."""
    # mov $168,%eax; xor %ebx,%ebx; xor %ecx,%ecx; mov $-1,%edx; int $0x80; jmp back
    code = bytes.fromhex("b8a8000000 31db 31c9 baffffffff cd80 ebec")
    at, size = 0x8048000, 52 + 32 + len(code)
    elf = struct.pack("<16sHHIIIIIHHHHHH", b"\x7fELF\1\1\1", 2, 3, 1, at + 84, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    elf += struct.pack("<IIIIIIII", 1, 0, at, at, size, size, 5, 4096) + code
    return "".join(f"\\{byte:03o}" for byte in elf)


# cgroups of version 1, a program of another word size, requests that wait
BUSY = f"""actors
mkdir -p /tmp/named /tmp/freezer
mount -t cgroup -o none,name=lab lab /tmp/named
mount -t cgroup -o freezer lab /tmp/freezer
mkdir -p /tmp/named/g1/g2 /tmp/freezer/f1
printf '{old_program()}' > /bin/lab_old
chmod 755 /bin/lab_old
/bin/lab_old &
echo $! > /tmp/named/g1/g2/cgroup.procs
echo $! > /tmp/freezer/f1/cgroup.procs
s=$(disk labslow)
for i in 1 2 3 4 5 6; do dd if=$s of=/dev/null bs=4k skip=$((i * 1000)) & done
mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null
sleep 8
"""
BUSY_TRUTH = "for b in /sys/block/*; do echo ${b##*/} $(cat $b/inflight); done > /truth/inflight\nlabtool cat /sys/kernel/debug/block/*/hctx*/busy > /truth/requests\n"

# name -> what to boot, what it does, what to write down. `files`: vmcore name -> QEMU's format
MATRIX = {
    "k612-dbg": dict(kernel="k612", script=rich, append=DEBUG),
    "k61-dbg": dict(kernel="k61", script=rich, append=DEBUG, cpu=LA48),
    "k612-plain": dict(kernel="k612", script=plain + "traceagain\n", append=PLAIN),
    "k61-plain": dict(kernel="k61", script=plain + "traceagain\n", append=PLAIN),
    "k612-story": dict(kernel="k612", script=story, append=DEBUG),
    "k61-story": dict(kernel="k61", script=story, append=DEBUG, cpu=LA48),
    "k510-dbg": dict(kernel="k510", script=rich, append=DEBUG),
    "k510-plain": dict(kernel="k510", script=plain + "traceagain\n"),
    "k72-dbg": dict(kernel="k72", script=rich, append=DEBUG),
    "k72-plain": dict(kernel="k72", script=plain + "traceagain\n", append=PLAIN),
    **{f"{k}-dbg": dict(kernel=k, script=rich, append=DEBUG) for k in ("k73", "k612-13")},
    **{f"{k}-plain": dict(kernel=k, script=plain + "traceagain\n", append=PLAIN) for k in ("k73", "k612-13")},
    # KFENCE takes an allocation every millisecond (Debian leaves it off)
    "k612-kfence": dict(kernel="k612", script=plain + "traceagain\n", append=PLAIN + " kfence.sample_interval=1"),
    # no VMCOREINFO note, four levels, page table isolation; KASLR off
    "k612-pti": dict(kernel="k612", script=rich, append=DEBUG + " pti=on", cpu=LA48, device_note=False,
                     files={"vmcore.elf": "elf", "vmcore.paging": "paging"}),
    "k61-nokaslr": dict(kernel="k61", script=rich, append=DEBUG + " nokaslr", device_note=False),
    # QEMU's own compressed forms: flattened
    "k612-flat": dict(kernel="k612", script=rich, append=DEBUG,
                      files={"vmcore.elf": "elf", "vmcore.zlib": "kdump-zlib", "vmcore.lzo": "kdump-lzo",
                             "vmcore.snappy": "kdump-snappy"}),
    # the real way: panic, crash kernel, /proc/vmcore
    "k612-kdump": dict(kernel="k612", script=rich, append=DEBUG, kdump="sysrq_c"),
    "k61-kdump": dict(kernel="k61", script=rich, append=DEBUG, kdump="sysrq_c"),
    "k612-kdump-story": dict(kernel="k612", script=story, append=DEBUG, kdump="sysrq_c"),
    # taken while the crash kernel runs: two kernels in one memory
    "k612-two": dict(kernel="k612", script=rich, append=DEBUG, kdump="sysrq_c", interrupted=True),
    # one state in every container: FORMS_OF
    **{f"{k}-forms": dict(kernel=k, script=state.format(first="cgroups\nactors", ring=160, story="story"), append=f"{DEBUG} {QUIET}", **STATE)
       for k in ("k612", "k61", "k510", "k72")},
    "k612-plain-forms": dict(kernel="k612", script=state.format(first="cgroups\nactors", ring=160, story="story"), append=f"{PLAIN} {QUIET}", **STATE),
    **{f"{k}-busy": dict(kernel=k, script=state.format(first=BUSY, ring=160, story=BUSY_TRUTH), append=f"{PLAIN} {QUIET}", hardware=crashes.SLOW, **STATE)
       for k in ("k612", "k61", "k510", "k72")},
    # Debian's full and PREEMPT_RT kernels
    **{f"{k}-dbg": dict(kernel=k, script=rich, append=DEBUG) for k in ("k612-rt", "k61-rt", "k612-full", "k61-full")},
    "k612-rt-plain": dict(kernel="k612-rt", script=plain + "traceagain\n", append=PLAIN),
    # machines: two nodes, memory on both sides of the PCI hole, CPUs taken away, huge pages, caches that are not merged
    "k612-numa": dict(kernel="k612", script=rich, append=DEBUG, cpus=4, mem=1024, hardware=NUMA),
    "k61-numa": dict(kernel="k61", script=plain, append=PLAIN, cpus=4, mem=1024, hardware=NUMA),
    "k612-hole": dict(kernel="k612", script=plain, append=PLAIN, mem=4096, cpus=1),
    "k612-offline": dict(kernel="k612", script=rich.replace(CLOSED, "offline 1 3\n" + CLOSED), append=DEBUG, cpus=4),
    "k61-offline": dict(kernel="k61", script=plain.replace(CLOSED, "offline 1 3\n" + CLOSED), append=PLAIN, cpus=4, cpu=LA48),
    "k612-huge": dict(kernel="k612", script=rich, append=f"{DEBUG} hugepages=32 transparent_hugepage=always"),
    "k612-nomerge": dict(kernel="k612", script=plain, append=f"{PLAIN} slab_nomerge"),
    **{f"{k}-memory": dict(kernel=k, script=memory, append=f"{PLAIN} {QUIET}", mem=256) for k in ("k510", "k61", "k612", "k72")},
    "a612-memory": dict(kernel="a612", script=memory, append=f"{PLAIN} {QUIET}", mem=256, cpu=A72),
    # each of slub_debug's checks by itself, and all for one cache
    **{f"k612-slub-{tag}": dict(kernel="k612", script=state.format(first="", ring=160, story=""), append=f"slub_debug={flags} {QUIET}", **STATE)
       for tag, flags in dict(f="F", u="U", z="Z", p="P", one="U,dentry", zu="ZU").items()},
    # for benchmarks; python would take hours over them, so nobody asks drgn for all it knows
    "big-plain": dict(kernel="k612", script=big.format(crowd="400000 100000 12 30000 3000 1500"), append=f"{PLAIN} {QUIET}", **BIG),
    "big-dbg": dict(kernel="k612", script=big.format(crowd="300000 100000 14 20000 2000 300"), append=f"{DEBUG} {QUIET}", **BIG),
    # arm64: 4 KiB pages and 48 bits; with a processor that has them, 52 bits (LPA2), 16 KiB pages, PAC; and those kernels
    # on a processor that has not
    "a510-dbg": dict(kernel="a510", script=rich, append=DEBUG, cpu=A72),
    "a61-dbg": dict(kernel="a61", script=rich, append=DEBUG, cpu=A72),
    "a61-plain": dict(kernel="a61", script=plain + "traceagain\n", append=PLAIN, cpu=ARM_MAX),
    "a612-dbg": dict(kernel="a612", script=rich, append=DEBUG, cpu=ARM_MAX),
    "a612-flat": dict(kernel="a612", script=rich, append=DEBUG, cpu=ARM_MAX,
                      files={"vmcore.elf": "elf", "vmcore.zlib": "kdump-zlib"}),
    "a612-16k-flat": dict(kernel="a612-16k", script=rich, append=DEBUG, cpu=ARM_MAX,
                          files={"vmcore.elf": "elf", "vmcore.zlib": "kdump-zlib"}),
    "a612-plain": dict(kernel="a612", script=plain + "traceagain\n", append=PLAIN, cpu=A72),
    "a612-16k-dbg": dict(kernel="a612-16k", script=rich, append=DEBUG, cpu=ARM_MAX),
    "a612-16k-plain": dict(kernel="a612-16k", script=plain + "traceagain\n", append=PLAIN, cpu=A76),
    "a72-dbg": dict(kernel="a72", script=rich, append=DEBUG, cpu=ARM_MAX),
    "a72-16k-plain": dict(kernel="a72-16k", script=plain + "traceagain\n", append=PLAIN, cpu=ARM_MAX),
    # what is hooked into the kernel, and all that /proc and /sys say of devices, settings, parameters, routes
    **{f"{k}-machine": dict(kernel=k, script=hooked, append=PLAIN) for k in ("k612", "k61", "k510", "k72", "k73")},
    "a612-machine": dict(kernel="a612", script=hooked, append=PLAIN, cpu=A72),
    # the packet filter; nft is the host's
    **{f"{k}-netfilter": dict(kernel=k, script="mods\nnet\nactors\n" + FILTERED + "truth\nfinal\n", append=PLAIN,
                              programs={"/usr/sbin/nft": "bin/nft"}, wanted=initramfs.MODULES + FILTERS, cpu=LA48)
       for k in ("k612", "k61", "k510", "k72")},
    # 2,000 processes, 20,000 open files, a million dentries: for benchmarks, on a kernel that crash reads too
    **{f"crowd-{k}": dict(kernel=k, script=throng, append=PLAIN, **THRONG) for k in ("k61", "k612")},
    # for the corpus
    "small-k612-uaf": dict(kernel="k612", script=small.format(first="", ring=640, story="story spill"), append=f"{DEBUG} {QUIET}", **SMALL),
    "small-k61-uaf": dict(kernel="k61", script=small.format(first="", ring=640, story="story spill"), append=f"{DEBUG} {QUIET}",
                          **{**SMALL, "cpu": LA48}),
    "small-k612-arm64": dict(kernel="a612", script=small.format(first="cgroups\nactors", ring=320, story=""), append=f"{DEBUG} {QUIET}",
                             **{**SMALL, "cpu": ARM_MAX, "wanted": SMALL["wanted"] + ["dummy"]}),
    "small-k612-plain": dict(kernel="k612", script=small.format(first="cgroups\nactors", ring=160, story="story"), append=f"{PLAIN} {QUIET}",
                             **{**SMALL, "wanted": SMALL["wanted"] + ["overlay", "dummy"]}),
    "small-k612-zoo": dict(kernel="k612", module="zoo", script=small.replace("final\n", "").format(first="", ring=2048, story=zoo.COMMIT),
                           append=f"{PLAIN} {QUIET}", **SMALL),
    **zoo.recipes(DEBUG, PLAIN, LA48, A72),
}

MATRIX.update(crashes.MATRIX)

# makedumpfile's forms of a finished dump: name -> arguments
FORMS = {"c-d0": "-c -d 0", "z-d0": "-z -d 0", "l-d0": "-l -d 0", "p-d0": "-p -d 0", "u-d0": "-d 0", "d1": "-z -d 1",
         "c-d31": "-c -d 31", "z-d31": "-z -d 31", "l-d31": "-l -d 31", "u-d31": "-d 31", "E-d0": "-E -d 0", "E-d31": "-E -d 31",
         "F-c-d0": "-F -c -d 0", "F-c-d31": "-F -c -d 31", "split": "--split -c -d 31", "split-d0": "--split -z -d 0"}
LARGE = ("u-d0", "E-d0", "l-d0", "p-d0", "F-c-d0", "split-d0", "d1")  # for the small guests only
FORMS_OF = ("k612-dbg", "k612-plain", "k61-dbg", "k612-forms", "k612-plain-forms", "k61-forms", "k510-forms", "k72-forms")


def stamp(recipe):
    """What a dump depends on."""
    h = hashlib.sha256(repr(sorted(recipe.items())).encode())
    with open(f"{LAB}/kern/{recipe['kernel']}/release") as f:
        h.update(f.read().encode())
    guest = [path for path in glob.glob(f"{HERE}/guest/*") if recipe.get("crowd") or not path.endswith("/crowd.c")]
    module = "crasher" if "crash" in recipe else recipe.get("module", "labmod")
    for path in sorted(guest + glob.glob(f"{HERE}/{module}/*") + [f"{HERE}/vm.py", f"{HERE}/initramfs.py"]):
        h.update(initramfs.read(path))
    h.update(subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, check=True).stdout)
    return h.hexdigest()


def boot(name, recipe):
    recipe = dict(recipe)
    files = recipe.pop("files", {"vmcore.elf": "elf"})
    script, kernel = recipe.pop("script") + "ready\nsend\n", recipe.pop("kernel")
    patience = recipe.pop("patience", 300)
    recipe.pop("oracle", None)
    if programs := recipe.pop("programs", None):
        if missing := [path for path in programs if not os.path.exists(path)]:
            raise Skipped(f"needs {' '.join(missing)}")
        recipe["add"] = lambda cpio: [cpio.program(path, to) for path, to in programs.items()]
    if recipe.pop("crowd", False):
        program = initramfs.read(f"{LAB}/build/crowd")
        recipe["add"] = lambda cpio: cpio.file("bin/crowd", program)
    if recipe.pop("module", None) == "zoo":
        recipe["add"] = lambda cpio: modules.add(LAB, kernel, "zoo", cpio)
    vm = VM(LAB, name, kernel, script, **recipe)
    try:
        vm.wait("LAB-READY", patience)
        time.sleep(1)  # let it come to rest
        vm.qmp("stop")
        for file, fmt in files.items():
            try:
                vm.dump(file, "elf" if fmt == "paging" else fmt, paging=fmt == "paging")
            except RuntimeError as e:
                say(f"{e} (left out)")
        vm.qmp("cont")
        vm.say("go")
        vm.wait("LAB-END")
        vm.end()
    except BaseException:
        vm.kill()
        raise


def dump_disk(path):
    """A disk for the dumps that a crash kernel writes."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.truncate(1600 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", path], check=True)


def crash_kernel(kernel, wanted, interrupted=False):
    """What puts a crash kernel into a guest that writes these forms of a dump, and which files it writes."""
    new = f"{LAB}/makedumpfile"
    capture = initramfs.base(LAB, kernel, ["virtio_pci", "virtio_blk", "ext4"], init="capture-init")
    steps, files = ["try cp /sys/kernel/vmcoreinfo /mnt/vmcoreinfo"], ["capture.dmesg", "capture.cmdline"]
    if "elf" in wanted:
        steps.insert(0, "try cp /proc/vmcore /mnt/vmcore.elf")
        files.insert(0, "vmcore.elf")
    if os.path.exists(f"{new}/run"):
        for path in [f"{new}/usr/bin/makedumpfile", f"{new}/run"] + glob.glob(f"{new}/usr/lib/x86_64-linux-gnu/*.so*"):
            capture.file("mdf" + path[len(new):], initramfs.read(path))
        for form in filter(wanted.__contains__, ("z-d31", "c-d31", "l-d31", "c-d0")):
            steps.append(f"try /mdf/run --message-level 0 {FORMS[form]} /proc/vmcore /mnt/vmcore.{form}")
            files.append(f"vmcore.{form}")
    if (old := shutil.which("makedumpfile")) and "old-c-d31" in wanted:
        # what a distribution of today does to a kernel of tomorrow
        capture.program(old, "bin/makedumpfile")
        steps.append("try makedumpfile --message-level 0 -c -d 31 /proc/vmcore /mnt/vmcore.old-c-d31")
        files.append("vmcore.old-c-d31")
    if interrupted:
        steps, files = ["echo LAB-SECOND", "sleep 60"], ["capture.dmesg"]
    capture.file("capture.sh", ("\n".join(steps) + "\n").encode())
    image = capture.done()

    def add(cpio):
        modules.add(LAB, kernel, "crasher", cpio)
        cpio.file("kdump/vmlinuz", initramfs.read(f"{LAB}/kern/{kernel}/vmlinuz"))
        cpio.file("kdump/initrd", image)

    return add, files


def take_out(disk, files, where):
    """Files from a disk, but for those that were not written."""
    for file in files:
        to = f"{where}/{file}"
        subprocess.run(["debugfs", "-R", f"dump /{file} {to}", disk], stderr=subprocess.DEVNULL, check=True)
        if os.path.exists(to) and not os.path.getsize(to):
            os.unlink(to)


def boot_kdump(name, recipe):
    recipe = dict(recipe)
    verb, kernel, interrupted = recipe.pop("kdump"), recipe.pop("kernel"), recipe.pop("interrupted", False)
    script = recipe.pop("script") + f"send\nkdump {verb}\n"
    wanted = recipe.pop("forms", ("elf", "z-d31", "c-d31", "l-d31", "c-d0", "old-c-d31"))
    disk = f"{LAB}/run/{name}.dump.raw"
    dump_disk(disk)
    add, files = crash_kernel(kernel, wanted, interrupted)
    recipe["append"] += " crashkernel=192M"
    vm = VM(LAB, name, kernel, script, disks=[("labdump", disk)], add=add, **recipe)
    try:
        if interrupted:
            vm.wait("LAB-SECOND", 400)
            vm.qmp("stop")
            vm.dump("vmcore.elf")
            vm.qmp("quit")
            os.unlink(disk)
            return vm.end()
        vm.wait("LAB-CAPTURED", 600)
        vm.end()
    except BaseException:
        vm.kill()
        raise
    take_out(disk, files, vm.dir)
    os.unlink(disk)


def boot_crash(name, recipe):
    if recipe["by"] == "qemu":
        return crashes.boot(LAB, name, recipe)
    boot_kdump(name, {**crashes.options(recipe), "kernel": recipe["kernel"], "script": crashes.script(recipe),
                      "kdump": "bring_down", "forms": ("z-d31",)})


def forms(name):
    """makedumpfile's forms of dumps/NAME/vmcore.elf, in dumps/NAME/v/."""
    run, d = f"{LAB}/makedumpfile/run", f"{LAB}/dumps/{name}"
    if not os.path.exists(run):
        return say(f"{name}: no makedumpfile, no compressed forms")
    shutil.rmtree(f"{d}/v", ignore_errors=True)
    os.makedirs(f"{d}/v")
    source = f"{d}/v/source"
    elfcore.for_makedumpfile(f"{d}/vmcore.elf", source)
    small = os.path.getsize(source) < 256 << 20
    for form, args in FORMS.items():
        if form in LARGE and not small:
            continue
        command, to = [run, "--message-level", "0", *args.split(), source], f"{d}/v/vmcore.{form}"
        if form.startswith("F-"):
            with open(to, "wb") as f:
                made = subprocess.run(command, stdout=f, timeout=300)
        else:
            into = [f"{to}.{i}" for i in range(3)] if form.startswith("split") else [to]
            made = subprocess.run(command + into, stdout=subprocess.DEVNULL, timeout=300)
        if made.returncode:  # a kernel or a codec that this makedumpfile does not know
            say(f"{name}: makedumpfile {args}: exit status {made.returncode}")
            for f in glob.glob(f"{to}*"):
                os.unlink(f)
    os.unlink(source)
    for f in glob.glob(f"{d}/v/*"):
        os.chmod(f, 0o644)
        subprocess.run(["fallocate", "--dig-holes", f], stderr=subprocess.DEVNULL, check=False)


def oracle(name, kernel, *parts):
    """What drgn says, if it is installed and the kernel's DWARF is here."""
    d, k = f"{LAB}/dumps/{name}", f"{LAB}/kern/{kernel}"
    if not os.path.exists(f"{k}/vmlinux") or subprocess.run([sys.executable, "-c", "import drgn"], stderr=subprocess.DEVNULL).returncode:
        return
    made = subprocess.run([sys.executable, f"{HERE}/oracle.py", *parts, f"{d}/oracle", f"{d}/vmcore.elf", f"{k}/vmlinux", f"{k}/labmod.ko",
                           f"{k}/crasher.ko", *glob.glob(f"{k}/moddbg/*")], timeout=600, capture_output=True, text=True)
    if made.stdout.strip() or made.returncode:
        say(f"{name}: drgn: {made.stdout.strip() or made.stderr.strip().splitlines()[-1]}")


# ---- all of them -------------------------------------------------------------------------------------------------------

LEAST_ROOM = 3 << 30  # on the disk, before another dump is begun
KERNELS_ROOM = 2 << 30  # what a kernel takes more, with its packages and debug information
mouth = threading.Lock()


def say(words):
    with mouth:
        print(words, flush=True)


class Skipped(Exception):
    """Could not be had here."""


def fetch(kernel, until):
    """Gets a kernel and builds labmod for it; one at a time, the mirror is not ours alone."""
    if time.time() > until:
        raise Skipped("no time left")
    if shutil.disk_usage(LAB).free < LEAST_ROOM + KERNELS_ROOM:
        raise Skipped("no room on the disk")
    patience = min(400 * machine.PATIENCE, until - time.time() + 60)
    # by timeout(1), which ends what the script began, too
    got = subprocess.run(["timeout", "-k", "5", str(patience), f"{HERE}/fetch.sh", kernel], capture_output=True, text=True)
    if got.returncode == 124:
        raise Skipped(f"no kernel {kernel}: too slow to come")
    if got.returncode:
        raise Skipped(f"no kernel {kernel}: {(got.stderr.strip().splitlines() or ['?'])[-1]}")
    if os.path.exists(f"{LAB}/kern/{kernel}/hdr/usr") and initramfs.arch(LAB, kernel) != "arm64":
        if subprocess.run([f"{HERE}/labmod/build.sh", kernel], capture_output=True, timeout=300).returncode:
            say(f"{kernel}: labmod does not build here")


def make(name, fetched, until):
    """Makes one dump. Returns what to say about it."""
    recipe, where, start = MATRIX[name], f"{LAB}/dumps/{name}", time.time()
    fetched.result()
    want = stamp(recipe)
    if os.path.exists(f"{where}/stamp") and initramfs.read(f"{where}/stamp").decode() == want:
        return "there"
    if time.time() > until:
        raise Skipped("no time left")
    if shutil.disk_usage(LAB).free < LEAST_ROOM:
        raise Skipped("no room on the disk")
    module = "crasher" if "/crasher.ko" in recipe.get("crash", "") else recipe.get("module")
    if module and not modules.build(module, recipe["kernel"]):
        raise Skipped(f"{module} does not build for {recipe['kernel']} here")
    shutil.rmtree(where, ignore_errors=True)
    way = boot_crash if "crash" in recipe else boot_kdump if "kdump" in recipe else boot
    try:
        way(name, recipe)
    except RuntimeError:
        # KVM's fault, perhaps: once more, as every machine can
        if initramfs.arch(LAB, recipe["kernel"]) == "arm64" or not machine.kvm(f"{LAB}/kern/{recipe['kernel']}/vmlinuz", False):
            raise
        shutil.rmtree(where, ignore_errors=True)
        way(name, dict(recipe, accel="tcg"))
    if name in FORMS_OF:
        forms(name)
    with open(f"{where}/kernel", "w") as f:
        f.write(recipe["kernel"] + "\n")
    booted = time.time() - start
    if os.path.exists(f"{where}/vmcore.elf") and recipe.get("oracle", True):
        oracle(name, recipe["kernel"], *(["--stacks"] if "crash" in recipe else []))
    with open(f"{where}/stamp", "w") as f:
        f.write(want)
    sizes = " ".join(f"{os.path.basename(f)} {os.path.getsize(f) / 1e6:.0f}M" for f in sorted(glob.glob(f"{where}/vmcore*")))
    return f"{booted:.0f} s, with drgn {time.time() - start:.0f} s; {sizes}"


def main():
    patterns = [a for a in sys.argv[1:] if not a.startswith("--")] or ["*"]
    names = [n for n in MATRIX if any(fnmatch.fnmatch(n, p) for p in patterns)]
    kernels = list(dict.fromkeys(MATRIX[n]["kernel"] for n in names))
    if "--names" in sys.argv:
        return print("\n".join(names))
    if "--kernels" in sys.argv:
        return print("\n".join(kernels))
    without = os.environ.get("LAB_WITHOUT", "").split()  # kernels that cannot be booted here
    until = time.time() + float(os.environ.get("LAB_SECONDS", "inf"))
    made, skipped, failed = [], {}, []
    mirror = concurrent.futures.ThreadPoolExecutor(1)
    fetched = {k: mirror.submit(fetch, k, until) for k in kernels if k not in without}
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = {pool.submit(make, n, fetched[MATRIX[n]["kernel"]], until): n for n in names if MATRIX[n]["kernel"] in fetched}
        for job in concurrent.futures.as_completed(jobs):
            name = jobs[job]
            try:
                say(f"{name}: {job.result()}")
                made.append(name)
            except Skipped as e:
                skipped.setdefault(str(e), []).append(name)
            except (RuntimeError, OSError, subprocess.SubprocessError) as e:
                say(f"{name}: FAILED: {e}")
                failed.append(name)
    for name in names:
        if MATRIX[name]["kernel"] not in fetched:
            skipped.setdefault("its kernel cannot be booted here", []).append(name)
    say(f"{len(made)} of {len(names)} dumps are there, {len(failed)} failed")
    for why, which in skipped.items():
        say(f"left out: {' '.join(which)}: {why}")
    return len(failed)


if __name__ == "__main__":
    sys.exit(1 if main() else 0)

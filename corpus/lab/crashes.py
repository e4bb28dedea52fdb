"""Guests that are brought down: what was done to them, and until when they are watched before their memory is taken.

`by` says who writes the dump: qemu, when the console has said `until`; or kdump, the guest's own crash kernel. The words are
those of crasher/*.c; where a kernel has no module (there are no headers, or no compiler for it) it is brought down by
means of user space.
"""
import time

import modules
from vm import VM

# kernels that were moved say where they were as their last words but one
PANIC = "Kernel Offset: 0x|end Kernel panic"
OOPS = "end trace"

# a disk so slow that requests wait, but for the first, which find its partitions
SLOW = ["-object", "throttle-group,id=slow,x-iops-total=1,x-iops-total-max=24", "-blockdev",
        "driver=throttle,throttle-group=slow,node-name=slow,file.driver=null-co,file.size=67108864,file.read-zeroes=on",
        "-device", "virtio-blk-pci,drive=slow,serial=labslow"]

# word -> what is set before, what the console says when it is over, what else the boot needs
PLAIN = dict(before="sysctl -qw kernel.panic_on_oops=1")
SOFT = dict(before="sysctl -qw kernel.softlockup_panic=1 kernel.watchdog_thresh=3")
HUNG = dict(before="sysctl -qw kernel.hung_task_panic=1 kernel.hung_task_timeout_secs=5")
RCU = dict(before="sysctl -qw kernel.panic_on_rcu_stall=1 kernel.watchdog=0; echo 4 > /sys/module/rcupdate/parameters/rcu_cpu_stall_timeout")
WORDS = {
    **{w: PLAIN for w in ("null", "null_write", "null_timer", "jump", "wild", "paging", "rodata", "nx", "divide", "bug", "opcode",
                          "deep", "canary", "panic", "list_del", "list_add", "gone", "poison", "vmalloc_end", "user_read", "user_jump",
                          "int3", "double_fault", "stack_segment", "skb", "usercopy", "fortify", "in_irq", "work", "both", "rcu_data", "kfree", "strlen", "vfree", "page_table",
                          # of misled.c
                          "tasklet", "in_ipi", "rcu_cb", "panic_timer", "notifier", "lies", "big_local", "deep_irq", "smash_far",
                          "smash_near", "memcpy", "mutex", "stack_end", "kprobe", "trap")},
    "freelist": dict(PLAIN, append="slab_nomerge"),
    "uaf_call": dict(PLAIN, append="slub_debug=FZPU"),
    "uaf": dict(PLAIN, append="slub_debug=FZPU"),
    "timer_uaf": dict(PLAIN, append="slub_debug=FZPU"),
    "double_free": dict(PLAIN, append="slab_nomerge"),
    "warn": dict(before="sysctl -qw kernel.panic_on_warn=1"),
    "refcount": dict(before="sysctl -qw kernel.panic_on_warn=1"),
    **{w: SOFT for w in ("soft", "spin", "ipi", "timer_spin", "work_spin", "spin_asleep")},
    # there is no NMI of a performance counter here: the machine hangs, and somebody asks for a dump
    "hard": dict(before="sysctl -qw kernel.watchdog_thresh=3", until="out-of-tree module", wait=25),
    "irq_spin": dict(before="sysctl -qw kernel.watchdog_thresh=3", until="out-of-tree module", wait=25),
    "irq_wants": dict(before="sysctl -qw kernel.watchdog_thresh=3", until="out-of-tree module", wait=25),
    **{w: RCU for w in ("rcu", "rcu_irqs", "rcu_preempt")},
    "rcu_exp": dict(before="sysctl -qw kernel.panic_on_rcu_stall=1 kernel.watchdog=0; cd /sys/module/rcupdate/parameters; "
                    "echo 4 > rcu_cpu_stall_timeout; echo 4000 > rcu_exp_cpu_stall_timeout; cd /"),
    # noticed by a CPU that runs a program
    "rcu_busy": dict(RCU, before=RCU["before"] + "; for i in 1 2; do while :; do :; done & done", word="rcu_irqs"),
    **{w: dict(before="sysctl -qw kernel.panic_on_warn=1", until="scheduling while atomic", wait=3) for w in ("atomic", "sched_irq")},
    **{w: dict(before="sysctl -qw vm.panic_on_oom=1") for w in ("hoard", "pages", "vmallocs")},
    # whoever may be killed is, and it is not enough
    "thread_hoards": dict(before="true"),
    "exit": dict(PLAIN, then="rmmod crasher"),
    # a timer of a module that is no more
    "unloaded": dict(PLAIN, then="rmmod crasher"),
    "nmi_fault": dict(PLAIN, nmi="LAB-NMI"),
    # the button that asks for a dump, while a CPU takes no interrupts
    "hard_nmi": dict(before="sysctl -qw kernel.watchdog_thresh=3 kernel.unknown_nmi_panic=1 kernel.panic_on_unrecovered_nmi=1",
                     word="hard", nmi="out-of-tree module", nmi_wait=15),
    # something went wrong long before, and is not what it died of
    "stale_sysrq": dict(before="true", word="null", then="sleep 1; echo c > /proc/sysrq-trigger"),
    "stale_soft": dict(before="true", word="null", then="sleep 1; sysctl -qw kernel.softlockup_panic=1 kernel.watchdog_thresh=3; "
                       "labtool as victim /proc/crasher soft"),
    "stale_warn": dict(before="true", word="warn", then="sleep 1; sysctl -qw kernel.panic_on_oops=1; labtool as victim /proc/crasher list_del"),
    "hung": dict(HUNG, word="abba"),
    "lost": dict(HUNG, word="waitq"),
    "never": dict(HUNG, word="completion"),
    # an oops ends the one who holds what another waits for; from then on khungtaskd says nothing
    "holding": dict(before="true", until="LAB-WAITS", wait=3),
    "three": dict(HUNG, word="ring"),
    "itself": dict(HUNG, word="self"),
    **{w: HUNG for w in ("late_root", "dead_holder", "dead_reader", "flush", "stop", "mixed", "srcu", "percpu")},
    # an oops, a bad page: the kernel lives on
    "oops": dict(before="true", word="null", until=OOPS, wait=2),
    "bad_page": dict(before="true", until="BUG: Bad page state", wait=3),
    # threads that wait: nothing is said, and a while later somebody asks for a dump
    **{w: dict(before="true", until="LAB-WAITS", wait=w == "abba" and 130 or 3)
       for w in ("hold", "abba", "ring", "rwsem", "rt", "self", "completion", "waitq", "sema")},
}
FORGED = "; ".join(f"echo '<{level}>{line}' > /dev/kmsg" for level, line in (
    (1, "BUG: kernel NULL pointer dereference, address: 0000000000000008"), (1, "Oops: 0000 [#1] PREEMPT SMP"), (4, "RIP: 0010:vfs_read+0x12/0x300"),
    (0, "Kernel panic - not syncing: hung_task: blocked tasks")))
# by user space, with or without the module
USER = {
    "sysrq": "echo c > /proc/sysrq-trigger",
    "init": "kill -SEGV 1; exit 3",
    "oom": "sysctl -qw vm.panic_on_oom=1; labtool as eater /proc/self/comm eater; tail /dev/zero",
    "oomkill": "tail /dev/zero",
    "frozen": "sysctl -qw kernel.hung_task_panic=1 kernel.hung_task_timeout_secs=5; d=$(disk labext4); mkdir -p /lab/ext4; "
              "mount -t ext4 $d /lab/ext4; fsfreeze --freeze /lab/ext4; echo x > /lab/ext4/late",
    # two who read a terminal: the second waits for the mutex that the first sleeps with
    "tty": "cat < /dev/console & sleep 1; cat < /dev/console & sleep 1; echo c > /proc/sysrq-trigger",
    # it is busy, and nothing is wrong
    "busy": "for i in 1 2 3; do sha256sum /dev/zero & done; while :; do ls -lR /proc > /dev/null 2>&1; done & sleep 20; echo LAB-BUSY; sleep 100",
    "tmpfs": "sysctl -qw vm.panic_on_oom=1; mkdir /lab/big; mount -t tmpfs -o size=2g big /lab/big; dd if=/dev/zero of=/lab/big/file bs=1M",
    # what users write into the log is not what happened
    "forged": f"{FORGED}; insmod /crasher.ko; sysctl -qw kernel.panic_on_oops=1; labtool as victim /proc/crasher divide",
    "forged_fine": f"{FORGED}; echo LAB-FINE; sleep 100",
    # a process with the name of a thread of the kernel
    "namesake": "insmod /crasher.ko; labtool as khungtaskd /proc/crasher panic",
    # the first process has an oops, and its end is that of all
    "init_oops": "insmod /crasher.ko; echo null > /proc/crasher",
    "dies": "sysctl -qw kernel.panic_on_oops=1; insmod /crasher.ko dies=1",
    "cgoom": "sysctl -qw vm.panic_on_oom=2; c=/sys/fs/cgroup; echo +memory > $c/cgroup.subtree_control; mkdir $c/small; "
             "echo 8M > $c/small/memory.max; echo 0 > $c/small/memory.swap.max; (echo 0 > $c/small/cgroup.procs; tail /dev/zero)",
    # readers of a disk that hardly answers
    "disk": "sysctl -qw kernel.hung_task_panic=1 kernel.hung_task_timeout_secs=5; s=$(disk labslow); "
            "for i in $(seq 40); do dd if=$s of=/dev/null bs=4k skip=$((i * 100)) count=1 & done; sleep 200",
    "fs_error": "d=$(disk labext4); mkdir -p /lab/ext4; mount -t ext4 -o errors=panic $d /lab/ext4; echo gone > /sys/fs/ext4/${d##*/}/trigger_fs_error",
    # nobody panics: somebody sees that it hangs, and asks for a dump
    "asked": "d=$(disk labext4); mkdir -p /lab/ext4; mount -t ext4 $d /lab/ext4; fsfreeze --freeze /lab/ext4; echo x > /lab/ext4/late",
    "noroot": "",
    # an error that cannot be corrected, in a bank of CPU 0
    "mce": "echo LAB-MCE; sleep 100",
    "nmi": "sysctl -qw kernel.unknown_nmi_panic=1 kernel.panic_on_unrecovered_nmi=1; echo LAB-NMI; sleep 100",
}


def recipe(kernel, word, by="qemu", **more):
    """What matrix.py has of a dump."""
    if word in USER:
        until = dict(oomkill="Killed process", busy="LAB-BUSY", forged_fine="LAB-FINE", asked="LAB-CRASH").get(word, PANIC)
        how = dict(before="true", act=USER[word], until=until, wait=130 if word == "asked" else 2)
        if word == "nmi":
            how["nmi"] = "LAB-NMI"
        if word == "noroot":
            how["append"] = "rdinit=/nowhere root=/dev/vdz"
    else:
        how = dict(WORDS[word])
        how.setdefault("until", PANIC)
        then = "; " + how.pop("then") if "then" in how else ""
        how["act"] = f"insmod /crasher.ko; {how.pop('before')}; labtool as victim /proc/crasher {how.pop('word', word)}{then}"
    if word == "disk":
        more["hardware"] = SLOW
    disk = word in ("frozen", "asked", "fs_error")
    append = "loglevel=7 " + how.pop("append", "") + more.pop("append", "")
    return dict(kernel=kernel, crash=how["act"], by=by, until=how["until"], wait=how.get("wait", 1), word=word, append=append.strip(),
                nmi=how.get("nmi"), nmi_wait=how.get("nmi_wait", 1), mem=512 if by == "kdump" else 256, ext4=disk,
                wanted=["virtio_pci", "virtio_blk", "qemu_fw_cfg"] + (["ext4"] if disk else []), **more)


def all_of(kernel, words, **more):
    return {f"crash-{kernel}-{word.replace('_', '-')}": recipe(kernel, word, **more) for word in words}


# of those in crasher/more.c and late.c, what kernels may differ in
MORE = ["ipi", "timer_uaf", "timer_spin", "unloaded", "rcu_data", "stale_sysrq", "hoard", "strlen", "disk", "cgoom", "vfree", "gone", "poison", "freelist", "user_read", "user_jump", "double_fault", "skb", "in_irq", "work", "both", "holding",
        "dead_holder", "dead_reader", "flush", "stop", "mixed", "percpu", "srcu"]

# of those in crasher/misled.c
MISLED = ["tasklet", "in_ipi", "rcu_cb", "panic_timer", "notifier", "lies", "big_local", "deep_irq", "smash_far", "smash_near", "memcpy",
          "mutex", "spin_asleep", "irq_wants", "rcu_irqs", "rcu_preempt", "pages", "vmallocs", "thread_hoards", "exit", "three", "itself",
          "late_root", "stack_end", "kprobe", "trap", "rcu_exp", "rcu_busy", "tmpfs", "forged", "forged_fine", "namesake", "init_oops", "dies"]

# a class each: those that a dump by kdump is made of for each kernel. "hung" is one of locks taken both ways, "never" any other
EIGHT = ["sysrq", "null", "never", "soft", "rcu", "oom", "hung", "deep"]

MATRIX = {
    **all_of("k612", [*WORDS, *USER]),
    **all_of("k61", ["null", "uaf", "bug", "warn", "hung", "soft", "rcu", "oom", "deep", "list_del", "divide", "abba", "rwsem", "spin", "frozen", *MORE, *MISLED]),
    **all_of("k510", ["null", "bug", "hung", "soft", "rcu", "oom", "deep", "list_del", "abba", "rwsem", "sysrq", "frozen", *MORE, *MISLED]),
    **all_of("k72", ["null", "hung", "soft", "oom", "abba", "rwsem", "sysrq", "init", "frozen", "oomkill", "tty",
                     "bug", "deep", "list_del", "uaf", "divide", "canary", "rcu", "spin", "rt", "completion", "sema", "noroot", "mce", *MORE, *MISLED]),
    **all_of("a612", ["sysrq", "init", "oom", "frozen", "tty", "noroot", "busy", "null", "bug", "deep", "abba", "soft", "uaf", "list_del",
                      "refcount", "hung", "nx", "opcode", "jump", "wild", "rwsem", "spin", "null_timer", "canary", "rcu", "warn",
                      "hard"], cpu="cortex-a72"),
    **all_of("a61", ["sysrq", "oom", "frozen"], cpu="cortex-a72"),
    # the same as kdump has them: the crash kernel runs makedumpfile, which leaves out free, user and cache pages
    **{f"crash-{kernel}-{word.replace('_', '-')}-kdump": recipe(kernel, word, "kdump") for kernel, words in (
        ("k612", [*EIGHT, "null_timer", "frozen"]), ("k61", EIGHT), ("k510", EIGHT), ("k72", [*EIGHT, "frozen"])) for word in words},
}

# small enough for the corpus: two threads wait for each other when a third follows a NULL pointer
MATRIX["small-k612-crash"] = dict(recipe("k612", "null"), cpus=1, mem=96, truth_mb=32)
MATRIX["small-k612-crash"]["crash"] = MATRIX["small-k612-crash"]["crash"].replace(
    "labtool", "labtool as locker /proc/crasher abba; sleep 1; labtool", 1)


def script(recipe):
    """What the guest does up to its end."""
    return ("mods\n"
            f"bring_down() {{ {recipe['crash']}; }}\n"
            f"step crash {recipe['word']}\n"
            "echo LAB-CRASH\n")


def options(recipe):
    """Of a recipe, what a VM is made with."""
    of_the_crash = ("kernel", "crash", "by", "until", "wait", "word", "nmi", "nmi_wait")
    return {k: v for k, v in recipe.items() if k not in of_the_crash}


def add(lab, kernel):
    """What puts the module into a guest."""
    return lambda cpio: modules.add(lab, kernel, "crasher", cpio)


def watch(vm, recipe):
    """Waits until the guest is down, and has QEMU write what is left of it."""
    word = recipe["word"]
    if word not in ("noroot", "asked"):
        vm.wait("LAB-CRASH", 300)
    if recipe["nmi"]:
        vm.wait(recipe["nmi"])
        time.sleep(recipe["nmi_wait"])
        vm.qmp("inject-nmi")
    if word == "mce":
        vm.wait("LAB-MCE")
        vm.qmp("human-monitor-command", **{"command-line": "mce -b 0 4 0xb200000000000134 0x5 0 0"})
    vm.wait(recipe["until"], 200)
    time.sleep(recipe["wait"])
    vm.qmp("stop")
    vm.dump("vmcore.elf")
    vm.qmp("quit")
    vm.end()


def boot(lab, name, recipe):
    """The guest goes down, QEMU writes what is left of it."""
    do = script(recipe) + "bring_down\necho LAB-WAITS\nsleep 1000\n"
    vm = VM(lab, name, recipe["kernel"], do, add=add(lab, recipe["kernel"]), **options(recipe))
    try:
        watch(vm, recipe)
    except BaseException:
        vm.kill()
        raise

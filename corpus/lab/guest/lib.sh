# What a lab guest can do. Everything it knows about itself goes to /truth, which leaves as a tar on the disk "labout".

step() { echo "LAB-STEP $(cut -d' ' -f1 /proc/uptime) $*"; }

# tell the host, which stops the machine, dumps it, and says go
ready() { echo LAB-READY; read -r go < /dev/console; step "$go"; }

mods() {
    while read -r m; do
        insmod "/lib/modules/$m.ko" 2> /tmp/insmod.err || echo "LAB-WARN insmod $m: $(cat /tmp/insmod.err)"
    done < /lib/modules/order
}

# the block device with a given serial number
disk() {
    for b in /sys/block/*; do
        s=$(cat "$b/serial" 2>/dev/null || cat "$b/device/serial" 2>/dev/null)
        [ "$(echo $s)" = "$1" ] && echo "/dev/${b##*/}" && return
    done
    return 1
}

send() {
    d=$(disk labout) || { echo "LAB-WARN no labout disk"; return; }
    tar -C /truth -cf - . > "$d"
    sync
    echo "LAB-SENT $d"
}

# --- things to find in a dump ---------------------------------------------------------------------------------

net() {
    ip link set lo up
    ip addr add 10.77.0.1/24 dev lo
    ip link add lab_dummy0 type dummy 2>/dev/null && ip link set lab_dummy0 up && ip addr add 192.0.2.7/24 dev lab_dummy0
    ip link add lab_veth0 type veth peer name lab_veth1 2>/dev/null && ip link set lab_veth0 up
    ip route add 198.51.100.0/24 via 10.77.0.9 dev lo 2>/dev/null
    ping -c 1 127.0.0.1 > /dev/null
}

cgroups() {
    c=/sys/fs/cgroup
    echo "+memory +pids +cpu +io" > $c/cgroup.subtree_control 2>/dev/null
    mkdir -p $c/lab/a $c/lab/b
    echo "+memory +pids" > $c/lab/cgroup.subtree_control 2>/dev/null
    echo 77777777 > $c/lab/a/memory.max 2>/dev/null
    echo 33 > $c/lab/a/pids.max 2>/dev/null
    (exec sleep 77777) &
    echo $! > $c/lab/a/cgroup.procs
    echo "ACTOR cgroup pid=$! comm=sleep arg=77777 cgroup=/lab/a memory.max=77777777 pids.max=33" >> /truth/actors.txt
}

# tree N: N files in tmpfs, N/4 in ext4, all looked at, N/2 names that do not exist; overlay, bind, loop, odd names
tree() {
    n=$1
    mkdir -p /lab/data /lab/sock /lab/many /lab/ovl_l /lab/ovl_u /lab/ovl_w /lab/ovl /lab/bind "/lab/mnt space"
    awk -v n="$n" 'BEGIN { for (i = 0; i < n; i++) { f = "/lab/many/file_number_" i ".dat"; print i > f; close(f) } }'
    ls -lR /lab/many > /dev/null
    if d=$(disk labext4); then
        mkdir -p /lab/ext4
        mount -t ext4 "$d" /lab/ext4
        mkdir -p /lab/ext4/dir
        awk -v n=$((n / 4)) 'BEGIN { for (i = 0; i < n; i++) { f = "/lab/ext4/dir/e" i; print i > f; close(f) } }'
        (cd /lab/ext4/dir && awk -v n=$((n / 2)) 'BEGIN { for (i = 0; i < n; i++) print "no_such_file_" i }' | xargs ls > /dev/null 2>&1)
    fi
    find /proc/1 /proc/sys /sys/class /sys/module 2>/dev/null | head -n $((n * 3)) | xargs ls -ld > /dev/null 2>&1
    mount -t overlay laboverlay -o lowerdir=/lab/ovl_l,upperdir=/lab/ovl_u,workdir=/lab/ovl_w /lab/ovl 2>/dev/null && echo up > /lab/ovl/file
    mount --bind /lab/many /lab/bind
    mount -o remount,ro,bind /lab/bind
    mount -t tmpfs "lab tmp" "/lab/mnt space" -o size=64k,mode=0700
    dd if=/dev/zero of=/lab/loop.img bs=1k count=256 2>/dev/null
    losetup /dev/loop0 /lab/loop.img 2>/dev/null
}

# needs net: one of them waits for a connection
actors() { mkdir -p /lab/data /lab/sock; rm -f /lab/actors.up; /bin/actors /truth/actors.txt; }

noise() { for i in $(seq "$1"); do ls -lR /proc/1 /lab/data > /tmp/noise 2>/dev/null; cat /tmp/noise > /dev/null; done; }

# traceon KB [EVENT...]: allocations and a few others into the ftrace ring, KB per CPU
traceon() {
    local t=/sys/kernel/tracing
    echo "$1" > $t/buffer_size_kb
    shift
    for e in ${*:-kmem sched/sched_switch sched/sched_process_fork syscalls/sys_enter_openat}; do echo 1 > "$t/events/$e/enable"; done
    echo 'LAB trace begin' > $t/trace_marker
}
traceoff() { echo 'LAB trace end' > /sys/kernel/tracing/trace_marker; echo 0 > /sys/kernel/tracing/tracing_on; }
traceagain() { echo 1 > /sys/kernel/tracing/tracing_on; ls -lR /lab/data /proc/1/net > /dev/null 2>&1; }

# the sins of labmod.c, by processes with telling names
story() {
    insmod /labmod.ko || { echo "LAB-WARN no labmod"; return; }
    p=/proc/labmod
    for i in 1 2 3 4 5 6; do labtool as "client_$i" $p "open $((100 + i)) volume$i"; done
    labtool as forgetful $p "leak 3"
    labtool as reaper $p "close 104"
    labtool as reaper $p "close 102"
    labtool as holder $p hold
    labtool as sweeper $p sweep
    [ "$1" = spill ] && labtool as scribbler $p spill
    cat $p > /truth/labmod.txt
}

# CPUs taken away
offline() { for c in "$@"; do echo 0 > "/sys/devices/system/cpu/cpu$c/online"; done; cat /sys/devices/system/cpu/online > /truth/online; }

# --- the truth ------------------------------------------------------------------------------------------------

# copy NAMES... from /proc
proc() { for f in "$@"; do cat "/proc/$f" > "/truth/$f" 2>/dev/null; done; }

truth() {
    local t=/truth
    mkdir -p $t/pid $t/net $t/trace $t/slab $t/sysvipc
    proc cmdline version uptime cpuinfo meminfo slabinfo modules mounts zoneinfo buddyinfo vmstat vmallocinfo iomem \
        interrupts timer_list locks filesystems devices partitions swaps keys stat loadavg consoles misc cgroups \
        net/tcp net/tcp6 net/udp net/udp6 net/unix net/netlink net/packet net/raw net/dev net/route net/arp \
        net/protocols net/if_inet6 sysvipc/shm sysvipc/sem sysvipc/msg
    gzip -1 < /proc/kallsyms > $t/kallsyms.gz
    sha256sum /sys/kernel/btf/* > $t/btf.sha256 2>/dev/null
    cat /sys/kernel/vmcoreinfo > $t/vmcoreinfo
    cat /sys/kernel/notes > $t/kernel-notes.bin
    labtool cat /sys/module/*/sections > $t/module-sections
    labtool pids $t/pid
    ps -o pid,ppid,pgid,stat,comm,args > $t/ps.txt
    ns=$(sed -n 's/.*name=lab_ns_init pid=\([0-9]*\).*/\1/p' $t/actors.txt 2>/dev/null)
    [ -n "$ns" ] && cat "/proc/$ns/mountinfo" > $t/mountinfo.ns
    cat /proc/self/mountinfo > $t/mountinfo
    traces
    cat /sys/kernel/debug/sched/debug /proc/sched_debug > $t/sched_debug 2>/dev/null
    dmesg > $t/dmesg
}

# the log as ftrace prints it; tracing must be off
traces() {
    local t=/truth/trace
    mkdir -p $t
    cd /sys/kernel/tracing
    gzip -1 < trace > $t/trace.gz
    for c in per_cpu/cpu*; do echo "== $c"; cat "$c/stats"; done > $t/stats
    cat saved_cmdlines > $t/saved_cmdlines
    cat trace_clock buffer_size_kb tracing_on > $t/misc
    for e in events/kmem/* events/sched/sched_switch events/ftrace/*; do [ -d "$e" ] && cat "$e/format"; done > $t/formats
    cd /
}

# the very last facts: read straight before the machine is stopped, so that they are what a debugger should find
final() {
    mkdir -p /truth/slab
    cat /proc/slabinfo > /truth/slab/slabinfo
    labtool slabattrs object_size,slab_size,align,objs_per_slab,order,objects,total_objects,slabs,cpu_slabs,partial,poison,red_zone,store_user,usersize,aliases > /truth/slab/attrs
    ps -o pid,ppid,stat,comm > /truth/ps.final
    set -- /sys/kernel/debug/slab/*/alloc_traces
    if [ -e "$1" ]; then
        labtool cat "$@" > /truth/slab/alloc_traces
        labtool cat /sys/kernel/debug/slab/*/free_traces > /truth/slab/free_traces
    elif [ -e /sys/kernel/slab/dentry/alloc_calls ]; then # before Linux 5.16
        labtool cat /sys/kernel/slab/*/alloc_calls > /truth/slab/alloc_traces
        labtool cat /sys/kernel/slab/*/free_calls > /truth/slab/free_traces
    fi
}

# the little that a committed corpus dump carries along
minitruth() {
    local t=/truth
    proc cmdline version modules meminfo iomem
    gzip -1 < /proc/kallsyms > $t/kallsyms.gz
    labtool cat /sys/module/*/sections > $t/module-sections
    cat /proc/self/mountinfo > $t/mountinfo
    mkdir -p $t/pid
    labtool pids $t/pid
    traces
    dmesg > $t/dmesg
}

# load the crash kernel; VERB is what to do then
kdump() {
    labtool kexec /kdump/vmlinuz /kdump/initrd "$(tr ' ' '\n' < /proc/cmdline | grep ^console=) nr_cpus=1 reset_devices irqpoll no_timer_check panic=1"
    [ "$(cat /sys/kernel/kexec_crash_loaded)" = 1 ] || { echo LAB-WARN no crash kernel; poweroff -f; }
    step crash
    "$@"
    sleep 300
}
sysrq_c() { echo c > /proc/sysrq-trigger; }

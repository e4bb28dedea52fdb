#!/bin/bash
# crash.sh VMLINUX VMCORE OUTDIR   what the crash utility says about a dump, and how long each question took it
# (crash 8.0.2 does not know Linux 6.12: its slab commands fail there, which is kept as its answer)
set -u
vmlinux=$1 vmcore=$2 out=$3
command -v crash > /dev/null || { echo "crash: not installed" >&2; exit 3; }
mkdir -p "$out"
ask() { # NAME COMMAND...
    local name=$1
    shift
    { time printf '%s\n' "$@" quit | timeout 600 crash -s "$vmlinux" "$vmcore" > "$out/$name.txt" 2>&1; } 2> "$out/$name.time"
    echo "$name: exit $? $(tr '\n' ' ' < "$out/$name.time")"
}
ask sys sys
ask kmem-s "kmem -s"
ask kmem-S-dentry "kmem -S dentry"
ask ps ps
ask mod mod
ask mount mount
ask log log
ask foreach-bt "foreach bt"

#!/bin/bash
# make.sh [NAME...]   builds the lab: kernels, guest tools, dumps (all of matrix.py, or those named; k612-\* matches), oracles.
#
#   KMDB_LAB      where it all goes (default: target/lab of this repository)
#   LAB_SECONDS=N begins no further dump after so many seconds; the next run goes on from there
#   LAB_PATIENCE=N  waits N times as long for guests and mirrors as usual: for a machine that is busy
#   LAB_KVM=0     leaves KVM alone; else it is used for those kernels that it is seen to boot
#   LAB_CRASH=1   also asks the crash utility
#   LAB_CORPUS=1  also rebuilds the committed dumps under corpus/
#
# What is there and still fits (package versions, recipes, tools) is left alone. What a missing tool, network, time or
# room makes impossible is left out and named at the end, exit status 0; what failed makes it 1. It needs some 5 GB for
# kernels and 0.2 to 2 GB for each dump.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
export KMDB_LAB=${KMDB_LAB:-$root/target/lab}
mkdir -p "$KMDB_LAB/build"
skipped=() missing=
have() { command -v "$1" > /dev/null 2>&1; }

for tool in qemu-system-x86_64 python3 gcc make zstd apt-get dpkg-deb busybox mkfs.ext4 debugfs; do
    have $tool || missing+=" $tool"
done
if file -L "$(command -v busybox)" 2>/dev/null | grep -q dynamically; then missing+=" busybox-static"; fi
if [ -n "$missing" ]; then
    echo "left out: all of it: needs$missing (Debian: apt install qemu-system-x86 python3 gcc make zstd busybox-static e2fsprogs file)"
    exit 0
fi

newer() { [ "$1" -nt "$2" ]; }
for tool in labtool actors crowd; do
    newer "$KMDB_LAB/build/$tool" "$here/guest/$tool.c" ||
        gcc -O1 -static -pthread -o "$KMDB_LAB/build/$tool" "$here/guest/$tool.c"
done

# only the kernels that the wanted dumps boot
kernels=$(python3 "$here/matrix.py" --kernels "$@") without=
if [[ " $(echo $kernels)" == *" a"* ]]; then
    if have qemu-system-aarch64 && have aarch64-linux-gnu-gcc && "$here/fetch.sh" busybox-arm64; then
        for tool in labtool actors; do
            newer "$KMDB_LAB/build/$tool-arm64" "$here/guest/$tool.c" ||
                aarch64-linux-gnu-gcc -O1 -static -pthread -o "$KMDB_LAB/build/$tool-arm64" "$here/guest/$tool.c"
        done
    else
        skipped+=("arm64: needs qemu-system-arm, gcc-aarch64-linux-gnu and Debian's busybox-static for it")
        without=$(printf '%s\n' $kernels | grep ^a)
    fi
fi
have pahole || skipped+=("BTF of labmod where the kernel's headers cannot make it: no pahole")
"$here/fetch.sh" makedumpfile > /dev/null 2>&1 || skipped+=("compressed forms: no makedumpfile from sid")
python3 -c 'import drgn' 2> /dev/null || skipped+=("oracles and the corpus: no drgn (pip install drgn)")

status=0
LAB_WITHOUT=$without python3 "$here/matrix.py" "$@" || status=$?
[ "${LAB_CORPUS:-}" != 1 ] || "$here/corpus.py" "$root/corpus"

if [ "${LAB_CRASH:-}" != 1 ]; then
    :
elif have crash; then
    for dump in $(python3 "$here/matrix.py" --names "$@"); do
        d=$KMDB_LAB/dumps/$dump
        case $dump in k612-dbg | k61-dbg | k61-plain) ;; *) continue ;; esac
        [ -f "$d/vmcore.elf" ] && ! newer "$d/crash/sys.txt" "$d/stamp" || continue
        "$here/crash.sh" "$KMDB_LAB/kern/$(cat "$d/kernel")/vmlinux" "$d/vmcore.elf" "$d/crash"
    done
else
    skipped+=("answers of crash: not installed")
fi

[ ${#skipped[@]} = 0 ] || printf 'left out: %s\n' "${skipped[@]}"
exit $status

#!/bin/bash
# make.sh [NAME...]   builds the lab: kernels, guest tools, dumps (all of matrix.py, or those named; k612-\* matches), oracles.
#
#   KMDB_LAB     where it all goes (default: target/lab of this repository)
#   LAB_CORPUS=1 also rebuilds the committed dumps under corpus/
#
# What is there and still fits (package versions, recipes, tools) is left alone. What a missing tool makes impossible
# is left out and named at the end. No KVM is used; it needs some 5 GB for kernels and 1 to 2 GB for each dump.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
export KMDB_LAB=${KMDB_LAB:-$root/target/lab}
mkdir -p "$KMDB_LAB/build"
skipped=()
have() { command -v "$1" > /dev/null 2>&1; }

for tool in qemu-system-x86_64 python3 gcc make zstd apt-get dpkg-deb busybox mkfs.ext4 debugfs; do
    have $tool || { echo "make.sh: needs $tool" >&2; missing=1; }
done
[ -z "${missing:-}" ] || {
    echo "make.sh: on Debian: apt install qemu-system-x86 python3 gcc make zstd busybox-static e2fsprogs" >&2
    exit 2
}
if file -L "$(command -v busybox)" 2>/dev/null | grep -q dynamically; then
    echo "make.sh: busybox must be the static one (busybox-static)" >&2
    exit 2
fi

newer() { [ "$1" -nt "$2" ]; }
for tool in labtool actors; do
    newer "$KMDB_LAB/build/$tool" "$here/guest/$tool.c" ||
        gcc -O1 -static -pthread -o "$KMDB_LAB/build/$tool" "$here/guest/$tool.c"
done

# only the kernels that the wanted dumps boot
kernels=$(python3 "$here/matrix.py" --kernels "$@")
if [[ " $(echo $kernels)" == *" a"* ]]; then
    if have qemu-system-aarch64 && have aarch64-linux-gnu-gcc && "$here/fetch.sh" busybox-arm64; then
        for tool in labtool actors; do
            newer "$KMDB_LAB/build/$tool-arm64" "$here/guest/$tool.c" ||
                aarch64-linux-gnu-gcc -O1 -static -pthread -o "$KMDB_LAB/build/$tool-arm64" "$here/guest/$tool.c"
        done
    else
        skipped+=("arm64: needs qemu-system-arm, gcc-aarch64-linux-gnu and Debian's busybox-static for it")
        kernels=$(printf '%s\n' $kernels | grep -v ^a || true)
    fi
fi
for kernel in $kernels; do
    "$here/fetch.sh" "$kernel" || { skipped+=("kernel $kernel: not to be had"); continue; }
    case $kernel in a*) continue ;; esac
    "$here/labmod/build.sh" "$kernel" || skipped+=("labmod for $kernel: does not build here")
done
have pahole || skipped+=("BTF of labmod where the kernel's headers cannot make it: no pahole")
"$here/fetch.sh" makedumpfile || skipped+=("compressed forms: no makedumpfile from sid")

python3 "$here/matrix.py" "$@" || skipped+=("some dumps: see above")

if python3 -c 'import drgn' 2>/dev/null; then
    for dump in $(python3 "$here/matrix.py" --names "$@"); do
        d=$KMDB_LAB/dumps/$dump
        [ -f "$d/vmcore.elf" ] && ! newer "$d/oracle/dmesg" "$d/stamp" || continue
        k=$KMDB_LAB/kern/$(cat "$d/kernel")
        echo "oracle of $dump"
        "$here/oracle.py" "$d/oracle" "$d/vmcore.elf" "$k/vmlinux" "$k/labmod.ko" "$k"/moddbg/*
    done
    if [ "${LAB_CORPUS:-}" = 1 ]; then "$here/corpus.py" "$root/corpus"; fi
else
    skipped+=("oracles and the corpus: no drgn (pip install drgn)")
fi

if have crash; then
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

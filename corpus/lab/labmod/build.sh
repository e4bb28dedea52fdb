#!/bin/bash
# build.sh KERNEL   builds labmod.ko for $KMDB_LAB/kern/KERNEL, with DWARF, and with BTF where pahole is there
set -eu
here=$(cd "$(dirname "$0")" && pwd)
dir=${KMDB_LAB:?}/kern/$1
release=$(cat "$dir/release")
[ "$dir/labmod.ko" -nt "$here/labmod.c" ] && [ "$dir/labmod.ko" -nt "$dir/complete" ] && exit 0
headers=$dir/hdr/usr/src/linux-headers-$release
common=$(ls -d "$dir"/hdr/usr/src/linux-headers-*-common)
build=$dir/labmod
rm -rf "$build"
mkdir -p "$build"
cp "$here/labmod.c" "$here/Kbuild" "$build/"
# the headers name each other by absolute path
sed -i -E "s#^include /usr/src/[^/]*-common#include $common#; s#^KBUILD_OUTPUT ?=.*#KBUILD_OUTPUT=$headers#" "$headers/Makefile"
# and the debug information shall not tell where it was built
maps="-fdebug-prefix-map=$build=labmod -fdebug-prefix-map=$common=linux -fdebug-prefix-map=$headers=linux"
make -s -C "$headers" M="$build" CC=gcc KCFLAGS="$maps" modules > "$build/log" 2>&1 || { tail -20 "$build/log" >&2; exit 1; }
if ! readelf -SW "$build/labmod.ko" | grep -q '\.BTF'; then
    # headers without resolve_btfids
    if command -v pahole > /dev/null; then
        pahole -J --btf_base "$dir/vmlinux" "$build/labmod.ko" 2>> "$build/log" || echo "labmod for $1: no BTF" >&2
    fi
fi
mv "$build/labmod.ko" "$dir/labmod.ko"

#!/bin/bash
# module.sh NAME KERNEL   builds NAME/ (a folder beside this file, with a Kbuild) for $KMDB_LAB/kern/KERNEL into NAME.ko there,
# with DWARF, and with BTF where pahole is there
set -eu
here=$(cd "$(dirname "$0")" && pwd)
name=$1 dir=${KMDB_LAB:?}/kern/$2
release=$(cat "$dir/release")
[ -f "$dir/$name.ko" ] && [ -z "$(find "$here/$name" "$dir/complete" -type f -newer "$dir/$name.ko")" ] && exit 0
headers=$dir/hdr/usr/src/linux-headers-$release
common=$(ls -d "$dir"/hdr/usr/src/linux-headers-*-common)
build=$dir/$name
rm -rf "$build"
mkdir -p "$build"
cp "$here/$name"/* "$build/"
# the headers name each other by absolute path
sed -i -E "s#^include /usr/src/[^/]*-common#include $common#; s#^KBUILD_OUTPUT ?=.*#KBUILD_OUTPUT=$headers#" "$headers/Makefile"
# and the debug information shall not tell where it was built
maps="-fdebug-prefix-map=$build=$name -fdebug-prefix-map=$common=linux -fdebug-prefix-map=$headers=linux"
make -s -C "$headers" M="$build" CC=gcc KCFLAGS="$maps" modules > "$build/log" 2>&1 || { tail -20 "$build/log" >&2; exit 1; }
if ! readelf -SW "$build/$name.ko" | grep -q '\.BTF'; then
    # headers without resolve_btfids
    if command -v pahole > /dev/null; then
        pahole -J --btf_base "$dir/vmlinux" "$build/$name.ko" 2>> "$build/log" || echo "$name for $2: no BTF" >&2
    fi
fi
mv "$build/$name.ko" "$dir/$name.ko"

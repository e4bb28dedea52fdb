#!/bin/bash
# build.sh KERNEL   builds crasher.ko for $KMDB_LAB/kern/KERNEL, as labmod/build.sh builds labmod.ko; no debug information
# is kept: crashes are to be told without
set -eu
here=$(cd "$(dirname "$0")" && pwd)
dir=${KMDB_LAB:?}/kern/$1
release=$(cat "$dir/release")
[ "$dir/crasher.ko" -nt "$here/crasher.c" ] && [ "$dir/crasher.ko" -nt "$dir/complete" ] && exit 0
headers=$dir/hdr/usr/src/linux-headers-$release
common=$(ls -d "$dir"/hdr/usr/src/linux-headers-*-common)
build=$dir/crasher
rm -rf "$build"
mkdir -p "$build"
cp "$here/crasher.c" "$here/Kbuild" "$build/"
# the headers name each other by absolute path
sed -i -E "s#^include /usr/src/[^/]*-common#include $common#; s#^KBUILD_OUTPUT ?=.*#KBUILD_OUTPUT=$headers#" "$headers/Makefile"
make -s -C "$headers" M="$build" CC=gcc modules > "$build/log" 2>&1 || { tail -20 "$build/log" >&2; exit 1; }
strip --strip-debug "$build/crasher.ko"
mv "$build/crasher.ko" "$dir/crasher.ko"

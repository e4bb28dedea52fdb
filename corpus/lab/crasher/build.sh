#!/bin/bash
# build.sh KERNEL   builds crasher.ko for $KMDB_LAB/kern/KERNEL, as labmod/build.sh builds labmod.ko; no debug information
# is kept: crashes are to be told without
set -eu
here=$(cd "$(dirname "$0")" && pwd)
dir=${KMDB_LAB:?}/kern/$1
release=$(cat "$dir/release")
newest=$(ls -t "$here"/*.[ch] "$here/Kbuild" | head -1)
[ "$dir/crasher.ko" -nt "$newest" ] && [ "$dir/crasher.ko" -nt "$dir/complete" ] && exit 0
headers=$dir/hdr/usr/src/linux-headers-$release
common=$(ls -d "$dir"/hdr/usr/src/linux-headers-*-common)
build=$dir/crasher
rm -rf "$build"
mkdir -p "$build"
cp "$here"/*.[ch] "$here/Kbuild" "$build/"
# an older compiler than the kernel had, and no need of a pahole as new as it
old=CONFIG_CC_HAS_MIN_FUNCTION_ALIGNMENT=
! gcc -fmin-function-alignment=16 -x c -c -o /dev/null /dev/null 2> /dev/null || old=
# the headers name each other by absolute path
sed -i -E "s#^include /usr/src/[^/]*-common#include $common#; s#^KBUILD_OUTPUT ?=.*#KBUILD_OUTPUT=$headers#" "$headers/Makefile"
make -s -C "$headers" M="$build" CC=gcc CONFIG_DEBUG_INFO_BTF_MODULES= $old modules > "$build/log" 2>&1 || { tail -20 "$build/log" >&2; exit 1; }
strip --strip-debug "$build/crasher.ko"
mv "$build/crasher.ko" "$dir/crasher.ko"

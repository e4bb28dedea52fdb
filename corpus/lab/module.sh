#!/bin/bash
# module.sh NAME KERNEL   builds NAME/ (a folder beside this file, with a Kbuild) for $KMDB_LAB/kern/KERNEL into NAME.ko there,
# with DWARF, and with BTF where pahole is there
set -eu
here=$(cd "$(dirname "$0")" && pwd)
name=$1 dir=${KMDB_LAB:?}/kern/$2
release=$(cat "$dir/release")
[ -f "$dir/$name.ko" ] && [ -z "$(find "$here/$name" "$dir/complete" -type f -newer "$dir/$name.ko")" ] && exit 0
[ -e "$dir/hdr/usr" ] || "$here/fetch.sh" headers "$2"
headers=$dir/hdr/usr/src/linux-headers-$release
common=$(ls -d "$dir"/hdr/usr/src/linux-headers-*-common)
build=$dir/$name
# arm64's ftrace wants functions aligned as only newer compilers do it: so there it has none to trace in the module
case $release in *arm64*) for_arch=(ARCH=arm64 CC_FLAGS_FTRACE=) cross=aarch64-linux-gnu- ;; *) for_arch=() cross= ;; esac

# newer_libc PROGRAM: has it run with the C library that came with makedumpfile, if this machine's is too old for it
newer_libc() {
    local lib=$KMDB_LAB/makedumpfile/usr/lib/x86_64-linux-gnu
    ldd "$1" 2>&1 | grep -q "version .GLIBC_.* not found" || return 0
    [ -e "$lib/libc.so.6" ] || "$here/fetch.sh" makedumpfile > /dev/null
    mkdir -p "$(dirname "$1")/newer"
    mv "$1" "$(dirname "$1")/newer/"
    cat > "$1" <<RUN
#!/bin/bash
exec -a "\$0" "$lib/ld-linux-x86-64.so.2" --library-path "$lib" "\$(dirname "\$0")/newer/$(basename "$1")" "\$@"
RUN
    chmod +x "$1"
}

rm -rf "$build"
mkdir -p "$build"
cp "$here/$name"/* "$build/"
# the headers name each other by absolute path
sed -i -E "s#^include /usr/src/[^/]*-common#include $common#; s#^KBUILD_OUTPUT ?=.*#KBUILD_OUTPUT=$headers#" "$headers/Makefile"
find "$dir/hdr/usr/lib" -type f -perm -u+x -size +8k -not -path '*/newer/*' | while read -r program; do newer_libc "$program"; done
# and the debug information shall not tell where it was built
maps="-fdebug-prefix-map=$build=$name -fdebug-prefix-map=$common=linux -fdebug-prefix-map=$headers=linux"
build() {
    make -s -C "$headers" M="$build" "${for_arch[@]}" CROSS_COMPILE=$cross CC="$here/cc.sh ${cross}gcc" KCFLAGS="$maps" "$@" modules \
        > "$build/log" 2>&1
}
# a pahole that is too old for the headers' options may still do without them
build || { grep -q '^pahole: unrecognized option' "$build/log" && build CONFIG_DEBUG_INFO_BTF_MODULES=; } ||
    { grep -v 'warning:' "$build/log" | tail -20 >&2; exit 1; }
if ! readelf -SW "$build/$name.ko" | grep -q '\.BTF'; then
    if command -v pahole > /dev/null; then
        pahole -J --btf_base "$dir/vmlinux" "$build/$name.ko" 2>> "$build/log" || echo "$name for $2: no BTF" >&2
    fi
fi
mv "$build/$name.ko" "$dir/$name.ko"

#!/bin/bash
# own.sh KERNEL SOURCE   builds a kernel of our own from Debian's source package (linux-source-6.12) to $KMDB_LAB/kern/KERNEL:
# small, with what Debian's kernels leave out and a debugger has to know: kmemleak, page_owner, allocation tags. own.config
# says what is in it, and KERNEL.config, if there is one, what is otherwise in this one. Some four minutes on two idle cores;
# needs flex, bison, libelf-dev, pahole.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
dir=${KMDB_LAB:?}/kern/$1 tree=$KMDB_LAB/build/$1
configs=("$here/own.config")
[ -f "$here/$1.config" ] && configs+=("$here/$1.config")
[ -f "$dir/complete" ] && [ -z "$(find "${configs[@]}" -newer "$dir/complete")" ] && exit 0
if [ "${LAB_SECONDS:-9999}" -lt 1200 ]; then echo "own: no time to build a kernel" >&2; exit 3; fi
for tool in flex bison pahole bc; do command -v $tool > /dev/null || { echo "own: needs $tool" >&2; exit 3; }; done
mkdir -p "$dir/modules" "$dir/moddbg" "$dir/hdr/usr/src" "$KMDB_LAB/deb"
if [ ! -e "$tree/Makefile" ]; then
    (cd "$KMDB_LAB/deb" && apt-get -o APT::Sandbox::User=root -qq download "$2") || exit 3
    dpkg-deb --fsys-tarfile "$KMDB_LAB/deb/$2"_*.deb | tar -xOf - "./usr/src/$2.tar.xz" | tar -xJf - -C "$KMDB_LAB/build"
    mv "$KMDB_LAB/build/$2" "$tree"
    rm "$KMDB_LAB/deb/$2"_*.deb
fi
cd "$tree"
{ make tinyconfig && scripts/kconfig/merge_config.sh -m .config "${configs[@]}" && make olddefconfig &&
    make -j"$(nproc)" vmlinux bzImage modules_prepare; } > "$dir/log" 2>&1 || { tail -20 "$dir/log" >&2; exit 1; }
cp vmlinux .config "$dir/"
mv "$dir/.config" "$dir/config"
cp arch/x86/boot/bzImage "$dir/vmlinuz"
make -s kernelrelease > "$dir/release"
# what module.sh looks for
cp vmlinux.symvers Module.symvers
mkdir -p "$dir/hdr/usr/src/linux-headers-own-common"
ln -sfn "$tree" "$dir/hdr/usr/src/linux-headers-$(cat "$dir/release")"
touch "$dir/complete" "$dir/checked"

#!/bin/bash
# fetch.sh KERNEL...   gets kernels of kernels.tsv from Debian and unpacks what the lab needs of them to $KMDB_LAB/kern/KERNEL:
#   release  vmlinuz  config  modules/  and, but for those marked nodebug:
#   vmlinux (with DWARF)  moddbg/*.ko.debug  hdr/ (headers, to build labmod)
# fetch.sh headers KERNEL   gets the headers of a kernel that is there without: of one for arm64
# fetch.sh busybox-arm64   gets the arm64 guests' busybox to $KMDB_LAB/build/busybox-arm64
# fetch.sh makedumpfile   gets the newest makedumpfile (older ones lose slab pages of new kernels) to $KMDB_LAB/makedumpfile
# Packages come from the mirror apt already uses; suites other than the system's get lists of their own under $KMDB_LAB/lists.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
lab=${KMDB_LAB:?}
mkdir -p "$lab"/{lists,kern,deb}
mirror=$(awk '/^URIs:/ { print $2; exit } /^deb / { for (i = 2; i <= NF; i++) if ($i ~ /^[a-z+]+:\/\//) { print $i; exit } }' \
    /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null || true)
[ -n "$mirror" ] || { echo "fetch: this system has no Debian mirror in its apt sources" >&2; exit 3; }
# modules whose debug information is worth keeping
debug_modules="virtio* qemu_fw_cfg loop dummy veth overlay ext4 jbd2"

# apt for one suite and architecture: the system's own if that is its suite, else lists apart from it
suite() {
    arch=${2:-amd64}
    apt=(-o APT::Sandbox::User=root -o Acquire::Retries=1 -o Acquire::http::Timeout=30 -o Acquire::https::Timeout=30)
    [ "$1 $arch" = "$(. /etc/os-release && echo "${VERSION_CODENAME:-}") amd64" ] && return
    local lists=$lab/lists/$1-$arch
    mkdir -p "$lists/partial"
    apt+=(-o "Dir::Etc::sourcelist=$lists.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$lists"
        -o "APT::Architecture=$arch" -o "APT::Architectures=$arch")
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $1 main" > "$lists.list"
    case $1 in
    sid | *-backports) ;;
    *) echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror-security $1-security main" >> "$lists.list" ;;
    esac
    if [ -z "$(find "$lists" -maxdepth 1 -name '*Packages*' -mtime -1)" ]; then apt-get "${apt[@]}" -qq update; fi
}

# download NAME: prints the path of the package, keeps what is there already
download() {
    local version file
    version=$(apt-cache "${apt[@]}" show --no-all-versions "$1" | sed -n 's/^Version: //p')
    file=$lab/deb/$1_${version//:/%3a}_$arch.deb
    if [ ! -s "$file" ]; then
        rm -f "$lab/deb/$1"_*"_$arch.deb"
        (cd "$lab/deb" && apt-get "${apt[@]}" -qq download "$1" >&2) || return 1
        [ -s "$file" ] || file=$(ls "$lab/deb/$1"_*_all.deb) || return 1 # an _all package
    fi
    echo "$file"
}

# headers SUITE RELEASE DIRECTORY   what modules are built with; its programs (linux-kbuild) are for the machine at hand
headers() {
    local p of=$arch
    for p in $(apt-cache "${apt[@]}" show --no-all-versions "linux-headers-$2" | sed -n 's/^Depends: //p' | tr ',' '\n' |
        awk '{ print $1 }' | grep -E '^linux-(headers|kbuild)') "linux-headers-$2"; do
        case $p in linux-kbuild-*) suite "$1" amd64 ;; *) suite "$1" "$of" ;; esac
        dpkg-deb -x "$(download "$p")" "$3/hdr"
    done
}

headers_of() {
    local name suite_name pattern more dir=$lab/kern/$1
    IFS=$'\t' read -r name suite_name pattern more <<< "$(grep -P "^$1\t" "$here/kernels.tsv")"
    suite "$suite_name" "$(case $pattern in *arm64*) echo arm64 ;; *) echo amd64 ;; esac)"
    [ -e "$dir/hdr/usr" ] || headers "$suite_name" "$(cat "$dir/release")" "$dir"
}

kernel() {
    local line name suite_name pattern more image release dir tmp debug=1 debs found=
    line=$(grep -P "^$1\t" "$here/kernels.tsv") || { echo "fetch: no kernel $1 in kernels.tsv" >&2; exit 2; }
    IFS=$'\t' read -r name suite_name pattern more <<< "$line"
    case $more in own) "$here/own.sh" "$name" "$pattern"; return ;; esac
    case $more in *nodebug*) debug= more=${more//nodebug/} ;; esac
    dir=$lab/kern/$name
    # looked for today already
    if [ -n "$(find "$dir/checked" -mtime -1 2>/dev/null)" ]; then return; fi
    suite "$suite_name" "$(case $pattern in *arm64*) echo arm64 ;; *) echo amd64 ;; esac)" || {
        [ -f "$dir/complete" ] || { echo "fetch: no lists of $suite_name packages from $mirror" >&2; exit 3; }
        return 0 # what is there will do
    }
    # newest first; an archive may list what it no longer holds
    for image in $(apt-cache "${apt[@]}" pkgnames linux- | grep -xE "$pattern" | sort -rV); do
        release=$(sed -E "s/^$pattern\$/\1/" <<< "$image")
        if [ -f "$dir/complete" ] && [ "$(cat "$dir/release")" = "$release" ]; then
            touch "$dir/checked"
            return
        fi
        debs=()
        for p in $image ${more//@/$release} ${debug:+"linux-image-$release-dbg"}; do debs+=("$(download "$p")") || continue 2; done
        found=1
        break
    done
    [ -n "$found" ] || { echo "fetch: $suite_name has no package like $pattern" >&2; exit 3; }
    rm -rf "$dir"
    mkdir -p "$dir/moddbg" "$dir/hdr"
    tmp=$(mktemp -d "$dir/unpack.XXXX")
    for p in "${debs[@]}"; do case $p in *-dbg_*) ;; *) dpkg-deb -x "$p" "$tmp" ;; esac; done
    cp "$(find "$tmp" -name 'vmlinuz*' -type f | head -1)" "$dir/vmlinuz"
    find "$tmp" -name 'config*' -type f -path '*boot*' -exec cp {} "$dir/config" \;
    mv "$(find "$tmp" -type d -name kernel -path '*modules*' | head -1)" "$dir/modules"
    # hardware that no guest has
    rm -rf "$dir"/modules/{sound,drivers/{gpu,media,infiniband,staging,usb,scsi,net/ethernet,net/wireless}}
    rm -rf "$tmp"
    if [ -z "$debug" ]; then
        echo "$release" > "$dir/release"
        rm -f "${debs[@]}"
        touch "$dir/complete" "$dir/checked"
        echo "$name: $release"
        return
    fi
    tmp=$(mktemp -d "$dir/unpack.XXXX")
    # shellcheck disable=SC2046
    dpkg-deb --fsys-tarfile "${debs[-1]}" |
        tar -xf - -C "$tmp" --wildcards '*/vmlinux*' $(printf ' */%s.ko*' $debug_modules) 2>/dev/null || true
    mv "$(find "$tmp" -name 'vmlinux*' -type f | head -1)" "$dir/vmlinux"
    find "$tmp" -name '*.ko*' -type f -exec mv -t "$dir/moddbg" {} +
    rm -rf "$tmp"
    # labmod is built for the machine at hand only
    [ "$arch" = arm64 ] || headers "$suite_name" "$release" "$dir"
    echo "$release" > "$dir/release"
    rm -f "${debs[@]}" # unpacked, and a third of a gigabyte each
    touch "$dir/complete" "$dir/checked"
    echo "$name: $release"
}

makedumpfile() {
    suite sid
    local dir=$lab/makedumpfile
    [ -x "$dir/run" ] && return
    mkdir -p "$dir"
    for p in makedumpfile libc6 libdw1t64 libelf1t64 zlib1g libzstd1 liblzo2-2 libbz2-1.0 liblzma5; do
        dpkg-deb -x "$(download "$p")" "$dir"
    done
    # its own libc, whatever the system's is; the same file serves in the crash kernel's initramfs
    cat > "$dir/run" <<'RUN'
#!/bin/sh
r=$(dirname "$0")
exec "$r/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2" --library-path "$r/usr/lib/x86_64-linux-gnu" "$r/usr/bin/makedumpfile" "$@"
RUN
    chmod +x "$dir/run"
    "$dir/run" -v | head -1
}

busybox_arm64() {
    local to=$lab/build/busybox-arm64
    [ -x "$to" ] && return
    suite bookworm arm64
    dpkg-deb --fsys-tarfile "$(download busybox-static)" | tar -xOf - ./bin/busybox > "$to"
    chmod +x "$to"
}

[ "$1" != headers ] || { headers_of "$2"; exit; }
for what in "$@"; do
    case $what in busybox-arm64) busybox_arm64 ;; makedumpfile) makedumpfile ;; *) kernel "$what" ;; esac
done

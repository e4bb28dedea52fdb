#!/bin/bash
# cc.sh COMPILER ARGUMENT...   runs a compiler without those options that it is too old to know: a kernel's headers ask for
# what the kernel's own compiler has
set -u
said=$(mktemp) && trap 'rm -f "$said"' EXIT
for _ in 1 2 3 4 5; do
    LC_ALL=C "$@" 2> "$said" && break
    status=$?
    unknown=$(sed -nE "s/.*unrecognized command-line option '([^']+)'.*/\1/p" "$said")
    [ -n "$unknown" ] || break
    kept=() status=0
    for argument; do grep -qxF -- "$argument" <<< "$unknown" || kept+=("$argument"); done
    set -- "${kept[@]}"
done
cat "$said" >&2
exit "${status:-0}"

#!/bin/sh
# Makes the files that the tests read. They are committed, so that tests need no compiler.
set -e
cd "$(dirname "$0")"
flags="-O2 -g -nostdlib -static -fno-pie -no-pie -fno-asynchronous-unwind-tables -ffile-prefix-map=$PWD=/src"
link="-Wl,--build-id=sha1,-e,_start,-z,noseparate-code"
gcc $flags $link -gdwarf-4 tiny.c other.c -o tiny-v4
gcc $flags $link -gdwarf-4 -fdebug-types-section tiny.c other.c -o tiny-v4-types
gcc $flags $link -gdwarf-5 tiny.c other.c -o tiny-v5
objcopy --compress-debug-sections=zlib tiny-v5 tiny-v5-zlib
objcopy --compress-debug-sections=zstd tiny-v5 tiny-v5-zstd
xz -9 --check=crc32 --keep --force tiny-v5
# a module: one unlinked object
gcc $flags -gdwarf-5 -ffunction-sections -c tiny.c -o tiny.o
gcc $flags -gdwarf-5 -ffunction-sections -c other.c -o other.o
ld -r --build-id=sha1 tiny.o other.o -o tiny.ko
rm tiny.o other.o
# stripped, with a reference to the file that has what it lost
objcopy --strip-debug --add-gnu-debuglink=tiny-v5 tiny-v5 tiny-stripped
# what two files share, moved out of both
cp tiny-v5 tiny-dwz
cp tiny-v5 other-dwz
dwz -m tiny-dwz.sup -M tiny-dwz.sup tiny-dwz other-dwz
rm other-dwz
chmod 644 tiny-* tiny.ko

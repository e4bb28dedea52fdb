#!/usr/bin/env python3
"""probe.py KERNEL PROGRAM   boots KERNEL of $KMDB_LAB and lets PROGRAM, a kmdb, set probes in it, from inside.

Standard input has a line for each question: a name, a tab, what the shell does meanwhile over and over (or nothing), a tab,
a line of kmdb's, or several with \\n between them. The workload is guest/hits.c, in the guest /bin/hits; $DISK in a
question is a disk of its own, mounted at /disk. Answers go to $KMDB_LAB/dumps/probe-KERNEL/truth: NAME in JSON, what was
said beside it to NAME.err, what the workload said to NAME.hits; what tracefs still has of a kmdb that was killed to `killed`.
`cargo test --test guests` runs this and compares.

For a kernel of another architecture PROGRAM must be linked statically; the workload is compiled by its compiler.
"""
import os
import subprocess
import sys
import tempfile

import initramfs
from vm import VM

SCRIPT = """mods
DISK=$(disk labext4)
ln -s $DISK /dev/disk
mkdir -p /disk
mount -t ext4 $DISK /disk
echo 40 > /proc/sys/fs/mount-max
for q in /questions/*.ask; do
    name=$(basename $q .ask)
    set --
    while read -r line; do set -- "$@" -e "$line"; done < $q
    beside=
    if [ -s /questions/$name.beside ]; then
        (while :; do . /questions/$name.beside; done) > /dev/null 2>&1 &
        beside=$!
    fi
    rm -f /tmp/hits.said
    timeout 300 /bin/kmdb -S --no-debuginfo -k -o json "$@" > /truth/$name 2> /truth/$name.err
    echo "exit status $?" >> /truth/$name.err
    cp /tmp/hits.said /truth/$name.hits 2> /dev/null
    [ -n "$beside" ] && kill $beside
    step $name
done
killed() {
    /bin/kmdb -S --no-debuginfo -k -e "$1" > /dev/null 2>&1 &
    pid=$!
    n=0
    until eval "$2" || [ $n = 30 ]; do
        sleep 1
        n=$((n + 1))
    done
    step killed $n
    kill -9 $pid
    sleep 2
}
t=/sys/kernel/tracing
killed '::funcgraph vfs_write -d 60s' '[ "$(cat $t/current_tracer)" != nop ]'
killed '::probe --no-bpf k:vfs_read -d 60s | ::group "str(arg1)"' '[ -s $t/dynamic_events ]'
cat $t/current_tracer $t/dynamic_events > /truth/killed
send
"""


def main():
    kernel, program = sys.argv[1:]
    questions = [line.rstrip("\n").split("\t", 2) for line in sys.stdin]
    here = os.path.dirname(os.path.abspath(__file__))
    lab = os.environ["KMDB_LAB"]
    arm64 = initramfs.arch(lab, kernel) == "arm64" and os.uname().machine != "aarch64"
    prefix, cpu = ("aarch64-linux-gnu-", "cortex-a72") if arm64 else ("", "max")
    with tempfile.TemporaryDirectory() as t:
        subprocess.run([f"{prefix}strip", "-o", f"{t}/kmdb", program], check=True)
        subprocess.run([f"{prefix}gcc", "-O1", "-static", "-fno-omit-frame-pointer", "-o", f"{t}/hits", f"{here}/guest/hits.c"],
                       check=True)

        def add(cpio):
            cpio.program(f"{t}/kmdb", "bin/kmdb")
            cpio.file("bin/hits", initramfs.read(f"{t}/hits"))
            for name, beside, line in questions:
                # read leaves out a last line that does not end
                lines = line.replace("\\n", "\n").replace("$DISK", "/dev/disk") + "\n"
                cpio.file(f"questions/{name}.ask", lines.encode(), 0o644)
                cpio.file(f"questions/{name}.beside", beside.replace("$DISK", "/dev/disk").encode(), 0o644)

        vm = VM(lab, f"probe-{kernel}", kernel, SCRIPT, add=add, cpu=cpu)
        try:
            vm.wait("LAB-SENT", 900)
        except RuntimeError:
            vm.kill()
            raise
    vm.end()
    print(f"{vm.dir}/truth")


if __name__ == "__main__":
    main()

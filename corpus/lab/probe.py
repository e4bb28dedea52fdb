#!/usr/bin/env python3
"""probe.py KERNEL PROGRAM   boots KERNEL of $KMDB_LAB and lets PROGRAM, a kmdb, set probes in it, from inside.

Standard input has a line for each question: a name, a tab, a line of kmdb's. The workload is guest/hits.c, in the guest
/bin/hits; $DISK in a question is a disk of its own. Answers go to $KMDB_LAB/dumps/probe-KERNEL/truth: NAME in JSON, what
was said beside it to NAME.err, what the workload said to NAME.hits. `cargo test --test guests` runs this and compares.
"""
import os
import subprocess
import sys
import tempfile

from vm import VM

SCRIPT = """mods
export DISK=$(disk labext4)
echo 40 > /proc/sys/fs/mount-max
for q in /questions/*; do
    name=${q##*/}
    line=$(sed "s|\\$DISK|$DISK|" "$q")
    rm -f /tmp/hits.said
    timeout 120 /bin/kmdb -S --no-debuginfo -k -o json -e "$line" > /truth/$name 2> /truth/$name.err
    echo "exit status $?" >> /truth/$name.err
    cp /tmp/hits.said /truth/$name.hits 2> /dev/null
    step $name
done
send
"""


def main():
    kernel, program = sys.argv[1:]
    questions = [line.rstrip("\n").split("\t", 1) for line in sys.stdin]
    here = os.path.dirname(os.path.abspath(__file__))
    with tempfile.TemporaryDirectory() as t:
        subprocess.run(["strip", "-o", f"{t}/kmdb", program], check=True)
        subprocess.run(["gcc", "-O1", "-static", "-fno-omit-frame-pointer", "-o", f"{t}/hits", f"{here}/guest/hits.c"], check=True)

        def add(cpio):
            cpio.program(f"{t}/kmdb", "bin/kmdb")
            with open(f"{t}/hits", "rb") as f:
                cpio.file("bin/hits", f.read())
            for name, line in questions:
                cpio.file(f"questions/{name}", line.encode(), 0o644)

        vm = VM(os.environ["KMDB_LAB"], f"probe-{kernel}", kernel, SCRIPT, add=add)
        try:
            vm.wait("LAB-SENT", 600)
        except RuntimeError:
            vm.kill()
            raise
    vm.end()
    print(f"{vm.dir}/truth")


if __name__ == "__main__":
    main()

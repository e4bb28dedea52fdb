#!/usr/bin/env python3
"""live.py KERNEL PROGRAM   boots KERNEL of $KMDB_LAB and lets PROGRAM, a kmdb, look at it from inside, both ways.

What it answered, and what the guest's own files said just before and after, goes to $KMDB_LAB/dumps/live-KERNEL/truth:
before/, after/ (files of /proc), kcore/ and bpf/ (one answer each in NAME, what was said beside it in NAME.err).
`cargo test --test live` runs this and compares.
"""
import os
import subprocess
import sys
import tempfile

from vm import VM

# name -> what kmdb is asked, in its JSON
QUESTIONS = {
    "status": "::status",
    "ps": "::ps",
    "kmem_cache": "::kmem_cache",
    "dentries": "::walk dentry | ::count",
    "modules": "::modules",
    "mounts": "::mounts",
    "msgbuf": "::msgbuf",
    "init": "::walk task | ::head -n 2 | ::print struct task_struct pid tgid comm start_boottime",
    "stacks": "::walk task | ::stack",
}

SCRIPT = """mods
mkdir -p /lab/data
net
step tree
tree 300
step actors
actors
facts() {
    mkdir -p /truth/$1
    for f in slabinfo modules uptime loadavg sys/fs/dentry-state 1/stat self/mountinfo; do
        cat /proc/$f > /truth/$1/$(echo $f | tr / .)
    done
    for p in /proc/[0-9]*; do echo "${p#/proc/} $(cat $p/comm 2>/dev/null)"; done > /truth/$1/pids
    dmesg > /truth/$1/dmesg
}
ask() {
    /bin/kmdb -S --no-debuginfo -k --live-source $1 -o json -e "$3" > /truth/$1/$2 2> /truth/$1/$2.err
    echo "exit status $?" >> /truth/$1/$2.err
}
sleep 1
facts before
for way in kcore bpf; do
    mkdir -p /truth/$way
%s
    step $way
done
facts after
send
"""


def main():
    kernel, program = sys.argv[1:]
    with tempfile.NamedTemporaryFile() as t:
        subprocess.run(["strip", "-o", t.name, program], check=True)
        asks = "\n".join(f"    ask $way {name} '{question}'" for name, question in QUESTIONS.items())
        vm = VM(os.environ["KMDB_LAB"], f"live-{kernel}", kernel, SCRIPT % asks,
                add=lambda cpio: cpio.program(t.name, "bin/kmdb"))
        try:
            vm.wait("LAB-SENT", 600)
        except RuntimeError:
            vm.kill()
            raise
    vm.end()
    print(f"{vm.dir}/truth")


if __name__ == "__main__":
    main()

"""One lab guest under QEMU: boots a kernel with a script, waits for its words on the console, dumps its memory."""
import functools
import json
import os
import re
import shutil
import socket
import subprocess
import time

import initramfs

KVM_CPU = "arch-capabilities=off"  # some hosts offer it and then refuse what it promises

# how many times longer than usual a guest may take: for a machine that has much else to do
PATIENCE = float(os.environ.get("LAB_PATIENCE", 1))


@functools.cache
def kvm(kernel_image, five_levels):
    """Whether this machine's KVM boots that kernel: many a virtual machine has a /dev/kvm that does not get far."""
    if os.environ.get("LAB_KVM") == "0" or not os.access("/dev/kvm", os.R_OK | os.W_OK) or os.uname().machine != "x86_64":
        return False
    with open("/proc/cpuinfo") as f:
        if five_levels and " la57 " not in f.read():
            return False  # the dump shall have five levels of page tables
    probe = subprocess.Popen(["timeout", "-k", "1", "15", "qemu-system-x86_64", "-machine", "q35", "-accel", "kvm", "-cpu",
                              f"max,{KVM_CPU}", "-m", "256", "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio",
                              "-kernel", kernel_image, "-append", "console=ttyS0 panic=-1"],
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        for line in probe.stdout:
            if b"KVM internal error" in line:
                return False
            if b"Unable to mount root fs" in line:  # there is none: it came as far as can be
                return True
    finally:
        probe.kill()
        probe.wait()
    return False


class VM:
    def __init__(self, lab, name, kernel, script, *, mem=512, cpus=2, cpu="max", append="", device_note=True,
                 wanted=None, ext4=True, disks=(), add=None, truth_mb=64, hardware=(), accel=None):
        self.lab, self.name, self.kernel = lab, name, kernel
        self.dir, self.run = f"{lab}/dumps/{name}", f"{lab}/run/{name}"
        shutil.rmtree(self.run, ignore_errors=True)
        os.makedirs(self.run)
        os.makedirs(self.dir, exist_ok=True)
        cpio = initramfs.base(lab, kernel, wanted)
        cpio.file("lab.sh", script.encode())
        if add:
            add(cpio)
        with open(f"{self.run}/initrd", "wb") as f:
            f.write(cpio.done())
        self.truth = self.blank("truth.raw", truth_mb)
        arm64 = initramfs.arch(lab, kernel) == "arm64"
        self.cmdline = f"console={'ttyAMA0' if arm64 else 'ttyS0'} panic=0 no_timer_check {append}".strip()
        machine = ["qemu-system-aarch64", "-machine", "virt,gic-version=3"] if arm64 else ["qemu-system-x86_64", "-machine", "q35"]
        # one thread for all CPUs: with one each, TCG panics guests that patch their code (tracepoints)
        self.accel = "tcg,thread=single"
        if accel != "tcg" and not arm64 and kvm(f"{lab}/kern/{kernel}/vmlinuz", "la57=off" not in cpu):
            self.accel, cpu = "kvm", f"{cpu},{KVM_CPU}"
        command = [*machine, "-accel", self.accel, "-cpu", cpu, "-m", str(mem),
                   "-smp", str(cpus), "-display", "none", "-nodefaults", "-no-reboot",
                   "-kernel", f"{lab}/kern/{kernel}/vmlinuz", "-initrd", f"{self.run}/initrd", "-append", self.cmdline,
                   "-chardev", f"socket,id=con,path={self.run}/con,server=on,wait=off,logfile={self.dir}/console.log",
                   "-serial", "chardev:con", "-qmp", f"unix:{self.run}/qmp,server=on,wait=off",
                   "-device", "virtio-rng-pci", *hardware, *self.disk("labout", self.truth)]
        if device_note:
            command += ["-device", "vmcoreinfo"]
        if ext4:
            disk = self.blank("ext4.raw", 48)
            subprocess.run(["mkfs.ext4", "-q", "-F", "-b", "1024", disk], check=True)
            command += self.disk("labext4", disk)
        for serial, path in disks:
            command += self.disk(serial, path)
        self.errors = open(f"{self.run}/errors", "w")
        self.process = subprocess.Popen(command, stdout=self.errors, stderr=self.errors)
        self.console, self.heard = self.connect("con"), b""
        self.monitor = self.connect("qmp").makefile("rw")
        self.monitor.readline()
        self.qmp("qmp_capabilities")

    def blank(self, name, mb):
        path = f"{self.run}/{name}"
        with open(path, "wb") as f:
            f.truncate(mb << 20)
        return path

    @staticmethod
    def disk(serial, path):
        return ["-drive", f"if=none,id={serial},file={path},format=raw,cache=unsafe",
                "-device", f"virtio-blk-pci,drive={serial},serial={serial}"]

    def connect(self, name):
        for _ in range(200):
            try:
                s = socket.socket(socket.AF_UNIX)
                s.connect(f"{self.run}/{name}")
                return s
            except OSError:
                if self.process.poll() is not None:
                    with open(f"{self.run}/errors") as f:
                        raise RuntimeError(f"QEMU: {f.read()}") from None
                time.sleep(0.05)
        raise RuntimeError(f"QEMU opens no {name}")

    def qmp(self, command, **arguments):
        self.monitor.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.monitor.flush()
        while line := self.monitor.readline():
            answer = json.loads(line)
            if "event" not in answer:
                return answer
        return {"error": "QEMU is gone"}

    def wait(self, pattern, timeout=180):
        """Waits for a word on the console."""
        timeout *= PATIENCE
        end, pattern = time.time() + timeout, re.compile(pattern.encode())
        while time.time() < end:
            if m := pattern.search(self.heard):
                self.heard = self.heard[m.end():]
                return m
            self.console.settimeout(1)
            try:
                data = self.console.recv(65536)
            except TimeoutError:
                continue
            if not data:
                break
            self.heard += data
        raise RuntimeError(f"{self.name}: no {pattern.pattern.decode()} on the console; see {self.dir}/console.log")

    def say(self, line):
        self.console.sendall(line.encode() + b"\n")

    def dump(self, file, fmt="elf", paging=False):
        path = f"{self.dir}/{file}"
        if os.path.exists(path):
            os.unlink(path)
        how = {} if fmt == "elf" else {"format": fmt}
        answer = self.qmp("dump-guest-memory", paging=paging, protocol=f"file:{path}", **how)
        if "return" not in answer:
            raise RuntimeError(f"{self.name}: {file}: {answer['error']}")
        os.chmod(path, 0o644)
        # half of it is zeros; they need not be on the disk
        subprocess.run(["fallocate", "--dig-holes", path], stderr=subprocess.DEVNULL, check=False)

    def end(self, timeout=60):
        """Waits for the guest to power off; unpacks its truth."""
        try:
            self.process.wait(timeout * PATIENCE)
        finally:
            self.process.kill()
            self.process.wait()
            self.errors.close()
        truth = f"{self.dir}/truth"
        shutil.rmtree(truth, ignore_errors=True)
        os.makedirs(truth)
        subprocess.run(["tar", "-xf", self.truth, "-C", truth], stderr=subprocess.DEVNULL, check=False)
        shutil.rmtree(self.run)

    def kill(self):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.run, ignore_errors=True)

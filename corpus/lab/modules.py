"""The lab's kernel modules that bring things about: built for a kernel with module.sh, put into a guest without DWARF."""
import os
import subprocess
import tempfile
import threading

import initramfs
from vm import PATIENCE

HERE = os.path.dirname(os.path.abspath(__file__))
building = threading.Lock()


def build(module, kernel):
    """Builds the module; False if it cannot be built here."""
    with building:
        return subprocess.run([f"{HERE}/module.sh", module, kernel], capture_output=True, timeout=300 * PATIENCE).returncode == 0


def add(lab, kernel, module, cpio):
    path = f"{lab}/kern/{kernel}/{module}.ko"
    if not os.path.exists(path):
        return
    strip = "aarch64-linux-gnu-strip" if initramfs.arch(lab, kernel) == "arm64" else "strip"
    with tempfile.NamedTemporaryFile() as bare:
        subprocess.run([strip, "--strip-debug", "-o", bare.name, path], check=True)
        cpio.file(f"{module}.ko", initramfs.read(bare.name), 0o644)

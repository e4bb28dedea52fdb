#!/usr/bin/env python3
"""Many crashes of a kernel from one boot: `fast.py KERNEL [WORD...]`, as `fast.py k612 null 'list-*' hung-kdump`.

A guest is booted once for each set of devices and boot options and saved to a file; each way down begins from that. Where
matrix.py takes half a minute for a dump this takes some seconds, by kdump half a minute; it asks no oracle.
"""
import fnmatch
import os
import shutil
import sys
import time

import crashes
import matrix
from vm import PATIENCE, VM

# nothing of what is typed is echoed, lest it be taken for what was printed
WAITS = """mods
bring_down() {
    stty -echo < /dev/console
    echo LAB-SAVE
    read -r line < /dev/console
    echo LAB-CRASH
    eval "$line"
}
"""
BY = dict(qemu="bring_down\necho LAB-WAITS\nsleep 1000\n", kdump="kdump bring_down\n")
FORMS = ("z-d31",)


def migrated(vm):
    """Waits until the machine's state is out, or in."""
    end = time.time() + 100 * PATIENCE
    while time.time() < end:
        status = vm.qmp("query-migrate").get("return", {}).get("status")
        if status == "completed":
            return
        if status == "failed":
            break
        time.sleep(0.2)
    raise RuntimeError(f"{vm.name}: its state could not be moved")


def start(name, recipe, disk, **more):
    kernel, how = recipe["kernel"], {**crashes.options(recipe), **more}
    how["add"] = crashes.add(matrix.LAB, kernel)
    if recipe["by"] == "kdump":
        how["append"] += " crashkernel=192M"
        how["add"], _ = matrix.crash_kernel(kernel, FORMS)
        matrix.dump_disk(disk)
        how["disks"] = [("labdump", disk)]
    return VM(matrix.LAB, name, kernel, WAITS + BY[recipe["by"]], **how)


def save(state, recipe):
    """Boots what a recipe asks for, up to where it would be brought down."""
    vm = start(f"saved-{os.path.basename(state)}", recipe, f"{state}.disk")
    try:
        vm.wait("LAB-SAVE", 300)
        time.sleep(1)
        vm.qmp("stop")
        vm.qmp("migrate", uri=f"exec:cat > {state}")
        migrated(vm)
        if recipe["ext4"]:
            shutil.copy(f"{vm.run}/ext4.raw", f"{state}.ext4")
    finally:
        vm.kill()
        shutil.rmtree(vm.dir)


def bring_down(name, recipe, state):
    where, begun = f"{matrix.LAB}/dumps/{name}", time.time()
    shutil.rmtree(where, ignore_errors=True)
    vm = start(name, recipe, f"{state}.disk", hardware=[*recipe.get("hardware", ()), "-incoming", "defer"])
    try:
        if recipe["ext4"]:
            shutil.copyfile(f"{state}.ext4", f"{vm.run}/ext4.raw")
        vm.qmp("migrate-incoming", uri=f"exec:cat {state}")
        migrated(vm)
        vm.qmp("cont")
        vm.say(recipe["crash"])
        if recipe["by"] == "kdump":
            vm.wait("LAB-CAPTURED", 200)
            vm.end()
            matrix.take_out(f"{state}.disk", [f"vmcore.{form}" for form in FORMS], where)
        else:
            crashes.watch(vm, recipe)
    except BaseException:
        vm.kill()
        raise
    with open(f"{where}/kernel", "w") as f:
        f.write(recipe["kernel"] + "\n")
    with open(f"{where}/stamp", "w") as f:
        f.write(matrix.stamp(recipe))
    return f"{time.time() - begun:.0f} s"


def groups(recipes):
    """Recipes that begin alike."""
    found = {}
    for name, recipe in recipes.items():
        how = {k: v for k, v in crashes.options(recipe).items() if k != "oracle"}
        found.setdefault((recipe["by"], repr(sorted(how.items()))), {})[name] = recipe
    return found.values()


def main():
    kernel, *words = sys.argv[1:]
    wanted = [f"crash-{kernel}-{word}" for word in words or ["*"]]
    # one that has no /init gets nowhere by itself
    recipes = {name: recipe for name, recipe in matrix.MATRIX.items() if recipe.get("word", "noroot") != "noroot" and any(fnmatch.fnmatch(name, w) for w in wanted)}
    matrix.fetch(kernel)
    if not crashes.modules.build("crasher", kernel):
        sys.exit(f"crasher does not build for {kernel} here")
    failed = 0
    os.makedirs(f"{matrix.LAB}/run", exist_ok=True)
    for number, members in enumerate(groups(recipes)):
        state = f"{matrix.LAB}/run/{kernel}-{number}.state"
        try:
            save(state, next(iter(members.values())))
            for name, recipe in members.items():
                try:
                    matrix.say(f"{name}: {bring_down(name, recipe, state)}")
                except RuntimeError as e:
                    matrix.say(f"{name}: FAILED: {e}")
                    failed += 1
        except RuntimeError as e:
            matrix.say(f"{' '.join(members)}: FAILED: {e}")
            failed += len(members)
        finally:
            for file in (state, f"{state}.ext4", f"{state}.disk"):
                if os.path.exists(file):
                    os.unlink(file)
    return failed


if __name__ == "__main__":
    sys.exit(1 if main() else 0)

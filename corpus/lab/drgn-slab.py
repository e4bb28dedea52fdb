#!/usr/bin/env python3
"""drgn-slab.py VMLINUX VMCORE [CACHE]   drgn's documented loop over the allocated objects of a slab cache, timed; for comparisons."""
import sys
import time

import drgn
from drgn.helpers.linux import find_slab_cache, for_each_slab_cache, slab_cache_for_each_allocated_object

start = time.time()
prog = drgn.Program()
prog.set_core_dump(sys.argv[2])
try:
    prog.load_debug_info([sys.argv[1]])
except drgn.MissingDebugInfoError:
    pass
print(f"load {time.time() - start:.3f} s")
caches = [find_slab_cache(prog, sys.argv[3])] if len(sys.argv) > 3 else list(for_each_slab_cache(prog))
start, count = time.time(), 0
for cache in caches:
    for _ in slab_cache_for_each_allocated_object(cache, "void"):
        count += 1
print(f"{count} objects of {len(caches)} caches {time.time() - start:.3f} s")

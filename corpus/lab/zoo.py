"""The corruption zoo: guests in which the module zoo/ has committed one sin after another. truth/zoo.txt says which, where."""
SINS = """overflow overflow_far overflow_free overflow_short underflow uaf_write uaf_pointer uaf_read double_free wrong_cache
wrong_list link_text link_pointer link_flip bit_flip wild track cache_field slab_count slab_list
list_cycle list_poison list_torn list_text list_flip list_good hlist_torn hlist_poison refcount
rb_red rb_parent rb_order rb_good xarray
nul_past off_by_8 memset_three link_user link_end cache_bit slab_owner slab_stranger ctor_write page_write page_count_low
wait_gone list_twice bl_torn xa_freed maple_order stack_end area_gone count_minus
stale_write free_inside vfree_twice cred_count head_null list_errptr rb_same rb_loop xa_offset maple_dead task_text skb_qlen
wait_below timer_code destroy_left owner_gone leak_behind_free timer_freed work_freed list_freed
leak_percpu leak_self leak_dead_stack leak_area_holds leak_array leak_one_page
leak_single leak_chain leak_cycle interior leak_kmalloc leak_large leak_vmalloc leak_page dangling dentry_leak file_leak
deadlock""".split()

FENCED = "fence_oob fence_uaf fence_past fence_past_freed".split()


def commit(sins):
    """Each by a process with a name of its own; one that is killed for it leaves the others a chance."""
    return ("insmod /zoo.ko\ntouch /lab/zoo_dentry\n"
            f"for sin in {' '.join(sins)}; do labtool as \"sin_$sin\" /proc/zoo $sin || echo \"LAB-WARN $sin\"; done\n"
            # SLUB's own traces are not asked for: the kernel would fall over the damage
            "cat /proc/zoo > /truth/zoo.txt\n")


COMMIT = commit(SINS)

# kmemleak counts what is older than five seconds and was not reached by two scans
LEAKS = [sin for sin in SINS if sin.startswith("leak_")] + ["interior", "file_leak"]
SCAN = ("sleep 7\nfor i in 1 2 3; do echo scan > /sys/kernel/debug/kmemleak; done\n"
        "cat /sys/kernel/debug/kmemleak > /truth/kmemleak.txt\ncat /proc/allocinfo > /truth/allocinfo.txt\n")


def recipes(debug, plain, four_levels, arm64):
    """The zoo's part of the matrix; drgn's loops do not survive it. Tracing is on, so that it is known who freed what also without slub_debug."""
    script = "step mods\nmods\nnet\nstep trace\ntraceon 1024 kmem\nstep zoo\n" + COMMIT + "traceoff\nstep truth\ntruth\n"
    each = {"dbg": debug, "plain": plain}
    made = {}
    for kernel, cpu in (("k510", {}), ("k61", dict(cpu=four_levels)), ("k612", {}), ("k72", {}), ("k73", {}), ("a612", dict(cpu=arm64))):
        for tag, append in each.items():
            made[f"zoo-{kernel}-{tag}"] = dict(kernel=kernel, module="zoo", script=script, append=append, mem=256, oracle=False, **cpu)
    made["zoo-k612-zeroed"] = dict(kernel="k612", module="zoo", script=script, append=f"{plain} init_on_free=1", mem=256, oracle=False)
    fenced = script.replace(COMMIT, commit(FENCED))
    for kernel, cpu in (("k612", {}), ("a612", dict(cpu=arm64))):
        made[f"zoo-{kernel}-kfence"] = dict(kernel=kernel, module="zoo", script=fenced, append=f"{plain} kfence.sample_interval=1",
                                            mem=256, oracle=False, **cpu)
    # what the kernel itself knows of leaks, pages and allocations: a kernel that Debian does not have
    made["zoo-own612-leaks"] = dict(kernel="own612", module="zoo", append=f"{plain} page_owner=on kmemleak=on", mem=256, oracle=False,
                                    script="step mods\nmods\nstep zoo\n" + commit(LEAKS) + SCAN + "step truth\nminitruth\n")
    return made

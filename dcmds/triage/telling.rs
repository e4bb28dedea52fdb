//! Names of functions and words of the log that say what happened.

/// What it means that the processor refuses an entry of a page table.
pub(super) const BAD_TABLE: &str =
    "an entry of a page table has bits set that must not be: the table was written over, or the memory is bad";

/// Functions that say by themselves what they are called for: which, and what it means. Looked for among those that were
/// called after the exception, if there was one, then all.
pub(super) const TELLING: &[(&[&str], &str, &str)] = &[
    (&["sysrq_handle_crash"], "sysrq", "somebody asked for a crash (sysrq-c)"),
    (
        &["out_of_memory", "mem_cgroup_out_of_memory", "pagefault_out_of_memory"],
        "oom",
        "out of memory, and told to panic then",
    ),
    (
        &["watchdog_timer_fn", "watchdog_check_softlockup"],
        "soft-lockup",
        "soft lockup: a CPU ran kernel code and let no task run",
    ),
    (
        &["watchdog_overflow_callback", "watchdog_hardlockup_check", "watchdog_buddy_check_hardlockup"],
        "hard-lockup",
        "hard lockup: a CPU served no interrupts",
    ),
    (
        &[
            "rcu_sched_clock_irq",
            "print_cpu_stall",
            "print_other_cpu_stall",
            "panic_on_rcu_stall",
            "check_cpu_stall",
            "synchronize_rcu_expedited_wait",
            "rcu_exp_wait_wake",
        ],
        "rcu-stall",
        "RCU stall: a reader did not end",
    ),
    (&["check_hung_uninterruptible_tasks", "check_hung_task"], "hung-task", "hung task: a sleep that did not end"),
    (
        &["handle_stack_overflow", "handle_bad_stack", "panic_bad_stack", "__bad_stack"],
        "stack-overflow",
        "stack overflow: the kernel stack ran into its guard page",
    ),
    (&["__stack_chk_fail"], "stack-smashed", "a function's stack frame was written over (stack protector)"),
    (
        &[
            "do_machine_check",
            "mce_panic",
            "exc_machine_check",
            "mce_timed_out",
            "ghes_panic",
            "__ghes_panic",
            "ghes_do_proc",
            "arm64_serror_panic",
            "do_serror",
        ],
        "hardware",
        "the hardware reported an error that cannot be survived",
    ),
    (&["__schedule_bug", "__might_resched", "__might_sleep"], "atomic", "code that must not sleep slept"),
    (&["kasan_report", "kasan_report_invalid_free", "end_report"], "kasan", "KASAN found a bad access"),
    (&["kfence_report_error", "kfence_handle_page_fault"], "kfence", "KFENCE found a bad access"),
    (
        &["ubsan_epilogue", "__ubsan_handle_out_of_bounds", "__ubsan_handle_shift_out_of_bounds"],
        "ubsan",
        "UBSAN found undefined behaviour",
    ),
    (&["usercopy_abort", "__check_object_size"], "usercopy", "a copy to or from user space went beyond an object"),
    (&["fortify_panic", "__fortify_panic"], "overflow", "a string or memory function was about to overflow its buffer"),
    (&["skb_panic", "skb_under_panic", "skb_over_panic"], "skb", "a network buffer ran out of room"),
    (
        &["mount_root_generic", "mount_block_root", "mount_root", "prepare_namespace"],
        "no-root",
        "no root file system could be mounted",
    ),
    (&["pgtable_bad"], "page-table", BAD_TABLE),
    (
        &["report_cfi_failure", "handle_cfi_failure", "__cfi_slowpath", "cfi_handler"],
        "cfi",
        "an indirect call went to what is no function of that type (CFI)",
    ),
    (
        &["wq_watchdog_timer_fn", "panic_on_wq_watchdog"],
        "workqueue-lockup",
        "workqueue lockup: the workers of a CPU got nothing done",
    ),
    (
        &[
            "ext4_handle_error",
            "__ext4_error",
            "__ext4_std_error",
            "__btrfs_panic",
            "__fat_fs_error",
            "f2fs_handle_critical_error",
            "ocfs2_handle_error",
        ],
        "fs-error",
        "a file system found damage, and was told to panic then",
    ),
    (
        &["unknown_nmi_error", "io_check_error", "pci_serr_error", "nmi_panic_self_stop"],
        "nmi",
        "a non-maskable interrupt that nobody knows: a button, a management controller or bad hardware",
    ),
];
/// Of those, what comes by an interrupt or exception: it is about what was interrupted.
pub(super) const BY_INTERRUPT: &[&str] = &[
    "soft-lockup",
    "hard-lockup",
    "rcu-stall",
    "stack-overflow",
    "hardware",
    "nmi",
    "page-table",
    "cfi",
    "workqueue-lockup",
];
/// How the names of functions begin that serve exceptions, and no interrupts.
pub(super) const EXCEPTIONS: &[&str] = &[
    "asm_exc_",
    "exc_",
    "do_mem_abort",
    "do_el1_",
    "el1_abort",
    "el1_undef",
    "el1_dbg",
    "el1_brk",
    "brk_handler",
    "bug_handler",
    "die",
    "__die",
    "oops_end",
    "page_fault_oops",
    "__do_kernel_fault",
    "die_kernel_fault",
    "do_undefinstr",
    "el1h_64_sync",
];
/// Functions in which the allocator takes an object off a list of free ones, which it trusts.
pub(super) const ALLOCATES: &[&str] = &[
    "kmem_cache_alloc",
    "__kmalloc",
    "kmalloc",
    "___slab_alloc",
    "__slab_alloc",
    "slab_alloc",
    "get_freepointer",
    "deactivate_slab",
    "__kmem_cache_alloc",
];
/// Functions that look up what they are to free.
pub(super) const FREES: &[&str] = &["kfree", "kvfree", "kmem_cache_free", "__kmem_cache_free", "kfree_sensitive"];
/// Functions in which a CPU waits until others have answered an interrupt.
pub(super) const ASKS_CPUS: &[&str] = &[
    "smp_call_function_single",
    "smp_call_function_many_cond",
    "smp_call_function_many",
    "generic_exec_single",
    "csd_lock_wait",
    "__csd_lock_wait",
    "multi_cpu_stop",
];
/// What a BUG() or WARN() in these functions means.
pub(super) const CHECKS: &[(&[&str], &str, &str)] = &[
    (
        &[
            "__list_add_valid",
            "__list_del_entry_valid",
            "__list_add_valid_or_report",
            "__list_del_entry_valid_or_report",
        ],
        "list-corruption",
        "list corruption",
    ),
    (&["refcount_warn_saturate"], "refcount", "a reference count ran over or under"),
    (&["usercopy_abort"], "usercopy", "a copy to or from user space went beyond an object"),
    (
        &["fortify_panic", "__fortify_panic", "__fortify_report"],
        "overflow",
        "a string or memory function was about to overflow its buffer",
    ),
    (
        &[
            "__slab_free",
            "kfree",
            "kmem_cache_free",
            "do_slab_free",
            "slab_free",
            "set_freepointer",
            "___slab_free",
            "free_to_partial_list",
            "__kmem_cache_free",
            "cache_from_obj",
            "free_to_pcs",
        ],
        "double-free",
        "an object was freed twice, or is none",
    ),
    (&["skb_panic", "skb_under_panic", "skb_over_panic"], "skb", "a network buffer ran out of room"),
    (&["__schedule_bug", "__might_sleep", "__might_resched"], "atomic", "code that must not sleep slept"),
];
/// What only says that something is wrong: between what happened and the stack's top.
pub(super) const MACHINERY: &[&str] = &[
    "__crash_kexec",
    "crash_kexec",
    "machine_kexec",
    "panic",
    "vpanic",
    "nmi_panic",
    "oops_end",
    "oops_enter",
    "die",
    "__die",
    "die_addr",
    "__die_body",
    "crash_setup_regs",
    "check_panic_on_warn",
    "panic_on_warn",
    "rewind_stack_and_make_dead",
    "vprintk",
    "_printk",
    "printk",
];

/// The class that a line of the log names.
pub(super) fn by_message(line: &str) -> Option<&'static str> {
    const WORDS: &[(&str, &str)] = &[
        ("NULL pointer dereference", "null-deref"),
        ("hung_task", "hung-task"),
        ("blocked for more than", "hung-task"),
        ("soft lockup", "soft-lockup"),
        ("softlockup", "soft-lockup"),
        ("hard LOCKUP", "hard-lockup"),
        ("rcu: INFO", "rcu-stall"),
        ("RCU Stall", "rcu-stall"),
        ("Out of memory", "oom"),
        ("stack guard page", "stack-overflow"),
        ("kernel stack overflow", "stack-overflow"),
        ("stack-protector", "stack-smashed"),
        ("sysrq triggered crash", "sysrq"),
        ("Attempted to kill init", "init-died"),
        ("Unable to mount root", "no-root"),
        ("list_add", "list-corruption"),
        ("list_del", "list-corruption"),
        ("scheduling while atomic", "atomic"),
        ("Bad page state", "bad-page"),
        ("divide error", "divide-error"),
        ("invalid opcode", "invalid-opcode"),
        ("kernel BUG at", "bug"),
        ("Machine check", "hardware"),
        ("Asynchronous SError", "hardware"),
        ("double fault", "double-fault"),
        ("workqueue lockup", "workqueue-lockup"),
        ("table at address", "page-table"),
        ("Bad pagetable", "page-table"),
        ("Bad page map", "bad-page"),
        ("bad pmd", "bad-page"),
        ("UBSAN", "ubsan"),
        ("CFI failure", "cfi"),
        ("panic forced after error", "fs-error"),
        ("deadlocked on memory", "oom"),
        ("Kernel memory overwrite attempt", "usercopy"),
        ("Kernel memory exposure attempt", "usercopy"),
        ("detected buffer overflow", "overflow"),
        ("skb_over_panic", "skb"),
        ("skb_under_panic", "skb"),
        ("refcount_t: ", "refcount"),
        ("NMI", "nmi"),
        ("KASAN", "kasan"),
        ("KFENCE", "kfence"),
        ("general protection fault", "bad-pointer"),
        ("unable to handle page fault", "bad-access"),
        ("paging request", "bad-access"),
        ("panic_on_warn", "warn"),
        ("WARNING: ", "warn"),
    ];
    WORDS.iter().find(|(word, _)| line.contains(word)).map(|(_, class)| *class)
}

//! What is asked in the guests, and what must come of it.

/// What a question must answer.
pub enum Must {
    /// one row, with this in that column
    Be(&'static str, u64),
    /// one row, with what the workload counted in that column, or up to so many more
    BeSaid(&'static str, u64),
    /// one row, with what the workload counted in that column, or up to so many more or less
    AboutSaid(&'static str, u64),
    /// one row, with so many or up to so many more in that column
    Near(&'static str, u64, u64),
    /// one row, with at least so many in that column
    Least(&'static str, u64),
    /// one row of a group, so often, with these texts
    Group(u64, &'static [(&'static str, &'static str)]),
    /// a row of a group, so often (0: as often as the workload says), with that text
    Have(u64, &'static str, &'static str),
    /// a row of a group, at least so often, with a text that begins so
    Begin(u64, &'static str, &'static str),
    /// rows whose counts come to this
    Total(u64),
    /// rows whose counts come to at least this
    Sum(u64),
    /// stacks that lead through these functions
    Stack(&'static str, &'static [&'static str]),
    /// so many calls of the first function at least, each with one of the second, one step deeper
    Tree(usize, &'static str, &'static str),
    /// a row with a text in which that is, in that column
    Show(&'static str, &'static str),
    /// an error that says so
    Says(&'static str),
}
use Must::{AboutSaid, Be, BeSaid, Begin, Group, Have, Least, Near, Says, Show, Stack, Sum, Total, Tree};

/// A question: its name, the workload (behind `&` one that the guest's shell runs beside, over and over), the line, and what
/// must come of it. `-C` in the line stands for the workload.
pub type Question = (&'static str, &'static str, &'static str, Must);

/// Probes.
#[rustfmt::skip]
pub const PROBES: &[Question] = &[
    ("kprobe", "reads 1000", "::probe k:vfs_read -C | READS | ::count", Be("count", 1000)),
    ("kprobe_argument", "reads 1000", "::probe k:vfs_read -C | READS | ::sum count", Be("sum", 50500)),
    ("kretprobe", "reads 1000", "::probe kr:vfs_read -C | READS | ::sum retval", Be("sum", 50500)),
    ("entry_at_return", "reads 1000", "::probe kr:vfs_read -C | READS | ::group 'retval - count' | ::count", Group(1000, &[])),
    ("entry_condition", "reads 1000", "::probe kr:vfs_read -C | READS && count > 50 && retval > 0 | ::count", Be("count", 500)),
    // an int, and a long that is negative; a number of 64 bits in a register of its own
    ("negative_numbers", "opens 100", "::probe kr:do_sys_openat2 -C | ::where comm == \"hits-opens\" && dfd == -100 && retval == -ENOENT | ::count",
        Be("count", 100)),
    ("nanoseconds", "sleeps 100", "::probe kr:hrtimer_nanosleep -C | ::where comm == \"hits-sleeps\" | ::sum rqtp", Be("sum", 550_000_000)),
    ("latency_of_calls", "reads 1000", "::probe kr:vfs_read -C | READS | ::quantize elapsed", Total(1000)),
    ("path", "reads 1000", "::probe k:vfs_read -C | READS | ::group path(file) | ::count", Group(1000, &[("path", "/dev/zero")])),
    ("pattern", "reads 1000", "::probe k:vfs_rea[d]* -C | READS | ::group probe | ::count", Have(1000, "probe", "k:vfs_read")),
    ("dentries", "dentries 1000", "::probe k:d_alloc_parallel -C | ::where comm == \"hits-dentries\" | ::group parent->d_name.name name->name | ::count",
        Group(1000, &[("name", "/"), ("name->name", "no_such_thing")])),
    ("dentry_stacks", "dentries 1000", "::probe k:d_alloc_parallel -C | ::where comm == \"hits-dentries\" | ::group stack | ::count",
        Stack("stack", &["d_alloc_parallel", "filename_lookup", "do_faccessat"])),
    ("dentry_user_stacks", "dentries 1000", "::probe k:d_alloc_parallel -C | ::where comm == \"hits-dentries\" | ::group ustack | ::count",
        Stack("ustack", &["access"])),
    ("tracepoint", "reads 1000", "::probe t:syscalls:sys_enter_read -C | READS | ::count", Be("count", 1000)),
    ("syscall", "reads 1000", "::probe s:read -C | READS | ::group 'ret - count' | ::count", Group(1000, &[])),
    ("syscall_text", "opens 1000", "::probe s:openat -C | ::where ret == -ENOENT | ::group filename | ::count",
        Group(1000, &[("filename", "/tmp/no such file")])),
    ("syscalls", "opens 1000", "::probe s:* -C | ::where comm == \"hits-opens\" | ::group name | ::count", Have(1000, "name", "openat")),
    ("enospc", "mounts 60", "::probe s:mount -C | ::where ret == -ENOSPC | ::count", BeSaid("count", 0)),
    ("enospc_function", "mounts 60", "::probe kr:count_mounts -C | ::where retval == -ENOSPC | ::count", BeSaid("count", 0)),
    ("enospc_hunt", "mounts 60", "::probe kr:*mount* -C | ::where retval == -ENOSPC && comm == \"hits-mounts\" | ::group probe | ::count",
        Have(0, "probe", "kr:count_mounts")),
    ("uprobe", "calls 1000", "::probe u:/bin/hits:hits_step -C | ::count", Be("count", 1000)),
    ("uretprobe", "calls 1000", "::probe ur:/bin/hits:hits_step -C | ::sum retval", Be("sum", 1_498_500)),
    ("recursion", "deeps 1000", "::probe ur:/bin/hits:hits_deep -C | ::group 'retval - arg0' | ::count", Group(5500, &[])),
    ("blocks", "blocks 64 $DISK", "::probe t:block:block_rq_issue t:block:block_rq_complete -C | ::latency dev sector | ::where comm == \"hits-blocks\" | ::count",
        Be("count", 64)),
    ("blocks_by_request", "blocks 64 $DISK", "::probe rt:block_rq_issue rt:block_rq_complete -C | ::latency rq | ::where comm == \"hits-blocks\" | ::count",
        Be("count", 64)),
    // of both processes, without those who had to (0x100, since Linux 4.14); the last ones, as they end, are not counted by
    // the workload, and before Linux 5.18 (fa2c3254d7cf) one that was woken at that moment is shown as one who had to
    ("switches", "pingpong 200", "::probe t:sched:sched_switch -C | ::where prev_comm == \"hits-pingpong\" && (prev_state & 0xff) != 0 | ::count", AboutSaid("count", 8)),
    ("slabs", "dentries 1000", "::probe k:kmem_cache_alloc_lru,k:kmem_cache_alloc -C | ::where comm == \"hits-dentries\" | ::group arg0->name | ::count",
        Have(1000, "name", "dentry")),
    ("user_frames", "calls 1000", "::probe -f u:/bin/hits:hits_step -C | ::group ustack | ::where count == 1000",
        Stack("ustack", &["hits_step", "hits_outer", "main"])),
    ("callers", "calls 1000", "::probe u:/bin/hits:hits_step -C | ::group caller | ::count", Group(1000, &[])),
];

/// Tools.
#[rustfmt::skip]
pub const TOOLS: &[Question] = &[
    ("fentry", "", "::explain ::probe kr:vfs_read | ::group 'retval - count' | ::count", Show("what", "fentry or fexit")),
    ("fentry_without", "", "::explain ::probe k:vfs_read | ::group stack | ::count", Show("what", "at a kprobe: the kernel's stack")),
    ("opensnoop", "opens 1000", "::opensnoop -x -C | ::where 'filename == \"/tmp/no such file\"' | ::count", Be("count", 1000)),
    ("execsnoop", "calls 1", "::execsnoop -C | ::where 'filename == \"/bin/hits\"' | ::count", Be("count", 1)),
    ("syscount_errno", "mounts 60", "::syscount -e ENOSPC -C", Have(0, "name", "mount")),
    ("syscount_processes", "reads 1000", "::syscount -P -C", Begin(1000, "comm", "hits-reads")),
    ("syscount_times", "reads 1000", "::syscount -L -C", Begin(1000, "name", "read")),
    ("argdist", "reads 1000", "::argdist k:vfs_read count -w 'comm == \"hits-reads\"' -C | ::count", Be("count", 100)),
    ("argdist_histogram", "reads 1000", "::argdist -H k:vfs_read count -w 'comm == \"hits-reads\"' -C", Total(1000)),
    ("trace", "reads 1000", "::trace k:vfs_read count -w 'comm == \"hits-reads\"' -C | ::count", Be("count", 1000)),
    ("funccount", "reads 1000", "::funccount k:vfs_rea[d]* -C", Begin(1000, "probe", "k:vfs_read")),
    ("stackcount", "reads 1000", "::stackcount k:vfs_read -C | ::where count >= 1000", Stack("stack", &["vfs_read", "sys_read"])),
    ("stackcount_user", "reads 1000", "::stackcount -U k:vfs_read -C | ::where count >= 1000", Stack("ustack", &["read", "main"])),
    ("funclatency", "reads 1000", "::funclatency vfs_read -w 'comm == \"hits-reads\"' -C", Total(1000)),
    ("funclatency_user", "calls 1000", "::funclatency -u /bin/hits hits_step -C", Total(1000)),
    ("biolatency", "blocks 64 $DISK", "::biolatency -C", Total(64)),
    ("biosnoop", "blocks 64 $DISK", "::biosnoop -C | ::count", Be("count", 64)),
    ("biotop", "blocks 64 $DISK", "::biotop -C", Have(64, "comm", "hits-blocks")),
    ("fileslower", "blocks 64 $DISK", "::fileslower -C 0 | ::where 'comm == \"hits-blocks\" && count == 4096' | ::count", Be("count", 64)),
    ("filetop", "reads 1000", "::filetop -C | ::where 'name == \"zero\"'", Be("sum", 50500)),
    ("cachestat", "pages 500 $DISK", "::cachestat -C | ::where count >= 500 | ::count", Least("count", 1)),
    ("hardirqs", "&hits blocks 64 $DISK", "::hardirqs -d 4s | ::where count >= 10 | ::count", Least("count", 1)),
    ("softirqtime", "&hits blocks 64 $DISK", "::softirqtime -d 4s | ::where count >= 10 | ::count", Least("count", 1)),
    ("runqlat", "&hits pingpong 1000", "::runqlat -d 4s", Sum(100)),
    ("lockstat", "&hits locks 100 /disk/locked", "::lockstat -d 5s | ::count", Least("count", 1)),
    ("offcpu", "sleeps 100", "::offcpu -C | ::where sum >= 500000000", Stack("stack", &["nanosleep"])),
    ("slabtop", "dentries 1000", "::slabtop -C", Begin(1000, "name", "dentry")),
    ("pagefaults", "touches 1000", "::pagefaults -C | ::where comm == \"hits-touches\"", BeSaid("count", 60)),
    ("brkstack", "brks 1000", "::brkstack -C | ::where count >= 1000", Stack("ustack", &["brk"])),
    ("funcgraph", "writes 100", "::funcgraph vfs_write -m 2 -C", Tree(100, "vfs_write() {", "  rw_verify_area();")),
    ("kmem_record", "dentries 1000", "::kmem_record -c dentry -C", Near("allocations", 1000, 20)),
    ("kmem_record_callers", "dentries 1000",
        "::kmem_record -c dentry -C\\n::walk kmem_log | ::bufctl | ::where op == \"alloc\" | ::group caller", Begin(1000, "caller", "__d_alloc")),
];

/// What is said where types are needed that the kernel does not tell.
const NO_TYPES: &str = "this kernel tells nothing of its types (no BTF)";

/// What a kernel that tells nothing of its types answers beside: arguments are numbers, and what needs types says so.
#[rustfmt::skip]
pub const UNTYPED: &[Question] = &[
    ("untyped_argument", "reads 1000", "::probe k:vfs_read -C | READS | ::sum arg2", Be("sum", 50500)),
    ("untyped_entry_at_return", "reads 1000", "::probe kr:vfs_read -C | READS | ::group 'retval - arg2' | ::count", Group(1000, &[])),
    ("untyped_latency", "reads 1000", "::probe kr:vfs_read -C | ::where 'comm == \"hits-reads\" && arg2 > 50' | ::quantize elapsed", Total(500)),
    ("untyped_raw", "reads 1000", "::probe rt:sys_enter -C | ::where 'comm == \"hits-reads\" && arg1 == 0' | ::count", Be("count", 1000)),
    ("untyped_int", "mounts 60", "::probe kr:count_mounts -C | ::where '(int)retval == -ENOSPC' | ::count", BeSaid("count", 0)),
    ("untyped_hunt", "mounts 60", "::probe kr:*mount* -C | ::where '(int)retval == -ENOSPC && comm == \"hits-mounts\"' | ::group probe | ::count",
        Have(0, "probe", "kr:count_mounts")),
    ("untyped_member", "reads 1000", "::probe k:vfs_read -C | READS | ::group arg0->f_pos", Says(NO_TYPES)),
    ("untyped_struct", "reads 1000", "::probe k:vfs_read -C | READS | ::group '((struct file *)arg0)->f_pos'", Says("no type `struct file *`")),
    ("untyped_text", "mounts 60", "::probe k:vfs_parse_fs_string -C | ::where 'comm == \"hits-mounts\" && str(arg1) == \"source\"' | ::count",
        Be("count", 60)),
];

/// On kernels where something is otherwise: the kernel, the question, what must come of it there.
pub const OTHERWISE: &[(&str, &str, Must)] = &[
    // programs at functions may interrupt themselves before Linux 5.12 (ca06f55b9002)
    ("k510", "fentry", Show("what", "at a kprobe: this kernel lets programs")),
    // locks tell that they are waited for since Linux 5.19 only (16edd9b511a1)
    ("k510", "lockstat", Says("no tracepoint lock:contention_begin")),
    // without types parameters have no names, and programs do not stand at functions
    ("bare612", "kprobe_argument", Says(NO_TYPES)),
    ("bare612", "entry_at_return", Says(NO_TYPES)),
    ("bare612", "nanoseconds", Says(NO_TYPES)),
    ("bare612", "path", Says(NO_TYPES)),
    ("bare612", "dentries", Says(NO_TYPES)),
    ("bare612", "blocks_by_request", Says(NO_TYPES)),
    ("bare612", "slabs", Says(NO_TYPES)),
    ("bare612", "fentry", Says(NO_TYPES)),
    ("bare612", "execsnoop", Says(NO_TYPES)),
    ("bare612", "argdist", Says(NO_TYPES)),
    ("bare612", "argdist_histogram", Says(NO_TYPES)),
    ("bare612", "trace", Says(NO_TYPES)),
    ("bare612", "fileslower", Says("there is no `file` here")),
    ("bare612", "filetop", Says("there is no `file` here")),
    ("bare612", "slabtop", Says(NO_TYPES)),
    ("bare612", "kmem_record", Says(NO_TYPES)),
    ("bare612", "kmem_record_callers", Says(NO_TYPES)),
    ("bare612", "entry_condition", Says("'count' is no column")),
    ("bare612", "negative_numbers", Says("'dfd' is no column")),
    ("bare612", "fentry_without", Show("what", "at a kprobe: the kernel's BTF has no plain prototype")),
    // its compiler made another function of rw_verify_area
    ("bare612", "funcgraph", Tree(100, "vfs_write() {", "  write_null();")),
];

/// What is seen with BPF only, and is said to be.
pub const BY_BPF: &[&str] = &["path", "syscall_text", "blocks_by_request"];

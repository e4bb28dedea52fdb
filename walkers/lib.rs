//! Walkers: kernel structures, their invariants, and the ways to reach every one of them.
//!
//! One file per structure. Each module's `WALKERS` is listed here, and nowhere else.
//!
//! **Invariant:** nothing here formats anything.

pub mod alloc_tag;
pub mod anchors;
pub mod blk;
pub mod blocked;
pub mod bpf;
pub mod buddy;
pub mod bug;
pub mod cgroup;
pub mod clock;
pub mod clocksource;
pub mod code_image;
pub mod completer;
pub mod config;
pub mod container;
pub mod corefile;
pub mod cpu;
pub mod cpu_stack;
pub mod cpumask;
pub mod crash;
pub mod cred;
pub mod dentry;
pub mod device;
pub mod dmesg;
pub mod epoll;
pub mod file;
pub mod flock;
pub mod frame;
pub mod ftrace;
pub mod hrtimer;
pub mod hugetlb;
pub mod image;
pub mod inode;
pub mod inotify;
pub mod ipc;
pub mod irq;
pub mod kfence;
pub mod kmem_debug;
pub mod kmem_log;
pub mod kobject;
pub mod links;
pub mod list;
pub mod list_lru;
pub mod locks;
pub mod lookup;
pub mod maple;
pub mod meminfo;
pub mod memuse;
pub mod mm;
pub mod module;
pub mod mount;
pub mod net;
pub mod notifier;
pub mod ns;
pub mod oom;
pub mod page;
pub mod page_owner;
pub mod page_use;
pub mod pagecache;
pub mod pageinfo;
pub mod param;
pub mod percpu;
pub mod pipe;
pub mod probe;
pub mod process;
pub mod pte;
pub mod rbtree;
pub mod rcu;
pub mod refs;
pub mod regions;
pub mod reports;
pub mod resource;
pub mod rhashtable;
pub mod rq;
pub mod search;
pub mod sieve;
pub mod signal;
pub mod slab;
pub mod spaces;
pub mod special;
pub mod stackdepot;
pub mod static_key;
pub mod super_block;
pub mod swap;
pub mod syscall;
pub mod sysctl;
pub mod system;
pub mod task;
pub mod task_stack;
pub mod timer;
pub mod total;
pub mod typegraph;
pub mod unwind;
pub mod user;
pub mod users;
pub mod ustack;
pub mod vma;
pub mod vmalloc;
pub mod vmstat;
pub mod workqueue;
pub mod xarray;
pub mod zone;

use engine::{DynamicWalkers, ViewEntry, WalkerEntry};

/// Every walker, by family.
#[rustfmt::skip] // one a line: branches that add some do not meet
pub static WALKERS: &[&[WalkerEntry]] = &[
    blk::WALKERS,
    cgroup::WALKERS,
    clocksource::WALKERS,
    container::WALKERS,
    alloc_tag::WALKERS,
    buddy::WALKERS,
    dentry::WALKERS,
    dmesg::WALKERS,
    epoll::WALKERS,
    file::WALKERS,
    flock::WALKERS,
    ftrace::WALKERS,
    inode::WALKERS,
    hugetlb::WALKERS,
    inotify::WALKERS,
    kfence::WALKERS,
    kmem_log::WALKERS,
    kobject::WALKERS,
    list::WALKERS,
    sysctl::WALKERS,
    resource::WALKERS,
    rcu::WALKERS,
    probe::WALKERS,
    notifier::WALKERS,
    device::WALKERS,
    bpf::WALKERS,
    workqueue::WALKERS,
    timer::WALKERS,
    irq::WALKERS,
    hrtimer::WALKERS,
    maple::WALKERS,
    module::WALKERS,
    mount::WALKERS,
    net::WALKERS,
    net::neigh::WALKERS,
    net::netfilter::WALKERS,
    net::route::WALKERS,
    net::skb::WALKERS,
    net::sock::WALKERS,
    net::unix::WALKERS,
    page::WALKERS,
    pagecache::WALKERS,
    percpu::WALKERS,
    pipe::WALKERS,
    rbtree::WALKERS,
    signal::WALKERS,
    rhashtable::WALKERS,
    refs::WALKERS,
    slab::WALKERS,
    static_key::WALKERS,
    super_block::WALKERS,
    swap::WALKERS,
    task::WALKERS,
    typegraph::WALKERS,
    vma::WALKERS,
    vmalloc::WALKERS,
    xarray::WALKERS,
    zone::WALKERS,
];

/// Families of walkers that the target brings along.
pub static DYNAMIC: &[DynamicWalkers] = &[slab::DYNAMIC];

/// Every view, by file: `tests/views.rs` resolves them against the types of every kernel in the corpus.
#[rustfmt::skip]
pub static VIEWS: &[&[ViewEntry]] = &[
    blk::VIEWS,
    cgroup::VIEWS,
    alloc_tag::VIEWS,
    buddy::VIEWS,
    clock::VIEWS,
    corefile::VIEWS,
    cred::VIEWS,
    clocksource::VIEWS,
    container::VIEWS,
    code_image::VIEWS,
    completer::VIEWS,
    blocked::VIEWS,
    bug::VIEWS,
    crash::VIEWS,
    dentry::VIEWS,
    dmesg::VIEWS,
    epoll::VIEWS,
    file::VIEWS,
    flock::VIEWS,
    ftrace::VIEWS,
    ftrace::comm::VIEWS,
    ftrace::ring::VIEWS,
    ftrace::types::VIEWS,
    inode::VIEWS,
    hugetlb::VIEWS,
    inotify::VIEWS,
    kfence::VIEWS,
    kobject::VIEWS,
    sysctl::VIEWS,
    sysctl::HANDLER_VIEWS,
    resource::VIEWS,
    rcu::VIEWS,
    probe::VIEWS,
    param::VIEWS,
    notifier::VIEWS,
    ipc::VIEWS,
    device::VIEWS,
    bpf::VIEWS,
    workqueue::VIEWS,
    timer::VIEWS,
    irq::VIEWS,
    hrtimer::VIEWS,
    list_lru::VIEWS,
    locks::VIEWS,
    meminfo::VIEWS,
    memuse::VIEWS,
    mm::VIEWS,
    module::VIEWS,
    mount::VIEWS,
    pagecache::VIEWS,
    net::VIEWS,
    net::neigh::VIEWS,
    net::netfilter::VIEWS,
    net::route::VIEWS,
    net::skb::VIEWS,
    net::sock::VIEWS,
    net::unix::VIEWS,
    page_use::VIEWS,
    oom::VIEWS,
    page_owner::VIEWS,
    pageinfo::VIEWS,
    percpu::VIEWS,
    pipe::VIEWS,
    process::VIEWS,
    rbtree::VIEWS,
    signal::VIEWS,
    rhashtable::VIEWS,
    rq::VIEWS,
    links::VIEWS,
    refs::VIEWS,
    slab::alias::VIEWS,
    slab::cache::VIEWS,
    slab::free::VIEWS,
    slab::track::VIEWS,
    spaces::VIEWS,
    stackdepot::VIEWS,
    super_block::VIEWS,
    syscall::VIEWS,
    swap::VIEWS,
    system::VIEWS,
    task::VIEWS,
    task_stack::VIEWS,
    unwind::VIEWS,
    unwind::X86_VIEWS,
    unwind::TRAMPOLINE_VIEWS,
    user::VIEWS,
    vma::VIEWS,
    vmalloc::VIEWS,
    vmstat::VIEWS,
    xarray::VIEWS,
    zone::VIEWS,
];

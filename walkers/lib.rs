//! Walkers: kernel structures, their invariants, and the ways to reach every one of them.
//!
//! One file per structure. Each module's `WALKERS` is listed here, and nowhere else.
//!
//! **Invariant:** nothing here formats anything.

pub mod anchors;
pub mod blk;
pub mod cgroup;
pub mod clock;
pub mod corefile;
pub mod cpu;
pub mod cred;
pub mod dentry;
pub mod dmesg;
pub mod epoll;
pub mod file;
pub mod flock;
pub mod frame;
pub mod ftrace;
pub mod image;
pub mod inode;
pub mod kfence;
pub mod kmem_log;
pub mod list;
pub mod list_lru;
pub mod lookup;
pub mod maple;
pub mod mm;
pub mod module;
pub mod mount;
pub mod ns;
pub mod page;
pub mod pagecache;
pub mod percpu;
pub mod pipe;
pub mod process;
pub mod rbtree;
pub mod search;
pub mod signal;
pub mod slab;
pub mod stackdepot;
pub mod super_block;
pub mod syscall;
pub mod system;
pub mod task;
pub mod task_stack;
pub mod unwind;
pub mod user;
pub mod ustack;
pub mod vma;
pub mod xarray;

use engine::{DynamicWalkers, ViewEntry, WalkerEntry};

/// Every walker, by family.
#[rustfmt::skip] // one a line: branches that add some do not meet
pub static WALKERS: &[&[WalkerEntry]] = &[
    blk::WALKERS,
    cgroup::WALKERS,
    dentry::WALKERS,
    dmesg::WALKERS,
    epoll::WALKERS,
    file::WALKERS,
    flock::WALKERS,
    ftrace::WALKERS,
    inode::WALKERS,
    kfence::WALKERS,
    kmem_log::WALKERS,
    list::WALKERS,
    maple::WALKERS,
    module::WALKERS,
    mount::WALKERS,
    page::WALKERS,
    pagecache::WALKERS,
    percpu::WALKERS,
    pipe::WALKERS,
    rbtree::WALKERS,
    signal::WALKERS,
    slab::WALKERS,
    super_block::WALKERS,
    task::WALKERS,
    vma::WALKERS,
    xarray::WALKERS,
];

/// Families of walkers that the target brings along.
pub static DYNAMIC: &[DynamicWalkers] = &[slab::DYNAMIC];

/// Every view, by file: `tests/views.rs` resolves them against the types of every kernel in the corpus.
#[rustfmt::skip]
pub static VIEWS: &[&[ViewEntry]] = &[
    blk::VIEWS,
    cgroup::VIEWS,
    clock::VIEWS,
    corefile::VIEWS,
    cred::VIEWS,
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
    kfence::VIEWS,
    list_lru::VIEWS,
    mm::VIEWS,
    module::VIEWS,
    mount::VIEWS,
    pagecache::VIEWS,
    percpu::VIEWS,
    pipe::VIEWS,
    process::VIEWS,
    rbtree::VIEWS,
    signal::VIEWS,
    slab::alias::VIEWS,
    slab::cache::VIEWS,
    slab::free::VIEWS,
    slab::track::VIEWS,
    stackdepot::VIEWS,
    super_block::VIEWS,
    syscall::VIEWS,
    system::VIEWS,
    task::VIEWS,
    task_stack::VIEWS,
    unwind::VIEWS,
    unwind::X86_VIEWS,
    unwind::TRAMPOLINE_VIEWS,
    user::VIEWS,
    vma::VIEWS,
    xarray::VIEWS,
];

//! Dcmds: answers. One file per family. Each module's `DCMDS` is listed here, and nowhere else.
//!
//! **Invariant:** a dcmd emits rows; it prints nothing and holds no kernel layout of its own.

mod history;
mod member;
#[cfg(test)]
mod tests;
mod words;

pub mod about;
pub mod aggregate;
pub mod args;
pub mod blk;
pub mod blocked;
pub mod bpf;
pub mod buddy;
pub mod bufhist;
pub mod config;
pub mod context;
pub mod cpuinfo;
pub mod cred;
pub mod dentry;
pub mod devices;
pub mod dis;
pub mod dump;
pub mod dumpcheck;
pub mod filter;
pub mod findleaks;
pub mod findlocks;
pub mod funcgraph;
pub mod fuser;
pub mod gcore;
pub mod help;
pub mod hung;
pub mod inode;
pub mod ipcs;
pub mod irqs;
pub mod kernels;
pub mod kgrep;
pub mod kmalog;
pub mod kmausers;
pub mod kmem;
pub mod kmem_debug;
pub mod kmem_log;
pub mod kmem_record;
pub mod kmem_verify;
pub mod kobject;
pub mod locks;
pub mod machine;
pub mod macros;
pub mod mappings;
pub mod memleak;
pub mod memstat;
pub mod modparam;
pub mod modules;
pub mod mounts;
pub mod msgbuf;
pub mod namespaces;
pub mod netdev;
pub mod netfilter;
pub mod netstat;
pub mod nm;
pub mod oom;
pub mod pages;
pub mod panicinfo;
pub mod pfiles;
pub mod pipe;
pub mod print;
pub mod probe;
pub mod probes;
pub mod profile;
pub mod ps;
mod ps_views;
pub mod ptree;
pub mod rcu;
pub mod refs;
pub mod regs;
pub mod resources;
pub mod select;
pub mod settings;
pub mod sig;
pub mod sort;
pub mod stack;
pub mod stacks;
pub mod status;
pub mod swap;
pub mod syscalls;
pub mod sysctl;
pub mod timers;
pub mod tools;
pub mod triage;
pub mod typedef;
pub mod typegraph;
pub mod types;
pub mod ustack;
pub mod vars;
pub mod verify;
pub mod vmas;
pub mod vmem;
pub mod vmstat;
pub mod walk;
pub mod whatis;
pub mod workqueues;
pub mod zones;

use engine::DcmdEntry;

/// Every dcmd, by family.
pub static DCMDS: &[&[DcmdEntry]] = &[
    about::DCMDS,
    aggregate::DCMDS,
    args::DCMDS,
    blk::DCMDS,
    bpf::DCMDS,
    buddy::DCMDS,
    bufhist::DCMDS,
    config::DCMDS,
    context::DCMDS,
    cred::DCMDS,
    blocked::DCMDS,
    cpuinfo::DCMDS,
    dentry::DCMDS,
    devices::DCMDS,
    dis::DCMDS,
    dump::DCMDS,
    filter::DCMDS,
    dumpcheck::DCMDS,
    funcgraph::DCMDS,
    fuser::DCMDS,
    gcore::DCMDS,
    findleaks::DCMDS,
    findlocks::DCMDS,
    help::DCMDS,
    ipcs::DCMDS,
    irqs::DCMDS,
    hung::DCMDS,
    kgrep::DCMDS,
    inode::DCMDS,
    kernels::DCMDS,
    kmalog::DCMDS,
    kmausers::DCMDS,
    kmem::DCMDS,
    kmem_debug::DCMDS,
    kmem_log::DCMDS,
    kmem_record::DCMDS,
    kmem_verify::DCMDS,
    kobject::DCMDS,
    machine::DCMDS,
    locks::DCMDS,
    macros::DCMDS,
    mappings::DCMDS,
    modparam::DCMDS,
    memleak::DCMDS,
    memstat::DCMDS,
    modules::DCMDS,
    mounts::DCMDS,
    msgbuf::DCMDS,
    namespaces::DCMDS,
    netdev::DCMDS,
    netfilter::DCMDS,
    netstat::DCMDS,
    nm::DCMDS,
    pfiles::DCMDS,
    pipe::DCMDS,
    panicinfo::DCMDS,
    oom::DCMDS,
    pages::DCMDS,
    print::DCMDS,
    probes::DCMDS,
    profile::DCMDS,
    probe::DCMDS,
    ps::DCMDS,
    ptree::DCMDS,
    rcu::DCMDS,
    refs::DCMDS,
    regs::DCMDS,
    resources::DCMDS,
    select::DCMDS,
    settings::DCMDS,
    sig::DCMDS,
    sort::DCMDS,
    stack::DCMDS,
    stacks::DCMDS,
    status::DCMDS,
    syscalls::DCMDS,
    sysctl::DCMDS,
    timers::DCMDS,
    triage::DCMDS,
    swap::DCMDS,
    typedef::DCMDS,
    typegraph::DCMDS,
    types::DCMDS,
    ustack::DCMDS,
    vars::DCMDS,
    verify::DCMDS,
    vmas::DCMDS,
    vmem::DCMDS,
    vmstat::DCMDS,
    walk::DCMDS,
    whatis::DCMDS,
    workqueues::DCMDS,
    zones::DCMDS,
];

//! mdb's commands that mean nothing here: each is refused by its name, with the reason and the way to what it was for.
//!
//! ```console
//! > ::bp schedule
//! kmdb: `::bp` is refused: kmdb looks at memory and never stops what it looks at
//! ```

/// Why, and what to do instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// the reason
    pub why: &'static str,
    /// the way to what it was for
    pub instead: &'static str,
}

const STOPS: Refusal = Refusal {
    why: "kmdb looks at memory and never stops what it looks at",
    instead: "a crash dump is the place where a kernel stands still: read on with `::stacks`, `$c`, `::regs`",
};
const RUNS: Refusal = Refusal {
    why: "kmdb neither runs nor steps anything: a dump has no next instruction",
    instead: "`<rip::dis` shows where the CPU was, `$c` how it got there",
};
const WRITES: Refusal = Refusal {
    why: "kmdb never writes: neither to a dump nor to a running kernel",
    instead: "`/X` and `::print` read what is there; `::nmadd` and `>name` keep what you know about it",
};
const MODULES: Refusal = Refusal {
    why: "every command is built in; there are no debugger modules to load",
    instead: "`::dcmds` and `::walkers` list them all; `::source FILE` adds macros of your own",
};
const FLOATS: Refusal = Refusal {
    why: "a kernel dump holds no floating point registers: the kernel itself does not use them",
    instead: "`::regs` shows the general registers",
};
const SIGNALS: Refusal = Refusal {
    why: "signals belong to a process that a debugger runs, and kmdb runs none",
    instead: "`ADDR::print struct task_struct pending blocked` shows those of a task",
};
const PROCESS: Refusal = Refusal {
    why: "kmdb debugs the kernel, not one process",
    instead: "`::ps` lists the processes, `ADDR::context` looks at the memory of one",
};
const LWP: Refusal = Refusal {
    why: "the kernel has tasks, not LWPs",
    instead: "`<thread` is the task that the registers are of: `<thread::print struct task_struct pid`",
};
const MANGLED: Refusal = Refusal {
    why: "the kernel's C names are not mangled, and symbols are shown as its own table has them",
    instead: "`::nm PATTERN` finds a name",
};
const USERLAND: Refusal = Refusal {
    why: "libumem is an allocator of user programs",
    instead: "the kernel's is `::kmastat`, `::kmem_cache`, `::walk kmem`, `::whatis`",
};
const SELF: Refusal =
    Refusal { why: "it looks into mdb itself", instead: "`::status` tells about the target, `::version` about kmdb" };
const SETS: Refusal = Refusal {
    why: "the kernel has no ELF linker sets",
    instead: "its tables lie between symbols: `::nm '^__(start|stop)_'`",
};
const ALGOL: Refusal = Refusal { why: "no algol 68 here", instead: "`$c` is the stack of C functions" };

/// Names without `::`, those of one letter with their sigil.
const REFUSED: &[(&[&str], Refusal)] = &[
    (
        &["bp", "wp", "delete", "events", "evset", "fltbp", "sigbp", "sysbp", "$b", ":a", ":b", ":d", ":p", ":w", ":z"],
        STOPS,
    ),
    (&["cont", "next", "step", "run", "kmdb", ":c", ":e", ":r", ":s", ":S", ":u"], RUNS),
    (&["write", "$W"], WRITES),
    (&["load", "unload"], MODULES),
    (&["fpregs", "$x", "$X", "$y", "$Y"], FLOATS),
    (&["kill", "$i", ":i", ":k", ":t"], SIGNALS),
    (&["attach", "release", "auxv", "psinfo", "gcore", ":A", ":R"], PROCESS),
    (&["$l"], LWP),
    (&["$g", "$G", "demangle"], MANGLED),
    (
        &[
            "umastat",
            "umem_status",
            "umalog",
            "umausers",
            "umem_cache",
            "umem_log",
            "umem_malloc_dist",
            "umem_malloc_info",
            "umem_verify",
            "ugrep",
        ],
        USERLAND,
    ),
    (&["xdata", "$D", "dbmode", "showlmid", "obey"], SELF),
    (&["linkerset"], SETS),
    (&["$a"], ALGOL),
];

/// Why mdb's command of that name is not here, if it is one that cannot be.
pub fn refusal(name: &str) -> Option<Refusal> {
    REFUSED.iter().find(|(names, _)| names.contains(&name)).map(|(_, refusal)| *refusal)
}

/// Every refused name.
pub fn names() -> impl Iterator<Item = &'static str> {
    REFUSED.iter().flat_map(|(names, _)| names.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_refused_once() {
        let mut all: Vec<_> = names().collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
        assert!(refusal(":c").is_some_and(|r| r == RUNS));
        assert_eq!(refusal("print"), None);
    }
}

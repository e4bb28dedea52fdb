//! Variables of a kernel whose kallsyms has only functions (CONFIG_KALLSYMS_ALL is not set).
//!
//! Functions name the variables they use: an instruction holds an address, or a distance to one. So the bytes of a
//! function that is known to use a variable are searched for everything that could be an address of data, and each is
//! looked at. The right one is known by its shape: the list of slab caches is a list, and what is on it looks like slab
//! caches. Where the shape is weak (a number), it must be the only candidate.
//!
//! Static per-CPU variables are all in BTF with their distance from the start of their section, which the functions
//! that use `current` give away; from `init_task` pointers lead to the rest of what the first task is made of.
//!
//! ```console
//! > ::status ! grep symbols
//! symbols   kallsyms, and data found otherwise: 122504
//! > slab_caches::print
//! {
//!     next = 0xffff888102cc2470
//!     prev = 0xffff888100041070
//! }
//! ```

use crate::{list, slab::Cache};
use engine::{
    debuginfo::{Symbol, SymbolKind},
    prelude::*,
    targets::Arch,
};
use std::{collections::BTreeMap, ops::Range};

/// All that can be found.
pub fn find(session: &Session) -> Vec<Symbol> {
    let Ok(layout) = session.target.kernel_layout() else { return Vec::new() };
    let start = session.kernel_symbol("_etext").unwrap_or(layout.image.start);
    let mut search = Search { session, data: start..layout.image.end, found: BTreeMap::new() };
    search.add("_end", layout.image.end, 0, SymbolKind::Other);
    search.told();
    if session.target.arch() == Arch::X86_64 {
        search.first_task();
        search.lists();
        search.numbers();
        search.per_cpu();
    }
    search.found.into_values().collect()
}

/// Functions that use a variable: whichever of them this kernel has.
type Users = &'static [&'static str];

const INIT_TASK: Users = &["show_state_filter", "next_tgid", "walk_process_tree", "mm_update_next_owner", "dump_tasks"];
const SLAB_CACHES: Users = &["slab_start", "slab_next", "find_mergeable", "kmem_cache_release", "s_next"];
const SUPER_BLOCKS: Users = &["iterate_supers", "user_get_super", "sget_fc", "sget", "emergency_remount"];
const MODULES: Users = &["m_start", "find_module_all", "print_modules", "module_kallsyms_lookup_name"];
const TAINTED_MASK: Users = &["get_taint"];
const JIFFIES: Users = &["jiffies_read", "get_jiffies_64"];
const CLOCKSOURCE_JIFFIES: Users = &["clocksource_default_clock"];
const PER_CPU_OFFSET: Users = &["nr_processes", "nr_context_switches", "all_vm_events", "per_cpu_ptr_to_phys"];
const CURRENT: Users = &["schedule", "io_schedule_prepare", "preempt_schedule_irq", "do_exit", "set_current_blocked"];
const ONLINE: Users = &["set_cpu_online"];

/// What hangs on the first task, and must lie in the kernel's image: the variable, and the way to it.
const FIRST_TASK: &[(&str, &[(&str, &str)])] = &[
    ("init_mm", &[("task_struct", "active_mm")]),
    ("init_cred", &[("task_struct", "real_cred")]),
    ("init_fs", &[("task_struct", "fs")]),
    ("init_files", &[("task_struct", "files")]),
    ("init_signals", &[("task_struct", "signal")]),
    ("init_struct_pid", &[("task_struct", "thread_pid")]),
    ("init_css_set", &[("task_struct", "cgroups")]),
    ("init_nsproxy", &[("task_struct", "nsproxy")]),
    ("init_uts_ns", &[("task_struct", "nsproxy"), ("nsproxy", "uts_ns")]),
    ("init_ipc_ns", &[("task_struct", "nsproxy"), ("nsproxy", "ipc_ns")]),
    ("init_pid_ns", &[("task_struct", "nsproxy"), ("nsproxy", "pid_ns_for_children")]),
    ("init_net", &[("task_struct", "nsproxy"), ("nsproxy", "net_ns")]),
    ("init_user_ns", &[("task_struct", "real_cred"), ("cred", "user_ns")]),
];

/// Bytes of a function that are looked at.
const MAX_CODE: u64 = 16 << 10;
/// More CPUs than any kernel is built for.
const MAX_CPUS: u64 = 8192;

struct Search<'a> {
    session: &'a Session,
    /// where data may be
    data: Range<u64>,
    found: BTreeMap<String, Symbol>,
}

impl Search<'_> {
    fn add(&mut self, name: &str, addr: u64, size: u64, kind: SymbolKind) {
        let symbol = Symbol { name: name.to_owned(), addr, size, kind, letter: 'd', module: None };
        self.found.entry(name.to_owned()).or_insert(symbol);
    }

    fn add_data(&mut self, name: &str, addr: u64, size: u64) {
        self.add(name, addr, size, SymbolKind::Data);
    }

    fn size_of(&self, ctype: &str) -> u64 {
        self.session.size_of(ctype).unwrap_or(8)
    }

    /// What VMCOREINFO says.
    fn told(&mut self) {
        let Some(info) = self.session.target.vmcoreinfo() else { return };
        let image = self.session.target.kernel_layout().map_or(0..0, |layout| layout.image);
        let told: Vec<(String, u64)> = info
            .iter()
            .filter_map(|(key, _)| {
                let name = key.strip_prefix("SYMBOL(")?.strip_suffix(')')?;
                // of a pointer to an array it may have the array: that is no symbol's address
                Some((name.to_owned(), info.symbol(name).filter(|addr| image.contains(addr))?))
            })
            .collect();
        for (name, addr) in told {
            self.add_data(&name, addr, 8);
        }
    }

    fn first_task(&mut self) {
        let session = self.session;
        let (Ok(tasks), Ok(comm), Ok(pid)) = (
            session.offset("task_struct", "tasks"),
            session.offset("task_struct", "comm"),
            session.offset("task_struct", "pid"),
        ) else {
            return;
        };
        let is_it = |task: u64| {
            session.cstr(task.wrapping_add(comm), 16).is_ok_and(|name| name.starts_with("swapper"))
                && session.u32(task.wrapping_add(pid)).ok() == Some(0)
        };
        // the loop over all tasks starts and ends at the member that links them
        let tasks = |at: u64| [at, at.wrapping_sub(tasks)];
        let Some(task) = self.users(INIT_TASK).into_iter().flat_map(tasks).find(|task| is_it(*task)) else { return };
        self.add_data("init_task", task, self.size_of("task_struct"));
        for (name, way) in FIRST_TASK {
            let follow = |at: Option<u64>, (ctype, member): &(&str, &str)| {
                session.u64(at?.wrapping_add(session.offset(ctype, member).ok()?)).ok()
            };
            if let Some(addr) = way.iter().fold(Some(task), follow).filter(|addr| self.data.contains(addr)) {
                self.add_data(name, addr, 8);
            }
        }
    }

    /// Heads of lists, known by what is on them.
    fn lists(&mut self) {
        let session = self.session;
        let is_cache = |at| session.view::<Cache>(at).is_ok_and(|c| c.sound() && is_name(c.name()));
        let fs_name = |at: u64| {
            let kind = session.u64(at.wrapping_add(session.offset("super_block", "s_type")?))?;
            session.cstr(session.u64(kind.wrapping_add(session.offset("file_system_type", "name")?))?, 64)
        };
        let is_super = |at| fs_name(at).is_ok_and(|name| is_name(&name));
        let module_name = |at: u64| session.cstr(at.wrapping_add(session.offset("module", "name")?), 56);
        let is_module = |at| module_name(at).is_ok_and(|name| is_name(&name));
        self.list("slab_caches", SLAB_CACHES, ("kmem_cache", "list"), &is_cache);
        self.list("super_blocks", SUPER_BLOCKS, ("super_block", "s_list"), &is_super);
        self.list("modules", MODULES, ("module", "list"), &is_module);
    }

    fn list(&mut self, name: &str, users: Users, (ctype, member): (&str, &str), fits: &dyn Fn(u64) -> bool) {
        /// elements that are looked at
        const ENOUGH: usize = 3;
        let session = self.session;
        let Ok(link) = session.offset(ctype, member) else { return };
        let is_it = |head: &u64| {
            let around = || {
                let (next, prev) = (session.u64(*head)?, session.u64(head.wrapping_add(8))?);
                Ok::<_, Error>(
                    next != *head && session.u64(next.wrapping_add(8))? == *head && session.u64(prev)? == *head,
                )
            };
            let mut seen = 0;
            let mut all = true;
            let mut walked = || {
                list::list(session, *head, link, &mut |at| {
                    seen += 1;
                    all &= fits(at);
                    if seen == ENOUGH || !all { Err(Error::Stop) } else { Ok(()) }
                })
            };
            head.is_multiple_of(8) && around().unwrap_or(false) && matches!(walked(), Ok(()) | Err(Error::Stop)) && all
        };
        if let Some(head) = self.users(users).into_iter().find(is_it) {
            self.add_data(name, head, 16);
        }
    }

    /// Variables that are but a number: the only one that a small function uses.
    fn numbers(&mut self) {
        let session = self.session;
        let only = |users, fits: &dyn Fn(u64) -> bool| {
            let mut fitting = self.users(users).into_iter().filter(|at| at.is_multiple_of(8));
            let mut fitting = fitting.by_ref().filter(|at| session.u64(*at).is_ok_and(fits));
            fitting.next().filter(|_| fitting.next().is_none())
        };
        let tainted = only(TAINTED_MASK, &|value| value < 1 << 32);
        let jiffies = only(JIFFIES, &|value| value > 1 << 16);
        let named = |at: u64| -> Result<String> {
            session.cstr(session.u64(at.wrapping_add(session.offset("clocksource", "name")?))?, 16)
        };
        let source =
            self.users(CLOCKSOURCE_JIFFIES).into_iter().find(|at| named(*at).is_ok_and(|name| name == "jiffies"));
        if let Some(at) = source {
            self.add_data("clocksource_jiffies", at, self.size_of("clocksource"));
        }
        if let Some(at) = tainted {
            self.add_data("tainted_mask", at, 8);
        }
        if let Some(at) = jiffies {
            self.add_data("jiffies", at, 8);
            self.add_data("jiffies_64", at, 8);
        }
    }

    /// The static per-CPU variables and where each CPU's copies are.
    fn per_cpu(&mut self) {
        let session = self.session;
        let Some(btf) = session.types.btf() else { return };
        let variables = btf.variables(".data..percpu");
        let offset = |name: &str| variables.iter().find(|v| v.0 == name).map(|v| v.1);
        // part of `struct pcpu_hot` in Linux 6.2 to 6.14
        let Some(current) = offset("current_task").or_else(|| offset("pcpu_hot")) else { return };
        let Some(own) = offset("this_cpu_off") else { return };
        for start in self.section_starts(current) {
            // each CPU's copy of `this_cpu_off` says how far away its copies are
            let is_one = |word: u64| {
                word != 0 && session.u64(word.wrapping_add(start).wrapping_add(own)).is_ok_and(|own| own == word)
            };
            let word = |table: u64, cpu: u64| session.u64(table.wrapping_add(cpu * 8)).ok();
            let cpus =
                |table: u64| (0..MAX_CPUS).take_while(|cpu| word(table, *cpu).is_some_and(is_one)).count() as u64;
            let tables = self.users(PER_CPU_OFFSET).into_iter().filter(|at| at.is_multiple_of(8));
            let Some((count, table)) = tables.map(|at| (cpus(at), at)).max().filter(|(count, _)| *count > 0) else {
                continue;
            };
            self.add_data("__per_cpu_offset", table, count * 8);
            self.add("__per_cpu_start", start, 0, SymbolKind::Other);
            for (name, offset, size) in &variables {
                self.add(name, start.wrapping_add(*offset), *size, SymbolKind::PerCpu);
            }
            self.online(count);
            return;
        }
    }

    /// Where the section may start: at 0 up to Linux 6.14 (9d7de2aa8b41), at a page of the image since, which most of
    /// the functions that use `current` agree on.
    fn section_starts(&self, current: u64) -> Vec<u64> {
        let image = self.session.target.kernel_layout().map_or(0..0, |layout| layout.image);
        let mut votes: BTreeMap<u64, u32> = BTreeMap::new();
        for name in CURRENT {
            let mut starts: Vec<u64> =
                self.references(name, &image).iter().map(|at| at.wrapping_sub(current)).collect();
            starts.retain(|start| start.is_multiple_of(4096));
            starts.dedup();
            for start in starts {
                *votes.entry(start).or_default() += 1;
            }
        }
        let mut starts: Vec<(u32, u64)> = votes.into_iter().map(|(start, votes)| (votes, start)).collect();
        starts.sort_unstable_by(|a, b| b.cmp(a));
        starts.into_iter().map(|(_, start)| start).chain([0]).collect()
    }

    /// `__cpu_online_mask`: of what `set_cpu_online()` uses the set of CPUs whose number stands beside it.
    fn online(&mut self, cpus: u64) {
        let session = self.session;
        let words: Vec<(u64, u64)> =
            self.users(ONLINE).into_iter().filter_map(|at| Some((at, session.u64(at).ok()?))).collect();
        let known = |word: u64| cpus >= 64 || word >> cpus == 0;
        let counted = |word: u64| words.iter().any(|(_, other)| *other as u32 == word.count_ones());
        let mut masks = words.iter().filter(|(at, w)| at.is_multiple_of(8) && *w & 1 == 1 && known(*w) && counted(*w));
        if let (Some((at, _)), None) = (masks.next(), masks.next()) {
            self.add_data("__cpu_online_mask", *at, cpus.div_ceil(64) * 8);
        }
    }

    /// All that these functions may refer to in the kernel's data.
    fn users(&self, names: Users) -> Vec<u64> {
        let mut all: Vec<u64> = names.iter().flat_map(|name| self.references(name, &self.data)).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Every address in `range` that stands anywhere in a function's bytes: as its lower half, extended by its sign, or
    /// as a distance from the end of the instruction, behind which up to four bytes of another operand may stand.
    fn references(&self, function: &str, range: &Range<u64>) -> Vec<u64> {
        let Some(kernel) = self.session.symbols.kernel() else { return Vec::new() };
        let mut out = Vec::new();
        for symbol in kernel.by_name(function).iter().filter(|s| s.kind == SymbolKind::Text) {
            let Ok(code) = self.session.bytes(symbol.addr, symbol.size.min(MAX_CODE) as usize) else { continue };
            for (at, four) in code.windows(4).enumerate() {
                let number = i64::from(i32::from_le_bytes([four[0], four[1], four[2], four[3]]));
                let behind = symbol.addr.wrapping_add(at as u64 + 4);
                let distances = [0, 1, 4].map(|operand| behind.wrapping_add(operand).wrapping_add_signed(number));
                out.extend(distances.into_iter().chain([number as u64]).filter(|at| range.contains(at)));
            }
        }
        out.sort_unstable();
        out.dedup();
        out
    }
}

/// Whether a string is a name that a programmer would give.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic() || c == ' ')
}

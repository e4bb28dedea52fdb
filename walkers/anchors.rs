//! Variables of a kernel whose kallsyms has only functions (CONFIG_KALLSYMS_ALL is not set).
//!
//! Functions name the variables they use: an instruction holds an address, or a distance to one, or a few of them make
//! one. So the bytes of a function that is known to use a variable are searched for everything that could be an address
//! of data, and each is looked at. The right one is known by its shape: the list of slab caches is a list, and what is
//! on it looks like slab caches. Where the shape is weak (a number), it must be the only candidate. How code holds
//! addresses is all that differs between architectures: `anchors/x86.rs`, `anchors/arm64.rs`.
//!
//! Static per-CPU variables are all in BTF with their distance from the start of their section, which the functions
//! that use some of them give away; from `init_task` pointers lead to the rest of what the first task is made of.
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

mod arm64;
mod memory;
#[cfg(test)]
mod tests;
mod x86;

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
    let decode: Decode = match session.target.arch() {
        Arch::X86_64 => x86::references,
        Arch::Aarch64 => arm64::references,
        _ => |_, _, _| {},
    };
    let mut search = Search { session, decode, data: start..layout.image.end, found: BTreeMap::new() };
    search.add("_end", layout.image.end, 0, SymbolKind::Other);
    search.told();
    search.first_task();
    search.lists();
    search.numbers();
    search.per_cpu();
    search.nodes();
    search.mappings();
    search.found.into_values().collect()
}

/// Visits every address that the bytes of a function, which lie at an address, may refer to.
type Decode = fn(&[u8], u64, &mut dyn FnMut(u64));

/// Functions that use a variable: whichever of them this kernel has.
type Users = &'static [&'static str];

const INIT_TASK: Users = &["show_state_filter", "next_tgid", "walk_process_tree", "mm_update_next_owner", "dump_tasks"];
const SLAB_CACHES: Users = &["slab_start", "slab_next", "find_mergeable", "kmem_cache_release", "s_next"];
const SUPER_BLOCKS: Users = &["iterate_supers", "user_get_super", "sget_fc", "sget", "emergency_remount"];
const MODULES: Users = &["m_start", "find_module_all", "print_modules", "module_kallsyms_lookup_name"];
const TAINTED_MASK: Users = &["get_taint"];
const JIFFIES: Users = &["jiffies_read", "get_jiffies_64"];
const CLOCKSOURCE_JIFFIES: Users = &["clocksource_default_clock"];
const CLOCKSOURCES: Users = &["clocksource_change_rating", "clocksource_resume", "available_clocksource_show"];
const PER_CPU_OFFSET: Users = &["nr_processes", "nr_context_switches", "all_vm_events", "per_cpu_ptr_to_phys"];
const PER_CPU_START: Users = &["per_cpu_ptr_to_phys", "__is_kernel_percpu_address"];
const IDLE_THREADS: Users = &["idle_thread_get"];
const RUNQUEUES: Users = &["nr_context_switches", "nr_running", "nr_iowait_cpu", "idle_cpu", "task_curr"];
const CURRENT: Users = &["schedule", "io_schedule_prepare", "preempt_schedule_irq", "do_exit", "set_current_blocked"];
const ONLINE: Users = &["set_cpu_online"];

/// Static per-CPU variables, and functions that use them.
const PER_CPU: &[(&str, Users)] = &[
    ("current_task", CURRENT),
    // in its place from Linux 6.2 to 6.14
    ("pcpu_hot", CURRENT),
    ("process_counts", &["nr_processes"]),
    ("runqueues", RUNQUEUES),
];

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
    decode: Decode,
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
        let heads = [
            ("slab_caches", self.head(SLAB_CACHES, ("kmem_cache", "list"), &is_cache)),
            ("super_blocks", self.head(SUPER_BLOCKS, ("super_block", "s_list"), &is_super)),
            ("modules", self.head(MODULES, ("module", "list"), &is_module)),
        ];
        for (name, head) in heads {
            head.into_iter().for_each(|head| self.add_data(name, head, 16));
        }
    }

    /// The head of a list.
    fn head(&self, users: Users, (ctype, member): (&str, &str), fits: &dyn Fn(u64) -> bool) -> Option<u64> {
        /// elements that are looked at
        const ENOUGH: usize = 3;
        let session = self.session;
        let link = session.offset(ctype, member).ok()?;
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
        self.users(users).into_iter().find(is_it)
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
        if let Some(at) = self.jiffies_source() {
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

    /// The clock source that counts ticks: the function that gives it away may be freed after boot, the list of all has
    /// it as well.
    fn jiffies_source(&self) -> Option<u64> {
        let session = self.session;
        let name = |at: u64| -> Result<String> {
            session.cstr(session.u64(at.wrapping_add(session.offset("clocksource", "name")?))?, 32)
        };
        let is_it = |at: u64| name(at).is_ok_and(|name| name == "jiffies");
        let named = |at: u64| name(at).is_ok_and(|name| is_name(&name));
        let listed = || {
            let head = self.head(CLOCKSOURCES, ("clocksource", "list"), &named)?;
            let mut found = None;
            let link = session.offset("clocksource", "list").ok()?;
            let walked = list::list(session, head, link, &mut |at| {
                found = is_it(at).then_some(at);
                if found.is_some() { Err(Error::Stop) } else { Ok(()) }
            });
            matches!(walked, Ok(()) | Err(Error::Stop)).then_some(found)?
        };
        self.users(CLOCKSOURCE_JIFFIES).into_iter().find(|at| is_it(*at)).or_else(listed)
    }

    /// The static per-CPU variables and where each CPU's copies are.
    fn per_cpu(&mut self) {
        let session = self.session;
        let Some(btf) = session.types.btf() else { return };
        let variables = btf.variables(".data..percpu");
        if variables.is_empty() {
            return self.per_cpu_untold();
        }
        let offset = |name: &str| variables.iter().find(|v| v.0 == name).map(|v| v.1);
        // x86-64 alone has it; the other's tasks are known by their names
        let (own, idle) = (offset("this_cpu_off"), offset("idle_threads"));
        for start in self.section_starts(&offset) {
            let is_one = |cpu: u64, word: u64| {
                let held = |offset: u64| session.u64(word.wrapping_add(start).wrapping_add(offset)).ok();
                // each CPU's copy of `this_cpu_off` says how far away its copies are
                let is_own = |own| held(own) == Some(word);
                let is_idle = |idle| held(idle).is_some_and(|task| self.is_idle(task, cpu));
                own.map(is_own).or_else(|| idle.map(is_idle)).unwrap_or(false)
            };
            let Some((count, table)) = self.offsets(&is_one) else { continue };
            self.add_data("__per_cpu_offset", table, count * 8);
            self.add("__per_cpu_start", start, 0, SymbolKind::Other);
            for (name, offset, size) in &variables {
                self.add(name, start.wrapping_add(*offset), *size, SymbolKind::PerCpu);
            }
            self.online(count);
            return;
        }
    }

    /// Of a kernel whose BTF has no variables, as those that pahole before 1.22 made (Debian's 5.10): what functions
    /// refer to, if each CPU's copy is what it should be. On x86-64 these variables are no addresses of the image.
    fn per_cpu_untold(&mut self) {
        let session = self.session;
        let held = |at: u64, word: u64| session.u64(at.wrapping_add(word)).ok();
        let is_idle = |at: u64, cpu: u64, word: u64| held(at, word).is_some_and(|task| self.is_idle(task, cpu));
        let idle = self.users(IDLE_THREADS).into_iter().filter(|at| at.is_multiple_of(8));
        let found = idle.filter_map(|at| Some((self.offsets(&|cpu, word| is_idle(at, cpu, word))?, at))).max();
        let Some(((count, table), idle)) = found else { return };
        let member = |name| session.offset("rq", name).ok();
        let is_queues = |at: &u64| {
            let Some((number, idle)) = member("cpu").zip(member("idle")) else { return false };
            (0..count).all(|cpu| {
                let Ok(word) = session.u64(table.wrapping_add(cpu * 8)) else { return false };
                let told = session.u32(at.wrapping_add(word).wrapping_add(number)).ok();
                told.map(u64::from) == Some(cpu) && is_idle(at.wrapping_add(idle), cpu, word)
            })
        };
        let queues = self.users(RUNQUEUES).into_iter().find(is_queues);
        self.add_data("__per_cpu_offset", table, count * 8);
        self.add("idle_threads", idle, 8, SymbolKind::PerCpu);
        if let Some(at) = queues {
            self.add("runqueues", at, self.size_of("rq"), SymbolKind::PerCpu);
        }
        self.online(count);
    }

    /// `__per_cpu_offset[]`, and how many CPUs it has: of all that could be it, what fits most CPUs.
    fn offsets(&self, fits: &dyn Fn(u64, u64) -> bool) -> Option<(u64, u64)> {
        let is_one = |table: u64, cpu: u64| {
            self.session.u64(table.wrapping_add(cpu * 8)).is_ok_and(|word| word != 0 && fits(cpu, word))
        };
        let cpus = |table: u64| (0..MAX_CPUS).take_while(|cpu| is_one(table, *cpu)).count() as u64;
        let tables = self.users(PER_CPU_OFFSET).into_iter().filter(|at| at.is_multiple_of(8));
        tables.map(|at| (cpus(at), at)).max().filter(|(count, _)| *count > 0)
    }

    /// Whether this is the task that a CPU runs when there is nothing to do.
    fn is_idle(&self, task: u64, cpu: u64) -> bool {
        let session = self.session;
        let member = |name: &str| session.offset("task_struct", name).map(|offset| task.wrapping_add(offset));
        let named =
            member("comm").and_then(|at| session.cstr(at, 16)).is_ok_and(|name| name == format!("swapper/{cpu}"));
        named && member("pid").and_then(|at| session.u32(at)).is_ok_and(|pid| pid == 0)
    }

    /// Where the section may start: at 0 on x86-64 up to Linux 6.14 (9d7de2aa8b41), else at a page of the image, which
    /// most of the functions that use per-CPU variables agree on.
    fn section_starts(&self, offset: &dyn Fn(&str) -> Option<u64>) -> Vec<u64> {
        let image = self.session.target.kernel_layout().map_or(0..0, |layout| layout.image);
        let mut votes: BTreeMap<u64, u32> = BTreeMap::new();
        let used = PER_CPU.iter().filter_map(|(name, users)| Some((offset(name)?, *users))).chain([(0, PER_CPU_START)]);
        for (offset, name) in used.flat_map(|(offset, users)| users.iter().map(move |name| (offset, name))) {
            let mut starts: Vec<u64> = self.references(name, &image).iter().map(|at| at.wrapping_sub(offset)).collect();
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

    /// Every address in `range` that a function may refer to.
    fn references(&self, function: &str, range: &Range<u64>) -> Vec<u64> {
        let Some(kernel) = self.session.symbols.kernel() else { return Vec::new() };
        let mut out = Vec::new();
        for symbol in kernel.by_name(function).iter().filter(|s| s.kind == SymbolKind::Text) {
            let Ok(code) = self.session.bytes(symbol.addr, symbol.size.min(MAX_CODE) as usize) else { continue };
            (self.decode)(&code, symbol.addr, &mut |at| out.extend(range.contains(&at).then_some(at)));
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

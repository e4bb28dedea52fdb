//! RCU (kernel/rcu/tree.c): which grace period runs, since when, and whom it waits for; what waits for it.
//!
//! `rcu_state` is one for all CPUs, with a tree of `struct rcu_node` whose leaves have a bit for each CPU that the grace
//! period still waits for (`qsmask`); each CPU has a `struct rcu_data` with its callbacks.
//!
//! Numbers of grace periods have two bits of state at their end (`RCU_SEQ_STATE_MASK`): not 0 while one runs.
//!
//! ```console
//! > rcu_state::print struct rcu_state gp_seq gp_state
//! gp_seq = 0xea8
//! gp_state = 0x1
//! ```

use crate::{list, percpu::Percpu};
use engine::{ViewEntry, prelude::*};

/// `struct rcu_state`.
#[derive(View, Clone, Debug)]
#[ctype("rcu_state")]
pub struct State {
    /// its address
    #[addr]
    pub addr: u64,
    /// number of the grace period, and its state in the two lowest bits
    pub gp_seq: u64,
    /// what the thread does that drives it: `RCU_GP_…`
    pub gp_state: i32,
    /// its task
    pub gp_kthread: u64,
    /// the tick at which the grace period began
    pub gp_start: u64,
    /// the tick at which the thread last did something
    pub gp_activity: u64,
    /// the tick at which the grace period becomes a stall
    pub jiffies_stall: u64,
    /// how often CPUs were urged
    pub n_force_qs: u64,
    /// number of the last expedited grace period, likewise
    pub expedited_sequence: u64,
}

impl State {
    /// The session's.
    pub fn of(session: &Session) -> Result<State> {
        session.view(session.symbol("rcu_state")?)
    }

    /// Whether a grace period runs.
    pub fn running(&self) -> bool {
        self.gp_seq & 3 != 0
    }

    /// Whether one runs for so long that the kernel complains, or has: `rcu_cpu_stall_timeout` is in seconds.
    pub fn stalled(&self, session: &Session, jiffies: u64, hz: u64) -> bool {
        let timeout = session.kernel_symbol("rcu_cpu_stall_timeout").and_then(|at| session.u32(at).ok());
        let old = timeout.is_some_and(|s| jiffies.wrapping_sub(self.gp_start) as i64 >= (u64::from(s) * hz) as i64);
        self.running() && (old || jiffies.wrapping_sub(self.jiffies_stall) as i64 >= 0)
    }

    /// Whether an expedited one runs.
    pub fn expediting(&self) -> bool {
        self.expedited_sequence & 3 != 0
    }
}

/// `RCU_GP_…` (kernel/rcu/tree.h).
pub const STATES: &[&str] =
    &["idle", "wait_gps", "done_gps", "onoff", "init", "wait_fqs", "doing_fqs", "cleanup", "cleaned"];

/// A node of the tree: `struct rcu_node`.
#[derive(View, Clone, Debug)]
#[ctype("rcu_node")]
pub struct Node {
    /// its address
    #[addr]
    pub addr: u64,
    /// the CPUs, or the nodes below, that the grace period waits for, counted from `first`
    pub qsmask: u64,
    /// likewise the expedited one
    pub expmask: u64,
    /// first CPU of it
    #[field("grplo")]
    pub first: i32,
    /// last CPU of it
    #[field("grphi")]
    pub last: i32,
    /// how deep it is
    pub level: u8,
    blkd_tasks: At,
    gp_tasks: u64,
    exp_tasks: u64,
}

/// Nodes that any kernel has: one for each 16 of 8192 CPUs, and those above.
const MAX_NODES: u64 = 4096;

/// The leaves of the tree.
pub fn leaves(session: &Session) -> Result<Vec<Node>> {
    let state = session.symbol("rcu_state")?;
    let first = state.wrapping_add(session.offset("rcu_state", "node")?);
    let (size, total) =
        (session.size_of("rcu_node")?.max(1), session.place("rcu_state", "node").map_or(0, |f| f.bits / 8));
    let used = match session.kernel_symbol("rcu_num_nodes") {
        Some(at) => u64::from(session.u32(at)?),
        None => total / size,
    };
    let count = used.min(total / size).min(MAX_NODES);
    let nodes: Vec<Node> = (0..count).map(|i| session.view(first.wrapping_add(i * size))).collect::<Result<_>>()?;
    let deepest = nodes.iter().map(|node| node.level).max().unwrap_or(0);
    Ok(nodes.into_iter().filter(|node| node.level == deepest).collect())
}

impl Node {
    /// The CPUs that a mask has.
    pub fn cpus(&self, mask: u64) -> Vec<u32> {
        let first = self.first.max(0) as u32;
        (0..64).filter(|bit| mask >> bit & 1 == 1).map(|bit| first + bit).collect()
    }

    /// The tasks that were preempted while they read, and whether the grace period waits for each: those from `gp_tasks` on
    /// to the end of the list.
    pub fn readers(&self, session: &Session) -> Result<Vec<(u64, bool)>> {
        let link = session.offset("task_struct", "rcu_node_entry");
        // a kernel that is not preemptible has no such list
        let Ok(link) = link else { return Ok(Vec::new()) };
        let (mut found, mut waits) = (Vec::new(), false);
        list::list(session, self.blkd_tasks.0, 0, &mut |entry| {
            waits |= entry == self.gp_tasks || entry == self.exp_tasks;
            found.push((entry.wrapping_sub(link), waits));
            Ok(())
        })?;
        Ok(found)
    }
}

/// What a CPU knows of RCU: `struct rcu_data`.
#[derive(View, Clone, Debug)]
#[ctype("rcu_data")]
pub struct Data {
    /// its address
    #[addr]
    pub addr: u64,
    /// the grace period that it has heard of
    pub gp_seq: u64,
    /// the furthest one that its callbacks need
    pub gp_seq_needed: u64,
    /// whether the grace period waits for it, and it knows
    pub core_needs_qs: bool,
    /// ticks since it has heard of a grace period and not been quiet
    pub ticks_this_gp: u64,
    /// callbacks that wait
    #[field("cblist.len")]
    pub callbacks: i64,
    /// callbacks that were called
    #[field("n_cbs_invoked")]
    pub invoked: Option<u64>,
    cblist: At,
}

impl Data {
    /// Visits the callbacks that wait: `struct callback_head`.
    pub fn each(&self, session: &Session, visit: Visit<'_>) -> Result<()> {
        let first = session.u64(self.cblist.0.wrapping_add(session.offset("rcu_segcblist", "head")?))?;
        list::chain(session, first, session.offset("callback_head", "next")?, visit)
    }
}

/// What every CPU knows.
pub fn data(session: &Session) -> Result<Vec<(u32, Data)>> {
    let symbol = session.symbol("rcu_data")?;
    let mut found = Vec::new();
    for (cpu, at) in Percpu::of(session)?.copies(symbol) {
        match session.view(at) {
            Ok(data) => found.push((cpu, data)),
            Err(e) if e.is_control() => return Err(e),
            Err(e) => session.notes.add(at, format!("rcu_data: {}", e.kind())),
        }
    }
    Ok(found)
}

/// What softirqs have done and have to do.
#[derive(Clone, Debug)]
pub struct Softirq {
    /// `NET_RX`
    pub name: String,
    /// what is called
    pub action: u64,
    /// how often it was, for each CPU
    pub counts: Vec<u64>,
    /// the CPUs where it has to be
    pub pending: Vec<u32>,
}

/// The softirqs, by number (kernel/softirq.c).
pub fn softirqs(session: &Session) -> Result<Vec<Softirq>> {
    /// `NR_SOFTIRQS`
    const COUNT: u64 = 10;
    let percpu = Percpu::of(session)?;
    let (names, vector) = (session.symbol("softirq_to_name")?, session.symbol("softirq_vec")?);
    let counts = session.symbol("kstat")?.wrapping_add(session.offset("kernel_stat", "softirqs")?);
    // `irq_stat` has the pending ones, on x86-64 a variable of its own since Linux 6.15
    let stat = session.kernel_symbol("__softirq_pending").or_else(|| {
        let ctype = session.ctype("irq_cpustat_t").ok()?;
        let field = session.field(ctype, "__softirq_pending")?;
        Some(session.kernel_symbol("irq_stat")?.wrapping_add(field.bit_offset / 8))
    });
    let size = session.size_of("softirq_action")?;
    let mut found = Vec::new();
    for i in 0..COUNT {
        let name = session.cstr(session.u64(names.wrapping_add(i * 8))?, 32)?;
        let count = |(_, at): (u32, u64)| Ok(u64::from(session.u32(at.wrapping_add(i * 4))?));
        let mut pending = Vec::new();
        for (cpu, at) in stat.map(|stat| percpu.copies(stat).collect::<Vec<_>>()).unwrap_or_default() {
            if session.u16(at)? >> i & 1 == 1 {
                pending.push(cpu);
            }
        }
        found.push(Softirq {
            name,
            action: session.u64(vector.wrapping_add(i * size))?,
            counts: percpu.copies(counts).map(count).collect::<Result<_>>()?,
            pending,
        });
    }
    Ok(found)
}

/// Walks callbacks.
pub static WALKERS: &[WalkerEntry] = &[WalkerEntry {
    name: "rcu_callback",
    doc: "walk the callbacks that wait for a grace period, of all CPUs or of the struct rcu_data at the address",
    item: "struct callback_head",
    address: Address::Optional,
    walk: |cx, at, visit| match at {
        Some(at) => cx.view::<Data>(at.addr)?.each(cx, visit),
        None => data(cx)?.into_iter().try_for_each(|(_, data)| data.each(cx, &mut *visit)),
    },
}];

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<State>(), ViewEntry::of::<Node>(), ViewEntry::of::<Data>()];

//! What the kernel's handlers of settings make of a variable when it is read: `proc_handler`s by name.
//!
//! Most only do something more when a value is written, and read as a number does. Some show another variable than the
//! one that the setting names, or make a text of it. What is not here stays [`Value::Other`].

use super::{Setting, Value};
use crate::{container, hugetlb, list, percpu::Percpu};
use engine::{ViewEntry, prelude::*};

/// Those that read as `proc_dointvec()` or `proc_doulongvec_minmax()` does, by the size of the variable.
const PLAIN: &[&str] = &[
    "bpf_unpriv_handler",
    "compaction_proactiveness_sysctl_handler",
    "devinet_conf_proc",
    "devinet_sysctl_forward",
    "dirty_background_bytes_handler",
    "dirty_background_ratio_handler",
    "dirty_bytes_handler",
    "dirty_ratio_handler",
    "dirty_writeback_centisecs_handler",
    "dirtytime_interval_handler",
    "emulation_proc_handler",
    "flow_limit_table_len_sysctl",
    "ftrace_enable_sysctl",
    "ipv4_doint_and_flush",
    "ipv4_fwd_update_priority",
    "ipv4_privileged_ports",
    "lowmem_reserve_ratio_sysctl_handler",
    "min_free_kbytes_sysctl_handler",
    "mmap_min_addr_handler",
    "overcommit_kbytes_handler",
    "overcommit_policy_handler",
    "overcommit_ratio_handler",
    "percpu_pagelist_fraction_sysctl_handler",
    "percpu_pagelist_high_fraction_sysctl_handler",
    "perf_cpu_time_max_percent_handler",
    "perf_event_max_sample_rate_handler",
    "perf_event_max_stack_handler",
    "perf_proc_update_handler",
    "proc_blackhole_detect_timeout",
    "proc_do_dev_weight",
    "proc_do_rointvec",
    "proc_do_skb_defer_max",
    "proc_dohung_task_timeout_secs",
    "proc_dolongvec_minmax_bpf_restricted",
    "proc_dopipe_max_size",
    "proc_fib_multipath_hash_fields",
    "proc_fib_multipath_hash_policy",
    "proc_pm_type",
    "proc_rt6_multipath_hash_fields",
    "proc_rt6_multipath_hash_policy",
    "proc_tfo_blackhole_detect_timeout",
    "proc_watchdog_thresh",
    "sched_energy_aware_handler",
    "sched_proc_update_handler",
    "sched_rr_handler",
    "sched_rt_handler",
    "stack_trace_sysctl",
    "sysctl_min_slab_ratio_sysctl_handler",
    "sysctl_min_unmapped_ratio_sysctl_handler",
    "sysctl_panic_print_handler",
    "sysctl_sched_uclamp_handler",
    "sysctl_vm_numa_stat_handler",
    "timer_migration_handler",
    "tracepoint_printk_sysctl",
    "watermark_scale_factor_sysctl_handler",
    "armv8pmu_proc_user_access_handler",
    "proc_kprobes_optimization_handler",
];
/// What all begin with that write a setting of IPv6 on a device.
const PLAIN_START: &str = "addrconf_sysctl_";

/// Those that show whether a static key is on, and the key's variable.
const KEYS: &[(&str, &str)] = &[
    ("bpf_stats_handler", "bpf_stats_enabled_key"),
    ("nf_hooks_lwtunnel_sysctl_handler", "nf_hooks_lwtunnel_enabled"),
    ("sysctl_delayacct", "delayacct_key"),
    ("sysctl_schedstats", "sched_schedstats"),
];
/// Those that show another variable, of four bytes or eight; without a name always 0.
const VARIABLES: &[(&str, &str)] =
    &[("sysctl_max_threads", "max_threads"), ("proc_taint", "tainted_mask"), ("proc_ipc_auto_msgmni", "")];

/// Bits of `watchdog_enabled`: of hard lockups, of soft ones (include/linux/nmi.h).
const WATCHDOGS: &[(&str, u64)] = &[("proc_nmi_watchdog", 1), ("proc_soft_watchdog", 2), ("proc_watchdog", 3)];
/// `SECCOMP_LOG_…`, and the bit of each, in the order in which they are told (kernel/seccomp.c).
const SECCOMP: &[(&str, u32)] = &[
    ("kill_process", 0),
    ("kill_thread", 1),
    ("trap", 2),
    ("errno", 3),
    ("user_notif", 7),
    ("trace", 4),
    ("log", 5),
    ("allow", 6),
];
/// `TCP_CONG_NON_RESTRICTED` (include/net/tcp.h).
const NON_RESTRICTED: u32 = 1;
/// Longest name of a discipline, of a protocol's helper, of a logger.
const MAX_NAME: usize = 64;

/// The ways of congestion control: `struct tcp_congestion_ops` (include/net/tcp.h).
#[derive(View)]
#[ctype("tcp_congestion_ops")]
struct Congestion {
    name: String,
    flags: u32,
}

/// What `name`, the handler of `setting`, shows; none if it is not known here.
pub(super) fn value(session: &Session, setting: &Setting, name: &str, hz: u64) -> Result<Option<Value>> {
    if PLAIN.contains(&name) || name.starts_with(PLAIN_START) {
        return plain(session, setting);
    }
    if let Some((_, key)) = KEYS.iter().find(|(handler, _)| *handler == name) {
        return key_is_on(session, session.kernel_symbol(key));
    }
    if let Some((_, bits)) = WATCHDOGS.iter().find(|(handler, _)| *handler == name) {
        let Some(at) = session.kernel_symbol("watchdog_enabled") else { return Ok(None) };
        return Ok(Some(Value::Uints(vec![u64::from(session.u64(at)? & bits != 0)])));
    }
    if let Some((_, variable)) = VARIABLES.iter().find(|(handler, _)| *handler == name) {
        return another(session, variable);
    }
    match name {
        "neigh_proc_base_reachable_time" | "ndisc_ifinfo_sysctl_change" => neighbour(session, setting, hz).map(Some),
        _ if name.contains("unres_qlen") => packets(session, setting),
        "proc_do_static_key" => key_is_on(session, (setting.data != 0).then_some(setting.data)),
        "devkmsg_sysctl_set_loglvl" if setting.data != 0 => {
            Ok(Some(Value::Text(session.cstr(setting.data, setting.maxlen.max(0) as usize)?)))
        }
        "ipv4_local_port_range" => ports(session, setting),
        "ipv4_ping_group_range" => Ok(Some(Value::Uints(setting.words(session, 4)?))),
        "proc_do_large_bitmap" | "proc_watchdog_cpumask" => bitmap(session, setting),
        "proc_cap_handler" => capabilities(session, setting),
        "sysrq_sysctl_handler" => sysrq(session),
        "pid_ns_ctl_handler" => last_pid(session),
        "proc_do_cad_pid" => first_pid(session),
        "proc_nr_files" | "proc_nr_dentry" | "proc_nr_inodes" => counted(session, name, setting),
        "hugetlb_sysctl_handler" | "hugetlb_mempolicy_sysctl_handler" | "hugetlb_overcommit_handler" => {
            huge(session, name)
        }
        "proc_tcp_congestion_control" | "set_default_qdisc" | "nf_log_proc_dostring" => named(session, name, setting),
        "proc_tcp_available_congestion_control" => congestion(session, |_| true),
        "proc_allowed_congestion_control" => congestion(session, |way| way.flags & NON_RESTRICTED != 0),
        "seccomp_actions_logged_handler" => seccomp(session),
        // there is one order only since Linux 4.14 (c9bff3eebc09)
        "numa_zonelist_order_handler" => Ok(Some(Value::Text("Node".into()))),
        _ => Ok(None),
    }
}

fn one(number: u64) -> Option<Value> {
    Some(Value::Uints(vec![number]))
}

/// Numbers of four bytes with a sign, or of eight without.
fn plain(session: &Session, setting: &Setting) -> Result<Option<Value>> {
    if setting.data == 0 {
        return Ok(None);
    }
    Ok(match setting.maxlen {
        1 => one(session.u8(setting.data)?.into()),
        8 => one(session.u64(setting.data)?),
        length if length > 0 && length % 4 == 0 => Some(Value::Ints(setting.ints(session)?)),
        _ => None,
    })
}

fn key_is_on(session: &Session, key: Option<u64>) -> Result<Option<Value>> {
    let Some(key) = key else { return Ok(None) };
    Ok(one(u64::from(session.u32(key)? as i32 > 0)))
}

fn another(session: &Session, variable: &str) -> Result<Option<Value>> {
    if variable.is_empty() {
        return Ok(one(0));
    }
    let Some(symbol) = session.symbols.kernel().and_then(|kernel| kernel.by_name(variable).into_iter().next()) else {
        return Ok(None);
    };
    let size = session.type_of_global(variable).and_then(|t| session.types.size_of(t)).unwrap_or(symbol.size);
    Ok(one(session.uint(symbol.addr, if size == 8 { 8 } else { 4 })?))
}

/// Times that two settings have one variable for, the second in milliseconds; the number of tries has no unit.
fn neighbour(session: &Session, setting: &Setting, hz: u64) -> Result<Value> {
    let name = setting.name(session)?;
    match name.as_str() {
        "base_reachable_time" => setting.scaled(session, 1, hz),
        _ if name.ends_with("_ms") => setting.scaled(session, 1000, hz),
        _ => Ok(Value::Ints(setting.ints(session)?)),
    }
}

/// Bytes that unresolved neighbours' packets may take, in packets of an Ethernet frame: `SKB_TRUESIZE(ETH_FRAME_LEN)`.
fn packets(session: &Session, setting: &Setting) -> Result<Option<Value>> {
    const FRAME: u64 = 1514;
    const LINE: u64 = 64; // SMP_CACHE_BYTES of both architectures
    let room = |name: &str| Ok::<_, Error>(session.size_of(name)?.next_multiple_of(LINE));
    let size = FRAME + room("sk_buff")? + room("skb_shared_info")?;
    Ok(if setting.data == 0 { None } else { one(u64::from(session.u32(setting.data)?) / size) })
}

/// Two numbers; halves of one word since Linux 6.8 (d9f28735af87).
fn ports(session: &Session, setting: &Setting) -> Result<Option<Value>> {
    let Some(field) = session.place("net", "ipv4.ip_local_ports.range") else { return Ok(None) };
    let at = session.symbol("init_net")?.wrapping_add(field.bit_offset / 8);
    if field.bits == 32 {
        let both = session.u32(at)?;
        return Ok(Some(Value::Uints(vec![(both & 0xffff).into(), (both >> 16).into()])));
    }
    if setting.maxlen != 8 { Ok(None) } else { Ok(Some(Value::Uints(setting.words(session, 4)?))) }
}

/// The setting leads to a pointer to a bitmap, of `maxlen` bits.
fn bitmap(session: &Session, setting: &Setting) -> Result<Option<Value>> {
    let (true, Ok(bits)) = (setting.data != 0, u64::try_from(setting.maxlen)) else { return Ok(None) };
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    let at = session.u64(setting.data)?;
    if at != 0 {
        session.bytes(at, bits.div_ceil(64) as usize * 8)?;
        container::bitmap(session, at, bits, &mut |bit| {
            match ranges.last_mut().filter(|(_, last)| *last + 1 == bit) {
                Some((_, last)) => *last = bit,
                None => ranges.push((bit, bit)),
            }
            Ok(())
        })?;
    }
    Ok(Some(Value::Ranges(ranges)))
}

/// 64 capabilities, the lower half first.
fn capabilities(session: &Session, setting: &Setting) -> Result<Option<Value>> {
    let variable = match setting.name(session)?.as_str() {
        "bset" => "usermodehelper_bset",
        "inheritable" => "usermodehelper_inheritable",
        _ => return Ok(None),
    };
    let Some(at) = session.kernel_symbol(variable) else { return Ok(None) };
    Ok(Some(Value::Uints(vec![session.u32(at)?.into(), session.u32(at.wrapping_add(4))?.into()])))
}

/// `sysrq_mask()` (drivers/tty/sysrq.c).
fn sysrq(session: &Session) -> Result<Option<Value>> {
    let variable = |name: &str| session.kernel_symbol(name).map(|at| session.u32(at)).transpose();
    if variable("sysrq_always_enabled")?.is_some_and(|always| always & 0xff != 0) {
        return Ok(one(1));
    }
    Ok(variable("sysrq_enabled")?.map(|mask| Value::Ints(vec![(mask as i32).into()])))
}

fn last_pid(session: &Session) -> Result<Option<Value>> {
    let Some(namespace) = session.kernel_symbol("init_pid_ns") else { return Ok(None) };
    let next = session.u32(namespace.wrapping_add(session.offset("pid_namespace", "idr.idr_next")?))?;
    Ok(Some(Value::Ints(vec![i64::from(next as i32) - 1])))
}

fn first_pid(session: &Session) -> Result<Option<Value>> {
    let Some(at) = session.kernel_symbol("cad_pid") else { return Ok(None) };
    let pid = session.u64(at)?;
    Ok(one(session.u32(pid.wrapping_add(session.offset("pid", "numbers")?))?.into()))
}

/// What CPUs count each for themselves, and what is in the variable behind.
fn counted(session: &Session, handler: &str, setting: &Setting) -> Result<Option<Value>> {
    let sum = |name: &str| -> Result<Option<i64>> {
        let Some(at) = session.kernel_symbol(name) else { return Ok(None) };
        let percpu = Percpu::of(session)?;
        let mut sum = 0_i64;
        for (_, at) in percpu.copies(at) {
            sum = sum.wrapping_add(session.u64(at)? as i64);
        }
        Ok(Some(sum.max(0)))
    };
    if setting.data == 0 {
        return Ok(None);
    }
    let mut numbers: Vec<i64> = setting.words(session, 8)?.into_iter().map(|word| word as i64).collect();
    let made: Vec<(usize, Option<i64>)> = match handler {
        "proc_nr_files" => {
            let counter = session.kernel_symbol("nr_files");
            let count = session.offset("percpu_counter", "count")?;
            let read = counter.map(|at| session.u64(at.wrapping_add(count))).transpose()?;
            vec![(0, read.map(|count| (count as i64).max(0)))]
        }
        "proc_nr_dentry" => {
            vec![(0, sum("nr_dentry")?), (1, sum("nr_dentry_unused")?), (4, sum("nr_dentry_negative")?)]
        }
        _ => vec![(0, sum("nr_inodes")?), (1, sum("nr_unused")?)],
    };
    for (index, number) in made {
        let (Some(place), Some(number)) = (numbers.get_mut(index), number) else { return Ok(None) };
        *place = number;
    }
    Ok(Some(Value::Ints(numbers)))
}

fn huge(session: &Session, handler: &str) -> Result<Option<Value>> {
    let Some(pool) = hugetlb::default(session)? else { return Ok(None) };
    let wanted = || session.u64(pool.addr.wrapping_add(session.offset("hstate", "max_huge_pages")?));
    Ok(one(if handler.contains("overcommit") { pool.overcommit } else { wanted()? }))
}

/// The name of what a pointer leads to.
fn named(session: &Session, handler: &str, setting: &Setting) -> Result<Option<Value>> {
    match handler {
        "set_default_qdisc" => {
            let Some(at) = session.kernel_symbol("default_qdisc_ops") else { return Ok(None) };
            let id = session.u64(at)?.wrapping_add(session.offset("Qdisc_ops", "id")?);
            Ok(Some(Value::Text(session.cstr(id, MAX_NAME)?)))
        }
        "proc_tcp_congestion_control" => {
            let at = session.symbol("init_net")?.wrapping_add(session.offset("net", "ipv4.tcp_congestion_control")?);
            let way = session.u64(at)?;
            if way == 0 { Ok(None) } else { Ok(Some(Value::Text(session.view::<Congestion>(way)?.name))) }
        }
        _ => logger(session, setting),
    }
}

/// Who logs the packets of a protocol family, which is the setting's name.
fn logger(session: &Session, setting: &Setting) -> Result<Option<Value>> {
    let Some(field) = session.place("net", "nf.nf_loggers") else { return Ok(None) };
    let Ok(family) = setting.name(session)?.parse::<u64>() else { return Ok(None) };
    if family >= field.bits / 64 {
        return Ok(None);
    }
    let at = session.symbol("init_net")?.wrapping_add(field.bit_offset / 8).wrapping_add(family * 8);
    Ok(Some(Value::Text(match session.u64(at)? {
        0 => "NONE".into(),
        logger => session.cstr(session.u64(logger.wrapping_add(session.offset("nf_logger", "name")?))?, MAX_NAME)?,
    })))
}

fn congestion(session: &Session, wanted: impl Fn(&Congestion) -> bool) -> Result<Option<Value>> {
    let Some(head) = session.kernel_symbol("tcp_cong_list") else { return Ok(None) };
    let mut names = Vec::new();
    list::list(session, head, session.offset("tcp_congestion_ops", "list")?, &mut |at| {
        let way: Congestion = session.view(at)?;
        if wanted(&way) {
            names.push(way.name);
        }
        Ok(())
    })?;
    Ok(Some(Value::Words(names)))
}

fn seccomp(session: &Session) -> Result<Option<Value>> {
    let Some(at) = session.kernel_symbol("seccomp_actions_logged") else { return Ok(None) };
    let mask = session.u32(at)?;
    let names = SECCOMP.iter().filter(|(_, bit)| mask >> bit & 1 == 1);
    Ok(Some(Value::Words(names.map(|(name, _)| (*name).to_owned()).collect())))
}

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Congestion>()];

//! What a task may do: `struct cred` (include/linux/cred.h), its users, groups and capabilities.
//!
//! ```console
//! > init_task::print cred | ::print struct cred euid cap_effective
//! euid = {
//!     val = 0
//! }
//! cap_effective = {
//!     val = 0x1ffffffffff
//! }
//! ```

use engine::{ViewEntry, prelude::*};

/// Credentials.
#[derive(View, Clone, Debug)]
#[ctype("cred")]
pub struct Cred {
    /// its address
    #[addr]
    pub addr: u64,
    /// real user
    #[field("uid.val")]
    pub uid: u32,
    /// real group
    #[field("gid.val")]
    pub gid: u32,
    /// saved user
    #[field("suid.val")]
    pub suid: u32,
    /// saved group
    #[field("sgid.val")]
    pub sgid: u32,
    /// user it acts as
    #[field("euid.val")]
    pub euid: u32,
    /// group it acts as
    #[field("egid.val")]
    pub egid: u32,
    /// user it opens files as
    #[field("fsuid.val")]
    pub fsuid: u32,
    /// group it opens files as
    #[field("fsgid.val")]
    pub fsgid: u32,
    /// `SECBIT_…`
    pub securebits: u32,
    cap_inheritable: At,
    cap_permitted: At,
    cap_effective: At,
    cap_bset: At,
    cap_ambient: At,
    /// its `struct user_namespace`
    pub user_ns: u64,
    group_info: u64,
}

/// The sets of capabilities, in the order of /proc/PID/status.
pub const SETS: [&str; 5] = ["inheritable", "permitted", "effective", "bounding", "ambient"];

/// Capabilities by number, without `CAP_` (include/uapi/linux/capability.h): an ABI, which only grows.
const CAPABILITIES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];
/// Groups that a process can be in (`NGROUPS_MAX`).
const MAX_GROUPS: u32 = 65536;

impl Cred {
    /// The credentials that a task acts with.
    pub fn of_task(session: &Session, task: u64) -> Result<Cred> {
        session.view(session.u64(task.wrapping_add(session.offset("task_struct", "cred")?))?)
    }

    /// Its capabilities, as [`SETS`] orders them: bit N is capability N. 64 bits whether the kernel has them as one
    /// number (since Linux 6.3, f122a08b197d) or two.
    pub fn capabilities(&self, session: &Session) -> Result<[u64; 5]> {
        let at = [self.cap_inheritable, self.cap_permitted, self.cap_effective, self.cap_bset, self.cap_ambient];
        let mut sets = [0; 5];
        for (set, At(at)) in sets.iter_mut().zip(at) {
            *set = session.u64(at)?;
        }
        Ok(sets)
    }

    /// The groups it is in beside its own.
    pub fn groups(&self, session: &Session) -> Result<Vec<u32>> {
        if self.group_info == 0 {
            return Ok(Vec::new());
        }
        let count = session.u32(self.group_info.wrapping_add(session.offset("group_info", "ngroups")?))?;
        if count > MAX_GROUPS {
            return Err(Error::Corrupt { addr: self.group_info, what: "groups of impossible number".into() });
        }
        let first = self.group_info.wrapping_add(session.offset("group_info", "gid")?);
        (0..u64::from(count)).map(|i| session.u32(first.wrapping_add(4 * i))).collect()
    }
}

/// Capabilities by name, those that have none by number; `all` if none that exist are left out.
pub fn names(session: &Session, set: u64) -> Vec<String> {
    // a kernel that knows more than we do says so
    let last = session.kernel_symbol("cap_last_cap").and_then(|at| session.u32(at).ok());
    let last = last.filter(|last| *last < 64).unwrap_or(CAPABILITIES.len() as u32 - 1);
    let every = u64::MAX >> (63 - last);
    if set & every == every {
        return vec!["all".to_owned()];
    }
    let name = |bit: usize| CAPABILITIES.get(bit).map_or_else(|| bit.to_string(), |name| (*name).to_owned());
    (0..64).filter(|bit| set >> bit & 1 == 1).map(name).collect()
}

/// `SECBIT_…` by name (include/uapi/linux/securebits.h).
pub fn securebits(bits: u32) -> Vec<&'static str> {
    const NAMES: [&str; 8] = [
        "noroot",
        "noroot_locked",
        "no_setuid_fixup",
        "no_setuid_fixup_locked",
        "keep_caps",
        "keep_caps_locked",
        "no_cap_ambient_raise",
        "no_cap_ambient_raise_locked",
    ];
    NAMES.iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1).map(|(_, name)| *name).collect()
}

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Cred>()];

//! Why the running kernel cannot be read, in words, and what to do about it.

use std::fs;

/// What lockdown forbids: `none`, `integrity` or `confidentiality`.
pub fn lockdown() -> Option<String> {
    let text = fs::read_to_string("/sys/kernel/security/lockdown").ok()?;
    Some(text.split_once('[')?.1.split_once(']')?.0.to_owned())
}

fn confidential() -> bool {
    lockdown().as_deref() == Some("confidentiality")
}

const LOCKED: &str = "the kernel is locked down (confidentiality): it lets nobody read its memory. Boot with \
                      `lockdown=none` (secure boot may insist on it)";

/// Capabilities by their bit (include/uapi/linux/capability.h).
const NAMES: &[(u32, &str)] = &[(17, "CAP_SYS_RAWIO"), (21, "CAP_SYS_ADMIN"), (38, "CAP_PERFMON"), (39, "CAP_BPF")];

/// The effective capabilities of this process.
fn capabilities() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

fn lacks(bit: u32) -> bool {
    capabilities() >> bit & 1 == 0
}

fn name(bit: u32) -> &'static str {
    NAMES.iter().find(|(b, _)| *b == bit).map_or("a capability", |(_, name)| name)
}

/// Whether we are root of a user namespace, whose capabilities count for nothing here.
fn in_user_namespace() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let fields: Vec<&str> = map.split_whitespace().collect();
    !map.is_empty() && fields != ["0", "0", "4294967295"]
}

/// Why `/proc/kcore` could not be opened or read.
pub fn kcore(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            "there is no /proc/kcore: the kernel was built without CONFIG_PROC_KCORE, or /proc is not mounted".into()
        }
        std::io::ErrorKind::PermissionDenied => format!("/proc/kcore may not be read: {}", refusal(&[17])),
        _ => format!("/proc/kcore cannot be read: {error}"),
    }
}

/// Why a BPF map or program was refused. `said` is what the kernel said about it.
pub fn bpf(error: &std::io::Error, said: &str) -> String {
    let why = match error.raw_os_error() {
        Some(libc::ENOSYS) => "the kernel was built without CONFIG_BPF_SYSCALL".into(),
        Some(libc::EPERM | libc::EACCES) if said.is_empty() => refusal(&[39, 38]),
        // the helper does not exist for us: lockdown, or a kernel before 5.5
        _ if confidential() => LOCKED.to_owned(),
        Some(libc::EINVAL) if said.contains("unknown func") => {
            format!("the kernel has no function to read memory with, or is locked down ({said})")
        }
        Some(libc::EINVAL) if said.is_empty() => {
            "the kernel does not know what it takes: maps that can be mapped (since Linux 5.5) and programs run on \
             demand (since 5.10)"
                .into()
        }
        _ if said.is_empty() => error.to_string(),
        _ => format!("{error}: {said}"),
    };
    format!("BPF programs may not read kernel memory: {why}")
}

/// Why we are not allowed: what we lack of these capabilities, or who else may be against it.
fn refusal(needed: &[u32]) -> String {
    let lacking: Vec<&str> = needed.iter().filter(|bit| lacks(**bit) && lacks(21)).map(|bit| name(*bit)).collect();
    if !lacking.is_empty() {
        return format!("{} missing: run kmdb as root", lacking.join(" and "));
    }
    if confidential() {
        return LOCKED.to_owned();
    }
    if in_user_namespace() {
        return "this is root of a user namespace (a container), not of the machine: run kmdb outside of it".into();
    }
    "refused although the capabilities are there: a security module, a seccomp filter, or lockdown (see \
     /sys/kernel/security/lockdown) forbids it"
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Error;

    #[test]
    fn each_refusal_says_what_to_do() {
        assert!(kcore(&Error::from_raw_os_error(libc::ENOENT)).contains("CONFIG_PROC_KCORE"));
        assert!(bpf(&Error::from_raw_os_error(libc::ENOSYS), "").contains("CONFIG_BPF_SYSCALL"));
        let unknown = bpf(&Error::from_raw_os_error(libc::EINVAL), "unknown func bpf_probe_read_kernel#113");
        assert!(unknown.contains("locked down"), "{unknown}");
    }
}

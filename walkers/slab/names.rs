//! The C type of a cache's objects, told by the cache's name.
//!
//! The kernel records no type for a cache. Most caches are named after their struct, plainly (`dentry`) or with a
//! well-worn ending (`ext4_inode_cache` holds `struct ext4_inode_info`); a table knows the others. A guess must have
//! exactly the size that the cache was made with; what the table says, and a struct of the cache's very name, need
//! only fit, since some objects have a tail of variable length.

use super::cache::{Cache, Caches};
use engine::{Tag, TypeId, prelude::*};
use std::sync::OnceLock;

/// Caches whose name does not tell their objects' type. Several spellings: of newer and older kernels.
const KNOWN: &[(&str, &[&str])] = &[
    ("Acpi-Namespace", &["struct acpi_namespace_node"]),
    ("Acpi-Operand", &["union acpi_operand_object"]),
    ("Acpi-Parse", &["struct acpi_parse_obj_common"]),
    ("Acpi-ParseExt", &["struct acpi_parse_obj_named"]),
    ("Acpi-State", &["union acpi_generic_state"]),
    ("MPTCP", &["struct mptcp_sock"]),
    ("MPTCPv6", &["struct mptcp6_sock"]),
    ("PING", &["struct inet_sock"]),
    ("PINGv6", &["struct raw6_sock"]),
    ("RAW", &["struct raw_sock"]),
    ("RAWv6", &["struct raw6_sock"]),
    ("TCP", &["struct tcp_sock"]),
    ("TCPv6", &["struct tcp6_sock"]),
    ("UDP", &["struct udp_sock"]),
    ("UDP-Lite", &["struct udp_sock"]),
    ("UDPLITEv6", &["struct udp6_sock"]),
    ("UDPv6", &["struct udp6_sock"]),
    ("UNIX", &["struct unix_sock"]),
    ("UNIX-STREAM", &["struct unix_sock"]),
    ("audit_tree_mark", &["struct audit_node_mark", "struct fsnotify_mark"]),
    ("bdev_cache", &["struct bdev_inode"]),
    ("biovec-128", &["struct bio_vec [128]"]),
    ("biovec-16", &["struct bio_vec [16]"]),
    ("biovec-64", &["struct bio_vec [64]"]),
    ("biovec-max", &["struct bio_vec [256]"]),
    ("blkdev_ioc", &["struct io_context"]),
    ("dax_cache", &["struct dax_device"]),
    ("debug_objects_cache", &["struct debug_obj"]),
    ("ep_head", &["struct epitems_head"]),
    ("eventpoll_epi", &["struct epitem"]),
    ("eventpoll_pwq", &["struct eppoll_entry"]),
    ("ext4_groupinfo_1k", &["struct ext4_group_info"]),
    ("ext4_groupinfo_2k", &["struct ext4_group_info"]),
    ("ext4_groupinfo_4k", &["struct ext4_group_info"]),
    ("file_lock_ctx", &["struct file_lock_context"]),
    ("filp", &["struct file"]),
    ("fuse_request", &["struct fuse_req"]),
    ("iint_cache", &["struct integrity_iint_cache"]),
    ("iommu_iova", &["struct iova"]),
    ("ip4-frags", &["struct ipq"]),
    ("ip6-frags", &["struct frag_queue"]),
    ("ip6_dst_cache", &["struct rt6_info"]),
    ("ip6_mrt_cache", &["struct mfc6_cache"]),
    ("ip_dst_cache", &["struct rtable"]),
    ("ip_fib_alias", &["struct fib_alias"]),
    ("ip_fib_trie", &["struct tnode"]),
    ("ip_mrt_cache", &["struct mfc_cache"]),
    ("mbcache", &["struct mb_cache_entry"]),
    ("mnt_cache", &["struct mount"]),
    ("names_cache", &["char [4096]"]),
    ("net_namespace", &["struct net"]),
    ("nsproxy", &["struct nsproxy"]),
    ("numa_policy", &["struct mempolicy"]),
    ("posix_timers_cache", &["struct k_itimer"]),
    ("radix_tree_node", &["struct xa_node", "struct radix_tree_node"]),
    ("request_queue_srcu", &["struct request_queue"]),
    ("request_sock_TCP", &["struct tcp_request_sock"]),
    ("request_sock_TCPv6", &["struct tcp6_request_sock", "struct tcp_request_sock"]),
    ("request_sock_subflow_v4", &["struct mptcp_subflow_request_sock"]),
    ("request_sock_subflow_v6", &["struct mptcp_subflow_request_sock"]),
    ("sgpool-128", &["struct scatterlist [128]"]),
    ("sgpool-16", &["struct scatterlist [16]"]),
    ("sgpool-32", &["struct scatterlist [32]"]),
    ("sgpool-64", &["struct scatterlist [64]"]),
    ("sgpool-8", &["struct scatterlist [8]"]),
    ("shared_policy_node", &["struct sp_node"]),
    ("skbuff_ext_cache", &["struct skb_ext"]),
    ("skbuff_fclone_cache", &["struct sk_buff_fclones"]),
    ("skbuff_head_cache", &["struct sk_buff"]),
    ("sock_inode_cache", &["struct sockfs_inode", "struct socket_alloc"]),
    ("tcp_bind2_bucket", &["struct inet_bind2_bucket"]),
    ("tcp_bind_bucket", &["struct inet_bind_bucket"]),
    ("tw_sock_TCP", &["struct tcp_timewait_sock"]),
    ("tw_sock_TCPv6", &["struct tcp6_timewait_sock", "struct tcp_timewait_sock"]),
    ("uid_cache", &["struct user_struct"]),
    ("xfs_ili", &["struct xfs_inode_log_item"]),
    ("xfs_log_ticket", &["struct xlog_ticket"]),
];

/// Endings of cache names that are not the struct's.
const ENDINGS: &[&str] = &["_cachep", "_cache", "_jar", "_slab", "_pool", "s"];
/// Endings of struct names that are not the cache's.
const STRUCTS: &[&str] = &["", "_struct", "_info", "_node", "_t", "_entry"];

/// Structs that are allocated without all of their tail.
const CUT: &[&str] = &["kmem_cache", "task_struct"];

/// The type of a cache's objects, if its name and its size tell.
pub fn object_type(session: &Session, cache: &Cache) -> Option<TypeId> {
    let name = cache.name();
    // the general caches hold anything, merged ones one of several types
    if name.contains("kmalloc") || cache.refcount > 1 {
        return None;
    }
    let size = u64::from(cache.object_size);
    known(session, name, size).or_else(|| guess(session, name, size)).or_else(|| {
        // it may be a module's struct: have those read
        session.symbols.modules(session);
        known(session, name, size).or_else(|| guess(session, name, size)).or_else(|| namesake(session, name, size))
    })
}

/// [`object_type`] of a cache by its number, worked out once.
pub fn type_of_cache(session: &Session, cache: usize) -> Option<TypeId> {
    struct Kept(Vec<OnceLock<Option<TypeId>>>);
    let caches = Caches::of(session).ok()?;
    let kept = session.once(|| Ok(Kept((0..caches.len()).map(|_| OnceLock::new()).collect()))).ok()?;
    *kept.0.get(cache)?.get_or_init(|| object_type(session, caches.get(cache)?))
}

fn known(session: &Session, name: &str, object: u64) -> Option<TypeId> {
    let (_, types) = KNOWN.iter().find(|(cache, _)| *cache == name)?;
    types.iter().find_map(|spelling| {
        let id = session.types.parse(spelling).ok()?;
        session.types.size_of(id).filter(|size| (1..=object).contains(size)).map(|_| id)
    })
}

/// A struct whose name is made of the cache's, and whose size is the cache's.
fn guess(session: &Session, name: &str, object: u64) -> Option<TypeId> {
    let mut stems = vec![name];
    stems.extend(ENDINGS.iter().filter_map(|ending| name.strip_suffix(ending)));
    // pid_2, of the second level of PID namespaces; ext4_extent_status, of the file system
    stems.extend(name.rsplit_once('_').filter(|(_, n)| n.parse::<u32>().is_ok()).map(|(stem, _)| stem));
    stems.extend(name.split_once('_').map(|(_, rest)| rest));
    stems.iter().flat_map(|stem| STRUCTS.iter().map(move |end| format!("{stem}{end}"))).find_map(|candidate| {
        structs(session, &candidate).into_iter().find(|id| session.types.size_of(*id) == Some(object))
    })
}

/// The struct of the cache's own name, if it is the only one. Its size may differ: `mm_struct` and `pid` have a tail of
/// variable length; `task_struct` ends with a register area that is cut to what the CPU has, `kmem_cache` with an array
/// that is cut to the number of nodes.
fn namesake(session: &Session, name: &str, object: u64) -> Option<TypeId> {
    let stem = name.rsplit_once('_').filter(|(_, n)| n.parse::<u32>().is_ok()).map_or(name, |(stem, _)| stem);
    match structs(session, stem)[..] {
        [id] => session.types.size_of(id).filter(|size| CUT.contains(&name) || *size <= object).map(|_| id),
        _ => None,
    }
}

fn structs(session: &Session, name: &str) -> Vec<TypeId> {
    let complete = |id: &TypeId| session.types.size_of(*id).is_some_and(|size| size > 0);
    [Tag::Struct, Tag::Union].into_iter().flat_map(|tag| session.types.find_own(tag, name)).filter(complete).collect()
}

//! Settings of the kernel: the trees of `struct ctl_table` that /proc/sys shows (fs/proc/proc_sysctl.c).
//!
//! A `struct ctl_dir` has a tree of `struct ctl_node`, one for each name in it. A node lies in the array of its header, at
//! the same index as the name's `struct ctl_table` in the header's other array. What is a namespace's own hangs in a set of
//! the namespace, laid out alike.
//!
//! ```console
//! > sysctl_table_root::print struct ctl_table_root default_set.dir.header.nreg
//! default_set.dir.header.nreg = 0xa
//! ```

mod handlers;

use crate::rbtree;
use engine::{ViewEntry, prelude::*};

/// `struct ctl_node`.
#[derive(View)]
#[ctype("ctl_node")]
struct Node {
    #[addr]
    addr: u64,
    header: u64,
}

/// `struct ctl_table_header`.
#[derive(View)]
#[ctype("ctl_table_header")]
struct Header {
    #[field("ctl_table")]
    table: u64,
    #[field("node")]
    nodes: u64,
}

/// A setting: `struct ctl_table` (include/linux/sysctl.h).
#[derive(View, Clone, Debug)]
#[ctype("ctl_table")]
pub struct Setting {
    /// its address
    #[addr]
    pub addr: u64,
    procname: u64,
    /// the variable
    pub data: u64,
    /// bytes of it
    pub maxlen: i32,
    mode: u16,
    #[field("proc_handler")]
    /// what reads and writes it
    pub handler: u64,
}

/// The kinds of files (`S_IFMT`) in a mode.
const KIND: u16 = 0o170_000;
const DIRECTORY: u16 = 0o040_000;
const LINK: u16 = 0o120_000;
/// Deeper than any tree of settings.
const MAX_DEPTH: u32 = 16;
/// Ticks in a second as user space counts them, on all architectures.
const USER_HZ: u64 = 100;
/// Longest list of numbers that is one setting.
const MAX_WORDS: usize = 1024;

impl Setting {
    /// The number that its variable holds, if that is as long as one: all that is known of a value whose handler makes
    /// something else of it.
    pub fn raw(&self, session: &Session) -> Result<Option<u64>> {
        match (self.data, self.maxlen) {
            (0, _) => Ok(None),
            (_, 1 | 4 | 8) => Ok(Some(session.uint(self.data, self.maxlen as usize)?)),
            _ => Ok(None),
        }
    }

    /// Who may see and change it.
    pub fn mode(&self) -> u16 {
        self.mode & !KIND
    }
}

/// A setting's value, as it lies in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// numbers
    Ints(Vec<i64>),
    /// numbers that are never negative
    Uints(Vec<u64>),
    /// a text
    Text(String),
    /// several
    Words(Vec<String>),
    /// first and last of each range of numbers that are set
    Ranges(Vec<(u64, u64)>),
    /// something that its handler alone can tell: the handler
    Other(u64),
}

impl Setting {
    /// Its value. `hz`: ticks in a second.
    pub fn value(&self, session: &Session, hz: u64) -> Result<Value> {
        let symbol = session.symbols.by_addr(session, self.handler).filter(|s| s.addr == self.handler);
        let name = symbol.map(|s| s.name).unwrap_or_default();
        if let Some(value) = handlers::value(session, self, &name, hz)? {
            return Ok(value);
        }
        if self.data == 0 {
            return Ok(Value::Other(self.handler));
        }
        let ints = || self.ints(session);
        let scaled = |per: u64| self.scaled(session, per, hz);
        let is = |part: &str| name.contains(part);
        // subsystems wrap the kernel's own handlers, and name theirs after them: `proc_dointvec_minmax_sysadmin`
        Ok(match () {
            () if is("dointvec_jiffies") => scaled(1)?,
            () if is("userhz_jiffies") => scaled(USER_HZ)?,
            () if is("dointvec_ms_jiffies") => scaled(1000)?,
            () if is("doulongvec_minmax") && !is("jiffies") => Value::Uints(self.words(session, 8)?),
            () if is("douintvec") => Value::Uints(ints()?.into_iter().map(|v| u64::from(v as u32)).collect()),
            () if is("dointvec") => Value::Ints(ints()?),
            () if is("dobool") || is("dou8vec") => Value::Uints(vec![session.u8(self.data)?.into()]),
            // data is the first namespace's
            () if is("dostring") || name == "proc_do_uts_string" => {
                Value::Text(session.cstr(self.data, self.maxlen.max(0) as usize)?)
            }
            () => Value::Other(self.handler),
        })
    }

    /// The last part of its name.
    fn name(&self, session: &Session) -> Result<String> {
        session.cstr(self.procname, 128)
    }

    /// Its numbers, ticks, in parts of a second.
    fn scaled(&self, session: &Session, per: u64, hz: u64) -> Result<Value> {
        let scale = |v: i64| v.saturating_mul(per as i64).checked_div(hz.max(1) as i64).unwrap_or(0);
        Ok(Value::Ints(self.ints(session)?.into_iter().map(scale).collect()))
    }

    fn words(&self, session: &Session, size: usize) -> Result<Vec<u64>> {
        let count = (self.maxlen.max(0) as usize / size).min(MAX_WORDS);
        let bytes = session.bytes(self.data, count * size)?;
        let word = |b: &[u8]| b.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        Ok(bytes.chunks_exact(size).map(word).collect())
    }

    fn ints(&self, session: &Session) -> Result<Vec<i64>> {
        Ok(self.words(session, 4)?.into_iter().map(|word| (word as u32 as i32).into()).collect())
    }
}

/// Shows every setting to `visit`, with its path, `vm/swappiness`: those of all, then those of the first namespaces of
/// network, users, System V and processes.
pub fn each(session: &Session, visit: &mut dyn FnMut(&str, Setting) -> Result<()>) -> Result<()> {
    let root = session.symbol("sysctl_table_root")?;
    // every kernel has it: where its type is lost, that is said
    session.offset("ctl_table_root", "default_set")?;
    let sets = [
        (Some(root), "ctl_table_root", "default_set"),
        (session.kernel_symbol("init_net"), "net", "sysctls"),
        (session.kernel_symbol("init_ipc_ns"), "ipc_namespace", "ipc_set"),
        (session.kernel_symbol("init_ipc_ns"), "ipc_namespace", "mq_set"),
        (session.kernel_symbol("init_user_ns"), "user_namespace", "set"),
        // since Linux 6.14 (7863dcc72d0f)
        (session.kernel_symbol("init_pid_ns"), "pid_namespace", "set"),
    ];
    for (at, ctype, member) in sets {
        let Some((at, set)) = at.zip(session.place(ctype, member)) else { continue };
        let dir = at.wrapping_add(set.bit_offset / 8).wrapping_add(session.offset("ctl_table_set", "dir")?);
        directory(session, dir, "", 0, visit)?;
    }
    Ok(())
}

fn directory(
    session: &Session,
    dir: u64,
    path: &str,
    depth: u32,
    visit: &mut dyn FnMut(&str, Setting) -> Result<()>,
) -> Result<()> {
    if depth > MAX_DEPTH {
        session.notes.add(dir, "settings deeper than they can be");
        return Ok(());
    }
    let root = dir.wrapping_add(session.offset("ctl_dir", "root")?);
    let (link, node_size) = (session.offset("ctl_node", "node")?, session.size_of("ctl_node")?.max(1));
    let size = session.size_of("ctl_table")?;
    let mut one = |node: u64| -> Result<()> {
        let node: Node = session.view(node.wrapping_sub(link))?;
        let header: Header = session.view(node.header)?;
        let index = node.addr.wrapping_sub(header.nodes) / node_size;
        let setting: Setting = session.view(header.table.wrapping_add(index.wrapping_mul(size)))?;
        let name = setting.name(session)?;
        let path = if path.is_empty() { name } else { format!("{path}/{name}") };
        match setting.mode & KIND {
            // the header is the first thing of a directory
            DIRECTORY => directory(session, node.header, &path, depth + 1, visit),
            // stands for one of a namespace's set
            LINK => Ok(()),
            _ => visit(&path, setting),
        }
    };
    rbtree::each(session, root, &mut |node| match one(node) {
        Err(Error::Read(e)) => {
            session.notes.add(node, format!("setting: {}", Error::Read(e).kind()));
            Ok(())
        }
        other => other,
    })
}

/// Walks them.
pub static WALKERS: &[WalkerEntry] = &[WalkerEntry {
    name: "sysctl",
    doc: "walk the settings that /proc/sys shows",
    item: "struct ctl_table",
    address: Address::None,
    walk: |cx, _, visit| each(cx, &mut |_, setting| visit(setting.addr)),
}];

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Node>(), ViewEntry::of::<Header>(), ViewEntry::of::<Setting>()];
/// Those of its handlers.
pub use handlers::VIEWS as HANDLER_VIEWS;

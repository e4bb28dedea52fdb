//! eBPF: programs, maps, and links that hold a program where it is attached (include/linux/bpf.h). Each has an id, and an
//! idr of its kind.
//!
//! ```console
//! > ::walk bpf_prog | ::print struct bpf_prog type len jited_len
//! type = 1 (BPF_PROG_TYPE_SOCKET_FILTER)
//! len = 0x2
//! jited_len = 0x1c
//! ```

use crate::container;
use engine::{Type, ViewEntry, prelude::*};

/// A program: `struct bpf_prog`.
#[derive(View, Clone, Debug)]
#[ctype("bpf_prog")]
pub struct Prog {
    /// its address
    #[addr]
    pub addr: u64,
    /// `enum bpf_prog_type`
    #[field("type")]
    pub kind: u32,
    /// whether it is machine code
    pub jited: bool,
    /// instructions
    pub len: u32,
    /// bytes of machine code
    pub jited_len: u32,
    /// the machine code, or what interprets it
    pub bpf_func: u64,
    #[field("tag", "digest")]
    tag: At,
    aux: u64,
    #[field("insnsi")]
    insns: At,
}

/// `struct bpf_prog_aux`.
#[derive(View, Clone, Debug)]
#[ctype("bpf_prog_aux")]
pub struct Aux {
    /// its number
    pub id: u32,
    /// its name
    pub name: String,
    #[field("used_map_cnt")]
    maps: u32,
    used_maps: u64,
    user: Option<u64>,
    /// nanoseconds of the boot clock at which it was loaded
    pub load_time: u64,
    /// bytes of stack that it uses
    pub stack_depth: u32,
    /// what it was to be attached to by name
    attach_func_name: Option<u64>,
}

impl Prog {
    /// The other half.
    pub fn aux(&self, session: &Session) -> Result<Aux> {
        session.view(self.aux)
    }

    /// The first bytes of the hash of its code.
    pub fn tag(&self, session: &Session) -> Result<Vec<u8>> {
        Ok(session.bytes(self.tag.0, 8)?.to_vec())
    }

    /// Its instructions, as the verifier left them: 8 bytes each.
    pub fn instructions(&self, session: &Session) -> Result<bytes::Bytes> {
        /// `BPF_COMPLEXITY_LIMIT_INSNS`
        const MAX: u32 = 1_000_000;
        session.bytes(self.insns.0, self.len.min(MAX) as usize * 8)
    }
}

impl Aux {
    /// The maps that it uses: their `struct bpf_map`.
    pub fn maps(&self, session: &Session) -> Result<Vec<u64>> {
        /// `MAX_USED_MAPS` is 64; the kernel itself may add some
        const MAX: u32 = 4096;
        (0..u64::from(self.maps.min(MAX))).map(|i| session.u64(self.used_maps.wrapping_add(i * 8))).collect()
    }

    /// The user who loaded it.
    pub fn uid(&self, session: &Session) -> Option<u32> {
        let user = self.user.filter(|at| *at != 0)?;
        session.u32(user.wrapping_add(session.offset("user_struct", "uid.val").ok()?)).ok()
    }

    /// The function that it is attached to, if it was loaded for one.
    pub fn target(&self, session: &Session) -> Option<String> {
        session.cstr(self.attach_func_name.filter(|at| *at != 0)?, 128).ok()
    }
}

/// A map: `struct bpf_map`.
#[derive(View, Clone, Debug)]
#[ctype("bpf_map")]
pub struct Map {
    /// its address
    #[addr]
    pub addr: u64,
    /// its number
    pub id: u32,
    /// its name
    pub name: String,
    /// `enum bpf_map_type`
    #[field("map_type")]
    pub kind: u32,
    /// bytes of a key
    pub key_size: u32,
    /// bytes of a value
    pub value_size: u32,
    /// how many there may be
    pub max_entries: u32,
    /// `BPF_F_…`
    pub map_flags: u32,
    /// references: of programs and of files
    #[field("refcnt.counter", "refcnt")]
    pub references: i64,
}

/// A link: `struct bpf_link`.
#[derive(View, Clone, Debug)]
#[ctype("bpf_link")]
pub struct Link {
    /// its address
    #[addr]
    pub addr: u64,
    /// its number
    pub id: u32,
    /// `enum bpf_link_type`
    #[field("type")]
    pub kind: u32,
    /// what tells its kinds apart
    pub ops: u64,
    /// its program
    pub prog: u64,
}

/// The name of one of `enum name`'s values, without what all of them begin with.
pub fn enum_name(session: &Session, name: &str, value: u32) -> Option<String> {
    let ctype = session.ctype(&format!("enum {name}")).ok()?;
    let shape = session.shape(ctype)?;
    let Type::Enum { values, .. } = &*shape else { return None };
    let found = values.iter().find(|v| v.value == i64::from(value))?;
    let prefix = format!("{}_", name.to_ascii_uppercase());
    Some(found.name.trim_start_matches(prefix.as_str()).to_ascii_lowercase())
}

fn ids(session: &Session, variable: &str, visit: Visit<'_>) -> Result<()> {
    let missing =
        || Error::Unavailable(format!("no symbol `{variable}`: the kernel has no eBPF, or its symbols are lost"));
    let idr = session.kernel_symbol(variable).ok_or_else(missing)?;
    container::idr(session, idr, &mut |_, at| visit(at))
}

/// Visits every program, by number.
pub fn progs(session: &Session, visit: Visit<'_>) -> Result<()> {
    ids(session, "prog_idr", visit)
}

/// Visits every map, by number.
pub fn maps(session: &Session, visit: Visit<'_>) -> Result<()> {
    ids(session, "map_idr", visit)
}

/// Visits every link, by number.
pub fn links(session: &Session, visit: Visit<'_>) -> Result<()> {
    ids(session, "link_idr", visit)
}

macro_rules! walker {
    ($name:literal, $doc:literal, $walk:expr) => {
        WalkerEntry {
            name: $name,
            doc: $doc,
            item: concat!("struct ", $name),
            address: Address::None,
            walk: |cx, _, visit| $walk(cx, visit),
        }
    };
}

/// Walks them.
pub static WALKERS: &[WalkerEntry] = &[
    walker!("bpf_prog", "walk eBPF programs, by number", progs),
    walker!("bpf_map", "walk eBPF maps, by number", maps),
    walker!("bpf_link", "walk the links of eBPF programs to what they are attached to, by number", links),
];

/// The views of this file.
pub static VIEWS: &[ViewEntry] =
    &[ViewEntry::of::<Prog>(), ViewEntry::of::<Aux>(), ViewEntry::of::<Map>(), ViewEntry::of::<Link>()];

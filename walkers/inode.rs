//! Files as such: `struct inode` (include/linux/fs.h).
//!
//! ```console
//! > ::walk super_block | ::head -1 | ::walk inode | ::count
//! COUNT
//!   193
//! ```

use crate::{
    list::{self, Hlist},
    super_block,
};
use engine::{ViewEntry, prelude::*};

/// A file, directory, device, pipe, socket.
#[derive(View, Clone, Debug)]
#[ctype("inode")]
pub struct Inode {
    /// its address
    #[addr]
    pub addr: u64,
    /// its number
    #[field("i_ino")]
    pub number: u64,
    /// type and rights, as in `st_mode`
    #[field("i_mode")]
    pub mode: u32,
    /// names it has on its filesystem
    #[field("i_nlink")]
    pub links: u32,
    /// its owner
    #[field("i_uid.val")]
    pub uid: u32,
    /// its group
    #[field("i_gid.val")]
    pub gid: u32,
    /// bytes in it
    #[field("i_size")]
    pub size: i64,
    /// `dev_t` of the device it is, if it is one
    #[field("i_rdev")]
    rdev: u32,
    /// how many use it
    #[field("i_count.counter")]
    pub count: i32,
    /// `I_…`; a struct since Linux 6.19
    #[field("i_state.__state", "i_state")]
    pub state: u64,
    /// seconds since 1970 at which its content changed; plain since Linux 6.11 (3aa63a569c64)
    #[field("i_mtime_sec", "__i_mtime.tv_sec", "i_mtime.tv_sec")]
    pub modified: i64,
    /// its filesystem
    #[field("i_sb")]
    pub super_block: u64,
    /// its pages, `struct address_space`
    #[field("i_mapping")]
    pub mapping: u64,
    /// its locks, `struct file_lock_context`; 0 if it never had one
    #[field("i_flctx")]
    pub locks: u64,
    /// of a symbolic link: where it leads, if that is kept in memory
    #[field("i_link")]
    link: u64,
    /// its filesystem's own
    #[field("i_private")]
    pub private: u64,
}

/// What kind of file an inode is: `S_IFMT`, which is the same on every Unix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// with content
    Regular,
    /// with names
    Directory,
    /// with the path of another
    Link,
    /// of characters
    Character,
    /// of blocks
    Block,
    /// a pipe, with a name or without
    Fifo,
    /// one end of a conversation
    Socket,
    /// what has a descriptor only: an eventfd, an epoll, …
    Anonymous,
    /// none of these
    Unknown,
}

impl Kind {
    /// As mdb's `::pfiles` has it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Regular => "REG",
            Kind::Directory => "DIR",
            Kind::Link => "LNK",
            Kind::Character => "CHR",
            Kind::Block => "BLK",
            Kind::Fifo => "FIFO",
            Kind::Socket => "SOCK",
            Kind::Anonymous => "ANON",
            Kind::Unknown => "?",
        }
    }

    /// As ls has it.
    fn letter(self) -> char {
        match self {
            Kind::Regular | Kind::Anonymous => '-',
            Kind::Directory => 'd',
            Kind::Link => 'l',
            Kind::Character => 'c',
            Kind::Block => 'b',
            Kind::Fifo => 'p',
            Kind::Socket => 's',
            Kind::Unknown => '?',
        }
    }
}

impl Inode {
    /// What it is.
    pub fn kind(&self) -> Kind {
        match self.mode >> 12 {
            0o10 => Kind::Regular,
            0o4 => Kind::Directory,
            0o12 => Kind::Link,
            0o2 => Kind::Character,
            0o6 => Kind::Block,
            0o1 => Kind::Fifo,
            0o14 => Kind::Socket,
            0 => Kind::Anonymous,
            _ => Kind::Unknown,
        }
    }

    /// Its rights, as ls shows them: `drwxr-xr-x`.
    pub fn rights(&self) -> String {
        let mut text = String::from(self.kind().letter());
        for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
            let bits = self.mode >> shift;
            text.push(if bits & 4 != 0 { 'r' } else { '-' });
            text.push(if bits & 2 != 0 { 'w' } else { '-' });
            text.push(match (self.mode & special != 0, bits & 1 != 0) {
                (false, true) => 'x',
                (false, false) => '-',
                (true, true) => letter,
                (true, false) => letter.to_ascii_uppercase(),
            });
        }
        text
    }

    /// Major and minor number of the device it is.
    pub fn device(&self) -> Option<(u32, u32)> {
        let (major, minor) = super_block::split(self.rdev);
        matches!(self.kind(), Kind::Character | Kind::Block).then_some((major, minor))
    }

    /// Where a symbolic link leads, if the kernel keeps that in memory beside the inode.
    pub fn target(&self, session: &Session) -> Result<Option<String>> {
        if self.kind() != Kind::Link || self.link == 0 {
            return Ok(None);
        }
        session.cstr(self.link, 4096).map(Some)
    }
}

/// Visits the inodes of a filesystem that are in memory.
pub fn of_super_block(session: &Session, super_block: u64, visit: Visit<'_>) -> Result<()> {
    let head = super_block.wrapping_add(session.offset("super_block", "s_inodes")?);
    list::list(session, head, session.offset("inode", "i_sb_list")?, visit)
}

/// Visits the names, `struct dentry`, that an inode has in memory.
pub fn names(session: &Session, inode: u64, visit: Visit<'_>) -> Result<()> {
    let head = inode.wrapping_add(session.offset("inode", "i_dentry")?);
    // the union that it is in had a name, d_u, until 7.x
    let link = session.offset("dentry", "d_alias").or_else(|_| session.offset("dentry", "d_u.d_alias"))?;
    list::hlist(session, Hlist::Plain, head, link, visit)
}

/// The inode that an address means, by its type: itself, a name's, an open file's.
pub fn chosen(session: &Session, at: Object) -> Result<u64> {
    let is = |name| at.ctype.is_some() && at.ctype == session.struct_type(name);
    let member = |ctype, member| session.u64(at.addr.wrapping_add(session.offset(ctype, member)?));
    let inode = if is("file") {
        member("file", "f_inode")?
    } else if is("dentry") {
        member("dentry", "d_inode")?
    } else if is("address_space") {
        member("address_space", "host")?
    } else {
        at.addr
    };
    match inode {
        0 => Err(Error::Unavailable(format!("what is at {:#x} has no inode", at.addr))),
        inode => Ok(inode),
    }
}

/// Walks inodes.
pub static WALKERS: &[WalkerEntry] = &[
    WalkerEntry {
        name: "inode",
        doc: "walk the inodes in memory: of the filesystem whose struct super_block is at the address, or of all",
        item: "struct inode",
        address: Address::Optional,
        walk: |cx, at, visit| match at {
            Some(super_block) => of_super_block(cx, super_block.addr, visit),
            None => super_block::each(cx, &mut |super_block| of_super_block(cx, super_block, visit)),
        },
    },
    WalkerEntry {
        name: "inode_dentry",
        doc: "walk the names in memory of the struct inode at the address",
        item: "struct dentry",
        address: Address::Required,
        walk: |cx, at, visit| {
            let at = at.ok_or_else(|| Error::Usage("names are walked from a struct inode".into()))?;
            names(cx, at.addr, visit)
        },
    },
];

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Inode>()];

#[cfg(test)]
mod tests {
    use super::*;

    fn rights(mode: u32) -> String {
        let inode = Inode {
            addr: 0,
            number: 1,
            mode,
            links: 1,
            uid: 0,
            gid: 0,
            size: 0,
            rdev: 0,
            count: 1,
            state: 0,
            modified: 0,
            super_block: 0,
            mapping: 0,
            locks: 0,
            link: 0,
            private: 0,
        };
        inode.rights()
    }

    #[test]
    fn rights_are_those_of_ls() {
        assert_eq!(rights(0o100644), "-rw-r--r--");
        assert_eq!(rights(0o104755), "-rwsr-xr-x");
        assert_eq!(rights(0o041777), "drwxrwxrwt");
        assert_eq!(rights(0o041776), "drwxrwxrwT");
        assert_eq!(rights(0o020600), "crw-------");
        assert_eq!(rights(0o120777), "lrwxrwxrwx");
    }
}

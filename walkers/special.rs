//! Numbers that the kernel puts where a pointer would be: error codes, marks of what was freed, offsets from NULL.
//!
//! They are macros, so that no type tells them: include/linux/poison.h, include/linux/err.h.

use engine::prelude::*;
use std::ops::Range;

/// What a number stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Special {
    /// a member, that far behind the start of a structure at NULL
    Null {
        /// the offset; 0 is NULL itself
        offset: u64,
    },
    /// `ERR_PTR()`, or an offset from such
    Error {
        /// the error's name, or its number
        name: String,
    },
    /// a mark that is written into pointers which nobody is to follow
    Mark {
        /// its macro
        name: &'static str,
        /// what it means
        meaning: &'static str,
        /// how far behind it
        offset: u64,
    },
    /// memory filled with a pattern was taken for a pointer
    Pattern {
        /// the byte that is repeated
        byte: u8,
        /// what is filled with it
        meaning: &'static str,
        /// how far behind the pattern
        offset: i64,
    },
    /// ASCII text was taken for a pointer
    Text {
        /// the characters, first byte first
        text: String,
    },
    /// no page table can map it
    NonCanonical,
}

/// `POISON_POINTER_DELTA`: CONFIG_ILLEGAL_POINTER_VALUE of every 64-bit architecture that has one.
const DELTA: u64 = 0xdead_0000_0000_0000;

/// Marks, without [`DELTA`].
const MARKS: &[(u64, &str, &str)] = &[
    (0x100, "LIST_POISON1", "the next pointer of what was taken off a list"),
    (0x122, "LIST_POISON2", "the previous pointer of what was taken off a list"),
    (0x200, "LIST_POISON2", "the previous pointer of what was taken off a list, in kernels before 4.15"),
    (0x300, "TIMER_ENTRY_STATIC", "a timer that is not in use"),
    (0x400, "MUTEX_DEBUG_FREE", "a mutex that was destroyed"),
    (0x500, "MUTEX_POISON_WW_CTX", "the context of a mutex that was given up"),
    (0x600, "VIRTIO_RING_POISON", "a virtio ring's"),
    (0x800, "SKB_LIST_POISON_NEXT", "the next pointer of what was taken off a list of packets"),
    (0x801, "NET_PTR_POISON", "networking's"),
    (0xeb9f, "BPF_PTR_POISON", "eBPF's"),
];
/// How far behind a mark a member of what is not there may be.
const REACH: u64 = 0x80;
/// Patterns: the byte, and what is filled with it.
const PATTERNS: &[(u8, &str)] = &[
    (0x6b, "freed slab memory (POISON_FREE)"),
    (0x5a, "slab memory that was not written since it was allocated (POISON_INUSE)"),
    (0xbb, "the red zone of a free slab object (SLUB_RED_INACTIVE)"),
    (0xcc, "the red zone of a slab object in use (SLUB_RED_ACTIVE), init memory, or int3"),
    (0xaa, "a freed page (PAGE_POISON)"),
    (0xfe, "memory that is to be initialised (CONFIG_INIT_STACK_ALL_PATTERN)"),
];
/// The last byte of a poisoned object (`POISON_END`).
const POISON_END: u8 = 0xa5;
/// A structure at such an address would begin at NULL: `mmap_min_addr`, below which nothing is mapped.
const NULL_PAGE: Range<u64> = 0..0x1000;
/// Farther behind a pattern than this no member is.
const PATTERN_REACH: i64 = 0x1000;
/// `MAX_ERRNO`.
const MAX_ERRNO: u64 = 4095;

/// Names of errors by number, from 1 (include/uapi/asm-generic/errno*.h).
const ERRNO: &str = "EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT ENOTBLK \
    EBUSY EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE \
    EDOM ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP - ENOMSG EIDRM ECHRNG EL2NSYNC EL3HLT EL3RST ELNRNG \
    EUNATCH ENOCSI EL2HLT EBADE EBADR EXFULL ENOANO EBADRQC EBADSLT - EBFONT ENOSTR ENODATA ETIME ENOSR ENONET ENOPKG \
    EREMOTE ENOLINK EADV ESRMNT ECOMM EPROTO EMULTIHOP EDOTDOT EBADMSG EOVERFLOW ENOTUNIQ EBADFD EREMCHG ELIBACC \
    ELIBBAD ELIBSCN ELIBMAX ELIBEXEC EILSEQ ERESTART ESTRPIPE EUSERS ENOTSOCK EDESTADDRREQ EMSGSIZE EPROTOTYPE \
    ENOPROTOOPT EPROTONOSUPPORT ESOCKTNOSUPPORT EOPNOTSUPP EPFNOSUPPORT EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL ENETDOWN \
    ENETUNREACH ENETRESET ECONNABORTED ECONNRESET ENOBUFS EISCONN ENOTCONN ESHUTDOWN ETOOMANYREFS ETIMEDOUT \
    ECONNREFUSED EHOSTDOWN EHOSTUNREACH EALREADY EINPROGRESS ESTALE EUCLEAN ENOTNAM ENAVAIL EISNAM EREMOTEIO EDQUOT \
    ENOMEDIUM EMEDIUMTYPE ECANCELED ENOKEY EKEYEXPIRED EKEYREVOKED EKEYREJECTED EOWNERDEAD ENOTRECOVERABLE ERFKILL \
    EHWPOISON";
/// The kernel's own (include/linux/errno.h).
const OWN_ERRNO: &[(u64, &str)] = &[
    (512, "ERESTARTSYS"),
    (513, "ERESTARTNOINTR"),
    (514, "ERESTARTNOHAND"),
    (515, "ENOIOCTLCMD"),
    (516, "ERESTART_RESTARTBLOCK"),
    (517, "EPROBE_DEFER"),
    (518, "EOPENSTALE"),
    (519, "ENOPARAM"),
    (521, "EBADHANDLE"),
    (522, "ENOTSYNC"),
    (523, "EBADCOOKIE"),
    (524, "ENOTSUPP"),
    (525, "ETOOSMALL"),
    (526, "ESERVERFAULT"),
    (527, "EBADTYPE"),
    (528, "EJUKEBOX"),
    (529, "EIOCBQUEUED"),
    (530, "ERECALLCONFLICT"),
];

/// The name of an error; `None` of numbers that stand for none.
pub fn errno(number: u64) -> Option<&'static str> {
    let own = OWN_ERRNO.iter().find(|(n, _)| *n == number).map(|(_, name)| *name);
    own.or_else(|| ERRNO.split_whitespace().nth(usize::try_from(number.checked_sub(1)?).ok()?).filter(|n| *n != "-"))
}

/// The number of an error: what `ENOSPC` stands for, which is a macro and so in no debug information.
pub fn errno_number(name: &str) -> Option<u64> {
    let own = OWN_ERRNO.iter().find(|(_, n)| *n == name).map(|(number, _)| *number);
    own.or_else(|| ERRNO.split_whitespace().position(|n| n == name && n != "-").map(|at| at as u64 + 1))
}

fn mark(value: u64) -> Option<Special> {
    let low = value.checked_sub(DELTA)?;
    let (mark, name, meaning) = MARKS.iter().rev().find(|(mark, ..)| (*mark..*mark + REACH).contains(&low))?;
    // the second pointer of a poisoned list is a mark of its own, not an offset from the first
    Some(Special::Mark { name, meaning, offset: low - mark })
}

fn pattern(value: u64) -> Option<Special> {
    PATTERNS.iter().find_map(|(byte, meaning)| {
        let full = u64::from_ne_bytes([*byte; 8]);
        let ended = full & !(0xff << 56) | u64::from(POISON_END) << 56;
        let offset = [full, ended].into_iter().map(|base| value.wrapping_sub(base) as i64);
        let offset = offset.into_iter().find(|offset| offset.abs() < PATTERN_REACH)?;
        Some(Special::Pattern { byte: *byte, meaning, offset })
    })
}

/// Eight printable characters, or fewer with NULs behind them: text that ran over a pointer.
fn text(value: u64) -> Option<Special> {
    let bytes = value.to_le_bytes();
    let len = bytes.iter().position(|b| *b == 0).unwrap_or(8);
    let printable = bytes.iter().take(len).all(|b| (0x20..0x7f).contains(b));
    let rest = bytes.iter().skip(len).all(|b| *b == 0);
    // five or less is a plausible number
    (len >= 6 && printable && rest)
        .then(|| Special::Text { text: bytes.iter().take(len).map(|b| char::from(*b)).collect() })
}

/// What a number stands for that is no address of the target; `None` if it may be one.
pub fn special(session: &Session, value: u64) -> Option<Special> {
    if NULL_PAGE.contains(&value) {
        return Some(Special::Null { offset: value });
    }
    let negative = value.wrapping_neg();
    if (1..=MAX_ERRNO).contains(&negative) {
        let name = errno(negative).map_or_else(|| negative.to_string(), str::to_owned);
        return Some(Special::Error { name });
    }
    if let Some(found) = mark(value) {
        return Some(found);
    }
    if let Some(found) = pattern(value) {
        return Some(found);
    }
    let canonical =
        !matches!(session.target.translate(Space::Kernel, value), Err(engine::targets::Reason::NotCanonical));
    let user = value >> 63 == 0 && canonical;
    match text(value) {
        Some(found) if !user => Some(found),
        _ if !canonical => Some(Special::NonCanonical),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_numbers_of_the_kernel() {
        let known =
            [(1, "EPERM"), (12, "ENOMEM"), (40, "ELOOP"), (42, "ENOMSG"), (110, "ETIMEDOUT"), (133, "EHWPOISON")];
        for (number, name) in known {
            assert_eq!(errno(number), Some(name));
        }
        assert_eq!((errno(0), errno(41), errno(134), errno(512)), (None, None, None, Some("ERESTARTSYS")));
    }

    #[test]
    fn marks_and_patterns_are_known_with_what_is_behind_them() {
        let name = |value| match mark(value) {
            Some(Special::Mark { name, offset, .. }) => Some((name, offset)),
            _ => None,
        };
        assert_eq!(name(DELTA + 0x100), Some(("LIST_POISON1", 0)));
        assert_eq!(name(DELTA + 0x108), Some(("LIST_POISON1", 8)));
        assert_eq!(name(DELTA + 0x122), Some(("LIST_POISON2", 0)));
        assert_eq!(name(DELTA + 0x50), None);
        let byte = |value| match pattern(value) {
            Some(Special::Pattern { byte, offset, .. }) => Some((byte, offset)),
            _ => None,
        };
        assert_eq!(byte(0x6b6b_6b6b_6b6b_6b6b), Some((0x6b, 0)));
        assert_eq!(byte(0xa56b_6b6b_6b6b_6b6b), Some((0x6b, 0)));
        assert_eq!(byte(0x6b6b_6b6b_6b6b_6b9b), Some((0x6b, 0x30)));
        assert_eq!(byte(0x6b6b_6b6b_6b6c_6b6b), None);
        assert_eq!(text(u64::from_le_bytes(*b"overflow")), Some(Special::Text { text: "overflow".into() }));
        assert_eq!(text(0x41), None);
    }
}

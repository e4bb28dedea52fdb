//! VMCOREINFO: the `KEY=value` lines in which a kernel describes itself for dump tools
//! (Documentation/admin-guide/kdump/vmcoreinfo.rst).
//!
//! The spelling of numbers differs by key, and the accessors know it: `SYMBOL(x)` is hex without `0x`,
//! `NUMBER(phys_base)` is signed decimal, `NUMBER(VMALLOC_START)` is hex with `0x`, `KERNELOFFSET` bare hex.

use bytes::Bytes;

/// The kernel's description of itself.
#[derive(Clone, Debug)]
pub struct VmCoreInfo {
    text: String,
    /// Physical address of the note in memory, if it was found there and not in the dump's own headers.
    pub at: Option<u64>,
}

impl VmCoreInfo {
    /// Longest text that is taken: the kernel's own is one page, and `vmcoreinfo_max_size` allows for one only.
    pub(crate) const MAX: usize = 1 << 16;

    /// Takes the text up to its first NUL. `at` is the physical address, if it was found in memory.
    pub fn parse(text: &Bytes, at: Option<u64>) -> VmCoreInfo {
        let text = text.get(..Self::MAX).unwrap_or(text);
        let text = text.split(|&b| b == 0).next().unwrap_or_default();
        VmCoreInfo { text: String::from_utf8_lossy(text).into_owned(), at }
    }

    /// The text itself, one `KEY=value` a line.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Every key and value, in the kernel's order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.text.lines().filter_map(|line| line.split_once('='))
    }

    /// The value of a key such as `OSRELEASE`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(k, _)| *k == key).map(|(_, value)| value)
    }

    /// `SYMBOL(name)`: its virtual address.
    pub fn symbol(&self, name: &str) -> Option<u64> {
        u64::from_str_radix(self.of("SYMBOL", name)?, 16).ok()
    }

    /// `NUMBER(name)`, as the two's complement value it is.
    pub fn number(&self, name: &str) -> Option<i64> {
        let text = self.of("NUMBER", name)?;
        match text.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).ok().map(|n| n as i64),
            None => text.parse().ok().or_else(|| text.parse::<u64>().ok().map(|n| n as i64)),
        }
    }

    /// `OFFSET(struct.member)` in bytes.
    pub fn offset(&self, member: &str) -> Option<u64> {
        self.of("OFFSET", member)?.parse().ok()
    }

    /// `SIZE(type)` in bytes.
    pub fn size(&self, name: &str) -> Option<u64> {
        self.of("SIZE", name)?.parse().ok()
    }

    /// `LENGTH(array)` in elements.
    pub fn length(&self, name: &str) -> Option<u64> {
        self.of("LENGTH", name)?.parse().ok()
    }

    /// How far KASLR moved the kernel: `KERNELOFFSET`.
    pub fn kaslr_offset(&self) -> Option<u64> {
        u64::from_str_radix(self.get("KERNELOFFSET")?, 16).ok()
    }

    /// `CRASHTIME`, seconds since 1970. Only a kernel that crashed writes it.
    pub fn crash_time(&self) -> Option<u64> {
        self.get("CRASHTIME")?.parse().ok()
    }

    fn of(&self, kind: &str, name: &str) -> Option<&str> {
        let key = |k: &str| k.strip_prefix(kind)?.strip_prefix('(')?.strip_suffix(')').map(|k| k == name);
        self.iter().find(|(k, _)| key(k) == Some(true)).map(|(_, value)| value)
    }
}

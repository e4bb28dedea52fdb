//! `.gnu_debuglink`: how a stripped file names the file that has its debug information; and `.gnu_debugaltlink`, or
//! `.debug_sup` of DWARF 5: how a file that went through dwz names the one with what it shares with others.

use std::sync::Arc;

use super::DebugFile;

/// Name and checksum of the other file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebugLink {
    /// without a directory
    pub name: String,
    /// CRC-32 of its contents
    pub crc: u32,
}

/// Path and build-id of a file with shared debug information.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AltLink {
    /// relative to the directory of the file that refers to it
    pub path: String,
    /// its build-id (in `.debug_sup`: whatever its own says)
    pub id: Vec<u8>,
}

impl DebugFile {
    /// The file with what this one shares with others.
    pub fn altlink(&self) -> Option<AltLink> {
        let gnu = self.section(".gnu_debugaltlink").ok().filter(|data| !data.is_empty());
        let standard = || {
            let data = self.section(".debug_sup").ok()?;
            // version, whether this is the shared one, then the path and the length of the id
            let [_, _, 0, ..] = *data else { return None };
            let path = data.get(3..)?;
            let end = path.iter().position(|&b| b == 0)?;
            let len = usize::from(*path.get(end + 1)?);
            Some((path.get(..end)?.to_vec(), path.get(end + 2..end + 2 + len)?.to_vec()))
        };
        let (path, id) = match gnu {
            Some(data) => {
                let end = data.iter().position(|&b| b == 0)?;
                (data.get(..end)?.to_vec(), data.get(end + 1..)?.to_vec())
            }
            None => standard()?,
        };
        Some(AltLink { path: String::from_utf8(path).ok()?, id })
    }

    /// The file with what this one shares with others, if it was found.
    pub fn shared(&self) -> Option<&DebugFile> {
        self.shared.as_deref()
    }

    /// Has it read with that one.
    pub(crate) fn sharing(&mut self, with: DebugFile) {
        self.shared = Some(Arc::new(with));
    }

    /// The file that this one refers to.
    pub fn debuglink(&self) -> Option<DebugLink> {
        let data = self.section(".gnu_debuglink").ok()?;
        let end = data.iter().position(|&b| b == 0)?;
        let name = std::str::from_utf8(data.get(..end)?).ok().filter(|name| !name.contains('/') && *name != "..")?;
        // the checksum is aligned to four bytes
        let crc = data.get((end + 1).next_multiple_of(4)..)?.first_chunk::<4>()?;
        let crc = if self.little_endian { u32::from_le_bytes(*crc) } else { u32::from_be_bytes(*crc) };
        Some(DebugLink { name: name.to_owned(), crc })
    }

    /// Whether this is the file that `stripped` refers to by `link`: by build-id, and where there is none by checksum.
    pub fn matches(&self, stripped: &DebugFile, link: &DebugLink) -> bool {
        match (self.build_id(), stripped.build_id()) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => {
                let mut crc = flate2::Crc::new();
                crc.update(&self.data);
                crc.sum() == link.crc
            }
        }
    }
}

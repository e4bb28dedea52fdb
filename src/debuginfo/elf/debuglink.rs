//! `.gnu_debuglink`: how a stripped file names the file that has its debug information.

use super::DebugFile;

/// Name and checksum of the other file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebugLink {
    /// without a directory
    pub name: String,
    /// CRC-32 of its contents
    pub crc: u32,
}

impl DebugFile {
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

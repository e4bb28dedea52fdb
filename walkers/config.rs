//! The configuration that a kernel was built with, where it holds a copy (CONFIG_IKCONFIG, kernel/configs.c): a gzip file
//! between two marks of eight bytes, in the kernel or in a module of the name `configs`.
//!
//! Symbols lead to it (`kernel_config_data`, and since Linux 5.1, 13610aa908dc, `kernel_config_data_end`). Debian, Fedora
//! and Red Hat leave it out and have the configuration in a file beside the kernel; Arch, SUSE, Android have it.
//!
//! ```console
//! > ::config
//! kmdb: ::config: this kernel holds no copy of its configuration (CONFIG_IKCONFIG)
//! ```

use engine::prelude::*;
use std::io::Read;

/// Stands in front of it, and behind.
const MARKS: (&[u8], &[u8]) = (b"IKCFG_ST", b"IKCFG_ED");
/// More than any configuration: packed, and unpacked.
const MAX_PACKED: u64 = 4 << 20;
const MAX_TEXT: u64 = 32 << 20;

/// Where it lies, packed, and how long it is.
fn place(session: &Session) -> Option<(u64, u64)> {
    let address = |name: &str| {
        let of_module = || session.symbols.in_module(session, "configs", name);
        session.kernel_symbol(name).or_else(of_module)
    };
    let start = address("kernel_config_data")?;
    let length = match address("kernel_config_data_end") {
        Some(end) => end.checked_sub(start)?,
        None => session.symbols.by_addr(session, start)?.size,
    };
    Some((start, length))
}

/// The text of the configuration, as in the file `.config`.
pub fn text(session: &Session) -> Result<String> {
    let Some((start, length)) = place(session).filter(|(_, length)| *length <= MAX_PACKED) else {
        return Err(Error::Unavailable("this kernel holds no copy of its configuration (CONFIG_IKCONFIG)".into())
            .hint("`/boot/config-RELEASE` of its package has it; `::status` tells the release"));
    };
    unpack(&session.bytes(start, length as usize)?)
}

fn unpack(packed: &[u8]) -> Result<String> {
    // the marks lie outside of the symbols, or, before Linux 5.1, inside of the array
    let packed = packed.strip_prefix(MARKS.0).unwrap_or(packed);
    let packed = packed.strip_suffix(MARKS.1).unwrap_or(packed);
    let mut bytes = Vec::new();
    let read = flate2::read::GzDecoder::new(packed).take(MAX_TEXT).read_to_end(&mut bytes);
    read.map_err(|e| Error::Unavailable(format!("the kernel's copy of its configuration is damaged: {e}")))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn marks_are_no_part_of_it() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"CONFIG_SMP=y\n").unwrap();
        let packed = gzip.finish().unwrap();
        let marked = [MARKS.0, &packed, MARKS.1].concat();
        for packed in [&packed, &marked] {
            assert_eq!(unpack(packed).unwrap(), "CONFIG_SMP=y\n");
        }
        assert!(unpack(&packed[..packed.len() - 9]).is_err() && unpack(b"").is_err());
    }
}

//! Where the lines typed at the prompt are kept: one file for each dump, `$XDG_STATE_HOME/kmdb/history/NAME-HASH`, since
//! what was asked about one dump is full of its addresses.

use std::path::{Path, PathBuf};

/// The history of a dump, in a directory that exists now; without a dump, that of running kernels.
pub fn file(dump: Option<&Path>) -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let state = state.or_else(|| Some(std::env::home_dir()?.join(".local/state")))?;
    let folder = state.join("kmdb/history");
    std::fs::create_dir_all(&folder).ok()?;
    Some(folder.join(dump.map_or_else(|| "live".to_owned(), name)))
}

/// `vmcore-1f0c…`: the file's name for people, its full path as a hash for what is unique.
fn name(dump: &Path) -> String {
    let full = dump.canonicalize().unwrap_or_else(|_| dump.to_owned());
    let file = full.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let plain: String = file.chars().filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c)).take(40).collect();
    format!("{plain}-{:016x}", fnv1a(full.as_os_str().as_encoded_bytes()))
}

/// A hash that stays the same whatever compiled it.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::name;
    use std::path::Path;

    #[test]
    fn each_dump_has_its_own() {
        let (a, b) = (name(Path::new("/no/such/a/vmcore")), name(Path::new("/no/such/b/vmcore")));
        assert!(a.starts_with("vmcore-") && b.starts_with("vmcore-") && a != b);
        assert_eq!(name(Path::new("/no/such/a/vmcore")), a);
    }
}

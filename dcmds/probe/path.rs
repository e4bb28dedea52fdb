//! `path(file->f_path)`: the names that lead from the root of all to a file, read at the hit.
//!
//! ```console
//! > ::probe k:vfs_read -c 3 | ::where comm == "cat" | ::print path(file) count
//! ```
//!
//! A `struct path` and a `struct file` know the mount they are in, and the way goes up through all mounts; a `struct
//! dentry` does not, and its way ends at the root of its filesystem.

use engine::{Type, debuginfo::TypeId, prelude::*};
use probes::expr::{Int, Space as Whose, Way, WayLayout};

/// What is in the parentheses of `path(…)`.
pub fn of(text: &str) -> Option<&str> {
    text.trim().strip_prefix("path(")?.strip_suffix(')')
}

/// The way up from a path, a file or a dentry in the kernel, given its address and type.
pub fn way(cx: &Cx<'_>, whose: Whose, at: Int, ctype: TypeId) -> Result<Way> {
    let cannot = || Error::Unavailable(format!("`{}` is no path, file or dentry", cx.types.spell(ctype)));
    let (Whose::Kernel, Some(Type::Struct { name: Some(name), .. })) = (whose, cx.shape(ctype).as_deref().cloned())
    else {
        return Err(cannot());
    };
    let small = |ctype: &str, member: &str| {
        i32::try_from(cx.offset(ctype, member)?).map_err(|_| Error::Unavailable(format!("{ctype}.{member} is too far")))
    };
    let load = |ctype: &str, member: &str| {
        Ok::<_, Error>(Int::load(Whose::Kernel, at.clone(), small(ctype, member)?, 8, false))
    };
    let (dentry, mount) = match &*name {
        "path" => (load("path", "dentry")?, Some(load("path", "mnt")?)),
        "file" => (load("file", "f_path.dentry")?, Some(load("file", "f_path.mnt")?)),
        "dentry" => (at.clone(), None),
        _ => return Err(cannot()),
    };
    let mount_at = small("mount", "mnt")?;
    let layout = WayLayout {
        parent: small("dentry", "d_parent")?,
        name: small("dentry", "d_name.name")?,
        root: small("vfsmount", "mnt_root")?,
        outer: small("mount", "mnt_parent")? - mount_at,
        place: small("mount", "mnt_mountpoint")? - mount_at,
        inner: mount_at,
    };
    Ok(Way { dentry, mount, layout })
}

/// The path of names that lie one behind the other, the last one first, each with its NUL; a mark behind them says that
/// there were more.
pub fn shown(bytes: &[u8]) -> String {
    let (names, mark) = bytes.split_at(bytes.len().saturating_sub(8));
    let cut = mark.iter().any(|b| *b != 0);
    let mut parts: Vec<_> = names.split(|b| *b == 0).take_while(|name| !name.is_empty()).collect();
    parts.reverse();
    let joined: String = parts.iter().map(|name| format!("/{}", String::from_utf8_lossy(name))).collect();
    match (cut, joined.is_empty()) {
        (true, _) => format!("…{joined}"),
        (false, true) => "/".to_owned(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_turned_round() {
        let bytes = |names: &[u8], mark: u8| [names, &[0; 8], &[mark], &[0; 7]].concat();
        assert_eq!(shown(&bytes(b"passwd\0etc\0", 0)), "/etc/passwd");
        assert_eq!(shown(&bytes(b"", 0)), "/");
        assert_eq!(shown(&bytes(b"c\0b\0", 1)), "…/b/c");
        assert_eq!(of("path(file->f_path)"), Some("file->f_path"));
        assert_eq!(of("pathology"), None);
    }
}

//! Files with debug information for a dump: where distributions put them, and whether they are of the same build.
//!
//! ```text
//! let search = Search::new(Some("6.12.0-1-amd64"), &roots);
//! let found = search.vmlinux(Some("7f76f39f…"));       // hex, as in VMCOREINFO's BUILD-ID
//! for why in &found.rejected { warn(why) }             // "…: build-id differs: dump 7f76…, file 3b43…"
//! ```

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::debuginfod::{self, Progress};
use crate::elf::DebugFile;
pub use crate::elf::Error;

/// Directories entered below `lib/modules/RELEASE`; the kernel's own tree is 8 deep.
const MAX_DEPTH: usize = 16;

/// Files looked at there; a distribution's kernel has 4 500 modules.
const MAX_FILES: usize = 200_000;

/// Ways in which a file may be packed or renamed.
const SUFFIXES: [&str; 8] = ["", ".debug", ".zst", ".xz", ".gz", ".bz2", ".lzma", ".lz4"];

/// A search for files that belong to one kernel.
pub struct Search {
    release: Option<String>,
    roots: Vec<PathBuf>,
    modules: OnceLock<HashMap<String, Vec<PathBuf>>>,
    progress: Option<Progress>,
}

/// What a search came to.
#[derive(Debug, Default)]
pub struct Found {
    /// the file; of several, one with DWARF
    pub file: Option<DebugFile>,
    /// whether its build-id was compared and is the dump's
    pub verified: bool,
    /// files in the right place that would not do, with the reason
    pub rejected: Vec<Error>,
}

impl Search {
    /// A search for the kernel of that release (`uname -r`) in the usual places, and before in `roots`: each may be a
    /// directory laid out like `/`, like `/usr/lib/debug`, or one that simply holds the files.
    pub fn new(release: Option<&str>, roots: &[PathBuf]) -> Search {
        Search::within(release, roots.iter().cloned().chain([PathBuf::from("/")]).collect())
    }

    fn within(release: Option<&str>, roots: Vec<PathBuf>) -> Search {
        // it came from a dump: a name, not a path to elsewhere
        let plain = |r: &&str| !r.is_empty() && *r != "." && *r != ".." && !r.contains(['/', '\0']);
        Search { release: release.filter(plain).map(str::to_owned), roots, modules: OnceLock::new(), progress: None }
    }

    /// The same, telling `progress` of what is fetched from servers.
    pub fn with(self, progress: Option<Progress>) -> Search {
        Search { progress, ..self }
    }

    /// The vmlinux with that build-id.
    pub fn vmlinux(&self, build_id: Option<&str>) -> Found {
        let named = self.roots.iter().flat_map(|root| self.vmlinux_names(root));
        self.or_fetch(pick(self.by_build_id(build_id).into_iter().chain(named), build_id), build_id)
    }

    /// What was found, or if it has no DWARF what the user's servers have.
    fn or_fetch(&self, mut found: Found, build_id: Option<&str>) -> Found {
        let Some(id) = build_id.filter(|_| found.file.as_ref().is_none_or(|file| !file.has_dwarf())) else {
            return found;
        };
        match debuginfod::fetch(id, self.progress) {
            None => found,
            Some(Err(why)) => {
                found.rejected.push(why);
                found
            }
            Some(Ok(path)) => {
                let fetched = pick(std::iter::once(path), build_id);
                found.rejected.extend(fetched.rejected);
                let rejected = found.rejected;
                match fetched.file {
                    Some(file) => Found { file: Some(file), verified: fetched.verified, rejected },
                    None => Found { rejected, ..found },
                }
            }
        }
    }

    /// The debug file of the module called `name` in the kernel. Its build-id is in the dump too
    /// (`/sys/module/NAME/notes`, `struct module_notes_attrs`).
    pub fn module(&self, name: &str, build_id: Option<&str>) -> Found {
        let named = self.modules.get_or_init(|| self.module_files()).get(&plain_name(name)).cloned();
        self.or_fetch(pick(self.by_build_id(build_id).into_iter().chain(named.unwrap_or_default()), build_id), build_id)
    }

    /// `.build-id/7f/76f39f….debug`, and the cache of debuginfod's client.
    fn by_build_id(&self, build_id: Option<&str>) -> Vec<PathBuf> {
        let (Some(id), Some(name)) = (build_id, build_id.and_then(id_path)) else { return Vec::new() };
        let trees = self.roots.iter().flat_map(|root| [root.join("usr/lib/debug"), root.clone()]);
        let mut out: Vec<_> = trees.map(|tree| tree.join(&name)).collect();
        out.extend(debuginfod::cached(id));
        out
    }

    fn vmlinux_names(&self, root: &Path) -> Vec<PathBuf> {
        let mut names = Vec::new();
        if let Some(release) = &self.release {
            names = vec![
                // Debian, Ubuntu, SUSE
                format!("usr/lib/debug/boot/vmlinux-{release}"),
                // Fedora, Red Hat
                format!("usr/lib/debug/lib/modules/{release}/vmlinux"),
                format!("usr/lib/debug/usr/lib/modules/{release}/vmlinux"),
                // a kernel built here
                format!("lib/modules/{release}/build/vmlinux"),
                format!("usr/lib/modules/{release}/build/vmlinux"),
                format!("boot/vmlinux-{release}"),
                // a root like /usr/lib/debug, or a plain directory
                format!("lib/modules/{release}/vmlinux"),
                format!("vmlinux-{release}"),
                format!("{release}/vmlinux"),
            ];
        }
        if root != Path::new("/") {
            names.push("vmlinux".to_owned());
        }
        names.iter().flat_map(|name| SUFFIXES.map(|suffix| root.join(format!("{name}{suffix}")))).collect()
    }

    /// All module files of the release, by name; debug files first.
    fn module_files(&self) -> HashMap<String, Vec<PathBuf>> {
        let mut out = HashMap::new();
        let mut left = MAX_FILES;
        for root in &self.roots {
            if let Some(release) = &self.release {
                for tree in ["usr/lib/debug/lib/modules", "usr/lib/debug/usr/lib/modules", "lib/modules"] {
                    collect(&root.join(tree).join(release), MAX_DEPTH, &mut left, &mut out);
                }
            }
            if root != Path::new("/") {
                collect(root, 1, &mut left, &mut out);
            }
        }
        out
    }
}

/// Compares a file's build-id with the dump's, in hex. `Ok(false)` if one of them has none to compare.
pub fn check_build_id(file: &DebugFile, dump: Option<&str>) -> Result<bool, Error> {
    let (Some(ours), Some(theirs)) = (dump, file.build_id().map(hex)) else { return Ok(false) };
    if ours.eq_ignore_ascii_case(&theirs) {
        return Ok(true);
    }
    Err(Error::BuildId { path: file.path().to_owned(), dump: ours.to_owned(), file: theirs })
}

/// A file that was stripped, and the one that has what it lost.
#[derive(Debug)]
pub struct Split {
    /// as it was opened
    pub file: DebugFile,
    /// what it refers to, if that was found; never where the file itself has DWARF
    pub debug: Option<DebugFile>,
    /// what it refers to and would not do, or is nowhere
    pub rejected: Vec<Error>,
}

impl Split {
    /// The one with DWARF, or else the one that was opened.
    pub fn best(self) -> DebugFile {
        self.debug.unwrap_or(self.file)
    }
}

/// Opens a file; if it was stripped, also the one that it refers to.
///
/// A stripped file may name its other half (`.gnu_debuglink`). That lies, as gdb has it, beside it, in `.debug` beside
/// it, or below a debug directory (`trees`, then `/usr/lib/debug`) in a directory of the same name; and by its build-id
/// below these.
pub fn open(path: impl AsRef<Path>, trees: &[PathBuf]) -> Result<Split, Error> {
    let file = DebugFile::open(path)?;
    let mut split = Split { file, debug: None, rejected: Vec::new() };
    if !split.file.has_dwarf() {
        split.find(trees);
    }
    let debug = split.debug.as_mut().unwrap_or(&mut split.file);
    if let Err(why) = share(debug, trees) {
        split.rejected.push(why);
    }
    Ok(split)
}

/// Finds what dwz moved out of a file: where that says, or by its build-id.
fn share(file: &mut DebugFile, trees: &[PathBuf]) -> Result<(), Error> {
    let Some(link) = file.altlink() else { return Ok(()) };
    let id = hex(&link.id);
    // as with other links the file may have been reached by a symbolic link, and the path counts from where it is
    let path = std::fs::canonicalize(file.path()).unwrap_or_else(|_| file.path().to_owned());
    let named = path.parent().map(|dir| dir.join(&link.path));
    let global = PathBuf::from("/usr/lib/debug");
    let by_id =
        id_path(&id).into_iter().flat_map(|name| trees.iter().chain([&global]).map(move |tree| tree.join(&name)));
    let found =
        named.into_iter().chain(by_id).chain(debuginfod::cached(&id)).filter(|path| path.is_file()).find_map(|path| {
            let shared = DebugFile::open(path).ok()?;
            let is_it = shared.build_id().is_none_or(|own| own == link.id);
            is_it.then_some(shared)
        });
    match found {
        Some(shared) => file.sharing(shared),
        None => return Err(Error::Shared { path: file.path().to_owned(), name: link.path, id }),
    }
    Ok(())
}

impl Split {
    fn find(&mut self, trees: &[PathBuf]) {
        let file = &self.file;
        let global = [PathBuf::from("/usr/lib/debug")];
        let trees = || trees.iter().chain(&global);
        let id = file.build_id().map(hex);
        let by_id = id.as_deref().and_then(id_path).into_iter();
        for path in by_id.flat_map(|name| trees().map(move |tree| tree.join(&name))).filter(|path| path.is_file()) {
            match DebugFile::open(&path).and_then(|other| check_build_id(&other, id.as_deref()).map(|_| other)) {
                Ok(other) if other.has_dwarf() => return self.debug = Some(other),
                Ok(_) => {}
                Err(why) => self.rejected.push(why),
            }
        }
        let Some(link) = file.debuglink() else { return };
        let dir = file.path().parent().unwrap_or(Path::new(""));
        let absolute = std::path::absolute(dir).unwrap_or_default();
        let below = absolute.strip_prefix("/").unwrap_or(&absolute);
        let places = [dir.to_owned(), dir.join(".debug")].into_iter().chain(trees().map(|tree| tree.join(below)));
        for path in places.map(|place| place.join(&link.name)).filter(|path| path.is_file()) {
            match DebugFile::open(&path) {
                Ok(other) if !other.has_dwarf() => {}
                Ok(other) if other.matches(file, &link) => return self.debug = Some(other),
                Ok(_) => self.rejected.push(Error::Link { path, of: file.path().to_owned() }),
                Err(why) => self.rejected.push(why),
            }
        }
    }
}

/// Where a build-id tree has the debug information of that id: `.build-id/7f/76f39f….debug`.
fn id_path(id: &str) -> Option<String> {
    let id = Some(id).filter(|id| id.len() > 2 && id.bytes().all(|b| b.is_ascii_hexdigit()))?.to_ascii_lowercase();
    let (dir, rest) = id.split_at(2);
    Some(format!(".build-id/{dir}/{rest}.debug"))
}

/// Bytes as hex digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Takes the first file of the right build that has DWARF, or else the first of the right build.
fn pick(candidates: impl Iterator<Item = PathBuf>, build_id: Option<&str>) -> Found {
    let mut found = Found::default();
    for path in candidates.filter(|path| path.is_file()) {
        let opened = open(&path, &[]).map(|split| {
            found.rejected.extend(split.rejected.iter().cloned());
            split.best()
        });
        let checked = opened.and_then(|file| Ok((check_build_id(&file, build_id)?, file)));
        match checked {
            Ok((verified, file)) if file.has_dwarf() => {
                return Found { file: Some(file), verified, rejected: found.rejected };
            }
            Ok((verified, file)) if found.file.is_none() => (found.file, found.verified) = (Some(file), verified),
            Ok(_) => {}
            Err(why) => found.rejected.push(why),
        }
    }
    found
}

/// Gathers module files below `dir`.
fn collect(dir: &Path, depth: usize, left: &mut usize, out: &mut HashMap<String, Vec<PathBuf>>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let Some(less) = left.checked_sub(1) else { return };
        *left = less;
        let Ok(kind) = entry.file_type() else { continue };
        // links to directories are not followed: `build` and `source` lead out of the tree, and links may be loops
        if kind.is_dir() {
            if depth > 1 {
                collect(&entry.path(), depth - 1, left, out);
            }
        } else if let Some(name) = module_name(&entry.path()) {
            out.entry(name).or_default().push(entry.path());
        }
    }
}

/// The module's name if `file` is called like a module's file: `virtio-rng.ko.debug` is `virtio_rng`.
pub fn module_name(file: &Path) -> Option<String> {
    let (stem, rest) = file.file_name()?.to_str()?.split_once(".ko")?;
    let packed = rest.strip_prefix(".debug").unwrap_or(rest);
    (SUFFIXES.contains(&rest) || SUFFIXES.contains(&packed)).then(|| plain_name(stem))
}

/// The kernel's names have `_` where file names may have `-`.
fn plain_name(name: &str) -> String {
    name.replace('-', "_")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_of_module_files() {
        assert_eq!(module_name(Path::new("a/virtio-rng.ko.debug")).as_deref(), Some("virtio_rng"));
        assert_eq!(module_name(Path::new("ext4.ko.xz")).as_deref(), Some("ext4"));
        assert_eq!(module_name(Path::new("modules.dep")), None);
        assert_eq!(module_name(Path::new("a.kobj")), None);
    }

    #[test]
    fn a_release_is_a_name() {
        assert!(Search::within(Some("../../etc"), Vec::new()).release.is_none());
        assert!(Search::within(Some(".."), Vec::new()).release.is_none());
        assert_eq!(Search::within(Some("6.1.0-37-amd64"), Vec::new()).release.as_deref(), Some("6.1.0-37-amd64"));
    }

    #[test]
    fn an_id_that_is_no_hex_names_no_file() {
        let search = Search::within(None, vec![PathBuf::from("/r")]);
        assert!(search.by_build_id(Some("ab/../../x")).is_empty());
        let paths = search.by_build_id(Some("ABCDEF"));
        assert!(paths.contains(&PathBuf::from("/r/usr/lib/debug/.build-id/ab/cdef.debug")), "{paths:?}");
    }

    #[test]
    fn files_where_distributions_put_them() {
        let root = tempfile::tempdir().unwrap();
        let data = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata"));
        let put = |from: &str, to: &str| {
            let to = root.path().join(to);
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(data.join(from), to).unwrap();
        };
        let id = hex(DebugFile::open(data.join("tiny-v5")).unwrap().build_id().unwrap());
        let module = hex(DebugFile::open(data.join("tiny.ko")).unwrap().build_id().unwrap());
        let search = || Search::within(Some("6.0-test"), vec![root.path().to_owned()]);

        put("tiny-v4", "usr/lib/debug/boot/vmlinux-6.0-test");
        let found = search().vmlinux(Some(&id));
        assert!(found.file.is_none());
        let why = found.rejected.first().unwrap().to_string();
        assert!(why.contains(&format!("build-id differs: dump {id}, file ")), "{why}");
        // without an id to compare, the name has to do
        let found = search().vmlinux(None);
        assert!(found.file.is_some() && !found.verified);

        put("tiny-stripped", "boot/vmlinux-6.0-test");
        let found = search().vmlinux(Some(&id));
        assert!(found.verified && !found.file.unwrap().has_dwarf());
        put("tiny-v5.xz", "lib/modules/6.0-test/vmlinux.xz");
        let found = search().vmlinux(Some(&id.to_uppercase()));
        assert!(found.verified && found.file.unwrap().has_dwarf());

        put("tiny.ko", "usr/lib/debug/lib/modules/6.0-test/kernel/drivers/tiny-mod.ko.debug");
        assert!(search().module("tiny_mod", Some(&module)).verified);
        assert!(search().module("tiny_mod", None).file.is_some());
        assert!(search().module("other", None).file.is_none());
        put("tiny.ko", &format!("usr/lib/debug/.build-id/{}/{}.debug", &module[..2], &module[2..]));
        assert!(search().module("other", Some(&module)).verified);
    }
}

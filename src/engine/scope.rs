//! What names mean in an expression: variables, registers, symbols, memory.

use crate::{
    cx::Cx,
    lang::{eval::Scope, printf::Names},
};

/// Variables that there are from the start, as they tell of the target.
pub const INBORN: [&str; 7] = [".", "b", "d", "e", "m", "t", "thread"];

/// Variables that are there, and 0, before anything sets them: the last value that a format letter read (`0`), the last
/// address that one began at and the one before (`1`, `2`), the count given to the last `$<` (`9`), and two of mdb's that
/// stay 0.
pub const COUNTERS: [&str; 6] = ["0", "1", "2", "9", "_", "hits"];

/// A variable that nobody set: adb's `b d e m t` (base and size of data, entry, magic number, size of text), the task
/// that the registers are of, dot, and the [`COUNTERS`].
pub fn inborn(cx: &Cx<'_>, name: &str) -> Option<u64> {
    let symbol = |name| cx.symbols.kernel_address(name);
    let between = |from, to| Some(symbol(to)?.wrapping_sub(symbol(from)?));
    let found = match name {
        "." => return Some(cx.env.dot.get()),
        "b" => symbol("_sdata"),
        "d" => between("_sdata", "_edata"),
        "e" => symbol("startup_64").or_else(|| symbol("_text")),
        // what an ELF file begins with, read as a number
        "m" => Some(0x464c_457f),
        "t" => between("_stext", "_etext"),
        "thread" => return (cx.registry.thread)(cx),
        name if COUNTERS.contains(&name) => None,
        _ => return None,
    };
    Some(found.unwrap_or(0))
}

/// A symbol of a source file (`` dcache.c`sym ``, `` fs/dcache`sym ``): for names that are static in several, which
/// only line tables can tell apart. The file may be given by the end of its path, with or without `.c`.
fn in_file(cx: &Cx<'_>, module: Option<&str>, file: &str, name: &str) -> Option<u64> {
    let wanted = file.strip_suffix(".c").unwrap_or(file);
    let in_it = |found: &debuginfo::Symbol| {
        let of = found.module.as_deref().unwrap_or("vmlinux");
        let module = module.is_none_or(|m| m == of || (m == "kernel" && of == "vmlinux"));
        module && cx.source_file(found.addr).is_some_and(|path| is_path_end(&path, wanted))
    };
    cx.symbols.by_name(cx, name).iter().find(|s| in_it(s)).map(|s| s.addr)
}

/// Whether a path without its ending ends in the names of `wanted`.
fn is_path_end(path: &str, wanted: &str) -> bool {
    let path = path.rsplit_once('.').map_or(path, |(stem, _)| stem);
    path.strip_suffix(wanted).is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
}

/// The scope of a command.
pub struct CxScope<'c, 'a>(pub &'c Cx<'a>);

impl Scope for CxScope<'_, '_> {
    fn dot(&self) -> u64 {
        self.0.env.dot.get()
    }
    fn last_dot(&self) -> u64 {
        self.0.env.last_dot.get()
    }
    fn increment(&self) -> u64 {
        self.0.env.increment.get()
    }
    fn radix(&self) -> u32 {
        self.0.env.radix.get()
    }

    /// A variable, else one that there is from the start, else a register of the representative CPU: the one that
    /// crashed.
    fn var(&self, name: &str) -> Option<u64> {
        let found = self.0.env.vars.borrow().get(name).copied();
        found.or_else(|| inborn(self.0, name)).or_else(|| self.0.registers()?.get(name))
    }

    fn symbol(&self, scopes: &[String], name: &str) -> Option<u64> {
        match scopes {
            [] => self.0.symbols.address(self.0, name),
            [one] => self.0.symbols.in_module(self.0, one, name).or_else(|| in_file(self.0, None, one, name)),
            [module, file, ..] => in_file(self.0, Some(module), file, name),
        }
    }

    fn read(&self, _object: bool, addr: u64, size: u8) -> Result<u64, String> {
        let mut buf = [0; 8];
        let size = usize::from(size).clamp(1, 8);
        self.0.read_in(self.0.env.space.get(), addr, &mut buf[..size]).map_err(|e| e.kind())?;
        Ok(u64::from_le_bytes(buf))
    }
}

impl Names for CxScope<'_, '_> {
    fn symbol(&self, addr: u64) -> Option<(String, u64)> {
        let symbol = self.0.symbols.by_addr(self.0, addr)?;
        let name = match &symbol.module {
            Some(module) => format!("{module}`{}", symbol.name),
            None => symbol.name,
        };
        Some((name, addr.wrapping_sub(symbol.addr)))
    }

    fn time(&self, seconds: i64) -> Option<String> {
        crate::cprint::scalar::date(seconds)
    }

    fn radix(&self) -> u32 {
        self.0.env.radix.get()
    }
}

#[cfg(test)]
mod tests {
    use super::is_path_end;

    #[test]
    fn files_are_known_by_the_end_of_their_path() {
        assert!(is_path_end("/build/linux/fs/dcache.c", "dcache"));
        assert!(is_path_end("/build/linux/fs/dcache.c", "fs/dcache"));
        assert!(is_path_end("fs/dcache.c", "fs/dcache"));
        assert!(!is_path_end("fs/dcache.c", "cache"));
        assert!(!is_path_end("fs/dcache.c", "mm/dcache"));
    }
}

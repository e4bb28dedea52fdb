//! Words of other debuggers: what fingers trained on crash, gdb or drgn type first.
//!
//! ```console
//! > ps
//! kmdb: failed to dereference symbol 'ps': unknown symbol name
//! ps
//! ^^
//!       crash's `ps` is `::ps`
//! > rd ffffffff82a0a000 10
//!       crash's `rd` is `ffffffff82a0a000/10J`
//! ```
//!
//! `help`, `quit`, `q`, `exit` and `?` simply work. The others only tell how they are spelled, and only where the line is
//! no command of kmdb's own.

use engine::Registry;

/// What a line of another debugger is here.
struct Entry {
    /// whose it is
    tool: &'static str,
    /// its first words
    words: &'static str,
    /// spellings here, the best first; `$1` and `$2` are the words behind, or else what stands in brackets: `$1[ADDR]`.
    /// The first one counts whose dcmds all exist.
    here: &'static [&'static str],
}

const fn crash(words: &'static str, here: &'static [&'static str]) -> Entry {
    Entry { tool: "crash's", words, here }
}
const fn gdb(words: &'static str, here: &'static [&'static str]) -> Entry {
    Entry { tool: "gdb's", words, here }
}
const fn drgn(words: &'static str, here: &'static [&'static str]) -> Entry {
    Entry { tool: "drgn's", words, here }
}

/// Longer ones before those that they begin with.
static TABLE: &[Entry] = &[
    crash("foreach bt", &["::stacks", "::walk thread | ::findstack"]),
    crash("foreach files", &["::walk task | ::pfiles", "::walk task | ::print files"]),
    crash("foreach", &["::walk task | ::… "]),
    crash("ps", &["::ps"]),
    crash("bt -a", &["::walk cpu | ::cpustack", "::cpuinfo -v", "::stacks"]),
    crash("bt", &["0t$1[PID]::pid2task | ::findstack -v", "0t$1[PID]::pid2task | ::findstack"]),
    crash("kmem -s", &["::kmastat", "::kmem_cache"]),
    crash("kmem -S", &["::kmem_slabs -v", "::kmem_cache"]),
    crash("kmem -i", &["::memstat", "::status"]),
    crash("kmem -p", &["$1[ADDR]::page", "$1[ADDR]::whatis"]),
    crash("kmem -v", &["::vmap_area", "::walk vmap_area", "::apropos vmap"]),
    crash("kmem", &["$1[ADDR]::whatis"]),
    crash("log", &["::msgbuf"]),
    crash("dmesg", &["::msgbuf"]),
    crash("struct", &["$2[ADDR]::print struct $1[NAME]"]),
    crash("union", &["$2[ADDR]::print union $1[NAME]"]),
    crash("files", &["0t$1[PID]::pid2task | ::pfiles", "0t$1[PID]::pid2task | ::print files"]),
    crash("mod", &["::modules"]),
    crash("lsmod", &["::modules"]),
    crash("sys", &["::status"]),
    crash("mach", &["::status"]),
    crash("mount", &["::mounts", "::mount", "::fsinfo"]),
    crash("vtop", &["$1[ADDR]::vtop"]),
    crash("rd", &["$1[ADDR]/$2[10]J"]),
    crash("wr", &["::help (a dump is never written to)"]),
    crash("dis", &["$1[FUNC]::dis"]),
    crash("sym", &["$1[ADDR]=P"]),
    crash("p", &["$1[NAME]::print"]),
    crash("px", &["$1[NAME]::print -x"]),
    crash("pd", &["$1[NAME]::print -d"]),
    crash("task", &["0t$1[PID]::pid2task | ::print struct task_struct"]),
    crash("set", &["0t$1[PID]::pid2task | ::context"]),
    crash(
        "vm",
        &["0t$1[PID]::pid2task | ::mappings", "0t$1[PID]::pid2task | ::pmap", "0t$1[PID]::pid2task | ::print mm"],
    ),
    crash("search", &["$1[VALUE]::kgrep", "0/M $1[VALUE]"]),
    crash("list", &["$1[HEAD]::list TYPE MEMBER"]),
    crash("tree", &["$1[ROOT]::walk rbtree", "$1[ROOT]::print struct rb_root"]),
    crash("runq", &["::runq", "::cpuinfo -v", "::walk task | ::where '__state == 0'"]),
    crash("timer", &["::timer", "::walk timer", "jiffies::print"]),
    crash("irq", &["::interrupts", "::irq", "::walk irq_desc", "::apropos irq"]),
    crash("dev", &["::devices", "::walk device", "::apropos device"]),
    crash("net", &["::netdev", "::netstat", "::walk netdev", "::apropos net"]),
    crash("swap", &["::swapinfo", "::memstat", "swap_info::print"]),
    crash("ipcs", &["::ipcs", "init_ipc_ns::print"]),
    crash("whatis", &["::print -t struct $1[NAME]"]),
    crash("eval", &["$1[EXPRESSION]=X"]),
    crash("pte", &["$1[ADDR]::vtop"]),
    crash("gdb", &["::help"]),
    crash("fuser", &["::whereopen", "$1[ADDR]::kgrep | ::whatis"]),
    crash("waitq", &["$1[ADDR]::list struct wait_queue_entry entry"]),
    gdb("info threads", &["::ps -t"]),
    gdb("info registers", &["::regs"]),
    gdb("info reg", &["::regs"]),
    gdb("info symbol", &["$1[ADDR]=P"]),
    gdb("info line", &["$1[ADDR]::dis"]),
    gdb("info", &["::status"]),
    gdb("backtrace", &["::stack", "$c"]),
    gdb("where", &["::stack", "$c"]),
    gdb("thread", &["0t$1[PID]::pid2task | ::findstack", "0t$1[PID]::pid2task"]),
    gdb("disassemble", &["$1[FUNC]::dis"]),
    gdb("disas", &["$1[FUNC]::dis"]),
    gdb("print", &["$1[NAME]::print"]),
    gdb("ptype", &["::print -t $1[struct] $2[NAME]"]),
    gdb("x", &["$1[ADDR]/10J"]),
    gdb("source", &["::source $1[FILE]"]),
    gdb("shell", &["! $1[COMMAND]"]),
    gdb("define", &["::macro NAME 'HELP' 'PIPELINE'"]),
    drgn("for_each_task", &["::walk task"]),
    drgn("find_task", &["0tPID::pid2task"]),
    drgn("stack_trace", &["0tPID::pid2task | ::findstack"]),
    drgn("prog", &["NAME::print", "init_task::print"]),
    drgn("from", &["::help"]),
    drgn("import", &["::help"]),
];

/// What a line that simply works stands for: `help`, `?`, `quit`.
pub fn own(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let first = words.next()?;
    match (first, words.next(), words.next()) {
        ("q" | "quit" | "exit", None, _) => Some("::quit".into()),
        ("help" | "?", None, _) => Some("::help".into()),
        ("help" | "man", Some(name), None) if name.chars().all(|c| c.is_ascii_alphanumeric() || "_:$".contains(c)) => {
            Some(format!("::help {}", name.trim_start_matches(':')))
        }
        _ => None,
    }
}

/// How a line of another debugger is spelled here: `` crash's `ps` is `::ps` ``.
pub fn advice(registry: &Registry, line: &str) -> Option<String> {
    let (entry, here) = find(registry, line)?;
    Some(format!("{} `{}` is `{here}`", entry.tool, entry.words))
}

/// The spelling alone, while the line is being typed.
pub fn hint(registry: &Registry, line: &str) -> Option<String> {
    find(registry, line).map(|(_, here)| here)
}

fn find(registry: &Registry, line: &str) -> Option<(&'static Entry, String)> {
    let given: Vec<&str> = line.split([' ', '\t', '(', ')', '[', ']', '/']).filter(|w| !w.is_empty()).collect();
    let begins = |entry: &&Entry| {
        let mut words = entry.words.split(' ').enumerate();
        words.all(|(i, word)| given.get(i) == Some(&word))
    };
    let entry = TABLE.iter().find(begins)?;
    // `ps/X` and `log+8` are ours
    let end = line.trim_start().get(given.first()?.len()..).and_then(|rest| rest.chars().next());
    if !matches!((entry.words, end), (_, None | Some(' ' | '\t')) | ("x", Some('/'))) && entry.tool != "drgn's" {
        return None;
    }
    let skip = entry.words.split(' ').count() + usize::from(entry.words == "x" && end == Some('/'));
    let rest: Vec<&str> = given.iter().skip(skip).filter(|w| !w.starts_with('-')).copied().collect();
    let here = entry.here.iter().find(|text| exists(registry, text)).or(entry.here.last())?;
    Some((entry, filled(here, &rest)))
}

/// Whether every dcmd of a spelling, and every walker, is known.
fn exists(registry: &Registry, text: &str) -> bool {
    let name = |rest: &str| {
        rest.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).next().unwrap_or_default().to_owned()
    };
    let dcmds = text.split("::").skip(1).map(name).all(|n| n.is_empty() || registry.dcmd(&n).is_some());
    dcmds && text.split("::walk ").skip(1).map(name).all(|n| registry.walker(&n).is_some())
}

/// `$1[ADDR]` is the first word, or ADDR if there is none.
fn filled(text: &str, words: &[&str]) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((plain, tail)) = rest.split_once('$') {
        out.push_str(plain);
        let (number, tail) = tail.split_at_checked(1).unwrap_or(("", tail));
        let number: Option<usize> = number.parse().ok();
        let (default, behind) = tail.strip_prefix('[').and_then(|t| t.split_once(']')).unwrap_or(("", tail));
        match number.and_then(|n| words.get(n - 1)) {
            Some(word) => out.push_str(word),
            None if number.is_some() => out.push_str(default),
            None => out.push('$'),
        }
        rest = if number.is_some() { behind } else { tail };
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::{TABLE, advice, exists, hint, own};
    use crate::registry::REGISTRY;

    #[test]
    fn first_words() {
        let here = |line| hint(&REGISTRY, line).unwrap_or_default();
        assert_eq!(advice(&REGISTRY, "ps").as_deref(), Some("crash's `ps` is `::ps`"));
        assert_eq!(here("struct task_struct"), "ADDR::print struct task_struct");
        assert_eq!(here("struct task_struct ffff8881"), "ffff8881::print struct task_struct");
        assert_eq!(here("rd ffff8881 4"), "ffff8881/4J");
        assert_eq!(here("p jiffies"), "jiffies::print");
        assert_eq!(here("x/10gx jiffies"), "jiffies/10J");
        assert_eq!(
            here("kmem -s"),
            "::kmastat"
                .to_owned()
                .replace("kmastat", if REGISTRY.dcmd("kmastat").is_some() { "kmastat" } else { "kmem_cache" })
        );
        assert_eq!(here("prog['init_task']"), "NAME::print");
        for ours in ["ps/X", "log+8/J", "::ps", "jiffies", "p+1=K", "", "psx"] {
            assert_eq!(hint(&REGISTRY, ours), None, "{ours}");
        }
    }

    #[test]
    fn what_is_advised_exists() {
        for entry in TABLE {
            assert!(entry.here.iter().any(|text| exists(&REGISTRY, text)), "{}: {:?}", entry.words, entry.here);
        }
    }

    #[test]
    fn some_simply_work() {
        assert_eq!(own(" help ").as_deref(), Some("::help"));
        assert_eq!(own("help ::ps").as_deref(), Some("::help ps"));
        assert_eq!(own("q").as_deref(), Some("::quit"));
        assert_eq!(own("?").as_deref(), Some("::help"));
        for line in ["q+1", "?X", "help a b", "exit/X", ""] {
            assert_eq!(own(line), None, "{line}");
        }
    }
}

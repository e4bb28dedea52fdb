//! Symbol tables: `::nm`, and `::nmadd`, `::nmdel` for names of one's own.
//!
//! ```console
//! > ::nm '^kmalloc_caches$'
//! VALUE            SIZE             TYPE BIND OBJECT  NAME
//! ffffffffb1f75c20 0000000000000230 OBJT GLOB vmlinux kmalloc_caches
//! > ::nm labmod | ::where kind == "FUNC" | ::head -2
//! VALUE            SIZE             TYPE BIND OBJECT NAME
//! ffffffffc0584010 000000000000001e FUNC LOCL labmod lab_stamp
//! ffffffffc0584040 0000000000000028 FUNC LOCL labmod lab_waiter
//! > ff2b352c01348040::nmadd -s 100 first
//! added first, value=ff2b352c01348040 size=100
//! ```

use crate::{
    types::regex,
    words::{check_variable, row_about},
};
use engine::{
    IntoRow,
    debuginfo::{Symbol, SymbolKind, SymbolSource},
    lang::number::{digits, unambiguous},
    prelude::*,
};
use regex::Regex;
use std::ops::ControlFlow;

/// Print symbol tables.
///
/// Without arguments all symbols of the kernel and its modules, in the order of their tables; with the name of a
/// module, or `vmlinux` for the kernel proper, only its own; with a regular expression, those whose name matches. With
/// an address, the symbol there.
#[derive(Args)]
pub struct Nm {
    /// the dynamic symbol table: the kernel has none, and this is the only one
    #[arg(short = 'D')]
    dynamic: bool,
    /// only the names that ::nmadd gave
    #[arg(short = 'P')]
    private: bool,
    /// values and sizes in decimal
    #[arg(short = 'd', conflicts_with_all = ["octal", "hex"])]
    decimal: bool,
    /// only global symbols
    #[arg(short = 'g')]
    global: bool,
    /// no heading, and columns set apart by `|`
    #[arg(short = 'h')]
    headless: bool,
    /// sorted by name
    #[arg(short = 'n', conflicts_with = "by_value")]
    by_name: bool,
    /// values and sizes in octal
    #[arg(short = 'o', conflicts_with = "hex")]
    octal: bool,
    /// as ::nmadd commands
    #[arg(short = 'p')]
    commands: bool,
    /// only undefined symbols
    #[arg(short = 'u')]
    undefined: bool,
    /// sorted by value
    #[arg(short = 'v')]
    by_value: bool,
    /// values and sizes in hexadecimal
    #[arg(short = 'x')]
    hex: bool,
    /// only these types: func, objt, pcpu, noty
    #[arg(short = 't', value_name = "TYPES", value_delimiter = ',')]
    types: Vec<String>,
    /// only these columns, set apart by `|`: ndx, val, sz, type, bind, oth, shndx, name, ctype, obj
    #[arg(short = 'f', value_name = "COLUMNS", value_delimiter = ',')]
    columns: Vec<String>,
    #[arg(skip)]
    shown: std::cell::Cell<u64>,
    /// a module and a regular expression, or one of them
    #[arg(value_name = "OBJECT PATTERN", num_args = 0..=2)]
    words: Vec<String>,
}

/// A symbol.
#[derive(Row)]
pub struct NmRow {
    /// address; of a per-CPU variable, its offset in the per-CPU area
    value: Cell,
    /// in bytes, from the table or up to the next symbol
    size: Cell,
    /// FUNC code, OBJT data, PCPU a per-CPU variable, NOTY neither
    #[heading("TYPE")]
    kind: &'static str,
    /// GLOB global, WEAK weak, LOCL local
    bind: &'static str,
    /// the module, or vmlinux
    object: String,
    /// its name
    name: String,
}

fn kind(symbol: &Symbol) -> &'static str {
    match symbol.kind {
        SymbolKind::Text => "FUNC",
        SymbolKind::Data => "OBJT",
        SymbolKind::PerCpu => "PCPU",
        SymbolKind::Other => "NOTY",
    }
}

fn bind(symbol: &Symbol) -> &'static str {
    match symbol.letter {
        'w' | 'W' | 'v' | 'V' => "WEAK",
        letter if letter.is_ascii_uppercase() || letter == 'u' => "GLOB",
        _ => "LOCL",
    }
}

impl Dcmd for Nm {
    const NAME: &'static str = "nm";
    const ROWS: &'static [&'static engine::Schema] = &[<NmRow as IntoRow>::SCHEMA];

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        for t in &self.types {
            match t.as_str() {
                "func" | "objt" | "pcpu" | "noty" => {}
                // an ELF file has them, kallsyms does not
                "sect" | "file" | "comm" | "tls" | "regi" => {}
                _ => return Err(Error::Usage(format!("`{t}` is no type of symbol: func, objt, pcpu, noty"))),
            }
        }
        if let Some(bad) = self.columns.iter().find(|c| field(c).is_none()) {
            let all: Vec<&str> = FIELDS.iter().map(|(name, ..)| *name).collect();
            return Err(Error::Usage(format!("`{bad}` is no column")).hint(format!("there are {}", all.join(", "))));
        }
        if let Some(object) = at {
            let symbol = cx.symbols.by_addr(cx, object.addr).ok_or_else(|| {
                Error::Usage(format!("no symbol at {:#x}", object.addr)).hint("`ADDR::whatis` looks beyond symbols")
            })?;
            return self.show(cx, symbol, out);
        }
        if self.dynamic {
            return Err(Error::Usage("the kernel has no dynamic symbol table".into()).hint("`::nm` without -D"));
        }
        let (object, pattern) = self.selection(cx)?;
        if !(self.by_name || self.by_value) {
            return self.each(cx, object, pattern.as_ref(), &mut |symbol| self.show(cx, symbol, out));
        }
        let mut all = Vec::new();
        self.each(cx, object, pattern.as_ref(), &mut |symbol| {
            all.push(symbol);
            Ok(())
        })?;
        match self.by_name {
            true => all.sort_by(|a, b| a.name.cmp(&b.name)),
            false => all.sort_by_key(|s| s.addr),
        }
        all.into_iter().try_for_each(|symbol| self.show(cx, symbol, out))
    }
}

impl Nm {
    /// The object and the pattern that the words mean.
    fn selection(&self, cx: &Cx<'_>) -> Result<(Option<&str>, Option<Regex>)> {
        let is_object = |word: &str| {
            matches!(word, "vmlinux" | "kernel") || cx.symbols.modules(cx).iter().any(|m| &*m.name == word)
        };
        match &self.words[..] {
            [] => Ok((None, None)),
            [one] if is_object(one) => Ok((Some(one), None)),
            [one] => Ok((None, Some(regex(one)?))),
            [object, pattern, ..] if is_object(object) => Ok((Some(object), Some(regex(pattern)?))),
            [object, ..] => {
                let names: Vec<_> = cx.symbols.modules(cx).iter().map(|m| m.name.to_string()).collect();
                let hint = engine::names::did_you_mean(object, names.iter().map(String::as_str));
                let error = Error::Usage(format!("no module `{object}`"));
                Err(hint.map_or_else(|| Error::Usage(format!("no module `{object}`")), |h| error.hint(h)))
            }
        }
    }

    fn wanted(&self, symbol: &Symbol, pattern: Option<&Regex>) -> bool {
        (self.types.is_empty() || self.types.contains(&kind(symbol).to_lowercase()))
            && (!self.global || bind(symbol) == "GLOB")
            && (!self.undefined || symbol.letter == 'U')
            && pattern.is_none_or(|p| p.is_match(&symbol.name))
    }

    fn each(
        &self,
        cx: &Cx<'_>,
        object: Option<&str>,
        pattern: Option<&Regex>,
        visit: &mut dyn FnMut(Symbol) -> Result<()>,
    ) -> Result<()> {
        if self.private {
            return cx
                .symbols
                .private()
                .into_iter()
                .try_for_each(|symbol| if self.wanted(&symbol, pattern) { visit(symbol) } else { Ok(()) });
        }
        let mut table = |source: &dyn SymbolSource| {
            let mut flow = ControlFlow::Continue(());
            source.each(&mut |symbol| {
                if self.wanted(&symbol, pattern)
                    && let Err(e) = visit(symbol)
                {
                    flow = ControlFlow::Break(e);
                }
                flow.is_continue()
            });
            match flow {
                ControlFlow::Break(e) => Err(e),
                ControlFlow::Continue(()) => Ok(()),
            }
        };
        if object.is_none_or(|o| matches!(o, "vmlinux" | "kernel"))
            && let Some(kernel) = cx.symbols.kernel()
        {
            table(&**kernel)?;
        }
        let modules = match object {
            Some("vmlinux" | "kernel") => &[],
            _ => cx.symbols.modules(cx),
        };
        for module in modules.iter().filter(|m| object.is_none_or(|o| o == &*m.name)) {
            match &module.symbols {
                Some(symbols) => table(&**symbols)?,
                None => cx.notes.add(module.addr, "the symbols of a module could not be read"),
            }
        }
        Ok(())
    }

    fn show(&self, cx: &Cx<'_>, symbol: Symbol, out: &mut Out<'_>) -> Result<()> {
        let radix = match (self.decimal, self.octal, self.hex, cx.env.radix.get()) {
            (true, ..) | (_, false, false, 10) => 10,
            (_, true, ..) | (_, _, false, 8) => 8,
            _ => 16,
        };
        if self.commands && !out.piped {
            let (addr, size) = (unambiguous(symbol.addr, 16), unambiguous(symbol.size, 16));
            let flag = match symbol.kind {
                SymbolKind::Text => "-f ",
                SymbolKind::Data => "-o ",
                _ => "",
            };
            return out.line(format!("{addr}::nmadd {flag}-s {size} {}", symbol.name));
        }
        let index = self.shown.replace(self.shown.get() + 1);
        if (self.headless || !self.columns.is_empty()) && !out.piped {
            let columns: Vec<&str> = match self.columns.is_empty() {
                true => vec!["val", "sz", "type", "bind", "oth", "shndx", "name"],
                false => self.columns.iter().map(String::as_str).collect(),
            };
            // in the order of the table, whatever the order in which they were asked for
            let chosen: Vec<_> = FIELDS.iter().filter(|(name, ..)| columns.contains(name)).collect();
            if index == 0 && !self.headless {
                let heads = chosen.iter().map(|(_, heading, width)| match radix {
                    16 | 10 | 8 if *width == NUMBER => format!("{heading:width$}", width = number_width(radix)),
                    _ => format!("{heading:width$}"),
                });
                out.line(heads.collect::<Vec<_>>().join(" ").trim_end().to_owned())?;
            }
            let cells = chosen.iter().map(|(name, _, width)| self.cell(cx, &symbol, (name, *width), radix, index));
            return out.line(cells.collect::<Vec<_>>().join("|"));
        }
        let cell = |v: u64| match radix {
            16 => Cell::Addr(v),
            10 => Cell::Uint(v),
            radix => Cell::Str(digits(v, radix)),
        };
        let row = NmRow {
            value: cell(symbol.addr),
            size: cell(symbol.size),
            kind: kind(&symbol),
            bind: bind(&symbol),
            object: symbol.module.as_deref().unwrap_or("vmlinux").to_owned(),
            name: symbol.name.clone(),
        };
        let ctype = if out.piped { cx.type_of_symbol(&symbol) } else { None };
        row_about(out, row, Object { addr: symbol.addr, ctype })
    }
}

/// Marks a column of numbers: how wide it is depends on the radix.
const NUMBER: usize = 0;

/// The columns of `-f`, with their headings and widths, in mdb's order.
const FIELDS: [(&str, &str, usize); 10] = [
    ("ndx", "Index", 5),
    ("obj", "Object", 15),
    ("val", "Value", NUMBER),
    ("sz", "Size", NUMBER),
    ("type", "Type", 5),
    ("bind", "Bind", 5),
    ("oth", "Other", 5),
    ("shndx", "Shndx", 8),
    ("ctype", "C Type", 50),
    ("name", "Name", 1),
];

fn field(name: &str) -> Option<&'static (&'static str, &'static str, usize)> {
    FIELDS.iter().find(|(known, ..)| *known == name)
}

/// Columns that a 64-bit number takes.
fn number_width(radix: u32) -> usize {
    match radix {
        16 => 18,
        8 => 23,
        _ => 20,
    }
}

impl Nm {
    /// A cell of the layout with bars.
    fn cell(&self, cx: &Cx<'_>, symbol: &Symbol, (name, width): (&str, usize), radix: u32, index: u64) -> String {
        let number = |v: u64| match radix {
            16 => format!("0x{v:016x}"),
            8 => format!("{v:<#23o}").replacen("0o", "0", 1),
            radix => format!("{:<20}", digits(v, radix)),
        };
        match name {
            "ndx" => format!("{index:>5}"),
            "obj" => format!("{:<width$}", symbol.module.as_deref().unwrap_or("vmlinux")),
            "val" => number(symbol.addr),
            "sz" => number(symbol.size),
            "type" => format!("{:<width$}", kind(symbol)),
            "bind" => format!("{:<width$}", bind(symbol)),
            // kallsyms keeps neither visibility nor section
            "oth" => format!("{:<width$}", if radix == 16 { "0x0" } else { "0" }),
            "shndx" => format!(
                "{:<width$}",
                if symbol.letter == 'U' {
                    "UNDEF"
                } else if symbol.letter.eq_ignore_ascii_case(&'a') {
                    "ABS"
                } else {
                    ""
                }
            ),
            "ctype" => {
                let ctype = cx.type_of_symbol(symbol).map_or("<unknown type>".into(), |t| cx.types.spell(t));
                format!("{ctype:<width$}")
            }
            _ => symbol.name.clone(),
        }
    }
}

/// List the global symbols.
#[derive(Args)]
pub struct Globals {}

impl Dcmd for Globals {
    const NAME: &'static str = "$e";
    const ADDRESS: Address = Address::None;
    const ROWS: &'static [&'static engine::Schema] = &[<NmRow as IntoRow>::SCHEMA];

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        engine::pipeline::run_into(cx, "::nm -g -t func,objt", out)
    }
}

/// Give the address a name, which expressions and output then use.
#[derive(Args)]
pub struct Nmadd {
    /// what is named is a function
    #[arg(short = 'f', conflicts_with = "data")]
    function: bool,
    /// what is named is data
    #[arg(short = 'o')]
    data: bool,
    /// where what is named ends
    #[arg(short = 'e', value_name = "END", conflicts_with = "size")]
    end: Option<ExprArg>,
    /// its size in bytes
    #[arg(short = 's', value_name = "SIZE")]
    size: Option<ExprArg>,
    /// the name
    name: String,
}

impl Dcmd for Nmadd {
    const NAME: &'static str = "nmadd";
    const ADDRESS: Address = Address::Required;

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        check_variable(&self.name)?;
        let addr = at.map_or(0, |o| o.addr);
        let size = match (&self.size, &self.end) {
            (Some(size), _) => size.eval(cx)?,
            (None, Some(end)) => {
                let end = end.eval(cx)?;
                end.checked_sub(addr)
                    .ok_or_else(|| Error::Usage(format!("the end ({end:#x}) lies before the start ({addr:#x})")))?
            }
            (None, None) => 0,
        };
        let kind = match (self.function, self.data) {
            (true, _) => SymbolKind::Text,
            (_, true) => SymbolKind::Data,
            _ => SymbolKind::Other,
        };
        cx.symbols.add_private(&self.name, addr, size, kind);
        let radix = cx.env.radix.get();
        out.line(format!("added {}, value={} size={}", self.name, digits(addr, radix), digits(size, radix)))
    }
}

/// Forget a name that ::nmadd gave.
#[derive(Args)]
pub struct Nmdel {
    /// the name
    name: String,
}

impl Dcmd for Nmdel {
    const NAME: &'static str = "nmdel";
    const ADDRESS: Address = Address::None;

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let private = cx.symbols.private();
        let Some(Symbol { name, addr, size, .. }) = private.into_iter().find(|s| s.name == self.name) else {
            return Err(
                Error::Usage(format!("`{}` is no name that ::nmadd gave", self.name)).hint("`::nm -P` lists them")
            );
        };
        cx.symbols.remove_private(&name);
        let radix = cx.env.radix.get();
        out.line(format!("deleted {name}, value={} size={}", digits(addr, radix), digits(size, radix)))
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] =
    &[DcmdEntry::of::<Nm>(), DcmdEntry::of::<Nmadd>(), DcmdEntry::of::<Nmdel>(), DcmdEntry::of::<Globals>()];

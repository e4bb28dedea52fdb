//! Machine code: `::dis`.
//!
//! ```console
//! > <rip::dis -n 2
//! pv_native_safe_halt+0xd:        sti
//! pv_native_safe_halt+0xe:        hlt
//! pv_native_safe_halt+0xf:        retq  <==
//! pv_native_safe_halt+0x10:       int3
//! pv_native_safe_halt+0x11:       int3
//! ```
//!
//! The dialect on x86-64 is AT&T's, as in mdb and the kernel. Behind the address that a call or jump leads to, or that an
//! operand refers to relative to the instruction pointer, stands its symbol.

use capstone::{Capstone, arch::BuildsCapstone, arch::BuildsCapstoneSyntax, arch::arm64, arch::x86};
use engine::{prelude::*, targets::Arch};
use std::cell::OnceCell;

/// The shortest and the longest instruction.
fn lengths(arch: Arch) -> (usize, usize) {
    if arch == Arch::Aarch64 { (4, 4) } else { (1, 15) }
}

/// A symbol that claims to be larger is no function.
const LARGEST: u64 = 1 << 20;
/// Instructions before and after the address.
const WINDOW: u64 = 10;

/// Disassemble a function, or the instructions around an address.
///
/// Exactly at the start of a function all of it is shown, anywhere else ten instructions before and after, with the one
/// at the address marked. Without an address, disassembly begins at dot. Where debug information tells, the source line
/// and the functions that were inlined stand before the code that they became.
#[derive(Args)]
pub struct Dis {
    /// addresses as numbers, not as symbols
    #[arg(short = 'a')]
    numbers: bool,
    /// addresses as numbers and as symbols
    #[arg(short = 'b')]
    both: bool,
    /// from the kernel's file; a dump brings its code along, and that is what is read
    #[arg(short = 'f')]
    file: bool,
    /// instructions before and after the address
    #[arg(short = 'n', value_name = "COUNT")]
    count: Option<ExprArg>,
    /// the address is a physical one
    #[arg(short = 'p', conflicts_with = "file")]
    physical: bool,
    /// without source lines
    #[arg(short = 'q')]
    quiet: bool,
    /// only the instructions around the address, at the start of a function too
    #[arg(short = 'w')]
    window: bool,
    /// where, instead of the address before the command
    address: Option<ExprArg>,
    /// the source lines that were shown last
    #[arg(skip)]
    shown: std::cell::RefCell<Vec<String>>,
}

impl Dcmd for Dis {
    const NAME: &'static str = "dis";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let given = match &self.address {
            Some(expr) => Some(expr.eval(cx)?),
            None => at.map(|o| o.addr),
        };
        let addr = given.unwrap_or(cx.env.dot.get());
        let count = self.count.as_ref().map(|n| n.eval(cx)).transpose()?;
        self.shown.take();
        // physical memory has no symbols, and so no functions
        let symbol = if self.physical { None } else { cx.symbols.by_addr(cx, addr) };
        let symbol = symbol.filter(|s| s.size <= LARGEST);
        let whole = symbol.as_ref().filter(|s| s.addr == addr && s.size > 0 && !self.window && count.is_none());
        if let (Some(function), true) = (whole, given.is_some()) {
            return self.function(cx, addr, addr.saturating_add(function.size), out);
        }
        let count = count.unwrap_or(WINDOW);
        let around = given.is_some() && (self.window || symbol.as_ref().is_none_or(|s| s.addr != addr));
        let before = match symbol.filter(|_| around) {
            Some(function) => previous(cx, function.addr, addr, count),
            None => Vec::new(),
        };
        for (at, text) in &before {
            self.show(cx, *at, text, false, out)?;
        }
        let mut next = addr;
        for i in 0..=count {
            let (text, len) = instruction(cx, self.space(), next)?;
            self.show(cx, next, &text, i == 0 && around, out)?;
            next = next.saturating_add(len as u64);
        }
        cx.env.dot.set(next);
        cx.env.increment.set(0);
        Ok(())
    }
}

impl Dis {
    fn space(&self) -> Space {
        if self.physical { Space::Phys } else { Space::Kernel }
    }

    fn function(&self, cx: &Cx<'_>, start: u64, end: u64, out: &mut Out<'_>) -> Result<()> {
        let mut at = start;
        while at < end {
            let (text, len) = instruction(cx, Space::Kernel, at)?;
            self.show(cx, at, &text, false, out)?;
            at = at.saturating_add(len as u64);
        }
        cx.env.dot.set(at);
        cx.env.increment.set(0);
        Ok(())
    }

    /// A line, below the source that it comes from if that is not the same as of the one before.
    fn show(&self, cx: &Cx<'_>, addr: u64, text: &str, target: bool, out: &mut Out<'_>) -> Result<()> {
        if !self.quiet && !self.physical && !out.piped {
            let source = engine::frame::source(cx, addr);
            if !source.is_empty() && *self.shown.borrow() != source {
                source.iter().try_for_each(|line| out.line(format!("    {line}")))?;
                self.shown.replace(source);
            }
        }
        if out.piped {
            return out.object(Object::untyped(addr));
        }
        let line = self.line(cx, addr, text);
        out.line(if target { format!("{line}  <==") } else { line })
    }

    fn line(&self, cx: &Cx<'_>, addr: u64, text: &str) -> String {
        let label = match self.numbers || self.physical {
            true => format!("{addr:x}"),
            false => format!("{}:", cx.sym(addr)),
        };
        // at least one blank, then the next multiple of 8
        let width = if label.len() < 32 { 32 } else { (label.len() / 8 + 1) * 8 };
        let line = format!("{label:width$}{text}");
        if self.both && !self.numbers { format!("{addr:016x}  {line}") } else { line }
    }
}

/// The instructions from the start of a function up to `addr`, the last `count` of them. If they do not meet `addr`, it
/// is not the start of an instruction, and there is nothing to show before it.
fn previous(cx: &Cx<'_>, start: u64, addr: u64, count: u64) -> Vec<(u64, String)> {
    let mut all = std::collections::VecDeque::new();
    let mut at = start;
    while at < addr {
        let Some((text, len)) = disassemble(cx, at) else { return Vec::new() };
        all.push_back((at, text));
        if all.len() as u64 > count {
            all.pop_front();
        }
        at = at.saturating_add(len as u64);
    }
    if at == addr { all.into() } else { Vec::new() }
}

/// The instructions around an address, `count` before and behind it, a line each; that at the address is marked.
pub fn around(cx: &Cx<'_>, addr: u64, count: u64) -> Vec<String> {
    let start = cx.symbols.by_addr(cx, addr).filter(|s| s.size <= LARGEST).map(|symbol| symbol.addr);
    let mut found = start.map_or_else(Vec::new, |start| previous(cx, start, addr, count));
    let mut at = addr;
    for _ in 0..=count {
        let Ok((text, len)) = instruction(cx, Space::Kernel, at) else { break };
        // what fills the room between functions
        if at != addr && text.trim() == "int3" {
            break;
        }
        found.push((at, text));
        at = at.saturating_add(len as u64);
    }
    let line = |(at, text): (u64, String)| {
        let (mark, label) = (if at == addr { "=> " } else { "   " }, format!("{}:", cx.sym(at)));
        format!("{mark}{label:<32}{text}")
    };
    found.into_iter().map(line).collect()
}

/// One instruction; bytes that are none are shown as what they are.
fn instruction(cx: &Cx<'_>, space: Space, addr: u64) -> Result<(String, usize)> {
    if let Some(found) = disassemble_in(cx, space, addr) {
        return Ok(found);
    }
    let (len, _) = lengths(cx.target.arch());
    let mut bytes = [0; 8];
    let word = bytes.get_mut(..len).unwrap_or_default();
    cx.read_in(space, addr, word)?;
    let width = 2 + 2 * len;
    Ok((format!("*** invalid opcode {:#0width$x} ***", u64::from_le_bytes(bytes)), len))
}

thread_local! {
    static ENGINE: OnceCell<Option<Capstone>> = const { OnceCell::new() };
}

fn new_engine(arch: Arch) -> Option<Capstone> {
    match arch {
        Arch::X86_64 => Capstone::new().x86().mode(x86::ArchMode::Mode64).syntax(x86::ArchSyntax::Att).build().ok(),
        Arch::Aarch64 => Capstone::new().arm64().mode(arm64::ArchMode::Arm).build().ok(),
        _ => None,
    }
}

/// The instruction at `addr` and its length in bytes; `None` if there is none or it cannot be read.
pub fn disassemble(session: &Session, addr: u64) -> Option<(String, usize)> {
    disassemble_in(session, Space::Kernel, addr)
}

fn disassemble_in(session: &Session, space: Space, addr: u64) -> Option<(String, usize)> {
    let arch = session.target.arch();
    let (_, longest) = lengths(arch);
    let mut code = vec![0; longest];
    // the next page may be missing
    if session.read_in(space, addr, &mut code).is_err() {
        code.truncate(4096 - (addr % 4096) as usize);
        session.read_in(space, addr, &mut code).ok()?;
    }
    decode(arch, &code, addr, |at| session.symbolize(at))
}

/// The first instruction of `code`, which lies at `addr`, and its length in bytes. `symbolize` names what it refers to.
pub fn decode(
    arch: Arch,
    code: &[u8],
    addr: u64,
    symbolize: impl Fn(u64) -> Option<String>,
) -> Option<(String, usize)> {
    let (mnemonic, operands, len) = ENGINE.with(|engine| {
        let engine = engine.get_or_init(|| new_engine(arch)).as_ref()?;
        let all = engine.disasm_count(code, addr, 1).ok()?;
        let one = all.iter().next()?;
        Some((one.mnemonic()?.to_owned(), hex_immediates(one.op_str().unwrap_or_default()), one.bytes().len()))
    })?;
    let next = addr.wrapping_add(len as u64);
    // literals have no symbols: what is found for an immediate is only the last one before it
    let literal = |s: &String| operands.contains('$') && !operands.contains("(%rip") && s.contains('+');
    let target = match arch {
        Arch::Aarch64 => target_arm64(&mnemonic, &operands),
        _ => target(&mnemonic, &operands, next),
    };
    let text = match target.and_then(symbolize).filter(|s| !literal(s)) {
        Some(symbol) => format!("{mnemonic:<7} {operands} <{symbol}>"),
        None => format!("{mnemonic:<7} {operands}"),
    };
    Some((text.trim_end().to_owned(), len))
}

/// Capstone writes an address that is an immediate in decimal: `$18446744071659366400`.
fn hex_immediates(operands: &str) -> String {
    let Some((before, after)) = operands.split_once('$') else { return operands.to_owned() };
    let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
    let (number, rest) = after.split_at(digits);
    match number.parse::<u64>() {
        Ok(value) if value > 9 => format!("{before}${value:#x}{}", hex_immediates(rest)),
        _ => format!("{before}${number}{}", hex_immediates(rest)),
    }
}

/// The address that an instruction refers to: where a call or jump goes, an immediate in the kernel's half, or what
/// lies relative to `%rip`.
fn target(mnemonic: &str, operands: &str, next: u64) -> Option<u64> {
    let hex = |text: &str| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok();
    if let Some((before, _)) = operands.split_once("(%rip") {
        let offset = before.rsplit([' ', ',', ':', '*']).next()?;
        return match offset.strip_prefix('-') {
            Some(back) => Some(next.wrapping_sub(hex(back)?)),
            None if offset.is_empty() => Some(next),
            None => Some(next.wrapping_add(hex(offset)?)),
        };
    }
    if let Some(value) = operands.split_once("$0x").and_then(|(_, v)| {
        let digits = v.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(v.len());
        u64::from_str_radix(&v[..digits], 16).ok()
    }) {
        return (value >> 63 == 1).then_some(value);
    }
    let branch = mnemonic.starts_with('j') || mnemonic.starts_with("call") || mnemonic.starts_with("loop");
    if branch { hex(operands) } else { None }
}

/// The same on arm64, where it is the last operand, and written out. `adrp` makes only half of an address.
fn target_arm64(mnemonic: &str, operands: &str) -> Option<u64> {
    let refers = matches!(mnemonic, "b" | "bl" | "cbz" | "cbnz" | "tbz" | "tbnz" | "adr" | "ldr" | "ldrsw" | "prfm");
    let last = operands.rsplit(", ").next()?.strip_prefix("#0x")?;
    (refers || mnemonic.starts_with("b.")).then(|| u64::from_str_radix(last, 16).ok())?
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Dis>()];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{Arch, hex_immediates, new_engine, target, target_arm64};

    #[test]
    fn targets() {
        assert_eq!(target("callq", "0xffffffff81000010", 0), Some(0xffff_ffff_8100_0010));
        assert_eq!(target("movq", "0x12(%rip), %rax", 0x1000), Some(0x1012));
        assert_eq!(target("movq", "%gs:-0x10(%rip), %rax", 0x1000), Some(0xff0));
        assert_eq!(target("leaq", "(%rip), %rax", 0x1000), Some(0x1000));
        assert_eq!(target("jmpq", "*%rax", 0), None);
        assert_eq!(target("movl", "$0x10, %eax", 0), None);
        let operands = hex_immediates("$18446744071659366400, %rdi");
        assert_eq!(operands, "$0xffffffff85cca800, %rdi");
        assert_eq!(target("movq", &operands, 0), Some(0xffff_ffff_85cc_a800));
        assert_eq!(hex_immediates("$8, $0x30, $12"), "$8, $0x30, $0xc");
    }
    #[test]
    fn arm64() {
        let engine = new_engine(Arch::Aarch64).unwrap();
        let text = |word: u32| {
            let all = engine.disasm_count(&word.to_le_bytes(), 0xffff_8000_0801_0000, 1).unwrap();
            let one = all.iter().next().unwrap();
            let (mnemonic, operands) = (one.mnemonic().unwrap().to_owned(), one.op_str().unwrap().to_owned());
            let target = target_arm64(&mnemonic, &operands);
            (format!("{mnemonic} {operands}"), target)
        };
        // by the Arm ARM's encodings
        assert_eq!(text(0xd503_233f), ("paciasp ".into(), None));
        assert_eq!(text(0x9400_0004), ("bl #0xffff800008010010".into(), Some(0xffff_8000_0801_0010)));
        assert_eq!(text(0x54ff_ffe1), ("b.ne #0xffff80000800fffc".into(), Some(0xffff_8000_0800_fffc)));
        assert_eq!(text(0xb400_0040), ("cbz x0, #0xffff800008010008".into(), Some(0xffff_8000_0801_0008)));
        assert_eq!(text(0xf940_0821), ("ldr x1, [x1, #0x10]".into(), None));
        assert_eq!(text(0x9100_43ff).1, None, "add sp, sp, #0x10");
        assert_eq!(text(0xb000_0000).1, None, "adrp");
    }
}

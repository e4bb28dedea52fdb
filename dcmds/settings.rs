//! What kmdb is told about itself: `::set`, and adb's `$s` `$w` `$P` for three of its settings.
//!
//! ```console
//! > ::set
//!  symbol matching distance: 0 (smart mode)
//!  array member print limit: 32
//!  array string print limit: 1024
//!            command prompt: "> "
//!          debugger options: pager
//!            target options: read-only
//! > 0t100$w
//! output page width = 100
//! > ::set -s 100; $s
//! symbol matching distance = 100 (absolute mode)
//! ```

use engine::{lang::number::digits, prelude::*};
use std::cell::Cell as Setting;

/// Show or change settings.
///
/// `-o NAME` turns an option on and `+o NAME` off; several are separated by commas. The options are `autowrap` (what
/// `::printf` writes is broken at the width of the output), `pager`, `repeatlast` (an empty line runs the last command
/// again, behind what it showed), `ignoreeof` (Ctrl-D does not end kmdb), `array_mem_limit=N` and `array_str_limit=N`
/// (elements and characters that `::print` shows, N decimal, or `none`).
#[derive(Args)]
pub struct Set {
    /// -o OPTION, +o OPTION, -s DISTANCE, -P PROMPT
    #[arg(value_name = "SETTING", allow_hyphen_values = true)]
    words: Vec<String>,
}

fn wrong(what: String) -> Error {
    Error::Usage(what).hint("`::help set` names the settings")
}

/// A decimal number, or none at all.
fn limit(text: &str) -> Option<u64> {
    if text == "none" { Some(u64::MAX) } else { text.parse().ok() }
}

fn option(cx: &Cx<'_>, text: &str, on: bool) -> Result<()> {
    let options = &cx.env.options;
    let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
    let flag = |setting: &Setting<bool>| match value {
        None => {
            setting.set(on);
            Ok(())
        }
        Some(_) => Err(wrong(format!("option does not accept an argument -- {name}"))),
    };
    let number = |setting: &Setting<u64>| {
        let value = value.ok_or_else(|| wrong(format!("option requires an argument -- {name}")))?;
        let bad = || wrong(format!("invalid argument for option {name} -- {value}"));
        setting.set(limit(value).ok_or_else(bad)?);
        Ok(())
    };
    match name {
        "autowrap" => flag(&options.autowrap),
        "pager" => flag(&options.pager),
        "repeatlast" => flag(&options.repeatlast),
        "ignoreeof" => flag(&options.ignoreeof),
        "array_mem_limit" => number(&options.elements),
        "array_str_limit" => number(&options.chars),
        "adb" => {
            flag(&options.repeatlast)?;
            options.pager.set(!on);
            options.prompt.replace(if on { "" } else { "> " }.into());
            Ok(())
        }
        "follow_exec_mode" | "follow_fork_mode" | "stop_on_bpt_nosym" | "nostop" => {
            Err(Error::Usage(format!("the option `{name}` is refused: kmdb runs and stops nothing")))
        }
        "write_readback" | "allow_io_access" => {
            Err(Error::Usage(format!("the option `{name}` is refused: kmdb never writes, and reads no devices")))
        }
        "latest" | "noctf" | "nomods" | "showlmid" | "lmraw" | "term" => {
            Err(Error::Usage(format!("the option `{name}` is refused: it is about how mdb itself is put together")))
        }
        _ => Err(wrong(format!("invalid debugger option -- {name}"))),
    }
}

impl Dcmd for Set {
    const NAME: &'static str = "set";
    const ADDRESS: Address = Address::None;

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        if self.words.is_empty() {
            return show(cx, out);
        }
        let mut words = self.words.iter().map(String::as_str);
        while let Some(word) = words.next() {
            let (flag, joined) = word.split_at_checked(2).unwrap_or((word, ""));
            let mut value = || match joined {
                "" => words.next().ok_or_else(|| wrong(format!("{flag} takes a value"))),
                joined => Ok(joined),
            };
            match flag {
                "-o" | "+o" => value()?.split(',').try_for_each(|name| option(cx, name, flag == "-o"))?,
                "-s" => cx.symbols.set_distance(engine::pipeline::eval_text(cx, value()?)?),
                "-P" => {
                    cx.env.options.prompt.replace(value()?.to_owned());
                }
                "-w" | "-W" => return Err(Error::Usage("kmdb never writes: `-w` and `-W` are refused".into())),
                "+w" | "+W" => {}
                "-I" | "-L" => {
                    return Err(Error::Usage(format!("`{flag}` is refused: there is no path of macros or modules"))
                        .hint("`::source FILE` reads macros, `$<FILE` runs commands"));
                }
                "-F" | "-D" => return Err(Error::Usage(format!("`{flag}` is refused: nothing is taken over"))),
                _ => return Err(wrong(format!("`{word}` is no setting"))),
            }
        }
        Ok(())
    }
}

fn mode(distance: u64) -> &'static str {
    if distance == 0 { "smart mode" } else { "absolute mode" }
}

fn show(cx: &Cx<'_>, out: &mut Out<'_>) -> Result<()> {
    let options = &cx.env.options;
    let distance = cx.symbols.distance();
    let limit = |n: u64| if n == u64::MAX { "none".to_owned() } else { n.to_string() };
    let on: Vec<&str> = [
        ("autowrap", options.autowrap.get()),
        ("ignoreeof", options.ignoreeof.get()),
        ("pager", options.pager.get()),
        ("repeatlast", options.repeatlast.get()),
    ]
    .iter()
    .filter(|(_, on)| *on)
    .map(|(name, _)| *name)
    .collect();
    let mut line = |label: &str, value: String| out.line(format!("{label:>26} {value}"));
    let distance = format!("{} ({})", digits(distance, cx.env.radix.get()), mode(distance));
    line("symbol matching distance:", distance)?;
    line("array member print limit:", limit(options.elements.get()))?;
    line("array string print limit:", limit(options.chars.get()))?;
    line("command prompt:", format!("\"{}\"", options.prompt.borrow()))?;
    line("debugger options:", on.join(", "))?;
    line("target options:", "read-only".into())
}

/// Show how far from its start a symbol names an address, or set that to the address: 0 is as far as the symbol reaches.
#[derive(Args)]
pub struct Distance {}

impl Dcmd for Distance {
    const NAME: &'static str = "$s";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        if let Some(object) = at {
            cx.symbols.set_distance(object.addr);
        }
        let distance = cx.symbols.distance();
        let number = digits(distance, cx.env.radix.get());
        out.line(format!("symbol matching distance = {number} ({})", mode(distance)))
    }
}

/// Show the width of the output in columns, or set it to the address.
#[derive(Args)]
pub struct Width {}

impl Dcmd for Width {
    const NAME: &'static str = "$w";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        if let Some(object) = at {
            let width = usize::try_from(object.addr).ok().filter(|w| (1..=1 << 16).contains(w));
            cx.env.width.set(width.ok_or_else(|| Error::Usage("a width is from 1 to 65536 columns".into()))?);
        }
        out.line(format!("output page width = {}", cx.env.width.get()))
    }
}

/// Set the prompt; without an argument back to `> `.
#[derive(Args)]
pub struct Prompt {
    /// what is to stand before a line that is being typed
    #[arg(allow_hyphen_values = true)]
    prompt: Option<String>,
}

impl Dcmd for Prompt {
    const NAME: &'static str = "$P";
    const ADDRESS: Address = Address::None;

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, _: &mut Out<'_>) -> Result<()> {
        cx.env.options.prompt.replace(self.prompt.clone().unwrap_or_else(|| "> ".into()));
        Ok(())
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] =
    &[DcmdEntry::of::<Set>(), DcmdEntry::of::<Distance>(), DcmdEntry::of::<Width>(), DcmdEntry::of::<Prompt>()];

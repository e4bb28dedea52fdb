//! What the language remembers: the radix (`$d`), variables (`::vars`, `::typeset`, `::unset`), and `::echo`, `::quit`.
//!
//! ```console
//! > 0t10$d
//! radix = 10 base ten
//! > 0x10$d
//! radix = 16 base ten
//! > 2000::typeset x
//! > <x+8=K
//!                 2008
//! > ::vars -p
//! 0x2000>x
//! ```

use crate::words::check_variable;
use engine::{
    lang::number::{digits, unambiguous},
    prelude::*,
    scope::{INBORN, inborn},
};

/// Show the default radix, or set it to the address (2 to 16).
#[derive(Args)]
pub struct Radix {}

impl Dcmd for Radix {
    const NAME: &'static str = "$d";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        if let Some(Object { addr, .. }) = at {
            match addr {
                2..=16 => cx.env.radix.set(addr as u32),
                _ => {
                    return Err(
                        Error::Usage("a radix is from 2 to 16".into()).hint("`0t10$d` sets ten, `0t16$d` sixteen")
                    );
                }
            }
        }
        // mdb says it in these words, and always in decimal
        out.line(format!("radix = {} base ten", cx.env.radix.get()))
    }
}

/// List the variables and their values.
#[derive(Args)]
pub struct Vars {
    /// only those that are not zero
    #[arg(short = 'n')]
    nonzero: bool,
    /// as commands that set them again
    #[arg(short = 'p')]
    commands: bool,
    /// only those that `::typeset -t` tagged
    #[arg(short = 't')]
    tagged: bool,
}

impl Dcmd for Vars {
    const NAME: &'static str = "vars";
    const ADDRESS: Address = Address::None;

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let mut vars = cx.env.vars.borrow().clone();
        if !self.commands {
            // those that are there from the start are worth a line once they are worth something
            let mut unknown = Vec::new();
            for name in INBORN {
                match inborn(cx, name).filter(|value| *value != 0) {
                    Some(value) => _ = vars.entry(name.to_owned()).or_insert(value),
                    None if name != "." => unknown.push(name),
                    None => {}
                }
            }
            if !unknown.is_empty() {
                let what = "cannot be told: the dump lacks the symbols or the task that they come from";
                cx.notes.add(0, format!("`{}` {what}", unknown.join("`, `")));
            }
        }
        let radix = cx.env.radix.get();
        let tagged = cx.env.tagged.borrow();
        let wanted =
            |name: &String, value: u64| (value != 0 || !self.nonzero) && (tagged.contains(name) || !self.tagged);
        for (name, value) in vars.iter().filter(|(name, value)| wanted(name, **value)) {
            match self.commands {
                true => out.line(format!("{}>{name}", unambiguous(*value, radix)))?,
                false => out.line(format!("{name} = {}", digits(*value, radix)))?,
            }
        }
        Ok(())
    }
}

/// List the variables that are not zero.
#[derive(Args)]
pub struct Nonzero {}

impl Dcmd for Nonzero {
    const NAME: &'static str = "$v";
    const ADDRESS: Address = Address::None;

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        Vars { nonzero: true, commands: false, tagged: false }.run(cx, at, out)
    }
}

/// Set variables to the address, or make new ones that are zero. Without names, list all.
///
/// `-t` tags them for `::vars -t`, `+t` takes the tag away.
#[derive(Args)]
pub struct Typeset {
    /// -t or +t, and the variables
    #[arg(value_name = "NAME", allow_hyphen_values = true)]
    words: Vec<String>,
}

impl Dcmd for Typeset {
    const NAME: &'static str = "typeset";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        if self.words.is_empty() {
            return Vars { nonzero: false, commands: false, tagged: false }.run(cx, at, out);
        }
        let (tag, names) = match &self.words[..] {
            [flag, names @ ..] if flag == "-t" => (Some(true), names),
            [flag, names @ ..] if flag == "+t" => (Some(false), names),
            names => (None, names),
        };
        if let Some(bad) = names.iter().find(|name| name.starts_with(['-', '+'])) {
            return Err(Error::Usage(format!("`{bad}` is no attribute of a variable"))
                .hint("`::typeset -t NAME` tags one, `::typeset +t NAME` takes the tag away"));
        }
        names.iter().try_for_each(|name| check_variable(name))?;
        for name in names {
            match at {
                Some(object) => cx.env.set_var(name, object.addr)?,
                None if inborn(cx, name).is_some() => {}
                None => drop(cx.env.vars.borrow_mut().entry(name.clone()).or_default()),
            }
            match tag {
                Some(true) => drop(cx.env.tagged.borrow_mut().insert(name.clone())),
                Some(false) => drop(cx.env.tagged.borrow_mut().remove(name)),
                None => {}
            }
        }
        Ok(())
    }
}

/// Forget variables.
#[derive(Args)]
pub struct Unset {
    /// the variables
    #[arg(required = true)]
    names: Vec<String>,
}

impl Dcmd for Unset {
    const NAME: &'static str = "unset";
    const ADDRESS: Address = Address::None;

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, _: &mut Out<'_>) -> Result<()> {
        let mut vars = cx.env.vars.borrow_mut();
        let unknown: Vec<_> = self.names.iter().filter(|name| vars.remove(*name).is_none()).cloned().collect();
        match unknown.as_slice() {
            [] => Ok(()),
            names => Err(Error::Usage(format!("no variable `{}`", names.join("`, `")))),
        }
    }
}

/// Print the arguments. `$[expression]` is computed first.
#[derive(Args)]
pub struct Echo {
    /// what to print
    #[arg(allow_hyphen_values = true, trailing_var_arg = true)]
    words: Vec<String>,
}

impl Dcmd for Echo {
    const NAME: &'static str = "echo";
    const ADDRESS: Address = Address::None;
    const DIGITS: bool = true;

    fn run(&self, _: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        // a blank behind each, as mdb has it
        out.line(self.words.iter().map(|word| format!("{word} ")).collect::<String>())
    }
}

/// Leave the debugger.
#[derive(Args)]
pub struct Quit {}

impl Dcmd for Quit {
    const NAME: &'static str = "quit";
    const ALIASES: &'static [&'static str] = &["$q", "$Q", "$%"];
    const ADDRESS: Address = Address::None;

    fn run(&self, _: &Cx<'_>, _: Option<Object>, _: &mut Out<'_>) -> Result<()> {
        Err(Error::Quit(0))
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[
    DcmdEntry::of::<Radix>(),
    DcmdEntry::of::<Vars>(),
    DcmdEntry::of::<Nonzero>(),
    DcmdEntry::of::<Typeset>(),
    DcmdEntry::of::<Unset>(),
    DcmdEntry::of::<Echo>(),
    DcmdEntry::of::<Quit>(),
];

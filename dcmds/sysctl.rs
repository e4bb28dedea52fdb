//! Settings of the kernel: `::sysctl`.
//!
//! ```console
//! > ::sysctl vm.swappiness
//! ADDR             NAME          VALUE
//! ffffffffbda4b338 vm.swappiness 60
//! ```

use engine::{IntoRow, prelude::*};
use walkers::{
    clock::Clocks,
    sysctl::{self, Setting, Value},
};

/// Show the kernel's settings as `sysctl -a` does: all, or one, or those below a name.
///
/// What is a namespace's own is shown as the first namespace has it. Where a handler of its own stands between the value
/// and its variable, the handler is named, behind the number in the variable if there is one.
#[derive(Args)]
pub struct Sysctl {
    /// `vm.swappiness`, `net.ipv4`
    name: Option<String>,
}

/// A setting.
#[derive(Row)]
struct SettingRow {
    /// address of its struct ctl_table
    addr: Object,
    /// its name
    name: String,
    /// its value; in brackets, the handler that makes it of the number in front
    value: Result<String>,
    /// address of the variable
    #[hidden]
    data: Addr,
    /// mode of its file
    #[hidden]
    mode: String,
}

fn text(cx: &Cx<'_>, setting: &Setting, value: Value) -> String {
    let join = |all: Vec<String>| all.join("\t");
    match value {
        Value::Ints(all) => join(all.iter().map(i64::to_string).collect()),
        Value::Uints(all) => join(all.iter().map(u64::to_string).collect()),
        Value::Text(text) => text,
        Value::Words(words) => words.join(" "),
        Value::Ranges(ranges) => {
            let range = |(first, last): &(u64, u64)| match first == last {
                true => first.to_string(),
                false => format!("{first}-{last}"),
            };
            ranges.iter().map(range).collect::<Vec<_>>().join(",")
        }
        Value::Other(handler) => match setting.raw(cx) {
            Ok(Some(number)) => format!("{number} ({})", cx.sym(handler)),
            _ => format!("({})", cx.sym(handler)),
        },
    }
}

impl Sysctl {
    fn wants(&self, name: &str) -> bool {
        match &self.name {
            None => true,
            Some(asked) => {
                let behind = name.strip_prefix(asked.trim_end_matches('.'));
                behind.is_some_and(|behind| behind.is_empty() || behind.starts_with('.'))
            }
        }
    }
}

impl Dcmd for Sysctl {
    const NAME: &'static str = "sysctl";
    const ADDRESS: Address = Address::None;
    const ROWS: &'static [&'static engine::Schema] = &[SettingRow::SCHEMA];
    const PASSES: &'static str = "struct ctl_table";

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let hz = Clocks::of(cx).map_or(0, |clocks| clocks.hz());
        sysctl::each(cx, &mut |path, setting: Setting| {
            // as sysctl has it: dots for slashes, and the other way round
            let swap = |c: char| match c {
                '/' => '.',
                '.' => '/',
                c => c,
            };
            let name: String = path.chars().map(swap).collect();
            if !self.wants(&name) {
                return Ok(());
            }
            out.row(SettingRow {
                addr: cx.object("ctl_table", setting.addr),
                name,
                value: setting.value(cx, hz).map(|value| text(cx, &setting, value)),
                data: Addr(setting.data),
                mode: format!("{:o}", setting.mode()),
            })
        })
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Sysctl>()];

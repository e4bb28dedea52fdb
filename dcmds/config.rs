//! How the kernel was built: `::config`.
//!
//! ```console
//! > ::config SMP
//! NAME       VALUE
//! CONFIG_SMP y
//! ```

use engine::{IntoRow, prelude::*};
use walkers::config;

/// Show the options that the kernel was built with, out of the copy that it holds itself if it was built with
/// CONFIG_IKCONFIG: all that are set, or those whose names have a text in them.
#[derive(Args)]
pub struct Config {
    /// only those with this in their names, in any case
    text: Option<String>,
    /// those too that are not set
    #[arg(short = 'a')]
    all: bool,
}

/// An option.
#[derive(Row)]
struct OptionRow {
    /// its name
    name: String,
    /// y, m, n for one that is not set, a number, or a text in quotes
    value: String,
}

/// Name and value of a line of a configuration.
fn option(line: &str) -> Option<(&str, &str)> {
    match line.strip_prefix("# ") {
        Some(comment) => Some((comment.strip_suffix(" is not set")?, "n")),
        None => line.split_once('='),
    }
}

impl Dcmd for Config {
    const NAME: &'static str = "config";
    const ADDRESS: Address = Address::None;
    const ROWS: &'static [&'static engine::Schema] = &[OptionRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let wanted = self.text.as_deref().unwrap_or_default().to_ascii_uppercase();
        let text = config::text(cx)?;
        let options = text
            .lines()
            .filter_map(option)
            .filter(|(name, value)| (self.all || *value != "n") && name.to_ascii_uppercase().contains(&wanted));
        for (name, value) in options {
            out.row(OptionRow { name: name.to_owned(), value: value.to_owned() })?;
        }
        Ok(())
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Config>()];

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_not_set_is_no() {
        assert_eq!(super::option("# CONFIG_A is not set"), Some(("CONFIG_A", "n")));
        assert_eq!(super::option("CONFIG_B=\"a=b\""), Some(("CONFIG_B", "\"a=b\"")));
        assert_eq!(super::option("# Automatically generated"), None);
    }
}

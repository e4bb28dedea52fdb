//! What /sys is made of: `::kobject`.
//!
//! ```console
//! > ::kobject /kernel/slab ! head -n 3
//! ADDR             NAME     REFS KTYPE      KSET             PATH
//! ffff9d0340fb7a60 slab        1 kset_ktype                0 kernel/slab
//! ```

use engine::{IntoRow, prelude::*};
use walkers::kobject::{self, Kobject};

/// Show kobjects, the directories of /sys, as a tree: name, who holds them, kind, and set.
///
/// All of them, those below the struct kobject at the address, or those at and below a path.
#[derive(Args)]
pub struct KobjectDcmd {
    /// only those at this path below /sys, and below it
    path: Option<String>,
    /// no tree: only those at the path or the address themselves
    #[arg(short = 'd')]
    only: bool,
}

/// A kobject.
#[derive(Row)]
struct KobjectRow {
    /// address of its struct kobject
    addr: Object,
    /// its name, further right the deeper it lies
    name: Result<String>,
    /// who holds it
    #[heading("REFS")]
    references: i32,
    /// its kind: what is called when it goes, and its attributes
    #[heading("KTYPE")]
    kind: String,
    /// address of the struct kset that it is in
    kset: Addr,
    /// its directory below /sys
    path: Result<String>,
}

fn show(cx: &Cx<'_>, at: u64, depth: usize, out: &mut Out<'_>) -> Result<()> {
    let kobject: Kobject = match cx.view(at) {
        Ok(kobject) => kobject,
        Err(e) if e.is_control() => return Err(e),
        Err(e) => {
            cx.notes.add(at, format!("kobject: {}", e.kind()));
            return Ok(());
        }
    };
    out.row(KobjectRow {
        addr: cx.object("kobject", at),
        name: kobject.name(cx).map(|name| format!("{:1$}{name}", "", depth * 2)),
        references: kobject.references,
        kind: cx.sym(kobject.kind),
        kset: Addr(kobject.kset),
        path: kobject.path(cx),
    })
}

impl Dcmd for KobjectDcmd {
    const NAME: &'static str = "kobject";
    const ADDRESS: Address = Address::Optional;
    const ROWS: &'static [&'static engine::Schema] = &[KobjectRow::SCHEMA];
    const PASSES: &'static str = "struct kobject";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        if let Some(at) = at {
            show(cx, at.addr, 0, out)?;
            return if self.only {
                Ok(())
            } else {
                kobject::below(cx, Some(at.addr), &mut |at, depth| show(cx, at, depth + 1, out))
            };
        }
        let Some(path) = self.path.as_deref().map(|path| path.trim_start_matches("/sys").trim_matches('/')) else {
            return kobject::below(cx, None, &mut |at, depth| show(cx, at, depth, out));
        };
        let mut found = false;
        kobject::below(cx, None, &mut |at, depth| {
            let own = cx.view::<Kobject>(at).and_then(|kobject| kobject.path(cx)).unwrap_or_default();
            let behind = own.strip_prefix(path).filter(|rest| rest.is_empty() || rest.starts_with('/'));
            match behind {
                Some(rest) if rest.is_empty() || !self.only => {
                    found = true;
                    show(cx, at, depth.saturating_sub(path.matches('/').count()), out)
                }
                _ => Ok(()),
            }
        })?;
        let none = || Error::Usage(format!("no kobject at `{path}` below /sys")).hint("`::kobject` lists all");
        if found { Ok(()) } else { Err(none()) }
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<KobjectDcmd>()];

//! What should be in this dump and is not: `::dumpcheck`.
//!
//! Every page frame that has a `struct page` in use is looked at: what it is used for, whether it is in the dump, and if
//! not, whether the filter that the dump's header states (makedumpfile's `-d`) may leave such pages out. What it may not,
//! and what a cut-off file lost, is a finding, and the exit status is 1.
//!
//! ```console
//! > ::dumpcheck ! grep -A3 -E 'WHAT|slab |user'
//! WHAT           PAGES  THERE LEFT_OUT MISSING WHY
//! kernel text     4096   4096        0       0
//! kernel rodata   2728   2728        0       0
//! kernel data     2797   2797        0       0
//! --
//! slab            6597   6391        0     206 excluded by the dump filter
//!                  dentry 37
//!                  kernfs_node_cache 33
//!                  lsm_inode_cache 12
//! --
//! user             997      0      997       0
//! free          101550      0   101550       0
//! ```
//!
//! makedumpfile 1.7.2 on a kernel of 6.12 or 7.2 loses slab pages without a word: these kernels do not mark slabs by the
//! flag that it looks for, and a `struct slab` has a counter where it then looks for the mark of user memory.

use engine::{IntoRow, Schema, prelude::*, targets::Reason};
use std::collections::BTreeMap;
use walkers::{
    frame::{self, Frames, Kind},
    page::PageMap,
    percpu::Percpu,
    slab::Slabs,
};

/// Check whether all is in the dump that should be: pages of every kind, registers, the file itself.
///
/// A page is missing if the dump ends before it, or if it was left out although it is of a kind that the dump's filter
/// level keeps: of the kernel's own memory all is. Where the format does not record the level, pages of user memory, page
/// cache and free pages that are left out are no finding. Exit status 1 if something is missing.
#[derive(Args)]
pub struct Dumpcheck {
    /// the physical ranges that are missing, too
    #[arg(short = 'v')]
    verbose: bool,
}

/// Pages of one kind, or another thing that a dump has.
#[derive(Row)]
pub struct CheckRow {
    /// what the pages are used for; or registers, headers, page tables, file
    what: String,
    /// how many there should be
    #[heading("PAGES")]
    pages: u64,
    /// how many are in the dump
    there: u64,
    /// how many the filter left out, as it may
    left_out: u64,
    /// how many should be there and are not
    missing: u64,
    /// why not
    why: String,
    /// slab caches that lost pages, and how many; with -v the ranges
    #[detail]
    details: Vec<String>,
}

/// What is known of pages of one kind.
#[derive(Default)]
struct Tally {
    pages: u64,
    there: u64,
    left_out: u64,
    missing: u64,
    why: BTreeMap<String, u64>,
    /// the missing frames
    frames: Vec<std::ops::Range<u64>>,
}

impl Dcmd for Dumpcheck {
    const NAME: &'static str = "dumpcheck";
    const ADDRESS: Address = Address::None;
    const ROWS: &'static [&'static Schema] = &[CheckRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, _at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        if cx.target.is_file() || cx.is_live() {
            return Err(Error::Usage("there is no dump to check: this is no dump".into()));
        }
        self.pages(cx, out)?;
        self.others(cx, out)
    }
}

impl Dumpcheck {
    fn pages(&self, cx: &Cx<'_>, out: &mut Out<'_>) -> Result<()> {
        let frames = Frames::of(cx).doing(|| "looking at all struct pages".into())?;
        let map = PageMap::of(cx)?;
        let level = cx.target.info().dump_level;
        let mut tallies: BTreeMap<Kind, Tally> = BTreeMap::new();
        for run in &frames.runs {
            tally(cx, &map, run, level, tallies.entry(run.kind).or_default())?;
        }
        for (kind, tally) in tallies {
            let mut details = Vec::new();
            if kind == Kind::Slab && tally.missing > 0 {
                details.extend(caches(cx, &map, &tally)?);
            }
            if self.verbose {
                let ranges =
                    tally.frames.iter().map(|r| format!("{:#x}-{:#x}", r.start << map.shift, r.end << map.shift));
                details.extend(ranges);
            }
            let why: Vec<&str> = tally.why.keys().map(String::as_str).collect();
            self.row(
                cx,
                out,
                CheckRow {
                    what: kind.name().to_owned(),
                    pages: tally.pages,
                    there: tally.there,
                    left_out: tally.left_out,
                    missing: tally.missing,
                    why: why.join("; "),
                    details,
                },
            )?;
        }
        if frames.unknown > 0 {
            let why = "their struct pages are not in the dump: what they are is not known";
            self.finding(cx, out, "unknown", frames.unknown, why.into())?;
        }
        if frames.lost_tables > 0 {
            let why = "page tables of the kernel that are not in the dump: what they map is not known";
            self.finding(cx, out, "lost tables", frames.lost_tables, why.into())?;
        }
        Ok(())
    }

    /// What is no page.
    fn others(&self, cx: &Cx<'_>, out: &mut Out<'_>) -> Result<()> {
        let info = cx.target.info();
        if info.truncated > 0 {
            let pages = info.truncated.div_ceil(info.page_size);
            self.finding(cx, out, "file", pages, "cut off: the file ends before its headers say".into())?;
        }
        if info.incomplete {
            let why = "the tool that wrote the dump did not finish: its header says \"incomplete\"";
            self.finding(cx, out, "file", 0, why.into())?;
        }
        for damage in info.damage {
            self.finding(cx, out, "file", 0, damage)?;
        }
        let (online, known) = (Percpu::of(cx)?.online().len(), cx.target.cpus().len());
        let has_notes = info.format.starts_with("ELF") || info.format.starts_with("kdump");
        if has_notes && known < online {
            self.finding(cx, out, "registers", 0, format!("of {known} CPUs; {online} were online"))?;
        }
        if let Ok(layout) = cx.target.kernel_layout() {
            for doubt in layout.doubts {
                self.finding(cx, out, "headers", 0, doubt)?;
            }
        }
        Ok(())
    }

    fn finding(&self, cx: &Cx<'_>, out: &mut Out<'_>, what: &str, missing: u64, why: String) -> Result<()> {
        cx.env.found();
        let (what, details) = (what.to_owned(), Vec::new());
        self.row(cx, out, CheckRow { what, pages: missing, there: 0, left_out: 0, missing, why, details })
    }

    fn row(&self, cx: &Cx<'_>, out: &mut Out<'_>, row: CheckRow) -> Result<()> {
        if row.missing > 0 {
            cx.env.found();
        }
        out.row(row)
    }
}

/// Counts the frames of a run.
fn tally(cx: &Cx<'_>, map: &PageMap, run: &frame::Run, level: Option<u32>, tally: &mut Tally) -> Result<()> {
    let mut at = run.frames.start;
    while at < run.frames.end {
        cx.interrupt.check()?;
        let (state, more) = cx.target.state(at << map.shift);
        let end = at.saturating_add((more >> map.shift).max(1)).min(run.frames.end);
        let pages = end - at;
        match judge(run.kind, state.as_ref(), level) {
            Judgement::There => tally.there += pages,
            // no memory at all, as far as the dump knows
            Judgement::Nothing => {
                at = end;
                continue;
            }
            Judgement::LeftOut => tally.left_out += pages,
            Judgement::Missing => {
                tally.missing += pages;
                *tally.why.entry(state.map(|reason| reason.to_string()).unwrap_or_default()).or_default() += pages;
                match tally.frames.last_mut() {
                    Some(last) if last.end == at => last.end = end,
                    _ => tally.frames.push(at..end),
                }
            }
        }
        tally.pages += pages;
        at = end;
    }
    Ok(())
}

/// What to say of a page.
#[derive(Debug, PartialEq, Eq)]
enum Judgement {
    There,
    Nothing,
    LeftOut,
    Missing,
}

/// `state` is why a page is not there, `level` what the header states.
fn judge(kind: Kind, state: Option<&Reason>, level: Option<u32>) -> Judgement {
    match (state, level) {
        (None, _) => Judgement::There,
        // what the firmware has, or a kernel for crashes; or a hole between RAM. The last CPU's share of the per-CPU areas
        // is given back in part
        (Some(Reason::NotInDump | Reason::NotRam), _) if matches!(kind, Kind::Reserved | Kind::Percpu) => {
            Judgement::Nothing
        }
        (Some(Reason::Excluded), Some(level)) if level & kind.levels() != 0 => Judgement::LeftOut,
        (Some(Reason::Excluded | Reason::NotInDump), None) if kind.levels() != 0 => Judgement::LeftOut,
        // ELF: makedumpfile leaves out pages of zeros like those that it filters, and nothing tells them apart
        (Some(Reason::Excluded), None) => Judgement::LeftOut,
        (Some(_), _) => Judgement::Missing,
    }
}

/// The slab caches that lost pages.
fn caches(cx: &Cx<'_>, map: &PageMap, tally: &Tally) -> Result<Vec<String>> {
    let slabs = Slabs::of(cx)?;
    let mut lost: BTreeMap<&str, u64> = BTreeMap::new();
    for frame in tally.frames.iter().cloned().flatten() {
        *lost.entry(frame::cache_of(&slabs, map, frame).unwrap_or("of no known cache")).or_default() += 1;
    }
    let mut lost: Vec<_> = lost.into_iter().collect();
    lost.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    Ok(lost.into_iter().map(|(name, pages)| format!("{name} {pages}")).collect())
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[DcmdEntry::of::<Dumpcheck>()];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_excuses_what_it_names_and_nothing_else() {
        let excluded = Some(&Reason::Excluded);
        for (kind, level, expected) in [
            (Kind::Slab, Some(31), Judgement::Missing),
            (Kind::Free, Some(31), Judgement::LeftOut),
            (Kind::Free, Some(15), Judgement::Missing),
            (Kind::User, Some(8), Judgement::LeftOut),
            (Kind::User, Some(23), Judgement::Missing),
            (Kind::Cache, Some(4), Judgement::LeftOut),
            (Kind::PrivateCache, Some(2), Judgement::Missing),
            (Kind::User, None, Judgement::LeftOut),
        ] {
            assert_eq!(judge(kind, excluded, level), expected, "{kind:?} {level:?}");
        }
        assert_eq!(judge(Kind::Slab, None, Some(31)), Judgement::There);
        assert_eq!(judge(Kind::Free, Some(&Reason::Truncated), Some(31)), Judgement::Missing);
        assert_eq!(judge(Kind::Kernel, Some(&Reason::NotInDump), None), Judgement::Missing);
        assert_eq!(judge(Kind::Reserved, Some(&Reason::NotInDump), None), Judgement::Nothing);
    }
}

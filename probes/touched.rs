//! Texts of a program that nobody has looked at yet.
//!
//! A program's file is in its memory page by page, each from the moment that it is touched. A program that only hands a
//! text on does not touch it, and a probe cannot wait until a page is there: what it is asked for would be unreadable. So
//! what a process has mapped from files is touched from here when probes that read texts begin to look at it.

use std::{fs::File, os::unix::fs::FileExt};

const PAGE: u64 = 4096;
/// More pages are not touched: 64 MB.
const MOST: usize = 1 << 14;

/// Touches what a process has mapped from files and may read, and does not run.
pub fn touch(pid: u32) {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let Ok(memory) = File::open(format!("/proc/{pid}/mem")) else { return };
    let pages = maps.lines().filter_map(texts).flat_map(|(start, end)| (start..end).step_by(PAGE as usize));
    for page in pages.take(MOST) {
        // a page behind the file's end cannot be read, and matters as little as a process that has ended
        let _ = memory.read_at(&mut [0], page);
    }
}

/// Where texts may be, by a line of /proc/PID/maps.
fn texts(line: &str) -> Option<(u64, u64)> {
    let mut words = line.split_ascii_whitespace();
    let (range, rights, file) = (words.next()?, words.next()?, words.nth(3)?);
    let (start, end) = range.split_once('-')?;
    let hex = |text| u64::from_str_radix(text, 16).ok();
    (rights.starts_with('r') && !rights.contains('x') && file.starts_with('/')).then_some((hex(start)?, hex(end)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_and_not_run() {
        let line = |rights, file| format!("55d4c5a00000-55d4c5a02000 {rights} 00001000 fe:00 1234    {file}");
        assert_eq!(texts(&line("r--p", "/bin/a file")), Some((0x55d4_c5a0_0000, 0x55d4_c5a0_2000)));
        assert_eq!(texts(&line("rw-p", "/bin/a")).map(|(start, _)| start), Some(0x55d4_c5a0_0000));
        for (rights, file) in [("r-xp", "/bin/a"), ("---p", "/bin/a"), ("rw-p", "[heap]"), ("rw-p", "")] {
            assert_eq!(texts(&line(rights, file)), None, "{rights} {file}");
        }
    }
}

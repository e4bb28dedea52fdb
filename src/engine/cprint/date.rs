//! Seconds since 1970 as a date, the way mdb writes it: `2024 Sep 28 17:51:18` (UTC).

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAY: i64 = 86_400;
/// Days in the 400 years after which the calendar repeats.
const ERA: i64 = 146_097;

/// The date and time of day, UTC.
///
/// ```
/// assert_eq!(engine::cprint::date::date(1_727_545_878), "2024 Sep 28 17:51:18");
/// ```
pub fn date(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    let (year, month, day) = civil(days);
    let name = MONTHS.get(month as usize).copied().unwrap_or("?");
    format!("{year} {name} {day:2} {:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60)
}

/// Year, month (0 to 11) and day of a day number. Years are counted from March, so that the leap day is the last one.
fn civil(days: i64) -> (i64, i64, i64) {
    let from_march_of_0 = days.saturating_add(719_468);
    let (era, of_era) = (from_march_of_0.div_euclid(ERA), from_march_of_0.rem_euclid(ERA));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / (ERA - 1)) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = (from_march + 2) % 12;
    (era * 400 + year_of_era + i64::from(month < 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn dates() {
        for (seconds, text) in [
            (0, "1970 Jan  1 00:00:00"),
            (-1, "1969 Dec 31 23:59:59"),
            (951_782_399, "2000 Feb 28 23:59:59"),
            (951_782_400, "2000 Feb 29 00:00:00"),
            (4_107_542_400, "2100 Mar  1 00:00:00"),
            (1_727_545_878, "2024 Sep 28 17:51:18"),
        ] {
            assert_eq!(date(seconds), text);
        }
        for extreme in [i64::MIN, i64::MAX] {
            assert!(!date(extreme).is_empty());
        }
    }
}

//! Periods, and times rounded to them.

use super::value::whole;

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// A length of time, as `bin(5m)` takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Period {
    /// Always as long: so many milliseconds, counted from the epoch.
    Millis(i64),
    /// Calendar months: `mo`, `q`, `y`.
    Months(i64),
}

impl Period {
    /// `5` with `m`; a whole number of at least one.
    pub(super) fn new(count: f64, unit: &str) -> Option<Period> {
        let unit = unit.to_ascii_lowercase();
        let (length, months) = match unit.as_str() {
            "ms" | "msec" | "msecs" | "millisecond" | "milliseconds" => (1, 0),
            "s" | "sec" | "secs" | "second" | "seconds" => (SECOND, 0),
            "m" | "min" | "mins" | "minute" | "minutes" => (MINUTE, 0),
            "h" | "hr" | "hrs" | "hour" | "hours" => (HOUR, 0),
            "d" | "day" | "days" => (DAY, 0),
            "w" | "week" | "weeks" => (7 * DAY, 0),
            "mo" | "mon" | "month" | "months" => (0, 1),
            "q" | "qtr" | "quarter" | "quarters" => (0, 3),
            "y" | "yr" | "year" | "years" => (0, 12),
            _ => return None,
        };
        if count < 1.0 || count.fract() != 0.0 {
            return None;
        }
        let count = whole(count);
        if months > 0 {
            // Ten thousand years: what the calendar below can hold.
            let months = count.checked_mul(months)?;
            return (months <= 120_000).then_some(Period::Months(months));
        }
        count.checked_mul(length).map(Period::Millis)
    }

    /// The start of the period that a time lies in.
    pub(super) fn floor(self, at: i64) -> i64 {
        match self {
            Period::Millis(length) => at.saturating_sub(at.rem_euclid(length)),
            Period::Months(length) => {
                let month = month_of(at);
                start_of_month(month - (month - 1970 * 12).rem_euclid(length))
            }
        }
    }

    /// The end of the period that a time lies in, unless it is its start.
    pub(super) fn ceil(self, at: i64) -> i64 {
        let floor = self.floor(at);
        match self {
            _ if floor == at => at,
            Period::Millis(length) => floor.saturating_add(length),
            Period::Months(length) => {
                start_of_month(month_of(floor).saturating_add(length))
            }
        }
    }
}

/// Times that the calendar is asked about: the years 0 to 9999. Log events
/// lie within; what computes beyond it is held at the edge.
fn clamp(at: i64) -> i64 {
    at.clamp(-62_167_219_200_000, 253_402_300_799_999)
}

/// Months since the year 0.
fn month_of(at: i64) -> i64 {
    let (year, month, _) = civil(clamp(at).div_euclid(DAY));
    year * 12 + month - 1
}

fn start_of_month(month: i64) -> i64 {
    let (year, month) = (month.div_euclid(12), month.rem_euclid(12) + 1);
    days(year, month, 1).saturating_mul(DAY)
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian
/// calendar (Hinnant, "chrono-compatible low-level date algorithms").
fn civil(day: i64) -> (i64, i64, i64) {
    let day = day + 719_468;
    let era = day.div_euclid(146_097);
    let of_era = day.rem_euclid(146_097);
    let year =
        (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year + era * 400 + i64::from(month <= 2), month, of_month)
}

/// The day of a date, counted from 1970-01-01.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * shifted + 2) / 5 + day - 1;
    let day = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    era * 146_097 + day - 719_468
}

/// A time as Insights shows it, in UTC.
pub(super) fn format(at: i64) -> String {
    let at = clamp(at);
    let (year, month, day) = civil(at.div_euclid(DAY));
    let rest = at.rem_euclid(DAY);
    let (hour, minute) = (rest / HOUR, rest % HOUR / MINUTE);
    let (second, milli) = (rest % MINUTE / SECOND, rest % SECOND);
    format!(
        "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}\
         .{milli:03}"
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_shown_and_rounded() {
        let at = 1_767_323_045_678; // 2026-01-02T03:04:05.678Z
        assert_eq!(format(at), "2026-01-02 03:04:05.678");
        let floor =
            |count, unit| format(Period::new(count, unit).unwrap().floor(at));
        assert_eq!(floor(5.0, "m"), "2026-01-02 03:00:00.000");
        assert_eq!(floor(1.0, "d"), "2026-01-02 00:00:00.000");
        assert_eq!(floor(1.0, "mo"), "2026-01-01 00:00:00.000");
        assert_eq!(floor(1.0, "q"), "2026-01-01 00:00:00.000");
        assert_eq!(floor(1.0, "year"), "2026-01-01 00:00:00.000");
        let month = Period::new(1.0, "mo").unwrap();
        assert_eq!(format(month.ceil(at)), "2026-02-01 00:00:00.000");
        assert_eq!(month.ceil(month.floor(at)), month.floor(at));
        assert_eq!(format(i64::MAX), "9999-12-31 23:59:59.999");
        for wrong in [(0.0, "m"), (1.5, "m"), (1.0, ""), (1.0, "parsecs")] {
            assert_eq!(Period::new(wrong.0, wrong.1), None);
        }
    }

    proptest! {
        #[test]
        fn floors_are_not_after_and_ceilings_not_before(
            at in -62_000_000_000_000_i64..253_000_000_000_000,
            count in 1..500_u32,
            unit in prop::sample::select(
                vec!["ms", "s", "m", "h", "d", "w", "mo", "q", "y"]),
        ) {
            let period = Period::new(f64::from(count), unit).unwrap();
            let (floor, ceil) = (period.floor(at), period.ceil(at));
            prop_assert!(floor <= at && at <= ceil);
            prop_assert_eq!(period.floor(floor), floor);
        }

        #[test]
        fn no_time_panics(at: i64, count: f64) {
            for unit in ["ms", "w", "mo", "y"] {
                if let Some(period) = Period::new(count, unit) {
                    let _ = (period.floor(at), period.ceil(at));
                }
            }
            let _ = format(at);
        }
    }
}

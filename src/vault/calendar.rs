//! Calendar days and retention periods.
//!
//! Guarantees: a period is whole years, months, weeks and days, at least one day and at most
//! `limits::RETENTION_YEARS_MAX` years; its last day is found on the calendar, not by counting
//! seconds, and is never earlier than the period. The rule is that of articles 201 and 202 of the
//! Civil Code of the PRC: the day on which the record is created does not count; a period of months
//! or years ends with the corresponding day, or with the last day of the month where there is none.

use std::fmt;
use std::str::FromStr;

use jiff::Span;
use jiff::civil::Date;

use crate::clock::UnixMillis;
use crate::id::Day;
use crate::limits;

const EPOCH: Date = Date::constant(1970, 1, 1);
/// `YYYY-MM-DD`.
const ISO_DATE_BYTES: usize = 10;
/// Digits in one part of a period: more than the limit of years, given in days, needs.
const PART_DIGITS_MAX: usize = 5;

/// Days from 2096 to 2105: with and without leap days, and a century that has none.
const STARTS: std::ops::Range<i32> = 46_021..49_673;

/// Reads `2026-01-31`: four, two and two digits, years 0001 to 9999, a day that exists.
pub fn parse_iso_date(text: &str) -> Option<Day> {
    let bytes = text.as_bytes();
    let shaped = bytes.len() == ISO_DATE_BYTES
        && bytes.iter().enumerate().all(|(i, b)| match i {
            4 | 7 => *b == b'-',
            _ => b.is_ascii_digit(),
        });
    if !shaped {
        return None;
    }
    let date = Date::new(
        text.get(0..4)?.parse().ok()?,
        text.get(5..7)?.parse().ok()?,
        text.get(8..10)?.parse().ok()?,
    );
    date.ok().filter(|d| d.year() >= 1).and_then(day_of)
}

/// Writes `2026-01-31`. `None` outside the years 0001 to 9999, and so for [`Day::OPEN_ENDED`].
pub fn format_iso_date(day: Day) -> Option<String> {
    date_of(day)
        .filter(|d| d.year() >= 1)
        .map(|d| format!("{:04}-{:02}-{:02}", d.year(), d.month(), d.day()))
}

/// Writes `2026-01-31T09:30:00.125Z`: always UTC, always milliseconds. `None` outside the years 0001 to 9999.
pub fn format_instant(at: UnixMillis) -> Option<String> {
    let (day, rest) = (at.day(), at.0.rem_euclid(86_400_000));
    let (seconds, millis) = (rest / 1_000, rest % 1_000);
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let date = format_iso_date(day)?;
    Some(format!("{date}T{hours:02}:{minutes:02}:{seconds:02}.{millis:03}Z"))
}

/// Whether a record with this last day is due: the whole of that day has passed, in UTC.
pub fn is_due(expiry: Day, now: UnixMillis) -> bool {
    expiry != Day::OPEN_ENDED && now.day() > expiry
}

pub(super) fn date_of(day: Day) -> Option<Date> {
    EPOCH.checked_add(Span::new().try_days(day.0).ok()?).ok()
}

pub(super) fn day_of(date: Date) -> Option<Day> {
    EPOCH.until(date).ok().map(|span| Day(span.get_days()))
}

/// An ISO 8601 duration of whole calendar units, `P3Y6M`. Kept as it was given: `P12M` is not shown
/// as `P1Y`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    years: u32,
    months: u32,
    weeks: u32,
    days: u32,
}

/// Why a text is no retention period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeriodError {
    #[error("is not an ISO 8601 duration of whole years, months, weeks or days, such as P3Y6M")]
    Grammar,
    #[error("is no time at all")]
    Zero,
    #[error("is over {} years", limits::RETENTION_YEARS_MAX)]
    TooLong,
}

impl Period {
    /// The last day of a period that starts on this day, which itself does not count.
    ///
    /// Years and months go first, then weeks and days. Past the calendar's end (year 9999) every
    /// year counts 366 days and every month 31: late rather than early.
    pub fn last_day(self, start: Day) -> Day {
        self.on_calendar(start).unwrap_or_else(|| {
            let days = self.years * 366 + self.months * 31 + self.weeks * 7 + self.days;
            let days = i32::try_from(days).unwrap_or(i32::MAX);
            Day(start.0.saturating_add(days).min(Day::LAST.0))
        })
    }

    /// Whether there is a day of the calendar from which this ends later than the other: `P1M` and `P30D` each may.
    pub fn may_exceed(self, other: Self) -> bool {
        STARTS.clone().any(|start| self.last_day(Day(start)) > other.last_day(Day(start)))
    }

    /// Whether there is a day of the calendar from which this is less than so many days.
    pub fn may_be_less_than(self, days: i32) -> bool {
        STARTS.clone().any(|start| self.last_day(Day(start)).0 - start < days)
    }

    fn on_calendar(self, start: Day) -> Option<Day> {
        let span = Span::new()
            .try_years(self.years)
            .and_then(|s| s.try_months(self.months))
            .and_then(|s| s.try_weeks(self.weeks))
            .and_then(|s| s.try_days(self.days));
        day_of(date_of(start)?.checked_add(span.ok()?).ok()?)
    }

    /// Compares in millionths of a day with a mean month of 30.436875 days, so that `P100Y` and
    /// `P1200M` just fit.
    fn within_limit(self) -> bool {
        const MONTH: i64 = 30_436_875;
        let months = i64::from(self.years) * 12 + i64::from(self.months);
        let days = i64::from(self.weeks) * 7 + i64::from(self.days);
        months * MONTH + days * 1_000_000 <= limits::RETENTION_YEARS_MAX * 12 * MONTH
    }
}

impl FromStr for Period {
    type Err = PeriodError;

    fn from_str(text: &str) -> Result<Self, PeriodError> {
        let mut rest = text.strip_prefix('P').ok_or(PeriodError::Grammar)?;
        if rest.is_empty() {
            return Err(PeriodError::Grammar);
        }
        let period = Period {
            years: part(&mut rest, 'Y')?,
            months: part(&mut rest, 'M')?,
            weeks: part(&mut rest, 'W')?,
            days: part(&mut rest, 'D')?,
        };
        if !rest.is_empty() {
            return Err(PeriodError::Grammar);
        }
        if period == (Period { years: 0, months: 0, weeks: 0, days: 0 }) {
            return Err(PeriodError::Zero);
        }
        period.within_limit().then_some(period).ok_or(PeriodError::TooLong)
    }
}

/// Takes `n<unit>` off the front; 0 if the next part is of another unit.
fn part(rest: &mut &str, unit: char) -> Result<u32, PeriodError> {
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (number, tail) = rest.split_at_checked(digits).ok_or(PeriodError::Grammar)?;
    let Some(tail) = tail.strip_prefix(unit) else {
        return Ok(0);
    };
    if number.is_empty() || number.len() > PART_DIGITS_MAX {
        return Err(PeriodError::Grammar);
    }
    *rest = tail;
    number.parse().map_err(|_| PeriodError::Grammar)
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("P")?;
        for (n, unit) in
            [(self.years, 'Y'), (self.months, 'M'), (self.weeks, 'W'), (self.days, 'D')]
        {
            if n > 0 {
                write!(f, "{n}{unit}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MILLIS: i64 = 86_400_000;

    fn at(date: &str) -> UnixMillis {
        UnixMillis(i64::from(parse_iso_date(date).unwrap().0) * DAY_MILLIS + 15 * 3_600_000)
    }

    fn expiry(created: &str, period: &str) -> String {
        format_iso_date(period.parse::<Period>().unwrap().last_day(at(created).day())).unwrap()
    }

    #[test]
    fn periods_end_on_the_corresponding_day_or_the_month_s_last() {
        let cases = [
            ("2026-01-31", "P1M", "2026-02-28"),
            ("2028-01-31", "P1M", "2028-02-29"),
            ("2028-02-29", "P1Y", "2029-02-28"),
            ("2028-02-29", "P4Y", "2032-02-29"),
            ("2026-03-31", "P1M", "2026-04-30"),
            ("2026-12-31", "P2M", "2027-02-28"),
            ("2026-05-15", "P3Y6M", "2029-11-15"),
            ("2026-05-15", "P2W", "2026-05-29"),
            ("2026-02-28", "P1D", "2026-03-01"),
            ("2026-01-31", "P1M1D", "2026-03-01"),
            ("1969-12-31", "P1D", "1970-01-01"),
            ("2026-06-01", "P100Y", "2126-06-01"),
        ];
        for (created, period, want) in cases {
            assert_eq!(expiry(created, period), want, "{created} + {period}");
        }
    }

    #[test]
    fn a_period_is_never_cut_short() {
        // A calendar month has at least 28 days and a year 365; nothing may be due before those
        // have passed in full.
        for start in 0..1_500 {
            let created = UnixMillis((20_000 + start) * DAY_MILLIS + DAY_MILLIS - 1);
            for (period, days) in [("P1D", 1), ("P1W", 7), ("P1M", 28), ("P3M", 89), ("P1Y", 365)] {
                let expiry = period.parse::<Period>().unwrap().last_day(created.day());
                let earliest = UnixMillis(created.0 + days * DAY_MILLIS);
                assert!(!is_due(expiry, earliest), "day {start} + {period}");
                let latest = UnixMillis(created.0 + (days + days / 28 * 3 + 2) * DAY_MILLIS);
                assert!(is_due(expiry, latest), "day {start} + {period} is kept too long");
            }
        }
    }

    #[test]
    fn past_the_calendar_a_period_is_late_rather_than_early() {
        let year: Period = "P1Y".parse().unwrap();
        assert_eq!(year.last_day(at("9999-01-31").day()).0, at("9999-01-31").day().0 + 366);
        for millis in [i64::MIN, i64::MAX] {
            let expiry = year.last_day(UnixMillis(millis).day());
            assert!(expiry >= UnixMillis(millis).day() && expiry < Day::HELD);
        }
        assert!(!is_due(Day::OPEN_ENDED, UnixMillis(i64::MAX)));
    }

    #[test]
    fn a_period_exceeds_another_if_it_does_from_any_day() {
        let exceeds = |a: &str, b: &str| {
            a.parse::<Period>().unwrap().may_exceed(b.parse::<Period>().unwrap())
        };
        for (a, b, want) in [
            ("P1Y", "P12M", false),
            ("P12M", "P1Y", false),
            ("P1M", "P30D", true),
            ("P30D", "P1M", true),
            ("P28D", "P1M", false),
            ("P1M", "P31D", false),
            ("P1Y", "P365D", true),
            ("P1Y", "P366D", false),
            ("P4Y", "P1461D", false),
            ("P1461D", "P4Y", true),
            ("P10Y", "P3Y", true),
        ] {
            assert_eq!(exceeds(a, b), want, "{a} > {b}");
        }
    }

    #[test]
    fn due_means_that_the_whole_day_has_passed() {
        let day = parse_iso_date("2026-02-28").unwrap();
        let midnight_after = UnixMillis(i64::from(day.0 + 1) * DAY_MILLIS);
        assert!(!is_due(day, UnixMillis(midnight_after.0 - 1)));
        assert!(is_due(day, midnight_after));
    }

    #[test]
    fn periods_are_read_and_shown_alike() {
        for text in ["P3Y", "P6M", "P2W", "P90D", "P3Y6M", "P1Y2M3W4D", "P1200M", "P36524D"] {
            assert_eq!(text.parse::<Period>().unwrap().to_string(), text);
        }
        assert_eq!("P0Y07D".parse::<Period>().unwrap().to_string(), "P7D");
    }

    #[test]
    fn other_texts_are_no_period() {
        for text in [
            "", "P", "3Y", "P3", "PY", "p3y", "P3y", "P-3Y", "P+3Y", "P3.5Y", "P1M3Y", "P1Y1Y",
            "PT5H", "P1DT5H", " P3Y", "P3Y ", "P100000D", "P３Y", "P1Y\0",
        ] {
            assert_eq!(text.parse::<Period>(), Err(PeriodError::Grammar), "{text:?}");
        }
        assert_eq!("P0D".parse::<Period>(), Err(PeriodError::Zero));
        for text in ["P101Y", "P1201M", "P100Y1D", "P36525D", "P99999W", "P99999Y99999M"] {
            assert_eq!(text.parse::<Period>(), Err(PeriodError::TooLong), "{text}");
        }
    }

    #[test]
    fn iso_dates_are_strict() {
        assert_eq!(parse_iso_date("1970-01-01"), Some(Day(0)));
        assert_eq!(parse_iso_date("2000-02-29"), Some(Day(11_016)));
        for text in [
            "",
            "2026-1-31",
            "2026-02-29",
            "1900-02-29",
            "2026-13-01",
            "2026-00-10",
            "2026-01-00",
            "0000-01-01",
            "20260131",
            "2026/01/31",
            "2026-01-31T",
            "+026-01-31",
            "2026-01-3１",
        ] {
            assert_eq!(parse_iso_date(text), None, "{text:?}");
        }
        for day in (-700_000..2_900_000).step_by(997) {
            assert_eq!(parse_iso_date(&format_iso_date(Day(day)).unwrap()), Some(Day(day)));
        }
        assert_eq!(format_iso_date(Day::OPEN_ENDED), None);
        assert_eq!(
            format_iso_date(parse_iso_date("0001-01-01").map(|d| Day(d.0 - 1)).unwrap()),
            None
        );
    }
}

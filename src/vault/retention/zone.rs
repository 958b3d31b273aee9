//! Time zones: which day it is somewhere, and when that day is over.
//!
//! Guarantees: a zone is one of the IANA database that is compiled in, so that the same rule gives the same day on
//! every machine; a day's end is never told earlier than it is, whatever clocks do at midnight; past the calendar's
//! end a day ends as it does in UTC, a day late.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::Time;
use jiff::tz::TimeZone;

use crate::clock::UnixMillis;
use crate::id::Day;
use crate::limits;
use crate::vault::calendar::{date_of, day_of};

const DAY_MILLIS: i64 = 86_400_000;

/// A time zone by its IANA name, such as `Asia/Shanghai`.
#[derive(Clone, PartialEq, Eq)]
pub struct Zone(TimeZone);

impl Zone {
    pub fn utc() -> Self {
        Self(TimeZone::UTC)
    }

    /// `None` if the database has no zone of this name. Upper and lower case count alike.
    pub fn parse(name: &str) -> Option<Self> {
        if name.len() > limits::ZONE_NAME_BYTES_MAX {
            return None;
        }
        let zone = TimeZone::get(name).ok()?;
        zone.iana_name()?;
        (!zone.is_unknown()).then_some(Self(zone))
    }

    /// As the database writes it.
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    /// The day that it is there at this moment.
    pub fn day(&self, at: UnixMillis) -> Day {
        let found = Timestamp::from_millisecond(at.0).ok();
        found.and_then(|t| day_of(self.0.to_datetime(t).date())).unwrap_or_else(|| at.day())
    }

    /// The moment when the day is over there.
    pub fn end_of(&self, day: Day) -> UnixMillis {
        let next = day.0.checked_add(1).map(Day).and_then(date_of);
        // Where midnight comes twice the second one counts, and where it does not come the moment when clocks skip it.
        let midnight = next.and_then(|date| {
            let there = self.0.to_ambiguous_timestamp(date.to_datetime(Time::midnight()));
            there.later().ok()
        });
        match midnight {
            Some(t) => UnixMillis(t.as_millisecond()),
            None => end_in_utc(Day(day.0.saturating_add(1))),
        }
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Zone({})", self.name())
    }
}

/// The moment when the day is over in UTC: from then on a bucket of it is due.
pub fn end_in_utc(day: Day) -> UnixMillis {
    UnixMillis(i64::from(day.0).saturating_add(1).saturating_mul(DAY_MILLIS))
}

/// The first day that is not over in UTC before this moment: what may go from then on is in the bucket of that day.
pub fn bucket_day(due: UnixMillis) -> Day {
    let before = UnixMillis(due.0.saturating_sub(1)).day();
    Day(before.0.min(Day::LAST.0))
}

#[cfg(test)]
mod tests {
    use super::super::super::calendar::parse_iso_date;
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn day(text: &str) -> Day {
        parse_iso_date(text).unwrap()
    }

    fn end(zone: &str, date: &str) -> String {
        let at = Zone::parse(zone).unwrap().end_of(day(date));
        Timestamp::from_millisecond(at.0).unwrap().to_string()
    }

    #[test]
    fn a_day_ends_at_its_own_midnight_also_where_clocks_change_then() {
        for (zone, date, want) in [
            ("UTC", "2026-12-31", "2027-01-01T00:00:00Z"),
            ("Asia/Shanghai", "2026-11-22", "2026-11-22T16:00:00Z"),
            ("America/Los_Angeles", "2026-07-01", "2026-07-02T07:00:00Z"),
            ("America/Los_Angeles", "2026-12-01", "2026-12-02T08:00:00Z"),
            ("Pacific/Kiritimati", "2026-01-01", "2026-01-01T10:00:00Z"),
            ("Asia/Kathmandu", "2026-01-01", "2026-01-01T18:15:00Z"),
            // Clocks went from midnight to one: the day was over when they did.
            ("America/Sao_Paulo", "2017-10-14", "2017-10-15T03:00:00Z"),
            // Clocks went from one back to midnight, so that midnight came twice: the second one counts.
            ("America/Havana", "2020-10-31", "2020-11-01T05:00:00Z"),
            // There was no 30 December 2011: the 29th and the 30th ended together.
            ("Pacific/Apia", "2011-12-29", "2011-12-30T10:00:00Z"),
            ("Pacific/Apia", "2011-12-30", "2011-12-30T10:00:00Z"),
        ] {
            assert_eq!(end(zone, date), want, "{zone} {date}");
        }
    }

    #[test]
    fn only_names_of_the_database_are_zones() {
        assert_eq!(Zone::parse("asia/shanghai").unwrap().name(), "Asia/Shanghai");
        assert_eq!(Zone::parse("UTC").unwrap().name(), "UTC");
        let long = "A".repeat(limits::ZONE_NAME_BYTES_MAX + 1);
        for name in
            ["", "Mars/Olympus", "EST5EDT4", "+08:00", "Etc/Unknown", "../etc/passwd", &long]
        {
            assert_eq!(Zone::parse(name), None, "{name:?}");
        }
    }

    /// Of every zone, days of two centuries: the day's end is after all of the day, and not late by more than what
    /// clocks ever were set back at a midnight.
    #[test]
    fn in_every_zone_a_day_is_over_at_its_end() {
        let (mut looked, mut plain) = (0, 0);
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        for name in jiff::tz::db().available() {
            let Some(zone) = Zone::parse(name.as_str()) else { continue };
            for _ in 0..60 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let day = Day((seed >> 33) as i32 % 73_049 - 25_567);
                let end = zone.end_of(day);
                assert!(zone.day(end) > day, "{name} {day:?}");
                for later in [1, HOUR, 3 * HOUR, DAY_MILLIS] {
                    assert!(zone.day(UnixMillis(end.0 + later)) > day, "{name} {day:?}: early");
                }
                let before = zone.day(UnixMillis(end.0 - 1));
                let twice = zone.day(UnixMillis(end.0 - 1 - DAY_MILLIS));
                assert!(before <= day || twice <= day, "{name} {day:?}: late");
                plain += u32::from(before == day);
                assert!(zone.end_of(Day(day.0 + 1)) >= end, "{name} {day:?}");
                let bucket = bucket_day(end);
                assert!(end_in_utc(bucket) >= end, "{name}: early");
                assert!(end_in_utc(bucket).0 - end.0 < DAY_MILLIS, "{name}: over a day late");
                looked += 1;
            }
        }
        assert!(looked > 20_000, "only {looked} days were looked at");
        assert!(plain > looked * 99 / 100, "only {plain} of {looked} end when they are over");
    }

    #[test]
    fn past_the_calendar_days_end_late_rather_than_early() {
        let zone = Zone::parse("Asia/Tokyo").unwrap();
        let last = day("9999-12-31");
        assert!(zone.end_of(last) >= end_in_utc(last));
        assert!(zone.end_of(Day::OPEN_ENDED) > end_in_utc(Day::LAST));
        assert_eq!(zone.day(UnixMillis(i64::MAX)), UnixMillis(i64::MAX).day());
        assert!(bucket_day(UnixMillis(i64::MAX)) < Day::HELD);
        assert_eq!(bucket_day(UnixMillis(0)), Day(-1), "midnight belongs to the day before");
        assert_eq!(bucket_day(UnixMillis(1)), Day(0));
    }
}

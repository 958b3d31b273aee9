//! The time that retention goes by: no jump of the wall clock makes anything due early.
//!
//! The vault counts time itself, by the machine's uptime, from a moment that it trusts; uptime cannot be set. A mark
//! of that count is kept in the store, so that it goes on over restarts of the daemon. After a restart of the machine
//! there is only the wall clock: it is believed if it is not behind the last mark and not further ahead of it than a
//! stop may have lasted; else the count goes on from the mark until the clock fits, or until someone confirms it.
//!
//! Invariants: what is due is due by both the count and the wall clock; a period begins at the later of what either
//! makes probable, so that a record which is created under a wrong clock does not go early either.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::{Clock, UnixMillis, Uptime};
use crate::store::sum::with_sum;
use crate::vault::rows::Fields;

/// Key of the mark's row.
pub const MARK_KEY: &[u8] = b"d";
const MAGIC: &[u8; 4] = b"LTK1";
/// Between wall clock and count: what is not worth telling.
const TOLERANCE_MILLIS: i64 = 60_000;

/// The count at a moment of the machine's uptime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub at: UnixMillis,
    pub uptime: Uptime,
    /// The wall clock did not fit when the machine had been started; it may come to.
    pub provisional: bool,
}

impl Mark {
    /// docs/FORMAT.md §3.8
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&self.at.0.to_be_bytes());
        out.extend_from_slice(&self.uptime.millis.to_be_bytes());
        out.extend_from_slice(&self.uptime.boot.unwrap_or_default());
        out.push(u8::from(self.provisional));
        with_sum(out)
    }

    pub fn decode(value: &[u8]) -> Option<Self> {
        let mut at = Fields::after(value, MAGIC)?;
        let count = UnixMillis(i64::from_be_bytes(at.take()?));
        let millis = i64::from_be_bytes(at.take()?);
        let boot: [u8; 16] = at.take()?;
        let boot = (boot != [0; 16]).then_some(boot);
        let [provisional] = at.take()?;
        let uptime = Uptime { millis, boot };
        at.end(Self { at: count, uptime, provisional: provisional != 0 })
            .filter(|_| provisional < 2)
    }

    /// The count at another moment of the same start of the machine.
    fn counted(&self, now: Uptime) -> Option<UnixMillis> {
        let same = self.uptime.boot.is_some() && self.uptime.boot == now.boot;
        let passed = now.millis.checked_sub(self.uptime.millis)?;
        (same && passed >= 0).then(|| UnixMillis(self.at.0.saturating_add(passed)))
    }
}

/// How the wall clock compares with the vault's own count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockState {
    /// They agree.
    Sound,
    /// The wall clock was set forward: the count is gone by.
    Ahead,
    /// The wall clock was set back: nothing is due before it says so too.
    Behind,
    /// Since the machine was started the wall clock is so far ahead that someone must confirm it.
    Unconfirmed,
}

impl ClockState {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sound => "sound",
            Self::Ahead => "ahead",
            Self::Behind => "behind",
            Self::Unconfirmed => "unconfirmed",
        }
    }
}

/// Counts time.
pub struct Timekeeper {
    base: Mutex<Mark>,
    /// How long the machine may have been off without anyone confirming its clock.
    gap_max: i64,
}

impl Timekeeper {
    /// Goes on from the last mark; without one, from the greatest time that the anchor has seen.
    pub fn start(
        clock: &dyn Clock,
        mark: Option<Mark>,
        seen: Option<UnixMillis>,
        gap_max: Duration,
    ) -> Self {
        let (wall, uptime) = (clock.now(), clock.uptime());
        let gap_max = i64::try_from(gap_max.as_millis()).unwrap_or(i64::MAX);
        let counted = mark.and_then(|m| Some((m.counted(uptime)?, m.provisional)));
        let base = match (counted, mark.map(|m| m.at).or(seen)) {
            (Some((at, provisional)), _) => Mark { at, uptime, provisional },
            (None, None) => Mark { at: wall, uptime, provisional: false },
            (None, Some(floor)) => {
                let fits = wall >= floor && wall.0.saturating_sub(floor.0) <= gap_max;
                Mark { at: if fits { wall } else { floor }, uptime, provisional: !fits }
            }
        };
        Self { base: Mutex::new(base), gap_max }
    }

    fn base(&self) -> MutexGuard<'_, Mark> {
        self.base.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The count, and whether it is provisional. A wall clock that has come to fit is believed from now on.
    fn count(&self, clock: &dyn Clock) -> (UnixMillis, bool) {
        let (wall, uptime) = (clock.now(), clock.uptime());
        let mut base = self.base();
        // A running process has been through one start of the machine only.
        let passed = uptime.millis.saturating_sub(base.uptime.millis).max(0);
        let counted = UnixMillis(base.at.0.saturating_add(passed));
        let fits = wall >= counted && wall.0.saturating_sub(counted.0) <= self.gap_max;
        if base.provisional && fits {
            *base = Mark { at: wall, uptime, provisional: false };
            return (wall, false);
        }
        (counted, base.provisional)
    }

    /// The moment by which something must be due to go now.
    pub fn due(&self, clock: &dyn Clock) -> UnixMillis {
        self.count(clock).0.min(clock.now())
    }

    /// The moment at which a period that begins now begins.
    pub fn begin(&self, clock: &dyn Clock) -> UnixMillis {
        let (count, provisional) = self.count(clock);
        if provisional { count.max(clock.now()) } else { count }
    }

    pub fn state(&self, clock: &dyn Clock) -> ClockState {
        let (count, provisional) = self.count(clock);
        let ahead = clock.now().0.saturating_sub(count.0);
        if ahead < -TOLERANCE_MILLIS {
            ClockState::Behind
        } else if provisional && ahead > 0 {
            ClockState::Unconfirmed
        } else if ahead > TOLERANCE_MILLIS {
            ClockState::Ahead
        } else {
            ClockState::Sound
        }
    }

    /// What to keep in the store.
    pub fn mark(&self, clock: &dyn Clock) -> Mark {
        let (at, provisional) = self.count(clock);
        Mark { at, uptime: clock.uptime(), provisional }
    }

    /// Believes the wall clock as it is now: someone looked at it.
    pub fn confirm(&self, clock: &dyn Clock) {
        *self.base() = Mark { at: clock.now(), uptime: clock.uptime(), provisional: false };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    const HOUR: i64 = 3_600_000;
    const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

    fn at(hours: i64) -> UnixMillis {
        UnixMillis(1_800_000_000_000 + hours * HOUR)
    }

    fn told(time: &Timekeeper, clock: &ManualClock) -> (UnixMillis, UnixMillis, ClockState) {
        (time.due(clock), time.begin(clock), time.state(clock))
    }

    #[test]
    fn a_jump_of_the_wall_clock_makes_nothing_due_and_begins_no_period_elsewhere() {
        let clock = ManualClock::at(at(0));
        let time = Timekeeper::start(&clock, None, None, WEEK);
        clock.set(at(1));
        assert_eq!(told(&time, &clock), (at(1), at(1), ClockState::Sound));
        for hours in [2, 24, 24 * 365 * 10] {
            clock.jump(at(1 + hours));
            assert_eq!(told(&time, &clock), (at(1), at(1), ClockState::Ahead));
            clock.jump(at(1 - hours));
            assert_eq!(told(&time, &clock), (at(1 - hours), at(1), ClockState::Behind));
        }
        clock.jump(at(1));
        assert_eq!(told(&time, &clock), (at(1), at(1), ClockState::Sound), "it was set right");
    }

    #[test]
    fn the_count_goes_on_over_a_restart_of_the_daemon_whatever_the_clock_says() {
        let clock = ManualClock::at(at(0));
        let time = Timekeeper::start(&clock, None, None, WEEK);
        clock.set(at(5));
        let mark = Mark::decode(&time.mark(&clock).encode()).unwrap();
        clock.set(at(6));
        clock.jump(at(9_999));
        let again = Timekeeper::start(&clock, Some(mark), Some(at(9_999)), WEEK);
        assert_eq!(told(&again, &clock), (at(6), at(6), ClockState::Ahead));
    }

    #[test]
    fn after_a_restart_of_the_machine_the_clock_must_fit_or_be_confirmed() {
        let fresh = |wall: i64, mark: Option<Mark>, seen: Option<UnixMillis>| {
            let clock = ManualClock::at(at(wall));
            clock.reboot();
            (Timekeeper::start(&clock, mark, seen, WEEK), clock)
        };
        let uptime = Uptime { millis: 7, boot: Some([9; 16]) };
        let mark = Mark { at: at(100), uptime, provisional: false };
        let (time, clock) = fresh(120, Some(mark), None);
        assert_eq!(told(&time, &clock), (at(120), at(120), ClockState::Sound));
        // Off for longer than a week, or so it seems: nothing is due, and what begins now begins as late as it may.
        let (time, clock) = fresh(100 + 200, Some(mark), None);
        assert_eq!(told(&time, &clock), (at(100), at(300), ClockState::Unconfirmed));
        // Nor does a restart of the daemon make it believed.
        let kept = Mark::decode(&time.mark(&clock).encode()).unwrap();
        let time = Timekeeper::start(&clock, Some(kept), Some(at(300)), WEEK);
        assert_eq!(told(&time, &clock), (at(100), at(300), ClockState::Unconfirmed));
        time.confirm(&clock);
        assert_eq!(told(&time, &clock), (at(300), at(300), ClockState::Sound));
        // A clock without a battery: behind until it is set.
        let (time, clock) = fresh(-400_000, Some(mark), None);
        assert_eq!(told(&time, &clock), (at(-400_000), at(100), ClockState::Behind));
        clock.jump(at(110));
        assert_eq!(told(&time, &clock), (at(110), at(110), ClockState::Sound));
        clock.jump(at(130));
        assert_eq!(told(&time, &clock).0, at(110), "it is believed once");
        // The anchor has seen a wall clock that had jumped ahead: the mark has not.
        let (time, clock) = fresh(120, Some(mark), Some(at(90_000)));
        assert_eq!(told(&time, &clock), (at(120), at(120), ClockState::Sound));
        // Without a mark the anchor's time is the floor.
        let (time, clock) = fresh(400, None, Some(at(100)));
        assert_eq!(told(&time, &clock), (at(100), at(400), ClockState::Unconfirmed));
    }

    #[test]
    fn without_a_boot_id_uptime_is_not_compared() {
        let now = Uptime { millis: 50, boot: None };
        let uptime = Uptime { millis: 20, boot: None };
        let mark = Mark { at: at(0), uptime, provisional: true };
        assert_eq!(mark.counted(now), None);
        assert_eq!(Mark::decode(&mark.encode()), Some(mark));
        let known = Mark { uptime: Uptime { millis: 20, boot: Some([1; 16]) }, ..mark };
        assert_eq!(known.counted(Uptime { millis: 19, ..known.uptime }), None, "went back");
        let later = Uptime { millis: 21, ..known.uptime };
        assert_eq!(known.counted(later), Some(UnixMillis(at(0).0 + 1)));
        let bytes = known.encode();
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Mark::decode(&bad), None);
        }
    }
}

//! Time, injected. Nothing below `server` asks the operating system for the time.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU8, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::id::Day;
use crate::os;

const MILLIS_PER_DAY: i64 = 86_400_000;

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    /// The UTC day that this moment falls in.
    pub fn day(self) -> Day {
        let days = self.0.div_euclid(MILLIS_PER_DAY);
        Day(i32::try_from(days).unwrap_or(if days < 0 { i32::MIN } else { Day::LAST.0 }))
    }
}

/// What a clock that nobody can set shows: how long one start of the machine has lasted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uptime {
    pub millis: i64,
    /// Random; of another start it is another. `None`: nobody knows.
    pub boot: Option<[u8; 16]>,
}

/// Where the time comes from.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock, which may be set forward or back at any moment.
    fn now(&self) -> UnixMillis;
    fn uptime(&self) -> Uptime;
}

/// The operating system's wall clock.
#[derive(Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixMillis {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn uptime(&self) -> Uptime {
        static BOOT: OnceLock<Option<[u8; 16]>> = OnceLock::new();
        Uptime { millis: os::uptime_millis(), boot: *BOOT.get_or_init(os::boot_id) }
    }
}

/// A clock that a test sets.
#[derive(Debug, Default)]
pub struct ManualClock {
    wall: AtomicI64,
    uptime: AtomicI64,
    boot: AtomicU8,
}

impl ManualClock {
    pub fn at(now: UnixMillis) -> Self {
        Self { wall: AtomicI64::new(now.0), ..Self::default() }
    }

    /// Time passes until then. Into the past the clock jumps.
    pub fn set(&self, now: UnixMillis) {
        let before = self.wall.swap(now.0, Ordering::SeqCst);
        self.uptime.fetch_add(now.0.saturating_sub(before).max(0), Ordering::SeqCst);
    }

    /// The clock is set to another time, and none passes.
    pub fn jump(&self, now: UnixMillis) {
        self.wall.store(now.0, Ordering::SeqCst);
    }

    /// The machine is started anew.
    pub fn reboot(&self) {
        self.uptime.store(0, Ordering::SeqCst);
        self.boot.fetch_add(1, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.wall.load(Ordering::SeqCst))
    }

    fn uptime(&self) -> Uptime {
        let boot = Some([self.boot.load(Ordering::SeqCst).wrapping_add(1); 16]);
        Uptime { millis: self.uptime.load(Ordering::SeqCst), boot }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptime_goes_on_whatever_the_wall_clock_is_set_to() {
        let first = SystemClock.uptime();
        std::thread::sleep(std::time::Duration::from_millis(20));
        let second = SystemClock.uptime();
        assert!((20..60_000).contains(&(second.millis - first.millis)));
        assert!(first.boot.is_some() && first.boot == second.boot);
        let clock = ManualClock::at(UnixMillis(1_000));
        clock.set(UnixMillis(1_500));
        clock.jump(UnixMillis(99_000));
        clock.set(UnixMillis(400));
        assert_eq!((clock.now(), clock.uptime().millis), (UnixMillis(400), 500));
        let boot = clock.uptime().boot;
        clock.reboot();
        assert!(clock.uptime().millis == 0 && clock.uptime().boot != boot);
    }

    #[test]
    fn days_break_at_midnight_utc_on_both_sides_of_the_epoch() {
        assert_eq!(UnixMillis(0).day(), Day(0));
        assert_eq!(UnixMillis(-1).day(), Day(-1));
        assert_eq!(UnixMillis(86_399_999).day(), Day(0));
        assert_eq!(UnixMillis(86_400_000).day(), Day(1));
    }
}

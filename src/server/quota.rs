//! What one identity may take of the door: connections at once, and calls in a second.
//!
//! Guarantees: an identity never holds more connections than its share, whatever their order; over any time it makes no
//! more calls than its burst and its rate allow, over all its connections together, also when it reconnects. Identities
//! that are remembered are bounded by `limits::IDENTITIES_MAX`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::DoorLimits;
use super::untaken::Untaken;
use crate::authz::Principal;
use crate::limits;

/// What all identities have taken.
#[derive(Debug)]
pub struct Quotas {
    connections: usize,
    rate: Rate,
    /// Times are counted from here.
    origin: Instant,
    all: Mutex<HashMap<Principal, Arc<Quota>>>,
}

/// What one identity has taken.
#[derive(Debug, Default)]
pub struct Quota {
    open: AtomicUsize,
    calls: Mutex<Calls>,
    /// Over all its connections.
    pub untaken: Untaken,
}

/// A place of one connection; given back when dropped.
#[derive(Debug)]
pub struct Seat(Arc<Quota>);

/// The identity has its share already.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

/// Calls in a second and at once, as times.
#[derive(Clone, Copy, Debug)]
struct Rate {
    /// One call's share of a second.
    every: Duration,
    /// How far calls may run ahead of the rate.
    ahead: Duration,
}

/// The moment, from the origin, at which the calls made so far would have been made at the rate exactly: a bucket that
/// refills by itself (the generic cell rate algorithm, ITU-T I.371).
#[derive(Clone, Copy, Debug, Default)]
struct Calls(Duration);

impl Calls {
    fn spend(&mut self, now: Duration, rate: Rate) -> Result<(), Duration> {
        let due = self.0.max(now);
        match (due - now).checked_sub(rate.ahead) {
            Some(wait) if wait > Duration::ZERO => Err(wait),
            _ => {
                self.0 = due + rate.every;
                Ok(())
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Seat {
    pub fn quota(&self) -> &Arc<Quota> {
        &self.0
    }
}

impl Quotas {
    pub fn new(limits: &DoorLimits) -> Self {
        let every = Duration::from_secs(1) / limits.calls_per_second.max(1);
        let rate = Rate { every, ahead: every * limits.calls_burst.saturating_sub(1) };
        Self {
            connections: limits.identity_connections,
            rate,
            origin: Instant::now(),
            all: Mutex::default(),
        }
    }

    /// A place for one more connection of `principal`.
    pub fn enter(&self, principal: &Principal, now: Instant) -> Result<Seat, Full> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.contains_key(principal) && all.len() >= limits::IDENTITIES_MAX {
            // An identity is forgotten only when that gives it nothing: no connection, and a full bucket.
            let now = now.saturating_duration_since(self.origin);
            all.retain(|_, quota| quota.open.load(Ordering::Acquire) > 0 || quota.lock().0 > now);
            if all.len() >= limits::IDENTITIES_MAX {
                return Err(Full);
            }
        }
        let quota = all.entry(principal.clone()).or_default();
        // Only under the lock does the number grow.
        if quota.open.load(Ordering::Acquire) >= self.connections {
            return Err(Full);
        }
        quota.open.fetch_add(1, Ordering::AcqRel);
        Ok(Seat(Arc::clone(quota)))
    }

    /// One call, or how long to wait for it.
    pub fn spend(&self, quota: &Quota, now: Instant) -> Result<(), Duration> {
        quota.lock().spend(now.saturating_duration_since(self.origin), self.rate)
    }
}

impl Quota {
    fn lock(&self) -> std::sync::MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quotas(connections: usize, calls_per_second: u32, calls_burst: u32) -> Quotas {
        let d = DoorLimits::default();
        Quotas::new(&DoorLimits {
            identity_connections: connections,
            calls_per_second,
            calls_burst,
            ..d
        })
    }

    fn principal(name: &str) -> Principal {
        Principal::parse(&format!("spiffe://test/{name}")).unwrap()
    }

    #[test]
    fn an_identity_has_its_share_of_connections_and_no_more() {
        let quotas = quotas(2, 1, 1);
        let now = Instant::now();
        let one = quotas.enter(&principal("a"), now).unwrap();
        let _two = quotas.enter(&principal("a"), now).unwrap();
        assert_eq!(quotas.enter(&principal("a"), now).err(), Some(Full));
        assert!(quotas.enter(&principal("b"), now).is_ok(), "others have theirs");
        drop(one);
        assert!(quotas.enter(&principal("a"), now).is_ok());
    }

    #[test]
    fn a_burst_and_then_the_rate_also_after_a_reconnect() {
        let quotas = quotas(9, 10, 3);
        let at = |ms| quotas.origin + Duration::from_millis(ms);
        let call = |ms| {
            let seat = quotas.enter(&principal("a"), at(ms)).unwrap();
            quotas.spend(seat.quota(), at(ms))
        };
        assert_eq!([call(0), call(0), call(0)], [Ok(()), Ok(()), Ok(())]);
        assert_eq!(call(0), Err(Duration::from_millis(100)));
        assert_eq!(call(40), Err(Duration::from_millis(60)), "a refusal costs nothing");
        assert_eq!([call(100), call(200)], [Ok(()), Ok(())]);
        assert!(call(200).is_err());
        let made = (0..1000).filter(|n| call(10_000 + n).is_ok()).count();
        assert_eq!(made, 3 + 9, "a rest saves no more than the burst");
    }

    #[test]
    fn identities_are_forgotten_only_with_full_buckets() {
        let quotas = quotas(1, 1, 1);
        let late = quotas.origin + Duration::from_secs(10);
        for n in 0..limits::IDENTITIES_MAX {
            let seat = quotas.enter(&principal(&n.to_string()), quotas.origin).unwrap();
            quotas.spend(seat.quota(), quotas.origin).unwrap();
        }
        assert_eq!(quotas.enter(&principal("more"), quotas.origin).err(), Some(Full));
        assert!(quotas.enter(&principal("0"), quotas.origin).is_ok(), "who is known gets in");
        assert!(quotas.enter(&principal("more"), late).is_ok());
        assert_eq!(quotas.all.lock().unwrap().len(), 1);
    }
}

//! Uses that lengthen a record's life: where a policy counts from the last use, a record that is read is sealed anew
//! with the time of that, and moves to a later bucket.
//!
//! A read does not wait for that. What was read waits in memory, and the keeper's thread moves it within a second; a
//! crash in between forgets the use, and the record has the day that it had before.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::policy::Start;
use crate::authz::{ActionKind, Permit};
use crate::class::Role;
use crate::clock::UnixMillis;
use crate::id::{RecordId, TenantOrd};
use crate::limits;
use crate::vault::core::Core;
use crate::vault::current::Found;
use crate::vault::registry::Tenant;

type Key = (TenantOrd, RecordId);

/// Records that were used and are yet to be moved.
#[derive(Default)]
pub struct Uses(Mutex<BTreeMap<Key, UnixMillis>>);

impl Uses {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, UnixMillis>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False if too many wait.
    fn add(&self, key: Key, at: UnixMillis) -> bool {
        let mut waiting = self.lock();
        let room = waiting.len() < limits::USES_MAX || waiting.contains_key(&key);
        if room {
            waiting.insert(key, at);
        }
        room
    }

    pub fn take(&self, most: usize) -> Vec<(Key, UnixMillis)> {
        let mut waiting = self.lock();
        let chosen: Vec<Key> = waiting.keys().take(most).copied().collect();
        chosen.into_iter().filter_map(|key| Some((key, waiting.remove(&key)?))).collect()
    }

    pub fn waiting(&self) -> usize {
        self.lock().len()
    }
}

impl Core {
    /// Notes that a record is used, once for each day, where a policy counts from that. Looking at it for its subject's
    /// sake, or to audit, is no use of it.
    pub(in crate::vault) fn note_use<A: ActionKind>(
        &self,
        permit: &Permit<A>,
        tenant: &Tenant,
        found: &Found,
    ) {
        if !matches!(permit.role(), Role::Application | Role::Support) {
            return;
        }
        let rules = tenant.rules(found.pointer.rtype);
        let mut sliding = rules.iter().filter(|rule| rule.start == Start::LastUse).peekable();
        if sliding.peek().is_none() {
            return;
        }
        let (used, before) = (self.time.begin(&*self.clock), found.open.fields.used);
        // Also where it changes nothing now: a policy that comes later counts from it.
        if sliding.any(|rule| rule.zone.day(used) > rule.zone.day(before))
            && !self.uses.add((tenant.ord, found.open.version.record), used)
        {
            self.metrics.uses_forgotten.one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded_and_the_last_use_counts() {
        let uses = Uses::default();
        let key = |n: u64| {
            let mut id = [0; 16];
            id[8..].copy_from_slice(&n.to_be_bytes());
            (TenantOrd::of(1), RecordId(id))
        };
        for n in 0..limits::USES_MAX as u64 {
            assert!(uses.add(key(n), UnixMillis(1)));
        }
        assert!(!uses.add(key(u64::MAX), UnixMillis(2)), "no room for another");
        assert!(uses.add(key(0), UnixMillis(2)), "the same record again");
        assert_eq!(uses.take(1), [(key(0), UnixMillis(2))]);
        assert_eq!(uses.waiting(), limits::USES_MAX - 1);
    }
}

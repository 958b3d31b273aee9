//! Superseded versions that wait for their erasure: the `q` rows, in memory.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::rows::Intent;
use crate::clock::UnixMillis;
use crate::id::{Kid, RecordId};
use crate::keys::slots::BucketId;

#[derive(Default)]
struct Versions {
    waiting: BTreeMap<Kid, Intent>,
    /// Those whose page of keys is lost. They would fail every batch that they are in.
    parked: BTreeMap<Kid, Intent>,
}

/// All of them.
#[derive(Default)]
pub struct Superseded(Mutex<Versions>);

impl Superseded {
    fn lock(&self) -> MutexGuard<'_, Versions> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn add(&self, intent: Intent) {
        self.lock().waiting.insert(intent.kid, intent);
    }

    /// Keeps one that cannot be erased until its page is repaired.
    pub fn park(&self, intent: Intent) {
        self.lock().parked.insert(intent.kid, intent);
    }

    /// Those that the next batch can take.
    pub fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    /// All that are not erased.
    pub fn len(&self) -> usize {
        let all = self.lock();
        all.waiting.len() + all.parked.len()
    }

    /// Since when the oldest waits that the next batch can take.
    pub fn oldest(&self) -> Option<UnixMillis> {
        self.lock().waiting.values().map(|i| i.requested).min()
    }

    /// Takes up to `most` to erase them.
    pub fn take(&self, most: usize) -> Vec<Intent> {
        let waiting = &mut self.lock().waiting;
        let chosen: Vec<Kid> = waiting.keys().take(most).copied().collect();
        chosen.iter().filter_map(|k| waiting.remove(k)).collect()
    }

    /// Takes one.
    pub fn take_kid(&self, kid: Kid) -> Option<Intent> {
        let mut all = self.lock();
        all.waiting.remove(&kid).or_else(|| all.parked.remove(&kid))
    }

    /// Those of a record.
    pub fn of_record(&self, record: RecordId) -> Vec<Intent> {
        let all = self.lock();
        let both = all.waiting.values().chain(all.parked.values());
        both.filter(|i| i.record == record).copied().collect()
    }

    /// Their bucket is gone, and they with it.
    pub fn forget_bucket(&self, bucket: BucketId) {
        let mut all = self.lock();
        all.waiting.retain(|kid, _| (kid.tenant, kid.bucket) != bucket);
        all.parked.retain(|kid, _| (kid.tenant, kid.bucket) != bucket);
    }
}

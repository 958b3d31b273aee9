//! Superseded versions that wait for their erasure: the `q` rows, in memory.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::rows::Intent;
use crate::clock::UnixMillis;
use crate::id::{Kid, RecordId};
use crate::keys::slots::BucketId;

/// All of them.
#[derive(Default)]
pub struct Superseded(Mutex<BTreeMap<Kid, Intent>>);

impl Superseded {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Kid, Intent>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn add(&self, intent: Intent) {
        self.lock().insert(intent.kid, intent);
    }

    pub fn len(&self) -> usize {
        self.lock().len()
    }

    pub fn oldest(&self) -> Option<UnixMillis> {
        self.lock().values().map(|i| i.requested).min()
    }

    /// Takes up to `most` to erase them.
    pub fn take(&self, most: usize) -> Vec<Intent> {
        let mut all = self.lock();
        let chosen: Vec<Kid> = all.keys().take(most).copied().collect();
        chosen.iter().filter_map(|k| all.remove(k)).collect()
    }

    /// Takes one.
    pub fn take_kid(&self, kid: Kid) -> Option<Intent> {
        self.lock().remove(&kid)
    }

    /// Those of a record.
    pub fn of_record(&self, record: RecordId) -> Vec<Intent> {
        self.lock().values().filter(|i| i.record == record).copied().collect()
    }

    /// Their bucket is gone, and they with it.
    pub fn forget_bucket(&self, bucket: BucketId) {
        self.lock().retain(|kid, _| (kid.tenant, kid.bucket) != bucket);
    }
}

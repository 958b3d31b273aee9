//! Superseded versions that wait for their erasure: the `q` rows, in memory.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::error::VaultError;
use super::rows::{Intent, Pointer};
use super::sealed;
use crate::class::ErasureReason;
use crate::clock::UnixMillis;
use crate::id::{Kid, RecordId, TenantOrd};
use crate::keys::Tree;
use crate::keys::slots::BucketId;
use crate::store::Row;

#[derive(Default)]
struct Versions {
    waiting: BTreeMap<Kid, Intent>,
    /// Those whose page of keys is lost. They would fail every batch that they are in.
    parked: BTreeMap<Kid, Intent>,
    /// Those of records that a legal hold keeps.
    held: BTreeMap<Kid, Intent>,
}

impl Versions {
    fn all(&self) -> impl Iterator<Item = &Intent> {
        self.waiting.values().chain(self.parked.values()).chain(self.held.values())
    }
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

    /// Keeps one whose record is held.
    pub fn hold(&self, intent: Intent) {
        let mut all = self.lock();
        // One that was moved meanwhile waits for another reason.
        if !all.waiting.contains_key(&intent.kid) {
            all.held.insert(intent.kid, intent);
        }
    }

    /// A hold of the tenant ended: what was held waits again, to be looked at.
    pub fn unhold(&self, tenant: TenantOrd) {
        let mut all = self.lock();
        let free = std::mem::take(&mut all.held);
        let (free, held) = free.into_iter().partition(|(kid, _)| kid.tenant == tenant);
        all.held = held;
        all.waiting.extend::<BTreeMap<Kid, Intent>>(free);
    }

    /// Those in a bucket.
    pub fn in_bucket(&self, bucket: BucketId) -> Vec<Intent> {
        let all = self.lock();
        all.all().filter(|i| (i.kid.tenant, i.kid.bucket) == bucket).copied().collect()
    }

    /// Whether a version waits, or is kept until it can be erased.
    pub fn holds(&self, kid: Kid) -> bool {
        let all = self.lock();
        let maps = [&all.waiting, &all.parked, &all.held];
        maps.iter().any(|versions| versions.contains_key(&kid))
    }

    /// Those that the next batch can take.
    pub fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    /// All that are not erased.
    pub fn len(&self) -> usize {
        let all = self.lock();
        all.all().count()
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
        let Versions { waiting, parked, held } = &mut *all;
        [waiting, parked, held].into_iter().find_map(|versions| versions.remove(&kid))
    }

    /// Those of a record.
    pub fn of_record(&self, record: RecordId) -> Vec<Intent> {
        let all = self.lock();
        all.all().filter(|i| i.record == record).copied().collect()
    }

    /// Their bucket is gone, and they with it.
    pub fn forget_bucket(&self, bucket: BucketId) {
        let mut all = self.lock();
        let Versions { waiting, parked, held } = &mut *all;
        for versions in [waiting, parked, held] {
            versions.retain(|kid, _| (kid.tenant, kid.bucket) != bucket);
        }
    }
}

/// What a `q` row asks for. A damaged one is made anew from the version that it is about: a superseded version must
/// not live on because its intent was lost, and a current one must not die of an intent that was changed.
pub fn intent_of(tree: &Tree, row: &Row, now: UnixMillis) -> Result<Option<Intent>, VaultError> {
    let Some(kid) = row.key.get(1..).and_then(|k| k.try_into().ok()).map(Kid::from_bytes) else {
        return Ok(None);
    };
    let decoded = Intent::decode(&row.value).filter(|i| i.kid == kid);
    let intent = match decoded {
        Some(intent) => Some(intent),
        None => {
            tracing::error!("an erasure intent is damaged; it is made anew from what it is about");
            let value = tree.store().get(&sealed::row_key(kid, 0))?;
            value.as_deref().and_then(sealed::peek).filter(|v| v.kid == kid).map(|v| Intent {
                kid,
                record: v.record,
                rec_ver: v.rec_ver,
                rtype: v.rtype,
                reason: ErasureReason::Superseded,
                requested: now,
            })
        }
    };
    let Some(intent) = intent else { return Ok(None) };
    let pointer = tree.store().get(&Pointer::key(kid.tenant, intent.record))?;
    let current = pointer.as_deref().map(|p| Pointer::decode(p).is_none_or(|p| p.kid == kid));
    // An intent contradicts a pointer to the same version only if one of them is wrong.
    Ok(Some(intent).filter(|_| current != Some(true)))
}

//! Who wants to hear of a tenant's changes, and what they hear: names and kinds, no values.
//!
//! Guarantees: a change is told after it is durable; a watcher that is too far behind hears so instead of missing
//! changes in silence; without watchers a change costs one look at a number.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast;

use super::core::Vault;
use super::error::VaultError;
use super::slug::Slug;
use crate::audit::Act;
use crate::authz::{Permit, WatchRecords};
use crate::clock::UnixMillis;
use crate::id::{Day, RecordId, TenantOrd};
use crate::limits::WATCH_BEHIND_MAX;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    Created,
    Updated,
    Erased,
    BucketErased,
}

/// One change of a tenant.
#[derive(Clone, Debug)]
pub struct Change {
    pub kind: ChangeKind,
    /// `None` for a bucket.
    pub record: Option<RecordId>,
    /// `None` for a subject.
    pub rtype: Option<Slug>,
    /// Of a bucket.
    pub expires: Option<Day>,
    pub at: UnixMillis,
}

impl Change {
    pub(super) fn record(kind: ChangeKind, record: RecordId, rtype: &Slug, at: UnixMillis) -> Self {
        Self { kind, record: Some(record), rtype: Some(rtype.clone()), expires: None, at }
    }

    /// Whether a watcher with this permit may hear of it: by the type of its records; of subjects every watcher hears.
    pub fn is_for(&self, permit: &Permit<WatchRecords>) -> bool {
        self.rtype.as_ref().is_none_or(|rtype| permit.reaches(rtype.as_str()))
    }
}

/// The watchers of all tenants.
#[derive(Default)]
pub struct Watch {
    watched: AtomicUsize,
    tenants: Mutex<HashMap<TenantOrd, broadcast::Sender<Change>>>,
}

impl Watch {
    fn lock(&self) -> MutexGuard<'_, HashMap<TenantOrd, broadcast::Sender<Change>>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells a tenant's watchers of a change that is durable.
    pub(super) fn tell(&self, tenant: TenantOrd, change: impl FnOnce() -> Change) {
        if self.watched.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut tenants = self.lock();
        // An error means that the last watcher left.
        if tenants.get(&tenant).is_some_and(|sender| sender.send(change()).is_err()) {
            tenants.remove(&tenant);
            self.watched.store(tenants.len(), Ordering::Release);
        }
    }

    fn join(&self, tenant: TenantOrd) -> Watcher {
        let mut tenants = self.lock();
        let sender =
            tenants.entry(tenant).or_insert_with(|| broadcast::channel(WATCH_BEHIND_MAX).0);
        let watcher = Watcher(sender.subscribe());
        self.watched.store(tenants.len(), Ordering::Release);
        watcher
    }
}

/// Hears of changes from when it was made.
pub struct Watcher(broadcast::Receiver<Change>);

impl Watcher {
    /// The next change; `None` once the vault is gone. Fails if changes were missed.
    pub async fn next(&mut self) -> Result<Option<Change>, VaultError> {
        match self.0.recv().await {
            Ok(change) => Ok(Some(change)),
            Err(broadcast::error::RecvError::Closed) => Ok(None),
            Err(broadcast::error::RecvError::Lagged(_)) => Err(VaultError::Behind),
        }
    }
}

impl Vault {
    /// Watches a tenant from now on.
    pub fn watch_records(
        &self,
        permit: &Permit<WatchRecords>,
        tenant: &str,
    ) -> Result<Watcher, VaultError> {
        let tenant = self.core.tenant(permit, tenant)?;
        self.core.note(&self.core.entry(permit, Act::WatchRecords).of(tenant.ord))?;
        Ok(self.core.watch.join(tenant.ord))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(n: u8) -> Change {
        let rtype = Slug::parse("customer").unwrap();
        Change::record(ChangeKind::Created, RecordId([n; 16]), &rtype, UnixMillis(0))
    }

    #[tokio::test]
    async fn a_watcher_hears_its_own_tenant_from_when_it_came_and_that_it_is_behind() {
        let (watch, own, other) = (Watch::default(), TenantOrd::of(1), TenantOrd::of(2));
        watch.tell(own, || panic!("nobody watches"));
        let mut watcher = watch.join(own);
        watch.tell(other, || panic!("nobody watches this one"));
        watch.tell(own, || change(1));
        watch.tell(own, || change(2));
        for n in [1, 2] {
            let heard = watcher.next().await.unwrap().unwrap();
            assert_eq!(heard.record, Some(RecordId([n; 16])));
        }
        for n in 0..=WATCH_BEHIND_MAX {
            watch.tell(own, || change(n as u8));
        }
        assert!(matches!(watcher.next().await, Err(VaultError::Behind)));
        drop(watcher);
        watch.tell(own, || change(3));
        watch.tell(own, || panic!("the last watcher left"));
    }
}

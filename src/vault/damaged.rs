//! Records that are there but do not open: so that they are named to people, and that an erasure of a subject does not
//! overlook one which nobody can tell to be the subject's.
//!
//! Invariants: what is noted here is checked again at each use, so that what was erased or restored meanwhile no longer
//! counts; an entry is never dropped for want of room without that being known.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::core::Core;
use super::error::VaultError;
use super::registry::Tenant;
use super::rows::Pointer;
use crate::id::{Kid, RecordId, TenantOrd, TypeOrd};
use crate::keys::KeyError;
use crate::keys::slots::BucketId;
use crate::limits::DAMAGED_NOTED_MAX;

/// Why a subject is not erased.
pub(super) const UNATTRIBUTED: VaultError = VaultError::Precondition(
    "damaged records of this tenant may be the subject's: restore or erase them first (ListRecords names them)",
);

/// Where a damaged version is, and the record that its clear header or its pointer names.
pub type DamagedVersion = (Kid, Option<RecordId>);

#[derive(Default)]
struct Noted {
    versions: BTreeMap<Kid, Option<RecordId>>,
    /// There were more than fit.
    overflow: bool,
}

/// Versions that did not open when they were last looked at.
#[derive(Default)]
pub struct Damaged(Mutex<Noted>);

impl Damaged {
    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn add(&self, (kid, record): DamagedVersion) {
        let mut noted = self.lock();
        if noted.versions.len() >= DAMAGED_NOTED_MAX && !noted.versions.contains_key(&kid) {
            noted.overflow = true;
            return;
        }
        let known = noted.versions.entry(kid).or_default();
        *known = known.or(record);
    }

    /// All of a tenant's; `None` if some were not noted.
    fn of(&self, tenant: TenantOrd) -> Option<Vec<DamagedVersion>> {
        let noted = self.lock();
        let own = noted.versions.iter().filter(|(kid, _)| kid.tenant == tenant);
        (!noted.overflow).then(|| own.map(|(kid, record)| (*kid, *record)).collect())
    }

    /// The record of a version, if anything said so.
    pub fn record_of(&self, kid: Kid) -> Option<RecordId> {
        self.lock().versions.get(&kid).copied().flatten()
    }

    fn all(&self) -> Vec<DamagedVersion> {
        self.lock().versions.iter().map(|(kid, record)| (*kid, *record)).collect()
    }

    /// Those on a bucket's pages from one on; `None` if some were not noted.
    fn on_pages(&self, bucket: BucketId, from: u32) -> Option<Vec<DamagedVersion>> {
        let all = self.of(bucket.0)?.into_iter();
        Some(all.filter(|(k, _)| k.bucket == bucket.1 && k.page.value() >= from).collect())
    }

    fn drop_one(&self, kid: Kid) {
        self.lock().versions.remove(&kid);
    }
}

impl Core {
    /// The type of a noted version if it still counts: its key lives, and it is its record's current one as far as that
    /// can be known. Else it is forgotten.
    fn still_damaged(&self, (kid, record): DamagedVersion) -> Option<Option<TypeOrd>> {
        let named = match record {
            Some(record) => {
                let row = self.tree.store().get(&Pointer::key(kid.tenant, record)).ok().flatten();
                let pointer = row.as_deref().and_then(Pointer::decode);
                pointer.filter(|p| p.kid == kid).map(|p| Some(p.rtype))
            }
            None => Some(None),
        };
        // On a page that is lost here the key may still be in a copy of the page.
        if named.is_some() && self.is_unreadable(kid) {
            return named;
        }
        self.damaged.drop_one(kid);
        None
    }

    /// Whether a version has a key and does not open.
    pub(super) fn is_unreadable(&self, kid: Kid) -> bool {
        !matches!(self.open_at(kid, None), Ok(_) | Err(VaultError::Keys(KeyError::Gone)))
    }

    /// How many records are known not to open.
    pub(super) fn count_damaged(&self) -> usize {
        self.damaged.all().into_iter().filter(|d| self.still_damaged(*d).is_some()).count()
    }

    /// Whether a record that may be of this type does not open.
    pub(super) fn has_damaged(&self, tenant: &Tenant, rtype: TypeOrd) -> bool {
        let Some(noted) = self.damaged.of(tenant.ord) else { return true };
        let types = noted.into_iter().filter_map(|d| self.still_damaged(d));
        types.into_iter().any(|t| t.is_none_or(|t| t == rtype))
    }

    /// The first page of a bucket, of those that no run covers, with a version that does not open and that nothing
    /// lists. No run may cover it: what runs cover no start looks at again, and the damage would be forgotten.
    pub(super) fn first_unlisted(&self, bucket: BucketId) -> Option<u32> {
        let from = self.index.covered(bucket);
        let Some(noted) = self.damaged.on_pages(bucket, from) else { return Some(from) };
        let unlisted =
            |d: &DamagedVersion| self.still_damaged(*d).is_some() && !self.index.in_tail(d.0);
        noted.into_iter().find(unlisted).map(|(kid, _)| kid.page.value())
    }

    /// Fails if a record of the tenant does not open and the index does not say whose it is: it may be this subject's,
    /// and would outlive the subject's erasure.
    pub(super) fn check_all_attributed(
        &self,
        tenant: &Tenant,
        about: &[RecordId],
    ) -> Result<(), VaultError> {
        for (kid, record) in self.damaged.of(tenant.ord).ok_or(UNATTRIBUTED)? {
            if record.is_some_and(|r| about.contains(&r)) {
                continue;
            }
            if self.still_damaged((kid, record)).is_some() && !self.index.lists(&self.tree, kid)? {
                return Err(UNATTRIBUTED);
            }
        }
        Ok(())
    }
}

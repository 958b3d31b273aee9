//! Receipts of what was erased before: given again to whoever asks again.
//!
//! Invariant: a receipt is signed anew only for the leaf that its tombstone names, and of a generation that is through.

use super::Allowed;
use crate::crypto::Digest32;
use crate::crypto::merkle::leaf_hash;
use crate::id::{Day, Gen, RecordId, TypeOrd};
use crate::keys::slots::BucketId;
use crate::vault::core::Core;
use crate::vault::current::Sort;
use crate::vault::error::VaultError;
use crate::vault::ledger::{Receipt, leaf_key};
use crate::vault::registry::Tenant;
use crate::vault::retention::manifest::{Killed, summary_key};
use crate::vault::rows::{Fate, Pointer, Tombstone};

/// The leaf that a row names.
struct Named {
    generation: Gen,
    leaf_seq: u64,
    leaf: Digest32,
}

impl From<Tombstone> for Named {
    fn from(t: Tombstone) -> Self {
        Self { generation: t.generation, leaf_seq: t.leaf_seq, leaf: t.leaf }
    }
}

impl From<Killed> for Named {
    fn from(k: Killed) -> Self {
        Self { generation: k.generation, leaf_seq: k.leaf_seq, leaf: k.leaf }
    }
}

impl Core {
    /// The receipt of what was erased before.
    pub(super) fn find_erased(
        &self,
        tenant: &Tenant,
        (sort, record): (Sort, RecordId),
        allowed: &Allowed<'_>,
    ) -> Result<Option<Receipt>, VaultError> {
        let check = |rtype| sort.check(rtype).and_then(|()| allowed(rtype));
        let store = self.tree.store();
        let Some(row) = store.get(&Tombstone::key(tenant.ord, record))? else {
            // Its bucket may have been killed and not be cleared away yet.
            let row = store.get(&Pointer::key(tenant.ord, record))?;
            let Some(pointer) = row.as_deref().and_then(Pointer::decode) else { return Ok(None) };
            let killed = self.killed((tenant.ord, pointer.kid.bucket))?;
            return match killed {
                Some(killed) => check(pointer.rtype).and_then(|()| self.receipt_of(&killed.into())),
                None => Ok(None),
            };
        };
        match Fate::decode(&row).ok_or(VaultError::Damaged("tombstone"))? {
            Fate::Erased(t) => check(t.rtype).and_then(|()| self.receipt_of(&t.into())),
            Fate::WithBucket(went) => {
                check(went.rtype)?;
                let killed = self.killed((tenant.ord, went.bucket))?;
                let killed = killed.ok_or(VaultError::Damaged("tombstone"))?;
                self.receipt_of(&killed.into())
            }
        }
    }

    /// What sums up a bucket that was killed.
    pub(in crate::vault) fn killed(&self, bucket: BucketId) -> Result<Option<Killed>, VaultError> {
        let Some(row) = self.tree.store().get(&summary_key(bucket))? else { return Ok(None) };
        Killed::decode(&row).map(Some).ok_or(VaultError::Damaged("bucket's list"))
    }

    /// The receipt of the last kill of a type's and day's buckets.
    pub(super) fn killed_before(
        &self,
        tenant: &Tenant,
        (rtype, expires): (TypeOrd, Day),
    ) -> Result<Option<Receipt>, VaultError> {
        let row = self.tree.store().get(&Tombstone::bucket_key(tenant.ord, rtype, expires))?;
        let Some(row) = row else { return Ok(None) };
        let tombstone = Tombstone::decode(&row).ok_or(VaultError::Damaged("tombstone"))?;
        self.receipt_of(&tombstone.into())
    }

    /// The receipt of a leaf, signed anew.
    fn receipt_of(&self, named: &Named) -> Result<Option<Receipt>, VaultError> {
        if !self.tree.is_through(named.generation) {
            return Ok(None);
        }
        let erased = self.tree.completed(named.generation)?.ok_or(VaultError::Damaged("ledger"))?;
        // A receipt is signed anew, so it must not vouch for another leaf or a damaged one.
        let leaf = self.tree.store().get(&leaf_key(named.leaf_seq))?;
        let leaf = leaf.filter(|l| leaf_hash(l) == named.leaf);
        let signer = self.tree.read().signer()?;
        let receipt = leaf.and_then(|l| Receipt::sign(self.vault(), &l, &erased, &signer));
        receipt.map(Some).ok_or(VaultError::Damaged("ledger"))
    }
}

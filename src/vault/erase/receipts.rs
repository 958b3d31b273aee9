//! Receipts of what was erased before: given again to whoever asks again.
//!
//! Invariant: a receipt is signed anew only for the leaf that its tombstone names, and of a generation that is through.

use super::Allowed;
use crate::crypto::Digest32;
use crate::crypto::merkle::leaf_hash;
use crate::id::{Day, Gen, RecordId, TypeOrd};
use crate::keys::Erased;
use crate::keys::slots::BucketId;
use crate::vault::core::Core;
use crate::vault::current::Sort;
use crate::vault::error::VaultError;
use crate::vault::ledger::{Receipt, leaf_key};
use crate::vault::registry::Tenant;
use crate::vault::retention::manifest::{Killed, summary_key};
use crate::vault::rows::{Fate, Pointer, Tombstone};

/// The leaf that a row names.
pub struct Named {
    pub generation: Gen,
    pub leaf_seq: u64,
    pub leaf: Digest32,
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

/// What became of a record that is gone.
pub struct Gone {
    pub rtype: TypeOrd,
    pub named: Named,
    /// The bucket that it went with, if it did not go by itself.
    pub bucket: Option<(BucketId, Killed)>,
}

impl Gone {
    fn with(rtype: TypeOrd, bucket: BucketId, killed: Killed) -> Self {
        Self { rtype, named: killed.into(), bucket: Some((bucket, killed)) }
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
        match self.gone(tenant, (sort, record), allowed)? {
            Some(gone) => self.receipt_of(&gone.named),
            None => Ok(None),
        }
    }

    /// What became of a record; `None` if it is not erased.
    pub(in crate::vault) fn gone(
        &self,
        tenant: &Tenant,
        (sort, record): (Sort, RecordId),
        allowed: &Allowed<'_>,
    ) -> Result<Option<Gone>, VaultError> {
        let check = |rtype| sort.check(rtype).and_then(|()| allowed(rtype));
        let store = self.tree.store();
        let Some(row) = store.get(&Tombstone::key(tenant.ord, record))? else {
            // Its bucket may have been killed and not be cleared away yet.
            let row = store.get(&Pointer::key(tenant.ord, record))?;
            let Some(pointer) = row.as_deref().and_then(Pointer::decode) else { return Ok(None) };
            let bucket = (tenant.ord, pointer.kid.bucket);
            let Some(killed) = self.killed(bucket)? else { return Ok(None) };
            check(pointer.rtype)?;
            return Ok(Some(Gone::with(pointer.rtype, bucket, killed)));
        };
        match Fate::decode(&row).ok_or(VaultError::Damaged("tombstone"))? {
            Fate::Erased(t) => {
                check(t.rtype)?;
                Ok(Some(Gone { rtype: t.rtype, named: t.into(), bucket: None }))
            }
            Fate::WithBucket(went) => {
                check(went.rtype)?;
                let bucket = (tenant.ord, went.bucket);
                let killed = self.killed(bucket)?.ok_or(VaultError::Damaged("tombstone"))?;
                Ok(Some(Gone::with(went.rtype, bucket, killed)))
            }
        }
    }

    /// What sums up a bucket that was killed.
    pub(in crate::vault) fn killed(&self, bucket: BucketId) -> Result<Option<Killed>, VaultError> {
        let Some(row) = self.tree.store().get(&summary_key(bucket))? else { return Ok(None) };
        Killed::decode(&row).map(Some).ok_or(VaultError::Damaged("bucket's list"))
    }

    /// The leaf of the last kill of a type's and day's buckets.
    pub(in crate::vault) fn last_kill(
        &self,
        tenant: &Tenant,
        (rtype, expires): (TypeOrd, Day),
    ) -> Result<Option<Named>, VaultError> {
        let row = self.tree.store().get(&Tombstone::bucket_key(tenant.ord, rtype, expires))?;
        let Some(row) = row else { return Ok(None) };
        let tombstone = Tombstone::decode(&row).ok_or(VaultError::Damaged("tombstone"))?;
        Ok(Some(tombstone.into()))
    }

    /// The receipt of that.
    pub(super) fn killed_before(
        &self,
        tenant: &Tenant,
        key: (TypeOrd, Day),
    ) -> Result<Option<Receipt>, VaultError> {
        match self.last_kill(tenant, key)? {
            Some(named) => self.receipt_of(&named),
            None => Ok(None),
        }
    }

    /// A leaf as its row has it, and how far its batch got; `None` while that is not through.
    pub(in crate::vault) fn evidence(
        &self,
        named: &Named,
    ) -> Result<Option<(Vec<u8>, Erased)>, VaultError> {
        if !self.tree.is_through(named.generation) {
            return Ok(None);
        }
        let erased = self.tree.completed(named.generation)?.ok_or(VaultError::Damaged("ledger"))?;
        // What is signed of it anew must not vouch for another leaf or a damaged one.
        let leaf = self.tree.store().get(&leaf_key(named.leaf_seq))?;
        let leaf = leaf.filter(|l| leaf_hash(l) == named.leaf);
        leaf.map(|leaf| Some((leaf, erased))).ok_or(VaultError::Damaged("ledger"))
    }

    /// The receipt of a leaf, signed anew.
    fn receipt_of(&self, named: &Named) -> Result<Option<Receipt>, VaultError> {
        let Some((leaf, erased)) = self.evidence(named)? else { return Ok(None) };
        let signer = self.tree.read().signer()?;
        let receipt = Receipt::sign(self.vault(), &leaf, &erased, &signer);
        receipt.map(Some).ok_or(VaultError::Damaged("ledger"))
    }
}

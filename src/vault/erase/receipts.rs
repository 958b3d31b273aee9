//! Receipts of what was erased before: given again to whoever asks again.
//!
//! Invariant: a receipt is signed anew only for the leaf that its tombstone names, and of a generation that is through.

use super::Allowed;
use crate::crypto::merkle::leaf_hash;
use crate::id::{Day, RecordId, TypeOrd};
use crate::vault::core::Core;
use crate::vault::error::VaultError;
use crate::vault::ledger::{Receipt, leaf_key};
use crate::vault::records::Sort;
use crate::vault::registry::Tenant;
use crate::vault::rows::Tombstone;

impl Core {
    /// The receipt of what was erased before.
    pub(super) fn find_erased(
        &self,
        tenant: &Tenant,
        (sort, record): (Sort, RecordId),
        allowed: &Allowed<'_>,
    ) -> Result<Option<Receipt>, VaultError> {
        let check = |t: &Tombstone| sort.check(t.rtype).and_then(|()| allowed(t.rtype));
        self.receipt_at(&Tombstone::key(tenant.ord, record), check)
    }

    /// The receipt of the last kill of a type's and day's buckets.
    pub(super) fn killed_before(
        &self,
        tenant: &Tenant,
        (rtype, expires): (TypeOrd, Day),
    ) -> Result<Option<Receipt>, VaultError> {
        self.receipt_at(&Tombstone::bucket_key(tenant.ord, rtype, expires), |_| Ok(()))
    }

    /// The receipt that a tombstone names, signed anew.
    fn receipt_at(
        &self,
        key: &[u8],
        check: impl FnOnce(&Tombstone) -> Result<(), VaultError>,
    ) -> Result<Option<Receipt>, VaultError> {
        let Some(row) = self.tree.store().get(key)? else { return Ok(None) };
        let tombstone = Tombstone::decode(&row).ok_or(VaultError::Damaged("tombstone"))?;
        check(&tombstone)?;
        let Some(erased) = self.tree.completed(tombstone.generation)? else {
            // A batch that is not through yet has no level; of one that is, it is missing or damaged.
            let committed = tombstone.generation <= self.tree.generation();
            return if committed { Err(VaultError::Damaged("ledger")) } else { Ok(None) };
        };
        // A receipt is signed anew, so it must not vouch for another leaf or a damaged one.
        let leaf = self.tree.store().get(&leaf_key(tombstone.leaf_seq))?;
        let leaf = leaf.filter(|l| leaf_hash(l) == tombstone.leaf);
        let signer = self.tree.read().signer()?;
        let receipt = leaf.and_then(|l| Receipt::sign(self.vault(), &l, &erased, &signer));
        receipt.map(Some).ok_or(VaultError::Damaged("ledger"))
    }
}

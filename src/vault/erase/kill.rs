//! The kill of buckets: every record of a type and day at once, by removing one entry for each bucket.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::worker::{UnitRows, Worker};
use crate::audit::Entry;
use crate::class::ErasureReason;
use crate::id::{Day, TypeOrd};
use crate::keys::Edits;
use crate::keys::slots::BucketId;
use crate::vault::error::VaultError;
use crate::vault::ledger::{LeafDraft, LeafKind, Receipt, bucket_kid, unit_of_bucket};
use crate::vault::registry::Tenant;
use crate::vault::rows::Tombstone;

/// How long a bucket's kill waits for puts that are under way.
const DRAIN_MAX: Duration = Duration::from_secs(30);

impl Worker {
    /// Destroys the keys of every record of a type and day. The receipt is the last bucket's: there can be several.
    pub(super) fn kill_buckets(
        &mut self,
        tenant: &Arc<Tenant>,
        key: (TypeOrd, Day),
        reason: ErasureReason,
        entry: Entry,
    ) -> Result<Receipt, VaultError> {
        let core = self.core.clone();
        let ords = tenant.state_mut().buckets.remove(&key);
        let Some(ords) = ords else {
            // The answer to an earlier kill was lost: it is given again.
            let receipt = core.killed_before(tenant, key)?;
            let receipt = receipt.ok_or(VaultError::NotFound("bucket"))?;
            core.note(&entry)?;
            return Ok(receipt);
        };
        let buckets: Vec<BucketId> = ords.iter().map(|b| (tenant.ord, *b)).collect();
        let _refused = core.mark_killing(&buckets);
        let killed = self.kill(key, &buckets, reason, entry);
        if killed.is_err() {
            // Nothing was removed: what is there is served again. A successor that took puts meanwhile stays the last.
            tenant.state_mut().buckets.entry(key).or_default().splice(0..0, ords);
            buckets.iter().for_each(|b| core.tree.slots().reopen_bucket(*b));
        }
        killed
    }

    fn kill(
        &mut self,
        (rtype, expires): (TypeOrd, Day),
        buckets: &[BucketId],
        reason: ErasureReason,
        entry: Entry,
    ) -> Result<Receipt, VaultError> {
        let tenant = buckets.first().ok_or(VaultError::NotFound("bucket"))?.0;
        let core = self.core.clone();
        let requested = core.clock.now();
        let since = Instant::now();
        for bucket in buckets {
            core.tree.slots().close_bucket(*bucket);
            while !core.tree.slots().is_drained(*bucket) {
                if since.elapsed() > DRAIN_MAX {
                    return Err(VaultError::Precondition("puts into the bucket do not end"));
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let mut drafts: Vec<LeafDraft> = self.last.map(LeafDraft::level).into_iter().collect();
        let pseudonym = core.tree.read().tenant(tenant)?.pseudonym;
        drafts.extend(buckets.iter().map(|(t, b)| LeafDraft {
            reason: Some(reason),
            pseudonym,
            unit: unit_of_bucket(core.vault(), *t, *b),
            kid: bucket_kid(*t, *b),
            ..LeafDraft::plain(LeafKind::Bucket, requested)
        }));
        let edits = Edits { kill: buckets.iter().copied().collect(), ..Edits::default() };
        let key = Tombstone::bucket_key(tenant, rtype, expires);
        let tombs = vec![(drafts.len().saturating_sub(1), (key, rtype), reason, requested)];
        let rows = UnitRows { tombs, ..UnitRows::default() };
        let (appended, erased) = self.commit(edits, (&drafts, vec![entry]), rows, None)?;
        for bucket in buckets {
            core.superseded.forget_bucket(*bucket);
            core.index.forget(*bucket);
            core.tree.slots().forget(*bucket);
            core.metrics.buckets_erased.one();
            self.to_collect.push(*bucket);
        }
        let signer = core.tree.read().signer()?;
        let leaf = appended.leaves.last().ok_or(VaultError::Damaged("ledger"))?;
        Receipt::sign(core.vault(), leaf, &erased, &signer).ok_or(VaultError::Damaged("ledger"))
    }
}

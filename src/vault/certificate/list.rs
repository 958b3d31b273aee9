//! For what there are batch certificates: the killed buckets of a tenant, in the order in which they were made.
//!
//! Invariant: a bucket is listed once its kill is through, and for ever after; one call looks at a bounded number.

use crate::audit::Act;
use crate::authz::{Permit, ReadCertificate};
use crate::class::{ErasureLevel, ErasureReason};
use crate::clock::UnixMillis;
use crate::id::{BucketOrd, Day, Gen, ORDINAL_MAX};
use crate::keys::rows::prefix_end;
use crate::limits::CERTIFICATES_LOOK_MAX;
use crate::vault::core::Vault;
use crate::vault::error::VaultError;
use crate::vault::retention::manifest::{
    Killed, bucket_in, is_summary, summary_key, tenant_prefix,
};
use crate::vault::slug::Slug;

/// A bucket that was killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KilledBucket {
    pub leaf_index: u64,
    pub rtype: Option<Slug>,
    pub expires: Day,
    pub records: u32,
    pub reason: ErasureReason,
    pub requested: UnixMillis,
    pub generation: Gen,
    pub level: ErasureLevel,
    pub erased: UnixMillis,
}

/// Buckets, and from which number on the next page looks.
pub type KillPage = (Vec<KilledBucket>, Option<u32>);

impl Vault {
    /// Killed buckets whose erasure ended from `since` to before `until`, of the numbers from `from` on. A page may be
    /// shorter than asked for, or empty, although more follow.
    pub fn killed_buckets(
        &self,
        permit: &Permit<ReadCertificate>,
        tenant: &str,
        (since, until): (UnixMillis, UnixMillis),
        from: u32,
        page_size: usize,
    ) -> Result<KillPage, VaultError> {
        let core = &*self.core;
        let tenant = core.tenant(permit, tenant)?;
        core.note(&core.entry(permit, Act::ListCertificates).of(tenant.ord))?;
        let end = prefix_end(&tenant_prefix(tenant.ord));
        let (mut next, mut page) = (from, Vec::new());
        for _ in 0..CERTIFICATES_LOOK_MAX {
            let Some(ord) = BucketOrd::new(next).filter(|_| page.len() < page_size) else { break };
            let key = summary_key((tenant.ord, ord));
            // The bucket's own sum, or the first row of one after it.
            let row = core.tree.store().scan(&key, &end, 1)?.into_iter().next();
            let Some(row) = row else { return Ok((page, None)) };
            let found = bucket_in(&row.key).ok_or(VaultError::Damaged("bucket's list"))?;
            next = found.value();
            if !is_summary(&row.key) {
                continue;
            }
            next += 1;
            let killed = Killed::decode(&row.value).ok_or(VaultError::Damaged("bucket's list"))?;
            let Some(erased) = core.tree.completed(killed.generation)? else { continue };
            if (since..until).contains(&erased.scrubbed()) {
                page.push(KilledBucket {
                    leaf_index: killed.leaf_seq,
                    rtype: tenant.schema_of(killed.rtype).map(|s| s.type_name().clone()),
                    expires: killed.expires,
                    records: killed.count,
                    reason: killed.reason,
                    requested: killed.requested,
                    generation: killed.generation,
                    level: erased.level(),
                    erased: erased.scrubbed(),
                });
            }
        }
        Ok((page, Some(next).filter(|n| *n <= ORDINAL_MAX)))
    }
}

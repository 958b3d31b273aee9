//! How a version is stored: its bucket, its slot, its rows, its listings.
//!
//! Invariants: what is put is answered after its rows are durable; a newer version goes beside the one that it
//! replaces; a put that fails takes its listings back.

use std::sync::Arc;

use super::core::Core;
use super::error::VaultError;
use super::fieldmap::FieldMap;
use super::lookup::tokens_of;
use super::registry::Tenant;
use super::rows::Pointer;
use super::sealed::{self, Version};
use crate::id::{BucketOrd, Day, RecVer, RecordId, TypeOrd};
use crate::keys::slots::{BucketId, Slot};
use crate::keys::{KeyError, NewBucket};
use crate::store::Batch;

/// Where a version goes.
#[derive(Clone, Copy)]
pub enum Home {
    /// A new record: the bucket of this day, whichever takes puts.
    Expiry(Day),
    /// A newer version: beside the one that it replaces, or in the successor of their bucket if that is closed. Whoever
    /// puts it there holds the bucket, so that a kill waits.
    Bucket(BucketId),
}

/// A version's type, record, number and schema revision.
pub(super) type Named = (TypeOrd, RecordId, RecVer, u32);

impl Core {
    /// The bucket of a record type and expiry day, made if there is none.
    async fn bucket(
        &self,
        tenant: &Arc<Tenant>,
        rtype: TypeOrd,
        expires: Day,
    ) -> Result<BucketId, VaultError> {
        // A closed one takes no more puts: its successor does.
        let open = |bucket: &BucketOrd| !self.tree.slots().is_closed((tenant.ord, *bucket));
        let present =
            |t: &Tenant| t.state().buckets.get(&(rtype, expires))?.last().copied().filter(open);
        if let Some(bucket) = present(tenant) {
            return Ok((tenant.ord, bucket));
        }
        let _held = tenant.making.lock().await;
        if let Some(bucket) = present(tenant) {
            return Ok((tenant.ord, bucket));
        }
        let next = tenant.state().next_bucket;
        let bucket =
            BucketOrd::new(next).ok_or(VaultError::Exhausted("no more retention buckets"))?;
        let new = NewBucket { tenant: tenant.ord, bucket, rtype, expire_day: expires };
        self.tree.add_bucket(new).await?;
        self.index.register(&self.tree, (tenant.ord, bucket))?;
        let mut state = tenant.state_mut();
        state.next_bucket = next + 1;
        state.add_bucket((rtype, expires), bucket);
        Ok((tenant.ord, bucket))
    }

    /// Stores a record's current version: adds its rows to the batch, and the pointer to it.
    pub(super) async fn put_version(
        &self,
        tenant: &Arc<Tenant>,
        named: Named,
        home: Home,
        map: &FieldMap,
        batch: &mut Batch,
    ) -> Result<Slot, VaultError> {
        let slot = self.put_old(tenant, named, home, map, batch).await?;
        let (rtype, record, rec_ver, _) = named;
        let pointer = Pointer { kid: slot.kid, rec_ver, rtype };
        batch.put(Pointer::key(tenant.ord, record), pointer.encode());
        Ok(slot)
    }

    /// Takes a slot, seals a version under it, lists it in the index, and adds its rows to the batch. Nothing points to
    /// it yet.
    pub(super) async fn put_old(
        &self,
        tenant: &Arc<Tenant>,
        (rtype, record, rec_ver, schema_rev): Named,
        mut home: Home,
        map: &FieldMap,
        batch: &mut Batch,
    ) -> Result<Slot, VaultError> {
        let slot = loop {
            let bucket = match home {
                Home::Expiry(expires) => self.bucket(tenant, rtype, expires).await?,
                Home::Bucket(bucket) => bucket,
            };
            match (self.tree.take_slot(bucket).await, home) {
                // The bucket was closed meanwhile: what comes now goes into its successor.
                (Err(KeyError::Closed), Home::Expiry(_)) => tokio::task::yield_now().await,
                (Err(KeyError::Closed), Home::Bucket(bucket)) => {
                    home = Home::Expiry(tenant.day_of(bucket.1));
                }
                (other, _) => break other?,
            }
        };
        let version = Version { kid: slot.kid, record, rec_ver, rtype, schema_rev };
        for (key, value) in sealed::seal(self.vault(), &version, &slot.dek, map)? {
            batch.put(key, value);
        }
        let secrets = self.tree.read().tenant(tenant.ord)?;
        let schema = tenant.schema_of(rtype);
        let tokens = tokens_of(&secrets.index, rtype, schema.as_deref(), map);
        self.index.list(slot.kid, &tokens);
        Ok(slot)
    }

    /// Commits a put. If it fails, its listings go again.
    pub(super) async fn commit_put(&self, batch: Batch, slots: &[Slot]) -> Result<(), VaultError> {
        let done = match self.tree.store().submit(batch) {
            Ok(pending) => pending.await,
            Err(e) => Err(e),
        };
        done.map(drop).map_err(|e| {
            self.unlist(slots);
            e.into()
        })
    }

    /// Takes back the listings of versions that were not stored.
    pub(super) fn unlist(&self, slots: &[Slot]) {
        slots.iter().for_each(|s| self.index.unlist_tail(s.kid));
    }
}

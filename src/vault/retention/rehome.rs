//! Moving a record to the bucket that the rules want: its version is sealed anew under another key, and the old key is
//! erased as the key of an old version is.
//!
//! Invariants: the new copy, the pointer to it and the old one's intent commit in one batch; a record is moved or it is
//! killed with its bucket, never both and never neither; its etag stays what it was.

use std::sync::Arc;

use super::decide::{Facts, expiry_day};
use crate::class::ErasureReason;
use crate::clock::UnixMillis;
use crate::id::{Day, Kid, RecordId};
use crate::keys::slots::{BucketId, Ticket};
use crate::store::Batch;
use crate::vault::core::Core;
use crate::vault::current::{Found, Sort};
use crate::vault::error::VaultError;
use crate::vault::fieldmap::FieldMap;
use crate::vault::holds;
use crate::vault::put::Home;
use crate::vault::registry::Tenant;
use crate::vault::rows::{Intent, Pointer};
use crate::vault::schema::Schema;

impl FieldMap {
    /// What rules look at.
    pub fn facts(&self) -> Facts<'_> {
        Facts { created: self.created, used: self.used, fields: &self.fields }
    }
}

impl Core {
    /// The day of the bucket that the rules in force want for a record.
    pub(in crate::vault) fn expiry_of(
        &self,
        tenant: &Tenant,
        schema: &Schema,
        map: &FieldMap,
    ) -> Day {
        expiry_day(schema, &tenant.rules(schema.ord()), map.facts())
    }

    /// The day of the bucket that a record belongs in: what is held belongs in none that ends.
    pub(in crate::vault) fn home_of(
        &self,
        tenant: &Tenant,
        schema: &Schema,
        record: RecordId,
        map: &FieldMap,
    ) -> Day {
        let facts = holds::Facts { rtype: schema.ord(), record, map };
        let held = self.holds.is_held(tenant.ord, facts);
        if held { Day::HELD } else { self.expiry_of(tenant, schema, map) }
    }

    /// Moves a record if the rules want it in another bucket, as of its last use if that is given. Answers whether it
    /// was sealed anew.
    pub(in crate::vault) async fn rehome(
        &self,
        tenant: &Arc<Tenant>,
        record: RecordId,
        used: Option<UnixMillis>,
    ) -> Result<bool, VaultError> {
        let _writing = tenant.writing.read().await;
        let _record = self.lock_records(&[record]).await;
        let Found { pointer, open } = self.find_leaving(tenant, record, Sort::Record)?;
        let Some(schema) = tenant.schema_of(pointer.rtype) else { return Ok(false) };
        let mut map = open.fields.to_map();
        let newly = used.filter(|used| *used > map.used);
        map.used = newly.unwrap_or(map.used);
        let (wanted, present) =
            (self.home_of(tenant, &schema, record, &map), tenant.day_of(pointer.kid.bucket));
        // What should have gone while it was held goes with those of the day on which the last hold ended.
        let expires = match present {
            Day::HELD => wanted.max(self.time.begin(&*self.clock).day()),
            _ => wanted,
        };
        let stays = expires == present;
        if stays && newly.is_none() {
            return Ok(false);
        }
        let _leaving = match expires {
            Day::HELD => self.leave_for_hold(record, pointer.kid)?,
            _ => self.leave(record, pointer.kid)?,
        };
        let version = (pointer.rtype, record, pointer.rec_ver, open.version.schema_rev);
        let mut batch = Batch::default();
        batch.expect(Pointer::key(tenant.ord, record), Some(pointer.encode()));
        let home = match stays {
            true => Home::Bucket((tenant.ord, pointer.kid.bucket)),
            false => Home::Expiry(expires),
        };
        let slot = self.put_version(tenant, version, home, &map, &mut batch).await?;
        let intent = Intent {
            kid: pointer.kid,
            record,
            rec_ver: pointer.rec_ver,
            rtype: pointer.rtype,
            reason: ErasureReason::Moved,
            requested: self.clock.now(),
        };
        batch.put(intent.key(), intent.encode());
        let to = slot.kid.bucket;
        self.commit_put(batch, &[slot]).await?;
        self.superseded.add(intent);
        if to != pointer.kid.bucket {
            self.closings.leave((pointer.kid.tenant, pointer.kid.bucket), record);
        }
        self.metrics.records_moved.one();
        if !stays && expires == Day::HELD {
            self.metrics.records_held_back.one();
        }
        Ok(true)
    }

    /// Has a kill of the bucket wait until a record has left it; refuses if the kill has begun.
    pub(in crate::vault) fn leave(&self, record: RecordId, kid: Kid) -> Result<Ticket, VaultError> {
        self.leave_unless(kid, || self.is_erasing(record, kid))
    }

    /// The same for what a hold keeps: it may leave until the kill begins, also if someone asked for that.
    fn leave_for_hold(&self, record: RecordId, kid: Kid) -> Result<Ticket, VaultError> {
        self.leave_unless(kid, || self.is_going(record, kid))
    }

    fn leave_unless(&self, kid: Kid, refused: impl Fn() -> bool) -> Result<Ticket, VaultError> {
        let ticket = self.tree.slots().hold(kid).ok_or(VaultError::Erased("record"))?;
        // The kill is told of before it looks for tickets: either it is seen here, or it sees this one.
        if refused() { Err(VaultError::Erased("record")) } else { Ok(ticket) }
    }

    /// Takes old versions that are kept for a hold's sake out of a bucket that is about to go.
    pub(in crate::vault) async fn move_kept(
        &self,
        tenant: &Arc<Tenant>,
        bucket: BucketId,
    ) -> Result<(), VaultError> {
        for old in self.kept_in(tenant, bucket) {
            let _writing = tenant.writing.read().await;
            let _record = self.lock_records(&[old.record]).await;
            let _leaving = self.leave_for_hold(old.record, old.kid)?;
            let open = self.open_at(old.kid, Some((old.record, old.rec_ver)))?;
            let version = (old.rtype, old.record, old.rec_ver, open.version.schema_rev);
            let mut batch = Batch::default();
            let home = Home::Expiry(Day::HELD);
            let slot =
                self.put_old(tenant, version, home, &open.fields.to_map(), &mut batch).await?;
            let moved = Intent { reason: ErasureReason::Moved, ..old };
            let kept = Intent { kid: slot.kid, ..old };
            batch.put(moved.key(), moved.encode());
            batch.put(kept.key(), kept.encode());
            self.commit_put(batch, &[slot]).await?;
            self.superseded.take_kid(old.kid);
            self.superseded.add(moved);
            self.superseded.hold(kept);
        }
        Ok(())
    }
}

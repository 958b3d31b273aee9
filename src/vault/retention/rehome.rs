//! Moving a record to the bucket that the rules want: its version is sealed anew under another key, and the old key is
//! erased as the key of an old version is.
//!
//! Invariants: the new copy, the pointer to it and the old one's intent commit in one batch; a record is moved or it is
//! killed with its bucket, never both and never neither; its etag stays what it was.

use std::sync::Arc;

use super::decide::{Facts, expiry_day};
use crate::class::ErasureReason;
use crate::clock::UnixMillis;
use crate::id::{Day, RecordId};
use crate::store::Batch;
use crate::vault::core::Core;
use crate::vault::error::VaultError;
use crate::vault::fieldmap::FieldMap;
use crate::vault::put::Home;
use crate::vault::records::{Found, Sort};
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
        let Found { pointer, open } = self.find_current(tenant, record, Sort::Record)?;
        let Some(schema) = tenant.schema_of(pointer.rtype) else { return Ok(false) };
        let mut map = open.fields;
        let newly = used.filter(|used| *used > map.used);
        map.used = newly.unwrap_or(map.used);
        let expires = self.expiry_of(tenant, &schema, &map);
        let stays = expires == tenant.day_of(pointer.kid.bucket);
        if stays && newly.is_none() {
            return Ok(false);
        }
        let _leaving = self.leave(record, pointer)?;
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
        Ok(true)
    }

    /// Has a kill of the bucket wait until a record has left it; refuses if the kill has begun.
    pub(in crate::vault) fn leave(
        &self,
        record: RecordId,
        pointer: Pointer,
    ) -> Result<crate::keys::slots::Ticket, VaultError> {
        let ticket = self.tree.slots().hold(pointer.kid).ok_or(VaultError::Erased("record"))?;
        // The kill is told of before it looks for tickets: either it is seen here, or it sees this one.
        if self.is_erasing(record, pointer.kid) {
            return Err(VaultError::Erased("record"));
        }
        Ok(ticket)
    }
}

//! Erasures that were asked for while a hold keeps what they are about. They are kept, the record is restricted to the
//! readers that the hold names, and they run by themselves when the last hold ends.
//!
//! Invariants: a postponed erasure is on disk before it is answered; it is forgotten only with what it is about; its
//! row holds random ids and numbers, and no word of anybody's.

use super::{Facts, HOLD, Hold};
use crate::audit::{Act, Entry, Kind};
use crate::class::{ErasureReason, Role};
use crate::clock::UnixMillis;
use crate::id::{RecordId, TenantOrd, TypeOrd};
use crate::keys::slots::BucketId;
use crate::limits;
use crate::store::sum::with_sum;
use crate::store::{Batch, Urgency};
use crate::vault::core::Core;
use crate::vault::current::{Found, SUBJECT, Sort};
use crate::vault::error::VaultError;
use crate::vault::registry::Tenant;
use crate::vault::rows::{Fields, Intent, Pointer};

/// An erasure that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Postponed {
    pub rtype: TypeOrd,
    pub reason: ErasureReason,
    /// When it was first asked for.
    pub requested: UnixMillis,
    /// Who asked, as the audit log tells callers.
    pub asker: [u8; 16],
}

/// What an `o` row's key names: a record, and the hold that it is bound to if it is not about an erasure.
type Named = (RecordId, Option<RecordId>);

/// First bytes of a tenant's rows.
pub fn prefix(tenant: TenantOrd) -> Vec<u8> {
    [b"o".as_slice(), &tenant.bytes()].concat()
}

/// Key of the row of a postponed erasure.
pub fn postponed_key(tenant: TenantOrd, record: RecordId) -> Vec<u8> {
    [prefix(tenant).as_slice(), &record.0].concat()
}

/// Key of the row that binds a record to a hold.
pub fn bound_key(tenant: TenantOrd, record: RecordId, hold: RecordId) -> Vec<u8> {
    [postponed_key(tenant, record).as_slice(), &hold.0].concat()
}

fn named_by(key: &[u8]) -> Option<Named> {
    let (record, rest) = key.get(4..)?.split_first_chunk::<16>()?;
    let hold = match rest {
        [] => None,
        rest => Some(RecordId(rest.try_into().ok()?)),
    };
    Some((RecordId(*record), hold))
}

/// The row that binds a record to a hold says so by being there.
pub fn bound_row() -> Vec<u8> {
    with_sum(b"LTO2".to_vec())
}

impl Postponed {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = b"LTO1".to_vec();
        out.extend_from_slice(&self.rtype.0.to_be_bytes());
        out.push(self.reason as u8);
        out.extend_from_slice(&self.requested.0.to_be_bytes());
        out.extend_from_slice(&self.asker);
        with_sum(out)
    }

    pub fn decode(value: &[u8]) -> Option<Self> {
        let mut at = Fields::after(value, b"LTO1")?;
        let found = Self {
            rtype: TypeOrd(u16::from_be_bytes(at.take()?)),
            reason: ErasureReason::from_number(u8::from_be_bytes(at.take()?))?,
            requested: UnixMillis(i64::from_be_bytes(at.take()?)),
            asker: at.take()?,
        };
        at.end(found)
    }

    pub fn sort(&self) -> Sort {
        if self.rtype == SUBJECT { Sort::Subject } else { Sort::Record }
    }
}

impl Core {
    /// Brings a tenant's rows to memory; those that mean nothing any more go.
    pub(super) fn load_postponed(&self, tenant: &Tenant) -> Result<(), VaultError> {
        let mut stale = Batch { urgency: Urgency::Vital, ..Batch::default() };
        for row in self.tree.store().prefix(&prefix(tenant.ord)) {
            let row = row?;
            let Some((record, hold)) = named_by(&row.key) else { continue };
            // A pointer that is there and damaged is no pointer that is gone.
            let pointer = |id| self.tree.store().get(&Pointer::key(tenant.ord, id));
            match (pointer(record)?, hold) {
                (None, _) => stale.delete(row.key),
                // Which hold it is, the key says. One that does not open may be in force.
                (Some(_), Some(id)) => match self.holds.find(tenant.ord, id) {
                    Some(hold) if hold.ended.is_some() => stale.delete(row.key),
                    None if pointer(id)?.is_none() => stale.delete(row.key),
                    _ => self.holds.bind(tenant.ord, record, &[id]),
                },
                (Some(pointer), None) => {
                    // Of a damaged one it is known that it was asked for, and of what.
                    let known = Postponed::decode(&row.value).or_else(|| {
                        tracing::error!(
                            "the row of a postponed erasure is damaged; it is kept by its key"
                        );
                        let rtype = Pointer::decode(&pointer)?.rtype;
                        let (reason, requested) = (ErasureReason::SubjectRequest, self.clock.now());
                        Some(Postponed { rtype, reason, requested, asker: [0; 16] })
                    });
                    // Where both are damaged nobody knows of what sort it is: the row stays for after a repair.
                    let Some(postponed) = known else { continue };
                    self.holds.postpone(tenant.ord, record, postponed);
                    self.holds.set_dirty(tenant.ord);
                }
            }
        }
        if !stale.writes.is_empty() {
            self.tree.store().commit_blocking(stale)?;
        }
        Ok(())
    }

    /// Whether what an erasure is about is held now. What does not open may be: nobody can tell.
    pub(in crate::vault) fn is_kept(
        &self,
        tenant: &Tenant,
        (sort, record): (Sort, RecordId),
    ) -> Result<bool, VaultError> {
        if self.holds.none(tenant.ord) {
            return Ok(false);
        }
        // Also of what someone wants gone with its bucket: it may leave that until the kill begins.
        match self.find_leaving(tenant, record, sort) {
            Ok(Found { open, .. }) => Ok(self.is_held(tenant, &open)),
            Err(VaultError::Damaged(_)) => Ok(self.holds.may_hold(tenant.ord, record)),
            // The erasure itself will say so.
            Err(VaultError::Erased(_) | VaultError::NotFound(_)) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Keeps erasures until nothing is held any more.
    pub(in crate::vault) async fn postpone(
        &self,
        tenant: &Tenant,
        all: &[(RecordId, Postponed)],
        told: Entry,
    ) -> Result<(), VaultError> {
        let entries = told.encode();
        let mut batch = Batch { urgency: Urgency::Vital, entries, ..Batch::default() };
        for (record, postponed) in all {
            batch.put(postponed_key(tenant.ord, *record), postponed.encode());
        }
        self.tree.store().submit(batch)?.await?;
        all.iter().for_each(|(record, p)| self.holds.postpone(tenant.ord, *record, *p));
        self.metrics.erasures_postponed.add(all.len() as u64);
        Ok(())
    }

    /// The erasure was carried out, by whatever took the record.
    pub(in crate::vault) async fn forget_postponed(
        &self,
        tenant: &Tenant,
        record: RecordId,
    ) -> Result<(), VaultError> {
        let mut batch = Batch { urgency: Urgency::Vital, ..Batch::default() };
        batch.delete(postponed_key(tenant.ord, record));
        self.tree.store().submit(batch)?.await?;
        self.holds.settle(tenant.ord, record);
        Ok(())
    }

    /// Whether an old version is kept, since its record is held.
    pub(in crate::vault) fn keeps_old(&self, tenant: &Tenant, old: &Intent) -> bool {
        if old.reason != ErasureReason::Superseded || old.rtype == HOLD {
            return false;
        }
        if self.holds.none(tenant.ord) {
            return false;
        }
        let named = Some((old.record, old.rec_ver));
        self.open_at(old.kid, named).is_ok_and(|open| self.is_held(tenant, &open))
    }

    /// Old versions in a bucket that are kept.
    pub(in crate::vault) fn kept_in(&self, tenant: &Tenant, bucket: BucketId) -> Vec<Intent> {
        if self.holds.none(tenant.ord) {
            return Vec::new();
        }
        let mut old = self.superseded.in_bucket(bucket);
        old.retain(|intent| self.keeps_old(tenant, intent));
        old
    }

    /// Fails for a reader whom no hold lets read what is only kept because of holds.
    pub(in crate::vault) fn check_unrestricted(
        &self,
        tenant: &Tenant,
        found: &Found,
        role: Role,
    ) -> Result<(), VaultError> {
        let (rtype, record) = (found.pointer.rtype, found.open.version.record);
        if self.holds.postponed(tenant.ord, record).is_none() {
            return Ok(());
        }
        let holds =
            self.holds.on(tenant.ord, Facts { rtype, record, map: &found.open.fields.to_map() });
        // A subject may be kept for the sake of its records alone.
        let unheld = holds.is_empty() && role == Role::PrivacyOfficer;
        let named = |hold: &std::sync::Arc<Hold>| hold.readers.contains(&role);
        if unheld || holds.iter().any(named) { Ok(()) } else { Err(VaultError::Restricted) }
    }

    /// The entry of an erasure that runs because nothing is held any more: the vault does it, at the wish of who asked.
    pub(in crate::vault) fn of_release(&self, tenant: &Tenant, postponed: &Postponed) -> Entry {
        let entry = Entry::new(Kind::Vault, Act::RunPostponedErasure, self.clock.now());
        Entry { principal: postponed.asker, ..entry.of(tenant.ord) }
    }

    /// Takes a hold's binding rows away, some at a time.
    pub(super) async fn unbind(
        &self,
        tenant: &Tenant,
        hold: RecordId,
        records: &[RecordId],
    ) -> Result<(), VaultError> {
        for some in records.chunks(limits::SCAN_PAGE_ROWS) {
            let mut batch = Batch { urgency: Urgency::Vital, ..Batch::default() };
            some.iter().for_each(|r| batch.delete(bound_key(tenant.ord, *r, hold)));
            self.tree.store().submit(batch)?.await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_survive_their_bytes_and_no_altered_one_does() {
        let (tenant, record) = (TenantOrd::of(1), RecordId([9; 16]));
        let postponed = Postponed {
            rtype: TypeOrd(3),
            reason: ErasureReason::Contract,
            requested: UnixMillis(-5),
            asker: [6; 16],
        };
        assert_eq!(Postponed::decode(&postponed.encode()), Some(postponed));
        let key = postponed_key(tenant, record);
        assert_eq!(named_by(&key), Some((record, None)));
        let bound = bound_key(tenant, record, RecordId([7; 16]));
        assert_eq!(named_by(&bound), Some((record, Some(RecordId([7; 16])))));
        assert!(named_by(&bound[..bound.len() - 1]).is_none());
        assert_eq!(Postponed::decode(&bound_row()), None);
        for bit in 0..postponed.encode().len() * 8 {
            let mut bad = postponed.encode();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Postponed::decode(&bad), None, "bit {bit}");
        }
    }
}

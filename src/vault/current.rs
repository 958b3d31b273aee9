//! From a name to the version that it stands for now.
//!
//! Invariants: what is being erased is refused from the moment its erasure is accepted; a record, a subject and a hold
//! are never answered as one another.

use super::core::Core;
use super::error::VaultError;
use super::holds::HOLD;
use super::registry::Tenant;
use super::rows::{Fate, Pointer, Tombstone};
use super::sealed::{self, OpenVersion};
use crate::id::{Kid, RecVer, RecordId, TypeOrd};
use crate::keys::KeyError;

/// The built-in record type of subjects.
pub const SUBJECT: TypeOrd = TypeOrd(0);

/// Whether a type is the vault's own, without a schema.
pub(super) fn is_built_in(rtype: TypeOrd) -> bool {
    matches!(rtype, SUBJECT | HOLD)
}

/// What a name is taken for. The two share one space of ids, and one is never answered as the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    Record,
    Subject,
    /// A legal hold.
    Hold,
}

impl Sort {
    pub fn word(self) -> &'static str {
        match self {
            Sort::Record => "record",
            Sort::Subject => "subject",
            Sort::Hold => "legal hold",
        }
    }

    /// Fails if something of this type is not of this sort.
    pub fn check(self, rtype: TypeOrd) -> Result<(), VaultError> {
        let own = match rtype {
            SUBJECT => Self::Subject,
            HOLD => Self::Hold,
            _ => Self::Record,
        };
        if own == self { Ok(()) } else { Err(VaultError::NotFound(self.word())) }
    }
}

/// A version as it is, before anyone's rights are applied.
pub(super) struct Found {
    pub pointer: Pointer,
    pub open: OpenVersion,
}

impl Core {
    /// A record's or subject's current version, or why there is none.
    pub(super) fn find_current(
        &self,
        tenant: &Tenant,
        record: RecordId,
        sort: Sort,
    ) -> Result<Found, VaultError> {
        self.find_allowed(tenant, record, sort, &|_| Ok(()))
    }

    /// The same, for a caller who may have it if it is of an `allowed` type.
    pub(super) fn find_allowed(
        &self,
        tenant: &Tenant,
        record: RecordId,
        sort: Sort,
        allowed: &dyn Fn(TypeOrd) -> Result<(), VaultError>,
    ) -> Result<Found, VaultError> {
        self.find(tenant, (record, sort), allowed, &|kid| self.is_erasing(record, kid))
    }

    /// The same, unless its erasure has begun: what is in a bucket that is to go may still leave it.
    pub(super) fn find_leaving(
        &self,
        tenant: &Tenant,
        record: RecordId,
        sort: Sort,
    ) -> Result<Found, VaultError> {
        let refused = |kid| self.is_going(record, kid);
        self.find(tenant, (record, sort), &|_| Ok(()), &refused)
    }

    fn find(
        &self,
        tenant: &Tenant,
        (record, sort): (RecordId, Sort),
        allowed: &dyn Fn(TypeOrd) -> Result<(), VaultError>,
        refused: &dyn Fn(Kid) -> bool,
    ) -> Result<Found, VaultError> {
        let store = self.tree.store();
        let what = sort.word();
        let mut seen = None;
        loop {
            let Some(row) = store.get(&Pointer::key(tenant.ord, record))? else {
                let tombstone = store.get(&Tombstone::key(tenant.ord, record))?;
                let Some(row) = tombstone else { return Err(VaultError::NotFound(what)) };
                // Of a damaged one nobody knows what it was: refused all the same.
                let check = |f: Fate| sort.check(f.rtype()).and_then(|()| allowed(f.rtype()));
                Fate::decode(&row).map_or(Ok(()), check)?;
                return Err(VaultError::Erased(what));
            };
            let pointer = Pointer::decode(&row).ok_or(VaultError::Damaged(what))?;
            sort.check(pointer.rtype)?;
            allowed(pointer.rtype)?;
            if refused(pointer.kid) {
                return Err(VaultError::Erased(what));
            }
            match self.open_at(pointer.kid, Some((record, pointer.rec_ver))) {
                Ok(open) if open.version.rtype == pointer.rtype => {
                    return Ok(Found { pointer, open });
                }
                // An update or erasure came between the pointer and the version: look again, once per new pointer.
                _ if seen != Some(pointer) => seen = Some(pointer),
                Ok(_) => return Err(VaultError::Damaged(what)),
                Err(VaultError::Keys(KeyError::Gone)) => return Err(VaultError::Erased(what)),
                Err(VaultError::Damaged(_)) => {
                    self.damaged.add((pointer.kid, Some(record)));
                    return Err(VaultError::Damaged(what));
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Opens the version at a kid, key and rows under one view of the tree.
    pub(super) fn open_at(
        &self,
        kid: Kid,
        expected: Option<(RecordId, RecVer)>,
    ) -> Result<OpenVersion, VaultError> {
        let reader = self.tree.read();
        let dek = reader.dek(kid)?;
        sealed::open(self.tree.store(), self.vault(), kid, &dek, expected)
    }

    /// Fails unless the subject is there and not being erased. Answers with what stands for it in the
    /// audit log.
    pub(super) fn check_subject(
        &self,
        tenant: &Tenant,
        subject: RecordId,
    ) -> Result<[u8; 16], VaultError> {
        let found = self.find_current(tenant, subject, Sort::Subject)?;
        Ok(found.open.fields.member.subject)
    }
}

//! A permit's rights at the store, where the type of a record is known.
//!
//! Invariant: a record of a type that a permit does not reach is refused before it is opened, like one of another
//! tenant; lists leave it out.

use super::core::Core;
use super::current::{Found, Sort};
use super::error::VaultError;
use super::registry::Tenant;
use super::view::{ReadSpec, RecordView, view};
use crate::authz::{ActionKind, Permit};
use crate::id::{RecordId, TypeOrd};

impl Core {
    /// Fails unless the permit reaches records of this type.
    pub(super) fn check_reach<A: ActionKind>(
        &self,
        permit: &Permit<A>,
        tenant: &Tenant,
        rtype: TypeOrd,
    ) -> Result<(), VaultError> {
        if permit.reaches_every_type() {
            return Ok(());
        }
        // A type without a schema has no name that a policy could mean.
        let schema = tenant.schema_of(rtype);
        let reached = schema.is_some_and(|s| permit.reaches(s.type_name().as_str()));
        if reached { Ok(()) } else { Err(VaultError::Forbidden) }
    }

    /// A record's current version, if the permit reaches it and no legal hold alone keeps it from others.
    pub(super) fn find_reached<A: ActionKind>(
        &self,
        permit: &Permit<A>,
        tenant: &Tenant,
        record: RecordId,
    ) -> Result<Found, VaultError> {
        let reach = |rtype| self.check_reach(permit, tenant, rtype);
        let found = self.find_allowed(tenant, record, Sort::Record, &reach)?;
        self.check_unrestricted(tenant, &found, permit.role())?;
        Ok(found)
    }

    /// What the permit shows of a record.
    pub(super) fn view_of<A: ActionKind>(
        &self,
        tenant: &Tenant,
        record: RecordId,
        found: Found,
        permit: &Permit<A>,
        spec: &ReadSpec,
    ) -> Result<RecordView, VaultError> {
        let rtype = found.pointer.rtype;
        let schema = tenant.schema_of(rtype).ok_or(VaultError::NotFound("schema"))?;
        let expires = tenant.day_of(found.pointer.kid.bucket);
        let map = found.open.fields;
        let clear = permit.clear(schema.type_name().as_str(), spec.purpose.as_deref());
        view(schema, (record, found.pointer.rec_ver, expires), map, clear, spec)
    }
}

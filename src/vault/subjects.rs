//! Subjects: each is a record of the built-in type about itself, so that it has a key and an erasure of its own.

use super::core::{Core, Vault};
use super::current::{SUBJECT, Sort};
use super::error::VaultError;
use super::put::Home;
use super::records::{new_id, subject_map};
use super::registry::Tenant;
use super::requests::{Asked, Operation};
use crate::audit::{Act, Member};
use crate::authz::{CreateSubject, Permit, ReadSubject};
use crate::class::Role;
use crate::clock::UnixMillis;
use crate::crypto::random;
use crate::id::{Day, RecVer, RecordId, RequestId};
use crate::store::Batch;

/// A subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubjectView {
    pub id: RecordId,
    pub created: UnixMillis,
}

impl Vault {
    pub async fn create_subject(
        &self,
        permit: &Permit<CreateSubject>,
        tenant: &str,
        request: Option<RequestId>,
    ) -> Result<SubjectView, VaultError> {
        let core = &*self.core;
        let tenant = core.tenant(permit, tenant)?;
        let _writing = tenant.writing.read().await;
        let operation = Operation::CreateSubject;
        let repeat = request.map(|r| (r, Asked::new(operation, permit.principal())));
        let _once = core.lock_requests(repeat.iter().map(|(r, _)| *r)).await;
        if let Some((request, asked)) = &repeat
            && let Some(id) = core.find_done(&tenant, *request, operation, asked)?
        {
            let (view, member) = core.subject(&tenant, id, permit.role())?;
            let entry = core.entry(permit, Act::CreateSubject).of(tenant.ord);
            core.note(&entry.about([(Some(SUBJECT), member)]))?;
            return Ok(view);
        }
        let now = core.clock.now();
        let id = new_id();
        let mut batch = Batch::default();
        let version = (SUBJECT, id, RecVer(1), 1);
        let map = subject_map(id, random(), now);
        let entry = core.entry(permit, Act::CreateSubject).of(tenant.ord);
        batch.entries = entry.about([(Some(SUBJECT), map.member)]).encode();
        let home = Home::Expiry(Day::OPEN_ENDED);
        let slot = core.put_version(&tenant, version, home, &map, &mut batch).await?;
        if let Some((request, asked)) = &repeat {
            let made = (id, RecVer(1), slot.kid, &slot.dek);
            let (key, row) = core.done_row(tenant.ord, *request, (operation, asked), made);
            batch.put(key, row);
        }
        core.commit_put(batch, &[slot]).await?;
        core.metrics.creates.one();
        Ok(SubjectView { id, created: now })
    }

    pub fn get_subject(
        &self,
        permit: &Permit<ReadSubject>,
        tenant: &str,
        subject: RecordId,
    ) -> Result<SubjectView, VaultError> {
        let core = &*self.core;
        let tenant = core.tenant(permit, tenant)?;
        let (view, member) = core.subject(&tenant, subject, permit.role())?;
        let entry = core.entry(permit, Act::GetSubject).of(tenant.ord);
        core.note(&entry.about([(Some(SUBJECT), member)]))?;
        Ok(view)
    }
}

impl Core {
    fn subject(
        &self,
        tenant: &Tenant,
        id: RecordId,
        role: Role,
    ) -> Result<(SubjectView, Member), VaultError> {
        let found = self.find_current(tenant, id, Sort::Subject)?;
        self.check_unrestricted(tenant, &found, role)?;
        let map = found.open.fields;
        Ok((SubjectView { id, created: map.created }, map.member))
    }
}

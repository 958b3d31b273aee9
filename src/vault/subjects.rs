//! Subjects: each is a record of the built-in type about itself, so that it has a key and an erasure of its own.

use super::core::Vault;
use super::error::VaultError;
use super::records::{Home, SUBJECT, Sort, subject_map};
use crate::authz::{CreateSubject, Permit, ReadSubject};
use crate::clock::UnixMillis;
use crate::crypto::random;
use crate::id::{Day, RecVer, RecordId};
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
    ) -> Result<SubjectView, VaultError> {
        let core = &*self.core;
        let tenant = core.tenant(permit, tenant)?;
        let now = core.clock.now();
        let id = RecordId(uuid::Builder::from_random_bytes(random()).into_uuid().into_bytes());
        let mut batch = Batch::default();
        let version = (SUBJECT, id, RecVer(1), 1);
        let map = subject_map(id, now);
        let home = Home::Expiry(Day::OPEN_ENDED);
        let slot = core.put_version(&tenant, version, home, &map, &mut batch).await?;
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
        let tenant = self.core.tenant(permit, tenant)?;
        let found = self.core.find_current(&tenant, subject, Sort::Subject)?;
        Ok(SubjectView { id: subject, created: found.open.fields.created })
    }
}

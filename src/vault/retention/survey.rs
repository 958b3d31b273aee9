//! What is in buckets, by the rules in force: how much will go, how much may stay, how much has no legal basis.
//! Nothing is changed.

use super::decide::decide;
use crate::id::{Day, Kid, PageOrd, TypeOrd};
use crate::keys::KeyError;
use crate::keys::path::Path;
use crate::keys::slots::BucketId;
use crate::vault::core::Core;
use crate::vault::error::VaultError;
use crate::vault::registry::Tenant;
use crate::vault::relist::pages_of;
use crate::vault::rows::Pointer;
use crate::vault::sealed::{self, OpenVersion};

/// Counts of records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    pub records: u64,
    /// The rules want them in a later bucket: they move out before this one goes.
    pub staying: u64,
    /// A legal hold keeps them: they move out before this one goes.
    pub held: u64,
    /// The rule that decides on them names no legal basis.
    pub without_basis: u64,
    /// They do not open; they go with their bucket.
    pub damaged: u64,
}

impl Survey {
    pub fn add(&mut self, other: Self) {
        self.records += other.records;
        self.staying += other.staying;
        self.held += other.held;
        self.without_basis += other.without_basis;
        self.damaged += other.damaged;
    }
}

impl Core {
    /// Calls `each` with every record whose current version is on these pages; `None` is one that does not open.
    pub(in crate::vault) fn each_current(
        &self,
        path: &Path,
        each: &mut dyn FnMut(
            Kid,
            crate::id::RecordId,
            Option<OpenVersion>,
        ) -> Result<(), VaultError>,
    ) -> Result<(), VaultError> {
        let state = match self.tree.read().page_state(path) {
            // Nobody knows what was on a lost page.
            Err(KeyError::Damaged(_)) => return Ok(()),
            other => other?,
        };
        let Some((slots, dead)) = state else { return Ok(()) };
        let page = PageOrd::new(path.ord).unwrap_or_default();
        for slot in 0..slots {
            if dead.get(usize::from(slot / 8)).is_none_or(|b| b & (1 << (slot % 8)) != 0) {
                continue;
            }
            let kid = Kid { tenant: path.tenant, bucket: path.bucket, page, slot };
            let store = self.tree.store();
            let Some(row) = store.get(&sealed::row_key(kid, 0))? else { continue };
            let Some(named) = sealed::peek(&row) else { continue };
            let pointer = store.get(&Pointer::key(kid.tenant, named.record))?;
            if pointer.as_deref().and_then(Pointer::decode).is_none_or(|p| p.kid != kid) {
                continue;
            }
            match self.open_at(kid, Some((named.record, named.rec_ver))) {
                Ok(open) => each(kid, named.record, Some(open))?,
                Err(VaultError::Damaged(_)) => each(kid, named.record, None)?,
                // Erased meanwhile.
                Err(VaultError::Keys(KeyError::Gone)) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Counts what is on a page of a bucket.
    pub(in crate::vault) fn survey_page(
        &self,
        tenant: &Tenant,
        (rtype, day): (TypeOrd, Day),
        path: &Path,
    ) -> Result<Survey, VaultError> {
        let (mut found, rules) = (Survey::default(), tenant.rules(rtype));
        let schema = tenant.schema_of(rtype).ok_or(VaultError::NotFound("schema"))?;
        self.each_current(path, &mut |_, _, open| {
            found.records += 1;
            let Some(open) = open else {
                found.damaged += 1;
                return Ok(());
            };
            let told = decide(&schema, &rules, open.fields.to_map().facts());
            let held = self.is_held(tenant, &open);
            found.held += u64::from(held);
            found.staying += u64::from(told.expires > day && !held);
            let named = told.deciding().and_then(|line| line.policy.as_ref());
            let policy = named.and_then(|id| rules.iter().find(|rule| rule.id == *id));
            found.without_basis += u64::from(policy.is_none_or(|p| p.basis.is_empty()));
            Ok(())
        })?;
        Ok(found)
    }

    /// Counts what is in a bucket.
    pub(in crate::vault) fn survey(
        &self,
        tenant: &Tenant,
        key: (TypeOrd, Day),
        bucket: BucketId,
    ) -> Result<Survey, VaultError> {
        let mut found = Survey::default();
        for path in pages_of(&self.tree, bucket, 0..u32::MAX)? {
            found.add(self.survey_page(tenant, key, &path)?);
        }
        Ok(found)
    }
}

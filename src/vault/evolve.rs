//! Schemas whose index is being brought to what they say: a field was made indexed, or is not any more.
//!
//! A field's state is in its schema's row (docs/FORMAT.md §6.1), so that a start goes on where a crash fell; how far
//! the work is, is in memory only. The eraser's thread does it (`erase/evolve.rs`).

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::core::Vault;
use super::error::VaultError;
use super::schema::Schema;
use super::slug::Slug;
use crate::authz::{Permit, ReadSchema};
use crate::id::{TenantOrd, TypeOrd};

type Key = (TenantOrd, TypeOrd);

#[derive(Default)]
struct Known {
    /// Types that are worked on, and how many of how many key pages are done.
    under_way: BTreeMap<Key, (u64, u64)>,
    /// Revisions of the types that changed since the vault was opened.
    revisions: BTreeMap<Key, u32>,
}

/// What is under way.
#[derive(Default)]
pub struct Evolving(Mutex<Known>);

impl Evolving {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A schema as it was opened.
    pub fn note(&self, tenant: TenantOrd, schema: &Schema) {
        if schema.is_changing() {
            self.lock().under_way.insert((tenant, schema.ord()), (0, 0));
        }
    }

    /// A schema that has just changed.
    pub fn changed(&self, tenant: TenantOrd, schema: &Schema) {
        self.lock().revisions.insert((tenant, schema.ord()), schema.revision());
        self.note(tenant, schema);
    }

    /// Whether a type's schema is newer than that.
    pub fn changed_since(&self, tenant: TenantOrd, rtype: TypeOrd, revision: u32) -> bool {
        self.lock().revisions.get(&(tenant, rtype)).is_some_and(|now| *now != revision)
    }

    /// What to work on next.
    pub fn first(&self) -> Option<Key> {
        self.lock().under_way.keys().next().copied()
    }

    pub fn advance(&self, key: Key, done: u64, all: u64) {
        if let Some(progress) = self.lock().under_way.get_mut(&key) {
            *progress = (done, all);
        }
    }

    pub fn finish(&self, key: Key) {
        self.lock().under_way.remove(&key);
    }
}

impl Vault {
    /// How much of a type's index is what its schema says, in per cent; below 100 while that is under way.
    pub fn index_percent(
        &self,
        permit: &Permit<ReadSchema>,
        tenant: &str,
        id: &Slug,
    ) -> Result<u8, VaultError> {
        let tenant = self.core.tenant(permit, tenant)?;
        let key = (tenant.ord, tenant.schema(id)?.ord());
        Ok(match self.core.evolving.lock().under_way.get(&key) {
            None => 100,
            Some((done, all)) => u8::try_from(done * 100 / (*all).max(1)).unwrap_or(99).min(99),
        })
    }
}

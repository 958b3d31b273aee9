//! Making a field unique that has values already.
//!
//! Order: first the field is kept unique in memory, so that no put adds a second record of a value; then all values are
//! looked through; only then does the schema's row say that the field is unique. Puts go on meanwhile.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use super::core::{Core, Vault};
use super::error::VaultError;
use super::index::Token;
use super::lookup::tokens_of_fields;
use super::registry::Tenant;
use super::relist::{pages_of, relist_by};
use super::rows::Pointer;
use super::schema::Schema;
use super::sealed;
use crate::id::{FieldOrd, Kid, RecordId};
use crate::limits::UNIQUE_CHECK_MAX;

/// Pairs that a refusal names.
const PAIRS_MAX: usize = 10;

/// While it lives fields are kept unique; dropped before their schema says so, they are not any more.
pub(super) struct Kept<'a> {
    tenant: &'a Tenant,
    present: Option<Arc<Schema>>,
}

impl Kept<'_> {
    pub fn for_good(mut self) {
        self.present = None;
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        if let Some(present) = self.present.take() {
            self.tenant.state_mut().schemas.insert(present.type_name().clone(), present);
        }
    }
}

impl Vault {
    /// Keeps fields unique from now on. Fails if there are records already that have one value.
    pub(super) async fn keep_unique<'a>(
        &self,
        tenant: &'a Arc<Tenant>,
        present: &Arc<Schema>,
        fields: &[FieldOrd],
    ) -> Result<Kept<'a>, VaultError> {
        if fields.is_empty() {
            return Ok(Kept { tenant, present: None });
        }
        let strict = Arc::new(present.with_unique(fields));
        let kept = {
            // Puts that did not look for other records are over.
            let _no_puts = tenant.writing.write().await;
            tenant.state_mut().schemas.insert(strict.type_name().clone(), strict.clone());
            Kept { tenant, present: Some(present.clone()) }
        };
        for field in fields {
            let (core, tenant) = (self.core.clone(), tenant.clone());
            let (strict, field) = (strict.clone(), *field);
            let looked =
                tokio::task::spawn_blocking(move || core.check_values(&tenant, &strict, field));
            looked.await.map_err(|_| VaultError::Stopping)??;
        }
        Ok(kept)
    }
}

impl Core {
    /// Fails if two current records have one value of a field.
    fn check_values(
        &self,
        tenant: &Tenant,
        schema: &Schema,
        field: FieldOrd,
    ) -> Result<(), VaultError> {
        let mut pages = Vec::new();
        for bucket in tenant.buckets(Some(schema.ord())) {
            pages.extend(pages_of(&self.tree, bucket, 0..u32::MAX)?);
        }
        let (mut seen, mut pairs) = (HashMap::<Token, Kid>::new(), Vec::new());
        for path in pages {
            if seen.len() as u64 > UNIQUE_CHECK_MAX {
                return Err(VaultError::Exhausted(
                    "the type has too many records to make a field unique",
                ));
            }
            let content = relist_by(&self.tree, &path, &self.metrics, &|key, _, map| {
                tokens_of_fields(key, schema, &[field], map)
            })?;
            if let Some(damaged) = content.damaged.into_iter().next() {
                self.damaged.add(damaged);
                return Err(VaultError::Precondition(
                    "records of the type do not open and may have any value: restore or erase them first",
                ));
            }
            for (kid, tokens) in content.versions {
                for token in tokens {
                    match seen.entry(token) {
                        Entry::Vacant(free) => {
                            free.insert(kid);
                        }
                        // A version that is not its record's current one any more takes no value.
                        Entry::Occupied(mut taken) => {
                            match (self.current_at(*taken.get())?, self.current_at(kid)?) {
                                (_, None) => {}
                                (None, Some(_)) => {
                                    taken.insert(kid);
                                }
                                (Some(first), Some(second)) => pairs.push((first, second)),
                            }
                        }
                    }
                }
            }
            if pairs.len() >= PAIRS_MAX {
                break;
            }
        }
        if pairs.is_empty() {
            return Ok(());
        }
        pairs.truncate(PAIRS_MAX);
        let field = schema.field_by_ord(field).map(|f| f.name.as_str().to_owned());
        Err(VaultError::NotUnique { field: field.unwrap_or_default(), pairs })
    }

    /// The record whose current version is at a kid.
    fn current_at(&self, kid: Kid) -> Result<Option<RecordId>, VaultError> {
        let row = self.tree.store().get(&sealed::row_key(kid, 0))?;
        let Some(record) = row.as_deref().and_then(sealed::peek).map(|v| v.record) else {
            return Ok(None);
        };
        let row = self.tree.store().get(&Pointer::key(kid.tenant, record))?;
        let pointer = row.as_deref().and_then(Pointer::decode);
        Ok(pointer.filter(|p| p.kid == kid).map(|_| record))
    }
}

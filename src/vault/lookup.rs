//! From a value to the live versions that have it: what searches and unique fields rest on.
//!
//! Invariant: the index only proposes; a version counts if it is its record's current one and its value compares equal.

use std::collections::BTreeMap;

use super::core::Core;
use super::current::{Found, Sort};
use super::error::VaultError;
use super::fieldmap::{EncodedMap, FieldMap};
use super::index::{Token, subject_token, token};
use super::registry::Tenant;
use super::schema::Schema;
use super::sealed;
use super::value::Value;
use crate::crypto::IndexKey;
use crate::id::{FieldOrd, RecordId, TypeOrd};
use crate::limits;

/// What has a token.
#[derive(Default)]
pub(super) struct LookedUp {
    pub current: Vec<Found>,
    pub damaged: Vec<RecordId>,
}

impl Core {
    /// Tokens of the unique fields that a record has.
    pub(super) fn unique_tokens(
        &self,
        tenant: &Tenant,
        schema: &Schema,
        fields: &BTreeMap<FieldOrd, Value>,
    ) -> Result<Vec<(FieldOrd, Token)>, VaultError> {
        let unique = |ord: &FieldOrd| schema.field_by_ord(*ord).is_some_and(|d| d.unique);
        if !fields.keys().any(unique) {
            return Ok(Vec::new());
        }
        let secrets = self.tree.read().tenant(tenant.ord)?;
        let values = schema.index_values(fields).into_iter().filter(|(ord, _)| unique(ord));
        Ok(values.map(|(ord, v)| (ord, token(&secrets.index, schema.ord(), ord, &v))).collect())
    }

    /// Refuses a value that another live record has in a unique field. The caller holds the tokens' locks.
    pub(super) fn check_unique(
        &self,
        tenant: &Tenant,
        schema: &Schema,
        uniques: &[(FieldOrd, Token)],
        fields: &BTreeMap<FieldOrd, Value>,
        own: Option<RecordId>,
    ) -> Result<(), VaultError> {
        for (ord, token) in uniques {
            let (Some(def), Some(value)) = (schema.field_by_ord(*ord), fields.get(ord)) else {
                continue;
            };
            let found = self.lookup(tenant, schema.ord(), token, |other| {
                other.get(*ord).is_some_and(|v| v.to_value().matches(value, def.kind))
            })?;
            let current = found.current.iter().map(|f| f.open.version.record);
            // One that does not open has the value too, as far as the index knows. One whose erasure was asked for has
            // given it up: its subject may come back.
            let given_up = |r: &RecordId| self.holds.postponed(tenant.ord, *r).is_some();
            let other = current.chain(found.damaged).find(|r| Some(*r) != own && !given_up(r));
            if let Some(record) = other {
                let field = def.name.as_str().to_owned();
                return Err(VaultError::Duplicate { field, record });
            }
        }
        Ok(())
    }

    /// Current versions that have a token and pass the comparison; and those that have it and do not open.
    pub(super) fn lookup(
        &self,
        tenant: &Tenant,
        rtype: TypeOrd,
        token: &Token,
        matches: impl Fn(&EncodedMap) -> bool,
    ) -> Result<LookedUp, VaultError> {
        let candidates = self.index.find(&self.tree, &tenant.buckets(Some(rtype)), token)?;
        let (mut found, mut bytes) = (LookedUp::default(), 0);
        for kid in candidates {
            if found.current.len() >= limits::PAGE_SIZE_MAX {
                break;
            }
            if bytes > limits::FIND_BYTES_MAX {
                return Err(VaultError::TooLarge("the records found are too large together"));
            }
            let value = self.tree.store().get(&sealed::row_key(kid, 0))?;
            // Without its row it is a put that is under way, or one that the vault noted as damaged.
            let named = value.as_deref().and_then(sealed::peek).map(|v| v.record);
            let Some(record) = named.or_else(|| self.damaged.record_of(kid)) else { continue };
            match self.find_current(tenant, record, Sort::Record) {
                Ok(f) if f.pointer.kid == kid && matches(&f.open.fields) => {
                    bytes += f.open.fields.iter().map(|(_, v)| v.encoded_len()).sum::<usize>();
                    found.current.push(f);
                }
                // Superseded, erased, or of another value: not what was looked for.
                Ok(_) | Err(VaultError::Erased(_) | VaultError::NotFound(_)) => {}
                Err(VaultError::Damaged(_)) => {
                    self.metrics.damaged_rows.one();
                    found.damaged.push(record);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(found)
    }
}

/// Tokens under which a version is listed: its subject's and those of its indexed fields.
pub(super) fn tokens_of(
    key: &IndexKey,
    rtype: TypeOrd,
    schema: Option<&Schema>,
    map: &FieldMap,
) -> Vec<Token> {
    let mut tokens = vec![subject_token(key, map.subject)];
    let values = schema.map(|s| s.index_values(&map.fields)).unwrap_or_default();
    tokens.extend(values.iter().map(|(ord, v)| token(key, rtype, *ord, v)));
    tokens
}

/// All tokens under which a version may be listed, those that are on their way out included: when it is erased, no
/// listing of it may stay.
pub(super) fn tokens_ever(
    key: &IndexKey,
    rtype: TypeOrd,
    schema: Option<&Schema>,
    map: &FieldMap,
) -> Vec<Token> {
    let mut tokens = vec![subject_token(key, map.subject)];
    let values = schema.map(|s| s.index_values_ever(&map.fields)).unwrap_or_default();
    tokens.extend(values.iter().map(|(ord, v)| token(key, rtype, *ord, v)));
    tokens
}

/// Tokens of these fields of a version, as far as it has them.
pub(super) fn tokens_of_fields(
    key: &IndexKey,
    schema: &Schema,
    fields: &[FieldOrd],
    map: &FieldMap,
) -> Vec<Token> {
    let present = fields.iter().filter_map(|ord| {
        let (def, value) = (schema.field_by_ord(*ord)?, map.fields.get(ord)?);
        Some(token(key, schema.ord(), *ord, &value.normalised(def.kind)))
    });
    present.collect()
}

//! What a caller asks a hold to be, checked.
//!
//! Guarantee: a refusal lists every violation at once and echoes no value.

use std::collections::{BTreeMap, BTreeSet};

use super::{Condition, Scope};
use crate::class::Role;
use crate::clock::UnixMillis;
use crate::id::RecordId;
use crate::limits;
use crate::vault::current::Sort;
use crate::vault::error::VaultError;
use crate::vault::registry::Tenant;
use crate::vault::slug::Slug;
use crate::vault::value::Value;

/// What a caller wants held.
pub enum ScopeDraft {
    Record(RecordId),
    Subject(RecordId),
    Query { rtype: Slug, fields: BTreeMap<String, Value> },
}

impl ScopeDraft {
    /// The one thing that it names.
    pub(super) fn named(&self) -> Option<(Sort, RecordId)> {
        match self {
            Self::Record(id) => Some((Sort::Record, *id)),
            Self::Subject(id) => Some((Sort::Subject, *id)),
            Self::Query { .. } => None,
        }
    }
}

/// A hold to place.
pub struct HoldDraft {
    pub scope: ScopeDraft,
    pub reason: String,
    pub issuer: String,
    pub reference: String,
    pub readers: BTreeSet<Role>,
    pub expires: Option<UnixMillis>,
}

/// One thing that is wrong with a draft: the field below the hold, and what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldViolation {
    pub path: &'static str,
    pub problem: &'static str,
}

fn check_text(path: &'static str, text: &str, required: bool, found: &mut Vec<HoldViolation>) {
    let mut add = |problem| found.push(HoldViolation { path, problem });
    if required && text.trim().is_empty() {
        add("is required");
    }
    if text.len() > limits::HOLD_TEXT_BYTES_MAX {
        add("has more than 1000 bytes");
    }
    if text.chars().any(|c| c.is_control() && c != '\n') {
        add("has control characters");
    }
}

/// Fails unless a text says why a hold ends.
pub(super) fn check_note(note: &str) -> Result<(), VaultError> {
    let mut found = Vec::new();
    check_text("note", note, true, &mut found);
    match found.first() {
        None => Ok(()),
        Some(first) => Err(VaultError::Argument { field: first.path, reason: first.problem }),
    }
}

impl HoldDraft {
    /// Fails with everything that is wrong with what can be judged without looking at records.
    pub(super) fn check(&self, now: UnixMillis) -> Result<(), VaultError> {
        let mut found = Vec::new();
        check_text("reason", &self.reason, true, &mut found);
        check_text("issuer", &self.issuer, false, &mut found);
        check_text("reference", &self.reference, false, &mut found);
        if self.expires.is_some_and(|at| at <= now) {
            found.push(HoldViolation { path: "expire_time", problem: "is in the past" });
        }
        if let ScopeDraft::Query { fields, .. } = &self.scope
            && fields.len() > limits::HOLD_CONDITIONS_MAX
        {
            found.push(HoldViolation { path: "query.fields", problem: "has more than 8 fields" });
        }
        if found.is_empty() { Ok(()) } else { Err(VaultError::Hold(found)) }
    }
}

/// The conditions of a query, as the schema of now understands them.
pub(super) fn query(
    tenant: &Tenant,
    rtype: &Slug,
    fields: BTreeMap<String, Value>,
) -> Result<Scope, VaultError> {
    let schema = tenant.schema(rtype)?;
    let asked = schema.check_patch(fields, &[])?;
    let conditions = asked.set.into_iter().filter_map(|(field, value)| {
        let kind = schema.field_by_ord(field)?.kind;
        Some(Condition { field, kind, value })
    });
    Ok(Scope::Query(schema.ord(), conditions.collect()))
}

//! The shape of a record type: its fields, how each is checked and shown, how long a record is
//! kept.
//!
//! Guarantees: a [`Schema`] exists only if every rule of `lethe/v1/schema.proto` holds, whether it
//! came from a draft ([`Schema::create`], [`Schema::evolve`]) or from its sealed row
//! ([`Schema::from_json`]); its JSON fits one row; a field's number is never given to another
//! field. A refusal lists every violation at once.

mod check;
mod draft;
mod json;
mod part;

use serde::{Deserialize, Serialize};

use crate::class::{Classification, FieldKind, MaskKind};
use crate::clock::UnixMillis;
use crate::id::{Day, FieldOrd, TypeOrd};
use crate::limits;

use super::calendar::Period;
use super::slug::{FieldName, Slug};
use super::validate;

pub use check::{FieldProblem, FieldViolation, Patch};
pub use draft::{FieldDraft, RetentionDraft, SchemaDraft, SchemaProblem, SchemaViolation};
pub use json::SchemaJsonError;
pub use part::Parts;

/// For people, at most this many bytes.
pub const DESCRIPTION_BYTES_MAX: usize = 500;

/// How long records of a type are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// From the record's creation.
    RetainFor(Period),
    /// Until erased by request.
    OpenEnded,
}

impl Retention {
    /// The last day, in UTC, on which a record created then may be held; `None` if no day is said.
    pub fn last_day(self, created: UnixMillis) -> Option<Day> {
        match self {
            Retention::RetainFor(period) => Some(period.last_day(created.day())),
            Retention::OpenEnded => None,
        }
    }
}

/// Whether the blind index has of every record what it should have of a field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IndexState {
    /// As `indexed` says.
    #[default]
    Settled,
    /// The field is indexed, and records of before are still to be listed.
    Building,
    /// The field is not indexed any more, and listings of before are still to go.
    Dropping,
}

/// One field of a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldDef {
    pub name: FieldName,
    pub ord: FieldOrd,
    pub kind: FieldKind,
    pub class: Classification,
    pub required: bool,
    /// Implies `indexed`.
    pub unique: bool,
    pub indexed: bool,
    pub index: IndexState,
    /// Bound of a value: chosen for TEXT and BYTES, the kind's own for others.
    pub max_bytes: usize,
    pub mask: MaskKind,
    /// Purposes for which the field may be read; empty means any.
    pub purposes: Vec<Slug>,
    pub description: String,
}

impl FieldDef {
    /// Whether the field may be read for this purpose.
    pub fn serves(&self, purpose: &str) -> bool {
        self.purposes.is_empty() || self.purposes.iter().any(|p| p.as_str() == purpose)
    }
}

/// A record type's current revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    type_name: Slug,
    ord: TypeOrd,
    revision: u32,
    /// Ascending by `ord`.
    fields: Vec<FieldDef>,
    retention: Retention,
    erase_old_versions_synchronously: bool,
    updated: UnixMillis,
    /// The number that the next new field gets; above every number ever given.
    next_field: u16,
}

impl Schema {
    pub fn type_name(&self) -> &Slug {
        &self.type_name
    }

    pub fn ord(&self) -> TypeOrd {
        self.ord
    }

    /// 1, 2, …; at most `i32::MAX`, as it travels in an int32.
    pub fn revision(&self) -> u32 {
        self.revision
    }

    /// Ascending by number, which is the order in which they were declared.
    pub fn fields(&self) -> &[FieldDef] {
        &self.fields
    }

    pub fn retention(&self) -> Retention {
        self.retention
    }

    pub fn erases_old_versions_synchronously(&self) -> bool {
        self.erase_old_versions_synchronously
    }

    pub fn updated(&self) -> UnixMillis {
        self.updated
    }

    pub fn field(&self, name: &str) -> Option<&FieldDef> {
        self.fields.iter().find(|f| f.name.as_str() == name)
    }

    pub fn field_by_ord(&self, ord: FieldOrd) -> Option<&FieldDef> {
        let at = self.fields.binary_search_by_key(&ord, |f| f.ord).ok()?;
        self.fields.get(at)
    }

    /// Whether the index is being brought to what the fields say.
    pub fn is_changing(&self) -> bool {
        self.fields.iter().any(|f| f.index != IndexState::Settled)
    }

    /// The same once the index is what the fields say.
    pub fn settled(&self) -> Schema {
        let mut schema = self.clone();
        schema.fields.iter_mut().for_each(|f| f.index = IndexState::Settled);
        schema
    }

    /// Whether records may have to go on another day than by the revision before: by the retention, or by what a policy
    /// looks at.
    pub fn may_move(&self, before: &Schema) -> bool {
        let looks = |f: &FieldDef| (f.ord, f.class, f.purposes.clone());
        let same =
            |f: &FieldDef| before.field_by_ord(f.ord).is_none_or(|old| looks(old) == looks(f));
        self.retention != before.retention || !self.fields.iter().all(same)
    }

    /// Fields that are unique here and were not before. A field that is new has no values yet.
    pub fn newly_unique(&self, before: &Schema) -> Vec<FieldOrd> {
        let was = |f: &&FieldDef| before.field_by_ord(f.ord).is_some_and(|old| !old.unique);
        self.fields.iter().filter(|f| f.unique).filter(was).map(|f| f.ord).collect()
    }

    /// The same with these fields unique.
    pub fn with_unique(&self, fields: &[FieldOrd]) -> Schema {
        let mut schema = self.clone();
        schema.fields.iter_mut().for_each(|f| f.unique |= fields.contains(&f.ord));
        schema
    }

    /// Fields that have entries in the blind index.
    pub fn indexed_fields(&self) -> impl Iterator<Item = &FieldDef> {
        self.fields.iter().filter(|f| f.indexed)
    }
}

/// How a field is masked if its schema does not say.
pub fn default_mask(kind: FieldKind) -> MaskKind {
    match kind {
        FieldKind::Email => MaskKind::Email,
        FieldKind::Phone => MaskKind::Phone,
        FieldKind::ResidentId | FieldKind::Uscc => MaskKind::Id,
        FieldKind::Text
        | FieldKind::Integer
        | FieldKind::Number
        | FieldKind::Boolean
        | FieldKind::Date
        | FieldKind::Bytes
        | FieldKind::PostalCode => MaskKind::Full,
    }
}

/// The bound of a value if its schema does not say; the only one for kinds other than TEXT and
/// BYTES.
pub fn default_max_bytes(kind: FieldKind) -> usize {
    match kind {
        FieldKind::Text | FieldKind::Bytes => limits::TEXT_BYTES_DEFAULT,
        FieldKind::Integer | FieldKind::Number => 8,
        FieldKind::Boolean => 1,
        FieldKind::Date => 4,
        FieldKind::Email => validate::EMAIL_BYTES_MAX,
        FieldKind::Phone => validate::PHONE_BYTES_MAX,
        FieldKind::ResidentId | FieldKind::Uscc => validate::ID_BYTES,
        FieldKind::PostalCode => validate::POSTAL_CODE_BYTES_MAX,
    }
}

#[cfg(test)]
mod tests;

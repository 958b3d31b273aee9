//! From a draft to a schema: every rule of `lethe/v1/schema.proto`, each with its own sentence.
//!
//! Guarantees: [`Schema::create`] and [`Schema::evolve`] list all violations of a draft at once,
//! each with the path of what is wrong; the list is bounded by the limits, since an oversize draft
//! is refused before it is looked into.

use std::collections::BTreeSet;
use std::fmt;

use super::super::calendar::{Period, PeriodError};
use super::super::slug::{FieldName, NameError, Slug};
use super::super::validate;
use super::{
    DESCRIPTION_BYTES_MAX, FieldDef, IndexState, Retention, Schema, default_mask, default_max_bytes,
};
use crate::class::{Classification, FieldKind, MaskKind};
use crate::clock::UnixMillis;
use crate::id::{FieldOrd, TypeOrd};
use crate::limits;

/// What a caller asks a schema to be. `None` and 0 stand for what the caller left open.
#[derive(Clone, Debug, Default)]
pub struct SchemaDraft {
    pub type_name: String,
    pub fields: Vec<FieldDraft>,
    pub retention: Option<RetentionDraft>,
    pub erase_old_versions_synchronously: bool,
}

/// One field of a [`SchemaDraft`].
#[derive(Clone, Debug, Default)]
pub struct FieldDraft {
    pub name: String,
    pub kind: Option<FieldKind>,
    pub class: Option<Classification>,
    pub required: bool,
    pub unique: bool,
    pub indexed: bool,
    /// 0 means the kind's default.
    pub max_bytes: i32,
    pub mask: Option<MaskKind>,
    pub purposes: Vec<String>,
    pub description: String,
}

/// The retention of a [`SchemaDraft`], as the wire has it.
#[derive(Clone, Debug)]
pub enum RetentionDraft {
    RetainFor(String),
    OpenEnded(bool),
}

/// One thing that is wrong with a draft.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaViolation {
    /// Such as `type`, `retention`, `fields.phone.mask`, or `fields[3].name` for a field without a
    /// proper name.
    pub path: String,
    pub problem: SchemaProblem,
}

impl fmt::Display for SchemaViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.problem)
    }
}

/// What is wrong. The sentence is for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaProblem {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("two fields have this name")]
    DuplicateField,
    #[error("a schema has at most {} fields", limits::FIELDS_MAX)]
    TooManyFields,
    #[error("a schema has at most {} indexed fields", limits::INDEXED_FIELDS_MAX)]
    TooManyIndexed,
    #[error("the kind is missing")]
    KindMissing,
    #[error("the classification is missing")]
    ClassMissing,
    #[error("only TEXT and BYTES fields have a chosen length")]
    MaxBytesNotForKind,
    #[error("must be 0 to {}", limits::VALUE_BYTES_MAX)]
    MaxBytesRange,
    #[error("an indexed field needs max_bytes of 1 to {}", limits::INDEXED_VALUE_BYTES_MAX)]
    IndexedTooLong,
    #[error("NUMBER and BOOLEAN fields cannot be unique")]
    UniqueNotForKind,
    #[error("only fields that hold text have a mask other than FULL")]
    MaskNotForKind,
    #[error("a field names at most {} purposes", limits::PURPOSES_MAX)]
    TooManyPurposes,
    #[error("a purpose is named twice")]
    DuplicatePurpose,
    #[error("must be at most {DESCRIPTION_BYTES_MAX} bytes without control characters")]
    Description,
    #[error("say retain_for or open_ended")]
    RetentionMissing,
    #[error("open_ended can only be true; leave it out and say retain_for instead")]
    OpenEndedFalse,
    #[error(transparent)]
    Period(#[from] PeriodError),
    #[error("the schema takes more than {} bytes", limits::SCHEMA_JSON_BYTES_MAX)]
    SchemaTooLarge,
    #[error("a schema cannot change its type")]
    TypeChanged,
    #[error("a field cannot be removed")]
    FieldRemoved,
    #[error("a field cannot change its kind")]
    KindChanged,
    #[error("a field that exists is made indexed first, and unique once its index is READY")]
    UniqueTurnedOn,
    #[error("max_bytes cannot shrink")]
    MaxBytesShrunk,
    #[error("an optional field cannot be made required")]
    RequiredTightened,
    #[error("a new field cannot be required: older records lack it")]
    NewFieldRequired,
    #[error("the schema has had too many revisions")]
    RevisionsExhausted,
}

impl SchemaProblem {
    /// Whether the draft is sound in itself and only does not fit the revision that exists
    /// (FAILED_PRECONDITION).
    pub fn is_conflict(self) -> bool {
        use SchemaProblem as P;
        match self {
            P::TypeChanged
            | P::FieldRemoved
            | P::KindChanged
            | P::UniqueTurnedOn
            | P::MaxBytesShrunk
            | P::RequiredTightened
            | P::NewFieldRequired
            | P::RevisionsExhausted => true,
            P::Name(_)
            | P::DuplicateField
            | P::TooManyFields
            | P::TooManyIndexed
            | P::KindMissing
            | P::ClassMissing
            | P::MaxBytesNotForKind
            | P::MaxBytesRange
            | P::IndexedTooLong
            | P::UniqueNotForKind
            | P::MaskNotForKind
            | P::TooManyPurposes
            | P::DuplicatePurpose
            | P::Description
            | P::RetentionMissing
            | P::OpenEndedFalse
            | P::Period(_)
            | P::SchemaTooLarge => false,
        }
    }
}

impl Schema {
    /// Revision 1 of a new type.
    pub fn create(
        draft: SchemaDraft,
        ord: TypeOrd,
        now: UnixMillis,
    ) -> Result<Schema, Vec<SchemaViolation>> {
        let mut found = Found::default();
        let parsed = Parsed::of(&draft, &mut found);
        let (Some(type_name), Some(retention)) = (parsed.type_name, parsed.retention) else {
            return Err(found.0);
        };
        let mut schema = Schema {
            type_name,
            ord,
            revision: 1,
            fields: Vec::new(),
            retention,
            erase_old_versions_synchronously: draft.erase_old_versions_synchronously,
            updated: now,
            next_field: 1,
        };
        for def in parsed.fields {
            schema.append(def, &mut found);
        }
        schema.if_sound(found)
    }

    /// The next revision, or this one unchanged if the draft asks for nothing else than what is.
    pub fn evolve(
        &self,
        draft: SchemaDraft,
        now: UnixMillis,
    ) -> Result<Schema, Vec<SchemaViolation>> {
        let mut found = Found::default();
        let parsed = Parsed::of(&draft, &mut found);
        if parsed.type_name.as_ref().is_some_and(|t| *t != self.type_name) {
            found.add("type", SchemaProblem::TypeChanged);
        }
        // A field that was given but is malformed has its own violation; it is not also "removed".
        let given: BTreeSet<&str> = draft.fields.iter().map(|f| f.name.as_str()).collect();
        if draft.fields.len() <= limits::FIELDS_MAX {
            for old in self.fields.iter().filter(|f| !given.contains(f.name.as_str())) {
                found.add(&path(&old.name, ""), SchemaProblem::FieldRemoved);
            }
        }
        let mut next = self.clone();
        next.erase_old_versions_synchronously = draft.erase_old_versions_synchronously;
        next.retention = parsed.retention.unwrap_or(self.retention);
        for mut def in parsed.fields {
            let old = next.fields.iter_mut().find(|f| f.name == def.name);
            if let Some(old) = old {
                compare(old, &def, &mut found);
                def.ord = old.ord;
                def.index = match (old.indexed, def.indexed) {
                    (false, true) => IndexState::Building,
                    (true, false) => IndexState::Dropping,
                    _ => old.index,
                };
                *old = def;
            } else {
                if def.required {
                    found.add(&path(&def.name, "required"), SchemaProblem::NewFieldRequired);
                }
                next.append(def, &mut found);
            }
        }
        if found.0.is_empty() && next == *self {
            return Ok(next);
        }
        match self.revision.checked_add(1).filter(|r| i32::try_from(*r).is_ok()) {
            Some(revision) => next.revision = revision,
            None => found.add("revision", SchemaProblem::RevisionsExhausted),
        }
        next.updated = now;
        next.if_sound(found)
    }

    fn append(&mut self, mut def: FieldDef, found: &mut Found) {
        let Some(after) = self.next_field.checked_add(1) else {
            return found.add("fields", SchemaProblem::TooManyFields);
        };
        def.ord = FieldOrd(self.next_field);
        self.next_field = after;
        self.fields.push(def);
    }

    /// The last two rules are about the whole, and are looked at only where the parts are sound.
    fn if_sound(self, mut found: Found) -> Result<Schema, Vec<SchemaViolation>> {
        if found.0.is_empty() && self.to_json().len() > limits::SCHEMA_JSON_BYTES_MAX {
            found.add("fields", SchemaProblem::SchemaTooLarge);
        }
        if found.0.is_empty() { Ok(self) } else { Err(found.0) }
    }
}

/// The rules between two revisions of one field.
fn compare(old: &FieldDef, new: &FieldDef, found: &mut Found) {
    let mut rule = |broken: bool, part: &str, problem: SchemaProblem| {
        if broken {
            found.add(&path(&old.name, part), problem);
        }
    };
    rule(new.kind != old.kind, "kind", SchemaProblem::KindChanged);
    let ready = old.indexed && old.index == IndexState::Settled;
    rule(new.unique && !old.unique && !ready, "unique", SchemaProblem::UniqueTurnedOn);
    rule(new.required && !old.required, "required", SchemaProblem::RequiredTightened);
    let shrunk = new.kind == old.kind && new.max_bytes < old.max_bytes;
    rule(shrunk, "max_bytes", SchemaProblem::MaxBytesShrunk);
}

/// The violations so far.
#[derive(Default)]
struct Found(Vec<SchemaViolation>);

impl Found {
    fn add(&mut self, path: &str, problem: SchemaProblem) {
        self.0.push(SchemaViolation { path: path.to_owned(), problem });
    }
}

fn path(name: &FieldName, part: &str) -> String {
    if part.is_empty() { format!("fields.{name}") } else { format!("fields.{name}.{part}") }
}

/// What of a draft could be parsed. A part that is missing here has a violation.
struct Parsed {
    type_name: Option<Slug>,
    retention: Option<Retention>,
    /// In the draft's order, without numbers yet.
    fields: Vec<FieldDef>,
}

impl Parsed {
    fn of(draft: &SchemaDraft, found: &mut Found) -> Parsed {
        let type_name = Slug::parse(&draft.type_name).map_err(|e| found.add("type", e.into())).ok();
        let retention = retention(draft.retention.as_ref())
            .map_err(|problem| found.add("retention", problem))
            .ok();
        if draft.fields.len() > limits::FIELDS_MAX {
            found.add("fields", SchemaProblem::TooManyFields);
            return Parsed { type_name, retention, fields: Vec::new() };
        }
        let mut names = BTreeSet::new();
        let mut fields = Vec::with_capacity(draft.fields.len());
        for (at, field) in draft.fields.iter().enumerate() {
            let name = match FieldName::parse(&field.name) {
                Ok(name) => name,
                Err(e) => {
                    found.add(&format!("fields[{at}].name"), e.into());
                    continue;
                }
            };
            if !names.insert(name.clone()) {
                found.add(&path(&name, "name"), SchemaProblem::DuplicateField);
                continue;
            }
            fields.extend(field_def(name, field, found));
        }
        if fields.iter().filter(|f| f.indexed).count() > limits::INDEXED_FIELDS_MAX {
            found.add("fields", SchemaProblem::TooManyIndexed);
        }
        Parsed { type_name, retention, fields }
    }
}

fn retention(draft: Option<&RetentionDraft>) -> Result<Retention, SchemaProblem> {
    match draft {
        None => Err(SchemaProblem::RetentionMissing),
        Some(RetentionDraft::OpenEnded(false)) => Err(SchemaProblem::OpenEndedFalse),
        Some(RetentionDraft::OpenEnded(true)) => Ok(Retention::OpenEnded),
        Some(RetentionDraft::RetainFor(text)) => Ok(Retention::RetainFor(text.parse::<Period>()?)),
    }
}

fn field_def(name: FieldName, draft: &FieldDraft, found: &mut Found) -> Option<FieldDef> {
    let before = found.0.len();
    let mut rule = |broken: bool, part: &str, problem: SchemaProblem| {
        if broken {
            found.add(&path(&name, part), problem);
        }
    };
    rule(draft.kind.is_none(), "kind", SchemaProblem::KindMissing);
    rule(draft.class.is_none(), "classification", SchemaProblem::ClassMissing);
    let indexed = draft.indexed || draft.unique;
    let mut max_bytes = 0;
    let mut mask = MaskKind::Full;
    if let Some(kind) = draft.kind {
        let sized = matches!(kind, FieldKind::Text | FieldKind::Bytes);
        let asked = usize::try_from(draft.max_bytes).ok();
        let in_range = asked.is_some_and(|n| n <= limits::VALUE_BYTES_MAX);
        rule(sized && !in_range, "max_bytes", SchemaProblem::MaxBytesRange);
        rule(!sized && draft.max_bytes != 0, "max_bytes", SchemaProblem::MaxBytesNotForKind);
        max_bytes = asked.filter(|n| *n > 0).unwrap_or(default_max_bytes(kind));
        let too_long = sized && indexed && max_bytes > limits::INDEXED_VALUE_BYTES_MAX;
        rule(too_long, "max_bytes", SchemaProblem::IndexedTooLong);
        let inexact = matches!(kind, FieldKind::Number | FieldKind::Boolean);
        rule(inexact && draft.unique, "unique", SchemaProblem::UniqueNotForKind);
        mask = draft.mask.unwrap_or(default_mask(kind));
        rule(!holds_text(kind) && mask != MaskKind::Full, "mask", SchemaProblem::MaskNotForKind);
    }
    let purposes = purposes(&draft.purposes).map_err(|p| rule(true, "purposes", p)).ok();
    let described = validate::text(&draft.description, DESCRIPTION_BYTES_MAX).is_ok();
    rule(!described, "description", SchemaProblem::Description);
    if found.0.len() > before {
        return None;
    }
    Some(FieldDef {
        name,
        // Given in `Schema::append`, or taken from the older revision.
        ord: FieldOrd(0),
        kind: draft.kind?,
        class: draft.class?,
        required: draft.required,
        unique: draft.unique,
        indexed,
        // No record has a new field yet.
        index: IndexState::Settled,
        max_bytes,
        mask,
        purposes: purposes?,
        description: draft.description.clone(),
    })
}

fn holds_text(kind: FieldKind) -> bool {
    !matches!(
        kind,
        FieldKind::Integer
            | FieldKind::Number
            | FieldKind::Boolean
            | FieldKind::Date
            | FieldKind::Bytes
    )
}

/// In alphabetic order: the order of the draft means nothing.
fn purposes(draft: &[String]) -> Result<Vec<Slug>, SchemaProblem> {
    if draft.len() > limits::PURPOSES_MAX {
        return Err(SchemaProblem::TooManyPurposes);
    }
    let mut out = BTreeSet::new();
    for text in draft {
        if !out.insert(Slug::parse(text)?) {
            return Err(SchemaProblem::DuplicatePurpose);
        }
    }
    Ok(out.into_iter().collect())
}

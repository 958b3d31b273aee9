//! Records against their schema.
//!
//! Guarantees: what [`Schema::check`] returns has only fields of the schema, each in its stored
//! form, with none that is required missing and within the record's limits. A refusal lists every
//! violation, names the field and never holds a value; a name that is no field name is not
//! repeated, since the caller may have put personal data there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use zeroize::Zeroizing;

use super::super::slug::FieldName;
use super::super::validate::{self, ValueError};
use super::super::value::Value;
use super::{FieldDef, IndexState, Schema};
use crate::id::FieldOrd;
use crate::limits;

/// Stands for a name that is outside the grammar of field names.
const NO_FIELD_NAME: &str = "(a name that no schema can have)";

/// One thing that is wrong with a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldViolation {
    /// `fields`, `fields.phone`, or a fixed phrase for a name outside the grammar.
    pub path: String,
    pub problem: FieldProblem,
}

impl fmt::Display for FieldViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.problem)
    }
}

/// What is wrong. The sentence is for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldProblem {
    #[error("the schema has no such field")]
    Unknown,
    #[error("is required")]
    Required,
    #[error("is required and cannot be removed")]
    RequiredRemoved,
    #[error("cannot be set and removed at once")]
    SetAndRemoved,
    #[error("is not indexed")]
    NotIndexed,
    #[error("is not indexed whole yet")]
    IndexBuilding,
    #[error(transparent)]
    Value(#[from] ValueError),
    #[error("a record has at most {} fields", limits::FIELDS_MAX)]
    TooManyFields,
    #[error("the values have more than {} bytes together", limits::RECORD_BYTES_MAX)]
    RecordTooLarge,
}

/// A checked change to a record's fields.
#[derive(Debug, PartialEq)]
pub struct Patch {
    pub set: BTreeMap<FieldOrd, Value>,
    pub remove: BTreeSet<FieldOrd>,
}

impl Patch {
    /// Changes `fields`, or leaves them as they are if the result would be too large.
    pub fn apply(self, fields: &mut BTreeMap<FieldOrd, Value>) -> Result<(), FieldViolation> {
        let kept = fields
            .iter()
            .filter(|(ord, _)| !self.set.contains_key(ord) && !self.remove.contains(ord))
            .map(|(_, value)| value);
        size_check(kept.chain(self.set.values()))?;
        fields.retain(|ord, _| !self.remove.contains(ord));
        fields.extend(self.set);
        Ok(())
    }
}

impl FieldDef {
    /// Checks a value and gives it in its stored form. A required text or byte string is not empty.
    pub fn parse(&self, value: Value) -> Result<Value, ValueError> {
        let value = validate::parse(self.kind, self.max_bytes, value)?;
        if self.required && value.encoded_len() == 0 {
            return Err(ValueError::Empty);
        }
        Ok(value)
    }
}

impl Schema {
    /// The fields of a new record.
    pub fn check(
        &self,
        fields: BTreeMap<String, Value>,
    ) -> Result<BTreeMap<FieldOrd, Value>, Vec<FieldViolation>> {
        let mut found = Vec::new();
        for def in self.fields.iter().filter(|f| f.required) {
            if !fields.contains_key(def.name.as_str()) {
                found.push(violation(def.name.as_str(), FieldProblem::Required));
            }
        }
        let set = self.values(fields, &mut found);
        if found.is_empty() { Ok(set) } else { Err(found) }
    }

    /// A change: the fields to set and the names of those to remove.
    pub fn check_patch(
        &self,
        set: BTreeMap<String, Value>,
        remove: &[String],
    ) -> Result<Patch, Vec<FieldViolation>> {
        let mut found = Vec::new();
        if remove.len() > limits::FIELDS_MAX {
            return Err(vec![whole(FieldProblem::TooManyFields)]);
        }
        let mut removed = BTreeSet::new();
        for name in remove {
            match self.field(name) {
                None => found.push(violation(name, FieldProblem::Unknown)),
                Some(_) if set.contains_key(name) => {
                    found.push(violation(name, FieldProblem::SetAndRemoved));
                }
                Some(def) if def.required => {
                    found.push(violation(name, FieldProblem::RequiredRemoved));
                }
                Some(def) => {
                    removed.insert(def.ord);
                }
            }
        }
        let set = self.values(set, &mut found);
        if found.is_empty() { Ok(Patch { set, remove: removed }) } else { Err(found) }
    }

    /// What to search for: an indexed field and the value in its stored form.
    pub fn check_query(
        &self,
        name: &str,
        value: Value,
    ) -> Result<(&FieldDef, Value), FieldViolation> {
        let def = self.field(name).ok_or_else(|| violation(name, FieldProblem::Unknown))?;
        if !def.indexed {
            return Err(violation(name, FieldProblem::NotIndexed));
        }
        if def.index == IndexState::Building {
            return Err(violation(name, FieldProblem::IndexBuilding));
        }
        let value = def.parse(value).map_err(|e| violation(name, e.into()))?;
        Ok((def, value))
    }

    /// What the blind index holds of a record: the normal form of each indexed field that it has.
    pub fn index_values(
        &self,
        fields: &BTreeMap<FieldOrd, Value>,
    ) -> Vec<(FieldOrd, Zeroizing<Vec<u8>>)> {
        let present = self.indexed_fields().filter_map(|def| Some((def, fields.get(&def.ord)?)));
        present.map(|(def, value)| (def.ord, value.normalised(def.kind))).collect()
    }

    /// What it may hold of a record: also of fields whose listings are being taken out.
    pub fn index_values_ever(
        &self,
        fields: &BTreeMap<FieldOrd, Value>,
    ) -> Vec<(FieldOrd, Zeroizing<Vec<u8>>)> {
        let listed = |f: &&FieldDef| f.indexed || f.index == IndexState::Dropping;
        let defs = self.fields.iter().filter(listed);
        let present = defs.filter_map(|def| Some((def, fields.get(&def.ord)?)));
        present.map(|(def, value)| (def.ord, value.normalised(def.kind))).collect()
    }

    fn values(
        &self,
        fields: BTreeMap<String, Value>,
        found: &mut Vec<FieldViolation>,
    ) -> BTreeMap<FieldOrd, Value> {
        let mut out = BTreeMap::new();
        // Also keeps the list of violations short.
        if fields.len() > limits::FIELDS_MAX {
            found.push(whole(FieldProblem::TooManyFields));
            return out;
        }
        for (name, value) in fields {
            match self.field(&name) {
                None => found.push(violation(&name, FieldProblem::Unknown)),
                Some(def) => match def.parse(value) {
                    Ok(value) => {
                        out.insert(def.ord, value);
                    }
                    Err(e) => found.push(violation(&name, e.into())),
                },
            }
        }
        found.extend(size_check(out.values()).err());
        out
    }
}

fn size_check<'a>(values: impl Iterator<Item = &'a Value>) -> Result<(), FieldViolation> {
    // No overflow: at most twice FIELDS_MAX values, each checked against VALUE_BYTES_MAX.
    let bytes: usize = values.map(Value::encoded_len).sum();
    (bytes <= limits::RECORD_BYTES_MAX)
        .then_some(())
        .ok_or_else(|| whole(FieldProblem::RecordTooLarge))
}

fn whole(problem: FieldProblem) -> FieldViolation {
    FieldViolation { path: "fields".to_owned(), problem }
}

fn violation(name: &str, problem: FieldProblem) -> FieldViolation {
    let path = FieldName::parse(name).map_or(NO_FIELD_NAME.to_owned(), |n| format!("fields.{n}"));
    FieldViolation { path, problem }
}

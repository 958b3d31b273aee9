//! A schema's plaintext in its sealed metadata row (docs/FORMAT.md §6.1).
//!
//! Guarantees: what [`Schema::to_json`] writes, [`Schema::from_json`] reads back equal; reading is
//! strict (no unknown key) and passes through the same rules as a caller's draft. What a row leaves
//! out has the safest meaning: a field without a class is SENSITIVE, one without a mask shows
//! nothing that its kind's default does not.

use serde::{Deserialize, Serialize};

use super::{
    FieldDef, FieldDraft, IndexState, Retention, RetentionDraft, Schema, SchemaDraft, default_mask,
    default_max_bytes,
};
use crate::class::{Classification, FieldKind, MaskKind};
use crate::clock::UnixMillis;
use crate::id::{FieldOrd, TypeOrd};
use crate::limits;

const OPEN_ENDED: &str = "OPEN_ENDED";

/// Why a metadata row holds no schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaJsonError {
    #[error("the schema row is too long")]
    TooLong,
    #[error("the schema row is not the JSON of a schema")]
    Syntax,
    #[error("the schema row breaks a rule of schemas")]
    Rules,
    #[error("the schema row's field numbers are not ascending, or not below the next one")]
    FieldNumbers,
    #[error("the schema row's revision is out of range")]
    Revision,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SchemaRow {
    #[serde(rename = "type")]
    type_name: String,
    ord: u16,
    revision: u32,
    updated: i64,
    /// An ISO 8601 period or `OPEN_ENDED`.
    retention: String,
    #[serde(default, skip_serializing_if = "is_false")]
    sync_erase: bool,
    next_field: u16,
    fields: Vec<FieldRow>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FieldRow {
    name: String,
    ord: u16,
    kind: FieldKind,
    #[serde(default = "sensitive", skip_serializing_if = "is_sensitive")]
    class: Classification,
    #[serde(default, skip_serializing_if = "is_false")]
    required: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    unique: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    indexed: bool,
    #[serde(default, skip_serializing_if = "is_settled")]
    index: IndexState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_bytes: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mask: Option<MaskKind>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    purposes: Vec<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    description: String,
}

// The signature is serde's.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(b: &bool) -> bool {
    !*b
}

fn sensitive() -> Classification {
    Classification::Sensitive
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_settled(state: &IndexState) -> bool {
    *state == IndexState::Settled
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_sensitive(class: &Classification) -> bool {
    *class == Classification::Sensitive
}

impl Schema {
    /// At most `limits::SCHEMA_JSON_BYTES_MAX` bytes.
    pub fn to_json(&self) -> Vec<u8> {
        let row = SchemaRow {
            type_name: self.type_name.to_string(),
            ord: self.ord.0,
            revision: self.revision,
            updated: self.updated.0,
            retention: match self.retention {
                Retention::RetainFor(period) => period.to_string(),
                Retention::OpenEnded => OPEN_ENDED.to_owned(),
            },
            sync_erase: self.erase_old_versions_synchronously,
            next_field: self.next_field,
            fields: self.fields.iter().map(FieldRow::of).collect(),
        };
        // Strings, integers and enums only: serde_json has no way to fail. An empty row would not
        // read back.
        serde_json::to_vec(&row).unwrap_or_default()
    }

    pub fn from_json(bytes: &[u8]) -> Result<Schema, SchemaJsonError> {
        if bytes.len() > limits::SCHEMA_JSON_BYTES_MAX {
            return Err(SchemaJsonError::TooLong);
        }
        let row: SchemaRow = serde_json::from_slice(bytes).map_err(|_| SchemaJsonError::Syntax)?;
        let ords: Vec<FieldOrd> = row.fields.iter().map(|f| FieldOrd(f.ord)).collect();
        let states: Vec<IndexState> = row.fields.iter().map(|f| f.index).collect();
        let ascending = ords.is_sorted_by(|a, b| a < b);
        let first_ok = ords.first().is_none_or(|o| o.0 > 0);
        if !ascending || !first_ok || ords.last().is_some_and(|o| o.0 >= row.next_field) {
            return Err(SchemaJsonError::FieldNumbers);
        }
        if row.revision == 0 || i32::try_from(row.revision).is_err() {
            return Err(SchemaJsonError::Revision);
        }
        let draft = SchemaDraft {
            type_name: row.type_name,
            fields: row.fields.into_iter().map(FieldRow::draft).collect(),
            retention: Some(match row.retention {
                open if open == OPEN_ENDED => RetentionDraft::OpenEnded(true),
                period => RetentionDraft::RetainFor(period),
            }),
            erase_old_versions_synchronously: row.sync_erase,
        };
        let mut schema = Schema::create(draft, TypeOrd(row.ord), UnixMillis(row.updated))
            .map_err(|_| SchemaJsonError::Rules)?;
        for ((field, ord), index) in schema.fields.iter_mut().zip(ords).zip(states) {
            (field.ord, field.index) = (ord, index);
            let indexed = field.indexed;
            match index {
                IndexState::Building if !indexed => return Err(SchemaJsonError::Rules),
                IndexState::Dropping if indexed => return Err(SchemaJsonError::Rules),
                _ => {}
            }
        }
        schema.revision = row.revision;
        schema.next_field = row.next_field.max(1);
        Ok(schema)
    }
}

impl FieldDraft {
    /// What was asked for when the field became what it is.
    pub(super) fn of(def: &FieldDef) -> FieldDraft {
        FieldRow::of(def).draft()
    }
}

impl FieldRow {
    fn of(def: &FieldDef) -> FieldRow {
        let max_bytes = i32::try_from(def.max_bytes).ok();
        FieldRow {
            name: def.name.to_string(),
            ord: def.ord.0,
            kind: def.kind,
            class: def.class,
            required: def.required,
            unique: def.unique,
            indexed: def.indexed,
            index: def.index,
            max_bytes: max_bytes.filter(|_| def.max_bytes != default_max_bytes(def.kind)),
            mask: Some(def.mask).filter(|m| *m != default_mask(def.kind)),
            purposes: def.purposes.iter().map(ToString::to_string).collect(),
            description: def.description.clone(),
        }
    }

    fn draft(self) -> FieldDraft {
        FieldDraft {
            name: self.name,
            kind: Some(self.kind),
            class: Some(self.class),
            required: self.required,
            unique: self.unique,
            indexed: self.indexed,
            max_bytes: self.max_bytes.unwrap_or(0),
            mask: self.mask,
            purposes: self.purposes,
            description: self.description,
        }
    }
}

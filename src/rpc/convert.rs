//! Messages to the vault's types and back.
//!
//! Guarantees: values are moved, not copied; a name that is not in the grammar of field names is not repeated to the
//! caller; a date is told as ISO 8601.

use std::collections::BTreeMap;

use prost_types::Timestamp;

use super::names;
use super::status::Violations;
use crate::class::{Classification, FieldKind, MaskKind};
use crate::clock::UnixMillis;
use crate::id::{Day, RecVer, RequestId};
use crate::limits;
use crate::proto::v1;
use crate::vault::calendar::format_iso_date;
use crate::vault::schema::{
    FieldDef, FieldDraft, IndexState, Retention, RetentionDraft, Schema, SchemaDraft,
};
use crate::vault::slug::FieldName;
use crate::vault::value::Value;
use crate::vault::{Change, ChangeKind, SubjectView, TenantInfo};

/// What is wrong with an id that says more than that it is one.
pub const NOT_RANDOM: &str = "must be a random UUID (version 4) in lower case";

pub fn timestamp(at: UnixMillis) -> Timestamp {
    let nanos = at.0.rem_euclid(1000) * 1_000_000;
    // Below a second, so within an i32.
    Timestamp { seconds: at.0.div_euclid(1000), nanos: i32::try_from(nanos).unwrap_or_default() }
}

/// Empty if open-ended.
pub fn date(day: Day) -> String {
    if day == Day::OPEN_ENDED { String::new() } else { format_iso_date(day).unwrap_or_default() }
}

pub fn tenant(info: TenantInfo) -> v1::Tenant {
    let create_time = Some(timestamp(info.created()));
    v1::Tenant {
        name: names::tenant(info.id.as_str()),
        display_name: info.display_name,
        create_time,
        etag: info.revision.to_string(),
    }
}

pub fn subject(tenant: &str, view: SubjectView) -> v1::Subject {
    v1::Subject {
        name: names::subject(tenant, view.id),
        create_time: Some(timestamp(view.created)),
    }
}

fn value_in(value: v1::Value) -> Option<Value> {
    use v1::value::Kind;
    Some(match value.kind? {
        Kind::StringValue(text) => Value::Text(text),
        Kind::IntegerValue(n) => Value::Integer(n),
        Kind::NumberValue(x) => Value::Number(x),
        Kind::BoolValue(b) => Value::Boolean(b),
        Kind::BytesValue(bytes) => Value::Bytes(bytes),
    })
}

pub fn value_out(mut value: Value) -> v1::Value {
    use v1::value::Kind;
    let kind = match &mut value {
        Value::Text(text) => Kind::StringValue(std::mem::take(text)),
        Value::Integer(n) => Kind::IntegerValue(*n),
        Value::Number(x) => Kind::NumberValue(*x),
        Value::Boolean(b) => Kind::BoolValue(*b),
        Value::Bytes(bytes) => Kind::BytesValue(std::mem::take(bytes)),
        Value::Date(day) => Kind::StringValue(date(*day)),
    };
    v1::Value { kind: Some(kind) }
}

/// A value that a request must have.
pub fn given(field: &str, value: Option<v1::Value>, found: &mut Violations) -> Option<Value> {
    found.take(field, value.and_then(value_in).ok_or("has no value"))
}

/// The fields of a request's `whole`, a record say.
pub fn fields(
    whole: &str,
    given: BTreeMap<String, v1::Value>,
    found: &mut Violations,
) -> BTreeMap<String, Value> {
    let mut fields = BTreeMap::new();
    if given.len() > limits::FIELDS_MAX {
        found.add(
            format!("{whole}.fields"),
            format!("a record has at most {} fields", limits::FIELDS_MAX),
        );
        return fields;
    }
    for (name, value) in given {
        match value_in(value) {
            Some(value) => {
                fields.insert(name, value);
            }
            None => match FieldName::parse(&name) {
                Ok(name) => found.add(format!("{whole}.fields.{name}"), "has no value"),
                Err(e) => found.add(format!("{whole}.fields"), format!("the name of a field {e}")),
            },
        }
    }
    fields
}

/// What a watcher hears.
pub fn change(tenant: &str, change: Change) -> v1::WatchRecordsResponse {
    let kind = match change.kind {
        ChangeKind::Created => v1::ChangeKind::Created,
        ChangeKind::Updated => v1::ChangeKind::Updated,
        ChangeKind::Erased => v1::ChangeKind::Erased,
        ChangeKind::BucketErased => v1::ChangeKind::BucketErased,
    };
    let name = match (change.record, &change.rtype) {
        (Some(id), Some(_)) => names::record(tenant, id),
        (Some(id), None) => names::subject(tenant, id),
        (None, _) => String::new(),
    };
    v1::WatchRecordsResponse {
        kind: kind.into(),
        name,
        schema: change.rtype.map(|r| names::schema(tenant, &r)).unwrap_or_default(),
        expire_date: change.expires.map(date).unwrap_or_default(),
        time: Some(timestamp(change.at)),
    }
}

/// A random id that the caller gives; `None` if it gives none.
pub fn request_id(field: &str, text: &str, found: &mut Violations) -> Option<RequestId> {
    if text.is_empty() {
        return None;
    }
    found.take(field, RequestId::parse_random(text).ok_or(NOT_RANDOM))
}

/// The version in an etag; `None` if none was given.
pub fn etag(field: &str, text: &str, found: &mut Violations) -> Option<RecVer> {
    if text.is_empty() {
        return None;
    }
    let version = text.parse().ok().filter(|n: &u64| *n > 0 && n.to_string() == text);
    found.take(field, version.map(RecVer).ok_or("is not an etag"))
}

fn kind_in(kind: v1::FieldKind) -> Option<FieldKind> {
    Some(match kind {
        v1::FieldKind::Unspecified => return None,
        v1::FieldKind::Text => FieldKind::Text,
        v1::FieldKind::Integer => FieldKind::Integer,
        v1::FieldKind::Number => FieldKind::Number,
        v1::FieldKind::Boolean => FieldKind::Boolean,
        v1::FieldKind::Date => FieldKind::Date,
        v1::FieldKind::Bytes => FieldKind::Bytes,
        v1::FieldKind::Email => FieldKind::Email,
        v1::FieldKind::Phone => FieldKind::Phone,
        v1::FieldKind::ResidentId => FieldKind::ResidentId,
        v1::FieldKind::Uscc => FieldKind::Uscc,
        v1::FieldKind::PostalCode => FieldKind::PostalCode,
    })
}

fn kind_out(kind: FieldKind) -> v1::FieldKind {
    match kind {
        FieldKind::Text => v1::FieldKind::Text,
        FieldKind::Integer => v1::FieldKind::Integer,
        FieldKind::Number => v1::FieldKind::Number,
        FieldKind::Boolean => v1::FieldKind::Boolean,
        FieldKind::Date => v1::FieldKind::Date,
        FieldKind::Bytes => v1::FieldKind::Bytes,
        FieldKind::Email => v1::FieldKind::Email,
        FieldKind::Phone => v1::FieldKind::Phone,
        FieldKind::ResidentId => v1::FieldKind::ResidentId,
        FieldKind::Uscc => v1::FieldKind::Uscc,
        FieldKind::PostalCode => v1::FieldKind::PostalCode,
    }
}

pub fn class_in(class: v1::Classification) -> Option<Classification> {
    Some(match class {
        v1::Classification::Unspecified => return None,
        v1::Classification::Public => Classification::Public,
        v1::Classification::General => Classification::General,
        v1::Classification::Sensitive => Classification::Sensitive,
    })
}

pub fn class_out(class: Classification) -> v1::Classification {
    match class {
        Classification::Public => v1::Classification::Public,
        Classification::General => v1::Classification::General,
        Classification::Sensitive => v1::Classification::Sensitive,
    }
}

fn mask_in(mask: v1::MaskKind) -> Option<MaskKind> {
    Some(match mask {
        v1::MaskKind::Unspecified => return None,
        v1::MaskKind::Full => MaskKind::Full,
        v1::MaskKind::Name => MaskKind::Name,
        v1::MaskKind::Phone => MaskKind::Phone,
        v1::MaskKind::Email => MaskKind::Email,
        v1::MaskKind::Id => MaskKind::Id,
        v1::MaskKind::Address => MaskKind::Address,
        v1::MaskKind::Card => MaskKind::Card,
    })
}

fn mask_out(mask: MaskKind) -> v1::MaskKind {
    match mask {
        MaskKind::Full => v1::MaskKind::Full,
        MaskKind::Name => v1::MaskKind::Name,
        MaskKind::Phone => v1::MaskKind::Phone,
        MaskKind::Email => v1::MaskKind::Email,
        MaskKind::Id => v1::MaskKind::Id,
        MaskKind::Address => v1::MaskKind::Address,
        MaskKind::Card => v1::MaskKind::Card,
    }
}

/// The draft in a request. What it lacks the vault says; here only numbers that no enum has are found.
pub fn draft(rtype: String, schema: v1::Schema, found: &mut Violations) -> SchemaDraft {
    let fields = schema.fields.into_iter().take(limits::FIELDS_MAX + 1).enumerate();
    SchemaDraft {
        type_name: rtype,
        fields: fields.map(|(at, field)| field_draft(at, field, found)).collect(),
        retention: schema.retention.map(|r| match r {
            v1::schema::Retention::RetainFor(text) => RetentionDraft::RetainFor(text),
            v1::schema::Retention::OpenEnded(is) => RetentionDraft::OpenEnded(is),
        }),
        erase_old_versions_synchronously: schema.erase_old_versions_synchronously,
    }
}

fn field_draft(at: usize, field: v1::Field, found: &mut Violations) -> FieldDraft {
    let path = match FieldName::parse(&field.name) {
        Ok(name) => format!("schema.fields.{name}"),
        Err(_) => format!("schema.fields[{at}]"),
    };
    let unknown = "is not a known value";
    let kind = v1::FieldKind::try_from(field.kind).map_err(|_| unknown);
    let class = v1::Classification::try_from(field.classification).map_err(|_| unknown);
    let mask = v1::MaskKind::try_from(field.mask).map_err(|_| unknown);
    FieldDraft {
        name: field.name,
        kind: found.take(&format!("{path}.kind"), kind).and_then(kind_in),
        class: found.take(&format!("{path}.classification"), class).and_then(class_in),
        required: field.required,
        unique: field.unique,
        indexed: field.indexed,
        max_bytes: field.max_bytes,
        mask: found.take(&format!("{path}.mask"), mask).and_then(mask_in),
        purposes: field.purposes,
        description: field.description,
    }
}

fn index_out(field: &FieldDef) -> v1::IndexState {
    match (field.index, field.indexed) {
        (IndexState::Building, _) => v1::IndexState::Building,
        (IndexState::Dropping, _) => v1::IndexState::Dropping,
        (IndexState::Settled, true) => v1::IndexState::Ready,
        (IndexState::Settled, false) => v1::IndexState::Unspecified,
    }
}

/// A schema, and how much of its index is done where that is under way.
pub fn schema(tenant: &str, schema: &Schema, percent: u8) -> v1::Schema {
    let fields = schema.fields().iter().map(|f| v1::Field {
        index_state: index_out(f).into(),
        index_percent: if f.index == IndexState::Settled { 0 } else { percent.min(99).into() },
        name: f.name.to_string(),
        kind: kind_out(f.kind).into(),
        classification: class_out(f.class).into(),
        required: f.required,
        unique: f.unique,
        indexed: f.indexed,
        // Told where it can be chosen, so that a schema that was read can be sent back.
        max_bytes: match f.kind {
            FieldKind::Text | FieldKind::Bytes => i32::try_from(f.max_bytes).unwrap_or(i32::MAX),
            _ => 0,
        },
        mask: mask_out(f.mask).into(),
        purposes: f.purposes.iter().map(ToString::to_string).collect(),
        description: f.description.clone(),
    });
    v1::Schema {
        name: names::schema(tenant, schema.type_name()),
        fields: fields.collect(),
        retention: Some(match schema.retention() {
            Retention::RetainFor(period) => v1::schema::Retention::RetainFor(period.to_string()),
            Retention::OpenEnded => v1::schema::Retention::OpenEnded(true),
        }),
        erase_old_versions_synchronously: schema.erases_old_versions_synchronously(),
        revision: i32::try_from(schema.revision()).unwrap_or(i32::MAX),
        update_time: Some(timestamp(schema.updated())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_has_one_spelling() {
        let parse = |text: &str| etag("etag", text, &mut Violations::default());
        assert_eq!(parse("7"), Some(RecVer(7)));
        assert_eq!(parse("18446744073709551615"), Some(RecVer(u64::MAX)));
        for bad in ["", "0", "07", "+7", "-7", " 7", "\"7\"", "x", "18446744073709551616"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        let mut found = Violations::default();
        etag("etag", "", &mut found);
        assert!(found.finish(Some(())).is_ok());
        let mut found = Violations::default();
        etag("record.etag", "secret", &mut found);
        let status = found.finish(Some(())).unwrap_err();
        assert!(status.message().contains("record.etag") && !status.message().contains("secret"));
    }

    #[test]
    fn every_enum_survives_its_number() {
        for n in 1..=11 {
            let kind = v1::FieldKind::try_from(n).ok().and_then(kind_in).unwrap();
            assert_eq!(i32::from(kind_out(kind)), n);
        }
        for n in 1..=3 {
            let class = v1::Classification::try_from(n).ok().and_then(class_in).unwrap();
            assert_eq!(i32::from(class_out(class)), n);
        }
        for n in 1..=7 {
            let mask = v1::MaskKind::try_from(n).ok().and_then(mask_in).unwrap();
            assert_eq!(i32::from(mask_out(mask)), n);
        }
    }

    #[test]
    fn values_survive_and_dates_are_told_as_text() {
        for value in [
            Value::Text("a".into()),
            Value::Integer(-7),
            Value::Number(1.5),
            Value::Boolean(true),
            Value::Bytes(vec![0, 255]),
        ] {
            let copy = value.duplicate();
            assert!(value_in(value_out(value)).unwrap() == copy);
        }
        let told = value_out(Value::Date(Day(0))).kind;
        assert!(told == Some(v1::value::Kind::StringValue("1970-01-01".into())));
        assert!(value_in(v1::Value { kind: None }).is_none());
        assert_eq!(date(Day::OPEN_ENDED), "");
    }
}

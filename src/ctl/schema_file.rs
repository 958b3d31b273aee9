//! A schema as a TOML file, and whether two schemas say the same.
//!
//! ```toml
//! type = "customer"
//! retain_for = "P3Y"            # or: open_ended = true
//!
//! [[field]]
//! name = "email"
//! kind = "EMAIL"
//! classification = "SENSITIVE"
//! required = true
//! unique = true
//! mask = "EMAIL"
//! ```

use serde::Deserialize;

use super::names::TypeName;
use crate::class::{Classification, FieldKind, MaskKind};
use crate::limits;
use crate::proto::v1;
use crate::proto::v1::schema::Retention;
use crate::toml_fault::TomlFault;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    r#type: String,
    retain_for: Option<String>,
    #[serde(default)]
    open_ended: bool,
    #[serde(default)]
    erase_old_versions_synchronously: bool,
    #[serde(default)]
    field: Vec<FileField>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileField {
    name: String,
    kind: FieldKind,
    classification: Classification,
    #[serde(default)]
    required: bool,
    #[serde(default)]
    unique: bool,
    #[serde(default)]
    indexed: bool,
    #[serde(default)]
    max_bytes: i32,
    mask: Option<MaskKind>,
    #[serde(default)]
    purposes: Vec<String>,
    #[serde(default)]
    description: String,
}

/// Parses a schema file: the record type, and the schema without its name.
pub fn parse(text: &str) -> Result<(TypeName, v1::Schema), String> {
    let file: File = toml::from_str(text).map_err(|e| TomlFault::new(text, &e).to_string())?;
    let name: TypeName = file.r#type.parse().map_err(str::to_owned)?;
    let retention = match (file.retain_for, file.open_ended) {
        (Some(period), false) => Retention::RetainFor(period),
        (None, true) => Retention::OpenEnded(true),
        _ => return Err("it must say either retain_for or open_ended = true".to_owned()),
    };
    if file.field.is_empty() {
        return Err("it has no [[field]]".to_owned());
    }
    let schema = v1::Schema {
        fields: file.field.into_iter().map(wire_field).collect(),
        erase_old_versions_synchronously: file.erase_old_versions_synchronously,
        retention: Some(retention),
        ..v1::Schema::default()
    };
    Ok((name, schema))
}

fn wire_field(field: FileField) -> v1::Field {
    let kind = match field.kind {
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
    };
    let classification = match field.classification {
        Classification::Public => v1::Classification::Public,
        Classification::General => v1::Classification::General,
        Classification::Sensitive => v1::Classification::Sensitive,
    };
    let mask = field.mask.map_or(v1::MaskKind::Unspecified, |mask| match mask {
        MaskKind::Full => v1::MaskKind::Full,
        MaskKind::Name => v1::MaskKind::Name,
        MaskKind::Phone => v1::MaskKind::Phone,
        MaskKind::Email => v1::MaskKind::Email,
        MaskKind::Id => v1::MaskKind::Id,
        MaskKind::Address => v1::MaskKind::Address,
        MaskKind::Card => v1::MaskKind::Card,
    });
    v1::Field {
        name: field.name,
        kind: kind.into(),
        classification: classification.into(),
        required: field.required,
        unique: field.unique,
        indexed: field.indexed,
        max_bytes: field.max_bytes,
        mask: mask.into(),
        purposes: field.purposes,
        description: field.description,
        ..v1::Field::default()
    }
}

/// Whether two schemas mean the same, defaults filled in; name, revision and time do not count.
pub fn same(a: &v1::Schema, b: &v1::Schema) -> bool {
    plain(a) == plain(b)
}

fn plain(schema: &v1::Schema) -> v1::Schema {
    let mut schema =
        v1::Schema { name: String::new(), revision: 0, update_time: None, ..schema.clone() };
    for field in &mut schema.fields {
        field.indexed |= field.unique;
        // What only the vault says.
        (field.index_state, field.index_percent) = (0, 0);
        let text = matches!(field.kind(), v1::FieldKind::Text | v1::FieldKind::Bytes);
        if !text {
            field.max_bytes = 0;
        } else if field.max_bytes == 0 {
            field.max_bytes = i32::try_from(limits::TEXT_BYTES_DEFAULT).unwrap_or(i32::MAX);
        }
        if field.mask() == v1::MaskKind::Unspecified {
            field.set_mask(v1::MaskKind::Full);
        }
    }
    schema.fields.sort_by(|a, b| a.name.cmp(&b.name));
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        type = "customer"
        retain_for = "P3Y"
        [[field]]
        name = "email"
        kind = "EMAIL"
        classification = "SENSITIVE"
        unique = true
        mask = "EMAIL"
        [[field]]
        name = "note"
        kind = "TEXT"
        classification = "GENERAL"
    "#;

    #[test]
    fn a_file_becomes_a_schema() {
        let (name, schema) = parse(GOOD).unwrap();
        assert_eq!(name.id(), "customer");
        assert_eq!(schema.retention, Some(Retention::RetainFor("P3Y".into())));
        let email = schema.fields.first().unwrap();
        assert_eq!(email.kind(), v1::FieldKind::Email);
        assert_eq!(email.mask(), v1::MaskKind::Email);
        assert!(email.unique && !email.required);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expected) in [
            (GOOD.replace("retain_for = \"P3Y\"", ""), "either retain_for or open_ended"),
            (GOOD.replace("retain_for", "open_ended = true\nretain_for"), "either retain_for"),
            (GOOD.replace("unique", "uniq"), "unknown field `uniq`"),
            (
                GOOD.replace("\"EMAIL\"\n        class", "\"MAIL\"\n        class"),
                "expected one of `",
            ),
            (GOOD.replace("\"customer\"", "\"Customer\""), "lower-case letter"),
            ("type = \"a\"\nopen_ended = true".to_owned(), "no [[field]]"),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn defaults_and_outputs_do_not_count_as_a_difference() {
        let (_, file) = parse(GOOD).unwrap();
        let mut kept = file.clone();
        kept.name = "tenants/a/schemas/customer".into();
        kept.revision = 4;
        kept.fields.reverse();
        kept.fields[1].indexed = true;
        kept.fields[0].max_bytes = 4096;
        kept.fields[0].set_mask(v1::MaskKind::Full);
        assert!(same(&file, &kept));
        kept.fields[0].required = true;
        assert!(!same(&file, &kept));
    }
}

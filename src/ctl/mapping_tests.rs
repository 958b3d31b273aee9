//! Tests of the mapping: a sibling file, so that the mapping itself stays readable in one screen or two.

use super::*;
use crate::proto::v1::FieldKind;

const MAPPING: &str = r#"
    type = "customer"
    key = "customer_id"
    null = ["", "NULL"]
    transform = ["trim"]

    [columns]
    customerID = "customer_id"
    phone = { field = "phone", transform = ["e164:49"], null = ["n/a"] }
    visits = "visits"

    [constants]
    source = "northwind"
    active = true
"#;

fn schema() -> Schema {
    let field = |name: &str, kind: FieldKind, unique| Field {
        name: name.into(),
        kind: kind.into(),
        unique,
        ..Field::default()
    };
    Schema {
        fields: vec![
            field("customer_id", FieldKind::Text, true),
            field("phone", FieldKind::Phone, false),
            field("visits", FieldKind::Integer, false),
            field("source", FieldKind::Text, false),
            field("active", FieldKind::Boolean, false),
        ],
        ..Schema::default()
    }
}

fn plan(header: &[&str]) -> Result<Plan, String> {
    Mapping::parse(MAPPING).unwrap().plan(&schema(), &StringRecord::from(header.to_vec()))
}

fn row(cells: &[&str]) -> Result<Row, RowError> {
    plan(&["fax", "phone", "customerID", "visits"])
        .unwrap()
        .row(&StringRecord::from(cells.to_vec()))
}

fn shown(row: &Row, field: &str) -> Option<String> {
    row.fields.get(field).map(value::to_text)
}

#[test]
fn a_row_becomes_fields() {
    let row = row(&["030-1", " 030-0074321 ", " ALFKI ", "7"]).unwrap();
    assert_eq!(shown(&row, "customer_id").as_deref(), Some("ALFKI"));
    assert_eq!(shown(&row, "phone").as_deref(), Some("+49300074321"));
    assert_eq!(shown(&row, "visits").as_deref(), Some("7"));
    assert_eq!(shown(&row, "source").as_deref(), Some("northwind"));
    assert_eq!(shown(&row, "active").as_deref(), Some("true"));
    assert_eq!(row.fields.len(), 5);
}

#[test]
fn null_markers_leave_the_field_out_but_spoken_of() {
    for null in ["", "NULL", "n/a", "  ", " NULL "] {
        let row = row(&["x", null, "ALFKI", "7"]).unwrap();
        assert_eq!(shown(&row, "phone"), None, "{null:?}");
        assert!(row.spoken_of.contains(&"phone".to_owned()));
    }
    let other = row(&["x", "030 1", "n/a", "7"]).unwrap();
    assert_eq!(shown(&other, "customer_id").as_deref(), Some("n/a"), "n/a is phone's marker only");
}

#[test]
fn a_bad_cell_names_its_field_and_not_its_value() {
    let error = row(&["x", "030 1", "ALFKI", "seven"]).err().unwrap();
    assert_eq!(error.field, "visits");
    assert_eq!(error.reason, "is not a whole number of 64 bits");
    let error = row(&["x", "call me", "ALFKI", "7"]).err().unwrap();
    assert_eq!(error.field, "phone");
    assert!(!error.reason.contains("call me"));
}

#[test]
fn a_row_of_another_width_is_refused_whole() {
    let error = row(&["x", "1", "ALFKI", "7", "more"]).err().unwrap();
    assert_eq!(error.field, "");
    assert_eq!(
        error.reason,
        "has 5 columns where the header has 4; a value with a comma must be quoted"
    );
    assert_eq!(row(&["x"]).err().unwrap().reason, "has 1 columns where the header has 4");
}

#[test]
fn columns_left_out_are_said() {
    assert_eq!(plan(&["phone", "customerID", "visits", "fax"]).unwrap().left_out, ["fax"]);
}

#[test]
fn what_does_not_fit_the_schema_or_the_header_is_found_before_any_row() {
    let error = plan(&["customerID", "visits"]).err().unwrap();
    assert!(error.contains("no column phone"), "{error}");
    let error = plan(&["customerID", "phone", "phone", "visits"]).err().unwrap();
    assert!(error.contains("column phone twice"), "{error}");

    let header = StringRecord::from(vec!["customerID", "phone", "visits"]);
    let mapping = Mapping::parse(MAPPING).unwrap();
    let mut lesser = schema();
    lesser.fields.retain(|f| f.name != "visits");
    let error = mapping.plan(&lesser, &header).err().unwrap();
    assert!(error.contains("no field visits"), "{error}");

    let mut loose = schema();
    loose.fields.iter_mut().for_each(|f| f.unique = false);
    let error = mapping.plan(&loose, &header).err().unwrap();
    assert!(error.contains("customer_id is not unique"), "{error}");

    let mut other = schema();
    other
        .fields
        .iter_mut()
        .filter(|f| f.name == "active")
        .for_each(|f| f.set_kind(FieldKind::Integer));
    let error = mapping.plan(&other, &header).err().unwrap();
    assert!(error.contains("constant active"), "{error}");
}

#[test]
fn mistakes_in_the_file_are_named() {
    for (text, expected) in [
        (
            MAPPING.replace("\"customer_id\"\n    phone", "\"visits\"\n    phone"),
            "two columns go into",
        ),
        (MAPPING.replace("source = ", "visits = "), "has a column and a constant"),
        (
            MAPPING.replace("key = \"customer_id\"", "key = \"email\""),
            "no column goes into the key",
        ),
        (MAPPING.replace("\"trim\"", "\"shout\""), "there are trim"),
        (MAPPING.replace("null = [\"\", ", "nul = [\"\", "), "unknown field `nul`"),
        (MAPPING.replace("active = true", "active = [1]"), "a constant is"),
        (MAPPING.replace("type = ", "delimiter = \"→\"\n    type = "), "one ASCII character"),
    ] {
        let error = Mapping::parse(&text).err().unwrap();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

//! Tests of the import that need no vault: the samples in examples/ against their mappings, failures, tallies.

use super::*;
use crate::ctl::cli::Format;
use crate::ctl::schema_file;
use crate::proto::v1::value::Kind;
use tonic_types::{ErrorDetails, StatusExt};

/// Rows of a sample that pass before any call, and the failures of the others.
fn sample(name: &str) -> (Vec<Row>, Vec<Failure>, Plan) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let text = |file: String| files::read_text(&folder.join(file)).unwrap();
    let (schema_name, schema) =
        schema_file::parse(&text(format!("{name}-customer.schema.toml"))).unwrap();
    let map = Mapping::parse(&text(format!("{name}-customers.mapping.toml"))).unwrap();
    assert_eq!(map.schema, schema_name);
    let (file, size) = files::open_data(&folder.join(format!("{name}-customers.csv"))).unwrap();
    assert!(size > 0);
    let peek = Peek::of(&file);
    let mut reader = ReaderBuilder::new().flexible(true).has_headers(false).from_reader(file);
    let plan = map.plan(&schema, &header(&mut reader).unwrap()).unwrap();
    let (mut rows, mut failed, mut keys) = (Vec::new(), Vec::new(), HashMap::new());
    for raw in reader.byte_records().map(Result::unwrap) {
        let line = line_of(&raw, peek.as_ref());
        let key = map.key.as_deref().map(|key| (key, &mut keys));
        match prepare(&raw, line, &plan, key) {
            Ok(row) => rows.push(row),
            Err(failure) => failed.push(failure),
        }
    }
    (rows, failed, plan)
}

#[test]
fn northwind_has_24_rows_with_unquoted_commas() {
    let (rows, failed, plan) = sample("northwind");
    assert_eq!((rows.len(), failed.len()), (67, 24));
    assert!(failed.iter().all(|f| f.reason.contains("has 12 columns where the header has 11")));
    assert_eq!(failed.first().unwrap().line, 8);
    assert_eq!(plan.left_out, ["fax"]);
    let alfki = rows.first().unwrap();
    assert_eq!(alfki.fields.get("region"), None);
    assert!(alfki.spoken_of.contains(&"region".to_owned()));
}

#[test]
fn every_row_of_chinook_reaches_the_vault() {
    let (rows, failed, _) = sample("chinook");
    assert_eq!((rows.len(), failed.len()), (59, 0));
    let lacks = |field: &str| rows.iter().filter(|r| !r.fields.contains_key(field)).count();
    // Both are required by the schema, so the vault refuses these rows.
    assert_eq!((lacks("postal_code"), lacks("phone")), (4, 1));
}

#[test]
fn a_repeated_or_missing_key_is_found_before_any_call() {
    let (_, _, plan) = sample("chinook");
    let mut keys = HashMap::new();
    let row = |id: &str| {
        ByteRecord::from(vec![id, "A", "B", "", "S", "C", "", "X", "1", "2", "", "a@b.c", "3"])
    };
    let mut prepared =
        |id: &str, line| prepare(&row(id), line, &plan, Some(("customer_id", &mut keys)));
    assert!(prepared("7", 2).is_ok());
    let error = prepared("7", 9).err().unwrap();
    assert_eq!((error.line, error.reason.as_str()), (9, "repeats the key of line 2"));
    let error = prepared("", 10).err().unwrap();
    assert_eq!(error.reason, "is the key and has no value");
    let mut latin = ByteRecord::from(vec!["8"]);
    latin.push_field(b"\xe9");
    assert_eq!(prepare(&latin, 3, &plan, None).err().unwrap().reason, "is not UTF-8 text");
}

#[test]
fn rows_are_counted_as_an_editor_counts_lines() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lines.csv");
    for (text, expected) in [
        ("a\nb\n\"c\nc\"\nd\n", vec![1, 2, 3, 5]),
        ("a\r\nb\r\n\"c\r\nc\"\r\nd\r\n", vec![1, 2, 3, 5]),
        ("a\r\nb\nc\r\nd", vec![1, 2, 3, 4]),
    ] {
        std::fs::write(&path, text).unwrap();
        let (file, _) = files::open_data(&path).unwrap();
        let peek = Peek::of(&file);
        let mut reader = ReaderBuilder::new().has_headers(false).from_reader(file);
        let rows = reader.byte_records().map(|raw| line_of(&raw.unwrap(), peek.as_ref()));
        assert_eq!(rows.collect::<Vec<_>>(), expected, "{text:?}");
    }
}

fn text(s: &str) -> Value {
    Value { kind: Some(Kind::StringValue(s.into())) }
}

#[test]
fn only_what_differs_is_changed_and_emptied_cells_remove() {
    let row = Row {
        fields: std::collections::BTreeMap::from([
            ("a".into(), text("1")),
            ("b".into(), text("new")),
        ]),
        spoken_of: vec!["a".into(), "b".into(), "c".into(), "d".into()],
    };
    let present = std::collections::BTreeMap::from([
        ("a".to_owned(), text("1")),
        ("b".to_owned(), text("old")),
        ("c".to_owned(), text("to go")),
        ("not spoken of".to_owned(), text("stays")),
    ]);
    assert_eq!(changes(&row, &present), ["b", "c"]);
}

#[test]
fn a_refusal_names_line_and_field() {
    let mut details = ErrorDetails::new();
    details.add_bad_request_violation("record.fields.email", "has no @");
    let refused = Status::with_error_details(Code::InvalidArgument, "1 field", details);
    let expected = Failure { line: 4, field: "email".into(), reason: "has no @".into() };
    assert_eq!(failures(4, &refused), [expected]);
    let plain = failures(5, &Status::aborted("changed meanwhile"));
    assert_eq!(plain.first().unwrap().reason, "changed meanwhile (ABORTED)");
}

#[test]
fn a_row_that_fails_makes_it_partial_and_a_general_error_stops_it() {
    let (_, _, plan) = sample("chinook");
    let out = &mut Out::stdout(Format::Json);
    let mut tally = Tally::default();
    tally.count(2, Ok(Outcome::Created));
    assert_eq!(report(Tally::default(), &plan, out).unwrap(), Done::Wholly);
    tally.count(3, Err(Status::invalid_argument("x")));
    assert!(tally.stop.is_none());
    assert_eq!((tally.rows(), tally.failed), (2, 1));
    assert_eq!(report(tally, &plan, out).unwrap(), Done::Partly);

    let mut tally = Tally::default();
    tally.count(2, Err(Status::unavailable("gone")));
    assert!(matches!(report(tally, &plan, out), Err(CtlError::Call { .. })));
}

#[test]
fn failures_are_counted_beyond_what_is_listed() {
    let mut tally = Tally::default();
    for line in 0..1_500 {
        tally.count(line, Err(Status::invalid_argument("x")));
    }
    assert_eq!((tally.failed, tally.failures.len()), (1_500, FAILURES_SHOWN_MAX));
}

#[test]
fn a_byte_order_mark_is_not_part_of_the_first_column() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bom.csv");
    std::fs::write(&path, "\u{feff}id, name \n1,2\n").unwrap();
    let mut reader = ReaderBuilder::new().has_headers(false).from_path(&path).unwrap();
    assert_eq!(header(&mut reader).unwrap(), vec!["id", "name"]);
}

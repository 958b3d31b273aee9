//! Records, patches and queries against the schema of the parent module.

use std::collections::BTreeMap;

use super::super::super::validate::ValueError;
use super::super::super::value::Value;
use super::*;

fn given<const N: usize>(fields: [(&str, Value); N]) -> BTreeMap<String, Value> {
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn text(s: &str) -> Value {
    Value::Text(s.into())
}

fn found<T>(result: Result<T, Vec<FieldViolation>>) -> Vec<(String, FieldProblem)> {
    let list = result.err().unwrap();
    list.into_iter().map(|v| (v.path, v.problem)).collect()
}

#[test]
fn a_sound_record_is_stored_by_number() {
    let fields = given([
        ("full_name", text("张三")),
        ("phone", text("+8613812345678")),
        ("born", text("1970-01-02")),
    ]);
    let stored = created().check(fields).unwrap();
    assert!(stored[&FieldOrd(3)] == Value::Date(Day(1)));
    let index = created().index_values(&stored);
    assert_eq!(index.len(), 1);
    assert_eq!((index[0].0, &**index[0].1), (FieldOrd(2), b"+8613812345678".as_slice()));
}

#[test]
fn all_violations_of_a_record_come_at_once_and_without_values() {
    let fields = given([
        ("phone", text("13812345678")),
        ("points", text("canary")),
        ("nickname", text("canary")),
        ("Zhang San, 110105", text("canary")),
    ]);
    let result = created().check(fields);
    let shown = format!("{result:?}");
    assert!(!shown.contains("canary") && !shown.contains("138") && !shown.contains("Zhang"));
    assert_eq!(
        found(result),
        [
            ("fields.full_name".to_owned(), FieldProblem::Required),
            ("(a name that no schema can have)".to_owned(), FieldProblem::Unknown),
            ("fields.nickname".to_owned(), FieldProblem::Unknown),
            ("fields.phone".to_owned(), FieldProblem::Value(ValueError::Phone)),
            ("fields.points".to_owned(), FieldProblem::Value(ValueError::NotInteger)),
        ]
    );
    let empty = created().check(given([("full_name", text(""))]));
    let want = FieldProblem::Value(ValueError::Empty);
    assert_eq!(found(empty), [("fields.full_name".to_owned(), want)]);
}

fn roomy() -> Schema {
    let mut draft = customer();
    draft.fields.extend(["left", "right"].map(|name| {
        let mut blob = field(name, FieldKind::Bytes);
        blob.max_bytes = limits::VALUE_BYTES_MAX as i32;
        blob
    }));
    Schema::create(draft, TypeOrd(1), NOW).unwrap()
}

#[test]
fn a_record_s_size_is_bounded() {
    let blob = |n: usize| Value::Bytes(vec![0; n]);
    let rest = limits::RECORD_BYTES_MAX - limits::VALUE_BYTES_MAX - 3;
    let record = |right: usize| {
        let left = blob(limits::VALUE_BYTES_MAX);
        given([("full_name", text("abc")), ("left", left), ("right", blob(right))])
    };
    let mut stored = roomy().check(record(rest)).unwrap();
    let want = [("fields".to_owned(), FieldProblem::RecordTooLarge)];
    assert_eq!(found(roomy().check(record(rest + 1))), want);
    let grow = roomy().check_patch(given([("full_name", text("abcd"))]), &[]).unwrap();
    assert_eq!(grow.apply(&mut stored).unwrap_err().problem, FieldProblem::RecordTooLarge);
    assert!(stored[&FieldOrd(1)] == text("abc"), "a refused patch changes nothing");
    let swap = roomy().check_patch(given([("left", blob(5))]), &["right".to_owned()]).unwrap();
    assert_eq!(swap.apply(&mut stored), Ok(()));
    assert_eq!(stored.keys().map(|o| o.0).collect::<Vec<_>>(), [1, 5]);
    assert!(stored[&FieldOrd(5)] == blob(5));

    let flood = (0..1_000).map(|n| (format!("f{n}"), text("x"))).collect();
    assert!(
        found(created().check(flood)).contains(&("fields".into(), FieldProblem::TooManyFields))
    );
    let names: Vec<String> = (0..1_000).map(|n| format!("f{n}")).collect();
    let many = created().check_patch(BTreeMap::new(), &names);
    assert_eq!(found(many), [("fields".to_owned(), FieldProblem::TooManyFields)]);
}

#[test]
fn a_patch_is_a_subset_and_keeps_what_is_required() {
    let names = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    let patch = created().check_patch(given([("points", Value::Integer(3))]), &names(&["born"]));
    let patch = patch.unwrap();
    assert!(patch.set[&FieldOrd(4)] == Value::Integer(3));
    assert!(patch.remove.contains(&FieldOrd(3)));
    let bad = created().check_patch(
        given([("phone", text("+8613812345678")), ("full_name", text(""))]),
        &names(&["phone", "nickname", "no name"]),
    );
    assert_eq!(
        found(bad),
        [
            ("fields.phone".to_owned(), FieldProblem::SetAndRemoved),
            ("fields.nickname".to_owned(), FieldProblem::Unknown),
            ("(a name that no schema can have)".to_owned(), FieldProblem::Unknown),
            ("fields.full_name".to_owned(), FieldProblem::Value(ValueError::Empty)),
        ]
    );
    let required = created().check_patch(BTreeMap::new(), &names(&["full_name"]));
    assert_eq!(found(required), [("fields.full_name".to_owned(), FieldProblem::RequiredRemoved)]);
}

#[test]
fn only_indexed_fields_are_searched() {
    let schema = created();
    let (def, value) = schema.check_query("phone", text("+8613812345678")).unwrap();
    assert!(def.ord == FieldOrd(2) && value == text("+8613812345678"));
    let problem = |name: &str, value| schema.check_query(name, value).unwrap_err().problem;
    assert_eq!(problem("born", text("1970-01-02")), FieldProblem::NotIndexed);
    assert_eq!(problem("nickname", text("x")), FieldProblem::Unknown);
    assert_eq!(problem("phone", text("x")), FieldProblem::Value(ValueError::Phone));
}

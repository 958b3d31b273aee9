//! Every rule of drafts, revisions and rows, each with the draft or row that breaks it.

use super::super::calendar::PeriodError;
use super::super::slug::NameError;
use super::*;
use SchemaProblem as P;

mod records;

const NOW: UnixMillis = UnixMillis(1_750_000_000_000);
const LATER: UnixMillis = UnixMillis(1_760_000_000_000);

fn field(name: &str, kind: FieldKind) -> FieldDraft {
    FieldDraft {
        name: name.into(),
        kind: Some(kind),
        class: Some(Classification::General),
        ..FieldDraft::default()
    }
}

fn customer() -> SchemaDraft {
    let mut name = field("full_name", FieldKind::Text);
    name.required = true;
    name.mask = Some(MaskKind::Name);
    name.max_bytes = 200;
    let mut phone = field("phone", FieldKind::Phone);
    phone.unique = true;
    phone.class = Some(Classification::Sensitive);
    phone.purposes = vec!["delivery".into(), "billing".into()];
    let mut born = field("born", FieldKind::Date);
    born.description = "出生日期".into();
    SchemaDraft {
        type_name: "customer".into(),
        fields: vec![name, phone, born, field("points", FieldKind::Integer)],
        retention: Some(RetentionDraft::RetainFor("P3Y6M".into())),
        erase_old_versions_synchronously: true,
    }
}

fn created() -> Schema {
    Schema::create(customer(), TypeOrd(7), NOW).unwrap()
}

fn told(result: Result<Schema, Vec<SchemaViolation>>) -> Vec<(String, SchemaProblem)> {
    result.unwrap_err().into_iter().map(|v| (v.path, v.problem)).collect()
}

fn refusals(change: impl FnOnce(&mut SchemaDraft)) -> Vec<(String, SchemaProblem)> {
    let mut draft = customer();
    change(&mut draft);
    told(Schema::create(draft, TypeOrd(1), NOW))
}

fn conflicts(change: impl FnOnce(&mut SchemaDraft)) -> Vec<(String, SchemaProblem)> {
    let mut draft = customer();
    change(&mut draft);
    let told = told(created().evolve(draft, LATER));
    assert!(told.iter().all(|(_, p)| p.is_conflict()), "{told:?}");
    told
}

fn one(path: &str, problem: SchemaProblem) -> Vec<(String, SchemaProblem)> {
    vec![(path.to_owned(), problem)]
}

#[test]
fn a_sound_draft_becomes_revision_one() {
    let schema = created();
    assert_eq!((schema.revision(), schema.updated(), schema.ord()), (1, NOW, TypeOrd(7)));
    let ords: Vec<u16> = schema.fields().iter().map(|f| f.ord.0).collect();
    assert_eq!(ords, [1, 2, 3, 4]);
    let phone = schema.field("phone").unwrap();
    assert!(phone.indexed && phone.unique, "unique implies indexed");
    assert_eq!((phone.mask, phone.max_bytes), (MaskKind::Phone, 16));
    assert!(phone.serves("billing") && !phone.serves("marketing"));
    assert!(schema.field("born").unwrap().serves("anything"));
    assert_eq!(schema.field_by_ord(FieldOrd(2)), Some(phone));
    assert_eq!(schema.field_by_ord(FieldOrd(9)), None);
    assert_eq!(schema.indexed_fields().count(), 1);
    assert_eq!(schema.retention().last_day(UnixMillis(0)), Some(Day(1_277)));
}

#[test]
fn each_rule_of_a_draft_has_its_own_refusal() {
    assert_eq!(
        refusals(|d| d.type_name = "Customer".into()),
        one("type", P::Name(NameError::Slug))
    );
    assert_eq!(
        refusals(|d| d.fields[1].name = "Phone".into()),
        one("fields[1].name", P::Name(NameError::Field))
    );
    assert_eq!(
        refusals(|d| d.fields[3].name = "phone".into()),
        one("fields.phone.name", P::DuplicateField)
    );
    assert_eq!(refusals(|d| d.fields[1].kind = None), one("fields.phone.kind", P::KindMissing));
    assert_eq!(
        refusals(|d| d.fields[1].class = None),
        one("fields.phone.classification", P::ClassMissing)
    );
    let sized = |at: usize, n: i32| move |d: &mut SchemaDraft| d.fields[at].max_bytes = n;
    assert_eq!(refusals(sized(1, 20)), one("fields.phone.max_bytes", P::MaxBytesNotForKind));
    assert_eq!(refusals(sized(0, -1)), one("fields.full_name.max_bytes", P::MaxBytesRange));
    assert_eq!(refusals(sized(0, 1_048_577)), one("fields.full_name.max_bytes", P::MaxBytesRange));
    let indexed = |n: i32| {
        move |d: &mut SchemaDraft| {
            d.fields[0].indexed = true;
            d.fields[0].max_bytes = n;
        }
    };
    assert_eq!(refusals(indexed(1_025)), one("fields.full_name.max_bytes", P::IndexedTooLong));
    assert_eq!(refusals(indexed(0)), one("fields.full_name.max_bytes", P::IndexedTooLong));
    for kind in [FieldKind::Number, FieldKind::Boolean] {
        let unique = |d: &mut SchemaDraft| {
            d.fields[3].kind = Some(kind);
            d.fields[3].unique = true;
        };
        assert_eq!(refusals(unique), one("fields.points.unique", P::UniqueNotForKind));
    }
    assert_eq!(
        refusals(|d| d.fields[3].mask = Some(MaskKind::Id)),
        one("fields.points.mask", P::MaskNotForKind)
    );
    let purposes = |list: Vec<String>| move |d: &mut SchemaDraft| d.fields[2].purposes = list;
    assert_eq!(
        refusals(purposes((0..17).map(|n| format!("p{n}")).collect())),
        one("fields.born.purposes", P::TooManyPurposes)
    );
    assert_eq!(
        refusals(purposes(vec!["a".into(), "a".into()])),
        one("fields.born.purposes", P::DuplicatePurpose)
    );
    assert_eq!(
        refusals(purposes(vec!["A".into()])),
        one("fields.born.purposes", P::Name(NameError::Slug))
    );
    for text in ["x".repeat(501), "\0".into()] {
        let described = |d: &mut SchemaDraft| d.fields[2].description = text;
        assert_eq!(refusals(described), one("fields.born.description", P::Description));
    }
    assert_eq!(refusals(|d| d.retention = None), one("retention", P::RetentionMissing));
    assert_eq!(
        refusals(|d| d.retention = Some(RetentionDraft::OpenEnded(false))),
        one("retention", P::OpenEndedFalse)
    );
    assert_eq!(
        refusals(|d| d.retention = Some(RetentionDraft::RetainFor("3 years".into()))),
        one("retention", P::Period(PeriodError::Grammar))
    );
}

#[test]
fn all_violations_come_at_once() {
    let told = refusals(|d| {
        d.type_name = String::new();
        d.retention = None;
        d.fields[0].kind = None;
        d.fields[0].class = None;
        d.fields[2].name = "1".into();
        d.fields[3].mask = Some(MaskKind::Id);
    });
    let paths: Vec<&str> = told.iter().map(|(path, _)| path.as_str()).collect();
    let want = [
        "type",
        "retention",
        "fields.full_name.kind",
        "fields.full_name.classification",
        "fields[2].name",
        "fields.points.mask",
    ];
    assert_eq!(paths, want);
}

#[test]
fn counts_and_the_row_s_size_are_bounded() {
    let many = |n: usize| {
        move |d: &mut SchemaDraft| {
            d.fields = (0..n).map(|i| field(&format!("f{i}"), FieldKind::Boolean)).collect();
        }
    };
    let mut draft = customer();
    many(limits::FIELDS_MAX)(&mut draft);
    draft.fields.iter_mut().for_each(|f| f.class = Some(Classification::Sensitive));
    let full = Schema::create(draft, TypeOrd(1), NOW).unwrap();
    assert_eq!(Schema::from_json(&full.to_json()), Ok(full));
    assert_eq!(refusals(many(limits::FIELDS_MAX + 1)), one("fields", P::TooManyFields));
    assert_eq!(refusals(many(100_000)), one("fields", P::TooManyFields));
    let indexed = |n: usize| {
        move |d: &mut SchemaDraft| {
            many(n)(d);
            d.fields.iter_mut().for_each(|f| f.indexed = true);
        }
    };
    assert_eq!(refusals(indexed(limits::INDEXED_FIELDS_MAX + 1)), one("fields", P::TooManyIndexed));
    let wordy = |d: &mut SchemaDraft| {
        many(17)(d);
        d.fields.iter_mut().for_each(|f| f.description = "x".repeat(500));
    };
    assert_eq!(refusals(wordy), one("fields", P::SchemaTooLarge));
}

#[test]
fn an_identical_draft_changes_nothing() {
    let schema = created();
    assert_eq!(schema.evolve(customer(), LATER), Ok(schema.clone()));
    let mut shuffled = customer();
    shuffled.fields.reverse();
    shuffled.fields[2].purposes.reverse();
    assert_eq!(schema.evolve(shuffled, LATER), Ok(schema));
}

#[test]
fn allowed_changes_make_the_next_revision_and_keep_the_numbers() {
    let mut draft = customer();
    let mut added = field("email", FieldKind::Email);
    added.indexed = true;
    draft.fields.insert(0, added);
    draft.fields[1].required = false;
    draft.fields[1].max_bytes = 300;
    draft.fields[1].class = Some(Classification::Sensitive);
    draft.fields[2].mask = Some(MaskKind::Full);
    draft.fields[2].unique = false;
    draft.fields[2].indexed = true;
    draft.fields[2].purposes.clear();
    draft.fields[3].description.clear();
    draft.erase_old_versions_synchronously = false;
    let next = created().evolve(draft, LATER).unwrap();
    assert_eq!((next.revision(), next.updated()), (2, LATER));
    assert_eq!(next.field("email").unwrap().ord, FieldOrd(5));
    assert_eq!(next.field("full_name").unwrap().ord, FieldOrd(1));
    assert_eq!(next.field("full_name").unwrap().max_bytes, 300);
    let phone = next.field("phone").unwrap();
    assert!(phone.ord == FieldOrd(2) && phone.indexed && !phone.unique);
    assert!(!next.erases_old_versions_synchronously());
    assert!(next.fields().is_sorted_by(|a, b| a.ord < b.ord));
}

#[test]
fn each_rule_between_revisions_has_its_own_refusal() {
    assert_eq!(conflicts(|d| d.type_name = "buyer".into()), one("type", P::TypeChanged));
    assert_eq!(conflicts(|d| drop(d.fields.remove(2))), one("fields.born", P::FieldRemoved));
    let kind = |d: &mut SchemaDraft| d.fields[3].kind = Some(FieldKind::Number);
    assert_eq!(conflicts(kind), one("fields.points.kind", P::KindChanged));
    assert_eq!(
        conflicts(|d| d.fields[3].unique = true),
        one("fields.points.unique", P::UniqueTurnedOn)
    );
    let shrunk = |d: &mut SchemaDraft| d.fields[0].max_bytes = 199;
    assert_eq!(conflicts(shrunk), one("fields.full_name.max_bytes", P::MaxBytesShrunk));
    assert_eq!(
        conflicts(|d| d.fields[2].required = true),
        one("fields.born.required", P::RequiredTightened)
    );
    let new_required = |d: &mut SchemaDraft| {
        let mut new = field("email", FieldKind::Email);
        new.required = true;
        d.fields.push(new);
    };
    assert_eq!(conflicts(new_required), one("fields.email.required", P::NewFieldRequired));
    let mut last = created();
    last.revision = i32::MAX as u32;
    let mut draft = customer();
    draft.fields.push(field("email", FieldKind::Email));
    assert_eq!(told(last.evolve(draft, LATER)), one("revision", P::RevisionsExhausted));
    assert_eq!(last.evolve(customer(), LATER).unwrap(), last);
}

#[test]
fn a_malformed_field_is_not_also_called_removed() {
    let mut draft = customer();
    draft.fields[1].class = None;
    let want = one("fields.phone.classification", P::ClassMissing);
    assert_eq!(told(created().evolve(draft, LATER)), want);
}

#[test]
fn a_schema_survives_its_row() {
    let mut draft = customer();
    draft.fields.push(field("note", FieldKind::Text));
    let schema = created().evolve(draft, LATER).unwrap();
    assert_eq!(Schema::from_json(&schema.to_json()), Ok(schema));
    assert_eq!(
        String::from_utf8(created().to_json()).unwrap(),
        r#"{"type":"customer","ord":7,"revision":1,"updated":1750000000000,"retention":"P3Y6M","#
            .to_owned()
            + r#""sync_erase":true,"next_field":5,"fields":["#
            + r#"{"name":"full_name","ord":1,"kind":"TEXT","class":"GENERAL","required":true,"#
            + r#""max_bytes":200,"mask":"NAME"},"#
            + r#"{"name":"phone","ord":2,"kind":"PHONE","unique":true,"indexed":true,"#
            + r#""purposes":["billing","delivery"]},"#
            + r#"{"name":"born","ord":3,"kind":"DATE","class":"GENERAL","description":"出生日期"},"#
            + r#"{"name":"points","ord":4,"kind":"INTEGER","class":"GENERAL"}]}"#
    );
}

#[test]
fn a_damaged_row_is_refused() {
    use SchemaJsonError as J;
    let text = String::from_utf8(created().to_json()).unwrap();
    for (from, to, want) in [
        ("\"ord\":2", "\"ord\":1", J::FieldNumbers),
        ("\"ord\":1,", "\"ord\":0,", J::FieldNumbers),
        ("\"next_field\":5", "\"next_field\":4", J::FieldNumbers),
        ("\"revision\":1", "\"revision\":0", J::Revision),
        ("\"revision\":1", "\"revision\":2147483648", J::Revision),
        ("\"phone\"", "\"Phone\"", J::Rules),
        ("\"P3Y6M\"", "\"P3Y6\"", J::Rules),
        ("\"max_bytes\":200", "\"max_bytes\":2000000", J::Rules),
        ("\"DATE\"", "\"DAY\"", J::Syntax),
        ("\"type\"", "\"tipe\"", J::Syntax),
        ("\"next_field\"", "\"owner\":1,\"next_field\"", J::Syntax),
    ] {
        let bad = text.replacen(from, to, 1);
        assert_ne!(bad, text, "{from}");
        assert_eq!(Schema::from_json(bad.as_bytes()), Err(want), "{to}");
    }
    for end in 0..text.len() {
        assert_eq!(Schema::from_json(&text.as_bytes()[..end]), Err(J::Syntax), "cut at {end}");
    }
    assert_eq!(Schema::from_json(&[b' '; 8_001]), Err(J::TooLong));
}

#[test]
fn an_index_goes_on_and_off_by_way_of_its_states() {
    use IndexState as I;
    let state = |schema: &Schema| {
        let points = schema.field("points").unwrap();
        (points.indexed, points.unique, points.index)
    };
    let next = |schema: &Schema, indexed, unique| {
        let mut draft = customer();
        (draft.fields[3].indexed, draft.fields[3].unique) = (indexed, unique);
        schema.evolve(draft, LATER)
    };
    let off = created();
    let building = next(&off, true, false).unwrap();
    assert_eq!((state(&building), building.revision()), ((true, false, I::Building), 2));
    assert!(building.is_changing() && !off.is_changing());
    assert_eq!(next(&building, true, false).unwrap(), building, "the same draft is no change");
    assert_eq!(told(next(&building, true, true)), one("fields.points.unique", P::UniqueTurnedOn));
    let ready = building.settled();
    assert_eq!((state(&ready), ready.revision()), ((true, false, I::Settled), 2));
    let unique = next(&ready, true, true).unwrap();
    assert_eq!(state(&unique), (true, true, I::Settled));
    assert_eq!(unique.newly_unique(&ready), [FieldOrd(4)]);
    assert!(ready.newly_unique(&unique).is_empty());
    let dropping = next(&unique, false, false).unwrap();
    assert_eq!(state(&dropping), (false, false, I::Dropping));
    assert_eq!(state(&next(&building, false, false).unwrap()).2, I::Dropping);
    assert_eq!(state(&next(&dropping, true, false).unwrap()).2, I::Building);
    assert_eq!(told(next(&dropping, true, true)), one("fields.points.unique", P::UniqueTurnedOn));
    // What is listed: by the field's name; what may be: until the last listing is gone.
    let five = || crate::vault::value::Value::Integer(5);
    let fields = std::collections::BTreeMap::from([(FieldOrd(4), five())]);
    let count = |s: &Schema| (s.index_values(&fields).len(), s.index_values_ever(&fields).len());
    assert_eq!([&off, &building, &dropping].map(count), [(0, 0), (1, 1), (0, 1)]);
    assert_eq!(
        dropping.check_query("points", five()).unwrap_err().problem,
        FieldProblem::NotIndexed
    );
    assert_eq!(
        building.check_query("points", five()).unwrap_err().problem,
        FieldProblem::IndexBuilding
    );
    assert!(ready.check_query("points", five()).is_ok());
    // The row keeps the state, and a row that says what cannot be is refused.
    for schema in [&building, &dropping] {
        assert_eq!(Schema::from_json(&schema.to_json()).as_ref(), Ok(schema));
        let text = String::from_utf8(schema.to_json()).unwrap();
        for (from, to) in [("\"building\"", "\"dropping\""), ("\"dropping\"", "\"building\"")] {
            let bad = text.replace(from, to);
            let want = if bad == text { Ok(schema.clone()) } else { Err(SchemaJsonError::Rules) };
            assert_eq!(Schema::from_json(bad.as_bytes()), want);
        }
    }
}

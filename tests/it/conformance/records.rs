//! Steps 4 to 18: values, repeats, faults, masks, purposes, updates, finding, pages.

use std::collections::BTreeSet;

use lethe::client::request_id;

use super::*;
use crate::live::reason;

/// What later steps need.
pub(super) struct Kept {
    pub(super) a: String,
    /// The create of step 4.
    pub(super) first: v1::CreateRecordRequest,
    /// B1, B2, B3.
    pub(super) batch: Vec<String>,
}

fn ada() -> Fields {
    let mut fields = texts(&[
        ("email", "ada@example.org"),
        ("city", "London"),
        ("born", "1815-12-10"),
        ("phone", "+441234567890"),
    ]);
    fields.insert("visits".into(), value(Kind::IntegerValue(3)));
    fields.insert("score".into(), value(Kind::NumberValue(1.5)));
    fields.insert("member".into(), value(Kind::BoolValue(true)));
    fields.insert("photo".into(), value(Kind::BytesValue(vec![0x00, 0xff])));
    fields
}

fn keys(record: &v1::Record) -> Vec<&str> {
    record.fields.keys().map(String::as_str).collect()
}

pub(super) async fn steps_4_to_18(story: &mut Story) -> Kept {
    let first = v1::CreateRecordRequest { request_id: request_id(), ..story.new_record(ada()) };
    let a = story.create(first.clone()).await.unwrap();
    assert!(a.name.starts_with(&format!("{}/records/", story.parent())), "step 04");
    assert!(a.subject.starts_with(&format!("{}/subjects/", story.parent())), "step 04");
    assert!(!a.etag.is_empty() && a.expire_date.len() == 10, "step 04");
    let made = a.create_time.as_ref().unwrap().seconds / 86_400;
    let expires = lethe::vault::calendar::parse_iso_date(&a.expire_date).unwrap();
    assert!((365..=367).contains(&(i64::from(expires.0) - made)), "step 04");
    assert_eq!(story.get(&a.name, None, "delivery").await.unwrap().fields, ada(), "step 04");

    assert_eq!(story.create(first.clone()).await.unwrap().name, a.name, "step 05");
    assert_eq!(story.count().await, 1, "step 05");
    let mut other = first.clone();
    let fields = &mut other.record.as_mut().unwrap().fields;
    fields.insert("email".into(), text("eve@example.org"));
    let reused = story.create(other).await;
    let reused = story.refused(6, reused, Code::Aborted, &[]);
    assert_eq!(reason(&reused), "REQUEST_ID_REUSED", "step 06");
    assert_eq!(story.count().await, 1, "step 06");

    faults(story).await;
    let batch = batches(story).await;

    let some = story.get(&a.name, Some(&["city", "fields.visits"]), "").await.unwrap();
    assert_eq!(keys(&some), ["city", "visits"], "step 10");
    let unknown = story.get(&a.name, Some(&["city", "canary"]), "").await;
    story.refused(10, unknown, Code::InvalidArgument, &["read_mask.paths[1]"]);
    for (purpose, count) in [("", 7), ("delivery", 8), ("marketing", 7)] {
        let seen = story.get(&a.name, None, purpose).await.unwrap();
        assert_eq!(seen.fields.len(), count, "step 11: {purpose}");
        assert_eq!(seen.fields.contains_key("phone"), purpose == "delivery", "step 11");
    }
    let order = [batch[2].as_str(), &a.name, &batch[0]];
    assert_eq!(story.batch_get(&order).await.unwrap(), order, "step 12");
    let never = format!("{}/records/00000000-0000-4000-8000-000000000000", story.parent());
    let missing = story.batch_get(&[&a.name, &never]).await;
    let missing = story.refused(12, missing, Code::NotFound, &[]);
    assert_eq!(
        (reason(&missing).as_str(), part(&missing).as_str()),
        ("NOT_FOUND", "names[1]"),
        "step 12"
    );

    updates(story, &a).await;

    let twice = story.create(story.new_record(texts(&[("email", "ada@example.org")]))).await;
    let twice = story.refused(16, twice, Code::AlreadyExists, &[]);
    let details = twice.get_error_details();
    assert_eq!(reason(&twice), "DUPLICATE_VALUE", "step 16");
    assert_eq!(details.error_info().unwrap().metadata["field"], "email", "step 16");
    assert_eq!(details.resource_info().unwrap().resource_name, a.name, "step 16");

    assert_eq!(
        story.named("email", "ada@example.org").await,
        std::slice::from_ref(&a.name),
        "step 17"
    );
    let unindexed = story.find("visits", value(Kind::IntegerValue(3))).await;
    story.refused(17, unindexed, Code::InvalidArgument, &["field"]);

    for n in 0..6 {
        story.put(&[("email", &format!("o{n}@example.org")), ("city", "Oslo")]).await;
    }
    let pages = story.pages(&story.tenant, 3).await;
    let names: Vec<&str> = pages.iter().flatten().map(|r| r.name.as_str()).collect();
    assert!(names.is_sorted() && pages.len() >= 4, "step 18");
    assert_eq!((names.len(), names.iter().collect::<BTreeSet<_>>().len()), (10, 10), "step 18");
    let request = v1::ListRecordsRequest {
        parent: story.parent(),
        page_token: "nonsense".into(),
        ..Default::default()
    };
    let nonsense = story.application.records().list_records(request).await;
    story.refused(18, nonsense, Code::InvalidArgument, &["page_token"]);
    Kept { a: a.name, first, batch }
}

/// Steps 7 and 8.
async fn faults(story: &mut Story) {
    let mut fields = texts(&[("email", "x@example.org")]);
    fields.insert("shoe".into(), value(Kind::IntegerValue(42)));
    let unknown = story.create(story.new_record(fields)).await;
    let unknown = story.refused(7, unknown, Code::InvalidArgument, &["record.fields.shoe"]);
    assert!(!format!("{unknown:?}").contains("x@example.org"), "step 07");
    assert!(!unknown.to_string().contains("42"), "step 07");
    let bad = story.create(story.new_record(texts(&[("email", "canary-at-example")]))).await;
    story.refused(8, bad, Code::InvalidArgument, &["record.fields.email"]);
}

/// Step 9.
async fn batches(story: &mut Story) -> Vec<String> {
    let of = |story: &Story, emails: &[&str]| -> Vec<v1::CreateRecordRequest> {
        let one = |e: &&str| story.new_record(texts(&[("email", e)]));
        emails.iter().map(one).collect()
    };
    let bad = of(story, &["b1@example.org", "canary-at-example", "b3@example.org"]);
    let bad = story.batch(bad).await;
    story.refused(9, bad, Code::InvalidArgument, &["requests[1].record.fields.email"]);
    let taken = of(story, &["b1@example.org", "ada@example.org"]);
    let taken = story.batch(taken).await;
    let taken = story.refused(9, taken, Code::AlreadyExists, &[]);
    assert_eq!(
        (reason(&taken).as_str(), part(&taken).as_str()),
        ("DUPLICATE_VALUE", "requests[1]"),
        "step 09"
    );
    assert!(story.named("email", "b1@example.org").await.is_empty(), "step 09");
    let mut good = of(story, &["b1@example.org", "b2@example.org", "b3@example.org"]);
    good.iter_mut().for_each(|r| r.request_id = request_id());
    let made = story.batch(good.clone()).await.unwrap();
    for (n, name) in (1..).zip(&made) {
        assert_eq!(
            story.named("email", &format!("b{n}@example.org")).await,
            std::slice::from_ref(name),
            "step 09"
        );
    }
    assert_eq!(story.batch(good).await.unwrap(), made, "step 09");
    made
}

/// Steps 13 to 15.
async fn updates(story: &mut Story, a: &v1::Record) {
    let moved = story.update(&a.name, &a.etag, texts(&[("city", "Paris")]), None).await.unwrap();
    assert_ne!(moved.etag, a.etag, "step 13");
    assert_eq!(story.named("city", "Paris").await, std::slice::from_ref(&a.name), "step 13");
    assert!(story.named("city", "London").await.is_empty(), "step 13");
    let stale = story.update(&a.name, &a.etag, texts(&[("city", "Rome")]), None).await;
    let stale = story.refused(14, stale, Code::Aborted, &[]);
    assert_eq!(reason(&stale), "ETAG_MISMATCH", "step 14");
    let still = story.get(&a.name, None, "").await.unwrap();
    assert_eq!(still.fields["city"], text("Paris"), "step 14");
    story.update(&a.name, "", Fields::new(), Some(&["score"])).await.unwrap();
    let left = story.get(&a.name, None, "").await.unwrap();
    assert_eq!(keys(&left), ["born", "city", "email", "member", "photo", "visits"], "step 15");
}

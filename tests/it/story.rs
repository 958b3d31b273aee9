//! The whole story over mutual TLS: what each identity can do with a vault, from its first tenant to a restart.

mod bulk;
mod cells;
mod input;
mod masks;
mod rights;
mod tool;

pub use bulk::Import;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use lethe::client::Client;
use lethe::crypto::verify_ed25519;
use lethe::proto::{admin, v1};
use tonic::Code;
use tonic_types::StatusExt;

use crate::live::{Live, create, get, new_customer, reason, shown, text, texts, violated};

const ADA: &[(&str, &str)] = &[
    ("email", "ada@example.org"),
    ("name", "Ada Lovelace"),
    ("city", "London"),
    ("diet", "vegan"),
    ("born", "1815-12-10"),
];

fn erase_request(name: &str) -> v1::EraseRecordRequest {
    v1::EraseRecordRequest { name: name.into(), ..Default::default() }
}

async fn find(client: &Client, city: &str) -> Vec<String> {
    let request = v1::FindRecordsRequest {
        schema: "tenants/shop/schemas/customer".into(),
        field: "city".into(),
        value: Some(text(city)),
        ..Default::default()
    };
    let found = client.records().find_records(request).await.unwrap().into_inner();
    found.records.into_iter().map(|r| r.name).collect()
}

/// Every page of a list, and how many there were.
async fn list(client: &Client, page_size: i32) -> (Vec<String>, usize) {
    let (mut names, mut page_token) = (Vec::new(), String::new());
    for pages in 1..100 {
        let request = v1::ListRecordsRequest {
            parent: "tenants/shop".into(),
            schema: "tenants/shop/schemas/customer".into(),
            page_size,
            page_token,
            ..Default::default()
        };
        let page = client.records().list_records(request).await.unwrap().into_inner();
        assert!(page.records.len() <= usize::try_from(page_size).unwrap());
        names.extend(page.records.into_iter().map(|r| r.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return (names, pages);
        }
    }
    panic!("the list does not end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_stored_is_read_by_right_purpose_and_mask() {
    let live = Live::start().await;
    live.furnish("shop").await;
    let (application, clerk) = (live.client("application").await, live.client("clerk").await);
    let ada = create(&application, "shop", ADA).await;
    assert!(ada.name.starts_with("tenants/shop/records/") && ada.etag == "1");
    assert!(ada.subject.starts_with("tenants/shop/subjects/"));
    assert!(ada.expire_date.len() == 10 && ada.create_time.is_some());

    let got = get(&application, &ada.name).await.unwrap();
    assert_eq!(shown(&got, "email"), Some("ada@example.org"));
    assert_eq!(shown(&got, "born"), Some("1815-12-10"));
    assert_eq!(shown(&got, "diet"), None, "it is for a purpose, and none was named");
    let asked = |paths: &[&str], purpose: &str| v1::GetRecordRequest {
        name: ada.name.clone(),
        read_mask: Some(prost_types::FieldMask {
            paths: paths.iter().map(|p| (*p).to_owned()).collect(),
        }),
        purpose: purpose.into(),
    };
    let got = application.records().get_record(asked(&["fields.diet", "city"], "catering")).await;
    let got = got.unwrap().into_inner().record.unwrap();
    assert_eq!((shown(&got, "diet"), got.fields.len()), (Some("vegan"), 2));
    let got = application.records().get_record(asked(&["*"], "marketing")).await;
    assert_eq!(shown(&got.unwrap().into_inner().record.unwrap(), "diet"), None);

    let masked = get(&clerk, &ada.name).await.unwrap();
    assert_eq!(shown(&masked, "city"), Some("London"), "PUBLIC is in clear for the clerk");
    for (field, clear) in [("email", "ada@example.org"), ("name", "Ada Lovelace")] {
        assert!(shown(&masked, field).is_none_or(|v| v != clear && !v.contains("Love")), "{field}");
    }
    assert_eq!(shown(&masked, "born"), None);
    let probe = v1::FindRecordsRequest {
        schema: "tenants/shop/schemas/customer".into(),
        field: "email".into(),
        value: Some(text("ada@example.org")),
        ..Default::default()
    };
    let refused = clerk.records().find_records(probe.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "a search would tell whom a value is of");
    let by_diet = |purpose: &str| v1::FindRecordsRequest {
        field: "diet".into(),
        value: Some(text("vegan")),
        purpose: purpose.into(),
        ..probe.clone()
    };
    let found = application.records().find_records(by_diet("catering")).await.unwrap();
    assert_eq!(found.into_inner().records.len(), 1);
    for purpose in ["", "marketing"] {
        let refused = application.records().find_records(by_diet(purpose)).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "a field for another purpose");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_changes_is_found_listed_and_erased() {
    let live = Live::start().await;
    live.furnish("shop").await;
    let application = live.client("application").await;
    let ada = create(&application, "shop", ADA).await;

    let change = v1::UpdateRecordRequest {
        record: Some(v1::Record {
            name: ada.name.clone(),
            etag: ada.etag.clone(),
            fields: texts(&[("city", "Paris")]),
            ..Default::default()
        }),
        ..Default::default()
    };
    let new = application.records().update_record(change.clone()).await.unwrap().into_inner();
    assert_eq!(new.record.unwrap().etag, "2");
    let stale = application.records().update_record(change.clone()).await.unwrap_err();
    assert_eq!((stale.code(), reason(&stale).as_str()), (Code::Aborted, "ETAG_MISMATCH"));
    assert_eq!(find(&application, "Paris").await, [ada.name.as_str()]);
    assert!(find(&application, "London").await.is_empty());

    // A mask names what changes: a field that it names and the record lacks goes; one that it does not name stays.
    let masked = |paths: &[&str], fields: &[(&str, &str)]| {
        let mut change = change.clone();
        let record = change.record.as_mut().unwrap();
        (record.etag, record.fields) = (String::new(), texts(fields));
        let paths = paths.iter().map(|p| (*p).to_owned()).collect();
        change.update_mask = Some(prost_types::FieldMask { paths });
        change
    };
    let both = masked(&["fields.born", "name"], &[("name", "Ada King"), ("city", "ignored")]);
    application.records().update_record(both).await.unwrap();
    let got = get(&application, &ada.name).await.unwrap();
    let seen = ["name", "born", "city"].map(|f| shown(&got, f));
    assert_eq!(seen, [Some("Ada King"), None, Some("Paris")]);
    let status = application.records().update_record(masked(&["*"], &[])).await.unwrap_err();
    assert_eq!(violated(&status), ["record.fields.email"], "a required field cannot go");
    let whole = masked(&["*"], &[("email", "ada@example.org"), ("city", "Paris")]);
    application.records().update_record(whole).await.unwrap();
    assert_eq!(get(&application, &ada.name).await.unwrap().fields.len(), 2);

    let mut names = vec![ada.name.clone()];
    for n in 0..6 {
        let email = format!("c{n}@example.org");
        names.push(create(&application, "shop", &[("email", &email)]).await.name);
    }
    names.sort();
    for (size, least) in [(3, 3), (7, 1), (1000, 1)] {
        let (listed, pages) = list(&application, size).await;
        assert_eq!(listed, names);
        assert!((least..=least + 1).contains(&pages), "{size}: {pages} pages");
    }

    let wrong = v1::EraseRecordRequest { etag: "1".into(), ..erase_request(&ada.name) };
    let stale = application.records().erase_record(wrong).await.unwrap_err();
    assert_eq!(stale.code(), Code::Aborted);
    let erase = || async {
        let erased = application.records().erase_record(erase_request(&ada.name)).await;
        erased.unwrap().into_inner().receipt.unwrap()
    };
    let receipt = erase().await;
    assert_eq!(receipt.name, ada.name);
    assert!(verify_ed25519(&receipt.public_key, &receipt.signed_bytes, &receipt.signature));
    assert_eq!(erase().await, receipt, "asking again gives the same receipt");
    let gone = get(&application, &ada.name).await.unwrap_err();
    assert_eq!((gone.code(), reason(&gone).as_str()), (Code::NotFound, "ERASED"));
    let never = ada.name.replace(|c: char| c.is_ascii_digit(), "0");
    let never = get(&application, &never).await.unwrap_err();
    assert_eq!((never.code(), reason(&never).as_str()), (Code::NotFound, "NOT_FOUND"));
    assert!(find(&application, "Paris").await.is_empty());
    let again = create(&application, "shop", ADA).await;
    assert_ne!(again.name, ada.name, "its unique value is free again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subject_a_batch_and_a_bucket_go_as_one() {
    let mut live = Live::start().await;
    live.furnish("shop").await;
    let application = live.client("application").await;
    let parent = v1::CreateSubjectRequest { parent: "tenants/shop".into(), ..Default::default() };
    let subject = application.subjects().create_subject(parent).await.unwrap().into_inner();
    let subject = subject.subject.unwrap().name;
    let mut about = Vec::new();
    for email in ["one@example.org", "two@example.org"] {
        let mut request = new_customer("shop", &[("email", email)]);
        request.record.as_mut().unwrap().subject.clone_from(&subject);
        let made = application.records().create_record(request).await.unwrap().into_inner();
        about.push(made.record.unwrap().name);
    }
    let mut others = Vec::new();
    for n in 0..5 {
        let email = format!("o{n}@example.org");
        others.push(create(&application, "shop", &[("email", &email)]).await.name);
    }

    let request = || v1::EraseSubjectRequest { name: subject.clone(), reason: 4 };
    let erased = application.subjects().erase_subject(request()).await.unwrap().into_inner();
    let own = erased.receipt.unwrap();
    assert_eq!((own.name.as_str(), own.reason), (subject.as_str(), 4));
    let mut gone: Vec<String> = erased.record_receipts.into_iter().map(|r| r.name).collect();
    gone.sort();
    about.sort();
    assert_eq!(gone, about);
    for name in &about {
        assert_eq!(reason(&get(&application, name).await.unwrap_err()), "ERASED");
    }
    let read = v1::GetSubjectRequest { name: subject.clone() };
    let status = application.subjects().get_subject(read).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    let again = application.subjects().erase_subject(request()).await.unwrap().into_inner();
    assert_eq!(again.receipt, Some(own));
    let mut late = new_customer("shop", &[("email", "late@example.org")]);
    late.record.as_mut().unwrap().subject.clone_from(&subject);
    let status = application.records().create_record(late).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "nothing is stored about an erased subject");

    let pair = v1::BatchEraseRecordsRequest {
        parent: "tenants/shop".into(),
        names: vec![others[1].clone(), others[0].clone()],
        reason: 0,
    };
    let mut missing = pair.clone();
    missing.names.push("tenants/shop/records/00000000-0000-4000-8000-000000000000".into());
    let status = application.records().batch_erase_records(missing).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert!(get(&application, &others[0]).await.is_ok(), "all or none");
    let erased = application.records().batch_erase_records(pair.clone()).await.unwrap();
    let receipts = erased.into_inner().receipts;
    let names: Vec<String> = receipts.iter().map(|r| r.name.clone()).collect();
    assert_eq!((names, receipts[0].reason), (pair.names, 1));

    let operator = live.client("operator").await;
    let request = admin::ListBucketsRequest { parent: "tenants/shop".into(), ..Default::default() };
    let buckets = operator.vault().list_buckets(request.clone()).await.unwrap().into_inner();
    let [bucket] = buckets.buckets.try_into().unwrap();
    let kill = admin::EraseBucketRequest {
        schema: bucket.schema,
        expire_date: bucket.expire_date,
        reason: 0,
    };
    let receipt = operator.vault().erase_bucket(kill.clone()).await.unwrap().into_inner();
    assert_eq!(receipt.receipt.as_ref().unwrap().reason, 2, "RETENTION unless another is given");
    for name in &others[2..] {
        assert_eq!(get(&application, name).await.unwrap_err().code(), Code::NotFound);
    }
    let again = operator.vault().erase_bucket(kill.clone()).await.unwrap().into_inner();
    assert_eq!(again.receipt, receipt.receipt, "the answer may have been lost");
    let never = admin::EraseBucketRequest { expire_date: "2029-01-01".into(), ..kill.clone() };
    let status = operator.vault().erase_bucket(never).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    let after = create(&application, "shop", ADA).await;
    live.restart().await;
    let application = live.client("application").await;
    assert!(get(&application, &after.name).await.is_ok());
    let again = live.client("operator").await.vault().erase_bucket(kill).await.unwrap();
    assert_ne!(again.into_inner().receipt, receipt.receipt, "there was a record again");
    for name in others.iter().chain(&about) {
        assert_eq!(get(&application, name).await.unwrap_err().code(), Code::NotFound);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_key_rotates_under_load_without_a_failed_call() {
    let mut live = Live::start().await;
    live.furnish("shop").await;
    let operator = live.client("operator").await;
    let status = || async {
        let request = admin::GetKeyStatusRequest {};
        operator.vault().get_key_status(request).await.unwrap().into_inner().keys
    };
    let before = status().await;
    let now = lethe::clock::Clock::now(&lethe::clock::SystemClock).0 / 1000;
    let age = |key: &admin::KeyInfo| now - key.since.as_ref().unwrap().seconds;
    assert!(before[..2].iter().all(|key| (0..600).contains(&age(key))), "{before:?}");
    let application = live.client("application").await;
    let ada = create(&application, "shop", ADA).await;
    let (over, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let load: Vec<_> = (0..4)
        .map(|worker| {
            let (application, name) = (application.clone(), ada.name.clone());
            let (over, calls) = (Arc::clone(&over), Arc::clone(&calls));
            tokio::spawn(async move {
                let mut made = Vec::new();
                for n in 0.. {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    if worker < 2 {
                        get(&application, &name).await.unwrap();
                    } else {
                        let email = format!("w{worker}n{n}@example.org");
                        made.push(create(&application, "shop", &[("email", &email)]).await.name);
                    }
                    calls.fetch_add(1, Ordering::Relaxed);
                }
                made
            })
        })
        .collect();
    let mut generations = Vec::new();
    for _ in 0..5 {
        let so_far = calls.load(Ordering::Relaxed);
        let rotated = operator.vault().rotate_key(admin::RotateKeyRequest {}).await.unwrap();
        let rotated = rotated.into_inner();
        generations.push((rotated.generation, rotated.kek.unwrap().key_id));
        while calls.load(Ordering::Relaxed) < so_far + 8 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    over.store(true, Ordering::Relaxed);
    let mut made = Vec::new();
    for worker in load {
        made.extend(worker.await.expect("a call failed under rotation"));
    }
    assert!(generations.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 != w[1].1));
    let after = status().await;
    assert_eq!(after[0].key_id, generations[4].1);
    assert_ne!(after[0].key_id, before[0].key_id);
    assert!(after[1].since.unwrap().seconds >= before[1].since.unwrap().seconds);
    let kinds: Vec<&str> = after.iter().map(|k| k.kind.as_str()).collect();
    assert_eq!(kinds, ["kek", "root", "tenant", "bucket", "page"]);

    live.restart().await;
    let application = live.client("application").await;
    assert!(!made.is_empty());
    for name in made.iter().chain([&ada.name]) {
        get(&application, name).await.unwrap();
    }
    let operator = live.client("operator").await;
    let status = operator.vault().get_status(admin::GetStatusRequest {}).await.unwrap();
    let status = status.into_inner();
    assert_eq!((status.store_engine.as_str(), status.tenants), ("redb", 1));
    assert_eq!((status.vault_id.len(), status.public_key.len()), (32, 32));
    assert!(status.advertised_level >= 1 && status.counters["reads"] >= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_duplicate_names_the_record_that_has_the_value() {
    let live = Live::start().await;
    live.furnish("shop").await;
    let application = live.client("application").await;
    let ada = create(&application, "shop", ADA).await;
    let twin = new_customer("shop", &[("email", "ADA@example.org")]);
    let status = application.records().create_record(twin).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::AlreadyExists, "DUPLICATE_VALUE"));
    let details = status.get_error_details();
    assert_eq!(details.resource_info().unwrap().resource_name, ada.name);
    assert_eq!(details.error_info().unwrap().metadata["field"], "email");
    assert!(!format!("{status:?}").to_lowercase().contains("ada@example"));

    // Of many that race for one value, one wins.
    let mut racing = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let application = application.clone();
        racing.spawn(async move {
            let same = new_customer("shop", &[("email", "race@example.org")]);
            application.records().create_record(same).await.map(drop).map_err(|s| s.code())
        });
    }
    let outcomes = racing.join_all().await;
    let won = outcomes.iter().filter(|o| o.is_ok()).count();
    let lost = outcomes.iter().filter(|o| **o == Err(Code::AlreadyExists)).count();
    assert_eq!((won, lost), (1, 15));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_leaves_does_not_stop_an_accepted_erasure() {
    let live = Live::start().await;
    live.furnish("shop").await;
    let application = live.client("application").await;
    for n in 0..10 {
        let email = format!("c{n}@example.org");
        let name = create(&application, "shop", &[("email", &email)]).await.name;
        // Long enough to reach the vault, in most rounds too short for the anchor's syncs.
        let mut request = tonic::Request::new(erase_request(&name));
        request.set_timeout(Duration::from_millis(n));
        let accepted = application.records().erase_record(request).await.is_ok();
        let mut seen = get(&application, &name).await.is_ok();
        let mut tries = 0;
        // What was refused while an erasure was under way is either erased in the end or was never touched.
        while !accepted && !seen && tries < 50 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            seen = get(&application, &name).await.is_ok();
            tries += 1;
        }
        assert!(!(accepted && seen));
        let receipt = application.records().erase_record(erase_request(&name)).await.unwrap();
        assert!(receipt.into_inner().receipt.is_some());
    }
}

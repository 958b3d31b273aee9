//! Many records at once, and calls that are repeated: batches, imports, exports, watches, request ids.

use std::time::Duration;

use lethe::client::{Client, request_id};
use lethe::proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;

use super::erase_request;
use crate::live::{Live, create, new_customer, reason, shown, texts, violated};
use crate::peer::in_time;

fn mail(n: usize) -> String {
    format!("n{n}@example.org")
}

fn with_id(id: &str, fields: &[(&str, &str)]) -> v1::CreateRecordRequest {
    v1::CreateRecordRequest { request_id: id.into(), ..new_customer("shop", fields) }
}

async fn repeat(client: &Client, request: &v1::CreateRecordRequest) -> Result<v1::Record, Status> {
    let made = client.records().create_record(request.clone()).await;
    made.map(|r| r.into_inner().record.unwrap())
}

async fn batch(
    client: &Client,
    requests: Vec<v1::CreateRecordRequest>,
) -> Result<Vec<v1::Record>, Status> {
    let request = v1::BatchCreateRecordsRequest { parent: "tenants/shop".into(), requests };
    client.records().batch_create_records(request).await.map(|r| r.into_inner().records)
}

async fn names(client: &Client) -> Vec<String> {
    super::list(client, 1000).await.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_call_has_no_second_effect() {
    let mut live = Live::start().await;
    live.furnish("shop").await;
    let application = live.client("application").await;
    let ask = with_id(&request_id(), &[("email", "ada@example.org"), ("city", "London")]);
    let made = repeat(&application, &ask).await.unwrap();
    assert_eq!(repeat(&application, &ask).await.unwrap(), made);
    // Many at once: one of them does it.
    let race = with_id(&request_id(), &[("email", "race@example.org")]);
    let calls: Vec<_> = (0..16)
        .map(|_| {
            let (application, race) = (application.clone(), race.clone());
            tokio::spawn(async move { repeat(&application, &race).await.unwrap().name })
        })
        .collect();
    let mut seen = std::collections::BTreeSet::new();
    for call in calls {
        seen.insert(call.await.unwrap());
    }
    assert_eq!(seen.len(), 1);
    assert_eq!(names(&application).await.len(), 2);

    let mut other = ask.clone();
    other.record.as_mut().unwrap().fields.extend(texts(&[("city", "Paris")]));
    let status = repeat(&application, &other).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Aborted, "REQUEST_ID_REUSED"));
    let status = repeat(&live.client("clerk").await, &ask).await.unwrap_err();
    assert_eq!(status.code(), Code::Aborted, "another caller's id says nothing");
    for bad in ["x", "00000000-0000-0000-0000-000000000000", &request_id().to_uppercase()] {
        let status = repeat(&application, &with_id(bad, &[("email", "b@example.org")])).await;
        assert_eq!(violated(&status.unwrap_err()), ["request_id"], "{bad}");
    }

    let update_id = request_id();
    let change = |city: &str| v1::UpdateRecordRequest {
        record: Some(v1::Record {
            name: made.name.clone(),
            etag: "1".into(),
            fields: texts(&[("city", city)]),
            ..Default::default()
        }),
        update_mask: None,
        request_id: update_id.clone(),
    };
    for _ in 0..2 {
        let new = application.records().update_record(change("Paris")).await.unwrap().into_inner();
        assert_eq!(new.record.unwrap().etag, "2", "the etag of before counts for the repetition");
    }
    let status = application.records().update_record(change("Rome")).await.unwrap_err();
    assert_eq!(reason(&status), "REQUEST_ID_REUSED");
    // What the create made has changed since; its repetition still makes nothing, and says how the record is now.
    assert_eq!(shown(&repeat(&application, &ask).await.unwrap(), "city"), Some("Paris"));

    let subject =
        v1::CreateSubjectRequest { parent: "tenants/shop".into(), request_id: request_id() };
    let one = application.subjects().create_subject(subject.clone()).await.unwrap().into_inner();
    let two = application.subjects().create_subject(subject.clone()).await.unwrap().into_inner();
    assert_eq!(one.subject, two.subject);
    let crossed = with_id(&subject.request_id, &[("email", "c@example.org")]);
    assert_eq!(repeat(&application, &crossed).await.unwrap_err().code(), Code::Aborted);

    live.restart().await;
    let application = live.client("application").await;
    assert_eq!(repeat(&application, &ask).await.unwrap().name, made.name, "it is durable");
    application.records().erase_record(erase_request(&made.name)).await.unwrap();
    let status = repeat(&application, &ask).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "ERASED"));
    let crossed = with_id(&update_id, &[("email", "d@example.org")]);
    let status = repeat(&application, &crossed).await.unwrap_err();
    assert_eq!(reason(&status), "REQUEST_ID_REUSED", "also when nobody can compare any more");
    // After a day the id is forgotten, and may be given anew.
    live.pass(Duration::from_secs(25 * 3600));
    assert_ne!(repeat(&application, &ask).await.unwrap().name, made.name);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_created_and_read_whole_or_not_at_all() {
    let live = Live::start().await;
    live.furnish("shop").await;
    live.furnish("other").await;
    let application = live.client("application").await;
    create(&application, "shop", &[("email", "taken@example.org")]).await;
    let ids: Vec<String> = (0..300).map(|_| request_id()).collect();
    let all = |from: usize| -> Vec<v1::CreateRecordRequest> {
        let each = ids.iter().enumerate();
        each.map(|(n, id)| with_id(id, &[("email", &mail(from + n)), ("city", "Ulm")])).collect()
    };
    let set = |n: usize, field: &str, value: &str| {
        let mut requests = all(0);
        requests[n].record.as_mut().unwrap().fields.extend(texts(&[(field, value)]));
        requests
    };
    let mut elsewhere = all(0);
    elsewhere[7].parent = "tenants/other".into();
    let mut twice = all(0);
    twice[9].request_id = ids[3].clone();
    let mut nobody = all(0);
    nobody[5].record.as_mut().unwrap().subject =
        "tenants/shop/subjects/00000000-0000-4000-8000-000000000000".into();
    let bad: [(Vec<_>, Code, &[&str]); 8] = [
        (set(3, "phone", "no phone"), Code::InvalidArgument, &["requests[3].record.fields.phone"]),
        (set(4, "email", "taken@example.org"), Code::AlreadyExists, &[]),
        (set(6, "email", &mail(2)), Code::InvalidArgument, &["requests[6].record.fields.email"]),
        (elsewhere, Code::InvalidArgument, &["requests[7].parent", "requests[7].record.schema"]),
        (twice, Code::InvalidArgument, &["requests[9].request_id"]),
        (nobody, Code::NotFound, &[]),
        (Vec::new(), Code::InvalidArgument, &["requests"]),
        (all(0).into_iter().chain(all(300)).collect(), Code::InvalidArgument, &["requests"]),
    ];
    for (at, (requests, code, fields)) in bad.into_iter().enumerate() {
        let status = batch(&application, requests).await.unwrap_err();
        assert_eq!(
            (status.code(), violated(&status)),
            (code, fields.iter().map(|f| (*f).to_owned()).collect()),
            "case {at}: {status:?}"
        );
        assert!(!format!("{status:?}").contains("no phone"));
        if matches!(at, 1 | 5) {
            let n = if at == 1 { 4 } else { 5 };
            assert!(status.message().starts_with(&format!("requests[{n}]: ")), "{status:?}");
        }
        assert_eq!(names(&application).await.len(), 1, "case {at} stored something");
    }
    let made = batch(&application, all(0)).await.unwrap();
    assert_eq!(made.len(), 300);
    assert_eq!(batch(&application, all(0)).await.unwrap(), made, "repeated whole");
    assert_eq!(names(&application).await.len(), 301);
    for (n, record) in made.iter().enumerate() {
        assert_eq!(shown(record, "email"), Some(mail(n).as_str()), "in the order of the call");
    }

    let ask = |names: Vec<String>| v1::BatchGetRecordsRequest {
        parent: "tenants/shop".into(),
        names,
        read_mask: Some(prost_types::FieldMask { paths: vec!["fields.email".into()] }),
        purpose: String::new(),
    };
    let wanted: Vec<String> = made.iter().rev().map(|r| r.name.clone()).collect();
    let got = application.records().batch_get_records(ask(wanted.clone())).await.unwrap();
    let got = got.into_inner().records;
    assert_eq!(got.iter().map(|r| r.name.clone()).collect::<Vec<_>>(), wanted);
    assert!(got.iter().all(|r| r.fields.len() == 1));
    let foreign = create(&application, "other", &[("email", "o@example.org")]).await.name;
    let absent = wanted[0].replace(|c: char| c.is_ascii_digit(), "0");
    for (at, odd, code) in [
        (1, foreign, Code::InvalidArgument),
        (2, absent, Code::NotFound),
        (0, "x".into(), Code::InvalidArgument),
    ] {
        let mut names = wanted[..4].to_vec();
        names[at] = odd;
        let status = application.records().batch_get_records(ask(names)).await.unwrap_err();
        assert_eq!(status.code(), code, "{status:?}");
        assert!(status.message().contains(&format!("names[{at}]")), "{status:?}");
    }
    let many = application.records().batch_get_records(ask(vec![wanted[0].clone(); 1001])).await;
    assert_eq!(violated(&many.unwrap_err()), ["names"]);
    let paths = vec!["city".to_owned(), "canary".to_owned()];
    let masked = v1::BatchGetRecordsRequest {
        read_mask: Some(prost_types::FieldMask { paths }),
        ..ask(wanted[..2].to_vec())
    };
    let status = application.records().batch_get_records(masked).await.unwrap_err();
    assert_eq!(violated(&status), ["read_mask.paths[1]"], "the mask is the whole call's");
    let large: String = std::iter::repeat_n('x', 100).collect();
    let mut photos = Vec::new();
    for n in 0..4 {
        let mut request =
            new_customer("shop", &[("email", &format!("p{n}@example.org")), ("name", &large)]);
        let photo = v1::value::Kind::BytesValue(vec![1; 4_096]);
        let fields = &mut request.record.as_mut().unwrap().fields;
        fields.insert("photo".into(), v1::Value { kind: Some(photo) });
        photos.push(repeat(&application, &request).await.unwrap().name);
    }
    let whole = v1::BatchGetRecordsRequest {
        read_mask: None,
        ..ask(photos.iter().cycle().take(1_000).cloned().collect())
    };
    let status = application.records().batch_get_records(whole).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::OutOfRange, "TOO_LARGE"));
}

/// An import by hand.
pub struct Import {
    out: mpsc::Sender<v1::ImportRecordsRequest>,
    answers: Streaming<v1::ImportRecordsResponse>,
    pub next: u64,
}

impl Import {
    pub async fn start(client: &Client, tenant: &str, id: &str) -> Result<Self, Status> {
        let (out, messages) = mpsc::channel(4);
        let start = v1::ImportStart { parent: format!("tenants/{tenant}"), import_id: id.into() };
        out.send(message(v1::import_records_request::Message::Start(start))).await.unwrap();
        let answers = client.records().import_records(ReceiverStream::new(messages)).await?;
        let mut answers = answers.into_inner();
        let first = in_time(answers.message()).await?.unwrap();
        assert!(first.names.is_empty() && first.failures.is_empty());
        Ok(Self { out, answers, next: first.next_index })
    }

    pub async fn chunk(
        &mut self,
        first_index: u64,
        records: Vec<v1::Record>,
    ) -> Result<v1::ImportRecordsResponse, Status> {
        let chunk = v1::ImportChunk { first_index, records };
        self.out.send(message(v1::import_records_request::Message::Chunk(chunk))).await.unwrap();
        Ok(in_time(self.answers.message()).await?.unwrap())
    }
}

fn message(message: v1::import_records_request::Message) -> v1::ImportRecordsRequest {
    v1::ImportRecordsRequest { message: Some(message) }
}

fn records(from: usize, count: usize) -> Vec<v1::Record> {
    let one = |n| new_customer("shop", &[("email", &mail(n))]).record.unwrap();
    (from..from + count).map(one).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_goes_on_where_it_broke_off_and_doubles_nothing() {
    let mut live = Live::start().await;
    live.furnish("shop").await;
    let application = live.client("application").await;
    create(&application, "shop", &[("email", "taken@example.org")]).await;
    let id = request_id();
    let mut import = Import::start(&application, "shop", &id).await.unwrap();
    assert_eq!(import.next, 0);
    let done = import.chunk(0, records(0, 500)).await.unwrap();
    assert_eq!((done.next_index, done.names.len(), done.failures.len()), (500, 500, 0));
    // Each faulty record is refused by itself; the others go in.
    let mut mixed = records(500, 6);
    mixed[1].fields.extend(texts(&[("phone", "no phone"), ("born", "never")]));
    mixed[2].fields.extend(texts(&[("email", "taken@example.org")]));
    mixed[3].fields.extend(texts(&[("email", &mail(505))]));
    mixed[4].schema = "tenants/other/schemas/customer".into();
    let done = import.chunk(500, mixed.clone()).await.unwrap();
    assert!(!format!("{done:?}").contains("no phone"));
    let kept: Vec<bool> = done.names.iter().map(|n| !n.is_empty()).collect();
    assert_eq!((done.next_index, kept), (506, vec![true, false, false, true, false, false]));
    let told: Vec<_> = done
        .failures
        .iter()
        .map(|f| {
            (f.index, f.code, f.violations.iter().map(|v| v.field.as_str()).collect::<Vec<_>>())
        })
        .collect();
    let (exists, invalid) = (Code::AlreadyExists as i32, Code::InvalidArgument as i32);
    let mut faults = told[0].2.clone();
    faults.sort_unstable();
    assert_eq!((told[0].0, told[0].1, faults), (501, invalid, vec!["fields.born", "fields.phone"]));
    assert_eq!(
        told[1..],
        [
            (502, exists, vec![""]),
            (504, invalid, vec!["schema"]),
            // Twice in one chunk: the first of the two went in.
            (505, exists, vec![""]),
        ]
    );
    let before = names(&application).await;
    assert_eq!(before.len(), 503);
    // The answer may have been lost: the last chunk is sent again, also after a restart.
    assert_eq!(import.chunk(500, mixed.clone()).await.unwrap().names, done.names);
    drop(import);
    live.restart().await;
    let application = live.client("application").await;
    let mut import = Import::start(&application, "shop", &id).await.unwrap();
    assert_eq!(import.next, 506);
    assert_eq!(import.chunk(500, mixed.clone()).await.unwrap().names, done.names);
    assert_eq!(names(&application).await, before);
    // Neither a gap, nor an older chunk, nor a part of the last one.
    for (first, count) in [(507, 1), (0, 500), (500, 5), (501, 5)] {
        let mut import = Import::start(&application, "shop", &id).await.unwrap();
        let status = import.chunk(first, records(2_000, count)).await.unwrap_err();
        assert_eq!(violated(&status), ["chunk.first_index"], "{first} {count}");
    }
    let mut import = Import::start(&application, "shop", &id).await.unwrap();
    let status = import.chunk(506, records(2_000, 501)).await.unwrap_err();
    assert_eq!(violated(&status), ["chunk.records"]);
    assert_eq!(names(&application).await, before);
    let status = Import::start(&application, "shop", "x").await.err().unwrap();
    assert_eq!(violated(&status), ["start.import_id"]);
    // The id of a call is not that of an import, nor the other way round.
    let used = with_id(&id, &[("email", "u@example.org")]);
    assert_eq!(repeat(&application, &used).await.unwrap_err().code(), Code::Aborted);
    let (out, messages) = mpsc::channel(4);
    let early = v1::ImportChunk { first_index: 0, records: records(3_000, 1) };
    out.send(message(v1::import_records_request::Message::Chunk(early))).await.unwrap();
    let mut answers = application
        .records()
        .import_records(ReceiverStream::new(messages))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(violated(&in_time(answers.message()).await.unwrap_err()), ["start"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_holds_every_record_once_and_goes_on_by_its_token() {
    let live = Live::start().await;
    live.furnish("shop").await;
    let application = live.client("application").await;
    let mut import = Import::start(&application, "shop", &request_id()).await.unwrap();
    for part in 0..4 {
        import.chunk(part * 400, records(part as usize * 400, 400)).await.unwrap();
    }
    let ask = |page_token: &str| v1::ExportRecordsRequest {
        parent: "tenants/shop".into(),
        schema: "tenants/shop/schemas/customer".into(),
        page_token: page_token.into(),
        ..Default::default()
    };
    let export = |token: String, parts: usize| {
        let application = application.clone();
        async move {
            let stream = application.records().export_records(ask(&token)).await.unwrap();
            let (mut stream, mut names, mut last) = (stream.into_inner(), Vec::new(), token);
            for _ in 0..parts {
                let Some(part) = in_time(stream.message()).await.unwrap() else { break };
                names.extend(part.records.into_iter().map(|r| r.name));
                last = part.next_page_token;
            }
            (names, last)
        }
    };
    let all = names(&application).await;
    let (whole, last) = export(String::new(), 100).await;
    assert_eq!((whole.len(), last.as_str()), (1_600, ""));
    assert_eq!(whole, all);
    let (mut first, token) = export(String::new(), 2).await;
    assert!(first.len() < 1_600 && !token.is_empty());
    first.extend(export(token.clone(), 100).await.0);
    assert_eq!(first, all);
    let other = v1::ExportRecordsRequest { schema: String::new(), ..ask(&token) };
    let status = application.records().export_records(other).await.unwrap_err();
    assert_eq!(violated(&status), ["page_token"], "a token is bound to its query");
    let listing = v1::ListRecordsRequest {
        parent: "tenants/shop".into(),
        schema: "tenants/shop/schemas/customer".into(),
        page_token: token.clone(),
        ..Default::default()
    };
    let status = application.records().list_records(listing).await.unwrap_err();
    assert_eq!(violated(&status), ["page_token"], "and to its method");
    let status = live.client("clerk").await.records().export_records(ask(&token)).await;
    assert_eq!(violated(&status.unwrap_err()), ["page_token"], "and to its caller");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_tells_names_and_kinds_of_its_tenant_and_ends_with_the_daemon() {
    let mut live = Live::start().await;
    live.furnish("shop").await;
    live.furnish("other").await;
    let application = live.client("application").await;
    let request = v1::WatchRecordsRequest { parent: "tenants/shop".into() };
    let watch = application.records().watch_records(request).await.unwrap();
    let mut watch = watch.into_inner();
    let begun = in_time(watch.message()).await.unwrap().unwrap();
    assert_eq!(begun, v1::WatchRecordsResponse::default());
    create(&application, "other", &[("email", "other@example.org")]).await;
    let ada = create(&application, "shop", &[("email", "ada@example.org")]).await;
    let change = v1::UpdateRecordRequest {
        record: Some(v1::Record {
            name: ada.name.clone(),
            fields: texts(&[("city", "Ulm")]),
            ..Default::default()
        }),
        ..Default::default()
    };
    application.records().update_record(change).await.unwrap();
    application.records().erase_record(erase_request(&ada.name)).await.unwrap();
    let next = create(&application, "shop", &[("email", "next@example.org")]).await;
    let request = lethe::proto::admin::EraseBucketRequest {
        schema: next.schema.clone(),
        expire_date: next.expire_date.clone(),
        reason: 2,
    };
    live.client("operator").await.vault().erase_bucket(request).await.unwrap();
    use v1::ChangeKind as K;
    let expected = [
        (K::Created, &ada.name),
        (K::Updated, &ada.name),
        (K::Erased, &ada.name),
        (K::Created, &next.name),
    ];
    for (kind, name) in expected {
        let heard = in_time(watch.message()).await.unwrap().unwrap();
        assert_eq!((heard.kind(), &heard.name, &heard.schema), (kind, name, &ada.schema));
        assert!(heard.time.is_some());
    }
    let heard = in_time(watch.message()).await.unwrap().unwrap();
    assert_eq!((heard.kind(), heard.name.as_str()), (K::BucketErased, ""));
    assert_eq!((heard.schema, heard.expire_date), (next.schema, next.expire_date));
    let waits = tokio::spawn(async move { watch.message().await });
    tokio::time::timeout(Duration::from_secs(10), live.stop()).await.expect("a watch held it up");
    assert_eq!(waits.await.unwrap().unwrap_err().code(), Code::Unavailable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_with_the_certificate_that_it_began_with() {
    let live = Live::start().await;
    live.furnish("shop").await;
    // Where nothing is that could be swept, so that there is nothing to tell.
    live.furnish("quiet").await;
    let application = live.client("application").await;
    let mut import = Import::start(&application, "shop", &request_id()).await.unwrap();
    import.chunk(0, records(0, 3)).await.unwrap();
    let request = v1::WatchRecordsRequest { parent: "tenants/quiet".into() };
    let mut watch = application.records().watch_records(request).await.unwrap().into_inner();
    assert!(in_time(watch.message()).await.unwrap().is_some());
    live.pass(Duration::from_secs(400 * 24 * 3600));
    let status = in_time(watch.message()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    let status = import.chunk(3, records(3, 3)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_have_a_bound() {
    let live = Live::start().await;
    live.furnish("shop").await;
    let mut open = Vec::new();
    let mut clients = Vec::new();
    for _ in 0..2 {
        clients.push(live.client("application").await);
    }
    let request = || v1::WatchRecordsRequest { parent: "tenants/shop".into() };
    for n in 0..lethe::limits::OPEN_STREAMS_MAX {
        let stream = clients[n % 2].records().watch_records(request()).await.unwrap();
        open.push(stream.into_inner());
    }
    let other = live.client("clerk").await;
    let status = other.records().watch_records(request()).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.get_error_details().error_info().is_some());
    create(&other, "shop", &[("email", "a@example.org")]).await;
    open.truncate(10);
    for _ in 0..500 {
        if other.records().watch_records(request()).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("a stream that ended kept its place");
}

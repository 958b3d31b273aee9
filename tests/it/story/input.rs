//! Bad input: each gets a precise answer that names the field and not the value, and changes nothing.

use std::time::Duration;

use lethe::client::Client;
use lethe::proto::admin::EraseBucketRequest;
use lethe::proto::v1;
use lethe::proto::v1::record_service_client::RecordServiceClient;
use lethe::proto::v1::value::Kind;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Status};

use crate::live::{Live, create, customer, get, new_customer, reason, text, texts, violated};

const CANARY: &str = "canary";

async fn refused(client: &Client, request: v1::CreateRecordRequest) -> Status {
    client.records().create_record(request).await.expect_err("it was accepted")
}

fn value(kind: Kind) -> v1::Value {
    v1::Value { kind: Some(kind) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_does_not_fit_is_refused_field_by_field() {
    let live = Live::start().await;
    live.furnish("shop").await;
    let application = live.client("application").await;
    let cases: [(&str, v1::Value); 14] = [
        ("unknown_canary", text("x")),
        ("phone", text("canary")),
        ("phone", text("+861canary")),
        // A resident identity number whose check digit is wrong.
        ("identity", text("110105194912310021")),
        ("born", text("2026-02-30-canary")),
        ("born", value(Kind::IntegerValue(1))),
        ("visits", text(CANARY)),
        ("visits", value(Kind::NumberValue(1.0))),
        ("score", value(Kind::NumberValue(f64::NAN))),
        ("member", text("true")),
        ("photo", value(Kind::BytesValue(vec![b'c'; 4097]))),
        ("name", text(&"canary".repeat(17))),
        ("name", text("canary\u{0}")),
        ("city", v1::Value { kind: None }),
    ];
    for (n, (field, bad)) in cases.into_iter().enumerate() {
        let mut request = new_customer("shop", &[("email", "ok@example.org")]);
        request.record.as_mut().unwrap().fields.insert(field.into(), bad);
        let status = refused(&application, request).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{n} {field}");
        assert_eq!(violated(&status), [format!("record.fields.{field}")], "{n}");
        let heard = format!("{status:?}");
        assert!(!heard.replace("unknown_canary", "").contains(CANARY), "{n}: {heard}");
    }

    let several = new_customer("shop", &[("phone", "1"), ("born", "x"), ("Canary Name", "x")]);
    let status = refused(&application, several).await;
    let expected = ["", ".born", ".email", ".phone"].map(|f| format!("record.fields{f}"));
    assert_eq!(violated(&status), expected);
    assert!(!format!("{status:?}").contains("Canary"));

    let many: Vec<String> = (0..129).map(|n| format!("f{n}")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|f| (f.as_str(), "x")).collect();
    let status = refused(&application, new_customer("shop", &many)).await;
    assert_eq!(violated(&status), ["record.fields"]);

    // By a client that does not bound what it sends.
    let huge = "x".repeat(5 << 20);
    let mut unbound = RecordServiceClient::new(live.channel("application").await);
    let request = new_customer("shop", &[("name", &huge)]);
    let status = unbound.create_record(request).await.unwrap_err();
    assert!(matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted), "{status:?}");

    let list = v1::ListRecordsRequest { parent: "tenants/shop".into(), ..Default::default() };
    let listed = application.records().list_records(list).await.unwrap().into_inner();
    assert!(listed.records.is_empty(), "what was refused left nothing behind");
    create(&application, "shop", &[("email", "ok@example.org")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_etags_masks_sizes_and_reasons_are_checked_together() {
    let live = Live::start().await;
    live.furnish("shop").await;
    let application = live.client("application").await;
    let ada = create(&application, "shop", &[("email", "ada@example.org")]).await;

    let request = v1::CreateRecordRequest {
        parent: "tenants/shop".into(),
        record: Some(v1::Record {
            schema: "tenants/other/schemas/customer".into(),
            subject: "tenants/shop/subjects/canary".into(),
            ..Default::default()
        }),
        request_id: "canary".into(),
    };
    let status = refused(&application, request).await;
    assert_eq!(violated(&status), ["record.schema", "record.subject", "request_id"]);
    assert!(!format!("{status:?}").contains(CANARY));
    let nothing = v1::CreateRecordRequest { parent: "canary".into(), ..Default::default() };
    assert_eq!(violated(&refused(&application, nothing).await), ["parent", "record"]);
    let absent = "tenants/absent";
    let status = refused(&application, new_customer("absent", &[("email", "a@b.cd")])).await;
    assert_eq!(status.code(), Code::NotFound, "{absent}");

    let mask = |paths: &[&str]| {
        Some(prost_types::FieldMask { paths: paths.iter().map(|p| (*p).to_owned()).collect() })
    };
    let update = |etag: &str, paths: &[&str]| v1::UpdateRecordRequest {
        record: Some(v1::Record {
            name: ada.name.clone(),
            etag: etag.into(),
            fields: texts(&[("city", "x")]),
            ..Default::default()
        }),
        update_mask: mask(paths),
        request_id: String::new(),
    };
    for (request, expected) in [
        (update("canary", &["can ary"]), vec!["record.etag", "update_mask.paths[0]"]),
        (update("\"1\"", &[]), vec!["record.etag"]),
        (update("", &["nothing"]), vec!["record.fields.nothing"]),
        (update("", &["email"]), vec!["record.fields.email"]),
        (v1::UpdateRecordRequest::default(), vec!["record"]),
        (
            v1::UpdateRecordRequest {
                record: Some(v1::Record { name: ada.name.clone(), ..Default::default() }),
                ..Default::default()
            },
            vec!["record.fields"],
        ),
    ] {
        let status = application.records().update_record(request).await.unwrap_err();
        assert_eq!((status.code(), violated(&status)), (Code::InvalidArgument, own(&expected)));
    }
    assert_eq!(get(&application, &ada.name).await.unwrap().etag, "1");

    let mut elsewhere = new_customer("shop", &[("email", "b@c.de")]);
    elsewhere.record.as_mut().unwrap().subject = ada.subject.replace("shop", "other");
    let status = refused(&application, elsewhere).await;
    assert_eq!(violated(&status), ["record.subject"]);
    let elsewhere = v1::ListRecordsRequest {
        parent: "tenants/shop".into(),
        schema: "tenants/other/schemas/customer".into(),
        ..Default::default()
    };
    let status = application.records().list_records(elsewhere).await.unwrap_err();
    assert_eq!(violated(&status), ["schema"]);
    for (date, reason, expected) in
        [("", 2, vec!["expire_date"]), ("canary", 3, vec!["expire_date", "reason"])]
    {
        let kill = EraseBucketRequest {
            schema: "tenants/shop/schemas/customer".into(),
            expire_date: date.into(),
            reason,
        };
        let status = live.client("operator").await.vault().erase_bucket(kill).await.unwrap_err();
        assert_eq!((status.code(), violated(&status)), (Code::InvalidArgument, own(&expected)));
    }

    let read = |paths: &[&str], purpose: &str| v1::GetRecordRequest {
        name: ada.name.clone(),
        read_mask: mask(paths),
        purpose: purpose.into(),
    };
    for (request, expected) in [
        (
            read(&["email", "nothing", "city", "fields.none"], ""),
            vec!["read_mask.paths[1]", "read_mask.paths[3]"],
        ),
        (read(&["fields.city", "*"], "Can Ary"), vec!["purpose", "read_mask.paths[1]"]),
    ] {
        let status = application.records().get_record(request).await.unwrap_err();
        assert_eq!(violated(&status), own(&expected));
    }

    let erase = v1::EraseRecordRequest { name: "x".into(), reason: 3, etag: "-1".into() };
    let status = application.records().erase_record(erase).await.unwrap_err();
    assert_eq!(violated(&status), ["etag", "name", "reason"]);
    for (names, expected) in [
        (vec![], "names"),
        (vec![ada.name.clone(); 1001], "names"),
        (vec![ada.name.clone(); 2], "names"),
        (vec![ada.name.clone(), ada.name.replace("shop", "other")], "names[1]"),
    ] {
        let request =
            v1::BatchEraseRecordsRequest { parent: "tenants/shop".into(), names, reason: 0 };
        let status = application.records().batch_erase_records(request).await.unwrap_err();
        assert_eq!((status.code(), violated(&status)), (Code::InvalidArgument, own(&[expected])));
    }
    let query = |field: &str, value| v1::FindRecordsRequest {
        schema: "tenants/shop/schemas/customer".into(),
        field: field.into(),
        value,
        ..Default::default()
    };
    for (request, expected) in [
        (query("name", Some(text("x"))), "field"),
        (query("nothing", Some(text("x"))), "field"),
        (query("Can Ary", Some(text("x"))), "field"),
        (query("email", Some(text("canary"))), "value"),
        (query("email", None), "value"),
    ] {
        let status = application.records().find_records(request).await.unwrap_err();
        assert_eq!((status.code(), violated(&status)), (Code::InvalidArgument, own(&[expected])));
    }
    assert!(get(&application, &ada.name).await.is_ok());
}

fn own(fields: &[&str]) -> Vec<String> {
    fields.iter().map(|f| (*f).to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_is_wrong_in_itself_or_does_not_follow() {
    let live = Live::start().await;
    live.furnish("shop").await;
    let operator = live.client("operator").await;
    let mut bad = customer();
    bad.retention = None;
    bad.fields[0].kind = 99;
    bad.fields[6].mask = v1::MaskKind::Phone.into();
    let request = |schema| v1::CreateSchemaRequest {
        parent: "tenants/shop".into(),
        schema_id: "Bad".into(),
        schema: Some(schema),
    };
    let status = operator.schemas().create_schema(request(bad.clone())).await.unwrap_err();
    assert_eq!(violated(&status), ["schema.fields.email.kind"]);
    bad.fields[0].kind = v1::FieldKind::Unspecified.into();
    let status = operator.schemas().create_schema(request(bad)).await.unwrap_err();
    let expected =
        ["schema.fields.born.mask", "schema.fields.email.kind", "schema.retention", "schema_id"];
    assert_eq!((status.code(), violated(&status)), (Code::InvalidArgument, own(&expected)));

    let name = "tenants/shop/schemas/customer".to_owned();
    let mut next = v1::Schema { name: name.clone(), ..customer() };
    next.fields.remove(1);
    next.retention = Some(v1::schema::Retention::OpenEnded(true));
    let update = v1::UpdateSchemaRequest { schema: Some(next), update_mask: None };
    let status = operator.schemas().update_schema(update).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(violated(&status), ["schema.fields.name"]);

    // What was read can be sent back, and is no new revision.
    let read = v1::GetSchemaRequest { name };
    let schema = operator.schemas().get_schema(read).await.unwrap().into_inner().schema.unwrap();
    let update = v1::UpdateSchemaRequest { schema: Some(schema.clone()), update_mask: None };
    let same = operator.schemas().update_schema(update).await.unwrap().into_inner().schema;
    assert_eq!((same.as_ref(), schema.revision), (Some(&schema), 1));
    let again = v1::CreateSchemaRequest { schema_id: "customer".into(), ..request(customer()) };
    let status = operator.schemas().create_schema(again).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::AlreadyExists, "EXISTS"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_token_is_for_its_caller_query_and_hour() {
    let mut live = Live::start().await;
    live.furnish("shop").await;
    let (application, clerk) = (live.client("application").await, live.client("clerk").await);
    for n in 0..3 {
        let email = format!("c{n}@example.org");
        create(&application, "shop", &[("email", &email)]).await;
    }
    let ask = |page_token: &str, page_size| v1::ListRecordsRequest {
        parent: "tenants/shop".into(),
        page_size,
        page_token: page_token.into(),
        ..Default::default()
    };
    let page = application.records().list_records(ask("", 1)).await.unwrap().into_inner();
    let token = page.next_page_token;
    let page = application.records().list_records(ask(&token, 2)).await.unwrap().into_inner();
    assert_eq!(page.records.len(), 2, "another size is the same query");
    let forged = {
        let last = if token.ends_with('0') { "1" } else { "0" };
        format!("{}{last}", &token[..token.len() - 1])
    };
    live.furnish("other").await;
    let mut other_query = vec![
        v1::ListRecordsRequest { parent: "tenants/other".into(), ..ask(&token, 1) },
        v1::ListRecordsRequest { purpose: "catering".into(), ..ask(&token, 1) },
        v1::ListRecordsRequest { schema: "tenants/shop/schemas/customer".into(), ..ask(&token, 1) },
        v1::ListRecordsRequest {
            read_mask: Some(prost_types::FieldMask { paths: vec!["city".into()] }),
            ..ask(&token, 1)
        },
    ];
    other_query.extend([ask(&forged, 1), ask("canary", 1), ask(&"0".repeat(5000), 1)]);
    for (n, request) in other_query.into_iter().enumerate() {
        let status = application.records().list_records(request).await.unwrap_err();
        assert_eq!((status.code(), violated(&status)), bad_token(), "{n}");
        assert!(!format!("{status:?}").contains(CANARY));
    }
    let status = clerk.records().list_records(ask(&token, 1)).await.unwrap_err();
    assert_eq!((status.code(), violated(&status)), bad_token(), "of another caller");
    let schemas = v1::ListSchemasRequest {
        parent: "tenants/shop".into(),
        page_token: token.clone(),
        ..Default::default()
    };
    let status = application.schemas().list_schemas(schemas).await.unwrap_err();
    assert_eq!((status.code(), violated(&status)), bad_token(), "of another method");
    let status = application.records().list_records(ask("", -1)).await.unwrap_err();
    assert_eq!(violated(&status), ["page_size"]);

    live.pass(Duration::from_secs(3590));
    assert!(application.records().list_records(ask(&token, 1)).await.is_ok());
    live.pass(Duration::from_secs(20));
    let status = application.records().list_records(ask(&token, 1)).await.unwrap_err();
    assert_eq!((status.code(), violated(&status)), bad_token(), "expired");
    let page = application.records().list_records(ask("", 1)).await.unwrap().into_inner();
    live.restart().await;
    let application = live.client("application").await;
    let status = application.records().list_records(ask(&page.next_page_token, 1)).await;
    assert_eq!(violated(&status.unwrap_err()), ["page_token"], "of before the restart");
}

fn bad_token() -> (Code, Vec<String>) {
    (Code::InvalidArgument, own(&["page_token"]))
}

/// Sends bytes as they are.
#[derive(Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        use prost::bytes::BufMut;
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, _: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        Ok(Some(()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_no_message_are_refused_and_not_repeated() {
    let live = Live::start().await;
    let channel = live.channel("operator").await;
    for message in [
        // `tenant_id` that is not UTF-8, a length past the end, a tag of no wire type, a varint without an end, a key
        // that is too large.
        b"\x0a\x08canary\xff\xfe".to_vec(),
        b"\x0a\x7fcanary".to_vec(),
        b"\x0fcanary".to_vec(),
        vec![0xff; 20],
        b"\xf2\xf2\xf2\xf2\xf2\x72".to_vec(),
    ] {
        let mut grpc = tonic::client::Grpc::new(channel.clone());
        grpc.ready().await.unwrap();
        let path = "/lethe.v1.TenantService/CreateTenant".parse().unwrap();
        let outcome = grpc.unary(tonic::Request::new(message), path, Raw).await;
        let status = outcome.expect_err("it was accepted");
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::InvalidArgument, "UNREADABLE")
        );
        let fixed = "the request is not a protobuf message of this method";
        assert_eq!(status.message(), fixed, "{status:?}");
        assert!(!format!("{status:?}").contains(CANARY), "{status:?}");
    }
    live.furnish("shop").await;
}

//! Retention over the wire: rights, bad input, and what people see.

use std::time::Duration;

use lethe::client::Client;
use lethe::clock::{Clock, UnixMillis};
use lethe::proto::v1;
use lethe::proto::v1::value::Kind;
use prost_types::{FieldMask, Timestamp};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::live::Live;

const TENANT: &str = "tenants/a";
const TYPE: &str = "tenants/a/schemas/visit";

async fn furnish(live: &Live) {
    let operator = live.client("operator").await;
    for id in ["a", "b"] {
        let request = v1::CreateTenantRequest { tenant_id: id.into(), tenant: None };
        operator.tenants().create_tenant(request).await.unwrap();
    }
    let field = |name: &str, kind: v1::FieldKind| v1::Field {
        name: name.into(),
        kind: kind.into(),
        classification: v1::Classification::General.into(),
        ..Default::default()
    };
    let schema = v1::Schema {
        fields: vec![field("city", v1::FieldKind::Text), field("ended", v1::FieldKind::Date)],
        retention: Some(v1::schema::Retention::RetainFor("P1D".into())),
        ..Default::default()
    };
    let request = v1::CreateSchemaRequest {
        parent: TENANT.into(),
        schema_id: "visit".into(),
        schema: Some(schema),
    };
    operator.schemas().create_schema(request).await.unwrap();
}

async fn put(client: &Client) -> v1::Record {
    let city = v1::Value { kind: Some(Kind::StringValue("Ulm".into())) };
    let record = v1::Record {
        schema: TYPE.into(),
        fields: [("city".to_owned(), city)].into(),
        ..Default::default()
    };
    let request = v1::CreateRecordRequest {
        parent: TENANT.into(),
        record: Some(record),
        request_id: String::new(),
    };
    client.records().create_record(request).await.unwrap().into_inner().record.unwrap()
}

fn policy(
    id: &str,
    change: impl FnOnce(&mut v1::RetentionPolicy),
) -> v1::CreateRetentionPolicyRequest {
    let mut policy =
        v1::RetentionPolicy { start: v1::RetentionStart::Creation.into(), ..Default::default() };
    change(&mut policy);
    v1::CreateRetentionPolicyRequest {
        parent: TENANT.into(),
        retention_policy_id: id.into(),
        retention_policy: Some(policy),
    }
}

/// The code, and the field that the first violation names.
fn told(status: &Status) -> (Code, String) {
    let details = status.get_error_details();
    let field = details.bad_request().map(|b| b.field_violations[0].field.clone());
    let failed = details.precondition_failure().map(|p| p.violations[0].subject.clone());
    (status.code(), field.or(failed).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_are_made_seen_changed_and_followed() {
    let live = Live::start().await;
    furnish(&live).await;
    let (officer, app) = (live.client("privacy-officer").await, live.client("application").await);
    let record = put(&app).await;
    let made = officer
        .retention()
        .create_retention_policy(policy("law", |p| {
            (p.minimum, p.legal_basis) = ("P1M".into(), "HGB 257".into());
            p.time_zone = "europe/berlin".into();
        }))
        .await
        .unwrap()
        .into_inner()
        .retention_policy
        .unwrap();
    assert_eq!((made.time_zone.as_str(), made.etag.as_str()), ("Europe/Berlin", "1"));
    for _ in 0..500 {
        let mut service = officer.retention();
        let status = service.get_retention_status(v1::GetRetentionStatusRequest {}).await;
        if status.unwrap().into_inner().rebucketing.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let ask = v1::ExplainRetentionRequest { name: record.name.clone() };
    let explained = app.retention().explain_retention(ask.clone()).await.unwrap().into_inner();
    assert_eq!(explained.expire_date, explained.present_expire_date);
    let deciding: Vec<_> = explained.lines.iter().filter(|l| l.decides).collect();
    assert_eq!(deciding.len(), 1);
    assert_eq!(deciding[0].rule, "tenants/a/retentionPolicies/law");
    assert_eq!(deciding[0].effect(), v1::RetentionEffect::Minimum);
    assert_eq!(deciding[0].legal_basis, "HGB 257");
    // Only the parts that the mask names change.
    let change = v1::RetentionPolicy {
        name: made.name.clone(),
        minimum: "P2M".into(),
        etag: made.etag.clone(),
        ..Default::default()
    };
    let update_mask = Some(FieldMask { paths: vec!["minimum".into()] });
    let request = v1::UpdateRetentionPolicyRequest { retention_policy: Some(change), update_mask };
    let changed = officer.retention().update_retention_policy(request.clone()).await.unwrap();
    let changed = changed.into_inner().retention_policy.unwrap();
    assert_eq!((changed.minimum.as_str(), changed.legal_basis.as_str()), ("P2M", "HGB 257"));
    let stale = officer.retention().update_retention_policy(request).await.unwrap_err();
    assert_eq!(stale.code(), Code::Aborted, "the etag is the older one");
    let list = v1::ListRetentionPoliciesRequest { parent: TENANT.into(), ..Default::default() };
    let all = officer.retention().list_retention_policies(list).await.unwrap().into_inner();
    assert_eq!(all.retention_policies, [changed]);

    let day = |n: i64| {
        let at = UnixMillis(live.clock.now().0 + n * 86_400_000);
        lethe::vault::calendar::format_iso_date(at.day()).unwrap()
    };
    let preview = |date: String| v1::PreviewRetentionRequest {
        parent: TENANT.into(),
        date,
        page_token: String::new(),
    };
    let soon = officer.retention().preview_retention(preview(day(3))).await.unwrap();
    assert!(soon.into_inner().forecasts.iter().all(|f| f.record_count == f.staying_count));
    let later = officer.retention().preview_retention(preview(day(80))).await.unwrap().into_inner();
    let sum: u64 = later.forecasts.iter().map(|f| f.record_count).sum();
    assert_eq!((sum, later.forecasts[0].without_basis_count), (1, 0));
    let past = officer.retention().preview_retention(preview(day(-1))).await.unwrap_err();
    assert_eq!(told(&past), (Code::InvalidArgument, "date".into()));

    let (name, etag) = (made.name, String::new());
    let request = v1::DeleteRetentionPolicyRequest { name, etag };
    officer.retention().delete_retention_policy(request).await.unwrap();
    live.pass(Duration::from_secs(3 * 86_400));
    let run = v1::RunRetentionRequest { dry_run: false };
    // The record is on its way back to its earlier day; then it is due.
    for _ in 0..500 {
        officer.retention().run_retention(run).await.unwrap();
        let read = v1::GetRecordRequest { name: record.name.clone(), ..Default::default() };
        if app.records().get_record(read).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let read = v1::GetRecordRequest { name: record.name.clone(), ..Default::default() };
    let gone = app.records().get_record(read).await.unwrap_err();
    assert_eq!(gone.get_error_details().error_info().unwrap().reason, "ERASED");
    let gone = app.retention().explain_retention(ask).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
}

/// Whoever is bound to one tenant does not hear of another's work.
#[tokio::test(flavor = "multi_thread")]
async fn the_status_names_no_tenant_that_the_caller_is_not_bound_to() {
    let live = Live::start().await;
    furnish(&live).await;
    let officer = live.client("privacy-officer").await;
    let pause = v1::PauseRebucketingRequest { parent: TENANT.into() };
    officer.retention().pause_rebucketing(pause).await.unwrap();
    let request = policy("short", |p| p.period = "P1D".into());
    officer.retention().create_retention_policy(request).await.unwrap();
    let mut seen = Vec::new();
    for who in ["privacy-officer", "operator-a", "auditor"] {
        let mut service = live.client(who).await.retention();
        let status = service.get_retention_status(v1::GetRetentionStatusRequest {}).await.unwrap();
        seen.push(status.into_inner().rebucketing.len());
    }
    assert_eq!(seen, [1, 1, 1], "control");
    // The same work of tenant b.
    let operator = live.client("operator").await;
    let schema = v1::Schema {
        retention: Some(v1::schema::Retention::RetainFor("P1D".into())),
        fields: vec![v1::Field {
            name: "x".into(),
            kind: v1::FieldKind::Text.into(),
            classification: v1::Classification::General.into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let request = v1::CreateSchemaRequest {
        parent: "tenants/b".into(),
        schema_id: "theirs".into(),
        schema: Some(schema),
    };
    operator.schemas().create_schema(request).await.unwrap();
    let pause = v1::PauseRebucketingRequest { parent: "tenants/b".into() };
    officer.retention().pause_rebucketing(pause).await.unwrap();
    let mut request = policy("short", |p| p.period = "P1D".into());
    request.parent = "tenants/b".into();
    officer.retention().create_retention_policy(request).await.unwrap();
    for (who, want) in [("privacy-officer", 2), ("operator-a", 1)] {
        let mut service = live.client(who).await.retention();
        let status = service.get_retention_status(v1::GetRetentionStatusRequest {}).await.unwrap();
        assert_eq!(status.into_inner().rebucketing.len(), want, "{who}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_rules_are_refused_with_their_field() {
    let live = Live::start().await;
    furnish(&live).await;
    let officer = live.client("privacy-officer").await;
    let tried = |request: v1::CreateRetentionPolicyRequest| {
        let mut service = officer.retention();
        async move { told(&service.create_retention_policy(request).await.unwrap_err()) }
    };
    let invalid = |field: &str| (Code::InvalidArgument, format!("retention_policy.{field}"));
    let both = policy("x", |p| (p.minimum, p.maximum) = ("P3Y".into(), "P2Y".into()));
    assert_eq!(tried(both).await, invalid("minimum"));
    let zone = policy("x", |p| (p.period, p.time_zone) = ("P3Y".into(), "Mars/Base".into()));
    assert_eq!(tried(zone).await, invalid("time_zone"));
    let none = policy("x", |p| (p.period, p.start) = ("P3Y".into(), 0));
    assert_eq!(tried(none).await, invalid("start"));
    let bad = policy("Not A Slug", |p| p.period = "P3Y".into());
    assert_eq!(tried(bad).await, (Code::InvalidArgument, "retention_policy_id".into()));
    let foreign = policy("x", |p| {
        (p.period, p.schemas) = ("P3Y".into(), vec!["tenants/b/schemas/visit".into()]);
    });
    assert_eq!(tried(foreign).await, invalid("schemas[0]"));
    let unknown = policy("x", |p| {
        (p.period, p.schemas) = ("P3Y".into(), vec!["tenants/a/schemas/nothing".into()]);
    });
    let conflict = (Code::FailedPrecondition, "retention_policy.schemas".to_owned());
    assert_eq!(tried(unknown).await, conflict);
    let mut missing = policy("x", |_| ());
    missing.retention_policy = None;
    assert_eq!(tried(missing).await, (Code::InvalidArgument, "retention_policy".into()));
    let mask = v1::UpdateRetentionPolicyRequest {
        retention_policy: Some(v1::RetentionPolicy {
            name: "tenants/a/retentionPolicies/x".into(),
            ..Default::default()
        }),
        update_mask: Some(FieldMask { paths: vec!["etag".into()] }),
    };
    let refused = officer.retention().update_retention_policy(mask).await.unwrap_err();
    assert_eq!(told(&refused), (Code::InvalidArgument, "update_mask.paths[0]".into()));
    let date = v1::PreviewRetentionRequest {
        parent: TENANT.into(),
        date: "tomorrow".into(),
        page_token: String::new(),
    };
    let refused = officer.retention().preview_retention(date).await.unwrap_err();
    assert_eq!(told(&refused), (Code::InvalidArgument, "date".into()));
    let off = Timestamp { seconds: live.clock.now().0 / 1_000 - 3_600, nanos: 0 };
    let refused = officer
        .retention()
        .confirm_clock(v1::ConfirmClockRequest { time: Some(off) })
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let empty = officer.retention().confirm_clock(v1::ConfirmClockRequest { time: None }).await;
    assert_eq!(told(&empty.unwrap_err()), (Code::InvalidArgument, "time".into()));
}

/// Each call by each identity, for tenant a, tenant b, or the vault; y: not refused for want of a right.
#[tokio::test(flavor = "multi_thread")]
async fn every_call_needs_its_right() {
    let live = Live::start().await;
    furnish(&live).await;
    // application, support, operator, privacy-officer, auditor; then application-a, operator-a, privacy-officer-a.
    const WHO: [&str; 8] = [
        "application",
        "support",
        "operator",
        "privacy-officer",
        "auditor",
        "application-a",
        "operator-a",
        "privacy-officer-a",
    ];
    let expected = [
        ("create a", "nnnynnny"),
        ("create b", "nnnynnnn"),
        ("list a", "nnyyynyy"),
        ("list b", "nnyyynnn"),
        ("preview a", "nnyyynyy"),
        ("explain a", "yynynyny"),
        ("status", "nnyyynyy"),
        ("run", "nnyynnnn"),
        ("pause a", "nnnynnny"),
        ("resume b", "nnnynnnn"),
        ("confirm", "nnyynnnn"),
    ];
    for (call, cells) in expected {
        for (who, want) in WHO.iter().zip(cells.chars()) {
            let mut service = live.client(who).await.retention();
            let (verb, tenant) = call.split_once(' ').unwrap_or((call, "a"));
            let parent = format!("tenants/{tenant}");
            let outcome = match verb {
                "create" => {
                    let mut request = policy("x", |_| ());
                    // Refused for what it says, but only after the right was found.
                    request.parent = parent;
                    service.create_retention_policy(request).await.map(drop)
                }
                "list" => {
                    let request = v1::ListRetentionPoliciesRequest { parent, ..Default::default() };
                    service.list_retention_policies(request).await.map(drop)
                }
                "preview" => {
                    let (date, page_token) = ("2999-01-01".into(), String::new());
                    let request = v1::PreviewRetentionRequest { parent, date, page_token };
                    service.preview_retention(request).await.map(drop)
                }
                "explain" => {
                    let name = format!("{parent}/records/0c7e8a7e-5a6d-4c3b-9a1f-1f2e3d4c5b6a");
                    service.explain_retention(v1::ExplainRetentionRequest { name }).await.map(drop)
                }
                "status" => {
                    let request = v1::GetRetentionStatusRequest {};
                    service.get_retention_status(request).await.map(drop)
                }
                "run" => {
                    let request = v1::RunRetentionRequest { dry_run: true };
                    service.run_retention(request).await.map(drop)
                }
                "pause" => {
                    let request = v1::PauseRebucketingRequest { parent };
                    service.pause_rebucketing(request).await.map(drop)
                }
                "resume" => {
                    let request = v1::ResumeRebucketingRequest { parent };
                    service.resume_rebucketing(request).await.map(drop)
                }
                _ => {
                    let seconds = live.clock.now().0 / 1_000;
                    let time = Some(Timestamp { seconds, nanos: 0 });
                    service.confirm_clock(v1::ConfirmClockRequest { time }).await.map(drop)
                }
            };
            let allowed = !matches!(&outcome, Err(e) if e.code() == Code::PermissionDenied);
            assert_eq!(allowed, want == 'y', "{call} by {who}: {outcome:?}");
        }
    }
}

//! Steps 35 to 40: retention policies, what follows from them, and the vault's own state.

use std::collections::BTreeSet;

use lethe::proto::admin;
use lethe::vault::calendar::{format_iso_date, parse_iso_date};
use prost_types::Timestamp;

use super::*;
use crate::live::reason;

const DAY_SECS: i64 = 86_400;

/// What the steps hand on.
struct Kept {
    first: v1::RetentionPolicy,
    law: v1::RetentionPolicy,
    /// A record.
    name: String,
    expire_date: String,
}

pub(super) async fn steps_35_to_40(story: &mut Story) {
    let first = policies(story).await;
    let law = part_of_a_policy(story, &first).await;
    let record = explain_and_preview(story, &law).await;
    let (name, expire_date) = (record.name, record.expire_date);
    let mut kept = Kept { first, law, name, expire_date };
    pause_and_resume(story, &mut kept).await;
    status_run_clock(story).await;
    delete(story, &kept).await;
}

fn now_millis() -> i64 {
    SystemClock.now().0
}

fn at(millis: i64) -> Timestamp {
    let nanos = i32::try_from(millis.rem_euclid(1_000)).unwrap() * 1_000_000;
    Timestamp { seconds: millis.div_euclid(1_000), nanos }
}

fn is_near(time: Option<&Timestamp>) -> bool {
    time.is_some_and(|t| (t.seconds - now_millis() / 1_000).abs() < 60)
}

/// Days since 1970.
fn day(iso: &str) -> i32 {
    parse_iso_date(iso).unwrap().0
}

fn is_a_year_later(from: &str, to: &str) -> bool {
    [365, 366].contains(&(day(to) - day(from)))
}

fn law(story: &Story) -> v1::RetentionPolicy {
    v1::RetentionPolicy {
        schemas: vec![story.schema()],
        start: v1::RetentionStart::Creation.into(),
        minimum: "P2Y".into(),
        legal_basis: "tax law".into(),
        ..Default::default()
    }
}

fn law_name(story: &Story) -> String {
    format!("{}/retentionPolicies/law", story.parent())
}

async fn create(
    story: &Story,
    client: &Client,
    id: &str,
    policy: v1::RetentionPolicy,
) -> Result<v1::RetentionPolicy, Status> {
    let request = v1::CreateRetentionPolicyRequest {
        parent: story.parent(),
        retention_policy_id: id.into(),
        retention_policy: Some(policy),
    };
    let made = client.retention().create_retention_policy(request).await?;
    Ok(made.into_inner().retention_policy.unwrap())
}

async fn update(
    client: &Client,
    policy: v1::RetentionPolicy,
    paths: &[&str],
) -> Result<v1::RetentionPolicy, Status> {
    let request = v1::UpdateRetentionPolicyRequest {
        retention_policy: Some(policy),
        update_mask: mask(paths),
    };
    let now = client.retention().update_retention_policy(request).await?;
    Ok(now.into_inner().retention_policy.unwrap())
}

async fn get(story: &Story) -> Result<v1::RetentionPolicy, Status> {
    let request = v1::GetRetentionPolicyRequest { name: law_name(story) };
    let got = story.officer.retention().get_retention_policy(request).await?;
    Ok(got.into_inner().retention_policy.unwrap())
}

async fn list(story: &Story, client: &Client) -> Result<Vec<v1::RetentionPolicy>, Status> {
    let request = v1::ListRetentionPoliciesRequest { parent: story.parent(), ..Default::default() };
    let page = client.retention().list_retention_policies(request).await?.into_inner();
    assert_eq!(page.next_page_token, "");
    Ok(page.retention_policies)
}

/// Step 35.
async fn policies(story: &mut Story) -> v1::RetentionPolicy {
    let (officer, application) = (story.officer.clone(), story.application.clone());
    let made = create(story, &officer, "law", law(story)).await.unwrap();
    assert!(!made.etag.is_empty() && is_near(made.update_time.as_ref()), "step 35");
    let expected = v1::RetentionPolicy {
        name: law_name(story),
        // What no zone stands for.
        time_zone: "UTC".into(),
        etag: made.etag.clone(),
        update_time: made.update_time,
        ..law(story)
    };
    assert_eq!(made, expected, "step 35");
    assert_eq!(get(story).await.unwrap(), made, "step 35");
    let again = create(story, &officer, "law", law(story)).await;
    story.refused(35, again, Code::AlreadyExists, &[]);
    let odd = |minimum: &str, maximum: &str, period: &str| v1::RetentionPolicy {
        start: v1::RetentionStart::Creation.into(),
        minimum: minimum.into(),
        maximum: maximum.into(),
        period: period.into(),
        ..Default::default()
    };
    let none = format!("{}/schemas/none", story.parent());
    let of_none = v1::RetentionPolicy { schemas: vec![none], ..law(story) };
    let (invalid, failed) = (Code::InvalidArgument, Code::FailedPrecondition);
    for (policy, code, field, told) in [
        (odd("P3Y", "P1Y", ""), invalid, "retention_policy.minimum", ""),
        (odd("", "", "canary"), invalid, "retention_policy.period", ""),
        (odd("", "P1Y", ""), failed, "retention_policy.maximum", "law"),
        (of_none, failed, "retention_policy.schemas", ""),
    ] {
        let refused = create(story, &officer, "odd", policy).await;
        let status = story.refused(35, refused, code, &[field]);
        let details = status.get_error_details();
        let failures = details.precondition_failure().into_iter().flat_map(|p| &p.violations);
        let described: Vec<&str> = failures.map(|v| v.description.as_str()).collect();
        assert_eq!(described.len(), usize::from(code == failed), "step 35");
        assert!(described.iter().all(|d| d.contains(told)), "step 35: {described:?}");
    }
    let denied = create(story, &application, "odd", law(story)).await;
    story.refused(35, denied, Code::PermissionDenied, &[]);
    let denied = list(story, &application).await;
    story.refused(35, denied, Code::PermissionDenied, &[]);
    assert_eq!(list(story, &officer).await.unwrap(), std::slice::from_ref(&made), "step 35");
    made
}

/// Step 36.
async fn part_of_a_policy(story: &mut Story, first: &v1::RetentionPolicy) -> v1::RetentionPolicy {
    let (officer, application) = (story.officer.clone(), story.application.clone());
    let name = law_name(story);
    let part = |etag: &str| v1::RetentionPolicy {
        name: name.clone(),
        etag: etag.into(),
        legal_basis: "trade law".into(),
        ..Default::default()
    };
    let changed = update(&officer, part(&first.etag), &["legal_basis"]).await.unwrap();
    assert_ne!(changed.etag, first.etag, "step 36");
    let expected = v1::RetentionPolicy {
        legal_basis: "trade law".into(),
        etag: changed.etag.clone(),
        update_time: changed.update_time,
        ..first.clone()
    };
    assert_eq!(changed, expected, "step 36");
    let stale = update(&officer, part(&first.etag), &["legal_basis"]).await;
    let stale = story.refused(36, stale, Code::Aborted, &[]);
    assert_eq!(reason(&stale), "ETAG_MISMATCH", "step 36");
    let unknown = update(&officer, part(""), &["legal_basis", "canary"]).await;
    story.refused(36, unknown, Code::InvalidArgument, &["update_mask.paths[1]"]);
    let denied = update(&application, part(""), &["legal_basis"]).await;
    story.refused(36, denied, Code::PermissionDenied, &[]);
    assert_eq!(get(story).await.unwrap(), changed, "step 36");
    changed
}

async fn explain(client: &Client, name: &str) -> Result<v1::ExplainRetentionResponse, Status> {
    let request = v1::ExplainRetentionRequest { name: name.into() };
    Ok(client.retention().explain_retention(request).await?.into_inner())
}

async fn status(client: &Client) -> Result<v1::GetRetentionStatusResponse, Status> {
    let request = v1::GetRetentionStatusRequest {};
    Ok(client.retention().get_retention_status(request).await?.into_inner())
}

/// What the status says of the story's type.
async fn rebucketing(story: &Story) -> Option<v1::RebucketingState> {
    let states = status(&story.officer).await.unwrap().rebucketing;
    states.into_iter().find(|state| state.schema == story.schema())
}

/// A preview over all its pages, its parts added up by type and day.
async fn preview(
    story: &Story,
    client: &Client,
    date: &str,
) -> Result<BTreeMap<(String, String), v1::RetentionForecast>, Status> {
    let (mut sums, mut page_token) = (BTreeMap::new(), String::new());
    for _ in 0..1_000 {
        let (parent, date) = (story.parent(), date.to_owned());
        let request = v1::PreviewRetentionRequest { parent, date, page_token };
        let page = client.retention().preview_retention(request).await?.into_inner();
        for part in page.forecasts {
            let sum = sums.entry((part.schema.clone(), part.expire_date.clone())).or_insert(
                v1::RetentionForecast {
                    schema: part.schema,
                    expire_date: part.expire_date,
                    ..Default::default()
                },
            );
            sum.record_count += part.record_count;
            sum.staying_count += part.staying_count;
            sum.held_count += part.held_count;
            sum.without_basis_count += part.without_basis_count;
            sum.damaged_count += part.damaged_count;
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(sums);
        }
    }
    panic!("a preview without an end");
}

/// Waits until every record of the tenant is in the bucket that the rules want.
async fn settle(story: &Story, step: u8) {
    let began = Instant::now();
    loop {
        let mut are_there = rebucketing(story).await.is_none();
        for record in story.pages(&story.tenant, 1_000).await.iter().flatten() {
            let told = explain(&story.application, &record.name).await.unwrap();
            are_there &= told.expire_date == told.present_expire_date;
        }
        if are_there {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "step {step}: records are not moved");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Step 37.
async fn explain_and_preview(story: &mut Story, law: &v1::RetentionPolicy) -> v1::Record {
    let (officer, application) = (story.officer.clone(), story.application.clone());
    let record = story.put(&[("email", "keep@example.org")]).await;
    let told = explain(&application, &record.name).await.unwrap();
    let [by_schema, by_law] = told.lines.as_slice() else { panic!("step 37: {told:?}") };
    let said = |line: &v1::RetentionLine| {
        (line.rule.clone(), line.effect(), line.decides, line.legal_basis.clone())
    };
    let of_schema = (story.schema(), v1::RetentionEffect::Period, false, String::new());
    assert_eq!(said(by_schema), of_schema, "step 37");
    let of_law = (law.name.clone(), v1::RetentionEffect::Minimum, true, "trade law".to_owned());
    assert_eq!(said(by_law), of_law, "step 37");
    assert!(is_a_year_later(&by_schema.end_date, &by_law.end_date), "step 37: {told:?}");
    for line in &told.lines {
        // The day is over when the next one begins.
        let over = Timestamp { seconds: i64::from(day(&line.end_date) + 1) * DAY_SECS, nanos: 0 };
        assert_eq!(line.due_time, Some(over), "step 37");
    }
    for date in [&told.expire_date, &told.present_expire_date, &record.expire_date] {
        assert_eq!(*date, by_law.end_date, "step 37");
    }
    let denied = explain(&story.operator, &record.name).await;
    story.refused(37, denied, Code::PermissionDenied, &[]);
    let nobody = format!("{}/records/00000000-0000-4000-8000-000000000000", story.parent());
    let unknown = explain(&application, &nobody).await;
    let unknown = story.refused(37, unknown, Code::NotFound, &[]);
    assert_eq!(reason(&unknown), "NOT_FOUND", "step 37");
    settle(story, 37).await;

    let past = preview(story, &officer, "2000-01-01").await;
    story.refused(37, past, Code::InvalidArgument, &["date"]);
    let today = format_iso_date(SystemClock.now().day()).unwrap();
    assert!(preview(story, &officer, &today).await.unwrap().is_empty(), "step 37");
    let sums = preview(story, &officer, &record.expire_date).await.unwrap();
    let mut count = 0;
    for ((schema, _), sum) in sums {
        count += sum.record_count;
        let beside =
            [sum.staying_count, sum.held_count, sum.without_basis_count, sum.damaged_count];
        assert_eq!((schema, beside), (story.schema(), [0; 4]), "step 37");
    }
    assert!(count > 5, "step 37: {count}");
    assert_eq!(count, story.count().await as u64, "step 37");
    let denied = preview(story, &application, &record.expire_date).await;
    story.refused(37, denied, Code::PermissionDenied, &[]);
    record
}

/// Step 38.
async fn pause_and_resume(story: &mut Story, kept: &mut Kept) {
    let (officer, parent) = (story.officer.clone(), story.parent());
    let request = v1::PauseRebucketingRequest { parent: parent.clone() };
    let paused = officer.retention().pause_rebucketing(request).await.unwrap().into_inner();
    assert!(!paused.unfinished, "step 38");
    let name = kept.law.name.clone();
    let longer = v1::RetentionPolicy { name, minimum: "P3Y".into(), ..Default::default() };
    kept.law = update(&officer, longer, &["minimum"]).await.unwrap();
    assert!(rebucketing(story).await.is_some_and(|state| state.paused), "step 38");
    let told = explain(&story.application, &kept.name).await.unwrap();
    assert_eq!(told.present_expire_date, kept.expire_date, "step 38");
    assert!(is_a_year_later(&kept.expire_date, &told.expire_date), "step 38: {told:?}");
    let sums = preview(story, &officer, &kept.expire_date).await.unwrap();
    let staying = &sums[&(story.schema(), kept.expire_date.clone())];
    assert!(staying.record_count > 0, "step 38");
    assert_eq!(staying.staying_count, staying.record_count, "step 38");
    let request = v1::ResumeRebucketingRequest { parent };
    let resumed = officer.retention().resume_rebucketing(request).await.unwrap().into_inner();
    assert!(resumed.unfinished, "step 38");
    settle(story, 38).await;
    let moved = explain(&story.application, &kept.name).await.unwrap();
    assert_eq!(moved.present_expire_date, told.expire_date, "step 38");
}

/// Step 39.
async fn status_run_clock(story: &mut Story) {
    let (officer, application) = (story.officer.clone(), story.application.clone());
    let run = async |client: &Client| {
        let ran = client.retention().run_retention(v1::RunRetentionRequest { dry_run: true }).await;
        ran.map(tonic::Response::into_inner)
    };
    let confirm = async |client: &Client, millis: i64| {
        let request = v1::ConfirmClockRequest { time: Some(at(millis)) };
        client.retention().confirm_clock(request).await.map(tonic::Response::into_inner)
    };
    let told = status(&officer).await.unwrap();
    assert_eq!(told.clock_state(), v1::ClockState::Sound, "step 39");
    assert!(is_near(told.due_by_time.as_ref()), "step 39: {told:?}");
    assert!(told.sweep_interval_seconds > 0 && told.due_bucket_count == 0, "step 39: {told:?}");
    assert_eq!(run(&officer).await.unwrap(), v1::RunRetentionResponse::default(), "step 39");
    let confirmed = confirm(&officer, now_millis()).await.unwrap();
    assert!(is_near(confirmed.due_by_time.as_ref()), "step 39: {confirmed:?}");
    let ahead = confirm(&officer, now_millis() + 3_600_000).await;
    story.refused(39, ahead, Code::FailedPrecondition, &[]);
    let denied = status(&application).await;
    story.refused(39, denied, Code::PermissionDenied, &[]);
    let denied = run(&application).await;
    story.refused(39, denied, Code::PermissionDenied, &[]);
    let denied = confirm(&application, now_millis()).await;
    story.refused(39, denied, Code::PermissionDenied, &[]);
}

/// Step 40.
async fn delete(story: &mut Story, kept: &Kept) {
    let (officer, application) = (story.officer.clone(), story.application.clone());
    let delete = async |client: &Client, etag: &str| {
        let name = kept.law.name.clone();
        let request = v1::DeleteRetentionPolicyRequest { name, etag: etag.into() };
        client.retention().delete_retention_policy(request).await
    };
    let stale = delete(&officer, &kept.first.etag).await;
    let stale = story.refused(40, stale, Code::Aborted, &[]);
    assert_eq!(reason(&stale), "ETAG_MISMATCH", "step 40");
    let denied = delete(&application, "").await;
    story.refused(40, denied, Code::PermissionDenied, &[]);
    delete(&officer, &kept.law.etag).await.unwrap();
    let gone = get(story).await;
    story.refused(40, gone, Code::NotFound, &[]);
    let again = delete(&officer, "").await;
    story.refused(40, again, Code::NotFound, &[]);
    assert!(list(story, &officer).await.unwrap().is_empty(), "step 40");
    let told = explain(&application, &kept.name).await.unwrap();
    let lines: Vec<_> = told.lines.iter().map(|l| (l.rule.clone(), l.decides)).collect();
    assert_eq!(lines, [(story.schema(), true)], "step 40");

    let all = admin::ListAuditEntriesRequest { parent: story.parent(), ..Default::default() };
    let entries = log::listed_entries(story, all).await.unwrap();
    let by_officer = entries.iter().filter(|e| e.role == "privacy-officer");
    let methods: BTreeSet<&str> = by_officer.map(|e| e.method.as_str()).collect();
    let policies = ["CreateRetentionPolicy", "UpdateRetentionPolicy", "GetRetentionPolicy"];
    let more = ["ListRetentionPolicies", "DeleteRetentionPolicy", "PreviewRetention"];
    let last = ["PauseRebucketing", "ResumeRebucketing"];
    for method in policies.into_iter().chain(more).chain(last) {
        assert!(methods.contains(method), "step 40: {method}");
    }
    let explained = entries.iter().filter(|e| e.method == "ExplainRetention");
    let by: BTreeSet<_> = explained.map(|e| (e.role.clone(), e.schema.clone())).collect();
    assert_eq!(by, BTreeSet::from([("application".to_owned(), story.schema())]), "step 40");
}

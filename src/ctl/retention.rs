//! `lethectl retention`: what follows from the rules, and how the vault keeps to them.
//!
//! Guarantees: what cannot be undone is shown first and needs `--yes` or an answer; a look changes nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use prost_types::Timestamp;
use serde_json::{Value as Json, json};

use super::cli::{Cli, EraseArgs, Reason};
use super::error::CtlError;
use super::names::{RecordName, TenantName, last};
use super::output::{Out, note, time};
use super::retention_policy::{self, PolicyCommand};
use super::tenant::{PAGES_MAX, short_name};
use super::{Done, connect, erase};
use crate::client::{Client, read};
use crate::clock::{Clock, SystemClock};
use crate::proto::v1::{
    ClockState, ConfirmClockRequest, ExplainRetentionRequest, GetRetentionStatusRequest,
    PauseRebucketingRequest, PreviewRetentionRequest, ResumeRebucketingRequest, RetentionForecast,
    RunRetentionRequest,
};

#[derive(Debug, Subcommand)]
pub enum RetentionCommand {
    /// The rules of a tenant
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// What each rule says of a record, and which of them decides
    Explain {
        /// `tenants/{tenant}/records/{uuid}`
        name: RecordName,
    },
    /// Count what will go by the end of a day, and what has no end; changes nothing
    Preview {
        #[arg(long)]
        tenant: TenantName,
        /// `2030-12-31`, UTC; today or later
        #[arg(long, value_name = "DATE")]
        at: String,
    },
    /// Erase what is due now, of all tenants, without waiting for the next sweep
    Run(RunArgs),
    /// How sweeps, the vault's clock and the work after changed rules are doing
    Status,
    /// Stop bringing a tenant's records to other buckets after its rules changed
    Pause {
        #[arg(long)]
        tenant: TenantName,
    },
    /// Go on with it
    Resume {
        #[arg(long)]
        tenant: TenantName,
    },
    /// Tell the vault that its clock is right, after it was off for long or was set; looks at this machine's clock too
    ConfirmClock,
}

#[derive(Debug, Args)]
pub struct RunArgs {
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// Show what would go and stop
    #[arg(long, conflicts_with = "yes")]
    pub dry_run: bool,
    /// Save the signed receipts as JSON
    #[arg(long, value_name = "FILE")]
    pub receipt: Option<PathBuf>,
}

pub(super) async fn run(
    cli: &Cli,
    command: &RetentionCommand,
    out: &mut Out,
) -> Result<Done, CtlError> {
    if let RetentionCommand::Policy(command) = command {
        return retention_policy::run(cli, command, out).await;
    }
    let client = &connect(cli).await?;
    match command {
        RetentionCommand::Policy(_) => Ok(Done::Wholly),
        RetentionCommand::Explain { name } => explain(client, name, out).await,
        RetentionCommand::Preview { tenant, at } => preview(client, tenant, at, out).await,
        RetentionCommand::Run(args) => sweep(client, args, out).await,
        RetentionCommand::Status => status(client, out).await,
        RetentionCommand::Pause { tenant } => {
            let request = PauseRebucketingRequest { parent: tenant.to_string() };
            let answer = client.retention().pause_rebucketing(request).await;
            let left = answer.map_err(CtlError::call("pause"))?.into_inner().unfinished;
            out.json(&json!({ "paused": true, "unfinished": left }))?;
            let rest = if left { "records are left to move" } else { "nothing was under way" };
            out.line(&format!("paused; {rest}. Go on with: lethectl retention resume"))?;
            Ok(Done::Wholly)
        }
        RetentionCommand::Resume { tenant } => {
            let request = ResumeRebucketingRequest { parent: tenant.to_string() };
            let answer = client.retention().resume_rebucketing(request).await;
            let left = answer.map_err(CtlError::call("go on"))?.into_inner().unfinished;
            out.json(&json!({ "paused": false, "unfinished": left }))?;
            let rest = if left { "records are being moved" } else { "nothing is left to do" };
            out.line(rest)?;
            Ok(Done::Wholly)
        }
        RetentionCommand::ConfirmClock => {
            let now = SystemClock.now().0;
            let time_here = Timestamp {
                seconds: now.div_euclid(1_000),
                // Below a second.
                nanos: i32::try_from(now.rem_euclid(1_000) * 1_000_000).unwrap_or_default(),
            };
            let request = ConfirmClockRequest { time: Some(time_here) };
            let answer = client.retention().confirm_clock(request).await;
            let due = answer.map_err(CtlError::call("confirm the clock"))?.into_inner().due_by_time;
            out.json(&json!({ "due_by_time": time(due.as_ref()) }))?;
            out.line(&format!("the vault goes by {} now", time(due.as_ref())))?;
            Ok(Done::Wholly)
        }
    }
}

async fn explain(client: &Client, name: &RecordName, out: &mut Out) -> Result<Done, CtlError> {
    let answer = read(|| {
        let (mut service, name) = (client.retention(), name.to_string());
        async move { service.explain_retention(ExplainRetentionRequest { name }).await }
    });
    let told = answer.await.map_err(CtlError::call("explain the record's retention"))?;
    let effect = |n: i32| {
        let known = crate::proto::v1::RetentionEffect::try_from(n).unwrap_or_default();
        short_name(known.as_str_name(), "RETENTION_EFFECT_")
    };
    let lines = told.lines.iter().map(|l| {
        json!({
            "rule": l.rule,
            "effect": effect(l.effect),
            "end_date": l.end_date,
            "due_time": time(l.due_time.as_ref()),
            "decides": l.decides,
            "legal_basis": l.legal_basis,
        })
    });
    out.json(&json!({
        "expire_date": told.expire_date,
        "present_expire_date": told.present_expire_date,
        "lines": lines.collect::<Vec<_>>(),
    }))?;
    out.pairs(&[("gone by", or_open(&told.expire_date))])?;
    if told.present_expire_date != told.expire_date {
        let present = or_open(&told.present_expire_date);
        out.line(&format!("it is still in the bucket of {present}, and is moved"))?;
    }
    let rows = told.lines.iter().map(|l| {
        vec![
            if l.decides { "→".to_owned() } else { String::new() },
            last(&l.rule).to_owned(),
            effect(l.effect),
            or_open(&l.end_date),
            time(l.due_time.as_ref()),
            l.legal_basis.clone(),
        ]
    });
    out.table(&["", "RULE", "EFFECT", "LAST DAY", "OVER AT", "LEGAL BASIS"], rows.collect())?;
    Ok(Done::Wholly)
}

fn or_open(day: &str) -> String {
    if day.is_empty() { "open-ended".to_owned() } else { day.to_owned() }
}

async fn preview(
    client: &Client,
    tenant: &TenantName,
    at: &str,
    out: &mut Out,
) -> Result<Done, CtlError> {
    // Parts of one type and day are added up.
    let mut all = BTreeMap::<(String, String), RetentionForecast>::new();
    let (mut page_token, mut unfinished) = (String::new(), true);
    for page in 0..PAGES_MAX {
        let (parent, date) = (tenant.to_string(), at.to_owned());
        let request = PreviewRetentionRequest { parent, date, page_token };
        let part = read(|| {
            let (mut service, request) = (client.retention(), request.clone());
            async move { service.preview_retention(request).await }
        });
        let part = part.await.map_err(CtlError::call("preview the retention"))?;
        for f in part.forecasts {
            let key = (f.schema.clone(), f.expire_date.clone());
            let sum = all.entry(key).or_default();
            sum.record_count += f.record_count;
            sum.staying_count += f.staying_count;
            sum.held_count += f.held_count;
            sum.without_basis_count += f.without_basis_count;
            sum.damaged_count += f.damaged_count;
        }
        page_token = part.next_page_token;
        if page_token.is_empty() {
            unfinished = false;
            break;
        }
        if page % 10 == 9 {
            let looked: u64 = all.values().map(|f| f.record_count).sum();
            note(&format!("{looked} records looked at"));
        }
    }
    let json = all.iter().map(|((schema, day), f)| {
        json!({
            "schema": schema,
            "expire_date": day,
            "record_count": f.record_count,
            "staying_count": f.staying_count,
            "held_count": f.held_count,
            "without_basis_count": f.without_basis_count,
            "damaged_count": f.damaged_count,
        })
    });
    let json: Vec<Json> = json.collect();
    out.json(&json!({ "date": at, "forecasts": json, "unfinished": unfinished }))?;
    let rows = all.iter().map(|((schema, day), f)| {
        let goes = match day.as_str() {
            "" => 0,
            _ => f.record_count.saturating_sub(f.staying_count + f.held_count),
        };
        vec![
            last(schema).to_owned(),
            or_open(day),
            f.record_count.to_string(),
            goes.to_string(),
            f.staying_count.to_string(),
            f.held_count.to_string(),
            f.without_basis_count.to_string(),
            f.damaged_count.to_string(),
        ]
    });
    let head = ["TYPE", "DAY", "RECORDS", "GO", "MOVE ON", "HELD", "NO LEGAL BASIS", "DAMAGED"];
    out.table(&head, rows.collect())?;
    Ok(if unfinished { Done::Partly } else { Done::Wholly })
}

async fn sweep(client: &Client, args: &RunArgs, out: &mut Out) -> Result<Done, CtlError> {
    let look = client.retention().run_retention(RunRetentionRequest { dry_run: true }).await;
    let look = look.map_err(CtlError::call("look at what is due"))?.into_inner();
    let plan = look.runs.iter().map(|r| {
        let going = r.record_count.saturating_sub(r.staying_count);
        format!("{}  {going} records that were due on {}", r.schema, r.expire_date)
    });
    let plan: Vec<String> = plan.collect();
    if plan.is_empty() {
        out.json(&json!({ "dry_run": args.dry_run, "would_erase": [], "receipts": [] }))?;
        out.line("nothing is due")?;
        return Ok(Done::Wholly);
    }
    let RunArgs { yes, dry_run, receipt } = args;
    let (yes, dry_run, receipt) = (*yes, *dry_run, receipt.clone());
    let how = EraseArgs { reason: Reason::Retention, yes, dry_run, receipt };
    let Some(permission) = erase::permission(&plan, &how, out)? else {
        return Ok(Done::Wholly);
    };
    let done = client.retention().run_retention(RunRetentionRequest { dry_run: false }).await;
    let done = done.map_err(CtlError::call("erase what is due"))?.into_inner();
    if done.failed_bucket_count > 0 {
        note(&format!(
            "{} buckets that are due could not be erased; the daemon's log says why, and it tries again",
            done.failed_bucket_count
        ));
    }
    let receipts: Vec<_> = done.runs.into_iter().filter_map(|r| r.receipt).collect();
    if receipts.is_empty() {
        out.json(&json!({ "receipts": [] }))?;
        out.line("the daemon had erased it meanwhile")?;
    } else {
        erase::report((receipts, Vec::new()), permission, out)?;
    }
    Ok(if done.failed_bucket_count > 0 { Done::Partly } else { Done::Wholly })
}

async fn status(client: &Client, out: &mut Out) -> Result<Done, CtlError> {
    let answer = read(|| {
        let mut service = client.retention();
        async move { service.get_retention_status(GetRetentionStatusRequest {}).await }
    });
    let s = answer.await.map_err(CtlError::call("get the retention's status"))?;
    let clock = short_name(s.clock_state().as_str_name(), "CLOCK_STATE_");
    let rebucketing = s
        .rebucketing
        .iter()
        .map(|r| json!({ "schema": r.schema, "percent": r.percent, "paused": r.paused }));
    out.json(&json!({
        "due_by_time": time(s.due_by_time.as_ref()),
        "clock_state": clock,
        "last_sweep_time": time(s.last_sweep_time.as_ref()),
        "sweep_interval_seconds": s.sweep_interval_seconds,
        "due_bucket_count": s.due_bucket_count,
        "closed_bucket_count": s.closed_bucket_count,
        "closed_record_count": s.closed_record_count,
        "erased_bucket_count": s.erased_bucket_count,
        "erased_record_count": s.erased_record_count,
        "lateness_p50_millis": s.lateness_p50_millis,
        "lateness_p99_millis": s.lateness_p99_millis,
        "rebucketing": rebucketing.collect::<Vec<_>>(),
        "hold_count": s.hold_count,
        "postponed_erasure_count": s.postponed_erasure_count,
    }))?;
    out.pairs(&[
        ("due if over by", time(s.due_by_time.as_ref())),
        ("clock", clock),
        ("last sweep", time(s.last_sweep_time.as_ref())),
        ("a sweep every", format!("{} s", s.sweep_interval_seconds)),
        ("due now", format!("{} buckets", s.due_bucket_count)),
        ("closed", format!("{} buckets, {} records", s.closed_bucket_count, s.closed_record_count)),
        (
            "erased since the start",
            format!("{} buckets, {} records", s.erased_bucket_count, s.erased_record_count),
        ),
        (
            "legal holds",
            format!("{}, and {} erasures wait for them", s.hold_count, s.postponed_erasure_count),
        ),
        ("late by", format!("p50 {} ms, p99 {} ms", s.lateness_p50_millis, s.lateness_p99_millis)),
    ])?;
    let advice = match s.clock_state() {
        ClockState::Ahead => {
            "the machine's clock was set forward: the vault goes by its own count of time. If the clock is right now, \
             run: lethectl retention confirm-clock"
        }
        ClockState::Behind => {
            "the machine's clock was set back: nothing is due before it says so too. Set it right, or if it is right, \
             run: lethectl retention confirm-clock"
        }
        ClockState::Unconfirmed => {
            "the machine's clock is far ahead of when the vault last ran: nothing is erased until someone looks at it \
             and runs: lethectl retention confirm-clock"
        }
        ClockState::Sound | ClockState::Unspecified => "",
    };
    if !advice.is_empty() {
        out.line(&format!("warning: {advice}"))?;
    }
    if !s.rebucketing.is_empty() {
        let rows = s.rebucketing.iter().map(|r| {
            let state = if r.paused { "paused" } else { "under way" };
            vec![r.schema.clone(), format!("{} %", r.percent), state.to_owned()]
        });
        out.table(&["MOVING TO NEW BUCKETS", "DONE", ""], rows.collect())?;
    }
    Ok(Done::Wholly)
}

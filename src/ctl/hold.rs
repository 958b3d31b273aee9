//! `lethectl hold`: what may not be erased, and what waits for that.
//!
//! Guarantees: releasing a hold can lead to erasures, so it is shown first what waits for it, and it needs `--yes` or
//! an answer; values of a query are read from a file or from standard input and never from the command line.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value as Json, json};

use super::cli::Cli;
use super::error::CtlError;
use super::files::{can_ask, read_line, read_text};
use super::names::{HoldName, RecordName, SubjectName, TenantName, TypeName, last};
use super::output::{Out, note, safe, stamp, time};
use super::tenant::{PAGES_MAX, short_name};
use super::value::from_json;
use super::{Done, connect};
use crate::client::{Client, once, read, request_id};
use crate::proto::v1::hold::Scope;
use crate::proto::v1::{
    GetHoldRequest, Hold, HoldQuery, HoldReader, ListHoldsRequest, ListPostponedErasuresRequest,
    PlaceHoldRequest, PostponedErasure, ReleaseHoldRequest,
};
use crate::vault::calendar::parse_iso_date;
use crate::vault::retention::zone::end_in_utc;

#[derive(Debug, Subcommand)]
pub enum HoldCommand {
    /// Keep a record, all about a subject, or all records of a type with these values from being erased
    Place(Box<PlaceArgs>),
    /// Show a hold
    Get {
        /// `tenants/{tenant}/holds/{uuid}`
        name: HoldName,
    },
    /// List the holds of a tenant
    List {
        #[arg(long)]
        tenant: TenantName,
        /// Also those that ended in the last three years
        #[arg(long)]
        all: bool,
    },
    /// End a hold; erasures that wait for it alone are then carried out
    Release {
        /// `tenants/{tenant}/holds/{uuid}`
        name: HoldName,
        /// Why it ends
        #[arg(long)]
        note: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// Show which erasures wait for it and stop
        #[arg(long, conflicts_with = "yes")]
        dry_run: bool,
    },
    /// List the erasures of a tenant that wait for holds to end
    Postponed {
        #[arg(long)]
        tenant: TenantName,
    },
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("scope").required(true))]
pub struct PlaceArgs {
    /// `tenants/{tenant}/records/{uuid}`
    #[arg(long, group = "scope")]
    record: Option<RecordName>,
    /// `tenants/{tenant}/subjects/{uuid}`: the subject, and every record about it
    #[arg(long, group = "scope")]
    subject: Option<SubjectName>,
    /// Records of this type
    #[arg(long = "type", value_name = "TYPE", group = "scope", requires = "tenant")]
    schema: Option<TypeName>,
    /// The tenant of `--type`
    #[arg(long, requires = "schema")]
    tenant: Option<TenantName>,
    /// With `--type`: only records with all of these values, a JSON object of at most 8; `-` reads standard input
    #[arg(long, value_name = "FILE", requires = "schema")]
    fields: Option<PathBuf>,
    /// Why; name no person here
    #[arg(long)]
    reason: String,
    /// Who ordered it: a court, say
    #[arg(long, default_value = "")]
    issuer: String,
    /// A file number, say
    #[arg(long, default_value = "")]
    reference: String,
    /// The hold ends by itself after this day, `2030-12-31`, UTC
    #[arg(long, value_name = "DATE")]
    until: Option<String>,
    /// Who may read what is only kept because of the hold; the privacy officer if none is named
    #[arg(long = "reader", value_enum)]
    readers: Vec<Reader>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Reader {
    Application,
    Support,
    PrivacyOfficer,
}

pub(super) async fn run(cli: &Cli, command: &HoldCommand, out: &mut Out) -> Result<Done, CtlError> {
    match command {
        HoldCommand::Place(args) => {
            let (tenant, hold) = asked(args)?;
            place(&connect(cli).await?, &tenant, hold, out).await
        }
        HoldCommand::Get { name } => {
            show(&get(&connect(cli).await?, name).await?, out)?;
            Ok(Done::Wholly)
        }
        HoldCommand::List { tenant, all } => list(&connect(cli).await?, tenant, *all, out).await,
        HoldCommand::Release { name, note, yes, dry_run } => {
            let client = &connect(cli).await?;
            if !permission(client, name, *yes, *dry_run, out).await? {
                return Ok(Done::Wholly);
            }
            let request = ReleaseHoldRequest { name: name.to_string(), note: note.clone() };
            let answer = client.holds().release_hold(request).await;
            let ended = answer.map_err(CtlError::call("release the hold"))?.into_inner().hold;
            show(&ended.ok_or(CtlError::Answer("the hold"))?, out)?;
            Ok(Done::Wholly)
        }
        HoldCommand::Postponed { tenant } => {
            let client = &connect(cli).await?;
            let (waiting, unfinished) = postponed(client, tenant).await?;
            let json: Vec<Json> = waiting.iter().map(postponed_json).collect();
            out.json(&json!({ "postponed": json, "unfinished": unfinished }))?;
            let rows = waiting.iter().map(|p| {
                let holds: Vec<&str> = p.holds.iter().map(|h| last(h)).collect();
                vec![p.name.clone(), time(p.request_time.as_ref()), holds.join(" ")]
            });
            out.table(&["TO ERASE", "ASKED FOR", "HELD BY"], rows.collect())?;
            Ok(if unfinished { Done::Partly } else { Done::Wholly })
        }
    }
}

/// The tenant and hold that the command line asks for.
fn asked(args: &PlaceArgs) -> Result<(TenantName, Hold), CtlError> {
    let (tenant, scope) = match (&args.record, &args.subject, &args.schema, &args.tenant) {
        (Some(name), ..) => (name.tenant().clone(), Scope::Record(name.to_string())),
        (_, Some(name), ..) => (name.tenant().clone(), Scope::Subject(name.to_string())),
        (_, _, Some(rtype), Some(tenant)) => {
            let schema = rtype.of(tenant);
            (tenant.clone(), Scope::Query(HoldQuery { schema, fields: fields(args)? }))
        }
        _ => {
            return Err(CtlError::Usage {
                what: "nothing is named to hold".to_owned(),
                next: "give --record, --subject, or --type with --tenant",
            });
        }
    };
    let expire_time = args.until.as_deref().map(|text| {
        parse_iso_date(text).map(|day| stamp(end_in_utc(day))).ok_or(CtlError::Usage {
            what: "--until is no day".to_owned(),
            next: "write it as 2030-12-31",
        })
    });
    let readers = args.readers.iter().map(|reader| match reader {
        Reader::Application => HoldReader::Application.into(),
        Reader::Support => HoldReader::Support.into(),
        Reader::PrivacyOfficer => HoldReader::PrivacyOfficer.into(),
    });
    let hold = Hold {
        scope: Some(scope),
        reason: args.reason.clone(),
        issuer: args.issuer.clone(),
        reference: args.reference.clone(),
        expire_time: expire_time.transpose()?,
        readers: readers.collect(),
        ..Hold::default()
    };
    Ok((tenant, hold))
}

type Fields = std::collections::BTreeMap<String, crate::proto::v1::Value>;

fn fields(args: &PlaceArgs) -> Result<Fields, CtlError> {
    let Some(path) = &args.fields else { return Ok(Fields::new()) };
    let text = read_text(path)?;
    let wrong = |what: String| CtlError::Usage {
        what,
        next: "write one JSON object: {\"email\": \"someone@example.com\"}",
    };
    let json: Json = serde_json::from_str(&text).map_err(|e| {
        wrong(format!("--fields: line {}, column {}: not JSON", e.line(), e.column()))
    })?;
    let Json::Object(all) = &json else {
        return Err(wrong("--fields: not a JSON object".to_owned()));
    };
    let mut fields = Fields::new();
    for (name, value) in all {
        let value = from_json(value).map_err(|e| wrong(format!("--fields: {name} {e}")))?;
        let value = value.ok_or_else(|| wrong(format!("--fields: {name} has no value")))?;
        fields.insert(name.clone(), value);
    }
    Ok(fields)
}

async fn place(
    client: &Client,
    tenant: &TenantName,
    hold: Hold,
    out: &mut Out,
) -> Result<Done, CtlError> {
    let (parent, request_id) = (tenant.to_string(), request_id());
    let request = PlaceHoldRequest { parent, hold: Some(hold), request_id };
    let answer = once(|| {
        let (mut service, request) = (client.holds(), request.clone());
        async move { service.place_hold(request).await }
    });
    let placed = answer.await.map_err(CtlError::call("place the hold"))?.hold;
    show(&placed.ok_or(CtlError::Answer("the hold"))?, out)?;
    Ok(Done::Wholly)
}

async fn get(client: &Client, name: &HoldName) -> Result<Hold, CtlError> {
    let answer = read(|| {
        let (mut service, name) = (client.holds(), name.to_string());
        async move { service.get_hold(GetHoldRequest { name }).await }
    });
    let found = answer.await.map_err(CtlError::call("get the hold"))?.hold;
    found.ok_or(CtlError::Answer("the hold"))
}

async fn list(
    client: &Client,
    tenant: &TenantName,
    all: bool,
    out: &mut Out,
) -> Result<Done, CtlError> {
    let (mut found, mut page_token, mut unfinished) = (Vec::new(), String::new(), true);
    for _ in 0..PAGES_MAX {
        let (parent, page_size, show_ended) = (tenant.to_string(), 0, all);
        let request = ListHoldsRequest { parent, page_size, page_token, show_ended };
        let part = read(|| {
            let (mut service, request) = (client.holds(), request.clone());
            async move { service.list_holds(request).await }
        });
        let part = part.await.map_err(CtlError::call("list the holds"))?;
        found.extend(part.holds);
        page_token = part.next_page_token;
        if page_token.is_empty() {
            unfinished = false;
            break;
        }
    }
    let json: Vec<Json> = found.iter().map(hold_json).collect();
    out.json(&json!({ "holds": json, "unfinished": unfinished }))?;
    let rows = found.iter().map(|h| {
        vec![
            last(&h.name).to_owned(),
            scope(h),
            h.reason.clone(),
            h.reference.clone(),
            time(h.create_time.as_ref()),
            until(h),
        ]
    });
    let head = ["HOLD", "KEEPS", "REASON", "REFERENCE", "SINCE", "UNTIL"];
    out.table(&head, rows.collect())?;
    Ok(if unfinished { Done::Partly } else { Done::Wholly })
}

async fn postponed(
    client: &Client,
    tenant: &TenantName,
) -> Result<(Vec<PostponedErasure>, bool), CtlError> {
    let (mut found, mut page_token) = (Vec::new(), String::new());
    for _ in 0..PAGES_MAX {
        let (parent, page_size) = (tenant.to_string(), 0);
        let request = ListPostponedErasuresRequest { parent, page_size, page_token };
        let part = read(|| {
            let (mut service, request) = (client.holds(), request.clone());
            async move { service.list_postponed_erasures(request).await }
        });
        let part = part.await.map_err(CtlError::call("list the postponed erasures"))?;
        found.extend(part.postponed);
        page_token = part.next_page_token;
        if page_token.is_empty() {
            return Ok((found, false));
        }
    }
    Ok((found, true))
}

/// Shows what waits for a hold and asks; false after a dry run.
async fn permission(
    client: &Client,
    name: &HoldName,
    yes: bool,
    dry_run: bool,
    out: &mut Out,
) -> Result<bool, CtlError> {
    if yes {
        return Ok(true);
    }
    let hold = get(client, name).await?;
    let (waiting, _) = postponed(client, name.tenant()).await?;
    let full = name.to_string();
    let alone: Vec<&PostponedErasure> =
        waiting.iter().filter(|p| p.holds.iter().all(|h| *h == full)).collect();
    let plan = alone.iter().map(|p| p.name.clone());
    if dry_run {
        out.json(&json!({ "dry_run": true, "would_erase": plan.collect::<Vec<_>>() }))?;
        for p in alone {
            out.line(&format!("would be erased: {}", safe(&p.name)))?;
        }
        return Ok(false);
    }
    if !can_ask() {
        return Err(CtlError::Usage {
            what: "nobody is there to confirm the release".to_owned(),
            next: "pass --yes, or --dry-run to see which erasures wait for the hold",
        });
    }
    note(&format!("will release {}: {}", full, safe(&hold.reason)));
    plan.for_each(|name| note(&format!("will be erased: {}", safe(&name))));
    let answer = read_line("Erasures cannot be undone. Type release to go on:")?;
    if answer.trim() == "release" { Ok(true) } else { Err(CtlError::Declined) }
}

fn scope(hold: &Hold) -> String {
    match &hold.scope {
        Some(Scope::Record(name)) => format!("record {}", last(name)),
        Some(Scope::Subject(name)) => format!("subject {}", last(name)),
        Some(Scope::Query(query)) if query.fields.is_empty() => last(&query.schema).to_owned(),
        Some(Scope::Query(query)) => {
            let names: Vec<&str> = query.fields.keys().map(String::as_str).collect();
            format!("{} by {}", last(&query.schema), names.join(", "))
        }
        None => String::new(),
    }
}

fn until(hold: &Hold) -> String {
    match (&hold.end_time, &hold.expire_time) {
        (Some(at), _) => format!("ended {}", time(Some(at))),
        (None, Some(at)) => time(Some(at)),
        (None, None) => "released".to_owned(),
    }
}

fn readers(hold: &Hold) -> Vec<String> {
    hold.readers().map(|reader| short_name(reader.as_str_name(), "HOLD_READER_")).collect()
}

fn hold_json(hold: &Hold) -> Json {
    let scope = match &hold.scope {
        Some(Scope::Record(name)) => json!({ "record": name }),
        Some(Scope::Subject(name)) => json!({ "subject": name }),
        Some(Scope::Query(query)) => {
            let fields: Vec<&String> = query.fields.keys().collect();
            json!({ "query": { "schema": query.schema, "fields": fields } })
        }
        None => Json::Null,
    };
    json!({
        "name": hold.name,
        "scope": scope,
        "reason": hold.reason,
        "issuer": hold.issuer,
        "reference": hold.reference,
        "expire_time": time(hold.expire_time.as_ref()),
        "readers": readers(hold),
        "create_time": time(hold.create_time.as_ref()),
        "creator": hold.creator,
        "end_time": time(hold.end_time.as_ref()),
        "releaser": hold.releaser,
        "release_note": hold.release_note,
    })
}

pub(super) fn postponed_json(postponed: &PostponedErasure) -> Json {
    json!({
        "name": postponed.name,
        "reason": short_name(postponed.reason().as_str_name(), "ERASURE_REASON_"),
        "request_time": time(postponed.request_time.as_ref()),
        "holds": postponed.holds,
    })
}

fn show(hold: &Hold, out: &mut Out) -> Result<(), CtlError> {
    out.json(&hold_json(hold))?;
    let mut pairs = vec![
        ("hold", hold.name.clone()),
        ("keeps", scope(hold)),
        ("reason", hold.reason.clone()),
        ("issuer", hold.issuer.clone()),
        ("reference", hold.reference.clone()),
        ("readers", readers(hold).join(", ")),
        ("placed", format!("{} by {}", time(hold.create_time.as_ref()), hold.creator)),
        ("until", until(hold)),
    ];
    if hold.end_time.is_some() {
        pairs.push(("released by", hold.releaser.clone()));
        pairs.push(("because", hold.release_note.clone()));
    }
    pairs.retain(|(_, value)| !value.is_empty());
    Ok(out.pairs(&pairs)?)
}

//! `lethectl certificate` and `lethectl verify certificate`: certificates of destruction, saved and checked.
//!
//! Guarantees: a file that is there is never written over; verification opens no connection and believes nothing but
//! the key and the checkpoint that are given; what does not hold is named.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::cli::Cli;
use super::error::CtlError;
use super::files::{EvidenceFile, read_text};
use super::log_cli::{KeyArgs, WitnessArgs};
use super::log_verify::{cosigned, open, open_file, refused};
use super::names::{TenantName, TypeName};
use super::output::{Out, time};
use super::receipt::{PublicKey, public_key};
use super::tenant::{PAGES_MAX, page_size, short_name};
use super::{Done, connect};
use crate::client::{Client, read};
use crate::crypto::checkpoint::{Checkpoint, ProofFile, ProofOf};
use crate::crypto::note::Note;
use crate::id::RecordId;
use crate::proto::v1::get_certificate_request::Unit;
use crate::proto::v1::{BucketUnit, GetCertificateRequest, ListCertificatesRequest};
use crate::vault::certificate::document::Document;
use crate::vault::certificate::verify::{Checked, Held, verify};
use crate::vault::certificate::{page, verify::Refusal};

#[derive(Debug, Subcommand)]
pub enum CertificateCommand {
    /// Save the certificate of something that was destroyed into a new file
    Get(GetArgs),
    /// List the buckets that were erased whole; each has a certificate
    List {
        #[arg(long)]
        tenant: TenantName,
        /// Only what was erased at this time or later, `2026-05-11T00:00:00Z`
        #[arg(long, value_name = "TIME", value_parser = moment)]
        since: Option<prost_types::Timestamp>,
        /// Only what was erased before this time
        #[arg(long, value_name = "TIME", value_parser = moment)]
        until: Option<prost_types::Timestamp>,
    },
}

#[derive(Debug, Args)]
pub struct GetArgs {
    #[arg(long)]
    pub tenant: TenantName,
    #[command(flatten)]
    pub unit: UnitArgs,
    /// With `--type`: the last day of the bucket, `2029-11-21`
    #[arg(long, value_name = "DATE", requires = "schema")]
    pub expires: Option<String>,
    /// A file that does not exist yet
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
    #[arg(long, value_enum, default_value_t = Form::Json)]
    pub format: Form,
    /// Have it proved to this checkpoint of the ledger, which is put into it with its cosignatures
    #[arg(long, value_name = "FILE")]
    pub checkpoint: Option<PathBuf>,
    /// Check it before it is saved: the vault's Ed25519 public key, 64 hex digits
    #[arg(long, value_name = "HEX", value_parser = public_key)]
    pub public_key: Option<PublicKey>,
}

/// What was destroyed.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct UnitArgs {
    /// A record, by its UUID
    #[arg(long, value_name = "UUID", value_parser = record_id)]
    pub record: Option<RecordId>,
    /// A subject, by its UUID
    #[arg(long, value_name = "UUID", value_parser = record_id)]
    pub subject: Option<RecordId>,
    /// Every record of a type that was to be kept until `--expires`
    #[arg(long = "type", value_name = "TYPE", requires = "expires")]
    pub schema: Option<TypeName>,
    /// The bucket that a leaf of the ledger is about (`lethectl certificate list`)
    #[arg(long, value_name = "INDEX")]
    pub leaf: Option<u64>,
}

/// How a certificate is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For programs
    Json,
    /// One file for people, to be read or printed; it can be verified too
    Html,
}

#[derive(Debug, Subcommand)]
pub enum VerifyCommand {
    /// Check a certificate of destruction, as JSON or HTML
    Certificate(VerifyArgs),
}

#[derive(Debug, Args)]
pub struct VerifyArgs {
    pub file: PathBuf,
    /// A checkpoint of the ledger that you have from elsewhere
    #[arg(long, value_name = "FILE")]
    pub checkpoint: PathBuf,
    /// `lethectl log prove consistency` between that and the certificate's, if they have different sizes
    #[arg(long, value_name = "FILE")]
    pub proof: Option<PathBuf>,
    /// The certificate must be about this record
    #[arg(long, value_name = "UUID", value_parser = record_id)]
    pub record: Option<RecordId>,
    #[command(flatten)]
    pub key: KeyArgs,
    #[command(flatten)]
    pub witnesses: WitnessArgs,
}

fn record_id(text: &str) -> Result<RecordId, &'static str> {
    RecordId::parse(text).ok_or("not a UUID in its lower-case form with hyphens")
}

fn moment(text: &str) -> Result<prost_types::Timestamp, &'static str> {
    text.parse().map_err(|_| "not a time of the form 2026-05-11T00:00:00Z")
}

pub(super) async fn run(
    cli: &Cli,
    command: &CertificateCommand,
    out: &mut Out,
) -> Result<Done, CtlError> {
    match command {
        CertificateCommand::Get(args) => get(cli, args, out).await,
        CertificateCommand::List { tenant, since, until } => {
            list(&connect(cli).await?, tenant, (*since, *until), out).await
        }
    }
}

fn unit(args: &GetArgs) -> Option<Unit> {
    let (tenant, unit) = (&args.tenant, &args.unit);
    let record = unit.record.map(|id| Unit::Record(format!("{tenant}/records/{id}")));
    let subject = || unit.subject.map(|id| Unit::Subject(format!("{tenant}/subjects/{id}")));
    let bucket = || {
        let (schema, expire_date) = (unit.schema.as_ref()?.of(tenant), args.expires.clone()?);
        Some(Unit::Bucket(BucketUnit { schema, expire_date }))
    };
    record.or_else(subject).or_else(bucket).or_else(|| unit.leaf.map(Unit::LeafIndex))
}

/// The checkpoint in a file, of which only the form is known.
fn unchecked(path: &Path) -> Result<(Checkpoint, String), CtlError> {
    let text = read_text(path)?;
    let wrong = |e: &dyn std::fmt::Display| refused(format!("{}: {e}", path.display()));
    let note = Note::parse(&text).map_err(|e| wrong(&e))?;
    let checkpoint = Checkpoint::parse(note.text()).map_err(|e| wrong(&e))?;
    Ok((checkpoint, text.as_str().to_owned()))
}

async fn get(cli: &Cli, args: &GetArgs, out: &mut Out) -> Result<Done, CtlError> {
    let held = args.checkpoint.as_deref().map(unchecked).transpose()?;
    let file = EvidenceFile::create(&args.to)?;
    let client = connect(cli).await?;
    let request = GetCertificateRequest {
        parent: args.tenant.to_string(),
        unit: unit(args),
        checkpoint_size: held.as_ref().map_or(0, |(checkpoint, _)| checkpoint.size),
    };
    let answer = read(|| {
        let (mut service, request) = (client.certificates(), request.clone());
        async move { service.get_certificate(request).await }
    });
    let text = answer.await.map_err(CtlError::call("get the certificate"))?.document;
    let parsed = Document::parse(&text);
    let mut document = parsed.map_err(|e| refused(format!("the vault's certificate: {e}")))?;
    if let Some((mine, text)) = held {
        let note = Note::parse(&document.checkpoint).map_err(|e| refused(e.to_string()))?;
        let theirs = Checkpoint::parse(note.text()).map_err(|e| refused(e.to_string()))?;
        if theirs != mine {
            let what = "the vault's ledger is another one than that of the checkpoint";
            return Err(refused(what));
        }
        document.checkpoint = text;
    }
    if let Some(key) = args.public_key {
        let (checkpoint, _) =
            open(&document.checkpoint, KeyArgs { public_key: key }, "the checkpoint")?;
        let checkpoint = &checkpoint;
        let record = args.unit.record;
        let held = Held { public_key: *key.bytes(), checkpoint, bridge: None, record };
        verify(&document, &held).map_err(not_held)?;
    }
    let written = match args.format {
        Form::Json => document.to_text(),
        Form::Html => page::page(&document),
    };
    file.write(&written.map_err(|e| refused(e.to_string()))?)?;
    let destroyed = &document.facts.destroyed;
    let shown = args.to.display().to_string();
    out.json(&json!({
        "file": shown,
        "verified": args.public_key.is_some(),
        "facts": document.facts,
    }))?;
    out.pairs(&[
        ("certificate of", destroyed.name.clone()),
        ("records", destroyed.records.to_string()),
        ("level", document.facts.erasure.level.clone()),
        ("done", document.facts.erasure.completed.clone()),
        ("level leaf", level_leaf(document.level_leaf.is_some()).to_owned()),
        ("in", shown),
    ])?;
    Ok(Done::Wholly)
}

fn level_leaf(there: bool) -> &'static str {
    match there {
        true => "in the ledger",
        false => {
            "none yet: get it again after the next erasure, or rely on the vault's signature for the level"
        }
    }
}

async fn list(
    client: &Client,
    tenant: &TenantName,
    (start_time, end_time): (Option<prost_types::Timestamp>, Option<prost_types::Timestamp>),
    out: &mut Out,
) -> Result<Done, CtlError> {
    let (mut all, mut page_token, mut whole) = (Vec::new(), String::new(), false);
    for _ in 0..PAGES_MAX {
        let request = ListCertificatesRequest {
            parent: tenant.to_string(),
            start_time,
            end_time,
            page_size: page_size(),
            page_token,
        };
        let answer = read(|| {
            let (mut service, request) = (client.certificates(), request.clone());
            async move { service.list_certificates(request).await }
        });
        let page = answer.await.map_err(CtlError::call("list the certificates"))?;
        all.extend(page.certificates);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            whole = true;
            break;
        }
    }
    let rows: Vec<[String; 8]> = all
        .iter()
        .map(|c| {
            [
                c.leaf_index.to_string(),
                super::names::last(&c.schema).to_owned(),
                c.expire_date.clone(),
                c.record_count.to_string(),
                short_name(c.reason().as_str_name(), "ERASURE_REASON_"),
                short_name(c.level().as_str_name(), "ERASURE_LEVEL_"),
                time(c.request_time.as_ref()),
                time(c.erase_time.as_ref()),
            ]
        })
        .collect();
    let keys =
        ["leaf_index", "type", "expire_date", "records", "reason", "level", "requested", "erased"];
    let objects = rows.iter().map(|row| {
        let pairs = keys.iter().zip(row).map(|(key, value)| ((*key).to_owned(), json!(value)));
        serde_json::Value::Object(pairs.collect())
    });
    out.json(&json!({ "certificates": objects.collect::<Vec<_>>(), "complete": whole }))?;
    let head = ["LEAF", "TYPE", "LAST DAY", "RECORDS", "REASON", "LEVEL", "DUE OR ASKED", "ERASED"];
    out.table(&head, rows.into_iter().map(Vec::from).collect())?;
    if !whole {
        out.line("there are more: narrow the time by --since and --until")?;
    }
    Ok(if whole { Done::Wholly } else { Done::Partly })
}

fn not_held(refusal: Refusal) -> CtlError {
    refused(format!("the certificate is refused: {refusal}"))
}

pub(super) fn run_verify(command: &VerifyCommand, out: &mut Out) -> Result<Done, CtlError> {
    let VerifyCommand::Certificate(args) = command;
    let text = read_text(&args.file)?;
    let (mine, note, _) = open_file(&args.checkpoint, args.key)?;
    let witnesses = cosigned(&note, &args.witnesses)?;
    let bridge = args.proof.as_deref().map(bridge).transpose()?;
    let document = page::read(&text);
    let document = document.map_err(|e| refused(format!("the certificate is refused: {e}")))?;
    let held = Held {
        public_key: *args.key.public_key.bytes(),
        checkpoint: &mine,
        bridge: bridge.as_ref().map(|proof| proof.path.as_slice()),
        record: args.record,
    };
    let checked = verify(&document, &held).map_err(not_held)?;
    report(&checked, &mine, &witnesses, out)
}

fn bridge(path: &Path) -> Result<ProofFile, CtlError> {
    let proof = ProofFile::parse(&read_text(path)?);
    let proof = proof.map_err(|e| refused(format!("{}: {e}", path.display())))?;
    match proof.about {
        ProofOf::Earlier(_) => Ok(proof),
        ProofOf::Entry(_) => Err(refused(format!("{} is no proof of consistency", path.display()))),
    }
}

fn report(
    checked: &Checked<'_>,
    mine: &Checkpoint,
    witnesses: &[String],
    out: &mut Out,
) -> Result<Done, CtlError> {
    let facts = checked.facts;
    let (destroyed, erasure) = (&facts.destroyed, &facts.erasure);
    out.json(&json!({
        "verified": true,
        "facts": facts,
        "level_in_ledger": checked.level_in_ledger,
        "ledger_size": mine.size,
        "witnesses": witnesses,
    }))?;
    let due = erasure.due.clone().unwrap_or_default();
    out.pairs(&[
        ("verified", destroyed.name.clone()),
        ("records", destroyed.records.to_string()),
        ("vault", facts.vault.name.clone()),
        ("due", due),
        ("requested", erasure.requested.clone()),
        ("removed", erasure.removed.clone()),
        ("done", erasure.completed.clone()),
        ("reason", erasure.reason.clone()),
        ("level", erasure.level.clone()),
        ("level leaf", level_leaf(checked.level_in_ledger).to_owned()),
        ("asked by", facts.asked_by.name.clone()),
        ("ledger", format!("{} leaves in your checkpoint", mine.size)),
        ("witnesses", witnesses.join(", ")),
    ])?;
    out.line("stated by the vault, and not proved by its ledger:")?;
    for line in &facts.sources.stated_by_vault {
        out.line(&format!("- {}", super::output::safe(line)))?;
    }
    out.line("not covered:")?;
    for line in &facts.not_covered {
        out.line(&format!("- {}", super::output::safe(line)))?;
    }
    Ok(Done::Wholly)
}

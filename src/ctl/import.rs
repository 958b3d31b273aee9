//! `lethectl record import`: a CSV file becomes records.
//!
//! Guarantees: a row that fails is named by line, field and reason, never by its value, and stops no other row; with a
//! key field a second import updates what changed and doubles nothing; what would fail every row stops the import at
//! once. At most [`FLIGHT_MAX`] calls are under way, so memory does not grow with the file.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use csv::{ByteRecord, Reader, ReaderBuilder, StringRecord};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use tokio::task::JoinSet;
use tonic::{Code, Status};

use super::cli::{Cli, ViewArgs};
use super::error::{CtlError, is_general, violations};
use super::files::{self, Peek};
use super::mapping::{Mapping, Plan, Row};
use super::names::TenantName;
use super::output::{Out, note, someone_watches};
use super::record::{find, mask};
use super::tenant::get_schema;
use super::{Done, connect, value};
use crate::client::{Client, once, request_id};
use crate::proto::code_name;
use crate::proto::v1::{CreateRecordRequest, Record, UpdateRecordRequest, Value};

/// Rows under way at once.
const FLIGHT_MAX: usize = 16;
/// Failures that are listed; all are counted.
const FAILURES_SHOWN_MAX: usize = 1_000;
/// Rows of one file: their keys are remembered to find doubles.
const ROWS_MAX: u64 = 5_000_000;

const NEXT_MAPPING: &str = "correct the mapping; examples/ in the sources shows two";

/// What became of one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Created,
    Updated,
    Unchanged,
}

/// One reason why a row did not go in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Failure {
    pub line: u64,
    pub field: String,
    pub reason: String,
}

/// What became of all rows so far.
#[derive(Default)]
pub(super) struct Tally {
    pub created: u64,
    updated: u64,
    unchanged: u64,
    failed: u64,
    /// Of an import that goes on: what was sent before.
    pub earlier: u64,
    failures: Vec<Failure>,
    /// What would fail every further row.
    pub stop: Option<Status>,
}

/// A data file and how it is read.
pub(super) struct Source {
    pub map: Mapping,
    pub plan: Plan,
    pub peek: Option<Peek>,
    pub size: u64,
}

impl Source {
    /// Reads the mapping, the file's header and the schema, and checks that they fit.
    pub async fn open(
        client: &Client,
        tenant: &TenantName,
        mapping: &Path,
        data: &Path,
    ) -> Result<(Self, Reader<File>), CtlError> {
        let unfit = |file: &Path, e: String| CtlError::Input {
            what: format!("{} does not fit: {e}", file.display()),
            next: NEXT_MAPPING,
        };
        let map = Mapping::parse(&files::read_text(mapping)?).map_err(|e| unfit(mapping, e))?;
        let (file, size) = files::open_data(data)?;
        let peek = files::Peek::of(&file);
        let mut reader = ReaderBuilder::new()
            .delimiter(map.delimiter)
            .flexible(true)
            .has_headers(false)
            .from_reader(file);
        let header = header(&mut reader).map_err(|e| unfit(data, e))?;
        let known = get_schema(client, &map.schema.of(tenant)).await?;
        let plan = map.plan(&known, &header).map_err(|e| unfit(mapping, e))?;
        Ok((Self { map, plan, peek, size }, reader))
    }
}

/// Where rows go.
struct Target {
    client: Client,
    parent: String,
    schema: String,
    key: Option<String>,
    purpose: String,
}

pub(super) async fn run(
    cli: &Cli,
    tenant: &TenantName,
    mapping: &Path,
    data: &Path,
    purpose: &str,
    out: &mut Out,
) -> Result<Done, CtlError> {
    let client = connect(cli).await?;
    let (source, reader) = Source::open(&client, tenant, mapping, data).await?;
    let target = Target {
        client,
        parent: tenant.to_string(),
        schema: source.map.schema.of(tenant),
        key: source.map.key.clone(),
        purpose: purpose.to_owned(),
    };
    let bar = progress(source.size, out);
    let tally = feed(reader, &source, Arc::new(target), &bar).await?;
    bar.finish_and_clear();
    report(tally, &source.plan, out)
}

/// The first row, without the byte order mark that some programs write.
fn header(reader: &mut Reader<File>) -> Result<StringRecord, String> {
    let mut header = StringRecord::new();
    match reader.read_record(&mut header) {
        Ok(true) => {
            let names = header.iter().map(|name| name.trim_start_matches('\u{feff}').trim());
            Ok(names.collect())
        }
        Ok(false) => Err("it is empty".to_owned()),
        Err(e) if matches!(e.kind(), csv::ErrorKind::Utf8 { .. }) => {
            Err("it is not UTF-8 text".to_owned())
        }
        Err(e) => Err(e.to_string()),
    }
}

pub(super) fn progress(size: u64, out: &Out) -> ProgressBar {
    let shown = !out.is_json() && someone_watches();
    let draw = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(size), draw);
    match ProgressStyle::with_template("{wide_bar} {percent}% {msg} left {eta}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Reads rows, keeps up to `FLIGHT_MAX` under way, and counts what became of them.
async fn feed(
    mut reader: Reader<File>,
    source: &Source,
    target: Arc<Target>,
    bar: &ProgressBar,
) -> Result<Tally, CtlError> {
    let mut tally = Tally::default();
    let mut keys = HashMap::new();
    let mut flight = JoinSet::new();
    let mut raw = ByteRecord::new();
    let mut rows = 0;
    while tally.stop.is_none() {
        let more = reader.read_byte_record(&mut raw).map_err(|e| CtlError::Input {
            what: format!("the data file cannot be read on: {e}"),
            next: "import it again when it can be read; rows that went in are updated, not doubled",
        })?;
        if !more {
            break;
        }
        rows += 1;
        if rows > ROWS_MAX {
            note(&format!("stopped after {ROWS_MAX} rows: split the file"));
            tally.stop = Some(Status::resource_exhausted("the file has too many rows"));
            break;
        }
        let line = line_of(&raw, source.peek.as_ref());
        bar.set_position(reader.position().byte());
        let key = target.key.as_deref().map(|key| (key, &mut keys));
        match prepare(&raw, line, &source.plan, key) {
            Ok(row) => {
                let target = Arc::clone(&target);
                flight.spawn(async move { (line, put(&target, row).await) });
            }
            Err(failure) => tally.fail(vec![failure]),
        }
        while flight.len() >= FLIGHT_MAX {
            land(flight.join_next().await, &mut tally);
        }
    }
    while let Some(landed) = flight.join_next().await {
        land(Some(landed), &mut tally);
    }
    Ok(tally)
}

/// The line on which a row begins. Of a CR LF the csv crate takes the LF with the row after it, so a row that stands
/// on an LF begins one line further down.
pub(super) fn line_of(raw: &ByteRecord, peek: Option<&Peek>) -> u64 {
    raw.position().map_or(0, |at| {
        at.line() + u64::from(peek.is_some_and(|file| file.is_line_feed(at.byte())))
    })
}

type Landed = Result<(u64, Result<Outcome, Status>), tokio::task::JoinError>;

fn land(landed: Option<Landed>, tally: &mut Tally) {
    match landed {
        Some(Ok((line, result))) => tally.count(line, result),
        Some(Err(_)) => tally.stop = Some(Status::internal("a row's task ended before its call")),
        None => {}
    }
}

/// Everything that can be told of a row without a call.
pub(super) fn prepare(
    raw: &ByteRecord,
    line: u64,
    plan: &Plan,
    key: Option<(&str, &mut HashMap<String, u64>)>,
) -> Result<Row, Failure> {
    let failed = |field: &str, reason: String| Failure { line, field: field.to_owned(), reason };
    let text = StringRecord::from_byte_record(raw.clone())
        .map_err(|_| failed("", "is not UTF-8 text".to_owned()))?;
    let row = plan.row(&text).map_err(|e| failed(&e.field, e.reason))?;
    let Some((key, keys)) = key else {
        return Ok(row);
    };
    let value = row.fields.get(key).map(value::to_text);
    let value = value.ok_or_else(|| failed(key, "is the key and has no value".to_owned()))?;
    match keys.entry(value) {
        Entry::Vacant(free) => {
            free.insert(line);
            Ok(row)
        }
        Entry::Occupied(taken) => {
            Err(failed(key, format!("repeats the key of line {}", taken.get())))
        }
    }
}

/// Creates the record, or updates the one that has the key already.
async fn put(target: &Target, row: Row) -> Result<Outcome, Status> {
    let request_id = request_id();
    let created = once(|| {
        let mut service = target.client.records();
        let record = Record {
            schema: target.schema.clone(),
            fields: row.fields.clone(),
            ..Record::default()
        };
        let request = CreateRecordRequest {
            parent: target.parent.clone(),
            record: Some(record),
            request_id: request_id.clone(),
        };
        async move { service.create_record(request).await }
    });
    let taken = match created.await {
        Ok(_) => return Ok(Outcome::Created),
        Err(status) if status.code() == Code::AlreadyExists => status,
        Err(status) => return Err(status),
    };
    let key = target.key.as_ref().and_then(|name| Some((name, row.fields.get(name)?)));
    let Some((name, value)) = key else {
        return Err(taken);
    };
    let view = ViewArgs { fields: row.spoken_of.clone(), purpose: target.purpose.clone() };
    let found = find(&target.client, &target.schema, name, value.clone(), &view).await;
    let present = match found {
        // Another unique field is the one that is taken.
        Ok(found) => found.records.into_iter().next().ok_or(taken)?,
        Err(CtlError::Call { status, .. }) => return Err(*status),
        Err(_) => return Err(taken),
    };
    let changed = changes(&row, &present.fields);
    if changed.is_empty() {
        return Ok(Outcome::Unchanged);
    }
    update(target, row, present, changed).await
}

async fn update(
    target: &Target,
    mut row: Row,
    present: Record,
    changed: Vec<String>,
) -> Result<Outcome, Status> {
    row.fields.retain(|name, _| changed.contains(name));
    let request_id = request_id();
    let updated = once(|| {
        let mut service = target.client.records();
        let record = Record {
            name: present.name.clone(),
            etag: present.etag.clone(),
            fields: row.fields.clone(),
            ..Record::default()
        };
        let request = UpdateRecordRequest {
            record: Some(record),
            update_mask: mask(&changed),
            request_id: request_id.clone(),
        };
        async move { service.update_record(request).await }
    });
    updated.await.map(|_| Outcome::Updated)
}

/// The fields that the row speaks of and that the record holds otherwise.
fn changes(row: &Row, present: &BTreeMap<String, Value>) -> Vec<String> {
    let differs = |name: &&String| row.fields.get(*name) != present.get(*name);
    row.spoken_of.iter().filter(differs).cloned().collect()
}

impl Tally {
    fn count(&mut self, line: u64, result: Result<Outcome, Status>) {
        match result {
            Ok(Outcome::Created) => self.created += 1,
            Ok(Outcome::Updated) => self.updated += 1,
            Ok(Outcome::Unchanged) => self.unchanged += 1,
            Err(status) => {
                self.fail(failures(line, &status));
                if is_general(status.code()) && self.stop.is_none() {
                    self.stop = Some(status);
                }
            }
        }
    }

    pub fn fail(&mut self, failures: Vec<Failure>) {
        self.failed += 1;
        let room = FAILURES_SHOWN_MAX.saturating_sub(self.failures.len());
        self.failures.extend(failures.into_iter().take(room));
    }

    fn rows(&self) -> u64 {
        self.created + self.updated + self.unchanged + self.failed
    }
}

fn failures(line: u64, status: &Status) -> Vec<Failure> {
    let named: Vec<_> = violations(status)
        .into_iter()
        .map(|v| {
            let field = v.field.strip_prefix("record.fields.").unwrap_or(&v.field).to_owned();
            Failure { line, field, reason: v.reason }
        })
        .collect();
    if !named.is_empty() {
        return named;
    }
    let reason = format!("{} ({})", status.message(), code_name(status.code()));
    vec![Failure { line, field: String::new(), reason }]
}

/// Keys: rows, created, updated, unchanged, failed, earlier, left_out, stopped, failures (line, field, reason).
pub(super) fn report(mut tally: Tally, plan: &Plan, out: &mut Out) -> Result<Done, CtlError> {
    tally.failures.sort();
    let list = tally.failures.iter();
    out.json(&json!({
        "rows": tally.rows(),
        "created": tally.created,
        "updated": tally.updated,
        "unchanged": tally.unchanged,
        "failed": tally.failed,
        "earlier": tally.earlier,
        "left_out": plan.left_out,
        "stopped": tally.stop.as_ref().map(|s| code_name(s.code())),
        "failures": list
            .map(|f| json!({ "line": f.line, "field": f.field, "reason": f.reason }))
            .collect::<Vec<_>>(),
    }))?;
    if !tally.failures.is_empty() {
        let rows = tally.failures.iter();
        let rows = rows.map(|f| vec![f.line.to_string(), f.field.clone(), f.reason.clone()]);
        out.table(&["LINE", "FIELD", "REASON"], rows.collect())?;
    }
    let rows = [
        ("created", tally.created),
        ("updated", tally.updated),
        ("unchanged", tally.unchanged),
        ("failed", tally.failed),
        ("all", tally.rows()),
    ];
    let rows = rows.iter().map(|(what, n)| vec![(*what).to_owned(), n.to_string()]);
    out.table(&["ROWS", "COUNT"], rows.collect())?;
    if tally.earlier > 0 {
        out.line(&format!("{} rows went in before this import was continued", tally.earlier))?;
    }
    if !plan.left_out.is_empty() {
        out.line(&format!("columns left out: {}", super::output::safe(&plan.left_out.join(", "))))?;
    }
    match tally.stop {
        Some(status) => Err(CtlError::call("import every row")(status)),
        None if tally.failed > 0 => Ok(Done::Partly),
        None => Ok(Done::Wholly),
    }
}

#[cfg(test)]
#[path = "import_tests.rs"]
mod tests;

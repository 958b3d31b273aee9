//! `lethectl record import --create-only`: a CSV file becomes new records, by one stream.
//!
//! Guarantees: what is stored once is not stored again, whatever broke off: the vault remembers the last chunk of an
//! import, and the state file which import it was and what was answered. A row that fails stops no other row. One chunk
//! is under way at a time, so memory does not grow with the file.

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};

use csv::{ByteRecord, Reader};
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::cli::Cli;
use super::error::{CtlError, is_broken};
use super::files::{read_text, replace};
use super::import::{Failure, Source, Tally, line_of, prepare, progress, report};
use super::names::TenantName;
use super::output::{Out, note};
use super::{Done, connect};
use crate::client::{Client, request_id};
use crate::limits::BATCH_CREATE_MAX;
use crate::proto::v1::import_records_request::Message;
use crate::proto::v1::{
    ImportChunk, ImportRecordsRequest, ImportRecordsResponse, ImportStart, Record,
};

/// How often in a row an import that broke off is taken up again without having moved.
const ATTEMPTS_MAX: u32 = 5;
/// Bytes of text after which a chunk ends; with names and framing it stays below the greatest message.
const CHUNK_BYTES: usize = 2 << 20;
const NEXT_STATE: &str =
    "name the data file that the import began with, or another state file to begin anew";

/// What a state file holds: enough to go on, nothing of a record.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    import_id: String,
    tenant: String,
    /// Size of the data file: another file would not go on where this one broke off.
    data_bytes: u64,
    /// Records that were sent and answered.
    answered: u64,
}

/// A state, and the file where it is kept if there is one.
struct Kept {
    state: State,
    path: Option<PathBuf>,
}

impl Kept {
    fn open(path: Option<&Path>, tenant: &TenantName, size: u64) -> Result<Self, CtlError> {
        let fresh = State {
            import_id: request_id(),
            tenant: tenant.to_string(),
            data_bytes: size,
            answered: 0,
        };
        let Some(path) = path else { return Ok(Self { state: fresh, path: None }) };
        let state = if path.exists() {
            let text = read_text(path)?;
            let unfit = |what: &str| CtlError::Input {
                what: format!("{} {what}", path.display()),
                next: NEXT_STATE,
            };
            let state: State =
                serde_json::from_str(&text).map_err(|_| unfit("is not the state of an import"))?;
            if state.tenant != fresh.tenant || state.data_bytes != size {
                return Err(unfit("is of another tenant or data file"));
            }
            state
        } else {
            fresh
        };
        let kept = Self { state, path: Some(path.to_owned()) };
        kept.save()?;
        Ok(kept)
    }

    fn save(&self) -> Result<(), CtlError> {
        let Some(path) = &self.path else { return Ok(()) };
        // A struct of text and numbers always serialises.
        let text = serde_json::to_string(&self.state).unwrap_or_default();
        replace(path, &text)
    }
}

/// One record on its way.
struct Row {
    line: u64,
    record: Record,
}

/// The stream of one connection.
struct Line {
    out: mpsc::Sender<ImportRecordsRequest>,
    answers: Streaming<ImportRecordsResponse>,
    /// What the vault had done when the line was opened.
    done: u64,
}

impl Line {
    async fn open(client: &Client, state: &State) -> Result<Self, Status> {
        let (out, messages) = mpsc::channel(1);
        let start =
            ImportStart { parent: state.tenant.clone(), import_id: state.import_id.clone() };
        let start = ImportRecordsRequest { message: Some(Message::Start(start)) };
        // The other half is held by the call below.
        let _ = out.send(start).await;
        let answer = client.streams().import_records(ReceiverStream::new(messages)).await?;
        let mut answers = answer.into_inner();
        let first = answers.message().await?;
        let first = first.ok_or_else(|| Status::unavailable("the import ended too early"))?;
        Ok(Self { out, answers, done: first.next_index })
    }

    async fn send(&mut self, chunk: ImportChunk) -> Result<ImportRecordsResponse, Status> {
        let chunk = ImportRecordsRequest { message: Some(Message::Chunk(chunk)) };
        // A line that is gone says why in its answer.
        let _ = self.out.send(chunk).await;
        let answer = self.answers.message().await?;
        answer.ok_or_else(|| Status::unavailable("the import ended too early"))
    }
}

/// The rows of a data file as records, in their order.
struct Rows<'a> {
    reader: Reader<File>,
    source: &'a Source,
    schema: String,
    bar: &'a ProgressBar,
    /// Read, but not in a chunk yet.
    waiting: VecDeque<Row>,
}

impl Rows<'_> {
    /// The next row that can be sent; those that cannot are counted.
    fn next(&mut self, tally: &mut Tally) -> Result<Option<Row>, CtlError> {
        if let Some(row) = self.waiting.pop_front() {
            return Ok(Some(row));
        }
        let mut raw = ByteRecord::new();
        loop {
            let more = self.reader.read_byte_record(&mut raw).map_err(|e| CtlError::Input {
                what: format!("the data file cannot be read on: {e}"),
                next: "import it again with the same --state when it can be read",
            })?;
            if !more {
                return Ok(None);
            }
            let line = line_of(&raw, self.source.peek.as_ref());
            self.bar.set_position(self.reader.position().byte());
            match prepare(&raw, line, &self.source.plan, None) {
                Ok(row) => {
                    let record = Record {
                        schema: self.schema.clone(),
                        fields: row.fields,
                        ..Record::default()
                    };
                    return Ok(Some(Row { line, record }));
                }
                Err(failure) => tally.fail(vec![failure]),
            }
        }
    }

    /// The next chunk: so many rows if `exactly` says so, else as many as are good.
    fn chunk(&mut self, exactly: Option<u64>, tally: &mut Tally) -> Result<Vec<Row>, CtlError> {
        let most = exactly.map_or(BATCH_CREATE_MAX, |n| {
            usize::try_from(n).unwrap_or(usize::MAX).min(BATCH_CREATE_MAX)
        });
        let (mut rows, mut bytes) = (Vec::new(), 0);
        while rows.len() < most {
            let Some(row) = self.next(tally)? else { break };
            bytes += prost::Message::encoded_len(&row.record);
            if exactly.is_none() && bytes > CHUNK_BYTES && !rows.is_empty() {
                self.waiting.push_front(row);
                break;
            }
            rows.push(row);
        }
        Ok(rows)
    }
}

pub(super) async fn run(
    cli: &Cli,
    tenant: &TenantName,
    (mapping, data): (&Path, &Path),
    state: Option<&Path>,
    out: &mut Out,
) -> Result<Done, CtlError> {
    let client = connect(cli).await?;
    let (source, reader) = Source::open(&client, tenant, mapping, data).await?;
    let mut kept = Kept::open(state, tenant, source.size)?;
    let bar = progress(source.size, out);
    let schema = source.map.schema.of(tenant);
    let mut rows = Rows { reader, source: &source, schema, bar: &bar, waiting: VecDeque::new() };
    let mut tally = Tally::default();
    // What an earlier run got answers for is counted by it, and not again.
    for _ in 0..kept.state.answered {
        if rows.next(&mut tally)?.is_none() {
            break;
        }
    }
    tally = Tally::default();
    tally.earlier = kept.state.answered;
    let stopped = feed(&client, &mut rows, &mut kept, &mut tally).await;
    bar.finish_and_clear();
    match stopped {
        Ok(()) => {}
        Err(Stop::Here(error)) => return Err(error),
        Err(Stop::Vault(status)) => {
            if kept.path.is_some() {
                note("the import can be continued: run the same command again");
            }
            tally.stop = Some(status);
        }
    }
    report(tally, &source.plan, out)
}

/// Why an import ended before its file did.
enum Stop {
    Here(CtlError),
    Vault(Status),
}

impl From<CtlError> for Stop {
    fn from(error: CtlError) -> Self {
        Self::Here(error)
    }
}

async fn feed(
    client: &Client,
    rows: &mut Rows<'_>,
    kept: &mut Kept,
    tally: &mut Tally,
) -> Result<(), Stop> {
    let mut line: Option<Line> = None;
    let mut chunk: Vec<Row> = Vec::new();
    let mut attempts = 1;
    loop {
        let outcome = match &mut line {
            None => Line::open(client, &kept.state).await.map(|opened| line = Some(opened)),
            Some(open) => {
                if chunk.is_empty() {
                    // A chunk of an earlier run whose answer was lost is sent again as it was.
                    let lost = open.done.checked_sub(kept.state.answered).filter(|n| *n > 0);
                    chunk = rows.chunk(lost, tally)?;
                }
                if chunk.is_empty() {
                    return Ok(());
                }
                let records = chunk.iter().map(|row| row.record.clone()).collect();
                let first_index = kept.state.answered;
                match open.send(ImportChunk { first_index, records }).await {
                    Ok(answer) => {
                        count(&answer, &chunk, first_index, tally);
                        kept.state.answered = answer.next_index;
                        kept.save()?;
                        open.done = answer.next_index;
                        chunk.clear();
                        attempts = 1;
                        Ok(())
                    }
                    Err(status) => Err(status),
                }
            }
        };
        if let Err(status) = outcome {
            line = None;
            attempts += 1;
            if !is_broken(&status) || attempts > ATTEMPTS_MAX {
                return Err(Stop::Vault(status));
            }
            tokio::time::sleep(std::time::Duration::from_millis(200 << attempts.min(4))).await;
        }
    }
}

fn count(answer: &ImportRecordsResponse, chunk: &[Row], first: u64, tally: &mut Tally) {
    tally.created += answer.names.iter().filter(|name| !name.is_empty()).count() as u64;
    for failure in &answer.failures {
        let at = usize::try_from(failure.index.saturating_sub(first)).unwrap_or(usize::MAX);
        let line = chunk.get(at).map_or(0, |row| row.line);
        let reasons = failure.violations.iter().map(|v| Failure {
            line,
            field: v.field.strip_prefix("fields.").unwrap_or(&v.field).to_owned(),
            reason: v.description.clone(),
        });
        tally.fail(reasons.collect());
    }
}

//! `lethectl audit tail`: entries as they come.
//!
//! Guarantees: what broke off is taken up again where it was, so that no entry is missing and none is printed twice; at
//! its end the command says from where to go on.

use super::Done;
use super::audit::{entry_json, row};
use super::error::{CtlError, is_broken};
use super::output::{Out, note, safe};
use crate::client::Client;
use crate::proto::admin::TailAuditEntriesRequest;

/// How often in a row a stream that broke off is taken up again without having moved.
const ATTEMPTS_MAX: u32 = 4;

pub(super) async fn tail(
    client: &Client,
    mut request: TailAuditEntriesRequest,
    limit: Option<usize>,
    out: &mut Out,
) -> Result<Done, CtlError> {
    let mut left = limit.unwrap_or(usize::MAX);
    let mut attempts = 1;
    loop {
        let from = request.start_index;
        let ended = follow(client, &mut request, &mut left, out).await?;
        if left == 0 {
            return Ok(Done::Wholly);
        }
        attempts = if request.start_index == from { attempts + 1 } else { 1 };
        // The vault ends a tail after an hour; that is no failure.
        let Err(status) = ended else { continue };
        if !is_broken(&status) || attempts > ATTEMPTS_MAX {
            if let Some(next) = request.start_index {
                note(&format!("go on with --follow-from {next}"));
            }
            return Err(CtlError::call("follow the audit log")(status));
        }
    }
}

/// Prints entries until the stream ends or there are enough.
async fn follow(
    client: &Client,
    request: &mut TailAuditEntriesRequest,
    left: &mut usize,
    out: &mut Out,
) -> Result<Result<(), tonic::Status>, CtlError> {
    let mut parts = match client.audit_streams().tail_audit_entries(request.clone()).await {
        Ok(answer) => answer.into_inner(),
        Err(status) => return Ok(Err(status)),
    };
    loop {
        let part = match parts.message().await {
            Ok(Some(part)) => part,
            Ok(None) => return Ok(Ok(())),
            Err(status) => return Ok(Err(status)),
        };
        if request.start_index.is_none() {
            note("following the audit log; stop with Ctrl-C");
        }
        for entry in part.entries.iter().take(*left) {
            out.json_line(&entry_json(entry))?;
            let cells = row(entry).into_iter().filter(|cell| !cell.is_empty());
            out.line(&safe(&cells.collect::<Vec<_>>().join("  ")))?;
        }
        *left = left.saturating_sub(part.entries.len());
        request.start_index = Some(part.next_index);
        if *left == 0 {
            return Ok(Ok(()));
        }
    }
}

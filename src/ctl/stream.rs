//! `lethectl record export`, `lethectl record watch`: streams that last as long as they move.
//!
//! Guarantees: an export's file is made for this user alone and is never written over; it is whole when the command
//! ends well, and what broke off is continued where it was; memory does not grow with the number of records.

use std::path::Path;

use serde_json::json;
use tonic::Status;

use super::cli::{Cli, ViewArgs};
use super::error::{CtlError, is_broken};
use super::files::ExportFile;
use super::names::{TenantName, TypeName};
use super::output::{Out, note, safe, time};
use super::record::{mask, record_json};
use super::tenant::short_name;
use super::{Done, connect};
use crate::client::Client;
use crate::proto::v1::{ExportRecordsRequest, WatchRecordsRequest};

/// How often in a row a stream that broke off is taken up again without having moved.
const ATTEMPTS_MAX: u32 = 4;

/// Writes every record as a line of JSON.
pub(super) async fn export(
    cli: &Cli,
    (tenant, schema): (&TenantName, Option<&TypeName>),
    view: &ViewArgs,
    to: &Path,
    out: &mut Out,
) -> Result<Done, CtlError> {
    let client = connect(cli).await?;
    let mut file = ExportFile::create(to)?;
    let mut request = ExportRecordsRequest {
        parent: tenant.to_string(),
        schema: schema.map(|s| s.of(tenant)).unwrap_or_default(),
        page_token: String::new(),
        read_mask: mask(&view.fields),
        purpose: view.purpose.clone(),
    };
    let (mut count, mut damaged, mut attempts) = (0_u64, Vec::new(), 1);
    loop {
        let from = request.page_token.clone();
        let taken = take(&client, &mut request, &mut file, (&mut count, &mut damaged)).await?;
        match taken {
            Ok(()) => break,
            Err(status) => {
                attempts = if request.page_token == from { attempts + 1 } else { 1 };
                if !is_broken(&status) || attempts > ATTEMPTS_MAX {
                    return Err(CtlError::call("export the records")(status));
                }
            }
        }
    }
    file.finish()?;
    out.json(&json!({ "records": count, "damaged": damaged, "file": to.display().to_string() }))?;
    for name in &damaged {
        note(&format!("{} is damaged and was left out", safe(name)));
    }
    out.line(&format!("{count} records in {}", to.display()))?;
    Ok(if damaged.is_empty() { Done::Wholly } else { Done::Partly })
}

/// Takes an export from where the request's token says, until it ends or breaks off.
async fn take(
    client: &Client,
    request: &mut ExportRecordsRequest,
    file: &mut ExportFile,
    (count, damaged): (&mut u64, &mut Vec<String>),
) -> Result<Result<(), Status>, CtlError> {
    let mut parts = match client.streams().export_records(request.clone()).await {
        Ok(answer) => answer.into_inner(),
        Err(status) => return Ok(Err(status)),
    };
    loop {
        let part = match parts.message().await {
            Ok(Some(part)) => part,
            // The last part has no token: an end before it is one that came too early.
            Ok(None) => return Ok(Err(Status::unavailable("the export ended too early"))),
            Err(status) => return Ok(Err(status)),
        };
        for record in &part.records {
            file.line(&record_json(record).to_string())?;
        }
        *count += part.records.len() as u64;
        damaged.extend(part.damaged_names);
        request.page_token = part.next_page_token;
        if request.page_token.is_empty() {
            return Ok(Ok(()));
        }
    }
}

/// Prints changes as they come, until the vault ends the stream or somebody stops the command.
pub(super) async fn watch(cli: &Cli, tenant: &TenantName, out: &mut Out) -> Result<Done, CtlError> {
    let client = connect(cli).await?;
    let request = WatchRecordsRequest { parent: tenant.to_string() };
    let failed = CtlError::call;
    let answer = client.streams().watch_records(request).await;
    let mut changes = answer.map_err(failed("watch the tenant"))?.into_inner();
    while let Some(change) = changes.message().await.map_err(failed("watch on"))? {
        if change.time.is_none() {
            note("watching; stop with Ctrl-C");
            continue;
        }
        let kind = short_name(change.kind().as_str_name(), "CHANGE_KIND_");
        let at = time(change.time.as_ref());
        out.json_line(&json!({
            "kind": kind,
            "name": change.name,
            "schema": change.schema,
            "expire_date": change.expire_date,
            "time": at,
        }))?;
        let what = if change.name.is_empty() {
            format!("{} {}", change.schema, change.expire_date)
        } else {
            change.name.clone()
        };
        out.line(&format!("{at}  {kind}  {}", safe(&what)))?;
    }
    note("the vault ended the watch; begin another");
    Ok(Done::Wholly)
}

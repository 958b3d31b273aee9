//! `lethectl audit`: list, follow and export the audit log; who read a subject's data.
//!
//! Guarantee: memory does not grow with the log.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};

use super::audit_cli::AuditCommand;
use super::audit_verify::verify;
use super::cli::Cli;
use super::error::{CtlError, is_broken};
use super::files::ExportFile;
use super::names::last;
use super::output::{Out, hex, time};
use super::tenant::{PAGES_MAX, short_name};
use super::{Done, audit_follow, connect};
use crate::client::{Client, read};
use crate::proto::admin::{
    AuditEntry, AuditEntryKind, ExportAuditEntriesRequest, GetAuditHeadRequest,
    GetAuditHeadResponse, ListAuditEntriesRequest, ListSubjectAuditEntriesRequest,
    TailAuditEntriesRequest,
};

/// How often in a row a stream that broke off is taken up again without having moved.
const ATTEMPTS_MAX: u32 = 4;

pub(super) async fn run(
    cli: &Cli,
    command: &AuditCommand,
    out: &mut Out,
) -> Result<Done, CtlError> {
    match command {
        AuditCommand::List { tenant, subject, principal, limit } => {
            let request = ListAuditEntriesRequest {
                parent: tenant.as_ref().map(ToString::to_string).unwrap_or_default(),
                subject: subject.as_ref().map(ToString::to_string).unwrap_or_default(),
                principal: principal.clone().unwrap_or_default(),
                ..ListAuditEntriesRequest::default()
            };
            list(&connect(cli).await?, request, *limit, out).await
        }
        AuditCommand::WhoRead { tenant, subject, record, limit } => {
            let request = ListSubjectAuditEntriesRequest {
                parent: format!("{tenant}/subjects/{subject}"),
                record: record
                    .as_ref()
                    .map(|r| format!("{tenant}/records/{r}"))
                    .unwrap_or_default(),
                ..ListSubjectAuditEntriesRequest::default()
            };
            who_read(&connect(cli).await?, request, *limit, out).await
        }
        AuditCommand::Tail { follow_from, tenant, subject, principal, limit } => {
            let request = TailAuditEntriesRequest {
                parent: tenant.as_ref().map(ToString::to_string).unwrap_or_default(),
                start_index: *follow_from,
                subject: subject.as_ref().map(ToString::to_string).unwrap_or_default(),
                principal: principal.clone().unwrap_or_default(),
            };
            audit_follow::tail(&connect(cli).await?, request, *limit, out).await
        }
        AuditCommand::Export { to } => export(&connect(cli).await?, to, out).await,
        AuditCommand::Verify { file, public_key, earlier } => {
            verify(file, public_key, earlier.as_deref(), out)
        }
    }
}

fn classes(shown: impl Iterator<Item = crate::proto::v1::Classification>) -> Vec<String> {
    shown.map(|c| short_name(c.as_str_name(), "CLASSIFICATION_")).collect()
}

fn kind_of(entry: &AuditEntry) -> String {
    short_name(entry.kind().as_str_name(), "AUDIT_ENTRY_KIND_")
}

/// Keys: those of `AuditEntry`, pseudonyms in hex, the leaf in base64.
pub(super) fn entry_json(entry: &AuditEntry) -> Json {
    let members = entry.members.iter();
    let members: Vec<Json> =
        members.map(|m| json!({ "subject": hex(&m.subject), "record": hex(&m.record) })).collect();
    json!({
        "index": entry.index,
        "kind": kind_of(entry),
        "method": entry.method,
        "code": entry.code,
        "create_time": time(entry.create_time.as_ref()),
        "start_time": time(entry.start_time.as_ref()),
        "principal": entry.principal,
        "role": entry.role,
        "tenant": entry.tenant,
        "schema": entry.schema,
        "clear": classes(entry.clear()),
        "masked": classes(entry.masked()),
        "purpose": entry.purpose,
        "total": entry.total,
        "part": entry.part,
        "members": members,
        "generation": entry.generation,
        "minimum_index": entry.minimum_index,
        "leaf": STANDARD.encode(&entry.leaf),
    })
}

pub(super) fn row(entry: &AuditEntry) -> Vec<String> {
    let shown = [("clear", classes(entry.clear())), ("masked", classes(entry.masked()))];
    let shown = shown.iter().filter(|(_, c)| !c.is_empty());
    let shown: Vec<String> = shown.map(|(how, c)| format!("{how} {}", c.join("+"))).collect();
    let about = match (entry.schema.as_str(), entry.tenant.as_str()) {
        ("", tenant) => last(tenant).to_owned(),
        (schema, tenant) => format!("{}/{}", last(tenant), last(schema)),
    };
    let what = match entry.kind() {
        AuditEntryKind::Vault if entry.minimum_index > 0 => {
            format!("{} before entry {}", entry.method, entry.minimum_index)
        }
        AuditEntryKind::Call | AuditEntryKind::Vault => entry.method.clone(),
        AuditEntryKind::Refusals => {
            format!("{} refused: {}", entry.method, tonic::Code::from(entry.code as i32))
        }
        AuditEntryKind::Gap => "entries may be missing before this".to_owned(),
        _ => "unreadable".to_owned(),
    };
    vec![
        entry.index.to_string(),
        time(entry.create_time.as_ref()),
        entry.principal.clone(),
        what,
        about,
        if entry.total > 0 { entry.total.to_string() } else { String::new() },
        shown.join(", "),
        entry.purpose.clone(),
    ]
}

async fn list(
    client: &Client,
    request: ListAuditEntriesRequest,
    limit: usize,
    out: &mut Out,
) -> Result<Done, CtlError> {
    let page = async |page_size, page_token| {
        let answer = read(|| {
            let mut service = client.audit();
            let page_token = String::clone(&page_token);
            let request = ListAuditEntriesRequest { page_size, page_token, ..request.clone() };
            async move { service.list_audit_entries(request).await }
        });
        let page = answer.await.map_err(CtlError::call("list the audit log"))?;
        Ok((page.entries, page.next_page_token, page.minimum_index))
    };
    show(&gather(limit, page).await?, out)
}

async fn who_read(
    client: &Client,
    request: ListSubjectAuditEntriesRequest,
    limit: usize,
    out: &mut Out,
) -> Result<Done, CtlError> {
    let page = async |page_size, page_token| {
        let answer = read(|| {
            let mut service = client.audit();
            let page_token = String::clone(&page_token);
            let request =
                ListSubjectAuditEntriesRequest { page_size, page_token, ..request.clone() };
            async move { service.list_subject_audit_entries(request).await }
        });
        let page = answer.await.map_err(CtlError::call("list who read the subject's data"))?;
        Ok((page.entries, page.next_page_token, page.minimum_index))
    };
    show(&gather(limit, page).await?, out)
}

/// A page, by its size and token; the token of the next; and where the log begins.
type Page = Result<(Vec<AuditEntry>, String, u64), CtlError>;

/// What was found.
#[derive(Default)]
struct Found {
    entries: Vec<AuditEntry>,
    /// Nothing older is there.
    whole: bool,
    minimum_index: u64,
}

/// Up to `limit` entries, page by page.
async fn gather(
    limit: usize,
    mut page: impl AsyncFnMut(i32, String) -> Page,
) -> Result<Found, CtlError> {
    let (mut found, mut token) = (Found::default(), String::new());
    for _ in 0..PAGES_MAX {
        let size = i32::try_from(limit - found.entries.len()).unwrap_or(i32::MAX);
        let (entries, next, minimum_index) = page(size, token).await?;
        found.entries.extend(entries);
        token = next;
        (found.whole, found.minimum_index) = (token.is_empty(), minimum_index);
        if found.whole || found.entries.len() >= limit {
            break;
        }
    }
    Ok(found)
}

fn show(found: &Found, out: &mut Out) -> Result<Done, CtlError> {
    let entries: Vec<Json> = found.entries.iter().map(entry_json).collect();
    out.json(&json!({ "entries": entries, "minimum_index": found.minimum_index }))?;
    let head = ["INDEX", "TIME", "WHO", "WHAT", "ABOUT", "HOW MANY", "SHOWN", "FOR"];
    out.table(&head, found.entries.iter().map(row).collect())?;
    // Whoever asked for the last few does not miss what is older.
    if found.whole {
        say_pruned(found.minimum_index, out)?;
    }
    Ok(Done::Wholly)
}

/// Says that the log does not begin at its first entry, if so.
fn say_pruned(minimum_index: u64, out: &mut Out) -> Result<(), CtlError> {
    if minimum_index > 0 {
        out.line(&format!(
            "entries before {minimum_index} went by the log's own retention (`audit.retain`)"
        ))?;
    }
    Ok(())
}

/// Keys: vault_id, size, root, generation, create_time, minimum_index, and in base64 minimum_peaks, signed_bytes,
/// signature, public_key.
fn head_json(head: &GetAuditHeadResponse) -> Json {
    json!({
        "vault_id": head.vault_id,
        "size": head.size,
        "root": hex(&head.root),
        "generation": head.generation,
        "create_time": time(head.create_time.as_ref()),
        "minimum_index": head.minimum_index,
        "minimum_peaks": head.minimum_peaks.iter().map(|p| STANDARD.encode(p)).collect::<Vec<_>>(),
        "signed_bytes": STANDARD.encode(&head.signed_bytes),
        "signature": STANDARD.encode(&head.signature),
        "public_key": STANDARD.encode(&head.public_key),
    })
}

async fn export(client: &Client, to: &Path, out: &mut Out) -> Result<Done, CtlError> {
    let mut file = ExportFile::create(to)?;
    let head = client.audit().get_audit_head(GetAuditHeadRequest {}).await;
    let head = head.map_err(CtlError::call("get the log's head"))?.into_inner();
    file.line(&json!({ "head": head_json(&head) }).to_string())?;
    let begins = head.minimum_index;
    let (mut next, mut attempts, mut unreadable) = (begins, 1, 0_u64);
    while next < head.size {
        let from = next;
        let failed = match client
            .audit_streams()
            .export_audit_entries(ExportAuditEntriesRequest { start_index: next })
            .await
        {
            Ok(parts) => {
                let mut parts = parts.into_inner();
                loop {
                    let part = match parts.message().await {
                        Ok(Some(part)) => part,
                        Ok(None) => break tonic::Status::unavailable("the export ended too early"),
                        Err(status) => break status,
                    };
                    for entry in part.entries.iter().filter(|e| e.index < head.size) {
                        unreadable += u64::from(entry.leaf.is_empty());
                        file.line(&entry_json(entry).to_string())?;
                        next = entry.index + 1;
                    }
                    if next >= head.size {
                        break tonic::Status::ok("");
                    }
                }
            }
            Err(status) => status,
        };
        attempts = if next == from { attempts + 1 } else { 1 };
        if next < head.size && (!is_broken(&failed) || attempts > ATTEMPTS_MAX) {
            return Err(CtlError::call("export the audit log")(failed));
        }
    }
    file.finish()?;
    let shown = to.display().to_string();
    out.json(&json!({
        "entries": head.size,
        "minimum_index": begins,
        "unreadable": unreadable,
        "file": shown,
    }))?;
    let count = head.size.saturating_sub(begins);
    out.line(&format!("{count} entries in {shown}; check them with `lethectl audit verify`"))?;
    say_pruned(begins, out)?;
    Ok(if unreadable == 0 { Done::Wholly } else { Done::Partly })
}

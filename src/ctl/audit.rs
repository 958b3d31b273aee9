//! `lethectl audit`: list, export and verify the audit log; who read a subject's data.
//!
//! Guarantees: an export is verified without a vault, and only the key that is given is trusted, never the one in the
//! file; a name beside an entry counts only if the entry's hash is that name's; memory does not grow with the log.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::audit_cli::AuditCommand;
use super::audit_follow;
use super::cli::Cli;
use super::error::{CtlError, is_broken};
use super::files::{ExportFile, open_data};
use super::log_entry::Tally;
use super::names::last;
use super::output::{Out, hex, stamp, time};
use super::receipt::PublicKey;
use super::tenant::{PAGES_MAX, short_name};
use super::{Done, connect};
use crate::audit::{Head, MEMBERS_MAX, principal_hash};
use crate::client::{Client, read};
use crate::crypto::merkle::{Frontier, leaf_hash};
use crate::proto::admin::{
    AuditEntry, AuditEntryKind, ExportAuditEntriesRequest, GetAuditHeadRequest,
    GetAuditHeadResponse, ListAuditEntriesRequest, ListSubjectAuditEntriesRequest,
    TailAuditEntriesRequest,
};

/// A line of an export: the longest entry in base64 and hex, and its names.
const LINE_BYTES_MAX: u64 = 16 * 1024 + 320 * MEMBERS_MAX as u64;
/// How often in a row a stream that broke off is taken up again without having moved.
const ATTEMPTS_MAX: u32 = 4;
const NOT_WHOLE: &str = "do not rely on this file; export the log again, and if that fails too, \
                         compare with the heads that you kept";

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
        Ok((page.entries, page.next_page_token))
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
        Ok((page.entries, page.next_page_token))
    };
    show(&gather(limit, page).await?, out)
}

/// A page, by its size and token, and the token of the next.
type Page = Result<(Vec<AuditEntry>, String), CtlError>;

/// Up to `limit` entries, page by page.
async fn gather(
    limit: usize,
    mut page: impl AsyncFnMut(i32, String) -> Page,
) -> Result<Vec<AuditEntry>, CtlError> {
    let (mut all, mut token) = (Vec::new(), String::new());
    for _ in 0..PAGES_MAX {
        let size = i32::try_from(limit - all.len()).unwrap_or(i32::MAX);
        let (entries, next) = page(size, token).await?;
        all.extend(entries);
        token = next;
        if token.is_empty() || all.len() >= limit {
            break;
        }
    }
    Ok(all)
}

fn show(entries: &[AuditEntry], out: &mut Out) -> Result<Done, CtlError> {
    out.json(&json!({ "entries": entries.iter().map(entry_json).collect::<Vec<_>>() }))?;
    let head = ["INDEX", "TIME", "WHO", "WHAT", "ABOUT", "HOW MANY", "SHOWN", "FOR"];
    out.table(&head, entries.iter().map(row).collect())?;
    Ok(Done::Wholly)
}

/// Keys: vault_id, size, root, generation, create_time, and in base64 signed_bytes, signature, public_key.
fn head_json(head: &GetAuditHeadResponse) -> Json {
    json!({
        "vault_id": head.vault_id,
        "size": head.size,
        "root": hex(&head.root),
        "generation": head.generation,
        "create_time": time(head.create_time.as_ref()),
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
    let (mut next, mut attempts, mut unreadable) = (0, 1, 0_u64);
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
    out.json(&json!({ "entries": head.size, "unreadable": unreadable, "file": shown }))?;
    out.line(&format!(
        "{} entries in {shown}; check them with `lethectl audit verify`",
        head.size
    ))?;
    Ok(if unreadable == 0 { Done::Wholly } else { Done::Partly })
}

#[derive(Deserialize)]
struct HeadLine {
    head: SavedHead,
}

#[derive(Deserialize)]
struct SavedHead {
    signed_bytes: String,
    signature: String,
}

#[derive(Deserialize)]
struct EntryLine {
    index: u64,
    principal: String,
    method: String,
    leaf: String,
}

fn wrong(what: String) -> CtlError {
    CtlError::Input { what, next: NOT_WHOLE }
}

/// Lines of an export, each bounded.
struct Lines {
    file: BufReader<std::fs::File>,
    number: u64,
}

impl Lines {
    fn open(path: &Path) -> Result<Self, CtlError> {
        Ok(Self { file: BufReader::new(open_data(path)?.0), number: 0 })
    }

    fn next(&mut self) -> Result<Option<String>, CtlError> {
        self.number += 1;
        let mut text = String::new();
        let read = (&mut self.file).take(LINE_BYTES_MAX).read_line(&mut text);
        match read {
            Ok(0) => Ok(None),
            Ok(n) if n as u64 == LINE_BYTES_MAX => Err(self.wrong("is too long")),
            Ok(_) => Ok(Some(text)),
            Err(_) => Err(self.wrong("is not text")),
        }
    }

    fn wrong(&self, why: &str) -> CtlError {
        wrong(format!("line {} {why}", self.number))
    }

    fn head(&mut self, key: &PublicKey) -> Result<Head, CtlError> {
        let text = self.next()?.ok_or_else(|| wrong("the file is empty".to_owned()))?;
        let line: HeadLine =
            serde_json::from_str(&text).map_err(|_| self.wrong("is not the head of an export"))?;
        let decode = |text: &str| STANDARD.decode(text).map_err(|_| self.wrong("is not base64"));
        let (bytes, signature) = (decode(&line.head.signed_bytes)?, decode(&line.head.signature)?);
        Head::verify(&bytes, &signature, key.bytes())
            .map_err(|e| wrong(format!("the head does not hold: {e}")))
    }
}

fn verify(
    file: &Path,
    key: &PublicKey,
    earlier: Option<&Path>,
    out: &mut Out,
) -> Result<Done, CtlError> {
    let mut lines = Lines::open(file)?;
    let head = lines.head(key)?;
    let earlier = earlier.map(|path| Lines::open(path)?.head(key)).transpose()?;
    if earlier.is_some_and(|e| e.vault != head.vault || e.size > head.size) {
        return Err(wrong(
            "the earlier export is of another vault, or has more entries".to_owned(),
        ));
    }
    let (mut tree, mut counts) = (Frontier::default(), Tally::default());
    loop {
        if let Some(earlier) = earlier.filter(|e| e.size == tree.size() && e.root != tree.root()) {
            return Err(wrong(format!(
                "the first {} entries are not those of the earlier export: the log was rewritten",
                earlier.size
            )));
        }
        let Some(text) = lines.next()? else { break };
        check(&mut lines, &text, &head, &mut tree, &mut counts)?;
    }
    if (tree.size(), tree.root()) != (head.size, head.root) {
        return Err(wrong(format!(
            "the file has {} entries that are not the {} of the signed head",
            tree.size(),
            head.size
        )));
    }
    let at = time(Some(&stamp(head.at)));
    let gaps: Vec<Json> = counts
        .gaps
        .iter()
        .map(|(from, to)| json!({ "from": time(Some(&stamp(*from))), "to": time(Some(&stamp(*to))) }))
        .collect();
    out.json(&json!({
        "verified": true,
        "vault_id": crate::keys::anchor::hex(&head.vault.0),
        "entries": head.size,
        "root": hex(&head.root),
        "head_time": at,
        "calls": counts.calls,
        "refused_calls": counts.refusals,
        "gaps": gaps,
        "continues_earlier": earlier.is_some(),
    }))?;
    out.pairs(&[
        ("verified", format!("{} entries, root {}", head.size, hex(&head.root))),
        ("vault", crate::keys::anchor::hex(&head.vault.0)),
        ("signed", at),
        ("calls", counts.calls.to_string()),
        ("refused calls", counts.refusals.to_string()),
        ("gaps", counts.gaps.len().to_string()),
        (
            "continues",
            earlier.map(|e| format!("the earlier {} entries", e.size)).unwrap_or_default(),
        ),
    ])?;
    for (from, to) in &counts.gaps {
        let (from, to) = (time(Some(&stamp(*from))), time(Some(&stamp(*to))));
        out.line(&format!("between {from} and {to} entries of calls may be missing: the vault did not stop cleanly"))?;
    }
    Ok(Done::Wholly)
}

/// Adds one line to the tree, if it is what comes next and says what its entry says.
fn check(
    lines: &mut Lines,
    text: &str,
    head: &Head,
    tree: &mut Frontier,
    counts: &mut Tally,
) -> Result<(), CtlError> {
    let line: EntryLine =
        serde_json::from_str(text).map_err(|_| lines.wrong("is not an entry of an export"))?;
    let leaf = STANDARD.decode(&line.leaf).map_err(|_| lines.wrong("is not base64"))?;
    if leaf.is_empty() {
        return Err(lines.wrong("is an entry that the vault could not read"));
    }
    if line.index != tree.size() {
        return Err(lines.wrong("is not the entry that follows"));
    }
    let entry = counts.audit(&leaf, tree.size()).map_err(|why| lines.wrong(&why))?;
    if line.method != entry.act.name() {
        return Err(lines.wrong("names another method than its entry"));
    }
    let named = match line.principal.as_str() {
        "" => [0; 16],
        name if name.contains("://") => principal_hash(head.vault, name),
        // A hash in place of a name that the vault does not keep.
        _ => entry.principal,
    };
    if named != entry.principal {
        return Err(lines.wrong("names another principal than its entry"));
    }
    tree.push(leaf_hash(&leaf));
    Ok(())
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;

//! `lethectl record erase`, `lethectl subject erase`, `lethectl bucket erase`.
//!
//! Guarantees: what will go is shown first and nothing goes without `--yes` or an answer; the receipt's file is opened
//! before the erasure, so that evidence is not lost to a path that cannot be written.

use serde_json::json;
use tonic::Code;

use super::Done;
use super::cli::{EraseArgs, ViewArgs};
use super::error::{CtlError, reason};
use super::files::{EvidenceFile, can_ask, read_line};
use super::hold::postponed_json;
use super::names::{RecordName, SubjectName, last};
use super::output::{Out, note, safe, time};
use super::receipt::receipt_json;
use super::record::{get, gone_by};
use super::tenant::short_name;
use crate::client::Client;
use crate::proto::admin::EraseBucketRequest;
use crate::proto::v1::{
    BatchEraseRecordsRequest, EraseRecordRequest, EraseSubjectRequest, ErasureReceipt,
    PostponedErasure,
};

pub(super) async fn records(
    client: &Client,
    names: &[RecordName],
    how: &EraseArgs,
    out: &mut Out,
) -> Result<Done, CtlError> {
    let [first, rest @ ..] = names else {
        return Ok(Done::Wholly);
    };
    if rest.iter().any(|name| name.tenant() != first.tenant()) {
        return Err(CtlError::Usage {
            what: "the records are of several tenants".to_owned(),
            next: "erase them tenant by tenant",
        });
    }
    let mut plan = Vec::new();
    for name in names {
        plan.push(preview(client, name).await?);
    }
    let Some(evidence) = permission(&plan, how, out)? else {
        return Ok(Done::Wholly);
    };
    let reason = how.reason.into();
    let (receipts, postponed) = if rest.is_empty() {
        let request = EraseRecordRequest { name: first.to_string(), reason, ..Default::default() };
        let answer = client.records().erase_record(request).await;
        let answer = answer.map_err(CtlError::call("erase the record"))?.into_inner();
        (answer.receipt.into_iter().collect(), answer.postponed.into_iter().collect())
    } else {
        let parent = first.tenant().to_string();
        let names = names.iter().map(ToString::to_string).collect();
        let request = BatchEraseRecordsRequest { parent, names, reason };
        let answer = client.records().batch_erase_records(request).await;
        let answer = answer.map_err(CtlError::call("erase the records"))?.into_inner();
        (answer.receipts, answer.postponed)
    };
    report((receipts, postponed), evidence, out)
}

/// What is known of a record without showing a value of it.
async fn preview(client: &Client, name: &RecordName) -> Result<String, CtlError> {
    let view = ViewArgs { fields: Vec::new(), purpose: String::new() };
    match get(client, name, &view).await {
        Ok(record) => Ok(format!(
            "{name}  {}, created {}, {} fields, gone by {}",
            last(&record.schema),
            time(record.create_time.as_ref()),
            record.fields.len(),
            gone_by(&record)
        )),
        Err(CtlError::Call { status, .. }) if status.code() == Code::PermissionDenied => {
            Ok(format!("{name}  (this identity may not read it)"))
        }
        // The vault gives the receipt of what is gone, and erases what it cannot open.
        Err(CtlError::Call { status, .. }) if reason(&status).as_deref() == Some("ERASED") => {
            Ok(format!("{name}  (was erased; its receipt is given again)"))
        }
        Err(CtlError::Call { status, .. }) if status.code() == Code::DataLoss => {
            Ok(format!("{name}  (is damaged and does not open)"))
        }
        Err(error) => Err(error),
    }
}

pub(super) async fn subject(
    client: &Client,
    name: &SubjectName,
    how: &EraseArgs,
    out: &mut Out,
) -> Result<Done, CtlError> {
    let plan = [format!("{name}  with all its records")];
    let Some(evidence) = permission(&plan, how, out)? else {
        return Ok(Done::Wholly);
    };
    let request = EraseSubjectRequest { name: name.to_string(), reason: how.reason.into() };
    let answer = client.subjects().erase_subject(request).await;
    let answer = answer.map_err(CtlError::call("erase the subject"))?.into_inner();
    let receipts = answer.receipt.into_iter().chain(answer.record_receipts).collect();
    report((receipts, answer.postponed), evidence, out)
}

pub(super) async fn bucket(
    client: &Client,
    schema: &str,
    expire_date: &str,
    how: &EraseArgs,
    out: &mut Out,
) -> Result<Done, CtlError> {
    let plan = [format!("{schema}  every record that expires on {expire_date}")];
    let Some(evidence) = permission(&plan, how, out)? else {
        return Ok(Done::Wholly);
    };
    let request = EraseBucketRequest {
        schema: schema.to_owned(),
        expire_date: expire_date.to_owned(),
        reason: how.reason.into(),
    };
    let answer = client.vault().erase_bucket(request).await;
    let answer = answer.map_err(CtlError::call("erase the bucket"))?.into_inner();
    report((answer.receipt.into_iter().collect(), Vec::new()), evidence, out)
}

/// Where the receipts go, once it is clear that the erasure is meant.
pub(super) struct Permission {
    evidence: Option<EvidenceFile>,
}

/// Shows what will go and asks; `None` after a dry run.
pub(super) fn permission(
    plan: &[String],
    how: &EraseArgs,
    out: &mut Out,
) -> Result<Option<Permission>, CtlError> {
    if how.dry_run {
        out.json(&json!({ "dry_run": true, "would_erase": plan }))?;
        for line in plan {
            out.line(&format!("would erase {}", safe(line)))?;
        }
        return Ok(None);
    }
    let evidence = how.receipt.as_deref().map(EvidenceFile::create).transpose()?;
    if !how.yes {
        if !can_ask() {
            return Err(CtlError::Usage {
                what: "nobody is there to confirm the erasure".to_owned(),
                next: "pass --yes, or --dry-run to see what would go",
            });
        }
        for line in plan {
            note(&format!("will erase {}", safe(line)));
        }
        let answer = read_line("This cannot be undone. Type erase to go on:")?;
        if answer.trim() != "erase" {
            return Err(CtlError::Declined);
        }
    }
    Ok(Some(Permission { evidence }))
}

/// Prints the receipts and saves them, and says what waits for a legal hold to end. If saving fails they are printed
/// whole: they cannot be had again.
pub(super) fn report(
    (receipts, postponed): (Vec<ErasureReceipt>, Vec<PostponedErasure>),
    permission: Permission,
    out: &mut Out,
) -> Result<Done, CtlError> {
    if receipts.is_empty() && postponed.is_empty() {
        return Err(CtlError::Answer("the receipt"));
    }
    let mut document = json!({ "receipts": receipts.iter().map(receipt_json).collect::<Vec<_>>() });
    if let Some(fields) = document.as_object_mut().filter(|_| !postponed.is_empty()) {
        let waiting: Vec<_> = postponed.iter().map(postponed_json).collect();
        fields.insert("postponed".to_owned(), waiting.into());
    }
    if let Some(file) = permission.evidence
        && let Err(error) = file.write(&format!("{document:#}\n"))
    {
        note(&document.to_string());
        return Err(error);
    }
    out.json(&document)?;
    let rows = receipts.iter().map(|r| {
        vec![
            r.name.clone(),
            short_name(r.level().as_str_name(), "ERASURE_LEVEL_"),
            short_name(r.reason().as_str_name(), "ERASURE_REASON_"),
            r.generation.to_string(),
            r.leaf_index.to_string(),
            time(r.erase_time.as_ref()),
        ]
    });
    let head = ["ERASED", "LEVEL", "REASON", "GENERATION", "LEAF", "AT"];
    if !receipts.is_empty() {
        out.table(&head, rows.collect())?;
    }
    for p in &postponed {
        out.line(&format!(
            "postponed: {}: a legal hold keeps it; it is erased when the last one ends",
            safe(&p.name)
        ))?;
    }
    let mut caveats: Vec<_> =
        receipts.iter().map(|r| &r.caveat).filter(|c| !c.is_empty()).collect();
    caveats.sort();
    caveats.dedup();
    for caveat in caveats {
        out.line(&format!("note: {}", safe(caveat)))?;
    }
    Ok(Done::Wholly)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::cli::{Format, Reason};

    fn how(dry_run: bool, yes: bool, receipt: Option<std::path::PathBuf>) -> EraseArgs {
        EraseArgs { reason: Reason::SubjectRequest, yes, dry_run, receipt }
    }

    #[test]
    fn a_dry_run_permits_nothing() {
        let out = &mut Out::stdout(Format::Json);
        assert!(permission(&["x".into()], &how(true, false, None), out).unwrap().is_none());
        assert!(permission(&["x".into()], &how(false, true, None), out).unwrap().is_some());
    }

    #[test]
    fn a_receipt_that_cannot_be_saved_stops_the_erasure_before_it_starts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kept.json");
        std::fs::write(&path, "evidence").unwrap();
        let out = &mut Out::stdout(Format::Json);
        let refused = permission(&["x".into()], &how(false, true, Some(path.clone())), out);
        assert!(matches!(refused, Err(CtlError::File { .. })));
        assert_eq!(std::fs::read_to_string(path).unwrap(), "evidence");
    }

    #[test]
    fn an_answer_without_a_receipt_is_an_error() {
        let out = &mut Out::stdout(Format::Json);
        assert!(matches!(
            report((Vec::new(), Vec::new()), Permission { evidence: None }, out),
            Err(CtlError::Answer(_))
        ));
    }
}

//! The index of who is in which entry after a crash: it answers as looking through the whole log does.

use std::collections::{BTreeMap, BTreeSet};

use lethe::audit::Act;
use lethe::class::Role;
use lethe::id::RecordId;
use lethe::vault::{SubjectQuery, Vault, VaultError};

use super::fate::Fate;
use crate::house::{TENANT, get, permit, slug};

/// Subjects that are compared after each crash.
const SUBJECTS: usize = 6;

/// What is wrong with the index of an open vault, if something is.
pub async fn index_holds(vault: &Vault, fates: &BTreeMap<RecordId, Fate>) -> Result<(), String> {
    let failed = |e: VaultError| format!("the index of the audit log: {e}");
    let mut sought = BTreeMap::new();
    for id in fates.keys().step_by(1 + fates.len() / (3 * SUBJECTS)) {
        if let Ok(view) = get(vault, *id)
            && sought.len() < SUBJECTS
        {
            vault.settle_log().await.map_err(failed)?;
            let query = SubjectQuery { tenant: slug(TENANT), subject: view.subject, record: None };
            let (mut found, mut before, mut pseudonym) = (BTreeSet::new(), None, [0; 16]);
            loop {
                let of = permit(Role::Auditor, Some(TENANT));
                let page = vault.subject_entries(&of, &query, before, 50).map_err(failed)?;
                for line in page.lines {
                    let entry = line.told.ok_or("an entry is lost")?.entry;
                    if entry.act == Act::GetRecord && entry.members.len() == 1 {
                        pseudonym = entry.members[0].subject;
                    }
                    found.insert(entry.seq);
                }
                match page.next {
                    Some(_) => before = page.next,
                    None => break,
                }
            }
            sought.insert(pseudonym, found);
        }
    }
    let signed = vault.audit_head(&permit(Role::Auditor, None)).await.map_err(failed)?;
    let mut at = signed.pruned.size();
    let size = vault.audit_size(&permit(Role::Auditor, None), at).map_err(failed)?;
    while at < size {
        let part = vault.audit_part(&permit(Role::Auditor, None), at, size).map_err(failed)?;
        for line in part {
            at = line.index + 1;
            let entry = line.told.ok_or("an entry is lost")?.entry;
            // What was added since the question.
            if entry.act == Act::ListSubjectAuditEntries {
                continue;
            }
            for member in &entry.members {
                if sought.get(&member.subject).is_some_and(|found| !found.contains(&entry.seq)) {
                    return Err(format!("the index lacks entry {}", entry.seq));
                }
            }
        }
    }
    Ok(())
}

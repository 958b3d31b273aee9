//! Answers which entries of the audit log are about a subject.
//!
//! Invariants: the index proposes, and an entry counts if it says so itself; what cannot be read of the index is taken
//! from the log; a page takes a bounded number of rows, and the next one goes on below what was looked through.

use super::super::audited::{AuditLine, AuditPage, Lines, Names};
use super::super::core::{Core, Vault};
use super::super::current::{SUBJECT, Sort};
use super::super::slug::Slug;
use super::VaultError;
use super::making::piece_below;
use crate::audit::named::{Posting, fingerprint, partition};
use crate::audit::spans::Span;
use crate::audit::{Act, entries_in, row_key};
use crate::authz::{Permit, ReadAudit};
use crate::id::{RecordId, TenantOrd};
use crate::limits::{AUDIT_LOOK_MAX, SCAN_PAGE_ROWS};

/// What is asked about a subject.
pub struct SubjectQuery {
    pub tenant: Slug,
    pub subject: RecordId,
    /// Entries about this record of the subject only.
    pub record: Option<RecordId>,
}

/// The pseudonyms that a query is about.
struct Sought {
    tenant: TenantOrd,
    subject: [u8; 16],
    record: Option<[u8; 16]>,
}

impl Sought {
    fn is_in(&self, line: &AuditLine) -> bool {
        line.told.as_ref().is_some_and(|told| {
            let mut members = told.entry.members.iter().filter(|m| m.subject == self.subject);
            told.entry.tenant == Some(self.tenant)
                && members.any(|m| self.record.is_none_or(|record| m.record == record))
        })
    }
}

/// Looks for entries, the newest first.
struct Search<'a> {
    core: &'a Core,
    sought: Sought,
    names: Names<'a>,
    page: Lines,
    page_size: usize,
    /// Entries, and rows of the index, that may still be looked at.
    left: u64,
    /// All from here on have been looked at.
    end: u64,
    /// What is before this was pruned.
    least: u64,
}

impl Search<'_> {
    fn may_go_on(&self) -> bool {
        self.left > 0 && self.page.has_room(self.page_size)
    }

    fn look_at(&mut self, seq: u64, leaf: Option<Vec<u8>>) -> Result<(), VaultError> {
        let line = self.names.tell(seq, leaf)?;
        if self.sought.is_in(&line) {
            self.page.push(line);
        }
        self.left = self.left.saturating_sub(1);
        self.end = seq;
        Ok(())
    }

    /// Looks through the entries from `start` on.
    fn through_log(&mut self, start: u64) -> Result<(), VaultError> {
        let start = start.max(self.least);
        while self.end > start && self.may_go_on() {
            let from = self.end.saturating_sub(SCAN_PAGE_ROWS as u64).max(start);
            for (seq, leaf) in self.core.log_leaves(from, self.end)?.into_iter().rev() {
                if !self.may_go_on() {
                    break;
                }
                self.look_at(seq, leaf)?;
            }
        }
        Ok(())
    }

    /// Looks at the entries that the index has, below where the search is.
    fn by_index(&mut self) -> Result<(), VaultError> {
        let core = self.core;
        let fingerprint = fingerprint(&self.sought.subject);
        while self.end > self.least && self.may_go_on() {
            let blocks = core.subject_log.blocks();
            let Some(span) = Span::holding(self.end.saturating_sub(1), blocks) else {
                return self.through_log(self.least);
            };
            let partition = partition(span.level, fingerprint);
            let until = span.place_of(self.end);
            let piece = piece_below(core.tree.store(), span, partition, until)?;
            self.left = self.left.saturating_sub(1);
            let from = span.start().saturating_add(piece.from.into());
            match piece.postings {
                Some(all) => {
                    let of_subject = all.into_iter().filter(|p| p.fingerprint == fingerprint);
                    if self.through_postings(span, of_subject)? {
                        self.end = from.max(self.least);
                    }
                }
                // The span has become part of a wider one, or was pruned, since it was chosen.
                None if core.subject_log.blocks() != blocks => {}
                None if core.minimum_index() > self.least => self.least = core.minimum_index(),
                None => {
                    core.metrics.damaged_rows.one();
                    self.through_log(from)?;
                }
            }
        }
        Ok(())
    }

    /// Whether it looked at all of them.
    fn through_postings(
        &mut self,
        span: Span,
        postings: impl DoubleEndedIterator<Item = Posting>,
    ) -> Result<bool, VaultError> {
        for (seq, first) in postings.rev().map(|p| p.of(span)) {
            if seq < self.least {
                break;
            }
            if !self.may_go_on() {
                return Ok(false);
            }
            let row = self.core.tree.store().get(&row_key(first))?;
            let at = usize::try_from(seq - first).unwrap_or(usize::MAX);
            let entries = row.as_deref().and_then(entries_in).unwrap_or_default();
            let leaf = match entries.get(at) {
                Some(leaf) => Some(leaf.to_vec()),
                // Its row was split since, where the log begins.
                None => self.core.log_leaves(seq, seq + 1)?.into_iter().find_map(|(_, leaf)| leaf),
            };
            self.look_at(seq, leaf)?;
        }
        Ok(true)
    }
}

impl Core {
    fn page_about(
        &self,
        sought: Sought,
        before: Option<u64>,
        (page_size, left): (usize, u64),
    ) -> Result<AuditPage, VaultError> {
        let size = self.log_size()?;
        let mut search = Search {
            core: self,
            sought,
            names: Names::new(self),
            page: Lines::default(),
            page_size,
            left,
            end: before.unwrap_or(size).min(size),
            least: self.minimum_index(),
        };
        let indexed = self.subject_log.end();
        search.through_log(indexed)?;
        if search.end <= indexed {
            search.by_index()?;
        }
        Ok(self.page(search.page.lines, search.end))
    }
}

/// Numbers of the entries about a subject, the newest first, in pages that look at so much.
#[cfg(test)]
pub(super) fn pages_about(
    core: &Core,
    (tenant, subject): (TenantOrd, [u8; 16]),
    most: u64,
) -> Vec<Vec<u64>> {
    let (mut pages, mut before) = (Vec::new(), None);
    loop {
        let sought = Sought { tenant, subject, record: None };
        let page = core.page_about(sought, before, (500, most)).unwrap();
        pages.push(page.lines.iter().map(|line| line.index).collect());
        assert!(page.next.is_none_or(|next| before.is_none_or(|before| next < before)));
        before = page.next;
        if before.is_none() {
            return pages;
        }
    }
}

impl Vault {
    /// Entries about a subject before an index (`None`: the end), the newest first: who read its data, changed it,
    /// asked for it. A page may be shorter than asked for, or empty, although more follow. Fails with
    /// [`VaultError::Erased`] once the subject, or the record that is asked about, was erased.
    pub fn subject_entries(
        &self,
        permit: &Permit<ReadAudit>,
        query: &SubjectQuery,
        before: Option<u64>,
        page_size: usize,
    ) -> Result<AuditPage, VaultError> {
        let core = &*self.core;
        let tenant = core.tenant(permit, query.tenant.as_str())?;
        let member = core.find_current(&tenant, query.subject, Sort::Subject)?.open.fields.member;
        let record = match query.record {
            Some(id) => {
                let of = core.find_current(&tenant, id, Sort::Record)?.open.fields.member;
                if of.subject != member.subject {
                    let reason = "is not a record of this subject";
                    return Err(VaultError::Argument { field: "record", reason });
                }
                Some(of.record)
            }
            None => None,
        };
        let entry = core.entry(permit, Act::ListSubjectAuditEntries).of(tenant.ord);
        core.note(&entry.about([(Some(SUBJECT), member)]))?;
        let sought = Sought { tenant: tenant.ord, subject: member.subject, record };
        core.page_about(sought, before, (page_size, AUDIT_LOOK_MAX))
    }
}

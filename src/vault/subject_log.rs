//! Which entries of the audit log are about a subject, without looking through the log.
//!
//! An index of rows under pseudonyms (`audit::named`), made by a thread of its own from entries that are durable, a
//! block at a time; what is in no block yet is looked through. Only a subject that is there can be asked for: its
//! pseudonym is sealed in its records and dies with them, and then nobody can tell which rows were its.
//!
//! Invariants: blocks are indexed in order, and counted in the batch that has the last of their rows, so that after a
//! crash a block is whole or made again; the index proposes, and an entry counts if it says so itself; what cannot be
//! read of the index is taken from the log.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::audited::{AuditLine, AuditPage, Lines, Names};
use super::core::{Core, Vault};
use super::current::{SUBJECT, Sort};
use super::error::VaultError;
use super::slug::Slug;
use crate::audit::named::{
    BLOCK_ENTRIES, BlockIndex, INDEXED_KEY, Posting, block_in, decode, indexed_in, indexed_row,
    key, prefix,
};
use crate::audit::{Act, entries_in, row_key};
use crate::authz::{Permit, ReadAudit};
use crate::id::{RecordId, TenantOrd};
use crate::keys::rows::prefix_end;
use crate::limits::{AUDIT_LOOK_MAX, COMMIT_GROUP_MAX, SCAN_PAGE_ROWS};
use crate::store::{Batch, Store, StoreError, Urgency};

/// How often the thread looks whether a block is full.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Blocks that are counted with one batch at most.
const STEP_BLOCKS: u64 = 64;

/// How far the index is.
pub struct SubjectLog {
    /// Blocks below this are indexed.
    blocks: AtomicU64,
}

impl SubjectLog {
    /// What the store says. If it says nothing that fits the log, the index is made anew: rows that are there already
    /// are written over by their like.
    pub fn load(store: &Store) -> Result<Self, StoreError> {
        let told = store.get(INDEXED_KEY)?.as_deref().and_then(indexed_in);
        let full = store.log_head().map_or(0, |(size, _)| size) / BLOCK_ENTRIES;
        let blocks = told.filter(|blocks| *blocks <= full).unwrap_or(0);
        Ok(Self { blocks: AtomicU64::new(blocks) })
    }

    /// Blocks below this are indexed.
    pub fn blocks(&self) -> u64 {
        self.blocks.load(Ordering::Acquire)
    }

    /// The first entry that is in no indexed block.
    fn end(&self) -> u64 {
        self.blocks().saturating_mul(BLOCK_ENTRIES)
    }
}

/// The handle of the thread that makes the index.
pub struct SubjectIndexer {
    /// `None` once it was stopped.
    running: Mutex<Option<(SyncSender<()>, JoinHandle<()>)>>,
}

impl SubjectIndexer {
    pub fn start(core: Arc<Core>) -> Result<Self, VaultError> {
        let (stop, stopped) = sync_channel(0);
        let thread = std::thread::Builder::new()
            .name("subject-index".into())
            .spawn(move || run(&core, &stopped))
            .map_err(|_| VaultError::Exhausted("no thread for the index of the audit log"))?;
        Ok(Self { running: Mutex::new(Some((stop, thread))) })
    }

    /// Ends the thread after the block that it is at.
    pub fn stop(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((stop, thread)) = running else { return };
        drop(stop);
        if thread.join().is_err() {
            tracing::error!("the thread of the audit log's index panicked");
        }
    }
}

impl Drop for SubjectIndexer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(core: &Core, stopped: &Receiver<()>) {
    loop {
        let enough = || stopped.try_recv() == Err(TryRecvError::Disconnected);
        if let Err(error) = core.index_full_blocks(enough).and_then(|()| core.near_tree()) {
            // The log is looked through for what the index lacks; a full disk or a stopped store ends by itself.
            core.metrics.audit_index_failures.one();
            tracing::warn!(%error, "the index of the audit log is behind");
        }
        match stopped.recv_timeout(LOOK_EVERY) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

impl Core {
    /// Indexes the blocks that are full, until `enough`.
    pub(super) fn index_full_blocks(&self, enough: impl Fn() -> bool) -> Result<(), VaultError> {
        let store = self.tree.store();
        loop {
            let begun = self.subject_log.blocks().max(self.minimum_index() / BLOCK_ENTRIES);
            let (mut done, mut batch) = (begun, note());
            let full = self.log_size()? / BLOCK_ENTRIES;
            let until = full.min(begun.saturating_add(STEP_BLOCKS));
            while done < until && !enough() && !store.stopped() {
                let start = done.saturating_mul(BLOCK_ENTRIES);
                let end = start.saturating_add(BLOCK_ENTRIES);
                let mut index = BlockIndex::default();
                self.each_leaf(start, end, |seq, first, leaf| index.add((seq, first), leaf))?;
                for (key, value) in index.rows(done) {
                    if batch.writes.len() >= COMMIT_GROUP_MAX {
                        store.commit_blocking(std::mem::replace(&mut batch, note()))?;
                    }
                    batch.put(key, value);
                }
                done += 1;
            }
            if done == begun {
                return Ok(());
            }
            batch.put(INDEXED_KEY, indexed_row(done));
            store.commit_blocking(batch)?;
            self.subject_log.blocks.store(done, Ordering::Release);
            self.metrics.audit_blocks_indexed.add(done - begun);
        }
    }
}

fn note() -> Batch {
    Batch { urgency: Urgency::Note, ..Batch::default() }
}

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
    /// Entries that may still be looked at.
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
        let Some(last) = self.end.checked_sub(1) else { return Ok(()) };
        let mut from = key(&self.sought.subject, last / BLOCK_ENTRIES);
        let until = prefix_end(&prefix(&self.sought.subject));
        while self.may_go_on() {
            let most = self.page_size.min(SCAN_PAGE_ROWS);
            let rows = self.core.tree.store().scan(&from, &until, most)?;
            let Some(last) = rows.last() else {
                self.end = self.least;
                return Ok(());
            };
            from = [last.key.as_slice(), &[0]].concat();
            for row in rows {
                let Some(block) = block_in(&row.key) else { continue };
                if block < self.least / BLOCK_ENTRIES {
                    self.end = self.least;
                    return Ok(());
                }
                match decode(&row.value) {
                    Some(postings) => self.through_postings(block, &postings)?,
                    None => {
                        self.core.metrics.damaged_rows.one();
                        let start = block.saturating_mul(BLOCK_ENTRIES);
                        self.end = self.end.min(start.saturating_add(BLOCK_ENTRIES));
                        self.through_log(start)?;
                    }
                }
                if !self.may_go_on() {
                    break;
                }
            }
        }
        Ok(())
    }

    fn through_postings(&mut self, block: u64, postings: &[Posting]) -> Result<(), VaultError> {
        for (seq, first) in postings.iter().rev().map(|p| p.of(block)) {
            if seq >= self.end {
                continue;
            }
            if !self.may_go_on() {
                break;
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
        Ok(())
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
        let size = core.log_size()?;
        let mut search = Search {
            core,
            sought: Sought { tenant: tenant.ord, subject: member.subject, record },
            names: Names::new(core),
            page: Lines::default(),
            page_size,
            left: AUDIT_LOOK_MAX,
            end: before.unwrap_or(size).min(size),
            least: core.minimum_index(),
        };
        let indexed = core.subject_log.end();
        search.through_log(indexed)?;
        if search.end <= indexed {
            search.by_index()?;
        }
        Ok(core.page(search.page.lines, search.end))
    }
}

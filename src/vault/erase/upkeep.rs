//! What the eraser's thread does without being asked: old versions, unacknowledged slots, the index, what kills left.

use std::collections::BTreeSet;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use super::Job;
use super::worker::{TICK, Work, Worker};
use crate::keys::path::BUCKET_KINDS;
use crate::keys::rows::prefix_end;
use crate::keys::slots::BucketId;
use crate::keys::{Edits, KeyError, Sabotage};
use crate::limits;
use crate::store::{Batch, StoreError, Urgency};
use crate::vault::error::VaultError;
use crate::vault::index::Relisted;
use crate::vault::ledger::LeafKind;
use crate::vault::relist::{pages_of, relist};
use crate::vault::requests;
use crate::vault::rows::{Pointer, Tombstone, WithBucket};
use crate::vault::sealed;

/// A superseded version waits at most this long for company.
const SUPERSEDED_WAIT: Duration = Duration::from_secs(60);
/// This many superseded versions make a batch of their own.
const SUPERSEDED_MANY: usize = 512;
/// Paths of open buckets are re-keyed this often (ERASURE invariant 13).
const REKEY_EVERY: Duration = Duration::from_secs(20 * 3600);
/// Rows collected at once after kills, and of how many buckets.
const COLLECT_ROWS: usize = 512;
const COLLECT_BUCKETS: usize = 64;
/// Request ids that no longer count are looked for this often.
const SWEEP_EVERY: Duration = Duration::from_secs(600);
/// How long upkeep rests after it failed.
const RETRY: Duration = Duration::from_secs(5);

/// Where the walk over request ids is.
pub(super) enum Sweep {
    From(Vec<u8>),
    Rest(Instant),
}

impl Sweep {
    pub fn new() -> Self {
        Self::From(b"p".to_vec())
    }

    fn take(&mut self) -> Self {
        std::mem::replace(self, Self::new())
    }
}

impl Worker {
    /// The next job. If none waits already, no batch takes along at once what the last one left.
    pub(super) fn next(&self) -> Result<Job, RecvTimeoutError> {
        self.queue.try_recv().or_else(|_| {
            self.settle();
            self.queue.recv_timeout(TICK)
        })
    }

    /// What the last batch left is deleted, now that no other follows at once.
    fn settle(&self) {
        if self.core.tree.check_running().is_ok()
            && !self.core.tree.store().stopped()
            && let Err(e) = self.core.tree.settle()
        {
            tracing::error!(error = %e, "what the last erasure left is not deleted yet");
        }
    }

    /// What is done without being asked.
    pub(super) fn tend(&mut self) {
        self.tend_at = Instant::now() + TICK;
        // However much there is to do: what is wiped is not to pile up.
        self.core.tree.free_wiped();
        self.core.index.free_wiped();
        if self.core.tree.check_running().is_err() || self.core.tree.store().stopped() {
            return;
        }
        if let Err(e) = self.upkeep() {
            tracing::error!(error = %e, "the eraser's upkeep failed; it is tried again");
            self.tend_at = Instant::now() + RETRY;
        }
    }

    fn upkeep(&mut self) -> Result<(), VaultError> {
        for bucket in self.core.index.broken() {
            self.reindex(bucket)?;
        }
        self.flush_tails(false)?;
        let old =
            self.core.superseded.oldest().is_some_and(|at| {
                self.core.clock.now().0 - at.0 >= SUPERSEDED_WAIT.as_millis() as i64
            });
        let many = self.core.superseded.waiting() >= SUPERSEDED_MANY;
        let rekey = self.rekeyed.elapsed() >= REKEY_EVERY;
        let merge = !self.core.index.mergeable().is_empty();
        if old || many || rekey || merge || !self.unacknowledged.is_empty() {
            self.batch_of(Work::upkeep(merge, rekey))?;
        }
        self.collect_some()?;
        self.forget_requests()?;
        self.core.tell_refusals(false)?;
        if self.core.tree.store().journal_wants_compaction() {
            // Nobody waits for it; the committer does it between groups.
            drop(self.core.tree.store().compact_journal()?);
        }
        self.evolve()
    }

    /// What makes the next start quick, and leaves no old version behind.
    pub(super) fn stop_clean(&mut self) -> Result<(), VaultError> {
        while self.core.superseded.waiting() > 0
            && self.core.tree.check_running().is_ok()
            && self.core.tree.sabotage() != Sabotage::KeepOldVersion
        {
            // What cannot be erased now has its durable intent: the next start goes on.
            if self.batch_of(Work::default()).is_err() {
                break;
            }
        }
        self.core.tree.settle()?;
        match self.flush_tails(true) {
            // Only the next start is slower: the tail is rebuilt from the records.
            Err(VaultError::Keys(KeyError::Store(StoreError::DiskFull))) => Ok(()),
            other => other,
        }
    }

    fn flush_tails(&mut self, stopping: bool) -> Result<(), VaultError> {
        for bucket in self.core.index.flushable(stopping) {
            let bound = self.core.first_unlisted(bucket);
            self.core.index.flush(&self.core.tree, bucket, bound)?;
        }
        Ok(())
    }

    /// Makes a bucket's index anew from its records, since a node of it is lost.
    pub(super) fn reindex(&mut self, bucket: BucketId) -> Result<(), VaultError> {
        tracing::error!("a node of an index is lost; the index is made anew from its records");
        let core = self.core.clone();
        let tenant = core.tenant_of(bucket.0).ok_or(VaultError::NotFound("tenant"))?;
        let covered = core.index.covered(bucket);
        let edits = Edits { unindex: [bucket].into(), ..Edits::default() };
        self.plain(edits, LeafKind::Rekey, None)?;
        core.index.dropped(bucket);
        let mut relisted = Relisted::default();
        let mut whole = true;
        for path in pages_of(&core.tree, bucket, 0..covered)? {
            let content = relist(&core.tree, &tenant, &path, &core.metrics)?;
            if whole && !content.damaged.is_empty() {
                whole = false;
                core.index.uncovered(bucket, content.page);
            }
            if whole {
                relisted.add(content.page, &content.versions);
            } else {
                content.versions.iter().for_each(|(kid, tokens)| core.index.list(*kid, tokens));
            }
            content.damaged.into_iter().for_each(|d| core.damaged.add(d));
            if relisted.len() >= core.index.tail_max() {
                core.index.write_relisted(&core.tree, bucket, relisted.part())?;
            }
        }
        core.index.write_relisted(&core.tree, bucket, relisted)?;
        core.index.mended(bucket);
        core.metrics.indexes_rebuilt.one();
        Ok(())
    }

    /// Deletes some of the request ids that no longer count.
    fn forget_requests(&mut self) -> Result<(), VaultError> {
        let now = self.core.clock.now();
        let from = match self.requests.take() {
            Sweep::Rest(until) if Instant::now() < until => {
                self.requests = Sweep::Rest(until);
                return Ok(());
            }
            Sweep::Rest(_) => b"p".to_vec(),
            Sweep::From(key) => key,
        };
        let store = self.core.tree.store();
        let rows = store.scan(&from, &prefix_end(b"p"), limits::SCAN_PAGE_ROWS)?;
        let more = rows.len() == limits::SCAN_PAGE_ROWS;
        let next = rows.last().map(|row| [row.key.as_slice(), &[0]].concat());
        let mut batch = Batch::default();
        for row in rows {
            // Of a damaged one nobody knows how old it is: it stays until a repair.
            if requests::written(&row.value).is_some_and(|at| requests::expired(at, now)) {
                batch.expect(row.key.clone(), Some(row.value));
                batch.delete(row.key);
            }
        }
        match store.commit_blocking(batch) {
            // An id that was just used again: the next walk sees it as it is.
            Ok(_) | Err(StoreError::Conflict) => {}
            Err(e) => return Err(e.into()),
        }
        self.requests = match next.filter(|_| more) {
            Some(key) => Sweep::From(key),
            None => Sweep::Rest(Instant::now() + SWEEP_EVERY),
        };
        Ok(())
    }

    /// Collects some of what killed buckets left; the keys are gone already.
    fn collect_some(&mut self) -> Result<(), VaultError> {
        let store = self.core.tree.store();
        let mut batch = Batch { urgency: Urgency::Vital, ..Batch::default() };
        let (mut done, mut room) = (BTreeSet::new(), COLLECT_ROWS);
        for bucket in self.to_collect.iter().take(COLLECT_BUCKETS) {
            room = self.collect(*bucket, room, &mut batch)?;
            if room == 0 {
                break;
            }
            done.insert(*bucket);
        }
        if !batch.is_empty() {
            store.commit_blocking(batch)?;
        }
        if !done.is_empty() {
            self.core.tree.collected(&done)?;
            self.to_collect.retain(|b| !done.contains(b));
        }
        Ok(())
    }

    /// Adds the deletion of up to `room` rows of a killed bucket. Returns how much room is left: none if there may be
    /// more rows.
    fn collect(
        &self,
        bucket: BucketId,
        mut room: usize,
        batch: &mut Batch,
    ) -> Result<usize, VaultError> {
        let store = self.core.tree.store();
        let place = [bucket.0.bytes(), bucket.1.bytes()].concat();
        let mut prefixes =
            vec![[b"r".as_slice(), &place].concat(), [b"q".as_slice(), &place].concat()];
        prefixes.extend(BUCKET_KINDS.map(|k| [&[b'k', k as u8], place.as_slice()].concat()));
        for prefix in prefixes {
            let rows = store.scan(&prefix, &prefix_end(&prefix), room)?;
            room -= rows.len();
            for row in rows {
                if let Some(version) = sealed::peek(&row.value) {
                    let key = Pointer::key(bucket.0, version.record);
                    let points_here = |v: &[u8]| {
                        Pointer::decode(v).is_some_and(|p| (p.kid.tenant, p.kid.bucket) == bucket)
                    };
                    if store.get(&key)?.is_some_and(|v| points_here(&v)) {
                        batch.delete(key);
                        let went = WithBucket { bucket: bucket.1, rtype: version.rtype };
                        batch.put(Tombstone::key(bucket.0, version.record), went.encode());
                    }
                }
                batch.delete(row.key);
            }
            if room == 0 {
                return Ok(0);
            }
        }
        Ok(room)
    }
}

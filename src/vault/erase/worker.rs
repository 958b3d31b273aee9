//! The eraser's thread: collects erasures into batches, keeps the ledger, and tends the index between them.
//!
//! Invariants: leaves are appended in the order of the batches; a batch's level leaf goes into the next batch; waiting
//! answers are all given, also when a batch fails.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::{Answer, Doomed, Job};
use crate::class::ErasureReason;
use crate::clock::UnixMillis;
use crate::crypto::merkle::{Frontier, leaf_hash};
use crate::id::{Day, Gen, Kid, TenantOrd, TypeOrd};
use crate::keys::path::BUCKET_KINDS;
use crate::keys::rows::prefix_end;
use crate::keys::slots::BucketId;
use crate::keys::{BatchFacts, Edits, Erased, KeyError, LedgerHead};
use crate::limits;
use crate::store::{Batch, StoreError, Urgency};
use crate::vault::core::Core;
use crate::vault::error::VaultError;
use crate::vault::ledger::{
    Appended, LeafDraft, LeafKind, Receipt, append, bucket_kid, frontier_key, unit_of,
    unit_of_bucket,
};
use crate::vault::registry::Tenant;
use crate::vault::rows::{Pointer, Tombstone};
use crate::vault::sealed;

/// How often the thread looks whether something is to be done.
const TICK: Duration = Duration::from_millis(100);
/// A superseded version waits at most this long for company.
const SUPERSEDED_WAIT: Duration = Duration::from_secs(60);
/// This many superseded versions make a batch of their own.
const SUPERSEDED_MANY: usize = 512;
/// Paths of open buckets are re-keyed this often (ERASURE invariant 13).
const REKEY_EVERY: Duration = Duration::from_secs(20 * 3600);
/// How long a bucket's kill waits for puts that are under way.
const DRAIN_MAX: Duration = Duration::from_secs(30);
/// Rows collected at once after a kill.
const COLLECT_ROWS: usize = 512;

/// What the thread starts from.
pub struct Start {
    pub frontier: Frontier,
    /// Slots that an unacknowledged put may have used.
    pub unacknowledged: BTreeSet<Kid>,
    pub to_collect: Vec<BucketId>,
}

/// The thread's state.
pub struct Worker {
    core: Arc<Core>,
    queue: Receiver<Job>,
    frontier: Frontier,
    unacknowledged: BTreeSet<Kid>,
    to_collect: Vec<BucketId>,
    /// The last batch, whose level no leaf states yet.
    last: Option<Erased>,
    rekeyed: Instant,
    tended: Instant,
}

/// What goes together, and who waits for it.
type Unit = (Vec<Doomed>, Option<Answer<Vec<Receipt>>>);

/// What a batch is to do.
#[derive(Default)]
struct Work {
    units: Vec<Unit>,
    merge: bool,
    rekey: bool,
}

impl Worker {
    pub fn new(core: Arc<Core>, start: Start, queue: Receiver<Job>) -> Self {
        Self {
            core,
            queue,
            frontier: start.frontier,
            unacknowledged: start.unacknowledged,
            to_collect: start.to_collect,
            last: None,
            rekeyed: Instant::now(),
            tended: Instant::now(),
        }
    }

    pub fn run(mut self) {
        loop {
            let job = match self.queue.recv_timeout(TICK) {
                Ok(job) => job,
                Err(RecvTimeoutError::Timeout) => Job::Wake,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if self.tended.elapsed() >= TICK {
                self.tend();
            }
            if let Some(done) = self.take(job) {
                let outcome = self.stop_clean();
                // The one who asked may be gone; there is nobody else to tell.
                let _ = done.send(outcome);
                return;
            }
        }
    }

    /// Does a job and all erasures that wait with it. Returns whom to tell if it was the last.
    fn take(&mut self, job: Job) -> Option<std::sync::mpsc::Sender<Result<(), VaultError>>> {
        let mut job = Some(job);
        let mut work = Work::default();
        let mut room = limits::ERASURE_BATCH_UNITS_MAX;
        while let Some(now) = job.take() {
            match now {
                Job::Units(units, answer) => {
                    room = room.saturating_sub(units.len());
                    work.units.push((units, Some(answer)));
                    if room > 0 {
                        job = self.queue.try_recv().ok();
                    }
                    continue;
                }
                other => {
                    self.batch_of(std::mem::take(&mut work));
                    if let Some(done) = self.single(other) {
                        return Some(done);
                    }
                }
            }
        }
        self.batch_of(work);
        None
    }

    fn single(&mut self, job: Job) -> Option<std::sync::mpsc::Sender<Result<(), VaultError>>> {
        match job {
            Job::Units(units, answer) => {
                let units = vec![(units, Some(answer))];
                self.batch_of(Work { units, ..Work::default() });
            }
            Job::Bucket { tenant, key, reason, done } => {
                // The caller may be gone; the kill is done all the same.
                let _ = done.send(self.kill_buckets(&tenant, key, reason));
            }
            Job::Rotate(done) => {
                let _ = done.send(self.rotate());
            }
            Job::Wake => {}
            Job::Stop(done) => return Some(done),
        }
        None
    }

    /// What is done without being asked.
    fn tend(&mut self) {
        self.tended = Instant::now();
        if self.core.tree.check_running().is_err() || self.core.tree.store().stopped() {
            return;
        }
        let tended = self.flush_tails(false).and_then(|()| {
            let old = self.core.superseded.oldest().is_some_and(|at| {
                self.core.clock.now().0 - at.0 >= SUPERSEDED_WAIT.as_millis() as i64
            });
            let many = self.core.superseded.len() >= SUPERSEDED_MANY;
            let rekey = self.rekeyed.elapsed() >= REKEY_EVERY;
            let merge = !self.core.index.mergeable().is_empty();
            if old || many || rekey || merge || !self.unacknowledged.is_empty() {
                self.batch_of(Work { merge, rekey, ..Work::default() });
            }
            self.collect_some()?;
            if self.core.tree.store().journal_wants_compaction() {
                // Nobody waits for it; the committer does it between groups.
                drop(self.core.tree.store().compact_journal()?);
            }
            Ok(())
        });
        if let Err(e) = tended {
            tracing::error!(error = %e, "the eraser's upkeep failed; it is tried again");
        }
    }

    /// What makes the next start quick, and leaves no old version behind.
    fn stop_clean(&mut self) -> Result<(), VaultError> {
        while self.core.superseded.len() > 0
            && self.core.tree.check_running().is_ok()
            && self.core.tree.sabotage() != crate::keys::Sabotage::KeepOldVersion
        {
            let before = self.core.superseded.len();
            self.batch_of(Work::default());
            if self.core.superseded.len() >= before {
                break;
            }
        }
        match self.flush_tails(true) {
            // Only the next start is slower: the tail is rebuilt from the records.
            Err(VaultError::Keys(KeyError::Store(StoreError::DiskFull))) => Ok(()),
            other => other,
        }
    }

    fn flush_tails(&mut self, stopping: bool) -> Result<(), VaultError> {
        for bucket in self.core.index.flushable(stopping) {
            self.core.index.flush(&self.core.tree, bucket)?;
        }
        Ok(())
    }

    /// One anchor batch for everything that waits.
    fn batch_of(&mut self, mut work: Work) {
        let asked: usize = work.units.iter().map(|(u, _)| u.len()).sum();
        let keep = crate::keys::Sabotage::KeepOldVersion;
        if self.core.tree.sabotage() != keep {
            let room = limits::ERASURE_BATCH_UNITS_MAX.saturating_sub(asked);
            let old = self.core.superseded.take(room);
            if !old.is_empty() {
                let doom = |i: &crate::vault::rows::Intent| {
                    self.core.doom_superseded(self.core.tenant_of(i.kid.tenant).as_ref(), i)
                };
                work.units.push((old.iter().map(doom).collect(), None));
            }
        }
        let nothing = work.units.is_empty() && self.unacknowledged.is_empty();
        if nothing && !work.merge && !work.rekey {
            return;
        }
        let outcome = self.erase(&work);
        match outcome {
            Ok(mut receipts) => {
                for (units, answer) in work.units {
                    let whole = units.iter().filter(|d| d.whole).count();
                    let rest = receipts.split_off(whole.min(receipts.len()));
                    let mine = std::mem::replace(&mut receipts, rest);
                    // A caller that went away can ask again and gets the same receipts.
                    let _ = answer.map(|a| a.send(Ok(mine)));
                }
            }
            Err(e) => {
                tracing::error!(error = %e, "an erasure batch failed");
                let key_error = match e {
                    VaultError::Keys(e) => e,
                    VaultError::Store(e) => e.into(),
                    _ => KeyError::Stopped,
                };
                for (_, answer) in work.units {
                    let failed = VaultError::Keys(key_error.clone());
                    let _ = answer.map(|a| a.send(Err(failed)));
                }
            }
        }
    }

    /// Destroys the keys of the units. Receipts of the whole ones, in order.
    fn erase(&mut self, work: &Work) -> Result<Vec<Receipt>, VaultError> {
        let core = self.core.clone();
        let mut edits = Edits { rekey_open: work.rekey, ..Edits::default() };
        edits.dead = std::mem::take(&mut self.unacknowledged);
        let units: Vec<&Doomed> = work.units.iter().flat_map(|(u, _)| u).collect();
        for d in &units {
            edits.dead.insert(d.kid);
            core.index.unlist(&core.tree, d.kid, d.tokens.as_deref(), &mut edits.unlist)?;
        }
        let mut merges = Vec::new();
        if work.merge {
            for bucket in core.index.mergeable().into_iter().take(4) {
                if let Some((merge, draft)) = core.index.merge(&core.tree, bucket)? {
                    edits.merge.push((bucket, merge.old.clone(), draft));
                    merges.push(merge);
                }
            }
            strip_merged(&mut edits);
        }
        let (drafts, rows) = self.drafts(&units, work)?;
        let (appended, erased) = self.commit(edits, &drafts, rows, None)?;
        merges.iter().for_each(|m| core.index.merged(m));
        if work.rekey {
            self.rekeyed = Instant::now();
        }
        core.metrics.units_erased.add(units.len() as u64);
        let signer = core.tree.read().signer()?;
        let skip = drafts.len() - units.len() - usize::from(work.rekey);
        let mut receipts = Vec::new();
        for (d, leaf) in units.iter().zip(appended.leaves.iter().skip(skip)) {
            if d.whole {
                let receipt = Receipt::sign(core.vault(), leaf, &erased, &signer);
                receipts.push(receipt.ok_or(VaultError::Damaged("ledger"))?);
            }
        }
        Ok(receipts)
    }

    /// The leaves of a batch (level leaf, units, re-key), and what commits and goes with them.
    fn drafts(
        &self,
        units: &[&Doomed],
        work: &Work,
    ) -> Result<(Vec<LeafDraft>, UnitRows), VaultError> {
        let mut drafts: Vec<LeafDraft> = self.last.map(LeafDraft::level).into_iter().collect();
        let mut rows = UnitRows::default();
        let mut pseudonyms = BTreeMap::<TenantOrd, [u8; 16]>::new();
        for d in units {
            let tenant = d.kid.tenant;
            let pseudonym = match pseudonyms.get(&tenant) {
                Some(known) => *known,
                None => {
                    let pseudonym = self.core.tree.read().tenant(tenant)?.pseudonym;
                    *pseudonyms.entry(tenant).or_insert(pseudonym)
                }
            };
            rows.tombs.push((
                drafts.len(),
                d.whole.then_some((tenant, d.record)),
                d.reason,
                d.requested,
            ));
            drafts.push(LeafDraft {
                kind: LeafKind::Record,
                reason: Some(d.reason),
                pseudonym,
                unit: unit_of(self.core.vault(), tenant, d.record, d.rec_ver),
                kid: d.kid.bytes(),
                requested: d.requested,
                count: 1,
                reached: None,
            });
            rows.after.extend((0..d.rows).map(|chunk| sealed::row_key(d.kid, chunk)));
            rows.after.push([b"q".as_slice(), &d.kid.bytes()].concat());
            if d.whole {
                rows.after.push(Pointer::key(tenant, d.record));
            }
        }
        if work.rekey {
            drafts.push(LeafDraft::plain(LeafKind::Rekey, self.core.clock.now()));
        }
        Ok((drafts, rows))
    }

    /// Runs the batch and moves the ledger forward.
    fn commit(
        &mut self,
        edits: Edits,
        drafts: &[LeafDraft],
        rows: UnitRows,
        rotate: Option<&crate::keys::kek::KekSource>,
    ) -> Result<(Appended, Erased), VaultError> {
        let core = self.core.clone();
        let removed = core.clock.now();
        let frontier = self.frontier.clone();
        let mut made = None;
        let mut ledger = |facts: &BatchFacts| {
            let appended = append(frontier.clone(), drafts, facts, removed);
            let mut writes = appended.rows.clone();
            let first = frontier.size();
            for (at, whole, reason, requested) in &rows.tombs {
                let Some((tenant, record)) = whole else { continue };
                let tombstone = Tombstone {
                    reason: *reason,
                    generation: facts.generation,
                    leaf_seq: first + *at as u64,
                    requested: *requested,
                    removed,
                    leaf: appended.leaves.get(*at).map(|l| leaf_hash(l)).unwrap_or_default(),
                };
                writes.push((Tombstone::key(*tenant, *record), tombstone.encode()));
            }
            let mut after = rows.after.clone();
            after.push(frontier_key(Gen(facts.generation.0 - 1)));
            let head = LedgerHead {
                size: appended.frontier.size(),
                root: appended.frontier.root(),
                writes,
                after,
            };
            made = Some(appended);
            head
        };
        let erased = core.tree.batch(edits, rotate, &*core.clock, &mut ledger)?;
        let appended = made.ok_or(VaultError::Stopping)?;
        self.frontier = appended.frontier.clone();
        self.last = Some(erased);
        Ok((appended, erased))
    }

    fn rotate(&mut self) -> Result<Gen, VaultError> {
        let mut drafts: Vec<LeafDraft> = self.last.map(LeafDraft::level).into_iter().collect();
        drafts.push(LeafDraft::plain(LeafKind::Rotation, self.core.clock.now()));
        let source = self.core.kek.clone();
        let edits = Edits::default();
        let (_, erased) = self.commit(edits, &drafts, UnitRows::default(), Some(&source))?;
        Ok(erased.generation())
    }

    /// Destroys the keys of every record of a type and day. The receipt is the last bucket's; there is more than one
    /// only
    /// after a crash.
    fn kill_buckets(
        &mut self,
        tenant: &Arc<Tenant>,
        key: (TypeOrd, Day),
        reason: ErasureReason,
    ) -> Result<Receipt, VaultError> {
        let core = self.core.clone();
        let requested = core.clock.now();
        let ords = tenant.state_mut().buckets.remove(&key).ok_or(VaultError::NotFound("bucket"))?;
        let buckets: Vec<BucketId> = ords.into_iter().map(|b| (tenant.ord, b)).collect();
        let since = Instant::now();
        for bucket in &buckets {
            core.tree.slots().close_bucket(*bucket);
            while !core.tree.slots().is_drained(*bucket) {
                if since.elapsed() > DRAIN_MAX {
                    return Err(VaultError::Precondition("puts into the bucket do not end"));
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let mut drafts: Vec<LeafDraft> = self.last.map(LeafDraft::level).into_iter().collect();
        let pseudonym = core.tree.read().tenant(tenant.ord)?.pseudonym;
        drafts.extend(buckets.iter().map(|(t, b)| LeafDraft {
            reason: Some(reason),
            pseudonym,
            unit: unit_of_bucket(core.vault(), *t, *b),
            kid: bucket_kid(*t, *b),
            ..LeafDraft::plain(LeafKind::Bucket, requested)
        }));
        let edits = Edits { kill: buckets.iter().copied().collect(), ..Edits::default() };
        let (appended, erased) = self.commit(edits, &drafts, UnitRows::default(), None)?;
        for bucket in buckets {
            core.superseded.forget_bucket(bucket);
            core.index.forget(bucket);
            core.tree.slots().forget(bucket);
            core.metrics.buckets_erased.one();
            self.to_collect.push(bucket);
        }
        let signer = core.tree.read().signer()?;
        let leaf = appended.leaves.last().ok_or(VaultError::Damaged("ledger"))?;
        Receipt::sign(core.vault(), leaf, &erased, &signer).ok_or(VaultError::Damaged("ledger"))
    }

    /// Collects some of what killed buckets left; the keys are gone already.
    fn collect_some(&mut self) -> Result<(), VaultError> {
        let Some(bucket) = self.to_collect.first().copied() else { return Ok(()) };
        let store = self.core.tree.store();
        let place = [bucket.0.bytes(), bucket.1.bytes()].concat();
        let mut prefixes =
            vec![[b"r".as_slice(), &place].concat(), [b"q".as_slice(), &place].concat()];
        prefixes.extend(BUCKET_KINDS.map(|k| [&[b'k', k as u8], place.as_slice()].concat()));
        for prefix in prefixes {
            let rows = store.scan(&prefix, &prefix_end(&prefix), COLLECT_ROWS)?;
            if rows.is_empty() {
                continue;
            }
            let mut batch = Batch { urgency: Urgency::Vital, ..Batch::default() };
            for row in rows {
                if let Some(version) = sealed::peek(&row.value) {
                    let key = Pointer::key(bucket.0, version.record);
                    let points_here = |v: &[u8]| {
                        Pointer::decode(v).is_some_and(|p| (p.kid.tenant, p.kid.bucket) == bucket)
                    };
                    if store.get(&key)?.is_some_and(|v| points_here(&v)) {
                        batch.delete(key);
                    }
                }
                batch.delete(row.key);
            }
            store.commit_blocking(batch)?;
            return Ok(());
        }
        self.core.tree.collected(bucket)?;
        self.to_collect.remove(0);
        Ok(())
    }
}

/// Position of the leaf, whose tombstone to write, why, and since when.
type Tomb = (usize, Option<(TenantOrd, crate::id::RecordId)>, ErasureReason, UnixMillis);

/// What commits with the units of a batch, and what goes after it.
#[derive(Default)]
struct UnitRows {
    tombs: Vec<Tomb>,
    after: Vec<Vec<u8>>,
}

/// Entries that leave in this batch must not come back by a run that is merged in it.
fn strip_merged(edits: &mut Edits) {
    for (bucket, old, draft) in &mut edits.merge {
        let Some(draft) = draft else { continue };
        let gone: Vec<_> = edits
            .unlist
            .iter()
            .filter(|(p, _)| (p.tenant, p.bucket) == *bucket && old.contains(&p.run))
            .flat_map(|(_, listings)| listings.iter().copied())
            .collect();
        for leaf in draft.leaves.values_mut() {
            leaf.retain(|l| !gone.contains(l));
        }
        edits.unlist.retain(|p, _| (p.tenant, p.bucket) != *bucket || !old.contains(&p.run));
    }
}

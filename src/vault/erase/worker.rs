//! The eraser's thread: collects erasures into batches and keeps the ledger.
//!
//! Invariants: leaves are appended in the order of the batches; a batch's level leaf goes into the next batch; waiting
//! answers are all given, also when a batch fails; a batch that fails before the anchor leaves everything as it was,
//! and a unit that cannot be erased fails its own caller only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::asked::Asking;
use super::evolve::Evolution;
use super::upkeep::Sweep;
use super::{Answer, Doomed, Job};
use crate::audit::Entry;
use crate::class::ErasureReason;
use crate::clock::UnixMillis;
use crate::crypto::merkle::{Frontier, leaf_hash};
use crate::id::{Gen, Kid, TenantOrd, TypeOrd};
use crate::keys::slots::BucketId;
use crate::keys::{BatchFacts, Edits, Erased, KeyError, LedgerHead, Sabotage};
use crate::limits;
use crate::vault::core::Core;
use crate::vault::error::VaultError;
use crate::vault::holds::postponed::postponed_key;
use crate::vault::index::Listed;
use crate::vault::ledger::{Appended, LeafDraft, LeafKind, Receipt, append, frontier_key, unit_of};
use crate::vault::retention::manifest::Killed;
use crate::vault::rows::{Pointer, Tombstone};
use crate::vault::sealed;

/// How often the thread looks whether something is to be done.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// What the thread starts from.
pub struct Start {
    pub frontier: Frontier,
    /// Slots that an unacknowledged put may have used.
    pub unacknowledged: BTreeSet<Kid>,
    pub to_collect: Vec<BucketId>,
}

/// The thread's state.
pub struct Worker {
    pub(super) core: Arc<Core>,
    pub(super) queue: Receiver<Job>,
    frontier: Frontier,
    pub(super) unacknowledged: BTreeSet<Kid>,
    pub(super) to_collect: Vec<BucketId>,
    /// The last batch, whose level no leaf states yet.
    pub(super) last: Option<Erased>,
    pub(super) rekeyed: Instant,
    pub(super) requests: Sweep,
    pub(super) evolution: Option<Evolution>,
    /// When upkeep is due.
    pub(super) tend_at: Instant,
}

/// What goes together: one caller's, or old versions, for which nobody waits.
struct Group {
    units: Vec<(Doomed, Listed)>,
    entry: Option<Entry>,
    answer: Option<Answer<Vec<Receipt>>>,
}

/// What a batch is to do.
#[derive(Default)]
pub(super) struct Work {
    groups: Vec<Group>,
    merge: bool,
    rekey: bool,
}

impl Work {
    /// What the thread does of its own accord.
    pub fn upkeep(merge: bool, rekey: bool) -> Self {
        Self { merge, rekey, ..Self::default() }
    }
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
            requests: Sweep::new(),
            evolution: None,
            tend_at: Instant::now() + TICK,
        }
    }

    pub fn run(mut self) {
        loop {
            let job = match self.next() {
                Ok(job) => job,
                Err(RecvTimeoutError::Timeout) => Job::Wake,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if Instant::now() >= self.tend_at {
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
                Job::Units(units, entry, answer) => {
                    room = room.saturating_sub(units.len());
                    self.admit(units, entry, answer, &mut work);
                    if room > 0 {
                        job = self.queue.try_recv().ok();
                    }
                    continue;
                }
                other => {
                    // Whoever waits is told; nobody else is to be.
                    let _ = self.batch_of(std::mem::take(&mut work));
                    if let Some(done) = self.single(other) {
                        return Some(done);
                    }
                }
            }
        }
        let _ = self.batch_of(work);
        None
    }

    /// Finds out where a caller's units are listed; one that cannot be erased fails this caller only.
    fn admit(
        &mut self,
        units: Vec<Doomed>,
        entry: Option<Entry>,
        answer: Answer<Vec<Receipt>>,
        work: &mut Work,
    ) {
        match units.iter().map(|d| self.locate(d)).collect::<Result<Vec<_>, _>>() {
            Ok(listed) => {
                let units = units.into_iter().zip(listed).collect();
                work.groups.push(Group { units, entry, answer: Some(answer) });
            }
            Err(e) => {
                self.wait_on(&units);
                // The caller may be gone; nothing was changed.
                let _ = answer.send(Err(e));
            }
        }
    }

    /// Where a unit is listed. Fails if its page or a leaf of its bucket's index does not open.
    fn locate(&mut self, d: &Doomed) -> Result<Listed, VaultError> {
        let core = self.core.clone();
        let key = core.tree.read().dek(d.kid);
        match key {
            // It went with its bucket after its caller had looked.
            Err(KeyError::Gone)
                if d.whole && core.killed((d.kid.tenant, d.kid.bucket))?.is_some() =>
            {
                return Err(VaultError::Erased("record"));
            }
            Ok(_) | Err(KeyError::Gone) => {}
            Err(e) => return Err(e.into()),
        }
        let now = match core.evolving.changed_since(d.kid.tenant, d.rtype, d.revision) {
            true => Some(core.tokens_now(d)),
            false => None,
        };
        let tokens = now.as_ref().unwrap_or(&d.tokens).as_deref();
        let listed = || core.index.listed(&core.tree, d.kid, tokens);
        match listed() {
            Err(KeyError::Damaged(kind)) if kind.is_index() => {
                self.reindex((d.kid.tenant, d.kid.bucket))?;
                Ok(listed()?)
            }
            other => Ok(other?),
        }
    }

    /// Old versions among units that were not erased wait again.
    fn wait_on(&self, units: &[Doomed]) {
        units.iter().filter_map(Doomed::intent).for_each(|i| self.core.superseded.add(i));
    }

    fn single(&mut self, job: Job) -> Option<std::sync::mpsc::Sender<Result<(), VaultError>>> {
        match job {
            Job::Units(units, entry, answer) => {
                let mut work = Work::default();
                self.admit(units, entry, answer, &mut work);
                let _ = self.batch_of(work);
            }
            Job::Kill { condemned, entry, done } => {
                // The caller may be gone; the kill is done all the same.
                let _ = done.send(self.kill_buckets(condemned, entry));
            }
            Job::Rotate(entry, done) => {
                let rotated = self.plain(Edits::default(), LeafKind::Rotation, Some(entry));
                let _ = done.send(rotated.map(|e| e.generation()));
            }
            Job::Wake => {}
            Job::Stop(done) => return Some(done),
        }
        None
    }

    /// Old versions that the next batch takes with it.
    fn add_superseded(&mut self, work: &mut Work) {
        if self.core.tree.sabotage() == Sabotage::KeepOldVersion {
            return;
        }
        let asked: usize = work.groups.iter().map(|g| g.units.len()).sum();
        let room = limits::ERASURE_BATCH_UNITS_MAX.saturating_sub(asked);
        let mut units = Vec::new();
        for old in self.core.superseded.take(room) {
            let tenant = self.core.tenant_of(old.kid.tenant);
            if tenant.as_ref().is_some_and(|tenant| self.core.keeps_old(tenant, &old)) {
                self.core.superseded.hold(old);
                continue;
            }
            let doomed = self.core.doom_superseded(tenant.as_ref(), &old);
            match doomed.and_then(|d| Ok((self.locate(&d)?, d))) {
                Ok((listed, doomed)) => units.push((doomed, listed)),
                Err(e) => {
                    tracing::error!(error = %e, "an old version cannot be erased until the store is repaired");
                    self.core.superseded.park(old);
                }
            }
        }
        if !units.is_empty() {
            work.groups.push(Group { units, entry: None, answer: None });
        }
    }

    /// One anchor batch for everything that waits.
    pub(super) fn batch_of(&mut self, mut work: Work) -> Result<(), KeyError> {
        self.add_superseded(&mut work);
        let nothing = work.groups.is_empty() && self.unacknowledged.is_empty();
        if nothing && !work.merge && !work.rekey {
            return Ok(());
        }
        let outcome = self.erase(&work);
        match outcome {
            Ok(mut receipts) => {
                for group in work.groups {
                    let whole = group.units.iter().filter(|(d, _)| d.whole).count();
                    let rest = receipts.split_off(whole.min(receipts.len()));
                    let mine = std::mem::replace(&mut receipts, rest);
                    // A caller that went away can ask again and gets the same receipts.
                    let _ = group.answer.map(|a| a.send(Ok(mine)));
                }
                Ok(())
            }
            Err(e) => {
                tracing::error!(error = %e, "an erasure batch failed");
                let key_error = match e {
                    VaultError::Keys(e) => e,
                    VaultError::Store(e) => e.into(),
                    _ => KeyError::Stopped,
                };
                for group in work.groups {
                    let units: Vec<Doomed> = group.units.into_iter().map(|(d, _)| d).collect();
                    self.wait_on(&units);
                    let failed = VaultError::Keys(key_error.clone());
                    let _ = group.answer.map(|a| a.send(Err(failed)));
                }
                Err(key_error)
            }
        }
    }

    /// Destroys the keys of the units. Receipts of the whole ones, in order.
    fn erase(&mut self, work: &Work) -> Result<Vec<Receipt>, VaultError> {
        let core = self.core.clone();
        let mut edits = Edits { rekey_open: work.rekey, ..Edits::default() };
        edits.dead.clone_from(&self.unacknowledged);
        let units: Vec<&(Doomed, Listed)> = work.groups.iter().flat_map(|g| &g.units).collect();
        for (d, listed) in &units {
            edits.dead.insert(d.kid);
            listed.collect(&mut edits.unlist);
        }
        let mut merges = Vec::new();
        if work.merge {
            for bucket in core.index.mergeable().into_iter().take(4) {
                match core.index.merge(&core.tree, bucket) {
                    Ok(None) => {}
                    Ok(Some((merge, draft))) => {
                        edits.merge.push((bucket, merge.old.clone(), draft));
                        merges.push(merge);
                    }
                    // It is marked as broken, and made anew by the next upkeep.
                    Err(VaultError::Keys(KeyError::Damaged(kind))) if kind.is_index() => {}
                    Err(e) => return Err(e),
                }
            }
            strip_merged(&mut edits);
        }
        let doomed: Vec<&Doomed> = units.iter().map(|(d, _)| d).collect();
        let (drafts, mut rows) = self.drafts(&doomed, work)?;
        let skip = drafts.len() - units.len() - usize::from(work.rekey);
        let mut next = skip;
        for group in &work.groups {
            rows.asked
                .extend(group.entry.as_ref().and_then(|e| Asking::of(e, next, group.units.len())));
            next += group.units.len();
        }
        let told = work.groups.iter().filter_map(|g| g.entry.clone()).collect();
        let (appended, erased) = self.commit(edits, (&drafts, told), rows, None)?;
        self.unacknowledged.clear();
        units.iter().for_each(|(_, listed)| core.index.unlist(listed));
        let whole = doomed.iter().filter(|d| d.whole);
        whole.for_each(|d| core.closings.leave((d.kid.tenant, d.kid.bucket), d.record));
        merges.iter().for_each(|m| core.index.merged(m));
        if work.rekey {
            self.rekeyed = Instant::now();
        }
        core.metrics.units_erased.add(units.len() as u64);
        let signer = core.tree.read().signer()?;
        let mut receipts = Vec::new();
        for (d, leaf) in doomed.iter().zip(appended.leaves.iter().skip(skip)) {
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
            if d.whole {
                rows.tombs.push((
                    drafts.len(),
                    (Tombstone::key(tenant, d.record).to_vec(), d.rtype),
                    d.reason,
                    d.requested,
                ));
            }
            drafts.push(LeafDraft {
                kind: LeafKind::Record,
                reason: Some(d.reason),
                pseudonym,
                request: [0; 32],
                unit: unit_of(self.core.vault(), tenant, d.record, d.rec_ver),
                kid: d.kid.bytes(),
                requested: d.requested,
                count: 1,
                reached: None,
            });
            rows.after.extend((0..d.rows).map(|chunk| sealed::row_key(d.kid, chunk).to_vec()));
            rows.after.push([b"q".as_slice(), &d.kid.bytes()].concat());
            if d.whole {
                rows.after.push(Pointer::key(tenant, d.record).to_vec());
                if self.core.holds.postponed(tenant, d.record).is_some() {
                    rows.after.push(postponed_key(tenant, d.record));
                }
            }
        }
        if work.rekey {
            drafts.push(LeafDraft::plain(LeafKind::Rekey, self.core.clock.now()));
        }
        Ok((drafts, rows))
    }

    /// A batch about no unit.
    pub(super) fn plain(
        &mut self,
        edits: Edits,
        kind: LeafKind,
        entry: Option<Entry>,
    ) -> Result<Erased, VaultError> {
        let mut drafts: Vec<LeafDraft> = self.last.map(LeafDraft::level).into_iter().collect();
        drafts.push(LeafDraft::plain(kind, self.core.clock.now()));
        let source = self.core.kek.clone();
        let rotate = (kind == LeafKind::Rotation).then_some(&source);
        let told = entry.into_iter().collect();
        Ok(self.commit(edits, (&drafts, told), UnitRows::default(), rotate)?.1)
    }

    /// Runs the batch and moves the ledger forward.
    pub(super) fn commit(
        &mut self,
        edits: Edits,
        (drafts, told): (&[LeafDraft], Vec<Entry>),
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
            for (at, (key, rtype), reason, requested) in &rows.tombs {
                let tombstone = Tombstone {
                    reason: *reason,
                    rtype: *rtype,
                    generation: facts.generation,
                    leaf_seq: first + *at as u64,
                    requested: *requested,
                    removed,
                    leaf: appended.leaves.get(*at).map(|l| leaf_hash(l)).unwrap_or_default(),
                };
                writes.push((key.clone(), tombstone.encode()));
            }
            for (at, key, summary) in &rows.killed {
                let summary = Killed {
                    generation: facts.generation,
                    leaf_seq: first + *at as u64,
                    leaf: appended.leaves.get(*at).map(|l| leaf_hash(l)).unwrap_or_default(),
                    ..*summary
                };
                writes.push((key.clone(), summary.encode()));
            }
            writes.extend(rows.asked.iter().map(|a| a.row(first, facts.generation)));
            let mut after = rows.after.clone();
            after.push(frontier_key(Gen(facts.generation.0 - 1)));
            let head = LedgerHead {
                size: appended.frontier.size(),
                root: appended.frontier.root(),
                writes,
                after,
                entries: told
                    .iter()
                    .flat_map(|e| Entry { generation: facts.generation, ..e.clone() }.encode())
                    .collect(),
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
}

/// Position of the leaf, the tombstone's key and its type, why, and since when.
type Tomb = (usize, (Vec<u8>, TypeOrd), ErasureReason, UnixMillis);

/// What commits with the units of a batch, and what goes after it.
#[derive(Default)]
pub(super) struct UnitRows {
    pub tombs: Vec<Tomb>,
    /// Position of a bucket's leaf, and the key and contents of the row that sums it up.
    pub killed: Vec<(usize, Vec<u8>, Killed)>,
    /// Who asked for which leaves.
    pub asked: Vec<Asking>,
    pub after: Vec<Vec<u8>>,
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

//! The erasure batch: S1 to S8 of ERASURE §2.6.
//!
//! Order, and why: new rows are durable in store and journal (S3) before the anchor names them (S4), or a crash loses
//! the living; the other slot is overwritten (S5) before anything is answered (S7), or an answered unit could still be
//! opened; old rows go last (S8), or a crash before S4 loses the living. S8 has no sync of its own while batches follow
//! each other: it commits with the next batch's S2, or at once if none waits ([`Tree::settle`]).
//! After a failed write to the anchor nothing more is done until the vault is reopened.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

use super::KeyError;
use super::anchor::{AnchorError, Payload, SLOTS, seal_slot};
use super::cache::Cached;
use super::erased::Erased;
use super::grow::{RunDraft, add_run_nodes};
use super::kek::KekSource;
use super::node::{Body, Listing};
use super::path::{NodeKind, Path};
use super::plan::{Mode, Outcome, Plan};
use super::slots::BucketId;
use super::tree::{AnchorState, Reader, State, TENANT_HEAD, Tree};
use super::undo::{self, Chore};
use crate::clock::Clock;
use crate::crypto::{Digest32, Kek, LockedKey, SecretBytes, kek_id, labels, sha256_parts};
use crate::id::{Gen, Kid, PageOrd, RunOrd};
use crate::store::{Batch, StoreError, Urgency};

/// What leaves the tree.
#[derive(Default)]
pub struct Edits {
    /// Record versions.
    pub dead: BTreeSet<Kid>,
    /// Index entries, by leaf.
    pub unlist: BTreeMap<Path, Vec<Listing>>,
    /// Whole buckets.
    pub kill: BTreeSet<BucketId>,
    /// Runs of a bucket that one new run takes the place of.
    pub merge: Vec<(BucketId, Vec<RunOrd>, Option<RunDraft>)>,
    /// Buckets whose whole index goes, to be made anew.
    pub unindex: BTreeSet<BucketId>,
    /// Re-key the path of every open page (ERASURE invariant 13).
    pub rekey_open: bool,
}

/// What the ledger's leaves are told of the batch.
#[derive(Clone, Copy, Debug)]
pub struct BatchFacts {
    pub generation: Gen,
    pub old_rows: Digest32,
    pub new_rows: Digest32,
}

/// What the caller commits with the batch.
pub struct LedgerHead {
    pub size: u64,
    pub root: Digest32,
    /// Rows that count only if the generation is committed.
    pub writes: Vec<(Vec<u8>, Vec<u8>)>,
    /// Keys of rows to delete afterwards.
    pub after: Vec<Vec<u8>>,
    /// What the audit log tells of the batch.
    pub entries: Vec<Vec<u8>>,
}

/// Ways to break the erasure path on purpose. Only tests make anything but `None`; no configuration reaches it.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sabotage {
    #[default]
    None,
    /// S4 before S3.
    AnchorBeforeStore,
    /// No S5.
    SkipScrub,
    /// Rule R broken: a removal keeps the node's key.
    ReuseNodeKey,
    /// An erased record's index entries stay.
    KeepIndexEntry,
    /// A superseded version is never erased.
    KeepOldVersion,
    /// S1 does not close the touched pages.
    SlotAfterClose,
    /// Runs are merged as if that removed nothing.
    MergeWithoutRekey,
    /// Node rows do not go to the journal.
    SkipJournal,
    /// S8 before S4.
    DeleteEarly,
}

impl Tree {
    /// Removes keys for good. Blocks until the erasure point (S5) is passed.
    ///
    /// `rotate` also seals the anchor under the source's next KEK. `ledger` is told the batch's facts and answers with
    /// the rows that commit with it.
    pub fn batch(
        &self,
        edits: Edits,
        rotate: Option<&KekSource>,
        clock: &dyn Clock,
        ledger: &mut dyn FnMut(&BatchFacts) -> LedgerHead,
    ) -> Result<Erased, KeyError> {
        self.check_running()?;
        let next_kek = rotate.map(|source| self.prepare_kek(source)).transpose()?;
        let _held = self.mutation.blocking_lock();
        for (bucket, pages) in self.slots.wanted_spares() {
            match self.add_pages(bucket, pages) {
                // Spares serve puts, and those have stopped; the erasure goes on.
                Err(KeyError::Store(StoreError::DiskFull)) => break,
                other => other?,
            }
        }
        for bucket in &edits.unindex {
            // The index said how far the ordinals of pages were used; from now on the last page does.
            self.add_pages(*bucket, 1)?;
        }
        let generation = Gen(self.generation().0 + 1);
        let kill = edits.kill.clone();
        let outcome = {
            let reader = self.read();
            let merge_mutant =
                self.sabotage == Sabotage::MergeWithoutRekey && !edits.merge.is_empty();
            let sabotage = if merge_mutant { Sabotage::ReuseNodeKey } else { self.sabotage };
            let mut plan = Plan::new(&reader, Mode::Rekey, sabotage);
            self.close_and_remove(&reader, &mut plan, edits)?;
            plan.finish(self.vault, generation)?
        };
        let facts = facts(generation, &outcome);
        let head = ledger(&facts);
        let anchor_first = self.sabotage == Sabotage::AnchorBeforeStore;
        if !anchor_first {
            self.write_rows(&facts, &outcome, &head, &kill)?;
        }
        if self.sabotage == Sabotage::DeleteEarly {
            self.store.commit_blocking(self.old_rows(generation, &outcome, &head, None))?;
        }
        let erased = self.flip_anchor(&facts, &outcome, &head, next_kek, clock)?;
        if anchor_first {
            self.write_rows(&facts, &outcome, &head, &kill)?;
        }
        if let Err(e) = self.publish(generation, &outcome, &kill) {
            // The anchor names a tree that is not the one in memory.
            self.stopped.store(true, Ordering::SeqCst);
            return Err(e);
        }
        // From here on the batch is complete, and nothing may answer that it failed.
        if let Some(Err(e)) = rotate.map(KekSource::promote_next) {
            tracing::error!(error = %e, "the new KEK has not taken the old one's place yet; keep both files");
        }
        self.metrics.generations.one();
        self.set_through(erased);
        // Hygiene: nobody waits for it, and recovery does it otherwise.
        *self.leftover() = self.old_rows(generation, &outcome, &head, Some(&erased));
        Ok(erased)
    }

    /// The next KEK. If the last one has not taken its place yet it does so first: it may be all that opens the anchor.
    fn prepare_kek(&self, source: &KekSource) -> Result<Kek, KeyError> {
        source.settle(&kek_id(&self.anchor().kek))?;
        Ok(source.prepare_next()?)
    }

    /// Gives memory back that batches wiped; nobody waits for it.
    pub fn free_wiped(&self) {
        self.cache.free_wiped();
    }

    #[cfg(test)]
    pub fn to_free(&self) -> usize {
        self.cache.to_free()
    }

    /// S8 of the last batch, if no batch took it along.
    pub fn settle(&self) -> Result<(), KeyError> {
        let mut leftover = self.leftover();
        if !leftover.writes.is_empty() {
            self.store.commit_blocking(leftover.clone())?;
            *leftover = Batch::default();
        }
        Ok(())
    }

    fn leftover(&self) -> MutexGuard<'_, Batch> {
        self.leftover.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// S1: closes every touched page and takes the doomed keys out of their nodes.
    fn close_and_remove(
        &self,
        reader: &Reader<'_>,
        plan: &mut Plan<'_>,
        edits: Edits,
    ) -> Result<(), KeyError> {
        plan.touch(&Path::ROOT)?;
        for (tenant, bucket) in &edits.kill {
            self.slots.close_bucket((*tenant, *bucket));
            plan.remove(&Path::bucket(*tenant, *bucket))?;
            raise_next_bucket(plan, reader, *tenant, bucket.value() + 1)?;
        }
        let lives = |t, b| !edits.kill.contains(&(t, b));
        for kid in edits.dead.iter().filter(|k| lives(k.tenant, k.bucket)) {
            self.kill_slot(reader, plan, *kid)?;
        }
        if self.sabotage != Sabotage::KeepIndexEntry {
            for (leaf, doomed) in edits.unlist.iter().filter(|(p, _)| lives(p.tenant, p.bucket)) {
                if let Body::Leaf(leaf) = plan.touch(leaf)? {
                    leaf.listings.retain(|l| !doomed.contains(l));
                }
            }
        }
        for (bucket, old, new) in edits.merge {
            if edits.kill.contains(&bucket) {
                continue;
            }
            for run in old {
                plan.remove_whole(&Path::run(bucket.0, bucket.1, run))?;
            }
            if let Some(draft) = new {
                let path = Path::bucket(bucket.0, bucket.1);
                let mut head = reader.bucket(bucket.0, bucket.1)?;
                head.next_run = head.next_run.max(draft.run.value() + 1);
                plan.set_head(&path, &head.encode())?;
                add_run_nodes(plan, bucket, draft)?;
            }
        }
        for (tenant, bucket) in edits.unindex {
            let path = Path::bucket(tenant, bucket);
            let mut head = reader.bucket(tenant, bucket)?;
            head.indexed_below = PageOrd::of(0);
            plan.set_head(&path, &head.encode())?;
            match plan.remove_whole(&Path::index(tenant, bucket)) {
                Ok(()) | Err(KeyError::Gone) => {}
                Err(e) => return Err(e),
            }
        }
        if edits.rekey_open {
            for ((tenant, bucket), page) in self.slots.open_pages() {
                if !edits.kill.contains(&(tenant, bucket)) {
                    let path = Path::page(tenant, bucket, page);
                    let handed_out = self.slots.close_page((tenant, bucket), page);
                    if let (Body::Page(page), Some(first)) = (plan.touch(&path)?, handed_out) {
                        page.rerandomise_from(first);
                    }
                }
            }
        }
        Ok(())
    }

    fn kill_slot(
        &self,
        reader: &Reader<'_>,
        plan: &mut Plan<'_>,
        kid: Kid,
    ) -> Result<(), KeyError> {
        let path = Path::page_of(kid);
        let bucket = (kid.tenant, kid.bucket);
        let handed_out = match self.sabotage {
            Sabotage::SlotAfterClose => self.slots.handed_out(bucket, kid.page),
            _ => self.slots.close_page(bucket, kid.page),
        };
        let page = match plan.touch(&path) {
            Ok(Body::Page(page)) => page,
            Ok(_) => return Err(KeyError::Damaged(NodeKind::Page)),
            // The page went with its last slot: nothing is left to kill.
            Err(KeyError::Gone) => return Ok(()),
            Err(e) => return Err(e),
        };
        page.kill(kid.slot);
        if let Some(first) = handed_out {
            page.rerandomise_from(first);
        }
        if page.all_dead() && kid.page < reader.bucket(kid.tenant, kid.bucket)?.indexed_below {
            plan.remove(&path)?;
        }
        Ok(())
    }

    /// S2 and S3: the new rows and the ledger's, durable in store and journal, read back.
    fn write_rows(
        &self,
        facts: &BatchFacts,
        outcome: &Outcome,
        head: &LedgerHead,
        kill: &BTreeSet<BucketId>,
    ) -> Result<(), KeyError> {
        let after = outcome.obsolete.iter().chain(&head.after).cloned().map(Chore::After);
        let written = outcome.rows.iter().chain(&head.writes).map(|(k, _)| Chore::Undo(k.clone()));
        let mut chores: Vec<Chore> = after.chain(written).collect();
        chores.extend(kill.iter().map(|b| Chore::Collect(*b)));
        let mut leftover = self.leftover();
        let mut batch = Batch { urgency: Urgency::Vital, ..leftover.clone() };
        for (key, value) in undo::encode(facts.generation, &chores) {
            batch.put(key, value);
        }
        for (key, value) in outcome.rows.iter().chain(&head.writes) {
            batch.put(key.clone(), value.clone());
        }
        batch.entries.clone_from(&head.entries);
        self.store.commit_blocking(batch)?;
        *leftover = Batch::default();
        drop(leftover);
        for (key, value) in &outcome.rows {
            if self.store.get(key)?.as_ref() != Some(value) {
                self.stopped.store(true, Ordering::SeqCst);
                return Err(KeyError::Damaged(NodeKind::Root));
            }
        }
        Ok(())
    }

    /// S4 and S5: the anchor names the new root, then nothing names the old one.
    fn flip_anchor(
        &self,
        facts: &BatchFacts,
        outcome: &Outcome,
        head: &LedgerHead,
        next_kek: Option<Kek>,
        clock: &dyn Clock,
    ) -> Result<Erased, KeyError> {
        let root = outcome.root.as_ref().ok_or(KeyError::Damaged(NodeKind::Root))?;
        let mut anchor = self.anchor();
        let now = clock.now();
        let (audit_size, audit_head) = self.audit(&anchor.payload);
        let payload = Payload {
            generation: facts.generation,
            refresh: 0,
            root_ver: root.ver,
            root_key: LockedKey::copied(root.key.expose())?,
            ledger_size: head.size,
            ledger_root: head.root,
            audit_size,
            audit_head,
            batch_hash: batch_hash(facts, &head.root),
            store_seq: self.store.seq(),
            wall: now.max(anchor.payload.wall),
            kek_since: if next_kek.is_some() { now } else { anchor.payload.kek_since },
            clean: false,
        };
        if let Some(kek) = next_kek {
            anchor.kek = kek;
        }
        anchor.payload = payload;
        let scrub = self.sabotage != Sabotage::SkipScrub;
        self.write_anchor(&mut anchor, scrub)?;
        Ok(Erased::completed(facts.generation, anchor.anchor.medium(), clock.now()))
    }

    /// Writes the idle slot, then (`both`) the other. A failure stops the vault.
    pub(super) fn write_anchor(
        &self,
        state: &mut AnchorState,
        both: bool,
    ) -> Result<(), AnchorError> {
        let idle = 1 - state.slot;
        let order = if both { vec![idle, state.slot] } else { vec![idle] };
        debug_assert!(SLOTS.contains(&idle));
        for slot in order {
            let image = seal_slot(self.vault, slot, &state.kek, &state.payload);
            if let Err(e) = image.and_then(|image| state.anchor.write(slot, &image)) {
                self.stopped.store(true, Ordering::SeqCst);
                return Err(e);
            }
            state.slot = slot;
        }
        Ok(())
    }

    /// S6: waits for the readers of the old tree, then the new one is all there is.
    fn publish(
        &self,
        generation: Gen,
        outcome: &Outcome,
        kill: &BTreeSet<BucketId>,
    ) -> Result<(), KeyError> {
        let wrapped = outcome
            .nodes
            .iter()
            .map(|(path, opened)| {
                let node = self.cache.wrap(path, opened);
                Ok((path, node.map_err(|_| KeyError::Damaged(path.kind))?))
            })
            .collect::<Result<Vec<(&Path, std::sync::Arc<Cached>)>, KeyError>>()?;
        let root = outcome.root.as_ref().ok_or(KeyError::Damaged(NodeKind::Root))?;
        let next = State {
            root_ver: root.ver,
            root_key: LockedKey::copied(root.key.expose())?,
            generation,
        };
        let mut state = self.state_mut();
        *state = next;
        outcome.vanished.iter().for_each(|path| self.cache.remove(path));
        wrapped.into_iter().for_each(|(path, node)| self.cache.replace(path, node));
        for (tenant, bucket) in kill {
            self.cache.remove_bucket(*tenant, *bucket);
        }
        Ok(())
    }

    /// What S8 writes: what the batch made obsolete goes, and with it the note that it must.
    fn old_rows(
        &self,
        generation: Gen,
        outcome: &Outcome,
        head: &LedgerHead,
        erased: Option<&Erased>,
    ) -> Batch {
        let mut batch = Batch { urgency: Urgency::Vital, ..Batch::default() };
        for key in outcome.obsolete.iter().chain(&head.after) {
            batch.delete(key.clone());
        }
        if let Some(erased) = erased {
            let (key, value) = erased.row();
            batch.put(key, value);
            let from = [b"b".as_slice(), &generation.0.to_be_bytes()].concat();
            let to = super::rows::prefix_end(&from);
            // If they cannot be read, the next start does what they say.
            for row in self.store.scan(&from, &to, usize::from(u16::MAX)).unwrap_or_default() {
                let collects = |c: &Chore| matches!(c, Chore::Collect(_));
                let left: Vec<Chore> =
                    undo::decode(&row.value).into_iter().filter(collects).collect();
                match undo::encode(generation, &left).pop() {
                    Some((_, value)) => batch.put(row.key, value),
                    None => batch.delete(row.key),
                }
            }
        }
        batch
    }
}

fn raise_next_bucket(
    plan: &mut Plan<'_>,
    reader: &Reader<'_>,
    tenant: crate::id::TenantOrd,
    least: u32,
) -> Result<(), KeyError> {
    let path = Path::tenant(tenant);
    let next = least.max(reader.next_bucket(tenant)?);
    let mut head = SecretBytes::new(plan.dir(&path)?.head().to_vec());
    if let (Some(field), [_, bytes @ ..]) =
        (head.get_mut(TENANT_HEAD - 3..TENANT_HEAD), next.to_be_bytes())
    {
        let present = field.iter().fold(0, |n, b| n << 8 | u32::from(*b));
        if present < next {
            field.copy_from_slice(&bytes);
        }
    }
    plan.set_head(&path, &head)?;
    Ok(())
}

fn facts(generation: Gen, outcome: &Outcome) -> BatchFacts {
    let old: Vec<&[u8]> = outcome.obsolete.iter().map(Vec::as_slice).collect();
    let new: Vec<Digest32> = outcome.rows.iter().map(|(k, v)| sha256_parts(&[k, v])).collect();
    let new: Vec<&[u8]> = new.iter().map(|d| d.as_slice()).collect();
    BatchFacts { generation, old_rows: sha256_parts(&old), new_rows: sha256_parts(&new) }
}

/// What the anchor binds of a batch.
pub(super) fn batch_hash(facts: &BatchFacts, ledger_root: &Digest32) -> Digest32 {
    let generation = facts.generation.0.to_be_bytes();
    sha256_parts(&[labels::BATCH, &generation, &facts.new_rows, ledger_root])
}

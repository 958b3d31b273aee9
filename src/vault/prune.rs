//! The audit log's own retention: its oldest entries go, whole blocks of them, and the tree over all stays.
//!
//! Order: what stays of the blocks, the new beginning and the entry that tells of it are one commit, and from then on
//! nothing before that is served; index rows and entries follow, and the tiles with hashes of single entries.
//!
//! Invariants: nothing goes before its time by the vault's own count and by the wall clock; the hash that stays of a
//! block has the bound root above it, unless the log was damaged before; what a crash leaves behind goes later.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::calendar::Period;
use super::core::Core;
use super::error::VaultError;
use super::logs::{Head, TileTree, View};
use crate::audit::{Entry, entries_in, first_in, pruned, row_key, split};
use crate::class::Log;
use crate::crypto::Digest32;
use crate::crypto::merkle::tile::{TILE_WIDTH, root_of};
use crate::crypto::merkle::{Frontier, leaf_hash};
use crate::id::Day;
use crate::limits::{LOG_PRUNE_BLOCKS, LOG_TREE_BEHIND, SCAN_PAGE_ROWS};
use crate::store::{Batch, Store, StoreError, Urgency};

/// Entries that a row of the log can hold at most.
pub(super) const ROW_ENTRIES_MAX: u64 = 128;
/// Stands for a block that had lost entries before it was pruned: no tree has this hash.
const LOST: Digest32 = [0; 32];

/// How far the log was pruned.
pub struct Pruned {
    /// How long entries stay; `None`: for ever.
    retain: Option<Period>,
    /// Blocks below this are gone.
    blocks: AtomicU64,
    /// The log was found to have no whole tree.
    torn: AtomicBool,
    state: Mutex<State>,
}

struct State {
    /// The last day of which it is known how long the log was, and how long that was.
    marked: Option<(Day, u64)>,
    /// Nothing is left of what was pruned.
    cleared: bool,
}

impl Pruned {
    pub fn load(store: &Store, retain: Option<Period>) -> Result<Self, StoreError> {
        let blocks = pruned::blocks(&|from, to, most| store.scan(from, to, most))?;
        let mut marked = None;
        for row in store.prefix(b"j") {
            marked = marked.max(pruned::day_in(&row?));
        }
        let state = Mutex::new(State { marked, cleared: false });
        Ok(Self { retain, blocks: AtomicU64::new(blocks), torn: AtomicBool::new(false), state })
    }

    fn blocks(&self) -> u64 {
        self.blocks.load(Ordering::Acquire)
    }
}

fn vital() -> Batch {
    Batch { urgency: Urgency::Vital, ..Batch::default() }
}

impl Core {
    /// Number of the first entry that the log still has, or would have.
    pub(super) fn minimum_index(&self) -> u64 {
        self.pruned.blocks().saturating_mul(TILE_WIDTH)
    }

    /// Whether entries from this number on were not pruned.
    pub(super) fn check_kept(&self, start: u64) -> Result<(), VaultError> {
        let minimum = self.minimum_index();
        if start < minimum { Err(VaultError::Pruned(minimum)) } else { Ok(()) }
    }

    /// The hash that stays of a block, if it was pruned.
    pub(super) fn pruned_block(&self, block: u64) -> Result<Option<Digest32>, VaultError> {
        if block >= self.pruned.blocks() {
            return Ok(None);
        }
        let row = self.tree.store().get(&pruned::key_of(block))?;
        let hash = row.as_deref().and_then(|row| pruned::hash_in(row, block));
        hash.map(Some).ok_or(VaultError::Damaged("audit log"))
    }

    /// The tree over all that was pruned.
    pub(super) fn pruned_tree(&self) -> Result<Frontier, VaultError> {
        let store = self.tree.store();
        let tree = pruned::frontier(&|from, to, most| store.scan(from, to, most))?;
        tree.ok_or(VaultError::Damaged("audit log"))
    }

    /// Notes how long the log is today, and prunes what is due; so much at a time that other work is not held up.
    pub(super) fn tend_log(&self) -> Result<(), VaultError> {
        let mut state = self.pruned.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.mark_day(&mut state)?;
        let due = self.pruned.retain.map(|retain| self.due_marks(retain)).transpose()?;
        let (entries, passed) = due.unwrap_or_default();
        let (begun, bound) = (self.pruned.blocks(), self.bound(Log::Audit)?);
        let full = (entries / TILE_WIDTH).min(bound.0 / TILE_WIDTH);
        let until = full.min(self.subject_log.blocks()).min(begun.saturating_add(LOG_PRUNE_BLOCKS));
        state.cleared |= begun == 0;
        if until > begun || !state.cleared {
            // Whoever has the tree now may read all of the log: sweeps do not wait for that.
            let Some(mut tree) = self.logs.try_lock(Log::Audit) else { return Ok(()) };
            if until > begun && !self.is_far(&tree, bound) {
                state.cleared = false;
                self.prune(&mut tree, begun, until)?;
            }
            if !state.cleared {
                state.cleared = self.clear_pruned(&tree)?;
            }
        }
        let done = entries / TILE_WIDTH <= self.pruned.blocks();
        // The last of them says up to where the log is to go; it has done its duty when that is reached.
        let over = passed.len().saturating_sub(usize::from(!done));
        let mut batch = vital();
        passed.into_iter().take(over).for_each(|key| batch.delete(key));
        if !batch.is_empty() {
            self.tree.store().commit_blocking(batch)?;
        }
        Ok(())
    }

    /// Whether the tree is so far behind that somebody else brings it on first.
    fn is_far(&self, tree: &TileTree, bound: Head) -> bool {
        tree.behind(bound) > LOG_TREE_BEHIND && !self.pruned.torn.load(Ordering::Relaxed)
    }

    /// Brings the tree near to the log's end, where that takes long, so that what prunes finds it there.
    pub(super) fn near_tree(&self) -> Result<(), VaultError> {
        if self.pruned.retain.is_none() {
            return Ok(());
        }
        let (bound, rows) = (self.bound(Log::Audit)?, self.log_rows(Log::Audit));
        match self.logs.try_lock(Log::Audit) {
            Some(mut tree) if self.is_far(&tree, bound) => {
                self.or_torn(tree.reach(bound, &rows).map(drop)).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// What was found in the tree; `None` if the log was damaged, which is told once.
    fn or_torn<T>(&self, found: Result<T, VaultError>) -> Result<Option<T>, VaultError> {
        match found {
            Err(VaultError::Damaged(_)) => {
                if !self.pruned.torn.swap(true, Ordering::Relaxed) {
                    tracing::error!("the audit log is damaged; it is pruned without its tree");
                }
                Ok(None)
            }
            found => found.map(Some),
        }
    }

    fn mark_day(&self, state: &mut State) -> Result<(), VaultError> {
        let now = self.time.mark(&*self.clock);
        if now.provisional {
            // Nobody knows what day it is: what comes now goes with what comes when somebody does.
            return Ok(());
        }
        // Whatever the clock was set to, what comes later is not older.
        let today = state.marked.map_or(now.at.day(), |(day, _)| day.max(now.at.day()));
        let mark = (today, self.log_size()?);
        if state.marked != Some(mark) {
            let mut batch = vital();
            batch.put(pruned::day_key(mark.0), pruned::day_row(mark.1));
            self.tree.store().commit_blocking(batch)?;
            state.marked = Some(mark);
        }
        Ok(())
    }

    /// How many entries are so old that they are due, and the marks that say so.
    fn due_marks(&self, retain: Period) -> Result<(u64, Vec<Vec<u8>>), VaultError> {
        let today = self.time.due(&*self.clock).day();
        let (mut entries, mut passed) = (0, Vec::new());
        for row in self.tree.store().prefix(b"j") {
            let row = row?;
            match pruned::day_in(&row) {
                Some((day, _)) if retain.last_day(day) >= today => break,
                Some((_, length)) => entries = length,
                // Without it what it stood for goes with the next day's.
                None => self.metrics.damaged_rows.one(),
            }
            passed.push(row.key);
        }
        Ok((entries, passed))
    }

    /// From here on the log begins at block `until`.
    fn prune(&self, tree: &mut TileTree, begun: u64, until: u64) -> Result<(), VaultError> {
        let store = self.tree.store();
        let hashes = match self.pruned.torn.load(Ordering::Relaxed) {
            false => self.hashes_of_blocks(tree, begun, until)?,
            true => self.hashes_of_what_is_left(begun, until)?,
        };
        let rows = pruned::add(begun, &hashes, |key| store.get(key))?;
        let mut batch = vital();
        batch.writes = rows.ok_or(VaultError::Damaged("audit log"))?;
        let minimum = until.saturating_mul(TILE_WIDTH);
        let from = row_key(minimum.saturating_sub(ROW_ENTRIES_MAX));
        for row in store.scan(&from, &row_key(minimum), SCAN_PAGE_ROWS)? {
            let whole = first_in(&row.key).zip(entries_in(&row.value));
            let parts = whole.and_then(|(first, entries)| split(first, &entries, minimum));
            batch.writes.extend(parts.into_iter().flatten());
        }
        batch.entries = Entry::pruned(minimum, self.clock.now()).encode();
        store.commit_blocking(batch)?;
        self.pruned.blocks.store(until, Ordering::Release);
        self.metrics.audit_entries.one();
        self.metrics.audit_entries_pruned.add((until - begun).saturating_mul(TILE_WIDTH));
        Ok(())
    }

    /// Hashes of blocks, from the tree that the anchor has bound; of a log that is damaged from what is left of it.
    fn hashes_of_blocks(
        &self,
        tree: &mut TileTree,
        begun: u64,
        until: u64,
    ) -> Result<Vec<Digest32>, VaultError> {
        let rows = self.log_rows(Log::Audit);
        let bound = tree.reach(self.bound(Log::Audit)?, &rows).and_then(|view: View<'_>| {
            let hash = |block| view.hashes(1, block, 1).map(|found| found.first().copied());
            (begun..until).map(hash).collect::<Result<Option<Vec<_>>, _>>()
        });
        match self.or_torn(bound)?.flatten() {
            Some(hashes) => Ok(hashes),
            None => self.hashes_of_what_is_left(begun, until),
        }
    }

    fn hashes_of_what_is_left(&self, begun: u64, until: u64) -> Result<Vec<Digest32>, VaultError> {
        (begun..until).map(|block| self.hash_of_what_is_left(block)).collect()
    }

    fn hash_of_what_is_left(&self, block: u64) -> Result<Digest32, VaultError> {
        let start = block.saturating_mul(TILE_WIDTH);
        let leaves = self.log_leaves(start, start.saturating_add(TILE_WIDTH))?.into_iter();
        let hashes: Option<Vec<_>> = leaves.map(|(_, leaf)| Some(leaf_hash(&leaf?))).collect();
        Ok(hashes.map_or(LOST, |hashes| root_of(&hashes)))
    }

    /// Deletes what is left of pruned entries: postings of the index, their rows, and tiles with hashes of them.
    /// Whether all is gone.
    fn clear_pruned(&self, tree: &TileTree) -> Result<bool, VaultError> {
        // Postings go before their entries, so that none is left without a trace.
        if !self.cut_index()? {
            return Ok(false);
        }
        let (store, minimum) = (self.tree.store(), self.minimum_index());
        let (mut from, until) = (row_key(0), row_key(minimum));
        loop {
            let rows = store.scan(&from, &until, SCAN_PAGE_ROWS)?;
            let Some(last) = rows.last() else { break };
            from = [last.key.as_slice(), &[0]].concat();
            let mut batch = vital();
            rows.into_iter().for_each(|row| batch.delete(row.key));
            store.commit_blocking(batch)?;
        }
        tree.forget_entries(minimum / TILE_WIDTH);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::audit::{Act, Kind};
    use crate::clock::UnixMillis;
    use crate::store::Memory;
    use crate::vault::testing::vault_with;

    /// A vault whose log keeps its entries for thirty days.
    fn vault(dir: &std::path::Path) -> crate::vault::Vault {
        vault_with(dir, Arc::new(Memory::new()), |setup| {
            setup.audit_retain = "P30D".parse().ok();
            setup.hooks.no_sweeps = true;
        })
    }

    /// The keeper leaves such a tree to the thread of the subjects' index, and goes on when it is near.
    #[test]
    fn a_log_that_is_long_is_pruned_once_its_tree_is_near() {
        let dir = tempfile::tempdir().unwrap();
        let vault = vault(dir.path());
        let core = &*vault.core;
        let store = core.tree.store();
        let entry = Entry::new(Kind::Vault, Act::Sweep, UnixMillis(1)).encode();
        while core.log_size().unwrap() <= LOG_TREE_BEHIND {
            let mut batch = vital();
            (0..ROW_ENTRIES_MAX).for_each(|_| batch.entries.extend(entry.iter().cloned()));
            store.commit_blocking(batch).unwrap();
        }
        let size = core.log_size().unwrap();
        let mut batch = vital();
        batch.put(pruned::day_key(Day(1)), pruned::day_row(size));
        store.commit_blocking(batch).unwrap();
        core.tree.refresh(core.clock.now(), false).unwrap();
        let until = Instant::now() + Duration::from_secs(100);
        while core.minimum_index() == 0 && Instant::now() < until {
            core.tend_log().unwrap();
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(core.minimum_index(), LOG_PRUNE_BLOCKS * TILE_WIDTH, "so much at a time");
        assert!(store.scan(&row_key(0), &row_key(core.minimum_index()), 1).unwrap().is_empty());
        vault.close().unwrap();
    }

    /// What is indexed after it was pruned would stay for ever.
    #[test]
    fn entries_that_are_not_indexed_yet_stay() {
        let dir = tempfile::tempdir().unwrap();
        let vault = vault(dir.path());
        vault.subject_indexer.stop();
        let core = &*vault.core;
        let mut batch = vital();
        let entry = Entry::new(Kind::Vault, Act::Sweep, UnixMillis(1)).encode();
        (0..3 * TILE_WIDTH).for_each(|_| batch.entries.extend(entry.iter().cloned()));
        core.tree.store().commit_blocking(batch).unwrap();
        let mut batch = vital();
        batch.put(pruned::day_key(Day(1)), pruned::day_row(2 * TILE_WIDTH));
        core.tree.store().commit_blocking(batch).unwrap();
        core.tree.refresh(core.clock.now(), false).unwrap();
        core.tend_log().unwrap();
        assert_eq!(core.minimum_index(), 0);
        core.index_full_blocks(|| core.subject_log.blocks() > 0).unwrap();
        core.tend_log().unwrap();
        assert_eq!(core.minimum_index(), 2 * TILE_WIDTH, "control");
        vault.close().unwrap();
    }

    /// Whatever the vault takes the time to be: a mark that went back would make what came since older than it is.
    #[test]
    fn the_mark_of_a_day_never_goes_back() {
        let dir = tempfile::tempdir().unwrap();
        let vault = vault(dir.path());
        let core = &*vault.core;
        let later = Day(core.clock.now().day().0 + 5);
        let mut state = State { marked: Some((later, u64::MAX)), cleared: true };
        core.mark_day(&mut state).unwrap();
        let rows: Vec<_> = core.tree.store().prefix(b"j").map(Result::unwrap).collect();
        let days: Vec<Day> = rows.iter().filter_map(pruned::day_in).map(|(day, _)| day).collect();
        assert_eq!((days, state.marked.map(|(day, _)| day)), (vec![later], Some(later)));
        vault.close().unwrap();
    }
}

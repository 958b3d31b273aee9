//! Which entries of the audit log are about a subject, without looking through the log.
//!
//! An index of rows by the first bytes of pseudonyms (`audit::named`), made by a thread of its own from entries that
//! are durable: a block at a time, and sixteen spans become one; what is in no block yet is looked through. Only a
//! subject that is there can be asked for: its pseudonym is sealed in its records and dies with them, and then nobody
//! can tell which entries were its.
//!
//! Invariants: blocks are indexed in order, and counted in the batch that has the last of their rows; one at a time
//! changes the index, the thread or what prunes; the count that all readers go by changes before the rows go that it
//! no longer stands for.

mod making;
#[cfg(test)]
mod making_tests;
#[cfg(test)]
mod race_tests;
mod search;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use self::making::{Maker, OnEntry};
pub use self::search::SubjectQuery;
use super::core::Core;
use super::error::VaultError;
use crate::audit::named::{INDEXED_KEY, indexed_in, indexed_row};
use crate::audit::spans::{BLOCK_ENTRIES, FANOUT};
use crate::limits::SCAN_PAGE_ROWS;
use crate::store::{Batch, Store, StoreError, Urgency};

/// How often the thread looks whether a block is full.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How far the index is.
pub struct SubjectLog {
    /// Blocks below this are indexed.
    blocks: AtomicU64,
    /// Whoever changes rows holds it.
    rest: Mutex<Rest>,
}

/// What may be in the store beside the rows that count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    Nothing,
    /// What a step left that was not finished.
    Strays,
    /// Rows of an index that cannot be gone on with: of an older form, of another log, or nobody knows how far it was.
    All,
}

impl SubjectLog {
    /// What the store says. If it says nothing that fits the log, all rows go, and the index is made anew.
    pub fn load(store: &Store) -> Result<Self, StoreError> {
        let told = store.get(INDEXED_KEY)?.as_deref().and_then(indexed_in);
        let full = store.log_head().map_or(0, |(size, _)| size) / BLOCK_ENTRIES;
        let told = told.filter(|blocks| *blocks <= full);
        let rest = Mutex::new(if told.is_some() { Rest::Strays } else { Rest::All });
        Ok(Self { blocks: AtomicU64::new(told.unwrap_or(0)), rest })
    }

    /// Blocks below this are indexed.
    pub fn blocks(&self) -> u64 {
        self.blocks.load(Ordering::Acquire)
    }

    /// The first entry that is in no indexed block.
    fn end(&self) -> u64 {
        self.blocks().saturating_mul(BLOCK_ENTRIES)
    }

    fn change(&self) -> MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Ends the thread after the block, or the partition, that it is at.
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
        let enough = || enough() || self.tree.store().stopped();
        while !enough() && self.index_step(&enough)? {}
        Ok(())
    }

    /// A step of it: as long as it takes, what prunes waits. Whether there may be another one.
    fn index_step(&self, enough: &dyn Fn() -> bool) -> Result<bool, VaultError> {
        let mut rest = self.subject_log.change();
        if *rest == Rest::All {
            return self.forget_rows(&mut rest).map(|()| true);
        }
        let minimum = self.minimum_index();
        let begun = self.subject_log.blocks().max(minimum / BLOCK_ENTRIES);
        let full = self.log_size()? / BLOCK_ENTRIES;
        if *rest == Rest::Nothing && begun >= full {
            return Ok(false);
        }
        let entries = self.entries_of_log();
        let store = (self.tree.store(), Urgency::Note);
        let mut maker = Maker::new(store, &entries, minimum, enough);
        if *rest == Rest::Strays {
            maker.sweep(begun)?;
        }
        *rest = Rest::Strays;
        let made = maker.go_on(begun, full);
        self.metrics.damaged_rows.add(maker.unread);
        let done = made?;
        if done > begun {
            self.subject_log.blocks.store(done, Ordering::Release);
            if done / FANOUT > begun / FANOUT {
                maker.sweep(done)?;
            }
            self.metrics.audit_blocks_indexed.add(done - begun);
        }
        if done > begun || begun >= full {
            *rest = Rest::Nothing;
        }
        Ok(done > begun)
    }

    /// Deletes some of the rows that cannot be gone on with, and their count with the last of them.
    fn forget_rows(&self, rest: &mut Rest) -> Result<(), VaultError> {
        let store = self.tree.store();
        let first = [INDEXED_KEY, &[0]].concat();
        let rows = store.scan(&first, b"z", SCAN_PAGE_ROWS)?;
        let is_last = rows.len() < SCAN_PAGE_ROWS;
        let mut batch = Batch { urgency: Urgency::Note, ..Batch::default() };
        rows.into_iter().for_each(|row| batch.delete(row.key));
        let blocks = self.minimum_index() / BLOCK_ENTRIES;
        if is_last && store.get(INDEXED_KEY)?.is_some() {
            batch.put(INDEXED_KEY, indexed_row(blocks));
        }
        if !batch.is_empty() {
            store.commit_blocking(batch)?;
        }
        if is_last {
            self.subject_log.blocks.store(blocks, Ordering::Release);
            *rest = Rest::Nothing;
        }
        Ok(())
    }

    /// Takes all that was pruned out of the index. Whether it could: rows of an older form go first, by the thread.
    pub(super) fn cut_index(&self) -> Result<bool, VaultError> {
        let mut rest = self.subject_log.change();
        if *rest == Rest::All {
            return Ok(false);
        }
        let entries = self.entries_of_log();
        let store = (self.tree.store(), Urgency::Vital);
        let mut maker = Maker::new(store, &entries, self.minimum_index(), &|| false);
        *rest = Rest::Strays;
        let blocks = self.subject_log.blocks();
        maker.sweep(blocks)?;
        maker.cut(blocks)?;
        *rest = Rest::Nothing;
        Ok(true)
    }

    fn entries_of_log(&self) -> impl Fn(u64, u64, OnEntry<'_>) -> Result<(), VaultError> {
        |start, end, each| self.each_leaf(start, end, each)
    }
}

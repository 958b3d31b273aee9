//! Rows: an ordered map from key bytes to value bytes, with one barrier.
//!
//! Guarantees: a commit that returned is on disk, whole; a group is applied all or nothing; after one failed write
//! everything refuses until the store is reopened. Nothing here knows what a row means, and nothing rests on an
//! engine for erasure.

mod committer;
pub mod durable;
pub mod faulty;
mod frames;
mod group;
pub mod guard;
pub mod journal;
pub mod memory;
mod pages;
mod pending;
pub mod redb_engine;
pub mod sled_engine;
pub mod sum;

use std::fmt;

pub use committer::{LogHead, Store, sequence_of, sequence_row};
pub use guard::DiskGuard;
pub use journal::Journal;
pub use memory::Memory;
pub use pages::Rows;
pub use pending::Pending;
pub use redb_engine::Redb;
pub use sled_engine::Sled;

/// One row.
#[derive(Clone, PartialEq, Eq)]
pub struct Row {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
}

/// Rows are sealed, but their keys hold record ids: only the kind and the sizes are shown.
impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.key.first().copied().map(char::from).unwrap_or('-');
        write!(f, "Row({kind}, {} + {} bytes)", self.key.len(), self.value.len())
    }
}

/// Who a batch is for: on a full disk, puts stop first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Urgency {
    /// Refused with [`StoreError::DiskFull`] while free space is below `limits::DISK_FREE_MIN`.
    #[default]
    Put,
    /// An entry of the log that no write goes with: refused below half of that.
    Note,
    /// Erasure and recovery: may use the reserve.
    Vital,
}

/// A key and its new value; `None` deletes.
pub type Write = (Vec<u8>, Option<Vec<u8>>);

/// Writes that take effect together or not at all. Later writes to a key win over earlier ones.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub urgency: Urgency,
    /// `(key, what it must hold)`: checked, in the order of commits, before anything of the batch is applied.
    pub expects: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    pub writes: Vec<Write>,
    /// What the log is to tell of it; see [`Chronicle`].
    pub entries: Vec<Vec<u8>>,
}

impl Batch {
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.writes.push((key.into(), Some(value.into())));
    }

    pub fn delete(&mut self, key: impl Into<Vec<u8>>) {
        self.writes.push((key.into(), None));
    }

    pub fn expect(&mut self, key: impl Into<Vec<u8>>, value: Option<Vec<u8>>) {
        self.expects.push((key.into(), value));
    }

    pub fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.expects.is_empty() && self.entries.is_empty()
    }
}

/// Why the store did not do it.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum StoreError {
    /// Another process has the directory.
    #[error("the data directory is in use by another process")]
    InUse,
    /// An engine's own file does not open.
    #[error("the store's files are damaged: {0}; run `lethed repair`")]
    Damaged(String),
    /// Below the free-space floor; nothing was written.
    #[error("the disk is almost full: puts are refused until space is freed")]
    DiskFull,
    /// An expectation did not hold; nothing was written.
    #[error("a row changed meanwhile")]
    Conflict,
    /// A value is over `limits::ROW_BYTES_MAX`, or a key over `limits::KEY_BYTES_MAX`.
    #[error("a row of {0} bytes is over the limit")]
    RowTooLarge(usize),
    /// The operating system refused a read or a write.
    #[error("input/output failed: {0}")]
    Io(String),
    /// An earlier write failed; everything refuses until reopened.
    #[error("the store stopped after a failed write; restart the vault")]
    Stopped,
    /// The store was opened without the log that an entry is for.
    #[error("the store has no log")]
    NoLog,
    /// Too many batches wait.
    #[error("too many writes wait")]
    Busy,
}

/// An engine keeps rows. Networked serializable engines fit as well as embedded ones: `commit` is one transaction.
pub trait Engine: Send + Sync + 'static {
    /// `memory`, `sled`, `redb`, …
    fn name(&self) -> &'static str;

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Rows with `start <= key < end`, ascending, at most `limit`.
    fn scan(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<Row>, StoreError>;

    /// Applies `writes` as one atomic unit and returns after they are durable (flush **and** sync).
    fn commit(&self, writes: &[Write]) -> Result<(), StoreError>;
}

/// A log of what is done, in the order in which it commits. The committer's thread asks it for the rows that keep a
/// group's entries, and writes them with the group.
pub trait Chronicle: Send + 'static {
    /// Adds entries to the log. What it answers is written with the group, or nothing is written ever after.
    fn append(&mut self, entries: Vec<Vec<u8>>) -> Vec<Write>;

    /// How many entries there are, and a hash that stands for all of them.
    fn head(&self) -> LogHead;
}

/// A second place for rows (ERASURE invariant 4): the node journal, later backup streams.
///
/// A rewrite replaces what was appended so far by the engine's rows of today. It goes page by page between groups:
/// `rewrite_begin`, `rewrite_rows` for each page of wanted rows in key order, `rewrite_end`. What is appended
/// meanwhile counts after the pages given before it, so that the last word on a key stays the newest.
pub trait NodeSink: Send + 'static {
    /// Whether rows of this kind belong there too: decided by the first byte of `key` alone.
    fn wants(&self, key: &[u8]) -> bool;

    /// Writes; durable only after [`NodeSink::sync`].
    fn append(&mut self, writes: &[&Write]) -> Result<(), StoreError>;

    fn sync(&mut self) -> Result<(), StoreError>;

    /// Whether a rewrite would pay now.
    fn wants_rewrite(&self) -> bool {
        false
    }

    fn rewrite_begin(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn rewrite_rows(&mut self, rows: &[Row]) -> Result<(), StoreError> {
        let _ = rows;
        Ok(())
    }

    /// The rewritten form is durable and counts from the return on. After an error the old form counts, or
    /// [`NodeSink::append`] refuses.
    fn rewrite_end(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Forgets a begun rewrite; the old form goes on.
    fn rewrite_abandon(&mut self) {}
}

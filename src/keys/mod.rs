//! The key tree: who can open what, and how a key is made to exist nowhere.
//!
//! Invariants (ERASURE): a node key seals only growing secret sets, and any removal gives fresh keys to the node and
//! all its ancestors; the root key exists only in the anchor and in locked memory; an erasure is answered only after
//! every old copy of the anchor is overwritten; generations only grow. This layer knows nothing of records or ledgers:
//! a batch takes opaque extra rows and a ledger head.

pub mod anchor;
mod batch;
mod cache;
pub mod dir;
mod erased;
pub mod file_anchor;
mod grow;
pub mod kek;
mod lost;
pub mod node;
mod open;
pub mod path;
mod plan;
pub mod rows;
mod salvage;
pub mod slots;
pub mod tree;
mod undo;

pub use batch::{BatchFacts, Edits, LedgerHead, Sabotage};
pub use erased::Erased;
pub use grow::{NewBucket, NewTenant, RunDraft};
pub use open::{Opened, Parts, Recovered, create, created_in, open, vault_in};
pub use salvage::{Found, Salvage};
pub use tree::{Bound, Tree};

#[cfg(test)]
mod bound_tests;
#[cfg(test)]
mod eviction_tests;
#[cfg(test)]
mod memory_tests;
#[cfg(test)]
mod rotation_tests;
#[cfg(test)]
mod tests;

use crate::os::LockError;
use crate::store::StoreError;

/// Why a key operation did not happen.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum KeyError {
    /// The key is not in the tree: erased, or never there.
    #[error("the key does not exist")]
    Gone,
    /// A node's row is missing or does not authenticate, in the store and in the journal.
    #[error("a {0:?} node of the key tree is missing or damaged; run `lethed repair`")]
    Damaged(path::NodeKind),
    /// The bucket takes no more puts.
    #[error("the retention bucket is closed")]
    Closed,
    /// An ordinal ran out.
    #[error("the vault is full: no more {0}")]
    Full(&'static str),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Anchor(#[from] anchor::AnchorError),
    #[error(transparent)]
    Kek(#[from] kek::KekError),
    #[error(transparent)]
    Memory(#[from] LockError),
    /// A failed write to the anchor: nothing more is done until the vault is reopened.
    #[error("the vault stopped after a failed write to its anchor; restart it")]
    Stopped,
}

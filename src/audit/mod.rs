//! The audit log: what was done with the vault, by whom and when, with nobody's data in it (docs/FORMAT.md §9).
//!
//! Guarantees: an entry is a closed set of typed values: enums, numbers, times, hashes of principals and purposes, and
//! random pseudonyms of subjects and records, which lie in what they stand for and die with it. No caller's text can
//! get into one. Entries have one order; an RFC 9162 tree over them has a head that the anchor binds.

mod book;
mod entry;
mod head;
pub mod named;
pub mod pruned;
pub mod spans;

pub use book::{Book, FRONTIER_KEY, MEMBERS_MAX, entries_in, first_in, load, row_key, split};
pub use entry::{Act, Entry, EntryError, Kind, Member, Seen, principal_hash, purpose_hash};
pub use head::{Head, HeadError};

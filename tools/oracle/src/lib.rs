//! An independent reader of Lethe's files, written from `docs/FORMAT.md` alone.
//!
//! It takes the attacker's place: every byte that was ever written, every key-encryption key old and new,
//! and one anchor. Whatever those open, it opens; what stays shut was forgotten. It shares no code with the
//! vault, so that a mistake there is not repeated here.
//!
//! Layout: [`scan`] finds rows in raw bytes, [`format`], [`path`],
//! [`tree`] and [`fieldmap`] read them, [`closure`] opens what can be
//! opened, [`sweep`] guesses keys, [`find`] looks for plaintext, [`ledger`] checks the erasure ledger and
//! receipts, [`inputs`] reads files, [`report`] says it in JSON.

pub mod closure;
pub mod crypto;
pub mod encoding;
pub mod fieldmap;
pub mod find;
pub mod format;
pub mod inputs;
pub mod ledger;
pub mod path;
pub mod report;
pub mod scan;
pub mod sweep;
pub mod tree;

//! Certificates of destruction (docs/CERTIFICATES.md): what was destroyed, when, how far, and the proof.
//!
//! [`facts`] is what one says, in words and numbers, and what the vault signs; [`document`] puts the proofs beside it,
//! [`page`] shows it to people, [`verify`] checks it without a vault; `issue` makes one, `list` says for what there are
//! any.

pub mod document;
pub mod facts;
mod issue;
mod list;
mod member;
pub mod page;
pub mod verify;

pub use self::issue::Wanted;
pub use self::list::{KillPage, KilledBucket};

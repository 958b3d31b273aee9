//! What the vault decides: schemas, records, subjects, the blind index, erasure and its evidence.
//!
//! Every call takes a [`crate::authz::Permit`] and checks it where the store is touched. Nothing here knows of gRPC.

mod admin;
mod ages;
mod audited;
pub mod calendar;
pub mod certificate;
#[cfg(test)]
mod closed_tests;
mod core;
mod create;
mod current;
mod damaged;
#[cfg(test)]
mod decoder_tests;
mod erase;
mod error;
mod evolve;
pub mod fieldmap;
pub mod holds;
mod index;
mod ledger;
mod load;
mod logs;
mod lookup;
pub mod mask;
mod open;
mod page_token;
mod pending;
mod prune;
mod put;
mod records;
mod registry;
mod relist;
mod repair;
mod requests;
pub mod retention;
mod rights;
mod rows;
pub mod schema;
mod sealed;
pub mod slug;
mod subject_log;
mod subjects;
mod tail;
mod tenants;
#[cfg(test)]
pub mod testing;
mod trail;
mod unique;
pub mod validate;
pub mod value;
mod view;
mod watch;

pub use self::admin::{BucketInfo, Gauges, Status};
pub use self::ages::KeyInfo;
pub use self::audited::{AuditFilter, AuditLine, AuditPage, SignedHead, Told};
pub use self::core::Vault;
pub use self::create::{ImportedChunk, NewRecord};
pub use self::current::Sort;
pub use self::erase::Erasure;
pub use self::error::VaultError;
pub use self::ledger::{LeafFault, Receipt, check_leaf};
pub use self::logs::{LogHead, LogPermit, LogProof};
pub use self::open::{EngineChoice, Hooks, NO_ANCHOR, NO_STORE, OTHER_ENGINE, Setup};
pub use self::records::{RecordChange, RecordPage};
pub use self::registry::TenantInfo;
pub use self::repair::{LedgerState, RepairReport, repair};
pub use self::subject_log::SubjectQuery;
pub use self::subjects::SubjectView;
pub use self::tail::Tail;
pub use self::view::{ReadSpec, RecordView};
pub use self::watch::{Change, ChangeKind, Watcher};

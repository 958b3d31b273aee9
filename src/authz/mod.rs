//! Who may do what. A call carries a [`Principal`]; [`Authority::decide`] turns it into a [`Permit`] for one action and
//! one tenant, or into a [`Denial`].
//!
//! Guarantees: nothing is allowed that no binding and no [`Policy`] allows; a [`Permit`] is made here and nowhere else,
//! so that a vault call which takes one cannot be reached without a decision; a denial depends on the bindings and the
//! policy only, never on what the vault holds, so that it cannot tell whether something exists.
//!
//! A permit cannot be made by hand:
//! ```compile_fail,E0451
//! use lethe::authz::{Permit, ReadRecord};
//! let forged = Permit::<ReadRecord> { ..todo!() };
//! ```
//! nor copied from one action to another:
//! ```compile_fail,E0308
//! use lethe::authz::{EraseRecord, Permit, ReadRecord};
//! fn widen(permit: Permit<ReadRecord>) -> Permit<EraseRecord> {
//!     permit
//! }
//! ```

mod action;
mod authority;
mod permit;
mod policy;
mod principal;
mod review;
#[cfg(test)]
mod review_tests;
#[cfg(test)]
mod rights_tests;
mod rpcs;

pub use action::{
    Action, ActionKind, CosignLog, CreateRecord, CreateSubject, CreateTenant, EraseBucket,
    EraseRecord, EraseSubject, ExportAudit, ExportRecords, ManageHolds, ManageRetention, ReadAudit,
    ReadBuckets, ReadCertificate, ReadHolds, ReadKeyStatus, ReadLedger, ReadMetrics, ReadRecord,
    ReadRetention, ReadSchema, ReadStatus, ReadSubject, ReadTenants, RotateKey, RunRetention,
    UpdateRecord, UpdateTenant, WatchRecords, WriteSchema,
};
pub use authority::{Authority, Binding, BindingError, InForce, TenantScope};
pub use permit::{ClassSet, Denial, Missing, Permit};
pub use policy::{BUILT_IN_POLICY, Fault, POLICY_SCHEMA, Policy, PolicyFaults};
pub use principal::{Principal, PrincipalError, TrustDomain};
pub use review::{Entry, Shown, review};
pub use rpcs::{RPCS, listed};

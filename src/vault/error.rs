//! Why a vault call did not do what was asked. Each variant says who erred; none holds a value.

use super::fieldmap::FieldMapError;
use super::holds::draft::HoldViolation;
use super::retention::policy::PolicyViolation;
use super::schema::{FieldProblem, FieldViolation, SchemaViolation};
use crate::id::RecordId;
use crate::keys::KeyError;
use crate::store::StoreError;

const BUILDING: &str =
    "the index of this field is still being built: find again when its schema shows it as READY";

/// The error of a vault call.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The permit does not reach what the call is about: a record type or class, or, by a defect of the caller inside
    /// this program, another tenant.
    #[error("the permit does not reach this")]
    Forbidden,
    /// Never there, or not under this name.
    #[error("{0} not found")]
    NotFound(&'static str),
    /// It was there; its keys are destroyed.
    #[error("{0} was erased")]
    Erased(&'static str),
    /// Entries of the audit log before this one, which is the first that it still has.
    #[error("the audit log begins at entry {0}: what was before that is gone by its own retention")]
    Pruned(u64),
    /// An argument is wrong.
    #[error("{field}: {reason}")]
    Argument { field: &'static str, reason: &'static str },
    /// Paths of a read mask, by their places, that are no fields of what is read.
    #[error("{} paths of the mask name no field", .0.len())]
    ReadMask(Vec<usize>),
    /// A record does not fit its schema.
    #[error("{} fields do not fit the schema", .0.len())]
    Fields(Vec<FieldViolation>),
    /// A draft of a schema is wrong.
    #[error("the schema has {} violations", .0.len())]
    Schema(Vec<SchemaViolation>),
    /// A draft of a retention policy is wrong.
    #[error("the retention policy has {} violations", .0.len())]
    RetentionPolicy(Vec<PolicyViolation>),
    /// A draft of a legal hold is wrong.
    #[error("the legal hold has {} violations", .0.len())]
    Hold(Vec<HoldViolation>),
    /// It is only there because a legal hold postpones its erasure, and the caller is none whom the hold lets read it.
    #[error("it is restricted: its erasure was asked for, and waits until a legal hold ends")]
    Restricted,
    /// A resource with this id exists.
    #[error("{0} exists already")]
    Exists(&'static str),
    /// Another live record has this value in a unique field.
    #[error("another record has this value of {field}")]
    Duplicate { field: String, record: RecordId },
    /// A field cannot be made unique: in each pair the second record has the first one's value.
    #[error("records have the same value of {field}: change or erase one of each pair first")]
    NotUnique { field: String, pairs: Vec<(RecordId, RecordId)> },
    /// An earlier one of the same call has this value in a unique field.
    #[error("number {of} of the same call has this value of {field}")]
    Twin { field: String, of: usize, record: RecordId },
    /// What was asked for does not fit an answer, and never will.
    #[error("{0}")]
    TooLarge(&'static str),
    /// The etag is not the current one.
    #[error("the {0} changed since this etag was given")]
    Stale(&'static str),
    /// The state does not allow it.
    #[error("{0}")]
    Precondition(&'static str),
    /// A bound of limits.rs.
    #[error("{0}")]
    Exhausted(&'static str),
    /// A page token that is not ours, not for this query and caller, or too old.
    #[error("page_token: is not a token for this query, or has expired")]
    PageToken,
    /// A row that does not authenticate.
    #[error("{0} is damaged: its row does not authenticate; others are served")]
    Damaged(&'static str),
    #[error(transparent)]
    Keys(#[from] KeyError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The request id stands for another call than this one.
    #[error("the request id was used for another call")]
    OtherRequest,
    /// More happened than a watcher's queue holds.
    #[error("changes were missed: list what there is, and watch anew")]
    Behind,
    /// One of several in a call, counted from 0.
    #[error("number {at}: {error}")]
    At { at: usize, error: Box<VaultError> },
    /// The eraser is gone: the vault is stopping.
    #[error("the vault is stopping")]
    Stopping,
}

impl VaultError {
    /// The error of one of several.
    pub fn at(self, at: usize) -> Self {
        match self {
            // A mask is the whole call's.
            Self::At { .. } | Self::ReadMask(_) => self,
            error => Self::At { at, error: Box::new(error) },
        }
    }

    /// The error of the only one.
    pub fn alone(self) -> Self {
        match self {
            Self::At { error, .. } => *error,
            error => error,
        }
    }

    /// Whether it is about one record, so that others can go on without it.
    pub fn is_of_one_record(&self) -> bool {
        match self {
            Self::At { error, .. } => error.is_of_one_record(),
            Self::NotFound(_)
            | Self::Erased(_)
            | Self::Restricted
            | Self::Argument { .. }
            | Self::Fields(_)
            | Self::Duplicate { .. }
            | Self::Twin { .. }
            | Self::Damaged(_) => true,
            _ => false,
        }
    }
}

impl From<FieldMapError> for VaultError {
    fn from(_: FieldMapError) -> Self {
        // Checked records always encode; what does not decode was not made by this vault.
        Self::Damaged("record")
    }
}

impl From<Vec<FieldViolation>> for VaultError {
    fn from(violations: Vec<FieldViolation>) -> Self {
        Self::Fields(violations)
    }
}

impl From<FieldViolation> for VaultError {
    fn from(violation: FieldViolation) -> Self {
        match violation.problem {
            // Not wrong, but too early.
            FieldProblem::IndexBuilding => Self::Precondition(BUILDING),
            _ => Self::Fields(vec![violation]),
        }
    }
}

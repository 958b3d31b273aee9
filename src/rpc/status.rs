//! From an error of the vault to what the caller hears: the only place that does it.
//!
//! Guarantees: an answer names fields, kinds of resources and names that the vault issued, never a value, a path or a
//! message of a library; what only an operator can mend goes to the log with its cause and to the caller as a fixed
//! sentence; details follow `google.rpc` (AIP-193).

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, PreconditionViolation, StatusExt};

use super::names;
use super::permit::DENIED;
use crate::keys::KeyError;
use crate::keys::kek::KekError;
use crate::store::StoreError;
use crate::vault::VaultError;
use crate::vault::holds::draft::HoldViolation;
use crate::vault::retention::policy::PolicyViolation;
use crate::vault::schema::{self, FieldProblem, SchemaViolation};

/// `ErrorInfo.domain` of every answer.
const DOMAIN: &str = "lethe";

/// In whose terms the vault's violations are told: which message holds the fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terms {
    /// `record.fields.…`
    Record,
    /// `field` and `value` of a search.
    Query,
    /// `schema_id`, `schema.…`
    NewSchema,
    /// `schema.name`, `schema.…`
    Schema,
    /// `retention_policy_id`, `retention_policy.…`
    NewPolicy,
    /// `retention_policy.name`, `retention_policy.…`
    Policy,
    /// `hold.…`
    Hold,
    /// `requests[n].record.fields.…` of a batch.
    Requests,
    /// `names[n]` of a batch.
    Names,
    /// The call has neither.
    Plain,
}

/// Collects what is wrong with a request, so that the caller hears all of it at once.
#[derive(Default)]
pub struct Violations(Vec<FieldViolation>);

impl Violations {
    pub fn add(&mut self, field: impl Into<String>, reason: impl Into<String>) {
        self.0.push(FieldViolation::new(field, reason));
    }

    /// Takes over what was found in a part of the request.
    pub fn extend(&mut self, prefix: &str, part: Violations) {
        let found = part.0.into_iter();
        self.0.extend(
            found.map(|v| FieldViolation::new(format!("{prefix}{}", v.field), v.description)),
        );
    }

    /// The value, or `None` with a violation of `field`.
    pub fn take<T>(&mut self, field: &str, outcome: Result<T, impl ToString>) -> Option<T> {
        outcome.map_err(|reason| self.add(field, reason.to_string())).ok()
    }

    /// The request's parts if nothing was wrong with it, else INVALID_ARGUMENT. A part is missing only where a
    /// violation says why.
    pub fn finish<T>(self, parts: Option<T>) -> Result<T, Status> {
        match parts {
            Some(parts) if self.0.is_empty() => Ok(parts),
            _ => Err(invalid(self.0)),
        }
    }
}

fn invalid(violations: Vec<FieldViolation>) -> Status {
    let message = match violations.as_slice() {
        [one] => format!("{}: {}", one.field, one.description),
        more => format!("the request has {} violations", more.len()),
    };
    let details = ErrorDetails::with_bad_request(violations);
    Status::with_error_details(Code::InvalidArgument, message, details)
}

fn info(code: Code, message: impl Into<String>, reason: &str) -> Status {
    let details = ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new());
    Status::with_error_details(code, message, details)
}

/// The codec calls a message that it cannot read an error of the server's; it is the caller's. The codec's text is not
/// passed on: some of its sentences hold bytes of the message as numbers. `Err` holds the answer that takes the place
/// of the given one.
pub fn undecodable(status: Status) -> Result<Status, Status> {
    const START: &str = "failed to decode Protobuf message";
    if status.code() == Code::Internal && status.message().starts_with(START) {
        let message = "the request is not a protobuf message of this method";
        return Err(info(Code::InvalidArgument, message, "UNREADABLE"));
    }
    Ok(status)
}

/// A stream's peer is too slow.
pub fn stalled(what: &str) -> Status {
    info(Code::DeadlineExceeded, what, "STALLED")
}

/// A bound on what goes on at once.
pub fn too_many(what: &str) -> Status {
    info(Code::ResourceExhausted, what, "LIMIT")
}

/// A stream ends because the vault does.
pub fn stopping() -> Status {
    unavailable(&VaultError::Stopping)
}

/// The task of an accepted call ended without an answer: a defect of this program.
pub fn lost(cause: &tokio::task::JoinError) -> Status {
    tracing::error!(%cause, "the task of a call ended without an answer");
    Status::internal("the vault failed; its log has the cause")
}

fn internal(cause: &impl std::fmt::Display) -> Status {
    tracing::error!(%cause, "a call failed");
    Status::internal("the vault failed; its log has the cause")
}

fn unavailable(cause: &impl std::fmt::Display) -> Status {
    info(Code::Unavailable, cause.to_string(), "UNAVAILABLE")
}

fn data_loss(what: &str) -> Status {
    info(Code::DataLoss, format!("{what} is damaged; see the vault's log"), "DAMAGED")
}

/// What the caller of a call about this tenant hears.
pub fn of(error: VaultError, terms: Terms, tenant: &str) -> Status {
    match error {
        VaultError::Forbidden => Status::permission_denied(DENIED),
        VaultError::NotFound(_) => info(Code::NotFound, error.to_string(), "NOT_FOUND"),
        VaultError::Erased(_) => info(Code::NotFound, error.to_string(), "ERASED"),
        VaultError::Pruned(minimum) => {
            let about = HashMap::from([("minimum_index".to_owned(), minimum.to_string())]);
            let details = ErrorDetails::with_error_info("PRUNED", DOMAIN, about);
            Status::with_error_details(Code::OutOfRange, error.to_string(), details)
        }
        VaultError::Argument { field, reason } => invalid(vec![FieldViolation::new(field, reason)]),
        VaultError::ReadMask(places) => {
            let reason = "names a field that the schema does not have";
            let path = |at: &usize| FieldViolation::new(format!("read_mask.paths[{at}]"), reason);
            invalid(places.iter().map(path).collect())
        }
        VaultError::Fields(violations) => {
            invalid(violations.iter().map(|v| field_violation(v, terms)).collect())
        }
        VaultError::Schema(violations) => of_schema(violations, terms),
        VaultError::RetentionPolicy(violations) => of_policy(&violations, terms),
        VaultError::Hold(violations) => {
            let found = violations.iter();
            let told =
                |v: &HoldViolation| FieldViolation::new(format!("hold.{}", v.path), v.problem);
            invalid(found.map(told).collect())
        }
        VaultError::Restricted => info(Code::FailedPrecondition, error.to_string(), "RESTRICTED"),
        VaultError::Exists(_) => info(Code::AlreadyExists, error.to_string(), "EXISTS"),
        VaultError::Duplicate { ref field, record } => {
            let mut details = ErrorDetails::with_error_info(
                "DUPLICATE_VALUE",
                DOMAIN,
                HashMap::from([("field".to_owned(), field.clone())]),
            );
            let name = names::record(tenant, record);
            details.set_resource_info("lethe.v1.Record", name, "", "has this value");
            Status::with_error_details(Code::AlreadyExists, error.to_string(), details)
        }
        VaultError::Twin { field, of, .. } => invalid(vec![FieldViolation::new(
            format!("record.fields.{field}"),
            format!("is unique, and requests[{of}] has the same value"),
        )]),
        VaultError::NotUnique { ref field, ref pairs } => {
            let failed = pairs.iter().map(|(first, second)| {
                let what =
                    format!("has the same value of {field} as {}", names::record(tenant, *first));
                PreconditionViolation::new("NOT_UNIQUE", names::record(tenant, *second), what)
            });
            let details = ErrorDetails::with_precondition_failure(failed.collect::<Vec<_>>());
            Status::with_error_details(Code::FailedPrecondition, error.to_string(), details)
        }
        VaultError::TooLarge(_) => info(Code::OutOfRange, error.to_string(), "TOO_LARGE"),
        VaultError::Stale(_) => info(Code::Aborted, error.to_string(), "ETAG_MISMATCH"),
        VaultError::Precondition(_) => {
            info(Code::FailedPrecondition, error.to_string(), "PRECONDITION")
        }
        VaultError::Exhausted(_) => info(Code::ResourceExhausted, error.to_string(), "LIMIT"),
        VaultError::PageToken => invalid(vec![FieldViolation::new(
            "page_token",
            "is not a token for this query and caller, or has expired: start at the first page",
        )]),
        VaultError::OtherRequest => info(Code::Aborted, error.to_string(), "REQUEST_ID_REUSED"),
        VaultError::Behind => info(Code::Aborted, error.to_string(), "CHANGES_MISSED"),
        // Which part it was would tell of what type a record is.
        VaultError::At { error, .. } if matches!(*error, VaultError::Forbidden) => {
            Status::permission_denied(DENIED)
        }
        VaultError::At { at, error } => {
            let part = if terms == Terms::Names { "names" } else { "requests" };
            of_part(of(*error, Terms::Record, tenant), &format!("{part}[{at}]"))
        }
        VaultError::Damaged(what) => {
            tracing::error!(what, "damaged");
            data_loss(what)
        }
        VaultError::Keys(error) => of_keys(error),
        VaultError::Store(error) => of_store(error),
        VaultError::Stopping => unavailable(&error),
    }
}

/// The same answer, about one part of the request.
fn of_part(status: Status, part: &str) -> Status {
    let message = format!("{part}: {}", status.message());
    let mut details = status.get_error_details();
    if let Some(faults) = details.bad_request() {
        let mut all = Violations::default();
        all.extend(&format!("{part}."), Violations(faults.field_violations.clone()));
        return invalid(all.0);
    }
    details.set_request_info(part, "");
    Status::with_error_details(status.code(), message, details)
}

fn of_keys(error: KeyError) -> Status {
    match error {
        KeyError::Gone => info(Code::NotFound, "its keys are destroyed", "ERASED"),
        KeyError::Damaged(kind) => {
            tracing::error!(?kind, "a node of the key tree is damaged");
            data_loss("a node of the key tree")
        }
        KeyError::Closed | KeyError::Stopped => unavailable(&error),
        KeyError::Full(_) | KeyError::Memory(_) => {
            info(Code::ResourceExhausted, error.to_string(), "LIMIT")
        }
        KeyError::Store(error) => of_store(error),
        KeyError::Kek(KekError::NoNextCredential(_)) => {
            tracing::warn!(%error, "the key was not rotated");
            let message = "there is no credential with the next KEK; the vault's log names it";
            info(Code::FailedPrecondition, message, "NO_NEXT_KEK")
        }
        KeyError::Kek(_) | KeyError::Anchor(_) => internal(&error),
    }
}

fn of_store(error: StoreError) -> Status {
    match error {
        StoreError::DiskFull => info(Code::ResourceExhausted, error.to_string(), "DISK_FULL"),
        StoreError::Conflict => info(Code::Aborted, error.to_string(), "CONFLICT"),
        StoreError::Stopped | StoreError::Busy => unavailable(&error),
        StoreError::Damaged(_) => {
            tracing::error!(%error, "the store is damaged");
            data_loss("the store")
        }
        StoreError::InUse | StoreError::RowTooLarge(_) | StoreError::Io(_) | StoreError::NoLog => {
            internal(&error)
        }
    }
}

fn field_violation(found: &schema::FieldViolation, terms: Terms) -> FieldViolation {
    let reason = found.problem.to_string();
    if terms == Terms::Query {
        let about_name = matches!(found.problem, FieldProblem::Unknown | FieldProblem::NotIndexed);
        return FieldViolation::new(if about_name { "field" } else { "value" }, reason);
    }
    let whole = if terms == Terms::Hold { "hold.query" } else { "record" };
    if found.path.starts_with("fields") {
        return FieldViolation::new(format!("{whole}.{}", found.path), reason);
    }
    FieldViolation::new(format!("{whole}.fields"), format!("{}: {reason}", found.path))
}

/// A draft that is unsound in itself is the caller's error; one that only does not follow the present revision is not.
fn of_schema(violations: Vec<SchemaViolation>, terms: Terms) -> Status {
    let path = |v: &SchemaViolation| match (v.path.as_str(), terms) {
        ("type", Terms::NewSchema) => "schema_id".to_owned(),
        ("type", _) => "schema.name".to_owned(),
        (path, _) => format!("schema.{path}"),
    };
    if violations.iter().all(|v| v.problem.is_conflict()) {
        let failed = violations
            .iter()
            .map(|v| PreconditionViolation::new("SCHEMA_REVISION", path(v), v.problem.to_string()));
        let details = ErrorDetails::with_precondition_failure(failed.collect::<Vec<_>>());
        let message = "the schema does not follow from its present revision";
        return Status::with_error_details(Code::FailedPrecondition, message, details);
    }
    invalid(
        violations.iter().map(|v| FieldViolation::new(path(v), v.problem.to_string())).collect(),
    )
}

/// A draft that is unsound in itself is the caller's error; one that only does not fit what is there is not.
fn of_policy(violations: &[PolicyViolation], terms: Terms) -> Status {
    let path = |v: &PolicyViolation| match (v.path, terms) {
        ("id", Terms::NewPolicy) => "retention_policy_id".to_owned(),
        ("id", _) => "retention_policy.name".to_owned(),
        (path, _) => format!("retention_policy.{path}"),
    };
    if violations.iter().all(|v| v.problem.is_conflict()) {
        let failed = violations.iter().map(|v| {
            PreconditionViolation::new("RETENTION_POLICY", path(v), v.problem.to_string())
        });
        let details = ErrorDetails::with_precondition_failure(failed.collect::<Vec<_>>());
        let message = match violations {
            [one] => format!("{}: {}", path(one), one.problem),
            _ => "the retention policy does not fit what the tenant has".to_owned(),
        };
        return Status::with_error_details(Code::FailedPrecondition, message, details);
    }
    let told = |v: &PolicyViolation| FieldViolation::new(path(v), v.problem.to_string());
    invalid(violations.iter().map(told).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_an_operator_can_mend_is_told_without_its_cause() {
        let secret = "/srv/secret/path";
        for error in [
            VaultError::Store(StoreError::Io(secret.into())),
            VaultError::Store(StoreError::Damaged(secret.into())),
            VaultError::Keys(KeyError::Kek(KekError::Missing(secret.into()))),
            VaultError::Keys(KeyError::Kek(KekError::NoNextCredential(secret.into()))),
            VaultError::Keys(KeyError::Store(StoreError::Io(secret.into()))),
        ] {
            let status = of(error, Terms::Plain, "shop");
            assert!(!format!("{status:?}").contains("secret"), "{status:?}");
            assert!(!status.message().is_empty());
        }
    }

    /// Found by reading prost: it prints a key that is too large, which is eight bytes of the caller's.
    #[test]
    fn of_a_message_that_cannot_be_read_nothing_is_repeated() {
        let key = u64::from_be_bytes(*b"\0canary!");
        let mut bytes = Vec::new();
        prost::encoding::encode_varint(key, &mut bytes);
        let cause = <crate::proto::v1::Record as prost::Message>::decode(bytes.as_slice());
        let cause = cause.unwrap_err().to_string();
        assert!(cause.contains(&key.to_string()), "prost no longer repeats it: {cause}");
        let answer = undecodable(Status::internal(cause)).unwrap_err();
        assert_eq!(answer.code(), Code::InvalidArgument);
        assert!(!format!("{answer:?}").contains(&key.to_string()), "{answer:?}");
        let other = undecodable(Status::internal("the vault failed")).unwrap();
        assert_eq!(other.code(), Code::Internal);
    }

    #[test]
    fn a_denial_of_the_vaults_own_reads_like_that_of_the_door() {
        let status = of(VaultError::Forbidden, Terms::Plain, "shop");
        assert_eq!((status.code(), status.message()), (Code::PermissionDenied, DENIED));
    }
}

//! What went wrong and what to do next, for people and as JSON.
//!
//! Guarantees: every error carries a next step; the details of `google.rpc` are taken apart, one line for each field;
//! text from the vault is made safe for a terminal; no value of a record is ever part of an error.

use std::error::Error;
use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::json;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::output::safe;
use crate::client::ClientError;
use crate::proto::code_name;

/// Exit codes of lethectl.
pub mod exit {
    pub const DONE: u8 = 0;
    pub const FAILED: u8 = 1;
    pub const PARTIAL: u8 = 2;
    pub const USAGE: u8 = 64;
}

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CtlError {
    /// The command line asks for something that makes no sense.
    #[error("{what}")]
    Usage { what: String, next: &'static str },
    /// There is no connection.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The vault answered with an error.
    #[error("{doing}")]
    Call { doing: &'static str, status: Box<Status> },
    /// A file could not be read or written.
    #[error("cannot {doing} {}: {cause}", path.display())]
    File { doing: &'static str, path: PathBuf, cause: std::io::Error },
    /// A file or standard input holds something that does not fit.
    #[error("{what}")]
    Input { what: String, next: &'static str },
    /// An answer lacks what it must have.
    #[error("the vault's answer lacks {0}")]
    Answer(&'static str),
    /// Evidence did not hold.
    #[error("{0}")]
    Evidence(String),
    /// The vault answers, but takes no reads or writes.
    #[error("the vault does not serve")]
    NotServing,
    /// The person said no.
    #[error("nothing was erased")]
    Declined,
    /// Standard output is gone.
    #[error("cannot print: {0}")]
    Print(#[from] std::io::Error),
}

/// One field that the vault did not like. The description never holds the value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    pub field: String,
    pub reason: String,
}

impl CtlError {
    /// `map_err(CtlError::call("create the tenant"))`
    pub fn call(doing: &'static str) -> impl FnOnce(Status) -> Self {
        move |status| Self::Call { doing, status: Box::new(status) }
    }

    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage { .. } => exit::USAGE,
            _ => exit::FAILED,
        }
    }

    /// For people, on several lines.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a String cannot fail.
        let _ = match self {
            Self::Call { doing, status } => write!(
                text,
                "error: could not {doing}: {} ({})",
                safe(status.message()),
                code_name(status.code())
            ),
            // These carry their next step in their own text, which may name a path.
            Self::Client(e) => write!(text, "error: {}", lines_safe(&e.to_string())),
            other => write!(text, "error: {}", safe(&other.to_string())),
        };
        for violation in self.violations() {
            let _ = write!(text, "\n  {}: {}", safe(&violation.field), safe(&violation.reason));
        }
        if let Self::Call { status, .. } = self
            && let Some(cause) = transport_cause(status)
        {
            let _ = write!(text, "\n  cause: {}", safe(&cause));
        }
        if let Some(resource) = self.resource() {
            let _ = write!(text, "\n  resource: {}", safe(&resource));
        }
        if let Some(next) = self.next() {
            let _ = write!(text, "\n  next: {next}");
        }
        text
    }

    /// For programs: `{"error": {"code", "message", "violations": [{"field", "reason"}], "resource", "next"}}`.
    pub fn json(&self) -> serde_json::Value {
        let (code, message) = match self {
            Self::Call { doing, status } => {
                (code_name(status.code()), format!("could not {doing}: {}", status.message()))
            }
            Self::Usage { .. } => ("USAGE", self.to_string()),
            Self::Client(_) => ("NO_CONNECTION", self.to_string()),
            Self::Evidence(_) => ("EVIDENCE", self.to_string()),
            Self::Declined => ("DECLINED", self.to_string()),
            _ => ("FAILED", self.to_string()),
        };
        // An error of the connection carries its next step in its text.
        let (message, next) = match message.split_once("\n  next: ") {
            Some((message, next)) => (message.to_owned(), Some(next.to_owned())),
            None => (message, self.next().map(str::to_owned)),
        };
        let violations: Vec<_> = self
            .violations()
            .into_iter()
            .map(|v| json!({ "field": v.field, "reason": v.reason }))
            .collect();
        json!({ "error": {
            "code": code,
            "message": message,
            "violations": violations,
            "resource": self.resource(),
            "next": next,
        }})
    }

    /// The fields that the vault named.
    pub fn violations(&self) -> Vec<Violation> {
        match self {
            Self::Call { status, .. } => violations(status),
            _ => Vec::new(),
        }
    }

    fn resource(&self) -> Option<String> {
        match self {
            Self::Call { status, .. } => resource(status),
            _ => None,
        }
    }

    fn next(&self) -> Option<&'static str> {
        match self {
            Self::Call { status, .. } => Some(next_of(status)),
            Self::Usage { next, .. } | Self::Input { next, .. } => Some(next),
            Self::File { .. } => Some("check the path and who may use it"),
            Self::Answer(_) => {
                Some("compare `lethectl --version` with the version in `lethectl status`")
            }
            Self::Evidence(_) => Some(
                "do not rely on it; keep the file, and ask the vault's operator for the original",
            ),
            Self::NotServing => {
                Some("a write failed: find the cause in lethed's log, then restart lethed")
            }
            Self::Declined | Self::Client(_) | Self::Print(_) => None,
        }
    }
}

/// The fields that a status names.
pub fn violations(status: &Status) -> Vec<Violation> {
    let details = status.get_error_details();
    let bad = details.bad_request().into_iter().flat_map(|b| &b.field_violations);
    let mut found: Vec<Violation> =
        bad.map(|v| Violation { field: v.field.clone(), reason: v.description.clone() }).collect();
    let failed = details.precondition_failure().into_iter().flat_map(|p| &p.violations);
    found.extend(failed.map(|v| Violation {
        field: v.subject.clone(),
        reason: if v.description.is_empty() { v.r#type.clone() } else { v.description.clone() },
    }));
    found
}

/// The existing resource that a status names.
pub fn resource(status: &Status) -> Option<String> {
    let details = status.get_error_details();
    details.resource_info().map(|r| r.resource_name.clone()).filter(|name| !name.is_empty())
}

/// The machine-readable reason of a status (`google.rpc.ErrorInfo`).
pub fn reason(status: &Status) -> Option<String> {
    status.get_error_details().error_info().map(|info| info.reason.clone())
}

/// Whether a stream that ended so may be taken up again.
pub fn is_broken(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled)
        || reason(status).as_deref() == Some("STALLED")
}

/// Whether every other call would fail the same way.
pub fn is_general(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable
            | Code::Unauthenticated
            | Code::PermissionDenied
            | Code::Unimplemented
            | Code::DataLoss
            | Code::Internal
            | Code::Unknown
    )
}

fn next_of(status: &Status) -> &'static str {
    if broken_by_alert(status) {
        return "the vault refused this client's certificate: check that it is from the vault's client CA, not \
                expired, not revoked, and that it names one URI of the vault's trust domain and nothing else; \
                lethed's log says which";
    }
    if transport_cause(status).is_some() {
        return "the connection broke: check lethed's log, and that it knows this client's certificate; whether a \
                write took effect is unknown";
    }
    if let Some(next) = reason(status).as_deref().and_then(next_of_reason) {
        return next;
    }
    match status.code() {
        Code::InvalidArgument | Code::OutOfRange => "correct the fields named above and try again",
        Code::NotFound => "check the name; what was erased is not found either",
        Code::AlreadyExists => "use the existing one, or choose another name or value",
        Code::FailedPrecondition => "bring about what is named above first",
        Code::Aborted => "it changed meanwhile: read it again and repeat with the new etag",
        Code::PermissionDenied => {
            "use an identity whose role may do this (--config), or ask the operator"
        }
        Code::Unauthenticated => {
            "check that the client certificate is valid and known to the vault"
        }
        Code::ResourceExhausted => "the vault is at a limit: wait a moment, or send less at once",
        Code::Unavailable => {
            "check with `lethectl status` and lethed's log; whether a write took effect is unknown"
        }
        Code::DeadlineExceeded | Code::Cancelled => {
            "whether a write took effect is unknown: look first; then allow more time with --timeout"
        }
        Code::Unimplemented => "lethed is older than this lethectl: upgrade it",
        _ => "see lethed's log for the cause",
    }
}

/// What helps where the code alone does not say it.
fn next_of_reason(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "DISK_FULL" => {
            "free some space where lethed keeps its data; erasures and key rotation go on meanwhile"
        }
        "DAMAGED" => {
            "restore it from a backup, or erase it by its name; `lethectl record list` names what does not open"
        }
        "REQUEST_ID_REUSED" => "give a fresh random request id for each change",
        "CHANGES_MISSED" => "list what there is, and watch anew",
        "RESTRICTED" => {
            "ask one of the readers that its legal hold names; it is erased by itself when the hold ends"
        }
        "PRUNED" => {
            "begin with that entry, or export into a new file or folder; what was before is in earlier exports only"
        }
        "STALLED" => {
            "take or send messages faster, or in smaller parts; then go on where it broke off"
        }
        _ => return None,
    })
}

/// A server that does not like a certificate says so after the handshake, by a TLS alert on the first read. The HTTP/2
/// layer keeps only the alert's text.
fn broken_by_alert(status: &Status) -> bool {
    transport_cause(status).is_some_and(|cause| cause.contains("received fatal alert"))
}

/// What broke the connection under a call; `None` if the vault itself answered.
fn transport_cause(status: &Status) -> Option<String> {
    let mut deepest = status.source()?;
    while let Some(below) = deepest.source() {
        deepest = below;
    }
    Some(deepest.to_string())
}

fn lines_safe(text: &str) -> String {
    text.lines().map(safe).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::ErrorDetails;

    fn refused() -> CtlError {
        let mut details = ErrorDetails::new();
        details
            .add_bad_request_violation("record.fields.phone", "is not an E.164 number")
            .add_bad_request_violation("record.fields.email", "has no @");
        let status =
            Status::with_error_details(Code::InvalidArgument, "2 fields are not valid", details);
        CtlError::call("create the record")(status)
    }

    #[test]
    fn each_field_has_its_line_and_the_next_step_ends_it() {
        assert_eq!(
            refused().text(),
            "error: could not create the record: 2 fields are not valid (INVALID_ARGUMENT)\n  \
             record.fields.phone: is not an E.164 number\n  record.fields.email: has no @\n  \
             next: correct the fields named above and try again"
        );
    }

    #[test]
    fn programs_get_the_same() {
        let json = refused().json();
        assert_eq!(json["error"]["code"], "INVALID_ARGUMENT");
        assert_eq!(json["error"]["violations"][1]["field"], "record.fields.email");
        assert_eq!(json["error"]["next"], "correct the fields named above and try again");
    }

    #[test]
    fn programs_get_the_next_step_of_a_connection_apart() {
        let json = CtlError::from(ClientError::NoConfig).json();
        assert_eq!(json["error"]["message"], "no client configuration was named");
        assert!(json["error"]["next"].as_str().unwrap().starts_with("pass --config FILE"));
    }

    #[test]
    fn the_existing_resource_is_named() {
        let mut details = ErrorDetails::new();
        details.set_resource_info("Record", "tenants/a/records/x", "", "");
        let status =
            Status::with_error_details(Code::AlreadyExists, "customer_id is taken", details);
        let text = CtlError::call("create the record")(status).text();
        assert!(text.contains("\n  resource: tenants/a/records/x\n"), "{text}");
    }

    #[test]
    fn what_the_vault_says_cannot_steer_the_terminal() {
        let status = Status::not_found("gone\u{1b}[2J\nnext: rm -rf /");
        let text = CtlError::call("get the record")(status).text();
        assert!(!text.contains('\u{1b}'), "{text}");
        assert_eq!(text.lines().count(), 2, "{text}");
    }

    #[test]
    fn usage_differs_from_refusal() {
        let usage = CtlError::Usage { what: "x".into(), next: "y" };
        assert_eq!(usage.exit_code(), 64);
        assert_eq!(refused().exit_code(), 1);
    }
}

//! Generated messages and services of `lethe.v1` and `lethe.admin.v1`. Messages that carry personal data print nothing.

use tonic::Code;

/// Nested as the packages are, because generated code names its siblings by `super`.
#[allow(clippy::all, clippy::pedantic, missing_docs)]
mod lethe {
    pub mod v1 {
        tonic::include_proto!("lethe.v1");
    }

    pub mod admin {
        pub mod v1 {
            tonic::include_proto!("lethe.admin.v1");
        }
    }
}

pub use lethe::admin::v1 as admin;
pub use lethe::v1;

macro_rules! silent_debug {
    ($($message:path),* $(,)?) => {$(
        impl std::fmt::Debug for $message {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($message), "(not shown)"))
            }
        }
    )*};
}

silent_debug!(
    v1::Value,
    v1::value::Kind,
    v1::Record,
    v1::CreateRecordRequest,
    v1::CreateRecordResponse,
    v1::GetRecordResponse,
    v1::UpdateRecordRequest,
    v1::UpdateRecordResponse,
    v1::ListRecordsResponse,
    v1::FindRecordsRequest,
    v1::FindRecordsResponse,
    v1::Subject,
    v1::CreateSubjectResponse,
    v1::GetSubjectResponse,
    v1::HoldQuery,
    v1::Hold,
    v1::hold::Scope,
    v1::PlaceHoldRequest,
    v1::PlaceHoldResponse,
    v1::GetHoldResponse,
    v1::ListHoldsResponse,
);

/// The name of a code as the gRPC documents spell it.
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

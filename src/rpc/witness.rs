//! Who sees how calls end: the audit log is told of those that are refused, and may hold up the others.

use std::future::Future;
use std::pin::Pin;

use tonic::{Code, Status};

use super::status::{self, Terms};
use crate::authz::Principal;
use crate::vault::Vault;

/// What the door tells of each call.
pub trait Witness: Send + Sync {
    /// A call was refused, or failed.
    fn refused(&self, principal: &Principal, path: &str, code: Code);

    /// Returns when a call that was served may be answered.
    fn settled(&self) -> Pin<Box<dyn Future<Output = Result<(), Status>> + Send + '_>>;

    /// Whether [`Witness::settled`] has anything to wait for.
    fn holds_up(&self) -> bool;
}

impl Witness for Vault {
    fn refused(&self, principal: &Principal, path: &str, code: Code) {
        Vault::refused(self, principal, path, u8::try_from(i32::from(code)).unwrap_or(u8::MAX));
    }

    fn settled(&self) -> Pin<Box<dyn Future<Output = Result<(), Status>> + Send + '_>> {
        Box::pin(async { self.settle_reads().await.map_err(|e| status::of(e, Terms::Plain, "")) })
    }

    fn holds_up(&self) -> bool {
        self.holds_up_reads()
    }
}

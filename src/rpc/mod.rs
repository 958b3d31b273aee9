//! The gRPC services: parse, permit, call, reply; one file per service.
//!
//! Guarantees: a malformed request is INVALID_ARGUMENT before anything else and names every violation; then the right
//! is decided, before anything is looked up; only then the vault is asked. A change that was accepted runs in a task of
//! its own, so that neither a caller's cancellation nor a deadline leaves it halfway. Messages are bounded both ways
//! and never compressed.

mod admin;
mod audit;
mod bulk;
mod certificates;
mod codec;
mod convert;
mod erasure;
mod field_mask;
mod health;
mod holds;
mod logs;
mod names;
mod page;
pub mod permit;
mod records;
mod retention;
mod schemas;
mod served;
mod services;
mod shown;
pub mod status;
mod stream;
mod subjects;
mod tenants;
pub mod witness;

use std::future::Future;
use std::sync::Arc;

use tokio::sync::watch;
use tonic::{Extensions, Status};

pub use self::services::Services;
use self::status::Terms;
use self::stream::Streams;
use crate::authz::{ActionKind, Authority, Permit};
use crate::vault::{Vault, VaultError};

/// All services over one vault. Cheap to clone.
#[derive(Clone)]
struct Rpc {
    vault: Arc<Vault>,
    authority: Arc<Authority>,
    streams: Streams,
    exposition: Exposition,
}

/// Makes the daemon's metrics, as text.
pub type Exposition = Arc<dyn Fn() -> String + Send + Sync>;

/// Every service of a vault, and its health.
/// `stopping` turns true when the server is asked to stop.
pub fn services(
    vault: Arc<Vault>,
    authority: Arc<Authority>,
    stopping: watch::Receiver<bool>,
    exposition: Exposition,
) -> Services {
    let health = health::Probe::new(Arc::clone(&vault));
    Services::new(Rpc { vault, authority, streams: Streams::new(stopping), exposition }, health)
}

impl Rpc {
    fn permit<A: ActionKind>(
        &self,
        extensions: &Extensions,
        tenant: Option<&str>,
    ) -> Result<Permit<A>, Status> {
        permit::permit(extensions, &self.authority, tenant)
    }

    /// Runs a change to its end, whatever becomes of the call.
    async fn change<T, F>(
        &self,
        terms: Terms,
        tenant: &str,
        work: impl FnOnce(Arc<Vault>) -> F,
    ) -> Result<T, Status>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, VaultError>> + Send + 'static,
    {
        let outcome = tokio::spawn(work(Arc::clone(&self.vault))).await;
        outcome.map_err(|e| status::lost(&e))?.map_err(|e| status::of(e, terms, tenant))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::store::Memory;
    use crate::vault::testing::vault_on;

    /// Halfway, an update would be stored, and its old version forgotten until the next start.
    #[tokio::test]
    async fn a_change_goes_on_to_its_end_when_its_caller_leaves() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Arc::new(vault_on(dir.path(), Arc::new(Memory::new())));
        let authority = Arc::new(Authority::new(Vec::new()).unwrap());
        let streams = Streams::new(watch::channel(false).1);
        let rpc = Rpc { vault, authority, streams, exposition: Arc::new(String::new) };
        let done = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&done);
        let slow = rpc.change(Terms::Plain, "", |_| async move {
            tokio::time::sleep(Duration::from_millis(60)).await;
            seen.store(true, Ordering::SeqCst);
            Ok(())
        });
        assert!(tokio::time::timeout(Duration::from_millis(5), slow).await.is_err());
        for _ in 0..400 {
            if done.load(Ordering::SeqCst) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the change ended with its caller");
    }
}

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
pub mod status;
mod stream;
mod subjects;
mod tenants;
pub mod witness;

use std::future::Future;
use std::sync::Arc;

use tokio::sync::watch;
use tonic::service::Routes;
use tonic::{Extensions, Status};
use tonic_health::pb::health_server::HealthServer;

use self::status::Terms;
use self::stream::Streams;
use crate::authz::{ActionKind, Authority, Permit};
use crate::limits::MESSAGE_BYTES_MAX;
use crate::proto::admin::audit_service_server::AuditServiceServer;
use crate::proto::admin::log_service_server::LogServiceServer;
use crate::proto::admin::vault_service_server::VaultServiceServer;
use crate::proto::v1::certificate_service_server::CertificateServiceServer;
use crate::proto::v1::hold_service_server::HoldServiceServer;
use crate::proto::v1::record_service_server::RecordServiceServer;
use crate::proto::v1::retention_service_server::RetentionServiceServer;
use crate::proto::v1::schema_service_server::SchemaServiceServer;
use crate::proto::v1::subject_service_server::SubjectServiceServer;
use crate::proto::v1::tenant_service_server::TenantServiceServer;
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
pub fn routes(
    vault: Arc<Vault>,
    authority: Arc<Authority>,
    stopping: watch::Receiver<bool>,
    exposition: Exposition,
) -> Routes {
    let health = HealthServer::new(health::Probe::new(Arc::clone(&vault)));
    let rpc = Rpc { vault, authority, streams: Streams::new(stopping), exposition };
    macro_rules! bounded {
        ($server:ident) => {
            $server::new(rpc.clone())
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX)
        };
    }
    Routes::new(health)
        .add_service(bounded!(TenantServiceServer))
        .add_service(bounded!(SchemaServiceServer))
        .add_service(bounded!(SubjectServiceServer))
        .add_service(bounded!(RecordServiceServer))
        .add_service(bounded!(RetentionServiceServer))
        .add_service(bounded!(HoldServiceServer))
        .add_service(bounded!(CertificateServiceServer))
        .add_service(bounded!(AuditServiceServer))
        .add_service(bounded!(LogServiceServer))
        .add_service(bounded!(VaultServiceServer))
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

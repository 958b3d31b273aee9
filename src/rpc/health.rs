//! gRPC health (grpc.health.v1): whether the vault serves, asked of the vault itself at each check.
//!
//! Guarantees: SERVING only while the vault takes reads and writes; a vault that stopped after a failed write is
//! NOT_SERVING for every service.

use std::sync::Arc;

use tokio_stream::Empty;
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::authz::RPCS;
use crate::vault::Vault;

pub struct Probe(Arc<Vault>);

impl Probe {
    pub fn new(vault: Arc<Vault>) -> Self {
        Self(vault)
    }
}

/// Whether a method of this service is served; the empty name is the vault as a whole.
fn is_served(service: &str) -> bool {
    let of_service = |(path, _): &(&str, _)| {
        path.strip_prefix('/').and_then(|p| p.rsplit_once('/')).is_some_and(|(s, _)| s == service)
    };
    service.is_empty() || RPCS.iter().any(of_service)
}

#[tonic::async_trait]
impl Health for Probe {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if !is_served(&request.get_ref().service) {
            return Err(Status::not_found("no such service"));
        }
        let status = match self.0.is_running() {
            true => ServingStatus::Serving,
            false => ServingStatus::NotServing,
        };
        Ok(Response::new(HealthCheckResponse { status: status as i32 }))
    }

    type WatchStream = Empty<Result<HealthCheckResponse, Status>>;

    async fn watch(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("no such method"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::Role;
    use crate::store::faulty::{Fault, Faulty, Plan};
    use crate::store::{Memory, StoreError};
    use crate::vault::slug::Slug;
    use crate::vault::testing::{permit, vault_on};

    async fn health(probe: &Probe) -> i32 {
        let request = Request::new(HealthCheckRequest { service: String::new() });
        probe.check(request).await.unwrap().into_inner().status
    }

    #[tokio::test]
    async fn a_vault_that_stopped_after_a_failed_write_is_not_serving() {
        let dir = tempfile::tempdir().unwrap();
        let plan = Plan::new(Vec::new());
        let engine = Arc::new(Faulty::new(Arc::new(Memory::new()), plan.clone()));
        let vault = Arc::new(vault_on(dir.path(), engine));
        let probe = Probe::new(Arc::clone(&vault));
        assert_eq!(health(&probe).await, ServingStatus::Serving as i32);
        plan.add(Fault::Write(plan.writes() + 1, StoreError::Io("planned".into())));
        let slug = Slug::parse("acme").unwrap();
        assert!(
            vault.create_tenant(&permit(Role::Operator, None), slug, String::new()).await.is_err()
        );
        assert_eq!(health(&probe).await, ServingStatus::NotServing as i32);
    }

    #[test]
    fn each_service_and_the_whole_have_a_state() {
        for service in ["", "lethe.v1.RecordService", "lethe.admin.v1.VaultService"] {
            assert!(is_served(service), "{service}");
        }
        for service in ["lethe.v1", "RecordService", "lethe.v1.RecordService/GetRecord", "/"] {
            assert!(!is_served(service), "{service}");
        }
    }
}

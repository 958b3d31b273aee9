//! Every service of a vault behind one door: a call finds its service by the name in its path.
//!
//! Guarantee: a path that names none of them, or is not `/service/method`, is answered with UNIMPLEMENTED.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::codegen::{BoxFuture, Service};
use tonic::server::NamedService;
use tonic_health::pb::health_server::HealthServer;

use super::served::record_service_server::RecordServiceServer;
use super::{Rpc, health};
use crate::limits::MESSAGE_BYTES_MAX;
use crate::proto::admin::audit_service_server::AuditServiceServer;
use crate::proto::admin::log_service_server::LogServiceServer;
use crate::proto::admin::vault_service_server::VaultServiceServer;
use crate::proto::v1::certificate_service_server::CertificateServiceServer;
use crate::proto::v1::hold_service_server::HoldServiceServer;
use crate::proto::v1::retention_service_server::RetentionServiceServer;
use crate::proto::v1::schema_service_server::SchemaServiceServer;
use crate::proto::v1::subject_service_server::SubjectServiceServer;
use crate::proto::v1::tenant_service_server::TenantServiceServer;

macro_rules! services {
    ($($field:ident: $server:ident),* $(,)?) => {
        /// All of them. Cheap to clone.
        #[derive(Clone)]
        pub struct Services(Arc<Each>);

        struct Each {
            health: HealthServer<health::Probe>,
            $($field: $server<Rpc>,)*
        }

        impl Services {
            pub(super) fn new(rpc: Rpc, health: health::Probe) -> Self {
                Self(Arc::new(Each {
                    health: HealthServer::new(health),
                    $($field: $server::new(rpc.clone())
                        .max_decoding_message_size(MESSAGE_BYTES_MAX)
                        .max_encoding_message_size(MESSAGE_BYTES_MAX),)*
                }))
            }
        }

        impl Service<Request<Body>> for Services {
            type Response = Response<Body>;
            type Error = Infallible;
            type Future = BoxFuture<Response<Body>, Infallible>;

            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
                Poll::Ready(Ok(()))
            }

            fn call(&mut self, request: Request<Body>) -> Self::Future {
                let path = request.uri().path();
                let name = path.strip_prefix('/').and_then(|path| path.split_once('/'));
                match name.map(|(service, _)| service) {
                    Some(<HealthServer<health::Probe> as NamedService>::NAME) => {
                        self.0.health.clone().call(request)
                    }
                    $(Some(<$server<Rpc> as NamedService>::NAME) => {
                        self.0.$field.clone().call(request)
                    })*
                    _ => Box::pin(async {
                        Ok(Status::unimplemented("no such service").into_http())
                    }),
                }
            }
        }
    };
}

services! {
    records: RecordServiceServer,
    tenants: TenantServiceServer,
    schemas: SchemaServiceServer,
    subjects: SubjectServiceServer,
    retention: RetentionServiceServer,
    holds: HoldServiceServer,
    certificates: CertificateServiceServer,
    audit: AuditServiceServer,
    logs: LogServiceServer,
    vault: VaultServiceServer,
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;
    use tonic::Code;

    use super::*;
    use crate::authz::{Authority, RPCS};
    use crate::rpc::services;
    use crate::store::Memory;
    use crate::vault::testing::vault_on;

    #[tokio::test]
    async fn every_listed_method_finds_its_service_and_no_other_path_finds_any() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Arc::new(vault_on(dir.path(), Arc::new(Memory::new())));
        let authority = Arc::new(Authority::new(Vec::new()).unwrap());
        let all = services(vault, authority, watch::channel(false).1, Arc::new(String::new));
        let ask = |path: String| {
            let request = Request::builder().uri(path).body(Body::empty()).unwrap();
            let reply = all.clone().call(request);
            async move { Status::from_header_map(reply.await.unwrap().headers()) }
        };
        // Without a message no method does anything; but it is known.
        for (path, _) in RPCS {
            let status = ask((*path).to_owned()).await;
            assert!(status.is_none_or(|s| s.code() != Code::Unimplemented), "{path}");
        }
        let service = "/lethe.v1.RecordService";
        for path in ["/", "/x", service, "/lethe.v1.Record/GetRecord", "//GetRecord"] {
            let status = ask(path.to_owned()).await.unwrap();
            assert_eq!(status.code(), Code::Unimplemented, "{path}");
        }
        let status = ask(format!("{service}/Get")).await.unwrap();
        assert_eq!(status.code(), Code::Unimplemented);
    }
}

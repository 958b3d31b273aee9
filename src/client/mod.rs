//! The Rust client: one mTLS connection, typed services, deadlines, retries where they are safe.
//!
//! Guarantees: TLS 1.3 with a client certificate or no connection at all; every call carries a deadline, but for
//! streams, which last as long as they move; nothing that could take effect twice is retried. Errors say what to do
//! next and hold no value of a record.

mod config;
mod error;
mod retry;
#[cfg(test)]
pub(crate) mod testing;
mod tls;

use std::time::Duration;

use tonic::codegen::InterceptedService;
use tonic::service::Interceptor;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

pub use config::ClientConfig;
pub use error::ClientError;
pub use retry::{once, read, request_id, when_refused};

use crate::limits;
use crate::proto::admin::audit_service_client::AuditServiceClient;
use crate::proto::admin::log_service_client::LogServiceClient;
use crate::proto::admin::vault_service_client::VaultServiceClient;
use crate::proto::v1::certificate_service_client::CertificateServiceClient;
use crate::proto::v1::hold_service_client::HoldServiceClient;
use crate::proto::v1::record_service_client::RecordServiceClient;
use crate::proto::v1::retention_service_client::RetentionServiceClient;
use crate::proto::v1::schema_service_client::SchemaServiceClient;
use crate::proto::v1::subject_service_client::SubjectServiceClient;
use crate::proto::v1::tenant_service_client::TenantServiceClient;

/// The deadline of a call unless the caller names another.
pub const DEADLINE_DEFAULT: Duration = Duration::from_secs(30);

/// What the service clients send through.
pub type Transport = InterceptedService<Channel, Deadline>;

/// Gives every call that has none a deadline. The server learns it and the client enforces it.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Duration);

impl Interceptor for Deadline {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if request.metadata().get("grpc-timeout").is_none() {
            request.set_timeout(self.0);
        }
        Ok(request)
    }
}

/// A connected client. Cloning is cheap and shares the connection, which is made anew when it breaks.
#[derive(Clone, Debug)]
pub struct Client {
    transport: Transport,
    channel: Channel,
}

macro_rules! services {
    ($($(#[$doc:meta])* $name:ident: $service:ident),* $(,)?) => {$(
        $(#[$doc])*
        pub fn $name(&self) -> $service<Transport> {
            $service::new(self.transport.clone())
                .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
                .max_encoding_message_size(limits::MESSAGE_BYTES_MAX)
        }
    )*};
}

impl Client {
    /// Connects, handshakes and returns a client whose calls end after `deadline` (at most `limits::DEADLINE_MAX`).
    pub async fn connect(config: &ClientConfig, deadline: Duration) -> Result<Self, ClientError> {
        let channel = tls::channel(config).await?;
        let deadline = Deadline(deadline.min(limits::DEADLINE_MAX));
        Ok(Self { transport: InterceptedService::new(channel.clone(), deadline), channel })
    }

    /// Records, for calls that stream: they last as long as they move, so they have no deadline.
    pub fn streams(&self) -> RecordServiceClient<Channel> {
        RecordServiceClient::new(self.channel.clone())
            .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
            .max_encoding_message_size(limits::MESSAGE_BYTES_MAX)
    }

    /// The audit log, for calls that stream.
    pub fn audit_streams(&self) -> AuditServiceClient<Channel> {
        AuditServiceClient::new(self.channel.clone())
            .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
    }

    /// Whether the vault takes reads and writes.
    pub async fn is_serving(&self) -> Result<bool, Status> {
        let answer = read(|| {
            let mut service = HealthClient::new(self.transport.clone());
            async move { service.check(HealthCheckRequest::default()).await }
        });
        Ok(answer.await?.status() == ServingStatus::Serving)
    }

    services!(
        /// Tenants.
        tenants: TenantServiceClient,
        /// Schemas.
        schemas: SchemaServiceClient,
        /// Retention policies and sweeps.
        retention: RetentionServiceClient,
        /// Legal holds.
        holds: HoldServiceClient,
        /// Subjects.
        subjects: SubjectServiceClient,
        /// Records.
        records: RecordServiceClient,
        /// Certificates of destruction.
        certificates: CertificateServiceClient,
        /// Operation of the vault.
        vault: VaultServiceClient,
        /// The audit log.
        audit: AuditServiceClient,
        /// Both logs with their trees.
        logs: LogServiceClient,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_without_a_deadline_gets_one_and_its_own_is_kept() {
        let mut deadline = Deadline(Duration::from_secs(7));
        let given = deadline.call(Request::new(())).unwrap();
        assert_eq!(given.metadata().get("grpc-timeout").unwrap(), "7000000u");

        let mut request = Request::new(());
        request.set_timeout(Duration::from_secs(1));
        let kept = deadline.call(request).unwrap();
        assert_eq!(kept.metadata().get("grpc-timeout").unwrap(), "1000000u");
    }
}

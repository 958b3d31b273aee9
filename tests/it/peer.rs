//! The other side of the door: a caller over rustls and tonic, with the certificate that a test gives it.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::time_provider::TimeProvider;
use rustls::{AlertDescription, ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

pub const CHECK: &str = "/grpc.health.v1.Health/Check";
/// Nothing here takes longer on a machine that works.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A caller's certificate and key.
pub struct Caller(pub CertificateDer<'static>, pub PrivateKeyDer<'static>);

impl Caller {
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Self {
        let certificate = CertificateDer::from_pem_slice(certificate).unwrap();
        Self(certificate, PrivateKeyDer::from_pem_slice(key).unwrap())
    }
}

#[derive(Debug)]
struct FixedTime(i64);

impl TimeProvider for FixedTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.try_into().unwrap())))
    }
}

/// What a caller does at `now` (seconds) who trusts `ca` and shows `caller`'s certificate.
pub fn client_config(ca: &[u8], caller: Option<Caller>, now: i64, alpn: &[u8]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_details(provider, Arc::new(FixedTime(now)))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match caller {
        Some(Caller(certificate, key)) => {
            builder.with_client_auth_cert(vec![certificate], key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    config
}

/// How the door answered.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// HTTP/2 was spoken.
    Served,
    Alert(AlertDescription),
    /// The connection ended without a reason.
    Closed,
}

pub async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("took too long")
}

/// Shakes hands, and waits for the first byte inside. In TLS 1.3 the verdict on a client certificate arrives there.
pub async fn knock(
    addr: SocketAddr,
    config: &ClientConfig,
) -> (Verdict, Option<TlsStream<TcpStream>>) {
    let tcp = TcpStream::connect(addr).await.unwrap();
    let name = ServerName::from(addr.ip());
    let connector = TlsConnector::from(Arc::new(config.clone()));
    let outcome = async {
        let mut tls = connector.connect(name, tcp).await?;
        let n = tls.read(&mut [0]).await?;
        Ok::<_, std::io::Error>((n, tls))
    };
    match in_time(outcome).await {
        Ok((0, _)) => (Verdict::Closed, None),
        Ok((_, tls)) => (Verdict::Served, Some(tls)),
        Err(error) => match error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::AlertReceived(alert)) => (Verdict::Alert(*alert), None),
            Some(other) => panic!("{other}"),
            None => (Verdict::Closed, None),
        },
    }
}

/// Connects for tonic.
struct Connect(SocketAddr, TlsConnector);

impl tower::Service<Uri> for Connect {
    type Response = hyper_util::rt::TokioIo<TlsStream<TcpStream>>;
    type Error = std::io::Error;
    type Future = std::pin::Pin<
        Box<dyn Future<Output = Result<Self::Response, std::io::Error>> + Send + 'static>,
    >;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), std::io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (addr, connector) = (self.0, self.1.clone());
        Box::pin(async move {
            let tcp = TcpStream::connect(addr).await?;
            let tls = connector.connect(ServerName::from(addr.ip()), tcp).await?;
            Ok(hyper_util::rt::TokioIo::new(tls))
        })
    }
}

pub async fn channel(addr: SocketAddr, config: ClientConfig) -> Channel {
    let connect = Connect(addr, TlsConnector::from(Arc::new(config)));
    let endpoint = Endpoint::from_shared(format!("https://{addr}")).unwrap();
    in_time(endpoint.connect_with_connector(connect)).await.unwrap()
}

/// A call with the health service's messages to any path.
pub async fn call(channel: &Channel, path: &'static str) -> Result<HealthCheckResponse, Status> {
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    in_time(grpc.ready()).await.map_err(|e| Status::unavailable(e.to_string()))?;
    let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    let request = Request::new(HealthCheckRequest::default());
    in_time(grpc.unary(request, path.parse().unwrap(), codec)).await.map(|r| r.into_inner())
}

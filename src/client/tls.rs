//! TLS 1.3 with a client certificate under a tonic channel. The cryptography provider is chosen here and nowhere
//! else in the client.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};

use super::{ClientConfig, ClientError};
use crate::limits;

/// TCP and TLS together end within this time.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// A dead peer is noticed within about twice this time.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// A connected channel.
pub(super) async fn channel(config: &ClientConfig) -> Result<Channel, ClientError> {
    let tls = TlsConnector::from(Arc::new(rustls_config(config)?));
    let invalid = |cause: String| ClientError::Handshake {
        endpoint: config.endpoint.clone(),
        cause,
        next: "check `endpoint` and `server_name` in the client configuration",
    };
    let authority = config.authority().map_err(|e| invalid(e.to_owned()))?.to_owned();
    let name = config.tls_name().map_err(|e| invalid(e.to_owned()))?;
    let uri: Uri = config.endpoint.parse().map_err(|_| invalid("not a URI".to_owned()))?;
    let endpoint = Endpoint::from(uri)
        .connect_timeout(CONNECT_MAX)
        .timeout(limits::DEADLINE_MAX)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE);
    let connector = tower::service_fn(move |_: Uri| {
        let (authority, name, tls) = (authority.clone(), name.clone(), tls.clone());
        async move { dial(&authority, name, &tls).await.map(TokioIo::new) }
    });
    endpoint.connect_with_connector(connector).await.map_err(|e| explain(&config.endpoint, &e))
}

/// Why a dial failed; kept typed so that the channel's own error can be taken apart again.
#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("{0}")]
    Tcp(std::io::Error),
    #[error("{0}")]
    Tls(std::io::Error),
}

async fn dial(
    authority: &str,
    name: ServerName<'static>,
    tls: &TlsConnector,
) -> Result<TlsStream<TcpStream>, DialError> {
    let tcp = TcpStream::connect(authority).await.map_err(DialError::Tcp)?;
    tcp.set_nodelay(true).map_err(DialError::Tcp)?;
    tls.connect(name, tcp).await.map_err(DialError::Tls)
}

fn rustls_config(config: &ClientConfig) -> Result<rustls::ClientConfig, ClientError> {
    let pem = |what, path: &std::path::Path, cause: String, next| ClientError::Pem {
        what,
        path: path.to_owned(),
        cause,
        next,
    };
    let mut roots = RootCertStore::empty();
    for cert in certificates(&config.read_ca()?).map_err(|cause| {
        pem("CA file", &config.ca, cause, "`ca` must be a PEM file of the vault's CA certificate")
    })? {
        roots.add(cert).map_err(|e| {
            pem("CA file", &config.ca, e.to_string(), "ask the vault's operator for its CA file")
        })?;
    }
    let chain = certificates(&config.read_cert()?).map_err(|cause| {
        pem("client certificate", &config.cert, cause, "`cert` must be a PEM file of certificates")
    })?;
    let key = PrivateKeyDer::from_pem_slice(&config.read_key()?).map_err(|e| {
        pem("private key", &config.key, e.to_string(), "`key` must be a PEM private key")
    })?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| pem("CA file", &config.ca, e.to_string(), "report this: TLS 1.3 is missing"))?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|e| {
            let next = "check that `cert` and `key` in the client configuration belong together";
            pem("client certificate", &config.cert, e.to_string(), next)
        })?;
    tls.alpn_protocols = vec![b"h2".to_vec()];
    Ok(tls)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certs = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| e.to_string())?;
    if certs.is_empty() {
        return Err("it holds no certificate".to_owned());
    }
    Ok(certs)
}

/// Takes the channel's error apart: what failed below, and what to do about it.
fn explain(endpoint: &str, error: &(dyn Error + 'static)) -> ClientError {
    let endpoint = endpoint.to_owned();
    let mut link: Option<&(dyn Error + 'static)> = Some(error);
    let mut deepest = error.to_string();
    while let Some(this) = link {
        if let Some(dial) = this.downcast_ref::<DialError>() {
            return match dial {
                DialError::Tcp(e) => unreachable_peer(endpoint, e),
                DialError::Tls(e) => handshake(endpoint, e),
            };
        }
        if let Some(io) = this.downcast_ref::<std::io::Error>()
            && io.kind() == std::io::ErrorKind::TimedOut
        {
            return ClientError::TimedOut { endpoint, secs: CONNECT_MAX.as_secs() };
        }
        deepest = this.to_string();
        link = this.source();
    }
    let next = "check that `endpoint` is lethed's gRPC address";
    ClientError::Handshake { endpoint, cause: deepest, next }
}

fn unreachable_peer(endpoint: String, error: &std::io::Error) -> ClientError {
    use std::io::ErrorKind;
    let next = match error.kind() {
        ErrorKind::ConnectionRefused => {
            "nothing listens there: start lethed, or correct the port in `endpoint`"
        }
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            "check the network between here and the vault"
        }
        _ => "check that `endpoint` names a host that resolves from this machine",
    };
    // The cause is rebuilt, since the original belongs to the channel's error.
    ClientError::Unreachable {
        endpoint,
        cause: std::io::Error::new(error.kind(), error.to_string()),
        next,
    }
}

fn handshake(endpoint: String, error: &std::io::Error) -> ClientError {
    use rustls::{CertificateError as Cert, Error as Tls};
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    let next = match inner {
        // A CA made anew under its old name shows as a bad signature.
        Some(Tls::InvalidCertificate(Cert::UnknownIssuer | Cert::BadSignature)) => {
            "the server's certificate is not from the CA in `ca`: take the vault's own CA file, or you are \
             talking to something else"
        }
        Some(Tls::InvalidCertificate(
            Cert::NotValidForName | Cert::NotValidForNameContext { .. },
        )) => "set `server_name` to a name that the server's certificate holds",
        Some(Tls::InvalidCertificate(
            Cert::Expired
            | Cert::ExpiredContext { .. }
            | Cert::NotValidYet
            | Cert::NotValidYetContext { .. },
        )) => "renew the server's certificate, and check both clocks",
        Some(Tls::AlertReceived(_)) => ALERT_NEXT,
        _ => "check that `endpoint` is lethed's gRPC address and speaks TLS 1.3",
    };
    let cause = inner.map_or_else(|| error.to_string(), ToString::to_string);
    ClientError::Handshake { endpoint, cause, next }
}

/// What to do when the server turned the client's certificate down.
pub(super) const ALERT_NEXT: &str = "the vault refused this client's certificate: check that `cert` is \
     from the vault's client CA, not expired and not revoked";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::testing::{Authority, SERVER_NAME, client, closed_port, serve, write};
    use rcgen::KeyPair;
    use std::path::Path;

    async fn connect(folder: &Path, ours: &Authority, port: u16) -> Result<Channel, ClientError> {
        channel(&ClientConfig::load(&client(folder, ours, ours, port))?).await
    }

    fn router() -> tonic::transport::server::Router {
        let (_, health) = tonic_health::server::health_reporter();
        tonic::transport::Server::builder().add_service(health)
    }

    #[tokio::test]
    async fn the_right_server_connects_and_the_wrong_ones_are_explained() {
        let folder = tempfile::tempdir().unwrap();
        let ca = Authority::new("ca");
        let port = serve(&ca, SERVER_NAME, router()).await;
        assert!(connect(folder.path(), &ca, port).await.is_ok());

        // Another CA, and this CA made anew under its old name.
        for name in ["other", "ca"] {
            let port = serve(&Authority::new(name), SERVER_NAME, router()).await;
            let error = connect(folder.path(), &ca, port).await.unwrap_err();
            assert!(error.to_string().contains("not from the CA in `ca`"), "{error}");
        }

        let port = serve(&ca, "else.test", router()).await;
        let error = connect(folder.path(), &ca, port).await.unwrap_err();
        assert!(error.to_string().contains("set `server_name`"), "{error}");
    }

    #[tokio::test]
    async fn nobody_listening_is_said_so() {
        let folder = tempfile::tempdir().unwrap();
        let port = closed_port().await;
        let error = connect(folder.path(), &Authority::new("ca"), port).await.unwrap_err();
        assert!(matches!(error, ClientError::Unreachable { .. }));
        assert!(error.to_string().contains("start lethed"), "{error}");
    }

    #[tokio::test]
    async fn files_that_hold_something_else_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let ca = Authority::new("ca");
        let config = ClientConfig::load(&client(folder.path(), &ca, &ca, 1)).unwrap();

        write(folder.path(), "ca.pem", "not pem");
        let error = channel(&config).await.unwrap_err().to_string();
        assert!(error.contains("CA file") && error.contains("no certificate"), "{error}");

        write(folder.path(), "ca.pem", &ca.cert);
        write(folder.path(), "key.pem", &KeyPair::generate().unwrap().serialize_pem());
        let error = channel(&config).await.unwrap_err().to_string();
        assert!(error.contains("belong together"), "{error}");

        std::fs::remove_file(folder.path().join("key.pem")).unwrap();
        let error = channel(&config).await.unwrap_err().to_string();
        assert!(error.contains("private key") && error.contains("key.pem"), "{error}");
    }
}

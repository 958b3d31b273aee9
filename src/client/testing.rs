//! For tests only: a private CA, identities in a folder, and a TLS door for a tonic router.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::{Connected, Router};

/// The name in every server certificate made here.
pub(crate) const SERVER_NAME: &str = "vault.test";

pub(crate) struct Authority {
    pub(crate) cert: String,
    key: KeyPair,
    params: CertificateParams,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let cert = params.self_signed(&key).unwrap().pem();
        Self { cert, key, params }
    }

    /// Certificate and key, in PEM.
    pub(crate) fn leaf(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let issuer = Issuer::from_params(&self.params, &self.key);
        (leaf.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
    }

    /// A server that asks for a client certificate of this CA.
    pub(crate) fn server_config(&self, name: &str) -> rustls::ServerConfig {
        let (cert, key) = self.leaf(name);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.cert.as_bytes()).unwrap()).unwrap();
        let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(clients.build().unwrap())
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        tls
    }
}

pub(crate) fn write(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join(name), text).unwrap();
    fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o600)).unwrap();
}

/// A client configuration in `folder`, with an identity of `ours` that trusts `trusted`.
pub(crate) fn client(folder: &Path, ours: &Authority, trusted: &Authority, port: u16) -> PathBuf {
    let (cert, key) = ours.leaf("client");
    write(folder, "ca.pem", &trusted.cert);
    write(folder, "cert.pem", &cert);
    write(folder, "key.pem", &key);
    let text = format!(
        "endpoint = \"https://127.0.0.1:{port}\"\nca = \"ca.pem\"\ncert = \"cert.pem\"\n\
         key = \"key.pem\"\nserver_name = \"{SERVER_NAME}\"\n"
    );
    write(folder, "client.toml", &text);
    folder.join("client.toml")
}

/// A port of this machine on which nobody listens.
pub(crate) async fn closed_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}

/// Serves `router` behind mutual TLS until the runtime ends; returns the port.
pub(crate) async fn serve(ca: &Authority, name: &str, router: Router) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = TlsAcceptor::from(Arc::new(ca.server_config(name)));
    let (door, incoming) = tokio::sync::mpsc::channel(16);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            // A handshake that fails is the client's to explain.
            if let Ok(tls) = acceptor.accept(tcp).await {
                let _ = door.send(Ok::<_, io::Error>(Io(tls))).await;
            }
        }
    });
    let incoming = tokio_stream::wrappers::ReceiverStream::new(incoming);
    tokio::spawn(router.serve_with_incoming(incoming));
    port
}

/// A TLS stream as tonic's server takes it.
struct Io(TlsStream<TcpStream>);

impl Connected for Io {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

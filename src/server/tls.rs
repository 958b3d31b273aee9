//! TLS at the door: version 1.3 only, a client certificate always, no resumption; and who a certificate names.
//!
//! Guarantees: a handshake completes only with a peer whose certificate chains to the configured authority, is valid
//! now, is a leaf made for clients, and names exactly one identity of the trust domain, as a URI, and nothing else. No
//! session is ever resumed, so that this is checked on each connection. The provider of cryptography is chosen here.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig,
    SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use zeroize::Zeroizing;

use super::{ServerError, TlsFiles};
use crate::authz::{Principal, PrincipalError, TrustDomain};
use crate::clock::{Clock, UnixMillis};
use crate::limits;

/// The one protocol spoken inside.
pub const ALPN: &[u8] = b"h2";

/// A verified peer of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    pub principal: Principal,
    /// The first moment at which its certificate no longer counts.
    pub expires: UnixMillis,
}

/// Why a certificate, though valid, names no caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityProblem {
    #[error("the certificate cannot be read")]
    Unreadable,
    #[error("the certificate is an authority's")]
    Authority,
    #[error("the certificate is not for clients")]
    Usage,
    #[error("the certificate names no URI")]
    NoUri,
    #[error("the certificate names more than one URI")]
    ManyUris,
    #[error("the certificate has a name that is no URI")]
    OtherName,
    #[error("the certificate's URI {0}")]
    Principal(PrincipalError),
    #[error("the certificate is of another trust domain")]
    TrustDomain,
}

/// What is wrong with a file of the door.
#[derive(Debug, thiserror::Error)]
pub enum TlsProblem {
    #[error("is larger than {} bytes", limits::CONFIG_BYTES_MAX)]
    Size,
    #[error("holds no PEM certificate that can be read")]
    Certificate,
    #[error("holds no PEM private key that can be read")]
    Key,
    #[error("is a private key that everybody may read; take that right away (chmod o-rwx)")]
    KeyMode,
    #[error("the certificate has expired")]
    Expired,
    #[error("{0}")]
    Tls(rustls::Error),
    #[error("{0}")]
    Verifier(rustls::server::VerifierBuilderError),
}

/// The caller that a leaf names.
pub fn identity(leaf: &[u8], domain: &TrustDomain) -> Result<Peer, IdentityProblem> {
    let (rest, cert) = X509Certificate::from_der(leaf).map_err(|_| IdentityProblem::Unreadable)?;
    if !rest.is_empty() {
        return Err(IdentityProblem::Unreadable);
    }
    if cert.is_ca() {
        return Err(IdentityProblem::Authority);
    }
    let usage = cert.extended_key_usage().map_err(|_| IdentityProblem::Unreadable)?;
    if !usage.is_some_and(|usage| usage.value.client_auth) {
        return Err(IdentityProblem::Usage);
    }
    let san = cert.subject_alternative_name().map_err(|_| IdentityProblem::Unreadable)?;
    let mut uri = None;
    for name in san.iter().flat_map(|san| &san.value.general_names) {
        match name {
            GeneralName::URI(_) if uri.is_some() => return Err(IdentityProblem::ManyUris),
            GeneralName::URI(name) => uri = Some(*name),
            _ => return Err(IdentityProblem::OtherName),
        }
    }
    let principal =
        Principal::parse(uri.ok_or(IdentityProblem::NoUri)?).map_err(IdentityProblem::Principal)?;
    if !principal.is_of(domain) {
        return Err(IdentityProblem::TrustDomain);
    }
    Ok(Peer { principal, expires: expiry(&cert) })
}

/// `notAfter` is the last second of the validity (RFC 5280 §4.1.2.5).
fn expiry(cert: &X509Certificate<'_>) -> UnixMillis {
    let last = cert.validity().not_after.timestamp();
    UnixMillis(last.saturating_add(1).saturating_mul(1000))
}

/// Chain, validity and usage by rustls' own verifier; then the names.
#[derive(Debug)]
struct CallerVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    domain: TrustDomain,
}

impl ClientCertVerifier for CallerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.chain.verify_client_cert(leaf, intermediates, now)?;
        identity(leaf, &self.domain).map_err(|problem| {
            tracing::debug!(%problem, "certificate refused");
            CertificateError::ApplicationVerificationFailure
        })?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// The vault's clock, for rustls.
struct Time(Arc<dyn Clock>);

impl std::fmt::Debug for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Time")
    }
}

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        let millis = u64::try_from(self.0.now().0).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_millis(millis)))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The door's TLS, from its files.
pub fn server_config(
    files: &TlsFiles,
    clock: Arc<dyn Clock>,
) -> Result<Arc<ServerConfig>, ServerError> {
    let at = |path: &Path, problem| ServerError::Tls { path: path.display().to_string(), problem };
    let chain = certificates(&files.cert)?;
    let expired = chain.first().is_some_and(|leaf| match X509Certificate::from_der(leaf) {
        Ok((_, cert)) => expiry(&cert) <= clock.now(),
        Err(_) => false,
    });
    if expired {
        return Err(at(&files.cert, TlsProblem::Expired));
    }
    let key = private_key(&files.key)?;
    let mut roots = RootCertStore::empty();
    for root in certificates(&files.client_ca)? {
        roots.add(root).map_err(|e| at(&files.client_ca, TlsProblem::Tls(e)))?;
    }
    let chain_verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider())
        .build()
        .map_err(|e| at(&files.client_ca, TlsProblem::Verifier(e)))?;
    let verifier = CallerVerifier { chain: chain_verifier, domain: files.trust_domain.clone() };
    let mut config = ServerConfig::builder_with_details(provider(), Arc::new(Time(clock)))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| at(&files.cert, TlsProblem::Tls(e)))?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(chain, key)
        .map_err(|e| at(&files.cert, TlsProblem::Tls(e)))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, ServerError> {
    let mut bytes = Zeroizing::new(Vec::new());
    let file = File::open(path).map_err(ServerError::io(path))?;
    let size = file.take(limits::CONFIG_BYTES_MAX + 1).read_to_end(&mut bytes);
    if size.map_err(ServerError::io(path))? as u64 > limits::CONFIG_BYTES_MAX {
        let path = path.display().to_string();
        return Err(ServerError::Tls { path, problem: TlsProblem::Size });
    }
    Ok(bytes)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ServerError> {
    let pem = read(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    all.ok().filter(|all| !all.is_empty()).ok_or_else(|| ServerError::Tls {
        path: path.display().to_string(),
        problem: TlsProblem::Certificate,
    })
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, ServerError> {
    let at = |problem| ServerError::Tls { path: path.display().to_string(), problem };
    let mode = std::fs::metadata(path).map_err(ServerError::io(path))?.permissions().mode();
    if mode & 0o007 != 0 {
        return Err(at(TlsProblem::KeyMode));
    }
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|_| at(TlsProblem::Key))
}

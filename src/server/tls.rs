//! TLS at the door: version 1.3 only, a client certificate always, no resumption.
//!
//! Guarantees: a handshake completes only with a peer whose certificate chains to a configured authority, is valid now,
//! is on no revocation list, and names an identity (`identity.rs`). Where lists are configured, no list is no entry: a
//! certificate is refused if the list of its authority lacks or has lapsed. No session is ever resumed, so that this is
//! checked on each connection. [`Credentials`] are checked whole before they exist. The provider of cryptography is
//! chosen here.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::crl::{CrlProblem, Lists};
use super::identity::{expiry, identity};
use super::lines::Lines;
use super::material::{CrlFiles, Material, Parts};
use super::{ServerError, TlsFiles};
use crate::authz::TrustDomain;
use crate::clock::{Clock, UnixMillis};
use crate::limits;

/// The one protocol spoken inside.
pub const ALPN: &[u8] = b"h2";

/// What is wrong with a file of the door.
#[derive(Debug, thiserror::Error)]
pub enum TlsProblem {
    #[error("{0}")]
    Io(std::io::Error),
    #[error("is larger than {0} bytes")]
    Size(u64),
    #[error("is a directory of more than {} files", limits::CRL_FILES_MAX)]
    Files,
    #[error("holds no PEM certificate that can be read")]
    Certificate,
    #[error("holds more than {} certificates", limits::AUTHORITIES_MAX)]
    Authorities,
    #[error("holds no PEM private key that can be read")]
    Key,
    #[error("is a private key that everybody may read; take that right away (chmod o-rwx)")]
    KeyMode,
    #[error("the certificate has expired")]
    Expired,
    #[error("the certificate is not valid yet")]
    NotYet,
    #[error("the certificate is not for servers")]
    Usage,
    #[error("{0}")]
    Crl(CrlProblem),
    #[error("{0}")]
    Tls(rustls::Error),
    #[error("{0}")]
    Verifier(rustls::server::VerifierBuilderError),
}

/// One checked set of the door's files.
pub struct Credentials {
    pub config: Arc<ServerConfig>,
    pub lists: Lists,
    verifier: Arc<CallerVerifier>,
    /// Of the server's certificate.
    begins: UnixMillis,
    ends: UnixMillis,
}

/// Chain, validity and usage by rustls' own verifier; then the names.
#[derive(Debug)]
struct CallerVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    domain: TrustDomain,
    lines: Lines,
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
            // The peer hears only that it is not let in.
            if let Some(kept_back) = self.lines.next(Instant::now()) {
                tracing::info!(%problem, kept_back, "certificate refused");
            }
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
        unix_time(self.0.now())
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A moment of the vault's clock, for rustls; `None` before 1970.
fn unix_time(now: UnixMillis) -> Option<UnixTime> {
    let millis = u64::try_from(now.0).ok()?;
    Some(UnixTime::since_unix_epoch(Duration::from_millis(millis)))
}

impl Credentials {
    /// Checks `material` whole. `before` are the lists in force until now.
    pub fn check(
        files: &TlsFiles,
        material: &Material,
        clock: Arc<dyn Clock>,
        before: &Lists,
    ) -> Result<Self, ServerError> {
        let cert = |problem| at("tls.cert", &files.cert, problem);
        let client_ca = |problem| at("tls.client_ca", &files.client_ca, problem);
        let now = clock.now();

        let (chain, begins, ends) = server(files, &material.cert, now)?;
        let key = private_key(files, &material.key)?;
        let (authorities, roots) = callers(files, &material.client_ca)?;
        let lists = revoked(files, &material.crls, &authorities, now, before)?;
        let chain_verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider())
            .with_crls(lists.ders())
            .enforce_revocation_expiration()
            .build()
            .map_err(|e| client_ca(TlsProblem::Verifier(e)))?;
        let verifier = Arc::new(CallerVerifier {
            chain: chain_verifier,
            domain: files.trust_domain.clone(),
            lines: Lines::default(),
        });
        let mut config = ServerConfig::builder_with_details(provider(), Arc::new(Time(clock)))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| cert(TlsProblem::Tls(e)))?
            .with_client_cert_verifier(Arc::clone(&verifier) as Arc<dyn ClientCertVerifier>)
            .with_single_cert(chain, key)
            .map_err(|e| cert(TlsProblem::Tls(e)))?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Ok(Self { config: Arc::new(config), lists, verifier, begins, ends })
    }

    /// Whether a peer that showed `chain` would be let in now.
    pub fn lets_in(&self, chain: &[CertificateDer<'_>], now: UnixMillis) -> bool {
        let (Some((leaf, intermediates)), Some(now)) = (chain.split_first(), unix_time(now)) else {
            return false;
        };
        self.verifier.verify_client_cert(leaf, intermediates, now).is_ok()
    }

    /// When the server's certificate expires.
    pub fn ends(&self) -> UnixMillis {
        self.ends
    }

    /// What will soon end, or has: topic and sentence of each. Soon is the last fifth of a life.
    pub fn ending(&self, now: UnixMillis) -> [(&'static str, Option<String>); 2] {
        let cert = remaining(self.begins, self.ends, now).map(|left| match left {
            0 => "tls.cert: the server's certificate has expired; callers refuse it".to_owned(),
            hours => format!("tls.cert: the server's certificate expires within {hours} h"),
        });
        let list = self.lists.shortest().and_then(|(issued, lapses)| {
            remaining(issued, lapses, now).map(|left| match left {
                0 => "tls.crl: a revocation list has lapsed; callers of its authority are refused"
                    .to_owned(),
                hours => format!("tls.crl: a revocation list lapses within {hours} h"),
            })
        });
        [("tls.cert", cert), ("tls.crl", list)]
    }
}

fn at(key: &'static str, path: &Path, problem: TlsProblem) -> ServerError {
    ServerError::Tls { key, path: path.display().to_string(), problem }
}

type Chain = Vec<CertificateDer<'static>>;

/// The server's chain, and the begin and end of its validity.
fn server(
    files: &TlsFiles,
    pem: &[u8],
    now: UnixMillis,
) -> Result<(Chain, UnixMillis, UnixMillis), ServerError> {
    let cert = |problem| at("tls.cert", &files.cert, problem);
    let chain = certificates(pem).map_err(cert)?;
    let (begins, ends) = server_leaf(&chain, now).map_err(cert)?;
    Ok((chain, begins, ends))
}

fn private_key(files: &TlsFiles, pem: &[u8]) -> Result<PrivateKeyDer<'static>, ServerError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| at("tls.key", &files.key, TlsProblem::Key))
}

/// The callers' authorities.
fn callers(files: &TlsFiles, pem: &[u8]) -> Result<(Chain, RootCertStore), ServerError> {
    let client_ca = |problem| at("tls.client_ca", &files.client_ca, problem);
    let authorities = certificates(pem).map_err(client_ca)?;
    if authorities.len() > limits::AUTHORITIES_MAX {
        return Err(client_ca(TlsProblem::Authorities));
    }
    let mut roots = RootCertStore::empty();
    for root in &authorities {
        roots.add(root.clone()).map_err(|e| client_ca(TlsProblem::Tls(e)))?;
    }
    Ok((authorities, roots))
}

/// Their revocation lists.
fn revoked(
    files: &TlsFiles,
    crls: &CrlFiles,
    authorities: &Chain,
    now: UnixMillis,
    before: &Lists,
) -> Result<Lists, ServerError> {
    let Some(path) = &files.crl else {
        return Ok(Lists::default());
    };
    let mut found = Vec::new();
    for (path, pem) in crls {
        let unreadable = || at("tls.crl", path, TlsProblem::Crl(CrlProblem::Unreadable));
        let before = found.len();
        for list in CertificateRevocationListDer::pem_slice_iter(pem) {
            found.push(list.map_err(|_| unreadable())?);
        }
        // A file without a list was meant to hold one: it could be the newest.
        if found.len() == before {
            return Err(unreadable());
        }
    }
    Lists::check(&found, authorities, now, before)
        .map_err(|problem| at("tls.crl", path, TlsProblem::Crl(problem)))
}

/// When the first of the callers' authorities ends, if they can be read.
pub fn authorities_end(files: &TlsFiles) -> Option<UnixMillis> {
    let pem = Parts::read(files).client_ca.ok()?;
    let (authorities, _) = callers(files, &pem).ok()?;
    let ends = authorities.iter().filter_map(|der| X509Certificate::from_der(der).ok());
    ends.map(|(_, cert)| expiry(&cert)).min()
}

/// All that is wrong with the files of the door, where [`Credentials::check`] ends at the first.
pub fn problems(files: &TlsFiles, clock: Arc<dyn Clock>) -> Vec<ServerError> {
    let now = clock.now();
    let Parts { cert, key, client_ca, crls } = Parts::read(files);
    let mut problems = Vec::new();
    let mut note = |problem: Option<ServerError>| problems.extend(problem);
    if let Ok(pem) = &cert {
        note(server(files, pem, now).err());
    }
    if let Ok(pem) = &key {
        note(private_key(files, pem).err());
    }
    if let Ok(pem) = &client_ca {
        match callers(files, pem) {
            Ok((authorities, _)) => {
                if let Ok(crls) = &crls {
                    note(revoked(files, crls, &authorities, now, &Lists::default()).err());
                }
            }
            Err(problem) => note(Some(problem)),
        }
    }
    match (cert, key, client_ca, crls) {
        (Ok(cert), Ok(key), Ok(client_ca), Ok(crls)) => {
            // What each file says by itself is in order: do they fit together?
            if problems.is_empty() {
                let material = Material { cert, key, client_ca, crls };
                let whole = Credentials::check(files, &material, clock, &Lists::default());
                problems.extend(whole.err());
            }
        }
        (cert, key, client_ca, crls) => {
            let unread = [cert.err(), key.err(), client_ca.err(), crls.err()];
            problems.extend(unread.into_iter().flatten());
        }
    }
    problems
}

/// Hours that remain, begun ones counted, in the last fifth of a life.
fn remaining(begins: UnixMillis, ends: UnixMillis, now: UnixMillis) -> Option<i64> {
    const HOUR: i64 = 3_600_000;
    let left = ends.0.saturating_sub(now.0).max(0);
    let life = ends.0.saturating_sub(begins.0);
    (left < life / 5 || left == 0).then_some(left.saturating_add(HOUR - 1) / HOUR)
}

/// Begin and end of the validity of a chain's first certificate, if that is one for a server to show now.
fn server_leaf(
    chain: &[CertificateDer<'_>],
    now: UnixMillis,
) -> Result<(UnixMillis, UnixMillis), TlsProblem> {
    let mut span = None;
    for der in chain {
        let (_, cert) = X509Certificate::from_der(der).map_err(|_| TlsProblem::Certificate)?;
        if span.is_none() {
            let usage = cert.extended_key_usage().map_err(|_| TlsProblem::Certificate)?;
            if usage.is_some_and(|usage| !usage.value.server_auth && !usage.value.any) {
                return Err(TlsProblem::Usage);
            }
            let begins = cert.validity().not_before.timestamp().saturating_mul(1000);
            span = Some((UnixMillis(begins), expiry(&cert)));
        }
        if expiry(&cert) <= now {
            return Err(TlsProblem::Expired);
        }
        if cert.validity().not_before.timestamp().saturating_mul(1000) > now.0 {
            return Err(TlsProblem::NotYet);
        }
    }
    span.ok_or(TlsProblem::Certificate)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsProblem> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    all.ok().filter(|all| !all.is_empty()).ok_or(TlsProblem::Certificate)
}

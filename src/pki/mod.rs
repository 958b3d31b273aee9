//! Makes a private certificate authority and the identities of its peers, for development and for those who run none.
//!
//! Guarantees: ECDSA P-256; the authority can sign leaves only; a server certificate is good for servers, a client
//! certificate for clients, and each names its identity in one URI. Files are never overwritten unless that is asked
//! for; private keys are readable by their owner only and are wiped from memory.

mod files;
mod folder;

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SanType, SerialNumber,
};
use zeroize::Zeroizing;

use crate::authz::Principal;
use crate::clock::UnixMillis;
use crate::limits;

pub use files::{create_dir_private, write_new};
pub use folder::{Folder, Issued, ServerNames, State, Which};

/// How long a new authority is good for.
pub const CA_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How long a leaf is good for where nobody says otherwise.
pub const LEAF_LIFE: Duration = Duration::from_secs(90 * 24 * 3600);
/// Certificates begin this much in the past, for peers whose clocks are slow.
const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// Why an identity was not made.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("{path}: {source}")]
    Io { path: String, source: std::io::Error },
    #[error("{path} is not a PEM {what} that can be read")]
    Pem { path: String, what: &'static str },
    #[error("the certificate could not be made: {0}")]
    Make(rcgen::Error),
    #[error("a time lies outside what a certificate can say")]
    Time,
    #[error("{path} exists already")]
    Exists { path: String },
    #[error("{dir} holds no authority with a record of what it issued")]
    NoAuthority { dir: String },
    #[error("{path} is not a record that can be read")]
    Index { path: String },
    #[error("{dir} is in use by another process")]
    Busy { dir: String },
    #[error("nothing was issued as {what}")]
    Unknown { what: String },
    #[error("{path} is not the certificate that was issued last under this name")]
    Changed { path: String },
    #[error(
        "a name is 1 to 64 letters, digits, dots, dashes or underscores, begins with neither dot nor dash, and is not \
         ca, crl or index"
    )]
    Name,
    #[error("the URI is not of the authority's trust domain {domain}")]
    Domain { domain: String },
    #[error("the certificate would outlive its authority")]
    BeyondAuthority,
    #[error("the record holds {} certificates that have not expired", limits::PKI_ISSUED_MAX)]
    Full,
}

/// What a leaf is for.
#[derive(Clone, Debug)]
pub enum Purpose {
    /// A daemon that is reached under these names.
    Server { dns: Vec<String>, ips: Vec<IpAddr> },
    /// A caller.
    Client,
}

/// A certificate and its key, in PEM.
pub struct Identity {
    pub certificate: String,
    pub key: Zeroizing<String>,
}

impl Identity {
    /// Writes `<dir>/<name>.pem` and `<dir>/<name>.key`.
    pub fn write(&self, dir: &Path, name: &str) -> Result<(), PkiError> {
        write_new(&dir.join(format!("{name}.key")), self.key.as_bytes(), 0o600)?;
        write_new(&dir.join(format!("{name}.pem")), self.certificate.as_bytes(), 0o644)
    }

    /// The same, over what is there. A daemon that sees the new key with the old certificate waits for the other.
    fn replace(&self, dir: &Path, name: &str) -> Result<(), PkiError> {
        files::replace(&dir.join(format!("{name}.key")), self.key.as_bytes(), 0o600)?;
        files::replace(&dir.join(format!("{name}.pem")), self.certificate.as_bytes(), 0o644)
    }
}

/// A certificate authority with its key.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Ca {
    /// A new one, valid from `now`. `name` is its common name.
    pub fn new(name: &str, now: UnixMillis) -> Result<Self, PkiError> {
        let key = KeyPair::generate().map_err(PkiError::Make)?;
        let mut params = params(name, now, CA_LIFE)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(PkiError::Make)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }

    /// Writes `<dir>/ca.pem` and `<dir>/ca.key`.
    pub fn write(&self, dir: &Path) -> Result<(), PkiError> {
        let key = Zeroizing::new(self.issuer.key().serialize_pem());
        write_new(&dir.join("ca.key"), key.as_bytes(), 0o600)?;
        write_new(&dir.join("ca.pem"), self.certificate.as_bytes(), 0o644)
    }

    /// The same, over what is there.
    fn replace(&self, dir: &Path) -> Result<(), PkiError> {
        let key = Zeroizing::new(self.issuer.key().serialize_pem());
        files::replace(&dir.join("ca.key"), key.as_bytes(), 0o600)?;
        files::replace(&dir.join("ca.pem"), self.certificate.as_bytes(), 0o644)
    }

    /// The first second at which it no longer counts.
    fn until(&self) -> Result<i64, PkiError> {
        let parsed = folder::serial_and_validity(&self.certificate);
        parsed.map(|(_, _, until)| until).ok_or(PkiError::Time)
    }

    /// A revocation list, valid from `now` for `life`, in PEM: serial numbers, and when each was revoked in seconds.
    fn list(
        &self,
        number: u64,
        revoked: &[(Vec<u8>, i64)],
        now: UnixMillis,
        life: Duration,
    ) -> Result<String, PkiError> {
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        let at = |seconds: i64| {
            let seconds = u64::try_from(seconds).map_err(|_| PkiError::Time)?;
            Ok(epoch + Duration::from_secs(seconds))
        };
        let issued = seconds_of(now, life)?;
        let entry = |(serial, revoked): &(Vec<u8>, i64)| {
            Ok(RevokedCertParams {
                serial_number: SerialNumber::from_slice(serial),
                revocation_time: at(*revoked)?,
                reason_code: None,
                invalidity_date: None,
            })
        };
        let params = CertificateRevocationListParams {
            // In the past as certificates are, so that a vault whose clock is slow takes it.
            this_update: epoch + issued.saturating_sub(CLOCK_SKEW),
            next_update: epoch + issued + life,
            crl_number: number.into(),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect::<Result<_, PkiError>>()?,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).and_then(|list| list.pem()).map_err(PkiError::Make)
    }

    /// Reads what [`Ca::write`] wrote.
    pub fn load(dir: &Path) -> Result<Self, PkiError> {
        let max = limits::CONFIG_BYTES_MAX;
        let (key_path, path) = (dir.join("ca.key"), dir.join("ca.pem"));
        let pem = |path: &Path, what| PkiError::Pem { path: path.display().to_string(), what };
        let key =
            KeyPair::from_pem(&files::read(&key_path, max)?).map_err(|_| pem(&key_path, "key"))?;
        let certificate = files::read(&path, max)?;
        let issuer =
            Issuer::from_ca_cert_pem(&certificate, key).map_err(|_| pem(&path, "certificate"))?;
        Ok(Self { issuer, certificate: certificate.to_string() })
    }

    /// The authority's own certificate, in PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A new key and a certificate for it, valid from `now` for `life`.
    pub fn issue(
        &self,
        principal: &Principal,
        purpose: &Purpose,
        now: UnixMillis,
        life: Duration,
    ) -> Result<Identity, PkiError> {
        let uri = principal.as_str();
        let common_name = uri.rsplit('/').next().unwrap_or(uri);
        let mut params = params(common_name, now, life)?;
        let ia5 = |s: &str| s.try_into().map_err(PkiError::Make);
        params.subject_alt_names = vec![SanType::URI(ia5(uri)?)];
        params.extended_key_usages = match purpose {
            Purpose::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
            Purpose::Server { dns, ips } => {
                for name in dns {
                    params.subject_alt_names.push(SanType::DnsName(ia5(name)?));
                }
                params.subject_alt_names.extend(ips.iter().copied().map(SanType::IpAddress));
                vec![ExtendedKeyUsagePurpose::ServerAuth]
            }
        };
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(PkiError::Make)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(PkiError::Make)?.pem();
        Ok(Identity { certificate, key: Zeroizing::new(key.serialize_pem()) })
    }
}

fn params(
    common_name: &str,
    now: UnixMillis,
    life: Duration,
) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let now = seconds_of(now, life)?;
    params.not_before = epoch + now.saturating_sub(CLOCK_SKEW);
    params.not_after = epoch + now + life;
    Ok(params)
}

/// Whole seconds since 1970, if a certificate can say them and `life` after them.
fn seconds_of(now: UnixMillis, life: Duration) -> Result<Duration, PkiError> {
    let seconds = u64::try_from(now.0).map_err(|_| PkiError::Time)? / 1000;
    // 9999-12-31 is the last day that X.509 can say; one century before it keeps every sum inside.
    if seconds > 250_000_000_000 || life > 10 * CA_LIFE {
        return Err(PkiError::Time);
    }
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;
    use x509_parser::prelude::*;

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_750_000_000_000);

    fn der(pem: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
    }

    fn principal() -> Principal {
        Principal::parse("spiffe://test/application").unwrap()
    }

    #[test]
    fn a_leaf_says_who_it_is_what_it_is_for_and_until_when() {
        let ca = Ca::new("test authority", NOW).unwrap();
        let dns = vec!["localhost".into()];
        let ips = vec![IpAddr::from([127, 0, 0, 1])];
        for (purpose, names, server) in
            [(Purpose::Client, 1, false), (Purpose::Server { dns, ips }, 3, true)]
        {
            let leaf = ca.issue(&principal(), &purpose, NOW, LEAF_LIFE).unwrap();
            let der = der(&leaf.certificate);
            let (_, cert) = X509Certificate::from_der(&der).unwrap();
            let san = cert.subject_alternative_name().unwrap().unwrap().value;
            assert_eq!(san.general_names.len(), names);
            assert_eq!(san.general_names[0], GeneralName::URI("spiffe://test/application"));
            let eku = cert.extended_key_usage().unwrap().unwrap().value;
            assert_eq!((eku.server_auth, eku.client_auth), (server, !server));
            assert!(!cert.is_ca());
            assert_eq!(cert.validity().not_before.timestamp(), 1_750_000_000 - 300);
            assert_eq!(cert.validity().not_after.timestamp(), 1_750_000_000 + 90 * 86_400);
        }
    }

    #[test]
    fn an_authority_read_back_signs_for_the_same_root() {
        let dir = tempfile::tempdir().unwrap();
        Ca::new("test authority", NOW).unwrap().write(dir.path()).unwrap();
        let ca = Ca::load(dir.path()).unwrap();
        let leaf = ca.issue(&principal(), &Purpose::Client, NOW, LEAF_LIFE).unwrap();
        leaf.write(dir.path(), "application").unwrap();
        let mode = |name: &str| {
            std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777
        };
        assert_eq!([mode("ca.key"), mode("application.key")], [0o600, 0o600]);

        let root = der(ca.certificate());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(root).unwrap();
        let provider = rustls::crypto::ring::default_provider().into();
        let verifier =
            rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
                .build()
                .unwrap();
        let at = |s| rustls_pki_types::UnixTime::since_unix_epoch(Duration::from_secs(s));
        let leaf = der(&leaf.certificate);
        assert!(verifier.verify_client_cert(&leaf, &[], at(1_750_000_000)).is_ok());
        assert!(verifier.verify_client_cert(&leaf, &[], at(1_750_000_000 + 91 * 86_400)).is_err());
    }

    #[test]
    fn nothing_is_overwritten_and_a_damaged_authority_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::new("one", NOW).unwrap();
        ca.write(dir.path()).unwrap();
        let before = std::fs::read(dir.path().join("ca.key")).unwrap();
        let again = Ca::new("two", NOW).unwrap().write(dir.path()).unwrap_err();
        assert!(again.to_string().contains("ca.key"), "{again}");
        assert_eq!(std::fs::read(dir.path().join("ca.key")).unwrap(), before);

        std::fs::write(dir.path().join("ca.pem"), "no certificate").unwrap();
        let damaged = Ca::load(dir.path()).err().unwrap();
        assert!(damaged.to_string().ends_with("ca.pem is not a PEM certificate that can be read"));
        assert!(matches!(Ca::new("x", UnixMillis(-1)), Err(PkiError::Time)));
        assert!(matches!(Ca::new("x", UnixMillis(i64::MAX)), Err(PkiError::Time)));
    }
}

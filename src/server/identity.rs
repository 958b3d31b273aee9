//! Who a certificate names.
//!
//! Guarantees: a [`Peer`] comes only from a leaf that is made for clients and names exactly one identity of the trust
//! domain, as a URI, and nothing else.

use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::authz::{Principal, PrincipalError, TrustDomain};
use crate::clock::UnixMillis;

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
pub fn expiry(cert: &X509Certificate<'_>) -> UnixMillis {
    let last = cert.validity().not_after.timestamp();
    UnixMillis(last.saturating_add(1).saturating_mul(1000))
}

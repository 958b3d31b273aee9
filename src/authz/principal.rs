//! Who calls: the one URI name of a client certificate, in the form of a SPIFFE ID.
//!
//! Guarantees: a [`Principal`] is syntactically a SPIFFE ID (SPIFFE-ID.md §2) with a path, in the one spelling that it
//! has; so that comparing bytes compares identities.

use std::fmt;
use std::sync::Arc;

const SCHEME: &str = "spiffe://";
const ID_BYTES_MAX: usize = 2_048;
const TRUST_DOMAIN_BYTES_MAX: usize = 255;

/// An authenticated peer, `spiffe://<trust domain>/<path>`. Names a program, never a person. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Principal(Arc<str>);

/// The part of a principal that one certificate authority speaks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrustDomain(Arc<str>);

/// Why a text is no principal or trust domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrincipalError {
    #[error("does not start with spiffe://")]
    Scheme,
    #[error("is longer than {ID_BYTES_MAX} bytes")]
    TooLong,
    #[error(
        "has no trust domain of 1 to {TRUST_DOMAIN_BYTES_MAX} letters a-z, digits, dots, dashes or underscores"
    )]
    TrustDomain,
    #[error("has no path of non-empty segments of letters, digits, dots, dashes or underscores")]
    Path,
}

impl TrustDomain {
    pub fn parse(s: &str) -> Result<Self, PrincipalError> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
        let sized = (1..=TRUST_DOMAIN_BYTES_MAX).contains(&s.len());
        if sized && s.bytes().all(allowed) {
            Ok(Self(s.into()))
        } else {
            Err(PrincipalError::TrustDomain)
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The principal with this path (no leading slash) in this domain.
    pub fn principal(&self, path: &str) -> Result<Principal, PrincipalError> {
        Principal::parse(&format!("{SCHEME}{}/{path}", self.0))
    }
}

impl Principal {
    pub fn parse(uri: &str) -> Result<Self, PrincipalError> {
        if uri.len() > ID_BYTES_MAX {
            return Err(PrincipalError::TooLong);
        }
        let rest = uri.strip_prefix(SCHEME).ok_or(PrincipalError::Scheme)?;
        let (domain, path) = rest.split_once('/').ok_or(PrincipalError::Path)?;
        TrustDomain::parse(domain)?;
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        let segment = |s: &str| !matches!(s, "" | "." | "..") && s.bytes().all(allowed);
        if path.split('/').all(segment) { Ok(Self(uri.into())) } else { Err(PrincipalError::Path) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_of(&self, domain: &TrustDomain) -> bool {
        let rest = self.0.strip_prefix(SCHEME).and_then(|r| r.strip_prefix(&*domain.0));
        rest.is_some_and(|path| path.starts_with('/'))
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Principal({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_has_one_spelling() {
        let good = ["spiffe://lethe.dev/application", "spiffe://a/b/C_d-1.2", "spiffe://a_b-1/..."];
        for uri in good {
            assert_eq!(Principal::parse(uri).unwrap().as_str(), uri);
        }
        let long_domain = format!("spiffe://{}/x", "a".repeat(TRUST_DOMAIN_BYTES_MAX + 1));
        let long = format!("spiffe://a/{}", "x".repeat(ID_BYTES_MAX));
        let bad = [
            ("", PrincipalError::Scheme),
            ("SPIFFE://a/b", PrincipalError::Scheme),
            ("https://a/b", PrincipalError::Scheme),
            ("spiffe://a", PrincipalError::Path),
            ("spiffe://a/", PrincipalError::Path),
            ("spiffe://a/b/", PrincipalError::Path),
            ("spiffe://a//b", PrincipalError::Path),
            ("spiffe://a/./b", PrincipalError::Path),
            ("spiffe://a/../b", PrincipalError::Path),
            ("spiffe://a/b?c", PrincipalError::Path),
            ("spiffe://a/b#c", PrincipalError::Path),
            ("spiffe://a/%62", PrincipalError::Path),
            ("spiffe://a/b\0", PrincipalError::Path),
            ("spiffe://a/\u{e9}", PrincipalError::Path),
            ("spiffe:///b", PrincipalError::TrustDomain),
            ("spiffe://A/b", PrincipalError::TrustDomain),
            ("spiffe://u@a/b", PrincipalError::TrustDomain),
            ("spiffe://a:1/b", PrincipalError::TrustDomain),
            (&long_domain, PrincipalError::TrustDomain),
            (&long, PrincipalError::TooLong),
        ];
        for (uri, why) in bad {
            assert_eq!(Principal::parse(uri), Err(why), "{uri}");
        }
    }

    #[test]
    fn a_trust_domain_is_no_prefix_of_another() {
        let domain = TrustDomain::parse("lethe.dev").unwrap();
        assert!(domain.principal("application").unwrap().is_of(&domain));
        for other in
            ["spiffe://lethe.dev.evil/x", "spiffe://lethe.de/x", "spiffe://evil/lethe.dev/x"]
        {
            assert!(!Principal::parse(other).unwrap().is_of(&domain), "{other}");
        }
    }
}

//! The revocation lists of the door's authorities (RFC 5280 §5).
//!
//! Guarantees: [`Lists`] holds exactly one list of each authority, the newest that was found, signed by that authority,
//! whole, not lapsed when it was taken, and not older than the one that was in force before.

use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::oid_registry::OID_X509_EXT_ISSUER_DISTRIBUTION_POINT;
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

use crate::clock::UnixMillis;

/// Why lists are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CrlProblem {
    #[error("holds no PEM revocation list that can be read")]
    Unreadable,
    #[error("holds a revocation list that no authority in tls.client_ca has signed")]
    Stranger,
    #[error("holds a revocation list for a part of the certificates only; give the whole list")]
    Partial,
    #[error("holds a revocation list that has lapsed; fetch or make a new one")]
    Lapsed,
    #[error("holds a revocation list that is older than the one in force")]
    Older,
    #[error("lacks the revocation list of an authority in tls.client_ca")]
    Missing,
    #[error(
        "two authorities in tls.client_ca have one name, so that their lists cannot be told apart"
    )]
    SameName,
}

/// The lists in force.
#[derive(Debug, Default)]
pub struct Lists(Vec<List>);

#[derive(Debug)]
struct List {
    /// Public key of the authority, DER.
    authority: Vec<u8>,
    age: Age,
    issued: UnixMillis,
    lapses: UnixMillis,
    der: CertificateRevocationListDer<'static>,
}

/// The order of one authority's lists: their number (its length first, since it has no leading zeros), then their time.
type Age = (usize, Vec<u8>, i64);

fn at(time: x509_parser::time::ASN1Time) -> UnixMillis {
    UnixMillis(time.timestamp().saturating_mul(1000))
}

impl Lists {
    /// Of everything that was `found`, the newest of each of the `authorities`.
    pub fn check(
        found: &[CertificateRevocationListDer<'static>],
        authorities: &[CertificateDer<'_>],
        now: UnixMillis,
        before: &Lists,
    ) -> Result<Self, CrlProblem> {
        let authorities: Vec<X509Certificate<'_>> = authorities
            .iter()
            .map(|der| X509Certificate::from_der(der).map(|(_, authority)| authority))
            .collect::<Result<_, _>>()
            .map_err(|_| CrlProblem::Missing)?;
        for (n, authority) in authorities.iter().enumerate() {
            let name = authority.subject().as_raw();
            if authorities.iter().skip(n + 1).any(|other| other.subject().as_raw() == name) {
                return Err(CrlProblem::SameName);
            }
        }
        let mut newest: Vec<List> = Vec::new();
        for der in found {
            let list = List::parse(der, &authorities)?;
            match newest.iter_mut().find(|other| other.authority == list.authority) {
                Some(other) if other.age < list.age => *other = list,
                Some(_) => {}
                None => newest.push(list),
            }
        }
        if newest.len() < authorities.len() {
            return Err(CrlProblem::Missing);
        }
        if newest.iter().any(|list| list.lapses <= now) {
            return Err(CrlProblem::Lapsed);
        }
        let is_older = |list: &List| {
            let same = before.0.iter().find(|other| other.authority == list.authority);
            same.is_some_and(|other| list.age < other.age)
        };
        if newest.iter().any(is_older) {
            return Err(CrlProblem::Older);
        }
        Ok(Self(newest))
    }

    pub fn ders(&self) -> impl Iterator<Item = CertificateRevocationListDer<'static>> + '_ {
        self.0.iter().map(|list| list.der.clone())
    }

    /// The next moment after `now` at which a list lapses.
    pub fn next_lapse(&self, now: UnixMillis) -> Option<UnixMillis> {
        self.0.iter().map(|list| list.lapses).filter(|lapses| *lapses > now).min()
    }

    /// Issue and end of the list that lapses first.
    pub fn shortest(&self) -> Option<(UnixMillis, UnixMillis)> {
        self.0.iter().map(|list| (list.issued, list.lapses)).min_by_key(|(_, lapses)| *lapses)
    }
}

impl List {
    fn parse(
        der: &CertificateRevocationListDer<'static>,
        authorities: &[X509Certificate<'_>],
    ) -> Result<Self, CrlProblem> {
        let (rest, crl) =
            CertificateRevocationList::from_der(der).map_err(|_| CrlProblem::Unreadable)?;
        if !rest.is_empty() {
            return Err(CrlProblem::Unreadable);
        }
        let signer = authorities.iter().find(|authority| {
            authority.subject().as_raw() == crl.issuer().as_raw()
                && crl.verify_signature(authority.public_key()).is_ok()
        });
        let signer = signer.ok_or(CrlProblem::Stranger)?;
        let partial = &OID_X509_EXT_ISSUER_DISTRIBUTION_POINT;
        if crl.extensions().iter().any(|extension| extension.oid == *partial) {
            return Err(CrlProblem::Partial);
        }
        let number = crl.crl_number().map(|n| n.to_bytes_be()).unwrap_or_default();
        let issued = at(crl.last_update());
        Ok(Self {
            authority: signer.public_key().raw.to_vec(),
            age: (number.len(), number, issued.0),
            issued,
            lapses: at(crl.next_update().ok_or(CrlProblem::Unreadable)?),
            der: der.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{
        BasicConstraints, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint,
        CrlIssuingDistributionPoint, DnType, IsCa, Issuer, KeyIdMethod, KeyPair,
    };

    use super::*;

    const NOW: i64 = 1_750_000_000;

    fn authority(name: &str) -> (CertificateDer<'static>, Issuer<'static, KeyPair>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        (certificate.der().clone(), Issuer::new(params, key))
    }

    fn list(issuer: &Issuer<'_, KeyPair>, part: bool) -> CertificateRevocationListDer<'static> {
        let at = |seconds: i64| {
            rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds.try_into().unwrap())
        };
        let uris = vec!["http://lists.example.org/part".to_owned()];
        let point = CrlIssuingDistributionPoint {
            distribution_point: CrlDistributionPoint { uris },
            scope: None,
        };
        let params = CertificateRevocationListParams {
            this_update: at(NOW),
            next_update: at(NOW + 60),
            crl_number: 1_u64.into(),
            issuing_distribution_point: part.then_some(point),
            revoked_certs: vec![],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(issuer).unwrap().into()
    }

    fn check(
        found: &[CertificateRevocationListDer<'static>],
        authorities: &[CertificateDer<'_>],
    ) -> Result<Lists, CrlProblem> {
        Lists::check(found, authorities, UnixMillis(NOW * 1000), &Lists::default())
    }

    #[test]
    fn lists_that_cannot_be_told_apart_or_cover_a_part_only_are_refused() {
        let ((one, first), (two, second)) = (authority("a"), authority("b"));
        let whole = [list(&first, false), list(&second, false)];
        let lists = check(&whole, &[one.clone(), two]).unwrap();
        let ends = UnixMillis((NOW + 60) * 1000);
        assert_eq!(lists.next_lapse(UnixMillis(NOW * 1000)), Some(ends));
        assert_eq!(lists.next_lapse(ends), None);
        let part = check(&[list(&first, true)], std::slice::from_ref(&one));
        assert_eq!(part.err(), Some(CrlProblem::Partial));
        let (same, other) = authority("a");
        let twins = check(&[list(&first, false), list(&other, false)], &[one, same]);
        assert_eq!(twins.err(), Some(CrlProblem::SameName));
    }
}

//! An authority's directory: its key, what it issued, and its revocation list.
//!
//! Guarantees: one process changes it at a time. What was issued is on record before its files exist, so that it can
//! always be revoked; who is revoked stays on every later list until the certificate has expired; numbers of lists only
//! grow. A file is replaced only where that was asked for, and then whole, by a rename.
//!
//! `index.json` is the record; it holds names and serial numbers and no key.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::files::{self, Lock};
use super::{Ca, Identity, PkiError, Purpose};
use crate::authz::{Principal, TrustDomain};
use crate::clock::UnixMillis;
use crate::limits;

const INDEX: &str = "index.json";
const LIST: &str = "crl.pem";
/// Names of the directory's own files, without their endings.
const RESERVED: [&str; 3] = ["ca", "crl", "index"];
const NAME_BYTES_MAX: usize = 64;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// An authority, with what it issued.
pub struct Folder {
    dir: PathBuf,
    ca: Ca,
    index: Index,
    _lock: Lock,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    trust_domain: String,
    /// How long a list is good for.
    list_days: u32,
    list_number: u64,
    /// Seconds since 1970, as all times here.
    list_until: i64,
    issued: Vec<Issued>,
}

/// A certificate on record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issued {
    /// Of its files, without their endings.
    pub name: String,
    pub uri: String,
    /// The other names of a server; `None` for a client.
    pub server: Option<ServerNames>,
    /// Lower-case hex, as the certificate has it.
    pub serial: String,
    pub from: i64,
    /// The first second at which it no longer counts.
    pub until: i64,
    pub revoked: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerNames {
    pub dns: Vec<String>,
    pub ips: Vec<IpAddr>,
}

/// How a certificate on record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Valid,
    Expired,
    Revoked,
}

impl Issued {
    pub fn state(&self, now: UnixMillis) -> State {
        match self.revoked {
            Some(_) => State::Revoked,
            None if self.until <= seconds(now) => State::Expired,
            None => State::Valid,
        }
    }

    fn purpose(&self) -> Purpose {
        match &self.server {
            None => Purpose::Client,
            Some(names) => Purpose::Server { dns: names.dns.clone(), ips: names.ips.clone() },
        }
    }
}

/// Which certificates to revoke.
#[derive(Clone, Copy, Debug)]
pub enum Which<'a> {
    /// All that were issued under a name and have not expired.
    Name(&'a str),
    Serial(&'a str),
    /// None: the list is only made anew.
    None,
}

fn seconds(now: UnixMillis) -> i64 {
    now.0.div_euclid(1000)
}

fn check_name(name: &str) -> Result<(), PkiError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    let sized = (1..=NAME_BYTES_MAX).contains(&name.len());
    let plain = sized && name.bytes().all(allowed) && !name.starts_with(['.', '-']);
    if plain && !RESERVED.contains(&name) { Ok(()) } else { Err(PkiError::Name) }
}

impl Folder {
    /// A new authority for `domain` in `dir`, which is made if it is not there, with an empty list. `replace` gives up
    /// an authority that is there already, and with it every certificate that it issued.
    pub fn init(
        dir: &Path,
        domain: &TrustDomain,
        list_days: u32,
        now: UnixMillis,
        replace: bool,
    ) -> Result<Self, PkiError> {
        files::ensure_dir_private(dir)?;
        let lock = files::lock(dir)?;
        if !replace {
            for name in ["ca.key", "ca.pem", INDEX, LIST] {
                refuse_existing(&dir.join(name))?;
            }
        }
        // Revocation lists find their authority by its name: no two may share one.
        let name = format!("{} authority {:x}", domain.as_str(), now.0);
        let ca = Ca::new(&name, now)?;
        ca.replace(dir)?;
        let index = Index {
            trust_domain: domain.as_str().to_owned(),
            list_days,
            list_number: 0,
            list_until: 0,
            issued: Vec::new(),
        };
        let mut folder = Self { dir: dir.to_path_buf(), ca, index, _lock: lock };
        folder.write_list(now)?;
        Ok(folder)
    }

    pub fn open(dir: &Path) -> Result<Self, PkiError> {
        let path = dir.join(INDEX);
        if !path.is_file() {
            return Err(PkiError::NoAuthority { dir: dir.display().to_string() });
        }
        let lock = files::lock(dir)?;
        let text = files::read(&path, limits::PKI_INDEX_BYTES_MAX)?;
        let index = serde_json::from_str(&text);
        let index = index.map_err(|_| PkiError::Index { path: path.display().to_string() })?;
        Ok(Self { dir: dir.to_path_buf(), ca: Ca::load(dir)?, index, _lock: lock })
    }

    pub fn trust_domain(&self) -> &str {
        &self.index.trust_domain
    }

    /// In the order of issue.
    pub fn issued(&self) -> &[Issued] {
        &self.index.issued
    }

    /// Path, number and end of the list.
    pub fn list(&self) -> (PathBuf, u64, i64) {
        (self.dir.join(LIST), self.index.list_number, self.index.list_until)
    }

    /// Paths of a name's certificate and key.
    pub fn paths(&self, name: &str) -> [PathBuf; 2] {
        ["pem", "key"].map(|ending| self.dir.join(format!("{name}.{ending}")))
    }

    /// A new certificate with a new key. `replace` takes the place of files that are there.
    pub fn issue(
        &mut self,
        name: &str,
        principal: &Principal,
        purpose: &Purpose,
        (now, life): (UnixMillis, Duration),
        replace: bool,
    ) -> Result<Issued, PkiError> {
        check_name(name)?;
        let domain = TrustDomain::parse(&self.index.trust_domain);
        if !domain.is_ok_and(|domain| principal.is_of(&domain)) {
            return Err(PkiError::Domain { domain: self.index.trust_domain.clone() });
        }
        if !replace {
            for path in self.paths(name) {
                refuse_existing(&path)?;
            }
        }
        let identity = self.ca.issue(principal, purpose, now, life)?;
        let issued = on_record(name, principal, purpose, &identity)?;
        if issued.until > self.ca.until()? {
            return Err(PkiError::BeyondAuthority);
        }
        if self.index.issued.len() >= limits::PKI_ISSUED_MAX {
            // Nobody has to be told any more that an expired certificate was revoked.
            self.index.issued.retain(|old| old.until > seconds(now));
            if self.index.issued.len() >= limits::PKI_ISSUED_MAX {
                return Err(PkiError::Full);
            }
        }
        self.index.issued.push(issued.clone());
        self.write_index()?;
        identity.replace(&self.dir, name)?;
        Ok(issued)
    }

    /// The last certificate of a name once more, with a new key. The old one stays valid until it expires or is
    /// revoked. Unless `force` says so, only that very certificate's file is replaced.
    pub fn renew(
        &mut self,
        name: &str,
        (now, life): (UnixMillis, Duration),
        force: bool,
    ) -> Result<Issued, PkiError> {
        let last = self.index.issued.iter().rev().find(|issued| issued.name == name);
        let last = last.ok_or_else(|| PkiError::Unknown { what: name.to_owned() })?.clone();
        let [certificate, _] = self.paths(name);
        if !force {
            let there = files::read(&certificate, limits::CONFIG_BYTES_MAX)?;
            if serial_and_validity(&there).map(|(serial, ..)| serial) != Some(last.serial.clone()) {
                return Err(PkiError::Changed { path: certificate.display().to_string() });
            }
        }
        let principal = Principal::parse(&last.uri).map_err(|_| self.damaged())?;
        self.issue(name, &principal, &last.purpose(), (now, life), true)
    }

    /// Puts certificates on the list, and writes the list anew. Returns those that were not on it before.
    pub fn revoke(&mut self, which: Which<'_>, now: UnixMillis) -> Result<Vec<Issued>, PkiError> {
        let at = seconds(now);
        let mut known = matches!(which, Which::None);
        let mut revoked = Vec::new();
        for issued in &mut self.index.issued {
            let meant = match which {
                Which::Name(name) => issued.name == name,
                Which::Serial(serial) => issued.serial.eq_ignore_ascii_case(serial),
                Which::None => false,
            };
            known |= meant;
            if meant && issued.state(now) == State::Valid {
                issued.revoked = Some(at);
                revoked.push(issued.clone());
            }
        }
        if !known {
            let (Which::Name(what) | Which::Serial(what)) = which else { return Ok(revoked) };
            return Err(PkiError::Unknown { what: what.to_owned() });
        }
        self.write_list(now)?;
        Ok(revoked)
    }

    /// The record first: a list that was not written is written by the next call.
    fn write_list(&mut self, now: UnixMillis) -> Result<(), PkiError> {
        let life = DAY * self.index.list_days;
        let number = self.index.list_number.checked_add(1).ok_or(PkiError::Time)?;
        let revoked: Vec<_> = self
            .index
            .issued
            .iter()
            .filter(|issued| issued.until > seconds(now))
            .filter_map(|issued| Some((unhex(&issued.serial)?, issued.revoked?)))
            .collect();
        let list = self.ca.list(number, &revoked, now, life)?;
        self.index.list_number = number;
        let life = i64::try_from(life.as_secs()).map_err(|_| PkiError::Time)?;
        self.index.list_until = seconds(now).saturating_add(life);
        self.write_index()?;
        files::replace(&self.dir.join(LIST), list.as_bytes(), 0o644)
    }

    fn write_index(&self) -> Result<(), PkiError> {
        let text = serde_json::to_string_pretty(&self.index).map_err(|_| self.damaged())?;
        files::replace(&self.dir.join(INDEX), text.as_bytes(), 0o600)
    }

    fn damaged(&self) -> PkiError {
        PkiError::Index { path: self.dir.join(INDEX).display().to_string() }
    }
}

fn refuse_existing(path: &Path) -> Result<(), PkiError> {
    if path.symlink_metadata().is_ok() {
        return Err(PkiError::Exists { path: path.display().to_string() });
    }
    Ok(())
}

fn on_record(
    name: &str,
    principal: &Principal,
    purpose: &Purpose,
    identity: &Identity,
) -> Result<Issued, PkiError> {
    let (serial, from, until) = serial_and_validity(&identity.certificate).ok_or(PkiError::Time)?;
    let server = match purpose {
        Purpose::Client => None,
        Purpose::Server { dns, ips } => Some(ServerNames { dns: dns.clone(), ips: ips.clone() }),
    };
    let uri = principal.as_str().to_owned();
    Ok(Issued { name: name.to_owned(), uri, server, serial, from, until, revoked: None })
}

/// Of a PEM certificate: its serial number, its first second, and the first after its last.
pub(super) fn serial_and_validity(pem: &str) -> Option<(String, i64, i64)> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let (_, cert) = X509Certificate::from_der(&der).ok()?;
    let serial = cert.raw_serial().iter().map(|b| format!("{b:02x}")).collect();
    let validity = cert.validity();
    let until = validity.not_after.timestamp().saturating_add(1);
    Some((serial, validity.not_before.timestamp(), until))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_750_000_000_000);
    const LIFE: Duration = Duration::from_secs(30 * 24 * 3600);

    fn later(days: i64) -> UnixMillis {
        UnixMillis(NOW.0 + days * 86_400_000)
    }

    fn folder(dir: &Path) -> Folder {
        Folder::init(dir, &TrustDomain::parse("test").unwrap(), 30, NOW, false).unwrap()
    }

    fn uri(name: &str) -> Principal {
        Principal::parse(&format!("spiffe://test/{name}")).unwrap()
    }

    /// Number and serials of the list that is in the directory.
    fn listed(folder: &Folder) -> (u64, Vec<String>) {
        use x509_parser::prelude::CertificateRevocationList;
        let pem = std::fs::read(folder.list().0).unwrap();
        let der = rustls_pki_types::CertificateRevocationListDer::from_pem_slice(&pem).unwrap();
        let (_, list) = CertificateRevocationList::from_der(&der).unwrap();
        let ca = std::fs::read(folder.dir.join("ca.pem")).unwrap();
        let ca = CertificateDer::from_pem_slice(&ca).unwrap();
        let (_, ca) = X509Certificate::from_der(&ca).unwrap();
        list.verify_signature(ca.public_key()).unwrap();
        let until = list.next_update().unwrap().timestamp();
        assert_eq!(until, folder.list().2);
        let number = u64::try_from(list.crl_number().unwrap()).unwrap();
        let serial = |r: &x509_parser::revocation_list::RevokedCertificate<'_>| {
            r.raw_serial().iter().map(|b| format!("{b:02x}")).collect()
        };
        (number, list.iter_revoked_certificates().map(serial).collect())
    }

    #[test]
    fn what_was_issued_can_be_renewed_and_revoked_until_it_has_expired() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("pki");
        let mut made = folder(&dir);
        assert_eq!(listed(&made), (1, vec![]));
        let first = made.issue("app", &uri("app"), &Purpose::Client, (NOW, LIFE), false).unwrap();
        drop(made);
        let mut made = Folder::open(&dir).unwrap();
        assert_eq!(made.issued(), std::slice::from_ref(&first));
        let second = made.renew("app", (later(10), LIFE), false).unwrap();
        assert_eq!((&second.uri, second.until - first.until), (&first.uri, 10 * 86_400));
        assert_ne!(second.serial, first.serial);

        assert_eq!(made.revoke(Which::Serial(&first.serial), later(11)).unwrap().len(), 1);
        assert_eq!(listed(&made), (2, vec![first.serial.clone()]));
        assert_eq!(made.revoke(Which::Name("app"), later(12)).unwrap()[0].serial, second.serial);
        assert_eq!(made.revoke(Which::Name("app"), later(12)).unwrap(), []);
        let states: Vec<_> = made.issued().iter().map(|i| i.state(later(12))).collect();
        assert_eq!(states, [State::Revoked, State::Revoked]);
        drop(made);
        let mut made = Folder::open(&dir).unwrap();
        made.revoke(Which::None, later(13)).unwrap();
        assert_eq!(listed(&made), (5, vec![first.serial.clone(), second.serial.clone()]));
        made.revoke(Which::None, later(31)).unwrap();
        assert_eq!(listed(&made), (6, vec![second.serial.clone()]), "the first has expired");
        assert!(matches!(made.revoke(Which::Name("x"), NOW), Err(PkiError::Unknown { .. })));
        assert!(matches!(made.revoke(Which::Serial("00"), NOW), Err(PkiError::Unknown { .. })));
    }

    #[test]
    fn nothing_is_replaced_that_nobody_asked_to_replace() {
        let tmp = tempfile::tempdir().unwrap();
        let mut made = folder(tmp.path());
        let again = |dir: &Path, replace| {
            Folder::init(dir, &TrustDomain::parse("test").unwrap(), 30, NOW, replace)
        };
        assert!(matches!(again(tmp.path(), true), Err(PkiError::Busy { .. })));
        let app = uri("app");
        let issue = |made: &mut Folder, name: &str, force| {
            made.issue(name, &app, &Purpose::Client, (NOW, LIFE), force)
        };
        issue(&mut made, "app", false).unwrap();
        assert!(matches!(issue(&mut made, "app", false), Err(PkiError::Exists { .. })));
        assert_eq!(made.issued().len(), 1, "what is refused is not on record");
        issue(&mut made, "app", true).unwrap();
        for name in ["", ".x", "-x", "a/b", "..", "ca", "crl", "index", &"x".repeat(65)] {
            assert!(matches!(issue(&mut made, name, true), Err(PkiError::Name)), "{name}");
        }
        let [certificate, key] = made.paths("app");
        let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!([mode(&key), mode(&tmp.path().join("ca.key"))], [0o600; 2]);
        assert_eq!(mode(&tmp.path().join(INDEX)), 0o600);

        std::fs::copy(tmp.path().join("ca.pem"), &certificate).unwrap();
        assert!(matches!(made.renew("app", (NOW, LIFE), false), Err(PkiError::Changed { .. })));
        assert!(made.renew("app", (NOW, LIFE), true).is_ok());
        let other = Principal::parse("spiffe://other/app").unwrap();
        let strange = made.issue("o", &other, &Purpose::Client, (NOW, LIFE), false);
        assert!(matches!(strange, Err(PkiError::Domain { .. })));
        let long =
            made.issue("l", &uri("l"), &Purpose::Client, (later(9), super::super::CA_LIFE), false);
        assert!(matches!(long, Err(PkiError::BeyondAuthority)));
        drop(made);
        assert!(matches!(again(tmp.path(), false), Err(PkiError::Exists { .. })));
        assert_eq!(again(tmp.path(), true).unwrap().issued(), []);
        std::fs::write(tmp.path().join(INDEX), "{}").unwrap();
        assert!(matches!(Folder::open(tmp.path()), Err(PkiError::Index { .. })));
        std::fs::remove_file(tmp.path().join(INDEX)).unwrap();
        assert!(matches!(Folder::open(tmp.path()), Err(PkiError::NoAuthority { .. })));
        let left: Vec<_> =
            std::fs::read_dir(tmp.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| !name.to_string_lossy().starts_with('.')), "{left:?}");
    }
}

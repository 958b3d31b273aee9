//! The door's files as bytes, and whether they changed.
//!
//! Guarantees: what is read is bounded, and a private key that everybody may read is refused by the rights of the very
//! file that was read. A [`Look`] differs from an earlier one if a file was written, replaced, renamed, given other
//! rights, or reached through another link.

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{ServerError, TlsFiles, TlsProblem};
use crate::limits;

/// What the files hold.
pub struct Material {
    pub cert: Zeroizing<Vec<u8>>,
    pub key: Zeroizing<Vec<u8>>,
    pub client_ca: Zeroizing<Vec<u8>>,
    /// With the path of each.
    pub crls: CrlFiles,
}

/// The same, or of each file what keeps it from being read.
pub struct Parts {
    pub cert: Result<Zeroizing<Vec<u8>>, ServerError>,
    pub key: Result<Zeroizing<Vec<u8>>, ServerError>,
    pub client_ca: Result<Zeroizing<Vec<u8>>, ServerError>,
    pub crls: Result<CrlFiles, ServerError>,
}

/// What tells one state of the files from another.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Look(Vec<(PathBuf, Option<Stamp>)>);

/// Device, inode and size; times of the contents and of the inode in seconds and nanoseconds.
#[derive(Clone, PartialEq, Eq)]
struct Stamp([u64; 3], [i64; 4]);

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        let times = [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()];
        Self([meta.dev(), meta.ino(), meta.size()], times)
    }
}

impl Look {
    /// Follows links, so that a swap of the directory behind one is seen.
    pub fn at(files: &TlsFiles) -> Self {
        let mut paths = vec![files.cert.clone(), files.key.clone(), files.client_ca.clone()];
        if let Some(crl) = &files.crl {
            // What cannot be listed now is a state like any other; reading it says what is wrong.
            paths.extend(lists_in(crl).unwrap_or_default());
            paths.push(crl.clone());
        }
        Self::of(paths)
    }

    pub fn of(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let look = |path: PathBuf| {
            let stamp = std::fs::metadata(&path).ok().map(|meta| Stamp::of(&meta));
            (path, stamp)
        };
        Self(paths.into_iter().map(look).collect())
    }
}

impl Parts {
    pub fn read(files: &TlsFiles) -> Self {
        let at = |key: &'static str, path: &Path| {
            let path = path.display().to_string();
            move |problem| ServerError::Tls { key, path, problem }
        };
        let max = limits::CONFIG_BYTES_MAX;
        Self {
            cert: read(&files.cert, max, None).map_err(at("tls.cert", &files.cert)),
            key: read(&files.key, max, Some(0o007)).map_err(at("tls.key", &files.key)),
            client_ca: read(&files.client_ca, max, None)
                .map_err(at("tls.client_ca", &files.client_ca)),
            crls: match &files.crl {
                Some(crl) => lists(crl).map_err(|(path, problem)| at("tls.crl", &path)(problem)),
                None => Ok(Vec::new()),
            },
        }
    }
}

impl Material {
    pub fn read(files: &TlsFiles) -> Result<Self, ServerError> {
        let Parts { cert, key, client_ca, crls } = Parts::read(files);
        Ok(Self { crls: crls?, cert: cert?, key: key?, client_ca: client_ca? })
    }
}

/// Path and contents of each file of lists.
pub type CrlFiles = Vec<(PathBuf, Zeroizing<Vec<u8>>)>;

fn lists(crl: &Path) -> Result<CrlFiles, (PathBuf, TlsProblem)> {
    let mut left = limits::CRL_BYTES_MAX;
    let mut lists = Vec::new();
    for path in lists_in(crl).map_err(|problem| (crl.to_path_buf(), problem))? {
        let bytes = match read(&path, left, None) {
            Ok(bytes) => bytes,
            Err(problem) => return Err((path, problem)),
        };
        left = left.saturating_sub(bytes.len() as u64);
        lists.push((path, bytes));
    }
    Ok(lists)
}

/// The file itself, or the files of the directory whose names begin with no dot.
fn lists_in(crl: &Path) -> Result<Vec<PathBuf>, TlsProblem> {
    if !std::fs::metadata(crl).map_err(TlsProblem::Io)?.is_dir() {
        return Ok(vec![crl.to_path_buf()]);
    }
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(crl).map_err(TlsProblem::Io)? {
        let entry = entry.map_err(TlsProblem::Io)?;
        if entry.file_name().as_encoded_bytes().first() == Some(&b'.') {
            continue;
        }
        if paths.len() == limits::CRL_FILES_MAX {
            return Err(TlsProblem::Files);
        }
        paths.push(entry.path());
    }
    paths.sort();
    Ok(paths)
}

/// `denied` are rights that the file may not give.
fn read(path: &Path, max: u64, denied: Option<u32>) -> Result<Zeroizing<Vec<u8>>, TlsProblem> {
    let file = File::open(path).map_err(TlsProblem::Io)?;
    let meta = file.metadata().map_err(TlsProblem::Io)?;
    if denied.is_some_and(|denied| meta.permissions().mode() & denied != 0) {
        return Err(TlsProblem::KeyMode);
    }
    // A vector that grows leaves copies behind: it is made large enough at once.
    let size = usize::try_from(meta.len().min(max)).unwrap_or(0);
    let mut bytes = Zeroizing::new(Vec::with_capacity(size.saturating_add(1)));
    let read = file.take(max + 1).read_to_end(&mut bytes).map_err(TlsProblem::Io)?;
    if read as u64 > max { Err(TlsProblem::Size(max)) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_bounded_in_number_and_together_in_size() {
        let dir = tempfile::tempdir().unwrap();
        let make = |n: usize, size: u64| {
            let file = File::create(dir.path().join(format!("{n}.pem"))).unwrap();
            file.set_len(size).unwrap();
        };
        make(0, limits::CRL_BYTES_MAX / 2);
        make(1, limits::CRL_BYTES_MAX / 2);
        assert_eq!(lists(dir.path()).ok().map(|lists| lists.len()), Some(2));
        make(2, 1);
        let (path, problem) = lists(dir.path()).err().unwrap();
        assert!(path.ends_with("2.pem") && matches!(problem, TlsProblem::Size(_)), "{problem}");
        (0..=limits::CRL_FILES_MAX).for_each(|n| make(n, 0));
        assert!(matches!(lists(dir.path()), Err((_, TlsProblem::Files))));
        std::fs::rename(dir.path().join("0.pem"), dir.path().join(".0.pem")).unwrap();
        assert!(lists(dir.path()).is_ok());
    }

    #[test]
    fn a_look_sees_a_write_a_change_of_rights_and_a_link_that_was_swapped() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for folder in ["one", "two"] {
            std::fs::create_dir(at(folder)).unwrap();
            std::fs::write(at(folder).join("cert"), "same").unwrap();
        }
        // As Kubernetes mounts a secret.
        std::os::unix::fs::symlink("one", at("now")).unwrap();
        std::os::unix::fs::symlink("now/cert", at("cert")).unwrap();
        let files = TlsFiles {
            cert: at("cert"),
            key: at("key"),
            client_ca: at("ca"),
            crl: Some(at("lists")),
            trust_domain: crate::authz::TrustDomain::parse("test").unwrap(),
        };
        let mut last = Look::at(&files);
        let mut changed = || {
            let look = Look::at(&files);
            let differs = look != last;
            last = look;
            differs
        };
        assert!(!changed());
        std::fs::write(at("key"), "x").unwrap();
        assert!(changed() && !changed(), "a file that was not there");
        std::fs::set_permissions(at("key"), PermissionsExt::from_mode(0o640)).unwrap();
        assert!(changed(), "its rights");
        std::os::unix::fs::symlink("two", at("next")).unwrap();
        std::fs::rename(at("next"), at("now")).unwrap();
        assert!(changed() && !changed(), "the link");
        std::fs::create_dir(at("lists")).unwrap();
        assert!(changed());
        std::fs::write(at("lists/a.pem"), "").unwrap();
        assert!(changed() && !changed(), "a list");
        std::fs::write(at("lists/a.pem"), "other").unwrap();
        assert!(changed() && !changed(), "what a list holds");
    }
}

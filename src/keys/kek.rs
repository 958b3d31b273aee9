//! Key-encryption keys: where they come from and how one follows another.
//!
//! Invariants: a key file that others may read is refused; a new KEK is on disk before the anchor is sealed under it,
//! and the old one stays until the anchor no longer needs it, so that a crash at any point leaves a key that opens the
//! anchor.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use crate::crypto::{Kek, kek_id};

/// Why a KEK was not read or written.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum KekError {
    #[error("there is no KEK at {0}")]
    Missing(PathBuf),
    #[error("KEK file {0} has mode {1:04o}: others could read it; run `chmod 600` on it")]
    Mode(PathBuf, u32),
    #[error("KEK file {0} belongs to another user")]
    Owner(PathBuf),
    #[error("KEK file {0} is not a regular file of 64 hex digits")]
    Malformed(PathBuf),
    #[error("KEK file {0} could not be {1}: {2}")]
    Io(PathBuf, &'static str, String),
    #[error("$CREDENTIALS_DIRECTORY is not set: start lethed through systemd, or name a KEK file")]
    NoCredentials,
    #[error("to rotate, give the unit a second credential named {0} with the new KEK")]
    NoNextCredential(String),
}

/// Where the KEK comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KekSource {
    /// A file of 64 hex digits, mode 0600 or 0400.
    File(PathBuf),
    /// A systemd credential of this name; the next one is `<name>.next`.
    Credential { directory: PathBuf, name: String },
}

impl KekSource {
    /// A credential of this process's unit.
    pub fn credential(name: &str) -> Result<Self, KekError> {
        let directory = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or(KekError::NoCredentials)?;
        Ok(Self::Credential { directory: directory.into(), name: name.to_owned() })
    }

    fn paths(&self) -> (PathBuf, PathBuf) {
        let now = match self {
            Self::File(path) => path.clone(),
            Self::Credential { directory, name } => directory.join(name),
        };
        let mut next = now.clone().into_os_string();
        next.push(".next");
        (now, next.into())
    }

    /// Every key that the anchor may be sealed under: the present one, and one left by an interrupted rotation.
    pub fn candidates(&self) -> Result<Vec<Kek>, KekError> {
        let (now, next) = self.paths();
        let mut keys = Vec::new();
        for path in [&now, &next] {
            match self.read(path) {
                Ok(key) => keys.push(key),
                Err(KekError::Missing(_)) => {}
                // A rotation that a crash cut off: no anchor can name a key that was not yet whole on disk.
                Err(KekError::Malformed(_)) if path == &next && !keys.is_empty() => {}
                Err(e) => return Err(e),
            }
        }
        if keys.is_empty() { Err(KekError::Missing(now)) } else { Ok(keys) }
    }

    /// The next KEK, durable beside the present one. An earlier one that no anchor names is replaced.
    pub fn prepare_next(&self) -> Result<Kek, KekError> {
        let (_, next) = self.paths();
        match self {
            Self::Credential { name, .. } => match self.read(&next) {
                Err(KekError::Missing(_)) => {
                    Err(KekError::NoNextCredential(format!("{name}.next")))
                }
                other => other,
            },
            Self::File(_) => {
                match std::fs::remove_file(&next) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => {
                        return Err(KekError::Io(next, "replaced", e.to_string()));
                    }
                    _ => {}
                }
                create_file(&next)
            }
        }
    }

    fn read(&self, path: &Path) -> Result<Kek, KekError> {
        match self {
            Self::File(_) => read(path, 0o077),
            // systemd gives the unit's user the right to a file of root's by an access list, whose mask shows as the
            // right of the group; the directory is the unit's alone.
            Self::Credential { .. } => read(path, 0o037),
        }
    }

    /// After recovery: if the anchor names the next KEK, it takes the place of the old one.
    pub fn settle(&self, in_use: &[u8; 16]) -> Result<(), KekError> {
        let (_, next) = self.paths();
        match self.read(&next) {
            Ok(key) if kek_id(&key) == *in_use => self.promote_next(),
            Ok(_) | Err(KekError::Missing(_) | KekError::Malformed(_)) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// The anchor names the next KEK alone: it takes the place of the old.
    pub fn promote_next(&self) -> Result<(), KekError> {
        let (now, next) = self.paths();
        if let Self::File(_) = self {
            std::fs::rename(&next, &now)
                .and_then(|()| sync_directory(&now))
                .map_err(|e| KekError::Io(now, "replaced", e.to_string()))?;
        }
        Ok(())
    }
}

fn sync_directory(file: &Path) -> io::Result<()> {
    let parent = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

/// Makes a KEK file with a fresh key; never over another.
pub fn create_file(path: &Path) -> Result<Kek, KekError> {
    let key = Kek::generate();
    let mut text = Zeroizing::new(String::with_capacity(65));
    for byte in key.expose() {
        // Writing to a string cannot fail.
        let _ = fmt::Write::write_fmt(&mut *text, format_args!("{byte:02x}"));
    }
    text.push('\n');
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut f| f.write_all(text.as_bytes()).and_then(|()| f.sync_all()))
        .and_then(|()| sync_directory(path))
        .map_err(|e| KekError::Io(path.to_owned(), "created", e.to_string()))?;
    Ok(key)
}

/// `refused` are the rights that others must not have.
fn read(path: &Path, refused: u32) -> Result<Kek, KekError> {
    let io_error = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound => KekError::Missing(path.to_owned()),
        _ => KekError::Io(path.to_owned(), "read", e.to_string()),
    };
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(io_error)?;
    let meta = file.metadata().map_err(io_error)?;
    if !meta.is_file() {
        return Err(KekError::Malformed(path.to_owned()));
    }
    if meta.mode() & refused != 0 {
        return Err(KekError::Mode(path.to_owned(), meta.mode() & 0o7777));
    }
    let me = rustix::process::geteuid();
    let of_root = refused & 0o040 == 0 && meta.uid() == 0;
    if meta.uid() != me.as_raw() && !me.is_root() && !of_root {
        return Err(KekError::Owner(path.to_owned()));
    }
    let mut text = Zeroizing::new(Vec::with_capacity(128));
    file.take(128).read_to_end(&mut text).map_err(io_error)?;
    let digits = text.strip_suffix(b"\n").unwrap_or(&text);
    let mut bytes = Zeroizing::new([0u8; 32]);
    if digits.len() != 64 {
        return Err(KekError::Malformed(path.to_owned()));
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair
            .iter()
            .try_fold(0, |n, c| Some(n << 4 | char::from(*c).to_digit(16)? as u8))
            .ok_or_else(|| KekError::Malformed(path.to_owned()))?;
    }
    Ok(Kek::copied(&bytes))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_kek_file_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kek");
        let key = create_file(&path).unwrap();
        let source = KekSource::File(path.clone());
        assert_eq!(kek_id(&source.candidates().unwrap()[0]), kek_id(&key));
        for mode in [0o640, 0o604, 0o660, 0o644] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(source.candidates().err(), Some(KekError::Mode(path.clone(), mode)));
        }
        assert!(create_file(&path).is_err(), "a KEK is never overwritten");
    }

    #[test]
    fn only_64_hex_digits_are_a_kek() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kek");
        let source = KekSource::File(path.clone());
        assert_eq!(source.candidates().err(), Some(KekError::Missing(path.clone())));
        for bad in ["", "ab", &"g".repeat(64), &"a".repeat(63), &"a".repeat(65), &"a".repeat(500)] {
            std::fs::write(&path, bad).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            assert_eq!(source.candidates().err(), Some(KekError::Malformed(path.clone())));
        }
    }

    #[test]
    fn a_credential_may_show_the_mask_of_its_access_list_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kek");
        create_file(&path).unwrap();
        let directory = dir.path().to_owned();
        let source = KekSource::Credential { directory, name: "kek".into() };
        for (mode, good) in [(0o440, true), (0o400, true), (0o444, false), (0o460, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(source.candidates().is_ok(), good, "{mode:o}");
        }
    }

    #[test]
    fn at_each_point_of_a_rotation_both_or_the_right_key_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kek");
        let old = kek_id(&create_file(&path).unwrap());
        let source = KekSource::File(path);
        let abandoned = kek_id(&source.prepare_next().unwrap());
        // A crash in the middle of writing it leaves the present key usable.
        let torn = dir.path().join("kek.next");
        std::fs::write(&torn, "ab").unwrap();
        assert_eq!(source.candidates().unwrap().len(), 1);
        source.settle(&old).unwrap();
        let next = kek_id(&source.prepare_next().unwrap());
        assert_ne!(abandoned, next);
        let ids = |s: &KekSource| s.candidates().unwrap().iter().map(kek_id).collect::<Vec<_>>();
        assert_eq!(ids(&source), [old, next]);
        source.settle(&old).unwrap();
        assert_eq!(ids(&source), [old, next], "the anchor does not need it yet");
        source.settle(&next).unwrap();
        assert_eq!(ids(&source), [next]);
    }
}

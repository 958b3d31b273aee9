//! Files that hold identities. Guarantees: created with their final mode, never replaced unless by [`replace`], and
//! then whole, on disk when written; what is read is bounded; one process at a time holds a directory's [`Lock`].

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use zeroize::Zeroizing;

use super::PkiError;

/// Held until it is dropped.
pub(super) struct Lock(#[expect(dead_code, reason = "its being open is the lock")] File);

fn io(path: &Path) -> impl FnOnce(io::Error) -> PkiError + '_ {
    move |source| PkiError::Io { path: path.display().to_string(), source }
}

/// Creates `path`, which must not exist, with `mode` less the process's umask.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), PkiError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(mode);
    let mut file = options.open(path).map_err(io(path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io(path))
}

/// Puts a new file in the place of `path`, whether there is one or not: a reader sees the old or the new, whole.
pub(super) fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), PkiError> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io(path)(io::ErrorKind::InvalidInput.into()));
    };
    let fresh = dir.join(format!(".{}.new", name.to_string_lossy()));
    // What is there was left by a process that ended half-way: the lock keeps others out.
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(&fresh)(error)),
        _ => {}
    }
    write_new(&fresh, bytes, mode)?;
    std::fs::rename(&fresh, path).map_err(io(path))?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io(dir))
}

/// Creates a directory that only its owner may enter.
pub fn create_dir_private(path: &Path) -> Result<(), PkiError> {
    DirBuilder::new().mode(0o700).create(path).map_err(io(path))
}

/// The same, unless it is there.
pub(super) fn ensure_dir_private(path: &Path) -> Result<(), PkiError> {
    if path.is_dir() { Ok(()) } else { create_dir_private(path) }
}

/// Takes a directory for this process, or fails at once.
pub(super) fn lock(dir: &Path) -> Result<Lock, PkiError> {
    let file = File::open(dir).map_err(io(dir))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(PkiError::Busy { dir: dir.display().to_string() }),
        Err(TryLockError::Error(error)) => Err(io(dir)(error)),
    }
}

/// A whole file of at most `max` bytes that may hold a key.
pub(super) fn read(path: &Path, max: u64) -> Result<Zeroizing<String>, PkiError> {
    let mut text = Zeroizing::new(String::new());
    let file = File::open(path).map_err(io(path))?;
    let size = file.take(max + 1).read_to_string(&mut text).map_err(io(path))?;
    if size as u64 > max { Err(io(path)(io::ErrorKind::FileTooLarge.into())) } else { Ok(text) }
}

//! Files that hold identities. Guarantees: created with their final mode, never replaced, on disk when written.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use zeroize::Zeroizing;

use super::PkiError;
use crate::limits;

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

/// Creates a directory that only its owner may enter.
pub fn create_dir_private(path: &Path) -> Result<(), PkiError> {
    DirBuilder::new().mode(0o700).create(path).map_err(io(path))
}

/// A whole file that may hold a key.
pub(super) fn read(path: &Path) -> Result<Zeroizing<String>, PkiError> {
    let mut text = Zeroizing::new(String::new());
    let file = File::open(path).map_err(io(path))?;
    file.take(limits::CONFIG_BYTES_MAX).read_to_string(&mut text).map_err(io(path))?;
    Ok(text)
}

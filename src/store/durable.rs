//! Directory entries that survive a power cut.
//!
//! Guarantees: what these functions created, renamed or removed is durable when they return. A file's own bytes are
//! its writer's business.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::StoreError;

/// Names the step that failed; a path never gets into the message.
pub(super) fn io_error(step: &'static str) -> impl Fn(io::Error) -> StoreError {
    move |e| StoreError::Io(format!("{step}: {e}"))
}

/// Makes the entries of `dir` durable.
pub fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    let opened = File::open(dir).map_err(io_error("open of a directory"))?;
    opened.sync_all().map_err(io_error("sync of a directory"))
}

/// Creates `dir` and whatever is missing above it, each entry durable in its parent.
pub fn create_dir(dir: &Path) -> Result<(), StoreError> {
    let mut missing = Vec::new();
    let mut at = dir;
    while !at.as_os_str().is_empty() && !at.exists() {
        missing.push(at);
        let Some(parent) = at.parent() else { break };
        at = parent;
    }
    for path in missing.into_iter().rev() {
        match std::fs::create_dir(path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                return Err(io_error("creation of a directory")(e));
            }
            _ => sync_dir(&parent_of(path))?,
        }
    }
    Ok(())
}

/// Puts `from` in the place of `to`, both in one directory.
pub fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    std::fs::rename(from, to).map_err(io_error("rename of a file"))?;
    sync_dir(&parent_of(to))
}

/// Removes a file; one that is not there is fine.
pub fn remove(path: &Path) -> Result<(), StoreError> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(io_error("removal of a file")(e)),
        Ok(()) => sync_dir(&parent_of(path)),
    }
}

fn parent_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        Some(_) => PathBuf::from("."),
        None => path.to_path_buf(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_of_directories_is_created_once_and_again() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        create_dir(&deep).unwrap();
        create_dir(&deep).unwrap();
        assert!(deep.is_dir());
        std::fs::write(dir.path().join("file"), b"").unwrap();
        assert!(create_dir(&dir.path().join("file/x")).is_err());
    }

    #[test]
    fn removing_what_is_not_there_is_fine_and_the_message_has_no_path() {
        let dir = tempfile::tempdir().unwrap();
        remove(&dir.path().join("nothing")).unwrap();
        let err = rename(&dir.path().join("secretname"), &dir.path().join("b")).unwrap_err();
        assert!(!err.to_string().contains("secretname"));
    }
}

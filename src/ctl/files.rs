//! The only file of lethectl that opens files and standard input. Everything read is bounded.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufWriter, IsTerminal, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::error::CtlError;
use crate::limits;

/// A JSON document of one record: its values, plus names and escapes.
const DOCUMENT_BYTES_MAX: u64 = 4 * limits::RECORD_BYTES_MAX as u64;
/// A witness's key with its name.
const PRIVATE_BYTES_MAX: u64 = 1_024;
const NEXT_SMALLER: &str = "send less at once";

/// Reads a whole text file, or standard input for `-`.
pub fn read_text(path: &Path) -> Result<Zeroizing<String>, CtlError> {
    let failed = |cause| CtlError::File { doing: "read", path: path.to_owned(), cause };
    let mut text = Zeroizing::new(String::new());
    let read = if path == Path::new("-") {
        io::stdin().lock().take(DOCUMENT_BYTES_MAX + 1).read_to_string(&mut text)
    } else {
        let file = File::open(path).map_err(failed)?;
        file.take(DOCUMENT_BYTES_MAX + 1).read_to_string(&mut text)
    };
    if read.map_err(|e| not_text(path, e))? as u64 > DOCUMENT_BYTES_MAX {
        let what = format!("{} is larger than {DOCUMENT_BYTES_MAX} bytes", path.display());
        return Err(CtlError::Input { what, next: NEXT_SMALLER });
    }
    Ok(text)
}

/// Why a text was not read: most often it is none.
fn not_text(path: &Path, cause: io::Error) -> CtlError {
    let stdin = path == Path::new("-");
    if cause.kind() == io::ErrorKind::InvalidData {
        let what = if stdin { "standard input".to_owned() } else { path.display().to_string() };
        let next = "save it as UTF-8 first (iconv changes the encoding)";
        return CtlError::Input { what: format!("{what} is not UTF-8 text"), next };
    }
    CtlError::File { doing: "read", path: path.to_owned(), cause }
}

/// Opens a data file for streaming, with its size.
pub fn open_data(path: &Path) -> Result<(File, u64), CtlError> {
    let failed = |cause| CtlError::File { doing: "read", path: path.to_owned(), cause };
    let file = File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    Ok((file, size))
}

/// A second look at a data file that is being streamed.
pub struct Peek(File);

impl Peek {
    pub fn of(file: &File) -> Option<Self> {
        file.try_clone().ok().map(Self)
    }

    /// Whether the byte at `offset` ends a line; false where the file cannot be read out of order, as a pipe.
    pub fn is_line_feed(&self, offset: u64) -> bool {
        let mut byte = [0];
        self.0.read_exact_at(&mut byte, offset).is_ok() && byte == *b"\n"
    }
}

/// One line from standard input without its line end; asks first when somebody types.
pub fn read_line(question: &str) -> Result<Zeroizing<String>, CtlError> {
    if io::stdin().is_terminal() {
        write!(io::stderr(), "{question} ")?;
    }
    let mut line = Zeroizing::new(String::new());
    let limit = limits::VALUE_BYTES_MAX as u64 + 2;
    let read = io::stdin().lock().take(limit).read_line(&mut line);
    read.map_err(|e| not_text(Path::new("-"), e))?;
    let end = line.trim_end_matches(['\n', '\r']).len();
    line.truncate(end);
    Ok(line)
}

/// Whether somebody can answer a question.
pub fn can_ask() -> bool {
    io::stdin().is_terminal()
}

/// A file for evidence, created before the act that the evidence is about: an existing file is never replaced, and
/// what cannot be written is known before anything is erased.
pub struct EvidenceFile {
    file: File,
    path: PathBuf,
    written: bool,
}

impl EvidenceFile {
    pub fn create(path: &Path) -> Result<Self, CtlError> {
        let file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(
                |cause| CtlError::File { doing: "create", path: path.to_owned(), cause },
            )?;
        Ok(Self { file, path: path.to_owned(), written: false })
    }

    pub fn write(mut self, text: &str) -> Result<(), CtlError> {
        let done = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_all());
        self.written = true;
        done.map_err(|cause| CtlError::File { doing: "write", path: self.path.clone(), cause })
    }
}

impl Drop for EvidenceFile {
    /// No empty file is left behind when nothing was erased.
    fn drop(&mut self) {
        if !self.written {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A file of personal data that is being written, for this user alone. It has its name only once it is whole.
pub struct ExportFile {
    to: BufWriter<File>,
    part: PathBuf,
    path: PathBuf,
}

impl ExportFile {
    pub fn create(path: &Path) -> Result<Self, CtlError> {
        let failed = |cause| CtlError::File { doing: "create", path: path.to_owned(), cause };
        if path.exists() {
            return Err(failed(io::ErrorKind::AlreadyExists.into()));
        }
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part);
        let to = BufWriter::new(file.map_err(|cause| CtlError::File {
            doing: "create",
            path: part.clone(),
            cause,
        })?);
        Ok(Self { to, part, path: path.to_owned() })
    }

    pub fn line(&mut self, text: &str) -> Result<(), CtlError> {
        let written = self.to.write_all(text.as_bytes()).and_then(|()| self.to.write_all(b"\n"));
        written.map_err(|cause| self.failed(cause))
    }

    pub fn finish(mut self) -> Result<(), CtlError> {
        let synced = self.to.flush().and_then(|()| self.to.get_ref().sync_all());
        // A link, unlike a rename, never takes the place of a file that came meanwhile.
        let named = synced.and_then(|()| std::fs::hard_link(&self.part, &self.path));
        named.map_err(|cause| self.failed(cause))
    }

    fn failed(&self, cause: io::Error) -> CtlError {
        CtlError::File { doing: "write", path: self.path.clone(), cause }
    }
}

impl Drop for ExportFile {
    /// Half an export is not left behind: it holds personal data that nobody would look for.
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.part);
    }
}

/// A private key's line. Refused if others can read the file.
pub fn read_private(path: &Path) -> Result<Zeroizing<String>, CtlError> {
    let failed = |cause| CtlError::File { doing: "read", path: path.to_owned(), cause };
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.permissions().mode() & 0o077 != 0 {
        let what = format!("{} can be read by others", path.display());
        return Err(CtlError::Input { what, next: "run `chmod 600` on it" });
    }
    let mut line = Zeroizing::new(String::with_capacity(PRIVATE_BYTES_MAX as usize));
    file.take(PRIVATE_BYTES_MAX).read_to_string(&mut line).map_err(|e| not_text(path, e))?;
    Ok(line)
}

/// A file that one process at a time goes by, for as long as this lives.
pub struct Held(#[allow(dead_code, reason = "held for its lock")] File);

impl Held {
    /// Of the file beside it that is there for the lock alone.
    pub fn of(path: &Path) -> Result<Self, CtlError> {
        let mut lock = path.as_os_str().to_owned();
        lock.push(".lock");
        let lock = PathBuf::from(lock);
        let failed = |cause| CtlError::File { doing: "lock", path: lock.clone(), cause };
        let mut file = OpenOptions::new();
        let file = file.write(true).create(true).truncate(false).mode(0o600).open(&lock);
        let file = file.map_err(failed)?;
        file.try_lock().map_err(|e| failed(e.into()))?;
        Ok(Self(file))
    }
}

/// Writes a small file whole, in the place of the one that is there.
pub fn replace(path: &Path, text: &str) -> Result<(), CtlError> {
    let failed = |cause| CtlError::File { doing: "write", path: path.to_owned(), cause };
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let mut file = OpenOptions::new();
    let file = file.write(true).create(true).truncate(true).mode(0o600).open(&fresh);
    let written = file.and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    let named = written.and_then(|()| std::fs::rename(&fresh, path));
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    named.and_then(|()| File::open(parent)?.sync_all()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_never_replaces_a_file_and_leaves_no_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("receipt.json");
        drop(EvidenceFile::create(&path).unwrap());
        assert!(!path.exists());

        EvidenceFile::create(&path).unwrap().write("{}").unwrap();
        assert_eq!(read_text(&path).unwrap().as_str(), "{}");
        assert!(EvidenceFile::create(&path).is_err());
        assert_eq!(read_text(&path).unwrap().as_str(), "{}");
    }

    #[test]
    fn a_document_over_the_bound_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("big.json");
        let file = File::create(&path).unwrap();
        file.set_len(DOCUMENT_BYTES_MAX).unwrap();
        assert!(read_text(&path).is_ok());
        file.set_len(DOCUMENT_BYTES_MAX + 1).unwrap();
        assert!(matches!(read_text(&path), Err(CtlError::Input { .. })));
    }
}

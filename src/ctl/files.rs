//! The only file of lethectl that opens files and standard input. Everything read is bounded.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::error::CtlError;
use crate::limits;

/// A JSON document of one record: its values, plus names and escapes.
const DOCUMENT_BYTES_MAX: u64 = 4 * limits::RECORD_BYTES_MAX as u64;
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
    if read.map_err(failed)? as u64 > DOCUMENT_BYTES_MAX {
        let what = format!("{} is larger than {DOCUMENT_BYTES_MAX} bytes", path.display());
        return Err(CtlError::Input { what, next: NEXT_SMALLER });
    }
    Ok(text)
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
    let failed = |cause| CtlError::File { doing: "read", path: PathBuf::from("-"), cause };
    if io::stdin().is_terminal() {
        write!(io::stderr(), "{question} ")?;
    }
    let mut line = Zeroizing::new(String::new());
    let limit = limits::VALUE_BYTES_MAX as u64 + 2;
    io::stdin().lock().take(limit).read_line(&mut line).map_err(failed)?;
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

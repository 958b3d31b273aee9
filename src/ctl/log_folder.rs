//! The folder of an exported log (C2SP tlog-tiles): `checkpoint`, tiles below `tile/`, and `minimum_index` where
//! entries before that had been pruned when the folder was begun.
//!
//! Guarantees: a file has its name once it is whole and on disk; nothing that is read is longer than a tile can be.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::error::CtlError;
use crate::crypto::merkle::tile::{Part, TILE_BYTES, Tile};
use crate::limits::NOTE_BYTES_MAX;

/// A bundle of 256 entries, each as long as its length can say.
const BUNDLE_BYTES_MAX: u64 = 256 * (2 + 65_535);
/// Where the checkpoint has its name.
const CHECKPOINT: &str = "checkpoint";
/// The checkpoint of an export that is under way, or that broke off.
const UNDER_WAY: &str = "checkpoint.part";

/// The first entry that is here; without the file it is the log's first.
const MINIMUM: &str = "minimum_index";

pub struct LogFolder(PathBuf);

impl LogFolder {
    pub fn at(dir: &Path) -> Self {
        Self(dir.to_owned())
    }

    /// Makes the folder. Refused if there is something in it that no export began.
    pub fn prepare(&self) -> Result<(), CtlError> {
        let failed = |cause| CtlError::File { doing: "create", path: self.0.clone(), cause };
        std::fs::create_dir_all(&self.0).map_err(failed)?;
        let ours = [CHECKPOINT, UNDER_WAY].iter().any(|name| self.0.join(name).exists());
        let mut others = std::fs::read_dir(&self.0).map_err(failed)?;
        if !ours && others.next().is_some() {
            return Err(CtlError::Input {
                what: format!("{} has files in it that are no export of a log", self.0.display()),
                next: "name a new folder",
            });
        }
        Ok(())
    }

    fn read(&self, name: &str, most: u64) -> Result<Option<Vec<u8>>, CtlError> {
        let path = self.0.join(name);
        let failed = |cause| CtlError::File { doing: "read", path: path.clone(), cause };
        let file = match File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(failed)?,
        };
        let mut bytes = Vec::new();
        file.take(most + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > most {
            return Err(CtlError::Evidence(format!("{name} is longer than it can be")));
        }
        Ok(Some(bytes))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), CtlError> {
        let path = self.0.join(name);
        let failed = |cause| CtlError::File { doing: "write", path: path.clone(), cause };
        let fresh = path.with_extension("new");
        let written =
            std::fs::create_dir_all(path.parent().unwrap_or(Path::new("."))).and_then(|()| {
                let mut file =
                    OpenOptions::new().write(true).create(true).truncate(true).open(&fresh)?;
                file.write_all(bytes)?;
                file.sync_all()?;
                std::fs::rename(&fresh, &path)
            });
        written.map_err(failed)
    }

    fn text(&self, name: &str) -> Result<Option<String>, CtlError> {
        let bytes = self.read(name, NOTE_BYTES_MAX as u64)?;
        let text = bytes.map(|b| String::from_utf8(b).map_err(|_| ()));
        text.transpose().map_err(|()| CtlError::Evidence(format!("{name} is not text")))
    }

    pub fn checkpoint(&self) -> Result<Option<String>, CtlError> {
        self.text(CHECKPOINT)
    }

    pub fn under_way(&self) -> Result<Option<String>, CtlError> {
        self.text(UNDER_WAY)
    }

    /// The first entry that is here.
    pub fn minimum_index(&self) -> Result<u64, CtlError> {
        let Some(text) = self.text(MINIMUM)? else { return Ok(0) };
        let number = text.strip_suffix('\n').and_then(|digits| digits.parse().ok());
        number.ok_or_else(|| CtlError::Evidence(format!("{MINIMUM} is not a number")))
    }

    pub fn set_minimum_index(&self, index: u64) -> Result<(), CtlError> {
        self.write(MINIMUM, format!("{index}\n").as_bytes())
    }

    pub fn begin(&self, checkpoint: &str) -> Result<(), CtlError> {
        self.write(UNDER_WAY, checkpoint.as_bytes())
    }

    /// All its tiles are there: the checkpoint gets its name.
    pub fn finish(&self) -> Result<(), CtlError> {
        let (from, to) = (self.0.join(UNDER_WAY), self.0.join(CHECKPOINT));
        let named = std::fs::rename(from, &to);
        named.map_err(|cause| CtlError::File { doing: "write", path: to, cause })
    }

    pub fn has(&self, tile: &Tile) -> bool {
        self.0.join(tile.to_string()).is_file()
    }

    pub fn put(&self, tile: &Tile, bytes: &[u8]) -> Result<(), CtlError> {
        self.write(&tile.to_string(), bytes)
    }

    pub fn get(&self, tile: &Tile) -> Result<Vec<u8>, CtlError> {
        let most = match tile.part {
            Part::Hashes(_) => TILE_BYTES as u64,
            Part::Entries => BUNDLE_BYTES_MAX,
        };
        let found = self.read(&tile.to_string(), most)?;
        found.ok_or_else(|| CtlError::Evidence(format!("{tile} is missing")))
    }
}

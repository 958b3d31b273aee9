//! Full tiles of a log, each a file of 8,192 bytes under `DATA/logs/LOG/tile/LEVEL/NUMBER`.
//!
//! Guarantees: a file has its name once it is whole. Nothing here is synced or believed: whatever a crash or a fault of
//! the disk leaves is checked by who reads it, and made anew from the log's rows.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::crypto::Digest32;
use crate::crypto::merkle::tile::{Part, TILE_BYTES, TILE_WIDTH, Tile};

/// The folder of one log's tiles.
pub struct TileFiles(PathBuf);

fn tile(level: u8, index: u64) -> Tile {
    Tile { part: Part::Hashes(level), index, width: TILE_WIDTH as u16 }
}

impl TileFiles {
    pub fn new(dir: PathBuf) -> Self {
        Self(dir)
    }

    fn path(&self, level: u8, index: u64) -> PathBuf {
        self.0.join(tile(level, index).to_string())
    }

    /// The hashes of a full tile; `None` if there is no file of that size.
    pub fn read(&self, level: u8, index: u64) -> Option<Vec<Digest32>> {
        let file = File::open(self.path(level, index)).ok()?;
        let mut bytes = Vec::with_capacity(TILE_BYTES);
        file.take(TILE_BYTES as u64 + 1).read_to_end(&mut bytes).ok()?;
        tile(level, index).hashes_in(&bytes)
    }

    pub fn write(&self, level: u8, index: u64, hashes: &[Digest32]) -> io::Result<()> {
        let path = self.path(level, index);
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
        let fresh = path.with_extension("new");
        let mut file = OpenOptions::new();
        file.write(true).create(true).truncate(true).mode(0o600);
        let mut file = file.open(&fresh)?;
        file.write_all(hashes.as_flattened())?;
        std::fs::rename(&fresh, &path)
    }

    /// Removes the files of a level whose number is less than `end`.
    pub fn remove_before(&self, level: u8, end: u64) -> io::Result<()> {
        let first = self.path(level, 0);
        let Some(folder) = first.parent() else { return Ok(()) };
        for index in numbers_in(folder, String::new())? {
            if index < end {
                std::fs::remove_file(self.path(level, index))?;
            }
        }
        Ok(())
    }
}

/// The numbers of the tiles in a folder and those below it; `digits` are those that its own name stands for.
fn numbers_in(folder: &Path, digits: String) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(found),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        match name.strip_prefix('x') {
            Some(part) => found.extend(numbers_in(&entry.path(), format!("{digits}{part}"))?),
            None => found.extend(format!("{digits}{name}").parse::<u64>()),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tile_is_read_back_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let files = TileFiles::new(dir.path().join("ledger"));
        let hashes = vec![[7; 32]; 256];
        assert_eq!(files.read(0, 1_234), None);
        files.write(0, 1_234, &hashes).unwrap();
        assert_eq!(files.read(0, 1_234).unwrap(), hashes);
        let path = dir.path().join("ledger/tile/0/x001/234");
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 8_192);
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        for len in [0, 8_191, 8_193] {
            file.set_len(len).unwrap();
            assert_eq!(files.read(0, 1_234), None, "{len}");
        }
        files.write(0, 1_234, &hashes).unwrap();
        assert_eq!(files.read(0, 1_234).unwrap(), hashes);
    }

    #[test]
    fn those_before_a_number_go_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let files = TileFiles::new(dir.path().join("audit"));
        files.remove_before(0, 5).unwrap();
        let numbers = [0, 1, 998, 999, 1_000, 1_001, 2_000_000];
        let hashes = vec![[7; 32]; 256];
        for end in [0, 999, 1_001, 3_000_000] {
            numbers.iter().for_each(|n| files.write(0, *n, &hashes).unwrap());
            files.write(1, 0, &hashes).unwrap();
            files.remove_before(0, end).unwrap();
            for n in numbers {
                assert_eq!(files.read(0, n).is_some(), n >= end, "{n} of {end}");
            }
            assert!(files.read(1, 0).is_some());
        }
    }
}

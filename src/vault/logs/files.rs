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
}

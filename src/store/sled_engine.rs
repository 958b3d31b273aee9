//! sled: the default engine. The only file that uses sled.
//!
//! Guarantees: a commit that returned is on disk. `Db::flush` of sled 0.34.7 is not a barrier on Linux (it ends in
//! `sync_file_range`), so a commit is `apply_batch`, `flush`, and `fdatasync` of `db` through our own handle; files
//! that the opening created (`db`, `conf`, snapshots) are synced with their directories before it returns.
//!
//! Invariants: one thread commits at a time; `flush_async` is never called (it hung with many tasks). sled panics on
//! some damage: each call into it is caught and answered as [`StoreError::Damaged`].
//!
//! A page of sled's that is larger than a quarter of a segment goes to a file of its own under `blobs/`, which sled
//! never syncs. A leaf holds up to 16 rows before it splits, and up to 19 after a merge: with rows of
//! `limits::ROW_BYTES_MAX` that is too much for sled's default segment, so ours are larger.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;

use super::durable::{self, io_error};
use super::{Engine, Row, StoreError};

/// A quarter of it holds 19 of the greatest rows. Fixed for the life of a directory: sled refuses another one.
const SEGMENT_BYTES: usize = 1 << 20;

/// A sled directory.
pub struct Sled {
    db: sled::Db,
    /// The file that sled appends to. Held over a commit, so that one sync never answers for another's flush.
    file: Mutex<File>,
}

impl Sled {
    /// Opens or creates `dir`. One process may hold it.
    pub fn open(dir: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        durable::create_dir(dir)?;
        let config = sled::Config::new().path(dir).cache_capacity(cache_bytes).flush_every_ms(None);
        let db = caught(|| config.open())?;
        caught(|| db.flush())?;
        let file = sync_files(dir)?;
        Ok(Self { db, file: Mutex::new(file) })
    }
}

impl Engine for Sled {
    fn name(&self) -> &'static str {
        "sled"
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        caught(|| Ok(self.db.get(key)?.map(|v| v.to_vec())))
    }

    fn scan(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<Row>, StoreError> {
        if start >= end {
            return Ok(Vec::new());
        }
        caught(|| {
            let found = self.db.range(start..end).take(limit);
            found.map(|r| r.map(|(k, v)| Row { key: k.to_vec(), value: v.to_vec() })).collect()
        })
    }

    fn commit(&self, writes: &[(Vec<u8>, Option<Vec<u8>>)]) -> Result<(), StoreError> {
        let file = self.file.lock().map_err(|_| StoreError::Stopped)?;
        let mut batch = sled::Batch::default();
        for (key, value) in writes {
            match value {
                Some(value) => batch.insert(key.as_slice(), value.as_slice()),
                None => batch.remove(key.as_slice()),
            }
        }
        caught(|| self.db.apply_batch(batch))?;
        caught(|| self.db.flush())?;
        file.sync_data().map_err(io_error("sync of sled's file"))
    }
}

/// Syncs every file of the directory and the directory itself; returns the handle of `db`.
fn sync_files(dir: &Path) -> Result<File, StoreError> {
    let entries = std::fs::read_dir(dir).map_err(io_error("listing of the store"))?;
    for entry in entries {
        let path = entry.map_err(io_error("listing of the store"))?.path();
        let file = File::open(&path).map_err(io_error("open of a store file"))?;
        file.sync_all().map_err(io_error("sync of a store file"))?;
    }
    durable::sync_dir(dir)?;
    let mut options = File::options();
    let opened = options.read(true).write(true).open(dir.join("db"));
    opened.map_err(io_error("open of sled's file"))
}

/// Runs a call into sled. Texts of sled may quote rows, so only the kind of trouble is passed on.
fn caught<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(translate),
        Err(_) => Err(StoreError::Damaged("sled panicked on its own files".into())),
    }
}

fn translate(error: sled::Error) -> StoreError {
    match error {
        sled::Error::Io(e) if e.to_string().starts_with("could not acquire lock") => {
            StoreError::InUse
        }
        // sled reports a checksum that does not fit, and a file that ends too early, as errors of reading.
        sled::Error::Io(e)
            if matches!(
                e.kind(),
                std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::InvalidData
            ) =>
        {
            StoreError::Damaged(format!("sled: {:?}", e.kind()))
        }
        sled::Error::Io(e) => StoreError::Io(match e.raw_os_error() {
            Some(_) => format!("sled: {e}"),
            None => format!("sled: {:?}", e.kind()),
        }),
        sled::Error::Corruption { .. } => StoreError::Damaged("sled: corruption".into()),
        sled::Error::ReportableBug(_) => StoreError::Damaged("sled: impossible state".into()),
        sled::Error::Unsupported(_) => StoreError::Damaged("sled: unsupported file".into()),
        sled::Error::CollectionNotFound(_) => StoreError::Damaged("sled: no such tree".into()),
    }
}

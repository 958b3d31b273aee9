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
//! never syncs. With sled's default segment sixteen rows of `limits::ROW_BYTES_MAX` in one leaf were enough, so our
//! segments are larger; leaves also grow by merging with drained neighbours, so what blobs there are still get synced,
//! before the log that names them.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::durable::{self, io_error};
use super::{Engine, Row, StoreError};

/// A quarter of it holds 127 of the greatest rows, where a leaf splits at the next touch once it has 17. Fixed for the
/// life of a directory: sled refuses another one.
///
/// It costs memory: after benches/store_load had put in a million records, 1.2 GiB were resident with sled's default
/// segment (512 KiB), 2.5 GiB with 1 MiB and 3.9 GiB with this one; redb took 0.3 GiB.
const SEGMENT_BYTES: usize = 4 << 20;

/// A sled directory.
pub struct Sled {
    db: Handle,
    /// Held over a commit, so that one sync never answers for another's flush.
    files: Mutex<Files>,
}

/// sled flushes when its last handle goes, and panics if that fails.
struct Handle(Option<sled::Db>);

impl Handle {
    fn get(&self) -> Result<&sled::Db, StoreError> {
        self.0.as_ref().ok_or(StoreError::Stopped)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let db = self.0.take();
        // What was acknowledged was synced before; nobody waits for this flush.
        let _ = catch_unwind(AssertUnwindSafe(move || drop(db)));
    }
}

/// What a commit syncs.
struct Files {
    /// The file that sled appends to, through a handle of our own.
    log: File,
    blobs: PathBuf,
    synced_blobs: HashSet<OsString>,
}

impl Sled {
    /// Its log in a store's directory.
    pub const FILE: &str = "db";

    /// Opens or creates `dir`. One process may hold it.
    pub fn open(dir: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        Self::open_with(dir, cache_bytes, SEGMENT_BYTES)
    }

    /// The same with segments of another size, a power of two: for measurements.
    pub fn open_with(dir: &Path, cache_bytes: u64, segment: usize) -> Result<Self, StoreError> {
        durable::create_dir(dir)?;
        let config = sled::Config::new()
            .path(dir)
            .cache_capacity(cache_bytes)
            .segment_size(segment)
            .flush_every_ms(None);
        let db = Handle(Some(open_free(&config)?));
        let open = db.get()?;
        caught(|| open.flush())?;
        Ok(Self { db, files: Mutex::new(Files::open(dir)?) })
    }
}

/// Opens, waiting a little for a process that is just ending, or is between fork and exec, to let go of the lock.
fn open_free(config: &sled::Config) -> Result<sled::Db, StoreError> {
    for _ in 0..40 {
        match caught(|| config.open()) {
            Err(StoreError::InUse) => std::thread::sleep(std::time::Duration::from_millis(25)),
            other => return other,
        }
    }
    Err(StoreError::InUse)
}

impl Files {
    /// Syncs whatever the opening wrote: `conf`, snapshots, and the directories that name them.
    fn open(dir: &Path) -> Result<Self, StoreError> {
        let entries = std::fs::read_dir(dir).map_err(io_error("listing of the store"))?;
        for entry in entries {
            let path = entry.map_err(io_error("listing of the store"))?.path();
            let file = File::open(&path).map_err(io_error("open of a store file"))?;
            file.sync_all().map_err(io_error("sync of a store file"))?;
        }
        let opened = File::options().read(true).write(true).open(dir.join(Sled::FILE));
        let log = opened.map_err(io_error("open of sled's file"))?;
        let mut files = Self { log, blobs: dir.join("blobs"), synced_blobs: HashSet::new() };
        files.sync()?;
        durable::sync_dir(dir)?;
        Ok(files)
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.sync_blobs()?;
        self.log.sync_data().map_err(io_error("sync of sled's file"))
    }

    fn sync_blobs(&mut self) -> Result<(), StoreError> {
        let entries = std::fs::read_dir(&self.blobs).map_err(io_error("listing of blobs"))?;
        let mut present = HashSet::new();
        let mut fresh = false;
        for entry in entries {
            let entry = entry.map_err(io_error("listing of blobs"))?;
            if !self.synced_blobs.contains(&entry.file_name()) {
                match File::open(entry.path()) {
                    Ok(blob) => blob.sync_all().map_err(io_error("sync of a blob"))?,
                    // sled removes blobs that no page needs any more.
                    Err(e) if e.kind() == ErrorKind::NotFound => continue,
                    Err(e) => return Err(io_error("open of a blob")(e)),
                }
                fresh = true;
            }
            present.insert(entry.file_name());
        }
        self.synced_blobs = present;
        if fresh { durable::sync_dir(&self.blobs) } else { Ok(()) }
    }
}

impl Engine for Sled {
    fn name(&self) -> &'static str {
        "sled"
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let db = self.db.get()?;
        caught(|| Ok(db.get(key)?.map(|v| v.to_vec())))
    }

    fn scan(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<Row>, StoreError> {
        if start >= end {
            return Ok(Vec::new());
        }
        let db = self.db.get()?;
        caught(|| {
            let found = db.range(start..end).take(limit);
            found.map(|r| r.map(|(k, v)| Row { key: k.to_vec(), value: v.to_vec() })).collect()
        })
    }

    fn commit(&self, writes: &[(Vec<u8>, Option<Vec<u8>>)]) -> Result<(), StoreError> {
        let mut files = self.files.lock().map_err(|_| StoreError::Stopped)?;
        let mut batch = sled::Batch::default();
        for (key, value) in writes {
            match value {
                Some(value) => batch.insert(key.as_slice(), value.as_slice()),
                None => batch.remove(key.as_slice()),
            }
        }
        let db = self.db.get()?;
        caught(|| db.apply_batch(batch))?;
        caught(|| db.flush())?;
        files.sync()
    }
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
            if matches!(e.kind(), ErrorKind::UnexpectedEof | ErrorKind::InvalidData) =>
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

//! The node journal: a second, independently synced copy of the rows that the key tree needs (FORMAT §8).
//!
//! Guarantees: what was appended is on disk once [`NodeSink::sync`] returned; a torn tail is cut at the next open; a
//! rewrite is written whole, synced and renamed before the older file goes. Values are sealed as they are in the
//! store, so a copy of this file harms nobody.
//!
//! Invariants: the file with the highest number counts, and a name `<seq>.journal` is only ever given to a file with
//! a whole header. After one failed write or sync everything refuses until the journal is reopened.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::durable::{self, io_error};
use super::frames::{self, Entry, Frames};
use super::{NodeSink, Row, StoreError};
use crate::id::VaultId;
use crate::limits;

const SUFFIX: &str = ".journal";
const UNFINISHED: &str = ".tmp";
/// Empty file beside a journal file whose damaged tail was cut: rows may be missing from it until it is rewritten.
const CUT: &str = ".cut";
/// A rewrite syncs this often, so that its end does not wait for all of it.
const REWRITE_SYNC_BYTES: u64 = 8 << 20;

/// Sizes of the live rows by a hash of their key: enough to know when a rewrite pays.
#[derive(Default)]
struct Live {
    sizes: HashMap<u64, u64>,
    total: u64,
    hasher: RandomState,
}

impl Live {
    fn note(&mut self, key: &[u8], value: Option<&[u8]>) {
        let hash = self.hasher.hash_one(key);
        let before = match value {
            Some(value) => {
                let size = frames::put_bytes(key, value);
                self.total = self.total.saturating_add(size);
                self.sizes.insert(hash, size)
            }
            None => self.sizes.remove(&hash),
        };
        self.total = self.total.saturating_sub(before.unwrap_or(0));
    }
}

/// One file and what is known of it.
struct Segment {
    file: File,
    seq: u64,
    bytes: u64,
    live: Live,
}

impl Segment {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file.write_all(bytes).map_err(io_error("append to the node journal"))?;
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.file.sync_data().map_err(io_error("sync of the node journal"))
    }
}

/// The file that will take the current one's place.
struct Rewrite {
    next: Segment,
    synced: u64,
    failed: Option<StoreError>,
}

impl Rewrite {
    fn write(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.failed = self.next.write(bytes).err();
        }
    }
}

/// The open journal of a vault.
pub struct Journal {
    dir: PathBuf,
    vault: VaultId,
    wants: fn(&[u8]) -> bool,
    current: Segment,
    rewrite: Option<Rewrite>,
    /// A damaged tail was cut at this or an earlier open, so rows may be missing until the next rewrite.
    cut: bool,
    failed: bool,
}

impl Journal {
    /// Opens or creates `<data_dir>/journal`. `wants` decides by the first byte of a key.
    pub fn open(
        data_dir: &Path,
        vault: VaultId,
        wants: fn(&[u8]) -> bool,
    ) -> Result<Self, StoreError> {
        let dir = data_dir.join("journal");
        durable::create_dir(&dir)?;
        for leftover in files(&dir, UNFINISHED)?.into_values() {
            durable::remove(&leftover)?;
        }
        let mut found = files(&dir, SUFFIX)?;
        let (current, cut) = match found.pop_last() {
            Some((seq, path)) => reopen(&dir, &path, seq, vault)?,
            None => (create_first(&dir, vault)?, false),
        };
        for older in found.into_values() {
            durable::remove(&older)?;
        }
        for (seq, mark) in files(&dir, CUT)? {
            if seq != current.seq {
                durable::remove(&mark)?;
            }
        }
        Ok(Self { dir, vault, wants, current, rewrite: None, cut, failed: false })
    }

    /// The vault that the files of a directory belong to; `None` if there are none, or their header is damaged.
    pub fn vault(data_dir: &Path) -> Result<Option<VaultId>, StoreError> {
        let Some((_, path)) = files(&data_dir.join("journal"), SUFFIX)?.pop_last() else {
            return Ok(None);
        };
        let mut file = File::open(path).map_err(io_error("open of the node journal"))?;
        frames::vault_in(&mut file)
    }

    /// The newest value of one key, read from the files; `None` if it was never put or is deleted.
    pub fn lookup(
        data_dir: &Path,
        vault: VaultId,
        key: &[u8],
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let mut found = None;
        replay(data_dir, vault, |(k, value)| {
            if k == key {
                found = value;
            }
        })?;
        Ok(found)
    }

    /// Every live row, read from the files.
    pub fn load(data_dir: &Path, vault: VaultId) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, StoreError> {
        let mut rows = BTreeMap::new();
        replay(data_dir, vault, |(key, value)| {
            match value {
                Some(value) => rows.insert(key, value),
                None => rows.remove(&key),
            };
        })?;
        Ok(rows)
    }

    /// Size of the file and of the rows in it that still count.
    pub fn bytes(&self) -> (u64, u64) {
        (self.current.bytes, self.current.live.total)
    }

    /// Whether [`Journal::compact`] would pay, or is needed because a damaged tail was cut.
    pub fn wants_compaction(&self) -> bool {
        let (bytes, live) = self.bytes();
        let grown = bytes > limits::JOURNAL_REWRITE_MIN
            && bytes > live.saturating_mul(limits::JOURNAL_REWRITE_RATIO);
        self.rewrite.is_none() && (self.cut || grown)
    }

    /// Replaces the journal by `rows` at once; for repair, where no committer runs.
    pub fn compact(
        &mut self,
        rows: impl Iterator<Item = Result<Row, StoreError>>,
    ) -> Result<(), StoreError> {
        let outcome = self.rewrite_begin().and_then(|()| {
            for row in rows {
                self.rewrite_rows(&[row?])?;
            }
            self.rewrite_end()
        });
        if outcome.is_err() {
            self.rewrite_abandon();
        }
        outcome
    }

    /// Passes on `outcome`; after a failure everything refuses.
    fn settle<T>(&mut self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        self.failed |= outcome.is_err();
        outcome
    }

    fn refuse_if_failed(&self) -> Result<(), StoreError> {
        if self.failed { Err(StoreError::Stopped) } else { Ok(()) }
    }
}

impl NodeSink for Journal {
    fn wants(&self, key: &[u8]) -> bool {
        (self.wants)(key)
    }

    fn append(&mut self, writes: &[&(Vec<u8>, Option<Vec<u8>>)]) -> Result<(), StoreError> {
        self.refuse_if_failed()?;
        let mut bytes = Vec::new();
        for (key, value) in writes {
            let encoded = frames::encode(&mut bytes, key, value.as_deref());
            self.settle(encoded)?;
            self.current.live.note(key, value.as_deref());
            if let Some(rewrite) = self.rewrite.as_mut() {
                rewrite.next.live.note(key, value.as_deref());
            }
        }
        let written = self.current.write(&bytes);
        self.settle(written)?;
        if let Some(rewrite) = self.rewrite.as_mut() {
            rewrite.write(&bytes);
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.refuse_if_failed()?;
        let synced = self.current.sync();
        self.settle(synced)
    }

    fn wants_rewrite(&self) -> bool {
        self.wants_compaction()
    }

    fn rewrite_begin(&mut self) -> Result<(), StoreError> {
        self.refuse_if_failed()?;
        self.rewrite_abandon();
        let next = create(&self.dir, self.current.seq.saturating_add(1), self.vault)?;
        self.rewrite = Some(Rewrite { next, synced: 0, failed: None });
        Ok(())
    }

    fn rewrite_rows(&mut self, rows: &[Row]) -> Result<(), StoreError> {
        let rewrite = self.rewrite.as_mut().ok_or(StoreError::Stopped)?;
        let mut bytes = Vec::new();
        for row in rows {
            frames::encode(&mut bytes, &row.key, Some(&row.value))?;
            rewrite.next.live.note(&row.key, Some(&row.value));
        }
        rewrite.write(&bytes);
        if let Some(e) = rewrite.failed.take() {
            return Err(e);
        }
        if rewrite.next.bytes.saturating_sub(rewrite.synced) >= REWRITE_SYNC_BYTES {
            rewrite.next.sync()?;
            rewrite.synced = rewrite.next.bytes;
        }
        Ok(())
    }

    fn rewrite_end(&mut self) -> Result<(), StoreError> {
        self.refuse_if_failed()?;
        let rewrite = self.rewrite.as_mut().ok_or(StoreError::Stopped)?;
        if let Some(e) = rewrite.failed.take() {
            return Err(e);
        }
        rewrite.next.file.sync_all().map_err(io_error("sync of the node journal"))?;
        let seq = rewrite.next.seq;
        // From here on it is open which of the two files would count after a crash.
        let renamed = durable::rename(
            &self.dir.join(name(seq, UNFINISHED)),
            &self.dir.join(name(seq, SUFFIX)),
        );
        self.settle(renamed)?;
        if let Some(rewrite) = self.rewrite.take() {
            let older = std::mem::replace(&mut self.current, rewrite.next);
            self.cut = false;
            // If it stays, the next open removes it: the highest number counts.
            let _ = durable::remove(&self.dir.join(name(older.seq, SUFFIX)));
            let _ = durable::remove(&self.dir.join(name(older.seq, CUT)));
        }
        Ok(())
    }

    fn rewrite_abandon(&mut self) {
        if let Some(rewrite) = self.rewrite.take() {
            // If it stays, the next open removes it: its name never counts.
            let _ = durable::remove(&self.dir.join(name(rewrite.next.seq, UNFINISHED)));
        }
    }
}

fn name(seq: u64, suffix: &str) -> String {
    format!("{seq:016x}{suffix}")
}

/// Files of `dir` named by a number and `suffix`.
fn files(dir: &Path, suffix: &str) -> Result<BTreeMap<u64, PathBuf>, StoreError> {
    let listed = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        listed => listed.map_err(io_error("listing of the node journal"))?,
    };
    let mut found = BTreeMap::new();
    for entry in listed {
        let path = entry.map_err(io_error("listing of the node journal"))?.path();
        let file_name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let digits = file_name.strip_suffix(suffix).unwrap_or_default();
        if let Ok(seq) = u64::from_str_radix(digits, 16)
            && file_name == name(seq, suffix)
        {
            found.insert(seq, path);
        }
    }
    Ok(found)
}

/// Begins an unfinished file with a header.
fn create(dir: &Path, seq: u64, vault: VaultId) -> Result<Segment, StoreError> {
    let path = dir.join(name(seq, UNFINISHED));
    let file = File::create(path).map_err(io_error("creation of the node journal"))?;
    let mut segment = Segment { file, seq, bytes: 0, live: Live::default() };
    segment.write(&frames::header(vault))?;
    Ok(segment)
}

fn create_first(dir: &Path, vault: VaultId) -> Result<Segment, StoreError> {
    let segment = create(dir, 1, vault)?;
    segment.file.sync_all().map_err(io_error("sync of the node journal"))?;
    durable::rename(&dir.join(name(1, UNFINISHED)), &dir.join(name(1, SUFFIX)))?;
    Ok(segment)
}

/// Opens a file for appending behind its last good frame; `true` if anything was ever cut off it.
fn reopen(
    dir: &Path,
    path: &Path,
    seq: u64,
    vault: VaultId,
) -> Result<(Segment, bool), StoreError> {
    let opened = File::options().read(true).append(true).open(path);
    let file = opened.map_err(io_error("open of the node journal"))?;
    let mut live = Live::default();
    let mut frames = Frames::new(&file, vault)?;
    while let Some((key, value)) = frames.next_entry()? {
        live.note(&key, value.as_deref());
    }
    let bytes = frames.good_end();
    let whole = file.metadata().map_err(io_error("read of the node journal"))?.len();
    let mark = dir.join(name(seq, CUT));
    if whole > bytes {
        // The mark first: a cut that nobody remembers would pass for a full copy at the next open.
        File::create(&mark).map_err(io_error("creation of a mark"))?;
        durable::sync_dir(dir)?;
        file.set_len(bytes).map_err(io_error("cut of the node journal"))?;
    }
    // Also what a killed process wrote but did not sync: from now on it is relied upon.
    file.sync_all().map_err(io_error("sync of the node journal"))?;
    Ok((Segment { file, seq, bytes, live }, mark.exists()))
}

/// Gives every good entry of the file that counts to `take`, oldest first.
fn replay(data_dir: &Path, vault: VaultId, mut take: impl FnMut(Entry)) -> Result<(), StoreError> {
    let Some((_, path)) = files(&data_dir.join("journal"), SUFFIX)?.pop_last() else {
        return Ok(());
    };
    let file = File::open(path).map_err(io_error("open of the node journal"))?;
    let mut frames = Frames::new(file, vault)?;
    while let Some(entry) = frames.next_entry()? {
        take(entry);
    }
    Ok(())
}

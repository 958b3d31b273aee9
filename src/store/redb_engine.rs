//! redb: the second embedded engine. The only file that uses redb.
//!
//! Guarantees: a commit that returned is on disk (`Durability::Immediate`); the file's entry and its directories are
//! durable before the opening returns. A panic inside redb is caught and answered as [`StoreError::Damaged`].

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use redb::{Database, Durability, ReadOnlyTable, ReadableDatabase, TableDefinition};

use super::durable;
use super::{Engine, Row, StoreError};

const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");

type Table = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// The file `redb` of a directory.
pub struct Redb {
    /// The rows as the last commit left them, opened once for all readers. Goes before the database does: redb closes
    /// its file cleanly only when nobody reads it. It stays during a commit: reads go on as before, and redb can use
    /// what the commit frees one commit later. `None` after one that failed.
    latest: RwLock<Option<Arc<Table>>>,
    db: Database,
}

impl Redb {
    /// Its file in a store's directory.
    pub const FILE: &str = "redb";

    /// Opens or creates the file in `dir`. One process may hold it.
    pub fn open(dir: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        durable::create_dir(dir)?;
        let cache = usize::try_from(cache_bytes).unwrap_or(usize::MAX);
        let db = caught(|| {
            let mut builder = Database::builder();
            builder.set_cache_size(cache);
            let db = builder.create(dir.join(Self::FILE))?;
            // Reads need the table to be there.
            let tx = db.begin_write()?;
            tx.open_table(ROWS)?;
            tx.commit()?;
            Ok(db)
        })?;
        durable::sync_dir(dir)?;
        Ok(Self { latest: RwLock::default(), db })
    }

    /// The rows as a commit left them that is not older than any that has returned.
    fn table(&self) -> Result<Arc<Table>, redb::Error> {
        let latest = self.latest.read().unwrap_or_else(PoisonError::into_inner).clone();
        match latest {
            Some(table) => Ok(table),
            None => Ok(Arc::new(self.db.begin_read()?.open_table(ROWS)?)),
        }
    }

    fn set_latest(&self, table: Option<Table>) {
        let table = table.map(Arc::new);
        let before = std::mem::replace(
            &mut *self.latest.write().unwrap_or_else(PoisonError::into_inner),
            table,
        );
        drop(before);
    }

    /// Reads the whole file, checks its sums and mends what redb can mend. `false` if something was mended.
    pub fn check(&mut self) -> Result<bool, StoreError> {
        self.set_latest(None);
        caught(|| Ok(self.db.check_integrity()?))
    }
}

impl Engine for Redb {
    fn name(&self) -> &'static str {
        "redb"
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        caught(|| {
            let table = self.table()?;
            Ok(table.get(key)?.map(|v| v.value().to_vec()))
        })
    }

    fn scan(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<Row>, StoreError> {
        if start >= end {
            return Ok(Vec::new());
        }
        caught(|| {
            let table = self.table()?;
            let mut rows = Vec::new();
            for found in table.range(start..end)?.take(limit) {
                let (key, value) = found?;
                rows.push(Row { key: key.value().to_vec(), value: value.value().to_vec() });
            }
            Ok(rows)
        })
    }

    fn commit(&self, writes: &[(Vec<u8>, Option<Vec<u8>>)]) -> Result<(), StoreError> {
        let done = caught(|| {
            let mut tx = self.db.begin_write()?;
            tx.set_durability(Durability::Immediate)?;
            {
                let mut table = tx.open_table(ROWS)?;
                for (key, value) in writes {
                    match value {
                        Some(value) => table.insert(key.as_slice(), value.as_slice())?,
                        None => table.remove(key.as_slice())?,
                    };
                }
            }
            tx.commit()?;
            // It is done, whatever becomes of the readers' view: without one each reader opens his own.
            let table = self.db.begin_read().map_err(redb::Error::from);
            self.set_latest(table.and_then(|tx| Ok(tx.open_table(ROWS)?)).ok());
            Ok(())
        });
        if done.is_err() {
            self.set_latest(None);
        }
        done
    }
}

/// Runs a call into redb. Texts of redb may quote rows, so only the kind of trouble is passed on.
fn caught<T>(call: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(translate),
        Err(_) => Err(StoreError::Damaged("redb panicked on its own file".into())),
    }
}

fn translate(error: redb::Error) -> StoreError {
    match error {
        redb::Error::DatabaseAlreadyOpen => StoreError::InUse,
        redb::Error::PreviousIo => StoreError::Stopped,
        redb::Error::Io(e) => match e.kind() {
            std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::InvalidData => {
                StoreError::Damaged(format!("redb: {:?}", e.kind()))
            }
            kind => StoreError::Io(match e.raw_os_error() {
                Some(_) => format!("redb: {e}"),
                None => format!("redb: {kind:?}"),
            }),
        },
        redb::Error::ValueTooLarge(n) => StoreError::RowTooLarge(n),
        redb::Error::Corrupted(_) => StoreError::Damaged("redb: corruption".into()),
        redb::Error::UpgradeRequired(n) => StoreError::Damaged(format!("redb: file of format {n}")),
        _ => StoreError::Damaged("redb: unexpected state".into()),
    }
}

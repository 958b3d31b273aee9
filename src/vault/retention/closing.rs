//! Closing a bucket before its day is over: it takes no more puts, what may stay longer moves out, and the list of what
//! will go is made, so that the kill itself takes no longer for a million records than for one.
//!
//! Invariants: a record is on its bucket's list exactly if its current version is in the bucket when the bucket is
//! killed; whoever leaves a bucket says so before the kill stops waiting for it; a list that was made by other rules
//! than those in force is made anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::manifest::{self, Leaves, ROW_BLOCKS, ROW_IDS, decode_ids, encode_blocks, encode_ids};
use crate::crypto::Digest32;
use crate::id::{Kid, RecordId};
use crate::keys::rows::prefix_end;
use crate::keys::slots::BucketId;
use crate::limits;
use crate::store::{Batch, Urgency};
use crate::vault::core::Core;
use crate::vault::error::VaultError;
use crate::vault::relist::pages_of;
use crate::vault::sealed::OpenVersion;

/// How long closing waits for puts that are under way.
const DRAIN_MAX: Duration =
    if cfg!(test) { Duration::from_millis(200) } else { Duration::from_secs(30) };
/// Rows of a list written at once.
const WRITE_ROWS: usize = 64;

/// What is on a bucket's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct List {
    pub count: u32,
    pub root: Digest32,
}

#[derive(Default)]
struct Closing {
    /// The list, and the rules by which it was made; `None` while it is being made.
    made: Option<(List, u64)>,
    /// Records that left since.
    left: BTreeSet<RecordId>,
}

/// Buckets that are closed.
#[derive(Default)]
pub struct Closings(Mutex<BTreeMap<BucketId, Closing>>);

impl Closings {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<BucketId, Closing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A record's current version is not in this bucket any more. Said before the ticket of the one who took it out is
    /// given back.
    pub fn leave(&self, bucket: BucketId, record: RecordId) {
        if let Some(closing) = self.lock().get_mut(&bucket) {
            closing.left.insert(record);
        }
    }

    /// Whether a list was made by these rules.
    pub fn is_made(&self, bucket: BucketId, epoch: u64) -> bool {
        self.lock().get(&bucket).is_some_and(|c| c.made.is_some_and(|(_, by)| by == epoch))
    }

    /// How many records are on the lists of closed buckets, and of how many buckets.
    pub fn count(&self) -> (u64, usize) {
        let all = self.lock();
        let made = all.values().filter_map(|c| Some((c.made?.0, c.left.len())));
        let records = made.map(|(list, left)| u64::from(list.count).saturating_sub(left as u64));
        (records.sum(), all.len())
    }

    pub fn forget(&self, bucket: BucketId) {
        self.lock().remove(&bucket);
    }
}

/// Takes a record that may stay longer out of its bucket; answers whether it did.
pub type MoveOut<'a> = dyn FnMut(Kid, &OpenVersion) -> Result<bool, VaultError> + 'a;

impl Core {
    /// Closes a bucket and lists what is in it. What `move_out` takes out is not on the list.
    pub(in crate::vault) fn close_and_list(
        &self,
        bucket: BucketId,
        epoch: u64,
        move_out: &mut MoveOut<'_>,
    ) -> Result<List, VaultError> {
        self.closings.lock().insert(bucket, Closing::default());
        self.drain(bucket)?;
        let mut ids = Vec::new();
        for path in pages_of(&self.tree, bucket, 0..u32::MAX)? {
            self.each_current(&path, &mut |kid, record, open| {
                // One that does not open cannot be judged; it was put here by the rules of its time.
                let leaves = open.map_or(Ok(false), |open| move_out(kid, &open))?;
                if !leaves {
                    ids.push(record);
                }
                Ok(())
            })?;
        }
        ids.sort_unstable();
        let list = self.write_list(bucket, &ids)?;
        if let Some(closing) = self.closings.lock().get_mut(&bucket) {
            closing.made = Some((list, epoch));
        }
        Ok(list)
    }

    /// Waits until nobody puts anything into a bucket any more, nor takes anything out that began before.
    pub(in crate::vault) fn drain(&self, bucket: BucketId) -> Result<(), VaultError> {
        self.tree.slots().close_bucket(bucket);
        let since = Instant::now();
        while !self.tree.slots().is_drained(bucket) {
            if since.elapsed() > DRAIN_MAX {
                return Err(VaultError::Precondition("puts into the bucket do not end"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Writes a list of ids that ascend, in place of what was there.
    pub(in crate::vault) fn write_list(
        &self,
        bucket: BucketId,
        ids: &[RecordId],
    ) -> Result<List, VaultError> {
        self.clear_list(bucket)?;
        let count = u32::try_from(ids.len());
        let count = count.map_err(|_| VaultError::Exhausted("the bucket's list"))?;
        let key = self.tree.read().salt_key()?;
        let (root, blocks) = Leaves { vault: self.vault(), bucket, key: &key }.sum_up(ids);
        let numbered = |row| manifest::list_key(bucket, row);
        let ids = (0u32..).map(numbered).zip(ids.chunks(ROW_IDS).map(encode_ids));
        let numbered = |row| manifest::blocks_key(bucket, row);
        let blocks = (0u32..).map(numbered).zip(blocks.chunks(ROW_BLOCKS).map(encode_blocks));
        let rows: Vec<_> = ids.chain(blocks).map(|(key, row)| (key, Some(row))).collect();
        for rows in rows.chunks(WRITE_ROWS) {
            let writes = rows.to_vec();
            let batch = Batch { urgency: Urgency::Vital, writes, ..Batch::default() };
            self.tree.store().commit_blocking(batch)?;
        }
        Ok(List { count, root })
    }

    /// Deletes a list that was made before.
    fn clear_list(&self, bucket: BucketId) -> Result<(), VaultError> {
        let prefix = manifest::prefix(bucket);
        loop {
            let store = self.tree.store();
            let rows = store.scan(&prefix, &prefix_end(&prefix), limits::SCAN_PAGE_ROWS)?;
            if rows.is_empty() {
                return Ok(());
            }
            let mut batch = Batch { urgency: Urgency::Vital, ..Batch::default() };
            rows.into_iter().for_each(|row| batch.delete(row.key));
            store.commit_blocking(batch)?;
        }
    }

    /// The list of a bucket that is being killed and drained: what was listed, less what left since. One that was never
    /// listed is listed now.
    pub(in crate::vault) fn final_list(&self, bucket: BucketId) -> Result<List, VaultError> {
        let (made, left) = match self.closings.lock().get(&bucket) {
            Some(Closing { made: Some((list, _)), left }) => (Some(*list), left.clone()),
            _ => (None, BTreeSet::new()),
        };
        match made {
            None => self.list_all(bucket),
            Some(list) if left.is_empty() => Ok(list),
            Some(_) => match self.listed(bucket) {
                Ok(mut ids) => {
                    ids.retain(|id| !left.contains(id));
                    self.write_list(bucket, &ids)
                }
                // What is in the bucket says the same.
                Err(VaultError::Damaged(_)) => self.list_all(bucket),
                Err(e) => Err(e),
            },
        }
    }

    fn list_all(&self, bucket: BucketId) -> Result<List, VaultError> {
        self.close_and_list(bucket, 0, &mut |_, _| Ok(false))
    }

    /// The ids on a bucket's list.
    pub(in crate::vault) fn listed(&self, bucket: BucketId) -> Result<Vec<RecordId>, VaultError> {
        let mut ids = Vec::new();
        for row in self.tree.store().prefix(&manifest::prefix(bucket)) {
            let row = row?;
            if manifest::is_of_ids(&row.key) {
                ids.extend(decode_ids(&row.value).ok_or(VaultError::Damaged("bucket's list"))?);
            }
        }
        Ok(ids)
    }
}

//! What a batch of erasures waits for: the rival of P5 and P6.

use std::path::Path;
use std::time::{Duration, Instant};

use lethe::id::VaultId;
use lethe::keys::anchor::{Anchor, SLOT_BYTES};
use lethe::keys::file_anchor::FileAnchor;
use lethe::store::{Batch, Journal, Store};

use super::{Common, Outcome};

/// What a batch waits for, without its work.
pub struct Disk {
    store: Store,
    anchor: FileAnchor,
    count: u64,
}

impl Disk {
    pub fn new(dir: &Path, common: &Common) -> Outcome<Self> {
        let journal = Journal::open(dir, VaultId([0; 16]), |_| true)?;
        let engine = common.open_engine(&dir.join("store"))?;
        let store = Store::open(engine, Some(Box::new(journal)), None)?;
        Ok(Self { store, anchor: FileAnchor::create(&dir.join("anchor"))?, count: 0 })
    }

    /// The committer syncs store and journal at the same time, as it does for the vault.
    pub fn sync_times(&mut self, times: usize) -> Outcome<Vec<Duration>> {
        let mut took = Vec::new();
        for _ in 0..times {
            self.count += 1;
            let mut batch = Batch::default();
            batch.put(b"k".as_slice(), self.count.to_be_bytes());
            let start = Instant::now();
            self.store.commit_blocking(batch)?;
            for slot in [0, 1] {
                self.anchor.write(slot, &[self.count as u8; SLOT_BYTES])?;
            }
            took.push(start.elapsed());
        }
        Ok(took)
    }
}

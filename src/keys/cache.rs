//! Nodes in memory, each sealed under one key in locked memory, so that a memory image without that page tells nothing.
//!
//! Invariants: directory nodes are never evicted (a grown one may be newer than the store's row); pages and leaves are
//! immutable per version and leave first when the budget is used up.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::KeyError;
use super::node::{NodeDamaged, Opened, Plain};
use super::path::{NodeKind, Path};
use crate::crypto::{LockedKey, open_in_place, seal_append};
use crate::id::{BucketOrd, Gen, TenantOrd};

const SHARDS: usize = 16;
/// What a cached node costs beside its sealed body.
const OVERHEAD: usize = 160;

/// A node in the cache.
pub struct Cached {
    /// The generation that its key was made with.
    pub made: Gen,
    pub aux: Vec<u8>,
    sealed: Vec<u8>,
    used: AtomicBool,
}

#[derive(Default)]
struct Shard {
    nodes: HashMap<Path, Arc<Cached>>,
    /// Evictable nodes in the order of their arrival, for a second chance.
    queue: VecDeque<Path>,
    bytes: usize,
}

/// The cache.
pub struct NodeCache {
    key: LockedKey,
    shards: [Mutex<Shard>; SHARDS],
    shard_budget: usize,
}

fn evictable(path: &Path) -> bool {
    matches!(path.kind, NodeKind::Page | NodeKind::Leaf)
}

impl NodeCache {
    pub fn new(budget: usize) -> Result<Self, KeyError> {
        Ok(Self {
            key: LockedKey::generate()?,
            shards: Default::default(),
            shard_budget: budget / SHARDS,
        })
    }

    fn shard(&self, path: &Path) -> MutexGuard<'_, Shard> {
        let spread =
            path.ord ^ path.run.value().rotate_left(5) ^ path.bucket.value().rotate_left(9);
        let n = (spread as usize ^ path.kind as usize) % SHARDS;
        // `n` is below SHARDS, so the slice is never empty.
        self.shards.get(n).unwrap_or(&self.shards[0]).lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn find(&self, path: &Path) -> Option<Arc<Cached>> {
        let found = self.shard(path).nodes.get(path).cloned()?;
        found.used.store(true, Ordering::Relaxed);
        Some(found)
    }

    /// Seals a node for the cache.
    pub fn wrap(&self, path: &Path, opened: &Opened) -> Result<Arc<Cached>, NodeDamaged> {
        let mut sealed = Vec::new();
        seal_append(self.key.expose(), &path.bytes(), &opened.plain, &mut sealed)
            .map_err(|_| NodeDamaged)?;
        let (made, aux) = (opened.made, opened.aux.clone());
        Ok(Arc::new(Cached { made, aux, sealed, used: AtomicBool::new(false) }))
    }

    /// The plaintext of a cached node.
    pub fn open(&self, path: &Path, node: &Cached) -> Result<Plain, NodeDamaged> {
        let mut buffer = Plain::new(node.sealed.clone());
        let length = open_in_place(self.key.expose(), &path.bytes(), &mut buffer)
            .map_err(|_| NodeDamaged)?
            .len();
        buffer.copy_within(12..12 + length, 0);
        buffer.truncate(length);
        Ok(buffer)
    }

    /// Takes a node that was read from the store, unless a newer one arrived meanwhile; returns the one that counts.
    pub fn offer(&self, path: &Path, node: Arc<Cached>) -> Arc<Cached> {
        let mut shard = self.shard(path);
        if let Some(present) = shard.nodes.get(path) {
            return present.clone();
        }
        insert(&mut shard, path, node.clone(), self.shard_budget);
        node
    }

    /// Puts a node in place of what was there.
    pub fn replace(&self, path: &Path, node: Arc<Cached>) {
        let mut shard = self.shard(path);
        remove(&mut shard, path);
        insert(&mut shard, path, node, self.shard_budget);
    }

    pub fn remove(&self, path: &Path) {
        remove(&mut self.shard(path), path);
    }

    /// Forgets every node of a bucket.
    pub fn remove_bucket(&self, tenant: TenantOrd, bucket: BucketOrd) {
        let of_bucket =
            |p: &Path| p.tenant == tenant && p.bucket == bucket && p.kind >= NodeKind::Bucket;
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let doomed: Vec<Path> = shard.nodes.keys().filter(|p| of_bucket(p)).copied().collect();
            doomed.iter().for_each(|p| remove(&mut shard, p));
        }
    }
}

fn remove(shard: &mut Shard, path: &Path) {
    if let Some(old) = shard.nodes.remove(path) {
        shard.bytes = shard.bytes.saturating_sub(old.sealed.len() + OVERHEAD);
    }
}

fn insert(shard: &mut Shard, path: &Path, node: Arc<Cached>, budget: usize) {
    shard.bytes += node.sealed.len() + OVERHEAD;
    shard.nodes.insert(*path, node);
    if evictable(path) {
        shard.queue.push_back(*path);
    }
    // Each step drops a queue entry or uses up a second chance, so the loop ends.
    while shard.bytes > budget || shard.queue.len() > 2 * shard.nodes.len() + 64 {
        let Some(oldest) = shard.queue.pop_front() else { break };
        match shard.nodes.get(&oldest) {
            Some(n) if n.used.swap(false, Ordering::Relaxed) => shard.queue.push_back(oldest),
            Some(_) if oldest != *path => remove(shard, &oldest),
            Some(_) => {
                shard.queue.push_back(oldest);
                break;
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::PageOrd;

    fn page(n: u16) -> Path {
        Path::page(TenantOrd::of(1), BucketOrd::of(n % 3), PageOrd::of(n))
    }

    fn opened(fill: u8) -> Opened {
        Opened { made: Gen(1), aux: vec![], plain: Plain::new(vec![fill; 4096]) }
    }

    #[test]
    fn the_budget_holds_and_directories_stay() {
        let cache = NodeCache::new(16 * 20_000).unwrap();
        let dir = Path::bucket(TenantOrd::of(1), BucketOrd::of(1));
        cache.replace(&dir, cache.wrap(&dir, &opened(9)).unwrap());
        for n in 0..2000 {
            cache.offer(&page(n), cache.wrap(&page(n), &opened(n as u8)).unwrap());
        }
        let held: usize = cache.shards.iter().map(|s| s.lock().unwrap().bytes).sum();
        assert!(held <= 16 * 20_000 + 16 * 5_000, "{held}");
        let back = cache.find(&dir).unwrap();
        assert_eq!(cache.open(&dir, &back).unwrap()[..], [9; 4096]);
        assert!(cache.open(&page(1), &back).is_err(), "a node is bound to its path");
        cache.remove_bucket(TenantOrd::of(1), BucketOrd::of(1));
        assert!(cache.find(&dir).is_none());
    }

    #[test]
    fn an_older_copy_never_takes_the_place_of_a_newer_one() {
        let cache = NodeCache::new(1 << 20).unwrap();
        let newer = cache.wrap(&page(1), &opened(2)).unwrap();
        cache.replace(&page(1), newer);
        let counts = cache.offer(&page(1), cache.wrap(&page(1), &opened(1)).unwrap());
        assert_eq!(cache.open(&page(1), &counts).unwrap()[0], 2);
    }
}

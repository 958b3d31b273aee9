//! Nodes in memory, each sealed under one key in locked memory, so that a memory image without that page tells nothing.
//!
//! Invariants: directory nodes are never evicted (a grown one may be newer than the store's row); pages and leaves are
//! immutable per version and leave first when the budget is used up; of a node that left nothing is left in memory, not
//! even its sealed bytes, since their key goes on. A page is sealed in pieces, so that one record's key is had without
//! opening all of its neighbours'.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zeroize::Zeroize;

use super::KeyError;
use super::node::{DEK_BYTES, NodeDamaged, Opened, Plain, dek_in};
use super::path::{NodeKind, PATH_BYTES, Path};
use crate::crypto::{
    Dek, LockedKey, NONCE_BYTES, SecretBytes, TAG_BYTES, open_in_place, seal_append,
};
use crate::id::{BucketOrd, Gen, TenantOrd};

const SHARDS: usize = 16;
/// What a cached node costs beside its sealed body.
const OVERHEAD: usize = 160;
/// Record keys in one piece of a page.
const PIECE_SLOTS: u8 = 8;
const PIECE: usize = PIECE_SLOTS as usize * DEK_BYTES;
/// Bytes by which a sealed piece is longer.
const SEAL: usize = NONCE_BYTES + TAG_BYTES;

/// A node in the cache.
pub struct Cached {
    /// The generation that its key was made with.
    pub made: Gen,
    pub aux: Vec<u8>,
    /// Overwritten when it is dropped.
    sealed: SecretBytes,
    used: AtomicBool,
}

#[cfg(test)]
impl Cached {
    pub fn sealed_bytes(&self) -> &[u8] {
        &self.sealed
    }
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
    /// Wiped, and not given back to the allocator yet.
    wiped: Mutex<Vec<Arc<Cached>>>,
}

/// How many bytes of a node's plaintext are sealed together.
fn piece_of(path: &Path) -> usize {
    if path.kind == NodeKind::Page { PIECE } else { usize::MAX - SEAL }
}

/// What binds a sealed piece to its node and its place there.
fn aad(path: &Path, piece: usize) -> [u8; PATH_BYTES + 1] {
    let mut aad = [0; PATH_BYTES + 1];
    aad.iter_mut().zip(path.bytes()).for_each(|(to, from)| *to = from);
    // A page has at most 128 slots, so at most 16 pieces.
    if let Some(last) = aad.last_mut() {
        *last = piece as u8;
    }
    aad
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
            wiped: Mutex::default(),
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
        let pieces = opened.plain.len().div_ceil(piece_of(path)).max(1);
        // All of it: a buffer that grows leaves the old one's bytes behind.
        let mut sealed = SecretBytes::with_capacity(opened.plain.len() + pieces * SEAL);
        for (n, piece) in opened.plain.chunks(piece_of(path)).enumerate() {
            seal_append(self.key.expose(), &aad(path, n), piece, &mut sealed)
                .map_err(|_| NodeDamaged)?;
        }
        let (made, aux) = (opened.made, opened.aux.clone());
        Ok(Arc::new(Cached { made, aux, sealed, used: AtomicBool::new(false) }))
    }

    /// The plaintext of a cached node.
    pub fn open(&self, path: &Path, node: &Cached) -> Result<Plain, NodeDamaged> {
        let mut plain = Plain::with_capacity(node.sealed.len());
        for (n, sealed) in node.sealed.chunks(piece_of(path) + SEAL).enumerate() {
            self.open_piece(path, n, sealed, &mut plain)?;
        }
        Ok(plain)
    }

    /// A record's key in a cached page; `None` if the page has no such slot.
    pub fn dek(&self, path: &Path, node: &Cached, slot: u8) -> Result<Option<Dek>, NodeDamaged> {
        let n = usize::from(slot / PIECE_SLOTS);
        let Some(sealed) = node.sealed.chunks(piece_of(path) + SEAL).nth(n) else {
            return Ok(None);
        };
        let mut plain = Plain::with_capacity(sealed.len());
        self.open_piece(path, n, sealed, &mut plain)?;
        Ok(dek_in(&plain, slot % PIECE_SLOTS))
    }

    /// Adds a piece's plaintext to `plain`, which has room for the sealed piece.
    fn open_piece(
        &self,
        path: &Path,
        n: usize,
        sealed: &[u8],
        plain: &mut Plain,
    ) -> Result<(), NodeDamaged> {
        let from = plain.len();
        plain.extend_from_slice(sealed);
        let body = plain.get_mut(from..).ok_or(NodeDamaged)?;
        let length =
            open_in_place(self.key.expose(), &aad(path, n), body).map_err(|_| NodeDamaged)?.len();
        body.copy_within(NONCE_BYTES..NONCE_BYTES + length, 0);
        plain.truncate(from + length);
        Ok(())
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

    /// Wipes every node of a bucket. To free them takes longer, and is left to `free_wiped`.
    pub fn remove_bucket(&self, tenant: TenantOrd, bucket: BucketOrd) {
        let of_bucket =
            |p: &Path| p.tenant == tenant && p.bucket == bucket && p.kind >= NodeKind::Bucket;
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let doomed: Vec<_> = shard.nodes.extract_if(|path, _| of_bucket(path)).collect();
            for (_, mut node) in doomed {
                shard.bytes = shard.bytes.saturating_sub(node.sealed.len() + OVERHEAD);
                // Whoever else still has it wipes it by letting go.
                if let Some(alone) = Arc::get_mut(&mut node) {
                    alone.sealed.zeroize();
                    self.wiped().push(node);
                }
            }
        }
    }

    pub fn free_wiped(&self) {
        let wiped = std::mem::take(&mut *self.wiped());
        drop(wiped);
    }

    #[cfg(test)]
    pub fn to_free(&self) -> usize {
        self.wiped().len()
    }

    fn wiped(&self) -> MutexGuard<'_, Vec<Arc<Cached>>> {
        self.wiped.lock().unwrap_or_else(PoisonError::into_inner)
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
    use super::super::node::Page;
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
        let leaf = |n| Path { kind: NodeKind::Leaf, ..page(n) };
        let back = cache.wrap(&leaf(1), &opened(9)).unwrap();
        assert!(cache.open(&leaf(2), &back).is_err(), "a node is bound to its path");
        let held = cache.find(&dir).unwrap();
        let holders = Arc::strong_count(&held);
        cache.remove_bucket(TenantOrd::of(1), BucketOrd::of(1));
        assert!(cache.find(&dir).is_none());
        assert_eq!(Arc::strong_count(&held), holders - 1, "who has it last wipes it");
        assert!(cache.to_free() > 0);
        cache.free_wiped();
        assert_eq!(cache.to_free(), 0);
    }

    #[test]
    fn a_page_gives_each_of_its_keys_and_no_other_pages() {
        let cache = NodeCache::new(1 << 20).unwrap();
        for slots in [1, 16, 17, 127, 128] {
            let fresh = Page::fresh(slots);
            let plain = Plain::new(fresh.keys.to_vec());
            let opened = Opened { made: Gen(1), aux: vec![], plain };
            let node = cache.wrap(&page(1), &opened).unwrap();
            assert_eq!(node.sealed.capacity(), node.sealed.len(), "it grew, and left a copy");
            assert_eq!(cache.open(&page(1), &node).unwrap()[..], fresh.keys[..]);
            for slot in 0..=u8::MAX {
                let key = cache.dek(&page(1), &node, slot).unwrap();
                let there = fresh.keys.chunks(DEK_BYTES).nth(slot.into());
                assert_eq!(key.as_ref().map(|k| k.expose().as_slice()), there, "{slot} of {slots}");
            }
            assert!(cache.dek(&page(2), &node, 0).is_err(), "a page is bound to its path");
            if slots > 2 * PIECE_SLOTS {
                let mut swapped = node.sealed.clone();
                swapped.rotate_left(PIECE + SEAL);
                let (made, used) = (Gen(1), AtomicBool::new(false));
                let swapped = Cached { made, aux: vec![], sealed: SecretBytes::new(swapped), used };
                assert!(cache.dek(&page(1), &swapped, 0).is_err(), "a piece is bound to its place");
            }
        }
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

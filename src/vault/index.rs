//! The blind index (ERASURE §2.9): which live record versions have this value, without storing the value.
//!
//! A token is an HMAC under a key of the tenant's node. Tokens of recent versions are in memory (the tail, rebuilt from
//! record rows at open); older ones are in sealed runs that hang under the bucket's node and die with it.
//! Invariants: a listing is in the tail or in exactly one run; an erased version's listings leave the tail, their leaf
//! and every filter; a token is never written anywhere but into a sealed leaf.

mod evolve;
mod filter;
mod listed;
mod rebuild;
mod tail;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use zeroize::Zeroize;

use self::filter::RunFilter;
pub use self::listed::Listed;
pub use self::rebuild::Relisted;
use self::tail::Tail;
use super::error::VaultError;
use crate::crypto::{IndexKey, hmac_sha256, labels};
use crate::id::{FieldOrd, Kid, PageOrd, RecordId, RunOrd, TypeOrd};
use crate::keys::node::Listing;
use crate::keys::path::{NodeKind, Path};
use crate::keys::slots::BucketId;
use crate::keys::tree::{Reader, RunHead, leaf_path};
use crate::keys::{KeyError, RunDraft, Tree};

/// Wanted listings per leaf.
const LEAF_TARGET: usize = 48;
/// Greatest number of listings in a leaf.
const LEAF_MAX: usize = 256;
/// Runs of one size class before they are merged into one.
const MERGE_FAN_IN: usize = 8;
/// A merge makes no run with more listings than this.
const MERGED_MAX: usize = 1 << 18;

/// A blind-index token; zeroized when dropped.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub [u8; 16]);

impl Drop for Token {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// The token of a normalised value.
pub fn token(key: &IndexKey, rtype: TypeOrd, field: FieldOrd, value: &[u8]) -> Token {
    let (rtype, field) = (rtype.0.to_be_bytes(), field.0.to_be_bytes());
    let mut full = hmac_sha256(key.expose(), &[labels::INDEX_TOKEN, &rtype, &field, value]);
    let mut token = [0; 16];
    token.copy_from_slice(full.first_chunk::<16>().unwrap_or(&[0; 16]));
    full.zeroize();
    Token(token)
}

/// The token by which every record of a subject is found.
pub fn subject_token(key: &IndexKey, subject: RecordId) -> Token {
    token(key, TypeOrd(0), FieldOrd(0), &subject.0)
}

struct Run {
    path: Path,
    head: RunHead,
    filter: RunFilter,
}

#[derive(Default)]
struct BucketIndex {
    tail: Tail,
    runs: Vec<Run>,
    next_run: u32,
    indexed_below: u32,
    /// A node of it is lost: what it would answer is not whole. It is made anew (`rebuild`).
    broken: bool,
}

type Found = Result<(), KeyError>;

impl BucketIndex {
    /// Reads the runs. If a node of theirs is lost, so is the index until it is made anew.
    fn or_break(&mut self, read: impl FnOnce(&mut [Run]) -> Found) -> Found {
        if self.broken {
            return Err(KeyError::Damaged(NodeKind::Index));
        }
        let outcome = read(&mut self.runs);
        self.broken = matches!(outcome, Err(KeyError::Damaged(kind)) if kind.is_index());
        outcome
    }
}

fn runs_of(reader: &Reader<'_>, bucket: BucketId) -> Result<Vec<Run>, KeyError> {
    let paths = reader.runs(bucket.0, bucket.1)?;
    let run = |path| Ok(Run { path, head: reader.run(&path)?, filter: RunFilter::default() });
    paths.into_iter().map(run).collect()
}

/// The index of all buckets.
pub struct Index {
    tail_max: usize,
    buckets: Mutex<HashMap<BucketId, BucketIndex>>,
    /// Runs of killed buckets: wiped, and not given back to the allocator yet.
    wiped: Mutex<Vec<Run>>,
}

/// What a merge will do; applied to memory once the batch that carries it is complete.
pub struct Merge {
    pub bucket: BucketId,
    pub old: Vec<RunOrd>,
    new: Option<(RunOrd, RunHead)>,
}

impl Index {
    pub fn new(tail_max: usize) -> Self {
        Self { tail_max, buckets: Mutex::default(), wiped: Mutex::default() }
    }

    /// Listings of a bucket that are kept in memory.
    pub fn tail_max(&self) -> usize {
        self.tail_max
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<BucketId, BucketIndex>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a bucket known, with the runs that the tree has for it.
    pub fn register(&self, tree: &Tree, bucket: BucketId) -> Result<(), VaultError> {
        let reader = tree.read();
        let head = reader.bucket(bucket.0, bucket.1)?;
        let (runs, broken) = match runs_of(&reader, bucket) {
            Ok(runs) => (runs, false),
            Err(KeyError::Damaged(kind)) if kind.is_index() => (Vec::new(), true),
            Err(e) => return Err(e.into()),
        };
        let (next_run, indexed_below) = (head.next_run, head.indexed_below.value());
        let known = BucketIndex { tail: Tail::default(), runs, next_run, indexed_below, broken };
        self.lock().insert(bucket, known);
        Ok(())
    }

    /// Wipes what is known of a killed bucket. To free it takes longer, and is left to `free_wiped`.
    pub fn forget(&self, bucket: BucketId) {
        let Some(BucketIndex { tail, mut runs, .. }) = self.lock().remove(&bucket) else { return };
        drop(tail);
        runs.iter_mut().for_each(|run| run.filter.wipe());
        self.wiped().append(&mut runs);
    }

    pub fn free_wiped(&self) {
        let wiped = std::mem::take(&mut *self.wiped());
        drop(wiped);
    }

    #[cfg(test)]
    pub fn to_free(&self) -> usize {
        self.wiped().len()
    }

    fn wiped(&self) -> MutexGuard<'_, Vec<Run>> {
        self.wiped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists a version in the tail.
    pub fn list(&self, kid: Kid, tokens: &[Token]) {
        if let Some(bucket) = self.lock().get_mut(&(kid.tenant, kid.bucket)) {
            bucket.tail.add(kid, tokens);
        }
    }

    /// Takes a version whose put failed out of the tail again.
    pub fn unlist_tail(&self, kid: Kid) {
        if let Some(bucket) = self.lock().get_mut(&(kid.tenant, kid.bucket)) {
            bucket.tail.remove(kid);
        }
    }

    /// Versions in these buckets that may have the token: candidates, to be opened and compared.
    pub fn find(
        &self,
        tree: &Tree,
        buckets: &[BucketId],
        token: &Token,
    ) -> Result<Vec<Kid>, VaultError> {
        let reader = tree.read();
        let mut known = self.lock();
        let mut found = Vec::new();
        for id in buckets {
            let Some(bucket) = known.get_mut(id) else { continue };
            found.extend(bucket.tail.find(*id, token));
            bucket.or_break(|runs| {
                for run in runs {
                    for leaf in run.head.leaves(&token.0) {
                        if !run.filter.may_have(&reader, &run.path, leaf, token)? {
                            continue;
                        }
                        let path = leaf_path(&run.path, leaf);
                        let hits = reader.listings_of(&path, &token.0)?;
                        found.extend(hits.iter().filter_map(|l| kid_of(*id, l)));
                    }
                }
                Ok(())
            })?;
        }
        Ok(found)
    }

    /// Which leaves list a version that is to be erased; none if it is in the tail. Changes nothing.
    /// `tokens` is `None` where the record no longer opens: every leaf of the bucket is searched.
    pub fn listed(
        &self,
        tree: &Tree,
        kid: Kid,
        tokens: Option<&[Token]>,
    ) -> Result<Listed, KeyError> {
        let reader = tree.read();
        let mut known = self.lock();
        let mut listed = Listed { kid, leaves: Vec::new() };
        let bucket = known.get_mut(&(kid.tenant, kid.bucket));
        let Some(bucket) = bucket.filter(|b| !b.tail.has(kid)) else { return Ok(listed) };
        bucket.or_break(|runs| {
            for run in runs {
                match tokens {
                    Some(tokens) => listed.look_up(&reader, run, tokens)?,
                    None => listed.look_through(&reader, run)?,
                }
            }
            Ok(())
        })?;
        Ok(listed)
    }

    /// Whether a version's listings are in no run yet.
    pub fn in_tail(&self, kid: Kid) -> bool {
        self.lock().get(&(kid.tenant, kid.bucket)).is_some_and(|bucket| bucket.tail.has(kid))
    }

    /// Whether anything is listed of a version, so that it is known whose it is.
    pub fn lists(&self, tree: &Tree, kid: Kid) -> Result<bool, KeyError> {
        Ok(self.in_tail(kid) || !self.listed(tree, kid, None)?.leaves.is_empty())
    }

    /// The batch that erased a version is complete: its listings leave the tail and the filters.
    pub fn unlist(&self, listed: &Listed) {
        let mut known = self.lock();
        let kid = listed.kid;
        let Some(bucket) = known.get_mut(&(kid.tenant, kid.bucket)) else { return };
        bucket.tail.remove(kid);
        for (path, leaf, listing) in &listed.leaves {
            let run = bucket.runs.iter_mut().find(|r| r.path == *path);
            run.into_iter().for_each(|r| r.filter.remove(*leaf, &Token(listing.token)));
        }
    }

    /// Buckets whose tail is long enough to be written as a run; at a stop, those that would be slow to rebuild.
    pub fn flushable(&self, stopping: bool) -> Vec<BucketId> {
        let least = if stopping { self.tail_max / 8 } else { self.tail_max };
        let known = self.lock();
        let long = |b: &BucketIndex| !b.broken && b.tail.len() > least;
        known.iter().filter(|(_, b)| long(b)).map(|(id, _)| *id).collect()
    }

    /// Writes the settled part of a bucket's tail as a run, up to a page if one is given. Only the eraser's thread does
    /// this.
    pub fn flush(&self, tree: &Tree, id: BucketId, bound: Option<u32>) -> Result<(), VaultError> {
        let settled = tree.slots().settled_below(id).min(bound.unwrap_or(u32::MAX));
        let (draft, run) = {
            let mut known = self.lock();
            let Some(bucket) = known.get_mut(&id) else { return Ok(()) };
            if settled <= bucket.indexed_below {
                return Ok(());
            }
            let listings = bucket.tail.below(settled);
            let run = RunOrd::new(bucket.next_run).ok_or(VaultError::Exhausted("index runs"))?;
            (draft(run, listings), run)
        };
        let head = draft.as_ref().map(|d| d.head);
        let filter = draft.as_ref().map(|d| RunFilter::of(&d.leaves));
        let below = PageOrd::new(settled).ok_or(VaultError::Exhausted("key pages"))?;
        tree.add_run(id, draft, below)?;
        let mut known = self.lock();
        if let Some(bucket) = known.get_mut(&id) {
            bucket.tail.drop_below(settled);
            bucket.indexed_below = settled;
            if let (Some(head), Some(filter)) = (head, filter) {
                bucket.next_run = run.value() + 1;
                bucket.runs.push(Run { path: Path::run(id.0, id.1, run), head, filter });
            }
        }
        Ok(())
    }

    /// Buckets with enough runs of one size class to merge.
    pub fn mergeable(&self) -> Vec<BucketId> {
        let known = self.lock();
        let many = |b: &BucketIndex| !b.broken && to_merge(&b.runs).is_some();
        known.iter().filter(|(_, b)| many(b)).map(|(id, _)| *id).collect()
    }

    /// Builds the merged run of a bucket's smallest full size class.
    pub fn merge(
        &self,
        tree: &Tree,
        id: BucketId,
    ) -> Result<Option<(Merge, Option<RunDraft>)>, VaultError> {
        let (old, run) = {
            let known = self.lock();
            let Some(bucket) = known.get(&id) else { return Ok(None) };
            let Some(chosen) = to_merge(&bucket.runs) else { return Ok(None) };
            let old: Vec<(Path, RunHead)> = chosen
                .iter()
                .filter_map(|n| bucket.runs.get(*n))
                .map(|r| (r.path, r.head))
                .collect();
            let run = RunOrd::new(bucket.next_run).ok_or(VaultError::Exhausted("index runs"))?;
            (old, run)
        };
        let reader = tree.read();
        let mut listings = Vec::new();
        if let Err(e) = all_listings(&reader, &old, &mut listings) {
            listings.zeroize();
            if let (KeyError::Damaged(kind), Some(bucket)) = (&e, self.lock().get_mut(&id)) {
                bucket.broken |= kind.is_index();
            }
            return Err(e.into());
        }
        let draft = draft(run, listings);
        let new = draft.as_ref().map(|d| (run, d.head));
        let old = old.iter().map(|(p, _)| p.run).collect();
        Ok(Some((Merge { bucket: id, old, new }, draft)))
    }

    /// The batch that carried the merge is complete.
    pub fn merged(&self, merge: &Merge) {
        if let Some(bucket) = self.lock().get_mut(&merge.bucket) {
            bucket.runs.retain(|r| !merge.old.contains(&r.path.run));
            if let Some((run, head)) = merge.new {
                bucket.next_run = bucket.next_run.max(run.value() + 1);
                let path = Path::run(merge.bucket.0, merge.bucket.1, run);
                bucket.runs.push(Run { path, head, filter: RunFilter::default() });
            }
        }
    }
}

fn all_listings(
    reader: &Reader<'_>,
    runs: &[(Path, RunHead)],
    listings: &mut Vec<Listing>,
) -> Result<(), KeyError> {
    for (path, head) in runs {
        for leaf in 0..u32::from(head.parts) << head.bits {
            listings.extend_from_slice(&reader.leaf(&leaf_path(path, leaf))?.listings);
        }
    }
    Ok(())
}

fn kid_of(bucket: BucketId, listing: &Listing) -> Option<Kid> {
    let page = PageOrd::new(listing.page)?;
    Some(Kid { tenant: bucket.0, bucket: bucket.1, page, slot: listing.slot })
}

/// Size class of a run: each is eight times the one before.
fn class(entries: u32) -> u32 {
    (entries / 512).checked_ilog(MERGE_FAN_IN as u32).map_or(0, |n| n + 1)
}

/// Which runs to merge: the smallest class with enough of them, if the result is not too large.
fn to_merge(runs: &[Run]) -> Option<Vec<usize>> {
    let mut classes = BTreeMap::<u32, Vec<usize>>::new();
    for (n, run) in runs.iter().enumerate() {
        classes.entry(class(run.head.entries)).or_default().push(n);
    }
    let small = |chosen: &[usize]| {
        let total: u64 =
            chosen.iter().filter_map(|n| runs.get(*n)).map(|r| u64::from(r.head.entries)).sum();
        total <= MERGED_MAX as u64
    };
    classes.into_values().find(|c| c.len() >= MERGE_FAN_IN && small(c))
}

/// Spreads listings over leaves by the first bits of their tokens. `None` for no listings.
fn draft(run: RunOrd, mut listings: Vec<Listing>) -> Option<RunDraft> {
    if listings.is_empty() {
        return None;
    }
    listings.sort_unstable();
    let wanted = listings.len().div_ceil(LEAF_TARGET).next_power_of_two();
    let bits = wanted.trailing_zeros().min(12) as u8;
    let entries = u32::try_from(listings.len()).unwrap_or(u32::MAX);
    let mut head = RunHead { bits, parts: 1, entries };
    let mut leaves = BTreeMap::<u32, Vec<Listing>>::new();
    for listing in &listings {
        let first = head.leaves(&listing.token).next().unwrap_or_default();
        leaves.entry(first).or_default().push(*listing);
    }
    // A value that very many records share fills more than one leaf.
    let longest = leaves.values().map(Vec::len).max().unwrap_or_default();
    head.parts = u16::try_from(longest.div_ceil(LEAF_MAX)).unwrap_or(u16::MAX);
    let mut spread = BTreeMap::new();
    for (first, mut all) in std::mem::take(&mut leaves) {
        for (part, some) in (0u32..).zip(all.chunks(LEAF_MAX)) {
            spread.insert(first + (part << bits), some.to_vec());
        }
        all.zeroize();
    }
    listings.zeroize();
    Some(RunDraft { run, head, leaves: spread })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(token: u8, n: u32) -> Listing {
        Listing { token: [token; 16], page: n, slot: 1 }
    }

    #[test]
    fn a_draft_keeps_every_listing_where_its_token_leads() {
        let mut all: Vec<Listing> = (0..5000u32)
            .map(|n| {
                let hash = crate::crypto::sha256(&n.to_be_bytes());
                Listing { token: *hash.first_chunk().unwrap(), page: n, slot: 3 }
            })
            .collect();
        // A value that a thousand records share.
        all.extend((0..1000).map(|n| listing(7, n)));
        let made = draft(RunOrd::of(1), all.clone()).unwrap();
        assert!(made.head.parts > 1 && made.leaves.values().all(|l| l.len() <= LEAF_MAX));
        for l in &all {
            let mut leaves = made.head.leaves(&l.token);
            assert!(leaves.any(|n| made.leaves.get(&n).is_some_and(|v| v.contains(l))));
        }
        assert_eq!(made.leaves.values().map(Vec::len).sum::<usize>(), all.len());
        assert!(draft(RunOrd::of(1), vec![]).is_none());
        let one = draft(RunOrd::of(1), vec![listing(200, 1)]).unwrap();
        assert_eq!((one.head.bits, one.head.leaves(&[200; 16]).collect::<Vec<_>>()), (0, vec![0]));
    }

    #[test]
    fn size_classes_grow_eightfold_and_a_merge_stays_bounded() {
        assert_eq!([1, 511, 512, 4095, 4096, 40_000].map(class), [0, 0, 1, 1, 2, 3]);
        let run = |n: u16, entries| Run {
            path: Path::run(
                crate::id::TenantOrd::of(0),
                crate::id::BucketOrd::of(0),
                RunOrd::of(n),
            ),
            head: RunHead { bits: 0, parts: 1, entries },
            filter: RunFilter::default(),
        };
        let runs: Vec<Run> = (0..7).map(|n| run(n, 600)).collect();
        assert!(to_merge(&runs).is_none());
        let runs: Vec<Run> = (0..9).map(|n| run(n, if n == 4 { 60_000 } else { 600 })).collect();
        assert_eq!(to_merge(&runs).unwrap(), [0, 1, 2, 3, 5, 6, 7, 8]);
        let huge: Vec<Run> = (0..8).map(|n| run(n, 60_000)).collect();
        assert!(to_merge(&huge).is_none());
    }
}

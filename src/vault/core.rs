//! The open vault: what its calls share.
//!
//! Invariants: a record that is being erased is refused from the moment its erasure is accepted; of one record only one
//! change is under way at a time; a subject's erasure waits for puts about it and refuses later ones.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::damaged::Damaged;
use super::erase::Eraser;
use super::error::VaultError;
use super::evolve::Evolving;
use super::holds::Holds;
use super::index::{Index, Token};
use super::logs::Logs;
use super::open::DirLock;
use super::pending::Superseded;
use super::prune::Pruned;
use super::registry::{Registry, Tenant};
use super::retention::closing::Closings;
use super::retention::keeper::Keeper;
use super::retention::rebucket::Rehoming;
use super::retention::sweep::Sweeps;
use super::retention::time::Timekeeper;
use super::retention::uses::Uses;
use super::subject_log::{SubjectIndexer, SubjectLog};
use super::trail::Trail;
use super::watch::Watch;
use crate::audit::{Act, Entry, Kind};
use crate::authz::{ActionKind, Permit};
use crate::clock::{Clock, UnixMillis};
use crate::crypto::LockedKey;
use crate::id::{Kid, RecordId, VaultId};
use crate::keys::Tree;
use crate::keys::kek::KekSource;
use crate::keys::slots::BucketId;
use crate::metrics::Metrics;

const STRIPES: usize = 1024;

/// Locks, one for many names: two names may share one, a name always has the same.
pub struct Stripes<T>(Vec<T>);

impl<T: Default> Default for Stripes<T> {
    fn default() -> Self {
        Self((0..STRIPES).map(|_| T::default()).collect())
    }
}

impl<T> Stripes<T> {
    /// Which stripe a random name has.
    pub fn of(name: &[u8; 16]) -> usize {
        let [a, b, ..] = *name;
        usize::from(u16::from_be_bytes([a, b])) % STRIPES
    }

    pub fn at(&self, stripe: usize) -> &T {
        // `default`, the only constructor, makes exactly STRIPES of them, so the remainder is a place.
        #[allow(clippy::indexing_slicing)]
        &self.0[stripe % STRIPES]
    }
}

/// What the vault's calls and its eraser share.
pub struct Core {
    pub tree: Tree,
    pub registry: Registry,
    pub index: Index,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<Metrics>,
    pub superseded: Superseded,
    pub kek: KekSource,
    pub started: UnixMillis,
    pub warnings: Vec<String>,
    /// Seals page tokens; lives in memory only.
    pub page_key: LockedKey,
    pub record_locks: Stripes<tokio::sync::Mutex<()>>,
    pub subject_locks: Stripes<tokio::sync::RwLock<()>>,
    pub unique_locks: Stripes<tokio::sync::Mutex<()>>,
    pub request_locks: Stripes<tokio::sync::Mutex<()>>,
    pub watch: Watch,
    pub damaged: Damaged,
    pub trail: Trail,
    pub logs: Logs,
    pub subject_log: SubjectLog,
    pub pruned: Pruned,
    pub evolving: Evolving,
    /// The time that retention goes by.
    pub time: Timekeeper,
    pub closings: Closings,
    pub holds: Holds,
    pub uses: Uses,
    pub sweeps: Sweeps,
    pub rehoming: Rehoming,
    /// Key pages that the index of a changed schema takes at a step.
    pub index_build_pages: usize,
    erasing: Mutex<Refused>,
    /// One process holds the directory.
    _held: DirLock,
}

/// What is being erased: reads of it are refused.
#[derive(Default)]
struct Refused {
    records: HashSet<RecordId>,
    buckets: HashSet<BucketId>,
    /// Buckets whose kill has begun: nothing leaves them any more.
    going: HashSet<BucketId>,
}

/// Marks records or buckets as being erased for as long as it lives.
pub struct Erasing<'a> {
    core: &'a Core,
    records: Vec<RecordId>,
    buckets: Vec<BucketId>,
    going: bool,
}

impl Drop for Erasing<'_> {
    fn drop(&mut self) {
        let mut erasing = self.core.erasing();
        self.records.iter().for_each(|r| {
            erasing.records.remove(r);
        });
        self.buckets.iter().for_each(|b| {
            erasing.buckets.remove(b);
            if self.going {
                erasing.going.remove(b);
            }
        });
    }
}

/// The parts of a [`Core`] that `open` brings.
pub struct CoreParts {
    pub tree: Tree,
    pub registry: Registry,
    pub index: Index,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<Metrics>,
    pub superseded: Superseded,
    pub damaged: Damaged,
    pub kek: KekSource,
    pub warnings: Vec<String>,
    pub page_key: LockedKey,
    pub trail: Trail,
    pub time: Timekeeper,
    pub logs: Logs,
    pub subject_log: SubjectLog,
    pub pruned: Pruned,
    pub index_build_pages: usize,
    pub held: DirLock,
}

impl Core {
    pub fn new(parts: CoreParts) -> Self {
        let started = parts.clock.now();
        Self {
            tree: parts.tree,
            registry: parts.registry,
            index: parts.index,
            clock: parts.clock,
            metrics: parts.metrics,
            superseded: parts.superseded,
            kek: parts.kek,
            started,
            warnings: parts.warnings,
            page_key: parts.page_key,
            record_locks: Stripes::default(),
            subject_locks: Stripes::default(),
            unique_locks: Stripes::default(),
            request_locks: Stripes::default(),
            watch: Watch::default(),
            damaged: parts.damaged,
            trail: parts.trail,
            logs: parts.logs,
            subject_log: parts.subject_log,
            pruned: parts.pruned,
            evolving: Evolving::default(),
            time: parts.time,
            closings: Closings::default(),
            holds: Holds::default(),
            uses: Uses::default(),
            sweeps: Sweeps::default(),
            rehoming: Rehoming::default(),
            index_build_pages: parts.index_build_pages,
            erasing: Mutex::default(),
            _held: parts.held,
        }
    }

    fn erasing(&self) -> MutexGuard<'_, Refused> {
        self.erasing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses reads of these records from now on.
    pub fn mark_erasing(&self, records: Vec<RecordId>) -> Erasing<'_> {
        self.erasing().records.extend(records.iter().copied());
        Erasing { core: self, records, buckets: Vec::new(), going: false }
    }

    /// Refuses reads of what is in these buckets from now on.
    pub fn mark_killing(&self, buckets: &[BucketId]) -> Erasing<'_> {
        self.erasing().buckets.extend(buckets);
        Erasing { core: self, records: Vec::new(), buckets: buckets.to_vec(), going: false }
    }

    /// The same, and from now on nothing leaves them.
    pub fn mark_going(&self, buckets: &[BucketId]) -> Erasing<'_> {
        self.erasing().going.extend(buckets);
        let mut marked = self.mark_killing(buckets);
        marked.going = true;
        marked
    }

    /// Whether a record, or the bucket that its current version is in, is being erased.
    pub fn is_erasing(&self, record: RecordId, kid: Kid) -> bool {
        let refused = self.erasing();
        refused.records.contains(&record) || refused.buckets.contains(&(kid.tenant, kid.bucket))
    }

    /// Whether the erasure of a record, or of its bucket, has begun.
    pub fn is_going(&self, record: RecordId, kid: Kid) -> bool {
        let refused = self.erasing();
        refused.records.contains(&record) || refused.going.contains(&(kid.tenant, kid.bucket))
    }

    pub fn vault(&self) -> VaultId {
        self.tree.vault()
    }

    /// The tenant that a permit is for. The permit is checked here, at the store's side, whatever the call's surface
    /// did.
    pub fn tenant<A: ActionKind>(
        &self,
        permit: &Permit<A>,
        tenant: &str,
    ) -> Result<Arc<Tenant>, VaultError> {
        if permit.covers(tenant) { self.registry.find(tenant) } else { Err(VaultError::Forbidden) }
    }

    /// Locks the stripes of these tokens.
    pub async fn lock_unique(&self, tokens: &[Token]) -> Vec<tokio::sync::MutexGuard<'_, ()>> {
        lock_all(&self.unique_locks, tokens.iter().map(|t| t.0)).await
    }

    /// Locks the stripes of these records.
    pub async fn lock_records(&self, records: &[RecordId]) -> Vec<tokio::sync::MutexGuard<'_, ()>> {
        lock_all(&self.record_locks, records.iter().map(|r| r.0)).await
    }
}

/// Locks the stripes of these names, in an order that cannot deadlock.
pub(super) async fn lock_all(
    locks: &Stripes<tokio::sync::Mutex<()>>,
    names: impl Iterator<Item = [u8; 16]>,
) -> Vec<tokio::sync::MutexGuard<'_, ()>> {
    let stripes: BTreeSet<usize> =
        names.map(|n| Stripes::<tokio::sync::Mutex<()>>::of(&n)).collect();
    let mut held = Vec::with_capacity(stripes.len());
    for stripe in stripes {
        held.push(locks.at(stripe).lock().await);
    }
    held
}

/// A vault that is open. Dropping it without [`Vault::close`] is like a crash: safe, but the next start recovers.
pub struct Vault {
    pub(super) core: Arc<Core>,
    // Dropped before the eraser, which it has work for.
    pub(super) keeper: Keeper,
    pub(super) subject_indexer: SubjectIndexer,
    pub(super) eraser: Arc<Eraser>,
    pub(super) sweep_interval: std::time::Duration,
}

impl Vault {
    /// Finishes what is under way, writes what makes the next start quick, and marks the anchor clean.
    pub fn close(&self) -> Result<(), VaultError> {
        self.keeper.stop();
        self.eraser.stop()?;
        self.subject_indexer.stop();
        self.core.tell_refusals(true)?;
        let now = self.core.clock.now();
        let closing = Entry {
            generation: self.core.tree.generation(),
            ..Entry::new(Kind::Vault, Act::Close, now)
        };
        self.core.note(&closing)?;
        self.core.tree.store().barrier()?.wait()?;
        self.core.tree.refresh(self.core.clock.now(), true)?;
        self.core.tree.store().close();
        Ok(())
    }

    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.core.metrics
    }
}

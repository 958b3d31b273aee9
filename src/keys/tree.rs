//! The tree as readers see it: from the root key down to a record's key.
//!
//! Invariants: a reader works under the state's read lock and holds no key after it, so that publishing a batch (the
//! write lock) waits for every reader of the old tree; only the holder of the mutation lock changes a node.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use zeroize::Zeroizing;

use super::KeyError;
use super::anchor::{Anchor, Payload};
use super::batch::Sabotage;
use super::cache::{Cached, NodeCache};
use super::dir::DirView;
use super::erased::Erased;
use super::lost::Lost;
use super::node::{Body, BucketHead, Entry, Leaf, LeafView, Listing, Opened, open};
use super::path::{ChildKey, NodeKind, Path};
use super::slots::Slots;
use crate::class::Medium;
use crate::clock::UnixMillis;
use crate::crypto::{
    Dek, Digest32, IndexKey, Kek, LockedKey, MetaKey, NamesKey, NodeKey, SaltKey, Signer, hkdf32,
    labels,
};
use crate::id::{BucketOrd, Gen, Kid, RunOrd, TenantOrd, VaultId};
use crate::metrics::Metrics;
use crate::store::journal::Journal;
use crate::store::{Batch, Store, StoreError, Urgency};

/// What the anchor said last, and the anchor itself.
pub(super) struct AnchorState {
    pub anchor: Box<dyn Anchor>,
    pub kek: Kek,
    pub payload: Payload,
    /// The slot that was written last.
    pub slot: u8,
}

/// The published root.
pub(super) struct State {
    pub root_ver: u64,
    pub root_key: LockedKey,
    pub generation: Gen,
}

/// The last generation whose batch is complete, and the proof of it if that was since the start: its level row may not
/// be written yet.
#[derive(Clone, Copy)]
pub(super) struct Last {
    pub through: Gen,
    pub proof: Option<Erased>,
}

/// The key tree of an open vault.
pub struct Tree {
    pub(super) vault: VaultId,
    pub(super) store: Store,
    pub(super) cache: NodeCache,
    pub(super) state: RwLock<State>,
    pub(super) anchor: Mutex<AnchorState>,
    pub(super) slots: Arc<Slots>,
    pub(super) mutation: tokio::sync::Mutex<()>,
    pub(super) journal_dir: Option<PathBuf>,
    pub(super) lost: Lost,
    pub(super) metrics: Arc<Metrics>,
    pub(super) stopped: AtomicBool,
    pub(super) last: Mutex<Last>,
    /// What the last batch left to delete (S8).
    pub(super) leftover: Mutex<Batch>,
    pub(super) sabotage: Sabotage,
}

/// The secrets of a tenant.
pub struct TenantSecrets {
    pub meta: MetaKey,
    pub index: IndexKey,
    pub pseudonym: [u8; 16],
}

/// What a run's head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunHead {
    pub bits: u8,
    pub parts: u16,
    pub entries: u32,
}

/// Length of a TENANT's head.
pub(super) const TENANT_HEAD: usize = 83;

/// Sizes and roots of the logs that the anchor has bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    pub ledger: (u64, Digest32),
    pub audit: (u64, Digest32),
}

impl Tree {
    pub fn vault(&self) -> VaultId {
        self.vault
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The audit log as it goes into the anchor: its length, and the root over it.
    pub(super) fn audit(&self, before: &Payload) -> (u64, Digest32) {
        self.store.log_head().unwrap_or((before.audit_size, before.audit_head))
    }

    /// The audit log as the anchor has it.
    pub fn bound_audit(&self) -> (u64, Digest32) {
        let anchor = self.anchor();
        (anchor.payload.audit_size, anchor.payload.audit_head)
    }

    /// The heads of both logs that the anchor has bound: both slots name them. An error if a write to the anchor
    /// failed, since nobody knows then what it holds.
    pub fn bound(&self) -> Result<Bound, KeyError> {
        let anchor = self.anchor();
        self.check_running()?;
        let payload = &anchor.payload;
        Ok(Bound {
            ledger: (payload.ledger_size, payload.ledger_root),
            audit: (payload.audit_size, payload.audit_head),
        })
    }

    pub(super) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn anchor(&self) -> MutexGuard<'_, AnchorState> {
        self.anchor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A view of the published tree. Never hold it across an await.
    pub fn read(&self) -> Reader<'_> {
        Reader { tree: self, state: self.state() }
    }

    pub fn generation(&self) -> Gen {
        self.state().generation
    }

    #[doc(hidden)]
    pub fn sabotage(&self) -> Sabotage {
        self.sabotage
    }

    pub fn slots(&self) -> &Arc<Slots> {
        &self.slots
    }

    /// Why nothing more is written, if so.
    pub fn check_running(&self) -> Result<(), KeyError> {
        if self.stopped.load(Ordering::SeqCst) { Err(KeyError::Stopped) } else { Ok(()) }
    }

    pub fn ledger(&self) -> (u64, [u8; 32]) {
        let anchor = self.anchor();
        (anchor.payload.ledger_size, anchor.payload.ledger_root)
    }

    pub fn medium(&self) -> (Medium, String) {
        let anchor = self.anchor();
        (anchor.anchor.medium(), anchor.anchor.describe())
    }

    /// The KEK's id and since when it is in use.
    pub fn kek(&self) -> ([u8; 16], UnixMillis) {
        let anchor = self.anchor();
        (crate::crypto::kek_id(&anchor.kek), anchor.payload.kek_since)
    }

    /// The highest wall time that the anchor has seen.
    pub fn wall_seen(&self) -> UnixMillis {
        self.anchor().payload.wall
    }

    /// The node journal's copy of a row, if there is one.
    pub fn journal_copy(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KeyError> {
        let Some(dir) = self.journal_dir.as_ref() else { return Ok(None) };
        Ok(Journal::lookup(dir, self.vault, key)?)
    }

    /// A node's row as the store has it; one that cannot be read counts as missing.
    fn row(&self, path: &Path, key: &[u8]) -> Result<Option<Vec<u8>>, KeyError> {
        match self.store.get(key) {
            Err(e @ (StoreError::Damaged(_) | StoreError::Io(_))) => {
                tracing::warn!(kind = ?path.kind, error = %e, "a node row could not be read");
                Ok(None)
            }
            other => Ok(other?),
        }
    }

    /// Opens a node's row: from the store, else from the node journal.
    pub(super) fn load(&self, path: &Path, entry: &Entry) -> Result<Opened, KeyError> {
        let key = path.row_key(entry.ver);
        let mut found = self.row(path, &key)?;
        // Growth puts a node into the cache when its row is on its way; evicted before the row is written, it is not
        // lost. A batch of nothing is answered when all before it are durable.
        let waits = Batch { urgency: Urgency::Vital, ..Batch::default() };
        let is_lost = self.lost.has(&key);
        if found.is_none() && !is_lost && self.store.commit_blocking(waits).is_ok() {
            found = self.row(path, &key)?;
        }
        if let Some(opened) = found.and_then(|v| open(self.vault, path, entry, &v).ok()) {
            return Ok(opened);
        }
        self.metrics.damaged_rows.one();
        let copy = if is_lost { None } else { self.journal_copy(&key)? };
        let Some(rescued) = copy.and_then(|v| open(self.vault, path, entry, &v).ok()) else {
            if !is_lost {
                self.lost.add(&key);
            }
            return Err(KeyError::Damaged(path.kind));
        };
        self.metrics.journal_rescues.one();
        tracing::warn!(kind = ?path.kind, "a node row was rescued from the node journal");
        Ok(rescued)
    }
}

/// The published tree, held still.
pub struct Reader<'a> {
    tree: &'a Tree,
    state: RwLockReadGuard<'a, State>,
}

impl Reader<'_> {
    pub fn generation(&self) -> Gen {
        self.state.generation
    }

    /// What the parent keeps of a node (the root: what the anchor keeps).
    pub(super) fn entry(&self, path: &Path) -> Result<Entry, KeyError> {
        let Some((parent, child)) = path.parent() else {
            let key = NodeKey::copied(self.state.root_key.expose());
            return Ok(Entry { ver: self.state.root_ver, key });
        };
        let damaged = |_| KeyError::Damaged(parent.kind);
        let node = self.node(&parent)?;
        let plain = self.tree.cache.open(&parent, &node).map_err(damaged)?;
        DirView::new(&plain).map_err(damaged)?.find(child).ok_or(KeyError::Gone)
    }

    pub(super) fn node(&self, path: &Path) -> Result<Arc<Cached>, KeyError> {
        if let Some(found) = self.tree.cache.find(path) {
            return Ok(found);
        }
        let entry = self.entry(path)?;
        let opened = self.tree.load(path, &entry)?;
        let damaged = |_| KeyError::Damaged(path.kind);
        let wrapped = self.tree.cache.wrap(path, &opened).map_err(damaged)?;
        Ok(self.tree.cache.offer(path, wrapped))
    }

    /// The generation that a node's key was made with. What is not in the cache is read and not kept: who asks for the
    /// ages of all keys must not push out what calls need.
    pub fn made(&self, path: &Path) -> Result<Gen, KeyError> {
        if let Some(found) = self.tree.cache.find(path) {
            return Ok(found.made);
        }
        let entry = self.entry(path)?;
        Ok(self.tree.load(path, &entry)?.made)
    }

    /// A node's body, for the one who changes it.
    pub(super) fn body(&self, path: &Path) -> Result<Body, KeyError> {
        let damaged = |_| KeyError::Damaged(path.kind);
        let node = self.node(path)?;
        let plain = self.tree.cache.open(path, &node).map_err(damaged)?;
        Body::decode(path.kind, &node.aux, &plain).map_err(damaged)
    }

    /// A record version's key; [`KeyError::Gone`] once it was erased.
    pub fn dek(&self, kid: Kid) -> Result<Dek, KeyError> {
        let path = Path::page_of(kid);
        let node = self.node(&path)?;
        let dead = node.aux.get(1 + usize::from(kid.slot / 8)).copied().unwrap_or(u8::MAX);
        if dead & (1 << (kid.slot % 8)) != 0 {
            return Err(KeyError::Gone);
        }
        let key = self.tree.cache.dek(&path, &node, kid.slot);
        key.map_err(|_| KeyError::Damaged(path.kind))?.ok_or(KeyError::Gone)
    }

    /// Slots of a page and which of them are dead; `None` if the page is gone.
    pub fn page_state(&self, path: &Path) -> Result<Option<(u8, [u8; 16])>, KeyError> {
        match self.node(path) {
            Err(KeyError::Gone) => Ok(None),
            Err(e) => Err(e),
            Ok(node) => {
                let (slots, dead) =
                    node.aux.split_first().ok_or(KeyError::Damaged(NodeKind::Page))?;
                let dead = dead.try_into().map_err(|_| KeyError::Damaged(NodeKind::Page))?;
                Ok(Some((*slots, dead)))
            }
        }
    }

    /// The listings of an index leaf; none if the leaf does not exist.
    pub fn leaf(&self, path: &Path) -> Result<Leaf, KeyError> {
        match self.body(path) {
            Ok(Body::Leaf(leaf)) => Ok(leaf),
            Err(KeyError::Gone) => Ok(Leaf { listings: Vec::new() }),
            Ok(_) => Err(KeyError::Damaged(path.kind)),
            Err(e) => Err(e),
        }
    }

    fn head<T>(&self, path: &Path, read: impl FnOnce(&[u8]) -> Option<T>) -> Result<T, KeyError> {
        let damaged = || KeyError::Damaged(path.kind);
        let node = self.node(path)?;
        let plain = self.tree.cache.open(path, &node).map_err(|_| damaged())?;
        let view = DirView::new(&plain).map_err(|_| damaged())?;
        read(view.head).ok_or_else(damaged)
    }

    pub fn signer(&self) -> Result<Signer, KeyError> {
        self.head(&Path::ROOT, |h| Signer::from_seed(h.first_chunk()?).ok())
    }

    /// The key that principals' names in the audit log are sealed under.
    pub fn names_key(&self) -> Result<NamesKey, KeyError> {
        self.head(&Path::ROOT, |h| {
            let mut key = Zeroizing::new([0; 32]);
            hkdf32(&[], h.first_chunk()?, labels::NAMES, &mut key);
            Some(NamesKey::copied(&key))
        })
    }

    /// The key that salts the ids in the list of what went with a bucket.
    pub fn salt_key(&self) -> Result<SaltKey, KeyError> {
        self.head(&Path::ROOT, |h| {
            let mut key = Zeroizing::new([0; 32]);
            hkdf32(&[], h.first_chunk()?, labels::SALTS, &mut key);
            Some(SaltKey::copied(&key))
        })
    }

    pub fn tenant(&self, tenant: TenantOrd) -> Result<TenantSecrets, KeyError> {
        self.head(&Path::tenant(tenant), |h| {
            let (meta, rest) = h.split_first_chunk()?;
            let (index, rest) = rest.split_first_chunk()?;
            let pseudonym = *rest.first_chunk()?;
            Some(TenantSecrets {
                meta: MetaKey::copied(meta),
                index: IndexKey::copied(index),
                pseudonym,
            })
        })
    }

    /// Bucket ordinals of a tenant below this were handed out.
    pub fn next_bucket(&self, tenant: TenantOrd) -> Result<u32, KeyError> {
        self.head(&Path::tenant(tenant), |h| {
            let [a, b, c] = *h.get(80..TENANT_HEAD)?.first_chunk()?;
            Some(u32::from_be_bytes([0, a, b, c]))
        })
    }

    pub fn bucket(&self, tenant: TenantOrd, bucket: BucketOrd) -> Result<BucketHead, KeyError> {
        self.head(&Path::bucket(tenant, bucket), |h| BucketHead::decode(h).ok())
    }

    pub fn run(&self, path: &Path) -> Result<RunHead, KeyError> {
        self.head(path, decode_run_head)
    }

    /// Every child of an owner, through its directory nodes, ascending.
    pub fn children(&self, owner: &Path) -> Result<Vec<Path>, KeyError> {
        let mut found = Vec::new();
        let mut todo = vec![*owner];
        while let Some(at) = todo.pop() {
            for child in self.entries(&at)? {
                if child.level > 0 && child.level < super::path::INDEX_LEVEL {
                    todo.extend(at.child(child));
                } else if child.level == 0 {
                    found.extend(at.child(child));
                }
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Keys of the rows of all nodes below one, as far as they open.
    pub(super) fn rows_below(&self, path: &Path) -> Vec<Vec<u8>> {
        let (mut rows, mut todo) = (Vec::new(), vec![*path]);
        while let Some(at) = todo.pop() {
            let Ok(node) = self.node(&at) else { continue };
            let Ok(plain) = self.tree.cache.open(&at, &node) else { continue };
            let Ok(view) = DirView::new(&plain) else { continue };
            for (child, ver, _) in view.iter() {
                let Some(child) = at.child(child) else { continue };
                rows.push(child.row_key(ver));
                if child.kind != NodeKind::Leaf {
                    todo.push(child);
                }
            }
        }
        rows
    }

    fn entries(&self, path: &Path) -> Result<Vec<ChildKey>, KeyError> {
        let damaged = |_| KeyError::Damaged(path.kind);
        let node = match self.node(path) {
            Err(KeyError::Gone) => return Ok(Vec::new()),
            other => other?,
        };
        let plain = self.tree.cache.open(path, &node).map_err(damaged)?;
        Ok(DirView::new(&plain).map_err(damaged)?.iter().map(|(c, _, _)| c).collect())
    }

    pub fn runs(&self, tenant: TenantOrd, bucket: BucketOrd) -> Result<Vec<Path>, KeyError> {
        self.children(&Path::index(tenant, bucket))
    }

    /// The listings of a token in a leaf; none if the leaf does not exist.
    pub fn listings_of(&self, path: &Path, token: &[u8; 16]) -> Result<Vec<Listing>, KeyError> {
        let node = match self.node(path) {
            Err(KeyError::Gone) => return Ok(Vec::new()),
            other => other?,
        };
        let damaged = |_| KeyError::Damaged(path.kind);
        let plain = self.tree.cache.open(path, &node).map_err(damaged)?;
        Ok(LeafView::new(&plain).map_err(damaged)?.of(token).collect())
    }

    /// Whether this listing is in this leaf.
    pub fn lists(&self, path: &Path, listing: &Listing) -> Result<bool, KeyError> {
        let node = match self.node(path) {
            Err(KeyError::Gone) => return Ok(false),
            other => other?,
        };
        let damaged = |_| KeyError::Damaged(path.kind);
        let plain = self.tree.cache.open(path, &node).map_err(damaged)?;
        // A token that many share has a leaf's worth of listings, so they are not collected.
        Ok(LeafView::new(&plain).map_err(damaged)?.of(&listing.token).any(|l| l == *listing))
    }
}

fn decode_run_head(head: &[u8]) -> Option<RunHead> {
    let [bits, a, b, c, d, e, f] = *head.first_chunk()?;
    Some(RunHead {
        bits,
        parts: u16::from_be_bytes([a, b]),
        entries: u32::from_be_bytes([c, d, e, f]),
    })
}

impl RunHead {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.bits];
        out.extend_from_slice(&self.parts.to_be_bytes());
        out.extend_from_slice(&self.entries.to_be_bytes());
        out
    }

    /// The leaves in which a listing with this token may be.
    pub fn leaves(&self, token: &[u8; 16]) -> impl Iterator<Item = u32> + use<> {
        let (bits, parts) = (u32::from(self.bits), u32::from(self.parts));
        let [a, b, c, d, ..] = *token;
        let prefix = u32::from_be_bytes([a, b, c, d]).checked_shr(32 - bits).unwrap_or(0);
        (0..parts).map(move |part| prefix + (part << bits))
    }
}

/// Path of a run's leaf.
pub fn leaf_path(run: &Path, leaf: u32) -> Path {
    Path::leaf(run.tenant, run.bucket, run_ord(run), leaf)
}

fn run_ord(run: &Path) -> RunOrd {
    run.run
}

//! Making a tree, opening one, and recovery from a crash at any point (ERASURE §2.6, §2.11).
//!
//! Invariants: of two slots the newer counts, and only if the store or the journal has its root; an older generation
//! than the store has completed is refused, and so is a store behind the anchor; S5 is redone before anything is
//! served.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::anchor::{Anchor, AnchorError, Current, Payload, select};
use super::batch::{BatchFacts, Sabotage, batch_hash};
use super::cache::NodeCache;
use super::erased::Erased;
use super::kek::KekSource;
use super::lost::Lost;
use super::node::{self, Entry, seal};
use super::path::Path;
use super::plan::empty_dir;
use super::rows::VAULT_HEADER;
use super::slots::{BucketId, Slots};
use super::tree::{AnchorState, Last, State, Tree};
use super::undo::{self, Chore};
use super::{KeyError, rows};
use crate::clock::UnixMillis;
use crate::crypto::{Kek, LockedKey, NodeKey, SecretBytes, fill_random, kek_id, sha256};
use crate::id::{Gen, VaultId};
use crate::metrics::Metrics;
use crate::store::{Batch, Row, Store, StoreError, Urgency};

/// What a tree is made of.
pub struct Parts {
    pub store: Store,
    pub anchor: Box<dyn Anchor>,
    pub kek: KekSource,
    /// The data directory whose node journal mirrors the node rows.
    pub journal_dir: Option<PathBuf>,
    pub cache_bytes: usize,
    pub metrics: Arc<Metrics>,
    #[doc(hidden)]
    pub sabotage: Sabotage,
}

/// What recovery found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The vault was not stopped cleanly.
    pub unclean: bool,
    /// The anchor's newest generation had no root row anywhere and was given up; nothing of it was answered.
    pub storage_lied: bool,
    /// A repair gave up the end of the audit log.
    pub log_lost: bool,
    /// The last time that the anchor noted before.
    pub before: UnixMillis,
    /// Killed buckets that still have rows to collect.
    pub to_collect: Vec<BucketId>,
}

/// An open tree.
pub struct Opened {
    pub tree: Tree,
    pub recovered: Recovered,
}

const HEADER_BYTES: usize = 30;
/// The format that is written and read (docs/FORMAT.md).
const FORMAT: u16 = 2;

pub(super) fn header(vault: VaultId, now: UnixMillis) -> Vec<u8> {
    [b"LTV1".as_slice(), &FORMAT.to_be_bytes(), &vault.0, &now.0.to_be_bytes()].concat()
}

/// The vault that a vault header names.
pub fn vault_in(header: &[u8]) -> Option<VaultId> {
    Some(VaultId(*header.strip_prefix(b"LTV1")?.get(2..)?.first_chunk()?))
}

/// When the vault was made, as its header says.
pub fn created_in(header: &[u8]) -> Option<UnixMillis> {
    let created = header.strip_prefix(b"LTV1")?.get(18..)?.first_chunk()?;
    Some(UnixMillis(i64::from_be_bytes(*created)))
}

fn format_of(header: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(*header.strip_prefix(b"LTV1")?.first_chunk()?))
}

/// Whether a vault header says this vault.
pub(super) fn is_header_of(header: &[u8], vault: VaultId) -> bool {
    header.len() == HEADER_BYTES
        && format_of(header) == Some(FORMAT)
        && vault_in(header) == Some(vault)
}

fn build(
    parts: Parts,
    vault: VaultId,
    kek: Kek,
    payload: Payload,
    slot: u8,
) -> Result<Tree, KeyError> {
    let through = payload.generation;
    let state = State {
        root_ver: payload.root_ver,
        root_key: LockedKey::copied(payload.root_key.expose())?,
        generation: payload.generation,
    };
    Ok(Tree {
        vault,
        store: parts.store,
        cache: NodeCache::new(parts.cache_bytes)?,
        state: RwLock::new(state),
        anchor: Mutex::new(AnchorState { anchor: parts.anchor, kek, payload, slot }),
        slots: Arc::new(Slots::default()),
        mutation: tokio::sync::Mutex::new(()),
        journal_dir: parts.journal_dir,
        lost: Lost::default(),
        metrics: parts.metrics,
        stopped: AtomicBool::new(false),
        last: Mutex::new(Last { through, proof: None }),
        leftover: Mutex::default(),
        sabotage: parts.sabotage,
    })
}

/// Makes an empty tree in an empty store and writes both slots of a fresh anchor.
pub fn create(parts: Parts, vault: VaultId, now: UnixMillis) -> Result<Opened, KeyError> {
    let kek = parts.kek.candidates()?.into_iter().next().ok_or(KeyError::Gone)?;
    let mut head = SecretBytes::new(vec![0; 32]);
    fill_random(&mut head);
    let entry = Entry::fresh();
    let damaged = |_| KeyError::Damaged(Path::ROOT.kind);
    let body = node::Opened::new(Gen(1), empty_dir(&head));
    let root = seal(vault, &Path::ROOT, &entry, &body).map_err(damaged)?;
    let mut batch = Batch { urgency: Urgency::Vital, ..Batch::default() };
    batch.put(VAULT_HEADER, header(vault, now));
    batch.put(Path::ROOT.row_key(entry.ver), root);
    let store_seq = parts.store.commit_blocking(batch)?;
    let empty = sha256(b"");
    let zero = BatchFacts { generation: Gen(1), old_rows: [0; 32], new_rows: [0; 32] };
    let payload = Payload {
        generation: Gen(1),
        refresh: 0,
        root_ver: entry.ver,
        root_key: LockedKey::copied(entry.key.expose())?,
        ledger_size: 0,
        ledger_root: empty,
        batch_hash: batch_hash(&zero, &empty),
        audit_size: 0,
        audit_head: empty,
        store_seq,
        wall: now,
        kek_since: now,
        clean: false,
    };
    let tree = build(parts, vault, kek, payload, 1)?;
    tree.write_anchor(&mut tree.anchor(), true)?;
    Ok(Opened { tree, recovered: Recovered::default() })
}

/// Opens a tree and recovers it.
pub fn open(mut parts: Parts, now: UnixMillis) -> Result<Opened, KeyError> {
    let keks = parts.kek.candidates()?;
    let Current { slot, open, other } = select(&parts.anchor.load()?, &keks)?;
    let header_damaged = is_header_damaged(&parts.store, open.vault, &open.payload)?;
    let store_seq = parts.store.seq();
    if store_seq < open.payload.store_seq {
        let anchor = open.payload.store_seq;
        return Err(AnchorError::StoreOlder { anchor, store: store_seq }.into());
    }
    check_not_older(&parts.store, open.payload.generation)?;
    let waived = check_log(&parts.store, &open.payload)?;
    let mut recovered = Recovered { unclean: !open.payload.clean, ..Recovered::default() };
    let kek = pick(keks, &open.kek_id).ok_or(KeyError::Gone)?;
    let source = parts.kek.clone();
    let tree = build(parts, open.vault, kek, open.payload, slot)?;
    // A statement of its own: the reader is gone before the state is changed.
    let root = tree.read().node(&Path::ROOT).map(drop);
    if let Err(e) = root {
        // Only a batch that was never answered can be given up: its S5 has not happened.
        let older = other.filter(|o| o.payload.generation < tree.generation()).ok_or(e)?;
        tree.step_back(older, &source)?;
        recovered.storage_lied = true;
        tracing::error!("the newest generation's rows are nowhere: storage lied about a sync");
    }
    if header_damaged {
        tree.heal_header(now)?;
    }
    recovered.to_collect = tree.finish_chores()?;
    recovered.before = tree.wall_seen();
    tree.refresh(now, false)?;
    if waived {
        recovered.log_lost = true;
        let mut batch = Batch { urgency: Urgency::Vital, ..Batch::default() };
        batch.delete(rows::LOG_WAIVER);
        tree.store.commit_blocking(batch)?;
    }
    source.settle(&kek_id(&tree.anchor().kek))?;
    tree.note_level(now)?;
    Ok(Opened { tree, recovered })
}

fn pick(keks: Vec<Kek>, id: &[u8; 16]) -> Option<Kek> {
    keks.into_iter().find(|k| kek_id(k) == *id)
}

/// Refuses the store of another vault. A wrong header above a root that opens under the anchor's key is damage: no
/// other vault's store has such a row.
fn is_header_damaged(store: &Store, anchor: VaultId, payload: &Payload) -> Result<bool, KeyError> {
    let found = store.get(VAULT_HEADER)?;
    if found.as_deref().is_some_and(|h| is_header_of(h, anchor)) {
        return Ok(false);
    }
    let entry = Entry { ver: payload.root_ver, key: NodeKey::copied(payload.root_key.expose()) };
    let root = store.get(&Path::ROOT.row_key(entry.ver))?;
    let other = found.as_deref().filter(|h| h.len() == HEADER_BYTES).and_then(format_of);
    if other == Some(1) && found.as_deref().and_then(vault_in) == Some(anchor) {
        return Err(AnchorError::Format { found: 1, known: FORMAT }.into());
    }
    if root.is_some_and(|root| node::open(anchor, &Path::ROOT, &entry, &root).is_ok()) {
        return Ok(true);
    }
    match found.as_deref().and_then(vault_in).filter(|store| *store != anchor) {
        Some(store) => Err(AnchorError::Foreign { anchor, store }.into()),
        None => Ok(false),
    }
}

/// Refuses an audit log that is shorter than the anchor has seen it, or another one of the same length. `true`: it is,
/// but a repair says that it could save no more.
fn check_log(store: &Store, payload: &Payload) -> Result<bool, KeyError> {
    let Some((size, head)) = store.log_head() else { return Ok(false) };
    let bound = (payload.audit_size, payload.audit_head);
    if size > bound.0 || (size, head) == bound {
        return Ok(false);
    }
    if store.get(rows::LOG_WAIVER)? == Some(rows::log_waiver(bound)) {
        return Ok(true);
    }
    Err(AnchorError::Log { anchor: bound.0, store: size }.into())
}

/// A store that has completed a later generation is a sign of an old anchor put back.
fn check_not_older(store: &Store, generation: Gen) -> Result<(), KeyError> {
    refuse_older(generation, |from, end| store.scan(from, end, 1))
}

/// Refuses an anchor that is older than what a store has seen; `first` finds the first row of a range. A row whose key
/// the disk has changed is no witness, or one flipped bit would keep the vault shut and `repair` out.
pub(super) fn refuse_older(
    generation: Gen,
    first: impl Fn(&[u8], &[u8]) -> Result<Vec<Row>, StoreError>,
) -> Result<(), KeyError> {
    let key = |kind: u8, generation: u64| [&[kind], &generation.to_be_bytes()[..]].concat();
    let older = |store| Err(AnchorError::Older { anchor: generation.0, store }.into());
    let mut from = key(b'g', generation.0 + 1);
    while let Some(row) = first(&from, &rows::prefix_end(b"g"))?.pop() {
        let level = Erased::from_row(&row.value).map(|e| e.generation());
        if let Some(store) = level.filter(|g| undo::generation_of(&row.key) == Some(*g)) {
            return older(store.0);
        }
        from = after(&row.key);
    }
    // A frontier does not say whose it is. The anchor's own is deleted only with the writing of a level row that was
    // looked for above; if it is missing without one, the frontier found is the anchor's own under a changed key.
    let own = key(b'h', generation.0);
    if generation.0 > 1 && first(&own, &after(&own))?.is_empty() {
        return Ok(());
    }
    let later = first(&key(b'h', generation.0 + 2), &rows::prefix_end(b"h"))?;
    match later.first().and_then(|row| undo::generation_of(&row.key)) {
        Some(store) => older(store.0),
        None => Ok(()),
    }
}

fn after(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

impl Tree {
    /// Writes a damaged vault header anew.
    fn heal_header(&self, now: UnixMillis) -> Result<(), KeyError> {
        self.metrics.damaged_rows.one();
        tracing::warn!("the vault header was missing or damaged; it is written anew");
        let copy = self.journal_copy(VAULT_HEADER)?.filter(|h| is_header_of(h, self.vault));
        let mut batch = Batch { urgency: Urgency::Vital, ..Batch::default() };
        batch.put(VAULT_HEADER, copy.unwrap_or_else(|| header(self.vault, now)));
        self.store.commit_blocking(batch)?;
        Ok(())
    }

    /// Goes back to the other slot's generation.
    fn step_back(
        &self,
        older: super::anchor::OpenSlot,
        source: &KekSource,
    ) -> Result<(), KeyError> {
        let kek = pick(source.candidates()?, &older.kek_id).ok_or(KeyError::Gone)?;
        let next = State {
            root_ver: older.payload.root_ver,
            root_key: LockedKey::copied(older.payload.root_key.expose())?,
            generation: older.payload.generation,
        };
        let mut anchor = self.anchor();
        anchor.kek = kek;
        anchor.payload = older.payload;
        anchor.slot = 1 - anchor.slot;
        *self.state_mut() = next;
        drop(anchor);
        self.read().node(&Path::ROOT).map(drop)
    }

    /// Does what committed batches left to do and undoes what uncommitted ones wrote.
    fn finish_chores(&self) -> Result<Vec<BucketId>, KeyError> {
        let committed = self.generation();
        let mut collect = Vec::new();
        for row in self.store.prefix(b"b") {
            let row = row?;
            // Under a changed key what is to be done would be undone: nothing of it is done.
            let whole = undo::generation_of(&row.key).filter(|g| undo::is_of(&row.value, *g));
            let chores = if whole.is_some() { undo::decode(&row.value) } else { Vec::new() };
            let done = whole.is_some_and(|g| g <= committed);
            let mut batch = Batch { urgency: Urgency::Vital, ..Batch::default() };
            let mut keep = false;
            for chore in chores {
                match chore {
                    Chore::After(key) if done => batch.delete(key),
                    Chore::Undo(key) if !done => batch.delete(key),
                    Chore::Collect(bucket) if done => {
                        collect.push(bucket);
                        keep = true;
                    }
                    _ => {}
                }
            }
            if !keep {
                batch.delete(row.key);
            }
            self.store.commit_blocking(batch)?;
        }
        Ok(collect)
    }

    /// A killed bucket's rows are collected: nothing is left to do for it.
    pub fn collected(&self, buckets: &BTreeSet<BucketId>) -> Result<(), KeyError> {
        self.settle()?;
        let mut batch = Batch { urgency: Urgency::Vital, ..Batch::default() };
        for row in self.store.prefix(b"b") {
            let row = row?;
            let chores = undo::decode(&row.value);
            let is_done = |c: &Chore| matches!(c, Chore::Collect(b) if buckets.contains(b));
            if chores.iter().any(is_done) {
                let left: Vec<Chore> = chores.into_iter().filter(|c| !is_done(c)).collect();
                let generation = undo::generation_of(&row.key).unwrap_or_default();
                match undo::encode(generation, &left).pop() {
                    Some((_, value)) => batch.put(row.key, value),
                    None => batch.delete(row.key),
                }
            }
        }
        self.store.commit_blocking(batch)?;
        Ok(())
    }

    /// Writes both slots anew with the present store sequence and time; redoes S5 at open.
    pub fn refresh(&self, now: UnixMillis, clean: bool) -> Result<(), KeyError> {
        self.check_running()?;
        let mut anchor = self.anchor();
        let (audit_size, audit_head) = self.audit(&anchor.payload);
        anchor.payload = Payload {
            refresh: anchor.payload.refresh + 1,
            audit_size,
            audit_head,
            store_seq: self.store.seq(),
            wall: now.max(anchor.payload.wall),
            clean,
            ..anchor.payload.duplicate()?
        };
        Ok(self.write_anchor(&mut anchor, true)?)
    }

    /// After S5 was redone the present generation has its level.
    fn note_level(&self, now: UnixMillis) -> Result<(), KeyError> {
        let (medium, _) = self.medium();
        let erased = Erased::completed(self.generation(), medium, now);
        let (key, value) = erased.row();
        if self.store.get(&key)?.is_none() {
            let mut batch = Batch { urgency: Urgency::Vital, ..Batch::default() };
            batch.put(key, value);
            self.store.commit_blocking(batch)?;
        }
        Ok(())
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a batch of this generation is complete. One that has just been published may not be yet.
    pub fn is_through(&self, generation: Gen) -> bool {
        generation <= self.last().through
    }

    pub(super) fn set_through(&self, erased: Erased) {
        *self.last() = Last { through: erased.generation(), proof: Some(erased) };
    }

    /// The proof of a completed generation, read back; `None` if it is not complete or was long ago collected.
    pub fn completed(&self, generation: Gen) -> Result<Option<Erased>, KeyError> {
        let Last { through, proof } = *self.last();
        if let Some(proof) = proof.filter(|_| through == generation) {
            return Ok(Some(proof));
        }
        if generation > through {
            return Ok(None);
        }
        let key = [b"g".as_slice(), &generation.0.to_be_bytes()].concat();
        Ok(self.store.get(&key)?.as_deref().and_then(Erased::from_row))
    }
}

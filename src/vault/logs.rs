//! The two logs as others can check them: checkpoints, tiles, proofs, and what witnesses say (docs/FORMAT.md §10).
//!
//! Invariants: a checkpoint is signed, and a tile or proof made, for what the anchor has bound and for nothing after
//! it; all that leaves was checked against the bound root. The tree of the audit log goes only to who may read every
//! entry of it. A cosignature is kept if a witness that the configuration names made it, for a checkpoint of this
//! vault's.

mod cosigned;
mod files;
mod tree;

use std::path::Path;
use std::sync::Arc;

use tokio::sync::{Mutex, MutexGuard};

use self::cosigned::{Cosigned, row_key};
use self::files::TileFiles;
use self::tree::Source;
pub(super) use self::tree::{Head, TileTree, View};
use super::core::{Core, Vault};
use super::error::VaultError;
use super::ledger::leaf_key;
use crate::audit::{Act, Entry};
use crate::authz::{CosignLog, Permit, ReadAudit, ReadLedger};
use crate::class::Log;
use crate::crypto::checkpoint::{Checkpoint, Origin};
use crate::crypto::merkle::tile::{Part, Tile, bundle};
use crate::crypto::note::{Note, NoteError, VerifierKey};
use crate::crypto::{Digest32, Signer};
use crate::limits::LOG_TILES_BYTES;
use crate::metrics::Metrics;
use crate::store::Batch;

/// What the logs' calls share.
pub struct Logs {
    ledger: Arc<Mutex<TileTree>>,
    audit: Arc<Mutex<TileTree>>,
    witnesses: Vec<VerifierKey>,
    /// Lists of buckets are hashed through for one proof at a time.
    pub(super) listing: Mutex<()>,
    /// Cosignatures are compared with those that are kept, and kept, one call at a time.
    adding: Mutex<()>,
}

impl Logs {
    pub fn new(dir: &Path, witnesses: Vec<VerifierKey>, metrics: &Arc<Metrics>) -> Self {
        let tree = |log: Log, called| {
            let files = TileFiles::new(dir.join(log.name()));
            Arc::new(Mutex::new(TileTree::new(files, Arc::clone(metrics), called)))
        };
        Self {
            ledger: tree(Log::Ledger, "ledger"),
            audit: tree(Log::Audit, "audit log"),
            witnesses,
            listing: Mutex::default(),
            adding: Mutex::default(),
        }
    }

    /// The tree of a log, if nobody has it.
    pub(super) fn try_lock(&self, log: Log) -> Option<MutexGuard<'_, TileTree>> {
        self.tree(log).try_lock().ok()
    }

    fn tree(&self, log: Log) -> &Arc<Mutex<TileTree>> {
        match log {
            Log::Ledger => &self.ledger,
            Log::Audit => &self.audit,
        }
    }
}

/// The right to read a log with its tree.
pub enum LogPermit {
    Ledger(Permit<ReadLedger>),
    Audit(Permit<ReadAudit>),
}

impl LogPermit {
    fn log(&self) -> Log {
        match self {
            Self::Ledger(_) => Log::Ledger,
            Self::Audit(_) => Log::Audit,
        }
    }
}

/// A checkpoint of now, and what witnesses have cosigned.
pub struct LogHead {
    pub checkpoint: Checkpoint,
    pub key: VerifierKey,
    /// The signed note, with the cosignatures of this very checkpoint.
    pub note: String,
    /// Signed notes of the checkpoints that have cosignatures, the largest first.
    pub cosigned: Vec<String>,
    /// Number of the first entry that was not pruned.
    pub minimum_index: u64,
}

/// A proof about a tree; its checkpoint, where the tree is the bound one.
pub struct LogProof {
    pub path: Vec<Digest32>,
    pub size: u64,
    pub root: Digest32,
    pub note: Option<String>,
}

/// The tile has not so many hashes, or is not there at all.
const NO_TILE: VaultError = VaultError::NotFound("tile of the log as the anchor has bound it");

/// A log's rows, for its tree.
pub(super) struct LogRows<'a> {
    core: &'a Core,
    log: Log,
}

impl Source for LogRows<'_> {
    fn entries(&self, start: u64, end: u64) -> Result<Vec<Vec<u8>>, VaultError> {
        self.core.rows_of(self.log, start, end)
    }

    fn pruned(&self, block: u64) -> Result<Option<Digest32>, VaultError> {
        match self.log {
            Log::Ledger => Ok(None),
            Log::Audit => self.core.pruned_block(block),
        }
    }
}

impl Core {
    pub(super) fn log_rows(&self, log: Log) -> LogRows<'_> {
        LogRows { core: self, log }
    }

    /// The size and root of a log that the anchor has bound.
    pub(super) fn bound(&self, log: Log) -> Result<Head, VaultError> {
        let bound = self.tree.bound()?;
        Ok(match log {
            Log::Ledger => bound.ledger,
            Log::Audit => bound.audit,
        })
    }

    pub(super) fn checkpoint(&self, log: Log, (size, root): Head) -> Checkpoint {
        Checkpoint { origin: Origin { vault: self.vault(), log }, size, root }
    }

    /// Who would be kept from an entry in a list of them does not get the whole log either.
    fn check_whole(&self, permit: &LogPermit) -> Result<(), VaultError> {
        let whole = match permit {
            LogPermit::Ledger(permit) => permit.covers_all(),
            LogPermit::Audit(permit) => {
                let sees = |t: &Arc<super::registry::Tenant>| permit.covers(t.id.as_str());
                permit.covers_all() && self.registry.all().iter().all(sees)
            }
        };
        if whole { Ok(()) } else { Err(VaultError::Forbidden) }
    }

    /// The ledger is never pruned: it is the evidence.
    fn minimum_of(&self, log: Log) -> u64 {
        match log {
            Log::Ledger => 0,
            Log::Audit => self.minimum_index(),
        }
    }

    fn told(&self, permit: &LogPermit, act: Act) -> Entry {
        match permit {
            LogPermit::Ledger(permit) => self.entry(permit, act),
            LogPermit::Audit(permit) => self.entry(permit, act),
        }
    }

    /// A log's entries, as its rows have them.
    fn rows_of(&self, log: Log, start: u64, end: u64) -> Result<Vec<Vec<u8>>, VaultError> {
        match log {
            Log::Ledger => {
                let count = usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX);
                let rows = self.tree.store().scan(&leaf_key(start), &leaf_key(end), count)?;
                let follows = (start..end).zip(&rows).all(|(seq, row)| row.key == leaf_key(seq));
                if rows.len() != count || !follows {
                    return Err(VaultError::Damaged("ledger"));
                }
                Ok(rows.into_iter().map(|row| row.value).collect())
            }
            Log::Audit => {
                self.check_kept(start)?;
                let leaves = self.log_leaves(start, end)?.into_iter().map(|(_, leaf)| leaf);
                leaves.collect::<Option<_>>().ok_or(VaultError::Damaged("audit log"))
            }
        }
    }

    /// What witnesses that still count have cosigned of a log, the largest checkpoint first.
    fn cosigned(&self, log: Log) -> Result<Vec<(Cosigned, &VerifierKey)>, VaultError> {
        let mut found = Vec::new();
        for witness in &self.logs.witnesses {
            let row = self.tree.store().get(&row_key(log, witness))?;
            found.extend(row.as_deref().and_then(Cosigned::decode).map(|c| (c, witness)));
        }
        found.sort_by_key(|(cosigned, _)| std::cmp::Reverse(cosigned.size));
        Ok(found)
    }
}

impl Vault {
    /// Works on the tree of a log at its bound head, in a thread that may wait for the disk. One call at a time.
    pub(super) async fn with_tree<T: Send + 'static>(
        &self,
        log: Log,
        work: impl FnOnce(&Core, &View<'_>) -> Result<T, VaultError> + Send + 'static,
    ) -> Result<T, VaultError> {
        let core = Arc::clone(&self.core);
        let mut tree = Arc::clone(core.logs.tree(log)).lock_owned().await;
        let done = tokio::task::spawn_blocking(move || {
            let head = core.bound(log)?;
            let rows = core.log_rows(log);
            let view = tree.reach(head, &rows)?;
            work(&core, &view)
        });
        done.await.map_err(|_| VaultError::Stopping)?
    }

    /// The log's checkpoint. `fresh`: the anchor binds first what the audit log holds now.
    pub async fn log_checkpoint(
        &self,
        permit: &LogPermit,
        fresh: bool,
    ) -> Result<LogHead, VaultError> {
        let (core, log) = (Arc::clone(&self.core), permit.log());
        core.check_whole(permit)?;
        core.note(&core.told(permit, Act::GetCheckpoint))?;
        // First, so that the entry which tells of it is in a tree that is bound now.
        let minimum_index = core.minimum_of(log);
        if fresh && log == Log::Audit {
            core.tree.store().barrier()?.await?;
            let of = Arc::clone(&core);
            let bound = tokio::task::spawn_blocking(move || of.tree.refresh(of.clock.now(), false));
            bound.await.map_err(|_| VaultError::Stopping)??;
        }
        let checkpoint = core.checkpoint(log, core.bound(log)?);
        let signer = core.tree.read().signer()?;
        let kept = core.cosigned(log)?;
        let sizes: Vec<u64> = kept.iter().map(|(c, _)| c.size).collect();
        // A repair may have given up what a witness saw; the vault does not sign that again.
        let roots = match sizes.is_empty() {
            true => Vec::new(),
            false => {
                let roots = move |_: &Core, view: &View<'_>| {
                    let root = |size: &u64| match *size <= view.head.0 {
                        // Of what was pruned nobody can tell any more whether it fits.
                        true => match view.root(*size) {
                            Err(VaultError::Pruned(_)) => Ok(None),
                            found => found.map(Some),
                        },
                        false => Ok(None),
                    };
                    sizes.iter().map(root).collect::<Result<Vec<_>, _>>()
                };
                self.with_tree(log, roots).await?
            }
        };
        let own = kept.into_iter().zip(roots).filter(|((c, _), root)| *root == Some(c.root));
        let own: Vec<_> = own.map(|(kept, _)| kept).collect();
        let mut cosigned = Vec::new();
        for group in own.chunk_by(|(a, _), (b, _)| a.size == b.size) {
            let Some((first, _)) = group.first() else { continue };
            let lines = group.iter().map(|(c, witness)| c.line(witness));
            cosigned.push(sign(&first.checkpoint(checkpoint.origin), &signer, lines)?);
        }
        let of_now = own.iter().filter(|(c, _)| c.size == checkpoint.size);
        let note = sign(&checkpoint, &signer, of_now.map(|(c, witness)| c.line(witness)))?;
        core.metrics.checkpoints_signed.one();
        let key = checkpoint.origin.key(signer.public_key()).map_err(unsigned)?;
        Ok(LogHead { checkpoint, key, note, cosigned, minimum_index })
    }

    /// Bytes of tiles, in the order of the paths; fewer than asked for if they would be too many bytes, but never none.
    pub async fn log_tiles(
        &self,
        permit: &LogPermit,
        tiles: Vec<Tile>,
    ) -> Result<Vec<Vec<u8>>, VaultError> {
        self.core.check_whole(permit)?;
        let told = self.core.told(permit, Act::GetTiles);
        let found = self.with_tree(permit.log(), move |_, view| {
            if !tiles.iter().all(|tile| tile.is_in(view.head.0)) {
                return Err(NO_TILE);
            }
            let (mut all, mut bytes) = (Vec::new(), 0);
            for tile in &tiles {
                let (first, count) = (tile.first(), u64::from(tile.width));
                let made = match tile.part {
                    Part::Hashes(level) => {
                        view.hashes(level, first, count)?.as_flattened().to_vec()
                    }
                    Part::Entries => {
                        let entries = view.entries(first, count)?;
                        bundle(entries.iter().map(Vec::as_slice)).ok_or(NO_TILE)?
                    }
                };
                bytes += made.len();
                if bytes > LOG_TILES_BYTES && !all.is_empty() {
                    break;
                }
                all.push(made);
            }
            Ok(all)
        });
        let found = found.await?;
        self.core.note(&told)?;
        Ok(found)
    }

    /// Entry `index` and the proof that it is in the tree of `size` entries; `None`: as the anchor has bound it.
    pub async fn log_inclusion(
        &self,
        permit: &LogPermit,
        index: u64,
        size: Option<u64>,
    ) -> Result<(Vec<u8>, LogProof), VaultError> {
        self.core.check_whole(permit)?;
        let (log, told) = (permit.log(), self.core.told(permit, Act::GetInclusionProof));
        let work = move |core: &Core, view: &View<'_>| {
            let (leaf, proof) = view.inclusion(index, size.unwrap_or(view.head.0))?;
            Ok((leaf, core.proof(log, view, proof)?))
        };
        let found = self.with_tree(log, work).await?;
        self.core.note(&told)?;
        Ok(found)
    }

    /// The root of the tree of `old` entries and the proof that the tree of `new` entries begins with it.
    pub async fn log_consistency(
        &self,
        permit: &LogPermit,
        old: u64,
        new: Option<u64>,
    ) -> Result<(Digest32, LogProof), VaultError> {
        self.core.check_whole(permit)?;
        let (log, told) = (permit.log(), self.core.told(permit, Act::GetConsistencyProof));
        let work = move |core: &Core, view: &View<'_>| {
            let (root, proof) = view.consistency(old, new.unwrap_or(view.head.0))?;
            Ok((root, core.proof(log, view, proof)?))
        };
        let found = self.with_tree(log, work).await?;
        self.core.note(&told)?;
        Ok(found)
    }

    /// Keeps the cosignatures under a checkpoint of this vault's. Names of the witnesses whose words are kept.
    pub async fn add_cosignature(
        &self,
        permit: &Permit<CosignLog>,
        checkpoint: Checkpoint,
        note: Note,
    ) -> Result<Vec<String>, VaultError> {
        let core = Arc::clone(&self.core);
        if !permit.covers_all() {
            return Err(VaultError::Forbidden);
        }
        let wrong = |reason| VaultError::Argument { field: "checkpoint", reason };
        let (size, log) = (checkpoint.size, checkpoint.origin.log);
        if checkpoint != core.checkpoint(log, (size, checkpoint.root)) {
            return Err(wrong("is of another vault"));
        }
        let public = core.tree.read().signer()?.public_key();
        let own = checkpoint.origin.key(public).map_err(unsigned)?;
        if note.text() != checkpoint.to_string() || note.verify(&own).is_err() {
            return Err(wrong("is not one that this vault signed"));
        }
        let mut words = Vec::new();
        for witness in core.logs.witnesses.iter().filter(|w| *w.public() != public) {
            match note.verify(witness).map(|signature| signature.timed()) {
                Ok(Some((at, signature))) => {
                    words.push((witness, Cosigned { size, root: checkpoint.root, at, signature }));
                }
                Err(NoteError::Unsigned) => {}
                _ => return Err(wrong("has a cosignature that does not hold")),
            }
        }
        if words.is_empty() {
            return Err(wrong("has no cosignature of a witness that the configuration names"));
        }
        let root = move |_: &Core, view: &View<'_>| match size <= view.head.0 {
            true => view.root(size).map(Some),
            false => Ok(None),
        };
        if self.with_tree(log, root).await? != Some(checkpoint.root) {
            return Err(wrong("is not of the log as the anchor has bound it"));
        }
        let _adding = core.logs.adding.lock().await;
        let told = core.entry(permit, Act::AddCosignature);
        let mut batch = Batch { entries: told.encode(), ..Batch::default() };
        let mut kept = Vec::new();
        for (witness, word) in words {
            let key = row_key(log, witness);
            let before = core.tree.store().get(&key)?.as_deref().and_then(Cosigned::decode);
            // The largest that a witness has seen says the most.
            if before.is_none_or(|b| (b.size, b.at) < (word.size, word.at)) {
                batch.put(key, word.encode());
                core.metrics.cosignatures_kept.one();
            }
            kept.push(witness.name().as_str().to_owned());
        }
        core.tree.store().submit(batch)?.await?;
        Ok(kept)
    }
}

impl Core {
    fn proof(&self, log: Log, view: &View<'_>, proof: tree::Proof) -> Result<LogProof, VaultError> {
        let tree::Proof { path, head: (size, root) } = proof;
        let note = match (size, root) == view.head {
            true => {
                let signer = self.tree.read().signer()?;
                Some(sign(&self.checkpoint(log, view.head), &signer, [])?)
            }
            false => None,
        };
        self.metrics.log_proofs.one();
        Ok(LogProof { path, size, root, note })
    }
}

fn unsigned(_: NoteError) -> VaultError {
    // An origin is always a name of a key.
    VaultError::Damaged("vault's name")
}

fn sign(
    checkpoint: &Checkpoint,
    signer: &Signer,
    lines: impl IntoIterator<Item = crate::crypto::note::NoteSignature>,
) -> Result<String, VaultError> {
    checkpoint.sign(signer, lines).map_err(unsigned)
}

//! Opening a vault: from a data directory to calls.
//!
//! Order: lock the directory, read the anchor (it names the vault), open the node journal and the engine, recover the
//! tree, then rebuild what lives in memory: tenants, schemas, buckets, the index's tail, what waits for erasure.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};

use super::calendar::Period;
use super::core::{Core, CoreParts, Vault};
use super::damaged::Damaged;
use super::erase::{Eraser, Start};
use super::error::VaultError;
use super::index::Index;
use super::load::{load_frontier, load_tenants, rebuild_tail};
use super::logs::Logs;
use super::pending::{Superseded, intent_of};
use super::prune::Pruned;
use super::registry::Registry;
use super::retention::keeper::{Keeper, KeeperSetup};
use super::retention::time::{MARK_KEY, Mark, Timekeeper};
use super::subject_log::{SubjectIndexer, SubjectLog};
use super::trail::{Trail, tell_opening};
use crate::audit;
use crate::class::{AuditReads, Medium};
use crate::clock::Clock;
use crate::crypto::note::VerifierKey;
use crate::crypto::{LockedKey, random};
use crate::id::VaultId;
use crate::keys::anchor::{AnchorError, select};
use crate::keys::file_anchor::FileAnchor;
use crate::keys::kek::KekSource;
use crate::keys::rows::journaled;
use crate::keys::{self, KeyError, Parts, Recovered, Sabotage, Tree, anchor::Anchor};
use crate::limits;
use crate::metrics::Metrics;
use crate::store::faulty::{FaultySink, Plan};
use crate::store::{DiskGuard, Engine, Journal, NodeSink, Redb, Sled, Store, StoreError};

/// Which engine keeps the rows.
#[derive(Clone)]
pub enum EngineChoice {
    Sled,
    Redb,
    /// An engine that is open already: in memory, or what a test brings.
    Given(Arc<dyn Engine>),
}

impl std::fmt::Debug for EngineChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            EngineChoice::Sled => "sled",
            EngineChoice::Redb => "redb",
            EngineChoice::Given(engine) => engine.name(),
        })
    }
}

/// What a vault is opened with.
#[derive(Clone, Debug)]
pub struct Setup {
    pub data: PathBuf,
    pub anchor: PathBuf,
    pub engine: EngineChoice,
    pub kek: KekSource,
    /// Refuse to start where the anchor's medium cannot claim E1.
    pub require_e1: bool,
    /// Memory for key nodes.
    pub node_cache_bytes: usize,
    /// Memory for the engine.
    pub engine_cache_bytes: u64,
    /// Index entries of a bucket kept in memory before they are written as a run.
    pub index_tail_max: usize,
    /// When reads are answered.
    pub audit_reads: AuditReads,
    /// How long entries of the audit log stay; `None`: for ever.
    pub audit_retain: Option<Period>,
    /// Key pages that the index of a changed schema takes at a step.
    pub index_build_pages: usize,
    /// When what is due is erased.
    pub keeper: KeeperSetup,
    /// Whose cosignatures of checkpoints are kept.
    pub witnesses: Vec<VerifierKey>,
    /// Where calls are counted.
    pub metrics: Arc<Metrics>,
    #[doc(hidden)]
    pub sabotage: Sabotage,
    #[doc(hidden)]
    pub hooks: Hooks,
}

/// What tests put between a vault and its machine. No configuration reaches it.
#[doc(hidden)]
#[derive(Clone, Default)]
pub struct Hooks {
    /// Instead of the file system's free space.
    pub free_space: Option<Arc<dyn Fn() -> std::io::Result<u64> + Send + Sync>>,
    /// Faults of the node journal.
    pub sink: Option<Arc<Plan>>,
    /// Takes the anchor's medium for one that may keep old blocks.
    pub distrust_medium: bool,
    /// What is due goes only when it is asked for, and the mark of time is kept only by a clean stop.
    pub no_sweeps: bool,
}

impl std::fmt::Debug for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hooks")
    }
}

impl Setup {
    /// The usual sizes.
    pub fn new(data: PathBuf, anchor: PathBuf, engine: EngineChoice, kek: KekSource) -> Self {
        Self {
            data,
            anchor,
            engine,
            kek,
            require_e1: false,
            node_cache_bytes: 128 << 20,
            engine_cache_bytes: 256 << 20,
            index_tail_max: crate::limits::INDEX_TAIL_MAX,
            audit_reads: AuditReads::default(),
            audit_retain: None,
            index_build_pages: crate::limits::INDEX_BUILD_PAGES,
            keeper: KeeperSetup::default(),
            witnesses: Vec::new(),
            metrics: Arc::default(),
            sabotage: Sabotage::None,
            hooks: Hooks::default(),
        }
    }
}

/// Reasons of [`VaultError::Precondition`] for which whoever starts the vault has advice.
pub const NO_ANCHOR: &str = "the directory has rows of a vault but no anchor";
pub const NO_STORE: &str = "the anchor is there, but the store has no files";
pub const OTHER_ENGINE: &str = "the store's files are those of another engine";

/// Holds the directory; released when dropped.
#[derive(Debug)]
pub struct DirLock(#[allow(dead_code, reason = "held for its lock")] File);

pub(super) fn io_error(e: std::io::Error) -> StoreError {
    StoreError::Io(e.to_string())
}

pub(super) fn lock(data: &Path) -> Result<DirLock, StoreError> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(data.join("lock"))
        .map_err(io_error)?;
    // A process that is just ending, or that is between fork and exec, may hold it for a moment.
    for _ in 0..40 {
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return Ok(DirLock(file));
        }
        std::thread::sleep(std::time::Duration::from_millis(25));
    }
    Err(StoreError::InUse)
}

fn open_store(setup: &Setup, vault: VaultId) -> Result<Store, KeyError> {
    let wants = match setup.sabotage {
        Sabotage::SkipJournal => |_: &[u8]| false,
        _ => journaled as fn(&[u8]) -> bool,
    };
    let engine = open_engine(setup, &setup.data.join("store"))?;
    if let Some(store) = Journal::vault(&setup.data)?.filter(|found| *found != vault) {
        // Two files that agree on another vault are no damage: the anchor and the data do not belong together.
        let header = engine.get(keys::rows::VAULT_HEADER)?;
        if header.as_deref().and_then(keys::vault_in) != Some(vault) {
            return Err(AnchorError::Foreign { anchor: vault, store }.into());
        }
    }
    let journal = Journal::open(&setup.data, vault, wants)?;
    let guard = match setup.hooks.free_space.clone() {
        None => DiskGuard::open(&setup.data)?,
        Some(space) => {
            let (floor, reserve) = (limits::DISK_FREE_MIN, limits::DISK_RESERVE);
            DiskGuard::with_source(&setup.data, floor, reserve, Box::new(move || space()))?
        }
    };
    let mut sink: Box<dyn NodeSink> = Box::new(journal);
    if let Some(plan) = setup.hooks.sink.clone() {
        sink = Box::new(FaultySink::new(sink, plan));
    }
    let log = audit::load(&*engine)?.ok_or_else(|| {
        StoreError::Damaged(
            "the audit log's end is lost, and not all of its entries are there".into(),
        )
    })?;
    Ok(Store::open_with_log(engine, Some(sink), Some(guard), Some(Box::new(log)))?)
}

/// The engine's files in `dir`, which the one of a test does not need.
pub(super) fn open_engine(setup: &Setup, dir: &Path) -> Result<Arc<dyn Engine>, StoreError> {
    Ok(match &setup.engine {
        EngineChoice::Sled => Arc::new(Sled::open(dir, setup.engine_cache_bytes)?),
        EngineChoice::Redb => Arc::new(Redb::open(dir, setup.engine_cache_bytes)?),
        EngineChoice::Given(engine) => engine.clone(),
    })
}

fn open_empty_store(setup: &Setup, vault: VaultId) -> Result<Store, VaultError> {
    let occupied = VaultError::Precondition(NO_ANCHOR);
    match open_store(setup, vault) {
        Err(KeyError::Anchor(AnchorError::Foreign { .. })) => Err(occupied),
        Ok(store) if store.get(keys::rows::VAULT_HEADER)?.is_some() => Err(occupied),
        other => Ok(other?),
    }
}

fn parts(setup: &Setup, store: Store, anchor: FileAnchor, metrics: &Arc<Metrics>) -> Parts {
    Parts {
        store,
        anchor: Box::new(anchor),
        kek: setup.kek.clone(),
        journal_dir: Some(setup.data.clone()),
        cache_bytes: setup.node_cache_bytes,
        metrics: metrics.clone(),
        sabotage: setup.sabotage,
    }
}

impl Vault {
    /// Makes a new vault in a directory that has none.
    pub fn create(setup: &Setup, clock: Arc<dyn Clock>) -> Result<Self, VaultError> {
        std::fs::create_dir_all(&setup.data).map_err(io_error)?;
        let held = lock(&setup.data)?;
        if setup.anchor.exists() {
            return Err(VaultError::Exists("vault"));
        }
        // What can be refused without a trace is refused first.
        if setup.data.join("journal").exists() {
            return Err(VaultError::Precondition(NO_ANCHOR));
        }
        setup.kek.candidates().map_err(KeyError::from)?;
        drop(LockedKey::generate().map_err(KeyError::from)?);
        let vault = VaultId(random());
        let mut anchor = FileAnchor::create(&setup.anchor).map_err(KeyError::from)?;
        let store = match require_medium(setup, &mut anchor)
            .map_err(VaultError::from)
            .and_then(|()| open_empty_store(setup, vault))
        {
            Ok(store) => store,
            Err(e) => {
                // It has no key yet; left behind it would pass for a vault's.
                let _ = std::fs::remove_file(&setup.anchor);
                return Err(e);
            }
        };
        let metrics = setup.metrics.clone();
        let opened = keys::create(parts(setup, store, anchor, &metrics), vault, clock.now())?;
        assemble(setup, clock, metrics, opened.tree, opened.recovered, held)
    }

    /// Opens a vault and recovers it.
    pub fn open(setup: &Setup, clock: Arc<dyn Clock>) -> Result<Self, VaultError> {
        if !setup.data.is_dir() {
            return Err(VaultError::NotFound("data directory"));
        }
        let held = lock(&setup.data)?;
        let keks = setup.kek.candidates().map_err(KeyError::from)?;
        let mut anchor = FileAnchor::open(&setup.anchor).map_err(KeyError::from)?;
        require_medium(setup, &mut anchor)?;
        let images = anchor.load().map_err(KeyError::from)?;
        let vault = select(&images, &keks).map_err(KeyError::from)?.open.vault;
        check_files(setup)?;
        let store = open_store(setup, vault)?;
        let metrics = setup.metrics.clone();
        let opened = keys::open(parts(setup, store, anchor, &metrics), clock.now())?;
        assemble(setup, clock, metrics, opened.tree, opened.recovered, held)
    }
}

/// An engine would make new files where it finds none of its own, and hide what is wrong.
fn check_files(setup: &Setup) -> Result<(), VaultError> {
    let (own, other) = match setup.engine {
        EngineChoice::Redb => (Redb::FILE, Sled::FILE),
        EngineChoice::Sled => (Sled::FILE, Redb::FILE),
        EngineChoice::Given(_) => return Ok(()),
    };
    let store = setup.data.join("store");
    match (store.join(own).exists(), store.join(other).exists()) {
        (true, _) => Ok(()),
        (false, true) => Err(VaultError::Precondition(OTHER_ENGINE)),
        (false, false) => Err(VaultError::Precondition(NO_STORE)),
    }
}

fn require_medium(setup: &Setup, anchor: &mut FileAnchor) -> Result<(), KeyError> {
    if setup.hooks.distrust_medium {
        anchor.distrust();
    }
    if setup.require_e1 && anchor.medium() != Medium::InPlaceFile {
        return Err(AnchorError::Medium(anchor.describe()).into());
    }
    Ok(())
}

fn assemble(
    setup: &Setup,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    tree: Tree,
    recovered: Recovered,
    held: DirLock,
) -> Result<Vault, VaultError> {
    let mut warnings = Vec::new();
    let (medium, place) = tree.medium();
    if medium != Medium::InPlaceFile {
        warnings.push(format!(
            "receipts claim only E0: the anchor is a {place}, which may keep old blocks; \
             move it to ext4 or XFS without reflinks, and out of every snapshot"
        ));
    }
    if recovered.storage_lied {
        warnings.push(
            "a sync was lost by the storage before the last start: check the disk and its cache"
                .to_owned(),
        );
    }
    let frontier = load_frontier(&tree)?;
    let (registry, index) = (Registry::default(), Index::new(setup.index_tail_max));
    let (superseded, damaged) = (Superseded::default(), Damaged::default());
    load_tenants(&tree, &registry, &index, &metrics)?;
    let mut unacknowledged = BTreeSet::new();
    for tenant in registry.all() {
        for bucket in tenant.buckets(None) {
            let unnamed = rebuild_tail(&tree, &index, &tenant, bucket, (&metrics, &damaged))?;
            if recovered.unclean {
                unacknowledged.extend(unnamed);
            }
        }
    }
    for row in tree.store().prefix(b"q") {
        if let Some(intent) = intent_of(&tree, &row?, clock.now())? {
            superseded.add(intent);
        }
    }
    let mark = tree.store().get(MARK_KEY)?.as_deref().and_then(Mark::decode);
    // A vault that was just made has seen no other time than now.
    let seen = Some(recovered.before).filter(|at| at.0 > 0);
    let time = Timekeeper::start(&*clock, mark, seen, setup.keeper.clock_gap_max);
    let subject_log = SubjectLog::load(tree.store())?;
    let pruned = Pruned::load(tree.store(), setup.audit_retain)?;
    let logs = Logs::new(&setup.data.join("logs"), setup.witnesses.clone(), &metrics);
    let core = Arc::new(Core::new(CoreParts {
        tree,
        registry,
        index,
        clock,
        metrics,
        superseded,
        damaged,
        kek: setup.kek.clone(),
        warnings,
        page_key: LockedKey::generate().map_err(KeyError::from)?,
        trail: Trail::new(setup.audit_reads),
        time,
        logs,
        subject_log,
        pruned,
        index_build_pages: setup.index_build_pages,
        held,
    }));
    for tenant in core.registry.all() {
        tenant.state().schemas.values().for_each(|s| core.evolving.note(tenant.ord, s));
    }
    core.load_holds()?;
    tell_opening(&core, &recovered)?;
    let start = Start { frontier, unacknowledged, to_collect: recovered.to_collect };
    let eraser = Arc::new(Eraser::start(core.clone(), start)?);
    let by_itself = !setup.hooks.no_sweeps;
    let keeper = Keeper::start(core.clone(), eraser.clone(), setup.keeper.clone(), by_itself)?;
    let subject_indexer = SubjectIndexer::start(core.clone())?;
    let sweep_interval = setup.keeper.interval;
    Ok(Vault { core, keeper, subject_indexer, eraser, sweep_interval })
}

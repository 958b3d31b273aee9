//! `lethed repair`: a fresh store from what can be proven of a damaged one.
//!
//! Guarantees: nothing erased comes back, since every kept row hangs on a living key of the tree that the anchor names;
//! the anchor is not written; the damaged files are kept beside the new ones; the change of stores is one rename. A
//! dry run, and a repair whose outcome would not open, change nothing.

mod log;
mod report;
mod rows;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, RenameFlags, renameat_with};

pub use self::report::{LedgerState, RepairReport};
use self::rows::{Pass, Target};
use super::error::VaultError;
use super::open::{EngineChoice, Setup, io_error, lock, open_engine};
use crate::clock::Clock;
use crate::id::VaultId;
use crate::keys::anchor::{Anchor, Current, select};
use crate::keys::file_anchor::FileAnchor;
use crate::keys::rows::{VAULT_HEADER, journaled};
use crate::keys::{KeyError, Salvage};
use crate::store::durable::{create_dir, sync_dir};
use crate::store::{
    Engine, Journal, Memory, Redb, Row, Rows, StoreError, sequence_of, sequence_row,
};

/// Where the new store is made, and where a dry run looks at a copy of the damaged one.
const FRESH: &str = "store.repaired";
const LOOK: &str = "store.look";

/// What could be opened of a damaged vault.
struct Remains {
    engine: Option<Arc<dyn Engine>>,
    engine_trouble: Option<String>,
    journal: BTreeMap<Vec<u8>, Vec<u8>>,
    journal_trouble: Option<String>,
}

/// Rebuilds the store of a vault that does not open, or that has damaged rows.
pub fn repair(setup: &Setup, clock: &dyn Clock, dry_run: bool) -> Result<RepairReport, VaultError> {
    if !setup.data.is_dir() {
        return Err(VaultError::NotFound("data directory"));
    }
    if matches!(setup.engine, EngineChoice::Given(_)) && !dry_run {
        return Err(VaultError::Precondition("only a store on disk can be repaired"));
    }
    let _held = lock(&setup.data)?;
    let keks = setup.kek.candidates().map_err(KeyError::from)?;
    let mut anchor = FileAnchor::open(&setup.anchor).map_err(KeyError::from)?;
    let images = anchor.load().map_err(KeyError::from)?;
    let current = select(&images, &keks).map_err(KeyError::from)?;
    for leftover in [FRESH, LOOK] {
        remove_dir(&setup.data.join(leftover))?;
    }
    let remains = open_remains(setup, current.open.vault, dry_run)?;
    let outcome = rebuild(setup, clock, &current, &remains, dry_run);
    let journal_damaged = remains.journal_trouble.is_some();
    let opened = remains.engine.is_some();
    drop(remains);
    let trouble = match &outcome {
        Ok(report) if opened && (dry_run || report.opens()) => check(setup, dry_run),
        _ => None,
    };
    remove_dir(&setup.data.join(LOOK))?;
    let mut report = match outcome {
        Ok(report) => RepairReport { engine_trouble: report.engine_trouble.or(trouble), ..report },
        Err(e) => {
            remove_dir(&setup.data.join(FRESH))?;
            return Err(e);
        }
    };
    if dry_run || !report.opens() {
        remove_dir(&setup.data.join(FRESH))?;
        return Ok(report);
    }
    report.damaged_kept_at = Some(swap(&setup.data)?);
    renew_journal(setup, current.open.vault, journal_damaged)?;
    Ok(report)
}

fn open_remains(setup: &Setup, vault: VaultId, dry_run: bool) -> Result<Remains, VaultError> {
    let (journal, journal_trouble) = match Journal::load(&setup.data, vault) {
        Ok(rows) => (rows, None),
        Err(e @ StoreError::Damaged(_)) => (BTreeMap::new(), Some(e.to_string())),
        Err(e) => return Err(e.into()),
    };
    let mut dir = setup.data.join("store");
    if dry_run && dir.is_dir() {
        // Opening an engine writes to its files.
        dir = setup.data.join(LOOK);
        copy_dir(&setup.data.join("store"), &dir)?;
    }
    let missing = !dir.is_dir() && !matches!(setup.engine, EngineChoice::Given(_));
    let opened = match missing {
        true => Err(StoreError::Damaged("it is missing".into())),
        false => open_engine(setup, &dir),
    };
    let (engine, engine_trouble) = match opened {
        Ok(engine) => (Some(engine), None),
        Err(e @ StoreError::InUse) => return Err(e.into()),
        Err(e) => (None, Some(format!("its files do not open ({e}); what only they held is lost"))),
    };
    Ok(Remains { engine, engine_trouble, journal, journal_trouble })
}

/// What redb says of its whole file. Asked after everything was read, and never if nothing is to be changed: a file
/// that fails this check does not open again, although most of its rows can be read.
fn check(setup: &Setup, dry_run: bool) -> Option<String> {
    if !matches!(setup.engine, EngineChoice::Redb) {
        return None;
    }
    let dir = setup.data.join(if dry_run { LOOK } else { "store" });
    match Redb::open(&dir, setup.engine_cache_bytes).and_then(|mut redb| redb.check()) {
        Ok(true) => None,
        Ok(false) => Some("its file was mended by redb itself".to_owned()),
        Err(e) => Some(format!("its file does not pass its check ({e})")),
    }
}

fn rebuild(
    setup: &Setup,
    clock: &dyn Clock,
    current: &Current,
    remains: &Remains,
    dry_run: bool,
) -> Result<RepairReport, VaultError> {
    let engine = remains.engine.as_deref();
    let (vault, journal) = (current.open.vault, &remains.journal);
    let mut salvage = Salvage { vault, engine, journal, lost: Default::default() };
    salvage.check_belongs(&current.open.payload)?;
    let root = salvage.root_of(current)?;
    let sequence = (engine.and_then(sequence_of).unwrap_or_default(), root.store_seq);
    let fresh: Arc<dyn Engine> = match dry_run {
        true => Arc::new(Memory::new()),
        false => open_engine(setup, &setup.data.join(FRESH))?,
    };
    let report = RepairReport {
        dry_run,
        engine: format!("{:?}", setup.engine),
        engine_trouble: remains.engine_trouble.clone(),
        journal_trouble: remains.journal_trouble.clone(),
        generation: root.generation,
        kept: BTreeMap::new(),
        lost: BTreeMap::new(),
        dropped: BTreeMap::new(),
        lost_nodes: Vec::new(),
        sequence,
        ledger: LedgerState::Lost,
        tenants_without_metadata: 0,
        damaged_kept_at: None,
    };
    let about = (vault, root.generation, clock.now());
    let mut pass = Pass::new(about, engine, journal, Target::new(fresh, dry_run), report);
    pass.target.put(VAULT_HEADER.to_vec(), salvage.header(clock.now()))?;
    salvage.walk(root, &mut |found, key, value| pass.node(found, key, value))?;
    pass.rest(&|path| salvage.is_below_lost(path), (root.ledger_size, root.ledger_root))?;
    let payload = &current.open.payload;
    pass.log((payload.audit_size, payload.audit_head))?;
    // A sequence below the anchor's would pass for an old directory that was put back.
    let newest = current.open.payload.store_seq;
    let (key, value) = sequence_row(sequence.0.max(newest));
    pass.target.put(key, value)?;
    pass.target.flush()?;
    pass.report.lost_nodes = salvage.lost.into_iter().collect();
    if !pass.report.lost_nodes.is_empty() {
        let lost = pass.report.lost_nodes.len() as u64;
        pass.report.lost.insert("nodes, with all below them", lost);
    }
    Ok(pass.report)
}

/// Puts the new store in the place of the old one. Returns where the old one is now.
fn swap(data: &Path) -> Result<PathBuf, StoreError> {
    let (old, fresh) = (data.join("store"), data.join(FRESH));
    sync_dir(&fresh)?;
    let kept = free_name(data, "store.damaged")?;
    if old.exists() {
        let exchanged = renameat_with(CWD, &old, CWD, &fresh, RenameFlags::EXCHANGE);
        if exchanged.is_ok() {
            std::fs::rename(&fresh, &kept).map_err(io_error)?;
        } else {
            // A file system that cannot exchange. Between the two the vault refuses to start and repair can run again.
            std::fs::rename(&old, &kept).map_err(io_error)?;
            std::fs::rename(&fresh, &old).map_err(io_error)?;
        }
    } else {
        std::fs::rename(&fresh, &old).map_err(io_error)?;
    }
    sync_dir(data)?;
    Ok(kept)
}

/// The node journal anew, from the new store's rows.
fn renew_journal(setup: &Setup, vault: VaultId, damaged: bool) -> Result<(), VaultError> {
    if damaged {
        let kept = free_name(&setup.data, "journal.damaged")?;
        std::fs::rename(setup.data.join("journal"), kept).map_err(io_error)?;
        sync_dir(&setup.data)?;
    }
    let engine = open_engine(setup, &setup.data.join("store"))?;
    let mut journal = Journal::open(&setup.data, vault, journaled)?;
    let kinds = (0..=u8::MAX).filter(|kind| journaled(&[*kind]));
    let rows = kinds.flat_map(|kind| Rows::under(engine.clone(), &[kind]));
    let rows: &mut dyn Iterator<Item = Result<Row, StoreError>> = &mut rows.into_iter();
    Ok(journal.compact(rows)?)
}

/// `<stem>-<n>` with the least n that is not taken.
fn free_name(data: &Path, stem: &str) -> Result<PathBuf, StoreError> {
    let names = (1..1_000_000u32).map(|n| data.join(format!("{stem}-{n}")));
    let mut free = names.filter(|path| !path.exists());
    free.next().ok_or_else(|| StoreError::Io("no free name for the damaged files".to_owned()))
}

fn remove_dir(dir: &Path) -> Result<(), StoreError> {
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(io_error(e)),
        _ => Ok(()),
    }
}

fn copy_dir(from: &Path, to: &Path) -> Result<(), StoreError> {
    create_dir(to)?;
    for entry in std::fs::read_dir(from).map_err(io_error)? {
        let entry = entry.map_err(io_error)?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy_dir(&path, &target)?;
        } else {
            std::fs::copy(&path, &target).map_err(io_error)?;
        }
    }
    Ok(())
}

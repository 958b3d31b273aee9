//! The vault of a daemon: made or opened as the configuration says, and closed.
//!
//! Guarantees: a vault is made only when that was asked for, and never over another; a refusal is one precise sentence
//! with what to do next, and holds no key material.

use std::path::PathBuf;
use std::sync::Arc;

use super::{Config, EngineKind, ServerError, Wiring, config};
use crate::class::ErasureLevel;
use crate::clock::Clock;
use crate::keys::KeyError;
use crate::keys::anchor::AnchorError;
use crate::keys::kek::{KekError, KekSource};
use crate::store::{Memory, StoreError};
use crate::vault::{
    EngineChoice, NO_ANCHOR, NO_STORE, OTHER_ENGINE, RepairReport, Setup, Vault, VaultError,
};

/// What to do about a vault that is not there, or is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// Open the one that is there.
    Existing,
    /// Make one where there is none.
    New,
    /// Make one if there is none, else open it.
    Either,
}

/// Why there is no vault to serve. Says what to do next.
#[derive(Debug)]
pub struct OpenProblem {
    data: PathBuf,
    error: VaultError,
}

impl std::error::Error for OpenProblem {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl std::fmt::Display for OpenProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.data.display(), self.error)?;
        next(&self.error).map_or(Ok(()), |next| write!(f, "; {next}"))
    }
}

/// What helps. `None` where the error says it itself.
fn next(error: &VaultError) -> Option<&'static str> {
    match error {
        VaultError::NotFound(_) | VaultError::Keys(KeyError::Anchor(AnchorError::Missing(_))) => {
            Some("to make a new vault start once with --init; else check `data` and `anchor.path`")
        }
        VaultError::Exists(_) => Some("leave out --init to open it, or name another `data`"),
        VaultError::Precondition(NO_ANCHOR) => Some(
            "put the anchor back where `anchor.path` says, without it nothing can be read; \
                 or name an empty `data`",
        ),
        VaultError::Precondition(OTHER_ENGINE) => {
            Some("set `store.engine` to the engine that made the files")
        }
        VaultError::Precondition(NO_STORE) => Some(
            "put the data directory back as it was when the vault last stopped, or restore a backup",
        ),
        VaultError::Damaged(_) => Some("put a backup back, or run `lethed repair`"),
        VaultError::Keys(e) => next_of_keys(e),
        VaultError::Store(e) => next_of_store(e),
        VaultError::Exhausted(_) => Some("raise the limits of the process (threads, memory)"),
        _ => None,
    }
}

fn next_of_keys(error: &KeyError) -> Option<&'static str> {
    match error {
        KeyError::Anchor(AnchorError::Truncated(_) | AnchorError::Swapped) => {
            Some("check `anchor.path`, or put the right anchor file back")
        }
        KeyError::Anchor(AnchorError::Damaged) => {
            Some("check `anchor.path`; a vault that was never served can be removed and made anew")
        }
        KeyError::Anchor(AnchorError::Older { .. } | AnchorError::StoreOlder { .. }) => {
            Some("put the anchor and the data of one moment together")
        }
        KeyError::Anchor(AnchorError::Foreign { .. }) => {
            Some("check that `anchor.path` and `data` are of one vault")
        }
        KeyError::Anchor(AnchorError::Medium(_)) => {
            Some("move it to ext4 or XFS without reflinks, or set anchor.require = \"any\"")
        }
        KeyError::Kek(KekError::Missing(_)) => Some(
            "put the key file back from where it is kept apart: without it nothing of the vault can be read",
        ),
        KeyError::Memory(_) => Some("raise the limit of locked memory (LimitMEMLOCK, ulimit -l)"),
        KeyError::Store(e) => next_of_store(e),
        _ => None,
    }
}

fn next_of_store(error: &StoreError) -> Option<&'static str> {
    match error {
        StoreError::InUse => Some("stop the other lethed, or name another `data`"),
        StoreError::DiskFull => Some("free some space and start again"),
        StoreError::Io(_) => Some("check that the directory exists and is this user's"),
        _ => None,
    }
}

/// A configuration in the vault's terms.
fn setup(config: &Config) -> Result<Setup, VaultError> {
    let engine = match config.engine {
        EngineKind::Sled => EngineChoice::Sled,
        EngineKind::Redb => EngineChoice::Redb,
        EngineKind::Memory => EngineChoice::Given(Arc::new(Memory::new())),
    };
    let kek = match &config.kek {
        config::KekSource::File(path) => KekSource::File(path.clone()),
        config::KekSource::Credential(name) => {
            KekSource::credential(name).map_err(KeyError::from)?
        }
    };
    let mut setup = Setup::new(config.data.clone(), config.anchor.clone(), engine, kek);
    setup.require_e1 = config.anchor_require == config::AnchorRequire::E1;
    setup.audit_reads = config.audit_reads;
    setup.audit_retain = config.audit_retain;
    setup.keeper = config.retention.clone();
    Ok(setup)
}

/// [`crate::vault::repair`] of a configuration's vault.
pub fn repair(
    config: &Config,
    clock: &dyn Clock,
    dry_run: bool,
) -> Result<RepairReport, ServerError> {
    let repaired = setup(config).and_then(|s| crate::vault::repair(&s, clock, dry_run));
    repaired.map_err(|error| ServerError::Vault(OpenProblem { data: config.data.clone(), error }))
}

/// The vault of a configuration. Recovery may take a while; it runs on a thread that may block.
pub async fn open(
    config: &Config,
    wiring: &Wiring,
    opening: Opening,
) -> Result<Arc<Vault>, ServerError> {
    let problem = |error| ServerError::Vault(OpenProblem { data: config.data.clone(), error });
    let mut setup = setup(config).map_err(problem)?;
    setup.witnesses = super::witnesses::of(config)?;
    setup.metrics = Arc::clone(&wiring.metrics);
    let clock = Arc::clone(&wiring.clock);
    let opened = tokio::task::spawn_blocking(move || {
        let make = match opening {
            Opening::Existing => false,
            Opening::New => true,
            Opening::Either => !setup.anchor.exists(),
        };
        if make { Vault::create(&setup, clock) } else { Vault::open(&setup, clock) }
    });
    let vault = opened.await.map_err(|_| ServerError::Task("opening the vault"))?;
    let vault = Arc::new(vault.map_err(problem)?);
    tracing::info!(level = level_name(vault.advertised_level()), "the vault is open");
    vault.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
    Ok(vault)
}

/// Finishes what is under way and marks the anchor clean.
pub async fn close(config: &Config, vault: Arc<Vault>) -> Result<(), ServerError> {
    let closed = tokio::task::spawn_blocking(move || vault.close()).await;
    let closed = closed.map_err(|_| ServerError::Task("closing the vault"))?;
    closed.map_err(|error| ServerError::Vault(OpenProblem { data: config.data.clone(), error }))
}

/// What receipts reach, for people.
pub fn level_name(level: ErasureLevel) -> &'static str {
    match level {
        ErasureLevel::Tombstoned => "E0 (reads refuse)",
        ErasureLevel::LocalAnchor => "E1 (the keys exist nowhere in this vault)",
        ErasureLevel::AllAnchors => "E2 (the keys exist on no replica)",
        ErasureLevel::Collected => "E3 (the ciphertext is collected too)",
    }
}

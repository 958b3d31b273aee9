//! What operators and auditors see: state and buckets.

use super::core::Vault;
use super::error::VaultError;
use super::retention::time::ClockState;
use super::slug::Slug;
use crate::audit::Act;
use crate::authz::{Permit, ReadBuckets, ReadMetrics, ReadStatus};
use crate::class::{ErasureLevel, Medium};
use crate::clock::UnixMillis;
use crate::id::{Day, Gen, TypeOrd, VaultId};

/// The vault's state.
#[derive(Clone, Debug)]
pub struct Status {
    pub vault: VaultId,
    pub engine: &'static str,
    pub generation: Gen,
    pub ledger_size: u64,
    pub ledger_root: [u8; 32],
    pub level: ErasureLevel,
    pub warnings: Vec<String>,
    pub started: UnixMillis,
    pub tenants: u64,
    pub pending_erasures: u64,
    pub public_key: [u8; 32],
    pub counters: Vec<(&'static str, u64)>,
}

/// A retention bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketInfo {
    /// `None`: the built-in type of subjects.
    pub rtype: Option<Slug>,
    pub expires: Day,
}

/// Buckets, and where the next page starts.
pub type BucketPage = (Vec<BucketInfo>, Option<(TypeOrd, Day)>);

/// Numbers without names, for whoever watches the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gauges {
    pub tenants: usize,
    pub pending_erasures: usize,
    /// Batches that wait for the disk.
    pub queued: usize,
    pub disk_full: bool,
    pub damaged: usize,
}

/// What the operator is to know of the clock.
fn clock_warning(state: ClockState) -> Option<&'static str> {
    match state {
        ClockState::Sound => None,
        ClockState::Ahead => Some(
            "the machine's clock was set forward: retention goes by the vault's own count of time; if the clock is \
             right, run `lethectl retention confirm-clock`",
        ),
        ClockState::Behind => Some(
            "the machine's clock was set back: nothing is erased by retention before it says so too; set it right, or \
             if it is right, run `lethectl retention confirm-clock`",
        ),
        ClockState::Unconfirmed => Some(
            "the machine's clock is far ahead of when the vault last ran: retention erases nothing until someone has \
             looked at it and run `lethectl retention confirm-clock`",
        ),
    }
}

impl Vault {
    /// Cheap: nothing is read from the store.
    pub fn gauges(&self) -> Gauges {
        let core = &*self.core;
        Gauges {
            tenants: core.registry.all().len(),
            pending_erasures: core.superseded.len(),
            queued: core.tree.store().queued(),
            disk_full: core.tree.store().is_full(),
            damaged: core.count_damaged(),
        }
    }

    /// Whether calls are served: no write has failed.
    pub fn is_running(&self) -> bool {
        self.core.tree.check_running().is_ok() && !self.core.tree.store().stopped()
    }

    /// The level that receipts reach on this anchor's medium.
    pub fn advertised_level(&self) -> ErasureLevel {
        match self.core.tree.medium().0 {
            Medium::InPlaceFile => ErasureLevel::LocalAnchor,
            Medium::MayKeepOldBlocks => ErasureLevel::Tombstoned,
        }
    }

    /// What needed attention when the vault was opened.
    pub fn warnings(&self) -> &[String] {
        &self.core.warnings
    }

    pub fn status(&self, permit: &Permit<ReadStatus>) -> Result<Status, VaultError> {
        let core = &*self.core;
        // Also a vault that stopped, and so has no log, says why.
        if self.is_running() {
            core.note(&core.entry(permit, Act::GetStatus))?;
        }
        let (ledger_size, ledger_root) = core.tree.ledger();
        let mut warnings = core.warnings.clone();
        warnings.extend(core.metrics.notices.list());
        if !self.is_running() {
            warnings.push("the vault stopped after a failed write; restart it".to_owned());
        }
        if core.tree.store().is_full() {
            warnings.push(
                "the disk is almost full: puts are refused until there is room; erasures go on"
                    .to_owned(),
            );
        }
        warnings.extend(clock_warning(core.time.state(&*core.clock)).map(str::to_owned));
        let (_, _, unreadable) = core.holds.totals();
        if unreadable > 0 {
            warnings.push(format!(
                "{unreadable} legal holds do not open: nothing of their tenants is erased; restore them, and restart"
            ));
        }
        let damaged = core.count_damaged();
        if damaged > 0 {
            warnings.push(format!(
                "{damaged} records do not open, since their rows are damaged: `lethectl record list` names them; \
                 restore them, or erase them and write them again"
            ));
        }
        Ok(Status {
            vault: core.vault(),
            engine: core.tree.store().engine_name(),
            generation: core.tree.generation(),
            ledger_size,
            ledger_root,
            level: self.advertised_level(),
            warnings,
            started: core.started,
            tenants: core.registry.all().len() as u64,
            pending_erasures: core.superseded.len() as u64,
            public_key: core.tree.read().signer()?.public_key(),
            counters: core.metrics.snapshot(),
        })
    }

    /// Tells the log that someone is given the metrics, which the vault itself does not have.
    pub fn metrics_read(&self, permit: &Permit<ReadMetrics>) -> Result<(), VaultError> {
        self.core.note(&self.core.entry(permit, Act::GetMetrics))
    }

    /// Buckets of a tenant in the order of type and day, after `after`.
    pub fn list_buckets(
        &self,
        permit: &Permit<ReadBuckets>,
        tenant: &str,
        after: Option<(TypeOrd, Day)>,
        page_size: usize,
    ) -> Result<BucketPage, VaultError> {
        let tenant = self.core.tenant(permit, tenant)?;
        self.core.note(&self.core.entry(permit, Act::ListBuckets).of(tenant.ord))?;
        let keys: Vec<(TypeOrd, Day)> = {
            let state = tenant.state();
            // What holds took out of its bucket has no day by which anyone could name it.
            let named = state.buckets.keys().filter(|(_, day)| *day != Day::HELD);
            let later = named.filter(|k| after.is_none_or(|a| **k > a));
            later.copied().take(page_size + 1).collect()
        };
        let more = keys.len() > page_size;
        let page = keys.get(..page_size.min(keys.len())).unwrap_or_default();
        let next = page.last().copied().filter(|_| more);
        let infos = page.iter().map(|(rtype, expires)| BucketInfo {
            rtype: tenant.schema_of(*rtype).map(|s| s.type_name().clone()),
            expires: *expires,
        });
        Ok((infos.collect(), next))
    }
}

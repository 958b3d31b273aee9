//! Entries of the two logs, as who holds a copy of one reads them: each must be what docs/FORMAT.md says and stand in
//! its place.

use crate::audit::{Entry, Kind};
use crate::class::Log;
use crate::clock::UnixMillis;
use crate::id::Gen;
use crate::vault::check_leaf;

/// What the entries that were read so far say.
#[derive(Debug, Default)]
pub struct Tally {
    /// Of the audit log.
    pub calls: u64,
    pub refusals: u64,
    pub gaps: Vec<(UnixMillis, UnixMillis)>,
    /// The first entry that was read.
    pub begins: u64,
    /// Before which entry the log says that it was pruned, the last time that it does.
    pruned: u64,
    /// Of the ledger: the generation of the last batch.
    generation: Gen,
}

impl Tally {
    /// Takes the entry at `index`; why it does not hold, if so.
    pub fn take(&mut self, log: Log, leaf: &[u8], index: u64) -> Result<(), String> {
        match log {
            Log::Audit => self.audit(leaf, index).map(drop),
            Log::Ledger => self.ledger(leaf, index),
        }
    }

    pub fn audit(&mut self, leaf: &[u8], index: u64) -> Result<Entry, String> {
        let entry = Entry::decode(leaf).map_err(|e| format!("does not hold: {e}"))?;
        if entry.seq != index {
            return Err("is not the entry that follows".to_owned());
        }
        match entry.kind {
            Kind::Call if entry.part == 0 => self.calls += 1,
            Kind::Refusals => self.refusals += u64::from(entry.total),
            Kind::Gap => self.gaps.push((entry.since, entry.at)),
            Kind::Call | Kind::Vault => {}
        }
        self.pruned = self.pruned.max(entry.minimum_index().unwrap_or_default());
        Ok(entry)
    }

    /// What was read began at an entry: whether one of them says that those before were pruned; else why not.
    pub fn begin_at(&mut self, begins: u64) -> Result<(), String> {
        self.begins = begins;
        match begins <= self.pruned {
            true => Ok(()),
            false => Err(format!(
                "it begins at entry {begins}, and no entry says that those before were pruned: they were taken away"
            )),
        }
    }

    fn ledger(&mut self, leaf: &[u8], index: u64) -> Result<(), String> {
        let facts = check_leaf(leaf, index).map_err(|e| format!("does not hold: {e}"))?;
        if facts.is_level {
            return Ok(());
        }
        if facts.generation < self.generation {
            return Err("is of an earlier generation than the one before it".to_owned());
        }
        self.generation = facts.generation;
        Ok(())
    }
}

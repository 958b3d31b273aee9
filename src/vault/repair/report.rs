//! What a repair found, for people: counts, kinds and ordinals, never the id of a record.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use crate::id::Gen;
use crate::keys::path::{NodeKind, Path};

/// What is left of the erasure ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LedgerState {
    /// Every leaf is there and together they are what the anchor says.
    Whole,
    /// Its head is; of the leaves some are missing or changed. Erasures go on, old receipts cannot all be issued again.
    HeadOnly,
    /// Neither agrees with the anchor.
    Lost,
}

/// Lost nodes that are named one by one.
const NODES_NAMED_MAX: usize = 20;

/// What a repair found and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairReport {
    pub dry_run: bool,
    pub engine: String,
    /// Why the engine's files did not open or passed no check.
    pub engine_trouble: Option<String>,
    pub journal_trouble: Option<String>,
    pub generation: Gen,
    pub kept: BTreeMap<&'static str, u64>,
    pub lost: BTreeMap<&'static str, u64>,
    /// Left out because they were erased or superseded, or belong to nothing.
    pub dropped: BTreeMap<&'static str, u64>,
    pub lost_nodes: Vec<Path>,
    /// The commit sequence of the damaged store (0: unreadable), and what the anchor had seen.
    pub sequence: (u64, u64),
    pub ledger: LedgerState,
    /// Tenants whose name and schemas do not open.
    pub tenants_without_metadata: u64,
    /// Where the damaged files are now.
    pub damaged_kept_at: Option<PathBuf>,
}

impl RepairReport {
    /// Without a bucket's or tenant's node nobody could say what is missing from an answer, so the vault does not open.
    /// A page costs its records alone, and an index is made anew.
    fn is_essential(kind: NodeKind) -> bool {
        kind != NodeKind::Page && !kind.is_index()
    }

    /// Whether a vault with what was saved opens.
    pub fn opens(&self) -> bool {
        let tree = self.lost_nodes.iter().all(|p| !Self::is_essential(p.kind));
        tree && self.ledger != LedgerState::Lost && self.tenants_without_metadata == 0
    }

    /// Whether nothing at all is missing, as far as anyone can tell.
    pub fn whole(&self) -> bool {
        self.opens()
            && self.lost.values().all(|n| *n == 0)
            && self.ledger == LedgerState::Whole
            && self.sequence.0 >= self.sequence.1
            && self.engine_trouble.is_none()
    }

    /// What to do now.
    pub fn next(&self) -> Vec<String> {
        let mut steps = Vec::new();
        match (self.opens(), self.dry_run) {
            (false, _) => steps.push(
                "nothing was changed, because the vault would not open with what is left: restore it from a backup; \
                 keep the data directory, the anchor and the KEK as they are"
                    .to_owned(),
            ),
            (true, true) => steps
                .push("nothing was changed; run the command again without --dry-run".to_owned()),
            (true, false) => steps.push("start lethed".to_owned()),
        }
        if let (Some(at), true) = (&self.damaged_kept_at, self.opens()) {
            steps.push(format!(
                "the damaged files are at {}; they hold ciphertext only; delete them when all is well",
                at.display()
            ));
        }
        if self.lost.contains_key("records") {
            steps.push(
                "records that are listed as lost answer DATA_LOSS; write them again, or erase them by name".to_owned(),
            );
        }
        if self.ledger == LedgerState::HeadOnly {
            steps.push(
                "receipts of some earlier erasures cannot be issued again: ask their holders for copies".to_owned(),
            );
        }
        steps
    }
}

fn list(f: &mut fmt::Formatter<'_>, title: &str, counts: &BTreeMap<&str, u64>) -> fmt::Result {
    let counts: Vec<String> =
        counts.iter().filter(|(_, n)| **n > 0).map(|(what, n)| format!("{n} {what}")).collect();
    let counts = if counts.is_empty() { "nothing".to_owned() } else { counts.join(", ") };
    writeln!(f, "{title}: {counts}")
}

impl fmt::Display for RepairReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "generation {} of the anchor counts; nothing erased comes back",
            self.generation.0
        )?;
        if let Some(why) = &self.engine_trouble {
            writeln!(f, "{}: {why}", self.engine)?;
        }
        if let Some(why) = &self.journal_trouble {
            writeln!(f, "node journal: {why}")?;
        }
        list(f, "kept", &self.kept)?;
        list(f, "lost", &self.lost)?;
        list(f, "left out as erased or superseded", &self.dropped)?;
        for path in self.lost_nodes.iter().take(NODES_NAMED_MAX) {
            writeln!(
                f,
                "lost: {:?} node, tenant {}, bucket {}, run {}, level {}, ordinal {}",
                path.kind,
                path.tenant.value(),
                path.bucket.value(),
                path.run.value(),
                path.level,
                path.ord
            )?;
        }
        if self.lost_nodes.len() > NODES_NAMED_MAX {
            writeln!(f, "lost: {} more nodes", self.lost_nodes.len() - NODES_NAMED_MAX)?;
        }
        let (store, anchor) = self.sequence;
        if store < anchor {
            writeln!(
                f,
                "the store had forgotten writes: commit sequence {store}, \
                 the anchor has seen {anchor}; records written \
                 or changed in between are lost or as they were before"
            )?;
        }
        let ledger = match self.ledger {
            LedgerState::Whole => "whole",
            LedgerState::HeadOnly => {
                "its head agrees with the anchor, some leaves are missing or changed"
            }
            LedgerState::Lost => "lost: neither its leaves nor its head agree with the anchor",
        };
        writeln!(f, "erasure ledger: {ledger}")?;
        if self.tenants_without_metadata > 0 {
            writeln!(f, "lost: name and schemas of {} tenants", self.tenants_without_metadata)?;
        }
        self.next().iter().try_for_each(|step| writeln!(f, "next: {step}"))
    }
}

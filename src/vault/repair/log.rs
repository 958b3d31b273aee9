//! What a repair keeps of the audit log: every entry that is whole, and an end that the log can go on from.
//!
//! Guarantees: entries keep their numbers; where the log cannot be continued from what the anchor has seen, that is
//! said in a row that only this anchor's log is excused by, and the log tells of it at the next start.

use super::rows::{Pass, count};
use crate::audit::{self, entries_in, first_in, pruned};
use crate::crypto::Digest32;
use crate::crypto::merkle::{Frontier, leaf_hash};
use crate::keys::rows::{LOG_WAIVER, log_waiver};
use crate::store::sum::{checked, with_sum};
use crate::vault::error::VaultError;

impl Pass<'_> {
    /// Keeps what stays of pruned entries. The tree over them, if it is whole.
    fn pruned(&mut self) -> Result<Option<Frontier>, VaultError> {
        let mut rows = Vec::new();
        self.each(b"z", &mut |pass, row| {
            rows.push(row.clone());
            Ok(pass.target.put(row.key, row.value)?)
        })?;
        let tree = pruned::frontier(&|from, to, most| {
            let within = rows.iter().filter(|row| from <= &row.key[..] && &row.key[..] < to);
            Ok(within.take(most).cloned().collect())
        })?;
        if tree.is_none() {
            count(&mut self.report.lost, "hashes of pruned audit entries");
        }
        Ok(tree)
    }

    /// `bound` is the log as the anchor has seen it.
    pub(super) fn log(&mut self, bound: (u64, Digest32)) -> Result<(), VaultError> {
        let end = self.row(audit::FRONTIER_KEY);
        let end = end.as_deref().and_then(checked).and_then(Frontier::decode);
        let end = end.filter(|f| f.size() >= bound.0);
        let pruned = self.pruned()?;
        // Built anew from what was pruned and the first entry on, as far as they follow each other.
        let mut built = pruned.unwrap_or_default();
        self.each(b"a", &mut |pass, row| {
            let Some((first, entries)) = first_in(&row.key).zip(entries_in(&row.value)) else {
                count(&mut pass.report.lost, "rows of the audit log");
                return Ok(());
            };
            let follows = first == built.size();
            if follows {
                entries.into_iter().for_each(|entry| built.push(leaf_hash(entry)));
            }
            if follows || end.is_some() {
                count(&mut pass.report.kept, "rows of the audit log");
                pass.target.put(row.key, row.value)?;
            } else {
                // Without the end of the log its numbers would be given out again.
                count(&mut pass.report.lost, "rows of the audit log");
            }
            Ok(())
        })?;
        // Of a witness's word the vault hands out only what fits the log.
        for kind in [b"n", b"c"] {
            self.each(kind, &mut |pass, row| Ok(pass.target.put(row.key, row.value)?))?;
        }
        // When the log's entries are old enough to go.
        self.each(b"j", &mut |pass, row| Ok(pass.target.put(row.key, row.value)?))?;
        let end = end.unwrap_or(built);
        if end.size() > 0 {
            self.target.put(audit::FRONTIER_KEY.to_vec(), with_sum(end.encode()))?;
        }
        let continues = end.size() > bound.0 || (end.size(), end.root()) == bound;
        if !continues {
            let lost = bound.0.saturating_sub(end.size());
            *self.report.lost.entry("entries of the audit log").or_default() += lost;
            self.target.put(LOG_WAIVER.to_vec(), log_waiver(bound))?;
        }
        Ok(())
    }
}

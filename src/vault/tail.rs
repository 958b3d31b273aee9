//! The audit log while it grows: entries are given as they become durable, and none before.
//!
//! Invariants: who follows gets each entry that it may see once and in order, from where it began; what it has looked
//! at it can name, and go on from there. A tail is one entry of the log, at its beginning, and none for what it gives.

use tokio::sync::watch;

use super::audited::{AuditFilter, AuditLine};
use super::core::Vault;
use super::error::VaultError;
use crate::audit::{Act, Entry};
use crate::authz::{Permit, ReadAudit};
use crate::store::LogHead;

/// Follows the log.
pub struct Tail {
    heads: watch::Receiver<Option<LogHead>>,
    /// What it has not looked at yet begins here.
    next: u64,
}

impl Tail {
    pub fn next_index(&self) -> u64 {
        self.next
    }

    /// Returns once the log has what this has not looked at; fails once the vault is gone.
    pub async fn grown(&mut self) -> Result<(), VaultError> {
        let next = self.next;
        let grown = self.heads.wait_for(|head| head.is_some_and(|(size, _)| size > next)).await;
        grown.map(drop).map_err(|_| VaultError::Stopping)
    }
}

impl Vault {
    /// Follows the log from an index on; `None`: from its present end.
    pub fn audit_tail(
        &self,
        permit: &Permit<ReadAudit>,
        filter: &AuditFilter,
        start: Option<u64>,
    ) -> Result<Tail, VaultError> {
        let core = &*self.core;
        let wanted = core.wanted(permit, filter)?;
        let heads = core.tree.store().log_heads();
        let size = core.log_size()?;
        if start.is_some_and(|start| start > size) {
            let reason = "is after the end of the log";
            return Err(VaultError::Argument { field: "start_index", reason });
        }
        start.map_or(Ok(()), |start| core.check_kept(start))?;
        core.note(&Entry { tenant: wanted.tenant, ..core.entry(permit, Act::TailAuditEntries) })?;
        core.metrics.audit_tails.one();
        Ok(Tail { heads, next: start.unwrap_or(size) })
    }

    /// What a tail has not looked at, as far as one part of an answer goes: those entries that this permit lets its
    /// holder see and the filter wants. What the filter names is looked up anew.
    pub fn audit_tail_part(
        &self,
        permit: &Permit<ReadAudit>,
        filter: &AuditFilter,
        tail: &mut Tail,
    ) -> Result<Vec<AuditLine>, VaultError> {
        let wanted = self.core.wanted(permit, filter)?;
        let size = self.core.log_size()?;
        let admits = |line: &AuditLine| wanted.admits(permit, line);
        let (lines, next) = self.core.log_part(tail.next, size, admits)?;
        tail.next = next;
        Ok(lines)
    }
}

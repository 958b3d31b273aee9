//! Accepting erasures: what a legal hold keeps is postponed, the rest goes to the eraser.
//!
//! Invariants: whether something is held is judged under the locks under which it is erased; what is postponed is on
//! disk before anything is erased with it; a subject waits for its last record.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Allowed, Answer, Doomed, Eraser, Erasure, Job};
use crate::audit::{Act, Entry, Member};
use crate::class::ErasureReason;
use crate::id::{RecVer, RecordId, TypeOrd};
use crate::limits;
use crate::vault::core::Core;
use crate::vault::current::Sort;
use crate::vault::error::VaultError;
use crate::vault::holds::postponed::Postponed;
use crate::vault::ledger::Receipt;
use crate::vault::registry::Tenant;
use crate::vault::rows::Intent;
use crate::vault::watch::{Change, ChangeKind};

/// What is to be erased, by sort and name.
pub type Named = (Sort, RecordId);

/// What erasures need of the vault.
#[derive(Clone, Copy)]
pub struct Erasures<'a> {
    pub core: &'a Core,
    pub eraser: &'a Eraser,
}

impl Erasures<'_> {
    /// Erases what is not held as a unit, and postpones the rest. Whoever calls holds the tenant's `writing` for
    /// reading.
    pub async fn erase(
        self,
        tenant: &Arc<Tenant>,
        records: &[Named],
        why: (ErasureReason, Option<RecVer>),
        (entry, allowed): (Entry, &Allowed<'_>),
    ) -> Result<Erasure<Receipt>, VaultError> {
        let told = (entry.clone(), allowed);
        match self.erase_present(tenant, records, why, told).await {
            // One went with its bucket meanwhile: then there is evidence of that.
            Err(VaultError::Erased(_)) => {
                self.erase_present(tenant, records, why, (entry, allowed)).await
            }
            other => other,
        }
    }

    async fn erase_present(
        self,
        tenant: &Arc<Tenant>,
        records: &[Named],
        (reason, etag): (ErasureReason, Option<RecVer>),
        (entry, allowed): (Entry, &Allowed<'_>),
    ) -> Result<Erasure<Receipt>, VaultError> {
        let core = self.core;
        let ids: Vec<RecordId> = records.iter().map(|(_, r)| *r).collect();
        let _held = core.lock_records(&ids).await;
        let requested = core.clock.now();
        let (mut going, mut kept) = (Vec::new(), Vec::new());
        let mut done = Vec::with_capacity(records.len());
        // A subject comes before its records, and whether it can go is known after them.
        let last_first = |at: &usize| records.get(*at).is_some_and(|(s, _)| *s == Sort::Subject);
        let mut order: Vec<usize> = (0..records.len()).collect();
        order.sort_by_key(last_first);
        done.resize_with(records.len(), || None);
        for at in order {
            let Some(record) = records.get(at).copied() else { continue };
            let outcome = match core.find_erased(tenant, record, allowed).map_err(|e| e.at(at))? {
                Some(receipt) => Outcome::Erased(receipt),
                None => {
                    // What was asked for while it was held counts from then.
                    let before = core.holds.postponed(tenant.ord, record.1);
                    let (reason, requested) =
                        before.map_or((reason, requested), |p| (p.reason, p.requested));
                    let why = (reason, requested, etag);
                    let units = core.condemn(tenant, record, why, allowed);
                    let units = units.map_err(|e| e.at(at))?;
                    let waits = record.0 == Sort::Subject && !kept.is_empty();
                    if waits || core.is_kept(tenant, record).map_err(|e| e.at(at))? {
                        let whole = units.iter().find(|d| d.whole);
                        let rtype = whole.map_or(TypeOrd(0), |d| d.rtype);
                        let asker = entry.principal;
                        let asked = Postponed { rtype, reason, requested, asker };
                        kept.push((record.1, asked, whole.map(|d| d.member).unwrap_or_default()));
                        Outcome::Postponed
                    } else {
                        going.push((at, units));
                        Outcome::Doomed
                    }
                }
            };
            if let Some(place) = done.get_mut(at) {
                *place = Some(outcome);
            }
        }
        going.sort_by_key(|(at, _)| *at);
        let mut doomed: Vec<Doomed> = going.into_iter().flat_map(|(_, units)| units).collect();
        let postponed = self.postpone(tenant, kept, &entry).await?;
        // Nothing failed: from here on the old versions are ours, but for those that a batch is erasing already.
        doomed.retain(|d| d.whole || core.superseded.take_kid(d.kid).is_some());
        let whole = doomed.iter().filter(|d| d.whole);
        let entry = entry.about(whole.map(|d| (Some(d.rtype), d.member)));
        let mut fresh = Vec::new();
        if doomed.is_empty() {
            core.note(&entry)?;
        } else {
            let kinds: Vec<_> =
                doomed.iter().filter(|d| d.whole).map(|d| (d.record, d.rtype)).collect();
            let marked: BTreeSet<RecordId> = doomed.iter().map(|d| d.record).collect();
            let _erasing = core.mark_erasing(marked.into_iter().collect());
            let (answer, answered) = oneshot::channel();
            self.send_units(doomed, Some(entry), answer)?;
            let receipts = answered.await.map_err(|_| VaultError::Stopping)??;
            kinds.iter().for_each(|(record, _)| core.holds.settle(tenant.ord, *record));
            self.tell_erased(tenant, &kinds);
            fresh = kinds.into_iter().map(|(record, _)| record).zip(receipts).collect();
        }
        let mut receipts = Vec::with_capacity(records.len());
        for (outcome, (_, record)) in done.into_iter().zip(records) {
            match outcome.ok_or(VaultError::Stopping)? {
                Outcome::Erased(receipt) => receipts.push(receipt),
                Outcome::Postponed => {}
                Outcome::Doomed => {
                    let at = fresh.iter().position(|(r, _)| r == record);
                    let (_, receipt) = fresh.swap_remove(at.ok_or(VaultError::Stopping)?);
                    receipts.push(receipt);
                }
            }
        }
        Ok(Erasure { receipts, postponed })
    }

    /// Keeps the erasure of what is held, unless that was done before. Answers with what waits now.
    async fn postpone(
        self,
        tenant: &Tenant,
        kept: Vec<(RecordId, Postponed, Member)>,
        entry: &Entry,
    ) -> Result<Vec<(RecordId, Postponed)>, VaultError> {
        let known = |record| self.core.holds.postponed(tenant.ord, record);
        let fresh = kept.iter().filter(|(record, ..)| known(*record).is_none());
        let (rows, about): (Vec<_>, Vec<_>) =
            fresh.map(|(record, p, member)| ((*record, *p), (Some(p.rtype), *member))).unzip();
        if !rows.is_empty() {
            let told = Entry { act: Act::PostponeErasure, ..entry.clone() }.about(about);
            self.core.postpone(tenant, &rows, told).await?;
        }
        Ok(kept.into_iter().map(|(r, asked, _)| (r, known(r).unwrap_or(asked))).collect())
    }

    fn tell_erased(self, tenant: &Tenant, erased: &[(RecordId, TypeOrd)]) {
        let (kind, at) = (ChangeKind::Erased, self.core.clock.now());
        for (record, rtype) in erased {
            self.core.watch.tell(tenant.ord, || {
                let rtype = tenant.schema_of(*rtype).map(|s| s.type_name().clone());
                Change { kind, record: Some(*record), rtype, expires: None, at }
            });
        }
    }

    /// Hands units to the eraser; old versions that it does not take wait on.
    pub fn send_units(
        self,
        doomed: Vec<Doomed>,
        entry: Option<Entry>,
        answer: Answer<Vec<Receipt>>,
    ) -> Result<(), VaultError> {
        let old: Vec<Intent> = doomed.iter().filter_map(Doomed::intent).collect();
        let sent = self.eraser.send(Job::Units(doomed, entry, answer));
        if sent.is_err() {
            old.into_iter().for_each(|i| self.core.superseded.add(i));
        }
        sent
    }

    /// Carries out postponed erasures of a tenant that nothing keeps any more. Answers whether some may be left to look
    /// at.
    pub async fn run_postponed(
        self,
        tenant: &Arc<Tenant>,
        after: &mut Option<RecordId>,
    ) -> Result<bool, VaultError> {
        let core = self.core;
        let some = core.holds.all_postponed(tenant.ord, *after, limits::POSTPONED_STEP);
        for (record, postponed) in &some {
            let _writing = tenant.writing.read().await;
            let named = (postponed.sort(), *record);
            if core.is_kept(tenant, named)? || self.has_records(tenant, named)? {
                continue;
            }
            let (entry, all): (_, &Allowed<'_>) = (core.of_release(tenant, postponed), &|_| Ok(()));
            match self.erase(tenant, &[named], (postponed.reason, None), (entry, all)).await {
                Ok(done) if done.receipts.is_empty() => {}
                // Also what went with its bucket meanwhile waits no more.
                Ok(_) => core.forget_postponed(tenant, *record).await?,
                Err(VaultError::At { error, .. }) if error.is_of_one_record() => {
                    tracing::error!(%error, "a postponed erasure cannot be carried out");
                }
                Err(e) => return Err(e),
            }
        }
        *after = some.last().map(|(record, _)| *record);
        Ok(some.len() == limits::POSTPONED_STEP)
    }

    /// Whether a subject still has records.
    fn has_records(self, tenant: &Tenant, (sort, id): Named) -> Result<bool, VaultError> {
        Ok(sort == Sort::Subject && !self.core.records_about(tenant, id)?.is_empty())
    }
}

/// What is to become of one of those that a caller named.
enum Outcome {
    Erased(Receipt),
    Postponed,
    Doomed,
}

//! The sweep: what is due goes, all tenants' in one anchor batch.
//!
//! Order: a bucket is closed and listed by the rules in force while there is still time; when its day is over it is
//! killed by those same rules, or looked at again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::keeper::Worker;
use super::survey::Survey;
use super::zone::end_in_utc;
use crate::audit::{Act, Entry, Kind};
use crate::class::ErasureReason;
use crate::clock::UnixMillis;
use crate::id::{BucketOrd, Day, RecordId, TypeOrd};
use crate::keys::slots::BucketId;
use crate::limits;
use crate::vault::erase::{Condemned, Fate, Job};
use crate::vault::error::VaultError;
use crate::vault::ledger::Receipt;
use crate::vault::registry::Tenant;
use crate::vault::slug::Slug;

/// How often a sweep begins anew because the rules changed under it.
const LOOKS: usize = 8;

/// What a sweep did.
#[derive(Default)]
pub struct Swept {
    pub gone: Vec<Gone>,
    /// Buckets that were due and could not be killed; they are tried again.
    pub failed: usize,
}

/// The buckets of a type and day that went.
pub struct Gone {
    pub tenant: Slug,
    pub rtype: Slug,
    pub expires: Day,
    pub records: u64,
    pub receipt: Receipt,
}

/// What a sweep would do.
#[derive(Default)]
pub struct Outlook {
    pub due: Vec<DueBucket>,
}

/// The buckets of a type and day that are due.
pub struct DueBucket {
    pub tenant: Slug,
    pub rtype: Slug,
    pub expires: Day,
    pub survey: Survey,
}

/// What sweeps did since the start.
#[derive(Clone, Debug, Default)]
pub struct SweepState {
    pub last: Option<UnixMillis>,
    /// Buckets that are due now.
    pub due: usize,
    /// Of each bucket that went, how late that was, in milliseconds; the last `limits::LATENESS_KEPT`.
    lateness: VecDeque<u64>,
}

impl SweepState {
    /// The median and the 99th percentile of how late buckets went, in milliseconds; `None` if none went yet.
    pub fn lateness(&self) -> Option<(u64, u64)> {
        let mut all: Vec<u64> = self.lateness.iter().copied().collect();
        all.sort_unstable();
        let at = |percent: usize| all.get((all.len() * percent).div_ceil(100).max(1) - 1).copied();
        Some((at(50)?, at(99)?))
    }

    fn add(&mut self, late: u64) {
        if self.lateness.len() >= limits::LATENESS_KEPT {
            self.lateness.pop_front();
        }
        self.lateness.push_back(late);
    }
}

/// The same, shared.
#[derive(Default)]
pub struct Sweeps(Mutex<SweepState>);

impl Sweeps {
    fn lock(&self) -> MutexGuard<'_, SweepState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn state(&self) -> SweepState {
        self.lock().clone()
    }
}

/// A type's and day's buckets.
struct Bucketful {
    tenant: Arc<Tenant>,
    key: (TypeOrd, Day),
    ords: Vec<BucketOrd>,
}

impl Bucketful {
    fn due(&self) -> UnixMillis {
        end_in_utc(self.key.1)
    }

    fn buckets(&self) -> impl Iterator<Item = BucketId> {
        self.ords.iter().map(|ord| (self.tenant.ord, *ord))
    }
}

impl Worker {
    /// What is due by then, the oldest first.
    fn due_by(&self, then: UnixMillis) -> Vec<Bucketful> {
        let mut found = Vec::new();
        for tenant in self.core.registry.all() {
            let state = tenant.state();
            let dated = state.buckets.iter().filter(|((_, day), _)| *day != Day::OPEN_ENDED);
            for (key, ords) in dated.filter(|((_, day), _)| end_in_utc(*day) <= then) {
                found.push(Bucketful { tenant: tenant.clone(), key: *key, ords: ords.clone() });
            }
        }
        found.sort_by_key(Bucketful::due);
        found
    }

    /// Closes what is due soon and has what is due killed. Where the rules change meanwhile it is looked at again.
    pub(super) fn sweep(&mut self) -> Result<Swept, VaultError> {
        // What was used a moment ago is not judged by what it was before.
        self.move_all_used();
        let mut swept = Swept::default();
        for _ in 0..LOOKS {
            swept.failed = 0;
            // Who left a bucket while it was being killed may be in a successor that is due as well.
            let now = self.core.time.due(&*self.core.clock);
            if self.sweep_once(&mut swept)? && self.due_by(now).len() <= swept.failed {
                break;
            }
        }
        self.told("the audit log is not pruned; it is tried again", self.core.tend_log());
        let mut state = self.core.sweeps.lock();
        (state.last, state.due) = (Some(self.core.clock.now()), swept.failed);
        Ok(swept)
    }

    /// False if the rules changed before all was done.
    fn sweep_once(&mut self, swept: &mut Swept) -> Result<bool, VaultError> {
        let now = self.core.time.due(&*self.core.clock);
        let soon = UnixMillis(now.0.saturating_add(millis(self.setup.close_before)));
        let mut due = Vec::new();
        for one in self.due_by(soon) {
            let epoch = one.tenant.state().rules_epoch;
            if let Err(e) = self.close(&one, epoch) {
                self.failed(usize::from(one.due() <= now), &e, swept);
            } else if one.due() <= now {
                due.push((one, epoch));
            }
        }
        self.core.sweeps.lock().due = due.len() + swept.failed;
        let mut whole = true;
        while !due.is_empty() {
            let rest = due.split_off(due.len().min(limits::SWEEP_BUCKETS_MAX));
            let batch = std::mem::replace(&mut due, rest);
            let size = batch.len();
            match self.kill(batch, swept) {
                Ok(all) => whole &= all,
                Err(e) if !self.is_running() => return Err(e),
                Err(e) => self.failed(size, &e, swept),
            }
        }
        Ok(whole)
    }

    fn failed(&self, due: usize, why: &VaultError, swept: &mut Swept) {
        self.core.metrics.keeper_failures.one();
        swept.failed += due;
        tracing::error!(error = %why, "a bucket cannot be closed or erased; it is tried again");
    }

    /// False if the rules of some changed: those are still there.
    fn kill(&self, batch: Vec<(Bucketful, u64)>, swept: &mut Swept) -> Result<bool, VaultError> {
        let core = &self.core;
        let condemned = batch.iter().map(|(one, epoch)| Condemned {
            tenant: one.tenant.clone(),
            key: one.key,
            reason: ErasureReason::Retention,
            requested: one.due(),
            epoch: Some(*epoch),
        });
        let condemned = condemned.collect();
        let entry = Entry::new(Kind::Vault, Act::Sweep, core.clock.now());
        let (done, answered) = oneshot::channel();
        self.eraser.send(Job::Kill { condemned, entry, done })?;
        let fates = answered.blocking_recv().map_err(|_| VaultError::Stopping)??;
        let now = core.clock.now();
        let mut whole = true;
        for ((one, _), fate) in batch.into_iter().zip(fates) {
            let (receipt, records) = match fate {
                Fate::Killed { receipt, records } => (receipt, records),
                Fate::Before(_) => continue,
                Fate::Rules => {
                    swept.failed += 1;
                    whole = false;
                    continue;
                }
                Fate::Failed(e) => {
                    self.failed(1, &e, swept);
                    continue;
                }
            };
            let late = now.0.saturating_sub(one.due().0);
            core.sweeps.lock().add(u64::try_from(late).unwrap_or(0));
            let (rtype, expires) = one.key;
            let Some(schema) = one.tenant.schema_of(rtype) else { continue };
            let (tenant, rtype) = (one.tenant.id.clone(), schema.type_name().clone());
            swept.gone.push(Gone { tenant, rtype, expires, records, receipt });
        }
        Ok(whole)
    }

    /// Closes and lists the buckets of a type and day by the rules of now, unless that is done. The newest first: what
    /// is made after it is a successor, whose records were put there by the rules of now.
    fn close(&self, one: &Bucketful, epoch: u64) -> Result<(), VaultError> {
        let is_made = |b: &BucketId| self.core.closings.is_made(*b, epoch);
        let newest = one.buckets().filter(is_made).last();
        let mut todo: Vec<BucketId> = one.buckets().collect();
        todo.retain(|b| !is_made(b) && newest.is_none_or(|newest| *b < newest));
        for bucket in todo.into_iter().rev() {
            self.core.close_and_list(bucket, epoch, &mut |_, open| {
                let (version, map) = (&open.version, &open.fields.to_map());
                let Some(schema) = one.tenant.schema_of(version.rtype) else { return Ok(false) };
                if self.core.home_of(&one.tenant, &schema, version.record, map) <= one.key.1 {
                    return Ok(false);
                }
                self.move_out(&one.tenant, version.record)
            })?;
        }
        self.move_kept(&one.tenant, one.buckets())
    }

    /// Answers whether a record has left its bucket.
    fn move_out(&self, tenant: &Arc<Tenant>, record: RecordId) -> Result<bool, VaultError> {
        match self.runtime.block_on(self.core.rehome(tenant, record, None)) {
            Err(VaultError::Erased(_) | VaultError::NotFound(_)) => Ok(true),
            other => other,
        }
    }

    fn move_kept(
        &self,
        tenant: &Arc<Tenant>,
        buckets: impl Iterator<Item = BucketId>,
    ) -> Result<(), VaultError> {
        for bucket in buckets {
            self.runtime.block_on(self.core.move_kept(tenant, bucket))?;
        }
        Ok(())
    }

    /// Closes and lists the buckets of a type and day whatever the rules say: someone wants them gone. Only what is
    /// held moves out.
    pub(super) fn close_all(
        &self,
        tenant: &Arc<Tenant>,
        key: (TypeOrd, Day),
    ) -> Result<(), VaultError> {
        let ords = tenant.state().buckets.get(&key).cloned().unwrap_or_default();
        for ord in ords.iter().rev() {
            self.core.close_and_list((tenant.ord, *ord), 0, &mut |_, open| {
                let held = self.core.is_held(tenant, open);
                if held { self.move_out(tenant, open.version.record) } else { Ok(false) }
            })?;
        }
        self.move_kept(tenant, ords.iter().map(|ord| (tenant.ord, *ord)))
    }

    /// What a sweep would find now.
    pub(super) fn outlook(&self) -> Result<Outlook, VaultError> {
        let now = self.core.time.due(&*self.core.clock);
        let mut outlook = Outlook::default();
        for one in self.due_by(now) {
            let Some(schema) = one.tenant.schema_of(one.key.0) else { continue };
            let mut survey = Survey::default();
            for bucket in one.buckets() {
                survey.add(self.core.survey(&one.tenant, one.key, bucket)?);
            }
            let (tenant, rtype) = (one.tenant.id.clone(), schema.type_name().clone());
            outlook.due.push(DueBucket { tenant, rtype, expires: one.key.1, survey });
        }
        Ok(outlook)
    }
}

fn millis(time: std::time::Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_is_told_by_rank_and_of_the_last_ones() {
        let mut state = SweepState::default();
        assert_eq!(state.lateness(), None);
        state.add(7);
        assert_eq!(state.lateness(), Some((7, 7)));
        (1..=100).for_each(|n| state.add(n));
        assert_eq!(state.lateness(), Some((50, 99)));
        (0..limits::LATENESS_KEPT).for_each(|_| state.add(3));
        assert_eq!(state.lateness(), Some((3, 3)));
    }
}

//! What people see of retention: what will go by a day, how the sweeps are doing, and a sweep at once.
//!
//! Invariant: a look changes nothing; only counts leave here, never a record.

use std::sync::Arc;

use super::survey::Survey;
use super::sweep::{Outlook, Swept};
use super::time::ClockState;
use crate::audit::{Act, Entry};
use crate::authz::{Permit, ReadRetention, ReadStatus, RunRetention};
use crate::clock::UnixMillis;
use crate::id::{BucketOrd, Day, TypeOrd};
use crate::limits;
use crate::store::{Batch, Urgency};
use crate::vault::core::Vault;
use crate::vault::error::VaultError;
use crate::vault::registry::Tenant;
use crate::vault::relist::pages_of;
use crate::vault::slug::Slug;

const CLOCKS_AGREE_MILLIS: u64 = 60_000;

/// Where a preview goes on: a bucket and the page in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub key: (TypeOrd, Day),
    pub bucket: BucketOrd,
    pub page: u32,
}

/// What a part of a type's and day's buckets holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forecast {
    pub rtype: Slug,
    pub expires: Day,
    pub survey: Survey,
}

/// A part of a preview.
#[derive(Default)]
pub struct Preview {
    pub forecasts: Vec<Forecast>,
    pub next: Option<Place>,
}

/// Of a tenant whose rules changed: a type, and how much of it is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RebucketState {
    pub tenant: Slug,
    pub rtype: Slug,
    /// Key pages that were gone through, and all; none before it has begun.
    pub pages: Option<(u64, u64)>,
    pub paused: bool,
}

/// How retention is doing.
#[derive(Clone, Debug)]
pub struct RetentionStatus {
    /// The moment by which something must be due to go.
    pub now: UnixMillis,
    pub clock: ClockState,
    pub last_sweep: Option<UnixMillis>,
    pub interval: std::time::Duration,
    pub due_buckets: u64,
    /// Closed buckets, and the records on their lists.
    pub closed_buckets: u64,
    pub closed_records: u64,
    pub erased_buckets: u64,
    pub erased_records: u64,
    /// Median and 99th percentile, in milliseconds.
    pub lateness: Option<(u64, u64)>,
    pub rebucketing: Vec<RebucketState>,
    /// Records that were used and are yet to be moved.
    pub uses: u64,
    /// Legal holds in force, and erasures that wait for them.
    pub holds: u64,
    pub postponed: u64,
}

impl Vault {
    /// What will go by the end of a day, and what has no end, in the order of type and day; a part of it.
    pub fn preview_retention(
        &self,
        permit: &Permit<ReadRetention>,
        tenant: &str,
        by: Day,
        from: Option<Place>,
    ) -> Result<Preview, VaultError> {
        let core = &*self.core;
        let tenant = core.tenant(permit, tenant)?;
        if by < core.time.due(&*core.clock).day() {
            return Err(VaultError::Argument { field: "date", reason: "is in the past" });
        }
        core.note(&core.entry(permit, Act::PreviewRetention).of(tenant.ord))?;
        let (mut preview, mut room) = (Preview::default(), limits::PREVIEW_PAGES);
        for (key, bucket) in buckets_by(&tenant, by) {
            let first = match from {
                Some(at) if (key, bucket) < (at.key, at.bucket) => continue,
                Some(at) if (key, bucket) == (at.key, at.bucket) => at.page,
                _ => 0,
            };
            let Some(schema) = tenant.schema_of(key.0) else { continue };
            let mut survey = Survey::default();
            for path in pages_of(&core.tree, (tenant.ord, bucket), first..u32::MAX)? {
                if room == 0 {
                    preview.next = Some(Place { key, bucket, page: path.ord });
                    break;
                }
                room -= 1;
                survey.add(core.survey_page(&tenant, key, &path)?);
            }
            if survey.records > 0 {
                let (rtype, expires) = (schema.type_name().clone(), key.1);
                preview.forecasts.push(Forecast { rtype, expires, survey });
            }
            if preview.next.is_some() {
                break;
            }
        }
        Ok(preview)
    }

    pub fn retention_status(
        &self,
        permit: &Permit<ReadStatus>,
    ) -> Result<RetentionStatus, VaultError> {
        let core = &*self.core;
        core.note(&core.entry(permit, Act::GetRetentionStatus))?;
        let mut state = self.retention_state();
        // Whoever is bound to some tenants does not hear of others.
        state.rebucketing.retain(|r| permit.is_bound_to(r.tenant.as_str()));
        Ok(state)
    }

    /// The same for the daemon itself.
    pub fn retention_state(&self) -> RetentionStatus {
        let core = &*self.core;
        let sweeps = core.sweeps.state();
        let (closed_records, closed_buckets) = core.closings.count();
        let (holds, postponed, _) = core.holds.totals();
        RetentionStatus {
            now: core.time.due(&*core.clock),
            clock: core.time.state(&*core.clock),
            last_sweep: sweeps.last,
            interval: self.sweep_interval,
            due_buckets: sweeps.due as u64,
            closed_buckets: closed_buckets as u64,
            closed_records,
            erased_buckets: core.metrics.buckets_erased.value(),
            erased_records: core.metrics.records_erased_with_buckets.value(),
            lateness: sweeps.lateness(),
            rebucketing: core.registry.all().iter().flat_map(|t| self.rebucketing_of(t)).collect(),
            uses: core.uses.waiting() as u64,
            holds: holds as u64,
            postponed: postponed as u64,
        }
    }

    fn rebucketing_of(&self, tenant: &Arc<Tenant>) -> Vec<RebucketState> {
        let wanted = tenant.state().rebucketing.clone();
        let types = wanted.types.iter().filter_map(|t| tenant.schema_of(*t));
        let state = types.map(|schema| RebucketState {
            tenant: tenant.id.clone(),
            rtype: schema.type_name().clone(),
            pages: self.core.rehoming.progress((tenant.ord, schema.ord())),
            paused: wanted.paused,
        });
        state.collect()
    }

    /// Has everything that is due erased now.
    pub async fn run_retention(&self, permit: &Permit<RunRetention>) -> Result<Swept, VaultError> {
        check_whole(permit)?;
        self.core.note(&self.core.entry(permit, Act::RunRetention))?;
        self.keeper.sweep().await
    }

    /// What would be erased now.
    pub async fn outlook_of_retention(
        &self,
        permit: &Permit<RunRetention>,
    ) -> Result<Outlook, VaultError> {
        check_whole(permit)?;
        self.core.note(&self.core.entry(permit, Act::RunRetention))?;
        self.keeper.outlook().await
    }

    /// Has the vault believe the wall clock as it is now, if it is what the caller's shows. Answers with the moment by
    /// which something must be due to go.
    pub async fn confirm_clock(
        &self,
        permit: &Permit<RunRetention>,
        theirs: UnixMillis,
    ) -> Result<UnixMillis, VaultError> {
        check_whole(permit)?;
        let core = &*self.core;
        if theirs.0.abs_diff(core.clock.now().0) > CLOCKS_AGREE_MILLIS {
            return Err(VaultError::Precondition(
                "the vault's clock differs from the caller's by more than a minute: set it right first",
            ));
        }
        let told: Entry = core.entry(permit, Act::ConfirmClock);
        let entries = told.encode();
        let batch = Batch { urgency: Urgency::Vital, entries, ..Batch::default() };
        core.tree.store().submit(batch)?.await?;
        core.time.confirm(&*core.clock);
        Ok(core.time.due(&*core.clock))
    }
}

fn check_whole(permit: &Permit<RunRetention>) -> Result<(), VaultError> {
    if permit.tenant().is_some() { Err(VaultError::Forbidden) } else { Ok(()) }
}

/// Buckets that are due by the end of a day, and those without an end.
fn buckets_by(tenant: &Tenant, by: Day) -> Vec<((TypeOrd, Day), BucketOrd)> {
    let state = tenant.state();
    let endless = |day: Day| day == Day::OPEN_ENDED || day == Day::HELD;
    let wanted = state.buckets.iter().filter(|((_, day), _)| *day <= by || endless(*day));
    wanted.flat_map(|(key, all)| all.iter().map(|bucket| (*key, *bucket))).collect()
}

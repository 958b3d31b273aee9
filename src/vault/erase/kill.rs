//! The kill of buckets: every record of a type and day at once, by removing one entry for each bucket. All buckets that
//! are asked for go in one anchor batch, of whichever tenants they are.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::Job;
use super::asked::Asking;
use super::worker::{UnitRows, Worker};
use crate::audit::{Act, Entry};
use crate::authz::{EraseBucket, Permit};
use crate::class::ErasureReason;
use crate::clock::UnixMillis;
use crate::id::{BucketOrd, Day, Gen, TypeOrd};
use crate::keys::Edits;
use crate::keys::slots::BucketId;
use crate::vault::core::{Core, Erasing, Vault};
use crate::vault::error::VaultError;
use crate::vault::ledger::{LeafDraft, LeafKind, Receipt, bucket_kid, unit_of_bucket};
use crate::vault::registry::Tenant;
use crate::vault::retention::closing::List;
use crate::vault::retention::manifest::{Killed, summary_key};
use crate::vault::rows::Tombstone;
use crate::vault::slug::Slug;
use crate::vault::watch::{Change, ChangeKind};

/// How often a kill is tried anew because the rules or holds changed under it.
const LOOKS: usize = 8;

/// The buckets of a type and day that are to go.
pub struct Condemned {
    pub tenant: Arc<Tenant>,
    pub key: (TypeOrd, Day),
    pub reason: ErasureReason,
    /// When their day was over, or when someone asked.
    pub requested: UnixMillis,
    /// The rules by which they were found due; others mean that they must be looked at again.
    pub epoch: Option<u64>,
}

/// What became of them.
pub enum Fate {
    Killed {
        receipt: Receipt,
        records: u64,
    },
    /// Nothing was there; what an earlier kill answered.
    Before(Option<Receipt>),
    /// The rules changed meanwhile: nothing was done.
    Rules,
    /// They could not be killed: nothing was done.
    Failed(VaultError),
}

/// Buckets that are out of use and not killed yet.
struct Taken {
    /// Which one was asked for.
    at: usize,
    condemned: Condemned,
    ords: Vec<BucketOrd>,
}

impl Vault {
    /// Erases every record of a type that expires on a day, by removing one entry.
    pub async fn erase_bucket(
        &self,
        permit: &Permit<EraseBucket>,
        tenant: &str,
        rtype: &Slug,
        expires: Day,
        reason: ErasureReason,
    ) -> Result<Receipt, VaultError> {
        let core = &*self.core;
        let tenant = core.tenant(permit, tenant)?;
        if !permit.reaches(rtype.as_str()) {
            return Err(VaultError::Forbidden);
        }
        let key = (tenant.schema(rtype)?.ord(), expires);
        // What holds took out of its bucket is nobody's to erase before they end.
        if expires == Day::HELD {
            return Err(VaultError::NotFound("bucket"));
        }
        let requested = core.clock.now();
        let ords = tenant.state().buckets.get(&key).cloned().unwrap_or_default();
        let buckets: Vec<BucketId> = ords.into_iter().map(|ord| (tenant.ord, ord)).collect();
        // From now on, not only from when its turn comes.
        let _refused = core.mark_killing(&buckets);
        let entry = core.entry(permit, Act::EraseBucket).of(tenant.ord);
        let entry = Entry { rtype: Some(key.0), ..entry };
        for _ in 0..LOOKS {
            let epoch = Some(tenant.state().rules_epoch);
            // What is in it is listed first, so that the kill does not keep others waiting; what is held leaves it.
            self.keeper.close_buckets(Arc::clone(&tenant), key).await?;
            let tenant = Arc::clone(&tenant);
            let condemned = vec![Condemned { tenant, key, reason, requested, epoch }];
            let (done, answered) = oneshot::channel();
            self.eraser.send(Job::Kill { condemned, entry: entry.clone(), done })?;
            let fates = answered.await.map_err(|_| VaultError::Stopping)??;
            match fates.into_iter().next() {
                Some(Fate::Killed { receipt, .. }) => return Ok(receipt),
                // The answer to an earlier kill was lost: it is given again.
                Some(Fate::Before(Some(receipt))) => return Ok(receipt),
                Some(Fate::Failed(e)) => return Err(e),
                // A hold was placed meanwhile, or the rules changed: what stays is found out anew.
                Some(Fate::Rules) => {}
                Some(Fate::Before(None)) | None => return Err(VaultError::NotFound("bucket")),
            }
        }
        Err(VaultError::Precondition("the rules or legal holds keep changing: try again"))
    }
}

impl Worker {
    /// Destroys the keys of every record in the buckets. A type and day may have several: the receipt is the last
    /// one's. One that cannot be killed stays as it was, and the others go.
    pub(super) fn kill_buckets(
        &mut self,
        condemned: Vec<Condemned>,
        entry: Entry,
    ) -> Result<Vec<Fate>, VaultError> {
        let core = self.core.clone();
        let (mut fates, mut taken) = (Vec::with_capacity(condemned.len()), Vec::new());
        let mut going = Vec::with_capacity(condemned.len());
        for one in condemned {
            match one.take(&core) {
                Ok((ords, marked)) => {
                    going.push(marked);
                    taken.push(Taken { at: fates.len(), condemned: one, ords });
                    fates.push(None);
                }
                Err(fate) => fates.push(Some(*fate)),
            }
        }
        let mut listed = Vec::with_capacity(taken.len());
        for one in taken {
            match one.lists(&core) {
                Ok(Some(lists)) => listed.push((one, lists)),
                Ok(None) => {
                    let at = one.at;
                    one.restore();
                    set(&mut fates, at, Fate::Rules);
                }
                Err(e) => {
                    let at = one.at;
                    one.restore();
                    set(&mut fates, at, Fate::Failed(e));
                }
            }
        }
        if listed.is_empty() {
            core.note(&entry)?;
        } else {
            match self.kill(&listed, entry) {
                Ok(killed) => {
                    let ats = listed.iter().map(|(one, _)| one.at);
                    ats.zip(killed).for_each(|(at, fate)| set(&mut fates, at, fate));
                }
                // Nothing was removed: what is there is served again.
                Err(e) => {
                    listed.into_iter().for_each(|(one, _)| one.restore());
                    return Err(e);
                }
            }
        }
        drop(going);
        Ok(fates.into_iter().flatten().collect())
    }

    fn kill(
        &mut self,
        listed: &[(Taken, Vec<(BucketId, List)>)],
        entry: Entry,
    ) -> Result<Vec<Fate>, VaultError> {
        let core = self.core.clone();
        let mut drafts: Vec<LeafDraft> = self.last.map(LeafDraft::level).into_iter().collect();
        let (mut rows, mut kill) = (UnitRows::default(), Edits::default());
        let mut ends = Vec::with_capacity(listed.len());
        let mut records = 0;
        for (one, lists) in listed {
            let Condemned { tenant, key: (rtype, expires), reason, requested, .. } = &one.condemned;
            let pseudonym = core.tree.read().tenant(tenant.ord)?.pseudonym;
            let before = records;
            for (bucket, list) in lists {
                let bucket = *bucket;
                let summary = Killed {
                    rtype: *rtype,
                    expires: *expires,
                    reason: *reason,
                    requested: *requested,
                    count: list.count,
                    root: list.root,
                    // These the batch says.
                    generation: Gen(0),
                    leaf_seq: 0,
                    leaf: [0; 32],
                };
                rows.killed.push((drafts.len(), summary_key(bucket), summary));
                drafts.push(LeafDraft {
                    reason: Some(*reason),
                    pseudonym,
                    unit: unit_of_bucket(core.vault(), bucket.0, bucket.1),
                    kid: bucket_kid(bucket.0, bucket.1),
                    request: list.root,
                    count: list.count,
                    ..LeafDraft::plain(LeafKind::Bucket, *requested)
                });
                kill.kill.insert(bucket);
                records += u64::from(list.count);
            }
            let last = drafts.len().saturating_sub(1);
            let key = Tombstone::bucket_key(tenant.ord, *rtype, *expires);
            rows.tombs.push((last, (key, *rtype), *reason, *requested));
            ends.push((last, records - before));
        }
        let total = u32::try_from(records).unwrap_or(u32::MAX);
        let entry = Entry { total, ..entry };
        let level = usize::from(self.last.is_some());
        rows.asked.extend(Asking::of(&entry, level, drafts.len() - level));
        let (appended, erased) = self.commit(kill, (&drafts, vec![entry]), rows, None)?;
        for (one, _) in listed {
            for bucket in one.buckets() {
                core.superseded.forget_bucket(bucket);
                core.index.forget(bucket);
                core.tree.slots().forget(bucket);
                core.closings.forget(bucket);
                core.metrics.buckets_erased.one();
                self.to_collect.push(bucket);
            }
            one.condemned.tenant.state_mut().forget_buckets(&one.ords);
            one.condemned.tell(&core);
        }
        core.metrics.records_erased_with_buckets.add(records);
        let signer = core.tree.read().signer()?;
        let signed = |(at, records): &(usize, u64)| {
            let leaf = appended.leaves.get(*at)?;
            let receipt = Receipt::sign(core.vault(), leaf, &erased, &signer)?;
            Some(Fate::Killed { receipt, records: *records })
        };
        ends.iter().map(|end| signed(end).ok_or(VaultError::Damaged("ledger"))).collect()
    }
}

fn set(fates: &mut [Option<Fate>], at: usize, fate: Fate) {
    if let Some(place) = fates.get_mut(at) {
        *place = Some(fate);
    }
}

impl Condemned {
    /// Takes the buckets out of use; a fate if there is nothing to kill, or nothing to kill now. Who changes the rules,
    /// or places a hold, either is before this or finds what is in them going.
    fn take<'a>(&self, core: &'a Core) -> Result<(Vec<BucketOrd>, Erasing<'a>), Box<Fate>> {
        {
            let mut state = self.tenant.state_mut();
            if self.epoch.is_some_and(|epoch| epoch != state.rules_epoch) {
                return Err(Box::new(Fate::Rules));
            }
            if let Some(ords) = state.take_buckets(self.key) {
                let buckets: Vec<BucketId> =
                    ords.iter().map(|ord| (self.tenant.ord, *ord)).collect();
                return Ok((ords, core.mark_going(&buckets)));
            }
        }
        let before = core.killed_before(&self.tenant, self.key);
        Err(Box::new(before.map_or_else(Fate::Failed, Fate::Before)))
    }

    fn tell(&self, core: &Core) {
        core.watch.tell(self.tenant.ord, || Change {
            kind: ChangeKind::BucketErased,
            record: None,
            rtype: self.tenant.schema_of(self.key.0).map(|s| s.type_name().clone()),
            expires: Some(self.key.1),
            at: core.clock.now(),
        });
    }
}

impl Taken {
    fn buckets(&self) -> impl Iterator<Item = BucketId> {
        let tenant = self.condemned.tenant.ord;
        self.ords.iter().map(move |ord| (tenant, *ord))
    }

    /// What goes with each, once nobody puts anything into it any more. `None` if a hold keeps something that is there.
    fn lists(&self, core: &Core) -> Result<Option<Vec<(BucketId, List)>>, VaultError> {
        let mut lists = Vec::with_capacity(self.ords.len());
        for bucket in self.buckets() {
            core.drain(bucket)?;
            if !core.kept_in(&self.condemned.tenant, bucket).is_empty() {
                return Ok(None);
            }
            lists.push((bucket, core.final_list(bucket)?));
        }
        Ok(Some(lists))
    }

    /// They are not killed after all.
    fn restore(self) {
        let mut state = self.condemned.tenant.state_mut();
        state.restore_buckets(self.condemned.key, self.ords);
    }
}

#[cfg(test)]
#[path = "kill_tests.rs"]
mod tests;

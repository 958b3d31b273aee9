//! Bringing records to the buckets that changed rules want, some key pages at a time, while all else goes on.
//!
//! Which types are yet to be gone through is in a metadata row that commits with the change of the rules, so that a
//! start after a crash goes on; how far the work is, is in memory only. All of it can be done again.
//!
//! What would go too early does not depend on this: a bucket that is about to go is judged by the rules of then.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Runtime;

use crate::id::{TenantOrd, TypeOrd};
use crate::keys::path::Path;
use crate::store::Batch;
use crate::vault::core::Core;
use crate::vault::error::VaultError;
use crate::vault::registry::{Meta, Rebucketing, Tenant};
use crate::vault::relist::pages_of;

/// How far the work on a type is: key pages done, and all.
pub type Progress = (u64, u64);

/// The same of every type that is worked on.
#[derive(Default)]
pub struct Rehoming(Mutex<BTreeMap<(TenantOrd, TypeOrd), Progress>>);

impl Rehoming {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(TenantOrd, TypeOrd), Progress>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn progress(&self, key: (TenantOrd, TypeOrd)) -> Option<Progress> {
        self.lock().get(&key).copied()
    }
}

struct Work {
    tenant: Arc<Tenant>,
    rtype: TypeOrd,
    epoch: u64,
    pages: VecDeque<Path>,
    all: u64,
}

/// The keeper's part in it.
#[derive(Default)]
pub struct Rebucketer(Option<Work>);

impl Rebucketer {
    /// Does the next step.
    pub fn step(&mut self, core: &Core, runtime: &Runtime) -> Result<(), VaultError> {
        let Some(mut work) = self.next(core)? else { return Ok(()) };
        for _ in 0..core.index_build_pages {
            let Some(path) = work.pages.pop_front() else { break };
            go_through(core, runtime, &work, &path)?;
        }
        let key = (work.tenant.ord, work.rtype);
        core.rehoming.lock().insert(key, (work.all - work.pages.len() as u64, work.all));
        if !work.pages.is_empty() || !settle(core, &work)? {
            self.0 = Some(work);
        }
        Ok(())
    }

    /// The work that is under way if it is still wanted as it is, else what is wanted next.
    fn next(&mut self, core: &Core) -> Result<Option<Work>, VaultError> {
        if let Some(work) = self.0.take() {
            let state = work.tenant.state();
            let wanted = state.rebucketing.types.contains(&work.rtype);
            if wanted && state.rebucketing.paused {
                drop(state);
                self.0 = Some(work);
                return Ok(None);
            }
            if wanted && state.rules_epoch == work.epoch {
                drop(state);
                return Ok(Some(work));
            }
        }
        for tenant in core.registry.all() {
            let (first, epoch) = {
                let state = tenant.state();
                let wanted = Some(&state.rebucketing).filter(|r| !r.paused);
                (wanted.and_then(|r| r.types.first().copied()), state.rules_epoch)
            };
            let Some(rtype) = first else { continue };
            let mut pages = VecDeque::new();
            for bucket in tenant.buckets(Some(rtype)) {
                pages.extend(pages_of(&core.tree, bucket, 0..u32::MAX)?);
            }
            let all = pages.len() as u64;
            return Ok(Some(Work { tenant, rtype, epoch, pages, all }));
        }
        Ok(None)
    }
}

fn go_through(core: &Core, runtime: &Runtime, work: &Work, path: &Path) -> Result<(), VaultError> {
    let Some(schema) = work.tenant.schema_of(work.rtype) else { return Ok(()) };
    core.each_current(path, &mut |kid, record, open| {
        // One that does not open stays where it is.
        let Some(open) = open else { return Ok(()) };
        let present = work.tenant.day_of(kid.bucket);
        if core.expiry_of(&work.tenant, &schema, &open.fields.to_map()) == present {
            return Ok(());
        }
        match runtime.block_on(core.rehome(&work.tenant, record, None)) {
            Ok(_) | Err(VaultError::Erased(_) | VaultError::NotFound(_)) => Ok(()),
            Err(VaultError::Damaged(_)) => Ok(()),
            Err(e) => Err(e),
        }
    })
}

/// Says in the tenant's row that a type is done. False if somebody is changing the rules: then it is said later, or the
/// work begins anew.
fn settle(core: &Core, work: &Work) -> Result<bool, VaultError> {
    let Ok(_held) = work.tenant.changing.try_lock() else { return Ok(false) };
    let mut next = {
        let state = work.tenant.state();
        if state.rules_epoch != work.epoch {
            return Ok(true);
        }
        state.rebucketing.clone()
    };
    next.types.remove(&work.rtype);
    let mut batch = Batch::default();
    core.put_rebucketing(&work.tenant, &next, &mut batch)?;
    core.tree.store().commit_blocking(batch)?;
    work.tenant.state_mut().rebucketing = next;
    core.rehoming.lock().remove(&(work.tenant.ord, work.rtype));
    Ok(true)
}

impl Core {
    /// The row that says what is yet to be gone through.
    pub(in crate::vault) fn put_rebucketing(
        &self,
        tenant: &Tenant,
        rebucketing: &Rebucketing,
        batch: &mut Batch,
    ) -> Result<(), VaultError> {
        let json = serde_json::to_vec(rebucketing).map_err(|_| VaultError::Damaged("metadata"))?;
        let secrets = self.tree.read().tenant(tenant.ord)?;
        let meta = Meta::Rebucketing;
        batch.put(
            meta.key(tenant.ord),
            meta.seal(self.vault(), tenant.ord, 1, &secrets.meta, &json)?,
        );
        Ok(())
    }
}

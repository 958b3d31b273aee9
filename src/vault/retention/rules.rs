//! A tenant's retention policies: making, changing and reading them, and what they say of a record.
//!
//! Invariants: no two policies of a tenant contradict each other; a change and what it makes to be done commit in one
//! batch; once a change is answered no put follows the older rules, and nothing goes early by them.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::decide::{Decision, decide};
use super::policy::{PolicyDraft, PolicyProblem, PolicyViolation, RetentionPolicy, Start};
use crate::audit::{Act, Entry};
use crate::authz::{ManageRetention, Permit, ReadRecord, ReadRetention};
use crate::class::FieldKind;
use crate::id::{RecordId, TypeOrd};
use crate::limits;
use crate::store::Batch;
use crate::vault::core::{Core, Vault};
use crate::vault::error::VaultError;
use crate::vault::registry::{Meta, Rebucketing, Tenant, TenantState};
use crate::vault::schema::Schema;
use crate::vault::slug::Slug;

/// A record's type and the policies that reach it, beside what they say.
pub struct Explained {
    pub rtype: Slug,
    pub rules: super::decide::Rules,
    pub decision: Decision,
    /// The day of the bucket that it is in; another one than the decision's until it is moved there.
    pub present: crate::id::Day,
}

/// What is done to a policy.
enum Change {
    Put(Arc<RetentionPolicy>),
    Delete(Arc<RetentionPolicy>),
}

impl Vault {
    pub async fn create_retention_policy(
        &self,
        permit: &Permit<ManageRetention>,
        tenant: &str,
        draft: PolicyDraft,
    ) -> Result<Arc<RetentionPolicy>, VaultError> {
        let core = &*self.core;
        let tenant = core.tenant(permit, tenant)?;
        let _held = tenant.changing.lock().await;
        let (count, next) = {
            let state = tenant.state();
            if state.policies.contains_key(draft.id.as_str()) {
                return Err(VaultError::Exists("retention policy"));
            }
            let last = state.policies.values().map(|p| p.ord).max().unwrap_or(0);
            (state.policies.len(), last.checked_add(1))
        };
        if count >= limits::RETENTION_POLICIES_MAX {
            return Err(VaultError::Exhausted("the tenant has too many retention policies"));
        }
        let ord = next.ok_or(VaultError::Exhausted("no more retention policies"))?;
        let policy = RetentionPolicy::create(&draft, ord, core.clock.now());
        let policy = policy.map_err(VaultError::RetentionPolicy)?;
        check_fits(&tenant.state(), &policy)?;
        let policy = Arc::new(policy);
        let told = core.entry(permit, Act::CreateRetentionPolicy);
        core.change_rules(&tenant, Change::Put(policy.clone()), told).await?;
        Ok(policy)
    }

    /// Replaces a policy, or parts of it. Nothing happens if it is so already.
    pub async fn update_retention_policy(
        &self,
        permit: &Permit<ManageRetention>,
        tenant: &str,
        draft: PolicyDraft,
        parts: Option<&[&str]>,
        etag: Option<u64>,
    ) -> Result<Arc<RetentionPolicy>, VaultError> {
        let core = &*self.core;
        let tenant = core.tenant(permit, tenant)?;
        let _held = tenant.changing.lock().await;
        let present = find(&tenant.state(), &draft.id, etag)?;
        let draft = match parts {
            Some(parts) => present.draft().with(draft, parts),
            None => draft,
        };
        let policy = present.revise(&draft, core.clock.now());
        let policy = policy.map_err(VaultError::RetentionPolicy)?;
        check_fits(&tenant.state(), &policy)?;
        let told = core.entry(permit, Act::UpdateRetentionPolicy);
        if policy == *present {
            core.note(&told.of(tenant.ord))?;
            return Ok(present);
        }
        let policy = Arc::new(policy);
        core.change_rules(&tenant, Change::Put(policy.clone()), told).await?;
        Ok(policy)
    }

    pub async fn delete_retention_policy(
        &self,
        permit: &Permit<ManageRetention>,
        tenant: &str,
        id: &Slug,
        etag: Option<u64>,
    ) -> Result<(), VaultError> {
        let core = &*self.core;
        let tenant = core.tenant(permit, tenant)?;
        let _held = tenant.changing.lock().await;
        let present = find(&tenant.state(), id.as_str(), etag)?;
        let told = core.entry(permit, Act::DeleteRetentionPolicy);
        core.change_rules(&tenant, Change::Delete(present), told).await
    }

    pub fn retention_policy(
        &self,
        permit: &Permit<ReadRetention>,
        tenant: &str,
        id: &Slug,
    ) -> Result<Arc<RetentionPolicy>, VaultError> {
        let tenant = self.core.tenant(permit, tenant)?;
        let found = find(&tenant.state(), id.as_str(), None)?;
        self.core.note(&self.core.entry(permit, Act::GetRetentionPolicy).of(tenant.ord))?;
        Ok(found)
    }

    /// Policies of a tenant by id, after `after`.
    pub fn retention_policies(
        &self,
        permit: &Permit<ReadRetention>,
        tenant: &str,
        after: Option<&str>,
        page_size: usize,
    ) -> Result<Vec<Arc<RetentionPolicy>>, VaultError> {
        let tenant = self.core.tenant(permit, tenant)?;
        self.core.note(&self.core.entry(permit, Act::ListRetentionPolicies).of(tenant.ord))?;
        let state = tenant.state();
        let later = state.policies.iter().filter(|(id, _)| after.is_none_or(|a| id.as_str() > a));
        Ok(later.map(|(_, policy)| policy.clone()).take(page_size).collect())
    }

    /// What each rule says of a record, and which of them decides.
    pub fn explain_retention(
        &self,
        permit: &Permit<ReadRecord>,
        tenant: &str,
        record: RecordId,
    ) -> Result<Explained, VaultError> {
        let core = &*self.core;
        let tenant = core.tenant(permit, tenant)?;
        let found = core.find_reached(permit, &tenant, record)?;
        let rtype = found.pointer.rtype;
        let schema = tenant.schema_of(rtype).ok_or(VaultError::NotFound("schema"))?;
        let rules = tenant.rules(rtype);
        let decision = decide(&schema, &rules, found.open.fields.to_map().facts());
        let entry = core.entry(permit, Act::ExplainRetention).of(tenant.ord);
        core.note(&entry.about([(Some(rtype), found.open.fields.member)]))?;
        let present = tenant.day_of(found.pointer.kid.bucket);
        Ok(Explained { rtype: schema.type_name().clone(), rules, decision, present })
    }

    /// Stops or goes on bringing records to the buckets that changed rules want. Answers whether anything is left to
    /// do.
    pub async fn pause_rebucketing(
        &self,
        permit: &Permit<ManageRetention>,
        tenant: &str,
        paused: bool,
    ) -> Result<bool, VaultError> {
        let core = &*self.core;
        let tenant = core.tenant(permit, tenant)?;
        let _held = tenant.changing.lock().await;
        let act = if paused { Act::PauseRebucketing } else { Act::ResumeRebucketing };
        let told = core.entry(permit, act).of(tenant.ord);
        let next = Rebucketing { paused, ..tenant.state().rebucketing.clone() };
        let mut batch = Batch { entries: told.encode(), ..Batch::default() };
        core.put_rebucketing(&tenant, &next, &mut batch)?;
        core.tree.store().submit(batch)?.await?;
        let left = !next.types.is_empty();
        tenant.state_mut().rebucketing = next;
        Ok(left)
    }
}

fn find(
    state: &TenantState,
    id: &str,
    etag: Option<u64>,
) -> Result<Arc<RetentionPolicy>, VaultError> {
    let found = state.policies.get(id).cloned();
    let found = found.ok_or(VaultError::NotFound("retention policy"))?;
    if etag.is_some_and(|etag| etag != u64::from(found.revision)) {
        return Err(VaultError::Stale("retention policy"));
    }
    Ok(found)
}

/// Fails if the policy names what the tenant does not have, or contradicts another.
fn check_fits(state: &TenantState, policy: &RetentionPolicy) -> Result<(), VaultError> {
    let mut wrong = Vec::new();
    for rtype in &policy.scope.types {
        match (state.schemas.get(rtype), &policy.start) {
            (None, _) => {
                wrong
                    .push(PolicyViolation { path: "schemas", problem: PolicyProblem::UnknownType });
            }
            (Some(schema), Start::Event(name)) if !is_date(schema, name.as_str()) => {
                wrong.push(PolicyViolation {
                    path: "event_field",
                    problem: PolicyProblem::NotADate,
                });
            }
            _ => {}
        }
    }
    wrong.extend(state.policies.values().filter_map(|other| policy.check_beside(other).err()));
    if wrong.is_empty() { Ok(()) } else { Err(VaultError::RetentionPolicy(wrong)) }
}

fn is_date(schema: &Schema, field: &str) -> bool {
    schema.field(field).is_some_and(|def| def.kind == FieldKind::Date)
}

impl Core {
    /// Makes a change durable, then has it followed.
    async fn change_rules(
        &self,
        tenant: &Tenant,
        change: Change,
        told: Entry,
    ) -> Result<(), VaultError> {
        let mut batch = Batch { entries: told.of(tenant.ord).encode(), ..Batch::default() };
        let (was, becomes) = match &change {
            Change::Put(policy) => {
                let secrets = self.tree.read().tenant(tenant.ord)?;
                let meta = Meta::RetentionPolicy(policy.ord);
                let (rev, json) = (policy.revision, policy.to_json());
                batch.put(
                    meta.key(tenant.ord),
                    meta.seal(self.vault(), tenant.ord, rev, &secrets.meta, &json)?,
                );
                (tenant.state().policies.get(&policy.id).cloned(), Some(policy))
            }
            Change::Delete(policy) => {
                batch.delete(Meta::RetentionPolicy(policy.ord).key(tenant.ord));
                (Some(policy.clone()), None)
            }
        };
        let reached = |schema: &Schema| {
            let reaches = |p: &RetentionPolicy| p.scope.reaches(schema.type_name());
            was.as_deref().is_some_and(reaches) || becomes.is_some_and(|p| reaches(p))
        };
        let types: BTreeSet<TypeOrd> = {
            let state = tenant.state();
            state.schemas.values().filter(|s| reached(s)).map(|s| s.ord()).collect()
        };
        let rebucketing = self.to_rebucket(tenant, types, &mut batch)?;
        self.tree.store().submit(batch)?.await?;
        // Puts that follow the older rules are over when this is had; later ones follow the new ones.
        let _no_puts = tenant.writing.write().await;
        let mut state = tenant.state_mut();
        match change {
            Change::Put(policy) => {
                state.policies.insert(policy.id.clone(), policy);
            }
            Change::Delete(policy) => {
                state.policies.remove(&policy.id);
            }
        }
        state.rebucketing = rebucketing;
        state.apply_rules();
        state.rules_epoch += 1;
        Ok(())
    }

    /// Adds types to those whose records are to be gone through.
    pub(in crate::vault) fn to_rebucket(
        &self,
        tenant: &Tenant,
        types: BTreeSet<TypeOrd>,
        batch: &mut Batch,
    ) -> Result<Rebucketing, VaultError> {
        let mut next = tenant.state().rebucketing.clone();
        if types.is_empty() {
            return Ok(next);
        }
        next.types.extend(types);
        self.put_rebucketing(tenant, &next, batch)?;
        Ok(next)
    }
}

//! Placing, reading and ending holds.
//!
//! Invariants: a hold is in force from before it is answered, and whoever erases or changes a record meanwhile is
//! either done or sees it; it ends once, by someone who may or by its own time, and what that sets free is looked at
//! again; both are on disk with their entries in the audit log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::draft::{HoldDraft, ScopeDraft, check_note, query};
use super::postponed::Postponed;
use super::{Ending, HOLD, Hold, Scope};
use crate::audit::{Act, Entry, Kind, Member};
use crate::authz::{ActionKind, ManageHolds, Permit, ReadHolds};
use crate::class::{ErasureReason, Role};
use crate::id::{Day, RecVer, RecordId, RequestId, TypeOrd};
use crate::limits;
use crate::store::Batch;
use crate::vault::core::{Core, Vault};
use crate::vault::current::{Found, SUBJECT, Sort};
use crate::vault::error::VaultError;
use crate::vault::mask::masked;
use crate::vault::records::new_id;
use crate::vault::registry::Tenant;
use crate::vault::requests::{Asked, Operation};
use crate::vault::rows::{Intent, Pointer};
use crate::vault::slug::Slug;
use crate::vault::value::Value;

/// A hold as its reader may see it.
pub struct HoldView {
    pub hold: Arc<Hold>,
    /// Of a query the type, and the values of its fields: masked as records are, or not shown.
    pub query: Option<(Slug, BTreeMap<String, Option<Value>>)>,
}

/// A postponed erasure as it is told.
pub struct PostponedView {
    pub record: RecordId,
    pub postponed: Postponed,
    pub holds: Vec<RecordId>,
}

impl HoldDraft {
    fn asked(&self, permit: &Permit<ManageHolds>) -> Asked {
        let mut asked = Asked::new(Operation::PlaceHold, permit.principal());
        match &self.scope {
            ScopeDraft::Record(id) => asked.part(&[&[1], id.0.as_slice()].concat()),
            ScopeDraft::Subject(id) => asked.part(&[&[2], id.0.as_slice()].concat()),
            ScopeDraft::Query { rtype, fields } => {
                asked.part(rtype.as_str().as_bytes());
                asked.values(fields);
            }
        }
        for text in [&self.reason, &self.issuer, &self.reference] {
            asked.part(text.as_bytes());
        }
        self.readers.iter().for_each(|role| asked.part(role.name().as_bytes()));
        asked.part(&self.expires.map_or([0; 8], |at| at.0.to_be_bytes()));
        asked
    }
}

impl Vault {
    /// Places a hold. What is erased already, or is being erased, it comes too late for.
    pub async fn place_hold(
        &self,
        permit: &Permit<ManageHolds>,
        tenant: &str,
        draft: HoldDraft,
        request: Option<RequestId>,
    ) -> Result<HoldView, VaultError> {
        let core = &*self.core;
        let tenant = core.tenant(permit, tenant)?;
        // Every put and erasure that did not see the hold is over when this is had.
        let _alone = tenant.writing.write().await;
        let now = core.time.begin(&*core.clock);
        let repeat = request.map(|request| (request, draft.asked(permit)));
        if let Some((request, asked)) = &repeat
            && let Some(id) = core.find_done(&tenant, *request, Operation::PlaceHold, asked)?
        {
            core.note(&core.entry(permit, Act::PlaceHold).of(tenant.ord))?;
            let known = core.known_hold(&tenant, id)?;
            return Ok(core.shown(permit, &tenant, known));
        }
        draft.check(now)?;
        if core.holds.count(tenant.ord) >= limits::HOLDS_MAX {
            return Err(VaultError::Exhausted("the tenant has too many legal holds"));
        }
        let told = core.entry(permit, Act::PlaceHold).of(tenant.ord);
        let about = draft.scope.named();
        let (scope, told) = core.scope(permit, &tenant, draft.scope, told)?;
        let readers = match draft.readers.is_empty() {
            true => BTreeSet::from([Role::PrivacyOfficer]),
            false => draft.readers,
        };
        let hold = Hold {
            id: new_id(),
            scope,
            reason: draft.reason,
            issuer: draft.issuer,
            reference: draft.reference,
            readers,
            placed: now,
            placed_by: permit.principal().as_str().to_owned(),
            expires: draft.expires,
            ended: None,
        };
        let mut batch = Batch { entries: told.encode(), ..Batch::default() };
        let slot = core.put_hold(&tenant, &hold, RecVer(1), &mut batch).await?;
        // Buckets that are about to go are looked at again, with the hold; for one that goes already it is too late.
        let hold = core.holds.set(tenant.ord, hold);
        tenant.state_mut().rules_epoch += 1;
        let present =
            about.map_or(Ok(()), |(sort, id)| core.find_current(&tenant, id, sort).map(drop));
        if let Err(e) = present {
            core.holds.take_back(tenant.ord, hold.id);
            core.unlist(&[slot]);
            return Err(e);
        }
        if let Some((request, asked)) = &repeat {
            let did = (Operation::PlaceHold, asked);
            let made = (hold.id, RecVer(1), slot.kid, &slot.dek);
            let (key, row) = core.done_row(tenant.ord, *request, did, made);
            batch.put(key, row);
        }
        let stored = core.commit_put(batch, &[slot]).await;
        stored.inspect_err(|_| core.holds.take_back(tenant.ord, hold.id))?;
        core.metrics.holds_placed.one();
        Ok(core.shown(permit, &tenant, hold))
    }

    /// Ends a hold. What was postponed because of it, and of no other, is then erased.
    pub async fn release_hold(
        &self,
        permit: &Permit<ManageHolds>,
        tenant: &str,
        id: RecordId,
        note: String,
    ) -> Result<HoldView, VaultError> {
        let core = &*self.core;
        let tenant = core.tenant(permit, tenant)?;
        check_note(&note)?;
        let told = core.entry(permit, Act::ReleaseHold).of(tenant.ord);
        let by = Some(permit.principal().as_str().to_owned());
        let ending = Ending { at: core.time.begin(&*core.clock), by, note };
        let hold = core.end_hold(&tenant, id, ending, told).await?;
        Ok(core.shown(permit, &tenant, hold))
    }

    pub fn hold(
        &self,
        permit: &Permit<ReadHolds>,
        tenant: &str,
        id: RecordId,
    ) -> Result<HoldView, VaultError> {
        let core = &*self.core;
        let tenant = core.tenant(permit, tenant)?;
        let found = core.known_hold(&tenant, id)?;
        core.note(&core.entry(permit, Act::GetHold).of(tenant.ord))?;
        Ok(core.shown(permit, &tenant, found))
    }

    /// Holds of a tenant by id, after `after`: those in force, or also those that ended. Also the last id that was
    /// looked at, if more follow.
    pub fn holds(
        &self,
        permit: &Permit<ReadHolds>,
        tenant: &str,
        ended: bool,
        after: Option<RecordId>,
        page_size: usize,
    ) -> Result<(Vec<HoldView>, Option<RecordId>), VaultError> {
        let core = &*self.core;
        let tenant = core.tenant(permit, tenant)?;
        core.note(&core.entry(permit, Act::ListHolds).of(tenant.ord))?;
        let mut found = core.holds.list(tenant.ord, ended, after, page_size + 1);
        let more = found.len() > page_size;
        found.truncate(page_size);
        let next = found.last().filter(|_| more).map(|hold| hold.id);
        found.retain(|hold| hold.ended.is_none() || core.known_hold(&tenant, hold.id).is_ok());
        let views = found.into_iter().map(|hold| core.shown(permit, &tenant, hold)).collect();
        Ok((views, next))
    }

    /// Erasures of a tenant that wait for holds to end, by record, after `after`.
    pub fn postponed_erasures(
        &self,
        permit: &Permit<ReadHolds>,
        tenant: &str,
        after: Option<RecordId>,
        page_size: usize,
    ) -> Result<Vec<PostponedView>, VaultError> {
        let core = &*self.core;
        let tenant = core.tenant(permit, tenant)?;
        core.note(&core.entry(permit, Act::ListPostponedErasures).of(tenant.ord))?;
        let waiting = core.holds.all_postponed(tenant.ord, after, page_size);
        let told = |(record, postponed): (RecordId, Postponed)| PostponedView {
            record,
            postponed,
            holds: core.holds_on(&tenant, record, postponed.sort()),
        };
        Ok(waiting.into_iter().map(told).collect())
    }
}

impl Core {
    /// What a draft means, and the entry that tells of it.
    fn scope(
        &self,
        permit: &Permit<ManageHolds>,
        tenant: &Tenant,
        draft: ScopeDraft,
        told: Entry,
    ) -> Result<(Scope, Entry), VaultError> {
        match draft {
            ScopeDraft::Record(id) => {
                let reach = |rtype| self.check_reach(permit, tenant, rtype);
                let found = self.find_allowed(tenant, id, Sort::Record, &reach)?;
                let Found { pointer, open } = found;
                let told = told.about([(Some(pointer.rtype), open.fields.member)]);
                Ok((Scope::Record(id), told))
            }
            // Of whatever types the records about it are.
            ScopeDraft::Subject(_) if !permit.reaches_every_type() => Err(VaultError::Forbidden),
            ScopeDraft::Subject(id) => {
                let found = self.find_current(tenant, id, Sort::Subject)?;
                let member: Member = found.open.fields.member;
                Ok((Scope::Subject(id), told.about([(Some(SUBJECT), member)])))
            }
            ScopeDraft::Query { rtype, fields } => {
                if !permit.reaches(rtype.as_str()) {
                    return Err(VaultError::Forbidden);
                }
                let scope = query(tenant, &rtype, fields)?;
                let Scope::Query(rtype, _) = &scope else { return Ok((scope, told)) };
                let told = Entry { rtype: Some(*rtype), ..told };
                Ok((scope, told))
            }
        }
    }

    /// What a permit shows of a hold.
    fn shown<A: ActionKind>(
        &self,
        permit: &Permit<A>,
        tenant: &Tenant,
        hold: Arc<Hold>,
    ) -> HoldView {
        let Scope::Query(rtype, conditions) = &hold.scope else {
            return HoldView { hold, query: None };
        };
        let query = tenant.schema_of(*rtype).map(|schema| {
            let clear = permit.clear(schema.type_name().as_str(), None);
            let fields = conditions.iter().filter_map(|c| {
                let def = schema.field_by_ord(c.field)?;
                let value = match clear.contains(def.class) {
                    true => Some(c.value.duplicate()),
                    false => masked(&c.value, def.mask),
                };
                Some((def.name.as_str().to_owned(), value))
            });
            (schema.type_name().clone(), fields.collect())
        });
        HoldView { hold, query }
    }

    /// A hold that is still there.
    fn known_hold(&self, tenant: &Tenant, id: RecordId) -> Result<Arc<Hold>, VaultError> {
        match self.find_current(tenant, id, Sort::Hold) {
            Ok(found) => {
                let known = Hold::of_map(id, &found.open.fields.to_map());
                known.map(Arc::new).ok_or(VaultError::Damaged("legal hold"))
            }
            Err(e) => {
                if matches!(e, VaultError::Erased(_) | VaultError::NotFound(_)) {
                    self.holds.forget(tenant.ord, id);
                }
                Err(e)
            }
        }
    }

    /// The holds that keep something now.
    pub(in crate::vault) fn holds_on(
        &self,
        tenant: &Tenant,
        record: RecordId,
        sort: Sort,
    ) -> Vec<RecordId> {
        let Ok(Found { pointer, open }) = self.find_current(tenant, record, sort) else {
            return Vec::new();
        };
        let facts = super::Facts { rtype: pointer.rtype, record, map: &open.fields.to_map() };
        self.holds.on(tenant.ord, facts).iter().map(|hold| hold.id).collect()
    }

    /// Ends those whose time is over.
    pub(in crate::vault) async fn end_over(&self) -> Result<(), VaultError> {
        for (ord, hold) in self.holds.over(self.time.due(&*self.clock)) {
            let Some(tenant) = self.tenant_of(ord) else { continue };
            let at = self.time.begin(&*self.clock);
            let told = Entry::new(Kind::Vault, Act::EndHold, self.clock.now()).of(ord);
            let ending = Ending { at, by: None, note: String::new() };
            match self.end_hold(&tenant, hold.id, ending, told).await {
                // Someone released it meanwhile.
                Ok(_) | Err(VaultError::Precondition(_)) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    async fn end_hold(
        &self,
        tenant: &Arc<Tenant>,
        id: RecordId,
        ending: Ending,
        told: Entry,
    ) -> Result<Arc<Hold>, VaultError> {
        let _changing = tenant.changing.lock().await;
        let _alone = tenant.writing.write().await;
        let Found { pointer, open } = self.find_current(tenant, id, Sort::Hold)?;
        let hold =
            Hold::of_map(id, &open.fields.to_map()).ok_or(VaultError::Damaged("legal hold"))?;
        if hold.ended.is_some() {
            return Err(VaultError::Precondition("the legal hold has ended already"));
        }
        let requested = ending.at;
        let hold = Hold { ended: Some(ending), ..hold };
        let rec_ver = RecVer(pointer.rec_ver.0 + 1);
        let mut batch = Batch { entries: told.encode(), ..Batch::default() };
        batch.expect(Pointer::key(tenant.ord, id), Some(pointer.encode()));
        let slot = self.put_hold(tenant, &hold, rec_ver, &mut batch).await?;
        let intent = Intent {
            kid: pointer.kid,
            record: id,
            rec_ver: pointer.rec_ver,
            rtype: HOLD,
            reason: ErasureReason::Superseded,
            requested,
        };
        batch.put(intent.key(), intent.encode());
        // What was moved out of its bucket for the hold's sake goes back to where the rules want it.
        let away: BTreeSet<TypeOrd> = {
            let state = tenant.state();
            let held = state.buckets.keys().filter(|(_, day)| *day == Day::HELD);
            held.map(|(rtype, _)| *rtype).collect()
        };
        let rebucketing = self.to_rebucket(tenant, away, &mut batch)?;
        self.commit_put(batch, &[slot]).await?;
        self.superseded.add(intent);
        let bound = self.holds.bound_to(tenant.ord, id);
        let hold = self.holds.set(tenant.ord, hold);
        {
            let mut state = tenant.state_mut();
            state.rebucketing = rebucketing;
            state.rules_epoch += 1;
        }
        self.superseded.unhold(tenant.ord);
        self.metrics.holds_ended.one();
        self.unbind(tenant, id, &bound).await?;
        Ok(hold)
    }
}

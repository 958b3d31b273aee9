//! Legal holds: what may not be erased, and until when.
//!
//! Invariants: what a hold reaches is judged from the record itself, when it is placed, at every put and before every
//! erasure, so that there is nothing to keep in step; a record that a hold reached once stays held until that hold
//! ends, whatever becomes of its fields; a hold that does not open holds everything of its tenant.

pub mod draft;
pub mod keep;
pub mod place;
pub mod postponed;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

pub use self::keep::HOLD;
use self::postponed::Postponed;
use super::fieldmap::FieldMap;
use super::value::Value;
use crate::class::{FieldKind, Role};
use crate::clock::UnixMillis;
use crate::id::{FieldOrd, RecordId, TenantOrd, TypeOrd};

/// What a record must have to be reached by a query.
pub struct Condition {
    pub field: FieldOrd,
    pub kind: FieldKind,
    pub value: Value,
}

/// What a hold reaches.
pub enum Scope {
    Record(RecordId),
    /// Every record about a subject, and the subject itself.
    Subject(RecordId),
    /// Every record of a type that meets all conditions.
    Query(TypeOrd, Vec<Condition>),
}

/// How a hold ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    pub at: UnixMillis,
    /// `None`: its time was over.
    pub by: Option<String>,
    pub note: String,
}

/// A legal hold.
pub struct Hold {
    pub id: RecordId,
    pub scope: Scope,
    pub reason: String,
    /// Who ordered it.
    pub issuer: String,
    /// A file number, say.
    pub reference: String,
    /// Who may read what is only kept because of the hold.
    pub readers: BTreeSet<Role>,
    pub placed: UnixMillis,
    pub placed_by: String,
    pub expires: Option<UnixMillis>,
    pub ended: Option<Ending>,
}

/// What a hold is held against.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    pub rtype: TypeOrd,
    pub record: RecordId,
    pub map: &'a FieldMap,
}

impl Hold {
    /// Whether it reaches a record as it is now.
    pub fn reaches(&self, facts: Facts<'_>) -> bool {
        match &self.scope {
            Scope::Record(record) => *record == facts.record,
            Scope::Subject(subject) => *subject == facts.map.subject,
            Scope::Query(rtype, conditions) => {
                let meets = |c: &Condition| {
                    facts.map.fields.get(&c.field).is_some_and(|v| v.matches(&c.value, c.kind))
                };
                *rtype == facts.rtype && conditions.iter().all(meets)
            }
        }
    }

    fn is_query(&self) -> bool {
        matches!(self.scope, Scope::Query(..))
    }
}

/// A tenant's holds, and what follows from them.
#[derive(Default)]
struct OfTenant {
    active: BTreeMap<RecordId, Arc<Hold>>,
    ended: BTreeMap<RecordId, Arc<Hold>>,
    /// Holds that are there and do not open.
    unreadable: BTreeSet<RecordId>,
    /// Records that a query reached before they changed, and by which holds.
    bound: BTreeMap<RecordId, BTreeSet<RecordId>>,
    postponed: BTreeMap<RecordId, Postponed>,
    /// A hold ended: what was postponed is to be looked at.
    dirty: bool,
}

/// All of them.
#[derive(Default)]
pub struct Holds(RwLock<BTreeMap<TenantOrd, OfTenant>>);

impl Holds {
    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<TenantOrd, OfTenant>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<TenantOrd, OfTenant>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing of a tenant can be held, whatever it is.
    pub fn none(&self, tenant: TenantOrd) -> bool {
        let all = self.read();
        all.get(&tenant).is_none_or(|t| t.active.is_empty() && t.unreadable.is_empty())
    }

    /// Whether a hold keeps a record.
    pub fn is_held(&self, tenant: TenantOrd, facts: Facts<'_>) -> bool {
        let all = self.read();
        let Some(of) = all.get(&tenant) else { return false };
        !of.unreadable.is_empty()
            || of.bound.contains_key(&facts.record)
            || of.active.values().any(|hold| hold.reaches(facts))
    }

    /// Whether a hold may keep a record that nobody can open.
    pub fn may_hold(&self, tenant: TenantOrd, record: RecordId) -> bool {
        let all = self.read();
        let Some(of) = all.get(&tenant) else { return false };
        let may = |hold: &Arc<Hold>| !matches!(hold.scope, Scope::Record(id) if id != record);
        !of.unreadable.is_empty() || of.bound.contains_key(&record) || of.active.values().any(may)
    }

    /// The holds that keep a record.
    pub fn on(&self, tenant: TenantOrd, facts: Facts<'_>) -> Vec<Arc<Hold>> {
        let all = self.read();
        let Some(of) = all.get(&tenant) else { return Vec::new() };
        let bound = of.bound.get(&facts.record);
        let on = |hold: &&Arc<Hold>| {
            bound.is_some_and(|by| by.contains(&hold.id)) || hold.reaches(facts)
        };
        of.active.values().filter(on).cloned().collect()
    }

    /// Holds that reach a record by their query, and that it is not bound to yet.
    pub fn queries_on(&self, tenant: TenantOrd, facts: Facts<'_>) -> Vec<Arc<Hold>> {
        let all = self.read();
        let Some(of) = all.get(&tenant) else { return Vec::new() };
        let bound = of.bound.get(&facts.record);
        let reaches = |hold: &&Arc<Hold>| {
            let known = bound.is_some_and(|by| by.contains(&hold.id));
            hold.is_query() && !known && hold.reaches(facts)
        };
        of.active.values().filter(reaches).cloned().collect()
    }

    pub fn bind(&self, tenant: TenantOrd, record: RecordId, holds: &[RecordId]) {
        if !holds.is_empty() {
            let mut all = self.write();
            all.entry(tenant).or_default().bound.entry(record).or_default().extend(holds);
        }
    }

    /// Records that are bound to a hold.
    pub fn bound_to(&self, tenant: TenantOrd, hold: RecordId) -> Vec<RecordId> {
        let all = self.read();
        let Some(of) = all.get(&tenant) else { return Vec::new() };
        of.bound.iter().filter(|(_, by)| by.contains(&hold)).map(|(record, _)| *record).collect()
    }

    /// Takes a hold as it is on disk.
    pub fn set(&self, tenant: TenantOrd, hold: Hold) -> Arc<Hold> {
        let hold = Arc::new(hold);
        let mut all = self.write();
        let of = all.entry(tenant).or_default();
        of.unreadable.remove(&hold.id);
        if hold.ended.is_none() {
            of.active.insert(hold.id, hold.clone());
            return hold;
        }
        of.active.remove(&hold.id);
        of.ended.insert(hold.id, hold.clone());
        of.bound.retain(|_, by| {
            by.remove(&hold.id);
            !by.is_empty()
        });
        of.dirty = true;
        hold
    }

    pub fn set_unreadable(&self, tenant: TenantOrd, hold: RecordId) {
        self.write().entry(tenant).or_default().unreadable.insert(hold);
    }

    /// A hold was not stored after all.
    pub fn take_back(&self, tenant: TenantOrd, hold: RecordId) {
        if let Some(of) = self.write().get_mut(&tenant) {
            of.active.remove(&hold);
            of.dirty = true;
        }
    }

    /// A hold is not there any more.
    pub fn forget(&self, tenant: TenantOrd, hold: RecordId) {
        if let Some(of) = self.write().get_mut(&tenant) {
            of.ended.remove(&hold);
        }
    }

    pub fn find(&self, tenant: TenantOrd, hold: RecordId) -> Option<Arc<Hold>> {
        let all = self.read();
        let of = all.get(&tenant)?;
        of.active.get(&hold).or_else(|| of.ended.get(&hold)).cloned()
    }

    /// Holds of a tenant by id, after `after`.
    pub fn list(
        &self,
        tenant: TenantOrd,
        ended: bool,
        after: Option<RecordId>,
        most: usize,
    ) -> Vec<Arc<Hold>> {
        let all = self.read();
        let Some(of) = all.get(&tenant) else { return Vec::new() };
        let gone = of.ended.values().filter(|_| ended);
        let mut found: Vec<&Arc<Hold>> =
            of.active.values().chain(gone).filter(|h| after.is_none_or(|a| h.id > a)).collect();
        found.sort_unstable_by_key(|h| h.id);
        found.into_iter().take(most).cloned().collect()
    }

    pub fn count(&self, tenant: TenantOrd) -> usize {
        self.read().get(&tenant).map_or(0, |of| of.active.len() + of.ended.len())
    }

    /// Holds in force, erasures that wait for them, and holds that do not open.
    pub fn totals(&self) -> (usize, usize, usize) {
        let all = self.read();
        let sum = |of: fn(&OfTenant) -> usize| all.values().map(of).sum();
        (sum(|t| t.active.len()), sum(|t| t.postponed.len()), sum(|t| t.unreadable.len()))
    }

    /// Holds in force whose time is over.
    pub fn over(&self, now: UnixMillis) -> Vec<(TenantOrd, Arc<Hold>)> {
        let all = self.read();
        let over = |hold: &&Arc<Hold>| hold.expires.is_some_and(|at| at <= now);
        let of = |(tenant, of): (&TenantOrd, &OfTenant)| {
            let tenant = *tenant;
            let found: Vec<_> =
                of.active.values().filter(over).map(|h| (tenant, h.clone())).collect();
            found
        };
        all.iter().flat_map(of).collect()
    }

    pub fn postpone(&self, tenant: TenantOrd, record: RecordId, postponed: Postponed) {
        self.write().entry(tenant).or_default().postponed.insert(record, postponed);
    }

    pub fn postponed(&self, tenant: TenantOrd, record: RecordId) -> Option<Postponed> {
        self.read().get(&tenant)?.postponed.get(&record).copied()
    }

    /// Postponed erasures of a tenant by record, after `after`.
    pub fn all_postponed(
        &self,
        tenant: TenantOrd,
        after: Option<RecordId>,
        most: usize,
    ) -> Vec<(RecordId, Postponed)> {
        let all = self.read();
        let Some(of) = all.get(&tenant) else { return Vec::new() };
        let later = of.postponed.iter().filter(|(r, _)| after.is_none_or(|a| **r > a));
        later.take(most).map(|(r, p)| (*r, *p)).collect()
    }

    /// The erasure was carried out.
    pub fn settle(&self, tenant: TenantOrd, record: RecordId) {
        if let Some(of) = self.write().get_mut(&tenant) {
            of.postponed.remove(&record);
            of.bound.remove(&record);
        }
    }

    /// Tenants of which a hold ended since this was last asked.
    pub fn take_dirty(&self) -> Vec<TenantOrd> {
        let mut all = self.write();
        let dirty = |(tenant, of): (&TenantOrd, &mut OfTenant)| {
            std::mem::take(&mut of.dirty).then_some(*tenant)
        };
        all.iter_mut().filter_map(dirty).collect()
    }

    pub fn set_dirty(&self, tenant: TenantOrd) {
        self.write().entry(tenant).or_default().dirty = true;
    }
}

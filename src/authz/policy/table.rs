//! A compiled policy: every answer that it can give, laid out so that looking one up is an array access.
//!
//! Guarantees: the table answers for every name there is. Of identities, tenants, record types and purposes it has a
//! place for each that the policy mentions, and one for all others, between which no policy can tell (form.rs). What is
//! not in the table is denied.

use crate::authz::{Action, ClassSet, Principal};
use crate::class::Role;

/// Calls whose answers show fields.
pub(super) const CALLS: [Action; 4] =
    [Action::ReadRecord, Action::ExportRecords, Action::CreateRecord, Action::UpdateRecord];

/// Names that the policy mentions, each with a place; the place after them is every other name's.
#[derive(Debug, Default)]
pub struct Names(Vec<Box<str>>);

impl Names {
    pub fn new(mut names: Vec<Box<str>>) -> Self {
        names.sort();
        names.dedup();
        Self(names)
    }

    pub fn place(&self, name: &str) -> usize {
        self.0.binary_search_by(|n| (**n).cmp(name)).unwrap_or(self.0.len())
    }

    pub fn places(&self) -> usize {
        self.0.len() + 1
    }

    /// What stands at each place; `None` at the last, for every other name.
    pub fn iter(&self) -> impl Iterator<Item = Option<&str>> {
        self.0.iter().map(|n| Some(&**n)).chain([None])
    }
}

/// The names of each kind that a policy mentions.
#[derive(Debug, Default)]
pub struct Mentioned {
    pub identities: Names,
    pub tenants: Names,
    pub types: Names,
    pub purposes: Names,
}

impl Mentioned {
    /// Identities in each of their possible roles.
    pub fn rows(&self) -> usize {
        self.identities.places().saturating_mul(Role::ALL.len())
    }

    /// The vault; then each tenant, followed by its record types.
    fn targets(&self) -> usize {
        self.tenants.places().saturating_mul(self.types.places() + 1) + 1
    }

    /// Those that are mentioned, all others, and none.
    pub fn purposes(&self) -> usize {
        self.purposes.places() + 1
    }
}

/// Which row of a table an identity has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row(usize);

/// What an action is done to, as a place of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Vault,
    /// A tenant as such, by its place.
    Tenant(usize),
    /// A tenant's records of a type, by both places.
    Records(usize, usize),
}

/// Every answer of a policy.
#[derive(Debug)]
pub struct Table {
    pub mentioned: Mentioned,
    /// By row, action and target.
    allowed: Vec<bool>,
    /// By row, call, tenant, type and purpose.
    clear: Vec<ClassSet>,
}

impl Table {
    /// One that denies everything.
    pub fn new(mentioned: Mentioned) -> Self {
        let rows = mentioned.rows();
        let allowed = rows * Action::PERMITTED.len() * mentioned.targets();
        let records = mentioned.tenants.places() * mentioned.types.places();
        let clear = rows * CALLS.len() * records * mentioned.purposes();
        Self { mentioned, allowed: vec![false; allowed], clear: vec![ClassSet::NONE; clear] }
    }

    /// Of an identity that acts in a role.
    pub fn row(&self, identity: &Principal, role: Role) -> Row {
        self.row_at(self.mentioned.identities.place(identity.as_str()), role)
    }

    pub fn row_at(&self, identity: usize, role: Role) -> Row {
        Row(identity * Role::ALL.len() + role as usize)
    }

    fn cell(&self, Row(row): Row, action: Action, target: Target) -> usize {
        let of_tenant = self.mentioned.types.places() + 1;
        let target = match target {
            Target::Vault => 0,
            Target::Tenant(tenant) => 1 + tenant * of_tenant,
            Target::Records(tenant, rtype) => 2 + tenant * of_tenant + rtype,
        };
        (row * Action::PERMITTED.len() + action as usize) * self.mentioned.targets() + target
    }

    fn clear_cell(
        &self,
        Row(row): Row,
        call: Action,
        (tenant, rtype): (usize, usize),
        purpose: usize,
    ) -> Option<usize> {
        let m = &self.mentioned;
        let call = CALLS.iter().position(|c| *c == call)?;
        let records = (row * CALLS.len() + call) * m.tenants.places() + tenant;
        Some((records * m.types.places() + rtype) * m.purposes() + purpose)
    }

    pub(super) fn allow(&mut self, row: Row, action: Action, target: Target) {
        let cell = self.cell(row, action, target);
        if let Some(cell) = self.allowed.get_mut(cell) {
            *cell = true;
        }
    }

    pub(super) fn show(
        &mut self,
        row: Row,
        call: Action,
        records: (usize, usize),
        purpose: usize,
        clear: ClassSet,
    ) {
        let cell = self.clear_cell(row, call, records, purpose);
        if let Some(cell) = cell.and_then(|cell| self.clear.get_mut(cell)) {
            *cell = clear;
        }
    }

    pub fn allows(&self, row: Row, action: Action, target: Target) -> bool {
        self.allowed.get(self.cell(row, action, target)).copied().unwrap_or_default()
    }

    /// Whether any type of a tenant's records is reached.
    pub fn reaches_any_type(&self, row: Row, action: Action, tenant: usize) -> bool {
        (0..self.mentioned.types.places())
            .any(|rtype| self.allows(row, action, Target::Records(tenant, rtype)))
    }

    pub fn reaches_every_type(&self, row: Row, action: Action, tenant: usize) -> bool {
        (0..self.mentioned.types.places())
            .all(|rtype| self.allows(row, action, Target::Records(tenant, rtype)))
    }

    /// What `call` may show unmasked of a tenant's records of a type.
    pub fn clear(
        &self,
        row: Row,
        call: Action,
        records: (usize, usize),
        purpose: usize,
    ) -> ClassSet {
        let cell = self.clear_cell(row, call, records, purpose);
        cell.and_then(|cell| self.clear.get(cell)).copied().unwrap_or_default()
    }

    /// The place of what a call names as its purpose; the last is that of none.
    pub fn purpose(&self, named: Option<&str>) -> usize {
        let purposes = &self.mentioned.purposes;
        named.map_or(purposes.places(), |name| purposes.place(name))
    }
}

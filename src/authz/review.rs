//! Who may do what: the answers of a policy and its bindings, for people who review them.
//!
//! Guarantees: the entries are read from the very table that decides, narrowed as a decision narrows it; together they
//! say of every identity, action, tenant and record type whether it is allowed, and what is shown in clear.

use std::collections::BTreeMap;

use serde::Serialize;

use super::action::Reach;
use super::authority::InForce;
use super::permit::Rights;
use super::policy::{Row, Table, Target};
use super::{Action, ClassSet, TenantScope};
use crate::class::Role;

/// Stands for every name that the policy does not mention.
const OTHERS: &str = "*";
/// Stands for a call that names no purpose.
const NO_PURPOSE: &str = "none";

/// One right of an identity.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Entry {
    pub identity: String,
    pub role: Role,
    pub actions: Vec<&'static str>,
    /// Empty for acts on the vault. `*`: those that no other entry names.
    pub tenants: Vec<String>,
    /// Empty for acts that are not about records. `*`: those that no other entry names.
    pub types: Vec<String>,
    /// Empty for calls that show nothing.
    pub clear: Vec<Shown>,
}

/// What is shown unmasked, and for which purposes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Shown {
    /// `*`: those that no other line names; `none`: a call that names no purpose.
    pub purposes: Vec<String>,
    pub classes: Vec<&'static str>,
}

/// Collects what has the same key, in the order of keys.
fn grouped<K: Ord, V>(pairs: impl IntoIterator<Item = (K, V)>) -> BTreeMap<K, Vec<V>> {
    let mut groups = BTreeMap::<K, Vec<V>>::new();
    for (key, value) in pairs {
        groups.entry(key).or_default().push(value);
    }
    groups
}

/// Every right of every identity, by identity.
pub fn review(in_force: &InForce) -> Vec<Entry> {
    let mut bound: Vec<_> = in_force.bindings.iter().collect();
    bound.sort_by_key(|(principal, _)| *principal);
    let table = &in_force.policy.table;
    let mut entries = Vec::new();
    for (principal, rights) in bound {
        let all = Action::PERMITTED.iter().flat_map(|action| {
            let found = of_action(table, rights, *action).into_iter();
            found.map(|what| (what, action.name()))
        });
        for ((tenants, types, clear), actions) in grouped(all) {
            let identity = principal.to_string();
            entries.push(Entry { identity, role: rights.role, actions, tenants, types, clear });
        }
    }
    entries
}

type What = (Vec<String>, Vec<String>, Vec<Shown>);

/// Where an identity may do an action: tenants and types that it may do the same with are together.
fn of_action(table: &Table, rights: &Rights, action: Action) -> Vec<What> {
    let row = rights.row;
    let Some(reach) = action.reach() else { return Vec::new() };
    let mut found = Vec::new();
    let on_vault = matches!(reach, Reach::Vault | Reach::WholeVault | Reach::Either)
        && (reach != Reach::WholeVault || rights.tenants == TenantScope::All);
    if on_vault && table.allows(row, action, Target::Vault) {
        found.push((Vec::new(), Vec::new(), Vec::new()));
    }
    let mut by_types = Vec::new();
    for (tenant, place) in tenants(table, &rights.tenants) {
        match reach {
            Reach::Tenant | Reach::Either => {
                if table.allows(row, action, Target::Tenant(place)) {
                    by_types.push((Vec::new(), tenant));
                }
            }
            Reach::Records => {
                let types = types(table, rights, action, place);
                if !types.is_empty() {
                    by_types.push((types, tenant));
                }
            }
            Reach::Vault | Reach::WholeVault => {}
        }
    }
    for (types, tenants) in grouped(by_types) {
        if types.is_empty() {
            found.push((tenants, Vec::new(), Vec::new()));
        } else {
            found.extend(types.into_iter().map(|(clear, types)| (tenants.clone(), types, clear)));
        }
    }
    found
}

/// The tenants of a scope, with their places.
fn tenants(table: &Table, scope: &TenantScope) -> Vec<(String, usize)> {
    let names = &table.mentioned.tenants;
    match scope {
        TenantScope::All => {
            let named = names.iter().map(|n| n.unwrap_or(OTHERS).to_owned());
            named.enumerate().map(|(place, name)| (name, place)).collect()
        }
        TenantScope::Only(ids) => ids.iter().map(|id| (id.to_string(), names.place(id))).collect(),
    }
}

/// The types that an action reaches, those together of which the same is shown.
fn types(
    table: &Table,
    rights: &Rights,
    action: Action,
    tenant: usize,
) -> Vec<(Vec<Shown>, Vec<String>)> {
    let reached = table
        .mentioned
        .types
        .iter()
        .enumerate()
        .filter(|(place, _)| table.allows(rights.row, action, Target::Records(tenant, *place)));
    let shown = reached.map(|(place, name)| {
        let shown = shown(table, (rights.row, rights.clear), action, (tenant, place));
        (shown, name.unwrap_or(OTHERS).to_owned())
    });
    grouped(shown).into_iter().collect()
}

fn shown(
    table: &Table,
    (row, bound): (Row, ClassSet),
    call: Action,
    records: (usize, usize),
) -> Vec<Shown> {
    let named = table.mentioned.purposes.iter().map(|n| n.unwrap_or(OTHERS));
    let purposes = named.chain([NO_PURPOSE]).enumerate();
    let by_purpose = purposes.map(|(place, purpose)| {
        let classes = table.clear(row, call, records, place).and(bound);
        (classes.iter().map(|class| class.name()).collect::<Vec<_>>(), purpose.to_owned())
    });
    let lines = grouped(by_purpose).into_iter().filter(|(classes, _)| !classes.is_empty());
    lines.map(|(classes, purposes)| Shown { purposes, classes }).collect()
}

//! From policies to a [`Table`]: Cedar is asked for each cell, once.
//!
//! Guarantees: a cell is allowed only if Cedar allowed exactly that request, held to the schema, and no policy failed
//! while it was asked; for Cedar passes over a policy that fails, and it may be the one that forbids.

use std::collections::HashSet;

use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityId, EntityTypeName, EntityUid,
    PolicySet, Request, RestrictedExpression, Schema,
};

use super::fault::Fault;
use super::table::{CALLS, Mentioned, Row, Table, Target};
use crate::authz::action::Reach;
use crate::authz::{Action, ClassSet};
use crate::class::{Classification, Role};
use crate::limits::POLICY_CELLS_MAX;

/// Stands for every name that is not mentioned. No name has this form.
const OTHER: &str = "*";

/// How many requests a table takes.
pub fn cells(m: &Mentioned) -> usize {
    let (tenants, types) = (m.tenants.places(), m.types.places());
    let records = tenants.saturating_mul(types);
    let of = |action: &Action| match action.reach() {
        Some(Reach::Vault | Reach::WholeVault) => 1,
        Some(Reach::Tenant) => tenants,
        Some(Reach::Either) => tenants.saturating_add(1),
        Some(Reach::Records) => records,
        None => 0,
    };
    let allowed = Action::PERMITTED.iter().map(of).fold(0_usize, usize::saturating_add);
    let shown = records.saturating_mul(m.purposes() * CALLS.len() * Classification::ALL.len());
    m.rows().saturating_mul(allowed.saturating_add(shown))
}

/// Fails if the table would be too large, or if the schema lacks something that the vault asks.
pub fn compile(set: &PolicySet, schema: &Schema, mentioned: Mentioned) -> Result<Table, Fault> {
    let cells = cells(&mentioned);
    if cells > POLICY_CELLS_MAX {
        return Err(Fault::whole(format!(
            "takes {cells} decisions ({} identities, {} tenants, {} types and {} purposes are named), \
             at most {POLICY_CELLS_MAX}: name fewer",
            mentioned.identities.places() - 1,
            mentioned.tenants.places() - 1,
            mentioned.types.places() - 1,
            mentioned.purposes.places() - 1,
        )));
    }
    let mut table = Table::new(mentioned);
    for role in Role::ALL {
        let asker = Asker::new(set, schema, &table.mentioned, role)?;
        let identities = names(&table.mentioned.identities);
        for (place, identity) in identities.iter().enumerate() {
            let row = table.row_at(place, role);
            asker.fill(identity, row, &mut table)?;
        }
    }
    Ok(table)
}

fn names(of: &super::table::Names) -> Vec<String> {
    of.iter().map(|name| name.unwrap_or(OTHER).to_owned()).collect()
}

fn defect(what: impl std::fmt::Display) -> Fault {
    Fault::whole(format!("the vault and its schema of policies do not fit: {what}"))
}

/// Asks Cedar about identities in one role.
struct Asker<'a> {
    authorizer: Authorizer,
    policies: &'a PolicySet,
    schema: &'a Schema,
    entities: Entities,
}

impl<'a> Asker<'a> {
    fn new(
        policies: &'a PolicySet,
        schema: &'a Schema,
        mentioned: &Mentioned,
        role: Role,
    ) -> Result<Self, Fault> {
        let entity = |name, parents: &[EntityUid]| {
            Entity::new_no_attrs(name, parents.iter().cloned().collect::<HashSet<_>>())
        };
        let mut all = Vec::new();
        for identity in names(&mentioned.identities) {
            all.push(entity(uid("Identity", &identity)?, &[uid("Role", role.name())?]));
        }
        for tenant in names(&mentioned.tenants) {
            let parent = uid("Tenant", &tenant)?;
            all.push(entity(parent.clone(), &[uid("Vault", "vault")?]));
            for rtype in names(&mentioned.types) {
                let parents = [parent.clone(), uid("RecordType", &rtype)?];
                all.push(entity(uid("Records", &format!("{tenant}/{rtype}"))?, &parents));
            }
        }
        let entities = Entities::from_entities(all, Some(schema)).map_err(defect)?;
        Ok(Self { authorizer: Authorizer::new(), policies, schema, entities })
    }

    fn ask(
        &self,
        identity: &str,
        action: &str,
        resource: EntityUid,
        context: Context,
    ) -> Result<bool, Fault> {
        let (identity, action) = (uid("Identity", identity)?, uid("Action", action)?);
        let request = Request::new(identity, action, resource, context, Some(self.schema));
        let request = request.map_err(defect)?;
        let answer = self.authorizer.is_authorized(&request, self.policies, &self.entities);
        match answer.diagnostics().errors().next() {
            Some(error) => Err(Fault::whole(format!("fails while it is evaluated: {error}"))),
            None => Ok(answer.decision() == Decision::Allow),
        }
    }

    /// Every cell of one identity.
    fn fill(&self, identity: &str, row: Row, table: &mut Table) -> Result<(), Fault> {
        let tenants = names(&table.mentioned.tenants);
        let types = names(&table.mentioned.types);
        for action in Action::PERMITTED.iter().copied() {
            let Some(reach) = action.reach() else { continue };
            let mut targets = Vec::new();
            if matches!(reach, Reach::Vault | Reach::WholeVault | Reach::Either) {
                targets.push((Target::Vault, uid("Vault", "vault")?));
            }
            for (t, tenant) in tenants.iter().enumerate() {
                if matches!(reach, Reach::Tenant | Reach::Either) {
                    targets.push((Target::Tenant(t), uid("Tenant", tenant)?));
                }
                if reach == Reach::Records {
                    for (y, rtype) in types.iter().enumerate() {
                        targets.push((Target::Records(t, y), records(tenant, rtype)?));
                    }
                }
            }
            for (target, resource) in targets {
                if self.ask(identity, action.name(), resource, Context::empty())? {
                    table.allow(row, action, target);
                }
            }
        }
        for (t, tenant) in tenants.iter().enumerate() {
            for (y, rtype) in types.iter().enumerate() {
                self.fill_clear(identity, row, ((t, tenant), (y, rtype)), table)?;
            }
        }
        Ok(())
    }

    /// What of a tenant's records of a type is shown unmasked.
    fn fill_clear(
        &self,
        identity: &str,
        row: Row,
        ((t, tenant), (y, rtype)): ((usize, &str), (usize, &str)),
        table: &mut Table,
    ) -> Result<(), Fault> {
        let named = names(&table.mentioned.purposes).into_iter().map(Some);
        let purposes: Vec<Option<String>> = named.chain([None]).collect();
        for call in CALLS {
            for (p, purpose) in purposes.iter().enumerate() {
                let mut clear = ClassSet::NONE;
                for class in Classification::ALL {
                    let context = seeing(class, call, purpose.as_deref())?;
                    if self.ask(identity, "SeeClear", records(tenant, rtype)?, context)? {
                        clear = clear.with(class);
                    }
                }
                table.show(row, call, (t, y), p, clear);
            }
        }
        Ok(())
    }
}

fn uid(kind: &str, id: &str) -> Result<EntityUid, Fault> {
    let kind: EntityTypeName = kind.parse().map_err(defect)?;
    Ok(EntityUid::from_type_name_and_id(kind, EntityId::new(id)))
}

fn records(tenant: &str, rtype: &str) -> Result<EntityUid, Fault> {
    uid("Records", &format!("{tenant}/{rtype}"))
}

/// The context of `SeeClear`.
fn seeing(class: Classification, call: Action, purpose: Option<&str>) -> Result<Context, Fault> {
    let mut pairs =
        vec![("class", uid("Class", class.name())?), ("call", uid("Call", call.name())?)];
    if let Some(purpose) = purpose {
        pairs.push(("purpose", uid("Purpose", purpose)?));
    }
    let pairs = pairs
        .into_iter()
        .map(|(key, uid)| (key.to_owned(), RestrictedExpression::new_entity_uid(uid)));
    Context::from_pairs(pairs).map_err(defect)
}

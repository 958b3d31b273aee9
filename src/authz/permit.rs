//! The outcome of a decision: a [`Permit`], which is proof of it, or a [`Denial`].
//!
//! Guarantees: a permit is for one action of one principal on one tenant (or, for acts on the vault, on none), and says
//! which record types it reaches there and what of them the principal may see in clear, as the policy said when it was
//! made. It has no public constructor and is not `Clone`.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use super::policy::{Policy, Row, Target};
use super::{Action, ActionKind, Principal, TenantScope};
use crate::class::{Classification, Role};

/// A set of classifications.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct ClassSet(u8);

impl ClassSet {
    pub const NONE: Self = Self(0);
    pub const ALL: Self = Self::NONE
        .with(Classification::Public)
        .with(Classification::General)
        .with(Classification::Sensitive);

    #[must_use]
    pub const fn with(self, class: Classification) -> Self {
        Self(self.0 | 1 << class as u8)
    }

    pub const fn contains(self, class: Classification) -> bool {
        self.0 & 1 << class as u8 != 0
    }

    /// What both hold.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub fn iter(self) -> impl Iterator<Item = Classification> {
        Classification::ALL.into_iter().filter(move |class| self.contains(*class))
    }
}

impl FromIterator<Classification> for ClassSet {
    fn from_iter<I: IntoIterator<Item = Classification>>(classes: I) -> Self {
        classes.into_iter().fold(Self::NONE, Self::with)
    }
}

impl fmt::Debug for ClassSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// Proof that `A` was allowed. Vault calls take one.
pub struct Permit<A: ActionKind> {
    principal: Principal,
    tenant: Option<Box<str>>,
    rights: Rights,
    policy: Arc<Policy>,
    /// Place of the tenant in the policy's table.
    place: usize,
    /// Whether it reaches every record type.
    every_type: bool,
    kind: PhantomData<A>,
}

/// What an identity is bound to, and its row in the policy's table.
#[derive(Clone, Debug)]
pub(super) struct Rights {
    pub role: Role,
    pub tenants: TenantScope,
    pub clear: ClassSet,
    pub row: Row,
}

impl<A: ActionKind> fmt::Debug for Permit<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Permit({} of {})", A::ACTION.name(), self.principal)
    }
}

impl<A: ActionKind> Permit<A> {
    pub(super) fn new(
        principal: &Principal,
        tenant: Option<&str>,
        rights: &Rights,
        policy: &Arc<Policy>,
    ) -> Self {
        let table = &policy.table;
        let place = tenant.map_or(0, |tenant| table.mentioned.tenants.place(tenant));
        // What is about no tenant reaches no type: the table has no such cell.
        let every_type = table.reaches_every_type(rights.row, A::ACTION, place);
        Self {
            principal: principal.clone(),
            tenant: tenant.map(Box::from),
            rights: rights.clone(),
            policy: Arc::clone(policy),
            place,
            every_type,
            kind: PhantomData,
        }
    }

    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    pub fn role(&self) -> Role {
        self.rights.role
    }

    pub fn action(&self) -> Action {
        A::ACTION
    }

    /// The one tenant that this permit is for; `None` for an act on the vault.
    pub fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    /// Whether this permit is good for `tenant`: the one it is for or, if it is for none, one that its identity is
    /// bound to and that the policy lets it look at. Lists of tenants show only those.
    pub fn covers(&self, tenant: &str) -> bool {
        match self.tenant() {
            Some(own) => own == tenant,
            None => {
                let table = &self.policy.table;
                let target = Target::Tenant(table.mentioned.tenants.place(tenant));
                self.rights.tenants.contains(tenant)
                    && table.allows(self.rights.row, A::ACTION, target)
            }
        }
    }

    /// Whether its identity is bound to this tenant, whatever it may do there: what is told of the vault names no
    /// other.
    pub fn is_bound_to(&self, tenant: &str) -> bool {
        self.rights.tenants.contains(tenant)
    }

    /// Whether this permit is for the whole vault of an identity that is bound to all tenants.
    pub fn covers_all(&self) -> bool {
        self.tenant().is_none() && self.rights.tenants == TenantScope::All
    }

    /// Whether it reaches the tenant's records of this type. The vault asks where it knows the type: at the store.
    pub fn reaches(&self, rtype: &str) -> bool {
        let table = &self.policy.table;
        let target = Target::Records(self.place, table.mentioned.types.place(rtype));
        self.every_type || table.allows(self.rights.row, A::ACTION, target)
    }

    /// Whether it reaches the tenant's records of every type.
    pub fn reaches_every_type(&self) -> bool {
        self.every_type
    }

    /// What may be shown unmasked of the tenant's records of a type to who reads them for `purpose`.
    pub fn clear(&self, rtype: &str, purpose: Option<&str>) -> ClassSet {
        let table = &self.policy.table;
        let records = (self.place, table.mentioned.types.place(rtype));
        let clear = table.clear(self.rights.row, A::ACTION, records, table.purpose(purpose));
        clear.and(self.rights.clear)
    }
}

/// Which right is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// No binding names the identity.
    Binding,
    /// No policy gives the action to the identity, which has this role.
    Role(Role),
    /// The identity is not bound to the tenant, or to all of them where the act is on the whole vault.
    Tenant,
    /// The action is about one tenant and none was named, or the other way round.
    Target,
}

/// The action is not allowed. Says which right is missing, for the log; never what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Denial {
    pub action: Action,
    pub missing: Missing,
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let action = self.action.name();
        match self.missing {
            Missing::Binding => write!(f, "{action}: the identity is bound to no role"),
            Missing::Role(role) => {
                write!(f, "{action}: no policy gives it to an identity of the role {}", role.name())
            }
            Missing::Tenant => write!(f, "{action}: outside the tenants of the identity"),
            Missing::Target => write!(f, "{action}: not about the tenant or vault it names"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_set_holds_what_was_put_in() {
        use Classification::{General, Public, Sensitive};
        let set: ClassSet = [Public, Sensitive].into_iter().collect();
        assert!(set.contains(Public) && set.contains(Sensitive) && !set.contains(General));
        assert_eq!(set.with(General), ClassSet::ALL);
        assert!([Public, General, Sensitive].into_iter().all(|c| !ClassSet::NONE.contains(c)));
        assert_eq!(format!("{set:?}"), "{Public, Sensitive}");
        let both: ClassSet = [Sensitive, General].into_iter().collect();
        assert_eq!(set.and(both), ClassSet::NONE.with(Sensitive));
    }
}

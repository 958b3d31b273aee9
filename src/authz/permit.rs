//! The outcome of a decision: a [`Permit`], which is proof of it, or a [`Denial`].
//!
//! Guarantees: a permit is for one action of one principal on one tenant (or, for acts on the vault, on none), and says
//! what the principal may see in clear. It has no public constructor and is not `Clone`.

use std::fmt;
use std::marker::PhantomData;

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
}

impl FromIterator<Classification> for ClassSet {
    fn from_iter<I: IntoIterator<Item = Classification>>(classes: I) -> Self {
        classes.into_iter().fold(Self::NONE, Self::with)
    }
}

impl fmt::Debug for ClassSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [Classification::Public, Classification::General, Classification::Sensitive];
        f.debug_set().entries(all.into_iter().filter(|c| self.contains(*c))).finish()
    }
}

/// Proof that `A` was allowed. Vault calls take one.
#[derive(Debug)]
pub struct Permit<A: ActionKind> {
    principal: Principal,
    role: Role,
    tenant: Option<Box<str>>,
    scope: TenantScope,
    clear: ClassSet,
    kind: PhantomData<A>,
}

impl<A: ActionKind> Permit<A> {
    pub(super) fn new(
        principal: &Principal,
        role: Role,
        tenant: Option<&str>,
        scope: &TenantScope,
        clear: ClassSet,
    ) -> Self {
        Self {
            principal: principal.clone(),
            role,
            tenant: tenant.map(Box::from),
            scope: scope.clone(),
            clear,
            kind: PhantomData,
        }
    }

    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    pub fn role(&self) -> Role {
        self.role
    }

    pub fn action(&self) -> Action {
        A::ACTION
    }

    /// The one tenant that this permit is for; `None` for an act on the vault.
    pub fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    /// Whether this permit reaches `tenant`: the one it is for or, if it is for none, one that its identity is bound
    /// to. Lists of tenants show only those.
    pub fn covers(&self, tenant: &str) -> bool {
        match self.tenant() {
            Some(own) => own == tenant,
            None => self.scope.contains(tenant),
        }
    }

    /// Whether this permit is for the whole vault of an identity that is bound to all tenants.
    pub fn covers_all(&self) -> bool {
        self.tenant().is_none() && self.scope == TenantScope::All
    }

    /// What may be returned unmasked.
    pub fn clear(&self) -> ClassSet {
        self.clear
    }
}

/// Which right is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// No binding names the identity.
    Binding,
    /// The identity's role lacks the action.
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
            Missing::Role(role) => write!(f, "{action}: not a right of the role {role:?}"),
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
    }
}

//! The bindings of identities to roles, and decisions by them and the policy.
//!
//! Guarantees: deny by default. A decision reads the bindings and the policy's table and nothing else; both are of one
//! set, which is swapped whole. A binding narrows what the policy gives and never widens it.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use super::action::Reach;
use super::permit::Rights;
use super::policy::{Policy, PolicyFaults, Target};
use super::{ActionKind, ClassSet, Denial, Missing, Permit, Principal};
use crate::class::Role;
use crate::limits;

/// Which tenants an identity is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TenantScope {
    All,
    Only(Arc<BTreeSet<Box<str>>>),
}

impl TenantScope {
    /// From the form of the configuration: `["*"]`, or ids.
    pub fn parse(tenants: &[String]) -> Result<Self, BindingError> {
        match tenants {
            [] => Err(BindingError::NoTenants),
            [star] if star == "*" => Ok(Self::All),
            ids => {
                if let Some(at) = ids.iter().position(|id| !is_tenant_id(id)) {
                    return Err(BindingError::TenantId(at));
                }
                Ok(Self::Only(Arc::new(ids.iter().map(|id| id.as_str().into()).collect())))
            }
        }
    }

    pub fn contains(&self, tenant: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(ids) => ids.contains(tenant),
        }
    }
}

/// `[a-z]([a-z0-9-]{0,61}[a-z0-9])?`, as proto/lethe/v1/tenant.proto says.
pub(super) fn is_tenant_id(id: &str) -> bool {
    let b = id.as_bytes();
    let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
    b.len() <= 63
        && b.first().is_some_and(u8::is_ascii_lowercase)
        && b.iter().all(inner)
        && b.last() != Some(&b'-')
}

/// One identity's rights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    pub principal: Principal,
    pub role: Role,
    pub tenants: TenantScope,
    /// What it may see unmasked, where the policy lets it.
    pub clear: ClassSet,
}

impl Binding {
    /// Where the binding does not say it: as far as the policy goes, for the roles that are about records.
    pub fn default_clear(role: Role) -> ClassSet {
        match role {
            Role::Application | Role::Support | Role::PrivacyOfficer => ClassSet::ALL,
            Role::Operator | Role::Auditor => ClassSet::NONE,
        }
    }
}

/// Why bindings are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindingError {
    #[error("identity {0} names a uri that an earlier one has")]
    Duplicate(usize),
    #[error("more than {} identities", limits::IDENTITIES_MAX)]
    TooMany,
    #[error("tenants is empty; name tenants, or [\"*\"] for all")]
    NoTenants,
    #[error("tenants[{0}] is not a tenant id")]
    TenantId(usize),
    #[error("the policy that comes with the vault: {0}")]
    BuiltIn(#[from] PolicyFaults),
}

/// Decides, by the policy and the bindings in force.
#[derive(Debug)]
pub struct Authority {
    in_force: RwLock<Arc<InForce>>,
}

/// A policy and bindings that are in force together.
#[derive(Debug)]
pub struct InForce {
    pub(super) policy: Arc<Policy>,
    pub(super) bindings: HashMap<Principal, Rights>,
    epoch: u64,
}

impl InForce {
    fn new(policy: Arc<Policy>, bindings: Vec<Binding>, epoch: u64) -> Result<Self, BindingError> {
        if bindings.len() > limits::IDENTITIES_MAX {
            return Err(BindingError::TooMany);
        }
        let mut map = HashMap::with_capacity(bindings.len());
        for (at, Binding { principal, role, tenants, clear }) in bindings.into_iter().enumerate() {
            let row = policy.table.row(&principal, role);
            if map.insert(principal, Rights { role, tenants, clear, row }).is_some() {
                return Err(BindingError::Duplicate(at));
            }
        }
        Ok(Self { policy, bindings: map, epoch })
    }

    /// The number of this set: 0 for that of the start, one more for each that took the place of another.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Identities that the policy names and nobody is bound to.
    pub fn unbound(&self) -> Vec<&str> {
        let named = self.policy.table.mentioned.identities.iter().flatten();
        let bound = |name: &str| self.bindings.keys().any(|principal| principal.as_str() == name);
        named.filter(|name| !bound(name)).collect()
    }
}

impl Authority {
    /// By the roles as they come with the vault.
    pub fn new(bindings: Vec<Binding>) -> Result<Self, BindingError> {
        Self::with(Policy::built_in()?, bindings)
    }

    pub fn with(policy: Arc<Policy>, bindings: Vec<Binding>) -> Result<Self, BindingError> {
        let first = InForce::new(policy, bindings, 0)?;
        Ok(Self { in_force: RwLock::new(Arc::new(first)) })
    }

    /// Puts another policy and other bindings in the place of those in force, or fails and changes nothing. Every
    /// decision that begins afterwards is by the new ones.
    pub fn replace(
        &self,
        policy: Arc<Policy>,
        bindings: Vec<Binding>,
    ) -> Result<Arc<InForce>, BindingError> {
        let mut next = InForce::new(policy, bindings, 0)?;
        let mut in_force = self.in_force.write().unwrap_or_else(PoisonError::into_inner);
        next.epoch = in_force.epoch.saturating_add(1);
        *in_force = Arc::new(next);
        Ok(Arc::clone(&in_force))
    }

    pub fn in_force(&self) -> Arc<InForce> {
        Arc::clone(&self.in_force.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether `principal` may do `A` to `tenant`, or to the vault if that is `None`.
    pub fn decide<A: ActionKind>(
        &self,
        principal: &Principal,
        tenant: Option<&str>,
    ) -> Result<Permit<A>, Denial> {
        let action = A::ACTION;
        let deny = |missing| Denial { action, missing };
        let in_force = self.in_force();
        let rights = in_force.bindings.get(principal).ok_or(deny(Missing::Binding))?;
        let reach = action.reach().ok_or(deny(Missing::Target))?;
        let table = &in_force.policy.table;
        let place = |tenant: &str| table.mentioned.tenants.place(tenant);
        let permitted = match (reach, tenant) {
            (Reach::Tenant | Reach::Either, Some(tenant)) => {
                table.allows(rights.row, action, Target::Tenant(place(tenant)))
            }
            (Reach::Records, Some(tenant)) => {
                table.reaches_any_type(rights.row, action, place(tenant))
            }
            (Reach::Vault | Reach::WholeVault | Reach::Either, None) => {
                table.allows(rights.row, action, Target::Vault)
            }
            (Reach::Tenant | Reach::Records, None)
            | (Reach::Vault | Reach::WholeVault, Some(_)) => {
                return Err(deny(Missing::Target));
            }
        };
        if !permitted {
            return Err(deny(Missing::Role(rights.role)));
        }
        let within = match tenant {
            Some(tenant) => rights.tenants.contains(tenant),
            None => reach != Reach::WholeVault || rights.tenants == TenantScope::All,
        };
        if !within {
            return Err(deny(Missing::Tenant));
        }
        Ok(Permit::new(principal, tenant, rights, &in_force.policy))
    }
}

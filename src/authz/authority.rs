//! The bindings of identities to roles, and the role matrix.
//!
//! Guarantees: deny by default. A decision reads the bindings and the matrix and nothing else.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::action::Reach;
use super::{Action, ActionKind, ClassSet, Denial, Missing, Permit, Principal};
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
fn is_tenant_id(id: &str) -> bool {
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
    /// What it may see unmasked.
    pub clear: ClassSet,
}

impl Binding {
    /// Applications see everything in clear unless their binding says less; others see nothing.
    pub fn default_clear(role: Role) -> ClassSet {
        match role {
            Role::Application => ClassSet::ALL,
            Role::Operator | Role::Auditor => ClassSet::NONE,
        }
    }
}

/// Why bindings are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindingError {
    #[error("identity {0} names a uri that an earlier one has")]
    Duplicate(usize),
    #[error("more than {} identities", limits::IDENTITIES_MAX)]
    TooMany,
    #[error("tenants is empty; name tenants, or [\"*\"] for all")]
    NoTenants,
    #[error("tenants[{0}] is not a tenant id")]
    TenantId(usize),
}

/// Decides. Built once from the configuration.
#[derive(Debug)]
pub struct Authority {
    bindings: HashMap<Principal, Rights>,
}

#[derive(Debug)]
struct Rights {
    role: Role,
    tenants: TenantScope,
    clear: ClassSet,
}

impl Authority {
    pub fn new(bindings: Vec<Binding>) -> Result<Self, BindingError> {
        if bindings.len() > limits::IDENTITIES_MAX {
            return Err(BindingError::TooMany);
        }
        let mut map = HashMap::with_capacity(bindings.len());
        for (at, Binding { principal, role, tenants, clear }) in bindings.into_iter().enumerate() {
            if map.insert(principal, Rights { role, tenants, clear }).is_some() {
                return Err(BindingError::Duplicate(at));
            }
        }
        Ok(Self { bindings: map })
    }

    /// Whether `principal` may do `A` to `tenant`, or to the vault if that is `None`.
    pub fn decide<A: ActionKind>(
        &self,
        principal: &Principal,
        tenant: Option<&str>,
    ) -> Result<Permit<A>, Denial> {
        let action = A::ACTION;
        let deny = |missing| Denial { action, missing };
        let rights = self.bindings.get(principal).ok_or(deny(Missing::Binding))?;
        if !allows(rights.role, action) {
            return Err(deny(Missing::Role(rights.role)));
        }
        match (action.reach(), tenant) {
            (Some(Reach::Tenant | Reach::Either), Some(tenant)) => {
                if !rights.tenants.contains(tenant) {
                    return Err(deny(Missing::Tenant));
                }
            }
            (Some(Reach::WholeVault), None) => {
                if rights.tenants != TenantScope::All {
                    return Err(deny(Missing::Tenant));
                }
            }
            (Some(Reach::Vault | Reach::Either), None) => {}
            (Some(Reach::Tenant), None) | (Some(Reach::Vault | Reach::WholeVault), Some(_)) => {
                return Err(deny(Missing::Target));
            }
            (None, _) => return Err(deny(Missing::Target)),
        }
        Ok(Permit::new(principal, rights.role, tenant, &rights.tenants, rights.clear))
    }
}

/// The role matrix.
fn allows(role: Role, action: Action) -> bool {
    use Action as A;
    match role {
        Role::Application => matches!(
            action,
            A::ReadTenants
                | A::ReadSchema
                | A::CreateSubject
                | A::ReadSubject
                | A::EraseSubject
                | A::CreateRecord
                | A::ReadRecord
                | A::ExportRecords
                | A::WatchRecords
                | A::UpdateRecord
                | A::EraseRecord
        ),
        Role::Operator => matches!(
            action,
            A::CreateTenant
                | A::ReadTenants
                | A::UpdateTenant
                | A::WriteSchema
                | A::ReadSchema
                | A::ReadStatus
                | A::RotateKey
                | A::ReadKeyStatus
                | A::ReadBuckets
                | A::EraseBucket
        ),
        Role::Auditor => matches!(
            action,
            A::ReadTenants | A::ReadSchema | A::ReadStatus | A::ReadKeyStatus | A::ReadBuckets
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::*;

    const ROLES: [(Role, &str); 3] = [
        (Role::Application, "application"),
        (Role::Operator, "operator"),
        (Role::Auditor, "auditor"),
    ];

    /// Written out by hand from the requirement, not derived from `allows` or `reach`. Columns are application,
    /// operator, auditor. In a cell, the first three letters are an identity bound to all tenants that asks for the
    /// vault, tenant a, tenant b; the next three the same for an identity bound to tenant a only.
    const TABLE: [(Action, [&str; 3]); 19] = [
        (Action::CreateTenant, ["nnn nnn", "ynn nnn", "nnn nnn"]),
        (Action::ReadTenants, ["yyy yyn", "yyy yyn", "yyy yyn"]),
        (Action::UpdateTenant, ["nnn nnn", "nyy nyn", "nnn nnn"]),
        (Action::WriteSchema, ["nnn nnn", "nyy nyn", "nnn nnn"]),
        (Action::ReadSchema, ["nyy nyn", "nyy nyn", "nyy nyn"]),
        (Action::CreateSubject, ["nyy nyn", "nnn nnn", "nnn nnn"]),
        (Action::ReadSubject, ["nyy nyn", "nnn nnn", "nnn nnn"]),
        (Action::EraseSubject, ["nyy nyn", "nnn nnn", "nnn nnn"]),
        (Action::CreateRecord, ["nyy nyn", "nnn nnn", "nnn nnn"]),
        (Action::ReadRecord, ["nyy nyn", "nnn nnn", "nnn nnn"]),
        (Action::ExportRecords, ["nyy nyn", "nnn nnn", "nnn nnn"]),
        (Action::WatchRecords, ["nyy nyn", "nnn nnn", "nnn nnn"]),
        (Action::UpdateRecord, ["nyy nyn", "nnn nnn", "nnn nnn"]),
        (Action::EraseRecord, ["nyy nyn", "nnn nnn", "nnn nnn"]),
        (Action::ReadStatus, ["nnn nnn", "ynn ynn", "ynn ynn"]),
        (Action::RotateKey, ["nnn nnn", "ynn nnn", "nnn nnn"]),
        (Action::ReadKeyStatus, ["nnn nnn", "ynn ynn", "ynn ynn"]),
        (Action::ReadBuckets, ["nnn nnn", "nyy nyn", "nyy nyn"]),
        (Action::EraseBucket, ["nnn nnn", "nyy nyn", "nnn nnn"]),
    ];

    fn principal(path: &str) -> Principal {
        TrustDomain::parse("test").unwrap().principal(path).unwrap()
    }

    fn authority() -> Authority {
        let only_a = TenantScope::parse(&["a".into()]).unwrap();
        let both = [("all", TenantScope::All), ("a", only_a)];
        let bindings = ROLES.iter().flat_map(|(role, name)| {
            both.iter().map(move |(scope, tenants)| Binding {
                principal: principal(&format!("{name}/{scope}")),
                role: *role,
                tenants: tenants.clone(),
                clear: Binding::default_clear(*role),
            })
        });
        Authority::new(bindings.collect()).unwrap()
    }

    /// `decide` with the action as a value.
    fn allowed(authority: &Authority, action: Action, who: &Principal, on: Option<&str>) -> bool {
        macro_rules! by_value {
            ($($name:ident),*) => {
                match action {
                    $(Action::$name => authority.decide::<$name>(who, on).is_ok_and(|permit| {
                        assert_eq!((permit.action(), permit.principal()), (action, who));
                        assert_eq!(permit.tenant(), on);
                        true
                    }),)*
                    Action::Health => false,
                }
            };
        }
        by_value!(
            CreateTenant,
            ReadTenants,
            UpdateTenant,
            WriteSchema,
            ReadSchema,
            CreateSubject,
            ReadSubject,
            EraseSubject,
            CreateRecord,
            ReadRecord,
            ExportRecords,
            WatchRecords,
            UpdateRecord,
            EraseRecord,
            ReadStatus,
            RotateKey,
            ReadKeyStatus,
            ReadBuckets,
            EraseBucket
        )
    }

    #[test]
    fn every_cell_of_role_action_scope_and_target() {
        let authority = authority();
        assert_eq!(TABLE.map(|(action, _)| action), Action::PERMITTED);
        for (action, cells) in TABLE {
            for ((_, role), cell) in ROLES.iter().zip(cells) {
                for (scope, expected) in ["all", "a"].into_iter().zip(cell.split(' ')) {
                    let who = principal(&format!("{role}/{scope}"));
                    for (target, want) in
                        [None, Some("a"), Some("b")].into_iter().zip(expected.chars())
                    {
                        let got = allowed(&authority, action, &who, target);
                        assert_eq!(got, want == 'y', "{action:?} {role} {scope} {target:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn an_identity_without_a_binding_may_do_nothing() {
        let authority = authority();
        for who in ["stranger", "application", "application/all/more"].map(principal) {
            for action in Action::PERMITTED {
                for target in [None, Some("a")] {
                    assert!(!allowed(&authority, *action, &who, target), "{action:?} {who}");
                }
            }
        }
    }

    #[test]
    fn a_denial_names_the_right_and_not_what_was_asked_for() {
        let authority = authority();
        let app = principal("application/a");
        let cases = [
            (authority.decide::<ReadRecord>(&principal("x"), Some("b")).err(), Missing::Binding),
            (authority.decide::<ReadRecord>(&app, Some("b")).err(), Missing::Tenant),
            (authority.decide::<ReadRecord>(&app, None).err(), Missing::Target),
        ];
        for (denial, missing) in cases {
            assert_eq!(denial, Some(Denial { action: Action::ReadRecord, missing }));
        }
        let denial = authority.decide::<RotateKey>(&app, None).unwrap_err();
        assert_eq!(denial.missing, Missing::Role(Role::Application));
        assert_eq!(denial.to_string(), "RotateKey: not a right of the role Application");
    }

    #[test]
    fn a_permit_covers_its_tenant_or_its_scope() {
        let authority = authority();
        let app = principal("application/a");
        let list = authority.decide::<ReadTenants>(&app, None).unwrap();
        assert!(list.covers("a") && !list.covers("b"));
        let all = principal("operator/all");
        let list = authority.decide::<ReadTenants>(&all, None).unwrap();
        assert!(list.covers("a") && list.covers("b"));
        let one = authority.decide::<ReadTenants>(&all, Some("a")).unwrap();
        assert!(one.covers("a") && !one.covers("b"));
        assert_eq!(list.clear(), ClassSet::NONE);
        assert_eq!(authority.decide::<ReadTenants>(&app, None).unwrap().clear(), ClassSet::ALL);
    }

    #[test]
    fn bindings_are_checked() {
        let twice = |n| {
            let b = Binding {
                principal: principal("x"),
                role: Role::Auditor,
                tenants: TenantScope::All,
                clear: ClassSet::NONE,
            };
            Authority::new(vec![b; n]).err()
        };
        assert_eq!(twice(1), None);
        assert_eq!(twice(2), Some(BindingError::Duplicate(1)));
        assert_eq!(twice(limits::IDENTITIES_MAX + 1), Some(BindingError::TooMany));
        let scope = |ids: &[&str]| {
            TenantScope::parse(&ids.iter().map(|s| s.to_string()).collect::<Vec<_>>())
        };
        assert_eq!(scope(&["*"]), Ok(TenantScope::All));
        assert_eq!(scope(&[]), Err(BindingError::NoTenants));
        let longest = "a".repeat(63);
        assert!(scope(&["a", "a-1", &longest]).is_ok());
        let too_long = "a".repeat(64);
        for bad in ["*", "", "A", "1a", "-a", "a-", "a_b", "a*", &too_long] {
            assert_eq!(scope(&["a", bad]), Err(BindingError::TenantId(1)), "{bad}");
        }
    }
}

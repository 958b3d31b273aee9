//! R14: what the roles that come with the vault may do, cell by cell, written out by hand from the requirement.

use super::*;
use crate::class::{Classification, Role};
use crate::limits;

/// Columns are application, support, operator, privacy officer, auditor. In a cell, the first three letters are an
/// identity bound to all tenants that asks for the vault, tenant a, tenant b; the next three the same for an identity
/// bound to tenant a only.
const TABLE: [(Action, [&str; 5]); 30] = [
    (Action::CreateTenant, ["nnn nnn", "nnn nnn", "ynn nnn", "nnn nnn", "nnn nnn"]),
    (Action::ReadTenants, ["yyy yyn", "yyy yyn", "yyy yyn", "yyy yyn", "yyy yyn"]),
    (Action::UpdateTenant, ["nnn nnn", "nnn nnn", "nyy nyn", "nnn nnn", "nnn nnn"]),
    (Action::WriteSchema, ["nnn nnn", "nnn nnn", "nyy nyn", "nnn nnn", "nnn nnn"]),
    (Action::ReadSchema, ["nyy nyn", "nyy nyn", "nyy nyn", "nyy nyn", "nyy nyn"]),
    (Action::CreateSubject, ["nyy nyn", "nnn nnn", "nnn nnn", "nnn nnn", "nnn nnn"]),
    (Action::ReadSubject, ["nyy nyn", "nyy nyn", "nnn nnn", "nyy nyn", "nnn nnn"]),
    (Action::EraseSubject, ["nyy nyn", "nnn nnn", "nnn nnn", "nyy nyn", "nnn nnn"]),
    (Action::CreateRecord, ["nyy nyn", "nnn nnn", "nnn nnn", "nnn nnn", "nnn nnn"]),
    (Action::ReadRecord, ["nyy nyn", "nyy nyn", "nnn nnn", "nyy nyn", "nnn nnn"]),
    (Action::ExportRecords, ["nyy nyn", "nnn nnn", "nnn nnn", "nyy nyn", "nnn nnn"]),
    (Action::WatchRecords, ["nyy nyn", "nnn nnn", "nnn nnn", "nnn nnn", "nnn nnn"]),
    (Action::UpdateRecord, ["nyy nyn", "nnn nnn", "nnn nnn", "nnn nnn", "nnn nnn"]),
    (Action::EraseRecord, ["nyy nyn", "nnn nnn", "nnn nnn", "nyy nyn", "nnn nnn"]),
    (Action::ReadAudit, ["nnn nnn", "nnn nnn", "nnn nnn", "yyy yyn", "yyy yyn"]),
    (Action::ExportAudit, ["nnn nnn", "nnn nnn", "nnn nnn", "nnn nnn", "ynn nnn"]),
    (Action::ReadLedger, ["nnn nnn", "nnn nnn", "ynn nnn", "ynn nnn", "ynn nnn"]),
    (Action::ReadCertificate, ["nnn nnn", "nnn nnn", "nyy nyn", "nyy nyn", "nyy nyn"]),
    (Action::CosignLog, ["nnn nnn", "nnn nnn", "ynn nnn", "nnn nnn", "ynn nnn"]),
    (Action::ReadStatus, ["nnn nnn", "nnn nnn", "ynn ynn", "ynn ynn", "ynn ynn"]),
    (Action::ReadMetrics, ["nnn nnn", "nnn nnn", "ynn ynn", "nnn nnn", "ynn ynn"]),
    (Action::RotateKey, ["nnn nnn", "nnn nnn", "ynn nnn", "nnn nnn", "nnn nnn"]),
    (Action::ReadKeyStatus, ["nnn nnn", "nnn nnn", "ynn ynn", "nnn nnn", "ynn ynn"]),
    (Action::ReadBuckets, ["nnn nnn", "nnn nnn", "nyy nyn", "nyy nyn", "nyy nyn"]),
    (Action::EraseBucket, ["nnn nnn", "nnn nnn", "nyy nyn", "nyy nyn", "nnn nnn"]),
    (Action::ManageRetention, ["nnn nnn", "nnn nnn", "nnn nnn", "nyy nyn", "nnn nnn"]),
    (Action::ManageHolds, ["nnn nnn", "nnn nnn", "nnn nnn", "nyy nyn", "nnn nnn"]),
    (Action::ReadHolds, ["nnn nnn", "nnn nnn", "nnn nnn", "nyy nyn", "nyy nyn"]),
    (Action::ReadRetention, ["nnn nnn", "nnn nnn", "nyy nyn", "nyy nyn", "nyy nyn"]),
    (Action::RunRetention, ["nnn nnn", "nnn nnn", "ynn nnn", "ynn nnn", "nnn nnn"]),
];

/// What each call shows in clear: P(UBLIC), G(ENERAL), S(ENSITIVE); first to who names no purpose, then for a subject
/// request, then for another purpose. Columns as above. A call that is not listed shows no field.
const CLEAR: [(Action, [&str; 5]); 4] = [
    (
        Action::ReadRecord,
        ["PGS PGS PGS", "PG- PG- PG-", "--- --- ---", "--- PGS ---", "--- --- ---"],
    ),
    (
        Action::ExportRecords,
        ["PGS PGS PGS", "--- --- ---", "--- --- ---", "--- PGS ---", "--- --- ---"],
    ),
    (
        Action::CreateRecord,
        ["PGS PGS PGS", "--- --- ---", "--- --- ---", "--- --- ---", "--- --- ---"],
    ),
    (
        Action::UpdateRecord,
        ["PGS PGS PGS", "--- --- ---", "--- --- ---", "--- --- ---", "--- --- ---"],
    ),
];

const PURPOSES: [Option<&str>; 3] = [None, Some("subject-request"), Some("catering")];

fn principal(path: &str) -> Principal {
    TrustDomain::parse("test").unwrap().principal(path).unwrap()
}

/// Of each role one identity bound to all tenants, one bound to a, and one to all that may see PUBLIC only.
fn authority() -> Authority {
    let only_a = TenantScope::parse(&["a".into()]).unwrap();
    let public = ClassSet::NONE.with(Classification::Public);
    let kinds = [
        ("all", TenantScope::All, ClassSet::ALL),
        ("a", only_a, ClassSet::ALL),
        ("public", TenantScope::All, public),
    ];
    let bindings = Role::ALL.into_iter().flat_map(|role| {
        kinds.iter().map(move |(name, tenants, clear)| Binding {
            principal: principal(&format!("{}/{name}", role.name())),
            role,
            tenants: tenants.clone(),
            clear: *clear,
        })
    });
    Authority::new(bindings.collect()).unwrap()
}

/// A permit as far as its type does not matter.
struct Got {
    reaches: Vec<bool>,
    clear: Vec<ClassSet>,
}

/// `decide` with the action as a value.
fn decided(
    authority: &Authority,
    action: Action,
    who: &Principal,
    on: Option<&str>,
) -> Option<Got> {
    fn look<A: ActionKind>(permit: &Permit<A>, who: &Principal, on: Option<&str>) -> Got {
        assert_eq!((permit.principal(), permit.tenant()), (who, on));
        let types = ["customer", "order"];
        Got {
            reaches: types.map(|t| permit.reaches(t)).to_vec(),
            clear: PURPOSES.map(|purpose| permit.clear("customer", purpose)).to_vec(),
        }
    }
    macro_rules! by_value {
        ($($name:ident),*) => {
            match action {
                $(Action::$name => {
                    let permit = authority.decide::<$name>(who, on).ok()?;
                    assert_eq!(permit.action(), action);
                    Some(look(&permit, who, on))
                })*
                Action::Health => None,
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
        ReadAudit,
        ExportAudit,
        ReadLedger,
        ReadCertificate,
        CosignLog,
        ReadStatus,
        ReadMetrics,
        RotateKey,
        ReadKeyStatus,
        ReadBuckets,
        EraseBucket,
        ManageRetention,
        ManageHolds,
        ReadHolds,
        ReadRetention,
        RunRetention
    )
}

#[test]
fn every_cell_of_role_action_scope_and_target() {
    let authority = authority();
    assert_eq!(TABLE.map(|(action, _)| action), Action::PERMITTED);
    for (action, cells) in TABLE {
        for (role, cell) in Role::ALL.into_iter().zip(cells) {
            for (scope, expected) in ["all", "a"].into_iter().zip(cell.split(' ')) {
                let who = principal(&format!("{}/{scope}", role.name()));
                let targets = [None, Some("a"), Some("b")].into_iter().zip(expected.chars());
                for (target, want) in targets {
                    let got = decided(&authority, action, &who, target).is_some();
                    assert_eq!(got, want == 'y', "{action:?} {role:?} {scope} {target:?}");
                }
            }
        }
    }
}

#[test]
fn every_cell_of_role_call_purpose_and_class() {
    let authority = authority();
    for action in Action::PERMITTED {
        for (column, role) in Role::ALL.into_iter().enumerate() {
            let cells = CLEAR.iter().find(|(call, _)| call == action);
            let cells = cells.map_or("--- --- ---", |(_, cells)| cells[column]);
            for (bound, only) in [("all", "PGS"), ("public", "P")] {
                let who = principal(&format!("{}/{bound}", role.name()));
                let got = decided(&authority, *action, &who, Some("b"));
                for (at, cell) in cells.split(' ').enumerate() {
                    for (class, letter) in Classification::ALL.into_iter().zip("PGS".chars()) {
                        let clear = got.as_ref().is_some_and(|g| g.clear[at].contains(class));
                        let want = cell.contains(letter) && only.contains(letter);
                        let purpose = PURPOSES[at];
                        assert_eq!(
                            clear, want,
                            "{action:?} {role:?} {bound} {purpose:?} {class:?}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn the_roles_reach_every_type_or_none() {
    let authority = authority();
    let about_records = [
        Action::CreateRecord,
        Action::ReadRecord,
        Action::ExportRecords,
        Action::WatchRecords,
        Action::UpdateRecord,
        Action::EraseRecord,
        Action::EraseBucket,
        Action::ManageHolds,
    ];
    for action in Action::PERMITTED {
        for role in Role::ALL {
            let who = principal(&format!("{}/all", role.name()));
            let Some(got) = decided(&authority, *action, &who, Some("a")) else { continue };
            assert_eq!(got.reaches, [about_records.contains(action); 2], "{action:?} {role:?}");
        }
    }
}

#[test]
fn an_identity_without_a_binding_may_do_nothing() {
    let authority = authority();
    for who in ["stranger", "application", "application/all/more"].map(principal) {
        for action in Action::PERMITTED {
            for target in [None, Some("a")] {
                assert!(decided(&authority, *action, &who, target).is_none(), "{action:?} {who}");
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
    let told = "RotateKey: no policy gives it to an identity of the role application";
    assert_eq!(denial.to_string(), told);
}

#[test]
fn a_permit_covers_its_tenant_or_its_scope() {
    let authority = authority();
    let app = principal("application/a");
    let list = authority.decide::<ReadTenants>(&app, None).unwrap();
    assert!(list.covers("a") && !list.covers("b"));
    assert_eq!(list.clear("customer", None), ClassSet::NONE, "it is not about records");
    assert!(!list.reaches("customer") && !list.reaches_every_type());
    let all = principal("operator/all");
    let list = authority.decide::<ReadTenants>(&all, None).unwrap();
    assert!(list.covers("a") && list.covers("b"));
    let one = authority.decide::<ReadTenants>(&all, Some("a")).unwrap();
    assert!(one.covers("a") && !one.covers("b"));
}

#[test]
fn a_list_of_tenants_leaves_out_those_that_the_policy_hides() {
    let hidden =
        "forbid (principal, action == Action::\"ReadTenants\", resource in Tenant::\"b\");";
    let policy = Policy::parse(&format!("{BUILT_IN_POLICY}{hidden}")).unwrap();
    let authority = authority();
    let all = principal("auditor/all");
    let binding = Binding {
        principal: all.clone(),
        role: Role::Auditor,
        tenants: TenantScope::All,
        clear: ClassSet::ALL,
    };
    authority.replace(std::sync::Arc::new(policy), vec![binding]).unwrap();
    let list = authority.decide::<ReadTenants>(&all, None).unwrap();
    assert!(list.covers("a") && !list.covers("b"));
    assert!(authority.decide::<ReadTenants>(&all, Some("b")).is_err());
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
    let scope =
        |ids: &[&str]| TenantScope::parse(&ids.iter().map(|s| s.to_string()).collect::<Vec<_>>());
    assert_eq!(scope(&["*"]), Ok(TenantScope::All));
    assert_eq!(scope(&[]), Err(BindingError::NoTenants));
    let longest = "a".repeat(63);
    assert!(scope(&["a", "a-1", &longest]).is_ok());
    let too_long = "a".repeat(64);
    for bad in ["*", "", "A", "1a", "-a", "a-", "a_b", "a*", &too_long] {
        assert_eq!(scope(&["a", bad]), Err(BindingError::TenantId(1)), "{bad}");
    }
}

#[test]
fn the_next_decision_is_by_the_new_rights_and_a_refused_set_changes_nothing() {
    let authority = authority();
    let (app, gone) = (principal("application/all"), principal("application/a"));
    let before = authority.decide::<ReadRecord>(&app, Some("a")).unwrap();
    let bound = |times| {
        let b = Binding {
            principal: app.clone(),
            role: Role::Application,
            tenants: TenantScope::All,
            clear: ClassSet::ALL,
        };
        vec![b; times]
    };
    let only =
        r#"permit (principal in Role::"application", action == Action::"ReadSchema", resource);"#;
    let only = std::sync::Arc::new(Policy::parse(only).unwrap());
    let refused = authority.replace(only.clone(), bound(2)).err();
    assert_eq!(refused, Some(BindingError::Duplicate(1)));
    assert_eq!(authority.in_force().epoch(), 0);
    assert!(authority.decide::<ReadRecord>(&app, Some("a")).is_ok());
    assert!(authority.decide::<ReadSchema>(&gone, Some("a")).is_ok());

    let in_force = authority.replace(only.clone(), bound(1)).unwrap();
    assert_eq!((in_force.epoch(), authority.in_force().epoch()), (1, 1));
    assert_eq!(in_force.policy().sha256(), only.sha256());
    assert!(authority.decide::<ReadRecord>(&app, Some("a")).is_err());
    assert!(authority.decide::<ReadSchema>(&app, Some("a")).is_ok());
    let gone = authority.decide::<ReadSchema>(&gone, Some("a")).err();
    assert_eq!(gone.map(|d| d.missing), Some(Missing::Binding));
    // A permit lasts as long as its call, by what was decided when it was given.
    assert!(before.reaches("customer") && before.clear("customer", None) == ClassSet::ALL);
}

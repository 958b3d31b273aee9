//! The review of rights against a policy and bindings whose rights are written out by hand.

use std::sync::Arc;

use super::*;
use crate::class::{Classification, Role};

const POLICY: &str = r#"
permit (principal in Role::"support", action in [Action::"Look", Action::"ReadRecord"], resource);
permit (principal in Role::"support", action == Action::"SeeClear", resource)
when { context.class != Class::"SENSITIVE" };
permit (principal in Role::"support", action == Action::"SeeClear", resource)
when { context has purpose && context.purpose == Purpose::"fraud" };
forbid (principal, action == Action::"ReadRecord", resource in RecordType::"health");
forbid (principal, action == Action::"ReadRecord", resource in Tenant::"clinic");
permit (principal in Role::"operator", action in [Action::"CreateTenant", Action::"ReadStatus"], resource);
"#;

fn bound(name: &str, role: Role, tenants: &[&str], clear: ClassSet) -> Binding {
    let tenants: Vec<String> = tenants.iter().map(|t| (*t).to_owned()).collect();
    Binding {
        principal: Principal::parse(&format!("spiffe://test/{name}")).unwrap(),
        role,
        tenants: TenantScope::parse(&tenants).unwrap(),
        clear,
    }
}

#[test]
fn who_may_do_what_is_told_as_it_is_decided() {
    let public = ClassSet::NONE.with(Classification::Public);
    let bindings = vec![
        bound("desk", Role::Support, &["*"], ClassSet::ALL),
        bound("few", Role::Support, &["shop", "clinic", "mill"], public),
        bound("ops", Role::Operator, &["*"], ClassSet::NONE),
        bound("ops-of-one", Role::Operator, &["shop"], ClassSet::NONE),
        bound("auditor", Role::Auditor, &["*"], ClassSet::ALL),
    ];
    let policy = Arc::new(Policy::parse(POLICY).unwrap());
    let authority = Authority::with(policy, bindings).unwrap();
    let entries = review(&authority.in_force());
    let line = |e: &Entry| {
        let clear: Vec<String> = e
            .clear
            .iter()
            .map(|s| format!("{} for {}", s.classes.join("+"), s.purposes.join("+")))
            .collect();
        let name = e.identity.trim_start_matches("spiffe://test/");
        let (tenants, types) = (e.tenants.join("+"), e.types.join("+"));
        format!(
            "{name}|{}|{}|{tenants}|{types}|{}",
            e.role.name(),
            e.actions.join("+"),
            clear.join("; ")
        )
    };
    let lines: Vec<String> = entries.iter().map(line).collect();
    assert_eq!(
        lines,
        [
            "desk|support|ReadTenants|||",
            "desk|support|ReadRecord|*|*|PUBLIC+GENERAL for *+none; PUBLIC+GENERAL+SENSITIVE for fraud",
            "desk|support|ReadTenants+ReadSchema|clinic+*||",
            "few|support|ReadTenants|||",
            "few|support|ReadTenants+ReadSchema|clinic+mill+shop||",
            "few|support|ReadRecord|mill+shop|*|PUBLIC for fraud+*+none",
            "ops|operator|CreateTenant+ReadStatus|||",
            "ops-of-one|operator|ReadStatus|||",
        ]
    );
}

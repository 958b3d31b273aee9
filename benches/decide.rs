//! What a decision costs: the compiled table, and its rival, Cedar asked at each call; and what compiling costs.
//!
//! `cargo bench --profile release --bench decide -- [--decisions N] [--quick]`.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashSet;
use std::hint::black_box;
use std::time::{Duration, Instant};

use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityUid, PolicySet, Request,
    RestrictedExpression,
};
use clap::Parser;
use lethe::authz::{
    Authority, BUILT_IN_POLICY, Binding, ClassSet, Policy, Principal, ReadRecord, TenantScope,
};
use lethe::class::Role;

#[derive(Parser)]
struct Args {
    /// Decisions of each round.
    #[arg(long, default_value_t = 200_000)]
    decisions: u32,
    #[arg(long)]
    quick: bool,
    /// cargo says this to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let args = Args::parse();
    let decisions = if args.quick { 2_000 } else { args.decisions };
    let principal = Principal::parse("spiffe://bench/someone").unwrap();
    let binding = Binding {
        principal: principal.clone(),
        role: Role::Application,
        tenants: TenantScope::All,
        clear: ClassSet::ALL,
    };
    let authority = Authority::new(vec![binding]).unwrap();
    let table = |n: u32| {
        let begin = Instant::now();
        for _ in 0..n {
            let permit = authority.decide::<ReadRecord>(&principal, Some("acme")).unwrap();
            assert!(black_box(permit.reaches("customer")));
            assert!(black_box(permit.clear("customer", None)) == ClassSet::ALL);
        }
        begin.elapsed() / n
    };
    let rival = Rival::new();
    let cedar = |n: u32| {
        let begin = Instant::now();
        (0..n).for_each(|_| rival.decide());
        begin.elapsed() / n
    };
    let (mut tables, mut cedars, mut compiles) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..5 {
        tables.push(table(decisions));
        cedars.push(cedar(decisions / 100));
        let begin = Instant::now();
        Policy::parse(BUILT_IN_POLICY).unwrap();
        compiles.push(begin.elapsed());
    }
    let median = |mut times: Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    let (table, cedar) = (median(tables), median(cedars));
    println!("a decision, its type and its clear classes: {table:?}");
    println!("the same asked of Cedar (one request and one for each class): {cedar:?}");
    println!("ratio {:.0}", cedar.as_secs_f64() / table.as_secs_f64());
    println!("compiling the policy that comes with the vault: {:?}", median(compiles));
    let types: Vec<String> = (0..300).map(|n| format!("RecordType::\"t{n}\"")).collect();
    let large: String =
        types
            .chunks(200)
            .map(|part| {
                format!(
                    "forbid (principal, action, resource) when {{ resource in [{}] }};\n",
                    part.join(",")
                )
            })
            .chain((0..200).map(|_| {
                BUILT_IN_POLICY.lines().filter(|l| l.contains("auditor\", action")).collect()
            }))
            .collect();
    let begin = Instant::now();
    let large = Policy::parse(&large).unwrap();
    let ((policies, decisions), took) = (large.size(), begin.elapsed());
    println!("compiling {policies} policies into {decisions} decisions: {took:?}");
}

/// Cedar with all that can be made before the call.
struct Rival {
    policies: PolicySet,
    entities: Entities,
    principal: EntityUid,
    records: EntityUid,
}

impl Rival {
    fn new() -> Self {
        let uid = |text: &str| text.parse::<EntityUid>().unwrap();
        let (principal, records) =
            (uid("Identity::\"someone\""), uid("Records::\"acme/customer\""));
        let entity = |name: &EntityUid, parents: &[&str]| {
            let parents: HashSet<EntityUid> = parents.iter().map(|p| uid(p)).collect();
            Entity::new_no_attrs(name.clone(), parents)
        };
        let all = [
            entity(&principal, &["Role::\"application\""]),
            entity(&uid("Tenant::\"acme\""), &["Vault::\"vault\""]),
            entity(&records, &["Tenant::\"acme\"", "RecordType::\"customer\""]),
            entity(&uid("Action::\"ReadRecord\""), &["Action::\"Read\""]),
        ];
        let entities = Entities::from_entities(all, None).unwrap();
        Self { policies: BUILT_IN_POLICY.parse().unwrap(), entities, principal, records }
    }

    fn decide(&self) {
        let ask = |action: &str, context: Context| {
            let action: EntityUid = action.parse().unwrap();
            let (principal, records) = (self.principal.clone(), self.records.clone());
            let request = Request::new(principal, action, records, context, None).unwrap();
            let answer = Authorizer::new().is_authorized(&request, &self.policies, &self.entities);
            assert_eq!(black_box(answer.decision()), Decision::Allow);
        };
        ask("Action::\"ReadRecord\"", Context::empty());
        for class in ["PUBLIC", "GENERAL", "SENSITIVE"] {
            let uid = |text: String| {
                RestrictedExpression::new_entity_uid(text.parse::<EntityUid>().unwrap())
            };
            let pairs = [
                ("class".to_owned(), uid(format!("Class::\"{class}\""))),
                ("call".to_owned(), uid("Call::\"ReadRecord\"".to_owned())),
            ];
            ask("Action::\"SeeClear\"", Context::from_pairs(pairs).unwrap());
        }
    }
}

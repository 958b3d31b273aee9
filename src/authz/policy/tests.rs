//! Policies that are refused and why; what a custom policy gives; that the table says what Cedar says.

use std::collections::HashSet;

use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityUid, Request, RestrictedExpression,
};

use super::*;
use crate::authz::action::Reach;
use crate::authz::{Action, ClassSet, Principal};
use crate::class::{Classification, Role};
use crate::limits::{POLICIES_MAX, POLICY_BYTES_MAX, POLICY_CELLS_MAX, POLICY_DEPTH_MAX};

fn refusal(text: &str) -> String {
    let faults = Policy::parse(text).err().unwrap_or_else(|| panic!("taken: {text}"));
    assert!(!faults.all().is_empty());
    let all: Vec<String> = faults.all().iter().map(Fault::to_string).collect();
    all.join("\n")
}

/// A permit of SeeClear to the application, when this holds; the condition stands on line 3.
fn when(condition: &str) -> String {
    format!(
        "permit (principal in Role::\"application\",\n    action == Action::\"SeeClear\", resource)\n\
         when {{ {condition} }};\n"
    )
}

#[test]
fn every_fault_is_told_with_its_line_and_reason() {
    let read = |rest: &str| {
        format!(
            "// One.\n\npermit (principal in Role::\"support\",\n action == Action::\"ReadRecord\",\n {rest}"
        )
    };
    let cases: Vec<(String, &str)> = vec![
        (String::new(), "holds no policy; to deny everything say so"),
        ("// Nothing yet.\n".into(), "holds no policy; to deny everything say so"),
        // Syntax.
        (
            read("resource)"),
            "line 5: no policy can be read here: unexpected end of input; expected",
        ),
        (read("resource;"), "line 5: no policy can be read here: unexpected token; expected"),
        (
            when("context.class == Class::\"PUBLIC"),
            "line 3: no policy can be read here: invalid token",
        ),
        (when("context.class == == 1"), "line 3: no policy can be read here: unexpected token"),
        ("permt (principal, action, resource);".into(), "line 1: no policy can be read here: "),
        // What is not there.
        (
            "\npermit (principal in Role::\"suport\", action == Action::\"ReadRecord\", resource);"
                .into(),
            "line 2: entity `Role::\"suport\"` is of an enumerated entity type, \
             but `\"suport\"` is not declared as a valid eid; \
             valid entity eids: \"application\", \"support\", \"operator\", \"privacy-officer\", \"auditor\"",
        ),
        (
            "\npermit (principal in Rol::\"support\", action == Action::\"ReadRecord\", resource);"
                .into(),
            "line 2: unrecognized entity type `Rol`; did you mean `Role`?",
        ),
        (
            "permit (principal in Role::\"support\",\n action == Action::\"ReadRecrd\", resource);"
                .into(),
            "line 2: unrecognized action `Action::\"ReadRecrd\"`; did you mean `Action::\"ReadRecord\"`?",
        ),
        (
            read("resource)\nwhen { context.class == Class::\"PUBLIC\" };"),
            "line 6: attribute `class` in context for Action::\"ReadRecord\" not found",
        ),
        (
            when("principal.name == \"x\""),
            "line 3: attribute `name` on entity type `Identity` not found",
        ),
        (
            when("context.class == Class::\"SECRET\""),
            "line 3: entity `Class::\"SECRET\"` is of an enumerated",
        ),
        // Types.
        (
            when("context.class == \"PUBLIC\""),
            "line 3: the types String and Class are not compatible",
        ),
        (
            when("context.purpose == Purpose::\"x\""),
            "line 3: unable to guarantee safety of access to optional attribute `purpose`",
        ),
        (read("resource is Tenant);"), "line 3: unable to find an applicable action"),
        (when("1 == 2"), "line 1: policy is impossible"),
        (
            when("resource in [Tenant::\"a\", RecordType::\"b\"]"),
            "line 3: the types RecordType and Tenant are not",
        ),
        // What a table cannot hold.
        (when("\"abc\" like \"a*\""), "line 1: uses `like`; a policy compares names by"),
        (when("!(\"abc\" like \"a*\")"), "line 1: uses `like`"),
        (when("ip(\"10.0.0.1\").isLoopback()"), "line 1: uses an extension function"),
        (when("decimal(\"1.0\") == decimal(\"1.0\")"), "line 1: uses an extension function"),
        (when("1 < 2"), "line 1: uses an order"),
        (when("9223372036854775807 + 1 == 0"), "line 1: uses arithmetic"),
        (when("if 1 == 1 then -1 == -1 else 1 < 2"), "line 1: uses an order"),
        (when("context has purpose || resource.hasTag(\"x\")"), "line 1: uses tags"),
        (
            "permit (principal == ?principal, action == Action::\"ReadRecord\", resource);".into(),
            "line 1: is a template",
        ),
        // Names that nothing can have.
        (when("resource in Tenant::\"Shop\""), "line 1: Tenant::\"Shop\": must be 1 to 63 of a-z"),
        (when("resource in RecordType::\"\""), "line 1: RecordType::\"\": must be"),
        (
            when("context has purpose && context.purpose == Purpose::\"*\""),
            "line 1: Purpose::\"*\": must be",
        ),
        (when("resource == Records::\"shop\""), "line 1: Records::\"shop\": must be TENANT/TYPE"),
        (when("principal == Identity::\"shop\""), "line 1: Identity::\"shop\": must be a URI"),
        // What gives more than it says.
        (
            "\npermit (principal, action == Action::\"ReadRecord\", resource);".into(),
            "line 2: permits it to everybody: begin with `principal in Role",
        ),
        (
            "permit (principal is Identity, action == Action::\"ReadRecord\", resource);".into(),
            "line 1: permits it to everybody",
        ),
        (
            "permit (principal in Role::\"support\", action, resource);".into(),
            "line 1: permits every action, also those to come",
        ),
        ("permit (principal, action, resource);".into(), "line 1: permits it to everybody"),
    ];
    for (text, expected) in cases {
        let told = refusal(&text);
        assert!(told.lines().any(|line| line.starts_with(expected)), "{text}\nsaid: {told}");
    }
}

#[test]
fn all_faults_of_a_file_are_told_in_their_order() {
    let text = format!("{}{}", when("\"a\" like \"*\""), when("context.class == 5").repeat(30));
    let faults = Policy::parse(&text).unwrap_err();
    assert_eq!(faults.all().len(), 20, "as many as are told of one file");
    let lines: Vec<_> = faults.all().iter().map(|fault| fault.line.unwrap()).collect();
    assert_eq!(lines[..3], [1, 6, 9]);
    assert!(faults.to_string().ends_with(" (and 19 more)"), "{faults}");
    assert!(!refusal(&text).contains("policy0"), "a number that Cedar gives says nothing");
}

#[test]
fn a_file_that_was_not_meant_is_not_shown() {
    for text in [
        "57,canary,canary@example.org\n58,canary,x",
        "canary",
        "0123canary",
        "\"canary\" = 1",
        "permit (canary, action, resource);",
        "permit (principal, action, resource) when { canary };",
        "permit (principal, action, resource) when { context.canary(\"canary\") };",
        "permit (principal, action, resource) { \"canary\" }",
        "@canary(\"canary\") canary",
    ] {
        let told = refusal(text);
        assert!(!told.contains("canary"), "{text}: {told}");
    }
}

#[test]
fn what_is_too_much_is_refused_with_the_numbers() {
    let deep = |n: usize| when(&format!("{}1 == 1{}", "(".repeat(n), ")".repeat(n)));
    // One bracket is that of `when`.
    assert!(refusal(&deep(POLICY_DEPTH_MAX)).starts_with("line 3: brackets are more than 32 deep"));
    assert!(Policy::parse(&deep(POLICY_DEPTH_MAX - 1)).is_ok());
    assert!(refusal(&"(".repeat(200_000)).starts_with("line 1: brackets are more than 32 deep"));
    // Neither depth nor length ends the program.
    let chain = |head: &str, link: &str| {
        when(&format!("{head}{}", link.repeat((POLICY_BYTES_MAX - 150) / link.len())))
    };
    assert!(Policy::parse(&chain("true", "&&true")).is_ok());
    for (head, link) in
        [("1", "&&1"), ("1", "==1"), ("context", ".a"), ("1", "+1"), ("1", "||(!1)")]
    {
        assert!(refusal(&chain(head, link)).starts_with("line "), "{link}");
    }
    let longer = chain("true", "&&true").replacen("&&", &format!("{}&&", " ".repeat(200)), 1);
    assert!(refusal(&longer).starts_with("line 3: a policy is longer than 8192 bytes"));
    let one = "forbid (principal, action, resource);\n";
    let many = |n: usize| one.repeat(n);
    assert_eq!(Policy::parse(&many(POLICIES_MAX)).unwrap().size().0, POLICIES_MAX);
    assert_eq!(refusal(&many(POLICIES_MAX + 1)), "line 257: there are more than 256 policies");
    let long = format!("{one}//{}\n", "x".repeat(256 << 10));
    assert_eq!(refusal(&long), "more than 262144 bytes");

    let types = |n: usize| -> String {
        let names: Vec<String> = (0..n).map(|i| format!("RecordType::\"t{i}\"")).collect();
        names.chunks(250).map(|part| when(&format!("resource in [{}]", part.join(", ")))).collect()
    };
    let told = refusal(&types(500));
    let expected =
        "decisions (0 identities, 0 tenants, 500 types and 0 purposes are named), at most 50000";
    assert!(told.contains(expected), "{told}");
    assert!(Policy::parse(&types(300)).is_ok_and(|p| p.size().1 <= POLICY_CELLS_MAX));
}

fn who(path: &str) -> Principal {
    Principal::parse(&format!("spiffe://test/{path}")).unwrap()
}

/// Cedar would pass over the policy that forbids, and allow it.
#[test]
fn a_policy_that_fails_while_it_is_evaluated_gives_no_table() {
    let text = format!(
        "{}forbid (principal, action, resource) when {{ 9223372036854775807 + 1 == 0 }};",
        when("true")
    );
    let (schema, _) = Schema::from_cedarschema_str(POLICY_SCHEMA).unwrap();
    let set = text.parse().unwrap();
    let fault = compile::compile(&set, &schema, table::Mentioned::default()).err().unwrap();
    assert!(fault.reason.starts_with("fails while it is evaluated: "), "{fault}");
}

#[test]
fn the_examples_are_what_comes_with_the_vault() {
    let example = |name: &str| {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("keys-example").join(name);
        std::fs::read_to_string(path).unwrap()
    };
    assert_eq!(example("policy.cedar"), BUILT_IN_POLICY);
    assert_eq!(example("lethe.cedarschema"), POLICY_SCHEMA);
}

#[test]
fn a_policy_that_only_forbids_gives_nobody_anything() {
    let policy = Policy::parse("forbid (principal, action, resource);").unwrap();
    for role in Role::ALL {
        let row = policy.table.row(&who("x"), role);
        for action in Action::PERMITTED {
            for target in [Target::Vault, Target::Tenant(0), Target::Records(0, 0)] {
                assert!(!policy.table.allows(row, *action, target), "{role:?} {action:?}");
            }
            for purpose in 0..2 {
                assert_eq!(policy.table.clear(row, *action, (0, 0), purpose), ClassSet::NONE);
            }
        }
    }
}

#[test]
fn the_schema_and_the_vault_name_the_same_actions_roles_and_classes() {
    let (schema, warnings) = Schema::from_cedarschema_str(POLICY_SCHEMA).unwrap();
    assert_eq!(warnings.count(), 0);
    let names = |all: Vec<&EntityUid>| -> HashSet<String> {
        all.iter().map(|uid| uid.id().unescaped().to_owned()).collect()
    };
    let groups = names(schema.action_groups().collect());
    let declared: HashSet<String> =
        names(schema.actions().collect()).difference(&groups).cloned().collect();
    let mut known: HashSet<String> =
        Action::PERMITTED.iter().map(|action| action.name().to_owned()).collect();
    known.insert("SeeClear".to_owned());
    assert_eq!(declared, known);
    // And each about what the vault asks it of.
    for action in Action::PERMITTED {
        let uid: EntityUid = format!("Action::\"{}\"", action.name()).parse().unwrap();
        let about = schema.resources_for_action(&uid).unwrap().map(|kind| kind.to_string());
        let mut about: Vec<String> = about.collect();
        about.sort();
        let expected: &[&str] = match action.reach().unwrap() {
            Reach::Vault | Reach::WholeVault => &["Vault"],
            Reach::Either => &["Tenant", "Vault"],
            Reach::Tenant => &["Tenant"],
            Reach::Records => &["Records"],
        };
        assert_eq!(about, expected, "{action:?}");
    }
    let listed = |kind: &str, names: Vec<&str>| {
        let line = format!("entity {kind} enum [\"{}\"];", names.join("\", \""));
        assert!(POLICY_SCHEMA.contains(&line), "{line}");
    };
    listed("Role", Role::ALL.map(Role::name).to_vec());
    listed("Class", Classification::ALL.map(Classification::name).to_vec());
    listed("Call", table::CALLS.map(Action::name).to_vec());
}

const CUSTOM: &str = r#"
permit (
    principal in Role::"application",
    action in [Action::"Read", Action::"Write", Action::"Look"],
    resource
);
permit (principal in Role::"application", action == Action::"SeeClear", resource)
when { context.call == Call::"ReadRecord" };
// One caller sees health notes, for treatment only.
forbid (principal, action, resource in RecordType::"health")
unless { principal == Identity::"spiffe://test/ward" };
forbid (principal, action == Action::"SeeClear", resource in RecordType::"health")
unless { context has purpose && [Purpose::"treatment", Purpose::"rounds"].contains(context.purpose) };
permit (principal in Role::"support", action == Action::"ReadRecord", resource == Records::"shop/order");
permit (principal in Role::"support", action == Action::"SeeClear", resource in Tenant::"shop")
when { context.class != Class::"SENSITIVE" && !(resource in RecordType::"health") };
permit (principal == Identity::"spiffe://test/night", action in [Action::"Inspect"], resource);
forbid (principal in Role::"operator", action, resource is Tenant);
permit (principal in Role::"operator", action in [Action::"Look", Action::"Inspect"], resource in Vault::"vault");
"#;

/// Asks Cedar itself, with nothing but what this one request needs.
struct Cedar {
    policies: PolicySet,
    schema: Schema,
}

impl Cedar {
    fn allows(
        &self,
        (identity, role): (&str, Role),
        action: &str,
        (tenant, rtype): (Option<&str>, Option<&str>),
        context: Option<(Classification, Action, Option<&str>)>,
    ) -> bool {
        let uid = |text: String| text.parse::<EntityUid>().unwrap();
        let principal = uid(format!("Identity::\"{identity}\""));
        let role = uid(format!("Role::\"{}\"", role.name()));
        let mut all = vec![Entity::new_no_attrs(principal.clone(), HashSet::from([role]))];
        let vault = uid("Vault::\"vault\"".into());
        let mut resource = vault.clone();
        if let Some(tenant) = tenant {
            resource = uid(format!("Tenant::\"{tenant}\""));
            all.push(Entity::new_no_attrs(resource.clone(), HashSet::from([vault])));
            if let Some(rtype) = rtype {
                let parents = HashSet::from([resource, uid(format!("RecordType::\"{rtype}\""))]);
                resource = uid(format!("Records::\"{tenant}/{rtype}\""));
                all.push(Entity::new_no_attrs(resource.clone(), parents));
            }
        }
        let entities = Entities::from_entities(all, Some(&self.schema)).unwrap();
        let mut pairs = Vec::new();
        if let Some((class, call, purpose)) = context {
            pairs.push(("class", uid(format!("Class::\"{}\"", class.name()))));
            pairs.push(("call", uid(format!("Call::\"{}\"", call.name()))));
            pairs.extend(purpose.map(|p| ("purpose", uid(format!("Purpose::\"{p}\"")))));
        }
        let pairs = pairs
            .into_iter()
            .map(|(key, uid)| (key.to_owned(), RestrictedExpression::new_entity_uid(uid)));
        let context = Context::from_pairs(pairs).unwrap();
        let action = uid(format!("Action::\"{action}\""));
        let request = Request::new(principal, action, resource, context, Some(&self.schema));
        let answer = Authorizer::new().is_authorized(&request.unwrap(), &self.policies, &entities);
        assert_eq!(answer.diagnostics().errors().count(), 0);
        answer.decision() == Decision::Allow
    }
}

/// For names that the policy mentions and for many that it does not.
#[test]
fn the_table_says_what_cedar_says() {
    for text in [CUSTOM, BUILT_IN_POLICY] {
        let table = Policy::parse(text).unwrap().table;
        let (schema, _) = Schema::from_cedarschema_str(POLICY_SCHEMA).unwrap();
        let cedar = Cedar { policies: text.parse().unwrap(), schema };
        let identities = ["ward", "night", "war", "wards", "other"];
        let tenants = ["shop", "sho", "shop-2", "clinic"];
        let types = ["health", "order", "orders", "a"];
        let purposes =
            [None, Some("treatment"), Some("rounds"), Some("subject-request"), Some("round")];
        let mut allowed = 0;
        for (identity, role) in identities.iter().flat_map(|i| Role::ALL.map(|r| (*i, r))) {
            let identity = who(identity);
            let row = table.row(&identity, role);
            let by = (identity.as_str(), role);
            let mut same = |action: Action, target, on, clue| {
                let want = cedar.allows(by, action.name(), on, None);
                assert_eq!(table.allows(row, action, target), want, "{by:?} {action:?} {clue:?}");
                allowed += usize::from(want);
            };
            for action in Action::PERMITTED.iter().copied() {
                let reach = action.reach().unwrap();
                if matches!(reach, Reach::Vault | Reach::WholeVault | Reach::Either) {
                    same(action, Target::Vault, (None, None), ("", ""));
                }
                for tenant in tenants {
                    let t = table.mentioned.tenants.place(tenant);
                    if matches!(reach, Reach::Tenant | Reach::Either) {
                        same(action, Target::Tenant(t), (Some(tenant), None), (tenant, ""));
                    }
                    for rtype in types.iter().filter(|_| reach == Reach::Records) {
                        let y = table.mentioned.types.place(rtype);
                        let on = (Some(tenant), Some(*rtype));
                        same(action, Target::Records(t, y), on, (tenant, *rtype));
                    }
                }
            }
            for (tenant, rtype) in tenants.iter().flat_map(|t| types.map(|y| (*t, y))) {
                let m = &table.mentioned;
                let records = (m.tenants.place(tenant), m.types.place(rtype));
                for (call, purpose) in
                    table::CALLS.into_iter().flat_map(|c| purposes.map(|p| (c, p)))
                {
                    let clear = table.clear(row, call, records, table.purpose(purpose));
                    for class in Classification::ALL {
                        let on = (Some(tenant), Some(rtype));
                        let asked = Some((class, call, purpose));
                        let want = cedar.allows(by, "SeeClear", on, asked);
                        let clue = (tenant, rtype, call, purpose, class);
                        assert_eq!(clear.contains(class), want, "{by:?} {clue:?}");
                        allowed += usize::from(want);
                    }
                }
            }
        }
        assert!(allowed > 500, "{allowed} allowed: the comparison was of nothing");
    }
}

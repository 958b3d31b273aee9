//! What Cedar's own validation lets pass and a table cannot hold, or nobody can have meant.
//!
//! Guarantees: a policy that passes compares names only for being equal or one of several, or in a group. So of two
//! names that it does not mention it says the same, and one place in a table can stand for all of them. Every permit
//! names a role or an identity, and its actions, so that nothing is granted by leaving something out.

use cedar_policy::pst::{BinaryOp, Clause, Expr, UnaryOp};
use cedar_policy::{
    ActionConstraint, Effect, EntityUid, Policy, PolicyId, PolicySet, PrincipalConstraint,
};

use super::fault::Fault;
use super::table::{Mentioned, Names};
use crate::authz::Principal;
use crate::authz::authority::is_tenant_id;
use crate::limits::{POLICIES_MAX, POLICY_BYTES_MAX, POLICY_DEPTH_MAX};

/// Where each policy of a text begins, as far as can be told without reading it.
pub struct Outline<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Outline<'a> {
    /// Fails if the text has more than may be read.
    pub fn of(text: &'a str) -> Result<Self, Fault> {
        let (mut starts, mut depth) = (Vec::<usize>::new(), 0_usize);
        let mut inside = false;
        let mut bytes = text.bytes().enumerate().peekable();
        while let Some((at, byte)) = bytes.next() {
            if byte.is_ascii_whitespace() {
                continue;
            }
            if byte == b'/' && bytes.peek().is_some_and(|(_, next)| *next == b'/') {
                bytes.by_ref().find(|(_, b)| *b == b'\n');
                continue;
            }
            if !inside {
                if starts.len() == POLICIES_MAX {
                    let reason = format!("there are more than {POLICIES_MAX} policies");
                    return Err(Fault::at(text, at, reason));
                }
                starts.push(at);
                inside = true;
            }
            match byte {
                b'"' => {
                    while let Some((_, b)) = bytes.next() {
                        match b {
                            b'\\' => drop(bytes.next()),
                            b'"' => break,
                            _ => {}
                        }
                    }
                }
                b'(' | b'[' | b'{' => depth += 1,
                b')' | b']' | b'}' => depth = depth.saturating_sub(1),
                b';' => (inside, depth) = (false, 0),
                _ => {}
            }
            if depth > POLICY_DEPTH_MAX {
                let reason = format!("brackets are more than {POLICY_DEPTH_MAX} deep");
                return Err(Fault::at(text, at, reason));
            }
            if starts.last().is_some_and(|start| at - start > POLICY_BYTES_MAX) {
                let reason = format!("a policy is longer than {POLICY_BYTES_MAX} bytes");
                return Err(Fault::at(text, at, reason));
            }
        }
        Ok(Self { text, starts })
    }

    /// Cedar numbers policies in their order.
    fn fault(&self, policy: &PolicyId, reason: impl Into<String>) -> Fault {
        let number = policy.to_string();
        let number = number.strip_prefix("policy").and_then(|n| n.parse::<usize>().ok());
        match number.and_then(|n| self.starts.get(n)) {
            Some(start) => Fault::at(self.text, *start, reason),
            None => Fault::whole(reason),
        }
    }
}

/// The names that policies mention, and what is wrong with their form.
pub fn examine(outline: &Outline<'_>, set: &PolicySet) -> (Mentioned, Vec<Fault>) {
    let mut faults = Vec::new();
    if set.is_empty() {
        // A file that was cut off at its start would take every right away unnoticed.
        let reason =
            "holds no policy; to deny everything say so: forbid (principal, action, resource);";
        faults.push(Fault::whole(reason));
    }
    let templates =
        set.templates().map(|t| outline.fault(t.id(), "is a template: name what it is about"));
    faults.extend(templates);
    let mut literals = Vec::new();
    for policy in set.policies() {
        let mut fault = |reason: String| faults.push(outline.fault(policy.id(), reason));
        scope(policy).into_iter().for_each(|reason| fault(reason.to_owned()));
        match policy.to_pst() {
            Ok(tree) => {
                for clause in tree.body().clauses() {
                    let (Clause::When(expr) | Clause::Unless(expr)) = clause;
                    if let Err(what) = compares_names(expr) {
                        fault(format!(
                            "uses {what}; a policy compares names by ==, !=, in, is, has and contains"
                        ));
                    }
                }
            }
            Err(_) => fault("cannot be taken apart".to_owned()),
        }
        for literal in policy.entity_literals() {
            match check_name(&literal) {
                Ok(()) => literals.push(literal),
                Err(reason) => fault(format!("{literal}: {reason}")),
            }
        }
    }
    (mentioned(&literals), faults)
}

/// A permit says whom it is for, and what for.
fn scope(policy: &Policy) -> Vec<&'static str> {
    if policy.effect() == Effect::Forbid {
        return Vec::new();
    }
    let mut faults = Vec::new();
    let anyone = matches!(
        policy.principal_constraint(),
        PrincipalConstraint::Any | PrincipalConstraint::Is(_)
    );
    if anyone {
        faults.push(
            "permits it to everybody: begin with `principal in Role::\"...\"` or \
             `principal == Identity::\"...\"`",
        );
    }
    if policy.action_constraint() == ActionConstraint::Any {
        faults.push(
            "permits every action, also those to come: name them by `action == Action::\"...\"` \
             or `action in [...]`",
        );
    }
    faults
}

/// Fails at anything by which one name could be told from another that is not mentioned; or that can fail while it is
/// evaluated, since Cedar passes over a policy that does.
fn compares_names(expr: &Expr) -> Result<(), &'static str> {
    match expr {
        Expr::Literal(_) | Expr::Var(_) => Ok(()),
        Expr::UnaryOp { op: UnaryOp::Not, expr } => compares_names(expr),
        Expr::BinaryOp { op, left, right } => {
            match op {
                BinaryOp::Eq
                | BinaryOp::NotEq
                | BinaryOp::And
                | BinaryOp::Or
                | BinaryOp::In
                | BinaryOp::Contains
                | BinaryOp::ContainsAll
                | BinaryOp::ContainsAny => {}
                BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul => return Err("arithmetic"),
                BinaryOp::Less | BinaryOp::LessEq | BinaryOp::Greater | BinaryOp::GreaterEq => {
                    return Err("an order");
                }
                BinaryOp::GetTag | BinaryOp::HasTag => return Err("tags"),
                _ => return Err("an extension function"),
            }
            compares_names(left)?;
            compares_names(right)
        }
        Expr::GetAttr { expr, .. } | Expr::HasAttr { expr, .. } => compares_names(expr),
        Expr::Is { expr, in_expr, .. } => {
            compares_names(expr)?;
            in_expr.as_deref().map_or(Ok(()), compares_names)
        }
        Expr::IfThenElse { cond, then_expr, else_expr } => {
            [cond, then_expr, else_expr].into_iter().try_for_each(|e| compares_names(e))
        }
        Expr::Set(parts) => parts.iter().try_for_each(|e| compares_names(e)),
        Expr::Record(parts) => parts.values().try_for_each(|e| compares_names(e)),
        Expr::Like { .. } => Err("`like`"),
        Expr::UnaryOp { op: UnaryOp::Neg, .. } => Err("arithmetic"),
        _ => Err("an extension function"),
    }
}

/// What no tenant, type, purpose or caller can be called is a slip of the pen.
fn check_name(literal: &EntityUid) -> Result<(), &'static str> {
    let id: &str = literal.id().unescaped();
    const NAME: &str = "must be 1 to 63 of a-z, 0-9 and -, begin with a letter and not end with -";
    let name = |id| if is_tenant_id(id) { Ok(()) } else { Err(NAME) };
    match literal.type_name().to_string().as_str() {
        "Tenant" | "RecordType" | "Purpose" => name(id),
        "Records" => match id.split_once('/') {
            Some((tenant, rtype)) if is_tenant_id(tenant) && is_tenant_id(rtype) => Ok(()),
            _ => Err("must be TENANT/TYPE"),
        },
        "Identity" => {
            Principal::parse(id).map(drop).map_err(|_| "must be a URI spiffe://TRUST_DOMAIN/PATH")
        }
        _ => Ok(()),
    }
}

fn mentioned(literals: &[EntityUid]) -> Mentioned {
    let of = |kind: &str| -> Vec<Box<str>> {
        let all = literals.iter().filter(|l| l.type_name().to_string() == kind);
        all.map(|l| Box::from(l.id().unescaped())).collect()
    };
    let (mut tenants, mut types) = (of("Tenant"), of("RecordType"));
    for pair in of("Records") {
        if let Some((tenant, rtype)) = pair.split_once('/') {
            tenants.push(tenant.into());
            types.push(rtype.into());
        }
    }
    Mentioned {
        identities: Names::new(of("Identity")),
        tenants: Names::new(tenants),
        types: Names::new(types),
        purposes: Names::new(of("Purpose")),
    }
}

//! Policies in Cedar, compiled into a table before they are in force. Cedar decides principal × action × tenant ×
//! type × class × purpose; it never sees a record or a subject, and no call waits for it.
//!
//! Guarantees: a policy is taken whole or not at all: it parses, fits `lethe.cedarschema` strictly, says only what a
//! table can hold, and names whom it permits what.

mod compile;
mod fault;
mod form;
mod table;
#[cfg(test)]
mod tests;

use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use cedar_policy::{PolicySet, Schema, ValidationMode, Validator};

pub use self::fault::{Fault, PolicyFaults};
pub(super) use self::table::{Row, Table, Target};
use crate::crypto::{Digest32, sha256};
use crate::limits::{POLICY_FILE_BYTES_MAX, POLICY_STACK_BYTES};

/// What policies can speak of.
pub const POLICY_SCHEMA: &str = include_str!("lethe.cedarschema");

/// The policy that is in force where none is given.
pub const BUILT_IN_POLICY: &str = include_str!("roles.cedar");

/// A policy that can be in force.
#[derive(Debug)]
pub struct Policy {
    pub(super) table: Table,
    sha256: Digest32,
    policies: usize,
}

impl Policy {
    /// The roles as they come with the vault. Compiled once.
    pub fn built_in() -> Result<Arc<Self>, PolicyFaults> {
        static BUILT_IN: OnceLock<Result<Arc<Policy>, PolicyFaults>> = OnceLock::new();
        BUILT_IN.get_or_init(|| Self::parse(BUILT_IN_POLICY).map(Arc::new)).clone()
    }

    /// Reads a policy and compiles it, on a thread whose stack is large enough for the longest there may be: Cedar's
    /// trees are walked by calls in calls.
    pub fn parse(text: &str) -> Result<Self, PolicyFaults> {
        let parsed = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("policy".into());
            let thread = thread.stack_size(POLICY_STACK_BYTES);
            let running = thread.spawn_scoped(scope, || Self::parse_here(text)).ok()?;
            running.join().ok()
        });
        let failed = || Err(Fault::whole("could not be read: its thread failed").into());
        parsed.unwrap_or_else(failed)
    }

    fn parse_here(text: &str) -> Result<Self, PolicyFaults> {
        if text.len() > POLICY_FILE_BYTES_MAX {
            return Err(Fault::whole(format!("more than {POLICY_FILE_BYTES_MAX} bytes")).into());
        }
        let refused = |faults| PolicyFaults::of(faults).map_or(Ok(()), Err);
        let outline = form::Outline::of(text)?;
        let set = PolicySet::from_str(text).map_err(|errors| {
            let faults = PolicyFaults::of(fault::of_syntax(text, &errors));
            faults.unwrap_or_else(|| Fault::whole("is no policy").into())
        })?;
        let schema = Schema::from_cedarschema_str(POLICY_SCHEMA);
        let (schema, _) = schema.map_err(|e| Fault::whole(format!("the vault's schema: {e}")))?;
        let validator = Validator::new(schema);
        let result = validator.validate(&set, ValidationMode::Strict);
        let (mentioned, mut faults) = form::examine(&outline, &set);
        faults.extend(fault::of_validation(text, &result));
        refused(faults)?;
        let table = compile::compile(&set, validator.schema(), mentioned)?;
        Ok(Self { table, sha256: sha256(text.as_bytes()), policies: set.num_of_policies() })
    }

    /// Of the text, in hex.
    pub fn sha256(&self) -> String {
        self.sha256.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// How many policies it has, and how many decisions they were compiled into.
    pub fn size(&self) -> (usize, usize) {
        (self.policies, compile::cells(&self.table.mentioned))
    }
}

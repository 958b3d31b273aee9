//! What is wrong with a policy file, for the person who wrote it.
//!
//! Guarantees: a fault names the line and the reason. What stands in a text that is no policy is not repeated, since it
//! may be another file than was meant; the names in a policy are.

use std::fmt;

use cedar_policy::{ParseErrors, ValidationResult};
use miette::Diagnostic;

/// Faults that are told of one file.
const TOLD_MAX: usize = 20;

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Counted from 1; `None` for the file as a whole.
    pub line: Option<usize>,
    pub reason: String,
}

impl Fault {
    pub(super) fn whole(reason: impl Into<String>) -> Self {
        Self { line: None, reason: reason.into() }
    }

    pub(super) fn at(text: &str, offset: usize, reason: impl Into<String>) -> Self {
        let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        Self { line: Some(line), reason: reason.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}

/// Why a policy is refused: at least one fault, in the order of lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyFaults(Vec<Fault>);

impl PolicyFaults {
    /// `None` if there are none.
    pub(super) fn of(mut faults: Vec<Fault>) -> Option<Self> {
        faults.sort_by_key(|fault| fault.line);
        faults.dedup();
        faults.truncate(TOLD_MAX);
        (!faults.is_empty()).then_some(Self(faults))
    }

    pub fn all(&self) -> &[Fault] {
        &self.0
    }
}

impl From<Fault> for PolicyFaults {
    fn from(fault: Fault) -> Self {
        Self(vec![fault])
    }
}

impl std::error::Error for PolicyFaults {}

impl fmt::Display for PolicyFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [] => Ok(()),
            [one] => one.fmt(f),
            [first, more @ ..] => write!(f, "{first} (and {} more)", more.len()),
        }
    }
}

/// Where a diagnostic points to, and what it says there.
fn label(found: &dyn Diagnostic) -> (Option<usize>, Option<String>) {
    let label = found.labels().and_then(|mut labels| labels.next());
    let says = label.as_ref().and_then(|l| l.label()).map(str::to_owned);
    (label.map(|l| l.offset()), says)
}

/// The parser's own words, which stand before what it quotes or names.
fn own_words(text: &str) -> &str {
    text.split(['`', '"', '\'', ':']).next().unwrap_or_default().trim_end()
}

/// Of a text that is no Cedar: what was expected is told, what was found is not.
pub fn of_syntax(text: &str, errors: &ParseErrors) -> Vec<Fault> {
    let fault = |found: &dyn Diagnostic| {
        let (offset, says) = label(found);
        let mut reason = format!("no policy can be read here: {}", own_words(&found.to_string()));
        // The grammar's own words.
        if let Some(expected) = says.filter(|s| s.starts_with("expected ")) {
            reason = format!("{reason}; {expected}");
        } else if let Some(help) = found.help() {
            reason = format!("{reason}; {}", own_words(&help.to_string()));
        }
        match offset {
            Some(offset) => Fault::at(text, offset, reason),
            None => Fault::whole(reason),
        }
    };
    errors.iter().map(|e| fault(e)).collect()
}

/// Of policies that do not fit the schema. A policy that can never apply is as wrong as one that names what is not
/// there; it is told only where nothing else is.
pub fn of_validation(text: &str, result: &ValidationResult) -> Vec<Fault> {
    let fault = |found: &dyn Diagnostic, policy: &str| {
        let (offset, _) = label(found);
        // Cedar numbers policies; the line says it better.
        let said = found.to_string();
        let own = format!("for policy `{policy}`");
        let part = |text: &str| {
            let text = text.strip_prefix(&own).unwrap_or(text);
            text.trim_start_matches([',', ':', ' ']).to_owned()
        };
        let mut reason = part(&said);
        if let Some(help) = found.help() {
            reason = format!("{reason}; {}", part(&help.to_string()));
        }
        match offset {
            Some(offset) => Fault::at(text, offset, reason),
            None => Fault::whole(reason),
        }
    };
    let errors = result.validation_errors().map(|e| fault(e, e.policy_id().as_ref()));
    let errors: Vec<Fault> = errors.collect();
    if errors.is_empty() {
        let warnings = result.validation_warnings();
        return warnings.map(|w| fault(w, w.policy_id().as_ref())).collect();
    }
    errors
}

//! What is wrong with a configuration: where, what was expected, and what to do. Never what was given.

use crate::authz::{BindingError, PrincipalError};
use crate::limits;
use crate::toml_fault::TomlFault;
use crate::vault::calendar::PeriodError;

/// Where a value is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Default,
    /// Line of the file, counted from 1.
    File {
        line: usize,
    },
    Environment,
    Flag,
}

impl Origin {
    /// The greater one counts.
    pub fn rank(self) -> u8 {
        match self {
            Self::Default => 0,
            Self::File { .. } => 1,
            Self::Environment => 2,
            Self::Flag => 3,
        }
    }

    pub fn line(self) -> usize {
        match self {
            Self::File { line } => line,
            _ => 0,
        }
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { line } => write!(f, "line {line}"),
            Self::Environment => f.write_str("environment"),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigProblem {
    #[error("the file is larger than {} bytes or not UTF-8", limits::CONFIG_BYTES_MAX)]
    Text,
    #[error(transparent)]
    Syntax(#[from] TomlFault),
    #[error("{origin}{}: unknown key{}", quoted(key), meant(near))]
    Unknown { origin: Origin, key: String, near: Vec<&'static str> },
    #[error("{origin}, `{key}`: {expected}")]
    Value { origin: Origin, key: &'static str, expected: String },
    #[error("missing key `{key}`")]
    Missing { key: &'static str },
    #[error("audit.retain: {0}")]
    AuditRetain(PeriodError),
    #[error("audit.retain: is less than {} days", limits::AUDIT_RETAIN_DAYS_MIN)]
    AuditRetainShort,
    #[error("kek: give either `file` or `credential`")]
    Kek,
    #[error("kek.credential: a plain file name is needed")]
    CredentialName,
    #[error("kek.credential: CREDENTIALS_DIRECTORY is not set; is this run by systemd?")]
    NoCredentials,
    #[error("tls.trust_domain: {0}")]
    TrustDomain(PrincipalError),
    #[error("identity {at} (counted from 0), uri: {problem}")]
    IdentityUri { at: usize, problem: PrincipalError },
    #[error("identity {at} (counted from 0), uri: not of tls.trust_domain")]
    IdentityDomain { at: usize },
    #[error("identity {at} (counted from 0): {problem}")]
    Identity { at: usize, problem: BindingError },
    #[error("no [[identity]]: nobody could call")]
    NoIdentity,
}

/// A name as far as it may be shown: the text may be another file than was meant.
pub fn shown(name: &str) -> &str {
    let form = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
    if name.len() <= 64 && name.bytes().all(form) { name } else { "" }
}

fn quoted(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!(", `{key}`") }
}

fn meant(near: &[&str]) -> String {
    if near.is_empty() { String::new() } else { format!("; nearest: {}", near.join(", ")) }
}

impl ConfigProblem {
    /// The key that it is about.
    pub fn key(&self) -> &str {
        match self {
            Self::Text => "--config",
            Self::Syntax(fault) => &fault.key,
            Self::Unknown { key, .. } => key,
            Self::Value { key, .. } | Self::Missing { key } => key,
            Self::AuditRetain(_) | Self::AuditRetainShort => "audit.retain",
            Self::Kek => "kek",
            Self::CredentialName | Self::NoCredentials => "kek.credential",
            Self::TrustDomain(_) => "tls.trust_domain",
            Self::IdentityUri { .. }
            | Self::IdentityDomain { .. }
            | Self::Identity { .. }
            | Self::NoIdentity => "identity",
        }
    }

    /// What to do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Text => "check that --config names the right file",
            Self::Syntax(_) => {
                "correct the line; keys-example/lethed.toml shows how each is written"
            }
            Self::Unknown { origin: Origin::Environment, .. } => {
                "unset the variable, or correct its name; identities stay in the file"
            }
            Self::Unknown { .. } => "correct its name, or take it out",
            Self::Value { .. } => "give a value of that form",
            Self::Missing { .. } => "give it in the file, the environment or by --set",
            Self::AuditRetain(_) => "write it as P2Y, P18M, P26W or P90D, or leave it out",
            Self::AuditRetainShort => "give more time, or leave it out to keep all",
            Self::Kek => "name a key file, or a credential of the service manager, and not both",
            Self::CredentialName => "give the name that LoadCredential= has",
            Self::NoCredentials => "start through systemd, or use kek.file",
            Self::TrustDomain(_) => "1 to 255 of a-z, 0-9, dot, dash, underscore",
            Self::IdentityUri { .. } | Self::IdentityDomain { .. } => {
                "write it as spiffe://TRUST_DOMAIN/PATH"
            }
            Self::Identity { .. } => "name tenants by their ids, or [\"*\"] for all",
            Self::NoIdentity => "add an [[identity]] with uri, role and tenants",
        }
    }
}

/// All that is wrong, at least one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblems(pub Vec<ConfigProblem>);

impl From<ConfigProblem> for ConfigProblems {
    fn from(problem: ConfigProblem) -> Self {
        Self(vec![problem])
    }
}

impl std::error::Error for ConfigProblems {}

impl std::fmt::Display for ConfigProblems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (n, problem) in self.0.iter().enumerate() {
            write!(f, "{}{problem}", if n == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

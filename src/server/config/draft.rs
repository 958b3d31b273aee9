//! A configuration as far as it is sound, and all that keeps it from being one.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::IntoDeserializer;
use serde::de::value::Error as Unfit;

use super::sources::Gathered;
use super::{Config, ConfigProblem, ConfigProblems, KekSource, Sources, TlsFiles};
use crate::authz::{Binding, TrustDomain};
use crate::limits;
use crate::server::{DoorLimits, LogSettings, ServerError};
use crate::vault::calendar::Period;
use crate::vault::retention::keeper::KeeperSetup;

/// Every part that could be made.
pub struct Draft {
    pub gathered: Gathered,
    pub kek: Option<KekSource>,
    pub tls: Option<TlsFiles>,
    pub bindings: Vec<Binding>,
    pub audit_retain: Option<Period>,
    pub problems: Vec<ConfigProblem>,
}

impl Draft {
    /// An error means that the file cannot be read.
    pub fn load(path: &Path, sources: &Sources) -> Result<Self, ServerError> {
        let text = super::read(path)?;
        Ok(Self::read(&text, path.parent().unwrap_or(Path::new("")), sources))
    }

    pub fn read(text: &str, base: &Path, sources: &Sources) -> Self {
        let mut gathered = Gathered::read(text, base, sources);
        let mut problems = std::mem::take(&mut gathered.problems);
        let sound = problems.is_empty();
        let kek = match kek(gathered.path("kek.file"), gathered.word("kek.credential")) {
            Ok(kek) => Some(kek),
            // What did not fit has been told already.
            Err(ConfigProblem::Kek) if problems.iter().any(|p| p.key().starts_with("kek")) => None,
            Err(ConfigProblem::Kek) if is_syntax(&problems) => None,
            Err(problem) => {
                problems.push(problem);
                None
            }
        };
        let domain = match gathered.word("tls.trust_domain").map(TrustDomain::parse) {
            Some(Err(problem)) => {
                problems.push(ConfigProblem::TrustDomain(problem));
                None
            }
            Some(Ok(domain)) => Some(domain),
            None => None,
        };
        let mut bindings = Vec::new();
        if let Some(domain) = &domain {
            for identity in &gathered.identities {
                match identity.check(domain) {
                    Ok(binding) => bindings.push(binding),
                    Err(problem) => problems.push(problem),
                }
            }
        }
        // Where the file itself is at fault, its identities may just not have been reached.
        if gathered.identities.is_empty() && (sound || !is_syntax(&problems)) {
            problems.push(ConfigProblem::NoIdentity);
        }
        let paths = ["tls.cert", "tls.key", "tls.client_ca"].map(|name| gathered.path(name));
        let tls = match (paths, domain) {
            ([Some(cert), Some(key), Some(client_ca)], Some(trust_domain)) => {
                let crl = gathered.path("tls.crl");
                Some(TlsFiles { cert, key, client_ca, crl, trust_domain })
            }
            _ => None,
        };
        let audit_retain = match gathered.word("audit.retain").map(retain).transpose() {
            Ok(retain) => retain,
            Err(problem) => {
                problems.push(problem);
                None
            }
        };
        Self { gathered, kek, tls, bindings, audit_retain, problems }
    }

    /// The configuration, if nothing is wrong with it.
    pub fn finish(self) -> Result<Config, ConfigProblems> {
        let Self { gathered: all, kek, tls, bindings, audit_retain, mut problems } = self;
        let whole = (all.address("listen"), all.path("data"), all.path("anchor.path"), kek, tls);
        let (Some(listen), Some(data), Some(anchor), Some(kek), Some(tls)) = whole else {
            if problems.is_empty() {
                problems.push(ConfigProblem::Text);
            }
            return Err(ConfigProblems(problems));
        };
        if !problems.is_empty() {
            return Err(ConfigProblems(problems));
        }
        Ok(Config {
            listen,
            data,
            engine: choice(&all, "store.engine"),
            kek,
            anchor,
            anchor_require: choice(&all, "anchor.require"),
            tls,
            audit_reads: choice(&all, "audit.reads"),
            audit_retain,
            retention: retention(&all),
            policy: all.path("policy.file"),
            witnesses: all.path("witness.keys"),
            bindings,
            limits: limits(&all),
            metrics_socket: all.path("metrics.socket"),
            log: LogSettings {
                format: choice(&all, "log.format"),
                level: choice(&all, "log.level"),
            },
            source: None,
        })
    }
}

fn is_syntax(problems: &[ConfigProblem]) -> bool {
    problems.iter().any(|problem| matches!(problem, ConfigProblem::Syntax(_)))
}

/// How long the audit log's entries stay.
fn retain(text: &str) -> Result<Period, ConfigProblem> {
    let period: Period = text.parse().map_err(ConfigProblem::AuditRetain)?;
    match period.may_be_less_than(limits::AUDIT_RETAIN_DAYS_MIN) {
        true => Err(ConfigProblem::AuditRetainShort),
        false => Ok(period),
    }
}

fn kek(file: Option<PathBuf>, credential: Option<&str>) -> Result<KekSource, ConfigProblem> {
    match (file, credential) {
        (Some(file), None) => Ok(KekSource::File(file)),
        (None, Some(name)) if Path::new(name).file_name() == Some(OsStr::new(name)) => {
            Ok(KekSource::Credential(name.to_owned()))
        }
        (None, Some(_)) => Err(ConfigProblem::CredentialName),
        _ => Err(ConfigProblem::Kek),
    }
}

/// The variant that a choice names. A test goes through all that the table of keys offers.
fn choice<'a, T: serde::Deserialize<'a> + Default>(all: &'a Gathered, name: &str) -> T {
    let word = all.word(name).unwrap_or_default();
    let from: serde::de::value::StrDeserializer<'a, Unfit> = word.into_deserializer();
    T::deserialize(from).unwrap_or_default()
}

/// What is in the table of keys is there, and within its range.
fn retention(all: &Gathered) -> KeeperSetup {
    let secs = |name: &str| Duration::from_secs(all.whole(name).unwrap_or(1));
    KeeperSetup {
        interval: secs("retention.sweep_interval_secs"),
        close_before: secs("retention.close_before_secs"),
        clock_gap_max: secs("retention.clock_gap_secs"),
    }
}

/// What is in the table of keys is there, and within its range.
fn limits(all: &Gathered) -> DoorLimits {
    let whole = |name: &str| all.whole(name).unwrap_or(1);
    let secs = |name: &str| Duration::from_secs(whole(name));
    let count = |name: &str| usize::try_from(whole(name)).unwrap_or(1);
    let calls = |name: &str| u32::try_from(whole(name)).unwrap_or(1);
    DoorLimits {
        connections: count("limits.connections"),
        identity_connections: count("limits.identity_connections"),
        age: secs("limits.connection_age_secs"),
        calls_per_second: calls("limits.calls_per_second"),
        calls_burst: calls("limits.calls_burst"),
        handshake: secs("limits.handshake_secs"),
        deadline: secs("limits.deadline_secs"),
        shutdown: secs("limits.shutdown_secs"),
    }
}

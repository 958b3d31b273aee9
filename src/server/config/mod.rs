//! The configuration: a file of TOML, over it the environment, over that the flags. One way to say each thing, nothing
//! unknown.
//!
//! Guarantees: a [`Config`] is complete and checked; its paths are relative to the file's directory; an error names the
//! key and never the value; all that is wrong is told in one go.

mod draft;
mod identities;
mod keys;
mod problem;
mod show;
mod sources;
mod validate;

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{DoorLimits, LogSettings, ServerError};
use crate::authz::{Binding, TrustDomain};
use crate::class::AuditReads;
use crate::limits;
use crate::vault::calendar::Period;
use crate::vault::retention::keeper::KeeperSetup;

pub use draft::Draft;
pub use problem::{ConfigProblem, ConfigProblems};
pub use show::schema;
pub use sources::Sources;
pub use validate::{Finding, check_draft, validate};

/// Where rows are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    #[default]
    Redb,
    Sled,
    /// Nothing survives a restart.
    Memory,
}

/// Where the key-encryption key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KekSource {
    File(PathBuf),
    /// A file of this name in `$CREDENTIALS_DIRECTORY` (systemd.exec(5), LoadCredential).
    Credential(String),
}

impl KekSource {
    /// The file to read; `credentials` is the value of `$CREDENTIALS_DIRECTORY`.
    pub fn path(&self, credentials: Option<&OsStr>) -> Result<PathBuf, ConfigProblem> {
        match self {
            Self::File(path) => Ok(path.clone()),
            Self::Credential(name) => {
                Ok(Path::new(credentials.ok_or(ConfigProblem::NoCredentials)?).join(name))
            }
        }
    }
}

/// What the anchor's medium must be able to claim for the vault to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AnchorRequire {
    /// Erasures reach level E1, or the vault does not start.
    #[default]
    E1,
    /// Start on any medium; receipts say what was reached.
    Any,
}

/// The files of the door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
    pub client_ca: PathBuf,
    /// A file of revocation lists, or a directory of such files. Without it nothing is ever revoked.
    pub crl: Option<PathBuf>,
    /// Callers must be of it.
    pub trust_domain: TrustDomain,
}

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    pub listen: SocketAddr,
    pub data: PathBuf,
    pub engine: EngineKind,
    pub kek: KekSource,
    pub anchor: PathBuf,
    pub anchor_require: AnchorRequire,
    pub tls: TlsFiles,
    pub audit_reads: AuditReads,
    /// How long entries of the audit log stay; `None`: for ever.
    pub audit_retain: Option<Period>,
    pub retention: KeeperSetup,
    /// The file of the policy. Without it the roles are in force that come with the vault.
    pub policy: Option<PathBuf>,
    /// The file of the witnesses' keys.
    pub witnesses: Option<PathBuf>,
    pub bindings: Vec<Binding>,
    pub limits: DoorLimits,
    /// Metrics and probes are served here.
    pub metrics_socket: Option<PathBuf>,
    pub log: LogSettings,
    /// The file that it was loaded from, and what stood beside it.
    pub source: Option<(PathBuf, Sources)>,
}

/// The file as text.
fn read(path: &Path) -> Result<String, ServerError> {
    let at = |problem: ConfigProblem| ServerError::Config {
        path: path.display().to_string(),
        problems: problem.into(),
    };
    let file = File::open(path).map_err(ServerError::io(path))?;
    let mut bytes = Vec::new();
    let read = file.take(limits::CONFIG_BYTES_MAX + 1).read_to_end(&mut bytes);
    let size = read.map_err(ServerError::io(path))?;
    let text = String::from_utf8(bytes).map_err(|_| at(ConfigProblem::Text))?;
    if size as u64 > limits::CONFIG_BYTES_MAX { Err(at(ConfigProblem::Text)) } else { Ok(text) }
}

impl Config {
    /// What the file says, and over it what `sources` do.
    pub fn load(path: &Path, sources: &Sources) -> Result<Self, ServerError> {
        let draft = Draft::load(path, sources)?;
        let config = draft.finish().map_err(|problems| ServerError::Config {
            path: path.display().to_string(),
            problems,
        })?;
        Ok(Self { source: Some((path.to_path_buf(), sources.clone())), ..config })
    }

    /// The file alone; `base` is what relative paths start from.
    pub fn parse(text: &str, base: &Path) -> Result<Self, ConfigProblems> {
        Draft::read(text, base, &Sources::default()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::{ClassSet, TenantScope};
    use crate::class::Classification;

    const GOOD: &str = r#"
listen = "127.0.0.1:7443"
data = "data"
kek.file = "kek"
[store]
engine = "redb"
[tls]
cert = "pki/server.pem"
key = "/etc/server.key"
client_ca = "pki/ca.pem"
trust_domain = "lethe.dev"
[[identity]]
uri = "spiffe://lethe.dev/application"
role = "application"
tenants = ["shop"]
clear = ["PUBLIC", "GENERAL"]
[[identity]]
uri = "spiffe://lethe.dev/auditor"
role = "auditor"
tenants = ["*"]
"#;

    fn parse(text: &str) -> Result<Config, ConfigProblems> {
        Config::parse(text, Path::new("/conf"))
    }

    fn with(environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Config, String> {
        let sources = Sources {
            environment: environment.iter().map(|(k, v)| (k.into(), v.into())).collect(),
            flags: flags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        };
        Draft::read(GOOD, Path::new("/conf"), &sources).finish().map_err(|p| p.to_string())
    }

    fn problem(from: &str, to: &str) -> ConfigProblems {
        assert!(GOOD.contains(from), "{from}");
        parse(&GOOD.replacen(from, to, 1)).err().unwrap()
    }

    #[test]
    fn what_is_left_out_has_the_default_and_paths_start_at_the_file() {
        let config = parse(GOOD).unwrap();
        assert_eq!(config.data, Path::new("/conf/data"));
        assert_eq!(config.anchor, Path::new("/conf/data/anchor"));
        assert_eq!(config.anchor_require, AnchorRequire::E1);
        assert_eq!(config.engine, EngineKind::Redb);
        assert_eq!(config.kek, KekSource::File("/conf/kek".into()));
        assert_eq!(config.tls.key, Path::new("/etc/server.key"));
        assert_eq!(config.limits, DoorLimits::default());
        let [app, auditor] = config.bindings.try_into().unwrap();
        assert!(app.tenants.contains("shop") && !app.tenants.contains("other"));
        assert!(!app.clear.contains(Classification::Sensitive));
        assert!(app.clear.contains(Classification::General));
        assert_eq!((auditor.tenants, auditor.clear), (TenantScope::All, ClassSet::NONE));
    }

    #[test]
    fn every_error_names_its_key_and_no_value() {
        let cases = [
            (
                "listen = \"127.0.0.1:7443\"",
                "listen = \"SECRET\"",
                "line 2, `listen`: expected an address",
            ),
            ("listen = \"127.0.0.1:7443\"", "listen = 5", "line 2, `listen`: "),
            ("data = \"data\"\n", "", "missing key `data`"),
            ("data = ", "dada = ", "line 3, `dada`: unknown key; nearest: data"),
            ("data = ", "data = \"SECRET", "line 3, `data`: "),
            (
                "engine = \"redb\"",
                "engine = \"SECRET\"",
                "line 6, `store.engine`: expected one of redb, ",
            ),
            ("kek.file = \"kek\"", "kek.key = \"SECRET\"", "line 4, `kek.key`: unknown key"),
            ("kek.file = \"kek\"", "kek = {}", "kek: give either"),
            (
                "kek.file = \"kek\"",
                "kek.file = \"SECRET\"\nkek.credential = \"x\"",
                "kek: give either",
            ),
            ("kek.file = \"kek\"", "kek.credential = \"../SECRET\"", "kek.credential: "),
            ("trust_domain = \"lethe.dev\"", "trust_domain = \"SE CRET\"", "tls.trust_domain: "),
            ("spiffe://lethe.dev/application", "SECRET", "identity 0 (counted from 0), uri: "),
            (
                "spiffe://lethe.dev/auditor",
                "spiffe://other/SECRET",
                "identity 1 (counted from 0), ",
            ),
            ("[\"*\"]", "[\"SE CRET\"]", "identity 1 (counted from 0): tenants[0]"),
            ("[\"*\"]", "[]", "identity 1 (counted from 0): tenants is empty"),
            ("[\"*\"]", "[5]", "line 20, `tenants`: expected names"),
            (
                "role = \"auditor\"",
                "role = \"SECRET\"",
                "line 19, `role`: expected one of application, ",
            ),
            ("role = \"auditor\"", "rule = \"SECRET\"", "line 19, `rule`: unknown key"),
            ("role = \"auditor\"", "", "line 17, `identity`: missing key `role`"),
            ("\"GENERAL\"]", "\"SECRET\"]", "line 16, `clear`: expected some of PUBLIC, "),
            (
                "[store]",
                "[limits]\nconnections = 0\n[store]",
                "`limits.connections`: expected a whole number from 1 to 1024",
            ),
            (
                "[store]",
                "[limits]\ndeadline_secs = 61\n[store]",
                "line 6, `limits.deadline_secs`: expected ",
            ),
            (
                "[store]",
                "[limits]\ndeadline_secs = \"SECRET\"\n[store]",
                "`limits.deadline_secs`: expected a whole",
            ),
            (
                "[store]",
                "[limits]\ncalls_burst = 1000001\n[store]",
                "`limits.calls_burst`: expected ",
            ),
            (
                "[store]",
                "[limits]\nconnection_age_secs = 0\n[store]",
                "`limits.connection_age_secs`: ",
            ),
            (
                "[store]",
                "[log]\nlevel = \"trace\"\n[store]",
                "`log.level`: expected one of error, ",
            ),
            ("[store]", "[stroe]", "line 5, `stroe`: unknown key"),
            ("[store]", "[\"the SECRET\"]", "line 5: unknown key"),
        ];
        for (from, to, expected) in cases {
            let text = problem(from, to).to_string();
            assert!(text.contains(expected), "{to}: {text}");
            assert!(!text.contains("SECRET"), "{to}: {text}");
        }
        let none = GOOD.split("[[identity]]").next().unwrap();
        assert_eq!(parse(none).err(), Some(ConfigProblem::NoIdentity.into()));
    }

    #[test]
    fn all_that_is_wrong_is_told_in_one_go() {
        let bad = GOOD.replace("listen = ", "listne = ").replace("role = \"auditor\"", "role = 5");
        let bad = bad.replace("engine = ", "size = 3\nengine = 5\nother = ");
        let told = parse(&bad).unwrap_err().0;
        let mut keys: Vec<_> = told.iter().map(ConfigProblem::key).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["listen", "listne", "role", "store.engine", "store.other", "store.size"]);
        // A text that is no TOML is told as that alone.
        assert_eq!(parse("no toml").unwrap_err().0.len(), 1);
    }

    #[test]
    fn flags_count_over_the_environment_and_that_over_the_file() {
        let env = [("LETHE_LISTEN", "127.0.0.1:1"), ("LETHE_LIMITS_DEADLINE_SECS", "7")];
        let config = with(&env, &[]).unwrap();
        assert_eq!((config.listen.port(), config.limits.deadline.as_secs()), (1, 7));
        let config = with(&env, &[("listen", "127.0.0.1:2"), ("data", "here")]).unwrap();
        assert_eq!((config.listen.port(), config.limits.deadline.as_secs()), (2, 7));
        assert_eq!(config.data, Path::new("here"), "not of the file's folder");
        assert_eq!(config.anchor, Path::new("here/anchor"));
        // The nearer source displaces the other form of the same thing.
        let config = with(&[("LETHE_KEK_CREDENTIAL", "name")], &[]).unwrap();
        assert_eq!(config.kek, KekSource::Credential("name".into()));
        let config = with(&[("LETHE_KEK_CREDENTIAL", "x")], &[("kek.file", "/k")]).unwrap();
        assert_eq!(config.kek, KekSource::File("/k".into()));
    }

    #[test]
    fn every_key_has_a_variable_and_a_flag() {
        for key in keys::KEYS {
            let variable = key.variable();
            let odd = with(&[(&variable, "")], &[]).unwrap_err();
            assert!(odd.contains(&format!("environment, `{}`: expected", key.name)), "{odd}");
            let odd = with(&[], &[(key.name, "")]).unwrap_err();
            assert!(odd.contains(&format!("flag, `{}`: expected", key.name)), "{odd}");
        }
    }

    #[test]
    fn a_variable_that_looks_like_a_key_is_refused_with_the_nearest_names() {
        for (name, near) in [
            ("LETHE_LIMITS_CONECTIONS", "nearest: limits.connections"),
            ("LETHE_LISTN", "nearest: listen"),
            ("LETHE_TLS_SECRETS", "`tls.secrets`: unknown key"),
            ("LETHE_IDENTITY_0_URI", "unknown key"),
        ] {
            let told = with(&[(name, "SECRET")], &[]).unwrap_err();
            assert!(told.starts_with("environment") && told.contains(near), "{told}");
            assert!(!told.contains("SECRET"), "{told}");
        }
        let told = with(&[], &[("limits.conections", "SECRET")]).unwrap_err();
        assert!(told.contains("nearest: limits.connections") && !told.contains("SECRET"), "{told}");
        // Those of other programs, of Kubernetes for a service `lethe`, and of nobody.
        for name in [
            "LETHE_CONFIG",
            "LETHE_SCALE",
            "LETHE_PORT_7443_TCP_ADDR",
            "LETHE_SERVICE_HOST",
            "PATH",
        ] {
            assert!(with(&[(name, "x")], &[]).is_ok(), "{name}");
        }
    }

    #[test]
    fn every_choice_that_is_offered_means_something_of_its_own() {
        let mut seen = std::collections::BTreeSet::new();
        for key in keys::KEYS {
            let keys::Kind::Choice(all) = key.kind else { continue };
            for word in all {
                let config = with(&[], &[(key.name, word)]).unwrap();
                let made = format!(
                    "{:?} {:?} {:?} {:?}",
                    config.engine, config.anchor_require, config.log, config.audit_reads
                );
                assert!(seen.insert((key.name, made)), "{} {word}", key.name);
            }
        }
    }

    #[test]
    fn the_audit_log_s_retention_is_a_duration_of_thirty_days_or_more() {
        assert_eq!(with(&[], &[]).unwrap().audit_retain, None, "for ever");
        for good in ["P30D", "P5W", "P2M", "P2Y", "P1Y6M"] {
            let config = with(&[("LETHE_AUDIT_RETAIN", good)], &[]).unwrap();
            assert_eq!(config.audit_retain.unwrap().to_string(), good);
        }
        for (bad, why) in [
            ("P29D", "audit.retain: is less than 30 days"),
            ("P4W", "audit.retain: is less than 30 days"),
            // February.
            ("P1M", "audit.retain: is less than 30 days"),
            ("P0D", "audit.retain: is no time at all"),
            ("P101Y", "audit.retain: is over 100 years"),
            ("SECRET", "audit.retain: is not an ISO 8601 duration"),
            ("PT720H", "audit.retain: is not an ISO 8601 duration"),
        ] {
            let told = with(&[], &[("audit.retain", bad)]).unwrap_err();
            assert!(told.contains(why) && !told.contains("SECRET"), "{bad}: {told}");
        }
    }

    #[test]
    fn a_credential_is_a_file_of_the_service_managers_directory() {
        let config = parse(&GOOD.replacen("kek.file", "kek.credential", 1)).unwrap();
        let path = config.kek.path(Some(OsStr::new("/run/credentials/lethed")));
        assert_eq!(path, Ok("/run/credentials/lethed/kek".into()));
        assert_eq!(config.kek.path(None), Err(ConfigProblem::NoCredentials));
    }
}

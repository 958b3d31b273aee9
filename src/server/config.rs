//! The configuration file: TOML, one way to say each thing, nothing unknown.
//!
//! Guarantees: a [`Config`] is complete and checked; its paths are relative to the file's directory; an error names the
//! key and never the value.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::{DoorLimits, ServerError};
use crate::authz::{Binding, BindingError, Principal, PrincipalError, TenantScope, TrustDomain};
use crate::class::{Classification, Role};
use crate::limits;
use crate::toml_fault::TomlFault;

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
    /// The file of the policy. Without it the roles are in force that come with the vault.
    pub policy: Option<PathBuf>,
    pub bindings: Vec<Binding>,
    pub limits: DoorLimits,
    /// The file that it was loaded from.
    pub source: Option<PathBuf>,
}

/// What is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigProblem {
    #[error("the file is larger than {} bytes or not UTF-8", limits::CONFIG_BYTES_MAX)]
    Text,
    #[error(transparent)]
    Syntax(#[from] TomlFault),
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
    #[error("{key}: must be 1 to {max}")]
    Range { key: &'static str, max: u64 },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    listen: SocketAddr,
    data: PathBuf,
    #[serde(default)]
    store: StoreText,
    kek: KekText,
    #[serde(default)]
    anchor: AnchorText,
    tls: TlsText,
    #[serde(default)]
    limits: LimitsText,
    #[serde(default)]
    policy: PolicyText,
    #[serde(default)]
    identity: Vec<IdentityText>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct PolicyText {
    file: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct StoreText {
    engine: EngineKind,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KekText {
    file: Option<PathBuf>,
    credential: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct AnchorText {
    path: Option<PathBuf>,
    require: AnchorRequire,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TlsText {
    cert: PathBuf,
    key: PathBuf,
    client_ca: PathBuf,
    crl: Option<PathBuf>,
    trust_domain: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct LimitsText {
    connections: Option<u64>,
    identity_connections: Option<u64>,
    connection_age_secs: Option<u64>,
    calls_per_second: Option<u64>,
    calls_burst: Option<u64>,
    handshake_secs: Option<u64>,
    deadline_secs: Option<u64>,
    shutdown_secs: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityText {
    uri: String,
    role: Role,
    tenants: Vec<String>,
    clear: Option<Vec<Classification>>,
}

impl Config {
    pub fn load(path: &Path) -> Result<Self, ServerError> {
        let at = |problem| ServerError::Config { path: path.display().to_string(), problem };
        let file = File::open(path).map_err(ServerError::io(path))?;
        let mut bytes = Vec::new();
        let read = file.take(limits::CONFIG_BYTES_MAX + 1).read_to_end(&mut bytes);
        let size = read.map_err(ServerError::io(path))?;
        let text = String::from_utf8(bytes).map_err(|_| at(ConfigProblem::Text))?;
        if size as u64 > limits::CONFIG_BYTES_MAX {
            return Err(at(ConfigProblem::Text));
        }
        let config = Self::parse(&text, path.parent().unwrap_or(Path::new(""))).map_err(at)?;
        Ok(Self { source: Some(path.to_path_buf()), ..config })
    }

    /// `base` is what relative paths start from.
    pub fn parse(text: &str, base: &Path) -> Result<Self, ConfigProblem> {
        let parsed: Text = toml::from_str(text).map_err(|e| TomlFault::new(text, &e))?;
        let Text { listen, data, store, kek, anchor, tls, limits, policy, identity } = parsed;
        let data = base.join(data);
        let tls = TlsFiles {
            cert: base.join(tls.cert),
            key: base.join(tls.key),
            client_ca: base.join(tls.client_ca),
            crl: tls.crl.map(|path| base.join(path)),
            trust_domain: TrustDomain::parse(&tls.trust_domain)
                .map_err(ConfigProblem::TrustDomain)?,
        };
        let bindings = identity.into_iter().enumerate();
        let bindings: Vec<_> =
            bindings.map(|(at, i)| i.check(at, &tls.trust_domain)).collect::<Result<_, _>>()?;
        if bindings.is_empty() {
            return Err(ConfigProblem::NoIdentity);
        }
        Ok(Self {
            listen,
            engine: store.engine,
            kek: kek.check(base)?,
            anchor: anchor.path.map_or_else(|| data.join("anchor"), |path| base.join(path)),
            anchor_require: anchor.require,
            data,
            tls,
            policy: policy.file.map(|path| base.join(path)),
            bindings,
            limits: limits.check()?,
            source: None,
        })
    }
}

impl KekText {
    fn check(self, base: &Path) -> Result<KekSource, ConfigProblem> {
        match (self.file, self.credential) {
            (Some(file), None) => Ok(KekSource::File(base.join(file))),
            (None, Some(name)) => {
                if Path::new(&name).file_name() == Some(OsStr::new(&name)) {
                    Ok(KekSource::Credential(name))
                } else {
                    Err(ConfigProblem::CredentialName)
                }
            }
            _ => Err(ConfigProblem::Kek),
        }
    }
}

impl IdentityText {
    fn check(self, at: usize, domain: &TrustDomain) -> Result<Binding, ConfigProblem> {
        let principal = Principal::parse(&self.uri)
            .map_err(|problem| ConfigProblem::IdentityUri { at, problem })?;
        if !principal.is_of(domain) {
            return Err(ConfigProblem::IdentityDomain { at });
        }
        Ok(Binding {
            principal,
            role: self.role,
            tenants: TenantScope::parse(&self.tenants)
                .map_err(|problem| ConfigProblem::Identity { at, problem })?,
            clear: match self.clear {
                Some(classes) => classes.into_iter().collect(),
                None => Binding::default_clear(self.role),
            },
        })
    }
}

impl LimitsText {
    fn check(self) -> Result<DoorLimits, ConfigProblem> {
        let within = |key, value: Option<u64>, default: u64, max: u64| match value {
            None => Ok(default),
            Some(n) if (1..=max).contains(&n) => Ok(n),
            Some(_) => Err(ConfigProblem::Range { key, max }),
        };
        let secs = |key, value, default: Duration, max: Duration| {
            within(key, value, default.as_secs(), max.as_secs()).map(Duration::from_secs)
        };
        let count = |key, value, default: usize| {
            // What is within the range is a usize.
            within(key, value, default as u64, limits::CONNECTIONS_MAX as u64)
                .map(|n| usize::try_from(n).unwrap_or(default))
        };
        let calls = |key, value, default: u32| {
            // What is within the range is a u32.
            within(key, value, default.into(), limits::CALLS_MAX.into())
                .map(|n| u32::try_from(n).unwrap_or(default))
        };
        let d = DoorLimits::default();
        Ok(DoorLimits {
            connections: count("limits.connections", self.connections, d.connections)?,
            identity_connections: count(
                "limits.identity_connections",
                self.identity_connections,
                d.identity_connections,
            )?,
            age: secs(
                "limits.connection_age_secs",
                self.connection_age_secs,
                d.age,
                limits::CONNECTION_AGE_MAX,
            )?,
            calls_per_second: calls(
                "limits.calls_per_second",
                self.calls_per_second,
                d.calls_per_second,
            )?,
            calls_burst: calls("limits.calls_burst", self.calls_burst, d.calls_burst)?,
            handshake: secs(
                "limits.handshake_secs",
                self.handshake_secs,
                d.handshake,
                limits::HANDSHAKE_MAX,
            )?,
            deadline: secs(
                "limits.deadline_secs",
                self.deadline_secs,
                d.deadline,
                limits::DEADLINE_MAX,
            )?,
            shutdown: secs(
                "limits.shutdown_secs",
                self.shutdown_secs,
                d.shutdown,
                limits::SHUTDOWN_MAX,
            )?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::ClassSet;

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

    fn parse(text: &str) -> Result<Config, ConfigProblem> {
        Config::parse(text, Path::new("/conf"))
    }

    fn problem(from: &str, to: &str) -> ConfigProblem {
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
            ("listen = \"127.0.0.1:7443\"", "listen = \"SECRET\"", "line 2, `listen`: "),
            ("listen = \"127.0.0.1:7443\"", "listen = 5", "line 2, `listen`: "),
            ("data = \"data\"\n", "", "missing field `data`"),
            ("data = ", "dada = ", "line 3, `dada`: unknown field `dada`"),
            ("engine = \"redb\"", "engine = \"SECRET\"", "line 6, `engine`: "),
            ("kek.file = \"kek\"", "kek.key = \"SECRET\"", "unknown field `key`"),
            ("kek.file = \"kek\"", "kek = {}", "kek: give either"),
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
            ("role = \"auditor\"", "role = \"SECRET\"", "line 19, `role`: "),
            ("\"GENERAL\"]", "\"SECRET\"]", "line 16, `clear`: "),
            ("[store]", "[limits]\nconnections = 0\n[store]", "limits.connections: must be 1 to "),
            ("[store]", "[limits]\ndeadline_secs = 61\n[store]", "limits.deadline_secs: must be "),
            (
                "[store]",
                "[limits]\ndeadline_secs = \"SECRET\"\n[store]",
                "line 6, `deadline_secs`: expected u64",
            ),
            ("[store]", "[limits]\ncalls_burst = 1000001\n[store]", "limits.calls_burst: must be "),
            (
                "[store]",
                "[limits]\nconnection_age_secs = 0\n[store]",
                "limits.connection_age_secs: ",
            ),
            ("[store]", "[stroe]", "unknown field `stroe`"),
        ];
        for (from, to, expected) in cases {
            let text = problem(from, to).to_string();
            assert!(text.contains(expected), "{to}: {text}");
            assert!(!text.contains("SECRET"), "{to}: {text}");
        }
        let none = GOOD.split("[[identity]]").next().unwrap();
        assert_eq!(parse(none).err(), Some(ConfigProblem::NoIdentity));
    }

    #[test]
    fn a_credential_is_a_file_of_the_service_managers_directory() {
        let config = parse(&GOOD.replacen("kek.file", "kek.credential", 1)).unwrap();
        let path = config.kek.path(Some(OsStr::new("/run/credentials/lethed")));
        assert_eq!(path, Ok("/run/credentials/lethed/kek".into()));
        assert_eq!(config.kek.path(None), Err(ConfigProblem::NoCredentials));
    }
}

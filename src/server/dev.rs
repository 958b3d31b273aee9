//! `lethed dev`: a directory with all that a vault on one's own machine needs.
//!
//! Guarantees: a directory is either made whole or reused whole; one that is neither is refused and left as it is;
//! nothing in it is ever overwritten. Only loopback addresses are listened on, since every key lies beside the data.

use std::fmt::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use super::{Config, ServerError, Sources};
use crate::authz::TrustDomain;
use crate::class::Role;
use crate::clock::UnixMillis;
use crate::pki::{Folder, Purpose, create_dir_private, write_new};

/// Where a new development vault listens.
pub const DEV_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7443);

const TRUST_DOMAIN: &str = "dev.lethe";
/// Certificates and the revocation list are good for so long.
const DAYS: u32 = 365;
const LEAF_LIFE: Duration = Duration::from_secs(DAYS as u64 * 24 * 3600);
const CONFIG: &str = "lethed.toml";
const CLIENTS: [(Role, &str); 4] = [
    (Role::Application, "application"),
    (Role::Operator, "operator"),
    (Role::PrivacyOfficer, "privacy-officer"),
    (Role::Auditor, "auditor"),
];
/// A directory that has them all is complete; [`CONFIG`] is written last.
const FILES: [&str; 21] = [
    "pki/ca.pem",
    "pki/ca.key",
    "pki/server.pem",
    "pki/server.key",
    "pki/application.pem",
    "pki/application.key",
    "pki/operator.pem",
    "pki/operator.key",
    "pki/privacy-officer.pem",
    "pki/privacy-officer.key",
    "pki/auditor.pem",
    "pki/auditor.key",
    "kek",
    "client-application.toml",
    "client-operator.toml",
    "client-privacy-officer.toml",
    "client-auditor.toml",
    "sample/schema.toml",
    "sample/customers.csv",
    "sample/mapping.toml",
    CONFIG,
];

/// Customers of a shop that never was, so that the banner's commands have something to work on.
const SAMPLE: [(&str, &str); 3] = [
    ("schema.toml", include_str!("../../examples/chinook-customer.schema.toml")),
    ("customers.csv", include_str!("../../examples/chinook-customers.csv")),
    ("mapping.toml", include_str!("../../examples/chinook-customers.mapping.toml")),
];

/// Why a development directory is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DevProblem {
    #[error("not empty, but {missing} is missing: remove the directory or name another")]
    HalfMade { missing: &'static str },
    #[error("a development vault listens on a loopback address only")]
    NotLoopback,
    #[error("was made to listen on {made_for}: leave --listen out, or name another directory")]
    Listen { made_for: SocketAddr },
    #[error("no random bytes: {0}")]
    Random(std::io::ErrorKind),
}

/// A complete development directory.
#[derive(Debug)]
pub struct DevDir {
    pub path: PathBuf,
    pub config: Config,
    /// Whether it was made just now.
    pub fresh: bool,
}

impl DevDir {
    /// Makes `path` if it is absent or empty, else reuses it. Port 0 in `listen` takes a free port, for good.
    pub fn prepare(
        path: &Path,
        listen: Option<SocketAddr>,
        now: UnixMillis,
    ) -> Result<Self, ServerError> {
        let refuse = |problem| ServerError::Dev { dir: path.display().to_string(), problem };
        if listen.is_some_and(|addr| !addr.ip().is_loopback()) {
            return Err(refuse(DevProblem::NotLoopback));
        }
        let fresh = is_absent_or_empty(path)?;
        if fresh {
            make(path, listen.unwrap_or(DEV_LISTEN), now)?;
        } else if let Some(missing) = FILES.into_iter().find(|file| !path.join(file).is_file()) {
            return Err(refuse(DevProblem::HalfMade { missing }));
        }
        let config = Config::load(&path.join(CONFIG), &Sources::default())?;
        if !config.listen.ip().is_loopback() {
            return Err(refuse(DevProblem::NotLoopback));
        }
        match listen {
            Some(addr) if !fresh && addr != config.listen && addr.port() != 0 => {
                Err(refuse(DevProblem::Listen { made_for: config.listen }))
            }
            _ => Ok(Self { path: path.to_path_buf(), config, fresh }),
        }
    }

    /// What a person sees who starts it.
    pub fn banner(&self) -> String {
        let dir = quoted(&self.path);
        let state = if self.fresh { "made" } else { "reused" };
        let mut text = format!(
            "\
Lethe development vault, {listen}
directory {dir} ({state})

NOT FOR PRODUCTION: the key-encryption key, the certificate authority's key and every caller's key
lie beside the data, one directory for all. Who copies it has the records. Certificates are good
for a year from when the directory was made; to start over, stop the vault and remove it.

In another terminal:
",
            listen = self.config.listen
        );
        let sample = |name: &str| quoted(&self.path.join("sample").join(name));
        let (schema, data, mapping) =
            (sample("schema.toml"), sample("customers.csv"), sample("mapping.toml"));
        let program = program();
        for (role, command) in [
            ("operator", format!("schema apply {schema} --tenant demo --create-tenant")),
            ("application", format!("record import {data} --mapping {mapping} --tenant demo")),
            ("application", "record list --tenant demo --limit 5".into()),
            ("operator", "status".into()),
            ("privacy-officer", "retention preview --tenant demo --at 2035-12-31".into()),
        ] {
            let client = quoted(&self.path.join(format!("client-{role}.toml")));
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {program} --config {client} {command}");
        }
        text.push_str("\nThe list names records; with one of those names:\n");
        let client = quoted(&self.path.join("client-application.toml"));
        for command in ["record get NAME", "record update NAME", "record erase NAME"] {
            let _ = writeln!(text, "  {program} --config {client} {command}");
        }
        text
    }
}

/// How lethectl is called: the one beside this program, if it was built too.
fn program() -> String {
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name("lethectl"));
    match beside.filter(|path| path.is_file()) {
        Some(path) => quoted(&path),
        None => "cargo run --release --bin lethectl --".to_owned(),
    }
}

fn is_absent_or_empty(path: &Path) -> Result<bool, ServerError> {
    match std::fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(ServerError::io(path)(error)),
    }
}

fn make(path: &Path, listen: SocketAddr, now: UnixMillis) -> Result<(), ServerError> {
    let refuse = |problem| ServerError::Dev { dir: path.display().to_string(), problem };
    let listen = with_port(listen)?;
    if !path.exists() {
        create_dir_private(path)?;
    }
    let pki = path.join("pki");
    create_dir_private(&path.join("data"))?;

    // Both are constants of the right form: the error cannot occur, and is not hidden if it does.
    let domain = TrustDomain::parse(TRUST_DOMAIN)
        .map_err(|e| config_problem(path, super::ConfigProblem::TrustDomain(e)))?;
    let principal = |name: &str| {
        domain
            .principal(name)
            .map_err(|e| config_problem(path, super::ConfigProblem::TrustDomain(e)))
    };
    let mut folder = Folder::init(&pki, &domain, DAYS, now, false)?;
    let ips = vec![[127, 0, 0, 1].into(), std::net::Ipv6Addr::LOCALHOST.into(), listen.ip()];
    let server = Purpose::Server { dns: vec!["localhost".into()], ips };
    folder.issue("server", &principal("lethed")?, &server, (now, LEAF_LIFE), false)?;

    let mut kek = Zeroizing::new([0_u8; 32]);
    rustix::rand::getrandom(&mut kek[..], rustix::rand::GetRandomFlags::empty())
        .map_err(|errno| refuse(DevProblem::Random(std::io::Error::from(errno).kind())))?;
    write_new(&path.join("kek"), hex_line(&kek).as_bytes(), 0o600)?;

    let sample = path.join("sample");
    create_dir_private(&sample)?;
    for (name, text) in SAMPLE {
        write_new(&sample.join(name), text.as_bytes(), 0o600)?;
    }

    let mut config = daemon_config(listen);
    for (role, name) in CLIENTS {
        let principal = principal(name)?;
        folder.issue(name, &principal, &Purpose::Client, (now, LEAF_LIFE), false)?;
        let client = client_config(listen, name);
        write_new(&path.join(format!("client-{name}.toml")), client.as_bytes(), 0o600)?;
        config += &identity_config(principal.as_str(), role, name);
    }
    write_new(&path.join(CONFIG), config.as_bytes(), 0o600)?;
    Ok(())
}

fn config_problem(path: &Path, problem: super::ConfigProblem) -> ServerError {
    ServerError::Config { path: path.join(CONFIG).display().to_string(), problems: problem.into() }
}

/// The address with a free port in the place of port 0, so that the files name the one that callers use. A port that is
/// taken is noticed before anything is made for it.
fn with_port(listen: SocketAddr) -> Result<SocketAddr, ServerError> {
    let bound = TcpListener::bind(listen).and_then(|socket| socket.local_addr());
    bound.map_err(|source| ServerError::Listen { addr: listen, source })
}

/// The form of docs/FORMAT.md §1, built in place.
fn hex_line(key: &[u8; 32]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(65));
    for byte in key {
        for nibble in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(nibble.into(), 16));
        }
    }
    text.push('\n');
    text
}

fn daemon_config(listen: SocketAddr) -> String {
    format!(
        r#"# Made by `lethed dev`. Paths are relative to this file.
listen = "{listen}"
data = "data"

[store]
engine = "redb"

[kek]
file = "kek"

# On a machine of one's own, start on any medium; receipts say which level was reached.
[anchor]
require = "any"

[tls]
cert = "pki/server.pem"
key = "pki/server.key"
client_ca = "pki/ca.pem"
crl = "pki/crl.pem"
trust_domain = "{TRUST_DOMAIN}"
"#
    )
}

fn identity_config(uri: &str, role: Role, name: &str) -> String {
    let clear = match role {
        Role::Application => "\nclear = [\"PUBLIC\", \"GENERAL\", \"SENSITIVE\"]",
        _ => "",
    };
    format!("\n[[identity]]\nuri = \"{uri}\"\nrole = \"{name}\"\ntenants = [\"*\"]{clear}\n")
}

fn client_config(listen: SocketAddr, name: &str) -> String {
    format!(
        "# For `lethectl --config`. Paths are relative to this file.\n\
         endpoint = \"https://{listen}\"\n\
         ca = \"pki/ca.pem\"\n\
         cert = \"pki/{name}.pem\"\n\
         key = \"pki/{name}.key\"\n"
    )
}

/// As a POSIX shell takes it for one word.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_750_000_000_000);
    const ANY: SocketAddr = SocketAddr::new(DEV_LISTEN.ip(), 0);

    fn problem(outcome: Result<DevDir, ServerError>) -> DevProblem {
        match outcome.err().unwrap() {
            ServerError::Dev { problem, .. } => problem,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_directory_is_made_once_and_reused_as_it_is() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("lethe-dev");
        let made = DevDir::prepare(&path, Some(ANY), NOW).unwrap();
        assert!(made.fresh && made.config.listen.port() != 0);
        assert_eq!(made.config.bindings.len(), 4);
        let all = |path: &Path| FILES.map(|file| std::fs::read(path.join(file)).unwrap());
        let before = all(&path);
        for secret in FILES.iter().filter(|f| f.ends_with(".key") || **f == "kek") {
            let mode = std::fs::metadata(path.join(secret)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{secret}");
        }
        for dir in ["", "pki", "data"] {
            let mode = std::fs::metadata(path.join(dir)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{dir}");
        }
        let kek = std::fs::read_to_string(path.join("kek")).unwrap();
        assert_eq!((kek.len(), kek.ends_with('\n')), (65, true));
        assert!(kek.trim_end().bytes().all(|b| b"0123456789abcdef".contains(&b)));
        assert_ne!(&kek[..2].repeat(32), kek.trim_end());

        let again = DevDir::prepare(&path, None, UnixMillis(NOW.0 + 1)).unwrap();
        assert!(!again.fresh);
        assert_eq!(again.config.listen, made.config.listen);
        assert!(all(&path) == before);
        for text in [made.banner(), again.banner()] {
            assert!(text.contains("NOT FOR PRODUCTION") && !text.contains(kek.trim_end()));
            let named =
                text.split_whitespace().filter(|word| word.starts_with(path.to_str().unwrap()));
            let files: Vec<&str> = named.collect();
            assert!(files.len() > 8 && files.iter().all(|file| Path::new(file).exists()), "{text}");
        }
    }

    #[test]
    fn what_is_not_whole_is_refused_and_left_alone() {
        for missing in FILES {
            let tmp = tempfile::tempdir().unwrap();
            DevDir::prepare(tmp.path(), Some(ANY), NOW).unwrap();
            std::fs::remove_file(tmp.path().join(missing)).unwrap();
            let outcome = DevDir::prepare(tmp.path(), None, NOW);
            assert_eq!(problem(outcome), DevProblem::HalfMade { missing });
            assert!(!tmp.path().join(missing).exists());
        }
    }

    #[test]
    fn it_listens_on_loopback_and_where_it_was_made_to() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("lethe-dev");
        for open in ["0.0.0.0:0", "192.0.2.1:7443", "[::]:7443"] {
            let outcome = DevDir::prepare(&path, Some(open.parse().unwrap()), NOW);
            assert_eq!(problem(outcome), DevProblem::NotLoopback);
        }
        assert!(!path.exists());
        let taken = TcpListener::bind(ANY).unwrap();
        let outcome = DevDir::prepare(&path, Some(taken.local_addr().unwrap()), NOW);
        assert!(matches!(outcome, Err(ServerError::Listen { .. })));
        assert!(!path.exists(), "nothing is made for a port that is taken");
        let made_for = DevDir::prepare(&path, Some(ANY), NOW).unwrap().config.listen;
        assert!(DevDir::prepare(&path, Some(made_for), NOW).is_ok());
        let other = SocketAddr::new(made_for.ip(), made_for.port() ^ 1);
        let outcome = DevDir::prepare(&path, Some(other), NOW);
        assert_eq!(problem(outcome), DevProblem::Listen { made_for });

        let config = std::fs::read_to_string(path.join(CONFIG)).unwrap();
        let opened = config.replacen("127.0.0.1", "0.0.0.0", 1);
        std::fs::write(path.join(CONFIG), opened).unwrap();
        assert_eq!(problem(DevDir::prepare(&path, None, NOW)), DevProblem::NotLoopback);
    }

    #[test]
    fn a_path_is_one_word_to_a_shell() {
        assert_eq!(quoted(Path::new("./lethe-dev")), "./lethe-dev");
        assert_eq!(quoted(Path::new("a b'c")), r"'a b'\''c'");
    }
}

//! `lethed config validate`: all that can be told of a configuration without opening the vault.
//!
//! Guarantees: everything that is wrong is told in one go, each with its key, the reason and what to do; nothing is
//! written, and no file is shown.

use std::fs::Metadata;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use super::{Draft, KekSource, Sources, TlsFiles};
use crate::authz::{Authority, TrustDomain};
use crate::clock::Clock;
use crate::keys::kek;
use crate::limits;
use crate::server::{ServerError, tls};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub key: String,
    pub reason: String,
    pub advice: String,
}

impl Finding {
    fn new(key: &str, reason: impl ToString, advice: &str) -> Self {
        Self { key: key.to_owned(), reason: reason.to_string(), advice: advice.to_owned() }
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({"key": self.key, "reason": self.reason, "advice": self.advice})
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}; {}", self.key, self.reason, self.advice)
    }
}

/// What is wrong. An error means that the file cannot be read.
pub fn validate(
    path: &Path,
    sources: &Sources,
    clock: Arc<dyn Clock>,
) -> Result<Vec<Finding>, ServerError> {
    Ok(check_draft(&Draft::load(path, sources)?, clock))
}

/// What is wrong with what was read.
pub fn check_draft(draft: &Draft, clock: Arc<dyn Clock>) -> Vec<Finding> {
    let told = draft.problems.iter().map(|p| Finding::new(p.key(), p, p.advice()));
    let mut found: Vec<_> = told.collect();
    if let Err(problem) = Authority::new(draft.bindings.clone()) {
        found.push(Finding::new("identity", problem, "leave one table for each uri"));
    }
    let all = &draft.gathered;
    found.extend(all.address("listen").and_then(address));
    found.extend(all.path("data").and_then(|path| folder("data", &path)));
    found.extend(all.path("anchor.path").and_then(|path| anchor(&path)));
    found.extend(draft.kek.as_ref().and_then(key_file));
    found.extend(all.path("witness.keys").and_then(|path| witnesses(&path)));
    found.extend(all.path("metrics.socket").and_then(|path| socket(&path)));
    let paths = ["tls.cert", "tls.key", "tls.client_ca"].map(|name| all.path(name));
    // Callers' names are not looked at here, so that a wrong trust domain hides nothing of the files.
    let domain = draft.tls.as_ref().map(|tls| tls.trust_domain.clone());
    let domain = domain.or_else(|| TrustDomain::parse("unknown").ok());
    if let ([Some(cert), Some(key), Some(client_ca)], Some(trust_domain)) = (paths, domain) {
        let files = TlsFiles { cert, key, client_ca, crl: all.path("tls.crl"), trust_domain };
        found.extend(tls::problems(&files, clock).into_iter().map(of_tls));
    }
    found
}

/// Binds a free port of the address for a moment: the port itself may be a running daemon's.
fn address(addr: SocketAddr) -> Option<Finding> {
    let error = TcpListener::bind((addr.ip(), 0)).err()?;
    let advice = "give an address of this machine, or 127.0.0.1, 0.0.0.0, [::1], [::]";
    Some(Finding::new("listen", format!("cannot be listened on: {error}"), advice))
}

fn is_ours(meta: &Metadata) -> bool {
    let me = rustix::process::geteuid();
    me.is_root() || meta.uid() == me.as_raw()
}

/// A folder that is there and ours alone, or that can be made.
fn folder(key: &str, path: &Path) -> Option<Finding> {
    let finding = |reason: String, advice| Some(Finding::new(key, reason, advice));
    let shown = path.display();
    match std::fs::metadata(path) {
        Ok(meta) if !meta.is_dir() => finding(format!("{shown} is not a folder"), "name a folder"),
        Ok(meta) if !is_ours(&meta) => {
            finding(format!("{shown} belongs to another user"), "give it to the daemon's user")
        }
        Ok(meta) if meta.mode() & 0o077 != 0 => finding(
            format!("{shown} has mode {:04o}: others get at it", meta.mode() & 0o7777),
            "run `chmod 700` on it",
        ),
        Ok(_) => None,
        // `lethed serve --init` makes it.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let above = path.ancestors().skip(1).find(|above| above.exists())?;
            let fits = above.as_os_str().is_empty() || above.is_dir();
            let reason = format!("{} is not a folder", above.display());
            if fits { None } else { finding(reason, "name a folder") }
        }
        Err(error) => finding(format!("{shown}: {error}"), "let the daemon's user reach it"),
    }
}

fn anchor(path: &Path) -> Option<Finding> {
    let finding = |reason: &str, advice| {
        Some(Finding::new("anchor.path", format!("{}{reason}", path.display()), advice))
    };
    match std::fs::symlink_metadata(path) {
        Ok(meta) if !meta.is_file() => {
            finding(" is not a regular file", "name the file itself, not a link to it")
        }
        Ok(meta) if !is_ours(&meta) => {
            finding(" belongs to another user", "give it to the daemon's user")
        }
        Ok(meta) if meta.mode() & 0o077 != 0 => {
            finding(" can be reached by others", "run `chmod 600` on it")
        }
        Ok(_) => None,
        // `lethed serve --init` makes it.
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => finding(&format!(": {error}"), "let the daemon's user reach it"),
    }
}

fn key_file(kek: &KekSource) -> Option<Finding> {
    let (key, source) = match kek {
        KekSource::File(path) => ("kek.file", Ok(kek::KekSource::File(path.clone()))),
        KekSource::Credential(name) => ("kek.credential", kek::KekSource::credential(name)),
    };
    let problem = source.and_then(|source| source.candidates()).err()?;
    let advice = match &problem {
        kek::KekError::Missing(_) => {
            "put the key file there; for a new vault: 64 hex digits, mode 0600, from a random source"
        }
        _ => "see `Keys` in docs/OPERATING.md for what a key file must be",
    };
    Some(Finding::new(key, problem, advice))
}

fn socket(path: &Path) -> Option<Finding> {
    let finding = |reason: String, advice| Some(Finding::new("metrics.socket", reason, advice));
    if path.as_os_str().len() > limits::SOCKET_PATH_BYTES_MAX {
        let reason = format!("is longer than {} bytes", limits::SOCKET_PATH_BYTES_MAX);
        return finding(reason, "name a shorter path");
    }
    let shown = path.display();
    match std::fs::symlink_metadata(path) {
        Ok(meta) if !meta.file_type().is_socket() => {
            finding(format!("{shown} is there and is no socket"), "name another path")
        }
        Ok(_) => None,
        Err(_) => match path.parent().filter(|above| !above.as_os_str().is_empty()) {
            Some(above) if !above.is_dir() => {
                finding(format!("{} is not a folder", above.display()), "make the folder first")
            }
            _ => None,
        },
    }
}

fn witnesses(path: &Path) -> Option<Finding> {
    let advice = "put a file of keys there, as `lethectl log witness-key` prints them";
    let reason = match crate::server::witnesses::read(path).err()? {
        ServerError::Witnesses { problem, .. } => problem.to_string(),
        other => other.to_string(),
    };
    Some(Finding::new("witness.keys", reason, advice))
}

fn of_tls(error: ServerError) -> Finding {
    match error {
        ServerError::Tls { key, path, problem } => {
            let advice = match &problem {
                tls::TlsProblem::Io(_) => "put the file there, readable for the daemon's user",
                tls::TlsProblem::KeyMode => "run `chmod o-rwx` on it",
                tls::TlsProblem::Expired => "renew it",
                tls::TlsProblem::Crl(_) => "fetch or make a list that is in force",
                _ => "put the right file there; cert and key must be of one pair",
            };
            Finding::new(key, format!("{path}: {problem}"), advice)
        }
        other => Finding::new("tls", other, "correct the files of tls"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::clock::{ManualClock, UnixMillis};
    use crate::server::DevDir;

    const NOW: UnixMillis = UnixMillis(1_750_000_000_000);

    fn keys(path: &Path, now: UnixMillis) -> Vec<String> {
        let found = validate(path, &Sources::default(), Arc::new(ManualClock::at(now))).unwrap();
        for finding in &found {
            assert!(!finding.reason.is_empty() && !finding.advice.is_empty(), "{finding}");
        }
        let mut keys: Vec<_> = found.into_iter().map(|finding| finding.key).collect();
        keys.sort_unstable();
        keys
    }

    #[test]
    fn all_that_is_wrong_is_told_in_one_go_and_nothing_of_what_is_right() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("v");
        DevDir::prepare(&dir, Some("127.0.0.1:0".parse().unwrap()), NOW).unwrap();
        let path = dir.join("lethed.toml");
        assert_eq!(keys(&path, NOW), [] as [&str; 0], "a vault that was never served is sound");

        let mode = |name: &str, mode| {
            std::fs::set_permissions(dir.join(name), PermissionsExt::from_mode(mode)).unwrap();
        };
        let good = std::fs::read_to_string(&path).unwrap();
        mode("kek", 0o644);
        mode("data", 0o755);
        mode("pki/server.key", 0o604);
        std::fs::write(dir.join("data/anchor"), "").unwrap();
        mode("data/anchor", 0o644);
        std::fs::write(dir.join("pki/ca.pem"), "no certificate").unwrap();
        std::fs::write(dir.join("plain"), "").unwrap();
        let bad = good
            .replace("engine = \"redb\"", "engine = \"rebd\"")
            .replace("[tls]", "[witness]\nkeys = \"kek\"\n[metrics]\nsocket = \"plain\"\n[tls]")
            .replace("trust_domain = \"dev.lethe\"", "trust_domain = \"NO\"")
            .replacen("127.0.0.1", "192.0.2.1", 1);
        std::fs::write(&path, bad).unwrap();
        let expected = [
            "anchor.path",
            "data",
            "kek.file",
            "listen",
            "metrics.socket",
            "store.engine",
            "tls.client_ca",
            "tls.key",
            "tls.trust_domain",
            "witness.keys",
        ];
        assert_eq!(keys(&path, NOW), expected);
    }

    #[test]
    fn a_certificate_is_held_against_its_key_and_the_clock() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("v");
        DevDir::prepare(&dir, Some("127.0.0.1:0".parse().unwrap()), NOW).unwrap();
        let path = dir.join("lethed.toml");
        let later = UnixMillis(NOW.0 + 400 * 86_400_000);
        assert_eq!(keys(&path, later), ["tls.cert", "tls.crl"], "both have had their time");
        std::fs::copy(dir.join("pki/operator.key"), dir.join("pki/server.key")).unwrap();
        assert_eq!(keys(&path, NOW), ["tls.cert"]);
        std::fs::remove_file(dir.join("pki/server.key")).unwrap();
        std::fs::remove_file(dir.join("kek")).unwrap();
        assert_eq!(keys(&path, NOW), ["kek.file", "tls.key"]);
        std::fs::remove_dir(dir.join("data")).unwrap();
        assert_eq!(keys(&path, NOW), ["kek.file", "tls.key"], "--init makes the folder");
        std::fs::write(dir.join("data"), "").unwrap();
        assert_eq!(keys(&path, NOW), ["anchor.path", "data", "kek.file", "tls.key"]);
    }
}

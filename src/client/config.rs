//! The client's configuration file: where the vault is and who the client is.
//!
//! Guarantees: unknown keys are refused; relative paths are taken from the file's own folder; a private key that
//! every user can read is refused.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustls::pki_types::ServerName;
use serde::Deserialize;

use super::ClientError;
use crate::toml_fault::TomlFault;

/// Greatest size of a file that a client reads at start.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Others may read: group access is left to the machine's owner, as with mounted secrets.
const MODE_WORLD_READABLE: u32 = 0o004;

const NEXT_SHAPE: &str =
    "it needs endpoint = \"https://host:port\", ca, cert and key, and may have server_name";

/// Where the vault is and who the client is. Paths are absolute or relative to the working directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientConfig {
    /// `https://host:port`
    pub endpoint: String,
    /// PEM file with the certificates that the server's certificate may chain to.
    pub ca: PathBuf,
    /// PEM file with the client's certificate, and intermediates after it.
    pub cert: PathBuf,
    /// PEM file with the client's private key.
    pub key: PathBuf,
    /// The name that the server's certificate must hold; the endpoint's host unless given.
    pub server_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    endpoint: String,
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
    server_name: Option<String>,
}

impl ClientConfig {
    /// Reads the TOML file at `path`.
    pub fn load(path: &Path) -> Result<Self, ClientError> {
        let next = "check the path given by --config or LETHE_CONFIG";
        let bytes = read("client configuration", path, next)?;
        let text = String::from_utf8(bytes).map_err(|_| ClientError::Config {
            path: path.to_owned(),
            cause: "it is not UTF-8 text".into(),
            next: NEXT_SHAPE,
        })?;
        Self::parse(&text, path)
    }

    /// Parses the text of a file that lies at `path`.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ClientError> {
        let invalid =
            |cause: String| ClientError::Config { path: path.to_owned(), cause, next: NEXT_SHAPE };
        let file: File =
            toml::from_str(text).map_err(|e| invalid(TomlFault::new(text, &e).to_string()))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let config = Self {
            endpoint: file.endpoint,
            ca: folder.join(file.ca),
            cert: folder.join(file.cert),
            key: folder.join(file.key),
            server_name: file.server_name,
        };
        config.authority().map_err(|cause| invalid(cause.to_owned()))?;
        config.tls_name().map_err(|cause| invalid(cause.to_owned()))?;
        Ok(config)
    }

    /// `host:port` of the endpoint.
    pub(super) fn authority(&self) -> Result<&str, &'static str> {
        let rest = self
            .endpoint
            .strip_prefix("https://")
            .ok_or("endpoint must start with https://, there is no other way in")?
            .trim_end_matches('/');
        let (host, port) = rest.rsplit_once(':').ok_or("endpoint names no port")?;
        if host.is_empty() || rest.contains('/') || port.parse::<u16>().is_err() {
            return Err("endpoint is not https://host:port");
        }
        Ok(rest)
    }

    /// The name to check the server's certificate against.
    pub(super) fn tls_name(&self) -> Result<ServerName<'static>, &'static str> {
        let name = match &self.server_name {
            Some(name) => name.as_str(),
            None => {
                let host = self.authority()?.rsplit_once(':').map_or("", |(host, _)| host);
                host.trim_start_matches('[').trim_end_matches(']')
            }
        };
        ServerName::try_from(name.to_owned())
            .map_err(|_| "server_name is neither a DNS name nor an IP address")
    }

    /// The bytes of the CA file, the certificate file and the key file.
    pub(super) fn read_ca(&self) -> Result<Vec<u8>, ClientError> {
        read("CA file", &self.ca, "check `ca` in the client configuration")
    }

    pub(super) fn read_cert(&self) -> Result<Vec<u8>, ClientError> {
        read("client certificate", &self.cert, "check `cert` in the client configuration")
    }

    pub(super) fn read_key(&self) -> Result<zeroize::Zeroizing<Vec<u8>>, ClientError> {
        let next = "check `key` in the client configuration and that this user may read it";
        let bytes = zeroize::Zeroizing::new(read("private key", &self.key, next)?);
        let mode = fs::metadata(&self.key).map(|m| m.permissions().mode()).unwrap_or(0);
        if mode & MODE_WORLD_READABLE != 0 {
            return Err(ClientError::KeyExposed { path: self.key.clone() });
        }
        Ok(bytes)
    }
}

fn read(what: &'static str, path: &Path, next: &'static str) -> Result<Vec<u8>, ClientError> {
    let failed = |cause| ClientError::File { what, path: path.to_owned(), cause, next };
    let size = fs::metadata(path).map_err(failed)?.len();
    if size > FILE_BYTES_MAX {
        return Err(failed(std::io::Error::other("it is larger than 1 MiB")));
    }
    fs::read(path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "endpoint = \"https://127.0.0.1:8443\"\nca = \"ca.pem\"\ncert = \"c.pem\"\nkey = \"/k/c.key\"\n";

    fn parse(text: &str) -> Result<ClientConfig, String> {
        ClientConfig::parse(text, Path::new("/etc/lethe/client.toml")).map_err(|e| e.to_string())
    }

    #[test]
    fn relative_paths_start_at_the_file() {
        let config = parse(GOOD).unwrap();
        assert_eq!(config.ca, Path::new("/etc/lethe/ca.pem"));
        assert_eq!(config.key, Path::new("/k/c.key"));
        assert_eq!(config.authority(), Ok("127.0.0.1:8443"));
    }

    #[test]
    fn the_servers_name_is_the_host_unless_given() {
        let named = format!("{GOOD}server_name = \"vault.internal\"");
        assert_eq!(parse(&named).unwrap().tls_name().unwrap().to_str(), "vault.internal");
        assert_eq!(parse(GOOD).unwrap().tls_name().unwrap().to_str(), "127.0.0.1");
        let six = GOOD.replace("127.0.0.1", "[::1]");
        assert_eq!(parse(&six).unwrap().tls_name().unwrap().to_str(), "::1");
    }

    #[test]
    fn each_mistake_is_named_with_what_to_do() {
        for (text, expected) in [
            (GOOD.replace("https", "http"), "must start with https://"),
            (GOOD.replace(":8443", ""), "names no port"),
            (GOOD.replace(":8443", ":84430"), "not https://host:port"),
            (GOOD.replace("ca = ", "cacert = "), "unknown field `cacert`"),
            (GOOD.replace("ca = \"ca.pem\"\n", ""), "missing field `ca`"),
            (format!("{GOOD}server_name = \"a b\""), "server_name is neither"),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(expected), "{error}");
            assert!(error.contains("client.toml") && error.contains("next:"), "{error}");
        }
    }

    #[test]
    fn a_missing_file_and_an_open_key_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let missing = ClientConfig::load(&folder.path().join("no.toml")).unwrap_err().to_string();
        assert!(missing.contains("no.toml") && missing.contains("--config"), "{missing}");

        let mut config = parse(GOOD).unwrap();
        config.key = folder.path().join("c.key");
        fs::write(&config.key, "secret").unwrap();
        fs::set_permissions(&config.key, fs::Permissions::from_mode(0o604)).unwrap();
        assert!(matches!(config.read_key(), Err(ClientError::KeyExposed { .. })));
        fs::set_permissions(&config.key, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(config.read_key().unwrap().as_slice(), b"secret");
    }
}

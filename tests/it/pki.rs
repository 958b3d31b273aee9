//! An authority of one's own, from the command line: a vault that runs with it, a renewal and a revocation meanwhile.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lethe::client::{Client, ClientConfig};
use lethe::proto::admin::{GetStatusRequest, GetStatusResponse};
use rustix::process::{Pid, Signal, kill_process};
use tonic::{Code, Status};

use crate::peer::{Caller, PATIENCE, Verdict, client_config, knock};

struct Story {
    tmp: tempfile::TempDir,
    addr: std::net::SocketAddr,
    lethed: Child,
}

impl Drop for Story {
    fn drop(&mut self) {
        let _ = self.lethed.kill();
        let _ = self.lethed.wait();
    }
}

/// What lethectl prints as JSON, or on standard error.
fn pki(dir: &Path, args: &[&str]) -> Result<serde_json::Value, String> {
    let ran = Command::new(env!("CARGO_BIN_EXE_lethectl"))
        .args(["--output", "json", "pki", args[0], "--dir"])
        .arg(dir)
        .args(&args[1..])
        .output()
        .unwrap();
    if ran.status.success() {
        Ok(serde_json::from_slice(&ran.stdout).unwrap())
    } else {
        assert_eq!(ran.status.code(), Some(1));
        Err(String::from_utf8(ran.stderr).unwrap())
    }
}

fn issue(dir: &Path, name: &str, more: &[&str]) -> String {
    let uri = format!("spiffe://example.org/{name}");
    let args = [&["issue", "--uri", &uri, "--out", name], more].concat();
    pki(dir, &args).unwrap()["serial"].as_str().unwrap().to_owned()
}

impl Story {
    fn begin() -> Self {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("pki");
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = free.local_addr().unwrap();
        pki(&dir, &["init", "--trust-domain", "example.org"]).unwrap();
        issue(&dir, "lethed", &["--server", "--dns", "localhost", "--ip", "127.0.0.1"]);
        let config = format!(
            r#"
            listen = "{addr}"
            data = "data"
            kek.file = "kek"
            anchor.require = "any"
            [tls]
            cert = "pki/lethed.pem"
            key = "pki/lethed.key"
            client_ca = "pki/ca.pem"
            crl = "pki/crl.pem"
            trust_domain = "example.org"
            [[identity]]
            uri = "spiffe://example.org/operator"
            role = "operator"
            tenants = ["*"]
            "#
        );
        std::fs::write(tmp.path().join("lethed.toml"), config).unwrap();
        let kek = tmp.path().join("kek");
        std::fs::write(&kek, "5a".repeat(32) + "\n").unwrap();
        std::fs::set_permissions(&kek, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
        drop(free);
        let lethed = Command::new(env!("CARGO_BIN_EXE_lethed"))
            .args(["serve", "--init", "--config"])
            .arg(tmp.path().join("lethed.toml"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { tmp, addr, lethed }
    }

    fn dir(&self) -> PathBuf {
        self.tmp.path().join("pki")
    }

    /// A connection with the operator's files as they are now.
    async fn connect(&self) -> Result<Client, String> {
        let pki = self.dir();
        let config = ClientConfig {
            endpoint: format!("https://{}", self.addr),
            ca: pki.join("ca.pem"),
            cert: pki.join("operator.pem"),
            key: pki.join("operator.key"),
            server_name: None,
        };
        Client::connect(&config, Duration::from_secs(10)).await.map_err(|e| e.to_string())
    }

    /// How the vault answers who comes anew with these bytes of a certificate and a key, and what it shows.
    async fn knock(&self, files: &[Vec<u8>; 2]) -> (Verdict, Option<Vec<u8>>) {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let now = now.as_secs().try_into().unwrap();
        let ca = std::fs::read(self.dir().join("ca.pem")).unwrap();
        let caller = Caller::from_pem(&files[0], &files[1]);
        let (verdict, tls) = knock(self.addr, &client_config(&ca, Some(caller), now, b"h2")).await;
        (verdict, tls.map(|t| t.get_ref().1.peer_certificates().unwrap()[0].to_vec()))
    }

    fn operators_files(&self) -> [Vec<u8>; 2] {
        ["pem", "key"]
            .map(|ending| std::fs::read(self.dir().join(format!("operator.{ending}"))).unwrap())
    }
}

async fn status(client: &Client) -> Result<GetStatusResponse, Status> {
    client.vault().get_status(GetStatusRequest {}).await.map(|answer| answer.into_inner())
}

/// The first outcome that is wanted, of one try after another.
async fn until<T>(mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(outcome) = attempt().await {
            return outcome;
        }
        assert!(since.elapsed() < PATIENCE, "took too long");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn an_authority_of_ones_own_renews_and_revokes_while_the_vault_runs() {
    let story = Story::begin();
    let dir = story.dir();
    let first = issue(&dir, "operator", &[]);
    let live = until(async || story.connect().await.ok()).await;
    assert_eq!(
        status(&live).await.unwrap().warnings.iter().filter(|w| w.contains("tls")).count(),
        0
    );

    // SIGHUP takes the files, although none has changed.
    let reloads = async || status(&live).await.unwrap().counters["tls_reloads"];
    assert_eq!(reloads().await, 0);
    kill_process(Pid::from_child(&story.lethed), Signal::HUP).unwrap();
    until(async || (reloads().await == 1).then_some(())).await;

    let (old, shown) = (story.operators_files(), story.knock(&story.operators_files()).await.1);
    let second = pki(&dir, &["renew", "--name", "operator"]).unwrap()["serial"].clone();
    pki(&dir, &["renew", "--name", "lethed", "--days", "30"]).unwrap();
    until(async || (story.knock(&old).await.1 != shown).then_some(())).await;
    let renewed = story.connect().await.unwrap();
    assert!(status(&renewed).await.is_ok() && status(&live).await.is_ok());

    let revoked = pki(&dir, &["revoke", "--serial", &first]).unwrap();
    assert_eq!(revoked["revoked"][0]["serial"], *first);
    let refused = until(async || status(&live).await.err()).await;
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    let alert = Verdict::Alert(rustls::AlertDescription::CertificateRevoked);
    assert_eq!(story.knock(&old).await.0, alert);
    assert!(status(&renewed).await.is_ok());

    // A key that got about: whatever was issued under the name.
    let revoked = pki(&dir, &["revoke", "--name", "operator"]).unwrap();
    assert_eq!(revoked["revoked"].as_array().unwrap().len(), 1);
    assert_eq!(revoked["revoked"][0]["serial"], second);
    let refused = until(async || status(&renewed).await.err()).await;
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    assert_eq!(story.knock(&story.operators_files()).await.0, alert);
    // The name lives on: a new certificate gets in.
    pki(&dir, &["renew", "--name", "operator"]).unwrap();
    assert!(status(&story.connect().await.unwrap()).await.is_ok());
    let listed = pki(&dir, &["list"]).unwrap();
    let states: Vec<_> = listed["issued"].as_array().unwrap().iter().map(|i| &i["state"]).collect();
    assert_eq!(states, ["valid", "revoked", "revoked", "valid", "valid"]);
    let taken = pki(&dir, &["issue", "--uri", "spiffe://example.org/x", "--out", "operator"]);
    assert!(taken.unwrap_err().contains("--force"));
}

//! The daemon as a process: `lethed dev` from an empty directory to a served call, and what it refuses.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lethe::clock::{Clock, SystemClock};

use crate::peer::{CHECK, Caller, PATIENCE, Verdict, call, channel, client_config, knock};

/// A daemon that ends with the test.
struct Daemon {
    child: Child,
    addr: SocketAddr,
    banner: String,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Daemon {
    /// `lethed dev --dir <dir>` in a shell that has run `before`, once it says where it listens.
    fn start(dir: &Path, listen: &[&str], before: &str) -> Self {
        let mut child = Command::new("sh")
            .args(["-c", &format!("{before}; exec \"$0\" \"$@\"")])
            .args([env!("CARGO_BIN_EXE_lethed"), "--log-format", "json", "dev", "--dir"])
            .arg(dir)
            .args(listen)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        let addr = first.rsplit(' ').next().unwrap().parse().unwrap();
        let rest = lines.map_while(|line| line.ok().filter(|l| !l.contains("lethectl")));
        let banner = std::iter::once(first).chain(rest).collect::<Vec<_>>().join("\n");
        Self { child, addr, banner }
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap()
    }

    /// Sends SIGTERM and returns whether it ended well.
    async fn stop(mut self) -> bool {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let since = Instant::now();
        while since.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.success();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }
}

fn client(dir: &Path, role: &str) -> rustls::ClientConfig {
    let file = |name: &str| std::fs::read(dir.join("pki").join(name)).unwrap();
    let caller = Caller::from_pem(&file(&format!("{role}.pem")), &file(&format!("{role}.key")));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    client_config(&file("ca.pem"), Some(caller), now.as_secs().try_into().unwrap(), b"h2")
}

const FREE_PORT: [&str; 2] = ["--listen", "127.0.0.1:0"];

#[tokio::test]
async fn dev_serves_from_an_empty_directory_and_again_from_the_same() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("lethe-dev");
    let daemon = Daemon::start(&dir, &FREE_PORT, ":");
    assert!(daemon.banner.contains("NOT FOR PRODUCTION"), "{}", daemon.banner);
    for role in ["application", "operator", "auditor"] {
        let channel = channel(daemon.addr, client(&dir, role)).await;
        assert!(call(&channel, CHECK).await.is_ok(), "{role}");
        let text = std::fs::read_to_string(dir.join(format!("client-{role}.toml"))).unwrap();
        assert!(text.contains(&format!("endpoint = \"https://{}\"", daemon.addr)), "{text}");
    }
    let limits = daemon.proc("limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"]);
    assert!(daemon.proc("status").contains("Umask:\t0077"));
    let addr = daemon.addr;
    assert!(daemon.stop().await, "SIGTERM ends it well");

    let again = Daemon::start(&dir, &[], ":");
    assert_eq!(again.addr, addr);
    let channel = channel(addr, client(&dir, "application")).await;
    assert!(call(&channel, CHECK).await.is_ok());
}

#[test]
fn what_cannot_be_served_ends_with_a_precise_message() {
    let tmp = tempfile::tempdir().unwrap();
    std::fs::write(tmp.path().join("other"), "").unwrap();
    let config = tmp.path().join("lethed.toml");
    std::fs::write(&config, "listen = \"127.0.0.1:0\"\nnonsense = 1\n").unwrap();
    let dir = tmp.path().to_str().unwrap();
    let absent = tmp.path().join("absent");
    let cases: [(&[&str], &str); 4] = [
        (&["dev", "--dir", dir], "not empty, but pki/ca.pem is missing"),
        (
            &["dev", "--listen", "0.0.0.0:0", "--dir", absent.to_str().unwrap()],
            "loopback address only",
        ),
        (&["serve", "--config", config.to_str().unwrap()], "line 2, `nonsense`: unknown key"),
        (&["serve", "--config", "no-such-file"], "no-such-file: No such file"),
    ];
    for (args, expected) in cases {
        let said = refusal(args);
        assert!(said.starts_with("lethed: ") && said.contains(expected), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

/// What a daemon says that does not start.
fn refusal(args: &[&str]) -> String {
    let mut child = Command::new(env!("CARGO_BIN_EXE_lethed"))
        .args(args)
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let since = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if since.elapsed() > PATIENCE {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{args:?}: {said}");
    said
}

#[tokio::test]
async fn a_vault_that_cannot_be_opened_says_why_and_what_to_do_next() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("v");
    let free = "127.0.0.1:0".parse().unwrap();
    lethe::server::DevDir::prepare(&dir, Some(free), SystemClock.now()).unwrap();
    let config = dir.join("lethed.toml");
    let serve = ["serve", "--config", config.to_str().unwrap()];
    let init = [&serve[..], &["--init"]].concat();
    let refused = |args: &[&str], expected: [&str; 2]| {
        let said = refusal(args);
        let last = said.lines().last().unwrap();
        assert!(last.starts_with("lethed: "), "{said}");
        assert!(expected.iter().all(|e| last.contains(e)), "{expected:?}: {said}");
    };
    refused(&serve, ["there is no anchor at ", "start once with --init"]);
    assert!(!dir.join("data/anchor").exists());

    std::fs::rename(dir.join("kek"), dir.join("kek.away")).unwrap();
    refused(&init, ["there is no KEK at ", "kek"]);
    std::fs::rename(dir.join("kek.away"), dir.join("kek")).unwrap();
    let daemon = Daemon::start(&dir, &[], ":");
    let other = std::fs::read_to_string(&config).unwrap();
    let other = other.replace(&format!("{}", daemon.addr), "127.0.0.1:0");
    std::fs::write(dir.join("other.toml"), other).unwrap();
    let second = ["serve", "--config", dir.join("other.toml").to_str().unwrap()].map(str::to_owned);
    let second: Vec<&str> = second.iter().map(String::as_str).collect();
    refused(&second, ["in use by another process", "stop the other lethed"]);
    assert!(daemon.stop().await);

    refused(&init, ["vault exists already", "leave out --init"]);
    let kek = std::fs::read(dir.join("kek")).unwrap();
    std::fs::write(dir.join("kek"), "0".repeat(64)).unwrap();
    refused(&serve, ["sealed under KEK ", "supply the right KEK"]);
    std::fs::write(dir.join("kek"), kek).unwrap();
    let anchor = std::fs::read(dir.join("data/anchor")).unwrap();
    std::fs::write(dir.join("data/anchor"), &anchor[..4096]).unwrap();
    refused(&serve, ["4096 bytes instead of 8192", "put the right anchor file back"]);
    std::fs::remove_file(dir.join("data/anchor")).unwrap();
    refused(&init, ["has rows of a vault but no anchor", "put the anchor back"]);
    std::fs::write(dir.join("data/anchor"), &anchor).unwrap();
    assert!(Daemon::start(&dir, &[], ":").stop().await);
}

#[tokio::test]
async fn a_process_without_free_descriptors_lives_on() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("lethe-dev");
    let daemon = Daemon::start(&dir, &FREE_PORT, "ulimit -n 64");
    let config = client(&dir, "application");
    let served = channel(daemon.addr, config.clone()).await;
    // More silent peers than there are descriptors, fewer than handshakes that may be under way.
    let silent: Vec<_> = (0..100).map(|_| TcpStream::connect(daemon.addr).unwrap()).collect();
    let open = || std::fs::read_dir(format!("/proc/{}/fd", daemon.child.id())).unwrap().count();
    let since = Instant::now();
    while open() < 63 && since.elapsed() < Duration::from_secs(3) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(open() >= 63, "the case was not reached: {} descriptors", open());
    assert!(call(&served, CHECK).await.is_ok(), "a served peer notices nothing");
    drop(silent);
    let since = Instant::now();
    while knock(daemon.addr, &config).await.0 != Verdict::Served {
        assert!(since.elapsed() < PATIENCE, "no way in any more");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

//! `lethed serve` as operators run it: flags and environment over the file, what `lethed config` says of it, and the
//! socket of metrics and probes.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use lethe::clock::{Clock, SystemClock};
use lethe::server::DevDir;

use crate::peer::{CHECK, Caller, PATIENCE, call, channel, client_config};

pub fn lethed() -> Command {
    Command::new(env!("CARGO_BIN_EXE_lethed"))
}

/// A daemon over a directory of `lethed dev`, with a socket; ends with the test.
pub struct Served {
    pub child: Child,
    pub dir: PathBuf,
    pub addr: SocketAddr,
    _tmp: Option<tempfile::TempDir>,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Served {
    /// A new vault, once it is ready.
    pub fn new(flags: &[&str]) -> Self {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("v");
        DevDir::prepare(&dir, Some("127.0.0.1:0".parse().unwrap()), SystemClock.now()).unwrap();
        let flags = [&["--init"], flags].concat();
        let mut served = Self::start(&dir, &flags);
        served._tmp = Some(tmp);
        served
    }

    pub fn start(dir: &Path, flags: &[&str]) -> Self {
        let socket = dir.join("s");
        let mut command = lethed();
        command.args(["--log-format", "json", "serve", "--config"]).arg(dir.join("lethed.toml"));
        command.arg("--set").arg(format!("metrics.socket={}", socket.display())).args(flags);
        command.stderr(Stdio::from(std::fs::File::create(dir.join("log")).unwrap()));
        let child = command.spawn().unwrap();
        let config = lethe::server::Config::load(
            &dir.join("lethed.toml"),
            &lethe::server::Sources::default(),
        );
        let served = Self { child, dir: dir.to_owned(), addr: config.unwrap().listen, _tmp: None };
        let since = Instant::now();
        while !served.probe("readyz").status.success() {
            assert!(since.elapsed() < PATIENCE, "{}", served.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        served
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap()
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.join("s")
    }

    pub fn probe(&self, what: &str) -> Output {
        lethed().arg("probe").arg("--socket").arg(self.socket()).arg(what).output().unwrap()
    }

    pub fn client(&self, role: &str) -> rustls::ClientConfig {
        let file = |name: &str| std::fs::read(self.dir.join("pki").join(name)).unwrap();
        let caller = Caller::from_pem(&file(&format!("{role}.pem")), &file(&format!("{role}.key")));
        client_config(&file("ca.pem"), Some(caller), SystemClock.now().0 / 1000, b"h2")
    }

    /// `lethectl` as this role, with answers as JSON.
    pub fn ctl(&self, role: &str, args: &[&str]) -> Output {
        let mut ctl = Command::new(env!("CARGO_BIN_EXE_lethectl"));
        ctl.arg("--config").arg(self.dir.join(format!("client-{role}.toml")));
        ctl.args(["--output", "json"]).args(args).output().unwrap()
    }

    /// The number of a metric without labels.
    pub fn number(&self, name: &str) -> f64 {
        let text = String::from_utf8(self.probe("metrics").stdout).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name}: {text}")).parse().unwrap()
    }

    fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
        assert!(!self.socket().exists(), "the socket goes with the daemon");
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

#[tokio::test]
async fn the_socket_serves_metrics_and_probes_and_is_taken_over_from_a_killed_daemon() {
    let mut served = Served::new(&[]);
    for (what, expected) in [("livez", "ok\n"), ("readyz", "ok\n")] {
        assert_eq!(String::from_utf8(served.probe(what).stdout).unwrap(), expected);
    }
    let channel = channel(served.addr, served.client("application")).await;
    assert!(call(&channel, CHECK).await.is_ok());
    assert!(call(&channel, "/x").await.is_err());
    let text = String::from_utf8(served.probe("metrics").stdout).unwrap();
    for line in [
        "lethe_ready 1",
        "lethe_connections_total 1",
        "lethe_connections_open 1",
        "lethe_call_seconds_count{method=\"/grpc.health.v1.Health/Check\",code=\"OK\"} 1",
        "lethe_call_seconds_count{method=\"unlisted\",code=\"UNIMPLEMENTED\"} 1",
        "# HELP lethe_creates_total Records and subjects created.",
        "# TYPE lethe_call_seconds histogram",
        "lethe_disk_full 0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}: {text}");
    }
    for (name, least) in [
        ("lethe_resident_bytes", 1e6),
        ("lethe_disk_free_bytes", 1.0),
        ("lethe_certificate_left_seconds", 300.0 * 86_400.0),
        ("lethe_revocation_list_left_seconds", 300.0 * 86_400.0),
    ] {
        assert!(served.number(name) >= least, "{name}: {text}");
    }
    // The same over mutual TLS, to whom it may concern.
    let families = |text: &str| -> Vec<String> {
        text.lines().filter(|l| l.starts_with("# TYPE ")).map(str::to_owned).collect()
    };
    for role in ["operator", "auditor"] {
        let shown = served.ctl(role, &["metrics"]);
        assert!(shown.status.success(), "{}", said(&shown));
        let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
        let shown = shown["exposition"].as_str().unwrap();
        for line in ["lethe_ready 1", "lethe_tenants 0", "lethe_disk_full 0"] {
            assert!(shown.contains(&format!("{line}\n")), "{line}: {shown}");
        }
        assert_eq!(families(shown), families(&text));
    }
    let refused = served.ctl("application", &["metrics"]);
    assert!(!refused.status.success() && !said(&refused).contains("lethe_ready"));
    // Of a killed daemon the socket stays, and answers to nobody.
    served.child.kill().unwrap();
    served.child.wait().unwrap();
    assert!(served.socket().exists());
    let gone = served.probe("livez");
    assert_eq!(gone.status.code(), Some(1));
    assert!(said(&gone).contains("no daemon answers"), "{}", said(&gone));
    Served::start(&served.dir, &[]).stop();
}

#[test]
fn whoever_is_slow_or_says_something_else_is_turned_away_and_others_are_served() {
    let served = Served::new(&[]);
    // As many that say nothing as there are places: the next waits until their time is up.
    let silent: Vec<_> =
        (0..lethe::limits::PROBES_MAX).map(|_| UnixStream::connect(served.socket())).collect();
    let since = Instant::now();
    let mut odd = UnixStream::connect(served.socket()).unwrap();
    odd.write_all(b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").unwrap();
    let mut heard = String::new();
    odd.read_to_string(&mut heard).unwrap();
    assert!(heard.starts_with("HTTP/1.1 405 "), "{heard}");
    let waited = since.elapsed();
    assert!(waited > lethe::limits::PROBE_TIME_MAX / 2, "{waited:?}");
    assert!(waited < 2 * lethe::limits::PROBE_TIME_MAX, "{waited:?}");
    drop(silent);
    for (request, status) in [("GET /else HTTP/1.1", "404"), ("GET /livez HTTP/1.1", "200")] {
        let mut peer = UnixStream::connect(served.socket()).unwrap();
        peer.write_all(format!("{request}\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
        let mut heard = String::new();
        peer.read_to_string(&mut heard).unwrap();
        assert!(heard.starts_with(&format!("HTTP/1.1 {status} ")), "{heard}");
    }
    // A head without an end is no way to take memory.
    let mut endless = UnixStream::connect(served.socket()).unwrap();
    endless.write_all(b"GET /livez HTTP/1.1\r\n").unwrap();
    let line = format!("X-Y: {}\r\n", "y".repeat(1_000));
    let taken = (0..10_000).take_while(|_| endless.write_all(line.as_bytes()).is_ok()).count();
    assert!(taken < 1_000, "{taken} lines were taken");
}

#[test]
fn what_is_wrong_with_a_configuration_is_told_in_one_go_and_by_the_exit_code() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("v");
    DevDir::prepare(&dir, Some("127.0.0.1:0".parse().unwrap()), SystemClock.now()).unwrap();
    let config = dir.join("lethed.toml");
    let ask = |args: &[&str], env: &[(&str, &str)]| {
        let mut command = lethed();
        command.arg("config").args(args).arg("--config").arg(&config);
        let output = command.envs(env.iter().copied()).output().unwrap();
        (output.status.code(), said(&output))
    };
    assert_eq!(ask(&["validate"], &[]), (Some(0), String::new()));
    let (code, told) = ask(
        &["validate", "--set", "limits.calls_burst=0", "--listen", "SECRET"],
        &[("LETHE_KEK_FILE", "/no/such/kek"), ("LETHE_LIMITS_CONECTIONS", "SECRET")],
    );
    assert_eq!((code, told.lines().count()), (Some(1), 4), "{told}");
    for part in ["listen: ", "kek.file: ", "limits.calls_burst: ", "nearest: limits.connections"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!told.contains("SECRET"), "{told}");
    let (_, json) = ask(&["validate", "--output", "json", "--set", "store.engine=x"], &[]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[0]["key"], "store.engine");

    let (code, shown) = ask(&["show", "--effective"], &[("LETHE_LIMITS_CALLS_BURST", "77")]);
    assert_eq!(code, Some(0), "{shown}");
    for line in [
        "limits.calls_burst = 77  # environment, LETHE_LIMITS_CALLS_BURST",
        "limits.calls_per_second = 5000  # default",
        "store.engine = redb  # line 6",
    ] {
        assert!(shown.lines().any(|l| l == line), "{line}: {shown}");
    }
    let kek = std::fs::read_to_string(dir.join("kek")).unwrap();
    assert!(!shown.contains(kek.trim_end()));
}

#[test]
fn a_diagnosis_names_what_is_wrong_with_host_and_vault_and_changes_nothing() {
    let served = Served::new(&[]);
    let config = served.dir.join("lethed.toml");
    let diagnose = |flags: &[&str]| {
        let mut command = lethed();
        command.args(["diagnose", "--output", "json", "--config"]).arg(&config).args(flags);
        let output = command.output().unwrap();
        let rows: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let of = |what: &str| {
            let row = rows.as_array().unwrap().iter().find(|row| row["what"] == what);
            let row = row.unwrap_or_else(|| panic!("no {what}: {rows}"));
            (row["state"].as_str().unwrap().to_owned(), row["found"].as_str().unwrap().to_owned())
        };
        (output.status.code().unwrap(), of("store").0, of("daemon"), of("configuration"))
    };
    let socket = format!("metrics.socket={}", served.socket().display());
    let (code, store, daemon, configuration) = diagnose(&["--set", &socket]);
    assert!(code < 2, "only what this machine is like: {code}");
    assert_eq!((store.as_str(), configuration.0.as_str()), ("ok", "ok"));
    assert_eq!(daemon.0, "ok");
    assert!(daemon.1.contains(&format!("process {} ", served.child.id())), "{daemon:?}");
    assert!(daemon.1.ends_with("is ready"), "{daemon:?}");
    // By its port, where no socket is given.
    assert!(diagnose(&[]).2.1.ends_with("accepts connections"));
    let deaf = diagnose(&["--set", "metrics.socket=/no/such/folder/s"]);
    assert_eq!(deaf.0, 2);
    assert_eq!(diagnose(&["--set", "store.engine=sled"]).1, "FAILURE");
    let anchor = served.dir.join("data/anchor");
    std::fs::rename(&anchor, served.dir.join("away")).unwrap();
    assert_eq!(diagnose(&[]).1, "FAILURE", "without its anchor");
    std::fs::rename(served.dir.join("away"), &anchor).unwrap();
    served.stop();
}

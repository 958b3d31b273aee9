//! R15: canaries. Values, ids and keys are planted by the real daemon and the real client, both in processes of their
//! own;
//! then logs, errors, process lists, environments and every file of the vault are searched for them in four encodings.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lethe::clock::{Clock, SystemClock};
use lethe::server::DevDir;

use crate::peer::PATIENCE;

const NAME: &str = "Canarivalda Quillfeather";
const PHONE: &str = "+8613800138011";
const CITY: &str = "Nightingalehampton";
const WRONG: &str = "not-a-phone-but-a-canary";

/// What a secret looks like in each encoding: itself, hex, base64 at its three alignments, UTF-16.
fn encodings(secret: &[u8]) -> Vec<Vec<u8>> {
    let hex = |upper: bool| -> Vec<u8> {
        let digit = |b: &u8| if upper { format!("{b:02X}") } else { format!("{b:02x}") };
        secret.iter().map(digit).collect::<String>().into_bytes()
    };
    let mut all = vec![secret.to_vec(), hex(false), hex(true)];
    for shift in 0..3 {
        let mut padded = vec![0; shift];
        padded.extend_from_slice(secret);
        let text = STANDARD.encode(&padded);
        // Without the characters that neighbours would change.
        let from = if shift == 0 { 0 } else { 4 };
        all.push(text.as_bytes()[from..text.len() - 4].to_vec());
    }
    all.push(secret.iter().flat_map(|b| [*b, 0]).collect());
    all
}

fn hits(secret: &[u8], haystack: &[u8]) -> usize {
    let found = |needle: &Vec<u8>| haystack.windows(needle.len()).any(|w| w == needle.as_slice());
    encodings(secret).iter().filter(|n| found(n)).count()
}

#[test]
fn a_planted_value_is_found_in_each_encoding() {
    let secret = NAME.as_bytes();
    for encoded in encodings(secret) {
        let around = [b"before ".as_slice(), &encoded, b" after"].concat();
        assert!(hits(secret, &around) > 0, "{}", String::from_utf8_lossy(&encoded));
    }
    let shifted = STANDARD.encode([b"x".as_slice(), secret, b"yz"].concat());
    assert!(hits(secret, shifted.as_bytes()) > 0);
    assert_eq!(hits(secret, b"nothing of the kind"), 0);
}

struct Stage {
    _tmp: tempfile::TempDir,
    dir: PathBuf,
    daemon: Child,
    /// What people and programs other than the caller could see.
    seen: Vec<(String, Vec<u8>)>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

impl Stage {
    fn start() -> Self {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("vault");
        let log = File::create(tmp.path().join("lethed.log")).unwrap();
        // All that can be told is told: lines at debug, and metrics.
        let free = Some("127.0.0.1:0".parse().unwrap());
        DevDir::prepare(&dir, free, SystemClock.now()).unwrap();
        let config = dir.join("lethed.toml");
        let mut text = std::fs::read_to_string(&config).unwrap();
        text.push_str(
            "[log]\nformat = \"json\"\nlevel = \"debug\"\n[metrics]\nsocket = \"../s\"\n",
        );
        std::fs::write(config, text).unwrap();
        let mut daemon = Command::new(env!("CARGO_BIN_EXE_lethed"))
            .args(["dev", "--dir"])
            .arg(&dir)
            .env("RUST_LOG", "trace")
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(daemon.stdout.take().unwrap()).lines();
        let mut banner = String::new();
        while !banner.contains("status") {
            banner.push_str(&lines.next().unwrap().unwrap());
        }
        // The rest is read to its end by a thread of its own, so that the daemon never waits for us.
        std::thread::spawn(move || lines.count());
        let seen = vec![("the banner".to_owned(), banner.into_bytes())];
        Self { dir, daemon, seen, _tmp: tmp }
    }

    /// Runs the client; its errors are searched, its answers on success are the caller's own.
    fn ctl(&mut self, role: &str, args: &[&str], input: &str) -> Output {
        let config = self.dir.join(format!("client-{role}.toml"));
        let mut child = Command::new(env!("CARGO_BIN_EXE_lethectl"))
            .arg("--config")
            .arg(config)
            .args(["--output", "json"])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        self.seen.push((format!("errors of {args:?}"), output.stderr.clone()));
        if !output.status.success() {
            self.seen.push((format!("output of {args:?}"), output.stdout.clone()));
        }
        output
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self._tmp.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn look_at_the_metrics(&mut self) {
        let mut probe = Command::new(env!("CARGO_BIN_EXE_lethed"));
        probe.args(["probe", "metrics", "--socket"]).arg(self._tmp.path().join("s"));
        let output = probe.output().unwrap().stdout;
        let text = String::from_utf8_lossy(&output);
        assert!(text.contains("RecordService/CreateRecord\",code=\"OK\"} 1"), "{text}");
        self.seen.push(("the metrics".to_owned(), output));
    }

    fn look_at_the_process(&mut self) {
        for file in ["cmdline", "environ", "comm"] {
            let path = format!("/proc/{}/{file}", self.daemon.id());
            self.seen.push((path.clone(), std::fs::read(path).unwrap()));
        }
    }

    /// How often each is in the memory that the daemon may write to. `None` if this user may not look into it.
    fn in_memory(&self, needles: &[&[u8]]) -> Option<Vec<usize>> {
        const STEP: usize = 1 << 20;
        let process = format!("/proc/{}", self.daemon.id());
        let maps = std::fs::read_to_string(format!("{process}/maps")).ok()?;
        let memory = File::open(format!("{process}/mem")).ok()?;
        let mut counts = vec![0; needles.len()];
        let longest = needles.iter().map(|n| n.len()).max().unwrap();
        let mut buffer = vec![0; STEP + longest];
        for line in maps.lines().filter(|line| line.contains(" rw")) {
            let (from, to) = line.split_whitespace().next().unwrap().split_once('-').unwrap();
            let parse = |text| u64::from_str_radix(text, 16).unwrap();
            let (mut at, end) = (parse(from), parse(to));
            while at < end {
                let most = usize::try_from(end - at).unwrap().min(buffer.len());
                // What is mapped and not there, such as a guard page, cannot be read.
                let read = memory.read_at(&mut buffer[..most], at).unwrap_or(0);
                for (needle, count) in needles.iter().zip(&mut counts) {
                    let found = buffer[..read].windows(needle.len()).filter(|w| w == needle);
                    *count += found.count();
                }
                at += STEP as u64;
            }
        }
        Some(counts)
    }

    fn log(&self) -> Vec<u8> {
        std::fs::read(self._tmp.path().join("lethed.log")).unwrap()
    }
}

fn every_file(dir: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            every_file(&path, found);
        } else {
            found.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
}

const SCHEMA: &str = r#"
type = "customer"
open_ended = true
[[field]]
name = "name"
kind = "TEXT"
classification = "SENSITIVE"
required = true
[[field]]
name = "phone"
kind = "PHONE"
classification = "SENSITIVE"
unique = true
[[field]]
name = "city"
kind = "TEXT"
classification = "SENSITIVE"
indexed = true
max_bytes = 100
"#;

/// Works with planted values; returns the ids that may be in no log.
fn work(stage: &mut Stage) -> Vec<String> {
    let schema = stage.file("schema.toml", SCHEMA);
    let apply = ["schema", "apply", &schema, "--tenant", "acme", "--create-tenant"];
    assert!(stage.ctl("operator", &apply, "").status.success());
    let create = ["record", "create", "--tenant", "acme", "--type", "customer", "--from", "-"];
    let good = format!(r#"{{"name":"{NAME}","phone":"{PHONE}","city":"{CITY}"}}"#);
    let made = stage.ctl("application", &create, &good);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    let text = made.to_string();
    let name = text.split('"').find(|t| t.contains("/records/")).unwrap().to_owned();
    let subject = text.split('"').find(|t| t.contains("/subjects/")).unwrap().to_owned();
    // Every way to be refused with a planted value in the request.
    let wrong = format!(r#"{{"name":"{NAME}","phone":"{WRONG}"}}"#);
    let unknown = format!(r#"{{"name":"{NAME}","{WRONG}":"{CITY}"}}"#);
    let mistyped = r#"{"name":7,"phone":true}"#;
    for input in [&wrong, &unknown, &good, mistyped] {
        assert!(!stage.ctl("application", &create, input).status.success(), "{input}");
    }
    let find = ["record", "find", "--tenant", "acme", "--type", "customer", "--field", "phone"];
    let found = stage.ctl("application", &find, &format!("{PHONE}\n"));
    assert!(String::from_utf8_lossy(&found.stdout).contains(NAME), "control: the value is there");
    assert!(!stage.ctl("application", &find, &format!("{WRONG}\n")).status.success());
    let update = ["record", "update", &name, "--from", "-", "--etag", "77"];
    let stale = format!(r#"{{"city":"{CITY}"}}"#);
    assert!(!stage.ctl("application", &update, &stale).status.success());
    assert!(!stage.ctl("operator", &["record", "get", &name], "").status.success());
    stage.look_at_the_process();
    stage.look_at_the_metrics();
    assert!(stage.ctl("application", &["record", "erase", &name, "--yes"], "").status.success());
    assert!(!stage.ctl("application", &["record", "get", &name], "").status.success());
    let id = |n: &str| n.rsplit('/').next().unwrap().to_owned();
    vec![id(&name), id(&subject)]
}

fn uuid_bytes(id: &str) -> Vec<u8> {
    let digits: String = id.chars().filter(|c| *c != '-').collect();
    (0..32).step_by(2).map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap()).collect()
}

/// What the audit log says of all that, as it is listed and as it is taken out.
fn audited(stage: &mut Stage) -> Vec<u8> {
    let listed = stage.ctl("auditor", &["audit", "list", "--limit", "1000"], "");
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let export = stage._tmp.path().join("audit.jsonl");
    let taken = stage.ctl("auditor", &["audit", "export", export.to_str().unwrap()], "");
    assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
    let all = [listed.stdout, std::fs::read(export).unwrap()].concat();
    assert!(hits(b"FindRecords", &all) > 0, "control: the log tells of the search");
    all
}

/// Also what the gRPC and TLS libraries had in their buffers: the daemon's allocator overwrites what they free.
#[test]
fn r15_no_value_that_was_written_or_read_stays_in_the_daemon_s_memory() {
    let mut stage = Stage::start();
    work(&mut stage);
    let looked_for = [NAME.as_bytes(), PHONE.as_bytes(), CITY.as_bytes(), b"spiffe://dev.lethe"];
    let since = Instant::now();
    loop {
        let Some(counts) = stage.in_memory(&looked_for) else {
            // Past what the test runner keeps to itself: scripts/test counts it as not run.
            let told = b"not run: this user may not read another process's memory\n";
            std::io::stderr().write_all(told).unwrap();
            return;
        };
        let (values, known) = counts.split_at(3);
        assert!(known[0] > 0, "what must be there is found");
        if values.iter().all(|n| *n == 0) {
            return;
        }
        // The last connection may still be closing.
        assert!(since.elapsed() < PATIENCE, "{values:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn r15_no_planted_value_id_or_key_is_anywhere_it_should_not_be() {
    let mut stage = Stage::start();
    let ids = work(&mut stage);
    let audit = audited(&mut stage);
    let values = [NAME, PHONE, CITY, WRONG];
    let log = stage.log();
    assert!(log.len() > 200, "the log was recorded");
    let lines: Vec<_> = log.split(|b| *b == b'\n').filter(|line| !line.is_empty()).collect();
    assert!(lines.iter().all(|line| serde_json::from_slice::<serde_json::Value>(line).is_ok()));
    let of_a_call =
        |line: &&[u8]| String::from_utf8_lossy(line).contains("RecordService/CreateRecord");
    assert!(lines.iter().any(of_a_call), "each call has a line");
    let mut places = std::mem::take(&mut stage.seen);
    every_file(&stage.dir, &mut places);
    places.push(("the log".to_owned(), log.clone()));
    places.push(("the audit log".to_owned(), audit.clone()));
    for (place, content) in &places {
        for value in values {
            assert_eq!(hits(value.as_bytes(), content), 0, "{value} in {place}");
        }
    }
    let metrics = &places.iter().find(|(place, _)| place == "the metrics").unwrap().1;
    for id in &ids {
        assert_eq!(hits(id.as_bytes(), &log), 0, "an id in the log");
        assert_eq!(hits(id.as_bytes(), &audit), 0, "an id in the audit log");
        assert_eq!(hits(&uuid_bytes(id), &audit), 0, "an id's bytes in the audit log");
        assert_eq!(hits(id.as_bytes(), metrics), 0, "an id in the metrics");
    }
    let kek = std::fs::read_to_string(stage.dir.join("kek")).unwrap();
    let bytes: Vec<u8> =
        (0..64).step_by(2).map(|i| u8::from_str_radix(&kek[i..i + 2], 16).unwrap()).collect();
    for (place, content) in places.iter().filter(|(p, _)| !p.ends_with("/kek")) {
        assert_eq!(hits(&bytes, content), 0, "the KEK in {place}");
    }
}

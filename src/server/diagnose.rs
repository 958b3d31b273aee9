//! `lethed diagnose`: looks at host and vault for what goes wrong in practice, and says what to do.
//!
//! Guarantees: nothing is written and no lock is taken, so that it may run beside a daemon; no file is shown. Where a
//! daemon runs, the limits that are judged are its own.

use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::config::{Draft, Sources, check_draft};
use super::trust::Trust;
use super::{AnchorRequire, Config, EngineKind, ServerError, host, probe, tls};
use crate::class::Medium;
use crate::clock::{Clock, UnixMillis};
use crate::keys::file_anchor;
use crate::limits;
use crate::os;
use crate::store::{Redb, Sled};

/// How bad it is; as the exit code of the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    Good = 0,
    /// It works, but not for ever, or not as well as it could.
    Warning = 1,
    /// The vault does not start, or does not serve.
    Failure = 2,
}

/// One thing that was looked at.
#[derive(Clone, Debug)]
pub struct Check {
    pub what: &'static str,
    pub state: State,
    pub found: String,
    /// What to do; empty where all is well.
    pub advice: &'static str,
}

/// All that was looked at.
pub struct Diagnosis(pub Vec<Check>);

/// A moment before which no clock of a machine that runs this can be.
const BUILT_AFTER: UnixMillis = UnixMillis(1_735_689_600_000);
const DAY: i64 = 86_400_000;
/// Descriptors beside those of connections: files of the store, the anchor, the journal, sockets.
const DESCRIPTORS_BESIDE: u64 = 128;
const SPACE_FEW_FLOORS: u64 = 10;
const ANSWER_MAX: Duration = Duration::from_secs(3);

fn good(what: &'static str, found: impl ToString) -> Check {
    Check { what, state: State::Good, found: found.to_string(), advice: "" }
}

fn warning(what: &'static str, found: impl ToString, advice: &'static str) -> Check {
    Check { what, state: State::Warning, found: found.to_string(), advice }
}

fn failure(what: &'static str, found: impl ToString, advice: &'static str) -> Check {
    Check { what, state: State::Failure, found: found.to_string(), advice }
}

impl Diagnosis {
    /// An error means that the file of the configuration cannot be read.
    pub fn of(path: &Path, sources: &Sources, clock: Arc<dyn Clock>) -> Result<Self, ServerError> {
        let draft = Draft::load(path, sources)?;
        let mut all: Vec<Check> = check_draft(&draft, Arc::clone(&clock))
            .into_iter()
            .map(|finding| {
                let found = format!("{finding}");
                failure(
                    "configuration",
                    found,
                    "correct it; `lethed config validate` says the same",
                )
            })
            .collect();
        if all.is_empty() {
            all.push(good("configuration", "complete; files are there and fit"));
        }
        let now = clock.now();
        if let Ok(config) = draft.finish() {
            let holder = holder(&config.data.join("lock"));
            all.push(anchor(&config));
            all.push(files(&config));
            all.push(space(&config.data));
            all.extend(limits_of(&config, &holder));
            all.push(time(&config, now));
            all.extend(certificates(&config, clock));
            all.push(daemon(&config, &holder));
        }
        all.push(swap(&std::fs::read_to_string("/proc/swaps").unwrap_or_default()));
        Ok(Self(all))
    }

    pub fn worst(&self) -> State {
        self.0.iter().map(|check| check.state).max().unwrap_or(State::Good)
    }

    pub fn text(&self) -> String {
        let mut text = String::new();
        for Check { what, state, found, advice } in &self.0 {
            let state = state.name();
            text.push_str(&format!("{state:<8} {what:<16} {found}\n"));
            if !advice.is_empty() {
                text.push_str(&format!("{:<25} -> {advice}\n", ""));
            }
        }
        text
    }

    pub fn json(&self) -> Json {
        let rows = self.0.iter().map(|check| {
            json!({"what": check.what, "state": check.state.name(), "found": check.found, "advice": check.advice})
        });
        rows.collect()
    }
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Warning => "WARNING",
            Self::Failure => "FAILURE",
        }
    }
}

/// Who holds the data directory.
#[derive(Debug, PartialEq, Eq)]
enum Holder {
    Nobody,
    /// Of this number, where this process may see it.
    Process(Option<u32>),
}

/// From the kernel's list of locks (proc(5)): to try the lock would be to take it for a moment.
fn holder(lock: &Path) -> Holder {
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    std::fs::metadata(lock).map_or(Holder::Nobody, |meta| holder_in(&locks, meta.dev(), meta.ino()))
}

fn holder_in(locks: &str, device: u64, inode: u64) -> Holder {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let file = format!("{major:02x}:{minor:02x}:{inode}");
    let held = locks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let pid = held.into_iter().find_map(|parts| match parts.get(1..6) {
        Some(["FLOCK", _, "WRITE", pid, of]) if *of == file => Some(pid.parse().ok()),
        _ => None,
    });
    pid.map_or(Holder::Nobody, |pid: Option<u32>| Holder::Process(pid.filter(|pid| *pid != 0)))
}

fn anchor(config: &Config) -> Check {
    let there = config.anchor.exists();
    let above = config.anchor.ancestors().skip(1).find(|path| path.exists());
    let path: PathBuf =
        if there { config.anchor.clone() } else { above.map(Into::into).unwrap_or_default() };
    match file_anchor::medium_of(&path) {
        Err(error) => failure("anchor", error, "let the daemon's user read the anchor"),
        Ok((Medium::InPlaceFile, why)) => good("anchor", format!("on {why}: receipts reach E1")),
        Ok((Medium::MayKeepOldBlocks, why)) => {
            let found = format!("on {why}: receipts reach E0 only");
            let advice = "move it to ext4 or XFS without reflinks and set anchor.path, out of every snapshot";
            match config.anchor_require {
                AnchorRequire::E1 => failure("anchor", found, advice),
                AnchorRequire::Any => warning("anchor", found, advice),
            }
        }
    }
}

fn files(config: &Config) -> Check {
    let store = config.data.join("store");
    let (own, other) = match config.engine {
        EngineKind::Memory => {
            return warning("store", "in memory", "nothing survives a restart: set store.engine");
        }
        EngineKind::Redb => (Redb::FILE, Sled::FILE),
        EngineKind::Sled => (Sled::FILE, Redb::FILE),
    };
    let (own, other) = (store.join(own).exists(), store.join(other).exists());
    match (config.anchor.exists(), own, other) {
        (true, true, _) => good("store", "anchor and the engine's files are there"),
        (false, false, false) => {
            warning("store", "there is no vault yet", "start once with `lethed serve --init`")
        }
        (_, false, true) => failure(
            "store",
            "the files are those of the other engine",
            "set store.engine to what they are",
        ),
        (true, false, false) => failure(
            "store",
            "the anchor is there, but the store has no files",
            "put the data directory back as it was when the vault last stopped",
        ),
        (false, true, _) => failure(
            "store",
            "there are rows of a vault but no anchor",
            "put the anchor back where anchor.path says; without it nothing can be read",
        ),
    }
}

fn space(data: &Path) -> Check {
    let path = data.ancestors().find(|path| path.exists()).unwrap_or(data);
    let Some(free) = host::free_bytes(path) else {
        return failure(
            "disk",
            "free space cannot be read",
            "let the daemon's user reach the folder",
        );
    };
    let (found, floor) = (format!("{} MiB free", free >> 20), limits::DISK_FREE_MIN);
    if free < floor {
        failure("disk", found, "puts are refused: free some space, or move the data")
    } else if free < SPACE_FEW_FLOORS * floor {
        warning("disk", found, "free some space: below 64 MiB puts are refused")
    } else {
        good("disk", found)
    }
}

/// Soft limit of a line of /proc/PID/limits; `None` is no limit.
fn limit_in(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn limits_of(config: &Config, holder: &Holder) -> [Check; 3] {
    let of = match holder {
        Holder::Process(Some(pid)) => format!("/proc/{pid}/limits"),
        _ => "/proc/self/limits".to_owned(),
    };
    let text = std::fs::read_to_string(of).unwrap_or_default();
    let whose = if matches!(holder, Holder::Process(Some(_))) { "the daemon's" } else { "here" };
    let peers = config.limits.connections.saturating_add(limits::HANDSHAKES_MAX);
    let descriptors = DESCRIPTORS_BESIDE.saturating_add(peers as u64);
    judge_limits(&text, whose, descriptors)
}

fn judge_limits(text: &str, whose: &str, descriptors: u64) -> [Check; 3] {
    let told = |limit: Option<u64>| limit.map_or("unlimited".to_owned(), |n| n.to_string());
    let locked = limit_in(text, "Max locked memory");
    let found = format!("RLIMIT_MEMLOCK is {} bytes ({whose})", told(locked));
    let memory = if locked.is_some_and(|n| n < os::ARENA_BYTES as u64) {
        failure("locked memory", found, "raise it to 64 KiB or more (LimitMEMLOCK, ulimit -l)")
    } else {
        good("locked memory", found)
    };
    let open = limit_in(text, "Max open files");
    let found = format!(
        "RLIMIT_NOFILE is {} ({whose}); limits.connections wants {descriptors}",
        told(open)
    );
    let files = if open.is_some_and(|n| n < descriptors) {
        warning(
            "descriptors",
            found,
            "raise it (LimitNOFILE, ulimit -n), or lower limits.connections",
        )
    } else {
        good("descriptors", found)
    };
    let core = limit_in(text, "Max core file size");
    let cores = if core == Some(0) {
        good("core files", format!("none are written ({whose})"))
    } else {
        failure(
            "core files",
            format!("RLIMIT_CORE is {} ({whose})", told(core)),
            "find out what changed it; restart the daemon",
        )
    };
    [memory, files, cores]
}

fn time(config: &Config, now: UnixMillis) -> Check {
    let seconds = std::fs::metadata(&config.anchor).map_or(0, |meta| meta.mtime());
    judge_time(now, UnixMillis(seconds.saturating_mul(1000)))
}

fn judge_time(now: UnixMillis, written: UnixMillis) -> Check {
    let advice = "set the clock, and keep it by NTP: retention and certificates go by it";
    if now < BUILT_AFTER {
        failure("clock", "it is before 2025", advice)
    } else if written.0 > now.0.saturating_add(DAY) {
        failure("clock", "the anchor was written more than a day after now", advice)
    } else {
        good("clock", "not before the last write of the anchor")
    }
}

fn certificates(config: &Config, clock: Arc<dyn Clock>) -> Vec<Check> {
    let now = clock.now();
    let mut all = Vec::new();
    // What keeps it from being opened was told with the configuration.
    if let Ok(trust) = Trust::open(&config.tls, clock) {
        let (_, credentials) = trust.in_force();
        let days = credentials.ends().0.saturating_sub(now.0) / DAY;
        all.push(good("certificate", format!("the server's is good for {days} days")));
        let ending = credentials.ending(now).into_iter().filter_map(|(_, text)| text);
        all.extend(ending.map(|text| warning("certificate", text, "renew it, or make a new list")));
    }
    if let Some(ends) = tls::authorities_end(&config.tls) {
        let days = ends.0.saturating_sub(now.0) / DAY;
        let found = format!("the first of the callers' authorities ends in {days} days");
        let advice = "add its successor to tls.client_ca, and give callers new certificates";
        all.push(if days < 60 {
            warning("authority", found, advice)
        } else {
            good("authority", found)
        });
    }
    if config.tls.crl.is_none() {
        let advice = "give tls.crl, or let callers' certificates be short-lived";
        all.push(warning("revocation", "tls.crl is not given: nobody is ever revoked", advice));
    }
    all
}

fn daemon(config: &Config, holder: &Holder) -> Check {
    let pid = match holder {
        Holder::Nobody => {
            let found = "none holds the data directory";
            return warning("daemon", found, "start it: `lethed serve --config FILE`");
        }
        Holder::Process(Some(pid)) => format!("process {pid} holds the data directory"),
        Holder::Process(None) => "a process holds the data directory".to_owned(),
    };
    let advice = "look at its log; it may still be opening the vault";
    match &config.metrics_socket {
        Some(socket) => match probe::ask(socket, "/readyz") {
            Ok(answer) if answer.good => good("daemon", format!("{pid} and is ready")),
            Ok(answer) => failure("daemon", format!("{pid}: {}", answer.text.trim_end()), advice),
            Err(error) => failure("daemon", format!("{pid}; metrics.socket: {error}"), advice),
        },
        None => match TcpStream::connect_timeout(&reachable(config.listen), ANSWER_MAX) {
            Ok(_) => good("daemon", format!("{pid} and accepts connections")),
            Err(error) => failure("daemon", format!("{pid}; listen: {error}"), advice),
        },
    }
}

/// Where this machine reaches what listens on all addresses.
fn reachable(mut addr: SocketAddr) -> SocketAddr {
    if addr.ip().is_unspecified() {
        addr.set_ip(match addr {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    addr
}

/// `swaps` is /proc/swaps: a line of names, then one for each.
fn swap(swaps: &str) -> Check {
    match swaps.lines().count().saturating_sub(1) {
        0 => good("swap", "off"),
        n => warning(
            "swap",
            format!("{n} in use"),
            "swap off, or encrypt it under a key of each boot",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_a_file_is_read_from_the_kernels_list() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        assert_eq!(holder(&path), Holder::Nobody);
        let file = std::fs::File::create(&path).unwrap();
        assert_eq!(holder(&path), Holder::Nobody);
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
        assert_eq!(holder(&path), Holder::Process(Some(std::process::id())));
        drop(file);
        assert_eq!(holder(&path), Holder::Nobody);
    }

    #[test]
    fn limits_time_and_swap_are_judged() {
        let limits = |memory: &str, open: &str, core: &str| {
            let text = format!(
                "Max core file size        {core}  0  bytes\nMax open files            {open}  9  files\n\
                 Max locked memory         {memory}  9  bytes\n"
            );
            judge_limits(&text, "here", 1_000).map(|check| check.state)
        };
        use State::{Failure, Good, Warning};
        assert_eq!(limits("65536", "1000", "0"), [Good, Good, Good]);
        assert_eq!(limits("65535", "999", "1"), [Failure, Warning, Failure]);
        assert_eq!(limits("unlimited", "unlimited", "unlimited"), [Good, Good, Failure]);
        let now = UnixMillis(1_760_000_000_000);
        assert_eq!(judge_time(now, now).state, Good);
        assert_eq!(judge_time(now, UnixMillis(now.0 + 2 * DAY)).state, Failure);
        assert_eq!(judge_time(UnixMillis(1), UnixMillis(0)).state, Failure);
        assert_eq!(swap("Filename Type\n").state, Good);
        assert_eq!(swap("Filename Type\n/swapfile file\n").state, Warning);
        assert_eq!(reachable("0.0.0.0:7".parse().unwrap()), "127.0.0.1:7".parse().unwrap());
        assert_eq!(reachable("[::]:7".parse().unwrap()), "[::1]:7".parse().unwrap());
        let worst = |states: &[State]| {
            let check =
                |state: &State| Check { what: "", state: *state, found: String::new(), advice: "" };
            Diagnosis(states.iter().map(check).collect()).worst()
        };
        assert_eq!(
            [worst(&[]), worst(&[Warning, Good]), worst(&[Failure, Warning])],
            [Good, Warning, Failure]
        );
    }
}

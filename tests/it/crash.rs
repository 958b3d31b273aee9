//! R1, R2, R3, R4: a worker process does mixed work under the write recorder; then every state that a crash could have
//! left is opened and compared with what the worker had been answered, and an independent reader tries every byte ever
//! written.

pub mod attack;
pub mod certified;
pub mod fate;
mod held;
mod images;
mod kept;
mod kill;
mod mutants;
pub mod named;
mod naming;
mod returned;
pub mod trees;
mod unanswered;
mod worker;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use lethe::keys::Sabotage;
use lethe::vault::EngineChoice;

/// The worker's name as a test of this binary, and what tells it that it is one.
const WORKER: &str = "crash::worker::work";
const WORKER_VAR: &str = "LETHE_TEST_WORKER";

/// What a worker is told, in one environment variable.
#[derive(Clone, Debug)]
pub struct Orders {
    dir: PathBuf,
    engine: &'static str,
    sabotage: &'static str,
    seed: u64,
    /// Operations per task.
    ops: u64,
    /// Seconds after which the worker stops by itself; 0: it stops when its operations are done.
    secs: u64,
}

impl Orders {
    fn new(dir: &Path, engine: &'static str, seed: u64, ops: u64) -> Self {
        Self { dir: dir.to_owned(), engine, sabotage: "none", seed, ops, secs: 0 }
    }

    fn encode(&self) -> String {
        let Self { dir, engine, sabotage, seed, ops, secs } = self;
        format!("{engine} {sabotage} {seed} {ops} {secs} {}", dir.display())
    }

    fn decode(text: &str) -> Option<Self> {
        let mut parts = text.splitn(6, ' ');
        let engine = parts.next()?;
        let sabotage = parts.next()?;
        Some(Self {
            engine: ["redb", "sled"].into_iter().find(|e| *e == engine)?,
            sabotage: SABOTAGES.iter().find(|(name, _)| *name == sabotage)?.0,
            seed: parts.next()?.parse().ok()?,
            ops: parts.next()?.parse().ok()?,
            secs: parts.next()?.parse().ok()?,
            dir: PathBuf::from(parts.next()?),
        })
    }

    fn engine(&self) -> EngineChoice {
        match self.engine {
            "sled" => EngineChoice::Sled,
            _ => EngineChoice::Redb,
        }
    }

    fn sabotage(&self) -> Sabotage {
        SABOTAGES.iter().find(|(n, _)| *n == self.sabotage).map_or(Sabotage::None, |s| s.1)
    }

    /// Starts the worker, under the recorder if a log is named.
    fn spawn(&self, log: Option<&Path>) -> Child {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", WORKER, "--nocapture", "--test-threads=1"])
            .env(WORKER_VAR, self.encode())
            .stdout(Stdio::null());
        if let Some(log) = log {
            command
                .env("LD_PRELOAD", recorder())
                .env("LETHE_REC_DIR", &self.dir)
                .env("LETHE_REC_LOG", log);
        }
        command.spawn().unwrap()
    }
}

const SABOTAGES: [(&str, Sabotage); 7] = [
    ("none", Sabotage::None),
    ("anchor-before-store", Sabotage::AnchorBeforeStore),
    ("skip-scrub", Sabotage::SkipScrub),
    ("reuse-node-key", Sabotage::ReuseNodeKey),
    ("keep-index-entry", Sabotage::KeepIndexEntry),
    ("keep-old-version", Sabotage::KeepOldVersion),
    ("delete-early", Sabotage::DeleteEarly),
];

/// Where cargo put what belongs to this build.
fn built(name: &str) -> Option<PathBuf> {
    let exe = std::env::current_exe().ok()?;
    let deps = exe.parent()?;
    [deps.parent()?.join(name), deps.join(name)].into_iter().find(|p| p.exists())
}

pub fn recorder() -> PathBuf {
    built("liblethe_recorder.so").expect("the recorder is a dev-dependency: cargo builds it")
}

/// The independent reader; built if it is not there.
fn oracle() -> PathBuf {
    built("lethe-oracle").unwrap_or_else(|| {
        let root = env!("CARGO_MANIFEST_DIR");
        let target = std::env::current_exe().unwrap();
        let target = target.ancestors().nth(3).unwrap().to_owned();
        let built_now = Command::new(env!("CARGO"))
            .args(["build", "--release", "-p", "lethe-oracle"])
            .current_dir(root)
            .env("CARGO_TARGET_DIR", target)
            .status();
        assert!(built_now.unwrap().success());
        built("lethe-oracle").unwrap()
    })
}

/// Sizes of the suites: those of a pull request, or of a release (`LETHE_SCALE=rel`).
pub fn scale(pr: usize, rel: usize) -> usize {
    if std::env::var("LETHE_SCALE").is_ok_and(|s| s == "rel") { rel } else { pr }
}

/// A directory in memory where there is one: crash images cost no disk.
pub fn scratch() -> tempfile::TempDir {
    let shm = Path::new("/dev/shm");
    let dir = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() };
    dir.unwrap()
}

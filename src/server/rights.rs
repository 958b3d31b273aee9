//! The rights in force, and how new ones take their place while the vault runs: the policy's file, and the identities
//! of the configuration.
//!
//! Guarantees: both are read whole, between two looks at their files that agree, and checked whole before they replace
//! the old ones together; what does not fit changes nothing, is told once for each problem, and is tried again when a
//! file changes. A decision that begins after the change is by the new rights.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

use super::material::Look;
use super::{Config, ServerError, Sources};
use crate::authz::{Authority, Binding, Policy};
use crate::limits;
use crate::metrics::Metrics;

/// The policy of a configuration; the vault's own if it names none.
pub fn policy_of(config: &Config) -> Result<Arc<Policy>, ServerError> {
    let Some(path) = &config.policy else {
        return Policy::built_in().map_err(|e| ServerError::Bindings(e.into()));
    };
    read_policy(path).map(Arc::new)
}

pub fn read_policy(path: &Path) -> Result<Policy, ServerError> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(ServerError::io(path))?;
    // One byte more than there may be, so that the policy says that it is too long.
    let most = limits::POLICY_FILE_BYTES_MAX as u64 + 1;
    file.take(most).read_to_end(&mut bytes).map_err(ServerError::io(path))?;
    let text = String::from_utf8(bytes).map_err(|_| {
        let source = std::io::Error::new(std::io::ErrorKind::InvalidData, "is not UTF-8");
        ServerError::Io { path: path.display().to_string(), source }
    })?;
    Policy::parse(&text)
        .map_err(|faults| ServerError::Policy { path: path.display().to_string(), faults })
}

/// The files that rights come from, and the decisions by them.
pub struct Rights {
    pub authority: Arc<Authority>,
    /// `None`: the configuration is no file, and nothing can change.
    files: Option<Files>,
    /// How the files looked before they were read.
    opened: Look,
}

#[derive(Clone, PartialEq, Eq)]
struct Files {
    config: PathBuf,
    /// What stands beside the configuration's file.
    beside: Sources,
    policy: Option<PathBuf>,
}

impl Files {
    fn of(config: &Config) -> Option<Self> {
        let (config_file, beside) = config.source.clone()?;
        Some(Self { config: config_file, beside, policy: config.policy.clone() })
    }

    fn look(&self) -> Look {
        Look::of([Some(self.config.clone()), self.policy.clone()].into_iter().flatten())
    }
}

impl Rights {
    pub fn open(config: &Config) -> Result<Self, ServerError> {
        let files = Files::of(config);
        let opened = files.as_ref().map(Files::look).unwrap_or_default();
        let policy = policy_of(config)?;
        tracing::info!(
            sha256 = policy.sha256(),
            built_in = config.policy.is_none(),
            "the policy in force"
        );
        let authority = Arc::new(Authority::with(policy, config.bindings.clone())?);
        Ok(Self { authority, files, opened })
    }

    /// Takes new rights whenever the files change, and at once when `reload` asks for it.
    pub async fn keep(self, metrics: Arc<Metrics>, reload: Arc<Notify>) {
        let Some(mut keeper) = Keeper::new(self, metrics) else { return };
        let mut tick = tokio::time::interval(limits::TLS_LOOK_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let asked = tokio::select! {
                _ = tick.tick() => false,
                () = reload.notified() => true,
            };
            let step = move || {
                keeper.step(asked);
                keeper
            };
            // Compiling takes a while, and file systems can hang; the threads that serve calls must not.
            keeper = match tokio::task::spawn_blocking(step).await {
                Ok(keeper) => keeper,
                Err(error) => {
                    tracing::error!(%error, "the files of rights are not looked at any more");
                    return;
                }
            };
        }
    }
}

/// What is known about the files.
struct Keeper {
    authority: Arc<Authority>,
    metrics: Arc<Metrics>,
    /// Those in force, and how they looked when they were read.
    files: Files,
    taken: Look,
    /// Those that are looked at: while they are refused, the ones that the new configuration names.
    wanted: Files,
    /// How they looked last.
    seen: Look,
    refused: Option<Refused>,
}

struct Refused {
    look: Look,
    at: Instant,
    problem: String,
}

impl Keeper {
    fn new(rights: Rights, metrics: Arc<Metrics>) -> Option<Self> {
        let Rights { authority, files, opened } = rights;
        let files = files?;
        Some(Self {
            authority,
            metrics,
            wanted: files.clone(),
            files,
            taken: opened.clone(),
            seen: opened,
            refused: None,
        })
    }

    /// One look; `asked` if somebody wants the files taken now, changed or not.
    fn step(&mut self, asked: bool) {
        let look = self.wanted.look();
        let settled = look == self.seen;
        self.seen = look.clone();
        if asked || self.is_due(&look, settled) {
            self.take(asked);
        }
    }

    fn take(&mut self, asked: bool) {
        // The configuration says which policy is looked at, and is read again once that is known.
        if let Ok(next) = Config::load(&self.files.config, &self.files.beside) {
            self.wanted.policy = next.policy;
        }
        self.take_as(self.wanted.look(), asked);
    }

    fn is_due(&mut self, look: &Look, settled: bool) -> bool {
        if self.files.look() == self.taken {
            // The files in force are back.
            if self.refused.take().is_some() {
                self.wanted = self.files.clone();
                self.metrics.notices.set("policy", None);
            }
            return false;
        }
        let tried = self.refused.as_ref().is_some_and(|refused| {
            refused.look == *look && refused.at.elapsed() < limits::TLS_RETRY
        });
        settled && !tried
    }

    /// `look` is how the files looked before.
    fn take_as(&mut self, look: Look, asked: bool) {
        let read = read(&self.wanted);
        // What changed while it was read may be half of one set and half of another: the next look decides.
        if self.wanted.look() != look {
            return;
        }
        self.seen = look.clone();
        let replaced = read.and_then(|(policy, bindings)| {
            self.authority.replace(policy, bindings).map_err(ServerError::from)
        });
        match replaced {
            Ok(in_force) => {
                (self.files, self.taken, self.refused) = (self.wanted.clone(), look, None);
                self.metrics.policy_reloads.one();
                self.metrics.notices.set("policy", None);
                tracing::info!(
                    epoch = in_force.epoch(),
                    sha256 = in_force.policy().sha256(),
                    "the policy and the identities were taken anew"
                );
            }
            Err(error) => self.refuse(look, &error, asked),
        }
    }

    fn refuse(&mut self, look: Look, error: &ServerError, asked: bool) {
        let problem = error.to_string();
        let again = self.refused.as_ref().is_some_and(|r| r.problem == problem);
        if asked || !again {
            self.metrics.policy_reloads_refused.one();
            tracing::warn!(%error, "new rights are refused; the old stay in force");
        }
        // Without the path, which is no caller's business.
        let what = match error {
            ServerError::Policy { faults, .. } => format!("policy.file: {faults}"),
            ServerError::Config { problems, .. } => format!("the configuration: {problems}"),
            ServerError::Io { source, .. } => format!("policy.file or the configuration: {source}"),
            other => other.to_string(),
        };
        self.metrics.notices.set("policy", Some(format!("{what}; the old rights stay in force")));
        self.refused = Some(Refused { look, at: Instant::now(), problem });
    }
}

fn read(files: &Files) -> Result<(Arc<Policy>, Vec<Binding>), ServerError> {
    let config = Config::load(&files.config, &files.beside)?;
    Ok((policy_of(&config)?, config.bindings))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::BUILT_IN_POLICY;

    const CONFIG: &str = r#"
listen = "127.0.0.1:7443"
data = "data"
kek.file = "kek"
tls = { cert = "c", key = "k", client_ca = "ca", trust_domain = "test" }
policy.file = "policy.cedar"
identity = [{ uri = "spiffe://test/application", role = "application", tenants = ["*"] }]
"#;

    struct Bench {
        dir: tempfile::TempDir,
        keeper: Keeper,
    }

    impl Bench {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("lethed.toml"), CONFIG).unwrap();
            std::fs::write(dir.path().join("policy.cedar"), BUILT_IN_POLICY).unwrap();
            let config =
                Config::load(&dir.path().join("lethed.toml"), &Sources::default()).unwrap();
            let rights = Rights::open(&config).unwrap();
            let keeper = Keeper::new(rights, Arc::default()).unwrap();
            Self { dir, keeper }
        }

        fn put(&self, name: &str, text: &str) {
            let fresh = self.dir.path().join("fresh");
            std::fs::write(&fresh, text).unwrap();
            std::fs::rename(fresh, self.dir.path().join(name)).unwrap();
        }

        /// The epoch in force after a look at the files.
        fn step(&mut self, asked: bool) -> u64 {
            self.keeper.step(asked);
            self.keeper.authority.in_force().epoch()
        }

        fn refused(&self) -> u64 {
            self.keeper.metrics.policy_reloads_refused.value()
        }
    }

    #[test]
    fn a_change_is_taken_when_two_looks_agree_and_at_once_when_asked_for() {
        let mut bench = Bench::new();
        assert_eq!((bench.step(false), bench.step(false)), (0, 0), "nothing changed");
        for name in ["policy.cedar", "lethed.toml"] {
            let text = std::fs::read_to_string(bench.dir.path().join(name)).unwrap();
            let before = bench.step(false);
            bench.put(name, &text);
            assert_eq!(bench.step(false), before, "it may still be written");
            bench.put(name, &text);
            assert_eq!(bench.step(false), before, "it was");
            assert_eq!(bench.step(false), before + 1);
            assert_eq!(bench.step(false), before + 1);
        }
        assert_eq!(bench.step(true), 3, "changed or not");
        assert_eq!(bench.keeper.metrics.policy_reloads.value(), 3);
    }

    #[test]
    fn what_was_refused_is_told_once_and_forgotten_when_the_old_files_are_back() {
        let mut bench = Bench::new();
        let dir = bench.dir.path().to_owned();
        std::fs::write(dir.join("good"), BUILT_IN_POLICY).unwrap();
        std::fs::write(dir.join("bad"), "permit (principal, action, resource);").unwrap();
        let point_to = |name: &str| {
            std::os::unix::fs::symlink(name, dir.join("link")).unwrap();
            std::fs::rename(dir.join("link"), dir.join("policy.cedar")).unwrap();
        };
        point_to("good");
        assert_eq!(bench.step(true), 1);
        point_to("bad");
        for _ in 0..4 {
            assert_eq!(bench.step(false), 1);
        }
        assert_eq!((bench.refused(), bench.keeper.metrics.notices.list().len()), (1, 1));
        let tried = |bench: &Bench| bench.keeper.refused.as_ref().unwrap().at;
        let first = tried(&bench);
        bench.step(false);
        assert_eq!(tried(&bench), first, "files that did not change are not compiled each second");
        std::fs::copy(dir.join("bad"), dir.join("as-bad")).unwrap();
        point_to("as-bad");
        for _ in 0..4 {
            bench.step(false);
        }
        assert_ne!(tried(&bench), first);
        assert_eq!(bench.refused(), 1, "the same problem is told once");
        let told = &bench.keeper.metrics.notices.list()[0];
        assert!(!told.contains(dir.to_str().unwrap()), "{told}");
        assert_eq!((bench.step(true), bench.refused()), (1, 2), "who asks is told again");
        point_to("good");
        assert_eq!((bench.step(false), bench.step(false)), (1, 1), "they are in force already");
        assert_eq!(bench.keeper.metrics.notices.list(), [] as [String; 0]);
    }

    #[test]
    fn what_changes_while_it_is_read_is_not_taken() {
        let mut bench = Bench::new();
        let look = bench.keeper.wanted.look();
        bench.put("policy.cedar", BUILT_IN_POLICY);
        bench.keeper.take_as(look, true);
        assert_eq!(bench.step(false), 0);
        assert_eq!(bench.step(false), 1);
    }

    #[test]
    fn a_start_with_a_bad_policy_is_refused() {
        let bench = Bench::new();
        bench.put("policy.cedar", "permit (principal, action, resource);");
        let config =
            Config::load(&bench.dir.path().join("lethed.toml"), &Sources::default()).unwrap();
        let refused = Rights::open(&config).err().unwrap().to_string();
        assert!(refused.contains("policy.cedar: line 1: permits it to everybody"), "{refused}");
        std::fs::write(bench.dir.path().join("policy.cedar"), [0xff]).unwrap();
        let refused = Rights::open(&config).err().unwrap().to_string();
        assert!(refused.ends_with("policy.cedar: is not UTF-8"), "{refused}");
        std::fs::remove_file(bench.dir.path().join("policy.cedar")).unwrap();
        assert!(matches!(Rights::open(&config), Err(ServerError::Io { .. })));
    }
}

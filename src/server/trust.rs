//! The credentials in force, and how new ones take their place while the vault runs.
//!
//! Guarantees: a new set is read whole, between two looks at the files that agree, and checked whole before it replaces
//! the old one; a set that does not fit changes nothing, is told once for each problem, and is tried again when a file
//! changes. Each set has an epoch, so that a connection can see for the price of a load that it was judged by another.
//!
//! The files are looked at every second instead of being watched: a link swapped far above a file, a network file
//! system and a bind mount change what a path means without any event at the file, and a look needs no other crate.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

use super::crl::Lists;
use super::material::{Look, Material};
use super::tls::Credentials;
use super::{ServerError, TlsFiles};
use crate::clock::Clock;
use crate::limits;
use crate::metrics::Metrics;

/// The credentials in force.
pub struct Trust {
    files: TlsFiles,
    clock: Arc<dyn Clock>,
    in_force: RwLock<(u64, Arc<Credentials>)>,
    /// That of `in_force`.
    epoch: AtomicU64,
    /// How the files looked when they were read.
    opened: Look,
}

impl Trust {
    pub fn open(files: &TlsFiles, clock: Arc<dyn Clock>) -> Result<Self, ServerError> {
        let opened = Look::at(files);
        let material = Material::read(files)?;
        let first = Credentials::check(files, &material, Arc::clone(&clock), &Lists::default())?;
        let in_force = RwLock::new((0, Arc::new(first)));
        Ok(Self { files: files.clone(), clock, in_force, epoch: AtomicU64::new(0), opened })
    }

    /// The number of the set in force.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// The set in force and its number.
    pub fn in_force(&self) -> (u64, Arc<Credentials>) {
        self.in_force.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, credentials: Credentials) {
        let mut in_force = self.in_force.write().unwrap_or_else(PoisonError::into_inner);
        let epoch = in_force.0.saturating_add(1);
        *in_force = (epoch, Arc::new(credentials));
        self.epoch.store(epoch, Ordering::Release);
    }

    /// Takes a new set whenever the files change, and at once when `reload` asks for it.
    pub async fn keep(self: Arc<Self>, metrics: Arc<Metrics>, reload: Arc<Notify>) {
        let mut keeper = Keeper {
            taken: self.opened.clone(),
            seen: self.opened.clone(),
            refused: None,
            trust: self,
            metrics,
        };
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
            // File systems can hang; the threads that serve calls must not. A panic ends the watch, and says so.
            keeper = match tokio::task::spawn_blocking(step).await {
                Ok(keeper) => keeper,
                Err(error) => {
                    tracing::error!(%error, "the door's files are not looked at any more");
                    return;
                }
            };
        }
    }
}

/// What is known about the files.
struct Keeper {
    trust: Arc<Trust>,
    metrics: Arc<Metrics>,
    /// How they looked when the set in force was read.
    taken: Look,
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
    /// One look; `asked` if somebody wants the files taken now, changed or not.
    fn step(&mut self, asked: bool) {
        let look = Look::at(&self.trust.files);
        let settled = look == self.seen;
        self.seen = look.clone();
        if asked || self.is_due(&look, settled) {
            self.take(look, asked);
        }
        let (_, credentials) = self.trust.in_force();
        for (topic, text) in credentials.ending(self.trust.clock.now()) {
            self.tell(topic, text);
        }
    }

    fn is_due(&mut self, look: &Look, settled: bool) -> bool {
        if *look == self.taken {
            // The files in force are back.
            if self.refused.take().is_some() {
                self.tell("tls", None);
            }
            return false;
        }
        let tried = self.refused.as_ref().is_some_and(|refused| {
            refused.look == *look && refused.at.elapsed() < limits::TLS_RETRY
        });
        settled && !tried
    }

    fn take(&mut self, look: Look, asked: bool) {
        let trust = &self.trust;
        let (_, before) = trust.in_force();
        let checked = Material::read(&trust.files).and_then(|material| {
            Credentials::check(&trust.files, &material, Arc::clone(&trust.clock), &before.lists)
        });
        // What changed while it was read may be half of one set and half of another: the next look decides.
        if Look::at(&trust.files) != look {
            return;
        }
        match checked {
            Ok(credentials) => {
                trust.replace(credentials);
                (self.taken, self.refused) = (look, None);
                self.metrics.tls_reloads.one();
                self.tell("tls", None);
                tracing::info!("the door's certificate, authorities and lists were taken anew");
            }
            Err(error) => {
                let problem = error.to_string();
                let again = self.refused.as_ref().is_some_and(|r| r.problem == problem);
                if asked || !again {
                    self.metrics.tls_reloads_refused.one();
                    tracing::warn!(%error, "the door's new files are refused; the old stay in force");
                }
                let key = match error {
                    ServerError::Tls { key, problem, .. } => format!("{key}: {problem}"),
                    other => other.to_string(),
                };
                let text = format!("{key}; the old files stay in force");
                self.refused = Some(Refused { look, at: Instant::now(), problem });
                self.metrics.notices.set("tls", Some(text));
            }
        }
    }

    /// Says it in the status, and in the log when the sentence is new.
    fn tell(&self, topic: &'static str, text: Option<String>) {
        if self.metrics.notices.set(topic, text.clone())
            && let Some(text) = text
        {
            tracing::warn!("{text}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::authz::{Principal, TrustDomain};
    use crate::clock::{ManualClock, UnixMillis};
    use crate::pki::{Ca, LEAF_LIFE, Purpose};

    const NOW: UnixMillis = UnixMillis(1_750_000_000_000);

    /// A new certificate and key of the server, as a careless writer would write them.
    fn renew(dir: &Path, ca: &Ca) {
        let lethed = Principal::parse("spiffe://test/lethed").unwrap();
        let server = Purpose::Server { dns: vec![], ips: vec![] };
        for ending in ["pem", "key"] {
            let _ = std::fs::remove_file(dir.join(format!("server.{ending}")));
        }
        ca.issue(&lethed, &server, NOW, LEAF_LIFE).unwrap().write(dir, "server").unwrap();
    }

    fn keeper(dir: &Path, ca: &Ca) -> Keeper {
        ca.write(dir).unwrap();
        renew(dir, ca);
        let files = TlsFiles {
            cert: dir.join("server.pem"),
            key: dir.join("server.key"),
            client_ca: dir.join("ca.pem"),
            crl: None,
            trust_domain: TrustDomain::parse("test").unwrap(),
        };
        let trust = Arc::new(Trust::open(&files, Arc::new(ManualClock::at(NOW))).unwrap());
        Keeper {
            taken: trust.opened.clone(),
            seen: trust.opened.clone(),
            refused: None,
            trust,
            metrics: Arc::default(),
        }
    }

    #[test]
    fn a_change_is_taken_when_two_looks_agree_and_at_once_when_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::new("authority", NOW).unwrap();
        let mut keeper = keeper(dir.path(), &ca);
        keeper.step(false);
        assert_eq!(keeper.trust.epoch(), 0, "nothing changed");
        renew(dir.path(), &ca);
        keeper.step(false);
        assert_eq!(keeper.trust.epoch(), 0, "it may still be written");
        renew(dir.path(), &ca);
        keeper.step(false);
        assert_eq!(keeper.trust.epoch(), 0, "it was");
        keeper.step(false);
        assert_eq!(keeper.trust.epoch(), 1);
        keeper.step(false);
        assert_eq!(keeper.trust.epoch(), 1);
        renew(dir.path(), &ca);
        keeper.step(true);
        assert_eq!((keeper.trust.epoch(), keeper.trust.in_force().0), (2, 2));
        keeper.step(true);
        assert_eq!(keeper.trust.epoch(), 3, "changed or not");
    }

    #[test]
    fn what_changes_while_it_is_read_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::new("authority", NOW).unwrap();
        let mut keeper = keeper(dir.path(), &ca);
        let look = Look::at(&keeper.trust.files);
        renew(dir.path(), &ca);
        keeper.take(look, true);
        assert_eq!(keeper.trust.epoch(), 0);
        keeper.step(false);
        keeper.step(false);
        assert_eq!(keeper.trust.epoch(), 1);
    }

    #[test]
    fn what_was_refused_is_forgotten_when_the_old_files_are_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut keeper = keeper(dir.path(), &Ca::new("authority", NOW).unwrap());
        let (key, away) = (dir.path().join("server.key"), dir.path().join("away"));
        std::fs::hard_link(&key, &away).unwrap();
        keeper.step(true);
        std::fs::write(dir.path().join("other"), "no key").unwrap();
        std::fs::rename(dir.path().join("other"), &key).unwrap();
        let refused = |keeper: &Keeper| keeper.metrics.tls_reloads_refused.value();
        for _ in 0..4 {
            keeper.step(false);
        }
        assert_eq!((refused(&keeper), keeper.metrics.notices.list().len()), (1, 1));
        keeper.step(true);
        assert_eq!(refused(&keeper), 2, "who asks is told again");
        std::fs::rename(&away, &key).unwrap();
        keeper.step(false);
        keeper.step(false);
        assert_eq!(keeper.metrics.notices.list(), [] as [String; 0]);
    }
}

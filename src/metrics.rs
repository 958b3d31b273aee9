//! Counters since the start, and notices to the operator. Names are fixed here; nothing personal can get into one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Every counter of a vault.
        #[derive(Debug, Default)]
        pub struct Metrics {
            $($(#[$doc])* pub $name: Counter,)*
            /// What needs an operator's attention now.
            pub notices: Notices,
        }

        impl Metrics {
            /// Name and value of each, in the order of their declaration.
            pub fn snapshot(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.value()),)*]
            }
        }
    };
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub fn one(&self) {
        self.add(1);
    }

    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Sentences that hold until they are taken back, one for each topic.
#[derive(Debug, Default)]
pub struct Notices(Mutex<BTreeMap<&'static str, String>>);

impl Notices {
    /// `None` takes back what was said of the topic. Returns whether anything changed.
    pub fn set(&self, topic: &'static str, text: Option<String>) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match &text {
            Some(text) => all.insert(topic, text.clone()),
            None => all.remove(topic),
        };
        before != text
    }

    pub fn list(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

counters!(
    /// Records and subjects created.
    creates,
    /// Records returned.
    reads,
    /// Records updated.
    updates,
    /// Record versions whose keys were destroyed.
    units_erased,
    /// Buckets whose key was destroyed.
    buckets_erased,
    /// Anchor generations written.
    generations,
    /// Key pages created.
    pages_created,
    /// Index runs written.
    runs_written,
    /// Indexes of a bucket made anew because a node was lost.
    indexes_rebuilt,
    /// Rows that did not authenticate.
    damaged_rows,
    /// Node rows taken from the journal because the store lacked or damaged them.
    journal_rescues,
    /// Connections accepted.
    connections,
    /// Connections refused before a call (handshake, certificate, limits).
    connections_refused,
    /// Connections refused because their identity had as many as it may.
    identity_connections_refused,
    /// Connections that ended because of their age.
    connections_aged,
    /// Calls refused because their certificate had expired, was revoked or lost its authority.
    calls_unauthenticated,
    /// Calls refused because their identity made too many.
    calls_limited,
    /// Times that the door's certificate, authorities and revocation lists were taken anew.
    tls_reloads,
    /// Times that they were refused, the old ones staying in force.
    tls_reloads_refused,
    /// Times that the policy and the identities were taken anew.
    policy_reloads,
    /// Times that they were refused, the old ones staying in force.
    policy_reloads_refused,
    /// Calls refused for lack of a right.
    calls_denied,
    /// Calls that ended in an error of the vault's own.
    calls_failed,
);

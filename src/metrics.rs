//! Counters since the start. Names are fixed here; nothing personal can get into one.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Every counter of a vault.
        #[derive(Debug, Default)]
        pub struct Metrics {
            $($(#[$doc])* pub $name: Counter,)*
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
    /// Calls refused for lack of a right.
    calls_denied,
    /// Calls that ended in an error of the vault's own.
    calls_failed,
);

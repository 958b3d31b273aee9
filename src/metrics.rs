//! Counters since the start, how long calls took, and notices to the operator. Names are fixed in the code; nothing
//! personal can get into one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident),* $(,)?) => {
        /// Every counter of a vault.
        #[derive(Debug, Default)]
        pub struct Metrics {
            $($(#[doc = $doc])* pub $name: Counter,)*
            /// Connections that are open.
            pub connections_open: Level,
            /// By method and code.
            pub calls: CallTimes,
            /// What needs an operator's attention now.
            pub notices: Notices,
        }

        impl Metrics {
            /// Name and value of each, in the order of their declaration.
            pub fn snapshot(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.value()),)*]
            }

            /// Name, what it counts, and value of each.
            pub fn described(&self) -> Vec<(&'static str, &'static str, u64)> {
                vec![$((stringify!($name), concat!($($doc),*).trim(), self.$name.value()),)*]
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

/// A number of things that are there now.
#[derive(Debug, Default)]
pub struct Level(Arc<AtomicU64>);

/// One of them; it is not there any more when it is dropped.
#[derive(Debug)]
pub struct Present(Arc<AtomicU64>);

impl Level {
    pub fn enter(&self) -> Present {
        self.0.fetch_add(1, Ordering::Relaxed);
        Present(Arc::clone(&self.0))
    }

    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Upper bounds of the buckets of [`CallTimes`].
pub const CALL_BOUNDS_MICROS: [u64; 11] =
    [500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000, 1_000_000, 5_000_000];

/// How long calls took until their first answer. As many histograms as there are methods and codes at most, since both
/// are names of the code.
#[derive(Debug, Default)]
pub struct CallTimes(RwLock<BTreeMap<Labels, Arc<Times>>>);

/// Method and code.
pub type Labels = (&'static str, &'static str);

#[derive(Debug, Default)]
struct Times {
    buckets: [AtomicU64; CALL_BOUNDS_MICROS.len()],
    above: AtomicU64,
    micros: AtomicU64,
}

/// The times of one method and code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Histogram {
    /// Of each bound, those that were above the one before.
    pub buckets: [u64; CALL_BOUNDS_MICROS.len()],
    pub above: u64,
    /// All together.
    pub micros: u64,
}

impl CallTimes {
    pub fn add(&self, labels: Labels, took: Duration) {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&labels).cloned();
        let times = known.unwrap_or_else(|| {
            let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(all.entry(labels).or_default())
        });
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let fits = CALL_BOUNDS_MICROS.iter().zip(&times.buckets).find(|(max, _)| micros <= **max);
        fits.map_or(&times.above, |(_, bucket)| bucket).fetch_add(1, Ordering::Relaxed);
        times.micros.fetch_add(micros, Ordering::Relaxed);
    }

    pub fn snapshot(&self) -> Vec<(Labels, Histogram)> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let value = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let histogram = |times: &Times| Histogram {
            buckets: std::array::from_fn(|at| times.buckets.get(at).map_or(0, value)),
            above: value(&times.above),
            micros: value(&times.micros),
        };
        all.iter().map(|(labels, times)| (*labels, histogram(times))).collect()
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
    /// Records that went with them.
    records_erased_with_buckets,
    /// Records moved to the bucket that the retention rules want.
    records_moved,
    /// Legal holds placed.
    holds_placed,
    /// Legal holds that ended.
    holds_ended,
    /// Records moved out of a bucket that was to go, since a legal hold keeps them.
    records_held_back,
    /// Erasures that were postponed because of a legal hold.
    erasures_postponed,
    /// Uses of records that were forgotten, since too many waited.
    uses_forgotten,
    /// Times that a bucket could not be closed or killed, or a record not be moved.
    keeper_failures,
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
    /// Entries that the audit log was given.
    audit_entries,
    /// Calls refused because the audit log had no room.
    audit_refused,
    /// Tails of the audit log that were begun.
    audit_tails,
    /// Blocks of the audit log whose subjects were indexed.
    audit_blocks_indexed,
    /// Times that the index of the audit log could not be brought on.
    audit_index_failures,
    /// Entries of the audit log that went by its own retention.
    audit_entries_pruned,
    /// Tiles of the logs that were written to their files.
    log_tiles_written,
    /// Tiles of the logs that were missing or damaged, and were made anew.
    log_tiles_rebuilt,
    /// Tiles of the logs that could not be written; they are made again when they are asked for.
    log_tiles_unwritten,
    /// Proofs of inclusion or consistency that were given.
    log_proofs,
    /// Checkpoints of the logs that were signed.
    checkpoints_signed,
    /// Certificates of destruction that were issued.
    certificates_issued,
    /// Cosignatures of witnesses that were kept.
    cosignatures_kept,
    /// Times that the policy and the identities were taken anew.
    policy_reloads,
    /// Times that they were refused, the old ones staying in force.
    policy_reloads_refused,
    /// Calls refused for lack of a right.
    calls_denied,
    /// Calls that ended in an error of the vault's own.
    calls_failed,
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_in_the_bucket_of_the_first_bound_that_is_not_below_it() {
        let times = CallTimes::default();
        for micros in [0, 500, 501, 5_000_000, 5_000_001] {
            times.add(("m", "OK"), Duration::from_micros(micros));
        }
        times.add(("m", "INTERNAL"), Duration::from_millis(1));
        let [(internal, one), (ok, five)] = times.snapshot().try_into().unwrap();
        assert_eq!((internal, one.buckets[1], one.micros), (("m", "INTERNAL"), 1, 1_000));
        assert_eq!((ok, five.above, five.micros), (("m", "OK"), 1, 10_001_002));
        assert_eq!(five.buckets, [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn a_level_falls_when_what_was_there_is_dropped() {
        let level = Level::default();
        let (one, two) = (level.enter(), level.enter());
        assert_eq!(level.value(), 2);
        drop(one);
        assert_eq!(level.value(), 1);
        drop(two);
        assert_eq!(level.value(), 0);
    }
}

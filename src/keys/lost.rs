//! Nodes that are neither in the store nor in the node journal, remembered for a moment: who asks for one again and
//! again has neither the journal searched nor the committer waited for each time, which would hold up everyone else.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A disk that failed once is asked again after it.
const LIFE: Duration = Duration::from_secs(1);
/// Beyond it none is remembered.
const NODES_MAX: usize = 1024;

/// By the keys of their rows.
#[derive(Default)]
pub(super) struct Lost(Mutex<HashMap<Vec<u8>, Instant>>);

impl Lost {
    fn lock(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn has(&self, key: &[u8]) -> bool {
        self.lock().get(key).is_some_and(|since| since.elapsed() < LIFE)
    }

    pub(super) fn add(&self, key: &[u8]) {
        let mut nodes = self.lock();
        nodes.retain(|_, since| since.elapsed() < LIFE);
        if nodes.len() < NODES_MAX {
            nodes.insert(key.to_vec(), Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_remembered_than_their_bound_and_none_for_long() {
        let lost = Lost::default();
        let keys: Vec<Vec<u8>> = (0..=NODES_MAX).map(|n| n.to_be_bytes().to_vec()).collect();
        keys.iter().for_each(|key| lost.add(key));
        assert!(lost.has(&keys[0]) && lost.has(&keys[NODES_MAX - 1]));
        assert!(!lost.has(&keys[NODES_MAX]));
        std::thread::sleep(LIFE);
        assert!(!keys.iter().any(|key| lost.has(key)));
        lost.add(&keys[NODES_MAX]);
        assert!(lost.has(&keys[NODES_MAX]) && lost.lock().len() == 1);
    }
}

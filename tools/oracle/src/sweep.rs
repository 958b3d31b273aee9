//! Guesses keys: every distinct 32-byte window of what is known is tried against chosen records.
//!
//! The structured closure only follows keys where the format puts them. This finds a key that has been left
//! anywhere else: in a log, in a page of the store that was never meant to hold it, inside another plaintext.

use crate::closure::Closure;
use crate::crypto::{self, Key};
use crate::scan::{Rows, Watcher};
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

/// Tries windows against the sealed rows of the target records.
pub struct Sweep<'a> {
    rows: &'a Rows,
    targets: Vec<usize>,
    vaults: Vec<[u8; 16]>,
    tried: HashSet<u64>,
    hasher: RandomState,
    most: usize,
    /// True once windows were left out because of the bound.
    pub bound_hit: bool,
    /// Rows that a window opened: index into the record rows, plaintext, and where the window stood.
    pub opened: Vec<(usize, Vec<u8>, String)>,
}

impl<'a> Sweep<'a> {
    /// Aims at the record rows of `targets` that `closure` has not opened; at most `most` windows.
    pub fn new(rows: &'a Rows, closure: &Closure, targets: &[[u8; 16]], most: usize) -> Self {
        let sealed = rows.records.iter().zip(&closure.records).enumerate();
        let aimed = sealed.filter(|(_, (r, plain))| plain.is_none() && targets.contains(&r.record));
        Sweep {
            rows,
            targets: aimed.map(|(i, _)| i).collect(),
            vaults: closure.vaults().to_vec(),
            tried: HashSet::new(),
            hasher: RandomState::new(),
            most,
            bound_hit: false,
            opened: Vec::new(),
        }
    }

    /// Number of sealed rows aimed at.
    pub fn aimed(&self) -> usize {
        self.targets.len() + self.opened.len()
    }

    /// Number of distinct windows tried.
    pub fn tried(&self) -> usize {
        self.tried.len()
    }

    /// Tries every window of `bytes`.
    pub fn bytes(&mut self, source: &str, bytes: &[u8]) {
        for window in bytes.windows(32) {
            if self.targets.is_empty() {
                return;
            }
            let Ok(key) = Key::try_from(window) else {
                continue;
            };
            if self.tried.len() >= self.most {
                self.bound_hit |= !self.tried.contains(&self.hasher.hash_one(key));
                return;
            }
            if self.tried.insert(self.hasher.hash_one(key)) {
                self.attempt(source, &key);
            }
        }
    }

    fn attempt(&mut self, source: &str, key: &Key) {
        let derived = crypto::chunk_key(key);
        let (rows, vaults, opened) = (self.rows, &self.vaults, &mut self.opened);
        self.targets.retain(|i| {
            let Some(row) = rows.records.get(*i) else {
                return false;
            };
            let plain = vaults.iter().find_map(|v| {
                let second = || (row.chunk > 0).then(|| row.open_raw(v, &derived)).flatten();
                row.open_raw(v, key).or_else(second)
            });
            match plain {
                Some(plain) => {
                    opened.push((*i, plain, source.to_owned()));
                    false
                }
                None => true,
            }
        });
    }
}

impl Watcher for Sweep<'_> {
    fn margin(&self) -> usize {
        31
    }

    fn window(&mut self, source: &str, offset: u64, bytes: &[u8]) {
        if !self.targets.is_empty() {
            self.bytes(&format!("{source} at {offset}"), bytes);
        }
    }
}

//! Guesses keys: every distinct 32-byte window of what is known is tried against chosen records.
//!
//! The structured closure only follows keys where the format puts them. This finds a key that has been left
//! anywhere else: in a log, in a page of the store that was never meant to hold it, inside another plaintext.
//! A record falls with its DEK and with the key of any node above it, so both kinds of row are aimed at.

use crate::closure::Closure;
use crate::crypto::{self, Key};
use crate::encoding::{hex, uuid};
use crate::format::{Kid, NodeRow, RecordRow};
use crate::path::{Path, kind_name};
use crate::scan::{Rows, Watcher};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

#[derive(Clone, Copy)]
enum Target<'a> {
    Record(usize, &'a RecordRow),
    Node(&'a NodeRow),
}

impl Target<'_> {
    fn open(&self, vaults: &[[u8; 16]], key: &Key, derived: &Key) -> Option<Vec<u8>> {
        vaults.iter().find_map(|v| match self {
            Target::Record(_, row) if row.chunk > 0 => {
                row.open_raw(v, key).or_else(|| row.open_raw(v, derived))
            }
            Target::Record(_, row) => row.open_raw(v, key),
            Target::Node(row) => row.open(v, key),
        })
    }
}

/// A row that a window opened, and where the window stood.
struct Hit<'a> {
    target: Target<'a>,
    key: Key,
    plain: Vec<u8>,
    source: String,
}

/// Tries windows against the sealed rows of the target records.
pub struct Sweep<'a> {
    targets: Vec<Target<'a>>,
    vaults: Vec<[u8; 16]>,
    tried: HashSet<u64>,
    hasher: RandomState,
    most: usize,
    /// True once windows were left out because of the bound.
    bound_hit: bool,
    hits: Vec<Hit<'a>>,
}

impl<'a> Sweep<'a> {
    /// Aims at the rows of `records`, and of the nodes above them, that `closure` has not opened; tries at
    /// most `most` distinct windows.
    pub fn new(rows: &'a Rows, closure: &Closure, records: &[[u8; 16]], most: usize) -> Self {
        let wanted = rows.records.iter().zip(&closure.records).enumerate();
        let wanted: Vec<(usize, &RecordRow)> = wanted
            .filter(|(_, (r, plain))| plain.is_none() && records.contains(&r.record))
            .map(|(i, (r, _))| (i, r))
            .collect();
        let kids: HashSet<Kid> = wanted.iter().map(|(_, r)| r.kid).collect();
        let nodes = rows.nodes.iter().zip(&closure.nodes);
        let above = nodes.filter(|(node, plain)| {
            let path = Path::parse(&node.path).unwrap_or_default();
            plain.is_none() && kids.iter().any(|kid| path.leads_to(kid))
        });
        let targets = wanted.iter().map(|(i, r)| Target::Record(*i, r));
        Sweep {
            targets: targets.chain(above.map(|(node, _)| Target::Node(node))).collect(),
            vaults: closure.vaults().to_vec(),
            tried: HashSet::new(),
            hasher: RandomState::new(),
            most,
            bound_hit: false,
            hits: Vec::new(),
        }
    }

    /// Whether a window opened anything.
    pub fn has_hits(&self) -> bool {
        !self.hits.is_empty()
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
        let (vaults, hits) = (&self.vaults, &mut self.hits);
        self.targets.retain(|target| match target.open(vaults, key, &derived) {
            Some(plain) => {
                hits.push(Hit { target: *target, key: *key, plain, source: source.to_owned() });
                false
            }
            None => true,
        });
    }

    /// Hands the finds to the closure, which follows them to their end.
    pub fn feed(&self, closure: &mut Closure) {
        for hit in &self.hits {
            match hit.target {
                Target::Record(i, _) => {
                    if let Some(slot) = closure.records.get_mut(i) {
                        *slot = Some(hit.plain.clone());
                    }
                }
                Target::Node(row) => {
                    closure.follow(Path::parse(&row.path).unwrap_or_default(), hit.key)
                }
            }
        }
        closure.run();
    }

    /// The finds and the extent of the search.
    pub fn json(&self) -> Value {
        let hit = |hit: &Hit| match hit.target {
            Target::Record(_, r) => {
                json!({"record": uuid(&r.record), "rec_ver": r.rec_ver, "kid": hex(&r.kid),
                "chunk": r.chunk, "key_found_in": hit.source})
            }
            Target::Node(n) => {
                let [kind, ..] = n.path;
                json!({"node": kind_name(kind), "path": hex(&n.path), "ver": format!("{:016x}", n.ver),
                    "gen": n.gen_, "key_found_in": hit.source})
            }
        };
        let records = |targets: &mut dyn Iterator<Item = &Target>| {
            targets.filter(|t| matches!(t, Target::Record(..))).count()
        };
        let all = self.targets.len() + self.hits.len();
        let of_records =
            records(&mut self.targets.iter()) + records(&mut self.hits.iter().map(|h| &h.target));
        json!({"aimed_at_records": of_records, "aimed_at_nodes": all - of_records,
            "windows_tried": self.tried.len(), "bound_hit": self.bound_hit,
            "opened": self.hits.iter().map(hit).collect::<Vec<_>>()})
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

//! A change of the tree, worked out aside: which nodes change, and the rows that result.
//!
//! Invariants: in `Rekey` mode touching a node touches all its ancestors, and each gets a fresh key and version; in
//! `Grow` mode nothing is ever removed and each present node keeps its key. New nodes always have fresh keys.

use std::collections::BTreeMap;

use super::KeyError;
use super::batch::Sabotage;
use super::dir::Dir;
use super::node::{Body, Entry, Opened, seal};
use super::path::{ChildKey, NodeKind, Path};
use super::tree::Reader;
use crate::id::{Gen, VaultId};

/// Whether keys may leave nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Grow,
    Rekey,
}

struct Touched {
    body: Body,
    entry: Entry,
    /// Version of the row that this one replaces.
    old_ver: Option<u64>,
    /// Where the key stays as it is: the generation that it was made with.
    made: Option<Gen>,
}

/// The change.
pub struct Plan<'a> {
    reader: &'a Reader<'a>,
    mode: Mode,
    sabotage: Sabotage,
    touched: BTreeMap<Path, Touched>,
    obsolete: Vec<Vec<u8>>,
    vanished: Vec<Path>,
}

/// What a change amounts to.
pub struct Outcome {
    /// Rows to write, in key order.
    pub rows: Vec<(Vec<u8>, Vec<u8>)>,
    /// Keys of the rows that they replace, in key order. Empty when growing.
    pub obsolete: Vec<Vec<u8>>,
    /// Each written node as the cache takes it.
    pub nodes: Vec<(Path, Opened)>,
    /// Nodes that are no more.
    pub vanished: Vec<Path>,
    /// The root's new version and key, when re-keying.
    pub root: Option<Entry>,
}

/// An empty directory body with this head.
pub fn empty_dir(head: &[u8]) -> Body {
    Body::Dir(Dir::new(head))
}

impl<'a> Plan<'a> {
    pub fn new(reader: &'a Reader<'a>, mode: Mode, sabotage: Sabotage) -> Self {
        Self {
            reader,
            mode,
            sabotage,
            touched: BTreeMap::new(),
            obsolete: Vec::new(),
            vanished: Vec::new(),
        }
    }

    /// The generation of the tree that the plan changes.
    pub fn generation(&self) -> Gen {
        self.reader.generation()
    }

    /// The body of an existing node, to be changed.
    pub fn touch(&mut self, path: &Path) -> Result<&mut Body, KeyError> {
        if !self.touched.contains_key(path) {
            if self.mode == Mode::Rekey
                && let Some((parent, _)) = path.parent()
            {
                self.touch(&parent)?;
            }
            let present = self.reader.entry(path)?;
            let body = self.reader.body(path)?;
            let old_ver = (self.mode == Mode::Rekey).then_some(present.ver);
            let made = match self.mode {
                Mode::Grow => Some(self.reader.node(path)?.made),
                Mode::Rekey => None,
            };
            let entry = match self.mode {
                Mode::Grow => present,
                Mode::Rekey if self.sabotage == Sabotage::ReuseNodeKey => {
                    Entry { key: present.key, ..Entry::fresh() }
                }
                Mode::Rekey => Entry::fresh(),
            };
            self.touched.insert(*path, Touched { body, entry, old_ver, made });
        }
        self.touched.get_mut(path).map(|t| &mut t.body).ok_or(KeyError::Damaged(path.kind))
    }

    /// The body of a directory or owner, to be changed.
    pub fn dir(&mut self, path: &Path) -> Result<&mut Dir, KeyError> {
        match self.touch(path)? {
            Body::Dir(dir) => Ok(dir),
            _ => Err(KeyError::Damaged(path.kind)),
        }
    }

    /// Gives an owner another head.
    pub fn set_head(&mut self, path: &Path, head: &[u8]) -> Result<(), KeyError> {
        self.dir(path)?.set_head(head).map_err(|_| KeyError::Damaged(path.kind))
    }

    /// Adds a node that does not exist yet, with the directory nodes that it needs.
    pub fn add(&mut self, path: Path, body: Body) -> Result<(), KeyError> {
        let (parent, child) = path.parent().ok_or(KeyError::Damaged(path.kind))?;
        let missing = !self.touched.contains_key(&parent)
            && matches!(self.reader.entry(&parent), Err(KeyError::Gone));
        if missing {
            if parent.level == 0 && parent.kind != NodeKind::Index {
                return Err(KeyError::Gone);
            }
            self.add(parent, empty_dir(&[]))?;
        }
        let entry = Entry::fresh();
        self.dir(&parent)?.insert(child, &entry);
        self.touched.insert(path, Touched { body, entry, old_ver: None, made: None });
        Ok(())
    }

    /// Removes a node with all below it. Only a re-keying change may.
    pub fn remove(&mut self, path: &Path) -> Result<(), KeyError> {
        let (parent, child) = path.parent().ok_or(KeyError::Damaged(path.kind))?;
        let old = self.dir(&parent)?.remove(child).ok_or(KeyError::Gone)?;
        let old_ver = self.touched.remove(path).and_then(|t| t.old_ver).unwrap_or(old.ver);
        self.obsolete.push(path.row_key(old_ver));
        self.vanished.push(*path);
        Ok(())
    }

    /// Removes a node and names every row below it as obsolete. What does not open below it is left as it is: sealed
    /// under keys that are gone.
    pub fn remove_whole(&mut self, path: &Path) -> Result<(), KeyError> {
        let below = self.reader.rows_below(path);
        self.remove(path)?;
        self.obsolete.extend(below);
        Ok(())
    }

    /// Whether a node that a removal left empty goes too.
    fn is_spent(path: &Path, body: &Body) -> bool {
        match body {
            Body::Leaf(leaf) => leaf.listings.is_empty(),
            Body::Dir(dir) => {
                let owner = matches!(
                    path.kind,
                    NodeKind::Root | NodeKind::Tenant | NodeKind::Bucket | NodeKind::Run
                );
                !owner && dir.is_empty()
            }
            Body::Page(_) => false,
        }
    }

    /// Seals what changed, from the leaves up.
    pub fn finish(mut self, vault: VaultId, generation: Gen) -> Result<Outcome, KeyError> {
        let mut order: Vec<(usize, Path)> = self.touched.keys().map(|p| (depth(p), *p)).collect();
        order.sort_unstable_by(|a, b| b.cmp(a));
        let mut outcome = Outcome {
            rows: Vec::with_capacity(order.len()),
            obsolete: std::mem::take(&mut self.obsolete),
            nodes: Vec::with_capacity(order.len()),
            vanished: std::mem::take(&mut self.vanished),
            root: None,
        };
        for (_, path) in order {
            let Some(node) = self.touched.remove(&path) else { continue };
            outcome.obsolete.extend(node.old_ver.map(|v| path.row_key(v)));
            let up = path.parent();
            if self.mode == Mode::Rekey && Self::is_spent(&path, &node.body) {
                if let Some((parent, child)) = up {
                    self.dir(&parent)?.remove(child);
                }
                outcome.vanished.push(path);
                continue;
            }
            let damaged = |_| KeyError::Damaged(path.kind);
            let opened = Opened::new(node.made.unwrap_or(generation), node.body);
            let value = seal(vault, &path, &node.entry, &opened).map_err(damaged)?;
            if let (Mode::Rekey, Some((parent, child))) = (self.mode, up) {
                self.dir(&parent)?.insert(child, &node.entry);
            }
            outcome.rows.push((path.row_key(node.entry.ver), value));
            outcome.nodes.push((path, opened));
            if up.is_none() {
                outcome.root = Some(node.entry);
            }
        }
        outcome.rows.sort_unstable();
        outcome.obsolete.sort_unstable();
        Ok(outcome)
    }
}

fn depth(path: &Path) -> usize {
    std::iter::successors(path.parent(), |(p, _): &(Path, ChildKey)| p.parent()).count()
}

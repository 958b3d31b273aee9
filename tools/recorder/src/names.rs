//! The directory tree: the names on disk for certain, and the changes that are not yet.
//!
//! Guarantees: a change of names is whole (a rename never leaves both names or none); a change
//! never survives without the earlier changes to the same names.

use crate::event::FileId;
use crate::log::ROOT;
use std::collections::{BTreeMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::path::Path;

/// Which sync makes a change of names durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetadataRule {
    /// Syncing a directory does; and syncing a new file keeps the name it was created under and the
    /// new directories above it. ext4 and xfs promise at least this.
    #[default]
    Ext4Like,
    /// Only syncing every directory involved does: all that POSIX promises.
    Strict,
}

pub type Directory = BTreeMap<OsString, FileId>;
pub type Tree = BTreeMap<FileId, Directory>;

#[derive(Clone, Debug)]
pub struct Edit {
    pub dir: FileId,
    pub name: OsString,
    pub file: Option<FileId>,
}

#[derive(Clone, Debug)]
struct Change {
    at: usize,
    edits: Vec<Edit>,
    born: Option<FileId>,
    /// Directories not yet synced since.
    waits: Vec<FileId>,
}

#[derive(Clone, Debug)]
pub struct Names {
    rule: MetadataRule,
    live: Tree,
    durable: Tree,
    pending: Vec<Change>,
}

impl Names {
    pub fn new(rule: MetadataRule) -> Names {
        let root = Tree::from([(ROOT, Directory::new())]);
        Names { rule, live: root.clone(), durable: root, pending: Vec::new() }
    }

    pub fn live(&self) -> &Tree {
        &self.live
    }

    pub fn durable(&self) -> &Tree {
        &self.durable
    }

    /// How many changes are not durable yet.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// The durable tree after the first `n` pending changes: a journal commits in order.
    pub fn after(&self, n: usize) -> Tree {
        let mut tree = self.durable.clone();
        for change in self.pending.iter().take(n) {
            apply(&mut tree, &change.edits);
        }
        tree
    }

    /// The file at `path` now; the empty path is the root.
    pub fn lookup(&self, path: &Path) -> Option<FileId> {
        path.iter().try_fold(ROOT, |dir, name| self.live.get(&dir)?.get(name).copied())
    }

    /// The directory and the name in it.
    pub fn split<'a>(&self, path: &'a Path) -> Option<(FileId, &'a OsStr)> {
        let dir = self.lookup(path.parent()?)?;
        self.live.contains_key(&dir).then_some(dir).zip(path.file_name())
    }

    /// Makes room for the entries of a directory.
    pub fn add_directory(&mut self, dir: FileId) {
        self.live.entry(dir).or_default();
        self.durable.entry(dir).or_default();
    }

    /// A change that is on disk already.
    pub fn settle(&mut self, edit: Edit) {
        let edits = [edit];
        apply(&mut self.live, &edits);
        apply(&mut self.durable, &edits);
    }

    /// A change; `born` is the file that it gives its first name.
    pub fn change(&mut self, at: usize, edits: Vec<Edit>, born: Option<FileId>) {
        apply(&mut self.live, &edits);
        let mut waits: Vec<FileId> = edits.iter().map(|edit| edit.dir).collect();
        waits.dedup();
        self.pending.push(Change { at, edits, born, waits });
    }

    /// A sync of the file or directory that began at event `before` has succeeded.
    pub fn synced(&mut self, file: FileId, before: usize) {
        let strict = self.rule == MetadataRule::Strict;
        let mut chosen = Vec::with_capacity(self.pending.len());
        for change in &mut self.pending {
            let covered = change.at < before;
            let own = covered && change.waits.contains(&file);
            if own {
                change.waits.retain(|dir| *dir != file);
            }
            let enough = if strict { change.waits.is_empty() } else { change.born == Some(file) };
            chosen.push(covered && (enough || (own && !strict)));
        }
        self.persist(chosen);
    }

    /// A sync of everything that began at event `before` has succeeded.
    pub fn all_synced(&mut self, before: usize) {
        let chosen = self.pending.iter().map(|change| change.at < before).collect();
        self.persist(chosen);
    }

    /// Makes the chosen changes durable, and the earlier ones that they build on.
    fn persist(&mut self, chosen: Vec<bool>) {
        if !chosen.contains(&true) {
            return;
        }
        let ext4 = self.rule == MetadataRule::Ext4Like;
        let mut names: HashSet<(FileId, OsString)> = HashSet::new();
        let mut above: HashSet<FileId> = HashSet::new();
        let (mut settled, mut kept) = (Vec::new(), Vec::new());
        for (change, chosen) in self.pending.drain(..).zip(chosen).rev() {
            let same_name = change.edits.iter().any(|e| names.contains(&(e.dir, e.name.clone())));
            let parent = ext4 && change.born.is_some_and(|dir| above.contains(&dir));
            if chosen || same_name || parent {
                above.extend(change.edits.iter().map(|e| e.dir));
                names.extend(change.edits.iter().map(|e| (e.dir, e.name.clone())));
                settled.push(change);
            } else {
                kept.push(change);
            }
        }
        for change in settled.iter().rev() {
            apply(&mut self.durable, &change.edits);
        }
        kept.reverse();
        self.pending = kept;
    }
}

fn apply(tree: &mut Tree, edits: &[Edit]) {
    for Edit { dir, name, file } in edits {
        let Some(entries) = tree.get_mut(dir) else {
            continue;
        };
        match file {
            Some(file) => entries.insert(name.clone(), *file),
            None => entries.remove(name),
        };
    }
}

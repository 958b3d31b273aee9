//! The tree, read from whatever is left of it: the engine's rows and the node journal's, side by side.
//!
//! Guarantees: a row is given out only if it opens under the version and key that its parent names, from the anchor's
//! root down, so nothing erased and nothing foreign comes back. Nothing is written here.
//!
//! Where both copies open, the longer one counts: under one key and version a node only ever grows.

use std::collections::{BTreeMap, BTreeSet};

use super::KeyError;
use super::anchor::{Current, Payload};
use super::dir::DirView;
use super::node::{self, Entry, Opened, Plain, dek_in};
use super::open::refuse_older;
use super::path::{NodeKind, Path};
use super::rows::VAULT_HEADER;
use crate::clock::UnixMillis;
use crate::crypto::{Dek, MetaKey, NodeKey};
use crate::id::{TenantOrd, VaultId};
use crate::store::Engine;

/// What the walk meets. Each comes with the row to keep.
pub enum Found<'a> {
    Tenant(TenantOrd, MetaKey),
    Page(Path, PageKeys<'a>),
    Other,
}

/// The keys of a page.
pub struct PageKeys<'a> {
    aux: &'a [u8],
    plain: &'a Plain,
}

impl PageKeys<'_> {
    pub fn slots(&self) -> u8 {
        self.aux.first().copied().unwrap_or_default()
    }

    /// The key of a slot; `None` once it was erased.
    pub fn dek(&self, slot: u8) -> Option<Dek> {
        let dead = self.aux.get(1 + usize::from(slot / 8)).copied().unwrap_or(u8::MAX);
        if dead & (1 << (slot % 8)) != 0 { None } else { dek_in(self.plain, slot) }
    }
}

/// The two places that node rows are read from.
pub struct Salvage<'a> {
    pub vault: VaultId,
    /// `None` if the engine does not open.
    pub engine: Option<&'a dyn Engine>,
    pub journal: &'a BTreeMap<Vec<u8>, Vec<u8>>,
    /// Nodes that no copy of opens; what hangs below them was not reached.
    pub lost: BTreeSet<Path>,
}

/// What orders two copies of one node: entries, then the head, whose counters only grow.
fn size_of(path: &Path, opened: &Opened) -> (usize, Vec<u8>) {
    match path.kind {
        NodeKind::Page | NodeKind::Leaf => (0, Vec::new()),
        _ => DirView::new(&opened.plain)
            .map_or((0, Vec::new()), |dir| (dir.iter().count(), dir.head.to_vec())),
    }
}

impl Salvage<'_> {
    /// A row of the engine; an unreadable one counts as missing.
    pub fn engine_row(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.engine?.get(key).ok()?
    }

    fn node(&self, path: &Path, entry: &Entry) -> Option<(Vec<u8>, Opened)> {
        let key = path.row_key(entry.ver);
        let copies = [self.engine_row(&key), self.journal.get(&key).cloned()];
        let opened = copies.into_iter().flatten().filter_map(|value| {
            let opened = node::open(self.vault, path, entry, &value).ok()?;
            Some((size_of(path, &opened), value, opened))
        });
        opened.max_by(|a, b| a.0.cmp(&b.0)).map(|(_, value, opened)| (value, opened))
    }

    /// Refuses what is no damage: an anchor older than the rows, or rows of another vault.
    pub fn check_belongs(&self, anchor: &Payload) -> Result<(), KeyError> {
        let Some(engine) = self.engine else { return Ok(()) };
        // What cannot be scanned cannot tell that it is newer.
        let first = |from: &[u8], end: &[u8]| Ok(engine.scan(from, end, 1).unwrap_or_default());
        refuse_older(anchor.generation, first)?;
        let header = self.engine_row(VAULT_HEADER).as_deref().and_then(super::open::vault_in);
        let root = Path::ROOT.row_key(anchor.root_ver);
        match header.filter(|found| *found != self.vault) {
            Some(store) if self.engine_row(&root).is_none() => {
                Err(super::anchor::AnchorError::Foreign { anchor: self.vault, store }.into())
            }
            _ => Ok(()),
        }
    }

    /// The vault header as it was, or a new one that says the same vault.
    pub fn header(&self, now: UnixMillis) -> Vec<u8> {
        let copies = [self.engine_row(VAULT_HEADER), self.journal.get(VAULT_HEADER).cloned()];
        let right = |h: &Vec<u8>| super::open::is_header_of(h, self.vault);
        let found = copies.into_iter().flatten().find(right);
        found.unwrap_or_else(|| super::open::header(self.vault, now))
    }

    /// The payload whose root opens: the newest, or (nothing of it was answered yet) the one before it.
    pub fn root_of<'p>(&self, current: &'p Current) -> Result<&'p Payload, KeyError> {
        let opens = |p: &Payload| self.node(&Path::ROOT, &root_entry(p)).is_some();
        let newest = &current.open.payload;
        let older = current.other.as_ref().map(|o| &o.payload);
        let older = older.filter(|o| o.generation < newest.generation);
        let chosen = [Some(newest), older].into_iter().flatten().find(|p| opens(p));
        chosen.ok_or(KeyError::Damaged(NodeKind::Root))
    }

    #[allow(clippy::type_complexity, reason = "a visitor that is named once")]
    /// Visits every node that opens, parents first. `visit` is given the node's row.
    pub fn walk<E>(
        &mut self,
        root: &Payload,
        visit: &mut dyn FnMut(Found<'_>, Vec<u8>, Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut todo = vec![(Path::ROOT, root_entry(root))];
        while let Some((path, entry)) = todo.pop() {
            let Some((value, opened)) = self.node(&path, &entry) else {
                self.lost.insert(path);
                continue;
            };
            let found = match path.kind {
                NodeKind::Page => {
                    Found::Page(path, PageKeys { aux: &opened.aux, plain: &opened.plain })
                }
                NodeKind::Leaf => Found::Other,
                _ => {
                    let Ok(dir) = DirView::new(&opened.plain) else {
                        self.lost.insert(path);
                        continue;
                    };
                    for (child, ver, key) in dir.iter() {
                        let entry = Entry { ver, key: NodeKey::copied(key) };
                        todo.extend(path.child(child).map(|child| (child, entry)));
                    }
                    match (path.kind, dir.head.first_chunk()) {
                        (NodeKind::Tenant, Some(key)) => {
                            Found::Tenant(path.tenant, MetaKey::copied(key))
                        }
                        _ => Found::Other,
                    }
                }
            };
            visit(found, path.row_key(entry.ver), value)?;
        }
        Ok(())
    }

    /// Whether this node hangs below one that is lost.
    pub fn is_below_lost(&self, path: &Path) -> bool {
        let up = std::iter::successors(Some(*path), |p| p.parent().map(|(parent, _)| parent));
        up.into_iter().any(|p| self.lost.contains(&p))
    }
}

fn root_entry(payload: &Payload) -> Entry {
    Entry { ver: payload.root_ver, key: NodeKey::copied(payload.root_key.expose()) }
}

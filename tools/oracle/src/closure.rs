//! Opens all that can be opened, from the root keys of the given anchors down to the fields.
//!
//! Every key ever learnt for a path is tried against every blob ever seen with that path, whichever version
//! the parent names: a key that was carried over to a new version, or an old version that a new key still
//! opens, is what this looks for. The work list is empty exactly when nothing new can follow.

use crate::crypto::{Key, fingerprint};
use crate::fieldmap::{FieldMap, PART_LEN};
use crate::format::{Anchor, Kid, RecordRow, RequestRow};
use crate::path::{Path, kind_name};
use crate::scan::Rows;
use crate::tree::{self, Head};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Warnings kept per run; more of the same say nothing new.
const WARNINGS_MAX: usize = 100;
/// Rows longer than this break the format's limit.
const VALUE_LEN_MAX: usize = 8_192;

/// A key together with the thing that it may open.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Lead {
    Node(Path, Key),
    Dek(Kid, Key),
    /// A DEK that opened some version of the record: its other versions must have DEKs of their own.
    Version([u8; 16], Key),
    Meta(u32, Key),
}

/// A metadata row in clear.
pub struct OpenedMeta {
    pub tenant: u32,
    pub mkind: u8,
    pub id: u32,
    pub rev: u32,
    pub json: Vec<u8>,
}

/// The outcome of a run over `rows`.
pub struct Closure<'a> {
    rows: &'a Rows,
    vaults: Vec<[u8; 16]>,
    nodes_at: HashMap<Path, Vec<usize>>,
    records_at: HashMap<Kid, Vec<usize>>,
    versions_of: HashMap<[u8; 16], Vec<usize>>,
    metas_at: HashMap<u32, Vec<usize>>,
    /// Keys of the slots that requests name.
    request_deks: HashMap<Kid, BTreeSet<Key>>,
    known: HashSet<Lead>,
    queue: Vec<Lead>,
    /// Plaintext of each node row, record row, metadata row; `None` while sealed.
    pub nodes: Vec<Option<Vec<u8>>>,
    pub records: Vec<Option<Vec<u8>>>,
    metas: Vec<Option<Vec<u8>>>,
    /// Entries of opened index leaves.
    pub index: BTreeSet<([u8; 16], Kid)>,
    pub index_keys: BTreeSet<(u32, Key)>,
    pub signing_seeds: BTreeSet<Key>,
    pub deks: u64,
    pub warnings: Vec<String>,
}

impl<'a> Closure<'a> {
    pub fn new(rows: &'a Rows) -> Self {
        let mut nodes_at: HashMap<Path, Vec<usize>> = HashMap::new();
        for (i, node) in rows.nodes.iter().enumerate() {
            nodes_at.entry(Path::parse(&node.path).unwrap_or_default()).or_default().push(i);
        }
        let mut records_at: HashMap<Kid, Vec<usize>> = HashMap::new();
        let mut versions_of: HashMap<[u8; 16], Vec<usize>> = HashMap::new();
        for (i, record) in rows.records.iter().enumerate() {
            records_at.entry(record.kid).or_default().push(i);
            versions_of.entry(record.record).or_default().push(i);
        }
        let mut metas_at: HashMap<u32, Vec<usize>> = HashMap::new();
        for (i, meta) in rows.metas.iter().enumerate() {
            metas_at.entry(meta.tenant).or_default().push(i);
        }
        Closure {
            rows,
            vaults: rows.vaults.iter().copied().collect(),
            nodes_at,
            records_at,
            versions_of,
            metas_at,
            request_deks: rows.requests.iter().map(|r| (r.kid, BTreeSet::new())).collect(),
            known: HashSet::new(),
            queue: Vec::new(),
            nodes: rows.nodes.iter().map(|_| None).collect(),
            records: rows.records.iter().map(|_| None).collect(),
            metas: rows.metas.iter().map(|_| None).collect(),
            index: BTreeSet::new(),
            index_keys: BTreeSet::new(),
            signing_seeds: BTreeSet::new(),
            deks: 0,
            warnings: Vec::new(),
        }
    }

    /// Starts from the root key of an opened anchor.
    pub fn start(&mut self, anchor: &Anchor) {
        if !self.vaults.contains(&anchor.vault) {
            self.vaults.push(anchor.vault);
        }
        self.learn(Lead::Node(Path::ROOT, anchor.root_key));
    }

    /// Takes a node key that was found outside the tree.
    pub fn follow(&mut self, path: Path, key: Key) {
        self.learn(Lead::Node(path, key));
    }

    /// Follows every lead until none is left.
    pub fn run(&mut self) {
        while let Some(lead) = self.queue.pop() {
            match lead {
                Lead::Node(path, key) => self.try_nodes(path, &key),
                Lead::Dek(kid, dek) => self.try_records(self.records_at.get(&kid).cloned(), &dek),
                Lead::Version(id, dek) => {
                    self.try_records(self.versions_of.get(&id).cloned(), &dek)
                }
                Lead::Meta(tenant, key) => self.try_metas(tenant, &key),
            }
        }
    }

    pub fn vaults(&self) -> &[[u8; 16]] {
        &self.vaults
    }

    fn learn(&mut self, lead: Lead) {
        if self.known.insert(lead) {
            self.queue.push(lead);
        }
    }

    fn warn(&mut self, what: String) {
        if self.warnings.len() < WARNINGS_MAX && !self.warnings.contains(&what) {
            self.warnings.push(what);
        }
    }

    fn try_nodes(&mut self, path: Path, key: &Key) {
        for i in self.nodes_at.get(&path).cloned().unwrap_or_default() {
            let (Some(slot), Some(row)) = (self.nodes.get_mut(i), self.rows.nodes.get(i)) else {
                continue;
            };
            if slot.is_some() {
                continue;
            }
            let Some(body) = self.vaults.iter().find_map(|v| row.open(v, key)) else {
                continue;
            };
            let opened = tree::read_body(&path, row.aux, &body);
            *slot = Some(body);
            let place = format!("{} {path:?} ver {:016x}", kind_name(path.kind), row.ver);
            if row.len() > VALUE_LEN_MAX {
                self.warn(format!("{place}: value of {} bytes", row.len()));
            }
            self.take(&path, &place, opened);
        }
    }

    fn take(&mut self, path: &Path, place: &str, opened: tree::Opened) {
        for warning in opened.warnings {
            self.warn(format!("{place}: {warning}"));
        }
        for (child, _named_version, key) in opened.children {
            self.learn(Lead::Node(child, key));
        }
        for (kid, dek) in opened.deks {
            if dek != [0; 32] {
                self.deks += 1;
                self.request_deks.entry(kid).and_modify(|all| _ = all.insert(dek));
            }
            if self.records_at.contains_key(&kid) {
                self.learn(Lead::Dek(kid, dek));
            }
        }
        self.index.extend(opened.index);
        match opened.head {
            Head::Root { signing_seed } => {
                self.signing_seeds.insert(signing_seed);
            }
            Head::Tenant { k_meta, k_idx, .. } => {
                self.index_keys.insert((path.tenant, k_idx));
                self.learn(Lead::Meta(path.tenant, k_meta));
            }
            _ => {}
        }
    }

    fn try_records(&mut self, candidates: Option<Vec<usize>>, dek: &Key) {
        for i in candidates.unwrap_or_default() {
            let (Some(slot), Some(row)) = (self.records.get_mut(i), self.rows.records.get(i))
            else {
                continue;
            };
            if slot.is_some() {
                continue;
            }
            *slot = self.vaults.iter().find_map(|v| row.open_with_dek(v, dek));
            if slot.is_some() {
                if row.len() > VALUE_LEN_MAX {
                    self.warn(format!("record row of {} bytes", row.len()));
                }
                self.learn(Lead::Version(row.record, *dek));
            }
        }
    }

    fn try_metas(&mut self, tenant: u32, key: &Key) {
        for i in self.metas_at.get(&tenant).cloned().unwrap_or_default() {
            let (Some(slot), Some(row)) = (self.metas.get_mut(i), self.rows.metas.get(i)) else {
                continue;
            };
            if slot.is_none() {
                *slot = self.vaults.iter().find_map(|v| row.open(v, key));
            }
        }
    }

    /// Whether a guess of what a request asked for can be confirmed: its fingerprint fits under a key that is open.
    pub fn confirms(&self, request: &RequestRow, asked: &[u8]) -> bool {
        let deks = self.request_deks.get(&request.kid).into_iter().flatten();
        deks.into_iter().any(|dek| fingerprint(dek, asked) == request.fingerprint)
    }

    /// The metadata rows that opened.
    pub fn opened_metas(&self) -> Vec<OpenedMeta> {
        let rows = self.rows.metas.iter().zip(&self.metas);
        rows.filter_map(|(m, plain)| {
            let json = plain.clone()?;
            Some(OpenedMeta { tenant: m.tenant, mkind: m.mkind, id: m.id, rev: m.rev, json })
        })
        .collect()
    }

    /// Numbers of opened and of all distinct node rows by kind.
    pub fn node_counts(&self) -> BTreeMap<u8, (u64, u64)> {
        let mut counts: BTreeMap<u8, (u64, u64)> = BTreeMap::new();
        for (row, plain) in self.rows.nodes.iter().zip(&self.nodes) {
            let [kind, ..] = row.path;
            let (opened, all) = counts.entry(kind).or_default();
            *opened += u64::from(plain.is_some());
            *all += 1;
        }
        counts
    }

    /// Every plaintext that is open, with what it is.
    pub fn plaintexts(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        (self.nodes.iter().flatten().map(|p| ("node", p.as_slice())))
            .chain(self.records.iter().flatten().map(|p| ("record", p.as_slice())))
            .chain(self.metas.iter().flatten().map(|p| ("metadata", p.as_slice())))
    }
}

/// Identity of a record version: kid, record id, version, type, schema revision.
type VersionKey = (Kid, [u8; 16], u64, u16, u32);

/// An opened record version, put together from its chunks.
pub struct Version {
    pub kid: Kid,
    pub record: [u8; 16],
    pub rec_ver: u64,
    pub type_: u16,
    pub schema: u32,
    /// Chunks that opened, and whether they reach from 0 to the last one without a gap.
    pub chunks: usize,
    pub complete: bool,
    pub plain: Vec<u8>,
    pub map: Option<FieldMap>,
}

/// A record version of which no row opened.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub struct Sealed {
    pub record: [u8; 16],
    pub rec_ver: u64,
    pub kid: Kid,
    pub rows: u64,
}

/// Sorts record rows into versions that opened and versions that did not.
pub fn versions(rows: &Rows, plain: &[Option<Vec<u8>>]) -> (Vec<Version>, Vec<Sealed>) {
    let mut open: BTreeMap<VersionKey, Vec<(&RecordRow, &[u8])>> = BTreeMap::new();
    let mut shut: BTreeMap<([u8; 16], u64, Kid), u64> = BTreeMap::new();
    for (row, plain) in rows.records.iter().zip(plain) {
        match plain {
            Some(part) => {
                let key = (row.kid, row.record, row.rec_ver, row.type_, row.schema);
                open.entry(key).or_default().push((row, part));
            }
            None => *shut.entry((row.record, row.rec_ver, row.kid)).or_default() += 1,
        }
    }
    // A row that was torn while it was written does not hide that its version is open.
    for (kid, record, rec_ver, ..) in open.keys() {
        shut.remove(&(*record, *rec_ver, *kid));
    }
    let versions = open.into_iter().flat_map(|(key, parts)| assemble(key, &parts)).collect();
    let sealed = shut.into_iter().map(|((record, rec_ver, kid), rows)| Sealed {
        record,
        rec_ver,
        kid,
        rows,
    });
    (versions, sealed.collect())
}

/// Joins chunks in order. If chunk 0 was sealed more than once, each gives a version of its own.
fn assemble(key: VersionKey, parts: &[(&RecordRow, &[u8])]) -> Vec<Version> {
    let (kid, record, rec_ver, type_, schema) = key;
    let numbered = |n: u16| parts.iter().filter(move |(row, _)| row.chunk == n);
    let mut firsts: Vec<Option<&(&RecordRow, &[u8])>> = numbered(0).map(Some).collect();
    if firsts.is_empty() {
        firsts.push(None);
    }
    let numbers: BTreeSet<u16> =
        parts.iter().map(|(row, _)| row.chunk).filter(|n| *n > 0).collect();
    let build = |first: Option<&(&RecordRow, &[u8])>| {
        let rest = numbers.iter().filter_map(|n| numbered(*n).next());
        let chain: Vec<&(&RecordRow, &[u8])> = first.into_iter().chain(rest).collect();
        let in_order = (0u16..).zip(&chain).all(|(n, (row, _))| row.chunk == n);
        let lasts = chain.iter().rev().map(|(row, _)| row.last);
        let ends_once = lasts.eq(std::iter::once(1).chain(std::iter::repeat_n(0, chain.len() - 1)));
        let full = chain.iter().rev().skip(1).all(|(_, part)| part.len() == PART_LEN);
        let plain: Vec<u8> = chain.iter().flat_map(|(_, part)| part.iter().copied()).collect();
        let map = first.and_then(|_| FieldMap::parse(&plain));
        let whole = map.as_ref().is_some_and(|m| m.whole);
        let complete = in_order && ends_once && full && whole;
        Version { kid, record, rec_ver, type_, schema, chunks: chain.len(), complete, plain, map }
    };
    firsts.into_iter().map(build).collect()
}

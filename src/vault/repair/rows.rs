//! Which rows of a damaged store are kept: those that prove what they are.
//!
//! Guarantees: a record version is kept only if it opens under a living key of the tree; a record's pointer names the
//! newest such version that nothing says was superseded or erased; every other living version gets an erasure intent,
//! so that no old version lives on because a row was lost.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::report::{LedgerState, RepairReport};
use crate::class::ErasureReason;
use crate::clock::UnixMillis;
use crate::crypto::MetaKey;
use crate::crypto::merkle::{Frontier, leaf_hash};
use crate::id::{Gen, Kid, PageOrd, RecordId, TenantOrd, VaultId};
use crate::keys::node::PAGE_SLOTS_MAX;
use crate::keys::path::Path;
use crate::keys::rows::prefix_end;
use crate::keys::{Erased, Found};
use crate::limits;
use crate::store::{Engine, Row, StoreError};
use crate::vault::erase::Asked;
use crate::vault::error::VaultError;
use crate::vault::holds::postponed;
use crate::vault::ledger::{LEAF_BYTES, frontier_key, leaf_key};
use crate::vault::registry::Meta;
use crate::vault::requests;
use crate::vault::retention::manifest::{Killed, decode_blocks, decode_ids, is_of_ids, is_summary};
use crate::vault::retention::time::{MARK_KEY, Mark};
use crate::vault::rows::{Fate, Intent, Pointer, Tombstone, record_in};
use crate::vault::sealed::{self, Version};

/// Rows written at once.
const WRITE_ROWS: usize = 512;
/// How often an unreadable range is split to save what is beside the damage.
const SPLITS: u8 = 2;

/// Where the kept rows go.
pub struct Target {
    engine: Arc<dyn Engine>,
    waiting: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// A dry run keeps the pointers alone: they are what is compared.
    pointers_only: bool,
}

impl Target {
    pub fn new(engine: Arc<dyn Engine>, pointers_only: bool) -> Self {
        Self { engine, waiting: BTreeMap::new(), pointers_only }
    }

    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), StoreError> {
        if self.pointers_only && key.first() != Some(&b'u') {
            return Ok(());
        }
        self.waiting.insert(key, Some(value));
        if self.waiting.len() >= WRITE_ROWS { self.flush() } else { Ok(()) }
    }

    pub fn flush(&mut self) -> Result<(), StoreError> {
        let writes: Vec<_> = std::mem::take(&mut self.waiting).into_iter().collect();
        if writes.is_empty() { Ok(()) } else { self.engine.commit(&writes) }
    }

    fn pointer(&self, key: &[u8]) -> Result<Option<Pointer>, StoreError> {
        let value = match self.waiting.get(key) {
            Some(waiting) => waiting.clone(),
            None => self.engine.get(key)?,
        };
        Ok(value.as_deref().and_then(Pointer::decode))
    }
}

/// One pass over what is left.
pub struct Pass<'a> {
    pub vault: VaultId,
    pub generation: Gen,
    pub now: UnixMillis,
    pub engine: Option<&'a dyn Engine>,
    pub journal: &'a BTreeMap<Vec<u8>, Vec<u8>>,
    pub target: Target,
    pub report: RepairReport,
    /// Slots that live, by page.
    live: BTreeMap<Path, u128>,
    tenants: Vec<TenantOrd>,
}

pub(super) fn count(counts: &mut BTreeMap<&'static str, u64>, what: &'static str) {
    *counts.entry(what).or_default() += 1;
}

impl<'a> Pass<'a> {
    pub fn new(
        (vault, generation, now): (VaultId, Gen, UnixMillis),
        engine: Option<&'a dyn Engine>,
        journal: &'a BTreeMap<Vec<u8>, Vec<u8>>,
        target: Target,
        report: RepairReport,
    ) -> Self {
        let (live, tenants) = Default::default();
        Self { vault, generation, now, engine, journal, target, report, live, tenants }
    }

    /// A row; an unreadable one counts as missing.
    pub(super) fn row(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.engine?.get(key).ok()?
    }

    /// Keeps a node's row and whatever only that node's keys can prove.
    pub fn node(
        &mut self,
        found: Found<'_>,
        key: Vec<u8>,
        value: Vec<u8>,
    ) -> Result<(), VaultError> {
        count(&mut self.report.kept, "nodes");
        self.target.put(key, value)?;
        match found {
            Found::Other => {}
            Found::Tenant(tenant, meta) => {
                self.tenants.push(tenant);
                self.metadata(tenant, &meta)?;
            }
            Found::Page(path, keys) => {
                let mut live = 0;
                for slot in 0..keys.slots() {
                    let page = PageOrd::new(path.ord).unwrap_or_default();
                    let kid = Kid { tenant: path.tenant, bucket: path.bucket, page, slot };
                    match keys.dek(slot) {
                        Some(dek) => {
                            live |= 1u128 << slot;
                            self.version(kid, &dek)?;
                        }
                        None if self.row(&sealed::row_key(kid, 0)).is_some() => {
                            count(&mut self.report.dropped, "record versions");
                        }
                        None => {}
                    }
                }
                self.live.insert(path, live);
            }
        }
        Ok(())
    }

    /// Keeps a tenant's metadata: of two copies that open the one of the later revision.
    fn metadata(&mut self, tenant: TenantOrd, key: &MetaKey) -> Result<(), VaultError> {
        let prefix = [b"m".as_slice(), &tenant.bytes()].concat();
        let end = prefix_end(&prefix);
        let mut copies = BTreeMap::<Vec<u8>, Vec<Vec<u8>>>::new();
        for (k, v) in self.journal.range(prefix.clone()..end) {
            copies.entry(k.clone()).or_default().push(v.clone());
        }
        self.each(&prefix, &mut |_, row| {
            copies.entry(row.key).or_default().push(row.value);
            Ok(())
        })?;
        let mut named = false;
        for (row_key, values) in copies {
            let Some(meta) = Meta::of_key(&row_key) else { continue };
            let opens = |v: &&Vec<u8>| meta.open(self.vault, tenant, key, v).is_ok();
            match values.iter().filter(opens).max_by_key(|v| v.get(16..20).map(<[u8]>::to_vec)) {
                Some(value) => {
                    named |= meta == Meta::Tenant;
                    count(&mut self.report.kept, "metadata rows");
                    self.target.put(row_key, value.clone())?;
                }
                None => count(&mut self.report.lost, "metadata rows"),
            }
        }
        self.report.tenants_without_metadata += u64::from(!named);
        Ok(())
    }

    /// Keeps a record version that opens.
    fn version(&mut self, kid: Kid, dek: &crate::crypto::Dek) -> Result<(), VaultError> {
        let Some(engine) = self.engine else { return Ok(()) };
        if let Ok(None) = engine.get(&sealed::row_key(kid, 0)) {
            // Never used; or missing, which only a pointer can tell.
            return Ok(());
        }
        let mut rows = Vec::new();
        let mut read = |chunk| {
            let value = engine.get(&sealed::row_key(kid, chunk))?;
            rows.extend(value.clone());
            Ok(value)
        };
        let Ok(open) = sealed::open_rows(&mut read, self.vault, kid, dek, None) else {
            count(&mut self.report.lost, "record versions");
            return Ok(());
        };
        count(&mut self.report.kept, "record versions");
        for (chunk, value) in (0u16..).zip(rows) {
            self.target.put(sealed::row_key(kid, chunk).to_vec(), value)?;
        }
        self.name(&open.version)
    }

    /// Points to a version, or asks for its erasure.
    fn name(&mut self, version: &Version) -> Result<(), VaultError> {
        let kid = version.kid;
        let intent_key = [b"q".as_slice(), &kid.bytes()].concat();
        let mut intent = Intent {
            kid,
            record: version.record,
            rec_ver: version.rec_ver,
            rtype: version.rtype,
            reason: ErasureReason::Superseded,
            requested: self.now,
        };
        if let Some(row) = self.row(&intent_key) {
            let same =
                |i: &Intent| (i.kid, i.record, i.rec_ver) == (kid, version.record, version.rec_ver);
            return self.ask(Intent::decode(&row).filter(same).unwrap_or(intent));
        }
        let key = Pointer::key(kid.tenant, version.record);
        if let Some(tombstone) = self.tombstone(kid.tenant, version.record) {
            intent.reason = tombstone.reason;
            return self.ask(intent);
        }
        let pointer = Pointer { kid, rec_ver: version.rec_ver, rtype: version.rtype };
        match self.target.pointer(&key)? {
            Some(newer) if newer.rec_ver >= version.rec_ver => return self.ask(intent),
            Some(older) => self.ask(intent_for(older, version.record, self.now))?,
            None => {}
        }
        Ok(self.target.put(key.to_vec(), pointer.encode())?)
    }

    fn ask(&mut self, intent: Intent) -> Result<(), VaultError> {
        count(&mut self.report.kept, "erasure intents");
        Ok(self.target.put(intent.key(), intent.encode())?)
    }

    /// The tombstone of a completed erasure.
    fn tombstone(&self, tenant: TenantOrd, record: RecordId) -> Option<Tombstone> {
        let row = self.row(&Tombstone::key(tenant, record))?;
        Tombstone::decode(&row).filter(|t| t.generation <= self.generation)
    }

    /// What no key proves: tombstones, what the damaged store pointed to, levels, the ledger.
    pub fn rest(
        &mut self,
        is_below_lost: &dyn Fn(&Path) -> bool,
        ledger: (u64, [u8; 32]),
    ) -> Result<(), VaultError> {
        for tenant in self.tenants.clone() {
            self.each(&Pointer::prefix(tenant), &mut |pass, row| {
                pass.old_pointer(tenant, &row, is_below_lost)
            })?;
            let prefix = [b"t".as_slice(), &tenant.bytes()].concat();
            self.each(&prefix, &mut |pass, row| pass.old_tombstone(tenant, row))?;
            let prefix = [b"x".as_slice(), &tenant.bytes()].concat();
            self.each(&prefix, &mut |pass, row| pass.list(row))?;
            // Also a damaged one says by its key what it is about.
            self.each(&postponed::prefix(tenant), &mut |pass, row| {
                count(&mut pass.report.kept, "rows of legal holds");
                Ok(pass.target.put(row.key, row.value)?)
            })?;
            let prefix = [b"p".as_slice(), &tenant.bytes()].concat();
            self.each(&prefix, &mut |pass, row| match requests::written(&row.value) {
                Some(_) => Ok(pass.target.put(row.key, row.value)?),
                None => {
                    count(&mut pass.report.lost, "request ids");
                    Ok(())
                }
            })?;
        }
        self.vanished(is_below_lost);
        if let Some(mark) = self.row(MARK_KEY).filter(|row| Mark::decode(row).is_some()) {
            self.target.put(MARK_KEY.to_vec(), mark)?;
        }
        let now = self.generation;
        self.each(Asked::PREFIX, &mut |pass, row| match Asked::decode(&row) {
            // Of a batch that never counted.
            Some(asked) if asked.generation > now => Ok(()),
            Some(_) => Ok(pass.target.put(row.key, row.value)?),
            None => {
                count(&mut pass.report.lost, "notes of who asked for erasures");
                Ok(())
            }
        })?;
        for generation in 1..=self.generation.0 {
            let key = [b"g".as_slice(), &generation.to_be_bytes()].concat();
            let Some(row) = self.row(&key) else { continue };
            match Erased::from_row(&row).filter(|e| e.generation().0 == generation) {
                Some(_) => self.target.put(key, row)?,
                None => count(&mut self.report.lost, "level rows"),
            }
        }
        self.ledger(ledger)
    }

    /// Counts the versions that are left of pages which hang in the tree no more: erased with their page or bucket.
    /// One look for each page. Where rows cannot be read the count ends: they are left out all the same.
    fn vanished(&mut self, is_below_lost: &dyn Fn(&Path) -> bool) {
        let Some(engine) = self.engine else { return };
        let (mut from, end) = (b"r".to_vec(), prefix_end(b"r"));
        while let Ok(Some(row)) = engine.scan(&from, &end, 1).map(|rows| rows.into_iter().next()) {
            let Some((kid, _)) = sealed::parse_key(&row.key) else {
                from = [row.key.as_slice(), &[0]].concat();
                continue;
            };
            let page = Path::page_of(kid);
            if !self.live.contains_key(&page) && !is_below_lost(&page) {
                for slot in 0..PAGE_SLOTS_MAX {
                    if self.row(&sealed::row_key(Kid { slot, ..kid }, 0)).is_some() {
                        count(&mut self.report.dropped, "record versions");
                    }
                }
            }
            let [page @ .., _slot] = kid.bytes();
            from = prefix_end(&[b"r".as_slice(), &page].concat());
        }
    }

    /// A record whose pointer is there and whose version is not is lost, and keeps its name so that it can be erased.
    fn old_pointer(
        &mut self,
        tenant: TenantOrd,
        row: &Row,
        is_below_lost: &dyn Fn(&Path) -> bool,
    ) -> Result<(), VaultError> {
        let Some(record) = record_in(&row.key) else { return Ok(()) };
        let present = self.target.pointer(&row.key)?;
        let Some(old) = Pointer::decode(&row.value).filter(|p| p.kid.tenant == tenant) else {
            if present.is_none() {
                count(&mut self.report.lost, "pointers");
            }
            return Ok(());
        };
        if present.is_some_and(|p| p.rec_ver >= old.rec_ver) {
            return Ok(());
        }
        let page = Path::page_of(old.kid);
        let lives = self.live.get(&page).is_some_and(|live| live >> old.kid.slot.min(127) & 1 == 1);
        if self.tombstone(tenant, record).is_some() || !(lives || is_below_lost(&page)) {
            count(&mut self.report.dropped, "pointers");
            return Ok(());
        }
        if let Some(stale) = present {
            self.ask(intent_for(stale, record, self.now))?;
        }
        count(&mut self.report.lost, "records");
        let Pointer { kid, rec_ver, rtype } = old;
        let (key, stub) = sealed::lost(&Version { kid, record, rec_ver, rtype, schema_rev: 0 });
        self.target.put(key, stub)?;
        Ok(self.target.put(row.key.clone(), row.value.clone())?)
    }

    fn old_tombstone(&mut self, tenant: TenantOrd, row: Row) -> Result<(), VaultError> {
        match Fate::decode(&row.value) {
            // Of a batch that never counted.
            Some(Fate::Erased(t)) if t.generation > self.generation => return Ok(()),
            Some(_) => count(&mut self.report.kept, "tombstones"),
            None => {
                count(&mut self.report.lost, "receipts");
                // What is there was not erased; of a bucket there is only the receipt.
                let Some(record) = record_in(&row.key) else { return Ok(()) };
                if self.target.pointer(&Pointer::key(tenant, record))?.is_some() {
                    return Ok(());
                }
            }
        }
        Ok(self.target.put(row.key, row.value)?)
    }

    /// What went with a bucket: evidence, as far as it can be read.
    fn list(&mut self, row: Row) -> Result<(), VaultError> {
        let sound = match is_summary(&row.key) {
            // Of a batch that never counted.
            true => match Killed::decode(&row.value) {
                Some(killed) if killed.generation > self.generation => return Ok(()),
                killed => killed.is_some(),
            },
            false if is_of_ids(&row.key) => decode_ids(&row.value).is_some(),
            false => decode_blocks(&row.value).is_some(),
        };
        if !sound {
            count(&mut self.report.lost, "rows of what went with buckets");
            return Ok(());
        }
        count(&mut self.report.kept, "rows of what went with buckets");
        Ok(self.target.put(row.key, row.value)?)
    }

    fn ledger(&mut self, (size, root): (u64, [u8; 32])) -> Result<(), VaultError> {
        let mut frontier = Frontier::default();
        for seq in 0..size {
            let leaf = self.row(&leaf_key(seq)).filter(|l| l.len() == LEAF_BYTES);
            let Some(leaf) = leaf else {
                count(&mut self.report.lost, "ledger leaves");
                continue;
            };
            frontier.push(leaf_hash(&leaf));
            count(&mut self.report.kept, "ledger leaves");
            self.target.put(leaf_key(seq), leaf)?;
        }
        let right = |f: &Frontier| f.size() == size && f.root() == root;
        let key = frontier_key(self.generation);
        let head = || self.row(&key).as_deref().and_then(Frontier::decode).filter(right);
        let (state, frontier) = if right(&frontier) {
            (LedgerState::Whole, Some(frontier))
        } else if let Some(head) = head() {
            (LedgerState::HeadOnly, Some(head))
        } else {
            (LedgerState::Lost, None)
        };
        self.report.ledger = state;
        if let Some(frontier) = frontier {
            self.target.put(key, frontier.encode())?;
        }
        Ok(())
    }

    /// Every readable row under a prefix; an unreadable range is split, so that what is beside it is found.
    pub(super) fn each(
        &mut self,
        prefix: &[u8],
        take: &mut dyn FnMut(&mut Self, Row) -> Result<(), VaultError>,
    ) -> Result<(), VaultError> {
        match self.engine {
            Some(engine) => {
                self.each_from(engine, prefix.to_vec(), &prefix_end(prefix), prefix, SPLITS, take)
            }
            None => Ok(()),
        }
    }

    fn each_from(
        &mut self,
        engine: &dyn Engine,
        mut from: Vec<u8>,
        end: &[u8],
        prefix: &[u8],
        splits: u8,
        take: &mut dyn FnMut(&mut Self, Row) -> Result<(), VaultError>,
    ) -> Result<(), VaultError> {
        while let Ok(rows) = engine.scan(&from, end, limits::SCAN_PAGE_ROWS) {
            let Some(last) = rows.last() else { return Ok(()) };
            from = [last.key.as_slice(), &[0]].concat();
            let more = rows.len() == limits::SCAN_PAGE_ROWS;
            rows.into_iter().try_for_each(|row| take(self, row))?;
            if !more {
                return Ok(());
            }
        }
        let parts = || (0..=u8::MAX).map(|byte| [prefix, &[byte]].concat());
        // Where not even one of the parts can be read, the way to all of them is lost: each would be tried in vain.
        let leads_on = |part: Vec<u8>| engine.scan(&part, &prefix_end(&part), 1).is_ok();
        if splits == 0 || !parts().any(leads_on) {
            count(&mut self.report.lost, "unreadable ranges of rows");
            return Ok(());
        }
        for part in parts() {
            let part_end = prefix_end(&part);
            if part_end > from && part.as_slice() < end {
                let start = from.clone().max(part.clone());
                self.each_from(engine, start, &part_end, &part, splits - 1, take)?;
            }
        }
        Ok(())
    }
}

fn intent_for(old: Pointer, record: RecordId, now: UnixMillis) -> Intent {
    Intent {
        kid: old.kid,
        record,
        rec_ver: old.rec_ver,
        rtype: old.rtype,
        reason: ErasureReason::Superseded,
        requested: now,
    }
}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;

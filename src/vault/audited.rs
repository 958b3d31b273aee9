//! The audit log, read: pages of it, all of it, its signed head.
//!
//! Invariants: a caller bound to some tenants sees entries about those only; a head is signed only after the anchor has
//! bound it; an entry whose row is lost or damaged is named, and the others are served.

use std::collections::HashMap;

use super::core::{Core, Vault};
use super::current::Sort;
use super::error::VaultError;
use super::prune::ROW_ENTRIES_MAX;
use super::slug::Slug;
use super::trail::{name_key, open_name};
use crate::audit::{Act, Entry, Head, entries_in, first_in, principal_hash, purpose_hash, row_key};
use crate::authz::{ExportAudit, Permit, Principal, ReadAudit};
use crate::crypto::merkle::Frontier;
use crate::id::{RecordId, TenantOrd, TypeOrd};
use crate::limits::{AUDIT_LOOK_MAX, PAGE_BYTES, SCAN_PAGE_ROWS};

/// Entries of one part of an export or a tail.
const PART_ENTRIES: u64 = 256;

/// An entry with the names of today.
pub struct AuditLine {
    pub index: u64,
    /// `None`: its row is missing or damaged.
    pub told: Option<Told>,
}

/// What a readable entry tells.
pub struct Told {
    pub entry: Entry,
    pub leaf: Vec<u8>,
    /// `None`: the vault itself.
    pub principal: Option<String>,
    pub tenant: Option<Slug>,
    pub rtype: Option<Slug>,
    pub purpose: Option<String>,
}

impl AuditLine {
    /// At most what it takes of an answer, in bytes: the entry, its members once more, and names.
    fn bytes(&self) -> usize {
        self.told.as_ref().map_or(0, |told| told.leaf.len().saturating_mul(5) / 2) + 1_024
    }
}

/// Lines of an answer, as long as they fit it.
#[derive(Default)]
pub(super) struct Lines {
    pub lines: Vec<AuditLine>,
    bytes: usize,
}

impl Lines {
    /// Whether there is room for another one.
    pub fn has_room(&self, most: usize) -> bool {
        self.lines.len() < most && self.bytes < PAGE_BYTES
    }

    pub fn push(&mut self, line: AuditLine) {
        self.bytes = self.bytes.saturating_add(line.bytes());
        self.lines.push(line);
    }
}

/// Which entries are wanted.
#[derive(Default)]
pub struct AuditFilter {
    pub tenant: Option<Slug>,
    pub subject: Option<(Slug, RecordId)>,
    pub principal: Option<Principal>,
}

/// Entries, the newest first.
pub struct AuditPage {
    pub lines: Vec<AuditLine>,
    /// Before which index the next page ends.
    pub next: Option<u64>,
    /// The first index that the log still has.
    pub minimum_index: u64,
}

/// Bytes of entries, each with its index; `None` for one whose row is lost.
type Leaves = Vec<(u64, Option<Vec<u8>>)>;

/// A signed head.
pub struct SignedHead {
    pub head: Head,
    pub signature: [u8; 64],
    pub public_key: [u8; 32],
    /// The tree over the entries that were pruned.
    pub pruned: Frontier,
}

/// Hashes back to names, as far as the vault knows them.
pub(super) struct Names<'a> {
    core: &'a Core,
    principals: HashMap<[u8; 16], String>,
    tenants: HashMap<TenantOrd, Option<TenantNames>>,
}

struct TenantNames {
    id: Slug,
    types: HashMap<TypeOrd, Slug>,
    purposes: HashMap<[u8; 8], String>,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

impl<'a> Names<'a> {
    pub fn new(core: &'a Core) -> Self {
        Self { core, principals: HashMap::new(), tenants: HashMap::new() }
    }

    /// Looked up when an entry is about it: of the vault's tenants few are in a page.
    fn tenant(&mut self, ord: TenantOrd) -> Option<&TenantNames> {
        let core = self.core;
        let names = || {
            let tenant = core.tenant_of(ord)?;
            let state = tenant.state();
            let schemas = state.schemas.values();
            let types = schemas.clone().map(|s| (s.ord(), s.type_name().clone())).collect();
            let purposes = schemas.flat_map(|s| s.fields().iter().flat_map(|f| &f.purposes));
            let purposes = purposes
                .map(|p| (purpose_hash(core.vault(), p.as_str()), p.as_str().to_owned()))
                .collect();
            Some(TenantNames { id: tenant.id.clone(), types, purposes })
        };
        self.tenants.entry(ord).or_insert_with(names).as_ref()
    }

    fn principal(&mut self, hash: [u8; 16]) -> Result<Option<String>, VaultError> {
        if hash == [0; 16] {
            return Ok(None);
        }
        if let Some(known) = self.principals.get(&hash) {
            return Ok(Some(known.clone()));
        }
        let row = self.core.tree.store().get(&name_key(&hash))?;
        let key = self.core.tree.read().names_key()?;
        let name = row.and_then(|row| open_name(self.core.vault(), &key, &hash, &row));
        let name = name.unwrap_or_else(|| hex(&hash));
        self.principals.insert(hash, name.clone());
        Ok(Some(name))
    }

    pub fn tell(&mut self, index: u64, leaf: Option<Vec<u8>>) -> Result<AuditLine, VaultError> {
        let read = leaf.and_then(|leaf| Some((Entry::decode(&leaf).ok()?, leaf)));
        let Some((entry, leaf)) = read.filter(|(e, _)| e.seq == index) else {
            return Ok(AuditLine { index, told: None });
        };
        let principal = self.principal(entry.principal)?;
        let tenant = entry.tenant.and_then(|t| self.tenant(t));
        let rtype = entry.rtype.and_then(|r| tenant?.types.get(&r).cloned());
        let purpose = (entry.purpose != [0; 8]).then(|| {
            let known = tenant.and_then(|t| t.purposes.get(&entry.purpose).cloned());
            known.unwrap_or_else(|| hex(&entry.purpose))
        });
        let tenant = tenant.map(|t| t.id.clone());
        let told = Told { entry, leaf, principal, tenant, rtype, purpose };
        Ok(AuditLine { index, told: Some(told) })
    }
}

impl Vault {
    /// Entries before an index (`None`: the end), the newest first. A page may be shorter than asked for, or empty,
    /// although more follow.
    pub fn audit_entries(
        &self,
        permit: &Permit<ReadAudit>,
        filter: &AuditFilter,
        before: Option<u64>,
        page_size: usize,
    ) -> Result<AuditPage, VaultError> {
        let core = &*self.core;
        let wanted = core.wanted(permit, filter)?;
        core.note(&Entry { tenant: wanted.tenant, ..core.entry(permit, Act::ListAuditEntries) })?;
        let mut names = Names::new(core);
        let size = core.log_size()?;
        let mut end = before.unwrap_or(size).min(size);
        let least = end.saturating_sub(AUDIT_LOOK_MAX).max(core.minimum_index());
        let mut page = Lines::default();
        while end > least && page.has_room(page_size) {
            let start = end.saturating_sub(SCAN_PAGE_ROWS as u64).max(least);
            for (index, leaf) in core.log_leaves(start, end)?.into_iter().rev() {
                end = index;
                let line = names.tell(index, leaf)?;
                if wanted.admits(permit, &line) {
                    page.push(line);
                    if !page.has_room(page_size) {
                        break;
                    }
                }
            }
        }
        Ok(core.page(page.lines, end))
    }

    /// How many entries an export that begins now ends with. Fails if where it is to begin was pruned.
    pub fn audit_size(&self, permit: &Permit<ExportAudit>, start: u64) -> Result<u64, VaultError> {
        let core = &*self.core;
        core.check_kept(start)?;
        core.note(&core.entry(permit, Act::ExportAuditEntries))?;
        core.log_size()
    }

    /// Some entries from `start` on, below `end`, the oldest first.
    pub fn audit_part(
        &self,
        _: &Permit<ExportAudit>,
        start: u64,
        end: u64,
    ) -> Result<Vec<AuditLine>, VaultError> {
        self.core.log_part(start, end, |_| true).map(|(lines, _)| lines)
    }

    /// The head of the log as it is on disk now, bound by the anchor and signed.
    pub async fn audit_head(&self, permit: &Permit<ExportAudit>) -> Result<SignedHead, VaultError> {
        let core = self.core.clone();
        core.note(&core.entry(permit, Act::GetAuditHead))?;
        // First, so that the entry which tells of it is in the tree that is signed.
        let pruned = core.pruned_tree()?;
        core.tree.store().barrier()?.await?;
        let bound = tokio::task::spawn_blocking(move || {
            let now = core.clock.now();
            core.tree.refresh(now, false)?;
            let (size, root) = core.tree.bound_audit();
            let head = Head {
                vault: core.vault(),
                size,
                root,
                generation: core.tree.generation(),
                at: now,
            };
            let signer = core.tree.read().signer()?;
            let (signature, public_key) = (head.sign(&signer), signer.public_key());
            Ok(SignedHead { head, signature, public_key, pruned })
        });
        bound.await.map_err(|_| VaultError::Stopping)?
    }
}

/// A filter with its names looked up.
pub(super) struct Wanted {
    /// The tenant that was asked about, also where only a subject of it was named.
    pub tenant: Option<TenantOrd>,
    of_tenant: bool,
    subject: Option<[u8; 16]>,
    principal: Option<[u8; 16]>,
}

impl Wanted {
    /// Whether the holder of this permit may see an entry, and wants to.
    pub fn admits(&self, permit: &Permit<ReadAudit>, line: &AuditLine) -> bool {
        let Some(told) = &line.told else { return !self.of_tenant && permit.covers_all() };
        let entry = &told.entry;
        let seen = match &told.tenant {
            Some(tenant) => permit.covers(tenant.as_str()),
            None => permit.covers_all(),
        };
        seen && self.tenant.is_none_or(|t| entry.tenant == Some(t))
            && self.principal.is_none_or(|p| entry.principal == p)
            && self.subject.is_none_or(|s| entry.members.iter().any(|m| m.subject == s))
    }
}

impl Core {
    /// Looks up what a filter names. A subject that was erased is nobody's any more.
    pub(super) fn wanted(
        &self,
        permit: &Permit<ReadAudit>,
        filter: &AuditFilter,
    ) -> Result<Wanted, VaultError> {
        let tenant = filter.tenant.as_ref().map(|t| self.tenant(permit, t.as_str())).transpose()?;
        let subject = match &filter.subject {
            Some((tenant, id)) => {
                let tenant = self.tenant(permit, tenant.as_str())?;
                let found = self.find_current(&tenant, *id, Sort::Subject)?;
                Some((tenant.ord, found.open.fields.member.subject))
            }
            None => None,
        };
        let principal = filter.principal.as_ref().map(|p| principal_hash(self.vault(), p.as_str()));
        Ok(Wanted {
            tenant: subject.map(|(t, _)| t).or(tenant.as_ref().map(|t| t.ord)),
            of_tenant: tenant.is_some(),
            subject: subject.map(|(_, s)| s),
            principal,
        })
    }

    /// Those of the next entries from `start` on, below `end`, that pass, the oldest first; and the first index that
    /// was not looked at.
    pub(super) fn log_part(
        &self,
        start: u64,
        end: u64,
        passes: impl Fn(&AuditLine) -> bool,
    ) -> Result<(Vec<AuditLine>, u64), VaultError> {
        let (mut names, mut part) = (Names::new(self), Lines::default());
        let mut next = start;
        let leaves = self.log_leaves(start, end.min(start.saturating_add(PART_ENTRIES)))?;
        // What is pruned while it is read is not lost.
        self.check_kept(start)?;
        for (index, leaf) in leaves {
            if !part.has_room(usize::MAX) {
                break;
            }
            let line = names.tell(index, leaf)?;
            next = index + 1;
            if passes(&line) {
                part.push(line);
            }
        }
        Ok((part.lines, next))
    }

    /// An answer of these lines, when all from `end` on have been looked at.
    pub(super) fn page(&self, mut lines: Vec<AuditLine>, end: u64) -> AuditPage {
        let minimum_index = self.minimum_index();
        // What is pruned while it is read is not lost.
        lines.retain(|line| line.index >= minimum_index);
        AuditPage { lines, next: Some(end).filter(|end| *end > minimum_index), minimum_index }
    }

    pub(super) fn log_size(&self) -> Result<u64, VaultError> {
        self.tree.store().log_head().map(|(size, _)| size).ok_or(VaultError::Damaged("audit log"))
    }

    /// The bytes of the entries from `start` to `end`, each with its index; `None` for one whose row is lost.
    pub(super) fn log_leaves(&self, start: u64, end: u64) -> Result<Leaves, VaultError> {
        let mut leaves: Leaves = (start..end).map(|n| (n, None)).collect();
        self.each_leaf(start, end, |index, _, leaf| {
            let at = index.checked_sub(start).and_then(|n| usize::try_from(n).ok());
            if let Some(place) = at.and_then(|at| leaves.get_mut(at)) {
                place.1 = Some(leaf.to_vec());
            }
        })?;
        Ok(leaves)
    }

    /// Each entry from `start` to `end` that is there: its index, that of the first one in its row, its bytes.
    pub(super) fn each_leaf(
        &self,
        start: u64,
        end: u64,
        mut each: impl FnMut(u64, u64, &[u8]),
    ) -> Result<(), VaultError> {
        // A row is named by its first entry, so the one that has `start` may begin somewhat before.
        let mut from = row_key(start.saturating_sub(ROW_ENTRIES_MAX));
        let until = row_key(end);
        loop {
            let rows = self.tree.store().scan(&from, &until, SCAN_PAGE_ROWS)?;
            let Some(last) = rows.last() else { return Ok(()) };
            from = [last.key.as_slice(), &[0]].concat();
            for row in rows {
                let Some(first) = first_in(&row.key) else { continue };
                let entries = (first..).zip(entries_in(&row.value).unwrap_or_default());
                for (index, leaf) in entries.filter(|(index, _)| (start..end).contains(index)) {
                    each(index, first, leaf);
                }
            }
        }
    }
}

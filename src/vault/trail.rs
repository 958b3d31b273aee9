//! What the vault's calls tell the audit log, and what the log keeps beside its entries.
//!
//! Invariants: a change's entry commits with its effect; a read's has its place in the log's bounded queue before the
//! read is answered, or the read is refused; refused calls are counted and told a minute's worth at a time, so that a
//! flood of them cannot fill the log.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError, RwLock};

use super::core::{Core, Vault};
use super::error::VaultError;
use super::view::{RecordView, Trace};
use crate::audit::{Act, Entry, Kind, Member, principal_hash, purpose_hash};
use crate::authz::{ActionKind, Permit, Principal};
use crate::class::AuditReads;
use crate::clock::UnixMillis;
use crate::crypto::{NamesKey, labels, open_in_place, seal_append};
use crate::id::{TenantOrd, TypeOrd, VaultId};
use crate::keys::{KeyError, Recovered};
use crate::limits::{PRINCIPALS_MAX, REFUSALS_EVERY, REFUSALS_MAX};
use crate::store::{Batch, Urgency};

const NAME_MAGIC: &[u8; 4] = b"LTI1";

/// Key of the row that names a principal.
pub(super) fn name_key(principal: &[u8; 16]) -> Vec<u8> {
    [b"n".as_slice(), principal].concat()
}

fn seal_name(
    vault: VaultId,
    key: &NamesKey,
    principal: &[u8; 16],
    uri: &str,
) -> Result<Vec<u8>, VaultError> {
    let mut out = NAME_MAGIC.to_vec();
    let aad = labels::name_aad(vault, &name_key(principal));
    seal_append(key.expose(), &aad, uri.as_bytes(), &mut out)
        .map_err(|_| VaultError::Damaged("principal's name"))?;
    Ok(out)
}

/// The URI in a row; `None` if the row does not open.
pub(super) fn open_name(
    vault: VaultId,
    key: &NamesKey,
    principal: &[u8; 16],
    row: &[u8],
) -> Option<String> {
    let mut sealed = row.strip_prefix(NAME_MAGIC.as_slice())?.to_vec();
    let aad = labels::name_aad(vault, &name_key(principal));
    let uri = open_in_place(key.expose(), &aad, &mut sealed).ok()?;
    String::from_utf8(uri.to_vec()).ok()
}

/// Refused calls of one kind.
#[derive(Clone, Copy)]
struct Count {
    calls: u32,
    first: UnixMillis,
    last: UnixMillis,
}

#[derive(Default)]
struct Refusals {
    counts: HashMap<([u8; 16], Act, u8), Count>,
    since: Option<UnixMillis>,
}

/// What the log's writers share.
#[derive(Default)]
pub struct Trail {
    pub mode: AuditReads,
    /// Principals whose name is on disk or on its way there.
    names: RwLock<HashMap<Principal, [u8; 16]>>,
    refusals: Mutex<Refusals>,
}

impl Trail {
    pub fn new(mode: AuditReads) -> Self {
        Self { mode, ..Self::default() }
    }

    fn refused(&self, key: ([u8; 16], Act, u8), now: UnixMillis) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.since.get_or_insert(now);
        let full = refusals.counts.len() >= REFUSALS_MAX && !refusals.counts.contains_key(&key);
        let key = if full { ([0; 16], Act::Other, 0) } else { key };
        let count = Count { calls: 0, first: now, last: now };
        let count = refusals.counts.entry(key).or_insert(count);
        count.calls = count.calls.saturating_add(1);
        count.last = now.max(count.last);
    }

    /// The counts to be told, if it is time.
    fn due(&self, now: UnixMillis, all: bool) -> Option<Refusals> {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let age = now.0.saturating_sub(refusals.since?.0);
        let due = all || age < 0 || age >= REFUSALS_EVERY.as_millis() as i64;
        due.then(|| std::mem::take(&mut *refusals))
    }
}

impl Entry {
    /// The same about a tenant.
    pub(super) fn of(self, tenant: TenantOrd) -> Self {
        Self { tenant: Some(tenant), ..self }
    }

    /// The same about records of one type, or of several.
    pub(super) fn about(
        self,
        records: impl IntoIterator<Item = (Option<TypeOrd>, Member)>,
    ) -> Self {
        let mut entry = self;
        let mut types = (!entry.members.is_empty()).then_some(entry.rtype);
        for (rtype, member) in records {
            let same = *types.get_or_insert(rtype) == rtype;
            types = Some(rtype.filter(|_| same));
            entry.members.push(member);
        }
        entry.rtype = types.flatten();
        entry.total = u32::try_from(entry.members.len()).unwrap_or(u32::MAX);
        entry
    }

    /// The same of records that were shown.
    pub(super) fn showing<'a>(self, views: impl IntoIterator<Item = &'a RecordView>) -> Self {
        let (mut seen, mut entry) = (self.seen, self);
        entry = entry.about(views.into_iter().map(|view| {
            let Trace { member, rtype, seen: of_view } = view.trace;
            seen.add(of_view);
            (Some(rtype), member)
        }));
        Self { seen, ..entry }
    }
}

/// Reads stop when the disk is almost full, since the log of them would fill it. What an operator needs then, and the
/// few entries that the vault makes of itself, go on.
fn urgency(entry: &Entry) -> Urgency {
    match (entry.kind, entry.act) {
        (Kind::Call, Act::EraseRecord | Act::BatchEraseRecords | Act::EraseSubject)
        | (Kind::Call, Act::EraseBucket | Act::RotateKey | Act::GetStatus)
        | (Kind::Refusals | Kind::Gap | Kind::Vault, _) => Urgency::Vital,
        (Kind::Call, _) => Urgency::Note,
    }
}

impl Core {
    /// What stands for a principal; its name is written when it is seen for the first time.
    fn principal(&self, principal: &Principal) -> [u8; 16] {
        let known = self.trail.names.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(hash) = known.get(principal) {
            return *hash;
        }
        let many = known.len() >= PRINCIPALS_MAX;
        drop(known);
        let hash = principal_hash(self.vault(), principal.as_str());
        if !many && self.write_name(principal, &hash).is_ok() {
            let mut known = self.trail.names.write().unwrap_or_else(PoisonError::into_inner);
            known.insert(principal.clone(), hash);
        }
        hash
    }

    /// Nobody waits for it: the committer keeps the order, so the name is there before the entry that needs it.
    fn write_name(&self, principal: &Principal, hash: &[u8; 16]) -> Result<(), VaultError> {
        let store = self.tree.store();
        if store.get(&name_key(hash))?.is_some() {
            return Ok(());
        }
        let key = self.tree.read().names_key()?;
        let row = seal_name(self.vault(), &key, hash, principal.as_str())?;
        let mut batch = Batch { urgency: Urgency::Note, ..Batch::default() };
        batch.put(name_key(hash), row);
        drop(store.submit(batch)?);
        Ok(())
    }

    /// An entry of a call, about nothing yet.
    pub(super) fn entry<A: ActionKind>(&self, permit: &Permit<A>, act: Act) -> Entry {
        let principal = self.principal(permit.principal());
        let role = Some(permit.role());
        Entry { principal, role, ..Entry::new(Kind::Call, act, self.clock.now()) }
    }

    pub(super) fn purpose(&self, purpose: Option<&str>) -> [u8; 8] {
        purpose.map_or([0; 8], |p| purpose_hash(self.vault(), p))
    }

    /// Puts an entry that no write goes with into the log. Without a place for it the call is refused.
    pub(super) fn note(&self, entry: &Entry) -> Result<(), VaultError> {
        self.tree
            .store()
            .note(entry.encode(), urgency(entry))
            .inspect_err(|_| self.metrics.audit_refused.one())?;
        self.metrics.audit_entries.one();
        Ok(())
    }

    /// Tells of refused calls, if it is time.
    pub(super) fn tell_refusals(&self, all: bool) -> Result<(), VaultError> {
        let Some(due) = self.trail.due(self.clock.now(), all) else { return Ok(()) };
        let mut counts: Vec<_> = due.counts.into_iter().collect();
        counts
            .sort_by_key(|((principal, act, code), count)| (count.first, *principal, *act, *code));
        for ((principal, act, code), count) in counts {
            let entry = Entry {
                code,
                principal,
                since: count.first,
                total: count.calls,
                ..Entry::new(Kind::Refusals, act, count.last)
            };
            self.note(&entry)?;
        }
        Ok(())
    }
}

/// The log's first entries of a run of the vault: that it was opened, and before that what may be missing.
pub(super) fn tell_opening(core: &Core, recovered: &Recovered) -> Result<(), VaultError> {
    let entry = |kind| Entry {
        generation: core.tree.generation(),
        ..Entry::new(kind, Act::Open, core.clock.now())
    };
    if recovered.unclean || recovered.log_lost {
        // A repair that gave up entries says how many are left: what came after has no beginning that anyone knows.
        let since = if recovered.log_lost { UnixMillis(i64::MIN) } else { recovered.before };
        core.note(&Entry { since, ..entry(Kind::Gap) })?;
    }
    core.note(&entry(Kind::Vault))?;
    core.tree.store().barrier()?.wait()?;
    Ok(())
}

impl Vault {
    /// Counts a call that was refused or failed.
    pub fn refused(&self, principal: &Principal, path: &str, code: u8) {
        let principal = self.core.principal(principal);
        self.core.trail.refused((principal, Act::of_path(path), code), self.core.clock.now());
    }

    /// Whether reads wait for the disk.
    pub fn holds_up_reads(&self) -> bool {
        self.core.trail.mode == AuditReads::Sync
    }

    /// Where reads wait for the disk (`sync`): returns when what the log was told so far is durable.
    pub async fn settle_reads(&self) -> Result<(), VaultError> {
        match self.core.trail.mode {
            AuditReads::Group => Ok(()),
            AuditReads::Sync => self.settle_log().await,
        }
    }

    /// Returns when what the log was told so far is durable, and so is found when it is read.
    pub async fn settle_log(&self) -> Result<(), VaultError> {
        self.core.tree.store().barrier().map_err(KeyError::from)?.await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::RPCS;

    #[test]
    fn every_method_but_health_has_an_act_of_its_own() {
        let mut acts: Vec<Act> = RPCS.iter().map(|(path, _)| Act::of_path(path)).collect();
        let unknown: Vec<_> =
            RPCS.iter().filter(|(path, _)| Act::of_path(path) == Act::Other).collect();
        assert_eq!(unknown.len(), 1, "{unknown:?}");
        acts.sort();
        acts.dedup();
        assert_eq!(acts.len(), RPCS.len());
    }

    #[test]
    fn a_flood_of_refusals_is_counted_in_bounded_room_and_told_once_a_minute() {
        let trail = Trail::default();
        for n in 0..REFUSALS_MAX * 2 {
            let mut principal = [1; 16];
            principal[..8].copy_from_slice(&(n as u64).to_be_bytes());
            trail.refused((principal, Act::GetRecord, 7), UnixMillis(n as i64));
            trail.refused(([9; 16], Act::GetRecord, 7), UnixMillis(5));
        }
        assert!(trail.due(UnixMillis(59_999), false).is_none());
        let told = trail.due(UnixMillis(60_000), false).unwrap();
        assert_eq!(told.counts.len(), REFUSALS_MAX + 1);
        let calls: u32 = told.counts.values().map(|c| c.calls).sum();
        assert_eq!(calls as usize, REFUSALS_MAX * 4);
        let one = told.counts[&([9; 16], Act::GetRecord, 7)];
        assert_eq!((one.calls as usize, one.first), (REFUSALS_MAX * 2, UnixMillis(5)));
        assert!(trail.due(UnixMillis(i64::MAX), true).is_none(), "they are told once");
        trail.refused(([9; 16], Act::GetRecord, 7), UnixMillis(5));
        assert!(
            trail.due(UnixMillis(4), false).is_some(),
            "a clock that went back does not hold them up"
        );
    }

    #[test]
    fn a_name_opens_only_under_its_own_key() {
        let (vault, key) = (VaultId([1; 16]), NamesKey::generate());
        let row = seal_name(vault, &key, &[2; 16], "spiffe://test/a").unwrap();
        assert_eq!(open_name(vault, &key, &[2; 16], &row).as_deref(), Some("spiffe://test/a"));
        assert!(open_name(vault, &key, &[3; 16], &row).is_none());
        assert!(open_name(VaultId([2; 16]), &key, &[2; 16], &row).is_none());
        assert!(open_name(vault, &NamesKey::generate(), &[2; 16], &row).is_none());
    }
}

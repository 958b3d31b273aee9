//! Erasure: of records, subjects, old versions and whole buckets (ERASURE §2.5, §2.6).
//!
//! Invariants: an erasure that was accepted goes on whatever becomes of its caller; its answer is a receipt made from a
//! completed batch; asking again for what is erased gives the same receipt; one thread alone removes keys.

mod accept;
mod asked;
mod evolve;
mod kill;
mod receipts;
mod upkeep;
mod worker;

use std::collections::BTreeSet;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

pub use self::accept::Erasures;
pub use self::asked::Asked;
pub use self::kill::{Condemned, Fate};
pub use self::receipts::Named;
pub use self::worker::Start;
use self::worker::Worker;
use super::core::{Core, Stripes, Vault};
use super::current::Sort;
use super::damaged::UNATTRIBUTED;
use super::error::VaultError;
use super::holds::postponed::Postponed;
use super::index::{Token, subject_token};
use super::ledger::Receipt;
use super::lookup::tokens_ever;
use super::registry::Tenant;
use super::rows::{Intent, Pointer};
use super::sealed::{self, Version};
use crate::audit::{Act, Entry, Member};
use crate::authz::{EraseRecord, EraseSubject, Permit, RotateKey};
use crate::class::ErasureReason;
use crate::clock::UnixMillis;
use crate::id::{Gen, Kid, RecVer, RecordId, TenantOrd, TypeOrd};
use crate::keys::KeyError;
use crate::limits;

/// A record version whose key is to be destroyed.
pub struct Doomed {
    pub kid: Kid,
    pub record: RecordId,
    pub rec_ver: RecVer,
    pub rtype: TypeOrd,
    /// How many rows its ciphertext has.
    pub rows: u16,
    /// `None`: it no longer opens, so every leaf is searched.
    pub tokens: Option<Vec<Token>>,
    /// The revision of its schema that says so; 0 where it has none.
    pub revision: u32,
    pub reason: ErasureReason,
    pub requested: UnixMillis,
    /// The record as such goes: a tombstone takes its pointer's place.
    pub whole: bool,
    /// Whom it is about, as the audit log tells it.
    pub member: Member,
}

impl Doomed {
    /// The wish to erase it, if it is an old version.
    fn intent(&self) -> Option<Intent> {
        let reason = ErasureReason::Superseded;
        let Doomed { kid, record, rec_ver, rtype, requested, .. } = *self;
        (!self.whole).then_some(Intent { kid, record, rec_ver, rtype, reason, requested })
    }
}

/// What became of what a caller asked to erase.
pub struct Erasure<T> {
    /// Of what is erased, in the order of the call.
    pub receipts: Vec<T>,
    /// What a legal hold keeps: it goes when the last one ends.
    pub postponed: Vec<(RecordId, Postponed)>,
}

/// Fails for a type whose records the caller may not erase.
type Allowed<'a> = dyn Fn(TypeOrd) -> Result<(), VaultError> + Sync + 'a;

type Answer<T> = oneshot::Sender<Result<T, VaultError>>;

/// What the eraser's thread is asked to do.
pub enum Job {
    Units(Vec<Doomed>, Option<Entry>, Answer<Vec<Receipt>>),
    Kill {
        condemned: Vec<Condemned>,
        entry: Entry,
        done: Answer<Vec<Fate>>,
    },
    Rotate(Entry, Answer<Gen>),
    /// Look whether something is to be done.
    Wake,
    Stop(std::sync::mpsc::Sender<Result<(), VaultError>>),
}

/// The handle of the eraser's thread.
pub struct Eraser {
    /// `None` only while it is being dropped.
    jobs: Option<SyncSender<Job>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Eraser {
    pub fn start(core: Arc<Core>, start: Start) -> Result<Self, VaultError> {
        let (jobs, queue) = sync_channel(limits::ERASURE_QUEUE_MAX);
        let thread = std::thread::Builder::new()
            .name("eraser".into())
            .spawn(move || Worker::new(core, start, queue).run())
            .map_err(|_| VaultError::Exhausted("no thread for the eraser"))?;
        Ok(Self { jobs: Some(jobs), thread: Mutex::new(Some(thread)) })
    }

    pub(super) fn send(&self, job: Job) -> Result<(), VaultError> {
        self.jobs.as_ref().ok_or(VaultError::Stopping)?.try_send(job).map_err(|e| match e {
            TrySendError::Full(_) => VaultError::Exhausted("too many erasures wait"),
            TrySendError::Disconnected(_) => VaultError::Stopping,
        })
    }

    /// Finishes what waits and ends the thread.
    pub fn stop(&self) -> Result<(), VaultError> {
        let (done, finished) = std::sync::mpsc::channel();
        let jobs = self.jobs.as_ref().ok_or(VaultError::Stopping)?;
        let asked = jobs.send(Job::Stop(done)).map_err(|_| VaultError::Stopping);
        let outcome = asked.and_then(|()| finished.recv().map_err(|_| VaultError::Stopping)?);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|t| t.join().is_err()) {
            return Err(VaultError::Stopping);
        }
        outcome
    }
}

impl Drop for Eraser {
    /// Without a stop this is like a crash, but the thread is gone when it returns.
    fn drop(&mut self) {
        self.jobs = None;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|t| t.join().is_err()) {
            tracing::error!("the eraser's thread panicked");
        }
    }
}

impl Vault {
    /// Erases records of one tenant as a unit; answers in the order of `records`.
    pub async fn erase_records(
        &self,
        permit: &Permit<EraseRecord>,
        tenant: &str,
        records: &[RecordId],
        reason: ErasureReason,
        etag: Option<RecVer>,
    ) -> Result<Erasure<Receipt>, VaultError> {
        let tenant = self.core.tenant(permit, tenant)?;
        let _writing = tenant.writing.read().await;
        if records.is_empty() || records.len() > limits::BATCH_ERASE_MAX {
            return Err(VaultError::Argument { field: "names", reason: "must be 1 to 1000 names" });
        }
        let distinct: BTreeSet<RecordId> = records.iter().copied().collect();
        if distinct.len() != records.len() {
            return Err(VaultError::Argument { field: "names", reason: "a name is given twice" });
        }
        let records: Vec<_> = records.iter().map(|r| (Sort::Record, *r)).collect();
        let act = if records.len() == 1 { Act::EraseRecord } else { Act::BatchEraseRecords };
        let entry = self.core.entry(permit, act).of(tenant.ord);
        let reach = |rtype| self.core.check_reach(permit, &tenant, rtype);
        let erased =
            self.erasures().erase(&tenant, &records, (reason, etag), (entry, &reach)).await;
        if records.len() == 1 { erased.map_err(VaultError::alone) } else { erased }
    }

    /// Erases a subject and every record about it. The subject's receipt comes first; where a record about it is held,
    /// it waits with that.
    pub async fn erase_subject(
        &self,
        permit: &Permit<EraseSubject>,
        tenant: &str,
        subject: RecordId,
        reason: ErasureReason,
    ) -> Result<Erasure<(RecordId, Receipt)>, VaultError> {
        let core = &*self.core;
        let tenant = core.tenant(permit, tenant)?;
        let _writing = tenant.writing.read().await;
        let stripe = Stripes::<tokio::sync::RwLock<()>>::of(&subject.0);
        // Puts about the subject are over, and later ones will not find it.
        let _no_puts = core.subject_locks.at(stripe).write().await;
        let mut records = vec![(Sort::Subject, subject)];
        match core.check_subject(&tenant, subject) {
            Ok(_) => {
                let about = core.records_about(&tenant, subject)?;
                records.extend(about.into_iter().map(|r| (Sort::Record, r)));
            }
            Err(VaultError::Erased(_)) => {}
            Err(e) => return Err(e),
        }
        if records.len() > limits::SUBJECT_RECORDS_MAX {
            return Err(VaultError::TooLarge("the subject has too many records for one call"));
        }
        let entry = core.entry(permit, Act::EraseSubject).of(tenant.ord);
        // Who may erase a subject may erase what is about it, of whatever type.
        let all: &Allowed<'_> = &|_| Ok(());
        let told = (entry, all);
        let erased = self.erasures().erase(&tenant, &records, (reason, None), told).await;
        let Erasure { receipts, postponed } = erased.map_err(VaultError::alone)?;
        let waits = |r: &RecordId| postponed.iter().any(|(waiting, _)| waiting == r);
        let gone = records.into_iter().map(|(_, r)| r).filter(|r| !waits(r));
        Ok(Erasure { receipts: gone.zip(receipts).collect(), postponed })
    }

    pub(super) fn erasures(&self) -> Erasures<'_> {
        Erasures { core: &self.core, eraser: &self.eraser }
    }

    /// Erases a superseded version at once, by the schema's policy.
    pub(super) async fn erase_superseded(
        &self,
        tenant: &Arc<Tenant>,
        kid: Kid,
    ) -> Result<(), VaultError> {
        let Some(intent) = self.core.superseded.take_kid(kid) else { return Ok(()) };
        if self.core.keeps_old(tenant, &intent) {
            self.core.superseded.hold(intent);
            return Ok(());
        }
        let doomed = self.core.doom_superseded(Some(tenant), &intent);
        let doomed = doomed.inspect_err(|_| self.core.superseded.park(intent))?;
        let (answer, answered) = oneshot::channel();
        self.erasures().send_units(vec![doomed], None, answer)?;
        answered.await.map_err(|_| VaultError::Stopping)?.map(drop)
    }

    /// A new KEK and a new root key, by a batch that removes nothing else.
    pub async fn rotate_key(&self, permit: &Permit<RotateKey>) -> Result<Gen, VaultError> {
        if permit.tenant().is_some() {
            return Err(VaultError::Forbidden);
        }
        let (done, answered) = oneshot::channel();
        self.eraser.send(Job::Rotate(self.core.entry(permit, Act::RotateKey), done))?;
        answered.await.map_err(|_| VaultError::Stopping)?
    }
}

impl Core {
    /// Everything of a record that has a key: its current version and the superseded ones.
    fn condemn(
        &self,
        tenant: &Arc<Tenant>,
        (sort, record): (Sort, RecordId),
        (reason, requested, etag): (ErasureReason, UnixMillis, Option<RecVer>),
        allowed: &Allowed<'_>,
    ) -> Result<Vec<Doomed>, VaultError> {
        let what = sort.word();
        let row = self.tree.store().get(&Pointer::key(tenant.ord, record))?;
        let row = row.ok_or(VaultError::NotFound(what))?;
        let pointer = Pointer::decode(&row).ok_or(VaultError::Damaged(what))?;
        sort.check(pointer.rtype)?;
        allowed(pointer.rtype)?;
        if etag.is_some_and(|e| e != pointer.rec_ver) {
            return Err(VaultError::Stale("record"));
        }
        let current = Intent {
            kid: pointer.kid,
            record,
            rec_ver: pointer.rec_ver,
            rtype: pointer.rtype,
            reason,
            requested,
        };
        let unit = self.doom(Some(tenant), &current, true)?;
        match self.tree.read().dek(pointer.kid) {
            Ok(_) => {}
            Err(KeyError::Gone) => return Err(VaultError::Erased(what)),
            // Its page is lost: said to this caller alone, not found out in a batch with others.
            Err(e) => return Err(e.into()),
        }
        let mut doomed = vec![unit];
        for old in self.superseded.of_record(record) {
            doomed.push(self.doom(Some(tenant), &Intent { reason, ..old }, false)?);
        }
        Ok(doomed)
    }

    pub(super) fn doom_superseded(
        &self,
        tenant: Option<&Arc<Tenant>>,
        old: &Intent,
    ) -> Result<Doomed, VaultError> {
        self.doom(tenant, old, false)
    }

    /// Opens a version one last time, to know where it is listed and how many rows it has. Fails if another's is there:
    /// a pointer or intent that a disk moved must not erase it.
    fn doom(
        &self,
        tenant: Option<&Arc<Tenant>>,
        unit: &Intent,
        whole: bool,
    ) -> Result<Doomed, VaultError> {
        let open = self.open_at(unit.kid, None).ok();
        let own = |v: &Version| (v.record, v.rec_ver) == (unit.record, unit.rec_ver);
        if open.as_ref().is_some_and(|open| !own(&open.version)) {
            return Err(VaultError::Damaged("record"));
        }
        let secrets = self.tree.read().tenant(unit.kid.tenant).ok();
        let schema = tenant.and_then(|t| t.schema_of(unit.rtype));
        let tokens = match (&open, &secrets, tenant) {
            (Some(open), Some(secrets), Some(_)) => Some(tokens_ever(
                &secrets.index,
                unit.rtype,
                schema.as_deref(),
                &open.fields.to_map(),
            )),
            _ => None,
        };
        // A version that does not open: every row that its key could have is deleted.
        let rows = match &open {
            Some(open) => open.rows,
            None => self.count_rows(unit.kid),
        };
        let member = open.map(|o| o.fields.member).unwrap_or_default();
        Ok(Doomed {
            kid: unit.kid,
            record: unit.record,
            rec_ver: unit.rec_ver,
            rtype: unit.rtype,
            rows,
            tokens,
            revision: schema.map_or(0, |s| s.revision()),
            reason: unit.reason,
            requested: unit.requested,
            whole,
            member,
        })
    }

    /// The tokens of a unit that waited while its schema changed: by the schema of now it may be listed under others.
    fn tokens_now(&self, d: &Doomed) -> Option<Vec<Token>> {
        let open = self.open_at(d.kid, None).ok()?;
        let secrets = self.tree.read().tenant(d.kid.tenant).ok()?;
        let schema = self.tenant_of(d.kid.tenant)?.schema_of(d.rtype);
        Some(tokens_ever(&secrets.index, d.rtype, schema.as_deref(), &open.fields.to_map()))
    }

    fn count_rows(&self, kid: Kid) -> u16 {
        let prefix = [b"r".as_slice(), &kid.bytes()].concat();
        let rows = self.tree.store().prefix(&prefix).filter_map(Result::ok);
        let chunks = rows.filter_map(|r| sealed::parse_key(&r.key).map(|(_, chunk)| chunk));
        chunks.max().map_or(0, |last| last.saturating_add(1))
    }

    /// Live records about a subject, without the subject itself.
    fn records_about(
        &self,
        tenant: &Tenant,
        subject: RecordId,
    ) -> Result<Vec<RecordId>, VaultError> {
        let secrets = self.tree.read().tenant(tenant.ord)?;
        let token = subject_token(&secrets.index, subject);
        let mut records = BTreeSet::new();
        for kid in self.index.find(&self.tree, &tenant.buckets(None), &token)? {
            let value = self.tree.store().get(&sealed::row_key(kid, 0))?;
            let named = value.as_deref().and_then(sealed::peek).map(|v| v.record);
            let record = match named.or_else(|| self.damaged.record_of(kid)) {
                Some(record) => record,
                None if self.tree.read().dek(kid).is_err() => continue,
                // It is the subject's and has a key, but nothing says which record it is.
                None => return Err(UNATTRIBUTED),
            };
            let theirs = match self.find_current(tenant, record, Sort::Record) {
                Ok(found) => found.open.fields.subject == subject,
                // A record that does not open cannot prove that it is about someone else: the index says it is.
                Err(VaultError::Damaged(_)) => true,
                Err(VaultError::Erased(_) | VaultError::NotFound(_)) => false,
                Err(e) => return Err(e),
            };
            if theirs {
                records.insert(record);
            }
            let row = self.tree.store().get(&Pointer::key(tenant.ord, record))?;
            let current = row.as_deref().and_then(Pointer::decode).is_some_and(|p| p.kid == kid);
            // A header that is damaged too names another record than the one that the index means.
            if !current && self.is_unreadable(kid) && !self.superseded.holds(kid) {
                return Err(UNATTRIBUTED);
            }
        }
        records.remove(&subject);
        let records: Vec<RecordId> = records.into_iter().collect();
        self.check_all_attributed(tenant, &records)?;
        Ok(records)
    }

    /// The tenant of an ordinal.
    pub(super) fn tenant_of(&self, ord: TenantOrd) -> Option<Arc<Tenant>> {
        self.registry.all().into_iter().find(|t| t.ord == ord)
    }
}

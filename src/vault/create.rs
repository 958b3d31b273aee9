//! Creating records: one, several at once, or a chunk of an import.
//!
//! Invariants: what is created together commits in one batch and is answered after it is durable; unique values are
//! checked and stored under one lock; a call that is repeated with its request id creates nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::core::{Core, Stripes, Vault};
use super::current::SUBJECT;
use super::error::VaultError;
use super::fieldmap::{EncodedMap, FieldMap};
use super::index::Token;
use super::put::Home;
use super::records::{new_id, subject_map};
use super::registry::Tenant;
use super::requests::{Asked, Operation, Progress};
use super::schema::Schema;
use super::slug::Slug;
use super::value::Value;
use super::view::{ReadSpec, RecordView, view};
use super::watch::{Change, ChangeKind};
use crate::audit::{Act, Entry, Member};
use crate::authz::{CreateRecord, Permit, Principal};
use crate::clock::UnixMillis;
use crate::crypto::random;
use crate::id::{Day, FieldOrd, RecVer, RecordId, RequestId};
use crate::keys::slots::Slot;
use crate::limits;
use crate::store::Batch;

/// A record to create.
pub struct NewRecord {
    pub rtype: Slug,
    /// `None`: the vault issues a new subject.
    pub subject: Option<RecordId>,
    pub fields: BTreeMap<String, Value>,
    /// Given if the caller may repeat the call.
    pub request: Option<RequestId>,
}

impl NewRecord {
    fn asked(&self, caller: &Principal) -> Asked {
        let mut asked = Asked::new(Operation::CreateRecord, caller);
        asked.part(self.rtype.as_str().as_bytes());
        asked.part(self.subject.as_ref().map_or(&[][..], |s| &s.0));
        asked.values(&self.fields);
        asked
    }
}

/// A record that its schema allows, not created yet.
struct Draft {
    /// Position in the call.
    at: usize,
    id: RecordId,
    schema: Arc<Schema>,
    subject: Option<RecordId>,
    /// What stands for the named subject in the audit log, once it was looked up.
    reference: Option<[u8; 16]>,
    fields: BTreeMap<FieldOrd, Value>,
    repeat: Option<(RequestId, Asked)>,
}

impl Draft {
    fn new(
        tenant: &Tenant,
        permit: &Permit<CreateRecord>,
        at: usize,
        new: NewRecord,
    ) -> Result<Self, VaultError> {
        if !permit.reaches(new.rtype.as_str()) {
            return Err(VaultError::Forbidden);
        }
        let schema = tenant.schema(&new.rtype)?;
        let repeat = new.request.map(|request| (request, new.asked(permit.principal())));
        let fields = schema.check(new.fields)?;
        let subject = new.subject;
        Ok(Self { at, id: new_id(), schema, subject, reference: None, fields, repeat })
    }
}

/// What stays as it was checked until the records are stored.
#[derive(Default)]
struct Held<'a> {
    _subjects: Vec<tokio::sync::RwLockReadGuard<'a, ()>>,
    _uniques: Vec<tokio::sync::MutexGuard<'a, ()>>,
}

/// The answer to a chunk of an import.
pub struct ImportedChunk {
    /// Position after the chunk.
    pub next: u64,
    /// In the order of the chunk; `None` where the caller had refused the record itself.
    pub records: Vec<Option<Result<RecordId, VaultError>>>,
}

impl Vault {
    pub async fn create_record(
        &self,
        permit: &Permit<CreateRecord>,
        tenant: &str,
        new: NewRecord,
    ) -> Result<RecordView, VaultError> {
        let created = self.create_all(permit, tenant, vec![new], Act::CreateRecord).await;
        created.map_err(VaultError::alone)?.pop().ok_or(VaultError::Stopping)
    }

    /// Creates all or none, in one durable step; answers in the order of `new`. An error of one says of which.
    pub async fn create_records(
        &self,
        permit: &Permit<CreateRecord>,
        tenant: &str,
        new: Vec<NewRecord>,
    ) -> Result<Vec<RecordView>, VaultError> {
        self.create_all(permit, tenant, new, Act::BatchCreateRecords).await
    }

    async fn create_all(
        &self,
        permit: &Permit<CreateRecord>,
        tenant: &str,
        new: Vec<NewRecord>,
        act: Act,
    ) -> Result<Vec<RecordView>, VaultError> {
        let core = &*self.core;
        let tenant = core.tenant(permit, tenant)?;
        let _writing = tenant.writing.read().await;
        check_count("requests", new.len())?;
        let mut drafts = Vec::with_capacity(new.len());
        for (at, new) in new.into_iter().enumerate() {
            drafts.push(Draft::new(&tenant, permit, at, new).map_err(|e| e.at(at))?);
        }
        let _once = core.lock_drafts(&drafts).await?;
        let mut views: Vec<Option<RecordView>> = Vec::new();
        views.resize_with(drafts.len(), || None);
        let mut fresh = Vec::with_capacity(drafts.len());
        for draft in drafts {
            match core.repeated(&tenant, &draft, permit).map_err(|e| e.at(draft.at))? {
                Some(view) => place(&mut views, draft.at, view),
                None => fresh.push(draft),
            }
        }
        // One entry for the whole call: with what it creates, or alone if it only repeats.
        let repeated = core.entry(permit, act).of(tenant.ord).showing(views.iter().flatten());
        if fresh.is_empty() {
            core.note(&repeated)?;
        } else {
            let (sound, faults, _held) = core.examine(&tenant, fresh).await?;
            if let Some((at, error)) = faults.into_iter().next() {
                return Err(error.at(at));
            }
            let told = (repeated, Batch::default());
            let stored = core.store_drafts(&tenant, sound, permit, told).await?;
            stored.into_iter().for_each(|(at, view)| place(&mut views, at, view));
        }
        views.into_iter().map(|v| v.ok_or(VaultError::Stopping)).collect()
    }

    /// Where an import goes on.
    pub fn import_position(
        &self,
        permit: &Permit<CreateRecord>,
        tenant: &str,
        import: RequestId,
    ) -> Result<u64, VaultError> {
        let tenant = self.core.tenant(permit, tenant)?;
        let entry = self.core.entry(permit, Act::ImportRecords).of(tenant.ord);
        self.core.note(&entry)?;
        Ok(self.core.progress(tenant.ord, import)?.map_or(0, |p| p.next()))
    }

    /// Creates those records of a chunk that can be, and remembers in the same step that the chunk is done. The last
    /// chunk may be sent again: what it created is not doubled. `None` is a record that was refused already.
    pub async fn import_chunk(
        &self,
        permit: &Permit<CreateRecord>,
        tenant: &str,
        import: RequestId,
        first: u64,
        new: Vec<Option<NewRecord>>,
    ) -> Result<ImportedChunk, VaultError> {
        let core = &*self.core;
        let tenant = core.tenant(permit, tenant)?;
        let _writing = tenant.writing.read().await;
        check_count("chunk.records", new.len())?;
        let count = new.len();
        let _once = core.lock_requests([import].into_iter()).await;
        let before = core.progress(tenant.ord, import)?;
        let known = match &before {
            Some(last) if last.first == first && last.records.len() == count => {
                last.records.clone()
            }
            other if first == other.as_ref().map_or(0, Progress::next) => vec![None; count],
            _ => {
                let reason = "must follow the last chunk, or repeat it whole";
                return Err(VaultError::Argument { field: "chunk.first_index", reason });
            }
        };
        let mut outcome: Vec<_> = known.into_iter().map(|k| k.map(Ok)).collect();
        let mut drafts = Vec::new();
        for (at, new) in new.into_iter().enumerate() {
            let (Some(None), Some(new)) = (outcome.get(at), new) else { continue };
            match Draft::new(&tenant, permit, at, new) {
                Ok(draft) => drafts.push(draft),
                Err(e) => place(&mut outcome, at, Err(e)),
            }
        }
        // A fault of one record takes that one out; the rest goes on.
        let (sound, faults, _held) = core.examine(&tenant, drafts).await?;
        for (at, fault) in faults {
            // The other one is stored, or it would have taken nothing.
            let fault = match fault {
                VaultError::Twin { field, record, .. } => VaultError::Duplicate { field, record },
                other => other,
            };
            place(&mut outcome, at, Err(fault));
        }
        sound.iter().for_each(|d| place(&mut outcome, d.at, Ok(d.id)));
        let records = outcome.iter().map(|o| o.as_ref()?.as_ref().ok().copied()).collect();
        let progress = Progress { written: core.clock.now(), first, records };
        let mut batch = Batch::default();
        let (key, row) = core.progress_row(tenant.ord, import, &progress);
        batch.put(key, row);
        let told = (core.entry(permit, Act::ImportRecords).of(tenant.ord), batch);
        core.store_drafts(&tenant, sound, permit, told).await?;
        Ok(ImportedChunk { next: progress.next(), records: outcome })
    }
}

fn check_count(field: &'static str, count: usize) -> Result<(), VaultError> {
    if (1..=limits::BATCH_CREATE_MAX).contains(&count) {
        return Ok(());
    }
    Err(VaultError::Argument { field, reason: "must be 1 to 500 records" })
}

fn place<T>(all: &mut [Option<T>], at: usize, one: T) {
    if let Some(slot) = all.get_mut(at) {
        *slot = Some(one);
    }
}

impl Core {
    /// Of two calls with one request id the second waits for the first.
    async fn lock_drafts(
        &self,
        drafts: &[Draft],
    ) -> Result<Vec<tokio::sync::MutexGuard<'_, ()>>, VaultError> {
        let mut seen = HashSet::new();
        for draft in drafts {
            if draft.repeat.as_ref().is_some_and(|(r, _)| !seen.insert(*r)) {
                let reason = "is given twice in one call";
                return Err(VaultError::Argument { field: "request_id", reason }.at(draft.at));
            }
        }
        Ok(self.lock_requests(seen.into_iter()).await)
    }

    /// The record that an earlier call with this request id created, as it is now.
    fn repeated(
        &self,
        tenant: &Tenant,
        draft: &Draft,
        permit: &Permit<CreateRecord>,
    ) -> Result<Option<RecordView>, VaultError> {
        let Some((request, asked)) = &draft.repeat else { return Ok(None) };
        let operation = Operation::CreateRecord;
        let Some(record) = self.find_done(tenant, *request, operation, asked)? else {
            return Ok(None);
        };
        let found = self.find_reached(permit, tenant, record)?;
        self.view_of(tenant, record, found, permit, &ReadSpec::default()).map(Some)
    }

    /// Divides drafts into those that can be stored and those that cannot, each with its position. What was checked
    /// stays so while the last part lives.
    async fn examine(
        &self,
        tenant: &Arc<Tenant>,
        drafts: Vec<Draft>,
    ) -> Result<(Vec<Draft>, Vec<(usize, VaultError)>, Held<'_>), VaultError> {
        // A subject that a call names stays; one that is new is nobody else's yet.
        let named = drafts.iter().filter_map(|d| d.subject);
        let stripes: BTreeSet<usize> =
            named.map(|s| Stripes::<tokio::sync::RwLock<()>>::of(&s.0)).collect();
        let mut held = Held::default();
        for stripe in stripes {
            held._subjects.push(self.subject_locks.at(stripe).read().await);
        }
        let (mut sound, mut faults) = (Vec::with_capacity(drafts.len()), Vec::new());
        let mut tokens = Vec::with_capacity(drafts.len());
        for mut draft in drafts {
            let check = |subject| match self.holds.postponed(tenant.ord, subject) {
                // Nothing is added to what is only kept.
                Some(_) => Err(VaultError::Restricted),
                None => self.check_subject(tenant, subject),
            };
            match draft.subject.map(check).transpose() {
                Ok(reference) => {
                    draft.reference = reference;
                    tokens.push(self.unique_tokens(tenant, &draft.schema, &draft.fields)?);
                    sound.push(draft);
                }
                Err(e) if e.is_of_one_record() => faults.push((draft.at, e)),
                Err(e) => return Err(e),
            }
        }
        let all: Vec<Token> = tokens.iter().flatten().map(|(_, t)| t.clone()).collect();
        held._uniques = self.lock_unique(&all).await;
        let mut taken = HashMap::<Token, (usize, RecordId)>::new();
        let mut rest = Vec::with_capacity(sound.len());
        for (draft, uniques) in sound.into_iter().zip(tokens) {
            let twin = uniques.iter().find_map(|(ord, t)| Some((*ord, *taken.get(t)?)));
            let checked = match twin {
                Some((ord, (of, record))) => {
                    let field = draft.schema.field_by_ord(ord);
                    let field = field.map(|f| f.name.as_str().to_owned()).unwrap_or_default();
                    Err(VaultError::Twin { field, of, record })
                }
                None => self.check_unique(tenant, &draft.schema, &uniques, &draft.fields, None),
            };
            match checked {
                Ok(()) => {
                    taken.extend(uniques.into_iter().map(|(_, t)| (t, (draft.at, draft.id))));
                    rest.push(draft);
                }
                Err(e) if e.is_of_one_record() => faults.push((draft.at, e)),
                Err(e) => return Err(e),
            }
        }
        faults.sort_by_key(|(at, _)| *at);
        Ok((rest, faults, held))
    }

    /// Stores drafts, with what else is to commit with them and what the log is told beside them. The caller holds
    /// what they were checked against.
    async fn store_drafts(
        &self,
        tenant: &Arc<Tenant>,
        drafts: Vec<Draft>,
        permit: &Permit<CreateRecord>,
        (entry, mut batch): (Entry, Batch),
    ) -> Result<Vec<(usize, RecordView)>, VaultError> {
        let now = self.time.begin(&*self.clock);
        let mut slots = Vec::with_capacity(drafts.len());
        let mut views = Vec::with_capacity(drafts.len());
        for draft in drafts {
            let stored = self.add_draft(tenant, draft, (now, permit), &mut slots, &mut batch).await;
            match stored {
                Ok(view) => views.push(view),
                Err(e) => {
                    self.unlist(&slots);
                    return Err(e);
                }
            }
        }
        batch.entries = entry.showing(views.iter().map(|(_, view)| view)).encode();
        self.commit_put(batch, &slots).await?;
        self.metrics.creates.add(views.len() as u64);
        for (_, view) in &views {
            self.watch.tell(tenant.ord, || {
                Change::record(ChangeKind::Created, view.id, view.rtype(), now)
            });
        }
        Ok(views)
    }

    /// Adds a draft's rows, and its new subject's, to a batch.
    async fn add_draft(
        &self,
        tenant: &Arc<Tenant>,
        draft: Draft,
        (now, permit): (UnixMillis, &Permit<CreateRecord>),
        slots: &mut Vec<Slot>,
        batch: &mut Batch,
    ) -> Result<(usize, RecordView), VaultError> {
        let Draft { at, id, schema, subject, reference, fields, repeat } = draft;
        let about = subject.unwrap_or_else(new_id);
        let member = Member { subject: reference.unwrap_or_else(random), record: random() };
        if subject.is_none() {
            let open = Home::Expiry(Day::OPEN_ENDED);
            let map = subject_map(about, member.subject, now);
            let version = (SUBJECT, about, RecVer(1), 1);
            slots.push(self.put_version(tenant, version, open, &map, batch).await?);
        }
        let (created, updated, used) = (now, now, now);
        let map = FieldMap { subject: about, member, created, updated, used, fields };
        let expires = self.home_of(tenant, &schema, id, &map);
        let version = (schema.ord(), id, RecVer(1), schema.revision());
        let slot = self.put_version(tenant, version, Home::Expiry(expires), &map, batch).await?;
        if let Some((request, asked)) = &repeat {
            let did = (Operation::CreateRecord, asked);
            let made = (id, RecVer(1), slot.kid, &slot.dek);
            let (key, row) = self.done_row(tenant.ord, *request, did, made);
            batch.put(key, row);
        }
        slots.push(slot);
        let (spec, clear) = (ReadSpec::default(), permit.clear(schema.type_name().as_str(), None));
        let of = (id, RecVer(1), expires);
        Ok((at, view(schema, of, EncodedMap::of(&map)?, clear, &spec)?))
    }
}

//! Records: read, update, list, find; and how a version is stored.
//!
//! Invariants: an update is answered after its rows are durable; a new version, its pointer and the old
//! version's erasure intent commit in one batch; a unique value is checked and stored under one lock; what a caller may
//! not see in clear leaves here masked or not at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::core::{Core, Vault};
use super::error::VaultError;
use super::fieldmap::FieldMap;
use super::index::{Token, token};
use super::lookup::tokens_of;
use super::registry::Tenant;
use super::requests::{Asked, Operation};
use super::rows::{Intent, Pointer, Tombstone};
use super::sealed::{self, OpenVersion, Version};
use super::slug::Slug;
use super::value::Value;
use super::view::{ReadSpec, RecordView, view};
use super::watch::{Change, ChangeKind};
use crate::authz::{ClassSet, ListsRecords, Permit, Principal, ReadRecord, UpdateRecord};
use crate::class::ErasureReason;
use crate::clock::UnixMillis;
use crate::crypto::random;
use crate::id::{Day, Kid, RecVer, RecordId, RequestId, TypeOrd};
use crate::keys::slots::{BucketId, Slot};
use crate::keys::{KeyError, NewBucket};
use crate::limits;
use crate::store::Batch;

/// The built-in record type of subjects.
pub const SUBJECT: TypeOrd = TypeOrd(0);

/// What a name is taken for. The two share one space of ids, and one is never answered as the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Record,
    Subject,
}

impl Sort {
    pub fn word(self) -> &'static str {
        match self {
            Sort::Record => "record",
            Sort::Subject => "subject",
        }
    }

    /// Fails if something of this type is not of this sort.
    pub fn check(self, rtype: TypeOrd) -> Result<(), VaultError> {
        let same = (rtype == SUBJECT) == (self == Sort::Subject);
        if same { Ok(()) } else { Err(VaultError::NotFound(self.word())) }
    }
}

/// A change of a record.
pub struct RecordChange {
    pub record: RecordId,
    /// The version that the caller knows.
    pub etag: Option<RecVer>,
    pub set: BTreeMap<String, Value>,
    pub remove: Vec<String>,
    /// Every other field goes.
    pub replace: bool,
    /// Given if the caller may repeat the call.
    pub request: Option<RequestId>,
}

impl RecordChange {
    fn asked(&self, caller: &Principal) -> Asked {
        let mut asked = Asked::new(Operation::UpdateRecord, caller);
        asked.part(&self.record.0);
        asked.part(&self.etag.map_or(0, |e| e.0).to_be_bytes());
        asked.values(&self.set);
        asked.part(&[u8::from(self.replace)]);
        self.remove.iter().for_each(|name| asked.part(name.as_bytes()));
        asked
    }
}

/// A version as it is, before anyone's rights are applied.
pub(super) struct Found {
    pub pointer: Pointer,
    pub open: OpenVersion,
}

/// A page of records.
#[derive(Default)]
pub struct RecordPage {
    pub views: Vec<RecordView>,
    /// Records that are there but do not open.
    pub damaged: Vec<RecordId>,
    /// The last id that was looked at, if more follow.
    pub next: Option<RecordId>,
}

impl Vault {
    pub fn get_record(
        &self,
        permit: &Permit<ReadRecord>,
        tenant: &str,
        record: RecordId,
        spec: &ReadSpec,
    ) -> Result<RecordView, VaultError> {
        let tenant = self.core.tenant(permit, tenant)?;
        let found = self.core.find_current(&tenant, record, Sort::Record)?;
        if spec.fields.is_some() {
            let schema = tenant.schema_of(found.pointer.rtype);
            spec.check(&[&*schema.ok_or(VaultError::NotFound("schema"))?])?;
        }
        self.core.metrics.reads.one();
        self.core.view_of(&tenant, record, found, permit.clear(), spec)
    }

    /// All of the records or none, in the order of `records`. An error of one says of which.
    pub fn get_records(
        &self,
        permit: &Permit<ReadRecord>,
        tenant: &str,
        records: &[RecordId],
        spec: &ReadSpec,
    ) -> Result<Vec<RecordView>, VaultError> {
        if !(1..=limits::BATCH_GET_MAX).contains(&records.len()) {
            return Err(VaultError::Argument { field: "names", reason: "must be 1 to 1000 names" });
        }
        let (mut views, mut bytes) = (Vec::with_capacity(records.len()), 0);
        for (at, record) in records.iter().enumerate() {
            let view = self.get_record(permit, tenant, *record, spec).map_err(|e| e.at(at))?;
            bytes += view.fields.values().map(|v| v.encoded_len() + 32).sum::<usize>() + 200;
            if bytes > limits::FIND_BYTES_MAX {
                return Err(VaultError::TooLarge(
                    "the records are too large together: ask for fewer, or for fewer fields",
                ));
            }
            views.push(view);
        }
        Ok(views)
    }

    pub async fn update_record(
        &self,
        permit: &Permit<UpdateRecord>,
        tenant: &str,
        change: RecordChange,
    ) -> Result<RecordView, VaultError> {
        let core = &*self.core;
        let tenant = core.tenant(permit, tenant)?;
        // Before all other locks, as everywhere.
        let _writing = tenant.writing.read().await;
        let repeat = change.request.map(|request| (request, change.asked(permit.principal())));
        let _once = core.lock_requests(repeat.iter().map(|(r, _)| *r)).await;
        let held = core.lock_records(&[change.record]).await;
        if let Some((request, asked)) = &repeat
            && let Some(record) =
                core.find_done(&tenant, *request, Operation::UpdateRecord, asked)?
        {
            let found = core.find_current(&tenant, record, Sort::Record)?;
            return core.view_of(&tenant, record, found, permit.clear(), &ReadSpec::default());
        }
        let Found { pointer, open } = core.find_current(&tenant, change.record, Sort::Record)?;
        if change.etag.is_some_and(|etag| etag != pointer.rec_ver) {
            return Err(VaultError::Stale("record"));
        }
        let schema = tenant.schema_of(pointer.rtype).ok_or(VaultError::NotFound("schema"))?;
        let mut remove = change.remove;
        if change.replace {
            let names = schema.fields().iter().map(|f| f.name.as_str());
            remove.extend(names.filter(|n| !change.set.contains_key(*n)).map(str::to_owned));
        }
        let patch = schema.check_patch(change.set, &remove)?;
        let now = core.clock.now();
        let mut map = open.fields;
        patch.apply(&mut map.fields)?;
        map.updated = now;
        let uniques = core.unique_tokens(&tenant, &schema, &map.fields)?;
        let unique_tokens: Vec<Token> = uniques.iter().map(|(_, t)| t.clone()).collect();
        let _unique = core.lock_unique(&unique_tokens).await;
        core.check_unique(&tenant, &schema, &uniques, &map.fields, Some(change.record))?;
        let expires = schema.retention().expiry_day(map.created);
        let rec_ver = RecVer(pointer.rec_ver.0 + 1);
        let version = (schema.ord(), change.record, rec_ver, schema.revision());
        let mut batch = Batch::default();
        batch.expect(Pointer::key(tenant.ord, change.record), Some(pointer.encode()));
        let home = Home::Bucket((tenant.ord, pointer.kid.bucket));
        let ticket = core.put_version(&tenant, version, home, &map, &mut batch).await?;
        let intent = Intent {
            kid: pointer.kid,
            record: change.record,
            rec_ver: pointer.rec_ver,
            rtype: pointer.rtype,
            reason: ErasureReason::Superseded,
            requested: now,
        };
        batch.put(intent.key(), intent.encode());
        if let Some((request, asked)) = &repeat {
            let did = (Operation::UpdateRecord, asked);
            let made = (change.record, rec_ver, ticket.kid, &ticket.dek);
            let (key, row) = core.done_row(tenant.ord, *request, did, made);
            batch.put(key, row);
        }
        core.commit_put(batch, &[ticket]).await?;
        core.superseded.add(intent);
        drop(held);
        core.metrics.updates.one();
        core.watch.tell(tenant.ord, || {
            Change::record(ChangeKind::Updated, change.record, schema.type_name(), now)
        });
        if schema.erases_old_versions_synchronously() {
            self.erase_superseded(&tenant, pointer.kid).await?;
        }
        let spec = ReadSpec::default();
        Ok(view(&schema, change.record, rec_ver, expires, map, permit.clear(), &spec))
    }

    /// Records of a tenant in the order of their ids, after `after`.
    pub fn list_records<A: ListsRecords>(
        &self,
        permit: &Permit<A>,
        tenant: &str,
        rtype: Option<&Slug>,
        after: Option<RecordId>,
        page_size: usize,
        spec: &ReadSpec,
    ) -> Result<RecordPage, VaultError> {
        let core = &*self.core;
        let tenant = core.tenant(permit, tenant)?;
        let wanted = match rtype {
            Some(rtype) => {
                let schema = tenant.schema(rtype)?;
                spec.check(&[&schema])?;
                Some(schema.ord())
            }
            None => {
                let schemas: Vec<_> = tenant.state().schemas.values().cloned().collect();
                spec.check(&schemas.iter().map(Arc::as_ref).collect::<Vec<_>>())?;
                None
            }
        };
        let end = crate::keys::rows::prefix_end(&Pointer::prefix(tenant.ord));
        let mut from = match after {
            Some(after) => [Pointer::key(tenant.ord, after).as_slice(), &[0]].concat(),
            None => Pointer::prefix(tenant.ord),
        };
        let (mut page, mut bytes, mut looked, mut last) = (RecordPage::default(), 0, 0, None);
        loop {
            let rows = core.tree.store().scan(&from, &end, limits::SCAN_PAGE_ROWS)?;
            let more = rows.len() == limits::SCAN_PAGE_ROWS;
            for row in rows {
                let Some(id) = super::rows::record_in(&row.key) else { continue };
                from = [row.key.as_slice(), &[0]].concat();
                last = Some(id);
                let pointer = Pointer::decode(&row.value);
                let rtype = pointer.map_or(SUBJECT, |p| p.rtype);
                if rtype == SUBJECT || wanted.is_some_and(|w| w != rtype) {
                    continue;
                }
                match core.find_current(&tenant, id, Sort::Record) {
                    Ok(found) => {
                        let fields = &found.open.fields.fields;
                        bytes += fields.values().map(Value::encoded_len).sum::<usize>() + 200;
                        page.views.push(core.view_of(&tenant, id, found, permit.clear(), spec)?);
                    }
                    // Erased meanwhile, or damaged: the others are served.
                    Err(VaultError::Erased(_) | VaultError::NotFound(_)) => {}
                    Err(VaultError::Damaged(_) | VaultError::Keys(KeyError::Damaged(_))) => {
                        core.metrics.damaged_rows.one();
                        page.damaged.push(id);
                    }
                    Err(e) => return Err(e),
                }
                let lines = page.views.len() + page.damaged.len();
                if lines >= page_size || bytes >= limits::PAGE_BYTES {
                    core.metrics.reads.add(page.views.len() as u64);
                    return Ok(RecordPage { next: Some(id), ..page });
                }
            }
            looked += limits::SCAN_PAGE_ROWS;
            if !more || looked >= limits::LIST_ROWS_MAX {
                core.metrics.reads.add(page.views.len() as u64);
                return Ok(RecordPage { next: last.filter(|_| more), ..page });
            }
        }
    }

    /// Records whose indexed field has exactly this value; and whether there are records of the type that do not open,
    /// of which nobody knows.
    pub fn find_records(
        &self,
        permit: &Permit<ReadRecord>,
        tenant: &str,
        rtype: &Slug,
        field: &str,
        value: Value,
        spec: &ReadSpec,
    ) -> Result<(Vec<RecordView>, bool), VaultError> {
        let core = &*self.core;
        let tenant = core.tenant(permit, tenant)?;
        let schema = tenant.schema(rtype)?;
        spec.check(&[&schema])?;
        let (def, value) = schema.check_query(field, value)?;
        let may_compare = permit.clear().contains(def.class);
        if !may_compare {
            // Finding by a value would tell whom it belongs to.
            return Err(VaultError::Forbidden);
        }
        let secrets = core.tree.read().tenant(tenant.ord)?;
        let normal = value.normalised(def.kind);
        let token = token(&secrets.index, schema.ord(), def.ord, &normal);
        let found = core.lookup(&tenant, schema.ord(), &token, |map| {
            map.fields.get(&def.ord).is_some_and(|v| v.matches(&value, def.kind))
        })?;
        let found = found.current;
        core.metrics.reads.add(found.len() as u64);
        let views: Result<Vec<RecordView>, VaultError> = found
            .into_iter()
            .take(limits::PAGE_SIZE_MAX)
            .map(|f| core.view_of(&tenant, f.open.version.record, f, permit.clear(), spec))
            .collect();
        Ok((views?, core.has_damaged(&tenant, schema.ord())))
    }
}

pub(super) fn new_id() -> RecordId {
    RecordId(uuid::Builder::from_random_bytes(random()).into_uuid().into_bytes())
}

/// What a subject's own record holds.
pub(super) fn subject_map(subject: RecordId, now: UnixMillis) -> FieldMap {
    FieldMap { subject, created: now, updated: now, fields: BTreeMap::new() }
}

/// Where a version goes.
#[derive(Clone, Copy)]
pub(super) enum Home {
    /// A new record: the bucket of this day, whichever takes puts.
    Expiry(Day),
    /// A newer version: beside the one that it replaces. Anywhere else it would outlive a kill of their bucket.
    Bucket(BucketId),
}

impl Core {
    /// A record's or subject's current version, or why there is none.
    pub(super) fn find_current(
        &self,
        tenant: &Tenant,
        record: RecordId,
        sort: Sort,
    ) -> Result<Found, VaultError> {
        let store = self.tree.store();
        let what = sort.word();
        let mut seen = None;
        loop {
            let Some(row) = store.get(&Pointer::key(tenant.ord, record))? else {
                let tombstone = store.get(&Tombstone::key(tenant.ord, record))?;
                let Some(row) = tombstone else { return Err(VaultError::NotFound(what)) };
                // Of a damaged one nobody knows what it was: refused all the same.
                Tombstone::decode(&row).map_or(Ok(()), |t| sort.check(t.rtype))?;
                return Err(VaultError::Erased(what));
            };
            let pointer = Pointer::decode(&row).ok_or(VaultError::Damaged(what))?;
            sort.check(pointer.rtype)?;
            if self.is_erasing(record, pointer.kid) {
                return Err(VaultError::Erased(what));
            }
            match self.open_at(pointer.kid, Some((record, pointer.rec_ver))) {
                Ok(open) if open.version.rtype == pointer.rtype => {
                    return Ok(Found { pointer, open });
                }
                // An update or erasure came between the pointer and the version: look again, once per new pointer.
                _ if seen != Some(pointer) => seen = Some(pointer),
                Ok(_) => return Err(VaultError::Damaged(what)),
                Err(VaultError::Keys(KeyError::Gone)) => return Err(VaultError::Erased(what)),
                Err(VaultError::Damaged(_)) => {
                    self.damaged.add((pointer.kid, Some(record)));
                    return Err(VaultError::Damaged(what));
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Opens the version at a kid, key and rows under one view of the tree.
    pub(super) fn open_at(
        &self,
        kid: Kid,
        expected: Option<(RecordId, RecVer)>,
    ) -> Result<OpenVersion, VaultError> {
        let reader = self.tree.read();
        let dek = reader.dek(kid)?;
        sealed::open(self.tree.store(), self.vault(), kid, &dek, expected)
    }

    /// Fails unless the subject is there and not being erased.
    pub(super) fn check_subject(
        &self,
        tenant: &Tenant,
        subject: RecordId,
    ) -> Result<(), VaultError> {
        self.find_current(tenant, subject, Sort::Subject).map(drop)
    }

    /// The bucket of a record type and expiry day, made if there is none.
    async fn bucket(
        &self,
        tenant: &Arc<Tenant>,
        rtype: TypeOrd,
        expires: Day,
    ) -> Result<BucketId, VaultError> {
        let present = |t: &Tenant| t.state().buckets.get(&(rtype, expires))?.last().copied();
        if let Some(bucket) = present(tenant) {
            return Ok((tenant.ord, bucket));
        }
        let _held = tenant.making.lock().await;
        if let Some(bucket) = present(tenant) {
            return Ok((tenant.ord, bucket));
        }
        let next = tenant.state().next_bucket;
        let bucket = crate::id::BucketOrd::new(next)
            .ok_or(VaultError::Exhausted("no more retention buckets"))?;
        let new = NewBucket { tenant: tenant.ord, bucket, rtype, expire_day: expires };
        self.tree.add_bucket(new).await?;
        self.index.register(&self.tree, (tenant.ord, bucket))?;
        let mut state = tenant.state_mut();
        state.next_bucket = next + 1;
        state.buckets.entry((rtype, expires)).or_default().push(bucket);
        Ok((tenant.ord, bucket))
    }

    /// Takes a slot, seals a version under it, lists it in the index, and adds its rows to the batch.
    pub(super) async fn put_version(
        &self,
        tenant: &Arc<Tenant>,
        (rtype, record, rec_ver, schema_rev): (TypeOrd, RecordId, RecVer, u32),
        home: Home,
        map: &FieldMap,
        batch: &mut Batch,
    ) -> Result<Slot, VaultError> {
        let slot = loop {
            let bucket = match home {
                Home::Expiry(expires) => self.bucket(tenant, rtype, expires).await?,
                Home::Bucket(bucket) => bucket,
            };
            match (self.tree.take_slot(bucket).await, home) {
                // The bucket is being killed. A new record goes into its successor; what lived in it dies with it.
                (Err(KeyError::Closed), Home::Expiry(_)) => tokio::task::yield_now().await,
                (Err(KeyError::Closed), Home::Bucket(_)) => {
                    return Err(VaultError::Erased("record"));
                }
                (other, _) => break other?,
            }
        };
        let version = Version { kid: slot.kid, record, rec_ver, rtype, schema_rev };
        for (key, value) in sealed::seal(self.vault(), &version, &slot.dek, map)? {
            batch.put(key, value);
        }
        let pointer = Pointer { kid: slot.kid, rec_ver, rtype };
        batch.put(Pointer::key(tenant.ord, record), pointer.encode());
        let secrets = self.tree.read().tenant(tenant.ord)?;
        let schema = tenant.schema_of(rtype);
        let tokens = tokens_of(&secrets.index, rtype, schema.as_deref(), map);
        self.index.list(slot.kid, &tokens);
        Ok(slot)
    }

    /// Commits a put. If it fails, its listings go again.
    pub(super) async fn commit_put(&self, batch: Batch, slots: &[Slot]) -> Result<(), VaultError> {
        let done = match self.tree.store().submit(batch) {
            Ok(pending) => pending.await,
            Err(e) => Err(e),
        };
        done.map(drop).map_err(|e| {
            self.unlist(slots);
            e.into()
        })
    }

    /// Takes back the listings of versions that were not stored.
    pub(super) fn unlist(&self, slots: &[Slot]) {
        slots.iter().for_each(|s| self.index.unlist_tail(s.kid));
    }

    pub(super) fn view_of(
        &self,
        tenant: &Tenant,
        record: RecordId,
        found: Found,
        clear: ClassSet,
        spec: &ReadSpec,
    ) -> Result<RecordView, VaultError> {
        let rtype = found.pointer.rtype;
        let schema = tenant.schema_of(rtype).ok_or(VaultError::NotFound("schema"))?;
        let expires = schema.retention().expiry_day(found.open.fields.created);
        let map = found.open.fields;
        Ok(view(&schema, record, found.pointer.rec_ver, expires, map, clear, spec))
    }
}

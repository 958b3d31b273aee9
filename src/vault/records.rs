//! Records: read, update, list, find.
//!
//! Invariants: an update is answered after its rows are durable; a new version, its pointer and the old
//! version's erasure intent commit in one batch; a unique value is checked and stored under one lock; what a caller may
//! not see in clear leaves here masked or not at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::core::{Core, Vault};
use super::current::{Found, SUBJECT, Sort, is_built_in};
use super::error::VaultError;
use super::fieldmap::{EncodedMap, FieldMap};
use super::holds::Facts;
use super::holds::postponed::{bound_key, bound_row};
use super::index::{Token, token};
use super::put::Home;
use super::registry::Tenant;
use super::requests::{Asked, Operation};
use super::rows::{Intent, Pointer};
use super::slug::Slug;
use super::value::Value;
use super::view::{ReadSpec, RecordView, view};
use super::watch::{Change, ChangeKind};
use crate::audit::{Act, Entry, Member};
use crate::authz::{ActionKind, ExportRecords, Permit, Principal, ReadRecord, UpdateRecord};
use crate::class::ErasureReason;
use crate::clock::UnixMillis;
use crate::crypto::random;
use crate::id::{RecVer, RecordId, RequestId};
use crate::keys::KeyError;
use crate::limits;
use crate::store::Batch;

/// What a record takes of an answer beside its fields.
const RECORD_BYTES: usize = 200;

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
        let core = &*self.core;
        let tenant = core.tenant(permit, tenant)?;
        let view = core.read_one(permit, &tenant, record, spec)?;
        let entry = core.entry(permit, Act::GetRecord).of(tenant.ord);
        core.note_reading(entry, spec, [&view])?;
        Ok(view)
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
        let core = &*self.core;
        let tenant = core.tenant(permit, tenant)?;
        let (mut views, mut bytes) = (Vec::with_capacity(records.len()), 0);
        for (at, record) in records.iter().enumerate() {
            let view = core.read_one(permit, &tenant, *record, spec).map_err(|e| e.at(at))?;
            bytes += view.fields.room() + RECORD_BYTES;
            if bytes > limits::FIND_BYTES_MAX {
                return Err(VaultError::TooLarge(
                    "the records are too large together: ask for fewer, or for fewer fields",
                ));
            }
            views.push(view);
        }
        let entry = core.entry(permit, Act::BatchGetRecords).of(tenant.ord);
        core.note_reading(entry, spec, &views)?;
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
            let found = core.find_reached(permit, &tenant, record)?;
            let spec = ReadSpec::default();
            let view = core.view_of(&tenant, record, found, permit, &spec)?;
            core.note(&core.entry(permit, Act::UpdateRecord).of(tenant.ord).showing([&view]))?;
            return Ok(view);
        }
        let Found { pointer, open } = core.find_reached(permit, &tenant, change.record)?;
        // Nobody changes what is only kept.
        if core.holds.postponed(tenant.ord, change.record).is_some() {
            return Err(VaultError::Restricted);
        }
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
        let now = core.time.begin(&*core.clock);
        let mut map = open.fields.to_map();
        let (rtype, record) = (pointer.rtype, change.record);
        let queries = core.holds.queries_on(tenant.ord, Facts { rtype, record, map: &map });
        patch.apply(&mut map.fields)?;
        (map.updated, map.used) = (now, now);
        let uniques = core.unique_tokens(&tenant, &schema, &map.fields)?;
        let unique_tokens: Vec<Token> = uniques.iter().map(|(_, t)| t.clone()).collect();
        let _unique = core.lock_unique(&unique_tokens).await;
        core.check_unique(&tenant, &schema, &uniques, &map.fields, Some(change.record))?;
        let leaving = core.leave(change.record, pointer.kid)?;
        let present = (tenant.ord, pointer.kid.bucket);
        // A query that reached it as it was holds it also as it will be.
        let becomes = Facts { rtype, record, map: &map };
        let left = queries.iter().filter(|hold| !hold.reaches(becomes));
        let bound: Vec<RecordId> = left.map(|hold| hold.id).collect();
        core.holds.bind(tenant.ord, change.record, &bound);
        let expires = core.home_of(&tenant, &schema, change.record, &map);
        let stays = expires == tenant.day_of(present.1);
        let home = if stays { Home::Bucket(present) } else { Home::Expiry(expires) };
        let rec_ver = RecVer(pointer.rec_ver.0 + 1);
        let version = (schema.ord(), change.record, rec_ver, schema.revision());
        let mut batch = Batch::default();
        batch.expect(Pointer::key(tenant.ord, change.record), Some(pointer.encode()));
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
        for hold in bound {
            batch.put(bound_key(tenant.ord, change.record, hold), bound_row());
        }
        if let Some((request, asked)) = &repeat {
            let did = (Operation::UpdateRecord, asked);
            let made = (change.record, rec_ver, ticket.kid, &ticket.dek);
            let (key, row) = core.done_row(tenant.ord, *request, did, made);
            batch.put(key, row);
        }
        let (spec, clear) = (ReadSpec::default(), permit.clear(schema.type_name().as_str(), None));
        let of = (change.record, rec_ver, expires);
        let view = view(schema.clone(), of, EncodedMap::of(&map)?, clear, &spec)?;
        let entry = core.entry(permit, Act::UpdateRecord).of(tenant.ord).showing([&view]);
        batch.entries = entry.encode();
        let moved = ticket.kid.bucket != present.1;
        core.commit_put(batch, &[ticket]).await?;
        core.superseded.add(intent);
        if moved {
            core.closings.leave(present, change.record);
        }
        // Nothing waits for the eraser while a kill may be waiting for this.
        drop((held, leaving));
        core.metrics.updates.one();
        core.watch.tell(tenant.ord, || {
            Change::record(ChangeKind::Updated, change.record, schema.type_name(), now)
        });
        if schema.erases_old_versions_synchronously() {
            self.erase_superseded(&tenant, pointer.kid).await?;
        }
        Ok(view)
    }

    /// Records of a tenant in the order of their ids, after `after`.
    pub fn list_records<A: Lists>(
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
            Some(rtype) if !permit.reaches(rtype.as_str()) => return Err(VaultError::Forbidden),
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
        'walk: loop {
            let rows = core.tree.store().scan(&from, &end, limits::SCAN_PAGE_ROWS)?;
            let more = rows.len() == limits::SCAN_PAGE_ROWS;
            for row in rows {
                let Some(id) = super::rows::record_in(&row.key) else { continue };
                from = [row.key.as_slice(), &[0]].concat();
                last = Some(id);
                let pointer = Pointer::decode(&row.value);
                let rtype = pointer.map_or(SUBJECT, |p| p.rtype);
                let other = is_built_in(rtype) || wanted.is_some_and(|w| w != rtype);
                if other || core.check_reach(permit, &tenant, rtype).is_err() {
                    continue;
                }
                match core.find_current(&tenant, id, Sort::Record) {
                    Ok(found)
                        if core.check_unrestricted(&tenant, &found, permit.role()).is_err() => {}
                    Ok(found) => {
                        let view = core.view_of(&tenant, id, found, permit, spec)?;
                        bytes += view.fields.room() + RECORD_BYTES;
                        page.views.push(view);
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
                    page.next = Some(id);
                    break 'walk;
                }
            }
            looked += limits::SCAN_PAGE_ROWS;
            if !more || looked >= limits::LIST_ROWS_MAX {
                page.next = last.filter(|_| more);
                break;
            }
        }
        core.note_reading(core.entry(permit, A::ACT).of(tenant.ord), spec, &page.views)?;
        Ok(page)
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
        if !permit.reaches(rtype.as_str()) {
            return Err(VaultError::Forbidden);
        }
        let schema = tenant.schema(rtype)?;
        spec.check(&[&schema])?;
        let (def, value) = schema.check_query(field, value)?;
        let clear = permit.clear(rtype.as_str(), spec.purpose.as_deref());
        if !clear.contains(def.class) || !spec.serves(def) {
            // Finding by a value would tell whom it belongs to.
            return Err(VaultError::Forbidden);
        }
        let secrets = core.tree.read().tenant(tenant.ord)?;
        let normal = value.normalised(def.kind);
        let token = token(&secrets.index, schema.ord(), def.ord, &normal);
        let found = core.lookup(&tenant, schema.ord(), &token, |map| {
            map.get(def.ord).is_some_and(|v| v.to_value().matches(&value, def.kind))
        })?;
        let views: Result<Vec<RecordView>, VaultError> = found
            .current
            .into_iter()
            .filter(|f| core.check_unrestricted(&tenant, f, permit.role()).is_ok())
            .take(limits::PAGE_SIZE_MAX)
            .map(|f| {
                core.note_use(permit, &tenant, &f);
                core.view_of(&tenant, f.open.version.record, f, permit, spec)
            })
            .collect();
        let views = views?;
        let entry = core.entry(permit, Act::FindRecords).of(tenant.ord);
        core.note_reading(entry, spec, &views)?;
        Ok((views, core.has_damaged(&tenant, schema.ord())))
    }
}

pub(super) fn new_id() -> RecordId {
    RecordId(uuid::Builder::from_random_bytes(random()).into_uuid().into_bytes())
}

/// What a subject's own record holds.
pub(super) fn subject_map(subject: RecordId, reference: [u8; 16], now: UnixMillis) -> FieldMap {
    let member = Member { subject: reference, record: [0; 16] };
    let (created, updated, used) = (now, now, now);
    FieldMap { subject, member, created, updated, used, fields: BTreeMap::new() }
}

/// Actions whose permit lets records be listed, and as which act that is told.
pub trait Lists: ActionKind {
    const ACT: Act;
}

impl Lists for ReadRecord {
    const ACT: Act = Act::ListRecords;
}

impl Lists for ExportRecords {
    const ACT: Act = Act::ExportRecords;
}

impl Core {
    /// Tells of records that are about to be shown, and counts them.
    fn note_reading<'a>(
        &self,
        entry: Entry,
        spec: &ReadSpec,
        views: impl IntoIterator<Item = &'a RecordView>,
    ) -> Result<(), VaultError> {
        let purpose = self.purpose(spec.purpose.as_deref());
        let entry = Entry { purpose, ..entry }.showing(views);
        self.note(&entry)?;
        self.metrics.reads.add(u64::from(entry.total));
        Ok(())
    }

    fn read_one(
        &self,
        permit: &Permit<ReadRecord>,
        tenant: &Tenant,
        record: RecordId,
        spec: &ReadSpec,
    ) -> Result<RecordView, VaultError> {
        let found = self.find_reached(permit, tenant, record)?;
        if spec.fields.is_some() {
            let schema = tenant.schema_of(found.pointer.rtype);
            spec.check(&[&*schema.ok_or(VaultError::NotFound("schema"))?])?;
        }
        self.note_use(permit, tenant, &found);
        self.view_of(tenant, record, found, permit, spec)
    }
}

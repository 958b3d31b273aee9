//! The audit log: one entry for each call, with its effect or before its answer; nobody named once they are erased; no
//! byte changed unnoticed; refusals counted; bounds kept.

mod prune;
mod prune_faults;
mod subject;
mod tail;
mod tool;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lethe::audit::{Act, Entry, Kind, Member};
use lethe::authz::{ActionKind, Authority, Binding, Permit, Principal, TenantScope};
use lethe::class::{AuditReads, Classification, ErasureReason, Role};
use lethe::crypto::merkle::{Frontier, leaf_hash};
use lethe::id::RecordId;
use lethe::limits::{NOTES_BYTES_MAX, NOTES_WAIT};
use lethe::proto::{admin, v1};
use lethe::store::faulty::{Faulty, Plan};
use lethe::store::{Engine, Memory, StoreError};
use lethe::vault::{
    AuditFilter, AuditLine, EngineChoice, NewRecord, ReadSpec, Told, Vault, VaultError,
};

use crate::crash::scratch;
use crate::house::{
    House, TENANT, app, fields, furnish, get, operator, permit, put, slug, text, update,
};
use crate::live::Live;

/// Every entry, those of the last moment too.
fn all(vault: &Vault) -> Vec<AuditLine> {
    tokio::task::block_in_place(|| {
        tokio::runtime::Handle::current().block_on(vault.settle_log()).unwrap();
    });
    let filter = AuditFilter::default();
    let permit = permit(Role::Auditor, None);
    let (mut lines, mut before) = (Vec::new(), None);
    loop {
        let page = vault.audit_entries(&permit, &filter, before, 1_000).unwrap();
        lines.extend(page.lines);
        match page.next {
            Some(_) => before = page.next,
            None => break,
        }
    }
    lines.reverse();
    lines
}

fn told(vault: &Vault) -> Vec<Told> {
    all(vault).into_iter().map(|l| l.told.unwrap()).collect()
}

/// The entries since a number of them, without those of looking at the log.
fn since(vault: &Vault, seen: usize) -> Vec<Entry> {
    let entries = told(vault).into_iter().skip(seen).map(|t| t.entry);
    entries.filter(|e| e.act != Act::ListAuditEntries).collect()
}

/// Every entry is in the tree whose head the vault signs.
async fn check_whole(vault: &Vault) -> usize {
    let before = told(vault).len() as u64;
    let signed = vault.audit_head(&permit(Role::Auditor, None)).await.unwrap();
    assert!(signed.head.size >= before, "the head is over what there is, not what there was");
    let mut tree = Frontier::default();
    for told in told(vault).iter().take(signed.head.size as usize) {
        assert_eq!(told.entry.seq, tree.size());
        tree.push(leaf_hash(&told.leaf));
    }
    assert_eq!((tree.size(), tree.root()), (signed.head.size, signed.head.root));
    told(vault).len()
}

fn person(n: u32) -> BTreeMap<String, lethe::vault::value::Value> {
    fields(&[("reference", &format!("r{n}")), ("city", "Ulm"), ("note", "n")])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_has_an_entry_that_says_who_what_and_about_whom() {
    let dir = scratch();
    let house = House::new(dir.path(), EngineChoice::Redb);
    let vault = house.create();
    furnish(&vault).await;
    let seen = check_whole(&vault).await;
    let one = put(&vault, "customer", person(1)).await.unwrap();
    let two = put(&vault, "visit", person(2)).await.unwrap();
    get(&vault, one.id).unwrap();
    update(&vault, one.id, fields(&[("note", "m")])).await.unwrap();
    let spec = ReadSpec { fields: None, purpose: Some("delivery".into()) };
    vault.get_records(&app(), TENANT, &[one.id, two.id], &spec).unwrap();
    vault.list_records(&app::<lethe::authz::ReadRecord>(), TENANT, None, None, 10, &spec).unwrap();
    let reason = ErasureReason::SubjectRequest;
    vault.erase_records(&app(), TENANT, &[two.id], reason, None).await.unwrap();
    vault.erase_records(&app(), TENANT, &[two.id], reason, None).await.unwrap();
    vault.erase_subject(&app(), TENANT, one.subject, reason).await.unwrap();
    vault.rotate_key(&operator(None)).await.unwrap();

    let entries = since(&vault, seen);
    let acts: Vec<_> = entries.iter().map(|e| (e.act, e.total)).collect();
    assert_eq!(
        acts,
        [
            (Act::CreateRecord, 1),
            (Act::CreateRecord, 1),
            (Act::GetRecord, 1),
            (Act::UpdateRecord, 1),
            (Act::BatchGetRecords, 2),
            (Act::ListRecords, 2),
            (Act::EraseRecord, 1),
            (Act::EraseRecord, 0),
            (Act::EraseSubject, 2),
            (Act::RotateKey, 0),
        ]
    );
    let members: Vec<&[Member]> = entries.iter().map(|e| e.members.as_slice()).collect();
    let (a, b) = (members[0][0], members[1][0]);
    assert!(a.subject != b.subject && a.record != b.record);
    assert_eq!((members[2], members[3]), (&[a][..], &[a][..]));
    assert_eq!(members[4], [a, b]);
    let listed: BTreeSet<_> = members[5].iter().map(|m| m.record).collect();
    assert_eq!(listed, BTreeSet::from([a.record, b.record]));
    assert_eq!(members[6], [b]);
    let subject = Member { record: [0; 16], ..a };
    assert_eq!(members[8], [subject, a], "the subject itself and its record");
    for entry in &entries {
        assert_eq!(
            (entry.kind, entry.code, entry.principal),
            (Kind::Call, 0, entries[0].principal)
        );
        let of = entry.act != Act::RotateKey;
        assert_eq!(entry.tenant.is_some(), of);
        let role = if of { Role::Application } else { Role::Operator };
        assert_eq!(entry.role, Some(role));
        let erases = [Act::EraseRecord, Act::EraseSubject, Act::RotateKey].contains(&entry.act);
        assert_eq!(entry.generation.0 > 0, erases && (entry.total > 0 || !of), "{entry:?}");
    }
    let read = &entries[2];
    assert_eq!(read.rtype.map(|t| t.0), Some(1));
    assert!(read.seen.shows_clear(Classification::Sensitive));
    assert!(!read.seen.shows_masked(Classification::Sensitive));
    assert_eq!(entries[4].rtype, None, "records of two types");
    assert!(entries[4].purpose != [0; 8] && read.purpose == [0; 8]);
    let names = told(&vault);
    let name = names.iter().find(|t| t.entry.act == Act::GetRecord).unwrap();
    assert_eq!(
        name.principal.as_deref(),
        Some(app::<lethe::authz::ReadRecord>().principal().as_str())
    );
    assert_eq!(name.tenant.as_ref().map(|t| t.as_str()), Some(TENANT));
    assert_eq!(name.rtype.as_ref().map(|t| t.as_str()), Some("customer"));
    check_whole(&vault).await;
    vault.close().unwrap();
    drop(vault);
    let vault = house.open().unwrap();
    let count = check_whole(&vault).await;
    let last: Vec<Act> = told(&vault).iter().skip(count - 6).map(|t| t.entry.act).collect();
    assert!(last.contains(&Act::Close) && last.contains(&Act::Open), "{last:?}");
    assert!(told(&vault).iter().all(|t| t.entry.kind != Kind::Gap), "it was stopped cleanly");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeated_calls_and_refused_ones_are_told_as_what_they_are() {
    let dir = scratch();
    let house = House::new(dir.path(), EngineChoice::Redb);
    let vault = house.create();
    furnish(&vault).await;
    let request = lethe::id::RequestId::parse_random("7d9f2a66-2a4e-4a53-9e3b-0d3b1c9f8e11");
    let new = || NewRecord { rtype: slug("customer"), subject: None, fields: person(1), request };
    let seen = told(&vault).len();
    let made = vault.create_record(&app(), TENANT, new()).await.unwrap();
    let again = vault.create_record(&app(), TENANT, new()).await.unwrap();
    assert_eq!(made.id, again.id);
    put(&vault, "customer", person(1)).await.err().unwrap();
    get(&vault, RecordId([7; 16])).err().unwrap();
    let entries = since(&vault, seen);
    assert_eq!(entries.len(), 2, "a call that fails is counted at the door: {entries:?}");
    assert_eq!(entries[0].members, entries[1].members);

    let who = Principal::parse("spiffe://test/stranger").unwrap();
    let seen = told(&vault).len();
    for _ in 0..5 {
        vault.refused(&who, "/lethe.v1.RecordService/GetRecord", 7);
    }
    vault.refused(&who, "/lethe.v1.RecordService/GetRecord", 5);
    vault.close().unwrap();
    drop(vault);
    let vault = house.open().unwrap();
    let entries = since(&vault, seen);
    // A minute may have ended in between: then they are counted in two entries.
    let mut counted = BTreeMap::new();
    for entry in entries.iter().filter(|e| e.kind == Kind::Refusals) {
        assert_eq!(entry.act, Act::GetRecord);
        *counted.entry(entry.code).or_insert(0) += entry.total;
    }
    assert_eq!(counted, BTreeMap::from([(5, 1), (7, 5)]));
    let names: BTreeSet<_> = told(&vault).into_iter().filter_map(|t| t.principal).collect();
    assert!(names.contains(who.as_str()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_masked_reading_is_told_as_masked() {
    let dir = scratch();
    let vault = House::new(dir.path(), EngineChoice::Redb).create();
    furnish(&vault).await;
    let one = put(&vault, "customer", person(1)).await.unwrap();
    let support = permit::<lethe::authz::ReadRecord>(Role::Support, Some(TENANT));
    vault.get_record(&support, TENANT, one.id, &ReadSpec::default()).unwrap();
    let told = told(&vault);
    let read = &told.iter().find(|t| t.entry.act == Act::GetRecord).unwrap().entry;
    assert!(read.seen.shows_masked(Classification::Sensitive));
    assert!(!read.seen.shows_clear(Classification::Sensitive));
    assert_eq!(read.role, Some(Role::Support));
}

/// The anchor binds the log at each batch: what was told before an erasure cannot be cut off afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_cut_to_before_the_last_batch_is_refused() {
    let dir = scratch();
    let rows = Arc::new(Memory::new());
    let house = House::new(dir.path(), EngineChoice::Given(rows.clone()));
    let vault = house.create();
    furnish(&vault).await;
    let gone = put(&vault, "customer", person(1)).await.unwrap();
    let before = rows.get(b"f").unwrap();
    get(&vault, gone.id).unwrap();
    told(&vault);
    let reason = ErasureReason::SubjectRequest;
    vault.erase_records(&app(), TENANT, &[gone.id], reason, None).await.unwrap();
    drop(vault);
    let now = rows.get(b"f").unwrap();
    assert_ne!(before, now);
    rows.commit(&[(b"f".to_vec(), before)]).unwrap();
    let refused = house.open().err().unwrap();
    assert!(refused.to_string().contains("lethed repair"), "{refused}");
    rows.commit(&[(b"f".to_vec(), now)]).unwrap();
    check_whole(&house.open().unwrap()).await;
}

/// Its status comes when the door has let it pass long ago.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_refused_after_its_beginning_is_told() {
    let mut live = Live::start().await;
    live.furnish("b").await;
    let bound = live.client("application-a").await;
    let import_id = lethe::client::request_id();
    let start = v1::ImportStart { parent: "tenants/b".into(), import_id };
    let message = Some(v1::import_records_request::Message::Start(start));
    let sent = tokio_stream::once(v1::ImportRecordsRequest { message });
    let status = match bound.streams().import_records(sent).await {
        Ok(answer) => answer.into_inner().message().await.unwrap_err(),
        Err(status) => status,
    };
    assert_eq!(status.code(), tonic::Code::PermissionDenied);
    drop(bound);
    live.restart().await;
    let auditor = live.client("auditor").await;
    let request = admin::ListAuditEntriesRequest { page_size: 100, ..Default::default() };
    let entries = auditor.audit().list_audit_entries(request).await.unwrap().into_inner().entries;
    let refused = |e: &&admin::AuditEntry| {
        e.kind() == admin::AuditEntryKind::Refusals && e.method == "ImportRecords"
    };
    let told: Vec<_> = entries.iter().filter(refused).map(|e| (e.code, e.total)).collect();
    assert_eq!(told, [(7, 1)]);
}

/// A permit of an identity that is bound to some tenants.
fn bound<A: ActionKind>(tenants: &[&str], tenant: Option<&str>) -> Result<Permit<A>, ()> {
    let principal = Principal::parse("spiffe://test/bound").unwrap();
    let tenants: Vec<String> = tenants.iter().map(|t| (*t).to_owned()).collect();
    let binding = Binding {
        principal: principal.clone(),
        role: Role::Auditor,
        tenants: TenantScope::parse(&tenants).unwrap(),
        clear: Binding::default_clear(Role::Auditor),
    };
    Authority::new(vec![binding]).unwrap().decide(&principal, tenant).map_err(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_bound_to_a_tenant_sees_that_tenants_entries_only() {
    let dir = scratch();
    let vault = House::new(dir.path(), EngineChoice::Redb).create();
    furnish(&vault).await;
    vault.create_tenant(&operator(None), slug("other"), "Other".into()).await.unwrap();
    let one = put(&vault, "customer", person(1)).await.unwrap();
    put(&vault, "customer", person(2)).await.unwrap();
    get(&vault, one.id).unwrap();
    let subject = Some(one.subject);
    let more = NewRecord { rtype: slug("visit"), subject, fields: person(3), request: None };
    vault.create_record(&app(), TENANT, more).await.unwrap();
    let list = |permit: &Permit<_>, filter: &AuditFilter| {
        all(&vault);
        let lines = vault.audit_entries(permit, filter, None, 1_000).map(|page| page.lines);
        lines.map(|l| l.into_iter().map(|l| l.told.unwrap()).collect::<Vec<Told>>())
    };
    let none = AuditFilter::default();
    for (tenants, least) in [(&["other"][..], 1), (&[TENANT][..], 4)] {
        let told = list(&bound(tenants, None).unwrap(), &none).unwrap();
        assert!(told.len() >= least);
        let of: BTreeSet<_> = told.iter().map(|t| t.tenant.as_ref().unwrap().as_str()).collect();
        assert_eq!(of.into_iter().collect::<Vec<_>>(), tenants);
    }
    let everything = list(&bound(&["*"], None).unwrap(), &none).unwrap();
    assert!(everything.iter().any(|t| t.tenant.is_none()));
    let of_one = AuditFilter { tenant: Some(slug("other")), ..AuditFilter::default() };
    let of_one = list(&bound(&["*"], Some("other")).unwrap(), &of_one).unwrap();
    assert!(!of_one.is_empty() && of_one.len() < everything.len());
    assert!(of_one.iter().all(|t| t.tenant.as_ref().is_some_and(|t| t.as_str() == "other")));
    assert!(bound::<lethe::authz::ReadAudit>(&["other"], Some(TENANT)).is_err());
    assert!(bound::<lethe::authz::ExportAudit>(&[TENANT], None).is_err());
    // A permit for one tenant does not read another's, whatever the filter says.
    let of_other = AuditFilter { tenant: Some(slug("other")), ..AuditFilter::default() };
    let refused = list(&bound(&[TENANT], Some(TENANT)).unwrap(), &of_other);
    assert!(matches!(refused, Err(VaultError::Forbidden)));

    // About one subject and all of its records, and nothing once it is erased.
    let subject =
        || AuditFilter { subject: Some((slug(TENANT), one.subject)), ..AuditFilter::default() };
    let permit = || bound(&[TENANT], Some(TENANT)).unwrap();
    let about = list(&permit(), &subject()).unwrap();
    let acts: Vec<Act> = about.iter().rev().map(|t| t.entry.act).collect();
    assert_eq!(acts, [Act::CreateRecord, Act::GetRecord, Act::CreateRecord]);
    let reason = ErasureReason::SubjectRequest;
    vault.erase_subject(&app(), TENANT, one.subject, reason).await.unwrap();
    let refused = list(&permit(), &subject());
    assert!(matches!(refused, Err(VaultError::Erased("subject"))));
    let by = AuditFilter {
        principal: Some(app::<lethe::authz::ReadRecord>().principal().clone()),
        ..AuditFilter::default()
    };
    let told = list(&permit(), &by).unwrap();
    assert!(!told.is_empty() && told.iter().all(|t| t.entry.act != Act::ListAuditEntries));
    check_whole(&vault).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_that_was_not_clean_is_told() {
    let dir = scratch();
    let house = House::new(dir.path(), EngineChoice::Redb);
    let vault = house.create();
    furnish(&vault).await;
    let before = told(&vault).len();
    put(&vault, "customer", person(1)).await.unwrap();
    drop(vault);
    let vault = house.open().unwrap();
    let entries: Vec<Entry> = told(&vault).into_iter().skip(before).map(|t| t.entry).collect();
    let gap = entries.iter().position(|e| e.kind == Kind::Gap).unwrap();
    assert!(entries[..gap].iter().any(|e| e.act == Act::CreateRecord), "what was durable stays");
    assert_eq!(entries[gap + 1].act, Act::Open);
    assert!(entries[gap].since <= entries[gap].at);
    check_whole(&vault).await;
}

/// An engine whose commits are counted and can be held up.
fn slow() -> (Arc<Plan>, EngineChoice) {
    let plan = Arc::new(Plan::default());
    let engine = Faulty::new(Arc::new(Memory::new()), Arc::clone(&plan));
    (plan, EngineChoice::Given(Arc::new(engine)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_are_refused_when_the_log_has_no_room_and_one_group_takes_many() {
    let dir = scratch();
    let (plan, engine) = slow();
    let house = House::new(dir.path(), engine);
    let vault = house.create();
    furnish(&vault).await;
    let one = put(&vault, "customer", person(1)).await.unwrap();
    tokio::time::sleep(NOTES_WAIT * 4).await;
    // The disk stands still: reads go on until the queue is full, and memory stays bounded.
    let hold = plan.hold();
    let mut served = 0_usize;
    let refused = loop {
        match get(&vault, one.id) {
            Ok(_) => served += 1,
            Err(e) => break e,
        }
        assert!(served < NOTES_BYTES_MAX / 80, "the queue has no bound");
    };
    assert!(matches!(refused, VaultError::Store(StoreError::Busy)), "{refused:?}");
    // One of the groups before the hold took some entries with it: at most two queues' worth were served.
    assert!(served >= NOTES_BYTES_MAX / 160, "{served}");
    assert_eq!(vault.metrics().audit_refused.value(), 1);
    let before = plan.writes();
    drop(hold);
    tokio::time::sleep(NOTES_WAIT * 20).await;
    get(&vault, one.id).unwrap();
    let groups = plan.writes() - before;
    assert!(groups < 20, "{served} reads took {groups} groups");
    let reads = told(&vault).iter().filter(|t| t.entry.act == Act::GetRecord).count();
    assert!(reads >= served, "{reads} of {served} are in the log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_sync_mode_a_read_is_answered_after_its_entry_is_on_disk() {
    for (mode, waits) in [(AuditReads::Sync, true), (AuditReads::Group, false)] {
        let dir = scratch();
        let (plan, engine) = slow();
        let mut house = House::new(dir.path(), engine);
        house.change = match mode {
            AuditReads::Sync => |setup| setup.audit_reads = AuditReads::Sync,
            AuditReads::Group => |_| (),
        };
        let vault = house.create();
        furnish(&vault).await;
        let one = put(&vault, "customer", person(1)).await.unwrap();
        tokio::time::sleep(NOTES_WAIT * 4).await;
        let hold = plan.hold();
        get(&vault, one.id).unwrap();
        let settled = tokio::time::timeout(NOTES_WAIT * 4, vault.settle_reads()).await;
        assert_eq!(settled.is_err(), waits, "{mode:?}");
        drop(hold);
        vault.settle_reads().await.unwrap();
        assert_eq!(vault.holds_up_reads(), waits);
    }
}

/// Nothing that a caller wrote gets into the log, and no id of a record or subject.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_hold_no_value_and_no_id() {
    let dir = scratch();
    let vault = House::new(dir.path(), EngineChoice::Redb).create();
    furnish(&vault).await;
    let secret = "Zweigstelle-Kanarienvogel";
    let set = fields(&[("reference", secret), ("city", secret), ("note", secret)]);
    let one = put(&vault, "customer", set).await.unwrap();
    assert_eq!(text(&get(&vault, one.id).unwrap(), "note"), Some(secret));
    let spec = ReadSpec { fields: None, purpose: Some(secret.to_lowercase()) };
    vault.get_records(&app(), TENANT, &[one.id], &spec).unwrap();
    let value = lethe::vault::value::Value::Text(secret.into());
    let customer = slug("customer");
    vault.find_records(&app(), TENANT, &customer, "city", value, &spec).unwrap();
    let lines = told(&vault);
    assert!(lines.len() > 5);
    for line in lines {
        let has = |what: &[u8]| line.leaf.windows(what.len()).any(|w| w == what);
        let lower = secret.to_lowercase();
        for what in [secret.as_bytes(), lower.as_bytes(), &one.id.0, &one.subject.0, b"customer"] {
            assert!(!has(what), "{:?}", line.entry);
        }
    }
}

//! The audit log while it grows: nothing before it is durable, no gap and nothing twice whatever breaks off, bounds,
//! and only what the caller may see.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lethe::audit::Act;
use lethe::client::Client;
use lethe::limits::{NOTES_WAIT, TAILS_PER_IDENTITY_MAX};
use lethe::proto::admin::{self, AuditEntry, TailAuditEntriesRequest, TailAuditEntriesResponse};
use lethe::proto::v1;
use tonic::{Code, Status, Streaming};

use super::*;
use crate::live::{create, get as read_record, reason, violated};
use crate::peer::in_time;

/// What a tail has so far, and where the next would begin.
async fn taken(vault: &Vault, tail: &mut lethe::vault::Tail) -> Vec<Act> {
    let lines = vault.audit_tail_part(&auditor(), &AuditFilter::default(), tail).unwrap();
    lines.into_iter().map(|l| l.told.unwrap().entry.act).collect()
}

fn auditor() -> Permit<lethe::authz::ReadAudit> {
    permit(Role::Auditor, None)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_is_followed_once_it_is_durable_and_not_before() {
    let dir = scratch();
    let (plan, engine) = slow();
    let vault = House::new(dir.path(), engine).create();
    furnish(&vault).await;
    let one = put(&vault, "customer", person(1)).await.unwrap();
    vault.settle_log().await.unwrap();
    let mut tail = vault.audit_tail(&auditor(), &AuditFilter::default(), None).unwrap();
    in_time(tail.grown()).await.unwrap();
    assert_eq!(taken(&vault, &mut tail).await, [Act::TailAuditEntries], "its own, and once");
    let hold = plan.hold();
    get(&vault, one.id).unwrap();
    assert!(tokio::time::timeout(NOTES_WAIT * 6, tail.grown()).await.is_err());
    assert!(plan.waiting() > 0, "the entry is on its way to the disk");
    assert!(taken(&vault, &mut tail).await.is_empty());
    drop(hold);
    in_time(tail.grown()).await.unwrap();
    assert_eq!(taken(&vault, &mut tail).await, [Act::GetRecord]);
    let next = tail.next_index();
    drop(tail);
    get(&vault, one.id).unwrap();
    vault.settle_log().await.unwrap();
    let mut again = vault.audit_tail(&auditor(), &AuditFilter::default(), Some(next)).unwrap();
    let seen = taken(&vault, &mut again).await;
    assert_eq!(seen[0], Act::GetRecord, "it goes on where the other ended");
}

async fn follow(
    client: &Client,
    request: TailAuditEntriesRequest,
) -> Result<Streaming<TailAuditEntriesResponse>, Status> {
    client.audit_streams().tail_audit_entries(request).await.map(|r| r.into_inner())
}

/// A tail that has begun, and where it begins.
async fn begun(
    client: &Client,
    request: TailAuditEntriesRequest,
) -> (Streaming<TailAuditEntriesResponse>, u64) {
    let mut stream = follow(client, request).await.unwrap();
    let first = in_time(stream.message()).await.unwrap().unwrap();
    assert!(first.entries.is_empty());
    (stream, first.next_index)
}

/// The next entries, with what they bring.
async fn next(stream: &mut Streaming<TailAuditEntriesResponse>) -> Vec<AuditEntry> {
    in_time(stream.message()).await.unwrap().unwrap().entries
}

/// Messages until one of this method comes; its entry.
async fn until(stream: &mut Streaming<TailAuditEntriesResponse>, method: &str) -> AuditEntry {
    loop {
        let found = next(stream).await.into_iter().find(|e| e.method == method);
        if let Some(entry) = found {
            return entry;
        }
    }
}

fn about(tenant: &str) -> TailAuditEntriesRequest {
    TailAuditEntriesRequest { parent: format!("tenants/{tenant}"), ..Default::default() }
}

async fn status_of(client: &Client, request: TailAuditEntriesRequest) -> Status {
    match follow(client, request).await {
        Ok(mut stream) => in_time(stream.message()).await.unwrap_err(),
        Err(status) => status,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn who_breaks_off_again_and_again_misses_nothing_and_gets_nothing_twice() {
    let live = Arc::new(Live::start().await);
    live.furnish("a").await;
    let auditor = live.client("auditor").await;
    let (stream, from) = begun(&auditor, TailAuditEntriesRequest::default()).await;
    drop(stream);
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for writer in 0..4 {
        let (live, stop) = (Arc::clone(&live), Arc::clone(&stop));
        writers.push(tokio::spawn(async move {
            let client = live.client("application").await;
            let email = format!("w{writer}@example.org");
            let name = create(&client, "a", &[("email", &email)]).await.name;
            let mut reads = 0_u64;
            while !stop.load(Ordering::Acquire) {
                read_record(&client, &name).await.unwrap();
                reads += 1;
                // However long it takes: an identity that calls too often is refused.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            reads
        }));
    }
    // Some breaks come in the middle of a message's entries being worked at, some before any came; some wait.
    let (mut seen, mut at) = (Vec::new(), from);
    for round in 0..40_u64 {
        let request = TailAuditEntriesRequest { start_index: Some(at), ..Default::default() };
        let (mut stream, begins) = begun(&auditor, request).await;
        assert_eq!(begins, at);
        for _ in 0..round % 5 {
            let message = in_time(stream.message()).await.unwrap().unwrap();
            seen.extend(message.entries.iter().map(|e| e.index));
            at = message.next_index;
        }
        tokio::time::sleep(Duration::from_millis(round % 7 * 9)).await;
    }
    stop.store(true, Ordering::Release);
    let mut reads = 0;
    for writer in writers {
        reads += writer.await.unwrap();
    }
    let request = admin::ListAuditEntriesRequest { page_size: 1, ..Default::default() };
    let last = auditor.audit().list_audit_entries(request).await.unwrap().into_inner();
    let last = last.entries[0].index;
    let request = TailAuditEntriesRequest { start_index: Some(at), ..Default::default() };
    let (mut stream, _) = begun(&auditor, request).await;
    while seen.last().is_none_or(|seen| *seen < last) {
        seen.extend(next(&mut stream).await.iter().map(|e| e.index));
    }
    let all: Vec<u64> = (from..=*seen.last().unwrap()).collect();
    assert_eq!(seen, all);
    assert!(reads > 200, "{reads} reads are a load");
}

/// A tail that told of itself would go on for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_is_one_entry_of_the_log_and_what_it_gives_is_none() {
    let live = Live::start().await;
    live.furnish("a").await;
    let auditor = live.client("auditor").await;
    let request = TailAuditEntriesRequest { start_index: Some(0), ..Default::default() };
    let (mut stream, begins) = begun(&auditor, request).await;
    assert_eq!(begins, 0);
    let own = until(&mut stream, "TailAuditEntries").await;
    assert_eq!((own.role.as_str(), own.total), ("auditor", 0));
    let quiet = tokio::time::timeout(NOTES_WAIT * 10, stream.message()).await;
    assert!(quiet.is_err(), "nothing follows from it: {quiet:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_follows_gets_what_it_asked_for_of_what_it_may_see() {
    let live = Live::start().await;
    live.furnish("a").await;
    live.furnish("b").await;
    let application = live.client("application").await;
    let officer = live.client("privacy-officer-a").await;
    let whole = TailAuditEntriesRequest::default;
    let (mut bound, _) = begun(&officer, whole()).await;
    let auditor = live.client("auditor").await;
    let (mut of_b, _) = begun(&auditor, about("b")).await;
    let principal = "spiffe://dev.lethe/application".to_owned();
    let by = TailAuditEntriesRequest { principal: principal.clone(), ..whole() };
    let (mut by, _) = begun(&auditor, by).await;
    let one = create(&application, "a", &[("email", "a@example.org")]).await;
    let two = create(&application, "b", &[("email", "b@example.org")]).await;
    let three = create(&application, "a", &[("email", "c@example.org")]).await;
    let about_one = TailAuditEntriesRequest { subject: one.subject.clone(), ..whole() };
    let (mut about_one, _) = begun(&auditor, about_one).await;
    for record in [&one, &two, &three] {
        read_record(&application, &record.name).await.unwrap();
    }
    let mut seen = Vec::new();
    while seen.len() < 4 {
        seen.extend(next(&mut bound).await.into_iter().map(|e| (e.tenant, e.method)));
    }
    let of_a = |method: &str| ("tenants/a".to_owned(), method.to_owned());
    assert_eq!(seen[..2], [of_a("CreateRecord"), of_a("CreateRecord")]);
    assert!(seen.iter().all(|(tenant, _)| tenant == "tenants/a"), "{seen:?}");
    assert_eq!(until(&mut of_b, "GetRecord").await.tenant, "tenants/b");
    assert_eq!(until(&mut by, "GetRecord").await.principal, principal);
    let read = until(&mut about_one, "GetRecord").await;
    assert_eq!((read.tenant.as_str(), read.members.len()), ("tenants/a", 1));

    // Its subject is erased: from then on nobody can tell what is about it.
    let request = v1::EraseSubjectRequest { name: one.subject.clone(), reason: 0 };
    application.subjects().erase_subject(request).await.unwrap();
    let ended = loop {
        match in_time(about_one.message()).await {
            Ok(Some(message)) => {
                assert!(message.entries.iter().all(|e| e.method != "EraseSubject"))
            }
            Ok(None) => panic!("it ended well"),
            Err(status) => break status,
        }
    };
    assert_eq!((ended.code(), reason(&ended).as_str()), (Code::NotFound, "ERASED"));
    let again = TailAuditEntriesRequest { subject: one.subject, ..whole() };
    assert_eq!(reason(&status_of(&auditor, again).await), "ERASED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_tail_is_named_and_an_identity_has_so_many_at_once() {
    let live = Live::start().await;
    live.furnish("a").await;
    let auditor = live.client("auditor").await;
    let subject = "tenants/b/subjects/00000000-0000-4000-8000-000000000000".to_owned();
    let bad = [
        (TailAuditEntriesRequest { parent: "A".into(), ..Default::default() }, "parent"),
        (TailAuditEntriesRequest { principal: "x".into(), ..Default::default() }, "principal"),
        (TailAuditEntriesRequest { subject: subject.clone(), ..about("a") }, "subject"),
        (TailAuditEntriesRequest { start_index: Some(1 << 40), ..about("a") }, "start_index"),
    ];
    for (request, field) in bad {
        let status = status_of(&auditor, request).await;
        assert_eq!((status.code(), violated(&status)), (Code::InvalidArgument, vec![field.into()]));
    }
    assert_eq!(status_of(&auditor, about("none")).await.code(), Code::NotFound);
    let denied = status_of(&live.client("auditor-a").await, about("b")).await;
    assert_eq!(denied.code(), Code::PermissionDenied);

    let mut open = Vec::new();
    for _ in 0..TAILS_PER_IDENTITY_MAX {
        open.push(begun(&auditor, about("a")).await.0);
    }
    let status = status_of(&live.client("auditor").await, about("a")).await;
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "LIMIT"));
    begun(&live.client("privacy-officer").await, about("a")).await;
    open.pop();
    // The place is given back when the vault sees that its caller left.
    let mut tries = 0;
    while follow(&auditor, about("a")).await.is_err() {
        tries += 1;
        assert!(tries < 400, "a place is not given back");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

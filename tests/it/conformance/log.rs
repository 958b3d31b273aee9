//! Steps 30 to 34: parts of tenants and schemas, masks, the audit log.

use std::collections::BTreeSet;

use lethe::audit::Head;
use lethe::crypto::merkle::{Frontier, leaf_hash};
use lethe::proto::admin;

use super::*;
use crate::live::reason;
use crate::peer::in_time;

pub(super) async fn steps_30_to_34(story: &mut Story) {
    tenant(story).await;
    schema(story).await;
    masks(story).await;
    entries(story).await;
    head(story).await;
}

async fn rename(
    story: &Story,
    client: &Client,
    (name, etag): (&str, &str),
    paths: Option<&[&str]>,
) -> Result<v1::Tenant, Status> {
    let tenant = v1::Tenant {
        name: story.parent(),
        display_name: name.into(),
        etag: etag.into(),
        ..Default::default()
    };
    let request =
        v1::UpdateTenantRequest { tenant: Some(tenant), update_mask: paths.and_then(mask) };
    Ok(client.tenants().update_tenant(request).await?.into_inner().tenant.unwrap())
}

/// Step 30.
async fn tenant(story: &mut Story) {
    let operator = story.operator.clone();
    let read = async |story: &Story| {
        let request = v1::GetTenantRequest { name: story.parent() };
        operator.tenants().get_tenant(request).await.unwrap().into_inner().tenant.unwrap()
    };
    let first = read(story).await.etag;
    let named = rename(story, &operator, ("Renamed", &first), None).await.unwrap();
    assert!(named.display_name == "Renamed" && named.etag != first, "step 30");
    let stale = rename(story, &operator, ("Other", &first), None).await;
    let stale = story.refused(30, stale, Code::Aborted, &[]);
    assert_eq!(reason(&stale), "ETAG_MISMATCH", "step 30");
    let unknown = rename(story, &operator, ("Other", ""), Some(&["display_name", "canary"])).await;
    story.refused(30, unknown, Code::InvalidArgument, &["update_mask.paths[1]"]);
    let denied = rename(story, &story.application.clone(), ("Other", ""), None).await;
    story.refused(30, denied, Code::PermissionDenied, &[]);
    assert_eq!(read(story).await, named, "step 30");
    // The other clients send this mask when they are given none.
    let none = rename(story, &operator, ("", ""), Some(&["display_name"])).await.unwrap();
    assert_eq!(none.display_name, "", "step 30");
}

/// Step 31.
async fn schema(story: &mut Story) {
    let mut city = customer().fields.swap_remove(1);
    city.classification = v1::Classification::General.into();
    let update = async |story: &Story, paths: &[&str]| {
        let schema = v1::Schema {
            name: story.schema(),
            fields: vec![city.clone()],
            ..v1::Schema::default()
        };
        let request = v1::UpdateSchemaRequest { schema: Some(schema), update_mask: mask(paths) };
        let updated = story.operator.schemas().update_schema(request).await;
        updated.map(|answer| answer.into_inner().schema.unwrap())
    };
    let now = update(story, &["fields.city"]).await.unwrap();
    assert_eq!((now.revision, now.fields.len()), (2, 8), "step 31");
    assert_eq!(now.fields[1].classification(), v1::Classification::General, "step 31");
    let email = (now.fields[0].unique, now.fields[0].mask(), now.fields[0].classification());
    assert_eq!(email, (true, v1::MaskKind::Email, v1::Classification::Sensitive), "step 31");
    assert_eq!(now.retention, customer().retention, "step 31");
    let unknown = update(story, &["fields.city", "fields.canary"]).await;
    story.refused(31, unknown, Code::InvalidArgument, &["update_mask.paths[1]"]);
}

/// A caller in the role `support`, made and let in while the vault runs.
async fn support(story: &Story) -> Client {
    let dir = story.dir.path().join("v");
    let issued = Command::new(env!("CARGO_BIN_EXE_lethectl"))
        .args(["pki", "issue", "--uri", "spiffe://dev.lethe/support", "--out", "support", "--dir"])
        .arg(dir.join("pki"))
        .output()
        .unwrap();
    assert!(issued.status.success(), "step 32: {}", String::from_utf8_lossy(&issued.stderr));
    let identity = "\n[[identity]]\nuri = \"spiffe://dev.lethe/support\"\nrole = \"support\"\ntenants = [\"*\"]\n";
    let config = std::fs::read_to_string(dir.join("lethed.toml")).unwrap();
    std::fs::write(dir.join("next"), config + identity).unwrap();
    std::fs::rename(dir.join("next"), dir.join("lethed.toml")).unwrap();
    let application = std::fs::read_to_string(dir.join("client-application.toml")).unwrap();
    std::fs::write(
        dir.join("client-support.toml"),
        application.replace("pki/application", "pki/support"),
    )
    .unwrap();
    let support = client(&dir, "support").await.unwrap();
    let began = Instant::now();
    let request = v1::ListRecordsRequest { parent: story.parent(), ..Default::default() };
    while support.records().list_records(request.clone()).await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(30), "step 32");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    support
}

/// Step 32.
async fn masks(story: &mut Story) {
    let mut fields =
        texts(&[("email", "mask@example.org"), ("city", "Bern"), ("phone", "+441234567890")]);
    fields.insert("visits".into(), value(Kind::IntegerValue(3)));
    let m = story.create(story.new_record(fields)).await.unwrap().name;
    let support = support(story).await;
    let get = async |paths: Option<&[&str]>| {
        let request = v1::GetRecordRequest {
            name: m.clone(),
            read_mask: paths.and_then(mask),
            purpose: "delivery".into(),
        };
        let got = support.records().get_record(request).await.unwrap();
        got.into_inner().record.unwrap().fields
    };
    let shown =
        texts(&[("email", "m***@example.org"), ("city", "Bern"), ("phone", "+441****7890")]);
    assert_eq!(get(None).await, shown, "step 32");
    assert!(get(Some(&["visits"])).await.is_empty(), "step 32");
    let request = v1::ListRecordsRequest {
        parent: story.parent(),
        page_size: 1_000,
        purpose: "delivery".into(),
        ..Default::default()
    };
    let listed = support.records().list_records(request).await.unwrap().into_inner().records;
    assert_eq!(listed.into_iter().find(|r| r.name == m).unwrap().fields, shown, "step 32");
    let request = v1::FindRecordsRequest {
        schema: story.schema(),
        field: "email".into(),
        value: Some(text("mask@example.org")),
        ..Default::default()
    };
    let found = support.records().find_records(request).await;
    story.refused(32, found, Code::PermissionDenied, &[]);
    let record = v1::Record { name: m, fields: texts(&[("city", "Rome")]), ..Default::default() };
    let request = v1::UpdateRecordRequest { record: Some(record), ..Default::default() };
    let changed = support.records().update_record(request).await;
    story.refused(32, changed, Code::PermissionDenied, &[]);
    let by = admin::ListAuditEntriesRequest {
        parent: story.parent(),
        principal: "spiffe://dev.lethe/support".into(),
        ..Default::default()
    };
    let told = listed_entries(story, by).await.unwrap();
    let read = told.iter().rfind(|e| e.method == "GetRecord").unwrap();
    assert_eq!((read.role.as_str(), read.purpose.as_str()), ("support", "delivery"), "step 32");
    use v1::Classification::{General, Sensitive};
    assert_eq!(read.clear, [General as i32], "step 32");
    assert_eq!(read.masked, [Sensitive as i32], "step 32");
}

/// All entries of a query, the newest first.
pub(super) async fn listed_entries(
    story: &Story,
    mut request: admin::ListAuditEntriesRequest,
) -> Result<Vec<admin::AuditEntry>, Status> {
    let mut all = Vec::new();
    loop {
        let page = story.auditor.audit().list_audit_entries(request.clone()).await?.into_inner();
        all.extend(page.entries);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return Ok(all);
        }
    }
}

/// Step 33.
async fn entries(story: &mut Story) {
    let n = story.put(&[("email", "log@example.org")]).await;
    story.get(&n.name, None, "delivery").await.unwrap();
    let of_subject = || admin::ListAuditEntriesRequest {
        parent: n.subject.rsplit_once("/subjects/").unwrap().0.to_owned(),
        subject: n.subject.clone(),
        ..Default::default()
    };
    let two = listed_entries(story, of_subject()).await.unwrap();
    let methods: Vec<&str> = two.iter().map(|e| e.method.as_str()).collect();
    assert_eq!(methods, ["GetRecord", "CreateRecord"], "step 33");
    for entry in &two {
        assert_eq!(entry.principal, "spiffe://dev.lethe/application", "step 33");
        assert_eq!((entry.role.as_str(), entry.code), ("application", 0), "step 33");
        assert!(
            entry.tenant.ends_with(&story.tenant) && entry.schema.ends_with("customer"),
            "step 33"
        );
        assert_eq!(entry.clear, [v1::Classification::Sensitive as i32], "step 33");
        assert!(entry.masked.is_empty() && entry.members.len() == 1, "step 33");
        assert_eq!(entry.members, two[0].members, "step 33");
    }
    assert_eq!(two[0].purpose, "delivery", "step 33");

    let parent = story.parent();
    let of_tenant = || admin::ListAuditEntriesRequest {
        parent: parent.clone(),
        page_size: 20,
        ..Default::default()
    };
    let first = story.auditor.audit().list_audit_entries(of_tenant()).await.unwrap().into_inner();
    assert!(first.entries.len() <= 20 && !first.next_page_token.is_empty(), "step 33");
    let all = listed_entries(story, of_tenant()).await.unwrap();
    assert!(all.len() > 40 && all.is_sorted_by(|a, b| a.index > b.index), "step 33");
    assert!(all.iter().all(|e| e.tenant.ends_with(&story.tenant)), "step 33");
    let methods: BTreeSet<&str> = all.iter().map(|e| e.method.as_str()).collect();
    let expected = ["CreateTenant", "UpdateTenant", "UpdateSchema", "CreateRecord", "GetRecord"];
    for method in expected.into_iter().chain(["FindRecords", "EraseRecord", "EraseSubject"]) {
        assert!(methods.contains(method), "step 33: {method}");
    }
    let again = listed_entries(story, of_tenant()).await.unwrap();
    assert_eq!(again[0].method, "ListAuditEntries", "step 33");
    let principal = "spiffe://dev.lethe/operator";
    let by = admin::ListAuditEntriesRequest { principal: principal.into(), ..of_tenant() };
    let by = listed_entries(story, by).await.unwrap();
    assert!(!by.is_empty() && by.iter().all(|e| e.principal == principal), "step 33");
    let nonsense = admin::ListAuditEntriesRequest { page_token: "nonsense".into(), ..of_tenant() };
    let nonsense = listed_entries(story, nonsense).await;
    story.refused(33, nonsense, Code::InvalidArgument, &["page_token"]);
    let denied = story.application.audit().list_audit_entries(of_tenant()).await;
    story.refused(33, denied, Code::PermissionDenied, &[]);
    let request = v1::EraseSubjectRequest { name: n.subject.clone(), ..Default::default() };
    story.application.subjects().erase_subject(request).await.unwrap();
    let gone = listed_entries(story, of_subject()).await;
    let gone = story.refused(33, gone, Code::NotFound, &[]);
    assert_eq!(reason(&gone), "ERASED", "step 33");
    let id = lethe::id::RecordId::parse(n.name.rsplit('/').next().unwrap()).unwrap();
    for entry in two.iter().chain(&all) {
        let printed = format!("{entry:?}");
        for secret in ["example.org", "London", n.name.rsplit('/').next().unwrap()] {
            assert!(!printed.contains(secret), "step 33");
        }
        let has = |what: &[u8]| entry.leaf.windows(what.len()).any(|w| w == what);
        assert!(!has(b"example.org") && !has(b"London") && !has(&id.0), "step 33");
    }
}

/// What a head vouches for: its own claims, and all leaves.
fn vouches(head: &admin::GetAuditHeadResponse, leaves: &[Vec<u8>], key: &[u8]) -> bool {
    let Ok(signed) = Head::verify(&head.signed_bytes, &head.signature, key) else { return false };
    let mut tree = Frontier::default();
    leaves.iter().for_each(|leaf| tree.push(leaf_hash(leaf)));
    let vault: String = signed.vault.0.iter().map(|b| format!("{b:02x}")).collect();
    let at = head.create_time.as_ref().map(|t| t.seconds * 1000 + i64::from(t.nanos) / 1_000_000);
    (vault, signed.size, signed.root.to_vec())
        == (head.vault_id.clone(), head.size, head.root.clone())
        && (signed.generation.0, Some(signed.at.0)) == (head.generation, at)
        && (tree.size(), tree.root()) == (signed.size, signed.root)
}

/// Step 34.
async fn head(story: &mut Story) {
    let head = story.auditor.audit().get_audit_head(admin::GetAuditHeadRequest {}).await;
    let head = head.unwrap().into_inner();
    let export = async |start_index: u64| {
        let request = admin::ExportAuditEntriesRequest { start_index };
        let stream = story.auditor.audit_streams().export_audit_entries(request).await;
        let mut stream = stream.unwrap().into_inner();
        let mut entries = Vec::new();
        while let Some(part) = in_time(stream.message()).await.unwrap() {
            entries.extend(part.entries);
        }
        entries
    };
    let entries = export(0).await;
    assert!(entries.iter().zip(0..).all(|(e, n)| e.index == n), "step 34");
    let leaves: Vec<Vec<u8>> =
        entries.into_iter().map(|e| e.leaf).take(head.size as usize).collect();
    let status = story.operator.vault().get_status(admin::GetStatusRequest {}).await.unwrap();
    let key = status.into_inner().public_key;
    assert!(vouches(&head, &leaves, &key), "step 34");
    let mut other_key = key.clone();
    other_key[3] ^= 1;
    assert!(!vouches(&head, &leaves, &other_key), "step 34");
    type Change = fn(&mut admin::GetAuditHeadResponse, &mut Vec<Vec<u8>>);
    let changes: [Change; 8] = [
        |head, _| head.signed_bytes[9] ^= 1,
        |_, leaves| leaves[1][20] ^= 1,
        |_, leaves| drop(leaves.remove(2)),
        |head, _| head.vault_id = "0".repeat(32),
        |head, _| head.size -= 1,
        |head, _| head.root[0] ^= 1,
        |head, _| head.generation += 1,
        |head, _| head.create_time.as_mut().unwrap().seconds += 1,
    ];
    for (n, change) in changes.into_iter().enumerate() {
        let (mut head, mut leaves) = (head.clone(), leaves.clone());
        change(&mut head, &mut leaves);
        assert!(!vouches(&head, &leaves, &key), "step 34: change {n}");
    }
    assert_eq!(export(head.size - 1).await[0].index, head.size - 1, "step 34");
    let request = admin::ExportAuditEntriesRequest { start_index: 0 };
    let denied = story.application.audit_streams().export_audit_entries(request).await;
    story.refused(34, denied, Code::PermissionDenied, &[]);
    let denied = story.application.audit().get_audit_head(admin::GetAuditHeadRequest {}).await;
    story.refused(34, denied, Code::PermissionDenied, &[]);
}

//! Steps 19 to 22: import, export, watch.

use std::collections::BTreeSet;

use lethe::client::request_id;

use super::*;
use crate::peer::in_time;
use crate::story::Import;

const SECOND: &str = "conf-5d1e90aa7c3c";

fn records(emails: impl Iterator<Item = String>) -> Vec<v1::Record> {
    let one = |email: String| v1::Record {
        schema: format!("tenants/{SECOND}/schemas/customer"),
        fields: texts(&[("email", &email), ("city", "Rome")]),
        ..v1::Record::default()
    };
    emails.map(one).collect()
}

async fn exported(story: &Story, page_token: &str) -> Vec<v1::ExportRecordsResponse> {
    let request = v1::ExportRecordsRequest {
        parent: format!("tenants/{SECOND}"),
        page_token: page_token.into(),
        ..Default::default()
    };
    let mut stream =
        story.application.streams().export_records(request).await.unwrap().into_inner();
    let mut parts = Vec::new();
    while let Some(part) = in_time(stream.message()).await.unwrap() {
        parts.push(part);
    }
    parts
}

fn names(parts: &[v1::ExportRecordsResponse]) -> Vec<&str> {
    parts.iter().flat_map(|p| &p.records).map(|r| r.name.as_str()).collect()
}

pub(super) async fn steps_19_to_22(story: &mut Story) {
    let tenant = v1::CreateTenantRequest { tenant_id: SECOND.into(), tenant: None };
    story.operator.tenants().create_tenant(tenant).await.unwrap();
    story.make_schema(&format!("tenants/{SECOND}")).await;

    let email = |n: usize| match n {
        700 => "canary-at-example".to_owned(),
        _ => format!("i{n}@example.org"),
    };
    let mut import = Import::start(&story.application, SECOND, &request_id()).await.unwrap();
    let (mut given, mut failures) = (0, Vec::new());
    for (first, count) in [(0, 500), (500, 500), (1_000, 200)] {
        let done =
            import.chunk(first as u64, records((first..first + count).map(email))).await.unwrap();
        story.print(&done);
        given += done.names.iter().filter(|n| !n.is_empty()).count();
        failures.extend(done.failures);
    }
    drop(import);
    assert_eq!(given, 1_199, "step 19");
    let fields =
        |f: &v1::ImportFailure| f.violations.iter().map(|v| v.field.clone()).collect::<Vec<_>>();
    let told: Vec<_> = failures.iter().map(|f| (f.index, f.code, fields(f))).collect();
    assert_eq!(told, [(700, 3, owned(&["fields.email"]))], "step 19");
    assert!(!format!("{failures:?}").contains("canary"), "step 19");

    let id = request_id();
    let chunk = |from: usize| records((from..from + 500).map(|n| format!("j{n}@example.org")));
    let mut import = Import::start(&story.application, SECOND, &id).await.unwrap();
    let first = import.chunk(0, chunk(0)).await.unwrap();
    drop(import);
    let mut import = Import::start(&story.application, SECOND, &id).await.unwrap();
    assert_eq!(import.next, 500, "step 20");
    assert_eq!(import.chunk(0, chunk(0)).await.unwrap().names, first.names, "step 20");
    import.chunk(500, chunk(500)).await.unwrap();
    let gap = import.chunk(5_000, chunk(5_000)).await;
    story.refused(20, gap, Code::InvalidArgument, &["chunk.first_index"]);
    let count: usize = story.pages(SECOND, 1_000).await.iter().map(Vec::len).sum();
    assert_eq!(count, 2_199, "step 20");

    let parts = exported(story, "").await;
    let all = names(&parts);
    assert!(all.is_sorted() && parts.len() > 1, "step 21");
    assert_eq!((all.len(), all.iter().collect::<BTreeSet<_>>().len()), (2_199, 2_199), "step 21");
    let rest = exported(story, &parts[0].next_page_token).await;
    assert_eq!(names(&rest), all[parts[0].records.len()..], "step 21");

    let request = v1::WatchRecordsRequest { parent: story.parent() };
    let mut watch = story.application.streams().watch_records(request).await.unwrap().into_inner();
    let begun = in_time(watch.message()).await.unwrap().unwrap();
    assert_eq!(begun, v1::WatchRecordsResponse::default(), "step 22");
    let w = story.put(&[("email", "w@example.org")]).await;
    story.update(&w.name, &w.etag, texts(&[("city", "Wien")]), None).await.unwrap();
    story.erase(&w.name).await.unwrap();
    use v1::ChangeKind as K;
    for kind in [K::Created, K::Updated, K::Erased] {
        let heard = in_time(watch.message()).await.unwrap().unwrap();
        assert_eq!((heard.kind(), &heard.name), (kind, &w.name), "step 22");
        story.print(&heard);
    }
}

//! R14 of streams that go on: a tail of the audit log ends or gets narrower with the right to it.

use super::*;

type Tail = Streaming<admin::TailAuditEntriesResponse>;

async fn begun(client: &Client, parent: &str) -> Tail {
    let request =
        admin::TailAuditEntriesRequest { parent: parent.to_owned(), ..Default::default() };
    let answer = client.audit_streams().tail_audit_entries(request).await;
    let mut stream = answer.unwrap().into_inner();
    in_time(stream.message()).await.unwrap().unwrap();
    stream
}

/// Entries up to the first of this method, as tenant and method.
async fn up_to(stream: &mut Tail, method: &str) -> Vec<(String, String)> {
    let mut seen = Vec::new();
    while seen.last().is_none_or(|(_, m): &(String, String)| m != method) {
        let message = in_time(stream.message()).await.unwrap().unwrap();
        seen.extend(message.entries.into_iter().map(|e| (e.tenant, e.method)));
    }
    seen
}

async fn end_of(stream: &mut Tail) -> Status {
    in_time(async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it ended well"),
                Err(status) => return status,
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_gets_narrower_and_ends_with_the_right_to_it() {
    let scene = Scene::start().await;
    scene.live.furnish("other").await;
    let (kept, _) = scene.fill().await;
    let application = scene.live.client("application").await;
    let elsewhere = create(&application, "other", &[("email", "o@example.org")]).await.name;
    let auditor = scene.live.client("auditor").await;
    let (mut whole, mut of_shop) =
        (begun(&auditor, "").await, begun(&auditor, "tenants/shop").await);
    get(&application, &kept).await.unwrap();
    up_to(&mut whole, "GetRecord").await;
    up_to(&mut of_shop, "GetRecord").await;

    // One tenant is taken from who follows all: its entries stay away, the others come.
    scene.add("forbid (principal, action == Action::\"ReadAudit\", resource in Tenant::\"shop\");");
    assert!(scene.reloads().await);
    let status = end_of(&mut of_shop).await;
    assert_eq!((status.code(), status.message()), (Code::PermissionDenied, DENIED));
    get(&application, &kept).await.unwrap();
    let update =
        scene.live.client("application").await.records().update_record(update(&kept)).await;
    update.unwrap();
    get(&application, &elsewhere).await.unwrap();
    let seen = up_to(&mut whole, "GetRecord").await;
    assert_eq!(seen.last().unwrap().0, "tenants/other");
    assert!(seen.iter().all(|(tenant, _)| tenant != "tenants/shop"), "{seen:?}");

    // Without any right the stream ends although nothing more is told: nobody calls until it has.
    scene.add("forbid (principal, action == Action::\"ReadAudit\", resource);");
    let status = end_of(&mut whole).await;
    assert_eq!((status.code(), status.message()), (Code::PermissionDenied, DENIED));
}

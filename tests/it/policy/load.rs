//! New certificates and rights while callers read, write, watch and export: nobody notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use lethe::clock::Clock;
use lethe::pki::{Ca, LEAF_LIFE, Purpose};

use super::*;
use crate::peer::PATIENCE;

const RELOADS: usize = 50;

/// What the callers have done, until they are told to stop.
#[derive(Default)]
struct Done {
    stop: AtomicBool,
    calls: AtomicU64,
}

/// The n-th caller's one call, or stream to its end.
async fn one(client: &Client, n: usize, call: u64, kept: &str) {
    match n {
        0 => {
            let email = format!("{call}@example.org");
            create(client, "shop", &[("email", &email), ("city", "Rome")]).await;
        }
        1 => {
            let parent = "tenants/shop".into();
            let request = v1::ExportRecordsRequest { parent, ..Default::default() };
            let parts = client.records().export_records(request).await.unwrap();
            let (mut parts, mut count) = (parts.into_inner(), 0);
            while let Some(part) = in_time(parts.message()).await.unwrap() {
                count += part.records.len();
            }
            assert!(count >= 2);
        }
        _ => {
            get(client, kept).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_and_no_stream_fails_while_certificates_and_rights_are_replaced() {
    let scene = Scene::start().await;
    let (kept, _) = scene.fill().await;
    let application = scene.live.client("application").await;
    let request = v1::WatchRecordsRequest { parent: "tenants/shop".into() };
    let mut watch = application.records().watch_records(request).await.unwrap().into_inner();
    assert!(in_time(watch.message()).await.unwrap().is_some());
    let done = Arc::new(Done::default());
    let mut callers = Vec::new();
    for n in 0..4 {
        let (done, kept) = (Arc::clone(&done), kept.clone());
        let client = scene.live.client("application").await;
        callers.push(tokio::spawn(async move {
            while !done.stop.load(Ordering::Relaxed) {
                one(&client, n, done.calls.fetch_add(1, Ordering::Relaxed), &kept).await;
            }
        }));
    }
    let pki = scene.live.dir.path().join("v/pki");
    let (ca, now) = (Ca::load(&pki).unwrap(), scene.live.clock.now());
    let server =
        Purpose::Server { dns: vec!["localhost".into()], ips: vec![[127, 0, 0, 1].into()] };
    let lethed = lethe::authz::Principal::parse("spiffe://dev.lethe/server").unwrap();
    let before = scene.status().await;
    for n in 0..RELOADS {
        let fresh = tempfile::tempdir_in(&pki).unwrap();
        ca.issue(&lethed, &server, now, LEAF_LIFE).unwrap().write(fresh.path(), "server").unwrap();
        for name in ["server.key", "server.pem"] {
            std::fs::rename(fresh.path().join(name), pki.join(name)).unwrap();
        }
        let who = "principal in Role::\"support\", action == Action::\"CreateRecord\"";
        scene.add(&format!("forbid ({who}, resource in RecordType::\"t{n}\");"));
        assert!(scene.reloads().await, "{:?}", scene.warnings().await);
        let so_far = done.calls.load(Ordering::Relaxed);
        in_time(async {
            while done.calls.load(Ordering::Relaxed) < so_far + 20 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
    }
    let after = scene.status().await;
    let taken = |name: &str| after.counters[name] - before.counters[name];
    assert!(taken("policy_reloads") >= RELOADS as u64);
    assert!(taken("tls_reloads") >= RELOADS as u64 / 2, "{}", taken("tls_reloads"));
    done.stop.store(true, Ordering::Relaxed);
    for caller in callers {
        tokio::time::timeout(PATIENCE, caller).await.unwrap().unwrap();
    }
    println!("{} calls", done.calls.load(Ordering::Relaxed));
    // The watch from before is told of the first record that was made since.
    let heard = in_time(watch.message()).await.unwrap().unwrap();
    assert_eq!(heard.kind(), v1::ChangeKind::Created);
}

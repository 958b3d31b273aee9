//! `lethectl status`, `lethectl key` and `lethectl bucket list`.

use serde_json::{Map, json};

use super::Done;
use super::cli::KeyCommand;
use super::error::CtlError;
use super::names::{TenantName, last};
use super::output::{Out, hex, time};
use super::tenant::{PAGES_MAX, page_size, short_name};
use crate::client::{Client, read};
use crate::proto::admin::{
    GetKeyStatusRequest, GetMetricsRequest, GetStatusRequest, GetStatusResponse, KeyInfo,
    ListBucketsRequest, RotateKeyRequest,
};

/// Keys: serving.
pub(super) async fn health(client: &Client, out: &mut Out) -> Result<Done, CtlError> {
    let serving = client.is_serving().await.map_err(CtlError::call("ask for the health"))?;
    out.json(&json!({ "serving": serving }))?;
    if serving {
        out.line("serving")?;
        return Ok(Done::Wholly);
    }
    Err(CtlError::NotServing)
}

/// Keys: exposition.
pub(super) async fn metrics(client: &Client, out: &mut Out) -> Result<Done, CtlError> {
    let answer = read(|| {
        let mut service = client.vault();
        async move { service.get_metrics(GetMetricsRequest {}).await }
    });
    let text = answer.await.map_err(CtlError::call("get the metrics"))?.exposition;
    out.json(&json!({ "exposition": text }))?;
    text.lines().try_for_each(|line| out.line(&super::output::safe(line)))?;
    Ok(Done::Wholly)
}

pub(super) async fn status(client: &Client, out: &mut Out) -> Result<Done, CtlError> {
    let answer = read(|| {
        let mut service = client.vault();
        async move { service.get_status(GetStatusRequest {}).await }
    });
    let status = answer.await.map_err(CtlError::call("get the status"))?;
    out.json(&status_json(&status))?;
    out.pairs(&[
        ("vault", status.vault_id.clone()),
        ("version", status.version.clone()),
        ("store", status.store_engine.clone()),
        ("started", time(status.start_time.as_ref())),
        ("tenants", status.tenants.to_string()),
        ("generation", status.generation.to_string()),
        ("ledger", format!("{} leaves, root {}", status.ledger_size, hex(&status.ledger_root))),
        ("receipts claim", level(&status)),
        ("waiting erasures", status.pending_erasures.to_string()),
        ("public key", hex(&status.public_key)),
        ("policy", format!("epoch {}, SHA-256 {}", status.policy_epoch, status.policy_sha256)),
    ])?;
    for warning in &status.warnings {
        out.line(&format!("warning: {}", super::output::safe(warning)))?;
    }
    let mut counters: Vec<_> = status.counters.iter().collect();
    counters.sort();
    if !counters.is_empty() {
        let rows = counters.into_iter().map(|(name, n)| vec![name.clone(), n.to_string()]);
        out.table(&["COUNTER", "SINCE START"], rows.collect())?;
    }
    Ok(Done::Wholly)
}

fn level(status: &GetStatusResponse) -> String {
    short_name(status.advertised_level().as_str_name(), "ERASURE_LEVEL_")
}

/// Keys: those of `GetStatusResponse`, bytes in hex, the level without its prefix.
fn status_json(status: &GetStatusResponse) -> serde_json::Value {
    let counters: Map<_, _> =
        status.counters.iter().map(|(name, n)| (name.clone(), json!(n))).collect();
    json!({
        "vault_id": status.vault_id,
        "version": status.version,
        "store_engine": status.store_engine,
        "generation": status.generation,
        "ledger_size": status.ledger_size,
        "ledger_root": hex(&status.ledger_root),
        "advertised_level": level(status),
        "policy_epoch": status.policy_epoch,
        "policy_sha256": status.policy_sha256,
        "warnings": status.warnings,
        "start_time": time(status.start_time.as_ref()),
        "tenants": status.tenants,
        "pending_erasures": status.pending_erasures,
        "public_key": hex(&status.public_key),
        "counters": counters,
    })
}

pub(super) async fn keys(
    client: &Client,
    command: &KeyCommand,
    out: &mut Out,
) -> Result<Done, CtlError> {
    match command {
        KeyCommand::Rotate => {
            let answer = client.vault().rotate_key(RotateKeyRequest {}).await;
            let answer = answer.map_err(CtlError::call("rotate the key"))?.into_inner();
            let kek = answer.kek.ok_or(CtlError::Answer("the new key's id"))?;
            out.json(&json!({ "kek": key_json(&kek), "generation": answer.generation }))?;
            out.line(&format!("rotated; generation {}", answer.generation))?;
            out.pairs(&[("new kek", kek.key_id), ("since", time(kek.since.as_ref()))])?;
        }
        KeyCommand::Status => {
            let answer = read(|| {
                let mut service = client.vault();
                async move { service.get_key_status(GetKeyStatusRequest {}).await }
            });
            let keys = answer.await.map_err(CtlError::call("get the keys' status"))?.keys;
            out.json(&json!({ "keys": keys.iter().map(key_json).collect::<Vec<_>>() }))?;
            let rows = keys.into_iter().map(|k| {
                let (oldest, newest) = (time(k.since.as_ref()), time(k.newest_since.as_ref()));
                vec![k.kind, k.count.to_string(), k.wrapped_by, k.key_id, oldest, newest]
            });
            let heads = ["KEY", "COUNT", "WRAPPED BY", "ID", "NONE OLDER THAN", "NEWEST SINCE"];
            out.table(&heads, rows.collect())?;
        }
    }
    Ok(Done::Wholly)
}

fn key_json(key: &KeyInfo) -> serde_json::Value {
    json!({
        "kind": key.kind,
        "key_id": key.key_id,
        "wrapped_by": key.wrapped_by,
        "count": key.count,
        "since": time(key.since.as_ref()),
        "newest_since": time(key.newest_since.as_ref()),
        "oldest_generation": key.oldest_generation,
        "newest_generation": key.newest_generation,
    })
}

pub(super) async fn buckets(
    client: &Client,
    tenant: &TenantName,
    out: &mut Out,
) -> Result<Done, CtlError> {
    let mut all = Vec::new();
    let mut page_token = String::new();
    for _ in 0..PAGES_MAX {
        let parent = tenant.to_string();
        let request = ListBucketsRequest { parent, page_size: page_size(), page_token };
        let page = read(|| {
            let (mut service, request) = (client.vault(), request.clone());
            async move { service.list_buckets(request).await }
        });
        let page = page.await.map_err(CtlError::call("list the buckets"))?;
        all.extend(page.buckets);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let json = all.iter().map(|b| json!({ "schema": b.schema, "expire_date": b.expire_date }));
    out.json(&json!({ "buckets": json.collect::<Vec<_>>() }))?;
    let rows = all.into_iter().map(|b| {
        let day = if b.expire_date.is_empty() { "open-ended".to_owned() } else { b.expire_date };
        vec![last(&b.schema).to_owned(), day]
    });
    out.table(&["TYPE", "GONE BY"], rows.collect())?;
    Ok(Done::Wholly)
}

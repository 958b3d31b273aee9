//! `lethectl retention policy`: the rules of a tenant.
//!
//! Guarantees: what is wrong with a file is said before any call is made; a policy that someone else changed meanwhile
//! is not overruled unseen.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Value as Json, json};
use tonic::Code;

use super::cli::Cli;
use super::error::CtlError;
use super::files::read_text;
use super::names::{TenantName, last};
use super::output::{Out, time};
use super::tenant::{PAGES_MAX, page_size, short_name};
use super::{Done, connect, retention_file};
use crate::client::{Client, read};
use crate::proto::v1::{
    CreateRetentionPolicyRequest, DeleteRetentionPolicyRequest, GetRetentionPolicyRequest,
    ListRetentionPoliciesRequest, RetentionPolicy, UpdateRetentionPolicyRequest,
};

#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Create policies, or bring them to what the file says; does nothing to those that are so already
    Apply {
        file: PathBuf,
        #[arg(long)]
        tenant: TenantName,
    },
    /// Show a policy
    Get {
        id: String,
        #[arg(long)]
        tenant: TenantName,
    },
    /// List the policies of a tenant
    List {
        #[arg(long)]
        tenant: TenantName,
    },
    /// Delete a policy
    Delete {
        id: String,
        #[arg(long)]
        tenant: TenantName,
    },
}

pub(super) async fn run(
    cli: &Cli,
    command: &PolicyCommand,
    out: &mut Out,
) -> Result<Done, CtlError> {
    match command {
        PolicyCommand::Apply { file, tenant } => {
            let text = read_text(file)?;
            let policies = retention_file::parse(&text, tenant);
            let policies = policies.map_err(|e| CtlError::Input {
                what: format!("{} is not a file of retention policies: {e}", file.display()),
                next: "compare it with keys-example/retention.toml in the sources",
            })?;
            apply(&connect(cli).await?, tenant, policies, out).await
        }
        PolicyCommand::Get { id, tenant } => {
            let policy = get(&connect(cli).await?, &policy_name(tenant, id)).await?;
            out.json(&policy_json(&policy))?;
            out.pairs(&policy_pairs(&policy))?;
            Ok(Done::Wholly)
        }
        PolicyCommand::List { tenant } => list(&connect(cli).await?, tenant, out).await,
        PolicyCommand::Delete { id, tenant } => {
            let (name, etag) = (policy_name(tenant, id), String::new());
            let request = DeleteRetentionPolicyRequest { name: name.clone(), etag };
            let mut service = connect(cli).await?.retention();
            let answer = service.delete_retention_policy(request).await;
            answer.map_err(CtlError::call("delete the policy"))?;
            out.json(&json!({ "deleted": name }))?;
            out.line(&format!("deleted {name}; records follow the rules that are left"))?;
            Ok(Done::Wholly)
        }
    }
}

fn policy_name(tenant: &TenantName, id: &str) -> String {
    format!("{tenant}/retentionPolicies/{id}")
}

async fn get(client: &Client, name: &str) -> Result<RetentionPolicy, CtlError> {
    let answer = read(|| {
        let (mut service, name) = (client.retention(), name.to_owned());
        async move { service.get_retention_policy(GetRetentionPolicyRequest { name }).await }
    });
    let answer = answer.await.map_err(CtlError::call("get the policy"))?;
    answer.retention_policy.ok_or(CtlError::Answer("the policy"))
}

async fn apply(
    client: &Client,
    tenant: &TenantName,
    policies: Vec<RetentionPolicy>,
    out: &mut Out,
) -> Result<Done, CtlError> {
    let mut done = Vec::new();
    for wanted in policies {
        let present = match get(client, &wanted.name).await {
            Ok(present) => Some(present),
            Err(CtlError::Call { status, .. }) if status.code() == Code::NotFound => None,
            Err(e) => return Err(e),
        };
        let (name, id) = (wanted.name.clone(), last(&wanted.name).to_owned());
        let what = match present {
            Some(present) if retention_file::same(&present, &wanted) => "unchanged",
            Some(present) => {
                // Whoever changes it between our look and this is not overruled unseen.
                let wanted = RetentionPolicy { etag: present.etag, ..wanted };
                let (retention_policy, update_mask) = (Some(wanted), None);
                let request = UpdateRetentionPolicyRequest { retention_policy, update_mask };
                let answer = client.retention().update_retention_policy(request).await;
                answer.map_err(CtlError::call("update the policy"))?;
                "updated"
            }
            None => {
                let request = CreateRetentionPolicyRequest {
                    parent: tenant.to_string(),
                    retention_policy_id: id,
                    retention_policy: Some(wanted),
                };
                let answer = client.retention().create_retention_policy(request).await;
                answer.map_err(CtlError::call("create the policy"))?;
                "created"
            }
        };
        out.line(&format!("{what} {name}"))?;
        done.push(json!({ "name": name, "outcome": what }));
    }
    out.json(&json!({ "policies": done }))?;
    Ok(Done::Wholly)
}

async fn list(client: &Client, tenant: &TenantName, out: &mut Out) -> Result<Done, CtlError> {
    let (mut all, mut page_token) = (Vec::new(), String::new());
    for _ in 0..PAGES_MAX {
        let parent = tenant.to_string();
        let request = ListRetentionPoliciesRequest { parent, page_size: page_size(), page_token };
        let page = read(|| {
            let (mut service, request) = (client.retention(), request.clone());
            async move { service.list_retention_policies(request).await }
        });
        let page = page.await.map_err(CtlError::call("list the policies"))?;
        all.extend(page.retention_policies);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    out.json(&json!({ "policies": all.iter().map(policy_json).collect::<Vec<_>>() }))?;
    let rows = all.iter().map(|p| {
        let types: Vec<&str> = p.schemas.iter().map(|s| last(s)).collect();
        let types = if types.is_empty() { "all".to_owned() } else { types.join(", ") };
        vec![last(&p.name).to_owned(), types, said(p), p.legal_basis.clone()]
    });
    out.table(&["POLICY", "TYPES", "SAYS", "LEGAL BASIS"], rows.collect())?;
    Ok(Done::Wholly)
}

/// A policy in half a sentence.
fn said(p: &RetentionPolicy) -> String {
    let start = match short_name(p.start().as_str_name(), "RETENTION_START_").as_str() {
        "LAST_USE" => "last use".to_owned(),
        "EVENT" => p.event_field.clone(),
        _ => "creation".to_owned(),
    };
    let part = |text: &str, say: String| if text.is_empty() { None } else { Some(say) };
    let parts = [
        part(&p.period, format!("{} from {start}", p.period)),
        part(&p.end_date, format!("until {}", p.end_date)),
        part(&p.grace_period, format!("{} of grace", p.grace_period)),
        part(&p.minimum, format!("at least {} from {start}", p.minimum)),
        part(&p.maximum, format!("at most {}", p.maximum)),
        p.open_ended.then(|| "else open-ended".to_owned()),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// Keys: those of `RetentionPolicy`, enums without their prefixes.
fn policy_json(p: &RetentionPolicy) -> Json {
    json!({
        "name": p.name,
        "schemas": p.schemas,
        "classification": short_name(p.classification().as_str_name(), "CLASSIFICATION_"),
        "purpose": p.purpose,
        "start": short_name(p.start().as_str_name(), "RETENTION_START_"),
        "event_field": p.event_field,
        "period": p.period,
        "grace_period": p.grace_period,
        "end_date": p.end_date,
        "minimum": p.minimum,
        "maximum": p.maximum,
        "open_ended": p.open_ended,
        "time_zone": p.time_zone,
        "legal_basis": p.legal_basis,
        "description": p.description,
        "etag": p.etag,
        "update_time": time(p.update_time.as_ref()),
    })
}

fn policy_pairs(p: &RetentionPolicy) -> Vec<(&'static str, String)> {
    let types: Vec<&str> = p.schemas.iter().map(|s| last(s)).collect();
    let class = match p.classification {
        0 => String::new(),
        _ => short_name(p.classification().as_str_name(), "CLASSIFICATION_"),
    };
    vec![
        ("policy", p.name.clone()),
        ("types", if types.is_empty() { "all".to_owned() } else { types.join(", ") }),
        ("class", class),
        ("purpose", p.purpose.clone()),
        ("says", said(p)),
        ("time zone", p.time_zone.clone()),
        ("legal basis", p.legal_basis.clone()),
        ("description", p.description.clone()),
        ("changed", time(p.update_time.as_ref())),
    ]
}

//! `lethectl tenant` and `lethectl schema`.

use prost_types::FieldMask;
use serde_json::{Value as Json, json};
use tonic::Code;

use super::cli::{Cli, SchemaCommand, TenantCommand};
use super::error::CtlError;
use super::names::{TenantName, last};
use super::output::{Out, note, time};
use super::{Done, connect, files, schema_file};
use crate::client::{Client, read};
use crate::limits;
use crate::proto::v1::schema::Retention;
use crate::proto::v1::{
    CreateSchemaRequest, CreateTenantRequest, Field, GetSchemaRequest, IndexState,
    ListSchemasRequest, ListTenantsRequest, Schema, Tenant, UpdateSchemaRequest,
    UpdateTenantRequest,
};

/// Pages that one listing follows: a vault that never ends its pages does not hold us for ever.
pub(super) const PAGES_MAX: usize = 1_000;

pub(super) async fn tenants(
    client: &Client,
    command: &TenantCommand,
    out: &mut Out,
) -> Result<Done, CtlError> {
    match command {
        TenantCommand::Create { id, display_name } => {
            let tenant = create_tenant(client, id, display_name.as_deref()).await?;
            out.json(&tenant_json(&tenant))?;
            out.line(&format!("created {}", tenant.name))?;
        }
        TenantCommand::Update { tenant, display_name } => {
            let (name, display_name) = (tenant.to_string(), display_name.clone());
            let tenant = Some(Tenant { name, display_name, ..Tenant::default() });
            let update_mask = paths(["display_name"]);
            let request = UpdateTenantRequest { tenant, update_mask };
            let answer = client.tenants().update_tenant(request).await;
            let answer = answer.map_err(CtlError::call("update the tenant"))?.into_inner();
            let tenant = answer.tenant.ok_or(CtlError::Answer("the tenant"))?;
            out.json(&tenant_json(&tenant))?;
            out.line(&format!("updated {}", tenant.name))?;
        }
        TenantCommand::List => {
            let all = list_tenants(client).await?;
            out.json(&json!({ "tenants": all.iter().map(tenant_json).collect::<Vec<_>>() }))?;
            let rows = all.iter().map(|t| {
                vec![last(&t.name).to_owned(), t.display_name.clone(), time(t.create_time.as_ref())]
            });
            out.table(&["TENANT", "DISPLAY NAME", "CREATED"], rows.collect())?;
        }
    }
    Ok(Done::Wholly)
}

async fn create_tenant(
    client: &Client,
    id: &TenantName,
    display_name: Option<&str>,
) -> Result<Tenant, CtlError> {
    let tenant =
        Tenant { display_name: display_name.unwrap_or_default().to_owned(), ..Tenant::default() };
    let request = CreateTenantRequest { tenant_id: id.id().to_owned(), tenant: Some(tenant) };
    let answer = client.tenants().create_tenant(request).await;
    let answer = answer.map_err(CtlError::call("create the tenant"))?.into_inner();
    answer.tenant.ok_or(CtlError::Answer("the tenant"))
}

async fn list_tenants(client: &Client) -> Result<Vec<Tenant>, CtlError> {
    let mut all = Vec::new();
    let mut page_token = String::new();
    for _ in 0..PAGES_MAX {
        let request = ListTenantsRequest { page_size: page_size(), page_token };
        let page = read(|| {
            let (mut service, request) = (client.tenants(), request.clone());
            async move { service.list_tenants(request).await }
        });
        let page = page.await.map_err(CtlError::call("list the tenants"))?;
        all.extend(page.tenants);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    Ok(all)
}

pub(super) fn page_size() -> i32 {
    i32::try_from(limits::PAGE_SIZE_MAX).unwrap_or(i32::MAX)
}

fn tenant_json(tenant: &Tenant) -> Json {
    json!({
        "name": tenant.name,
        "display_name": tenant.display_name,
        "create_time": time(tenant.create_time.as_ref()),
        "etag": tenant.etag,
    })
}

pub(super) async fn schemas(
    cli: &Cli,
    command: &SchemaCommand,
    out: &mut Out,
) -> Result<Done, CtlError> {
    match command {
        SchemaCommand::Apply { file, tenant, create_tenant, only } => {
            let text = files::read_text(file)?;
            let (name, mut schema) = schema_file::parse(&text).map_err(|e| CtlError::Input {
                what: format!("{} is not a schema file: {e}", file.display()),
                next: "compare it with examples/ in the sources",
            })?;
            let client = connect(cli).await?;
            if *create_tenant {
                ensure_tenant(&client, tenant).await?;
            }
            let (done, schema) = if only.is_empty() {
                apply(&client, tenant, name.id(), schema).await?
            } else {
                schema.name = format!("{tenant}/schemas/{}", name.id());
                ("updated", update_schema(&client, schema, paths(only)).await?)
            };
            let mut json = schema_json(&schema);
            if let Some(object) = json.as_object_mut() {
                object.insert("result".to_owned(), json!(done));
            }
            out.json(&json)?;
            out.line(&format!("{done} {} (revision {})", schema.name, schema.revision))?;
        }
        SchemaCommand::Get { schema, tenant } => {
            let client = connect(cli).await?;
            let found = get_schema(&client, &schema.of(tenant)).await?;
            show_schema(&found, out)?;
        }
        SchemaCommand::List { tenant } => list_schemas(&connect(cli).await?, tenant, out).await?,
    }
    Ok(Done::Wholly)
}

async fn ensure_tenant(client: &Client, tenant: &TenantName) -> Result<(), CtlError> {
    match create_tenant(client, tenant, None).await {
        Ok(tenant) => {
            note(&format!("created {}", tenant.name));
            Ok(())
        }
        Err(CtlError::Call { status, .. }) if status.code() == Code::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Creates or updates, and says which.
async fn apply(
    client: &Client,
    tenant: &TenantName,
    id: &str,
    mut schema: Schema,
) -> Result<(&'static str, Schema), CtlError> {
    let name = format!("{tenant}/schemas/{id}");
    match get_schema(client, &name).await {
        Ok(present) if schema_file::same(&present, &schema) => Ok(("unchanged", present)),
        Ok(_) => {
            schema.name = name;
            Ok(("updated", update_schema(client, schema, None).await?))
        }
        Err(CtlError::Call { status, .. }) if status.code() == Code::NotFound => {
            let request = CreateSchemaRequest {
                parent: tenant.to_string(),
                schema_id: id.to_owned(),
                schema: Some(schema),
            };
            let answer = client.schemas().create_schema(request).await;
            let doing = "create the schema (does the tenant exist? --create-tenant creates it)";
            let answer = answer.map_err(CtlError::call(doing))?.into_inner();
            Ok(("created", answer.schema.ok_or(CtlError::Answer("the schema"))?))
        }
        Err(error) => Err(error),
    }
}

/// Replaces a schema, or the parts of it that a mask names.
async fn update_schema(
    client: &Client,
    schema: Schema,
    update_mask: Option<FieldMask>,
) -> Result<Schema, CtlError> {
    let request = UpdateSchemaRequest { schema: Some(schema), update_mask };
    let answer = client.schemas().update_schema(request).await;
    let answer = answer.map_err(CtlError::call("update the schema"))?.into_inner();
    answer.schema.ok_or(CtlError::Answer("the schema"))
}

fn paths<T: ToString>(paths: impl IntoIterator<Item = T>) -> Option<FieldMask> {
    Some(FieldMask { paths: paths.into_iter().map(|p| p.to_string()).collect() })
}

pub(super) async fn get_schema(client: &Client, name: &str) -> Result<Schema, CtlError> {
    let request = GetSchemaRequest { name: name.to_owned() };
    let answer = read(|| {
        let (mut service, request) = (client.schemas(), request.clone());
        async move { service.get_schema(request).await }
    });
    let answer = answer.await.map_err(CtlError::call("get the schema"))?;
    answer.schema.ok_or(CtlError::Answer("the schema"))
}

async fn list_schemas(client: &Client, tenant: &TenantName, out: &mut Out) -> Result<(), CtlError> {
    let mut all = Vec::new();
    let mut page_token = String::new();
    for _ in 0..PAGES_MAX {
        let parent = tenant.to_string();
        let request = ListSchemasRequest { parent, page_size: page_size(), page_token };
        let page = read(|| {
            let (mut service, request) = (client.schemas(), request.clone());
            async move { service.list_schemas(request).await }
        });
        let page = page.await.map_err(CtlError::call("list the schemas"))?;
        all.extend(page.schemas);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    out.json(&json!({ "schemas": all.iter().map(schema_json).collect::<Vec<_>>() }))?;
    let rows = all.iter().map(|s| {
        let (fields, revision) = (s.fields.len().to_string(), s.revision.to_string());
        vec![last(&s.name).to_owned(), fields, kept(s), revision, time(s.update_time.as_ref())]
    });
    out.table(&["TYPE", "FIELDS", "KEPT", "REVISION", "UPDATED"], rows.collect())?;
    Ok(())
}

fn kept(schema: &Schema) -> String {
    match &schema.retention {
        Some(Retention::RetainFor(period)) => period.clone(),
        Some(Retention::OpenEnded(_)) => "until erased".to_owned(),
        None => String::new(),
    }
}

fn show_schema(schema: &Schema, out: &mut Out) -> Result<(), CtlError> {
    out.json(&schema_json(schema))?;
    out.pairs(&[
        ("schema", schema.name.clone()),
        ("revision", schema.revision.to_string()),
        ("kept", kept(schema)),
        ("updated", time(schema.update_time.as_ref())),
    ])?;
    let rows = schema.fields.iter().map(|f| {
        let marks = [(f.required, "required"), (f.unique, "unique"), (f.indexed, "indexed")];
        let marks: Vec<_> = marks.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
        let mut marks = marks.join(" ");
        if matches!(f.index_state(), IndexState::Building | IndexState::Dropping) {
            let state = short_name(f.index_state().as_str_name(), "INDEX_STATE_");
            marks += &format!(" (index {state}, {} %)", f.index_percent);
        }
        vec![
            f.name.clone(),
            short_name(f.kind().as_str_name(), "FIELD_KIND_"),
            short_name(f.classification().as_str_name(), "CLASSIFICATION_"),
            marks,
            short_name(f.mask().as_str_name(), "MASK_KIND_"),
            f.purposes.join(" "),
        ]
    });
    out.table(&["FIELD", "KIND", "CLASS", "RULES", "MASK", "PURPOSES"], rows.collect())?;
    Ok(())
}

/// An enum's name without the prefix that protobuf needs.
pub(super) fn short_name(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_owned()
}

/// Keys: name, revision, retain_for, open_ended, erase_old_versions_synchronously, update_time, fields.
fn schema_json(schema: &Schema) -> Json {
    let (retain_for, open_ended) = match &schema.retention {
        Some(Retention::RetainFor(period)) => (Some(period.as_str()), false),
        Some(Retention::OpenEnded(open)) => (None, *open),
        None => (None, false),
    };
    json!({
        "name": schema.name,
        "revision": schema.revision,
        "retain_for": retain_for,
        "open_ended": open_ended,
        "erase_old_versions_synchronously": schema.erase_old_versions_synchronously,
        "update_time": time(schema.update_time.as_ref()),
        "fields": schema.fields.iter().map(field_json).collect::<Vec<_>>(),
    })
}

fn field_json(field: &Field) -> Json {
    json!({
        "name": field.name,
        "kind": short_name(field.kind().as_str_name(), "FIELD_KIND_"),
        "classification": short_name(field.classification().as_str_name(), "CLASSIFICATION_"),
        "required": field.required,
        "unique": field.unique,
        "indexed": field.indexed,
        "index_state": short_name(field.index_state().as_str_name(), "INDEX_STATE_"),
        "index_percent": field.index_percent,
        "max_bytes": field.max_bytes,
        "mask": short_name(field.mask().as_str_name(), "MASK_KIND_"),
        "purposes": field.purposes,
        "description": field.description,
    })
}

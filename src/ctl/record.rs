//! `lethectl record create|get|update|list|find` and `lethectl subject create`.

use std::collections::BTreeMap;
use std::path::Path;

use prost_types::FieldMask;
use serde_json::{Map, Value as Json, json};

use super::cli::{Cli, RecordCommand, ViewArgs};
use super::error::CtlError;
use super::names::{RecordName, SubjectName, TenantName, TypeName, last};
use super::output::{Out, note, short, time};
use super::tenant::{get_schema, page_size};
use super::{Done, connect, files, value};
use crate::client::{Client, once, read, request_id};
use crate::proto::v1::{
    CreateRecordRequest, CreateSubjectRequest, FindRecordsRequest, FindRecordsResponse,
    GetRecordRequest, ListRecordsRequest, Record, Schema, UpdateRecordRequest, Value,
};

const NEXT_JSON: &str =
    "give a JSON object of field names and values, as in {\"email\": \"ada@example.org\"}";

pub(super) async fn run(
    cli: &Cli,
    command: &RecordCommand,
    out: &mut Out,
) -> Result<Done, CtlError> {
    match command {
        RecordCommand::Create { tenant, schema, subject, from } => {
            let fields = values(&read_object(from)?)?;
            let client = connect(cli).await?;
            let name = schema.of(tenant);
            let record = create(&client, tenant, name, subject.as_ref(), fields).await?;
            show(&record, "created", out)?;
        }
        RecordCommand::Get { name, view } => {
            let record = get(&connect(cli).await?, name, view).await?;
            show(&record, "", out)?;
        }
        RecordCommand::Update { name, from, etag } => {
            let fields = read_object(from)?;
            let record = update(&connect(cli).await?, name, &fields, etag.as_deref()).await?;
            show(&record, "updated", out)?;
        }
        RecordCommand::List { tenant, schema, limit, view } => {
            let client = connect(cli).await?;
            let limit = usize::try_from(*limit).unwrap_or(usize::MAX);
            let listed = list(&client, tenant, schema.as_ref(), limit, view).await?;
            show_all(&listed, view, out)?;
        }
        RecordCommand::Find { tenant, schema, field, view } => {
            let client = connect(cli).await?;
            let known = get_schema(&client, &schema.of(tenant)).await?;
            let text = files::read_line(&format!("{field}:"))?;
            let value = value_of(&known, field, &text)?;
            let found = find(&client, &schema.of(tenant), field, value, view).await?;
            if found.incomplete && !out.is_json() {
                note(INCOMPLETE);
            }
            let records = found.records;
            show_all(
                &Listed { records, incomplete: found.incomplete, ..Listed::default() },
                view,
                out,
            )?;
        }
        // These have modules of their own and never come here.
        RecordCommand::Import { .. }
        | RecordCommand::Erase { .. }
        | RecordCommand::Export { .. }
        | RecordCommand::Watch { .. } => {}
    }
    Ok(Done::Wholly)
}

fn read_object(path: &Path) -> Result<Map<String, Json>, CtlError> {
    let text = files::read_text(path)?;
    parse_object(&text)
}

/// The parser's own message could hold a part of the text, so only the place is told.
fn parse_object(text: &str) -> Result<Map<String, Json>, CtlError> {
    serde_json::from_str(text).map_err(|e| CtlError::Input {
        what: format!("the input is not a JSON object (line {}, column {})", e.line(), e.column()),
        next: NEXT_JSON,
    })
}

/// The values that `object` gives; `null` gives none.
fn values(object: &Map<String, Json>) -> Result<BTreeMap<String, Value>, CtlError> {
    let mut made = BTreeMap::new();
    for (name, json) in object {
        let value = value::from_json(json).map_err(|e| CtlError::Input {
            what: format!("the field {} {e}", field_name(name)),
            next: NEXT_JSON,
        })?;
        made.extend(value.map(|v| (name.clone(), v)));
    }
    Ok(made)
}

fn value_of(schema: &Schema, name: &str, text: &str) -> Result<Value, CtlError> {
    let field = schema.fields.iter().find(|f| f.name == name);
    let field = field.ok_or_else(|| unknown_field(schema, name))?;
    value::from_text(field, text).map_err(|e| CtlError::Input {
        what: format!("the field {name} {e}"),
        next: "correct the value; `lethectl schema get` shows the field's kind",
    })
}

fn unknown_field(schema: &Schema, name: &str) -> CtlError {
    CtlError::Input {
        what: format!("the type {} has no field {}", last(&schema.name), field_name(name)),
        next: "`lethectl schema get` lists the fields",
    }
}

/// What does not look like a field's name may be a value that went astray, and is not repeated.
fn field_name(name: &str) -> &str {
    let like_a_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if name.chars().all(like_a_name) { name } else { "(not a field's name)" }
}

async fn create(
    client: &Client,
    tenant: &TenantName,
    schema: String,
    subject: Option<&SubjectName>,
    fields: BTreeMap<String, Value>,
) -> Result<Record, CtlError> {
    let subject = subject.map(ToString::to_string).unwrap_or_default();
    let record = Record { schema, subject, fields, ..Record::default() };
    let request = CreateRecordRequest {
        parent: tenant.to_string(),
        record: Some(record),
        request_id: request_id(),
    };
    let answer = once(|| {
        let (mut service, request) = (client.records(), request.clone());
        async move { service.create_record(request).await }
    });
    let answer = answer.await.map_err(CtlError::call("create the record"))?;
    answer.record.ok_or(CtlError::Answer("the record"))
}

/// `None` means all fields.
pub(super) fn mask(fields: &[String]) -> Option<FieldMask> {
    let paths = fields.iter().map(|f| format!("fields.{f}")).collect::<Vec<_>>();
    (!paths.is_empty()).then_some(FieldMask { paths })
}

pub(super) async fn get(
    client: &Client,
    name: &RecordName,
    view: &ViewArgs,
) -> Result<Record, CtlError> {
    let answer = read(|| {
        let mut service = client.records();
        let request = GetRecordRequest {
            name: name.to_string(),
            read_mask: mask(&view.fields),
            purpose: view.purpose.clone(),
        };
        async move { service.get_record(request).await }
    });
    let answer = answer.await.map_err(CtlError::call("get the record"))?;
    answer.record.ok_or(CtlError::Answer("the record"))
}

async fn update(
    client: &Client,
    name: &RecordName,
    object: &Map<String, Json>,
    etag: Option<&str>,
) -> Result<Record, CtlError> {
    if object.is_empty() {
        let what = "the input names no field".to_owned();
        return Err(CtlError::Input { what, next: NEXT_JSON });
    }
    let names: Vec<String> = object.keys().cloned().collect();
    let record = Record {
        name: name.to_string(),
        fields: values(object)?,
        etag: etag.unwrap_or_default().to_owned(),
        ..Record::default()
    };
    let request = UpdateRecordRequest {
        record: Some(record),
        update_mask: mask(&names),
        request_id: request_id(),
    };
    let answer = once(|| {
        let (mut service, request) = (client.records(), request.clone());
        async move { service.update_record(request).await }
    });
    let answer = answer.await.map_err(CtlError::call("update the record"))?;
    answer.record.ok_or(CtlError::Answer("the record"))
}

async fn list(
    client: &Client,
    tenant: &TenantName,
    schema: Option<&TypeName>,
    limit: usize,
    view: &ViewArgs,
) -> Result<Listed, CtlError> {
    let Listed { mut records, mut damaged, .. } = Listed::default();
    let mut page_token = String::new();
    let schema = schema.map(|s| s.of(tenant)).unwrap_or_default();
    // A page may be empty without being the last; the limit bounds the pages too.
    for _ in 0..=limit {
        let left = i32::try_from(limit - records.len()).unwrap_or(i32::MAX);
        let request = ListRecordsRequest {
            parent: tenant.to_string(),
            schema: schema.clone(),
            page_size: left.min(page_size()),
            page_token,
            read_mask: mask(&view.fields),
            purpose: view.purpose.clone(),
        };
        let page = read(|| {
            let (mut service, request) = (client.records(), request.clone());
            async move { service.list_records(request).await }
        });
        let page = page.await.map_err(CtlError::call("list the records"))?;
        records.extend(page.records);
        damaged.extend(page.damaged_names);
        records.truncate(limit);
        page_token = page.next_page_token;
        if page_token.is_empty() || records.len() == limit {
            break;
        }
    }
    Ok(Listed { records, damaged, more: !page_token.is_empty(), incomplete: false })
}

pub(super) async fn find(
    client: &Client,
    schema: &str,
    field: &str,
    value: Value,
    view: &ViewArgs,
) -> Result<FindRecordsResponse, CtlError> {
    let answer = read(|| {
        let mut service = client.records();
        let request = FindRecordsRequest {
            schema: schema.to_owned(),
            field: field.to_owned(),
            value: Some(value.clone()),
            read_mask: mask(&view.fields),
            purpose: view.purpose.clone(),
        };
        async move { service.find_records(request).await }
    });
    answer.await.map_err(CtlError::call("find records"))
}

pub(super) async fn create_subject(
    client: &Client,
    tenant: &TenantName,
    out: &mut Out,
) -> Result<Done, CtlError> {
    let request = CreateSubjectRequest { parent: tenant.to_string(), request_id: request_id() };
    let answer = once(|| {
        let (mut service, request) = (client.subjects(), request.clone());
        async move { service.create_subject(request).await }
    });
    let answer = answer.await.map_err(CtlError::call("create the subject"))?;
    let subject = answer.subject.ok_or(CtlError::Answer("the subject"))?;
    out.json(&json!({
        "name": subject.name,
        "create_time": time(subject.create_time.as_ref()),
    }))?;
    out.line(&subject.name)?;
    Ok(Done::Wholly)
}

/// Keys: name, schema, subject, etag, create_time, update_time, expire_date, fields.
pub(super) fn record_json(record: &Record) -> Json {
    let fields: Map<String, Json> =
        record.fields.iter().map(|(name, v)| (name.clone(), value::to_json(v))).collect();
    json!({
        "name": record.name,
        "schema": record.schema,
        "subject": record.subject,
        "etag": record.etag,
        "create_time": time(record.create_time.as_ref()),
        "update_time": time(record.update_time.as_ref()),
        "expire_date": record.expire_date,
        "fields": fields,
    })
}

fn sorted(record: &Record) -> Vec<(&String, &Value)> {
    let mut fields: Vec<_> = record.fields.iter().collect();
    fields.sort_by_key(|(name, _)| *name);
    fields
}

pub(super) fn gone_by(record: &Record) -> String {
    if record.expire_date.is_empty() {
        "kept until erased".to_owned()
    } else {
        record.expire_date.clone()
    }
}

fn show(record: &Record, done: &str, out: &mut Out) -> Result<(), CtlError> {
    out.json(&record_json(record))?;
    if !done.is_empty() {
        out.line(done)?;
    }
    out.pairs(&[
        ("record", record.name.clone()),
        ("type", last(&record.schema).to_owned()),
        ("subject", record.subject.clone()),
        ("created", time(record.create_time.as_ref())),
        ("updated", time(record.update_time.as_ref())),
        ("gone by", gone_by(record)),
        ("etag", record.etag.clone()),
    ])?;
    let rows = sorted(record).into_iter().map(|(name, v)| vec![name.clone(), value::to_text(v)]);
    out.table(&["FIELD", "VALUE"], rows.collect())?;
    Ok(())
}

/// What a list or search gave.
#[derive(Default)]
struct Listed {
    records: Vec<Record>,
    /// Names of records that do not open.
    damaged: Vec<String>,
    more: bool,
    /// There are records that do not open and may belong to the answer.
    incomplete: bool,
}

const INCOMPLETE: &str = "some records of this type are damaged and may have this value too: \
                          `lethectl record list` names them";

/// Keys: records, damaged, more, incomplete.
fn show_all(listed: &Listed, view: &ViewArgs, out: &mut Out) -> Result<(), CtlError> {
    let records = &listed.records;
    out.json(&json!({
        "records": records.iter().map(record_json).collect::<Vec<_>>(),
        "damaged": listed.damaged,
        "more": listed.more,
        "incomplete": listed.incomplete,
    }))?;
    let mut head = vec!["RECORD", "TYPE", "UPDATED", "GONE BY"];
    head.extend(view.fields.iter().map(String::as_str));
    let rows = records.iter().map(|r| {
        let (kind, updated) = (last(&r.schema).to_owned(), time(r.update_time.as_ref()));
        let mut row = vec![r.name.clone(), kind, updated, gone_by(r)];
        let cell = |name: &String| r.fields.get(name).map(value::to_text).unwrap_or_default();
        row.extend(view.fields.iter().map(|name| short(&cell(name))));
        row
    });
    out.table(&head, rows.collect())?;
    if !out.is_json() {
        for name in &listed.damaged {
            note(&format!(
                "{name} is damaged and does not open: restore it, or erase it by this name"
            ));
        }
        let more = if listed.more { ", and there are more: raise --limit" } else { "" };
        note(&format!("{} records{more}", records.len()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::{Field, FieldKind};

    fn schema() -> Schema {
        let field = |name: &str, kind: FieldKind| Field {
            name: name.into(),
            kind: kind.into(),
            ..Field::default()
        };
        Schema {
            name: "tenants/a/schemas/customer".into(),
            fields: vec![field("email", FieldKind::Email), field("visits", FieldKind::Integer)],
            ..Schema::default()
        }
    }

    #[test]
    fn null_gives_no_value_but_stays_named() {
        let object = parse_object(r#"{"email": null, "visits": 3}"#).unwrap();
        let made = values(&object).unwrap();
        assert_eq!(made.keys().collect::<Vec<_>>(), ["visits"]);
        assert_eq!(object.len(), 2);
    }

    #[test]
    fn errors_name_the_field_and_never_the_value() {
        let object = parse_object(r#"{"visits": ["canary-7"]}"#).unwrap();
        let error = values(&object).err().unwrap().to_string();
        assert!(error.starts_with("the field visits is a list"), "{error}");
        assert!(!error.contains("canary"), "{error}");

        let error = parse_object(r#"{"email": "canary-7"#).err().unwrap().to_string();
        assert!(error.contains("line 1") && !error.contains("canary"), "{error}");
        let error = parse_object(r#"["canary-7"]"#).err().unwrap().to_string();
        assert!(!error.contains("canary"), "{error}");

        let error = value_of(&schema(), "visits", "canary").err().unwrap().to_string();
        assert_eq!(error, "the field visits is not a whole number of 64 bits");
        let error = value_of(&schema(), "emial", "x").err().unwrap().to_string();
        assert_eq!(error, "the type customer has no field emial");
        let error = value_of(&schema(), "Ada Canary", "x").err().unwrap().to_string();
        assert_eq!(error, "the type customer has no field (not a field's name)");
    }

    #[test]
    fn a_mask_of_nothing_means_all() {
        assert!(mask(&[]).is_none());
        assert_eq!(mask(&["email".into()]).unwrap().paths, ["fields.email"]);
    }
}

//! Updates of tenants and schemas by a mask, and a schema whose index changes.

use lethe::client::Client;
use lethe::proto::v1;
use prost_types::FieldMask;
use tonic::{Code, Status};

use crate::live::{Live, create, customer, reason, violated};
use crate::peer::PATIENCE;

fn mask(paths: &[&str]) -> Option<FieldMask> {
    Some(FieldMask { paths: paths.iter().map(|p| (*p).to_owned()).collect() })
}

fn tenant(name: &str, display_name: &str, etag: &str) -> Option<v1::Tenant> {
    let (name, display_name, etag) = (name.into(), display_name.into(), etag.into());
    Some(v1::Tenant { name, display_name, etag, create_time: None })
}

async fn update(
    client: &Client,
    tenant: Option<v1::Tenant>,
    update_mask: Option<FieldMask>,
) -> Result<v1::Tenant, Status> {
    let request = v1::UpdateTenantRequest { tenant, update_mask };
    Ok(client.tenants().update_tenant(request).await?.into_inner().tenant.unwrap())
}

async fn read(client: &Client) -> v1::Tenant {
    let request = v1::GetTenantRequest { name: "tenants/shop".into() };
    client.tenants().get_tenant(request).await.unwrap().into_inner().tenant.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_is_called_what_its_last_update_says() {
    let mut live = Live::start().await;
    live.furnish("shop").await;
    let operator = live.client("operator").await;
    let first = read(&operator).await;
    assert_eq!((first.display_name.as_str(), first.etag.as_str()), ("", "1"));
    let shop = "tenants/shop";
    for (change, paths, expected) in [
        (tenant(shop, "One", ""), None, ("One", "2")),
        (tenant(shop, "One", "2"), mask(&["display_name"]), ("One", "2")),
        (tenant(shop, "Two", "2"), mask(&["*"]), ("Two", "3")),
        (tenant(shop, "", ""), mask(&["display_name"]), ("", "4")),
        (tenant(shop, "Last", "4"), mask(&[]), ("Last", "5")),
    ] {
        let updated = update(&operator, change, paths).await.unwrap();
        assert_eq!((updated.display_name.as_str(), updated.etag.as_str()), expected);
        assert_eq!(
            (read(&operator).await, updated.create_time),
            (updated.clone(), first.create_time)
        );
    }
    let long = "x".repeat(201);
    for (change, paths, expected) in [
        (None, None, vec!["tenant"]),
        (tenant(shop, "", ""), None, vec!["tenant"]),
        (tenant("tenants/Shop", "x", ""), None, vec!["tenant.name"]),
        (tenant(shop, &long, ""), None, vec!["tenant.display_name"]),
        (tenant(shop, "a\u{7}", ""), None, vec!["tenant.display_name"]),
        (tenant(shop, "x", "05"), None, vec!["tenant.etag"]),
        (tenant(shop, "x", ""), mask(&["name"]), vec!["update_mask.paths[0]"]),
        (
            tenant("x", "x", "y"),
            mask(&["display_name", "canary"]),
            vec!["tenant.etag", "tenant.name", "update_mask.paths[1]"],
        ),
    ] {
        let status = update(&operator, change, paths).await.unwrap_err();
        assert_eq!((status.code(), violated(&status)), (Code::InvalidArgument, own(&expected)));
        assert!(!format!("{status:?}").contains("canary"), "{status:?}");
    }
    let stale = update(&operator, tenant(shop, "x", "4"), None).await.unwrap_err();
    assert_eq!((stale.code(), reason(&stale).as_str()), (Code::Aborted, "ETAG_MISMATCH"));
    let absent = update(&operator, tenant("tenants/other", "x", ""), None).await.unwrap_err();
    assert_eq!(absent.code(), Code::NotFound);
    live.restart().await;
    let after = read(&live.client("operator").await).await;
    assert_eq!((after.display_name.as_str(), after.etag.as_str()), ("Last", "5"));
}

fn own(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|t| (*t).to_owned()).collect()
}

async fn change(
    client: &Client,
    schema: v1::Schema,
    update_mask: Option<FieldMask>,
) -> Result<v1::Schema, Status> {
    let request = v1::UpdateSchemaRequest { schema: Some(schema), update_mask };
    Ok(client.schemas().update_schema(request).await?.into_inner().schema.unwrap())
}

async fn schema(client: &Client) -> v1::Schema {
    let request = v1::GetSchemaRequest { name: NAME.into() };
    client.schemas().get_schema(request).await.unwrap().into_inner().schema.unwrap()
}

const NAME: &str = "tenants/shop/schemas/customer";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_of_a_schema_is_replaced_and_the_rest_stays() {
    let live = Live::start().await;
    live.furnish("shop").await;
    let operator = live.client("operator").await;
    let before = schema(&operator).await;
    let mut city = customer().fields.remove(2);
    city.description = "where from".into();
    let more = v1::Field { name: "more".into(), ..city.clone() };
    let given = v1::Schema { name: NAME.into(), fields: vec![city, more], ..Default::default() };
    let named = mask(&["fields.city", "fields.more"]);
    let after = change(&operator, given.clone(), named).await.unwrap();
    assert_eq!((after.revision, after.fields.len()), (2, before.fields.len() + 1));
    assert_eq!(after.fields[2].description, "where from");
    assert_eq!((&after.fields[0], &after.retention), (&before.fields[0], &before.retention));
    let sync = v1::Schema { erase_old_versions_synchronously: true, ..given.clone() };
    let after = change(&operator, sync, mask(&["erase_old_versions_synchronously"])).await.unwrap();
    assert!(after.erase_old_versions_synchronously && after.revision == 3);
    // All fields, of which most are not given.
    let status = change(&operator, given.clone(), mask(&["fields"])).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    let open = Some(v1::schema::Retention::OpenEnded(true));
    let open = v1::Schema { retention: open, ..given.clone() };
    let after = change(&operator, open, mask(&["open_ended"])).await.unwrap();
    assert_eq!(after.retention, Some(v1::schema::Retention::OpenEnded(true)));
    assert_eq!((after.revision, &after.fields[0]), (4, &before.fields[0]));
    for (paths, expected) in [
        (vec!["fields.nothing"], vec!["update_mask.paths[0]"]),
        (
            vec!["fields.city", "revision", "*"],
            vec!["update_mask.paths[1]", "update_mask.paths[2]"],
        ),
    ] {
        let status = change(&operator, given.clone(), mask(&paths)).await.unwrap_err();
        assert_eq!((status.code(), violated(&status)), (Code::InvalidArgument, own(&expected)));
    }
    assert_eq!(schema(&operator).await.revision, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_changes_shows_in_the_schema() {
    use v1::IndexState as I;
    let live = Live::start().await;
    live.furnish("shop").await;
    let (operator, application) = (live.client("operator").await, live.client("application").await);
    let mut made = Vec::new();
    for n in 0..3 {
        let email = format!("c{n}@example.org");
        made.push(create(&application, "shop", &[("email", &email), ("name", "Ada")]).await.name);
    }
    let state = |schema: &v1::Schema| schema.fields[1].index_state();
    let named = || mask(&["fields.name"]);
    let find = || async {
        let request = v1::FindRecordsRequest {
            schema: NAME.into(),
            field: "name".into(),
            value: Some(crate::live::text("Ada")),
            ..Default::default()
        };
        application.records().find_records(request).await
    };
    assert_eq!(state(&schema(&operator).await), I::Unspecified);
    let with = |indexed, unique| {
        let mut given = v1::Schema { name: NAME.into(), ..customer() };
        (given.fields[1].indexed, given.fields[1].unique) = (indexed, unique);
        given
    };
    assert_eq!(state(&change(&operator, with(true, false), named()).await.unwrap()), I::Building);
    let since = std::time::Instant::now();
    while state(&schema(&operator).await) == I::Building {
        if let Err(status) = find().await {
            assert_eq!(
                (status.code(), reason(&status).as_str()),
                (Code::FailedPrecondition, "PRECONDITION")
            );
        }
        assert!(since.elapsed() < PATIENCE, "never ready");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(state(&schema(&operator).await), I::Ready);
    assert_eq!(find().await.unwrap().into_inner().records.len(), 3);
    // All three have one name: the refusal says which records, and not the name.
    let status = change(&operator, with(true, true), named()).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    let told = format!("{status:?}");
    assert!(made.iter().filter(|name| told.contains(name.as_str())).count() >= 2, "{told}");
    assert!(!told.contains("Ada"), "{told}");
    create(&application, "shop", &[("email", "d@example.org"), ("name", "Ada")]).await;
    assert_eq!(state(&change(&operator, with(false, false), named()).await.unwrap()), I::Dropping);
    assert_eq!(find().await.unwrap_err().code(), Code::InvalidArgument);
}

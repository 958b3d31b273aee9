//! Tests of whole commands: the real command line, the real client over mutual TLS, a vault in memory.

use std::path::{Path, PathBuf};

use clap::Parser;
use serde_json::Value as Json;

use super::cli::{Cli, Format};
use super::error::CtlError;
use super::fake_vault::{FakeVault, SEED};
use super::output::{Out, hex};
use super::{Done, execute};
use crate::client::testing::{Authority, SERVER_NAME, client, serve};
use crate::crypto::sign_for_test;

struct Story {
    vault: FakeVault,
    config: PathBuf,
    folder: tempfile::TempDir,
}

impl Story {
    async fn begin() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ca = Authority::new("ca");
        let vault = FakeVault::default();
        let port = serve(&ca, SERVER_NAME, vault.router()).await;
        let config = client(folder.path(), &ca, &ca, port);
        Self { vault, config, folder }
    }

    /// A vault with the schema of a sample.
    async fn with_schema(name: &str) -> Self {
        let story = Self::begin().await;
        let file = example(&format!("{name}-customer.schema.toml"));
        let apply = ["schema", "apply", &file, "--tenant", "shop", "--create-tenant"];
        let (done, out) = story.json(&apply).await.unwrap();
        assert_eq!((done, out["result"].as_str()), (Done::Wholly, Some("created")));
        story
    }

    async fn run(&self, format: &str, args: &[&str]) -> Result<(Done, String), CtlError> {
        let config = self.config.display().to_string();
        let whole = ["lethectl", "--config", &config, "--output", format];
        let cli = Cli::parse_from(whole.iter().chain(args));
        let (mut out, printed) = Out::captured(cli.output);
        let done = execute(&cli, &mut out).await?;
        let text = String::from_utf8(printed.lock().unwrap().clone()).unwrap();
        Ok((done, text))
    }

    async fn json(&self, args: &[&str]) -> Result<(Done, Json), CtlError> {
        let (done, text) = self.run("json", args).await?;
        Ok((done, serde_json::from_str(&text).unwrap()))
    }

    async fn import(&self, data: &str, mapping: &str) -> Result<(Done, Json), CtlError> {
        self.json(&["record", "import", data, "--tenant", "shop", "--mapping", mapping]).await
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
    path.display().to_string()
}

fn counts(out: &Json) -> [u64; 4] {
    ["created", "updated", "unchanged", "failed"].map(|key| out[key].as_u64().unwrap())
}

#[tokio::test]
async fn a_second_import_doubles_nothing_and_a_changed_row_is_updated() {
    let story = Story::with_schema("chinook").await;
    let (data, mapping) =
        (example("chinook-customers.csv"), example("chinook-customers.mapping.toml"));
    let (done, out) = story.import(&data, &mapping).await.unwrap();
    assert_eq!((done, counts(&out)), (Done::Partly, [53, 0, 0, 6]));
    let lines: Vec<_> = out["failures"].as_array().unwrap().iter().map(|f| &f["line"]).collect();
    assert_eq!(lines, [35, 36, 46, 47, 50, 58]);
    assert!(!out.to_string().contains("wójcik"), "no value is shown");

    let (_, out) = story.import(&data, &mapping).await.unwrap();
    assert_eq!(counts(&out), [0, 0, 53, 6]);
    assert_eq!(story.vault.calls("update_record"), 0);

    // One moved, one lost a value.
    let text = std::fs::read_to_string(&data).unwrap();
    let text = text.replace("Rilská 3174/6", "Nová 12").replace("JetBrains s.r.o.", "");
    let (_, out) = story.import(&story.file("new.csv", &text), &mapping).await.unwrap();
    assert_eq!(counts(&out), [0, 2, 51, 6]);
    let state = story.vault.0.lock().unwrap();
    assert_eq!(state.records.len(), 53);
    assert!(state.records.values().all(|r| r.etag == "1" || r.fields.len() < 11));
}

#[tokio::test]
async fn northwind_goes_in_but_for_the_rows_with_unquoted_commas() {
    let story = Story::with_schema("northwind").await;
    let (data, mapping) =
        (example("northwind-customers.csv"), example("northwind-customers.mapping.toml"));
    let (done, out) = story.import(&data, &mapping).await.unwrap();
    assert_eq!((done, counts(&out)), (Done::Partly, [67, 0, 0, 24]));
    let state = story.vault.0.lock().unwrap();
    assert!(state.records.values().all(|r| r.fields.contains_key("source")));
}

#[tokio::test]
async fn an_import_waits_for_room_and_stops_when_nothing_works() {
    let story = Story::with_schema("chinook").await;
    let (data, mapping) =
        (example("chinook-customers.csv"), example("chinook-customers.mapping.toml"));
    story.vault.0.lock().unwrap().busy = 3;
    let (_, out) = story.import(&data, &mapping).await.unwrap();
    assert_eq!(counts(&out), [53, 0, 0, 6], "refusals for lack of room are made good");

    let story = Story::with_schema("chinook").await;
    story.vault.0.lock().unwrap().breaks_after = Some(5);
    let error = story.import(&data, &mapping).await.unwrap_err();
    assert!(error.text().contains("UNAVAILABLE"), "{}", error.text());
    // Each that is under way is tried four times.
    assert!(story.vault.calls("create_record") < 4 * 22, "the other rows are not tried");
}

#[tokio::test]
async fn a_schema_is_applied_once_and_then_left_alone() {
    let story = Story::with_schema("northwind").await;
    let file = example("northwind-customer.schema.toml");
    let again = ["schema", "apply", &file, "--tenant", "shop", "--create-tenant"];
    assert_eq!(story.json(&again).await.unwrap().1["result"], "unchanged");

    let text =
        std::fs::read_to_string(&file).unwrap().replace("max_bytes = 40\n", "max_bytes = 60\n");
    let changed = story.file("changed.toml", &text);
    let (_, out) = story.json(&["schema", "apply", &changed, "--tenant", "shop"]).await.unwrap();
    assert_eq!((out["result"].as_str(), out["revision"].as_u64()), (Some("updated"), Some(2)));

    let part = ["schema", "apply", &file, "--tenant", "shop", "--only", "fields.city,open_ended"];
    assert_eq!(story.json(&part).await.unwrap().1["result"], "updated");
    let asked = story.vault.0.lock().unwrap().masks.clone();
    assert_eq!(asked, [vec![], vec!["fields.city".to_owned(), "open_ended".to_owned()]]);
    let both = [&part[..], &["--create-tenant"]].concat();
    assert!(Cli::try_parse_from(["lethectl"].iter().chain(&both)).is_err());

    let absent = ["schema", "apply", &file, "--tenant", "nobody"];
    let error = story.json(&absent).await.unwrap_err().text();
    assert!(error.contains("NOT_FOUND") && error.contains("--create-tenant"), "{error}");
    let (_, shown) =
        story.run("table", &["schema", "get", "customer", "--tenant", "shop"]).await.unwrap();
    assert!(shown.contains("contact_name") && shown.contains("SENSITIVE"), "{shown}");
}

#[tokio::test]
async fn a_record_lives_and_dies() {
    let story = Story::with_schema("northwind").await;
    let file = story.file(
        "new.json",
        r#"{"customer_id": "X1", "company_name": "X", "contact_name": "Ada\u001b[2J", "country": "UK"}"#,
    );
    let create = ["record", "create", "--tenant", "shop", "--type", "customer", "--from", &file];
    let (_, record) = story.json(&create).await.unwrap();
    let name = record["name"].as_str().unwrap().to_owned();
    assert_eq!(record["fields"]["customer_id"], "X1");

    let (_, shown) = story.run("table", &["record", "get", &name]).await.unwrap();
    assert!(shown.contains("Ada\\u{1b}[2J") && !shown.contains('\u{1b}'), "{shown}");

    let change = story.file("change.json", r#"{"city": "Paris", "country": "France"}"#);
    let update = ["record", "update", &name, "--from", &change, "--etag", "1"];
    assert_eq!(story.json(&update).await.unwrap().1["fields"]["city"], "Paris");
    let error = story.json(&update).await.unwrap_err();
    assert!(error.text().contains("ABORTED") && error.exit_code() == 1);

    let (_, plan) = story.json(&["record", "erase", &name, "--dry-run"]).await.unwrap();
    assert!(plan["would_erase"][0].as_str().unwrap().contains(&name));
    assert_eq!(story.vault.calls("erase_record"), 0);

    let receipt = story.folder.path().join("receipt.json").display().to_string();
    let erase = ["record", "erase", &name, "--yes", "--receipt", &receipt];
    let (_, out) = story.json(&erase).await.unwrap();
    assert_eq!(out["receipts"][0]["level"], "E1_LOCAL_ANCHOR_SCRUBBED");
    assert_eq!(story.vault.calls("erase_record"), 1);
    let key = hex(&sign_for_test(SEED, b"").0);
    let verify = ["receipt", "verify", &receipt, "--public-key", &key];
    assert_eq!(story.json(&verify).await.unwrap().1["receipts"][0]["record_version"], 2);
    let error = story.json(&["record", "get", &name]).await.unwrap_err().text();
    assert!(error.contains("NOT_FOUND"), "{error}");
}

#[tokio::test]
async fn several_records_go_in_one_batch_and_of_one_tenant_only() {
    let story = Story::with_schema("chinook").await;
    let mapping = example("chinook-customers.mapping.toml");
    story.import(&example("chinook-customers.csv"), &mapping).await.unwrap();
    let names: Vec<String> =
        story.vault.0.lock().unwrap().records.keys().take(3).cloned().collect();
    let foreign = names[0].replace("tenants/shop", "tenants/else");
    let mixed = ["record", "erase", &names[0], &foreign, "--yes"];
    assert_eq!(story.json(&mixed).await.unwrap_err().exit_code(), 64);
    let batch = ["record", "erase", &names[0], &names[1], &names[2], "--yes"];
    assert_eq!(story.json(&batch).await.unwrap().1["receipts"].as_array().unwrap().len(), 3);
    assert_eq!(story.vault.calls("batch_erase_records"), 1);
    assert_eq!(story.vault.0.lock().unwrap().records.len(), 50);
}

#[tokio::test]
async fn lists_follow_their_pages_up_to_the_limit() {
    let story = Story::with_schema("chinook").await;
    for name in ["b-shop", "c-shop", "d-shop"] {
        story.json(&["tenant", "create", name]).await.unwrap();
    }
    let (_, out) = story.json(&["tenant", "list"]).await.unwrap();
    assert_eq!(out["tenants"].as_array().unwrap().len(), 4);

    let mapping = example("chinook-customers.mapping.toml");
    story.import(&example("chinook-customers.csv"), &mapping).await.unwrap();
    let list = |limit| ["record", "list", "--tenant", "shop", "--limit", limit];
    for (limit, number, more) in [("30", 30, true), ("53", 53, false), ("1000", 53, false)] {
        let (_, out) = story.json(&list(limit)).await.unwrap();
        assert_eq!(out["records"].as_array().unwrap().len(), number);
        assert_eq!(out["more"], more, "{limit}");
    }
}

#[tokio::test]
async fn without_a_configuration_the_next_step_is_told() {
    let cli = Cli::parse_from(["lethectl", "tenant", "list"]);
    if cli.config.is_none() {
        let (mut out, _) = Out::captured(Format::Table);
        let error = execute(&cli, &mut out).await.unwrap_err().text();
        assert!(error.contains("--config FILE") && error.contains("LETHE_CONFIG"), "{error}");
    }
}

#[tokio::test]
async fn a_client_that_the_vault_does_not_know_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let (ca, other) = (Authority::new("ca"), Authority::new("other"));
    let vault = FakeVault::default();
    let port = serve(&ca, SERVER_NAME, vault.router()).await;
    let config = client(folder.path(), &other, &ca, port);
    let story = Story { vault, config, folder };
    let error = story.json(&["tenant", "list"]).await.unwrap_err().text();
    assert!(error.contains("refused this client's certificate"), "{error}");
    assert_eq!(story.vault.calls("list_tenants"), 0);
}

#[tokio::test]
async fn a_tenant_is_renamed() {
    let story = Story::with_schema("northwind").await;
    let rename = ["tenant", "update", "shop", "--display-name", "Ye Olde Shoppe"];
    let (_, out) = story.json(&rename).await.unwrap();
    assert_eq!(
        (out["name"].as_str(), out["display_name"].as_str()),
        (Some("tenants/shop"), Some("Ye Olde Shoppe"))
    );
    let absent = ["tenant", "update", "nobody", "--display-name", "x"];
    assert!(story.json(&absent).await.unwrap_err().text().contains("NOT_FOUND"));
}

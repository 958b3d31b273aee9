//! lethectl against a whole daemon: imports that go on, exports, and what it says of files that were not meant.

use std::fmt::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::bulk::Import;
use crate::live::{Live, new_customer};

struct Tool {
    live: Live,
    dir: PathBuf,
}

const MAPPING: &str = r#"
type = "customer"
null = [""]
[columns]
email = "email"
city = "city"
phone = "phone"
"#;

impl Tool {
    async fn new() -> Self {
        let live = Live::start().await;
        live.furnish("shop").await;
        let dir = live.dir.path().join("files");
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("mapping.toml"), MAPPING).unwrap();
        Self { live, dir }
    }

    fn at(&self, name: &str) -> String {
        self.dir.join(name).to_str().unwrap().to_owned()
    }

    async fn run(&self, arguments: &[&str]) -> u8 {
        let config = self.live.dir.path().join("v/client-application.toml");
        let first = ["lethectl", "--config", config.to_str().unwrap(), "record"];
        let all = first.iter().chain(arguments);
        lethe::ctl::run(all.map(Into::into).collect::<Vec<std::ffi::OsString>>()).await
    }

    async fn import(&self, data: &str) -> u8 {
        let (data, mapping, state) = (self.at(data), self.at("mapping.toml"), self.at("state"));
        self.run(&[
            "import",
            &data,
            "--mapping",
            &mapping,
            "--tenant",
            "shop",
            "--create-only",
            "--state",
            &state,
        ])
        .await
    }

    fn state(&self) -> serde_json::Value {
        serde_json::from_str(&std::fs::read_to_string(self.dir.join("state")).unwrap()).unwrap()
    }

    async fn names(&self) -> Vec<String> {
        super::list(&self.live.client("application").await, 1000).await.0
    }
}

/// Customers, of whom every hundredth has a phone number that is none.
fn customers(count: usize) -> String {
    let mut text = "email,city,phone\n".to_owned();
    for n in 0..count {
        let phone = if n % 100 == 99 { "canary" } else { "" };
        writeln!(text, "c{n}@example.org,Ulm,{phone}").unwrap();
    }
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_by_stream_is_continued_by_its_state_and_an_export_holds_it_all() {
    let mut tool = Tool::new().await;
    std::fs::write(tool.dir.join("data.csv"), customers(1_200)).unwrap();
    assert_eq!(tool.import("data.csv").await, 2, "partly: twelve rows are refused");
    let names = tool.names().await;
    assert_eq!((names.len(), tool.state()["answered"].as_u64()), (1_188, Some(1_200)));
    let mode = std::fs::metadata(tool.dir.join("state")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(tool.import("data.csv").await, 0, "nothing is left to do");
    // The answer to the last chunk was lost, here and in a daemon that was restarted meanwhile.
    let whole = std::fs::read_to_string(tool.dir.join("state")).unwrap();
    let lost = whole.replace("\"answered\":1200", "\"answered\":1000");
    assert_ne!(whole, lost);
    for restart in [false, true] {
        if restart {
            tool.live.restart().await;
        }
        std::fs::write(tool.dir.join("state"), &lost).unwrap();
        assert_eq!(tool.import("data.csv").await, 2);
        assert_eq!(
            (tool.names().await, tool.state()["answered"].as_u64()),
            (names.clone(), Some(1_200))
        );
    }
    // A chunk of another length, as a later version of the tool may send it, is sent again as it was.
    let id = lethe::client::request_id();
    let application = tool.live.client("application").await;
    let mut import = Import::start(&application, "shop", &id).await.unwrap();
    let one = |n| new_customer("shop", &[("email", &format!("d{n}@example.org"))]).record.unwrap();
    import.chunk(0, (0..300).map(one).collect()).await.unwrap();
    std::fs::write(tool.dir.join("data.csv"), customers(1_200).replace("\nc", "\nd")).unwrap();
    let first = tool.state()["import_id"].as_str().unwrap().to_owned();
    let state = whole.replace(&first, &id).replace("\"answered\":1200", "\"answered\":0");
    std::fs::write(tool.dir.join("state"), state).unwrap();
    assert_eq!(tool.import("data.csv").await, 2);
    let names = tool.names().await;
    assert_eq!(names.len(), 1_188 + 300 + 900 - 9);

    std::fs::write(tool.dir.join("other.csv"), customers(3)).unwrap();
    assert_eq!(tool.import("other.csv").await, 1, "the state is of another file");
    std::fs::write(tool.dir.join("state"), "{}").unwrap();
    assert_eq!(tool.import("data.csv").await, 1, "that is no state");
    assert_eq!(tool.names().await, names);

    let file = tool.at("out.jsonl");
    let export = ["export", "--tenant", "shop", "--fields", "email", "--to", &file];
    assert_eq!(tool.run(&export).await, 0);
    let text = std::fs::read_to_string(&file).unwrap();
    let mut seen: Vec<String> = Vec::new();
    for line in text.lines() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(record["fields"]["email"].as_str().unwrap().ends_with("@example.org"));
        assert!(record["fields"].get("city").is_none());
        seen.push(record["name"].as_str().unwrap().to_owned());
    }
    assert_eq!(seen, names);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(tool.run(&export).await, 1, "a file is never written over");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    assert!(!Path::new(&format!("{file}.part")).exists());

    let config = tool.live.dir.path().join("v/client-auditor.toml");
    let health = ["lethectl", "--config", config.to_str().unwrap(), "health"];
    let ask = || lethe::ctl::run(health.map(Into::into));
    assert_eq!(ask().await, 0);
    tool.live.stop().await;
    assert_eq!(ask().await, 1);
}

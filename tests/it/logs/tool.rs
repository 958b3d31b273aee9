//! `lethectl log` against a whole daemon: exports that go on, folders that are not written over, witnesses, and what an
//! export that was spoilt is answered.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lethe::proto::admin::{GetStatusRequest, Log, TailAuditEntriesRequest};
use lethe::proto::v1::RunRetentionRequest;
use tonic::Code;
use tonic_types::StatusExt;

use super::{checkpoint, erase_one, tile_files};
use crate::live::Live;
use crate::peer::PATIENCE;

struct Desk {
    live: Live,
    key: String,
    dir: PathBuf,
}

impl Desk {
    async fn new() -> Self {
        let live = Live::start().await;
        live.furnish("a").await;
        let status = live.client("auditor").await.vault().get_status(GetStatusRequest {}).await;
        let key = status.unwrap().into_inner().public_key;
        let key = key.iter().map(|b| format!("{b:02x}")).collect();
        let dir = live.dir.path().join("desk");
        std::fs::create_dir(&dir).unwrap();
        Self { live, key, dir }
    }

    fn at(&self, name: &str) -> String {
        self.dir.join(name).to_str().unwrap().to_owned()
    }

    async fn run(&self, arguments: &[&str]) -> u8 {
        self.ctl("log", arguments).await
    }

    async fn audit(&self, arguments: &[&str]) -> u8 {
        self.ctl("audit", arguments).await
    }

    async fn ctl(&self, command: &str, arguments: &[&str]) -> u8 {
        let config = self.live.dir.path().join("v/client-auditor.toml");
        let first = ["lethectl", "--config", config.to_str().unwrap(), command];
        let all = first.iter().chain(arguments);
        lethe::ctl::run(all.map(Into::into).collect::<Vec<std::ffi::OsString>>()).await
    }

    async fn export(&self, log: &str, to: &str) -> u8 {
        let to = self.at(to);
        self.run(&["export", "--log", log, "--out", &to, "--public-key", &self.key]).await
    }

    async fn verify(&self, folder: &str, more: &[&str]) -> u8 {
        let folder = self.at(folder);
        let first = ["verify", &folder, "--public-key", &self.key];
        self.run(&[&first, more].concat()).await
    }
}

fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all: Vec<_> =
        tile_files(dir).into_iter().map(|p| (p.clone(), std::fs::read(p).unwrap())).collect();
    all.sort();
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_goes_on_and_is_never_written_over_another() {
    let desk = Desk::new().await;
    for log in ["ledger", "audit"] {
        erase_one(&desk.live, "a", &format!("{log}@example.org")).await;
        assert_eq!(desk.export(log, log).await, 0);
        assert_eq!(desk.verify(log, &[]).await, 0);
        let old = desk.at("old");
        std::fs::copy(desk.dir.join(log).join("checkpoint"), &old).unwrap();
        erase_one(&desk.live, "a", &format!("{log}2@example.org")).await;
        assert_eq!(desk.export(log, log).await, 0);
        assert_eq!(desk.verify(log, &["--since", &old]).await, 0);
        // As after one that broke off: no checkpoint yet, and not all tiles.
        let folder = desk.dir.join(log);
        std::fs::rename(folder.join("checkpoint"), folder.join("checkpoint.part")).unwrap();
        std::fs::remove_dir_all(folder.join("tile/0")).unwrap();
        assert_eq!(desk.verify(log, &[]).await, 1, "it is not whole");
        assert_eq!(desk.export(log, log).await, 0);
        assert_eq!(desk.verify(log, &["--since", &old]).await, 0);
        // A tile that was lost comes again.
        std::fs::remove_dir_all(folder.join("tile/entries")).unwrap();
        assert_eq!(desk.verify(log, &[]).await, 1);
        assert_eq!(desk.export(log, log).await, 0);
        assert_eq!(desk.verify(log, &[]).await, 0);
    }
    let before = contents(&desk.dir.join("audit"));
    assert_eq!(desk.export("ledger", "audit").await, 1, "another log");
    let other = Desk::new().await;
    let (folder, key) = (desk.at("audit"), &other.key);
    let foreign = ["export", "--log", "audit", "--out", &folder, "--public-key", key];
    assert_eq!(other.run(&foreign).await, 1, "of another vault");
    assert_eq!(contents(&desk.dir.join("audit")), before, "nothing was written");
    std::fs::create_dir(desk.dir.join("mine")).unwrap();
    std::fs::write(desk.dir.join("mine/thesis.txt"), "x").unwrap();
    assert_eq!(desk.export("ledger", "mine").await, 1, "not an export's");
    let wrong = "0".repeat(64);
    let folder = desk.at("new");
    let other_key = ["export", "--log", "audit", "--out", &folder, "--public-key", &wrong];
    assert_eq!(desk.run(&other_key).await, 1, "another key");
}

/// A vault whose data of before was put back, anchor and all, shows an older log: the folder and the witness notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vault_that_was_put_back_is_noticed_by_who_kept_something() {
    let mut desk = Desk::new().await;
    erase_one(&desk.live, "a", "one@example.org").await;
    desk.live.stop().await;
    let (data, kept) = (desk.live.config.data.clone(), desk.dir.join("kept"));
    copy(&data, &kept);
    desk.live.start_again().await;
    erase_one(&desk.live, "a", "two@example.org").await;
    assert_eq!(desk.export("ledger", "ledger").await, 0);
    let (key_file, state, now) = (desk.at("key"), desk.at("state"), desk.at("now"));
    let make = ["witness-key", "--name", "w", "--key", &key_file];
    assert_eq!(desk.run(&make).await, 0);
    assert_eq!(desk.run(&make).await, 1, "a key is never written over");
    let ask = ["checkpoint", "--log", "ledger", "--to", &now];
    assert_eq!(desk.run(&ask).await, 0);
    let key = desk.key.clone();
    let witness = [
        "witness",
        "--checkpoint",
        &now,
        "--state",
        &state,
        "--key",
        &key_file,
        "--public-key",
        &key,
    ];
    assert_eq!(desk.run(&witness).await, 0);
    let auditor = desk.live.client("auditor").await;
    let size = checkpoint(&auditor, Log::Ledger, false).await.unwrap().size;

    desk.live.stop().await;
    std::fs::remove_dir_all(&data).unwrap();
    copy(&kept, &data);
    desk.live.start_again().await;
    let auditor = desk.live.client("auditor").await;
    assert!(checkpoint(&auditor, Log::Ledger, false).await.unwrap().size < size);
    let before = contents(&desk.dir.join("ledger"));
    assert_eq!(desk.export("ledger", "ledger").await, 1, "the folder is further on");
    assert_eq!(contents(&desk.dir.join("ledger")), before);
    assert_eq!(desk.run(&ask).await, 0);
    assert_eq!(desk.run(&witness).await, 1, "it was cut");
    // It grows past that size, and is another log all the same.
    for n in 0..4 {
        erase_one(&desk.live, "a", &format!("other{n}@example.org")).await;
    }
    let auditor = desk.live.client("auditor").await;
    assert!(checkpoint(&auditor, Log::Ledger, false).await.unwrap().size > size);
    assert_eq!(desk.export("ledger", "ledger").await, 1, "it does not continue the folder's");
    assert_eq!(contents(&desk.dir.join("ledger")), before);
    assert_eq!(desk.run(&ask).await, 0);
    let proof = desk.at("proof");
    let prove = ["prove", "consistency", "--since", &state, "--to", &proof, "--public-key", &key];
    assert_eq!(desk.run(&prove).await, 1, "there is no such proof");
}

/// Over the wire: days pass, the log is pruned, and who comes then, came before, or comes again gets what there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pruned_log_is_exported_proved_and_verified_from_where_it_begins() {
    let mut desk = Desk::new().await;
    desk.live.stop().await;
    desk.live.config.audit_retain = Some("P30D".parse().unwrap());
    desk.live.start_again().await;
    assert_eq!(desk.export("audit", "early").await, 0);
    let auditor = desk.live.client("auditor").await;
    for _ in 0..700 {
        auditor.vault().get_status(GetStatusRequest {}).await.unwrap();
    }
    sweep(&desk.live).await;
    assert_eq!(desk.export("audit", "before").await, 0);
    let old = desk.at("old");
    std::fs::copy(desk.dir.join("before/checkpoint"), &old).unwrap();
    desk.live.pass(Duration::from_secs(40 * 86_400));
    let mut minimum = 0;
    let since = Instant::now();
    while minimum < 512 {
        assert!(since.elapsed() < PATIENCE, "it is not pruned");
        sweep(&desk.live).await;
        minimum = checkpoint(&auditor, Log::Audit, true).await.unwrap().minimum_index;
    }
    assert_eq!(minimum % 256, 0);
    let minimum_of = |folder: &str| {
        std::fs::read_to_string(desk.dir.join(folder).join("minimum_index")).unwrap_or_default()
    };
    assert_eq!(desk.export("audit", "late").await, 0);
    assert_eq!(desk.verify("late", &["--since", &old]).await, 0);
    assert_eq!(minimum_of("late"), format!("{minimum}\n"));
    // Who was there in time has all of it; who was not cannot go on where it was.
    assert_eq!(desk.export("audit", "before").await, 0);
    assert_eq!(desk.verify("before", &["--since", &old]).await, 0);
    assert_eq!(minimum_of("before"), "");
    assert_eq!(desk.export("audit", "early").await, 1);
    assert_eq!(desk.verify("early", &[]).await, 0, "what it has is as it was");
    // Another day's entries; both folders go on.
    erase_one(&desk.live, "a", "later@example.org").await;
    for folder in ["late", "before"] {
        assert_eq!(desk.export("audit", folder).await, 0);
        assert_eq!(desk.verify(folder, &["--since", &old]).await, 0);
    }
    assert_eq!(desk.export("ledger", "ledger").await, 0);
    assert_eq!((desk.verify("ledger", &[]).await, minimum_of("ledger")), (0, String::new()));
    let (proof, key) = (desk.at("proof"), desk.key.clone());
    for (index, code) in [(0, 1), (minimum - 1, 1), (minimum, 0)] {
        let index = index.to_string();
        let args = ["--log", "audit", "--index", &index, "--to", &proof, "--public-key", &key];
        let prove = [&["prove", "inclusion"], &args[..]].concat();
        assert_eq!(desk.run(&prove).await, code, "{index}");
    }
    // The other export, and its verification.
    let (lines, earlier) = (desk.at("lines"), desk.at("earlier"));
    for file in [&earlier, &lines] {
        assert_eq!(desk.audit(&["export", file]).await, 0);
    }
    let verify = ["verify", &lines, "--public-key", &key, "--earlier", &earlier];
    assert_eq!(desk.audit(&verify).await, 0);
    let text = std::fs::read_to_string(&lines).unwrap();
    let kept: Vec<&str> = text.lines().collect();
    let told = kept.iter().position(|line| line.contains("PruneLog")).unwrap();
    assert!(kept[1].contains(&format!("\"index\":{minimum},")), "{}", kept[1]);
    std::fs::write(&lines, [&kept[..told], &kept[told + 1..]].concat().join("\n")).unwrap();
    assert_eq!(desk.audit(&verify).await, 1);
    let from = (minimum - 1).to_string();
    assert_eq!(desk.audit(&["tail", "--follow-from", &from]).await, 1);
    let from = minimum.to_string();
    assert_eq!(desk.audit(&["tail", "--follow-from", &from, "--limit", "1"]).await, 0);
    let request = TailAuditEntriesRequest { start_index: Some(0), ..Default::default() };
    let refused = auditor.audit_streams().tail_audit_entries(request).await.unwrap_err();
    let info = refused.get_details_error_info().unwrap();
    assert_eq!((refused.code(), info.reason.as_str()), (Code::OutOfRange, "PRUNED"));
    assert_eq!(info.metadata["minimum_index"], minimum.to_string());
}

async fn sweep(live: &Live) {
    let officer = live.client("privacy-officer").await;
    officer.retention().run_retention(RunRetentionRequest::default()).await.unwrap();
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, name) = entry.map(|e| (e.path(), e.file_name())).unwrap();
        if path.is_dir() {
            copy(&path, &to.join(name));
        } else {
            std::fs::copy(&path, to.join(name)).unwrap();
        }
    }
    let mode = std::fs::metadata(from).unwrap().permissions();
    std::fs::set_permissions(to, mode).unwrap();
}

//! `lethectl audit tail` and `who-read` as programs of their own, against a whole daemon.

use std::process::{Command, Output};

use lethe::proto::v1;
use serde_json::Value as Json;

use super::*;
use crate::live::{create, get as read_record};

async fn ctl(live: &Live, role: &str, arguments: &[&str]) -> Output {
    let config = live.dir.path().join(format!("v/client-{role}.toml"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_lethectl"));
    command.arg("--config").arg(config).args(["--output", "json", "audit"]).args(arguments);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Lines of JSON.
fn lines(output: &Output) -> Vec<Json> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lethectl_follows_the_log_from_an_index_and_stops_after_so_many() {
    let live = Live::start().await;
    live.furnish("a").await;
    live.furnish("b").await;
    let application = live.client("application").await;
    create(&application, "a", &[("email", "a@example.org")]).await;
    create(&application, "b", &[("email", "b@example.org")]).await;
    let from_start = ctl(&live, "auditor", &["tail", "--follow-from", "0", "--limit", "5"]).await;
    assert_eq!(code(&from_start), 0, "{}", said(&from_start));
    let indexes: Vec<_> = lines(&from_start).iter().map(|l| l["index"].as_u64().unwrap()).collect();
    assert_eq!(indexes, [0, 1, 2, 3, 4]);
    let of_b = ["tail", "--follow-from", "0", "--limit", "3", "--tenant", "b"];
    let of_b = ctl(&live, "privacy-officer", &of_b).await;
    assert_eq!(code(&of_b), 0, "{}", said(&of_b));
    assert!(lines(&of_b).iter().all(|l| l["tenant"] == "tenants/b"));
    // From now on: first its own entry, then what happens.
    let next = ctl(&live, "auditor", &["tail", "--limit", "1"]).await;
    let next = lines(&next);
    assert_eq!((next.len(), &next[0]["method"]), (1, &Json::from("TailAuditEntries")));

    let beyond = ctl(&live, "auditor", &["tail", "--follow-from", "123456789"]).await;
    assert_eq!(code(&beyond), 1);
    assert!(said(&beyond).contains("start_index"), "{}", said(&beyond));
    let denied = ctl(&live, "application", &["tail"]).await;
    assert_eq!(code(&denied), 1);
    assert!(said(&denied).contains("PERMISSION_DENIED"), "{}", said(&denied));
    for wrong in [["tail", "--follow-from", "-1"], ["tail", "--limit", "0"]] {
        assert_eq!(code(&ctl(&live, "auditor", &wrong).await), 64, "{wrong:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lethectl_says_who_read_a_subject_until_it_is_erased() {
    let live = Live::start().await;
    live.furnish("a").await;
    let application = live.client("application").await;
    let one = create(&application, "a", &[("email", "a@example.org")]).await;
    let other = create(&application, "a", &[("email", "b@example.org")]).await;
    let support = live.client("support").await;
    for client in [&application, &support, &support] {
        read_record(client, &one.name).await.unwrap();
    }
    read_record(&application, &other.name).await.unwrap();
    let id = |name: &str| name.rsplit('/').next().unwrap().to_owned();
    let (subject, record, strange) = (id(&one.subject), id(&one.name), id(&other.name));
    let ask = ["who-read", "--tenant", "a", "--subject", &subject];
    for role in ["auditor", "privacy-officer"] {
        let answer = ctl(&live, role, &[&ask[..], &["--record", &record]].concat()).await;
        assert_eq!(code(&answer), 0, "{}", said(&answer));
        let told: Json = serde_json::from_slice(&answer.stdout).unwrap();
        let read = told["entries"].as_array().unwrap().iter();
        let read: Vec<_> = read
            .filter(|e| e["method"] == "GetRecord")
            .map(|e| e["principal"].as_str().unwrap().rsplit('/').next().unwrap().to_owned())
            .collect();
        assert_eq!(read, ["support", "support", "application"], "the newest first");
    }
    let few = ctl(&live, "auditor", &[&ask[..], &["--limit", "2"]].concat()).await;
    let few: Json = serde_json::from_slice(&few.stdout).unwrap();
    let looks = |e: &Json| e["method"] == "ListSubjectAuditEntries";
    assert!(few["entries"].as_array().unwrap().iter().all(looks), "who looked is told too");
    assert_eq!(few["entries"].as_array().unwrap().len(), 2);
    let wrong = ctl(&live, "auditor", &[&ask[..], &["--record", &strange]].concat()).await;
    assert_eq!(code(&wrong), 1);
    assert!(said(&wrong).contains("not a record of this subject"), "{}", said(&wrong));
    for role in ["application", "operator"] {
        let denied = ctl(&live, role, &ask).await;
        assert!(code(&denied) == 1 && said(&denied).contains("PERMISSION_DENIED"), "{role}");
    }
    for wrong in ["", "x", "tenants/a/subjects/x"] {
        let wrong = ctl(&live, "auditor", &["who-read", "--tenant", "a", "--subject", wrong]).await;
        assert_eq!(code(&wrong), 64);
    }
    let request = v1::EraseSubjectRequest { name: one.subject.clone(), reason: 0 };
    application.subjects().erase_subject(request).await.unwrap();
    let gone = ctl(&live, "auditor", &ask).await;
    assert_eq!(code(&gone), 1);
    assert!(said(&gone).contains("erased") && gone.stdout.is_empty(), "{}", said(&gone));
}

//! Steps 23 to 29: erasures and their receipts, deadlines, bounds.

use lethe::client::request_id;
use lethe::crypto::verify_ed25519;
use lethe::proto::admin;

use super::records::Kept;
use super::*;
use crate::live::reason;

fn verifies(receipt: &v1::ErasureReceipt, key: &[u8]) -> bool {
    verify_ed25519(key, &receipt.signed_bytes, &receipt.signature)
}

fn is_erased(status: &Status) -> bool {
    status.code() == Code::NotFound && reason(status) == "ERASED"
}

/// What `lethectl` says of a receipt that it saves, and of the same under another name.
async fn checked_by_name(story: &Story, name: &str, other: &str, key: &[u8]) -> (u8, u8) {
    let (dir, saved) = (story.dir.path(), story.dir.path().join("receipt.json"));
    let key: String = key.iter().map(|b| format!("{b:02x}")).collect();
    let saved_at = saved.to_str().unwrap();
    let config = dir.join("v/client-application.toml");
    let run = async |arguments: &[&str]| {
        let first = ["lethectl", "--config", config.to_str().unwrap()];
        let all = first.iter().chain(arguments);
        lethe::ctl::run(all.map(Into::into).collect::<Vec<std::ffi::OsString>>()).await
    };
    let again =
        ["record", "erase", name, "--reason", "subject-request", "--yes", "--receipt", saved_at];
    assert_eq!(run(&again).await, 0, "step 24");
    let verify = ["receipt", "verify", saved_at, "--public-key", &key];
    let own = run(&verify).await;
    let text = std::fs::read_to_string(&saved).unwrap();
    std::fs::write(&saved, text.replace(name, other)).unwrap();
    (own, run(&verify).await)
}

pub(super) async fn steps_23_to_29(story: &mut Story, kept: Kept) {
    let status = story.operator.vault().get_status(admin::GetStatusRequest {}).await.unwrap();
    let key = status.into_inner().public_key;
    let (a, b) = (kept.a.as_str(), &kept.batch);
    let receipt = story.erase(a).await.unwrap();
    assert_eq!(
        (receipt.name.as_str(), receipt.reason()),
        (a, v1::ErasureReason::SubjectRequest),
        "step 23"
    );
    assert!(verifies(&receipt, &key), "step 23");
    let mut other_key = key.clone();
    other_key[5] ^= 1;
    assert!(!verifies(&receipt, &other_key), "step 23");
    for bit in 0..receipt.signed_bytes.len() * 8 {
        let mut changed = receipt.clone();
        changed.signed_bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(!verifies(&changed, &key), "step 23: bit {bit}");
    }
    let (own, other) = checked_by_name(story, a, &b[0], &key).await;
    assert!(own == 0 && other != 0, "step 23: {own}, {other}");
    let again = story.erase(a).await.unwrap();
    assert_eq!(
        (again.signed_bytes, again.signature),
        (receipt.signed_bytes, receipt.signature),
        "step 24"
    );

    let got = story.get(a, None, "").await;
    assert!(is_erased(&story.refused(25, got, Code::NotFound, &[])), "step 25");
    let updated = story.update(a, "", texts(&[("city", "Rome")]), None).await;
    assert!(is_erased(&story.refused(25, updated, Code::NotFound, &[])), "step 25");
    let both = story.batch_get(&[&b[0], a]).await;
    let both = story.refused(25, both, Code::NotFound, &[]);
    assert!(is_erased(&both) && part(&both) == "names[1]", "step 25");
    let repeated = story.create(kept.first.clone()).await;
    assert!(is_erased(&story.refused(25, repeated, Code::NotFound, &[])), "step 25");
    assert!(story.named("email", "ada@example.org").await.is_empty(), "step 25");
    let anew = v1::CreateRecordRequest { request_id: request_id(), ..kept.first };
    assert_ne!(story.create(anew).await.unwrap().name, a, "step 25");
    let never = format!("{}/records/00000000-0000-4000-8000-000000000000", story.parent());
    let never = story.get(&never, None, "").await;
    assert_eq!(reason(&story.refused(25, never, Code::NotFound, &[])), "NOT_FOUND", "step 25");

    let request = v1::BatchEraseRecordsRequest {
        parent: story.parent(),
        names: b[..2].to_vec(),
        reason: v1::ErasureReason::SubjectRequest.into(),
    };
    let erased =
        story.application.records().batch_erase_records(request).await.unwrap().into_inner();
    let names: Vec<&String> = erased.receipts.iter().map(|r| &r.name).collect();
    assert_eq!(names, [&b[0], &b[1]], "step 26");
    assert!(erased.receipts.iter().all(|r| verifies(r, &key)), "step 26");
    subject(story, &key).await;
    bounds(story).await;
}

/// Step 27.
async fn subject(story: &mut Story, key: &[u8]) {
    let request = v1::CreateSubjectRequest { parent: story.parent(), request_id: request_id() };
    let mut made = Vec::new();
    for _ in 0..2 {
        let answer = story.application.subjects().create_subject(request.clone()).await.unwrap();
        made.push(answer.into_inner().subject.unwrap().name);
    }
    assert_eq!(made[0], made[1], "step 27");
    let subject = made.swap_remove(0);
    let about = |story: &Story, email: &str| {
        let mut request = story.new_record(texts(&[("email", email)]));
        request.record.as_mut().unwrap().subject.clone_from(&subject);
        request
    };
    let mut records = Vec::new();
    for email in ["s1@example.org", "s2@example.org"] {
        let request = about(story, email);
        records.push(story.create(request).await.unwrap().name);
    }
    let request = v1::EraseSubjectRequest {
        name: subject.clone(),
        reason: v1::ErasureReason::SubjectRequest.into(),
    };
    let erase = async || {
        let erased = story.application.subjects().erase_subject(request.clone()).await;
        erased.unwrap().into_inner()
    };
    let erased = erase().await;
    let receipt = erased.receipt.unwrap();
    assert_eq!(receipt.name, subject, "step 27");
    let mut named: Vec<String> = erased.record_receipts.iter().map(|r| r.name.clone()).collect();
    named.sort();
    let mut expected = records.clone();
    expected.sort();
    assert_eq!(named, expected, "step 27");
    assert!(erased.record_receipts.iter().chain([&receipt]).all(|r| verifies(r, key)), "step 27");
    let again = erase().await.receipt.unwrap();
    assert_eq!(again.signed_bytes, receipt.signed_bytes, "step 27");
    for record in &records {
        let got = story.get(record, None, "").await;
        assert!(is_erased(&story.refused(27, got, Code::NotFound, &[])), "step 27");
    }
    let request = v1::GetSubjectRequest { name: subject.clone() };
    let got = story.application.subjects().get_subject(request).await;
    assert!(is_erased(&story.refused(27, got, Code::NotFound, &[])), "step 27");
    let late = about(story, "s3@example.org");
    let late = story.create(late).await;
    assert!(is_erased(&story.refused(27, late, Code::NotFound, &[])), "step 27");
}

/// Steps 28 and 29.
async fn bounds(story: &mut Story) {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = ClientConfig::load(&story.dir.path().join("v/client-application.toml")).unwrap();
    let at = |port: u16| ClientConfig {
        endpoint: format!("https://127.0.0.1:{port}"),
        ..config.clone()
    };
    // The handshake is a part of connecting, which has its own time; a client that is connected has its deadline.
    let began = Instant::now();
    let port = silent.local_addr().unwrap().port();
    let silence = at(port);
    let connecting = Client::connect(&silence, Duration::from_secs(1));
    let waited = tokio::time::timeout(PATIENCE, connecting).await.unwrap();
    assert!(waited.is_err() && began.elapsed() >= Duration::from_millis(500), "step 28");
    drop(silent);
    let began = Instant::now();
    assert!(Client::connect(&at(port), Duration::from_secs(1)).await.is_err(), "step 28");
    assert!(began.elapsed() < Duration::from_secs(10), "step 28");

    let many = vec![story.new_record(Fields::new()); 501];
    let many = story.batch(many).await;
    story.refused(29, many, Code::InvalidArgument, &["requests"]);
    let name = format!("{}/records/00000000-0000-4000-8000-000000000000", story.parent());
    let many = story.batch_get(&vec![name.as_str(); 1_001]).await;
    story.refused(29, many, Code::InvalidArgument, &["names"]);
    let mut fields = texts(&[("email", "big@example.org")]);
    fields.insert("photo".into(), value(Kind::BytesValue(vec![7; 5 << 20])));
    let before = story.count().await;
    let big = story.create(story.new_record(fields)).await;
    // tonic resets the stream, and says so as its transport's error.
    story.print(&big.expect_err("step 29"));
    assert_eq!(story.count().await, before, "step 29");
}

//! R3 of what callers keep: page tokens and etags that they were given before an erasure help nobody after it.

use std::sync::atomic::{AtomicBool, Ordering};

use lethe::class::ErasureReason;
use lethe::crypto::open_in_place;
use lethe::id::RecordId;
use lethe::vault::{EngineChoice, Vault};

use super::attack::Seized;
use super::scratch;
use crate::house::{House, TENANT, app, fields, furnish, get, put, update};

const CALLER: &str = "spiffe://test/someone";
const QUERY: &[&[u8]] = &[b"ListRecords", b"tenants/acme"];

fn unhex(text: &str) -> Vec<u8> {
    let byte = |n: usize| u8::from_str_radix(&text[n..n + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}

/// The cursor in a token, for who has its key.
fn opened(key: &[u8; 32], aad: &[u8], token: &[u8]) -> Option<RecordId> {
    let mut sealed = token.to_vec();
    let plain = open_in_place(key, aad, &mut sealed).ok()?;
    Some(RecordId(plain[8..].try_into().unwrap()))
}

/// Whether any 32 bytes in a row are the key of the token.
fn opens_by_any_key(everything: &[Vec<u8>], aad: &[u8], token: &[u8]) -> bool {
    let found = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for half in [0, 1] {
            let found = &found;
            scope.spawn(move || {
                let windows = everything.iter().flat_map(|bytes| bytes.windows(32));
                for window in windows.skip(half).step_by(2) {
                    // Rows of zeros are most of what an engine writes.
                    let zeros = window[0] == 0 && window.iter().all(|b| *b == 0);
                    if !zeros && opened(window.try_into().unwrap(), aad, token).is_some() {
                        found.store(true, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    found.load(Ordering::SeqCst)
}

fn token_of(vault: &Vault, id: RecordId) -> Vec<u8> {
    unhex(&vault.page_token(CALLER, QUERY, &id.0).unwrap())
}

#[test]
fn r3_page_tokens_and_etags_of_before_tell_nobody_of_the_erased() {
    let dir = scratch();
    let house = House::new(dir.path(), EngineChoice::Redb);
    let mut seized = Seized::new(dir.path());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (gone, stays, tokens) = runtime.block_on(async {
        let vault = house.create();
        furnish(&vault).await;
        let person = |n: &str| fields(&[("reference", n), ("city", "Ulm"), ("note", n)]);
        let gone = put(&vault, "customer", person("gone")).await.unwrap();
        let stays = put(&vault, "customer", person("stays")).await.unwrap();
        // An etag counts versions: it is the same for other values.
        assert_eq!(gone.version, stays.version);
        for (id, note) in [(gone.id, "one thing"), (stays.id, "quite another")] {
            update(&vault, id, fields(&[("note", note)])).await.unwrap();
        }
        let versions = [gone.id, stays.id].map(|id| get(&vault, id).unwrap().version);
        assert_eq!(versions[0], versions[1]);
        let tokens = [token_of(&vault, gone.id), token_of(&vault, gone.id)];
        assert_ne!(tokens[0][12..], tokens[1][12..], "one cursor is sealed anew each time");
        seized.take();
        let reason = ErasureReason::SubjectRequest;
        vault.erase_records(&app(), TENANT, &[gone.id], reason, None).await.unwrap();
        vault.close().unwrap();
        drop(vault);
        seized.take();
        let vault = house.open().unwrap();
        let text: String = tokens[0].iter().map(|b| format!("{b:02x}")).collect();
        assert!(vault.page_cursor(CALLER, QUERY, &text).is_err(), "its key went with the run");
        (gone.id, stays.id, tokens)
    });
    seized.history.extend(tokens.iter().cloned());
    seized.history.push(std::fs::read(dir.path().join("kek")).unwrap());
    let today = seized.open(1).records;
    let opens = |id: RecordId| today.contains_key(&id.to_string());
    assert!(!opens(gone) && opens(stays), "{today:?}");
    assert!(seized.open(0).records.contains_key(&gone.to_string()), "control: an anchor of before");
    // Nor does a token show behind which record it stands.
    assert!(tokens.iter().all(|token| !token.windows(16).any(|w| w == gone.0)));

    let mut binding = Vec::new();
    for part in [CALLER.as_bytes()].iter().chain(QUERY) {
        binding.extend((part.len() as u64).to_be_bytes());
        binding.extend_from_slice(part);
    }
    let aad = lethe::crypto::sha256(&binding);
    seized.history.append(&mut seized.anchors);
    assert!(
        !opens_by_any_key(&seized.history, &aad, &tokens[0]),
        "the key of page tokens was written"
    );
    // Control: a token under a key that was written is opened by it.
    let key: [u8; 32] = tokens[0][20..52].try_into().unwrap();
    let mut sealed = Vec::new();
    lethe::crypto::seal_append(&key, &aad, &[[0; 8].as_slice(), &stays.0].concat(), &mut sealed)
        .unwrap();
    assert!(opens_by_any_key(&seized.history, &aad, &sealed));
}

//! Tests of receipts: a receipt made here to the letter of docs/FORMAT.md §7, then spoilt one claim at a time.

use super::*;
use crate::crypto::sign_for_test;

const RECORD: [u8; 16] = [0x0a; 16];
const VAULT: [u8; 16] = [0x0b; 16];

const SEED: [u8; 32] = [3; 32];

fn key_of(seed: [u8; 32]) -> PublicKey {
    PublicKey(sign_for_test(seed, b"").0)
}

/// Kind 1 = record version 2, kind 4 = bucket 5; both of tenant 1, generation 9, leaf 77, level E1.
fn bytes(kind: u8) -> Vec<u8> {
    receipt_bytes(kind, RECORD)
}

pub(in crate::ctl) fn receipt_bytes(kind: u8, record: [u8; 16]) -> Vec<u8> {
    let unit = match kind {
        4 => sha256_parts(&[b"VB1", &VAULT, &[0, 0, 1], &[0, 0, 5]]),
        _ => sha256_parts(&[b"VU1", &VAULT, &[0, 0, 1], &record, &2_u64.to_be_bytes()]),
    };
    let mut b = b"VE1".to_vec();
    b.extend(VAULT);
    b.extend(b"LTL1");
    b.extend([kind, 1, 0, 0]);
    b.extend(77_u64.to_be_bytes());
    b.extend(9_u64.to_be_bytes());
    b.extend(0_u32.to_be_bytes());
    b.extend([0; 16]);
    b.extend(unit);
    b.extend([0, 0, 1, 0, 0, 5, 0, 0, 6, 7]);
    b.extend([0; 32]);
    b.extend(1_000_i64.to_be_bytes());
    b.extend(2_000_i64.to_be_bytes());
    b.extend(1_u32.to_be_bytes());
    b.extend([1; 32]);
    b.extend([2; 32]);
    b.extend([0; 6]);
    b.extend([1, 1]);
    b.extend(3_000_i64.to_be_bytes());
    b
}

fn saved(bytes: &[u8]) -> Saved {
    Saved {
        name: format!("tenants/a/records/{}", RecordId(RECORD)),
        level: "E1_LOCAL_ANCHOR_SCRUBBED".into(),
        reason: "SUBJECT_REQUEST".into(),
        generation: 9,
        leaf_index: 77,
        signed_bytes: STANDARD.encode(bytes),
        signature: STANDARD.encode(sign_for_test(SEED, bytes).1),
    }
}

#[test]
fn the_layout_is_that_of_the_format() {
    let made = bytes(1);
    assert_eq!(made.len(), 3 + 16 + 208 + 1 + 1 + 8);
    let signed = decode(&made).unwrap();
    assert_eq!((signed.seq, signed.generation, signed.kid.slot), (77, 9, 7));
    assert_eq!((signed.requested, signed.removed, signed.scrubbed), (1_000, 2_000, 3_000));
    assert_eq!(signed.medium, Medium::InPlaceFile);
    for n in 0..made.len() {
        assert_eq!(decode(&made[..n]), None, "{n}");
    }
    let mut longer = made.clone();
    longer.push(0);
    assert_eq!(decode(&longer), None);
    for at in [0, 19, 23 + 1, 221, 227, 228] {
        let mut spoilt = made.clone();
        spoilt[at] = 99;
        assert_eq!(decode(&spoilt), None, "byte {at}");
    }
}

#[test]
fn a_true_receipt_verifies_and_says_which_version() {
    let verified = verify(&saved(&bytes(1)), key_of(SEED)).unwrap();
    assert_eq!(verified.bound, Bound::Version(2));
    assert_eq!(verified.signed.level, ErasureLevel::LocalAnchor);
    assert_eq!(verify(&saved(&bytes(4)), key_of(SEED)).unwrap().bound, Bound::Bucket);
}

#[test]
fn the_key_in_the_callers_hand_decides() {
    let error = verify(&saved(&bytes(1)), key_of([4; 32])).unwrap_err();
    assert!(error.contains("not from the holder"), "{error}");
}

#[test]
fn every_spoilt_byte_is_noticed() {
    let made = bytes(1);
    for at in 0..made.len() {
        let mut receipt = saved(&made);
        let mut spoilt = made.clone();
        spoilt[at] ^= 1;
        receipt.signed_bytes = STANDARD.encode(&spoilt);
        assert!(verify(&receipt, key_of(SEED)).is_err(), "byte {at}");
    }
}

#[test]
fn what_stands_beside_the_signature_must_agree_with_it() {
    type Spoil = fn(&mut Saved);
    let spoil: [(&str, Spoil); 5] = [
        ("level", |r| r.level = "E2_ALL_ANCHORS_SCRUBBED".into()),
        ("reason", |r| r.reason = "RETENTION".into()),
        ("generation", |r| r.generation = 10),
        ("leaf_index", |r| r.leaf_index = 78),
        ("name", |r| r.name = format!("tenants/a/records/{}", RecordId([0x0c; 16]))),
    ];
    for (claim, change) in spoil {
        let mut receipt = saved(&bytes(1));
        change(&mut receipt);
        let error = verify(&receipt, key_of(SEED)).unwrap_err();
        assert!(error.contains(claim), "{claim}: {error}");
    }
}

#[test]
fn a_saved_file_reads_back() {
    let made = bytes(1);
    let wire = ErasureReceipt {
        name: saved(&made).name,
        level: 2,
        reason: 1,
        generation: 9,
        leaf_index: 77,
        signed_bytes: made.clone(),
        signature: sign_for_test(SEED, &made).1,
        ..ErasureReceipt::default()
    };
    let text = json!({ "receipts": [receipt_json(&wire)] }).to_string();
    let file: File = serde_json::from_str(&text).unwrap();
    assert!(verify(&file.receipts[0], key_of(SEED)).is_ok());
}

#[test]
fn a_public_key_is_64_hex_digits() {
    assert_eq!(public_key(&"0A".repeat(32)), Ok(PublicKey([10; 32])));
    for bad in ["", "0a", &"0g".repeat(32), &"+1".repeat(32), &"é".repeat(32)] {
        assert!(public_key(bad).is_err(), "{bad}");
    }
}

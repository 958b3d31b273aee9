//! The ledger and receipt commands against ledgers made by an independent writer.

mod common;

use common::writer::*;
use common::*;

#[test]
fn the_ledger_is_recomputed() {
    let mut v = small();
    for slot in 0..2 {
        v.erase((0, 0, 0), slot, Mutant::None);
    }
    let case = Case::new(&v);
    let line = "ledger --history @history --kek @kek --anchor @anchor";
    let a = case.run(line);
    assert_eq!((a.code, &a.json["anchors"][0]["ledger_size"]), (0, &3.into()));
    assert_eq!(a.json["anchors"][0]["batch_hash_ok"], true);
    assert_eq!(case.run(&format!("{line} --anchor-from-history")).code, 0);

    // A batch that crashed before its anchor leaves a leaf that does not count.
    let mut other = v.ledger[2];
    other[100] ^= 1;
    v.row(b"l", &other);
    case.update(&v);
    let a = case.run(line);
    assert_eq!((a.code, &a.json["anchors"][0]["competing_leaves"]), (0, &1.into()));

    let forged = other;
    let real = v.ledger[2];
    let at = v.disk.files[&STORE].windows(208).position(|w| w == real).unwrap();
    let mut store = v.disk.files[&STORE].clone();
    store[at..at + 208].copy_from_slice(&forged);
    case.save("forged", &store);
    assert_eq!(case.run("ledger --file @forged --kek @kek --anchor @anchor").code, 3);
}

#[test]
fn receipts_verify_or_not() {
    use ed25519_dalek::{Signer, SigningKey};
    let v = small();
    let key = SigningKey::from_bytes(&v.signing_seed);
    let signed = [b"VE1", &v.id[..], &v.ledger[0], &[1, 1], &77i64.to_be_bytes()].concat();
    let base64 = lethe_oracle::encoding::base64;
    let write = |signed: &[u8], signature: &[u8]| {
        format!(
            "{{\"receipt\":{{\"signed_bytes\":\"{}\",\"signature\":\"{}\"}}}}",
            base64(signed),
            base64(signature)
        )
    };
    let signature = key.sign(&signed).to_bytes();
    let case = Case::new(&v);
    let receipt_key = case.run(PLAIN).json["receipt_keys"][0].as_str().unwrap().to_owned();
    let line = format!("receipt @receipt.json --key {receipt_key}");
    case.save("receipt.json", write(&signed, &signature).as_bytes());
    let a = case.run(&line);
    assert_eq!((a.code, &a.json["receipts"][0]["scrubbed"]), (0, &77.into()));
    assert_eq!(a.json["receipts"][0]["leaf"]["kind_name"], "record_version");
    let mut changed = signed.clone();
    changed[230] ^= 1;
    case.save("receipt.json", write(&changed, &signature).as_bytes());
    assert_eq!(case.run(&line).code, 3);
    case.save("receipt.json", b"{}");
    assert_eq!(case.run(&line).code, 3, "no receipt is not a valid receipt");
}

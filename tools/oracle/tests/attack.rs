//! The reader against vaults made by an independent writer: what must open opens, what must not stays shut.

mod writer;

use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;
use writer::*;

/// Files of one attack, and the last answer.
struct Case {
    dir: TempDir,
}

struct Answer {
    code: i32,
    json: Value,
}

impl Answer {
    /// Texts of the records that opened, sorted.
    fn texts(&self) -> Vec<String> {
        let fields = self.json["records"].as_array().unwrap().iter();
        let mut all: Vec<String> = fields
            .filter(|r| r["complete"] == true)
            .map(|r| r["fields"][0]["text"].as_str().unwrap().to_owned())
            .collect();
        all.sort();
        all
    }

    fn count(&self, key: &str) -> usize {
        self.json[key].as_array().unwrap().len()
    }
}

impl Case {
    fn new(vault: &Vault) -> Self {
        let case = Case {
            dir: tempfile::tempdir().unwrap(),
        };
        case.save("kek", writer_hex(&KEK).as_bytes());
        case.save("wrong-kek", "11".repeat(32).as_bytes());
        case.update(vault);
        case
    }

    fn update(&self, vault: &Vault) {
        self.save("history", &vault.disk.history);
        self.save("store", &vault.disk.files[&STORE]);
        if let Some(anchor) = vault.disk.files.get(&ANCHOR) {
            self.save("anchor", anchor);
        }
    }

    fn save(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Runs the reader; words that start with `@` are files of this case.
    fn run(&self, line: &str) -> Answer {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lethe-oracle"));
        for word in line.split_whitespace() {
            match word.strip_prefix('@') {
                Some(name) => command.arg(self.dir.path().join(name)),
                None => command.arg(word),
            };
        }
        let out = command.output().unwrap();
        let json = serde_json::from_slice(&out.stdout).unwrap_or(Value::Null);
        Answer {
            code: out.status.code().unwrap(),
            json,
        }
    }
}

fn writer_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect::<String>() + "\n"
}

fn record(n: u8) -> [u8; 16] {
    [n; 16]
}

const EDGES: [u32; 10] = [
    0, 63, 64, 127, 2_111, 2_112, 6_208, 133_183, 133_184, 16_777_215,
];
const PLAIN: &str = "open --history @history --kek @kek --anchor @anchor";

/// Two records in one page, one in another tenant.
fn small() -> Vault {
    let mut v = Vault::new();
    v.put(
        (0, 0, 0),
        0,
        record(1),
        &field_map(record(9), "victim-text"),
    );
    v.put(
        (0, 0, 0),
        1,
        record(2),
        &field_map(record(9), "survivor-text"),
    );
    v.put(
        (1, 0, 0),
        0,
        record(3),
        &field_map(record(8), "bystander-text"),
    );
    v.put_index((0, 0, 0), 3, 0, 4, b"victim-text");
    v.put_index((0, 0, 0), 3, 1, 4, b"survivor-text");
    v.put_meta(0, "{\"name\":\"tenant zero\"}");
    v.add_leaf(&[2; 32]);
    v.commit(&[1, 0]);
    v
}

#[test]
fn everything_opens_at_every_ordinal() {
    let mut v = Vault::new();
    for (i, n) in EDGES.into_iter().enumerate() {
        let i = i as u8 * 3;
        v.put(
            (n, 1, 2),
            0,
            record(i),
            &field_map(record(99), &format!("tenant {n}")),
        );
        v.put(
            (5, n, 2),
            1,
            record(i + 1),
            &field_map(record(99), &format!("bucket {n}")),
        );
        v.put(
            (5, 1, n),
            2,
            record(i + 2),
            &field_map(record(99), &format!("page {n}")),
        );
        v.put_index((5, 1, 2), n, 1, 4, &n.to_be_bytes());
        v.put_meta(n, &format!("{{\"ordinal\":{n}}}"));
    }
    v.commit(&[1, 0]);
    let case = Case::new(&v);
    for input in ["--history @history", "--file @store"] {
        let a = case.run(&format!(
            "open {input} --kek @wrong-kek --kek @kek --anchor @anchor"
        ));
        assert_eq!(a.code, 0);
        assert_eq!(a.texts().len(), 3 * EDGES.len(), "{input}");
        assert_eq!(a.count("sealed_records"), 0);
        assert_eq!(a.count("index_entries"), EDGES.len());
        assert_eq!(a.count("metadata"), EDGES.len());
        assert_eq!(a.json["format_warnings"], serde_json::json!([]));
        for (kind, n) in a.json["nodes"].as_object().unwrap() {
            assert_eq!(n["opened"], n["distinct"], "{kind}");
        }
        assert!(a.json["nodes"]["leaf_dir"]["opened"].as_u64().unwrap() >= 6);
    }
}

#[test]
fn a_wrong_kek_opens_nothing() {
    let case = Case::new(&small());
    let a =
        case.run("open --history @history --kek @wrong-kek --anchor @anchor --anchor-from-history");
    assert_eq!(
        (a.count("anchors"), a.count("records"), a.count("metadata")),
        (0, 0, 0)
    );
    assert_eq!(a.count("sealed_records"), 3);
    assert_eq!(a.json["nodes"]["root"]["opened"], 0);
}

#[test]
fn erased_is_shut_after_and_open_before() {
    let mut v = small();
    let case = Case::new(&v);
    assert_eq!(
        case.run(PLAIN).texts(),
        ["bystander-text", "survivor-text", "victim-text"]
    );
    fs::copy(
        case.dir.path().join("anchor"),
        case.dir.path().join("old-anchor"),
    )
    .unwrap();
    v.erase((0, 0, 0), 0, Mutant::None);
    case.update(&v);

    let after = case.run(&format!("{PLAIN} --find survivor-text"));
    assert_eq!(after.texts(), ["bystander-text", "survivor-text"]);
    assert_eq!(after.count("sealed_records"), 1);
    assert_eq!(
        after.json["sealed_records"][0]["kid"],
        "00000000000000000000"
    );
    assert_eq!(after.json["format_warnings"], serde_json::json!([]));
    assert_eq!(after.code, 3);
    assert_eq!(after.json["find"][0]["fields"][0]["rec_ver"], 1);

    for before in ["--anchor @old-anchor", "--anchor-from-history"] {
        let a = case.run(&format!("{PLAIN} {before}"));
        assert_eq!(
            a.texts(),
            ["bystander-text", "survivor-text", "victim-text"],
            "{before}"
        );
        assert!(a.count("anchors") >= 4);
    }
}

#[test]
fn mutants_are_caught() {
    for mutant in [
        Mutant::ReusePageKey,
        Mutant::ReuseRootKey,
        Mutant::SkipScrub,
    ] {
        let mut v = small();
        v.erase((0, 0, 0), 0, mutant);
        let a = Case::new(&v).run(PLAIN);
        assert_eq!(
            a.texts(),
            ["bystander-text", "survivor-text", "victim-text"]
        );
    }
}

/// The record is shut, but the index leaf that still names it confirms a guess of its value.
#[test]
fn an_index_entry_left_behind_is_found() {
    let mut v = small();
    v.erase((0, 0, 0), 0, Mutant::None);
    let case = Case::new(&v);
    let a = case.run(&format!("{PLAIN} --find victim-text"));
    assert_eq!(
        (
            a.code,
            a.json["find"][0]["fields"].as_array().unwrap().len()
        ),
        (3, 0)
    );
    assert_eq!(
        a.json["find"][0]["index_tokens"][0]["kid"],
        "00000000000000000000"
    );
    assert_eq!(case.run(&format!("{PLAIN} --find nobody-text")).code, 0);
}

#[test]
fn rows_split_across_writes_are_found() {
    for piece in [1, 5, 64, 100] {
        let mut v = Vault::new();
        v.piece = piece;
        v.put(
            (0, 0, 0),
            0,
            record(1),
            &field_map(record(9), &"x".repeat(9_000)),
        );
        v.commit(&[1, 0]);
        let a = Case::new(&v).run(PLAIN);
        assert_eq!(a.texts(), ["x".repeat(9_000)], "pieces of {piece}");
    }
}

#[test]
fn padding_and_chunks() {
    let mut v = Vault::new();
    // 45 bytes go to the length, the fixed part and the field's own head.
    let totals = [
        64, 65, 1_024, 1_025, 1_088, 1_089, 7_936, 7_937, 15_872, 16_000, 40_000, 100_000,
    ];
    for (i, total) in totals.into_iter().enumerate() {
        let map = field_map(record(9), &"y".repeat(total - 45));
        assert!(map.len() >= total && map.len() <= total + total / 8 + 64);
        v.put((0, 0, 0), (i % 8) as u8, record(i as u8), &map);
        v.put((0, 0, i as u32), 7, record(100 + i as u8), &map);
    }
    v.commit(&[1, 0]);
    let a = Case::new(&v).run(PLAIN);
    let mut lengths: Vec<usize> = a.texts().iter().map(String::len).collect();
    lengths.dedup();
    assert_eq!(lengths, totals.map(|t| t - 45));
    assert_eq!(a.json["format_warnings"], serde_json::json!([]));

    let mut padded = field_map(record(9), "odd");
    padded.extend([0; 64]);
    v.put((0, 0, 0), 0, record(1), &padded);
    let a = Case::new(&v).run(PLAIN);
    assert!(
        a.json["format_warnings"][0]
            .as_str()
            .unwrap()
            .contains("padded to 128")
    );
}

#[test]
fn plaintext_in_clear_is_seen() {
    let mut v = small();
    v.erase((0, 0, 0), 0, Mutant::None);
    v.leaves.clear();
    let case = Case::new(&v);
    assert_eq!(case.run(&format!("{PLAIN} --find passport-4711")).code, 0);
    let (a, b) = "passport-4711".as_bytes().split_at(4);
    v.disk.append(9, a);
    v.disk.append(9, b);
    v.disk.write(9, 0, &[0; 13]);
    case.update(&v);
    let a = case.run(&format!("{PLAIN} --find passport-4711"));
    assert_eq!(a.code, 3, "across two writes, and gone since");
    assert_eq!(a.json["find"][0]["clear"][0]["encoding"], "raw");
    case.save("dump", b"xxcGFzc3BvcnQtNDcxMQ==");
    let a = case.run(&format!(
        "open --dir {} --find passport-4711",
        case.dir.path().display()
    ));
    assert_eq!(
        (a.code, &a.json["find"][0]["clear"][0]["encoding"]),
        (3, &"base64".into())
    );
}

#[test]
fn a_sweep_finds_a_stray_key() {
    let mut v = small();
    let dek = v.pages[&(0, 0, 0)].slots[0];
    v.erase((0, 0, 0), 0, Mutant::None);
    let case = Case::new(&v);
    let line = format!("{PLAIN} --sweep --target 01010101-0101-0101-0101-010101010101");
    let a = case.run(&line);
    assert_eq!((a.code, &a.json["sweep"]["aimed_at"]), (0, &1.into()));
    assert!(a.json["sweep"]["windows_tried"].as_u64().unwrap() > 1_000);
    assert_eq!(a.json["sweep"]["bound_hit"], false);
    assert_eq!(
        case.run(&format!("{line} --sweep-max 50")).json["sweep"]["bound_hit"],
        true
    );

    v.disk.append(9, &[b"junk", &dek[..20]].concat());
    v.disk.append(9, &[&dek[20..], b"junk"].concat());
    case.update(&v);
    let a = case.run(&line);
    assert_eq!(a.code, 4);
    assert!(a.texts().contains(&"victim-text".to_owned()));
}

#[test]
fn the_ledger_is_recomputed() {
    let mut v = small();
    for slot in 0..2 {
        v.erase((0, 0, 0), slot, Mutant::None);
    }
    let case = Case::new(&v);
    let line = "ledger --history @history --kek @kek --anchor @anchor";
    let a = case.run(line);
    assert_eq!(
        (a.code, &a.json["anchors"][0]["ledger_size"]),
        (0, &3.into())
    );
    assert_eq!(a.json["anchors"][0]["batch_hash_ok"], true);
    assert_eq!(case.run(&format!("{line} --anchor-from-history")).code, 0);

    // A batch that crashed before its anchor leaves a leaf that does not count.
    let mut other = v.ledger[2];
    other[100] ^= 1;
    v.row(b"l", &other);
    case.update(&v);
    let a = case.run(line);
    assert_eq!(
        (a.code, &a.json["anchors"][0]["competing_leaves"]),
        (0, &1.into())
    );

    let forged = other;
    let real = v.ledger[2];
    let at = v.disk.files[&STORE]
        .windows(208)
        .position(|w| w == real)
        .unwrap();
    let mut store = v.disk.files[&STORE].clone();
    store[at..at + 208].copy_from_slice(&forged);
    case.save("forged", &store);
    assert_eq!(
        case.run("ledger --file @forged --kek @kek --anchor @anchor")
            .code,
        3
    );
}

#[test]
fn receipts_verify_or_not() {
    use ed25519_dalek::{Signer, SigningKey};
    let v = small();
    let key = SigningKey::from_bytes(&v.signing_seed);
    let signed = [
        b"VE1",
        &v.id[..],
        &v.ledger[0],
        &[1, 1],
        &77i64.to_be_bytes(),
    ]
    .concat();
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
    let receipt_key = case.run(PLAIN).json["receipt_keys"][0]
        .as_str()
        .unwrap()
        .to_owned();
    let line = format!("receipt @receipt.json --key {receipt_key}");
    case.save("receipt.json", write(&signed, &signature).as_bytes());
    let a = case.run(&line);
    assert_eq!(
        (a.code, &a.json["receipts"][0]["scrubbed"]),
        (0, &77.into())
    );
    assert_eq!(a.json["receipts"][0]["leaf"]["kind_name"], "record_version");
    let mut changed = signed.clone();
    changed[230] ^= 1;
    case.save("receipt.json", write(&changed, &signature).as_bytes());
    assert_eq!(case.run(&line).code, 3);
    case.save("receipt.json", b"{}");
    assert_eq!(case.run(&line).code, 3, "no receipt is not a valid receipt");
}

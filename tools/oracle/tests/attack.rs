//! The reader against vaults made by an independent writer: what must open opens, what must not stays shut.

mod common;

use common::writer::*;
use common::*;
use std::fs;

const EDGES: [u32; 10] = [0, 63, 64, 127, 2_111, 2_112, 6_208, 133_183, 133_184, 16_777_215];

#[test]
fn everything_opens_at_every_ordinal() {
    let mut v = Vault::new();
    for (i, n) in EDGES.into_iter().enumerate() {
        let i = i as u8 * 3;
        v.put((n, 1, 2), 0, record(i), &field_map(record(99), &format!("tenant {n}")));
        v.put((5, n, 2), 1, record(i + 1), &field_map(record(99), &format!("bucket {n}")));
        v.put((5, 1, n), 2, record(i + 2), &field_map(record(99), &format!("page {n}")));
        v.put_index((5, 1, 2), n, 1, 4, &n.to_be_bytes());
        v.put_meta(n, &format!("{{\"ordinal\":{n}}}"));
    }
    v.commit(&[1, 0]);
    let case = Case::new(&v);
    for input in ["--history @history", "--file @store"] {
        let a = case.run(&format!("open {input} --kek @wrong-kek --kek @kek --anchor @anchor"));
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
    assert_eq!((a.count("anchors"), a.count("records"), a.count("metadata")), (0, 0, 0));
    assert_eq!(a.count("sealed_records"), 3);
    assert_eq!(a.json["nodes"]["root"]["opened"], 0);
}

#[test]
fn erased_is_shut_after_and_open_before() {
    let mut v = small();
    let case = Case::new(&v);
    assert_eq!(case.run(PLAIN).texts(), ["bystander-text", "survivor-text", "victim-text"]);
    fs::copy(case.dir.path().join("anchor"), case.dir.path().join("old-anchor")).unwrap();
    v.erase((0, 0, 0), 0, Mutant::None);
    case.update(&v);

    let after = case.run(&format!("{PLAIN} --find survivor-text"));
    assert_eq!(after.texts(), ["bystander-text", "survivor-text"]);
    assert_eq!(after.count("sealed_records"), 1);
    assert_eq!(after.json["sealed_records"][0]["kid"], "00000000000000000000");
    assert_eq!(after.json["format_warnings"], serde_json::json!([]));
    assert_eq!(after.code, 3);
    assert_eq!(after.json["find"][0]["fields"][0]["rec_ver"], 1);

    for before in ["--anchor @old-anchor", "--anchor-from-history"] {
        let a = case.run(&format!("{PLAIN} {before}"));
        assert_eq!(a.texts(), ["bystander-text", "survivor-text", "victim-text"], "{before}");
        assert!(a.count("anchors") >= 4);
    }
}

#[test]
fn mutants_are_caught() {
    for mutant in [Mutant::ReusePageKey, Mutant::ReuseRootKey, Mutant::SkipScrub] {
        let mut v = small();
        v.erase((0, 0, 0), 0, mutant);
        let a = Case::new(&v).run(PLAIN);
        assert_eq!(a.texts(), ["bystander-text", "survivor-text", "victim-text"]);
    }
}

/// The record is shut, but the index leaf that still names it confirms a guess of its value.
#[test]
fn an_index_entry_left_behind_is_found() {
    let mut v = small();
    v.erase((0, 0, 0), 0, Mutant::None);
    let case = Case::new(&v);
    let a = case.run(&format!("{PLAIN} --find victim-text"));
    assert_eq!((a.code, a.json["find"][0]["fields"].as_array().unwrap().len()), (3, 0));
    assert_eq!(a.json["find"][0]["index_tokens"][0]["kid"], "00000000000000000000");
    assert_eq!(case.run(&format!("{PLAIN} --find nobody-text")).code, 0);
}

#[test]
fn rows_split_across_writes_are_found() {
    for piece in [1, 5, 64, 100] {
        let mut v = Vault::new();
        v.piece = piece;
        v.put((0, 0, 0), 0, record(1), &field_map(record(9), &"x".repeat(9_000)));
        v.commit(&[1, 0]);
        let a = Case::new(&v).run(PLAIN);
        assert_eq!(a.texts(), ["x".repeat(9_000)], "pieces of {piece}");
    }
}

#[test]
fn padding_and_chunks() {
    let mut v = Vault::new();
    // 77 bytes go to the length, the fixed part and the field's own head.
    let totals =
        [80, 81, 1_024, 1_025, 1_088, 1_089, 7_936, 7_937, 15_872, 16_000, 40_000, 100_000];
    for (i, total) in totals.into_iter().enumerate() {
        let map = field_map(record(9), &"y".repeat(total - 77));
        assert!(map.len() >= total && map.len() <= total + total / 8 + 64);
        v.put((0, 0, 0), (i % 8) as u8, record(i as u8), &map);
        v.put((0, 0, i as u32), 7, record(100 + i as u8), &map);
    }
    v.commit(&[1, 0]);
    let a = Case::new(&v).run(PLAIN);
    let mut lengths: Vec<usize> = a.texts().iter().map(String::len).collect();
    lengths.dedup();
    assert_eq!(lengths, totals.map(|t| t - 77));
    assert_eq!(a.json["format_warnings"], serde_json::json!([]));

    let mut padded = field_map(record(9), "odd");
    padded.extend([0; 64]);
    v.put((0, 0, 0), 0, record(1), &padded);
    let a = Case::new(&v).run(PLAIN);
    assert!(a.json["format_warnings"][0].as_str().unwrap().contains("padded to 192"));
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
    let a = case.run(&format!("open --dir {} --find passport-4711", case.dir.path().display()));
    assert_eq!((a.code, &a.json["find"][0]["clear"][0]["encoding"]), (3, &"base64".into()));
}

#[test]
fn a_sweep_finds_a_stray_key() {
    let mut v = small();
    let dek = v.pages[&(0, 0, 0)].slots[0];
    v.erase((0, 0, 0), 0, Mutant::None);
    let case = Case::new(&v);
    let line = format!("{PLAIN} --sweep --target 01010101-0101-0101-0101-010101010101");
    let a = case.run(&line);
    assert_eq!((a.code, &a.json["sweep"]["aimed_at_records"]), (0, &1.into()));
    assert!(a.json["sweep"]["windows_tried"].as_u64().unwrap() > 1_000);
    assert_eq!(a.json["sweep"]["bound_hit"], false);
    assert_eq!(case.run(&format!("{line} --sweep-max 50")).json["sweep"]["bound_hit"], true);

    v.disk.append(9, &[b"junk", &dek[..20]].concat());
    v.disk.append(9, &[&dek[20..], b"junk"].concat());
    case.update(&v);
    let a = case.run(&line);
    assert_eq!(a.code, 4);
    assert!(a.texts().contains(&"victim-text".to_owned()));
}

/// The key of the old page is as good as the DEK: it must be looked for too.
#[test]
fn a_sweep_finds_a_stray_page_key() {
    let mut v = small();
    let (key, _) = v.keys[&path(7, 0, 0, 0, 0, 0)];
    v.erase((0, 0, 0), 0, Mutant::None);
    v.disk.append(9, &key);
    let line = format!("{PLAIN} --sweep --target 01010101-0101-0101-0101-010101010101");
    let a = Case::new(&v).run(&line);
    assert_eq!((a.code, &a.json["sweep"]["opened"][0]["node"]), (4, &"page".into()));
    assert!(a.texts().contains(&"victim-text".to_owned()));
}

/// An update that keeps the DEK: the new version's slot opens the erased one.
#[test]
fn a_dek_shared_by_two_versions_is_found() {
    let mut v = small();
    let dek = v.pages[&(0, 0, 0)].slots[0];
    v.put((0, 0, 1), 0, record(50), &field_map(record(9), "makes the page"));
    v.pages.get_mut(&(0, 0, 1)).unwrap().slots[1] = dek;
    v.put((0, 0, 1), 1, record(1), &field_map(record(9), "second version"));
    v.erase((0, 0, 0), 0, Mutant::None);
    assert!(Case::new(&v).run(PLAIN).texts().contains(&"victim-text".to_owned()));
}

/// The log's pseudonyms are tied to a subject by its records, to a record by its own versions, and by nothing once they
/// are gone.
#[test]
fn the_audit_log_names_whom_a_record_that_opens_is_about() {
    for (mutant, named) in [(Mutant::None, false), (Mutant::ReusePageKey, true)] {
        let mut v = small();
        v.tell(0, record(9), "victim-text");
        v.tell(1, record(8), "bystander-text");
        v.tell(2, record(7), "nobody's");
        let case = Case::new(&v);
        let names = |line: &str| -> (Vec<(u64, String, Option<String>)>, u64) {
            let audit = case.run(line).json["audit"].clone();
            let one = |n: &serde_json::Value| {
                let name = |of: &str| n[of].as_str().map(str::to_owned);
                (n["seq"].as_u64().unwrap(), name("subject").unwrap(), name("record"))
            };
            let named = audit["named"].as_array().unwrap().iter().map(one).collect();
            (named, audit["unnamed"].as_u64().unwrap())
        };
        let id = |n: u8| {
            let pair = format!("{n:02x}").repeat(2);
            format!("{pair}{pair}-{pair}-{pair}-{pair}-{pair}{pair}{pair}")
        };
        let eight = (1, id(8), Some(id(3)));
        let both = (vec![(0, id(9), Some(id(1))), eight.clone()], 1);
        assert_eq!(names(PLAIN), both, "nobody's is unnamed");
        v.erase((0, 0, 0), 0, mutant);
        case.update(&v);
        let record = named.then(|| id(1));
        let left = (vec![(0, id(9), record), eight.clone()], 1);
        assert_eq!(names(PLAIN), left, "a record of theirs is left, but not this one");
        v.erase((0, 0, 0), 1, mutant);
        case.update(&v);
        let now = if named { both.clone() } else { (vec![eight], 2) };
        assert_eq!(names(PLAIN), now);
        assert_eq!(names(&format!("{PLAIN} --anchor-from-history")), both, "control");
    }
}

/// A request id stays for a day. What was asked for can be confirmed by who guesses it while the version's key is in
/// the tree, and never after.
#[test]
fn a_request_is_confirmed_as_long_as_its_version_lives() {
    for (mutant, confirmed) in [(Mutant::None, false), (Mutant::ReusePageKey, true)] {
        let mut v = small();
        v.remember((0, 0, 0), 0, record(1), b"asked for the victim");
        v.remember((0, 0, 0), 1, record(2), b"asked for the survivor");
        v.remember_import(1, 9, &[record(3), [0; 16]]);
        let case = Case::new(&v);
        case.save("victim", b"asked for the victim");
        case.save("survivor", b"asked for the survivor");
        case.save("nobody", b"asked for nobody");
        let line = format!("{PLAIN} --asked @victim --asked @survivor --asked @nobody");
        let confirms = |line: &str| -> Vec<(u64, String, Vec<String>)> {
            let a = case.run(line);
            let rows = a.json["requests"].as_array().unwrap().clone();
            let name = |f: &serde_json::Value| {
                f.as_str().and_then(|f| f.rsplit_once('/')).unwrap().1.to_owned()
            };
            let names = |r: &serde_json::Value| {
                r["confirms"].as_array().unwrap().iter().map(name).collect()
            };
            let record = |r: &serde_json::Value| r["record"].as_str().unwrap().to_owned();
            rows.iter().map(|r| (r["op"].as_u64().unwrap(), record(r), names(r))).collect()
        };
        let (first, second) =
            ("01010101-0101-0101-0101-010101010101", "02020202-0202-0202-0202-020202020202");
        let row = |id: &str, names: &[&str]| {
            (1, id.to_owned(), names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>())
        };
        let both = [row(first, &["victim"]), row(second, &["survivor"])];
        assert_eq!(confirms(&line), both);
        v.erase((0, 0, 0), 0, mutant);
        case.update(&v);
        let now = if confirmed { both.clone() } else { [row(first, &[]), both[1].clone()] };
        assert_eq!(confirms(&line), now, "after the erasure");
        assert_eq!(confirms(&format!("{line} --anchor-from-history")), both, "control");
        let a = case.run(PLAIN);
        let third = "03030303-0303-0303-0303-030303030303";
        assert_eq!(
            a.json["imports"],
            serde_json::json!([{"written": 7, "first": 9, "records": [third, null]}])
        );
        // A row whose sum does not fit is no row.
        let mut spoilt = v.disk.files[&STORE].clone();
        let at = spoilt.windows(5).position(|w| w == b"LTP1\x01").unwrap();
        spoilt[at + 20] ^= 1;
        case.save("store", &spoilt);
        assert_eq!(case.run("open --file @store --kek @kek --anchor @anchor").count("requests"), 1);
    }
}

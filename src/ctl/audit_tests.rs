//! An export is verified offline: what was changed in it, left out of it or added to it is noticed.

use std::path::PathBuf;

use super::*;
use crate::audit::{Act, Book, Entry, Kind, entries_in, purpose_hash};
use crate::clock::UnixMillis;
use crate::crypto::Signer;
use crate::ctl::cli::Format;
use crate::ctl::receipt::public_key;
use crate::id::{Gen, VaultId};
use crate::store::Chronicle;

const VAULT: VaultId = VaultId([7; 16]);
const WHO: &str = "spiffe://test/application";

/// A log of some entries, and its export after the first `size` of them.
struct Log {
    dir: tempfile::TempDir,
    signer: Signer,
    leaves: Vec<Vec<u8>>,
}

impl Log {
    fn new() -> Self {
        Self::ending_with(None)
    }

    fn ending_with(last: Option<Entry>) -> Self {
        let mut book = Book::default();
        let at = |n: i64| UnixMillis(1_700_000_000_000 + n);
        let principal = principal_hash(VAULT, WHO);
        let entries: Vec<Vec<u8>> = [
            Entry::new(Kind::Vault, Act::Open, at(0)),
            Entry { principal, ..Entry::new(Kind::Call, Act::GetRecord, at(1)) },
            Entry { since: at(1), ..Entry::new(Kind::Gap, Act::Open, at(5)) },
            Entry {
                principal,
                total: 9,
                code: 7,
                ..Entry::new(Kind::Refusals, Act::GetRecord, at(6))
            },
            Entry {
                purpose: purpose_hash(VAULT, "x"),
                principal,
                ..Entry::new(Kind::Call, Act::ListRecords, at(7))
            },
        ]
        .iter()
        .chain(&last)
        .flat_map(Entry::encode)
        .collect();
        let writes = book.append(entries);
        let leaves = writes.iter().filter_map(|(_, value)| entries_in(value.as_ref()?));
        let leaves = leaves.flatten().map(<[u8]>::to_vec).collect();
        let signer = Signer::from_seed(&[3; 32]).unwrap();
        Self { dir: tempfile::tempdir().unwrap(), signer, leaves }
    }

    fn lines(&self, size: usize) -> Vec<String> {
        self.lines_from(0, size)
    }

    fn lines_from(&self, begins: usize, size: usize) -> Vec<String> {
        let mut pruned = Frontier::default();
        self.leaves.iter().take(begins).for_each(|l| pruned.push(leaf_hash(l)));
        let mut tree = Frontier::default();
        self.leaves.iter().take(size).for_each(|l| tree.push(leaf_hash(l)));
        let head = Head {
            vault: VAULT,
            size: tree.size(),
            root: tree.root(),
            generation: Gen(1),
            at: UnixMillis(1_700_000_000_100),
        };
        let mut lines = vec![
            json!({ "head": {
                "signed_bytes": STANDARD.encode(head.bytes()),
                "signature": STANDARD.encode(head.sign(&self.signer)),
                "minimum_index": begins,
                "minimum_peaks":
                    pruned.peaks().iter().map(|p| STANDARD.encode(p)).collect::<Vec<_>>(),
            }})
            .to_string(),
        ];
        for (index, leaf) in self.leaves.iter().take(size).enumerate().skip(begins) {
            let entry = Entry::decode(leaf).unwrap();
            let principal = if entry.principal == [0; 16] { "" } else { WHO };
            lines.push(
                json!({ "index": index, "principal": principal, "method": entry.act.name(),
                    "leaf": STANDARD.encode(leaf) })
                .to_string(),
            );
        }
        lines
    }

    fn write(&self, name: &str, lines: &[String]) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
        path
    }

    fn key(&self) -> PublicKey {
        public_key(&hex(&self.signer.public_key())).unwrap()
    }

    /// What is printed, or why the file is refused.
    fn verify(&self, lines: &[String], earlier: Option<&[String]>) -> Result<Json, String> {
        let file = self.write("log", lines);
        let earlier = earlier.map(|lines| self.write("earlier", lines));
        let (mut out, said) = Out::captured(Format::Json);
        let done = verify(&file, &self.key(), earlier.as_deref(), &mut out);
        done.map_err(|e| e.text())?;
        drop(out);
        let said = said.lock().unwrap();
        Ok(serde_json::from_slice(&said).unwrap())
    }
}

#[test]
fn a_whole_export_holds_and_says_what_it_has() {
    let log = Log::new();
    let said = log.verify(&log.lines(5), Some(&log.lines(2))).unwrap();
    assert_eq!((&said["entries"], &said["calls"]), (&json!(5), &json!(2)));
    assert_eq!(said["refused_calls"], json!(9));
    assert_eq!(said["gaps"].as_array().unwrap().len(), 1);
    assert_eq!(said["continues_earlier"], json!(true));
    assert_eq!(log.verify(&log.lines(5), Some(&log.lines(5))).unwrap()["entries"], json!(5));
    assert_eq!(log.verify(&log.lines(0), None).unwrap()["entries"], json!(0));
}

#[test]
fn every_change_of_an_export_is_noticed() {
    let log = Log::new();
    let good = log.lines(5);
    let changed = |change: &dyn Fn(&mut Vec<String>)| {
        let mut lines = good.clone();
        change(&mut lines);
        log.verify(&lines, None).unwrap_err()
    };
    type Change<'a> = &'a dyn Fn(&mut Vec<String>);
    let cases: [(Change<'_>, &str); 10] = [
        (&|l| drop(l.remove(2)), "follows"),
        (&|l| l.swap(2, 3), "follows"),
        (&|l| drop(l.pop()), "not the 5 of the signed head"),
        (&|l| l.push(l[5].clone()), "follows"),
        (&|l| l[2] = l[2].replace(WHO, "spiffe://test/other"), "another principal"),
        (&|l| l[2] = l[2].replace("GetRecord", "ListRecords"), "another method"),
        (&|l| l[2] = l[2].replace("\"leaf\":\"", "\"leaf\":\"!"), "base64"),
        (&|l| l[2] = "{}".to_owned(), "not an entry"),
        (&|l| l[0] = l[1].clone(), "not the head"),
        (&|l| l.clear(), "not the head"),
    ];
    for (change, why) in cases {
        let said = changed(change);
        assert!(said.contains(why), "{why}: {said}");
    }
    // A log that was written anew from its third entry on, with a head that fits: the head that is kept tells.
    let mut other = Log::new();
    let at = UnixMillis(1);
    let leaf = Entry { seq: 2, ..Entry::new(Kind::Call, Act::GetRecord, at) }.encode().remove(0);
    other.leaves[2] = leaf;
    let lines = other.lines(5);
    assert!(log.verify(&lines, None).is_ok(), "control: it holds in itself");
    assert!(log.verify(&lines, Some(&log.lines(2))).is_ok(), "control: so far it is the same");
    let said = log.verify(&lines, Some(&log.lines(3))).unwrap_err();
    assert!(said.contains("was rewritten"), "{said}");
    let said = log.verify(&log.lines(2), Some(&log.lines(3))).unwrap_err();
    assert!(said.contains("more entries"), "{said}");
}

#[test]
fn an_export_of_a_pruned_log_holds_where_the_log_says_that_it_was() {
    let log = Log::ending_with(Some(Entry::pruned(3, UnixMillis(9))));
    let good = log.lines_from(3, 6);
    let said = log.verify(&good, Some(&log.lines(4))).unwrap();
    assert_eq!((&said["entries"], &said["minimum_index"]), (&json!(6), &json!(3)));
    assert_eq!(said["continues_earlier"], json!(true));
    // With more than it says is gone; and as an export that knows nothing of it.
    log.verify(&log.lines_from(2, 6), None).unwrap();
    let said = log.verify(&log.lines(6), None).unwrap();
    assert_eq!(said["minimum_index"], json!(0));
    let said = log.verify(&log.lines_from(4, 6), None).unwrap_err();
    assert!(said.contains("begins at entry 4, and no entry says"), "{said}");
    let said = log.verify(&log.lines_from(3, 5), None).unwrap_err();
    assert!(said.contains("they were taken away"), "{said}");
    let said = log.verify(&good, Some(&log.lines(2))).unwrap_err();
    assert!(said.contains("none in common"), "{said}");
    // What stands for the pruned ones is bound by the signed root.
    let head: Json = serde_json::from_str(&good[0]).unwrap();
    let changed = |change: &dyn Fn(&mut Json)| {
        let (mut other, mut lines) = (head.clone(), good.clone());
        change(&mut other["head"]);
        lines[0] = other.to_string();
        log.verify(&lines, None).unwrap_err()
    };
    for at in 0..2 {
        let said = changed(&|h| h["minimum_peaks"][at] = json!(STANDARD.encode([7; 32])));
        assert!(said.contains("not the 6 of the signed head"), "{said}");
    }
    for bad in [json!(["x"]), json!([]), json!([STANDARD.encode([7; 32])])] {
        let said = changed(&|h| h["minimum_peaks"] = bad.clone());
        assert!(said.contains("does not say what was pruned"), "{said}");
    }
    for index in [0, 2, 7] {
        let said = changed(&|h| h["minimum_index"] = json!(index));
        assert!(said.contains("does not say what was pruned"), "{index}: {said}");
    }
}

#[test]
fn one_flipped_bit_of_an_entry_or_of_the_head_is_noticed() {
    let mut log = Log::new();
    let good = log.lines(5);
    for bit in (0..log.leaves[1].len() * 8).step_by(7) {
        let leaf = log.leaves[1].clone();
        log.leaves[1][bit / 8] ^= 1 << (bit % 8);
        let mut lines = good.clone();
        let was = STANDARD.encode(&leaf);
        lines[2] = lines[2].replace(&was, &STANDARD.encode(&log.leaves[1]));
        assert!(log.verify(&lines, None).is_err(), "bit {bit}");
        log.leaves[1] = leaf;
    }
    let head: HeadLine = serde_json::from_str(&good[0]).unwrap();
    let bytes = STANDARD.decode(&head.head.signed_bytes).unwrap();
    for bit in (0..bytes.len() * 8).step_by(5) {
        let mut other = bytes.clone();
        other[bit / 8] ^= 1 << (bit % 8);
        let mut lines = good.clone();
        lines[0] = lines[0].replace(&head.head.signed_bytes, &STANDARD.encode(&other));
        assert!(log.verify(&lines, None).is_err(), "head, bit {bit}");
    }
    let other = Log { signer: Signer::from_seed(&[4; 32]).unwrap(), ..Log::new() };
    assert!(log.verify(&other.lines(5), None).unwrap_err().contains("signature"));
}

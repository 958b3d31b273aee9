//! Exported logs, proofs and witnesses without a vault: what is true verifies, and each way to spoil it is named.

use super::*;
use crate::audit::{Act, Book, Entry, Kind, entries_in};
use crate::class::Log;
use crate::clock::{ManualClock, UnixMillis};
use crate::crypto::Signer;
use crate::crypto::checkpoint::Origin;
use crate::crypto::merkle::tile::{bundle, node_from_tiles, root_from_tiles};
use crate::crypto::merkle::{consistency, inclusion};
use crate::crypto::note::VerifierKey;
use crate::ctl::cli::Format;
use crate::ctl::log_witness;
use crate::ctl::receipt::public_key;
use crate::id::VaultId;
use crate::store::Chronicle;

/// Size of the log that most tests verify: two full tiles and a part.
const SIZE: u64 = 600;

/// A log as a vault would hold it.
struct Made {
    entries: Vec<Vec<u8>>,
    levels: Vec<Vec<Digest32>>,
    vault: VaultId,
    signer: Signer,
}

impl Made {
    fn new(size: u64, first: i64) -> Self {
        let one = |n| Entry::new(Kind::Call, Act::GetRecord, UnixMillis(first + n)).encode();
        Self::of((0..size as i64).flat_map(one).collect())
    }

    /// One whose last entry says that it was pruned before a number.
    fn pruned(size: u64, minimum: u64) -> Self {
        let one = |n| Entry::new(Kind::Call, Act::GetRecord, UnixMillis(n)).encode();
        let last = Entry::pruned(minimum, UnixMillis(size as i64)).encode();
        Self::of((1..size as i64).flat_map(one).chain(last).collect())
    }

    fn of(entries: Vec<Vec<u8>>) -> Self {
        let (mut book, size) = (Book::default(), entries.len() as u64);
        let writes = book.append(entries);
        let rows = writes.iter().filter(|(key, _)| key.first() == Some(&b'a'));
        let entries: Vec<Vec<u8>> = rows
            .flat_map(|(_, row)| {
                let row = row.as_deref().unwrap();
                entries_in(row).unwrap().iter().map(|e| e.to_vec()).collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(entries.len() as u64, size);
        let mut levels: Vec<Vec<Digest32>> = vec![entries.iter().map(|e| leaf_hash(e)).collect()];
        while let Some(below) = levels.last().filter(|l| l.len() >= 256) {
            levels.push(below.chunks_exact(256).map(root_of).collect());
        }
        let signer = Signer::from_seed(&[3; 32]).unwrap();
        Self { entries, levels, vault: VaultId([5; 16]), signer }
    }

    fn hashes(&self, level: u8, first: u64, count: u64) -> Result<Vec<Digest32>, ()> {
        let (first, count) = (first as usize, count as usize);
        Ok(self.levels[usize::from(level)][first..first + count].to_vec())
    }

    fn root(&self, size: u64) -> Digest32 {
        root_from_tiles(size, &mut |l, f, c| self.hashes(l, f, c)).unwrap()
    }

    fn checkpoint(&self, size: u64) -> Checkpoint {
        let origin = Origin { vault: self.vault, log: Log::Audit };
        Checkpoint { origin, size, root: self.root(size) }
    }

    fn note(&self, size: u64) -> String {
        self.checkpoint(size).sign(&self.signer, []).unwrap()
    }

    fn key(&self) -> KeyArgs {
        KeyArgs { public_key: public_key(&hex(&self.signer.public_key())).unwrap() }
    }

    fn export(&self, dir: &Path, size: u64) {
        self.export_from(dir, size, 0);
    }

    /// Without the tiles that say something of entries before `minimum` alone.
    fn export_from(&self, dir: &Path, size: u64, minimum: u64) {
        let folder = LogFolder::at(dir);
        folder.prepare().unwrap();
        folder.begin(&self.note(size)).unwrap();
        if minimum > 0 {
            folder.set_minimum_index(minimum).unwrap();
        }
        for tile in Tile::all_since(0, size).filter(|tile| !tile.is_pruned(minimum)) {
            let (first, end) = (tile.first(), tile.first() + u64::from(tile.width));
            let bytes = match tile.part {
                Part::Hashes(level) => {
                    let hashes = self.hashes(level, first, end - first).unwrap();
                    hashes.as_flattened().to_vec()
                }
                Part::Entries => {
                    let entries = &self.entries[first as usize..end as usize];
                    bundle(entries.iter().map(Vec::as_slice)).unwrap()
                }
            };
            folder.put(&tile, &bytes).unwrap();
        }
        folder.finish().unwrap();
    }

    fn consistency(&self, old: u64, new: u64) -> ProofFile {
        let mut hashes = |l, f, c| self.hashes(l, f, c);
        let path = consistency(old, new, &mut |node| node_from_tiles(node, &mut hashes));
        let path = path.unwrap().unwrap();
        ProofFile { about: ProofOf::Earlier(old), extra: None, path, checkpoint: self.note(new) }
    }

    fn inclusion(&self, index: u64, size: u64) -> ProofFile {
        let mut hashes = |l, f, c| self.hashes(l, f, c);
        let path = inclusion(index, size, &mut |node| node_from_tiles(node, &mut hashes));
        let (path, extra) = (path.unwrap().unwrap(), Some(self.entries[index as usize].clone()));
        ProofFile { about: ProofOf::Entry(index), extra, path, checkpoint: self.note(size) }
    }
}

struct Desk {
    dir: tempfile::TempDir,
    witnesses: WitnessArgs,
    since: Option<PathBuf>,
    key: KeyArgs,
}

impl Desk {
    fn new(made: &Made) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir, witnesses: WitnessArgs::default(), since: None, key: made.key() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn save(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    fn verify(&self, what: [Option<&Path>; 3]) -> Result<String, String> {
        let (mut out, kept) = Out::captured(Format::Json);
        let [dir, checkpoint, proof] = what;
        let (since, witnesses) = (self.since.as_ref(), &self.witnesses);
        let asked = Asked { dir, checkpoint, proof, since, key: self.key, witnesses };
        run(&asked, &mut out).map_err(|e| e.to_string())?;
        let text = String::from_utf8(kept.lock().unwrap().clone()).unwrap();
        Ok(text)
    }

    fn folder(&self) -> Result<String, String> {
        self.verify([Some(&self.path("log")), None, None])
    }

    fn proof(&self, file: &ProofFile) -> Result<String, String> {
        let path = self.save("proof", &file.to_string());
        self.verify([None, None, Some(&path)])
    }
}

fn refused(outcome: Result<String, String>, why: &str) {
    let told = outcome.expect_err(why);
    assert!(told.contains(why), "{told:?} does not say {why:?}");
}

#[test]
fn a_whole_folder_verifies_and_each_spoilt_file_is_named() {
    let made = Made::new(SIZE, 1);
    let desk = Desk::new(&made);
    made.export(&desk.path("log"), SIZE);
    let told: Json = serde_json::from_str(&desk.folder().unwrap()).unwrap();
    assert_eq!((&told["size"], &told["entries_checked"]), (&json!(SIZE), &json!(true)));
    assert_eq!(told["origin"], "lethe/05050505050505050505050505050505/audit");
    let tiles: Vec<Tile> = Tile::all_since(0, SIZE).collect();
    assert_eq!(tiles.len(), 7);
    for tile in &tiles {
        let path = desk.path("log").join(tile.to_string());
        let good = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        refused(desk.folder(), &format!("{tile} is missing"));
        for len in [0, 1, good.len() - 1, good.len() + 1] {
            let mut other = good.clone();
            other.resize(len, 0);
            std::fs::write(&path, &other).unwrap();
            refused(desk.folder(), &tile.to_string());
        }
        for at in (0..good.len()).step_by(good.len() / 7).chain([good.len() - 1]) {
            let mut other = good.clone();
            other[at] ^= 1 << (at % 8);
            std::fs::write(&path, &other).unwrap();
            assert!(desk.folder().is_err(), "{tile} byte {at}");
        }
        std::fs::write(&path, &good).unwrap();
    }
    let bundle = desk.path("log/tile/entries/000");
    let mut other = std::fs::read(&bundle).unwrap();
    // A later time in the first entry, which decodes as well.
    other[2 + 23] ^= 1;
    std::fs::write(&bundle, &other).unwrap();
    refused(desk.folder(), "tile/0/000 has another hash at 0 than its entries");
    std::fs::remove_file(desk.path("log/checkpoint")).unwrap();
    refused(desk.folder(), "no checkpoint");
}

#[test]
fn entries_and_tiles_that_agree_with_each_other_still_need_the_signed_root() {
    let (made, other) = (Made::new(SIZE, 1), Made::new(SIZE, 2));
    let desk = Desk::new(&made);
    other.export(&desk.path("log"), SIZE);
    desk.save("log/checkpoint", &made.note(SIZE));
    refused(desk.folder(), "do not have the root that was signed");
    made.export(&desk.path("log"), SIZE);
    desk.folder().unwrap();
    // The sizes and names that no vault signed.
    let note = made.note(SIZE);
    for (from, to, why) in [
        ("\n600\n", "\n599\n", "does not hold"),
        ("\n600\n", "\n0600\n", "no size of a tree"),
        ("/audit\n600", "/ledger\n600", "of another vault"),
        ("lethe/0505", "lethe/0605", "of another vault"),
        ("— lethe/0505", "— lethe/0605", "of another vault"),
    ] {
        desk.save("log/checkpoint", &note.replacen(from, to, 1));
        refused(desk.folder(), why);
    }
    desk.save("log/checkpoint", &note[..note.len() - 1]);
    refused(desk.folder(), "cut short");
    desk.save("log/checkpoint", &note);
    let foreign = Signer::from_seed(&[4; 32]).unwrap();
    let key = KeyArgs { public_key: public_key(&hex(&foreign.public_key())).unwrap() };
    refused(Desk { key, ..desk }.folder(), "of another vault, or its key is another one");
}

#[test]
fn a_folder_is_held_against_an_earlier_checkpoint() {
    let (made, other) = (Made::new(SIZE, 1), Made::new(SIZE, 2));
    let mut desk = Desk::new(&made);
    made.export(&desk.path("log"), SIZE);
    for old in [0, 1, 255, 256, 257, 599, 600] {
        desk.since = Some(desk.save("old", &made.note(old)));
        let told: Json = serde_json::from_str(&desk.folder().unwrap()).unwrap();
        assert_eq!(told["continues"], json!(old));
        if old > 0 {
            desk.since = Some(desk.save("old", &other.note(old)));
            refused(desk.folder(), &format!("the first {old} entries are not those of before"));
        }
    }
    let longer = Made::new(601, 1);
    desk.since = Some(desk.save("old", &longer.note(601)));
    refused(desk.folder(), "had 601 before: it was cut");
    let origin = Origin { log: Log::Ledger, ..made.checkpoint(1).origin };
    let ledger = Checkpoint { origin, ..made.checkpoint(1) }.sign(&made.signer, []).unwrap();
    desk.since = Some(desk.save("old", &ledger));
    refused(desk.folder(), "is of another log");
    // Of a checkpoint alone it can only be told if it is the very same size.
    let now = desk.save("now", &made.note(SIZE));
    desk.since = Some(desk.save("old", &made.note(5)));
    refused(desk.verify([None, Some(&now), None]), "say nothing of each other");
    desk.since = Some(desk.save("old", &other.note(SIZE)));
    refused(desk.verify([None, Some(&now), None]), "was rewritten");
    desk.since = Some(desk.save("old", &made.note(SIZE)));
    desk.verify([None, Some(&now), None]).unwrap();
}

#[test]
fn proofs_hold_for_their_entry_and_checkpoint_only() {
    let made = Made::new(SIZE, 1);
    let mut desk = Desk::new(&made);
    let good = made.inclusion(300, SIZE);
    let told: Json = serde_json::from_str(&desk.proof(&good).unwrap()).unwrap();
    assert_eq!((&told["index"], &told["leaf"]), (&json!(300), &json!(hex(&made.entries[300]))));
    let mut bad = good.clone();
    bad.path.pop();
    refused(desk.proof(&bad), "it is cut short");
    let mut bad = good.clone();
    bad.path[3][0] ^= 1;
    refused(desk.proof(&bad), "does not lead to the root");
    let bad = ProofFile { about: ProofOf::Entry(301), ..good.clone() };
    refused(desk.proof(&bad), "is not the entry that follows");
    let bad = ProofFile { extra: Some(made.entries[301].clone()), ..good.clone() };
    refused(desk.proof(&bad), "is not the entry that follows");
    refused(desk.proof(&ProofFile { extra: None, ..good.clone() }), "lacks its entry");
    let mut leaf = made.entries[300].clone();
    leaf[23] ^= 1;
    refused(desk.proof(&ProofFile { extra: Some(leaf), ..good.clone() }), "does not lead");
    let bad = ProofFile { checkpoint: made.note(599), ..good };
    assert!(desk.proof(&bad).is_err());

    let good = made.consistency(255, SIZE);
    refused(desk.proof(&good), "about an earlier checkpoint");
    desk.since = Some(desk.save("old", &made.note(255)));
    desk.proof(&good).unwrap();
    let mut bad = good.clone();
    bad.path.truncate(1);
    refused(desk.proof(&bad), "it is cut short");
    let mut bad = good.clone();
    bad.path[1][0] ^= 1;
    assert!(desk.proof(&bad).is_err());
    desk.since = Some(desk.save("old", &made.note(257)));
    refused(desk.proof(&good), "about a tree of 255 entries");
    desk.since = Some(desk.save("old", &Made::new(SIZE, 2).note(255)));
    refused(desk.proof(&good), "the log was rewritten");
    let text = good.to_string();
    desk.save("proof", &text[..text.len() / 2]);
    assert!(desk.verify([None, None, Some(&desk.path("proof"))]).is_err());
}

/// A witness with its key in a file; answers the cosigned note.
struct Witness<'a> {
    desk: &'a Desk,
    name: &'a str,
    public: VerifierKey,
}

impl<'a> Witness<'a> {
    fn new(desk: &'a Desk, name: &'a str) -> Self {
        let (mut out, kept) = Out::captured(Format::Table);
        let key_name = crate::crypto::note::KeyName::parse(name).unwrap();
        log_witness::make_key(&key_name, &desk.path(&format!("{name}.key")), &mut out).unwrap();
        let line = String::from_utf8(kept.lock().unwrap().clone()).unwrap();
        Self { desk, name, public: VerifierKey::parse(line.trim_end()).unwrap() }
    }

    fn sign(&self, note: &str, proof: Option<&ProofFile>) -> Result<String, String> {
        let desk = self.desk;
        let checkpoint = desk.save("checkpoint", note);
        let proof = proof.map(|p| desk.save("proof", &p.to_string()));
        let to = desk.path("cosigned");
        let asked = log_witness::Asked {
            checkpoint: &checkpoint,
            proof: proof.as_deref(),
            state: &desk.path(&format!("{}.state", self.name)),
            private_key: &desk.path(&format!("{}.key", self.name)),
            key: desk.key,
            to: Some(&to),
        };
        let (mut out, _) = Out::captured(Format::Table);
        let clock = ManualClock::at(UnixMillis(1_679_315_147_000));
        log_witness::run(&asked, &clock, &mut out).map_err(|e| e.to_string())?;
        Ok(std::fs::read_to_string(to).unwrap())
    }

    fn state(&self) -> String {
        std::fs::read_to_string(self.desk.path(&format!("{}.state", self.name))).unwrap()
    }
}

#[test]
fn a_witness_cosigns_what_continues_what_it_saw_and_nothing_else() {
    let (made, other) = (Made::new(SIZE, 1), Made::new(SIZE, 2));
    let desk = Desk::new(&made);
    let witness = Witness::new(&desk, "w1");
    let first = witness.sign(&made.note(100), None).unwrap();
    assert!(Note::parse(&first).unwrap().verify(&witness.public).is_ok());
    assert_eq!(witness.state(), made.note(100));
    // The same again, and then what does not continue it.
    assert_eq!(witness.sign(&made.note(100), None), Ok(first));
    refused(witness.sign(&made.note(300), None), "had 100 entries when it was cosigned last");
    refused(witness.sign(&other.note(100), None), "two histories");
    refused(witness.sign(&made.note(99), None), "it was cut");
    let fork = other.consistency(100, 300);
    refused(witness.sign(&other.note(300), Some(&fork)), "the log was rewritten");
    let early = made.consistency(99, 300);
    refused(witness.sign(&made.note(300), Some(&early)), "not about the 100 entries");
    let mut short = made.consistency(100, 300);
    short.path.pop();
    refused(witness.sign(&made.note(300), Some(&short)), "cut short");
    let inclusion = made.inclusion(5, 300);
    refused(witness.sign(&made.note(300), Some(&inclusion)), "not about the 100 entries");
    let origin = Origin { log: Log::Ledger, ..made.checkpoint(1).origin };
    let ledger = Checkpoint { origin, ..made.checkpoint(300) }.sign(&made.signer, []).unwrap();
    refused(witness.sign(&ledger, None), "is of another log");
    refused(witness.sign(&made.note(300).replace("\n300\n", "\n301\n"), None), "does not hold");
    assert_eq!(witness.state(), made.note(100), "a refusal changes nothing");

    let proof = made.consistency(100, 300);
    let next = witness.sign(&made.note(300), Some(&proof)).unwrap();
    assert!(Note::parse(&next).unwrap().verify(&witness.public).is_ok());
    assert_eq!(witness.state(), made.note(300));
    refused(witness.sign(&made.note(100), None), "it was cut");
}

#[test]
fn enough_witnesses_must_have_cosigned() {
    let made = Made::new(SIZE, 1);
    let mut desk = Desk::new(&made);
    let (note, keys) = {
        let names = ["w1", "w2", "w3"];
        let witnesses = names.map(|name| Witness::new(&desk, name));
        let note = witnesses[0].sign(&made.note(SIZE), None).unwrap();
        let note = witnesses[1].sign(&note, None).unwrap();
        assert_eq!(Note::parse(&note).unwrap().signatures.len(), 3);
        (note, witnesses.map(|w| w.public))
    };
    let path = desk.save("now", &note);
    let verify = |desk: &Desk| desk.verify([None, Some(&path), None]);
    desk.witnesses.witnesses = keys.to_vec();
    refused(verify(&desk), "2 of the witnesses have cosigned it, not 3");
    desk.witnesses.threshold = Some(2);
    let told: Json = serde_json::from_str(&verify(&desk).unwrap()).unwrap();
    assert_eq!(told["witnesses"], json!(["w1", "w2"]));
    desk.witnesses.witnesses = vec![keys[0].clone(), keys[0].clone()];
    refused(verify(&desk), "1 of the witnesses have cosigned it, not 2");
    // One cosignature with another's time is worse than none.
    let mut spoilt = Note::parse(&note).unwrap();
    spoilt.signatures[2].bytes[7] ^= 1;
    desk.save("now", &spoilt.to_string());
    desk.witnesses.witnesses = keys.to_vec();
    refused(verify(&desk), "the cosignature of w2 does not hold");
}

#[test]
fn a_witness_s_key_is_for_its_user_alone_and_its_state_for_one_process() {
    use std::os::unix::fs::PermissionsExt;
    let made = Made::new(SIZE, 1);
    let desk = Desk::new(&made);
    let witness = Witness::new(&desk, "w1");
    let key = desk.path("w1.key");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let held = crate::ctl::files::Held::of(&desk.path("w1.state")).unwrap();
    refused(witness.sign(&made.note(1), None), "cannot lock");
    drop(held);
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o640)).unwrap();
    refused(witness.sign(&made.note(1), None), "can be read by others");
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    witness.sign(&made.note(1), None).unwrap();
    std::fs::write(&key, "PRIVATE+KEY+w1+00000000+BAAA").unwrap();
    let told = witness.sign(&made.note(1), None).unwrap_err();
    assert!(!told.contains("BAAA"), "{told}");
}

#[test]
fn a_folder_of_something_else_is_not_written_into() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("thesis.txt"), "x").unwrap();
    assert!(LogFolder::at(dir.path()).prepare().is_err());
    assert!(LogFolder::at(&dir.path().join("a/b")).prepare().is_ok());
}

#[path = "log_pruned_tests.rs"]
mod pruned;

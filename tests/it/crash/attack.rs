//! R3: the erasure oracle. Every byte that was ever written, every KEK and an anchor go to a reader that shares no code
//! with the vault. What was erased must not open; and the controls must, or the test proves nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use lethe::id::RecordId;
use lethe::vault::NewRecord;
use lethe::vault::value::Value;
use lethe_recorder::{CrashImages, Event, History, MetadataRule, Variant};
use serde_json::Value as Json;

use super::fate::{Fate, fates};
use super::images::Life;
use super::worker::made_by;
use super::{oracle, scale};

/// What the attacker holds: history up to an event, and the anchor as it was at another.
pub struct Loot<'a> {
    pub life: &'a Life,
    pub history_to: usize,
    pub anchor_at: usize,
    /// Also try every anchor image of the history.
    pub old_anchors: bool,
}

/// What the independent reader opened.
pub struct Opened {
    /// Versions by record: number and what its note says.
    pub records: BTreeMap<String, Vec<(u64, String)>>,
    /// kid of each index entry.
    pub listed: BTreeSet<String>,
    /// kid of each opened version.
    pub kids: BTreeSet<String>,
    /// Subjects that the audit log names, and members of its entries that it does not.
    pub named: BTreeSet<String>,
    pub unnamed: u64,
    /// Records of which a request id is remembered, and whether the reader could confirm what was asked for.
    pub asked: BTreeMap<String, bool>,
}

/// Bytes of a file of the vault's directory at a crash point.
fn file_at(life: &Life, point: usize, path: &str) -> Option<Vec<u8>> {
    let mut images = CrashImages::new(&life.log, MetadataRule::Ext4Like);
    images.go_to(point).unwrap();
    let home = super::scratch();
    images.materialise(point, Variant::All, &home.path().join("i")).unwrap();
    std::fs::read(home.path().join("i").join(path)).ok()
}

impl Loot<'_> {
    pub fn open(&self, home: &Path) -> Opened {
        let regions = History::new(&self.life.log.events[..self.history_to]);
        let regions = regions.map(|r| (r.file.0, r.offset, r.bytes));
        let anchor = file_at(self.life, self.anchor_at, "data/anchor").unwrap();
        let made = fates(&self.life.answers(self.history_to)).into_values().filter_map(|f| f.made);
        let guesses: Vec<Vec<u8>> = made.map(|name| asked_of(&made_by(&name))).collect();
        attack(home, regions, &anchor, (&self.life.orders.dir, &guesses), self.old_anchors)
    }
}

/// A creation as FORMAT §3.7 has it.
fn asked_of(new: &NewRecord) -> Vec<u8> {
    let part = |bytes: &[u8]| [&(bytes.len() as u64).to_be_bytes(), bytes].concat();
    let mut asked = vec![1];
    for text in ["spiffe://test/someone", new.rtype.as_str(), ""] {
        asked.extend(part(text.as_bytes()));
    }
    asked.extend((new.fields.len() as u64).to_be_bytes());
    for (name, value) in &new.fields {
        let (word, bytes) = match value {
            Value::Text(text) => ("text", text.as_bytes()),
            Value::Bytes(bytes) => ("bytes", bytes.as_slice()),
            other => panic!("{}", other.type_name()),
        };
        asked.extend([part(name.as_bytes()), part(word.as_bytes()), part(bytes)].concat());
    }
    asked
}

/// Gives the reader regions of bytes (file, offset, bytes), an anchor, the KEKs of a directory, and guesses of what was
/// asked for.
pub fn attack<'a>(
    home: &Path,
    regions: impl Iterator<Item = (u32, u64, &'a [u8])>,
    anchor_bytes: &[u8],
    (kek_dir, guesses): (&Path, &[Vec<u8>]),
    old_anchors: bool,
) -> Opened {
    let (history, anchor) = (home.join("history"), home.join("anchor"));
    let mut out = BufWriter::new(File::create(&history).unwrap());
    for (file, offset, bytes) in regions {
        out.write_all(&file.to_be_bytes()).unwrap();
        out.write_all(&offset.to_be_bytes()).unwrap();
        out.write_all(&(bytes.len() as u32).to_be_bytes()).unwrap();
        out.write_all(bytes).unwrap();
    }
    drop(out);
    std::fs::write(&anchor, anchor_bytes).unwrap();
    let mut command = Command::new(oracle());
    command.arg("open").arg("--history").arg(&history).arg("--anchor").arg(&anchor);
    for kek in keks(kek_dir) {
        command.arg("--kek").arg(kek);
    }
    for (n, guess) in guesses.iter().enumerate() {
        let file = home.join(format!("asked-{n}"));
        std::fs::write(&file, guess).unwrap();
        command.arg("--asked").arg(file);
    }
    if old_anchors {
        command.arg("--anchor-from-history");
    }
    let output = command.output().unwrap();
    assert!(output.status.code() == Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let json: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["format_warnings"], Json::Array(vec![]), "the format's own rules");
    read(&json)
}

/// What an attacker took of a vault's folder, at one moment after another: all files, and the anchor of each moment.
pub struct Seized {
    dir: PathBuf,
    pub history: Vec<Vec<u8>>,
    pub anchors: Vec<Vec<u8>>,
}

impl Seized {
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), history: Vec::new(), anchors: Vec::new() }
    }

    pub fn take(&mut self) {
        let data = self.dir.join("data");
        self.anchors.push(std::fs::read(data.join("anchor")).unwrap());
        let mut folders = vec![data];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.file_name().is_some_and(|n| n != "anchor" && n != "reserve") {
                    self.history.push(std::fs::read(path).unwrap());
                }
            }
        }
    }

    /// What the reader opens with everything, and the anchor of one of the moments.
    pub fn open(&self, moment: usize) -> Opened {
        let home = super::scratch();
        let regions = self.history.iter().enumerate().map(|(n, b)| (n as u32, 0, b.as_slice()));
        attack(home.path(), regions, &self.anchors[moment], (&self.dir, &[]), false)
    }
}

fn keks(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    let is_kek = |p: &PathBuf| p.file_name().is_some_and(|n| n.to_string_lossy().contains("kek"));
    entries.filter(is_kek).collect()
}

fn read(json: &Json) -> Opened {
    let named = json["audit"]["named"].as_array().unwrap().iter();
    let mut opened = Opened {
        records: BTreeMap::new(),
        listed: BTreeSet::new(),
        kids: BTreeSet::new(),
        named: named
            .flat_map(|n| [&n["subject"], &n["record"]])
            .filter_map(|id| Some(id.as_str()?.to_owned()))
            .collect(),
        unnamed: json["audit"]["unnamed"].as_u64().unwrap(),
        asked: BTreeMap::new(),
    };
    for record in json["records"].as_array().unwrap() {
        let id = record["record"].as_str().unwrap().to_owned();
        // Of one whose first row never reached the disk there are no fields, but it is open all the same.
        let note = record["fields"].as_array().into_iter().flatten().find_map(note_of);
        let version = record["rec_ver"].as_u64().unwrap();
        opened.records.entry(id).or_default().push((version, note.unwrap_or_default()));
        opened.kids.insert(record["kid"].as_str().unwrap().to_owned());
    }
    for request in json["requests"].as_array().unwrap() {
        let id = request["record"].as_str().unwrap().to_owned();
        *opened.asked.entry(id).or_default() |= !request["confirms"].as_array().unwrap().is_empty();
    }
    for entry in json["index_entries"].as_array().unwrap() {
        opened.listed.insert(entry["kid"].as_str().unwrap().to_owned());
    }
    opened
}

/// The text of field 3, the note.
fn note_of(field: &Json) -> Option<String> {
    (field["field"].as_u64() == Some(NOTE)).then(|| field["text"].as_str().map(str::to_owned))?
}

/// Ordinal of the note among the fields of the test schema.
const NOTE: u64 = 2;

/// Points at which an erasure had just been answered.
fn answered_erasures(life: &Life) -> Vec<usize> {
    let mut points = Vec::new();
    for (at, event) in life.log.events.iter().enumerate() {
        if let Event::Write { data, .. } = event
            && (data.starts_with(b"E ") || data.starts_with(b"B\n"))
        {
            points.push(at + 1);
        }
    }
    points
}

/// What is wrong with what the reader opened at a point.
pub fn judge(opened: &Opened, fates: &BTreeMap<RecordId, Fate>) -> Result<(), String> {
    for (id, fate) in fates {
        let versions = opened.records.get(&id.to_string());
        if fate.must_be_gone && versions.is_some() {
            return Err(format!("erased {id} opens"));
        }
        let asked = opened.asked.get(&id.to_string()).copied();
        if fate.must_be_gone && asked == Some(true) {
            return Err(format!("what made erased {id} can be confirmed"));
        }
        let as_made =
            !fate.must_be_gone && !fate.may_be_gone && !fate.moved && fate.notes.len() == 1;
        if as_made && fate.notes.first() == fate.made.as_ref() && asked != Some(true) {
            return Err(format!("control: what made {id} cannot be confirmed: {asked:?}"));
        }
        if !fate.must_be_gone && !fate.may_be_gone && versions.is_none() {
            return Err(format!("control: live {id} does not open"));
        }
    }
    Ok(())
}

#[test]
fn r3_what_was_erased_opens_to_nobody_and_the_controls_open() {
    for (engine, seed, ops) in [("redb", 7, scale(60, 400)), ("sled", 8, 30)] {
        let life = Life::record(engine, "none", seed, ops as u64);
        let home = super::scratch();
        let acks = answered_erasures(&life);
        // In the middle of the work: the anchor as it was right after an answer.
        for at in [acks[acks.len() / 3], acks[acks.len() / 2], acks[acks.len() - 1]] {
            let loot = Loot { life: &life, history_to: at, anchor_at: at, old_anchors: false };
            judge(&loot.open(home.path()), &fates(&life.answers(at))).unwrap();
        }
        // At the end: also the old versions are gone, and every index entry is of a live version.
        let end = life.log.events.len();
        let lines = fates(&life.answers(end));
        let loot = Loot { life: &life, history_to: end, anchor_at: end, old_anchors: false };
        let opened = loot.open(home.path());
        judge(&opened, &lines).unwrap();
        judge_final(&opened).unwrap();
        // Control: an anchor from before an erasure opens what was erased by it.
        let (before, erased) = before_an_erasure(&life, &acks);
        let loot = Loot { life: &life, history_to: end, anchor_at: before, old_anchors: false };
        let past = loot.open(home.path());
        assert!(past.records.contains_key(&erased), "control: the pre-erasure anchor opens it");
        // Control: with every slot image that ever was, everything opens; so the reader misses nothing.
        let loot = Loot { life: &life, history_to: end, anchor_at: end, old_anchors: true };
        let all = loot.open(home.path());
        for (id, fate) in &lines {
            assert!(
                all.records.contains_key(&id.to_string()),
                "control: unscrubbed slots open {id}"
            );
            if fate.made.is_some() {
                let asked = all.asked.get(&id.to_string());
                assert_eq!(asked, Some(&true), "control: and confirm what made {id}");
            }
        }
        println!(
            "R3 {engine}: {} erasures answered, {} records in all, controls open",
            acks.len(),
            lines.len()
        );
    }
}

/// At a clean stop superseded versions are gone too, and no index entry names a version that does not open.
pub fn judge_final(opened: &Opened) -> Result<(), String> {
    for (id, versions) in &opened.records {
        if versions.len() > 1 {
            return Err(format!("{} versions of {id} open", versions.len()));
        }
    }
    match opened.listed.difference(&opened.kids).next() {
        Some(kid) => Err(format!("an index entry names {kid}, which does not open")),
        None => Ok(()),
    }
}

/// A point before an erasure was asked for, and the record that it erased: a customer, since a visit may have gone
/// with its bucket before anybody asked.
fn before_an_erasure(life: &Life, acks: &[usize]) -> (usize, String) {
    let made = life.answers(life.log.events.len());
    let is_customer = |id: &str| made.lines().any(|l| l.starts_with(&format!("C {id} ")));
    for ack in acks.iter().rev() {
        let Event::Write { data, .. } = &life.log.events[ack - 1] else { continue };
        let line = String::from_utf8_lossy(data).into_owned();
        let Some(id) = line.strip_prefix("E ").map(|l| l.trim().to_owned()) else { continue };
        if !is_customer(&id) {
            continue;
        }
        let asked = format!("e {id}\n");
        let at =
            life.log.events.iter().position(
                |e| matches!(e, Event::Write { data, .. } if **data == *asked.as_bytes()),
            );
        if let Some(at) = at {
            return (at, id);
        }
    }
    panic!("no erasure of a single record")
}

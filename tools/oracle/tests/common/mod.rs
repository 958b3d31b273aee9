//! Runs the reader as a process against the files of a made-up vault.
#![allow(dead_code)] // each test binary uses its part

pub mod disk;
pub mod writer;

use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;
use writer::*;

pub const PLAIN: &str = "open --history @history --kek @kek --anchor @anchor";

/// Files of one attack.
pub struct Case {
    pub dir: TempDir,
}

pub struct Answer {
    pub code: i32,
    pub json: Value,
}

impl Answer {
    /// Texts of the records that opened, sorted.
    pub fn texts(&self) -> Vec<String> {
        let fields = self.json["records"].as_array().unwrap().iter();
        let mut all: Vec<String> = fields
            .filter(|r| r["complete"] == true)
            .map(|r| r["fields"][0]["text"].as_str().unwrap().to_owned())
            .collect();
        all.sort();
        all
    }

    pub fn count(&self, key: &str) -> usize {
        self.json[key].as_array().unwrap().len()
    }
}

impl Case {
    pub fn new(vault: &Vault) -> Self {
        let case = Case { dir: tempfile::tempdir().unwrap() };
        case.save("kek", writer_hex(&KEK).as_bytes());
        case.save("wrong-kek", "11".repeat(32).as_bytes());
        case.update(vault);
        case
    }

    pub fn update(&self, vault: &Vault) {
        self.save("history", &vault.disk.history);
        self.save("store", &vault.disk.files[&STORE]);
        if let Some(anchor) = vault.disk.files.get(&ANCHOR) {
            self.save("anchor", anchor);
        }
    }

    pub fn save(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Runs the reader; words that start with `@` are files of this case.
    pub fn run(&self, line: &str) -> Answer {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lethe-oracle"));
        for word in line.split_whitespace() {
            match word.strip_prefix('@') {
                Some(name) => command.arg(self.dir.path().join(name)),
                None => command.arg(word),
            };
        }
        let out = command.output().unwrap();
        let json = serde_json::from_slice(&out.stdout).unwrap_or(Value::Null);
        Answer { code: out.status.code().unwrap(), json }
    }
}

fn writer_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect::<String>() + "\n"
}

pub fn record(n: u8) -> [u8; 16] {
    [n; 16]
}

/// Two records in one page, one in another tenant.
pub fn small() -> Vault {
    let mut v = Vault::new();
    v.put((0, 0, 0), 0, record(1), &field_map(record(9), "victim-text"));
    v.put((0, 0, 0), 1, record(2), &field_map(record(9), "survivor-text"));
    v.put((1, 0, 0), 0, record(3), &field_map(record(8), "bystander-text"));
    v.put_index((0, 0, 0), 3, 0, 4, b"victim-text");
    v.put_index((0, 0, 0), 3, 1, 4, b"survivor-text");
    v.put_meta(0, "{\"name\":\"tenant zero\"}");
    v.add_leaf(&[2; 32]);
    v.commit(&[1, 0]);
    v
}

//! Reads what the attacker was given: histories, files, keys and anchors.

use crate::closure::Closure;
use crate::crypto::Key;
use crate::format::{self, Anchor};
use crate::scan::{Replay, Rows, Totals, Watcher};
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// Directories nested deeper than this are refused.
const DEPTH_MAX: u32 = 16;

/// The files named on the command line.
#[derive(Default)]
pub struct Inputs {
    pub histories: Vec<PathBuf>,
    pub files: Vec<PathBuf>,
    pub dirs: Vec<PathBuf>,
    pub keks: Vec<PathBuf>,
    pub anchors: Vec<PathBuf>,
    pub anchor_from_history: bool,
}

/// An anchor slot that a KEK opened, and where it came from.
pub struct FoundAnchor {
    pub source: String,
    pub anchor: Anchor,
}

impl Inputs {
    /// Passes every byte of the histories and files to `watcher`, and collects rows if asked to.
    pub fn read(
        &self,
        mut rows: Option<&mut Rows>,
        watcher: &mut dyn Watcher,
    ) -> Result<Totals, String> {
        let mut replay = Replay::default();
        for path in &self.histories {
            let mut input = BufReader::with_capacity(1 << 20, open(path)?);
            replay.history(&mut input, rows.as_deref_mut(), watcher).map_err(|e| at(path, e))?;
        }
        let mut files = self.files.clone();
        for dir in &self.dirs {
            walk(dir, 0, &mut files)?;
        }
        for path in &files {
            let name = path.display().to_string();
            replay
                .plain(&name, &mut open(path)?, rows.as_deref_mut(), watcher)
                .map_err(|e| at(path, e))?;
        }
        Ok(replay.totals)
    }

    /// The key-encryption keys.
    pub fn read_keks(&self) -> Result<Vec<Key>, String> {
        let read = |path: &PathBuf| {
            let text = fs::read_to_string(path).map_err(|e| at(path, e))?;
            format::parse_kek(&text).ok_or_else(|| at(path, "not 64 hexadecimal digits"))
        };
        self.keks.iter().map(read).collect()
    }

    /// Every anchor slot that some KEK opens: of the anchor files, and of `rows` if the control asks for it.
    pub fn open_anchors(&self, rows: &Rows, keks: &[Key]) -> Result<Vec<FoundAnchor>, String> {
        let mut found = Vec::new();
        for path in &self.anchors {
            let bytes = fs::read(path).map_err(|e| at(path, e))?;
            let mut slots = Rows::default();
            slots.add_all(&bytes);
            open_slots(&path.display().to_string(), &slots, keks, &mut found);
        }
        if self.anchor_from_history {
            open_slots("history", rows, keks, &mut found);
        }
        Ok(found)
    }
}

/// Feeds the anchors to a closure and runs it to its end.
pub fn close<'a>(rows: &'a Rows, anchors: &[FoundAnchor]) -> Closure<'a> {
    let mut closure = Closure::new(rows);
    for found in anchors {
        closure.start(&found.anchor);
    }
    closure.run();
    closure
}

fn open_slots(source: &str, slots: &Rows, keks: &[Key], found: &mut Vec<FoundAnchor>) {
    for slot in &slots.anchors {
        let opened = keks.iter().find_map(|kek| Anchor::open(slot, kek));
        found.extend(opened.map(|anchor| FoundAnchor { source: source.to_owned(), anchor }));
    }
}

fn walk(dir: &Path, depth: u32, files: &mut Vec<PathBuf>) -> Result<(), String> {
    if depth > DEPTH_MAX {
        return Err(at(dir, "directories are nested too deeply"));
    }
    let listing = fs::read_dir(dir).map_err(|e| at(dir, e))?;
    let mut entries = listing.collect::<Result<Vec<_>, _>>().map_err(|e| at(dir, e))?;
    entries.sort_by_key(fs::DirEntry::path);
    for entry in entries {
        let kind = entry.file_type().map_err(|e| at(dir, e))?;
        if kind.is_dir() {
            walk(&entry.path(), depth + 1, files)?;
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}

fn open(path: &Path) -> Result<File, String> {
    File::open(path).map_err(|e| at(path, e))
}

fn at(path: &Path, what: impl std::fmt::Display) -> String {
    format!("{}: {what}", path.display())
}

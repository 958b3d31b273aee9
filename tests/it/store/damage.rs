//! Damaged files of the embedded engines: a precise refusal or the right rows, never a panic that escapes.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use lethe::store::StoreError;

use super::{EMBEDDED, Open, noise, numbered};

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// A closed store of a few hundred rows, some rewritten, some deleted.
fn filled(open: Open, dir: &Path) -> Model {
    let engine = open(dir).unwrap();
    let mut model = Model::new();
    for commit in 0..12_u64 {
        let mut writes = Vec::new();
        for n in 0..40 {
            let (key, value) = (numbered(b'r', (commit * 29 + n) % 400), noise(n * commit, 200));
            model.insert(key.clone(), value.clone());
            writes.push((key, Some(value)));
        }
        let gone = numbered(b'r', commit * 31);
        model.remove(&gone);
        writes.push((gone, None));
        engine.commit(&writes).unwrap();
    }
    model
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.is_file()).collect();
    files.sort();
    files
}

/// How a damaged directory answered.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Refused,
    Whole,
    /// Rows are missing: sled takes damage of its log for a torn tail. The commit sequence, which the anchor knows,
    /// and the rows above it show that.
    Missing,
    /// Rows hold what was never written: redb checks pages only when it repairs. Every row is authenticated above.
    Altered,
}

fn look(open: Open, dir: &Path, model: &Model) -> Seen {
    let engine = match open(dir) {
        Ok(engine) => engine,
        Err(StoreError::Damaged(_) | StoreError::Io(_)) => return Seen::Refused,
        Err(other) => panic!("damage reported as {other:?}"),
    };
    let mut rows = Model::new();
    for key in model.keys() {
        match engine.get(key) {
            Ok(Some(value)) => drop(rows.insert(key.clone(), value)),
            Ok(None) => {}
            Err(_) => return Seen::Refused,
        }
    }
    if engine.scan(b"", &[0xff; 300], usize::MAX).is_err() {
        return Seen::Refused;
    }
    if rows == *model {
        return Seen::Whole;
    }
    let written = |value: &Vec<u8>| (0..12 * 40).any(|seed| *value == noise(seed, 200));
    if rows.values().all(written) { Seen::Missing } else { Seen::Altered }
}

fn copy_of(files: &[PathBuf]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in files {
        std::fs::copy(file, dir.path().join(file.file_name().unwrap())).unwrap();
    }
    dir
}

/// What sled and redb print while they panic on this thread or on sled's own is expected.
fn quiet_here() {
    let here = std::thread::current().id();
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let thread = std::thread::current();
        let sleds = thread.name().is_some_and(|name| name.starts_with("sled"));
        if thread.id() != here && !sleds {
            before(info);
        }
    }));
}

#[test]
fn flipped_bits_and_cuts_of_any_file_never_panic_outward() {
    quiet_here();
    for (name, open) in EMBEDDED {
        let dir = tempfile::tempdir().unwrap();
        let model = filled(open, dir.path());
        let files = files(dir.path());
        assert_eq!(look(open, copy_of(&files).path(), &model), Seen::Whole, "{name}");
        let mut tally = BTreeMap::new();
        for (nth, file) in files.iter().enumerate() {
            let bytes = std::fs::read(file).unwrap();
            let used = bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
            for round in 0..24_usize {
                let damaged = copy_of(&files);
                let target = damaged.path().join(file.file_name().unwrap());
                let dice = noise((nth * 100 + round) as u64, 9);
                let at = usize::from(dice[0]) * 251 + usize::from(dice[1]) * 65_521;
                let mut bytes = bytes.clone();
                if round % 4 == 3 {
                    bytes.truncate(at % (used + 1));
                } else if used > 0 {
                    bytes[at % used] ^= 1 << (dice[2] % 8);
                }
                std::fs::write(&target, bytes).unwrap();
                let seen = look(open, damaged.path(), &model);
                *tally.entry(format!("{seen:?}")).or_insert(0) += 1;
            }
        }
        eprintln!("{name}: {tally:?}");
        assert!(tally.contains_key("Refused"), "{name}: nothing was noticed: {tally:?}");
    }
}

/// sled unwraps the names of its blob files while it opens: a name that is no text makes it panic, whatever the rest.
#[test]
fn a_panic_inside_sled_is_a_refusal() {
    quiet_here();
    let dir = tempfile::tempdir().unwrap();
    filled(super::sled, dir.path());
    let stray = dir.path().join("blobs").join(OsStr::from_bytes(&[0xff, 0xfe]));
    std::fs::write(&stray, b"").unwrap();
    let refused = super::sled(dir.path()).err();
    assert_eq!(refused, Some(StoreError::Damaged("sled panicked on its own files".into())));
}

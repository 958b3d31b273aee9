//! R2: crash images. At every sync point and at random ones, what the disk could hold is put together and opened.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use lethe_recorder::{CrashImages, Event, FileId, Log, MetadataRule, Variant, crash_points};

use super::certified::certificates_hold;
use super::fate::{check, fates, log_holds, repeat};
use super::trees::trees_hold;
use super::worker::Shifted;
use super::{Orders, scale, scratch};
use crate::house::{House, TENANT, app, fields, get, put};
use crate::model::Dice;

/// A worker's life on record.
pub struct Life {
    _home: tempfile::TempDir,
    pub log: Log,
    pub orders: Orders,
}

impl Life {
    /// Runs a worker to its end under the recorder.
    pub fn record(engine: &'static str, sabotage: &'static str, seed: u64, ops: u64) -> Self {
        let home = scratch();
        let dir = home.path().join("vault");
        std::fs::create_dir(&dir).unwrap();
        let orders = Orders { sabotage, ..Orders::new(&dir, engine, seed, ops) };
        let log = home.path().join("log");
        assert!(orders.spawn(Some(&log)).wait().unwrap().success(), "the worker failed");
        let log = Log::read(&log).unwrap();
        assert!(log.blind_spots().is_empty(), "{:?}", log.blind_spots());
        Self { _home: home, log, orders }
    }

    fn answers_file(&self) -> FileId {
        let named = |e: &Event| match e {
            Event::Open { file, path, created: true, .. } if path == Path::new("answers") => {
                Some(*file)
            }
            _ => None,
        };
        self.log.events.iter().find_map(named).unwrap()
    }

    /// What the worker had written down before event `point`.
    pub fn answers(&self, point: usize) -> String {
        let file = self.answers_file();
        let mut text = Vec::new();
        for event in &self.log.events[..point] {
            match event {
                Event::Write { file: f, data, .. } if *f == file => text.extend_from_slice(data),
                _ => {}
            }
        }
        String::from_utf8(text).unwrap()
    }

    /// From where on the vault exists: its first record was answered.
    pub fn furnished(&self) -> usize {
        let file = self.answers_file();
        let first = |e: &Event| matches!(e, Event::Write { file: f, .. } if *f == file);
        self.log.events.iter().position(first).unwrap()
    }
}

/// Opens an image and says what is wrong with it.
pub fn verdict(dir: &Path, orders: &Orders, answers: &str) -> Result<(), String> {
    let mut house = House::new(dir, orders.engine());
    house.clock = Shifted::of(dir);
    only_mine(dir);
    let vault = house.open().map_err(|e| format!("does not open: {e}"))?;
    let fates = fates(answers);
    check(&vault, &fates)?;
    // It is not only readable: it knows what it was asked, and goes on.
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        log_holds(&vault, &fates).await?;
        trees_hold(&vault, answers).await?;
        certificates_hold(&vault).await?;
        repeat(&vault, &fates).await?;
        let set = fields(&[("reference", "after"), ("note", "after")]);
        let view = put(&vault, "customer", set).await.map_err(|e| format!("no put: {e}"))?;
        let reason = lethe::class::ErasureReason::SubjectRequest;
        let erased = vault.erase_records(&app(), TENANT, &[view.id], reason, None).await;
        erased.map_err(|e| format!("no erasure: {e}"))?;
        match get(&vault, view.id) {
            Ok(_) => Err("an erased record opens".to_owned()),
            Err(_) => Ok(()),
        }
    })
}

/// Images have the usual mode; a KEK must have its own.
fn only_mine(dir: &Path) {
    for name in ["kek", "kek.next"] {
        let file = dir.join(name);
        if file.exists() {
            std::fs::set_permissions(file, PermissionsExt::from_mode(0o600)).unwrap();
        }
    }
}

/// Every crash to be tried: a point of the log and what survives of it.
fn crashes(life: &Life, wanted: usize, seed: u64) -> Vec<(usize, Variant)> {
    let from = life.furnished();
    let mut all = Vec::new();
    let mut images = CrashImages::new(&life.log, MetadataRule::Ext4Like);
    let points = crash_points(&life.log, 200, seed);
    for point in points.into_iter().filter(|p| *p >= from) {
        images.go_to(point).unwrap();
        all.extend([Variant::All, Variant::None].map(|v| (point, v)));
        all.extend((0..3).map(|n| (point, Variant::Random(seed + n + point as u64 * 7))));
        all.extend(images.unsynced_files().into_iter().map(|f| (point, Variant::DropFile(f))));
    }
    // A seeded choice, in the order of the log, if there are more than wanted.
    let mut dice = Dice::new(seed);
    while all.len() > wanted {
        all.swap_remove(dice.below(all.len() as u64) as usize);
    }
    all.sort_by_key(|(point, _)| *point);
    all
}

/// Tries crashes on two threads; the first thing that is wrong, and how many were tried.
pub fn try_crashes(life: &Life, wanted: usize, seed: u64) -> (usize, Option<String>) {
    let crashes = crashes(life, wanted, seed);
    let done = AtomicUsize::new(0);
    let failed = std::sync::Mutex::new(None);
    std::thread::scope(|scope| {
        for half in crashes.chunks(crashes.len().div_ceil(2).max(1)) {
            let (done, failed) = (&done, &failed);
            scope.spawn(move || {
                let home = scratch();
                let target: PathBuf = home.path().join("image");
                let mut images = CrashImages::new(&life.log, MetadataRule::Ext4Like);
                for (point, variant) in half {
                    if failed.lock().unwrap().is_some() {
                        return;
                    }
                    images.materialise(*point, *variant, &target).unwrap();
                    let answers = life.answers(*point);
                    if let Err(why) = verdict(&target, &life.orders, &answers) {
                        *failed.lock().unwrap() = Some(format!("at {point} {variant}: {why}"));
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    (done.into_inner(), failed.into_inner().unwrap())
}

fn survive(engine: &'static str, lives: u64, images: usize, seed: u64) {
    let mut tried = 0;
    for n in 0..lives {
        let life = Life::record(engine, "none", seed + n, 40);
        let (done, wrong) = try_crashes(&life, images / lives as usize, seed + n);
        assert_eq!(wrong, None, "{engine} seed {}", seed + n);
        tried += done;
    }
    println!("R2 {engine}: {tried} crash images, nothing lost, nothing un-erased");
    assert!(tried * 10 >= images * 9, "too few images: {tried} of {images}");
}

#[test]
fn r2_crash_images_of_redb_lose_nothing_and_bring_nothing_back() {
    survive("redb", 4, scale(2000, 100_000), 1);
}

#[test]
fn r2_crash_images_of_sled_lose_nothing_and_bring_nothing_back() {
    survive("sled", 1, scale(200, 10_000), 50);
}

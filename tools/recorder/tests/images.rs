//! Crash images of logs written by hand: each rule of what survives has a test that fails without
//! it.

use lethe_recorder::event::Mode;
use lethe_recorder::image::ImageError;
use lethe_recorder::log::ROOT;
use lethe_recorder::model::{FILE_BYTES_MAX, ModelError};
use lethe_recorder::{
    CrashImages, Event, FileId, Log, MetadataRule, Node, SyncKind, Variant, crash_points,
};
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

const A: FileId = FileId(1);
const B: FileId = FileId(2);
const D: FileId = FileId(3);
use MetadataRule::{Ext4Like, Strict};

fn create(file: FileId, path: &str) -> Event {
    Event::Open { file, path: path.into(), flags: 0, created: true }
}

fn base(file: FileId, path: &str) -> Event {
    Event::BaseFile { file, path: path.into() }
}

fn mkdir(file: FileId, path: &str) -> Event {
    Event::Mkdir { file, path: path.into() }
}

fn write(file: FileId, text: &str) -> Event {
    Event::Write { file, offset: 0, mode: Mode::default(), data: text.as_bytes().into() }
}

fn dsync(file: FileId, text: &str) -> Event {
    let mode = Mode { dsync: true, ..Mode::default() };
    Event::Write { file, offset: 0, mode, data: text.as_bytes().into() }
}

fn rename(from: &str, to: &str) -> Event {
    Event::Rename { from: from.into(), to: to.into(), exchange: false }
}

fn unlink(path: &str) -> Event {
    Event::Unlink { path: path.into() }
}

fn start(id: u64, file: FileId, kind: SyncKind) -> Event {
    Event::SyncStart { id, file, kind }
}

fn end(id: u64) -> Event {
    Event::SyncEnd { id, errno: 0 }
}

/// A whole sync.
fn sync(file: FileId) -> [Event; 2] {
    [start(99, file, SyncKind::Fsync), end(99)]
}

fn log(parts: &[&[Event]]) -> Log {
    Log { roots: vec![PathBuf::from("/d")], events: parts.concat(), torn: false }
}

/// `name=contents` of every file and `name/` of every directory, at the end of the log.
fn image(log: &Log, rule: MetadataRule, variant: Variant) -> String {
    let mut images = CrashImages::new(log, rule);
    images.go_to(log.events.len()).unwrap();
    let shown = images.image(variant).nodes.into_iter().map(|(path, node)| match node {
        Node::Dir => format!("{}/", path.display()),
        Node::File(bytes) => format!("{}={}", path.display(), String::from_utf8_lossy(&bytes)),
    });
    shown.collect::<Vec<_>>().join(" ")
}

fn none(log: &Log) -> String {
    image(log, Ext4Like, Variant::None)
}

#[test]
fn only_a_sync_that_began_after_the_write_and_succeeded_keeps_it() {
    let begin = [base(A, "a"), write(A, "old")];
    let late = log(&[&[begin[0].clone(), start(1, A, SyncKind::Fsync), write(A, "old"), end(1)]]);
    assert_eq!(none(&late), "a=");
    assert_eq!(image(&late, Ext4Like, Variant::All), "a=old");
    assert_eq!(none(&log(&[&begin, &[start(1, A, SyncKind::Fsync)]])), "a=", "still running");
    let failed = Event::SyncEnd { id: 1, errno: 5 };
    assert_eq!(none(&log(&[&begin, &[start(1, A, SyncKind::Fsync), failed]])), "a=");
    assert_eq!(none(&log(&[&begin, &[start(1, A, SyncKind::Fsync), end(1)]])), "a=old");
    assert_eq!(none(&log(&[&begin, &[start(1, A, SyncKind::Fdatasync), end(1)]])), "a=old");
    assert_eq!(
        none(&log(&[&begin, &[start(1, B, SyncKind::Fsync), end(1)]])),
        "a=",
        "another file"
    );
}

#[test]
fn sync_file_range_is_no_sync_and_syncfs_is_one_of_everything() {
    let begin = [base(A, "a"), write(A, "x"), create(B, "b"), write(B, "y")];
    assert_eq!(none(&log(&[&begin, &[start(1, A, SyncKind::Range), end(1)]])), "a=");
    assert_eq!(none(&log(&[&begin, &[start(1, ROOT, SyncKind::All), end(1)]])), "a=x b=y");
}

#[test]
fn two_syncs_at_once_cover_what_each_began_after() {
    let events = [
        base(A, "a"),
        write(A, "1"),
        start(1, A, SyncKind::Fsync),
        write(A, "2"),
        start(2, A, SyncKind::Fsync),
        end(2),
        write(A, "3"),
        end(1),
    ];
    assert_eq!(none(&log(&[&events])), "a=2");
}

#[test]
fn a_durable_write_needs_no_sync() {
    assert_eq!(none(&log(&[&[base(A, "a"), dsync(A, "x")]])), "a=x");
    assert_eq!(none(&log(&[&[create(A, "a"), dsync(A, "x")]])), "a=x", "and keeps its name");
    assert_eq!(image(&log(&[&[create(A, "a"), dsync(A, "x")]]), Strict, Variant::None), "");
}

#[test]
fn a_new_files_name_survives_by_its_own_sync_or_only_by_the_directorys() {
    let made = [create(A, "a"), write(A, "x")];
    assert_eq!(none(&log(&[&made])), "");
    assert_eq!(none(&log(&[&made, &sync(A)])), "a=x");
    assert_eq!(image(&log(&[&made, &sync(A)]), Strict, Variant::None), "");
    assert_eq!(image(&log(&[&made, &sync(A), &sync(ROOT)]), Strict, Variant::None), "a=x");
    assert_eq!(none(&log(&[&made, &sync(ROOT)])), "a=", "the name, not the bytes");
}

#[test]
fn a_rename_or_unlink_survives_by_the_directorys_sync_only() {
    let begin = [&[base(A, "a"), base(B, "b")][..], &[write(A, "A"), write(B, "B")]].concat();
    let synced = [begin, sync(A).into(), sync(B).into()].concat();
    for rule in [Ext4Like, Strict] {
        let of = |parts: &[&[Event]]| image(&log(parts), rule, Variant::None);
        let over = [rename("a", "b")];
        assert_eq!(of(&[&synced, &over]), "a=A b=B");
        assert_eq!(of(&[&synced, &over, &sync(A)]), "a=A b=B", "a file's sync renames nothing");
        assert_eq!(of(&[&synced, &over, &sync(ROOT)]), "b=A");
        assert_eq!(of(&[&synced, &[unlink("a")]]), "a=A b=B");
        assert_eq!(of(&[&synced, &[unlink("a")], &sync(ROOT)]), "b=B");
        let late = [start(7, ROOT, SyncKind::Fsync), unlink("a"), end(7)];
        assert_eq!(of(&[&synced, &late]), "a=A b=B", "after the sync began");
    }
    let swap = Event::Rename { from: "a".into(), to: "b".into(), exchange: true };
    assert_eq!(none(&log(&[&synced, &[swap], &sync(ROOT)])), "a=B b=A");
    let link = [Event::Link { file: A, path: "b".into() }, rename("a", "b")];
    let same = log(&[&[base(A, "a")], &link, &sync(ROOT)]);
    assert_eq!(none(&same), "a= b=", "a rename onto another name of the same file does nothing");
}

#[test]
fn directories_above_a_synced_new_file_survive_with_it_where_ext4_promises_it() {
    let made = [mkdir(D, "d"), create(A, "d/a"), write(A, "x")];
    assert_eq!(none(&log(&[&made])), "");
    assert_eq!(none(&log(&[&made, &sync(A)])), "d/ d/a=x");
    assert_eq!(none(&log(&[&made, &sync(D)])), "d/ d/a=");
    let strict = |parts: &[&[Event]]| image(&log(parts), Strict, Variant::None);
    assert_eq!(strict(&[&made, &sync(A), &sync(D)]), "", "nobody reaches it");
    assert_eq!(strict(&[&made, &sync(A), &sync(D), &sync(ROOT)]), "d/ d/a=x");
}

#[test]
fn a_rename_between_directories_waits_for_both_where_posix_is_taken_literally() {
    let begin = [Event::BaseDir { file: D, path: "d".into() }, base(A, "a"), rename("a", "d/a")];
    let strict = |parts: &[&[Event]]| image(&log(parts), Strict, Variant::None);
    assert_eq!(strict(&[&begin, &sync(D)]), "a= d/");
    assert_eq!(strict(&[&begin, &sync(D), &sync(ROOT)]), "d/ d/a=");
    assert_eq!(none(&log(&[&begin, &sync(D)])), "d/ d/a=", "one transaction");
}

/// Without this, a journal that committed out of order would lose a file that no file system loses.
#[test]
fn a_change_of_names_brings_the_earlier_changes_to_the_same_names() {
    let events = [base(A, "a"), rename("a", "b"), create(B, "a"), write(B, "new")];
    assert_eq!(none(&log(&[&events, &sync(B)])), "a=new b=");
}

#[test]
fn dropping_one_file_spares_the_others_and_the_names() {
    let log = log(&[&[base(A, "a"), base(B, "b"), write(A, "x"), write(B, "y"), create(D, "new")]]);
    assert_eq!(image(&log, Ext4Like, Variant::DropFile(A)), "a= b=y new=");
    assert_eq!(image(&log, Ext4Like, Variant::DropFile(B)), "a=x b= new=");
    let mut images = CrashImages::new(&log, Ext4Like);
    images.go_to(4).unwrap();
    assert_eq!((images.unsynced_files(), images.unsynced_names()), (vec![A, B], 0));
}

#[test]
fn random_images_reach_every_legal_state_and_no_other() {
    let synced = [&[base(A, "a"), write(A, "s")][..], &sync(A)].concat();
    let log = log(&[&synced, &[write(A, "u"), base(B, "b"), write(B, "v"), rename("a", "c")]]);
    let images: BTreeSet<String> =
        (0..300).map(|seed| image(&log, Ext4Like, Variant::Random(seed))).collect();
    let mut legal = BTreeSet::new();
    for (name, a, b) in (0..8).map(|i| (i & 1, i >> 1 & 1, i >> 2)) {
        let (a, b) = (["s", "u"][a], ["", "v"][b]);
        let names = [format!("a={a} b={b}"), format!("b={b} c={a}")];
        legal.insert(names[name].clone());
    }
    assert_eq!(images, legal);
    assert_eq!(
        image(&log, Ext4Like, Variant::Random(7)),
        image(&log, Ext4Like, Variant::Random(7))
    );
}

/// Before a durable write has returned, it may be on the disk or not.
#[test]
fn the_call_in_flight_may_have_happened_in_random_images_only() {
    let log = log(&[&[base(A, "a"), dsync(A, "old"), dsync(A, "new")]]);
    let mut images = CrashImages::new(&log, Ext4Like);
    images.go_to(2).unwrap();
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        let image = images.image(Variant::Random(seed));
        let Some(Node::File(bytes)) = image.nodes.get(&PathBuf::from("a")) else { panic!() };
        seen.insert(bytes.to_vec());
    }
    assert_eq!(seen, BTreeSet::from([b"new".to_vec(), b"old".to_vec()]));
    assert_eq!(images.image(Variant::All), images.image(Variant::None));
}

#[test]
fn a_log_that_misses_something_is_refused() {
    let images = |events: &[Event]| {
        let log = log(&[events]);
        CrashImages::new(&log, Ext4Like).go_to(events.len()).map_err(|e| match e {
            ImageError::Model(e) => e,
            e => panic!("{e}"),
        })
    };
    let unknown = Err(ModelError::UnknownPath { event: 0 });
    assert_eq!(images(&[rename("a", "b")]), unknown);
    assert_eq!(images(&[create(A, "no/a")]), unknown);
    let huge = Event::Resize { file: A, size: FILE_BYTES_MAX + 1 };
    assert_eq!(images(&[base(A, "a"), huge]), Err(ModelError::FileTooLarge { event: 1 }));
}

#[test]
fn crash_points_stand_around_every_decisive_event() {
    let mode = Mode { base: true, dsync: false, ..Mode::default() };
    let found = Event::Write { file: A, offset: 0, mode, data: b"x"[..].into() };
    let events = [
        base(A, "a"),
        found,
        write(A, "1"),
        write(A, "2"),
        start(1, A, SyncKind::Range),
        end(1),
        write(A, "3"),
        start(2, A, SyncKind::Fsync),
        write(A, "4"),
        end(2),
        write(A, "5"),
        rename("a", "b"),
        write(A, "6"),
        write(A, "7"),
        write(A, "8"),
    ];
    let log = log(&[&events]);
    assert_eq!(crash_points(&log, 0, 1), [7, 8, 9, 10, 11, 12, 15]);
    let sampled = crash_points(&log, 5, 1);
    assert!(sampled.len() > 7 && sampled.is_sorted());
    assert_eq!(sampled, crash_points(&log, 5, 1));
    assert!(crash_points(&log, 500, 1).len() == 16, "every point can be drawn");
}

#[test]
fn an_image_on_disk_is_the_image_and_replaces_only_an_earlier_one() {
    let target = std::env::temp_dir().join(format!("lethe-img-{}", std::process::id()));
    let _ = fs::remove_dir_all(&target);
    let sparse =
        [vec![0; 200_000], vec![7; 70_000], vec![0; 131_072], vec![8], vec![0; 99]].concat();
    let data = Event::Write { file: A, offset: 0, mode: Mode::default(), data: sparse.into() };
    let log = log(&[&[
        mkdir(D, "d"),
        create(A, "d/a"),
        data,
        create(B, "b"),
        write(B, "x"),
        unlink("b"),
    ]]);
    let mut images = CrashImages::new(&log, Ext4Like);
    for point in [6, 5, 3, 6] {
        images.materialise(point, Variant::All, &target).unwrap();
        assert_eq!(images.image(Variant::All).differences(&target).unwrap(), Vec::<PathBuf>::new());
        assert_eq!(target.join("b").exists(), point == 5);
        fs::write(target.join("stray"), b"left by whoever opened the image").unwrap();
    }
    let mut other = CrashImages::new(&log, Ext4Like);
    let refused = other.materialise(6, Variant::All, &target);
    assert!(matches!(refused, Err(ImageError::TargetNotEmpty)));
    assert!(target.join("stray").exists());
    assert!(matches!(images.go_to(7), Err(ImageError::NoSuchPoint)));
    fs::remove_dir_all(&target).unwrap();
}

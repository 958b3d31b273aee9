//! The disk guard: who is refused when, and what the reserve is for.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lethe::store::{DiskGuard, Memory, Store, StoreError, Urgency};

use super::put;

const MIB: u64 = 1 << 20;
const FLOOR: u64 = 64 * MIB;
const RESERVE: u64 = MIB;

fn guarded(dir: &Path, free: &Arc<AtomicU64>) -> DiskGuard {
    let free = free.clone();
    let space = move || match free.load(Ordering::SeqCst) {
        u64::MAX => Err(std::io::Error::other("planned")),
        free => Ok(free),
    };
    DiskGuard::with_source(dir, FLOOR, RESERVE, Box::new(space)).unwrap()
}

fn reserve(dir: &Path) -> Option<(u64, u64)> {
    let meta = std::fs::metadata(dir.join("reserve")).ok()?;
    Some((meta.len(), meta.blocks() * 512))
}

#[test]
fn puts_stop_below_the_floor_and_vital_writes_pass() {
    let dir = tempfile::tempdir().unwrap();
    let free = Arc::new(AtomicU64::new(FLOOR));
    let store =
        Store::open(Arc::new(Memory::new()), None, Some(guarded(dir.path(), &free))).unwrap();
    store.commit_blocking(put(b"a", b"1")).unwrap();
    free.store(FLOOR - 1, Ordering::SeqCst);
    assert_eq!(store.commit_blocking(put(b"b", b"1")), Err(StoreError::DiskFull));
    assert_eq!(store.get(b"b").unwrap(), None);
    let mut vital = put(b"b", b"2");
    vital.urgency = Urgency::Vital;
    assert_eq!(store.commit_blocking(vital), Ok(2));
    assert!(!store.stopped());
    free.store(u64::MAX, Ordering::SeqCst);
    assert_eq!(store.commit_blocking(put(b"b", b"1")), Err(StoreError::DiskFull), "unknown");
    free.store(FLOOR, Ordering::SeqCst);
    assert_eq!(store.commit_blocking(put(b"b", b"3")), Ok(3));
}

#[test]
fn the_reserve_is_real_given_back_when_space_is_out_and_taken_again() {
    let dir = tempfile::tempdir().unwrap();
    let free = Arc::new(AtomicU64::new(10 * FLOOR));
    let guard = guarded(dir.path(), &free);
    let (len, allocated) = reserve(dir.path()).unwrap();
    assert_eq!(len, RESERVE);
    assert!(allocated >= RESERVE, "a hole reserves nothing");
    // The floor is not the end: the reserve is kept while there is room for the write.
    let wait_for_a_reading = || std::thread::sleep(std::time::Duration::from_millis(110));
    free.store(FLOOR / 2, Ordering::SeqCst);
    wait_for_a_reading();
    guard.before_commit(100);
    assert!(reserve(dir.path()).is_some());
    free.store(RESERVE / 4, Ordering::SeqCst);
    guard.before_commit(100);
    assert_eq!(reserve(dir.path()), None);
    free.store(FLOOR, Ordering::SeqCst);
    guard.before_commit(100);
    assert_eq!(reserve(dir.path()), None, "taking it would stop puts again");
    free.store(FLOOR + RESERVE, Ordering::SeqCst);
    guard.before_commit(100);
    assert_eq!(reserve(dir.path()).map(|r| r.0), Some(RESERVE));
    // A large write counts before it is made.
    guard.before_commit(20 * MIB);
    assert_eq!(reserve(dir.path()), None);
}

#[test]
fn a_reserve_of_the_wrong_size_or_full_of_holes_is_replaced_and_a_full_disk_starts_without() {
    let free = Arc::new(AtomicU64::new(10 * FLOOR));
    for len in [0, RESERVE] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::File::create(dir.path().join("reserve")).unwrap().set_len(len).unwrap();
        guarded(dir.path(), &free);
        let (len, allocated) = reserve(dir.path()).unwrap();
        assert!(len == RESERVE && allocated >= RESERVE);
    }
    let dir = tempfile::tempdir().unwrap();
    free.store(0, Ordering::SeqCst);
    let guard = guarded(dir.path(), &free);
    assert_eq!(reserve(dir.path()), None);
    assert_eq!(guard.admit(Urgency::Put), Err(StoreError::DiskFull));
    assert_eq!(guard.admit(Urgency::Vital), Ok(()));
}

#[test]
fn the_figure_is_not_asked_for_at_each_call_while_there_is_plenty() {
    let dir = tempfile::tempdir().unwrap();
    let asked = Arc::new(AtomicU64::new(0));
    let count = asked.clone();
    let space = move || {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(100 * FLOOR)
    };
    let guard = DiskGuard::with_source(dir.path(), FLOOR, RESERVE, Box::new(space)).unwrap();
    let before = asked.load(Ordering::SeqCst);
    let start = std::time::Instant::now();
    (0..10_000).for_each(|_| guard.admit(Urgency::Put).unwrap());
    let windows = start.elapsed().as_millis() as u64 / 100 + 2;
    assert!(asked.load(Ordering::SeqCst) - before <= windows);
    let before = asked.load(Ordering::SeqCst);
    guard.before_commit(5 * MIB);
    assert_eq!(asked.load(Ordering::SeqCst), before + 1);
}

/// A pipe in the reserve's place lets the taking of it wait for as long as the test wants.
#[test]
fn nobody_waits_while_the_reserve_is_taken() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let dir = tempfile::tempdir().unwrap();
    let free = Arc::new(AtomicU64::new(FLOOR));
    let guard = guarded(dir.path(), &free);
    let path = dir.path().join("reserve");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    free.store(10 * FLOOR, Ordering::SeqCst);
    let (told, tell) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let taking = scope.spawn(|| guard.before_commit(100));
        std::thread::sleep(std::time::Duration::from_millis(100));
        scope.spawn(|| told.send(guard.admit(Urgency::Note)));
        let answer = tell.recv_timeout(std::time::Duration::from_secs(2));
        let waits = !taking.is_finished();
        // Somebody reads, so that the taking of it goes on, and fails.
        drop(std::fs::File::open(&path));
        assert_eq!(answer, Ok(Ok(())));
        assert!(waits, "the reserve was never waited for");
    });
    assert!(!path.exists());
    guard.before_commit(100);
    assert_eq!(reserve(dir.path()).map(|r| r.0), Some(RESERVE));
}

#[test]
fn the_real_file_system_has_room_for_this_test() {
    let dir = tempfile::tempdir().unwrap();
    let guard = DiskGuard::open(dir.path()).unwrap();
    assert_eq!(guard.admit(Urgency::Put), Ok(()));
    assert_eq!(reserve(dir.path()).map(|r| r.0), Some(16 * MIB));
}

//! The bound heads: nobody is told of one before both slots of the anchor name it, and of none after a write failed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::anchor::{Anchor, AnchorError};
use super::batch::{BatchFacts, Edits, LedgerHead};
use super::file_anchor::FileAnchor;
use super::tests::House;
use super::*;
use crate::class::Medium;
use crate::clock::{ManualClock, UnixMillis};

const HEAD: (u64, [u8; 32]) = (7, [7; 32]);
const PATIENCE: Duration = Duration::from_secs(20);

/// Once it is armed it tells of each write before it is made, and waits for the word to make it or to fail.
struct Stepped {
    file: FileAnchor,
    armed: Arc<AtomicBool>,
    begun: Sender<()>,
    words: Mutex<Receiver<bool>>,
}

impl Anchor for Stepped {
    fn load(&mut self) -> Result<[Vec<u8>; 2], AnchorError> {
        self.file.load()
    }
    fn write(&mut self, slot: u8, image: &[u8]) -> Result<(), AnchorError> {
        if self.armed.load(Ordering::SeqCst) {
            self.begun.send(()).unwrap();
            if !self.words.lock().unwrap().recv_timeout(PATIENCE).unwrap() {
                return Err(AnchorError::Io("written", "planned".into()));
            }
        }
        self.file.write(slot, image)
    }
    fn medium(&self) -> Medium {
        self.file.medium()
    }
    fn describe(&self) -> String {
        self.file.describe()
    }
}

fn ledger(_: &BatchFacts) -> LedgerHead {
    let (size, root) = HEAD;
    LedgerHead { size, root, writes: vec![], after: vec![], entries: vec![] }
}

/// What is bound after a batch whose writes to the anchor go as these words say. Whoever asks meanwhile hears nothing.
fn after(words: &[bool]) -> Result<Bound, KeyError> {
    let house = House::new();
    drop(house.create(Sabotage::None));
    let ((begun, begins), (word, words_in)) = (channel(), channel());
    let armed = Arc::new(AtomicBool::new(false));
    let file = || FileAnchor::open(&house.path("anchor")).unwrap();
    let words_in = Mutex::new(words_in);
    let anchor = Stepped { file: file(), armed: armed.clone(), begun, words: words_in };
    let parts = Parts { anchor: Box::new(anchor), ..house.parts(file(), Sabotage::None) };
    let tree = open(parts, UnixMillis(2)).unwrap().tree;
    assert_ne!(tree.bound().unwrap().ledger, HEAD);
    armed.store(true, Ordering::SeqCst);
    let (told, hears) = channel();
    std::thread::scope(|scope| {
        let batch = scope.spawn(|| {
            let clock = ManualClock::at(UnixMillis(9));
            tree.batch(Edits::default(), None, &clock, &mut ledger).map(drop)
        });
        for (at, go_on) in words.iter().enumerate() {
            begins.recv_timeout(PATIENCE).unwrap();
            if at == 0 {
                let (told, tree) = (told.clone(), &tree);
                scope.spawn(move || told.send(tree.bound()).unwrap());
            }
            let early = hears.recv_timeout(Duration::from_millis(150));
            assert!(early.is_err(), "told before write {at} was made: {early:?}");
            word.send(*go_on).unwrap();
        }
        assert_eq!(batch.join().unwrap().is_ok(), words.iter().all(|w| *w));
    });
    let first = hears.recv_timeout(PATIENCE).unwrap();
    assert_eq!(first, tree.bound(), "who waited hears what who asks now hears");
    first
}

#[test]
fn a_head_is_told_once_both_slots_name_it_and_never_after_a_write_failed() {
    assert_eq!(after(&[true, true]).map(|b| b.ledger), Ok(HEAD));
    assert_eq!(after(&[false]), Err(KeyError::Stopped));
    assert_eq!(after(&[true, false]), Err(KeyError::Stopped), "one slot is not both");
}

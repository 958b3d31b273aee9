//! The tree as a whole, over the memory engine and a file anchor: grow, erase, kill, rotate, reopen, refuse.

use std::path::Path as FilePath;
use std::sync::Arc;

use super::anchor::AnchorError;
use super::file_anchor::FileAnchor;
use super::kek::{KekSource, create_file};
use super::node::Listing;
use super::path::{NodeKind, Path};
use super::slots::BucketId;
use super::tree::{RunHead, leaf_path};
use super::*;
use crate::class::ErasureLevel;
use crate::clock::{ManualClock, UnixMillis};
use crate::crypto::sha256;
use crate::id::{BucketOrd, Day, Gen, Kid, PageOrd, RunOrd, TenantOrd, TypeOrd, VaultId};
use crate::store::{Batch, Engine, Memory, Store};

const VAULT: VaultId = VaultId([7; 16]);
pub(super) const BUCKET: BucketId = (TenantOrd::of(1), BucketOrd::of(3));

pub(super) struct House {
    dir: tempfile::TempDir,
    engine: Arc<Memory>,
}

impl House {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        create_file(&dir.path().join("kek")).unwrap();
        Self { dir, engine: Arc::new(Memory::new()) }
    }

    pub(super) fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn parts(&self, anchor: FileAnchor, sabotage: Sabotage) -> Parts {
        Parts {
            store: Store::open(self.engine.clone() as Arc<dyn Engine>, None, None).unwrap(),
            anchor: Box::new(anchor),
            kek: KekSource::File(self.path("kek")),
            journal_dir: None,
            cache_bytes: 1 << 20,
            metrics: Arc::default(),
            sabotage,
        }
    }

    pub(super) fn create(&self, sabotage: Sabotage) -> Tree {
        let anchor = FileAnchor::create(&self.path("anchor")).unwrap();
        create(self.parts(anchor, sabotage), VAULT, UnixMillis(1)).unwrap().tree
    }

    pub(super) fn open(&self) -> Result<Opened, KeyError> {
        let anchor = FileAnchor::open(&self.path("anchor"))?;
        open(self.parts(anchor, Sabotage::None), UnixMillis(2))
    }
}

pub(super) fn grown(tree: &Tree, bucket: BucketId) {
    let rt = tokio::runtime::Builder::new_current_thread().build().unwrap();
    rt.block_on(async {
        if tree.read().tenant(bucket.0).is_err() {
            let added = tree.add_tenant(bucket.0, |_| Ok(Batch::default())).await.unwrap();
            added.1.await.unwrap();
        }
        let new = NewBucket {
            tenant: bucket.0,
            bucket: bucket.1,
            rtype: TypeOrd(1),
            expire_day: Day(20_000),
        };
        tree.add_bucket(new).await.unwrap();
    });
}

pub(super) fn take(tree: &Tree, bucket: BucketId) -> (Kid, [u8; 32]) {
    let rt = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let slot = rt.block_on(tree.take_slot(bucket)).unwrap();
    (slot.kid, *slot.dek.expose())
}

pub(super) fn erase(tree: &Tree, edits: Edits) -> Erased {
    let clock = ManualClock::at(UnixMillis(5));
    tree.batch(edits, None, &clock, &mut no_ledger).unwrap()
}

pub(super) fn no_ledger(_: &BatchFacts) -> LedgerHead {
    LedgerHead { size: 0, root: sha256(b""), writes: vec![], after: vec![], entries: vec![] }
}

pub(super) fn dead(kids: &[Kid]) -> Edits {
    Edits { dead: kids.iter().copied().collect(), ..Edits::default() }
}

#[test]
fn an_erased_key_is_gone_its_neighbours_stay_and_so_after_reopening() {
    let house = House::new();
    let tree = house.create(Sabotage::None);
    grown(&tree, BUCKET);
    // Enough for pages of all sizes and a level-1 directory node.
    let taken: Vec<_> = (0..9000).map(|_| take(&tree, BUCKET)).collect();
    let doomed = [0usize, 7, 8, 39, 40, 5000, 8999].map(|n| taken[n].0);
    let erased = erase(&tree, dead(&doomed));
    assert_eq!((erased.generation(), erased.level()), (Gen(2), ErasureLevel::LocalAnchor));
    let check = |tree: &Tree| {
        let reader = tree.read();
        for (kid, key) in &taken {
            match reader.dek(*kid) {
                Ok(dek) => assert!(dek.expose() == key && !doomed.contains(kid)),
                Err(e) => assert!(e == KeyError::Gone && doomed.contains(kid), "{e}"),
            }
        }
    };
    check(&tree);
    let next = take(&tree, BUCKET).0;
    assert!(taken.iter().all(|(k, _)| k.page != next.page || k.slot != next.slot));
    drop(tree);
    let opened = house.open().unwrap();
    assert!(opened.recovered.unclean);
    check(&opened.tree);
    opened.tree.refresh(UnixMillis(3), true).unwrap();
    drop(opened);
    assert!(!house.open().unwrap().recovered.unclean);
}

#[test]
fn a_removal_gives_fresh_keys_and_versions_up_to_the_root_and_deletes_the_old_rows() {
    let house = House::new();
    let tree = house.create(Sabotage::None);
    grown(&tree, BUCKET);
    let (kid, _) = take(&tree, BUCKET);
    take(&tree, BUCKET);
    let path_of = |tree: &Tree| {
        let reader = tree.read();
        let mut at = Some(Path::page_of(kid));
        let mut seen = Vec::new();
        while let Some(path) = at {
            let entry = reader.entry(&path).unwrap();
            seen.push((path.row_key(entry.ver), *entry.key.expose()));
            at = path.parent().map(|(p, _)| p);
        }
        seen
    };
    let before = path_of(&tree);
    erase(&tree, dead(&[kid]));
    let after = path_of(&tree);
    assert_eq!(before.len(), 4);
    for ((old_row, old_key), (new_row, new_key)) in before.iter().zip(&after) {
        assert!(old_row != new_row && old_key != new_key);
    }
    tree.settle().unwrap();
    for (old_row, _) in &before {
        assert_eq!(tree.store().get(old_row).unwrap(), None);
    }
    assert!(tree.store().prefix(b"b").next().is_none(), "no chores are left");
    // The anchor's two slots hold the same generation.
    let images = {
        let mut anchor = tree.anchor();
        anchor.anchor.load().unwrap()
    };
    let keks = KekSource::File(house.path("kek")).candidates().unwrap();
    let current = anchor::select(&images, &keks).unwrap();
    assert_eq!(current.open.payload.generation, Gen(2));
    assert_eq!(current.other.unwrap().payload.generation, Gen(2));
}

#[test]
fn a_bucket_dies_by_one_entry_and_its_ordinal_is_not_used_again() {
    let house = House::new();
    let tree = house.create(Sabotage::None);
    let other = (BUCKET.0, BucketOrd::of(4));
    grown(&tree, BUCKET);
    grown(&tree, other);
    let lost: Vec<_> = (0..300).map(|_| take(&tree, BUCKET).0).collect();
    let kept = take(&tree, other);
    erase(&tree, Edits { kill: [BUCKET].into(), ..Edits::default() });
    assert_eq!(tree.read().dek(kept.0).unwrap().expose(), &kept.1);
    assert!(lost.iter().all(|k| matches!(tree.read().dek(*k), Err(KeyError::Gone))));
    assert_eq!(tree.read().next_bucket(BUCKET.0), Ok(4));
    let rt = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(rt.block_on(tree.take_slot(BUCKET)).err(), Some(KeyError::Closed));
    drop(tree);
    let opened = house.open().unwrap();
    assert_eq!(opened.recovered.to_collect, [BUCKET]);
    opened.tree.collected(&std::collections::BTreeSet::from([BUCKET])).unwrap();
    drop(opened);
    assert_eq!(house.open().unwrap().recovered.to_collect, []);
}

pub(super) fn draft(run: u16, listings: &[Listing]) -> RunDraft {
    let head = RunHead { bits: 2, parts: 1, entries: listings.len() as u32 };
    let mut leaves = std::collections::BTreeMap::<u32, Vec<Listing>>::new();
    for l in listings {
        leaves.entry(u32::from(l.token[0] >> 6)).or_default().push(*l);
    }
    RunDraft { run: RunOrd::of(run), head, leaves }
}

#[test]
fn index_runs_grow_lose_entries_and_merge() {
    let house = House::new();
    let tree = house.create(Sabotage::None);
    grown(&tree, BUCKET);
    let kid = take(&tree, BUCKET).0;
    let entry = |n: u8| Listing { token: [n; 16], page: 0, slot: n };
    tree.add_run(BUCKET, Some(draft(0, &[entry(1), entry(200)])), PageOrd::of(1)).unwrap();
    tree.add_run(BUCKET, Some(draft(1, &[entry(2)])), PageOrd::of(1)).unwrap();
    let run = |n| Path::run(BUCKET.0, BUCKET.1, RunOrd::of(n));
    let leaf = leaf_path(&run(0), 0);
    assert!(tree.read().lists(&leaf, &entry(1)).unwrap());
    assert_eq!(tree.read().runs(BUCKET.0, BUCKET.1).unwrap(), [run(0), run(1)]);
    let head = tree.read().run(&run(0)).unwrap();
    assert_eq!(head.leaves(&[200; 16]).collect::<Vec<_>>(), [3]);
    let unlist = [(leaf, vec![entry(1)])].into();
    erase(&tree, Edits { dead: [kid].into(), unlist, ..Edits::default() });
    assert!(!tree.read().lists(&leaf, &entry(1)).unwrap());
    assert!(tree.read().lists(&leaf_path(&run(0), 3), &entry(200)).unwrap());
    let merged = draft(2, &[entry(2), entry(200)]);
    let old = vec![RunOrd::of(0), RunOrd::of(1)];
    erase(&tree, Edits { merge: vec![(BUCKET, old, Some(merged))], ..Edits::default() });
    assert_eq!(tree.read().runs(BUCKET.0, BUCKET.1).unwrap(), [run(2)]);
    assert_eq!(tree.read().bucket(BUCKET.0, BUCKET.1).unwrap().next_run, 3);
    tree.settle().unwrap();
    let leaves = tree.store().prefix(&[b'k', NodeKind::Leaf as u8]);
    let runs =
        leaves.map(|r| Path::from_bytes(r.unwrap().key[1..15].try_into().unwrap()).unwrap().run);
    assert_eq!(runs.collect::<Vec<_>>(), [RunOrd::of(2); 2], "leaves of merged runs are left");
    drop(tree);
    let opened = house.open().unwrap();
    assert!(opened.tree.read().lists(&leaf_path(&run(2), 0), &entry(2)).unwrap());
}

#[test]
fn a_dropped_index_leaves_no_row_and_page_ordinals_are_not_used_again() {
    let house = House::new();
    let tree = house.create(Sabotage::None);
    grown(&tree, BUCKET);
    let kid = take(&tree, BUCKET).0;
    let entry = |n: u8| Listing { token: [n; 16], page: 0, slot: n };
    tree.add_run(BUCKET, Some(draft(0, &[entry(1), entry(200)])), PageOrd::of(9)).unwrap();
    erase(&tree, Edits { unindex: [BUCKET].into(), ..Edits::default() });
    assert_eq!(tree.read().runs(BUCKET.0, BUCKET.1).unwrap(), []);
    let head = tree.read().bucket(BUCKET.0, BUCKET.1).unwrap();
    assert_eq!((head.indexed_below.value(), head.next_run), (0, 1));
    tree.settle().unwrap();
    for kind in [NodeKind::Index, NodeKind::Run, NodeKind::Leaf] {
        assert!(tree.store().prefix(&[b'k', kind as u8]).next().is_none(), "{kind:?}");
    }
    let pages = tree.read().children(&Path::bucket(BUCKET.0, BUCKET.1)).unwrap();
    assert!(pages.len() > 1 && tree.read().dek(kid).is_ok());
    tree.add_run(BUCKET, Some(draft(1, &[entry(1)])), PageOrd::of(1)).unwrap();
    let run = Path::run(BUCKET.0, BUCKET.1, RunOrd::of(1));
    assert!(tree.read().lists(&leaf_path(&run, 0), &entry(1)).unwrap());
}

#[test]
fn after_an_index_is_dropped_the_last_page_still_says_which_ordinals_were_used() {
    let house = House::new();
    let tree = house.create(Sabotage::None);
    grown(&tree, BUCKET);
    let kids: Vec<_> = (0..8).map(|_| take(&tree, BUCKET).0).collect();
    tree.add_run(BUCKET, None, PageOrd::of(1)).unwrap();
    drop(tree);
    let tree = house.open().unwrap().tree;
    tree.slots().register(BUCKET, 1);
    erase(&tree, dead(&kids));
    let pages = || tree.read().children(&Path::bucket(BUCKET.0, BUCKET.1)).unwrap();
    assert_eq!(pages(), [], "the page went with its last slot");
    erase(&tree, Edits { unindex: [BUCKET].into(), ..Edits::default() });
    assert!(pages().last().is_some_and(|p| p.ord >= 1), "ordinal 0 would be used again");
}

#[test]
fn a_rotation_seals_both_slots_under_the_new_kek_and_keeps_every_key() {
    let house = House::new();
    let tree = house.create(Sabotage::None);
    grown(&tree, BUCKET);
    let kept = take(&tree, BUCKET);
    let source = KekSource::File(house.path("kek"));
    let old = source.candidates().unwrap();
    let (old_id, _) = tree.kek();
    let clock = ManualClock::at(UnixMillis(9));
    tree.batch(Edits::default(), Some(&source), &clock, &mut no_ledger).unwrap();
    assert_ne!(tree.kek().0, old_id);
    assert_eq!(tree.kek().1, UnixMillis(9));
    let images = tree.anchor().anchor.load().unwrap();
    assert!(matches!(anchor::select(&images, &old), Err(AnchorError::WrongKek { .. })));
    drop(tree);
    let opened = house.open().unwrap();
    assert_eq!(opened.tree.read().dek(kept.0).unwrap().expose(), &kept.1);
}

fn copy(from: &FilePath, to: &FilePath) {
    std::fs::write(to, std::fs::read(from).unwrap()).unwrap();
}

#[test]
fn an_older_anchor_and_an_older_store_are_refused_and_the_right_pair_opens() {
    let house = House::new();
    let tree = house.create(Sabotage::None);
    grown(&tree, BUCKET);
    let (kid, _) = take(&tree, BUCKET);
    copy(&house.path("anchor"), &house.path("old"));
    let old_rows = house.engine.scan(&[], &[0xff], usize::MAX).unwrap();
    erase(&tree, dead(&[kid]));
    tree.settle().unwrap();
    drop(tree);
    copy(&house.path("anchor"), &house.path("new"));
    copy(&house.path("old"), &house.path("anchor"));
    let refused = house.open().err();
    assert!(
        matches!(refused, Some(KeyError::Anchor(AnchorError::Older { anchor: 1, store: 2 }))),
        "{refused:?}"
    );
    copy(&house.path("new"), &house.path("anchor"));
    assert!(house.open().is_ok());
    let mut old_house = House::new();
    copy(&house.path("anchor"), &old_house.path("anchor"));
    copy(&house.path("kek"), &old_house.path("kek"));
    old_house.engine = Arc::new(Memory::new());
    let writes: Vec<_> = old_rows.into_iter().map(|r| (r.key, Some(r.value))).collect();
    old_house.engine.commit(&writes).unwrap();
    let refused = old_house.open().err();
    assert!(
        matches!(refused, Some(KeyError::Anchor(AnchorError::StoreOlder { .. }))),
        "{refused:?}"
    );
}

/// Whether a slot that is handed out while a batch is under way opens with its key afterwards.
fn slot_taken_during_a_batch_keeps_its_key(sabotage: Sabotage) -> bool {
    let house = House::new();
    let tree = house.create(sabotage);
    grown(&tree, BUCKET);
    let (doomed, _) = take(&tree, BUCKET);
    let mut taken = None;
    let clock = ManualClock::at(UnixMillis(5));
    let mut ledger = |facts: &BatchFacts| {
        // Between S1 and S3.
        if let super::slots::Taken::Slot { kid, node, ticket } = tree.slots().take(BUCKET) {
            let plain = tree.cache.open(&Path::page_of(kid), &node).unwrap();
            taken = Some((kid, *node::dek_in(&plain, kid.slot).unwrap().expose()));
            drop(ticket);
        }
        no_ledger(facts)
    };
    tree.batch(dead(&[doomed]), None, &clock, &mut ledger).unwrap();
    let (kid, key) = taken.expect("spare pages let puts go on during a batch");
    tree.read().dek(kid).is_ok_and(|dek| *dek.expose() == key)
}

#[test]
fn r4_a_put_during_a_batch_keeps_its_key_unless_touched_pages_stay_open() {
    assert!(slot_taken_during_a_batch_keeps_its_key(Sabotage::None));
    assert!(!slot_taken_during_a_batch_keeps_its_key(Sabotage::SlotAfterClose));
}

/// Whether merging runs gives fresh keys to the nodes that lose an entry, and to all above.
fn merge_gives_fresh_keys(sabotage: Sabotage) -> bool {
    let house = House::new();
    let tree = house.create(sabotage);
    grown(&tree, BUCKET);
    let entry = |n: u8| Listing { token: [n; 16], page: 0, slot: n };
    tree.add_run(BUCKET, Some(draft(0, &[entry(1)])), PageOrd::of(1)).unwrap();
    tree.add_run(BUCKET, Some(draft(1, &[entry(2)])), PageOrd::of(1)).unwrap();
    let above = [
        Path::index(BUCKET.0, BUCKET.1),
        Path::bucket(BUCKET.0, BUCKET.1),
        Path::tenant(BUCKET.0),
        Path::ROOT,
    ];
    let keys = |tree: &Tree| {
        let reader = tree.read();
        above.map(|p| *reader.entry(&p).unwrap().key.expose())
    };
    let before = keys(&tree);
    let old = vec![RunOrd::of(0), RunOrd::of(1)];
    let merged = Some(draft(2, &[entry(1), entry(2)]));
    erase(&tree, Edits { merge: vec![(BUCKET, old, merged)], ..Edits::default() });
    before.iter().zip(keys(&tree)).all(|(b, a)| *b != a)
}

#[test]
fn r4_a_merge_is_a_removal() {
    assert!(merge_gives_fresh_keys(Sabotage::None));
    assert!(!merge_gives_fresh_keys(Sabotage::MergeWithoutRekey));
}

#[test]
fn open_pages_are_rekeyed_without_losing_a_key() {
    let house = House::new();
    let tree = house.create(Sabotage::None);
    grown(&tree, BUCKET);
    let kept = take(&tree, BUCKET);
    let path = Path::page_of(kept.0);
    let before = *tree.read().entry(&path).unwrap().key.expose();
    erase(&tree, Edits { rekey_open: true, ..Edits::default() });
    assert_ne!(before, *tree.read().entry(&path).unwrap().key.expose());
    assert_eq!(tree.read().dek(kept.0).unwrap().expose(), &kept.1);
    assert_ne!(take(&tree, BUCKET).0.page, kept.0.page, "a touched page takes no more puts");
}

/// An anchor whose n-th write from now fails.
struct Failing(FileAnchor, Arc<std::sync::atomic::AtomicI64>);

impl anchor::Anchor for Failing {
    fn load(&mut self) -> Result<[Vec<u8>; 2], AnchorError> {
        self.0.load()
    }
    fn write(&mut self, slot: u8, image: &[u8]) -> Result<(), AnchorError> {
        match self.1.fetch_sub(1, std::sync::atomic::Ordering::SeqCst) {
            1 => Err(AnchorError::Io("written", "planned".into())),
            _ => self.0.write(slot, image),
        }
    }
    fn medium(&self) -> crate::class::Medium {
        self.0.medium()
    }
    fn describe(&self) -> String {
        self.0.describe()
    }
}

#[test]
fn after_a_failed_write_to_the_anchor_nothing_is_done_until_it_is_reopened() {
    for n in [1, 2] {
        let house = House::new();
        let tree = house.create(Sabotage::None);
        grown(&tree, BUCKET);
        let ((first, _), (second, _)) = (take(&tree, BUCKET), take(&tree, BUCKET));
        drop(tree);
        let countdown = Arc::new(std::sync::atomic::AtomicI64::new(0));
        let file = || FileAnchor::open(&house.path("anchor")).unwrap();
        let failing = Box::new(Failing(file(), countdown.clone()));
        let parts = Parts { anchor: failing, ..house.parts(file(), Sabotage::None) };
        let tree = open(parts, UnixMillis(2)).unwrap().tree;
        countdown.store(n, std::sync::atomic::Ordering::SeqCst);
        let clock = ManualClock::at(UnixMillis(5));
        let batch = |kid| tree.batch(dead(&[kid]), None, &clock, &mut no_ledger).map(drop);
        let failed = batch(first);
        assert!(matches!(failed, Err(KeyError::Anchor(AnchorError::Io(..)))), "{n}: {failed:?}");
        // It would not fail again.
        assert_eq!(tree.check_running(), Err(KeyError::Stopped));
        assert_eq!(batch(second), Err(KeyError::Stopped));
        assert_eq!(tree.refresh(UnixMillis(6), true), Err(KeyError::Stopped));
        drop(tree);
        let tree = house.open().unwrap().tree;
        // S4 decides, and it was the first of the two.
        assert_eq!(tree.read().dek(first).is_ok(), n == 1);
        assert!(tree.read().dek(second).is_ok());
    }
}

#[test]
fn rows_that_a_store_claims_to_have_written_are_read_back_before_the_anchor_is() {
    use crate::store::faulty::{Fault, Faulty, Plan};
    let house = House::new();
    let tree = house.create(Sabotage::None);
    grown(&tree, BUCKET);
    let (kid, _) = take(&tree, BUCKET);
    drop(tree);
    let plan = Plan::new(Vec::new());
    let lying = Arc::new(Faulty::new(house.engine.clone(), plan.clone()));
    let store = Store::open(lying as Arc<dyn Engine>, None, None).unwrap();
    let anchor = FileAnchor::open(&house.path("anchor")).unwrap();
    let parts = Parts { store, ..house.parts(anchor, Sabotage::None) };
    let tree = open(parts, UnixMillis(2)).unwrap().tree;
    plan.add(Fault::DropWrite(plan.writes() + 1));
    let clock = ManualClock::at(UnixMillis(5));
    let lied = tree.batch(dead(&[kid]), None, &clock, &mut no_ledger);
    assert!(matches!(lied, Err(KeyError::Damaged(_))), "{:?}", lied.err());
    assert_eq!(tree.check_running(), Err(KeyError::Stopped));
    drop(tree);
    assert!(house.open().unwrap().tree.read().dek(kid).is_ok(), "nothing was answered");
}

#[test]
fn an_erasure_point_that_a_crash_left_out_is_made_up_for_at_the_next_open() {
    let house = House::new();
    let tree = house.create(Sabotage::SkipScrub);
    grown(&tree, BUCKET);
    let (kid, _) = take(&tree, BUCKET);
    erase(&tree, dead(&[kid]));
    drop(tree);
    let generations = || {
        let keks = KekSource::File(house.path("kek")).candidates().unwrap();
        let images = anchor::Anchor::load(&mut FileAnchor::open(&house.path("anchor")).unwrap());
        let images = images.unwrap();
        [0u8, 1].map(|slot| {
            let open = anchor::open_slot(slot, &images[usize::from(slot)], &keks).unwrap();
            open.payload.generation.0
        })
    };
    assert_ne!(generations(), [2, 2]);
    drop(house.open().unwrap());
    assert_eq!(generations(), [2, 2], "the old root key is still there");
}

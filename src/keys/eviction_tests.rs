//! A cache that holds next to nothing: what was just added is evicted at once, and is not called damaged for it.

use std::sync::Arc;
use std::time::Duration;

use super::file_anchor::FileAnchor;
use super::kek::{KekSource, create_file};
use super::path::Path;
use super::*;
use crate::clock::UnixMillis;
use crate::id::{BucketOrd, Day, PageOrd, TenantOrd, TypeOrd, VaultId};
use crate::store::faulty::{Fault, Faulty, Plan};
use crate::store::{Batch, Engine, Memory, Store};

const BUCKET: (TenantOrd, BucketOrd) = (TenantOrd::of(1), BucketOrd::of(0));

fn tree(dir: &std::path::Path, engine: Arc<dyn Engine>) -> Tree {
    create_file(&dir.join("kek")).unwrap();
    let parts = Parts {
        store: Store::open(engine, None, None).unwrap(),
        anchor: Box::new(FileAnchor::create(&dir.join("anchor")).unwrap()),
        kek: KekSource::File(dir.join("kek")),
        journal_dir: None,
        cache_bytes: 0,
        metrics: Arc::default(),
        sabotage: Sabotage::None,
    };
    create(parts, VaultId([7; 16]), UnixMillis(1)).unwrap().tree
}

async fn furnish(tree: &Tree) {
    let added = tree.add_tenant(BUCKET.0, |_| Ok(Batch::default())).await.unwrap();
    added.1.await.unwrap();
    let (tenant, bucket) = BUCKET;
    let new = NewBucket { tenant, bucket, rtype: TypeOrd(1), expire_day: Day(20_000) };
    tree.add_bucket(new).await.unwrap();
}

#[tokio::test]
async fn pages_that_are_evicted_as_they_are_added_take_puts() {
    let dir = tempfile::tempdir().unwrap();
    let tree = tree(dir.path(), Arc::new(Memory::new()));
    furnish(&tree).await;
    {
        let _held = tree.mutation.lock().await;
        tree.add_pages(BUCKET, 60).unwrap();
    }
    let mut kids = std::collections::BTreeSet::new();
    for _ in 0..2_000 {
        kids.insert(tree.take_slot(BUCKET).await.unwrap().kid);
    }
    assert_eq!(kids.len(), 2_000);
}

#[test]
fn a_page_that_is_evicted_before_its_row_is_written_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Arc::new(Plan::default());
    let slow = Arc::new(Faulty::new(Arc::new(Memory::new()), Arc::clone(&plan)));
    let tree = tree(dir.path(), slow);
    let rt = tokio::runtime::Builder::new_current_thread().build().unwrap();
    rt.block_on(furnish(&tree));
    tree.store.commit_blocking(Batch::default()).unwrap();
    let hold = plan.hold();
    let held = tree.mutation.blocking_lock();
    tree.add_pages(BUCKET, 40).unwrap();
    drop(held);
    while plan.waiting() == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let seen = std::thread::scope(|scope| {
        let looks = scope.spawn(|| {
            let pages = (0..40).map(|n| Path::page(BUCKET.0, BUCKET.1, PageOrd::of(n)));
            pages.map(|page| tree.read().page_state(&page).map(|s| s.is_some())).collect::<Vec<_>>()
        });
        std::thread::sleep(Duration::from_millis(50));
        drop(hold);
        looks.join().unwrap()
    });
    assert!(seen.iter().all(|s| *s == Ok(true)), "{seen:?}");
    assert_eq!(tree.metrics.damaged_rows.value(), 0);
}

/// The second time nobody waits for the committer, which is what [`Tree::load`] does before it gives a node up.
#[test]
fn who_asks_for_a_lost_page_again_waits_for_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Arc::new(Plan::default());
    let engine = Arc::new(Faulty::new(Arc::new(Memory::new()), Arc::clone(&plan)));
    let tree = tree(dir.path(), engine);
    let rt = tokio::runtime::Builder::new_current_thread().build().unwrap();
    rt.block_on(furnish(&tree));
    let page = Path::page(BUCKET.0, BUCKET.1, PageOrd::of(0));
    {
        let _held = tree.mutation.blocking_lock();
        tree.add_pages(BUCKET, 1).unwrap();
    }
    tree.store.commit_blocking(Batch::default()).unwrap();
    let entry = tree.read().entry(&page).unwrap();
    let look = || tree.load(&page, &entry).map(drop);
    assert_eq!(look(), Ok(()));
    plan.add(Fault::HideOnRead(page.row_key(entry.ver)));
    assert_eq!(look(), Err(KeyError::Damaged(page.kind)));
    let hold = plan.hold();
    let mut other = Batch::default();
    other.put(*b"other", *b"row");
    let written = tree.store.submit(other).unwrap();
    while plan.waiting() == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let (told, tell) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| told.send(look()));
        let again = tell.recv_timeout(Duration::from_millis(800));
        drop(hold);
        assert_eq!(again, Ok(Err(KeyError::Damaged(page.kind))));
    });
    written.wait().unwrap();
    assert_eq!(tree.metrics.damaged_rows.value(), 2);
    // What is there after all is found at once.
    plan.clear();
    assert_eq!(look(), Ok(()));
}

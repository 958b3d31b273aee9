//! An index that lost a node is made anew from its records: whole, after a crash at any point too, and an erased
//! version is never in it again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lethe::class::ErasureReason;
use lethe::id::RecordId;
use lethe::keys::KeyError;
use lethe::keys::path::NodeKind;
use lethe::keys::rows::prefix_end;
use lethe::store::faulty::{Fault, Faulty, Plan};
use lethe::store::{Engine, Memory, Row, StoreError};
use lethe::vault::value::Value;
use lethe::vault::{EngineChoice, ReadSpec, Vault, VaultError};
use tempfile::TempDir;

use crate::crash::scratch;
use crate::house::{House, TENANT, app, fields, furnish, get, put, slug, update};
use crate::peer::PATIENCE;

const KINDS: [NodeKind; 3] = [NodeKind::Index, NodeKind::Run, NodeKind::Leaf];

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Nodes of the bucket of customers: the tenant's first, after that of subjects.
fn rows_of(engine: &dyn Engine, kind: NodeKind) -> Vec<Row> {
    let prefix = [b'k', kind as u8, 0, 0, 0, 0, 0, 1];
    engine.scan(&prefix, &prefix_end(&prefix), usize::MAX).unwrap()
}

fn find(vault: &Vault, query: &Query) -> Result<BTreeSet<RecordId>, VaultError> {
    let (customer, value) = (slug("customer"), Value::Text(query.1.clone()));
    let spec = ReadSpec::default();
    let found = vault.find_records(&app(), TENANT, &customer, query.0, value, &spec)?;
    Ok(found.0.into_iter().map(|r| r.id).collect())
}

/// A field and the value to look for.
type Query = (&'static str, String);

fn is_index(e: &VaultError) -> bool {
    matches!(e, VaultError::Keys(KeyError::Damaged(kind)) if kind.is_index())
}

/// What a search gives once the index is whole again; until then it must be refused.
fn found_in_the_end(vault: &Vault, query: &Query) -> BTreeSet<RecordId> {
    let since = Instant::now();
    loop {
        match find(vault, query) {
            Ok(found) => return found,
            Err(e) => assert!(is_index(&e) && since.elapsed() < PATIENCE, "{e:?}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A closed vault with runs, without its node journal, and what each search must give.
struct Scene {
    dir: TempDir,
    rows: Vec<Row>,
    anchor: Vec<u8>,
    searches: Vec<(Query, BTreeSet<RecordId>)>,
    gone: Vec<RecordId>,
}

impl Scene {
    fn new() -> Self {
        let dir = scratch();
        let rows = Arc::new(Memory::new());
        let house = House::new(dir.path(), EngineChoice::Given(rows.clone()));
        let vault = house.create();
        let city = |n| (("city", format!("c{n}")), BTreeSet::new());
        let mut searches: Vec<(Query, BTreeSet<RecordId>)> = (0..5).map(city).collect();
        let mut gone = Vec::new();
        runtime().block_on(async {
            furnish(&vault).await;
            for n in 0..260 {
                let (reference, city) = (format!("r{n}"), format!("c{}", n % 5));
                let set = fields(&[("reference", &reference), ("city", &city), ("note", "x")]);
                let id = put(&vault, "customer", set).await.unwrap().id;
                let mut own = BTreeSet::from([id]);
                match n % 13 {
                    0 => {
                        let reason = ErasureReason::Contract;
                        vault.erase_records(&app(), TENANT, &[id], reason, None).await.unwrap();
                        gone.push(id);
                        own.clear();
                    }
                    1 => {
                        update(&vault, id, fields(&[("city", "c0")])).await.unwrap();
                        searches[0].1.insert(id);
                    }
                    _ => drop(searches[n % 5].1.insert(id)),
                }
                searches.push((("reference", reference), own));
            }
        });
        vault.close().unwrap();
        drop(vault);
        std::fs::remove_dir_all(dir.path().join("data/journal")).unwrap();
        let anchor = std::fs::read(dir.path().join("data/anchor")).unwrap();
        let rows = rows.scan(&[], &[u8::MAX], usize::MAX).unwrap();
        Self { dir, rows, anchor, searches, gone }
    }

    /// The vault as it was, with one row of this kind destroyed.
    fn with_a_lost(&self, kind: NodeKind, nth: usize) -> Arc<Memory> {
        let data = self.dir.path().join("data");
        let _ = std::fs::remove_dir_all(data.join("journal"));
        std::fs::write(data.join("anchor"), &self.anchor).unwrap();
        let engine = Arc::new(Memory::new());
        let all = self.rows.iter().map(|r| (r.key.clone(), Some(r.value.clone())));
        engine.commit(&all.collect::<Vec<_>>()).unwrap();
        let of_kind = rows_of(&*engine, kind);
        let lost = of_kind[nth % of_kind.len()].key.clone();
        engine.commit(&[(lost, None)]).unwrap();
        engine
    }

    fn house(&self, engine: Arc<dyn Engine>) -> House {
        House::new(self.dir.path(), EngineChoice::Given(engine))
    }

    fn check(&self, vault: &Vault) {
        for (query, expected) in &self.searches {
            assert_eq!(found_in_the_end(vault, query), *expected, "{query:?}");
        }
        for id in &self.gone {
            assert!(matches!(get(vault, *id), Err(VaultError::Erased(_))));
        }
    }
}

#[test]
fn an_index_that_lost_a_node_answers_nothing_until_it_is_whole_again() {
    let scene = Scene::new();
    for kind in KINDS {
        for nth in 0..4 {
            let engine = scene.with_a_lost(kind, nth);
            let house = scene.house(engine.clone());
            let vault = house.open().unwrap();
            scene.check(&vault);
            assert_eq!(vault.metrics().indexes_rebuilt.value(), 1, "{kind:?}");
            let since = Instant::now();
            while rows_of(&*engine, NodeKind::Index).len() > 1 {
                assert!(since.elapsed() < PATIENCE, "rows of the old index are left");
                std::thread::sleep(Duration::from_millis(5));
            }
            let set = fields(&[("reference", "r14"), ("city", "c4"), ("note", "x")]);
            let double = runtime().block_on(put(&vault, "customer", set));
            assert!(matches!(double, Err(VaultError::Duplicate { .. })), "unique fields hold");
            vault.close().unwrap();
            drop(vault);
            let vault = house.open().unwrap();
            scene.check(&vault);
            assert_eq!(vault.metrics().indexes_rebuilt.value(), 0, "{kind:?}: it was not whole");
            vault.close().unwrap();
        }
    }
}

#[test]
fn an_erasure_mends_the_index_that_it_needs() {
    let scene = Scene::new();
    for kind in KINDS {
        let vault = scene.house(scene.with_a_lost(kind, 1)).open().unwrap();
        let (query, expected) = &scene.searches[3];
        let doomed = *expected.first().unwrap();
        let reason = ErasureReason::SubjectRequest;
        let erased =
            runtime().block_on(vault.erase_records(&app(), TENANT, &[doomed], reason, None));
        erased.unwrap();
        let mut left = expected.clone();
        left.remove(&doomed);
        assert_eq!(found_in_the_end(&vault, query), left);
        vault.close().unwrap();
    }
}

#[test]
fn a_crash_while_an_index_is_made_anew_loses_nothing() {
    let scene = Scene::new();
    for kind in KINDS {
        let mut n = 0;
        loop {
            n += 1;
            assert!(n < 200, "the work does not end");
            let engine = scene.with_a_lost(kind, n as usize);
            let plan = Plan::new(vec![Fault::Write(n, StoreError::Io("planned".into()))]);
            let faulty = Arc::new(Faulty::new(engine.clone(), plan.clone()));
            let mut mended = false;
            if let Ok(vault) = scene.house(faulty).open() {
                // Either it comes to an end, or everything stops.
                let since = Instant::now();
                while !mended && plan.writes() < n && since.elapsed() < PATIENCE {
                    mended = scene.searches.iter().all(|(query, _)| find(&vault, query).is_ok());
                }
            }
            let vault = scene.house(engine).open().unwrap();
            scene.check(&vault);
            vault.close().unwrap();
            if mended {
                break;
            }
        }
        assert!(n > 3, "{kind:?}: only {n} writes, so no fault hit the work");
    }
}

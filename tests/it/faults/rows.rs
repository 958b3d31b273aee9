//! R5, rows: every kind of stored row, flipped, cut and torn through the engine. Each damage is detected and named, the
//! others are served, and node rows and metadata come back from the node journal.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lethe::class::Role;
use lethe::clock::{ManualClock, UnixMillis};
use lethe::id::RecordId;
use lethe::keys::KeyError;
use lethe::keys::rows::ROW_KINDS;
use lethe::store::{Engine, Memory, Row, StoreError};
use lethe::vault::value::Value;
use lethe::vault::{EngineChoice, ReadSpec, Receipt, Vault, VaultError};

use super::{Known, erase, new, renew, runtime};
use crate::crash::{scale, scratch};
use crate::house::{House, TENANT, app, furnish, get, operator, permit, slug};
use crate::model::Dice;

const DAY: i64 = 86_400_000;
const NOW: UnixMillis = UnixMillis(1_790_000_000_000);

/// Memory that remembers the batch journal rows it was given: they live for moments only.
struct Spy {
    rows: Memory,
    /// A row that cannot be read.
    bad: Mutex<Vec<u8>>,
    chores: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl Engine for Spy {
    fn name(&self) -> &'static str {
        "spy"
    }
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if *self.bad.lock().unwrap() == key {
            return Err(StoreError::Io("planned".into()));
        }
        self.rows.get(key)
    }
    fn scan(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<Row>, StoreError> {
        self.rows.scan(start, end, limit)
    }
    fn commit(&self, writes: &[(Vec<u8>, Option<Vec<u8>>)]) -> Result<(), StoreError> {
        let chores = writes.iter().filter(|(k, v)| k.first() == Some(&b'b') && v.is_some());
        let mut seen = self.chores.lock().unwrap();
        seen.extend(chores.map(|(k, v)| (k.clone(), v.clone().unwrap())));
        self.rows.commit(writes)
    }
}

/// Waits until the eraser's upkeep has merged all runs that it will.
fn merges_are_over(vault: &Vault) {
    let generation = || vault.status(&permit(Role::Operator, None)).unwrap().generation;
    let mut last = generation();
    for _ in 0..60 {
        std::thread::sleep(Duration::from_millis(700));
        let now = generation();
        if now == last {
            return;
        }
        last = now;
    }
    panic!("merges do not end");
}

struct Scene {
    _dir: tempfile::TempDir,
    spy: Arc<Spy>,
    house: House,
    live: Vec<Known>,
    erased: Vec<(RecordId, Receipt)>,
    vault: Option<Vault>,
    rt: tokio::runtime::Runtime,
    dice: Dice,
    cases: usize,
    tally: BTreeMap<String, usize>,
}

impl Scene {
    /// A vault with every kind of row and of node.
    fn new() -> Self {
        let dir = scratch();
        let spy =
            Arc::new(Spy { rows: Memory::new(), bad: Mutex::default(), chores: Mutex::default() });
        let clock = Arc::new(ManualClock::at(NOW));
        let mut house = House::new(dir.path(), EngineChoice::Given(spy.clone()));
        house.clock = clock.clone();
        // One long run first: it needs a directory of leaves.
        house.change = |setup| setup.index_tail_max = 16_384;
        let rt = runtime();
        let vault = house.create();
        let (mut live, mut erased) = (Vec::new(), Vec::new());
        rt.block_on(async {
            furnish(&vault).await;
            for n in 0..66 {
                let id = slug(&format!("tenant-{n}"));
                vault.create_tenant(&operator(None), id, String::new()).await.unwrap();
            }
            for n in 0..1150 {
                live.push(new(&vault, "customer", n, if n % 100 == 0 { 20_000 } else { 0 }).await);
            }
        });
        vault.close().unwrap();
        drop(vault);
        // Then a short run and a page at each restart, until they need directories too.
        house.change = |_| ();
        for n in 0..70 {
            let vault = house.open().unwrap();
            for m in 0..3 {
                live.push(rt.block_on(new(&vault, "customer", 2000 + n * 3 + m, 0)));
            }
            vault.close().unwrap();
        }
        house.change = |setup| setup.index_tail_max = 16_384;
        let vault = house.open().unwrap();
        rt.block_on(async {
            for n in 0..66 {
                clock.set(UnixMillis(NOW.0 + n * DAY));
                live.push(new(&vault, "visit", 3000 + n as usize, 0).await);
            }
            clock.set(NOW);
            for n in 4000..4020 {
                let doomed = new(&vault, "customer", n, 0).await;
                erased.push((doomed.id, erase(&vault, doomed.id).await.unwrap()));
            }
        });
        merges_are_over(&vault);
        vault.close().unwrap();
        drop(vault);
        // A clean stop erases old versions: those of this scene are made after it, and wait.
        let vault = house.open().unwrap();
        rt.block_on(async {
            for known in live.iter_mut().take(12) {
                renew(&vault, known).await;
            }
        });
        let vault = Some(vault);
        let (dice, tally) = (Dice::new(5), BTreeMap::new());
        Self { _dir: dir, spy, house, live, erased, vault, rt, dice, cases: 0, tally }
    }

    fn vault(&self) -> &Vault {
        self.vault.as_ref().unwrap()
    }

    fn all(&self, prefix: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let all = prefix.is_empty();
        let end = if all { vec![u8::MAX] } else { lethe::keys::rows::prefix_end(prefix) };
        let rows = self.spy.rows.scan(prefix, &end, usize::MAX).unwrap();
        rows.into_iter().map(|r| (r.key, r.value)).collect()
    }

    fn set(&self, key: &[u8], value: &[u8]) {
        self.spy.rows.commit(&[(key.to_vec(), Some(value.to_vec()))]).unwrap();
    }

    fn value(&self, key: &[u8]) -> Vec<u8> {
        self.spy.rows.get(key).unwrap().unwrap()
    }

    /// Another value than this one: a flipped bit, a cut, or a torn write.
    fn damage(&mut self, value: &[u8]) -> Vec<u8> {
        let at = self.dice.below(value.len() as u64) as usize;
        let mut bad = value.to_vec();
        match self.dice.below(4) {
            0 => bad.truncate(at),
            1 => bad[at..].fill(0),
            _ => bad[at] ^= 1 << self.dice.below(8),
        }
        if bad == value {
            bad[at] ^= 0x80;
        }
        bad
    }

    fn pick_live(&mut self) -> Known {
        self.dice.pick(&self.live).unwrap().clone()
    }

    fn seen(&mut self, kind: &str, outcome: &str) {
        self.cases += 1;
        *self.tally.entry(format!("{kind}: {outcome}")).or_default() += 1;
    }

    fn pointer_key(&self, id: RecordId) -> Vec<u8> {
        [b"u".as_slice(), &[0; 3], &id.0].concat()
    }

    fn record_keys(&self, id: RecordId) -> Vec<Vec<u8>> {
        let pointer = self.value(&self.pointer_key(id));
        let rows = self.all(&[b"r".as_slice(), &pointer[4..14]].concat());
        rows.into_iter().map(|(k, _)| k).collect()
    }

    fn neighbour_is_served(&mut self, not: RecordId) {
        let known = loop {
            let known = self.pick_live();
            if known.id != not {
                break known;
            }
        };
        known.read(self.vault()).unwrap();
    }

    /// Damages the row, lets `look` judge the open vault, and puts the row back.
    fn case(&mut self, kind: &str, key: &[u8], look: &mut dyn FnMut(&mut Self) -> &'static str) {
        let good = self.value(key);
        let bad = self.damage(&good);
        self.set(key, &bad);
        let outcome = look(self);
        self.set(key, &good);
        self.seen(kind, outcome);
    }

    fn record_rows(&mut self) {
        let known = self.pick_live();
        let keys = self.record_keys(known.id);
        let key = self.dice.pick(&keys).unwrap().clone();
        self.case("r", &key, &mut |scene| {
            let seen = known.read(scene.vault());
            assert!(matches!(seen, Err(VaultError::Damaged("record"))), "{seen:?}");
            scene.neighbour_is_served(known.id);
            "named"
        });
        known.read(self.vault()).unwrap();
    }

    fn pointers(&mut self) {
        let known = self.pick_live();
        self.case("u", &self.pointer_key(known.id), &mut |scene| {
            let seen = known.read(scene.vault());
            assert!(matches!(seen, Err(VaultError::Damaged("record"))), "{seen:?}");
            scene.neighbour_is_served(known.id);
            "named"
        });
    }

    /// Evidence of an erasure: damaged, it is never signed again, and the record stays gone.
    fn evidence(&mut self) {
        let (id, receipt) = self.dice.pick(&self.erased).unwrap().clone();
        let tombstone = [b"t".as_slice(), &[0; 3], &id.0].concat();
        let leaf = [b"l".as_slice(), &receipt.leaf_index.to_be_bytes()].concat();
        let level = [b"g".as_slice(), &receipt.generation.0.to_be_bytes()].concat();
        for (kind, key) in [("t", tombstone), ("l", leaf), ("g", level)] {
            self.case(kind, &key, &mut |scene| {
                let again = scene.rt.block_on(erase(scene.vault(), id));
                assert!(matches!(again, Err(VaultError::Damaged(_))), "{kind}: {again:?}");
                assert!(matches!(get(scene.vault(), id), Err(VaultError::Erased(_))));
                "named"
            });
            assert_eq!(self.rt.block_on(erase(self.vault(), id)).unwrap(), receipt);
        }
    }

    fn close(&mut self) {
        self.vault.take().unwrap().close().unwrap();
    }

    /// Damages a row of a closed vault, opens it, judges, closes, and puts the row back.
    fn reopened(
        &mut self,
        kind: &str,
        key: &[u8],
        journal: bool,
        look: &mut dyn FnMut(&mut Self, Result<(), VaultError>) -> &'static str,
    ) {
        let (data, aside) = (self.house.dir.join("data/journal"), self.house.dir.join("aside"));
        if !journal {
            std::fs::rename(&data, &aside).unwrap();
        }
        self.case(kind, key, &mut |scene| {
            let opened = scene.house.open();
            let outcome = opened.map(|vault| scene.vault = Some(vault));
            let seen = look(scene, outcome);
            if let Some(vault) = scene.vault.take() {
                vault.close().unwrap();
            }
            seen
        });
        if !journal {
            std::fs::remove_dir_all(&data).unwrap();
            std::fs::rename(&aside, &data).unwrap();
        }
    }

    fn rescues(&self) -> u64 {
        self.vault().metrics().journal_rescues.value()
    }

    /// Reads what hangs below a node: a record of its page, or finds by value.
    fn touch(&mut self, node: &[u8]) -> Result<(), VaultError> {
        let (kind, place) = (node[1], &node[2..8]);
        if kind == 7 {
            // The page: a record in it, if a living one is there.
            let page = &node[12..15];
            let rows = self.all(&[b"r".as_slice(), place, page].concat());
            for (_, row) in rows {
                let id = RecordId(row[18..34].try_into().unwrap());
                if let Some(known) = self.live.iter().find(|k| k.id == id) {
                    known.read(self.vault())?;
                }
            }
            return Ok(());
        }
        for known in self.live.iter().step_by(97) {
            known.read(self.vault())?;
        }
        let customer = slug("customer");
        let spec = ReadSpec::default();
        let mut found = 0;
        for city in 0..5 {
            let value = Value::Text(format!("c{city}"));
            found +=
                self.vault().find_records(&app(), TENANT, &customer, "city", value, &spec)?.len();
        }
        assert_eq!(found, 1150 + 210, "a search by value is whole or refused");
        if kind == 12 {
            // Listings are spread over all leaves: one of them is in this one.
            for reference in (0..1150).chain(2000..2210) {
                let value = Value::Text(format!("r{reference}"));
                let found = self.vault().find_records(
                    &app(),
                    TENANT,
                    &customer,
                    "reference",
                    value,
                    &spec,
                )?;
                assert_eq!(found.len(), 1, "a search by value is whole or refused");
            }
        }
        Ok(())
    }

    fn node_rows(&mut self, key: &[u8]) {
        let kind = key[1];
        let name = format!("k{kind:02}");
        let key = key.to_vec();
        self.reopened(&name, &key, true, &mut |scene, opened| {
            opened.unwrap();
            scene.touch(&key).unwrap();
            if scene.rescues() > 0 { "rescued" } else { "not needed" }
        });
        *self.spy.bad.lock().unwrap() = key.clone();
        self.vault = Some(self.house.open().unwrap());
        self.touch(&key).unwrap();
        let seen = if self.rescues() > 0 { "unreadable, rescued" } else { "not needed" };
        self.spy.bad.lock().unwrap().clear();
        self.close();
        self.seen(&name, seen);
        self.reopened(&name, &key, false, &mut |scene, opened| {
            let named = |e: &VaultError| match e {
                VaultError::Keys(KeyError::Damaged(found)) => {
                    assert!(e.to_string().contains("lethed repair"));
                    *found as u8 == kind
                }
                _ => false,
            };
            match opened.and_then(|()| scene.touch(&key)) {
                Ok(()) => "not needed, no journal",
                Err(e) => {
                    assert!(named(&e), "kind {kind}: {e:?}");
                    "named, no journal"
                }
            }
        });
    }
}

fn sample(dice: &mut Dice, rows: &[(Vec<u8>, Vec<u8>)], most: usize) -> Vec<Vec<u8>> {
    let mut chosen = BTreeSet::new();
    for _ in 0..most {
        chosen.extend(dice.pick(rows).map(|(k, _)| k.clone()));
    }
    chosen.into_iter().collect()
}

fn others(scene: &mut Scene) {
    let metadata = scene.all(b"m");
    for key in sample(&mut scene.dice, &metadata, 12) {
        scene.reopened("m", &key, true, &mut |scene, opened| {
            opened.unwrap();
            assert!(scene.rescues() > 0);
            scene.live[0].read(scene.vault()).unwrap();
            "rescued"
        });
        scene.reopened("m", &key, false, &mut |_, opened| {
            assert!(matches!(opened, Err(VaultError::Damaged("metadata"))), "{opened:?}");
            "named, no journal"
        });
    }
    let frontier = scene.all(b"h").pop().unwrap().0;
    for _ in 0..12 {
        scene.reopened("h", &frontier, true, &mut |_, opened| {
            opened.unwrap();
            "from its leaves"
        });
    }
    let (leaf, good) = scene.all(b"l").swap_remove(3);
    let bad = scene.damage(&good);
    scene.set(&leaf, &bad);
    scene.reopened("h", &frontier, true, &mut |_, opened| {
        assert!(matches!(opened, Err(VaultError::Damaged("ledger"))), "{opened:?}");
        "named"
    });
    scene.set(&leaf, &good);
    for _ in 0..12 {
        scene.reopened("s", b"s", true, &mut |_, opened| {
            assert!(matches!(
                opened,
                Err(VaultError::Keys(KeyError::Store(StoreError::Damaged(_))))
            ));
            "named"
        });
        for journal in [true, false] {
            let good = scene.value(b"v");
            scene.reopened("v", b"v", journal, &mut |scene, opened| {
                opened.unwrap();
                scene.live[0].read(scene.vault()).unwrap();
                // All but the time of the vault's creation, which nothing can prove.
                let now = scene.value(b"v");
                assert_eq!((now.len(), &now[..22]), (30, &good[..22]));
                if scene.vault().metrics().damaged_rows.value() > 0 {
                    "healed"
                } else {
                    "not needed"
                }
            });
        }
    }
}

/// A changed key in a batch journal row would name a row of the living: nothing of a damaged one is done.
fn chores(scene: &mut Scene) {
    let seen: Vec<_> = scene.spy.chores.lock().unwrap().clone().into_iter().collect();
    for (key, value) in seen.iter().step_by(3).take(20) {
        for _ in 0..2 {
            let bad = scene.damage(value);
            let before: Vec<_> = [b"r", b"u", b"k"].iter().map(|p| scene.all(*p)).collect();
            scene.set(key, &bad);
            scene.house.open().unwrap().close().unwrap();
            let after: Vec<_> = [b"r", b"u", b"k"].iter().map(|p| scene.all(*p)).collect();
            assert!(before == after, "a damaged chore was done");
            assert!(scene.spy.rows.get(key).unwrap().is_none());
            scene.seen("b", "ignored");
        }
    }
}

#[test]
fn every_kind_of_row_is_detected_named_and_the_others_are_served() {
    let mut scene = Scene::new();
    let kinds: BTreeSet<u8> = scene.all(b"").iter().map(|(k, _)| k[0]).collect();
    let listed: BTreeSet<u8> = ROW_KINDS.iter().map(|(k, _)| *k).filter(|k| *k != b'b').collect();
    assert_eq!(kinds, listed, "every kind of row is in the scene");
    let nodes: BTreeSet<u8> = scene.all(b"k").iter().map(|(k, _)| k[1]).collect();
    assert_eq!(nodes, (1..=12).collect(), "every kind of node is in the scene");
    for _ in 0..scale(2900, 300_000) {
        scene.record_rows();
    }
    for _ in 0..scale(1400, 100_000) {
        scene.pointers();
    }
    for _ in 0..scale(220, 20_000) {
        scene.evidence();
    }
    scene.close();
    for kind in nodes {
        let rows = scene.all(&[b'k', kind]);
        for key in sample(&mut scene.dice, &rows, scale(6, 500)) {
            scene.node_rows(&key);
        }
    }
    others(&mut scene);
    chores(&mut scene);
    println!("R5 rows: {} cases, {:?}", scene.cases, scene.tally);
    assert!(scene.cases >= 5_000, "{}", scene.cases);
    let total = |end: &str| -> usize {
        scene
            .tally
            .iter()
            .filter(|(k, _)| k.starts_with('k') && k.ends_with(end))
            .map(|(_, n)| n)
            .sum()
    };
    assert!(total(": unreadable, rescued") > 20, "{:?}", scene.tally);
    assert!(total(": rescued") > total(": not needed"), "{:?}", scene.tally);
    assert!(total(": named, no journal") > total(": not needed, no journal"));
    assert!(scene.tally["v: healed"] > 6, "{:?}", scene.tally);
    // After all of it nothing is lost.
    let vault = scene.house.open().unwrap();
    scene.live.iter().for_each(|k| k.read(&vault).unwrap());
    let (id, receipt) = &scene.erased[0];
    assert_eq!(scene.rt.block_on(erase(&vault, *id)).unwrap(), *receipt);
}

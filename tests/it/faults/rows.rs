//! R5, rows: every kind of stored row, flipped, cut and torn through the engine. Each damage is detected and named, the
//! others are served, and node rows and metadata come back from the node journal.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use lethe::audit::{Act, Entry, named};
use lethe::class::Role;
use lethe::keys::KeyError;
use lethe::keys::anchor::AnchorError;
use lethe::keys::rows::ROW_KINDS;
use lethe::store::{Engine, StoreError};
use lethe::vault::certificate::Wanted;
use lethe::vault::certificate::facts::AskerKind;
use lethe::vault::{AuditFilter, SubjectQuery, VaultError};

use super::erase;
use super::scene::Scene;
use crate::crash::scale;
use crate::house::{TENANT, get, permit, slug};
use crate::model::Dice;
use crate::peer::PATIENCE;

impl Scene {
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
        let before = self.snapshot();
        self.reopened(&name, &key, false, &mut |scene, opened| {
            let named = |e: &VaultError| match e {
                VaultError::Keys(KeyError::Damaged(found)) => {
                    assert!(e.to_string().contains("lethed repair"));
                    *found as u8 == kind
                }
                _ => false,
            };
            match opened.and_then(|()| scene.touch_in_the_end(&key)) {
                Ok(()) if scene.vault().metrics().indexes_rebuilt.value() > 0 => {
                    assert!(kind >= 8, "{kind}");
                    "made anew, no journal"
                }
                Ok(()) => "not needed, no journal",
                Err(e) => {
                    assert!(kind < 8, "an index is made anew: {e:?}");
                    assert!(named(&e), "kind {kind}: {e:?}");
                    "named, no journal"
                }
            }
        });
        self.restore(before);
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

/// Nobody knows what a damaged one stands for: doing it again could double a record.
fn requests(scene: &mut Scene) {
    let [(key, _)] = scene.all(b"p").try_into().unwrap();
    let made = scene.create_once(scene.vault()).unwrap();
    scene.case("p", &key, &mut |scene| {
        let again = scene.create_once(scene.vault());
        assert!(matches!(again, Err(VaultError::OtherRequest)), "{again:?}");
        let known = scene.pick_live();
        known.read(scene.vault()).unwrap();
        "refused"
    });
    assert_eq!(scene.create_once(scene.vault()).unwrap(), made);
}

/// Entries of the audit log that do not open are named, and the rest is told; a lost end is found again from them.
fn log(scene: &mut Scene) {
    let page = |scene: &Scene| {
        scene.rt.block_on(scene.vault().settle_log()).unwrap();
        let permit = permit(Role::Auditor, None);
        let filter = AuditFilter::default();
        scene.vault().audit_entries(&permit, &filter, None, 1_000).unwrap().lines
    };
    for _ in 0..60 {
        let rows = scene.all(b"a");
        // The newest entries are on the page that is looked at.
        let key = scene.dice.pick(&rows[rows.len().saturating_sub(4)..]).unwrap().0.clone();
        let told = page(scene).iter().filter(|line| line.told.is_none()).count();
        assert_eq!(told, 0, "control");
        scene.case("a", &key, &mut |scene| {
            let lost = u64::from_be_bytes(key[1..].try_into().unwrap());
            let page = page(scene);
            let is_told = |index| page.iter().find(|l| l.index == index).unwrap().told.is_some();
            assert!(!is_told(lost), "entry {lost}");
            assert!(page.iter().any(|line| line.told.is_some()));
            let known = scene.pick_live();
            known.read(scene.vault()).unwrap();
            "named"
        });
    }
    // A row in another's place tells nothing.
    let rows = scene.all(b"a");
    let (one, other) = (rows[rows.len() - 2].clone(), rows[rows.len() - 3].clone());
    scene.set(&one.0, &other.1);
    let moved = u64::from_be_bytes(one.0[1..].try_into().unwrap());
    let lines = page(scene);
    assert!(lines.iter().find(|l| l.index == moved).unwrap().told.is_none());
    scene.set(&one.0, &one.1);
    scene.seen("a", "moved, named");
    let names = scene.all(b"n");
    for _ in 0..60 {
        let key = scene.dice.pick(&names).unwrap().0.clone();
        let name = |scene: &Scene| {
            let lines = page(scene).into_iter().filter_map(|l| l.told);
            let of = lines.filter(|t| t.entry.principal == key[1..]);
            of.filter_map(|t| t.principal).next().unwrap()
        };
        assert!(name(scene).starts_with("spiffe://"));
        scene.case("n", &key, &mut |scene| {
            let told = name(scene);
            assert_eq!(told, key[1..].iter().map(|b| format!("{b:02x}")).collect::<String>());
            "its hash"
        });
    }
}

/// Of a bucket's evidence that cannot be read nothing is vouched for; a damaged cosignature is not handed out;
/// a damaged mark of time is written anew.
fn kept(scene: &mut Scene) {
    let summary = scene.all(b"x").pop().unwrap().0;
    let (cosignature, _) = scene.all(b"c").pop().unwrap();
    let good = scene.rt.block_on(erase(scene.vault(), scene.went)).unwrap();
    assert_eq!(scene.rt.block_on(crate::logs::cosigned(scene.vault())), 1, "control");
    for _ in 0..20 {
        scene.case("x", &summary, &mut |scene| {
            let told = scene.rt.block_on(erase(scene.vault(), scene.went));
            assert!(matches!(told, Err(VaultError::Damaged(_))), "{told:?}");
            "named"
        });
        scene.case("c", &cosignature, &mut |scene| {
            assert_eq!(scene.rt.block_on(crate::logs::cosigned(scene.vault())), 0);
            "not handed out"
        });
    }
    assert_eq!(scene.rt.block_on(erase(scene.vault(), scene.went)).unwrap(), good);
    scene.close();
    for _ in 0..6 {
        let bad = scene.damage(&scene.value(b"d"));
        scene.set(b"d", &bad);
        scene.house.open().unwrap().close().unwrap();
        assert_ne!(scene.value(b"d"), bad);
        scene.seen("d", "written anew");
    }
    scene.vault = Some(scene.house.open().unwrap());
}

/// What waits for a hold is known by its row's key.
fn held(scene: &mut Scene) {
    scene.close();
    let key = scene.all(b"o").pop().unwrap().0;
    for _ in 0..6 {
        scene.reopened("o", &key, true, &mut |scene, opened| {
            opened.unwrap();
            let read = get(scene.vault(), scene.kept);
            assert!(matches!(read, Err(VaultError::Restricted)));
            "by its key"
        });
    }
    scene.vault = Some(scene.house.open().unwrap());
}

/// The index of who is in which entry: a row that cannot be read is looked up in the log, its count made anew.
fn subject_index(scene: &mut Scene) {
    let known = scene.pick_live();
    let tenant = slug(TENANT);
    let subject = get(scene.vault(), known.id).unwrap().subject;
    let query = SubjectQuery { tenant, subject, record: None };
    // The questions themselves are entries about the subject.
    let ask = |scene: &Scene| -> Vec<Entry> {
        let (mut all, mut before) = (Vec::new(), None);
        loop {
            let of = permit(Role::Auditor, Some(TENANT));
            let page = scene.vault().subject_entries(&of, &query, before, 100).unwrap();
            all.extend(page.lines.into_iter().map(|l| l.told.unwrap().entry));
            match page.next {
                Some(_) => before = page.next,
                None => break,
            }
        }
        all.retain(|e| e.act != Act::ListSubjectAuditEntries);
        all
    };
    scene.rt.block_on(scene.vault().settle_log()).unwrap();
    let good = ask(scene);
    let subject = good[0].members[0].subject;
    let fingerprint = named::fingerprint(&subject);
    let mut rows = scene.all(named::INDEXED_KEY);
    rows.retain(|(key, _)| {
        let place = named::place_in(key);
        place.is_some_and(|(span, part, _)| named::partition(span.level, fingerprint) == part)
    });
    assert!(!rows.is_empty(), "what is long past is in the index");
    for (key, _) in sample_of(scene, &rows) {
        scene.case("y", &key, &mut |scene| {
            assert_eq!(ask(scene), good);
            "from the log"
        });
    }
    scene.close();
    for _ in 0..6 {
        let bad = scene.damage(&scene.value(named::INDEXED_KEY));
        scene.set(named::INDEXED_KEY, &bad);
        scene.vault = Some(scene.house.open().unwrap());
        assert_eq!(ask(scene), good);
        let since = Instant::now();
        while scene.value(named::INDEXED_KEY) == bad {
            assert!(since.elapsed() < PATIENCE, "the index is not made anew");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(ask(scene), good);
        scene.close();
        scene.seen("y", "made anew");
    }
    scene.vault = Some(scene.house.open().unwrap());
}

/// The same rows several times, for several damages.
fn sample_of(scene: &mut Scene, rows: &[(Vec<u8>, Vec<u8>)]) -> Vec<(Vec<u8>, Vec<u8>)> {
    (0..20).map(|_| scene.dice.pick(rows).unwrap().clone()).collect()
}

/// Who asked for an erasure is told from a sound row, or said not to be known; the certificate is given all the same.
fn asked(scene: &mut Scene) {
    let (id, receipt) = scene.dice.pick(&scene.erased).unwrap().clone();
    let number = |row: &[u8], at: usize| u64::from_be_bytes(row[at..at + 8].try_into().unwrap());
    let mut rows = scene.all(b"e");
    rows.retain(|(_, row)| (number(row, 4)..=number(row, 12)).contains(&receipt.leaf_index));
    let [(key, _)] = rows.try_into().unwrap();
    let who = move |scene: &Scene| {
        let permit = permit(Role::Auditor, Some(TENANT));
        let made = scene.vault().certificate(&permit, TENANT, Wanted::Record(id), None);
        scene.rt.block_on(made).unwrap().facts.asked_by
    };
    let good = who(scene);
    assert_eq!(good.kind, AskerKind::Caller, "control");
    for _ in 0..20 {
        scene.case("e", &key, &mut |scene| {
            assert_eq!(who(scene).kind, AskerKind::NotKept);
            "not told"
        });
    }
    assert_eq!(who(scene), good);
}

/// The end of the log: made anew from its entries; without them too, refused until a repair.
fn log_end(scene: &mut Scene) {
    for _ in 0..12 {
        let good = scene.value(b"f");
        let bad = scene.damage(&good);
        scene.set(b"f", &bad);
        scene.house.open().unwrap().close().unwrap();
        assert_ne!(scene.value(b"f"), bad);
        scene.seen("f", "from its entries");
    }
    let (key, entries) = scene.all(b"a").swap_remove(2);
    let lost = scene.damage(&entries);
    let end = scene.value(b"f");
    let cut = scene.damage(&end);
    scene.set(&key, &lost);
    scene.set(b"f", &cut);
    let is_named = |scene: &Scene| {
        let refused = scene.house.open().err();
        let named =
            matches!(&refused, Some(VaultError::Keys(KeyError::Store(StoreError::Damaged(_)))));
        assert!(named, "{refused:?}");
    };
    is_named(scene);
    scene.seen("f", "named");
    // Nor may a row be missing altogether.
    scene.spy.rows.commit(&[(key.clone(), None)]).unwrap();
    is_named(scene);
    scene.seen("f", "named");
    scene.set(&key, &entries);
    scene.set(b"f", &end);
    // An end of before is a log that was cut.
    scene.house.open().unwrap().close().unwrap();
    let now = scene.value(b"f");
    scene.set(b"f", &end);
    let refused = scene.house.open().err();
    let shorter =
        matches!(&refused, Some(VaultError::Keys(KeyError::Anchor(AnchorError::Log { .. }))));
    assert!(shorter, "{refused:?}");
    scene.set(b"f", &now);
    scene.seen("f", "an older one named");
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
    // There only between two starts.
    let passing = |k: &u8| !b"bw".contains(k);
    let listed: BTreeSet<u8> = ROW_KINDS.iter().map(|(k, _)| *k).filter(passing).collect();
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
    for _ in 0..scale(60, 5_000) {
        requests(&mut scene);
    }
    kept(&mut scene);
    held(&mut scene);
    subject_index(&mut scene);
    asked(&mut scene);
    log(&mut scene);
    scene.close();
    log_end(&mut scene);
    super::pruned::pruned(&mut scene);
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
    let seen = total(": named, no journal") + total(": made anew, no journal");
    assert!(seen > total(": not needed, no journal"), "{:?}", scene.tally);
    assert!(total(": made anew, no journal") >= 4, "{:?}", scene.tally);
    assert!(scene.tally["v: healed"] > 6, "{:?}", scene.tally);
    // After all of it nothing is lost.
    let vault = scene.house.open().unwrap();
    scene.live.iter().for_each(|k| k.read(&vault).unwrap());
    let (id, receipt) = &scene.erased[0];
    assert_eq!(scene.rt.block_on(erase(&vault, *id)).unwrap(), *receipt);
}

//! A vault in memory with every kind of row and of node, of which single rows are damaged and put back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lethe::class::ErasureReason;
use lethe::class::Role;
use lethe::clock::{ManualClock, UnixMillis};
use lethe::id::{RecordId, RequestId};
use lethe::keys::KeyError;
use lethe::store::{Engine, Memory, Row, StoreError};
use lethe::vault::holds::draft::ScopeDraft;
use lethe::vault::value::Value;
use lethe::vault::{AuditFilter, EngineChoice, NewRecord, ReadSpec, Receipt, Vault, VaultError};

use super::{Known, erase, new, renew, runtime};
use crate::crash::scratch;
use crate::house::{House, TENANT, app, fields, furnish, operator, permit, slug};
use crate::model::Dice;
use crate::peer::PATIENCE;

const DAY: i64 = 86_400_000;
const NOW: UnixMillis = UnixMillis(1_790_000_000_000);

/// Memory that remembers the batch journal rows it was given: they live for moments only.
pub struct Spy {
    pub rows: Memory,
    /// A row that cannot be read.
    pub bad: Mutex<Vec<u8>>,
    pub chores: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
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

pub struct Scene {
    _dir: tempfile::TempDir,
    pub spy: Arc<Spy>,
    pub house: House,
    pub live: Vec<Known>,
    pub erased: Vec<(RecordId, Receipt)>,
    pub vault: Option<Vault>,
    pub rt: tokio::runtime::Runtime,
    pub dice: Dice,
    /// A record that went with its bucket.
    pub went: RecordId,
    /// A record whose erasure a legal hold postpones.
    pub kept: RecordId,
    pub cases: usize,
    pub tally: BTreeMap<String, usize>,
}

/// A record that is held, and whose erasure was asked for.
async fn postponed(vault: &Vault) -> RecordId {
    let record = new(vault, "customer", 5000, 0).await.id;
    crate::holds::hold(vault, ScopeDraft::Record(record)).await;
    let reason = ErasureReason::SubjectRequest;
    let asked = vault.erase_records(&app(), TENANT, &[record], reason, None).await.unwrap();
    assert_eq!(asked.postponed.len(), 1);
    record
}

/// Prunes what the log has so far, as if days had passed.
async fn prune(vault: &Vault, clock: &ManualClock) {
    let sweep = async || vault.run_retention(&permit(Role::PrivacyOfficer, None)).await.unwrap();
    let auditor = permit(Role::Auditor, None);
    for _ in 0..600 {
        vault.audit_entries(&auditor, &AuditFilter::default(), None, 1).unwrap();
    }
    vault.settle_log().await.unwrap();
    sweep().await;
    // Only what the anchor has bound is pruned.
    vault.audit_head(&permit(Role::Auditor, None)).await.unwrap();
    clock.set(UnixMillis(NOW.0 + 3 * DAY));
    let since = Instant::now();
    while vault.metrics().audit_entries_pruned.value() == 0 {
        assert!(since.elapsed() < PATIENCE, "the log is not pruned");
        // The index comes first.
        tokio::time::sleep(Duration::from_millis(50)).await;
        sweep().await;
    }
    clock.set(NOW);
}

impl Scene {
    /// A vault with every kind of row and of node.
    pub fn new() -> Self {
        let dir = scratch();
        let spy =
            Arc::new(Spy { rows: Memory::new(), bad: Mutex::default(), chores: Mutex::default() });
        let clock = Arc::new(ManualClock::at(NOW));
        let mut house = House::new(dir.path(), EngineChoice::Given(spy.clone()));
        house.clock = clock.clone();
        // One long run first: it needs a directory of leaves.
        house.change = |setup| {
            setup.index_tail_max = 16_384;
            setup.audit_retain = "P1D".parse().ok();
        };
        let rt = runtime();
        let vault = house.create();
        let (mut live, mut erased) = (Vec::new(), Vec::new());
        rt.block_on(async {
            furnish(&vault).await;
            for n in 0..66 {
                let id = slug(&format!("tenant-{n}"));
                vault.create_tenant(&operator(None), id, String::new()).await.unwrap();
            }
            // First, so that all customers are of one day by the vault's count.
            prune(&vault, &clock).await;
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
        house.change = |setup| {
            setup.index_tail_max = 16_384;
            setup.audit_retain = "P1D".parse().ok();
            setup.witnesses = vec![crate::logs::fixed().verifier()];
        };
        let vault = house.open().unwrap();
        let mut went = None;
        rt.block_on(async {
            for n in 0..66 {
                clock.set(UnixMillis(NOW.0 + n * DAY));
                live.push(new(&vault, "visit", 3000 + n as usize, 0).await);
            }
            clock.set(UnixMillis(NOW.0 + 100 * DAY));
            let visit = new(&vault, "visit", 3999, 0).await;
            let expires = crate::house::get(&vault, visit.id).unwrap().expires;
            let (rtype, reason) = (slug("visit"), ErasureReason::Contract);
            let permit = operator(Some(TENANT));
            vault.erase_bucket(&permit, TENANT, &rtype, expires, reason).await.unwrap();
            went = Some(visit.id);
            clock.set(NOW);
            for n in 4000..4020 {
                let doomed = new(&vault, "customer", n, 0).await;
                erased.push((doomed.id, erase(&vault, doomed.id).await.unwrap()));
            }
        });
        rt.block_on(crate::logs::keep_cosignature(&vault));
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
        let (went, cases) = (went.unwrap(), 0);
        let kept = rt.block_on(postponed(vault.as_ref().unwrap()));
        let scene =
            Self { _dir: dir, spy, house, live, erased, went, kept, vault, rt, dice, cases, tally };
        scene.create_once(scene.vault()).unwrap();
        scene
    }

    /// Creates a record by a call with a request id, always the same.
    pub fn create_once(&self, vault: &Vault) -> Result<RecordId, VaultError> {
        let set = fields(&[("reference", "once"), ("city", "once"), ("note", "x")]);
        let request = RequestId::parse_random("0b9d3c1e-7f2a-4c55-9a34-2f0c8d1e6b7a");
        let new = NewRecord { rtype: slug("customer"), subject: None, fields: set, request };
        self.rt.block_on(vault.create_record(&app(), TENANT, new)).map(|view| view.id)
    }

    pub fn vault(&self) -> &Vault {
        self.vault.as_ref().unwrap()
    }

    pub fn all(&self, prefix: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let all = prefix.is_empty();
        let end = if all { vec![u8::MAX] } else { lethe::keys::rows::prefix_end(prefix) };
        let rows = self.spy.rows.scan(prefix, &end, usize::MAX).unwrap();
        rows.into_iter().map(|r| (r.key, r.value)).collect()
    }

    pub fn set(&self, key: &[u8], value: &[u8]) {
        self.spy.rows.commit(&[(key.to_vec(), Some(value.to_vec()))]).unwrap();
    }

    pub fn value(&self, key: &[u8]) -> Vec<u8> {
        self.spy.rows.get(key).unwrap().unwrap()
    }

    /// Another value than this one: a flipped bit, a cut, or a torn write.
    pub fn damage(&mut self, value: &[u8]) -> Vec<u8> {
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

    pub fn pick_live(&mut self) -> Known {
        self.dice.pick(&self.live).unwrap().clone()
    }

    pub fn seen(&mut self, kind: &str, outcome: &str) {
        self.cases += 1;
        *self.tally.entry(format!("{kind}: {outcome}")).or_default() += 1;
    }

    pub fn pointer_key(&self, id: RecordId) -> Vec<u8> {
        [b"u".as_slice(), &[0; 3], &id.0].concat()
    }

    pub fn record_keys(&self, id: RecordId) -> Vec<Vec<u8>> {
        let pointer = self.value(&self.pointer_key(id));
        let rows = self.all(&[b"r".as_slice(), &pointer[4..14]].concat());
        rows.into_iter().map(|(k, _)| k).collect()
    }

    pub fn neighbour_is_served(&mut self, not: RecordId) {
        let known = loop {
            let known = self.pick_live();
            if known.id != not {
                break known;
            }
        };
        known.read(self.vault()).unwrap();
    }

    /// Damages the row, lets `look` judge the open vault, and puts the row back.
    pub fn case(
        &mut self,
        kind: &str,
        key: &[u8],
        look: &mut dyn FnMut(&mut Self) -> &'static str,
    ) {
        let good = self.value(key);
        let bad = self.damage(&good);
        self.set(key, &bad);
        let outcome = look(self);
        self.set(key, &good);
        self.seen(kind, outcome);
    }

    pub fn close(&mut self) {
        self.vault.take().unwrap().close().unwrap();
    }

    /// Damages a row of a closed vault, opens it, judges, closes, and puts the row back.
    pub fn reopened(
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

    pub fn rescues(&self) -> u64 {
        self.vault().metrics().journal_rescues.value()
    }

    /// Reads what hangs below a node: a record of its page, or finds by value.
    pub fn touch(&mut self, node: &[u8]) -> Result<(), VaultError> {
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
                self.vault().find_records(&app(), TENANT, &customer, "city", value, &spec)?.0.len();
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
                assert_eq!(found.0.len(), 1, "a search by value is whole or refused");
            }
        }
        Ok(())
    }

    /// As [`Scene::touch`], once an index that is made anew answers again.
    pub fn touch_in_the_end(&mut self, node: &[u8]) -> Result<(), VaultError> {
        let since = Instant::now();
        loop {
            match self.touch(node) {
                Err(VaultError::Keys(KeyError::Damaged(kind)))
                    if kind.is_index() && since.elapsed() < PATIENCE =>
                {
                    std::thread::sleep(Duration::from_millis(20));
                }
                other => return other,
            }
        }
    }

    /// All rows and the anchor of the closed vault.
    pub fn snapshot(&self) -> (BTreeMap<Vec<u8>, Vec<u8>>, Vec<u8>) {
        let anchor = std::fs::read(self.house.dir.join("data/anchor")).unwrap();
        (self.all(b"").into_iter().collect(), anchor)
    }

    pub fn restore(&self, (rows, anchor): (BTreeMap<Vec<u8>, Vec<u8>>, Vec<u8>)) {
        let now = self.all(b"").into_iter().filter(|(k, _)| !rows.contains_key(k));
        let gone: Vec<_> = now.map(|(k, _)| (k, None)).collect();
        let back: Vec<_> = rows.into_iter().map(|(k, v)| (k, Some(v))).collect();
        self.spy.rows.commit(&[gone, back].concat()).unwrap();
        std::fs::write(self.house.dir.join("data/anchor"), anchor).unwrap();
    }
}

//! R10: random operations against the vault and against a model in memory, with restarts; both must agree at every
//! step.

use std::collections::BTreeMap;

use lethe::authz::ReadRecord;
use lethe::class::ErasureReason;
use lethe::id::{RecVer, RecordId};
use lethe::vault::fieldmap::ValueRef;
use lethe::vault::value::Value;
use lethe::vault::{EngineChoice, ReadSpec, Vault, VaultError};

use crate::house::{House, TENANT, app, fields, furnish, get, operator, put, slug, text, update};

/// A seeded generator (xorshift64*), so that a failing seed can be run again.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() { None } else { from.get(self.below(from.len() as u64) as usize) }
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Expected {
    rtype: &'static str,
    reference: Option<String>,
    city: String,
    note: String,
    photo: usize,
    version: u64,
}

#[derive(Default)]
struct Model {
    live: BTreeMap<RecordId, Expected>,
    erased: Vec<RecordId>,
}

impl Model {
    fn takes(&self, rtype: &str, reference: &str, own: Option<RecordId>) -> bool {
        !self.live.iter().any(|(id, e)| {
            e.rtype == rtype && e.reference.as_deref() == Some(reference) && Some(*id) != own
        })
    }
}

struct Run {
    house: House,
    vault: Option<Vault>,
    model: Model,
    dice: Dice,
    rt: tokio::runtime::Runtime,
}

impl Run {
    fn vault(&self) -> &Vault {
        self.vault.as_ref().unwrap()
    }

    fn step(&mut self, at: u64) {
        match self.dice.below(100) {
            0..35 => self.create(at),
            35..55 => self.update(at),
            55..65 => self.erase(),
            65..70 => self.erase_subject(),
            70..72 => self.erase_bucket(),
            72..75 => self.rotate(),
            75..80 => self.restart(),
            80..90 => self.find(),
            _ => self.read(),
        }
    }

    fn create(&mut self, at: u64) {
        let rtype = if self.dice.below(4) == 0 { "visit" } else { "customer" };
        let reference = format!("r{}", self.dice.below(30));
        let city = format!("c{}", self.dice.below(5));
        let note = format!("note {at}");
        let photo = if self.dice.below(10) == 0 { self.dice.below(40_000) as usize } else { 0 };
        let mut set = fields(&[("reference", &reference), ("city", &city), ("note", &note)]);
        if photo > 0 {
            set.insert("photo".into(), Value::Bytes(vec![7; photo]));
        }
        let answer = self.rt.block_on(put(self.vault.as_ref().unwrap(), rtype, set));
        if self.model.takes(rtype, &reference, None) {
            let view = answer.map_err(|e| format!("{e:?}")).unwrap();
            let reference = Some(reference);
            let expected = Expected { rtype, reference, city, note, photo, version: 1 };
            self.model.live.insert(view.id, expected);
        } else {
            assert!(matches!(answer, Err(VaultError::Duplicate { .. })));
        }
    }

    fn any(&mut self) -> Option<RecordId> {
        let ids: Vec<RecordId> = self.model.live.keys().copied().collect();
        self.dice.pick(&ids).copied()
    }

    fn update(&mut self, at: u64) {
        let Some(id) = self.any() else { return };
        let reference = format!("r{}", self.dice.below(30));
        let note = format!("note {at}");
        let set = fields(&[("reference", &reference), ("note", &note)]);
        let answer = self.rt.block_on(update(self.vault.as_ref().unwrap(), id, set));
        let rtype = self.model.live[&id].rtype;
        if self.model.takes(rtype, &reference, Some(id)) {
            assert!(answer.is_ok());
            let e = self.model.live.get_mut(&id).unwrap();
            (e.reference, e.note, e.version) = (Some(reference), note, e.version + 1);
        } else {
            assert!(matches!(answer, Err(VaultError::Duplicate { .. })));
        }
    }

    fn erase(&mut self) {
        let ids: Vec<RecordId> = (0..1 + self.dice.below(3)).filter_map(|_| self.any()).collect();
        let ids: Vec<RecordId> =
            ids.into_iter().collect::<std::collections::BTreeSet<_>>().into_iter().collect();
        if ids.is_empty() {
            return;
        }
        let reason = ErasureReason::SubjectRequest;
        let vault = self.vault.as_ref().unwrap();
        let permit = app();
        let call = |etag| vault.erase_records(&permit, TENANT, &ids, reason, etag);
        if ids.len() == 1 {
            let stale = RecVer(self.model.live[&ids[0]].version + 1);
            assert!(matches!(self.rt.block_on(call(Some(stale))), Err(VaultError::Stale(_))));
        }
        let receipts = self.rt.block_on(call(None)).unwrap();
        let again = self.rt.block_on(call(None)).unwrap();
        assert!(receipts.receipts == again.receipts, "a retry returns the same receipts");
        for id in ids {
            self.model.live.remove(&id);
            self.model.erased.push(id);
        }
    }

    fn erase_subject(&mut self) {
        let Some(id) = self.any() else { return };
        let subject = get(self.vault(), id).unwrap().subject;
        let vault = self.vault.as_ref().unwrap();
        let reason = ErasureReason::SubjectRequest;
        let done = self.rt.block_on(vault.erase_subject(&app(), TENANT, subject, reason)).unwrap();
        assert_eq!(done.receipts.len(), 2, "the subject and its one record");
        assert!(done.receipts[0].0 == subject && done.receipts[1].0 == id);
        self.model.live.remove(&id);
        self.model.erased.push(id);
    }

    fn erase_bucket(&mut self) {
        let Some(one) = self.model.live.iter().find(|(_, e)| e.rtype == "visit") else { return };
        let day = get(self.vault(), *one.0).unwrap().expires;
        let vault = self.vault.as_ref().unwrap();
        let permit = operator(Some(TENANT));
        let reason = ErasureReason::Retention;
        let visit = slug("visit");
        let kill = vault.erase_bucket(&permit, TENANT, &visit, day, reason);
        self.rt.block_on(kill).unwrap();
        let gone: Vec<RecordId> =
            self.model.live.iter().filter(|(_, e)| e.rtype == "visit").map(|(i, _)| *i).collect();
        for id in gone {
            self.model.live.remove(&id);
            self.model.erased.push(id);
        }
    }

    fn rotate(&mut self) {
        self.rt.block_on(self.vault.as_ref().unwrap().rotate_key(&operator(None))).unwrap();
    }

    fn restart(&mut self) {
        let vault = self.vault.take().unwrap();
        if self.dice.below(2) == 0 {
            vault.close().unwrap();
        }
        drop(vault);
        self.vault = Some(self.house.open().unwrap());
        self.check_all();
    }

    fn find(&mut self) {
        let city = format!("c{}", self.dice.below(5));
        let spec = ReadSpec::default();
        let value = Value::Text(city.clone());
        let customer = slug("customer");
        let vault = self.vault();
        let found = vault.find_records(&app(), TENANT, &customer, "city", value, &spec).unwrap();
        let mut found: Vec<RecordId> = found.0.iter().map(|v| v.id).collect();
        found.sort_unstable();
        let wanted =
            self.model.live.iter().filter(|(_, e)| e.rtype == "customer" && e.city == city);
        assert_eq!(found, wanted.map(|(id, _)| *id).collect::<Vec<_>>());
    }

    fn read(&mut self) {
        if let Some(id) = self.any() {
            self.check(id);
        }
        if let Some(id) = self.dice.pick(&self.model.erased) {
            let gone = get(self.vault(), *id).err();
            assert!(matches!(gone, Some(VaultError::Erased(_) | VaultError::NotFound(_))));
        }
    }

    fn check(&self, id: RecordId) {
        let view = get(self.vault(), id).map_err(|e| format!("{e:?}")).unwrap();
        let photo = match view.fields.get("photo") {
            Some(ValueRef::Bytes(b)) => b.len(),
            _ => 0,
        };
        let seen = Expected {
            rtype: self.model.live[&id].rtype,
            reference: text(&view, "reference").map(str::to_owned),
            city: text(&view, "city").unwrap().to_owned(),
            note: text(&view, "note").unwrap().to_owned(),
            photo,
            version: view.version.0,
        };
        assert_eq!(seen, self.model.live[&id]);
    }

    fn check_all(&self) {
        let vault = self.vault();
        let (mut after, mut listed) = (None, Vec::new());
        loop {
            let spec = ReadSpec::default();
            let permit = app::<ReadRecord>();
            let page = vault.list_records(&permit, TENANT, None, after, 7, &spec).unwrap();
            assert!(page.damaged.is_empty());
            listed.extend(page.views.iter().map(|v| v.id));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(listed, self.model.live.keys().copied().collect::<Vec<_>>());
        listed.into_iter().for_each(|id| self.check(id));
    }
}

pub fn run(seed: u64, steps: u64, engine: EngineChoice) {
    println!("model seed {seed} on {engine:?}");
    let dir = crate::crash::scratch();
    let house = House::new(dir.path(), engine);
    let vault = house.create();
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    rt.block_on(furnish(&vault));
    let dice = Dice::new(seed);
    let mut run = Run { house, vault: Some(vault), model: Model::default(), dice, rt };
    for at in 0..steps {
        run.step(at);
    }
    run.check_all();
}

#[test]
fn the_vault_agrees_with_a_model_in_memory() {
    let memory = || EngineChoice::Given(std::sync::Arc::new(lethe::store::Memory::new()));
    (0..crate::crash::scale(500, 50_000) as u64).for_each(|seed| run(seed, 100, memory()));
    // The embedded engines get a seeded tenth together.
    (1000..1040).for_each(|seed| run(seed, 100, EngineChoice::Redb));
    (1040..1050).for_each(|seed| run(seed, 100, EngineChoice::Sled));
}

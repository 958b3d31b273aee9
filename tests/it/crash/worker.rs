//! The worker: several tasks that create, update and erase at once, and write down what they ask and what they are
//! answered.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lethe::class::{ErasureReason, Role};
use lethe::clock::{Clock, SystemClock, UnixMillis, Uptime};
use lethe::id::{RecordId, RequestId};
use lethe::keys::Sabotage;
use lethe::vault::holds::draft::ScopeDraft;
use lethe::vault::retention::policy::{PolicyDraft, StartKind};
use lethe::vault::schema::Parts;
use lethe::vault::value::Value;
use lethe::vault::{NewRecord, Vault, VaultError};

use super::trees::hand_out;
use super::{Orders, WORKER_VAR};
use crate::house::{
    House, TENANT, app, draft, fields, furnish, get, operator, permit, slug, update,
};
use crate::model::Dice;

const TASKS: u64 = 6;
/// Reads before days pass.
const LOOKS: usize = 200;

/// The system's clock and uptime, both so much later as a file says: time passes at will, and also while the worker is
/// not there.
pub struct Shifted(PathBuf);

impl Shifted {
    /// Whoever opens the worker's vault has its clock.
    pub fn of(dir: &Path) -> Arc<Self> {
        Arc::new(Self(dir.join("shift")))
    }

    fn millis(&self) -> i64 {
        std::fs::read_to_string(&self.0).ok().and_then(|t| t.parse().ok()).unwrap_or(0)
    }
}

impl Clock for Shifted {
    fn now(&self) -> UnixMillis {
        UnixMillis(SystemClock.now().0 + self.millis())
    }

    fn uptime(&self) -> Uptime {
        let real = SystemClock.uptime();
        Uptime { millis: real.millis + self.millis(), ..real }
    }
}

struct Shared {
    vault: Vault,
    orders: Orders,
    answers: Mutex<File>,
    end: Option<Instant>,
}

impl Shared {
    fn note(&self, line: std::fmt::Arguments<'_>) {
        let line = format!("{line}\n");
        self.answers.lock().unwrap().write_all(line.as_bytes()).unwrap();
    }
}

#[test]
fn work() {
    // Only a process that was started as a worker does anything here.
    let Some(orders) = std::env::var(WORKER_VAR).ok().and_then(|t| Orders::decode(&t)) else {
        return;
    };
    let mut house = House::new(&orders.dir, orders.engine());
    house.change = |setup| {
        let orders = std::env::var(WORKER_VAR).ok().and_then(|t| Orders::decode(&t));
        setup.sabotage = orders.map(|o| o.sabotage()).unwrap_or_default();
        setup.audit_retain = "P1D".parse().ok();
    };
    house.clock = Shifted::of(&orders.dir);
    let fresh = !orders.dir.join("kek").exists();
    let vault = if fresh { house.create() } else { house.open().unwrap() };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let answers =
        OpenOptions::new().create(true).append(true).open(orders.dir.join("answers")).unwrap();
    let end = (orders.secs > 0).then(|| Instant::now() + Duration::from_secs(orders.secs));
    let shared = Arc::new(Shared { vault, orders, answers: Mutex::new(answers), end });
    runtime.block_on(async {
        if fresh {
            furnish(&shared.vault).await;
        }
        let tasks: Vec<_> = (0..TASKS).map(|n| tokio::spawn(task(shared.clone(), n))).collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    let shared = Arc::into_inner(shared).unwrap();
    keep_keks(&shared.orders);
    shared.vault.close().unwrap();
}

/// Every KEK that ever was is the attacker's.
fn keep_keks(orders: &Orders) {
    for name in ["kek", "kek.next"] {
        if let Ok(text) = std::fs::read(orders.dir.join(name)) {
            let tag = &text[..12];
            let to = orders.dir.join(format!("old-kek-{}", String::from_utf8_lossy(tag)));
            std::fs::write(to, &text).unwrap();
        }
    }
}

async fn task(shared: Arc<Shared>, number: u64) {
    let mut dice = Dice::new(shared.orders.seed * 1000 + number);
    let mut mine: Vec<RecordId> = Vec::new();
    let mut held: Vec<Held> = Vec::new();
    for op in 0..shared.orders.ops {
        if shared.end.is_some_and(|end| Instant::now() > end) {
            break;
        }
        // Long enough for what the vault does on its own: runs are written and merged.
        tokio::time::sleep(Duration::from_millis(dice.below(25))).await;
        let name = format!("{}-{number}-{op}", shared.orders.seed);
        match dice.below(100) {
            0..45 => create(&shared, &mut mine, &name).await,
            45..68 => change(&shared, &mut dice, &mine, &name).await,
            68..90 => erase(&shared, &mut dice, &mut mine).await,
            90..94 if held.len() > 1 => free(&shared, held.remove(0)).await,
            90..94 => held.extend(keep(&shared, &mut dice, &mut mine, &name).await),
            94..96 => kill(&shared, &mut dice, &mine).await,
            96..97 if number == 0 => {
                keep_keks(&shared.orders);
                shared.vault.rotate_key(&operator(None)).await.unwrap();
            }
            97..98 if number == 1 => evolve(&shared, &mut dice).await,
            96..99 if number == 2 => rule(&shared, &mut dice).await,
            _ => {
                if let Some(id) = dice.pick(&mine) {
                    // A visit may be gone with its bucket.
                    let _ = get(&shared.vault, *id);
                }
                match hand_out(&shared.vault, (number % 2) as usize).await {
                    Ok(handed) => shared.note(format_args!("K {handed}")),
                    // With the anchor before the store there is a moment at which the ledger is not there yet.
                    Err(e) => assert!(shared.orders.sabotage() != Sabotage::None, "{e}"),
                }
            }
        }
    }
    for one in held {
        free(&shared, one).await;
    }
}

/// A hold, and the record that it keeps.
type Held = (RecordId, RecordId);

/// Places a hold on a record, which then changes, and whose erasure may be asked for.
async fn keep(
    shared: &Shared,
    dice: &mut Dice,
    mine: &mut Vec<RecordId>,
    name: &str,
) -> Option<Held> {
    if mine.is_empty() {
        return None;
    }
    let id = mine.swap_remove(dice.below(mine.len() as u64) as usize);
    shared.note(format_args!("h {id}"));
    let draft = crate::holds::draft(ScopeDraft::Record(id));
    let officer = permit(Role::PrivacyOfficer, Some(TENANT));
    let placed = match shared.vault.place_hold(&officer, TENANT, draft, None).await {
        Ok(view) => view.hold.id,
        // A visit went with its bucket.
        Err(VaultError::Erased(_) | VaultError::NotFound(_)) => return None,
        Err(e) => panic!("hold: {e}"),
    };
    shared.note(format_args!("H {id}"));
    change(shared, dice, &[id], name).await;
    if dice.below(2) == 0 {
        shared.note(format_args!("q {id}"));
        let reason = ErasureReason::SubjectRequest;
        let asked = shared.vault.erase_records(&app(), TENANT, &[id], reason, None).await;
        assert_eq!(asked.unwrap().postponed.len(), 1, "it is held");
        shared.note(format_args!("Q {id}"));
    }
    Some((placed, id))
}

async fn free(shared: &Shared, (hold, id): Held) {
    shared.note(format_args!("r {id}"));
    crate::holds::release(&shared.vault, hold).await;
}

/// What an operation of this name creates, with its request id: whoever reads the answers can ask for it again.
pub fn made_by(name: &str) -> NewRecord {
    let digest = lethe::crypto::sha256(name.as_bytes());
    let mut dice = Dice::new(u64::from_be_bytes(*digest.last_chunk().unwrap()));
    let visit = dice.below(6) == 0;
    let city = format!("c{}", dice.below(4));
    let mut fields = fields(&[("reference", name), ("city", &city), ("note", name)]);
    if dice.below(12) == 0 {
        let photo = vec![dice.below(255) as u8; 9_000 + dice.below(30_000) as usize];
        fields.insert("photo".into(), Value::Bytes(photo));
    }
    let mut request = RequestId(*digest.first_chunk().unwrap());
    request.0[6] = 0x40 | request.0[6] & 0x0f;
    request.0[8] = 0x80 | request.0[8] & 0x3f;
    assert!(RequestId::parse_random(&request.to_string()).is_some(), "as the API takes it");
    let rtype = slug(if visit { "visit" } else { "customer" });
    NewRecord { rtype, subject: None, fields, request: Some(request) }
}

async fn create(shared: &Shared, mine: &mut Vec<RecordId>, name: &str) {
    // Of time passing in the middle of it nobody could say whether its request id is remembered.
    let _while_time_stands = TIME.read().await;
    let new = made_by(name);
    let kind = if new.rtype.as_str() == "visit" { 'V' } else { 'C' };
    let view = shared.vault.create_record(&app(), TENANT, new).await.unwrap();
    shared.note(format_args!("{kind} {} {name}", view.id));
    mine.push(view.id);
}

async fn change(shared: &Shared, dice: &mut Dice, mine: &[RecordId], name: &str) {
    let Some(id) = dice.pick(mine) else { return };
    shared.note(format_args!("u {id} {name}"));
    match update(&shared.vault, *id, fields(&[("note", name)])).await {
        Ok(_) => shared.note(format_args!("U {id} {name}")),
        Err(VaultError::Erased(_) | VaultError::NotFound(_)) => {}
        Err(e) => panic!("update: {e}"),
    }
}

async fn erase(shared: &Shared, dice: &mut Dice, mine: &mut Vec<RecordId>) {
    let mut doomed = Vec::new();
    for _ in 0..1 + dice.below(3) {
        if !mine.is_empty() {
            doomed.push(mine.swap_remove(dice.below(mine.len() as u64) as usize));
        }
    }
    if doomed.is_empty() {
        return;
    }
    doomed.iter().for_each(|id| shared.note(format_args!("e {id}")));
    let reason = ErasureReason::SubjectRequest;
    let erased = shared.vault.erase_records(&app(), TENANT, &doomed, reason, None).await;
    match erased.map_err(VaultError::alone) {
        Ok(_) => doomed.iter().for_each(|id| shared.note(format_args!("E {id}"))),
        // One of them went with its bucket: the call as a whole did nothing.
        Err(VaultError::Erased(_) | VaultError::NotFound(_)) => {}
        Err(e) => panic!("erase: {e}"),
    }
}

/// Takes the city into the index, or out of it.
async fn evolve(shared: &Shared, dice: &mut Dice) {
    let mut draft = draft("customer", Some("P3Y"));
    draft.fields[1].indexed = dice.below(2) == 0;
    let permit = operator(Some(TENANT));
    shared.vault.update_schema(&permit, TENANT, draft, &Parts::whole()).await.unwrap();
}

/// Changes the rules on customers: all of them move to other buckets while the rest goes on.
async fn rule(shared: &Shared, dice: &mut Dice) {
    let permit = permit(Role::PrivacyOfficer, Some(TENANT));
    let draft = PolicyDraft {
        id: "keep".into(),
        types: vec!["customer".into()],
        start: Some(StartKind::Creation),
        period: format!("P{}Y", 1 + dice.below(2)),
        ..PolicyDraft::default()
    };
    shared.note(format_args!("p"));
    let vault = &shared.vault;
    match vault.create_retention_policy(&permit, TENANT, draft.clone()).await {
        Err(VaultError::Exists(_)) => {
            vault.update_retention_policy(&permit, TENANT, draft, None, None).await.unwrap();
        }
        made => drop(made.unwrap()),
    }
}

/// Held for writing while days pass.
static TIME: tokio::sync::RwLock<()> = tokio::sync::RwLock::const_new(());

/// Two days pass, and what is due goes; of the audit log too.
async fn sweep(shared: &Shared, dice: &mut Dice, mine: &[RecordId]) {
    // Reads cost nothing but their entries: so blocks of the log fill.
    for _ in 0..LOOKS {
        let Some(id) = dice.pick(mine) else { break };
        let _ = get(&shared.vault, *id);
    }
    let clock = Shifted::of(&shared.orders.dir);
    let time = TIME.write().await;
    shared.note(format_args!("t"));
    let later = clock.millis() + 2 * 86_400_000;
    // In one step: the clock is never without its file.
    let fresh = clock.0.with_extension("next");
    std::fs::write(&fresh, later.to_string()).unwrap();
    std::fs::rename(&fresh, &clock.0).unwrap();
    drop(time);
    let swept = shared.vault.run_retention(&permit(Role::PrivacyOfficer, None)).await.unwrap();
    assert_eq!(swept.failed, 0, "what was due is still there");
}

async fn kill(shared: &Shared, dice: &mut Dice, mine: &[RecordId]) {
    // One kill at a time, so that the lines tell which creates came before it.
    static ONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _one = ONE.lock().await;
    if dice.below(2) == 0 {
        shared.note(format_args!("b"));
        sweep(shared, dice, mine).await;
        shared.note(format_args!("B"));
        return;
    }
    let permit = operator(Some(TENANT));
    let (buckets, _) =
        shared.vault.list_buckets(&operator(Some(TENANT)), TENANT, None, 100).unwrap();
    let visit = slug("visit");
    // Of several days, if a worker was killed when days had passed and nothing had gone yet.
    let days: Vec<_> =
        buckets.iter().filter(|b| b.rtype.as_ref() == Some(&visit)).map(|b| b.expires).collect();
    if days.is_empty() {
        return;
    }
    shared.note(format_args!("b"));
    for day in days {
        let reason = ErasureReason::Retention;
        shared.vault.erase_bucket(&permit, TENANT, &visit, day, reason).await.unwrap();
    }
    shared.note(format_args!("B"));
}

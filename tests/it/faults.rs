//! R5, R6, R7 and the full disk: damage, failing calls and files that do not belong together, each with its own answer.

mod disk;
mod files;
mod moved;
mod nth;
mod pairs;
mod preload;
mod pruned;
mod repairs;
mod rows;
mod scene;

pub use self::files::tamper;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lethe::class::ErasureReason;
use lethe::id::RecordId;
use lethe::keys::KeyError;
use lethe::store::StoreError;
use lethe::vault::fieldmap::ValueRef;
use lethe::vault::value::Value;
use lethe::vault::{Receipt, Vault, VaultError};

use crate::house::{TENANT, app, fields, get, operator, put, slug, text, update};

/// A runtime for one thread's calls.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A record and what it must hold.
#[derive(Clone, Debug)]
struct Known {
    id: RecordId,
    note: String,
    photo: usize,
}

impl Known {
    /// Whether the record reads right; the error if it does not read.
    fn read(&self, vault: &Vault) -> Result<(), VaultError> {
        let view = get(vault, self.id)?;
        assert_eq!(text(&view, "note"), Some(self.note.as_str()), "a wrong value was served");
        let photo = match view.fields.get("photo") {
            Some(ValueRef::Bytes(b)) => b.iter().filter(|b| **b == 7).count(),
            _ => 0,
        };
        assert_eq!(photo, self.photo, "a wrong value was served");
        Ok(())
    }
}

async fn new(vault: &Vault, rtype: &str, n: usize, photo: usize) -> Known {
    let (reference, city) = (format!("r{n}"), format!("c{}", n % 5));
    let note = format!("note {n}");
    let mut set = fields(&[("reference", &reference), ("city", &city), ("note", &note)]);
    if photo > 0 {
        set.insert("photo".into(), Value::Bytes(vec![7; photo]));
    }
    let view = put(vault, rtype, set).await.unwrap();
    Known { id: view.id, note, photo }
}

async fn renew(vault: &Vault, known: &mut Known) {
    known.note = format!("{}, changed", known.note);
    update(vault, known.id, fields(&[("note", &known.note)])).await.unwrap();
}

async fn erase(vault: &Vault, id: RecordId) -> Result<Receipt, VaultError> {
    let reason = ErasureReason::SubjectRequest;
    let mut receipts = vault.erase_records(&app(), TENANT, &[id], reason, None).await?;
    Ok(receipts.receipts.remove(0))
}

pub fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
}

/// Every file below a directory with its bytes, to see whether anything changed.
fn bytes_of(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(bytes_of(&path));
        } else {
            all.push((path.clone(), std::fs::read(&path).unwrap()));
        }
    }
    all.sort();
    all
}

/// Whether an error says that everything is refused until the vault is reopened.
fn is_stopped(e: &VaultError) -> bool {
    let store = |e: &StoreError| matches!(e, StoreError::Stopped);
    match e {
        VaultError::Store(e) => store(e),
        VaultError::Keys(KeyError::Store(e)) => store(e),
        VaultError::Keys(KeyError::Stopped) | VaultError::Stopping => true,
        _ => false,
    }
}

/// Runs fixed work and writes down what was asked and answered, as `crash::fate` reads it.
async fn fixed_work(vault: &Vault, note: &mut dyn FnMut(String)) {
    let mut failed_writes = 0;
    let mut ids = Vec::new();
    let mut settle = |outcome: Result<(), VaultError>| -> bool {
        match outcome {
            Ok(()) => true,
            Err(e) => {
                failed_writes += u32::from(!is_stopped(&e));
                false
            }
        }
    };
    for n in 0..8 {
        let rtype = if n % 4 == 3 { "visit" } else { "customer" };
        let (name, reference) = (format!("n{n}"), format!("w{n}"));
        let mut set = fields(&[("reference", &reference), ("city", "c"), ("note", &name)]);
        if n == 1 {
            set.insert("photo".into(), Value::Bytes(vec![7; 20_000]));
        }
        match put(vault, rtype, set).await {
            Ok(view) => {
                note(format!("{} {} {name}", if n % 4 == 3 { 'V' } else { 'C' }, view.id));
                ids.push((rtype, view.id));
            }
            Err(e) => drop(settle(Err(e))),
        }
    }
    let customers: Vec<RecordId> =
        ids.iter().filter(|(t, _)| *t == "customer").map(|(_, id)| *id).collect();
    for (n, id) in customers.iter().enumerate().take(4) {
        note(format!("u {id} m{n}"));
        let done = update(vault, *id, fields(&[("note", &format!("m{n}"))])).await;
        if settle(done.map(drop)) {
            note(format!("U {id} m{n}"));
        }
    }
    for id in customers.iter().take(2) {
        note(format!("e {id}"));
        if settle(erase(vault, *id).await.map(drop)) {
            note(format!("E {id}"));
        }
    }
    settle(vault.rotate_key(&operator(None)).await.map(drop));
    let visit = ids.iter().find(|(t, _)| *t == "visit");
    if let Some(day) = visit.and_then(|(_, id)| get(vault, *id).ok()).map(|v| v.expires) {
        note("b".to_owned());
        let reason = ErasureReason::Retention;
        let permit = operator(Some(TENANT));
        let kill = vault.erase_bucket(&permit, TENANT, &slug("visit"), day, reason).await;
        if settle(kill.map(drop)) {
            note("B".to_owned());
        }
    }
    let set = fields(&[("reference", "last"), ("city", "c"), ("note", "last")]);
    match put(vault, "customer", set).await {
        Ok(view) => note(format!("C {} last", view.id)),
        Err(e) => drop(settle(Err(e))),
    }
    if let Some(subject) = customers.get(2).and_then(|id| get(vault, *id).ok()).map(|v| v.subject) {
        let id = customers[2];
        note(format!("e {id}"));
        let reason = ErasureReason::SubjectRequest;
        let done = vault.erase_subject(&app(), TENANT, subject, reason).await;
        if settle(done.map(drop)) {
            note(format!("E {id}"));
        }
    }
}

/// Makes what sled and redb print while they panic on damaged files disappear; panics in code of our own are shown.
fn quiet_here() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let ours = |l: &std::panic::Location<'_>| {
            l.file().starts_with("src/") || l.file().starts_with("tests/")
        };
        if info.location().is_none_or(ours) {
            before(info);
        }
    }));
}

/// No round takes longer unless it hangs.
const ROUND_MAX: Duration = Duration::from_secs(60);

/// What `work` gives, or `None` if it does not end in time; then its thread is left behind.
fn within<T: Send + 'static>(
    time: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (done, result) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || drop(done.send(work())));
    match result.recv_timeout(time) {
        Ok(value) => Some(value),
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => None,
        Err(_) => std::panic::resume_unwind(thread.join().unwrap_err()),
    }
}

fn memory() -> Arc<lethe::store::Memory> {
    Arc::new(lethe::store::Memory::new())
}

//! R7: an anchor, a KEK and a data directory that do not belong together. Each pair has its own answer, which says
//! what to
//! do; nothing is changed by the refusal, and the right pair still opens with everything.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use lethe::clock::{Clock, SystemClock};
use lethe::keys::KeyError;
use lethe::keys::anchor::AnchorError;
use lethe::keys::kek::KekError;
use lethe::server::DevDir;
use lethe::store::StoreError;
use lethe::vault::{EngineChoice, Vault, VaultError};

use super::{Known, bytes_of, copy_dir, erase, new, runtime};
use crate::crash::scratch;
use crate::house::{House, furnish, get};

/// A vault with a history: each moment is a copy of its directory.
struct History {
    _dir: tempfile::TempDir,
    base: PathBuf,
    moments: Vec<(PathBuf, Vec<Known>)>,
    erased: Known,
}

fn open_at(dir: &Path) -> Result<Vault, VaultError> {
    House::new(dir, EngineChoice::Redb).open()
}

impl History {
    /// Moments: 0 first records; 1 more of the same generation; 2 after an erasure.
    fn new() -> Self {
        let dir = scratch();
        let base = dir.path().join("now");
        let free = Some("127.0.0.1:0".parse().unwrap());
        DevDir::prepare(&base, free, SystemClock.now()).unwrap();
        let house = House::new(&base, EngineChoice::Redb);
        let mut vault = Vault::create(&house.setup(), Arc::new(SystemClock)).unwrap();
        let rt = runtime();
        rt.block_on(furnish(&vault));
        let (mut all, mut moments) = (Vec::new(), Vec::new());
        let erased = rt.block_on(new(&vault, "customer", 99, 0));
        for moment in 0..3 {
            for n in 0..5 {
                all.push(rt.block_on(new(&vault, "customer", moment * 10 + n, 0)));
            }
            if moment == 2 {
                rt.block_on(erase(&vault, erased.id)).unwrap();
            }
            vault.close().unwrap();
            drop(vault);
            let copy = dir.path().join(format!("moment-{moment}"));
            copy_dir(&base, &copy);
            moments.push((copy, all.clone()));
            vault = house.open().unwrap();
        }
        vault.close().unwrap();
        Self { _dir: dir, base, moments, erased }
    }

    /// A fresh copy with the data of one moment and the anchor of another.
    fn pair(&self, data: usize, anchor: usize) -> tempfile::TempDir {
        let dir = scratch();
        copy_dir(&self.moments[data].0, dir.path());
        private(dir.path());
        std::fs::copy(self.moments[anchor].0.join("data/anchor"), dir.path().join("data/anchor"))
            .unwrap();
        dir
    }

    /// The last moment as it should be: everything there, the erased one gone.
    fn is_whole(&self, dir: &Path) {
        let vault = open_at(dir).unwrap_or_else(|e| panic!("the right pair does not open: {e}"));
        self.moments[2].1.iter().for_each(|k| k.read(&vault).unwrap());
        assert!(matches!(get(&vault, self.erased.id), Err(VaultError::Erased(_))));
        vault.close().unwrap();
    }
}

/// Copies lose the modes that `lethed` insists on.
fn private(dir: &Path) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let mode = if path.is_dir() { 0o700 } else { 0o600 };
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        if path.is_dir() {
            private(&path);
        }
    }
}

/// What `lethed serve` says about the directory; it must end by itself.
fn said(dir: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_lethed"))
        .args(["serve", "--config"])
        .arg(dir.join("lethed.toml"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    text
}

/// Everything but the engine's own files, which opening an engine touches.
fn outside_of_store(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = bytes_of(dir);
    all.retain(|(path, _)| !path.starts_with(dir.join("data/store")));
    all
}

/// Asserts the refusal, what the daemon says about it, that nothing was changed, and that `mend` makes it whole.
fn refused(
    history: &History,
    dir: &Path,
    expected: fn(&VaultError) -> bool,
    advice: &str,
    mend: &dyn Fn(&Path),
) {
    let before = outside_of_store(dir);
    let e = open_at(dir).err().unwrap_or_else(|| panic!("{advice}: it opened"));
    assert!(expected(&e), "{e:?}");
    let text = said(dir);
    assert!(text.contains(&e.to_string()) && text.contains(advice), "{advice}: {text}");
    let changed: Vec<PathBuf> =
        outside_of_store(dir).into_iter().filter(|f| !before.contains(f)).map(|f| f.0).collect();
    assert!(
        changed.iter().all(|p| p.ends_with("data/lock") || p.ends_with("data/reserve")),
        "{changed:?}"
    );
    mend(dir);
    history.is_whole(dir);
}

fn anchor(e: &VaultError) -> Option<&AnchorError> {
    match e {
        VaultError::Keys(KeyError::Anchor(e)) => Some(e),
        _ => None,
    }
}

#[test]
fn old_anchors_and_old_directories_are_refused() {
    let history = History::new();
    let together = "put the anchor and the data of one moment together";
    for old in [0, 1] {
        let dir = history.pair(2, old);
        let right = history.moments[2].0.join("data/anchor");
        let is_older = |e: &VaultError| matches!(anchor(e), Some(AnchorError::Older { .. }));
        refused(&history, dir.path(), is_older, together, &|dir| {
            std::fs::copy(&right, dir.join("data/anchor")).unwrap();
        });
        let dir = history.pair(old, 2);
        let now = history.moments[2].0.join("data");
        let is_older = |e: &VaultError| matches!(anchor(e), Some(AnchorError::StoreOlder { .. }));
        refused(&history, dir.path(), is_older, together, &|dir| {
            std::fs::remove_dir_all(dir.join("data")).unwrap();
            copy_dir(&now, &dir.join("data"));
        });
    }
    // Within one generation an old directory is told by the commit sequence; an old anchor is the same key and loses
    // nothing.
    let dir = history.pair(0, 1);
    let e = open_at(dir.path()).err().unwrap();
    assert!(matches!(anchor(&e), Some(AnchorError::StoreOlder { .. })), "{e:?}");
    let dir = history.pair(1, 0);
    let vault = open_at(dir.path()).unwrap();
    history.moments[1].1.iter().for_each(|k| k.read(&vault).unwrap());
    drop(vault);
    // Repair is no way around: it refuses the same.
    for (data, from) in [(2, 0), (2, 1)] {
        let dir = history.pair(data, from);
        let setup = House::new(dir.path(), EngineChoice::Redb).setup();
        let e = lethe::vault::repair(&setup, &SystemClock, false).err().unwrap();
        assert!(matches!(anchor(&e), Some(AnchorError::Older { .. })), "{e:?}");
        std::fs::copy(history.moments[2].0.join("data/anchor"), dir.path().join("data/anchor"))
            .unwrap();
        history.is_whole(dir.path());
    }
    // An old directory under the present anchor, "repaired": the tree's rows are not in it, so nothing is changed.
    let dir = history.pair(0, 2);
    let setup = House::new(dir.path(), EngineChoice::Redb).setup();
    let repaired = lethe::vault::repair(&setup, &SystemClock, false);
    assert!(matches!(repaired, Err(VaultError::Keys(KeyError::Damaged(_)))), "{repaired:?}");
}

#[test]
fn anchors_and_keys_that_are_wrong_each_have_their_own_answer() {
    let history = History::new();
    let right = history.moments[2].0.join("data/anchor");
    let put_back = |dir: &Path| {
        std::fs::copy(&right, dir.join("data/anchor")).unwrap();
    };
    let with = |bytes: &dyn Fn(Vec<u8>) -> Vec<u8>| {
        let dir = history.pair(2, 2);
        let path = dir.path().join("data/anchor");
        std::fs::write(&path, bytes(std::fs::read(&path).unwrap())).unwrap();
        dir
    };
    let check = |dir: &tempfile::TempDir, expected: fn(&VaultError) -> bool, advice: &str| {
        refused(&history, dir.path(), expected, advice, &put_back);
    };
    let is_swapped = |e: &VaultError| matches!(anchor(e), Some(AnchorError::Swapped));
    check(
        &with(&|b| [&b[4096..], &b[..4096]].concat()),
        is_swapped,
        "put the right anchor file back",
    );
    for length in [0, 1, 4096, 8191, 8193] {
        let cut = |mut b: Vec<u8>| {
            b.resize(length, 0);
            b
        };
        let is_cut = |e: &VaultError| matches!(anchor(e), Some(AnchorError::Truncated(_)));
        check(&with(&cut), is_cut, "put the right anchor file back");
    }
    let is_damaged = |e: &VaultError| matches!(anchor(e), Some(AnchorError::Damaged));
    check(&with(&|b| vec![0; b.len()]), is_damaged, "check `anchor.path`");
    let dir = history.pair(2, 2);
    std::fs::remove_file(dir.path().join("data/anchor")).unwrap();
    let is_missing = |e: &VaultError| matches!(anchor(e), Some(AnchorError::Missing(_)));
    check(&dir, is_missing, "check `data` and `anchor.path`");

    let other = History::new();
    let put_back = |dir: &Path| {
        std::fs::copy(&right, dir.join("data/anchor")).unwrap();
        std::fs::copy(history.base.join("kek"), dir.join("kek")).unwrap();
    };
    let dir = history.pair(2, 2);
    std::fs::copy(other.base.join("data/anchor"), dir.path().join("data/anchor")).unwrap();
    let is_wrong = |e: &VaultError| matches!(anchor(e), Some(AnchorError::WrongKek { .. }));
    refused(&history, dir.path(), is_wrong, "supply the right KEK", &put_back);
    let dir = history.pair(2, 2);
    std::fs::copy(other.base.join("data/anchor"), dir.path().join("data/anchor")).unwrap();
    std::fs::copy(other.base.join("kek"), dir.path().join("kek")).unwrap();
    let is_foreign = |e: &VaultError| matches!(anchor(e), Some(AnchorError::Foreign { .. }));
    refused(&history, dir.path(), is_foreign, "are of one vault", &put_back);
    let setup = House::new(dir.path(), EngineChoice::Redb).setup();
    std::fs::copy(other.base.join("data/anchor"), dir.path().join("data/anchor")).unwrap();
    std::fs::copy(other.base.join("kek"), dir.path().join("kek")).unwrap();
    let e = lethe::vault::repair(&setup, &SystemClock, false).err().unwrap();
    assert!(is_foreign(&e) || matches!(e, VaultError::Keys(KeyError::Damaged(_))), "{e:?}");
    put_back(dir.path());
    history.is_whole(dir.path());
    // Only the store's directory is another vault's.
    let dir = history.pair(2, 2);
    let store = dir.path().join("data/store");
    std::fs::remove_dir_all(&store).unwrap();
    copy_dir(&other.base.join("data/store"), &store);
    // Repair keeps to that, although the journal has the whole tree.
    let setup = House::new(dir.path(), EngineChoice::Redb).setup();
    assert!(is_foreign(&lethe::vault::repair(&setup, &SystemClock, false).unwrap_err()));
    refused(&history, dir.path(), is_foreign, "are of one vault", &|dir| {
        std::fs::remove_dir_all(dir.join("data/store")).unwrap();
        copy_dir(&history.moments[2].0.join("data/store"), &dir.join("data/store"));
    });

    let dir = history.pair(2, 2);
    std::fs::copy(other.base.join("kek"), dir.path().join("kek")).unwrap();
    refused(&history, dir.path(), is_wrong, "supply the right KEK", &put_back);
    let dir = history.pair(2, 2);
    let kek = dir.path().join("kek");
    std::fs::set_permissions(&kek, std::fs::Permissions::from_mode(0o644)).unwrap();
    let is_open = |e: &VaultError| matches!(e, VaultError::Keys(KeyError::Kek(KekError::Mode(..))));
    refused(&history, dir.path(), is_open, "run `chmod 600` on it", &|dir| private(dir));
    let dir = history.pair(2, 2);
    std::fs::remove_file(dir.path().join("kek")).unwrap();
    let is_gone =
        |e: &VaultError| matches!(e, VaultError::Keys(KeyError::Kek(KekError::Missing(_))));
    refused(&history, dir.path(), is_gone, "there is no KEK at", &put_back);
}

#[test]
fn one_process_at_a_time_has_the_directory() {
    let history = History::new();
    let dir = history.pair(2, 2);
    let vault = open_at(dir.path()).unwrap();
    let in_use = |e: &VaultError| {
        matches!(
            e,
            VaultError::Store(StoreError::InUse)
                | VaultError::Keys(KeyError::Store(StoreError::InUse))
        )
    };
    let e = open_at(dir.path()).err().unwrap();
    assert!(in_use(&e), "{e:?}");
    let text = said(dir.path());
    assert!(text.contains("in use") && text.contains("stop the other lethed"), "{text}");
    let setup = House::new(dir.path(), EngineChoice::Redb).setup();
    assert!(in_use(&lethe::vault::repair(&setup, &SystemClock, false).err().unwrap()));
    history.moments[2].1.iter().for_each(|k| k.read(&vault).unwrap());
    vault.close().unwrap();
    drop(vault);
    history.is_whole(dir.path());
    // Also where the engine has no lock of its own.
    let dir = scratch();
    let house = House::new(dir.path(), EngineChoice::Given(super::memory()));
    let vault = house.create();
    assert!(in_use(&house.open().err().unwrap()));
    assert!(in_use(&lethe::vault::repair(&house.setup(), &SystemClock, true).err().unwrap()));
    vault.close().unwrap();
}

#[test]
fn missing_files_and_those_of_another_engine_are_called_what_they_are() {
    for (own, other) in
        [(EngineChoice::Redb, EngineChoice::Sled), (EngineChoice::Sled, EngineChoice::Redb)]
    {
        let dir = scratch();
        let mut house = House::new(dir.path(), own.clone());
        let vault = house.create();
        runtime().block_on(furnish(&vault));
        vault.close().unwrap();
        drop(vault);
        let refusal = |house: &House| match house.open().map(drop) {
            Err(VaultError::Precondition(why)) => why,
            other => panic!("{other:?}"),
        };
        house.engine = other;
        assert_eq!(refusal(&house), lethe::vault::OTHER_ENGINE);
        house.engine = own;
        let (store, aside) = (dir.path().join("data/store"), dir.path().join("aside"));
        std::fs::rename(&store, &aside).unwrap();
        assert_eq!(refusal(&house), lethe::vault::NO_STORE);
        assert!(!store.exists(), "nothing is made in its place");
        std::fs::rename(&aside, &store).unwrap();
        house.open().unwrap().close().unwrap();
    }
}

//! R6, below the process: the n-th write, sync or open of a file fails in a child that works under the fault
//! injector of tools/recorder; then the vault is opened without it and compared with what the child was answered.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lethe::clock::SystemClock;
use lethe::keys::KeyError;
use lethe::store::StoreError;
use lethe::vault::{EngineChoice, VaultError};

use super::{copy_dir, fixed_work, runtime};
use crate::crash::fate::{check, fates};
use crate::crash::{recorder, scale, scratch};
use crate::house::{House, fields, furnish, put};
use crate::model::Dice;

const CHILD: &str = "faults::preload::child";
const CHILD_VAR: &str = "LETHE_TEST_FAULTED";
/// A child's work takes less than a second.
const CHILD_SECS: &str = "30";
/// What `timeout` says of a child that it had to end.
const ENDED_BY_TIMEOUT: Option<i32> = Some(124);

fn house(dir: &Path, engine: &str) -> House {
    let engine = if engine == "sled" { EngineChoice::Sled } else { EngineChoice::Redb };
    House::new(dir, engine)
}

/// Works on the vault that the variable names, and does nothing in any other process.
#[test]
fn child() {
    let Ok(orders) = std::env::var(CHILD_VAR) else { return };
    let (engine, dir) = orders.split_once(' ').unwrap();
    let dir = Path::new(dir);
    let mut answers = std::fs::File::create(dir.join("answers")).unwrap();
    let rt = runtime();
    // A refusal to open is an answer too.
    let Ok(vault) = house(&dir.join("v"), engine).open() else { return };
    let mut note = |line: String| answers.write_all(format!("{line}\n").as_bytes()).unwrap();
    rt.block_on(fixed_work(&vault, &mut note));
    // After a failure a clean stop is refused; that is no panic either.
    let _ = vault.close();
}

fn prepared(engine: &str) -> tempfile::TempDir {
    let dir = scratch();
    let at = dir.path().join("v");
    std::fs::create_dir(&at).unwrap();
    let vault = house(&at, engine).create();
    let rt = runtime();
    rt.block_on(furnish(&vault));
    vault.close().unwrap();
    dir
}

/// Runs the child with a fault; `false` if it was past the last call.
fn faulted(from: &Path, engine: &str, fault: &str) -> bool {
    let dir = scratch();
    copy_dir(from, dir.path());
    let fired: PathBuf = dir.path().join("fired");
    let output = Command::new("timeout")
        .args(["--kill-after=5", CHILD_SECS])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", CHILD, "--nocapture", "--test-threads=1"])
        .env(CHILD_VAR, format!("{engine} {}", dir.path().display()))
        .env("LD_PRELOAD", recorder())
        .env("LETHE_REC_DIR", dir.path().join("v"))
        .env("LETHE_FAULT", fault)
        .env("LETHE_FAULT_FIRED", &fired)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(output.status.signal(), None, "{engine} {fault}: {said}");
    // A thread of sled that fails may leave its flush() waiting for ever: then nothing more is acknowledged, and what
    // was acknowledged must be there all the same. redb answers always.
    let hung = engine == "sled" && output.status.code() == ENDED_BY_TIMEOUT;
    if hung {
        println!("R6 sled {fault}: sled's flush() never returned; ended after {CHILD_SECS} s");
    }
    assert!(hung || output.status.success(), "{engine} {fault}: {said}");
    // sled's own threads may panic inside sled; those of the vault never do.
    let panics = said.lines().filter(|l| l.contains("panicked at src/"));
    assert_eq!(panics.count(), 0, "{engine} {fault}: {said}");
    let answers = std::fs::read_to_string(dir.path().join("answers")).unwrap();
    let house = house(&dir.path().join("v"), engine);
    let vault = match house.open() {
        Ok(vault) => vault,
        // sled may leave files that it does not take back itself. Nothing of them is lost.
        Err(VaultError::Keys(KeyError::Store(StoreError::Damaged(_)))) if engine == "sled" => {
            let report = lethe::vault::repair(&house.setup(), &SystemClock, false).unwrap();
            house
                .open()
                .unwrap_or_else(|e| panic!("{fault}: repaired, does not open: {e}\n{report}"))
        }
        Err(e) => panic!("{engine} {fault}: does not open again: {e}\n{answers}"),
    };
    check(&vault, &fates(&answers)).unwrap_or_else(|e| panic!("{engine} {fault}: {e}"));
    let set = fields(&[("reference", "again"), ("city", "c"), ("note", "again")]);
    runtime().block_on(put(&vault, "customer", set)).unwrap();
    vault.close().unwrap();
    std::fs::read_to_string(fired).is_ok_and(|f| !f.is_empty())
}

#[test]
fn calls_of_the_operating_system_that_fail_lose_nothing() {
    let mut dice = Dice::new(6);
    for engine in ["redb", "sled"] {
        let from = prepared(engine);
        // How many calls of each class there are: the injector tells when n is past the last.
        let mut fired = 0;
        let mut rounds = 0;
        for (op, errnos, most) in [
            ("write", ["ENOSPC", "EIO", "short"], 60),
            ("sync", ["EIO", "ENOSPC", "EIO"], 40),
            ("open", ["EMFILE", "EIO", "EMFILE"], 20),
        ] {
            for round in 0..scale(7, 2_000) {
                let n = 1 + if round < 3 { round as u64 } else { dice.below(most) };
                let errno = errnos[round % 3];
                let sticky = if errno != "short" && round % 2 == 1 { ":sticky" } else { "" };
                fired +=
                    usize::from(faulted(from.path(), engine, &format!("{op}:{n}:{errno}{sticky}")));
                rounds += 1;
            }
        }
        println!("R6 {engine}: {rounds} children, {fired} faults fired");
        assert!(fired * 2 > rounds, "{engine}: most faults never fired: {fired} of {rounds}");
    }
}

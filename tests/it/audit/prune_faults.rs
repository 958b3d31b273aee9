//! The log's own retention when something fails: a fault or a crash at any step is made good, a log that lost entries
//! is pruned too and never said to be whole, and a repair keeps where it begins.

use lethe::audit::{first_in, pruned};
use lethe::store::faulty::Fault;
use lethe::vault::LogPermit;

use super::prune::{BLOCK, Scene, auditor, begins, check_answers, check_tree, sweep};
use super::*;
use crate::faults::copy_dir;

/// At each of its steps the store fails, or the process dies; the next start has what is left as it must be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_at_any_step_of_it_is_made_good_by_the_next_start() {
    let (mut scene, vault) = Scene::new();
    furnish(&vault).await;
    let one = put(&vault, "customer", person(1)).await.unwrap();
    let two = put(&vault, "customer", person(2)).await.unwrap();
    for _ in 0..3 {
        scene.day(&vault, 400, &[one.id, two.id]).await;
    }
    check_tree(&vault).await;
    vault.close().unwrap();
    drop(vault);
    scene.pass(40);
    let io = || StoreError::Io("planned".into());
    let (good, template) = (scene.rows.clone(), scene.house.dir.clone());
    let (mut n, mut steps, mut traces) = (0, BTreeSet::new(), BTreeSet::new());
    loop {
        n += 1;
        let mut fired = false;
        for reported in [false, true] {
            // As it was before, in a folder and a store of its own.
            let dir = scratch();
            copy_dir(&template, dir.path());
            let rows = Arc::new(Memory::new());
            let all = good.scan(&[], &[0xff], usize::MAX).unwrap().into_iter();
            rows.commit(&all.map(|r| (r.key, Some(r.value))).collect::<Vec<_>>()).unwrap();
            scene.rows = rows.clone();
            let plan = Plan::new(Vec::new());
            let faulty = Arc::new(Faulty::new(rows.clone(), plan.clone()));
            scene.house.dir = dir.path().to_owned();
            scene.house.engine = EngineChoice::Given(faulty);
            let vault = scene.house.open().unwrap();
            let at = plan.writes() + n;
            plan.add(match reported {
                false => Fault::Write(at, io()),
                true => Fault::WriteThenFail(at, io()),
            });
            // Fails or not, as it may.
            let _ = vault.run_retention(&permit(Role::PrivacyOfficer, None)).await;
            fired |= plan.writes() >= at;
            drop(vault);
            traces.insert(scene.check_traces());
            plan.clear();
            let vault = scene.house.open().unwrap();
            let begun = check_tree(&vault).await;
            steps.insert((begun > 0, scene.entries().len()));
            for _ in 0..2 {
                sweep(&vault).await;
            }
            let minimum = check_tree(&vault).await;
            assert!(minimum >= 4 * BLOCK, "{n}: {minimum}");
            vault.settle_log().await.unwrap();
            scene.check_rows(minimum);
            check_answers(&vault, minimum, one.subject).await;
        }
        if !fired {
            break;
        }
    }
    assert!(traces.contains(&0) && traces.len() > 1, "before it and after: {traces:?}");
    assert!(n > 4 && steps.iter().any(|(begun, _)| *begun), "{n} {steps:?}");
    assert!(steps.iter().any(|(begun, _)| !*begun), "{steps:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_lost_entries_is_pruned_too_and_never_said_to_be_whole() {
    let (mut scene, vault) = Scene::new();
    furnish(&vault).await;
    let one = put(&vault, "customer", person(1)).await.unwrap();
    scene.day(&vault, 900, &[one.id]).await;
    check_tree(&vault).await;
    // A row of the second block is gone, and no tile has its hash.
    let lost = scene.entries().into_iter().find(|r| first_in(&r.key) >= Some(BLOCK)).unwrap();
    scene.rows.commit(&[(lost.key, None)]).unwrap();
    scene.pass(40);
    sweep(&vault).await;
    let minimum = begins(&vault);
    assert!(minimum >= 3 * BLOCK, "{minimum}");
    scene.check_rows(minimum);
    let logs = || LogPermit::Audit(auditor());
    let proof = vault.log_inclusion(&logs(), minimum, None).await;
    assert!(matches!(proof, Err(VaultError::Damaged("audit log"))));
    let row = scene.rows.get(&pruned::key_of(1)).unwrap().unwrap();
    assert_eq!(pruned::hash_in(&row, 1), Some([0; 32]), "what nobody knows is not made up");
    assert_ne!(pruned::hash_in(&row, 0), Some([0; 32]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_keeps_the_beginning_of_a_pruned_log() {
    let (mut scene, vault) = Scene::on(EngineChoice::Redb, Arc::new(Memory::new()));
    furnish(&vault).await;
    let one = put(&vault, "customer", person(1)).await.unwrap();
    scene.day(&vault, 900, &[one.id]).await;
    check_tree(&vault).await;
    scene.pass(40);
    sweep(&vault).await;
    let minimum = begins(&vault);
    assert!(minimum >= 3 * BLOCK, "{minimum}");
    check_answers(&vault, minimum, one.subject).await;
    scene.day(&vault, 600, &[one.id]).await;
    vault.close().unwrap();
    drop(vault);
    for end_lost in [false, true] {
        if end_lost {
            let store = scene.house.dir.join("data/store");
            let engine = lethe::store::Redb::open(&store, 8 << 20).unwrap();
            engine.commit(&[(lethe::audit::FRONTIER_KEY.to_vec(), None)]).unwrap();
        }
        lethe::vault::repair(&scene.house.setup(), &*scene.house.clock, false).unwrap();
        let vault = scene.house.open().unwrap();
        assert_eq!(check_tree(&vault).await, minimum, "{end_lost}");
        check_answers(&vault, minimum, one.subject).await;
        vault.close().unwrap();
    }
    // It also knows since when the rest is there.
    let vault = scene.house.open().unwrap();
    scene.pass(32);
    for _ in 0..100 {
        sweep(&vault).await;
        if begins(&vault) > minimum {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(begins(&vault) >= minimum + 2 * BLOCK);
    assert_eq!(check_tree(&vault).await, begins(&vault));
    vault.close().unwrap();
}

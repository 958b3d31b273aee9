//! The logs as others check them: over the wire, by the tool, and what must never leave the vault.

mod tool;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lethe::authz::{Authority, Binding, ClassSet, Policy, Principal, TenantScope};
use lethe::class::{ErasureReason, Role};
use lethe::client::Client;
use lethe::crypto::checkpoint::Checkpoint;
use lethe::crypto::merkle::tile::{Tile, root_of};
use lethe::crypto::merkle::{leaf_hash, verify_consistency, verify_inclusion};
use lethe::crypto::note::{CosignerKey, KeyName, Note, VerifierKey};
use lethe::limits::LOG_TILES_MAX;
use lethe::proto::admin::{self, Log};
use lethe::store::{Engine, Memory};
use lethe::vault::{EngineChoice, LogPermit, Vault, VaultError};
use tonic::{Code, Status};

use crate::crash::scratch;
use crate::crash::trees::{readers, trees_hold};
use crate::house::{House, TENANT, app, fields, furnish, operator, permit, put};
use crate::live::{Live, create, violated};

const BOTH: [Log; 2] = [Log::Ledger, Log::Audit];

async fn checkpoint(
    client: &Client,
    log: Log,
    fresh: bool,
) -> Result<admin::GetCheckpointResponse, Status> {
    let request = admin::GetCheckpointRequest { log: log.into(), fresh };
    client.logs().get_checkpoint(request).await.map(tonic::Response::into_inner)
}

async fn tiles(client: &Client, log: Log, paths: &[String]) -> Result<Vec<Vec<u8>>, Status> {
    let request = admin::GetTilesRequest { log: log.into(), paths: paths.to_vec() };
    client.logs().get_tiles(request).await.map(|r| r.into_inner().tiles)
}

async fn erase_one(live: &Live, tenant: &str, email: &str) {
    let app = live.client("application").await;
    let made = create(&app, tenant, &[("email", email)]).await;
    let request = lethe::proto::v1::EraseRecordRequest { name: made.name, ..Default::default() };
    app.records().erase_record(request).await.unwrap();
}

fn digests(hashes: &[Vec<u8>]) -> Vec<[u8; 32]> {
    hashes.iter().map(|h| h.as_slice().try_into().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checkpoints_tiles_and_proofs_of_both_logs_hold() {
    let live = Live::start().await;
    live.furnish("a").await;
    for n in 0..3 {
        erase_one(&live, "a", &format!("e{n}@example.org")).await;
    }
    let auditor = live.client("auditor").await;
    for log in BOTH {
        let old = checkpoint(&auditor, log, true).await.unwrap();
        let key = VerifierKey::parse(&old.verifier_key).unwrap();
        let (told, _) = Checkpoint::open(&old.checkpoint, *key.public()).unwrap();
        assert_eq!((told.size, told.root.to_vec()), (old.size, old.root.clone()));
        assert!(told.size >= 3 && old.cosigned.is_empty());
        let all: Vec<Tile> = Tile::all_since(0, told.size).collect();
        let paths: Vec<String> = all.iter().map(ToString::to_string).collect();
        let found = tiles(&auditor, log, &paths).await.unwrap();
        let hashes = all[1].hashes_in(&found[1]).unwrap();
        let entries = all[0].entries_in(&found[0]).unwrap();
        assert_eq!(hashes, entries.iter().map(|e| leaf_hash(e)).collect::<Vec<_>>());
        assert_eq!(root_of(&hashes), told.root);

        erase_one(&live, "a", &format!("more{}@example.org", i32::from(log))).await;
        let new = checkpoint(&auditor, log, true).await.unwrap();
        let (new, _) = Checkpoint::open(&new.checkpoint, *key.public()).unwrap();
        assert!(new.size > told.size && new.origin == told.origin);
        let request = admin::GetConsistencyProofRequest {
            log: log.into(),
            old_size: told.size,
            size: new.size,
        };
        let answer = auditor.logs().get_consistency_proof(request).await.unwrap().into_inner();
        let (before, after) = ((told.size, told.root), (new.size, new.root));
        assert_eq!(verify_consistency(before, after, &digests(&answer.hashes)), Ok(()));
        assert_eq!((answer.old_root, answer.root), (told.root.to_vec(), new.root.to_vec()));
        for index in [0, told.size - 1, new.size - 1] {
            let request =
                admin::GetInclusionProofRequest { log: log.into(), index, size: new.size };
            let answer = auditor.logs().get_inclusion_proof(request).await.unwrap().into_inner();
            let path = digests(&answer.hashes);
            assert_eq!(verify_inclusion(leaf_hash(&answer.leaf), index, after, &path), Ok(()));
        }
        // Of the bound tree the answer brings its checkpoint along.
        let request = admin::GetInclusionProofRequest { log: log.into(), index: 0, size: 0 };
        let answer = auditor.logs().get_inclusion_proof(request).await.unwrap().into_inner();
        let (bound, _) = Checkpoint::open(&answer.checkpoint, *key.public()).unwrap();
        assert_eq!((bound.size, bound.root.to_vec()), (answer.size, answer.root));
        assert_eq!(bound.size, new.size, "reading binds nothing");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_requests_are_refused_by_name() {
    let live = Live::start().await;
    live.furnish("a").await;
    let auditor = live.client("auditor").await;
    let mut logs = auditor.logs();
    let bad = |status: Status, code: Code, fields: &[&str]| {
        assert_eq!(
            (status.code(), violated(&status)),
            (code, crate::logs::own(fields)),
            "{status:?}"
        );
    };
    let invalid = Code::InvalidArgument;
    for log in [0, 3, -1] {
        let request = admin::GetCheckpointRequest { log, fresh: false };
        bad(logs.get_checkpoint(request).await.unwrap_err(), invalid, &["log"]);
        let request = admin::GetTilesRequest { log, paths: vec!["x".into()] };
        bad(logs.get_tiles(request).await.unwrap_err(), invalid, &["log", "paths[0]"]);
        let request = admin::GetInclusionProofRequest { log, ..Default::default() };
        bad(logs.get_inclusion_proof(request).await.unwrap_err(), invalid, &["log"]);
        let request = admin::GetConsistencyProofRequest { log, ..Default::default() };
        bad(logs.get_consistency_proof(request).await.unwrap_err(), invalid, &["log"]);
    }
    for count in [0, LOG_TILES_MAX + 1] {
        let paths = vec!["tile/0/000.p/1".to_owned(); count];
        bad(tiles(&auditor, Log::Ledger, &paths).await.unwrap_err(), invalid, &["paths"]);
    }
    let size = checkpoint(&auditor, Log::Ledger, false).await.unwrap().size;
    assert!(size < 256);
    for beyond in [
        format!("tile/0/000.p/{}", size + 1),
        "tile/0/000".to_owned(),
        "tile/entries/001.p/1".to_owned(),
        "tile/7/000.p/1".to_owned(),
        "tile/0/x018/x446/x744/x073/x709/x551/615".to_owned(),
    ] {
        let status = tiles(&auditor, Log::Ledger, &[beyond]).await.unwrap_err();
        bad(status, Code::NotFound, &[]);
    }
    for (index, of) in [(size, 0), (size, size), (0, size + 1), (u64::MAX, 0), (0, u64::MAX)] {
        let request = admin::GetInclusionProofRequest { log: 1, index, size: of };
        bad(logs.get_inclusion_proof(request).await.unwrap_err(), Code::NotFound, &[]);
    }
    let request = admin::GetConsistencyProofRequest { log: 1, old_size: 1, size: u64::MAX };
    bad(logs.get_consistency_proof(request).await.unwrap_err(), Code::NotFound, &[]);
    let request = admin::GetConsistencyProofRequest { log: 2, old_size: 3, size: 2 };
    bad(logs.get_consistency_proof(request).await.unwrap_err(), invalid, &["old_size"]);
    for text in ["", "nonsense", "a\n\n— a AAAAAAA=\n", &"x".repeat(1 << 20)] {
        let request = admin::AddCosignatureRequest { checkpoint: text.to_owned() };
        bad(logs.add_cosignature(request).await.unwrap_err(), invalid, &["checkpoint"]);
    }
}

pub fn own(names: &[&str]) -> Vec<String> {
    names.iter().map(|s| (*s).to_owned()).collect()
}

/// Every call on the audit log's tree, as who lists entries would be answered. The ledger's cells are in story/rights.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_audit_log_s_tree_goes_to_who_may_read_every_entry_and_to_nobody_else() {
    let live = Live::start().await;
    live.furnish("a").await;
    live.furnish("b").await;
    let cells = [
        ("application", false),
        ("application-a", false),
        ("support", false),
        ("support-a", false),
        ("operator", false),
        ("operator-a", false),
        ("privacy-officer", true),
        ("privacy-officer-a", false),
        ("auditor", true),
        ("auditor-a", false),
        ("stranger", false),
    ];
    let log = Log::Audit.into();
    for (who, may) in cells {
        let client = live.client(who).await;
        let mut logs = client.logs();
        let paths = vec!["tile/entries/000.p/1".to_owned()];
        let proof = admin::GetConsistencyProofRequest { log, old_size: 1, size: 1 };
        let outcomes = [
            checkpoint(&client, Log::Audit, false).await.map(drop),
            checkpoint(&client, Log::Audit, true).await.map(drop),
            tiles(&client, Log::Audit, &paths).await.map(drop),
            logs.get_inclusion_proof(admin::GetInclusionProofRequest { log, index: 0, size: 0 })
                .await
                .map(drop),
            logs.get_consistency_proof(proof).await.map(drop),
        ];
        for outcome in outcomes {
            let code = outcome.err().map_or(Code::Ok, |s| s.code());
            assert_eq!(code, if may { Code::Ok } else { Code::PermissionDenied }, "{who}");
        }
    }
}

/// A policy can hide one tenant from a reader of the audit log. The tree would show its entries.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_from_whom_the_policy_hides_a_tenant_gets_no_tree() {
    let dir = scratch();
    let vault = House::new(dir.path(), EngineChoice::Redb).create();
    let who = Principal::parse("spiffe://test/auditor").unwrap();
    let binding = |tenants: &str| Binding {
        principal: who.clone(),
        role: Role::Auditor,
        tenants: TenantScope::parse(&[tenants.to_owned()]).unwrap(),
        clear: ClassSet::NONE,
    };
    let hidden = format!(
        "{}forbid (principal, action == Action::\"ReadAudit\", resource in Tenant::\"{TENANT}\");",
        lethe::authz::BUILT_IN_POLICY
    );
    let hidden = Arc::new(Policy::parse(&hidden).unwrap());
    let hiding = Authority::with(hidden, vec![binding("*")]).unwrap();
    let bound = Authority::new(vec![binding(TENANT)]).unwrap();
    let reader = |of: &Authority| LogPermit::Audit(of.decide(&who, None).unwrap());
    assert!(vault.log_checkpoint(&reader(&hiding), false).await.is_ok(), "nothing is hidden yet");
    furnish(&vault).await;
    for reader in [reader(&hiding), reader(&bound)] {
        let denied = |outcome: Result<(), VaultError>| {
            assert!(matches!(outcome, Err(VaultError::Forbidden)), "{outcome:?}");
        };
        let tile = vec![Tile::parse("tile/entries/000.p/1").unwrap()];
        denied(vault.log_checkpoint(&reader, true).await.map(drop));
        denied(vault.log_tiles(&reader, tile).await.map(drop));
        denied(vault.log_inclusion(&reader, 0, None).await.map(drop));
        denied(vault.log_consistency(&reader, 0, None).await.map(drop));
    }
}

async fn erase(vault: &Vault, name: &str) {
    let set = fields(&[("reference", name), ("city", "c"), ("note", name)]);
    let made = put(vault, "customer", set).await.unwrap();
    let reason = ErasureReason::SubjectRequest;
    vault.erase_records(&app(), TENANT, &[made.id], reason, None).await.unwrap();
}

/// A batch writes its leaves before the anchor names its generation. Until then, and else for ever, they do not count.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaves_that_the_anchor_has_not_bound_are_never_served() {
    let dir = scratch();
    let rows = Arc::new(Memory::new());
    let vault = House::new(dir.path(), EngineChoice::Given(rows.clone())).create();
    furnish(&vault).await;
    erase(&vault, "one").await;
    let [ledger, audit] = readers();
    let before = vault.log_checkpoint(&ledger, false).await.unwrap();
    let size = before.checkpoint.size;
    let last = rows.get(&[b"l".as_slice(), &(size - 1).to_be_bytes()].concat()).unwrap().unwrap();
    let mut next = last.clone();
    next[8..16].copy_from_slice(&size.to_be_bytes());
    let key = [b"l".as_slice(), &size.to_be_bytes()].concat();
    rows.commit(&[(key, Some(next))]).unwrap();
    let tile = |width| vec![Tile::parse(&format!("tile/entries/000.p/{width}")).unwrap()];
    let gone = |outcome: Result<(), VaultError>| {
        assert!(matches!(outcome, Err(VaultError::NotFound(_))), "{outcome:?}");
    };
    gone(vault.log_tiles(&ledger, tile(size + 1)).await.map(drop));
    gone(vault.log_inclusion(&ledger, size, None).await.map(drop));
    gone(vault.log_inclusion(&ledger, size, Some(size + 1)).await.map(drop));
    let after = vault.log_checkpoint(&ledger, false).await.unwrap();
    assert_eq!(after.checkpoint, before.checkpoint);
    // The next batch takes that place, and the tree goes with it.
    erase(&vault, "two").await;
    let after = vault.log_checkpoint(&ledger, false).await.unwrap();
    assert!(after.checkpoint.size > size);
    assert_eq!(trees_hold(&vault, "").await, Ok(()));
    // Entries of the audit log that are on disk and not bound yet.
    let bound = vault.log_checkpoint(&audit, false).await.unwrap().checkpoint.size;
    vault.settle_log().await.unwrap();
    let held = vault.audit_size(&permit(Role::Auditor, None), 0).unwrap();
    assert!(held > bound, "{held} {bound}");
    gone(vault.log_inclusion(&audit, bound, None).await.map(drop));
    let fresh = vault.log_checkpoint(&audit, true).await.unwrap().checkpoint;
    assert!(fresh.size >= held);
    vault.log_inclusion(&audit, bound, None).await.unwrap();
}

fn tile_files(dir: &Path) -> Vec<PathBuf> {
    let (mut found, mut dirs) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { dirs.push(path) } else { found.push(path) }
        }
    }
    found
}

/// As after a crash between the anchor and the tiles, and after one while they were written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tiles_that_are_missing_behind_or_spoilt_cost_time_only() {
    let dir = scratch();
    let house = House::new(dir.path(), EngineChoice::Redb);
    let vault = house.create();
    furnish(&vault).await;
    let set = |n: u32| fields(&[("reference", &format!("r{n}")), ("city", "c"), ("note", "n")]);
    let mut made = Vec::new();
    for n in 0..300 {
        made.push(put(&vault, "customer", set(n)).await.unwrap().id);
    }
    let reason = ErasureReason::SubjectRequest;
    vault.erase_records(&app(), TENANT, &made, reason, None).await.unwrap();
    let mut lines = String::new();
    for log in [0, 1] {
        lines += &format!("K {}\n", crate::crash::trees::hand_out(&vault, log).await.unwrap());
    }
    let logs = dir.path().join("data/logs");
    let files = tile_files(&logs);
    assert_eq!(files.len(), 2, "a full tile of each log: {files:?}");
    vault.close().unwrap();
    drop(vault);
    for damage in ["none", "gone", "empty", "flipped", "half of one", "of the other log"] {
        for (file, other) in files.iter().zip(files.iter().rev()) {
            let good = std::fs::read(file).unwrap();
            match damage {
                "none" => {}
                "gone" => std::fs::remove_file(file).unwrap(),
                "empty" => std::fs::write(file, b"").unwrap(),
                "flipped" => {
                    let mut bad = good.clone();
                    bad[77] ^= 4;
                    std::fs::write(file, bad).unwrap();
                }
                "half of one" => std::fs::write(file.with_extension("new"), &good[..99]).unwrap(),
                _ => std::fs::write(file, std::fs::read(other).unwrap()).unwrap(),
            }
            let vault = house.open().unwrap();
            assert_eq!(trees_hold(&vault, &lines).await, Ok(()), "{damage}");
            vault.close().unwrap();
            drop(vault);
            assert_eq!(std::fs::read(file).unwrap(), good, "{damage}");
        }
    }
    std::fs::remove_dir_all(&logs).unwrap();
    let vault = house.open().unwrap();
    assert_eq!(trees_hold(&vault, &lines).await, Ok(()));
    assert_eq!(tile_files(&logs).len(), 2);
}

fn witness(name: &str) -> CosignerKey {
    CosignerKey::generate(KeyName::parse(name).unwrap()).unwrap().0
}

fn cosign(note: &str, witness: &CosignerKey, at: u64) -> String {
    let mut note = Note::parse(note).unwrap();
    note.signatures.push(witness.sign(note.text(), at));
    note.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cosignatures_of_named_witnesses_for_own_checkpoints_are_kept_and_handed_out() {
    let mut live = Live::start().await;
    let (one, two, stranger) = (witness("w.example/1"), witness("w.example/2"), witness("other"));
    let keys = live.dir.path().join("witnesses");
    std::fs::write(&keys, format!("{}\n{}\n", one.verifier(), two.verifier())).unwrap();
    live.config.witnesses = Some(keys.clone());
    live.restart().await;
    live.furnish("a").await;
    erase_one(&live, "a", "a@example.org").await;
    let (auditor, operator) = (live.client("auditor").await, live.client("operator").await);
    let add = async |note: &str| {
        let request = admin::AddCosignatureRequest { checkpoint: note.to_owned() };
        operator.logs().add_cosignature(request).await.map(|r| r.into_inner().witnesses)
    };
    let first = checkpoint(&auditor, Log::Ledger, false).await.unwrap();
    let refused = |outcome: Result<Vec<String>, Status>, why: &str| {
        let status = outcome.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert!(status.message().contains(why), "{status:?}");
    };
    refused(add(&first.checkpoint).await, "no cosignature of a witness");
    refused(add(&cosign(&first.checkpoint, &stranger, 5)).await, "no cosignature of a witness");
    let good = cosign(&first.checkpoint, &one, 5);
    let line = good.lines().last().unwrap();
    let spoilt = line.replacen("AAAABQ", "AAAABg", 1).replacen("AAAF", "AAAG", 1);
    assert_ne!(line, spoilt, "{line}");
    refused(add(&good.replace(line, &spoilt)).await, "does not hold");
    // Not this vault's: another size under the same cosignature, another vault, no signature of its own.
    let size = format!("\n{}\n", first.size);
    let forged = first.checkpoint.replace(&size, &format!("\n{}\n", first.size + 1));
    refused(add(&cosign(&forged, &one, 5)).await, "not one that this vault signed");
    let id = first.checkpoint.split('/').nth(1).unwrap();
    let foreign = first.checkpoint.replace(id, &"0".repeat(32));
    refused(add(&cosign(&foreign, &one, 5)).await, "is of another vault");
    let unsigned = Note::parse(&first.checkpoint).unwrap();
    let unsigned = Note::new(unsigned.text().to_owned(), vec![one.sign(unsigned.text(), 5)]);
    refused(add(&unsigned.to_string()).await, "not one that this vault signed");
    assert!(checkpoint(&auditor, Log::Ledger, false).await.unwrap().cosigned.is_empty());

    assert_eq!(add(&good).await.unwrap(), own(&["w.example/1"]));
    assert_eq!(add(&good).await.unwrap(), own(&["w.example/1"]), "twice is as once");
    let now = checkpoint(&auditor, Log::Ledger, false).await.unwrap();
    assert_eq!((now.checkpoint.as_str(), &now.cosigned), (good.as_str(), &vec![good.clone()]));
    // The other one saw a later checkpoint; both are handed out, the larger one first.
    erase_one(&live, "a", "b@example.org").await;
    let second = checkpoint(&auditor, Log::Ledger, false).await.unwrap();
    assert!(second.size > first.size && second.cosigned == [good.clone()]);
    let later = cosign(&second.checkpoint, &two, 6);
    add(&later).await.unwrap();
    let audit = checkpoint(&auditor, Log::Audit, true).await.unwrap();
    add(&cosign(&audit.checkpoint, &two, 7)).await.unwrap();
    live.restart().await;
    let auditor = live.client("auditor").await;
    let now = checkpoint(&auditor, Log::Ledger, false).await.unwrap();
    let handed: Vec<_> = now.cosigned.iter().map(|n| Note::parse(n).unwrap()).collect();
    assert_eq!(now.cosigned, [later.clone(), good.clone()]);
    assert!(handed[0].verify(&two.verifier()).is_ok() && handed[1].verify(&one.verifier()).is_ok());
    assert_eq!(checkpoint(&auditor, Log::Audit, false).await.unwrap().cosigned.len(), 1);
    // A smaller checkpoint does not take the place of a larger one.
    let operator = live.client("operator").await;
    let request = admin::AddCosignatureRequest { checkpoint: cosign(&first.checkpoint, &two, 9) };
    operator.logs().add_cosignature(request).await.unwrap();
    let now = checkpoint(&auditor, Log::Ledger, false).await.unwrap();
    assert_eq!(now.cosigned, [later, good.clone()]);
    // A witness that the configuration does not name any more is not handed out.
    std::fs::write(&keys, one.verifier().to_string()).unwrap();
    live.restart().await;
    let auditor = live.client("auditor").await;
    assert_eq!(checkpoint(&auditor, Log::Ledger, false).await.unwrap().cosigned, [good]);
    // A file that does not fit refuses the start, by its line.
    live.stop().await;
    std::fs::write(&keys, "\nnonsense\n").unwrap();
    let told = live.try_again().await.unwrap_err().to_string();
    assert!(told.contains("witness.keys") && told.contains("line 2"), "{told}");
}

/// A head that the vault signed for a log which a repair then gave up is not signed again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cosignature_that_does_not_fit_the_log_any_more_is_not_handed_out() {
    let dir = scratch();
    let rows = Arc::new(Memory::new());
    let mut house = House::new(dir.path(), EngineChoice::Given(rows.clone()));
    house.change = |setup| setup.witnesses = vec![fixed().verifier()];
    let vault = house.create();
    furnish(&vault).await;
    erase(&vault, "one").await;
    keep_cosignature(&vault).await;
    assert_eq!(cosigned(&vault).await, 1);
    let [ledger, _] = readers();
    let row = rows.scan(b"c", b"d", 9).unwrap().pop().unwrap();
    let mut other = row.value[..row.value.len() - 4].to_vec();
    other[25] ^= 1;
    rows.commit(&[(row.key, Some(lethe::store::sum::with_sum(other)))]).unwrap();
    let head = vault.log_checkpoint(&ledger, false).await.unwrap();
    assert!(head.cosigned.is_empty() && Note::parse(&head.note).unwrap().signatures.len() == 1);
}

/// Has a vault keep a cosignature of the fixed witness.
pub async fn keep_cosignature(vault: &Vault) {
    let [ledger, _] = readers();
    let head = vault.log_checkpoint(&ledger, false).await.unwrap();
    let note = Note::parse(&cosign(&head.note, &fixed(), 5)).unwrap();
    vault.add_cosignature(&operator(None), head.checkpoint, note).await.unwrap();
}

/// How many cosignatures a vault hands out with the ledger's checkpoint.
pub async fn cosigned(vault: &Vault) -> usize {
    let [ledger, _] = readers();
    vault.log_checkpoint(&ledger, false).await.unwrap().cosigned.len()
}

/// The same key each time: a setup is changed by a function without surroundings.
pub fn fixed() -> CosignerKey {
    let key = "PRIVATE+KEY+w+";
    let seed = [4u8; 33];
    use base64::Engine as _;
    let encoded = base64::engine::general_purpose::STANDARD.encode(seed);
    // Of the wrong hashes only the right one parses.
    let public = lethe::crypto::Signer::from_seed(&[4; 32]).unwrap().public_key();
    let kind = lethe::crypto::note::SignatureKind::Cosignature;
    let id = VerifierKey::new(KeyName::parse("w").unwrap(), kind, public).id();
    let id: String = id.iter().map(|b| format!("{b:02x}")).collect();
    CosignerKey::parse(&format!("{key}{id}+{encoded}")).unwrap()
}

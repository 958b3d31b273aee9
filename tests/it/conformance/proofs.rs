//! Step 42: checkpoints and proofs of both logs.

use lethe::crypto::checkpoint::Checkpoint;
use lethe::crypto::merkle::{leaf_hash, verify_consistency, verify_inclusion};
use lethe::proto::admin;

use super::*;

/// What a fresh checkpoint says, if this key signed it.
async fn fresh(story: &Story, log: admin::Log, key: &[u8]) -> (String, Checkpoint) {
    let request = admin::GetCheckpointRequest { log: log.into(), fresh: true };
    let told = story.auditor.logs().get_checkpoint(request).await.unwrap().into_inner();
    let (opened, _) = Checkpoint::open(&told.checkpoint, key.try_into().unwrap()).unwrap();
    assert_eq!((told.size, told.root.as_slice()), (opened.size, opened.root.as_slice()), "step 42");
    (told.checkpoint, opened)
}

fn digests(hashes: &[Vec<u8>]) -> Vec<[u8; 32]> {
    hashes.iter().map(|h| h.as_slice().try_into().unwrap()).collect()
}

pub(super) async fn step_42(story: &mut Story) {
    let status = story.operator.vault().get_status(admin::GetStatusRequest {}).await.unwrap();
    let key = status.into_inner().public_key;
    let mut other = key.clone();
    other[3] ^= 1;
    for log in [admin::Log::Ledger, admin::Log::Audit] {
        let (note, old) = fresh(story, log, &key).await;
        assert!(Checkpoint::open(&note, other.clone().try_into().unwrap()).is_err(), "step 42");
        let forged = note.replace(&format!("\n{}\n", old.size), "\n1\n");
        assert!(Checkpoint::open(&forged, key.clone().try_into().unwrap()).is_err(), "step 42");

        let email = format!("log{}@example.org", i32::from(log));
        let made = story.create(story.new_record(texts(&[("email", &email)]))).await.unwrap();
        let request = v1::EraseRecordRequest { name: made.name, ..Default::default() };
        story.application.records().erase_record(request).await.unwrap();
        let (_, new) = fresh(story, log, &key).await;
        assert!(new.size > old.size && new.origin == old.origin, "step 42");
        let (number, size) = (i32::from(log), new.size);
        let request = admin::GetConsistencyProofRequest { log: number, old_size: old.size, size };
        let grown = story.auditor.logs().get_consistency_proof(request).await.unwrap();
        let path = digests(&grown.into_inner().hashes);
        let (before, after) = ((old.size, old.root), (new.size, new.root));
        assert_eq!(verify_consistency(before, after, &path), Ok(()), "step 42");
        assert!(verify_consistency(before, after, &path[1..]).is_err(), "step 42");
        for index in [0, size - 1] {
            let request = admin::GetInclusionProofRequest { log: number, index, size };
            let found = story.auditor.logs().get_inclusion_proof(request).await.unwrap();
            let found = found.into_inner();
            let (leaf, path) = (leaf_hash(&found.leaf), digests(&found.hashes));
            assert_eq!(verify_inclusion(leaf, index, after, &path), Ok(()), "step 42");
            let cut = leaf_hash(&found.leaf[1..]);
            assert!(verify_inclusion(cut, index, after, &path).is_err(), "step 42");
        }
        let request = admin::GetInclusionProofRequest { log: number, index: size, size };
        let beyond = story.auditor.logs().get_inclusion_proof(request).await;
        story.refused(36, beyond, Code::NotFound, &[]);
        let request = admin::GetCheckpointRequest { log: number, fresh: false };
        let denied = story.application.logs().get_checkpoint(request).await;
        story.refused(36, denied, Code::PermissionDenied, &[]);
    }
    let request = admin::GetCheckpointRequest { log: admin::Log::Audit.into(), fresh: false };
    let denied = story.operator.logs().get_checkpoint(request).await;
    story.refused(36, denied, Code::PermissionDenied, &[]);
}

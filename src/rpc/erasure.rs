//! Reasons and receipts of erasures, between the wire and the vault.
//!
//! Guarantees: a receipt on the wire says nothing that its signed bytes do not say, except its name and its caveat;
//! every receipt has a caveat.

use super::convert::timestamp;
use super::names;
use super::status::Violations;
use crate::class::{ErasureLevel, ErasureReason};
use crate::id::RecordId;
use crate::proto::v1;
use crate::vault::holds::postponed::Postponed;
use crate::vault::{Receipt, Sort};

/// What no erasure reaches.
const NOT_COVERED: &str = "Not covered: copies that others made before, and blocks that an SSD \
                           replaced by spare ones on its own.";
/// Why a receipt claims no more than E0.
const ONLY_E0: &str = "Level E0: reads refuse, but the anchor lies on a medium that may keep old \
                       blocks, so that the old keys may still be found there. Not covered: copies \
                       that others made before.";

/// The reason of a request. Superseded versions and puts without an answer are the vault's to erase, not a caller's.
pub fn reason(
    number: i32,
    default: ErasureReason,
    found: &mut Violations,
) -> Option<ErasureReason> {
    match v1::ErasureReason::try_from(number) {
        Ok(v1::ErasureReason::Unspecified) => Some(default),
        Ok(v1::ErasureReason::SubjectRequest) => Some(ErasureReason::SubjectRequest),
        Ok(v1::ErasureReason::Retention) => Some(ErasureReason::Retention),
        Ok(v1::ErasureReason::Contract) => Some(ErasureReason::Contract),
        Ok(
            v1::ErasureReason::Superseded
            | v1::ErasureReason::Unacknowledged
            | v1::ErasureReason::Moved,
        ) => found.take("reason", Err("is a reason of the vault's own")),
        Err(_) => found.take("reason", Err("is not a known reason")),
    }
}

pub fn level(level: ErasureLevel) -> v1::ErasureLevel {
    match level {
        ErasureLevel::Tombstoned => v1::ErasureLevel::E0Tombstoned,
        ErasureLevel::LocalAnchor => v1::ErasureLevel::E1LocalAnchorScrubbed,
        ErasureLevel::AllAnchors => v1::ErasureLevel::E2AllAnchorsScrubbed,
        ErasureLevel::Collected => v1::ErasureLevel::E3CiphertextCollected,
    }
}

pub fn reason_number(reason: ErasureReason) -> i32 {
    let reason = match reason {
        ErasureReason::SubjectRequest => v1::ErasureReason::SubjectRequest,
        ErasureReason::Retention => v1::ErasureReason::Retention,
        ErasureReason::Superseded => v1::ErasureReason::Superseded,
        ErasureReason::Contract => v1::ErasureReason::Contract,
        ErasureReason::Unacknowledged => v1::ErasureReason::Unacknowledged,
        ErasureReason::Moved => v1::ErasureReason::Moved,
    };
    reason.into()
}

pub fn receipt(name: String, receipt: Receipt) -> v1::ErasureReceipt {
    let caveat = match receipt.level {
        ErasureLevel::Tombstoned => ONLY_E0,
        _ => NOT_COVERED,
    };
    v1::ErasureReceipt {
        name,
        level: level(receipt.level).into(),
        reason: reason_number(receipt.reason),
        generation: receipt.generation.0,
        leaf_index: receipt.leaf_index,
        request_time: Some(timestamp(receipt.requested)),
        erase_time: Some(timestamp(receipt.erased)),
        signed_bytes: receipt.signed_bytes,
        signature: receipt.signature.to_vec(),
        public_key: receipt.public_key.to_vec(),
        caveat: caveat.to_owned(),
    }
}

/// What waits for a legal hold to end. Which hold it is, not everyone may know.
pub fn postponed(tenant: &str, (id, postponed): (RecordId, Postponed)) -> v1::PostponedErasure {
    v1::PostponedErasure {
        name: match postponed.sort() {
            Sort::Subject => names::subject(tenant, id),
            Sort::Record | Sort::Hold => names::record(tenant, id),
        },
        reason: reason_number(postponed.reason),
        request_time: Some(timestamp(postponed.requested)),
        holds: Vec::new(),
    }
}

pub fn all_postponed(tenant: &str, all: Vec<(RecordId, Postponed)>) -> Vec<v1::PostponedErasure> {
    all.into_iter().map(|one| postponed(tenant, one)).collect()
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::class::Medium;
    use crate::clock::UnixMillis;
    use crate::id::Gen;
    use crate::limits;

    fn sample(level: ErasureLevel) -> Receipt {
        Receipt {
            level,
            medium: Medium::InPlaceFile,
            reason: ErasureReason::Contract,
            generation: Gen(u64::MAX),
            leaf_index: u64::MAX,
            requested: UnixMillis(253_402_300_799_999),
            erased: UnixMillis(-1),
            signed_bytes: vec![1; 237],
            signature: [2; 64],
            public_key: [3; 32],
        }
    }

    #[test]
    fn callers_cannot_claim_the_vaults_own_reasons() {
        let given = |n| reason(n, ErasureReason::Retention, &mut Violations::default());
        assert_eq!(given(0), Some(ErasureReason::Retention));
        assert_eq!(given(1), Some(ErasureReason::SubjectRequest));
        assert_eq!(given(4), Some(ErasureReason::Contract));
        assert_eq!([3, 5, 6, 7, -1].map(given), [None; 5]);
    }

    #[test]
    fn a_receipt_says_what_it_does_not_cover() {
        let e0 = receipt("n".into(), sample(ErasureLevel::Tombstoned));
        assert!(e0.caveat.contains("E0") && e0.level == 1);
        let e1 = receipt("n".into(), sample(ErasureLevel::LocalAnchor));
        assert!(e1.caveat.contains("copies that others made") && e1.level == 2);
        let time = e0.erase_time.unwrap();
        assert_eq!((time.seconds, time.nanos), (-1, 999_000_000));
    }

    #[test]
    fn the_receipts_of_the_largest_call_fit_a_message() {
        let name = format!("tenants/{}/records/{}", "t".repeat(63), "0".repeat(36));
        let one = receipt(name, sample(ErasureLevel::Tombstoned)).encoded_len() + 4;
        let most = limits::SUBJECT_RECORDS_MAX.max(limits::BATCH_ERASE_MAX);
        assert!(one * most < limits::MESSAGE_BYTES_MAX, "{one} bytes each");
    }
}

//! What went with a bucket: the ids of its records, in order, the root over them, and what the ledger says of the
//! bucket.
//!
//! Invariants: ids are vault-issued and random, and nothing else is kept of a record; each has a leaf of its own under
//! a salt of its own, so that the proof for one tells nothing of its neighbours; a list counts only once the row that
//! sums it up has committed with the bucket's leaf.

use crate::class::ErasureReason;
use crate::clock::UnixMillis;
use crate::crypto::merkle::{Frontier, inclusion_ranges, leaf_hash};
use crate::crypto::{Digest32, SaltKey, hmac_sha256, labels};
use crate::id::{BucketOrd, Day, Gen, RecordId, TenantOrd, TypeOrd, VaultId};
use crate::keys::slots::BucketId;
use crate::store::sum::with_sum;
use crate::vault::error::VaultError;
use crate::vault::rows::Fields;

/// Ids in one row.
pub const ROW_IDS: usize = 500;
/// In the place of a row's number: the row that sums up the bucket.
const SUMMARY: u32 = u32::MAX;

/// First bytes of the rows of a bucket.
pub fn prefix((tenant, bucket): BucketId) -> Vec<u8> {
    [b"x".as_slice(), &tenant.bytes(), &bucket.bytes()].concat()
}

/// First bytes of the rows of a tenant's buckets.
pub fn tenant_prefix(tenant: TenantOrd) -> Vec<u8> {
    [b"x".as_slice(), &tenant.bytes()].concat()
}

/// The bucket that a key of these rows names.
pub fn bucket_in(key: &[u8]) -> Option<BucketOrd> {
    key.get(4..7)?.try_into().ok().map(BucketOrd::from_bytes)
}

/// Key of a row of ids.
pub fn list_key(bucket: BucketId, row: u32) -> Vec<u8> {
    [prefix(bucket).as_slice(), &row.to_be_bytes()].concat()
}

/// Key of the row that sums up the bucket.
pub fn summary_key(bucket: BucketId) -> Vec<u8> {
    list_key(bucket, SUMMARY)
}

/// Whether a key of this kind is a summary's.
pub fn is_summary(key: &[u8]) -> bool {
    key.get(7..) == Some(SUMMARY.to_be_bytes().as_slice())
}

/// A row of ids, at most [`ROW_IDS`].
pub fn encode_ids(ids: &[RecordId]) -> Vec<u8> {
    let mut out = b"LTX1".to_vec();
    out.extend_from_slice(&(ids.len() as u16).to_be_bytes());
    ids.iter().for_each(|id| out.extend_from_slice(&id.0));
    with_sum(out)
}

pub fn decode_ids(value: &[u8]) -> Option<Vec<RecordId>> {
    let mut at = Fields::after(value, b"LTX1")?;
    let count = usize::from(u16::from_be_bytes(at.take()?));
    if count > ROW_IDS {
        return None;
    }
    let mut ids = Vec::with_capacity(count);
    for _ in 0..count {
        ids.push(RecordId(at.take()?));
    }
    at.end(ids)
}

/// What the ledger says of a killed bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Killed {
    pub rtype: TypeOrd,
    pub expires: Day,
    pub reason: ErasureReason,
    pub requested: UnixMillis,
    pub generation: Gen,
    pub leaf_seq: u64,
    pub count: u32,
    pub root: Digest32,
    /// Hash of the ledger's leaf about it.
    pub leaf: Digest32,
}

impl Killed {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = b"LTX2".to_vec();
        out.extend_from_slice(&self.rtype.0.to_be_bytes());
        out.extend_from_slice(&self.expires.0.to_be_bytes());
        out.push(self.reason as u8);
        out.extend_from_slice(&self.requested.0.to_be_bytes());
        out.extend_from_slice(&self.generation.0.to_be_bytes());
        out.extend_from_slice(&self.leaf_seq.to_be_bytes());
        out.extend_from_slice(&self.count.to_be_bytes());
        out.extend_from_slice(&self.root);
        out.extend_from_slice(&self.leaf);
        with_sum(out)
    }

    pub fn decode(value: &[u8]) -> Option<Self> {
        let mut at = Fields::after(value, b"LTX2")?;
        let found = Self {
            rtype: TypeOrd(u16::from_be_bytes(at.take()?)),
            expires: Day(i32::from_be_bytes(at.take()?)),
            reason: ErasureReason::from_number(u8::from_be_bytes(at.take()?))?,
            requested: UnixMillis(i64::from_be_bytes(at.take()?)),
            generation: Gen(u64::from_be_bytes(at.take()?)),
            leaf_seq: u64::from_be_bytes(at.take()?),
            count: u32::from_be_bytes(at.take()?),
            root: at.take()?,
            leaf: at.take()?,
        };
        at.end(found)
    }
}

/// Makes the leaves of a bucket's list.
pub struct Leaves<'a> {
    pub vault: VaultId,
    pub bucket: BucketId,
    pub key: &'a SaltKey,
}

impl Leaves<'_> {
    /// What hides a record's id from whoever has the proof for another.
    pub fn salt(&self, record: RecordId) -> [u8; 16] {
        let (tenant, bucket) = (self.bucket.0.bytes(), self.bucket.1.bytes());
        let mac = hmac_sha256(self.key.expose(), &[&tenant, &bucket, &record.0]);
        let mut salt = [0; 16];
        salt.iter_mut().zip(mac).for_each(|(to, from)| *to = from);
        salt
    }

    /// `"VX1" | vault[16] | tenant u24 | bucket u24 | record[16] | salt[16]`
    pub fn leaf(&self, record: RecordId) -> Vec<u8> {
        let (tenant, bucket) = (self.bucket.0.bytes(), self.bucket.1.bytes());
        [labels::WENT, &self.vault.0, &tenant, &bucket, &record.0, &self.salt(record)].concat()
    }

    /// The hashes beside the way from the leaf at `index` of a list of `size` ids to its root, nearest first. The ids
    /// are gone through once, in order, and none is kept.
    pub fn path(
        &self,
        (index, size): (u64, u64),
        ids: impl IntoIterator<Item = Result<RecordId, VaultError>>,
    ) -> Result<Vec<Digest32>, VaultError> {
        let ranges = inclusion_ranges(index, size);
        let mut parts: Vec<_> = ranges.iter().map(|r| (*r, Frontier::default())).collect();
        parts.sort_by_key(|((start, _), _)| *start);
        let mut at = parts.iter_mut().peekable();
        for (n, id) in (0u64..).zip(ids) {
            let id = id?;
            while at.next_if(|((_, end), _)| *end <= n).is_some() {}
            if let Some(((start, _), part)) = at.peek_mut()
                && *start <= n
            {
                part.push(leaf_hash(&self.leaf(id)));
            }
        }
        let root = |range| parts.iter().find(|(r, _)| r == range).map(|(_, part)| part.root());
        let path: Option<Vec<_>> = ranges.iter().map(root).collect();
        path.ok_or(VaultError::Damaged("bucket's list"))
    }

    /// The root over these ids, which are in order.
    pub fn root<'i>(&self, ids: impl IntoIterator<Item = &'i RecordId>) -> Digest32 {
        let mut frontier = Frontier::default();
        ids.into_iter().for_each(|id| frontier.push(leaf_hash(&self.leaf(*id))));
        frontier.root()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::merkle::verify_inclusion;
    use crate::limits::ROW_BYTES_MAX;

    #[test]
    fn rows_survive_their_bytes_and_no_altered_one_does() {
        let ids: Vec<RecordId> = (0..3).map(|n| RecordId([n; 16])).collect();
        let killed = Killed {
            rtype: TypeOrd(1),
            expires: Day(-2),
            reason: ErasureReason::Retention,
            requested: UnixMillis(3),
            generation: Gen(4),
            leaf_seq: 5,
            count: 6,
            root: [7; 32],
            leaf: [8; 32],
        };
        assert_eq!(decode_ids(&encode_ids(&ids)), Some(ids.clone()));
        assert_eq!(Killed::decode(&killed.encode()), Some(killed));
        assert_eq!(decode_ids(&encode_ids(&[])), Some(vec![]));
        assert!(encode_ids(&[RecordId([0; 16]); ROW_IDS]).len() <= ROW_BYTES_MAX);
        for bytes in [encode_ids(&ids), killed.encode()] {
            for bit in 0..bytes.len() * 8 {
                let mut bad = bytes.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert!(decode_ids(&bad).is_none() && Killed::decode(&bad).is_none());
            }
        }
        let bucket = (TenantOrd::of(1), BucketOrd::of(2));
        assert!(is_summary(&summary_key(bucket)) && !is_summary(&list_key(bucket, 9)));
        assert!(list_key(bucket, 9).starts_with(&prefix(bucket)));
        assert!(list_key(bucket, 9).starts_with(&tenant_prefix(bucket.0)));
        assert_eq!(bucket_in(&list_key(bucket, 9)), Some(bucket.1));
    }

    #[test]
    fn each_record_of_a_list_has_its_way_to_the_root_and_to_no_other() {
        let key = SaltKey::copied(&[1; 32]);
        let bucket = (TenantOrd::of(1), BucketOrd::of(2));
        let leaves = Leaves { vault: VaultId([1; 16]), bucket, key: &key };
        for size in 1..=20u8 {
            let ids: Vec<RecordId> = (0..size).map(|n| RecordId([n; 16])).collect();
            let head = (u64::from(size), leaves.root(&ids));
            for (index, id) in (0u64..).zip(&ids) {
                let path = leaves.path((index, head.0), ids.iter().map(|id| Ok(*id))).unwrap();
                let hash = leaf_hash(&leaves.leaf(*id));
                assert_eq!(verify_inclusion(hash, index, head, &path), Ok(()), "{index} {size}");
                let other = leaf_hash(&leaves.leaf(RecordId([99; 16])));
                assert!(verify_inclusion(other, index, head, &path).is_err());
            }
        }
    }

    #[test]
    fn a_root_is_of_one_vault_bucket_key_and_list() {
        let (key, other) = (SaltKey::copied(&[1; 32]), SaltKey::copied(&[2; 32]));
        let of = |vault, bucket, key, ids: &[u8]| {
            let bucket = (TenantOrd::of(1), BucketOrd::of(bucket));
            let ids: Vec<RecordId> = ids.iter().map(|n| RecordId([*n; 16])).collect();
            Leaves { vault: VaultId([vault; 16]), bucket, key }.root(&ids)
        };
        let base = of(1, 1, &key, &[1, 2, 3]);
        assert_eq!(of(1, 1, &key, &[1, 2, 3]), base);
        for changed in [
            of(2, 1, &key, &[1, 2, 3]),
            of(1, 2, &key, &[1, 2, 3]),
            of(1, 1, &other, &[1, 2, 3]),
            of(1, 1, &key, &[1, 3, 2]),
            of(1, 1, &key, &[1, 2]),
        ] {
            assert_ne!(changed, base);
        }
    }
}

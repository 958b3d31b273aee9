//! What went with a bucket: the ids of its records, in order, the root over them, and what the ledger says of the
//! bucket. The hashes over blocks of ids make the proof for one record a matter of its own block.
//!
//! Invariants: ids are vault-issued and random, and nothing else is kept of a record; each has a leaf of its own under
//! a salt of its own, so that the proof for one tells nothing of its neighbours; a list counts only once the row that
//! sums it up has committed with the bucket's leaf; hashes of blocks only save time, and count as far as they lead to
//! its root.

use crate::class::ErasureReason;
use crate::clock::UnixMillis;
use crate::crypto::merkle::tile::{TILE_HEIGHT, TILE_WIDTH, root_of};
use crate::crypto::merkle::{Frontier, leaf_hash};
use crate::crypto::{Digest32, SaltKey, hmac_sha256, labels};
use crate::id::{BucketOrd, Day, Gen, RecordId, TenantOrd, TypeOrd, VaultId};
use crate::keys::slots::BucketId;
use crate::store::sum::{checked, with_sum};
use crate::vault::rows::Fields;

/// Ids in one row.
pub const ROW_IDS: usize = 500;
/// Ids in a block that is hashed as a whole.
pub const BLOCK_IDS: usize = TILE_WIDTH as usize;
/// Hashes of blocks in one row.
pub const ROW_BLOCKS: usize = 128;
/// In the place of a row's number: hashes of blocks begin here.
const BLOCKS: u32 = 1 << 31;
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

/// Key of a row of hashes of blocks.
pub fn blocks_key(bucket: BucketId, row: u32) -> Vec<u8> {
    list_key(bucket, BLOCKS | row)
}

/// Key of the row that sums up the bucket.
pub fn summary_key(bucket: BucketId) -> Vec<u8> {
    list_key(bucket, SUMMARY)
}

/// Whether a key of this kind is that of a row of ids.
pub fn is_of_ids(key: &[u8]) -> bool {
    let number = key.get(7..).and_then(|n| n.try_into().ok()).map(u32::from_be_bytes);
    number.is_some_and(|number| number < BLOCKS)
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

/// A row of hashes of blocks, at most [`ROW_BLOCKS`].
pub fn encode_blocks(hashes: &[Digest32]) -> Vec<u8> {
    with_sum([b"LTX3".as_slice(), hashes.as_flattened()].concat())
}

pub fn decode_blocks(value: &[u8]) -> Option<Vec<Digest32>> {
    let (hashes, rest) = checked(value)?.strip_prefix(b"LTX3".as_slice())?.as_chunks::<32>();
    (rest.is_empty() && hashes.len() <= ROW_BLOCKS).then(|| hashes.to_vec())
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

    /// The hashes of leaves.
    pub fn hashes(&self, ids: &[RecordId]) -> Vec<Digest32> {
        ids.iter().map(|id| leaf_hash(&self.leaf(*id))).collect()
    }

    /// The root over these ids, which are in order, and the hashes of the blocks that are full.
    pub fn sum_up(&self, ids: &[RecordId]) -> (Digest32, Vec<Digest32>) {
        let (mut frontier, mut blocks) = (Frontier::default(), Vec::new());
        let (full, rest) = ids.as_chunks::<BLOCK_IDS>();
        for block in full {
            let hash = root_of(&self.hashes(block));
            // Blocks of the same size always follow each other.
            frontier.push_tree(TILE_HEIGHT, hash);
            blocks.push(hash);
        }
        self.hashes(rest).into_iter().for_each(|hash| frontier.push(hash));
        (frontier.root(), blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::ROW_BYTES_MAX;

    const BUCKET: BucketId = (TenantOrd::of(1), BucketOrd::of(2));

    fn id(n: u64) -> RecordId {
        RecordId((u128::from(n) << 64 | 7).to_be_bytes())
    }

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
        assert_eq!(decode_blocks(&encode_blocks(&[[9; 32]; 2])), Some(vec![[9; 32]; 2]));
        assert_eq!(decode_blocks(&encode_blocks(&[[9; 32]; ROW_BLOCKS + 1])), None);
        assert!(encode_blocks(&[[0; 32]; ROW_BLOCKS]).len() <= ROW_BYTES_MAX);
        for bytes in [encode_ids(&ids), killed.encode(), encode_blocks(&[[9; 32]; 2])] {
            for bit in 0..bytes.len() * 8 {
                let mut bad = bytes.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert!(decode_ids(&bad).is_none() && Killed::decode(&bad).is_none());
                assert!(decode_blocks(&bad).is_none());
            }
        }
        let bucket = BUCKET;
        assert!(is_summary(&summary_key(bucket)) && !is_summary(&list_key(bucket, 9)));
        let keys = [list_key(bucket, 9), blocks_key(bucket, 9), summary_key(bucket)];
        assert_eq!(keys.map(|key| is_of_ids(&key)), [true, false, false]);
        assert!(!is_summary(&blocks_key(bucket, 9)));
        assert!(list_key(bucket, 9).starts_with(&prefix(bucket)));
        assert!(list_key(bucket, 9).starts_with(&tenant_prefix(bucket.0)));
        assert_eq!(bucket_in(&list_key(bucket, 9)), Some(bucket.1));
    }

    #[test]
    fn what_is_summed_up_by_blocks_is_the_root_over_all() {
        let key = SaltKey::copied(&[1; 32]);
        let leaves = Leaves { vault: VaultId([1; 16]), bucket: BUCKET, key: &key };
        for size in [0, 1, 2, 255, 256, 257, 511, 512, 513, 1_000, 1_024] {
            let ids: Vec<RecordId> = (0..size).map(id).collect();
            let (root, blocks) = leaves.sum_up(&ids);
            let hashes = leaves.hashes(&ids);
            assert_eq!(root, root_of(&hashes), "{size}");
            let whole = hashes.chunks_exact(256).map(root_of);
            assert!(whole.eq(blocks.iter().copied()), "{size}");
        }
    }

    #[test]
    fn a_root_is_of_one_vault_bucket_key_and_list() {
        let (key, other) = (SaltKey::copied(&[1; 32]), SaltKey::copied(&[2; 32]));
        let of = |vault, bucket, key, ids: &[u8]| {
            let bucket = (TenantOrd::of(1), BucketOrd::of(bucket));
            let ids: Vec<RecordId> = ids.iter().map(|n| RecordId([*n; 16])).collect();
            Leaves { vault: VaultId([vault; 16]), bucket, key }.sum_up(&ids).0
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

//! The proof that a record went with its bucket, from the bucket's list.
//!
//! What it takes depends on a block of the list and hardly on its length: hashes of the other blocks were kept when the
//! list was made. Where they were not, or are damaged, they are made anew from the whole list.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::document::{Membership, path_text};
use crate::crypto::Digest32;
use crate::crypto::merkle::tile::{TILE_WIDTH, node_from_tiles, root_of};
use crate::crypto::merkle::{inclusion, verify_inclusion};
use crate::id::RecordId;
use crate::keys::slots::BucketId;
use crate::vault::core::Core;
use crate::vault::error::VaultError;
use crate::vault::retention::manifest::{
    Killed, Leaves, ROW_BLOCKS, ROW_IDS, blocks_key, decode_blocks, decode_ids, list_key,
};

const DAMAGED: VaultError = VaultError::Damaged("bucket's list");

/// A list, and what its leaves are made with.
struct List<'a> {
    core: &'a Core,
    leaves: Leaves<'a>,
    size: u64,
}

impl List<'_> {
    fn row(&self, number: u64) -> Result<Vec<RecordId>, VaultError> {
        let number = u32::try_from(number).map_err(|_| DAMAGED)?;
        let row = self.core.tree.store().get(&list_key(self.leaves.bucket, number))?;
        row.as_deref().and_then(decode_ids).ok_or(DAMAGED)
    }

    /// Where a record is on the list, whose ids ascend.
    fn place_of(&self, record: RecordId) -> Result<u64, VaultError> {
        let (mut low, mut high) = (0, self.size.div_ceil(ROW_IDS as u64));
        while low < high {
            let middle = low + (high - low) / 2;
            let row = self.row(middle)?;
            match (row.first(), row.last()) {
                (Some(first), _) if record < *first => high = middle,
                (_, Some(last)) if *last < record => low = middle + 1,
                _ => {
                    let at = row.binary_search(&record).map_err(|_| DAMAGED)?;
                    let place = middle * ROW_IDS as u64 + at as u64;
                    return Some(place).filter(|at| *at < self.size).ok_or(DAMAGED);
                }
            }
        }
        Err(DAMAGED)
    }

    fn ids(&self, first: u64, count: u64) -> Result<Vec<RecordId>, VaultError> {
        let (width, end) = (ROW_IDS as u64, first.saturating_add(count).min(self.size));
        let mut ids = Vec::new();
        for row in first / width..end.div_ceil(width) {
            let all = (row * width..).zip(self.row(row)?);
            ids.extend(all.filter(|(at, _)| (first..end).contains(at)).map(|(_, id)| id));
        }
        Ok(ids)
    }

    /// The hashes of full blocks that were kept; `None` if not all of them are there.
    fn kept_blocks(&self) -> Result<Option<Vec<Digest32>>, VaultError> {
        let (blocks, mut kept) = (self.size / TILE_WIDTH, Vec::new());
        for row in 0..blocks.div_ceil(ROW_BLOCKS as u64) {
            let number = u32::try_from(row).map_err(|_| DAMAGED)?;
            let row = self.core.tree.store().get(&blocks_key(self.leaves.bucket, number))?;
            let Some(hashes) = row.as_deref().and_then(decode_blocks) else { return Ok(None) };
            kept.extend(hashes);
        }
        Ok(Some(kept).filter(|kept| kept.len() as u64 == blocks))
    }

    fn path(&self, index: u64, blocks: &[Digest32]) -> Result<Vec<Digest32>, VaultError> {
        let mut hashes = |level, first: u64, count: u64| match level {
            0 => Ok(self.leaves.hashes(&self.ids(first, count)?)),
            _ => (first..first.saturating_add(count))
                .map(|at| above(blocks, level, at).ok_or(DAMAGED))
                .collect(),
        };
        let mut node = |node| node_from_tiles(node, &mut hashes);
        inclusion(index, self.size, &mut node)?.ok_or(DAMAGED)
    }
}

/// A hash of a level of tiles above the leaves.
fn above(blocks: &[Digest32], level: u8, at: u64) -> Option<Digest32> {
    if level == 1 {
        return blocks.get(usize::try_from(at).ok()?).copied();
    }
    let below = (at.checked_mul(TILE_WIDTH)?..).take(TILE_WIDTH as usize);
    let below: Option<Vec<_>> = below.map(|at| above(blocks, level - 1, at)).collect();
    Some(root_of(&below?))
}

impl Core {
    /// The proof that a record is on its bucket's list.
    pub(super) fn member(
        &self,
        bucket: BucketId,
        killed: &Killed,
        record: RecordId,
    ) -> Result<Membership, VaultError> {
        let key = self.tree.read().salt_key()?;
        let leaves = Leaves { vault: self.vault(), bucket, key: &key };
        let list = List { core: self, leaves, size: u64::from(killed.count) };
        let index = list.place_of(record)?;
        let hash = list.leaves.hashes(&[record]).pop().ok_or(DAMAGED)?;
        let head = (list.size, killed.root);
        let fits = |path: &Vec<Digest32>| verify_inclusion(hash, index, head, path).is_ok();
        let by = |blocks: &[Digest32]| list.path(index, blocks).map(|path| Some(path).filter(fits));
        let quick = list.kept_blocks()?.map(|blocks| by(&blocks)).transpose()?.flatten();
        let path = match quick {
            Some(path) => path,
            None => by(&list.leaves.sum_up(&self.listed(bucket)?).1)?.ok_or(DAMAGED)?,
        };
        let salt = STANDARD.encode(list.leaves.salt(record));
        Ok(Membership { index, salt, path: path_text(&path) })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::class::ErasureReason;
    use crate::clock::UnixMillis;
    use crate::id::{BucketOrd, Day, Gen, TenantOrd, TypeOrd};
    use crate::store::{Batch, Memory};
    use crate::vault::retention::manifest::encode_blocks;
    use crate::vault::testing::vault_on;

    const BUCKET: BucketId = (TenantOrd::of(1), BucketOrd::of(2));

    fn id(n: u64) -> RecordId {
        RecordId((u128::from(n) << 64 | 7).to_be_bytes())
    }

    fn killed(count: u32, root: Digest32) -> Killed {
        Killed {
            rtype: TypeOrd(1),
            expires: Day(1),
            reason: ErasureReason::Retention,
            requested: UnixMillis(1),
            generation: Gen(2),
            leaf_seq: 3,
            count,
            root,
            leaf: [4; 32],
        }
    }

    #[test]
    fn each_record_of_a_list_has_its_proof_whatever_was_kept_of_its_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let vault = vault_on(dir.path(), Arc::new(Memory::new()));
        let core = &*vault.core;
        let key = core.tree.read().salt_key().unwrap();
        let leaves = Leaves { vault: core.vault(), bucket: BUCKET, key: &key };
        for size in [1, 255, 256, 257, 500, 501, 512, 1_001, 33_000, 66_000_u64] {
            let ids: Vec<RecordId> = (0..size).map(|n| id(n * 2)).collect();
            let list = core.write_list(BUCKET, &ids).unwrap();
            let killed = killed(list.count, list.root);
            let at = [0, 1, 255, 256, 499, 500, 511, 512, size / 2, size - 1];
            let check = |what: &str| {
                for index in at.into_iter().filter(|at| *at < size) {
                    let member = core.member(BUCKET, &killed, id(index * 2)).unwrap();
                    let path: Vec<Digest32> = member
                        .path
                        .iter()
                        .map(|text| STANDARD.decode(text).unwrap().try_into().unwrap())
                        .collect();
                    let hash = leaves.hashes(&[id(index * 2)])[0];
                    assert_eq!(member.index, index, "{what}: of {size}");
                    let proved = verify_inclusion(hash, index, (size, list.root), &path);
                    assert_eq!(proved, Ok(()), "{what}: {index} of {size}");
                }
                for other in [id(1), id(size * 2), id((size - 1) | 1)] {
                    let none = core.member(BUCKET, &killed, other);
                    assert!(matches!(none, Err(VaultError::Damaged("bucket's list"))));
                }
            };
            check("as it was made");
            let row = blocks_key(BUCKET, 0);
            for (what, value) in [
                ("damaged", Some(vec![0; 9])),
                ("wrong", Some(encode_blocks(&[[9; 32]; ROW_BLOCKS]))),
                ("gone", None),
            ] {
                let mut batch = Batch::default();
                batch.writes.push((row.clone(), value));
                core.tree.store().commit_blocking(batch).unwrap();
                check(what);
            }
            // Another root is not led to.
            let other = Killed { root: [5; 32], ..killed };
            assert!(core.member(BUCKET, &other, id(0)).is_err());
        }
        vault.close().unwrap();
    }

    /// What it takes must not grow with the list: a row of ids that has nothing to do with the record is not read.
    #[test]
    fn a_proof_looks_at_the_block_of_its_record_only() {
        let dir = tempfile::tempdir().unwrap();
        let vault = vault_on(dir.path(), Arc::new(Memory::new()));
        let core = &*vault.core;
        let ids: Vec<RecordId> = (0..9_000).map(id).collect();
        let list = core.write_list(BUCKET, &ids).unwrap();
        let killed = killed(list.count, list.root);
        let mut batch = Batch::default();
        batch.put(list_key(BUCKET, 1), vec![0; 9]);
        core.tree.store().commit_blocking(batch).unwrap();
        core.member(BUCKET, &killed, id(8_000)).unwrap();
        assert!(core.member(BUCKET, &killed, id(700)).is_err(), "control");
        vault.close().unwrap();
    }
}

//! What stays of the entries that were pruned: of each block of 256 its hash, and how many blocks there are; and how
//! long the log was on each day (docs/FORMAT.md §9.7).
//!
//! Invariant: the hash of a block, not those of its entries. Much of an entry can be guessed, so its hash alone would
//! let somebody confirm a guess; 256 of them together let nobody.

use super::book::{first_in, row_key};
use crate::crypto::Digest32;
use crate::crypto::merkle::Frontier;
use crate::crypto::merkle::tile::{TILE_HEIGHT, TILE_WIDTH};
use crate::id::Day;
use crate::store::sum::{checked, with_sum};
use crate::store::{Row, StoreError, Write};

/// Key of the row that says how many blocks were pruned.
pub const PRUNED_KEY: &[u8] = b"z";
/// Hashes of a row.
const ROW_HASHES: u64 = 128;
const COUNT_MAGIC: &[u8; 4] = b"LTZ1";
const HASHES_MAGIC: &[u8; 4] = b"LTZ2";
const DAY_MAGIC: &[u8; 4] = b"LTZ3";
/// Flips the sign, so that the order of keys is that of days.
const SIGN: u8 = 0x80;

/// Rows from one key on, before another, as many as asked for.
pub type Scan<'a> = &'a dyn Fn(&[u8], &[u8], usize) -> Result<Vec<Row>, StoreError>;

/// Number of the row with a block's hash, and the hash's place in it.
fn place_of(block: u64) -> (u64, usize) {
    (block / ROW_HASHES, (block % ROW_HASHES) as usize)
}

fn hashes_key(row: u64) -> Vec<u8> {
    [b"z".as_slice(), &row.to_be_bytes()].concat()
}

/// Key of the row that has the hash of a block.
pub fn key_of(block: u64) -> Vec<u8> {
    hashes_key(place_of(block).0)
}

fn hashes_in(value: &[u8]) -> Option<Vec<Digest32>> {
    let (hashes, rest) = checked(value)?.strip_prefix(HASHES_MAGIC.as_slice())?.as_chunks::<32>();
    (rest.is_empty() && hashes.len() as u64 <= ROW_HASHES).then(|| hashes.to_vec())
}

/// The hash of a block in its row.
pub fn hash_in(value: &[u8], block: u64) -> Option<Digest32> {
    hashes_in(value)?.get(place_of(block).1).copied()
}

/// The rows after `hashes` of the blocks from `first` on came to the others; `row` gives what there is by its key.
/// `None` if a row that is to be gone on with is missing or damaged.
pub fn add<E>(
    first: u64,
    hashes: &[Digest32],
    row: impl FnOnce(&[u8]) -> Result<Option<Vec<u8>>, E>,
) -> Result<Option<Vec<Write>>, E> {
    let (mut number, begun) = place_of(first);
    let mut all = match begun {
        0 => Vec::new(),
        _ => row(&hashes_key(number))?.as_deref().and_then(hashes_in).unwrap_or_default(),
    };
    if all.len() != begun {
        return Ok(None);
    }
    all.extend_from_slice(hashes);
    let mut rows = Vec::new();
    for hashes in all.chunks(ROW_HASHES as usize) {
        let value = [HASHES_MAGIC.as_slice(), hashes.as_flattened()].concat();
        rows.push((hashes_key(number), Some(with_sum(value))));
        number += 1;
    }
    let count = first + hashes.len() as u64;
    let value = [COUNT_MAGIC.as_slice(), &count.to_be_bytes()].concat();
    rows.push((PRUNED_KEY.to_vec(), Some(with_sum(value))));
    Ok(Some(rows))
}

/// How many blocks were pruned. Where the row that says so is damaged, the entries that are there tell.
pub fn blocks(scan: Scan<'_>) -> Result<u64, StoreError> {
    let found = scan(PRUNED_KEY, &hashes_key(0), 1)?;
    let Some(row) = found.first() else { return Ok(0) };
    let count = checked(&row.value).and_then(|v| v.strip_prefix(COUNT_MAGIC.as_slice()));
    if let Some(count) = count.and_then(|count| count.try_into().ok()) {
        return Ok(u64::from_be_bytes(count));
    }
    let first = scan(&row_key(0), b"b", 1)?.first().and_then(|row| first_in(&row.key));
    Ok(first.unwrap_or(0) / TILE_WIDTH)
}

/// The tree over the entries that were pruned; `None` if not all of their blocks' hashes are there.
pub fn frontier(scan: Scan<'_>) -> Result<Option<Frontier>, StoreError> {
    let (mut tree, blocks) = (Frontier::default(), blocks(scan)?);
    for number in 0..blocks.div_ceil(ROW_HASHES) {
        let key = hashes_key(number);
        let rows = scan(&key, &hashes_key(number + 1), 1)?;
        let row = rows.first().filter(|row| row.key == key);
        let Some(hashes) = row.and_then(|row| hashes_in(&row.value)) else { return Ok(None) };
        let wanted = (blocks - number * ROW_HASHES).min(ROW_HASHES);
        if hashes.len() as u64 != wanted {
            return Ok(None);
        }
        if !hashes.into_iter().all(|hash| tree.push_tree(TILE_HEIGHT, hash)) {
            return Ok(None);
        }
    }
    Ok(Some(tree))
}

/// Key of the row that says how long the log was on a day.
pub fn day_key(day: Day) -> Vec<u8> {
    let [first, rest @ ..] = day.0.to_be_bytes();
    [&[b'j', first ^ SIGN], rest.as_slice()].concat()
}

pub fn day_row(entries: u64) -> Vec<u8> {
    with_sum([DAY_MAGIC.as_slice(), &entries.to_be_bytes()].concat())
}

/// The day of a row, and how many entries the log had then; `None` if the row is damaged.
pub fn day_in(row: &Row) -> Option<(Day, u64)> {
    let [first, rest @ ..]: [u8; 4] = row.key.strip_prefix(b"j")?.try_into().ok()?;
    let [a, b, c] = rest;
    let entries = checked(&row.value)?.strip_prefix(DAY_MAGIC.as_slice())?.try_into().ok()?;
    Some((Day(i32::from_be_bytes([first ^ SIGN, a, b, c])), u64::from_be_bytes(entries)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::crypto::merkle::leaf_hash;
    use crate::crypto::merkle::tile::root_of;

    type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

    fn scan(rows: &Rows) -> impl Fn(&[u8], &[u8], usize) -> Result<Vec<Row>, StoreError> {
        move |from, to, most| {
            let found = rows.range(from.to_vec()..to.to_vec()).take(most);
            Ok(found.map(|(k, v)| Row { key: k.clone(), value: v.clone() }).collect())
        }
    }

    fn values(writes: Vec<Write>) -> Rows {
        writes.into_iter().map(|(key, value)| (key, value.unwrap())).collect()
    }

    fn leaves(block: u64) -> Vec<Digest32> {
        (block * 256..(block + 1) * 256).map(|n| leaf_hash(&n.to_be_bytes())).collect()
    }

    #[test]
    fn blocks_are_added_at_will_and_stand_for_their_entries() {
        let (mut rows, mut plain, mut done) = (Rows::new(), Frontier::default(), 0);
        for more in [0, 1, 2, 124, 1, 1, 128, 0, 129] {
            let hashes: Vec<_> = (done..done + more).map(|block| root_of(&leaves(block))).collect();
            let get = |key: &[u8]| Ok::<_, StoreError>(rows.get(key).cloned());
            let fresh = values(add(done, &hashes, get).unwrap().unwrap());
            assert!(fresh.values().all(|value| value.len() <= crate::limits::ROW_BYTES_MAX));
            rows.extend(fresh);
            (done..done + more).flat_map(leaves).for_each(|leaf| plain.push(leaf));
            done += more;
            assert_eq!(blocks(&scan(&rows)).unwrap(), done);
            assert_eq!(frontier(&scan(&rows)).unwrap().as_ref(), Some(&plain));
        }
        for block in [0, 1, 127, 128, 385] {
            let row = rows.get(&key_of(block)).unwrap();
            assert_eq!(hash_in(row, block), Some(root_of(&leaves(block))), "{block}");
        }
        assert_eq!(hash_in(&rows[&key_of(385)], 386), None);
    }

    #[test]
    fn what_is_damaged_is_not_gone_on_with_and_has_no_tree() {
        let mut rows = Rows::new();
        let hashes = [[7; 32]; 130];
        rows.extend(values(add(0, &hashes, |_| Ok::<_, StoreError>(None)).unwrap().unwrap()));
        rows.insert(row_key(130 * 256), Vec::new());
        for key in rows.keys().cloned().collect::<Vec<_>>() {
            let mut bad = rows.clone();
            let Some(last) = bad.get_mut(&key).and_then(|v| v.last_mut()) else { continue };
            *last ^= 1;
            let found = blocks(&scan(&bad)).unwrap();
            assert_eq!(found, 130, "what is there tells");
            let whole = key == PRUNED_KEY;
            assert_eq!(frontier(&scan(&bad)).unwrap().is_some(), whole, "{key:?}");
            let more = add(130, &[[1; 32]], |key| Ok::<_, StoreError>(bad.get(key).cloned()));
            assert_eq!(more.unwrap().is_some(), key != key_of(129), "{key:?}");
        }
        assert_eq!(blocks(&scan(&Rows::new())).unwrap(), 0);
    }

    #[test]
    fn days_are_in_order() {
        let days = [-400, -1, 0, 1, 20_000, 2_932_896].map(Day);
        let rows = days.map(|day| Row { key: day_key(day), value: day_row(9) });
        assert!(rows.is_sorted_by(|a, b| a.key < b.key));
        assert_eq!(rows.each_ref().map(day_in), days.map(|day| Some((day, 9))));
        let [row, ..] = rows;
        for bit in 0..row.value.len() * 8 {
            let mut bad = row.clone();
            bad.value[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(day_in(&bad), None);
        }
    }
}

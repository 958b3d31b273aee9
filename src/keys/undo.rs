//! What a batch leaves to do or to undo (docs/FORMAT.md §3.6), written with it, so that recovery need not search.

use crate::id::{BucketOrd, Gen, TenantOrd};
use crate::limits::ROW_BYTES_MAX;

use super::slots::BucketId;
use crate::store::sum::{checked, with_sum};

const MAGIC: &[u8; 4] = b"LTB1";

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chore {
    /// Delete the row once the generation is committed.
    After(Vec<u8>),
    /// Delete the row if the generation never was.
    Undo(Vec<u8>),
    /// Collect what a killed bucket left.
    Collect(BucketId),
}

impl Chore {
    fn encode(&self, out: &mut Vec<u8>) {
        let (op, key) = match self {
            Chore::After(key) => (1, key.clone()),
            Chore::Undo(key) => (2, key.clone()),
            Chore::Collect((t, b)) => (3, [t.bytes(), b.bytes()].concat()),
        };
        out.push(op);
        out.push(key.len() as u8);
        out.extend_from_slice(&key);
    }

    fn decode(op: u8, key: &[u8]) -> Option<Self> {
        match (op, key) {
            (1, _) => Some(Chore::After(key.to_vec())),
            (2, _) => Some(Chore::Undo(key.to_vec())),
            (3, &[a, b, c, d, e, f]) => {
                let tenant = TenantOrd::from_bytes([a, b, c]);
                Some(Chore::Collect((tenant, BucketOrd::from_bytes([d, e, f]))))
            }
            _ => None,
        }
    }
}

fn row_key(generation: Gen, part: u16) -> Vec<u8> {
    [b"b".as_slice(), &generation.0.to_be_bytes(), &part.to_be_bytes()].concat()
}

/// The generation that a row's key names.
pub fn generation_of(key: &[u8]) -> Option<Gen> {
    key.get(1..9)?.try_into().ok().map(|b| Gen(u64::from_be_bytes(b)))
}

/// Whether a row's value is that of this generation's key.
pub fn is_of(value: &[u8], generation: Gen) -> bool {
    value.strip_prefix(MAGIC.as_slice()).is_some_and(|v| v.starts_with(&generation.0.to_be_bytes()))
}

/// The rows that hold these chores.
pub fn encode(generation: Gen, chores: &[Chore]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    let mut body = Vec::new();
    let mut count = 0u16;
    let mut close = |body: &mut Vec<u8>, count: &mut u16| {
        let part = u16::try_from(rows.len()).unwrap_or(u16::MAX);
        let named = generation.0.to_be_bytes();
        let value = [MAGIC.as_slice(), &named, &count.to_be_bytes(), body].concat();
        rows.push((row_key(generation, part), with_sum(value)));
        body.clear();
        *count = 0;
    };
    for chore in chores {
        if body.len() + 300 > ROW_BYTES_MAX {
            close(&mut body, &mut count);
        }
        chore.encode(&mut body);
        count += 1;
    }
    if count > 0 {
        close(&mut body, &mut count);
    }
    rows
}

/// The chores in a row. None of a damaged one: a changed key would name a row of the living.
pub fn decode(value: &[u8]) -> Vec<Chore> {
    let row = checked(value).and_then(|row| row.strip_prefix(MAGIC.as_slice()));
    let Some(rest) = row else { return Vec::new() };
    let mut rest = rest.get(10..).unwrap_or_default();
    let mut chores = Vec::new();
    while let [op, length, tail @ ..] = rest {
        let Some((key, tail)) = tail.split_at_checked(usize::from(*length)) else { break };
        chores.extend(Chore::decode(*op, key));
        rest = tail;
    }
    chores
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chores_survive_their_rows_and_rows_stay_small() {
        let mut chores: Vec<Chore> = (0..2000u32)
            .map(|n| {
                let key = [b"k".as_slice(), &n.to_be_bytes(), &[0; 18]].concat();
                if n % 2 == 0 { Chore::After(key) } else { Chore::Undo(key) }
            })
            .collect();
        chores.push(Chore::Collect((TenantOrd::of(3), BucketOrd::of(4))));
        let rows = encode(Gen(7), &chores);
        assert!(rows.len() > 4 && rows.iter().all(|(_, v)| v.len() <= ROW_BYTES_MAX));
        assert!(rows.iter().all(|(k, v)| generation_of(k) == Some(Gen(7)) && is_of(v, Gen(7))));
        assert!(rows.iter().all(|(_, v)| !is_of(v, Gen(8))));
        let back: Vec<Chore> = rows.iter().flat_map(|(_, v)| decode(v)).collect();
        assert_eq!(back, chores);
        assert!(decode(b"LTB1\0\x01\x01").is_empty() && decode(b"x").is_empty());
        let (_, row) = &rows[0];
        for at in 0..row.len() {
            let mut bad = row.clone();
            bad[at] ^= 1;
            assert!(decode(&bad).is_empty(), "a changed key must never be deleted");
            // Whatever is behind a sum that fits, it is read without a panic.
            drop(decode(&with_sum(row[..at].to_vec())));
        }
    }
}

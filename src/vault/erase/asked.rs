//! Who asked for what the ledger's leaves are about (docs/FORMAT.md §3.11).
//!
//! Invariants: a row names a caller, that is a workload, by its hash, and no place in the audit log: that would tie the
//! log's pseudonyms, which die with a record, to the record's id, which does not. It commits with the leaves that it is
//! about; there is none for what the vault did of itself.

use crate::audit::{Act, Entry};
use crate::id::Gen;
use crate::keys::rows::prefix_end;
use crate::store::Row;
use crate::store::sum::with_sum;
use crate::vault::core::Core;
use crate::vault::error::VaultError;
use crate::vault::rows::Fields;

/// Of a batch that is being made: whose the leaves from one place to another are.
#[derive(Clone, Copy)]
pub(super) struct Asking {
    first: usize,
    last: usize,
    act: Act,
    principal: [u8; 16],
}

impl Asking {
    /// `None` if the vault itself wants it, or nothing.
    pub fn of(entry: &Entry, first: usize, count: usize) -> Option<Self> {
        let last = (first + count).checked_sub(1)?;
        let asks = count > 0 && entry.principal != [0; 16];
        asks.then_some(Self { first, last, act: entry.act, principal: entry.principal })
    }

    /// The row, once it is known where in the ledger the batch begins.
    pub fn row(&self, ledger: u64, generation: Gen) -> (Vec<u8>, Vec<u8>) {
        let (first, last) = (ledger + self.first as u64, ledger + self.last as u64);
        let Self { act, principal, .. } = *self;
        Asked { first, last, generation, act, principal }.row()
    }
}

/// Who asked for the leaves from `first` to `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    pub first: u64,
    pub last: u64,
    pub generation: Gen,
    pub act: Act,
    /// What stands for the caller.
    pub principal: [u8; 16],
}

impl Asked {
    pub const PREFIX: &[u8] = b"e";

    fn key(last: u64) -> Vec<u8> {
        [Self::PREFIX, &last.to_be_bytes()].concat()
    }

    fn row(&self) -> (Vec<u8>, Vec<u8>) {
        let mut out = b"LTD1".to_vec();
        out.extend_from_slice(&self.first.to_be_bytes());
        out.extend_from_slice(&self.last.to_be_bytes());
        out.extend_from_slice(&self.generation.0.to_be_bytes());
        out.extend_from_slice(&(self.act as u16).to_be_bytes());
        out.extend_from_slice(&self.principal);
        (Self::key(self.last), with_sum(out))
    }

    /// `None` if it is damaged, or stands in another's place.
    pub fn decode(row: &Row) -> Option<Self> {
        let mut at = Fields::after(&row.value, b"LTD1")?;
        let found = Self {
            first: u64::from_be_bytes(at.take()?),
            last: u64::from_be_bytes(at.take()?),
            generation: Gen(u64::from_be_bytes(at.take()?)),
            act: Act::from_number(u16::from_be_bytes(at.take()?))?,
            principal: at.take()?,
        };
        at.end(found).filter(|asked| row.key == Self::key(asked.last))
    }
}

impl Core {
    /// Who asked for a leaf; `None` if nobody did, or if the row does not say it any more.
    pub(in crate::vault) fn asked_for(
        &self,
        leaf: u64,
        generation: Gen,
    ) -> Result<Option<Asked>, VaultError> {
        let end = prefix_end(Asked::PREFIX);
        let rows = self.tree.store().scan(&Asked::key(leaf), &end, 1)?;
        let asked = rows.first().and_then(Asked::decode);
        Ok(asked.filter(|a| a.generation == generation && (a.first..=a.last).contains(&leaf)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Kind;
    use crate::clock::UnixMillis;

    #[test]
    fn a_row_names_its_leaves_and_counts_in_its_own_place_only() {
        let entry = Entry::new(Kind::Call, Act::EraseRecord, UnixMillis(1));
        assert!(Asking::of(&entry, 1, 3).is_none(), "the vault itself");
        let entry = Entry { principal: [7; 16], ..entry };
        assert!(Asking::of(&entry, 1, 0).is_none() && Asking::of(&entry, 0, 0).is_none());
        let (key, value) = Asking::of(&entry, 1, 3).unwrap().row(100, Gen(9));
        assert_eq!(key, [b"e".as_slice(), &103u64.to_be_bytes()].concat());
        let asked = Asked::decode(&Row { key: key.clone(), value: value.clone() }).unwrap();
        assert_eq!((asked.first, asked.last, asked.generation), (101, 103, Gen(9)));
        assert_eq!((asked.act, asked.principal), (Act::EraseRecord, [7; 16]));
        let moved = Row { key: Asked::key(104), value: value.clone() };
        assert!(Asked::decode(&moved).is_none());
        for bit in 0..value.len() * 8 {
            let mut bad = value.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Asked::decode(&Row { key: key.clone(), value: bad }).is_none());
        }
    }
}

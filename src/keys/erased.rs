//! The proof that an erasure batch is complete.

use crate::class::{ErasureLevel, Medium};
use crate::clock::UnixMillis;
use crate::id::Gen;
use crate::store::sum::{checked, with_sum};

/// Proof that a batch is complete: only a completed batch makes one.
#[derive(Clone, Copy, Debug)]
pub struct Erased {
    generation: Gen,
    level: ErasureLevel,
    medium: Medium,
    scrubbed: UnixMillis,
}

impl Erased {
    pub(super) fn completed(generation: Gen, medium: Medium, scrubbed: UnixMillis) -> Self {
        let level = match medium {
            Medium::InPlaceFile => ErasureLevel::LocalAnchor,
            Medium::MayKeepOldBlocks => ErasureLevel::Tombstoned,
        };
        Self { generation, level, medium, scrubbed }
    }

    pub fn generation(&self) -> Gen {
        self.generation
    }

    pub fn level(&self) -> ErasureLevel {
        self.level
    }

    pub fn medium(&self) -> Medium {
        self.medium
    }

    pub fn scrubbed(&self) -> UnixMillis {
        self.scrubbed
    }

    /// The row that keeps this (docs/FORMAT.md §3.5).
    pub fn row(&self) -> (Vec<u8>, Vec<u8>) {
        let generation = self.generation.0.to_be_bytes();
        let head = [b"LTG1".as_slice(), &generation, &[self.level as u8, self.medium as u8]];
        let value = [head.concat().as_slice(), &self.scrubbed.0.to_be_bytes()].concat();
        ([b"g".as_slice(), &generation].concat(), with_sum(value))
    }

    /// Reads such a row back.
    pub fn from_row(value: &[u8]) -> Option<Self> {
        let rest = checked(value)?.strip_prefix(b"LTG1")?;
        let (generation, rest) = rest.split_first_chunk()?;
        let ([level, medium], rest) = rest.split_first_chunk::<2>()?;
        let medium = [Medium::InPlaceFile, Medium::MayKeepOldBlocks]
            .into_iter()
            .find(|m| *m as u8 == *medium)?;
        Some(Self {
            generation: Gen(u64::from_be_bytes(*generation)),
            level: ErasureLevel::from_number(*level)?,
            medium,
            scrubbed: UnixMillis(i64::from_be_bytes(*rest.first_chunk()?)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_medium_that_keeps_old_blocks_claims_no_more_than_e0() {
        let weak = Erased::completed(Gen(1), Medium::MayKeepOldBlocks, UnixMillis(2));
        assert_eq!(weak.level(), ErasureLevel::Tombstoned);
        let strong = Erased::completed(Gen(1), Medium::InPlaceFile, UnixMillis(2));
        assert_eq!(strong.level(), ErasureLevel::LocalAnchor);
        let (_, value) = strong.row();
        let back = Erased::from_row(&value).unwrap();
        assert_eq!(
            (back.generation(), back.level(), back.scrubbed()),
            (Gen(1), strong.level(), UnixMillis(2))
        );
        assert!(Erased::from_row(&value[..value.len() - 1]).is_none());
    }
}

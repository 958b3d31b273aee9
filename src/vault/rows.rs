//! The vault's small rows (docs/FORMAT.md §3.2 to §3.4): pointers, erasure intents, tombstones.

use crate::class::ErasureReason;
use crate::clock::UnixMillis;
use crate::crypto::Digest32;
use crate::id::{BucketOrd, Day, Gen, Kid, RecVer, RecordId, TenantOrd, TypeOrd, joined};
use crate::store::sum::{checked, with_sum};

/// Where a record's current version is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pointer {
    pub kid: Kid,
    pub rec_ver: RecVer,
    pub rtype: TypeOrd,
}

/// Reads fixed-size fields off the front of a row.
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub fn after(value: &'a [u8], magic: &[u8; 4]) -> Option<Self> {
        checked(value)?.strip_prefix(magic.as_slice()).map(Self)
    }

    pub fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    pub fn end<T>(self, whole: T) -> Option<T> {
        self.0.is_empty().then_some(whole)
    }
}

fn tenant_key(kind: u8, tenant: TenantOrd, record: RecordId) -> [u8; 20] {
    joined(&[&[kind], &tenant.bytes(), &record.0])
}

/// The record that a pointer's or tombstone's key names.
pub fn record_in(key: &[u8]) -> Option<RecordId> {
    key.get(4..)?.try_into().ok().map(RecordId)
}

impl Pointer {
    pub fn key(tenant: TenantOrd, record: RecordId) -> [u8; 20] {
        tenant_key(b'u', tenant, record)
    }

    /// First bytes of every pointer of a tenant.
    pub fn prefix(tenant: TenantOrd) -> Vec<u8> {
        [b"u".as_slice(), &tenant.bytes()].concat()
    }

    pub fn encode(&self) -> Vec<u8> {
        let head = [b"LTU1".as_slice(), &self.kid.bytes(), &self.rec_ver.0.to_be_bytes()].concat();
        with_sum([head.as_slice(), &self.rtype.0.to_be_bytes()].concat())
    }

    pub fn decode(value: &[u8]) -> Option<Self> {
        let mut at = Fields::after(value, b"LTU1")?;
        let found = Self {
            kid: Kid::from_bytes(at.take()?),
            rec_ver: RecVer(u64::from_be_bytes(at.take()?)),
            rtype: TypeOrd(u16::from_be_bytes(at.take()?)),
        };
        at.end(found)
    }
}

/// A superseded version that waits for its erasure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intent {
    pub kid: Kid,
    pub record: RecordId,
    pub rec_ver: RecVer,
    pub rtype: TypeOrd,
    pub reason: ErasureReason,
    pub requested: UnixMillis,
}

impl Intent {
    pub fn key(&self) -> Vec<u8> {
        [b"q".as_slice(), &self.kid.bytes()].concat()
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = b"LTQ1".to_vec();
        out.extend_from_slice(&self.kid.bytes());
        out.extend_from_slice(&self.record.0);
        out.extend_from_slice(&self.rec_ver.0.to_be_bytes());
        out.extend_from_slice(&self.rtype.0.to_be_bytes());
        out.push(self.reason as u8);
        out.extend_from_slice(&self.requested.0.to_be_bytes());
        with_sum(out)
    }

    pub fn decode(value: &[u8]) -> Option<Self> {
        let mut at = Fields::after(value, b"LTQ1")?;
        let found = Self {
            kid: Kid::from_bytes(at.take()?),
            record: RecordId(at.take()?),
            rec_ver: RecVer(u64::from_be_bytes(at.take()?)),
            rtype: TypeOrd(u16::from_be_bytes(at.take()?)),
            reason: ErasureReason::from_number(u8::from_be_bytes(at.take()?))?,
            requested: UnixMillis(i64::from_be_bytes(at.take()?)),
        };
        at.end(found)
    }
}

/// That a record was erased, and where the evidence is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tombstone {
    pub reason: ErasureReason,
    /// What it was: a subject's evidence is never given out as a record's.
    pub rtype: TypeOrd,
    pub generation: Gen,
    pub leaf_seq: u64,
    pub requested: UnixMillis,
    pub removed: UnixMillis,
    /// Hash of the ledger's leaf about it.
    pub leaf: Digest32,
}

/// State of a tombstone: the erasure is done (1, requested, is for asynchronous requests).
const ERASED: u8 = 2;

impl Tombstone {
    pub fn key(tenant: TenantOrd, record: RecordId) -> [u8; 20] {
        tenant_key(b't', tenant, record)
    }

    /// Of the last kill of a type's and day's buckets. No record's key is as short.
    pub fn bucket_key(tenant: TenantOrd, rtype: TypeOrd, expires: Day) -> Vec<u8> {
        let (rtype, day) = (rtype.0.to_be_bytes(), expires.0.to_be_bytes());
        [b"t".as_slice(), &tenant.bytes(), &rtype, &day].concat()
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = b"LTT1".to_vec();
        out.extend_from_slice(&[ERASED, self.reason as u8]);
        out.extend_from_slice(&self.rtype.0.to_be_bytes());
        out.extend_from_slice(&self.generation.0.to_be_bytes());
        out.extend_from_slice(&self.leaf_seq.to_be_bytes());
        out.extend_from_slice(&self.requested.0.to_be_bytes());
        out.extend_from_slice(&self.removed.0.to_be_bytes());
        out.extend_from_slice(&self.leaf);
        with_sum(out)
    }

    pub fn decode(value: &[u8]) -> Option<Self> {
        let mut at = Fields::after(value, b"LTT1")?;
        let [state, reason] = at.take()?;
        let found = Self {
            reason: ErasureReason::from_number(reason)?,
            rtype: TypeOrd(u16::from_be_bytes(at.take()?)),
            generation: Gen(u64::from_be_bytes(at.take()?)),
            leaf_seq: u64::from_be_bytes(at.take()?),
            requested: UnixMillis(i64::from_be_bytes(at.take()?)),
            removed: UnixMillis(i64::from_be_bytes(at.take()?)),
            leaf: at.take()?,
        };
        at.end(found).filter(|_| state == ERASED)
    }
}

/// That a record was erased with its bucket: the bucket's evidence is its.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WithBucket {
    pub bucket: BucketOrd,
    pub rtype: TypeOrd,
}

impl WithBucket {
    pub fn encode(&self) -> Vec<u8> {
        with_sum([b"LTT2".as_slice(), &self.bucket.bytes(), &self.rtype.0.to_be_bytes()].concat())
    }

    fn decode(value: &[u8]) -> Option<Self> {
        let mut at = Fields::after(value, b"LTT2")?;
        let [a, b, c] = at.take()?;
        let bucket = BucketOrd::new(u32::from_be_bytes([0, a, b, c]))?;
        let rtype = TypeOrd(u16::from_be_bytes(at.take()?));
        at.end(Self { bucket, rtype })
    }
}

/// What a record's `t` row says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Erased(Tombstone),
    WithBucket(WithBucket),
}

impl Fate {
    pub fn decode(value: &[u8]) -> Option<Self> {
        let own = Tombstone::decode(value).map(Self::Erased);
        own.or_else(|| WithBucket::decode(value).map(Self::WithBucket))
    }

    pub fn rtype(&self) -> TypeOrd {
        match self {
            Self::Erased(t) => t.rtype,
            Self::WithBucket(b) => b.rtype,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_rows_survive_their_bytes_and_no_other_length_does() {
        let kid = Kid::from_bytes([0, 0, 1, 0, 0, 2, 0, 0, 3, 4]);
        let pointer = Pointer { kid, rec_ver: RecVer(5), rtype: TypeOrd(6) };
        assert_eq!(Pointer::decode(&pointer.encode()), Some(pointer));
        let intent = Intent {
            kid,
            record: RecordId([9; 16]),
            rec_ver: RecVer(5),
            rtype: TypeOrd(6),
            reason: ErasureReason::Superseded,
            requested: UnixMillis(-7),
        };
        assert_eq!(Intent::decode(&intent.encode()), Some(intent));
        let tombstone = Tombstone {
            reason: ErasureReason::Contract,
            rtype: TypeOrd(6),
            generation: Gen(1),
            leaf_seq: 2,
            requested: UnixMillis(3),
            removed: UnixMillis(4),
            leaf: [5; 32],
        };
        assert_eq!(Fate::decode(&tombstone.encode()), Some(Fate::Erased(tombstone)));
        let gone = WithBucket { bucket: BucketOrd::of(7), rtype: TypeOrd(6) };
        assert_eq!(Fate::decode(&gone.encode()), Some(Fate::WithBucket(gone)));
        let mut requested = tombstone.encode();
        requested.truncate(requested.len() - 4);
        requested[4] = 1;
        assert_eq!(Tombstone::decode(&with_sum(requested)), None, "not erased yet");
        for bytes in [pointer.encode(), intent.encode(), tombstone.encode(), gone.encode()] {
            for len in 0..bytes.len() {
                let cut = &bytes[..len];
                assert!(Pointer::decode(cut).is_none() && Intent::decode(cut).is_none());
                assert!(Fate::decode(cut).is_none());
            }
        }
        assert_eq!(
            record_in(&Pointer::key(TenantOrd::of(1), RecordId([9; 16]))),
            Some(RecordId([9; 16]))
        );
    }
}

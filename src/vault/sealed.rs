//! Record versions as sealed rows (docs/FORMAT.md §5): one row, or chunks of at most `limits::CHUNK_BYTES`.
//!
//! Invariant: everything in a row's clear header is bound by its AAD; a row opens only as the version, record, tenant,
//! schema and chunk that it was sealed as.

use std::ops::Range;

use zeroize::Zeroizing;

use super::error::VaultError;
use super::fieldmap::{EncodedMap, FieldMap, chunks};
use crate::crypto::{
    Dek, NONCE_BYTES, SecretBytes, TAG_BYTES, hkdf32, labels, open_in_place, seal_append,
};
use crate::id::{Kid, RecVer, RecordId, TypeOrd, VaultId, joined};
use crate::store::{Store, StoreError};

const MAGIC: &[u8; 4] = b"LTR1";
const HEADER: usize = 52;
/// Where a header has the row's length; and its algorithm, chunk and whether that is the last.
const LENGTH: Range<usize> = 4..8;
const TAIL: Range<usize> = 48..HEADER;
const ALG_AES_256_GCM: u8 = 1;
const CHUNKS_MAX: u16 = 400;

/// What names a record version; in clear in each of its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    pub kid: Kid,
    pub record: RecordId,
    pub rec_ver: RecVer,
    pub rtype: TypeOrd,
    pub schema_rev: u32,
}

/// Key of a chunk's row.
pub fn row_key(kid: Kid, chunk: u16) -> [u8; 13] {
    joined(&[b"r", &kid.bytes(), &chunk.to_be_bytes()])
}

/// The kid and chunk in a row's key.
pub fn parse_key(key: &[u8]) -> Option<(Kid, u16)> {
    let (kid, chunk) = key.strip_prefix(b"r")?.split_first_chunk::<10>()?;
    Some((Kid::from_bytes(*kid), u16::from_be_bytes(*<&[u8; 2]>::try_from(chunk).ok()?)))
}

fn header(version: &Version, length: usize, chunk: u16, last: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(length);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&(length as u32).to_be_bytes());
    out.extend_from_slice(&version.kid.bytes());
    out.extend_from_slice(&version.record.0);
    out.extend_from_slice(&version.rec_ver.0.to_be_bytes());
    out.extend_from_slice(&version.rtype.0.to_be_bytes());
    out.extend_from_slice(&version.schema_rev.to_be_bytes());
    out.push(ALG_AES_256_GCM);
    out.extend_from_slice(&chunk.to_be_bytes());
    out.push(u8::from(last));
    out
}

/// The row of a version that was lost: its header, and nothing that opens. It keeps its slot named, so that the version
/// is known to be missing.
pub fn lost(version: &Version) -> SealedRow {
    let length = HEADER + NONCE_BYTES + TAG_BYTES;
    let mut row = header(version, length, 0, true);
    row.resize(length, 0);
    (row_key(version.kid, 0).to_vec(), row)
}

/// The version that a row's clear header names; not authenticated.
pub fn peek(value: &[u8]) -> Option<Version> {
    let rest = value.strip_prefix(MAGIC.as_slice())?.get(4..)?;
    let (kid, rest) = rest.split_first_chunk::<10>()?;
    let (record, rest) = rest.split_first_chunk::<16>()?;
    let (rec_ver, rest) = rest.split_first_chunk::<8>()?;
    let (rtype, rest) = rest.split_first_chunk::<2>()?;
    let schema_rev = rest.first_chunk::<4>()?;
    Some(Version {
        kid: Kid::from_bytes(*kid),
        record: RecordId(*record),
        rec_ver: RecVer(u64::from_be_bytes(*rec_ver)),
        rtype: TypeOrd(u16::from_be_bytes(*rtype)),
        schema_rev: u32::from_be_bytes(*schema_rev),
    })
}

/// The keys of a version's chunks: the record's own for the first, one derived from it for those after.
struct ChunkKeys<'a> {
    dek: &'a Dek,
    later: Option<Zeroizing<[u8; 32]>>,
}

impl<'a> ChunkKeys<'a> {
    fn of(dek: &'a Dek) -> Self {
        Self { dek, later: None }
    }

    fn at(&mut self, chunk: u16) -> &[u8; 32] {
        let own = self.dek.expose();
        if chunk == 0 {
            return own;
        }
        self.later.get_or_insert_with(|| {
            let mut key = Zeroizing::new([0; 32]);
            hkdf32(&[], own, labels::CHUNK, &mut key);
            key
        })
    }
}

/// Key and value.
pub type SealedRow = (Vec<u8>, Vec<u8>);

/// Seals a record version into its rows.
pub fn seal(
    vault: VaultId,
    version: &Version,
    dek: &Dek,
    fields: &FieldMap,
) -> Result<Vec<SealedRow>, VaultError> {
    let padded = fields.encode()?;
    let count = chunks(&padded).len();
    let (mut rows, mut keys) = (Vec::with_capacity(count), ChunkKeys::of(dek));
    for (n, part) in chunks(&padded).enumerate() {
        let chunk = u16::try_from(n).ok().filter(|c| *c < CHUNKS_MAX);
        let chunk = chunk.ok_or(VaultError::Exhausted("the record is too large"))?;
        let mut row =
            header(version, HEADER + NONCE_BYTES + part.len() + TAG_BYTES, chunk, n + 1 == count);
        let aad =
            labels::record_aad(vault, row.first_chunk().ok_or(VaultError::Damaged("record"))?);
        seal_append(keys.at(chunk), &aad, part, &mut row)
            .map_err(|_| VaultError::Damaged("record"))?;
        rows.push((row_key(version.kid, chunk).to_vec(), row));
    }
    Ok(rows)
}

/// A record version, opened, and how many rows it has.
pub struct OpenVersion {
    pub version: Version,
    pub fields: EncodedMap,
    pub rows: u16,
}

/// Opens the version at `kid`, which the caller found by name: `record` and `rec_ver` must agree.
pub fn open(
    store: &Store,
    vault: VaultId,
    kid: Kid,
    dek: &Dek,
    expected: Option<(RecordId, RecVer)>,
) -> Result<OpenVersion, VaultError> {
    open_rows(&mut |chunk| store.get(&row_key(kid, chunk)), vault, kid, dek, expected)
}

/// The same, with the rows from wherever `row` takes them.
pub fn open_rows(
    row: &mut dyn FnMut(u16) -> Result<Option<Vec<u8>>, StoreError>,
    vault: VaultId,
    kid: Kid,
    dek: &Dek,
    expected: Option<(RecordId, RecVer)>,
) -> Result<OpenVersion, VaultError> {
    let damaged = || VaultError::Damaged("record");
    let (mut padded, mut keys) = (SecretBytes::default(), ChunkKeys::of(dek));
    let mut found = None;
    for chunk in 0..CHUNKS_MAX {
        let mut value = SecretBytes::new(row(chunk)?.ok_or_else(damaged)?);
        let version = peek(&value).filter(|v| v.kid == kid).ok_or_else(damaged)?;
        if expected.is_some_and(|e| e != (version.record, version.rec_ver))
            || found.is_some_and(|f| f != version)
        {
            return Err(damaged());
        }
        found = Some(version);
        let last = value.get(HEADER - 1) == Some(&1);
        // What `peek` does not say: with it, all of the header is as it was written.
        let [hi, lo] = chunk.to_be_bytes();
        if value.get(LENGTH) != Some(&(value.len() as u32).to_be_bytes())
            || value.get(TAIL) != Some(&[ALG_AES_256_GCM, hi, lo, u8::from(last)])
        {
            return Err(damaged());
        }
        let aad = labels::record_aad(vault, value.first_chunk().ok_or_else(damaged)?);
        let sealed = value.get_mut(HEADER..).ok_or_else(damaged)?;
        let part = open_in_place(keys.at(chunk), &aad, sealed).map_err(|_| damaged())?;
        // Most records are one row: those are read where they lie.
        let fields = if last && chunk == 0 {
            let start = HEADER + NONCE_BYTES;
            let at = start..start + part.len();
            EncodedMap::parse(value, at)?
        } else {
            if padded.capacity() == 0 {
                padded.reserve_exact(crate::limits::RECORD_BYTES_MAX + 64 * 1024);
            }
            padded.extend_from_slice(part);
            if !last {
                continue;
            }
            // Of the room for the largest record no more is kept than this one needs.
            let mut exact = SecretBytes::with_capacity(padded.len());
            exact.extend_from_slice(&padded);
            let at = 0..exact.len();
            EncodedMap::parse(exact, at)?
        };
        return Ok(OpenVersion { version, fields, rows: chunk + 1 });
    }
    Err(damaged())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::audit::Member;
    use crate::clock::UnixMillis;
    use crate::id::FieldOrd;
    use crate::store::{Batch, Memory};
    use crate::vault::value::Value;

    fn sample(size: usize) -> (Version, FieldMap) {
        let kid = Kid::from_bytes([0, 0, 1, 0, 0, 2, 0, 0, 3, 4]);
        let version = Version {
            kid,
            record: RecordId([8; 16]),
            rec_ver: RecVer(3),
            rtype: TypeOrd(2),
            schema_rev: 1,
        };
        let fields = FieldMap {
            subject: RecordId([9; 16]),
            member: Member { subject: [6; 16], record: [4; 16] },
            created: UnixMillis(1),
            updated: UnixMillis(2),
            used: UnixMillis(3),
            fields: BTreeMap::from([(FieldOrd(1), Value::Bytes(vec![7; size]))]),
        };
        (version, fields)
    }

    #[test]
    fn versions_of_every_size_open_and_no_altered_row_does() {
        for size in [0, 100, 7_000, 7_936, 20_000, 1 << 20] {
            let store = Store::open(Arc::new(Memory::new()), None, None).unwrap();
            let (version, fields) = sample(size);
            let dek = Dek::generate();
            let rows = seal(VaultId([1; 16]), &version, &dek, &fields).unwrap();
            assert!(rows.iter().all(|(_, v)| v.len() <= crate::limits::ROW_BYTES_MAX));
            assert_eq!(
                parse_key(&rows.last().unwrap().0),
                Some((version.kid, rows.len() as u16 - 1))
            );
            let mut batch = Batch::default();
            rows.iter().for_each(|(k, v)| batch.put(k.clone(), v.clone()));
            store.commit_blocking(batch).unwrap();
            let named = Some((version.record, version.rec_ver));
            let read = |named| open(&store, VaultId([1; 16]), version.kid, &dek, named);
            let back = read(named).unwrap();
            assert!(back.fields.to_map() == fields && back.version == version);
            assert_eq!(usize::from(back.rows), rows.len());
            assert!(read(Some((RecordId([7; 16]), RecVer(3)))).is_err());
            assert!(read(Some((version.record, RecVer(4)))).is_err());
            assert!(open(&store, VaultId([2; 16]), version.kid, &dek, named).is_err());
            for (at, (key, value)) in rows.iter().enumerate().take(3) {
                for bit in (0..value.len() * 8).step_by(if size > 200 { 997 } else { 1 }) {
                    let mut bad = value.clone();
                    bad[bit / 8] ^= 1 << (bit % 8);
                    let mut batch = Batch::default();
                    batch.put(key.clone(), bad);
                    store.commit_blocking(batch).unwrap();
                    assert!(read(named).is_err(), "row {at} bit {bit}");
                }
                let mut batch = Batch::default();
                batch.put(key.clone(), value.clone());
                store.commit_blocking(batch).unwrap();
            }
            if let [.., (before, a), (last, b)] = rows.as_slice() {
                let mut batch = Batch::default();
                batch.put(before.clone(), b.clone());
                batch.put(last.clone(), a.clone());
                store.commit_blocking(batch).unwrap();
                assert!(read(named).is_err(), "swapped chunks");
            }
        }
    }

    /// What the AAD alone would let pass: each row is whole, but not where it belongs.
    #[test]
    fn rows_that_are_whole_but_elsewhere_do_not_open() {
        let (vault, dek) = (VaultId([1; 16]), Dek::generate());
        let (version, mut fields) = sample(0);
        // Chunks that differ, so that a change of their order would show.
        let bytes = (0..30_000u32).map(|n| (n / 7) as u8).collect();
        fields.fields.insert(FieldOrd(1), Value::Bytes(bytes));
        let rows: Vec<_> =
            seal(vault, &version, &dek, &fields).unwrap().into_iter().map(|r| r.1).collect();
        let open = |rows: &[Vec<u8>], kid| {
            open_rows(
                &mut |chunk| Ok(rows.get(usize::from(chunk)).cloned()),
                vault,
                kid,
                &dek,
                None,
            )
        };
        assert!(open(&rows, version.kid).is_ok_and(|o| o.fields.to_map() == fields));
        let mut swapped = rows.clone();
        swapped.swap(1, 2);
        assert!(open(&swapped, version.kid).is_err(), "two chunks in another order");
        let elsewhere = Kid { slot: 5, ..version.kid };
        assert!(open(&rows, elsewhere).is_err(), "another slot");
        let later = Version { rec_ver: RecVer(4), ..version };
        let other = seal(vault, &later, &dek, &fields).unwrap().remove(1).1;
        let mixed = [rows[0].clone(), other, rows[2].clone(), rows[3].clone()];
        assert!(open(&mixed, version.kid).is_err(), "a chunk of another version");
    }
}

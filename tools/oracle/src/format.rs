//! Rows of the format as bytes: where a row ends, and what its clear part says.
//!
//! Rows are found by their magic in raw bytes of unknown structure, so nothing here trusts a length:
//! a row is a candidate when it is long enough to be one and short enough to be scanned for.

use crate::crypto::{self, Key};
use crate::encoding::Cursor;

/// Longest row that is looked for. The format stays below 8,192; twice that leaves room to notice.
pub const ROW_LEN_MAX: usize = 16_384;
/// Bytes needed to tell the length of any row.
pub const HEAD_LEN: usize = 88;
const TAG: usize = 16;

/// Identity of a slot: `tenant u24 | bucket u24 | page u24 | slot u8`.
pub type Kid = [u8; 10];
/// Path of a node of the key tree (FORMAT section 4.1).
pub type PathBytes = [u8; 14];

/// The rows that can be told apart by their magic.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum RowKind {
    Anchor,
    Vault,
    Journal,
    Pointer,
    Intent,
    Tombstone,
    WithBucket,
    List,
    Summary,
    Asked,
    Clock,
    Level,
    Request,
    Sequence,
    Frontier,
    Leaf,
    Node,
    Record,
    Meta,
    Entry,
}

impl RowKind {
    /// The name that reports use.
    pub fn name(self) -> &'static str {
        match self {
            RowKind::Anchor => "anchor_slot",
            RowKind::Vault => "vault_header",
            RowKind::Journal => "journal_header",
            RowKind::Pointer => "pointer",
            RowKind::Intent => "intent",
            RowKind::Tombstone => "tombstone",
            RowKind::WithBucket => "tombstone_with_bucket",
            RowKind::List => "bucket_list",
            RowKind::Summary => "bucket_summary",
            RowKind::Asked => "who_asked",
            RowKind::Clock => "clock_mark",
            RowKind::Level => "level",
            RowKind::Request => "request",
            RowKind::Sequence => "sequence",
            RowKind::Frontier => "frontier",
            RowKind::Leaf => "ledger_leaf",
            RowKind::Node => "node",
            RowKind::Record => "record",
            RowKind::Meta => "metadata",
            RowKind::Entry => "audit_entry",
        }
    }
}

/// Kind and length of the row that starts at `head`, which holds up to [`HEAD_LEN`] bytes or ends early.
pub fn row_at(head: &[u8]) -> Option<(RowKind, usize)> {
    let mut c = Cursor(head);
    let kind = match &c.array::<4>()? {
        b"LTA1" => RowKind::Anchor,
        b"LTV1" => RowKind::Vault,
        b"LTJ1" => RowKind::Journal,
        b"LTU1" => RowKind::Pointer,
        b"LTQ1" => RowKind::Intent,
        b"LTT1" => RowKind::Tombstone,
        b"LTT2" => RowKind::WithBucket,
        b"LTX1" => RowKind::List,
        b"LTX2" => RowKind::Summary,
        b"LTD1" => RowKind::Asked,
        b"LTK1" => RowKind::Clock,
        b"LTG1" => RowKind::Level,
        b"LTP1" => RowKind::Request,
        b"LTS1" => RowKind::Sequence,
        b"LTH1" => RowKind::Frontier,
        b"LTL1" => RowKind::Leaf,
        b"LTN1" => RowKind::Node,
        b"LTR1" => RowKind::Record,
        b"LTM1" => RowKind::Meta,
        b"LTE1" => RowKind::Entry,
        _ => return None,
    };
    let len = match kind {
        RowKind::Anchor => {
            c.take(80)?;
            88 + within(c.u32()?, TAG, 4_096 - 88)?
        }
        RowKind::Vault => 30,
        RowKind::Journal => 22,
        RowKind::Pointer => 28,
        RowKind::Intent => 53,
        RowKind::Tombstone => 76,
        RowKind::WithBucket => 13,
        RowKind::List => 10 + 16 * usize::from(c.u16()?),
        RowKind::Summary => 107,
        RowKind::Asked => 50,
        RowKind::Clock => 41,
        RowKind::Level => 26,
        RowKind::Request => match c.u8()? {
            1..=3 | 5 => 67,
            IMPORT => {
                c.take(16)?;
                27 + 16 * usize::from(c.u16()?)
            }
            _ => return None,
        },
        RowKind::Sequence => 16,
        RowKind::Frontier => {
            c.take(8)?;
            13 + 32 * usize::from(c.u8()?)
        }
        RowKind::Leaf => LEAF_LEN,
        RowKind::Node => {
            let len = within(c.u32()?, 39 + 12 + TAG, ROW_LEN_MAX)?;
            (1..=12).contains(&c.u8()?).then_some(len)?
        }
        RowKind::Record => within(c.u32()?, 64 + TAG, ROW_LEN_MAX)?,
        RowKind::Meta => within(c.u32()?, 32 + TAG, ROW_LEN_MAX)?,
        RowKind::Entry => {
            c.take(73)?;
            within(u32::from(c.u16()?) * 32 + 80, 80, ROW_LEN_MAX)?
        }
    };
    Some((kind, len))
}

fn within(len: u32, least: usize, most: usize) -> Option<usize> {
    usize::try_from(len).ok().filter(|n| (least..=most).contains(n))
}

/// A sealed node as found (FORMAT section 4.2).
pub struct NodeRow {
    raw: Box<[u8]>,
    aad_len: usize,
    pub path: PathBytes,
    pub ver: u64,
    pub gen_: u64,
    /// PAGE only: number of slots and the bitmap of erased ones.
    pub aux: Option<(u8, [u8; 16])>,
}

impl NodeRow {
    pub fn parse(raw: &[u8]) -> Option<Self> {
        let mut c = Cursor(raw);
        c.take(8)?;
        let path: PathBytes = c.array()?;
        let (ver, gen_, aux_len) = (c.u64()?, c.u64()?, c.u8()?);
        let aux = match aux_len {
            0 => None,
            17 => Some((c.u8()?, c.array()?)),
            _ => return None,
        };
        let aad_len = 39 + usize::from(aux_len);
        (raw.len() >= aad_len + 12 + TAG).then(|| NodeRow {
            raw: raw.into(),
            aad_len,
            path,
            ver,
            gen_,
            aux,
        })
    }

    pub fn len(&self) -> usize {
        self.raw.len()
    }

    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    pub fn open(&self, vault: &[u8; 16], key: &Key) -> Option<Vec<u8>> {
        open_after(&self.raw, self.aad_len, b"VN1", vault, key)
    }
}

/// A sealed record version, or one chunk of it (FORMAT section 5).
pub struct RecordRow {
    raw: Box<[u8]>,
    pub kid: Kid,
    pub record: [u8; 16],
    pub rec_ver: u64,
    pub type_: u16,
    pub schema: u32,
    pub alg: u8,
    pub chunk: u16,
    pub last: u8,
}

impl RecordRow {
    pub fn parse(raw: &[u8]) -> Option<Self> {
        let mut c = Cursor(raw);
        c.take(8)?;
        Some(RecordRow {
            raw: raw.into(),
            kid: c.array()?,
            record: c.array()?,
            rec_ver: c.u64()?,
            type_: c.u16()?,
            schema: c.u32()?,
            alg: c.u8()?,
            chunk: c.u16()?,
            last: c.u8()?,
        })
    }

    pub fn len(&self) -> usize {
        self.raw.len()
    }

    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// Tries the DEK of the slot; chunks after the first have a key derived from it.
    pub fn open_with_dek(&self, vault: &[u8; 16], dek: &Key) -> Option<Vec<u8>> {
        if self.chunk == 0 {
            self.open_raw(vault, dek)
        } else {
            self.open_raw(vault, &crypto::chunk_key(dek))
        }
    }

    /// Tries `key` as it is, whatever the chunk number says.
    pub fn open_raw(&self, vault: &[u8; 16], key: &Key) -> Option<Vec<u8>> {
        open_after(&self.raw, 52, b"VR1", vault, key)
    }
}

/// In the place of a request's operation: the row of an import.
const IMPORT: u8 = 4;

/// What a request id did (FORMAT section 3.7); its key, which holds the id, is not part of it.
pub struct RequestRow {
    pub op: u8,
    pub written: i64,
    pub record: [u8; 16],
    pub rec_ver: u64,
    pub kid: Kid,
    pub fingerprint: [u8; 16],
}

/// How far an import was: its last chunk.
pub struct ImportRow {
    pub written: i64,
    pub first: u64,
    /// `None` for one that was refused.
    pub records: Vec<Option<[u8; 16]>>,
}

/// A row of kind `p`.
pub enum Remembered {
    Call(RequestRow),
    Import(ImportRow),
}

impl Remembered {
    /// `None` if the sum at its end does not fit.
    pub fn parse(raw: &[u8]) -> Option<Self> {
        let (summed, sum) = raw.split_last_chunk::<4>()?;
        if crate::encoding::crc32(summed) != u32::from_be_bytes(*sum) {
            return None;
        }
        let mut c = Cursor(summed);
        c.take(4)?;
        let (op, written) = (c.u8()?, c.i64()?);
        if op != IMPORT {
            return Some(Self::Call(RequestRow {
                op,
                written,
                record: c.array()?,
                rec_ver: c.u64()?,
                kid: c.array()?,
                fingerprint: c.array()?,
            }));
        }
        let (first, count) = (c.u64()?, c.u16()?);
        let id = |id: [u8; 16]| (id != [0; 16]).then_some(id);
        let records = (0..count).map(|_| c.array().map(id)).collect::<Option<_>>()?;
        Some(Self::Import(ImportRow { written, first, records }))
    }
}

/// A sealed metadata row (FORMAT section 6).
pub struct MetaRow {
    raw: Box<[u8]>,
    pub tenant: u32,
    pub mkind: u8,
    pub id: u32,
    pub rev: u32,
}

impl MetaRow {
    pub fn parse(raw: &[u8]) -> Option<Self> {
        let mut c = Cursor(raw);
        c.take(8)?;
        Some(MetaRow {
            raw: raw.into(),
            tenant: c.u24()?,
            mkind: c.u8()?,
            id: c.u32()?,
            rev: c.u32()?,
        })
    }

    pub fn open(&self, vault: &[u8; 16], key: &Key) -> Option<Vec<u8>> {
        open_after(&self.raw, 20, b"VM1", vault, key)
    }
}

/// Rows are `clear | nonce | sealed`, with `label | vault | clear` as AAD.
fn open_after(
    raw: &[u8],
    clear: usize,
    label: &[u8; 3],
    vault: &[u8; 16],
    key: &Key,
) -> Option<Vec<u8>> {
    let (head, mut rest) = raw.split_at_checked(clear).map(|(h, r)| (h, Cursor(r)))?;
    let nonce = rest.array::<12>()?;
    let mut aad = Vec::with_capacity(19 + head.len());
    aad.extend_from_slice(label);
    aad.extend_from_slice(vault);
    aad.extend_from_slice(head);
    crypto::open(key, &nonce, &aad, rest.0)
}

/// What an audit entry says of whom it is about (FORMAT section 9.1).
pub struct EntryRow {
    pub act: u16,
    pub seq: u64,
    /// Pseudonyms of subject and record.
    pub members: Vec<([u8; 16], [u8; 16])>,
}

impl EntryRow {
    pub fn parse(raw: &[u8]) -> Option<Self> {
        let mut c = Cursor(raw);
        c.take(5)?;
        let (act, _code, seq) = (c.u16()?, c.u8()?, c.u64()?);
        c.take(61)?;
        let count = c.u16()?;
        c.take(1)?;
        let mut members = Vec::new();
        for _ in 0..count {
            members.push((c.array()?, c.array()?));
        }
        Some(EntryRow { act, seq, members })
    }
}

/// What an opened anchor slot says (FORMAT section 2).
#[derive(Clone)]
pub struct Anchor {
    pub vault: [u8; 16],
    pub slot: u8,
    pub gen_: u64,
    pub refresh: u64,
    pub root_ver: u64,
    pub root_key: Key,
    pub ledger_size: u64,
    pub ledger_root: [u8; 32],
    pub batch_hash: [u8; 32],
    pub audit_size: u64,
    pub audit_head: [u8; 32],
    pub store_seq: u64,
    pub wall_ms: i64,
    pub kek_since_ms: i64,
    pub clean: u8,
    /// The whole payload, for plaintext searches.
    pub payload: Vec<u8>,
}

impl Anchor {
    /// Opens a slot image that starts at its magic.
    pub fn open(slot: &[u8], kek: &Key) -> Option<Self> {
        let mut c = Cursor(slot);
        c.take(4)?;
        let (fmt, number) = (c.u16()?, c.u8()?);
        c.take(1)?;
        let vault: [u8; 16] = c.array()?;
        let kek_id: [u8; 16] = c.array()?;
        let salt: [u8; 32] = c.array()?;
        let nonce: [u8; 12] = c.array()?;
        let n = c.u32()?;
        let sealed = c.take(usize::try_from(n).ok()?)?;
        let mut aad = b"VA1".to_vec();
        aad.extend_from_slice(&vault);
        aad.push(number);
        aad.extend_from_slice(&fmt.to_be_bytes());
        aad.extend_from_slice(&kek_id);
        let key = crypto::hkdf(&salt, kek, b"lethe/v1/anchor");
        Self::parse(vault, number, crypto::open(&key, &nonce, &aad, sealed)?)
    }

    fn parse(vault: [u8; 16], slot: u8, payload: Vec<u8>) -> Option<Self> {
        let mut c = Cursor(&payload);
        Some(Anchor {
            vault,
            slot,
            gen_: c.u64()?,
            refresh: c.u64()?,
            root_ver: c.u64()?,
            root_key: c.array()?,
            ledger_size: c.u64()?,
            ledger_root: c.array()?,
            batch_hash: c.array()?,
            audit_size: c.u64()?,
            audit_head: c.array()?,
            store_seq: c.u64()?,
            wall_ms: c.i64()?,
            kek_since_ms: c.i64()?,
            clean: c.u8()?,
            payload: payload.clone(),
        })
    }
}

/// Reads a key file: 64 hexadecimal digits and an optional newline.
pub fn parse_kek(text: &str) -> Option<Key> {
    crate::encoding::unhex(text.strip_suffix('\n').unwrap_or(text).trim_end_matches('\r'))?
        .try_into()
        .ok()
}

/// Identifier of a KEK, in clear in the anchor slot.
pub fn kek_id(kek: &Key) -> [u8; 16] {
    crypto::hkdf(b"", kek, b"lethe/v1/kek-id")
}

/// Length of a ledger leaf.
pub const LEAF_LEN: usize = 208;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_come_from_the_row() {
        let mut node = b"LTN1".to_vec();
        node.extend(100u32.to_be_bytes());
        node.push(7);
        assert_eq!(row_at(&node), Some((RowKind::Node, 100)));
        node[8] = 13;
        assert_eq!(row_at(&node), None, "no such node kind");
        assert_eq!(row_at(b"LTR1\0\0\0\x10"), None, "shorter than its header");
        assert_eq!(row_at(b"LTR1\0\x01\0\0"), None, "longer than any row");
        assert_eq!(row_at(b"LTL1"), Some((RowKind::Leaf, 208)));
        assert_eq!(row_at(b"LTU1"), Some((RowKind::Pointer, 28)));
        assert_eq!(row_at(b"LTX1"), None);
        assert_eq!(row_at(b"LTP1\x03"), Some((RowKind::Request, 67)));
        let import = [b"LTP1\x04".as_slice(), &[0; 16], &[1, 0]].concat();
        assert_eq!(row_at(&import), Some((RowKind::Request, 27 + 16 * 256)));
        assert_eq!(row_at(b"LTP1\x05"), Some((RowKind::Request, 67)));
        assert_eq!(row_at(b"LTP1\x06"), None);
    }

    #[test]
    fn key_file() {
        let hex = "00".repeat(31) + "ff";
        assert_eq!(parse_kek(&(hex.clone() + "\n")).unwrap()[31], 255);
        assert!(parse_kek(&hex[1..]).is_none());
    }
}

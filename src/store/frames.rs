//! Bytes of a node journal file (FORMAT §8).
//!
//! Guarantees: reading stops at the first frame that is cut, over-long, or does not match its CRC-32; nothing after it
//! is returned. Any bytes may be fed to it.

use std::io::{BufReader, ErrorKind, Read};

use super::StoreError;
use super::durable::io_error;
use crate::id::VaultId;
use crate::limits;

const MAGIC: [u8; 4] = *b"LTJ1";
const FMT: u16 = 1;
/// Bytes before the first frame.
pub(super) const HEADER_BYTES: usize = 22;
/// `len` and `crc32` of a frame.
const PREFIX_BYTES: usize = 8;
/// `op` and `klen`, which `len` counts.
const BODY_MIN: usize = 3;
const BODY_MAX: usize = BODY_MIN + limits::KEY_BYTES_MAX + limits::ROW_BYTES_MAX;

const PUT: u8 = 1;
const DELETE: u8 = 2;

/// `(key, None)` deletes.
pub(super) type Entry = (Vec<u8>, Option<Vec<u8>>);

pub(super) fn header(vault: VaultId) -> Vec<u8> {
    [MAGIC.as_slice(), &FMT.to_be_bytes(), &vault.0].concat()
}

/// The vault that a journal file's header names.
pub(super) fn vault_in(input: &mut impl Read) -> Result<Option<VaultId>, StoreError> {
    let mut found = [0; HEADER_BYTES];
    if !fill(input, &mut found)? {
        return Ok(None);
    }
    let id = found.last_chunk::<16>().map(|id| VaultId(*id));
    Ok(id.filter(|id| found.as_slice() == header(*id)))
}

/// Length of the frame of a put of this key and value.
pub(super) fn put_bytes(key: &[u8], value: &[u8]) -> u64 {
    (PREFIX_BYTES + BODY_MIN + key.len() + value.len()) as u64
}

/// Appends a frame to `out`.
pub(super) fn encode(
    out: &mut Vec<u8>,
    key: &[u8],
    value: Option<&[u8]>,
) -> Result<(), StoreError> {
    let bytes = value.unwrap_or_default();
    if key.len() > limits::KEY_BYTES_MAX {
        return Err(StoreError::RowTooLarge(key.len()));
    }
    if bytes.len() > limits::ROW_BYTES_MAX {
        return Err(StoreError::RowTooLarge(bytes.len()));
    }
    let mut body = Vec::with_capacity(BODY_MIN + key.len() + bytes.len());
    body.push(if value.is_some() { PUT } else { DELETE });
    // Both lengths were bounded above.
    body.extend_from_slice(&(key.len() as u16).to_be_bytes());
    body.extend_from_slice(key);
    body.extend_from_slice(bytes);
    out.extend_from_slice(&(body.len() as u32).to_be_bytes());
    out.extend_from_slice(&crc32fast::hash(&body).to_be_bytes());
    out.extend_from_slice(&body);
    Ok(())
}

/// Reads a journal file frame by frame.
pub(super) struct Frames<R> {
    input: BufReader<R>,
    /// Where the last good frame ends.
    good_end: u64,
}

impl<R: Read> Frames<R> {
    /// Checks the header.
    pub(super) fn new(input: R, vault: VaultId) -> Result<Self, StoreError> {
        let mut input = BufReader::with_capacity(256 << 10, input);
        let mut found = [0; HEADER_BYTES];
        if !fill(&mut input, &mut found)? || found.as_slice() != header(vault) {
            return Err(StoreError::Damaged("the header of the node journal".into()));
        }
        Ok(Self { input, good_end: HEADER_BYTES as u64 })
    }

    pub(super) fn good_end(&self) -> u64 {
        self.good_end
    }

    /// The next frame; `None` at the end or at the first damaged one.
    pub(super) fn next_entry(&mut self) -> Result<Option<Entry>, StoreError> {
        let mut prefix = [0; PREFIX_BYTES];
        if !fill(&mut self.input, &mut prefix)? {
            return Ok(None);
        }
        let [a, b, c, d, crc @ ..] = prefix;
        let len = u32::from_be_bytes([a, b, c, d]) as usize;
        if !(BODY_MIN..=BODY_MAX).contains(&len) {
            return Ok(None);
        }
        let mut body = vec![0; len];
        if !fill(&mut self.input, &mut body)? || crc32fast::hash(&body) != u32::from_be_bytes(crc) {
            return Ok(None);
        }
        let entry = decode(&body);
        if entry.is_some() {
            self.good_end += (PREFIX_BYTES + len) as u64;
        }
        Ok(entry)
    }
}

fn decode(body: &[u8]) -> Option<Entry> {
    let (&[op, high, low], rest) = body.split_first_chunk()?;
    let (key, value) = rest.split_at_checked(u16::from_be_bytes([high, low]).into())?;
    match op {
        PUT => Some((key.to_vec(), Some(value.to_vec()))),
        DELETE if value.is_empty() => Some((key.to_vec(), None)),
        _ => None,
    }
}

/// `false` if the input ends first.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> Result<bool, StoreError> {
    match input.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(io_error("read of the node journal")(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VAULT: VaultId = VaultId([9; 16]);

    fn file() -> Vec<u8> {
        let mut bytes = header(VAULT);
        encode(&mut bytes, b"k1", Some(b"value")).unwrap();
        encode(&mut bytes, b"k1", None).unwrap();
        bytes
    }

    #[test]
    fn the_bytes_are_those_of_the_format() {
        let mut body = vec![1, 0, 2];
        body.extend_from_slice(b"k1value");
        let mut expected = b"LTJ1\x00\x01".to_vec();
        expected.extend_from_slice(&[9; 16]);
        expected.extend_from_slice(&[0, 0, 0, 10]);
        // CRC-32/ISO-HDLC of 01 00 02 6b 31 76 61 6c 75 65, computed with zlib.
        expected.extend_from_slice(&0xd3af_670b_u32.to_be_bytes());
        expected.extend_from_slice(&body);
        assert_eq!(file().get(..expected.len()), Some(expected.as_slice()));
        assert_eq!(crc32fast::hash(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn a_damaged_bit_anywhere_never_yields_a_changed_entry() {
        let whole = file();
        let read = |bytes: &[u8]| -> Vec<Entry> {
            let Ok(mut frames) = Frames::new(bytes, VAULT) else {
                return Vec::new();
            };
            std::iter::from_fn(|| frames.next_entry().unwrap()).collect()
        };
        let good = read(&whole);
        assert_eq!(good.len(), 2);
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let seen = read(&bytes);
            assert!(seen.len() < good.len(), "bit {bit} went unnoticed");
            assert_eq!(seen, good[..seen.len()]);
        }
    }

    #[test]
    fn an_over_long_frame_is_refused_before_memory_is_taken() {
        let mut bytes = header(VAULT);
        bytes.extend_from_slice(&[0xff; 64]);
        assert_eq!(Frames::new(bytes.as_slice(), VAULT).unwrap().next_entry(), Ok(None));
        let long = vec![0; limits::ROW_BYTES_MAX + 1];
        assert!(encode(&mut Vec::new(), b"k", Some(&long)).is_err());
        assert!(encode(&mut Vec::new(), &long[..257], None).is_err());
    }
}

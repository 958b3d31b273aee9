//! The anchor: the erasable cell that holds the root key (docs/FORMAT.md §2).
//!
//! Invariants: a slot is sealed under a key that seals once (fresh salt); of two valid slots the one with the greater
//! (generation, refresh) counts; a slot that was moved to the other place, cut short, or sealed under another KEK is
//! told apart, each with its own error.

use std::fmt;

use zeroize::Zeroizing;

use crate::class::Medium;
use crate::clock::UnixMillis;
use crate::crypto::{
    Digest32, Kek, LockedKey, hkdf32, kek_id, labels, open_in_place, random, seal_append,
};
use crate::id::{Gen, VaultId};
use crate::os::LockError;

/// Bytes of a slot.
pub const SLOT_BYTES: usize = 4096;
/// The two slots.
pub const SLOTS: [u8; 2] = [0, 1];
const MAGIC: &[u8; 4] = b"LTA1";
const FMT: u16 = 1;
const SEALED_AT: usize = 72;
const PAYLOAD: usize = 221;

/// Why an anchor was not read or written.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum AnchorError {
    #[error("there is no anchor at {0}")]
    Missing(String),
    #[error("the anchor has {0} bytes instead of 8192: it was cut short or is another file")]
    Truncated(u64),
    #[error("the anchor's two slots are swapped: the file was put together by hand")]
    Swapped,
    #[error(
        "the anchor is sealed under KEK {sealed}, but the key given is {given}: supply the right KEK"
    )]
    WrongKek { sealed: String, given: String },
    #[error("neither slot of the anchor authenticates: it is damaged or not an anchor")]
    Damaged,
    #[error(
        "the anchor is of an older state than the store: generation {anchor}, the store has seen {store}; \
         an old copy was put back"
    )]
    Older { anchor: u64, store: u64 },
    #[error(
        "the store is older than the anchor: commit sequence {store}, the anchor has seen {anchor}; \
         an old data directory was put back"
    )]
    StoreOlder { anchor: u64, store: u64 },
    #[error(
        "the audit log in the store has {store} entries and is not the one that the anchor has seen with {anchor}: \
         it was altered, cut, or is an older copy; run `lethed repair`"
    )]
    Log { anchor: u64, store: u64 },
    #[error(
        "the vault's files are of format {found}, this program reads format {known}: \
         export with the version that wrote them and import anew"
    )]
    Format { found: u16, known: u16 },
    #[error("the anchor belongs to vault {anchor}, the store to vault {store}")]
    Foreign { anchor: VaultId, store: VaultId },
    #[error("the anchor lies on {0}, which may keep old blocks, and the configuration requires E1")]
    Medium(String),
    #[error("the anchor could not be {0}: {1}")]
    Io(&'static str, String),
}

/// What the anchor binds.
pub struct Payload {
    pub generation: Gen,
    pub refresh: u64,
    pub root_ver: u64,
    pub root_key: LockedKey,
    pub ledger_size: u64,
    pub ledger_root: Digest32,
    pub batch_hash: Digest32,
    pub audit_size: u64,
    pub audit_head: Digest32,
    pub store_seq: u64,
    pub wall: UnixMillis,
    pub kek_since: UnixMillis,
    pub clean: bool,
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload(generation {}, refresh {})", self.generation.0, self.refresh)
    }
}

impl Payload {
    /// The same again with another root key cell, to change parts of it.
    pub fn duplicate(&self) -> Result<Self, LockError> {
        Ok(Self { root_key: LockedKey::copied(self.root_key.expose())?, ..*self })
    }

    /// What orders two slots.
    pub fn order(&self) -> (Gen, u64) {
        (self.generation, self.refresh)
    }

    fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(PAYLOAD));
        for n in [self.generation.0, self.refresh, self.root_ver] {
            out.extend_from_slice(&n.to_be_bytes());
        }
        out.extend_from_slice(self.root_key.expose());
        out.extend_from_slice(&self.ledger_size.to_be_bytes());
        out.extend_from_slice(&self.ledger_root);
        out.extend_from_slice(&self.batch_hash);
        out.extend_from_slice(&self.audit_size.to_be_bytes());
        out.extend_from_slice(&self.audit_head);
        out.extend_from_slice(&self.store_seq.to_be_bytes());
        out.extend_from_slice(&self.wall.0.to_be_bytes());
        out.extend_from_slice(&self.kek_since.0.to_be_bytes());
        out.push(u8::from(self.clean));
        out.resize(PAYLOAD, 0);
        out
    }

    fn decode(plain: &[u8]) -> Result<Self, SlotError> {
        let mut at = Fields(plain);
        Ok(Self {
            generation: Gen(at.u64()?),
            refresh: at.u64()?,
            root_ver: at.u64()?,
            root_key: LockedKey::copied(at.take::<32>()?).map_err(SlotError::Memory)?,
            ledger_size: at.u64()?,
            ledger_root: *at.take()?,
            batch_hash: *at.take()?,
            audit_size: at.u64()?,
            audit_head: *at.take()?,
            store_seq: at.u64()?,
            wall: UnixMillis(at.u64()? as i64),
            kek_since: UnixMillis(at.u64()? as i64),
            clean: at.take::<1>()? == &[1],
        })
    }
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Result<&'a [u8; N], SlotError> {
        let (field, rest) = self.0.split_first_chunk().ok_or(SlotError::Damaged)?;
        self.0 = rest;
        Ok(field)
    }

    fn u64(&mut self) -> Result<u64, SlotError> {
        self.take().map(|b| u64::from_be_bytes(*b))
    }
}

/// Why one slot does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotError {
    /// Not a slot, or it does not authenticate.
    Damaged,
    /// It is the other slot's image.
    Misplaced,
    /// No key given has this id.
    NoKek([u8; 16]),
    /// No locked memory.
    Memory(LockError),
}

/// A slot, opened.
#[derive(Debug)]
pub struct OpenSlot {
    pub vault: VaultId,
    pub kek_id: [u8; 16],
    pub payload: Payload,
}

/// Seals a payload into the image of a slot.
pub fn seal_slot(
    vault: VaultId,
    slot: u8,
    kek: &Kek,
    payload: &Payload,
) -> Result<Zeroizing<Vec<u8>>, AnchorError> {
    let (id, salt) = (kek_id(kek), random::<32>());
    let mut key = Zeroizing::new([0; 32]);
    hkdf32(&salt, kek.expose(), labels::ANCHOR, &mut key);
    let mut out = Zeroizing::new(Vec::with_capacity(SLOT_BYTES));
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&FMT.to_be_bytes());
    out.extend_from_slice(&[slot, 0]);
    out.extend_from_slice(&vault.0);
    out.extend_from_slice(&id);
    out.extend_from_slice(&salt);
    let mut sealed = Vec::with_capacity(PAYLOAD + 28);
    let aad = labels::anchor_aad(vault, slot, FMT, &id);
    seal_append(&key, &aad, &payload.encode(), &mut sealed).map_err(|_| AnchorError::Damaged)?;
    let (nonce, body) = sealed.split_first_chunk::<12>().ok_or(AnchorError::Damaged)?;
    out.extend_from_slice(nonce);
    out.extend_from_slice(&(body.len() as u32).to_be_bytes());
    out.extend_from_slice(body);
    out.resize(SLOT_BYTES, 0);
    Ok(out)
}

/// Opens the image found at the place of slot `place`, with whichever of the keys it names.
pub fn open_slot(place: u8, image: &[u8], keks: &[Kek]) -> Result<OpenSlot, SlotError> {
    let mut at = Fields(image);
    if at.take()? != MAGIC || at.take()? != &FMT.to_be_bytes() {
        return Err(SlotError::Damaged);
    }
    let [slot, reserved] = *at.take::<2>()?;
    if reserved != 0 {
        return Err(SlotError::Damaged);
    }
    let vault = VaultId(*at.take()?);
    let id = *at.take::<16>()?;
    let salt = *at.take::<32>()?;
    let nonce = *at.take::<12>()?;
    let n = u32::from_be_bytes(*at.take()?) as usize;
    let body = image.get(SEALED_AT + 16..SEALED_AT + 16 + n).ok_or(SlotError::Damaged)?;
    let kek = keks.iter().find(|k| kek_id(k) == id).ok_or(SlotError::NoKek(id))?;
    let mut key = Zeroizing::new([0; 32]);
    hkdf32(&salt, kek.expose(), labels::ANCHOR, &mut key);
    let mut sealed = Zeroizing::new([nonce.as_slice(), body].concat());
    let aad = labels::anchor_aad(vault, slot, FMT, &id);
    let plain = open_in_place(&key, &aad, &mut sealed).map_err(|_| SlotError::Damaged)?;
    if slot != place {
        return Err(SlotError::Misplaced);
    }
    if plain.len() != PAYLOAD {
        return Err(SlotError::Damaged);
    }
    Ok(OpenSlot { vault, kek_id: id, payload: Payload::decode(plain)? })
}

/// Where the two slots are kept.
pub trait Anchor: Send + 'static {
    /// The image at each slot's place.
    fn load(&mut self) -> Result<[Vec<u8>; 2], AnchorError>;

    /// Overwrites a slot in place; it and what it replaced are as the medium says when this returns.
    fn write(&mut self, slot: u8, image: &[u8]) -> Result<(), AnchorError>;

    /// What overwriting really does here.
    fn medium(&self) -> Medium;

    /// For people: where it is and why the medium is judged so.
    fn describe(&self) -> String;
}

/// The slot that counts, and the other one if it opens too.
#[derive(Debug)]
pub struct Current {
    pub slot: u8,
    pub open: OpenSlot,
    pub other: Option<OpenSlot>,
}

/// Picks the slot that counts, or says precisely why there is none.
pub fn select(images: &[Vec<u8>; 2], keks: &[Kek]) -> Result<Current, AnchorError> {
    let [first, second] = images;
    let opened = (open_slot(0, first, keks), open_slot(1, second, keks));
    match opened {
        (Ok(a), Ok(b)) if b.payload.order() > a.payload.order() => {
            Ok(Current { slot: 1, open: b, other: Some(a) })
        }
        (Ok(a), Ok(b)) => Ok(Current { slot: 0, open: a, other: Some(b) }),
        (Ok(a), Err(_)) => Ok(Current { slot: 0, open: a, other: None }),
        (Err(_), Ok(b)) => Ok(Current { slot: 1, open: b, other: None }),
        (Err(SlotError::Memory(e)), _) | (_, Err(SlotError::Memory(e))) => {
            Err(AnchorError::Io("opened", e.to_string()))
        }
        (Err(SlotError::Misplaced), _) | (_, Err(SlotError::Misplaced)) => {
            Err(AnchorError::Swapped)
        }
        (Err(SlotError::NoKek(id)), _) | (_, Err(SlotError::NoKek(id))) => {
            let given: Vec<String> = keks.iter().map(|k| hex(&kek_id(k))).collect();
            Err(AnchorError::WrongKek { sealed: hex(&id), given: given.join(" or ") })
        }
        (Err(SlotError::Damaged), Err(SlotError::Damaged)) => Err(AnchorError::Damaged),
    }
}

/// Lower-case hex, for ids that are not secret.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(generation: u64, refresh: u64) -> Payload {
        Payload {
            generation: Gen(generation),
            refresh,
            root_ver: 3,
            root_key: LockedKey::copied(&[4; 32]).unwrap(),
            ledger_size: 5,
            ledger_root: [6; 32],
            batch_hash: [7; 32],
            audit_size: 8,
            audit_head: [9; 32],
            store_seq: 10,
            wall: UnixMillis(-11),
            kek_since: UnixMillis(12),
            clean: true,
        }
    }

    fn images(a: &Payload, b: &Payload, kek: &Kek) -> [Vec<u8>; 2] {
        let v = VaultId([1; 16]);
        [0, 1].map(|s| seal_slot(v, s, kek, if s == 0 { a } else { b }).unwrap().to_vec())
    }

    #[test]
    fn the_slot_with_the_greater_generation_then_refresh_counts() {
        let kek = Kek::generate();
        for (a, b, slot) in [((2, 0), (1, 9), 0), ((1, 0), (2, 0), 1), ((2, 1), (2, 2), 1)] {
            let both = images(&payload(a.0, a.1), &payload(b.0, b.1), &kek);
            let current = select(&both, std::slice::from_ref(&kek)).unwrap();
            assert_eq!(current.slot, slot);
            assert!(current.other.is_some());
            let p = current.open.payload;
            assert_eq!((p.root_ver, p.ledger_size, p.store_seq), (3, 5, 10));
            assert_eq!((p.wall, p.kek_since, p.clean), (UnixMillis(-11), UnixMillis(12), true));
        }
    }

    #[test]
    fn each_kind_of_bad_anchor_has_its_own_answer() {
        let kek = Kek::generate();
        let keks = std::slice::from_ref(&kek);
        let good = images(&payload(2, 0), &payload(1, 0), &kek);
        let [a, b] = good.clone();
        assert_eq!(select(&[b.clone(), a.clone()], keks).err(), Some(AnchorError::Swapped));
        assert!(matches!(
            select(&good, &[Kek::generate()]).err(),
            Some(AnchorError::WrongKek { .. })
        ));
        assert_eq!(
            select(&[vec![0; SLOT_BYTES], vec![0; SLOT_BYTES]], keks).err(),
            Some(AnchorError::Damaged)
        );
        // A torn newest slot falls back to the other.
        let mut torn = a.clone();
        torn[200] ^= 1;
        let current = select(&[torn, b], keks).unwrap();
        assert_eq!((current.slot, current.open.payload.generation), (1, Gen(1)));
        assert!(current.other.is_none());
    }

    #[test]
    fn every_flipped_bit_of_a_slot_is_refused() {
        let kek = Kek::generate();
        let [a, _] = images(&payload(2, 0), &payload(1, 0), &kek);
        for bit in 0..(SEALED_AT + 16 + PAYLOAD + 16) * 8 {
            let mut bad = a.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(open_slot(0, &bad, std::slice::from_ref(&kek)).is_err(), "bit {bit}");
        }
    }
}

//! Nodes of the key tree: their bodies, and their sealed rows (docs/FORMAT.md §4.2, §4.3).
//!
//! Invariants: a body is zeroized when dropped; a row that does not authenticate under its key, or names another path
//! or version than it was asked for, is never returned.

use zeroize::{Zeroize, optimization_barrier};

use super::dir::Dir;
use super::path::{NodeKind, PATH_BYTES, Path};
use crate::crypto::{
    Dek, NodeKey, SecretBytes, fill_random, labels, open_in_place, random, seal_append,
};
use crate::id::{Gen, PageOrd, VaultId};

const MAGIC: &[u8; 4] = b"LTN1";
/// Bytes before aux.
const HEADER: usize = 39;
const PAGE_AUX: usize = 17;
/// Bytes of an encoded index entry.
pub const LEAF_ENTRY: usize = 20;
/// Bytes of an index token.
pub const TOKEN_BYTES: usize = 16;
/// Bytes of a record version's key.
pub const DEK_BYTES: usize = 32;
/// Slots of the largest page.
pub const PAGE_SLOTS_MAX: u8 = 128;

/// A node does not parse or does not authenticate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a node of the key tree is damaged")]
pub struct NodeDamaged;

/// What a parent keeps of a child.
#[derive(Debug)]
pub struct Entry {
    pub ver: u64,
    pub key: NodeKey,
}

impl Entry {
    /// A fresh key and a fresh random version.
    pub fn fresh() -> Self {
        Self { ver: u64::from_be_bytes(random()), key: NodeKey::generate() }
    }

    pub fn duplicate(&self) -> Self {
        Self { ver: self.ver, key: self.key.duplicate() }
    }
}

/// A page of record keys.
pub struct Page {
    pub slots: u8,
    pub dead: [u8; 16],
    pub keys: SecretBytes,
}

/// One index entry: which record version has this token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Zeroize)]
pub struct Listing {
    pub token: [u8; TOKEN_BYTES],
    pub page: u32,
    pub slot: u8,
}

/// A leaf of an index run, sorted.
pub struct Leaf {
    pub listings: Vec<Listing>,
}

impl Drop for Leaf {
    fn drop(&mut self) {
        self.listings.fill(Listing { token: [0; TOKEN_BYTES], page: 0, slot: 0 });
        optimization_barrier(self.listings.as_slice());
    }
}

/// What a node holds.
pub enum Body {
    Dir(Dir),
    Page(Page),
    Leaf(Leaf),
}

impl Page {
    /// All slots pre-filled with fresh random keys.
    pub fn fresh(slots: u8) -> Self {
        let mut keys = SecretBytes::new(vec![0; usize::from(slots) * DEK_BYTES]);
        fill_random(&mut keys);
        Self { slots, dead: [0; 16], keys }
    }

    pub fn is_dead(&self, slot: u8) -> bool {
        self.dead.get(usize::from(slot / 8)).is_none_or(|b| b & (1 << (slot % 8)) != 0)
    }

    /// Zeroes a slot; false if it was dead or does not exist.
    pub fn kill(&mut self, slot: u8) -> bool {
        if slot >= self.slots || self.is_dead(slot) {
            return false;
        }
        let from = usize::from(slot) * DEK_BYTES;
        if let Some(key) = self.keys.get_mut(from..from + DEK_BYTES) {
            key.zeroize();
        }
        if let Some(byte) = self.dead.get_mut(usize::from(slot / 8)) {
            *byte |= 1 << (slot % 8);
        }
        true
    }

    /// Gives fresh keys to the slots from `first` on, which nobody was ever handed.
    pub fn rerandomise_from(&mut self, first: u8) {
        if let Some(rest) = self.keys.get_mut(usize::from(first) * DEK_BYTES..) {
            fill_random(rest);
        }
    }

    pub fn all_dead(&self) -> bool {
        (0..self.slots).all(|s| self.is_dead(s))
    }
}

/// A body's plaintext, zeroized when dropped.
pub type Plain = SecretBytes;

impl Body {
    /// The bytes that are sealed.
    pub fn into_plain(self) -> Plain {
        match self {
            Body::Dir(dir) => dir.into_plain(),
            Body::Page(page) => page.keys,
            Body::Leaf(leaf) => {
                let mut out = SecretBytes::with_capacity(2 + leaf.listings.len() * LEAF_ENTRY);
                out.extend_from_slice(&(leaf.listings.len() as u16).to_be_bytes());
                for l in &leaf.listings {
                    out.extend_from_slice(&l.token);
                    out.extend_from_slice(&l.page.to_be_bytes()[1..]);
                    out.push(l.slot);
                }
                out
            }
        }
    }

    /// The part that is in clear.
    pub fn aux(&self) -> Vec<u8> {
        match self {
            Body::Page(page) => [&[page.slots], page.dead.as_slice()].concat(),
            _ => Vec::new(),
        }
    }

    pub fn decode(kind: NodeKind, aux: &[u8], plain: &[u8]) -> Result<Body, NodeDamaged> {
        match kind {
            NodeKind::Page => {
                let (slots, dead) = aux.split_first().ok_or(NodeDamaged)?;
                let dead = <[u8; 16]>::try_from(dead).map_err(|_| NodeDamaged)?;
                if *slots > PAGE_SLOTS_MAX || plain.len() != usize::from(*slots) * DEK_BYTES {
                    return Err(NodeDamaged);
                }
                Ok(Body::Page(Page { slots: *slots, dead, keys: SecretBytes::new(plain.to_vec()) }))
            }
            NodeKind::Leaf => {
                Ok(Body::Leaf(Leaf { listings: LeafView::new(plain)?.iter().collect() }))
            }
            _ => Dir::decode(plain).map(Body::Dir),
        }
    }
}

fn listing(bytes: &[u8]) -> Option<Listing> {
    let (token, rest) = bytes.split_first_chunk()?;
    let [a, b, c, slot] = *rest.first_chunk()?;
    Some(Listing { token: *token, page: u32::from_be_bytes([0, a, b, c]), slot })
}

/// A leaf's plaintext, read in place.
pub struct LeafView<'a> {
    entries: &'a [[u8; LEAF_ENTRY]],
}

impl<'a> LeafView<'a> {
    pub fn new(plain: &'a [u8]) -> Result<Self, NodeDamaged> {
        let (count, rest) = plain.split_first_chunk().ok_or(NodeDamaged)?;
        let (entries, over) = rest.as_chunks();
        if !over.is_empty() || entries.len() != usize::from(u16::from_be_bytes(*count)) {
            return Err(NodeDamaged);
        }
        Ok(Self { entries })
    }

    pub fn iter(&self) -> impl Iterator<Item = Listing> + use<'a> {
        self.entries.iter().filter_map(|e| listing(e))
    }

    /// Those of a token; they are sorted by it.
    pub fn of(&self, token: &[u8; TOKEN_BYTES]) -> impl Iterator<Item = Listing> + use<'a> {
        let first = self.entries.partition_point(|e| e.as_slice() < token.as_slice());
        let token = *token;
        let rest = self.entries.get(first..).unwrap_or_default();
        rest.iter().take_while(move |e| e.starts_with(&token)).filter_map(|e| listing(e))
    }
}

/// The DEK in a page's plaintext.
pub fn dek_in(plain: &[u8], slot: u8) -> Option<Dek> {
    let from = usize::from(slot) * DEK_BYTES;
    plain.get(from..from + DEK_BYTES)?.first_chunk().map(Dek::copied)
}

/// Head of a BUCKET.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketHead {
    pub rtype: crate::id::TypeOrd,
    pub expire_day: crate::id::Day,
    /// Pages below are covered by index runs.
    pub indexed_below: PageOrd,
    pub next_run: u32,
}

impl BucketHead {
    pub fn encode(&self) -> SecretBytes {
        let mut out = SecretBytes::with_capacity(12);
        out.extend_from_slice(&self.rtype.0.to_be_bytes());
        out.extend_from_slice(&self.expire_day.0.to_be_bytes());
        out.extend_from_slice(&self.indexed_below.bytes());
        out.extend_from_slice(&self.next_run.to_be_bytes()[1..]);
        out
    }

    pub fn decode(head: &[u8]) -> Result<Self, NodeDamaged> {
        let [a, b, c, d, e, f, g, h, i, j, k, l] =
            *<&[u8; 12]>::try_from(head).map_err(|_| NodeDamaged)?;
        Ok(Self {
            rtype: crate::id::TypeOrd(u16::from_be_bytes([a, b])),
            expire_day: crate::id::Day(i32::from_be_bytes([c, d, e, f])),
            indexed_below: PageOrd::from_bytes([g, h, i]),
            next_run: u32::from_be_bytes([0, j, k, l]),
        })
    }
}

/// Seals a node into the value of its row.
pub fn seal(
    vault: VaultId,
    path: &Path,
    entry: &Entry,
    Opened { made, aux, plain }: &Opened,
) -> Result<Vec<u8>, NodeDamaged> {
    let length = HEADER + aux.len() + 12 + plain.len() + 16;
    let mut out = Vec::with_capacity(length);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&u32::try_from(length).map_err(|_| NodeDamaged)?.to_be_bytes());
    out.extend_from_slice(&path.bytes());
    out.extend_from_slice(&entry.ver.to_be_bytes());
    out.extend_from_slice(&made.0.to_be_bytes());
    out.push(aux.len() as u8);
    out.extend_from_slice(aux);
    let aad = labels::node_aad(vault, &out);
    seal_append(entry.key.expose(), &aad, plain, &mut out).map_err(|_| NodeDamaged)?;
    Ok(out)
}

/// A node's row, opened: aux in clear, body as plaintext.
pub struct Opened {
    /// The generation that its key was made with.
    pub made: Gen,
    pub aux: Vec<u8>,
    pub plain: Plain,
}

impl Opened {
    pub fn new(made: Gen, body: Body) -> Self {
        Self { made, aux: body.aux(), plain: body.into_plain() }
    }
}

/// Opens the value of a node's row with the key and version that its parent names.
pub fn open(
    vault: VaultId,
    path: &Path,
    entry: &Entry,
    value: &[u8],
) -> Result<Opened, NodeDamaged> {
    let aux_len = match path.kind {
        NodeKind::Page => PAGE_AUX,
        _ => 0,
    };
    let (header, sealed) = value.split_at_checked(HEADER + aux_len).ok_or(NodeDamaged)?;
    let aad = labels::node_aad(vault, header);
    let expected_start = [
        MAGIC.as_slice(),
        &u32::try_from(value.len()).map_err(|_| NodeDamaged)?.to_be_bytes(),
        &path.bytes(),
        &entry.ver.to_be_bytes(),
    ]
    .concat();
    if !header.starts_with(&expected_start) {
        return Err(NodeDamaged);
    }
    let mut sealed = SecretBytes::new(sealed.to_vec());
    let plain = open_in_place(entry.key.expose(), &aad, &mut sealed).map_err(|_| NodeDamaged)?;
    let (_, _, made) = peek(value).ok_or(NodeDamaged)?;
    Ok(Opened {
        made,
        aux: header.get(HEADER..).unwrap_or_default().to_vec(),
        plain: SecretBytes::new(plain.to_vec()),
    })
}

/// Path and version in a node row's clear header; not authenticated.
pub fn peek(value: &[u8]) -> Option<(Path, u64, Gen)> {
    let rest = value.strip_prefix(MAGIC.as_slice())?.get(4..)?;
    let (path, rest) = rest.split_first_chunk::<PATH_BYTES>()?;
    let (ver, rest) = rest.split_first_chunk::<8>()?;
    let generation = rest.first_chunk::<8>()?;
    Some((Path::from_bytes(*path)?, u64::from_be_bytes(*ver), Gen(u64::from_be_bytes(*generation))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{BucketOrd, TenantOrd};

    #[test]
    fn a_node_opens_only_as_what_it_was_sealed() {
        let vault = VaultId([1; 16]);
        let path = Path::page(TenantOrd::of(1), BucketOrd::of(2), PageOrd::of(3));
        let entry = Entry::fresh();
        let mut page = Page::fresh(8);
        let third = page.keys[64..96].to_vec();
        assert!(page.kill(5) && !page.kill(5) && !page.kill(8));
        let page = Opened::new(Gen(4), Body::Page(page));
        let value = seal(vault, &path, &entry, &page).unwrap();
        assert_eq!(peek(&value), Some((path, entry.ver, Gen(4))));
        let opened = open(vault, &path, &entry, &value).unwrap();
        assert_eq!(opened.made, Gen(4));
        assert_eq!(dek_in(&opened.plain, 2).unwrap().expose().as_slice(), third);
        assert_eq!(dek_in(&opened.plain, 5).unwrap().expose(), &[0; 32]);
        assert!(dek_in(&opened.plain, 8).is_none());
        let Body::Page(page) = Body::decode(path.kind, &opened.aux, &opened.plain).unwrap() else {
            panic!("a page")
        };
        assert!(page.is_dead(5) && !page.is_dead(4) && !page.all_dead());

        let other = Path::page(TenantOrd::of(1), BucketOrd::of(2), PageOrd::of(4));
        assert!(open(vault, &other, &entry, &value).is_err());
        assert!(open(VaultId([2; 16]), &path, &entry, &value).is_err());
        let old = Entry { ver: entry.ver ^ 1, key: entry.key.duplicate() };
        assert!(open(vault, &path, &old, &value).is_err());
        for bit in 0..value.len() * 8 {
            let mut bad = value.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(open(vault, &path, &entry, &bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn pages_and_leaves_survive_their_bytes() {
        let aux = [[8].as_slice(), &[0; 16]].concat();
        for len in [0, 32, 8 * 32 - 1, 8 * 32 + 1] {
            assert!(Body::decode(NodeKind::Page, &aux, &vec![0; len]).is_err());
        }
        let listing = Listing { token: [7; 16], page: 0x01_0203, slot: 9 };
        let plain = Body::Leaf(Leaf { listings: vec![listing] }).into_plain();
        let Body::Leaf(leaf) = Body::decode(NodeKind::Leaf, &[], &plain).unwrap() else {
            panic!("a leaf")
        };
        assert!(leaf.listings == [listing]);
        let view = LeafView::new(&plain).unwrap();
        assert!(view.of(&[7; 16]).eq([listing]) && view.of(&[6; 16]).next().is_none());
        assert!(view.of(&[8; 16]).next().is_none());
        for len in 0..plain.len() {
            assert!(LeafView::new(&plain[..len]).is_err());
        }
    }
}

//! Bodies of the nodes that have children: read and changed as the bytes that they are stored as (docs/FORMAT.md §4.3).
//!
//! Invariants: entries are sorted and each child has one; what growing or removing leaves behind is wiped.

use super::node::{Entry, NodeDamaged};
use super::path::ChildKey;
use crate::crypto::{NodeKey, SecretBytes};

/// Bytes of an entry: `level u8 | ord u24 | ver u64 | key[32]`.
const ENTRY: usize = 44;
/// Room for as many new entries before the body moves.
const SPARE: usize = 8 * ENTRY;

fn name_of(child: ChildKey) -> [u8; 4] {
    let [_, a, b, c] = child.ord.to_be_bytes();
    [child.level, a, b, c]
}

/// A directory's plaintext, read in place.
#[derive(Clone, Copy)]
pub struct DirView<'a> {
    pub head: &'a [u8],
    entries: &'a [[u8; ENTRY]],
}

impl<'a> DirView<'a> {
    pub fn new(plain: &'a [u8]) -> Result<Self, NodeDamaged> {
        let (hl, rest) = plain.split_first_chunk().ok_or(NodeDamaged)?;
        let (head, rest) =
            rest.split_at_checked(usize::from(u16::from_be_bytes(*hl))).ok_or(NodeDamaged)?;
        let (count, rest) = rest.split_first_chunk().ok_or(NodeDamaged)?;
        let (entries, over) = rest.as_chunks();
        if !over.is_empty() || entries.len() != usize::from(u16::from_be_bytes(*count)) {
            return Err(NodeDamaged);
        }
        Ok(Self { head, entries })
    }

    pub fn iter(self) -> impl Iterator<Item = (ChildKey, u64, &'a [u8; 32])> {
        self.entries.iter().filter_map(|e| {
            let ([level, a, b, c], rest) = e.split_first_chunk::<4>()?;
            let (ver, key) = rest.split_first_chunk::<8>()?;
            let child = ChildKey { level: *level, ord: u32::from_be_bytes([0, *a, *b, *c]) };
            Some((child, u64::from_be_bytes(*ver), key.first_chunk::<32>()?))
        })
    }

    /// Where a child's entry is, or where it would be.
    fn place(self, child: ChildKey) -> Result<usize, usize> {
        let name = name_of(child);
        self.entries.binary_search_by(|e| e[..4].cmp(&name))
    }

    pub fn find(self, child: ChildKey) -> Option<Entry> {
        let [_, _, _, _, rest @ ..] = self.entries.get(self.place(child).ok()?)?;
        let (ver, key) = rest.split_first_chunk::<8>()?;
        Some(Entry { ver: u64::from_be_bytes(*ver), key: NodeKey::copied(key.first_chunk()?) })
    }
}

/// A directory that is being changed.
pub struct Dir(SecretBytes);

impl Dir {
    /// Without children.
    pub fn new(head: &[u8]) -> Self {
        let mut plain = SecretBytes::with_capacity(4 + head.len() + SPARE);
        plain.extend_from_slice(&(head.len() as u16).to_be_bytes());
        plain.extend_from_slice(head);
        plain.extend_from_slice(&[0, 0]);
        Self(plain)
    }

    pub fn decode(plain: &[u8]) -> Result<Self, NodeDamaged> {
        DirView::new(plain)?;
        let mut own = SecretBytes::with_capacity(plain.len() + SPARE);
        own.extend_from_slice(plain);
        Ok(Self(own))
    }

    pub fn into_plain(self) -> SecretBytes {
        self.0
    }

    fn view(&self) -> DirView<'_> {
        // Both constructors and every change keep the form.
        DirView::new(&self.0).unwrap_or(DirView { head: &[], entries: &[] })
    }

    pub fn head(&self) -> &[u8] {
        self.view().head
    }

    /// Fails if the new head has another length: each kind's is fixed.
    pub fn set_head(&mut self, head: &[u8]) -> Result<(), NodeDamaged> {
        let present = self.0.get_mut(2..2 + head.len()).ok_or(NodeDamaged)?;
        present.copy_from_slice(head);
        if self.head().len() == head.len() { Ok(()) } else { Err(NodeDamaged) }
    }

    pub fn is_empty(&self) -> bool {
        self.view().entries.is_empty()
    }

    /// Byte at which the n-th entry begins; holds also while an entry is being added.
    fn offset(&self, n: usize) -> usize {
        let head = self.0.first_chunk().map_or(0, |hl| usize::from(u16::from_be_bytes(*hl)));
        4 + head + n * ENTRY
    }

    fn set_count(&mut self, count: usize) {
        let at = self.offset(0) - 2;
        if let Some(field) = self.0.get_mut(at..at + 2) {
            field.copy_from_slice(&(count as u16).to_be_bytes());
        }
    }

    /// Sets a child's entry.
    pub fn insert(&mut self, child: ChildKey, entry: &Entry) {
        let (at, count) = (self.view().place(child), self.view().entries.len());
        let start = self.offset(at.unwrap_or_else(|n| n));
        if at.is_err() {
            if self.0.capacity() - self.0.len() < ENTRY {
                let mut wider = SecretBytes::with_capacity(self.0.len() * 2 + SPARE);
                wider.extend_from_slice(&self.0);
                self.0 = wider;
            }
            let end = self.0.len();
            self.0.resize(end + ENTRY, 0);
            self.0.copy_within(start..end, start + ENTRY);
            self.set_count(count + 1);
        }
        if let Some(bytes) = self.0.get_mut(start..start + ENTRY) {
            let (name, rest) = bytes.split_at_mut(4);
            let (ver, key) = rest.split_at_mut(8);
            name.copy_from_slice(&name_of(child));
            ver.copy_from_slice(&entry.ver.to_be_bytes());
            key.copy_from_slice(entry.key.expose());
        }
    }

    /// Takes a child's entry out.
    pub fn remove(&mut self, child: ChildKey) -> Option<Entry> {
        let found = self.view().find(child)?;
        let (at, count) = (self.view().place(child).ok()?, self.view().entries.len());
        let (start, end) = (self.offset(at), self.0.len());
        self.0.copy_within(start + ENTRY..end, start);
        // What is cut off is wiped with the whole buffer when that is dropped.
        self.0.truncate(end - ENTRY);
        self.set_count(count - 1);
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn child(n: u32) -> ChildKey {
        ChildKey { level: (n % 3) as u8, ord: n * 7919 % 5000 }
    }

    #[test]
    fn a_directory_equals_a_sorted_map_after_any_changes() {
        let mut dir = Dir::new(&[1, 2, 3]);
        let mut model = BTreeMap::new();
        for n in 0..600u32 {
            let which = child(n * n % 150);
            if n % 3 == 2 {
                let gone = dir.remove(which).map(|e| (e.ver, *e.key.expose()));
                assert_eq!(gone, model.remove(&which));
            } else {
                let key = [n as u8; 32];
                dir.insert(which, &Entry { ver: u64::from(n), key: NodeKey::copied(&key) });
                model.insert(which, (u64::from(n), key));
            }
            let seen: Vec<_> = dir.view().iter().map(|(c, v, k)| (c, (v, *k))).collect();
            let expected: Vec<_> = model.iter().map(|(c, e)| (*c, *e)).collect();
            assert_eq!(seen, expected);
            assert_eq!(dir.is_empty(), model.is_empty());
            assert_eq!(dir.view().find(which).map(|e| e.ver), model.get(&which).map(|e| e.0));
        }
        assert!(!model.is_empty());
        dir.set_head(&[9, 9, 9]).unwrap();
        assert_eq!(dir.head(), [9, 9, 9]);
        assert!(Dir::new(&[1]).set_head(&[1, 2]).is_err());
        let plain = dir.into_plain();
        assert_eq!(Dir::decode(&plain).unwrap().view().iter().count(), model.len());
        for len in 0..plain.len() {
            assert!(Dir::decode(&plain[..len]).is_err());
        }
    }
}

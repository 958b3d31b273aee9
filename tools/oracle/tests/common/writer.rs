//! A small writer of the format, from `docs/FORMAT.md` alone: enough to make vaults for the reader to open.
//!
//! It shares no code with the reader. Randomness is a counter through SHA-256, so that runs repeat.

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};

pub use super::disk::{Disk, field_map, record_ref, subject_ref};

pub type Key = [u8; 32];
pub type Path = [u8; 14];
pub const KEK: Key = [0x42; 32];
pub const STORE: u32 = 1;
pub const ANCHOR: u32 = 0;

pub fn be24(n: u32) -> [u8; 3] {
    n.to_be_bytes()[1..].try_into().unwrap()
}

pub fn path(kind: u8, tenant: u32, bucket: u32, run: u32, level: u8, ord: u32) -> Path {
    let parts = [&[kind][..], &be24(tenant), &be24(bucket), &be24(run), &[level], &be24(ord)];
    parts.concat().try_into().unwrap()
}

pub fn kid(tenant: u32, bucket: u32, page: u32, slot: u8) -> [u8; 10] {
    [&be24(tenant)[..], &be24(bucket), &be24(page), &[slot]].concat().try_into().unwrap()
}

fn hkdf(salt: &[u8], ikm: &[u8], info: &str, out: &mut [u8]) {
    Hkdf::<Sha256>::new(Some(salt), ikm).expand(info.as_bytes(), out).unwrap();
}

pub struct Page {
    pub slots: Vec<Key>,
    pub dead: [u8; 16],
}

#[derive(Clone, Copy, PartialEq)]
pub enum Mutant {
    None,
    /// The page keeps its key when a slot is erased.
    ReusePageKey,
    /// The root keeps its key.
    ReuseRootKey,
    /// The old anchor slot is not overwritten.
    SkipScrub,
}

pub struct Vault {
    pub id: [u8; 16],
    pub disk: Disk,
    pub pages: BTreeMap<(u32, u32, u32), Page>,
    /// Index entries by (tenant, bucket, run, leaf).
    pub leaves: BTreeMap<(u32, u32, u32, u32), Vec<IndexEntry>>,
    pub heads: BTreeMap<u32, [Key; 2]>,
    pub keys: HashMap<Path, (Key, u64)>,
    pub signing_seed: Key,
    pub ledger: Vec<[u8; 208]>,
    pub gen_: u64,
    /// Length of the pieces in which rows are written.
    pub piece: usize,
    counter: u64,
}

impl Vault {
    pub fn new() -> Self {
        let mut v = Vault {
            id: [7; 16],
            disk: Disk::default(),
            pages: BTreeMap::new(),
            leaves: BTreeMap::new(),
            heads: BTreeMap::new(),
            keys: HashMap::new(),
            signing_seed: [5; 32],
            ledger: Vec::new(),
            gen_: 1,
            piece: usize::MAX,
            counter: 0,
        };
        let header = [b"LTV1\0\x01", &v.id[..], &[0; 8]].concat();
        v.row(b"v", &header);
        v
    }

    pub fn random(&mut self) -> Key {
        self.counter += 1;
        Sha256::digest([b"test randomness", &self.counter.to_be_bytes()[..]].concat()).into()
    }

    /// Writes a row as key and value, one after the other, in pieces.
    pub fn row(&mut self, key: &[u8], value: &[u8]) {
        for piece in [key, value].concat().chunks(self.piece) {
            self.disk.append(STORE, piece);
        }
    }

    pub fn seal(&mut self, key: &Key, label: &str, clear: &[u8], plain: &[u8]) -> Vec<u8> {
        let nonce = &self.random()[..12];
        let aad = [label.as_bytes(), &self.id, clear].concat();
        let payload = Payload { msg: plain, aad: &aad };
        let sealed = Aes256Gcm::new(key.into()).encrypt(nonce.into(), payload).unwrap();
        [clear, nonce, &sealed].concat()
    }

    /// Puts a record version into a slot; returns its DEK.
    pub fn put(&mut self, at: (u32, u32, u32), slot: u8, record: [u8; 16], map: &[u8]) -> Key {
        if !self.pages.contains_key(&at) {
            let slots = (0..8).map(|_| self.random()).collect();
            self.pages.insert(at, Page { slots, dead: [0; 16] });
        }
        let dek = self.pages[&at].slots[slot as usize];
        let mut derived = [0; 32];
        hkdf(&[0; 32], &dek, "lethe/v1/chunk", &mut derived);
        let parts: Vec<&[u8]> = map.chunks(7_936).collect();
        let kid = kid(at.0, at.1, at.2, slot);
        for (n, part) in parts.iter().enumerate() {
            let (chunk, last) = ((n as u16).to_be_bytes(), u8::from(n + 1 == parts.len()));
            let len = (64 + part.len() + 16) as u32;
            let mut clear = [b"LTR1", &len.to_be_bytes()[..], &kid, &record].concat();
            clear.extend(1u64.to_be_bytes()); // rec_ver
            clear.extend(3u16.to_be_bytes()); // type
            clear.extend(9u32.to_be_bytes()); // schema revision
            clear.push(1);
            clear.extend(chunk);
            clear.push(last);
            let value = self.seal(if n == 0 { &dek } else { &derived }, "VR1", &clear, part);
            assert_eq!(value.len(), len as usize);
            self.row(&[b"r", &kid[..], &chunk].concat(), &value);
        }
        dek
    }

    /// Remembers that a request made the version in a slot (section 3.7).
    pub fn remember(&mut self, at: (u32, u32, u32), slot: u8, record: [u8; 16], asked: &[u8]) {
        let mut key = [0; 32];
        hkdf(&[0; 32], &self.pages[&at].slots[slot as usize], "lethe/v1/request", &mut key);
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&key).unwrap();
        mac.update(asked);
        let fingerprint: [u8; 32] = mac.finalize().into_bytes().into();
        let kid = kid(at.0, at.1, at.2, slot);
        let mut row = [b"LTP1\x01", &7i64.to_be_bytes()[..], &record, &1u64.to_be_bytes()].concat();
        row.extend([&kid[..], &fingerprint[..16]].concat());
        self.remembered(at.0, row);
    }

    /// Remembers the last chunk of an import.
    pub fn remember_import(&mut self, tenant: u32, first: u64, records: &[[u8; 16]]) {
        let mut row = [b"LTP1\x04", &7i64.to_be_bytes()[..], &first.to_be_bytes()].concat();
        row.extend((records.len() as u16).to_be_bytes());
        row.extend(records.concat());
        self.remembered(tenant, row);
    }

    /// With the sum at its end, four bits at a time.
    fn remembered(&mut self, tenant: u32, mut row: Vec<u8>) {
        let table: Vec<u32> = (0..16)
            .map(|n| (0..4).fold(n, |c: u32, _| (c >> 1) ^ (0xedb8_8320 & (c & 1).wrapping_neg())))
            .collect();
        let sum = row.iter().fold(!0u32, |crc, byte| {
            let crc = crc ^ u32::from(*byte);
            let crc = table[(crc & 15) as usize] ^ (crc >> 4);
            table[(crc & 15) as usize] ^ (crc >> 4)
        });
        row.extend((!sum).to_be_bytes());
        let id = self.random();
        self.row(&[b"p", &be24(tenant)[..], &id[..16]].concat(), &row);
    }

    /// Tells the audit log of a call about a subject's record with this text (section 9.1).
    pub fn tell(&mut self, seq: u64, subject: [u8; 16], text: &str) {
        let mut entry = [&b"LTE1\x01\x00\x21\x00"[..], &seq.to_be_bytes()].concat();
        entry.resize(77, 0);
        entry.extend([0, 1, 0]);
        entry.extend([subject_ref(subject), record_ref(text)].concat());
        let mut row = [&b"LTD1\x00\x01"[..], &(entry.len() as u16).to_be_bytes()].concat();
        row.extend(entry);
        self.row(&[&b"a"[..], &seq.to_be_bytes()].concat(), &row);
    }

    pub fn put_meta(&mut self, tenant: u32, json: &str) {
        let key = self.head(tenant)[0];
        let len = (32 + json.len() + 16) as u32;
        let clear =
            [b"LTM1", &len.to_be_bytes()[..], &be24(tenant), &[1], &[0; 4], &[0, 0, 0, 1]].concat();
        let value = self.seal(&key, "VM1", &clear, json.as_bytes());
        self.row(&[b"m", &be24(tenant)[..], &[1, 0, 0, 0, 0]].concat(), &value);
    }

    /// K_meta and K_idx of a tenant.
    pub fn head(&mut self, tenant: u32) -> [Key; 2] {
        let fresh = [self.random(), self.random()];
        *self.heads.entry(tenant).or_insert(fresh)
    }

    pub fn put_index(
        &mut self,
        at: (u32, u32, u32),
        leaf: u32,
        slot: u8,
        field: u16,
        value: &[u8],
    ) {
        let key = self.head(at.0)[1];
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&key).unwrap();
        mac.update(&[b"VI1\0\x03", &field.to_be_bytes()[..], value].concat());
        let token = mac.finalize().into_bytes()[..16].try_into().unwrap();
        let entries = self.leaves.entry((at.0, at.1, 0, leaf)).or_default();
        entries.push((token, at.2, slot));
        entries.sort();
    }

    /// Erases a slot and commits: fresh keys from the page to the root, a new generation, both anchor slots.
    pub fn erase(&mut self, at: (u32, u32, u32), slot: u8, mutant: Mutant) {
        let page = self.pages.get_mut(&at).unwrap();
        page.slots[slot as usize] = [0; 32];
        page.dead[slot as usize / 8] |= 1 << (slot % 8);
        let page_path = path(7, at.0, at.1, 0, 0, at.2);
        let root_path = path(1, 0, 0, 0, 0, 0);
        let kept = match mutant {
            Mutant::ReusePageKey => Some((page_path, self.keys[&page_path])),
            Mutant::ReuseRootKey => Some((root_path, self.keys[&root_path])),
            _ => None,
        };
        let touched = |p: &Path| {
            let (t, b) = (be24(at.0), be24(at.1));
            match p[0] {
                1 | 2 => true,
                3 | 4 => p[1..4] == t,
                5 | 6 => p[1..4] == t && p[4..7] == b,
                7 => *p == page_path,
                _ => false,
            }
        };
        self.keys.retain(|p, _| !touched(p));
        if let Some((p, (key, _))) = kept {
            let ver = u64::from_be_bytes(self.random()[..8].try_into().unwrap());
            self.keys.insert(p, (key, ver));
        }
        self.gen_ += 1;
        self.add_leaf(&[1; 32]);
        let slots: &[u8] = if mutant == Mutant::SkipScrub { &[1] } else { &[1, 0] };
        self.commit(slots);
    }

    pub fn add_leaf(&mut self, unit: &[u8; 32]) {
        let mut leaf = b"LTL1\x01\x01\x01\x01".to_vec();
        leaf.extend((self.ledger.len() as u64).to_be_bytes());
        leaf.extend(self.gen_.to_be_bytes());
        leaf.extend([0; 4 + 16]);
        leaf.extend(unit);
        leaf.extend([0; 10 + 32 + 8 + 8 + 4 + 32]);
        leaf.extend(Sha256::digest(self.gen_.to_be_bytes())); // new_rows
        leaf.extend([0; 6]);
        let leaf: [u8; 208] = leaf.try_into().unwrap();
        self.row(&[b"l", &(self.ledger.len() as u64).to_be_bytes()[..]].concat(), &leaf);
        self.ledger.push(leaf);
    }

    pub fn ledger_root(&self) -> [u8; 32] {
        fn hash(leaves: &[[u8; 208]]) -> [u8; 32] {
            match leaves.len() {
                0 => Sha256::digest([]).into(),
                1 => Sha256::digest([&[0][..], &leaves[0]].concat()).into(),
                n => {
                    let half = n.next_power_of_two() / 2;
                    let (a, b) = (hash(&leaves[..half]), hash(&leaves[half..]));
                    Sha256::digest([&[1][..], &a, &b].concat()).into()
                }
            }
        }
        hash(&self.ledger)
    }

    /// Writes every node, then the given anchor slots in that order.
    pub fn commit(&mut self, slots: &[u8]) {
        let (root_ver, root_key) = self.write_tree();
        let ledger_root = self.ledger_root();
        let new_rows: [u8; 32] = Sha256::digest(self.gen_.to_be_bytes()).into();
        let batch = Sha256::digest(
            [b"VH1", &self.gen_.to_be_bytes()[..], &new_rows, &ledger_root].concat(),
        );
        let mut payload = [self.gen_.to_be_bytes(), [0; 8], root_ver.to_be_bytes()].concat();
        payload.extend(root_key);
        payload.extend((self.ledger.len() as u64).to_be_bytes());
        payload.extend(ledger_root);
        payload.extend(batch);
        payload.resize(221, 0);
        for slot in slots {
            self.write_anchor(*slot, &payload);
        }
    }

    fn write_anchor(&mut self, slot: u8, payload: &[u8]) {
        let (mut kek_id, mut key, salt) = ([0; 16], [0; 32], self.random());
        hkdf(&[0; 32], &KEK, "lethe/v1/kek-id", &mut kek_id);
        hkdf(&salt, &KEK, "lethe/v1/anchor", &mut key);
        let nonce = &self.random()[..12];
        let aad = [b"VA1", &self.id[..], &[slot, 0, 1], &kek_id].concat();
        let sealed = Aes256Gcm::new((&key).into())
            .encrypt(nonce.into(), Payload { msg: payload, aad: &aad })
            .unwrap();
        let mut image = [b"LTA1\0\x01", &[slot, 0][..], &self.id, &kek_id, &salt, nonce].concat();
        image.extend((sealed.len() as u32).to_be_bytes());
        image.extend(sealed);
        image.resize(4_096, 0);
        self.disk.write(ANCHOR, 4_096 * slot as usize, &image);
    }

    /// Seals a node under its key (made now if it has none) and writes its row. Returns version and key.
    fn node(&mut self, path: Path, aux: &[u8], body: &[u8]) -> (u64, Key) {
        let fresh = (self.random(), u64::from_be_bytes(self.random()[..8].try_into().unwrap()));
        let (key, ver) = *self.keys.entry(path).or_insert(fresh);
        let len = (39 + aux.len() + 12 + body.len() + 16) as u32;
        let mut clear = [b"LTN1", &len.to_be_bytes()[..], &path].concat();
        clear.extend(ver.to_be_bytes());
        clear.extend(self.gen_.to_be_bytes());
        clear.push(aux.len() as u8);
        clear.extend(aux);
        let value = self.seal(&key, "VN1", &clear, body);
        self.row(&[b"k", &path[..], &ver.to_be_bytes()].concat(), &value);
        (ver, key)
    }

    fn write_tree(&mut self) -> (u64, Key) {
        let mut buckets: BTreeMap<(u32, u32), BTreeMap<u32, (u64, Key)>> = BTreeMap::new();
        let pages: Vec<_> =
            self.pages.iter().map(|(at, p)| (*at, p.slots.concat(), p.dead)).collect();
        for ((t, b, p), body, dead) in pages {
            let aux = [&[(body.len() / 32) as u8][..], &dead].concat();
            let sealed = self.node(path(7, t, b, 0, 0, p), &aux, &body);
            buckets.entry((t, b)).or_default().insert(p, sealed);
        }
        let mut tenants: BTreeMap<u32, BTreeMap<u32, (u64, Key)>> = BTreeMap::new();
        for ((t, b), pages) in buckets {
            let mut entries = self.directory(&|l, o| path(6, t, b, 0, l, o), &pages);
            if let Some((ver, key)) = self.write_index(t, b) {
                entries.push((255, 0, ver, key));
            }
            let head = [&[0, 3][..], &[0x7f, 0xff, 0xff, 0xff], &[0; 6]].concat();
            let sealed = self.node(path(5, t, b, 0, 0, 0), &[], &body(&head, &entries));
            tenants.entry(t).or_default().insert(b, sealed);
        }
        let mut top = BTreeMap::new();
        for (t, buckets) in tenants {
            let entries = self.directory(&|l, o| path(4, t, 0, 0, l, o), &buckets);
            let head = [&self.head(t).concat()[..], &[9; 16], &[0; 3]].concat();
            top.insert(t, self.node(path(3, t, 0, 0, 0, 0), &[], &body(&head, &entries)));
        }
        let entries = self.directory(&|l, o| path(2, 0, 0, 0, l, o), &top);
        let seed = self.signing_seed;
        self.node(path(1, 0, 0, 0, 0, 0), &[], &body(&seed, &entries))
    }

    fn write_index(&mut self, t: u32, b: u32) -> Option<(u64, Key)> {
        let own = self.leaves.iter().filter(|(at, _)| (at.0, at.1) == (t, b));
        let own: Vec<_> = own.map(|(at, entries)| (at.3, entries.clone())).collect();
        let mut leaves = BTreeMap::new();
        for (leaf, entries) in own {
            let mut body = (entries.len() as u16).to_be_bytes().to_vec();
            for (token, page, slot) in entries {
                body.extend([&token[..], &be24(page), &[slot]].concat());
            }
            leaves.insert(leaf, self.node(path(12, t, b, 0, 0, leaf), &[], &body));
        }
        if leaves.is_empty() {
            return None;
        }
        let entries = self.directory(&|l, o| path(11, t, b, 0, l, o), &leaves);
        let run = self.node(path(10, t, b, 0, 0, 0), &[], &body(&[20, 0, 1, 0, 0, 0, 1], &entries));
        let entries = vec![(0, 0, run.0, run.1)];
        Some(self.node(path(8, t, b, 0, 0, 0), &[], &body(&[], &entries)))
    }

    /// Writes the directory nodes for `children`; returns the entries of the owner.
    fn directory(
        &mut self,
        at: &dyn Fn(u8, u32) -> Path,
        children: &BTreeMap<u32, (u64, Key)>,
    ) -> Vec<Entry> {
        let range = |n: u32| match n {
            0..=63 => (0, 0),
            64..=2_111 => (1, 64),
            2_112..=133_183 => (2, 2_112),
            _ => (3, 133_184),
        };
        let mut levels: Vec<BTreeMap<u32, Entries>> = vec![BTreeMap::new(); 4];
        let mut owner: Entries = BTreeMap::new();
        for (n, (ver, key)) in children {
            let (top, start) = range(*n);
            let entry = (0, *n, *ver, *key);
            match top {
                0 => owner.insert((0, *n), entry),
                _ => levels[1]
                    .entry(start + (n - start) / 64 * 64)
                    .or_default()
                    .insert((0, *n), entry),
            };
        }
        for level in 1..=3u8 {
            for (ord, entries) in std::mem::take(&mut levels[level as usize]) {
                let entries: Vec<Entry> = entries.into_values().collect();
                let (ver, key) = self.node(at(level, ord), &[], &body(&[], &entries));
                let (top, start) = range(ord);
                let entry = (level, ord, ver, key);
                if top == level {
                    owner.insert((level, ord), entry);
                } else {
                    let span = 64u32.pow(u32::from(level) + 1);
                    let above = start + (ord - start) / span * span;
                    levels[level as usize + 1]
                        .entry(above)
                        .or_default()
                        .insert((level, ord), entry);
                }
            }
        }
        owner.into_values().collect()
    }
}

type Entry = (u8, u32, u64, Key);
/// Entries by (level, ordinal), which is their order in a body.
type Entries = BTreeMap<(u8, u32), Entry>;
/// Token, page, slot.
type IndexEntry = ([u8; 16], u32, u8);

fn body(head: &[u8], entries: &[Entry]) -> Vec<u8> {
    let mut out = (head.len() as u16).to_be_bytes().to_vec();
    out.extend(head);
    out.extend((entries.len() as u16).to_be_bytes());
    for (level, ord, ver, key) in entries {
        out.extend([&[*level][..], &be24(*ord), &ver.to_be_bytes(), key].concat());
    }
    out
}

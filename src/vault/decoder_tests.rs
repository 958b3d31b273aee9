//! R11, quickly: every decoder of the vault and its keys, fed random and mutated bytes for a bounded time. None may
//! panic,
//! and what decodes must be what encodes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::fieldmap::FieldMap;
use super::ledger::{LEAF_BYTES, Receipt, append};
use super::registry::{Meta, TenantInfo};
use super::rows::{Intent, Pointer, Tombstone, record_in};
use super::schema::Schema;
use super::{Setup, Vault, sealed};
use crate::audit::Member;
use crate::class::ErasureReason;
use crate::clock::{SystemClock, UnixMillis};
use crate::crypto::merkle::Frontier;
use crate::crypto::{Dek, Kek, MetaKey, Signer};
use crate::id::{BucketOrd, Gen, Kid, PageOrd, RecVer, RecordId, TenantOrd, TypeOrd, VaultId};
use crate::keys::anchor::{SLOT_BYTES, open_slot};
use crate::keys::dir::DirView;
use crate::keys::kek::{KekSource, create_file};
use crate::keys::node::{self, Body, BucketHead, Entry, Page, dek_in};
use crate::keys::path::{NodeKind, Path};
use crate::keys::{BatchFacts, Erased};
use crate::store::Memory;
use crate::store::sum::with_sum;
use crate::vault::EngineChoice;
use crate::vault::value::Value;

const PATIENCE: Duration = Duration::from_secs(2);
const SEED: u64 = 0x1E7E;
const VAULT: VaultId = VaultId([1; 16]);
const KID: Kid =
    Kid { tenant: TenantOrd::of(1), bucket: BucketOrd::of(2), page: PageOrd::of(3), slot: 4 };

/// xorshift64*.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() >> 33) as usize % n.max(1)
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| self.next() as u8).collect()
    }

    /// Something else that looks much like it.
    fn mutate(&mut self, good: &[u8]) -> Vec<u8> {
        let mut bytes = good.to_vec();
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len());
            match self.below(6) {
                0 => bytes.truncate(at),
                1 => bytes.extend(self.bytes(40)),
                2 if !bytes.is_empty() => bytes[at] = [0, 1, 0x7F, 0x80, 0xFF][self.below(5)],
                3 => drop(bytes.splice(at..at, self.bytes(9))),
                4 => {
                    let end = bytes.len().min(at + self.below(9));
                    let _ = bytes.drain(at..end);
                }
                _ if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                _ => {}
            }
        }
        bytes
    }
}

fn field_map() -> FieldMap {
    FieldMap {
        subject: RecordId([9; 16]),
        member: Member { subject: [6; 16], record: [4; 16] },
        created: UnixMillis(1),
        updated: UnixMillis(2),
        used: UnixMillis(3),
        fields: [
            (crate::id::FieldOrd(1), Value::Text("text".into())),
            (crate::id::FieldOrd(2), Value::Integer(-5)),
            (crate::id::FieldOrd(3), Value::Bytes(vec![7; 60])),
            (crate::id::FieldOrd(4), Value::Boolean(true)),
        ]
        .into(),
    }
}

/// Something good for each decoder to start from.
struct Corpus {
    dir: Vec<u8>,
    page: Vec<u8>,
    map: Vec<u8>,
    record: Vec<u8>,
    small: Vec<Vec<u8>>,
    frontier: Vec<u8>,
    leaf: Vec<u8>,
    schema: Vec<u8>,
    tenant: Vec<u8>,
    entry: Entry,
    dek: Dek,
}

fn corpus() -> Corpus {
    let facts = BatchFacts { generation: Gen(3), old_rows: [1; 32], new_rows: [2; 32] };
    let draft = super::ledger::LeafDraft::plain(super::ledger::LeafKind::Rekey, UnixMillis(4));
    let made = append(Frontier::default(), &[draft.clone(), draft], &facts, UnixMillis(5));
    let (entry, dek) = (Entry::fresh(), Dek::generate());
    let page = node::Opened::new(Gen(1), Body::Page(Page::fresh(8)));
    let version = sealed::Version {
        kid: KID,
        record: RecordId([8; 16]),
        rec_ver: RecVer(1),
        rtype: TypeOrd(1),
        schema_rev: 1,
    };
    let pointer = Pointer { kid: KID, rec_ver: RecVer(1), rtype: TypeOrd(1) };
    let intent = Intent {
        kid: KID,
        record: RecordId([8; 16]),
        rec_ver: RecVer(1),
        rtype: TypeOrd(1),
        reason: ErasureReason::Superseded,
        requested: UnixMillis(1),
    };
    let tombstone = Tombstone {
        reason: ErasureReason::Contract,
        rtype: TypeOrd(6),
        generation: Gen(1),
        leaf_seq: 2,
        requested: UnixMillis(3),
        removed: UnixMillis(4),
        leaf: [5; 32],
    };
    Corpus {
        dir: [&[0, 2, 7, 7, 0, 1, 0, 0, 0, 5], [3; 40].as_slice()].concat(),
        page: node::seal(VAULT, &Path::page_of(KID), &entry, &page).unwrap(),
        map: field_map().encode().unwrap().to_vec(),
        record: sealed::seal(VAULT, &version, &dek, &field_map()).unwrap().remove(0).1,
        small: vec![pointer.encode(), intent.encode(), tombstone.encode()],
        frontier: made.frontier.encode(),
        leaf: made.leaves[0].clone(),
        schema: br#"{"type":"t","ord":1,"revision":1,"updated":1,"retention":"P3Y6M",
            "next_field":2,"fields":[{"name":"a","ord":1,"kind":"TEXT"}]}"#
            .to_vec(),
        tenant: br#"{"id":"acme","display_name":"A","created_ms":1}"#.to_vec(),
        entry,
        dek,
    }
}

fn keys(bytes: &[u8], c: &Corpus) {
    for n in 0..14 {
        let Some(kind) = NodeKind::from_number(n) else { continue };
        let (aux, plain) = bytes.split_at(bytes.len().min(17));
        if let Ok(body) = Body::decode(kind, aux, plain) {
            assert_eq!(body.into_plain().to_vec(), plain, "what decodes is what encodes");
        }
        let _ = Body::decode(kind, &[], bytes);
    }
    if let Ok(view) = DirView::new(bytes) {
        assert!(view.iter().count() <= bytes.len() / 44);
    }
    let _ = BucketHead::decode(bytes);
    (0..=u8::MAX).step_by(51).for_each(|slot| drop(dek_in(bytes, slot)));
    let _ = node::peek(bytes);
    assert!(node::open(VAULT, &Path::page_of(KID), &c.entry, bytes).is_err() || bytes == c.page);
    let _ = Erased::from_row(bytes);
    if let Some(path) = bytes.first_chunk().and_then(|b| Path::from_bytes(*b)) {
        let _ = path.parent();
    }
    let _ = crate::keys::vault_in(bytes);
}

fn rows(bytes: &[u8], c: &Corpus, meta: &MetaKey, signer: &Signer) {
    if let Ok(map) = FieldMap::decode(bytes) {
        assert_eq!(map.encode().unwrap().to_vec(), bytes, "what decodes is what encodes");
    }
    // With a sum that fits, the decoders behind it are reached.
    for row in [bytes.to_vec(), with_sum(bytes.to_vec())] {
        let again = [
            Pointer::decode(&row).map(|p| p.encode()),
            Intent::decode(&row).map(|i| i.encode()),
            Tombstone::decode(&row).map(|t| t.encode()),
        ];
        again.into_iter().flatten().for_each(|encoded| assert_eq!(encoded, row));
        let _ = Erased::from_row(&row);
    }
    if let Some(frontier) = Frontier::decode(bytes) {
        assert_eq!(frontier.encode(), bytes);
        let _ = frontier.root();
    }
    let _ = (record_in(bytes), sealed::peek(bytes), sealed::parse_key(bytes), Meta::of_key(bytes));
    let _ = serde_json::from_slice::<TenantInfo>(bytes);
    if let Ok(schema) = Schema::from_json(bytes) {
        assert!(Schema::from_json(&schema.to_json()).is_ok_and(|again| again == schema));
    }
    assert!(Meta::Tenant.open(VAULT, TenantOrd::of(1), meta, bytes).is_err());
    let mut one = |chunk| Ok((chunk == 0).then(|| bytes.to_vec()));
    let opened = sealed::open_rows(&mut one, VAULT, KID, &c.dek, None);
    assert!(opened.is_err() || bytes == c.record);
    let erased =
        Erased::from_row(&with_sum(b"LTG1\0\0\0\0\0\0\0\x03\x01\x01\0\0\0\0\0\0\0\x09".to_vec()));
    if let Some(receipt) = Receipt::sign(VAULT, bytes, &erased.unwrap(), signer) {
        assert_eq!(receipt.signed_bytes.len(), 3 + 16 + LEAF_BYTES + 10);
    }
}

#[test]
fn no_decoder_panics_on_any_bytes() {
    let c = corpus();
    let (meta, kek) = (MetaKey::generate(), Kek::generate());
    let signer = Signer::from_seed(&[5; 32]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    create_file(&dir.path().join("kek")).unwrap();
    let data = dir.path().join("data");
    let source = KekSource::File(dir.path().join("kek"));
    let engine = EngineChoice::Given(Arc::new(Memory::new()));
    let setup = Setup::new(data.clone(), data.join("anchor"), engine, source);
    let vault = Vault::create(&setup, Arc::new(SystemClock)).unwrap();
    let token = vault.page_token("caller", &[b"query"], b"cursor").unwrap();
    let slot = std::fs::read(data.join("anchor")).unwrap()[..SLOT_BYTES].to_vec();

    let mut dice = Dice(SEED);
    let (began, mut rounds) = (Instant::now(), 0_u64);
    while began.elapsed() < PATIENCE {
        rounds += 1;
        let small = c.small[dice.below(c.small.len())].clone();
        let goods = [
            &c.dir,
            &c.page,
            &c.map,
            &c.record,
            &small,
            &c.frontier,
            &c.leaf,
            &c.schema,
            &c.tenant,
        ];
        let bytes = match dice.below(10) {
            n if n < goods.len() => dice.mutate(goods[n]),
            _ => dice.bytes(400),
        };
        keys(&bytes, &c);
        rows(&bytes, &c, &meta, &signer);
        // The row without its sum, so that a fitting one is put behind what was changed.
        let inner = dice.mutate(&small[..small.len() - 4]);
        rows(&inner, &c, &meta, &signer);
        let image = dice.mutate(&slot);
        assert!(open_slot(0, &image, std::slice::from_ref(&kek)).is_err());
        let text = String::from_utf8_lossy(&dice.mutate(token.as_bytes())).into_owned();
        let cursor = vault.page_cursor("caller", &[b"query"], &text);
        assert!(cursor.is_err() || text == token || text.is_empty());
    }
    vault.close().unwrap();
    println!("R11 decoders: {rounds} rounds of seed {SEED:#x}");
    assert!(rounds > 500, "only {rounds} rounds");
}

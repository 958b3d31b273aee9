//! The erasure ledger and its receipts (docs/FORMAT.md §7).
//!
//! Invariants: a leaf holds enums, numbers, hashes and random ids, never what a caller wrote; leaves commit with the
//! batch that they describe and count once the anchor's generation is theirs; a receipt is made from a completed batch
//! only.

use crate::class::{ErasureLevel, ErasureReason, Medium};
use crate::clock::UnixMillis;
use crate::crypto::merkle::{Frontier, leaf_hash};
use crate::crypto::{Digest32, Signer, labels, sha256_parts};
use crate::id::{BucketOrd, Gen, Kid, RecVer, RecordId, TenantOrd, VaultId};
use crate::keys::{BatchFacts, Erased};

/// Bytes of a leaf.
pub const LEAF_BYTES: usize = 208;
const MAGIC: &[u8; 4] = b"LTL1";

/// What a leaf is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeafKind {
    Record = 1,
    Level = 2,
    Rotation = 3,
    Bucket = 4,
    Rekey = 5,
}

impl LeafKind {
    fn from_number(n: u8) -> Option<Self> {
        [Self::Record, Self::Level, Self::Rotation, Self::Bucket, Self::Rekey]
            .into_iter()
            .find(|k| *k as u8 == n)
    }
}

/// What a leaf says beside what the batch adds.
#[derive(Clone, Debug)]
pub struct LeafDraft {
    pub kind: LeafKind,
    pub reason: Option<ErasureReason>,
    pub pseudonym: [u8; 16],
    pub unit: Digest32,
    pub kid: [u8; 10],
    /// Of a bucket: the root over what went with it.
    pub request: Digest32,
    /// Of a bucket whose day was over: when it was.
    pub requested: UnixMillis,
    pub count: u32,
    /// Of a `Level` leaf: what it states.
    pub reached: Option<Erased>,
}

impl LeafDraft {
    /// About no unit.
    pub fn plain(kind: LeafKind, requested: UnixMillis) -> Self {
        Self {
            kind,
            reason: None,
            pseudonym: [0; 16],
            unit: [0; 32],
            kid: [0; 10],
            request: [0; 32],
            requested,
            count: 0,
            reached: None,
        }
    }

    pub fn level(reached: Erased) -> Self {
        Self { reached: Some(reached), ..Self::plain(LeafKind::Level, reached.scrubbed()) }
    }

    fn encode(&self, facts: &BatchFacts, seq: u64, index: u32, removed: UnixMillis) -> Vec<u8> {
        let (level, medium, generation, removed) = match &self.reached {
            Some(r) => (r.level() as u8, r.medium() as u8, r.generation(), r.scrubbed()),
            None => (0, 0, facts.generation, removed),
        };
        let mut out = Vec::with_capacity(LEAF_BYTES);
        out.extend_from_slice(MAGIC);
        let reason = self.reason.map_or(0, |r| r as u8);
        out.extend_from_slice(&[self.kind as u8, reason, level, medium]);
        out.extend_from_slice(&seq.to_be_bytes());
        out.extend_from_slice(&generation.0.to_be_bytes());
        out.extend_from_slice(&index.to_be_bytes());
        out.extend_from_slice(&self.pseudonym);
        out.extend_from_slice(&self.unit);
        out.extend_from_slice(&self.kid);
        out.extend_from_slice(&self.request);
        out.extend_from_slice(&self.requested.0.to_be_bytes());
        out.extend_from_slice(&removed.0.to_be_bytes());
        out.extend_from_slice(&self.count.to_be_bytes());
        out.extend_from_slice(&facts.old_rows);
        out.extend_from_slice(&facts.new_rows);
        out.extend_from_slice(&[0; 6]);
        out
    }
}

/// What a leaf says of its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeafFacts {
    /// It states the level of the generation that it names, which is before the batch that it came with.
    pub is_level: bool,
    pub generation: Gen,
    /// When its batch began; of a level, when that was reached.
    pub at: UnixMillis,
}

impl LeafFacts {
    pub fn of(leaf: &[u8]) -> Option<Self> {
        let rest = leaf.strip_prefix(MAGIC.as_slice()).filter(|_| leaf.len() == LEAF_BYTES)?;
        let generation = Gen(u64::from_be_bytes(*leaf.get(16..24)?.first_chunk()?));
        let at = UnixMillis(i64::from_be_bytes(*leaf.get(126..134)?.first_chunk()?));
        let is_level = rest.first() == Some(&(LeafKind::Level as u8));
        Some(Self { is_level, generation, at })
    }
}

/// Why bytes are no leaf of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeafFault {
    #[error("it is not 208 bytes of a ledger's leaf")]
    Shape,
    #[error("it has another place in the ledger")]
    Seq,
    #[error("it has a number that stands for nothing")]
    Number,
}

/// What a leaf at `seq` says, if its bytes are what the format allows.
pub fn check_leaf(leaf: &[u8], seq: u64) -> Result<LeafFacts, LeafFault> {
    let facts = LeafFacts::of(leaf).ok_or(LeafFault::Shape)?;
    let mut rest = Bytes(leaf.get(MAGIC.len()..).unwrap_or_default());
    let [kind, reason, level, medium] = rest.take()?;
    if u64::from_be_bytes(rest.take()?) != seq {
        return Err(LeafFault::Seq);
    }
    // gen, index, pseudonym, unit, kid, request, requested, removed
    let _: [u8; 8 + 4 + 16 + 32 + 10 + 32 + 8 + 8] = rest.take()?;
    let count = u32::from_be_bytes(rest.take()?);
    let _: [u8; 64] = rest.take()?;
    let reserved: [u8; 6] = rest.take()?;
    let kind = LeafKind::from_number(kind).ok_or(LeafFault::Number)?;
    let unit = matches!(kind, LeafKind::Record | LeafKind::Bucket);
    let reasoned =
        (reason != 0) == unit && (reason == 0 || ErasureReason::from_number(reason).is_some());
    let levelled = match kind {
        LeafKind::Level => level <= 3 && (1..=2).contains(&medium),
        _ => (level, medium) == (0, 0),
    };
    // A bucket's leaf says how many records went with it.
    let counted = kind == LeafKind::Bucket || count == u32::from(kind == LeafKind::Record);
    match reasoned && levelled && counted && reserved == [0; 6] {
        true => Ok(facts),
        false => Err(LeafFault::Number),
    }
}

/// All that the leaf of an erasure, or of a level, says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    pub kind: LeafKind,
    pub reason: Option<ErasureReason>,
    /// Of a `Level` leaf: what it states.
    pub reached: Option<(ErasureLevel, Medium)>,
    pub generation: Gen,
    pub unit: Digest32,
    pub kid: Kid,
    pub request: Digest32,
    pub requested: UnixMillis,
    /// Of a `Level` leaf: when that was reached.
    pub removed: UnixMillis,
    pub count: u32,
}

impl Leaf {
    /// What the leaf at `seq` says, if its bytes are what the format allows.
    pub fn decode(leaf: &[u8], seq: u64) -> Result<Self, LeafFault> {
        let facts = check_leaf(leaf, seq)?;
        let mut rest = Bytes(leaf.get(MAGIC.len()..).unwrap_or_default());
        let [kind, reason, level, medium] = rest.take()?;
        // seq, gen, index, pseudonym
        let _: [u8; 8 + 8 + 4 + 16] = rest.take()?;
        let kind = LeafKind::from_number(kind).ok_or(LeafFault::Number)?;
        let reached = ErasureLevel::from_number(level).zip(Medium::from_number(medium));
        Ok(Self {
            kind,
            reason: ErasureReason::from_number(reason),
            reached: reached.filter(|_| kind == LeafKind::Level),
            generation: facts.generation,
            unit: rest.take()?,
            kid: Kid::from_bytes(rest.take()?),
            request: rest.take()?,
            requested: UnixMillis(i64::from_be_bytes(rest.take()?)),
            removed: UnixMillis(i64::from_be_bytes(rest.take()?)),
            count: u32::from_be_bytes(rest.take()?),
        })
    }
}

/// Takes fixed-width parts off the front.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], LeafFault> {
        let (head, rest) = self.0.split_first_chunk().ok_or(LeafFault::Shape)?;
        self.0 = rest;
        Ok(*head)
    }
}

/// Hash that stands for a record version.
pub fn unit_of(vault: VaultId, tenant: TenantOrd, record: RecordId, rec_ver: RecVer) -> Digest32 {
    let rec_ver = rec_ver.0.to_be_bytes();
    sha256_parts(&[labels::UNIT, &vault.0, &tenant.bytes(), &record.0, &rec_ver])
}

/// Hash that stands for a bucket.
pub fn unit_of_bucket(vault: VaultId, tenant: TenantOrd, bucket: BucketOrd) -> Digest32 {
    sha256_parts(&[labels::BUCKET, &vault.0, &tenant.bytes(), &bucket.bytes()])
}

/// The kid field of a bucket's leaf.
pub fn bucket_kid(tenant: TenantOrd, bucket: BucketOrd) -> [u8; 10] {
    let page = crate::id::PageOrd::of(0);
    Kid { tenant, bucket, page, slot: 0 }.bytes()
}

/// Key of a leaf's row.
pub fn leaf_key(seq: u64) -> Vec<u8> {
    [b"l".as_slice(), &seq.to_be_bytes()].concat()
}

/// Key of a generation's frontier row.
pub fn frontier_key(generation: Gen) -> Vec<u8> {
    [b"h".as_slice(), &generation.0.to_be_bytes()].concat()
}

/// A batch's leaves, in order, with what they make of the ledger.
pub struct Appended {
    pub frontier: Frontier,
    /// Rows of the leaves and of the frontier.
    pub rows: Vec<(Vec<u8>, Vec<u8>)>,
    /// The leaves' bytes, in the order of the drafts.
    pub leaves: Vec<Vec<u8>>,
}

/// Appends a batch's leaves to a ledger.
pub fn append(
    mut frontier: Frontier,
    drafts: &[LeafDraft],
    facts: &BatchFacts,
    removed: UnixMillis,
) -> Appended {
    let mut rows = Vec::with_capacity(drafts.len() + 1);
    let mut leaves = Vec::with_capacity(drafts.len());
    for (index, draft) in (0u32..).zip(drafts) {
        let seq = frontier.size();
        let leaf = draft.encode(facts, seq, index, removed);
        frontier.push(leaf_hash(&leaf));
        rows.push((leaf_key(seq), leaf.clone()));
        leaves.push(leaf);
    }
    rows.push((frontier_key(facts.generation), frontier.encode()));
    Appended { frontier, rows, leaves }
}

/// The signed evidence of one erasure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub level: ErasureLevel,
    pub medium: Medium,
    pub reason: ErasureReason,
    pub generation: Gen,
    pub leaf_index: u64,
    pub requested: UnixMillis,
    pub erased: UnixMillis,
    pub signed_bytes: Vec<u8>,
    pub signature: [u8; 64],
    pub public_key: [u8; 32],
}

impl Receipt {
    /// Signs what a completed batch did to the unit of a leaf. `None` if the leaf is not an erasure's.
    pub fn sign(vault: VaultId, leaf: &[u8], erased: &Erased, signer: &Signer) -> Option<Self> {
        let rest = leaf.strip_prefix(MAGIC.as_slice()).filter(|_| leaf.len() == LEAF_BYTES)?;
        let ([_, reason, _, _], rest) = rest.split_first_chunk::<4>()?;
        let (seq, rest) = rest.split_first_chunk()?;
        let generation = Gen(u64::from_be_bytes(*rest.first_chunk()?));
        if generation != erased.generation() {
            return None;
        }
        let requested = i64::from_be_bytes(*leaf.get(118..126)?.first_chunk()?);
        let mut signed_bytes = labels::RECEIPT.to_vec();
        signed_bytes.extend_from_slice(&vault.0);
        signed_bytes.extend_from_slice(leaf);
        signed_bytes.extend_from_slice(&[erased.level() as u8, erased.medium() as u8]);
        signed_bytes.extend_from_slice(&erased.scrubbed().0.to_be_bytes());
        Some(Self {
            level: erased.level(),
            medium: erased.medium(),
            reason: ErasureReason::from_number(*reason)?,
            generation,
            leaf_index: u64::from_be_bytes(*seq),
            requested: UnixMillis(requested),
            erased: erased.scrubbed(),
            signature: signer.sign(&signed_bytes),
            public_key: signer.public_key(),
            signed_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_is_signed_with_the_level_of_its_own_generation_only() {
        let facts = BatchFacts { generation: Gen(3), old_rows: [1; 32], new_rows: [2; 32] };
        let draft = LeafDraft {
            reason: Some(ErasureReason::Contract),
            ..LeafDraft::plain(LeafKind::Record, UnixMillis(1))
        };
        let made = append(Frontier::default(), &[draft], &facts, UnixMillis(9));
        let signer = Signer::from_seed(&[5; 32]).unwrap();
        let sign = |generation| {
            let level =
                [b"LTG1".as_slice(), &u64::to_be_bytes(generation), &[1, 1], &[0; 8]].concat();
            let erased = Erased::from_row(&crate::store::sum::with_sum(level)).unwrap();
            Receipt::sign(VaultId([1; 16]), &made.leaves[0], &erased, &signer)
        };
        assert!(sign(3).is_some() && sign(2).is_none() && sign(4).is_none());
    }

    #[test]
    fn leaves_have_the_size_of_the_format_and_the_frontier_survives_its_row() {
        let facts = BatchFacts { generation: Gen(3), old_rows: [1; 32], new_rows: [2; 32] };
        let drafts: Vec<LeafDraft> =
            (0..5).map(|n| LeafDraft::plain(LeafKind::Rekey, UnixMillis(n))).collect();
        let made = append(Frontier::default(), &drafts, &facts, UnixMillis(9));
        assert!(made.leaves.iter().all(|l| l.len() == LEAF_BYTES));
        assert_eq!(made.leaves[2][118..126], 2i64.to_be_bytes());
        let told = LeafFacts { is_level: false, generation: Gen(3), at: UnixMillis(9) };
        assert_eq!(LeafFacts::of(&made.leaves[2]), Some(told));
        assert_eq!(LeafFacts::of(&made.leaves[2][1..]), None);
        assert_eq!(made.leaves[2][8..16], 2u64.to_be_bytes());
        let leaf = Leaf::decode(&made.leaves[2], 2).unwrap();
        assert_eq!((leaf.kind, leaf.generation), (LeafKind::Rekey, Gen(3)));
        assert_eq!((leaf.requested, leaf.removed), (UnixMillis(2), UnixMillis(9)));
        assert_eq!(Leaf::decode(&made.leaves[2], 3), Err(LeafFault::Seq));
        let (_, row) = made.rows.last().unwrap();
        assert_eq!(Frontier::decode(row), Some(made.frontier.clone()));
        let again = append(made.frontier.clone(), &drafts, &facts, UnixMillis(9));
        assert_eq!((again.frontier.size(), again.rows[0].0.clone()), (10, leaf_key(5)));
    }
}

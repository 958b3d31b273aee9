//! Certificates of every kind as a vault makes them, with a ledger around them, for the tests of their check.

use std::convert::Infallible;

use super::super::super::document::{Membership, path_text};
use super::super::super::facts::{
    Approval, AskedBy, Backups, Basis, Destroyed, Erasure, RuleFacts, VaultFacts, basis_text,
    not_covered, sources,
};
use super::super::*;
use crate::class::{ErasureLevel, Medium};
use crate::crypto::checkpoint::Origin;
use crate::crypto::merkle::tile::root_of;
use crate::crypto::merkle::{Frontier, Node, consistency, inclusion};
use crate::crypto::{SaltKey, Signer};
use crate::id::{BucketOrd, Gen, Kid, PageOrd, TenantOrd};
use crate::keys::{BatchFacts, Erased};
use crate::store::sum::with_sum;
use crate::vault::ledger::{LeafDraft, append, bucket_kid};
use crate::vault::retention::manifest::Leaves;

pub const VAULT: VaultId = VaultId([5; 16]);
pub const RECORD: RecordId = RecordId([7; 16]);
const DATE: &str = "2026-05-11";

pub fn due() -> UnixMillis {
    end_in_utc(parse_iso_date(DATE).unwrap())
}

/// A vault's ledger as far as a certificate needs it.
pub struct Ledger {
    vault: VaultId,
    pub signer: Signer,
    leaves: Vec<Vec<u8>>,
}

impl Ledger {
    /// Five leaves, then the erasure in generation 9, then its level, then another leaf.
    fn with(vault: VaultId, seed: u8, erasure: &[LeafDraft], removed: UnixMillis) -> Self {
        let facts = |generation| BatchFacts {
            generation: Gen(generation),
            old_rows: [1; 32],
            new_rows: [2; 32],
        };
        let plain = |n| LeafDraft::plain(LeafKind::Rekey, UnixMillis(n));
        let five: Vec<LeafDraft> = (0..5).map(plain).collect();
        let first = append(Frontier::default(), &five, &facts(8), UnixMillis(1));
        let second = append(first.frontier, erasure, &facts(9), removed);
        let scrubbed = (removed.0 + 5).to_be_bytes();
        let row = [b"LTG1".as_slice(), &9u64.to_be_bytes(), &[1, 1], &scrubbed].concat();
        let level = LeafDraft::level(Erased::from_row(&with_sum(row)).unwrap());
        let third = append(second.frontier, &[level, plain(6)], &facts(10), UnixMillis(7));
        let leaves = [first.leaves, second.leaves, third.leaves].concat();
        Self { vault, signer: Signer::from_seed(&[seed; 32]).unwrap(), leaves }
    }

    fn root_of(&self, start: u64, end: u64) -> Digest32 {
        let mut part = Frontier::default();
        let leaves = &self.leaves[start as usize..end as usize];
        leaves.iter().for_each(|leaf| part.push(leaf_hash(leaf)));
        part.root()
    }

    pub fn checkpoint(&self, size: u64) -> Checkpoint {
        let origin = Origin { vault: self.vault, log: Log::Ledger };
        Checkpoint { origin, size, root: self.root_of(0, size) }
    }

    fn nodes(&self) -> impl FnMut(Node) -> Result<Digest32, Infallible> + '_ {
        |node| {
            let start = node.index << node.level;
            Ok(self.root_of(start, start + (1 << node.level)))
        }
    }

    fn proved(&self, index: u64, size: u64) -> ProvedLeaf {
        let path = inclusion(index, size, &mut self.nodes()).unwrap().unwrap();
        let leaf = STANDARD.encode(&self.leaves[index as usize]);
        ProvedLeaf { index, leaf, path: path_text(&path) }
    }

    pub fn bridge(&self, old: u64, new: u64) -> Vec<Digest32> {
        consistency(old, new, &mut self.nodes()).unwrap().unwrap()
    }
}

/// Who is on the bucket's list.
fn ids() -> Vec<RecordId> {
    (0..9).map(|n| RecordId([n; 16])).collect()
}

fn salts() -> SaltKey {
    SaltKey::copied(&[4; 32])
}

/// A certificate of each kind with everything that belongs to it, as a vault makes it.
pub struct Made {
    pub ledger: Ledger,
    pub document: Document,
    pub size: u64,
}

impl Made {
    pub fn of(kind: Kind) -> Self {
        Self::at(VAULT, 3, kind, UnixMillis(due().0 + 1_234))
    }

    pub fn at(vault: VaultId, seed: u8, kind: Kind, removed: UnixMillis) -> Self {
        let (tenant, bucket) = (TenantOrd::of(1), BucketOrd::of(2));
        let key = salts();
        let list = Leaves { vault, bucket: (tenant, bucket), key: &key };
        let of_bucket = matches!(kind, Kind::Bucket | Kind::RecordWithBucket);
        let root = list.sum_up(&ids()).0;
        let reason =
            if of_bucket { ErasureReason::Retention } else { ErasureReason::SubjectRequest };
        let kid = Kid { tenant, bucket, page: PageOrd::of(3), slot: 4 };
        let draft = |kind, unit, kid: [u8; 10], request, count| LeafDraft {
            reason: Some(reason),
            unit,
            kid,
            request,
            count,
            ..LeafDraft::plain(kind, due())
        };
        let drafts = match of_bucket {
            true => {
                let unit = unit_of_bucket(vault, tenant, bucket);
                let next = BucketOrd::of(3);
                let other = unit_of_bucket(vault, tenant, next);
                vec![
                    draft(LeafKind::Bucket, unit, bucket_kid(tenant, bucket), root, 9),
                    draft(LeafKind::Bucket, other, bucket_kid(tenant, next), [8; 32], 4),
                ]
            }
            false => {
                let unit = unit_of(vault, tenant, RECORD, RecVer(3));
                vec![draft(LeafKind::Record, unit, kid.bytes(), [0; 32], 1)]
            }
        };
        let ledger = Ledger::with(vault, seed, &drafts, removed);
        let parts = if kind == Kind::Bucket { 2 } else { 1 };
        let level_at = 5 + drafts.len() as u64;
        let leaf = |index: u64| LeafFacts {
            index,
            hash: hex(&leaf_hash(&ledger.leaves[index as usize])),
            records: drafts[(index - 5) as usize].count.into(),
            root: of_bucket.then(|| hex(&drafts[(index - 5) as usize].request)),
        };
        let (name, records) = match kind {
            Kind::Bucket => (format!("tenants/a/schemas/visit/buckets/{DATE}"), 13),
            Kind::Subject => (format!("tenants/a/subjects/{RECORD}"), 1),
            Kind::Record | Kind::RecordWithBucket => (format!("tenants/a/records/{RECORD}"), 1),
        };
        let size = ledger.leaves.len() as u64;
        let own_rule = RuleFacts {
            name: "tenants/a/retentionPolicies/law".into(),
            revision: 2,
            legal_basis: "HGB § 257 <script>alert(1)</script>\u{202e}".into(),
        };
        let (asked, asker) = match of_bucket {
            true => (AskerKind::Schedule, "the vault's own retention schedule"),
            false => (AskerKind::Caller, "spiffe://test/someone"),
        };
        let facts = Facts {
            format: FORMAT.into(),
            vault: VaultFacts {
                name: ledger.checkpoint(1).origin.to_string(),
                public_key: hex(&ledger.signer.public_key()),
            },
            destroyed: Destroyed {
                kind,
                name,
                record_type: (kind != Kind::Subject).then(|| "visit".into()),
                version: (!of_bucket).then_some(3),
                expire_date: of_bucket.then(|| DATE.into()),
                records,
                leaves: (5..5 + parts).map(leaf).collect(),
            },
            erasure: Erasure {
                generation: 9,
                reason: reason.name().into(),
                due: of_bucket.then(|| instant(due())),
                requested: instant(due()),
                removed: instant(removed),
                completed: instant(UnixMillis(removed.0 + 5)),
                level: ErasureLevel::LocalAnchor.name().into(),
                medium: medium_name(Medium::InPlaceFile).into(),
                level_leaf: Some(level_at),
            },
            basis: Basis { text: basis_text(reason).into(), rules: vec![own_rule] },
            asked_by: AskedBy { kind: asked, name: asker.into(), call: String::new() },
            approved_by: Approval { required: false, by: Vec::new(), text: "none".into() },
            backups: Backups { inside_window: 0, text: "none".into() },
            issued: instant(UnixMillis(removed.0 + 9)),
            sources: sources(kind, true),
            not_covered: not_covered(kind, ErasureLevel::LocalAnchor),
        };
        let made = Document::sign(vault, facts, &ledger.signer).unwrap();
        let hashes = list.hashes(&ids());
        let mut node = |node: Node| {
            let whole = hashes.chunks(1 << node.level).nth(node.index as usize);
            Ok::<_, Infallible>(root_of(whole.unwrap()))
        };
        let path = inclusion(7, 9, &mut node).unwrap().unwrap();
        let salt = STANDARD.encode(list.salt(RECORD));
        let member = Membership { index: 7, salt, path: path_text(&path) };
        let document = Document {
            leaves: (5..5 + parts).map(|index| ledger.proved(index, size)).collect(),
            level_leaf: Some(ledger.proved(level_at, size)),
            membership: (kind == Kind::RecordWithBucket).then_some(member),
            checkpoint: ledger.checkpoint(size).sign(&ledger.signer, []).unwrap(),
            ..made
        };
        Self { ledger, document, size }
    }

    pub fn check(&self, document: &Document) -> Result<u64, Refusal> {
        self.check_for(document, None)
    }

    pub fn check_for(&self, document: &Document, record: Option<RecordId>) -> Result<u64, Refusal> {
        let checkpoint = &self.ledger.checkpoint(self.size);
        let public_key = self.ledger.signer.public_key();
        let held = Held { public_key, checkpoint, bridge: None, record };
        verify(document, &held).map(|checked| checked.facts.destroyed.records)
    }

    /// What a vault would sign if it lied.
    pub fn signed_anew(&self, change: impl FnOnce(&mut Facts)) -> Document {
        let mut facts = self.document.facts.clone();
        change(&mut facts);
        let Document { statement, signature, facts, .. } =
            Document::sign(self.ledger.vault, facts, &self.ledger.signer).unwrap();
        Document { statement, signature, facts, ..self.document.clone() }
    }
}

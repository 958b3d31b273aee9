//! Checks a certificate without a vault: nothing is believed but a public key and a checkpoint that are known from
//! elsewhere (docs/CERTIFICATES.md §4).
//!
//! Guarantees: every fact that a leaf of the ledger holds is compared with the leaf's bytes, and each leaf is proved to
//! be under the checkpoint that the caller holds; whatever does not hold is named.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::document::{Document, Malformed, ProvedLeaf, parse_facts, path_of, signed_bytes};
use super::facts::{AskerKind, FORMAT, Facts, Kind, LeafFacts, medium_name};
use crate::class::{ErasureReason, Log};
use crate::clock::UnixMillis;
use crate::crypto::checkpoint::{Checkpoint, CheckpointError};
use crate::crypto::merkle::{ProofError, leaf_hash, verify_consistency, verify_inclusion};
use crate::crypto::note::NoteError;
use crate::crypto::{Digest32, labels, verify_ed25519};
use crate::id::{RecVer, RecordId, VaultId};
use crate::vault::calendar::{format_instant, parse_iso_date};
use crate::vault::ledger::{Leaf, LeafFault, LeafKind, unit_of, unit_of_bucket};
use crate::vault::retention::zone::end_in_utc;

/// What whoever verifies knows from elsewhere.
pub struct Held<'a> {
    pub public_key: [u8; 32],
    /// A checkpoint of the ledger whose signature by that key was checked.
    pub checkpoint: &'a Checkpoint,
    /// The proof of consistency between that and the certificate's, if they have different sizes.
    pub bridge: Option<&'a [Digest32]>,
    /// The certificate must be about this record.
    pub record: Option<RecordId>,
}

/// Why a certificate is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{0}")]
    Malformed(#[from] Malformed),
    #[error("its checkpoint does not hold: {0}: it is of another vault, or its key is another one")]
    OtherKey(CheckpointError),
    #[error("its checkpoint does not hold: {0}")]
    Checkpoint(CheckpointError),
    #[error("its checkpoint is of {found}, and yours of {held}: it is of another vault or log")]
    OtherVault { found: String, held: String },
    #[error(
        "the ledger under your checkpoint is another one than the certificate's: it was rewritten"
    )]
    Rewritten,
    #[error(
        "it is proved to a ledger of {found} leaves, and your checkpoint has {held}: get it with `--checkpoint`, or \
         give a proof of `lethectl log prove consistency` between the two"
    )]
    OtherSize { found: u64, held: u64 },
    #[error("the proof between its checkpoint and yours does not hold: {0}")]
    Bridge(ProofError),
    #[error("{0} is no base64 of the right length")]
    Encoding(&'static str),
    #[error("its statement is not signed by that key: it was changed")]
    Signature,
    #[error("what it shows is not what was signed")]
    Shown,
    #[error("{0} is not what this form of certificate allows")]
    Form(&'static str),
    #[error("leaf {index} does not hold: {why}")]
    Leaf { index: u64, why: LeafFault },
    #[error("leaf {index} is not proved to be in the ledger: {why}")]
    NotIncluded { index: u64, why: ProofError },
    #[error("{field} is not what leaf {index} says")]
    Leafs { field: &'static str, index: u64 },
    #[error("the number of records is not the sum of what its leaves say")]
    Count,
    #[error("the record is not proved to be on the list of what went with its bucket: {0}")]
    NotMember(ProofError),
    #[error("it holds no proof for a record: `lethectl certificate get --record` gets one")]
    NoMember,
    #[error("it is about another record")]
    OtherRecord,
    #[error("it says that it was done before it was due")]
    Early,
}

/// What was verified.
#[derive(Debug)]
pub struct Checked<'a> {
    pub facts: &'a Facts,
    pub checkpoint: Checkpoint,
    /// A leaf of the ledger states the level; else the vault's signature alone does.
    pub level_in_ledger: bool,
}

fn bytes(text: &str, what: &'static str) -> Result<Vec<u8>, Refusal> {
    STANDARD.decode(text).map_err(|_| Refusal::Encoding(what))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

pub fn verify<'a>(document: &'a Document, held: &Held<'_>) -> Result<Checked<'a>, Refusal> {
    let opened = Checkpoint::open(&document.checkpoint, held.public_key).map_err(|e| match e {
        CheckpointError::Note(NoteError::Unsigned) => Refusal::OtherKey(e),
        e => Refusal::Checkpoint(e),
    });
    let checkpoint = opened?.0;
    against(&checkpoint, held)?;
    let vault = checkpoint.origin.vault;
    let facts = signed(document, vault, held.public_key)?;
    if facts.vault.name != checkpoint.origin.to_string() {
        return Err(Refusal::Form("vault.name"));
    }
    let check = Check { document, facts, vault, checkpoint };
    check.leaves()?;
    check.level()?;
    check.times()?;
    check.record(held.record)?;
    let level_in_ledger = document.level_leaf.is_some();
    Ok(Checked { facts, checkpoint, level_in_ledger })
}

/// The certificate's checkpoint against the one that is held.
fn against(found: &Checkpoint, held: &Held<'_>) -> Result<(), Refusal> {
    let mine = held.checkpoint;
    if found.origin != mine.origin || found.origin.log != Log::Ledger {
        let (found, held) = (found.origin.to_string(), mine.origin.to_string());
        return Err(Refusal::OtherVault { found, held });
    }
    let (old, new) = if found.size <= mine.size { (found, mine) } else { (mine, found) };
    if old.size == new.size {
        return if old.root == new.root { Ok(()) } else { Err(Refusal::Rewritten) };
    }
    let (sizes, bridge) = ((found.size, mine.size), held.bridge);
    let bridge = bridge.ok_or(Refusal::OtherSize { found: sizes.0, held: sizes.1 })?;
    verify_consistency((old.size, old.root), (new.size, new.root), bridge).map_err(Refusal::Bridge)
}

/// The facts, if the vault signed them.
fn signed(document: &Document, vault: VaultId, key: [u8; 32]) -> Result<&Facts, Refusal> {
    let statement = bytes(&document.statement, "the statement")?;
    let signature = bytes(&document.signature, "the signature")?;
    if !verify_ed25519(&key, &signed_bytes(vault, &statement), &signature) {
        return Err(Refusal::Signature);
    }
    if parse_facts(&statement)? != document.facts {
        return Err(Refusal::Shown);
    }
    let facts = &document.facts;
    if facts.format != FORMAT {
        return Err(Refusal::Form("format"));
    }
    if facts.vault.public_key != hex(&key) {
        return Err(Refusal::Form("vault.public_key"));
    }
    Ok(facts)
}

struct Check<'a> {
    document: &'a Document,
    facts: &'a Facts,
    vault: VaultId,
    checkpoint: Checkpoint,
}

impl Check<'_> {
    /// A leaf, proved to be where it says.
    fn proved(&self, leaf: &ProvedLeaf) -> Result<(Leaf, Digest32), Refusal> {
        let (index, raw) = (leaf.index, bytes(&leaf.leaf, "a leaf")?);
        let said = Leaf::decode(&raw, index).map_err(|why| Refusal::Leaf { index, why })?;
        let path = path_of(&leaf.path).ok_or(Refusal::Encoding("a hash of a proof"))?;
        let (hash, head) = (leaf_hash(&raw), (self.checkpoint.size, self.checkpoint.root));
        let proof = verify_inclusion(hash, index, head, &path);
        proof.map_err(|why| Refusal::NotIncluded { index, why })?;
        Ok((said, hash))
    }

    fn leaves(&self) -> Result<(), Refusal> {
        let destroyed = &self.facts.destroyed;
        if destroyed.leaves.len() != self.document.leaves.len() {
            return Err(Refusal::Form("destroyed.leaves"));
        }
        if destroyed.kind != Kind::Bucket && destroyed.leaves.len() != 1 {
            return Err(Refusal::Form("destroyed.leaves"));
        }
        let (mut before, mut tenant, mut sum) = (None, None, 0u64);
        for (proved, told) in self.document.leaves.iter().zip(&destroyed.leaves) {
            let index = proved.index;
            let (leaf, hash) = self.proved(proved)?;
            let wrong = |field| Refusal::Leafs { field, index };
            // One leaf is one erasure: the same one twice would count its records twice.
            if before.is_some_and(|before| before >= index) {
                return Err(Refusal::Form("destroyed.leaves"));
            }
            if tenant.is_some_and(|tenant| tenant != leaf.kid.tenant) {
                return Err(wrong("the tenant"));
            }
            (before, tenant) = (Some(index), Some(leaf.kid.tenant));
            self.same(&leaf, hash, told, index)?;
            self.unit(&leaf, index)?;
            sum = sum.checked_add(told.records).ok_or(Refusal::Count)?;
        }
        let records = if destroyed.kind == Kind::Bucket { sum } else { 1 };
        if destroyed.records == records { Ok(()) } else { Err(Refusal::Count) }
    }

    /// What is shown of a leaf, against the leaf.
    fn same(
        &self,
        leaf: &Leaf,
        hash: Digest32,
        told: &LeafFacts,
        index: u64,
    ) -> Result<(), Refusal> {
        let erasure = &self.facts.erasure;
        let is_bucket = matches!(leaf.kind, LeafKind::Bucket);
        let of_bucket = matches!(self.facts.destroyed.kind, Kind::Bucket | Kind::RecordWithBucket);
        let root = is_bucket.then(|| hex(&leaf.request));
        let claims = [
            ("its place", told.index == index),
            ("its hash", told.hash == hex(&hash)),
            (
                "the kind",
                of_bucket == is_bucket && matches!(leaf.kind, LeafKind::Record | LeafKind::Bucket),
            ),
            ("the number of records", told.records == u64::from(leaf.count)),
            ("the root of the list", told.root == root),
            ("the generation", erasure.generation == leaf.generation.0),
            ("the reason", leaf.reason.map(ErasureReason::name) == Some(erasure.reason.as_str())),
            (
                "the time of the request",
                format_instant(leaf.requested).as_ref() == Some(&erasure.requested),
            ),
            (
                "the time of the removal",
                format_instant(leaf.removed).as_ref() == Some(&erasure.removed),
            ),
        ];
        match claims.iter().find(|(_, holds)| !holds) {
            Some((field, _)) => Err(Refusal::Leafs { field, index }),
            None => Ok(()),
        }
    }

    /// What the hash in the leaf stands for.
    fn unit(&self, leaf: &Leaf, index: u64) -> Result<(), Refusal> {
        let destroyed = &self.facts.destroyed;
        let unit = match destroyed.kind {
            Kind::Bucket | Kind::RecordWithBucket => {
                unit_of_bucket(self.vault, leaf.kid.tenant, leaf.kid.bucket)
            }
            Kind::Record | Kind::Subject => {
                let record = self.named()?.ok_or(Refusal::Form("destroyed.name"))?;
                let version = destroyed.version.ok_or(Refusal::Form("destroyed.version"))?;
                unit_of(self.vault, leaf.kid.tenant, record, RecVer(version))
            }
        };
        match unit == leaf.unit {
            true => Ok(()),
            false => Err(Refusal::Leafs { field: "what was destroyed", index }),
        }
    }

    /// The id in the name; none in a bucket's.
    fn named(&self) -> Result<Option<RecordId>, Refusal> {
        let destroyed = &self.facts.destroyed;
        let parts: Vec<&str> = destroyed.name.split('/').collect();
        let id = match (destroyed.kind, parts.as_slice()) {
            (Kind::Record | Kind::RecordWithBucket, ["tenants", _, "records", id]) => id,
            (Kind::Subject, ["tenants", _, "subjects", id]) => id,
            (Kind::Bucket, ["tenants", _, "schemas", rtype, "buckets", date])
                if destroyed.record_type.as_deref() == Some(*rtype)
                    && destroyed.expire_date.as_deref().unwrap_or_default() == *date =>
            {
                return Ok(None);
            }
            _ => return Err(Refusal::Form("destroyed.name")),
        };
        RecordId::parse(id).map(Some).ok_or(Refusal::Form("destroyed.name"))
    }

    /// The leaf of the level, if there is one, says the same as the facts.
    fn level(&self) -> Result<(), Refusal> {
        let erasure = &self.facts.erasure;
        let proved = match (&self.document.level_leaf, erasure.level_leaf) {
            (None, None) => return Ok(()),
            (Some(leaf), Some(index)) if leaf.index == index => leaf,
            _ => return Err(Refusal::Form("erasure.level_leaf")),
        };
        let (index, (leaf, _)) = (proved.index, self.proved(proved)?);
        let wrong = |field| Err(Refusal::Leafs { field, index });
        let Some((level, medium)) = leaf.reached else { return wrong("the kind") };
        if self.document.leaves.iter().any(|l| l.index >= index) {
            return Err(Refusal::Form("erasure.level_leaf"));
        }
        let claims = [
            ("the generation", leaf.generation.0 == erasure.generation),
            ("the level", level.name() == erasure.level),
            ("the medium", medium_name(medium) == erasure.medium),
            (
                "the time of completion",
                format_instant(leaf.removed).as_ref() == Some(&erasure.completed),
            ),
        ];
        match claims.iter().find(|(_, holds)| !holds) {
            Some((field, _)) => wrong(field),
            None => Ok(()),
        }
    }

    /// What retention did was due.
    fn times(&self) -> Result<(), Refusal> {
        let (facts, erasure) = (self.facts, &self.facts.erasure);
        let due = match facts.destroyed.expire_date.as_deref() {
            Some(date) => {
                let day = parse_iso_date(date).ok_or(Refusal::Form("destroyed.expire_date"))?;
                format_instant(end_in_utc(day))
            }
            None => None,
        };
        let of_bucket = matches!(facts.destroyed.kind, Kind::Bucket | Kind::RecordWithBucket);
        if of_bucket != due.is_some() {
            return Err(Refusal::Form("destroyed.expire_date"));
        }
        if erasure.due != due {
            return Err(Refusal::Form("erasure.due"));
        }
        let by_schedule = facts.asked_by.kind == AskerKind::Schedule;
        let retention = erasure.reason == ErasureReason::Retention.name();
        if by_schedule && !(retention && due.as_deref() == Some(erasure.requested.as_str())) {
            return Err(Refusal::Form("asked_by"));
        }
        // One spelling and one zone: the order of the texts is that of the moments.
        if by_schedule && due.is_some_and(|due| erasure.removed < due) {
            return Err(Refusal::Early);
        }
        Ok(())
    }

    /// The record that was asked for is the one that this is about.
    fn record(&self, wanted: Option<RecordId>) -> Result<(), Refusal> {
        let named = self.named()?;
        let destroyed = &self.facts.destroyed;
        match (destroyed.kind, &self.document.membership) {
            (Kind::RecordWithBucket, Some(_)) => self.member(named)?,
            (Kind::RecordWithBucket, None) => return Err(Refusal::NoMember),
            (_, Some(_)) => return Err(Refusal::Form("membership")),
            (_, None) => {}
        }
        match (wanted, named) {
            (Some(_), None) => Err(Refusal::NoMember),
            (Some(wanted), Some(named)) if wanted != named => Err(Refusal::OtherRecord),
            _ => Ok(()),
        }
    }

    /// The record is on the list over which the leaf has the root.
    fn member(&self, named: Option<RecordId>) -> Result<(), Refusal> {
        let record = named.ok_or(Refusal::Form("destroyed.name"))?;
        let member = self.document.membership.as_ref().ok_or(Refusal::NoMember)?;
        let proved = self.document.leaves.first().ok_or(Malformed::Leaves)?;
        let (leaf, _) = self.proved(proved)?;
        let salt: [u8; 16] = bytes(&member.salt, "the salt")?
            .try_into()
            .map_err(|_| Refusal::Encoding("the salt"))?;
        let path = path_of(&member.path).ok_or(Refusal::Encoding("a hash of a proof"))?;
        let (tenant, bucket) = (leaf.kid.tenant.bytes(), leaf.kid.bucket.bytes());
        let own = [labels::WENT, &self.vault.0, &tenant, &bucket, &record.0, &salt].concat();
        let head = (u64::from(leaf.count), leaf.request);
        verify_inclusion(leaf_hash(&own), member.index, head, &path).map_err(Refusal::NotMember)
    }
}

/// A moment as certificates write it.
pub(super) fn instant(at: UnixMillis) -> String {
    format_instant(at).unwrap_or_default()
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;

//! What a certificate says, in words and numbers: the part that the vault signs (docs/CERTIFICATES.md §2).
//!
//! Guarantees: every field is there and no other is, or the text is refused; a moment has one spelling; nothing of a
//! record but its random name, its type and its day is in here.

use serde::{Deserialize, Deserializer, Serialize};

use crate::class::{ErasureLevel, ErasureReason, Medium};

/// First words of every certificate of this form.
pub const FORMAT: &str = "lethe/certificate/v1";

/// A field that may be null and may not be left out.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    Option::deserialize(from)
}

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    pub format: String,
    pub vault: VaultFacts,
    pub destroyed: Destroyed,
    pub erasure: Erasure,
    pub basis: Basis,
    pub asked_by: AskedBy,
    pub approved_by: Approval,
    pub backups: Backups,
    /// When the certificate was made.
    pub issued: String,
    /// Which of these the ledger proves, and which only the vault's signature says.
    pub sources: Sources,
    pub not_covered: Vec<String>,
}

/// Whose certificate it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaultFacts {
    /// What its ledger is called in checkpoints.
    pub name: String,
    /// 64 hex digits.
    pub public_key: String,
}

/// What kind of thing was destroyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Kind {
    /// A record, by an erasure of its own.
    Record,
    /// A subject, by an erasure of its own.
    Subject,
    /// Every record of a type that was in the buckets of a day.
    Bucket,
    /// A record, with the bucket that it was in.
    RecordWithBucket,
}

/// What was destroyed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Destroyed {
    pub kind: Kind,
    /// Resource name.
    pub name: String,
    /// Name of the record type; null for a subject.
    #[serde(deserialize_with = "present")]
    pub record_type: Option<String>,
    /// Version of the record or subject that the ledger's leaf names; null for buckets.
    #[serde(deserialize_with = "present")]
    pub version: Option<u64>,
    /// Last day of the bucket, `2026-05-11`; null if none has to do with it.
    #[serde(deserialize_with = "present")]
    pub expire_date: Option<String>,
    /// How many records this certificate is about.
    pub records: u64,
    /// The leaves of the ledger about it.
    pub leaves: Vec<LeafFacts>,
}

/// A leaf, as people are shown it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeafFacts {
    pub index: u64,
    /// RFC 9162 hash of the leaf, hex.
    pub hash: String,
    /// How many records went by it.
    pub records: u64,
    /// Of a bucket: the root over its list of records, hex; else null.
    #[serde(deserialize_with = "present")]
    pub root: Option<String>,
}

/// When it was done, and how far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Erasure {
    pub generation: u64,
    pub reason: String,
    /// When the bucket's day was over; null if no bucket has to do with it.
    #[serde(deserialize_with = "present")]
    pub due: Option<String>,
    /// When it was asked for; of what the schedule did, when it was due.
    pub requested: String,
    /// When the batch that removed the keys began.
    pub removed: String,
    /// When the last old copy of the anchor had been overwritten.
    pub completed: String,
    pub level: String,
    pub medium: String,
    /// The leaf of the ledger that states the level; null if there is none yet.
    #[serde(deserialize_with = "present")]
    pub level_leaf: Option<u64>,
}

/// Why it might be, or had to be, destroyed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Basis {
    pub text: String,
    /// Of retention: the rules for this type of record, as they were when the certificate was made.
    pub rules: Vec<RuleFacts>,
}

/// A rule on how long records are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleFacts {
    /// Resource name of the policy, or of the schema whose own retention it is.
    pub name: String,
    pub revision: u64,
    /// Empty if it names none.
    pub legal_basis: String,
}

/// Who wanted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AskerKind {
    /// A caller: a workload or a person's client, by its certificate.
    Caller,
    /// The vault, because the day was over.
    Schedule,
    /// Nobody that the vault kept.
    NotKept,
}

/// Who wanted it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskedBy {
    pub kind: AskerKind,
    /// URI of the caller's certificate, or what stands for it; else a sentence.
    pub name: String,
    /// The call; empty if it was none.
    pub call: String,
}

/// Who approved it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    pub required: bool,
    pub by: Vec<String>,
    pub text: String,
}

/// What is left in backups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backups {
    /// Backups of the vault's that were made before the erasure and are kept still.
    pub inside_window: u64,
    pub text: String,
}

/// Where the facts come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sources {
    pub proved_by_ledger: Vec<String>,
    pub stated_by_vault: Vec<String>,
}

pub fn medium_name(medium: Medium) -> &'static str {
    match medium {
        Medium::InPlaceFile => "OVERWRITES_IN_PLACE",
        Medium::MayKeepOldBlocks => "MAY_KEEP_OLD_BLOCKS",
    }
}

pub(super) fn basis_text(reason: ErasureReason) -> &'static str {
    match reason {
        ErasureReason::SubjectRequest => {
            "The data subject's request (GDPR art. 17; PIPL art. 47), as the caller said."
        }
        ErasureReason::Retention => {
            "The end of the retention period. Below: the rules for this type of record as they were when this \
             certificate was made; which of them decided for a record cannot be told once it is gone."
        }
        ErasureReason::Contract => "The end of a contract or purpose, as the caller said.",
        ErasureReason::Superseded => "A newer version took its place.",
        ErasureReason::Unacknowledged => "It was never acknowledged to whom it came from.",
        ErasureReason::Moved => "It lives on under another key.",
    }
}

/// Of what a caller called retention, before the day was over or without a day.
pub(super) const NOT_BY_SCHEDULE: &str = "Retention, as the caller said; the vault's own schedule did not ask for it. \
    Below: the rules for this type of record as they were when this certificate was made.";

pub(super) const NO_APPROVAL: &str = "This vault asks for no second person's approval.";

pub(super) const NO_BACKUPS: &str = "The vault makes no backups of its own, so none is kept. Copies of its files that \
    others made, of whatever age, do not open what was destroyed, unless a copy of the anchor from before the erasure \
    is with them.";

pub(super) const BY_SCHEDULE: &str = "the vault's own retention schedule";

pub(super) const NOT_KEPT: &str = "not kept by the vault";

/// What no certificate covers, and what this one does not.
pub(super) fn not_covered(kind: Kind, level: ErasureLevel) -> Vec<String> {
    let mut all = vec![
        "Values that callers read, exported or were sent before the erasure, and what became of them.",
        "Copies of the anchor or of the process's memory that somebody took before the erasure. What lived then opens \
         with them, and so may what was written later, until its keys were renewed (at least daily).",
        "Blocks that a disk replaced by spare ones on its own: the anchor is overwritten in place as far as the file \
         system reaches.",
        "The ciphertext: it may lie in files, snapshots and backups for ever. What is destroyed is its keys.",
        "Other systems that hold the same data.",
    ];
    match kind {
        Kind::Subject => all.push(
            "Records about the subject: each was erased as a unit of its own and has a certificate of its own.",
        ),
        Kind::Record => all.push(
            "Earlier versions of the record: each has a leaf of its own in the ledger, which is not shown here.",
        ),
        Kind::RecordWithBucket | Kind::Bucket => all.push(
            "Earlier versions of the records, and records that were moved to another day: they have leaves of their \
             own in the ledger, which are not shown here.",
        ),
    }
    if level == ErasureLevel::Tombstoned {
        all.push(
            "Level E0 is all that is claimed here: the anchor lies on a medium that may keep old blocks, so the old \
             keys may still be found there.",
        );
    }
    all.into_iter().map(str::to_owned).collect()
}

/// Where the facts come from. `levelled`: a leaf of the ledger states the level.
pub(super) fn sources(kind: Kind, levelled: bool) -> Sources {
    let mut proved = vec![
        "that this vault entered the erasure in its ledger, at which place, in which generation, for which reason",
        "when it was asked for or due, and when the removal began",
    ];
    let mut stated = vec![
        "the names of tenant and record type, and the day of a bucket",
        "the legal basis, who asked, approvals and backups",
    ];
    let level = "the level and the time of completion";
    if levelled {
        proved.push(level)
    } else {
        stated.push(level)
    }
    proved.push(match kind {
        Kind::Record | Kind::Subject => {
            "the id of what was erased, and its version (by the leaf's hash of both)"
        }
        Kind::Bucket => "how many records went, and the root over the list of their ids",
        Kind::RecordWithBucket => {
            "that the record's id is on the list of what went with its bucket"
        }
    });
    let words = |all: Vec<&str>| all.into_iter().map(str::to_owned).collect();
    Sources { proved_by_ledger: words(proved), stated_by_vault: words(stated) }
}

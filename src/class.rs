//! The vocabulary that several layers share: classes, kinds, roles, reasons, levels. Numbers are those of
//! docs/FORMAT.md.

use serde::{Deserialize, Serialize};

/// How sensitive a field is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Classification {
    Public,
    General,
    Sensitive,
}

impl Classification {
    pub const ALL: [Self; 3] = [Self::Public, Self::General, Self::Sensitive];

    /// As configurations, schemas and policies write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Public => "PUBLIC",
            Self::General => "GENERAL",
            Self::Sensitive => "SENSITIVE",
        }
    }
}

/// One of the vault's two logs with a tree over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Log {
    /// What was erased, and how far.
    Ledger = 1,
    /// Who did what.
    Audit = 2,
}

impl Log {
    pub const ALL: [Self; 2] = [Self::Ledger, Self::Audit];

    /// As checkpoints and folders write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::Audit => "audit",
        }
    }
}

/// What a field holds and how it is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FieldKind {
    Text,
    Integer,
    Number,
    Boolean,
    Date,
    Bytes,
    Email,
    Phone,
    ResidentId,
    Uscc,
    PostalCode,
}

/// How a value is shown to a reader without the clear right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MaskKind {
    Full,
    Name,
    Phone,
    Email,
    Id,
    Address,
    Card,
}

/// Why something was erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErasureReason {
    SubjectRequest = 1,
    Retention = 2,
    Superseded = 3,
    Contract = 4,
    Unacknowledged = 5,
    /// The record lives on under another key, in another bucket.
    Moved = 6,
}

impl ErasureReason {
    /// As receipts and certificates write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SubjectRequest => "SUBJECT_REQUEST",
            Self::Retention => "RETENTION",
            Self::Superseded => "SUPERSEDED",
            Self::Contract => "CONTRACT",
            Self::Unacknowledged => "UNACKNOWLEDGED",
            Self::Moved => "MOVED",
        }
    }

    pub fn from_number(n: u8) -> Option<Self> {
        [
            Self::SubjectRequest,
            Self::Retention,
            Self::Superseded,
            Self::Contract,
            Self::Unacknowledged,
            Self::Moved,
        ]
        .into_iter()
        .find(|r| *r as u8 == n)
    }
}

/// How far an erasure has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ErasureLevel {
    /// Reads refuse.
    Tombstoned = 0,
    /// The local anchor is scrubbed.
    LocalAnchor = 1,
    /// Every anchor replica is scrubbed.
    AllAnchors = 2,
    /// The ciphertext is collected too.
    Collected = 3,
}

impl ErasureLevel {
    /// As receipts and certificates write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tombstoned => "E0_TOMBSTONED",
            Self::LocalAnchor => "E1_LOCAL_ANCHOR_SCRUBBED",
            Self::AllAnchors => "E2_ALL_ANCHORS_SCRUBBED",
            Self::Collected => "E3_CIPHERTEXT_COLLECTED",
        }
    }

    pub fn from_number(n: u8) -> Option<Self> {
        [Self::Tombstoned, Self::LocalAnchor, Self::AllAnchors, Self::Collected]
            .into_iter()
            .find(|l| *l as u8 == n)
    }
}

/// What the anchor lies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// A file rewritten in place on a file system that overwrites blocks.
    InPlaceFile = 1,
    /// A medium that may keep old blocks: no more than E0 can be claimed.
    MayKeepOldBlocks = 2,
}

impl Medium {
    pub fn from_number(n: u8) -> Option<Self> {
        [Self::InPlaceFile, Self::MayKeepOldBlocks].into_iter().find(|m| *m as u8 == n)
    }
}

/// When a read is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuditReads {
    /// Once its entry has a place in the audit log's queue, which is on disk within `limits::NOTES_WAIT`.
    #[default]
    Group,
    /// Once its entry is on disk.
    Sync,
}

/// What an identity may do at all.
/// What an identity is for; the policy says what that lets it do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    Application,
    Support,
    Operator,
    PrivacyOfficer,
    Auditor,
}

impl Role {
    pub const ALL: [Self; 5] =
        [Self::Application, Self::Support, Self::Operator, Self::PrivacyOfficer, Self::Auditor];

    /// As configurations and policies write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::Support => "support",
            Self::Operator => "operator",
            Self::PrivacyOfficer => "privacy-officer",
            Self::Auditor => "auditor",
        }
    }
}

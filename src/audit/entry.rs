//! Entries of the log: what one says, and its one encoding.

use crate::class::{Classification, Role};
use crate::clock::UnixMillis;
use crate::crypto::{labels, sha256_parts};
use crate::id::{Gen, TenantOrd, TypeOrd, VaultId};

const MAGIC: &[u8; 4] = b"LTE1";
/// Bytes of an entry before its members.
const HEAD_BYTES: usize = 80;
/// Bytes of a member.
const MEMBER_BYTES: usize = 32;
/// Where an entry's number is; it is known only when the entry gets its place in the log.
const SEQ_AT: std::ops::Range<usize> = 8..16;
const NO_TENANT: [u8; 3] = [0xff; 3];
const NO_TYPE: u16 = u16::MAX;

/// What kind of thing an entry tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A call that was answered.
    Call = 1,
    /// Calls that were refused or failed, of one principal, method and status code, counted over a while.
    Refusals = 2,
    /// The vault was not stopped cleanly: calls answered just before may lack their entries.
    Gap = 3,
    /// Something that the vault did of itself.
    Vault = 4,
}

impl Kind {
    fn from_number(n: u8) -> Option<Self> {
        [Self::Call, Self::Refusals, Self::Gap, Self::Vault].into_iter().find(|k| *k as u8 == n)
    }
}

macro_rules! acts {
    ($($(#[$doc:meta])* $name:ident = $n:literal),* $(,)?) => {
        /// What was done. Numbers are those of docs/FORMAT.md §9.2; the names of methods are those of the API.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Act {
            $($(#[$doc])* $name = $n),*
        }

        impl Act {
            pub const ALL: &[Act] = &[$(Act::$name),*];

            pub const fn name(self) -> &'static str {
                match self {
                    $(Act::$name => stringify!($name)),*
                }
            }
        }
    };
}

acts!(
    CreateTenant = 1,
    UpdateTenant = 2,
    GetTenant = 3,
    ListTenants = 4,
    CreateSchema = 10,
    UpdateSchema = 11,
    GetSchema = 12,
    ListSchemas = 13,
    CreateSubject = 20,
    GetSubject = 21,
    EraseSubject = 22,
    CreateRecord = 30,
    BatchCreateRecords = 31,
    ImportRecords = 32,
    GetRecord = 33,
    BatchGetRecords = 34,
    ListRecords = 35,
    FindRecords = 36,
    ExportRecords = 37,
    WatchRecords = 38,
    UpdateRecord = 39,
    EraseRecord = 40,
    BatchEraseRecords = 41,
    GetStatus = 50,
    GetKeyStatus = 51,
    RotateKey = 52,
    ListBuckets = 53,
    EraseBucket = 54,
    GetMetrics = 55,
    ListAuditEntries = 60,
    ExportAuditEntries = 61,
    GetAuditHead = 62,
    GetCheckpoint = 63,
    GetTiles = 64,
    GetInclusionProof = 65,
    GetConsistencyProof = 66,
    AddCosignature = 67,
    CreateRetentionPolicy = 70,
    UpdateRetentionPolicy = 71,
    GetRetentionPolicy = 72,
    ListRetentionPolicies = 73,
    DeleteRetentionPolicy = 74,
    ExplainRetention = 75,
    PreviewRetention = 76,
    GetRetentionStatus = 77,
    RunRetention = 78,
    PauseRebucketing = 79,
    ResumeRebucketing = 80,
    ConfirmClock = 81,
    PlaceHold = 82,
    ReleaseHold = 83,
    GetHold = 84,
    ListHolds = 85,
    ListPostponedErasures = 86,
    TailAuditEntries = 95,
    ListSubjectAuditEntries = 96,
    GetCertificate = 90,
    ListCertificates = 91,
    /// The vault was opened, or made.
    Open = 100,
    /// The vault was stopped cleanly.
    Close = 101,
    /// The vault erased the buckets whose day was over.
    Sweep = 102,
    /// An erasure was asked for that a legal hold postpones.
    PostponeErasure = 103,
    /// An erasure that was postponed was carried out.
    RunPostponedErasure = 104,
    /// A legal hold's time was over.
    EndHold = 105,
    /// The log's oldest entries went, since their time was over.
    PruneLog = 106,
    /// A call of a method that is not in this list, or before its method was known.
    Other = 200,
);

impl Act {
    pub fn from_number(n: u16) -> Option<Self> {
        Self::ALL.iter().copied().find(|a| *a as u16 == n)
    }

    /// The act of a method's path, `/package.Service/Method`.
    pub fn of_path(path: &str) -> Self {
        let method = path.rsplit('/').next().unwrap_or_default();
        let mut methods = Self::ALL.iter().filter(|a| (**a as u16) < Self::Open as u16);
        methods.find(|a| a.name() == method).copied().unwrap_or(Self::Other)
    }
}

/// Which classes of fields were shown, in clear and masked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen(u8);

impl Seen {
    const MASKED: u8 = 4;

    pub fn clear(&mut self, class: Classification) {
        self.0 |= 1 << class as u8;
    }

    pub fn masked(&mut self, class: Classification) {
        self.0 |= 1 << (class as u8 + Self::MASKED);
    }

    pub fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }

    pub fn shows_clear(self, class: Classification) -> bool {
        self.0 & 1 << class as u8 != 0
    }

    pub fn shows_masked(self, class: Classification) -> bool {
        self.0 & 1 << (class as u8 + Self::MASKED) != 0
    }
}

/// A subject and a record of it, by pseudonyms: random, and kept only in what they stand for. Zeros: not known, since
/// it did not open; or a subject without a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Member {
    pub subject: [u8; 16],
    pub record: [u8; 16],
}

fn first_half(hash: [u8; 32]) -> [u8; 16] {
    let mut half = [0; 16];
    half.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    half
}

/// What stands for a principal.
pub fn principal_hash(vault: VaultId, uri: &str) -> [u8; 16] {
    first_half(sha256_parts(&[labels::PRINCIPAL, &vault.0, uri.as_bytes()]))
}

/// What stands for a purpose. Zeros stand for none.
pub fn purpose_hash(vault: VaultId, purpose: &str) -> [u8; 8] {
    let hash = sha256_parts(&[labels::PURPOSE, &vault.0, purpose.as_bytes()]);
    let mut out = [0; 8];
    out.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    out
}

/// Why bytes are no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    #[error("it is not an audit entry")]
    Magic,
    #[error("its length does not fit its members")]
    Length,
    #[error("it has a number that stands for nothing")]
    Number,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub kind: Kind,
    pub act: Act,
    /// gRPC status code.
    pub code: u8,
    /// Its place in the log, from 0.
    pub seq: u64,
    pub at: UnixMillis,
    /// Of refusals the first one's time, of a gap its earliest possible beginning; else as `at`.
    pub since: UnixMillis,
    /// Zeros: the vault itself.
    pub principal: [u8; 16],
    pub role: Option<Role>,
    pub tenant: Option<TenantOrd>,
    /// `None`: about no record, or about records of several types.
    pub rtype: Option<TypeOrd>,
    pub seen: Seen,
    /// An entry with many members has several parts, one after the other.
    pub part: u8,
    pub more: bool,
    pub purpose: [u8; 8],
    /// Of an erasure or a rotation the anchor's generation that it commits with, else 0. It is complete when the
    /// ledger has that generation's level leaf. Of an opening and a gap the anchor's generation at that moment. Where
    /// the log was pruned not a generation, but [`Entry::minimum_index`].
    pub generation: Gen,
    /// Members of all parts together, or refused calls.
    pub total: u32,
    pub members: Vec<Member>,
}

impl Entry {
    /// An entry about nothing yet.
    pub fn new(kind: Kind, act: Act, at: UnixMillis) -> Self {
        Self {
            kind,
            act,
            code: 0,
            seq: 0,
            at,
            since: at,
            principal: [0; 16],
            role: None,
            tenant: None,
            rtype: None,
            seen: Seen::default(),
            part: 0,
            more: false,
            purpose: [0; 8],
            generation: Gen(0),
            total: 0,
            members: Vec::new(),
        }
    }

    /// That the log was pruned before this number.
    pub fn pruned(minimum_index: u64, at: UnixMillis) -> Self {
        let generation = Gen(minimum_index);
        Self { generation, ..Self::new(Kind::Vault, Act::PruneLog, at) }
    }

    /// If it says that the log was pruned: the number of the first entry that stayed.
    pub fn minimum_index(&self) -> Option<u64> {
        let tells = (self.kind, self.act) == (Kind::Vault, Act::PruneLog);
        tells.then_some(self.generation.0)
    }

    /// Its bytes, in as many parts as its members need; without the numbers that they get in the log.
    pub fn encode(&self) -> Vec<Vec<u8>> {
        let parts = self.members.len().div_ceil(super::MEMBERS_MAX).max(1);
        let mut out = Vec::with_capacity(parts);
        let mut members = self.members.chunks(super::MEMBERS_MAX);
        for part in 0..parts {
            // Nothing has as many members as 256 parts hold: limits.rs bounds every batch and page far below.
            let number = u8::try_from(part).unwrap_or(u8::MAX);
            let of_part = members.next().unwrap_or_default();
            out.push(self.encode_part(number, part + 1 < parts, of_part));
        }
        out
    }

    fn encode_part(&self, part: u8, more: bool, members: &[Member]) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD_BYTES + members.len() * MEMBER_BYTES);
        out.extend_from_slice(MAGIC);
        out.push(self.kind as u8);
        out.extend_from_slice(&(self.act as u16).to_be_bytes());
        out.push(self.code);
        out.extend_from_slice(&self.seq.to_be_bytes());
        out.extend_from_slice(&self.at.0.to_be_bytes());
        out.extend_from_slice(&self.since.0.to_be_bytes());
        out.extend_from_slice(&self.principal);
        out.push(self.role.map_or(0, role_number));
        out.extend_from_slice(&self.tenant.map_or(NO_TENANT, TenantOrd::bytes));
        out.extend_from_slice(&self.rtype.map_or(NO_TYPE, |t| t.0).to_be_bytes());
        out.push(self.seen.0);
        out.extend_from_slice(&[part, u8::from(more)]);
        out.extend_from_slice(&self.purpose);
        out.extend_from_slice(&self.generation.0.to_be_bytes());
        out.extend_from_slice(&self.total.to_be_bytes());
        out.extend_from_slice(&(members.len() as u16).to_be_bytes());
        out.push(0);
        for member in members {
            out.extend_from_slice(&member.subject);
            out.extend_from_slice(&member.record);
        }
        out
    }

    /// Accepts exactly what [`Entry::encode`] makes.
    pub fn decode(bytes: &[u8]) -> Result<Self, EntryError> {
        let rest = bytes.strip_prefix(MAGIC.as_slice()).ok_or(EntryError::Magic)?;
        let mut rest = Reader(rest);
        let [kind] = rest.take()?;
        let act = u16::from_be_bytes(rest.take()?);
        let [code] = rest.take()?;
        let seq = u64::from_be_bytes(rest.take()?);
        let at = UnixMillis(i64::from_be_bytes(rest.take()?));
        let since = UnixMillis(i64::from_be_bytes(rest.take()?));
        let principal = rest.take()?;
        let [role] = rest.take()?;
        let tenant = rest.take::<3>()?;
        let rtype = u16::from_be_bytes(rest.take()?);
        let [seen, part, more] = rest.take()?;
        let purpose = rest.take()?;
        let generation = Gen(u64::from_be_bytes(rest.take()?));
        let total = u32::from_be_bytes(rest.take()?);
        let count = usize::from(u16::from_be_bytes(rest.take()?));
        let [reserved] = rest.take()?;
        if rest.0.len() != count * MEMBER_BYTES || count > super::MEMBERS_MAX {
            return Err(EntryError::Length);
        }
        let mut members = Vec::with_capacity(count);
        for _ in 0..count {
            members.push(Member { subject: rest.take()?, record: rest.take()? });
        }
        if reserved != 0 || more > 1 || seen & 0x88 != 0 {
            return Err(EntryError::Number);
        }
        Ok(Self {
            kind: Kind::from_number(kind).ok_or(EntryError::Number)?,
            act: Act::from_number(act).ok_or(EntryError::Number)?,
            code,
            seq,
            at,
            since,
            principal,
            role: match role {
                0 => None,
                n => Some(role_from(n).ok_or(EntryError::Number)?),
            },
            tenant: (tenant != NO_TENANT).then(|| TenantOrd::from_bytes(tenant)),
            rtype: (rtype != NO_TYPE).then_some(TypeOrd(rtype)),
            seen: Seen(seen),
            part,
            more: more == 1,
            purpose,
            generation,
            total,
            members,
        })
    }
}

/// Writes the number that an entry gets into its bytes.
pub(super) fn set_seq(bytes: &mut [u8], seq: u64) {
    if let Some(place) = bytes.get_mut(SEQ_AT) {
        place.copy_from_slice(&seq.to_be_bytes());
    }
}

const ROLES: [(Role, u8); 5] = [
    (Role::Application, 1),
    (Role::Operator, 2),
    (Role::Auditor, 3),
    (Role::Support, 4),
    (Role::PrivacyOfficer, 5),
];

fn role_number(role: Role) -> u8 {
    ROLES.iter().find(|(r, _)| *r == role).map_or(0, |(_, n)| *n)
}

fn role_from(n: u8) -> Option<Role> {
    ROLES.iter().find(|(_, m)| *m == n).map(|(r, _)| *r)
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], EntryError> {
        let (head, rest) = self.0.split_first_chunk().ok_or(EntryError::Length)?;
        self.0 = rest;
        Ok(*head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(members: usize) -> Entry {
        let mut seen = Seen::default();
        seen.clear(Classification::General);
        seen.masked(Classification::Sensitive);
        Entry {
            code: 7,
            since: UnixMillis(-2),
            principal: [1; 16],
            role: Some(Role::Auditor),
            tenant: Some(TenantOrd::of(4)),
            rtype: Some(TypeOrd(5)),
            seen,
            purpose: [6; 8],
            generation: Gen(7),
            total: members as u32,
            members: (0..members)
                .map(|n| Member { subject: [n as u8; 16], record: [2; 16] })
                .collect(),
            ..Entry::new(Kind::Call, Act::GetRecord, UnixMillis(9))
        }
    }

    #[test]
    fn an_entry_survives_its_bytes_and_only_they_decode() {
        for members in [0, 1, 3] {
            let one = entry(members);
            let bytes = one.encode().pop().unwrap();
            assert_eq!(bytes.len(), HEAD_BYTES + members * MEMBER_BYTES);
            assert_eq!(Entry::decode(&bytes), Ok(one));
            for len in 0..bytes.len() {
                assert!(Entry::decode(&bytes[..len]).is_err(), "{len}");
            }
            assert!(Entry::decode(&[bytes.as_slice(), &[0]].concat()).is_err());
            for bit in 0..bytes.len() * 8 {
                let mut other = bytes.clone();
                other[bit / 8] ^= 1 << (bit % 8);
                if let Ok(read) = Entry::decode(&other) {
                    assert_eq!(read.encode_part(read.part, read.more, &read.members), other);
                }
            }
        }
    }

    #[test]
    fn many_members_make_several_parts_that_say_so() {
        let parts = entry(super::super::MEMBERS_MAX * 2 + 1).encode();
        let read: Vec<Entry> = parts.iter().map(|p| Entry::decode(p).unwrap()).collect();
        let shape: Vec<_> = read.iter().map(|e| (e.part, e.more, e.members.len())).collect();
        let full = super::super::MEMBERS_MAX;
        assert_eq!(shape, [(0, true, full), (1, true, full), (2, false, 1)]);
        assert!(read.iter().all(|e| e.total as usize == full * 2 + 1));
    }

    #[test]
    fn what_was_shown_is_told_by_class() {
        let seen = entry(0).seen;
        assert!(seen.shows_clear(Classification::General));
        assert!(seen.shows_masked(Classification::Sensitive));
        assert!(!seen.shows_clear(Classification::Sensitive));
        assert!(!seen.shows_masked(Classification::Public));
    }

    #[test]
    fn numbers_and_methods_name_one_act_each() {
        for act in Act::ALL {
            assert_eq!(Act::from_number(*act as u16), Some(*act));
        }
        assert_eq!(Act::of_path("/lethe.v1.RecordService/GetRecord"), Act::GetRecord);
        assert_eq!(Act::of_path("/lethe.v1.RecordService/Open"), Act::Other);
        assert_eq!(Act::of_path("GetNothing"), Act::Other);
    }
}

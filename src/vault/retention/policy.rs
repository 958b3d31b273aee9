//! Retention policies: what a rule says, and every rule about rules (`lethe/v1/retention.proto`).
//!
//! Guarantees: a [`RetentionPolicy`] exists only if it does not contradict itself, whether it came from a draft or
//! from its sealed row; a refusal lists every violation at once; its JSON fits one row.

use serde::{Deserialize, Serialize};

use super::zone::Zone;
use crate::class::Classification;
use crate::clock::UnixMillis;
use crate::id::Day;
use crate::limits;
use crate::vault::calendar::{Period, PeriodError, format_iso_date, parse_iso_date};
use crate::vault::schema::DESCRIPTION_BYTES_MAX;
use crate::vault::slug::{FieldName, NameError, Slug};

/// What a caller asks a policy to be, as the wire has it. Empty texts stand for what was left open.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyDraft {
    #[serde(rename = "id")]
    pub id: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<Classification>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub purpose: String,
    pub start: Option<StartKind>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub event_field: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub period: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub grace: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub end_date: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub minimum: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub maximum: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub open_ended: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub time_zone: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub basis: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// Parts of a policy that a caller can change alone, by their names on the wire.
pub const PARTS: [&str; 14] = [
    "schemas",
    "classification",
    "purpose",
    "start",
    "event_field",
    "period",
    "grace_period",
    "end_date",
    "minimum",
    "maximum",
    "open_ended",
    "time_zone",
    "legal_basis",
    "description",
];

impl PolicyDraft {
    /// This one with some parts of another.
    pub fn with(mut self, other: Self, parts: &[&str]) -> Self {
        let has = |part: &str| parts.contains(&part);
        macro_rules! take {
            ($($part:literal $field:ident),*) => {
                $(if has($part) { self.$field = other.$field; })*
            };
        }
        take!(
            "schemas" types, "classification" class, "purpose" purpose, "start" start,
            "event_field" event_field, "period" period, "grace_period" grace,
            "end_date" end_date, "minimum" minimum, "maximum" maximum, "open_ended" open_ended,
            "time_zone" time_zone, "legal_basis" basis, "description" description
        );
        self
    }
}

/// What a period is counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StartKind {
    Creation,
    LastUse,
    Event,
}

/// The same, with the field that holds the event's date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    Creation,
    /// The last time that the record was read or changed.
    LastUse,
    Event(FieldName),
}

/// Which records a policy is about: all that is said must be true of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Sorted; empty: every type.
    pub types: Vec<Slug>,
    /// They hold a value of this class.
    pub class: Option<Classification>,
    /// They hold a value of a field that may be read for this purpose alone or among others.
    pub purpose: Option<Slug>,
}

impl Scope {
    pub fn reaches(&self, rtype: &Slug) -> bool {
        self.types.is_empty() || self.types.contains(rtype)
    }

    /// Whether there may be a record of a type that both are about.
    fn meets(&self, other: &Self) -> bool {
        self.types.is_empty()
            || other.types.is_empty()
            || self.types.iter().any(|t| other.reaches(t))
    }
}

/// One thing that is wrong with a draft.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyViolation {
    pub path: &'static str,
    pub problem: PolicyProblem,
}

/// What is wrong. The sentence is for the caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyProblem {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    Period(#[from] PeriodError),
    #[error("names at most {} record types", limits::POLICY_TYPES_MAX)]
    TooManyTypes,
    #[error("names a record type twice")]
    DuplicateType,
    #[error("names a record type that the tenant has no schema of")]
    UnknownType,
    #[error("a record type that is named has no DATE field of this name")]
    NotADate,
    #[error("is missing: say CREATION, LAST_USE or EVENT")]
    StartMissing,
    #[error("names the field of an EVENT, and only of one")]
    EventField,
    #[error("must be a date of the form YYYY-MM-DD")]
    Date,
    #[error("is no time zone of the IANA database")]
    Zone,
    #[error("must be at most {DESCRIPTION_BYTES_MAX} bytes without control characters")]
    Text,
    #[error("says nothing: give a period, an end_date, a minimum, a maximum, or open_ended")]
    Empty,
    #[error("is above the maximum")]
    AboveMaximum,
    #[error("is below the minimum")]
    BelowMinimum,
    #[error("needs a period or an end_date to follow")]
    GraceAlone,
    #[error("is needed, or a maximum or an end_date: the event may never come")]
    EventMayNeverCome,
    #[error("contradicts a period or end_date that does not wait for an EVENT")]
    OpenEndedWithEnd,
    #[error(
        "contradicts retention policy {0}: a record of both would have to be kept longer than it may be"
    )]
    Contradicts(Slug),
}

impl PolicyProblem {
    /// Whether the draft is sound in itself and only does not fit what is there (FAILED_PRECONDITION).
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::UnknownType | Self::NotADate | Self::Contradicts(_))
    }
}

/// A rule on how long records are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionPolicy {
    pub id: Slug,
    /// The number of its row.
    pub ord: u32,
    pub revision: u32,
    pub updated: UnixMillis,
    pub scope: Scope,
    pub start: Start,
    pub period: Option<Period>,
    /// Between the end of the period and the erasure.
    pub grace: Option<Period>,
    /// The last day, whenever the period ends.
    pub end: Option<Day>,
    /// From the start: not to be erased before.
    pub minimum: Option<Period>,
    /// From creation: not to be kept longer.
    pub maximum: Option<Period>,
    /// Records that nothing ends may be kept until they are erased by request.
    pub open_ended: bool,
    pub zone: Zone,
    /// The law or contract that this rests on, for people.
    pub basis: String,
    pub description: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyRow {
    ord: u32,
    revision: u32,
    updated: i64,
    policy: PolicyDraft,
}

impl RetentionPolicy {
    pub fn create(
        draft: &PolicyDraft,
        ord: u32,
        now: UnixMillis,
    ) -> Result<Self, Vec<PolicyViolation>> {
        let mut found = Found::default();
        let id = found.name("id", Slug::parse(&draft.id));
        let mut types: Vec<Slug> =
            draft.types.iter().filter_map(|t| found.name("schemas", Slug::parse(t))).collect();
        types.sort_unstable();
        found.check("schemas", types.len() > limits::POLICY_TYPES_MAX, PolicyProblem::TooManyTypes);
        found.check(
            "schemas",
            types.windows(2).any(|w| w.first() == w.last()),
            PolicyProblem::DuplicateType,
        );
        let purpose = match draft.purpose.as_str() {
            "" => None,
            purpose => found.name("purpose", Slug::parse(purpose)),
        };
        let start = found.start(draft);
        let period = found.period("period", &draft.period);
        let grace = found.period("grace_period", &draft.grace);
        let minimum = found.period("minimum", &draft.minimum);
        let maximum = found.period("maximum", &draft.maximum);
        let end = match draft.end_date.as_str() {
            "" => None,
            date => found.some("end_date", parse_iso_date(date), PolicyProblem::Date),
        };
        let zone = match draft.time_zone.as_str() {
            "" => Some(Zone::utc()),
            name => found.some("time_zone", Zone::parse(name), PolicyProblem::Zone),
        };
        found.text("legal_basis", &draft.basis);
        found.text("description", &draft.description);
        let (Some(id), Some(start), Some(zone)) = (id, start, zone) else { return Err(found.0) };
        let policy = Self {
            id,
            ord,
            revision: 1,
            updated: now,
            scope: Scope { types, class: draft.class, purpose },
            start,
            period,
            grace,
            end,
            minimum,
            maximum,
            open_ended: draft.open_ended,
            zone,
            basis: draft.basis.clone(),
            description: draft.description.clone(),
        };
        if found.0.is_empty() {
            policy.check_sense(&mut found);
        }
        if found.0.is_empty() { Ok(policy) } else { Err(found.0) }
    }

    /// The next revision, or this one unchanged if the draft asks for nothing else than what is.
    pub fn revise(
        &self,
        draft: &PolicyDraft,
        now: UnixMillis,
    ) -> Result<Self, Vec<PolicyViolation>> {
        let revision = self.revision;
        let same = Self { updated: self.updated, revision, ..Self::create(draft, self.ord, now)? };
        if same == *self {
            return Ok(same);
        }
        Ok(Self { updated: now, revision: revision.saturating_add(1), ..same })
    }

    /// Whether the parts make sense together.
    fn check_sense(&self, found: &mut Found) {
        let exceeds =
            |a: Option<Period>, b: Option<Period>| a.zip(b).is_some_and(|(a, b)| a.may_exceed(b));
        let ends = self.period.is_some() || self.end.is_some();
        let says_nothing =
            !ends && self.minimum.is_none() && self.maximum.is_none() && !self.open_ended;
        found.check("period", says_nothing, PolicyProblem::Empty);
        let (minimum, maximum) = (self.minimum, self.maximum);
        found.check("minimum", exceeds(minimum, maximum), PolicyProblem::AboveMaximum);
        found.check("period", exceeds(self.period, maximum), PolicyProblem::AboveMaximum);
        found.check("period", exceeds(minimum, self.period), PolicyProblem::BelowMinimum);
        found.check("grace_period", self.grace.is_some() && !ends, PolicyProblem::GraceAlone);
        let is_event = matches!(self.start, Start::Event(_));
        let waits = is_event && self.period.is_some() && self.end.is_none() && maximum.is_none();
        found.check("open_ended", waits && !self.open_ended, PolicyProblem::EventMayNeverCome);
        let ended = self.end.is_some() || maximum.is_some() || (self.period.is_some() && !is_event);
        found.check("open_ended", self.open_ended && ended, PolicyProblem::OpenEndedWithEnd);
    }

    /// Fails if a record that both are about would have to be kept longer than it may be, from whatever day.
    pub fn check_beside(&self, other: &Self) -> Result<(), PolicyViolation> {
        if self.id == other.id || !self.scope.meets(&other.scope) {
            return Ok(());
        }
        let over = |a: &Self, b: &Self| {
            let both = a.minimum.zip(b.maximum).filter(|_| a.start == Start::Creation);
            both.is_some_and(|(minimum, maximum)| minimum.may_exceed(maximum))
        };
        let problem = || PolicyProblem::Contradicts(other.id.clone());
        if over(self, other) {
            return Err(PolicyViolation { path: "minimum", problem: problem() });
        }
        if over(other, self) {
            return Err(PolicyViolation { path: "maximum", problem: problem() });
        }
        Ok(())
    }

    /// What was asked for when the policy became what it is.
    pub fn draft(&self) -> PolicyDraft {
        let text = |p: Option<Period>| p.map(|p| p.to_string()).unwrap_or_default();
        let (start, event_field) = match &self.start {
            Start::Creation => (StartKind::Creation, String::new()),
            Start::LastUse => (StartKind::LastUse, String::new()),
            Start::Event(field) => (StartKind::Event, field.to_string()),
        };
        PolicyDraft {
            id: self.id.to_string(),
            types: self.scope.types.iter().map(ToString::to_string).collect(),
            class: self.scope.class,
            purpose: self.scope.purpose.as_ref().map(ToString::to_string).unwrap_or_default(),
            start: Some(start),
            event_field,
            period: text(self.period),
            grace: text(self.grace),
            end_date: self.end.and_then(format_iso_date).unwrap_or_default(),
            minimum: text(self.minimum),
            maximum: text(self.maximum),
            open_ended: self.open_ended,
            time_zone: self.zone.name().to_owned(),
            basis: self.basis.clone(),
            description: self.description.clone(),
        }
    }

    /// The plaintext of its row (docs/FORMAT.md §6.2).
    pub fn to_json(&self) -> Vec<u8> {
        let (ord, revision, updated) = (self.ord, self.revision, self.updated.0);
        let row = PolicyRow { ord, revision, updated, policy: self.draft() };
        // Strings, integers and enums only: serde_json has no way to fail. An empty row would not read back.
        serde_json::to_vec(&row).unwrap_or_default()
    }

    /// `None` if these bytes are not what [`RetentionPolicy::to_json`] made of a policy.
    pub fn from_json(bytes: &[u8]) -> Option<Self> {
        let row: PolicyRow = serde_json::from_slice(bytes).ok()?;
        let policy = Self::create(&row.policy, row.ord, UnixMillis(row.updated)).ok()?;
        (row.revision > 0).then_some(Self { revision: row.revision, ..policy })
    }
}

/// The violations so far.
#[derive(Default)]
struct Found(Vec<PolicyViolation>);

impl Found {
    fn check(&mut self, path: &'static str, wrong: bool, problem: PolicyProblem) {
        if wrong {
            self.0.push(PolicyViolation { path, problem });
        }
    }

    fn some<T>(
        &mut self,
        path: &'static str,
        part: Option<T>,
        problem: PolicyProblem,
    ) -> Option<T> {
        self.check(path, part.is_none(), problem);
        part
    }

    fn name<T>(&mut self, path: &'static str, name: Result<T, NameError>) -> Option<T> {
        name.map_err(|e| self.check(path, true, e.into())).ok()
    }

    fn period(&mut self, path: &'static str, text: &str) -> Option<Period> {
        if text.is_empty() {
            return None;
        }
        text.parse().map_err(|e: PeriodError| self.check(path, true, e.into())).ok()
    }

    fn text(&mut self, path: &'static str, text: &str) {
        let bad = text.len() > DESCRIPTION_BYTES_MAX || text.chars().any(char::is_control);
        self.check(path, bad, PolicyProblem::Text);
    }

    fn start(&mut self, draft: &PolicyDraft) -> Option<Start> {
        let of_event = draft.start == Some(StartKind::Event);
        if of_event == draft.event_field.is_empty() {
            self.check("event_field", true, PolicyProblem::EventField);
            return None;
        }
        match self.some("start", draft.start, PolicyProblem::StartMissing)? {
            StartKind::Creation => Some(Start::Creation),
            StartKind::LastUse => Some(Start::LastUse),
            StartKind::Event => {
                self.name("event_field", FieldName::parse(&draft.event_field)).map(Start::Event)
            }
        }
    }
}

#[cfg(test)]
mod tests;

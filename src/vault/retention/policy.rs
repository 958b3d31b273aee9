//! Retention policies: what a rule says, and every rule about rules (`lethe/v1/retention.proto`).
//!
//! Guarantees: a [`RetentionPolicy`] exists only if it does not contradict itself, whether it came from a draft or from its
//! sealed row; a refusal lists every violation at once; its JSON fits one row.

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
mod tests {
    use super::*;

    fn draft(change: impl FnOnce(&mut PolicyDraft)) -> PolicyDraft {
        let mut draft = PolicyDraft {
            id: "keep".into(),
            start: Some(StartKind::Creation),
            period: "P3Y".into(),
            ..PolicyDraft::default()
        };
        change(&mut draft);
        draft
    }

    fn made(change: impl FnOnce(&mut PolicyDraft)) -> RetentionPolicy {
        RetentionPolicy::create(&draft(change), 1, UnixMillis(5)).unwrap()
    }

    fn refused(change: impl FnOnce(&mut PolicyDraft)) -> Vec<(&'static str, PolicyProblem)> {
        let found = RetentionPolicy::create(&draft(change), 1, UnixMillis(5)).unwrap_err();
        found.into_iter().map(|v| (v.path, v.problem)).collect()
    }

    #[test]
    fn what_contradicts_itself_is_refused_with_its_field() {
        use PolicyProblem as P;
        let event = |d: &mut PolicyDraft| {
            (d.start, d.event_field) = (Some(StartKind::Event), "last_order".into());
        };
        assert_eq!(refused(|d| d.period.clear()), [("period", P::Empty)]);
        assert_eq!(
            refused(|d| {
                (d.minimum, d.maximum, d.period) = ("P5Y".into(), "P4Y".into(), String::new());
            }),
            [("minimum", P::AboveMaximum)]
        );
        assert_eq!(refused(|d| d.maximum = "P2Y".into()), [("period", P::AboveMaximum)]);
        assert_eq!(refused(|d| d.minimum = "P10Y".into()), [("period", P::BelowMinimum)]);
        assert_eq!(
            refused(|d| (d.minimum, d.period) = ("P30D".into(), "P1M".into())),
            [("period", P::BelowMinimum)],
            "a month may have 28 days"
        );
        assert_eq!(
            refused(|d| (d.period, d.minimum, d.grace) = ("".into(), "P1Y".into(), "P1M".into())),
            [("grace_period", P::GraceAlone)]
        );
        assert_eq!(refused(event), [("open_ended", P::EventMayNeverCome)]);
        assert_eq!(refused(|d| d.open_ended = true), [("open_ended", P::OpenEndedWithEnd)]);
        assert_eq!(refused(|d| d.start = None), [("start", P::StartMissing)]);
        assert_eq!(refused(|d| d.event_field = "x".into()), [("event_field", P::EventField)]);
        assert_eq!(refused(|d| d.start = Some(StartKind::Event)), [("event_field", P::EventField)]);
        assert_eq!(refused(|d| d.time_zone = "Mars/Base".into()), [("time_zone", P::Zone)]);
        assert_eq!(refused(|d| d.end_date = "2027-02-30".into()), [("end_date", P::Date)]);
        assert_eq!(
            refused(|d| d.types = vec!["a".into(), "a".into()]),
            [("schemas", P::DuplicateType)]
        );
        assert_eq!(refused(|d| d.basis = "x".repeat(501)), [("legal_basis", P::Text)]);
        let many = refused(|d| {
            (d.id, d.purpose, d.period) = ("No".into(), "Bad Purpose".into(), "3 years".into());
        });
        assert_eq!(many.len(), 3, "all at once: {many:?}");
        for sound in [
            made(|d| {
                event(d);
                d.open_ended = true;
            }),
            made(|d| {
                event(d);
                d.maximum = "P10Y".into();
            }),
            made(|d| (d.period, d.open_ended) = (String::new(), true)),
            made(|d| (d.minimum, d.maximum, d.period) = ("P1Y".into(), "P1Y".into(), "".into())),
        ] {
            assert_eq!(sound.revision, 1);
        }
    }

    #[test]
    fn a_minimum_above_anothers_maximum_is_refused_where_both_may_be_about_one_record() {
        let ten = |types: &[&str]| {
            let types = types.iter().map(|t| (*t).to_owned()).collect();
            made(|d| {
                (d.id, d.period, d.minimum, d.types) =
                    ("law".into(), String::new(), "P10Y".into(), types);
            })
        };
        let five = made(|d| {
            (d.period, d.maximum, d.types) = (String::new(), "P5Y".into(), vec!["order".into()]);
        });
        let contradiction = |path| {
            Err(PolicyViolation { path, problem: PolicyProblem::Contradicts(five.id.clone()) })
        };
        assert_eq!(ten(&["order", "person"]).check_beside(&five), contradiction("minimum"));
        assert_eq!(ten(&[]).check_beside(&five), contradiction("minimum"));
        let law = PolicyProblem::Contradicts(Slug::parse("law").unwrap());
        assert_eq!(
            five.check_beside(&ten(&[])),
            Err(PolicyViolation { path: "maximum", problem: law })
        );
        assert_eq!(ten(&["person"]).check_beside(&five), Ok(()));
        assert_eq!(five.check_beside(&five), Ok(()), "its own older revision");
        let from_event = made(|d| {
            (d.id, d.start, d.event_field) = ("e".into(), Some(StartKind::Event), "d".into());
            (d.period, d.minimum) = (String::new(), "P10Y".into());
        });
        assert_eq!(from_event.check_beside(&five), Ok(()), "depends on the record's date");
    }

    #[test]
    fn a_policy_survives_its_row_and_a_revision_counts_only_if_something_changed() {
        let policy = made(|d| {
            d.types = vec!["person".into(), "order".into()];
            d.class = Some(Classification::Sensitive);
            (d.purpose, d.time_zone) = ("billing".into(), "Asia/Shanghai".into());
            (d.minimum, d.maximum, d.grace) = ("P1Y".into(), "P9Y".into(), "P30D".into());
            (d.end_date, d.basis) = ("2031-12-31".into(), "PIPL 19".into());
        });
        assert_eq!(RetentionPolicy::from_json(&policy.to_json()), Some(policy.clone()));
        let same = policy.revise(&policy.draft(), UnixMillis(9)).unwrap();
        assert_eq!(same, policy);
        let mut longer = policy.draft();
        longer.period = "P4Y".into();
        let next = policy.revise(&longer, UnixMillis(9)).unwrap();
        assert_eq!((next.revision, next.updated, next.ord), (2, UnixMillis(9), 1));
        let mut other = longer.clone();
        (other.description, other.maximum) = ("new".into(), "P99Y".into());
        let mixed = longer.clone().with(other, &["description"]);
        assert_eq!((mixed.description.as_str(), mixed.maximum.as_str()), ("new", "P9Y"));
        let mut all = PolicyDraft { id: "keep".into(), ..PolicyDraft::default() };
        all = all.with(longer.clone(), &PARTS);
        assert_eq!(all, longer, "every part can be taken");
        let mut json: serde_json::Value = serde_json::from_slice(&policy.to_json()).unwrap();
        json["policy"]["maximum"] = "P1D".into();
        let bytes = serde_json::to_vec(&json).unwrap();
        assert_eq!(RetentionPolicy::from_json(&bytes), None, "rules hold for rows too");
        json["more"] = 1.into();
        assert_eq!(RetentionPolicy::from_json(&serde_json::to_vec(&json).unwrap()), None);
    }
}

//! From rules and a record to the day by which the record must be gone.
//!
//! Guarantees: the earliest end that any rule sets counts, unless a minimum is later: the law that makes one keep is
//! not broken by one's own rules. What has no end is open-ended. A day is told in each rule's own time zone, and the
//! moment when it is over there decides; the bucket is that of the first day that is not over in UTC before then, so
//! nothing goes early, and nothing a day late.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::policy::{RetentionPolicy, Start};
use super::zone::{bucket_day, end_in_utc};
use crate::clock::UnixMillis;
use crate::id::{Day, FieldOrd};
use crate::vault::schema::Schema;
use crate::vault::slug::Slug;
use crate::vault::value::Value;

/// What rules look at of a record.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    pub created: UnixMillis,
    pub used: UnixMillis,
    pub fields: &'a BTreeMap<FieldOrd, Value>,
}

/// Policies of a record type, by id.
pub type Rules = Arc<[Arc<RetentionPolicy>]>;

/// What a rule does to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It ends a period after its start.
    Period,
    /// It ends on a day.
    EndDate,
    /// It may not be kept longer.
    Maximum,
    /// It may not be erased earlier.
    Minimum,
    /// It sets no end, or none until its event comes.
    OpenEnded,
}

/// What one rule says of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// `None`: the schema itself.
    pub policy: Option<Slug>,
    pub effect: Effect,
    /// The last day in the rule's own zone; `None`: no day yet.
    pub ends: Option<Day>,
    /// When that day, and the grace after it, is over.
    pub due: Option<UnixMillis>,
}

/// When a record goes, and why then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The day of its bucket.
    pub expires: Day,
    /// Place in `lines` of the rule that decides.
    pub decides: usize,
    pub lines: Vec<Line>,
}

impl Decision {
    /// The rule that decides.
    pub fn deciding(&self) -> Option<&Line> {
        self.lines.get(self.decides)
    }
}

/// The bucket day alone: what puts and sweeps need.
pub fn expiry_day(schema: &Schema, rules: &Rules, facts: Facts<'_>) -> Day {
    if rules.is_empty() {
        return schema.retention().last_day(facts.created).unwrap_or(Day::OPEN_ENDED);
    }
    decide(schema, rules, facts).expires
}

/// Every rule's word, and what comes of them.
pub fn decide(schema: &Schema, rules: &Rules, facts: Facts<'_>) -> Decision {
    let own = schema.retention().last_day(facts.created);
    let effect = if own.is_some() { Effect::Period } else { Effect::OpenEnded };
    let mut lines = vec![Line { policy: None, effect, ends: own, due: own.map(end_in_utc) }];
    rules.iter().for_each(|rule| say(schema, rule, facts, &mut lines));
    let earliest = lines.iter().enumerate().filter(|(_, l)| l.effect != Effect::Minimum);
    let earliest = earliest.filter_map(|(at, l)| Some((l.due?, at))).min();
    let kept = lines.iter().enumerate().filter(|(_, l)| l.effect == Effect::Minimum);
    // A minimum that waits for its event has no end at all.
    let kept = kept.map(|(at, l)| (l.due.unwrap_or(UnixMillis(i64::MAX)), at)).max();
    let open = lines.iter().position(|l| l.effect == Effect::OpenEnded).unwrap_or(0);
    let (due, decides) = match (earliest, kept) {
        (Some(end), Some(kept)) if kept.0 > end.0 => kept,
        (Some(end), _) => end,
        (None, Some(kept)) if kept.0.0 == i64::MAX => kept,
        (None, _) => (UnixMillis(i64::MAX), open),
    };
    let expires = if due.0 == i64::MAX { Day::OPEN_ENDED } else { bucket_day(due) };
    Decision { expires, decides, lines }
}

/// Whether a policy is about a record.
fn is_about(schema: &Schema, rule: &RetentionPolicy, facts: Facts<'_>) -> bool {
    let defs = || facts.fields.keys().filter_map(|ord| schema.field_by_ord(*ord));
    rule.scope.reaches(schema.type_name())
        && rule.scope.class.is_none_or(|class| defs().any(|d| d.class == class))
        && rule.scope.purpose.as_ref().is_none_or(|p| defs().any(|d| d.purposes.contains(p)))
}

fn say(schema: &Schema, rule: &RetentionPolicy, facts: Facts<'_>, lines: &mut Vec<Line>) {
    if !is_about(schema, rule, facts) {
        return;
    }
    let zone = &rule.zone;
    let created = zone.day(facts.created);
    let start = match &rule.start {
        Start::Creation => Some(created),
        Start::LastUse => Some(zone.day(facts.used.max(facts.created))),
        Start::Event(name) => match schema.field(name.as_str()) {
            Some(def) => match facts.fields.get(&def.ord) {
                Some(Value::Date(day)) => Some(*day),
                _ => None,
            },
            // The policy is for all types, and this one has no such event.
            None => return,
        },
    };
    let mut line = |effect, ends: Option<Day>, due: Option<UnixMillis>| {
        lines.push(Line { policy: Some(rule.id.clone()), effect, ends, due });
    };
    let after = |day: Day| zone.end_of(rule.grace.map_or(day, |grace| grace.last_day(day)));
    if let Some(period) = rule.period {
        match start.map(|start| period.last_day(start)) {
            Some(last) => line(Effect::Period, Some(last), Some(after(last))),
            None => line(Effect::OpenEnded, None, None),
        }
    } else if rule.open_ended {
        line(Effect::OpenEnded, None, None);
    }
    if let Some(end) = rule.end {
        line(Effect::EndDate, Some(end), Some(after(end)));
    }
    if let Some(maximum) = rule.maximum {
        let last = maximum.last_day(created);
        line(Effect::Maximum, Some(last), Some(zone.end_of(last)));
    }
    if let Some(minimum) = rule.minimum {
        let last = start.map(|start| minimum.last_day(start));
        line(Effect::Minimum, last, last.map(|last| zone.end_of(last)));
    }
}

#[cfg(test)]
mod tests {
    use super::super::policy::{PolicyDraft, StartKind};
    use super::*;
    use crate::class::{Classification, FieldKind};
    use crate::id::TypeOrd;
    use crate::vault::calendar::{format_iso_date, parse_iso_date};
    use crate::vault::schema::{FieldDraft, RetentionDraft, SchemaDraft};

    fn schema(retention: Option<&str>) -> Schema {
        let field = |name: &str, kind, class, purposes: &[&str]| FieldDraft {
            name: name.into(),
            kind: Some(kind),
            class: Some(class),
            purposes: purposes.iter().map(|p| (*p).to_owned()).collect(),
            ..FieldDraft::default()
        };
        let draft = SchemaDraft {
            type_name: "person".into(),
            fields: vec![
                field("note", FieldKind::Text, Classification::General, &[]),
                field("iban", FieldKind::Text, Classification::Sensitive, &["billing"]),
                field("last_order", FieldKind::Date, Classification::General, &[]),
            ],
            retention: Some(match retention {
                Some(period) => RetentionDraft::RetainFor(period.into()),
                None => RetentionDraft::OpenEnded(true),
            }),
            erase_old_versions_synchronously: false,
        };
        Schema::create(draft, TypeOrd(1), UnixMillis(0)).unwrap()
    }

    fn rule(id: &str, change: impl FnOnce(&mut PolicyDraft)) -> Arc<RetentionPolicy> {
        let mut draft = PolicyDraft {
            id: id.into(),
            start: Some(StartKind::Creation),
            ..PolicyDraft::default()
        };
        change(&mut draft);
        Arc::new(RetentionPolicy::create(&draft, 1, UnixMillis(0)).unwrap())
    }

    fn noon(date: &str) -> UnixMillis {
        UnixMillis(end_in_utc(parse_iso_date(date).unwrap()).0 - 43_200_000)
    }

    struct Case {
        created: &'static str,
        used: &'static str,
        fields: Vec<(&'static str, Value)>,
    }

    impl Default for Case {
        fn default() -> Self {
            Self { created: "2026-03-31", used: "2026-03-31", fields: Vec::new() }
        }
    }

    /// The day, the deciding rule (`-`: the schema), and what it does.
    fn outcome(
        schema: &Schema,
        rules: &[&Arc<RetentionPolicy>],
        case: Case,
    ) -> (String, String, Effect) {
        let rules: Rules = rules.iter().map(|r| Arc::clone(r)).collect();
        let fields =
            case.fields.into_iter().map(|(n, v)| (schema.field(n).unwrap().ord, v)).collect();
        let facts = Facts { created: noon(case.created), used: noon(case.used), fields: &fields };
        let told = decide(schema, &rules, facts);
        assert_eq!(expiry_day(schema, &rules, facts), told.expires);
        let line = told.deciding().unwrap();
        let who = line.policy.as_ref().map_or("-", |p| p.as_str()).to_owned();
        (format_iso_date(told.expires).unwrap_or_default(), who, line.effect)
    }

    fn told(day: &str, who: &str, effect: Effect) -> (String, String, Effect) {
        (day.to_owned(), who.to_owned(), effect)
    }

    #[test]
    fn the_earliest_end_counts_unless_a_law_makes_one_keep_longer() {
        let (own, open) = (schema(Some("P3Y")), schema(None));
        let short = rule("short", |d| d.period = "P1M".into());
        let law = rule("law", |d| d.minimum = "P2Y".into());
        let cap = rule("cap", |d| d.maximum = "P2W".into());
        let end = rule("end", |d| {
            (d.start, d.end_date) = (Some(StartKind::LastUse), "2026-04-02".into())
        });
        let case = Case::default;
        let short_day = told("2026-04-30", "short", Effect::Period);
        assert_eq!(outcome(&own, &[], case()), told("2029-03-31", "-", Effect::Period));
        assert_eq!(outcome(&own, &[&short], case()), short_day);
        assert_eq!(outcome(&open, &[&short], case()), short_day);
        let law_day = told("2028-03-31", "law", Effect::Minimum);
        assert_eq!(outcome(&own, &[&law, &short], case()), law_day);
        assert_eq!(outcome(&open, &[&law], case()), told("", "-", Effect::OpenEnded));
        assert_eq!(
            outcome(&own, &[&short, &cap], case()),
            told("2026-04-14", "cap", Effect::Maximum)
        );
        assert_eq!(
            outcome(&own, &[&short, &end], case()),
            told("2026-04-02", "end", Effect::EndDate)
        );
        assert_eq!(outcome(&own, &[&end, &law], case()), law_day);
    }

    #[test]
    fn a_period_slides_with_use_or_waits_for_its_event() {
        let own = schema(None);
        let sliding = rule("sliding", |d| {
            (d.start, d.period, d.maximum) = (Some(StartKind::LastUse), "P1Y".into(), "P2Y".into());
        });
        let used = |used| Case { used, ..Case::default() };
        let sliding = [sliding];
        assert_eq!(
            outcome(&own, &sliding.each_ref(), used("2026-06-01")),
            told("2027-06-01", "sliding", Effect::Period)
        );
        assert_eq!(
            outcome(&own, &sliding.each_ref(), used("2027-12-01")),
            told("2028-03-31", "sliding", Effect::Maximum)
        );
        let event = |d: &mut PolicyDraft| {
            (d.start, d.event_field) = (Some(StartKind::Event), "last_order".into());
        };
        let order = rule("order", |d| {
            event(d);
            (d.period, d.open_ended, d.grace) = ("P6M".into(), true, "P10D".into());
        });
        let day = || Value::Date(parse_iso_date("2026-08-31").unwrap());
        let came = || Case { fields: vec![("last_order", day())], ..Case::default() };
        assert_eq!(outcome(&own, &[&order], Case::default()), told("", "-", Effect::OpenEnded));
        assert_eq!(
            outcome(&own, &[&order], came()),
            told("2027-03-10", "order", Effect::Period),
            "the end of February and ten days"
        );
        let kept = rule("kept", |d| {
            event(d);
            d.minimum = "P5Y".into();
        });
        let both = [order, kept];
        assert_eq!(
            outcome(&own, &both.each_ref(), came()),
            told("2031-08-31", "kept", Effect::Minimum)
        );
        let short = schema(Some("P1D"));
        assert_eq!(
            outcome(&short, &both.each_ref(), Case::default()),
            told("", "kept", Effect::Minimum),
            "what must be kept after an event that has not come has no end yet"
        );
    }

    #[test]
    fn class_and_purpose_reach_records_that_hold_such_a_value() {
        let own = schema(Some("P3Y"));
        let secret = rule("secret", |d| {
            (d.class, d.period) = (Some(Classification::Sensitive), "P1D".into());
        });
        let billing = rule("billing", |d| (d.purpose, d.period) = ("billing".into(), "P2D".into()));
        let other = rule("other", |d| {
            (d.types, d.period) = (vec!["order".into()], "P1D".into());
        });
        let rules = [secret, billing.clone(), other];
        let with =
            |field| Case { fields: vec![(field, Value::Text("x".into()))], ..Case::default() };
        let iban = told("2026-04-01", "secret", Effect::Period);
        assert_eq!(outcome(&own, &rules.each_ref(), with("iban")), iban);
        let schema_s = told("2029-03-31", "-", Effect::Period);
        assert_eq!(outcome(&own, &rules.each_ref(), with("note")), schema_s);
        let billed = told("2026-04-02", "billing", Effect::Period);
        assert_eq!(outcome(&own, &[&billing], with("iban")), billed);
        assert_eq!(outcome(&own, &[&billing], with("note")), schema_s);
    }

    #[test]
    fn the_rules_own_zone_says_which_day_it_is_and_when_it_is_over() {
        let own = schema(None);
        let day = |zone: &str, created: UnixMillis| {
            let rules: Rules = vec![rule("z", |d| {
                (d.period, d.time_zone) = ("P1M".into(), zone.into());
            })]
            .into();
            let none = BTreeMap::new();
            let facts = Facts { created, used: created, fields: &none };
            let told = decide(&own, &rules, facts);
            let line = told.deciding().unwrap().clone();
            (format_iso_date(line.ends.unwrap()).unwrap(), format_iso_date(told.expires).unwrap())
        };
        // 31 January, 20:00 UTC: already February in Shanghai, still January in California.
        let evening = UnixMillis(end_in_utc(parse_iso_date("2026-01-31").unwrap()).0 - 14_400_000);
        let days = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(day("UTC", evening), days("2026-02-28", "2026-02-28"));
        assert_eq!(day("Asia/Shanghai", evening), days("2026-03-01", "2026-03-01"));
        // The day is over there at eight in the morning UTC of the next one: that next one is the bucket's.
        assert_eq!(day("America/Los_Angeles", evening), days("2026-02-28", "2026-03-01"));
    }
}

//! What a policy may say, and what it may not.

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
    let contradiction =
        |path| Err(PolicyViolation { path, problem: PolicyProblem::Contradicts(five.id.clone()) });
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

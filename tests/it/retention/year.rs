//! A year, day by day, with a clock that the test sets: records come, are used, changed, held and erased, rules change,
//! and every night what is due goes. A model in a few lines says what must be there each morning; at the end an auditor
//! goes through the evidence: a certificate for every record that was due, and a due date for every certificate.
//!
//! Periods are in days here, so that the model needs no calendar.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use lethe::class::{ErasureReason, Role};
use lethe::clock::{Clock, UnixMillis};
use lethe::crypto::checkpoint::Checkpoint;
use lethe::id::RecordId;
use lethe::vault::certificate::Wanted;
use lethe::vault::certificate::facts::Kind;
use lethe::vault::certificate::verify::{Held, verify};
use lethe::vault::holds::draft::ScopeDraft;
use lethe::vault::retention::policy::{PolicyDraft, StartKind};
use lethe::vault::retention::sweep::Swept;
use lethe::vault::{Receipt, Vault, VaultError};

use super::{DAY, Scene, by_hand, is_gone, officer, person, receipt, rule, sweep, until};
use crate::crash::scale;
use crate::house::{TENANT, draft, get, operator, permit, put};
use crate::model::Dice;

/// The types, and how many days each schema keeps its records.
const TYPES: [(&str, i64); 3] = [("order", 30), ("login", 7), ("letter", 200)];

/// What the rules in force say of a type: days from creation and from the last use, and at least so many.
#[derive(Clone, Copy, Default)]
struct Rules {
    period: Option<i64>,
    sliding: Option<i64>,
    minimum: Option<i64>,
}

struct Known {
    rtype: usize,
    created: i64,
    used: i64,
    /// The hold that keeps it, and the day on which that ends.
    held: Option<(RecordId, i64)>,
    /// Its erasure was asked for meanwhile.
    waits: bool,
    /// Overdue when its hold ended: it went with that day.
    freed: i64,
}

impl Known {
    /// The day after whose end it is gone.
    fn last_day(&self, rules: &Rules) -> i64 {
        let ends = [
            Some(self.created + TYPES[self.rtype].1),
            rules.period.map(|days| self.created + days),
            rules.sliding.map(|days| self.used + days),
        ];
        let end = ends.into_iter().flatten().min().unwrap();
        end.max(rules.minimum.map_or(end, |days| self.created + days)).max(self.freed)
    }
}

fn policy(rtype: usize, rules: &Rules) -> PolicyDraft {
    rule(TYPES[rtype].0, |d| {
        d.types = vec![TYPES[rtype].0.into()];
        let days = |n: Option<i64>| n.map(|n| format!("P{n}D")).unwrap_or_default();
        d.period = days(rules.sliding.or(rules.period));
        d.start = Some(match rules.sliding {
            Some(_) => StartKind::LastUse,
            None => StartKind::Creation,
        });
        d.minimum = days(rules.minimum);
        d.basis = "GDPR art. 5(1)(e)".into();
    })
}

/// Rules that make sense together, or none.
fn some_rules(dice: &mut Dice) -> Rules {
    let days = |dice: &mut Dice, most: u64| Some(2 + dice.below(most) as i64);
    match dice.below(4) {
        0 => Rules::default(),
        1 => Rules { period: days(dice, 60), ..Rules::default() },
        2 => Rules { sliding: days(dice, 40), ..Rules::default() },
        _ => {
            let minimum = days(dice, 50);
            let period = minimum.map(|m| m + dice.below(30) as i64);
            Rules { period, minimum, sliding: None }
        }
    }
}

async fn set_rules(vault: &Vault, rtype: usize, old: &Rules, new: &Rules) {
    let is_there = |r: &Rules| r.period.is_some() || r.sliding.is_some() || r.minimum.is_some();
    let draft = policy(rtype, new);
    match (is_there(old), is_there(new)) {
        (false, false) => {}
        (false, true) => {
            drop(vault.create_retention_policy(&officer(), TENANT, draft).await.unwrap())
        }
        (true, true) => {
            let permit = officer();
            vault.update_retention_policy(&permit, TENANT, draft, None, None).await.unwrap();
        }
        (true, false) => {
            let id = crate::house::slug(TYPES[rtype].0);
            vault.delete_retention_policy(&officer(), TENANT, &id, None).await.unwrap();
        }
    }
    until("records are where the rules want them", || {
        vault.retention_state().rebucketing.is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_year_of_days_keeps_what_must_be_kept_and_nothing_that_must_go() {
    let all = scale(4_000, 100_000);
    let seed = std::env::var("LETHE_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(365);
    println!("a year: {all} records, LETHE_SEED={seed}");
    let started = Instant::now();
    let mut dice = Dice::new(seed);
    let scene = Scene::at("2026-01-01", |setup| {
        by_hand(setup);
        // Only so that nobody waits long for what the keeper does between sweeps.
        setup.keeper.interval = Duration::from_millis(5);
    });
    let mut vault = scene.vault().await;
    for (name, days) in TYPES {
        let schema = draft(name, Some(&format!("P{days}D")));
        vault.create_schema(&operator(Some(TENANT)), TENANT, schema).await.unwrap();
    }
    let today = |scene: &Scene| scene.clock.now().0.div_euclid(DAY);
    let mut rules = [Rules::default(); TYPES.len()];
    let mut live = BTreeMap::<RecordId, Known>::new();
    // What went by retention, with the day after whose end it had to go.
    let mut gone = BTreeMap::<RecordId, i64>::new();
    let mut evidence: Vec<(u64, Receipt)> = Vec::new();
    let first = today(&scene);
    for n in 0..365 {
        let now = today(&scene);
        for _ in 0..all / 365 {
            let rtype = dice.below(TYPES.len() as u64) as usize;
            let fields = person(&format!("{n}-{}", dice.below(u64::MAX)));
            let made = put(&vault, TYPES[rtype].0, fields).await.unwrap();
            let (created, used, held, waits, freed) = (now, now, None, false, 0);
            live.insert(made.id, Known { rtype, created, used, held, waits, freed });
        }
        hold_some(&vault, &mut live, &rules, (now, &mut dice)).await;
        // Some are used: that counts where a rule slides.
        let chosen = live.iter().filter(|(_, k)| !k.waits).map(|(id, _)| *id);
        let chosen: Vec<RecordId> = chosen.filter(|_| dice.below(40) == 0).collect();
        for id in chosen {
            get(&vault, id).unwrap();
            let known = live.get_mut(&id).unwrap();
            if rules[known.rtype].sliding.is_some() {
                known.used = now;
            }
        }
        // Some are erased by request: those are not retention's.
        let chosen = live.iter().filter(|(_, k)| k.held.is_none()).map(|(id, _)| *id);
        let chosen: Vec<RecordId> = chosen.filter(|_| dice.below(300) == 0).collect();
        for id in chosen {
            assert_eq!(receipt(&vault, id).await.reason, ErasureReason::SubjectRequest);
            live.remove(&id);
        }
        if dice.below(15) == 0 {
            let rtype = dice.below(TYPES.len() as u64) as usize;
            let new = some_rules(&mut dice);
            set_rules(&vault, rtype, &rules[rtype], &new).await;
            rules[rtype] = new;
        }
        if dice.below(40) == 0 {
            // The sweep that follows a start would keep what it did to itself.
            evidence.extend(went(sweep(&vault).await));
            vault.close().unwrap();
            drop(vault);
            vault = scene.house.open().unwrap();
        }
        // The night: an hour before midnight buckets close, after it they go.
        scene.clock.set(UnixMillis((now + 1) * DAY - 1_800_000));
        evidence.extend(went(sweep(&vault).await));
        scene.clock.set(UnixMillis((now + 1) * DAY + 60_000));
        evidence.extend(went(sweep(&vault).await));
        let due: Vec<RecordId> = live
            .iter()
            .filter(|(_, k)| k.held.is_none() && k.last_day(&rules[k.rtype]) <= now)
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            let known = live.remove(&id).unwrap();
            gone.insert(id, known.last_day(&rules[known.rtype]));
        }
        if n % 30 == 29 || n == 364 {
            agree(&vault, &live, &gone);
        }
    }
    audit(&vault, &gone, &evidence, first).await;
    println!(
        "{} went by retention in {} buckets, {} are left, {:.0?}",
        gone.len(),
        evidence.len(),
        live.len(),
        started.elapsed()
    );
    assert!(gone.len() > all / 2, "the year must have let most of it go");
    vault.close().unwrap();
}

/// Ends the holds whose day has come, and places some.
async fn hold_some(
    vault: &Vault,
    live: &mut BTreeMap<RecordId, Known>,
    rules: &[Rules],
    (now, dice): (i64, &mut Dice),
) {
    let over = |k: &Known| k.held.is_some_and(|(_, ends)| ends <= now);
    let over: Vec<RecordId> = live.iter().filter(|(_, k)| over(k)).map(|(id, _)| *id).collect();
    for id in &over {
        let (hold, _) = live.get_mut(id).unwrap().held.take().unwrap();
        crate::holds::release(vault, hold).await;
    }
    for id in &over {
        let known = live.get_mut(id).unwrap();
        if known.waits {
            until("what was asked for meanwhile happened", || is_gone(vault, *id)).await;
            assert_eq!(receipt(vault, *id).await.reason, ErasureReason::SubjectRequest);
            live.remove(id);
        } else if known.last_day(&rules[known.rtype]) < now {
            known.freed = now;
        }
    }
    if !over.is_empty() {
        until("what was held is where the rules want it", || {
            vault.retention_state().rebucketing.is_empty()
        })
        .await;
    }
    let free = live.iter().filter(|(_, k)| k.held.is_none()).map(|(id, _)| *id);
    let chosen: Vec<RecordId> = free.filter(|_| dice.below(900) == 0).collect();
    for id in chosen {
        let hold = crate::holds::hold(vault, ScopeDraft::Record(id)).await;
        let known = live.get_mut(&id).unwrap();
        known.held = Some((hold, now + 1 + dice.below(60) as i64));
        if dice.below(4) == 0 {
            let asked = crate::holds::erase(vault, id).await;
            assert_eq!(asked.postponed.len(), 1);
            known.waits = true;
        }
    }
}

fn went(swept: Swept) -> impl Iterator<Item = (u64, Receipt)> {
    assert_eq!(swept.failed, 0);
    swept.gone.into_iter().map(|gone| (gone.records, gone.receipt))
}

fn agree(vault: &Vault, live: &BTreeMap<RecordId, Known>, gone: &BTreeMap<RecordId, i64>) {
    // A look of the officer's is no use.
    let look = permit(Role::PrivacyOfficer, Some(TENANT));
    for id in live.keys() {
        let read = vault.get_record(&look, TENANT, *id, &Default::default());
        assert!(read.is_ok(), "{id} went early: {:?}", read.map(|_| ()));
    }
    for id in gone.keys() {
        let read = vault.get_record(&look, TENANT, *id, &Default::default());
        assert!(matches!(read, Err(VaultError::Erased(_))), "{id} was due and is there");
    }
}

/// Every record that was due has evidence, of its own day, and no evidence is of a day that was not over.
async fn audit(
    vault: &Vault,
    gone: &BTreeMap<RecordId, i64>,
    evidence: &[(u64, Receipt)],
    first: i64,
) {
    let mut leaves = BTreeSet::new();
    for (_, one) in evidence {
        assert_eq!(one.reason, ErasureReason::Retention);
        assert!(one.erased >= one.requested, "a bucket went before its day was over");
        assert_eq!(one.requested.0 % DAY, 0, "due at a midnight");
        assert!(one.requested.0 / DAY > first);
        assert!(leaves.insert(one.leaf_index), "one leaf for each");
    }
    let told: u64 = evidence.iter().map(|(records, _)| records).sum();
    assert_eq!(told, gone.len() as u64, "the leaves count what went, all of it and nothing else");
    for (id, last_day) in gone {
        let own = receipt(vault, *id).await;
        assert!(leaves.contains(&own.leaf_index), "{id} has no evidence of its bucket");
        let due = own.requested.0 / DAY - 1;
        // It may have been due earlier than the rule that came last says: then it went when it was moved.
        assert!(due >= *last_day || due < own.erased.0 / DAY, "{id}: due {due}, not {last_day}");
        let key = evidence[0].1.public_key;
        assert_eq!((own.public_key, own.signature.len()), (key, 64));
        certified(vault, *id, key, own.leaf_index).await;
    }
    // Nothing else has one: what is on the list of certificates is what went.
    let (auditor, mut from, mut listed) = (permit(Role::Auditor, Some(TENANT)), 0, BTreeSet::new());
    loop {
        let ever = (UnixMillis(0), UnixMillis(i64::MAX));
        let (page, next) = vault.killed_buckets(&auditor, TENANT, ever, from, 100).unwrap();
        listed.extend(page.iter().filter(|k| k.rtype.is_some()).map(|k| k.leaf_index));
        match next {
            Some(next) => from = next,
            None => break,
        }
    }
    assert_eq!(listed, leaves, "a certificate for each, and each for something");
}

/// The certificate of a record that went holds without the vault, and says that it was due before it was done.
async fn certified(vault: &Vault, id: RecordId, public_key: [u8; 32], leaf: u64) {
    let permit = permit(Role::Auditor, Some(TENANT));
    let made = vault.certificate(&permit, TENANT, Wanted::Record(id), None).await.unwrap();
    let (checkpoint, _) = Checkpoint::open(&made.checkpoint, public_key).unwrap();
    let held = Held { public_key, checkpoint: &checkpoint, bridge: None, record: Some(id) };
    let checked = verify(&made, &held).unwrap();
    let (destroyed, erasure) = (&checked.facts.destroyed, &checked.facts.erasure);
    assert_eq!((destroyed.kind, destroyed.leaves[0].index), (Kind::RecordWithBucket, leaf));
    assert!(erasure.due.as_ref().is_some_and(|due| *due <= erasure.removed), "{id}: early");
}

//! What is true verifies, for every kind of certificate; each way to spoil or forge one is refused by its name.

#[path = "made_tests.rs"]
mod made;

use self::made::{Made, RECORD, VAULT, due};
use super::super::page::{PageFault, page, read};
use super::*;

const KINDS: [Kind; 4] = [Kind::Record, Kind::Subject, Kind::Bucket, Kind::RecordWithBucket];

#[test]
fn every_kind_of_certificate_verifies_as_json_and_as_a_page() {
    for kind in KINDS {
        let made = Made::of(kind);
        let records = if kind == Kind::Bucket { 13 } else { 1 };
        let text = made.document.to_text().unwrap();
        let html = page(&made.document).unwrap();
        for file in [text, html] {
            let read = read(&file).unwrap();
            assert_eq!(read, made.document);
            assert_eq!(made.check(&read), Ok(records), "{kind:?}");
        }
        // Without the leaf of the level it says so, and holds.
        let mut young = made.signed_anew(|f| f.erasure.level_leaf = None);
        young.level_leaf = None;
        assert_eq!(made.check(&young), Ok(records));
        let named = made.check_for(&made.document, Some(RECORD));
        match kind {
            Kind::Bucket => assert_eq!(named, Err(Refusal::NoMember)),
            _ => assert_eq!(named, Ok(1)),
        }
        let other = made.check_for(&made.document, Some(RecordId([9; 16])));
        assert!(matches!(other, Err(Refusal::OtherRecord | Refusal::NoMember)), "{kind:?}");
    }
}

#[test]
fn a_flipped_bit_anywhere_in_a_certificate_is_noticed() {
    for kind in KINDS {
        let made = Made::of(kind);
        let text = made.document.to_text().unwrap();
        for at in 0..text.len() {
            let mut bad = text.clone().into_bytes();
            bad[at] ^= 1 << (at % 7);
            let Ok(bad) = String::from_utf8(bad) else { continue };
            let held = read(&bad).ok().map(|document| made.check(&document));
            assert!(held.is_none_or(|outcome| outcome.is_err()), "{kind:?}, byte {at}");
        }
        let html = page(&made.document).unwrap();
        for at in (0..html.len()).filter(|at| at % 3 == kind as usize % 3) {
            let mut bad = html.clone().into_bytes();
            bad[at] ^= 1 << (at % 7);
            let Ok(bad) = String::from_utf8(bad) else { continue };
            let held = read(&bad).ok().map(|document| made.check(&document));
            assert!(held.is_none_or(|o| o.is_err()), "{kind:?}, byte {at} of the page");
        }
        for cut in 0..text.len() {
            assert!(
                text.get(..cut).is_none_or(|part| part == text.trim_end() || read(part).is_err())
            );
        }
    }
}

#[test]
fn a_page_runs_nothing_and_shows_no_markup_of_others() {
    let html = page(&Made::of(Kind::Bucket).document).unwrap();
    assert!(html.contains("HGB § 257 &lt;script&gt;alert(1)&lt;/script&gt;[U+202E]"));
    assert_eq!(html.matches("<script").count(), 1, "the data alone");
    assert!(html.contains("default-src 'none'; style-src 'sha256-"));
    assert!(html.contains("@media print"));
    assert!(!html.contains("http://") && !html.contains("https://"), "nothing is fetched");
    let other = html.replace("13 records", "12 records");
    assert_ne!(other, html);
    assert_eq!(read(&other), Err(PageFault::Altered));
    assert_eq!(read("<html></html>"), Err(PageFault::None));
}

#[test]
fn another_key_another_vault_and_another_ledger_are_told_apart() {
    let made = Made::of(Kind::Record);
    let checkpoint = made.ledger.checkpoint(made.size);
    let key = made.ledger.signer.public_key();
    let checked = |document, key, checkpoint, bridge| {
        let held = Held { public_key: key, checkpoint, bridge, record: None };
        verify(document, &held).map(drop).unwrap_err()
    };
    let refused = checked(&made.document, [9; 32], &checkpoint, None);
    assert!(matches!(refused, Refusal::OtherKey(_)), "{refused:?}");
    // Of the same key, under another name.
    let other = Made::at(VaultId([6; 16]), 3, Kind::Record, UnixMillis(due().0 + 1));
    let refused = checked(&other.document, key, &checkpoint, None);
    assert!(matches!(refused, Refusal::OtherVault { .. }), "{refused:?}");
    let foreign = Made::at(VaultId([6; 16]), 4, Kind::Record, UnixMillis(due().0 + 1));
    let refused = checked(&foreign.document, key, &checkpoint, None);
    assert!(matches!(refused, Refusal::OtherKey(_)), "{refused:?}");
    let rewritten = Checkpoint { root: [1; 32], ..checkpoint };
    assert_eq!(checked(&made.document, key, &rewritten, None), Refusal::Rewritten);
    let earlier = made.ledger.checkpoint(3);
    let sizes = Refusal::OtherSize { found: 8, held: 3 };
    assert_eq!(checked(&made.document, key, &earlier, None), sizes);
    let bridge = made.ledger.bridge(3, 8);
    let held = Held { public_key: key, checkpoint: &earlier, bridge: Some(&bridge), record: None };
    verify(&made.document, &held).unwrap();
    let cut = checked(&made.document, key, &earlier, Some(&bridge[1..]));
    assert!(matches!(cut, Refusal::Bridge(ProofError::Length { .. })), "{cut:?}");
    let lying = Checkpoint { root: [1; 32], ..earlier };
    let refused = checked(&made.document, key, &lying, Some(&bridge));
    assert!(matches!(refused, Refusal::Bridge(ProofError::OldRoot)), "{refused:?}");
    // A signature of another thing is none of a certificate.
    let mut borrowed = made.document.clone();
    let note = STANDARD.encode(made.ledger.signer.sign(checkpoint.to_string().as_bytes()));
    borrowed.signature = note;
    assert_eq!(made.check(&borrowed), Err(Refusal::Signature));
}

/// Of whatever the ledger proves, the vault's own signature is not enough.
#[test]
fn a_vault_that_signs_what_its_ledger_does_not_say_is_refused() {
    let leafs =
        |field| move |r: &Refusal| matches!(r, Refusal::Leafs { field: f, .. } if *f == field);
    type Case = (Kind, fn(&mut Facts), Box<dyn Fn(&Refusal) -> bool>);
    let is =
        |refusal: Refusal| -> Box<dyn Fn(&Refusal) -> bool> { Box::new(move |r| *r == refusal) };
    let cases: Vec<Case> = vec![
        (Kind::Bucket, |f| f.destroyed.records = 14, is(Refusal::Count)),
        (Kind::Record, |f| f.destroyed.records = 0, is(Refusal::Count)),
        (
            Kind::Bucket,
            |f| f.destroyed.leaves[0].records = 10,
            Box::new(leafs("the number of records")),
        ),
        (
            Kind::Bucket,
            |f| f.destroyed.leaves[1].root = None,
            Box::new(leafs("the root of the list")),
        ),
        (Kind::Bucket, |f| f.destroyed.leaves.truncate(1), is(Refusal::Form("destroyed.leaves"))),
        (
            Kind::Record,
            |f| f.destroyed.leaves[0].hash.replace_range(..1, "x"),
            Box::new(leafs("its hash")),
        ),
        (Kind::Record, |f| f.destroyed.leaves[0].index = 4, Box::new(leafs("its place"))),
        (Kind::Record, |f| f.destroyed.version = Some(4), Box::new(leafs("what was destroyed"))),
        (Kind::Record, |f| f.destroyed.version = None, is(Refusal::Form("destroyed.version"))),
        (
            Kind::Record,
            |f| f.destroyed.name = format!("tenants/a/records/{}", RecordId([8; 16])),
            Box::new(leafs("what was destroyed")),
        ),
        (
            Kind::Record,
            |f| f.destroyed.name = format!("tenants/a/subjects/{RECORD}"),
            is(Refusal::Form("destroyed.name")),
        ),
        (Kind::Subject, |f| f.destroyed.kind = Kind::Bucket, Box::new(leafs("the kind"))),
        (Kind::RecordWithBucket, |f| f.destroyed.kind = Kind::Record, Box::new(leafs("the kind"))),
        (Kind::Record, |f| f.erasure.generation = 8, Box::new(leafs("the generation"))),
        (Kind::Record, |f| f.erasure.reason = "CONTRACT".into(), Box::new(leafs("the reason"))),
        (
            Kind::Record,
            |f| f.erasure.requested.replace_range(3..4, "5"),
            Box::new(leafs("the time of the request")),
        ),
        (
            Kind::Record,
            |f| f.erasure.removed.replace_range(3..4, "5"),
            Box::new(leafs("the time of the removal")),
        ),
        (
            Kind::Record,
            |f| f.erasure.completed.replace_range(3..4, "5"),
            Box::new(leafs("the time of completion")),
        ),
        (
            Kind::Record,
            |f| f.erasure.level = "E2_ALL_ANCHORS_SCRUBBED".into(),
            Box::new(leafs("the level")),
        ),
        (
            Kind::Record,
            |f| f.erasure.medium = "MAY_KEEP_OLD_BLOCKS".into(),
            Box::new(leafs("the medium")),
        ),
        (Kind::Record, |f| f.erasure.level_leaf = None, is(Refusal::Form("erasure.level_leaf"))),
        (Kind::Record, |f| f.erasure.level_leaf = Some(5), is(Refusal::Form("erasure.level_leaf"))),
        (Kind::Bucket, |f| f.erasure.due = None, is(Refusal::Form("erasure.due"))),
        (Kind::Record, |f| f.erasure.due = Some(instant(due())), is(Refusal::Form("erasure.due"))),
        (
            Kind::RecordWithBucket,
            |f| (f.destroyed.expire_date, f.erasure.due) = (None, None),
            is(Refusal::Form("destroyed.expire_date")),
        ),
        (Kind::Record, |f| f.asked_by.kind = AskerKind::Schedule, is(Refusal::Form("asked_by"))),
        (Kind::Record, |f| f.vault.name.push('x'), is(Refusal::Form("vault.name"))),
        (Kind::Record, |f| f.vault.public_key.push('0'), is(Refusal::Form("vault.public_key"))),
        (Kind::Record, |f| f.format.push('2'), is(Refusal::Form("format"))),
    ];
    let outcomes = cases.into_iter().enumerate().map(|(at, (kind, change, expected))| {
        let made = Made::of(kind);
        let outcome = made.check(&made.signed_anew(change));
        (at, outcome.as_ref().is_err_and(&expected), outcome)
    });
    let wrong: Vec<_> = outcomes.filter(|(_, right, _)| !right).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    // Also while no leaf states the level, which names the generation too.
    let made = Made::of(Kind::Record);
    let mut young = made.signed_anew(|f| {
        (f.erasure.level_leaf, f.erasure.generation) = (None, 8);
    });
    young.level_leaf = None;
    let refused = Refusal::Leafs { field: "the generation", index: 5 };
    assert_eq!(made.check(&young), Err(refused));
    let early = Made::at(VAULT, 3, Kind::Bucket, UnixMillis(due().0 - 1));
    assert_eq!(early.check(&early.document), Err(Refusal::Early));
    let in_time = Made::at(VAULT, 3, Kind::Bucket, due());
    assert_eq!(in_time.check(&in_time.document), Ok(13), "control");
}

#[test]
fn proofs_that_are_cut_swapped_or_of_other_leaves_are_refused() {
    let made = Made::of(Kind::RecordWithBucket);
    let spoilt = |change: fn(&mut Document)| {
        let mut document = made.document.clone();
        change(&mut document);
        made.check(&document).unwrap_err()
    };
    let cut = spoilt(|d| drop(d.leaves[0].path.pop()));
    let short =
        |r: &Refusal| matches!(r, Refusal::NotIncluded { why: ProofError::Length { .. }, .. });
    assert!(short(&cut), "{cut:?}");
    let cut = spoilt(|d| drop(d.level_leaf.as_mut().unwrap().path.pop()));
    assert!(short(&cut), "{cut:?}");
    let cut = spoilt(|d| drop(d.membership.as_mut().unwrap().path.pop()));
    assert!(matches!(cut, Refusal::NotMember(ProofError::Length { .. })), "{cut:?}");
    let swapped = spoilt(|d| d.leaves[0].path.swap(0, 1));
    assert!(matches!(swapped, Refusal::NotIncluded { why: ProofError::Root, .. }), "{swapped:?}");
    let other = spoilt(|d| d.membership.as_mut().unwrap().index = 6);
    assert!(matches!(other, Refusal::NotMember(ProofError::Root)), "{other:?}");
    let salt = spoilt(|d| d.membership.as_mut().unwrap().salt = STANDARD.encode([0; 16]));
    assert!(matches!(salt, Refusal::NotMember(ProofError::Root)), "{salt:?}");
    assert_eq!(spoilt(|d| d.membership = None), Refusal::NoMember);
    let level = spoilt(|d| d.level_leaf = None);
    assert_eq!(level, Refusal::Form("erasure.level_leaf"));
    let shown = spoilt(|d| d.facts.asked_by.name = "somebody else".into());
    assert_eq!(shown, Refusal::Shown);
    let moved = spoilt(|d| d.leaves[0].index = 4);
    assert!(matches!(moved, Refusal::Leaf { index: 4, why: LeafFault::Seq }), "{moved:?}");
    let record = Made::of(Kind::Record);
    let mut extra = record.document.clone();
    extra.membership.clone_from(&made.document.membership);
    assert_eq!(record.check(&extra), Err(Refusal::Form("membership")));
    // The same erasure twice.
    let bucket = Made::of(Kind::Bucket);
    let mut twice = bucket.signed_anew(|f| {
        f.destroyed.leaves[1] = f.destroyed.leaves[0].clone();
        f.destroyed.records = 18;
    });
    twice.leaves[1] = twice.leaves[0].clone();
    assert_eq!(bucket.check(&twice), Err(Refusal::Form("destroyed.leaves")));
}

#[test]
fn a_field_too_many_missing_or_given_twice_makes_it_no_certificate() {
    let text = Made::of(Kind::Record).document.to_text().unwrap();
    assert!(read(&text).is_ok(), "control");
    for (from, to) in [
        ("\"issued\"", "\"note\": 1, \"issued\""),
        ("\"issued\"", "\"issued_\""),
        ("\"level_leaf\": null", ""),
        ("\"records\": 1,", "\"records\": 1, \"records\": 1,"),
        ("\"membership\": null,", ""),
        ("\"expire_date\": null,", ""),
        ("\"records\": 1,", "\"records\": -1,"),
        ("\"records\": 1,", "\"records\": 1.0,"),
        ("\"statement\"", "\"unknown\": {}, \"statement\""),
    ] {
        let bad = text.replacen(from, to, 1);
        assert!(
            bad == text || matches!(read(&bad), Err(PageFault::Malformed(Malformed::Json(_)))),
            "{to}"
        );
    }
    let none = text.replacen("\"leaves\": [", "\"leaves\": [], \"x\": [", 1);
    assert!(read(&none).is_err());
    let long = format!("{text}{}", " ".repeat(crate::limits::CERTIFICATE_BYTES_MAX));
    assert_eq!(read(&long), Err(PageFault::Malformed(Malformed::TooLong)));
    let mut many = Made::of(Kind::Record).document;
    many.leaves = vec![many.leaves[0].clone(); 65];
    assert_eq!(read(&many.to_text().unwrap()), Err(PageFault::Malformed(Malformed::Leaves)));
    many.leaves.truncate(1);
    many.leaves[0].path = vec![STANDARD.encode([0; 32]); 65];
    assert_eq!(read(&many.to_text().unwrap()), Err(PageFault::Malformed(Malformed::Path)));
    let told = Malformed::Json(String::new()).to_string();
    assert!(told.contains("JSON"));
}

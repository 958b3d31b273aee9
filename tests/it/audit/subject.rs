//! Who read a subject's data: answered by an index whose cost does not grow with the log, and by nobody once the
//! subject is erased.

use std::time::Duration;

use lethe::audit::named;
use lethe::audit::named::NamedRow;
use lethe::audit::spans::{BLOCK_ENTRIES, LEVEL_MAX, Span};
use lethe::store::sum::with_sum;
use lethe::vault::SubjectQuery;

use super::*;
use crate::peer::PATIENCE;

const ROW_PREFIX: &[u8] = b"y";

fn query(subject: RecordId, record: Option<RecordId>) -> SubjectQuery {
    SubjectQuery { tenant: slug(TENANT), subject, record }
}

fn officer() -> Permit<lethe::authz::ReadAudit> {
    permit(Role::PrivacyOfficer, Some(TENANT))
}

/// All pages, of this size.
fn pages(vault: &Vault, query: &SubjectQuery, size: usize) -> Result<Vec<Entry>, VaultError> {
    let (mut all, mut before) = (Vec::new(), None);
    loop {
        let page = vault.subject_entries(&officer(), query, before, size)?;
        assert!(page.lines.len() <= size);
        all.extend(page.lines.into_iter().map(|l| l.told.unwrap().entry));
        match page.next {
            Some(_) => before = page.next,
            None => return Ok(all),
        }
    }
}

/// What looking through the whole log finds, the newest first, up to an entry.
fn by_scan(vault: &Vault, who: Member, of_record: bool) -> Vec<u64> {
    let is = |m: &Member| m.subject == who.subject && (!of_record || m.record == who.record);
    let found = told(vault).into_iter().map(|t| t.entry);
    let mut found: Vec<u64> = found.filter(|e| e.members.iter().any(is)).map(|e| e.seq).collect();
    found.reverse();
    found
}

pub async fn indexed(vault: &Vault, blocks: u64) {
    let since = std::time::Instant::now();
    while vault.metrics().audit_blocks_indexed.value() < blocks {
        assert!(since.elapsed() < PATIENCE, "the index is not brought on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Fills the log with reads of these records, in turn.
async fn fill(vault: &Vault, records: &[RecordId], count: usize) {
    for n in 0..count {
        get(vault, records[n % records.len()]).unwrap();
    }
    vault.settle_log().await.unwrap();
}

/// Of the entries about somebody, those that were there before this test looked.
fn seqs(entries: &[Entry]) -> Vec<u64> {
    let looked = |e: &&Entry| e.act != Act::ListSubjectAuditEntries;
    entries.iter().filter(looked).map(|e| e.seq).collect()
}

fn member_of(vault: &Vault, subject: RecordId) -> Member {
    let page = vault.subject_entries(&officer(), &query(subject, None), None, 1).unwrap();
    page.lines[0].told.as_ref().unwrap().entry.members[0]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_index_finds_what_looking_through_the_log_finds() {
    let dir = scratch();
    let house = House::new(dir.path(), EngineChoice::Redb);
    let vault = house.create();
    furnish(&vault).await;
    let mut people = Vec::new();
    for n in 0..5 {
        people.push(put(&vault, "customer", person(n)).await.unwrap());
    }
    let subject = Some(people[0].subject);
    let more = NewRecord { rtype: slug("visit"), subject, fields: person(9), request: None };
    let second = vault.create_record(&app(), TENANT, more).await.unwrap();
    let ids: Vec<RecordId> = people.iter().map(|p| p.id).chain([second.id]).collect();
    fill(&vault, &ids, 700).await;
    // Entries with many members, one of them twice, in several parts.
    let many: Vec<RecordId> = (0..600).map(|n| ids[n % ids.len()]).collect();
    vault.get_records(&app(), TENANT, &many, &ReadSpec::default()).unwrap();
    fill(&vault, &ids, 900).await;
    indexed(&vault, 6).await;
    for size in [1, 7, 1_000] {
        for person in &people {
            let found = pages(&vault, &query(person.subject, None), size).unwrap();
            let who = Member { subject: found[0].members[0].subject, record: [0; 16] };
            let mut expected = by_scan(&vault, who, false);
            let found = seqs(&found);
            expected.retain(|seq| *seq <= found[0]);
            let looks = told(&vault).into_iter().map(|t| t.entry);
            let looks: BTreeSet<u64> =
                looks.filter(|e| e.act == Act::ListSubjectAuditEntries).map(|e| e.seq).collect();
            expected.retain(|seq| !looks.contains(seq));
            assert_eq!(found, expected);
            assert!(found.len() > 200);
        }
    }
    // One record of the subject: the entries about it alone.
    let of_record = |record| pages(&vault, &query(people[0].subject, record), 1_000).unwrap();
    let (first, all) = (of_record(Some(people[0].id)), of_record(None));
    let other = of_record(Some(second.id));
    let both = first.iter().filter(|e| other.iter().any(|o| o.seq == e.seq)).count();
    assert!(first.len() > 200 && other.len() > 200 && first.len() < all.len());
    assert!(both <= 3, "but for the entries of the batch: {both}");
    let strange =
        vault.subject_entries(&officer(), &query(people[1].subject, Some(second.id)), None, 10);
    assert!(matches!(strange, Err(VaultError::Argument { field: "record", .. })));

    // Looking is told too, and about whom.
    let mut last = told(&vault).into_iter().map(|t| t.entry);
    let last = last.rfind(|e| e.act == Act::ListSubjectAuditEntries).unwrap();
    assert_eq!((last.role, last.members.len()), (Some(Role::PrivacyOfficer), 1));
    assert_eq!(last.members[0].subject, member_of(&vault, people[0].subject).subject);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cost_of_an_answer_does_not_grow_with_the_log() {
    let dir = scratch();
    let (plan, engine) = slow();
    let vault = House::new(dir.path(), engine).create();
    furnish(&vault).await;
    let one = put(&vault, "customer", person(1)).await.unwrap();
    // Many, since one alone would fill rows of whoever has the first bits of his fingerprint.
    let mut others = Vec::new();
    for n in 2..66 {
        others.push(put(&vault, "customer", person(n)).await.unwrap().id);
    }
    fill(&vault, &[one.id], 20).await;
    let mut costs = Vec::new();
    for length in [2_000, 20_000] {
        fill(&vault, &others, length).await;
        let size = told(&vault).len() as u64;
        indexed(&vault, size / BLOCK_ENTRIES).await;
        // The vault's threads read too, at times: the least of some answers is what one costs.
        let answer = || {
            std::thread::sleep(Duration::from_millis(100));
            let before = plan.reads();
            let found = pages(&vault, &query(one.subject, None), 1_000).unwrap();
            let cost = plan.reads() - before;
            assert_eq!(found.iter().filter(|e| e.act == Act::GetRecord).count(), 20);
            cost
        };
        costs.extend((0..5).map(|_| answer()).min());
    }
    println!("store reads for 20 entries in logs of 2,000 and 22,000: {costs:?}");
    assert!(costs.iter().all(|reads| *reads < 80), "{costs:?}");
    assert!(costs[1].abs_diff(costs[0]) < 20, "{costs:?}");
}

/// With the actual rows at hand: the index is of the log alone, and comes back whatever is lost of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_lacks_its_end_or_is_lost_or_damaged_changes_no_answer() {
    let dir = scratch();
    let rows = Arc::new(Memory::new());
    let house = House::new(dir.path(), EngineChoice::Given(rows.clone()));
    let vault = house.create();
    furnish(&vault).await;
    let one = put(&vault, "customer", person(1)).await.unwrap();
    let two = put(&vault, "customer", person(2)).await.unwrap();
    // Enough for a span that sixteen blocks became, and for some that are still alone.
    fill(&vault, &[one.id, two.id], 4_800).await;
    indexed(&vault, told(&vault).len() as u64 / BLOCK_ENTRIES).await;
    let good = seqs(&pages(&vault, &query(one.subject, None), 1_000).unwrap());
    assert!(good.len() > 2_400);
    let ask = |vault: &Vault| {
        let found = seqs(&pages(vault, &query(one.subject, None), 1_000).unwrap());
        assert_eq!(found, good);
    };
    // A row that cannot be read: what it covers is looked through.
    let kept = rows.scan(ROW_PREFIX, b"z", 1_000).unwrap();
    let (places, mut looked): (Vec<_>, Vec<u8>) =
        (kept.iter().filter_map(|r| named::place_in(&r.key)).collect(), Vec::new());
    assert_eq!(places.len() + 1, kept.len());
    let per = [0, 1, 2].map(|level| places.iter().filter(|(s, ..)| s.level == level).count());
    assert!(per[0] > 1 && per[1] >= 16 && per[2] == 0, "control: {per:?}");
    for (row, (span, ..)) in kept.iter().filter(|r| r.key.len() > 1).zip(&places) {
        let before = vault.metrics().damaged_rows.value();
        let damaged: Vec<u8> = row.value.iter().map(|b| b ^ 1).collect();
        for bad in [Some(damaged), Some(row.value[1..].to_vec()), None] {
            rows.commit(&[(row.key.clone(), bad)]).unwrap();
            ask(&vault);
        }
        rows.commit(&[(row.key.clone(), Some(row.value.clone()))]).unwrap();
        looked.extend((vault.metrics().damaged_rows.value() > before).then_some(span.level));
    }
    let looked = [0, 1].map(|level| looked.iter().filter(|l| **l == level).count());
    assert!(looked[0] == per[0] && looked[1] > 0 && looked[1] < 16, "{looked:?}");
    vault.close().unwrap();
    drop(vault);
    // As after a kill between a block's rows and their count, or before those that it replaced were gone; without the
    // count; without any row; with a count of a log that is longer; with rows of an older form.
    let count = |n| (named::INDEXED_KEY.to_vec(), Some(named::indexed_row(n)));
    let blocks = rows.get(named::INDEXED_KEY).unwrap().as_deref().and_then(named::indexed_in);
    let blocks = blocks.unwrap();
    let kept = rows.scan(ROW_PREFIX, b"z", 1_000).unwrap();
    let of_last = |r: &&lethe::store::Row| {
        named::place_in(&r.key).is_some_and(|(span, ..)| span == Span::block(blocks - 1))
    };
    let without: Vec<_> = kept.iter().map(|r| (r.key.clone(), None)).collect();
    let last_gone = kept.iter().filter(of_last).map(|r| (r.key.clone(), None));
    let stray =
        NamedRow { span: Span::block(3), partition: 0, from: 0, until: 256, postings: vec![] };
    let (stray, empty) = stray.encode();
    let subject = |n: u32| [n.wrapping_mul(0x9e37_79b9).to_be_bytes(); 4].concat();
    let old = (0..3_000_u32).map(|n| {
        let key = [ROW_PREFIX, &subject(n), &(u64::MAX - u64::from(n % 9)).to_be_bytes()].concat();
        (key, Some(with_sum(b"LTY1\x01\x00\x07\x02".to_vec())))
    });
    let old_count = with_sum([b"LTY2".as_slice(), &blocks.to_be_bytes()].concat());
    let old_count = [(named::INDEXED_KEY.to_vec(), Some(old_count))];
    let cases = [
        ("a block whose rows are there and which is not counted", 1, vec![count(blocks - 1)]),
        ("a block that is not there", 1, last_gone.chain([count(blocks - 1)]).collect()),
        ("a row of a block that is in a wider span", 0, vec![(stray.clone(), Some(empty))]),
        ("a count without what it counts", blocks - 15, vec![count(15)]),
        ("no count", blocks, vec![(named::INDEXED_KEY.to_vec(), None)]),
        ("no row at all", blocks, without.clone()),
        ("a count of another log", blocks, vec![count(1 << 30)]),
        ("an older form", blocks, without.iter().cloned().chain(old).chain(old_count).collect()),
    ];
    for (name, missing, writes) in cases {
        println!("{name}");
        rows.commit(&writes).unwrap();
        let vault = house.open().unwrap();
        ask(&vault);
        indexed(&vault, missing).await;
        let since = std::time::Instant::now();
        while rows.get(&stray).unwrap().is_some() {
            assert!(since.elapsed() < PATIENCE, "{name}: what does not count is not deleted");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        ask(&vault);
        vault.close().unwrap();
        drop(vault);
        let again = rows.scan(ROW_PREFIX, b"z", 10_000).unwrap();
        let counted = rows.get(named::INDEXED_KEY).unwrap().unwrap();
        let counted = named::indexed_in(&counted).unwrap();
        let made: Vec<NamedRow> =
            again.iter().filter_map(|r| NamedRow::decode(&r.key, &r.value)).collect();
        assert_eq!(made.len() + 1, again.len(), "{name}: nothing else is there");
        let live = |level| Span::live(level, counted).map(move |number| Span { level, number });
        let live: BTreeSet<Span> = (0..=LEVEL_MAX).flat_map(live).collect();
        let spans: BTreeSet<Span> = made.iter().map(|row| row.span).collect();
        assert_eq!(spans, live, "{name}: what is counted is there, and no more");
        let same =
            |r: &lethe::store::Row| again.iter().any(|a| a.key == r.key && a.value == r.value);
        assert!(kept.iter().filter(|r| r.key.len() > 1).all(same), "{name}: made as it was");
    }
}

/// Somebody asks all the while, on small pages; the log grows by two levels.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_that_become_one_change_no_answer() {
    let dir = scratch();
    let vault = House::new(dir.path(), EngineChoice::Given(Arc::new(Memory::new()))).create();
    furnish(&vault).await;
    let mut people = Vec::new();
    for n in 0..30 {
        people.push(put(&vault, "customer", person(n)).await.unwrap());
    }
    let ids: Vec<RecordId> = people.iter().map(|p| p.id).collect();
    fill(&vault, &ids, 1_500).await;
    let first = vault.subject_entries(&officer(), &query(people[7].subject, None), None, 1_000);
    let good: Vec<u64> = first.unwrap().lines.iter().map(|l| l.index).collect();
    assert_eq!(good.len(), 51);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asker = scope.spawn(|| {
            let mut asked = 0;
            while !done.load(std::sync::atomic::Ordering::Acquire) {
                let found = pages(&vault, &query(people[7].subject, None), 9).unwrap();
                let found: Vec<u64> = seqs(&found).into_iter().filter(|s| *s <= good[0]).collect();
                assert_eq!(found, good);
                asked += 1;
            }
            asked
        });
        let others: Vec<RecordId> = ids.iter().copied().filter(|id| *id != ids[7]).collect();
        for n in 0..13_000 {
            get(&vault, others[n % others.len()]).unwrap();
            if n % 26 == 0 {
                std::thread::sleep(Duration::from_millis(8));
            }
        }
        done.store(true, std::sync::atomic::Ordering::Release);
        assert!(asker.join().unwrap() > 5);
    });
    vault.settle_log().await.unwrap();
    indexed(&vault, told(&vault).len() as u64 / BLOCK_ENTRIES).await;
    assert!(vault.metrics().audit_blocks_indexed.value() > 48, "three spans of the second level");
    for person in [&people[7], &people[0], &people[29]] {
        let found = pages(&vault, &query(person.subject, None), 1_000).unwrap();
        let who = Member { subject: found[0].members[0].subject, record: [0; 16] };
        let found = seqs(&found);
        let mut expected = by_scan(&vault, who, false);
        expected.retain(|seq| *seq <= found[0]);
        expected.retain(|seq| found.contains(seq) || !is_look(&vault, *seq));
        assert_eq!(found, expected);
    }
    assert_eq!(vault.metrics().damaged_rows.value(), 0, "what was replaced is not taken for lost");
    assert_eq!(vault.metrics().audit_index_failures.value(), 0);
}

/// Whether an entry is of somebody who asked.
fn is_look(vault: &Vault, seq: u64) -> bool {
    let page = vault.audit_entries(
        &permit(Role::Auditor, None),
        &AuditFilter::default(),
        Some(seq + 1),
        1,
    );
    let page = page.unwrap();
    page.lines[0].told.as_ref().unwrap().entry.act == Act::ListSubjectAuditEntries
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_repair_the_index_is_made_from_the_entries_that_were_saved() {
    let dir = scratch();
    let house = House::new(dir.path(), EngineChoice::Redb);
    let vault = house.create();
    furnish(&vault).await;
    let one = put(&vault, "customer", person(1)).await.unwrap();
    fill(&vault, &[one.id], 600).await;
    indexed(&vault, 2).await;
    let good = seqs(&pages(&vault, &query(one.subject, None), 100).unwrap());
    vault.close().unwrap();
    drop(vault);
    lethe::vault::repair(&house.setup(), &*house.clock, false).unwrap();
    let vault = house.open().unwrap();
    indexed(&vault, 2).await;
    assert_eq!(seqs(&pages(&vault, &query(one.subject, None), 100).unwrap()), good);
}

/// Everything that is in the store and the subject's ids, but not the key of its records: nothing leads to its entries.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn once_a_subject_is_erased_nothing_in_the_store_says_which_entries_were_about_it() {
    let dir = scratch();
    let rows = Arc::new(Memory::new());
    let house = House::new(dir.path(), EngineChoice::Given(rows.clone()));
    let vault = house.create();
    furnish(&vault).await;
    let gone = put(&vault, "customer", person(1)).await.unwrap();
    let stays = put(&vault, "customer", person(2)).await.unwrap();
    fill(&vault, &[gone.id, stays.id], 600).await;
    indexed(&vault, 2).await;
    let pseudonym = member_of(&vault, gone.subject);
    assert!(pages(&vault, &query(gone.subject, None), 100).unwrap().len() > 300, "control");
    let of_record = query(stays.subject, Some(gone.id));
    let reason = ErasureReason::SubjectRequest;
    vault.erase_subject(&app(), TENANT, gone.subject, reason).await.unwrap();
    for _ in 0..2 {
        let answer = pages(&vault, &query(gone.subject, None), 100);
        assert!(matches!(answer, Err(VaultError::Erased("subject"))), "{answer:?}");
        let answer = pages(&vault, &of_record, 100);
        assert!(matches!(answer, Err(VaultError::Erased("record"))), "{answer:?}");
        fill(&vault, &[stays.id], 300).await;
    }
    assert!(pages(&vault, &query(stays.subject, None), 100).unwrap().len() > 600, "control");
    check_whole(&vault).await;
    vault.close().unwrap();
    drop(vault);

    let all: Vec<lethe::store::Row> = (0..=u8::MAX)
        .flat_map(|kind| rows.scan(&[kind], &[kind, 255, 255], 1_000_000).unwrap())
        .collect();
    let has = |row: &lethe::store::Row, what: &[u8; 16]| {
        let within = |bytes: &[u8]| bytes.windows(16).any(|w| w == what);
        within(&row.key) || within(&row.value)
    };
    let kinds = |what: &[u8; 16]| -> BTreeSet<char> {
        all.iter().filter(|r| has(r, what)).map(|r| char::from(r.key[0])).collect()
    };
    // The pseudonym stands in the log, bytes of it in the index; the ids stand elsewhere, and nowhere do both.
    assert_eq!(kinds(&pseudonym.subject), BTreeSet::from(['a']), "control: the entries are there");
    let bytes = pseudonym.subject.first_chunk::<4>().unwrap();
    let is_posting = |row: &&lethe::store::Row| row.value.windows(4).any(|w| w == bytes);
    assert!(
        all.iter().filter(|r| r.key[0] == b'y').any(|r| is_posting(&r)),
        "control: the index has them"
    );
    for id in [gone.subject, gone.id] {
        assert!(kinds(&id.0).contains(&'t'), "control: its tombstone");
        assert!(kinds(&id.0).is_disjoint(&BTreeSet::from(['a', 'y'])));
        assert!(!all.iter().any(|r| has(r, &id.0) && has(r, &pseudonym.subject)));
    }
    let vault = house.open().unwrap();
    let answer = pages(&vault, &query(gone.subject, None), 100);
    assert!(matches!(answer, Err(VaultError::Erased("subject"))), "after a start: {answer:?}");
}

/// A page ends by the bytes of its entries too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_long_entries_fits_an_answer() {
    let dir = scratch();
    let vault = House::new(dir.path(), EngineChoice::Given(Arc::new(Memory::new()))).create();
    furnish(&vault).await;
    let one = put(&vault, "customer", person(1)).await.unwrap();
    let many = vec![one.id; 1_000];
    for _ in 0..80 {
        vault.get_records(&app(), TENANT, &many, &ReadSpec::default()).unwrap();
    }
    vault.settle_log().await.unwrap();
    let bytes = |lines: &[AuditLine]| -> usize {
        lines.iter().map(|l| l.told.as_ref().unwrap().leaf.len() * 5 / 2).sum()
    };
    let limit = 3 << 20;
    let page = vault.subject_entries(&officer(), &query(one.subject, None), None, 1_000).unwrap();
    assert!(bytes(&page.lines) < limit && page.next.is_some());
    let all = pages(&vault, &query(one.subject, None), 1_000).unwrap();
    assert!(all.len() >= 400, "{}", all.len());
    let filter = AuditFilter::default();
    let page = vault.audit_entries(&permit(Role::Auditor, None), &filter, None, 1_000).unwrap();
    assert!(bytes(&page.lines) < limit && page.next.is_some());
    let export = permit(Role::Auditor, None);
    let end = vault.audit_size(&export, 0).unwrap();
    let part = vault.audit_part(&export, end - 300, end).unwrap();
    assert!(bytes(&part) < limit && part.len() > 100);
    let mut tail =
        vault.audit_tail(&permit(Role::Auditor, None), &filter, Some(end - 300)).unwrap();
    let part = vault.audit_tail_part(&permit(Role::Auditor, None), &filter, &mut tail).unwrap();
    assert!(bytes(&part) < limit);
    assert_eq!(tail.next_index(), end - 300 + part.len() as u64, "what did not fit comes next");
}

//! The log's own retention: entries go after their time and never before it, whole blocks of them; what is left is
//! proved by the same tree; nothing of a single entry is left behind.

use lethe::audit::{entries_in, first_in, named, pruned};
use lethe::authz::ReadAudit;
use lethe::class::Log;
use lethe::clock::{Clock, ManualClock, SystemClock, UnixMillis};
use lethe::crypto::merkle::tile::Tile;
use lethe::crypto::merkle::{verify_consistency, verify_inclusion};
use lethe::crypto::note::{CosignerKey, KeyName, Note};
use lethe::store::Row;
use lethe::vault::{LogPermit, SubjectQuery};

use super::subject::indexed;
use super::*;

const DAY: i64 = 86_400_000;
pub const BLOCK: u64 = 256;

/// A vault whose log keeps its entries for thirty days, and all that is below it.
pub struct Scene {
    _dir: tempfile::TempDir,
    pub house: House,
    pub clock: Arc<ManualClock>,
    pub rows: Arc<Memory>,
    /// The day's first index, from the first day on.
    days: Vec<u64>,
}

impl Scene {
    pub fn new() -> (Self, Vault) {
        let rows = Arc::new(Memory::new());
        Self::on(EngineChoice::Given(rows.clone()), rows)
    }

    pub fn on(engine: EngineChoice, rows: Arc<Memory>) -> (Self, Vault) {
        let dir = scratch();
        let clock = Arc::new(ManualClock::at(SystemClock.now()));
        let mut house = House::new(dir.path(), engine);
        house.change = |setup| setup.audit_retain = "P30D".parse().ok();
        house.clock = clock.clone();
        let vault = house.create();
        (Self { _dir: dir, house, clock, rows, days: Vec::new() }, vault)
    }

    pub fn pass(&self, days: i64) {
        self.clock.set(UnixMillis(self.clock.now().0 + days * DAY));
    }

    /// A day: it begins, somebody looks so often at these records, and the sweep comes.
    pub async fn day(&mut self, vault: &Vault, looks: usize, records: &[RecordId]) {
        self.pass(1);
        sweep(vault).await;
        vault.settle_log().await.unwrap();
        self.days.push(size(vault));
        for n in 0..looks {
            get(vault, records[n % records.len()]).unwrap();
        }
        vault.settle_log().await.unwrap();
        indexed(vault, size(vault) / BLOCK).await;
        sweep(vault).await;
    }

    /// Rows of entries, with what they hold.
    pub fn entries(&self) -> Vec<Row> {
        self.rows.scan(b"a", b"b", usize::MAX).unwrap()
    }

    /// Numbers of the entries that the index has something of.
    fn named(&self) -> BTreeSet<u64> {
        let rows = self.rows.scan(named::INDEXED_KEY, b"z", usize::MAX).unwrap().into_iter();
        let rows = rows.filter(|row| row.key != named::INDEXED_KEY);
        let read = rows.map(|row| named::NamedRow::decode(&row.key, &row.value).unwrap());
        let of = |row: named::NamedRow| row.postings.into_iter().map(move |p| p.of(row.span).0);
        read.flat_map(of).collect()
    }

    /// Tiles with hashes of single entries.
    fn tiles(&self) -> BTreeSet<u64> {
        let folder = self.house.dir.join("data/logs/audit/tile/0");
        let files = std::fs::read_dir(folder).into_iter().flatten();
        files.filter_map(|f| f.unwrap().file_name().to_string_lossy().parse().ok()).collect()
    }

    /// That the index has nothing of an entry whose own row is gone. Of how many entries it has something.
    pub fn check_traces(&self) -> usize {
        let of = |row: &Row| {
            let first = first_in(&row.key).unwrap();
            first..first + entries_in(&row.value).unwrap().len() as u64
        };
        let there: BTreeSet<u64> = self.entries().iter().flat_map(of).collect();
        let named = self.named();
        assert!(named.is_subset(&there), "{:?}", named.difference(&there));
        named.len()
    }

    /// That nothing of the pruned entries is left, and all of the others.
    pub fn check_rows(&self, minimum: u64) {
        let mut next = minimum;
        for row in self.entries() {
            assert_eq!(first_in(&row.key), Some(next), "the rows follow each other");
            next += entries_in(&row.value).unwrap().len() as u64;
        }
        assert!(self.named().iter().all(|seq| (minimum..next).contains(seq)));
        assert!(self.tiles().iter().all(|tile| *tile >= minimum / BLOCK));
    }
}

pub async fn sweep(vault: &Vault) {
    vault.run_retention(&permit(Role::PrivacyOfficer, None)).await.unwrap();
}

pub fn auditor() -> Permit<ReadAudit> {
    permit(Role::Auditor, None)
}

fn size(vault: &Vault) -> u64 {
    vault.audit_size(&permit(Role::Auditor, None), u64::MAX).unwrap()
}

pub fn begins(vault: &Vault) -> u64 {
    vault.audit_entries(&auditor(), &AuditFilter::default(), None, 1).unwrap().minimum_index
}

fn is_pruned<T>(answer: Result<T, VaultError>, at: u64) -> bool {
    matches!(answer, Err(VaultError::Pruned(minimum)) if minimum == at)
}

/// The signed head's root is that over what was pruned and the entries that are left, and those say where they begin.
pub async fn check_tree(vault: &Vault) -> u64 {
    let signed = vault.audit_head(&permit(Role::Auditor, None)).await.unwrap();
    let (mut tree, begins) = (signed.pruned.clone(), signed.pruned.size());
    let mut said = 0;
    for told in told(vault).iter().filter(|t| t.entry.seq < signed.head.size) {
        assert_eq!(told.entry.seq, tree.size());
        said = said.max(told.entry.minimum_index().unwrap_or_default());
        tree.push(leaf_hash(&told.leaf));
    }
    assert_eq!((tree.size(), tree.root()), (signed.head.size, signed.head.root));
    assert_eq!(said, begins, "the log says itself where it begins");
    begins
}

/// What is asked of the log answers from where it begins, and says so before.
pub async fn check_answers(vault: &Vault, minimum: u64, subject: RecordId) {
    assert!(minimum > 0);
    let logs = || LogPermit::Audit(auditor());
    let head = vault.log_checkpoint(&logs(), true).await.unwrap();
    assert_eq!(head.minimum_index, minimum);
    let (size, root) = (head.checkpoint.size, head.checkpoint.root);
    for index in [minimum, minimum + 1, size - 1] {
        let (leaf, proof) = vault.log_inclusion(&logs(), index, Some(size)).await.unwrap();
        assert_eq!(Entry::decode(&leaf).unwrap().seq, index);
        verify_inclusion(leaf_hash(&leaf), index, (size, root), &proof.path).unwrap();
    }
    for old in [BLOCK, minimum, minimum + 1, size - 1] {
        let (was, proof) = vault.log_consistency(&logs(), old, Some(size)).await.unwrap();
        verify_consistency((old, was), (size, root), &proof.path).unwrap();
    }
    for index in [0, minimum - 1] {
        assert!(is_pruned(vault.log_inclusion(&logs(), index, Some(size)).await, minimum));
    }
    assert!(is_pruned(vault.log_consistency(&logs(), minimum - 1, Some(size)).await, minimum));
    for path in ["tile/0/000", "tile/entries/000"] {
        let asked = vec![Tile::parse(path).unwrap()];
        assert!(is_pruned(vault.log_tiles(&logs(), asked).await, minimum));
    }
    let above = Tile::parse(&format!("tile/1/000.p/{}", size / BLOCK)).unwrap();
    vault.log_tiles(&logs(), vec![above]).await.unwrap();
    assert!(is_pruned(vault.audit_size(&permit(Role::Auditor, None), minimum - 1), minimum));
    let export = permit(Role::Auditor, None);
    assert!(is_pruned(vault.audit_part(&export, minimum - 1, size), minimum));
    let filter = AuditFilter::default();
    assert!(is_pruned(vault.audit_tail(&auditor(), &filter, Some(minimum - 1)), minimum));
    vault.audit_tail(&auditor(), &filter, Some(minimum)).unwrap();
    // Lists end there, and the index finds what looking through the rest finds.
    let listed = told(vault);
    assert_eq!(listed[0].entry.seq, minimum);
    let query = SubjectQuery { tenant: slug(TENANT), subject, record: None };
    let (mut found, mut before) = (BTreeSet::new(), None);
    loop {
        let of = permit(Role::Auditor, Some(TENANT));
        let page = vault.subject_entries(&of, &query, before, 100).unwrap();
        assert_eq!(page.minimum_index, minimum);
        found.extend(page.lines.iter().map(|l| l.index));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    let is_read = |e: &&Told| e.entry.act == Act::GetRecord && e.entry.members.len() == 1;
    let who = listed.iter().find(|t| is_read(t) && found.contains(&t.entry.seq));
    let who = who.expect("it was read since").entry.members[0].subject;
    let looked = |t: &&Told| t.entry.act != Act::ListSubjectAuditEntries;
    let about = listed.iter().filter(looked);
    let about = about.filter(|t| t.entry.members.iter().any(|m| m.subject == who));
    let about: BTreeSet<u64> = about.map(|t| t.entry.seq).collect();
    assert!(about.is_subset(&found) && !about.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_go_after_their_time_and_the_rest_is_proved() {
    let (mut scene, vault) = Scene::new();
    furnish(&vault).await;
    let mut people = Vec::new();
    for n in 0..3 {
        people.push(put(&vault, "customer", person(n)).await.unwrap());
    }
    let ids: Vec<RecordId> = people.iter().map(|p| p.id).collect();
    let (mut begun, mut moved) = (0, 0);
    for day in 0..75_usize {
        // A busy day now and then, and days on which a block does not fill.
        let looks = [40, 700, 3, 0, 130][day % 5];
        scene.day(&vault, looks, &ids).await;
        let minimum = begins(&vault);
        assert!(minimum >= begun && minimum.is_multiple_of(BLOCK));
        moved += usize::from(minimum > begun);
        begun = minimum;
        scene.check_rows(minimum);
        // Never early: what came within the last thirty days is there, and the day of the entry does not count.
        let young = day.checked_sub(30).map_or(0, |at| scene.days[at]);
        assert!(minimum <= young, "day {day}: {minimum} of {young}");
        // Late by a day and the rest of a block at most.
        if let Some(at) = day.checked_sub(31) {
            let old = scene.days[at];
            assert!(minimum + BLOCK > old, "day {day}: {minimum} of {old}");
        }
        if day % 10 == 9 {
            assert_eq!(check_tree(&vault).await, minimum);
        }
        if day > 40 && day % 8 == 0 {
            check_answers(&vault, minimum, people[1].subject).await;
        }
    }
    assert!(moved > 5, "{moved}");
    let marks = scene.rows.scan(b"j", b"k", usize::MAX).unwrap();
    assert!((30..34).contains(&marks.len()), "marks go with what they stand for: {}", marks.len());
    assert_eq!(vault.metrics().audit_entries_pruned.value(), begun);
    assert_eq!(vault.metrics().keeper_failures.value(), 0);
    vault.close().unwrap();
    drop(vault);
    // It begins there after a start as well, and from all entries if the end of the log is lost.
    for lost in [None, Some(lethe::audit::FRONTIER_KEY)] {
        if let Some(key) = lost {
            scene.rows.commit(&[(key.to_vec(), None)]).unwrap();
        }
        let vault = scene.house.open().unwrap();
        assert_eq!(check_tree(&vault).await, begun);
        check_answers(&vault, begun, people[1].subject).await;
        vault.close().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_prunes_nothing_and_a_log_without_a_retention_neither() {
    let (mut scene, vault) = Scene::new();
    furnish(&vault).await;
    let one = put(&vault, "customer", person(1)).await.unwrap();
    scene.day(&vault, 600, &[one.id]).await;
    let now = scene.clock.now();
    for years in [-3, 3, 30] {
        scene.clock.jump(UnixMillis(now.0 + years * 366 * DAY));
        for _ in 0..3 {
            sweep(&vault).await;
        }
        assert_eq!(begins(&vault), 0, "{years}");
    }
    scene.clock.jump(now);
    // Entries that were made while the clock was behind have their time all the same.
    scene.clock.jump(UnixMillis(now.0 - 3_000 * DAY));
    scene.day(&vault, 600, &[one.id]).await;
    scene.clock.jump(now);
    sweep(&vault).await;
    assert_eq!(begins(&vault), 0);
    vault.close().unwrap();
    drop(vault);
    // For ever is for ever.
    scene.house.change = |setup| setup.audit_retain = None;
    let vault = scene.house.open().unwrap();
    scene.pass(4_000);
    sweep(&vault).await;
    assert_eq!(begins(&vault), 0);
    vault.close().unwrap();
    drop(vault);
    // Who gives a time later has what is over that time go at once.
    scene.house.change = |setup| setup.audit_retain = "P30D".parse().ok();
    let vault = scene.house.open().unwrap();
    indexed(&vault, 0).await;
    for _ in 0..3 {
        sweep(&vault).await;
    }
    assert!(begins(&vault) >= 4 * BLOCK, "{}", begins(&vault));
    check_tree(&vault).await;
    vault.close().unwrap();
    drop(vault);
    // A machine that comes up in another year says nothing of how old its entries are.
    let marks = |scene: &Scene| scene.rows.scan(b"j", b"k", usize::MAX).unwrap();
    let last = marks(&scene).last().and_then(pruned::day_in).unwrap().0;
    let today = scene.clock.now();
    scene.clock.reboot();
    scene.clock.jump(UnixMillis(today.0 + 2_000 * DAY));
    let vault = scene.house.open().unwrap();
    let two = put(&vault, "customer", person(2)).await.unwrap();
    for _ in 0..2 * BLOCK {
        get(&vault, two.id).unwrap();
    }
    vault.settle_log().await.unwrap();
    let young = size(&vault);
    sweep(&vault).await;
    assert_eq!(marks(&scene).last().and_then(pruned::day_in).unwrap().0, last);
    // Its clock is set right: it goes on, and what came meanwhile came now.
    scene.clock.jump(UnixMillis(today.0 + 3 * DAY));
    sweep(&vault).await;
    assert_eq!(marks(&scene).last().and_then(pruned::day_in).unwrap().0, scene.clock.now().day());
    let counted =
        || scene.rows.get(named::INDEXED_KEY).unwrap().as_deref().and_then(named::indexed_in);
    for _ in 0..1_000 {
        if counted() >= Some(young / BLOCK) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    vault.log_checkpoint(&LogPermit::Audit(auditor()), true).await.unwrap();
    scene.pass(29);
    sweep(&vault).await;
    assert!(begins(&vault) + 2 * BLOCK <= young, "{} of {young}", begins(&vault));
    scene.pass(2);
    sweep(&vault).await;
    assert!(begins(&vault) + BLOCK > young, "control: {} of {young}", begins(&vault));
}

/// What no signed head says is not the log's yet: its hashes would be nobody's word.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_that_no_anchor_has_bound_stay() {
    let (mut scene, vault) = Scene::new();
    furnish(&vault).await;
    let one = put(&vault, "customer", person(1)).await.unwrap();
    scene.day(&vault, 900, &[one.id]).await;
    scene.pass(40);
    sweep(&vault).await;
    assert_eq!(begins(&vault), 0);
    check_tree(&vault).await;
    sweep(&vault).await;
    assert!(begins(&vault) >= 3 * BLOCK, "control: {}", begins(&vault));
}

/// Of a checkpoint in the part that went nobody can tell any more whether it fits: it is not handed out, and stops
/// nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cosigned_checkpoint_goes_with_the_entries_that_it_ends_in() {
    let (mut scene, vault) = Scene::new();
    furnish(&vault).await;
    let one = put(&vault, "customer", person(1)).await.unwrap();
    vault.close().unwrap();
    drop(vault);
    let witness = CosignerKey::generate(KeyName::parse("w.example/1").unwrap()).unwrap().0;
    let mut setup = scene.house.setup();
    setup.witnesses = vec![witness.verifier()];
    let vault = Vault::open(&setup, scene.clock.clone()).unwrap();
    scene.day(&vault, 300, &[one.id]).await;
    let logs = || LogPermit::Audit(auditor());
    let head = vault.log_checkpoint(&logs(), true).await.unwrap();
    assert!(!head.checkpoint.size.is_multiple_of(BLOCK), "it ends within a block");
    let mut note = Note::parse(&head.note).unwrap();
    note.signatures.push(witness.sign(note.text(), 5));
    let operator = permit(Role::Operator, None);
    vault.add_cosignature(&operator, head.checkpoint, note).await.unwrap();
    let cosigned = async || vault.log_checkpoint(&logs(), true).await.unwrap().cosigned.len();
    assert_eq!(cosigned().await, 1, "control");
    scene.day(&vault, 600, &[one.id]).await;
    check_tree(&vault).await;
    scene.pass(40);
    sweep(&vault).await;
    assert!(begins(&vault) > head.checkpoint.size);
    assert_eq!(cosigned().await, 0);
}

/// Whoever has the rows, and could guess an entry, finds no hash of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_hash_of_a_single_pruned_entry_is_left() {
    let (mut scene, vault) = Scene::new();
    furnish(&vault).await;
    let one = put(&vault, "customer", person(1)).await.unwrap();
    scene.day(&vault, 600, &[one.id]).await;
    check_answers_before(&vault).await;
    let entries: Vec<_> = told(&vault).into_iter().map(|t| (t.entry.seq, t.leaf)).collect();
    let everything = |scene: &Scene| {
        let mut all = Vec::new();
        for row in scene.rows.scan(&[], &[0xff], usize::MAX).unwrap() {
            all.extend([row.key, row.value]);
        }
        let mut folders = vec![scene.house.dir.join("data/logs")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    all.push(std::fs::read(path).unwrap());
                }
            }
        }
        all.concat()
    };
    let has = |all: &[u8], what: &[u8]| all.windows(what.len()).any(|w| w == what);
    let before = everything(&scene);
    for (seq, leaf) in entries.iter().filter(|(seq, _)| seq % 100 == 0 && *seq < 2 * BLOCK) {
        assert!(has(&before, leaf) && has(&before, &leaf_hash(leaf)), "control: {seq}");
    }
    scene.pass(40);
    sweep(&vault).await;
    let minimum = begins(&vault);
    assert!(minimum >= 2 * BLOCK);
    vault.log_checkpoint(&LogPermit::Audit(auditor()), true).await.unwrap();
    let after = everything(&scene);
    for (seq, leaf) in entries.iter().filter(|(seq, _)| *seq < minimum && seq % 10 == 0) {
        assert!(!has(&after, leaf) && !has(&after, &leaf_hash(leaf)), "{seq}");
    }
}

/// Has the tiles made.
async fn check_answers_before(vault: &Vault) {
    let head = vault.log_checkpoint(&LogPermit::Audit(auditor()), true).await.unwrap();
    vault.log_inclusion(&LogPermit::Audit(auditor()), 3, None).await.unwrap();
    assert_eq!((head.minimum_index, head.checkpoint.origin.log), (0, Log::Audit));
}

//! What an erasure leaves in this process's own memory: neither a key nor the sealed bytes of the node that had it,
//! which the cache's key, if somebody has that too, would open.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Command;

use super::node::Listing;
use super::path::Path;
use super::tests::{BUCKET, House, dead, draft, erase, grown, take};
use super::tree::leaf_path;
use super::*;
use crate::id::{Kid, PageOrd, RunOrd};

const ALONE: &str = "LETHE_TEST_ALONE";
const MASK: u8 = 0xa5;
/// Bytes that are looked for.
const LENGTH: usize = 32;
const STEP: usize = 1 << 20;

/// Whether this is the process that has but this one test, which it begins otherwise: no other test writes over what is
/// looked for there, or hardens the process against looks.
fn is_alone(test: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let name = format!("{}::{test}", module_path!().split_once("::").unwrap().1);
    let mut own = Command::new(std::env::current_exe().unwrap());
    let done = own.args([name.as_str(), "--exact"]).env(ALONE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && said.contains("1 passed"), "{said}");
    false
}

/// What is looked for, so that looking for it does not find the looker.
struct Needle(Vec<u8>);

impl Needle {
    fn of(bytes: &[u8]) -> Self {
        Self(bytes[..LENGTH].iter().map(|b| b ^ MASK).collect())
    }

    fn is_at(&self, bytes: &[u8]) -> bool {
        bytes.iter().zip(&self.0).all(|(b, masked)| b ^ MASK == *masked)
    }
}

/// How often each is in the memory that this process may write to.
fn found(needles: &[&Needle]) -> Vec<usize> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let memory = File::open("/proc/self/mem").unwrap();
    let mut buffer = vec![0u8; STEP + LENGTH];
    let own = buffer.as_ptr() as u64..buffer.as_ptr() as u64 + buffer.len() as u64;
    let mut hits = vec![0; needles.len()];
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (from, to) = line.split_whitespace().next().unwrap().split_once('-').unwrap();
        let parse = |text| u64::from_str_radix(text, 16).unwrap();
        let (mut at, end) = (parse(from), parse(to));
        while at < end {
            let most = (end - at).min(buffer.len() as u64) as usize;
            // What cannot be read (another thread's guard, memory that was given back meanwhile) is passed over.
            let read = memory.read_at(&mut buffer[..most], at).unwrap_or(0);
            for (n, bytes) in buffer[..read].windows(LENGTH).enumerate().take(STEP) {
                let is_own = own.contains(&(at + n as u64));
                for (needle, hits) in needles.iter().zip(&mut hits) {
                    *hits += usize::from(!is_own && needle.is_at(bytes));
                }
            }
            at += STEP as u64;
        }
    }
    buffer.fill(0);
    std::hint::black_box(&mut buffer);
    hits
}

/// Sealed bytes of a node in the cache: not the first of them, over which the allocator writes in what was freed, and
/// of a page from a piece in its middle.
fn sealed(tree: &Tree, path: &Path) -> Needle {
    let node = tree.read().node(path).unwrap();
    let bytes = node.sealed_bytes();
    Needle::of(&bytes[bytes.len().min(1_000) - LENGTH..])
}

/// A record's key. What this leaves on the stack its caller's next calls write over.
#[inline(never)]
fn key_of(tree: &Tree, kid: Kid) -> Needle {
    Needle::of(tree.read().dek(kid).unwrap().expose())
}

/// Takes slots. The first of them, and its key.
#[inline(never)]
fn filled(tree: &Tree, slots: usize) -> (Kid, Needle) {
    grown(tree, BUCKET);
    let rt = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let first = rt.block_on(tree.take_slot(BUCKET)).unwrap().kid;
    for _ in 1..slots {
        take(tree, BUCKET);
    }
    (first, key_of(tree, first))
}

#[test]
fn of_an_erased_record_s_key_neither_it_nor_its_page_sealed_stays_in_memory() {
    if !is_alone("of_an_erased_record_s_key_neither_it_nor_its_page_sealed_stays_in_memory") {
        return;
    }
    let house = House::new();
    let tree = house.create(Sabotage::None);
    let (kid, key) = filled(&tree, 300);
    let page = sealed(&tree, &Path::page_of(kid));
    let mut planted: Vec<u8> = key.0.iter().map(|b| b ^ MASK).collect();
    let before = found(&[&key, &page]);
    assert!(before.iter().all(|hits| *hits > 0), "control: {before:?}");
    planted.fill(0);
    std::hint::black_box(&mut planted);
    erase(&tree, dead(&[kid]));
    assert_eq!(found(&[&key, &page]), [0, 0]);
}

#[test]
fn of_a_killed_bucket_no_node_stays_in_memory_not_even_sealed() {
    if !is_alone("of_a_killed_bucket_no_node_stays_in_memory_not_even_sealed") {
        return;
    }
    let house = House::new();
    let tree = house.create(Sabotage::None);
    let (kid, key) = filled(&tree, 300);
    let listings = [Listing { token: [9; 16], page: 0, slot: 1 }];
    tree.add_run(BUCKET, Some(draft(0, &listings)), PageOrd::of(1)).unwrap();
    let leaf = leaf_path(&Path::run(BUCKET.0, BUCKET.1, RunOrd::of(0)), 0);
    let bucket = Path::bucket(BUCKET.0, BUCKET.1);
    let sealed = [Path::page_of(kid), leaf, bucket].map(|path| sealed(&tree, &path));
    let before = found(&sealed.each_ref());
    assert!(before.iter().all(|hits| *hits > 0), "control: {before:?}");
    erase(&tree, Edits { kill: [BUCKET].into(), ..Edits::default() });
    // Before anything was given back to the allocator, and after.
    assert_eq!(found(&sealed.each_ref()), [0; 3]);
    tree.free_wiped();
    assert_eq!(found(&sealed.each_ref()), [0; 3]);
    assert_eq!(found(&[&key]), [0]);
}

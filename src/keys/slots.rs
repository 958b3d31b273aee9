//! Slots of open pages: who gets the next DEK.
//!
//! Invariants: a slot is handed out once, ever; a page that a batch touches takes no more puts (S1); a closed bucket
//! takes none; a bucket's kill and an index run's boundary wait until every ticket below them is given back.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::cache::Cached;
use crate::crypto::Dek;
use crate::id::{BucketOrd, Kid, PageOrd, TenantOrd};

/// A bucket with a put this recent is hot: it keeps spare pages.
const HOT: Duration = Duration::from_secs(2);

/// A bucket of a tenant.
pub type BucketId = (TenantOrd, BucketOrd);

/// A page that still has slots.
struct OpenPage {
    ord: PageOrd,
    slots: u8,
    next: u8,
    node: Arc<Cached>,
}

#[derive(Default)]
struct BucketSlots {
    pages: VecDeque<OpenPage>,
    next_page: u32,
    created: u32,
    closed: bool,
    in_flight: BTreeMap<u32, u32>,
    last_put: Option<Instant>,
    /// Slots handed out since the last batch began, to size the spares.
    taken: u32,
}

/// Open pages of all buckets.
#[derive(Default)]
pub struct Slots {
    buckets: Mutex<HashMap<BucketId, BucketSlots>>,
}

/// A slot that was handed out: seal under `dek`, write the row, then drop `ticket`.
pub struct Slot {
    pub kid: Kid,
    pub dek: Dek,
    pub ticket: Ticket,
}

/// Held while a put with a handed-out slot is under way.
pub struct Ticket {
    slots: Arc<Slots>,
    bucket: BucketId,
    page: u32,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut buckets = self.slots.lock();
        if let Some(bucket) = buckets.get_mut(&self.bucket)
            && let Some(count) = bucket.in_flight.get_mut(&self.page)
        {
            *count -= 1;
            if *count == 0 {
                bucket.in_flight.remove(&self.page);
            }
        }
    }
}

/// What an attempt to take a slot gave.
pub enum Taken {
    Slot {
        kid: Kid,
        node: Arc<Cached>,
        ticket: Ticket,
    },
    /// No open page has room.
    NeedPage,
    Closed,
}

impl Slots {
    fn lock(&self) -> MutexGuard<'_, HashMap<BucketId, BucketSlots>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a bucket known; pages below `next_page` are never given out again.
    pub fn register(&self, bucket: BucketId, next_page: u32) {
        self.lock().insert(bucket, BucketSlots { next_page, ..BucketSlots::default() });
    }

    pub fn forget(&self, bucket: BucketId) {
        self.lock().remove(&bucket);
    }

    /// The next free slot.
    pub fn take(self: &Arc<Self>, id: BucketId) -> Taken {
        let mut buckets = self.lock();
        let Some(bucket) = buckets.get_mut(&id).filter(|b| !b.closed) else {
            return Taken::Closed;
        };
        let Some(page) = bucket.pages.front_mut() else { return Taken::NeedPage };
        let kid = Kid { tenant: id.0, bucket: id.1, page: page.ord, slot: page.next };
        let node = page.node.clone();
        page.next += 1;
        if page.next == page.slots {
            bucket.pages.pop_front();
        }
        bucket.last_put = Some(Instant::now());
        bucket.taken = bucket.taken.saturating_add(1);
        *bucket.in_flight.entry(kid.page.value()).or_default() += 1;
        let ticket = Ticket { slots: self.clone(), bucket: id, page: kid.page.value() };
        Taken::Slot { kid, node, ticket }
    }

    /// Has the bucket's kill wait for a record that leaves it, until the ticket is given back. Who then finds the
    /// bucket not being killed knows that the kill will wait. `None`: there is no such bucket.
    pub fn hold(self: &Arc<Self>, kid: Kid) -> Option<Ticket> {
        let (bucket, page) = ((kid.tenant, kid.bucket), kid.page.value());
        *self.lock().get_mut(&bucket)?.in_flight.entry(page).or_default() += 1;
        Some(Ticket { slots: self.clone(), bucket, page })
    }

    /// Ordinal and size of the page to create next; small first, so that a sparse bucket stays small.
    pub fn next_page(&self, id: BucketId) -> Option<(u32, u8)> {
        let mut buckets = self.lock();
        let bucket = buckets.get_mut(&id)?;
        let ord = bucket.next_page;
        let size = match bucket.created {
            0 => 8,
            1 => 32,
            _ => 128,
        };
        bucket.next_page += 1;
        bucket.created += 1;
        Some((ord, size))
    }

    pub fn add_page(&self, id: BucketId, ord: PageOrd, slots: u8, node: Arc<Cached>) {
        if let Some(bucket) = self.lock().get_mut(&id) {
            bucket.pages.push_back(OpenPage { ord, slots, next: 0, node });
        }
    }

    pub fn has_room(&self, id: BucketId) -> bool {
        self.lock().get(&id).is_some_and(|b| !b.pages.is_empty())
    }

    /// Buckets with recent puts, with how many more pages each wants before a batch starts.
    pub fn wanted_spares(&self) -> Vec<(BucketId, u32)> {
        let mut buckets = self.lock();
        let mut wanted = Vec::new();
        for (id, b) in buckets.iter_mut() {
            if b.closed || b.last_put.is_none_or(|at| at.elapsed() > HOT) {
                continue;
            }
            let room: u32 = b.pages.iter().map(|p| u32::from(p.slots - p.next)).sum();
            let target = b.taken.saturating_mul(2).clamp(32, 8192);
            b.taken = 0;
            if room < target {
                wanted.push((*id, (target - room).div_ceil(128).max(1)));
            }
        }
        wanted
    }

    /// Takes a page out of use (S1). Returns how many of its slots were handed out; `None` = all, or not open.
    pub fn close_page(&self, id: BucketId, ord: PageOrd) -> Option<u8> {
        let mut buckets = self.lock();
        let pages = &mut buckets.get_mut(&id)?.pages;
        let at = pages.iter().position(|p| p.ord == ord)?;
        pages.remove(at).map(|p| p.next)
    }

    /// How many slots of an open page were handed out.
    pub(super) fn handed_out(&self, id: BucketId, ord: PageOrd) -> Option<u8> {
        self.lock().get(&id)?.pages.iter().find(|p| p.ord == ord).map(|p| p.next)
    }

    /// All open pages of all buckets.
    pub fn open_pages(&self) -> Vec<(BucketId, PageOrd)> {
        let buckets = self.lock();
        buckets.iter().flat_map(|(id, b)| b.pages.iter().map(|p| (*id, p.ord))).collect()
    }

    /// No put gets a slot of this bucket any more.
    pub fn close_bucket(&self, id: BucketId) {
        if let Some(bucket) = self.lock().get_mut(&id) {
            bucket.closed = true;
            bucket.pages.clear();
        }
    }

    /// Whether the bucket takes no puts, or is not there.
    pub fn is_closed(&self, id: BucketId) -> bool {
        self.lock().get(&id).is_none_or(|b| b.closed)
    }

    /// Whether every ticket of the bucket has been given back.
    pub fn is_drained(&self, id: BucketId) -> bool {
        self.lock().get(&id).is_none_or(|b| b.in_flight.is_empty())
    }

    /// Pages below this get no more rows.
    pub fn settled_below(&self, id: BucketId) -> u32 {
        let buckets = self.lock();
        let Some(b) = buckets.get(&id) else { return 0 };
        let open = b.pages.iter().map(|p| p.ord.value()).min();
        let flying = b.in_flight.keys().next().copied();
        open.into_iter().chain(flying).min().unwrap_or(b.next_page)
    }
}

#[cfg(test)]
mod tests {
    use super::super::cache::NodeCache;
    use super::super::node::{Opened, Plain};
    use super::super::path::Path;
    use super::*;
    use crate::id::Gen;

    const ID: BucketId = (TenantOrd::of(1), BucketOrd::of(2));

    fn node() -> Arc<Cached> {
        let cache = NodeCache::new(1 << 20).unwrap();
        let opened = Opened { made: Gen(1), aux: vec![], plain: Plain::new(vec![]) };
        cache.wrap(&Path::ROOT, &opened).unwrap()
    }

    fn take(slots: &Arc<Slots>) -> Option<(Kid, Ticket)> {
        match slots.take(ID) {
            Taken::Slot { kid, ticket, .. } => Some((kid, ticket)),
            _ => None,
        }
    }

    #[test]
    fn each_slot_is_handed_out_once_and_a_touched_page_never_again() {
        let slots = Arc::new(Slots::default());
        assert!(matches!(slots.take(ID), Taken::Closed));
        slots.register(ID, 5);
        assert!(matches!(slots.take(ID), Taken::NeedPage));
        let (ord, size) = slots.next_page(ID).unwrap();
        assert_eq!((ord, size, slots.next_page(ID).unwrap().0), (5, 8, 6));
        slots.add_page(ID, PageOrd::of(5), 8, node());
        slots.add_page(ID, PageOrd::of(6), 32, node());
        let (a, ticket_a) = take(&slots).unwrap();
        let (b, _ticket_b) = take(&slots).unwrap();
        assert_eq!((a.page.value(), a.slot, b.slot), (5, 0, 1));
        assert_eq!(slots.close_page(ID, PageOrd::of(5)), Some(2));
        let (c, _ticket_c) = take(&slots).unwrap();
        assert_eq!((c.page.value(), c.slot), (6, 0));
        assert_eq!(slots.settled_below(ID), 5, "page 5 still has puts under way");
        drop(ticket_a);
        drop(_ticket_b);
        assert_eq!(slots.settled_below(ID), 6);
        slots.close_bucket(ID);
        assert!(matches!(slots.take(ID), Taken::Closed));
        assert!(!slots.is_drained(ID));
        drop(_ticket_c);
        assert!(slots.is_drained(ID));
        assert_eq!(slots.settled_below(ID), 7);
        let held = slots.hold(c).unwrap();
        assert!(!slots.is_drained(ID), "a record is on its way out");
        drop(held);
        assert!(slots.is_drained(ID));
        assert!(slots.is_closed(ID));
    }
}

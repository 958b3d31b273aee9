//! An index of which a node was lost, made anew from the records that it is about.
//!
//! Order: one batch drops all of the old index and says in the bucket's head that no page is indexed; then runs are
//! written page by page, as they always are, up to the first page with a version that does not open (`damaged.rs`).
//! After a crash in between, the tail is rebuilt from the first page not yet covered. Until all is done the index
//! answers nothing, since an answer would not be whole.

use zeroize::Zeroize;

use super::{Index, Run, RunFilter, Token, draft};
use crate::id::{Kid, PageOrd, RunOrd};
use crate::keys::Tree;
use crate::keys::node::Listing;
use crate::keys::path::Path;
use crate::keys::slots::BucketId;
use crate::vault::error::VaultError;

/// Listings of a bucket that wait to be written.
#[derive(Default)]
pub struct Relisted {
    listings: Vec<Listing>,
    /// Pages below this are in `listings` or in a run.
    below: u32,
}

impl Relisted {
    /// Adds what a page holds. Pages come in ascending order.
    pub fn add(&mut self, page: u32, versions: &[(Kid, Vec<Token>)]) {
        for (kid, tokens) in versions {
            let slot = kid.slot;
            self.listings.extend(tokens.iter().map(|t| Listing { token: t.0, page, slot }));
        }
        self.below = page + 1;
    }

    /// Adds one listing of a version that has others.
    pub fn push(&mut self, kid: Kid, token: &Token) {
        self.listings.push(Listing { token: token.0, page: kid.page.value(), slot: kid.slot });
    }

    /// What there is so far, to be written; what is added later follows it.
    pub fn part(&mut self) -> Self {
        let rest = Self { listings: Vec::new(), below: self.below };
        std::mem::replace(self, rest)
    }

    pub(super) fn take(&mut self) -> Vec<Listing> {
        std::mem::take(&mut self.listings)
    }

    pub fn len(&self) -> usize {
        self.listings.len()
    }
}

impl Drop for Relisted {
    fn drop(&mut self) {
        self.listings.zeroize();
    }
}

impl Index {
    /// Buckets whose index has lost a node.
    pub fn broken(&self) -> Vec<BucketId> {
        self.lock().iter().filter(|(_, b)| b.broken).map(|(id, _)| *id).collect()
    }

    /// How many pages runs had covered: what is to be listed again.
    pub fn covered(&self, id: BucketId) -> u32 {
        self.lock().get(&id).map_or(0, |b| b.indexed_below)
    }

    /// The batch that dropped the old index is complete.
    pub fn dropped(&self, id: BucketId) {
        if let Some(bucket) = self.lock().get_mut(&id) {
            bucket.runs.clear();
        }
    }

    /// Writes what was listed again as a run.
    pub fn write_relisted(
        &self,
        tree: &Tree,
        id: BucketId,
        mut relisted: Relisted,
    ) -> Result<(), VaultError> {
        let next = self.lock().get(&id).map_or(0, |b| b.next_run);
        let run = RunOrd::new(next).ok_or(VaultError::Exhausted("index runs"))?;
        let draft = draft(run, relisted.take());
        let known = draft.as_ref().map(|d| (d.head, RunFilter::of(&d.leaves)));
        let below = PageOrd::new(relisted.below).ok_or(VaultError::Exhausted("key pages"))?;
        tree.add_run(id, draft, below)?;
        if let (Some(bucket), Some((head, filter))) = (self.lock().get_mut(&id), known) {
            bucket.next_run = run.value() + 1;
            bucket.runs.push(Run { path: Path::run(id.0, id.1, run), head, filter });
        }
        Ok(())
    }

    /// Pages from here on are in no run any more, but in the tail.
    pub fn uncovered(&self, id: BucketId, from: u32) {
        if let Some(bucket) = self.lock().get_mut(&id) {
            bucket.indexed_below = from;
        }
    }

    /// Everything that runs had covered is listed again.
    pub fn mended(&self, id: BucketId) {
        if let Some(bucket) = self.lock().get_mut(&id) {
            bucket.broken = false;
        }
    }
}

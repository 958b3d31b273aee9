//! What keeps a search from opening leaves in vain: a 16-bit fingerprint of each listing of a leaf, in memory only.
//!
//! Invariant: an erased listing's fingerprint is removed with it; fingerprints are zeroized when dropped.

use std::collections::{BTreeMap, HashMap};

use zeroize::{Zeroize, Zeroizing};

use super::Token;
use crate::keys::KeyError;
use crate::keys::node::Listing;
use crate::keys::path::Path;
use crate::keys::tree::{Reader, leaf_path};

/// Fingerprints of the leaves of a run that were seen so far.
#[derive(Default)]
pub struct RunFilter {
    leaves: HashMap<u32, Zeroizing<Vec<u16>>>,
}

fn fingerprint(token: &[u8; 16]) -> u16 {
    let [.., a, b] = *token;
    u16::from_be_bytes([a, b])
}

fn fingerprints(listings: &[Listing]) -> Zeroizing<Vec<u16>> {
    Zeroizing::new(listings.iter().map(|l| fingerprint(&l.token)).collect())
}

impl RunFilter {
    /// Of a run that is being written.
    pub fn of(leaves: &BTreeMap<u32, Vec<Listing>>) -> Self {
        Self { leaves: leaves.iter().map(|(n, l)| (*n, fingerprints(l))).collect() }
    }

    /// False only if the leaf has no such listing. Opens the leaf when it is seen for the first time.
    pub fn may_have(
        &mut self,
        reader: &Reader<'_>,
        run: &Path,
        leaf: u32,
        token: &Token,
    ) -> Result<bool, KeyError> {
        let wanted = fingerprint(&token.0);
        if let Some(known) = self.leaves.get(&leaf) {
            return Ok(known.contains(&wanted));
        }
        let prints = fingerprints(&reader.leaf(&leaf_path(run, leaf))?.listings);
        let hit = prints.contains(&wanted);
        self.leaves.insert(leaf, prints);
        Ok(hit)
    }

    /// Overwrites all of them; to free them takes longer.
    pub fn wipe(&mut self) {
        self.leaves.values_mut().for_each(|prints| prints.as_mut_slice().zeroize());
    }

    pub fn remove(&mut self, leaf: u32, token: &Token) {
        if let Some(known) = self.leaves.get_mut(&leaf)
            && let Some(at) = known.iter().position(|p| *p == fingerprint(&token.0))
        {
            known.swap_remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_wiped_filter_no_fingerprint_is_left() {
        let listing = Listing { token: [7; 16], page: 1, slot: 2 };
        let mut filter = RunFilter::of(&[(3, vec![listing; 5])].into());
        assert_eq!(filter.leaves[&3].as_slice(), [0x0707; 5], "control");
        filter.wipe();
        assert_eq!(filter.leaves[&3].as_slice(), [0; 5]);
    }
}

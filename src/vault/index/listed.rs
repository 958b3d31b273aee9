//! Where a version that is to be erased is listed; what leaves those leaves with it.

use std::collections::BTreeMap;

use zeroize::Zeroize;

use super::{Found, Run, Token};
use crate::id::Kid;
use crate::keys::node::Listing;
use crate::keys::path::Path;
use crate::keys::tree::{Reader, leaf_path};

/// Where a version is listed.
pub struct Listed {
    pub(super) kid: Kid,
    pub(super) leaves: Vec<(Path, u32, Listing)>,
}

impl Listed {
    /// Where the index says that these tokens of the version are.
    pub(super) fn look_up(
        &mut self,
        reader: &Reader<'_>,
        run: &mut Run,
        tokens: &[Token],
    ) -> Found {
        let (page, slot) = (self.kid.page.value(), self.kid.slot);
        for token in tokens {
            let listing = Listing { token: token.0, page, slot };
            for leaf in run.head.leaves(&token.0) {
                if run.filter.may_have(reader, &run.path, leaf, token)?
                    && reader.lists(&leaf_path(&run.path, leaf), &listing)?
                {
                    self.leaves.push((run.path, leaf, listing));
                    break;
                }
            }
        }
        Ok(())
    }

    /// Every listing of the version, whatever its token.
    pub(super) fn look_through(&mut self, reader: &Reader<'_>, run: &Run) -> Found {
        let (page, slot) = (self.kid.page.value(), self.kid.slot);
        for leaf in 0..u32::from(run.head.parts) << run.head.bits {
            let content = reader.leaf(&leaf_path(&run.path, leaf))?;
            let mine = content.listings.iter().filter(|l| (l.page, l.slot) == (page, slot));
            self.leaves.extend(mine.map(|l| (run.path, leaf, *l)));
        }
        Ok(())
    }

    /// Adds what is to leave each leaf.
    pub fn collect(&self, leaves: &mut BTreeMap<Path, Vec<Listing>>) {
        for (run, leaf, listing) in &self.leaves {
            leaves.entry(leaf_path(run, *leaf)).or_default().push(*listing);
        }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.leaves.iter_mut().for_each(|(_, _, listing)| listing.zeroize());
    }
}

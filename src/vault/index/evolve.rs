//! Listings of a field that is made indexed, and of one that is not any more, while everything else goes on.
//!
//! Invariants: a version that is listed gets what it lacks where its other listings do not have to move: in the tail if
//! it is there, else in a run of its own; nothing is listed twice, so that all of it can be done again after a crash.

use std::slice;

use super::rebuild::Relisted;
use super::{Index, Listed, Run, RunFilter, Token, draft};
use crate::id::{Kid, PageOrd, RunOrd};
use crate::keys::path::Path;
use crate::keys::slots::BucketId;
use crate::keys::{KeyError, Tree};
use crate::vault::error::VaultError;

impl Index {
    /// Lists a version under those of the tokens that it is not listed under. What belongs into a run is added to
    /// `fresh`.
    pub fn fill(
        &self,
        tree: &Tree,
        kid: Kid,
        tokens: &[Token],
        fresh: &mut Relisted,
    ) -> Result<(), KeyError> {
        let reader = tree.read();
        let mut known = self.lock();
        let Some(bucket) = known.get_mut(&(kid.tenant, kid.bucket)) else { return Ok(()) };
        for token in tokens {
            if bucket.tail.has(kid) {
                bucket.tail.extend(kid, token);
                continue;
            }
            let mut listed = Listed { kid, leaves: Vec::new() };
            bucket.or_break(|runs| {
                runs.iter_mut()
                    .try_for_each(|run| listed.look_up(&reader, run, slice::from_ref(token)))
            })?;
            if listed.leaves.is_empty() {
                fresh.push(kid, token);
            }
        }
        Ok(())
    }

    /// Writes what was filled in as a run beside the others. It covers no page: those that it is about are covered.
    pub fn write_filled(
        &self,
        tree: &Tree,
        id: BucketId,
        mut fresh: Relisted,
    ) -> Result<(), VaultError> {
        let place = self.lock().get(&id).map(|b| (b.next_run, b.indexed_below));
        let Some((next, below)) = place.filter(|_| fresh.len() > 0) else { return Ok(()) };
        let run = RunOrd::new(next).ok_or(VaultError::Exhausted("index runs"))?;
        let below = PageOrd::new(below).ok_or(VaultError::Exhausted("key pages"))?;
        let Some(draft) = draft(run, fresh.take()) else { return Ok(()) };
        let (head, filter) = (draft.head, RunFilter::of(&draft.leaves));
        tree.add_run(id, Some(draft), below)?;
        if let Some(bucket) = self.lock().get_mut(&id) {
            bucket.next_run = run.value() + 1;
            bucket.runs.push(Run { path: Path::run(id.0, id.1, run), head, filter });
        }
        Ok(())
    }

    /// Takes listings of a version out of the tail; says where it has them in runs, for a batch to take them out there.
    pub fn thin(
        &self,
        tree: &Tree,
        kid: Kid,
        tokens: &[Token],
    ) -> Result<Option<Listed>, KeyError> {
        if let Some(bucket) =
            self.lock().get_mut(&(kid.tenant, kid.bucket)).filter(|b| b.tail.has(kid))
        {
            tokens.iter().for_each(|token| bucket.tail.shorten(kid, token));
            return Ok(None);
        }
        let listed = self.listed(tree, kid, Some(tokens))?;
        Ok(Some(listed).filter(|l| !l.leaves.is_empty()))
    }
}

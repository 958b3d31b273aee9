//! Pages of lists: sizes and tokens (AIP-158).
//!
//! Guarantees: a token continues the query that it came from, for the caller that it was given to; sizes are bounded.

use tonic::Status;

use super::Rpc;
use super::status::{self, Terms, Violations};
use crate::authz::{ActionKind, Permit};
use crate::limits::PAGE_SIZE_MAX;

/// How many rows a page has: 0 means `default`; more than [`PAGE_SIZE_MAX`] means that.
pub fn size(asked: i32, default: usize, found: &mut Violations) -> Option<usize> {
    match usize::try_from(asked) {
        Ok(0) => Some(default),
        Ok(n) => Some(n.min(PAGE_SIZE_MAX)),
        Err(_) => found.take("page_size", Err("must not be negative")),
    }
}

/// What a token is bound to, besides its caller: the method and each part of the request that chooses or shapes rows.
pub struct Query<'a>(pub Vec<&'a [u8]>);

impl Rpc {
    /// The cursor in a token; `None` on the first page.
    pub(super) fn cursor<A: ActionKind>(
        &self,
        permit: &Permit<A>,
        query: &Query<'_>,
        token: &str,
    ) -> Result<Option<Vec<u8>>, Status> {
        let caller = permit.principal().as_str();
        self.vault.page_cursor(caller, &query.0, token).map_err(|e| status::of(e, Terms::Plain, ""))
    }

    /// The token for what comes after `cursor`; empty if nothing does.
    pub(super) fn next_page<A: ActionKind>(
        &self,
        permit: &Permit<A>,
        query: &Query<'_>,
        cursor: Option<&[u8]>,
    ) -> Result<String, Status> {
        let Some(cursor) = cursor else { return Ok(String::new()) };
        let caller = permit.principal().as_str();
        self.vault.page_token(caller, &query.0, cursor).map_err(|e| status::of(e, Terms::Plain, ""))
    }
}

/// A cursor that is a name.
pub fn text(cursor: Option<Vec<u8>>) -> Option<String> {
    // Only this program seals cursors, and it put a name in.
    cursor.and_then(|c| String::from_utf8(c).ok())
}

/// Cuts a list that has one more row than its page, and gives the last row that stays if more follow.
pub fn cut<T>(rows: &mut Vec<T>, size: usize) -> Option<&T> {
    let more = rows.len() > size;
    rows.truncate(size);
    rows.last().filter(|_| more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_a_default_and_a_bound() {
        let sized = |n| size(n, 50, &mut Violations::default());
        assert_eq!([0, 1, 1000, 1001, i32::MAX].map(sized), [50, 1, 1000, 1000, 1000].map(Some));
        assert_eq!([sized(-1), sized(i32::MIN)], [None, None]);
    }

    #[test]
    fn a_list_is_cut_only_where_more_follows() {
        let mut rows = vec![1, 2, 3];
        assert_eq!(cut(&mut rows, 3), None);
        assert_eq!(cut(&mut rows, 2), Some(&2));
        assert_eq!(rows, [1, 2]);
        assert_eq!(cut(&mut Vec::<u8>::new(), 2), None);
    }
}

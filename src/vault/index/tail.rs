//! Listings that are in no run yet: in memory, rebuilt from record rows when the vault opens.

use std::collections::{BTreeMap, HashMap};

use super::Token;
use crate::id::{Kid, PageOrd};
use crate::keys::node::Listing;
use crate::keys::slots::BucketId;

/// The tail of a bucket.
#[derive(Default)]
pub struct Tail {
    by_token: HashMap<Token, Vec<(u32, u8)>>,
    by_page: BTreeMap<u32, BTreeMap<u8, Vec<Token>>>,
    len: usize,
}

impl Tail {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn add(&mut self, kid: Kid, tokens: &[Token]) {
        let (page, slot) = (kid.page.value(), kid.slot);
        for token in tokens {
            self.by_token.entry(token.clone()).or_default().push((page, slot));
        }
        self.len += tokens.len();
        self.by_page.entry(page).or_default().insert(slot, tokens.to_vec());
    }

    pub fn find(&self, bucket: BucketId, token: &Token) -> Vec<Kid> {
        let places = self.by_token.get(token).map(Vec::as_slice).unwrap_or_default();
        let kid = |(page, slot): &(u32, u8)| {
            let page = PageOrd::new(*page)?;
            Some(Kid { tenant: bucket.0, bucket: bucket.1, page, slot: *slot })
        };
        places.iter().filter_map(kid).collect()
    }

    pub fn has(&self, kid: Kid) -> bool {
        let page = self.by_page.get(&kid.page.value());
        page.is_some_and(|slots| slots.contains_key(&kid.slot))
    }

    /// Lists a version that is here under one more token.
    pub fn extend(&mut self, kid: Kid, token: &Token) {
        let (page, slot) = (kid.page.value(), kid.slot);
        let tokens = self.by_page.get_mut(&page).and_then(|slots| slots.get_mut(&slot));
        if let Some(tokens) = tokens.filter(|tokens| !tokens.contains(token)) {
            tokens.push(token.clone());
            self.by_token.entry(token.clone()).or_default().push((page, slot));
            self.len += 1;
        }
    }

    /// Takes one listing of a version out.
    pub fn shorten(&mut self, kid: Kid, token: &Token) {
        let (page, slot) = (kid.page.value(), kid.slot);
        let tokens = self.by_page.get_mut(&page).and_then(|slots| slots.get_mut(&slot));
        if let Some(tokens) = tokens.filter(|tokens| tokens.contains(token)) {
            tokens.retain(|t| t != token);
            self.forget(std::slice::from_ref(token), (page, slot));
        }
    }

    /// Takes a version out; false if it was not here.
    pub fn remove(&mut self, kid: Kid) -> bool {
        let (page, slot) = (kid.page.value(), kid.slot);
        let Some(slots) = self.by_page.get_mut(&page) else { return false };
        let Some(tokens) = slots.remove(&slot) else { return false };
        if slots.is_empty() {
            self.by_page.remove(&page);
        }
        self.forget(&tokens, (page, slot));
        true
    }

    fn forget(&mut self, tokens: &[Token], place: (u32, u8)) {
        for token in tokens {
            if let Some(places) = self.by_token.get_mut(token) {
                places.retain(|p| *p != place);
                if places.is_empty() {
                    self.by_token.remove(token);
                }
            }
        }
        self.len = self.len.saturating_sub(tokens.len());
    }

    /// Listings of the pages below a boundary.
    pub fn below(&self, page: u32) -> Vec<Listing> {
        let mut out = Vec::new();
        for (page, slots) in self.by_page.range(..page) {
            for (slot, tokens) in slots {
                let listing = |t: &Token| Listing { token: t.0, page: *page, slot: *slot };
                out.extend(tokens.iter().map(listing));
            }
        }
        out
    }

    /// The pages below a boundary are in a run now.
    pub fn drop_below(&mut self, page: u32) {
        let kept = self.by_page.split_off(&page);
        for (page, slots) in std::mem::replace(&mut self.by_page, kept) {
            for (slot, tokens) in slots {
                self.forget(&tokens, (page, slot));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{BucketOrd, TenantOrd};

    #[test]
    fn a_listing_is_found_until_it_is_removed_or_written() {
        let bucket = (TenantOrd::of(1), BucketOrd::of(2));
        let kid = |page: u16, slot| Kid {
            tenant: bucket.0,
            bucket: bucket.1,
            page: PageOrd::of(page),
            slot,
        };
        let (a, b) = (Token([1; 16]), Token([2; 16]));
        let mut tail = Tail::default();
        tail.add(kid(0, 1), &[a.clone(), b.clone()]);
        tail.add(kid(1, 1), std::slice::from_ref(&a));
        assert_eq!(tail.find(bucket, &a), [kid(0, 1), kid(1, 1)]);
        assert_eq!((tail.len(), tail.below(1).len(), tail.below(2).len()), (3, 2, 3));
        let c = Token([3; 16]);
        for _ in 0..2 {
            tail.extend(kid(1, 1), &c);
        }
        tail.extend(kid(2, 1), &c);
        assert_eq!((tail.find(bucket, &c), tail.len()), (vec![kid(1, 1)], 4));
        for _ in 0..2 {
            tail.shorten(kid(1, 1), &c);
        }
        tail.shorten(kid(2, 1), &a);
        assert_eq!((tail.find(bucket, &c), tail.len()), (vec![], 3));
        assert!(tail.remove(kid(1, 1)) && !tail.remove(kid(1, 1)));
        assert_eq!(tail.find(bucket, &a), [kid(0, 1)]);
        tail.drop_below(1);
        assert!(tail.find(bucket, &b).is_empty() && tail.len() == 0);
        assert!(tail.by_token.is_empty() && tail.by_page.is_empty());
    }
}

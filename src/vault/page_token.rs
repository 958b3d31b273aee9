//! Page tokens: a cursor, sealed under a key that lives in memory only, bound to caller and query, and expiring.

use super::core::Vault;
use super::error::VaultError;
use crate::clock::UnixMillis;
use crate::crypto::{open_in_place, seal_append, sha256_parts};
use crate::limits::PAGE_TOKEN_LIFE;

/// Greatest cursor that a token holds.
const CURSOR_MAX: usize = 64;
const TOKEN_MAX: usize = 12 + 8 + CURSOR_MAX + 16;

/// Who pages through what. Two that differ have different bindings.
fn binding(caller: &str, query: &[&[u8]]) -> [u8; 32] {
    let mut parts = vec![(caller.len() as u64).to_be_bytes().to_vec(), caller.as_bytes().to_vec()];
    for part in query {
        parts.push((part.len() as u64).to_be_bytes().to_vec());
        parts.push(part.to_vec());
    }
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    sha256_parts(&parts)
}

impl Vault {
    /// A token for the page after `cursor`.
    pub fn page_token(
        &self,
        caller: &str,
        query: &[&[u8]],
        cursor: &[u8],
    ) -> Result<String, VaultError> {
        let life = i64::try_from(PAGE_TOKEN_LIFE.as_millis()).unwrap_or(i64::MAX);
        let until = self.core.clock.now().0.saturating_add(life);
        let plain = [&until.to_be_bytes(), cursor].concat();
        let mut sealed = Vec::new();
        let key = self.core.page_key.expose();
        seal_append(key, &binding(caller, query), &plain, &mut sealed)
            .map_err(|_| VaultError::PageToken)?;
        Ok(crate::keys::anchor::hex(&sealed))
    }

    /// The cursor in a token; `None` for the first page.
    pub fn page_cursor(
        &self,
        caller: &str,
        query: &[&[u8]],
        token: &str,
    ) -> Result<Option<Vec<u8>>, VaultError> {
        if token.is_empty() {
            return Ok(None);
        }
        let mut sealed = unhex(token).ok_or(VaultError::PageToken)?;
        let key = self.core.page_key.expose();
        let plain = open_in_place(key, &binding(caller, query), &mut sealed)
            .map_err(|_| VaultError::PageToken)?;
        let (until, cursor) = plain.split_first_chunk().ok_or(VaultError::PageToken)?;
        if UnixMillis(i64::from_be_bytes(*until)) < self.core.clock.now() {
            return Err(VaultError::PageToken);
        }
        Ok(Some(cursor.to_vec()))
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if text.len() > 2 * TOKEN_MAX || !text.len().is_multiple_of(2) {
        return None;
    }
    let digit = |c: &u8| char::from(*c).to_digit(16).filter(|_| !c.is_ascii_uppercase());
    let pair = |p: &[u8]| p.iter().try_fold(0u8, |n, c| Some(n << 4 | digit(c)? as u8));
    text.as_bytes().chunks_exact(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_and_queries_are_told_apart() {
        let a = binding("a", &[b"x", b"y"]);
        assert_ne!(a, binding("b", &[b"x", b"y"]));
        assert_ne!(a, binding("a", &[b"xy"]));
        assert_ne!(a, binding("a", &[b"y", b"x"]));
        assert_eq!(
            (unhex("0aff"), unhex("0aF0"), unhex("0"), unhex("zz")),
            (Some(vec![10, 255]), None, None, None)
        );
        assert!(unhex(&"0".repeat(4000)).is_none());
    }
}

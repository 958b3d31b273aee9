//! Walks over many rows, a page at a time.
//!
//! Guarantees: rows come in key order, each key once; a page is one consistent read, pages are read one after another,
//! so rows changed meanwhile may or may not be seen. The walk ends at the first error.

use std::sync::Arc;
use std::vec::IntoIter;

use super::{Engine, Row, StoreError};
use crate::limits;

/// The rows under a key prefix.
pub struct Rows {
    engine: Arc<dyn Engine>,
    next: Option<Vec<u8>>,
    end: Vec<u8>,
    page: IntoIter<Row>,
}

impl Rows {
    pub fn under(engine: Arc<dyn Engine>, prefix: &[u8]) -> Self {
        let page = Vec::new().into_iter();
        Self { engine, next: Some(prefix.to_vec()), end: end_of(prefix), page }
    }

    fn read(&mut self) -> Result<(), StoreError> {
        let Some(start) = self.next.take() else {
            return Ok(());
        };
        let rows = self.engine.scan(&start, &self.end, limits::SCAN_PAGE_ROWS)?;
        if rows.len() == limits::SCAN_PAGE_ROWS {
            self.next = rows.last().map(|row| after(&row.key));
        }
        self.page = rows.into_iter();
        Ok(())
    }

    /// The next page of rows; an empty one at the end.
    pub fn page(&mut self) -> Result<Vec<Row>, StoreError> {
        self.read()?;
        Ok(std::mem::take(&mut self.page).collect())
    }
}

impl Iterator for Rows {
    type Item = Result<Row, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.len() == 0
            && let Err(e) = self.read()
        {
            return Some(Err(e));
        }
        self.page.next().map(Ok)
    }
}

/// The smallest key above `key`.
pub fn after(key: &[u8]) -> Vec<u8> {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next
}

/// The smallest key above every key that starts with `prefix`.
pub fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    // No key is longer than KEY_BYTES_MAX, so none reaches this one.
    vec![u8::MAX; limits::KEY_BYTES_MAX + 1]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Memory;

    fn keys(prefix: &[u8], engine: &Arc<dyn Engine>) -> Vec<Vec<u8>> {
        Rows::under(engine.clone(), prefix).map(|row| row.unwrap().key).collect()
    }

    #[test]
    fn the_end_of_a_prefix_is_just_above_it() {
        assert_eq!(end_of(b"a"), b"b");
        assert_eq!(end_of(&[1, 255]), [2]);
        assert_eq!(end_of(&[255]).len(), limits::KEY_BYTES_MAX + 1);
        assert_eq!(end_of(b""), end_of(&[255, 255]));
    }

    #[test]
    fn a_walk_crosses_pages_without_gap_or_repeat() {
        let engine: Arc<dyn Engine> = Arc::new(Memory::new());
        for extra in [0, 1, limits::SCAN_PAGE_ROWS - 1, limits::SCAN_PAGE_ROWS] {
            let total = limits::SCAN_PAGE_ROWS + extra;
            let mut writes = vec![(b"q".to_vec(), Some(vec![])), (b"s".to_vec(), Some(vec![]))];
            for n in 0..total {
                writes.push(([b"r".as_slice(), &(n as u32).to_be_bytes()].concat(), Some(vec![])));
            }
            engine.commit(&writes).unwrap();
            assert_eq!(keys(b"r", &engine).len(), total);
            assert_eq!(keys(b"", &engine).len(), total + 2);
            let walked = keys(b"r", &engine);
            assert!(walked.windows(2).all(|w| w[0] < w[1]));
        }
        assert!(keys(b"z", &engine).is_empty());
    }
}

//! Rows in memory: the model that the other engines are compared with, and the engine of short tests.
//!
//! Guarantees what [`Engine`] asks, except that nothing outlives the value.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use super::{Engine, Row, StoreError};

/// An engine without a disk.
#[derive(Default)]
pub struct Memory {
    rows: RwLock<BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl Memory {
    pub fn new() -> Self {
        Self::default()
    }
}

impl Engine for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.rows.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned())
    }

    fn scan(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<Row>, StoreError> {
        if start >= end {
            return Ok(Vec::new());
        }
        let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner);
        let found = rows.range(start.to_vec()..end.to_vec()).take(limit);
        Ok(found.map(|(k, v)| Row { key: k.clone(), value: v.clone() }).collect())
    }

    fn commit(&self, writes: &[(Vec<u8>, Option<Vec<u8>>)]) -> Result<(), StoreError> {
        let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        for (key, value) in writes {
            match value {
                Some(value) => rows.insert(key.clone(), value.clone()),
                None => rows.remove(key),
            };
        }
        Ok(())
    }
}

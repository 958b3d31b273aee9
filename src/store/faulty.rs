//! Faults on purpose: an engine and a sink that fail, lie, damage or wait when a test says so.
//!
//! Guarantees: without a planned fault they behave exactly as what they wrap; operations are counted from 1 in the
//! order of the calls, so that a test can fail the first, the second, … until none is left.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::{Engine, NodeSink, Row, StoreError};

/// What a fault does.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The n-th call of any kind fails and does nothing.
    Any(u64, StoreError),
    /// The n-th `get` or `scan` fails.
    Read(u64, StoreError),
    /// The n-th `commit` (of a sink: `append` or `sync`) fails and does nothing.
    Write(u64, StoreError),
    /// The n-th `commit` is applied, but reported as failed.
    WriteThenFail(u64, StoreError),
    /// The n-th `commit` is reported as done, but dropped: a disk that lies.
    DropWrite(u64),
    /// Values of keys with this prefix are read with bit `1` of byte `0` (modulo its length) flipped.
    FlipOnRead(Vec<u8>, usize, u8),
    /// Values of keys with this prefix are read cut to so many bytes.
    CutOnRead(Vec<u8>, usize),
    /// Keys with this prefix are not found.
    HideOnRead(Vec<u8>),
}

/// The planned faults and the counts; shared by the test and what it wraps.
#[derive(Default)]
pub struct Plan {
    faults: Mutex<Vec<Fault>>,
    any: AtomicU64,
    reads: AtomicU64,
    writes: AtomicU64,
    held: Mutex<bool>,
    released: Condvar,
    waiting: AtomicU64,
}

/// Writes wait as long as this lives; also a test that fails lets them go.
pub struct Hold(Arc<Plan>);

impl Drop for Hold {
    fn drop(&mut self) {
        *self.0.held.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.0.released.notify_all();
    }
}

enum Outcome {
    Do,
    DoThenFail(StoreError),
    Pretend,
}

impl Plan {
    pub fn new(faults: Vec<Fault>) -> Arc<Self> {
        Arc::new(Self { faults: Mutex::new(faults), ..Self::default() })
    }

    /// Adds a fault; its count is that since the beginning.
    pub fn add(&self, fault: Fault) {
        self.lock().push(fault);
    }

    pub fn clear(&self) {
        self.lock().clear();
    }

    /// Calls so far.
    pub fn operations(&self) -> u64 {
        self.any.load(Ordering::SeqCst)
    }

    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::SeqCst)
    }

    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::SeqCst)
    }

    /// Holds up every write that begins from now on.
    #[must_use]
    pub fn hold(self: &Arc<Self>) -> Hold {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = true;
        Hold(Arc::clone(self))
    }

    /// Writes that are held up now.
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::SeqCst)
    }

    fn wait(&self) {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if *held {
            self.waiting.fetch_add(1, Ordering::SeqCst);
            drop(self.released.wait_while(held, |held| *held));
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Fault>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> Result<(), StoreError> {
        let any = self.any.fetch_add(1, Ordering::SeqCst) + 1;
        let nth = self.reads.fetch_add(1, Ordering::SeqCst) + 1;
        let failing = self.lock().iter().find_map(|fault| match fault {
            Fault::Any(n, e) if *n == any => Some(e.clone()),
            Fault::Read(n, e) if *n == nth => Some(e.clone()),
            _ => None,
        });
        failing.map_or(Ok(()), Err)
    }

    fn write(&self) -> Result<Outcome, StoreError> {
        let any = self.any.fetch_add(1, Ordering::SeqCst) + 1;
        let nth = self.writes.fetch_add(1, Ordering::SeqCst) + 1;
        let outcome = self.lock().iter().find_map(|fault| match fault {
            Fault::Any(n, e) if *n == any => Some(Err(e.clone())),
            Fault::Write(n, e) if *n == nth => Some(Err(e.clone())),
            Fault::WriteThenFail(n, e) if *n == nth => Some(Ok(Outcome::DoThenFail(e.clone()))),
            Fault::DropWrite(n) if *n == nth => Some(Ok(Outcome::Pretend)),
            _ => None,
        });
        outcome.unwrap_or(Ok(Outcome::Do))
    }

    fn run(&self, work: impl FnOnce() -> Result<(), StoreError>) -> Result<(), StoreError> {
        self.wait();
        match self.write()? {
            Outcome::Do => work(),
            Outcome::DoThenFail(e) => work().and(Err(e)),
            Outcome::Pretend => Ok(()),
        }
    }

    /// What reaches the reader; `None` if the row is hidden.
    fn tamper(&self, key: &[u8], mut value: Vec<u8>) -> Option<Vec<u8>> {
        for fault in self.lock().iter() {
            match fault {
                Fault::FlipOnRead(prefix, byte, bit) if key.starts_with(prefix) => {
                    let at = byte % value.len().max(1);
                    if let Some(byte) = value.get_mut(at) {
                        *byte ^= 1 << (bit % 8);
                    }
                }
                Fault::CutOnRead(prefix, bytes) if key.starts_with(prefix) => {
                    value.truncate(*bytes);
                }
                Fault::HideOnRead(prefix) if key.starts_with(prefix) => return None,
                _ => {}
            }
        }
        Some(value)
    }
}

/// An engine with planned faults.
pub struct Faulty {
    inner: Arc<dyn Engine>,
    plan: Arc<Plan>,
}

impl Faulty {
    pub fn new(inner: Arc<dyn Engine>, plan: Arc<Plan>) -> Self {
        Self { inner, plan }
    }
}

impl Engine for Faulty {
    fn name(&self) -> &'static str {
        "faulty"
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.plan.read()?;
        Ok(self.inner.get(key)?.and_then(|value| self.plan.tamper(key, value)))
    }

    fn scan(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<Row>, StoreError> {
        self.plan.read()?;
        let rows = self.inner.scan(start, end, limit)?.into_iter();
        let seen = |row: Row| {
            let value = self.plan.tamper(&row.key, row.value)?;
            Some(Row { key: row.key, value })
        };
        Ok(rows.filter_map(seen).collect())
    }

    fn commit(&self, writes: &[(Vec<u8>, Option<Vec<u8>>)]) -> Result<(), StoreError> {
        self.plan.run(|| self.inner.commit(writes))
    }
}

/// A sink with planned faults; `append` and `sync` count as writes, the rewrite's calls too.
pub struct FaultySink {
    inner: Box<dyn NodeSink>,
    plan: Arc<Plan>,
}

impl FaultySink {
    pub fn new(inner: Box<dyn NodeSink>, plan: Arc<Plan>) -> Self {
        Self { inner, plan }
    }
}

impl NodeSink for FaultySink {
    fn wants(&self, key: &[u8]) -> bool {
        self.inner.wants(key)
    }

    fn append(&mut self, writes: &[&(Vec<u8>, Option<Vec<u8>>)]) -> Result<(), StoreError> {
        self.plan.run(|| self.inner.append(writes))
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.plan.run(|| self.inner.sync())
    }

    fn wants_rewrite(&self) -> bool {
        self.inner.wants_rewrite()
    }

    fn rewrite_begin(&mut self) -> Result<(), StoreError> {
        self.plan.run(|| self.inner.rewrite_begin())
    }

    fn rewrite_rows(&mut self, rows: &[Row]) -> Result<(), StoreError> {
        self.plan.run(|| self.inner.rewrite_rows(rows))
    }

    fn rewrite_end(&mut self) -> Result<(), StoreError> {
        self.plan.run(|| self.inner.rewrite_end())
    }

    fn rewrite_abandon(&mut self) {
        self.inner.rewrite_abandon();
    }
}

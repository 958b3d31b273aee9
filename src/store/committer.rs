//! [`Store`]: the handle that everything above the store writes and reads through.
//!
//! Guarantees: batches take effect in the order of [`Store::submit`]; an answer `Ok(seq)` means that the batch is on
//! disk in the engine and, where the sink wants a row, in the sink; `seq` grows by one with each durable group and is
//! itself a row of that group. After a failed write every waiting and later batch is answered
//! [`StoreError::Stopped`]; reads go on.
//!
//! Invariants: one thread commits; the queue is bounded; `stopped` is set under the queue's lock, so that no batch
//! gets in behind it. The handle that goes last drains the queue and joins the thread.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::watch;

use super::group::Committer;
use super::pages::Rows;
use super::pending::{Answer, Pending, Promise};
use super::sum::{checked, with_sum};
use super::{Batch, Chronicle, DiskGuard, Engine, NodeSink, Row, StoreError, Urgency};
use crate::limits::{self, NOTES_BYTES_MAX, NOTES_WAIT};

/// Key of the row that holds the commit sequence (FORMAT §3).
pub(super) const SEQ_KEY: &[u8] = b"s";
const SEQ_MAGIC: [u8; 4] = *b"LTS1";

/// How many entries a log has, and the hash that stands for all of them.
pub type LogHead = (u64, [u8; 32]);

/// What waits for the committer.
pub(super) enum Job {
    Write(Batch, Promise),
    Rewrite(Promise),
}

impl Job {
    /// How much of a group it takes.
    fn operations(&self) -> usize {
        match self {
            Job::Write(batch, _) => batch.writes.len().max(1),
            Job::Rewrite(_) => 0,
        }
    }
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    notes: Notes,
    closed: bool,
    stopped: bool,
}

/// Entries of the log that no write goes with.
#[derive(Default)]
struct Notes {
    entries: Vec<Vec<u8>>,
    bytes: usize,
    /// When the first of them came.
    since: Option<Instant>,
}

impl Notes {
    /// How long a group may still be put off for company; `None` if there are none.
    fn patience(&self) -> Option<std::time::Duration> {
        self.since.map(|since| NOTES_WAIT.saturating_sub(since.elapsed()))
    }
}

/// What makes one group.
pub(super) struct Work {
    pub(super) jobs: Vec<Job>,
    pub(super) notes: Vec<Vec<u8>>,
}

/// What the handles and the committer's thread share.
pub(super) struct Core {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) guard: Option<DiskGuard>,
    pub(super) seq: AtomicU64,
    /// The log's head after the last durable group, if there is a log.
    pub(super) head: watch::Sender<Option<LogHead>>,
    pub(super) rewrite_due: AtomicBool,
    queue: Mutex<Queue>,
    wake: Condvar,
}

impl Core {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enqueue(&self, job: impl FnOnce(Promise) -> Job) -> Result<Pending, StoreError> {
        let mut queue = self.lock();
        if queue.stopped || queue.closed {
            return Err(StoreError::Stopped);
        }
        if queue.jobs.len() >= limits::COMMIT_QUEUE_MAX {
            return Err(StoreError::Busy);
        }
        let (promise, pending) = Promise::new();
        queue.jobs.push_back(job(promise));
        drop(queue);
        self.wake.notify_one();
        Ok(pending)
    }

    /// The next group, in order of submission; `None` once closed and drained. Waits for one if `wait`. Notes go with
    /// the first group, and make one of their own when none comes.
    pub(super) fn take(&self, wait: bool) -> Option<Work> {
        let mut queue = self.lock();
        while queue.jobs.is_empty() && !queue.closed && wait {
            queue = match queue.notes.patience() {
                None => self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => break,
                Some(left) => {
                    let waited = self.wake.wait_timeout(queue, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        if queue.jobs.is_empty() && queue.notes.entries.is_empty() && queue.closed {
            return None;
        }
        let notes = std::mem::take(&mut queue.notes).entries;
        let mut group = Vec::new();
        let mut operations = 0_usize;
        while let Some(job) = queue.jobs.front() {
            operations = operations.saturating_add(job.operations());
            // A batch is never cut, so the first one goes whatever its size.
            if operations > limits::COMMIT_GROUP_MAX && !group.is_empty() {
                break;
            }
            group.extend(queue.jobs.pop_front());
        }
        Some(Work { jobs: group, notes })
    }

    /// Refuses everything from now on; what waits is answered [`StoreError::Stopped`].
    pub(super) fn stop(&self) {
        let waiting = {
            let mut queue = self.lock();
            queue.stopped = true;
            queue.notes = Notes::default();
            std::mem::take(&mut queue.jobs)
        };
        drop(waiting);
    }

    fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_one();
    }
}

/// Ends the thread when the last handle goes.
struct Handle {
    core: Arc<Core>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Handle {
    fn close(&self) {
        self.core.close();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A thread that died has stopped the store already; there is nothing to add.
            let _ = thread.join();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}

/// Rows with one barrier for all callers. Clones share everything.
#[derive(Clone)]
pub struct Store(Arc<Handle>);

impl Store {
    /// Starts the committer over an open engine.
    pub fn open(
        engine: Arc<dyn Engine>,
        sink: Option<Box<dyn NodeSink>>,
        guard: Option<DiskGuard>,
    ) -> Result<Self, StoreError> {
        Self::open_with_log(engine, sink, guard, None)
    }

    /// The same, with a log. Without one a batch with entries is refused.
    pub fn open_with_log(
        engine: Arc<dyn Engine>,
        sink: Option<Box<dyn NodeSink>>,
        guard: Option<DiskGuard>,
        log: Option<Box<dyn Chronicle>>,
    ) -> Result<Self, StoreError> {
        let seq = match engine.get(SEQ_KEY)? {
            Some(row) => decode_seq(&row)?,
            None => 0,
        };
        let core = Arc::new(Core {
            engine,
            guard,
            seq: AtomicU64::new(seq),
            head: watch::Sender::new(log.as_ref().map(|log| log.head())),
            rewrite_due: AtomicBool::new(sink.as_ref().is_some_and(|s| s.wants_rewrite())),
            queue: Mutex::default(),
            wake: Condvar::new(),
        });
        let committer = Committer::new(core.clone(), sink, log);
        let builder = std::thread::Builder::new().name("lethe-commit".into());
        let thread = builder
            .spawn(move || committer.run())
            .map_err(|e| StoreError::Io(format!("start of the committer: {e}")))?;
        Ok(Self(Arc::new(Handle { core, thread: Mutex::new(Some(thread)) })))
    }

    pub fn engine_name(&self) -> &'static str {
        self.0.core.engine.name()
    }

    /// One row, as the last durable group (or the one being written) left it.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.core.engine.get(key)
    }

    /// Rows with `start <= key < end`, ascending, at most `limit`.
    pub fn scan(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<Row>, StoreError> {
        self.0.core.engine.scan(start, end, limit)
    }

    /// Every row under `prefix`, read a page at a time.
    pub fn prefix(&self, prefix: &[u8]) -> Rows {
        Rows::under(self.0.core.engine.clone(), prefix)
    }

    /// Sequence of the last durable group.
    pub fn seq(&self) -> u64 {
        self.0.core.seq.load(Ordering::Acquire)
    }

    /// Whether an earlier write failed, so that all later ones are refused.
    pub fn stopped(&self) -> bool {
        self.0.core.lock().stopped
    }

    /// Batches that wait.
    pub fn queued(&self) -> usize {
        self.0.core.lock().jobs.len()
    }

    /// Whether puts are refused since the disk is almost full.
    pub fn is_full(&self) -> bool {
        let guard = self.0.core.guard.as_ref();
        guard.is_some_and(|guard| guard.admit(super::Urgency::Put).is_err())
    }

    /// How many entries the log has and the hash over them, as of the last durable group. `None` without a log.
    pub fn log_head(&self) -> Option<LogHead> {
        *self.0.core.head.borrow()
    }

    /// The same, for who waits until it changes.
    pub fn log_heads(&self) -> watch::Receiver<Option<LogHead>> {
        self.0.core.head.subscribe()
    }

    /// Puts an entry into the log that no write goes with. It is durable with the next group, which starts within
    /// [`NOTES_WAIT`]; [`Store::barrier`] waits for it.
    pub fn note(&self, entries: Vec<Vec<u8>>, urgency: Urgency) -> Result<(), StoreError> {
        if let Some(guard) = &self.0.core.guard {
            guard.admit(urgency)?;
        }
        let mut queue = self.0.core.lock();
        if queue.stopped || queue.closed {
            return Err(StoreError::Stopped);
        }
        let bytes = entries.iter().map(Vec::len).sum::<usize>();
        if queue.notes.bytes.saturating_add(bytes) > NOTES_BYTES_MAX {
            return Err(StoreError::Busy);
        }
        queue.notes.bytes += bytes;
        queue.notes.entries.extend(entries);
        let first = queue.notes.since.is_none();
        queue.notes.since.get_or_insert_with(Instant::now);
        drop(queue);
        if first {
            self.0.core.wake.notify_one();
        }
        Ok(())
    }

    /// Durable is, when it is answered, whatever was submitted or noted before.
    pub fn barrier(&self) -> Result<Pending, StoreError> {
        self.0.core.enqueue(|promise| Job::Write(Batch::default(), promise))
    }

    /// Queues a batch. Once this returned `Ok`, the batch goes its way also if the answer is dropped.
    pub fn submit(&self, batch: Batch) -> Result<Pending, StoreError> {
        check_sizes(&batch)?;
        if !batch.entries.is_empty() && self.log_head().is_none() {
            return Err(StoreError::NoLog);
        }
        if let Some(guard) = &self.0.core.guard {
            guard.admit(batch.urgency)?;
        }
        self.0.core.enqueue(|promise| Job::Write(batch, promise))
    }

    /// Durable when it returns.
    pub async fn commit(&self, batch: Batch) -> Answer {
        self.submit(batch)?.await
    }

    /// [`Store::commit`] for plain threads.
    pub fn commit_blocking(&self, batch: Batch) -> Answer {
        self.submit(batch)?.wait()
    }

    /// Whether the sink (the node journal) has grown enough for [`Store::compact_journal`] to pay.
    pub fn journal_wants_compaction(&self) -> bool {
        self.0.core.rewrite_due.load(Ordering::Acquire)
    }

    /// Rewrites the sink from the engine's rows, a page at a time between groups; the answer comes when it is done.
    pub fn compact_journal(&self) -> Result<Pending, StoreError> {
        self.0.core.enqueue(Job::Rewrite)
    }

    /// Commits what waits, then ends the committer; later batches are answered [`StoreError::Stopped`]. Reads go on.
    pub fn close(&self) {
        self.0.close();
    }
}

fn check_sizes(batch: &Batch) -> Result<(), StoreError> {
    for (key, value) in &batch.writes {
        let value = value.as_ref().map_or(0, Vec::len);
        if key.len() > limits::KEY_BYTES_MAX {
            return Err(StoreError::RowTooLarge(key.len()));
        }
        if value > limits::ROW_BYTES_MAX {
            return Err(StoreError::RowTooLarge(value));
        }
    }
    Ok(())
}

/// The row that makes a store begin at this sequence; for repair.
pub fn sequence_row(seq: u64) -> (Vec<u8>, Vec<u8>) {
    (SEQ_KEY.to_vec(), encode_seq(seq))
}

/// The sequence that an engine's rows say they have; `None` if that row is missing or damaged.
pub fn sequence_of(engine: &dyn Engine) -> Option<u64> {
    decode_seq(&engine.get(SEQ_KEY).ok()??).ok()
}

pub(super) fn encode_seq(seq: u64) -> Vec<u8> {
    let mut row = Vec::with_capacity(16);
    row.extend_from_slice(&SEQ_MAGIC);
    row.extend_from_slice(&seq.to_be_bytes());
    with_sum(row)
}

fn decode_seq(row: &[u8]) -> Result<u64, StoreError> {
    let digits = checked(row).and_then(|row| row.strip_prefix(&SEQ_MAGIC)?.try_into().ok());
    digits
        .map(u64::from_be_bytes)
        .ok_or_else(|| StoreError::Damaged("the commit sequence row".into()))
}

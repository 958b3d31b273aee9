//! The committer's thread: one durable group after another.
//!
//! Guarantees: a group is one `Engine::commit`; nobody of a group is answered before engine and sink are both durable;
//! a batch whose expectation fails is left out and the others go on. Expectations see the group's earlier batches. A
//! rewrite of the sink goes on between groups and never holds one up longer than a page of rows.
//!
//! Invariant: if this thread dies the store stops, so that no caller waits for ever.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use super::committer::{Core, Job, SEQ_KEY, Work, encode_seq};
use super::pages::Rows;
use super::pending::{Answer, Promise};
use super::{Batch, Chronicle, NodeSink, StoreError, Urgency, Write};

/// The writes of one group, and where each key was last written if somebody asks.
#[derive(Default)]
struct Group {
    writes: Vec<Write>,
    entries: Vec<Vec<u8>>,
    last: HashMap<Vec<u8>, usize>,
    /// Whether any batch of the group expects something; without one the map stays empty.
    tracked: bool,
}

impl Group {
    fn add(&mut self, batch: Batch) {
        for write in batch.writes {
            if self.tracked {
                self.last.insert(write.0.clone(), self.writes.len());
            }
            self.writes.push(write);
        }
        self.entries.extend(batch.entries);
    }

    /// What the group so far would leave under `key`; outer `None` if it does not touch it.
    fn pending(&self, key: &[u8]) -> Option<&Option<Vec<u8>>> {
        let at = *self.last.get(key)?;
        self.writes.get(at).map(|(_, value)| value)
    }
}

/// A rewrite of the sink on its way.
struct Rewrite {
    rows: Option<Rows>,
    /// Kinds (first key bytes) not yet copied, the next one last.
    kinds: Vec<u8>,
    waiting: Vec<Promise>,
}

pub(super) struct Committer {
    core: Arc<Core>,
    sink: Option<Box<dyn NodeSink>>,
    log: Option<Box<dyn Chronicle>>,
    rewrite: Option<Rewrite>,
    /// Set at the orderly end; a thread that dies otherwise stops the store.
    closed: bool,
}

impl Drop for Committer {
    fn drop(&mut self) {
        if !self.closed {
            self.core.stop();
        }
    }
}

impl Committer {
    pub(super) fn new(
        core: Arc<Core>,
        sink: Option<Box<dyn NodeSink>>,
        log: Option<Box<dyn Chronicle>>,
    ) -> Self {
        Self { core, sink, log, rewrite: None, closed: false }
    }

    pub(super) fn run(mut self) {
        while let Some(work) = self.core.take(self.rewrite.is_none()) {
            if !work.jobs.is_empty() || !work.notes.is_empty() {
                self.group(work);
            }
            self.rewrite_step();
        }
        self.closed = true;
    }

    fn group(&mut self, Work { jobs, notes }: Work) {
        let expects = |job: &Job| matches!(job, Job::Write(batch, _) if !batch.expects.is_empty());
        let tracked = jobs.iter().any(expects);
        let mut group = Group { tracked, entries: notes, ..Group::default() };
        let mut verdicts = Vec::with_capacity(jobs.len());
        for job in jobs {
            match job {
                Job::Write(batch, promise) => {
                    let verdict = self.check(&batch, &group);
                    if verdict.is_ok() {
                        group.add(batch);
                    }
                    verdicts.push((promise, verdict));
                }
                Job::Rewrite(promise) => self.rewrite_start(promise),
            }
        }
        // Also a refusal rests on the group's earlier writes, so it waits for them like every other answer.
        if let Some(log) = self.log.as_mut().filter(|_| !group.entries.is_empty()) {
            group.writes.extend(log.append(group.entries));
        }
        let outcome = self.make_durable(group.writes);
        for (promise, verdict) in verdicts {
            promise.keep(match &outcome {
                Ok(seq) => verdict.map(|()| *seq),
                Err(e) => Err(e.clone()),
            });
        }
    }

    fn check(&self, batch: &Batch, group: &Group) -> Result<(), StoreError> {
        for (key, expected) in &batch.expects {
            let holds = match group.pending(key) {
                Some(value) => value == expected,
                None => self.core.engine.get(key)? == *expected,
            };
            if !holds {
                return Err(StoreError::Conflict);
            }
        }
        Ok(())
    }

    /// The barrier: engine and sink at the same time.
    fn make_durable(&mut self, mut writes: Vec<Write>) -> Answer {
        let seq = self.core.seq.load(Ordering::Acquire);
        if writes.is_empty() {
            return Ok(seq);
        }
        let seq = seq.saturating_add(1);
        writes.push((SEQ_KEY.to_vec(), Some(encode_seq(seq))));
        if let Some(guard) = &self.core.guard {
            guard.before_commit(bytes_of(&writes));
        }
        let outcome = self.write_both(&writes);
        if let Some(sink) = &self.sink {
            self.core.rewrite_due.store(sink.wants_rewrite(), Ordering::Release);
        }
        match outcome {
            Ok(()) => {
                self.core.seq.store(seq, Ordering::Release);
                let head = self.log.as_ref().map(|log| log.head());
                // Told after the group is durable, and only if the log grew.
                self.core.head.send_if_modified(|before| std::mem::replace(before, head) != head);
                Ok(seq)
            }
            Err(e) => {
                tracing::error!(error = %e, "a write failed: nothing is acknowledged until the vault is reopened");
                self.core.stop();
                Err(e)
            }
        }
    }

    fn write_both(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        let engine = &self.core.engine;
        let Some(sink) = self.sink.as_mut() else {
            return engine.commit(writes);
        };
        let wanted: Vec<&Write> = writes.iter().filter(|(key, _)| sink.wants(key)).collect();
        if wanted.is_empty() {
            return engine.commit(writes);
        }
        // The lock is never contended: it lets this thread take over if no other can be started.
        let sink = Mutex::new(sink);
        let to_sink = || {
            let mut sink = sink.lock().unwrap_or_else(PoisonError::into_inner);
            sink.append(&wanted)?;
            sink.sync()
        };
        std::thread::scope(|scope| {
            let builder = std::thread::Builder::new().name("lethe-sink".into());
            let beside = builder.spawn_scoped(scope, to_sink);
            let committed = engine.commit(writes);
            let sunk = match beside {
                Ok(thread) => thread.join().unwrap_or(Err(StoreError::Stopped)),
                Err(_) => to_sink(),
            };
            committed.and(sunk)
        })
    }

    fn rewrite_start(&mut self, promise: Promise) {
        let Some(sink) = self.sink.as_mut() else {
            return promise.keep(Ok(self.core.seq.load(Ordering::Acquire)));
        };
        if let Some(running) = self.rewrite.as_mut() {
            return running.waiting.push(promise);
        }
        let guard = self.core.guard.as_ref();
        let begun =
            guard.map_or(Ok(()), |g| g.admit(Urgency::Put)).and_then(|()| sink.rewrite_begin());
        match begun {
            Ok(()) => {
                let kinds = (0..=u8::MAX).rev().filter(|kind| sink.wants(&[*kind])).collect();
                self.rewrite = Some(Rewrite { rows: None, kinds, waiting: vec![promise] });
            }
            Err(e) => promise.keep(Err(e)),
        }
    }

    /// Copies one page. A failure ends the rewrite, not the store: the old form still counts.
    fn rewrite_step(&mut self) {
        let (Some(sink), Some(rewrite)) = (self.sink.as_mut(), self.rewrite.as_mut()) else {
            return;
        };
        let outcome = match copy_page(&self.core, sink.as_mut(), rewrite) {
            Ok(true) => return,
            Ok(false) => sink.rewrite_end(),
            Err(e) => Err(e),
        };
        if outcome.is_err() {
            sink.rewrite_abandon();
        }
        self.core.rewrite_due.store(sink.wants_rewrite(), Ordering::Release);
        let seq = self.core.seq.load(Ordering::Acquire);
        let done = self.rewrite.take();
        for promise in done.into_iter().flat_map(|r| r.waiting) {
            promise.keep(outcome.clone().map(|()| seq));
        }
    }
}

/// `false` when every wanted kind has been copied.
fn copy_page(
    core: &Core,
    sink: &mut dyn NodeSink,
    rewrite: &mut Rewrite,
) -> Result<bool, StoreError> {
    if rewrite.rows.is_none() {
        let Some(kind) = rewrite.kinds.pop() else {
            return Ok(false);
        };
        rewrite.rows = Some(Rows::under(core.engine.clone(), &[kind]));
    }
    let page = match rewrite.rows.as_mut() {
        Some(rows) => rows.page()?,
        None => Vec::new(),
    };
    if page.is_empty() {
        rewrite.rows = None;
    } else {
        sink.rewrite_rows(&page)?;
    }
    Ok(true)
}

fn bytes_of(writes: &[Write]) -> u64 {
    let bytes = |(key, value): &Write| key.len() + value.as_ref().map_or(0, Vec::len);
    writes.iter().map(bytes).sum::<usize>() as u64
}

//! The keeper's thread: it wakes on its own, closes buckets before their day is over, has those that are due killed,
//! and moves records that belong elsewhere.
//!
//! Invariants: nothing is killed before its day is over by the vault's own count of time and by the wall clock; all
//! that is due at a moment goes in as few anchor batches as `limits::SWEEP_BUCKETS_MAX` allows; a failure is told and
//! tried again, and never stops what else is due.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::rebucket::Rebucketer;
use super::sweep::{Outlook, Swept};
use super::time::MARK_KEY;
use crate::id::{Day, TypeOrd};
use crate::limits;
use crate::store::{Batch, Urgency};
use crate::vault::core::Core;
use crate::vault::erase::{Eraser, Erasures};
use crate::vault::error::VaultError;
use crate::vault::registry::Tenant;

/// How often the thread looks whether something is to be done.
const TICK: Duration = Duration::from_millis(200);
/// The vault's count of time is kept this often.
const MARK_EVERY: Duration = Duration::from_secs(30);
/// Records that were used and are moved at a step.
const USES_STEP: usize = 64;

/// How the keeper works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeeperSetup {
    /// Between two looks at what is due: nothing is erased later than this after it is due.
    pub interval: Duration,
    /// A bucket is closed and listed this long before it is due.
    pub close_before: Duration,
    /// How long the machine may have been off without anyone confirming its clock.
    pub clock_gap_max: Duration,
}

impl Default for KeeperSetup {
    fn default() -> Self {
        Self {
            interval: limits::SWEEP_INTERVAL,
            close_before: limits::CLOSE_BEFORE,
            clock_gap_max: limits::CLOCK_GAP,
        }
    }
}

type Answer<T> = oneshot::Sender<Result<T, VaultError>>;

enum Job {
    /// Close a type's and day's buckets and list what is in them, whatever the rules say.
    Close(Arc<Tenant>, (TypeOrd, Day), Answer<()>),
    /// Sweep now.
    Run(Answer<Swept>),
    /// What a sweep would do now.
    Look(Answer<Outlook>),
    Stop(std::sync::mpsc::Sender<()>),
}

/// The handle of the keeper's thread.
pub struct Keeper {
    /// `None` only while it is being dropped.
    jobs: Option<SyncSender<Job>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Keeper {
    pub fn start(
        core: Arc<Core>,
        eraser: Arc<Eraser>,
        setup: KeeperSetup,
        by_itself: bool,
    ) -> Result<Self, VaultError> {
        let (jobs, queue) = sync_channel(limits::KEEPER_QUEUE_MAX);
        let no_thread = |_| VaultError::Exhausted("no thread for the keeper");
        let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(no_thread)?;
        let thread = std::thread::Builder::new()
            .name("keeper".into())
            .spawn(move || {
                let mut worker = Worker::new(core, eraser, setup, runtime, queue);
                // Only tests have it otherwise.
                worker.sweep_at = worker.sweep_at.filter(|_| by_itself);
                worker.run();
            })
            .map_err(no_thread)?;
        Ok(Self { jobs: Some(jobs), thread: Mutex::new(Some(thread)) })
    }

    async fn ask<T>(&self, job: impl FnOnce(Answer<T>) -> Job) -> Result<T, VaultError> {
        let (done, answered) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or(VaultError::Stopping)?;
        jobs.try_send(job(done)).map_err(|e| match e {
            TrySendError::Full(_) => VaultError::Exhausted("the keeper has too much to do"),
            TrySendError::Disconnected(_) => VaultError::Stopping,
        })?;
        answered.await.map_err(|_| VaultError::Stopping)?
    }

    pub async fn close_buckets(
        &self,
        tenant: Arc<Tenant>,
        key: (TypeOrd, Day),
    ) -> Result<(), VaultError> {
        self.ask(|done| Job::Close(tenant, key, done)).await
    }

    pub async fn sweep(&self) -> Result<Swept, VaultError> {
        self.ask(Job::Run).await
    }

    pub async fn outlook(&self) -> Result<Outlook, VaultError> {
        self.ask(Job::Look).await
    }

    /// Ends the thread; what it has begun it finishes.
    pub fn stop(&self) {
        let (done, finished) = std::sync::mpsc::channel();
        if self.jobs.as_ref().is_some_and(|jobs| jobs.send(Job::Stop(done)).is_ok()) {
            // An error says that the thread is gone, which is what was asked for.
            let _ = finished.recv();
        }
        self.join();
    }

    fn join(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|t| t.join().is_err()) {
            tracing::error!("the keeper's thread panicked");
        }
    }
}

impl Drop for Keeper {
    /// Without a stop this is like a crash, but the thread is gone when it returns.
    fn drop(&mut self) {
        self.jobs = None;
        self.join();
    }
}

/// The thread's state.
pub(super) struct Worker {
    pub core: Arc<Core>,
    pub eraser: Arc<Eraser>,
    pub setup: KeeperSetup,
    pub runtime: Runtime,
    queue: Receiver<Job>,
    rebucketer: Rebucketer,
    /// `None`: only when asked.
    sweep_at: Option<Instant>,
    mark_at: Instant,
}

impl Worker {
    fn new(
        core: Arc<Core>,
        eraser: Arc<Eraser>,
        setup: KeeperSetup,
        runtime: Runtime,
        queue: Receiver<Job>,
    ) -> Self {
        let (rebucketer, now) = (Rebucketer::default(), Instant::now());
        let (sweep_at, mark_at) = (Some(now), now);
        Self { core, eraser, setup, runtime, queue, rebucketer, sweep_at, mark_at }
    }

    fn run(mut self) {
        loop {
            match self.queue.recv_timeout(self.setup.interval.min(TICK)) {
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
                Ok(Job::Stop(done)) => {
                    self.finish();
                    // The one who asked may be gone; there is nobody else to tell.
                    let _ = done.send(());
                    return;
                }
                Ok(job) => self.answer(job),
            }
            if self.is_running() {
                self.tend();
            }
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.core.tree.check_running().is_ok() && !self.core.tree.store().stopped()
    }

    fn answer(&mut self, job: Job) {
        // Whoever asked may be gone; what was begun is done all the same.
        match job {
            Job::Close(tenant, key, done) => {
                let _ = done.send(self.close_all(&tenant, key));
            }
            Job::Run(done) => {
                let _ = done.send(self.sweep());
            }
            Job::Look(done) => {
                let _ = done.send(self.outlook());
            }
            Job::Stop(_) => {}
        }
    }

    /// What is done without being asked.
    fn tend(&mut self) {
        let now = Instant::now();
        // Without sweeps nothing is written unasked; a clean stop keeps the mark all the same.
        if self.sweep_at.is_some() && now >= self.mark_at {
            self.mark_at = now + MARK_EVERY;
            self.told("the mark of time is not kept", self.keep_mark());
        }
        self.move_used(USES_STEP);
        if self.sweep_at.is_some_and(|at| now >= at) {
            let swept = self.sweep();
            self.told("a sweep failed; it is tried again", swept);
            self.sweep_at = Some(Instant::now() + self.setup.interval);
        }
        let settled = self.tend_holds();
        self.told("legal holds that are over, or what waits for them, cannot be settled", settled);
        let mut rebucketer = std::mem::take(&mut self.rebucketer);
        let step = rebucketer.step(&self.core, &self.runtime);
        self.rebucketer = rebucketer;
        self.told("records are not moved to the buckets that the rules want", step);
    }

    /// Ends holds whose time is over, and carries out what waited for holds to end.
    fn tend_holds(&self) -> Result<(), VaultError> {
        let core = self.core.clone();
        self.runtime.block_on(core.end_over())?;
        let erasures = Erasures { core: &core, eraser: &self.eraser };
        for ord in core.holds.take_dirty() {
            let Some(tenant) = core.tenant_of(ord) else { continue };
            // Subjects may be looked at before their records: those go in the second round.
            for _ in 0..2 {
                let mut after = None;
                while self
                    .runtime
                    .block_on(erasures.run_postponed(&tenant, &mut after))
                    .inspect_err(|_| core.holds.set_dirty(ord))?
                {}
            }
        }
        Ok(())
    }

    pub(super) fn told<T>(&self, what: &'static str, outcome: Result<T, VaultError>) {
        if let Err(e) = outcome {
            self.core.metrics.keeper_failures.one();
            tracing::error!(error = %e, "{what}");
        }
    }

    /// What makes the next start know the time, and forgets no use.
    fn finish(&mut self) {
        self.move_all_used();
        if self.is_running() {
            self.told("the mark of time is not kept", self.keep_mark());
        }
    }

    /// As many as wait now.
    pub(super) fn move_all_used(&self) {
        let mut left = self.core.uses.waiting();
        while self.is_running() && left > 0 {
            self.move_used(USES_STEP);
            left = left.saturating_sub(USES_STEP);
        }
    }

    fn keep_mark(&self) -> Result<(), VaultError> {
        let mark = self.core.time.mark(&*self.core.clock);
        let mut batch = Batch { urgency: Urgency::Vital, ..Batch::default() };
        batch.put(MARK_KEY.to_vec(), mark.encode());
        Ok(self.core.tree.store().commit_blocking(batch).map(drop)?)
    }

    fn move_used(&self, most: usize) {
        for ((tenant, record), used) in self.core.uses.take(most) {
            let Some(tenant) = self.core.tenant_of(tenant) else { continue };
            match self.runtime.block_on(self.core.rehome(&tenant, record, Some(used))) {
                // Erased or damaged meanwhile: there is nothing to move.
                Ok(_) | Err(VaultError::Erased(_) | VaultError::NotFound(_)) => {}
                Err(VaultError::Damaged(_)) => {}
                Err(e) => self.told("a record that was used is not moved", Err::<(), _>(e)),
            }
        }
    }
}

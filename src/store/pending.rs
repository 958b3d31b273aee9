//! The answer to a submitted batch, before it is there.
//!
//! Guarantees: every [`Pending`] is answered exactly once: a [`Promise`] that is dropped without a word (its thread
//! died) answers [`StoreError::Stopped`]. Dropping a [`Pending`] takes nothing back.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::StoreError;

/// What a commit answers: the sequence of its durable group.
pub type Answer = Result<u64, StoreError>;

#[derive(Default)]
struct Slot {
    state: Mutex<State>,
    answered: Condvar,
}

#[derive(Default)]
struct State {
    answer: Option<Answer>,
    waker: Option<Waker>,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fill(&self, answer: Answer) {
        let mut state = self.lock();
        if state.answer.is_none() {
            state.answer = Some(answer);
        }
        let waker = state.waker.take();
        drop(state);
        self.answered.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// A batch on its way to the disk: await it, or [`Pending::wait`] for it on a plain thread.
#[must_use = "a batch is durable only once its answer is there"]
pub struct Pending(Arc<Slot>);

impl Pending {
    /// Blocks the calling thread until the answer is there.
    pub fn wait(self) -> Answer {
        let mut state = self.0.lock();
        loop {
            match state.answer.take() {
                Some(answer) => return answer,
                None => {
                    state = self.0.answered.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

impl Future for Pending {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let mut state = self.0.lock();
        match &state.answer {
            // Kept, so that a poll after the end answers the same instead of hanging.
            Some(answer) => Poll::Ready(answer.clone()),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// The other end: whoever holds it owes an answer.
pub struct Promise(Arc<Slot>);

impl Promise {
    pub fn new() -> (Self, Pending) {
        let slot = Arc::new(Slot::default());
        (Self(slot.clone()), Pending(slot))
    }

    pub fn keep(self, answer: Answer) {
        self.0.fill(answer);
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.0.fill(Err(StoreError::Stopped));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_promise_answers_stopped_and_a_kept_one_its_word() {
        let (promise, pending) = Promise::new();
        drop(promise);
        assert_eq!(pending.wait(), Err(StoreError::Stopped));
        let (promise, pending) = Promise::new();
        let waiter = std::thread::spawn(|| pending.wait());
        promise.keep(Ok(7));
        assert_eq!(waiter.join().unwrap(), Ok(7));
    }

    #[tokio::test]
    async fn a_task_is_woken() {
        let (promise, pending) = Promise::new();
        let waiter = tokio::spawn(pending);
        tokio::task::yield_now().await;
        promise.keep(Ok(3));
        assert_eq!(waiter.await.unwrap(), Ok(3));
    }
}

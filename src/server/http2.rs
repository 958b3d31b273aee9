//! HTTP/2 on a connection: where its calls run, and when their answers are sent.
//!
//! Short calls are done where the connection is, in its turn, and their answers leave together: the first at once, so
//! that the peer has something to do meanwhile, then two, four and so on. Everything else runs in the daemon's pool.
//!
//! Guarantees: no call but a short one runs on the thread of a connection; a turn takes little more than [`TURN_MAX`],
//! and short calls beyond it go to the pool, as do those that wait in [`WAITS_MAX`] turns. A call that panics ends
//! alone, and none that waits here outlives its connection. When told to stop, or at its age, the connection says so
//! (GOAWAY) and ends with its last call. It ends when its certificate no longer counts, and at its age and one call's
//! time at the latest: in order if the peer takes what is said, and all the same if it does not.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWrite;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{Request, Response};

use super::accept::{Connection, DoorLimits};
use super::corked::Corked;
use super::guest::Guest;
use crate::limits;

/// Calls that take some microseconds and wait for nothing.
const SHORT: [&str; 2] = ["/grpc.health.v1.Health/Check", "/lethe.v1.RecordService/GetRecord"];
/// How long a connection's turn on its thread may take, after which others have theirs.
const TURN_MAX: Duration = Duration::from_millis(1);
/// Answers that are sent together.
const ANSWERS_MAX: usize = 16;

/// Turns, some of them idle, in which a short call may wait, mostly for its message, before it goes to the pool.
const WAITS_MAX: u32 = 8;

type Call = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The calls of a connection.
#[derive(Clone)]
struct Calls {
    pool: Handle,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Default)]
struct Waiting {
    /// Short ones that can go on, and the turns in which they had to wait.
    calls: VecDeque<(Call, u32)>,
    /// Those that wait in this turn.
    later: Vec<(Call, u32)>,
    /// Whether the call that comes next is a short one.
    is_short: bool,
}

impl Calls {
    fn new(pool: Handle) -> Self {
        Self { pool, waiting: Arc::default() }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts first what waited in the last turn.
    fn resume(&self) {
        let waiting = &mut *self.waiting();
        waiting.later.drain(..).rev().for_each(|call| waiting.calls.push_front(call));
    }

    /// Does a short call if there is one, and others, so many at most, while there is time; whether there was any.
    fn work(&self, most: usize, began: Instant, cx: &mut Context<'_>) -> bool {
        let mut count = 0;
        while count == 0 || (count < most && began.elapsed() <= TURN_MAX) {
            let Some((call, waits)) = self.waiting().calls.pop_front() else { break };
            self.go_on(call, waits, cx);
            count += 1;
        }
        count > 0
    }

    fn go_on(&self, mut call: Call, waits: u32, cx: &mut Context<'_>) {
        // As in a task: what panicked is dropped, which resets its stream, and nobody else sees anything of it.
        match catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx))) {
            Ok(Poll::Pending) if waits < WAITS_MAX => self.waiting().later.push((call, waits + 1)),
            Ok(Poll::Pending) => drop(self.pool.spawn(call)),
            Ok(Poll::Ready(())) => {}
            Err(_) => drop(catch_unwind(AssertUnwindSafe(|| drop(call)))),
        }
    }

    /// All that could go on.
    fn leave_to_pool(&self) {
        let calls = std::mem::take(&mut self.waiting().calls);
        calls.into_iter().for_each(|(call, _)| drop(self.pool.spawn(call)));
    }
}

/// Each call that waits has a [`Calls`] of its own, as hyper's executor, and would keep itself and all others forever.
struct Owner(Calls);

impl Drop for Owner {
    fn drop(&mut self) {
        let own = std::mem::take(&mut *self.0.waiting());
        drop(own);
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Calls {
    fn execute(&self, call: F) {
        let mut waiting = self.waiting();
        match std::mem::take(&mut waiting.is_short) {
            true => waiting.calls.push_back((Box::pin(call), 0)),
            false => drop(self.pool.spawn(call)),
        }
    }
}

/// What answers the calls of a connection.
struct Visit<S> {
    services: S,
    guest: Guest,
    calls: Calls,
}

impl<S> hyper::service::Service<Request<Incoming>> for Visit<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = S::Future;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let mut request = request.map(Body::new);
        // What is made of this call is what hyper executes next.
        self.calls.waiting().is_short = SHORT.contains(&request.uri().path());
        request.extensions_mut().insert(self.guest.clone());
        self.services.clone().call(request)
    }
}

/// When a connection's time is up. At its age the peer was asked to come again, and its calls may end; who keeps the
/// connection all the same is cut off after the longest call's time.
async fn up(guest: Guest, bounds: DoorLimits) {
    tokio::select! {
        () = guest.dismissed() => {}
        () = sleep(bounds.age + bounds.deadline) => {}
    }
    sleep(limits::DISMISSAL_GRACE).await;
}

/// Serves a connection to its end. Long calls run in `pool`.
pub async fn serve<S>(
    mut connection: Connection,
    services: S,
    pool: Handle,
    bounds: DoorLimits,
    mut stopping: watch::Receiver<()>,
) where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send + 'static,
{
    if let Err(error) = connection.move_here() {
        tracing::warn!(%error, "a connection could not be served");
        return;
    }
    let (calls, guest) = (Calls::new(pool), connection.guest().clone());
    let _owner = Owner(calls.clone());
    let visit = Visit { services, guest: guest.clone(), calls: calls.clone() };
    let mut http2 = Builder::new(calls.clone());
    http2
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits::STREAMS_MAX)
        .max_header_list_size(limits::HEADER_BYTES_MAX)
        .keep_alive_interval(limits::KEEPALIVE_INTERVAL)
        .keep_alive_timeout(limits::KEEPALIVE_TIMEOUT)
        .max_pending_accept_reset_streams(limits::PENDING_RESETS_MAX)
        .max_local_error_reset_streams(limits::LOCAL_RESETS_MAX);
    let corked = Corked::new(connection);
    let mut serving = pin!(http2.serve_connection(TokioIo::new(corked.clone()), visit));
    let told = async {
        tokio::select! {
            () = sleep(bounds.age) => {}
            // An error means that the server went.
            _ = stopping.changed() => {}
        }
    };
    let in_order = async {
        tokio::select! {
            biased;
            () = poll_fn(|cx| turn(serving.as_mut(), &corked, &calls, cx)) => return,
            () = told => serving.as_mut().graceful_shutdown(),
        }
        poll_fn(|cx| turn(serving.as_mut(), &corked, &calls, cx)).await;
    };
    tokio::select! {
        biased;
        () = in_order => return,
        () = up(guest, bounds) => corked.stop_reading(),
    }
    // What is under way is said, with HTTP/2's goodbye and TLS's. A peer that takes none of it ends as well.
    let last = poll_fn(|cx| turn(serving.as_mut(), &corked, &calls, cx));
    let _ = timeout(limits::DISMISSAL_GRACE, last).await;
}

/// Reads, works and writes, until there is nothing to do or the time is up; ready when the connection has ended, for
/// whatever reason.
fn turn<C: Future, T: AsyncWrite + Unpin>(
    mut serving: Pin<&mut C>,
    corked: &Corked<T>,
    calls: &Calls,
    cx: &mut Context<'_>,
) -> Poll<()> {
    let began = Instant::now();
    let mut most = 1;
    calls.resume();
    loop {
        // Whose connection is gone asks for nothing any more.
        let has_ended = serving.as_mut().poll(cx).is_ready();
        // What is held when it ended was answered before; if it does not leave at once, there is nobody to take it.
        let released = corked.poll_release(cx);
        if has_ended || matches!(released, Poll::Ready(Err(_))) {
            return Poll::Ready(());
        }
        if !calls.work(most, began, cx) {
            return Poll::Pending;
        }
        if began.elapsed() > TURN_MAX {
            calls.leave_to_pool();
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        most = (2 * most).min(ANSWERS_MAX);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Waker;
    use std::thread::{self, ThreadId};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::mpsc::error::TryRecvError;

    use super::*;

    /// Calls of a connection, and where those that were done ran.
    struct Scene {
        calls: Calls,
        ran: Arc<Mutex<Vec<ThreadId>>>,
    }

    impl Scene {
        fn new() -> Self {
            Self { calls: Calls::new(Handle::current()), ran: Arc::default() }
        }

        fn execute(&self, is_short: bool, takes: Duration) {
            let ran = Arc::clone(&self.ran);
            self.calls.waiting().is_short = is_short;
            self.calls.execute(async move {
                thread::sleep(takes);
                ran.lock().unwrap().push(thread::current().id());
            });
        }

        fn turn(&self, serving: &mut (impl Future + Unpin), cx: &mut Context<'_>) -> Poll<()> {
            let corked = Corked::new(tokio::io::sink());
            turn(Pin::new(serving), &corked, &self.calls, cx)
        }

        fn work(&self, most: usize) -> bool {
            self.calls.work(most, Instant::now(), &mut Context::from_waker(Waker::noop()))
        }

        async fn all_ran(&self, count: usize) -> Vec<ThreadId> {
            for _ in 0..1_000 {
                if self.ran.lock().unwrap().len() == count {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            self.ran.lock().unwrap().clone()
        }
    }

    #[test]
    fn short_calls_are_calls() {
        assert!(SHORT.iter().all(|path| crate::authz::listed(path) == Some(path)));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn only_short_calls_run_where_the_connection_is() {
        let scene = Scene::new();
        let own = thread::current().id();
        scene.execute(false, Duration::ZERO);
        scene.execute(true, Duration::ZERO);
        // What is executed unannounced is not taken for a short one, even after one.
        scene.calls.execute(std::future::ready(()));
        assert_eq!(scene.calls.waiting().calls.len(), 1);
        let at = scene.all_ran(1).await;
        assert_ne!(at, [own]);
        assert!(scene.work(4) && !scene.work(4));
        assert_eq!(scene.all_ran(2).await.last(), Some(&own));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn answers_are_sent_after_one_two_and_four_calls() {
        let scene = Scene::new();
        (0..7).for_each(|_| scene.execute(true, Duration::ZERO));
        let sent = AtomicUsize::new(0);
        let mut done = Vec::new();
        let mut serving = Box::pin(poll_fn(|_| {
            sent.fetch_add(1, Ordering::Relaxed);
            done.push(scene.ran.lock().unwrap().len());
            Poll::<()>::Pending
        }));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(scene.turn(&mut serving, &mut cx).is_pending());
        drop(serving);
        assert_eq!(done, [0, 1, 3, 7]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn calls_beyond_the_turns_time_go_to_the_pool_and_the_connection_has_another_turn() {
        let scene = Scene::new();
        (0..5).for_each(|_| scene.execute(true, 2 * TURN_MAX));
        let mut serving = std::future::pending::<()>();
        let own = thread::current().id();
        let turns = AtomicUsize::new(0);
        let over = poll_fn(|cx| {
            turns.fetch_add(1, Ordering::Relaxed);
            match scene.turn(&mut serving, cx) {
                Poll::Pending if turns.load(Ordering::Relaxed) == 2 => Poll::Ready(()),
                pending => pending,
            }
        });
        let began = Instant::now();
        // A timer's poll is no turn that the connection asked for.
        tokio::time::timeout(Duration::from_secs(10), over).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(5));
        let at = scene.all_ran(5).await;
        assert_eq!(at.iter().filter(|at| **at == own).count(), 1);
        assert_eq!(at.len(), 5);
    }

    /// Of sixteen that may be done before the next answers are sent.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn long_calls_that_were_taken_for_short_ones_do_not_add_up() {
        let scene = Scene::new();
        (0..16).for_each(|_| scene.execute(true, TURN_MAX / 2));
        assert!(scene.work(16));
        assert!(scene.ran.lock().unwrap().len() <= 3);
    }

    /// A call that waits so many times and tells where it is each time it goes on.
    fn waiter(scene: &Scene, count: u32) -> tokio::sync::mpsc::UnboundedReceiver<ThreadId> {
        let (tell, told) = tokio::sync::mpsc::unbounded_channel();
        scene.calls.waiting().is_short = true;
        scene.calls.execute(async move {
            for _ in 0..count {
                tell.send(thread::current().id()).unwrap();
                tokio::task::yield_now().await;
            }
            tell.send(thread::current().id()).unwrap();
        });
        told
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_call_that_waits_goes_on_in_the_next_turns_and_at_last_in_the_pool() {
        let scene = Scene::new();
        let (mut told, own) = (waiter(&scene, WAITS_MAX + 2), thread::current().id());
        let mut serving = std::future::pending::<()>();
        // What wakes the call gives the connection its next turn.
        let turns = poll_fn(|cx| match (scene.turn(&mut serving, cx), told.len()) {
            (Poll::Ready(()), _) => panic!("the connection goes on"),
            // Here it is the call that waits; in the pool nothing of it wakes the connection.
            (Poll::Pending, told) if told <= usize::try_from(WAITS_MAX).unwrap() => Poll::Pending,
            _ => Poll::Ready(()),
        });
        tokio::time::timeout(Duration::from_secs(10), turns).await.unwrap();
        let mut at = Vec::new();
        while let Some(next) = told.recv().await {
            at.push(next);
        }
        let here = at.iter().take_while(|at| **at == own).count();
        assert_eq!(here, usize::try_from(WAITS_MAX).unwrap() + 1);
        assert!(at[here..].iter().all(|at| *at != own) && at.len() == here + 2, "{at:?}");
    }

    #[tokio::test]
    async fn a_call_that_panics_ends_alone() {
        let scene = Scene::new();
        scene.calls.waiting().is_short = true;
        scene.calls.execute(async { panic!("of this call alone") });
        scene.execute(true, Duration::ZERO);
        // To say that it panicked may take all of a turn's time.
        while scene.work(4) {}
        assert_eq!(scene.ran.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_call_that_waits_goes_with_its_connection() {
        let scene = Scene::new();
        let mut told = waiter(&scene, 1);
        assert!(scene.work(1));
        assert!(told.try_recv().is_ok());
        drop(Owner(scene.calls.clone()));
        assert_eq!(told.try_recv(), Err(TryRecvError::Disconnected));
    }

    #[tokio::test]
    async fn what_was_answered_before_a_connection_ended_leaves() {
        let (own, mut peer) = tokio::io::duplex(100);
        let mut corked = Corked::new(own);
        corked.write_all(b"answer").await.unwrap();
        let calls = Calls::new(Handle::current());
        let mut cx = Context::from_waker(Waker::noop());
        let ended = turn(Pin::new(&mut std::future::ready(())), &corked, &calls, &mut cx);
        assert!(ended.is_ready());
        drop(corked);
        let mut got = Vec::new();
        peer.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"answer");
    }

    #[tokio::test]
    async fn calls_of_a_connection_that_is_gone_are_not_begun() {
        let scene = Scene::new();
        scene.execute(true, Duration::ZERO);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(scene.turn(&mut std::future::ready(()), &mut cx).is_ready());
        assert!(scene.ran.lock().unwrap().is_empty());
    }
}

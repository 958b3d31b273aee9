//! Threads that serve connections: each connection stays on one of them, with its TLS, its HTTP/2 and its short calls.
//!
//! Of what a short call costs, a quarter was that its parts ran on one core now and on another then: caches are cold
//! there, memory is freed by another thread than took it, and a sleeping core has to be woken.
//!
//! Guarantees: a new connection goes to the lane with the fewest; when the lanes end, everything on them is dropped
//! before [`Lanes::end`] is done, unless a thread is stuck.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// A lane for each core, but never more than these.
const LANES_MAX: usize = 64;
/// After so many turns of connections a lane sees what arrived for others meanwhile, from its sockets and from other
/// threads. A turn may take a millisecond; tokio's own interval is for tasks that take microseconds.
const TURNS_MAX: u32 = 4;
/// How long the lanes are waited for at their end: the rest of a turn, and what it takes to drop what is on them.
const END_MAX: Duration = Duration::from_secs(5);

/// All of them.
pub struct Lanes {
    lanes: Vec<Lane>,
    /// Closed when the last thread is over; each has a sender.
    over: mpsc::Receiver<()>,
}

struct Lane {
    handle: Handle,
    /// Connections on it.
    open: Arc<AtomicUsize>,
    /// Its thread ends when this goes.
    _end: oneshot::Sender<()>,
}

/// A connection's place on a lane.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn runtime() -> io::Result<Runtime> {
    let mut builder = Builder::new_current_thread();
    builder.enable_all().event_interval(TURNS_MAX).global_queue_interval(TURNS_MAX).build()
}

impl Lane {
    fn start(over: mpsc::Sender<()>) -> io::Result<Self> {
        let (end, ended) = oneshot::channel::<()>();
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        // Made where it is dropped: a runtime may not be dropped inside another one, also if there is no thread for it.
        thread::Builder::new().name("lethe-lane".to_owned()).spawn(move || {
            let _over = over;
            let runtime = match runtime() {
                Ok(runtime) => runtime,
                Err(error) => return drop(tell.send(Err(error))),
            };
            if tell.send(Ok(runtime.handle().clone())).is_ok() {
                // An error is what it waits for: the other half is gone.
                let _ = runtime.block_on(ended);
            }
            runtime.shutdown_background();
        })?;
        let handle = told.recv().map_err(io::Error::other)??;
        Ok(Self { handle, open: Arc::default(), _end: end })
    }
}

impl Lanes {
    pub fn start() -> io::Result<Self> {
        Self::with(thread::available_parallelism().map_or(1, usize::from).min(LANES_MAX))
    }

    fn with(count: usize) -> io::Result<Self> {
        let (of_each, over) = mpsc::channel(1);
        let lanes = (0..count).map(|_| Lane::start(of_each.clone()));
        Ok(Self { lanes: lanes.collect::<io::Result<_>>()?, over })
    }

    /// Ends everything on them, and waits until it is dropped.
    pub async fn end(mut self) {
        self.lanes.clear();
        if timeout(END_MAX, self.over.recv()).await.is_err() {
            tracing::warn!("a thread that serves connections did not end in time");
        }
    }

    /// Serves a connection on the lane with the fewest.
    pub fn serve(
        &self,
        all: &mut JoinSet<()>,
        connection: impl Future<Output = ()> + Send + 'static,
    ) {
        let Some(lane) = self.lanes.iter().min_by_key(|lane| lane.open.load(Ordering::Relaxed))
        else {
            return;
        };
        lane.open.fetch_add(1, Ordering::Relaxed);
        let place = Place(Arc::clone(&lane.open));
        let serving = async move {
            let _place = place;
            connection.await;
        };
        all.spawn_on(serving, &lane.handle);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn connections_are_spread_evenly_and_each_stays_on_its_thread() {
        let (lanes, mut all) = (Lanes::with(3).unwrap(), JoinSet::new());
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        for n in 0..6 {
            let tell = tell.clone();
            lanes.serve(&mut all, async move {
                let at = thread::current().id();
                for _ in 0..5 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    assert_eq!(thread::current().id(), at);
                }
                tell.send((n, at)).unwrap();
                if n != 1 && n != 2 {
                    std::future::pending::<()>().await;
                }
            });
        }
        let mut of = HashMap::new();
        for _ in 0..6 {
            let (n, at) = told.recv().await.unwrap();
            of.insert(n, at);
        }
        let on = |at| of.values().filter(|a| **a == at).count();
        assert!(of.values().all(|at| on(*at) == 2), "{of:?}");
        // The places of these two are free again.
        for _ in 0..2 {
            all.join_next().await.unwrap().unwrap();
        }
        let tell_at = tell.clone();
        lanes.serve(&mut all, async move { tell_at.send((6, thread::current().id())).unwrap() });
        let (_, at) = told.recv().await.unwrap();
        assert!(at == of[&1] || at == of[&2]);
    }

    #[tokio::test]
    async fn what_is_on_a_lane_is_dropped_when_it_has_ended() {
        let (lanes, mut all) = (Lanes::with(2).unwrap(), JoinSet::new());
        let held: [_; 4] = std::array::from_fn(|_| Arc::new(()));
        for own in held.clone() {
            lanes.serve(&mut all, async move {
                tokio::task::yield_now().await;
                // Nothing else is seen to while it goes on.
                thread::sleep(Duration::from_millis(20));
                std::future::pending::<()>().await;
                drop(own);
            });
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        lanes.end().await;
        assert!(held.iter().all(|held| Arc::strong_count(held) == 1));
        while all.join_next().await.is_some() {}
    }

    /// One connection is always ready, and what another one waits for comes from its socket.
    #[tokio::test]
    async fn a_busy_connection_does_not_keep_others_from_what_arrives() {
        let (lanes, mut all) = (Lanes::with(1).unwrap(), JoinSet::new());
        let turns = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&turns);
        let busy = std::future::poll_fn(move |cx| {
            thread::sleep(Duration::from_millis(1));
            count.fetch_add(1, Ordering::Relaxed);
            cx.waker().wake_by_ref();
            std::task::Poll::<()>::Pending
        });
        lanes.serve(&mut all, busy);
        let (tell, told) = oneshot::channel();
        lanes.serve(&mut all, async {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            tell.send(()).unwrap();
        });
        told.await.unwrap();
        // Ten waits of some turns; with tokio's own interval they are ten of up to 61.
        let turns = turns.load(Ordering::Relaxed);
        assert!(turns < 150, "{turns}");
        lanes.end().await;
    }
}

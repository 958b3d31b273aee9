//! Threads that serve connections: each connection stays on one of them, with its TLS, its HTTP/2 and its short calls.
//!
//! Of what a short call costs, a quarter was that its parts ran on one core now and on another then: caches are cold
//! there, memory is freed by another thread than took it, and a sleeping core has to be woken.
//!
//! Guarantees: a new connection goes to the lane with the fewest; when the lanes are dropped, everything on them ends.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// A lane for each core, but never more than these.
const LANES_MAX: usize = 64;

/// All of them.
pub struct Lanes(Vec<Lane>);

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

impl Lane {
    fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (end, ended) = oneshot::channel::<()>();
        let handle = runtime.handle().clone();
        thread::Builder::new().name("lethe-lane".to_owned()).spawn(move || {
            // An error is what it waits for: the other half is gone.
            let _ = runtime.block_on(ended);
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, open: Arc::default(), _end: end })
    }
}

impl Lanes {
    pub fn start() -> io::Result<Self> {
        let count = thread::available_parallelism().map_or(1, usize::from).min(LANES_MAX);
        Ok(Self((0..count).map(|_| Lane::start()).collect::<io::Result<_>>()?))
    }

    /// Serves a connection on the lane with the fewest.
    pub fn serve(
        &self,
        all: &mut JoinSet<()>,
        connection: impl Future<Output = ()> + Send + 'static,
    ) {
        let Some(lane) = self.0.iter().min_by_key(|lane| lane.open.load(Ordering::Relaxed)) else {
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

    fn lanes(count: usize) -> Lanes {
        Lanes((0..count).map(|_| Lane::start().unwrap()).collect())
    }

    #[tokio::test]
    async fn connections_are_spread_evenly_and_each_stays_on_its_thread() {
        let (lanes, mut all) = (lanes(3), JoinSet::new());
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
    async fn what_is_on_a_lane_ends_with_it() {
        let (lanes, mut all) = (lanes(1), JoinSet::new());
        let (held, gone) = oneshot::channel::<()>();
        lanes.serve(&mut all, async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        drop(lanes);
        let ended = tokio::time::timeout(Duration::from_secs(10), gone).await;
        assert!(ended.unwrap().is_err());
    }
}

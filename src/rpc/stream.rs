//! Streams: imports, exports, watches, tails.
//!
//! Guarantees: a stream holds one message at a time and so little memory, whatever it carries; it ends when its peer
//! neither sends nor takes anything for [`STREAM_STALL_MAX`], when the peer leaves, and when the vault stops; there are
//! never more than [`limits::OPEN_STREAMS_MAX`], nor tails of one identity than [`limits::TAILS_PER_IDENTITY_MAX`].

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::timeout;
use tokio_stream::{Stream, StreamExt};
use tonic::{Extensions, Response, Status};

use super::Rpc;
use super::permit::Caller;
use super::status;
use super::witness::Witness;
use crate::authz::Principal;
use crate::limits::{self, STREAM_STALL_MAX};
use crate::vault::Vault;

/// What the streams of a server share.
#[derive(Clone)]
pub struct Streams {
    places: Arc<Semaphore>,
    /// True once the vault stops.
    stopping: watch::Receiver<bool>,
    /// A stream whose peer stands still for this long ends.
    stall: Duration,
    tails: Arc<Tails>,
}

impl Streams {
    pub fn new(stopping: watch::Receiver<bool>) -> Self {
        let places = Arc::new(Semaphore::new(limits::OPEN_STREAMS_MAX));
        Self { places, stopping, stall: STREAM_STALL_MAX, tails: Arc::default() }
    }

    /// A place for a tail of this identity.
    pub fn tail(&self, principal: &Principal) -> Result<TailPlace, Status> {
        let mut open = self.tails.lock();
        let count = open.entry(principal.clone()).or_default();
        if *count >= limits::TAILS_PER_IDENTITY_MAX {
            return Err(status::too_many("the identity has too many tails of the audit log"));
        }
        *count += 1;
        Ok(TailPlace { tails: Arc::clone(&self.tails), principal: principal.clone() })
    }
}

/// How many tails each identity has.
#[derive(Default)]
struct Tails(Mutex<HashMap<Principal, usize>>);

impl Tails {
    fn lock(&self) -> MutexGuard<'_, HashMap<Principal, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of them; given back when it is dropped.
pub struct TailPlace {
    tails: Arc<Tails>,
    principal: Principal,
}

impl Drop for TailPlace {
    fn drop(&mut self) {
        let mut open = self.tails.lock();
        if let Some(count) = open.get_mut(&self.principal) {
            *count = count.saturating_sub(1);
        }
        open.retain(|_, count| *count > 0);
    }
}

/// Messages on their way to the peer.
pub struct Outgoing<T> {
    messages: mpsc::Receiver<Result<T, Status>>,
    /// Given back when the stream ends.
    _place: OwnedSemaphorePermit,
}

impl<T> Stream for Outgoing<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.messages.poll_recv(cx)
    }
}

/// Where the producer of a stream puts its messages.
pub struct Outlet<T> {
    messages: mpsc::Sender<Result<T, Status>>,
    vault: Arc<Vault>,
    stall: Duration,
}

/// Room for one message: what is put there was decided after the peer took the message before.
pub struct Place<'a, T>(mpsc::Permit<'a, Result<T, Status>>);

impl<T> Place<'_, T> {
    pub fn fill(self, message: T) {
        self.0.send(Ok(message));
    }
}

impl<T> Outlet<T> {
    /// Waits until the peer took the message before.
    pub async fn place(&self) -> Result<Place<'_, T>, Status> {
        match timeout(self.stall, self.messages.reserve()).await {
            Ok(Ok(place)) => Ok(Place(place)),
            Ok(Err(_)) => Err(Status::cancelled("the caller left")),
            Err(_) => Err(status::stalled("the caller takes no messages")),
        }
    }

    /// The same, and sends.
    pub async fn send(&self, message: T) -> Result<(), Status> {
        self.vault.settled().await?;
        self.place().await?.fill(message);
        Ok(())
    }
}

impl Rpc {
    /// The peer's next message; `None` at the end of its half.
    pub(super) async fn next<T>(
        &self,
        incoming: &mut (impl Stream<Item = Result<T, Status>> + Unpin),
    ) -> Result<Option<T>, Status> {
        match timeout(self.streams.stall, incoming.next()).await {
            Ok(message) => {
                message.transpose().map_err(|e| status::undecodable(e).unwrap_or_else(|own| own))
            }
            Err(_) => Err(status::stalled("the caller sends no messages")),
        }
    }

    /// Answers with what `work` puts into its outlet, until it ends.
    pub(super) fn stream<T, F>(
        &self,
        extensions: &Extensions,
        work: impl FnOnce(Outlet<T>) -> F,
    ) -> Result<Response<Outgoing<T>>, Status>
    where
        T: Send + 'static,
        F: Future<Output = Result<(), Status>> + Send + 'static,
    {
        // The status of a stream comes after the door has seen its beginning, so it is told here.
        let caller = extensions.get::<Caller>().cloned();
        let place = Arc::clone(&self.streams.places).try_acquire_owned();
        let place = place.map_err(|_| status::too_many("too many streams are open"))?;
        let (out, messages) = mpsc::channel(1);
        let mut stopping = self.streams.stopping.clone();
        let vault = Arc::clone(&self.vault);
        let stall = self.streams.stall;
        let outlet = Outlet { messages: out.clone(), vault: Arc::clone(&vault), stall };
        let work = work(outlet);
        tokio::spawn(async move {
            let outcome = tokio::select! {
                outcome = work => outcome,
                () = out.closed() => return,
                // An error means that the server is gone already.
                _ = stopping.wait_for(|stops| *stops) => Err(status::stopping()),
            };
            if let Err(status) = outcome {
                if let Some(caller) = &caller {
                    let (principal, method) = (caller.principal(), caller.method());
                    Witness::refused(&*vault, principal, method, status.code());
                }
                // A peer that takes nothing does not hear why either.
                let _ = timeout(STREAM_STALL_MAX, out.send(Err(status))).await;
            }
        });
        Ok(Response::new(Outgoing { messages, _place: place }))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic_types::StatusExt;

    use super::*;
    use crate::authz::{Authority, ReadStatus};
    use crate::class::{AuditReads, Role};
    use crate::limits::NOTES_WAIT;
    use crate::store::Memory;
    use crate::store::faulty::{Faulty, Plan};
    use crate::vault::testing::{permit, vault_with};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn where_reads_wait_for_the_log_so_does_each_message_of_a_stream() {
        for (mode, waits) in [(AuditReads::Sync, true), (AuditReads::Group, false)] {
            let dir = tempfile::tempdir().unwrap();
            let plan = Arc::new(Plan::default());
            let engine = Arc::new(Faulty::new(Arc::new(Memory::new()), Arc::clone(&plan)));
            let vault = vault_with(dir.path(), engine, |s| s.audit_reads = mode);
            let (_running, stopping) = watch::channel(false);
            let rpc = Rpc {
                vault: Arc::new(vault),
                authority: Arc::new(Authority::new(Vec::new()).unwrap()),
                streams: Streams::new(stopping),
                exposition: Arc::new(String::new),
            };
            let work = |out: Outlet<u8>| async move {
                out.send(1).await?;
                out.send(2).await
            };
            let hold = plan.hold();
            // Something that the log is told of, and that is not on disk.
            rpc.vault.status(&permit::<ReadStatus>(Role::Auditor, None)).unwrap();
            let mut stream = rpc.stream(&Extensions::default(), work).unwrap().into_inner();
            let first = timeout(NOTES_WAIT * 4, stream.next()).await;
            drop(hold);
            let first = first.ok().flatten().map(Result::unwrap);
            assert_eq!(first, Some(1).filter(|_| !waits), "{mode:?}");
            let in_time = Duration::from_secs(30);
            let mut left = if waits { vec![1, 2] } else { vec![2] }.into_iter();
            while let Some(message) = timeout(in_time, stream.next()).await.unwrap() {
                assert_eq!(Some(message.unwrap()), left.next());
            }
            assert_eq!(left.next(), None);
        }
    }

    fn rpc_of(vault: Vault, stall: Duration) -> (Rpc, watch::Sender<bool>) {
        let (running, stopping) = watch::channel(false);
        let streams = Streams { stall, ..Streams::new(stopping) };
        let authority = Arc::new(Authority::new(Vec::new()).unwrap());
        let exposition = Arc::new(String::new);
        (Rpc { vault: Arc::new(vault), authority, streams, exposition }, running)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_reader_that_takes_nothing_is_ended_and_told_why_if_it_takes_again() {
        let dir = tempfile::tempdir().unwrap();
        let vault = vault_with(dir.path(), Arc::new(Memory::new()), |_| ());
        let stall = Duration::from_millis(50);
        let (rpc, _running) = rpc_of(vault, stall);
        let made = Arc::new(Mutex::new(0_u8));
        let count = Arc::clone(&made);
        let work = |out: Outlet<u8>| async move {
            loop {
                let place = out.place().await?;
                let mut made = count.lock().unwrap();
                *made += 1;
                place.fill(*made);
            }
        };
        let mut stream = rpc.stream(&Extensions::default(), work).unwrap().into_inner();
        tokio::time::sleep(stall * 8).await;
        assert_eq!(*made.lock().unwrap(), 1, "one message waits, whatever there is to tell");
        assert_eq!(stream.next().await.unwrap().unwrap(), 1);
        let ended = stream.next().await.unwrap().unwrap_err();
        assert!(is_stalled(&ended, "takes no messages"), "{ended:?}");
        assert!(stream.next().await.is_none());
    }

    fn is_stalled(status: &Status, how: &str) -> bool {
        let reason = status.get_details_error_info().map(|info| info.reason);
        status.code() == tonic::Code::DeadlineExceeded
            && reason.as_deref() == Some("STALLED")
            && status.message().contains(how)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_writer_that_sends_nothing_is_ended_and_told_why() {
        let dir = tempfile::tempdir().unwrap();
        let vault = vault_with(dir.path(), Arc::new(Memory::new()), |_| ());
        let (rpc, _running) = rpc_of(vault, Duration::from_millis(50));
        let mut incoming = tokio_stream::pending::<Result<u8, Status>>();
        let in_time = timeout(Duration::from_secs(10), rpc.next(&mut incoming)).await;
        let ended = in_time.expect("the default is a minute").unwrap_err();
        assert!(is_stalled(&ended, "sends no messages"), "{ended:?}");
    }

    #[test]
    fn an_identity_has_so_many_tails_and_another_its_own() {
        let streams = Streams::new(watch::channel(false).1);
        let who = |name: &str| Principal::parse(&format!("spiffe://test/{name}")).unwrap();
        let (one, other) = (who("one"), who("other"));
        let mut held: Vec<_> =
            (0..limits::TAILS_PER_IDENTITY_MAX).map(|_| streams.tail(&one).ok().unwrap()).collect();
        let refused = streams.clone().tail(&one).err().unwrap();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        let beside = streams.tail(&other).ok().unwrap();
        held.pop();
        held.push(streams.tail(&one).ok().unwrap());
        assert!(streams.tail(&one).is_err());
        drop((held, beside));
        assert!(streams.tails.lock().is_empty(), "nobody is remembered who has none");
    }
}

//! Streams: imports, exports, watches.
//!
//! Guarantees: a stream holds one message at a time and so little memory, whatever it carries; it ends when its peer
//! neither sends nor takes anything for [`STREAM_STALL_MAX`], when the peer leaves, and when the vault stops; there are
//! never more than [`limits::OPEN_STREAMS_MAX`].

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::timeout;
use tokio_stream::Stream;
use tonic::{Extensions, Response, Status, Streaming};

use super::Rpc;
use super::status;
use super::witness::{Called, Witness};
use crate::authz::Principal;
use crate::limits::{self, STREAM_STALL_MAX};
use crate::vault::Vault;

/// What the streams of a server share.
#[derive(Clone)]
pub struct Streams {
    places: Arc<Semaphore>,
    /// True once the vault stops.
    stopping: watch::Receiver<bool>,
}

impl Streams {
    pub fn new(stopping: watch::Receiver<bool>) -> Self {
        Self { places: Arc::new(Semaphore::new(limits::OPEN_STREAMS_MAX)), stopping }
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
}

impl<T> Outlet<T> {
    /// Waits until the peer took the message before.
    pub async fn send(&self, message: T) -> Result<(), Status> {
        self.vault.settled().await?;
        match timeout(STREAM_STALL_MAX, self.messages.send(Ok(message))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Status::cancelled("the caller left")),
            Err(_) => Err(status::stalled("the caller takes no messages")),
        }
    }
}

/// The peer's next message; `None` at the end of its half.
pub async fn next<T>(incoming: &mut Streaming<T>) -> Result<Option<T>, Status> {
    match timeout(STREAM_STALL_MAX, incoming.message()).await {
        Ok(message) => message.map_err(|e| status::undecodable(e).unwrap_or_else(|own| own)),
        Err(_) => Err(status::stalled("the caller sends no messages")),
    }
}

impl Rpc {
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
        let path = extensions.get::<Called>().copied();
        let caller = extensions.get::<Principal>().cloned().zip(path);
        let place = Arc::clone(&self.streams.places).try_acquire_owned();
        let place = place.map_err(|_| status::too_many("too many streams are open"))?;
        let (out, messages) = mpsc::channel(1);
        let mut stopping = self.streams.stopping.clone();
        let vault = Arc::clone(&self.vault);
        let outlet = Outlet { messages: out.clone(), vault: Arc::clone(&vault) };
        let work = work(outlet);
        tokio::spawn(async move {
            let outcome = tokio::select! {
                outcome = work => outcome,
                () = out.closed() => return,
                // An error means that the server is gone already.
                _ = stopping.wait_for(|stops| *stops) => Err(status::stopping()),
            };
            if let Err(status) = outcome {
                if let Some((principal, path)) = &caller {
                    Witness::refused(&*vault, principal, path.0, status.code());
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

    use tokio_stream::StreamExt;

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
}

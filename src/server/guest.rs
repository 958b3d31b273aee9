//! A connection's peer, from the handshake to the last call.
//!
//! Guarantees: a call passes only while the certificate of its connection is valid, chains to an authority in force,
//! and is on no list in force; the full check is made again when the credentials changed or a list lapsed, and at no
//! other call. Whoever fails it once is refused at every later call, and the connection ends.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls_pki_types::CertificateDer;
use tokio::sync::Notify;

use super::identity::Peer;
use super::quota::{Quota, Quotas};
use super::trust::Trust;
use super::untaken::Untaken;
use crate::authz::Principal;
use crate::clock::UnixMillis;

/// Shared by the connection and its calls.
#[derive(Clone)]
pub struct Guest(Arc<Inner>);

struct Inner {
    peer: Peer,
    /// As the peer showed it, leaf first.
    chain: Vec<CertificateDer<'static>>,
    /// The set of credentials by which it was judged last, and until when that judgement counts.
    epoch: AtomicU64,
    until: AtomicI64,
    /// Held while it is judged again, so that an older judgement never replaces a newer.
    judging: Mutex<()>,
    dismissed: AtomicBool,
    dismissal: Notify,
    quotas: Arc<Quotas>,
    quota: Arc<Quota>,
}

/// Why a call does not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwelcome {
    Expired,
    /// Revoked, or of an authority that is not trusted any more, or of one whose list has lapsed.
    Distrusted,
    /// One may try again after this time.
    TooMany(Duration),
}

impl Guest {
    /// `epoch` is that of the credentials under which the handshake was made, `until` the next lapse of one of their
    /// lists.
    pub fn new(
        peer: Peer,
        chain: Vec<CertificateDer<'static>>,
        (epoch, until): (u64, Option<UnixMillis>),
        quotas: Arc<Quotas>,
        quota: Arc<Quota>,
    ) -> Self {
        let until = AtomicI64::new(until.unwrap_or(peer.expires).0);
        Self(Arc::new(Inner {
            peer,
            chain,
            epoch: AtomicU64::new(epoch),
            until,
            judging: Mutex::new(()),
            dismissed: AtomicBool::new(false),
            dismissal: Notify::new(),
            quotas,
            quota,
        }))
    }

    pub fn principal(&self) -> &Principal {
        &self.0.peer.principal
    }

    /// What its identity has not taken yet.
    pub fn untaken(&self) -> Untaken {
        self.0.quota.untaken.clone()
    }

    /// Whether a call may pass at `now`, by the clock of certificates and by that of rates.
    pub fn admit(&self, trust: &Trust, now: UnixMillis, tick: Instant) -> Result<(), Unwelcome> {
        let verdict = self.judge(trust, now);
        if verdict.is_err() {
            self.dismiss();
        }
        verdict?;
        self.0.quotas.spend(&self.0.quota, tick).map_err(Unwelcome::TooMany)
    }

    fn judge(&self, trust: &Trust, now: UnixMillis) -> Result<(), Unwelcome> {
        let guest = &self.0;
        if guest.peer.expires <= now {
            return Err(Unwelcome::Expired);
        }
        if guest.dismissed.load(Ordering::Acquire) {
            return Err(Unwelcome::Distrusted);
        }
        let judged = guest.epoch.load(Ordering::Acquire);
        if judged == trust.epoch() && now.0 < guest.until.load(Ordering::Acquire) {
            return Ok(());
        }
        let _judging = guest.judging.lock().unwrap_or_else(PoisonError::into_inner);
        let (epoch, credentials) = trust.in_force();
        if !credentials.lets_in(&guest.chain, now) {
            return Err(Unwelcome::Distrusted);
        }
        let until = credentials.lists.next_lapse(now).unwrap_or(guest.peer.expires);
        guest.until.store(until.0, Ordering::Release);
        guest.epoch.store(epoch, Ordering::Release);
        Ok(())
    }

    /// Whether a call that goes on may go on: as [`Guest::admit`], without its price.
    pub fn stays(&self, trust: &Trust, now: UnixMillis) -> bool {
        let stays = self.judge(trust, now).is_ok();
        if !stays {
            self.dismiss();
        }
        stays
    }

    fn dismiss(&self) {
        self.0.dismissed.store(true, Ordering::Release);
        self.0.dismissal.notify_one();
    }

    /// Resolves once a call was refused for the certificate's sake.
    pub async fn dismissed(&self) {
        self.0.dismissal.notified().await;
    }
}

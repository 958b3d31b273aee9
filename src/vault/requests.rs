//! Request ids (docs/FORMAT.md §3.7): that a repeated call has no second effect.
//!
//! Invariants: the row commits with the effect that it stands for; it holds random ids and numbers, no part of a
//! request or reply, and a fingerprint that nobody can check once the version's key is destroyed.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::core::{Core, lock_all};
use super::current::Sort;
use super::error::VaultError;
use super::registry::Tenant;
use super::rows::Fields;
use super::value::Value;
use crate::authz::Principal;
use crate::clock::UnixMillis;
use crate::crypto::{Dek, hkdf32, hmac_sha256, labels};
use crate::id::{Kid, RecVer, RecordId, RequestId, TenantOrd};
use crate::keys::KeyError;
use crate::limits::{self, REQUEST_ID_LIFE};
use crate::store::sum::with_sum;

/// What a call did. The number is in the row and in the fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    CreateRecord = 1,
    UpdateRecord = 2,
    CreateSubject = 3,
    PlaceHold = 5,
}

impl Operation {
    fn from_number(n: u8) -> Option<Self> {
        [Self::CreateRecord, Self::UpdateRecord, Self::CreateSubject, Self::PlaceHold]
            .into_iter()
            .find(|o| *o as u8 == n)
    }

    fn sort(self) -> Sort {
        match self {
            Self::CreateRecord | Self::UpdateRecord => Sort::Record,
            Self::CreateSubject => Sort::Subject,
            Self::PlaceHold => Sort::Hold,
        }
    }
}

/// A call as it is compared with its repetition.
pub struct Asked(Zeroizing<Vec<u8>>);

impl Asked {
    /// Another caller's request is never this one's.
    pub fn new(operation: Operation, caller: &Principal) -> Self {
        let mut asked = Self(Zeroizing::new(vec![operation as u8]));
        asked.part(caller.as_str().as_bytes());
        asked
    }

    pub fn part(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        self.0.extend_from_slice(bytes);
    }

    pub fn values(&mut self, values: &BTreeMap<String, Value>) {
        self.0.extend_from_slice(&(values.len() as u64).to_be_bytes());
        for (name, value) in values {
            self.part(name.as_bytes());
            self.part(value.type_name().as_bytes());
            match value {
                Value::Text(s) => self.part(s.as_bytes()),
                Value::Bytes(b) => self.part(b),
                Value::Integer(n) => self.part(&n.to_be_bytes()),
                Value::Number(x) => self.part(&x.to_bits().to_be_bytes()),
                Value::Boolean(b) => self.part(&[u8::from(*b)]),
                Value::Date(d) => self.part(&d.0.to_be_bytes()),
            }
        }
    }

    fn fingerprint(&self, dek: &Dek) -> [u8; 16] {
        let mut key = Zeroizing::new([0; 32]);
        hkdf32(&[], dek.expose(), labels::FINGERPRINT, &mut key);
        let mac = hmac_sha256(&key[..], &[&self.0]);
        let mut out = [0; 16];
        out.iter_mut().zip(mac).for_each(|(o, m)| *o = m);
        out
    }
}

/// What a request id did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    pub operation: Operation,
    pub written: UnixMillis,
    pub record: RecordId,
    pub rec_ver: RecVer,
    pub kid: Kid,
    pub fingerprint: [u8; 16],
}

const MAGIC: &[u8; 4] = b"LTP1";
/// In the place of an operation's number: the row of an import.
const IMPORT: u8 = 4;

fn key(tenant: TenantOrd, id: RequestId) -> Vec<u8> {
    [b"p".as_slice(), &tenant.bytes(), &id.0].concat()
}

impl Done {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.push(self.operation as u8);
        out.extend_from_slice(&self.written.0.to_be_bytes());
        out.extend_from_slice(&self.record.0);
        out.extend_from_slice(&self.rec_ver.0.to_be_bytes());
        out.extend_from_slice(&self.kid.bytes());
        out.extend_from_slice(&self.fingerprint);
        with_sum(out)
    }

    pub fn decode(value: &[u8]) -> Option<Self> {
        let mut at = Fields::after(value, MAGIC)?;
        let found = Self {
            operation: Operation::from_number(u8::from_be_bytes(at.take()?))?,
            written: UnixMillis(i64::from_be_bytes(at.take()?)),
            record: RecordId(at.take()?),
            rec_ver: RecVer(u64::from_be_bytes(at.take()?)),
            kid: Kid::from_bytes(at.take()?),
            fingerprint: at.take()?,
        };
        at.end(found)
    }
}

/// How far an import is: what its last chunk stored, so that the chunk can be sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    pub written: UnixMillis,
    /// Position of the last chunk's first record in the import.
    pub first: u64,
    /// Of each record of the last chunk; `None` where it was refused.
    pub records: Vec<Option<RecordId>>,
}

/// Ids are random, so that none is this one.
const REFUSED: [u8; 16] = [0; 16];

impl Progress {
    pub fn next(&self) -> u64 {
        self.first.saturating_add(self.records.len() as u64)
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.push(IMPORT);
        out.extend_from_slice(&self.written.0.to_be_bytes());
        out.extend_from_slice(&self.first.to_be_bytes());
        out.extend_from_slice(&(self.records.len() as u16).to_be_bytes());
        self.records.iter().for_each(|r| out.extend_from_slice(&r.map_or(REFUSED, |r| r.0)));
        with_sum(out)
    }

    pub fn decode(value: &[u8]) -> Option<Self> {
        let mut at = Fields::after(value, MAGIC)?;
        if at.take()? != [IMPORT] {
            return None;
        }
        let written = UnixMillis(i64::from_be_bytes(at.take()?));
        let first = u64::from_be_bytes(at.take()?);
        let count = usize::from(u16::from_be_bytes(at.take()?));
        if count > limits::BATCH_CREATE_MAX {
            return None;
        }
        let mut records = Vec::with_capacity(count);
        for _ in 0..count {
            let id = at.take()?;
            records.push((id != REFUSED).then_some(RecordId(id)));
        }
        at.end(Self { written, first, records })
    }
}

/// When a row of this kind was written; `None` if it is damaged.
pub fn written(value: &[u8]) -> Option<UnixMillis> {
    let of_call = Done::decode(value).map(|d| d.written);
    of_call.or_else(|| Progress::decode(value).map(|p| p.written))
}

/// Whether a row written then no longer counts. A clock that went back forgets nothing early.
pub fn expired(written: UnixMillis, now: UnixMillis) -> bool {
    now.0.saturating_sub(written.0) > REQUEST_ID_LIFE.as_millis() as i64
}

impl Core {
    /// Locks request ids, in an order that cannot deadlock: of two calls with one id the second waits.
    pub(super) async fn lock_requests(
        &self,
        ids: impl Iterator<Item = RequestId>,
    ) -> Vec<tokio::sync::MutexGuard<'_, ()>> {
        lock_all(&self.request_locks, ids.map(|id| id.0)).await
    }

    /// What an earlier call with this id made, or `None` if there was none. Fails if that call was another one, or if
    /// what it made is erased.
    pub(super) fn find_done(
        &self,
        tenant: &Tenant,
        id: RequestId,
        operation: Operation,
        asked: &Asked,
    ) -> Result<Option<RecordId>, VaultError> {
        let Some(row) = self.tree.store().get(&key(tenant.ord, id))? else { return Ok(None) };
        // A damaged row says only that the id was used: doing it again could double a record.
        let done = Done::decode(&row).ok_or(VaultError::OtherRequest)?;
        if expired(done.written, self.clock.now()) {
            return Ok(None);
        }
        if done.operation != operation {
            return Err(VaultError::OtherRequest);
        }
        match self.tree.read().dek(done.kid) {
            Ok(dek) if asked.fingerprint(&dek) != done.fingerprint => {
                return Err(VaultError::OtherRequest);
            }
            // Superseded or erased: nobody can tell any more what was asked.
            Ok(_) | Err(KeyError::Gone) => {}
            Err(e) => return Err(e.into()),
        }
        self.find_current(tenant, done.record, operation.sort()).map(|_| Some(done.record))
    }

    /// The row that remembers a call, to commit with what it did.
    pub(super) fn done_row(
        &self,
        tenant: TenantOrd,
        request: RequestId,
        (operation, asked): (Operation, &Asked),
        (record, rec_ver, kid, dek): (RecordId, RecVer, Kid, &Dek),
    ) -> (Vec<u8>, Vec<u8>) {
        let fingerprint = asked.fingerprint(dek);
        let written = self.clock.now();
        let done = Done { operation, written, record, rec_ver, kid, fingerprint };
        (key(tenant, request), done.encode())
    }

    /// How far an import is; `None` if there is none of this id.
    pub(super) fn progress(
        &self,
        tenant: TenantOrd,
        id: RequestId,
    ) -> Result<Option<Progress>, VaultError> {
        let Some(row) = self.tree.store().get(&key(tenant, id))? else { return Ok(None) };
        let progress = Progress::decode(&row).ok_or(VaultError::OtherRequest)?;
        Ok(Some(progress).filter(|p| !expired(p.written, self.clock.now())))
    }

    pub(super) fn progress_row(
        &self,
        tenant: TenantOrd,
        id: RequestId,
        progress: &Progress,
    ) -> (Vec<u8>, Vec<u8>) {
        (key(tenant, id), progress.encode())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_survive_their_bytes_and_no_altered_one_does() {
        let done = Done {
            operation: Operation::UpdateRecord,
            written: UnixMillis(-3),
            record: RecordId([1; 16]),
            rec_ver: RecVer(4),
            kid: Kid::from_bytes([0, 0, 1, 0, 0, 2, 0, 0, 3, 4]),
            fingerprint: [5; 16],
        };
        let progress = Progress {
            written: UnixMillis(6),
            first: 7,
            records: vec![Some(RecordId([8; 16])), None, Some(RecordId([9; 16]))],
        };
        assert_eq!(Done::decode(&done.encode()), Some(done));
        assert_eq!(Progress::decode(&progress.encode()), Some(progress.clone()));
        assert_eq!(progress.next(), 10);
        assert!(Done::decode(&progress.encode()).is_none());
        assert!(Progress::decode(&done.encode()).is_none());
        for bytes in [done.encode(), progress.encode()] {
            for bit in 0..bytes.len() * 8 {
                let mut bad = bytes.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert!(written(&bad).is_none(), "bit {bit}");
            }
        }
        let full = Progress { records: vec![None; limits::BATCH_CREATE_MAX], ..progress };
        assert!(full.encode().len() <= limits::ROW_BYTES_MAX);
    }

    #[test]
    fn a_fingerprint_tells_callers_operations_parts_and_keys_apart() {
        let asked = |operation, caller: &str, parts: &[&str]| {
            let caller = Principal::parse(&format!("spiffe://test/{caller}")).unwrap();
            let mut asked = Asked::new(operation, &caller);
            parts.iter().for_each(|p| asked.part(p.as_bytes()));
            asked
        };
        let dek = Dek::generate();
        let base = asked(Operation::CreateRecord, "a", &["x", "y"]).fingerprint(&dek);
        let same = asked(Operation::CreateRecord, "a", &["x", "y"]);
        assert_eq!(same.fingerprint(&dek), base);
        assert_ne!(same.fingerprint(&Dek::generate()), base);
        for other in [
            asked(Operation::UpdateRecord, "a", &["x", "y"]),
            asked(Operation::CreateRecord, "b", &["x", "y"]),
            asked(Operation::CreateRecord, "a", &["xy"]),
            asked(Operation::CreateRecord, "a", &["x", "y", ""]),
        ] {
            assert_ne!(other.fingerprint(&dek), base);
        }
        let mut text = asked(Operation::CreateRecord, "a", &[]);
        text.values(&BTreeMap::from([("f".to_owned(), Value::Text("1".into()))]));
        let mut bytes = asked(Operation::CreateRecord, "a", &[]);
        bytes.values(&BTreeMap::from([("f".to_owned(), Value::Bytes(b"1".to_vec()))]));
        assert_ne!(text.fingerprint(&dek), bytes.fingerprint(&dek));
    }

    #[test]
    fn a_row_is_forgotten_after_a_day_and_not_before() {
        let day = REQUEST_ID_LIFE.as_millis() as i64;
        assert!(!expired(UnixMillis(5), UnixMillis(5 + day)));
        assert!(expired(UnixMillis(5), UnixMillis(6 + day)));
        assert!(!expired(UnixMillis(5), UnixMillis(-day)));
    }
}

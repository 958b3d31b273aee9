//! `lethe.admin.v1.VaultService`.

use tonic::{Request, Response, Status};

use super::page::{self, Query};
use super::status::{self, Terms, Violations};
use super::{Rpc, convert, erasure, names};
use crate::authz::{
    EraseBucket, InForce, ReadBuckets, ReadKeyStatus, ReadMetrics, ReadStatus, RotateKey,
};
use crate::class::ErasureReason;
use crate::id::{Day, TypeOrd};
use crate::proto::admin::vault_service_server::VaultService;
use crate::proto::admin::{
    Bucket, EraseBucketRequest, EraseBucketResponse, GetKeyStatusRequest, GetKeyStatusResponse,
    GetMetricsRequest, GetMetricsResponse, GetStatusRequest, GetStatusResponse, KeyInfo,
    ListBucketsRequest, ListBucketsResponse, RotateKeyRequest, RotateKeyResponse,
};
use crate::vault;
use crate::vault::calendar::parse_iso_date;

const PAGE: usize = 100;

fn key(info: vault::KeyInfo) -> KeyInfo {
    KeyInfo {
        kind: info.kind.to_owned(),
        key_id: info.key_id,
        wrapped_by: info.wrapped_by.to_owned(),
        count: info.count,
        since: info.since.map(convert::timestamp),
        newest_since: info.newest_since.map(convert::timestamp),
        oldest_generation: info.generations.map_or(0, |(oldest, _)| oldest.0),
        newest_generation: info.generations.map_or(0, |(_, newest)| newest.0),
    }
}

fn status_out(status: vault::Status, in_force: &InForce) -> GetStatusResponse {
    GetStatusResponse {
        vault_id: crate::keys::anchor::hex(&status.vault.0),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        store_engine: status.engine.to_owned(),
        generation: status.generation.0,
        ledger_size: status.ledger_size,
        ledger_root: status.ledger_root.to_vec(),
        advertised_level: erasure::level(status.level).into(),
        warnings: status.warnings,
        start_time: Some(convert::timestamp(status.started)),
        tenants: status.tenants,
        pending_erasures: status.pending_erasures,
        public_key: status.public_key.to_vec(),
        counters: status.counters.into_iter().map(|(name, n)| (name.to_owned(), n)).collect(),
        policy_epoch: in_force.epoch(),
        policy_sha256: in_force.policy().sha256(),
    }
}

/// A bucket's place in the order of type and day, as a cursor.
fn cursor_of((rtype, day): (TypeOrd, Day)) -> [u8; 6] {
    let ([a, b], [c, d, e, f]) = (rtype.0.to_be_bytes(), day.0.to_be_bytes());
    [a, b, c, d, e, f]
}

fn place_in(cursor: &[u8]) -> Option<(TypeOrd, Day)> {
    let [a, b, c, d, e, f] = *cursor.first_chunk()?;
    Some((TypeOrd(u16::from_be_bytes([a, b])), Day(i32::from_be_bytes([c, d, e, f]))))
}

#[tonic::async_trait]
impl VaultService for Rpc {
    async fn get_status(
        &self,
        request: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        let permit = self.permit::<ReadStatus>(request.extensions(), None)?;
        let status = self.vault.status(&permit);
        let status = status.map_err(|e| status::of(e, Terms::Plain, ""))?;
        Ok(Response::new(status_out(status, &self.authority.in_force())))
    }

    async fn get_metrics(
        &self,
        request: Request<GetMetricsRequest>,
    ) -> Result<Response<GetMetricsResponse>, Status> {
        let permit = self.permit::<ReadMetrics>(request.extensions(), None)?;
        let told = self.vault.metrics_read(&permit);
        told.map_err(|e| status::of(e, Terms::Plain, ""))?;
        Ok(Response::new(GetMetricsResponse { exposition: (self.exposition)() }))
    }

    async fn rotate_key(
        &self,
        request: Request<RotateKeyRequest>,
    ) -> Result<Response<RotateKeyResponse>, Status> {
        let permit = self.permit::<RotateKey>(request.extensions(), None)?;
        // The reply tells of the new key: without the right to know it nothing is changed.
        let reading = self.permit::<ReadKeyStatus>(request.extensions(), None)?;
        let generation = self
            .change(Terms::Plain, "", |vault| async move { vault.rotate_key(&permit).await })
            .await?;
        let kek = Some(key(self.vault.kek_status(&reading)));
        Ok(Response::new(RotateKeyResponse { kek, generation: generation.0 }))
    }

    async fn get_key_status(
        &self,
        request: Request<GetKeyStatusRequest>,
    ) -> Result<Response<GetKeyStatusResponse>, Status> {
        let permit = self.permit::<ReadKeyStatus>(request.extensions(), None)?;
        let vault = self.vault.clone();
        let found = tokio::task::spawn_blocking(move || vault.key_status(&permit)).await;
        let found = found.map_err(|e| status::lost(&e))?;
        let found = found.map_err(|e| status::of(e, Terms::Plain, ""))?;
        let keys = found.into_iter().map(key).collect();
        Ok(Response::new(GetKeyStatusResponse { keys }))
    }

    async fn list_buckets(
        &self,
        request: Request<ListBucketsRequest>,
    ) -> Result<Response<ListBucketsResponse>, Status> {
        let message = request.get_ref();
        let mut found = Violations::default();
        let tenant = found.take("parent", names::parse_tenant(&message.parent));
        let size = page::size(message.page_size, PAGE, &mut found);
        let (tenant, size) = found.finish(tenant.zip(size))?;
        let tenant = tenant.as_str();
        let permit = self.permit::<ReadBuckets>(request.extensions(), Some(tenant))?;
        let query = Query(vec![b"ListBuckets", tenant.as_bytes()]);
        let cursor = self.cursor(&permit, &query, &message.page_token)?;
        let after = cursor.as_deref().and_then(place_in);
        let listed = self.vault.list_buckets(&permit, tenant, after, size);
        let (infos, last) = listed.map_err(|e| status::of(e, Terms::Plain, tenant))?;
        let last = last.map(cursor_of);
        let next_page_token =
            self.next_page(&permit, &query, last.as_ref().map(|c| c.as_slice()))?;
        // Subjects have no schema and are erased one by one: their bucket has no name here.
        let buckets = infos.into_iter().filter_map(|info| {
            let schema = names::schema(tenant, &info.rtype?);
            Some(Bucket { schema, expire_date: convert::date(info.expires) })
        });
        Ok(Response::new(ListBucketsResponse { buckets: buckets.collect(), next_page_token }))
    }

    async fn erase_bucket(
        &self,
        request: Request<EraseBucketRequest>,
    ) -> Result<Response<EraseBucketResponse>, Status> {
        let message = request.get_ref();
        let mut found = Violations::default();
        let schema = found.take("schema", names::parse_schema(&message.schema));
        let expires = found.take(
            "expire_date",
            match message.expire_date.as_str() {
                "" => Err("is missing; records of an open-ended bucket are erased one by one"),
                date => parse_iso_date(date).ok_or("must be a date of the form YYYY-MM-DD"),
            },
        );
        let reason = erasure::reason(message.reason, ErasureReason::Retention, &mut found);
        let parts = schema.zip(expires).zip(reason);
        let ((schema, expires), reason) = found.finish(parts)?;
        let tenant = schema.tenant;
        let permit = self.permit::<EraseBucket>(request.extensions(), Some(tenant.as_str()))?;
        let name = names::bucket(tenant.as_str(), &schema.id, expires);
        let (id, rtype) = (tenant.clone(), schema.id);
        let receipt = self
            .change(Terms::Plain, tenant.as_str(), |vault| async move {
                vault.erase_bucket(&permit, id.as_str(), &rtype, expires, reason).await
            })
            .await?;
        let receipt = Some(erasure::receipt(name, receipt));
        Ok(Response::new(EraseBucketResponse { receipt }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buckets_place_survives_its_cursor() {
        for place in [(TypeOrd(0), Day(i32::MIN)), (TypeOrd(513), Day::OPEN_ENDED)] {
            assert_eq!(place_in(&cursor_of(place)), Some(place));
        }
        assert_eq!(place_in(&[0; 5]), None);
    }
}

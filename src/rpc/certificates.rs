//! `lethe.v1.CertificateService`.

use prost_types::Timestamp;
use tonic::{Request, Response, Status};

use super::page::{self, Query};
use super::status::{self, Terms, Violations};
use super::{Rpc, convert, erasure, names};
use crate::authz::ReadCertificate;
use crate::clock::UnixMillis;
use crate::proto::v1::certificate_service_server::CertificateService;
use crate::proto::v1::get_certificate_request::Unit;
use crate::proto::v1::{
    CertificateSummary, GetCertificateRequest, GetCertificateResponse, ListCertificatesRequest,
    ListCertificatesResponse,
};
use crate::vault::VaultError;
use crate::vault::calendar::parse_iso_date;
use crate::vault::certificate::{KilledBucket, Wanted};
use crate::vault::slug::Slug;

const PAGE: usize = 100;

/// What of a tenant a certificate is asked for.
fn wanted(unit: Option<Unit>, tenant: Option<&Slug>, found: &mut Violations) -> Option<Wanted> {
    let own = |field: &str, of: &Slug, found: &mut Violations| {
        if tenant.is_some_and(|t| t != of) {
            found.add(field, names::OTHER_TENANT);
        }
    };
    match unit {
        None => found.take("unit", Err("is missing: one of record, subject, bucket, leaf_index")),
        Some(Unit::Record(name)) => {
            let name = found.take("record", names::parse_record(&name))?;
            own("record", &name.tenant, found);
            Some(Wanted::Record(name.id))
        }
        Some(Unit::Subject(name)) => {
            let name = found.take("subject", names::parse_subject(&name))?;
            own("subject", &name.tenant, found);
            Some(Wanted::Subject(name.id))
        }
        Some(Unit::Bucket(bucket)) => {
            let schema = found.take("bucket.schema", names::parse_schema(&bucket.schema));
            let date = parse_iso_date(&bucket.expire_date);
            let date = date.ok_or("must be a date of the form YYYY-MM-DD");
            let expires = found.take("bucket.expire_date", date);
            let schema = schema?;
            own("bucket.schema", &schema.tenant, found);
            Some(Wanted::Bucket { rtype: schema.id, expires: expires? })
        }
        Some(Unit::LeafIndex(index)) => Some(Wanted::Leaf(index)),
    }
}

fn moment(
    field: &str,
    time: Option<Timestamp>,
    default: i64,
    found: &mut Violations,
) -> Option<UnixMillis> {
    match time {
        None => Some(UnixMillis(default)),
        Some(time) => {
            let nanos = i64::from(time.nanos);
            let millis =
                time.seconds.checked_mul(1_000).and_then(|s| s.checked_add(nanos / 1_000_000));
            let millis = millis.filter(|_| (0..1_000_000_000).contains(&nanos));
            found.take(field, millis.map(UnixMillis).ok_or("is no moment"))
        }
    }
}

fn summary(tenant: &str, of: KilledBucket) -> CertificateSummary {
    CertificateSummary {
        leaf_index: of.leaf_index,
        schema: of.rtype.map(|rtype| names::schema(tenant, &rtype)).unwrap_or_default(),
        expire_date: convert::date(of.expires),
        record_count: of.records.into(),
        reason: erasure::reason_number(of.reason),
        level: erasure::level(of.level).into(),
        request_time: Some(convert::timestamp(of.requested)),
        erase_time: Some(convert::timestamp(of.erased)),
        generation: of.generation.0,
    }
}

#[tonic::async_trait]
impl CertificateService for Rpc {
    async fn get_certificate(
        &self,
        request: Request<GetCertificateRequest>,
    ) -> Result<Response<GetCertificateResponse>, Status> {
        let (_, extensions, message) = request.into_parts();
        let mut found = Violations::default();
        let tenant = found.take("parent", names::parse_tenant(&message.parent));
        let wanted = wanted(message.unit, tenant.as_ref(), &mut found);
        let (tenant, wanted) = found.finish(tenant.zip(wanted))?;
        let tenant = tenant.as_str();
        let permit = self.permit::<ReadCertificate>(&extensions, Some(tenant))?;
        let size = (message.checkpoint_size > 0).then_some(message.checkpoint_size);
        let failed = |e: VaultError| status::of(e, Terms::Plain, tenant);
        let made = self.vault.certificate(&permit, tenant, wanted, size).await.map_err(failed)?;
        let large = |_| failed(VaultError::TooLarge("the certificate is too large"));
        let document = made.to_text().map_err(large)?;
        Ok(Response::new(GetCertificateResponse { document }))
    }

    async fn list_certificates(
        &self,
        request: Request<ListCertificatesRequest>,
    ) -> Result<Response<ListCertificatesResponse>, Status> {
        let message = request.get_ref();
        let mut found = Violations::default();
        let tenant = found.take("parent", names::parse_tenant(&message.parent));
        let size = page::size(message.page_size, PAGE, &mut found);
        let since = moment("start_time", message.start_time, i64::MIN, &mut found);
        let until = moment("end_time", message.end_time, i64::MAX, &mut found);
        let parts = tenant.zip(size).zip(since.zip(until));
        let ((tenant, size), times) = found.finish(parts)?;
        let tenant = tenant.as_str();
        let permit = self.permit::<ReadCertificate>(request.extensions(), Some(tenant))?;
        let (since, until) = (times.0.0.to_be_bytes(), times.1.0.to_be_bytes());
        let query = Query(vec![b"ListCertificates", tenant.as_bytes(), &since, &until]);
        let cursor = self.cursor(&permit, &query, &message.page_token)?;
        // Only this program seals cursors, and it put a number in.
        let from = cursor.and_then(|c| c.try_into().ok()).map_or(0, u32::from_be_bytes);
        let page = self.vault.killed_buckets(&permit, tenant, times, from, size);
        let (page, next) = page.map_err(|e| status::of(e, Terms::Plain, tenant))?;
        let next = next.map(u32::to_be_bytes);
        let next_page_token =
            self.next_page(&permit, &query, next.as_ref().map(|n| n.as_slice()))?;
        let certificates = page.into_iter().map(|of| summary(tenant, of)).collect();
        Ok(Response::new(ListCertificatesResponse { certificates, next_page_token }))
    }
}

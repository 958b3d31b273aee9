//! `lethe.v1.SubjectService`.

use tonic::{Request, Response, Status};

use super::status::{self, Terms, Violations};
use super::{Rpc, convert, erasure, names};
use crate::authz::{CreateSubject, EraseSubject, ReadSubject};
use crate::class::ErasureReason;
use crate::proto::v1::subject_service_server::SubjectService;
use crate::proto::v1::{
    CreateSubjectRequest, CreateSubjectResponse, EraseSubjectRequest, EraseSubjectResponse,
    GetSubjectRequest, GetSubjectResponse,
};

#[tonic::async_trait]
impl SubjectService for Rpc {
    async fn create_subject(
        &self,
        request: Request<CreateSubjectRequest>,
    ) -> Result<Response<CreateSubjectResponse>, Status> {
        let mut found = Violations::default();
        let message = request.get_ref();
        let tenant = found.take("parent", names::parse_tenant(&message.parent));
        let once = convert::request_id("request_id", &message.request_id, &mut found);
        let tenant = found.finish(tenant)?;
        let permit = self.permit::<CreateSubject>(request.extensions(), Some(tenant.as_str()))?;
        let id = tenant.clone();
        let view = self
            .change(Terms::Plain, tenant.as_str(), |vault| async move {
                vault.create_subject(&permit, id.as_str(), once).await
            })
            .await?;
        let subject = Some(convert::subject(tenant.as_str(), view));
        Ok(Response::new(CreateSubjectResponse { subject }))
    }

    async fn get_subject(
        &self,
        request: Request<GetSubjectRequest>,
    ) -> Result<Response<GetSubjectResponse>, Status> {
        let mut found = Violations::default();
        let name = found.take("name", names::parse_subject(&request.get_ref().name));
        let name = found.finish(name)?;
        let tenant = name.tenant.as_str();
        let permit = self.permit::<ReadSubject>(request.extensions(), Some(tenant))?;
        let view = self.vault.get_subject(&permit, tenant, name.id);
        let view = view.map_err(|e| status::of(e, Terms::Plain, tenant))?;
        let subject = Some(convert::subject(tenant, view));
        Ok(Response::new(GetSubjectResponse { subject }))
    }

    async fn erase_subject(
        &self,
        request: Request<EraseSubjectRequest>,
    ) -> Result<Response<EraseSubjectResponse>, Status> {
        let message = request.get_ref();
        let mut found = Violations::default();
        let name = found.take("name", names::parse_subject(&message.name));
        let reason = erasure::reason(message.reason, ErasureReason::SubjectRequest, &mut found);
        let (name, reason) = found.finish(name.zip(reason))?;
        let tenant = name.tenant;
        let permit = self.permit::<EraseSubject>(request.extensions(), Some(tenant.as_str()))?;
        let (id, subject) = (tenant.clone(), name.id);
        let done = self
            .change(Terms::Plain, tenant.as_str(), |vault| async move {
                vault.erase_subject(&permit, id.as_str(), subject, reason).await
            })
            .await?;
        let tenant = tenant.as_str();
        let (own, others): (Vec<_>, Vec<_>) =
            done.receipts.into_iter().partition(|(id, _)| *id == subject);
        let own = own.into_iter().next();
        let receipt = own.map(|(id, r)| erasure::receipt(names::subject(tenant, id), r));
        let others = others.into_iter();
        let record_receipts =
            others.map(|(id, r)| erasure::receipt(names::record(tenant, id), r)).collect();
        let postponed = erasure::all_postponed(tenant, done.postponed);
        Ok(Response::new(EraseSubjectResponse { receipt, record_receipts, postponed }))
    }
}

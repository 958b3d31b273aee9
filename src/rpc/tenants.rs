//! `lethe.v1.TenantService`.

use tonic::{Request, Response, Status};

use super::page::{self, Query};
use super::status::{self, Terms, Violations};
use super::{Rpc, convert, field_mask, names};
use crate::authz::{CreateTenant, ReadTenants, UpdateTenant};
use crate::proto::v1::tenant_service_server::TenantService;
use crate::proto::v1::{
    CreateTenantRequest, CreateTenantResponse, GetTenantRequest, GetTenantResponse,
    ListTenantsRequest, ListTenantsResponse, UpdateTenantRequest, UpdateTenantResponse,
};
use crate::vault::slug::Slug;

const PAGE: usize = 100;

#[tonic::async_trait]
impl TenantService for Rpc {
    async fn create_tenant(
        &self,
        request: Request<CreateTenantRequest>,
    ) -> Result<Response<CreateTenantResponse>, Status> {
        let (_, extensions, message) = request.into_parts();
        let mut found = Violations::default();
        let id = found.take("tenant_id", Slug::parse(&message.tenant_id));
        let id = found.finish(id)?;
        let permit = self.permit::<CreateTenant>(&extensions, None)?;
        let display_name = message.tenant.map(|t| t.display_name).unwrap_or_default();
        let info = self
            .change(Terms::Plain, "", |vault| async move {
                vault.create_tenant(&permit, id, display_name).await
            })
            .await?;
        let tenant = Some(convert::tenant(info));
        Ok(Response::new(CreateTenantResponse { tenant }))
    }

    async fn get_tenant(
        &self,
        request: Request<GetTenantRequest>,
    ) -> Result<Response<GetTenantResponse>, Status> {
        let mut found = Violations::default();
        let tenant = found.take("name", names::parse_tenant(&request.get_ref().name));
        let tenant = found.finish(tenant)?;
        let tenant = tenant.as_str();
        let permit = self.permit::<ReadTenants>(request.extensions(), Some(tenant))?;
        let info = self.vault.get_tenant(&permit, tenant);
        let info = info.map_err(|e| status::of(e, Terms::Plain, tenant))?;
        Ok(Response::new(GetTenantResponse { tenant: Some(convert::tenant(info)) }))
    }

    async fn list_tenants(
        &self,
        request: Request<ListTenantsRequest>,
    ) -> Result<Response<ListTenantsResponse>, Status> {
        let message = request.get_ref();
        let mut found = Violations::default();
        let size = page::size(message.page_size, PAGE, &mut found);
        let size = found.finish(size)?;
        let permit = self.permit::<ReadTenants>(request.extensions(), None)?;
        let query = Query(vec![b"ListTenants"]);
        let after = page::text(self.cursor(&permit, &query, &message.page_token)?);
        let infos = self.vault.list_tenants(&permit, after.as_deref(), size + 1);
        let mut infos = infos.map_err(|e| status::of(e, Terms::Plain, ""))?;
        let last = page::cut(&mut infos, size).map(|i| i.id.as_str().as_bytes());
        let next_page_token = self.next_page(&permit, &query, last)?;
        let tenants = infos.into_iter().map(convert::tenant).collect();
        Ok(Response::new(ListTenantsResponse { tenants, next_page_token }))
    }

    async fn update_tenant(
        &self,
        request: Request<UpdateTenantRequest>,
    ) -> Result<Response<UpdateTenantResponse>, Status> {
        let (_, extensions, message) = request.into_parts();
        let mut found = Violations::default();
        let mask = field_mask::of_message(message.update_mask, &["display_name"], &mut found);
        let parts = found.take("tenant", message.tenant.ok_or("is missing")).and_then(|t| {
            let name = found.take("tenant.name", names::parse_tenant(&t.name));
            let etag = convert::etag("tenant.etag", &t.etag, &mut found);
            if mask.is_none() && t.display_name.is_empty() {
                found.add("tenant", "no field is given or named in update_mask");
            }
            Some((name?, t.display_name, etag.map(|e| e.0)))
        });
        let (name, display_name, etag) = found.finish(parts)?;
        let permit = self.permit::<UpdateTenant>(&extensions, Some(name.as_str()))?;
        let id = name.clone();
        let info = self
            .change(Terms::Plain, name.as_str(), |vault| async move {
                vault.update_tenant(&permit, id.as_str(), display_name, etag).await
            })
            .await?;
        Ok(Response::new(UpdateTenantResponse { tenant: Some(convert::tenant(info)) }))
    }
}

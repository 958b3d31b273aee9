//! `lethe.v1.SchemaService`.

use tonic::{Request, Response, Status};

use super::page::{self, Query};
use super::status::{self, Terms, Violations};
use super::{Rpc, convert, field_mask, names};
use crate::authz::{ReadSchema, WriteSchema};
use crate::proto::v1::schema_service_server::SchemaService;
use crate::proto::v1::{
    CreateSchemaRequest, CreateSchemaResponse, GetSchemaRequest, GetSchemaResponse,
    ListSchemasRequest, ListSchemasResponse, UpdateSchemaRequest, UpdateSchemaResponse,
};

const PAGE: usize = 100;

#[tonic::async_trait]
impl SchemaService for Rpc {
    async fn create_schema(
        &self,
        request: Request<CreateSchemaRequest>,
    ) -> Result<Response<CreateSchemaResponse>, Status> {
        let (_, extensions, message) = request.into_parts();
        let mut found = Violations::default();
        let tenant = found.take("parent", names::parse_tenant(&message.parent));
        let schema = found.take("schema", message.schema.ok_or("is missing"));
        let draft = schema.map(|s| convert::draft(message.schema_id, s, &mut found));
        let (tenant, draft) = found.finish(tenant.zip(draft))?;
        let permit = self.permit::<WriteSchema>(&extensions, Some(tenant.as_str()))?;
        let id = tenant.clone();
        let schema = self
            .change(Terms::NewSchema, tenant.as_str(), |vault| async move {
                vault.create_schema(&permit, id.as_str(), draft).await
            })
            .await?;
        let schema = Some(convert::schema(tenant.as_str(), &schema, 0));
        Ok(Response::new(CreateSchemaResponse { schema }))
    }

    async fn update_schema(
        &self,
        request: Request<UpdateSchemaRequest>,
    ) -> Result<Response<UpdateSchemaResponse>, Status> {
        let (_, extensions, message) = request.into_parts();
        let mut found = Violations::default();
        let parts = found.take("schema", message.schema.ok_or("is missing")).and_then(|s| {
            let name = found.take("schema.name", names::parse_schema(&s.name));
            let rtype = name.as_ref().map(|n| n.id.to_string()).unwrap_or_default();
            let given: Vec<&str> = s.fields.iter().map(|f| f.name.as_str()).collect();
            let parts = field_mask::of_schema(message.update_mask, &given, &mut found);
            let draft = convert::draft(rtype, s, &mut found);
            Some((name?.tenant, draft, parts))
        });
        let (tenant, draft, parts) = found.finish(parts)?;
        let permit = self.permit::<WriteSchema>(&extensions, Some(tenant.as_str()))?;
        let id = tenant.clone();
        let schema = self
            .change(Terms::Schema, tenant.as_str(), |vault| async move {
                vault.update_schema(&permit, id.as_str(), draft, &parts).await
            })
            .await?;
        let schema = Some(convert::schema(tenant.as_str(), &schema, 0));
        Ok(Response::new(UpdateSchemaResponse { schema }))
    }

    async fn get_schema(
        &self,
        request: Request<GetSchemaRequest>,
    ) -> Result<Response<GetSchemaResponse>, Status> {
        let mut found = Violations::default();
        let name = found.take("name", names::parse_schema(&request.get_ref().name));
        let name = found.finish(name)?;
        let tenant = name.tenant.as_str();
        let permit = self.permit::<ReadSchema>(request.extensions(), Some(tenant))?;
        let schema = self.vault.get_schema(&permit, tenant, &name.id);
        let schema = schema.map_err(|e| status::of(e, Terms::Plain, tenant))?;
        let percent = self.vault.index_percent(&permit, tenant, &name.id);
        let percent = percent.map_err(|e| status::of(e, Terms::Plain, tenant))?;
        let schema = Some(convert::schema(tenant, &schema, percent));
        Ok(Response::new(GetSchemaResponse { schema }))
    }

    async fn list_schemas(
        &self,
        request: Request<ListSchemasRequest>,
    ) -> Result<Response<ListSchemasResponse>, Status> {
        let message = request.get_ref();
        let mut found = Violations::default();
        let tenant = found.take("parent", names::parse_tenant(&message.parent));
        let size = page::size(message.page_size, PAGE, &mut found);
        let (tenant, size) = found.finish(tenant.zip(size))?;
        let tenant = tenant.as_str();
        let permit = self.permit::<ReadSchema>(request.extensions(), Some(tenant))?;
        let query = Query(vec![b"ListSchemas", tenant.as_bytes()]);
        let after = page::text(self.cursor(&permit, &query, &message.page_token)?);
        let schemas = self.vault.list_schemas(&permit, tenant, after.as_deref(), size + 1);
        let mut schemas = schemas.map_err(|e| status::of(e, Terms::Plain, tenant))?;
        let last = page::cut(&mut schemas, size).map(|s| s.type_name().as_str().as_bytes());
        let next_page_token = self.next_page(&permit, &query, last)?;
        let schemas = schemas.iter().map(|s| {
            let percent = self.vault.index_percent(&permit, tenant, s.type_name());
            convert::schema(tenant, s, percent.unwrap_or_default())
        });
        let schemas = schemas.collect();
        Ok(Response::new(ListSchemasResponse { schemas, next_page_token }))
    }
}

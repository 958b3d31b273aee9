//! `lethe.v1.HoldService`.

use std::collections::BTreeSet;

use tonic::{Request, Response, Status};

use super::page::{self, Query};
use super::status::{self, Terms, Violations};
use super::{Rpc, convert, erasure, names};
use crate::authz::{ManageHolds, ReadHolds};
use crate::class::Role;
use crate::clock::UnixMillis;
use crate::id::RecordId;
use crate::proto::v1;
use crate::proto::v1::hold_service_server::HoldService;
use crate::proto::v1::{
    GetHoldRequest, GetHoldResponse, ListHoldsRequest, ListHoldsResponse,
    ListPostponedErasuresRequest, ListPostponedErasuresResponse, PlaceHoldRequest,
    PlaceHoldResponse, ReleaseHoldRequest, ReleaseHoldResponse,
};
use crate::vault::VaultError;
use crate::vault::holds::Scope;
use crate::vault::holds::draft::{HoldDraft, ScopeDraft};
use crate::vault::holds::place::{HoldView, PostponedView};
use crate::vault::slug::Slug;

const PAGE: usize = 100;

fn reader_in(at: usize, number: i32, found: &mut Violations) -> Option<Role> {
    match v1::HoldReader::try_from(number) {
        Ok(v1::HoldReader::Application) => Some(Role::Application),
        Ok(v1::HoldReader::Support) => Some(Role::Support),
        Ok(v1::HoldReader::PrivacyOfficer) => Some(Role::PrivacyOfficer),
        Ok(v1::HoldReader::Unspecified) | Err(_) => {
            found.take(&format!("hold.readers[{at}]"), Err("is not a known reader"))
        }
    }
}

fn reader_out(role: Role) -> Option<i32> {
    match role {
        Role::Application => Some(v1::HoldReader::Application.into()),
        Role::Support => Some(v1::HoldReader::Support.into()),
        Role::PrivacyOfficer => Some(v1::HoldReader::PrivacyOfficer.into()),
        Role::Operator | Role::Auditor => None,
    }
}

fn own<T>(
    field: &str,
    tenant: &Slug,
    name: Result<names::Below<T>, names::NotAName>,
    found: &mut Violations,
) -> Option<T> {
    let name = found.take(field, name)?;
    if name.tenant != *tenant {
        found.add(field, names::OTHER_TENANT);
    }
    Some(name.id)
}

/// What a caller asks a hold of this tenant to be.
fn draft(tenant: &Slug, asked: v1::Hold, found: &mut Violations) -> Option<HoldDraft> {
    use v1::hold::Scope as Asked;
    let scope = match asked.scope {
        None => found.take("hold.scope", Err("is missing: give a record, a subject or a query")),
        Some(Asked::Record(name)) => {
            own("hold.record", tenant, names::parse_record(&name), found).map(ScopeDraft::Record)
        }
        Some(Asked::Subject(name)) => {
            own("hold.subject", tenant, names::parse_subject(&name), found).map(ScopeDraft::Subject)
        }
        Some(Asked::Query(query)) => {
            let name = names::parse_schema(&query.schema);
            let rtype = own("hold.query.schema", tenant, name, found);
            let fields = convert::fields("hold.query", query.fields, found);
            rtype.map(|rtype| ScopeDraft::Query { rtype, fields })
        }
    };
    let readers = asked.readers.iter().enumerate();
    let readers: BTreeSet<Role> =
        readers.filter_map(|(at, number)| reader_in(at, *number, found)).collect();
    let expires = asked.expire_time.and_then(|at| {
        let millis = at.seconds.checked_mul(1_000);
        let millis = millis.and_then(|s| s.checked_add(i64::from(at.nanos / 1_000_000)));
        let of_year_9999 = millis.filter(|ms| *ms < 253_402_300_800_000);
        found.take("hold.expire_time", of_year_9999.ok_or("is no time up to the year 9999"))
    });
    Some(HoldDraft {
        scope: scope?,
        reason: asked.reason,
        issuer: asked.issuer,
        reference: asked.reference,
        readers,
        expires: expires.map(UnixMillis),
    })
}

fn hold(tenant: &str, view: HoldView) -> v1::Hold {
    use v1::hold::Scope as Told;
    let hold = &view.hold;
    let scope = match (&hold.scope, view.query) {
        (Scope::Record(id), _) => Told::Record(names::record(tenant, *id)),
        (Scope::Subject(id), _) => Told::Subject(names::subject(tenant, *id)),
        (Scope::Query(..), query) => {
            let (schema, fields) = query.map_or_else(Default::default, |(rtype, fields)| {
                let shown =
                    |value: Option<_>| value.map_or_else(Default::default, convert::value_out);
                let fields = fields.into_iter().map(|(name, value)| (name, shown(value)));
                (names::schema(tenant, &rtype), fields.collect())
            });
            Told::Query(v1::HoldQuery { schema, fields })
        }
    };
    let ended = hold.ended.as_ref();
    v1::Hold {
        name: names::hold(tenant, hold.id),
        scope: Some(scope),
        reason: hold.reason.clone(),
        issuer: hold.issuer.clone(),
        reference: hold.reference.clone(),
        expire_time: hold.expires.map(convert::timestamp),
        readers: hold.readers.iter().filter_map(|role| reader_out(*role)).collect(),
        create_time: Some(convert::timestamp(hold.placed)),
        creator: hold.placed_by.clone(),
        end_time: ended.map(|e| convert::timestamp(e.at)),
        releaser: ended.and_then(|e| e.by.clone()).unwrap_or_default(),
        release_note: ended.map(|e| e.note.clone()).unwrap_or_default(),
    }
}

fn waiting(tenant: &str, view: PostponedView) -> v1::PostponedErasure {
    let told = erasure::postponed(tenant, (view.record, view.postponed));
    let holds = view.holds.into_iter().map(|id| names::hold(tenant, id)).collect();
    v1::PostponedErasure { holds, ..told }
}

fn vault_error(tenant: &str) -> impl Fn(VaultError) -> Status {
    let tenant = tenant.to_owned();
    move |e| status::of(e, Terms::Hold, &tenant)
}

/// A cursor that is an id.
fn id_in(cursor: Option<Vec<u8>>) -> Option<RecordId> {
    // Only this program seals cursors, and it put an id in.
    cursor.and_then(|c| c.try_into().ok()).map(RecordId)
}

#[tonic::async_trait]
impl HoldService for Rpc {
    async fn place_hold(
        &self,
        request: Request<PlaceHoldRequest>,
    ) -> Result<Response<PlaceHoldResponse>, Status> {
        let (_, extensions, message) = request.into_parts();
        let mut found = Violations::default();
        let tenant = found.take("parent", names::parse_tenant(&message.parent));
        let asked = found.take("hold", message.hold.ok_or("is missing"));
        let once = convert::request_id("request_id", &message.request_id, &mut found);
        let parts = tenant.zip(asked).and_then(|(tenant, asked)| {
            let draft = draft(&tenant, asked, &mut found)?;
            Some((tenant, draft))
        });
        let (tenant, draft) = found.finish(parts)?;
        let permit = self.permit::<ManageHolds>(&extensions, Some(tenant.as_str()))?;
        let id = tenant.clone();
        let placed = self
            .change(Terms::Hold, tenant.as_str(), |vault| async move {
                vault.place_hold(&permit, id.as_str(), draft, once).await
            })
            .await?;
        Ok(Response::new(PlaceHoldResponse { hold: Some(hold(tenant.as_str(), placed)) }))
    }

    async fn get_hold(
        &self,
        request: Request<GetHoldRequest>,
    ) -> Result<Response<GetHoldResponse>, Status> {
        let mut found = Violations::default();
        let name = found.take("name", names::parse_hold(&request.get_ref().name));
        let name = found.finish(name)?;
        let tenant = name.tenant.as_str();
        let permit = self.permit::<ReadHolds>(request.extensions(), Some(tenant))?;
        let known = self.vault.hold(&permit, tenant, name.id).map_err(vault_error(tenant))?;
        Ok(Response::new(GetHoldResponse { hold: Some(hold(tenant, known)) }))
    }

    async fn list_holds(
        &self,
        request: Request<ListHoldsRequest>,
    ) -> Result<Response<ListHoldsResponse>, Status> {
        let message = request.get_ref();
        let mut found = Violations::default();
        let tenant = found.take("parent", names::parse_tenant(&message.parent));
        let size = page::size(message.page_size, PAGE, &mut found);
        let (tenant, size) = found.finish(tenant.zip(size))?;
        let (tenant, ended) = (tenant.as_str(), message.show_ended);
        let permit = self.permit::<ReadHolds>(request.extensions(), Some(tenant))?;
        let query = Query(vec![b"ListHolds", tenant.as_bytes(), if ended { b"all" } else { b"" }]);
        let after = id_in(self.cursor(&permit, &query, &message.page_token)?);
        let known = self.vault.holds(&permit, tenant, ended, after, size);
        let (known, next) = known.map_err(vault_error(tenant))?;
        let last = next.map(|id| id.0);
        let next_page_token = self.next_page(&permit, &query, last.as_ref().map(|id| &id[..]))?;
        let holds = known.into_iter().map(|view| hold(tenant, view)).collect();
        Ok(Response::new(ListHoldsResponse { holds, next_page_token }))
    }

    async fn release_hold(
        &self,
        request: Request<ReleaseHoldRequest>,
    ) -> Result<Response<ReleaseHoldResponse>, Status> {
        let (_, extensions, message) = request.into_parts();
        let mut found = Violations::default();
        let name = found.take("name", names::parse_hold(&message.name));
        let name = found.finish(name)?;
        let permit = self.permit::<ManageHolds>(&extensions, Some(name.tenant.as_str()))?;
        let tenant = name.tenant.clone();
        let ended = self
            .change(Terms::Hold, tenant.as_str(), |vault| async move {
                vault.release_hold(&permit, name.tenant.as_str(), name.id, message.note).await
            })
            .await?;
        Ok(Response::new(ReleaseHoldResponse { hold: Some(hold(tenant.as_str(), ended)) }))
    }

    async fn list_postponed_erasures(
        &self,
        request: Request<ListPostponedErasuresRequest>,
    ) -> Result<Response<ListPostponedErasuresResponse>, Status> {
        let message = request.get_ref();
        let mut found = Violations::default();
        let tenant = found.take("parent", names::parse_tenant(&message.parent));
        let size = page::size(message.page_size, PAGE, &mut found);
        let (tenant, size) = found.finish(tenant.zip(size))?;
        let tenant = tenant.as_str();
        let permit = self.permit::<ReadHolds>(request.extensions(), Some(tenant))?;
        let query = Query(vec![b"ListPostponedErasures", tenant.as_bytes()]);
        let after = id_in(self.cursor(&permit, &query, &message.page_token)?);
        let known = self.vault.postponed_erasures(&permit, tenant, after, size + 1);
        let mut known = known.map_err(vault_error(tenant))?;
        let last = page::cut(&mut known, size).map(|view| view.record.0);
        let next_page_token = self.next_page(&permit, &query, last.as_ref().map(|id| &id[..]))?;
        let postponed = known.into_iter().map(|view| waiting(tenant, view)).collect();
        Ok(Response::new(ListPostponedErasuresResponse { postponed, next_page_token }))
    }
}

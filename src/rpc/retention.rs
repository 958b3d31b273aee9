//! `lethe.v1.RetentionService`.

use tonic::{Request, Response, Status};

use super::page::{self, Query};
use super::status::{self, Terms, Violations};
use super::{Rpc, convert, erasure, field_mask, names};
use crate::authz::{ManageRetention, ReadRecord, ReadRetention, ReadStatus, RunRetention};
use crate::clock::UnixMillis;
use crate::id::{BucketOrd, Day, TypeOrd};
use crate::proto::v1;
use crate::proto::v1::retention_service_server::RetentionService;
use crate::proto::v1::{
    ConfirmClockRequest, ConfirmClockResponse, CreateRetentionPolicyRequest,
    CreateRetentionPolicyResponse, DeleteRetentionPolicyRequest, DeleteRetentionPolicyResponse,
    ExplainRetentionRequest, ExplainRetentionResponse, GetRetentionPolicyRequest,
    GetRetentionPolicyResponse, GetRetentionStatusRequest, GetRetentionStatusResponse,
    ListRetentionPoliciesRequest, ListRetentionPoliciesResponse, PauseRebucketingRequest,
    PauseRebucketingResponse, PreviewRetentionRequest, PreviewRetentionResponse,
    ResumeRebucketingRequest, ResumeRebucketingResponse, RetentionForecast, RetentionLine,
    RetentionRun, RunRetentionRequest, RunRetentionResponse, UpdateRetentionPolicyRequest,
    UpdateRetentionPolicyResponse,
};
use crate::vault::calendar::parse_iso_date;
use crate::vault::retention::decide::Effect;
use crate::vault::retention::overview::{Place, RetentionStatus};
use crate::vault::retention::policy::{PARTS, PolicyDraft, RetentionPolicy, StartKind};
use crate::vault::retention::rules::Explained;
use crate::vault::retention::time::ClockState;
use crate::vault::slug::Slug;

const PAGE: usize = 100;

/// What a caller asks a policy of this tenant to be.
fn draft(
    id: String,
    tenant: &Slug,
    asked: v1::RetentionPolicy,
    found: &mut Violations,
) -> PolicyDraft {
    let start = match asked.start() {
        v1::RetentionStart::Unspecified => None,
        v1::RetentionStart::Creation => Some(StartKind::Creation),
        v1::RetentionStart::LastUse => Some(StartKind::LastUse),
        v1::RetentionStart::Event => Some(StartKind::Event),
    };
    let class = convert::class_in(asked.classification());
    let mut types = Vec::new();
    for (at, name) in asked.schemas.iter().enumerate() {
        let field = format!("retention_policy.schemas[{at}]");
        let Some(name) = found.take(&field, names::parse_schema(name)) else { continue };
        if name.tenant == *tenant {
            types.push(name.id.to_string());
        } else {
            found.add(field, names::OTHER_TENANT);
        }
    }
    PolicyDraft {
        id,
        types,
        class,
        purpose: asked.purpose,
        start,
        event_field: asked.event_field,
        period: asked.period,
        grace: asked.grace_period,
        end_date: asked.end_date,
        minimum: asked.minimum,
        maximum: asked.maximum,
        open_ended: asked.open_ended,
        time_zone: asked.time_zone,
        basis: asked.legal_basis,
        description: asked.description,
    }
}

fn policy(tenant: &str, policy: &RetentionPolicy) -> v1::RetentionPolicy {
    let draft = policy.draft();
    let start = match draft.start {
        None => v1::RetentionStart::Unspecified,
        Some(StartKind::Creation) => v1::RetentionStart::Creation,
        Some(StartKind::LastUse) => v1::RetentionStart::LastUse,
        Some(StartKind::Event) => v1::RetentionStart::Event,
    };
    v1::RetentionPolicy {
        name: names::retention_policy(tenant, &policy.id),
        schemas: policy.scope.types.iter().map(|t| names::schema(tenant, t)).collect(),
        classification: draft.class.map_or(0, |class| convert::class_out(class).into()),
        purpose: draft.purpose,
        start: start.into(),
        event_field: draft.event_field,
        period: draft.period,
        grace_period: draft.grace,
        end_date: draft.end_date,
        minimum: draft.minimum,
        maximum: draft.maximum,
        open_ended: draft.open_ended,
        time_zone: draft.time_zone,
        legal_basis: draft.basis,
        description: draft.description,
        etag: policy.revision.to_string(),
        update_time: Some(convert::timestamp(policy.updated)),
    }
}

fn effect(effect: Effect) -> v1::RetentionEffect {
    match effect {
        Effect::Period => v1::RetentionEffect::Period,
        Effect::EndDate => v1::RetentionEffect::EndDate,
        Effect::Maximum => v1::RetentionEffect::Maximum,
        Effect::Minimum => v1::RetentionEffect::Minimum,
        Effect::OpenEnded => v1::RetentionEffect::OpenEnded,
    }
}

fn explained(tenant: &str, told: &Explained) -> ExplainRetentionResponse {
    let line = |(at, line): (usize, &crate::vault::retention::decide::Line)| {
        let named = line.policy.as_ref();
        let basis = named.and_then(|id| told.rules.iter().find(|rule| rule.id == *id));
        RetentionLine {
            rule: match named {
                Some(id) => names::retention_policy(tenant, id),
                None => names::schema(tenant, &told.rtype),
            },
            effect: effect(line.effect).into(),
            end_date: line.ends.map(convert::date).unwrap_or_default(),
            due_time: line.due.map(convert::timestamp),
            decides: at == told.decision.decides,
            legal_basis: basis.map(|rule| rule.basis.clone()).unwrap_or_default(),
        }
    };
    ExplainRetentionResponse {
        expire_date: convert::date(told.decision.expires),
        present_expire_date: convert::date(told.present),
        lines: told.decision.lines.iter().enumerate().map(line).collect(),
    }
}

fn clock_state(state: ClockState) -> v1::ClockState {
    match state {
        ClockState::Sound => v1::ClockState::Sound,
        ClockState::Ahead => v1::ClockState::Ahead,
        ClockState::Behind => v1::ClockState::Behind,
        ClockState::Unconfirmed => v1::ClockState::Unconfirmed,
    }
}

fn status_out(status: RetentionStatus) -> GetRetentionStatusResponse {
    let rebucketing = status.rebucketing.iter().map(|r| v1::RebucketingState {
        schema: names::schema(r.tenant.as_str(), &r.rtype),
        percent: r
            .pages
            .map_or(0, |(done, all)| i32::try_from(done * 100 / all.max(1)).unwrap_or(99).min(99)),
        paused: r.paused,
    });
    let (p50, p99) = status.lateness.unwrap_or_default();
    GetRetentionStatusResponse {
        due_by_time: Some(convert::timestamp(status.now)),
        clock_state: clock_state(status.clock).into(),
        last_sweep_time: status.last_sweep.map(convert::timestamp),
        sweep_interval_seconds: i64::try_from(status.interval.as_secs()).unwrap_or(i64::MAX),
        due_bucket_count: status.due_buckets,
        closed_bucket_count: status.closed_buckets,
        closed_record_count: status.closed_records,
        erased_bucket_count: status.erased_buckets,
        erased_record_count: status.erased_records,
        lateness_p50_millis: p50,
        lateness_p99_millis: p99,
        rebucketing: rebucketing.collect(),
        hold_count: status.holds,
        postponed_erasure_count: status.postponed,
    }
}

/// A preview's place, as a cursor.
fn cursor_of(place: Place) -> Vec<u8> {
    let (rtype, day) = place.key;
    let (page, bucket) = (place.page.to_be_bytes(), place.bucket.value().to_be_bytes());
    [rtype.0.to_be_bytes().as_slice(), &day.0.to_be_bytes(), &bucket, &page].concat()
}

fn place_in(cursor: &[u8]) -> Option<Place> {
    let (rtype, rest) = cursor.split_first_chunk()?;
    let (day, rest) = rest.split_first_chunk()?;
    let (bucket, page) = rest.split_first_chunk()?;
    Some(Place {
        key: (TypeOrd(u16::from_be_bytes(*rtype)), Day(i32::from_be_bytes(*day))),
        bucket: BucketOrd::new(u32::from_be_bytes(*bucket))?,
        page: u32::from_be_bytes(page.try_into().ok()?),
    })
}

fn vault_error(tenant: &str) -> impl Fn(crate::vault::VaultError) -> Status {
    let tenant = tenant.to_owned();
    move |e| status::of(e, Terms::Plain, &tenant)
}

impl Rpc {
    async fn rebucketing(
        &self,
        extensions: &tonic::Extensions,
        parent: &str,
        paused: bool,
    ) -> Result<bool, Status> {
        let mut found = Violations::default();
        let tenant = found.take("parent", names::parse_tenant(parent));
        let tenant = found.finish(tenant)?;
        let permit = self.permit::<ManageRetention>(extensions, Some(tenant.as_str()))?;
        let id = tenant.clone();
        self.change(Terms::Plain, tenant.as_str(), |vault| async move {
            vault.pause_rebucketing(&permit, id.as_str(), paused).await
        })
        .await
    }
}

#[tonic::async_trait]
impl RetentionService for Rpc {
    async fn create_retention_policy(
        &self,
        request: Request<CreateRetentionPolicyRequest>,
    ) -> Result<Response<CreateRetentionPolicyResponse>, Status> {
        let (_, extensions, message) = request.into_parts();
        let mut found = Violations::default();
        let tenant = found.take("parent", names::parse_tenant(&message.parent));
        let asked = found.take("retention_policy", message.retention_policy.ok_or("is missing"));
        let id = message.retention_policy_id;
        let parts = tenant.zip(asked).map(|(tenant, asked)| {
            let draft = draft(id, &tenant, asked, &mut found);
            (tenant, draft)
        });
        let (tenant, draft) = found.finish(parts)?;
        let permit = self.permit::<ManageRetention>(&extensions, Some(tenant.as_str()))?;
        let id = tenant.clone();
        let made = self
            .change(Terms::NewPolicy, tenant.as_str(), |vault| async move {
                vault.create_retention_policy(&permit, id.as_str(), draft).await
            })
            .await?;
        let retention_policy = Some(policy(tenant.as_str(), &made));
        Ok(Response::new(CreateRetentionPolicyResponse { retention_policy }))
    }

    async fn update_retention_policy(
        &self,
        request: Request<UpdateRetentionPolicyRequest>,
    ) -> Result<Response<UpdateRetentionPolicyResponse>, Status> {
        let (_, extensions, message) = request.into_parts();
        let mut found = Violations::default();
        let mask = field_mask::of_message(message.update_mask, &PARTS, &mut found);
        let asked = found.take("retention_policy", message.retention_policy.ok_or("is missing"));
        let parts = asked.and_then(|asked| {
            let name =
                found.take("retention_policy.name", names::parse_retention_policy(&asked.name));
            let etag = convert::etag("retention_policy.etag", &asked.etag, &mut found);
            let name = name?;
            let draft = draft(name.id.to_string(), &name.tenant, asked, &mut found);
            Some((name.tenant, draft, etag.map(|e| e.0)))
        });
        let (tenant, draft, etag) = found.finish(parts)?;
        let permit = self.permit::<ManageRetention>(&extensions, Some(tenant.as_str()))?;
        let id = tenant.clone();
        let made = self
            .change(Terms::Policy, tenant.as_str(), |vault| async move {
                let parts = mask.map(|m| m.into_iter().collect::<Vec<_>>());
                let (id, parts) = (id.as_str(), parts.as_deref());
                vault.update_retention_policy(&permit, id, draft, parts, etag).await
            })
            .await?;
        let retention_policy = Some(policy(tenant.as_str(), &made));
        Ok(Response::new(UpdateRetentionPolicyResponse { retention_policy }))
    }

    async fn get_retention_policy(
        &self,
        request: Request<GetRetentionPolicyRequest>,
    ) -> Result<Response<GetRetentionPolicyResponse>, Status> {
        let mut found = Violations::default();
        let name = found.take("name", names::parse_retention_policy(&request.get_ref().name));
        let name = found.finish(name)?;
        let tenant = name.tenant.as_str();
        let permit = self.permit::<ReadRetention>(request.extensions(), Some(tenant))?;
        let known = self.vault.retention_policy(&permit, tenant, &name.id);
        let retention_policy = Some(policy(tenant, &*known.map_err(vault_error(tenant))?));
        Ok(Response::new(GetRetentionPolicyResponse { retention_policy }))
    }

    async fn list_retention_policies(
        &self,
        request: Request<ListRetentionPoliciesRequest>,
    ) -> Result<Response<ListRetentionPoliciesResponse>, Status> {
        let message = request.get_ref();
        let mut found = Violations::default();
        let tenant = found.take("parent", names::parse_tenant(&message.parent));
        let size = page::size(message.page_size, PAGE, &mut found);
        let (tenant, size) = found.finish(tenant.zip(size))?;
        let tenant = tenant.as_str();
        let permit = self.permit::<ReadRetention>(request.extensions(), Some(tenant))?;
        let query = Query(vec![b"ListRetentionPolicies", tenant.as_bytes()]);
        let after = page::text(self.cursor(&permit, &query, &message.page_token)?);
        let known = self.vault.retention_policies(&permit, tenant, after.as_deref(), size + 1);
        let mut known = known.map_err(vault_error(tenant))?;
        let last = page::cut(&mut known, size).map(|p| p.id.as_str().as_bytes());
        let next_page_token = self.next_page(&permit, &query, last)?;
        let retention_policies = known.iter().map(|p| policy(tenant, p)).collect();
        Ok(Response::new(ListRetentionPoliciesResponse { retention_policies, next_page_token }))
    }

    async fn delete_retention_policy(
        &self,
        request: Request<DeleteRetentionPolicyRequest>,
    ) -> Result<Response<DeleteRetentionPolicyResponse>, Status> {
        let (_, extensions, message) = request.into_parts();
        let mut found = Violations::default();
        let name = found.take("name", names::parse_retention_policy(&message.name));
        let etag = convert::etag("etag", &message.etag, &mut found).map(|e| e.0);
        let name = found.finish(name)?;
        let permit = self.permit::<ManageRetention>(&extensions, Some(name.tenant.as_str()))?;
        let tenant = name.tenant.clone();
        self.change(Terms::Plain, tenant.as_str(), |vault| async move {
            vault.delete_retention_policy(&permit, name.tenant.as_str(), &name.id, etag).await
        })
        .await?;
        Ok(Response::new(DeleteRetentionPolicyResponse {}))
    }

    async fn explain_retention(
        &self,
        request: Request<ExplainRetentionRequest>,
    ) -> Result<Response<ExplainRetentionResponse>, Status> {
        let mut found = Violations::default();
        let name = found.take("name", names::parse_record(&request.get_ref().name));
        let name = found.finish(name)?;
        let tenant = name.tenant.as_str();
        let permit = self.permit::<ReadRecord>(request.extensions(), Some(tenant))?;
        let told = self.vault.explain_retention(&permit, tenant, name.id);
        Ok(Response::new(explained(tenant, &told.map_err(vault_error(tenant))?)))
    }

    async fn preview_retention(
        &self,
        request: Request<PreviewRetentionRequest>,
    ) -> Result<Response<PreviewRetentionResponse>, Status> {
        let (_, extensions, message) = request.into_parts();
        let mut found = Violations::default();
        let tenant = found.take("parent", names::parse_tenant(&message.parent));
        let form = "must be a date of the form YYYY-MM-DD";
        let by = found.take("date", parse_iso_date(&message.date).ok_or(form));
        let (tenant, by) = found.finish(tenant.zip(by))?;
        let permit = self.permit::<ReadRetention>(&extensions, Some(tenant.as_str()))?;
        let name = tenant.to_string();
        let query = Query(vec![b"PreviewRetention", name.as_bytes(), message.date.as_bytes()]);
        let from = self.cursor(&permit, &query, &message.page_token)?;
        let (vault, id) = (self.vault.clone(), tenant.clone());
        let look = tokio::task::spawn_blocking(move || {
            let from = from.as_deref().and_then(place_in);
            vault.preview_retention(&permit, id.as_str(), by, from).map(|found| (permit, found))
        });
        let looked = look.await.map_err(|e| status::lost(&e))?;
        let (permit, preview) = looked.map_err(vault_error(&name))?;
        let cursor = preview.next.map(cursor_of);
        let next_page_token = self.next_page(&permit, &query, cursor.as_deref())?;
        let forecasts = preview.forecasts.into_iter().map(|f| RetentionForecast {
            schema: names::schema(&name, &f.rtype),
            expire_date: convert::date(f.expires),
            record_count: f.survey.records,
            staying_count: f.survey.staying,
            held_count: f.survey.held,
            without_basis_count: f.survey.without_basis,
            damaged_count: f.survey.damaged,
        });
        let forecasts = forecasts.collect();
        Ok(Response::new(PreviewRetentionResponse { forecasts, next_page_token }))
    }

    async fn get_retention_status(
        &self,
        request: Request<GetRetentionStatusRequest>,
    ) -> Result<Response<GetRetentionStatusResponse>, Status> {
        let permit = self.permit::<ReadStatus>(request.extensions(), None)?;
        let status = self.vault.retention_status(&permit).map_err(vault_error(""))?;
        Ok(Response::new(status_out(status)))
    }

    async fn run_retention(
        &self,
        request: Request<RunRetentionRequest>,
    ) -> Result<Response<RunRetentionResponse>, Status> {
        let (_, extensions, message) = request.into_parts();
        let permit = self.permit::<RunRetention>(&extensions, None)?;
        if message.dry_run {
            let outlook = self
                .change(Terms::Plain, "", |vault| async move {
                    vault.outlook_of_retention(&permit).await
                })
                .await?;
            let runs = outlook.due.into_iter().map(|due| RetentionRun {
                schema: names::schema(due.tenant.as_str(), &due.rtype),
                expire_date: convert::date(due.expires),
                record_count: due.survey.records,
                staying_count: due.survey.staying,
                receipt: None,
            });
            let runs = runs.collect();
            return Ok(Response::new(RunRetentionResponse { runs, failed_bucket_count: 0 }));
        }
        let swept = self
            .change(Terms::Plain, "", |vault| async move { vault.run_retention(&permit).await })
            .await?;
        let runs = swept.gone.into_iter().map(|gone| {
            let tenant = gone.tenant.as_str();
            let name = names::bucket(tenant, &gone.rtype, gone.expires);
            RetentionRun {
                schema: names::schema(tenant, &gone.rtype),
                expire_date: convert::date(gone.expires),
                record_count: gone.records,
                staying_count: 0,
                receipt: Some(erasure::receipt(name, gone.receipt)),
            }
        });
        let (runs, failed_bucket_count) = (runs.collect(), swept.failed as u64);
        Ok(Response::new(RunRetentionResponse { runs, failed_bucket_count }))
    }

    async fn pause_rebucketing(
        &self,
        request: Request<PauseRebucketingRequest>,
    ) -> Result<Response<PauseRebucketingResponse>, Status> {
        let parent = &request.get_ref().parent;
        let unfinished = self.rebucketing(request.extensions(), parent, true).await?;
        Ok(Response::new(PauseRebucketingResponse { unfinished }))
    }

    async fn resume_rebucketing(
        &self,
        request: Request<ResumeRebucketingRequest>,
    ) -> Result<Response<ResumeRebucketingResponse>, Status> {
        let parent = &request.get_ref().parent;
        let unfinished = self.rebucketing(request.extensions(), parent, false).await?;
        Ok(Response::new(ResumeRebucketingResponse { unfinished }))
    }

    async fn confirm_clock(
        &self,
        request: Request<ConfirmClockRequest>,
    ) -> Result<Response<ConfirmClockResponse>, Status> {
        let (_, extensions, message) = request.into_parts();
        let mut found = Violations::default();
        let theirs = found.take("time", message.time.ok_or("is missing"));
        let theirs = found.finish(theirs)?;
        let millis = theirs.seconds.saturating_mul(1_000) + i64::from(theirs.nanos / 1_000_000);
        let permit = self.permit::<RunRetention>(&extensions, None)?;
        let due = self
            .change(Terms::Plain, "", |vault| async move {
                vault.confirm_clock(&permit, UnixMillis(millis)).await
            })
            .await?;
        let due_by_time = Some(convert::timestamp(due));
        Ok(Response::new(ConfirmClockResponse { due_by_time }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_previews_place_survives_its_cursor() {
        for (day, page) in [(Day(i32::MIN), 0), (Day::OPEN_ENDED, u32::MAX)] {
            let place = Place { key: (TypeOrd(513), day), bucket: BucketOrd::of(7), page };
            assert_eq!(place_in(&cursor_of(place)), Some(place));
            assert_eq!(place_in(&cursor_of(place)[1..]), None);
        }
    }
}

//! `lethe.admin.v1.AuditService`.

use tokio::time::{Instant, timeout};
use tonic::{Extensions, Request, Response, Status};

use super::page::{self, Query};
use super::status::{self, Terms, Violations};
use super::stream::{Outgoing, Outlet};
use super::{Rpc, convert, names};
use crate::audit::{Kind, Member, Seen};
use crate::authz::{ExportAudit, Principal, ReadAudit};
use crate::class::{Classification, Role};
use crate::clock::UnixMillis;
use crate::keys::anchor::hex;
use crate::limits::{AUDIT_LOOK_MAX, RIGHT_LOOK, WATCH_MAX};
use crate::proto::admin::audit_service_server::AuditService;
use crate::proto::admin::{
    AuditEntry, AuditEntryKind, AuditMember, ExportAuditEntriesRequest, ExportAuditEntriesResponse,
    GetAuditHeadRequest, GetAuditHeadResponse, ListAuditEntriesRequest, ListAuditEntriesResponse,
    ListSubjectAuditEntriesRequest, ListSubjectAuditEntriesResponse, TailAuditEntriesRequest,
    TailAuditEntriesResponse,
};
use crate::vault::{AuditFilter, AuditLine, SubjectQuery, Tail};

const PAGE: usize = 50;

fn classes(shows: impl Fn(Classification) -> bool) -> Vec<i32> {
    let all = [Classification::Public, Classification::General, Classification::Sensitive];
    let shown = all.into_iter().filter(|c| shows(*c));
    shown.map(|c| convert::class_out(c).into()).collect()
}

fn member(member: &Member) -> AuditMember {
    AuditMember { subject: member.subject.to_vec(), record: member.record.to_vec() }
}

fn line(line: AuditLine) -> AuditEntry {
    let index = line.index;
    let Some(told) = line.told else {
        let kind = AuditEntryKind::Unreadable.into();
        return AuditEntry { index, kind, ..AuditEntry::default() };
    };
    let entry = told.entry;
    let tenant = told.tenant.as_ref().map(|t| names::tenant(t.as_str()));
    let schema = told.tenant.as_ref().zip(told.rtype.as_ref());
    let seen: Seen = entry.seen;
    let pruned = entry.minimum_index();
    AuditEntry {
        index,
        kind: match entry.kind {
            Kind::Call => AuditEntryKind::Call,
            Kind::Refusals => AuditEntryKind::Refusals,
            Kind::Gap => AuditEntryKind::Gap,
            Kind::Vault => AuditEntryKind::Vault,
        }
        .into(),
        method: entry.act.name().to_owned(),
        code: entry.code.into(),
        create_time: Some(convert::timestamp(entry.at)),
        start_time: (entry.since != UnixMillis(i64::MIN)).then(|| convert::timestamp(entry.since)),
        principal: told.principal.unwrap_or_default(),
        role: entry.role.map(Role::name).unwrap_or_default().to_owned(),
        schema: schema.map(|(t, r)| names::schema(t.as_str(), r)).unwrap_or_default(),
        tenant: tenant.unwrap_or_default(),
        clear: classes(|c| seen.shows_clear(c)),
        masked: classes(|c| seen.shows_masked(c)),
        purpose: told.purpose.unwrap_or_default(),
        total: entry.total,
        part: entry.part.into(),
        members: entry.members.iter().map(member).collect(),
        generation: if pruned.is_some() { 0 } else { entry.generation.0 },
        leaf: told.leaf,
        minimum_index: pruned.unwrap_or_default(),
    }
}

/// Which entries are wanted: those of a tenant, of a subject, of a caller; empty names choose nothing.
fn filter((parent, subject, principal): (&str, &str, &str), found: &mut Violations) -> AuditFilter {
    let mut filter = AuditFilter::default();
    if !parent.is_empty() {
        filter.tenant = found.take("parent", names::parse_tenant(parent));
    }
    if !subject.is_empty() {
        let subject = found.take("subject", names::parse_subject(subject));
        filter.subject = subject.map(|s| (s.tenant, s.id));
    }
    if !principal.is_empty() {
        filter.principal = found.take("principal", Principal::parse(principal));
    }
    if let (Some(tenant), Some((of, _))) = (&filter.tenant, &filter.subject)
        && tenant != of
    {
        found.add("subject", names::OTHER_TENANT);
    }
    filter
}

/// The tenant that the right is asked for: a subject's, also where no parent is named.
fn tenant_of(filter: &AuditFilter) -> Option<String> {
    let of = filter.subject.as_ref().map(|(tenant, _)| tenant).or(filter.tenant.as_ref());
    of.map(|t| t.as_str().to_owned())
}

/// A tail of the log, and who asked for it.
struct Following {
    extensions: Extensions,
    filter: AuditFilter,
    tail: Tail,
}

impl Rpc {
    /// Gives what comes, until the caller's right or its time is over.
    async fn follow(
        &self,
        mut following: Following,
        out: &Outlet<TailAuditEntriesResponse>,
    ) -> Result<(), Status> {
        let Following { extensions, filter, tail } = &mut following;
        let of = tenant_of(filter);
        let failed = |e| status::of(e, Terms::Plain, of.as_deref().unwrap_or_default());
        let mut told = tail.next_index();
        out.send(TailAuditEntriesResponse { entries: Vec::new(), next_index: told }).await?;
        let end = Instant::now() + WATCH_MAX;
        while Instant::now() < end {
            if let Ok(grown) = timeout(RIGHT_LOOK, tail.grown()).await {
                grown.map_err(failed)?;
            }
            // First there is room, then the right is asked for: so nothing waits that was decided earlier.
            let place = out.place().await?;
            let permit = self.permit::<ReadAudit>(extensions, of.as_deref())?;
            let lines = self.vault.audit_tail_part(&permit, filter, tail).map_err(failed)?;
            let next_index = tail.next_index();
            if !lines.is_empty() || next_index.saturating_sub(told) >= AUDIT_LOOK_MAX {
                let entries = lines.into_iter().map(line).collect();
                place.fill(TailAuditEntriesResponse { entries, next_index });
                told = next_index;
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl AuditService for Rpc {
    async fn list_audit_entries(
        &self,
        request: Request<ListAuditEntriesRequest>,
    ) -> Result<Response<ListAuditEntriesResponse>, Status> {
        let message = request.get_ref();
        let mut found = Violations::default();
        let filter = filter((&message.parent, &message.subject, &message.principal), &mut found);
        let size = page::size(message.page_size, PAGE, &mut found);
        let size = found.finish(size)?;
        let of = tenant_of(&filter);
        let permit = self.permit::<ReadAudit>(request.extensions(), of.as_deref())?;
        let query = Query(vec![
            b"ListAuditEntries",
            message.parent.as_bytes(),
            message.subject.as_bytes(),
            message.principal.as_bytes(),
        ]);
        let cursor = self.cursor(&permit, &query, &message.page_token)?;
        let before = cursor.and_then(|c| c.try_into().ok()).map(u64::from_be_bytes);
        let terms = Terms::Plain;
        self.vault.settle_log().await.map_err(|e| status::of(e, terms, ""))?;
        let listed = self.vault.audit_entries(&permit, &filter, before, size);
        let page = listed.map_err(|e| status::of(e, terms, of.as_deref().unwrap_or_default()))?;
        let (minimum_index, next) = (page.minimum_index, page.next.map(u64::to_be_bytes));
        let next_page_token =
            self.next_page(&permit, &query, next.as_ref().map(<[u8; 8]>::as_slice))?;
        let entries = page.lines.into_iter().map(line).collect();
        Ok(Response::new(ListAuditEntriesResponse { entries, next_page_token, minimum_index }))
    }

    async fn list_subject_audit_entries(
        &self,
        request: Request<ListSubjectAuditEntriesRequest>,
    ) -> Result<Response<ListSubjectAuditEntriesResponse>, Status> {
        let message = request.get_ref();
        let mut found = Violations::default();
        let subject = found.take("parent", names::parse_subject(&message.parent));
        let record = match message.record.as_str() {
            "" => None,
            name => found.take("record", names::parse_record(name)),
        };
        if let (Some(subject), Some(record)) = (&subject, &record)
            && subject.tenant != record.tenant
        {
            found.add("record", names::OTHER_TENANT);
        }
        let size = page::size(message.page_size, PAGE, &mut found);
        let (subject, size) = found.finish(subject.zip(size))?;
        let of = subject.tenant.as_str().to_owned();
        let permit = self.permit::<ReadAudit>(request.extensions(), Some(&of))?;
        let (parent, record_name) = (message.parent.as_bytes(), message.record.as_bytes());
        let asked = Query(vec![b"ListSubjectAuditEntries", parent, record_name]);
        let cursor = self.cursor(&permit, &asked, &message.page_token)?;
        let before = cursor.and_then(|c| c.try_into().ok()).map(u64::from_be_bytes);
        let failed = |e| status::of(e, Terms::Plain, &of);
        self.vault.settle_log().await.map_err(failed)?;
        let record = record.map(|r| r.id);
        let query = SubjectQuery { tenant: subject.tenant, subject: subject.id, record };
        let listed = self.vault.subject_entries(&permit, &query, before, size);
        let page = listed.map_err(failed)?;
        let (minimum_index, next) = (page.minimum_index, page.next.map(u64::to_be_bytes));
        let next = next.as_ref().map(<[u8; 8]>::as_slice);
        let next_page_token = self.next_page(&permit, &asked, next)?;
        let entries = page.lines.into_iter().map(line).collect();
        let answer = ListSubjectAuditEntriesResponse { entries, next_page_token, minimum_index };
        Ok(Response::new(answer))
    }

    type TailAuditEntriesStream = Outgoing<TailAuditEntriesResponse>;

    async fn tail_audit_entries(
        &self,
        request: Request<TailAuditEntriesRequest>,
    ) -> Result<Response<Self::TailAuditEntriesStream>, Status> {
        let (_, extensions, message) = request.into_parts();
        let mut found = Violations::default();
        let filter = filter((&message.parent, &message.subject, &message.principal), &mut found);
        found.finish(Some(()))?;
        let of = tenant_of(&filter);
        let permit = self.permit::<ReadAudit>(&extensions, of.as_deref())?;
        let place = self.streams.tail(permit.principal())?;
        let failed = |e| status::of(e, Terms::Plain, of.as_deref().unwrap_or_default());
        self.vault.settle_log().await.map_err(failed)?;
        let tail = self.vault.audit_tail(&permit, &filter, message.start_index).map_err(failed)?;
        let (rpc, of) = (self.clone(), extensions.clone());
        let following = Following { extensions, filter, tail };
        self.stream(&of, |out| async move {
            let _place = place;
            rpc.follow(following, &out).await
        })
    }

    type ExportAuditEntriesStream = Outgoing<ExportAuditEntriesResponse>;

    async fn export_audit_entries(
        &self,
        request: Request<ExportAuditEntriesRequest>,
    ) -> Result<Response<Self::ExportAuditEntriesStream>, Status> {
        let (_, extensions, message) = request.into_parts();
        let permit = self.permit::<ExportAudit>(&extensions, None)?;
        let failed = |e| status::of(e, Terms::Plain, "");
        self.vault.settle_log().await.map_err(failed)?;
        let end = self.vault.audit_size(&permit, message.start_index).map_err(failed)?;
        let (rpc, of) = (self.clone(), extensions.clone());
        self.stream(&of, |out| async move {
            let mut next = message.start_index;
            while next < end {
                let permit = rpc.permit::<ExportAudit>(&extensions, None)?;
                let part = rpc.vault.audit_part(&permit, next, end).map_err(failed)?;
                next = part.last().map_or(end, |last| last.index + 1);
                let entries = part.into_iter().map(line).collect();
                out.send(ExportAuditEntriesResponse { entries }).await?;
            }
            Ok(())
        })
    }

    async fn get_audit_head(
        &self,
        request: Request<GetAuditHeadRequest>,
    ) -> Result<Response<GetAuditHeadResponse>, Status> {
        let permit = self.permit::<ExportAudit>(request.extensions(), None)?;
        let signed = self
            .change(Terms::Plain, "", |vault| async move { vault.audit_head(&permit).await })
            .await?;
        let head = signed.head;
        Ok(Response::new(GetAuditHeadResponse {
            vault_id: hex(&head.vault.0),
            size: head.size,
            root: head.root.to_vec(),
            generation: head.generation.0,
            create_time: Some(convert::timestamp(head.at)),
            signed_bytes: head.bytes(),
            signature: signed.signature.to_vec(),
            public_key: signed.public_key.to_vec(),
            minimum_index: signed.pruned.size(),
            minimum_peaks: signed.pruned.peaks().iter().map(|peak| peak.to_vec()).collect(),
        }))
    }
}

//! `lethe.admin.v1.AuditService`.

use tonic::{Request, Response, Status};

use super::page::{self, Query};
use super::status::{self, Terms, Violations};
use super::stream::Outgoing;
use super::{Rpc, convert, names};
use crate::audit::{Kind, Member, Seen};
use crate::authz::{ExportAudit, Principal, ReadAudit};
use crate::class::{Classification, Role};
use crate::clock::UnixMillis;
use crate::keys::anchor::hex;
use crate::proto::admin::audit_service_server::AuditService;
use crate::proto::admin::{
    AuditEntry, AuditEntryKind, AuditMember, ExportAuditEntriesRequest, ExportAuditEntriesResponse,
    GetAuditHeadRequest, GetAuditHeadResponse, ListAuditEntriesRequest, ListAuditEntriesResponse,
};
use crate::vault::{AuditFilter, AuditLine};

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
        generation: entry.generation.0,
        leaf: told.leaf,
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
        let mut filter = AuditFilter::default();
        if !message.parent.is_empty() {
            filter.tenant = found.take("parent", names::parse_tenant(&message.parent));
        }
        if !message.subject.is_empty() {
            let subject = found.take("subject", names::parse_subject(&message.subject));
            filter.subject = subject.map(|s| (s.tenant, s.id));
        }
        if !message.principal.is_empty() {
            filter.principal = found.take("principal", Principal::parse(&message.principal));
        }
        if let (Some(tenant), Some((of, _))) = (&filter.tenant, &filter.subject)
            && tenant != of
        {
            found.add("subject", names::OTHER_TENANT);
        }
        let size = page::size(message.page_size, PAGE, &mut found);
        let size = found.finish(size)?;
        // A subject's tenant is what the right is asked for, also where no parent is named.
        let of = filter.subject.as_ref().map(|(tenant, _)| tenant).or(filter.tenant.as_ref());
        let of = of.map(|t| t.as_str().to_owned());
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
        let (lines, next) =
            listed.map_err(|e| status::of(e, terms, of.as_deref().unwrap_or_default()))?;
        let next = next.map(u64::to_be_bytes);
        let next_page_token =
            self.next_page(&permit, &query, next.as_ref().map(<[u8; 8]>::as_slice))?;
        let entries = lines.into_iter().map(line).collect();
        Ok(Response::new(ListAuditEntriesResponse { entries, next_page_token }))
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
        let end = self.vault.audit_size(&permit).map_err(failed)?;
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
        }))
    }
}

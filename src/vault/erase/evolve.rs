//! Brings an index to what a changed schema says, some key pages at a time, between erasures and puts.
//!
//! Order: the schema's row says what is to be done before any of it is done, and that it is done only after all of it
//! is durable. Puts that followed the older schema are over before the first page is read. All steps can be done again,
//! so a start after a crash begins anew.
//!
//! Invariant: a field's listings are looked for in every erasure until the last of them is gone.

use std::collections::VecDeque;
use std::sync::Arc;

use super::worker::Worker;
use crate::id::{FieldOrd, TenantOrd, TypeOrd};
use crate::keys::Edits;
use crate::keys::path::Path;
use crate::store::Batch;
use crate::vault::error::VaultError;
use crate::vault::index::{Listed, Relisted};
use crate::vault::ledger::LeafKind;
use crate::vault::lookup::tokens_of_fields;
use crate::vault::registry::{Meta, Tenant};
use crate::vault::relist::{pages_of, relist_by};
use crate::vault::schema::{IndexState, Schema};

/// The work on one type.
pub(super) struct Evolution {
    key: (TenantOrd, TypeOrd),
    tenant: Arc<Tenant>,
    schema: Arc<Schema>,
    to_list: Vec<FieldOrd>,
    to_drop: Vec<FieldOrd>,
    /// Pages that are still to be read, bucket by bucket.
    pages: VecDeque<Path>,
    all: u64,
}

impl Worker {
    /// Does the next step. What fails is begun anew.
    pub(super) fn evolve(&mut self) -> Result<(), VaultError> {
        let Some(key) = self.core.evolving.first() else { return Ok(()) };
        let Some(mut work) = self.evolution_of(key)? else {
            self.core.evolving.finish(key);
            return Ok(());
        };
        let step = self.core.index_build_pages.min(work.pages.len());
        let now: Vec<Path> = work.pages.drain(..step).collect();
        // A run is of one bucket.
        for pages in now.chunk_by(|a, b| a.bucket == b.bucket) {
            self.list_fields(&work, pages)?;
        }
        self.drop_fields(&work, &now)?;
        let left = work.pages.len() as u64;
        self.core.evolving.advance(key, work.all - left, work.all);
        if !work.pages.is_empty() || !self.settle_schema(&work)? {
            self.evolution = Some(work);
        }
        Ok(())
    }

    /// The work on a type, begun if it is not under way for its present schema; `None` if nothing is left to do.
    fn evolution_of(&mut self, key: (TenantOrd, TypeOrd)) -> Result<Option<Evolution>, VaultError> {
        let Some(tenant) = self.core.tenant_of(key.0) else { return Ok(None) };
        let Some(schema) = tenant.schema_of(key.1).filter(|s| s.is_changing()) else {
            return Ok(None);
        };
        if let Some(work) = self.evolution.take().filter(|w| Arc::ptr_eq(&w.schema, &schema)) {
            return Ok(Some(work));
        }
        let in_state = |state| {
            schema.fields().iter().filter(move |f| f.index == state).map(|f| f.ord).collect()
        };
        let (to_list, to_drop) = (in_state(IndexState::Building), in_state(IndexState::Dropping));
        let mut pages = VecDeque::new();
        for bucket in tenant.buckets(Some(key.1)) {
            pages.extend(pages_of(&self.core.tree, bucket, 0..u32::MAX)?);
        }
        let all = pages.len() as u64;
        Ok(Some(Evolution { key, tenant, schema, to_list, to_drop, pages, all }))
    }

    /// Of pages of one bucket.
    fn list_fields(&self, work: &Evolution, pages: &[Path]) -> Result<(), VaultError> {
        let Some(first) = pages.first() else { return Ok(()) };
        let core = self.core.clone();
        let mut fresh = Relisted::default();
        self.each(work, &work.to_list, pages, |kid, tokens| {
            core.index.fill(&core.tree, kid, tokens, &mut fresh)
        })?;
        core.index.write_filled(&core.tree, (first.tenant, first.bucket), fresh)
    }

    fn drop_fields(&mut self, work: &Evolution, pages: &[Path]) -> Result<(), VaultError> {
        let core = self.core.clone();
        let mut gone: Vec<Listed> = Vec::new();
        self.each(work, &work.to_drop, pages, |kid, tokens| {
            gone.extend(core.index.thin(&core.tree, kid, tokens)?);
            Ok(())
        })?;
        if gone.is_empty() {
            return Ok(());
        }
        let mut edits = Edits::default();
        gone.iter().for_each(|listed| listed.collect(&mut edits.unlist));
        self.plain(edits, LeafKind::Rekey, None)?;
        gone.iter().for_each(|listed| core.index.unlist(listed));
        Ok(())
    }

    /// Calls `f` with the tokens of some fields of every version on these pages that has any.
    fn each(
        &self,
        work: &Evolution,
        fields: &[FieldOrd],
        pages: &[Path],
        mut f: impl FnMut(
            crate::id::Kid,
            &[crate::vault::index::Token],
        ) -> Result<(), crate::keys::KeyError>,
    ) -> Result<(), VaultError> {
        if fields.is_empty() {
            return Ok(());
        }
        let core = &*self.core;
        for path in pages {
            let content = relist_by(&core.tree, path, &core.metrics, &|key, _, map| {
                tokens_of_fields(key, &work.schema, fields, map)
            })?;
            content.damaged.into_iter().for_each(|d| core.damaged.add(d));
            for (kid, tokens) in content.versions.iter().filter(|(_, t)| !t.is_empty()) {
                f(*kid, tokens)?;
            }
        }
        Ok(())
    }

    /// Says in the schema's row that all is done. False if somebody is changing the schema: then it is said later, or
    /// the work begins anew.
    fn settle_schema(&self, work: &Evolution) -> Result<bool, VaultError> {
        let core = &*self.core;
        let Ok(_held) = work.tenant.changing.try_lock() else { return Ok(false) };
        let present = work.tenant.schema_of(work.key.1);
        if !present.is_some_and(|s| Arc::ptr_eq(&s, &work.schema)) {
            return Ok(true);
        }
        let schema = work.schema.settled();
        let secrets = core.tree.read().tenant(work.tenant.ord)?;
        let meta = Meta::Schema(schema.ord());
        let (ord, rev) = (work.tenant.ord, schema.revision());
        let row = meta.seal(core.vault(), ord, rev, &secrets.meta, &schema.to_json())?;
        drop(secrets);
        let mut batch = Batch::default();
        batch.put(meta.key(ord), row);
        core.tree.store().commit_blocking(batch)?;
        let name = schema.type_name().clone();
        work.tenant.state_mut().schemas.insert(name, Arc::new(schema));
        core.evolving.finish(work.key);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;
    use crate::class::{Classification, ErasureReason, FieldKind, Role};
    use crate::clock::{SystemClock, UnixMillis};
    use crate::keys::kek::{KekSource, create_file};
    use crate::store::Memory;
    use crate::vault::rows::{Intent, Pointer};
    use crate::vault::schema::{FieldDraft, Parts, RetentionDraft, SchemaDraft};
    use crate::vault::slug::Slug;
    use crate::vault::testing::permit;
    use crate::vault::value::Value;
    use crate::vault::{EngineChoice, NewRecord, Setup, Vault};

    fn draft(indexed: bool) -> SchemaDraft {
        let note = FieldDraft {
            name: "note".into(),
            kind: Some(FieldKind::Text),
            class: Some(Classification::General),
            max_bytes: 50,
            indexed,
            ..FieldDraft::default()
        };
        SchemaDraft {
            type_name: "memo".into(),
            fields: vec![note],
            retention: Some(RetentionDraft::OpenEnded(true)),
            erase_old_versions_synchronously: false,
        }
    }

    async fn until(done: impl Fn() -> bool) {
        for _ in 0..1000 {
            if done() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it never happened");
    }

    /// An erasure may wait while its record's schema changes: then the record is listed where its caller did not know.
    #[tokio::test]
    async fn an_erasure_that_waited_while_its_schema_changed_leaves_no_listing() {
        let dir = tempfile::tempdir().unwrap();
        let (data, kek) = (dir.path().join("data"), dir.path().join("kek"));
        create_file(&kek).unwrap();
        let engine = EngineChoice::Given(Arc::new(Memory::new()));
        let mut setup = Setup::new(data.clone(), data.join("anchor"), engine, KekSource::File(kek));
        setup.index_tail_max = 1;
        let vault = Vault::create(&setup, Arc::new(SystemClock)).unwrap();
        let slug = |text: &str| Slug::parse(text).unwrap();
        let whole = permit(Role::Operator, None);
        vault.create_tenant(&whole, slug("acme"), String::new()).await.unwrap();
        let operator = permit(Role::Operator, Some("acme"));
        vault.create_schema(&operator, "acme", draft(false)).await.unwrap();
        let mut made = Vec::new();
        for _ in 0..9 {
            let fields = [("note".to_owned(), Value::Text("x".into()))].into();
            let new = NewRecord { rtype: slug("memo"), subject: None, fields, request: None };
            let application = permit(Role::Application, Some("acme"));
            made.push(vault.create_record(&application, "acme", new).await.unwrap().id);
        }
        let core = &vault.core;
        let tenant = core.registry.find("acme").unwrap();
        let row = core.tree.store().get(&Pointer::key(tenant.ord, made[0])).unwrap().unwrap();
        let Pointer { kid, rec_ver, rtype } = Pointer::decode(&row).unwrap();
        until(|| !core.index.in_tail(kid)).await;
        let (reason, requested) = (ErasureReason::SubjectRequest, UnixMillis(0));
        let unit = Intent { kid, record: made[0], rec_ver, rtype, reason, requested };
        let doomed = core.doom(Some(&tenant), &unit, true).unwrap();

        vault.update_schema(&operator, "acme", draft(true), &Parts::whole()).await.unwrap();
        let schema = || tenant.schema_of(rtype).unwrap();
        until(|| !schema().is_changing()).await;
        let known = doomed.tokens.as_ref().map_or(0, Vec::len);
        assert_eq!(core.tokens_now(&doomed).map_or(0, |t| t.len()), known + 1, "control");

        let (answer, answered) = oneshot::channel();
        vault.erasures().send_units(vec![doomed], None, answer).unwrap();
        assert_eq!(answered.await.unwrap().unwrap().len(), 1);
        assert!(!core.index.lists(&core.tree, kid).unwrap(), "a listing of the field is left");
        vault.close().unwrap();
    }
}

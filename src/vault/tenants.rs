//! Tenants and their schemas.
//!
//! Invariant: a schema that was answered is durable, and a record is never checked against one that is not.

use std::sync::Arc;

use super::core::Vault;
use super::error::VaultError;
use super::registry::{Meta, Tenant, TenantInfo, TenantState};
use super::schema::{Parts, Schema, SchemaDraft};
use super::slug::Slug;
use crate::audit::{Act, Entry};
use crate::authz::{CreateTenant, Permit, ReadSchema, ReadTenants, UpdateTenant, WriteSchema};
use crate::id::{TenantOrd, TypeOrd};
use crate::keys::KeyError;
use crate::limits;
use crate::store::Batch;

/// Bytes of a display name.
const DISPLAY_NAME_MAX: usize = 200;

fn check_display_name(name: &str) -> Result<(), VaultError> {
    if name.len() > DISPLAY_NAME_MAX || name.chars().any(char::is_control) {
        let reason = "must be at most 200 bytes without control characters";
        return Err(VaultError::Argument { field: "tenant.display_name", reason });
    }
    Ok(())
}

impl Vault {
    pub async fn create_tenant(
        &self,
        permit: &Permit<CreateTenant>,
        id: Slug,
        display_name: String,
    ) -> Result<TenantInfo, VaultError> {
        if permit.tenant().is_some() {
            return Err(VaultError::Forbidden);
        }
        check_display_name(&display_name)?;
        let core = &*self.core;
        let _held = core.registry.making.lock().await;
        let all = core.registry.all();
        if all.iter().any(|t| t.id == id) {
            return Err(VaultError::Exists("tenant"));
        }
        if all.len() >= limits::TENANTS_MAX {
            return Err(VaultError::Exhausted("the vault has too many tenants"));
        }
        let next = all.iter().map(|t| t.ord.value() + 1).max().unwrap_or(0);
        let ord = TenantOrd::new(next).ok_or(VaultError::Exhausted("no more tenants"))?;
        let info = TenantInfo::new(id, display_name, core.clock.now());
        let json = serde_json::to_vec(&info).map_err(|_| VaultError::Damaged("metadata"))?;
        let told = core.entry(permit, Act::CreateTenant).of(ord);
        let added = core.tree.add_tenant(ord, |new| {
            let row = Meta::Tenant.seal(core.vault(), ord, 1, &new.meta, &json);
            let mut batch = Batch { entries: told.encode(), ..Batch::default() };
            let row = row.map_err(|_| KeyError::Full("metadata"))?;
            batch.put(Meta::Tenant.key(ord), row);
            Ok(batch)
        });
        let (_, pending) = added.await?;
        pending.await?;
        core.registry.insert(Tenant::new(ord, info.clone(), TenantState::empty()));
        Ok(info)
    }

    pub fn get_tenant(
        &self,
        permit: &Permit<ReadTenants>,
        tenant: &str,
    ) -> Result<TenantInfo, VaultError> {
        let tenant = self.core.tenant(permit, tenant)?;
        self.core.note(&self.core.entry(permit, Act::GetTenant).of(tenant.ord))?;
        Ok(tenant.info())
    }

    /// Changes what a tenant is called. Nothing happens if it is called so already.
    pub async fn update_tenant(
        &self,
        permit: &Permit<UpdateTenant>,
        tenant: &str,
        display_name: String,
        etag: Option<u64>,
    ) -> Result<TenantInfo, VaultError> {
        check_display_name(&display_name)?;
        let core = &*self.core;
        let tenant = core.tenant(permit, tenant)?;
        let _held = tenant.changing.lock().await;
        let present = tenant.info();
        if etag.is_some_and(|e| e != u64::from(present.revision)) {
            return Err(VaultError::Stale("tenant"));
        }
        let told = core.entry(permit, Act::UpdateTenant).of(tenant.ord);
        if present.display_name == display_name {
            core.note(&told)?;
            return Ok(present);
        }
        let info = present.renamed(display_name);
        let info = info.ok_or(VaultError::Exhausted("the tenant changed too often"))?;
        let revision = info.revision;
        let json = serde_json::to_vec(&info).map_err(|_| VaultError::Damaged("metadata"))?;
        let secrets = core.tree.read().tenant(tenant.ord)?;
        let row = Meta::Tenant.seal(core.vault(), tenant.ord, revision, &secrets.meta, &json)?;
        drop(secrets);
        let mut batch = Batch { entries: told.encode(), ..Batch::default() };
        batch.put(Meta::Tenant.key(tenant.ord), row);
        core.tree.store().submit(batch)?.await?;
        tenant.set_info(info.clone());
        Ok(info)
    }

    /// The tenants that the permit's identity is bound to, by id, after `after`.
    pub fn list_tenants(
        &self,
        permit: &Permit<ReadTenants>,
        after: Option<&str>,
        page_size: usize,
    ) -> Result<Vec<TenantInfo>, VaultError> {
        self.core.note(&self.core.entry(permit, Act::ListTenants))?;
        let all = self.core.registry.all();
        let wanted = all
            .iter()
            .filter(|t| permit.covers(t.id.as_str()) && after.is_none_or(|a| t.id.as_str() > a));
        Ok(wanted.take(page_size).map(|t| t.info()).collect())
    }

    pub async fn create_schema(
        &self,
        permit: &Permit<WriteSchema>,
        tenant: &str,
        draft: SchemaDraft,
    ) -> Result<Arc<Schema>, VaultError> {
        let tenant = self.core.tenant(permit, tenant)?;
        let _held = tenant.changing.lock().await;
        let (count, next) = {
            let state = tenant.state();
            if state.schemas.contains_key(draft.type_name.as_str()) {
                return Err(VaultError::Exists("schema"));
            }
            let last = state.schemas.values().map(|s| s.ord().0).max().unwrap_or(0);
            (state.schemas.len(), last.checked_add(1))
        };
        if count >= limits::SCHEMAS_MAX {
            return Err(VaultError::Exhausted("the tenant has too many schemas"));
        }
        let ord = TypeOrd(next.ok_or(VaultError::Exhausted("no more record types"))?);
        let schema =
            Schema::create(draft, ord, self.core.clock.now()).map_err(VaultError::Schema)?;
        let told = self.core.entry(permit, Act::CreateSchema);
        self.store_schema(&tenant, schema, false, told).await
    }

    pub async fn update_schema(
        &self,
        permit: &Permit<WriteSchema>,
        tenant: &str,
        draft: SchemaDraft,
        parts: &Parts,
    ) -> Result<Arc<Schema>, VaultError> {
        let tenant = self.core.tenant(permit, tenant)?;
        let _held = tenant.changing.lock().await;
        let present = {
            let state = tenant.state();
            state.schemas.get(draft.type_name.as_str()).cloned()
        };
        let present = present.ok_or(VaultError::NotFound("schema"))?;
        let draft = present.with(draft, parts);
        let next = present.evolve(draft, self.core.clock.now()).map_err(VaultError::Schema)?;
        let told = self.core.entry(permit, Act::UpdateSchema);
        if next == *present {
            let rtype = Some(present.ord());
            self.core.note(&Entry { rtype, ..told.of(tenant.ord) })?;
            return Ok(present);
        }
        let fresh = next.newly_unique(&present);
        let kept = self.keep_unique(&tenant, &present, &fresh).await?;
        let moves = next.may_move(&present);
        let stored = self.store_schema(&tenant, next, moves, told).await?;
        kept.for_good();
        Ok(stored)
    }

    async fn store_schema(
        &self,
        tenant: &Tenant,
        schema: Schema,
        moves: bool,
        told: Entry,
    ) -> Result<Arc<Schema>, VaultError> {
        let core = &*self.core;
        let secrets = core.tree.read().tenant(tenant.ord)?;
        let meta = Meta::Schema(schema.ord());
        let json = schema.to_json();
        let rev = schema.revision();
        let row = meta.seal(core.vault(), tenant.ord, rev, &secrets.meta, &json)?;
        drop(secrets);
        let told = Entry { rtype: Some(schema.ord()), ..told.of(tenant.ord) };
        let mut batch = Batch { entries: told.encode(), ..Batch::default() };
        batch.put(meta.key(tenant.ord), row);
        let types = moves.then_some(schema.ord()).into_iter().collect();
        let rebucketing = core.to_rebucket(tenant, types, &mut batch)?;
        core.tree.store().submit(batch)?.await?;
        let schema = Arc::new(schema);
        // Puts that follow the older one are over when this is had; later ones follow the new one.
        let _no_puts = tenant.writing.write().await;
        let mut state = tenant.state_mut();
        state.schemas.insert(schema.type_name().clone(), schema.clone());
        state.rebucketing = rebucketing;
        state.apply_rules();
        state.rules_epoch += u64::from(moves);
        drop(state);
        core.evolving.changed(tenant.ord, &schema);
        Ok(schema)
    }

    pub fn get_schema(
        &self,
        permit: &Permit<ReadSchema>,
        tenant: &str,
        id: &Slug,
    ) -> Result<Arc<Schema>, VaultError> {
        let tenant = self.core.tenant(permit, tenant)?;
        let schema = tenant.schema(id)?;
        let told = self.core.entry(permit, Act::GetSchema).of(tenant.ord);
        self.core.note(&Entry { rtype: Some(schema.ord()), ..told })?;
        Ok(schema)
    }

    /// Schemas of a tenant by type, after `after`.
    pub fn list_schemas(
        &self,
        permit: &Permit<ReadSchema>,
        tenant: &str,
        after: Option<&str>,
        page_size: usize,
    ) -> Result<Vec<Arc<Schema>>, VaultError> {
        let tenant = self.core.tenant(permit, tenant)?;
        self.core.note(&self.core.entry(permit, Act::ListSchemas).of(tenant.ord))?;
        let state = tenant.state();
        let wanted = state
            .schemas
            .iter()
            .filter(|(id, _)| after.is_none_or(|a| id.as_str() > a))
            .map(|(_, s)| s.clone());
        Ok(wanted.take(page_size).collect())
    }
}

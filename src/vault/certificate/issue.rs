//! Makes certificates.
//!
//! Invariants: a certificate is never of a batch that is not through, nor proved to a tree that the anchor has not
//! bound; every leaf in it is the one that the row about the erasure names, and is under the root that is signed.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::document::{Document, Malformed, Membership, ProvedLeaf, path_text};
use super::facts::{
    Approval, AskedBy, AskerKind, BY_SCHEDULE, Backups, Basis, Destroyed, Erasure, FORMAT, Facts,
    Kind, LeafFacts, NO_APPROVAL, NO_BACKUPS, NOT_BY_SCHEDULE, NOT_KEPT, RuleFacts, VaultFacts,
    basis_text, medium_name, not_covered, sources,
};
use super::verify::instant;
use crate::audit::{Act, Entry};
use crate::authz::{Permit, ReadCertificate};
use crate::class::{ErasureReason, Log};
use crate::crypto::merkle::leaf_hash;
use crate::id::{Day, RecVer, RecordId, TypeOrd};
use crate::keys::Erased;
use crate::keys::slots::BucketId;
use crate::limits::{
    CERTIFICATE_PARTS_MAX, CERTIFICATE_VERSIONS_MAX, LEVEL_LOOK_MAX, SCAN_PAGE_ROWS,
};
use crate::vault::calendar::format_iso_date;
use crate::vault::core::{Core, Vault};
use crate::vault::current::Sort;
use crate::vault::erase::Named;
use crate::vault::error::VaultError;
use crate::vault::ledger::{Leaf, LeafFacts as Brief, LeafKind, leaf_key, unit_of};
use crate::vault::logs::View;
use crate::vault::registry::Tenant;
use crate::vault::retention::manifest::Killed;
use crate::vault::retention::zone::end_in_utc;
use crate::vault::rows::Pointer;
use crate::vault::slug::Slug;
use crate::vault::trail::{name_key, open_name};

const NOT_THROUGH: VaultError =
    VaultError::Precondition("the erasure is not through yet: ask again");
const NO_CERTIFICATE: VaultError = VaultError::NotFound("certificate");
const DAMAGED: VaultError = VaultError::Damaged("ledger");

/// What a certificate is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    Record(RecordId),
    Subject(RecordId),
    /// What the last kill of a type's and day's buckets took.
    Bucket {
        rtype: Slug,
        expires: Day,
    },
    /// The bucket that a leaf of the ledger is about.
    Leaf(u64),
}

/// A leaf about what was destroyed.
struct Part {
    index: u64,
    raw: Vec<u8>,
    leaf: Leaf,
}

/// What was destroyed, and the evidence.
struct Found {
    kind: Kind,
    rtype: TypeOrd,
    record: Option<RecordId>,
    bucket: Option<(BucketId, Killed)>,
    parts: Vec<Part>,
    erased: Erased,
}

fn too_large(_: Malformed) -> VaultError {
    VaultError::TooLarge("the certificate is too large")
}

impl Vault {
    /// The certificate of an erasure, proved to the ledger of `size` leaves; `None`: as the anchor has bound it.
    pub async fn certificate(
        &self,
        permit: &Permit<ReadCertificate>,
        tenant: &str,
        wanted: Wanted,
        size: Option<u64>,
    ) -> Result<Document, VaultError> {
        let core = Arc::clone(&self.core);
        let tenant = Arc::clone(&core.tenant(permit, tenant)?);
        let found = core.destroyed(&tenant, &wanted)?;
        let told = core.entry(permit, Act::GetCertificate).of(tenant.ord);
        let told = Entry { rtype: Some(found.rtype), ..told };
        let membership = match (found.record, found.bucket) {
            (Some(record), Some((bucket, killed))) => {
                Some(self.membership(bucket, killed, record).await?)
            }
            _ => None,
        };
        let work = move |core: &Core, view: &View<'_>| {
            let mut made = core.certify(&tenant, &found, view, size.unwrap_or(view.head.0))?;
            made.membership = membership;
            Ok(made)
        };
        let made = self.with_tree(Log::Ledger, work).await?;
        core.note(&told)?;
        core.metrics.certificates_issued.one();
        Ok(made)
    }

    /// The proof that a record is on its bucket's list. The whole list is hashed for it, of one bucket at a time.
    async fn membership(
        &self,
        bucket: BucketId,
        killed: Killed,
        record: RecordId,
    ) -> Result<Membership, VaultError> {
        let core = Arc::clone(&self.core);
        let one = Arc::clone(&core);
        let _one = one.logs.listing.lock().await;
        let made = tokio::task::spawn_blocking(move || core.member(bucket, &killed, record));
        made.await.map_err(|_| VaultError::Stopping)?
    }
}

impl Core {
    /// What became of what is asked for. Nothing of a batch that is not through.
    fn destroyed(&self, tenant: &Tenant, wanted: &Wanted) -> Result<Found, VaultError> {
        let (sort, record) = match wanted {
            Wanted::Record(record) => (Sort::Record, *record),
            Wanted::Subject(record) => (Sort::Subject, *record),
            Wanted::Bucket { rtype, expires } => {
                let key = (tenant.schema(rtype)?.ord(), *expires);
                let last = self.last_kill(tenant, key)?.ok_or(NO_CERTIFICATE)?;
                return self.buckets(tenant, last, Some(key));
            }
            Wanted::Leaf(index) => return self.bucket_of(tenant, *index),
        };
        let Some(gone) = self.gone(tenant, (sort, record), &|_| Ok(()))? else {
            let row = self.tree.store().get(&Pointer::key(tenant.ord, record))?;
            let lives = row.as_deref().and_then(Pointer::decode);
            let lives = lives.is_some_and(|p| sort.check(p.rtype).is_ok());
            let what = "it is not erased: there is nothing to certify";
            return Err(match lives {
                true => VaultError::Precondition(what),
                false => VaultError::NotFound(sort.word()),
            });
        };
        let (part, erased) = self.part(&gone.named)?;
        let kind = match (sort, &gone.bucket) {
            (_, Some(_)) => Kind::RecordWithBucket,
            (Sort::Record, None) => Kind::Record,
            (Sort::Subject, None) => Kind::Subject,
            // No certificate is asked for by a hold's name.
            (Sort::Hold, None) => return Err(NO_CERTIFICATE),
        };
        let (rtype, bucket, parts) = (gone.rtype, gone.bucket, vec![part]);
        Ok(Found { kind, rtype, record: Some(record), bucket, parts, erased })
    }

    /// The leaf that a row names, of a batch that is through.
    fn part(&self, named: &Named) -> Result<(Part, Erased), VaultError> {
        let (raw, erased) = self.evidence(named)?.ok_or(NOT_THROUGH)?;
        let index = named.leaf_seq;
        let leaf = Leaf::decode(&raw, index).map_err(|_| DAMAGED)?;
        match leaf.generation == erased.generation() {
            true => Ok((Part { index, raw, leaf }, erased)),
            false => Err(DAMAGED),
        }
    }

    /// A killed bucket, by its leaf.
    fn bucket_of(&self, tenant: &Tenant, index: u64) -> Result<Found, VaultError> {
        let raw = self.tree.store().get(&leaf_key(index))?.ok_or(NO_CERTIFICATE)?;
        let leaf = Leaf::decode(&raw, index).map_err(|_| DAMAGED)?;
        if leaf.kind != LeafKind::Bucket || leaf.kid.tenant != tenant.ord {
            return Err(NO_CERTIFICATE);
        }
        let named = Named { generation: leaf.generation, leaf_seq: index, leaf: leaf_hash(&raw) };
        self.buckets(tenant, named, None)
    }

    /// The bucket of a leaf; of a type and day also those that the same kill took before it.
    fn buckets(
        &self,
        tenant: &Tenant,
        last: Named,
        of: Option<(TypeOrd, Day)>,
    ) -> Result<Found, VaultError> {
        let (part, erased) = self.part(&last)?;
        let killed = self.summary(tenant, &part)?.ok_or(DAMAGED)?;
        let key = (killed.1.rtype, killed.1.expires);
        if of.is_some_and(|of| of != key) {
            return Err(DAMAGED);
        }
        let mut parts = vec![part];
        while let Some(before) = of.and(parts.last()).and_then(|p| p.index.checked_sub(1)) {
            let Some(raw) = self.tree.store().get(&leaf_key(before))? else { return Err(DAMAGED) };
            let leaf = Leaf::decode(&raw, before).map_err(|_| DAMAGED)?;
            let part = Part { index: before, raw, leaf };
            if (leaf.kind, leaf.generation) != (LeafKind::Bucket, last.generation) {
                break;
            }
            match self.summary(tenant, &part)? {
                Some((_, k)) if (k.rtype, k.expires) == key => parts.push(part),
                _ => break,
            }
            if parts.len() > CERTIFICATE_PARTS_MAX {
                let what =
                    "it has too many buckets for one certificate: get each by its leaf_index";
                return Err(VaultError::TooLarge(what));
            }
        }
        parts.reverse();
        let (rtype, bucket) = (key.0, Some(killed));
        Ok(Found { kind: Kind::Bucket, rtype, record: None, bucket, parts, erased })
    }

    /// What sums up the bucket that a leaf is about; `None` if it is another tenant's.
    fn summary(
        &self,
        tenant: &Tenant,
        part: &Part,
    ) -> Result<Option<(BucketId, Killed)>, VaultError> {
        let bucket = (part.leaf.kid.tenant, part.leaf.kid.bucket);
        if bucket.0 != tenant.ord {
            return Ok(None);
        }
        let killed = self.killed(bucket)?.ok_or(DAMAGED)?;
        let own = (killed.leaf_seq, killed.leaf) == (part.index, leaf_hash(&part.raw));
        if own { Ok(Some((bucket, killed))) } else { Err(DAMAGED) }
    }

    /// Signs what was found, and proves it to the tree of `size` leaves.
    fn certify(
        &self,
        tenant: &Tenant,
        found: &Found,
        view: &View<'_>,
        size: u64,
    ) -> Result<Document, VaultError> {
        let wrong = |reason| VaultError::Argument { field: "checkpoint_size", reason };
        if size > view.head.0 {
            return Err(wrong("is more than the ledger has, as the anchor has bound it"));
        }
        if found.parts.iter().any(|part| part.index >= size) {
            return Err(wrong("is of before the erasure: take a later checkpoint"));
        }
        let level = self.level_leaf(found, size)?;
        let prove = |index| {
            let (raw, proof) = view.inclusion(index, size)?;
            let path = path_text(&proof.path);
            Ok::<_, VaultError>(ProvedLeaf { index, leaf: STANDARD.encode(&raw), path })
        };
        let leaves = found.parts.iter().map(|p| prove(p.index)).collect::<Result<_, _>>()?;
        let level_leaf = level.map(prove).transpose()?;
        let signer = self.tree.read().signer()?;
        let checkpoint = self.checkpoint(Log::Ledger, (size, view.root(size)?));
        let name = checkpoint.origin.to_string();
        let public_key = crate::keys::anchor::hex(&signer.public_key());
        let facts = self.facts(tenant, found, level, VaultFacts { name, public_key })?;
        let made = Document::sign(self.vault(), facts, &signer).map_err(too_large)?;
        let checkpoint = checkpoint.sign(&signer, []).map_err(|_| DAMAGED)?;
        Ok(Document { leaves, level_leaf, checkpoint, ..made })
    }

    /// The leaf that states the level of the erasure's generation: the first one of the batch after it, if there is
    /// one among `size` and the vault was not started anew between the two.
    fn level_leaf(&self, found: &Found, size: u64) -> Result<Option<u64>, VaultError> {
        let Some(last) = found.parts.last() else { return Err(DAMAGED) };
        let generation = found.erased.generation();
        let (mut at, end) = (last.index + 1, size.min(last.index.saturating_add(LEVEL_LOOK_MAX)));
        while at < end {
            let rows = self.tree.store().scan(&leaf_key(at), &leaf_key(end), SCAN_PAGE_ROWS)?;
            if rows.is_empty() {
                return Err(DAMAGED);
            }
            for row in rows {
                let brief = Brief::of(&row.value).ok_or(DAMAGED)?;
                if brief.is_level || brief.generation != generation {
                    let states = brief.is_level && brief.generation == generation;
                    return Ok(states.then_some(at));
                }
                at += 1;
            }
        }
        Ok(None)
    }

    fn facts(
        &self,
        tenant: &Tenant,
        found: &Found,
        level_leaf: Option<u64>,
        vault: VaultFacts,
    ) -> Result<Facts, VaultError> {
        let (first, erased) = (&found.parts.first().ok_or(DAMAGED)?.leaf, &found.erased);
        let reason = first.reason.ok_or(DAMAGED)?;
        let killed = found.bucket.map(|(_, killed)| killed);
        let due = killed.map(|k| end_in_utc(k.expires));
        let was_due = due == Some(first.requested);
        let asked_by = self.asker(found, reason, was_due)?;
        let retention = reason == ErasureReason::Retention;
        let basis = match retention && !was_due {
            true => NOT_BY_SCHEDULE,
            false => basis_text(reason),
        };
        let rules = if retention { rules(tenant, found.rtype) } else { Vec::new() };
        Ok(Facts {
            format: FORMAT.to_owned(),
            vault,
            destroyed: self.destroyed_facts(tenant, found)?,
            erasure: Erasure {
                generation: erased.generation().0,
                reason: reason.name().to_owned(),
                due: due.map(instant),
                requested: instant(first.requested),
                removed: instant(first.removed),
                completed: instant(erased.scrubbed()),
                level: erased.level().name().to_owned(),
                medium: medium_name(erased.medium()).to_owned(),
                level_leaf,
            },
            basis: Basis { text: basis.to_owned(), rules },
            asked_by,
            approved_by: Approval { required: false, by: Vec::new(), text: NO_APPROVAL.to_owned() },
            backups: Backups { inside_window: 0, text: NO_BACKUPS.to_owned() },
            issued: instant(self.clock.now()),
            sources: sources(found.kind, level_leaf.is_some()),
            not_covered: not_covered(found.kind, erased.level()),
        })
    }

    fn destroyed_facts(&self, tenant: &Tenant, found: &Found) -> Result<Destroyed, VaultError> {
        let schema = tenant.schema_of(found.rtype);
        let record_type = schema.map(|s| s.type_name().as_str().to_owned());
        let day = found.bucket.and_then(|(_, killed)| format_iso_date(killed.expires));
        let (id, named) = (&tenant.id, found.record.map(|r| r.to_string()).unwrap_or_default());
        let name = match found.kind {
            Kind::Record | Kind::RecordWithBucket => format!("tenants/{id}/records/{named}"),
            Kind::Subject => format!("tenants/{id}/subjects/{named}"),
            Kind::Bucket => {
                let rtype = record_type.as_deref().ok_or(VaultError::Damaged("schema"))?;
                let day = day.as_deref().ok_or(VaultError::Damaged("bucket's list"))?;
                format!("tenants/{id}/schemas/{rtype}/buckets/{day}")
            }
        };
        let version = match (found.kind, found.record, found.parts.as_slice()) {
            (Kind::Record | Kind::Subject, Some(record), [part]) => {
                let is = |v: &u64| {
                    unit_of(self.vault(), tenant.ord, record, RecVer(*v)) == part.leaf.unit
                };
                let version = (1..=CERTIFICATE_VERSIONS_MAX).find(is);
                let far = "the version that was erased is too high a number";
                Some(version.ok_or(VaultError::TooLarge(far))?)
            }
            _ => None,
        };
        let records = match found.kind {
            Kind::Bucket => found.parts.iter().map(|p| u64::from(p.leaf.count)).sum(),
            _ => 1,
        };
        let leaves = found.parts.iter().map(|part| LeafFacts {
            index: part.index,
            hash: crate::keys::anchor::hex(&leaf_hash(&part.raw)),
            records: part.leaf.count.into(),
            root: found.bucket.map(|_| crate::keys::anchor::hex(&part.leaf.request)),
        });
        Ok(Destroyed {
            kind: found.kind,
            name,
            record_type,
            version,
            expire_date: day,
            records,
            leaves: leaves.collect(),
        })
    }

    fn asker(
        &self,
        found: &Found,
        reason: ErasureReason,
        was_due: bool,
    ) -> Result<AskedBy, VaultError> {
        let Some(part) = found.parts.last() else { return Err(DAMAGED) };
        let asked = self.asked_for(part.index, part.leaf.generation)?;
        let nobody = |kind, name: &str| AskedBy { kind, name: name.into(), call: String::new() };
        Ok(match asked {
            Some(asked) => {
                let row = self.tree.store().get(&name_key(&asked.principal))?;
                let key = self.tree.read().names_key()?;
                let name = row.and_then(|r| open_name(self.vault(), &key, &asked.principal, &r));
                let hash = || crate::keys::anchor::hex(&asked.principal);
                let name = name.unwrap_or_else(hash);
                AskedBy { kind: AskerKind::Caller, name, call: asked.act.name().to_owned() }
            }
            None if reason == ErasureReason::Retention && was_due => {
                nobody(AskerKind::Schedule, BY_SCHEDULE)
            }
            None => nobody(AskerKind::NotKept, NOT_KEPT),
        })
    }
}

/// The rules on how long records of a type are kept, as they are now.
fn rules(tenant: &Tenant, rtype: TypeOrd) -> Vec<RuleFacts> {
    let Some(schema) = tenant.schema_of(rtype) else { return Vec::new() };
    let own = RuleFacts {
        name: format!("tenants/{}/schemas/{}", tenant.id, schema.type_name()),
        revision: schema.revision().into(),
        legal_basis: String::new(),
    };
    let policies = tenant.rules(rtype);
    let policies = policies.iter().map(|policy| RuleFacts {
        name: format!("tenants/{}/retentionPolicies/{}", tenant.id, policy.id),
        revision: policy.revision.into(),
        legal_basis: policy.basis.clone(),
    });
    std::iter::once(own).chain(policies).collect()
}

#[cfg(test)]
#[path = "issue_tests.rs"]
mod tests;

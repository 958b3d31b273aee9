//! `lethe.admin.v1.LogService`.

use tonic::{Extensions, Request, Response, Status};

use super::Rpc;
use super::status::{self, Terms, Violations};
use crate::authz::{CosignLog, ReadAudit, ReadLedger};
use crate::class;
use crate::crypto::checkpoint::Checkpoint;
use crate::crypto::merkle::tile::Tile;
use crate::crypto::note::Note;
use crate::limits::LOG_TILES_MAX;
use crate::proto::admin::log_service_server::LogService;
use crate::proto::admin::{
    AddCosignatureRequest, AddCosignatureResponse, GetCheckpointRequest, GetCheckpointResponse,
    GetConsistencyProofRequest, GetConsistencyProofResponse, GetInclusionProofRequest,
    GetInclusionProofResponse, GetTilesRequest, GetTilesResponse, Log,
};
use crate::vault::{LogPermit, VaultError};

fn log_in(number: i32, found: &mut Violations) -> Option<class::Log> {
    let log = match Log::try_from(number) {
        Ok(Log::Ledger) => Some(class::Log::Ledger),
        Ok(Log::Audit) => Some(class::Log::Audit),
        Ok(Log::Unspecified) | Err(_) => None,
    };
    if log.is_none() {
        found.add("log", "is not one of LOG_LEDGER, LOG_AUDIT");
    }
    log
}

/// The log that a request names, if nothing else is wrong with it.
fn log_alone(number: i32) -> Result<class::Log, Status> {
    let mut found = Violations::default();
    let log = log_in(number, &mut found);
    found.finish(log)
}

fn failed(error: VaultError) -> Status {
    status::of(error, Terms::Plain, "")
}

fn hashes(path: &[[u8; 32]]) -> Vec<Vec<u8>> {
    path.iter().map(|hash| hash.to_vec()).collect()
}

/// 0 stands for the bound tree.
fn size(size: u64) -> Option<u64> {
    (size > 0).then_some(size)
}

impl Rpc {
    fn log_permit(&self, of: &Extensions, log: class::Log) -> Result<LogPermit, Status> {
        Ok(match log {
            class::Log::Ledger => LogPermit::Ledger(self.permit::<ReadLedger>(of, None)?),
            class::Log::Audit => LogPermit::Audit(self.permit::<ReadAudit>(of, None)?),
        })
    }
}

#[tonic::async_trait]
impl LogService for Rpc {
    async fn get_checkpoint(
        &self,
        request: Request<GetCheckpointRequest>,
    ) -> Result<Response<GetCheckpointResponse>, Status> {
        let message = request.get_ref();
        let log = log_alone(message.log)?;
        let permit = self.log_permit(request.extensions(), log)?;
        let fresh = message.fresh;
        let work = |vault: std::sync::Arc<crate::vault::Vault>| async move {
            vault.log_checkpoint(&permit, fresh).await
        };
        let head = self.change(Terms::Plain, "", work).await?;
        Ok(Response::new(GetCheckpointResponse {
            checkpoint: head.note,
            size: head.checkpoint.size,
            root: head.checkpoint.root.to_vec(),
            cosigned: head.cosigned,
            verifier_key: head.key.to_string(),
            minimum_index: head.minimum_index,
        }))
    }

    async fn get_tiles(
        &self,
        request: Request<GetTilesRequest>,
    ) -> Result<Response<GetTilesResponse>, Status> {
        let message = request.get_ref();
        let mut found = Violations::default();
        let log = log_in(message.log, &mut found);
        if message.paths.is_empty() || message.paths.len() > LOG_TILES_MAX {
            found.add("paths", format!("has not between 1 and {LOG_TILES_MAX} paths"));
        }
        let mut tiles = Vec::new();
        for (at, path) in message.paths.iter().take(LOG_TILES_MAX).enumerate() {
            tiles.extend(found.take(&format!("paths[{at}]"), Tile::parse(path)));
        }
        let log = found.finish(log)?;
        let permit = self.log_permit(request.extensions(), log)?;
        let tiles = self.vault.log_tiles(&permit, tiles).await.map_err(failed)?;
        Ok(Response::new(GetTilesResponse { tiles }))
    }

    async fn get_inclusion_proof(
        &self,
        request: Request<GetInclusionProofRequest>,
    ) -> Result<Response<GetInclusionProofResponse>, Status> {
        let message = request.get_ref();
        let log = log_alone(message.log)?;
        let permit = self.log_permit(request.extensions(), log)?;
        let found = self.vault.log_inclusion(&permit, message.index, size(message.size)).await;
        let (leaf, proof) = found.map_err(failed)?;
        Ok(Response::new(GetInclusionProofResponse {
            leaf,
            hashes: hashes(&proof.path),
            size: proof.size,
            root: proof.root.to_vec(),
            checkpoint: proof.note.unwrap_or_default(),
        }))
    }

    async fn get_consistency_proof(
        &self,
        request: Request<GetConsistencyProofRequest>,
    ) -> Result<Response<GetConsistencyProofResponse>, Status> {
        let message = request.get_ref();
        let log = log_alone(message.log)?;
        let permit = self.log_permit(request.extensions(), log)?;
        let found = self.vault.log_consistency(&permit, message.old_size, size(message.size)).await;
        let (old_root, proof) = found.map_err(failed)?;
        Ok(Response::new(GetConsistencyProofResponse {
            old_root: old_root.to_vec(),
            hashes: hashes(&proof.path),
            size: proof.size,
            root: proof.root.to_vec(),
            checkpoint: proof.note.unwrap_or_default(),
        }))
    }

    async fn add_cosignature(
        &self,
        request: Request<AddCosignatureRequest>,
    ) -> Result<Response<AddCosignatureResponse>, Status> {
        let text = &request.get_ref().checkpoint;
        let mut found = Violations::default();
        let note = found.take("checkpoint", Note::parse(text));
        let parsed = note.and_then(|note| {
            let checkpoint = found.take("checkpoint", Checkpoint::parse(note.text()))?;
            Some((checkpoint, note))
        });
        let (checkpoint, note) = found.finish(parsed)?;
        let permit = self.permit::<CosignLog>(request.extensions(), None)?;
        let work = |vault: std::sync::Arc<crate::vault::Vault>| async move {
            vault.add_cosignature(&permit, checkpoint, note).await
        };
        let witnesses = self.change(Terms::Plain, "", work).await?;
        Ok(Response::new(AddCosignatureResponse { witnesses }))
    }
}

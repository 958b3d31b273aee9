//! `lethectl log`: the erasure ledger and the audit log, as others check them.
//!
//! Guarantees: what the vault answers is believed only as far as its signature and the proofs go; an export goes on
//! where it broke off, and never over a folder of another log or one that is further on.

use std::path::Path;

use serde_json::json;

use super::cli::Cli;
use super::error::CtlError;
use super::files::{read_text, replace};
use super::log_cli::{KeyArgs, LogCommand, LogName, ProofArgs, ProveCommand};
use super::log_folder::LogFolder;
use super::log_verify::{open, open_file, refused};
use super::output::{Out, hex};
use super::{Done, connect, log_verify, log_witness};
use crate::class::Log;
use crate::client::{Client, read};
use crate::clock::SystemClock;
use crate::crypto::Digest32;
use crate::crypto::checkpoint::{Checkpoint, ProofFile, ProofOf};
use crate::crypto::merkle::tile::Tile;
use crate::crypto::merkle::{leaf_hash, verify_consistency, verify_inclusion};
use crate::limits::LOG_TILES_MAX;
use crate::proto::admin::{
    AddCosignatureRequest, GetCheckpointRequest, GetCheckpointResponse, GetConsistencyProofRequest,
    GetInclusionProofRequest, GetTilesRequest,
};

pub(super) async fn run(cli: &Cli, command: &LogCommand, out: &mut Out) -> Result<Done, CtlError> {
    match command {
        LogCommand::Checkpoint { log, fresh, cosigned, to } => {
            let client = connect(cli).await?;
            checkpoint(&client, (*log, *fresh, *cosigned), to.as_deref(), out).await
        }
        LogCommand::Export { log, out: dir, key } => {
            export(&connect(cli).await?, *log, &LogFolder::at(dir), *key, out).await
        }
        LogCommand::Prove(ProveCommand::Inclusion { log, index, to }) => {
            prove_inclusion(&connect(cli).await?, *log, *index, to, out).await
        }
        LogCommand::Prove(ProveCommand::Consistency { since, to }) => {
            prove_consistency(&connect(cli).await?, since, to, out).await
        }
        LogCommand::Verify { dir, checkpoint, proof, since, key, witnesses } => {
            let (dir, checkpoint) = (dir.as_deref(), checkpoint.as_deref());
            let (proof, since) = (proof.as_deref(), since.as_ref());
            let asked = log_verify::Asked { dir, checkpoint, proof, since, key: *key, witnesses };
            log_verify::run(&asked, out)
        }
        LogCommand::Witness { checkpoint, proof, state, private_key, key, to } => {
            let (proof, to) = (proof.as_deref(), to.as_deref());
            let asked = log_witness::Asked { checkpoint, proof, state, private_key, key: *key, to };
            log_witness::run(&asked, &SystemClock, out)
        }
        LogCommand::WitnessKey { name, private_key } => {
            log_witness::make_key(name, private_key, out)
        }
        LogCommand::AddCosignature { checkpoint } => {
            add_cosignature(&connect(cli).await?, checkpoint, out).await
        }
    }
}

async fn head(
    client: &Client,
    log: LogName,
    fresh: bool,
) -> Result<GetCheckpointResponse, CtlError> {
    let answer = read(|| {
        let (mut service, log) = (client.logs(), log.number());
        async move { service.get_checkpoint(GetCheckpointRequest { log, fresh }).await }
    });
    answer.await.map_err(CtlError::call("get the checkpoint"))
}

async fn checkpoint(
    client: &Client,
    (log, fresh, cosigned): (LogName, bool, bool),
    to: Option<&Path>,
    out: &mut Out,
) -> Result<Done, CtlError> {
    let answer = head(client, log, fresh).await?;
    let note = match cosigned {
        false => answer.checkpoint,
        true => answer
            .cosigned
            .into_iter()
            .next()
            .ok_or_else(|| refused("no witness has cosigned a checkpoint of this log"))?,
    };
    if let Some(to) = to {
        replace(to, &note)?;
    }
    out.json(&json!({
        "checkpoint": note,
        "size": answer.size,
        "root": hex(&answer.root),
        "verifier_key": answer.verifier_key,
        "minimum_index": answer.minimum_index,
    }))?;
    match to {
        Some(to) => out.line(&format!("{} entries, in {}", answer.size, to.display()))?,
        None => note.lines().try_for_each(|line| out.line(line))?,
    }
    Ok(Done::Wholly)
}

fn digests(hashes: &[Vec<u8>]) -> Result<Vec<Digest32>, CtlError> {
    let hashes = hashes.iter().map(|hash| hash.as_slice().try_into().ok());
    hashes.collect::<Option<_>>().ok_or(CtlError::Answer("hashes of 32 bytes"))
}

/// The proof that the vault gives from an earlier checkpoint to a later one, verified.
async fn consistency(
    client: &Client,
    log: LogName,
    old: &Checkpoint,
    new: &Checkpoint,
) -> Result<Vec<Digest32>, CtlError> {
    let (old_size, size) = (old.size, new.size);
    let mut path = Vec::new();
    // A size of 0 would stand for the tree of now.
    if size > 0 {
        let answer = read(|| {
            let (mut service, log) = (client.logs(), log.number());
            let request = GetConsistencyProofRequest { log, old_size, size };
            async move { service.get_consistency_proof(request).await }
        });
        let answer = answer.await.map_err(CtlError::call("get the proof of consistency"))?;
        path = digests(&answer.hashes)?;
    }
    verify_consistency((old_size, old.root), (size, new.root), &path)
        .map_err(|e| refused(format!("the vault's proof does not hold: {e}")))?;
    Ok(path)
}

/// The checkpoint that a proof is asked for: that of a file, else the vault's of now.
async fn target(
    client: &Client,
    log: LogName,
    to: &ProofArgs,
) -> Result<(Checkpoint, String), CtlError> {
    let (checkpoint, text) = match &to.checkpoint {
        Some(path) => {
            let (checkpoint, _, text) = open_file(path, to.key)?;
            (checkpoint, text)
        }
        None => {
            let text = head(client, log, false).await?.checkpoint;
            (open(&text, to.key, "the vault's checkpoint")?.0, text)
        }
    };
    of_log(&checkpoint, log)?;
    Ok((checkpoint, text))
}

fn of_log(checkpoint: &Checkpoint, log: LogName) -> Result<(), CtlError> {
    match checkpoint.origin.log == log.class() {
        true => Ok(()),
        false => Err(refused(format!("the checkpoint is of another log: {}", checkpoint.origin))),
    }
}

async fn prove_inclusion(
    client: &Client,
    log: LogName,
    index: u64,
    to: &ProofArgs,
    out: &mut Out,
) -> Result<Done, CtlError> {
    let (checkpoint, text) = target(client, log, to).await?;
    let size = checkpoint.size;
    if index >= size {
        return Err(CtlError::Usage {
            what: format!("the checkpoint has {size} entries, from 0 on"),
            next: "name a smaller index, or a later checkpoint",
        });
    }
    let answer = read(|| {
        let (mut service, log) = (client.logs(), log.number());
        let request = GetInclusionProofRequest { log, index, size };
        async move { service.get_inclusion_proof(request).await }
    });
    let answer = answer.await.map_err(CtlError::call("get the proof of inclusion"))?;
    let path = digests(&answer.hashes)?;
    verify_inclusion(leaf_hash(&answer.leaf), index, (size, checkpoint.root), &path)
        .map_err(|e| refused(format!("the vault's proof does not hold: {e}")))?;
    let about = ProofOf::Entry(index);
    save(ProofFile { about, extra: Some(answer.leaf), path, checkpoint: text }, to, out)
}

async fn prove_consistency(
    client: &Client,
    since: &Path,
    to: &ProofArgs,
    out: &mut Out,
) -> Result<Done, CtlError> {
    let (old, _, _) = open_file(since, to.key)?;
    let log = match old.origin.log {
        Log::Ledger => LogName::Ledger,
        Log::Audit => LogName::Audit,
    };
    let (new, text) = target(client, log, to).await?;
    continues(&old, &new)?;
    let path = consistency(client, log, &old, &new).await?;
    let about = ProofOf::Earlier(old.size);
    save(ProofFile { about, extra: None, path, checkpoint: text }, to, out)
}

fn save(proof: ProofFile, to: &ProofArgs, out: &mut Out) -> Result<Done, CtlError> {
    replace(&to.to, &proof.to_string())?;
    let shown = to.to.display().to_string();
    out.json(&json!({ "file": shown, "hashes": proof.path.len() }))?;
    out.line(&format!("a proof of {} hashes, in {shown}", proof.path.len()))?;
    Ok(Done::Wholly)
}

/// Refuses to go from one checkpoint to what cannot be a later one.
fn continues(old: &Checkpoint, new: &Checkpoint) -> Result<(), CtlError> {
    if old.origin != new.origin {
        return Err(refused(format!("{} is another log than {}", old.origin, new.origin)));
    }
    if old.size > new.size {
        return Err(refused(format!(
            "it has {} entries already, and the vault's checkpoint {}",
            old.size, new.size
        )));
    }
    Ok(())
}

async fn export(
    client: &Client,
    log: LogName,
    folder: &LogFolder,
    key: KeyArgs,
    out: &mut Out,
) -> Result<Done, CtlError> {
    folder.prepare()?;
    let (was, begun) = (folder.checkpoint()?, folder.under_way()?);
    let answer = head(client, log, true).await?;
    let (text, minimum) = (answer.checkpoint, answer.minimum_index);
    let (checkpoint, _) = open(&text, key, "the vault's checkpoint")?;
    of_log(&checkpoint, log)?;
    let mut old_size = 0;
    for (kept, whole) in [(was, true), (begun, false)] {
        let Some(kept) = kept else { continue };
        let (old, _) = open(&kept, key, "the folder's checkpoint")?;
        continues(&old, &checkpoint)?;
        consistency(client, log, &old, &checkpoint).await?;
        if whole {
            old_size = old.size;
        }
    }
    folder.begin(&text)?;
    // A full tile never changes: what is there stays. One that is not full has its width in its name.
    let missing = || {
        let all = Tile::all_since(0, checkpoint.size);
        all.filter(|tile| !folder.has(tile))
    };
    let wanted = || missing().filter(|tile| !tile.is_pruned(minimum));
    // What the vault has no more, and this folder never had or has but for a part.
    let mut begins = folder.minimum_index()?;
    if missing().any(|tile| tile.is_pruned(minimum) && !tile.is_pruned(begins)) {
        begins = minimum;
        folder.set_minimum_index(begins)?;
    }
    let bar = super::import::progress(wanted().count() as u64, out);
    let (mut written, mut waiting) = (0_u64, Vec::new());
    for tile in wanted() {
        waiting.push(tile);
        if waiting.len() == LOG_TILES_MAX {
            written += take(client, log, folder, &mut waiting).await?;
            bar.set_position(written);
        }
    }
    while !waiting.is_empty() {
        written += take(client, log, folder, &mut waiting).await?;
        bar.set_position(written);
    }
    bar.finish_and_clear();
    folder.finish()?;
    out.json(&json!({
        "origin": checkpoint.origin.to_string(),
        "size": checkpoint.size,
        "minimum_index": begins,
        "root": hex(&checkpoint.root),
        "tiles_written": written,
        "continues": old_size,
    }))?;
    out.line(&format!(
        "{} entries of {}, {written} tiles written; check them with `lethectl log verify`",
        checkpoint.size, checkpoint.origin
    ))?;
    if begins > 0 {
        out.line(&format!("entries before {begins} are not among them: the log was pruned"))?;
    }
    Ok(Done::Wholly)
}

/// Fetches what waits, as far as one answer goes. How many tiles that was.
async fn take(
    client: &Client,
    log: LogName,
    folder: &LogFolder,
    waiting: &mut Vec<Tile>,
) -> Result<u64, CtlError> {
    let paths: Vec<String> = waiting.iter().map(ToString::to_string).collect();
    let answer = read(|| {
        let (mut service, log, paths) = (client.logs(), log.number(), paths.clone());
        async move { service.get_tiles(GetTilesRequest { log, paths }).await }
    });
    let tiles = answer.await.map_err(CtlError::call("get the tiles of the log"))?.tiles;
    if tiles.is_empty() || tiles.len() > waiting.len() {
        return Err(CtlError::Answer("tiles"));
    }
    for (tile, bytes) in waiting.drain(..tiles.len()).zip(&tiles) {
        folder.put(&tile, bytes)?;
    }
    Ok(tiles.len() as u64)
}

async fn add_cosignature(client: &Client, file: &Path, out: &mut Out) -> Result<Done, CtlError> {
    let checkpoint = read_text(file)?.as_str().to_owned();
    let answer = read(|| {
        let (mut service, checkpoint) = (client.logs(), checkpoint.clone());
        async move { service.add_cosignature(AddCosignatureRequest { checkpoint }).await }
    });
    let witnesses = answer.await.map_err(CtlError::call("add the cosignatures"))?.witnesses;
    out.json(&json!({ "witnesses": witnesses }))?;
    out.line(&format!("kept: {}", witnesses.join(", ")))?;
    Ok(Done::Wholly)
}

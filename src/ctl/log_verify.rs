//! `lethectl log verify`: an exported log, a checkpoint or a proof, checked without a vault.
//!
//! Guarantees: only the keys that are given are believed, none in a file; every entry of a folder is decoded and
//! hashed, every hash of every tile compared, and the root compared with the signed one; what does not hold is named.
//! Where a folder lacks the log's beginning, an entry of the log must say that it was pruned. Memory does not grow with
//! the log.

use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};

use super::Done;
use super::error::CtlError;
use super::files::read_text;
use super::log_cli::{KeyArgs, WitnessArgs};
use super::log_entry::Tally;
use super::log_folder::LogFolder;
use super::output::{Out, hex, stamp, time};
use crate::crypto::Digest32;
use crate::crypto::checkpoint::{Checkpoint, CheckpointError, ProofFile, ProofOf};
use crate::crypto::merkle::tile::{
    Part, TILE_LEVELS, TILE_WIDTH, Tile, frontier_from_tiles, hashes_at, root_of,
};
use crate::crypto::merkle::{Frontier, leaf_hash, verify_consistency, verify_inclusion};
use crate::crypto::note::{Note, NoteError};

pub fn refused(what: impl Into<String>) -> CtlError {
    CtlError::Evidence(what.into())
}

/// The checkpoint in a note, if this vault signed it. `called` is what the note is in errors.
pub fn open(note: &str, key: KeyArgs, called: &str) -> Result<(Checkpoint, Note), CtlError> {
    Checkpoint::open(note, *key.public_key.bytes()).map_err(|e| {
        let whose = match e {
            CheckpointError::Note(NoteError::Unsigned) => {
                ": it is of another vault, or its key is another one"
            }
            _ => "",
        };
        refused(format!("{called} does not hold: {e}{whose}"))
    })
}

/// The same of a file.
pub fn open_file(path: &Path, key: KeyArgs) -> Result<(Checkpoint, Note, String), CtlError> {
    let text = read_text(path)?;
    let (checkpoint, note) = open(&text, key, &path.display().to_string())?;
    Ok((checkpoint, note, text.as_str().to_owned()))
}

/// Names of the witnesses that have cosigned, if they are enough.
pub fn cosigned(note: &Note, wanted: &WitnessArgs) -> Result<Vec<String>, CtlError> {
    let mut found = Vec::new();
    let mut seen: Vec<&[u8; 32]> = Vec::new();
    for witness in &wanted.witnesses {
        // A key that is given twice is one witness.
        if seen.contains(&witness.public()) {
            continue;
        }
        seen.push(witness.public());
        match note.verify(witness) {
            Ok(_) => found.push(witness.name().as_str().to_owned()),
            Err(NoteError::Unsigned) => {}
            Err(e) => {
                let name = witness.name().as_str();
                return Err(refused(format!("the cosignature of {name} does not hold: {e}")));
            }
        }
    }
    let threshold = wanted.threshold.unwrap_or(wanted.witnesses.len());
    if found.len() < threshold {
        return Err(refused(format!(
            "{} of the witnesses have cosigned it, not {threshold}",
            found.len()
        )));
    }
    Ok(found)
}

/// What is to be verified.
pub struct Asked<'a> {
    pub dir: Option<&'a Path>,
    pub checkpoint: Option<&'a Path>,
    pub proof: Option<&'a Path>,
    pub since: Option<&'a PathBuf>,
    pub key: KeyArgs,
    pub witnesses: &'a WitnessArgs,
}

pub fn run(asked: &Asked<'_>, out: &mut Out) -> Result<Done, CtlError> {
    let since = asked.since.map(|path| open_file(path, asked.key)).transpose()?;
    let since = since.map(|(checkpoint, _, _)| checkpoint);
    let text = match (asked.dir, asked.proof, asked.checkpoint) {
        (Some(dir), _, _) => {
            let found = LogFolder::at(dir).checkpoint()?;
            found.ok_or_else(|| refused("the folder has no checkpoint: its export is not whole"))?
        }
        (None, Some(proof), _) => return verify_proof(proof, since, asked, out),
        (None, None, Some(path)) => read_text(path)?.as_str().to_owned(),
        (None, None, None) => {
            return Err(CtlError::Usage {
                what: "nothing to verify".to_owned(),
                next: "name a folder, --checkpoint FILE or --proof FILE",
            });
        }
    };
    let (checkpoint, note) = open(&text, asked.key, "the checkpoint")?;
    let witnesses = cosigned(&note, asked.witnesses)?;
    if let Some(since) = &since {
        earlier(since, &checkpoint)?;
    }
    let told = match asked.dir {
        Some(dir) => Some(folder(&LogFolder::at(dir), &checkpoint, since, out)?),
        // Of two roots of one size it can be told that they differ, of two sizes nothing.
        None if since.is_some_and(|s| s.size != checkpoint.size) => {
            return Err(CtlError::Usage {
                what: "two checkpoints of different sizes say nothing of each other".to_owned(),
                next: "verify a folder, or a proof of `lethectl log prove consistency`",
            });
        }
        None => None,
    };
    report(&checkpoint, &witnesses, since.as_ref(), told.as_ref(), out)
}

/// What both checkpoints say must fit.
fn earlier(since: &Checkpoint, now: &Checkpoint) -> Result<(), CtlError> {
    if since.origin != now.origin {
        return Err(refused(format!(
            "the earlier checkpoint is of another log: {}, not {}",
            since.origin, now.origin
        )));
    }
    if since.size > now.size {
        return Err(refused(format!(
            "the log has {} entries, and had {} before: it was cut",
            now.size, since.size
        )));
    }
    if since.size == now.size && since.root != now.root {
        return Err(rewritten(since.size));
    }
    Ok(())
}

fn rewritten(size: u64) -> CtlError {
    refused(format!("the first {size} entries are not those of before: the log was rewritten"))
}

fn report(
    checkpoint: &Checkpoint,
    witnesses: &[String],
    since: Option<&Checkpoint>,
    told: Option<&Tally>,
    out: &mut Out,
) -> Result<Done, CtlError> {
    let gaps: Vec<Json> = told
        .iter()
        .flat_map(|t| &t.gaps)
        .map(|(from, to)| json!({ "from": time(Some(&stamp(*from))), "to": time(Some(&stamp(*to))) }))
        .collect();
    out.json(&json!({
        "verified": true,
        "origin": checkpoint.origin.to_string(),
        "size": checkpoint.size,
        "root": hex(&checkpoint.root),
        "entries_checked": told.is_some(),
        "minimum_index": told.map(|t| t.begins),
        "witnesses": witnesses,
        "continues": since.map(|s| s.size),
        "gaps": gaps,
    }))?;
    let what = match told.map(|t| t.begins) {
        None => "the checkpoint alone".to_owned(),
        Some(0) => "every entry and tile".to_owned(),
        Some(begins) => {
            format!("every tile, and every entry from {begins} on; what was before was pruned")
        }
    };
    out.pairs(&[
        ("verified", what),
        ("log", checkpoint.origin.to_string()),
        ("entries", checkpoint.size.to_string()),
        ("root", hex(&checkpoint.root)),
        ("witnesses", witnesses.join(", ")),
        ("continues", since.map(|s| format!("the earlier {} entries", s.size)).unwrap_or_default()),
        (
            "gaps",
            told.map(|t| t.gaps.len())
                .filter(|n| *n > 0)
                .map(|n| n.to_string())
                .unwrap_or_default(),
        ),
    ])?;
    Ok(Done::Wholly)
}

/// One tile of hashes of a level, as it grows.
struct Growing {
    hashes: Vec<Digest32>,
    index: u64,
}

/// What a folder says of the entries that it does not have: the tree over them, and the tiles that go on from there.
/// The hashes of each full tile are held against the level above; the rest is in the tree, and so below its root.
fn pruned(
    folder: &LogFolder,
    begins: u64,
    size: u64,
) -> Result<(Frontier, Vec<Growing>), CtlError> {
    if begins > size || !begins.is_multiple_of(TILE_WIDTH) {
        return Err(refused("minimum_index does not fit the checkpoint"));
    }
    let hashes = |level: u8, index: u64| {
        let width = hashes_at(level, size).saturating_sub(index * TILE_WIDTH).min(TILE_WIDTH);
        let tile = Tile { part: Part::Hashes(level), index, width: width as u16 };
        let found = tile.hashes_in(&folder.get(&tile)?);
        found.ok_or_else(|| refused(format!("{tile} is not {width} hashes long")))
    };
    let part = |level: u8, first: u64, count: u64| {
        let found = hashes(level, first / TILE_WIDTH)?;
        let at = (first % TILE_WIDTH) as usize;
        let part = found.get(at..at + count as usize).map(<[_]>::to_vec);
        part.ok_or_else(|| refused(format!("a tile of level {level} is too short")))
    };
    let mut levels = vec![Growing { hashes: Vec::new(), index: begins / TILE_WIDTH }];
    for level in 1..TILE_LEVELS {
        let end = hashes_at(level, begins);
        for index in 0..end / TILE_WIDTH {
            if part(level + 1, index, 1)? != [root_of(&hashes(level, index)?)] {
                let tile = Tile { part: Part::Hashes(level), index, width: TILE_WIDTH as u16 };
                return Err(refused(format!("{tile} has not the hash that the level above has")));
            }
        }
        let (index, count) = (end / TILE_WIDTH, end % TILE_WIDTH);
        let begun = match count {
            0 => Vec::new(),
            count => part(level, index * TILE_WIDTH, count)?,
        };
        levels.push(Growing { hashes: begun, index });
    }
    let mut of_folder = |level, first, count| part(level, first, count);
    Ok((frontier_from_tiles(begins, &mut of_folder)?, levels))
}

/// Every tile of a folder against its checkpoint.
fn folder(
    folder: &LogFolder,
    checkpoint: &Checkpoint,
    since: Option<Checkpoint>,
    out: &Out,
) -> Result<Tally, CtlError> {
    let (log, size) = (checkpoint.origin.log, checkpoint.size);
    let begins = folder.minimum_index()?;
    if since.is_some_and(|s| s.size < begins) {
        return Err(refused(format!(
            "the folder begins at entry {begins}, and the earlier checkpoint ends before that: verify a proof of \
             `lethectl log prove consistency` instead"
        )));
    }
    let (mut tree, mut levels) = pruned(folder, begins, size)?;
    let mut tally = Tally::default();
    let bar = super::import::progress(size, out);
    for index in begins / TILE_WIDTH..size.div_ceil(TILE_WIDTH) {
        let width = (size - index * TILE_WIDTH).min(TILE_WIDTH) as u16;
        let tile = Tile { part: Part::Entries, index, width };
        let bytes = folder.get(&tile)?;
        let entries = tile
            .entries_in(&bytes)
            .ok_or_else(|| refused(format!("{tile} has not {width} whole entries")))?;
        for entry in entries {
            let at = tree.size();
            if since.is_some_and(|s| s.size == at && s.root != tree.root()) {
                return Err(rewritten(at));
            }
            tally.take(log, entry, at).map_err(|why| refused(format!("entry {at} {why}")))?;
            let hash = leaf_hash(entry);
            tree.push(hash);
            grow(folder, &mut levels, hash)?;
        }
        bar.set_position(tree.size());
    }
    bar.finish_and_clear();
    if since.is_some_and(|s| s.size == tree.size() && s.root != tree.root()) {
        return Err(rewritten(tree.size()));
    }
    for (level, growing) in (0u8..).zip(&levels) {
        if !growing.hashes.is_empty() {
            let width = (hashes_at(level, size) % TILE_WIDTH) as u16;
            compare(
                folder,
                &Tile { part: Part::Hashes(level), index: growing.index, width },
                &growing.hashes,
            )?;
        }
    }
    if tree.root() != checkpoint.root {
        return Err(refused(format!(
            "the {size} entries do not have the root that was signed: an entry was changed"
        )));
    }
    tally.begin_at(begins).map_err(refused)?;
    Ok(tally)
}

fn grow(folder: &LogFolder, levels: &mut [Growing], leaf: Digest32) -> Result<(), CtlError> {
    let mut hash = leaf;
    for (level, growing) in (0u8..).zip(levels) {
        growing.hashes.push(hash);
        if (growing.hashes.len() as u64) < TILE_WIDTH {
            break;
        }
        let tile =
            Tile { part: Part::Hashes(level), index: growing.index, width: TILE_WIDTH as u16 };
        compare(folder, &tile, &growing.hashes)?;
        hash = root_of(&growing.hashes);
        growing.hashes.clear();
        growing.index += 1;
    }
    Ok(())
}

fn compare(folder: &LogFolder, tile: &Tile, hashes: &[Digest32]) -> Result<(), CtlError> {
    let found = tile.hashes_in(&folder.get(tile)?);
    let found =
        found.ok_or_else(|| refused(format!("{tile} is not {} hashes long", tile.width)))?;
    match found.iter().zip(hashes).position(|(a, b)| a != b) {
        None => Ok(()),
        Some(at) => Err(refused(format!("{tile} has another hash at {at} than its entries"))),
    }
}

fn verify_proof(
    path: &Path,
    since: Option<Checkpoint>,
    asked: &Asked<'_>,
    out: &mut Out,
) -> Result<Done, CtlError> {
    let text = read_text(path)?;
    let proof =
        ProofFile::parse(&text).map_err(|e| refused(format!("the file does not hold: {e}")))?;
    let (checkpoint, note) = open(&proof.checkpoint, asked.key, "the checkpoint in the proof")?;
    let witnesses = cosigned(&note, asked.witnesses)?;
    let head = (checkpoint.size, checkpoint.root);
    let fails = |e: &dyn std::fmt::Display| refused(format!("the proof does not hold: {e}"));
    let mut tally = Tally::default();
    let leaf = match proof.about {
        ProofOf::Entry(index) => {
            let leaf =
                proof.extra.as_deref().ok_or_else(|| refused("the proof lacks its entry"))?;
            let log = checkpoint.origin.log;
            tally.take(log, leaf, index).map_err(|why| refused(format!("entry {index} {why}")))?;
            verify_inclusion(leaf_hash(leaf), index, head, &proof.path).map_err(|e| fails(&e))?;
            Some((index, leaf))
        }
        ProofOf::Earlier(old) => {
            let since = since.as_ref().ok_or_else(|| CtlError::Usage {
                what: "the proof is about an earlier checkpoint".to_owned(),
                next: "name it with --since FILE",
            })?;
            earlier(since, &checkpoint)?;
            if since.size != old {
                return Err(refused(format!(
                    "the proof is about a tree of {old} entries, the earlier checkpoint about {}",
                    since.size
                )));
            }
            let before = (old, since.root);
            verify_consistency(before, head, &proof.path).map_err(|e| fails(&e))?;
            None
        }
    };
    if leaf.is_none() {
        return report(&checkpoint, &witnesses, since.as_ref(), None, out);
    }
    out.json(&json!({
        "verified": true,
        "origin": checkpoint.origin.to_string(),
        "size": checkpoint.size,
        "root": hex(&checkpoint.root),
        "witnesses": witnesses,
        "index": leaf.map(|(index, _)| index),
        "leaf": leaf.map(|(_, leaf)| hex(leaf)),
    }))?;
    out.pairs(&[
        ("verified", leaf.map(|(index, _)| format!("entry {index}")).unwrap_or_default()),
        ("log", checkpoint.origin.to_string()),
        ("entries", checkpoint.size.to_string()),
        ("root", hex(&checkpoint.root)),
        ("witnesses", witnesses.join(", ")),
        ("leaf", leaf.map(|(_, leaf)| hex(leaf)).unwrap_or_default()),
    ])?;
    Ok(Done::Wholly)
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;

//! `lethectl log witness` and `witness-key`: a witness of checkpoints (C2SP tlog-cosignature).
//!
//! Guarantees: a checkpoint is cosigned only if the vault signed it and if a proof leads to it from the one that was
//! cosigned last; which one that was is on disk before the cosignature leaves. One process at a time goes by a state.

use std::path::Path;

use serde_json::json;

use super::Done;
use super::error::CtlError;
use super::files::{EvidenceFile, Held, read_private, read_text, replace};
use super::log_cli::KeyArgs;
use super::log_verify::{open_file, refused};
use super::output::Out;
use crate::clock::Clock;
use crate::crypto::checkpoint::{Checkpoint, ProofFile, ProofOf};
use crate::crypto::merkle::verify_consistency;
use crate::crypto::note::{CosignerKey, KeyName};

/// What a witness is given.
pub struct Asked<'a> {
    pub checkpoint: &'a Path,
    pub proof: Option<&'a Path>,
    pub state: &'a Path,
    pub private_key: &'a Path,
    pub key: KeyArgs,
    pub to: Option<&'a Path>,
}

pub fn run(asked: &Asked<'_>, clock: &dyn Clock, out: &mut Out) -> Result<Done, CtlError> {
    let line = read_private(asked.private_key)?;
    let cosigner = CosignerKey::parse(line.trim_end()).map_err(|e| CtlError::Input {
        what: format!("{}: {e}", asked.private_key.display()),
        next: "make a key with `lethectl log witness-key`",
    })?;
    let (checkpoint, mut note, text) = open_file(asked.checkpoint, asked.key)?;
    let _held = Held::of(asked.state)?;
    let last = match asked.state.exists() {
        true => Some(open_file(asked.state, asked.key)?.0),
        false => None,
    };
    if let Some(last) = &last {
        follows(last, &checkpoint, asked.proof)?;
    }
    // Before anything is signed: who loses the state would sign two histories.
    replace(asked.state, &text)?;
    let at = u64::try_from(clock.now().0 / 1_000).unwrap_or_default();
    let signature = cosigner.sign(note.text(), at);
    let mine = cosigner.verifier();
    note.signatures.retain(|s| (&s.name, s.id) != (mine.name(), mine.id()));
    note.signatures.push(signature);
    let cosigned = note.to_string();
    if let Some(to) = asked.to {
        replace(to, &cosigned)?;
    }
    out.json(&json!({
        "origin": checkpoint.origin.to_string(),
        "size": checkpoint.size,
        "continues": last.map(|l| l.size),
        "witness": mine.to_string(),
        "checkpoint": cosigned,
    }))?;
    match asked.to {
        Some(to) => out.line(&format!(
            "cosigned {} of {} entries into {}",
            checkpoint.origin,
            checkpoint.size,
            to.display()
        ))?,
        None => cosigned.lines().try_for_each(|line| out.line(line))?,
    }
    Ok(Done::Wholly)
}

/// Refuses a checkpoint that does not continue the last one.
fn follows(last: &Checkpoint, now: &Checkpoint, proof: Option<&Path>) -> Result<(), CtlError> {
    if last.origin != now.origin {
        return Err(refused(format!(
            "the state is of another log: {}, not {}",
            last.origin, now.origin
        )));
    }
    if now.size < last.size {
        return Err(refused(format!(
            "the log has {} entries, and had {} when it was cosigned last: it was cut, or this \
             checkpoint is an old one",
            now.size, last.size
        )));
    }
    if now.size == last.size {
        return match now.root == last.root {
            true => Ok(()),
            false => Err(refused(format!(
                "two checkpoints of {} entries have two roots: the vault shows two histories; keep \
                 both files",
                now.size
            ))),
        };
    }
    // Every log continues one without entries.
    let Some(path) = proof.filter(|_| last.size > 0) else {
        return match last.size {
            0 => Ok(()),
            size => Err(CtlError::Usage {
                what: format!("the log had {size} entries when it was cosigned last"),
                next: "give --proof FILE, of `lethectl log prove consistency --since STATE`",
            }),
        };
    };
    let text = read_text(path)?;
    let proof =
        ProofFile::parse(&text).map_err(|e| refused(format!("the proof does not hold: {e}")))?;
    if proof.about != ProofOf::Earlier(last.size) {
        return Err(refused(format!(
            "the proof is not about the {} entries that were cosigned last",
            last.size
        )));
    }
    verify_consistency((last.size, last.root), (now.size, now.root), &proof.path)
        .map_err(|e| refused(format!("the proof does not hold: {e}")))
}

/// Makes a witness's key.
pub fn make_key(name: &KeyName, to: &Path, out: &mut Out) -> Result<Done, CtlError> {
    let file = EvidenceFile::create(to)?;
    let (key, mut line) = CosignerKey::generate(name.clone())
        .map_err(|_| refused("no key could be made of random bytes"))?;
    line.push('\n');
    file.write(&line)?;
    let public = key.verifier().to_string();
    out.json(&json!({ "public_key": public, "file": to.display().to_string() }))?;
    out.line(&public)?;
    Ok(Done::Wholly)
}

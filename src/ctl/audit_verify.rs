//! `lethectl audit verify`: an export of the audit log, checked without a vault.
//!
//! Guarantees: only the key that is given is trusted, never the one in the file; a name beside an entry counts only if
//! the entry's hash is that name's; where entries are missing at the beginning, the log itself says that they were
//! pruned; memory does not grow with the log.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::Done;
use super::error::CtlError;
use super::files::open_data;
use super::log_entry::Tally;
use super::output::{Out, hex, stamp, time};
use super::receipt::PublicKey;
use crate::audit::{Head, MEMBERS_MAX, principal_hash};
use crate::crypto::Digest32;
use crate::crypto::merkle::{Frontier, leaf_hash};

/// A line of an export: the longest entry in base64 and hex, and its names.
const LINE_BYTES_MAX: u64 = 16 * 1024 + 320 * MEMBERS_MAX as u64;
const NOT_WHOLE: &str = "do not rely on this file; export the log again, and if that fails too, \
                         compare with the heads that you kept";

#[derive(Deserialize)]
struct HeadLine {
    head: SavedHead,
}

#[derive(Deserialize)]
struct SavedHead {
    signed_bytes: String,
    signature: String,
    /// Absent in files of before the log could be pruned.
    #[serde(default)]
    minimum_index: u64,
    #[serde(default)]
    minimum_peaks: Vec<String>,
}

#[derive(Deserialize)]
struct EntryLine {
    index: u64,
    principal: String,
    method: String,
    leaf: String,
}

fn wrong(what: String) -> CtlError {
    CtlError::Input { what, next: NOT_WHOLE }
}

/// Lines of an export, each bounded.
struct Lines {
    file: BufReader<std::fs::File>,
    number: u64,
}

impl Lines {
    fn open(path: &Path) -> Result<Self, CtlError> {
        Ok(Self { file: BufReader::new(open_data(path)?.0), number: 0 })
    }

    fn next(&mut self) -> Result<Option<String>, CtlError> {
        self.number += 1;
        let mut text = String::new();
        let read = (&mut self.file).take(LINE_BYTES_MAX).read_line(&mut text);
        match read {
            Ok(0) => Ok(None),
            Ok(n) if n as u64 == LINE_BYTES_MAX => Err(self.wrong("is too long")),
            Ok(_) => Ok(Some(text)),
            Err(_) => Err(self.wrong("is not text")),
        }
    }

    fn wrong(&self, why: &str) -> CtlError {
        wrong(format!("line {} {why}", self.number))
    }

    /// The signed head, and the tree over what was pruned before the first line. The head's root binds that too.
    fn head(&mut self, key: &PublicKey) -> Result<(Head, Frontier), CtlError> {
        let text = self.next()?.ok_or_else(|| wrong("the file is empty".to_owned()))?;
        let line: HeadLine =
            serde_json::from_str(&text).map_err(|_| self.wrong("is not the head of an export"))?;
        let decode = |text: &str| STANDARD.decode(text).map_err(|_| self.wrong("is not base64"));
        let (bytes, signature) = (decode(&line.head.signed_bytes)?, decode(&line.head.signature)?);
        let head = Head::verify(&bytes, &signature, key.bytes())
            .map_err(|e| wrong(format!("the head does not hold: {e}")))?;
        let peak = |text: &String| STANDARD.decode(text).ok()?.try_into().ok();
        let peaks: Option<Vec<Digest32>> = line.head.minimum_peaks.iter().map(peak).collect();
        let pruned = Option::zip(Some(line.head.minimum_index), peaks)
            .and_then(|(size, peaks)| Frontier::from_parts(size, peaks))
            .filter(|pruned| pruned.size() <= head.size);
        Ok((head, pruned.ok_or_else(|| self.wrong("does not say what was pruned"))?))
    }
}

pub(super) fn verify(
    file: &Path,
    key: &PublicKey,
    earlier: Option<&Path>,
    out: &mut Out,
) -> Result<Done, CtlError> {
    let mut lines = Lines::open(file)?;
    let (head, pruned) = lines.head(key)?;
    let earlier = earlier.map(|path| Lines::open(path)?.head(key)).transpose()?;
    let earlier = earlier.map(|(head, _)| head);
    let begins = pruned.size();
    if earlier.is_some_and(|e| e.vault != head.vault || e.size > head.size) {
        return Err(wrong(
            "the earlier export is of another vault, or has more entries".to_owned(),
        ));
    }
    if let Some(earlier) = earlier.filter(|e| e.size < begins) {
        return Err(wrong(format!(
            "the log begins at entry {begins} now, and the earlier export ends with {} entries: the two have \
             none in common",
            earlier.size
        )));
    }
    let (mut tree, mut counts) = (pruned, Tally::default());
    loop {
        if let Some(earlier) = earlier.filter(|e| e.size == tree.size() && e.root != tree.root()) {
            return Err(wrong(format!(
                "the first {} entries are not those of the earlier export: the log was rewritten",
                earlier.size
            )));
        }
        let Some(text) = lines.next()? else { break };
        check(&mut lines, &text, &head, &mut tree, &mut counts)?;
    }
    if (tree.size(), tree.root()) != (head.size, head.root) {
        return Err(wrong(format!(
            "the file has {} entries that are not the {} of the signed head",
            tree.size(),
            head.size
        )));
    }
    counts.begin_at(begins).map_err(wrong)?;
    let at = time(Some(&stamp(head.at)));
    let gaps: Vec<Json> = counts
        .gaps
        .iter()
        .map(|(from, to)| json!({ "from": time(Some(&stamp(*from))), "to": time(Some(&stamp(*to))) }))
        .collect();
    out.json(&json!({
        "verified": true,
        "vault_id": crate::keys::anchor::hex(&head.vault.0),
        "entries": head.size,
        "minimum_index": begins,
        "root": hex(&head.root),
        "head_time": at,
        "calls": counts.calls,
        "refused_calls": counts.refusals,
        "gaps": gaps,
        "continues_earlier": earlier.is_some(),
    }))?;
    out.pairs(&[
        ("verified", format!("{} entries, root {}", head.size - begins, hex(&head.root))),
        (
            "pruned",
            if begins > 0 { format!("{begins} entries before them") } else { String::new() },
        ),
        ("vault", crate::keys::anchor::hex(&head.vault.0)),
        ("signed", at),
        ("calls", counts.calls.to_string()),
        ("refused calls", counts.refusals.to_string()),
        ("gaps", counts.gaps.len().to_string()),
        (
            "continues",
            earlier.map(|e| format!("the earlier {} entries", e.size)).unwrap_or_default(),
        ),
    ])?;
    for (from, to) in &counts.gaps {
        let (from, to) = (time(Some(&stamp(*from))), time(Some(&stamp(*to))));
        out.line(&format!("between {from} and {to} entries of calls may be missing: the vault did not stop cleanly"))?;
    }
    Ok(Done::Wholly)
}

/// Adds one line to the tree, if it is what comes next and says what its entry says.
fn check(
    lines: &mut Lines,
    text: &str,
    head: &Head,
    tree: &mut Frontier,
    counts: &mut Tally,
) -> Result<(), CtlError> {
    let line: EntryLine =
        serde_json::from_str(text).map_err(|_| lines.wrong("is not an entry of an export"))?;
    let leaf = STANDARD.decode(&line.leaf).map_err(|_| lines.wrong("is not base64"))?;
    if leaf.is_empty() {
        return Err(lines.wrong("is an entry that the vault could not read"));
    }
    if line.index != tree.size() {
        return Err(lines.wrong("is not the entry that follows"));
    }
    let entry = counts.audit(&leaf, tree.size()).map_err(|why| lines.wrong(&why))?;
    if line.method != entry.act.name() {
        return Err(lines.wrong("names another method than its entry"));
    }
    let named = match line.principal.as_str() {
        "" => [0; 16],
        name if name.contains("://") => principal_hash(head.vault, name),
        // A hash in place of a name that the vault does not keep.
        _ => entry.principal,
    };
    if named != entry.principal {
        return Err(lines.wrong("names another principal than its entry"));
    }
    tree.push(leaf_hash(&leaf));
    Ok(())
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;

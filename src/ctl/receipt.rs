//! Receipts of erasures: saved as JSON, decoded as docs/FORMAT.md §7 says, checked without a vault.
//!
//! Guarantees: only the key that the caller gives is trusted, never the one in the file; what the file says beside the
//! signed bytes must agree with them.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Subcommand;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::Done;
use super::error::CtlError;
use super::files;
use super::names::last;
use super::output::{Out, hex, time};
use super::tenant::short_name;
use crate::class::{ErasureLevel, ErasureReason, Medium};
use crate::crypto::{sha256_parts, verify_ed25519};
use crate::id::{Kid, RecordId};
use crate::proto::v1::ErasureReceipt;

#[derive(Debug, Subcommand)]
pub enum ReceiptCommand {
    /// Check saved receipts against a public key that you know from elsewhere
    Verify {
        file: PathBuf,
        /// The vault's Ed25519 public key, 64 hex digits (`lethectl status` shows it)
        #[arg(long, value_name = "HEX", value_parser = public_key)]
        public_key: PublicKey,
    },
}

/// Versions of a record that are tried when its name is checked against the signed hash.
const VERSIONS_MAX: u64 = 100_000;

/// An Ed25519 public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Parses 64 hex digits.
pub fn public_key(text: &str) -> Result<PublicKey, &'static str> {
    let shape = "not 64 hex digits";
    let mut key = [0; 32];
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(shape);
    }
    for (byte, pair) in key.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| shape)?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| shape)?;
    }
    Ok(PublicKey(key))
}

/// Keys: name, level, reason, generation, leaf_index, request_time, erase_time, caveat, and in base64 signed_bytes,
/// signature, public_key.
pub fn receipt_json(receipt: &ErasureReceipt) -> Json {
    json!({
        "name": receipt.name,
        "level": short_name(receipt.level().as_str_name(), "ERASURE_LEVEL_"),
        "reason": short_name(receipt.reason().as_str_name(), "ERASURE_REASON_"),
        "generation": receipt.generation,
        "leaf_index": receipt.leaf_index,
        "request_time": time(receipt.request_time.as_ref()),
        "erase_time": time(receipt.erase_time.as_ref()),
        "caveat": receipt.caveat,
        "signed_bytes": STANDARD.encode(&receipt.signed_bytes),
        "signature": STANDARD.encode(&receipt.signature),
        "public_key": STANDARD.encode(&receipt.public_key),
    })
}

#[derive(Deserialize)]
struct File {
    receipts: Vec<Saved>,
}

#[derive(Deserialize)]
struct Saved {
    name: String,
    level: String,
    reason: String,
    generation: u64,
    leaf_index: u64,
    signed_bytes: String,
    signature: String,
}

/// What the signed bytes say.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Signed {
    vault: [u8; 16],
    kind: u8,
    reason: ErasureReason,
    seq: u64,
    generation: u64,
    unit: [u8; 32],
    kid: Kid,
    requested: i64,
    removed: i64,
    level: ErasureLevel,
    medium: Medium,
    scrubbed: i64,
}

/// Takes fixed-width parts off the front.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.take().map(i64::from_be_bytes)
    }
}

/// `"VE1" | vault[16] | leaf[208] | level u8 | medium u8 | scrubbed i64`; `None` if the bytes are anything else.
fn decode(bytes: &[u8]) -> Option<Signed> {
    let mut at = Cursor(bytes);
    let tag: [u8; 3] = at.take()?;
    let vault = at.take()?;
    let magic: [u8; 4] = at.take()?;
    if &tag != b"VE1" || &magic != b"LTL1" {
        return None;
    }
    let [kind, reason, _leaf_level, _leaf_medium] = at.take()?;
    let (seq, generation) = (at.u64()?, at.u64()?);
    let (_index, _pseudonym): ([u8; 4], [u8; 16]) = (at.take()?, at.take()?);
    let unit = at.take()?;
    let kid = Kid::from_bytes(at.take()?);
    let _request: [u8; 32] = at.take()?;
    let (requested, removed) = (at.i64()?, at.i64()?);
    let (_count, _old, _new): ([u8; 4], [u8; 32], [u8; 32]) = (at.take()?, at.take()?, at.take()?);
    let reserved: [u8; 6] = at.take()?;
    let [level, medium] = at.take()?;
    let scrubbed = at.i64()?;
    if reserved != [0; 6] || !at.0.is_empty() {
        return None;
    }
    Some(Signed {
        vault,
        kind,
        reason: ErasureReason::from_number(reason)?,
        seq,
        generation,
        unit,
        kid,
        requested,
        removed,
        level: ErasureLevel::from_number(level)?,
        medium: [Medium::InPlaceFile, Medium::MayKeepOldBlocks]
            .into_iter()
            .find(|m| *m as u8 == medium)?,
        scrubbed,
    })
}

/// A receipt whose signature and statements hold.
#[derive(Debug)]
struct Verified {
    name: String,
    signed: Signed,
    /// What of the name the signature covers.
    bound: Bound,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    /// The signed hash is of this record, in this version.
    Version(u64),
    /// The signed hash is of the bucket in the key id; which type and day that is, the vault alone knows.
    Bucket,
}

impl Bound {
    fn text(self) -> String {
        match self {
            Bound::Version(n) => format!("version {n} of this name"),
            Bound::Bucket => "a bucket; its type and day are not signed".to_owned(),
        }
    }
}

fn verify(saved: &Saved, key: PublicKey) -> Result<Verified, String> {
    let shown = super::output::safe(&saved.name);
    let wrong = |what: &str| format!("{shown}: {what}");
    let bytes =
        STANDARD.decode(&saved.signed_bytes).map_err(|_| wrong("signed_bytes is not base64"))?;
    let signature =
        STANDARD.decode(&saved.signature).map_err(|_| wrong("signature is not base64"))?;
    if !verify_ed25519(&key.0, &bytes, &signature) {
        return Err(wrong("the signature is not from the holder of this public key"));
    }
    let signed = decode(&bytes).ok_or_else(|| wrong("the signed bytes are not a receipt"))?;
    let claims = [
        ("level", saved.level == signed.level.name()),
        ("reason", saved.reason == signed.reason.name()),
        ("generation", saved.generation == signed.generation),
        ("leaf_index", saved.leaf_index == signed.seq),
    ];
    if let Some((claim, _)) = claims.iter().find(|(_, holds)| !holds) {
        return Err(wrong(&format!("{claim} is not what was signed")));
    }
    let bound = bind(saved, &signed).ok_or_else(|| wrong("the name is not what was signed"))?;
    Ok(Verified { name: saved.name.clone(), signed, bound })
}

/// Finds what the signed hash is of (docs/FORMAT.md §7, `unit`).
fn bind(saved: &Saved, signed: &Signed) -> Option<Bound> {
    let tenant = signed.kid.tenant.bytes();
    if signed.kind == 4 {
        let unit = sha256_parts(&[b"VB1", &signed.vault, &tenant, &signed.kid.bucket.bytes()]);
        return (unit == signed.unit).then_some(Bound::Bucket);
    }
    let id = RecordId::parse(last(&saved.name))?;
    // A record's version is in the hash only: the few that there can be are tried.
    (1..=VERSIONS_MAX)
        .find(|ver| {
            sha256_parts(&[b"VU1", &signed.vault, &tenant, &id.0, &ver.to_be_bytes()])
                == signed.unit
        })
        .map(Bound::Version)
}

pub(super) fn run(command: &ReceiptCommand, out: &mut Out) -> Result<Done, CtlError> {
    let ReceiptCommand::Verify { file, public_key } = command;
    let text = files::read_text(file)?;
    let saved: File = serde_json::from_str(&text).map_err(|_| CtlError::Input {
        what: format!("{} is not a file of receipts", file.display()),
        next: "give a file that `lethectl record erase --receipt FILE` wrote",
    })?;
    if saved.receipts.is_empty() {
        return Err(CtlError::Evidence(format!("{} holds no receipt", file.display())));
    }
    let verified: Result<Vec<_>, _> =
        saved.receipts.iter().map(|r| verify(r, *public_key)).collect();
    let verified = verified.map_err(CtlError::Evidence)?;
    out.json(&json!({
        "verified": verified.len(),
        "receipts": verified.iter().map(verified_json).collect::<Vec<_>>(),
    }))?;
    let rows = verified.iter().map(|v| {
        vec![
            v.name.clone(),
            v.signed.level.name().to_owned(),
            v.signed.reason.name().to_owned(),
            v.signed.generation.to_string(),
            millis(v.signed.scrubbed),
            v.bound.text(),
        ]
    });
    out.table(&["ERASED", "LEVEL", "REASON", "GENERATION", "AT", "SIGNED FOR"], rows.collect())?;
    out.line(&format!("{} verified", verified.len()))?;
    if verified.iter().any(|v| v.signed.level == ErasureLevel::Tombstoned) {
        out.line("note: level E0 means that reads refuse; it does not say that the keys are gone")?;
    }
    out.line("note: no receipt can say that nobody copied the data before it was erased")?;
    Ok(Done::Wholly)
}

fn verified_json(verified: &Verified) -> Json {
    let signed = &verified.signed;
    let version = match verified.bound {
        Bound::Version(n) => Some(n),
        Bound::Bucket => None,
    };
    json!({
        "name": verified.name,
        "record_version": version,
        "vault_id": hex(&signed.vault),
        "level": signed.level.name(),
        "reason": signed.reason.name(),
        "generation": signed.generation,
        "leaf_index": signed.seq,
        "overwrites_in_place": signed.medium == Medium::InPlaceFile,
        "request_time": millis(signed.requested),
        "removed_time": millis(signed.removed),
        "scrubbed_time": millis(signed.scrubbed),
    })
}

fn millis(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map(|t| t.to_string()).unwrap_or_default()
}

#[cfg(test)]
#[path = "receipt_tests.rs"]
pub(super) mod tests;

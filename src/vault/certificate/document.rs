//! A certificate as a file: what it says, the vault's signature over that, and the proofs (docs/CERTIFICATES.md §1).
//!
//! Guarantees: what is signed are the bytes in `statement`, which are never made anew; a text with a field too many,
//! missing or given twice is no certificate; bounds are checked before anything is decoded.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize};

use super::facts::Facts;
use crate::crypto::{Digest32, Signer, labels};
use crate::id::VaultId;
use crate::limits::{CERTIFICATE_BYTES_MAX, CERTIFICATE_PARTS_MAX};

/// Hashes in a proof; no tree is higher.
const PATH_MAX: usize = 64;

/// A certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// What the certificate says, for people and programs; the same as the signed bytes say.
    pub facts: Facts,
    /// The signed bytes, in base64: the facts as JSON.
    pub statement: String,
    /// Ed25519 over `"VC1" | vault[16] | statement`, in base64.
    pub signature: String,
    /// The leaves of the ledger that `facts.destroyed.leaves` names, each with its proof.
    pub leaves: Vec<ProvedLeaf>,
    /// The leaf that states the level, with its proof; null if there is none yet.
    #[serde(deserialize_with = "present")]
    pub level_leaf: Option<ProvedLeaf>,
    /// Of a record that went with its bucket; else null.
    #[serde(deserialize_with = "present")]
    pub membership: Option<Membership>,
    /// The signed checkpoint to which the proofs lead.
    pub checkpoint: String,
}

/// A leaf of the ledger and the proof that it is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProvedLeaf {
    pub index: u64,
    /// Its bytes, in base64.
    pub leaf: String,
    /// RFC 9162 §2.1.3, in base64.
    pub path: Vec<String>,
}

/// That a record is on the list of what went with its bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Membership {
    /// Its place on the list, from 0.
    pub index: u64,
    /// The 16 bytes that hide its id from whoever has the proof for another, in base64.
    pub salt: String,
    /// RFC 9162 §2.1.3, in base64.
    pub path: Vec<String>,
}

fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    Option::deserialize(from)
}

/// Why a text is no certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("it is longer than {CERTIFICATE_BYTES_MAX} bytes")]
    TooLong,
    #[error("it is not the JSON of a certificate: {0}")]
    Json(String),
    #[error("it has not between 1 and {CERTIFICATE_PARTS_MAX} leaves")]
    Leaves,
    #[error("a proof in it has more hashes than any tree is high")]
    Path,
}

/// What is wrong with a JSON text, without any of it: the place, and a field's name that this program knows.
fn at(error: &serde_json::Error) -> String {
    let kind = match error.classify() {
        serde_json::error::Category::Data => {
            "a field is missing, unknown, given twice or of another kind"
        }
        _ => "it is broken off or no JSON at all",
    };
    format!("{kind}, at line {} column {}", error.line(), error.column())
}

/// Reads facts strictly.
pub fn parse_facts(json: &[u8]) -> Result<Facts, Malformed> {
    serde_json::from_slice(json).map_err(|e| Malformed::Json(at(&e)))
}

impl Document {
    /// Signs facts.
    pub fn sign(vault: VaultId, facts: Facts, signer: &Signer) -> Result<Self, Malformed> {
        let statement = serde_json::to_vec(&facts).map_err(|e| Malformed::Json(at(&e)))?;
        let signature = signer.sign(&signed_bytes(vault, &statement));
        Ok(Self {
            facts,
            statement: STANDARD.encode(&statement),
            signature: STANDARD.encode(signature),
            leaves: Vec::new(),
            level_leaf: None,
            membership: None,
            checkpoint: String::new(),
        })
    }

    pub fn parse(text: &str) -> Result<Self, Malformed> {
        if text.len() > CERTIFICATE_BYTES_MAX {
            return Err(Malformed::TooLong);
        }
        let found: Self = serde_json::from_str(text).map_err(|e| Malformed::Json(at(&e)))?;
        if found.leaves.is_empty() || found.leaves.len() > CERTIFICATE_PARTS_MAX {
            return Err(Malformed::Leaves);
        }
        let paths = found.leaves.iter().chain(&found.level_leaf).map(|leaf| leaf.path.len());
        let longest = paths.chain(found.membership.iter().map(|m| m.path.len())).max();
        if longest.is_some_and(|n| n > PATH_MAX) {
            return Err(Malformed::Path);
        }
        Ok(found)
    }

    /// As it is written to a file.
    pub fn to_text(&self) -> Result<String, Malformed> {
        let mut text = serde_json::to_string_pretty(self).map_err(|e| Malformed::Json(at(&e)))?;
        text.push('\n');
        if text.len() > CERTIFICATE_BYTES_MAX { Err(Malformed::TooLong) } else { Ok(text) }
    }
}

/// What the signature of a certificate is over.
pub fn signed_bytes(vault: VaultId, statement: &[u8]) -> Vec<u8> {
    [labels::CERTIFICATE, &vault.0, statement].concat()
}

/// Hashes as text.
pub fn path_text(path: &[Digest32]) -> Vec<String> {
    path.iter().map(|hash| STANDARD.encode(hash)).collect()
}

/// Hashes from text; `None` if one is none.
pub fn path_of(path: &[String]) -> Option<Vec<Digest32>> {
    path.iter().map(|text| STANDARD.decode(text).ok()?.try_into().ok()).collect()
}

//! Signed notes (C2SP signed-note): a text, and under it lines of who signed it.
//!
//! Guarantees: a note is bounded, is UTF-8 without control characters, and has one encoding; a signature counts only by
//! a key that is given, of that name and id; one by such a key that does not hold condemns the whole note.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::secret::fill_random;
use super::sign::{SIGNATURE_BYTES, Signer, verify_ed25519};
use super::{SealError, sha256_parts};
use crate::limits::{NOTE_BYTES_MAX, NOTE_SIGNATURES_MAX};

/// How a signature is made, as the specifications number it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureKind {
    /// Over the text.
    Ed25519 = 1,
    /// C2SP tlog-cosignature, version 1: over a time and the text.
    Cosignature = 4,
}

/// What a signer is called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName(String);

/// Why a text is no note, or no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    #[error(
        "it is longer than {NOTE_BYTES_MAX} bytes, or has over {NOTE_SIGNATURES_MAX} signatures"
    )]
    TooLong,
    #[error("it is no signed note: it holds bytes that no text does, or is cut short")]
    Shape,
    #[error("one of its lines of signatures is not of the form `— NAME BASE64`")]
    SignatureLine,
    #[error("a name of a key is empty, too long, or has a space or a plus in it")]
    Name,
    #[error("it is no key of the form NAME+HASH+KEY")]
    Key,
    #[error("the hash in the key is not that of its name and bytes: a part was mistyped")]
    KeyHash,
    #[error("it is not signed by that key")]
    Unsigned,
    #[error("its signature by that key does not hold: it was changed, or is of another vault")]
    Signature,
}

impl KeyName {
    pub fn parse(name: &str) -> Result<Self, NoteError> {
        let wrong = |c: char| c.is_whitespace() || c.is_control() || c == '+';
        if name.is_empty() || name.len() > 255 || name.chars().any(wrong) {
            return Err(NoteError::Name);
        }
        Ok(Self(name.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A public key with its name: `NAME+HASH+BASE64`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: KeyName,
    kind: SignatureKind,
    public: [u8; 32],
}

impl VerifierKey {
    pub fn new(name: KeyName, kind: SignatureKind, public: [u8; 32]) -> Self {
        Self { name, kind, public }
    }

    pub fn name(&self) -> &KeyName {
        &self.name
    }

    pub fn kind(&self) -> SignatureKind {
        self.kind
    }

    pub fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// First four bytes of the hash over name, kind and key.
    pub fn id(&self) -> [u8; 4] {
        let parts: [&[u8]; 4] =
            [self.name.0.as_bytes(), b"\n", &[self.kind as u8], self.public.as_slice()];
        let [a, b, c, d, ..] = sha256_parts(&parts);
        [a, b, c, d]
    }

    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let (name, rest) = text.split_once('+').ok_or(NoteError::Key)?;
        let (hash, key) = rest.split_once('+').ok_or(NoteError::Key)?;
        let key = STANDARD.decode(key).map_err(|_| NoteError::Key)?;
        let ([kind], public) = key.split_first_chunk().ok_or(NoteError::Key)?;
        let kinds = [SignatureKind::Ed25519, SignatureKind::Cosignature];
        let kind = kinds.into_iter().find(|k| *k as u8 == *kind).ok_or(NoteError::Key)?;
        let public = public.try_into().map_err(|_| NoteError::Key)?;
        let found = Self { name: KeyName::parse(name)?, kind, public };
        if hash != hex(&found.id()) {
            return Err(NoteError::KeyHash);
        }
        Ok(found)
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [&[self.kind as u8], self.public.as_slice()].concat();
        write!(f, "{}+{}+{}", self.name.0, hex(&self.id()), STANDARD.encode(key))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A witness's key, with which it cosigns.
pub struct CosignerKey {
    name: KeyName,
    signer: Signer,
}

const PRIVATE: &str = "PRIVATE+KEY+";

impl CosignerKey {
    /// A new key, and the line that keeps it: `PRIVATE+KEY+NAME+HASH+BASE64`.
    pub fn generate(name: KeyName) -> Result<(Self, Zeroizing<String>), SealError> {
        let mut key = Zeroizing::new([SignatureKind::Cosignature as u8; 33]);
        if let Some(seed) = key.get_mut(1..) {
            fill_random(seed);
        }
        let made = Self::from_bytes(name, &key).ok_or(SealError)?;
        let mut line = Zeroizing::new(String::with_capacity(512));
        let encoded = Zeroizing::new(STANDARD.encode(key.as_slice()));
        for part in [PRIVATE, made.name.as_str(), "+", &hex(&made.verifier().id()), "+", &encoded] {
            line.push_str(part);
        }
        Ok((made, line))
    }

    pub fn parse(line: &str) -> Result<Self, NoteError> {
        let rest = line.strip_prefix(PRIVATE).ok_or(NoteError::Key)?;
        let mut parts = rest.splitn(3, '+');
        let (Some(name), Some(hash), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::Key);
        };
        let mut bytes = Zeroizing::new([0; 33 + 3]);
        let length =
            STANDARD.decode_slice(key, bytes.as_mut_slice()).map_err(|_| NoteError::Key)?;
        let key = bytes.get(..length).and_then(|b| <&[u8; 33]>::try_from(b).ok());
        let found = key.and_then(|key| Self::from_bytes(KeyName::parse(name).ok()?, key));
        let found = found.ok_or(NoteError::Key)?;
        if hash != hex(&found.verifier().id()) {
            return Err(NoteError::KeyHash);
        }
        Ok(found)
    }

    fn from_bytes(name: KeyName, key: &[u8; 33]) -> Option<Self> {
        let ([kind], seed) = key.split_first_chunk()?;
        let signer = Signer::from_seed(seed.try_into().ok()?).ok()?;
        (*kind == SignatureKind::Cosignature as u8).then_some(Self { name, signer })
    }

    pub fn verifier(&self) -> VerifierKey {
        let public = self.signer.public_key();
        VerifierKey::new(self.name.clone(), SignatureKind::Cosignature, public)
    }

    /// Cosigns a text. `at` is in seconds since 1970.
    pub fn sign(&self, text: &str, at: u64) -> NoteSignature {
        let signature = self.signer.sign(cosigned(text, at).as_bytes());
        let bytes = [at.to_be_bytes().as_slice(), &signature].concat();
        NoteSignature { name: self.name.clone(), id: self.verifier().id(), bytes }
    }
}

impl fmt::Debug for CosignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CosignerKey({}, secret)", self.name.0)
    }
}

/// What a cosigner signs of a text.
fn cosigned(text: &str, at: u64) -> String {
    format!("cosignature/v1\ntime {at}\n{text}")
}

/// One line under a note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteSignature {
    pub name: KeyName,
    pub id: [u8; 4],
    pub bytes: Vec<u8>,
}

impl NoteSignature {
    /// The vault's own.
    pub fn of(key: &VerifierKey, bytes: [u8; SIGNATURE_BYTES]) -> Self {
        Self { name: key.name.clone(), id: key.id(), bytes: bytes.to_vec() }
    }

    /// A cosigner's, from its parts.
    pub fn cosignature(key: &VerifierKey, at: u64, signature: &[u8; SIGNATURE_BYTES]) -> Self {
        let bytes = [at.to_be_bytes().as_slice(), signature].concat();
        Self { name: key.name.clone(), id: key.id(), bytes }
    }

    /// Time and signature of a cosigner.
    pub fn timed(&self) -> Option<(u64, [u8; SIGNATURE_BYTES])> {
        let (at, signature) = self.bytes.split_first_chunk()?;
        let at = u64::from_be_bytes(*at);
        // The specification leaves the upper half out.
        Some((at, signature.try_into().ok()?)).filter(|_| i64::try_from(at).is_ok())
    }

    fn parse(line: &str) -> Result<Self, NoteError> {
        let rest = line.strip_prefix("— ").ok_or(NoteError::SignatureLine)?;
        let (name, encoded) = rest.split_once(' ').ok_or(NoteError::SignatureLine)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| NoteError::SignatureLine)?;
        let (id, bytes) = bytes.split_first_chunk().ok_or(NoteError::SignatureLine)?;
        if bytes.is_empty() {
            return Err(NoteError::SignatureLine);
        }
        Ok(Self { name: KeyName::parse(name)?, id: *id, bytes: bytes.to_vec() })
    }
}

impl fmt::Display for NoteSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [self.id.as_slice(), &self.bytes].concat();
        writeln!(f, "— {} {}", self.name.0, STANDARD.encode(bytes))
    }
}

/// A text with its signatures, none of them verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    pub signatures: Vec<NoteSignature>,
}

impl Note {
    pub fn new(text: String, signatures: Vec<NoteSignature>) -> Self {
        Self { text, signatures }
    }

    pub fn parse(note: &str) -> Result<Self, NoteError> {
        if note.len() > NOTE_BYTES_MAX {
            return Err(NoteError::TooLong);
        }
        if note.chars().any(|c| c < ' ' && c != '\n') {
            return Err(NoteError::Shape);
        }
        let at = note.rfind("\n\n").ok_or(NoteError::Shape)?;
        let (text, lines) = note.split_at_checked(at + 1).ok_or(NoteError::Shape)?;
        let lines = lines.strip_prefix('\n').and_then(|l| l.strip_suffix('\n'));
        let lines = lines.ok_or(NoteError::Shape)?.split('\n');
        let mut signatures = Vec::new();
        for line in lines {
            if signatures.len() == NOTE_SIGNATURES_MAX {
                return Err(NoteError::TooLong);
            }
            signatures.push(NoteSignature::parse(line)?);
        }
        Ok(Self { text: text.to_owned(), signatures })
    }

    /// With the final newline. Believe it only after [`Note::verify`].
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signatures of one key; each must hold, and there must be one.
    pub fn verify(&self, key: &VerifierKey) -> Result<&NoteSignature, NoteError> {
        let mut found = None;
        for signature in self.signatures.iter().filter(|s| s.name == key.name && s.id == key.id()) {
            let holds = match key.kind {
                SignatureKind::Ed25519 => {
                    verify_ed25519(&key.public, self.text.as_bytes(), &signature.bytes)
                }
                SignatureKind::Cosignature => signature.timed().is_some_and(|(at, bytes)| {
                    verify_ed25519(&key.public, cosigned(&self.text, at).as_bytes(), &bytes)
                }),
            };
            if !holds {
                return Err(NoteError::Signature);
            }
            found = Some(signature);
        }
        found.ok_or(NoteError::Unsigned)
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|signature| write!(f, "{signature}"))
    }
}

#[cfg(test)]
#[path = "note_tests.rs"]
mod tests;

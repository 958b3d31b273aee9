//! Checkpoints of the vault's two logs (C2SP tlog-checkpoint), and the files that carry proofs beside one.
//!
//! Guarantees: a checkpoint has one encoding and says whose log it is, how long it is and what its root is, nothing
//! else. What is signed begins with the origin, `lethe/`; all else that the vault signs begins with `V`
//! ([`labels`](super::labels)), and what a witness signs with `cosignature/`: none can pass for another.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::note::{KeyName, Note, NoteError, NoteSignature, SignatureKind, VerifierKey};
use super::{Digest32, Signer};
use crate::class::Log;
use crate::id::VaultId;

/// What a log is called in its checkpoints. It names no host: a vault has none that others could ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    pub vault: VaultId,
    pub log: Log,
}

/// Why something is no checkpoint, or one that is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    #[error(transparent)]
    Note(#[from] NoteError),
    #[error("its first line is not lethe/VAULT/ledger or lethe/VAULT/audit: it is of another log")]
    Origin,
    #[error("its second line is no size of a tree")]
    Size,
    #[error("its third line is no root of a tree")]
    Root,
    #[error("it has other lines than origin, size and root")]
    Lines,
    #[error("its proof is not of the form that C2SP tlog-proof or tlog-witness gives it")]
    Proof,
}

impl Origin {
    pub fn parse(text: &str) -> Option<Self> {
        let (vault, log) = text.strip_prefix("lethe/")?.split_once('/')?;
        let log = Log::ALL.into_iter().find(|l| l.name() == log)?;
        let mut id = [0; 16];
        if vault.len() != 32 {
            return None;
        }
        for (byte, pair) in id.iter_mut().zip(vault.as_bytes().chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        let origin = Self { vault: VaultId(id), log };
        (origin.to_string() == text).then_some(origin)
    }

    /// The vault's key under this name.
    pub fn key(&self, public: [u8; 32]) -> Result<VerifierKey, NoteError> {
        Ok(VerifierKey::new(KeyName::parse(&self.to_string())?, SignatureKind::Ed25519, public))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("lethe/")?;
        self.vault.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, "/{}", self.log.name())
    }
}

/// What a checkpoint says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    pub origin: Origin,
    pub size: u64,
    pub root: Digest32,
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", self.origin, self.size, STANDARD.encode(self.root))
    }
}

/// A decimal number without a sign and without zeros before it.
fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|n: &u64| n.to_string() == text)
}

fn hash(text: &str) -> Option<Digest32> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

impl Checkpoint {
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let mut lines = text.split('\n');
        let mut next = || lines.next().unwrap_or_default();
        let origin = Origin::parse(next()).ok_or(CheckpointError::Origin)?;
        let size = number(next()).ok_or(CheckpointError::Size)?;
        let root = hash(next()).ok_or(CheckpointError::Root)?;
        match (lines.next(), lines.next()) {
            (Some(""), None) => Ok(Self { origin, size, root }),
            _ => Err(CheckpointError::Lines),
        }
    }

    /// The checkpoint as a note, signed by the vault and then by these.
    pub fn sign(
        &self,
        signer: &Signer,
        cosignatures: impl IntoIterator<Item = NoteSignature>,
    ) -> Result<String, NoteError> {
        let (text, key) = (self.to_string(), self.origin.key(signer.public_key())?);
        let own = NoteSignature::of(&key, signer.sign(text.as_bytes()));
        let signatures = std::iter::once(own).chain(cosignatures).collect();
        Ok(Note::new(text, signatures).to_string())
    }

    /// The checkpoint in a note, if the vault with this key signed it.
    pub fn open(note: &str, public: [u8; 32]) -> Result<(Self, Note), CheckpointError> {
        let note = Note::parse(note)?;
        let found = Self::parse(note.text())?;
        note.verify(&found.origin.key(public)?)?;
        Ok((found, note))
    }
}

/// A proof that goes with a checkpoint, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProofFile {
    pub about: ProofOf,
    /// The entry itself; only a proof that the tree has it can carry it.
    pub extra: Option<Vec<u8>>,
    pub path: Vec<Digest32>,
    /// The signed checkpoint.
    pub checkpoint: String,
}

/// What a proof proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProofOf {
    /// That the tree has this entry: C2SP tlog-proof.
    Entry(u64),
    /// That the tree begins with the one of this size: the request of C2SP tlog-witness.
    Earlier(u64),
}

const PROOF: &str = "c2sp.org/tlog-proof@v1";

impl ProofFile {
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let (head, checkpoint) = text.split_once("\n\n").ok_or(CheckpointError::Proof)?;
        let mut lines = head.split('\n');
        let mut first = lines.next().unwrap_or_default();
        let mut extra = None;
        let about = match first.strip_prefix("old ") {
            Some(old) => number(old).map(ProofOf::Earlier),
            None => {
                if first != PROOF {
                    return Err(CheckpointError::Proof);
                }
                first = lines.next().unwrap_or_default();
                if let Some(text) = first.strip_prefix("extra ") {
                    extra = Some(STANDARD.decode(text).map_err(|_| CheckpointError::Proof)?);
                    first = lines.next().unwrap_or_default();
                }
                first.strip_prefix("index ").and_then(number).map(ProofOf::Entry)
            }
        };
        let about = about.ok_or(CheckpointError::Proof)?;
        let mut path = Vec::new();
        for line in lines {
            // No tree is as high.
            if path.len() > 64 {
                return Err(CheckpointError::Proof);
            }
            path.push(hash(line).ok_or(CheckpointError::Proof)?);
        }
        Ok(Self { about, extra, path, checkpoint: checkpoint.to_owned() })
    }
}

impl fmt::Display for ProofFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.about {
            ProofOf::Entry(index) => {
                writeln!(f, "{PROOF}")?;
                if let Some(extra) = &self.extra {
                    writeln!(f, "extra {}", STANDARD.encode(extra))?;
                }
                writeln!(f, "index {index}")?;
            }
            ProofOf::Earlier(old) => writeln!(f, "old {old}")?,
        }
        self.path.iter().try_for_each(|hash| writeln!(f, "{}", STANDARD.encode(hash)))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::labels;
    use crate::crypto::note::CosignerKey;

    const VAULT: VaultId = VaultId([0xab; 16]);

    fn checkpoint(log: Log, size: u64) -> Checkpoint {
        Checkpoint { origin: Origin { vault: VAULT, log }, size, root: [size as u8; 32] }
    }

    #[test]
    fn a_checkpoint_survives_its_text_and_only_that_parses() {
        let text = checkpoint(Log::Ledger, 300).to_string();
        assert_eq!(
            text,
            "lethe/abababababababababababababababab/ledger\n300\n\
             LCwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsLCw=\n"
        );
        assert_eq!(Checkpoint::parse(&text), Ok(checkpoint(Log::Ledger, 300)));
        for (from, to, why) in [
            ("lethe/", "Lethe/", CheckpointError::Origin),
            ("/ledger", "/store", CheckpointError::Origin),
            ("/abab", "/ABab", CheckpointError::Origin),
            ("/abab", "/ab", CheckpointError::Origin),
            ("/abab", "/+bab", CheckpointError::Origin),
            ("\n300\n", "\n0300\n", CheckpointError::Size),
            ("\n300\n", "\n+300\n", CheckpointError::Size),
            ("\n300\n", "\n\n", CheckpointError::Size),
            ("\n300\n", "\n18446744073709551616\n", CheckpointError::Size),
            ("LCw=", "LCx=", CheckpointError::Root),
            ("LCw=", "", CheckpointError::Root),
            ("LCw=\n", "LCw=", CheckpointError::Lines),
            ("LCw=\n", "LCw=\nmore\n", CheckpointError::Lines),
        ] {
            assert_eq!(Checkpoint::parse(&text.replace(from, to)), Err(why), "{from} {to}");
        }
    }

    #[test]
    fn a_note_holds_for_its_vault_and_log_only() {
        let signer = Signer::from_seed(&[3; 32]).unwrap();
        let other = Signer::from_seed(&[4; 32]).unwrap();
        let (one, public) = (checkpoint(Log::Audit, 7), signer.public_key());
        let (witness, _) = CosignerKey::generate(KeyName::parse("w").unwrap()).unwrap();
        let cosignature = witness.sign(&one.to_string(), 5);
        let note = one.sign(&signer, [cosignature]).unwrap();
        let (read, parsed) = Checkpoint::open(&note, public).unwrap();
        assert_eq!(read, one);
        assert!(parsed.verify(&witness.verifier()).is_ok());
        let foreign = Checkpoint::open(&note, other.public_key());
        assert_eq!(foreign.err(), Some(CheckpointError::Note(NoteError::Unsigned)));
        // The one log's signature under the other's name.
        let moved = note.replace("/audit\n", "/ledger\n");
        let moved = Checkpoint::open(&moved, public);
        assert_eq!(moved.err(), Some(CheckpointError::Note(NoteError::Unsigned)));
        let forged = note.replace("\n7\n", "\n8\n");
        let forged = Checkpoint::open(&forged, public);
        assert_eq!(forged.err(), Some(CheckpointError::Note(NoteError::Signature)));
    }

    /// A receipt or a head cannot be passed off as a checkpoint, nor the other way round.
    #[test]
    fn no_signed_form_begins_as_another_does() {
        let one = checkpoint(Log::Ledger, 1).to_string();
        for label in [labels::RECEIPT, labels::AUDIT_HEAD, labels::CERTIFICATE] {
            assert_eq!(label.first(), Some(&b'V'));
            assert!(!one.as_bytes().starts_with(label));
            let text = String::from_utf8([label, one.as_bytes()].concat()).unwrap();
            assert_eq!(Checkpoint::parse(&text), Err(CheckpointError::Origin));
        }
        assert!(one.starts_with("lethe/") && !one.starts_with("cosignature/"));
    }

    #[test]
    fn proofs_survive_their_files() {
        let note = checkpoint(Log::Ledger, 9).sign(&Signer::from_seed(&[3; 32]).unwrap(), []);
        let checkpoint = note.unwrap();
        for (about, extra, hashes) in [
            (ProofOf::Entry(0), Some(vec![1, 2]), 4),
            (ProofOf::Entry(5), None, 0),
            (ProofOf::Earlier(3), None, 2),
        ] {
            let path = vec![[5; 32]; hashes];
            let file = ProofFile { about, extra, path, checkpoint: checkpoint.clone() };
            let text = file.to_string();
            assert_eq!(ProofFile::parse(&text), Ok(file));
            for (from, to) in [
                ("index ", "index 0"),
                ("old ", "old +"),
                ("old ", "new "),
                ("@v1", "@v2"),
                ("BQU=\n", "BQU\n"),
                ("\n\n", "\n"),
            ] {
                let bad = text.replace(from, to);
                assert!(bad == text || ProofFile::parse(&bad) != ProofFile::parse(&text), "{from}");
            }
        }
        let long = format!(
            "old 1\n{}\n{checkpoint}",
            format!("{}\n", STANDARD.encode([0; 32])).repeat(66)
        );
        assert_eq!(ProofFile::parse(&long), Err(CheckpointError::Proof));
    }
}

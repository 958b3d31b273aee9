//! The file that `witness.keys` names: whose cosignatures of checkpoints the vault keeps.
//!
//! Guarantees: one key a line, `NAME+HASH+KEY` as `lethectl log witness-key` prints it; empty lines and lines that
//! begin with `#` are passed over; all else refuses the file, by the number of its line. Read when the vault starts.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::{Config, ServerError};
use crate::crypto::note::{NoteError, SignatureKind, VerifierKey};
use crate::limits::{CONFIG_BYTES_MAX, WITNESSES_MAX};

/// Why the file is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WitnessProblem {
    #[error("line {line}: {problem}")]
    Key { line: usize, problem: NoteError },
    #[error("line {0}: it is no key of a witness, but one that signs notes as such")]
    Kind(usize),
    #[error("line {0}: an earlier line has this name or this key")]
    Twice(usize),
    #[error("more than {WITNESSES_MAX} keys")]
    TooMany,
    #[error("is no text of at most {CONFIG_BYTES_MAX} bytes")]
    Text,
}

/// The witnesses of a configuration; none if it names no file.
pub fn of(config: &Config) -> Result<Vec<VerifierKey>, ServerError> {
    config.witnesses.as_deref().map(read).transpose().map(Option::unwrap_or_default)
}

pub fn read(path: &Path) -> Result<Vec<VerifierKey>, ServerError> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(ServerError::io(path))?;
    file.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(ServerError::io(path))?;
    let text = String::from_utf8(bytes).ok().filter(|t| t.len() as u64 <= CONFIG_BYTES_MAX);
    text.ok_or(WitnessProblem::Text)
        .and_then(|text| parse(&text))
        .map_err(|problem| ServerError::Witnesses { path: path.display().to_string(), problem })
}

fn parse(text: &str) -> Result<Vec<VerifierKey>, WitnessProblem> {
    let mut found: Vec<VerifierKey> = Vec::new();
    for (line, text) in (1..).zip(text.lines().map(str::trim)) {
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let key =
            VerifierKey::parse(text).map_err(|problem| WitnessProblem::Key { line, problem })?;
        if key.kind() != SignatureKind::Cosignature {
            return Err(WitnessProblem::Kind(line));
        }
        // A key under two names would be one witness that counts twice.
        if found.iter().any(|k| k.name() == key.name() || k.public() == key.public()) {
            return Err(WitnessProblem::Twice(line));
        }
        if found.len() == WITNESSES_MAX {
            return Err(WitnessProblem::TooMany);
        }
        found.push(key);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::note::KeyName;

    fn key(name: &str, n: u8) -> VerifierKey {
        VerifierKey::new(KeyName::parse(name).unwrap(), SignatureKind::Cosignature, [n; 32])
    }

    #[test]
    fn keys_are_read_line_by_line_and_what_does_not_fit_is_named_by_its_line() {
        let (a, b) = (key("a", 1), key("b", 2));
        assert_eq!(parse(&format!("# who\n\n{a}\n  {b}  \n")), Ok(vec![a.clone(), b.clone()]));
        assert_eq!(parse(""), Ok(vec![]));
        let plain = VerifierKey::new(a.name().clone(), SignatureKind::Ed25519, [3; 32]);
        let same_key = key("c", 1);
        for (text, problem) in [
            (format!("{a}\nnonsense"), WitnessProblem::Key { line: 2, problem: NoteError::Key }),
            (format!("{a}\n{plain}"), WitnessProblem::Kind(2)),
            (format!("{a}\n{b}\n{a}"), WitnessProblem::Twice(3)),
            (format!("{a}\n{same_key}"), WitnessProblem::Twice(2)),
        ] {
            assert_eq!(parse(&text), Err(problem));
        }
        let many = |n: u8| (0..n).map(|n| format!("{}\n", key(&format!("w{n}"), n))).collect();
        let most: String = many(WITNESSES_MAX as u8);
        assert_eq!(parse(&most).map(|k| k.len()), Ok(WITNESSES_MAX));
        let more: String = many(WITNESSES_MAX as u8 + 1);
        assert_eq!(parse(&more), Err(WitnessProblem::TooMany));
    }
}

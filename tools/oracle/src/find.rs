//! Looks for plaintext in clear: as it is, in hexadecimal, in base64 and in UTF-16.

use crate::encoding::{base64, hex};
use aho_corasick::{AhoCorasick, MatchKind};
use std::collections::BTreeMap;

/// Where a needle was first seen in one encoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    pub source: String,
    pub offset: u64,
}

/// A set of needles in all their encodings.
pub struct Finder {
    needles: Vec<String>,
    variants: Vec<(usize, &'static str)>,
    automaton: AhoCorasick,
    longest: usize,
}

/// First sightings by (needle, encoding).
pub type Sightings = BTreeMap<(usize, &'static str), Sighting>;

impl Finder {
    /// Fails if a needle is empty or the patterns exceed the automaton's limits.
    pub fn new(needles: &[String]) -> Result<Self, String> {
        if needles.iter().any(String::is_empty) {
            return Err("--find: text is empty".into());
        }
        let (mut variants, mut patterns) = (Vec::new(), Vec::new());
        for (i, needle) in needles.iter().enumerate() {
            for (encoding, pattern) in encodings(needle) {
                variants.push((i, encoding));
                patterns.push(pattern);
            }
        }
        let longest = patterns.iter().map(Vec::len).max().unwrap_or(0);
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .build(&patterns)
            .map_err(|e| format!("--find: {e}"))?;
        Ok(Finder { needles: needles.to_vec(), variants, automaton, longest })
    }

    pub fn needles(&self) -> &[String] {
        &self.needles
    }

    /// Bytes that a window must share with its neighbours so that nothing is cut in two.
    pub fn margin(&self) -> usize {
        self.longest.saturating_sub(1)
    }

    /// Notes what `bytes`, which start at `offset` of `source`, show.
    pub fn search(&self, source: &str, offset: u64, bytes: &[u8], seen: &mut Sightings) {
        if self.longest == 0 {
            return;
        }
        for hit in self.automaton.find_overlapping_iter(bytes) {
            let Some(variant) = self.variants.get(hit.pattern().as_usize()) else {
                continue;
            };
            seen.entry(*variant).or_insert_with(|| Sighting {
                source: source.to_owned(),
                offset: offset + hit.start() as u64,
            });
        }
    }

    /// The indices of the needles that occur in `bytes`, in any encoding.
    pub fn occurs(&self, bytes: &[u8]) -> Vec<usize> {
        let mut seen = Sightings::new();
        self.search("", 0, bytes, &mut seen);
        let mut found: Vec<usize> = seen.keys().map(|(needle, _)| *needle).collect();
        found.dedup();
        found
    }
}

fn encodings(needle: &str) -> Vec<(&'static str, Vec<u8>)> {
    let raw = needle.as_bytes();
    let wide = |f: fn(u16) -> [u8; 2]| needle.encode_utf16().flat_map(f).collect::<Vec<u8>>();
    let lower = hex(raw);
    let mut all = vec![
        ("raw", raw.to_vec()),
        ("hex", lower.to_uppercase().into_bytes()),
        ("hex", lower.into_bytes()),
        ("utf16le", wide(u16::to_le_bytes)),
        ("utf16be", wide(u16::to_be_bytes)),
    ];
    for shift in 0..3 {
        let core = base64_core(raw, shift);
        // Fewer characters than these say too little to be a find.
        if core.len() >= 6 {
            all.push(("base64", core.replace('+', "-").replace('/', "_").into_bytes()));
            all.push(("base64", core.into_bytes()));
        }
    }
    all
}

/// The base64 characters that depend on `raw` alone when `shift` bytes precede it in its group.
fn base64_core(raw: &[u8], shift: usize) -> String {
    let mut padded = vec![0; shift];
    padded.extend_from_slice(raw);
    let first = (shift * 8).div_ceil(6);
    let end = padded.len() * 8 / 6;
    base64(&padded).get(first..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen_in(bytes: &[u8]) -> Vec<&'static str> {
        let finder = Finder::new(&["Grüße+2026".to_owned()]).unwrap();
        let mut seen = Sightings::new();
        finder.search("x", 0, bytes, &mut seen);
        seen.keys().map(|(_, e)| *e).collect()
    }

    #[test]
    fn every_encoding_is_seen_at_every_alignment() {
        let needle = "Grüße+2026";
        assert_eq!(seen_in(needle.as_bytes()), ["raw"]);
        assert_eq!(seen_in(hex(needle.as_bytes()).as_bytes()), ["hex"]);
        assert_eq!(seen_in(hex(needle.as_bytes()).to_uppercase().as_bytes()), ["hex"]);
        for (before, after) in [("", ""), ("a", "b"), ("ab", "cde"), ("abc", "\u{7f}")] {
            let text = base64(format!("{before}{needle}{after}").as_bytes());
            assert_eq!(seen_in(text.as_bytes()), ["base64"], "{before}");
            assert_eq!(seen_in(text.replace('+', "-").replace('/', "_").as_bytes()), ["base64"]);
        }
        let wide: Vec<u8> = needle.encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(seen_in(&wide), ["utf16le"]);
        assert!(seen_in(b"Gr\xc3\xbc\xc3\x9fe+2025").is_empty());
    }

    #[test]
    fn overlapping_needles_are_all_seen() {
        let finder = Finder::new(&["abcd".to_owned(), "bc".to_owned(), "zz".to_owned()]).unwrap();
        assert_eq!(finder.occurs(b"xxabcdxx"), [0, 1]);
        assert!(Finder::new(&[String::new()]).is_err());
    }
}

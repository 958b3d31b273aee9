//! Every key of the configuration but the identities: the one table that the file, the environment, the flags, `config
//! show` and `config schema` go by.
//!
//! To add a key: a line in [`KEYS`], its use where a [`super::Config`] is put together, keys-example/lethed.toml and
//! docs/OPERATING.md. Tests compare them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::limits;

/// What a key holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Address and port.
    Address,
    Path,
    Word,
    Choice(&'static [&'static str]),
    /// From 1 to this.
    Whole(u64),
}

/// What holds where a key is not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// There is no vault without it.
    Refused,
    Word(&'static str),
    Whole(u64),
    /// Something that depends on other keys, or nothing; told in these words.
    Otherwise(&'static str),
}

/// One key.
#[derive(Debug)]
pub struct Key {
    /// As in TOML: `section.key`, or the key alone.
    pub name: &'static str,
    pub kind: Kind,
    pub absent: Absent,
    /// For the schema.
    pub about: &'static str,
}

/// A value of its kind. A path is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Address(SocketAddr),
    Path(PathBuf),
    Word(String),
    Whole(u64),
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(addr) => write!(f, "{addr}"),
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Word(word) => f.write_str(word),
            Self::Whole(n) => write!(f, "{n}"),
        }
    }
}

const fn key(name: &'static str, kind: Kind, absent: Absent, about: &'static str) -> Key {
    Key { name, kind, absent, about }
}

const fn whole(name: &'static str, default: u64, max: u64, about: &'static str) -> Key {
    key(name, Kind::Whole(max), Absent::Whole(default), about)
}

const NONE: Absent = Absent::Otherwise("none");

pub const KEYS: &[Key] = &[
    key("listen", Kind::Address, Absent::Refused, "Address and port of the one listener."),
    key("data", Kind::Path, Absent::Refused, "Folder of the vault's files."),
    key(
        "store.engine",
        Kind::Choice(&["redb", "sled", "memory"]),
        Absent::Word("redb"),
        "Where rows are kept; of memory nothing survives a restart.",
    ),
    key("kek.file", Kind::Path, NONE, "File of the key-encryption key."),
    key("kek.credential", Kind::Word, NONE, "Or the name of a systemd credential."),
    key(
        "anchor.path",
        Kind::Path,
        Absent::Otherwise("`anchor` in `data`"),
        "The file that holds the root key; out of every backup.",
    ),
    key(
        "anchor.require",
        Kind::Choice(&["e1", "any"]),
        Absent::Word("e1"),
        "The level that the anchor's medium must reach for the vault to start.",
    ),
    key("tls.cert", Kind::Path, Absent::Refused, "The server's certificate, PEM."),
    key("tls.key", Kind::Path, Absent::Refused, "Its key, PEM."),
    key("tls.client_ca", Kind::Path, Absent::Refused, "The callers' authorities, PEM."),
    key("tls.crl", Kind::Path, NONE, "Their revocation lists: a file or a folder."),
    key("tls.trust_domain", Kind::Word, Absent::Refused, "Callers are spiffe://TRUST_DOMAIN/PATH."),
    key(
        "audit.reads",
        Kind::Choice(&["group", "sync"]),
        Absent::Word("group"),
        "Whether a read is answered once the audit log has a place for its entry, or once that is on disk.",
    ),
    key(
        "audit.retain",
        Kind::Word,
        Absent::Otherwise("for ever"),
        "How long entries of the audit log stay: an ISO 8601 duration such as P2Y, at least 30 days.",
    ),
    whole(
        "retention.sweep_interval_secs",
        limits::SWEEP_INTERVAL.as_secs(),
        limits::SWEEP_INTERVAL_MAX.as_secs(),
        "Seconds between two looks at what is due; nothing that is due goes later than that.",
    ),
    whole(
        "retention.close_before_secs",
        limits::CLOSE_BEFORE.as_secs(),
        limits::CLOSE_BEFORE_MAX.as_secs(),
        "Seconds before the end of its day at which a bucket takes no more records and is listed.",
    ),
    whole(
        "retention.clock_gap_secs",
        limits::CLOCK_GAP.as_secs(),
        limits::CLOCK_GAP_MAX.as_secs(),
        "Seconds that the machine may have been off without anyone confirming its clock.",
    ),
    key(
        "policy.file",
        Kind::Path,
        Absent::Otherwise("the roles that come with the vault"),
        "What each role may do, in Cedar.",
    ),
    key(
        "witness.keys",
        Kind::Path,
        NONE,
        "Keys of the witnesses whose cosignatures of checkpoints are kept, one a line.",
    ),
    whole(
        "limits.connections",
        limits::CONNECTIONS_MAX as u64,
        limits::CONNECTIONS_MAX as u64,
        "Connections at once.",
    ),
    whole(
        "limits.identity_connections",
        limits::IDENTITY_CONNECTIONS as u64,
        limits::CONNECTIONS_MAX as u64,
        "Connections of one identity at once.",
    ),
    whole(
        "limits.connection_age_secs",
        limits::CONNECTION_AGE.as_secs(),
        limits::CONNECTION_AGE_MAX.as_secs(),
        "Seconds after which a connection is asked to end.",
    ),
    whole(
        "limits.calls_per_second",
        limits::CALLS_PER_SECOND as u64,
        limits::CALLS_MAX as u64,
        "Calls of one identity in a second.",
    ),
    whole(
        "limits.calls_burst",
        limits::CALLS_BURST as u64,
        limits::CALLS_MAX as u64,
        "Calls that one identity may make at once after a rest.",
    ),
    whole(
        "limits.handshake_secs",
        limits::HANDSHAKE_MAX.as_secs(),
        limits::HANDSHAKE_MAX.as_secs(),
        "Seconds that a TLS handshake may take.",
    ),
    whole(
        "limits.deadline_secs",
        limits::DEADLINE_MAX.as_secs(),
        limits::DEADLINE_MAX.as_secs(),
        "Seconds that a call may take.",
    ),
    whole(
        "limits.shutdown_secs",
        limits::SHUTDOWN_MAX.as_secs(),
        limits::SHUTDOWN_MAX.as_secs(),
        "Seconds that calls may go on after SIGTERM.",
    ),
    key("metrics.socket", Kind::Path, NONE, "Unix socket of metrics and probes."),
    key(
        "log.format",
        Kind::Choice(&["text", "json"]),
        Absent::Word("text"),
        "How lines on standard error look.",
    ),
    key(
        "log.level",
        Kind::Choice(&["error", "warn", "info", "debug"]),
        Absent::Word("info"),
        "The least that is told; debug has a line for each call.",
    ),
];

/// What stands in a source, before it is known to fit.
pub enum Said<'a> {
    Text(&'a str),
    /// A whole number of TOML.
    Whole(u64),
    /// Anything else that TOML has.
    Other,
}

impl Key {
    pub fn find(name: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.name == name)
    }

    /// `None` for a key outside any section.
    pub fn section(&self) -> Option<&'static str> {
        self.name.split_once('.').map(|(section, _)| section)
    }

    /// The name of its variable.
    pub fn variable(&self) -> String {
        format!("LETHE_{}", self.name.replace('.', "_").to_ascii_uppercase())
    }

    /// The value, if it fits; relative paths start from `base`.
    pub fn read(&self, said: &Said<'_>, base: &Path) -> Option<Value> {
        match (self.kind, said) {
            (Kind::Address, Said::Text(text)) => text.parse().ok().map(Value::Address),
            (Kind::Path, Said::Text(text)) => {
                (!text.is_empty()).then(|| Value::Path(base.join(text)))
            }
            (Kind::Word, Said::Text(text)) => {
                (!text.is_empty()).then(|| Value::Word((*text).to_owned()))
            }
            (Kind::Choice(all), Said::Text(text)) => {
                all.contains(text).then(|| Value::Word((*text).to_owned()))
            }
            (Kind::Whole(max), Said::Whole(n)) => (1..=max).contains(n).then_some(Value::Whole(*n)),
            _ => None,
        }
    }

    /// For people: what [`Key::read`] takes.
    pub fn expected(&self) -> String {
        match self.kind {
            Kind::Address => "expected an address and port, as 127.0.0.1:7443".to_owned(),
            Kind::Path => "expected a path in quotes".to_owned(),
            Kind::Word => "expected text".to_owned(),
            Kind::Choice(all) => format!("expected one of {}", all.join(", ")),
            Kind::Whole(max) => format!("expected a whole number from 1 to {max}"),
        }
    }
}

/// Names of keys that `wrong` may have meant, nearest first.
pub fn nearest(wrong: &str, most: usize) -> Vec<&'static str> {
    let mut near: Vec<_> = KEYS
        .iter()
        .map(|key| {
            let last = key.name.rsplit('.').next().unwrap_or(key.name);
            (distance(wrong, key.name).min(distance(wrong, last)), key.name)
        })
        .filter(|(far, _)| *far <= most)
        .collect();
    near.sort_unstable();
    near.truncate(3);
    near.into_iter().map(|(_, name)| name).collect()
}

/// Letters to add, take away or change (Levenshtein). What is far too long to be meant is as far as can be.
fn distance(a: &str, b: &str) -> usize {
    if a.len() > 64 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut left = i + 1;
        let mut corner = i;
        for (y, cell) in b.bytes().zip(row.iter_mut().skip(1)) {
            let above = *cell;
            let best = (above + 1).min(left + 1).min(corner + usize::from(x != y));
            (corner, left, *cell) = (above, best, best);
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_by_those_that_are_near() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!((distance("", "abc"), distance("abc", ""), distance("a", "a")), (3, 3, 0));
        assert_eq!(nearest("listn", 2), ["listen"]);
        assert_eq!(nearest("limits.conections", 2), ["limits.connections"]);
        assert_eq!(nearest("trust_domian", 2), ["tls.trust_domain"]);
        assert_eq!(nearest("nonsense", 2), [] as [&str; 0]);
    }

    #[test]
    fn the_example_and_the_handbook_have_every_key_and_no_other() {
        let example = include_str!("../../../keys-example/lethed.toml");
        let mut section = "";
        let mut shown = Vec::new();
        for line in example.lines().take_while(|line| *line != "[[identity]]") {
            if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
                section = name;
            }
            let line = line.strip_prefix("# ").unwrap_or(line);
            let Some((name, _)) = line.split_once(" = ") else { continue };
            if name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
                let dot = if section.is_empty() { "" } else { "." };
                shown.push(format!("{section}{dot}{name}"));
            }
        }
        shown.sort_unstable();
        let mut names: Vec<_> = KEYS.iter().map(|key| key.name).collect();
        names.sort_unstable();
        assert_eq!(shown, names, "keys-example/lethed.toml");
        let handbook = include_str!("../../../docs/OPERATING.md");
        for name in names {
            assert!(handbook.contains(&format!("`{name}`")), "docs/OPERATING.md lacks {name}");
        }
    }

    #[test]
    fn what_holds_by_default_fits_its_key() {
        for key in KEYS {
            let said = match key.absent {
                Absent::Word(word) => Said::Text(word),
                Absent::Whole(n) => Said::Whole(n),
                Absent::Refused | Absent::Otherwise(_) => continue,
            };
            assert!(key.read(&said, Path::new("")).is_some(), "{}", key.name);
            assert!(key.read(&Said::Other, Path::new("")).is_none(), "{}", key.name);
            assert!(key.read(&Said::Text("?"), Path::new("")).is_none(), "{}", key.name);
            assert!(key.read(&Said::Whole(0), Path::new("")).is_none(), "{}", key.name);
        }
    }
}

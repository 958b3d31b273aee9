//! Plaintexts of the key tree: paths, directory ranges, and the bodies of nodes.
//!
//! Bodies are read leniently (an attacker takes what is there); what deviates from the format is
//! handed back as a warning, so that the same run also checks that the writer keeps to its page.

use crate::crypto::Key;
use crate::encoding::Cursor;
use crate::format::{Kid, PathBytes};

pub const ROOT: u8 = 1;
pub const TENANT: u8 = 3;
pub const BUCKET: u8 = 5;
pub const PAGE: u8 = 7;
pub const INDEX: u8 = 8;
pub const RUN: u8 = 10;
pub const LEAF: u8 = 12;
/// Level of the entry under which a BUCKET names its INDEX.
const INDEX_LEVEL: u8 = 255;

/// Names of the node kinds, by number.
pub fn kind_name(kind: u8) -> &'static str {
    const NAMES: [&str; 13] = [
        "?",
        "root",
        "tenant_dir",
        "tenant",
        "bucket_dir",
        "bucket",
        "page_dir",
        "page",
        "index",
        "run_dir",
        "run",
        "leaf_dir",
        "leaf",
    ];
    NAMES.get(usize::from(kind)).copied().unwrap_or("?")
}

/// A decoded path (FORMAT section 4.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Path {
    pub kind: u8,
    pub tenant: u32,
    pub bucket: u32,
    pub run: u32,
    pub level: u8,
    pub ord: u32,
}

impl Path {
    pub const ROOT: Path = Path {
        kind: ROOT,
        tenant: 0,
        bucket: 0,
        run: 0,
        level: 0,
        ord: 0,
    };

    pub fn parse(bytes: &PathBytes) -> Option<Self> {
        let mut c = Cursor(bytes);
        let (kind, tenant, bucket, run) = (c.u8()?, c.u24()?, c.u24()?, c.u24()?);
        Some(Path {
            kind,
            tenant,
            bucket,
            run,
            level: c.u8()?,
            ord: c.u24()?,
        })
    }

    pub fn bytes(&self) -> PathBytes {
        let [_, t0, t1, t2] = self.tenant.to_be_bytes();
        let [_, b0, b1, b2] = self.bucket.to_be_bytes();
        let [_, r0, r1, r2] = self.run.to_be_bytes();
        let [_, o0, o1, o2] = self.ord.to_be_bytes();
        [
            self.kind, t0, t1, t2, b0, b1, b2, r0, r1, r2, self.level, o0, o1, o2,
        ]
    }

    /// Kinds of the children and of the directory nodes that lead to them, if this is a directory.
    fn directory_kinds(&self) -> Option<(u8, u8)> {
        match self.kind {
            ROOT | 2 => Some((TENANT, 2)),
            TENANT | 4 => Some((BUCKET, 4)),
            BUCKET | 6 => Some((PAGE, 6)),
            INDEX | 9 => Some((RUN, 9)),
            RUN | 11 => Some((LEAF, 11)),
            _ => None,
        }
    }

    fn is_directory_node(&self) -> bool {
        matches!(self.kind, 2 | 4 | 6 | 9 | 11)
    }

    /// Path of the child that an entry `(level, ord)` of this node names.
    fn child(&self, level: u8, ord: u32) -> Option<Path> {
        if level == INDEX_LEVEL && self.kind == BUCKET {
            return Some(Path {
                kind: INDEX,
                ..self.family()
            });
        }
        let (child, directory) = self.directory_kinds()?;
        let family = self.family();
        Some(match (level, child) {
            (0, TENANT) => Path {
                kind: child,
                tenant: ord,
                ..family
            },
            (0, BUCKET) => Path {
                kind: child,
                bucket: ord,
                ..family
            },
            (0, RUN) => Path {
                kind: child,
                run: ord,
                ..family
            },
            (0, _) => Path {
                kind: child,
                ord,
                ..family
            },
            (1..=3, _) => Path {
                kind: directory,
                level,
                ord,
                ..family
            },
            _ => return None,
        })
    }

    /// The ordinals that a node hands down to its children.
    fn family(&self) -> Path {
        Path {
            level: 0,
            ord: 0,
            ..*self
        }
    }

    /// The slot `slot` of this PAGE.
    pub fn kid(&self, slot: u8) -> Kid {
        kid(self.tenant, self.bucket, self.ord, slot)
    }
}

/// A kid from its ordinals.
pub fn kid(tenant: u32, bucket: u32, page: u32, slot: u8) -> Kid {
    let [_, t0, t1, t2] = tenant.to_be_bytes();
    let [_, b0, b1, b2] = bucket.to_be_bytes();
    let [_, p0, p1, p2] = page.to_be_bytes();
    [t0, t1, t2, b0, b1, b2, p0, p1, p2, slot]
}

/// Tenant ordinal of a kid.
pub fn kid_tenant(kid: &Kid) -> u32 {
    let [a, b, c, ..] = *kid;
    u32::from_be_bytes([0, a, b, c])
}

/// The directory nodes `(level, ord)` between an owner and its child `n`, from the owner down.
pub fn route(n: u32) -> Vec<(u8, u32)> {
    let (start, top) = match n {
        0..64 => return Vec::new(),
        64..2_112 => (64, 1),
        2_112..133_184 => (2_112, 2),
        _ => (133_184, 3),
    };
    let within = |span: u32| start + (n - start) / span * span;
    [(3, 262_144), (2, 4_096), (1, 64)]
        .into_iter()
        .filter(|(level, _)| *level <= top)
        .map(|(level, span)| (level, within(span)))
        .collect()
}

/// What an opened node gives away.
#[derive(Default)]
pub struct Opened {
    /// Keys of children: path, the version the entry names, key.
    pub children: Vec<(Path, u64, Key)>,
    /// PAGE: DEK of every slot.
    pub deks: Vec<(Kid, Key)>,
    /// LEAF: token and kid of every index entry.
    pub index: Vec<([u8; 16], Kid)>,
    pub head: Head,
    /// Where the body departs from the format.
    pub warnings: Vec<String>,
}

/// Secrets and parameters in a node's head.
#[derive(Default)]
pub enum Head {
    #[default]
    Empty,
    Root {
        signing_seed: Key,
    },
    Tenant {
        k_meta: Key,
        k_idx: Key,
        pseudonym: [u8; 16],
    },
    Bucket {
        type_: u16,
        expire_day: i32,
    },
    Run {
        bits: u8,
        entries: u32,
    },
}

/// Reads the body of an opened node.
pub fn read_body(path: &Path, aux: Option<(u8, [u8; 16])>, body: &[u8]) -> Opened {
    let mut out = Opened::default();
    let rest = match path.kind {
        PAGE => read_page(path, aux, body, &mut out),
        LEAF => read_leaf(path, body, &mut out),
        _ => read_directory(path, body, &mut out),
    };
    match rest {
        Some([]) => {}
        Some(_) => out.warnings.push("bytes after the end of the body".into()),
        None => out.warnings.push("body ends early".into()),
    }
    out
}

fn read_page<'a>(
    path: &Path,
    aux: Option<(u8, [u8; 16])>,
    body: &'a [u8],
    out: &mut Opened,
) -> Option<&'a [u8]> {
    let (deks, rest) = body.as_chunks::<32>();
    let (slots, dead) = aux.unwrap_or_default();
    if usize::from(slots) != deks.len() {
        out.warnings
            .push(format!("page says {slots} slots and has {}", deks.len()));
    }
    for (slot, dek) in (0u8..=255).zip(deks) {
        let bit = dead
            .get(usize::from(slot / 8))
            .is_some_and(|byte| byte >> (slot % 8) & 1 == 1);
        if bit != (*dek == [0; 32]) {
            out.warnings
                .push(format!("slot {slot}: dead bit {bit} does not fit the key"));
        }
        out.deks.push((path.kid(slot), *dek));
    }
    Some(rest)
}

fn read_leaf<'a>(path: &Path, body: &'a [u8], out: &mut Opened) -> Option<&'a [u8]> {
    let mut c = Cursor(body);
    let mut before = None;
    for _ in 0..c.u16()? {
        let token: [u8; 16] = c.array()?;
        let kid = kid(path.tenant, path.bucket, c.u24()?, c.u8()?);
        if before
            .replace((token, kid))
            .is_some_and(|b| b > (token, kid))
        {
            out.warnings.push("index entries are not sorted".into());
        }
        out.index.push((token, kid));
    }
    Some(c.0)
}

fn read_directory<'a>(path: &Path, body: &'a [u8], out: &mut Opened) -> Option<&'a [u8]> {
    let mut c = Cursor(body);
    let head_len = c.u16()?;
    let head = c.take(usize::from(head_len))?;
    match read_head(path.kind, head) {
        Some(head) => out.head = head,
        None => out.warnings.push(format!("head of {} bytes", head.len())),
    }
    let mut before = None;
    for _ in 0..c.u16()? {
        let (level, ord, ver, key) = (c.u8()?, c.u24()?, c.u64()?, c.array()?);
        if before
            .replace((level, ord))
            .is_some_and(|b| b >= (level, ord))
        {
            out.warnings.push("entries are not sorted".into());
        }
        if !placed(path, level, ord) {
            out.warnings.push(format!(
                "entry (level {level}, ord {ord}) does not belong here"
            ));
        }
        // A misplaced entry is still a key that an attacker has.
        out.children
            .extend(path.child(level, ord).map(|child| (child, ver, key)));
    }
    Some(c.0)
}

/// Whether an entry may stand in this node, by the ranges of section 4.1.
fn placed(path: &Path, level: u8, ord: u32) -> bool {
    if level == INDEX_LEVEL {
        return path.kind == BUCKET && ord == 0;
    }
    let mut above = route(ord);
    if level > 0 {
        if above.last().is_none() || !above.contains(&(level, ord)) {
            return false;
        }
        above.retain(|(l, _)| *l > level);
    }
    match (path.is_directory_node(), above.last()) {
        (true, parent) => parent == Some(&(path.level, path.ord)),
        (false, parent) => parent.is_none(),
    }
}

fn read_head(kind: u8, head: &[u8]) -> Option<Head> {
    let mut c = Cursor(head);
    let read = match kind {
        ROOT => Head::Root {
            signing_seed: c.array()?,
        },
        TENANT => Head::Tenant {
            k_meta: c.array()?,
            k_idx: c.array()?,
            pseudonym: c.array()?,
        },
        BUCKET => {
            let (type_, expire_day) = (c.u16()?, c.i32()?);
            c.take(6)?;
            Head::Bucket { type_, expire_day }
        }
        RUN => Head::Run {
            bits: c.u8()?,
            entries: c.u32()?,
        },
        _ => Head::Empty,
    };
    c.0.is_empty().then_some(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_at_the_edges_of_the_ranges() {
        assert_eq!(route(0), []);
        assert_eq!(route(63), []);
        assert_eq!(route(64), [(1, 64)]);
        assert_eq!(route(127), [(1, 64)]);
        assert_eq!(route(128), [(1, 128)]);
        assert_eq!(route(2_111), [(1, 2_048)]);
        assert_eq!(route(2_112), [(2, 2_112), (1, 2_112)]);
        assert_eq!(route(133_183), [(2, 129_088), (1, 133_120)]);
        assert_eq!(route(133_184), [(3, 133_184), (2, 133_184), (1, 133_184)]);
        assert_eq!(
            route(133_184 + 262_144 + 4_096 + 64),
            [(3, 395_328), (2, 399_424), (1, 399_488)]
        );
    }

    #[test]
    fn placement_follows_the_route() {
        let root = Path::ROOT;
        let dir = |level, ord| Path {
            kind: 2,
            level,
            ord,
            ..Path::ROOT
        };
        assert!(placed(&root, 0, 63) && !placed(&root, 0, 64));
        assert!(placed(&root, 1, 64) && !placed(&root, 1, 65) && !placed(&root, 1, 2_112));
        assert!(placed(&root, 2, 2_112) && placed(&root, 3, 133_184));
        assert!(placed(&dir(2, 2_112), 1, 2_112) && !placed(&dir(2, 2_112), 0, 2_112));
        assert!(placed(&dir(1, 2_112), 0, 2_112) && !placed(&dir(1, 2_112), 0, 64));
    }

    #[test]
    fn paths_round_trip() {
        let path = Path {
            kind: 11,
            tenant: 1,
            bucket: 0x010203,
            run: 5,
            level: 2,
            ord: 2_112,
        };
        assert_eq!(Path::parse(&path.bytes()), Some(path));
    }
}

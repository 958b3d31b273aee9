//! Paths of the key tree: which node an entry names, and where a node may stand (FORMAT section 4.1).

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
    pub const ROOT: Path = Path { kind: ROOT, tenant: 0, bucket: 0, run: 0, level: 0, ord: 0 };

    pub fn parse(bytes: &PathBytes) -> Option<Self> {
        let mut c = Cursor(bytes);
        let (kind, tenant, bucket, run) = (c.u8()?, c.u24()?, c.u24()?, c.u24()?);
        Some(Path { kind, tenant, bucket, run, level: c.u8()?, ord: c.u24()? })
    }

    pub fn bytes(&self) -> PathBytes {
        let [_, t0, t1, t2] = self.tenant.to_be_bytes();
        let [_, b0, b1, b2] = self.bucket.to_be_bytes();
        let [_, r0, r1, r2] = self.run.to_be_bytes();
        let [_, o0, o1, o2] = self.ord.to_be_bytes();
        [self.kind, t0, t1, t2, b0, b1, b2, r0, r1, r2, self.level, o0, o1, o2]
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
    pub fn child(&self, level: u8, ord: u32) -> Option<Path> {
        if level == INDEX_LEVEL && self.kind == BUCKET {
            return Some(Path { kind: INDEX, ..self.family() });
        }
        let (child, directory) = self.directory_kinds()?;
        let family = self.family();
        Some(match (level, child) {
            (0, TENANT) => Path { kind: child, tenant: ord, ..family },
            (0, BUCKET) => Path { kind: child, bucket: ord, ..family },
            (0, RUN) => Path { kind: child, run: ord, ..family },
            (0, _) => Path { kind: child, ord, ..family },
            (1..=3, _) => Path { kind: directory, level, ord, ..family },
            _ => return None,
        })
    }

    /// The ordinals that a node hands down to its children.
    fn family(&self) -> Path {
        Path { level: 0, ord: 0, ..*self }
    }

    /// Whether the keys in this node lead to the DEK of `kid`.
    pub fn leads_to(&self, kid: &Kid) -> bool {
        let mut c = Cursor(kid);
        let (Some(tenant), Some(bucket), Some(page)) = (c.u24(), c.u24(), c.u24()) else {
            return false;
        };
        match self.kind {
            ROOT | 2 => true,
            TENANT | 4 => self.tenant == tenant,
            BUCKET | 6 => (self.tenant, self.bucket) == (tenant, bucket),
            PAGE => (self.tenant, self.bucket, self.ord) == (tenant, bucket, page),
            _ => false,
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

/// Whether an entry may stand in this node, by the ranges of section 4.1.
pub fn placed(path: &Path, level: u8, ord: u32) -> bool {
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
        let dir = |level, ord| Path { kind: 2, level, ord, ..Path::ROOT };
        assert!(placed(&root, 0, 63) && !placed(&root, 0, 64));
        assert!(placed(&root, 1, 64) && !placed(&root, 1, 65) && !placed(&root, 1, 2_112));
        assert!(placed(&root, 2, 2_112) && placed(&root, 3, 133_184));
        assert!(placed(&dir(2, 2_112), 1, 2_112) && !placed(&dir(2, 2_112), 0, 2_112));
        assert!(placed(&dir(1, 2_112), 0, 2_112) && !placed(&dir(1, 2_112), 0, 64));
    }

    #[test]
    fn paths_round_trip() {
        let path = Path { kind: 11, tenant: 1, bucket: 0x010203, run: 5, level: 2, ord: 2_112 };
        assert_eq!(Path::parse(&path.bytes()), Some(path));
    }
}

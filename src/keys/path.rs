//! Where a node hangs in the key tree (docs/FORMAT.md §4.1), and how a directory grows.
//!
//! Invariant: a directory never moves a child when it grows, so growth removes no key from any node.

use std::hash::{Hash, Hasher};

use crate::id::{BucketOrd, Kid, PageOrd, RunOrd, TenantOrd};

/// Children in the owner itself.
const DIRECT: u32 = 64;
/// Children below one directory node.
const FANOUT: u32 = 64;
/// First ordinal below level-2 nodes, and below level-3 nodes.
const SECOND: u32 = DIRECT + 32 * FANOUT;
const THIRD: u32 = SECOND + 32 * FANOUT * FANOUT;

/// Ordinals below this are handed out: an owner with all of them still fits a row.
pub const CHILDREN_MAX: u32 = THIRD + 48 * FANOUT * FANOUT * FANOUT;

/// Bytes of an encoded path.
pub const PATH_BYTES: usize = 14;
/// The level that marks a BUCKET's INDEX child.
pub const INDEX_LEVEL: u8 = 255;

/// What kind of node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeKind {
    Root = 1,
    TenantDir = 2,
    Tenant = 3,
    BucketDir = 4,
    Bucket = 5,
    PageDir = 6,
    Page = 7,
    Index = 8,
    RunDir = 9,
    Run = 10,
    LeafDir = 11,
    Leaf = 12,
}

/// Kinds of the nodes that live and die with their bucket.
pub const BUCKET_KINDS: [NodeKind; 8] = [
    NodeKind::Bucket,
    NodeKind::PageDir,
    NodeKind::Page,
    NodeKind::Index,
    NodeKind::RunDir,
    NodeKind::Run,
    NodeKind::LeafDir,
    NodeKind::Leaf,
];

impl NodeKind {
    /// Whether a node of this kind is part of a bucket's index, which can be made anew from its records.
    pub fn is_index(self) -> bool {
        use NodeKind::*;
        matches!(self, Index | RunDir | Run | LeafDir | Leaf)
    }

    pub fn from_number(n: u8) -> Option<Self> {
        use NodeKind::*;
        [
            Root, TenantDir, Tenant, BucketDir, Bucket, PageDir, Page, Index, RunDir, Run, LeafDir,
            Leaf,
        ]
        .into_iter()
        .find(|k| *k as u8 == n)
    }

    /// The directory kind and the child kind of an owner or of one of its directory nodes.
    fn family(self) -> Option<(NodeKind, NodeKind, NodeKind)> {
        use NodeKind::*;
        match self {
            Root | TenantDir => Some((Root, TenantDir, Tenant)),
            Tenant | BucketDir => Some((Tenant, BucketDir, Bucket)),
            Bucket | PageDir => Some((Bucket, PageDir, Page)),
            Index | RunDir => Some((Index, RunDir, Run)),
            Run | LeafDir => Some((Run, LeafDir, Leaf)),
            Page | Leaf => None,
        }
    }
}

/// Names a node. Fields that a kind does not use are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path {
    pub kind: NodeKind,
    pub tenant: TenantOrd,
    pub bucket: BucketOrd,
    pub run: RunOrd,
    pub level: u8,
    pub ord: u32,
}

/// Of its bytes, which are another for each: one write instead of one for each part.
impl Hash for Path {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.bytes());
    }
}

/// Which entry of its parent a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChildKey {
    pub level: u8,
    pub ord: u32,
}

impl Path {
    pub const ROOT: Path = Path {
        kind: NodeKind::Root,
        tenant: TenantOrd::of(0),
        bucket: BucketOrd::of(0),
        run: RunOrd::of(0),
        level: 0,
        ord: 0,
    };

    pub fn tenant(tenant: TenantOrd) -> Self {
        Self { kind: NodeKind::Tenant, tenant, ..Self::ROOT }
    }

    pub fn bucket(tenant: TenantOrd, bucket: BucketOrd) -> Self {
        Self { kind: NodeKind::Bucket, tenant, bucket, ..Self::ROOT }
    }

    pub fn page(tenant: TenantOrd, bucket: BucketOrd, page: PageOrd) -> Self {
        Self { kind: NodeKind::Page, ord: page.value(), ..Self::bucket(tenant, bucket) }
    }

    pub fn page_of(kid: Kid) -> Self {
        Self::page(kid.tenant, kid.bucket, kid.page)
    }

    pub fn index(tenant: TenantOrd, bucket: BucketOrd) -> Self {
        Self { kind: NodeKind::Index, ..Self::bucket(tenant, bucket) }
    }

    pub fn run(tenant: TenantOrd, bucket: BucketOrd, run: RunOrd) -> Self {
        Self { kind: NodeKind::Run, run, ..Self::bucket(tenant, bucket) }
    }

    pub fn leaf(tenant: TenantOrd, bucket: BucketOrd, run: RunOrd, leaf: u32) -> Self {
        Self { kind: NodeKind::Leaf, ord: leaf, ..Self::run(tenant, bucket, run) }
    }

    pub fn bytes(&self) -> [u8; PATH_BYTES] {
        let [a, b, c] = self.tenant.bytes();
        let [d, e, f] = self.bucket.bytes();
        let [g, h, i] = self.run.bytes();
        let [_, j, k, l] = self.ord.to_be_bytes();
        [self.kind as u8, a, b, c, d, e, f, g, h, i, self.level, j, k, l]
    }

    pub fn from_bytes(bytes: [u8; PATH_BYTES]) -> Option<Self> {
        let [kind, a, b, c, d, e, f, g, h, i, level, j, k, l] = bytes;
        Some(Self {
            kind: NodeKind::from_number(kind)?,
            tenant: TenantOrd::from_bytes([a, b, c]),
            bucket: BucketOrd::from_bytes([d, e, f]),
            run: RunOrd::from_bytes([g, h, i]),
            level,
            ord: u32::from_be_bytes([0, j, k, l]),
        })
    }

    /// Key of the row that holds version `ver` of this node.
    pub fn row_key(&self, ver: u64) -> Vec<u8> {
        [b"k".as_slice(), &self.bytes(), &ver.to_be_bytes()].concat()
    }

    /// This node's ordinal among its parent's children of its level.
    fn ordinal(&self) -> u32 {
        match self.kind {
            NodeKind::Tenant => self.tenant.value(),
            NodeKind::Bucket => self.bucket.value(),
            NodeKind::Run => self.run.value(),
            _ => self.ord,
        }
    }

    /// The parent and this node's entry in it; `None` for the root.
    pub fn parent(&self) -> Option<(Path, ChildKey)> {
        let entry = ChildKey { level: self.level, ord: self.ordinal() };
        if self.kind == NodeKind::Index {
            let bucket = Self::bucket(self.tenant, self.bucket);
            return Some((bucket, ChildKey { level: INDEX_LEVEL, ord: 0 }));
        }
        let (owner, dir) = match self.kind {
            NodeKind::Root | NodeKind::Index => return None,
            NodeKind::TenantDir | NodeKind::Tenant => (Self::ROOT, NodeKind::TenantDir),
            NodeKind::BucketDir | NodeKind::Bucket => {
                (Self::tenant(self.tenant), NodeKind::BucketDir)
            }
            NodeKind::PageDir | NodeKind::Page => {
                (Self::bucket(self.tenant, self.bucket), NodeKind::PageDir)
            }
            NodeKind::RunDir | NodeKind::Run => {
                (Self::index(self.tenant, self.bucket), NodeKind::RunDir)
            }
            NodeKind::LeafDir | NodeKind::Leaf => {
                (Self::run(self.tenant, self.bucket, self.run), NodeKind::LeafDir)
            }
        };
        let parent = match cover(self.level, entry.ord) {
            None => owner,
            Some((level, ord)) => Path { kind: dir, level, ord, ..owner },
        };
        Some((parent, entry))
    }

    /// The child that an entry of this node names; `None` if this kind has no such child.
    pub fn child(&self, entry: ChildKey) -> Option<Path> {
        let (owner_kind, dir, kind) = self.kind.family()?;
        if entry.level == INDEX_LEVEL {
            let is_bucket = self.kind == NodeKind::Bucket && entry.ord == 0;
            return is_bucket.then(|| Self::index(self.tenant, self.bucket));
        }
        let base = Path { kind: owner_kind, level: 0, ord: 0, ..*self };
        if entry.level > 0 {
            return Some(Path { kind: dir, level: entry.level, ord: entry.ord, ..base });
        }
        Some(match kind {
            NodeKind::Tenant => Self::tenant(TenantOrd::new(entry.ord)?),
            NodeKind::Bucket => Self::bucket(self.tenant, BucketOrd::new(entry.ord)?),
            NodeKind::Run => Self::run(self.tenant, self.bucket, RunOrd::new(entry.ord)?),
            _ => Path { kind, ord: entry.ord, ..base },
        })
    }
}

/// The directory node (level, first ordinal) right above a child of `level` at `ord`; `None` = the owner itself.
fn cover(level: u8, ord: u32) -> Option<(u8, u32)> {
    let (start, top) = match ord {
        n if n < DIRECT => return None,
        n if n < SECOND => (DIRECT, 1),
        n if n < THIRD => (SECOND, 2),
        _ => (THIRD, 3),
    };
    if level >= top {
        return None;
    }
    let above = level + 1;
    let width = FANOUT.pow(u32::from(above));
    Some((above, start + (ord - start) / width * width))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_is_the_child_that_its_parent_says() {
        let (t, b, r) = (TenantOrd::of(70), BucketOrd::of(3000), RunOrd::of(65));
        for n in
            [0, 1, 63, 64, 127, 128, 2111, 2112, 6207, 6208, 133_183, 133_184, CHILDREN_MAX - 1]
        {
            for leaf in [
                Path::page(t, b, PageOrd::new(n).unwrap()),
                Path::leaf(t, b, r, n),
                Path::tenant(TenantOrd::new(n).unwrap()),
                Path::bucket(t, BucketOrd::new(n).unwrap()),
                Path::run(t, b, RunOrd::new(n).unwrap()),
            ] {
                let mut at = leaf;
                let mut steps = 0;
                while let Some((parent, entry)) = at.parent() {
                    assert_eq!(parent.child(entry), Some(at));
                    assert_eq!(Path::from_bytes(at.bytes()), Some(at));
                    at = parent;
                    steps += 1;
                    assert!(steps < 20);
                }
                assert_eq!(at, Path::ROOT);
            }
        }
    }

    #[test]
    fn directories_have_the_depth_and_alignment_of_the_format() {
        let b = |n| Path::page(TenantOrd::of(0), BucketOrd::of(0), PageOrd::new(n).unwrap());
        let up = |p: Path| p.parent().unwrap().0;
        assert_eq!(up(b(63)).kind, NodeKind::Bucket);
        assert_eq!((up(b(64)).level, up(b(64)).ord), (1, 64));
        assert_eq!((up(b(2111)).level, up(b(2111)).ord), (1, 2048));
        assert_eq!(up(up(b(2111))).kind, NodeKind::Bucket);
        assert_eq!((up(b(2113)).level, up(b(2113)).ord), (1, 2112));
        assert_eq!((up(up(b(6209))).level, up(up(b(6209))).ord), (2, 6208));
        assert_eq!(up(up(up(b(6209)))).kind, NodeKind::Bucket);
        assert_eq!((up(up(up(b(133_184)))).level, up(up(up(b(133_184)))).ord), (3, 133_184));
    }
}

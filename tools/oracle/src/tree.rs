//! Plaintexts of the key tree: the bodies of nodes (FORMAT section 4.3).
//!
//! Bodies are read leniently (an attacker takes what is there); what deviates from the format is
//! handed back as a warning, so that the same run also checks that the writer keeps to its page.

use crate::crypto::Key;
use crate::encoding::Cursor;
use crate::format::Kid;
use crate::path::{BUCKET, LEAF, PAGE, Path, ROOT, RUN, TENANT, kid, placed};

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
        out.warnings.push(format!("page says {slots} slots and has {}", deks.len()));
    }
    for (slot, dek) in (0u8..=255).zip(deks) {
        let bit = dead.get(usize::from(slot / 8)).is_some_and(|byte| byte >> (slot % 8) & 1 == 1);
        if bit != (*dek == [0; 32]) {
            out.warnings.push(format!("slot {slot}: dead bit {bit} does not fit the key"));
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
        if before.replace((token, kid)).is_some_and(|b| b > (token, kid)) {
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
        if before.replace((level, ord)).is_some_and(|b| b >= (level, ord)) {
            out.warnings.push("entries are not sorted".into());
        }
        if !placed(path, level, ord) {
            out.warnings.push(format!("entry (level {level}, ord {ord}) does not belong here"));
        }
        // A misplaced entry is still a key that an attacker has.
        out.children.extend(path.child(level, ord).map(|child| (child, ver, key)));
    }
    Some(c.0)
}

fn read_head(kind: u8, head: &[u8]) -> Option<Head> {
    let mut c = Cursor(head);
    let read = match kind {
        ROOT => Head::Root { signing_seed: c.array()? },
        TENANT => {
            let (k_meta, k_idx, pseudonym) = (c.array()?, c.array()?, c.array()?);
            c.take(3)?;
            Head::Tenant { k_meta, k_idx, pseudonym }
        }
        BUCKET => {
            let (type_, expire_day) = (c.u16()?, c.i32()?);
            c.take(6)?;
            Head::Bucket { type_, expire_day }
        }
        RUN => {
            let bits = c.u8()?;
            c.take(2)?;
            Head::Run { bits, entries: c.u32()? }
        }
        _ => Head::Empty,
    };
    c.0.is_empty().then_some(read)
}

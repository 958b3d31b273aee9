//! The erasure ledger: leaves, RFC 9162 tree hashes, and receipts (FORMAT section 7).

use crate::crypto::sha256;
use crate::encoding::{Cursor, hex, unbase64};
use crate::format::{Anchor, LEAF_LEN};
use crate::scan::Rows;
use ed25519_dalek::{Signature, VerifyingKey};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Combinations of competing leaves that are tried before giving up.
const COMBINATIONS_MAX: usize = 4_096;

/// Hash of a leaf, RFC 9162 section 2.1.1.
pub fn leaf_hash(leaf: &[u8]) -> [u8; 32] {
    sha256(&[&[0], leaf])
}

fn node_hash(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    sha256(&[&[1], left, right])
}

/// Tree hash over leaf hashes, RFC 9162 section 2.1.1.
pub fn tree_hash(leaves: &[[u8; 32]]) -> [u8; 32] {
    match leaves {
        [] => sha256(&[]),
        [only] => *only,
        _ => {
            // The largest power of two below the number of leaves.
            let half = 1usize << (leaves.len() - 1).ilog2();
            let (left, right) = leaves.split_at(half);
            node_hash(&tree_hash(left), &tree_hash(right))
        }
    }
}

/// Root from the perfect subtrees of a frontier, largest first.
pub fn frontier_root(subtrees: &[[u8; 32]]) -> [u8; 32] {
    let mut from_right = subtrees.iter().rev();
    let Some(last) = from_right.next() else {
        return sha256(&[]);
    };
    from_right.fold(*last, |right, left| node_hash(left, &right))
}

/// The numbers of a leaf that the checks need.
struct LeafHead {
    seq: u64,
    gen_: u64,
    new_rows: [u8; 32],
}

fn leaf_head(leaf: &[u8]) -> Option<LeafHead> {
    let mut c = Cursor(leaf);
    c.take(8)?;
    let (seq, gen_) = (c.u64()?, c.u64()?);
    c.take(4 + 16 + 32 + 10 + 32 + 8 + 8 + 4 + 32)?;
    Some(LeafHead { seq, gen_, new_rows: c.array()? })
}

/// A leaf as JSON.
pub fn leaf_json(leaf: &[u8]) -> Option<Value> {
    let mut c = Cursor(leaf);
    c.take(4).filter(|m| *m == b"LTL1")?;
    let (kind, reason, level, medium) = (c.u8()?, c.u8()?, c.u8()?, c.u8()?);
    let kinds = ["", "record_version", "level", "rotation", "bucket", "rekey"];
    let value = json!({
        "kind": kind,
        "kind_name": kinds.get(usize::from(kind)).copied().unwrap_or_default(),
        "reason": reason,
        "level": level,
        "medium": medium,
        "seq": c.u64()?,
        "gen": c.u64()?,
        "index": c.u32()?,
        "pseudonym": hex(c.take(16)?),
        "unit": hex(c.take(32)?),
        "kid": hex(c.take(10)?),
        "request": hex(c.take(32)?),
        "requested": c.i64()?,
        "removed": c.i64()?,
        "count": c.u32()?,
        "old_rows": hex(c.take(32)?),
        "new_rows": hex(c.take(32)?),
        "reserved_zero": c.take(6)?.iter().all(|b| *b == 0),
    });
    c.0.is_empty().then_some(value)
}

/// Checks what `anchor` says about the ledger against the leaves that were found.
pub fn check(rows: &Rows, anchor: &Anchor) -> Value {
    let mut by_seq: BTreeMap<u64, Vec<&[u8]>> = BTreeMap::new();
    for leaf in &rows.leaves {
        if let Some(head) = leaf_head(leaf).filter(|h| h.seq < anchor.ledger_size) {
            by_seq.entry(head.seq).or_default().push(leaf);
        }
    }
    let missing: Vec<u64> =
        (0..anchor.ledger_size).filter(|s| !by_seq.contains_key(s)).take(16).collect();
    let chosen = if missing.is_empty() { choose(&by_seq, &anchor.ledger_root) } else { None };
    let batch = chosen.as_ref().and_then(|leaves| batch_matches(leaves, anchor));
    let frontier = rows.frontiers.iter().any(|f| frontier_matches(f, anchor));
    json!({
        "gen": anchor.gen_,
        "refresh": anchor.refresh,
        "slot": anchor.slot,
        "ledger_size": anchor.ledger_size,
        "ledger_root": hex(&anchor.ledger_root),
        "ok": chosen.is_some(),
        "missing_leaves": missing,
        "competing_leaves": by_seq.values().filter(|v| v.len() > 1).count(),
        "frontier_found": frontier,
        "batch_hash_ok": batch,
        "leaves": chosen.unwrap_or_default().into_iter().filter_map(leaf_json).collect::<Vec<_>>(),
    })
}

/// The leaves that give `root`. A batch that was never committed may leave a second leaf with the same
/// number, so every combination counts, up to a bound; leaves that were written last are tried first.
fn choose<'a>(by_seq: &BTreeMap<u64, Vec<&'a [u8]>>, root: &[u8; 32]) -> Option<Vec<&'a [u8]>> {
    let total =
        by_seq.values().try_fold(1usize, |n, v| n.checked_mul(v.len())).unwrap_or(usize::MAX);
    for combination in 0..total.min(COMBINATIONS_MAX) {
        let mut left = combination;
        let pick = |v: &Vec<&'a [u8]>| {
            let from_end = left % v.len().max(1);
            left /= v.len().max(1);
            v.iter().rev().nth(from_end).copied()
        };
        let leaves: Vec<&[u8]> = by_seq.values().filter_map(pick).collect();
        let hashes: Vec<[u8; 32]> = leaves.iter().map(|l| leaf_hash(l)).collect();
        if tree_hash(&hashes) == *root {
            return Some(leaves);
        }
    }
    None
}

/// Whether `batch_hash` follows from a leaf of the anchor's generation; `None` if it has no leaf.
fn batch_matches(leaves: &[&[u8]], anchor: &Anchor) -> Option<bool> {
    let own = leaves.iter().filter_map(|l| leaf_head(l)).filter(|h| h.gen_ == anchor.gen_);
    let expected = |new_rows: &[u8; 32]| {
        sha256(&[b"VH1", &anchor.gen_.to_be_bytes(), new_rows, &anchor.ledger_root])
    };
    let matches: Vec<bool> = own.map(|h| expected(&h.new_rows) == anchor.batch_hash).collect();
    (!matches.is_empty()).then(|| matches.contains(&true))
}

fn frontier_matches(row: &[u8], anchor: &Anchor) -> bool {
    let mut c = Cursor(row);
    let (Some(_), Some(size), Some(n)) = (c.take(4), c.u64(), c.u8()) else {
        return false;
    };
    let (subtrees, _) = c.0.as_chunks::<32>();
    let n_fits = subtrees.len() == usize::from(n) && size.count_ones() == u32::from(n);
    size == anchor.ledger_size && n_fits && frontier_root(subtrees) == anchor.ledger_root
}

/// Verifies every receipt in `document`: an object with `signed_bytes` and `signature`, at any depth.
pub fn receipts(document: &Value, key: &[u8; 32]) -> Vec<Value> {
    let mut out = Vec::new();
    walk(document, key, &mut out, 0);
    out
}

fn walk(value: &Value, key: &[u8; 32], out: &mut Vec<Value>, depth: u32) {
    let text = |names: [&str; 2]| names.iter().find_map(|n| value.get(n)).and_then(Value::as_str);
    if let (Some(signed), Some(signature)) =
        (text(["signed_bytes", "signedBytes"]), text(["signature"; 2]))
    {
        out.push(receipt(signed, signature, key));
    } else if depth < 16 {
        match value {
            Value::Array(list) => list.iter().for_each(|v| walk(v, key, out, depth + 1)),
            Value::Object(map) => map.values().for_each(|v| walk(v, key, out, depth + 1)),
            _ => {}
        }
    }
}

fn receipt(signed: &str, signature: &str, key: &[u8; 32]) -> Value {
    let fail = |why: &str| json!({"ok": false, "error": why});
    let Some(signed) = unbase64(signed) else {
        return fail("signed_bytes is not base64");
    };
    let Some(signature) = unbase64(signature).and_then(|s| Signature::from_slice(&s).ok()) else {
        return fail("signature is not 64 bytes of base64");
    };
    let Ok(verifier) = VerifyingKey::from_bytes(key) else {
        return fail("key is not an Ed25519 key");
    };
    if verifier.verify_strict(&signed, &signature).is_err() {
        return fail("signature does not verify");
    }
    let decoded = decode_receipt(&signed);
    decoded.unwrap_or_else(|| fail("signed bytes are not a receipt"))
}

fn decode_receipt(signed: &[u8]) -> Option<Value> {
    let mut c = Cursor(signed);
    c.take(3).filter(|l| *l == b"VE1")?;
    let vault = hex(c.take(16)?);
    let leaf = c.take(LEAF_LEN)?;
    let (level, medium, scrubbed) = (c.u8()?, c.u8()?, c.i64()?);
    let leaf_hash = hex(&leaf_hash(leaf));
    c.0.is_empty().then_some(())?;
    Some(json!({
        "ok": true, "vault": vault, "level": level, "medium": medium, "scrubbed": scrubbed,
        "leaf_hash": leaf_hash, "leaf": leaf_json(leaf)?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::unhex;

    /// The leaves and roots of the Certificate Transparency reference tests, which RFC 9162 keeps.
    #[test]
    fn tree_hashes() {
        let leaves = [
            "",
            "00",
            "10",
            "2021",
            "3031",
            "40414243",
            "5051525354555657",
            "606162636465666768696a6b6c6d6e6f",
        ];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let hashes: Vec<[u8; 32]> = leaves.iter().map(|l| leaf_hash(&unhex(l).unwrap())).collect();
        for (n, root) in (1..).zip(roots) {
            assert_eq!(hex(&tree_hash(&hashes[..n])), root, "{n} leaves");
        }
        assert_eq!(
            hex(&tree_hash(&[])),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        let frontier = [tree_hash(&hashes[..4]), tree_hash(&hashes[4..6]), hashes[6]];
        assert_eq!(frontier_root(&frontier), tree_hash(&hashes[..7]));
    }
}

//! Row kinds (docs/FORMAT.md §3): the one list of key prefixes, and which of them the node journal keeps.

use crate::crypto::Digest32;
use crate::store::sum::with_sum;

/// Every kind of row that the vault writes, with the key or event it dies with. A test refuses any other prefix.
pub const ROW_KINDS: [(u8, &str); 25] = [
    (b'v', "vault header: no secret, no personal data"),
    (b'k', "sealed node: its node key"),
    (b'r', "sealed record version: its DEK"),
    (b'u', "pointer: removed at erasure; random ids only"),
    (b'm', "sealed metadata: K_meta of the tenant"),
    (b'q', "erasure intent: removed at erasure; random ids only"),
    (b'p', "request id: random ids; its fingerprint dies with the version's DEK"),
    (b't', "tombstone: random ids and numbers only"),
    (b'l', "ledger leaf: hashes, enums and numbers only"),
    (b'h', "ledger frontier: hashes only"),
    (b'g', "level reached: numbers only"),
    (
        b'a',
        "audit entries: hashes, enums, numbers, and random pseudonyms that die with what they stand for",
    ),
    (b'f', "audit frontier: hashes only"),
    (b'y', "which entries name a subject: bytes of its pseudonym, which dies with it, and numbers"),
    (b'z', "what stays of pruned audit entries: hashes of blocks, and a number"),
    (b'j', "length of the audit log on a day: numbers only"),
    (b'c', "cosignature of a checkpoint: hashes, numbers and public keys only"),
    (b'n', "sealed name of a principal: no customer's data"),
    (b'w', "what a repair gave up of the audit log: a number and a hash"),
    (b'b', "what a batch leaves to do: removed when done"),
    (b'd', "mark of the vault's own count of time: numbers only"),
    (b'x', "what went with a bucket: random ids, numbers and hashes only"),
    (
        b'o',
        "erasure that a legal hold postpones, or record bound to a hold: random ids and numbers only",
    ),
    (b'e', "who asked for leaves of the ledger: numbers and a hash only"),
    (b's', "the store's commit sequence: a number"),
];

/// Key of the row by which a repair says that it could not save the audit log that the anchor has seen.
pub const LOG_WAIVER: &[u8] = b"w";

/// That row: which log was given up.
pub fn log_waiver((size, head): (u64, Digest32)) -> Vec<u8> {
    with_sum([b"LTW1".as_slice(), &size.to_be_bytes(), &head].concat())
}

/// Key of the vault header.
pub const VAULT_HEADER: &[u8] = b"v";

/// Whether the node journal keeps this row too.
pub fn journaled(key: &[u8]) -> bool {
    matches!(key.first(), Some(b'v' | b'k' | b'm'))
}

/// The least key above every key that starts with `prefix`.
pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_right_above_it() {
        assert_eq!(prefix_end(b"k\x01"), b"k\x02");
        assert_eq!(prefix_end(b"k\xff\xff"), b"l");
    }
}

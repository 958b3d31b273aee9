//! Every label and every AAD layout (docs/FORMAT.md), in one place. All are fixed-width or length-prefixed by position.

use crate::id::{VaultId, joined};

/// HKDF info of a KEK's id.
pub const KEK_ID: &[u8] = b"lethe/v1/kek-id";
/// HKDF info of an anchor slot's key.
pub const ANCHOR: &[u8] = b"lethe/v1/anchor";
/// HKDF info of the key of a record's chunks after the first.
pub const CHUNK: &[u8] = b"lethe/v1/chunk";

/// HKDF info of the key of a request's fingerprint.
pub const FINGERPRINT: &[u8] = b"lethe/v1/request";

/// HKDF info of the key of principals' names.
pub const NAMES: &[u8] = b"lethe/v1/names";

/// HKDF info of the key that salts the ids in a bucket's list.
pub const SALTS: &[u8] = b"lethe/v1/salts";

/// First bytes of a record's leaf in the list of what went with its bucket.
pub const WENT: &[u8] = b"VX1";
/// First bytes of the hash that stands for a principal, and for a purpose.
pub const PRINCIPAL: &[u8] = b"VP1";
pub const PURPOSE: &[u8] = b"VO1";
/// First bytes of what the vault signs of its audit log's head.
pub const AUDIT_HEAD: &[u8] = b"VD1";
/// First bytes of an index token's input.
pub const INDEX_TOKEN: &[u8] = b"VI1";
/// First bytes of a record version's hash in the ledger.
pub const UNIT: &[u8] = b"VU1";
/// First bytes of a bucket's hash in the ledger.
pub const BUCKET: &[u8] = b"VB1";
/// First bytes of a request id's hash in the ledger.
pub const REQUEST: &[u8] = b"VQ1";
/// First bytes of a batch hash.
pub const BATCH: &[u8] = b"VH1";
/// First bytes of a receipt.
pub const RECEIPT: &[u8] = b"VE1";
/// First bytes of what the vault signs of a certificate of destruction.
pub const CERTIFICATE: &[u8] = b"VC1";

/// AAD of a row whose header is bound whole: `label | vault | header`.
fn header_aad(label: &[u8; 3], vault: VaultId, header: &[u8]) -> Vec<u8> {
    [label.as_slice(), &vault.0, header].concat()
}

/// AAD of a node row (§4.2).
pub fn node_aad(vault: VaultId, header: &[u8]) -> Vec<u8> {
    header_aad(b"VN1", vault, header)
}

/// AAD of a record row (§5).
pub fn record_aad(vault: VaultId, header: &[u8; 52]) -> [u8; 71] {
    joined(&[b"VR1", &vault.0, header])
}

/// AAD of a metadata row (§6).
pub fn meta_aad(vault: VaultId, header: &[u8]) -> Vec<u8> {
    header_aad(b"VM1", vault, header)
}

/// AAD of a principal's name (§9.3).
pub fn name_aad(vault: VaultId, key: &[u8]) -> Vec<u8> {
    header_aad(b"VK1", vault, key)
}

/// AAD of an anchor slot (§2).
pub fn anchor_aad(vault: VaultId, slot: u8, fmt: u16, kek_id: &[u8; 16]) -> Vec<u8> {
    [b"VA1".as_slice(), &vault.0, &[slot], &fmt.to_be_bytes(), kek_id].concat()
}

//! Compiles the protobuf files with protox, so that nobody needs protoc.

use std::error::Error;

const FILES: [&str; 11] = [
    "lethe/v1/certificate.proto",
    "lethe/v1/erasure.proto",
    "lethe/v1/tenant.proto",
    "lethe/v1/schema.proto",
    "lethe/v1/subject.proto",
    "lethe/v1/record.proto",
    "lethe/v1/retention.proto",
    "lethe/v1/hold.proto",
    "lethe/admin/v1/audit.proto",
    "lethe/admin/v1/log.proto",
    "lethe/admin/v1/vault.proto",
];

/// Messages that carry personal data: their `Debug` is written by hand and prints nothing.
const PERSONAL: [&str; 21] = [
    ".lethe.v1.Value",
    ".lethe.v1.Record",
    ".lethe.v1.CreateRecordRequest",
    ".lethe.v1.CreateRecordResponse",
    ".lethe.v1.GetRecordResponse",
    ".lethe.v1.UpdateRecordRequest",
    ".lethe.v1.UpdateRecordResponse",
    ".lethe.v1.ListRecordsResponse",
    ".lethe.v1.FindRecordsRequest",
    ".lethe.v1.FindRecordsResponse",
    ".lethe.v1.Subject",
    ".lethe.v1.CreateSubjectResponse",
    ".lethe.v1.GetSubjectResponse",
    ".lethe.v1.Value.kind",
    ".lethe.v1.HoldQuery",
    ".lethe.v1.Hold",
    ".lethe.v1.Hold.scope",
    ".lethe.v1.PlaceHoldRequest",
    ".lethe.v1.PlaceHoldResponse",
    ".lethe.v1.GetHoldResponse",
    ".lethe.v1.ListHoldsResponse",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    // Maps in the order of their keys: one answer is the same bytes each time, and nothing is hashed to make it.
    tonic_prost_build::configure().skip_debug(PERSONAL).btree_map(".").compile_fds(descriptors)?;
    Ok(())
}

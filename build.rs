//! Compiles the protobuf files with protox, so that nobody needs protoc.

use std::error::Error;
use std::path::PathBuf;

use prost_types::{DescriptorProto, FileDescriptorSet};

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

/// A record in an answer. The daemon encodes it from the version that it opened, without a message in between.
const RECORD: &str = ".lethe.v1.Record";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let served = PathBuf::from(std::env::var("OUT_DIR")?).join("served");
    std::fs::create_dir_all(&served)?;
    serve_encoded(descriptors.clone(), served)?;
    // Maps in the order of their keys: one answer is the same bytes each time, and nothing is hashed to make it.
    tonic_prost_build::configure().skip_debug(PERSONAL).btree_map(".").compile_fds(descriptors)?;
    Ok(())
}

/// The record service once more, as the daemon serves it: its answers have records that are encoded already, and its
/// requests are the messages that everybody uses.
fn serve_encoded(mut descriptors: FileDescriptorSet, to: PathBuf) -> Result<(), Box<dyn Error>> {
    let mut config = tonic_prost_build::configure()
        .out_dir(to)
        .build_client(false)
        .codec_path("crate::rpc::codec::AnswerCodec")
        .extern_path(RECORD, "crate::rpc::shown::Shown");
    for file in &mut descriptors.file {
        file.service.retain(|service| service.name() == "RecordService");
        if !file.package().starts_with("lethe.") {
            continue;
        }
        let path =
            format!("crate::proto::{}", file.package().replace("lethe.", "").replace('.', "::"));
        let of_package =
            |name: &str| (format!(".{}.{name}", file.package()), format!("{path}::{name}"));
        let has_record = |m: &&DescriptorProto| m.field.iter().any(|f| f.type_name() == RECORD);
        for message in &file.message_type {
            let answer = has_record(&message) && message.name().ends_with("Response");
            let (proto, rust) = of_package(message.name());
            if !answer && proto != RECORD {
                config = config.extern_path(proto, rust);
            }
        }
        for (proto, rust) in file.enum_type.iter().map(|e| of_package(e.name())) {
            config = config.extern_path(proto, rust);
        }
    }
    Ok(config.compile_fds(descriptors)?)
}

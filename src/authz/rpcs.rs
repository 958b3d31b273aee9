//! Which action each RPC asks for.
//!
//! Guarantees: an RPC that is not in [`RPCS`] is not served. A test compares the table with the protobuf files, so that
//! a method without an entry, or an entry without a method, fails the build.

use super::Action;

/// `/package.Service/Method` and its action, sorted by path. Health is `Check` only: `Watch` would be a call without an
/// end, and the health protocol has clients go on without it where it is not served.
pub const RPCS: &[(&str, Action)] = &[
    ("/grpc.health.v1.Health/Check", Action::Health),
    ("/lethe.admin.v1.AuditService/ExportAuditEntries", Action::ExportAudit),
    ("/lethe.admin.v1.AuditService/GetAuditHead", Action::ExportAudit),
    ("/lethe.admin.v1.AuditService/ListAuditEntries", Action::ReadAudit),
    ("/lethe.admin.v1.AuditService/ListSubjectAuditEntries", Action::ReadAudit),
    ("/lethe.admin.v1.AuditService/TailAuditEntries", Action::ReadAudit),
    ("/lethe.admin.v1.LogService/AddCosignature", Action::CosignLog),
    // Of the audit log they ask for ReadAudit in its place, on the vault and on each of its tenants.
    ("/lethe.admin.v1.LogService/GetCheckpoint", Action::ReadLedger),
    ("/lethe.admin.v1.LogService/GetConsistencyProof", Action::ReadLedger),
    ("/lethe.admin.v1.LogService/GetInclusionProof", Action::ReadLedger),
    ("/lethe.admin.v1.LogService/GetTiles", Action::ReadLedger),
    ("/lethe.admin.v1.VaultService/EraseBucket", Action::EraseBucket),
    ("/lethe.admin.v1.VaultService/GetKeyStatus", Action::ReadKeyStatus),
    ("/lethe.admin.v1.VaultService/GetMetrics", Action::ReadMetrics),
    ("/lethe.admin.v1.VaultService/GetStatus", Action::ReadStatus),
    ("/lethe.admin.v1.VaultService/ListBuckets", Action::ReadBuckets),
    ("/lethe.admin.v1.VaultService/RotateKey", Action::RotateKey),
    ("/lethe.v1.CertificateService/GetCertificate", Action::ReadCertificate),
    ("/lethe.v1.CertificateService/ListCertificates", Action::ReadCertificate),
    ("/lethe.v1.HoldService/GetHold", Action::ReadHolds),
    ("/lethe.v1.HoldService/ListHolds", Action::ReadHolds),
    ("/lethe.v1.HoldService/ListPostponedErasures", Action::ReadHolds),
    ("/lethe.v1.HoldService/PlaceHold", Action::ManageHolds),
    ("/lethe.v1.HoldService/ReleaseHold", Action::ManageHolds),
    ("/lethe.v1.RecordService/BatchCreateRecords", Action::CreateRecord),
    ("/lethe.v1.RecordService/BatchEraseRecords", Action::EraseRecord),
    ("/lethe.v1.RecordService/BatchGetRecords", Action::ReadRecord),
    ("/lethe.v1.RecordService/CreateRecord", Action::CreateRecord),
    ("/lethe.v1.RecordService/EraseRecord", Action::EraseRecord),
    ("/lethe.v1.RecordService/ExportRecords", Action::ExportRecords),
    ("/lethe.v1.RecordService/FindRecords", Action::ReadRecord),
    ("/lethe.v1.RecordService/GetRecord", Action::ReadRecord),
    ("/lethe.v1.RecordService/ImportRecords", Action::CreateRecord),
    ("/lethe.v1.RecordService/ListRecords", Action::ReadRecord),
    ("/lethe.v1.RecordService/UpdateRecord", Action::UpdateRecord),
    ("/lethe.v1.RecordService/WatchRecords", Action::WatchRecords),
    ("/lethe.v1.RetentionService/ConfirmClock", Action::RunRetention),
    ("/lethe.v1.RetentionService/CreateRetentionPolicy", Action::ManageRetention),
    ("/lethe.v1.RetentionService/DeleteRetentionPolicy", Action::ManageRetention),
    ("/lethe.v1.RetentionService/ExplainRetention", Action::ReadRecord),
    ("/lethe.v1.RetentionService/GetRetentionPolicy", Action::ReadRetention),
    ("/lethe.v1.RetentionService/GetRetentionStatus", Action::ReadStatus),
    ("/lethe.v1.RetentionService/ListRetentionPolicies", Action::ReadRetention),
    ("/lethe.v1.RetentionService/PauseRebucketing", Action::ManageRetention),
    ("/lethe.v1.RetentionService/PreviewRetention", Action::ReadRetention),
    ("/lethe.v1.RetentionService/ResumeRebucketing", Action::ManageRetention),
    ("/lethe.v1.RetentionService/RunRetention", Action::RunRetention),
    ("/lethe.v1.RetentionService/UpdateRetentionPolicy", Action::ManageRetention),
    ("/lethe.v1.SchemaService/CreateSchema", Action::WriteSchema),
    ("/lethe.v1.SchemaService/GetSchema", Action::ReadSchema),
    ("/lethe.v1.SchemaService/ListSchemas", Action::ReadSchema),
    ("/lethe.v1.SchemaService/UpdateSchema", Action::WriteSchema),
    ("/lethe.v1.SubjectService/CreateSubject", Action::CreateSubject),
    ("/lethe.v1.SubjectService/EraseSubject", Action::EraseSubject),
    ("/lethe.v1.SubjectService/GetSubject", Action::ReadSubject),
    ("/lethe.v1.TenantService/CreateTenant", Action::CreateTenant),
    ("/lethe.v1.TenantService/GetTenant", Action::ReadTenants),
    ("/lethe.v1.TenantService/ListTenants", Action::ReadTenants),
    ("/lethe.v1.TenantService/UpdateTenant", Action::UpdateTenant),
];

/// A request path as the table has it; `None`: not served.
pub fn listed(path: &str) -> Option<&'static str> {
    let at = RPCS.binary_search_by(|(rpc, _)| (*rpc).cmp(path)).ok()?;
    RPCS.get(at).map(|(rpc, _)| *rpc)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    fn proto_files(dir: &Path, into: &mut Vec<String>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                proto_files(&path, into);
            } else if path.extension().is_some_and(|e| e == "proto") {
                into.push(std::fs::read_to_string(path).unwrap());
            }
        }
    }

    /// Paths of the `rpc` lines of a file. One `rpc` a line is what the files' formatter makes of them.
    fn methods(text: &str) -> Vec<String> {
        let (mut package, mut service, mut found) = ("", "", Vec::new());
        for line in text.lines().map(str::trim) {
            let name = |rest: &'static str| {
                line.strip_prefix(rest)
                    .map(|s| s.split([' ', ';', '(', '{']).next().unwrap_or_default())
            };
            package = name("package ").unwrap_or(package);
            service = name("service ").unwrap_or(service);
            found.extend(name("rpc ").map(|rpc| format!("/{package}.{service}/{rpc}")));
        }
        assert_eq!(found.len(), text.matches(") returns (").count(), "an rpc was overlooked");
        found
    }

    #[test]
    fn the_table_and_the_protobuf_files_name_the_same_methods() {
        let mut files = Vec::new();
        proto_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("proto"), &mut files);
        let served: BTreeSet<_> = files.iter().flat_map(|text| methods(text)).collect();
        assert!(served.contains("/lethe.v1.RecordService/GetRecord"), "{served:?}");
        let own = |(path, _): &&(&str, Action)| !path.starts_with("/grpc.");
        let listed: BTreeSet<_> = RPCS.iter().filter(own).map(|(p, _)| p.to_string()).collect();
        assert_eq!(served, listed);
    }

    #[test]
    fn the_table_is_sorted_and_every_path_in_it_is_found() {
        assert!(RPCS.windows(2).all(|pair| pair[0].0 < pair[1].0));
        for (path, _) in RPCS {
            assert_eq!(listed(path), Some(*path));
        }
        let absent =
            ["", "/", "/grpc.health.v1.Health/Watch", "/lethe.v1.RecordService/GetRecord/"];
        assert!(absent.iter().all(|path| listed(path).is_none()));
    }

    #[test]
    fn only_health_is_open_to_all() {
        let open = |(_, action): &&(&str, Action)| *action == Action::Health;
        let open: Vec<_> = RPCS.iter().filter(open).map(|(path, _)| *path).collect();
        assert_eq!(open, ["/grpc.health.v1.Health/Check"]);
    }
}

//! What tidy holds the sources to: layers, homes of outside crates, and who touches the file system.

/// Modules and their layers; the table in src/lib.rs and docs/DESIGN.md says the same.
pub const LAYERS: &[(&str, u8)] = &[
    ("id", 0),
    ("class", 0),
    ("clock", 0),
    ("limits", 0),
    ("metrics", 0),
    ("os", 0),
    ("toml_fault", 0),
    ("crypto", 1),
    ("store", 1),
    ("keys", 2),
    ("authz", 2),
    ("vault", 3),
    ("proto", 4),
    ("rpc", 5),
    ("client", 5),
    ("pki", 5),
    ("server", 6),
    ("ctl", 6),
    ("bin", 7),
];

/// Outside crates that have a home, and where that is.
pub const HOMES: &[(&str, &[&str])] = &[
    ("ring", &["src/crypto/"]),
    ("sled", &["src/store/sled_engine.rs"]),
    ("redb", &["src/store/redb_engine.rs"]),
    ("prost", &["src/proto.rs", "src/rpc/", "src/client/", "src/server/", "src/ctl/"]),
    ("prost_types", &["src/proto.rs", "src/rpc/", "src/client/", "src/server/", "src/ctl/"]),
    ("tonic", &["src/proto.rs", "src/rpc/", "src/client/", "src/server/", "src/ctl/"]),
    ("tonic_types", &["src/rpc/", "src/client/", "src/server/", "src/ctl/"]),
    ("rustls", &["src/client/", "src/pki/", "src/server/"]),
    ("rcgen", &["src/pki/", "src/client/"]),
    ("x509_parser", &["src/pki/", "src/server/"]),
    ("cedar_policy", &["src/authz/policy/"]),
    ("miette", &["src/authz/policy/"]),
    ("clap", &["src/server/", "src/ctl/", "src/bin/"]),
    ("jiff", &["src/vault/calendar.rs", "src/ctl/receipt.rs"]),
    (
        "rustix",
        &[
            "src/os.rs",
            "src/keys/file_anchor.rs",
            "src/keys/kek.rs",
            "src/store/guard.rs",
            "src/vault/open.rs",
            "src/vault/repair.rs",
            "src/server/accept.rs",
            "src/server/dev.rs",
            "src/server/process.rs",
        ],
    ),
];

/// The files that touch the file system.
pub const FILE_USERS: &[&str] = &[
    "src/os.rs",
    "src/client/config.rs",
    "src/ctl/files.rs",
    "src/ctl/import.rs",
    "src/ctl/import_stream.rs",
    "src/keys/file_anchor.rs",
    "src/keys/kek.rs",
    "src/pki/files.rs",
    "src/server/accept.rs",
    "src/server/config.rs",
    "src/server/dev.rs",
    "src/server/material.rs",
    "src/server/rights.rs",
    "src/store/durable.rs",
    "src/store/guard.rs",
    "src/store/journal.rs",
    "src/store/sled_engine.rs",
    "src/vault/open.rs",
    "src/vault/repair.rs",
];
